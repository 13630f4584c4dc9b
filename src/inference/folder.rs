//! The folder of a model's versions: `<folder>/<version>/` with `manifest.json` and the ONNX file, and `<folder>/active`.
//!
//! Guarantees: a version exists once its manifest does. [`ModelFolder::add`] writes it to a temporary folder and renames it into
//! place, and writes nothing outside of the model folder. The files are checked against the hash in the manifest. Versions are
//! ordered by the time they were added, which the manifest records, so a copy of the folder has the same order. `active` names the
//! active version; without it the newest one is active. `served` lists the previously active versions, for rollback, and `audit.jsonl` each step. Limits: 10
//! versions of history; a manifest of 16 MiB.
//!
//! Older manifests without a time use the modification time of their file. Those written in the same second are ordered by natural
//! order of their names: 9 before 10. The next `add` records these times.

use super::{
    AuditEntry, AuditNote, AuditStep, Calibration, ModelError, ModelFiles, ModelSpec, TrainingTimes,
    audit::{self, AUDIT, Change},
    files::{NAME_BYTES_MAX, read_file},
};
use crate::partial::PartialFile;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

/// Name of the manifest.
const MANIFEST: &str = "manifest.json";
/// Name of the file with the active version.
const ACTIVE: &str = "active";
/// Name of the file with the previously active versions, the latest first.
const SERVED: &str = "served";
/// Maximum number of versions in `served`.
const HISTORY: usize = 10;
/// Maximum size of a manifest: golden rows with thousands of features.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Maximum size of `active` and `served`: 10 versions with the longest names, and some room.
const LIST_BYTES_MAX: u64 = 64 << 10;

/// The manifest of a version.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// The ONNX file, in the version's folder.
    pub file: PathBuf,
    /// The SHA-256 of the file and its external weights, see [`ModelFiles::sha256`].
    pub sha256: String,
    /// When it was added, in UTC; by default the modification time of the manifest. The newest version is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub added_at: Option<String>,
    /// The features in the order of its input; by default from the file's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Vec<String>>,
    /// The fingerprint of the features that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The calibration of its scores; by default from the file's metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
    /// Its metrics from training, for display.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub metrics: serde_json::Value,
    /// The times of the rows that it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained: Option<TrainingTimes>,
    /// Rows and scores that the version must reproduce before it becomes active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub golden: Option<Golden>,
}

/// Rows with their expected scores.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// The rows, in the order of the features; null is a missing value.
    pub rows: Vec<Vec<Option<f32>>>,
    /// The raw main score of each.
    pub scores: Vec<f32>,
}

/// The sizes and modification times of a version's files.
pub(super) type Stamp = Vec<(u64, Option<std::time::SystemTime>)>;

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

/// The folder of a model's versions.
#[derive(Clone, Debug)]
pub struct ModelFolder {
    path: PathBuf,
    /// Cache of the versions' times, by the state of their manifests.
    times: Arc<Mutex<HashMap<State, i64>>>,
    /// What the audit log is told of each step.
    note: AuditNote,
}

/// A version, and the size and modification time of its manifest.
type State = (String, u64, Option<SystemTime>);

impl ModelFolder {
    /// The folder at this path, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), times: Arc::default(), note: AuditNote::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes this in the audit log with each step.
    #[must_use]
    pub fn noting(mut self, note: AuditNote) -> Self {
        self.note = note;
        self
    }

    /// The audit log, oldest first; a line that cannot be read is what is wrong with it.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn audit(&self) -> Result<Vec<Result<AuditEntry, String>>, FolderError> {
        audit::entries(&self.path)
    }

    /// Makes a change after it is in the audit log.
    fn change(
        &self,
        step: AuditStep,
        from: Option<String>,
        (to, sha256): (&str, &str),
        make: impl FnOnce() -> Result<(), FolderError>,
    ) -> Result<(), FolderError> {
        audit::record(&self.path, &self.note, &Change { step, from, to, sha256 }, make)
    }

    /// The versions that have a manifest, in the order in which they were added.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn versions(&self) -> Result<Vec<String>, FolderError> {
        Ok(self.timed()?.into_iter().map(|(_, version)| version).collect())
    }

    /// Folders with a manifest but an invalid version name, with the reason.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn misnamed(&self) -> Result<Vec<(String, &'static str)>, FolderError> {
        let mut misnamed = self.entries()?;
        misnamed.retain(|(name, _)| !name.starts_with('.'));
        Ok(misnamed.into_iter().filter_map(|(name, _)| version_fault(&name).map(|why| (name, why))).collect())
    }

    /// Names with a manifest, and the metadata of the manifest.
    fn entries(&self) -> Result<Vec<(String, fs::Metadata)>, FolderError> {
        let failed = |error| FolderError::File { doing: "read the model folder", path: self.path.clone(), error };
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Ok(about) = fs::metadata(entry.path().join(MANIFEST))
                && about.is_file()
            {
                found.push((entry.file_name().to_string_lossy().into_owned(), about));
            }
        }
        Ok(found)
    }

    /// The versions with the microsecond at which each was added, oldest first.
    fn timed(&self) -> Result<Vec<(i64, String)>, FolderError> {
        let mut known = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let mut times = HashMap::new();
        let mut timed = Vec::new();
        for (version, about) in self.entries()? {
            if version_fault(&version).is_some() {
                continue;
            }
            let state = (version, about.len(), about.modified().ok());
            let time = known.get(&state).copied().unwrap_or_else(|| self.time_of(&state));
            timed.push((time, state.0.clone()));
            times.insert(state, time);
        }
        *known = times;
        timed.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| natural(one, other)));
        Ok(timed)
    }

    fn time_of(&self, (version, _, modified): &State) -> i64 {
        let added = self.manifest(version).ok().and_then(|it| it.added_at?.parse::<Timestamp>().ok());
        let written = || {
            let second = modified.and_then(|it| Timestamp::try_from(it).ok()).map_or(0, Timestamp::as_second);
            second.saturating_mul(1_000_000)
        };
        added.map_or_else(written, Timestamp::as_microsecond)
    }

    /// The active version: the one activated by name, or the newest.
    ///
    /// # Errors
    /// The folder cannot be read, has no version, or `active` names a missing one.
    pub fn active(&self) -> Result<String, FolderError> {
        let versions = self.versions()?;
        match self.pinned()? {
            Some(pinned) if versions.contains(&pinned) => Ok(pinned),
            Some(pinned) => Err(self.not_found(&format!("version {pinned:?}, named in {ACTIVE}"), &versions)),
            None => versions.last().cloned().ok_or_else(|| self.not_found("a version with a manifest", &versions)),
        }
    }

    /// Whether a version was activated by name, so that newer ones are not used.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn is_pinned(&self) -> Result<bool, FolderError> {
        Ok(self.pinned()?.is_some())
    }

    /// Makes a version active after verifying its files.
    ///
    /// # Errors
    /// The version does not exist, its files do not match the manifest, or the folder cannot be written.
    pub fn activate(&self, version: &str) -> Result<(), FolderError> {
        let versions = self.versions()?;
        if !versions.iter().any(|known| known == version) {
            return Err(self.not_found(&format!("version {version:?}"), &versions));
        }
        let (_, _, manifest) = self.files(version)?;
        let served = self.served_with_active(&versions)?;
        self.change(AuditStep::Activate, self.active().ok(), (version, &manifest.sha256), || {
            self.remember(SERVED, &served)?;
            self.remember(ACTIVE, &[version.to_owned()])
        })
    }

    /// Makes the previously active version active, or else the one added before, and returns it.
    ///
    /// # Errors
    /// There is none, its files do not match the manifest, or the folder cannot be written.
    pub fn rollback(&self) -> Result<String, FolderError> {
        let versions = self.versions()?;
        let active = self.active()?;
        let mut served = self.served()?;
        let before = served.iter().position(|it| *it != active && versions.contains(it));
        let version = match before {
            Some(at) => served.drain(..=at).next_back(),
            None => versions.iter().take_while(|it| **it != active).last().cloned(),
        };
        let version = version.ok_or_else(|| self.not_found(&format!("a version before {active}"), &versions))?;
        let (_, _, manifest) = self.files(&version)?;
        self.change(AuditStep::Rollback, Some(active), (&version, &manifest.sha256), || {
            self.remember(SERVED, &served)?;
            self.remember(ACTIVE, std::slice::from_ref(&version))
        })?;
        Ok(version)
    }

    /// Makes the newest version active, now and in future.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn follow_newest(&self) -> Result<(), FolderError> {
        let versions = self.versions()?;
        let served = self.served_with_active(&versions)?;
        let path = self.path.join(ACTIVE);
        let (Some(newest), true) = (versions.last(), fs::symlink_metadata(&path).is_ok()) else { return Ok(()) };
        let sha256 = self.manifest(newest).map(|it| it.sha256).unwrap_or_default();
        self.change(AuditStep::FollowNewest, self.active().ok(), (newest, &sha256), || match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(FolderError::File { doing: "remove", path: path.clone(), error }),
            Ok(()) => self.remember(SERVED, &served),
        })
    }

    /// Reads the manifest of a version.
    ///
    /// # Errors
    /// The manifest cannot be read.
    pub fn manifest(&self, version: &str) -> Result<Manifest, FolderError> {
        self.check_name(version)?;
        let path = self.path.join(version).join(MANIFEST);
        let bytes = read(&path, MANIFEST_BYTES_MAX)?;
        let wrong = |reason: String| FolderError::Manifest { path: path.clone(), reason };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if manifest.file.components().count() != 1 || manifest.file.file_name().is_none() {
            return Err(wrong(format!(
                "expected file to name a file in its folder, found {:?}",
                manifest.file.to_string_lossy()
            )));
        }
        if let Some(time) = &manifest.added_at
            && time.parse::<Timestamp>().is_err()
        {
            return Err(wrong(format!("expected added_at to be a time such as 2026-01-31T12:00:00Z, found {time:?}")));
        }
        Ok(manifest)
    }

    /// Reads a version's files, verified against the manifest, and the model's section completed from the manifest.
    ///
    /// # Errors
    /// The manifest or a file cannot be read, or they do not match.
    pub fn read(&self, version: &str, spec: &ModelSpec) -> Result<(ModelSpec, ModelFiles, Manifest), FolderError> {
        let (path, files, manifest) = self.files(version)?;
        let mut spec = spec.clone();
        spec.path = path;
        spec.name = spec.name.or_else(|| Some(manifest.name.clone()));
        spec.version = Some(version.to_owned());
        // Features in the manifest override the check only together with the fingerprint, which is in the file.
        spec.features = spec.features.or_else(|| manifest.features.clone());
        spec.calibration = spec.calibration.or_else(|| manifest.calibration.clone());
        Ok((spec, files, manifest))
    }

    fn files(&self, version: &str) -> Result<(PathBuf, ModelFiles, Manifest), FolderError> {
        let manifest = self.manifest(version)?;
        let path = self.path.join(version).join(&manifest.file);
        let files = ModelFiles::read(&path, ModelFiles::BYTES_MAX)?;
        let found = files.sha256();
        if found != manifest.sha256 {
            return Err(FolderError::Hash { path, expected: manifest.sha256, found });
        }
        Ok((path, files, manifest))
    }

    /// Adds a version as the newest one: written to a temporary folder first, then renamed.
    ///
    /// # Errors
    /// The version exists already, its name is invalid, or the folder cannot be written.
    pub fn add(&self, version: &str, files: &ModelFiles, manifest: &Manifest) -> Result<(), FolderError> {
        self.check_name(version)?;
        let failed = |doing, path: &Path| {
            let path = path.to_path_buf();
            move |error| FolderError::File { doing, path, error }
        };
        fs::create_dir_all(&self.path).map_err(failed("create", &self.path))?;
        let folder = self.path.join(version);
        if fs::symlink_metadata(&folder).is_ok() {
            let versions = self.versions()?;
            if versions.iter().any(|known| known == version) {
                return Err(
                    self.not_found(&format!("no version {version:?} yet, because versions do not change"), &versions)
                );
            }
            let source = io::Error::other("it exists without a manifest; remove it, or choose another version");
            return Err(failed("add", &folder)(source));
        }
        self.write_times()?;
        let versions = self.versions()?;
        let newest = self.timed()?.last().map_or(i64::MIN, |(time, _)| time.saturating_add(1));
        let added = Timestamp::from_microsecond(Timestamp::now().as_microsecond().max(newest));
        let manifest = Manifest { added_at: Some(added.unwrap_or(Timestamp::MAX).to_string()), ..manifest.clone() };
        // A name with a leading dot is not a version.
        let staged = self.path.join(format!(".{version}.{}.partial", std::process::id()));
        let active = self.active().ok();
        let outcome = stage(&staged, files, &manifest).and_then(|()| {
            self.change(AuditStep::Add, active, (version, &manifest.sha256), || {
                fs::rename(&staged, &folder).map_err(failed("add", &folder))
            })
        });
        if outcome.is_err() {
            fs::remove_dir_all(&staged).unwrap_or_default();
        }
        outcome?;
        if self.is_pinned()? || versions.is_empty() {
            return Ok(());
        }
        let served = self.served_before(versions.last())?;
        self.remember(SERVED, &served)
    }

    /// Writes missing times into the manifests.
    fn write_times(&self) -> Result<(), FolderError> {
        let mut last = i64::MIN;
        for (time, version) in self.timed()? {
            last = time.max(last.saturating_add(1));
            // A broken manifest is reported when the version is used.
            let Ok(manifest) = self.manifest(&version) else { continue };
            if manifest.added_at.is_none()
                && let Ok(time) = Timestamp::from_microsecond(last)
            {
                let manifest = Manifest { added_at: Some(time.to_string()), ..manifest };
                write(&self.path.join(&version).join(MANIFEST), &json(&manifest))?;
            }
        }
        Ok(())
    }

    fn check_name(&self, version: &str) -> Result<(), FolderError> {
        match version_fault(version) {
            Some(reason) => {
                Err(FolderError::Name { path: self.path.clone(), version: super::files::shown(version), reason })
            }
            None => Ok(()),
        }
    }

    /// The sizes and times of a version's files, to detect changes.
    pub(super) fn stamp(&self, version: &str) -> Stamp {
        let entries = fs::read_dir(self.path.join(version)).into_iter().flatten().flatten();
        let mut stamp: Vec<_> =
            entries.filter_map(|it| it.metadata().ok()).map(|it| (it.len(), it.modified().ok())).collect();
        stamp.sort_unstable();
        stamp
    }

    /// The version named in `active`.
    fn pinned(&self) -> Result<Option<String>, FolderError> {
        Ok(self.list(ACTIVE)?.into_iter().next())
    }

    /// The previously active versions, the latest first.
    fn served(&self) -> Result<Vec<String>, FolderError> {
        let served = self.list(SERVED)?;
        // Older folders list them in `active`, after the active version.
        if served.is_empty() { Ok(self.list(ACTIVE)?.into_iter().skip(1).collect()) } else { Ok(served) }
    }

    /// The history including the currently active version.
    fn served_with_active(&self, versions: &[String]) -> Result<Vec<String>, FolderError> {
        let pinned = self.pinned()?;
        self.served_before(pinned.as_ref().or(versions.last()))
    }

    fn served_before(&self, last: Option<&String>) -> Result<Vec<String>, FolderError> {
        let mut served = self.served()?;
        if let Some(last) = last
            && served.first() != Some(last)
        {
            served.insert(0, last.clone());
        }
        served.truncate(HISTORY);
        Ok(served)
    }

    /// The lines of a file in this folder; none if it is missing.
    fn list(&self, name: &str) -> Result<Vec<String>, FolderError> {
        let path = self.path.join(name);
        let failed = |error| FolderError::File { doing: "read", path: path.clone(), error };
        // Links are allowed only within the folder.
        let file = match fs::canonicalize(&path) {
            Err(source) if source.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_ok() => {
                return Err(failed(io::Error::other(
                    "it is a link to a file that does not exist; repair or remove it",
                )));
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            file => file.map_err(failed)?,
        };
        if !file.starts_with(fs::canonicalize(&self.path).map_err(failed)?) {
            return Err(failed(io::Error::other("it is a link out of the folder")));
        }
        let bytes = read_file(&file, LIST_BYTES_MAX).map_err(failed)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect())
    }

    fn remember(&self, name: &str, versions: &[String]) -> Result<(), FolderError> {
        write(&self.path.join(name), format!("{}\n", versions.join("\n")).as_bytes())
    }

    fn not_found(&self, what: &str, versions: &[String]) -> FolderError {
        let found = match versions {
            [] => "no version".to_owned(),
            [version] => format!("version {version}"),
            _ => format!("the versions {}", versions.join(", ")),
        };
        FolderError::Version { path: self.path.clone(), what: what.to_owned(), found }
    }
}

/// Why a version name is invalid. It is the name of a folder, and appears in decisions, logs and metrics.
pub fn version_fault(version: &str) -> Option<&'static str> {
    let is_letter = |letter: char| letter.is_alphanumeric() || " ._-+@:=~,()".contains(letter);
    if version.is_empty() || version.len() > NAME_BYTES_MAX - ".partial".len() - 16 {
        return Some("expected 1 to 232 bytes");
    }
    if [ACTIVE, SERVED, AUDIT].contains(&version) {
        return Some("the folder has a file of this name");
    }
    if !version.starts_with(|first: char| first.is_alphanumeric() || first == '_') {
        return Some("expected a letter, a digit or _ first");
    }
    if !version.chars().all(is_letter) || version.ends_with(' ') {
        return Some("expected letters, digits, spaces within and any of . _ - + @ : = ~ , ( )");
    }
    None
}

fn json(manifest: &Manifest) -> Vec<u8> {
    let text = serde_json::to_string_pretty(manifest).expect("a manifest is written as JSON");
    format!("{text}\n").into_bytes()
}

/// Writes a version to a new folder, the manifest last.
fn stage(folder: &Path, files: &ModelFiles, manifest: &Manifest) -> Result<(), FolderError> {
    let make = |path: &Path| {
        let failed = |error| FolderError::File { doing: "create", path: path.to_path_buf(), error };
        fs::create_dir_all(path).map_err(failed)
    };
    // Remove leftovers of a process with the same id.
    fs::remove_dir_all(folder).unwrap_or_default();
    make(folder)?;
    let own = [manifest.file.as_path(), Path::new(MANIFEST)];
    if let Some(taken) =
        files.data.keys().find(|location| own.iter().any(|it| Path::new(location.as_str()).starts_with(it)))
    {
        let error = io::Error::other("a weight file has the name of another file of the version; rename it");
        return Err(FolderError::File { doing: "write", path: PathBuf::from(taken), error });
    }
    write(&folder.join(&manifest.file), &files.bytes)?;
    for (location, content) in &files.data {
        let file = folder.join(location);
        file.parent().map_or(Ok(()), make)?;
        write(&file, content)?;
    }
    write(&folder.join(MANIFEST), &json(manifest))
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FolderError> {
    read_file(path, bytes_max).map_err(|error| FolderError::File { doing: "read", path: path.to_path_buf(), error })
}

/// Writes a file atomically.
fn write(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    PartialFile::write(path, bytes).map_err(|error| FolderError::File {
        doing: "write",
        path: path.to_path_buf(),
        error,
    })
}

/// Natural order: runs of digits by value, the rest by characters.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    fn parts(text: &str) -> Vec<(u64, &str)> {
        let is_digit = |letter: char| letter.is_ascii_digit();
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let end = rest.find(|letter| is_digit(letter) != is_digit(first)).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            // A run too long for a u64 is a hash or a date: compare it by characters.
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
    use sha2::Digest;

    fn folder() -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(dir.path());
        (dir, folder)
    }

    fn add(folder: &ModelFolder, version: &str, bytes: &[u8]) {
        try_add(folder, version, bytes).unwrap();
    }

    fn try_add(folder: &ModelFolder, version: &str, bytes: &[u8]) -> Result<(), FolderError> {
        let files = ModelFiles::from(bytes.to_vec());
        let manifest =
            Manifest { name: "m".to_owned(), file: "model.onnx".into(), sha256: files.sha256(), ..Manifest::default() };
        folder.add(version, &files, &manifest)
    }

    /// A version with an old manifest without a time, written at this second.
    fn put_old(dir: &Path, version: &str, second: u64) {
        fs::create_dir(dir.join(version)).unwrap();
        fs::write(dir.join(version).join("model.onnx"), version).unwrap();
        let sha256 = ModelFiles::from(version.as_bytes().to_vec()).sha256();
        let text = format!(r#"{{"name":"m","file":"model.onnx","sha256":"{sha256}"}}"#);
        fs::write(dir.join(version).join(MANIFEST), text).unwrap();
        let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(second * 1_000 + second % 7 * 100);
        fs::File::open(dir.join(version).join(MANIFEST)).unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn versions_are_in_natural_order() {
        let mut versions = ["10", "9", "v2", "1.10", "1.9", "v10", "2026-01-02", "2026-01-10"];
        versions.sort_by(|a, b| natural(a, b));
        assert_eq!(versions, ["1.9", "1.10", "9", "10", "2026-01-02", "2026-01-10", "v2", "v10"]);
    }

    #[test]
    fn the_newest_is_active_until_one_is_activated_and_rollback_goes_back_step_by_step() {
        let (_dir, folder) = folder();
        assert!(folder.active().unwrap_err().to_string().contains("found no version"));
        for version in ["1", "2", "9", "10"] {
            add(&folder, version, version.as_bytes());
        }
        assert_eq!((folder.active().unwrap().as_str(), folder.is_pinned().unwrap()), ("10", false));
        assert_eq!(folder.rollback().unwrap(), "9");
        assert_eq!((folder.active().unwrap().as_str(), folder.is_pinned().unwrap()), ("9", true));
        assert_eq!((folder.rollback().unwrap(), folder.active().unwrap()), ("2".to_owned(), "2".to_owned()));
        folder.activate("10").unwrap();
        folder.activate("1").unwrap();
        assert_eq!(folder.rollback().unwrap(), "10", "the one active before");
        assert_eq!(folder.rollback().unwrap(), "2");
        let error = folder.activate("7").unwrap_err().to_string();
        assert!(error.contains("expected version \"7\", found the versions 1, 2, 9, 10"), "{error}");
        folder.follow_newest().unwrap();
        folder.follow_newest().unwrap();
        assert_eq!(folder.active().unwrap(), "10");
    }

    #[test]
    fn a_partially_written_version_does_not_exist_or_has_a_wrong_hash() {
        let (dir, folder) = folder();
        add(&folder, "1", b"one");
        // The file exists, but its manifest does not yet.
        fs::create_dir(dir.path().join("2")).unwrap();
        fs::write(dir.path().join("2/model.onnx"), b"tw").unwrap();
        assert_eq!(folder.versions().unwrap(), ["1"]);
        let spec = ModelSpec::at(dir.path());
        let (read, files, _) = folder.read("1", &spec).unwrap();
        assert_eq!((read.name.as_deref(), read.version.as_deref()), (Some("m"), Some("1")));
        assert_eq!(&files.bytes[..], b"one");
        fs::write(dir.path().join("1/model.onnx"), b"on").unwrap();
        assert!(matches!(folder.read("1", &spec), Err(FolderError::Hash { .. })));
        fs::write(dir.path().join("1/manifest.json"), b"{\"name\":").unwrap();
        assert!(matches!(folder.read("1", &spec), Err(FolderError::Manifest { .. })));
        fs::write(dir.path().join("1/manifest.json"), br#"{"name":"m","file":"../x","sha256":""}"#).unwrap();
        assert!(folder.read("1", &spec).unwrap_err().to_string().contains("in its folder"));
        let again = try_add(&folder, "1", b"other").unwrap_err().to_string();
        assert!(again.contains("versions do not change"), "{again}");
        let half = try_add(&folder, "2", b"two").unwrap_err().to_string();
        assert!(half.contains("without a manifest; remove it"), "{half}");
    }

    /// Two of four versions never became active when versions were ordered by name, which may be a hash.
    #[test]
    fn the_version_added_last_is_active_whatever_its_name() {
        let (dir, folder) = folder();
        let versions = ["f3c1", "0a77", "c001", "12", "2", "b7"];
        for version in versions {
            add(&folder, version, version.as_bytes());
            assert_eq!(folder.active().unwrap(), version);
        }
        assert_eq!(folder.versions().unwrap(), versions);
        for version in versions.iter().rev().skip(1) {
            assert_eq!(folder.rollback().unwrap(), *version);
        }
        assert!(folder.rollback().unwrap_err().to_string().contains("a version before f3c1"));
        // A copy has the same order, in whatever order its files are written.
        let copy = tempfile::tempdir().unwrap();
        for version in ["b7", "2", "f3c1", "12", "c001", "0a77"] {
            fs::create_dir(copy.path().join(version)).unwrap();
            for file in ["model.onnx", MANIFEST] {
                fs::copy(dir.path().join(version).join(file), copy.path().join(version).join(file)).unwrap();
            }
        }
        assert_eq!(ModelFolder::at(copy.path()).versions().unwrap(), versions);
    }

    #[test]
    fn rollback_activates_the_previously_active_version_and_not_an_unused_one() {
        let (_dir, folder) = folder();
        add(&folder, "1", b"one");
        add(&folder, "2", b"two");
        folder.activate("1").unwrap();
        add(&folder, "3", b"three");
        add(&folder, "4", b"four");
        assert_eq!(folder.active().unwrap(), "1");
        folder.follow_newest().unwrap();
        assert_eq!((folder.active().unwrap(), folder.rollback().unwrap()), ("4".to_owned(), "1".to_owned()));
        assert_eq!(folder.rollback().unwrap(), "2", "which was active before 1");
    }

    #[test]
    fn versions_without_a_time_are_ordered_by_the_time_of_their_files() {
        let (dir, folder) = folder();
        for (version, second) in [("9", 1_700_000_000), ("10", 1_700_000_000), ("ab", 1_600_000_000)] {
            put_old(dir.path(), version, second);
        }
        assert_eq!(folder.versions().unwrap(), ["ab", "9", "10"]);
        // The old format: the active version, followed by the earlier ones.
        fs::write(dir.path().join(ACTIVE), "9\nab\n").unwrap();
        assert_eq!(folder.active().unwrap(), "9");
        add(&folder, "00", b"new");
        assert_eq!(folder.versions().unwrap(), ["ab", "9", "10", "00"]);
        // Now their manifests have a time.
        for version in ["ab", "9", "10"] {
            let manifest = dir.path().join(version).join(MANIFEST);
            fs::File::open(manifest).unwrap().set_modified(SystemTime::now()).unwrap();
        }
        let again = ModelFolder::at(dir.path());
        assert_eq!(again.versions().unwrap(), ["ab", "9", "10", "00"]);
        assert_eq!(again.rollback().unwrap(), "ab");
    }

    #[test]
    fn a_version_is_not_a_path_and_nothing_outside_of_the_folder_is_written_or_read() {
        let outer = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(outer.path().join("models"));
        add(&folder, "1", b"one");
        let long = "x".repeat(300);
        for version in [
            "..",
            ".",
            "",
            "../escape",
            "/tmp/escape",
            "a/b",
            "a\\b",
            ".hidden",
            "active",
            "served",
            "audit.jsonl",
            "-v",
            "a\nb",
            "a\u{1b}[2J",
            &long,
        ] {
            let error = try_add(&folder, version, b"other").unwrap_err();
            assert!(matches!(error, FolderError::Name { .. }), "{version:?}: {error}");
            assert!(!error.to_string().contains(char::is_control), "{error}");
        }
        // A link in place of a version is rejected, and its target is not changed.
        let target = outer.path().join("target");
        fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, outer.path().join("models/link")).unwrap();
        assert!(try_add(&folder, "link", b"other").is_err());
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        let mut entries: Vec<_> =
            fs::read_dir(outer.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        entries.sort_unstable();
        assert_eq!(entries, ["models", "target"]);

        // `active` must name one of the versions.
        let stray = outer.path().join("stray");
        put_old(outer.path(), "stray", 1);
        assert!(stray.join(MANIFEST).exists());
        for forged in ["../stray", "/etc", "2", ".."] {
            fs::write(outer.path().join("models/active"), forged).unwrap();
            let error = folder.active().unwrap_err().to_string();
            assert!(error.contains("named in active, found version 1"), "{error}");
            assert!(folder.read(forged, &ModelSpec::at("models")).is_err(), "{forged}");
        }
        fs::remove_file(outer.path().join("models/active")).unwrap();
        fs::write(outer.path().join("secret"), "1\n").unwrap();
        std::os::unix::fs::symlink("../secret", outer.path().join("models/active")).unwrap();
        assert!(folder.active().unwrap_err().to_string().contains("a link out of the folder"));
        // A partial file that is a link is replaced, not followed.
        std::os::unix::fs::symlink("../secret", outer.path().join("models/active.partial")).unwrap();
        fs::remove_file(outer.path().join("models/active")).unwrap();
        folder.activate("1").unwrap();
        assert_eq!(fs::read_to_string(outer.path().join("secret")).unwrap(), "1\n");
        // A pipe does not block.
        fs::remove_file(outer.path().join("models/active")).unwrap();
        let pipe = outer.path().join("models/active");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert!(folder.active().unwrap_err().to_string().contains("found a pipe"));
    }

    #[test]
    fn external_weights_are_part_of_the_version() {
        let (dir, folder) = folder();
        let mut files = ModelFiles::from(b"graph".to_vec());
        files.data.insert("weights/one.bin".to_owned(), b"12345678".to_vec().into());
        let manifest =
            Manifest { name: "m".to_owned(), file: "model.onnx".into(), sha256: files.sha256(), ..Manifest::default() };
        folder.add("1", &files, &manifest).unwrap();
        assert_eq!(fs::read(dir.path().join("1/weights/one.bin")).unwrap(), b"12345678");
        let other = ModelFiles::from(b"graph".to_vec());
        assert_ne!(files.sha256(), other.sha256(), "the hash covers them");
        assert_eq!(
            other.sha256(),
            format!("{:x}", sha2::Sha256::digest(b"graph")),
            "and without weights it is that of the file"
        );
    }
}
