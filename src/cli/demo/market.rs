//! The market that the demo simulates: the auctions that follow a decision, and what comes of those that it wins.
//!
//! | Step | Rule |
//! |---|---|
//! | Auctions | Each campaign in a decision takes part in 0 to [`AUCTIONS_MAX`] auctions, all numbers alike, within [`WITHIN`] of the decision |
//! | Bid | The shaded bid, if there is one; else the bid |
//! | Competition | The best other bid has the median [`OTHERS_MEDIAN`] and is log-logistic with the shape [`OTHERS_SHAPE`]: P(win) = 1 / (1 + (median / bid)^shape) |
//! | Price | The own bid: a first-price auction. Winners and losers learn the lowest winning bid |
//! | Impression | Each win is shown |
//! | Click | With the probability of the creative ([`click_rate`]), within half an hour |
//! | Conversion | After [`CONVERSION_RATE`] of the clicks, within an hour; worth 10 to 49 whole units of the currency, all amounts alike |
//!
//! Guarantees: everything is drawn from the id of the decision and the number of the auction, so the same decisions give
//! the same outcomes. Control sees the outcomes only, never a rule. Limits: users do not tire, and a click depends on
//! nothing but the creative.

use crate::{
    cli::why::ReadOffer,
    control::{Outcome, OutcomeType},
    random::mix,
    targeting::{
        creative::Draw,
        money::{Cpm, Micros},
    },
};
use std::{collections::BTreeMap, time::Duration};

/// The most auctions after a decision.
const AUCTIONS_MAX: f64 = 40.0;
/// How long after a decision auctions happen.
const WITHIN: Duration = Duration::from_hours(6);
/// The median of the best other bid, in units of the currency for a thousand impressions.
const OTHERS_MEDIAN: f64 = 3.2;
/// How close the other bids are to their median.
const OTHERS_SHAPE: f64 = 3.0;
/// The share of clicks that a conversion follows.
const CONVERSION_RATE: f64 = 0.08;

/// The probability of a click on each of the demo's creatives. Control has to find out.
const CLICK_RATES: [(&str, f64); 4] = [
    ("come-back-plain", 0.008),
    ("come-back-discount", 0.020),
    ("collectors-box", 0.018),
    ("collectors-signed", 0.009),
];
/// The same for all other creatives.
const OTHER_CLICK_RATE: f64 = 0.01;

/// The probability of a click on a creative.
pub(super) fn click_rate(creative: &str) -> f64 {
    CLICK_RATES.iter().find(|(id, _)| *id == creative).map_or(OTHER_CLICK_RATE, |(_, rate)| *rate)
}

/// What happened to a campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Happened {
    pub(super) wins: u64,
    pub(super) losses: u64,
    pub(super) impressions: u64,
    pub(super) clicks: u64,
    pub(super) conversions: u64,
    pub(super) spent_micros: i64,
    pub(super) revenue_micros: i64,
    /// What the impressions that it won are worth to it.
    pub(super) worth_micros: i64,
    /// What they would have cost at the bid that is not shaded.
    pub(super) unshaded_micros: i64,
    /// The auctions with a shaded bid, and the sums of both bids in them.
    pub(super) shaded: u64,
    pub(super) bids_micros: i64,
    pub(super) shaded_micros: i64,
}

/// What happened to a creative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) impressions: u64,
    pub(super) clicks: u64,
}

/// The market, with what happened in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Market {
    /// By campaign.
    pub(super) campaigns: BTreeMap<String, Happened>,
    /// By campaign, creative and week of the flight.
    pub(super) creatives: BTreeMap<(String, String, usize), Shown>,
}

impl Market {
    /// What follows a decision of this week: outcomes in the order of their times.
    pub(super) fn follow(
        &mut self,
        decision: &str,
        decided_at: i64,
        week: usize,
        offers: &[ReadOffer],
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        for offer in offers {
            let seed = Draw::word(&format!("{decision} {} market", offer.id));
            let auctions = Draws(seed).below(AUCTIONS_MAX + 1.0) as u64;
            for number in 1..=auctions {
                let auction = Auction { id: format!("{decision}-{}-{number}", offer.id), decision, offer, week };
                auction.play(decided_at, &mut Draws(mix(seed ^ number)), self, &mut outcomes);
            }
        }
        outcomes.sort_by(|one, other| (one.occurred_at, &one.id).cmp(&(other.occurred_at, &other.id)));
        outcomes
    }
}

/// Numbers that follow from a seed: SplitMix64.
struct Draws(u64);

impl Draws {
    /// A number from 0 to this one, which it never is.
    fn below(&mut self, end: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) >> 11) as f64 / (1_u64 << 53) as f64 * end
    }

    /// A time of at least a second and less than this one, in microseconds.
    fn time(&mut self, end: Duration) -> i64 {
        1_000_000 + self.below(end.as_micros() as f64 - 1e6) as i64
    }
}

/// An auction in which a campaign takes part.
struct Auction<'a> {
    id: String,
    decision: &'a str,
    offer: &'a ReadOffer,
    week: usize,
}

impl Auction<'_> {
    fn play(&self, decided_at: i64, draws: &mut Draws, market: &mut Market, to: &mut Vec<Outcome>) {
        let at = decided_at + draws.time(WITHIN);
        let share = draws.below(1.0);
        let other = OTHERS_MEDIAN * (share / (1.0 - share)).powf(OTHERS_SHAPE.recip());
        // A millionth more than the best other bid wins.
        let least = Cpm((other * 1e6).min(1e12) as i64 + 1);
        let ReadOffer { id, bid_micros, shaded_micros, value_micros, probability, .. } = self.offer;
        let is_shaded = *shaded_micros > 0;
        let bid = Cpm(if is_shaded { *shaded_micros } else { *bid_micros });
        let happened = market.campaigns.entry(id.clone()).or_default();
        if is_shaded {
            happened.shaded += 1;
            happened.bids_micros += bid_micros;
            happened.shaded_micros += bid.0;
        }
        let mut notice = self.outcome(OutcomeType::Loss, at);
        notice.min_to_win = Some(least);
        if bid < least {
            happened.losses += 1;
            to.push(notice);
            return;
        }
        notice.kind = OutcomeType::Win;
        notice.price = Some(bid);
        to.push(notice);
        happened.wins += 1;
        happened.spent_micros += bid.per_impression().0;
        happened.unshaded_micros += Cpm(*bid_micros).per_impression().0;
        happened.worth_micros += (*value_micros as f64 * probability) as i64;
        self.show(at, draws, market, to);
    }

    /// The impression of a win, and what follows it.
    fn show(&self, won_at: i64, draws: &mut Draws, market: &mut Market, to: &mut Vec<Outcome>) {
        let shown_at = won_at + draws.time(Duration::from_secs(10));
        to.push(self.outcome(OutcomeType::Impression, shown_at));
        let creative = self.offer.creative.as_ref().map(|creative| creative.id.as_str());
        let is_clicked = draws.below(1.0) < creative.map_or(OTHER_CLICK_RATE, click_rate);
        let happened = market.campaigns.entry(self.offer.id.clone()).or_default();
        happened.impressions += 1;
        happened.clicks += u64::from(is_clicked);
        let clicked_at = shown_at + draws.time(Duration::from_mins(30));
        if is_clicked {
            to.push(self.outcome(OutcomeType::Click, clicked_at));
        }
        if is_clicked && draws.below(1.0) < CONVERSION_RATE {
            let mut conversion =
                self.outcome(OutcomeType::Conversion, clicked_at + draws.time(Duration::from_hours(1)));
            let value = Micros((10.0 + draws.below(40.0)) as i64 * 1_000_000);
            conversion.value = Some(value);
            happened.conversions += 1;
            happened.revenue_micros += value.0;
            to.push(conversion);
        }
        if let Some(creative) = creative {
            let place = (self.offer.id.clone(), creative.to_owned(), self.week);
            let shown = market.creatives.entry(place).or_default();
            shown.impressions += 1;
            shown.clicks += u64::from(is_clicked);
        }
    }

    fn outcome(&self, kind: OutcomeType, occurred_at: i64) -> Outcome {
        Outcome {
            id: format!("{}-{}", self.id, kind.as_str()),
            kind,
            occurred_at,
            user_key: None,
            decision_id: Some(self.decision.to_owned()),
            auction_id: Some(self.id.clone()),
            imp_id: Some("1".to_owned()),
            campaign_id: Some(self.offer.id.clone()),
            creative_id: self.offer.creative.as_ref().map(|creative| creative.id.clone()),
            placement: None,
            value: None,
            currency: self.offer.currency.parse().ok(),
            price: None,
            min_to_win: None,
            loss_reason: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::why::ReadCreative;

    fn offer(creative: &str, shaded_micros: i64) -> ReadOffer {
        ReadOffer {
            id: "come-back".to_owned(),
            arm: String::new(),
            value_micros: 4_000,
            probability: 1.0,
            bid_micros: 4_000_000,
            currency: "USD".to_owned(),
            shaded_micros,
            pass_through: None,
            creative: Some(ReadCreative {
                id: creative.to_owned(),
                propensity: 1.0,
                policy: String::new(),
                audience: String::new(),
            }),
        }
    }

    fn play(offer: &ReadOffer, decisions: usize) -> (Market, Vec<Outcome>) {
        let mut market = Market::default();
        let mut outcomes = Vec::new();
        for number in 0..decisions {
            outcomes.extend(market.follow(&format!("demo:clickstream-1-{number}"), 0, 0, std::slice::from_ref(offer)));
        }
        (market, outcomes)
    }

    #[test]
    fn what_happens_has_the_rates_of_the_table_and_happens_again() {
        let (market, outcomes) = play(&offer("come-back-discount", 2_500_000), 20_000);
        let it = market.campaigns["come-back"];
        let share = |part: u64, of: u64| part as f64 / of as f64;
        let close = |what: &str, found: f64, expected: f64, within: f64| {
            assert!((found - expected).abs() < within, "{what}: {found}, not {expected}");
        };
        close("auctions", share(it.wins + it.losses, 20_000), 20.0, 0.3);
        close("wins", share(it.wins, it.wins + it.losses), 1.0 / (1.0 + (3.2_f64 / 2.5).powi(3)), 0.004);
        close("clicks", share(it.clicks, it.impressions), 0.020, 0.001);
        close("conversions", share(it.conversions, it.clicks), 0.08, 0.015);
        close("value", it.revenue_micros as f64 / it.conversions as f64 / 1e6, 29.5, 2.0);
        assert_eq!((it.impressions, it.spent_micros), (it.wins, it.wins as i64 * 2_500));
        assert_eq!((it.worth_micros, it.unshaded_micros), (it.wins as i64 * 4_000, it.wins as i64 * 4_000));
        assert_eq!((it.shaded, it.shaded_micros / 25), (it.wins + it.losses, it.bids_micros / 40));
        assert_eq!(outcomes, play(&offer("come-back-discount", 2_500_000), 20_000).1);
    }

    /// The page says what is simulated.
    #[test]
    fn the_page_about_the_data_has_these_rules() {
        let page = include_str!("../../../deploy/demo/DATA.md").split_whitespace().collect::<Vec<_>>().join(" ");
        let mut parts = vec![
            format!("0 to {AUCTIONS_MAX} auctions"),
            "in the next six hours".to_owned(),
            format!("a median of {OTHERS_MEDIAN:.2} per thousand"),
            format!("1 / (1 + ({OTHERS_MEDIAN} / b)³)"),
            format!("{:.0} % of any other", 100.0 * OTHER_CLICK_RATE),
            format!("{:.0} % of the clicks", 100.0 * CONVERSION_RATE),
        ];
        parts.extend(CLICK_RATES.map(|(id, rate)| format!("{:.1} % of ", 100.0 * rate) + &format!("`{id}`")));
        for part in parts {
            let part = part.replace("% of `come-back-plain`", "% of the impressions of `come-back-plain`");
            assert!(page.contains(&part), "{part}");
        }
        assert_eq!((WITHIN, OTHERS_SHAPE as u32), (Duration::from_hours(6), 3), "six hours, and the third power");
    }

    #[test]
    fn outcomes_come_in_time_and_control_can_read_them() {
        let (_, outcomes) = play(&offer("other", 0), 500);
        let mut ids = std::collections::BTreeSet::new();
        for outcome in &outcomes {
            // The whole of it is over within eight hours.
            assert!((1..8 * 3_600_000_000).contains(&outcome.occurred_at), "{outcome:?}");
            assert_eq!(Outcome::read(Some(&outcome.to_json())).as_ref(), Ok(outcome));
            assert!(ids.insert(&outcome.id), "{outcome:?} comes twice");
            let (price, least) = (outcome.price, outcome.min_to_win);
            match outcome.kind {
                OutcomeType::Win => assert!(price == Some(Cpm(4_000_000)) && least <= price, "{outcome:?}"),
                OutcomeType::Loss => assert!(least > Some(Cpm(4_000_000)) && price.is_none(), "{outcome:?}"),
                _ => assert_eq!((price, least), (None, None)),
            }
        }
    }
}
