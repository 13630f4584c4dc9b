//! The leader: reads the inputs, and writes what has changed.
//!
//! Guarantees:
//! - A **policy** is only written if everything has been read that was in the inputs shortly before. While control
//!   catches up, or a partition cannot be read, it publishes nothing, and campaigns with a budget stop at the workers.
//! - The **time** of the stream moves to the moment of a look at the ends of all partitions, once everything below
//!   these ends has been read. So a silent partition holds nothing back, and a slow one makes nothing late.
//! - **Dead letters** are kept until their transaction is committed.
//!
//! Limits: at most [`DIRTY_MAX`] changed parts of the state, and some more of one batch, are in one transaction.

use super::{
    ControlError, Input, Settings,
    intake::{Taken, take_audiences, take_decision, take_outcome, take_rejected},
    ports::{Inputs, Outlet, Written},
};
use crate::{
    control::{PARKED_MAX, Source, State},
    event::Record,
    logging,
    sink::ControlOutputs,
    targeting::policy::Policy,
};
use std::time::Duration;

/// How many records of an input are taken in one turn.
const BATCH: usize = 2_000;
/// After this many changed parts, the state is written before the interval is over.
const DIRTY_MAX: usize = 50_000;
/// How long a turn waits for records.
const WAIT: Duration = Duration::from_millis(50);
/// The pause before a transaction is written again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// After this time, ends that were not reached are looked for again.
const LOOK_MAX: Duration = Duration::from_secs(30);
/// What a policy may lack at least. A client knows half a second late that there is nothing more.
const LACK_MIN: Duration = Duration::from_secs(15);

/// The present, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// In microseconds since 1970.
    pub(super) wall: i64,
    /// Since the process began. Never goes back.
    pub(super) uptime: Duration,
}

/// How far the inputs have been read.
#[derive(Debug, Default)]
struct Looks {
    /// A look whose ends have not been reached yet.
    open: Option<Look>,
    at: Option<Duration>,
    /// Everything that was in the inputs at this time has been read.
    known_at: Option<Now>,
    /// The records that were to be read at the last look, by input.
    lag: [u64; 3],
}

/// A look at the ends of all partitions.
#[derive(Debug)]
struct Look {
    at: Now,
    ends: Vec<(Input, i32, i64)>,
}

/// What has become of the last turn.
#[derive(Debug)]
pub(super) enum Turn {
    /// Nothing was due.
    Read,
    /// A transaction is committed, with this policy if there was one.
    Committed { policy: Option<Box<Policy>>, taken: Taken, took: Duration },
    /// It was not, and is written again.
    Aborted,
}

/// The leader's work.
pub(super) struct Leader<I, O> {
    pub(super) state: State,
    pub(super) inputs: I,
    pub(super) outlet: O,
    settings: Settings,
    taken: Taken,
    looks: Looks,
    began: Option<Duration>,
    /// When a transaction was last tried.
    tried_at: Option<Duration>,
    has_published: bool,
    has_failed: bool,
}

impl<I: Inputs, O: Outlet> Leader<I, O> {
    pub(super) fn new(settings: Settings, state: State, inputs: I, outlet: O) -> Self {
        Self {
            state,
            inputs,
            outlet,
            settings,
            taken: Taken::default(),
            looks: Looks::default(),
            began: None,
            tried_at: None,
            has_published: false,
            has_failed: false,
        }
    }

    /// Reads what has arrived, and writes what is due. `now` is asked several times.
    ///
    /// # Errors
    /// If another process has taken over, or the work cannot go on.
    pub(super) fn turn(&mut self, now: &dyn Fn() -> Now) -> Result<Turn, ControlError> {
        self.read(now().wall)?;
        self.look(now());
        let start = now();
        let is_due = |since: Option<Duration>, interval: Duration| {
            since.is_none_or(|since| start.uptime.saturating_sub(since) >= interval)
        };
        let interval = if self.has_failed { RETRY_PAUSE } else { self.settings.spec.policy_interval };
        let began = *self.began.get_or_insert(start.uptime);
        // The first policy comes as soon as everything has been read, and not only after an interval.
        let is_first = !self.has_published && self.is_known(start) && is_due(self.tried_at, RETRY_PAUSE);
        let is_full = self.state.dirty_count() >= DIRTY_MAX && is_due(self.tried_at, RETRY_PAUSE);
        if is_first || is_full || is_due(Some(self.tried_at.unwrap_or(began)), interval) {
            return self.write(start, now);
        }
        Ok(Turn::Read)
    }

    /// Whether a policy would know everything that was in the inputs shortly before.
    pub(super) fn is_known(&self, now: Now) -> bool {
        let lack_max = self.settings.spec.stale_after.max(LACK_MIN);
        self.looks.known_at.is_some_and(|known| now.uptime.saturating_sub(known.uptime) <= lack_max)
    }

    /// The records that were to be read at the last look.
    pub(super) fn lag(&self, input: Input) -> u64 {
        self.looks.lag[input as usize]
    }

    /// Writes what has changed, whether or not it is due, because the process stops.
    ///
    /// # Errors
    /// As for [`Self::turn`].
    pub(super) fn finish(&mut self, now: &dyn Fn() -> Now) -> Result<Turn, ControlError> {
        self.write(now(), now)
    }

    fn read(&mut self, now: i64) -> Result<(), ControlError> {
        let decisions = self.poll(Input::Decisions, Duration::ZERO, now)?;
        self.poll(Input::Audiences, Duration::ZERO, now)?;
        // Outcomes do not run ahead of their decisions, because there is only room for some to wait.
        let waiting = |state: &State| state.sizes().2;
        if decisions > 0 && waiting(&self.state) > PARKED_MAX / 4 {
            self.state.advance(i64::MIN);
            if waiting(&self.state) > PARKED_MAX / 2 {
                return Ok(());
            }
        }
        self.poll(Input::Outcomes, if decisions == 0 { WAIT } else { Duration::ZERO }, now)?;
        Ok(())
    }

    /// Takes in what has arrived of an input, and returns the number of records.
    fn poll(&mut self, input: Input, wait: Duration, now: i64) -> Result<usize, ControlError> {
        let Self { state, inputs, settings, taken, .. } = self;
        let Settings { app, users, .. } = &*settings;
        let count = inputs.poll(input, BATCH, wait, &mut |record| {
            let Record { partition, offset, key, payload, timestamp_ms, .. } = *record;
            let arrived_at = timestamp_ms.map_or(now, |ms| ms.saturating_mul(1_000)).min(now);
            let source = Source { topic: settings.topic(input), partition, offset, arrived_at };
            match input {
                Input::Decisions => take_decision(state, app, &source, (key, payload), taken),
                Input::Audiences => take_audiences(state, app, &source, (key, payload), taken),
                Input::Outcomes => take_outcome(state, (app, users), &source, (key, payload), taken),
            }
        })?;
        Ok(count)
    }

    /// Looks at the ends of the inputs a few times in an interval, and moves the time when everything below is read.
    fn look(&mut self, now: Now) {
        if let Some(look) = &self.looks.open {
            let Self { inputs, .. } = self;
            if look.ends.iter().all(|(input, partition, end)| inputs.is_read(*input, *partition, *end)) {
                self.state.advance(look.at.wall);
                self.looks.known_at = Some(look.at);
                self.looks.open = None;
            } else if now.uptime.saturating_sub(look.at.uptime) > LOOK_MAX {
                // The ends of a topic that was created again are never reached.
                self.looks.open = None;
            }
            return;
        }
        let pause = self.settings.spec.policy_interval / 4;
        if self.looks.at.is_some_and(|at| now.uptime.saturating_sub(at) < pause) {
            return;
        }
        self.looks.at = Some(now.uptime);
        match self.inputs.ends() {
            Ok(ends) => {
                for input in Input::ALL {
                    let topic = self.settings.topic(input);
                    let of_input = || ends.iter().filter(|(of, ..)| *of == input);
                    if input.is_timed() {
                        self.state.assign(topic, of_input().map(|(_, partition, _)| *partition));
                    }
                    let left = |(_, partition, end): &(Input, i32, i64)| {
                        let next = self.inputs.next(input, *partition).unwrap_or_default();
                        let is_read = self.inputs.is_read(input, *partition, *end);
                        if is_read { 0 } else { end.saturating_sub(next).max(0) as u64 }
                    };
                    self.looks.lag[input as usize] = of_input().map(left).sum();
                }
                self.looks.open = Some(Look { at: now, ends });
            }
            Err(error) => {
                if let Some(left_out) = logging::rate_limited("look at the ends of control's inputs") {
                    tracing::warn!(%error, left_out, "the ends of the inputs cannot be looked up: trying again");
                }
            }
        }
    }

    fn write(&mut self, start: Now, now: &dyn Fn() -> Now) -> Result<Turn, ControlError> {
        self.tried_at = Some(start.uptime);
        let policy = self.is_known(start).then(|| self.state.tick(start.wall));
        if policy.is_none() {
            self.state.advance(i64::MIN);
        }
        let Settings { app, users, outcomes, .. } = &self.settings;
        take_rejected(&mut self.state, (app, users), outcomes, &mut self.taken);
        let json = policy.as_ref().and_then(|policy| match policy.to_json() {
            Ok(json) => Some(json),
            Err(error) => {
                tracing::error!(error, "the policy is out of bounds and is not published");
                None
            }
        });
        let records: Vec<(String, Option<Vec<u8>>)> =
            self.state.dirty().into_iter().map(|record| (record.key, record.value)).collect();
        let outputs =
            ControlOutputs { state: &records, policy: json.as_deref(), dead_letters: &self.taken.dead_letters };
        let written = self.outlet.write(&outputs)?;
        self.has_failed = written == Written::Aborted;
        if self.has_failed {
            return Ok(Turn::Aborted);
        }
        self.state.mark_clean();
        self.has_published |= json.is_some();
        let taken = std::mem::take(&mut self.taken);
        let policy = policy.filter(|_| json.is_some()).map(Box::new);
        Ok(Turn::Committed { policy, taken, took: now().uptime.saturating_sub(start.uptime) })
    }
}
