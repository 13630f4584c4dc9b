//! Tests of what pictures show: against a recount, and with changes that were planted.

use crate::{
    control::ControlSpec,
    effect::{
        Dimension, Plan, Shift,
        tests::world::{World, recount},
        tests::{Draws, SECOND, START, evaluate_with, plan},
    },
    targeting::{campaign::Budget, money::Micros, pacing::Mode},
};

const DAY: i64 = 86_400 * SECOND;

fn charted(by: &[&str]) -> Plan {
    Plan { charts: true, ..plan(by) }
}

#[test]
fn the_timeline_adds_up_to_the_rates_of_all_and_is_only_there_if_asked_for() {
    let world = World::new(11, 4_000);
    let report = evaluate_with(&ControlSpec::default(), charted(&[]), None, &world.decisions, &world.outcomes);
    let charts = report.charts.as_ref().unwrap();
    let points = &charts.timeline.points;
    // Three days are 72 hours, so a point has three of them.
    assert_eq!((charts.timeline.width, points.len()), (3 * 3_600 * SECOND, 24));
    let all = recount(&world, |_| true);
    let sums = points.iter().fold([0; 6], |sum, it| {
        let (click, conversion) = (it.click_rate, it.conversion_rate);
        [
            sum[0] + it.impressions,
            sum[1] + click.map_or(0, |rate| rate.count),
            sum[2] + click.map_or(0, |rate| rate.of),
            sum[3] + conversion.map_or(0, |rate| rate.count),
            sum[4] + conversion.map_or(0, |rate| rate.of),
            sum[5] + it.decisions,
        ]
    });
    let decisions = world.decisions.len() as u64;
    let ((clicks, shown), (conversions, clicked)) = (all.click_rate, all.conversion_rate);
    assert_eq!(sums, [all.impressions, clicks, shown, conversions, clicked, decisions]);
    // The last hour is too young for clicks, the last six hours for conversions.
    assert!(points[23].immature_impressions > 0 && points[20].immature_impressions == 0);
    assert!(points[22].immature_clicks > 0 && points[20].immature_clicks == 0);
    // Tenths and curve are those of the predictions.
    let (tenths, rows) = (&charts.tenths, all.predictions.len() as f64);
    assert_eq!(tenths.len(), 10);
    assert!((tenths.iter().map(|it| it.impressions).sum::<f64>() - rows).abs() < 1e-6);
    assert!(tenths.windows(2).all(|two| two[0].predicted <= two[1].predicted));
    assert!(tenths[9].lift.unwrap() > 1.2 && tenths[0].lift.unwrap() < 0.8, "{tenths:?}");
    assert!(charts.curve.len() > 5);
    let plain = evaluate_with(&ControlSpec::default(), plan(&[]), None, &world.decisions, &world.outcomes);
    assert!(plain.charts.is_none());
    assert!(!serde_json::to_string(&plain).unwrap().contains("charts"));
}

/// Lines of a log, each with the time at which it arrived.
type Lines = Vec<(i64, String)>;

/// Decisions of a spring, two a minute, each with an impression whose creative and segments depend on its number.
fn spring(days: i64, more: impl Fn(i64) -> String) -> (Lines, Lines) {
    let (mut decisions, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..days * 600 {
        let at = START + number * DAY / 600;
        decisions.push((
            at,
            format!(
                r#"{{"decision_id":"shop:d-0-{number}","user_key":"u{}","decided_at":"{at}","expires_at":"{}",{}}}"#,
                number % 900,
                at + 60 * SECOND,
                more(number)
            ),
        ));
        for (kind, price) in [("win", r#","price":2"#), ("impression", "")] {
            let line = format!(
                r#"{{"outcome_id":"{kind}{number}","type":"{kind}","occurred_at":{},"decision_id":"shop:d-0-{number}"{price}}}"#,
                at + SECOND
            );
            outcomes.push((at + SECOND, line));
        }
    }
    (decisions, outcomes)
}

#[test]
fn segments_are_counted_in_users_with_their_overlap() {
    let (decisions, outcomes) = spring(3, |number| {
        // Users 0 to 299 are keen, 200 to 399 new, and a user is once in a segment of a later decision.
        let user = number % 900;
        let mut names = Vec::new();
        names.extend((user < 300).then_some(r#"{"id":"keen"}"#));
        names.extend((200..400).contains(&user).then_some(r#"{"id":"new"}"#));
        names.extend((number == 1_000).then_some(r#"{"id":"once"}"#));
        format!(r#""segments":[{}]"#, names.join(","))
    });
    let report = evaluate_with(&ControlSpec::default(), charted(&[]), None, &decisions, &outcomes);
    let found = report.charts.unwrap().audiences;
    assert_eq!((found.users, found.without, found.users_one_in, found.left_out), (900, 500, 1, 0));
    let sizes: Vec<_> = found.segments.iter().map(|it| (it.segment.as_str(), it.users)).collect();
    // User 100 is the one of decision 1000.
    assert_eq!(sizes, [("keen", 300), ("new", 200), ("once", 1)]);
    let overlaps: Vec<_> = found.overlaps.iter().map(|it| (it.one.as_str(), it.other.as_str(), it.users)).collect();
    assert_eq!(overlaps, [("keen", "new", 100), ("keen", "once", 1), ("new", "once", 0)]);
}

#[test]
fn a_planted_change_is_found_and_nothing_else() {
    let offer = |number: i64| {
        let mut draws = Draws(number as u64);
        let mut share = || draws.below(1_000) as f64 / 1_000.0;
        // From day 2 of 4 on, the score is half as high. The first feature stays, the second moves a little.
        let is_later = number >= 1_200;
        let score = share() * if is_later { 0.5 } else { 1.0 };
        let features = [share() - 0.5, share() * if is_later { 1.2 } else { 1.0 }];
        format!(
            r#""score":{{"raw":0.9,"calibrated":{score}}},"campaigns":[{{"id":"spring","probability":{},"currency":"EUR","creative":{{"id":"red","features":[{},{}]}}}}]"#,
            share(),
            features[0],
            features[1]
        )
    };
    let (decisions, outcomes) = spring(4, offer);
    let mut plan = charted(&[]);
    let names = ["steady", "moving"].map(str::to_owned);
    plan.campaigns.get_mut("spring").unwrap().features = names.into();
    let drift = evaluate_with(&ControlSpec::default(), plan, None, &decisions, &outcomes).charts.unwrap().drift;
    let mut found: Vec<_> = drift.features.iter().map(|it| (it.feature.as_str(), it.shift, it.rows)).collect();
    // Those that have changed most come first; by chance, either of the others is next.
    assert_eq!(found.iter().map(|it| it.0).take(2).collect::<Vec<_>>(), ["model score", "moving"], "{drift:?}");
    found.sort_unstable_by_key(|it| it.0);
    let expected = [
        ("model score", Shift::Act),
        ("moving", Shift::Watch),
        ("probability of spring", Shift::Steady),
        ("steady", Shift::Steady),
    ];
    assert_eq!(found, expected.map(|(name, shift)| (name, Some(shift), [1_200, 1_200])), "{drift:?}");
    assert_eq!(drift.second_from, Some(START + 2 * DAY));
    let score = &drift.features[0];
    assert!((score.means[0].unwrap() - 0.5).abs() < 0.03 && (score.means[1].unwrap() - 0.25).abs() < 0.02);
    // Half of the bins hold double and the others nothing, which counts as 0.0001: 5 · 0.1 ln 2 + 5 · 0.1 ln 1000.
    assert!((score.psi.unwrap() - 3.8).abs() < 0.6, "{score:?}");
    // A configuration that names other features says nothing of those in the log.
    let short =
        evaluate_with(&ControlSpec::default(), charted(&[]), None, &decisions[..900], &[]).charts.unwrap().drift;
    assert!(short.features.iter().all(|it| it.psi.is_none() && it.shift.is_none()), "too few rows: {short:?}");
    assert_eq!(short.features.len(), 2);
}

#[test]
fn creatives_and_spend_are_those_of_the_log() {
    let (decisions, mut outcomes) = spring(3, |number| {
        format!(
            r#""campaigns":[{{"id":"spring","probability":0.1,"currency":"EUR","creative":{{"id":"{}"}}}}]"#,
            ["red", "blue"][usize::from(number % 3 == 0)]
        )
    });
    for number in (0..900).step_by(6) {
        let at = START + number * DAY / 600 + 5 * SECOND;
        let to = format!(r#""decision_id":"shop:d-0-{number}""#);
        outcomes.push((at, format!(r#"{{"outcome_id":"c{number}","type":"click","occurred_at":{at},{to}}}"#)));
    }
    outcomes.sort();
    let plan = Plan { by: vec![Dimension::parse("creative").unwrap()], ..charted(&[]) };
    let budget = Budget { mode: Mode::Even, daily: Some(Micros(1_500_000)), total: None, cost_max: Micros(2_000) };
    let report = crate::effect::tests::evaluate_setup(
        &ControlSpec::default(),
        plan,
        None,
        |setup| {
            setup.budget = (setup.id == "spring").then_some(budget);
        },
        &decisions,
        &outcomes,
    );
    let charts = report.charts.unwrap();
    let found: Vec<_> =
        charts.creatives.iter().map(|it| (it.campaign.as_str(), it.creative.as_str(), it.click_rate)).collect();
    let groups: Vec<_> = report.by[0].groups.iter().map(|it| ("spring", it.name.as_str(), it.click_rate)).collect();
    assert_eq!(found, groups);
    assert_eq!(charts.creatives[0].click_rate.unwrap().count, 150);
    let [spend] = &charts.spend[..] else { panic!("{:?}", charts.spend) };
    let days: Vec<_> = spend.days.iter().map(|it| (it.day.as_str(), it.spent_micros, it.planned_micros)).collect();
    // 600 wins a day at 2 a thousand.
    let plan = Some(1_500_000);
    assert_eq!(
        days,
        [("2026-01-01", 1_200_000, plan), ("2026-01-02", 1_200_000, plan), ("2026-01-03", 1_200_000, plan)]
    );
    assert_eq!((spend.spent_micros, spend.is_last_over), (3_600_000, false));
}
