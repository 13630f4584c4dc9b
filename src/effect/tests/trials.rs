//! Experiments by user.

use super::{
    world::{World, same},
    *,
};

#[test]
fn arms_are_compared_by_user_and_the_split_is_checked() {
    let world = World::new(5, 9_000);
    let report = evaluate(plan(&["campaign"]), &world.decisions, &world.outcomes);
    let [trial] = &report.experiments[..] else { panic!("{:?}", report.experiments) };
    assert_eq!((trial.name.as_str(), trial.kind, trial.crossed, trial.users_one_in), ("spring", "campaign", 0, 1));
    let mut users: BTreeMap<&str, (BTreeSet<u64>, BTreeSet<u64>)> = BTreeMap::new();
    for it in world.truth.iter().filter(|it| it.campaign == "spring") {
        let (all, clicked) = users.entry(it.arm).or_default();
        all.insert(it.user);
        if it.clicked_at.is_some_and(|at| at <= world.end) {
            clicked.insert(it.user);
        }
    }
    let converted = world.held_out_converted.len() as u64;
    let found: Vec<_> = trial.arms.iter().map(|it| (it.arm.as_str(), it.users, it.clicked, it.converted)).collect();
    let arm = |name: &'static str| (name, users[name].0.len() as u64, Some(users[name].1.len() as u64), 0);
    assert_eq!(found, [arm("bold"), arm("control"), ("holdout", world.held_out.len() as u64, None, converted)]);
    assert_eq!(trial.arms.iter().map(|it| it.planned).collect::<Vec<_>>(), [Some(0.25), Some(0.5), Some(0.25)]);
    assert!(trial.ratio.is_some_and(|ratio| !ratio.is_mismatch) && trial.ratio_any_time.is_some());
    let names: Vec<_> = trial.comparisons.iter().map(|it| (it.metric, it.arm.as_str(), it.against.as_str())).collect();
    assert!(names.contains(&("click", "bold", "control")) && names.contains(&("conversion", "bold", "holdout")));
    assert!(!names.contains(&("click", "bold", "holdout")), "held-out users cannot click");
    let click = &trial.comparisons[0];
    assert_eq!(names[0], ("click", "bold", "control"));
    let rate = |name: &str| users[name].1.len() as f64 / users[name].0.len() as f64;
    same(click.once.difference, rate("bold") - rate("control"));
    assert!(click.words.contains("bold") && click.words.contains("control"), "{}", click.words);
    // Without the conversions of held-out users, the report says that they may not be reported at all.
    let reported: Vec<_> = world.outcomes.iter().filter(|(_, line)| !line.contains("\"h")).cloned().collect();
    let notes = &evaluate(plan(&["campaign"]), &world.decisions, &reported).experiments[0].notes;
    assert!(notes.iter().any(|note| note.starts_with("no conversion of a held-out user")), "{notes:?}");
    assert!(!trial.notes.iter().any(|note| note.starts_with("no conversion of a held-out user")), "{:?}", trial.notes);
    // A split that was declared otherwise is noticed.
    let mut other = plan(&["campaign"]);
    other.campaigns.insert("spring".to_owned(), campaign("EUR", Some(Label::Click), &[("bold", 0.5)], 0.25));
    let report = evaluate(other, &world.decisions, &world.outcomes);
    assert!(report.experiments[0].ratio.unwrap().is_mismatch);
    assert!(report.experiments[0].notes.iter().any(|note| note.contains("not split as declared")));
}

#[test]
fn variants_of_the_model_are_compared_too_and_a_strong_effect_is_settled() {
    let (mut decisions, mut outcomes) = (Vec::new(), Vec::new());
    let mut draws = Draws(9);
    for number in 0..6_000_i64 {
        let at = START + number * 20 * SECOND;
        let is_new = mix(number as u64).is_multiple_of(2);
        let variant = if is_new { "next" } else { "control" };
        decisions.push((
            at,
            format!(
                r#"{{"decision_id":"shop:d-0-{number}","user_key":"u{number}","decided_at":"{at}","experiment":{{"name":"ranker","variant":"{variant}"}},"campaigns":[{{"id":"autumn","currency":"EUR"}}]}}"#
            ),
        ));
        for (kind, after, is_sent) in
            [("impression", 1, true), ("click", 2, draws.chance(if is_new { 0.16 } else { 0.1 }))]
        {
            if is_sent {
                let at = at + after * SECOND;
                let line = format!(
                    r#"{{"outcome_id":"{kind}{number}","type":"{kind}","occurred_at":{at},"decision_id":"shop:d-0-{number}"}}"#
                );
                outcomes.push((at, line));
            }
        }
    }
    let plan = Plan { variants: vec![("next".to_owned(), 0.5)], ..plan(&["variant"]) };
    let report = evaluate(plan, &decisions, &outcomes);
    let trial = &report.experiments[0];
    assert_eq!((trial.name.as_str(), trial.kind), ("ranker", "models"));
    let click = &trial.comparisons[0];
    assert!(click.once.interval.covers(0.06) && click.once.p_value.unwrap() < 1e-6, "{click:?}");
    assert!(click.any_time.unwrap().interval.low > 0.0);
    assert!(click.words.ends_with("settled, however often you look"), "{}", click.words);
    assert!(click.users_needed.is_some());
    assert_eq!(report.by[0].groups.len(), 2);
}
