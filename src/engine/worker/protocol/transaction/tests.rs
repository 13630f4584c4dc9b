use super::*;
use crate::sink::Target;
use rand::{Rng, SeedableRng, rngs::SmallRng};

const SECOND: Duration = Duration::from_secs(1);

fn push(transaction: &mut Transaction, number: u32) {
    let (outbox, counts) = transaction.buffers();
    outbox.push(Target::Decisions, None, &[], Some(|to: &mut Vec<u8>| to.extend(number.to_be_bytes())));
    counts.events += 1;
    counts.decisions += 1;
    transaction.open(SECOND);
}

fn numbers(outbox: &Outbox) -> Vec<u32> {
    let number = |payload: &[u8]| u32::from_be_bytes(payload.try_into().unwrap());
    outbox.all().map(|it| number(it.payload.unwrap())).collect()
}

fn committed(offset: i64) -> Vec<(i32, Committed)> {
    vec![(0, Committed { offset: Some(offset), metadata: String::new() })]
}

/// A transaction with output 0 under way and output 1 sent behind it.
fn one_under_way() -> Transaction {
    let mut transaction = Transaction::new(1_000);
    push(&mut transaction, 0);
    assert!(transaction.must_commit());
    transaction.begun();
    transaction.sent();
    transaction.commit_began(vec![(0, 1, String::new())], SECOND * 2);
    push(&mut transaction, 1);
    transaction.begun();
    transaction.sent();
    assert!(transaction.is_committing() && transaction.is_begun());
    transaction
}

#[test]
fn what_is_done_about_a_failure_follows_from_its_kind() {
    use RecoveryAction::{Abort, CommitAgain, Fence, FenceAndReadPositions, GoOn, Stop};
    let mut it = one_under_way();
    assert_eq!(it.failed(Failure::Abortable), Abort);
    assert_eq!(it.aborted(Ok(())), Fence);
    assert_eq!(it.fenced(SECOND), CommitAgain);
    assert_eq!((numbers(it.unsent_outputs().0), it.unsent(), it.is_begun()), (vec![0, 1], 2, false));
    assert_eq!((it.opened_at(), it.filling.counts.events), (Some(SECOND), 2));

    let mut it = one_under_way();
    assert_eq!(it.failed(Failure::Stale), Abort);
    assert_eq!(it.aborted(Err(Failure::Unknown)), Fence);
    assert_eq!(it.fenced(SECOND * 9), GoOn);
    assert_eq!((numbers(it.unsent_outputs().0), it.opened_at()), (vec![0, 1], Some(SECOND * 9)));

    let mut it = one_under_way();
    assert_eq!(it.failed(Failure::Abortable), Abort);
    assert_eq!(it.aborted(Err(Failure::Unknown)), FenceAndReadPositions(vec![0]));
    assert_eq!(one_under_way().failed(Failure::Fatal), Stop);

    // Nothing was being committed, so nothing can have taken effect.
    let mut it = Transaction::new(1_000);
    push(&mut it, 0);
    assert_eq!(it.failed(Failure::Unknown), Fence);
    assert_eq!(it.fenced(SECOND), CommitAgain);
}

#[test]
fn the_committed_positions_tell_whether_an_unknown_commit_took_effect() {
    for (offset, action, left) in [
        (1, RecoveryAction::Finish, vec![1]),
        (0, RecoveryAction::CommitAgain, vec![0, 1]),
        (7, RecoveryAction::RestoreAll, vec![]),
    ] {
        let mut it = one_under_way();
        assert_eq!(it.failed(Failure::Unknown), RecoveryAction::FenceAndReadPositions(vec![0]));
        assert_eq!(it.positions_read(&committed(offset), |_| Some((0, ""))), action);
        match action {
            RecoveryAction::Finish => assert_eq!(numbers(&it.take_committed().unwrap().outbox), [0]),
            RecoveryAction::RestoreAll => it.discard(),
            _ => {}
        }
        assert_eq!(
            (numbers(it.unsent_outputs().0), it.unsent()),
            (left.clone(), left.len()),
            "all of it is sent again"
        );
    }
}

#[test]
fn a_generation_that_passes_again_and_again_ends_in_a_restore() {
    let mut it = one_under_way();
    for _ in 0..STALE_TRIES_MAX {
        it.failed(Failure::Stale);
        it.aborted(Ok(()));
        assert_eq!(it.fenced(SECOND), RecoveryAction::GoOn);
    }
    it.failed(Failure::Stale);
    it.aborted(Ok(()));
    assert_eq!(it.fenced(SECOND), RecoveryAction::RestoreAll);
}

#[test]
fn a_confirmation_is_given_by_a_commit_of_positions_alone() {
    let mut it = Transaction::new(1_000);
    it.request_confirmation(SECOND);
    assert!(it.must_commit() && !it.is_idle());
    it.commit_began(Vec::new(), SECOND);
    it.take_committed();
    assert!(!it.take_confirmation(), "nothing was committed");
    it.request_confirmation(SECOND);
    it.commit_began(vec![(0, 1, String::new())], SECOND);
    it.failed(Failure::Abortable);
    it.aborted(Ok(()));
    it.fenced(SECOND);
    assert!(it.must_commit(), "the next try has to give it");
    it.commit_began(vec![(0, 1, String::new())], SECOND);
    it.take_committed();
    assert!(it.take_confirmation());
    assert!(!it.must_commit() && !it.take_confirmation(), "it is given once");
}

#[test]
fn what_a_topic_refused_is_counted_when_its_commit_takes_effect() {
    let mut it = Transaction::new(1_000);
    push(&mut it, 0);
    push(&mut it, 1);
    it.unsent_outputs().2.push(1);
    it.sent();
    it.commit_began(vec![(0, 2, String::new())], SECOND);
    let done = it.take_committed().unwrap();
    assert_eq!((done.counts.events, done.counts.decisions, done.counts.dead_letters_total()), (2, 1, 1));
    it.reuse(done);
    assert!(it.is_idle());
}

/// A broker that keeps what is committed, and a worker that has processed the input up to `next`.
struct World {
    random: SmallRng,
    transaction: Transaction,
    now: Duration,
    next: u32,
    /// What readers see, and the position behind it.
    log: Vec<u32>,
    position: u32,
    /// What the sink has of the open transaction.
    begun: Option<Vec<u32>>,
    /// What it is committing, and the position behind it.
    committing: Option<(Vec<u32>, u32)>,
    /// Whether a confirmation was requested and all since has been kept.
    is_requested: bool,
    commits: u32,
    recoveries: u32,
}

impl World {
    fn one_in(&mut self, count: u32) -> bool {
        self.random.random_range(0..count) == 0
    }

    fn failure(&mut self) -> Failure {
        [Failure::Abortable, Failure::Stale, Failure::Unknown][self.random.random_range(0..3)]
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(1);
        match self.random.random_range(0..10) {
            0..3 => {
                push(&mut self.transaction, self.next);
                self.next += 1;
            }
            3..5 => {
                if let Err(failure) = self.send() {
                    self.recover_filling(failure);
                }
            }
            5..7 if !self.transaction.is_committing() && self.transaction.opened_at().is_some() => {
                if let Err(failure) = self.begin_commit() {
                    self.recover(failure);
                }
            }
            7..9 => {
                if let Some(Err(failure)) = self.outcome() {
                    self.recover(failure);
                }
            }
            9 if self.one_in(4) => {
                self.transaction.request_confirmation(self.now);
                self.is_requested = true;
            }
            9 if self.is_requested && self.one_in(4) => {
                let is_confirmed = self.transaction.is_confirmed;
                assert_eq!(self.transaction.take_confirmation(), is_confirmed);
                self.is_requested = false;
            }
            9 if self.one_in(10) => self.restore(),
            _ => {}
        }
        self.check();
    }

    fn send(&mut self) -> Result<(), Failure> {
        if self.transaction.unsent() == 0 {
            return Ok(());
        }
        if self.one_in(8) {
            return Err(self.failure());
        }
        assert_eq!(self.transaction.is_begun(), self.begun.is_some());
        self.transaction.begun();
        let (outbox, from, _) = self.transaction.unsent_outputs();
        self.begun.get_or_insert_default().extend(&numbers(outbox)[from..]);
        self.transaction.sent();
        Ok(())
    }

    fn begin_commit(&mut self) -> Result<(), Failure> {
        let must_commit = self.transaction.must_commit();
        let mut positions = Vec::new();
        if must_commit || self.next > self.position {
            self.send()?;
            self.transaction.begun();
            if self.one_in(8) {
                return Err(self.failure());
            }
            assert!(self.committing.is_none(), "two commits are under way");
            self.committing = Some((self.begun.take().unwrap_or_default(), self.next));
            positions.push((0, i64::from(self.next), String::new()));
        }
        self.transaction.commit_began(positions.clone(), self.now);
        if positions.is_empty() {
            self.finish();
        }
        Ok(())
    }

    fn outcome(&mut self) -> Option<Result<(), Failure>> {
        if !self.transaction.is_committing() || self.one_in(3) {
            return None;
        }
        if self.one_in(3) {
            let failure = self.failure();
            if failure == Failure::Unknown && self.one_in(2) {
                self.take_effect();
            }
            return Some(Err(failure));
        }
        self.take_effect();
        self.finish();
        Some(Ok(()))
    }

    fn take_effect(&mut self) {
        let (outputs, position) = self.committing.take().expect("a commit is under way");
        self.log.extend(outputs);
        self.position = position;
        self.commits += 1;
    }

    fn finish(&mut self) {
        let committed = self.transaction.take_committed().expect("a commit was under way");
        self.transaction.reuse(committed);
    }

    /// As the worker does: what is being committed is waited for first.
    fn recover_filling(&mut self, failure: Failure) {
        while self.transaction.is_committing() {
            if let Some(Err(first)) = self.outcome() {
                return self.recover(first);
            }
        }
        self.recover(failure);
    }

    fn recover(&mut self, failure: Failure) {
        let mut failure = failure;
        loop {
            self.recoveries += 1;
            let mut action = self.transaction.failed(failure);
            let is_again = loop {
                action = match action {
                    RecoveryAction::Abort if self.one_in(5) => self.transaction.aborted(Err(Failure::Unknown)),
                    RecoveryAction::Abort => self.transaction.aborted(Ok(())),
                    RecoveryAction::Fence => {
                        (self.begun, self.committing) = (None, None);
                        self.transaction.fenced(self.now)
                    }
                    RecoveryAction::FenceAndReadPositions(_) => {
                        (self.begun, self.committing) = (None, None);
                        let before = self.log_position_before();
                        self.transaction.positions_read(&committed(self.position.into()), |_| Some((before, "")))
                    }
                    RecoveryAction::CommitAgain => break true,
                    RecoveryAction::Finish => {
                        self.finish();
                        break false;
                    }
                    RecoveryAction::GoOn => break false,
                    RecoveryAction::RestoreAll => {
                        self.restore();
                        break false;
                    }
                    RecoveryAction::Stop => unreachable!("no failure here is fatal"),
                }
            };
            if !is_again {
                return;
            }
            self.check();
            match self.begin_commit() {
                Err(next) => failure = next,
                Ok(()) => loop {
                    match self.outcome() {
                        None if self.transaction.is_committing() => {}
                        Some(Err(next)) => {
                            failure = next;
                            break;
                        }
                        _ => return,
                    }
                },
            }
        }
    }

    /// The position that the worker knows to be committed.
    fn log_position_before(&self) -> i64 {
        let in_flight = self.transaction.commit.in_flight().expect("a commit is in doubt");
        let first = numbers(&in_flight.outbox).first().copied();
        first.unwrap_or(in_flight.positions[0].1 as u32).into()
    }

    /// All state is dropped, and the input is read again from the committed position.
    fn restore(&mut self) {
        (self.begun, self.committing) = (None, None);
        self.transaction.discard();
        self.next = self.position;
        self.is_requested = false;
    }

    fn check(&self) {
        let in_flight = self.transaction.commit.in_flight();
        let mut all = self.log.clone();
        all.extend(in_flight.map(|it| numbers(&it.outbox)).unwrap_or_default());
        all.extend(numbers(&self.transaction.filling.outbox));
        assert_eq!(all, (0..self.next).collect::<Vec<_>>(), "each output is in one place, in its order");
        let counted = self.transaction.filling.counts.events + in_flight.map_or(0, |it| it.counts.events);
        assert_eq!(counted as usize + self.log.len(), all.len(), "its count goes with it");
        if self.is_requested {
            let is_kept = self.transaction.filling.must_confirm
                || self.transaction.is_confirmed
                || in_flight.is_some_and(|it| it.must_confirm);
            assert!(is_kept, "a confirmation was lost");
        }
        if let Some((_, position)) = self.committing {
            assert_eq!(in_flight.map(|it| it.positions[0].1), Some(position.into()));
        }
    }
}

#[test]
fn whatever_fails_each_output_is_in_one_place_and_no_confirmation_is_lost() {
    let (mut commits, mut recoveries) = (0, 0);
    for seed in 0..2_000 {
        let mut world = World {
            random: SmallRng::seed_from_u64(seed),
            transaction: Transaction::new(40),
            now: Duration::ZERO,
            next: 0,
            log: Vec::new(),
            position: 0,
            begun: None,
            committing: None,
            is_requested: false,
            commits: 0,
            recoveries: 0,
        };
        for _ in 0..100 {
            world.step();
        }
        commits += world.commits;
        recoveries += world.recoveries;
    }
    assert!(commits > 10_000 && recoveries > 10_000, "{commits} commits, {recoveries} recoveries");
}
