//! How profiles are held in memory: packed, or open in a slot.

use super::{PackedProfile, packed};
use std::borrow::Cow;

/// The `first_dirty` of a profile whose record is up to date.
pub(super) const CLEAN: i64 = i64::MAX;

/// A freed slot keeps its memory up to this many words.
const WORDS_USUAL: usize = 48;

/// Which of a user's events are included where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    /// The changelog record includes every event before this offset.
    pub(super) covered: i64,
    /// The words include every event before this offset, if they come from a snapshot.
    pub(super) applied: i64,
    /// The first event that the record does not include, or [`CLEAN`].
    pub(super) first_dirty: i64,
}

impl Account {
    /// For a user without a record.
    pub(super) const NEW: Self = Self { covered: i64::MIN, applied: i64::MIN, first_dirty: CLEAN };
}

/// A user with a packed profile in one piece of memory, so that it takes a single allocation.
///
/// ```text
/// covered | applied | first dirty: 8 bytes each | length of the key: 4 | key | packed words
/// ```
#[derive(Debug)]
pub(super) struct Resting(pub(super) Box<[u8]>);

impl Resting {
    pub(super) const KEY_AT: usize = 28;

    pub(super) fn new(account: Account, key: &[u8], packed: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(Self::KEY_AT + key.len() + packed.len());
        for offset in [account.covered, account.applied, account.first_dirty] {
            bytes.extend_from_slice(&offset.to_ne_bytes());
        }
        bytes.extend_from_slice(&(key.len() as u32).to_ne_bytes());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(packed);
        Self(bytes.into_boxed_slice())
    }

    fn offset(&self, number: usize) -> i64 {
        self.0[number * 8..].first_chunk().copied().map_or(CLEAN, i64::from_ne_bytes)
    }

    fn account(&self) -> Account {
        Account { covered: self.offset(0), applied: self.offset(1), first_dirty: self.offset(2) }
    }

    fn set_account(&mut self, account: Account) {
        for (number, offset) in [account.covered, account.applied, account.first_dirty].into_iter().enumerate() {
            self.0[number * 8..(number + 1) * 8].copy_from_slice(&offset.to_ne_bytes());
        }
    }

    fn words_at(&self) -> usize {
        Self::KEY_AT + self.0[24..].first_chunk().copied().map_or(0, u32::from_ne_bytes) as usize
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0[Self::KEY_AT..self.words_at()]
    }

    pub(super) fn packed(&self) -> &[u8] {
        &self.0[self.words_at()..]
    }
}

/// Where a user's profile is held.
#[derive(Debug)]
pub(super) enum Place {
    /// Unpacked, in a slot.
    Open(u32),
    /// Packed.
    Rests(Resting),
}

/// A slot for an open profile. Its memory is reused.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) words: Vec<u64>,
    pub(super) key: Vec<u8>,
    account: Account,
    pub(super) hash: u64,
}

impl Open {
    /// The bytes of memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.words.capacity() * 8 + self.key.capacity()
    }
}

/// The state of a slot for the clock algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Free,
    /// No event since the hand last passed.
    Idle,
    /// An event since the hand last passed.
    Touched,
}

/// The open profiles of a partition, with the hand that looks for an idle one to pack (the clock algorithm of page
/// caches).
#[derive(Debug, Default)]
pub(super) struct OpenSlots {
    pub(super) slots: Vec<Open>,
    /// By slot. A separate vector, so that the hand does not touch the memory of the slots it passes.
    pub(super) uses: Vec<Use>,
    pub(super) free: Vec<u32>,
    hand: usize,
    packing: Vec<u8>,
    unpacking: Vec<u64>,
}

impl OpenSlots {
    /// The words of a profile.
    pub(super) fn read<'a>(&'a self, place: &'a Place) -> Cow<'a, [u64]> {
        match place {
            Place::Open(slot) => Cow::Borrowed(&self.slots[*slot as usize].words),
            Place::Rests(resting) => {
                let mut words = Vec::new();
                packed::unpack(resting.packed(), &mut words);
                Cow::Owned(words)
            }
        }
    }

    pub(super) fn key<'a>(&'a self, place: &'a Place) -> &'a [u8] {
        match place {
            Place::Open(slot) => &self.slots[*slot as usize].key,
            Place::Rests(resting) => resting.key(),
        }
    }

    pub(super) fn account(&self, place: &Place) -> Account {
        match place {
            Place::Open(slot) => self.slots[*slot as usize].account,
            Place::Rests(resting) => resting.account(),
        }
    }

    pub(super) fn set_account(&mut self, place: &mut Place, account: Account) {
        match place {
            Place::Open(slot) => self.slots[*slot as usize].account = account,
            Place::Rests(resting) => resting.set_account(account),
        }
    }

    /// The first word of a profile.
    pub(super) fn first(&self, place: &Place) -> u64 {
        match place {
            Place::Open(slot) => self.slots[*slot as usize].words.first().copied(),
            Place::Rests(resting) => packed::first(resting.packed()),
        }
        .unwrap_or_default()
    }

    /// The key and the packed words of a profile.
    pub(super) fn pack<'a>(&'a mut self, place: &'a Place) -> (&'a [u8], PackedProfile<'a>) {
        match place {
            Place::Open(slot) => {
                let open = &self.slots[*slot as usize];
                self.packing.clear();
                packed::pack(&open.words, &mut self.packing);
                (&open.key, PackedProfile(&self.packing))
            }
            Place::Rests(resting) => (resting.key(), PackedProfile(resting.packed())),
        }
    }

    /// Takes a slot for a user; its words are empty.
    pub(super) fn take(&mut self, hash: u64, key: &[u8], account: Account) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            let (words, key) = (Vec::new(), Vec::new());
            self.slots.push(Open { words, key, account, hash });
            self.uses.push(Use::Touched);
            (self.slots.len() - 1) as u32
        });
        let open = &mut self.slots[slot as usize];
        open.key.extend_from_slice(key);
        (open.account, open.hash) = (account, hash);
        self.uses[slot as usize] = Use::Touched;
        slot
    }

    /// Opens a packed profile and returns its slot.
    pub(super) fn open(&mut self, hash: u64, place: &mut Place) -> u32 {
        let slot = match place {
            Place::Open(slot) => *slot,
            Place::Rests(resting) => {
                let slot = self.take(hash, resting.key(), resting.account());
                packed::unpack(resting.packed(), &mut self.slots[slot as usize].words);
                *place = Place::Open(slot);
                slot
            }
        };
        self.uses[slot as usize] = Use::Touched;
        slot
    }

    /// Passes the key and the words of a profile to `change`, which returns whether it changed them. Returns the same.
    /// A packed profile stays packed.
    pub(super) fn change(&mut self, place: &mut Place, change: impl FnOnce(&[u8], &mut [u64]) -> bool) -> bool {
        match place {
            Place::Open(slot) => {
                let Open { key, words, .. } = &mut self.slots[*slot as usize];
                change(key, words)
            }
            Place::Rests(resting) => {
                self.unpacking.clear();
                packed::unpack(resting.packed(), &mut self.unpacking);
                let has_changed = change(resting.key(), &mut self.unpacking);
                if has_changed {
                    self.packing.clear();
                    packed::pack(&self.unpacking, &mut self.packing);
                    *resting = Resting::new(resting.account(), resting.key(), &self.packing);
                }
                has_changed
            }
        }
    }

    /// Frees a slot, and its memory if that has grown far beyond the usual need.
    pub(super) fn give_back(&mut self, place: &Place) {
        if let Place::Open(slot) = place {
            let open = &mut self.slots[*slot as usize];
            self.uses[*slot as usize] = Use::Free;
            open.words.clear();
            open.words.shrink_to(WORDS_USUAL);
            open.key.clear();
            self.free.push(*slot);
        }
    }

    /// The next slot without an event since the hand last passed.
    pub(super) fn idle(&mut self) -> Option<u32> {
        for _ in 0..2 * self.uses.len() {
            let at = self.hand;
            self.hand = if at + 1 < self.uses.len() { at + 1 } else { 0 };
            match self.uses[at] {
                Use::Idle => return Some(at as u32),
                Use::Touched => self.uses[at] = Use::Idle,
                Use::Free => {}
            }
        }
        None
    }
}

/// One user.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) place: Place,
}
