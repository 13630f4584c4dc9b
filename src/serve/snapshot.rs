//! The format of a snapshot: what a process has read of the topic, up to positions that it names.
//!
//! A snapshot is only a cache: everything in it is also in the topic. It consists of blocks with checksums, and counts only once its
//! end has been read. It may contain changes from after its positions, because it is written while the process reads on. Reading the
//! topic from the positions gives the same users in any case. Left out on purpose: who was erased,
//! because a file must not name them. It would only matter for a decision that was made before an erasure in another partition, and
//! committed later than everything that the positions cover.

use super::store::Store;
use crate::blocks::{self, BLOCK_BYTES, BlockError};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

/// The first bytes, including the version. Before version 2, decisions had the features that their models were given.
const MAGIC: &[u8; 8] = b"AIMSERV2";

/// The first bytes of every version.
const MAGIC_OF_ALL: &[u8] = MAGIC.split_at(7).0;

/// Whether a file that begins with these bytes can be a snapshot, of any version. `first`: at least [`SNAPSHOT_START`] bytes, or
/// the whole file.
pub fn is_snapshot(first: &[u8]) -> bool {
    first.starts_with(MAGIC_OF_ALL) || MAGIC_OF_ALL.starts_with(first)
}

/// How many bytes tell whether a file is a snapshot.
pub const SNAPSHOT_START: usize = MAGIC_OF_ALL.len();

/// The kinds of entries.
const DECISION: u8 = 1;
const END: u8 = 2;

/// How far a partition has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The next offset to read.
    pub next: i64,
    /// The newest timestamp of the records before it, in milliseconds since 1970.
    pub newest_ms: i64,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotHead {
    /// The id of the cluster.
    pub cluster: String,
    /// The topic.
    pub topic: String,
    /// The application whose decisions are kept.
    pub app: String,
    /// When it was known that nothing was committed behind the positions, in microseconds since 1970.
    pub read_at: i64,
    /// The positions by partition.
    pub positions: BTreeMap<i32, Position>,
}

/// Why a snapshot is ignored.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotFault {
    /// It cannot be read.
    #[error("read it: {0}")]
    Read(#[from] io::Error),
    /// It is damaged or cut off.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

impl From<BlockError> for SnapshotFault {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Read(error) => Self::Read(error),
            BlockError::Damaged(why) => Self::Damaged(why),
        }
    }
}

/// Appends a record of a shard as an entry: its kind, its length, and the record.
fn write_entry(record: &[u8], to: &mut Vec<u8>) {
    to.push(DECISION);
    to.extend((record.len() as u32).to_le_bytes());
    to.extend_from_slice(record);
}

/// Writes what a store has of the partitions of the head.
///
/// # Errors
/// If it cannot be written.
pub fn write_snapshot(store: &Store, head: &SnapshotHead, to: &mut impl Write) -> io::Result<()> {
    to.write_all(MAGIC)?;
    let mut block = serde_json::to_vec(head)?;
    blocks::write(to, &mut block)?;
    // One part of the users is copied at a time, so that neither requests nor the reader wait for the disk.
    let mut entries = Vec::new();
    for shard in 0..super::SHARDS {
        entries.clear();
        let has = |partition| head.positions.contains_key(&partition);
        store.records(shard, &has, &mut |record| write_entry(record, &mut entries));
        for part in pieces(&entries) {
            block.extend_from_slice(part);
            if block.len() >= BLOCK_BYTES {
                blocks::write(to, &mut block)?;
            }
        }
    }
    block.extend([END, 0, 0, 0, 0]);
    blocks::write(to, &mut block)?;
    to.flush()
}

/// Entries one by one, each with its head.
fn pieces(mut entries: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (piece, rest) = entries.split_at_checked(length_of(entries)?)?;
        entries = rest;
        Some(piece)
    })
}

/// The length of the first entry, with its head of five bytes.
fn length_of(entries: &[u8]) -> Option<usize> {
    let length = entries.get(1..5)?.first_chunk::<4>()?;
    Some(5 + u32::from_le_bytes(*length) as usize)
}

/// Reads a snapshot.
pub struct SnapshotReader<R> {
    from: R,
    head: SnapshotHead,
}

impl<R: Read> SnapshotReader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// Why the snapshot cannot be used.
    pub fn open(mut from: R) -> Result<Self, SnapshotFault> {
        let mut magic = [0; MAGIC.len()];
        from.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(SnapshotFault::Damaged("it does not begin as one of this version"));
        }
        let mut block = Vec::new();
        if !blocks::read(&mut from, &mut block)? {
            return Err(SnapshotFault::Damaged("it has no head"));
        }
        let head = serde_json::from_slice(&block).map_err(|_| SnapshotFault::Damaged("its head cannot be read"))?;
        Ok(Self { from, head })
    }

    /// What it is of.
    pub fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Puts everything into a store, which is empty.
    ///
    /// # Errors
    /// If it is damaged. What is in the store must then be forgotten.
    pub fn read_into(mut self, store: &Store) -> Result<(), SnapshotFault> {
        let mut block = Vec::new();
        let mut has_ended = false;
        while blocks::read(&mut self.from, &mut block)? {
            let mut rest = block.as_slice();
            while !rest.is_empty() {
                if has_ended {
                    return Err(SnapshotFault::Damaged("it goes on behind its end"));
                }
                let entry = length_of(rest).and_then(|length| rest.split_at_checked(length));
                let (entry, after) = entry.ok_or(SnapshotFault::Damaged("an entry is too short"))?;
                rest = after;
                match entry {
                    [DECISION, _, _, _, _, record @ ..] => store.restore(record),
                    [END, ..] => has_ended = true,
                    _ => return Err(SnapshotFault::Damaged("it has an entry of an unknown kind")),
                }
            }
        }
        if has_ended { Ok(()) } else { Err(SnapshotFault::Damaged("it is cut off")) }
    }
}
