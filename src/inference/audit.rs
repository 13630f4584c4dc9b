//! The audit log of a model folder: `audit.jsonl`, a line for each step that changes which version serves.
//!
//! Guarantees: an entry is on disk before its step changes anything, so a change without an entry does not exist; a folder that
//! cannot take the entry keeps its state. If the step then fails, a further entry says so. Lines are appended and never
//! rewritten. A line that was cut off by a crash keeps none of the others from being read. Limits: who has access to the folder
//! can also edit the log; keep a copy elsewhere if that matters. The host and the user are those of the process.

use super::{FolderError, files::read_file};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::Path,
};

/// Name of the log.
pub(super) const AUDIT: &str = "audit.jsonl";
/// Maximum size of a log: a hundred thousand steps.
const AUDIT_BYTES_MAX: u64 = 64 << 20;
/// Maximum size of the list of users.
const USERS_BYTES_MAX: u64 = 1 << 20;

/// A step that changes the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditStep {
    /// A version was added.
    Add,
    /// A version was activated by name.
    Activate,
    /// The newest version is followed again.
    FollowNewest,
    /// The previously active version was activated.
    Rollback,
    /// A version was activated because it was shown to be better.
    Promote,
    /// The step of the entry before could not be done.
    Failed,
}

impl AuditStep {
    /// Its name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Activate => "activate",
            Self::FollowNewest => "follow_newest",
            Self::Rollback => "rollback",
            Self::Promote => "promote",
            Self::Failed => "failed",
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct AuditEntry {
    /// When, in UTC.
    pub at: String,
    /// The user and the host of the process, as `ann@host`.
    pub who: String,
    /// What was done.
    pub step: AuditStep,
    /// The version that served before; `None` if there was none.
    pub from: Option<String>,
    /// The version that the step is about: it serves from now on, or was added. `None` after a failure.
    pub to: Option<String>,
    /// The SHA-256 of the files of the version that the step is about.
    pub sha256: Option<String>,
    /// The figures that the step rests on.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub figures: serde_json::Value,
    /// Why, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the caller knows of a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditNote {
    /// Whether an activation is a promotion.
    pub is_promotion: bool,
    /// The figures that the step rests on.
    pub figures: serde_json::Value,
    /// Why, in words.
    pub reason: Option<String>,
}

/// An entry without the caller's part.
#[derive(Clone, Debug)]
pub(super) struct Change<'a> {
    pub(super) step: AuditStep,
    pub(super) from: Option<String>,
    pub(super) to: &'a str,
    pub(super) sha256: &'a str,
}

/// Appends the entry, makes the change, and appends that it failed if it does.
pub(super) fn record<T>(
    folder: &Path,
    note: &AuditNote,
    change: &Change<'_>,
    make: impl FnOnce() -> Result<T, FolderError>,
) -> Result<T, FolderError> {
    let step = if note.is_promotion && change.step == AuditStep::Activate { AuditStep::Promote } else { change.step };
    let entry = AuditEntry {
        at: Timestamp::now().to_string(),
        who: who(),
        step,
        from: change.from.clone(),
        to: Some(change.to.to_owned()),
        sha256: Some(change.sha256.to_owned()),
        figures: note.figures.clone(),
        reason: note.reason.clone(),
    };
    append(folder, &entry)?;
    make().inspect_err(|error| {
        let at = Timestamp::now().to_string();
        let failed = AuditEntry {
            at,
            step: AuditStep::Failed,
            to: None,
            figures: serde_json::Value::Null,
            reason: Some(error.to_string()),
            ..entry
        };
        // The failure itself is what the caller reports.
        append(folder, &failed).unwrap_or_default();
    })
}

/// The lines of the log in their order: entries, or what is wrong with a line.
///
/// # Errors
/// The log cannot be read.
pub(super) fn entries(folder: &Path) -> Result<Vec<Result<AuditEntry, String>>, FolderError> {
    let path = folder.join(AUDIT);
    let bytes = match read_file(&path, AUDIT_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| FolderError::File { doing: "read", path: path.clone(), error })?,
    };
    let lines = bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty());
    let entry = |(number, line): (usize, &[u8])| {
        serde_json::from_slice(line).map_err(|error| format!("line {} cannot be read: {error}", number + 1))
    };
    Ok(lines.map(entry).collect())
}

/// Appends an entry and waits until it is on disk.
fn append(folder: &Path, entry: &AuditEntry) -> Result<(), FolderError> {
    let path = folder.join(AUDIT);
    let failed = |error| FolderError::File { doing: "write the audit log", path: path.clone(), error };
    let is_new = match fs::symlink_metadata(&path) {
        Ok(about) if !about.is_file() => {
            return Err(failed(io::Error::other("expected a file, found a link, folder or device; remove it")));
        }
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(failed(error)),
    };
    let mut line = serde_json::to_vec(entry).expect("an entry is written as JSON");
    line.push(b'\n');
    let mut write = || {
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        if ends_in_a_line(&mut file)? {
            line.insert(0, b'\n');
        }
        // One write, so that the lines of two processes do not mix.
        file.write_all(&line)?;
        file.sync_all()?;
        if is_new { File::open(folder)?.sync_all() } else { Ok(()) }
    };
    write().map_err(failed)
}

/// Whether the last line was cut off.
fn ends_in_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The user and the host of this process.
fn who() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "unknown" } else { host.trim() };
    format!("{}@{host}", user())
}

/// The name of the user whose rights this process has, or the number.
fn user() -> String {
    let Ok(about) = fs::metadata("/proc/self") else { return "unknown".to_owned() };
    let uid = about.uid().to_string();
    let users = read_file(Path::new("/etc/passwd"), USERS_BYTES_MAX).unwrap_or_default();
    let users = String::from_utf8_lossy(&users);
    let named = users.lines().find_map(|line| {
        let mut parts = line.split(':');
        let (name, _, id) = (parts.next()?, parts.next()?, parts.next()?);
        (id == uid).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| format!("uid {uid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(to: &str) -> Change<'_> {
        Change { step: AuditStep::Activate, from: Some("1".to_owned()), to, sha256: "5eed" }
    }

    fn read(folder: &Path) -> Vec<Result<AuditEntry, String>> {
        entries(folder).unwrap()
    }

    #[test]
    fn a_step_is_logged_before_it_is_done_and_its_failure_after_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()), []);
        let note =
            AuditNote { reason: Some("a\nb".to_owned()), figures: serde_json::json!({"n": 1}), ..AuditNote::default() };
        let seen = record(dir.path(), &note, &change("2"), || Ok(read(dir.path()).len())).unwrap();
        assert_eq!(seen, 1, "the entry is there when the step begins");
        let error = io::Error::from(io::ErrorKind::StorageFull);
        let failure = || Err(FolderError::File { doing: "write", path: "active".into(), error });
        let promotion = AuditNote { is_promotion: true, ..AuditNote::default() };
        let failed: Result<(), _> = record(dir.path(), &promotion, &change("3"), failure);
        assert!(failed.is_err());
        let entries: Vec<AuditEntry> = read(dir.path()).into_iter().map(Result::unwrap).collect();
        let steps: Vec<_> = entries.iter().map(|it| (it.step, it.from.as_deref(), it.to.as_deref())).collect();
        let owed = [
            (AuditStep::Activate, Some("1"), Some("2")),
            (AuditStep::Promote, Some("1"), Some("3")),
            (AuditStep::Failed, Some("1"), None),
        ];
        assert_eq!(steps, owed);
        assert_eq!((entries[0].reason.as_deref(), &entries[0].figures["n"]), (Some("a\nb"), &1.into()));
        assert!(entries[2].reason.as_ref().unwrap().contains("write active"), "{entries:?}");
        assert!(entries.iter().all(|it| it.at.parse::<Timestamp>().is_ok() && it.who.contains('@')), "{entries:?}");
        let text = fs::read_to_string(dir.path().join(AUDIT)).unwrap();
        assert_eq!(text.lines().count(), 3, "one line each: {text}");
    }

    #[test]
    fn a_line_that_was_cut_off_hides_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let note = AuditNote::default();
        record(dir.path(), &note, &change("2"), || Ok(())).unwrap();
        let path = dir.path().join(AUDIT);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, [&whole[..], &whole[..20]].concat()).unwrap();
        record(dir.path(), &note, &change("3"), || Ok(())).unwrap();
        let entries = read(dir.path());
        assert_eq!(entries.len(), 3);
        assert!(entries[0].is_ok() && entries[2].is_ok(), "{entries:?}");
        assert!(entries[1].as_ref().unwrap_err().contains("line 2 cannot be read"), "{entries:?}");
    }

    #[test]
    fn a_log_that_cannot_be_written_stops_the_step() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("other"), "").unwrap();
        std::os::unix::fs::symlink("other", dir.path().join(AUDIT)).unwrap();
        let mut done = 0;
        let note = AuditNote::default();
        let error = record(dir.path(), &note, &change("2"), || {
            done += 1;
            Ok(())
        })
        .unwrap_err()
        .to_string();
        assert!(error.contains("write the audit log") && error.contains("found a link") && done == 0, "{error}");
        assert_eq!(fs::read(dir.path().join("other")).unwrap(), b"");
    }
}
