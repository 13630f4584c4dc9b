//! The model broker's producers: two with the transactional ids of one slot, so that one fills while the other commits.

use super::{Fuse, Late, MemoryBroker, Place, Refusal, Visible, group::Membership, outlet::Outlet};
use crate::{
    canary::{self, Canary},
    sink::{Outbox, Sink, SinkError, SizeLimits, Smaller, Target, smaller},
};
use rand::Rng;
use std::{collections::VecDeque, time::Duration};

#[derive(Debug)]
struct Producer {
    id: String,
    epoch: u64,
    /// Accepted by the client, but not yet by the broker.
    queue: VecDeque<(Place, Visible)>,
    is_fenced: bool,
    /// Refused by the broker because of its size, in the open transaction.
    refused: Vec<(Target, usize)>,
    /// Whether the broker refused something for another reason.
    has_refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unfenced,
    Ready,
    Open,
}

/// How far a commit has progressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
enum Stage {
    Deliver,
    Add,
    End,
    Failed,
}

struct Commit {
    producer: usize,
    positions: Vec<(i32, i64, String)>,
    group: Option<Membership>,
    stage: Stage,
}

/// The producers of one worker.
pub struct MemorySink {
    broker: MemoryBroker,
    member: u64,
    fuse: Fuse,
    producers: [Producer; 2],
    outlet: Option<Outlet>,
    turn: usize,
    state: State,
    committing: Option<Commit>,
    /// The limits learned from refusals.
    limits: SizeLimits,
}

fn unknown(doing: &'static str, detail: &str) -> SinkError {
    SinkError::Unknown { doing, detail: detail.to_owned() }
}

impl MemorySink {
    pub(super) fn new(broker: MemoryBroker, (slot, member): (usize, u64), fuse: Fuse) -> Self {
        let producer = |number: usize| Producer {
            id: format!("{slot}-{number}"),
            epoch: 0,
            queue: VecDeque::new(),
            is_fenced: false,
            refused: Vec::new(),
            has_refused: false,
        };
        let limits = SizeLimits::default();
        Self {
            limits,
            broker,
            member,
            fuse,
            producers: [producer(0), producer(1)],
            outlet: None,
            turn: 0,
            state: State::Unfenced,
            committing: None,
        }
    }

    /// The same sink, with decisions and dead letters visible at once.
    #[must_use]
    pub fn showing_at_once(mut self) -> Self {
        self.outlet = Some(Outlet::default());
        self
    }

    /// Counts a call of the worker; returns whether it is dead.
    fn call(&self) -> bool {
        self.broker.burn(&self.fuse, self.member);
        self.fuse.is_dead()
    }

    /// Delivers some of the outlet's queue to the broker, and returns some of the answers.
    fn deliver_beside(&mut self) {
        if let Some(outlet) = &mut self.outlet {
            outlet.deliver(&mut self.broker.0.borrow_mut());
        }
    }

    /// Recreates the outlet. Part of the old one's queue is still in flight.
    fn renew_outlet(&mut self) {
        if let Some(outlet) = &mut self.outlet {
            outlet.renew(&mut self.broker.0.borrow_mut(), &mut self.limits);
        }
    }

    /// Delivers some of a producer's queue to the broker.
    fn deliver(&mut self, number: usize) {
        let producer = &mut self.producers[number];
        let mut cluster = self.broker.0.borrow_mut();
        let faults = cluster.chance.faults;
        let most = producer.queue.len();
        let count = cluster.chance.random.random_range(0..=most);
        for (place, output) in producer.queue.drain(..count) {
            let (target, bytes) = (output.target, output.bytes());
            if cluster.strikes(faults.refuse / 4) {
                producer.has_refused = true;
                continue;
            }
            match cluster.append(&producer.id, producer.epoch, place, output) {
                Ok(()) => {}
                // Like the real sink: a refusal names the largest message, however many messages it affected.
                Err(Refusal::TooLarge) => match producer.refused.iter_mut().find(|(known, _)| *known == target) {
                    Some((_, largest)) => *largest = bytes.max(*largest),
                    None => producer.refused.push((target, bytes)),
                },
                Err(_) => producer.is_fenced = true,
            }
        }
    }

    /// Faults that can occur at any transactional call.
    fn check(&mut self, number: usize, doing: &'static str) -> Result<(), SinkError> {
        if self.call() {
            return Err(dead());
        }
        if self.producers[number].is_fenced {
            self.state = State::Unfenced;
            return Err(unknown(doing, "a newer producer has fenced this one"));
        }
        let mut cluster = self.broker.0.borrow_mut();
        cluster.meanwhile();
        let faults = cluster.chance.faults;
        if cluster.strikes(faults.abortable) {
            return Err(SinkError::Abortable { doing, detail: "injected".to_owned() });
        }
        Ok(())
    }

    fn refused(&mut self, number: usize, refusal: Refusal) -> SinkError {
        match refusal {
            Refusal::Fenced => {
                self.producers[number].is_fenced = true;
                self.state = State::Unfenced;
                unknown("commit", "a newer producer has fenced this one")
            }
            Refusal::TooLarge => SinkError::Abortable { doing: "commit", detail: "a message is too large".to_owned() },
            Refusal::Generation => SinkError::Stale { doing: "commit", detail: "the generation has passed".to_owned() },
        }
    }

    /// Advances a commit by one stage; returns its outcome once there is one.
    fn step(&mut self) -> Option<Result<(), SinkError>> {
        let commit = self.committing.as_mut()?;
        let (number, stage) = (commit.producer, commit.stage);
        let (positions, group) = (commit.positions.clone(), commit.group);
        if stage == Stage::Deliver && !self.producers[number].queue.is_empty() {
            self.deliver(number);
            return None;
        }
        let refused = std::mem::take(&mut self.producers[number].refused);
        if !refused.is_empty() {
            for (target, bytes) in refused {
                self.limits.refused(target, bytes);
            }
            return Some(Err(self.refused(number, Refusal::TooLarge)));
        }
        if std::mem::take(&mut self.producers[number].has_refused) && !canary::is_in(Canary::RefusedIgnored) {
            return Some(Err(SinkError::Abortable { doing: "commit", detail: "a message was refused".to_owned() }));
        }
        if stage == Stage::Deliver
            && let Some(outlet) = &self.outlet
        {
            match outlet.outcome(number) {
                Some(true) => {}
                None => {
                    self.deliver_beside();
                    return None;
                }
                Some(false) => {
                    let detail = "a message was refused".to_owned();
                    return Some(Err(SinkError::Abortable { doing: "commit", detail }));
                }
            }
        }
        if let Err(error) = self.check(number, "commit") {
            return Some(Err(error));
        }
        let (id, epoch) = (self.producers[number].id.clone(), self.producers[number].epoch);
        let mut cluster = self.broker.0.borrow_mut();
        let faults = cluster.chance.faults;
        if stage != Stage::Deliver && cluster.strikes(faults.unknown) {
            // The client gives up. Its requests are lost, arrive now, or arrive later.
            let late = Late { id, epoch, add: (stage == Stage::Add).then_some((positions, group)) };
            match cluster.chance.random.random_range(0..3) {
                0 => {}
                1 => cluster.arrive(late),
                _ => cluster.late.requests.push(late),
            }
            drop(cluster);
            self.state = State::Unfenced;
            return Some(Err(unknown("commit", "no answer")));
        }
        let refusal = match stage {
            Stage::Deliver => None,
            Stage::Add if cluster.strikes(faults.stale) => Some(Refusal::Generation),
            Stage::Add => cluster.add_positions(&id, epoch, &positions, group).err(),
            Stage::End | Stage::Failed => cluster.end_transaction(&id, epoch, true).err(),
        };
        drop(cluster);
        if let Some(refusal) = refusal {
            return Some(Err(self.refused(number, refusal)));
        }
        let commit = self.committing.as_mut()?;
        commit.stage = match stage {
            Stage::Deliver => Stage::Add,
            Stage::Add => Stage::End,
            Stage::End | Stage::Failed => {
                self.committing = None;
                return Some(Ok(()));
            }
        };
        None
    }

    fn place(&self, output: &Visible) -> Place {
        let partitions = self.broker.0.borrow().input.len() as u64;
        let by_key = || (crate::state::hash_key(output.key.as_deref().unwrap_or_default()) % partitions) as i32;
        match output.target {
            Target::Decisions => Place::Decisions(by_key()),
            Target::DeadLetters => Place::DeadLetters(by_key()),
            Target::Profiles(partition) => Place::Profiles(partition),
        }
    }
}

impl Sink for MemorySink {
    type Group = Option<Membership>;

    fn shows_at_once(&self) -> bool {
        self.outlet.is_some()
    }

    fn fence(&mut self) -> Result<(), SinkError> {
        if self.state != State::Unfenced {
            return Ok(());
        }
        if self.call() {
            return Err(dead());
        }
        self.committing = None;
        self.turn = 0;
        self.renew_outlet();
        for number in 0..self.producers.len() {
            let mut cluster = self.broker.0.borrow_mut();
            cluster.meanwhile();
            let faults = cluster.chance.faults;
            if cluster.strikes(faults.fence) {
                return Err(unknown("fence", "no answer"));
            }
            let producer = &mut self.producers[number];
            producer.queue.clear();
            producer.refused.clear();
            producer.has_refused = false;
            if !(canary::is_in(Canary::ProducerReused) && producer.epoch > 0 && !producer.is_fenced) {
                producer.epoch = cluster.init_producer(&producer.id);
            }
            producer.is_fenced = false;
        }
        self.state = State::Ready;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), SinkError> {
        if self.fuse.is_dead() {
            return Err(dead());
        }
        assert_eq!(self.state, State::Ready, "a transaction begins on a fenced producer, when none is open");
        let is_taken = self.committing.as_ref().is_some_and(|commit| commit.producer == self.turn);
        assert!(!is_taken, "a producer has one transaction at a time");
        self.check(self.turn, "begin")?;
        self.state = State::Open;
        Ok(())
    }

    fn send(&mut self, outbox: &Outbox, from: usize, set_aside: &mut Vec<usize>) -> Result<(), SinkError> {
        if self.fuse.is_dead() {
            return Err(dead());
        }
        assert_eq!(self.state, State::Open, "outputs are sent in an open transaction");
        self.check(self.turn, "send")?;
        for index in from..outbox.len() {
            let output = outbox.get(index);
            let meant = output.target;
            let output = match smaller(&output, &self.limits, "clicks") {
                Some(Smaller { target, key, payload, headers }) => Visible {
                    target,
                    key: key.map(<[u8]>::to_vec),
                    payload: payload.map(std::borrow::Cow::into_owned),
                    headers: headers.into_iter().map(|(name, value)| (name, value.into_owned())).collect(),
                },
                None => Visible {
                    target: output.target,
                    key: output.key.map(<[u8]>::to_vec),
                    payload: output.payload.map(<[u8]>::to_vec),
                    headers: output.headers().map(|(name, value)| (name, value.to_vec())).collect(),
                },
            };
            if output.target != meant {
                set_aside.push(index);
            }
            let place = self.place(&output);
            match &mut self.outlet {
                Some(outlet) if output.target.is_for_readers() => {
                    outlet.send(self.turn, place, output);
                }
                _ => self.producers[self.turn].queue.push_back((place, output)),
            }
        }
        self.deliver(self.turn);
        self.deliver_beside();
        Ok(())
    }

    fn serve(&mut self) {
        if self.call() {
            return;
        }
        self.deliver_beside();
        let first = self.broker.0.borrow_mut().chance.random.random_range(0..2);
        self.deliver(first);
        self.deliver(1 - first);
    }

    fn commit(&mut self, positions: &[(i32, i64, String)], group: Option<Membership>) -> Result<(), SinkError> {
        if self.call() {
            return Err(dead());
        }
        assert!(self.committing.is_none(), "one commit at a time");
        assert_eq!(self.state, State::Open, "an open transaction is committed");
        self.committing =
            Some(Commit { producer: self.turn, positions: positions.to_vec(), group, stage: Stage::Deliver });
        self.turn = 1 - self.turn;
        self.state = State::Ready;
        Ok(())
    }

    fn is_delivered(&self) -> bool {
        self.committing.as_ref().is_none_or(|commit| commit.stage > Stage::Deliver)
    }

    fn outcome(&mut self, wait: Duration) -> Option<Result<(), SinkError>> {
        if self.committing.as_ref().is_none_or(|commit| commit.stage == Stage::Failed) {
            return None;
        }
        if self.call() {
            return Some(Err(dead()));
        }
        loop {
            if let Some(outcome) = self.step() {
                if outcome.is_err()
                    && let Some(commit) = &mut self.committing
                {
                    commit.stage = Stage::Failed;
                }
                return Some(outcome);
            }
            if wait.is_zero() || (wait < Duration::from_millis(10) && self.broker.0.borrow_mut().one_in(2)) {
                return None;
            }
        }
    }

    fn abort(&mut self) -> Result<(), SinkError> {
        if self.call() {
            return Err(dead());
        }
        if self.state == State::Unfenced {
            return Ok(());
        }
        let open = (self.state == State::Open).then_some(self.turn);
        let committing = self.committing.as_ref().map(|commit| commit.producer);
        for number in committing.into_iter().chain(open) {
            let producer = &mut self.producers[number];
            producer.queue.clear();
            producer.refused.clear();
            producer.has_refused = false;
            let mut cluster = self.broker.0.borrow_mut();
            cluster.meanwhile();
            let faults = cluster.chance.faults;
            let is_lost = cluster.strikes(faults.unknown / 4);
            if is_lost || cluster.end_transaction(&producer.id, producer.epoch, false).is_err() {
                self.state = State::Unfenced;
                return Err(unknown("abort", "no answer"));
            }
        }
        if self.outlet.as_ref().is_some_and(Outlet::has_failed) {
            self.renew_outlet();
        }
        self.committing = None;
        self.state = State::Ready;
        Ok(())
    }
}

/// The error that a dead worker gets.
fn dead() -> SinkError {
    SinkError::Fatal { doing: "go on", detail: "the worker is dead".to_owned() }
}

impl Drop for MemorySink {
    /// Requests sent by a dying worker may arrive now, later, or never.
    fn drop(&mut self) {
        self.deliver_beside();
        self.deliver(0);
        self.deliver(1);
        self.renew_outlet();
        let Some(commit) = self.committing.take() else { return };
        let mut cluster = self.broker.0.borrow_mut();
        let producer = &self.producers[commit.producer];
        if commit.stage == Stage::End && cluster.one_in(2) {
            cluster.late.requests.push(Late { id: producer.id.clone(), epoch: producer.epoch, add: None });
        }
    }
}
