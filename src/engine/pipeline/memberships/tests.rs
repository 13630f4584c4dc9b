//! Clocks that are wrong, and the memberships of users whose clocks are right.

use crate::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    sink::Outbox,
    status::Counts,
};
use serde_json::Value;

const SPEC: &str = r#"
[[segment]]
id = "here"
where = "true"
exit = "false"
duration = "30s"
"#;

/// 2026-03-02T00:00Z.
const NOW: i64 = 1_772_409_600_000_000;
const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;

struct Rig {
    pipeline: Pipeline,
    partitions: Partitions,
    offset: i64,
}

impl Rig {
    fn new() -> Self {
        let spec: PipelineSpec = toml::from_str(SPEC).unwrap();
        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        Self { pipeline: Pipeline::compile(&spec, "clicks").unwrap(), partitions, offset: 0 }
    }

    /// The outputs after an event at this time, in a record that was appended at `logged_at`.
    fn event(&mut self, user: &str, at: i64, logged_at: Option<i64>) -> Vec<Value> {
        let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
        let payload = format!(r#"{{"event_type":"view","user_id":"{user}","occurred_at":{at}}}"#);
        let timestamp_ms = logged_at.map(|time| time / 1_000);
        let record =
            Record { offset: self.offset, timestamp_ms, payload: Some(payload.as_bytes()), ..Record::default() };
        self.offset += 1;
        self.pipeline.take(&record, &mut self.partitions, &mut outbox, &mut counts);
        self.pipeline.run(&mut self.partitions, EventTime(0), &mut outbox, &mut counts);
        outputs(&outbox)
    }

    /// The outputs of a clock tick. `None` if it was not accepted.
    fn tick(&mut self, time: i64) -> Option<Vec<Value>> {
        let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
        let time = EventTime(time);
        let is_added = self.pipeline.tick(0, time, &mut self.partitions, EventTime(0), &mut outbox, &mut counts);
        is_added.then(|| outputs(&outbox))
    }
}

fn outputs(outbox: &Outbox) -> Vec<Value> {
    outbox.all().map(|output| serde_json::from_slice(output.payload.unwrap()).unwrap()).collect()
}

fn is_in(outputs: &[Value]) -> bool {
    assert_eq!(outputs.len(), 1, "no membership ends: {outputs:?}");
    outputs[0]["segments"][0]["id"] == "here"
}

#[test]
fn fast_clocks_of_many_users_end_nobody_s_membership_and_keep_nobody_out() {
    let mut rig = Rig::new();
    assert!(is_in(&rig.event("right", NOW, Some(NOW))));
    for user in 0..20 {
        let at = NOW + user * SECOND / 10;
        assert!(is_in(&rig.event(&format!("fast-{user}"), at + 58 * MINUTE, Some(at))));
    }
    assert!(is_in(&rig.event("another", NOW + 3 * SECOND, Some(NOW + 3 * SECOND))));
    // Records of the log pass the end of the first one. Those whose clocks are fast stay until their own time.
    let ended: Vec<Value> = (0..5)
        .flat_map(|user| {
            let at = NOW + 31 * SECOND + user;
            rig.event(&format!("later-{user}"), at, Some(at))
        })
        .filter(|it| it["status_reason"] == "membership_expired")
        .collect();
    assert_eq!(ended.iter().map(|it| it["user_key"].as_str().unwrap()).collect::<Vec<_>>(), ["right"]);
}

#[test]
fn without_timestamps_in_the_log_the_fifth_newest_user_counts() {
    let mut rig = Rig::new();
    assert!(is_in(&rig.event("right", NOW, None)));
    for user in 0..4 {
        assert!(is_in(&rig.event(&format!("fast-{user}"), NOW + 58 * MINUTE, None)));
    }
    let outputs = rig.event("fast-4", NOW + 58 * MINUTE, None);
    assert_eq!((outputs.len(), &outputs[1]["user_key"]), (2, &Value::from("right")));
}

#[test]
fn a_clock_that_was_ahead_by_seconds_delays_no_later_end() {
    for ahead in [1, 20, 59, 61, 90] {
        let mut rig = Rig::new();
        assert!(is_in(&rig.event("first", NOW, Some(NOW))));
        assert_eq!(rig.tick(NOW + (30 + ahead) * SECOND).map(|it| it.len()), Some(1));
        let at = NOW + SECOND / 2;
        assert!(is_in(&rig.event("second", at, Some(at))));
        let ended = rig.tick(at + 30 * SECOND).unwrap();
        assert_eq!(ended.iter().map(|it| it["user_key"].as_str().unwrap()).collect::<Vec<_>>(), ["second"], "{ahead}");
    }
}

#[test]
fn a_tick_of_a_wrong_clock_does_no_harm_to_later_memberships() {
    let mut rig = Rig::new();
    assert!(is_in(&rig.event("first", NOW, Some(NOW))));
    let ahead = rig.tick(NOW + 50 * MINUTE).unwrap();
    assert_eq!(ahead[0]["status_reason"], "membership_expired");
    let at = NOW + 10 * SECOND;
    assert!(is_in(&rig.event("second", at, Some(at))), "the clock was wrong, the record is right");
    assert_eq!(rig.tick(at + 29 * SECOND).map(|it| it.len()), Some(0));
    let ended = rig.tick(at + 30 * SECOND).unwrap();
    assert_eq!(ended.iter().map(|it| it["user_key"].as_str().unwrap()).collect::<Vec<_>>(), ["second"]);
}
