//! Users who mean harm, or whose systems are broken: what they cost is bounded and visible, and everybody else is unharmed.

use crate::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record, RejectReason},
    profile::ProfileEngine,
    sink::Outbox,
    state::hash_key,
    status::{Counts, PartitionView},
};

const SPEC: &str = r#"
[duplicates]
horizon = "1h"
max_ids = 16

[time]
allowed_lateness = "1h"

[[feature]]
name = "views_1h"
aggregate = "count"
window = "1h"
tile = "1m"

[[feature]]
name = "pages"
aggregate = "distinct"
value = "page.url"
window = "1h"
tile = "10m"

[[feature]]
name = "top"
aggregate = "top"
value = "page.url"
k = 3
window = "1h"
tile = "10m"
"#;

const START: i64 = 1_772_409_600_000;

struct Rig {
    pipeline: Pipeline,
    partitions: Partitions,
    counts: Counts,
    offset: i64,
}

impl Rig {
    fn new() -> Self {
        let spec: PipelineSpec = toml::from_str(SPEC).expect("it is well formed");
        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        let pipeline = Pipeline::compile(&spec, ("shop", "clicks")).expect("it compiles");
        Self { pipeline, partitions, counts: Counts::default(), offset: 0 }
    }

    /// An event so many milliseconds after the start, whose record was written at the same time.
    fn event(&mut self, user: &str, after_ms: i64, id: &str, page: &str) {
        let at = (START + after_ms).to_string();
        self.event_at(user, &at, START + after_ms, id, page);
    }

    /// An event at a time in JSON, whose record was written at this time.
    fn event_at(&mut self, user: &str, at: &str, logged_at: i64, id: &str, page: &str) {
        let payload = format!(
            r#"{{"event_type":"view","event_id":"{id}","user_id":"{user}","occurred_at":{at},"page":{{"url":"{page}"}}}}"#
        );
        let record = Record {
            offset: self.offset,
            timestamp_ms: Some(logged_at),
            payload: Some(payload.as_bytes()),
            ..Record::default()
        };
        let mut outbox = Outbox::default();
        self.pipeline.take(&record, &mut self.partitions, &mut outbox, &mut self.counts);
        self.offset += 1;
        if self.pipeline.batch_rows() == 512 {
            self.run();
        }
    }

    fn run(&mut self) {
        self.pipeline.run(&mut self.partitions, EventTime(0), &mut Outbox::default(), &mut self.counts);
    }

    /// Events of a usual user, one a minute.
    fn usual(&mut self, minutes: std::ops::Range<i64>) {
        for minute in minutes {
            self.event("usual", minute * 60_000, &format!("usual-{minute}"), "https://shop.example/");
        }
        self.run();
    }

    fn words(&self, user: &str) -> Option<Vec<u64>> {
        let store = self.partitions.get(0).expect("it is held").store();
        store.get(hash_key(user.as_bytes()), user.as_bytes()).map(std::borrow::Cow::into_owned)
    }

    fn view(&self) -> PartitionView {
        self.partitions.views().swap_remove(0)
    }
}

/// The profile of the usual user after this has happened in the middle of the hour.
fn usual_after(attack: impl FnOnce(&mut Rig)) -> (Vec<u64>, Rig) {
    let mut rig = Rig::new();
    rig.usual(0..20);
    attack(&mut rig);
    rig.run();
    rig.usual(20..40);
    (rig.words("usual").expect("a profile"), rig)
}

#[test]
fn a_flood_of_new_users_is_seen_costs_a_bounded_amount_for_each_and_harms_nobody() {
    const MANY: i64 = 8_000;
    let (alone, _) = usual_after(|_| {});
    let (beside, rig) = usual_after(|rig| {
        for number in 0..MANY {
            rig.event(&format!("flood-{number:06}"), 1_200_000, "", &format!("https://{number}.example/"));
        }
    });
    assert_eq!(beside, alone);
    let view = rig.view();
    assert_eq!(view.profiles, MANY as u64 + 1, "the metric of profiles shows it");
    let user_max = rig.pipeline.profile().profile_bytes().user_max + "flood-000000".len();
    let most = user_max as u64 * view.profiles;
    assert!(view.profile_bytes <= most, "{} bytes, and at most {most}", view.profile_bytes);
}

#[test]
fn a_hot_user_has_a_profile_of_bounded_size_and_harms_nobody() {
    let (alone, _) = usual_after(|_| {});
    let mut sizes = Vec::new();
    let (beside, rig) = usual_after(|rig| {
        for number in 0..10_000_i64 {
            let page = format!("https://shop.example/{number}");
            rig.event("hot", number * 100, &format!("hot-{number}"), &page);
            if number % 2_000 == 1_999 {
                rig.run();
                sizes.push(rig.words("hot").expect("a profile").len());
            }
        }
    });
    assert_eq!(beside, alone);
    // At most the tiles of the longest window and of the allowed lateness, however many events fall into them.
    let most = rig.pipeline.profile().profile_bytes().record_max;
    assert!(sizes.iter().all(|words| words * 8 <= most), "{sizes:?} words, and at most {most} bytes");
    assert_eq!(rig.counts.events, 10_040);
}

#[test]
fn a_user_with_very_many_event_ids_is_remembered_with_the_last_few() {
    let (alone, _) = usual_after(|_| {});
    let (beside, rig) = usual_after(|rig| {
        (0..5_000_i64).for_each(|number| rig.event("many", 1_200_000 + number, &format!("id-{number}"), "p"));
    });
    assert_eq!((beside, ProfileEngine::remembered_ids(&rig.words("many").expect("a profile"))), (alone, 16));
}

#[test]
fn events_of_the_years_9999_and_1970_are_dead_letters_and_move_nobody_s_time() {
    let (alone, before) = usual_after(|_| {});
    let (beside, rig) = usual_after(|rig| {
        for number in 0..100_i64 {
            rig.event_at(&format!("far-{number}"), "\"9999-06-01T00:00:00Z\"", START + 1_200_000, "", "p");
            rig.event_at(&format!("old-{number}"), "\"1970-06-01T00:00:00Z\"", START + 1_200_000, "", "p");
        }
    });
    assert_eq!((beside, rig.view().newest), (alone, before.view().newest));
    let of = |reason| rig.counts.dead_letters.iter().find(|(of, _)| *of == reason).map(|(_, count)| *count);
    assert_eq!((of(RejectReason::FutureTime), of(RejectReason::TimeRange)), (Some(100), Some(100)), "{:?}", rig.counts);
    assert_eq!(rig.view().profiles, 1);
}
