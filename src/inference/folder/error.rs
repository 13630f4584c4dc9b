//! Why a version of a model cannot be used.

use super::super::ModelError;
use std::{io, path::PathBuf};

/// Why a version cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read or written.
    #[error("{doing} {}: {error}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The manifest is invalid.
    #[error("read {}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The files do not match the manifest.
    #[error(
        "read {}: expected the SHA-256 {expected}, found {found}; copy the file again, and then the manifest",
        path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// The hash in the manifest.
        expected: String,
        /// The hash of the files.
        found: String,
    },
    /// The model's files cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Invalid version name.
    #[error(
        "{}: the version {version:?} cannot be used as a folder name: {reason}; choose a name with --version",
        path.display()
    )]
    Name {
        /// The folder.
        path: PathBuf,
        /// The version.
        version: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The version does not exist.
    #[error("{}: expected {what}, found {found}", path.display())]
    Version {
        /// The folder.
        path: PathBuf,
        /// What was expected.
        what: String,
        /// What exists.
        found: String,
    },
}
