//! What the pipelines of the runs are declared with.

use super::*;

const SPEC: &str = r#"
[time]
allowed_lateness = "1h"
too_late = "dead_letter"
future_tolerance = "1000d"

[duplicates]
horizon = "1h"

[erasure]
keep = "48h"

[profile]
ttl = "24h"

[[feature]]
name = "views_5m"
aggregate = "count"
where = 'event_type == "view"'
window = "5m"

[[feature]]
name = "spent_1h"
aggregate = "sum"
value = "value"
window = "1h"

[[feature]]
name = "since_last"
aggregate = "recency"

[[segment]]
id = "keen"
where = "views_5m >= 3.0"

[[segment]]
id = "spender"
where = "spent_1h > 100.0"

[decision]
format = "flat"
fields = { id = "decision_id", event = "trigger_event_id", user = "user_key", partition = "input.partition", offset = "input.offset", segments = "segments", score = "score.raw", status = "status", version = "model.version" }
"#;

/// Lasting segments, and campaigns with caps and creatives. Some memberships outlast the jumps in time, some do not. Some segments have exit rules, and one
/// excludes another. [`super::naive`] defines the same segments by hand.
const LASTING: &str = r#"
[[segment]]
id = "viewing"
where = 'event_type == "view"'
duration = "10m"

[[segment]]
id = "looker"
where = 'event_type == "view"'
exit = 'event_type == "click"'
duration = "20m"
unless = ["rich"]

[[segment]]
id = "buyer"
where = 'event_type == "purchase"'
exit = "false"
duration = "8h"
priority = 2

[[segment]]
id = "rich"
where = "value > 75.0"
exit = "value < 25.0"
duration = "2h"

[[campaign]]
id = "spring"
segments = { any = ["keen", "spender", "buyer"], none = ["rich"] }
value = "value + 1.0"
currency = "EUR"
floor = 2
caps = [{ events = "click", max = 2, per = "hour" }]
holdout = 0.2
arms = [{ name = "b", share = 0.5 }]

[[campaign]]
id = "summer"
where = "spent_1h > 10.0"
action = "click"
value = 3
probability = 0.01
currency = "EUR"

[[creative]]
id = "red"
campaign = "spring"
headline = ["Half price"]
landing_page = "https://shop.example/"
weight = 2.0

[[creative]]
id = "blue"
campaign = "spring"
where = "value > 20.0"
headline = ["Half price"]
landing_page = "https://shop.example/"
"#;

const FEATURES: [&str; 3] = ["views_5m", "spent_1h", "since_last"];

/// A pipeline, and the control of its model.
pub(crate) fn pipeline(spec: &PipelineSpec) -> (Pipeline, FakeControl) {
    let model = FakeModel::new(&FEATURES, |row| row.iter().filter(|it| it.is_finite()).sum::<f32>() / 1_000.0);
    let control = model.control();
    let pipeline = Pipeline::compile(spec, "clicks").expect("the specification compiles");
    (pipeline.with_model(Box::new(model)).expect("the model fits"), control)
}

pub(crate) fn spec() -> PipelineSpec {
    toml::from_str(SPEC).expect("the specification is well formed")
}

/// The same with lasting segments and campaigns.
pub(crate) fn lasting(spec: PipelineSpec) -> PipelineSpec {
    let more: PipelineSpec = toml::from_str(LASTING).expect("the specification is well formed");
    let segments = [spec.segments, more.segments].concat();
    let mut spec = PipelineSpec { segments, campaigns: more.campaigns, creatives: more.creatives, ..spec };
    for field in ["left", "campaigns", "suppressed"] {
        spec.decision.fields.insert(field.to_owned(), field.to_owned());
    }
    spec
}

/// The same with a campaign that follows control's policies.
pub(crate) fn budgeted(spec: PipelineSpec) -> PipelineSpec {
    const BUDGET: &str = r#"
ceiling = 10_000
budget = { daily = 100 }
rotation = { method = "thompson" }
"#;
    let mut spec = lasting(spec);
    let more = LASTING.replacen("floor = 2\n", BUDGET, 1);
    spec.campaigns = toml::from_str::<PipelineSpec>(&more).expect("the specification is well formed").campaigns;
    spec.decision.fields.insert("policy".to_owned(), "policy_version".to_owned());
    spec
}

/// The same with lasting segments, and consent.
pub(crate) fn consenting(spec: PipelineSpec) -> PipelineSpec {
    let more: PipelineSpec = toml::from_str(consent::SPEC).expect("the specification is well formed");
    PipelineSpec { consent: more.consent, profile: more.profile, ..lasting(spec) }
}

/// How far apart decisions about a user are at least, in microseconds, and by which share a bid must differ.
pub(crate) const EVERY: i64 = 30_000_000;
pub(crate) const BID_SHARE: f64 = 0.2;

/// The same with decisions that say how long they can be used.
pub(crate) fn timed(spec: PipelineSpec) -> PipelineSpec {
    let mut spec = lasting(spec);
    for field in ["occurred_at", "expires_at"] {
        spec.decision.fields.insert(field.to_owned(), field.to_owned());
    }
    spec
}

/// The same, writing only what changes.
pub(crate) fn on_change(spec: PipelineSpec) -> PipelineSpec {
    let every = Duration::from_micros(EVERY as u64);
    PipelineSpec { emission: EmissionSpec { on: EmitOn::Change, every, bid_share: BID_SHARE }, ..timed(spec) }
}

/// The same features among others and in other orders; the output is the same.
pub(crate) fn changed_specs() -> [PipelineSpec; 2] {
    const MORE: &str = r#"
[[feature]]
name = "clicks"
aggregate = "count"
where = 'event_type == "click"'
window = "1h"

[[feature]]
name = "kinds"
aggregate = "distinct"
value = "event_type"
window = "10m"
tile = "2m"

[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "forever"
"#;
    let with = |order: &[usize]| {
        let mut spec = spec();
        let more: PipelineSpec = toml::from_str(MORE).expect("the specification is well formed");
        let all = [spec.features, more.features].concat();
        spec.features = order.iter().map(|index| all[*index].clone()).collect();
        spec
    };
    [with(&[3, 1, 0, 2, 4]), with(&[5, 2, 3, 0, 1])]
}
