//! The state of the broker, and what requests do to it: logs, transactions and their ends, producers, positions.

use super::{
    Effect, Fate, Faults, InputRecord, Place, Visible,
    group::{Group, Membership},
};
use crate::sink::SizeLimits;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// The number of the pseudo-transaction of everything written outside of transactions.
const BESIDE: usize = 0;

/// Positions: partition, next offset, metadata.
type Positions = Vec<(i32, i64, String)>;

#[derive(Debug)]
pub(super) enum Slot {
    Record(usize, Visible),
    Marker,
    /// Removed by compaction.
    Gone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Open,
    Committed,
    Aborted,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) state: State,
    pub(super) first: BTreeMap<Place, usize>,
    pub(super) outputs: Vec<(Place, usize)>,
    pub(super) pending: Positions,
    pub(super) is_owned: bool,
    pub(super) since: u64,
}

/// The coordinator's state for a transactional id.
#[derive(Debug, Default)]
pub(super) struct Id {
    pub(super) epoch: u64,
    pub(super) open: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) records: Vec<InputRecord>,
    pub(super) low: usize,
    pub(super) high: usize,
}

impl Input {
    /// The offset below which every transaction has ended.
    pub(super) fn stable(&self) -> usize {
        let is_open = |record: &InputRecord| match record.fate {
            Fate::Committed(marker) | Fate::Aborted(marker) => marker >= self.high,
            Fate::Plain | Fate::Marker => false,
        };
        self.records[..self.high].iter().position(is_open).unwrap_or(self.high)
    }

    /// The offset after the last record that readers see.
    pub(super) fn end(&self) -> usize {
        self.records.iter().rposition(InputRecord::counts).map_or(0, |last| last + 1)
    }
}

/// Requests still in flight from a client that gave up or died.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) id: String,
    pub(super) epoch: u64,
    /// Positions to add first, with the membership they belong to.
    pub(super) add: Option<(Positions, Option<Membership>)>,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Fenced,
    Generation,
    TooLarge,
}

/// A log of outputs.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) slots: Vec<Slot>,
    /// Where it starts, if it was truncated.
    pub(super) low: usize,
}

/// What is still in flight from clients that gave up or died.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(super) requests: Vec<Late>,
    /// Outputs of discarded outlets, in order per partition.
    pub(super) outputs: Vec<VecDeque<(Place, Visible)>>,
}

/// What may go wrong, and whether it does.
#[derive(Debug)]
pub(super) struct Chance {
    pub(super) faults: Faults,
    pub(super) random: SmallRng,
}

pub(super) struct Cluster {
    pub(super) input: Vec<Input>,
    pub(super) logs: BTreeMap<Place, Log>,
    pub(super) transactions: Vec<Transaction>,
    pub(super) ids: HashMap<String, Id>,
    pub(super) late: InFlight,
    pub(super) committed: BTreeMap<i32, (i64, String)>,
    pub(super) effects: Vec<Effect>,
    pub(super) group: Group,
    pub(super) chance: Chance,
    pub(super) step: u64,
    pub(super) restores: usize,
    /// The largest messages that its topics accept.
    pub(super) limits: SizeLimits,
}

impl Cluster {
    pub(super) fn new(input: Vec<Vec<InputRecord>>, is_cooperative: bool, faults: Faults, seed: u64) -> Self {
        let partitions = input.len() as i32;
        Self {
            input: input.into_iter().map(|records| Input { records, low: 0, high: 0 }).collect(),
            logs: BTreeMap::new(),
            transactions: vec![Transaction {
                state: State::Committed,
                first: BTreeMap::new(),
                outputs: Vec::new(),
                pending: Vec::new(),
                is_owned: true,
                since: 0,
            }],
            ids: HashMap::new(),
            late: InFlight::default(),
            committed: BTreeMap::new(),
            effects: Vec::new(),
            group: Group::new(partitions, is_cooperative),
            chance: Chance { faults, random: SmallRng::seed_from_u64(seed) },
            step: 0,
            restores: 0,
            limits: SizeLimits::default(),
        }
    }

    pub(super) fn strikes(&mut self, thousandths: u32) -> bool {
        thousandths > 0 && self.chance.random.random_range(0..1_000) < thousandths
    }

    pub(super) fn one_in(&mut self, times: u32) -> bool {
        self.chance.random.random_range(0..times) == 0
    }

    /// The offset below which every transaction has ended.
    pub(super) fn stable(&self, place: Place) -> usize {
        let open = self.ids.values().filter_map(|id| self.transactions[id.open?].first.get(&place)).min();
        open.copied().unwrap_or_else(|| self.end(place))
    }

    pub(super) fn end(&self, place: Place) -> usize {
        self.logs.get(&place).map_or(0, |log| log.slots.len())
    }

    /// The record at an offset, if committed-only readers see it.
    pub(super) fn committed_record(&self, place: Place, offset: usize) -> Option<&Visible> {
        match &self.logs.get(&place)?.slots[offset] {
            Slot::Record(transaction, output) if self.transactions[*transaction].state == State::Committed => {
                Some(output)
            }
            _ => None,
        }
    }

    /// The open transaction of a producer; starts one if necessary.
    pub(super) fn transaction(&mut self, id: &str, epoch: u64) -> Result<usize, Refusal> {
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

    pub(super) fn append(&mut self, id: &str, epoch: u64, place: Place, output: Visible) -> Result<(), Refusal> {
        let transaction = self.transaction(id, epoch)?;
        if output.bytes() > self.limits.of(output.target) {
            return Err(Refusal::TooLarge);
        }
        let log = &mut self.logs.entry(place).or_default().slots;
        let offset = log.len();
        log.push(Slot::Record(transaction, output));
        let transaction = &mut self.transactions[transaction];
        transaction.first.entry(place).or_insert(offset);
        transaction.outputs.push((place, offset));
        Ok(())
    }

    /// Writes an output that is visible at once.
    pub(super) fn append_beside(&mut self, place: Place, output: Visible) -> Result<(), Refusal> {
        if output.bytes() > self.limits.of(output.target) {
            return Err(Refusal::TooLarge);
        }
        let log = &mut self.logs.entry(place).or_default().slots;
        log.push(Slot::Record(BESIDE, output));
        let outputs = vec![(place, log.len() - 1)];
        self.effects.push(Effect { positions: Vec::new(), outputs, is_owned: true, is_beside: true });
        Ok(())
    }

    /// Adds positions to a transaction if the member has the current generation. Without a membership nothing is
    /// checked.
    pub(super) fn add_positions(
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
    pub(super) fn end_transaction(&mut self, id: &str, epoch: u64, commit: bool) -> Result<(), Refusal> {
        let known = self.ids.get_mut(id).filter(|known| known.epoch == epoch).ok_or(Refusal::Fenced)?;
        let Some(number) = known.open.take() else { return Ok(()) };
        let transaction = &mut self.transactions[number];
        transaction.state = if commit { State::Committed } else { State::Aborted };
        for place in transaction.first.keys() {
            self.logs.entry(*place).or_default().slots.push(Slot::Marker);
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
    pub(super) fn init_producer(&mut self, id: &str) -> u64 {
        let epoch = self.ids.entry(id.to_owned()).or_default().epoch;
        self.end_transaction(id, epoch, false).unwrap_or_default();
        let known = self.ids.entry(id.to_owned()).or_default();
        known.epoch += 1;
        known.epoch
    }

    /// Aborts transactions that have been open for more than `steps`, and fences their producers.
    pub(super) fn expire_transactions(&mut self, steps: u64) {
        let old = |id: &Id| id.open.is_some_and(|open| self.transactions[open].since + steps <= self.step);
        let mut ids: Vec<String> = self.ids.iter().filter(|(_, id)| old(id)).map(|(name, _)| name.clone()).collect();
        ids.sort();
        for id in ids {
            self.init_producer(&id);
        }
    }

    /// Delivers a late request.
    pub(super) fn deliver_late(&mut self) {
        if self.late.requests.is_empty() {
            return;
        }
        let index = self.chance.random.random_range(0..self.late.requests.len());
        let late = self.late.requests.swap_remove(index);
        self.arrive(late);
    }

    pub(super) fn arrive(&mut self, Late { id, epoch, add }: Late) {
        if let Some((positions, of)) = add
            && self.add_positions(&id, epoch, &positions, of).is_err()
        {
            return;
        }
        self.end_transaction(&id, epoch, true).unwrap_or_default();
    }

    /// Events that can happen between any two requests of a worker.
    pub(super) fn meanwhile(&mut self) {
        if !self.late.requests.is_empty() && self.one_in(4) {
            self.deliver_late();
        }
        if !self.late.outputs.is_empty() && self.one_in(4) {
            let index = self.chance.random.random_range(0..self.late.outputs.len());
            match self.late.outputs[index].pop_front() {
                Some((place, output)) => self.append_beside(place, output).unwrap_or_default(),
                None => drop(self.late.outputs.swap_remove(index)),
            }
        }
    }

    /// The committed position once no open transaction can change it; the coordinator makes readers wait for that.
    pub(super) fn stable_position(&mut self, partition: i32) -> Option<(i64, String)> {
        while let Some(id) = self.waits_for(partition) {
            // Time passes: a late request arrives, or the broker ends the transaction.
            if !self.late.requests.is_empty() && self.one_in(2) {
                self.deliver_late();
            } else {
                self.init_producer(&id);
            }
        }
        self.committed.get(&partition).cloned()
    }

    pub(super) fn waits_for(&self, partition: i32) -> Option<String> {
        let moves = |id: &Id| {
            let open = id.open.map(|open| &self.transactions[open]);
            open.is_some_and(|open| open.pending.iter().any(|(other, ..)| *other == partition))
        };
        self.ids.iter().filter(|(_, id)| moves(id)).map(|(name, _)| name).min().cloned()
    }

    /// Removes records superseded by newer ones of the same key, below the last stable offset. A broker may do so at
    /// any time.
    pub(super) fn compact(&mut self, partition: i32) {
        let place = Place::Profiles(partition);
        let stable = self.stable(place);
        let keeps_tombstones = self.restores > 0;
        let Self { logs, transactions, .. } = self;
        let Some(log) = logs.get_mut(&place) else { return };
        let mut seen = HashSet::new();
        for slot in log.slots[..stable].iter_mut().rev() {
            let Slot::Record(transaction, output) = slot else { continue };
            let is_old = transactions[*transaction].state == State::Aborted || !seen.insert(output.key.clone());
            if is_old || (output.payload.is_none() && !keeps_tombstones) {
                *slot = Slot::Gone;
            }
        }
    }
}
