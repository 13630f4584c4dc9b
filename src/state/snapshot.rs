//! The format of a snapshot: the profiles of one partition as of a committed position. It replaces reading the
//! changelog up to a changelog position that it records.
//!
//! A snapshot is only a cache. Everything in it is also in the changelog, and nothing in it is trusted: it comes in
//! blocks with checksums and states its number of profiles, partition, layout and committed position. If any of these
//! does not match, it is ignored. Limits: a block holds `BLOCK_BYTES` plus one profile.

use crate::blocks::{self, BLOCK_BYTES, BlockError};
use std::io::Read;

/// The first bytes, including the version.
const MAGIC: &[u8; 8] = b"AIMSNAP1";

/// What a snapshot contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOf {
    /// The partition.
    pub partition: i32,
    /// The id of the layout of its profiles.
    pub layout: String,
    /// The committed position up to which every profile is complete; the `as_of` of a record is that of the changelog.
    pub committed: i64,
    /// The changelog position to continue reading from. The store had everything before it when the snapshot was taken.
    pub changelog: i64,
    /// How many profiles it has.
    pub profiles: u64,
}

/// Why a snapshot is ignored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It cannot be read.
    #[error("read the snapshot: {0}")]
    Read(#[from] std::io::Error),
    /// It is damaged or truncated.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// It belongs to another partition, layout or position.
    #[error("the snapshot is of another {0}")]
    Other(&'static str),
}

/// Writes a snapshot into memory.
#[derive(Debug)]
pub struct SnapshotWriter {
    bytes: Vec<u8>,
    block: Vec<u8>,
    profiles: u64,
    head: SnapshotOf,
}

impl SnapshotWriter {
    /// Starts a snapshot.
    pub fn new(head: SnapshotOf) -> Self {
        Self { bytes: Vec::new(), block: Vec::new(), profiles: 0, head }
    }

    /// Adds a profile: its key and its record.
    pub fn push(&mut self, key: &[u8], record: &[u8]) {
        for part in [key, record] {
            self.block.extend((part.len() as u32).to_le_bytes());
            self.block.extend(part);
        }
        self.profiles += 1;
        if self.block.len() >= BLOCK_BYTES {
            close(&mut self.bytes, &mut self.block);
        }
    }

    /// Returns the complete snapshot.
    pub fn finish(mut self) -> Vec<u8> {
        close(&mut self.bytes, &mut self.block);
        let mut head = Vec::new();
        head.extend(self.head.partition.to_le_bytes());
        head.extend(self.head.committed.to_le_bytes());
        head.extend(self.head.changelog.to_le_bytes());
        head.extend(self.profiles.to_le_bytes());
        head.extend(self.head.layout.as_bytes());
        let mut all = MAGIC.to_vec();
        close(&mut all, &mut head);
        all.append(&mut self.bytes);
        all
    }
}

/// Appends a block.
fn close(to: &mut Vec<u8>, block: &mut Vec<u8>) {
    // Writing into memory does not fail.
    blocks::write(to, block).unwrap_or_default();
}

/// Reads a snapshot block by block.
pub struct SnapshotReader {
    from: Box<dyn Read + Send>,
    head: SnapshotOf,
    block: Vec<u8>,
    left: u64,
}

impl SnapshotReader {
    /// Reads the head. Rejects a snapshot of another partition or layout, or of a position that is not committed.
    ///
    /// # Errors
    /// Why the snapshot cannot be used.
    pub fn open(
        mut from: Box<dyn Read + Send>,
        partition: i32,
        layout: &str,
        committed: i64,
    ) -> Result<Self, SnapshotError> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(SnapshotError::Damaged("it does not begin as one"));
        }
        let mut block = Vec::new();
        if !next_block(&mut from, &mut block)? {
            return Err(SnapshotError::Damaged("it has no head"));
        }
        let mut rest = block.as_slice();
        let head = SnapshotOf {
            partition: i32::from_le_bytes(take(&mut rest)?),
            committed: i64::from_le_bytes(take(&mut rest)?),
            changelog: i64::from_le_bytes(take(&mut rest)?),
            profiles: u64::from_le_bytes(take(&mut rest)?),
            layout: String::from_utf8_lossy(rest).into_owned(),
        };
        if head.committed < 0 || head.changelog < 0 {
            return Err(SnapshotError::Damaged("it is of a negative position"));
        }
        if head.partition != partition {
            return Err(SnapshotError::Other("partition"));
        }
        if head.layout != layout {
            return Err(SnapshotError::Other("layout"));
        }
        if head.committed > committed {
            return Err(SnapshotError::Other("history: it is ahead of what is committed"));
        }
        Ok(Self { from, left: head.profiles, head, block })
    }

    /// What the snapshot contains.
    pub fn of(&self) -> &SnapshotOf {
        &self.head
    }

    /// Passes the key and record of each profile of the next block to `visit`; returns whether there may be more.
    ///
    /// # Errors
    /// If the snapshot is damaged. Anything already passed to `visit` must then be discarded.
    pub fn next(&mut self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<bool, SnapshotError> {
        if !next_block(&mut self.from, &mut self.block)? {
            return if self.left == 0 { Ok(false) } else { Err(SnapshotError::Damaged("it is cut off")) };
        }
        let mut rest = self.block.as_slice();
        while !rest.is_empty() {
            let (key, record) = (part(&mut rest)?, part(&mut rest)?);
            self.left = self.left.checked_sub(1).ok_or(SnapshotError::Damaged("it has too many profiles"))?;
            visit(key, record);
        }
        Ok(true)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], SnapshotError> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or(SnapshotError::Damaged("a block is too short"))?;
    *rest = after;
    Ok(*bytes)
}

fn part<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], SnapshotError> {
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let (part, after) = rest.split_at_checked(length).ok_or(SnapshotError::Damaged("a block is too short"))?;
    *rest = after;
    Ok(part)
}

/// Reads and checks the next block; returns whether there was one.
fn next_block(from: &mut impl Read, block: &mut Vec<u8>) -> Result<bool, SnapshotError> {
    blocks::read(from, block).map_err(|error| match error {
        BlockError::Read(error) => SnapshotError::Read(error),
        BlockError::Damaged(why) => SnapshotError::Damaged(why),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(profiles: usize) -> Vec<u8> {
        let head = SnapshotOf { partition: 3, layout: "f".to_owned(), committed: 70, changelog: 9, profiles: 0 };
        let mut writer = SnapshotWriter::new(head);
        (0..profiles).for_each(|number| writer.push(format!("u{number}").as_bytes(), &[7; 900]));
        writer.finish()
    }

    /// The number of profiles in it, or why it is ignored.
    fn read(bytes: &[u8], partition: i32, layout: &str, committed: i64) -> Result<usize, String> {
        let from = Box::new(std::io::Cursor::new(bytes.to_vec()));
        let told = |error: SnapshotError| error.to_string();
        let mut reader = SnapshotReader::open(from, partition, layout, committed).map_err(told)?;
        let mut profiles = 0;
        while reader.next(|_, record| profiles += usize::from(record == [7; 900])).map_err(told)? {}
        Ok(profiles)
    }

    #[test]
    fn a_snapshot_comes_back_as_it_was_and_of_something_else_not_at_all() {
        for profiles in [0, 1, 500] {
            assert_eq!(read(&snapshot(profiles), 3, "f", 70), Ok(profiles));
        }
        let whole = snapshot(2);
        let refused = |partition, layout, committed| read(&whole, partition, layout, committed).unwrap_err();
        assert_eq!(refused(4, "f", 70), "the snapshot is of another partition");
        assert_eq!(refused(3, "g", 70), "the snapshot is of another layout");
        assert!(refused(3, "f", 69).contains("ahead of what is committed"));
    }

    #[test]
    fn snapshots_are_written_and_read_as_folders_have_them() {
        // If these bytes changed, no snapshot of an earlier release could be read.
        const GOLDEN: &str = "41494d534e4150311d000000a8d4fd0d9a5cdf940300000046000000000000000900000000000000010000000000000066\
            11000000c59f4f4e11e0625b03000000616e6e060000007265636f7264";
        let head = SnapshotOf { partition: 3, layout: "f".to_owned(), committed: 70, changelog: 9, profiles: 0 };
        let mut writer = SnapshotWriter::new(head);
        writer.push(b"ann", b"record");
        let bytes = writer.finish();
        assert_eq!(crate::hex::encode(&bytes), GOLDEN);
        let mut reader = SnapshotReader::open(Box::new(std::io::Cursor::new(bytes)), 3, "f", 70).unwrap();
        assert_eq!((reader.of().changelog, reader.of().profiles), (9, 1));
        let mut found = Vec::new();
        while reader.next(|key, record| found.push((key.to_vec(), record.to_vec()))).unwrap() {}
        assert_eq!(found, [(b"ann".to_vec(), b"record".to_vec())]);
    }

    #[test]
    fn a_snapshot_that_is_torn_or_has_a_bit_flipped_anywhere_is_noticed() {
        let whole = snapshot(100);
        for end in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
            assert!(read(&whole[..end], 3, "f", 70).is_err(), "cut at {end}");
        }
        for at in (0..whole.len()).step_by(89) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            assert!(read(&flipped, 3, "f", 70).is_err(), "flipped at {at}");
        }
    }
}
