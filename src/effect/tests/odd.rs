//! Odd records, labels of one class, too many groups, and the end of rows.

use super::*;

fn decision(id: &str, at: i64, more: &str) -> (i64, String) {
    let line = format!(
        r#"{{"decision_id":"{id}","user_key":"u","decided_at":"{at}","expires_at":"{}","campaigns":[{{"id":"spring","probability":0.1,"currency":"EUR"{more}}}]}}"#,
        at + 60 * SECOND
    );
    (at, line)
}

fn outcome(id: &str, kind: &str, at: i64, more: &str) -> (i64, String) {
    (at, format!(r#"{{"outcome_id":"{id}","type":"{kind}","occurred_at":{at}{more}}}"#))
}

#[test]
fn odd_records_have_a_counted_place() {
    let to = r#","decision_id":"shop:d-0-1","campaign_id":"spring""#;
    let decisions = [
        decision("shop:d-0-1", START, ""),
        decision("shop:d-0-1", START + SECOND, ""),
        decision("shop:d-0-2", START + 2 * SECOND, r#","probability":7.5"#),
        decision("other:d-0-1", START + 3 * SECOND, ""),
        (START + 4 * SECOND, format!(r#"{{"decision_id":"shop:d-0-3","decided_at":"{}"}}"#, START + 4 * SECOND)),
    ];
    let decisions: Vec<_> = decisions
        .into_iter()
        .map(|(at, line)| {
            (
                at,
                line.replace(
                    r#""probability":0.1,"currency":"EUR","probability""#,
                    r#""currency":"EUR","probability""#,
                ),
            )
        })
        .collect();
    let outcomes = [
        (START + SECOND, outcome("before", "impression", START - 90 * SECOND, to).1),
        outcome("shown", "impression", START + 5 * SECOND, to),
        outcome("shown", "impression", START + 5 * SECOND, to),
        outcome("click", "click", START + 6 * SECOND, to),
        outcome("again", "click", START + 7 * SECOND, to),
        outcome("orphan", "click", START + 8 * SECOND, r#","decision_id":"shop:d-0-99""#),
        outcome("dollars", "win", START + 9 * SECOND, &format!(r#"{to},"price":2,"currency":"USD""#)),
        outcome("lost", "win", START + 10 * SECOND, r#","decision_id":"shop:d-0-98","campaign_id":"spring","price":3"#),
        outcome("late", "conversion", START + 40 * 24 * HOUR, to),
    ];
    let report = evaluate(plan(&["campaign", "status"]), &decisions, &outcomes);
    let it = &report.totals;
    assert_eq!((it.decisions, it.decisions_double, it.decisions_foreign), (3, 1, 1));
    assert_eq!((it.joined, it.double, it.orphan, it.rejected), (3, 1, 3, 1), "{it:?}");
    assert_eq!((it.late, it.before_decision), (1, 1), "the late conversion has lost its decision: {it:?}");
    assert_eq!(it.unattributed_micros, [("EUR".to_owned(), 3_000)].into());
    assert_eq!((report.all.impressions, report.all.clicks, report.all.decisions), (1, 1, 3));
    assert_eq!(report.by[0].groups.len(), 1, "a decision without a campaign is in no group of campaigns");
    assert_eq!(report.by[1].groups[0].decisions, 3);
    // 1 of 1 is no quality of predictions, and no loss means no win rate.
    assert!(report.all.quality.is_none() && report.all.win_rate.is_none());
    let empty = evaluate(plan(&["campaign"]), &[], &[]);
    assert!(empty.span.is_none() && empty.all.click_rate.is_none() && empty.by[0].groups.is_empty());
}

#[test]
fn labels_of_one_class_have_no_rank_and_say_so() {
    let decisions: Vec<_> =
        (0..200).map(|number| decision(&format!("shop:d-0-{number}"), START + number * SECOND, "")).collect();
    let outcomes: Vec<_> = (0..200)
        .map(|number| {
            let to = format!(r#","decision_id":"shop:d-0-{number}""#);
            outcome(&format!("o{number}"), "impression", START + number * SECOND + SECOND, &to)
        })
        .collect();
    let plan = Plan { complete_until: Some(START + 2 * HOUR), ..plan(&["campaign"]) };
    let report = evaluate(plan, &decisions, &outcomes);
    let figures = report.all.quality.unwrap().figures;
    assert_eq!((figures.rows, figures.auc, figures.calibration_ratio), (200, None, None));
    assert_eq!(figures.observed, Some(0.0));
    assert!(report.all.unknown.iter().any(|line| line.contains("none of 200 labels is positive")));
}

#[test]
fn groups_beyond_the_most_are_one_group() {
    let decisions: Vec<_> = (0..groups::GROUPS_MAX as i64 + 20)
        .map(|number| {
            let (at, line) = decision(&format!("shop:d-0-{number}"), START + number * SECOND, "");
            (at, line.replace(r#""user_key":"u""#, &format!(r#""user_key":"u{number}""#)))
        })
        .collect();
    let report = evaluate(plan(&["user_key", "decision_id+campaign"]), &decisions, &[]);
    for grouping in &report.by {
        assert_eq!(grouping.groups.len(), groups::GROUPS_MAX + 1);
        let other = grouping.groups.iter().find(|group| group.name == "(other)").unwrap();
        assert_eq!(other.decisions, 20);
    }
}

#[test]
fn windows_of_default_control_end_the_life_of_rows() {
    // A month of impressions: those of the first days are over, and what is kept stays small.
    let day = 24 * HOUR;
    let decisions: Vec<_> =
        (0..80).map(|day_number| decision(&format!("shop:d-0-{day_number}"), START + day_number * day, "")).collect();
    let mut outcomes = Vec::new();
    for number in 0..80 {
        let to = format!(r#","decision_id":"shop:d-0-{number}""#);
        outcomes.push(outcome(&format!("i{number}"), "impression", START + number * day + SECOND, &to));
        if number % 2 == 0 {
            outcomes.push(outcome(&format!("c{number}"), "click", START + number * day + 2 * SECOND, &to));
            let at = START + number * day + 20 * day;
            if number < 40 {
                outcomes.push(outcome(&format!("v{number}"), "conversion", at, &to));
            }
        }
    }
    outcomes.sort_by_key(|(at, _)| *at);
    let plan = Plan { click_after: day, conversion_after: 31 * day, ..plan(&["campaign"]) };
    let report = evaluate(plan, &decisions, &outcomes);
    assert_eq!((report.totals.joined, report.totals.late, report.totals.forgotten), (140, 0, 0), "{:?}", report.totals);
    assert_eq!((report.all.impressions, report.all.clicks, report.all.conversions), (80, 40, 20));
    // The last impression has reached 31 days on day 48; of days 0 to 48, 25 were clicked and 20 converted.
    let rate = report.all.conversion_rate.unwrap();
    assert_eq!((rate.count, rate.of), (20, 25));
    assert_eq!(spec().dedupe_horizon, Duration::from_hours(48));
}
