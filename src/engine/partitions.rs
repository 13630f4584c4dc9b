//! The partitions that a worker holds: their profiles, how far they have come, and what of them is committed.

use crate::{
    canary::{self, Canary},
    event::{EventTime, Record},
    profile::{Carry, Layout, ProfileEngine},
    proto::v1,
    sink::{Outbox, Target},
    state::{
        Ceilings, Mark, PartitionClock, ProfileRecord, SnapshotOf, SnapshotWriter, Store, Stores, Unfit,
        decode_profile, hash_key, is_reserved_key, layout_id, layout_key,
    },
    status::{PartitionView, Phase},
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

/// How finely it is noted when a partition was where: in parts of the checkpoint's interval.
const NOTES_PER_INTERVAL: u32 = 16;

/// One held partition: its profiles and how far it has come.
#[derive(Debug)]
pub struct Partition {
    store: Store,
    /// The next offset to be processed.
    pub(super) next: i64,
    /// Up to here the log is only replayed: its outputs were committed before.
    pub(super) emit_from: i64,
    /// What the group has committed: the offset and its metadata.
    committed: Option<(i64, String)>,
    /// Whether its profiles are still being read from the changelog; nothing of its input is processed meanwhile.
    is_restoring: bool,
    /// What the changelog has to hold, while it is read.
    mark: Option<Mark>,
    /// Whether what it has of its changelog came from a snapshot.
    is_cached: bool,
    /// The first offset that the input still had when the partition was taken up.
    log_start: i64,
    /// When the partition was at which offset, oldest first.
    notes: VecDeque<(Duration, i64)>,
    /// Events before this have been in memory for the checkpoint's interval.
    due_below: i64,
    layouts: Layouts,
    unfit: UnfitRecords,
}

/// What is known, while profiles are restored, of records that are of no use.
#[derive(Debug, Default)]
struct UnfitRecords {
    /// Whose newest record it is.
    users: HashSet<Box<[u8]>>,
    /// How many there were, also such as newer ones replace.
    count: u64,
    /// Where the first one lies, and what is wrong with it.
    first: Option<(i64, Unfit)>,
}

impl UnfitRecords {
    fn note(&mut self, offset: i64, why: Unfit) {
        self.count += 1;
        self.first.get_or_insert((offset, why));
    }
}

/// What is known of the layouts in a partition's changelog.
#[derive(Debug, Default)]
struct Layouts {
    /// Those that were found.
    found: Vec<Layout>,
    /// While profiles are restored: whose state has another layout than ours, and which. It is carried over once all is
    /// read, because compaction may put a layout behind its profiles.
    foreign: HashMap<Box<[u8]>, String>,
    /// Whether ours is there.
    has_ours: bool,
}

impl Partition {
    /// A partition without profiles, to be read from `next`, whose outputs before `emit_from` are out already.
    pub fn new(next: i64, emit_from: i64, committed: Option<(i64, String)>) -> Self {
        Self {
            store: Store::default(),
            next,
            emit_from,
            committed,
            is_restoring: false,
            mark: None,
            is_cached: false,
            log_start: next,
            notes: VecDeque::new(),
            due_below: i64::MIN,
            layouts: Layouts::default(),
            unfit: UnfitRecords::default(),
        }
    }

    /// The same partition, whose profiles are begun anew from the input for the `generation`-th time.
    #[must_use]
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.store = Store::of_generation(generation);
        self
    }

    /// The same partition, of whose records it is known which events were refused as too far ahead.
    #[must_use]
    pub fn under(mut self, ceilings: Ceilings) -> Self {
        self.store.rewind(PartitionClock::default(), ceilings);
        self
    }

    /// The same partition, whose profiles have to be read from the changelog first, as they were at `mark`. If that does
    /// not hold what it has to, the input is read again from `log_start`.
    #[must_use]
    pub fn restoring(mut self, mark: Mark, log_start: i64) -> Self {
        self.is_restoring = !canary::is_in(Canary::RestoreSkipped);
        self.mark = Some(mark);
        self.log_start = log_start;
        self.store = Store::of_generation(mark.generation);
        self.store.rewind(mark.clock, mark.ceilings);
        self
    }

    /// The profiles.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The next offset to be processed: its profiles have every event before it in them.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Whether its profiles are still being read from the changelog.
    pub fn is_restoring(&self) -> bool {
        self.is_restoring
    }

    /// Forgets all profiles, for those of a generation.
    fn empty(&mut self, generation: u64) {
        let ceilings = self.store.ceilings();
        self.store = Store::of_generation(generation);
        self.store.rewind(PartitionClock::default(), ceilings);
        self.layouts = Layouts::default();
        self.unfit = UnfitRecords::default();
    }

    /// Brings profiles into the engine's layout, and removes those that cannot be.
    fn carry_over(&mut self, foreign: HashMap<Box<[u8]>, String>, profile: &ProfileEngine) {
        let found = &self.layouts.found;
        let carries: HashMap<&str, Carry> = found.iter().map(|it| (it.id(), profile.carry(it))).collect();
        for (key, layout) in foreign {
            let (hash, carry) = (hash_key(&key), carries.get(layout.as_str()));
            let change = |state: &[u8]| {
                let carry = carry.ok_or(Unfit::Layout)?;
                profile.carry_over(carry, state).ok_or(Unfit::Words)
            };
            if let Err(why) = self.store.convert(hash, &key, change) {
                self.store.restore(hash, &key, None, i64::MIN, i64::MIN);
                self.unfit.note(-1, why);
                self.unfit.users.insert(key);
            }
        }
    }

    /// Takes the record of a layout in; of the other keys that are no user's nothing is known yet.
    fn restore_layout(&mut self, key: &[u8], record: &Record<'_>, ours: &Layout) {
        let Some(id) = layout_id(key) else { return };
        match record.payload.map(|payload| Layout::decode(payload).filter(|layout| layout.id() == id)) {
            None => {}
            Some(None) => self.unfit.note(record.offset, Unfit::Layout),
            Some(Some(layout)) => {
                self.layouts.has_ours |= layout == *ours;
                self.layouts.found.push(layout);
            }
        }
    }

    /// The profile that a record holds. Nothing in it is believed before it is looked at.
    fn profile_in(
        &self,
        key: &[u8],
        payload: &[u8],
        written_ms: Option<i64>,
        profile: &ProfileEngine,
    ) -> Result<v1::Profile, Unfit> {
        let found = decode_profile(key, payload)?;
        // A user has at least one event, and what a record has was committed together with it.
        if found.as_of < 1 || found.as_of > self.emit_from || found.history > self.store.generation() {
            return Err(Unfit::Ahead);
        }
        if found.state.is_empty() && found.checksum != 0 {
            return Err(Unfit::TooLarge);
        }
        if written_ms.is_some_and(|written_ms| profile.is_of_the_future(&found.state, written_ms)) {
            return Err(Unfit::Future);
        }
        let is_ours = found.layout == profile.layout().id();
        if is_ours && !profile.fits(&found.state) { Err(Unfit::Words) } else { Ok(found) }
    }

    /// Whether an event at this offset was decided before, and is only read again.
    pub(super) fn is_replay(&self, offset: i64) -> bool {
        offset < self.emit_from && !canary::is_in(Canary::ReplayEmits)
    }

    /// The latest time that the event at this offset may have, where `latest` is what this process would allow now.
    pub(super) fn ceiling(&mut self, offset: i64, latest: Option<i64>) -> Option<i64> {
        let is_replay = offset < self.emit_from;
        self.store.ceiling(offset, is_replay, latest)
    }

    fn metadata(&self, layout: &str) -> String {
        self.store.mark(self.next).metadata(layout)
    }
}

/// How a restore has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// From where the input goes on.
    pub next: i64,
    /// How many profiles of the changelog are of use.
    pub found: u64,
    /// How many it had to hold.
    pub owed: u64,
    /// How many of them do not fit. The others are kept, and the input is read again for these users alone.
    pub unfit: u64,
    /// How many records did not fit, also such as newer ones replace.
    pub unfit_records: u64,
    /// The first of these: its offset in the changelog, or -1 where a snapshot or another one tells, and what is wrong with it.
    pub first_unfit: Option<(i64, Unfit)>,
    /// How many of them were made by other features, of which what is still declared was carried over.
    pub carried: u64,
    /// Whether a part of it came from a snapshot; if the numbers differ, the changelog has to be read as a whole.
    pub is_cached: bool,
}

impl Recovered {
    /// Whether the changelog was whole.
    pub fn is_whole(&self) -> bool {
        (self.found == self.owed || canary::is_in(Canary::LostChangelogTrusted)) && self.unfit == 0
    }

    /// Whether nothing is missing but the profiles of users whose records do not fit. After an earlier restore that has found
    /// the same records these are no longer owed.
    pub fn is_partly_whole(&self) -> bool {
        self.unfit > 0 && (self.found == self.owed || self.found + self.unfit == self.owed)
    }
}

/// The held partitions, by their number.
#[derive(Debug, Default)]
pub struct Partitions(Vec<Option<Box<Partition>>>);

impl Partitions {
    /// Takes a partition in.
    pub fn insert(&mut self, number: i32, partition: Partition) {
        let index = number.max(0) as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(Box::new(partition));
    }

    /// Gives partitions up, with their state.
    pub fn drop_all(&mut self, numbers: &[i32]) {
        for number in numbers {
            if let Some(slot) = self.0.get_mut(number.unsigned_abs() as usize) {
                *slot = None;
            }
        }
    }

    /// The numbers of the held partitions.
    pub fn held(&self) -> Vec<i32> {
        self.each().map(|(number, _)| number).collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.each().count()
    }

    /// How many profiles are held.
    pub fn users(&self) -> u64 {
        self.each().map(|(_, partition)| partition.store.len() as u64).sum()
    }

    /// How many profiles of these partitions the changelog does not hold as they are, at most.
    pub fn dirty(&self, numbers: &[i32]) -> usize {
        numbers.iter().filter_map(|number| self.get(*number)).map(|partition| partition.store.dirty()).sum()
    }

    /// Where every partition is, without what only the client knows.
    pub fn views(&self) -> Vec<PartitionView> {
        let view = |(number, partition): (i32, &Partition)| PartitionView {
            number,
            phase: match partition {
                it if it.is_restoring => Phase::Restoring,
                it if it.next < it.emit_from => Phase::Replaying,
                _ => Phase::Moving,
            },
            next: partition.next,
            replay_until: partition.emit_from,
            end: None,
            newest: partition.store.clock().shown().map(EventTime),
            profiles: partition.store.len() as u64,
            profile_bytes: partition.store.bytes_estimate() as u64,
            dirty: partition.store.dirty() as u64,
        };
        self.each().map(view).collect()
    }

    /// Whether any partition is being restored.
    pub fn is_restoring(&self) -> bool {
        self.each().any(|(_, partition)| partition.is_restoring)
    }

    /// Whether these partitions are being restored or read again.
    pub fn is_recovering(&self, number: i32) -> bool {
        self.get(number).is_some_and(|partition| partition.is_restoring || partition.next < partition.emit_from)
    }

    /// Whether nothing is left to be read again.
    pub fn is_caught_up(&self) -> bool {
        self.each().all(|(_, partition)| partition.next >= partition.emit_from)
    }

    /// Notes that nothing of a partition is left to be read again: up to the committed position no more records come.
    pub(super) fn end_replay(&mut self, number: i32) {
        if let Some(partition) = self.get_mut(number) {
            partition.next = partition.next.max(partition.emit_from);
        }
    }

    /// Goes on at an offset: what came before it in the log is gone.
    pub(super) fn skip_to(&mut self, number: i32, offset: i64) {
        if let Some(partition) = self.get_mut(number) {
            partition.next = partition.next.max(offset);
        }
    }

    /// What was committed for a partition: the offset and its metadata.
    pub fn committed(&self, number: i32) -> Option<(i64, &str)> {
        let (offset, metadata) = self.get(number)?.committed.as_ref()?;
        Some((*offset, metadata))
    }

    /// One partition.
    pub fn get(&self, number: i32) -> Option<&Partition> {
        self.0.get(usize::try_from(number).ok()?)?.as_deref()
    }

    pub(super) fn get_mut(&mut self, number: i32) -> Option<&mut Partition> {
        self.0.get_mut(usize::try_from(number).ok()?)?.as_deref_mut()
    }

    /// One partition whose input is being processed.
    pub(super) fn active(&mut self, number: i32) -> Option<&mut Partition> {
        self.get_mut(number).filter(|partition| !partition.is_restoring)
    }

    fn each(&self) -> impl Iterator<Item = (i32, &Partition)> {
        self.0.iter().enumerate().filter_map(|(number, slot)| Some((number as i32, slot.as_deref()?)))
    }

    /// Takes a record of the changelog in, for this engine. A profile of an earlier generation counts as none: the mark of the
    /// committed offset lies before all events of such a user. What does not fit is noted, and counts as none as well.
    pub fn restore(&mut self, record: &Record<'_>, profile: &ProfileEngine) {
        self.restore_applied(record, profile, i64::MIN);
    }

    /// Takes a record of a snapshot in, whose words have every event before `applied` in them.
    pub fn restore_applied(&mut self, record: &Record<'_>, profile: &ProfileEngine, applied: i64) {
        let (Some(partition), Some(key)) = (self.get_mut(record.partition), record.key) else { return };
        if is_reserved_key(key) {
            partition.restore_layout(key, record, profile.layout());
            return;
        }
        let written_ms = record.timestamp_ms;
        let found = record.payload.map(|payload| partition.profile_in(key, payload, written_ms, profile)).transpose();
        let Partition { store, layouts, unfit, .. } = partition;
        layouts.foreign.remove(key);
        unfit.users.remove(key);
        let hash = hash_key(key);
        match found {
            Ok(Some(found)) if found.history == store.generation() => {
                store.restore(hash, key, Some(&found.state), found.as_of, applied.max(found.as_of));
                if found.layout != profile.layout().id() {
                    layouts.foreign.insert(key.into(), found.layout);
                }
            }
            Ok(_) => store.restore(hash, key, None, i64::MIN, i64::MIN),
            Err(why) => {
                store.restore(hash, key, None, i64::MIN, i64::MIN);
                unfit.note(record.offset, why);
                unfit.users.insert(key.into());
            }
        }
    }

    /// Ends the restore of a partition: carries profiles of other layouts over, and gives the offset from which its input
    /// goes on. Where single records do not fit, the other profiles stay, and the whole input is read again for these users. A
    /// changelog that does not hold as many profiles as were committed to it was cut, made anew or damaged: none of it is used
    /// then, and the whole input is read again for all.
    pub fn restored(&mut self, number: i32, profile: &ProfileEngine) -> Option<Recovered> {
        let partition = self.get_mut(number)?;
        partition.is_restoring = false;
        let foreign = std::mem::take(&mut partition.layouts.foreign);
        let carried = foreign.len() as u64;
        partition.carry_over(foreign, profile);
        let found = partition.store.len() as u64;
        let unfit = std::mem::take(&mut partition.unfit);
        let recovered = Recovered {
            next: partition.next,
            found,
            owed: partition.mark.map_or(found, |mark| mark.records),
            unfit: unfit.users.len() as u64,
            unfit_records: unfit.count,
            first_unfit: unfit.first,
            carried,
            is_cached: std::mem::take(&mut partition.is_cached),
        };
        if recovered.is_whole() {
            return Some(recovered);
        }
        if recovered.is_cached {
            partition.is_restoring = true;
            return Some(recovered);
        }
        if recovered.is_partly_whole() {
            // The tombstones are right until the users' next events, which come before any other of theirs that is written.
            partition.store.bury(unfit.users);
            partition.store.rewind(PartitionClock::default(), partition.store.ceilings());
        } else {
            partition.empty(partition.store.generation() + 1);
        }
        partition.next = partition.log_start;
        Some(Recovered { next: partition.next, ..recovered })
    }

    /// Notes that what the partition has comes from a snapshot.
    pub fn cached(&mut self, number: i32) {
        if let Some(partition) = self.get_mut(number) {
            partition.is_cached = true;
        }
    }

    /// Forgets what was restored of a partition, to begin again.
    pub fn restart(&mut self, number: i32) {
        if let Some(partition) = self.get_mut(number) {
            partition.is_restoring = true;
            partition.is_cached = false;
            partition.empty(partition.store.generation());
            let mark = partition.mark.unwrap_or_default();
            partition.store.rewind(mark.clock, mark.ceilings);
        }
    }

    /// The snapshot of a partition, to be read instead of the changelog before this offset. Nothing unless all that was
    /// processed of it is committed.
    pub fn snapshot(&mut self, number: i32, changelog: i64, layout: &str) -> Option<Vec<u8>> {
        let partition = self.get(number)?;
        let (committed, _) = partition.committed.as_ref()?;
        let is_open = *committed != partition.next && !canary::is_in(Canary::SnapshotOfOpen);
        if self.is_recovering(number) || is_open {
            return None;
        }
        let head =
            SnapshotOf { partition: number, layout: layout.to_owned(), committed: *committed, changelog, profiles: 0 };
        let mut writer = SnapshotWriter::new(head);
        let mut record = Vec::new();
        let store = &mut self.get_mut(number)?.store;
        let generation = store.generation();
        let is_whole = store.recorded(|key, profile, as_of| {
            record.clear();
            ProfileRecord { as_of, layout, generation }.encode(key, profile, &mut record);
            writer.push(key, &record);
        });
        is_whole.then(|| writer.finish())
    }

    /// Notes at `now` how far every partition has come, so that after `interval` its profiles are due.
    pub fn note(&mut self, now: Duration, interval: Duration) {
        for partition in self.0.iter_mut().flatten() {
            if partition.notes.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= interval / NOTES_PER_INTERVAL) {
                partition.notes.push_back((now, partition.next));
            }
            while partition.notes.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= interval) {
                partition.due_below = partition.notes.pop_front().map_or(partition.due_below, |(_, offset)| offset);
            }
        }
    }

    /// Whether a profile is due to be written.
    pub fn is_due(&self) -> bool {
        self.each().any(|(_, partition)| {
            partition.next >= partition.emit_from
                && partition.store.oldest_dirty().is_some_and(|oldest| oldest < partition.due_below)
        })
    }

    /// Appends the records of the profiles of one partition that are due, or of all its dirty ones where it `is_going`, to the
    /// outputs: at most `max`, until the outputs have `bytes_max`, and their layout where the changelog does not have it yet.
    /// Says how many there were.
    pub fn write_profiles(
        &mut self,
        number: i32,
        is_going: bool,
        (max, bytes_max): (usize, usize),
        layout: &Layout,
        outbox: &mut Outbox,
    ) -> usize {
        let Some(partition) = self.get_mut(number) else { return 0 };
        // What is only read again was committed with a mark of its own, which holds until all of it is read.
        if partition.is_restoring || partition.next < partition.emit_from {
            return 0;
        }
        let target = Target::Profiles(number);
        let below = if is_going { i64::MAX } else { partition.due_below };
        let record =
            ProfileRecord { as_of: partition.next, layout: layout.id(), generation: partition.store.generation() };
        let written = partition.store.write_due(below, partition.next, max, |key, profile| {
            let write = profile.map(|profile| move |to: &mut Vec<u8>| record.encode(key, profile, to));
            outbox.push(target, Some(key), &[], write);
            outbox.bytes() < bytes_max
        });
        if written > 0 && !partition.layouts.has_ours {
            partition.layouts.has_ours = true;
            let write = |to: &mut Vec<u8>| to.extend(layout.encode());
            outbox.push(target, Some(&layout_key(layout.id())), &[], Some(write));
        }
        written
    }

    /// The positions that a commit would move: partition, next offset, metadata.
    pub fn progress(&self, layout: &str) -> Vec<(i32, i64, String)> {
        self.each()
            .filter(|(_, partition)| !partition.is_restoring && partition.next >= partition.emit_from)
            .map(|(number, partition)| (number, partition, partition.metadata(layout)))
            .filter(|(_, partition, metadata)| match &partition.committed {
                Some((offset, known)) => partition.next > *offset || metadata != known,
                None => partition.next > partition.emit_from,
            })
            .map(|(number, partition, metadata)| {
                let one_low = i64::from(canary::is_in(Canary::OffsetsOneLow));
                (number, partition.next - one_low, metadata)
            })
            .collect()
    }

    /// The positions of all partitions whose input is being processed, moved or not.
    pub fn positions(&self, layout: &str) -> Vec<(i32, i64, String)> {
        self.each()
            .filter(|(_, partition)| !partition.is_restoring && partition.next >= partition.emit_from)
            .map(|(number, partition)| (number, partition.next, partition.metadata(layout)))
            .collect()
    }

    /// Notes that these positions are committed.
    pub fn settle(&mut self, positions: Vec<(i32, i64, String)>) {
        for (number, offset, metadata) in positions {
            if let Some(partition) = self.get_mut(number) {
                partition.committed = Some((offset, metadata));
            }
        }
    }
}

impl Stores for Partitions {
    fn store(&mut self, partition: i32) -> &mut Store {
        &mut self.get_mut(partition).expect("only records of held partitions are taken").store
    }
}
