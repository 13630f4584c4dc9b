//! The partitions that a worker holds: their profiles, how far they have been processed, and their committed positions.

mod partition;
mod recovered;

pub use partition::Partition;
pub(super) use partition::count_member;
pub use recovered::Recovered;

use crate::{
    canary::{self, Canary},
    event::{EventTime, Record},
    profile::{Layout, ProfileEngine},
    sink::{Outbox, Target},
    state::{
        Erasures, PartitionClock, ProfileRecord, SnapshotOf, SnapshotWriter, Store, Stores, hash_key, is_reserved_key,
    },
    status::{PartitionView, Phase},
};
use std::time::Duration;

/// How often offsets are sampled per checkpoint interval.
const NOTES_PER_INTERVAL: u32 = 16;

/// The held partitions, by number.
#[derive(Debug, Default)]
pub struct Partitions(Vec<Option<Box<Partition>>>);

impl Partitions {
    /// Adds a partition.
    pub fn insert(&mut self, number: i32, partition: Partition) {
        let index = number.max(0) as usize;
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = Some(Box::new(partition));
    }

    /// Releases partitions and their state.
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

    /// An upper bound on how many profiles of these partitions have changed since they were written to the changelog.
    pub fn dirty(&self, numbers: &[i32]) -> usize {
        numbers.iter().filter_map(|number| self.get(*number)).map(|partition| partition.store.dirty()).sum()
    }

    /// The view of every partition, except for what only the client knows.
    pub fn views(&self) -> Vec<PartitionView> {
        let view = |(number, partition): (i32, &Partition)| PartitionView {
            number,
            phase: match partition {
                it if it.restore.is_running => Phase::Restoring,
                it if it.next < it.replay_until => Phase::Replaying,
                _ => Phase::Moving,
            },
            next: partition.next,
            replay_until: partition.replay_until,
            end: None,
            newest: partition.store.clock().shown().map(EventTime),
            profiles: partition.store.len() as u64,
            profile_bytes: partition.store.bytes_estimate() as u64,
            dirty: partition.store.dirty() as u64,
            members: partition.members.clone(),
        };
        self.each().map(view).collect()
    }

    /// Whether any partition is being restored.
    pub fn is_restoring(&self) -> bool {
        self.each().any(|(_, partition)| partition.restore.is_running)
    }

    /// Whether a partition is being restored or replayed.
    pub fn is_recovering(&self, number: i32) -> bool {
        self.get(number)
            .is_some_and(|partition| partition.restore.is_running || partition.next < partition.replay_until)
    }

    /// A lower bound on the end of a partition's first membership. `None` during its restore or replay.
    pub fn first_deadline(&self, number: i32) -> Option<EventTime> {
        let partition = self.get(number).filter(|_| !self.is_recovering(number))?;
        partition.store.first_deadline().map(EventTime)
    }

    /// The time of a partition's last clock tick.
    pub fn ticked(&self, number: i32) -> Option<EventTime> {
        self.get(number)?.store.ticked().map(EventTime)
    }

    /// Whether no replay is left to do.
    pub fn is_caught_up(&self) -> bool {
        self.each().all(|(_, partition)| partition.next >= partition.replay_until)
    }

    /// Ends the replay of a partition: there are no more records before the committed position.
    pub fn end_replay(&mut self, number: i32) {
        if let Some(partition) = self.get_mut(number) {
            partition.next = partition.next.max(partition.replay_until);
        }
    }

    /// Skips to an offset, because the log has lost the records before it.
    pub(super) fn skip_to(&mut self, number: i32, offset: i64) {
        if let Some(partition) = self.get_mut(number) {
            partition.next = partition.next.max(offset);
        }
    }

    /// The committed offset of a partition and its metadata.
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
        self.get_mut(number).filter(|partition| !partition.restore.is_running)
    }

    fn each(&self) -> impl Iterator<Item = (i32, &Partition)> {
        self.0.iter().enumerate().filter_map(|(number, slot)| Some((number as i32, slot.as_deref()?)))
    }

    /// Restores the profile in a changelog record. A profile of an earlier generation is ignored, because the mark of
    /// the committed offset is before all events of its user. An unusable record is counted and ignored.
    pub fn restore(&mut self, record: &Record<'_>, profile: &ProfileEngine) {
        self.restore_applied(record, profile, i64::MIN);
    }

    /// Restores the profile in a record of a snapshot. The profile includes every event before `applied`.
    pub fn restore_applied(&mut self, record: &Record<'_>, profile: &ProfileEngine, applied: i64) {
        let (Some(partition), Some(key)) = (self.get_mut(record.partition), record.key) else { return };
        if is_reserved_key(key) {
            partition.restore_reserved(key, record, profile.layout());
            return;
        }
        if partition.restore.is_rebuilding {
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
                if let Some(offset) = found.dirty_from {
                    store.restore_dirty(hash, key, offset);
                }
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

    /// Ends the restore of a partition: carries over profiles of other layouts, and returns the offset at which its
    /// input continues. If single records are unusable, the other profiles stay and the whole input is replayed for
    /// these users. If the changelog does not hold the profiles that were committed to it, it was truncated, recreated
    /// or damaged: none of it is used, and the whole input is replayed for all users.
    pub fn restored(&mut self, number: i32, profile: &ProfileEngine) -> Option<Recovered> {
        let partition = self.get_mut(number)?;
        partition.restore.is_running = false;
        if std::mem::take(&mut partition.restore.is_rebuilding) {
            // Like the layout: the records that were read may be gone by the first commit of a rebuild.
            partition.store.erasures_mut().write_again();
        }
        let foreign = std::mem::take(&mut partition.layouts.foreign);
        let carried = foreign.len() as u64;
        partition.carry_over(foreign, profile);
        let found = partition.store.len() as u64;
        let unfit = std::mem::take(&mut partition.unfit);
        let recovered = Recovered {
            next: partition.next,
            found,
            owed: partition.restore.mark.map_or(found, |mark| mark.records),
            is_latest: partition
                .restore
                .mark
                .and_then(|mark| mark.digest)
                .is_none_or(|digest| digest == partition.store.digest()),
            unfit: unfit.users.len() as u64 + unfit.erasures,
            unfit_records: unfit.count,
            first_unfit: unfit.first,
            carried,
            is_cached: std::mem::take(&mut partition.restore.is_cached),
        };
        if recovered.is_whole() {
            if canary::is_in(Canary::ErasureForgottenAtRestore) {
                *partition.store.erasures_mut() = Erasures::default();
            }
            partition.store.end_restore(partition.next);
            partition.schedule_memberships(profile);
            return Some(recovered);
        }
        if recovered.is_cached {
            partition.restore.is_running = true;
            return Some(recovered);
        }
        if recovered.is_partly_whole() {
            // The tombstones are right until the users' next events, which are applied before any other profile of
            // theirs is written.
            partition.store.bury(unfit.users);
            partition.schedule_memberships(profile);
            let (ceilings, ticks) = (partition.store.ceilings(), *partition.store.ticks());
            partition.store.rewind(PartitionClock::default(), ceilings, ticks);
            partition.store.end_restore(partition.restore.log_start);
        } else {
            partition.empty(partition.store.generation() + 1);
        }
        partition.next = partition.restore.log_start;
        Some(Recovered { next: partition.next, ..recovered })
    }

    /// Notes that the partition's profiles come from a snapshot.
    pub fn cached(&mut self, number: i32) {
        if let Some(partition) = self.get_mut(number) {
            partition.restore.is_cached = true;
        }
    }

    /// Starts the restore of a partition again from nothing.
    pub fn restart(&mut self, number: i32) {
        if let Some(partition) = self.get_mut(number) {
            partition.restore.is_running = true;
            partition.restore.is_cached = false;
            partition.forget();
            let mark = partition.restore.mark.unwrap_or_default();
            partition.store.rewind(mark.clock, mark.ceilings, mark.ticks);
        }
    }

    /// The snapshot of a partition, which replaces the changelog before this offset. `None` unless everything that was
    /// processed is committed.
    pub fn snapshot(&mut self, number: i32, changelog: i64, profile: &ProfileEngine) -> Option<Vec<u8>> {
        let (layout, keeps_memberships) = (profile.layout().id(), !profile.memberships().is_empty());
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
        if !store.is_erasure_written() {
            return None;
        }
        let is_whole = store.recorded(|key, profile, as_of, dirty_from| {
            record.clear();
            // A replay recovers changes by events, but not memberships that ended without one.
            let dirty_from = dirty_from.filter(|_| keeps_memberships);
            ProfileRecord { as_of, layout, generation, dirty_from }.encode(key, profile, &mut record);
            writer.push(key, &record);
        });
        store.erasures().records().for_each(|(key, record)| writer.push(&key, &record));
        is_whole.then(|| writer.finish())
    }

    /// Samples the offset of every partition, so that profiles are due `interval` after their oldest unwritten event.
    pub fn note(&mut self, now: Duration, interval: Duration) {
        for partition in self.0.iter_mut().flatten() {
            if partition.due.notes.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= interval / NOTES_PER_INTERVAL)
            {
                partition.due.notes.push_back((now, partition.next));
            }
            while partition.due.notes.front().is_some_and(|(at, _)| now.saturating_sub(*at) >= interval) {
                partition.due.below = partition.due.notes.pop_front().map_or(partition.due.below, |(_, offset)| offset);
            }
        }
    }

    /// Whether a profile is due to be written, or who was erased.
    pub fn is_due(&self) -> bool {
        self.each().any(|(_, partition)| {
            let is_old = |oldest| oldest < partition.due.below;
            partition.next >= partition.replay_until
                && !partition.restore.is_running
                && (partition.store.oldest_dirty().is_some_and(is_old) || !partition.store.is_erasure_written())
        })
    }

    /// Appends the records of one partition's due profiles to the outputs, or of all its changed ones if `is_going`: at
    /// most `max`, and until the outputs reach `bytes_max`. Their layout follows if the changelog does not have it yet.
    /// Returns the number written.
    pub fn write_profiles(
        &mut self,
        number: i32,
        is_going: bool,
        (max, bytes_max): (usize, usize),
        layout: &Layout,
        outbox: &mut Outbox,
    ) -> usize {
        let Some(partition) = self.get_mut(number) else { return 0 };
        // The mark that was committed before the replay stays valid until the replay has ended.
        if partition.restore.is_running || partition.next < partition.replay_until {
            return 0;
        }
        let target = Target::Profiles(number);
        let below = if is_going { i64::MAX } else { partition.due.below };
        let record = partition.record(layout);
        let written = partition.store.write_due(below, partition.next, max, |key, profile| {
            let write = profile.map(|profile| move |to: &mut Vec<u8>| record.encode(key, profile, to));
            outbox.push(target, Some(key), &[], write);
            outbox.bytes() < bytes_max
        });
        if written > 0 {
            partition.write_layout(target, layout, outbox);
        }
        written
    }

    /// Appends to the outputs what the changelogs lack of users who were erased, or who moved to another name. It must be part of
    /// every commit: see [`Store::write_erasures`] and [`Store::write_moved`].
    pub fn write_erasures(&mut self, layout: &Layout, outbox: &mut Outbox) {
        for (number, slot) in self.0.iter_mut().enumerate() {
            let Some(partition) = slot.as_deref_mut() else { continue };
            // The mark that was committed before the replay stays valid until the replay has ended.
            if !partition.restore.is_running && partition.next >= partition.replay_until {
                let target = Target::Profiles(number as i32);
                partition.store.write_erasures(|key, record| {
                    let write = record.map(|record| move |to: &mut Vec<u8>| to.extend_from_slice(record));
                    outbox.push(target, Some(key), &[], write);
                });
                let record = partition.record(layout);
                let written = partition.store.write_moved(partition.next, |key, profile| {
                    outbox.push(target, Some(key), &[], Some(|to: &mut Vec<u8>| record.encode(key, profile, to)));
                });
                if written > 0 {
                    partition.write_layout(target, layout, outbox);
                }
            }
        }
    }

    /// The positions that have moved since the last commit: partition, next offset, metadata.
    pub fn progress(&self, layout: &str) -> Vec<(i32, i64, String)> {
        self.each()
            .filter(|(_, partition)| !partition.restore.is_running && partition.next >= partition.replay_until)
            .map(|(number, partition)| (number, partition, partition.metadata(layout)))
            .filter(|(_, partition, metadata)| match &partition.committed {
                Some((offset, known)) => partition.next > *offset || metadata != known,
                None => partition.next > partition.replay_until,
            })
            .map(|(number, partition, metadata)| {
                let one_low = i64::from(canary::is_in(Canary::OffsetsOneLow));
                (number, partition.next - one_low, metadata)
            })
            .collect()
    }

    /// The positions of all partitions that are being processed, moved or not.
    pub fn positions(&self, layout: &str) -> Vec<(i32, i64, String)> {
        self.each()
            .filter(|(_, partition)| !partition.restore.is_running && partition.next >= partition.replay_until)
            .map(|(number, partition)| (number, partition.next, partition.metadata(layout)))
            .collect()
    }

    /// Records that these positions are committed.
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
