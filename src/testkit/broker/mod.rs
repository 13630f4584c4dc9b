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

mod group;
mod sink;
mod source;

pub use sink::MemorySink;
pub use source::MemorySource;

use crate::sink::{SizeLimits, Target};
use group::{Group, Membership};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
};

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

/// Ends a worker, or pauses it beyond its session, at any of its calls.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Rc<Cell<Burning>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Burning {
    #[default]
    Never,
    /// After this many calls the worker is dead.
    Kills(u32),
    /// After this many calls the worker is removed from the group, but continues.
    Pauses(u32),
    Dead,
}

impl Fuse {
    /// After this many more calls the worker is dead, and further calls have no effect.
    pub fn kill_after(&self, calls: u32) {
        self.0.set(Burning::Kills(calls));
    }

    /// After this many more calls the worker is removed from the group, but continues without knowing.
    pub fn pause_after(&self, calls: u32) {
        self.0.set(Burning::Pauses(calls));
    }

    /// Cancels the fuse if the worker is still alive.
    pub fn put_out(&self) {
        if !self.is_dead() {
            self.0.set(Burning::Never);
        }
    }

    /// Whether the worker is dead.
    pub fn is_dead(&self) -> bool {
        self.0.get() == Burning::Dead
    }

    /// Counts a call; returns whether the worker was paused at it.
    fn burn(&self) -> bool {
        match self.0.get() {
            Burning::Kills(0) => self.0.set(Burning::Dead),
            Burning::Kills(left) => self.0.set(Burning::Kills(left - 1)),
            Burning::Pauses(0) => {
                self.0.set(Burning::Never);
                return true;
            }
            Burning::Pauses(left) => self.0.set(Burning::Pauses(left - 1)),
            Burning::Never | Burning::Dead => {}
        }
        false
    }
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

/// The number of the pseudo-transaction of everything written outside of transactions.
const BESIDE: usize = 0;

/// Positions: partition, next offset, metadata.
type Positions = Vec<(i32, i64, String)>;

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

#[derive(Debug)]
enum Slot {
    Record(usize, Visible),
    Marker,
    /// Removed by compaction.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    state: State,
    first: BTreeMap<Place, usize>,
    outputs: Vec<(Place, usize)>,
    pending: Positions,
    is_owned: bool,
    since: u64,
}

/// The coordinator's state for a transactional id.
#[derive(Debug, Default)]
struct Id {
    epoch: u64,
    open: Option<usize>,
}

#[derive(Debug, Default)]
struct Input {
    records: Vec<InputRecord>,
    low: usize,
    high: usize,
}

impl Input {
    /// The offset below which every transaction has ended.
    fn stable(&self) -> usize {
        let is_open = |record: &InputRecord| match record.fate {
            Fate::Committed(marker) | Fate::Aborted(marker) => marker >= self.high,
            Fate::Plain | Fate::Marker => false,
        };
        self.records[..self.high].iter().position(is_open).unwrap_or(self.high)
    }

    /// The offset after the last record that readers see.
    fn end(&self) -> usize {
        self.records.iter().rposition(InputRecord::counts).map_or(0, |last| last + 1)
    }
}

/// Requests still in flight from a client that gave up or died.
#[derive(Debug)]
struct Late {
    id: String,
    epoch: u64,
    /// Positions to add first, with the membership they belong to.
    add: Option<(Positions, Option<Membership>)>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Fenced,
    Generation,
    TooLarge,
}

struct Cluster {
    input: Vec<Input>,
    logs: BTreeMap<Place, Vec<Slot>>,
    /// Where truncated logs start.
    lows: BTreeMap<Place, usize>,
    transactions: Vec<Transaction>,
    ids: HashMap<String, Id>,
    late: Vec<Late>,
    /// Outputs of discarded outlets that are still in flight, in order per partition.
    late_outputs: Vec<VecDeque<(Place, Visible)>>,
    committed: BTreeMap<i32, (i64, String)>,
    effects: Vec<Effect>,
    group: Group,
    faults: Faults,
    random: SmallRng,
    step: u64,
    restores: usize,
    /// The largest messages that its topics accept.
    limits: SizeLimits,
}

impl Cluster {
    fn strikes(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.random.random_range(0..1_000) < thousandths
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.random.random_range(0..times) == 0
    }

    /// The offset below which every transaction has ended.
    fn stable(&self, place: Place) -> usize {
        let open = self.ids.values().filter_map(|id| self.transactions[id.open?].first.get(&place)).min();
        open.copied().unwrap_or_else(|| self.end(place))
    }

    fn end(&self, place: Place) -> usize {
        self.logs.get(&place).map_or(0, Vec::len)
    }

    /// The record at an offset, if committed-only readers see it.
    fn committed_record(&self, place: Place, offset: usize) -> Option<&Visible> {
        match &self.logs.get(&place)?[offset] {
            Slot::Record(transaction, output) if self.transactions[*transaction].state == State::Committed => {
                Some(output)
            }
            _ => None,
        }
    }

    /// The open transaction of a producer; starts one if necessary.
    fn transaction(&mut self, id: &str, epoch: u64) -> Result<usize, Refusal> {
        let step = self.step;
        let known = self.ids.get_mut(id).filter(|known| known.epoch == epoch).ok_or(Refusal::Fenced)?;
        Ok(*known.open.get_or_insert_with(|| {
            self.transactions.push(Transaction {
                state: State::Open,
                first: BTreeMap::new(),
                outputs: Vec::new(),
                pending: Vec::new(),
                is_owned: true,
                since: step,
            });
            self.transactions.len() - 1
        }))
    }

    fn append(&mut self, id: &str, epoch: u64, place: Place, output: Visible) -> Result<(), Refusal> {
        let transaction = self.transaction(id, epoch)?;
        if output.bytes() > self.limits.of(output.target) {
            return Err(Refusal::TooLarge);
        }
        let log = self.logs.entry(place).or_default();
        let offset = log.len();
        log.push(Slot::Record(transaction, output));
        let transaction = &mut self.transactions[transaction];
        transaction.first.entry(place).or_insert(offset);
        transaction.outputs.push((place, offset));
        Ok(())
    }

    /// Writes an output that is visible at once.
    fn append_beside(&mut self, place: Place, output: Visible) -> Result<(), Refusal> {
        if output.bytes() > self.limits.of(output.target) {
            return Err(Refusal::TooLarge);
        }
        let log = self.logs.entry(place).or_default();
        log.push(Slot::Record(BESIDE, output));
        let outputs = vec![(place, log.len() - 1)];
        self.effects.push(Effect { positions: Vec::new(), outputs, is_owned: true, is_beside: true });
        Ok(())
    }

    /// Adds positions to a transaction if the member has the current generation. Without a membership nothing is
    /// checked.
    fn add_positions(
        &mut self,
        id: &str,
        epoch: u64,
        positions: &[(i32, i64, String)],
        of: Option<Membership>,
    ) -> Result<(), Refusal> {
        if of.is_some_and(|of| !self.group.is_current(of)) {
            return Err(Refusal::Generation);
        }
        let is_owned =
            of.is_none_or(|of| positions.iter().all(|(partition, ..)| self.group.owns(of.member, *partition)));
        let transaction = self.transaction(id, epoch)?;
        let transaction = &mut self.transactions[transaction];
        transaction.is_owned &= is_owned;
        transaction.pending.extend_from_slice(positions);
        Ok(())
    }

    /// Ends whatever transaction is open with this id and epoch.
    fn end_transaction(&mut self, id: &str, epoch: u64, commit: bool) -> Result<(), Refusal> {
        let known = self.ids.get_mut(id).filter(|known| known.epoch == epoch).ok_or(Refusal::Fenced)?;
        let Some(number) = known.open.take() else { return Ok(()) };
        let transaction = &mut self.transactions[number];
        transaction.state = if commit { State::Committed } else { State::Aborted };
        for place in transaction.first.keys() {
            self.logs.entry(*place).or_default().push(Slot::Marker);
        }
        if commit {
            for (partition, offset, metadata) in &transaction.pending {
                self.committed.insert(*partition, (*offset, metadata.clone()));
            }
            self.effects.push(Effect {
                positions: transaction.pending.clone(),
                outputs: transaction.outputs.clone(),
                is_owned: transaction.is_owned,
                is_beside: false,
            });
        }
        Ok(())
    }

    /// Starts a new producer with this id: ends what the previous one left open, and fences it.
    fn init_producer(&mut self, id: &str) -> u64 {
        let epoch = self.ids.entry(id.to_owned()).or_default().epoch;
        self.end_transaction(id, epoch, false).unwrap_or_default();
        let known = self.ids.entry(id.to_owned()).or_default();
        known.epoch += 1;
        known.epoch
    }

    /// Aborts transactions that have been open for more than `steps`, and fences their producers.
    fn expire_transactions(&mut self, steps: u64) {
        let old = |id: &Id| id.open.is_some_and(|open| self.transactions[open].since + steps <= self.step);
        let mut ids: Vec<String> = self.ids.iter().filter(|(_, id)| old(id)).map(|(name, _)| name.clone()).collect();
        ids.sort();
        for id in ids {
            self.init_producer(&id);
        }
    }

    /// Delivers a late request.
    fn deliver_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let index = self.random.random_range(0..self.late.len());
        let late = self.late.swap_remove(index);
        self.arrive(late);
    }

    fn arrive(&mut self, Late { id, epoch, add }: Late) {
        if let Some((positions, of)) = add
            && self.add_positions(&id, epoch, &positions, of).is_err()
        {
            return;
        }
        self.end_transaction(&id, epoch, true).unwrap_or_default();
    }

    /// Events that can happen between any two requests of a worker.
    fn meanwhile(&mut self) {
        if !self.late.is_empty() && self.one_in(4) {
            self.deliver_late();
        }
        if !self.late_outputs.is_empty() && self.one_in(4) {
            let index = self.random.random_range(0..self.late_outputs.len());
            match self.late_outputs[index].pop_front() {
                Some((place, output)) => self.append_beside(place, output).unwrap_or_default(),
                None => drop(self.late_outputs.swap_remove(index)),
            }
        }
    }

    /// The committed position once no open transaction can change it; the coordinator makes readers wait for that.
    fn stable_position(&mut self, partition: i32) -> Option<(i64, String)> {
        while let Some(id) = self.waits_for(partition) {
            // Time passes: a late request arrives, or the broker ends the transaction.
            if !self.late.is_empty() && self.one_in(2) {
                self.deliver_late();
            } else {
                self.init_producer(&id);
            }
        }
        self.committed.get(&partition).cloned()
    }

    fn waits_for(&self, partition: i32) -> Option<String> {
        let moves = |id: &Id| {
            let open = id.open.map(|open| &self.transactions[open]);
            open.is_some_and(|open| open.pending.iter().any(|(other, ..)| *other == partition))
        };
        self.ids.iter().filter(|(_, id)| moves(id)).map(|(name, _)| name).min().cloned()
    }

    /// Removes records superseded by newer ones of the same key, below the last stable offset. A broker may do so at
    /// any time.
    fn compact(&mut self, partition: i32) {
        let place = Place::Profiles(partition);
        let stable = self.stable(place);
        let keeps_tombstones = self.restores > 0;
        let Self { logs, transactions, .. } = self;
        let Some(log) = logs.get_mut(&place) else { return };
        let mut seen = std::collections::HashSet::new();
        for slot in log[..stable].iter_mut().rev() {
            let Slot::Record(transaction, output) = slot else { continue };
            let is_old = transactions[*transaction].state == State::Aborted || !seen.insert(output.key.clone());
            if is_old || (output.payload.is_none() && !keeps_tombstones) {
                *slot = Slot::Gone;
            }
        }
    }
}

/// The broker. Clones share the same state.
#[derive(Clone)]
pub struct MemoryBroker(Rc<RefCell<Cluster>>);

impl MemoryBroker {
    /// A broker with this input, still invisible: see [`MemoryBroker::produce`].
    pub fn new(input: Vec<Vec<InputRecord>>, is_cooperative: bool, faults: Faults, seed: u64) -> Self {
        let partitions = input.len() as i32;
        Self(Rc::new(RefCell::new(Cluster {
            input: input.into_iter().map(|records| Input { records, low: 0, high: 0 }).collect(),
            logs: BTreeMap::new(),
            lows: BTreeMap::new(),
            transactions: vec![Transaction {
                state: State::Committed,
                first: BTreeMap::new(),
                outputs: Vec::new(),
                pending: Vec::new(),
                is_owned: true,
                since: 0,
            }],
            ids: HashMap::new(),
            late: Vec::new(),
            late_outputs: Vec::new(),
            committed: BTreeMap::new(),
            effects: Vec::new(),
            group: Group::new(partitions, is_cooperative),
            faults,
            random: SmallRng::seed_from_u64(seed),
            step: 0,
            restores: 0,
            limits: SizeLimits::default(),
        })))
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
            let Cluster { group, random, .. } = &mut *cluster;
            group.put_out(member, random);
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
        let Cluster { group, random, step, .. } = &mut *cluster;
        group.expire(*step, session, random);
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
        let Cluster { group, random, .. } = &mut *cluster;
        group.leave(member, random);
    }

    /// Redistributes the partitions among the members.
    pub fn shuffle(&self) {
        let mut cluster = self.0.borrow_mut();
        let Cluster { group, random, .. } = &mut *cluster;
        group.shuffle(random);
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
            log[..stable].fill_with(|| Slot::Gone);
            cluster.lows.insert(place, stable);
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
        self.0.borrow_mut().faults = Faults::default();
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
