//! Each rule by itself.

use super::*;
use crate::control::{RejectReason, SkipReason, Skipped};
use OutcomeType::{Click, Conversion, Impression, Loss, Viewable, Win};

fn figures(change: impl Fn(&mut Figures)) -> Figures {
    let mut figures = Figures { eligible: 1, passed: 1, ..Figures::default() };
    change(&mut figures);
    figures
}

#[test]
fn a_decision_and_all_that_follows_it_are_in_the_books() {
    let mut run = Run::new();
    run.decide("d1", START);
    for (kind, after, disposition, cost) in [
        (Win, 1, Disposition::Joined, 1_500),
        (Impression, 2, Disposition::Joined, 0),
        (Viewable, 3, Disposition::Joined, 0),
        (Click, 4, Disposition::Joined, 0),
        (Conversion, 90, Disposition::Joined, 0),
        (Loss, 5, Disposition::Joined, 0),
    ] {
        let mut outcome = outcome(kind.as_str(), kind, START + after * MINUTE);
        outcome.value = Some(Micros(7_000_000)).filter(|_| kind == Conversion);
        let effects = run.apply(&outcome);
        assert_eq!(
            (effects.disposition, effects.cost, effects.rejection),
            (disposition, Micros(cost), None),
            "{kind:?}"
        );
        let again = run.apply(&outcome);
        assert_eq!(again, Disposition::Duplicate.into(), "{kind:?}");
    }
    let expected = figures(|it| {
        (it.spent_micros, it.wins, it.losses, it.impressions) = (1_500, 1, 1, 1);
        (it.viewable, it.clicks, it.conversions, it.revenue_micros) = (1, 1, 1, 7_000_000);
    });
    assert_eq!(run.total(), expected);
    let counts = run.state.counts();
    assert_eq!((counts.decisions, counts.joined, counts.duplicates), (1, 6, 6));
    assert_eq!(run.state.days("spring").map(|(_, it)| *it).collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_record_counts_once_however_often_it_is_read() {
    let mut run = Run::new();
    run.decide("d1", START);
    let source = run.source("outcomes", START);
    let win = outcome("w", Win, START);
    assert_eq!(run.state.apply_outcome(&source, &win).disposition, Disposition::Joined);
    let before = run.state.records();
    assert_eq!(run.state.apply_outcome(&source, &win).disposition, Disposition::Replayed);
    assert!(!run.state.skip(&source));
    assert_eq!(run.state.records(), before);
    assert_eq!(run.state.position("outcomes", 0), Some(source.offset + 1));
    assert_eq!((run.state.position("outcomes", 1), run.state.position("other", 0)), (None, None));
}

#[test]
fn a_recreated_topic_is_read_from_its_start_and_a_foreign_record_only_moves_the_position() {
    let mut state = State::new("shop", &spec(), vec![setup("spring")]);
    let source = |offset| Source { topic: "decisions", partition: 0, offset, arrived_at: 1_000_000 };
    assert!(state.pass_over(&source(7)) && !state.pass_over(&source(7)));
    assert_eq!((state.position("decisions", 0), state.counts().rejected), (Some(8), 0));
    state.mark_clean();
    state.restart_input("decisions", 0);
    state.restart_input("decisions", 1);
    assert_eq!((state.position("decisions", 0), state.dirty_count()), (None, 1));
    assert!(state.pass_over(&source(0)));
}

#[test]
fn campaigns_can_change_and_keep_what_is_known() {
    let mut state = State::new("shop", &spec(), vec![setup("spring")]);
    assert!(state.tick(1_000_000).campaigns["spring"].budget.is_some());
    state.set_campaigns(vec![CampaignSetup { budget: None, ..setup("spring") }, setup("summer")]);
    let policy = state.tick(2_000_000);
    assert_eq!(policy.version, 2);
    assert!(policy.campaigns["spring"].budget.is_none() && policy.campaigns["summer"].budget.is_some());
}

#[test]
fn an_auction_is_paid_once_whatever_the_ids_of_its_wins() {
    let mut run = Run::new();
    run.decide("d1", START);
    let win = |id: &str, auction: Option<&str>, imp: Option<&str>| Outcome {
        auction_id: auction.map(str::to_owned),
        imp_id: imp.map(str::to_owned),
        ..outcome(id, Win, START)
    };
    for (outcome, expected) in [
        (win("nurl", Some("x"), Some("1")), 1_500),
        (win("burl", Some("x"), Some("1")), 0),
        // The decision is used in other auctions.
        (win("third", Some("x"), Some("2")), 1_500),
        (win("fourth", Some("y"), Some("1")), 1_500),
        (win("fifth", None, None), 1_500),
        // Without a price, the bid is paid.
        (Outcome { price: None, ..win("sixth", Some("z"), None) }, 2_000),
        (Outcome { price: Some(Cpm(0)), ..win("seventh", Some("free"), None) }, 0),
    ] {
        assert_eq!(run.apply(&outcome).cost, Micros(expected), "{}", outcome.id);
    }
    assert_eq!((run.total().spent_micros, run.total().wins), (8_000, 6));
}

#[test]
fn an_outcome_waits_for_its_decision_and_then_counts_as_if_it_had_come_later() {
    let mut run = Run::new();
    let mut win = outcome("w", Win, START);
    win.auction_id = Some("x".to_owned());
    // Neither names the decision.
    let click = Outcome { decision_id: None, auction_id: Some("x".to_owned()), ..outcome("c", Click, START) };
    let impression = Outcome { kind: Impression, id: "i".to_owned(), ..click.clone() };
    for outcome in [&click, &impression, &win] {
        assert_eq!(run.apply(outcome).disposition, Disposition::Parked);
    }
    assert_eq!(run.apply(&win).disposition, Disposition::Duplicate);
    run.decide("d1", START);
    assert_eq!(run.total().wins, 0);
    run.state.tick(START);
    assert_eq!((run.total().spent_micros, run.total().impressions, run.total().clicks), (1_500, 1, 1));
    assert_eq!(run.state.sizes().2, 0);
}

#[test]
fn an_outcome_without_a_decision_is_an_orphan_whose_money_counts() {
    let mut run = Run::new();
    run.state.assign("decisions", [0]);
    for (id, kind) in [("w", Win), ("c", Click)] {
        assert_eq!(run.apply(&outcome(id, kind, START)).disposition, Disposition::Parked);
    }
    let unknown = Outcome { campaign_id: Some("nobody's".to_owned()), ..outcome("n", Win, START) };
    assert_eq!(run.apply(&unknown).disposition, Disposition::Parked);
    // The decisions have not been read yet.
    run.apply(&outcome("later", Loss, START + 10 * MINUTE));
    run.state.tick(START + 10 * MINUTE);
    assert_eq!(run.state.counts().orphans, 0);
    run.decide("other", START + 2 * MINUTE);
    run.state.tick(START + 10 * MINUTE);
    assert_eq!(run.state.counts().orphans, 3);
    let total = run.total();
    assert_eq!((total.spent_micros, total.unattributed_micros, total.wins, total.clicks), (1_500, 1_500, 1, 0));
    // A silent topic holds nothing up for ever.
    run.state.advance(START + 60 * MINUTE);
    assert_eq!((run.state.counts().orphans, run.state.sizes().2), (4, 0));
}

#[test]
fn what_is_late_is_counted_and_teaches_nothing() {
    let mut run = Run::new();
    run.decide("d1", START);
    // The money of a win outside the window has been spent nevertheless.
    let win = run.apply(&outcome("w", Win, START + 61 * MINUTE));
    assert_eq!((win.disposition, win.cost), (Disposition::Late, Micros(1_500)));
    assert_eq!(run.total().unattributed_micros, 1_500);
    assert_eq!(run.apply(&outcome("i", Impression, START + 61 * MINUTE)).disposition, Disposition::Late);
    // Beyond the horizon, nobody knows whether it has been paid.
    let source = run.source("outcomes", START + 48 * 60 * MINUTE + 1);
    let effects = run.state.apply_outcome(&source, &outcome("w2", Win, START));
    assert_eq!((effects.disposition, effects.cost), (Disposition::Late, Micros::ZERO));
    assert_eq!((run.state.counts().late, run.total().impressions, run.total().spent_micros), (3, 0, 1_500));
}

#[test]
fn what_contradicts_is_rejected_and_may_be_sent_again() {
    let mut run = Run::new();
    run.decide("d1", START);
    let dollars = Outcome { currency: "USD".parse().ok(), ..outcome("w", Win, START) };
    let rejection = run.apply(&dollars).rejection.unwrap();
    assert_eq!(rejection.reason, RejectReason::OtherCurrency);
    assert!(rejection.detail.contains("in USD, the campaign is in EUR"), "{rejection}");
    let euros = Outcome { currency: "EUR".parse().ok(), ..dollars.clone() };
    assert_eq!(run.apply(&euros).disposition, Disposition::Joined);
    let source = run.source("outcomes", START);
    let future = run.state.apply_outcome(&source, &outcome("f", Click, START + 6 * MINUTE));
    assert_eq!(future.rejection.map(|it| it.reason), Some(RejectReason::FutureTime));
    // One that waited is handed over later.
    let waiting = Outcome { id: "p".to_owned(), decision_id: Some("d2".to_owned()), ..dollars };
    assert_eq!(run.apply(&waiting).disposition, Disposition::Parked);
    run.decide("d2", START);
    run.state.tick(START);
    let rejected = run.state.take_rejected();
    assert_eq!((rejected.len(), rejected[0].0.id.as_str()), (1, "p"));
    assert!(run.state.take_rejected().is_empty());
    assert_eq!((run.state.counts().rejected, run.total().spent_micros), (3, 1_500));
}

#[test]
fn a_price_in_another_unit_is_rejected_and_a_win_of_another_application_is_not_paid() {
    let mut run = Run::new();
    run.decide("d1", START);
    let dear = Outcome { price: Some(Cpm(1_500_000_000_000)), ..outcome("w", Win, START) };
    let rejection = run.apply(&dear).rejection.unwrap();
    assert_eq!(rejection.reason, RejectReason::ImplausiblePrice);
    assert!(rejection.detail.contains("a CPM in units of the currency"), "{rejection}");
    assert_eq!(run.apply(&outcome("w", Win, START)).disposition, Disposition::Joined, "it may be sent again");
    for (id, decision, price) in
        [("far", "shop:clicks-0-1", Cpm(1_500_000_000_000)), ("foreign", "other:clicks-0-1", Cpm(1_500_000))]
    {
        let lone = Outcome { decision_id: Some(decision.to_owned()), price: Some(price), ..outcome(id, Win, START) };
        assert_eq!(run.apply(&lone).disposition, Disposition::Parked);
    }
    run.state.advance(START + 60 * MINUTE);
    run.state.tick(START + 60 * MINUTE);
    let rejected = run.state.take_rejected();
    assert_eq!(rejected.iter().map(|(outcome, _)| outcome.id.as_str()).collect::<Vec<_>>(), ["far"]);
    assert_eq!((run.state.counts().orphans, run.total().spent_micros), (1, 1_500));
}

#[test]
fn an_outcome_of_a_known_decision_must_tell_the_campaign_and_a_win_that_names_one_is_paid() {
    let mut run = Run::new();
    run.decide("d1", START);
    let nameless = |kind, campaign: Option<&str>| Outcome {
        campaign_id: campaign.map(str::to_owned),
        creative_id: campaign.is_none().then(|| "blue".to_owned()),
        ..outcome("o", kind, START)
    };
    for kind in [OutcomeType::Win, OutcomeType::Loss, OutcomeType::Impression] {
        for campaign in [None, Some("unheard-of")] {
            let effects = run.apply(&nameless(kind, campaign));
            assert_eq!(effects.disposition, Disposition::Rejected, "{kind:?} {campaign:?}");
            let rejection = effects.rejection.expect("a dead letter");
            assert_eq!(rejection.reason, RejectReason::UnknownCampaign);
            assert!(rejection.detail.contains("send the campaign_id"), "{rejection}");
        }
    }
    assert_eq!((run.state.counts().orphans, run.state.counts().rejected), (0, 6));
    // Sent again with the campaign, it counts.
    assert_eq!(run.apply(&outcome("o", OutcomeType::Win, START)).disposition, Disposition::Joined);
    assert_eq!(run.total().spent_micros, 1_500);
    // Money for a campaign of ours that the decision did not offer was spent all the same, and waits for nothing else.
    let mut run = Run::new();
    run.offer("d1", "autumn", START);
    assert_eq!(run.apply(&outcome("o", OutcomeType::Win, START)).disposition, Disposition::Parked);
    // What follows an impression waits for it.
    let click = Outcome { campaign_id: None, ..outcome("c", OutcomeType::Click, START) };
    assert_eq!(run.apply(&click).disposition, Disposition::Parked);
}

#[test]
fn impressions_teach_when_their_success_is_known() {
    let mut run = Run::new();
    for (decision, clicks_after) in [("d1", None), ("d2", Some(9)), ("d3", Some(11))] {
        run.decide(decision, START);
        let of = |kind: OutcomeType, after: i64| Outcome {
            decision_id: Some(decision.to_owned()),
            ..outcome(&format!("{decision}-{}", kind.as_str()), kind, START + after * MINUTE)
        };
        run.apply(&of(Impression, 0));
        if let Some(after) = clicks_after {
            run.apply(&of(Click, after));
        }
    }
    // Another creative was shown: its impression counts, but was not chosen.
    run.decide("d4", START);
    let other = Outcome {
        decision_id: Some("d4".into()),
        creative_id: Some("blue".into()),
        ..outcome("i4", Impression, START)
    };
    run.apply(&other);
    let posteriors = |run: &mut Run, at: i64| {
        run.state.advance(at);
        let json = run.state.tick(at).to_json().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        json["campaigns"]["spring"]["creatives"]["posteriors"].to_string()
    };
    assert_eq!(posteriors(&mut run, START + 10 * MINUTE), "{}");
    let learned = r#"{"red":{"":{"alpha":2.0,"beta":11.0},"sport":{"alpha":2.0,"beta":11.0}}}"#;
    assert_eq!(posteriors(&mut run, START + 12 * MINUTE), learned);
    assert_eq!(posteriors(&mut run, START + 40 * 24 * 60 * MINUTE), learned);
    assert_eq!((run.state.counts().lessons, run.total().impressions, run.total().clicks), (3, 4, 2));
    assert_eq!(run.state.sizes(), (0, 0, 0), "everything is forgotten in the end");
}

/// Impressions at the start, by decision.
fn shown(run: &mut Run, decision: &str) {
    run.decide(decision, START);
    follow(run, decision, Impression, 0);
}

/// What follows the impression of a decision, so many minutes later.
fn follow(run: &mut Run, decision: &str, kind: OutcomeType, after: i64) {
    let id = format!("{decision}-{}", kind.as_str());
    let outcome = outcome(&id, kind, START + after * MINUTE);
    run.apply(&Outcome { decision_id: Some(decision.to_owned()), ..outcome });
}

#[test]
fn predictions_are_measured_when_nothing_can_follow_any_more_as_evaluations_do() {
    const DAY: i64 = 24 * 60;
    let mut run = Run::with(&ControlSpec::default());
    run.state.set_campaigns(vec![CampaignSetup { predicts: Some(Reward::Conversion), ..setup("spring") }]);
    for decision in ["d1", "d2", "d3", "d4"] {
        shown(&mut run, decision);
    }
    follow(&mut run, "d1", Click, 60);
    follow(&mut run, "d2", Click, 60);
    run.state.advance(START + 3 * DAY * MINUTE);
    assert_eq!(run.state.sizes().0, 2, "what was not clicked need not be remembered");
    follow(&mut run, "d1", Conversion, 20 * DAY);
    let mut figures = |days: i64| {
        run.state.advance(START + days * DAY * MINUTE);
        run.state.tick(START + days * DAY * MINUTE);
        let all = run.state.qualities();
        all.first().map(|it| (it.labels, it.positives, it.clicked, it.predicted))
    };
    // A day after the impression a click, and 30 days after that a conversion.
    assert_eq!([4, 30, 31].map(&mut figures), [None; 3]);
    assert_eq!([32, 33].map(&mut figures), [Some((4, 1, 2, 1.0)); 2]);
    assert_eq!(figures(34), None);
    assert_eq!(run.state.label_age("spring"), Some(Duration::from_hours(31 * 24)));
}

#[test]
fn failures_teach_even_if_conversions_are_awaited_for_longer_than_views_count() {
    let learning = LearningSpec { conversion_after: Duration::from_hours(72), ..LearningSpec::default() };
    let mut run = Run::with(&ControlSpec { learning, ..ControlSpec::default() });
    run.state.set_campaigns(vec![CampaignSetup { reward: Reward::Conversion, ..setup("spring") }]);
    for decision in ["d1", "d2", "d3"] {
        shown(&mut run, decision);
    }
    follow(&mut run, "d1", Click, 60);
    follow(&mut run, "d1", Conversion, 50 * 60);
    for hours in [30, 71, 73] {
        run.state.advance(START + hours * 60 * MINUTE);
        assert_eq!(run.state.counts().lessons, if hours > 72 { 3 } else { 0 }, "{hours} h");
    }
    let json = run.state.tick(START + 73 * 60 * MINUTE).to_json().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let learned = json["campaigns"]["spring"]["creatives"]["posteriors"]["red"][""].to_string();
    assert_eq!(learned, r#"{"alpha":2.0,"beta":11.0}"#);
}

#[test]
fn versions_of_the_same_name_in_the_model_and_in_a_variant_are_told_apart() {
    let mut run = Run::new();
    for (id, variant) in [("d1", ""), ("d2", "control"), ("d3", "deep")] {
        run.variant = variant;
        shown(&mut run, id);
    }
    run.state.advance(START + 25 * 60 * MINUTE);
    let found = run.state.qualities().iter().map(|it| (it.version, it.labels)).collect::<Vec<_>>();
    assert_eq!(found, [("7", 2), ("deep/7", 1)]);
}

#[test]
fn paced_and_outranked_campaigns_are_traffic() {
    let mut run = Run::new();
    let skipped = [("spring", "paced"), ("spring", "outranked"), ("unknown", "paced"), ("spring", "cap")];
    let skipped: Vec<Skipped<'_>> = skipped
        .iter()
        .filter_map(|(campaign_id, reason)| Some(Skipped { campaign_id, reason: SkipReason::of(reason)? }))
        .collect();
    let source = run.source("decisions", START);
    let decision = OfferedDecision {
        decision_id: "d",
        user_key: "u",
        // A worker whose clock is a day ahead does not turn the day.
        decided_at: START + 24 * 60 * MINUTE,
        expires_at: START,
        policy_version: 1,
        model_version: "",
        variant: "",
        offers: &[],
        skipped: &skipped,
    };
    assert!(run.state.apply_decision(&source, &decision));
    assert!(!run.state.apply_decision(&source, &decision));
    assert_eq!((run.total().eligible, run.total().passed), (2, 1));
    assert_eq!(run.state.days("spring").map(|it| it.0).collect::<Vec<_>>(), [20_454]);
    assert_eq!(run.state.campaigns().collect::<Vec<_>>(), ["spring"]);
}

#[test]
fn a_policy_tells_budgets_win_rates_and_audiences() {
    let mut run = Run::new();
    run.report(0, &[(4, "sport", 30), (0, "gone", 1)]);
    run.report(1, &[(4, "sport", 12)]);
    run.report(0, &[(4, "sport", 40)]);
    run.decide("d1", START);
    for number in 0..400_i64 {
        let kind = if number % 3 == 0 { Win } else { Loss };
        let mut outcome = outcome(&number.to_string(), kind, START + 2 * MINUTE);
        outcome.price = Some(Cpm(1_500_000)).filter(|_| number % 6 == 0);
        outcome.min_to_win = Some(Cpm(2_100_000 + number * 1_000)).filter(|_| kind == Loss && number % 2 == 0);
        outcome.placement = Some(if number % 5 == 0 { "side" } else { "top" }.to_owned());
        assert_eq!(run.apply(&outcome).disposition, Disposition::Joined);
    }
    run.state.advance(START + 2 * MINUTE);
    let policy = run.state.tick(START + 2 * MINUTE);
    assert_eq!((policy.version, policy.issued_at, policy.app.as_str()), (1, START + 2 * MINUTE, "shop"));
    assert_eq!((policy.audiences[0].id.as_str(), policy.audiences[0].members), ("sport", 52));
    let campaign = &policy.campaigns["spring"];
    let budget = campaign.budget.unwrap();
    let spent = run.total().spent_micros;
    assert!(spent > 200_000 && budget.exhausted && budget.pass_through == 0);
    assert_eq!((budget.spent_today_micros, budget.day, budget.daily_micros), (spent, 20_454, Some(100_000)));
    let rate = campaign.win_rate.unwrap().rate().unwrap();
    assert!(rate.probability(Cpm(2_000_000)) > 0.2 && rate.probability(Cpm(2_000_000)) < 0.6, "{rate:?}");
    assert_eq!(campaign.placements.keys().collect::<Vec<_>>(), ["side", "top"]);
    assert!(policy.to_json().is_ok());
    // Old notices fade, so that in the end there are none.
    run.state.advance(START + 90 * 24 * 60 * MINUTE);
    assert_eq!(run.state.tick(START + 90 * 24 * 60 * MINUTE).campaigns["spring"].win_rate, None);
    assert_eq!(run.state.version(), 2);
}

#[test]
fn spend_in_another_currency_closes_the_budget() {
    let mut run = Run::new();
    run.decide("d1", START);
    run.apply(&outcome("w", Win, START));
    let mut dollars = setup("spring");
    dollars.currency = "USD".parse().unwrap();
    let records = run.state.records().into_iter().map(|record| (record.key, record.value));
    let mut state = State::restore("shop", &spec(), vec![dollars], records).unwrap();
    let policy = state.tick(START);
    let campaign = &policy.campaigns["spring"];
    assert_eq!((campaign.currency.as_str(), campaign.budget.map(|budget| budget.known)), ("USD", Some(false)));
    assert_eq!(state.of_other_currency().collect::<Vec<_>>(), [("spring", "EUR".parse().unwrap())]);
    state.set_campaigns(vec![setup("spring")]);
    assert_eq!(state.of_other_currency().count(), 0);
}
