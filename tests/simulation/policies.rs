//! Control's policies: which ones workers follow, and what each decision owes to the one that it names.
//!
//! Control publishes versions, and sometimes an old one again, as one that was replaced may do. Each worker reads them in
//! order, at its own pace. The core computes every decision with every policy, so a visible decision must be one of these.
//! What a policy means for its campaign is checked here by definition.

use super::world;
use aimpoint::{
    engine::Pipeline,
    targeting::policy::{Policy, PolicyFeed},
    testkit::{FakeControl, Visible},
};
use serde_json::{Value, json};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The campaign with a budget.
const CAMPAIGN: &str = "spring";
/// Longer than the times shown by any two clocks are apart.
const STALE_AFTER: Duration = Duration::from_hours(24 * 365 * 200);
/// So long ago that a policy is too old whatever a clock shows.
const LONG_AGO: i64 = -20_000_000_000_000_000;
const ALL: u32 = 1 << 31;

/// What a policy says of the budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    Passes(u32),
    Exhausted,
    Unknown,
    /// All decisions pass, but the policy is too old.
    TooOld,
}

/// By version, from 1.
const POLICIES: [Says; 5] = [Says::Passes(ALL / 2), Says::Exhausted, Says::TooOld, Says::Passes(ALL), Says::Unknown];

fn policy(version: u64) -> Policy {
    let says = POLICIES[version as usize - 1];
    let pass_through = if let Says::Passes(share) = says { share } else { ALL };
    let issued_at = if says == Says::TooOld { LONG_AGO } else { world::START_MICROS + version as i64 };
    let beta = |alpha: u64| json!({"alpha": alpha, "beta": 100});
    let campaign = json!({
        "currency": "EUR",
        "budget": {
            "known": says != Says::Unknown, "exhausted": says == Says::Exhausted, "pass_through": pass_through,
            "spent_today_micros": 0, "spent_total_micros": 0,
        },
        "creatives": {
            "floor": 0.1, "method": "thompson", "prior": beta(1),
            "posteriors": {"red": {"": beta(version)}, "blue": {"": beta(2)}},
        },
    });
    let policy = json!({"schema_version": 1, "version": version, "issued_at": issued_at, "app": "sim",
        "campaigns": {CAMPAIGN: campaign}});
    serde_json::from_value(policy).expect("the policy is well formed")
}

/// What control has published, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Published(Arc<Mutex<Vec<u64>>>);

impl Published {
    /// Publishes the next version, if there is one.
    pub(crate) fn next(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = all.iter().max().map_or(1, |version| version + 1);
        all.extend((version <= POLICIES.len() as u64).then_some(version));
    }

    /// Publishes an old version again.
    pub(crate) fn again(&self, index: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = all.get(index % all.len().max(1)).copied();
        all.extend(version);
    }

    /// A pipeline that reads from the start.
    pub(crate) fn followed_by(&self, pipeline: Pipeline) -> Pipeline {
        pipeline.with_policies(Box::new(Reader { published: self.clone(), read: 0 }), STALE_AFTER)
    }
}

struct Reader {
    published: Published,
    read: usize,
}

impl PolicyFeed for Reader {
    fn take(&mut self) -> Option<Arc<Policy>> {
        let all = self.published.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = *all.get(self.read)?;
        self.read += 1;
        Some(Arc::new(policy(version)))
    }
}

/// The references: without a policy, and with each.
pub(crate) fn references(pipeline: impl Fn() -> (Pipeline, FakeControl)) -> Vec<(Pipeline, FakeControl)> {
    let with = |version: u64| {
        let (pipeline, control) = pipeline();
        let published = Published(Arc::new(Mutex::new(vec![version])));
        let mut pipeline = published.followed_by(pipeline);
        assert_eq!(pipeline.renew_policy(aimpoint::event::EventTime(0)), Some(version));
        (pipeline, control)
    };
    let versions = 1..=POLICIES.len() as u64;
    std::iter::once(pipeline()).chain(versions.map(with)).collect()
}

/// Whether a worker may go from one version to another. A version that is too old may be replaced by any.
pub(crate) fn may_follow(from: u64, to: u64) -> bool {
    to >= from || POLICIES[from as usize - 1] == Says::TooOld
}

/// Checks what a decision does with the policy that it names, and returns the version. `None` if it is about a
/// membership that ended, or no decision.
pub(crate) fn check(output: &Visible) -> Result<Option<u64>, String> {
    let payload = output.payload.as_deref().unwrap_or_default();
    let decision: Value = serde_json::from_slice(payload).unwrap_or_default();
    let is_expiry = decision["id"].as_str().is_none_or(|id| id.contains("-expired-"));
    let Some(version) = decision["policy"].as_u64().filter(|_| !is_expiry) else { return Ok(None) };
    let find = |name: &str, id: &str| decision[name].as_array().into_iter().flatten().find(|it| it[id] == CAMPAIGN);
    let (offer, refused) = (find("campaigns", "id"), find("suppressed", "campaign_id"));
    let says = (version as usize).checked_sub(1).map_or(Says::Unknown, |index| POLICIES[index]);
    let is_right = match (offer, says) {
        (Some(offer), Says::Passes(share)) => {
            offer["pass_through"].as_f64() == Some(f64::from(share) / f64::from(ALL))
                && offer["creative"]["policy"] == "thompson"
        }
        (Some(_), _) => false,
        (None, Says::Passes(ALL)) => refused.is_none_or(|it| it["reason"] != "paced"),
        (None, _) => true,
    };
    if is_right {
        return Ok(Some(version));
    }
    Err(format!("I2: policy {version} {says:?} does not allow {decision}"))
}
