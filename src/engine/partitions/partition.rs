//! One partition: its profiles, its position, and what is known about its changelog while that is read.

use crate::{
    canary::{self, Canary},
    event::Record,
    profile::{Carry, Layout, ProfileEngine},
    proto::v1,
    sink::{Outbox, Target},
    state::{
        Ceilings, Mark, NamedSince, PartitionClock, ProfileRecord, Store, TICKS_MAX, Ticks, Unfit, decode_profile,
        hash_key, is_erasure_key, layout_id, layout_key,
    },
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

/// One held partition: its profiles and its position.
#[derive(Debug)]
pub struct Partition {
    pub(super) store: Store,
    /// The next offset to be processed.
    pub(in crate::engine) next: i64,
    /// Events before this offset are only replayed: their outputs were committed before.
    pub(in crate::engine) replay_until: i64,
    /// The group's committed offset and its metadata.
    pub(super) committed: Option<(i64, String)>,
    pub(super) restore: Restore,
    pub(super) due: Due,
    /// The number of users in each lasting segment, in the order of the memberships in a profile. Only shown.
    pub(in crate::engine) members: Vec<u64>,
    pub(super) layouts: Layouts,
    pub(super) unfit: UnfitRecords,
}

/// The restore of a partition's profiles from the changelog.
#[derive(Debug)]
pub(super) struct Restore {
    /// Whether it is still going on; the partition's input is paused meanwhile.
    pub(super) is_running: bool,
    /// Whether only the erased users are restored, because the profiles are rebuilt from the input.
    pub(super) is_rebuilding: bool,
    /// What the changelog has to contain, while it is read.
    pub(super) mark: Option<Mark>,
    /// Whether its profiles came from a snapshot.
    pub(super) is_cached: bool,
    /// The first offset of the input when the partition was assigned.
    pub(super) log_start: i64,
}

/// Which profiles are due to be written.
#[derive(Debug)]
pub(super) struct Due {
    /// Samples of processing time and the offset at that time, oldest first.
    pub(super) notes: VecDeque<(Duration, i64)>,
    /// Profiles with an unwritten event before this offset are due.
    pub(super) below: i64,
}

/// The changelog records that cannot be used, counted while profiles are restored.
#[derive(Debug, Default)]
pub(super) struct UnfitRecords {
    /// The users whose newest record is one of them.
    pub(super) users: HashSet<Box<[u8]>>,
    /// How many there were, including those that newer records replace.
    pub(super) count: u64,
    /// The offset of the first one, and what is wrong with it.
    pub(super) first: Option<(i64, Unfit)>,
    /// How many of them say who was erased. The input has to say it again.
    pub(super) erasures: u64,
}

impl UnfitRecords {
    pub(super) fn note(&mut self, offset: i64, why: Unfit) {
        self.count += 1;
        self.first.get_or_insert((offset, why));
    }
}

/// The layouts in a partition's changelog.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    /// The layouts that were found.
    pub(super) found: Vec<Layout>,
    /// During a restore: the users whose profiles have another layout than ours, with its id. They are carried over at
    /// the end, because compaction may move a layout after its profiles.
    pub(super) foreign: HashMap<Box<[u8]>, String>,
    /// Whether ours is among them.
    pub(super) has_ours: bool,
}

impl Partition {
    /// A partition without profiles, read from `next`; its outputs before `replay_until` are already committed.
    pub fn new(next: i64, replay_until: i64, committed: Option<(i64, String)>) -> Self {
        Self {
            store: Store::default(),
            next,
            replay_until,
            committed,
            restore: Restore { is_running: false, is_rebuilding: false, mark: None, is_cached: false, log_start: next },
            due: Due { notes: VecDeque::new(), below: i64::MIN },
            members: Vec::new(),
            layouts: Layouts::default(),
            unfit: UnfitRecords::default(),
        }
    }

    /// The same partition with profiles of this generation, which is how often they have been rebuilt from the input.
    #[must_use]
    pub fn of_generation(mut self, generation: u64) -> Self {
        self.store = Store::of_generation(generation);
        self
    }

    /// The same partition with the known ceilings, which decide which events are rejected as too far in the future, and
    /// the known ticks.
    #[must_use]
    pub fn under(mut self, ceilings: Ceilings, ticks: Ticks) -> Self {
        self.store.rewind(PartitionClock::default(), ceilings, ticks);
        self
    }

    /// The same partition, with its profiles to be restored from the changelog as of `mark`. If the changelog is
    /// incomplete, the input is replayed from `log_start`.
    #[must_use]
    pub fn restoring(mut self, mark: Mark, log_start: i64) -> Self {
        let is_running = !canary::is_in(Canary::RestoreSkipped);
        self.restore = Restore { is_running, mark: Some(mark), log_start, ..self.restore };
        self.store = Store::of_generation(mark.generation);
        self.store.rewind(mark.clock, mark.ceilings, mark.ticks);
        self
    }

    /// The same partition, with its erased users to be restored from the changelog before its profiles are rebuilt.
    #[must_use]
    pub fn rebuilding(mut self) -> Self {
        self.restore.is_running = true;
        self.restore.is_rebuilding = true;
        self
    }

    /// Notes since when users are named by the key of pseudonyms with this id: as the committed position says, or else, if they
    /// move to it from a previous key, from that position on. Returns false if the position names neither key: users were named by
    /// another one. Positions of earlier releases name none unless a key has changed.
    pub fn name_by(&mut self, key: Option<u64>, previous: Option<u64>) -> bool {
        let committed = self.committed.as_ref();
        let mark = committed.and_then(|(next, text)| Mark::parse(text).filter(|(mark, _)| mark.is_sound(*next)));
        let known = mark.and_then(|(mark, _)| mark.named);
        let is_ours = known.is_none_or(|known| [key, previous].contains(&Some(known.key)));
        let known = known.filter(|named| Some(named.key) == key);
        // Without a previous key, all users have this one's names, and no record is from before it.
        let offset = previous.map_or(0, |_| self.replay_until);
        let begins = key.map(|key| NamedSince { key, offset });
        self.store.name_since(known.or(begins));
        is_ours
    }

    /// The profiles.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The next offset to be processed: every event before it has been applied to the profiles.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Whether its profiles are rebuilt from the input, and the changelog is only read for who was erased.
    pub(in crate::engine) fn is_rebuilding(&self) -> bool {
        self.restore.is_rebuilding
    }

    /// Whether its profiles are still being read from the changelog.
    pub fn is_restoring(&self) -> bool {
        self.restore.is_running
    }

    /// Drops all profiles and starts a new generation. Who was erased stays known.
    pub(super) fn empty(&mut self, generation: u64) {
        let store = Store::of_generation(generation).after(&mut self.store);
        self.replace(store);
    }

    /// Drops all that was read of the changelog or a snapshot.
    pub(super) fn forget(&mut self) {
        self.replace(Store::of_generation(self.store.generation()));
    }

    fn replace(&mut self, store: Store) {
        let (ceilings, ticks, named) = (self.store.ceilings(), *self.store.ticks(), self.store.named());
        self.store = store;
        self.store.name_since(named);
        self.store.rewind(PartitionClock::default(), ceilings, ticks);
        self.members.clear();
        self.layouts = Layouts::default();
        self.unfit = UnfitRecords::default();
    }

    /// Converts profiles to the engine's layout, and removes those that cannot be converted.
    pub(super) fn carry_over(&mut self, foreign: HashMap<Box<[u8]>, String>, profile: &ProfileEngine) {
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

    /// Counts the restored memberships, and schedules their ends.
    pub(super) fn schedule_memberships(&mut self, profile: &ProfileEngine) {
        self.members.clear();
        if profile.memberships().is_empty() || canary::is_in(Canary::TimersNotRestored) {
            return;
        }
        let Self { store, members, .. } = self;
        store.schedule_all(|words| {
            if canary::is_in(Canary::MembershipsNotRestored) {
                words[profile.memberships()].fill(0);
                return (true, None);
            }
            let is_lost = canary::is_in(Canary::EmissionStateNotRestored);
            if is_lost {
                words[profile.said()].fill(0);
            }
            let has_changed = profile.bound_memberships(words) || is_lost;
            for cell in profile.held_memberships(words) {
                count_member(members, cell, true);
            }
            (has_changed, profile.first_expiry(words))
        });
    }

    /// Restores who was erased, or a layout; other keys that are not a user's are ignored.
    pub(super) fn restore_reserved(&mut self, key: &[u8], record: &Record<'_>, ours: &Layout) {
        if !is_erasure_key(key) {
            // A rebuild writes its layout again, with the first profiles: the records that are read here may be gone by then.
            if !self.restore.is_rebuilding {
                self.restore_layout(key, record, ours);
            }
        } else if let Err(why) = self.store.erasures_mut().restore(key, record.payload) {
            self.unfit.note(record.offset, why);
            self.unfit.erasures += 1;
        }
    }

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

    /// Decodes and checks the profile in a record.
    pub(super) fn profile_in(
        &self,
        key: &[u8],
        payload: &[u8],
        written_ms: Option<i64>,
        profile: &ProfileEngine,
    ) -> Result<v1::Profile, Unfit> {
        let found = decode_profile(key, payload)?;
        // A user has at least one event, and a record was committed together with the events in it.
        if found.as_of < 1 || found.as_of > self.replay_until || found.history > self.store.generation() {
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

    /// Whether an event at this offset was decided before, and is only replayed.
    pub(in crate::engine) fn is_replay(&self, offset: i64) -> bool {
        offset < self.replay_until && !canary::is_in(Canary::ReplayEmits)
    }

    /// The latest time that the event at this offset may have; `latest` is what this process allows now.
    pub(in crate::engine) fn ceiling(&mut self, offset: i64, latest: Option<i64>) -> Option<i64> {
        let is_replay = offset < self.replay_until;
        self.store.ceiling(offset, is_replay, latest)
    }

    /// A record of a profile as it is now.
    pub(super) fn record<'a>(&self, layout: &'a Layout) -> ProfileRecord<'a> {
        let generation = self.store.generation();
        ProfileRecord { as_of: self.next, layout: layout.id(), generation, dirty_from: None }
    }

    /// Appends the layout to the outputs if the changelog does not have it yet.
    pub(super) fn write_layout(&mut self, target: Target, layout: &Layout, outbox: &mut Outbox) {
        if !std::mem::replace(&mut self.layouts.has_ours, true) {
            let write = |to: &mut Vec<u8>| to.extend(layout.encode());
            outbox.push(target, Some(&layout_key(layout.id())), &[], Some(write));
        }
    }

    pub(super) fn metadata(&self, layout: &str) -> String {
        self.store.mark_since(self.next, self.committed_offset()).metadata(layout)
    }

    /// The committed offset, or `i64::MIN` if there is none.
    fn committed_offset(&self) -> i64 {
        self.committed.as_ref().map_or(i64::MIN, |(offset, _)| *offset)
    }

    /// Applies a clock tick, which ends memberships up to this time. Returns whether it was added. Once
    /// half of the room is used, the profiles that still need the earlier ticks become due, so that those ticks can be
    /// dropped.
    pub(in crate::engine) fn tick(&mut self, time: i64) -> bool {
        let is_added = self.store.tick(self.next, time, self.committed_offset());
        if let Some((offset, _)) = self.store.ticks().all().get(TICKS_MAX / 2) {
            self.due.below = self.due.below.max(*offset);
        }
        is_added
    }
}

/// Counts a user who has entered or left the segment of a membership.
pub(in crate::engine) fn count_member(members: &mut Vec<u64>, cell: usize, has_entered: bool) {
    if members.len() <= cell {
        members.resize(cell + 1, 0);
    }
    members[cell] = if has_entered { members[cell] + 1 } else { members[cell].saturating_sub(1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a partition whose committed position says this takes these keys, and what its next position says.
    fn named(said: Option<NamedSince>, key: Option<u64>, previous: Option<u64>) -> (bool, Option<NamedSince>) {
        let mark = Mark { named: said, ..Mark::default() };
        let mut partition = Partition::new(0, 7, Some((7, mark.metadata("layout"))));
        let is_ours = partition.name_by(key, previous);
        (is_ours, partition.store().named())
    }

    #[test]
    fn another_key_is_noticed_and_a_position_without_one_takes_it() {
        let since = |key, offset| Some(NamedSince { key, offset });
        let (first, second) = (Some(1), Some(2));
        assert_eq!(named(None, None, None), (true, None));
        assert_eq!(named(None, first, None), (true, since(1, 0)), "written by an earlier release");
        assert_eq!(named(since(1, 0), first, None), (true, since(1, 0)));
        assert!(!named(since(1, 0), second, None).0);
        assert!(!named(since(1, 0), None, None).0);
        assert!(!named(since(1, 0), second, Some(3)).0);
        assert_eq!(named(since(1, 0), second, first), (true, since(2, 7)), "users move from here on");
        assert_eq!(named(since(2, 7), second, first), (true, since(2, 7)));
        assert_eq!(named(since(2, 7), second, None), (true, since(2, 7)));
        let mut new = Partition::new(0, 0, None);
        assert!(new.name_by(first, None) && !new.store().is_named_before(0));
    }
}
