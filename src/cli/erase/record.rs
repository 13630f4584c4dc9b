//! The file of verified erasures: one JSON object a line, each signed and chained to the one before.
//!
//! Guarantees: a user is named by a keyed hash only. A line that was changed, moved, inserted or removed is noticed, except for
//! lines removed from the end: keep the last chain value, which each check prints, in another place. Limits: whoever has the
//! key can write another file.

use crate::cli::Exit;
use anyhow::Context;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Write},
    path::Path,
};

/// The chain value before the first line.
const START: [u8; 32] = [0; 32];

/// The shortest key.
const KEY_BYTES_MIN: usize = 16;

/// The environment variable with the key.
const KEY_VARIABLE: &str = "AIMPOINT_RECORD_KEY";

/// The version of the lines.
const VERSION: u32 = 1;

/// What was verified of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) topic: String,
    /// How many records were read.
    pub(super) records: u64,
    /// How many of them have the id and are in use.
    pub(super) held: u64,
    pub(super) superseded: u64,
    pub(super) input: u64,
}

/// What was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) at: String,
    /// A keyed hash of the user's key.
    pub(super) subject: String,
    pub(super) is_absent: bool,
    pub(super) erased_at: Option<String>,
    pub(super) places: Vec<Place>,
}

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    version: u32,
    number: u64,
    #[serde(flatten)]
    entry: Entry,
    /// The SHA-256 of the line before.
    before: String,
    /// The HMAC-SHA-256 of the line without this member.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    signature: String,
}

/// The key of a record.
pub(super) struct Key(Vec<u8>);

impl Key {
    /// Reads the key from a file or, without one, from the environment.
    pub(super) fn read(path: Option<&Path>) -> anyhow::Result<Self> {
        let (bytes, from) = match path {
            Some(path) => {
                let from = path.display().to_string();
                (std::fs::read(path).with_context(|| format!("read the key of the record in {from}"))?, from)
            }
            None => match std::env::var(KEY_VARIABLE) {
                Ok(text) => (text.into_bytes(), KEY_VARIABLE.to_owned()),
                Err(_) => {
                    return Err(Exit::Usage.because(format!(
                        "read the key of the record: set {KEY_VARIABLE}, or give a file with --record-key"
                    )));
                }
            },
        };
        let key = bytes.trim_ascii().to_vec();
        if key.len() < KEY_BYTES_MIN {
            return Err(Exit::Usage.because(format!(
                "the key of the record in {from} has {} bytes, and needs at least {KEY_BYTES_MIN}; make one with: openssl rand -hex 32",
                key.len()
            )));
        }
        Ok(Self(key))
    }

    /// A keyed hash. Different purposes give unrelated hashes.
    fn hash(&self, purpose: &str, bytes: &[u8]) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is taken");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(bytes);
        mac.finalize().into_bytes().into()
    }

    /// What stands for a user in the file.
    pub(super) fn pseudonym(&self, user_key: &[u8]) -> String {
        crate::hex::encode(&self.hash("subject", user_key))
    }

    fn signature(&self, line: &Line) -> String {
        let unsigned = Line { signature: String::new(), ..line.clone() };
        crate::hex::encode(&self.hash("line", serde_json::to_string(&unsigned).expect("texts and numbers").as_bytes()))
    }
}

/// The end of a valid file: how many lines, and the chain value after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    lines: u64,
    chain: [u8; 32],
}

/// Checks all lines.
fn read(path: &Path, key: &Key, from: impl BufRead) -> anyhow::Result<End> {
    let mut end = End { lines: 0, chain: START };
    for text in from.lines() {
        let text = text.map_err(|error| Exit::Data.because(format!("read {}: {error}", path.display())))?;
        let number = end.lines + 1;
        let refused = |what: &str| {
            Exit::Data.because(format!(
                "check the record in {}: line {number} {what}: the file is not as it was written, or the key is another one",
                path.display()
            ))
        };
        let line: Line = serde_json::from_str(&text).map_err(|_| refused("cannot be read"))?;
        if line.version != VERSION || line.number != number || line.before != crate::hex::encode(&end.chain) {
            return Err(refused("does not follow the one before it"));
        }
        // The text itself, so that nothing can be hidden in members that are not read.
        if key.signature(&line) != line.signature || serde_json::to_string(&line).ok().as_deref() != Some(&text) {
            return Err(refused("has another signature"));
        }
        end = End { lines: number, chain: Sha256::digest(&text).into() };
    }
    Ok(end)
}

/// Appends an entry, after checking the file.
pub(super) fn append(path: &Path, key: &Key, entry: Entry) -> anyhow::Result<()> {
    let doing = || format!("append to the record in {}", path.display());
    let end = match File::open(path) {
        Ok(file) => read(path, key, BufReader::new(file))?,
        Err(error) if error.kind() == ErrorKind::NotFound => End { lines: 0, chain: START },
        Err(error) => return Err(error).with_context(doing),
    };
    let before = crate::hex::encode(&end.chain);
    let mut line = Line { version: VERSION, number: end.lines + 1, entry, before, signature: String::new() };
    line.signature = key.signature(&line);
    let mut file = File::options().create(true).append(true).open(path).with_context(doing)?;
    file.write_all(format!("{}\n", serde_json::to_string(&line)?).as_bytes()).with_context(doing)?;
    file.sync_all().with_context(doing)
}

/// Checks a file, and prints how many entries it has.
pub(super) fn check(path: &Path, key: &Key, out: &mut impl Write) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("check the record in {}", path.display()))?;
    let End { lines, chain } = read(path, key, BufReader::new(file))?;
    writeln!(out, "{} is as it was written: {lines} entries, chain {}", path.display(), crate::hex::encode(&chain))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u64) -> Entry {
        let places = vec![Place { topic: "decisions".to_owned(), records: number, held: 0, superseded: 2, input: 0 }];
        let subject = Key(vec![7; 16]).pseudonym(b"ann@example.com");
        Entry { at: format!("2026-01-0{number}T00:00:00Z"), subject, is_absent: true, erased_at: None, places }
    }

    fn lines(count: u64) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record");
        (1..=count).for_each(|number| append(&path, &Key(vec![7; 16]), entry(number)).unwrap());
        std::fs::read_to_string(&path).unwrap().lines().map(str::to_owned).collect()
    }

    fn checked(lines: &[String], key: u8) -> Result<u64, String> {
        let text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
        let found = read(Path::new("record"), &Key(vec![key; 16]), text.as_bytes());
        found.map(|end| end.lines).map_err(|error| error.to_string())
    }

    #[test]
    fn entries_follow_each_other_and_name_nobody() {
        let lines = lines(3);
        assert_eq!(checked(&lines, 7), Ok(3));
        assert_eq!(checked(&[], 7), Ok(0));
        assert!(lines.iter().all(|line| !line.contains("ann")), "{lines:?}");
        assert!(checked(&lines, 8).unwrap_err().contains("line 1 has another signature"));
        assert_ne!(Key(vec![7; 16]).pseudonym(b"ann"), Key(vec![8; 16]).pseudonym(b"ann"), "the hash has a key");
    }

    #[test]
    fn a_line_that_was_changed_moved_added_or_removed_is_noticed() {
        let lines = lines(4);
        let changed = |change: &dyn Fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            checked(&lines, 7)
        };
        for (name, found) in [
            ("changed", changed(&|it| it[1] = it[1].replace("\"is_absent\":true", "\"is_absent\":false"))),
            ("a member more", changed(&|it| it[1] = it[1].replacen('{', "{\"x\":1,", 1))),
            ("a blank more", changed(&|it| it[1] = it[1].replacen(':', ": ", 1))),
            ("moved", changed(&|it| it.swap(1, 2))),
            ("doubled", changed(&|it| it.insert(1, it[1].clone()))),
            ("removed", changed(&|it| drop(it.remove(1)))),
            ("the first removed", changed(&|it| drop(it.remove(0)))),
            ("cut", changed(&|it| it[3].truncate(90))),
        ] {
            assert!(found.is_err(), "{name}");
        }
        // This is why the last chain value is kept elsewhere.
        assert_eq!(changed(&|it| it.truncate(3)), Ok(3));
    }

    #[test]
    fn a_short_key_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "short\n").unwrap();
        let error = Key::read(Some(&path)).err().unwrap();
        assert!(error.to_string().contains("at least 16") && error.to_string().contains("openssl"), "{error}");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert_eq!(Key::read(Some(&path)).unwrap().0, b"0123456789abcdef");
    }
}
