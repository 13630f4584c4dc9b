//! What the board shows of creatives.
//!
//! With Thompson sampling, the rate of a creative is its posterior: what choices are made by. The other methods have no
//! rate of their own, or one for each user, so what was observed is shown instead. A creative of which nothing is known
//! has no rate: a prior is an assumption, and its range would look like knowledge.

use super::{
    super::{State, join::Shown, ledger::CampaignSetup, state::Look},
    ROWS_MAX, ms, rate,
};
use crate::targeting::{
    campaign::{Learning, Reward},
    creative::Beta,
    policy::{CreativeMethod, EVERYBODY},
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

type Posteriors = BTreeMap<String, BTreeMap<String, Beta>>;

/// The creatives of each campaign that has any, and how many creatives are left out.
pub(super) fn json(state: &State) -> (Vec<Value>, usize) {
    let (mut room, mut left_out) = (ROWS_MAX, 0);
    let mut all = Vec::new();
    for (id, look) in state.looks() {
        let Some(setup) = look.setup else { continue };
        let posteriors = posteriors(state, &look, setup);
        let (since, shown) = state.shown(id);
        let of_campaign = OfCampaign { setup, posteriors: posteriors.as_ref(), shown: &shown };
        let (rows, more) = of_campaign.rows(&mut room);
        left_out += more;
        if rows.is_empty() {
            continue;
        }
        all.push(json!({
            "campaign": id,
            "method": method(&setup.learning),
            "reward": match setup.reward {
                Reward::Click => "click",
                Reward::Conversion => "conversion",
            },
            "is_posterior": posteriors.is_some(),
            "floor": setup.floor,
            "since_ms": ms(since),
            // Of all days, whatever the creative.
            "impressions_ever": look.account.map_or(0, |account| account.total.impressions),
            "rows": rows,
        }));
    }
    (all, left_out)
}

/// What was learned by Thompson sampling. `None` with another method.
fn posteriors(state: &State, look: &Look<'_>, setup: &CampaignSetup) -> Option<Posteriors> {
    let Learning::Thompson { .. } = setup.learning else { return None };
    let policy = look.account.and_then(|account| account.arms.policy(setup, state.clock()));
    match policy.map(|policy| policy.method) {
        Some(CreativeMethod::Thompson { posteriors, .. }) => Some(posteriors),
        _ => Some(Posteriors::new()),
    }
}

/// What is known of a campaign's creatives.
struct OfCampaign<'a> {
    setup: &'a CampaignSetup,
    posteriors: Option<&'a Posteriors>,
    shown: &'a BTreeMap<&'a str, Shown>,
}

impl OfCampaign<'_> {
    /// One row for each creative, the best first, and how many find no room. A row takes as much room as it has rates.
    fn rows(&self, room: &mut usize) -> (Vec<Value>, usize) {
        let learned = self.posteriors.into_iter().flatten().map(|(id, _)| id.as_str());
        let configured = self.setup.creatives.iter().map(String::as_str);
        let ids: BTreeSet<&str> = configured.chain(learned).chain(self.shown.keys().copied()).collect();
        let mut ids: Vec<&str> = ids.into_iter().collect();
        // Stable, so creatives with the same rate stay in the order of their ids.
        ids.sort_by(|one, other| self.mean(other).total_cmp(&self.mean(one)));
        let (mut rows, mut left_out) = (Vec::new(), 0);
        for id in ids {
            let rates = self.audiences(id).count() + 1;
            if rates > *room {
                left_out += 1;
                continue;
            }
            *room -= rates;
            rows.push(self.row(id));
        }
        (rows, left_out)
    }

    fn row(&self, id: &str) -> Value {
        let of = self.of(id);
        let all: u64 = self.shown.values().map(|shown| shown.impressions).sum();
        let rate = match (self.posteriors.is_some(), self.everybody(id)) {
            (true, learned) => learned.map_or(Value::Null, beta),
            (false, _) => rate::json(self.successes(&of), of.impressions),
        };
        let audiences = self.audiences(id).map(|(audience, learned)| json!({ "id": audience, "rate": beta(learned) }));
        json!({
            "id": id, "rate": rate, "audiences": audiences.collect::<Vec<_>>(), "impressions": of.impressions,
            "share": (all > 0).then(|| of.impressions as f64 / all as f64), "clicks": of.clicks,
            "conversions": of.conversions,
        })
    }

    fn mean(&self, id: &str) -> f64 {
        let of = self.of(id);
        let observed = (of.impressions > 0).then(|| self.successes(&of) as f64 / of.impressions as f64);
        let known = if self.posteriors.is_some() { self.everybody(id).map(Beta::mean) } else { observed };
        // What nothing is known of comes last.
        known.unwrap_or(-1.0)
    }

    fn of(&self, id: &str) -> Shown {
        self.shown.get(id).copied().unwrap_or_default()
    }

    /// The posterior for everybody. `None` if nothing was learned yet, and without Thompson sampling.
    fn everybody(&self, id: &str) -> Option<Beta> {
        self.posteriors?.get(id)?.get(EVERYBODY).copied()
    }

    /// The posteriors for the other audiences.
    fn audiences(&self, id: &str) -> impl Iterator<Item = (&str, Beta)> {
        let audiences = self.posteriors.and_then(|posteriors| posteriors.get(id)).into_iter().flatten();
        let audiences = audiences.map(|(audience, learned)| (audience.as_str(), *learned));
        audiences.filter(|(audience, _)| *audience != EVERYBODY)
    }

    fn successes(&self, shown: &Shown) -> u64 {
        match self.setup.reward {
            Reward::Click => shown.clicks,
            Reward::Conversion => shown.conversions,
        }
    }
}

fn beta(of: Beta) -> Value {
    let Some((low, high)) = of.interval(rate::PROBABILITY) else { return Value::Null };
    json!({ "mean": of.mean(), "low": low, "high": high })
}

/// The name in the configuration.
fn method(learning: &Learning) -> &'static str {
    match learning {
        Learning::Weights => "weights",
        Learning::Thompson { .. } => "thompson",
        Learning::LinearThompson { .. } => "linear_thompson",
        Learning::LinUcb { .. } => "lin_ucb",
    }
}
