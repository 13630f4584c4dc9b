//! The folder of a model's versions: `<folder>/<version>/` with `manifest.json` and the ONNX file, and `<folder>/active`.
//!
//! Guarantees: a version exists once its manifest does. [`ModelFolder::add`] writes it to a temporary folder and renames it into
//! place, and writes nothing outside of the model folder. The files are checked against the hash in the manifest. Versions are
//! ordered by the time they were added, which the manifest records, so a copy of the folder has the same order. `active` names the
//! active version; without it the newest one is active. `served` lists the previously active versions, for rollback, and
//! `audit.jsonl` each step. Limits: 10 versions of history; a manifest of 16 MiB.
//!
//! Older manifests without a time use the modification time of their file. Those written in the same second are ordered by natural
//! order of their names: 9 before 10. The next `add` records these times.

mod error;
mod manifest;
mod names;

pub use error::FolderError;
pub use manifest::{Golden, Manifest};
pub use names::version_fault;

use super::{
    AuditEntry, AuditNote, AuditStep, ModelFiles, ModelSpec,
    audit::{self, Change},
    files::read_file,
};
use crate::partial::PartialFile;
use jiff::Timestamp;
use names::natural;
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

/// The sizes and modification times of a version's files.
pub(super) type Stamp = Vec<(u64, Option<std::time::SystemTime>)>;

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
                write(&self.path.join(&version).join(MANIFEST), &manifest.to_json())?;
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
    write(&folder.join(MANIFEST), &manifest.to_json())
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

#[cfg(test)]
mod tests;
