//! The partitions that a worker holds: their profiles, how far they have come, and what of them is committed.

use super::{PartitionView, Phase};
use crate::{
    canary::{self, Canary},
    event::{EventTime, Record},
    profile::{Carry, Layout, ProfileEngine},
    sink::{Outbox, Target},
    state::{
        Mark, ProfileRecord, SnapshotOf, SnapshotWriter, Store, Stores, decode_profile, hash_key, is_layout_key,
        layout_key,
    },
};
use std::{
    collections::{HashMap, VecDeque},
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
        }
    }

    /// The same partition, whose profiles are begun anew from the input for the `history`-th time.
    #[must_use]
    pub fn of_history(mut self, history: u64) -> Self {
        self.store = Store::of_history(history);
        self
    }

    /// The same partition, whose profiles have to be read from the changelog first, as they were at `mark`. If that does
    /// not hold what it has to, the input is read again from `log_start`.
    #[must_use]
    pub fn restoring(mut self, mark: Mark, log_start: i64) -> Self {
        self.is_restoring = !canary::is_in(Canary::RestoreSkipped);
        self.mark = Some(mark);
        self.log_start = log_start;
        self.store = Store::of_history(mark.history);
        self.store.rewind(mark.newest);
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

    /// Forgets all profiles, for those of a history.
    fn empty(&mut self, history: u64) {
        self.store = Store::of_history(history);
        self.layouts = Layouts::default();
    }

    /// Brings profiles into the engine's layout; says how many cannot be.
    fn carry_over(&mut self, foreign: HashMap<Box<[u8]>, String>, profile: &ProfileEngine) -> u64 {
        let found = &self.layouts.found;
        let carries: HashMap<&str, Carry> = found.iter().map(|it| (it.id(), profile.carry(it))).collect();
        let mut lost = 0;
        for (key, layout) in foreign {
            let carry = carries.get(layout.as_str());
            let is_carried =
                carry.is_some_and(|carry| self.store.convert(hash_key(&key), &key, |words| carry.apply(words)));
            lost += u64::from(!is_carried);
        }
        lost
    }

    /// Whether an event at this offset was decided before, and is only read again.
    pub(super) fn is_replay(&self, offset: i64) -> bool {
        offset < self.emit_from && !canary::is_in(Canary::ReplayEmits)
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
    /// How many profiles the changelog held.
    pub found: u64,
    /// How many it had to hold.
    pub owed: u64,
    /// How many of them were made by other features, of which what is still declared was carried over.
    pub carried: u64,
    /// Whether a part of it came from a snapshot; if the numbers differ, the changelog has to be read as a whole.
    pub is_cached: bool,
}

impl Recovered {
    /// Whether the changelog was whole.
    pub fn is_whole(&self) -> bool {
        self.found == self.owed
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
            emit_from: partition.emit_from,
            end: None,
            newest: partition.store.newest().map(EventTime),
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

    /// Takes a record of the changelog in, for profiles of the layout `ours`. What is no profile of this history counts as
    /// none: the mark of the committed offset lies before all events of such a user.
    pub fn restore(&mut self, record: &Record<'_>, ours: &Layout) {
        self.restore_applied(record, ours, i64::MIN);
    }

    /// Takes a record of a snapshot in, whose words have every event before `applied` in them.
    pub fn restore_applied(&mut self, record: &Record<'_>, ours: &Layout, applied: i64) {
        let (Some(partition), Some(key)) = (self.get_mut(record.partition), record.key) else { return };
        let layouts = &mut partition.layouts;
        if is_layout_key(key) {
            let layout = record.payload.and_then(Layout::decode);
            layouts.has_ours |= layout.as_ref() == Some(ours);
            layouts.found.extend(layout);
            return;
        }
        let profile = record.payload.and_then(decode_profile);
        let profile = profile.filter(|profile| profile.history == partition.store.history());
        let as_of = profile.as_ref().map_or(i64::MIN, |profile| profile.as_of);
        let state = profile.as_ref().map(|profile| profile.state.as_slice());
        partition.store.restore(hash_key(key), key, state, as_of, applied.max(as_of));
        match profile {
            Some(profile) if profile.layout != ours.id() => {
                layouts.foreign.insert(key.into(), profile.layout);
            }
            _ if layouts.foreign.is_empty() => {}
            _ => {
                layouts.foreign.remove(key);
            }
        }
    }

    /// Ends the restore of a partition: carries profiles of other layouts over, and gives the offset from which its input
    /// goes on. A changelog that does not hold as many profiles as were committed to it, or whose layouts are not known,
    /// was cut, made anew or damaged: none of it is used then, and the whole input is read again.
    pub fn restored(&mut self, number: i32, profile: &ProfileEngine) -> Option<Recovered> {
        let partition = self.get_mut(number)?;
        partition.is_restoring = false;
        let count = partition.store.len() as u64;
        let owed = partition.mark.map_or(count, |mark| mark.records);
        let foreign = std::mem::take(&mut partition.layouts.foreign);
        let carried = foreign.len() as u64;
        let found = if count == owed { count - partition.carry_over(foreign, profile) } else { count };
        let is_cached = std::mem::take(&mut partition.is_cached);
        if found != owed && is_cached {
            partition.is_restoring = true;
        } else if found != owed {
            partition.empty(partition.store.history() + 1);
            partition.next = partition.log_start;
        }
        Some(Recovered { next: partition.next, found, owed, carried, is_cached })
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
            partition.empty(partition.store.history());
            partition.store.rewind(partition.mark.and_then(|mark| mark.newest));
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
        let history = store.history();
        let is_whole = store.recorded(|key, profile, as_of| {
            record.clear();
            ProfileRecord { as_of, layout, history }.encode(profile, &mut record);
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
            partition.next >= partition.emit_from && partition.store.mark(i64::MAX).replay_from < partition.due_below
        })
    }

    /// Appends the records of the profiles of one partition that are due, or of all its dirty ones where it `is_going`, to the
    /// outputs: at most `max`, and their layout where the changelog does not have it yet. Says how many there were.
    pub fn write_profiles(
        &mut self,
        number: i32,
        is_going: bool,
        max: usize,
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
        let record = ProfileRecord { as_of: partition.next, layout: layout.id(), history: partition.store.history() };
        let written = partition.store.write_due(below, partition.next, max, |key, profile| {
            let write = profile.map(|profile| move |to: &mut Vec<u8>| record.encode(profile, to));
            outbox.push(target, Some(key), &[], write);
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
