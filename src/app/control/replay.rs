//! Control in a replay: records of both topics in, a policy out, at the times that the caller names.
//!
//! Owns nothing but the order: records are kept until the next policy, and then taken in by topic, partition and offset.
//! Guarantees: the rules and the dead letters are those of the role. The same records give the same policies, in
//! whatever order the partitions were read. Limits: nothing is written, so nobody can take over; a replay that stops is
//! begun again.

use super::intake::{Taken, take_decision, take_outcome, take_rejected};
use crate::{
    app::Setup,
    config::ConfigLoadError,
    control::{CampaignSetup, ControlSpec, Counts, Figures, Source, State},
    event::{Record, UserKeys},
    targeting::policy::Policy,
};
use std::{collections::BTreeMap, time::Duration};

/// A record that waits for the next policy: arrival, key and payload.
type Waiting = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Control in a replay.
pub(crate) struct ReplayedControl {
    app: String,
    pub(super) users: UserKeys,
    outcomes: String,
    state: State,
    taken: Taken,
    /// By topic, partition and offset.
    waiting: BTreeMap<(String, i32, i64), Waiting>,
}

impl ReplayedControl {
    /// Control for the campaigns of a configuration, with a policy in each `interval` of the replay.
    ///
    /// # Errors
    /// If the configuration cannot be compiled.
    pub(crate) fn new(setup: &Setup, interval: Duration) -> Result<Self, ConfigLoadError> {
        let config = &setup.config;
        let spec = ControlSpec { policy_interval: interval, ..config.control() };
        let replay = Self::of(&config.app.name, &config.topics.outcomes, &spec, super::campaigns(setup)?);
        Ok(Self { users: config.users(), ..replay })
    }

    /// The same from its parts.
    pub(super) fn of(app: &str, outcomes: &str, spec: &ControlSpec, campaigns: Vec<CampaignSetup>) -> Self {
        Self {
            app: app.to_owned(),
            users: UserKeys::default(),
            outcomes: outcomes.to_owned(),
            state: State::new(app, spec, campaigns),
            taken: Taken::default(),
            waiting: BTreeMap::new(),
        }
    }

    /// Keeps a record of the decisions or the outcomes for the next policy. It arrived at this time of the replay, in
    /// microseconds since 1970.
    pub(crate) fn keep(&mut self, topic: &str, record: &Record<'_>, arrived_at: i64) {
        let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
        let place = (topic.to_owned(), record.partition, record.offset);
        self.waiting.insert(place, (arrived_at, owned(record.key), owned(record.payload)));
    }

    /// Takes in what was kept, and returns the policy of this time. All that happened before must have been kept.
    pub(crate) fn tick(&mut self, now: i64) -> Policy {
        for ((topic, partition, offset), (arrived_at, key, payload)) in std::mem::take(&mut self.waiting) {
            let source = Source { topic: &topic, partition, offset, arrived_at };
            let bytes = (key.as_deref(), payload.as_deref());
            if topic == self.outcomes {
                take_outcome(&mut self.state, (&self.app, &self.users), &source, bytes, &mut self.taken);
            } else {
                take_decision(&mut self.state, &self.app, &source, bytes, &mut self.taken);
            }
        }
        self.state.advance(now);
        let policy = self.state.tick(now);
        take_rejected(&mut self.state, (&self.app, &self.users), &self.outcomes, &mut self.taken);
        // Nobody restores this state.
        self.state.mark_clean();
        policy
    }

    /// What is known of a campaign, over all days.
    pub(crate) fn figures(&self, campaign: &str) -> Figures {
        self.state.total(campaign).copied().unwrap_or_default()
    }

    /// What became of the records.
    pub(crate) fn counts(&self) -> Counts {
        *self.state.counts()
    }
}
