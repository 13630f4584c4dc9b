//! Caches what consent strings say.
//!
//! A string is identified by 128 bits of keyed hashes. The keys are random and differ between processes, so nobody can
//! construct two strings that collide, and a collision by chance is out of the question. Keeping and comparing the strings
//! themselves would take longer than the rest of a hit, because they are rarely in the processor's cache. Slots are grouped
//! into sets of [`WAYS`]. Each string belongs to one set, where a new one replaces one that was not asked
//! for since the last search for a place.
//!
//! Limits: the declared number of strings. A hit allocates nothing.

use super::{SectionIds, decode::Reading};
use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
use std::hash::{BuildHasher, RandomState};

/// The slots that a string may be in. Their tags share a line of the processor's cache. With four, 6 % of 10,000 strings in
/// 16,384 slots would not find a place.
const WAYS: usize = 8;

/// A string, and the sections that it is read for. A TC string has its own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key<'a> {
    Tc(&'a str),
    Gpp(&'a str, SectionIds),
}

impl<'a> Key<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::Tc(text) | Self::Gpp(text, _) => text,
        }
    }

    /// Tells keys with the same text apart. A multiplication spreads its bits, because most of them are zeros.
    fn kind(self) -> u64 {
        let kind = match self {
            // No set of sections is all ones: 3 and 4 are never in it.
            Self::Tc(_) => u64::MAX,
            Self::Gpp(_, sections) => sections.bits(),
        };
        kind.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    hash: [u64; 2],
    reading: Reading,
    /// Whether it was asked for since the last search for a place.
    is_used: bool,
}

/// The cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    /// The keys of the two hashes.
    secrets: Box<[RapidSecrets; 2]>,
    /// A part of each slot's hash, in sets; 0 if the slot is empty.
    tags: Box<[[u32; WAYS]]>,
    slots: Box<[Slot]>,
}

impl Cache {
    /// A cache for this many strings, rounded up to a power of two.
    pub(super) fn new(strings_max: usize) -> Self {
        let slots = strings_max.max(WAYS).next_power_of_two();
        let random = RandomState::new();
        Self {
            secrets: Box::new([0, 1].map(|number: u8| RapidSecrets::seed(random.hash_one(number)))),
            tags: vec![[0; WAYS]; slots / WAYS].into(),
            slots: vec![Slot::default(); slots].into(),
        }
    }

    /// What a string says: from the cache, or by reading it. Returns whether it was in the cache.
    pub(super) fn get(&mut self, key: Key<'_>, read: impl FnOnce() -> Reading) -> (Reading, bool) {
        let hash = self.hash(key);
        let set = hash[0] as usize & (self.tags.len() - 1);
        let tag = (hash[0] >> 32) as u32 | 1;
        for way in 0..WAYS {
            if self.tags[set][way] == tag {
                let slot = &mut self.slots[set * WAYS + way];
                if slot.hash == hash {
                    slot.is_used = true;
                    return (slot.reading, true);
                }
            }
        }
        let reading = read();
        let way = self.place(set, tag);
        self.tags[set][way] = tag;
        self.slots[set * WAYS + way] = Slot { hash, reading, is_used: false };
        (reading, false)
    }

    fn hash(&self, key: Key<'_>) -> [u64; 2] {
        let text = key.text().as_bytes();
        self.secrets.each_ref().map(|secrets| rapidhash_v3_seeded(text, secrets) ^ key.kind())
    }

    /// The way of a set for a new string: an empty one, one that was not asked for, or any.
    fn place(&mut self, set: usize, tag: u32) -> usize {
        if let Some(way) = self.tags[set].iter().position(|tag| *tag == 0) {
            return way;
        }
        let slots = &mut self.slots[set * WAYS..][..WAYS];
        let start = tag as usize >> 1;
        let mut ways = (0..WAYS).map(|step| (start + step) % WAYS);
        let unused = ways.find(|way| !slots[*way].is_used);
        for slot in slots {
            slot.is_used = false;
        }
        unused.unwrap_or(start % WAYS)
    }
}

#[cfg(test)]
mod tests;
