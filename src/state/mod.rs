//! The keyed store of one partition: the words of each user's profile, by user key, and which profiles the changelog
//! does not have yet.
//!
//! Owns how profiles are held in memory, when an idle one is dropped, and the lazy changelog: a changed profile is
//! *dirty* from the first event that its record does not include. The oldest dirty profiles are written first, because
//! a replay after a crash starts at the oldest dirty event. What the words mean is up to `profile`; when to write is up
//! to the worker.
//!
//! Time here is partition time, which no single user's event can move ([`PartitionClock`]). A profile whose newest
//! event is older than the partition time by more than the TTL counts as gone, whether or not it has been swept. So
//! sweeping only frees memory and never affects a feature.
//!
//! Most users are idle at any moment, so most profiles are packed, which takes a fraction of the bytes. A profile is
//! opened when it gets an event, and packed again after a while without one ([`OPEN_SHARE`]).

mod changelog;
mod clock;
mod dirty;
mod erasing;
mod erasures;
mod expiring;
mod packed;
mod profiles;
mod recorded;
mod renaming;
mod slots;
mod snapshot;
mod timers;
mod writing;

pub(crate) use changelog::is_event_time;
pub use changelog::{
    Mark, NamedSince, ProfileRecord, Unfit, decode_profile, is_layout_key, is_reserved_key, layout_id, layout_key,
    without_state,
};
pub use clock::{CEILINGS_MAX, Ceilings, PartitionClock, WITNESSES};
pub use erasures::{ERASURES_MAX, Erasures, decode_erasure, erasure_key, is_erasure_key};
pub use packed::PackedWords;
pub use renaming::Renamed;
pub use snapshot::{SnapshotError, SnapshotOf, SnapshotReader, SnapshotWriter};
pub use timers::{DEADLINE_BYTES, TICKS_MAX, Ticks};

use crate::canary::{self, Canary};
use dirty::{Dirty, DirtyQueue};
use profiles::Profiles;
use recorded::Recorded;
use renaming::Moves;
use slots::{Account, CLEAN, Entry, Open, Place, Resting};
use std::borrow::Cow;
use timers::{AppliedTicks, Deadlines};

/// The hash of a user's key in the profile table. It is part of the mark, so it must not change between versions.
pub fn hash_key(key: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(key)
}

/// The stores of the assigned partitions.
pub trait Stores {
    /// The store of a partition.
    fn store(&mut self, partition: i32) -> &mut Store;
}

/// What has to be kept of a profile with these words that is dropped because it is too old.
pub type Outlives<'a> = &'a dyn Fn(&[u64]) -> Option<Vec<u64>>;

/// Of how many profiles a sweep keeps something; others wait for the next one. All of it is in one commit, about 100 bytes
/// each.
const KEPT_PER_SWEEP: usize = if cfg!(test) { 3 } else { 1 << 16 };

/// How many sweeps there are per TTL of partition time.
const SWEEPS_PER_TTL: i64 = 16;

/// At most one in this many profiles is open. With profiles of a few hundred bytes that doubles the memory per user.
/// With the usual distribution of clicks over users, four of five events then find their profile open.
pub const OPEN_SHARE: usize = 6;

/// The number of open profiles below which nothing is packed.
const OPEN_MIN: usize = 1_024;

/// The most bytes per user in the table, without key and profile: the table is at least 7/16 full once it has grown.
pub const TABLE_BYTES_MAX: usize = (size_of::<Entry>() + 1) * 16 / 7;

/// The most bytes per user, without the key, if a profile has at most this many words: in the table, packed, and the
/// user's share of the open profiles, whose memory may have grown to twice the words. It holds for more than 6,144
/// users; with fewer, a larger share is open. Excludes the allocator's overhead.
pub const fn user_bytes_max(words: usize) -> usize {
    let open = 2 * (size_of::<Open>() + words * 8);
    TABLE_BYTES_MAX + Resting::KEY_AT + packed::length_max(words) + open.div_ceil(OPEN_SHARE)
}

/// The most bytes of a profile record with this many words, including its key.
pub const fn record_bytes_max(words: usize) -> usize {
    const KEY_AND_FIELDS: usize = 1_024 + 128;
    packed::length_max(words) + KEY_AND_FIELDS
}

/// Packs words in the form used in memory, in the changelog and in snapshots.
pub fn pack(words: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed::pack(words, &mut bytes);
    bytes
}

/// Unpacks words; `None` if the bytes are not packed words.
pub fn unpack(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut words = Vec::new();
    packed::unpack(bytes, &mut words).then_some(words)
}

/// The number of bytes that the words take when packed.
pub fn packed_bytes(words: &[u64]) -> usize {
    packed::length(words)
}

/// A packed profile.
#[derive(Clone, Copy, Debug)]
pub struct PackedProfile<'a>(&'a [u8]);

/// The profiles of one partition.
#[derive(Debug, Default)]
pub struct Store {
    profiles: Profiles,
    clock: PartitionClock,
    ceilings: Ceilings,
    /// The partition's time at the last sweep.
    swept_at: Option<i64>,
    /// What the changelog lacks of the profiles.
    dirty: DirtyQueue,
    /// What the changelog has of them.
    recorded: Recorded,
    /// The users' deadlines: when something happens to them without an event.
    deadlines: Deadlines,
    ticks: AppliedTicks,
    /// How often the profiles were rebuilt from the input.
    generation: u64,
    /// The users who were erased. They outlast all profiles.
    erasures: Erasures,
    /// The users who move to another name.
    moves: Moves,
}

impl Store {
    /// An empty store of this generation.
    pub fn of_generation(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    /// How often the profiles of the partition were rebuilt from the input. Records of other generations are ignored.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of held profiles.
    pub fn len(&self) -> usize {
        self.profiles.len()
    }

    /// Whether no profile is held.
    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// The bytes of keys, profiles and the table with its slack. Excludes the allocator's overhead.
    pub fn bytes(&self) -> usize {
        self.profiles.bytes()
    }

    /// Estimates [`Store::bytes`] from a sample. The order of a hash table is random enough for that.
    pub fn bytes_estimate(&self) -> usize {
        self.profiles.bytes_estimate()
    }

    /// The words of a user's profile, if there is one.
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<Cow<'_, [u64]>> {
        self.profiles.get(hash, key)
    }

    /// All users with their words, unordered.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Cow<'_, [u64]>)> {
        self.profiles.iter()
    }

    /// Returns the words of a user for the event at `offset` to change, and the partition time including that event.
    /// The words of a new user start as `fresh`. `witnessed` is the event's time as far as it may move the partition
    /// time. `None` if the restored profile already includes the event. Allocates for a new user and for a packed
    /// profile.
    pub fn entry(
        &mut self,
        hash: u64,
        key: &[u8],
        fresh: &[u64],
        offset: i64,
        witnessed: i64,
    ) -> Option<(&mut Vec<u64>, Option<i64>)> {
        self.entry_of(hash, key, fresh, offset, (hash, witnessed))
    }

    /// Like [`Self::entry`], with the hash of the user who witnesses the time: while users move to other names, a profile may
    /// still have its former one.
    pub fn entry_of(
        &mut self,
        hash: u64,
        key: &[u8],
        fresh: &[u64],
        offset: i64,
        (witness, witnessed): (u64, i64),
    ) -> Option<(&mut Vec<u64>, Option<i64>)> {
        self.profiles.make_room();
        self.note_place(offset);
        let Self { profiles: Profiles { table, open }, dirty, clock, .. } = self;
        let same = |entry: &Entry| open.key(&entry.place) == key;
        let entry = match table.entry(hash, same, |entry| entry.hash) {
            hashbrown::hash_table::Entry::Occupied(entry) => entry.into_mut(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                let slot = open.take(hash, key, Account::NEW);
                open.slots[slot as usize].words.extend_from_slice(fresh);
                vacant.insert(Entry { hash, place: Place::Open(slot) }).into_mut()
            }
        };
        let mut account = open.account(&entry.place);
        if offset < account.covered && !canary::is_in(Canary::ReplayDoubleCounts) {
            clock.note(witness, witnessed);
            return None;
        }
        if account.first_dirty == CLEAN && !(canary::is_in(Canary::DirtyNotRewritten) && account.covered > i64::MIN) {
            account.first_dirty = offset;
            open.set_account(&mut entry.place, account);
            dirty.push(offset, hash, clock);
        }
        clock.note(witness, witnessed);
        // The snapshot includes the event but the changelog does not, so the profile is dirty nevertheless.
        if offset < account.applied && !canary::is_in(Canary::ReplayDoubleCounts) {
            return None;
        }
        let slot = open.open(hash, &mut entry.place);
        Some((&mut open.slots[slot as usize].words, clock.time()))
    }

    /// Notes the place of a row in the batch, even if it changes no profile: memberships may end after it.
    pub fn note_place(&mut self, offset: i64) {
        self.dirty.note_place(offset, &self.clock);
    }

    /// The words of a user who has a profile, for further changes by an event that [`Self::entry`] has already seen.
    /// Allocates for a packed profile.
    pub fn words(&mut self, hash: u64, key: &[u8]) -> Option<&mut Vec<u64>> {
        self.profiles.words(hash, key)
    }

    /// Prefetches what the events of these users will read. Loads issued together wait together.
    pub fn warm(&self, hashes: &[u64]) {
        self.profiles.warm(hashes);
    }

    /// The partition time and the users that define it.
    pub fn clock(&self) -> &PartitionClock {
        &self.clock
    }

    /// Starts a batch whose events may be followed by further changes to profiles. [`Self::expire`] needs to know where
    /// each of the batch's offsets can be replayed from.
    pub fn begin_batch(&mut self) {
        self.dirty.clear_batch();
    }

    /// The latest allowed time of the event at this offset. `latest` is what the process would allow now. It applies if
    /// the record is read for the first time, or if the limit from that first read is no longer known.
    pub fn ceiling(&mut self, offset: i64, is_replay: bool, latest: Option<i64>) -> Option<i64> {
        let known = self.ceilings.at(offset);
        if is_replay && (known.is_some() || canary::is_in(Canary::CeilingNotReplayed)) {
            return known.filter(|_| !canary::is_in(Canary::CeilingNotReplayed));
        }
        let Some(latest) = latest else { return known };
        // A process whose clock is behind must not refuse an event that is no further ahead than accepted ones.
        let latest = latest.max(self.clock.time().unwrap_or(i64::MIN));
        if known.is_none_or(|known| known < latest) {
            self.ceilings.forget_before(self.mark(offset).replay_from);
        }
        self.ceilings.follow(offset, latest);
        self.ceilings.at(offset)
    }

    /// The ceilings, which are kept even when all profiles are rebuilt.
    pub fn ceilings(&self) -> Ceilings {
        self.ceilings
    }

    /// If a sweep is due, drops the profiles for which `is_gone` returns true. It gets their first word and the
    /// partition time. `outlives` gets the words of such a profile, and returns what has to be kept of it
    /// ([`Erasures::keep`]), or `None` if it has nothing that could.
    ///
    /// A profile of which something is kept is dropped only once it is gone at the place where a replay would start. So a
    /// replay never meets what was kept later than it happened.
    pub fn sweep(&mut self, ttl: i64, is_gone: impl Fn(u64, i64) -> bool, outlives: Option<Outlives<'_>>) {
        let Some(time) = self.clock.time() else { return };
        let swept_at = *self.swept_at.get_or_insert(time);
        if time.saturating_sub(swept_at) > ttl / SWEEPS_PER_TTL {
            let Self { profiles: Profiles { table, open }, recorded, erasures, dirty, clock, .. } = self;
            let replay_time = dirty.replay_point().map_or(*clock, |point| point.clock).time();
            let (mut kept, mut is_cut) = (0, false);
            table.retain(|entry| {
                let first = open.first(&entry.place);
                let gone = is_gone(first, time);
                if gone && let Some(words) = outlives.and_then(|outlives| outlives(&open.read(&entry.place))) {
                    let (is_settled, key) =
                        (replay_time.is_some_and(|time| is_gone(first, time)), open.key(&entry.place));
                    if !is_settled {
                        return true;
                    }
                    // What refuses nothing changes notes only where it ends one.
                    if !words.is_empty() || erasures.kept(entry.hash, key).is_some() {
                        if kept == KEPT_PER_SWEEP {
                            is_cut = true;
                            return true;
                        }
                        kept += 1;
                        erasures.keep(entry.hash, key, first as i64, &words);
                    }
                }
                if gone {
                    recorded.sweep(entry.hash, open.key(&entry.place), open.account(&entry.place).covered);
                    open.give_back(&entry.place);
                }
                !gone
            });
            // The rest is swept soon, but not in the same commit.
            let pause = ttl / SWEEPS_PER_TTL;
            self.swept_at = Some(if is_cut { time.saturating_sub(pause - pause / 16) } else { time });
        }
    }

    /// Restores a profile whose record covers all events before `covered`, and whose state includes all events before
    /// `applied`; `None` is a tombstone. Must not be called after the first event.
    pub fn restore(&mut self, hash: u64, key: &[u8], packed: Option<&[u8]>, covered: i64, applied: i64) {
        let Self { profiles: Profiles { table, open }, recorded, .. } = self;
        let same = |entry: &Entry| open.key(&entry.place) == key;
        match (table.entry(hash, same, |entry| entry.hash), packed) {
            (hashbrown::hash_table::Entry::Occupied(entry), None) => {
                let place = entry.remove().0.place;
                recorded.remove(hash, open.account(&place).covered);
                open.give_back(&place);
            }
            (hashbrown::hash_table::Entry::Vacant(_), None) => {}
            (hashbrown::hash_table::Entry::Occupied(entry), Some(packed)) => {
                let place = &mut entry.into_mut().place;
                recorded.write(hash, open.account(place).covered, covered);
                let account = Account { covered, applied, ..Account::NEW };
                open.give_back(&std::mem::replace(place, Place::Rests(Resting::new(account, key, packed))));
            }
            (hashbrown::hash_table::Entry::Vacant(entry), Some(packed)) => {
                recorded.write(hash, i64::MIN, covered);
                let account = Account { covered, applied, ..Account::NEW };
                entry.insert(Entry { hash, place: Place::Rests(Resting::new(account, key, packed)) });
            }
        }
    }

    /// Records that a profile restored from a snapshot has been dirty since this offset, whatever later events do to
    /// it.
    pub fn restore_dirty(&mut self, hash: u64, key: &[u8], offset: i64) {
        let Self { profiles: Profiles { table, open }, dirty, .. } = self;
        if let Some(entry) = table.find_mut(hash, |entry| open.key(&entry.place) == key) {
            let account = open.account(&entry.place);
            if (account.covered..account.applied).contains(&offset) {
                open.set_account(&mut entry.place, Account { first_dirty: offset, ..account });
                dirty.restore(offset, hash);
            }
        }
    }

    /// Ends a restore, after which the input continues from `next`. Sorts the dirty profiles and drops those that the
    /// changelog has replaced since.
    pub fn end_restore(&mut self, next: i64) {
        let Self { profiles: Profiles { table, open }, dirty, clock, .. } = self;
        dirty.end_restore(next, clock, |Dirty { offset, hash }| {
            let is_it = |entry: &Entry| entry.hash == *hash && open.account(&entry.place).first_dirty == *offset;
            table.find(*hash, is_it).is_some()
        });
    }

    /// Replaces the state of a restored profile by another one that includes the same events.
    ///
    /// # Errors
    /// The error returned by `change`.
    pub fn convert<E>(
        &mut self,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        self.profiles.convert(hash, key, change)
    }

    /// Goes back to the partition time, ceilings and ticks of a mark, before a replay from there.
    pub fn rewind(&mut self, clock: PartitionClock, ceilings: Ceilings, ticks: Ticks) {
        (self.clock, self.ceilings, self.swept_at) = (clock, ceilings, clock.time());
        self.ticks = AppliedTicks::before(&ticks);
        self.dirty.clear_points();
    }
}

#[cfg(test)]
mod tests;
