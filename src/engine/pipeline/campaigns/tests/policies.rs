//! Policies of control in the decisions of a whole pipeline.

use super::{BOUGHT, Rig, VIEW};
use crate::{
    event::EventTime,
    targeting::policy::{Policy, PolicyFeed},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

/// Two campaigns with a budget, of which a decision has room for one, and one without.
const SPEC: &str = r#"
[targeting]
campaigns_max = 1
placement = "page.category"

[[segment]]
id = "buyer"
where = 'event_type == "purchase"'

[[campaign]]
id = "best"
value = 3
currency = "EUR"
ceiling = 2.5
floor = 0.5
budget = { daily = 100 }
rotation = { method = "thompson", audiences = ["buyer"] }

[[campaign]]
id = "second"
value = 2
currency = "EUR"
budget = { total = 1000, pacing = "even" }

[[campaign]]
id = "free"
value = 1
currency = "EUR"

[[creative]]
id = "red"
campaign = "best"
headline = ["Half price"]
landing_page = "https://shop.example/red"

[[creative]]
id = "blue"
campaign = "best"
headline = ["Half price"]
landing_page = "https://shop.example/blue"
"#;

const STALE_AFTER: Duration = Duration::from_mins(1);

/// Policies that wait to be taken.
#[derive(Clone, Default)]
struct Waiting(Arc<Mutex<VecDeque<Arc<Policy>>>>);

impl Waiting {
    fn add(&self, policy: &Value) {
        let policy = serde_json::from_value(policy.clone()).unwrap();
        self.0.lock().unwrap().push_back(Arc::new(policy));
    }
}

impl PolicyFeed for Waiting {
    fn take(&mut self) -> Option<Arc<Policy>> {
        self.0.lock().unwrap().pop_front()
    }
}

fn rig() -> (Rig, Waiting) {
    let waiting = Waiting::default();
    (rig_with(&waiting), waiting)
}

fn rig_with(waiting: &Waiting) -> Rig {
    let mut rig = Rig::new(SPEC, 0);
    rig.pipeline = rig.pipeline.with_policies(Box::new(waiting.clone()), STALE_AFTER);
    rig.now = EventTime(1_772_409_600_000_000);
    rig
}

const ALL: u32 = 1 << 31;

/// A policy with the pass-through rates of the two campaigns with a budget, in 2⁻³¹.
fn policy(version: u64, issued_at: EventTime, best: u32, second: u32) -> Value {
    let budget = |pass_through: u32| json!({"currency": "EUR", "budget": {"known": true, "pass_through": pass_through, "spent_today_micros": 0, "spent_total_micros": 0}});
    json!({"schema_version": 1, "version": version, "issued_at": issued_at.0, "app": "shop",
        "campaigns": {"best": budget(best), "second": budget(second)}})
}

fn ids(decision: &Value) -> Vec<&str> {
    decision["campaigns"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[test]
fn without_a_policy_or_with_an_old_one_budgets_stop() {
    let (mut rig, waiting) = rig();
    let [decision] = &rig.run(&[VIEW])[..] else { panic!("one decision") };
    assert_eq!((ids(decision), &decision["policy_version"]), (vec!["free"], &json!("0")));
    assert_eq!(decision["suppressed"], json!([]), "`budget_unknown` does not concern control");

    waiting.add(&policy(3, rig.now, ALL, ALL));
    assert_eq!(rig.pipeline.renew_policy(rig.now), Some(3));
    let [decision] = &rig.run(&[VIEW])[..] else { panic!("one decision") };
    assert_eq!((ids(decision), &decision["policy_version"]), (vec!["best"], &json!("3")));
    assert_eq!(decision["campaigns"][0]["pass_through"], json!(1.0));
    // Better campaigns filled the decision: control counts that for the one with a budget.
    assert_eq!(decision["suppressed"], json!([{"campaign_id": "second", "reason": "outranked"}]));

    rig.now = EventTime(rig.now.0 + STALE_AFTER.as_micros() as i64);
    assert_eq!(ids(&rig.run(&[VIEW])[0]), ["best"]);
    rig.now = EventTime(rig.now.0 + 1);
    assert_eq!(ids(&rig.run(&[VIEW])[0]), ["free"], "the policy is too old");
    let [best, ..] = rig.counts.detail.campaigns[..] else { panic!("three campaigns are counted") };
    assert_eq!(best.refused[crate::targeting::campaign::Reason::BudgetUnknown.index()], 2);
}

#[test]
fn older_and_repeated_policies_change_nothing() {
    let (mut rig, waiting) = rig();
    for (version, taken) in [(5, Some(5)), (5, None), (4, None), (6, Some(6))] {
        waiting.add(&policy(version, rig.now, ALL, ALL));
        assert_eq!(rig.pipeline.renew_policy(rig.now), taken);
    }
    assert_eq!(rig.pipeline.renew_policy(rig.now), None);
    // A control that has lost its state begins again.
    rig.now = EventTime(rig.now.0 + 2 * STALE_AFTER.as_micros() as i64);
    waiting.add(&policy(1, rig.now, ALL, ALL));
    assert_eq!(rig.pipeline.renew_policy(rig.now), Some(1));
}

#[test]
fn the_share_that_passes_is_paced_and_told_whatever_the_batches() {
    let (mut rig, waiting) = rig();
    waiting.add(&policy(1, rig.now, ALL / 4, 0));
    rig.pipeline.renew_policy(rig.now);
    let events = vec![VIEW; 2_000];
    let mut decisions = rig.run(&events[..700]);
    decisions.extend(events[700..].chunks(90).flat_map(|events| rig.run(events)));
    let count = |wanted: &str| decisions.iter().filter(|decision| ids(decision) == [wanted]).count();
    let passed = count("best");
    // Four standard deviations of 2,000 draws.
    assert!((passed as f64 - 500.0).abs() < 4.0 * (2_000.0 * 0.25 * 0.75_f64).sqrt(), "{passed}");
    assert_eq!(passed + count("free"), decisions.len());
    for decision in &decisions {
        let paced = |id: &str| json!({"campaign_id": id, "reason": "paced"});
        if ids(decision) == ["best"] {
            assert_eq!(decision["campaigns"][0]["pass_through"], json!(0.25));
            assert_eq!(decision["suppressed"], json!([paced("second")]));
        } else {
            assert_eq!(decision["suppressed"], json!([paced("best"), paced("second")]));
        }
    }

    let (mut other, waiting) = self::rig();
    waiting.add(&policy(1, other.now, ALL / 4, 0));
    other.pipeline.renew_policy(other.now);
    let repeated: Vec<Value> = events.chunks(1).flat_map(|events| other.run(events)).collect();
    assert_eq!(decisions, repeated);
}

#[test]
fn a_budget_that_is_spent_or_in_another_currency_stops_the_campaign() {
    for (change, reason) in [("exhausted", "budget"), ("currency", "budget_unknown"), ("unknown", "budget_unknown")] {
        let (mut rig, waiting) = rig();
        let mut it = policy(1, rig.now, ALL, ALL);
        match change {
            "exhausted" => it["campaigns"]["best"]["budget"]["exhausted"] = true.into(),
            "currency" => it["campaigns"]["best"]["currency"] = "USD".into(),
            _ => it["campaigns"]["best"]["budget"]["known"] = false.into(),
        }
        waiting.add(&it);
        rig.pipeline.renew_policy(rig.now);
        assert_eq!(ids(&rig.run(&[VIEW])[0]), ["second"], "{change}");
        let [best, ..] = rig.counts.detail.campaigns[..] else { panic!("three campaigns are counted") };
        let refused = crate::targeting::campaign::Reason::ALL.into_iter().find(|it| best.refused[it.index()] > 0);
        assert_eq!(refused.map(crate::targeting::campaign::Reason::as_str), Some(reason));
    }
}

#[test]
fn bids_are_shaded_by_placement_between_floor_and_bid() {
    let (mut rig, waiting) = rig();
    let mut it = policy(1, rig.now, ALL, ALL);
    // Half of the auctions are won at 1.00 and at 0.10 EUR per thousand.
    let model = |half: f64| json!({"intercept": -4.0 * (half * 1e6).ln(), "slope": 4.0, "lowest_micros": 1});
    it["campaigns"]["best"]["win_rate"] = model(1.0);
    it["campaigns"]["best"]["placements"] = json!({"home": model(0.1)});
    waiting.add(&it);
    rig.pipeline.renew_policy(rig.now);
    let home = r#""event_type":"page_view","page":{"category":"home"}"#;
    let decisions = rig.run(&[VIEW, home]);
    let shaded = |decision: &Value| {
        let offer = &decision["campaigns"][0];
        assert_eq!((&offer["bid_micros"], &offer["floor_micros"]), (&json!("2500000"), &json!("500000")));
        offer["shaded_micros"].as_str().unwrap().parse::<i64>().unwrap()
    };
    let (anywhere, at_home) = (shaded(&decisions[0]), shaded(&decisions[1]));
    assert!((1_000_000..2_500_000).contains(&anywhere), "{anywhere}");
    assert_eq!(at_home, 500_000, "the floor is above the best bid");
}

#[test]
fn creatives_follow_the_posteriors_of_their_audience() {
    let (mut rig, waiting) = rig();
    let mut it = policy(1, rig.now, ALL, ALL);
    let beta = |alpha: f64, beta: f64| json!({"alpha": alpha, "beta": beta});
    it["campaigns"]["best"]["creatives"] = json!({"floor": 0.05, "method": "thompson", "prior": beta(1.0, 99.0),
    "posteriors": {
        "red": {"": beta(90.0, 900.0), "buyer": beta(10.0, 990.0)},
        "blue": {"": beta(10.0, 990.0), "buyer": beta(90.0, 900.0)},
    }});
    waiting.add(&it);
    rig.pipeline.renew_policy(rig.now);
    let decisions = rig.run(&[&[VIEW; 200][..], &[BOUGHT; 200][..]].concat());
    for (decisions, best, audience) in
        [(&decisions[..200], "red", Value::Null), (&decisions[200..], "blue", json!("buyer"))]
    {
        let mut shown = 0;
        for decision in decisions {
            let creative = &decision["campaigns"][0]["creative"];
            assert_eq!((&creative["policy"], &creative["audience"]), (&json!("thompson"), &audience), "{creative}");
            let is_best = creative["id"] == best;
            let propensity = creative["propensity"].as_f64().unwrap();
            assert!((propensity - if is_best { 0.95 } else { 0.05 }).abs() < 1e-3, "{creative}");
            shown += usize::from(is_best);
        }
        assert!((180..=199).contains(&shown), "{shown}");
    }
}

#[test]
fn a_reload_keeps_the_policy() {
    let (mut rig, waiting) = rig();
    waiting.add(&policy(8, rig.now, ALL, ALL));
    rig.pipeline.renew_policy(rig.now);
    let other = Rig::new(&SPEC.replace("value = 2\n", "value = 9\n"), 0).pipeline;
    rig.pipeline.replace(other);
    let decisions = rig.run(&[VIEW]);
    assert_eq!((ids(&decisions[0]), &decisions[0]["policy_version"]), (vec!["second"], &json!("8")));
    // The feed is kept as well, and the first one may come with a reload.
    waiting.add(&policy(9, rig.now, ALL, ALL));
    assert_eq!(rig.pipeline.renew_policy(rig.now), Some(9));

    let mut plain = Rig::new(SPEC, 0);
    plain.pipeline.replace(self::rig_with(&waiting).pipeline);
    waiting.add(&policy(10, plain.now, ALL, ALL));
    assert_eq!(plain.pipeline.renew_policy(plain.now), Some(10));
}

const SMALL: &str = r#"
[targeting]
minimum_audience = 50

[[segment]]
id = "buyer"
where = 'event_type == "purchase"'
exit = "false"
duration = "30d"

[[segment]]
id = "visitor"
where = "true"
exit = "false"
duration = "30d"

[[campaign]]
id = "thanks"
segments = { all = ["buyer"] }
value = 3
currency = "EUR"

[[campaign]]
id = "either"
segments = { any = ["buyer", "visitor"] }
value = 2
currency = "EUR"

[[campaign]]
id = "open"
value = 1
currency = "EUR"

[[creative]]
id = "red"
campaign = "open"
headline = ["Thanks"]
landing_page = "https://shop.example/red"
segments = { any = ["buyer"] }

[[creative]]
id = "blue"
campaign = "open"
headline = ["Welcome"]
landing_page = "https://shop.example/blue"
weight = 0.001

[decision]
reasons = true
"#;

#[test]
fn a_segment_with_few_or_unknown_members_decides_nothing() {
    let waiting = Waiting::default();
    let mut rig = Rig::new(SMALL, 0);
    rig.pipeline = rig.pipeline.with_policies(Box::new(waiting.clone()), STALE_AFTER);
    rig.now = EventTime(1_772_409_600_000_000);
    let told = |rig: &mut Rig, version: u64, sizes: &[(&str, u64)]| {
        if version > 0 {
            let audiences: Vec<Value> =
                sizes.iter().map(|(id, members)| json!({"id": id, "members": members})).collect();
            waiting.add(&json!({"schema_version": 1, "version": version, "issued_at": rig.now.0, "app": "shop", "audiences": audiences}));
            assert_eq!(rig.pipeline.renew_policy(rig.now), Some(version));
        }
        let decision = rig.run(&[BOUGHT]).swap_remove(0);
        let refused = decision["suppressed"].as_array().unwrap().iter();
        let refused: Vec<String> = refused.map(|it| format!("{}: {}", it["campaign_id"], it["reason"])).collect();
        let shown = decision["campaigns"].as_array().unwrap().iter().find(|it| it["id"] == "open");
        let creative = shown.map(|it| it["creative"]["id"].as_str().unwrap().to_owned());
        (ids(&decision).into_iter().map(str::to_owned).collect::<Vec<_>>(), refused.join(", "), creative.unwrap())
    };
    let small =
        |ids: &[&str]| ids.iter().map(|id| format!("\"{id}\": \"small_audience\"")).collect::<Vec<_>>().join(", ");
    let unknown = told(&mut rig, 0, &[]);
    assert_eq!(unknown, (vec!["open".to_owned()], small(&["thanks", "either"]), "blue".to_owned()));
    let few = told(&mut rig, 1, &[("buyer", 49), ("visitor", 50)]);
    assert_eq!(few, (vec!["either".to_owned(), "open".to_owned()], small(&["thanks"]), "blue".to_owned()));
    let enough = told(&mut rig, 2, &[("buyer", 50), ("visitor", 49)]);
    assert_eq!((enough.0.len(), enough.1.as_str(), enough.2.as_str()), (3, "", "red"));
    // Sizes of a policy that is too old for money still count, and a reload keeps them.
    rig.now = EventTime(rig.now.0 + 3_600_000_000);
    rig.pipeline.replace(Rig::new(SMALL, 0).pipeline);
    assert_eq!(told(&mut rig, 0, &[]).0.len(), 3);
    let of_other_taxonomy = json!({"id": "buyer", "segtax": 4, "members": 900});
    waiting_of(&waiting, &rig, &of_other_taxonomy);
    rig.pipeline.renew_policy(rig.now);
    assert_eq!(told(&mut rig, 0, &[]).1, small(&["thanks", "either"]));
}

fn waiting_of(waiting: &Waiting, rig: &Rig, audience: &Value) {
    waiting.add(
        &json!({"schema_version": 1, "version": 9, "issued_at": rig.now.0, "app": "shop", "audiences": [audience]}),
    );
}
