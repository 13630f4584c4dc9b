//! The formats of files of rows.

use super::TrainError;
use std::path::Path;

/// The format of a file, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    Csv,
    Gzip,
    Parquet,
}

impl FileFormat {
    pub(super) fn of(path: &Path) -> Result<Self, TrainError> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let mut endings = name.rsplit('.');
        match (endings.next(), endings.next()) {
            (Some("csv"), Some(_)) => Ok(Self::Csv),
            (Some("gz"), Some("csv")) => Ok(Self::Gzip),
            (Some("parquet"), Some(_)) => Ok(Self::Parquet),
            _ => Err(TrainError::Extension { path: path.to_path_buf() }),
        }
    }
}
