//! Which decisions are worth writing: `[emission]`.
//!
//! Owns the rule, and what of a decision counts as its content. Where the state is kept is `profile`'s business
//! ([`Said`]); when it is lost is the pipeline's.
//!
//! A decision is compared with what readers were last told about its user. It is written if any of this holds:
//! - It is not known what they were told.
//! - With `on = "event"`, always.
//! - Its **content** differs: its status, its segments, when the user entered the lasting ones, its campaigns with their
//!   arms and creatives. Neither the order nor the score is content.
//! - A **bid** is off by more than `bid_share` of what they were told.
//! - What they were told **runs out**: it ends with `decision.expires_after`, or with the first membership in it. In the
//!   second half of that time, a decision that ends later is written although nothing else has changed. So readers may
//!   see a membership end early by at most half of its duration, and only if the user's later events all came in the
//!   first half.
//!
//! Until `every` has passed since the last decision that was written, none is written, and none about events before it. What
//! changes in that time is not lost: it is compared again at the user's next event. The decision about an **expired**
//! membership is always written, and a suppression that readers do not know of does not wait.
//!
//! Guarantees: readers never miss a change for good. If it cannot be known what they were told, the next decision is
//! written, so at most one is needless. That is so after a replay: it decides segments again, but with the model and
//! the policy of now, so it does not know what was decided then. A user whom a replay does not touch keeps what is in
//! the restored profile.
//!
//! This needs exactly-once delivery. With outputs shown at once, readers may know decisions that were never committed.
//!
//! Limits: the content is a hash of 64 bits. A change between two contents with the same hash, one in 2⁶³, is missed
//! until what was said runs out.

use super::{Decision, Status, Targets};
use crate::{
    config_error::ConfigError,
    event::EventTime,
    profile::Said,
    random::mix,
    targeting::{InSegment, Segment, campaign::Campaign, creative::Creative},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// `[emission]`: which decisions are written.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmissionSpec {
    /// What is worth a decision.
    pub on: EmitOn,
    /// How long no further decision is written about a user after one was.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub every: Duration,
    /// For `on = "change"`: the share by which a bid must differ to be a change.
    pub bid_share: f64,
}

/// What is worth a decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EmitOn {
    /// Every event.
    #[default]
    Event,
    /// An event that changes what readers were told.
    Change,
}

impl Default for EmissionSpec {
    fn default() -> Self {
        Self { on: EmitOn::Event, every: Duration::ZERO, bid_share: 0.1 }
    }
}

impl EmissionSpec {
    /// Whether every decision is written, so that nothing has to be kept.
    pub fn is_plain(&self) -> bool {
        self.on == EmitOn::Event && self.every.is_zero()
    }

    /// The number of prices to keep if decisions have at most this many campaigns. `None` if nothing is kept.
    pub fn prices(&self, campaigns: usize) -> Option<u8> {
        let count = if self.on == EmitOn::Change { campaigns } else { 0 };
        (!self.is_plain()).then_some(u8::try_from(count).unwrap_or(u8::MAX))
    }
}

/// Why a decision is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Silence {
    /// Readers know it already.
    Unchanged,
    /// Readers were told something a short while ago.
    TooSoon,
}

/// The compiled section.
#[derive(Clone, Debug, Default)]
pub struct Emission {
    on_change: bool,
    every: i64,
    bid_share: f64,
    expires_after: i64,
    /// By segment: the hash of its id and taxonomy.
    segments: Vec<u64>,
    /// By campaign: the hash of its id, and those with its arms.
    campaigns: Vec<(u64, Vec<u64>)>,
    /// By creative: the hash of its id.
    creatives: Vec<u64>,
    /// The hashes and bids of the campaigns in a decision, in the order of the hashes.
    bids: Vec<(u64, i64)>,
}

impl Emission {
    /// Compiles the section, for decisions that can be used for this long. Errors are added under `emission`.
    pub fn compile(
        spec: &EmissionSpec,
        expires_after: Duration,
        targets: Targets<'_>,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        if spec.every > expires_after / 2 {
            let [every, most] = [spec.every, expires_after / 2].map(crate::duration::display);
            let message =
                format!("{every} leaves users without a valid decision; half of decision.expires_after is {most}");
            errors.push(ConfigError::new("emission.every", message).hint(format!("set at most \"{most}\"")));
        }
        if !(0.0..=1.0).contains(&spec.bid_share) {
            let message = format!("{} is not a share; it is 0 to 1", spec.bid_share);
            errors.push(ConfigError::new("emission.bid_share", message).hint("0.1 is the default"));
        }
        let nothing = targets.segments.is_empty() && targets.campaigns.all().is_empty();
        if spec.on == EmitOn::Change && nothing {
            errors.push(
                ConfigError::new("emission.on", "without segments and campaigns, there is nothing that changes")
                    .hint("scores are no change; declare a [[segment]], or set emission.on = \"event\""),
            );
        }
        let segment = |it: &Segment| hash(&["segment", &it.segtax.to_string(), &it.id]);
        let campaign = |it: &Campaign| {
            let arms = it.arms().iter().map(|arm| hash(&["arm", &it.id, arm])).collect();
            (hash(&["campaign", &it.id]), arms)
        };
        let creative = |it: &Creative| hash(&["creative", &it.spec.id]);
        Self {
            on_change: spec.on == EmitOn::Change,
            every: spec.every.as_micros() as i64,
            bid_share: spec.bid_share,
            expires_after: expires_after.as_micros() as i64,
            segments: targets.segments.iter().map(segment).collect(),
            campaigns: targets.campaigns.all().iter().map(campaign).collect(),
            creatives: targets.campaigns.creatives().iter().map(creative).collect(),
            bids: Vec::new(),
        }
    }

    /// Whether a decision about an event is written; if so, readers know it from now on.
    ///
    /// # Errors
    /// Why it is not written. Nothing changes then.
    pub fn weigh(&mut self, decision: &Decision<'_>, said: &mut Said<'_>) -> Result<(), Silence> {
        let content = self.content(decision);
        if said.is_known() {
            let since = decision.occurred_at.0.saturating_sub(said.at().0);
            // That readers must stop using what they know does not wait.
            let waits = decision.status != Status::Suppressed || content == said.content();
            if self.every > 0 && since < self.every && waits {
                return Err(Silence::TooSoon);
            }
            let is_known = content == said.content() && !self.has_other_bids(said);
            if self.on_change && is_known && !self.runs_out(decision, said) {
                return Err(Silence::Unchanged);
            }
        }
        self.note(content, decision, said);
        Ok(())
    }

    /// Readers are told this decision whatever they know.
    pub fn tell(&mut self, decision: &Decision<'_>, said: &mut Said<'_>) {
        let content = self.content(decision);
        self.note(content, decision, said);
    }

    fn note(&self, content: u64, decision: &Decision<'_>, said: &mut Said<'_>) {
        let at = if said.is_known() { said.at().max(decision.occurred_at) } else { decision.occurred_at };
        said.set(content, at, self.until(decision), self.bids.iter().map(|(_, bid)| *bid));
    }

    /// The hash of the content, which is never 0. Also collects the bids.
    fn content(&mut self, decision: &Decision<'_>) -> u64 {
        self.bids.clear();
        // Sums, so that the order does not matter.
        let mut sum = mix(match decision.status {
            Status::Targeted => 1,
            Status::NoTarget => 2,
            Status::Fallback => 3,
            Status::Suppressed => 4,
        });
        for InSegment { number, stay } in decision.segments {
            let entered_at = stay.map_or(0, |(membership, _)| membership.entered_at.0 as u64 + 1);
            sum = sum.wrapping_add(mix(self.segments[*number].wrapping_add(mix(entered_at))));
        }
        for bid in decision.campaigns {
            let (id, arms) = &self.campaigns[bid.campaign as usize];
            let arm = bid.arm.map_or(*id, |arm| arms[usize::from(arm)]);
            let creative = bid.creative.map_or(0, |shown| self.creatives[shown.creative]);
            sum = sum.wrapping_add(mix(arm.wrapping_add(mix(creative))));
            self.bids.push((*id, bid.best().0));
        }
        self.bids.sort_unstable();
        sum | 1
    }

    /// Whether a bid differs by more than the share from what was said. Both have the same campaigns.
    fn has_other_bids(&self, said: &Said<'_>) -> bool {
        let differs = |(now, before): (i64, i64)| now.abs_diff(before) as f64 > self.bid_share * before as f64;
        self.bids.iter().map(|(_, bid)| *bid).zip(said.prices()).any(differs)
    }

    /// Until when a decision can be used as it is.
    fn until(&self, decision: &Decision<'_>) -> EventTime {
        let ends = decision.segments.iter().filter_map(|it| Some(it.stay?.0.expires_at.0));
        let own = decision.occurred_at.0.saturating_add(self.expires_after);
        EventTime(ends.fold(own, i64::min).max(0))
    }

    fn runs_out(&self, decision: &Decision<'_>, said: &Said<'_>) -> bool {
        let half = said.until().0.saturating_sub(said.at().0) / 2;
        self.until(decision) > said.until() && decision.occurred_at.0 >= said.at().0.saturating_add(half)
    }
}

/// The hash of names. Profiles contain sums of them, so a change of it makes one decision per user needless.
fn hash(names: &[&str]) -> u64 {
    let mut digest = Sha256::new();
    for name in names {
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name);
    }
    u64::from_be_bytes(*digest.finalize().first_chunk().expect("it has 32 bytes"))
}

#[cfg(test)]
mod tests;
