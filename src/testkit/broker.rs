//! A model broker in memory, for one group on one input topic.
//!
//! Owns what the worker's guarantees rest on and no more: input partitions, committed offsets with metadata,
//! transactions that become visible as a whole, producer epochs that shut an older producer out, and group generations
//! that refuse a stale commit. Faults are drawn from a seed at each call, so a failing run is replayed by its seed. It
//! leaves out time-outs in real time, several brokers, retention and compaction.

use crate::{
    event::Record,
    sink::{Outbox, Sink, SinkError, Target},
    source::{Change, Committed, Restored, Source, SourceError, Watermarks},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    time::Duration,
};

/// A message that a `read_committed` reader sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visible {
    /// Where it went.
    pub target: Target,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

/// One record of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub payload: Option<Vec<u8>>,
    /// Kafka's timestamp.
    pub timestamp_ms: i64,
}

/// How often each kind of fault strikes, in thousandths of the calls that it can strike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A call of a transaction that demands an abort.
    pub abortable: u32,
    /// A commit whose answer is lost; half of them have taken effect.
    pub unknown: u32,
    /// A commit of a generation that has passed.
    pub stale: u32,
    /// The group takes all partitions away, without notice, and gives them back.
    pub lost: u32,
    /// The group revokes all partitions in order, and gives them back.
    pub revoked: u32,
}

struct Log {
    input: Vec<Vec<InputRecord>>,
    committed: BTreeMap<i32, (i64, String)>,
    visible: Vec<Visible>,
    /// The epoch of the transactional id: only the newest producer may commit.
    epoch: u64,
    generation: u64,
    changes: VecDeque<Change>,
    faults: Faults,
    random: SmallRng,
}

/// The broker; its clones are the same broker.
#[derive(Clone)]
pub struct MemoryBroker(Rc<RefCell<Log>>);

impl MemoryBroker {
    /// A broker that holds this input.
    pub fn new(input: Vec<Vec<InputRecord>>, faults: Faults, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Log {
            input,
            committed: BTreeMap::new(),
            visible: Vec::new(),
            epoch: 0,
            generation: 0,
            changes: VecDeque::new(),
            faults,
            random: SmallRng::seed_from_u64(seed),
        })))
    }

    /// A member that gets all partitions, and a sink. Those of before are shut out.
    pub fn join(&self) -> (MemorySource, MemorySink) {
        let mut log = self.0.borrow_mut();
        log.generation += 1;
        let all = (0..log.input.len() as i32).collect();
        log.changes.clear();
        log.changes.push_back(Change::Assigned(all));
        let generation = log.generation;
        (
            MemorySource { broker: self.clone(), generation, positions: BTreeMap::new(), restoring: Vec::new() },
            MemorySink { broker: self.clone(), epoch: None, pending: Vec::new(), committing: None },
        )
    }

    /// Ends all faults.
    pub fn without_faults(&self) {
        self.0.borrow_mut().faults = Faults::default();
    }

    /// What `read_committed` readers have seen, in order.
    pub fn visible(&self) -> Vec<Visible> {
        self.0.borrow().visible.clone()
    }

    /// The committed offset of each partition.
    pub fn committed(&self) -> Vec<i64> {
        let log = self.0.borrow();
        (0..log.input.len() as i32).map(|partition| log.committed.get(&partition).map_or(0, |it| it.0)).collect()
    }

    /// Whether every input record lies behind a committed offset.
    pub fn is_done(&self) -> bool {
        let log = self.0.borrow();
        log.input.iter().zip(self.committed()).all(|(input, committed)| committed == input.len() as i64)
    }
}

impl Log {
    fn strikes(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.random.random_range(0..1_000) < thousandths
    }
}

/// The model broker's consumer.
pub struct MemorySource {
    broker: MemoryBroker,
    generation: u64,
    positions: BTreeMap<i32, i64>,
    /// Partitions whose changelog is being read: the next record among all that is visible, and the end.
    restoring: Vec<(i32, usize, usize)>,
}

impl Source for MemorySource {
    type Group = u64;

    fn poll(&mut self, max: usize, _: Duration, take: &mut dyn FnMut(&Record<'_>)) -> Result<usize, SourceError> {
        let mut log = self.broker.0.borrow_mut();
        let all: Vec<i32> = (0..log.input.len() as i32).collect();
        let (faults, held) = (log.faults, !self.positions.is_empty());
        let lost = held && log.strikes(faults.lost);
        if lost || (held && log.strikes(faults.revoked)) {
            log.changes.push_back(if lost { Change::Lost(all.clone()) } else { Change::Revoked(all.clone()) });
            log.changes.push_back(Change::Assigned(all));
            if lost {
                log.generation += 1;
            }
        }
        let max = log.random.random_range(1..=max);
        let mut taken = 0;
        for (partition, position) in &mut self.positions {
            while taken < max && (*position as usize) < log.input[*partition as usize].len() {
                let record = &log.input[*partition as usize][*position as usize];
                take(&Record {
                    partition: *partition,
                    offset: *position,
                    timestamp_ms: Some(record.timestamp_ms),
                    key: record.key.as_deref(),
                    payload: record.payload.as_deref(),
                    traceparent: None,
                });
                *position += 1;
                taken += 1;
            }
        }
        Ok(taken)
    }

    fn change(&mut self) -> Option<Change> {
        self.broker.0.borrow_mut().changes.pop_front()
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError> {
        let log = self.broker.0.borrow();
        Ok(partitions
            .iter()
            .map(|partition| {
                let (offset, metadata) = log.committed.get(partition).cloned().unzip();
                (*partition, Committed { offset, metadata: metadata.unwrap_or_default() })
            })
            .collect())
    }

    fn watermarks(&mut self, partition: i32) -> Result<Watermarks, SourceError> {
        Ok(Watermarks { low: 0, high: self.broker.0.borrow().input[partition as usize].len() as i64 })
    }

    fn assign(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        self.generation = self.broker.0.borrow().generation;
        self.positions.extend(starts.iter().copied());
        Ok(())
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.positions.retain(|partition, _| !partitions.contains(partition));
        self.restoring.retain(|(partition, ..)| !partitions.contains(partition));
        Ok(())
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.positions.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    fn resume(&mut self, partition: i32, offset: i64) -> Result<(), SourceError> {
        self.positions.insert(partition, offset);
        Ok(())
    }

    fn restore(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        let log = self.broker.0.borrow();
        self.restoring.retain(|(partition, ..)| !partitions.contains(partition));
        self.restoring.extend(partitions.iter().map(|partition| (*partition, 0, log.visible.len())));
        Ok(())
    }

    fn poll_restore(&mut self, max: usize, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError> {
        let mut log = self.broker.0.borrow_mut();
        let max = log.random.random_range(1..=max.min(20));
        for (partition, next, end) in &mut self.restoring {
            for _ in 0..max {
                let Some(record) = log.visible.get(*next).filter(|_| *next < *end) else { break };
                if record.target == Target::Profiles(*partition) {
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
            if next == end {
                take(Restored::Done(*partition));
            }
        }
        self.restoring.retain(|(_, next, end)| next < end);
        Ok(())
    }

    fn group(&self) -> Option<u64> {
        Some(self.generation)
    }

    fn commit(&mut self, offsets: &[(i32, i64, String)]) -> Result<(), SourceError> {
        let mut log = self.broker.0.borrow_mut();
        for (partition, offset, metadata) in offsets {
            log.committed.insert(*partition, (*offset, metadata.clone()));
        }
        Ok(())
    }
}

/// A commit that is under way.
struct Commit {
    pending: Vec<Visible>,
    positions: Vec<(i32, i64, String)>,
    group: u64,
}

/// The model broker's transactional producers: one transaction fills while another one is being committed.
pub struct MemorySink {
    broker: MemoryBroker,
    epoch: Option<u64>,
    pending: Vec<Visible>,
    committing: Option<Commit>,
}

impl MemorySink {
    fn check(&mut self, doing: &'static str) -> Result<(), SinkError> {
        let mut log = self.broker.0.borrow_mut();
        if self.epoch != Some(log.epoch) {
            return Err(SinkError::Unknown { doing, detail: "a newer producer has fenced this one".to_owned() });
        }
        let faults = log.faults;
        if log.strikes(faults.abortable) {
            return Err(SinkError::Abortable { doing, detail: "injected".to_owned() });
        }
        Ok(())
    }

    /// What the broker makes of a commit.
    fn decide(&mut self, commit: &mut Commit) -> Result<(), SinkError> {
        self.check("commit")?;
        let mut log = self.broker.0.borrow_mut();
        let faults = log.faults;
        if commit.group != log.generation || log.strikes(faults.stale) {
            return Err(SinkError::Stale { doing: "commit", detail: "the generation has passed".to_owned() });
        }
        let answer_lost = log.strikes(faults.unknown);
        if !answer_lost || log.strikes(500) {
            log.visible.append(&mut commit.pending);
            for (partition, offset, metadata) in &commit.positions {
                log.committed.insert(*partition, (*offset, metadata.clone()));
            }
        }
        if answer_lost {
            self.epoch = None;
            return Err(SinkError::Unknown { doing: "commit", detail: "injected".to_owned() });
        }
        Ok(())
    }
}

impl Sink for MemorySink {
    type Group = u64;

    fn is_transactional(&self) -> bool {
        true
    }

    fn fence(&mut self) -> Result<(), SinkError> {
        if self.epoch.is_none() {
            let mut log = self.broker.0.borrow_mut();
            log.epoch += 1;
            self.epoch = Some(log.epoch);
            self.pending.clear();
            self.committing = None;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        assert!(self.epoch.is_some(), "a transaction begins on a fenced producer");
        assert!(self.pending.is_empty(), "a transaction begins with nothing pending");
        self.check("begin")
    }

    fn send(&mut self, outbox: &Outbox, from: usize) -> Result<(), SinkError> {
        self.check("send")?;
        for index in from..outbox.len() {
            let output = outbox.get(index);
            self.pending.push(Visible {
                target: output.target,
                key: output.key.map(<[u8]>::to_vec),
                payload: output.payload.map(<[u8]>::to_vec),
                headers: output.headers().map(|(name, value)| (name, value.to_vec())).collect(),
            });
        }
        Ok(())
    }

    fn serve(&mut self) {}

    fn commit(&mut self, positions: &[(i32, i64, String)], group: u64) -> Result<(), SinkError> {
        assert!(self.committing.is_none(), "one commit at a time");
        let pending = std::mem::take(&mut self.pending);
        self.committing = Some(Commit { pending, positions: positions.to_vec(), group });
        Ok(())
    }

    fn outcome(&mut self, wait: Duration) -> Option<Result<(), SinkError>> {
        let mut commit = self.committing.take()?;
        let is_slow = self.broker.0.borrow_mut().strikes(500);
        if is_slow && wait.is_zero() {
            self.committing = Some(commit);
            return None;
        }
        let outcome = self.decide(&mut commit);
        if outcome.is_err() {
            self.committing = Some(commit);
        }
        Some(outcome)
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        self.pending.clear();
        self.committing = None;
        Ok(())
    }
}

impl Drop for MemorySink {
    /// A worker that dies has sent its commit or not.
    fn drop(&mut self) {
        if let Some(mut commit) = self.committing.take()
            && self.broker.0.borrow_mut().strikes(500)
        {
            // Nobody is left to hear the answer.
            self.decide(&mut commit).unwrap_or_default();
        }
    }
}
