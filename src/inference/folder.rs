//! The folder of a model's versions: `<folder>/<version>/manifest.json` beside the ONNX file, and `<folder>/active`.
//!
//! Guarantees: a version is there once its manifest is, which is written last and renamed into place; what the manifest says
//! of the file is checked against the file's bytes. `active` names the version that serves, with those before it below, so
//! that going back is one step; without it the newest version serves. Versions are ordered by their numbers, then by their
//! letters: 9 comes before 10. Limits: 10 versions of history.

use super::{Calibration, ModelSpec};
use crate::partial::PartialFile;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    cmp::Ordering,
    fs, io,
    path::{Path, PathBuf},
};

/// The manifest's name.
const MANIFEST: &str = "manifest.json";
/// The name of the file that says which version serves.
const ACTIVE: &str = "active";
/// How many versions `active` remembers.
const HISTORY: usize = 10;

/// What is known of a version.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// The ONNX file, in the version's folder.
    pub file: PathBuf,
    /// The SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
    /// The features in the order of its input; from the file's metadata where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// The fingerprint of the features that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// What turns its scores into probabilities; from the file's metadata where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// How it did at its training, for people.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub metrics: serde_json::Value,
    /// Rows and their scores, which the version must give again before it serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
}

/// Rows and what they score.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The rows, in the order of the features; null is a missing value.
    pub rows: Vec<Vec<Option<f32>>>,
    /// The raw main score of each.
    pub scores: Vec<f32>,
}

/// The lengths and the times of a version's files.
pub(super) type Stamp = Vec<(u64, Option<std::time::SystemTime>)>;

/// Why a version cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read or written.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest is not as it should be.
    #[error("read {}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The model's file is not the one that the manifest speaks of.
    #[error(
        "read {}: expected the SHA-256 {expected}, found {found}; copy the file again, and the manifest after it",
        path.display()
    )]
    Hash {
        /// The file.
        path: PathBuf,
        /// What the manifest says.
        expected: String,
        /// What the file's bytes give.
        found: String,
    },
    /// There is no such version.
    #[error("{}: expected {what}, found the versions {found}", path.display())]
    Version {
        /// The folder.
        path: PathBuf,
        /// What was looked for.
        what: String,
        /// The versions that there are.
        found: String,
    },
}

/// The folder of a model's versions.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
}

impl ModelFolder {
    /// The folder at this path, which need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The versions that have a manifest, oldest first.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn versions(&self) -> Result<Vec<String>, FolderError> {
        let failed = |source| FolderError::File { doing: "read the model folder", path: self.path.clone(), source };
        let mut versions = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.path().join(MANIFEST).is_file() {
                versions.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        versions.sort_by(|a, b| natural(a, b));
        Ok(versions)
    }

    /// The version that serves: the one that was activated last, or the newest.
    ///
    /// # Errors
    /// The folder cannot be read, or holds no version.
    pub fn active(&self) -> Result<String, FolderError> {
        let versions = self.versions()?;
        let active = self.history()?.into_iter().next().or_else(|| versions.last().cloned());
        active.ok_or_else(|| self.lacks("a version with a manifest", &versions))
    }

    /// Whether a version was activated by name, so that newer ones wait.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn is_pinned(&self) -> Result<bool, FolderError> {
        Ok(!self.history()?.is_empty())
    }

    /// Has this version serve.
    ///
    /// # Errors
    /// There is no such version, or the folder cannot be written.
    pub fn activate(&self, version: &str) -> Result<(), FolderError> {
        let versions = self.versions()?;
        if !versions.iter().any(|known| known == version) {
            return Err(self.lacks(&format!("version {version:?}"), &versions));
        }
        let mut history = self.history()?;
        if history.is_empty() {
            history.extend(versions.last().cloned());
        }
        if history.first().is_none_or(|first| first != version) {
            history.insert(0, version.to_owned());
        }
        history.truncate(HISTORY);
        self.remember(&history)
    }

    /// Has the version serve that did before, and says which: the one activated before, or the next older one.
    ///
    /// # Errors
    /// There is none, or the folder cannot be written.
    pub fn rollback(&self) -> Result<String, FolderError> {
        let versions = self.versions()?;
        let mut history = self.history()?;
        let active = self.active()?;
        if history.len() > 1 {
            history.remove(0);
        } else {
            let older = versions.iter().rev().find(|version| natural(version, &active) == Ordering::Less);
            let older = older.ok_or_else(|| self.lacks(&format!("a version before {active}"), &versions))?;
            history = vec![older.clone()];
        }
        self.remember(&history)?;
        Ok(history.swap_remove(0))
    }

    /// Has the newest version serve, now and whenever one comes.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn follow_newest(&self) -> Result<(), FolderError> {
        let path = self.path.join(ACTIVE);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(FolderError::File { doing: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    /// What is known of a version.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn manifest(&self, version: &str) -> Result<Manifest, FolderError> {
        let path = self.path.join(version).join(MANIFEST);
        let bytes = read(&path)?;
        let wrong = |reason: String| FolderError::Manifest { path: path.clone(), reason };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if manifest.file.components().count() != 1 || manifest.file.is_absolute() {
            return Err(wrong(format!("expected file to name a file beside it, found {}", manifest.file.display())));
        }
        Ok(manifest)
    }

    /// The bytes of a version's ONNX file, which are those that its manifest speaks of, and the model's section with what
    /// the manifest says.
    ///
    /// # Errors
    /// The manifest or the file cannot be read, or they are not of one version.
    pub fn read(&self, version: &str, spec: &ModelSpec) -> Result<(ModelSpec, Vec<u8>, Manifest), FolderError> {
        let manifest = self.manifest(version)?;
        let path = self.path.join(version).join(&manifest.file);
        let bytes = read(&path)?;
        let found = format!("{:x}", Sha256::digest(&bytes));
        if found != manifest.sha256 {
            return Err(FolderError::Hash { path, expected: manifest.sha256, found });
        }
        let mut spec = spec.clone();
        spec.path = path;
        spec.name = spec.name.or_else(|| Some(manifest.name.clone()));
        spec.version = Some(version.to_owned());
        // Features of the manifest vouch for the model only together with the fingerprint, which the file carries itself.
        spec.features = spec.features.or_else(|| manifest.features.clone());
        spec.calibration = spec.calibration.or_else(|| manifest.calibration.clone());
        Ok((spec, bytes, manifest))
    }

    /// Puts a version into the folder: the file first, then its manifest, which makes it a version.
    ///
    /// # Errors
    /// The version is there already, or the folder cannot be written.
    pub fn add(&self, version: &str, bytes: &[u8], manifest: &Manifest) -> Result<(), FolderError> {
        let folder = self.path.join(version);
        if folder.join(MANIFEST).exists() {
            let versions = self.versions()?;
            return Err(self.lacks(&format!("no version {version:?} yet, since versions do not change"), &versions));
        }
        let failed = |source| FolderError::File { doing: "make", path: folder.clone(), source };
        fs::create_dir_all(&folder).map_err(failed)?;
        write(&folder.join(&manifest.file), bytes)?;
        let text = serde_json::to_string_pretty(manifest).expect("a manifest is written as JSON");
        write(&folder.join(MANIFEST), format!("{text}\n").as_bytes())
    }

    /// What tells a version's files from other ones of the same name: their lengths and times.
    pub(super) fn stamp(&self, version: &str) -> Stamp {
        let entries = fs::read_dir(self.path.join(version)).into_iter().flatten().flatten();
        let mut stamp: Vec<_> =
            entries.filter_map(|it| it.metadata().ok()).map(|it| (it.len(), it.modified().ok())).collect();
        stamp.sort_unstable();
        stamp
    }

    fn history(&self) -> Result<Vec<String>, FolderError> {
        let path = self.path.join(ACTIVE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(FolderError::File { doing: "read", path, source }),
        }
    }

    fn remember(&self, history: &[String]) -> Result<(), FolderError> {
        write(&self.path.join(ACTIVE), format!("{}\n", history.join("\n")).as_bytes())
    }

    fn lacks(&self, what: &str, versions: &[String]) -> FolderError {
        let found = if versions.is_empty() { "none".to_owned() } else { versions.join(", ") };
        FolderError::Version { path: self.path.clone(), what: what.to_owned(), found }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FolderError> {
    fs::read(path).map_err(|source| FolderError::File { doing: "read", path: path.to_path_buf(), source })
}

/// Writes a file, which appears under its name when it is whole.
fn write(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    PartialFile::write(path, bytes).map_err(|source| FolderError::File {
        doing: "write",
        path: path.to_path_buf(),
        source,
    })
}

/// Orders versions as people count: runs of digits by their value, the rest by its letters.
fn natural(a: &str, b: &str) -> Ordering {
    fn parts(text: &str) -> Vec<(u64, &str)> {
        let is_digit = |letter: char| letter.is_ascii_digit();
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|letter| is_digit(letter) != is_digit(first)).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            // A run that no u64 holds is a hash or a date in some form: by its letters.
            parts.push((part.parse().unwrap_or(u64::MAX), part));
            rest = after;
        }
        parts
    }
    let key = |parts: Vec<(u64, &str)>| -> Vec<(u64, String)> {
        let letters =
            |(number, text): (u64, &str)| (number, if number == u64::MAX { text.to_owned() } else { String::new() });
        parts.into_iter().map(letters).collect()
    };
    key(parts(a)).cmp(&key(parts(b))).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(dir.path());
        (dir, folder)
    }

    fn add(folder: &ModelFolder, version: &str, bytes: &[u8]) {
        let manifest = Manifest {
            name: "m".to_owned(),
            file: "model.onnx".into(),
            sha256: format!("{:x}", Sha256::digest(bytes)),
            ..Manifest::default()
        };
        folder.add(version, bytes, &manifest).unwrap();
    }

    #[test]
    fn versions_are_counted_as_people_do() {
        let mut versions = ["10", "9", "v2", "1.10", "1.9", "v10", "2026-01-02", "2026-01-10"];
        versions.sort_by(|a, b| natural(a, b));
        assert_eq!(versions, ["1.9", "1.10", "9", "10", "2026-01-02", "2026-01-10", "v2", "v10"]);
    }

    #[test]
    fn the_newest_serves_until_one_is_activated_and_rollback_goes_back_step_by_step() {
        let (_dir, folder) = folder();
        assert!(folder.active().unwrap_err().to_string().contains("found the versions none"));
        for version in ["1", "2", "9", "10"] {
            add(&folder, version, version.as_bytes());
        }
        assert_eq!((folder.active().unwrap().as_str(), folder.is_pinned().unwrap()), ("10", false));
        assert_eq!(folder.rollback().unwrap(), "9");
        assert_eq!((folder.active().unwrap().as_str(), folder.is_pinned().unwrap()), ("9", true));
        assert_eq!((folder.rollback().unwrap(), folder.active().unwrap()), ("2".to_owned(), "2".to_owned()));
        folder.activate("10").unwrap();
        folder.activate("1").unwrap();
        assert_eq!(folder.rollback().unwrap(), "10", "the one that served before");
        assert_eq!(folder.rollback().unwrap(), "2");
        let error = folder.activate("7").unwrap_err().to_string();
        assert!(error.contains("expected version \"7\", found the versions 1, 2, 9, 10"), "{error}");
        folder.follow_newest().unwrap();
        folder.follow_newest().unwrap();
        assert_eq!(folder.active().unwrap(), "10");
    }

    #[test]
    fn what_is_half_written_is_no_version_or_told_by_its_hash() {
        let (dir, folder) = folder();
        add(&folder, "1", b"one");
        // The file is there and its manifest is not yet.
        fs::create_dir(dir.path().join("2")).unwrap();
        fs::write(dir.path().join("2/model.onnx"), b"tw").unwrap();
        assert_eq!(folder.versions().unwrap(), ["1"]);
        let spec = ModelSpec::at(dir.path());
        let (read, bytes, _) = folder.read("1", &spec).unwrap();
        assert_eq!((read.name.as_deref(), read.version.as_deref(), &bytes[..]), (Some("m"), Some("1"), &b"one"[..]));
        fs::write(dir.path().join("1/model.onnx"), b"on").unwrap();
        assert!(matches!(folder.read("1", &spec), Err(FolderError::Hash { .. })));
        fs::write(dir.path().join("1/manifest.json"), b"{\"name\":").unwrap();
        assert!(matches!(folder.read("1", &spec), Err(FolderError::Manifest { .. })));
        fs::write(dir.path().join("1/manifest.json"), br#"{"name":"m","file":"../x","sha256":""}"#).unwrap();
        assert!(folder.read("1", &spec).unwrap_err().to_string().contains("beside it"));
        let again = folder.add("1", b"other", &Manifest::default()).unwrap_err().to_string();
        assert!(again.contains("versions do not change"), "{again}");
    }
}
