//! Campaigns: which of them a user may see at an event, what an impression is worth to each, and why others are
//! refused.
//!
//! Owns eligibility, caps, prices, the order of campaigns and which of their creatives fit. It does not keep counts (the
//! profile engine does, as hidden features) or spend (control does, and tells it by a [`Policy`]), and it does not know
//! the encoding of a decision or how a user gets into a segment.
//!
//! - **Considered.** A campaign is considered if the user is in at least one of its `any` segments and in all of its
//!   `all` segments, and its rule holds. A rule that depends on a missing value does not hold.
//! - **Refused.** A campaign that was considered but is not in the decision has one reason, the first that applies in
//!   the order of [`Reason::ALL`]. The holdout is checked after everything else about the user, so that held-out users
//!   are comparable with the others.
//! - **Order.** A decision lists campaigns by priority, then by the worth of an impression (1000 · probability · value,
//!   before the ceiling), then by declaration, at most `targeting.campaigns_max` of them.
//! - **Minimum audience.** A segment with too few members counts as none that a campaign or a creative needs.
//! - **Budget.** A campaign with a budget takes part if the policy knows that money is left, and if the decision's draw
//!   is within the campaign's pass-through rate. Without a policy, or with one that is too old, it does not.
//! - **Shading.** The bid is also given as the one with the best surplus, once the policy knows which bids win.
//! - **Creative.** A campaign with creatives shows one of those that fit, drawn from the decision's id by weight or by
//!   what the policy has learned. A campaign without any leaves the choice to the bidder.
//! - **Repeatable.** The outcome depends only on the row, the user's hash, the decision's id, the policy and its age,
//!   and the declarations.
//!
//! Guarantees: a bid is a whole number of micros, never above the ceiling or the worth of an impression, and never
//! below the floor. Once its buffers have grown, [`Campaigns::decide`] allocates nothing. Rules and values are
//! evaluated by column. Campaigns that the user's segments rule out cost nothing per row.

mod audience;
mod budget;
mod calendar;
mod caps;
mod choice;
mod compile;
mod creatives;
mod eligibility;
mod minimum;
mod price;
mod rotation;
mod spec;
mod split;

pub use budget::{Budget, BudgetSpec, CostBounds, PacingSpec};
pub use caps::Period;
pub use choice::{Bid, Choice, Reason, Refusal, Tally};
pub use creatives::ShownCreative;
pub use rotation::{Learning, Reward, Rotation, RotationMethod, RotationSpec};
pub use spec::{Amount, ArmSpec, CampaignSpec, CapScope, CapSpec, Chance, ConversionCapSpec};

use super::{
    Segment,
    creative::{Catalogue, Creative, Floor},
    money::Currency,
    policy::{Admission, CampaignRef, CompiledPolicy, Gate, Policy},
};
use crate::{
    columns::{Columns, Slot},
    event::EventTime,
    expression::Program,
    random::mix,
};
use calendar::Clocks;
use creatives::Creatives;
use eligibility::Eligibility;
use jiff::tz::TimeZone;
use minimum::Minimum;
use price::Price;
use split::{Part, Split};
use std::time::Duration;

/// The most bytes of a number in JSON.
const NUMBER_BYTES: usize = 25;

/// The segments that a user is in, as a bit set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held(Vec<u64>);

impl Held {
    /// An empty set with room for this many segments.
    pub fn new(segments: usize) -> Self {
        Self(vec![0; segments.div_ceil(64)])
    }

    /// Empties it, and keeps the memory.
    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    /// Adds the segment with this index.
    ///
    /// # Panics
    /// If there is no room for it.
    pub fn insert(&mut self, segment: usize) {
        self.0[segment / 64] |= 1 << (segment % 64);
    }

    /// Whether the user is in the segment with this index.
    fn has(&self, segment: usize) -> bool {
        self.0[segment / 64] >> (segment % 64) & 1 == 1
    }

    /// Whether the user is in all of these segments.
    fn has_all(&self, wanted: &[u64]) -> bool {
        self.0.iter().zip(wanted).all(|(held, wanted)| held & wanted == *wanted)
    }

    /// Whether the user is in at least one of these segments.
    fn has_any(&self, wanted: &[u64]) -> bool {
        self.0.iter().zip(wanted).any(|(held, wanted)| held & wanted != 0)
    }
}

/// The indexes of the set bits.
fn bits(words: &[u64]) -> impl Iterator<Item = usize> + '_ {
    words.iter().enumerate().flat_map(|(word, bits)| {
        let mut left = *bits;
        std::iter::from_fn(move || {
            let bit = left.trailing_zeros() as usize;
            // Clears the lowest set bit, if any.
            left &= left.wrapping_sub(1);
            (bit < 64).then_some(word * 64 + bit)
        })
    })
}

/// The context of a row in addition to its columns.
#[derive(Clone, Copy, Debug)]
pub struct RowContext<'a> {
    /// When the event happened.
    pub time: EventTime,
    /// The hash of the user's key, as in [`crate::event::EventBatch::user_hashes`]. It determines holdout and arm.
    pub user_hash: u64,
    /// The segments that the user is in, after this event.
    pub segments: &'a Held,
    /// The reason why no campaign at all may be in this decision, such as [`Reason::Consent`].
    pub suppressed: Option<Reason>,
    /// The decision's id as a number ([`super::creative::Draw::word`]), which decides draws.
    pub decision: u64,
    /// When the decision is made, in microseconds since 1970. A policy that is too old then stops budgets.
    pub now: i64,
}

/// A compiled campaign.
#[derive(Debug)]
pub struct Campaign {
    /// Its id on the wire.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The currency of its amounts.
    pub currency: Currency,
    /// The ids of the deals that it buys through.
    pub deals: Vec<String>,
    /// The zone of its days; UTC if it follows the zones of its users.
    pub zone: TimeZone,
    /// Its budget, if it has one.
    pub budget: Option<Budget>,
    /// How it chooses among its creatives.
    pub rotation: Rotation,
    eligibility: Eligibility,
    creatives: Creatives,
    bidding: Bidding,
    split: Split,
    /// Its part of the draw against its pass-through rate.
    pacing_salt: u64,
}

/// What an impression is worth to a campaign, and how its bids rank.
#[derive(Debug)]
struct Bidding {
    price: Price,
    priority: i32,
    /// The value of a unit of the campaign's currency in the common currency.
    rate: f64,
    /// Whether bids are shaded.
    shades: bool,
}

impl Campaign {
    /// What a policy needs to know about it.
    fn as_ref(&self) -> CampaignRef<'_> {
        CampaignRef {
            id: &self.id,
            currency: self.currency,
            has_budget: self.budget.is_some(),
            audiences: &self.rotation.audiences,
            features: self.rotation.features(),
            floor: Floor::new(self.rotation.floor).unwrap_or_default(),
        }
    }

    /// When it ends, in microseconds since 1970. `None` if it does not end, or ends at each user's own midnight.
    pub fn until(&self) -> Option<i64> {
        self.eligibility.calendar.until()
    }

    /// The names of the arms, the control first; empty without an experiment.
    pub fn arms(&self) -> &[String] {
        self.split.arms()
    }

    /// The bid for a row, or the reason why there is none. The checks follow the order of [`Reason::ALL`].
    fn bid(
        &self,
        number: u32,
        columns: &Columns,
        row: usize,
        context: &RowContext<'_>,
        (clocks, policy, small): (&Clocks, &CompiledPolicy, &[u64]),
    ) -> Result<Bid, Reason> {
        self.eligibility.check(columns, row, context, (clocks, small))?;
        let Bidding { price, priority, rate, .. } = &self.bidding;
        let worth = price.worth(columns, row).ok_or(Reason::ColdStart)?;
        let bid = price.bid(worth.hint).ok_or(Reason::Floor)?;
        let fitting = self.creatives.fitting(columns, row, (context.segments, small), &self.eligibility.caps);
        if fitting.is_empty() && !self.creatives.is_empty() {
            return Err(Reason::NoCreative);
        }
        let gate = policy.gate(number as usize, context.now);
        let pass_through = match gate.admit(mix(context.decision ^ self.pacing_salt)) {
            Admission::Passed(share) => Some(share).filter(|_| gate != Gate::Unbudgeted),
            Admission::Paced => return Err(Reason::Paced),
            Admission::Exhausted => return Err(Reason::Budget),
            Admission::Unknown => return Err(Reason::BudgetUnknown),
        };
        let Part::Arm(arm) = self.split.part_of(context.user_hash) else { return Err(Reason::Holdout) };
        Ok(Bid {
            campaign: number,
            arm,
            value: worth.value,
            probability: worth.probability,
            bid,
            shaded: None,
            floor: price.floor(),
            pass_through,
            creative: None,
            fitting,
            priority: *priority,
            // Amounts below 9 · 10⁹ units are exact, and the order of larger ones is right to 16 digits.
            expected: worth.hint.0 as f64 * rate,
        })
    }
}

/// The declared campaigns, compiled over the fields, the features, the hidden features and the scores.
#[derive(Debug, Default)]
pub struct Campaigns {
    program: Program,
    all: Vec<Campaign>,
    /// The campaigns that need no segment, as a bit set.
    open: Vec<u64>,
    /// By segment: the campaigns that it opens, as a bit set with as many words as `open`.
    opened: Vec<u64>,
    /// The maximum number of bids in a decision.
    bids_max: usize,
    clocks: Clocks,
    /// The column of the placement.
    placement: Option<Slot>,
    /// The column that marks events of bots.
    bot: Option<Slot>,
    catalogue: Catalogue,
    policy: CompiledPolicy,
    minimum: Minimum,
    tallies: Vec<Tally>,
}

impl Campaigns {
    /// The columns that rules, values and caps read.
    pub fn reads(&self) -> impl Iterator<Item = Slot> + '_ {
        self.program.reads()
    }

    /// The campaigns in declaration order.
    pub fn all(&self) -> &[Campaign] {
        &self.all
    }

    /// The maximum number of campaigns in a decision.
    pub fn campaigns_max(&self) -> usize {
        self.bids_max
    }

    /// Evaluates rules and values for all rows.
    pub fn run(&self, columns: &mut Columns, rows: usize) {
        self.program.run(columns, rows);
    }

    /// Chooses the campaigns for a row, after [`Campaigns::run`] on its batch, and tallies the outcome of each
    /// campaign.
    ///
    /// # Panics
    /// If the row does not exist, or if the segments in the context are not those that the campaigns were compiled
    /// with.
    pub fn decide(&mut self, columns: &Columns, row: usize, context: &RowContext<'_>, choice: &mut Choice) {
        choice.clear();
        if self.all.is_empty() {
            return;
        }
        choice.open.clone_from(&self.open);
        for segment in bits(&context.segments.0) {
            let opened = &self.opened[segment * self.open.len()..];
            choice.open.iter_mut().zip(opened).for_each(|(open, opened)| *open |= opened);
        }
        self.clocks.set(context.time.0, columns, row);
        let is_bot = self.bot.is_some_and(|slot| columns.get(slot).bools()[row].holds());
        let context = &RowContext { suppressed: context.suppressed.or(is_bot.then_some(Reason::Bot)), ..*context };
        // The buffer is moved out while bids are added.
        let open = std::mem::take(&mut choice.open);
        for number in bits(&open) {
            let campaign = &self.all[number];
            if !campaign.eligibility.is_considered(columns, row, context.segments) {
                continue;
            }
            self.tallies[number].considered += 1;
            let known = (&self.clocks, &self.policy, self.minimum.small());
            match campaign.bid(number as u32, columns, row, context, known) {
                Ok(bid) => choice.offer(bid, self.bids_max),
                Err(reason) => choice.refused.push(Refusal { campaign: number as u32, reason }),
            }
        }
        choice.open = open;
        let placement = self.placement.map(|slot| columns.texts.get(columns.get(slot).strings()[row]));
        let Choice { bids, features, .. } = choice;
        for bid in bids {
            let number = bid.campaign as usize;
            let Campaign { creatives, rotation, bidding, .. } = &self.all[number];
            let fitting = (number, bid.fitting);
            bid.creative = creatives.draw(fitting, rotation, &mut self.policy, (columns, row, context), features);
            let rate = self.policy.win_rate(number, placement).filter(|_| bidding.shades);
            bid.shaded = rate.and_then(|rate| rate.shade(bid.bid, bid.floor)).map(|shaded| shaded.bid);
            self.tallies[number].chosen += 1;
        }
        for Refusal { campaign, reason } in &choice.refused {
            self.tallies[*campaign as usize].refused[reason.index()] += 1;
        }
    }

    /// The policy that decisions are made with.
    pub fn policy(&self) -> &CompiledPolicy {
        &self.policy
    }

    /// Requires that a segment has this many members, by the sizes in the policy, before campaigns and creatives use it.
    /// `segments` are those that the campaigns were compiled with.
    #[must_use]
    pub fn with_minimum_audience(mut self, members: u64, segments: &[Segment]) -> Self {
        self.minimum = Minimum::new(members, segments);
        self.minimum.learn(None);
        self
    }

    /// Decides with this policy from now on; without one, campaigns with a budget stop. A policy that is older than
    /// `stale_after` when a decision is made stops them, too.
    pub fn set_policy(&mut self, policy: Option<&Policy>, stale_after: Duration) {
        let refs: Vec<CampaignRef<'_>> = self.all.iter().map(Campaign::as_ref).collect();
        let previous = std::mem::take(&mut self.policy);
        self.minimum.learn(policy);
        self.policy = match policy {
            Some(policy) => CompiledPolicy::new(policy, &refs, &self.catalogue, stale_after, Some(previous)),
            None => CompiledPolicy::absent(&refs, &self.catalogue, stale_after),
        };
    }

    /// The creatives, by which [`ShownCreative::creative`] counts.
    pub fn creatives(&self) -> &[Creative] {
        self.catalogue.all()
    }

    /// A choice as large as it can be: as many bids as fit, of the campaigns with the longest ids, and every campaign
    /// refused.
    pub fn largest(&self) -> Choice {
        let longest = |texts: &mut dyn Iterator<Item = (usize, &String)>| {
            texts.map(|(number, text)| (text.len(), number)).max().unwrap_or_default()
        };
        let mut bids: Vec<(usize, Bid)> = Vec::new();
        let mut features = Vec::new();
        for (number, campaign) in self.all.iter().enumerate() {
            let Rotation { audiences, .. } = &campaign.rotation;
            let (arm_bytes, arm) = longest(&mut campaign.arms().iter().enumerate());
            let (audience_bytes, audience) = longest(&mut audiences.iter().enumerate());
            let ids = campaign.creatives.numbers().map(|number| (number, &self.creatives()[number].spec.id));
            let (creative_bytes, creative) = longest(&mut ids.into_iter());
            let creative = (creative_bytes > 0).then(|| {
                let audience = (audience_bytes > 0).then_some(audience as u8);
                ShownCreative::largest(creative, audience, campaign.rotation.features().len(), &mut features)
            });
            let read = creative.map_or(0, |creative| creative.features(&features).len());
            let bid = Bid::largest(number as u32, (arm_bytes > 0).then_some(arm as u8), creative);
            bids.push((campaign.id.len() + arm_bytes + audience_bytes + creative_bytes + NUMBER_BYTES * read, bid));
        }
        bids.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let longest = Reason::ALL.into_iter().max_by_key(|reason| reason.as_str().len()).unwrap_or(Reason::Cap);
        let refused = (0..self.all.len()).map(|number| Refusal { campaign: number as u32, reason: longest });
        Choice {
            bids: bids.into_iter().map(|(_, bid)| bid).take(self.bids_max).collect(),
            refused: refused.collect(),
            features,
            ..Choice::default()
        }
    }

    /// The outcomes of each campaign since the last [`Campaigns::reset_tallies`].
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// Resets all tallies to zero.
    pub fn reset_tallies(&mut self) {
        self.tallies.fill(Tally::default());
    }
}

#[cfg(test)]
mod tests;
