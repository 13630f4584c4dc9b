//! Figures against a naive recount.

use super::{
    world::{Truth, World, check, recount},
    *,
};

#[test]
fn every_figure_equals_a_naive_recount_of_the_log() {
    let world = World::new(1, 9_000);
    let by = ["campaign", "model_version", "campaign+model_version", "day"];
    let report = evaluate(plan(&by), &world.decisions, &world.outcomes);
    assert_eq!(report.totals.decisions, world.decisions.len() as u64);
    let held_out_conversions = world.outcomes.iter().filter(|(_, line)| line.contains("\"h")).count() as u64;
    assert_eq!(report.totals.orphan, held_out_conversions, "conversions of held-out users alone");
    assert_eq!((report.totals.late, report.totals.double, report.totals.rejected), (0, 0, 0));
    check(&report.all, &recount(&world, |_| true));
    for (at, grouping) in report.by.iter().enumerate().take(3) {
        let mut names = BTreeSet::new();
        for group in &grouping.groups {
            let is_in = |it: &Truth| {
                let both = format!("{} + {}", it.campaign, it.version);
                [it.campaign, it.version, &both][at] == group.name
            };
            check(group, &recount(&world, is_in));
            names.insert(&group.name);
        }
        let named: u64 = grouping.groups.iter().map(|group| group.offers).sum();
        assert_eq!(named, world.truth.len() as u64, "{names:?}");
    }
    assert_eq!(report.by[3].groups.len(), 3, "three days");
    // The calibrated model is calibrated, the other says twice as much.
    let version = |name: &str| report.by[1].groups.iter().find(|group| group.name == name).unwrap();
    let ratios = ["1", "2"].map(|name| version(name).quality.unwrap().figures.calibration_ratio.unwrap());
    assert!((ratios[0] - 1.0).abs() < 0.2 && (ratios[1] - 2.0).abs() < 0.4, "{ratios:?}");
    // Over its versions, the whole is wrong where each is.
    assert!(report.by[1].field_error.unwrap().absolute.unwrap() > 0.02);
    // The AUC within users is that of their rows.
    let users = report.all.quality.unwrap().user_auc.unwrap();
    assert!(users.users > 300 && users.users_left_out < 300, "{users:?}");
}

#[test]
fn rates_cover_the_truth_as_often_as_they_say() {
    // Of an autumn impression, 0.05 · mean(1..8) is clicked.
    let (mut covered, logs) = (0, 60);
    for seed in 0..logs {
        let world = World::new(1_000 + seed, 600);
        let report = evaluate(plan(&["campaign"]), &world.decisions, &world.outcomes);
        let autumn = report.by[0].groups.iter().find(|group| group.name == "autumn").unwrap();
        covered += u32::from(autumn.click_rate.unwrap().interval.covers(0.225));
    }
    println!("{covered} of {logs} intervals cover the rate");
    // 57 with a deviation of 1.7.
    assert!((51..=60).contains(&covered), "{covered}");
}

#[test]
fn the_order_of_what_is_known_later_does_not_matter_and_immature_labels_are_no_zeros() {
    let world = World::new(3, 1_500);
    // All outcomes are younger than the log: nothing is known.
    let young = Plan { click_after: 100 * HOUR, conversion_after: 200 * HOUR, ..plan(&["campaign"]) };
    let report = evaluate(young, &world.decisions, &world.outcomes);
    let all = &report.all;
    assert!(all.click_rate.is_none() && all.conversion_rate.is_none() && all.quality.is_none());
    assert_eq!(all.immature_impressions, all.impressions);
    assert!(all.unknown.iter().any(|line| line.contains("younger than 4days 4h")), "{:?}", all.unknown);
    // What is said to be complete only until the second day is known as if the log ended then.
    let until = START + 30 * HOUR;
    let cut = Plan { complete_until: Some(until), ..plan(&["campaign"]) };
    let report = evaluate(cut, &world.decisions, &world.outcomes);
    let known = world.truth.iter().filter(|it| it.shown_at.is_some_and(|at| at + CLICK_AFTER <= until)).count() as u64;
    assert_eq!(report.all.click_rate.unwrap().of, known);
    assert_eq!(report.all.immature_impressions, report.all.impressions - known);
}
