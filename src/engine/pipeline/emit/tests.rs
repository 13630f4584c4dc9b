//! Which decisions of a whole pipeline are written, also after a replay.

use crate::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    sink::{Outbox, Output},
    status::{Counts, SuppressReason},
};
use serde_json::Value;

const SPEC: &str = r#"
[[segment]]
id = "viewer"
where = 'event_type == "view"'

[[segment]]
id = "here"
where = "true"
exit = "false"
duration = "30s"

[[campaign]]
id = "spring"
value = "value"
currency = "EUR"

[emission]
on = "change"
bid_share = 0.1
"#;

const START: i64 = 1_772_409_600_000;

/// An event of a user: its type, its time in seconds, and the value that the campaign bids.
type Event = (&'static str, &'static str, i64, f64);

struct Rig {
    pipeline: Pipeline,
    partitions: Partitions,
    counts: Counts,
    offset: i64,
}

impl Rig {
    /// Events before this offset were decided by somebody else.
    fn after(spec: &str, committed: i64) -> Self {
        let spec: PipelineSpec = toml::from_str(spec).unwrap();
        let mut partitions = Partitions::default();
        let before = (committed > 0).then(|| (committed, String::new()));
        partitions.insert(0, Partition::new(0, committed, before));
        let pipeline = Pipeline::compile(&spec, "clicks").unwrap_or_else(|errors| panic!("{errors:?}"));
        Self { pipeline, partitions, counts: Counts::default(), offset: 0 }
    }

    /// The decisions about these events as one batch: of each, the offset of its event, or the user whose membership
    /// has expired.
    fn batch(&mut self, events: &[Event]) -> Vec<String> {
        let mut outbox = Outbox::default();
        for (user, kind, seconds, value) in events {
            let at = START + seconds * 1_000;
            let payload = format!(r#"{{"event_type":"{kind}","user_id":"{user}","occurred_at":{at},"value":{value}}}"#);
            let record = Record {
                offset: self.offset,
                timestamp_ms: Some(at),
                payload: Some(payload.as_bytes()),
                ..Record::default()
            };
            self.offset += 1;
            self.pipeline.take(&record, &mut self.partitions, &mut outbox, &mut self.counts);
        }
        self.pipeline.run(&mut self.partitions, EventTime(0), &mut outbox, &mut self.counts);
        outbox.all().map(|output| named(&output)).collect()
    }

    fn each(&mut self, events: &[Event]) -> Vec<String> {
        events.iter().flat_map(|event| self.batch(&[*event])).collect()
    }

    fn suppressed(&self, reason: SuppressReason) -> u64 {
        self.counts.suppressed.iter().find(|(it, _)| *it == reason).map_or(0, |(_, count)| *count)
    }
}

fn named(output: &Output<'_>) -> String {
    let decision: Value = serde_json::from_slice(output.payload.unwrap()).unwrap();
    match decision["input"]["offset"].as_str() {
        Some(offset) => offset.to_owned(),
        None => decision["user_key"].as_str().unwrap().to_owned(),
    }
}

const EVENTS: [Event; 13] = [
    ("ann", "view", 0, 2.0),
    ("ann", "view", 1, 2.1),
    ("bob", "view", 2, 2.0),
    ("ann", "click", 3, 2.0),
    ("ann", "click", 4, 2.0),
    ("ann", "click", 5, 2.3),
    // The fifth of these users moves the partition's time, so Bob's and Ann's memberships end after it.
    ("cid", "click", 40, 2.0),
    ("dan", "click", 40, 2.0),
    ("eve", "click", 40, 2.0),
    ("fay", "click", 40, 2.0),
    ("gus", "click", 40, 2.0),
    ("ann", "click", 41, 2.0),
    ("ann", "click", 42, 2.0),
];

#[test]
fn only_changes_are_written_whatever_the_batches_and_the_rest_is_counted() {
    let expected = ["0", "2", "3", "5", "6", "7", "8", "9", "10", "bob", "ann", "11"];
    let mut alone = Rig::after(SPEC, 0);
    assert_eq!(alone.each(&EVENTS), expected);
    let mut together = Rig::after(SPEC, 0);
    assert_eq!(together.batch(&EVENTS), expected);
    for rig in [&alone, &together] {
        assert_eq!((rig.counts.events, rig.counts.decisions, rig.counts.beside.expired), (13, 10, 2));
        assert_eq!(rig.suppressed(SuppressReason::Unchanged), 3);
        assert_eq!(rig.suppressed(SuppressReason::TooSoon), 0);
    }
}

#[test]
fn without_the_section_every_decision_is_written_and_the_layout_is_the_same() {
    let (before, _) = SPEC.split_once("[emission]").unwrap();
    let mut rig = Rig::after(before, 0);
    assert_eq!(rig.each(&EVENTS).len(), EVENTS.len() + 2);
    assert!(rig.pipeline.profile().said().is_empty());
    let explicit = Rig::after(&format!("{before}[emission]\non = \"event\""), 0);
    assert_eq!(rig.pipeline.layout(), explicit.pipeline.layout());
    assert_ne!(rig.pipeline.layout(), Rig::after(SPEC, 0).pipeline.layout());
    assert_eq!(rig.pipeline.fingerprint(), Rig::after(SPEC, 0).pipeline.fingerprint());
}

#[test]
fn with_an_interval_a_change_comes_at_the_next_event_after_it() {
    let spec = SPEC.replace("on = \"change\"", "every = \"3s\"");
    let mut rig = Rig::after(&spec, 0);
    assert_eq!(rig.each(&EVENTS), ["0", "2", "3", "6", "7", "8", "9", "10", "bob", "ann", "11"]);
    assert_eq!(rig.suppressed(SuppressReason::TooSoon), 4);
}

#[test]
fn after_a_replay_the_next_decision_is_written_and_then_only_changes() {
    let click = |user, seconds| (user, "click", seconds, 2.0);
    // The first three were decided before a restart, maybe with another policy.
    let mut rig = Rig::after(SPEC, 3);
    let events = [click("ann", 0), click("ann", 1), click("ann", 2), click("ann", 3), click("ann", 4)];
    assert_eq!(rig.each(&events), ["3"]);
    assert_eq!((rig.counts.beside.replayed, rig.counts.decisions), (3, 1));
}

#[test]
fn what_was_said_before_a_replay_is_forgotten_by_it() {
    let click = |seconds| ("ann", "click", seconds, 2.0);
    let mut rig = Rig::after(SPEC, 0);
    assert_eq!(rig.each(&[click(0), click(1)]), ["0"]);
    let said = rig.pipeline.profile().said();
    let words = |rig: &Rig| rig.partitions.get(0).unwrap().store().iter().next().unwrap().1.into_owned();
    assert_ne!(words(&rig)[said.clone()], [0; 6], "three words, and a price for each campaign in a decision");
    // The same two events again, as if they had been committed with these profiles missing.
    let mut again = Rig::after(SPEC, 2);
    assert_eq!(again.each(&[click(0), click(1)]), Vec::<String>::new());
    assert_eq!(words(&again)[said.clone()], [0; 6]);
    let (now, before) = (words(&again), words(&rig));
    assert_eq!((&now[..said.start], &now[said.end..]), (&before[..said.start], &before[said.end..]));
}
