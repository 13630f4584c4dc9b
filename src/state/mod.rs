//! The keyed store of one partition: the words of each user's profile by the user's key, and which of them the changelog
//! does not have yet.
//!
//! Owns where profiles lie in memory, when an idle one is dropped, and the lazy changelog: a changed profile is *dirty* from the
//! first event that its record does not cover. The oldest dirty profiles are written first, so that a replay after a crash
//! begins at the oldest dirty event. Leaves alone what the words mean, which is the business of `profile`, and when to write,
//! which is the worker's.
//!
//! Time here is the partition's, which no single user's event moves ([`PartitionClock`]). A profile whose newest event is older
//! than that by more than the TTL counts as gone, whether it was swept or not, so that sweeping only frees memory and never
//! shows in a feature.
//!
//! Most users are idle at any moment, so most profiles are packed, in a fraction of the bytes. A profile that gets an event is
//! opened, and packed again after a while without one ([`OPEN_SHARE`]).

mod changelog;
mod clock;
mod packed;
mod slots;
mod snapshot;
mod timers;

pub(crate) use changelog::is_event_time;
pub use changelog::{
    Mark, ProfileRecord, Unfit, decode_profile, is_layout_key, is_reserved_key, layout_id, layout_key, without_state,
};
pub use clock::{CEILINGS_MAX, Ceilings, PartitionClock, WITNESSES};
pub use packed::PackedWords;
pub use snapshot::{SnapshotError, SnapshotOf, SnapshotReader, SnapshotWriter};
pub use timers::{DEADLINE_BYTES, TICKS_MAX, Ticks};

use crate::canary::{self, Canary};
use changelog::record_digest;
use hashbrown::HashTable;
use slots::{Account, CLEAN, Entry, Open, OpenSlots, Place, Resting};
use std::{borrow::Cow, collections::VecDeque};
use timers::Deadlines;

/// The hash of a user's key in the table of profiles. It's part of the mark, so it must not change between versions.
pub fn hash_key(key: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(key)
}

/// The stores of the held partitions.
pub trait Stores {
    /// The store of a partition.
    fn store(&mut self, partition: i32) -> &mut Store;
}

/// A sweep is due when the partition's time has moved by this share of the TTL.
const SWEEPS_PER_TTL: i64 = 16;

/// At most one in this many profiles is open. With profiles of some hundred bytes that doubles the memory of a user, and with
/// the usual distribution of clicks over users four of five events find their profile open.
pub const OPEN_SHARE: usize = 6;

/// The number of open profiles up to which none is packed.
const OPEN_MIN: usize = 1_024;

/// The most bytes of a user in the table, beside key and profile: the table is at least seven sixteenths full once it has grown.
pub const TABLE_BYTES_MAX: usize = (size_of::<Entry>() + 1) * 16 / 7;

/// The most bytes of a user beside the key, if a profile has at most this many words: in the table, packed, and the user's share
/// of the open ones, whose memory may have grown to twice the words. It holds for more than 6,144 users, as of fewer a larger
/// share is open; without what the allocator adds.
pub const fn user_bytes_max(words: usize) -> usize {
    let open = 2 * (size_of::<Open>() + words * 8);
    TABLE_BYTES_MAX + Resting::KEY_AT + packed::length_max(words) + open.div_ceil(OPEN_SHARE)
}

/// The most bytes of the record of a profile of this many words, with its key.
pub const fn record_bytes_max(words: usize) -> usize {
    const KEY_AND_FIELDS: usize = 1_024 + 128;
    packed::length_max(words) + KEY_AND_FIELDS
}

/// Packs words as they are in memory, in the changelog and in snapshots.
pub fn pack(words: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed::pack(words, &mut bytes);
    bytes
}

/// Unpacks words; nothing if the bytes are not packed words.
pub fn unpack(bytes: &[u8]) -> Option<Vec<u64>> {
    let mut words = Vec::new();
    packed::unpack(bytes, &mut words).then_some(words)
}

/// The bytes of packed words.
pub fn packed_bytes(words: &[u64]) -> usize {
    packed::length(words)
}

/// A packed profile.
#[derive(Clone, Copy, Debug)]
pub struct PackedProfile<'a>(&'a [u8]);

/// The number of users whose memory is loaded at a time: about as many loads as a core has in flight at once.
const WARMED: usize = 16;

/// The words of a cache line.
const WORDS_PER_LINE: usize = 8;

/// A profile that became dirty. It is found again by offset and hash, unless it was written since.
#[derive(Clone, Copy, Debug)]
struct Dirty {
    offset: i64,
    hash: u64,
}

/// The distance in offsets between two points from which the input can be read again: a mark lies at most this far before the
/// oldest dirty event. Events that the records cover are skipped, whether they lie behind the mark or not.
const POINT_OFFSETS: i64 = 64;

/// A point from which the input can be read again.
#[derive(Clone, Copy, Debug)]
struct Point {
    offset: i64,
    /// The partition's time before the event there.
    clock: PartitionClock,
}

/// A profile that was swept, until its tombstone is written.
#[derive(Debug)]
struct Swept {
    key: Box<[u8]>,
    /// What its record adds to the digest of the changelog; 0 for a record that cannot be used.
    digest: u64,
}

/// The profiles of one partition.
#[derive(Debug, Default)]
pub struct Store {
    table: HashTable<Entry>,
    open: OpenSlots,
    clock: PartitionClock,
    ceilings: Ceilings,
    /// The partition's time at the last sweep.
    swept_at: Option<i64>,
    /// Oldest first.
    dirty: VecDeque<Dirty>,
    /// Oldest first: one at or before the oldest dirty event, and all after it.
    points: VecDeque<Point>,
    /// The points of the batch that is being applied, where something may change a profile behind the events.
    batch_points: Option<Vec<Point>>,
    /// When something is to happen to a user without an event.
    deadlines: Deadlines,
    ticks: Ticks,
    /// How many of the ticks are applied; the others lie ahead in a replay.
    ticks_applied: usize,
    /// The time of the last tick that is applied.
    ticked: Option<i64>,
    /// The swept profiles whose records are still in the changelog.
    swept: Vec<Swept>,
    /// The number of held profiles that have a record in the changelog.
    recorded: usize,
    /// The sum of [`record_digest`] over the held and the swept profiles that have a record in the changelog.
    digest: u64,
    /// How often the profiles were rebuilt from the input.
    generation: u64,
}

impl Store {
    /// An empty store of a generation.
    pub fn of_generation(generation: u64) -> Self {
        Self { generation, ..Self::default() }
    }

    /// How often the profiles of the partition were rebuilt from the input. Records of another generation do not count.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The number of held profiles.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The bytes of keys and profiles, and of the table with its slack; without what the allocator adds.
    pub fn bytes(&self) -> usize {
        let entry = |entry: &Entry| if let Place::Rests(resting) = &entry.place { resting.0.len() } else { 0 };
        let open = self.open.slots.iter().map(Open::bytes).sum::<usize>();
        self.table.iter().map(entry).sum::<usize>() + self.table.allocation_size() + open
    }

    /// An estimate of the same from a sample: the order of a hash table is as good as random.
    pub fn bytes_estimate(&self) -> usize {
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

    /// The words of a user, if the user has a profile.
    pub fn get(&self, hash: u64, key: &[u8]) -> Option<Cow<'_, [u64]>> {
        let same = |entry: &Entry| self.open.key(&entry.place) == key;
        self.table.find(hash, same).map(|entry| self.open.read(&entry.place))
    }

    /// All users with their words, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Cow<'_, [u64]>)> {
        self.table.iter().map(|entry| (self.open.key(&entry.place), self.open.read(&entry.place)))
    }

    /// The words of a user, to be changed by the event at `offset` of this time, and the partition's time with that event; a new
    /// user's begin as `fresh`. Nothing if the profile was restored with that event in it. Allocates for a new user and for a
    /// packed profile.
    pub fn entry(
        &mut self,
        hash: u64,
        key: &[u8],
        fresh: &[u64],
        offset: i64,
        time: i64,
    ) -> Option<(&mut Vec<u64>, Option<i64>)> {
        self.make_room();
        let Self { table, open, dirty, points, clock, batch_points, .. } = self;
        if let Some(batch_points) = batch_points
            && batch_points.last().is_none_or(|point| offset - point.offset >= POINT_OFFSETS)
        {
            batch_points.push(Point { offset, clock: *clock });
        }
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
            clock.note(hash, time);
            return None;
        }
        if account.first_dirty == CLEAN && !(canary::is_in(Canary::DirtyNotRewritten) && account.covered > i64::MIN) {
            account.first_dirty = offset;
            open.set_account(&mut entry.place, account);
            if points.back().is_none_or(|point| offset - point.offset >= POINT_OFFSETS) {
                points.push_back(Point { offset, clock: *clock });
            }
            dirty.push_back(Dirty { offset, hash });
        }
        clock.note(hash, time);
        // The snapshot has the event, but the changelog does not: so the profile is dirty all the same.
        if offset < account.applied && !canary::is_in(Canary::ReplayDoubleCounts) {
            return None;
        }
        let slot = open.open(hash, &mut entry.place);
        Some((&mut open.slots[slot as usize].words, clock.time()))
    }

    /// The words of a user who has a profile, to be changed further by an event that [`Self::entry`] was told of. Allocates for a packed
    /// profile.
    pub fn words(&mut self, hash: u64, key: &[u8]) -> Option<&mut Vec<u64>> {
        let Self { table, open, .. } = self;
        let entry = table.find_mut(hash, |entry| open.key(&entry.place) == key)?;
        let slot = open.open(hash, &mut entry.place);
        Some(&mut open.slots[slot as usize].words)
    }

    /// Loads what the events of these users will read into the cache. Loads that are made together wait together.
    pub fn warm(&self, hashes: &[u64]) {
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
    fn make_room(&mut self) {
        let Self { table, open, .. } = self;
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

    /// The partition's time.
    pub fn clock(&self) -> &PartitionClock {
        &self.clock
    }

    /// A batch begins after whose events profiles may change once more: [`Self::expire`] needs to know from where each of its offsets
    /// can be read again.
    pub fn begin_batch(&mut self) {
        self.batch_points.get_or_insert_default().clear();
    }

    /// Has the user be looked at by [`Self::expire`] once it is that late, or before.
    pub fn schedule(&mut self, hash: u64, deadline: i64) {
        self.deadlines.schedule(hash, deadline);
    }

    /// The first deadline of a user, or a time before it.
    pub fn first_deadline(&self) -> Option<i64> {
        self.deadlines.first()
    }

    /// How many users have a deadline.
    pub fn deadlines(&self) -> usize {
        self.deadlines.len()
    }

    /// The time by which deadlines are judged where the partition's own is this one: a tick may be ahead of it.
    pub fn timer_time(&self, partition_time: Option<i64>) -> Option<i64> {
        partition_time.max(self.ticked)
    }

    /// Goes through the deadlines up to this time, which is passed behind the event at `offset` or by a tick there. `end` is given a
    /// user's hash, key, words and deadline; it changes the words, and says whether it did and which deadline is the user's next.
    pub fn expire(
        &mut self,
        time: i64,
        offset: i64,
        mut end: impl FnMut(u64, &[u8], &mut [u64], i64) -> (bool, Option<i64>),
    ) {
        while let Some((deadline, hash)) = self.deadlines.take_due(time) {
            let Self { table, open, deadlines, .. } = &mut *self;
            let mut became_dirty = 0;
            for entry in table.iter_hash_mut(hash).filter(|entry| entry.hash == hash) {
                let mut next = None;
                let has_changed = open.change(&mut entry.place, |key, words| {
                    let has_changed;
                    (has_changed, next) = end(hash, key, words, deadline);
                    has_changed
                });
                if let Some(next) = next {
                    deadlines.schedule(hash, next);
                }
                let account = open.account(&entry.place);
                // An event behind this one may have made it dirty in the same batch.
                if has_changed && offset < account.first_dirty {
                    open.set_account(&mut entry.place, Account { first_dirty: offset, ..account });
                    became_dirty += 1;
                }
            }
            for _ in 0..became_dirty {
                self.insert_dirty(offset, hash);
            }
        }
    }

    /// Notes a dirty profile in its place among the others.
    fn insert_dirty(&mut self, offset: i64, hash: u64) {
        let Self { dirty, points, batch_points, clock, .. } = self;
        dirty.insert(dirty.partition_point(|dirty| dirty.offset <= offset), Dirty { offset, hash });
        // Behind the last batch the partition's time is still that of before the event at the offset.
        let of_batch = batch_points.iter().flatten().rev().find(|point| point.offset <= offset).copied();
        let point = of_batch.unwrap_or(Point { offset, clock: *clock });
        let at = points.partition_point(|point| point.offset <= offset);
        let is_near =
            |known: &Point| known.offset >= point.offset || of_batch.is_some() && offset - known.offset < POINT_OFFSETS;
        if at == 0 || !points.get(at - 1).is_some_and(is_near) {
            points.insert(at, point);
        }
    }

    /// The batch is over: see [`Self::begin_batch`].
    pub fn end_batch(&mut self) {
        self.batch_points.get_or_insert_default().clear();
    }

    /// The ticks that are known.
    pub fn ticks(&self) -> &Ticks {
        &self.ticks
    }

    /// Takes the next tick at or before this offset that lies ahead in a replay: its offset and its time.
    pub fn take_tick(&mut self, offset: i64) -> Option<(i64, i64)> {
        let (at, time) = *self.ticks.all().get(self.ticks_applied).filter(|(at, _)| *at <= offset)?;
        self.ticks_applied += 1;
        self.ticked = self.ticked.max(Some(time));
        Some((at, time))
    }

    /// Has a clock's tick move the time by which deadlines are judged, before the record at `next`. It is told with every mark until the
    /// one at `committed`, at least. Says whether there was room for it.
    pub fn tick(&mut self, next: i64, time: i64, committed: i64) -> bool {
        let Mark { replay_from, clock, .. } = self.mark(next);
        self.ticks.forget_before(replay_from.min(committed), clock.time());
        let is_told = self.ticks.add(next, time);
        self.ticks_applied = self.ticks.all().len();
        if is_told {
            self.ticked = self.ticked.max(Some(time));
        }
        is_told
    }

    /// Schedules every user whose words have a deadline, after a restore. `find` gives it, and may change the words.
    pub fn schedule_all(&mut self, mut find: impl FnMut(&mut [u64]) -> (bool, Option<i64>)) {
        let Self { table, open, deadlines, .. } = self;
        for entry in table.iter_mut() {
            let mut deadline = None;
            open.change(&mut entry.place, |_, words| {
                let has_changed;
                (has_changed, deadline) = find(words);
                has_changed
            });
            if let Some(deadline) = deadline {
                deadlines.schedule(entry.hash, deadline);
            }
        }
    }

    /// The latest time that the event at this offset may have. `latest` is what the process would allow now: it counts if the
    /// record is read for the first time, or if the limit of that time is not known any more.
    pub fn ceiling(&mut self, offset: i64, is_replay: bool, latest: Option<i64>) -> Option<i64> {
        let known = self.ceilings.at(offset);
        if is_replay && (known.is_some() || canary::is_in(Canary::CeilingNotReplayed)) {
            return known.filter(|_| !canary::is_in(Canary::CeilingNotReplayed));
        }
        let Some(latest) = latest else { return known };
        // A process whose clock is behind does not refuse what is no further ahead than events that were accepted.
        let latest = latest.max(self.clock.time().unwrap_or(i64::MIN));
        if known.is_none_or(|known| known < latest) {
            self.ceilings.forget_before(self.mark(offset).replay_from);
        }
        self.ceilings.follow(offset, latest);
        self.ceilings.at(offset)
    }

    /// The ceilings, which survive when all else begins anew.
    pub fn ceilings(&self) -> Ceilings {
        self.ceilings
    }

    /// Drops the profiles for which `is_gone` holds of their first word and the partition's time, if a sweep is due.
    pub fn sweep(&mut self, ttl: i64, is_gone: impl Fn(u64, i64) -> bool) {
        let Some(time) = self.clock.time() else { return };
        let swept_at = *self.swept_at.get_or_insert(time);
        if time.saturating_sub(swept_at) > ttl / SWEEPS_PER_TTL {
            let Self { table, open, swept, recorded, .. } = self;
            table.retain(|entry| {
                let gone = is_gone(open.first(&entry.place), time);
                if gone {
                    let covered = open.account(&entry.place).covered;
                    if covered > i64::MIN {
                        *recorded -= 1;
                        let digest = record_digest(entry.hash, covered);
                        swept.push(Swept { key: open.key(&entry.place).into(), digest });
                    }
                    open.give_back(&entry.place);
                }
                !gone
            });
            self.swept_at = Some(time);
        }
    }

    /// Restores a profile that the changelog has complete up to the offset `covered`, and which is itself complete up to
    /// `applied`; none is a tombstone. Only before any event.
    pub fn restore(&mut self, hash: u64, key: &[u8], packed: Option<&[u8]>, covered: i64, applied: i64) {
        let Self { table, open, recorded, digest, .. } = self;
        let same = |entry: &Entry| open.key(&entry.place) == key;
        match (table.entry(hash, same, |entry| entry.hash), packed) {
            (hashbrown::hash_table::Entry::Occupied(entry), None) => {
                let place = entry.remove().0.place;
                *digest = digest.wrapping_sub(record_digest(hash, open.account(&place).covered));
                open.give_back(&place);
                *recorded -= 1;
            }
            (hashbrown::hash_table::Entry::Vacant(_), None) => {}
            (hashbrown::hash_table::Entry::Occupied(entry), Some(packed)) => {
                let place = &mut entry.into_mut().place;
                let before = open.account(place);
                *digest =
                    digest.wrapping_sub(record_digest(hash, before.covered)).wrapping_add(record_digest(hash, covered));
                let account = Account { covered, applied, ..Account::NEW };
                open.give_back(&std::mem::replace(place, Place::Rests(Resting::new(account, key, packed))));
            }
            (hashbrown::hash_table::Entry::Vacant(entry), Some(packed)) => {
                *recorded += 1;
                *digest = digest.wrapping_add(record_digest(hash, covered));
                let account = Account { covered, applied, ..Account::NEW };
                entry.insert(Entry { hash, place: Place::Rests(Resting::new(account, key, packed)) });
            }
        }
    }

    /// Notes that a profile that was restored from a snapshot has been dirty since this offset, whatever the events behind it do.
    pub fn restore_dirty(&mut self, hash: u64, key: &[u8], offset: i64) {
        let Self { table, open, dirty, .. } = self;
        if let Some(entry) = table.find_mut(hash, |entry| open.key(&entry.place) == key) {
            let account = open.account(&entry.place);
            if (account.covered..account.applied).contains(&offset) {
                open.set_account(&mut entry.place, Account { first_dirty: offset, ..account });
                dirty.push_back(Dirty { offset, hash });
            }
        }
    }

    /// Ends a restore, behind which the input is read on from `next`: puts what is dirty in its order, but for what the changelog has
    /// replaced.
    pub fn end_restore(&mut self, next: i64) {
        let Self { table, open, dirty, points, clock, .. } = self;
        dirty.retain(|Dirty { offset, hash }| {
            let is_it = |entry: &Entry| entry.hash == *hash && open.account(&entry.place).first_dirty == *offset;
            table.find(*hash, is_it).is_some()
        });
        dirty.make_contiguous().sort_unstable_by_key(|dirty| dirty.offset);
        if !dirty.is_empty() {
            points.push_front(Point { offset: next, clock: *clock });
        }
    }

    /// Replaces the state of a restored profile by another one of the same events.
    ///
    /// # Errors
    /// That of `change`.
    pub fn convert<E>(
        &mut self,
        hash: u64,
        key: &[u8],
        change: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let Self { table, open, .. } = self;
        if let Some(entry) = table.find_mut(hash, |entry| open.key(&entry.place) == key) {
            let account = open.account(&entry.place);
            let (_, PackedProfile(state)) = open.pack(&entry.place);
            let resting = Resting::new(account, key, &change(state)?);
            open.give_back(&std::mem::replace(&mut entry.place, Place::Rests(resting)));
        }
        Ok(())
    }

    /// Has tombstones written for these users, whom the store does not hold and whose records are useless.
    pub fn bury(&mut self, keys: impl IntoIterator<Item = Box<[u8]>>) {
        self.swept.extend(keys.into_iter().map(|key| Swept { key, digest: 0 }));
    }

    /// Goes back to the partition's time at a mark, before the input is read again from there.
    pub fn rewind(&mut self, clock: PartitionClock, ceilings: Ceilings, ticks: Ticks) {
        (self.clock, self.ceilings, self.swept_at) = (clock, ceilings, clock.time());
        (self.ticks, self.ticks_applied, self.ticked) = (ticks, 0, None);
        self.points.clear();
    }

    /// Hands over, oldest first, at most `max` profiles that are dirty from an event before `below`, with every event before
    /// `next` in them, and with `None` the keys of swept profiles. `write` says whether it takes more. Returns how many there
    /// were. A profile that only a tick at `next` has changed waits until there are further records: whoever reads on from there applies
    /// the tick, and no two records of a user are of one offset.
    pub fn write_due(
        &mut self,
        below: i64,
        next: i64,
        max: usize,
        mut write: impl FnMut(&[u8], Option<PackedProfile<'_>>) -> bool,
    ) -> usize {
        let (mut written, mut has_room) = (0, true);
        let is_last = canary::is_in(Canary::TombstoneAfterProfile);
        if !is_last {
            (written, has_room) = self.write_tombstones(max, &mut write);
        }
        while written < max
            && has_room
            && let Some(Dirty { offset, hash, .. }) = self.dirty.front().copied()
            && offset < below.min(next)
        {
            self.dirty.pop_front();
            // A profile that was swept or written since is not found.
            let Self { table, open, recorded, digest, .. } = &mut *self;
            let is_due = |entry: &Entry| entry.hash == hash && open.account(&entry.place).first_dirty == offset;
            if let Some(entry) = table.find_mut(hash, is_due) {
                let (key, profile) = open.pack(&entry.place);
                has_room = write(key, Some(profile));
                let account = open.account(&entry.place);
                if account.covered == i64::MIN {
                    *recorded += 1;
                } else {
                    *digest = digest.wrapping_sub(record_digest(hash, account.covered));
                }
                *digest = digest.wrapping_add(record_digest(hash, next));
                open.set_account(&mut entry.place, Account { covered: next, first_dirty: CLEAN, ..account });
                written += 1;
            }
        }
        if is_last && has_room {
            written += self.write_tombstones(max - written, &mut write).0;
        }
        // The input would be read again from the last point at or before the oldest dirty event.
        let oldest = self.oldest_dirty().unwrap_or(i64::MAX);
        while self.points.get(1).is_some_and(|point| point.offset <= oldest) {
            self.points.pop_front();
        }
        if self.dirty.is_empty() {
            self.points.clear();
        }
        written
    }

    /// The oldest event that is in a profile but not in its record.
    pub fn oldest_dirty(&self) -> Option<i64> {
        self.dirty.front().map(|dirty| dirty.offset)
    }

    /// Hands over the keys of swept profiles. Returns how many there were, and whether more is taken.
    fn write_tombstones(
        &mut self,
        max: usize,
        write: &mut impl FnMut(&[u8], Option<PackedProfile<'_>>) -> bool,
    ) -> (usize, bool) {
        let (mut written, mut has_room) = (0, true);
        while written < max
            && has_room
            && let Some(Swept { key, digest }) = self.swept.pop()
        {
            self.digest = self.digest.wrapping_sub(digest);
            // A user who came back is dirty from then on, and the tombstone is right until then. It needs no `as_of`: a replay of
            // earlier events begins a profile that the same event time ends again, before the replay is over.
            if !canary::is_in(Canary::TombstoneLost) {
                has_room = write(&key, None);
            }
            written += 1;
        }
        (written, has_room)
    }

    /// Visits the users whose profiles have a record in the changelog, with their words, the offset up to which the record is
    /// complete, and the first one that it lacks something of. Returns false and visits none while tombstones are still to be written.
    pub fn recorded(&mut self, mut visit: impl FnMut(&[u8], PackedProfile<'_>, i64, Option<i64>)) -> bool {
        if !self.swept.is_empty() {
            return false;
        }
        for entry in &self.table {
            let Account { covered, first_dirty, .. } = self.open.account(&entry.place);
            if covered > i64::MIN {
                let (key, profile) = self.open.pack(&entry.place);
                visit(key, profile, covered, Some(first_dirty).filter(|offset| *offset != CLEAN));
            }
        }
        true
    }

    /// The digest of the records in the changelog: see [`Mark::digest`].
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The number of dirty profiles, at most.
    pub fn dirty(&self) -> usize {
        self.dirty.len() + self.swept.len()
    }

    /// From where the input has to be read again after a restart at `next`.
    pub fn mark(&self, next: i64) -> Mark {
        self.mark_since(next, i64::MAX)
    }

    /// The same, with the ticks since the position `committed`, whether a replay needs them or not: so each tick is told at least once.
    pub fn mark_since(&self, next: i64, committed: i64) -> Mark {
        let records = (self.recorded + self.swept.len()) as u64;
        let is_dirty = !self.dirty.is_empty() && !canary::is_in(Canary::MarkAhead);
        let Point { offset: replay_from, clock } = match self.points.front() {
            Some(point) if is_dirty => *point,
            _ => Point { offset: next, clock: self.clock },
        };
        let mut ceilings = self.ceilings;
        ceilings.forget_before(replay_from);
        let lacking_from = if is_dirty { self.oldest_dirty().unwrap_or(next) } else { next };
        let digest = Some(self.digest);
        let mut ticks = self.ticks;
        ticks.forget_before(replay_from.min(committed), clock.time());
        if canary::is_in(Canary::TickNotCommitted) {
            ticks = Ticks::default();
        }
        Mark { replay_from, lacking_from, clock, ceilings, records, digest, generation: self.generation, ticks }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(bytes: &[u8]) -> Vec<u64> {
        let mut words = Vec::new();
        assert!(packed::unpack(bytes, &mut words));
        words
    }

    fn packed_words(words: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        packed::pack(words, &mut bytes);
        bytes
    }

    fn write_all(store: &mut Store, below: i64, next: i64, max: usize) -> Vec<(Vec<u8>, Option<Vec<u64>>)> {
        let mut written = Vec::new();
        store.write_due(below, next, max, |key, profile| {
            let words = profile.map(|PackedProfile(bytes)| unpacked(bytes));
            written.push((key.to_vec(), words));
            true
        });
        written
    }

    #[test]
    fn users_of_equal_hash_are_kept_apart() {
        let mut store = Store::default();
        store.entry(7, b"ann", &[1], 0, 0).expect("not covered").0.push(2);
        store.entry(7, b"bob", &[3], 1, 0).expect("not covered");
        assert_eq!(store.get(7, b"ann").as_deref(), Some(&[1, 2][..]));
        assert_eq!(store.get(7, b"bob").as_deref(), Some(&[3][..]));
        assert_eq!((store.get(7, b"eve"), store.len()), (None, 2));
    }

    /// Has as many users as make the time have an event of this time.
    fn pass(store: &mut Store, time: i64) {
        (0..WITNESSES as u64).for_each(|user| store.clock.note(u64::MAX - user, time));
    }

    #[test]
    fn a_sweep_waits_until_it_is_due_and_frees_the_idle() {
        let mut store = Store::default();
        let idle = |first: u64, time: i64| (first as i64) < time - 160;
        store.entry(1, b"old", &[0], 0, 0);
        store.entry(2, b"new", &[1_000], 1, 1_000);
        store.sweep(160, idle);
        assert_eq!((store.len(), store.clock().time()), (2, None), "two users make no time");
        pass(&mut store, 0);
        store.sweep(160, idle);
        pass(&mut store, 10);
        store.sweep(160, idle);
        assert_eq!(store.len(), 2, "no sweep is due yet");
        write_all(&mut store, 2, 2, 9);
        pass(&mut store, 1_000);
        store.sweep(160, idle);
        assert_eq!((store.get(1, b"old"), store.len()), (None, 1));
        assert_eq!(write_all(&mut store, 0, 2, 9), [(b"old".to_vec(), None)], "its record gets a tombstone");
    }

    #[test]
    fn the_oldest_dirty_profile_is_written_first_and_the_mark_moves_behind_it() {
        let mut store = Store::default();
        let far = POINT_OFFSETS;
        for (offset, key) in [(5, b"a"), (6 + far, b"b"), (7 + far, b"a"), (8 + 2 * far, b"c"), (9 + 2 * far, b"d")] {
            let (words, _) = store.entry(u64::from(key[0]), key, &[0], offset, offset * 10).expect("not covered");
            words[0] += 1;
        }
        let next = 10 + 2 * far;
        let mark = |store: &Store| {
            let Mark { replay_from, clock, records, .. } = store.mark(next);
            (replay_from, clock.shown(), records)
        };
        assert_eq!(mark(&store), (5, None, 0));
        assert_eq!(
            write_all(&mut store, next, next, 1),
            [(b"a".to_vec(), Some(vec![2]))],
            "with its second event in it"
        );
        assert_eq!(mark(&store), (6 + far, Some(50), 1));
        assert_eq!(write_all(&mut store, 8 + far, next, 9), [(b"b".to_vec(), Some(vec![1]))], "c is not due");
        assert!(store.entry(u64::from(b'a'), b"a", &[0], 8 + 2 * far, 0).is_none(), "the record covers this event");
        assert_eq!(mark(&store), (8 + 2 * far, Some(10 * (7 + far)), 2));
        assert_eq!(write_all(&mut store, next, next, 1), [(b"c".to_vec(), Some(vec![1]))]);
        assert_eq!(mark(&store), (8 + 2 * far, Some(10 * (7 + far)), 3), "d's first event is near by");
        assert_eq!(store.oldest_dirty(), Some(9 + 2 * far));
        assert_eq!(write_all(&mut store, next, next, 9).len(), 1);
        assert_eq!(mark(&store), (next, Some(10 * (9 + 2 * far)), 4));
    }

    #[test]
    fn what_was_restored_skips_the_events_that_its_record_covers() {
        let mut store = Store::default();
        store.restore(1, b"a", Some(&packed_words(&[3])), 8, 8);
        store.restore(2, b"b", Some(&packed_words(&[1])), 6, 6);
        store.restore(2, b"b", None, 7, 7);
        store.rewind(PartitionClock::at(Some(40)), Ceilings::default(), Ticks::default());
        assert!(store.entry(1, b"a", &[0], 7, 0).is_none());
        assert_eq!(store.entry(1, b"a", &[0], 8, 0), Some((&mut vec![3], Some(40))));
        assert_eq!(store.entry(2, b"b", &[0], 6, 0), Some((&mut vec![0], Some(40))), "its tombstone came last");
    }

    #[test]
    fn a_ceiling_holds_for_what_is_read_again_and_a_clock_that_is_behind_refuses_nothing() {
        const HOUR: i64 = 3_600_000_000;
        let mut store = Store::default();
        let first = store.ceiling(7, false, Some(HOUR)).expect("there is one now");
        assert!((HOUR..HOUR + HOUR / 10).contains(&first));
        assert_eq!(store.ceiling(7, true, Some(9 * HOUR)), Some(first), "later the same holds");
        assert_eq!(store.ceiling(3, true, None), None, "of what came before nothing is known");
        assert!(store.ceiling(3, true, Some(9 * HOUR)).is_some_and(|it| it >= 9 * HOUR), "but for the present");
        assert_eq!(store.ceiling(7, true, Some(9 * HOUR)), Some(first));
        pass(&mut store, 20 * HOUR);
        assert!(store.ceiling(8, false, Some(HOUR)).is_some_and(|it| it >= 20 * HOUR));
        let mark = store.mark(9);
        assert_eq!(mark.ceilings.at(7), None, "nothing is dirty: nothing is read again");
        assert!(mark.ceilings.at(9).is_some_and(|it| it >= 20 * HOUR));
    }

    #[test]
    fn a_profile_from_a_snapshot_is_dirty_from_the_first_event_that_the_changelog_lacks() {
        // It was taken for clean, and the changelog never got what the snapshot had.
        let mut store = Store::default();
        store.restore(1, b"a", Some(&packed_words(&[3])), 5, 8);
        assert!(store.entry(1, b"a", &[0], 4, 0).is_none(), "the record has it");
        assert_eq!(store.mark(9).replay_from, 9);
        assert!(store.entry(1, b"a", &[0], 6, 0).is_none(), "the snapshot has it");
        assert_eq!(store.mark(9).replay_from, 6);
        assert_eq!(store.entry(1, b"a", &[0], 8, 0), Some((&mut vec![3], None)));
    }

    #[test]
    fn idle_profiles_rest_packed_and_open_as_they_were() {
        let mut store = Store::default();
        let users = 20 * OPEN_MIN as u64;
        for round in 0..3 {
            for user in 0..users {
                let offset = (round * users + user) as i64;
                let entry = store.entry(user, &user.to_le_bytes(), &[user, 0, 0], offset, 0);
                let (words, _) = entry.expect("not covered");
                assert_eq!(*words, [user, round, round * user]);
                (words[1], words[2]) = (round + 1, (round + 1) * user);
            }
            let open = store.open.slots.len() - store.open.free.len();
            assert!(open <= OPEN_MIN.max(users as usize / OPEN_SHARE) + 1, "{open} are open");
            assert_eq!(store.len(), users as usize);
        }
        assert_eq!(store.get(7, &7_u64.to_le_bytes()).as_deref(), Some(&[7, 3, 21][..]));
        store.sweep(16, |_, _| false);
        pass(&mut store, 1_000_000);
        store.sweep(16, |first, _| first % 2 == 0);
        assert_eq!(store.len(), users as usize / 2);
        assert_eq!(store.iter().map(|(_, words)| words[1]).sum::<u64>(), 3 * users / 2);
    }
}
