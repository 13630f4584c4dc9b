//! An in-memory snapshot folder that damages its contents according to a seed.

use crate::engine::SnapshotStore;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    collections::BTreeMap,
    io::{Cursor, Error, ErrorKind, Read},
    sync::{Arc, Mutex, PoisonError},
};

#[derive(Debug)]
struct Kept {
    files: BTreeMap<i32, Vec<u8>>,
    opened: u64,
    random: SmallRng,
    damage: u32,
}

/// The folder. Clones share the same contents.
#[derive(Clone, Debug)]
pub struct MemorySnapshots(Arc<Mutex<Kept>>);

impl MemorySnapshots {
    /// An empty folder that damages or refuses this many thousandths of what it is given.
    pub fn new(seed: u64, damage: u32) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(Kept { files: BTreeMap::new(), opened: 0, random, damage })))
    }

    /// How often an existing snapshot was opened.
    pub fn opened(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).opened
    }

    /// Changes the bytes of a snapshot.
    pub fn change(&self, partition: i32, change: impl FnOnce(&mut Vec<u8>)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).files.entry(partition).or_default());
    }
}

impl SnapshotStore for MemorySnapshots {
    fn open(&self, partition: i32) -> std::io::Result<Option<Box<dyn Read + Send>>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.damage > 0 && kept.random.random_range(0..1_000) < kept.damage / 4 {
            return Err(Error::from(ErrorKind::PermissionDenied));
        }
        let Some(bytes) = kept.files.get(&partition).cloned() else { return Ok(None) };
        kept.opened += 1;
        Ok(Some(Box::new(Cursor::new(bytes))))
    }

    fn put(&mut self, partition: i32, mut bytes: Vec<u8>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.damage > 0 && kept.random.random_range(0..1_000) < kept.damage {
            let at = kept.random.random_range(0..bytes.len());
            match kept.random.random_range(0..3) {
                // The disk is full, and the previous snapshot stays.
                0 => return,
                1 => bytes.truncate(at),
                _ => bytes[at] ^= 1 << kept.random.random_range(0..8),
            }
        }
        kept.files.insert(partition, bytes);
    }

    fn finish(&mut self) {}
}
