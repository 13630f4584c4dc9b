//! The outcome of campaigns for one event: bids, refusals and counts. Plain data.

use super::ShownCreative;
use crate::targeting::{
    creative::Eligible,
    money::{Cpm, Micros},
    pacing::PassThrough,
};
use std::cmp::Ordering;

/// Why a campaign that was considered is not in a decision. The set is closed: these names are labels of a metric and
/// appear in decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The user is in a segment of `none`.
    Excluded,
    /// Consent is missing or withdrawn.
    Consent,
    /// The user is a child.
    Child,
    /// The event comes from a bot.
    Bot,
    /// The data behind the decision is too old.
    Stale,
    /// A segment that the campaign needs has fewer than `targeting.minimum_audience` members, or its size is unknown.
    SmallAudience,
    /// The event is before `from`, or `until` has passed.
    Dates,
    /// The event is outside the dayparts, or the user's time zone is unknown.
    Daypart,
    /// A frequency cap is reached.
    Cap,
    /// The last impression is too recent.
    Recency,
    /// The conversion cap is reached.
    ConversionCap,
    /// The value or the probability is missing or invalid.
    ColdStart,
    /// The bid would be below the floor, or below a micro.
    Floor,
    /// No creative fits.
    NoCreative,
    /// The state of the budget is unknown or too old.
    BudgetUnknown,
    /// The budget is spent.
    Budget,
    /// Pacing skips this opportunity.
    Paced,
    /// The user is held out. This is checked after all other reasons about the user, so that held-out users are
    /// comparable with the others.
    Holdout,
    /// Enough better campaigns fill the decision.
    Outranked,
}

impl Reason {
    /// The number of reasons.
    pub const COUNT: usize = 19;

    /// All reasons, in the order in which they are checked.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Excluded,
        Self::Consent,
        Self::Child,
        Self::Bot,
        Self::Stale,
        Self::SmallAudience,
        Self::Dates,
        Self::Daypart,
        Self::Cap,
        Self::Recency,
        Self::ConversionCap,
        Self::ColdStart,
        Self::Floor,
        Self::NoCreative,
        Self::BudgetUnknown,
        Self::Budget,
        Self::Paced,
        Self::Holdout,
        Self::Outranked,
    ];

    /// The name in decisions and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::Consent => "consent",
            Self::Child => "child",
            Self::Bot => "bot",
            Self::Stale => "stale",
            Self::SmallAudience => "small_audience",
            Self::Dates => "dates",
            Self::Daypart => "daypart",
            Self::Cap => "cap",
            Self::Recency => "recency",
            Self::ConversionCap => "conversion_cap",
            Self::ColdStart => "cold_start",
            Self::Floor => "floor",
            Self::NoCreative => "no_creative",
            Self::BudgetUnknown => "budget_unknown",
            Self::Budget => "budget",
            Self::Paced => "paced",
            Self::Holdout => "holdout",
            Self::Outranked => "outranked",
        }
    }

    /// Whether a decision lists it. One that does not list `all` still lists those that control has to learn of: a
    /// campaign with a budget could have taken part, and pacing follows the number of such decisions.
    pub fn is_listed(self, all: bool, has_budget: bool) -> bool {
        all || has_budget && matches!(self, Self::Paced | Self::Outranked)
    }

    /// The index in [`Reason::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A campaign in a decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bid {
    /// The index of the campaign.
    pub campaign: u32,
    /// The index of the user's arm among the campaign's arms. `None` without an experiment.
    pub arm: Option<u8>,
    /// The value of the action, or of one impression if impressions are paid for.
    pub value: Micros,
    /// The probability that the action follows.
    pub probability: f64,
    /// The bid hint.
    pub bid: Cpm,
    /// The bid with the highest expected surplus. `None` as long as it is unknown which bids win.
    pub shaded: Option<Cpm>,
    /// The campaign's floor.
    pub floor: Cpm,
    /// The share of the campaign's eligible decisions that take part. `None` without a budget.
    pub pass_through: Option<PassThrough>,
    /// The creative to show. `None` for a campaign without creatives.
    pub creative: Option<ShownCreative>,
    /// The campaign's creatives that fit.
    pub(super) fitting: Eligible,
    /// The campaign's priority: higher first.
    pub(super) priority: i32,
    /// The worth of an impression before the ceiling, in the common currency.
    pub(super) expected: f64,
}

impl Bid {
    /// The bid to make in a first-price auction: the shaded one, if it is known.
    pub fn best(&self) -> Cpm {
        self.shaded.unwrap_or(self.bid)
    }

    /// A bid whose numbers take as many bytes as they can.
    pub(super) fn largest(campaign: u32, arm: Option<u8>, creative: Option<ShownCreative>) -> Self {
        let longest = 0.1 + 0.2;
        Self {
            campaign,
            arm,
            value: Micros(i64::MAX),
            probability: longest,
            bid: Cpm(i64::MAX),
            shaded: Some(Cpm(i64::MAX)),
            floor: Cpm(i64::MAX),
            // A share with many digits.
            pass_through: Some(PassThrough(PassThrough::ALL.0 / 3)),
            creative,
            fitting: Eligible::default(),
            priority: 0,
            expected: 0.0,
        }
    }

    /// The order in a decision: by priority, then by the worth of an impression, then by declaration.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let by_worth = other.expected.total_cmp(&self.expected);
        other.priority.cmp(&self.priority).then(by_worth).then(self.campaign.cmp(&other.campaign))
    }
}

/// A campaign that was considered and refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The index of the campaign.
    pub campaign: u32,
    /// The reason.
    pub reason: Reason,
}

/// The campaigns for one event. The buffer is reused from row to row.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The campaigns in the decision, best first.
    pub bids: Vec<Bid>,
    /// The campaigns that were considered but refused, with one reason each, in no particular order.
    pub refused: Vec<Refusal>,
    /// The features by which creatives were chosen: see [`ShownCreative::features`].
    pub features: Vec<f64>,
    /// The campaigns that the user's segments open, as a bit set.
    pub(super) open: Vec<u64>,
}

impl Choice {
    /// Clears everything but keeps the memory.
    pub fn clear(&mut self) {
        self.bids.clear();
        self.refused.clear();
        self.features.clear();
    }

    /// Adds a bid if it is among the best `max`. The bid that does not fit, this one or the last, is refused as
    /// outranked.
    pub(super) fn offer(&mut self, bid: Bid, max: usize) {
        let place = self.bids.iter().position(|other| bid.order(other).is_lt()).unwrap_or(self.bids.len());
        let surplus = if self.bids.len() < max {
            self.bids.insert(place, bid);
            return;
        } else if place < max {
            let last = self.bids.pop();
            self.bids.insert(place, bid);
            last
        } else {
            Some(bid)
        };
        self.refused.extend(surplus.map(|bid| Refusal { campaign: bid.campaign, reason: Reason::Outranked }));
    }
}

/// The outcomes of a campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How often it was considered. The counts below add up to this one.
    pub considered: u64,
    /// How often it was in a decision.
    pub chosen: u64,
    /// How often it was refused, by [`Reason::index`].
    pub refused: [u64; Reason::COUNT],
}

impl Tally {
    /// Adds another tally.
    pub fn add(&mut self, other: &Self) {
        self.considered += other.considered;
        self.chosen += other.chosen;
        self.refused.iter_mut().zip(other.refused).for_each(|(sum, count)| *sum += count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_numbered_and_named_each_in_its_own_way() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(Reason::ALL[..index].iter().all(|other| other.as_str() != reason.as_str()));
        }
    }

    fn bid(campaign: u32, priority: i32, expected: f64) -> Bid {
        let (value, bid, floor) = (Micros(1), Cpm(1), Cpm(1));
        Bid { value, probability: 1.0, bid, floor, priority, expected, ..Bid::largest(campaign, None, None) }
    }

    #[test]
    fn the_best_are_kept_in_order_and_ties_go_by_declaration() {
        let all = [bid(0, 0, 2.0), bid(1, 0, 5.0), bid(2, 0, 2.0), bid(3, 1, 0.5), bid(4, 0, 5.0), bid(5, 0, 9.0)];
        let mut choice = Choice::default();
        for (max, expected) in [(1, vec![3]), (3, vec![3, 5, 1]), (5, vec![3, 5, 1, 4, 0]), (9, vec![3, 5, 1, 4, 0, 2])]
        {
            choice.clear();
            for bid in &all {
                choice.offer(*bid, max);
            }
            assert_eq!(choice.bids.iter().map(|bid| bid.campaign).collect::<Vec<_>>(), expected);
            assert_eq!(choice.refused.len(), all.len() - expected.len());
            assert!(choice.refused.iter().all(|it| it.reason == Reason::Outranked));
            assert!(choice.refused.iter().all(|it| !expected.contains(&it.campaign)));
        }
    }
}
