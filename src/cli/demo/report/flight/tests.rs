//! Tests of the report with a small flight whose figures are known.

use super::*;
use crate::{
    cli::demo::{flight::Flown, market::Market},
    control::Counts,
    targeting::{
        campaign::{Budget, Learning, Reward},
        money::Micros,
        policy::{CampaignPolicy, CreativePolicy},
    },
};

const DAY: i64 = 86_400_000_000;
/// 1998-04-01.
const START: i64 = 10_317 * DAY;

/// A dollar a day of 91, evenly; what was spent is half of it. From the second week on, a quarter passes.
fn policy(day: usize) -> Policy {
    let budget = BudgetState {
        known: true,
        pass_through: PassThrough::from_share(if day < 7 { 1.0 } else { 0.25 }).0,
        spent_total_micros: 500_000 * day as i64,
        ..BudgetState::default()
    };
    let known = |alpha, beta| BTreeMap::from([(EVERYBODY.to_owned(), Beta { alpha, beta })]);
    let posteriors = BTreeMap::from([("red".to_owned(), known(30.0, 970.0)), ("blue".to_owned(), known(5.0, 995.0))]);
    let method = CreativeMethod::Thompson { prior: Beta { alpha: 1.0, beta: 99.0 }, posteriors };
    let campaign = CampaignPolicy {
        currency: "USD".to_owned(),
        budget: Some(budget),
        creatives: Some(CreativePolicy { floor: 0.01, method }),
        ..CampaignPolicy::default()
    };
    Policy { campaigns: BTreeMap::from([("spring".to_owned(), campaign)]), ..Policy::default() }
}

fn small() -> Flight {
    let budget = Budget { mode: Mode::Even, daily: None, total: Some(Micros(91_000_000)), cost_max: Micros(5_000) };
    let campaign = CampaignSetup {
        id: "spring".to_owned(),
        currency: "USD".parse().expect("a currency"),
        zone: jiff::tz::TimeZone::UTC,
        budget: Some(budget),
        until: Some(START + 91 * DAY),
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning: Learning::Weights,
        floor: 0.01,
        creatives: Vec::new(),
    };
    let happened = Happened {
        wins: 3_000,
        losses: 1_000,
        impressions: 3_000,
        clicks: 60,
        conversions: 4,
        spent_micros: 45_500_000,
        revenue_micros: 99_000_000,
        worth_micros: 90_000_000,
        unshaded_micros: 80_000_000,
        shaded: 2_000,
        bids_micros: 8_000_000_000,
        shaded_micros: 5_000_000_000,
    };
    let figures = Figures {
        spent_micros: 45_500_000,
        revenue_micros: 99_000_000,
        wins: 3_000,
        losses: 1_000,
        impressions: 3_000,
        clicks: 60,
        conversions: 4,
        ..Figures::default()
    };
    let mut market = Market::default();
    market.campaigns.insert("spring".to_owned(), happened);
    for (creative, week, impressions, clicks) in
        [("red", 0, 500, 10), ("blue", 0, 1_500, 10), ("red", 12, 900, 38), ("blue", 12, 100, 2)]
    {
        let place = ("spring".to_owned(), creative.to_owned(), week);
        market.creatives.insert(place, Shown { impressions, clicks });
    }
    let flown = |suppressed: &[&str]| {
        let suppressed = suppressed.iter().map(|reason| ("spring".to_owned(), (*reason).to_owned())).collect();
        Flown { event: String::new(), read: ReadDecision { suppressed, ..ReadDecision::default() } }
    };
    Flight {
        start: START,
        campaigns: vec![campaign],
        decisions: vec![flown(&["paced"]), flown(&["paced"]), flown(&["floor"]), flown(&[])],
        policies: (0..=DAYS).map(policy).collect(),
        market,
        sent: 7_064,
        counts: Counts { joined: 7_064, ..Counts::default() },
        figures: BTreeMap::from([("spring".to_owned(), figures)]),
    }
}

fn small_offer() -> ReadOffer {
    ReadOffer {
        id: String::new(),
        arm: String::new(),
        value_micros: 0,
        probability: 1.0,
        bid_micros: 0,
        currency: "USD".to_owned(),
        shaded_micros: 0,
        pass_through: None,
        creative: None,
    }
}

fn printed(part: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Vec<String> {
    let mut text = Vec::new();
    part(&mut text).expect("memory takes everything");
    let text = String::from_utf8(text).expect("text");
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

/// Each figure is worked out by hand from the flight above.
#[test]
fn every_figure_of_a_small_flight_is_the_one_that_it_should_be() {
    let flight = small();
    let has = |lines: &[String], expected: &str| {
        assert!(lines.iter().any(|line| line == expected), "{expected:?} is missing in {lines:#?}");
    };
    let lines = printed(|to| outcomes(to, &flight));
    has(&lines, "real 4 purchases; profiles, scores, decisions");
    has(&lines, "outcomes 7 064 sent: 7 064 joined, 0 duplicate, 0 late, 0 orphan, 0 rejected");
    has(&lines, "control's books are the market's, to the millionth");

    let lines = printed(|to| spend(to, &flight));
    assert!(!lines.concat().contains("above the budget"), "{lines:?}");
    has(&lines, "spring: 45.50 USD spent; its budget is 91.00 in total, evenly");
    has(&lines, &format!("1998-04-01 7.00 3.50 50.0 % 100.0 % {}", bar_of(1.0, 36)));
    has(&lines, &format!("1998-06-24 7.00 3.50 50.0 % 25.0 % {}", bar_of(1.0, 36)));

    let spec = CampaignSpec { id: "spring".to_owned(), floor: Some(2.5), ..CampaignSpec::default() };
    let offer: ReadOffer = ReadOffer { id: "spring".to_owned(), ..small_offer() };
    let with = ReadDecision { campaigns: vec![offer], ..ReadDecision::default() };
    let decisions = flight.decisions.iter().map(|flown| &flown.read).chain([&with]);
    let lines = printed(|to| offers(to, &[spec], decisions));
    has(&lines, &format!("spring 1 25.0 % {}", bar(0.25)));
    has(&lines, "2 paced: left out of this decision to spread its budget over the day");
    has(&lines, "1 floor: its bid would be below the floor of 2.5");

    let lines = printed(|to| bids(to, &flight));
    has(&lines, "spring 4 000 auctions, 75.0 % won");
    has(&lines, "in 2 000 of them, a value of 4.00 USD was shaded to a bid of 2.50, on average");
    has(&lines, "45.50 USD bought 3 000 impressions worth 90.00; full bids would have cost 80.00");
    has(&lines, "60 clicks; 4 conversions worth 99.00");

    let lines = printed(|to| creatives(to, &flight));
    has(&lines, "red 1 400 48 3.00 2.04 to 4.14 1.00 25 % -> 90 %");
    has(&lines, "blue 1 600 12 0.50 0.16 to 1.02 1.00 75 % -> 10 %");
    has(&lines, "spring: red wins: its range is above the others");
}

#[test]
fn a_difference_between_control_and_the_market_is_said() {
    for change in [
        (|it: &mut Figures| it.spent_micros += 1) as fn(&mut Figures),
        |it| it.clicks -= 1,
        |it| it.losses += 1,
        |it| it.revenue_micros = 0,
    ] {
        let mut flight = small();
        flight.figures.values_mut().for_each(change);
        let lines = printed(|to| outcomes(to, &flight));
        assert!(lines.contains(&"spring: control's books differ from what happened".to_owned()), "{lines:?}");
        assert!(!lines.concat().contains("to the millionth"));
    }
}

#[test]
fn a_plan_is_a_line_to_the_end_or_a_budget_a_day_and_there_is_none_for_as_soon_as_possible() {
    let flight = small();
    let plan = |budget: Budget, days| {
        flight.planned(&CampaignSetup { budget: Some(budget), ..flight.campaigns[0].clone() }, days)
    };
    let total = flight.campaigns[0].budget.expect("there is one");
    assert_eq!(
        [0, 13, 91, 99].map(|days| plan(total, days)),
        [Some(0), Some(13_000_000), Some(91_000_000), Some(91_000_000)]
    );
    let daily = Budget { daily: Some(Micros(3_000_000)), ..total };
    assert_eq!([2, 40].map(|days| plan(daily, days)), [Some(6_000_000), Some(91_000_000)]);
    assert_eq!(plan(Budget { mode: Mode::Asap, ..total }, 9), None);
}

#[test]
fn what_was_spent_above_a_budget_is_said_with_what_was_in_flight() {
    let mut flight = small();
    if let Some(budget) = &mut flight.campaigns[0].budget {
        budget.total = Some(Micros(45_300_000));
    }
    let lines = printed(|to| spend(to, &flight));
    let expected = "0.20 above the budget: 0.50 were spent in the day in which it ran out, between two policies";
    assert!(lines.contains(&expected.to_owned()), "{lines:#?}");
}

#[test]
fn long_lines_are_folded_at_blanks() {
    let line = "campaigns  spring: bid 3 USD per thousand impressions; worth 4";
    let expected = ["campaigns  spring: bid 3 USD", "                  per thousand", "                  impressions;"];
    assert_eq!(folded(line, 32)[..3], expected);
    assert_eq!(
        folded(line, 32).join(" ").split_whitespace().collect::<Vec<_>>(),
        line.split_whitespace().collect::<Vec<_>>()
    );
    assert_eq!(folded("short", 32), ["short"]);
    let word = "w".repeat(50);
    assert_eq!(folded(&word, 32), std::slice::from_ref(&word));
}
