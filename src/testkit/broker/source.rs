//! The model broker's consumer.

use super::{Cluster, Fate, Fuse, Input, MemoryBroker, Place, Slot, Visible, group::Membership};
use crate::{
    canary::{self, Canary},
    event::Record,
    source::{Change, Committed, Restored, Source, SourceError, Watermarks},
};
use rand::Rng;
use std::{collections::BTreeMap, time::Duration};

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The offset first set.
    first: usize,
    next: usize,
    is_paused: bool,
    /// The offset of records fetched before the last seek that are still handed over, now or after newer records.
    stale: Option<usize>,
}

impl Position {
    fn at(first: usize) -> Self {
        Self { first, next: first, is_paused: false, stale: None }
    }
}

/// A changelog being read.
#[derive(Clone, Copy, Debug)]
struct Reading {
    partition: i32,
    next: usize,
    end: usize,
    is_begun: bool,
}

/// A member of the group.
pub struct MemorySource {
    broker: MemoryBroker,
    member: u64,
    positions: BTreeMap<i32, Position>,
    reading: Vec<Reading>,
    fuse: Fuse,
    /// Whether a position was no longer in the log.
    is_cut: bool,
}

impl MemorySource {
    pub(super) fn new(broker: MemoryBroker, member: u64, fuse: Fuse) -> Self {
        Self { broker, member, positions: BTreeMap::new(), reading: Vec::new(), fuse, is_cut: false }
    }

    /// The fuse that kills or pauses its worker.
    pub fn fuse(&self) -> Fuse {
        self.fuse.clone()
    }

    /// Fails once the worker is dead.
    fn call(&self) -> Result<(), SourceError> {
        self.broker.burn(&self.fuse, self.member);
        if self.fuse.is_dead() {
            return Err(SourceError::Fatal { doing: "go on".to_owned(), detail: "the worker is dead".to_owned() });
        }
        Ok(())
    }

    /// Its number among all members ever.
    pub fn member(&self) -> u64 {
        self.member
    }

    fn forget(&mut self, partitions: &[i32]) {
        let before = self.reading.len();
        self.reading.retain(|it| !partitions.contains(&it.partition));
        self.broker.0.borrow_mut().restores -= before - self.reading.len();
    }
}

impl Drop for MemorySource {
    fn drop(&mut self) {
        self.broker.0.borrow_mut().restores -= self.reading.len();
    }
}

impl Source for MemorySource {
    type Group = Option<Membership>;

    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(&Record<'_>)) -> Result<usize, SourceError> {
        self.call()?;
        let mut cluster = self.broker.0.borrow_mut();
        let cluster = &mut *cluster;
        cluster.meanwhile();
        // A poll that serves a rebalance returns no records.
        if cluster.group.is_changing(self.member) && cluster.one_in(2) {
            return Ok(0);
        }
        let max = cluster.chance.random.random_range(1..=max);
        let mut taken = 0;
        let mut hand_over = |input: &Input, partition: i32, offset: usize| {
            let record = &input.records[offset];
            let is_seen = record.counts() || canary::is_in(Canary::InputUncommitted) && record.fate != Fate::Marker;
            if is_seen {
                taken += 1;
                take(&Record {
                    partition,
                    offset: offset as i64,
                    timestamp_ms: Some(record.timestamp_ms).filter(|millis| *millis >= 0),
                    key: record.key.as_deref(),
                    payload: record.payload.as_deref(),
                    traceparent: None,
                    erase: record.erase.as_deref(),
                });
            }
            taken
        };
        let mut count = 0;
        for (partition, position) in self.positions.iter_mut().filter(|(_, position)| !position.is_paused) {
            let input = &cluster.input[*partition as usize];
            let end = if canary::is_in(Canary::InputUncommitted) { input.high } else { input.stable() };
            if let Some(from) = position.stale
                && cluster.chance.random.random_bool(0.5)
            {
                position.stale = None;
                for offset in from.max(input.low)..position.next {
                    count = hand_over(input, *partition, offset);
                }
            }
            while count < max && position.next < end {
                if position.next < input.low {
                    // The member only learns this about its own partition; otherwise another member has continued from
                    // here.
                    self.is_cut |= cluster.group.owns(self.member, *partition);
                    break;
                }
                count = hand_over(input, *partition, position.next);
                position.next += 1;
            }
        }
        Ok(count)
    }

    fn change(&mut self) -> Option<Change> {
        self.call().ok()?;
        let mut cluster = self.broker.0.borrow_mut();
        // A removed member learns of it at its next heartbeat, and continues until then.
        if cluster.group.is_put_out(self.member) && !cluster.one_in(4) {
            return None;
        }
        cluster.group.change(self.member)
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError> {
        self.call()?;
        let mut cluster = self.broker.0.borrow_mut();
        let mut committed = Vec::new();
        for partition in partitions {
            cluster.meanwhile();
            let (offset, metadata) = cluster.stable_position(*partition).unzip();
            committed.push((*partition, Committed { offset, metadata: metadata.unwrap_or_default() }));
        }
        cluster.meanwhile();
        Ok(committed)
    }

    fn watermarks(&mut self, partition: i32) -> Result<Watermarks, SourceError> {
        self.call()?;
        let cluster = self.broker.0.borrow();
        let input = &cluster.input[partition as usize];
        Ok(Watermarks { low: input.low as i64, high: input.stable() as i64 })
    }

    fn is_at_end(&self, partition: i32, end: i64) -> bool {
        self.positions.get(&partition).is_some_and(|position| position.next as i64 >= end)
    }

    fn lacking(&mut self, _: &[i32]) -> Result<Vec<i32>, SourceError> {
        Ok(Vec::new())
    }

    fn is_cut(&mut self) -> bool {
        std::mem::take(&mut self.is_cut)
    }

    fn assign(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        self.call()?;
        for (partition, start) in starts {
            self.positions.insert(*partition, Position::at(*start as usize));
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.call()?;
        self.positions.retain(|partition, _| !partitions.contains(partition));
        self.forget(partitions);
        self.broker.0.borrow_mut().group.release(self.member, partitions);
        Ok(())
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.call()?;
        for partition in partitions {
            self.positions.get_mut(partition).expect("only what is held is paused").is_paused = true;
        }
        Ok(())
    }

    fn resume(&mut self, partition: i32, offset: i64) -> Result<(), SourceError> {
        self.call()?;
        let position = self.positions.get_mut(&partition).expect("only what is held is resumed");
        let next = offset as usize;
        let first = position.first.min(next);
        *position = Position { first, ..Position::at(next) };
        let mut cluster = self.broker.0.borrow_mut();
        let stale_fetch = cluster.chance.faults.stale_fetch;
        if cluster.strikes(stale_fetch) {
            let from = next.saturating_sub(cluster.chance.random.random_range(1..6));
            position.stale = Some(from.max(first));
        }
        Ok(())
    }

    fn profiles_end(&mut self, partition: i32) -> Result<i64, SourceError> {
        self.call()?;
        Ok(self.broker.0.borrow().stable(Place::Profiles(partition)) as i64)
    }

    fn restore(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        self.call()?;
        let partitions: Vec<i32> = starts.iter().map(|(partition, _)| *partition).collect();
        self.forget(&partitions);
        let mut cluster = self.broker.0.borrow_mut();
        for (partition, from) in starts {
            let place = Place::Profiles(*partition);
            let end = if canary::is_in(Canary::RestoreToStable) { cluster.stable(place) } else { cluster.end(place) };
            self.reading.push(Reading { partition: *partition, next: *from as usize, end, is_begun: false });
            cluster.restores += 1;
        }
        Ok(())
    }

    fn poll_restore(&mut self, max: usize, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError> {
        self.call()?;
        let mut cluster = self.broker.0.borrow_mut();
        cluster.meanwhile();
        let max = cluster.chance.random.random_range(1..=max.min(20));
        let mut done = Vec::new();
        for Reading { partition, next, end, is_begun } in &mut self.reading {
            let place = Place::Profiles(*partition);
            if cluster.stable(place) < *end {
                continue;
            }
            if !*is_begun {
                *is_begun = true;
                let low = cluster.logs.get(&place).map_or(0, |log| log.low);
                take(Restored::Bounds(*partition, Watermarks { low: low as i64, high: *end as i64 }));
            }
            for _ in 0..max {
                if *next >= *end {
                    break;
                }
                if let Some(record) = seen(&cluster, place, *next) {
                    take(Restored::Record(&Record {
                        partition: *partition,
                        offset: *next as i64,
                        key: record.key.as_deref(),
                        payload: record.payload.as_deref(),
                        ..Record::default()
                    }));
                }
                *next += 1;
            }
            if next >= end {
                done.push(*partition);
                take(Restored::Done(*partition));
            }
        }
        drop(cluster);
        self.forget(&done);
        Ok(())
    }

    fn group(&self) -> Option<Option<Membership>> {
        // A commit without a generation is not checked.
        if canary::is_in(Canary::GenerationIgnored) {
            return Some(None);
        }
        self.broker.0.borrow().group.membership(self.member).map(Some)
    }
}

/// A changelog record as this reader sees it.
fn seen(cluster: &Cluster, place: Place, offset: usize) -> Option<&Visible> {
    if canary::is_in(Canary::ChangelogUncommitted)
        && let Slot::Record(_, record) = cluster.logs.get(&place)?.slots.get(offset)?
    {
        return Some(record);
    }
    cluster.committed_record(place, offset)
}
