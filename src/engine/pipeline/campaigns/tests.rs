//! Campaigns in the decisions of a whole pipeline.

mod policies;

use crate::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    sink::Outbox,
    status::Counts,
    targeting::campaign::Reason,
};
use serde_json::{Value, json};

const SPEC: &str = r#"
[targeting]
segments_max = 1

[[segment]]
id = "shopper"
where = "true"
priority = 1

[[segment]]
id = "buyer"
where = 'event_type == "purchase"'
exit = "false"
duration = "30d"

[[campaign]]
id = "spring"
segments = { any = ["shopper"], none = ["buyer"] }
value = 2.5
currency = "EUR"
caps = [{ max = 2, per = "day" }]

[[campaign]]
id = "thanks"
segments = { all = ["buyer"] }
action = "click"
value = 0.5
probability = 0.01
currency = "EUR"
floor = 1

[[creative]]
id = "red"
campaign = "spring"
headline = ["Half price"]
landing_page = "https://shop.example/red"
weight = 3.0

[[creative]]
id = "blue"
campaign = "spring"
where = 'device.type == "mobile"'
headline = ["Half price"]
landing_page = "https://shop.example/blue"

[decision]
reasons = true
"#;

/// A pipeline with its state.
struct Rig {
    pipeline: Pipeline,
    partitions: Partitions,
    counts: Counts,
    offset: i64,
    /// The time of day.
    now: EventTime,
}

impl Rig {
    /// A pipeline for a partition whose records before `replay_until` have been decided.
    fn new(text: &str, replay_until: i64) -> Self {
        let spec: PipelineSpec = toml::from_str(text).unwrap();
        let pipeline = Pipeline::compile(&spec, ("shop", "clicks")).unwrap();
        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, replay_until, None));
        Self { pipeline, partitions, counts: Counts::default(), offset: 0, now: EventTime(0) }
    }

    /// The decisions about events a minute apart, run as one batch.
    fn run(&mut self, events: &[&str]) -> Vec<Value> {
        let mut outbox = Outbox::default();
        for event in events {
            let at = 1_772_409_600_000 + self.offset * 60_000;
            let payload = format!(r#"{{"user_id":"u","occurred_at":{at},{event}}}"#);
            let record = Record { offset: self.offset, payload: Some(payload.as_bytes()), ..Record::default() };
            self.pipeline.take(&record, &mut self.partitions, &mut outbox, &mut self.counts);
            self.offset += 1;
        }
        self.pipeline.run(&mut self.partitions, self.now, &mut outbox, &mut self.counts);
        outbox.all().map(|output| serde_json::from_slice(output.payload.unwrap()).unwrap()).collect()
    }
}

const VIEW: &str = r#""event_type":"page_view""#;
const SHOWN: &str = r#""event_type":"impression","ad":{"campaign_id":"spring","creative_id":"red"}"#;
const BOUGHT: &str = r#""event_type":"purchase""#;

#[test]
fn a_decision_has_the_campaigns_that_fit_and_the_reasons_of_the_others() {
    let mut rig = Rig::new(SPEC, 0);
    let decisions = rig.run(&[VIEW, SHOWN, SHOWN, BOUGHT]);
    let offer = json!([{"id": "spring", "value_micros": "2500", "probability": 1.0, "bid_micros": "2500000",
        "floor_micros": "0", "currency": "EUR", "creative": {"id": "red", "propensity": 1.0, "policy": "weights"}}]);
    let refused = |reason: &str| json!([{"campaign_id": "spring", "reason": reason}]);
    for (decision, campaigns, suppressed) in [
        (&decisions[0], offer.clone(), json!([])),
        (&decisions[1], offer, json!([])),
        // The second impression counts in its own decision.
        (&decisions[2], json!([]), refused("cap")),
    ] {
        assert_eq!((&decision["campaigns"], &decision["suppressed"]), (&campaigns, &suppressed), "{decision}");
    }
    // The decision has room for one segment only, and the campaigns know about both.
    let last = &decisions[3];
    assert_eq!((&last["segments"][0]["id"], last["segments"].as_array().unwrap().len()), (&json!("shopper"), 1));
    assert_eq!(last["suppressed"], refused("excluded"));
    assert_eq!(
        (&last["campaigns"][0]["id"], &last["campaigns"][0]["bid_micros"]),
        (&json!("thanks"), &json!("5000000"))
    );
    let [spring, thanks] = rig.counts.detail.campaigns[..] else { panic!("two campaigns are counted") };
    assert_eq!((spring.considered, spring.chosen, thanks.considered, thanks.chosen), (4, 2, 1, 1));
    assert_eq!([Reason::Cap, Reason::Excluded].map(|reason| spring.refused[reason.index()]), [1, 1]);
}

#[test]
fn replayed_events_count_for_caps_and_offer_nothing() {
    let mut rig = Rig::new(SPEC, 2);
    assert_eq!(rig.run(&[SHOWN, SHOWN]), [] as [Value; 0]);
    assert_eq!(rig.counts.detail.campaigns.iter().map(|tally| tally.considered).sum::<u64>(), 0);
    let decisions = rig.run(&[VIEW]);
    assert_eq!(decisions[0]["suppressed"][0]["reason"], "cap");
}

#[test]
fn a_creative_is_drawn_from_those_that_fit_whatever_the_batches() {
    let mobile = r#""event_type":"page_view","device":{"type":"mobile"}"#;
    let events = vec![mobile; 400];
    let drawn = |size: usize| {
        let mut rig = Rig::new(SPEC, 0);
        let decisions: Vec<Value> = events.chunks(size).flat_map(|some| rig.run(some)).collect();
        let creative = |decision: &Value| {
            let it = &decision["campaigns"][0]["creative"];
            (it["id"].as_str().unwrap().to_owned(), it["propensity"].as_f64().unwrap())
        };
        decisions.iter().map(creative).collect::<Vec<_>>()
    };
    let all = drawn(400);
    assert_eq!(all, drawn(7));
    let red = all.iter().filter(|(id, _)| id == "red").count();
    // 400 draws with probability 0.75 and a floor of 0.01: five standard deviations are 43.
    assert!((255..345).contains(&red), "{red}");
    for (id, propensity) in &all {
        let share = if id == "red" { 0.75 } else { 0.25 };
        assert!((propensity - (0.98 * share + 0.01)).abs() < 1e-9, "{id} {propensity}");
    }
}

#[test]
fn all_errors_of_campaigns_and_creatives_are_reported_at_once() {
    let text = SPEC
        .replace("any = [\"shopper\"]", "any = [\"shoper\"]")
        .replace("campaign = \"spring\"\nwhere", "campaign = \"sprin\"\nwhere")
        .replace("value = 0.5\n", "value = 0.5\nceiling = 0.5\n")
        .replace(
            "[\"Half price\"]\nlanding_page = \"https://shop.example/red\"",
            "[\"A headline that is far too long\"]\nlanding_page = \"https://shop.example/red\"",
        )
        .replacen("currency = \"EUR\"\n", "", 1);
    let spec: PipelineSpec = toml::from_str(&text).unwrap();
    let errors = Pipeline::compile(&spec, "clicks").err().unwrap();
    let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
    for key in [
        "creative[0].headline[0]",
        "creative[1].campaign",
        "campaign[0].currency",
        "campaign[0].segments.any[0]",
        "campaign[1].floor",
    ] {
        assert!(keys.contains(&key), "{key} of {keys:?}");
    }
    assert!(errors.iter().all(|error| error.hint.is_some()), "{errors:?}");
}

#[test]
fn the_largest_decision_bounds_every_decision() {
    let mut rig = Rig::new(SPEC, 0);
    let most = rig.pipeline.decision_bytes_max();
    for decision in rig.run(&[VIEW, SHOWN, SHOWN, BOUGHT]) {
        assert!(decision.to_string().len() <= most);
    }
    let without = Rig::new(&SPEC.replace("reasons = true", "reasons = false"), 0).pipeline.decision_bytes_max();
    assert!(without < most);
}
