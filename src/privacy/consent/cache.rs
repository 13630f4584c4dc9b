//! Remembers what consent strings say, by the string.
//!
//! A string is found by its hash and then compared as a whole, so that two strings with the same hash never share an
//! answer. Slots are grouped into sets of [`WAYS`]: a string can be in one set only, and a new one takes the place of
//! one that was not asked for since the last time. Somebody who makes strings that fall into one set makes that set
//! useless, and changes no answer.
//!
//! Limits: the declared number of strings, and [`BYTES_EACH`] bytes for each of them in all. If a string does not fit,
//! others make room; one that would need more than a sixteenth of it all is not kept. A hit allocates nothing.

use super::{SectionIds, decode::Reading};
use rapidhash::v3::rapidhash_v3;

/// The slots that a string may be in. Their tags share a line of the processor's cache. With four, 6 % of 10,000 strings in
/// 16,384 slots would not find a place.
const WAYS: usize = 8;

/// The bytes of text for each slot, on average. Most strings of the European framework have 80 to 500.
const BYTES_EACH: usize = 512;

/// The slots that are looked at to make room for one string.
const SWEEP_MAX: usize = 64;

/// The part of all text that one string may take.
const SHARE: usize = 16;

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

    /// Differs between keys with the same text.
    fn kind(self) -> u64 {
        match self {
            // No set of sections is all ones: 3 and 4 are never in it.
            Self::Tc(_) => u64::MAX,
            Self::Gpp(_, sections) => sections.bits(),
        }
    }

    fn hash(self) -> u64 {
        // The kind is mixed in by a multiplication, because most of its bits are zeros.
        rapidhash_v3(self.text().as_bytes()) ^ self.kind().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

#[derive(Clone, Debug, Default)]
struct Slot {
    text: Box<str>,
    kind: u64,
    reading: Reading,
    /// Whether it was asked for since the last search for a place.
    is_used: bool,
}

/// The cache.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    /// A part of each slot's hash, in sets; 0 if the slot is empty.
    tags: Box<[[u32; WAYS]]>,
    slots: Box<[Slot]>,
    bytes: usize,
    bytes_max: usize,
    /// Where the next sweep for room begins.
    hand: usize,
}

impl Cache {
    /// A cache for this many strings, rounded up to a power of two.
    pub(super) fn new(strings_max: usize) -> Self {
        let slots = strings_max.max(WAYS).next_power_of_two();
        Self {
            tags: vec![[0; WAYS]; slots / WAYS].into(),
            slots: vec![Slot::default(); slots].into(),
            bytes: 0,
            bytes_max: slots * BYTES_EACH,
            hand: 0,
        }
    }

    /// What a string says: from the cache, or by reading it. Returns whether it was in the cache.
    pub(super) fn get(&mut self, key: Key<'_>, read: impl FnOnce() -> Reading) -> (Reading, bool) {
        let hash = key.hash();
        let set = hash as usize & (self.tags.len() - 1);
        let tag = (hash >> 32) as u32 | 1;
        for way in 0..WAYS {
            if self.tags[set][way] == tag {
                let slot = &mut self.slots[set * WAYS + way];
                if slot.kind == key.kind() && *slot.text == *key.text() {
                    slot.is_used = true;
                    return (slot.reading, true);
                }
            }
        }
        let reading = read();
        self.keep(key, (set, tag), reading);
        (reading, false)
    }

    fn keep(&mut self, key: Key<'_>, (set, tag): (usize, u32), reading: Reading) {
        let needed = key.text().len();
        if needed > self.bytes_max / SHARE {
            return;
        }
        let way = self.place(set, tag);
        self.forget(set * WAYS + way);
        if !self.make_room(needed) {
            return;
        }
        self.bytes += needed;
        self.tags[set][way] = tag;
        self.slots[set * WAYS + way] = Slot { text: key.text().into(), kind: key.kind(), reading, is_used: false };
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

    fn make_room(&mut self, needed: usize) -> bool {
        for _ in 0..SWEEP_MAX {
            if self.bytes + needed <= self.bytes_max {
                return true;
            }
            let slot = self.hand;
            self.hand = (slot + 1) % self.slots.len();
            self.forget(slot);
        }
        self.bytes + needed <= self.bytes_max
    }

    fn forget(&mut self, slot: usize) {
        self.tags[slot / WAYS][slot % WAYS] = 0;
        self.bytes -= self.slots[slot].text.len();
        self.slots[slot] = Slot::default();
    }
}

#[cfg(test)]
mod tests;
