//! Consent in the decisions, the profiles and the exports of a whole pipeline.

use crate::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    privacy::consent::Activity,
    profile::{KeptConsent, ProfileEngine},
    sink::Outbox,
    state::hash_key,
    status::{Counts, SuppressReason},
    testkit::FakeModel,
};
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

const SPEC: &str = r#"
[consent]
enabled = true
vendor_id = 1
without_law = ["write", "score", "emit", "measure", "train"]

[consent.forbids]
gpc = ["write", "score", "emit", "train"]
lmt = ["emit", "train"]

[[feature]]
name = "views"
aggregate = "count"
window = "7d"

[[segment]]
id = "viewer"
where = 'event_type == "view"'
exit = "false"
duration = "2h"
"#;

/// The country has no law that the gate knows.
const NOWHERE: &str = r#","geo":{"country":"BR"}"#;
const START: i64 = 1_772_409_600_000;

struct Rig {
    pipeline: Pipeline,
    partitions: Partitions,
    counts: Counts,
    outbox: Outbox,
    offset: i64,
    /// How many rows the model has scored.
    scored: Arc<AtomicUsize>,
}

impl Rig {
    fn new(more: &str) -> Self {
        let spec: PipelineSpec = toml::from_str(&format!("{SPEC}{more}")).unwrap();
        let scored = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&scored);
        let model = FakeModel::new(&["views"], move |row| {
            count.fetch_add(1, Ordering::Relaxed);
            row[0] / 100.0
        });
        let pipeline = Pipeline::compile(&spec, ("shop", "clicks")).unwrap();
        let pipeline = pipeline.with_model(Box::new(model)).unwrap();
        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        scored.store(0, Ordering::Relaxed);
        let (counts, outbox) = (Counts::default(), Outbox::default());
        Self { pipeline, partitions, counts, outbox, offset: 0, scored }
    }

    fn take(&mut self, user: &str, minute: i64, event: &str) {
        self.take_ahead(user, (minute, 0), event);
    }

    /// Takes an event of a clock that is ahead by as many minutes of the log's.
    fn take_ahead(&mut self, user: &str, (minute, ahead): (i64, i64), event: &str) {
        let logged_at = START + minute * 60_000;
        let at = logged_at + ahead * 60_000;
        let payload = format!(r#"{{"user_id":"{user}","occurred_at":{at},{event}{NOWHERE}}}"#);
        let record = Record {
            offset: self.offset,
            timestamp_ms: Some(logged_at),
            key: Some(user.as_bytes()),
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        self.pipeline.take(&record, &mut self.partitions, &mut self.outbox, &mut self.counts);
        self.offset += 1;
    }

    fn run(&mut self) -> Vec<Value> {
        self.pipeline.run(&mut self.partitions, EventTime(0), &mut self.outbox, &mut self.counts);
        let all = self.outbox.all().map(|output| serde_json::from_slice(output.payload.unwrap()).unwrap()).collect();
        self.outbox.clear();
        all
    }

    /// The decision about one event.
    fn decide(&mut self, user: &str, minute: i64, event: &str) -> Value {
        self.take(user, minute, event);
        self.run().pop().expect("a decision")
    }

    fn words(&self, user: &str) -> Option<Vec<u64>> {
        let store = self.partitions.get(0).unwrap().store();
        store.get(hash_key(user.as_bytes()), user.as_bytes()).map(std::borrow::Cow::into_owned)
    }

    fn features(&mut self, user: &str) -> Vec<f64> {
        let words = self.words(user).expect("a profile");
        self.pipeline.read(&words)
    }

    fn members(&self) -> u64 {
        self.partitions.views()[0].members.iter().sum()
    }
}

const VIEW: &str = r#""event_type":"view""#;
const LIMITED: &str = r#""event_type":"view","consent":{"lmt":true}"#;
const OPTS_OUT: &str = r#""event_type":"consent","consent":{"gpc":true}"#;
const OPTS_IN: &str = r#""event_type":"consent","consent":{"gpc":false}"#;

#[track_caller]
fn assert_suppressed(decision: &Value, reason: &str) {
    assert_eq!((&decision["status"], &decision["status_reason"]), (&json!("STATUS_SUPPRESSED"), &json!(reason)));
    assert_eq!((&decision["segments"], &decision["left"]), (&json!([]), &json!([])), "{decision}");
    assert!(decision.get("score").is_none() && decision.get("model").is_none(), "{decision}");
}

#[test]
fn where_nothing_forbids_it_everything_is_as_before_and_the_decision_says_why() {
    let mut rig = Rig::new("");
    let decision = rig.decide("u", 0, VIEW);
    assert_eq!(decision["status"], "STATUS_TARGETED");
    let all = json!(["write", "score", "emit", "measure", "train"]);
    let basis = json!({"permitted": all, "framework": "declared", "legal_basis": "declared", "refused": []});
    assert_eq!(decision["consent"], basis);
    assert_eq!(rig.features("u"), [1.0]);
    assert!(rig.counts.refused.is_empty());
}

#[test]
fn an_event_that_may_not_be_written_leaves_no_trace_and_gives_a_suppressed_decision() {
    let mut rig = Rig::new("");
    let refused = r#""event_type":"view","consent":{"gpc":true}"#;
    let decision = rig.decide("u", 0, refused);
    assert_suppressed(&decision, "opted_out");
    let refusals = decision["consent"]["refused"].as_array().unwrap();
    assert!(refusals.contains(&json!({"activity": "write", "reason": "gpc"})), "{decision}");
    assert_eq!(decision["consent"]["permitted"], json!(["measure"]));
    assert_eq!(rig.words("u"), None, "not even a profile");
    assert_eq!(rig.scored.load(Ordering::Relaxed), 0);
    assert_eq!((rig.counts.events, rig.counts.decisions), (1, 1));
    assert!(rig.counts.refused.contains(&((Activity::Emit, "opted_out"), 1)));

    // Nor does it change a profile that there is.
    rig.decide("v", 0, VIEW);
    let before = rig.words("v");
    assert_suppressed(&rig.decide("v", 1, refused), "opted_out");
    assert_eq!((rig.words("v"), rig.members()), (before, 1));
    assert_eq!(rig.decide("v", 2, VIEW)["status"], "STATUS_TARGETED", "an event's own signals are not remembered");
}

#[test]
fn a_withdrawal_drops_the_profile_and_counts_for_the_events_after_it() {
    let mut rig = Rig::new("");
    rig.decide("u", 0, VIEW);
    assert_eq!(rig.members(), 1);
    // All in one batch: the second and the third event follow the first.
    for (minute, event) in [(61, OPTS_OUT), (62, VIEW), (63, VIEW)] {
        rig.take("u", minute, event);
    }
    for decision in rig.run() {
        assert_suppressed(&decision, "opted_out");
    }
    assert_eq!(rig.members(), 0);
    let words = rig.words("u").unwrap();
    assert_eq!(ProfileEngine::seen(&words).1, EventTime((START + 61 * 60_000) * 1_000), "only when the user chose");
    let kept = rig.pipeline.profile().consent();
    let mut rest = words.clone();
    rest[kept.clone()].fill(0);
    let empty = rig.pipeline.profile().layout().clone();
    assert_eq!(rig.features("u"), [0.0], "{empty:?}");
    assert!(!KeptConsent::read(&words[kept]).permissions().allows(Activity::Write));
    // The membership's end is not announced.
    rig.take("w", 600, VIEW);
    rig.take("x", 601, VIEW);
    assert!(rig.run().iter().all(|decision| decision["user_key"] != "u"));

    // Everything begins anew once the user agrees again.
    rig.decide("u", 700, OPTS_IN);
    let decision = rig.decide("u", 701, VIEW);
    assert_eq!(decision["segments"][0]["is_new"], true);
    assert_eq!(decision["consent"]["permitted"].as_array().unwrap().len(), 5);
}

#[test]
fn a_late_event_does_not_undo_a_withdrawal() {
    let mut rig = Rig::new("[time]\nallowed_lateness = \"1h\"\n");
    rig.decide("u", 0, VIEW);
    rig.decide("u", 300, OPTS_OUT);
    for (minute, event) in [(299, VIEW), (240, OPTS_IN), (301, VIEW)] {
        assert_suppressed(&rig.decide("u", minute, event), "opted_out");
    }
    // A withdrawal that comes late counts all the same.
    rig.decide("v", 300, VIEW);
    assert_suppressed(&rig.decide("v", 120, OPTS_OUT), "opted_out");
    assert_suppressed(&rig.decide("v", 301, VIEW), "opted_out");
}

#[test]
fn without_emission_the_profile_goes_on_and_nothing_is_told_not_even_the_end_of_a_membership() {
    let mut rig = Rig::new("[time]\ntick = false\n");
    for minute in 0..3 {
        assert_suppressed(&rig.decide("u", minute, LIMITED), "opted_out");
    }
    assert_eq!((rig.features("u"), rig.members()), (vec![3.0], 1));
    assert_eq!(rig.scored.load(Ordering::Relaxed), 0, "a score that may not be told is not computed");
    // Five users let time pass; the membership of u ends at 122.
    let mut told = Vec::new();
    for (index, user) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        rig.take(user, 130 + index as i64, r#""event_type":"other""#);
    }
    told.extend(rig.run());
    let ends: Vec<&Value> = told.iter().filter(|it| it["user_key"] == "u").collect();
    assert_eq!((ends.len(), rig.members()), (1, 0));
    assert_suppressed(ends[0], "opted_out");
    assert!(ends[0]["decision_id"].as_str().unwrap().contains("-expired-"));
}

#[test]
fn without_scoring_no_model_runs() {
    let mut rig = Rig::new("");
    let text = SPEC.replace("lmt = [\"emit\", \"train\"]", "lmt = [\"score\"]");
    let spec: PipelineSpec = toml::from_str(&text).unwrap();
    rig.pipeline.replace(Pipeline::compile(&spec, ("shop", "clicks")).unwrap());
    let decision = rig.decide("u", 0, LIMITED);
    assert_eq!((&decision["status"], &decision["score"]["raw"]), (&json!("STATUS_TARGETED"), &Value::Null));
    assert_eq!(rig.scored.load(Ordering::Relaxed), 0);
    assert_eq!(rig.decide("u", 1, VIEW)["score"]["raw"], json!(0.02));
}

#[test]
fn an_export_has_no_row_without_consent_to_training() {
    let mut rig = Rig::new("");
    for (minute, event) in [(0, VIEW), (1, LIMITED), (2, r#""event_type":"view","consent":{"gpc":true}"#), (3, VIEW)] {
        rig.take("u", minute, event);
    }
    let mut rows = Vec::new();
    rig.pipeline.rows(&mut rig.partitions, &mut rig.counts, |row| rows.push((row.position.offset, row.features[0])));
    assert_eq!(rows, [(0, 1.0), (3, 3.0)], "the second counts in the profile, and is not a row");
    assert_eq!(rig.counts.suppressed, [(SuppressReason::NoConsent, 2)]);
}

#[test]
fn decisions_carry_features_only_with_consent_to_training() {
    let mut rig = Rig::new("");
    let text = SPEC.replace("lmt = [\"emit\", \"train\"]", "lmt = [\"train\"]");
    let spec: PipelineSpec = toml::from_str(&format!("{text}[decision]\nfeatures_share = 1.0\n")).unwrap();
    rig.pipeline.replace(Pipeline::compile(&spec, ("shop", "clicks")).unwrap());
    assert_eq!(rig.decide("u", 0, VIEW)["features"], json!({"views": 1.0}));
    let refused = rig.decide("u", 1, r#""event_type":"view","consent":{"lmt":true}"#);
    assert_eq!((&refused["status"], refused.get("features")), (&json!("STATUS_TARGETED"), None), "{refused}");
    assert_eq!(rig.decide("u", 2, VIEW)["features"], json!({"views": 3.0}));
    // A suppressed decision has nothing about the user.
    assert_eq!(rig.decide("u", 3, OPTS_OUT).get("features"), None);
}

#[test]
fn the_events_whose_features_are_logged_do_not_depend_on_batches() {
    let chosen = |share: f64, batch: i64| {
        let mut rig = Rig::new(&format!("[decision]\nfeatures_share = {share:?}\n"));
        let mut chosen = Vec::new();
        for number in 0..2_000 {
            rig.take(&format!("u{}", number % 500), number, VIEW);
            if (number + 1) % batch == 0 {
                chosen.extend(rig.run());
            }
        }
        chosen.retain(|it| it.get("features").is_some());
        chosen.iter().map(|it| it["decision_id"].to_string()).collect::<Vec<_>>()
    };
    let quarter = chosen(0.25, 100);
    // The standard deviation of 2,000 draws at 0.25 is 19.
    assert!((420..=580).contains(&quarter.len()), "{}", quarter.len());
    assert_eq!(chosen(0.25, 1_000), quarter);
    let half = chosen(0.5, 500);
    assert!(half.len() > 900 && quarter.iter().all(|id| half.contains(id)), "a larger share adds events");
    assert_eq!((chosen(0.0, 500).len(), chosen(1.0, 500).len()), (0, 2_000));
}

#[test]
fn the_same_events_in_other_batches_give_the_same_decisions_and_profiles() {
    let mixed = [VIEW, OPTS_IN, VIEW, OPTS_OUT, VIEW, VIEW, OPTS_IN];
    // The basis of a verdict is kept only if it is another than before, which within a batch is not in the profile yet.
    let limited = [VIEW, LIMITED, VIEW, VIEW, LIMITED, LIMITED, VIEW];
    for kinds in [mixed, limited] {
        let events: Vec<(i64, &str)> = (0..60).map(|at| (at * 7 % 50, kinds[at as usize % 7])).collect();
        let run = |size: usize| {
            let mut rig = Rig::new("");
            let (mut decisions, mut profiles) = (Vec::new(), Vec::new());
            for (number, (minute, event)) in events.iter().enumerate() {
                rig.take(if minute % 2 == 0 { "u" } else { "v" }, 60 * minute, event);
                if (number + 1) % size == 0 || number + 1 == events.len() {
                    decisions.extend(rig.run());
                }
                if (number + 1) % 12 == 0 && 12 % size == 0 {
                    profiles.push([rig.words("u"), rig.words("v")]);
                }
            }
            (decisions, profiles)
        };
        let alone = run(1);
        for size in [2, 3, 4, 6, 12] {
            assert_eq!(run(size), alone, "batches of {size}");
        }
        assert_eq!(run(60).0, alone.0);
    }
}

#[test]
fn wrong_sections_name_their_keys() {
    let errors = |text: &str| {
        let spec: PipelineSpec = toml::from_str(text).unwrap();
        let errors = Pipeline::compile(&spec, "clicks").err().unwrap_or_default();
        errors.into_iter().map(|error| error.key).collect::<Vec<_>>()
    };
    assert_eq!(errors("[consent]\nenabled = true\n"), ["consent.vendor_id", "consent.without_law"]);
    let more = "[consent]\nenabled = true\nvendor_id = 1\nwithout_law = []\n";
    assert_eq!(errors(more), [""; 0]);
    assert_eq!(errors(&format!("{more}country = \"no.such\"\n")), ["consent.country"]);
    assert_eq!(errors(&format!("{more}remember = \"event_tpye == 'x'\"\n")), ["consent.remember"]);
}

#[test]
fn a_consent_by_a_fast_clock_does_not_outlive_the_next_withdrawal() {
    let mut rig = Rig::new("");
    rig.take_ahead("u", (0, 120), OPTS_IN);
    rig.run();
    // Flags are kept by the hour, so the next one.
    rig.decide("u", 60, OPTS_OUT);
    assert_suppressed(&rig.decide("u", 61, VIEW), "opted_out");
    // The same by a clock that is right.
    rig.decide("u", 180, OPTS_IN);
    assert_eq!(rig.decide("u", 181, VIEW)["status"], json!("STATUS_TARGETED"));
}

#[test]
fn a_consent_event_whose_consent_cannot_be_read_is_a_refusal_and_no_dead_letter() {
    for broken in [
        r#""gpc":"maybe""#,
        r#""tc_string":{}"#,
        r#""tc_string":"\ud800""#,
        r#""gdpr_applies":"si""#,
        r#""gpp_sid":"seven""#,
        r#""us_privacy":{}"#,
    ] {
        let mut rig = Rig::new("");
        rig.decide("u", 0, VIEW);
        let event = format!(r#""event_type":"consent","consent":{{{broken}}}"#);
        let decision = rig.decide("u", 1, &event);
        assert_eq!(decision["status"], json!("STATUS_SUPPRESSED"), "{broken}: {decision}");
    }
    // Other fields are still checked.
    let mut rig = Rig::new("");
    rig.take("u", 0, r#""event_type":"view","value":"much""#);
    assert_eq!(rig.counts.decisions, 0);
}
