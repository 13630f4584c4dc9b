//! An in-memory model broker for one group on one input topic.
//!
//! Models everything that the worker's guarantees depend on: partition logs with offsets, transactions ended by
//! markers, the last stable offset that limits committed-only readers, producer epochs that fence older producers,
//! offsets with metadata that take effect with their transaction, group generations with members that join, pause and
//! leave in eager and cooperative rebalances, retention of the input, and compaction of the changelog. An `EndTxn` may
//! arrive late and then ends whatever transaction of its epoch is open, as in Kafka before KIP-890. Outputs can also be
//! written outside of transactions by producers that are never fenced, and are visible at once. The writers of the
//! input may use transactions, too. Faults are drawn from a seed at each call, so a failing run can be replayed by its
//! seed. Real time and multiple brokers are not modelled.

mod cluster;
mod fuse;
mod group;
mod outlet;
mod sink;
mod source;

pub use fuse::Fuse;
pub use sink::MemorySink;
pub use source::MemorySource;

use crate::sink::{SizeLimits, Target};
use cluster::{Cluster, Input, Late, Refusal, Slot};
use std::{cell::RefCell, rc::Rc};

/// A message in a log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Visible {
    /// Its topic.
    pub target: Target,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub payload: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(&'static str, Vec<u8>)>,
}

impl Visible {
    /// The approximate size of the message as a broker counts it.
    fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let parts = [&self.key, &self.payload];
        parts.into_iter().flatten().map(Vec::len).sum::<usize>() + headers.sum::<usize>()
    }
}

/// One record of the input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputRecord {
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub payload: Option<Vec<u8>>,
    /// The value of the header that makes it a request to erase the user with its key.
    pub erase: Option<Vec<u8>>,
    /// The Kafka timestamp.
    pub timestamp_ms: i64,
    /// How its transaction ended, if it has one.
    pub fate: Fate,
}

/// What happens to an input record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// It was written without a transaction.
    #[default]
    Plain,
    /// Its transaction is committed by the marker at this offset.
    Committed(usize),
    /// Its transaction is aborted by the marker at this offset.
    Aborted(usize),
    /// A transaction marker rather than a record.
    Marker,
}

impl InputRecord {
    /// Whether committed-only readers ever see it.
    pub fn counts(&self) -> bool {
        matches!(self.fate, Fate::Plain | Fate::Committed(_))
    }
}

/// How often each kind of fault occurs, in thousandths of the calls where it can occur.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A transactional call fails and requires an abort.
    pub abortable: u32,
    /// The answer to a commit is lost: the commit had no effect, took effect, or will take effect later.
    pub unknown: u32,
    /// A commit is refused because of an outdated generation, although the generation is current.
    pub stale: u32,
    /// Recreating the producers fails and has to be retried.
    pub fence: u32,
    /// An output is refused, or the answer to it is lost.
    pub refuse: u32,
    /// After a seek, records fetched before it are handed over again.
    pub stale_fetch: u32,
}

/// A partition of a topic that transactions write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A partition of the decision topic.
    Decisions(i32),
    /// A partition of the dead-letter topic.
    DeadLetters(i32),
    /// A partition of the changelog topic.
    Profiles(i32),
}

/// What took effect with a transaction, for checkers.
#[derive(Clone, Debug)]
pub struct Effect {
    /// Partition, next offset, metadata.
    pub positions: Vec<(i32, i64, String)>,
    /// Its records, in the order they were written.
    pub outputs: Vec<(Place, usize)>,
    /// Whether each position's partition belonged to the committing member at that time, according to the group.
    pub is_owned: bool,
    /// Whether it was an output visible at once rather than a transaction.
    pub is_beside: bool,
}

/// The broker. Clones share the same state.
#[derive(Clone)]
pub struct MemoryBroker(Rc<RefCell<Cluster>>);

impl MemoryBroker {
    /// A broker with this input, still invisible: see [`MemoryBroker::produce`].
    pub fn new(input: Vec<Vec<InputRecord>>, is_cooperative: bool, faults: Faults, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Cluster::new(input, is_cooperative, faults, seed))))
    }

    /// A member of the group and a sink with the transactional ids of this slot.
    pub fn join(&self, slot: usize) -> (MemorySource, MemorySink) {
        let member = self.0.borrow_mut().group.join();
        self.shuffle();
        let fuse = Fuse::default();
        (MemorySource::new(self.clone(), member, fuse.clone()), MemorySink::new(self.clone(), (slot, member), fuse))
    }

    /// Counts a call of a member.
    fn burn(&self, fuse: &Fuse, member: u64) {
        if fuse.burn() {
            let mut cluster = self.0.borrow_mut();
            let Cluster { group, chance, .. } = &mut *cluster;
            group.put_out(member, &mut chance.random);
        }
    }

    /// Makes the next input records visible.
    pub fn produce(&self, partition: usize, records: usize) {
        let input = &mut self.0.borrow_mut().input[partition];
        input.high = (input.high + records).min(input.records.len());
    }

    /// Advances time by a step. Removes members that have not responded for `session` steps, and aborts transactions
    /// that have been open for `transaction` steps.
    pub fn tick(&self, session: u64, transaction: u64) {
        let mut cluster = self.0.borrow_mut();
        cluster.step += 1;
        cluster.expire_transactions(transaction);
        let Cluster { group, chance, step, .. } = &mut *cluster;
        group.expire(*step, session, &mut chance.random);
        cluster.meanwhile();
    }

    /// The member stops responding to the group, because it died or hangs.
    pub fn cut_off(&self, member: u64) {
        let mut cluster = self.0.borrow_mut();
        let step = cluster.step;
        cluster.group.cut_off(member, step);
    }

    /// The member responds again. If it was removed meanwhile, it learns of it.
    pub fn reconnect(&self, member: u64) {
        self.0.borrow_mut().group.reconnect(member);
    }

    /// The member leaves the group cleanly.
    pub fn leave(&self, member: u64) {
        let mut cluster = self.0.borrow_mut();
        let Cluster { group, chance, .. } = &mut *cluster;
        group.leave(member, &mut chance.random);
    }

    /// Redistributes the partitions among the members.
    pub fn shuffle(&self) {
        let mut cluster = self.0.borrow_mut();
        let Cluster { group, chance, .. } = &mut *cluster;
        group.shuffle(&mut chance.random);
    }

    /// Compacts the changelog of a partition.
    pub fn compact(&self, partition: i32) {
        self.0.borrow_mut().compact(partition);
    }

    /// Deletes the input before this offset.
    pub fn trim(&self, partition: i32, low: i64) {
        let input = &mut self.0.borrow_mut().input[partition as usize];
        input.low = input.low.max(low as usize).min(input.high);
    }

    /// Loses all stable records of a changelog, as if its topic were truncated rather than compacted. Returns whether
    /// it did: nothing happens while one is being read.
    pub fn lose_changelog(&self, partition: i32) -> bool {
        let mut cluster = self.0.borrow_mut();
        if cluster.restores > 0 {
            return false;
        }
        let place = Place::Profiles(partition);
        let stable = cluster.stable(place);
        if let Some(log) = cluster.logs.get_mut(&place) {
            log.slots[..stable].fill_with(|| Slot::Gone);
            log.low = stable;
        }
        true
    }

    /// Rejects larger messages from now on.
    pub fn limit(&self, limits: SizeLimits) {
        self.0.borrow_mut().limits = limits;
    }

    /// Writes a record to a changelog without a worker, as anyone with write access to the topic can.
    pub fn forge(&self, partition: i32, key: &[u8], payload: Option<&[u8]>) {
        let mut cluster = self.0.borrow_mut();
        let epoch = cluster.init_producer("forger");
        let output = Visible {
            target: Target::Profiles(partition),
            key: Some(key.to_vec()),
            payload: payload.map(<[u8]>::to_vec),
            headers: Vec::new(),
        };
        cluster.append("forger", epoch, Place::Profiles(partition), output).expect("the producer is new");
        cluster.end_transaction("forger", epoch, true).expect("the producer is new");
        cluster.effects.pop();
    }

    /// Commits a position with arbitrary metadata, without a worker.
    pub fn forge_position(&self, partition: i32, offset: i64, metadata: &str) {
        self.0.borrow_mut().committed.insert(partition, (offset, metadata.to_owned()));
    }

    /// Disables all faults.
    pub fn without_faults(&self) {
        self.0.borrow_mut().chance.faults = Faults::default();
    }

    /// Returns what has taken effect since the last call.
    pub fn effects(&self) -> Vec<Effect> {
        std::mem::take(&mut self.0.borrow_mut().effects)
    }

    /// The record at an offset of a log, if committed-only readers see it.
    pub fn record(&self, place: Place, offset: usize) -> Option<Visible> {
        self.0.borrow().committed_record(place, offset).cloned()
    }

    /// All committed records of a log in order, including those that committed-only readers do not see yet.
    pub fn all_committed(&self, place: Place) -> Vec<Visible> {
        let cluster = self.0.borrow();
        (0..cluster.end(place)).filter_map(|offset| cluster.committed_record(place, offset).cloned()).collect()
    }

    /// Whether committed-only readers see a log up to its end.
    pub fn is_stable(&self, place: Place) -> bool {
        let cluster = self.0.borrow();
        cluster.stable(place) == cluster.end(place)
    }

    /// All existing logs.
    pub fn places(&self) -> Vec<Place> {
        self.0.borrow().logs.keys().copied().collect()
    }

    /// The committed offset of each partition and its metadata.
    pub fn committed(&self) -> Vec<Option<(i64, String)>> {
        let cluster = self.0.borrow();
        (0..cluster.input.len() as i32).map(|partition| cluster.committed.get(&partition).cloned()).collect()
    }

    /// How many records of each partition are visible by now.
    pub fn produced(&self) -> Vec<i64> {
        self.0.borrow().input.iter().map(|input| input.high as i64).collect()
    }

    /// How many steps the oldest open transaction has been open.
    pub fn oldest_open(&self) -> u64 {
        let cluster = self.0.borrow();
        let open = cluster.ids.values().filter_map(|id| id.open);
        open.map(|open| cluster.step - cluster.transactions[open].since).max().unwrap_or_default()
    }

    /// Whether every input record is before a committed offset.
    pub fn is_done(&self) -> bool {
        let cluster = self.0.borrow();
        let is_done = |(partition, input): (usize, &Input)| {
            let committed = cluster.committed.get(&(partition as i32)).map_or(0, |it| it.0);
            committed as usize == input.end() || input.end() <= input.low
        };
        cluster.input.iter().enumerate().all(is_done)
    }
}
