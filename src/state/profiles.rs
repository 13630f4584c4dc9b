//! The profiles of a partition in memory, by user key: a few open ones, the others packed.

use super::{
    OPEN_MIN, OPEN_SHARE, PackedProfile,
    slots::{Entry, Open, OpenSlots, Place, Resting},
};
use hashbrown::HashTable;
use std::borrow::Cow;

/// The number of users prefetched at a time: about as many loads as a core can have in flight at once.
const WARMED: usize = 16;

/// The number of words in a cache line.
const WORDS_PER_LINE: usize = 8;

/// The profiles by user key.
#[derive(Debug, Default)]
pub(super) struct Profiles {
    pub(super) table: HashTable<Entry>,
    pub(super) open: OpenSlots,
}

impl Profiles {
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The bytes of keys, profiles and the table with its slack. Excludes the allocator's overhead.
    pub(super) fn bytes(&self) -> usize {
        let entry = |entry: &Entry| if let Place::Rests(resting) = &entry.place { resting.0.len() } else { 0 };
        let open = self.open.slots.iter().map(Open::bytes).sum::<usize>();
        self.table.iter().map(entry).sum::<usize>() + self.table.allocation_size() + open
    }

    /// Estimates [`Self::bytes`] from a sample. The order of a hash table is random enough for that.
    pub(super) fn bytes_estimate(&self) -> usize {
        const SOME: usize = 256;
        let entry = |entry: &Entry| {
            size_of::<Entry>()
                + match &entry.place {
                    Place::Open(slot) => self.open.slots[*slot as usize].bytes(),
                    Place::Rests(resting) => resting.0.len(),
                }
        };
        let some: usize = self.table.iter().take(SOME).map(entry).sum();
        some * self.len() / self.len().clamp(1, SOME)
    }

    /// The entry of a user, if there is a profile.
    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.table.find(hash, |entry| self.open.key(&entry.place) == key)
    }

    /// The words of a user's profile, if there is one.
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<Cow<'_, [u64]>> {
        self.find(hash, key).map(|entry| self.open.read(&entry.place))
    }

    /// All users with their words, unordered.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Cow<'_, [u64]>)> {
        self.table.iter().map(|entry| (self.open.key(&entry.place), self.open.read(&entry.place)))
    }

    /// The words of a user who has a profile, to be changed. Allocates for a packed profile.
    pub(super) fn words(&mut self, hash: u64, key: &[u8]) -> Option<&mut Vec<u64>> {
        let Self { table, open } = self;
        let entry = table.find_mut(hash, |entry| open.key(&entry.place) == key)?;
        let slot = open.open(hash, &mut entry.place);
        Some(&mut open.slots[slot as usize].words)
    }

    /// Prefetches what the events of these users will read. Loads issued together wait together.
    pub(super) fn warm(&self, hashes: &[u64]) {
        let mut sum = 0_u64;
        let mut places = [None; WARMED];
        for hashes in hashes.chunks(WARMED) {
            for (hash, place) in hashes.iter().zip(&mut places) {
                *place = self.table.find(*hash, |entry| entry.hash == *hash).map(|entry| &entry.place);
            }
            for place in places[..hashes.len()].iter().flatten() {
                sum ^= match place {
                    Place::Open(slot) => self.open.slots[*slot as usize].hash,
                    Place::Rests(resting) => u64::from(resting.0[0]),
                };
            }
            for place in places[..hashes.len()].iter().flatten() {
                if let Place::Open(slot) = place {
                    let open = &self.open.slots[*slot as usize];
                    sum ^= open.words.iter().step_by(WORDS_PER_LINE).fold(0, |sum, word| sum ^ word);
                    sum ^= open.key.first().copied().map_or(0, u64::from);
                }
            }
        }
        std::hint::black_box(sum);
    }

    /// Packs an idle profile if too many are open.
    pub(super) fn make_room(&mut self) {
        let Self { table, open } = self;
        let allowed = OPEN_MIN.max(table.len() / OPEN_SHARE);
        if open.slots.len() - open.free.len() < allowed {
            return;
        }
        let Some(slot) = open.idle() else { return };
        let is_it = |entry: &Entry| matches!(entry.place, Place::Open(of) if of == slot);
        if let Some(entry) = table.find_mut(open.slots[slot as usize].hash, is_it) {
            let account = open.account(&entry.place);
            let (key, PackedProfile(packed)) = open.pack(&entry.place);
            let resting = Resting::new(account, key, packed);
            open.give_back(&std::mem::replace(&mut entry.place, Place::Rests(resting)));
        }
    }

    /// Replaces the state of a user's profile by another one that includes the same events.
    ///
    /// # Errors
    /// The error returned by `change`.
    pub(super) fn convert<E>(
        &mut self,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let Self { table, open } = self;
        if let Some(entry) = table.find_mut(hash, |entry| open.key(&entry.place) == key) {
            let account = open.account(&entry.place);
            let (_, PackedProfile(state)) = open.pack(&entry.place);
            let resting = Resting::new(account, key, &change(state)?);
            open.give_back(&std::mem::replace(&mut entry.place, Place::Rests(resting)));
        }
        Ok(())
    }
}
