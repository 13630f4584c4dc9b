//! The loop of a process: standby, takeover, leader.

use super::{
    ControlError, Input, Settings,
    figures::Figures,
    leader::{Leader, Now, Turn},
    page::{LeaderPage, show_standby},
    ports::{KafkaInputs, KafkaOutlet},
    standby::Standby,
};
use crate::{
    control::{CampaignSetup, State},
    metrics,
    sink::{ControlSink, SinkError},
    source::{Candidacy, Tail, Watermarks},
    status::{RolePhase, RoleStatus},
};
use crossbeam_channel::Receiver;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long a standby waits for records in one turn.
const WAIT: Duration = Duration::from_millis(100);
/// The pause after a failed attempt to fence.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How long the state is read at a takeover: longer than a broker keeps the open transaction of a dead process.
const RESTORE_DEADLINE: Duration = Duration::from_mins(2);
/// The pause between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How leading ended.
enum End {
    /// The process stops.
    Stopped,
    /// Another process leads.
    Deposed(String),
}

/// The loop of a process.
pub(super) struct Control {
    pub(super) settings: Settings,
    pub(super) campaigns: Vec<CampaignSetup>,
    /// Campaigns of a configuration that was read again.
    pub(super) updates: Receiver<Vec<CampaignSetup>>,
    pub(super) status: RoleStatus,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) started: Instant,
}

impl Control {
    /// Runs until the process is to stop.
    ///
    /// # Errors
    /// If it cannot go on.
    pub(super) fn run(mut self) -> Result<(), ControlError> {
        loop {
            let candidacy = Candidacy::join(&self.settings.candidacy())?;
            let Some(standby) = self.stand_by(&candidacy)? else { return Ok(()) };
            match self.lead(standby, &candidacy) {
                Ok(End::Stopped) => return Ok(()),
                Ok(End::Deposed(why)) | Err(ControlError::Deposed(why)) => {
                    tracing::warn!(why, "no longer leading: following another process");
                }
                Err(error) => return Err(error),
            }
            Figures::stands_by();
        }
    }

    fn is_stopping(&self) -> bool {
        self.status.health().beat();
        self.stop.load(Ordering::Relaxed)
    }

    /// Takes changed campaigns.
    fn update(&mut self) -> Option<Vec<CampaignSetup>> {
        let campaigns = self.updates.try_iter().last()?;
        self.campaigns.clone_from(&campaigns);
        Some(campaigns)
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        Now { wall, uptime: self.started.elapsed() }
    }

    /// Follows the leader until this process is to lead. `None` if it is to stop.
    fn stand_by(&mut self, candidacy: &Candidacy) -> Result<Option<Standby>, ControlError> {
        let mut standby = Standby::open(&self.settings, self.campaigns.clone())?;
        let mut has_told = false;
        while !candidacy.is_leader()? {
            if self.is_stopping() {
                return Ok(None);
            }
            if let Some(campaigns) = self.update() {
                standby.set_campaigns(campaigns);
            }
            standby.turn(WAIT)?;
            show_standby(&self.settings, &self.status, &standby, false, self.now());
            let records = standby.records();
            self.status.set(if standby.has_caught_up() {
                RolePhase::Ready("standby")
            } else {
                RolePhase::NotReady(format!("the standby is reading control's state: {records} records so far"))
            });
            if standby.has_caught_up() && !has_told {
                tracing::info!(records, "standing by");
                has_told = true;
            }
        }
        Ok(Some(standby))
    }

    fn lead(&mut self, standby: Standby, candidacy: &Candidacy) -> Result<End, ControlError> {
        let begun = Instant::now();
        self.status.set(RolePhase::NotReady("taking over: reading the state to its end".to_owned()));
        show_standby(&self.settings, &self.status, &standby, true, self.now());
        let mut sink = ControlSink::new(self.settings.sink());
        while let Err(error) = sink.fence() {
            if matches!(error, SinkError::Fatal { .. }) {
                return Err(error.into());
            }
            tracing::warn!(%error, "fencing other processes failed: trying again");
            if self.is_stopping() {
                return Ok(End::Stopped);
            }
            if !candidacy.is_leader()? {
                return Ok(End::Deposed("the group has chosen another process".to_owned()));
            }
            if begun.elapsed() > self.settings.stall_after {
                return Err(error.into());
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        let Some((state, journal)) = self.restore(standby, begun)? else { return Ok(End::Stopped) };
        let mut state = state;
        take(&mut state, self.campaigns.clone());
        let version = state.version();
        let inputs = self.inputs(&mut state)?;
        let mut leader = Leader::new(self.settings.clone(), state, inputs, KafkaOutlet::new(sink, journal));
        let took_ms = begun.elapsed().as_millis() as u64;
        tracing::info!(version, took_ms, "leading");
        self.work(&mut leader, candidacy)
    }

    /// Reads the state up to the end that it had after the fence. `None` if the process is to stop.
    fn restore(&self, mut standby: Standby, begun: Instant) -> Result<Option<(State, Tail)>, ControlError> {
        let end = standby.high_watermark()?;
        while !standby.follow_to(end)? {
            if self.is_stopping() {
                return Ok(None);
            }
            if begun.elapsed() > RESTORE_DEADLINE.max(self.settings.stall_after) {
                return Err(ControlError::Stalled { what: "not read its state to the end", time: begun.elapsed() });
            }
        }
        let restore = |error| ControlError::Restore { topic: self.settings.state.clone(), error };
        standby.finish().map(Some).map_err(restore)
    }

    /// Opens the inputs at the positions of the state.
    fn inputs(&self, state: &mut State) -> Result<KafkaInputs, ControlError> {
        let mut open = |input: Input| {
            let topic = self.settings.topic(input);
            Tail::open(&self.settings.tail(topic), |partition, Watermarks { low, high }| {
                if input.is_timed() {
                    state.assign(topic, [partition]);
                }
                match state.position(topic, partition) {
                    None => low,
                    Some(position) if position > high => {
                        tracing::warn!(
                            topic,
                            partition,
                            position,
                            high,
                            "the topic was recreated: control reads it from its start"
                        );
                        state.restart_input(topic, partition);
                        low
                    }
                    Some(position) => {
                        if position < low {
                            let lost = low - position;
                            metrics::skipped(lost as u64);
                            tracing::error!(
                                topic,
                                partition,
                                lost,
                                "records were deleted before control had read them: what they say, such as spend, is not \
                                 known; raise the topic's retention.ms"
                            );
                        }
                        position.max(low)
                    }
                }
            })
        };
        Ok(KafkaInputs {
            decisions: open(Input::Decisions)?,
            outcomes: open(Input::Outcomes)?,
            audiences: open(Input::Audiences)?,
        })
    }

    fn work(
        &mut self,
        leader: &mut Leader<KafkaInputs, KafkaOutlet>,
        candidacy: &Candidacy,
    ) -> Result<End, ControlError> {
        let mut figures = Figures::new(&leader.state, self.started.elapsed());
        let mut page = LeaderPage::new(&self.settings, &self.status, self.now());
        let mut logged_at = Instant::now();
        loop {
            if self.is_stopping() {
                let started = self.now();
                if let Turn::Committed { policy, taken, took } = leader.finish(&|| self.now())? {
                    figures.committed(&leader.state, policy.as_deref(), &taken, took, started.uptime);
                }
                Figures::log("stopped", &leader.state);
                return Ok(End::Stopped);
            }
            if !candidacy.is_leader()? {
                return Ok(End::Deposed("the group has chosen another process".to_owned()));
            }
            if let Some(campaigns) = self.update() {
                take(&mut leader.state, campaigns);
            }
            let turn = leader.turn(&|| self.now())?;
            let now = self.now();
            match turn {
                Turn::Committed { policy, taken, took } => {
                    self.status.health().moved();
                    figures.committed(&leader.state, policy.as_deref(), &taken, took, now.uptime);
                    let lag = Input::ALL.map(|input| leader.lag(input));
                    page.committed(&leader.state, policy.as_deref(), lag, now);
                }
                Turn::Aborted => Figures::aborted(),
                Turn::Read => {}
            }
            Figures::set_lag(Input::ALL.map(|input| leader.lag(input)));
            let still = figures.still_for(now.uptime);
            if still > self.settings.stall_after {
                return Err(ControlError::Stalled { what: "committed nothing", time: still });
            }
            let left: u64 = Input::ALL.iter().map(|input| leader.lag(*input)).sum();
            self.status.set(if leader.is_known(now) {
                RolePhase::Ready("leader")
            } else {
                RolePhase::NotReady(format!("the leader is catching up: about {left} records left"))
            });
            if logged_at.elapsed() >= LOG_INTERVAL {
                logged_at = Instant::now();
                Figures::log("so far", &leader.state);
            }
        }
    }
}

/// Takes in changed campaigns, and logs those whose budget stops by it.
fn take(state: &mut State, campaigns: Vec<CampaignSetup>) {
    state.set_campaigns(campaigns);
    for (campaign, spent_in) in state.of_other_currency() {
        let spent_in = spent_in.code();
        tracing::warn!(
            campaign,
            spent_in,
            "the campaign has spent money in a currency other than its present one, so its budget is unknown and it stops: \
             give it the earlier currency again, or declare a campaign with another id"
        );
    }
}
