//! The model broker's consumer.

use super::{MemoryBroker, Place, group::Membership};
use crate::{
    canary::{self, Canary},
    event::Record,
    source::{Change, Committed, Restored, Source, SourceError, Watermarks},
};
use rand::Rng;
use std::{collections::BTreeMap, time::Duration};

#[derive(Clone, Copy, Debug)]
struct Position {
    next: usize,
    is_paused: bool,
}

/// A changelog that is being read.
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
    /// Whether a position was no longer in the log.
    is_cut: bool,
}

impl MemorySource {
    pub(super) fn new(broker: MemoryBroker, member: u64) -> Self {
        Self { broker, member, positions: BTreeMap::new(), reading: Vec::new(), is_cut: false }
    }

    /// Its number among all members that there ever were.
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
        let mut cluster = self.broker.0.borrow_mut();
        cluster.meanwhile();
        // A poll that serves a rebalance hands nothing over.
        if cluster.group.is_changing(self.member) && cluster.one_in(2) {
            return Ok(0);
        }
        let max = cluster.random.random_range(1..=max);
        let mut taken = 0;
        for (partition, position) in &mut self.positions {
            let input = &cluster.input[*partition as usize];
            while taken < max && !position.is_paused && position.next < input.high {
                if position.next < input.low {
                    // Of its own partition it is told; somebody else has gone on from here otherwise.
                    self.is_cut |= cluster.group.owns(self.member, *partition);
                    break;
                }
                let record = &input.records[position.next];
                take(&Record {
                    partition: *partition,
                    offset: position.next as i64,
                    timestamp_ms: Some(record.timestamp_ms).filter(|millis| *millis >= 0),
                    key: record.key.as_deref(),
                    payload: record.payload.as_deref(),
                    traceparent: None,
                });
                position.next += 1;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn change(&mut self) -> Option<Change> {
        let mut cluster = self.broker.0.borrow_mut();
        // Who was put out learns of it by its next heartbeat, and goes on until then.
        if cluster.group.is_put_out(self.member) && !cluster.one_in(4) {
            return None;
        }
        cluster.group.change(self.member)
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError> {
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
        let cluster = self.broker.0.borrow();
        let input = &cluster.input[partition as usize];
        Ok(Watermarks { low: input.low as i64, high: input.high as i64 })
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
        for (partition, start) in starts {
            self.positions.insert(*partition, Position { next: *start as usize, is_paused: false });
        }
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.positions.retain(|partition, _| !partitions.contains(partition));
        self.forget(partitions);
        self.broker.0.borrow_mut().group.release(self.member, partitions);
        Ok(())
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        for partition in partitions {
            self.positions.get_mut(partition).expect("only what is held is paused").is_paused = true;
        }
        Ok(())
    }

    fn resume(&mut self, partition: i32, offset: i64) -> Result<(), SourceError> {
        let position = self.positions.get_mut(&partition).expect("only what is held is resumed");
        *position = Position { next: offset as usize, is_paused: false };
        Ok(())
    }

    fn profiles_end(&mut self, partition: i32) -> Result<i64, SourceError> {
        Ok(self.broker.0.borrow().stable(Place::Profiles(partition)) as i64)
    }

    fn restore(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
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
        let mut cluster = self.broker.0.borrow_mut();
        cluster.meanwhile();
        let max = cluster.random.random_range(1..=max.min(20));
        let mut done = Vec::new();
        for Reading { partition, next, end, is_begun } in &mut self.reading {
            let place = Place::Profiles(*partition);
            if cluster.stable(place) < *end {
                continue;
            }
            if !*is_begun {
                *is_begun = true;
                take(Restored::Bounds(*partition, Watermarks { low: 0, high: *end as i64 }));
            }
            for _ in 0..max {
                if *next >= *end {
                    break;
                }
                if let Some(record) = cluster.committed_record(place, *next) {
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
        // A commit that names no generation is not checked.
        if canary::is_in(Canary::GenerationIgnored) {
            return Some(None);
        }
        self.broker.0.borrow().group.membership(self.member).map(Some)
    }

    fn commit(&mut self, offsets: &[(i32, i64, String)]) -> Result<(), SourceError> {
        let mut cluster = self.broker.0.borrow_mut();
        for (partition, offset, metadata) in offsets {
            cluster.committed.insert(*partition, (*offset, metadata.clone()));
        }
        Ok(())
    }
}
