//! Memberships and caps without events, and across reloads.

use super::*;

/// The decisions that readers see, as JSON.
fn decisions(broker: &MemoryBroker) -> Vec<serde_json::Value> {
    let places = broker.places().into_iter().filter(|place| matches!(place, Place::Decisions(_)));
    let payloads = places.flat_map(|place| broker.all_committed(place)).filter_map(|it| it.payload);
    payloads.map(|it| serde_json::from_slice(&it).expect("a decision is JSON")).collect()
}

/// The segments left without an event, by moment.
fn expired(broker: &MemoryBroker) -> Vec<(i64, Vec<String>)> {
    let is_expiry = |it: &&serde_json::Value| it["id"].as_str().is_some_and(|id| id.contains("-expired-"));
    let all = decisions(broker);
    let ended = all.iter().filter(is_expiry).map(|it| {
        let left = it["left"].as_array().expect("it is a list");
        let moment = left[0]["expires_at"].as_i64().expect("it is a time");
        (moment, left.iter().map(|it| it["id"].as_str().unwrap_or_default().to_owned()).collect())
    });
    let mut ended: Vec<_> = ended.collect();
    ended.sort();
    ended
}

/// The start of [`views`] and the length of a minute, in microseconds.
const BEGINNING: i64 = 1_700_000_000_000_000;
const MINUTE: i64 = 60_000_000;

fn lasting_worker(broker: &MemoryBroker, now: i64) -> (CaseWorker, Arc<AtomicI64>, u64) {
    let (source, sink) = broker.join(0);
    let member = source.member();
    let clock = FakeClock::showing(EventTime(now));
    let hands = clock.hands();
    let pipeline = world::pipeline(&world::lasting(world::spec())).0;
    (Worker::new(settings(), source, sink, clock, pipeline, Progress::default()), hands, member)
}

#[test]
fn memberships_end_on_a_silent_partition_once_also_where_a_worker_is_followed_by_another() {
    for is_crash in [false, true] {
        let broker = MemoryBroker::new(vec![views(&["a"])], true, Faults::default(), 1);
        let (mut first, hands, member) = lasting_worker(&broker, BEGINNING);
        broker.produce(0, 1);
        turn_until(&mut first, &broker, |_| broker.committed()[0].is_some());
        turns(&mut first, &broker, 500);
        assert_eq!(expired(&broker), []);
        let viewing = (BEGINNING + 10 * MINUTE, vec!["viewing".to_owned()]);
        let looker = (BEGINNING + 20 * MINUTE, vec!["looker".to_owned()]);
        hands.store(viewing.0 + 1_999_999, Ordering::Relaxed);
        turns(&mut first, &broker, 500);
        assert_eq!(expired(&broker), [], "records may still be on their way");
        hands.store(viewing.0 + 2_000_000, Ordering::Relaxed);
        turns(&mut first, &broker, 500);
        assert_eq!(expired(&broker), std::slice::from_ref(&viewing));
        if is_crash {
            broker.cut_off(member);
        } else {
            first.leave().expect("nothing goes wrong here");
        }
        drop(first);
        broker.leave(member);
        let (mut second, hands, _) = lasting_worker(&broker, BEGINNING);
        turn_until(&mut second, &broker, |worker| is_restored(worker, 0, 1));
        turns(&mut second, &broker, 500);
        assert_eq!(expired(&broker), std::slice::from_ref(&viewing), "not again");
        hands.store(looker.0 + 600 * MINUTE, Ordering::Relaxed);
        turns(&mut second, &broker, 500);
        assert_eq!(expired(&broker), [viewing, looker]);
    }
}

#[test]
fn memberships_of_segments_that_stay_outlive_a_reload_that_adds_and_removes_others() {
    let with = |remove: &str, add: &str| {
        let mut spec = world::lasting(world::spec());
        spec.segments.retain(|it| it.id != remove);
        let mut more = spec.segments[0].clone();
        (more.id, more.filter, more.exit) = (add.to_owned(), "true".to_owned(), Some("false".to_owned()));
        more.duration = Some(Duration::from_hours(1));
        spec.segments.insert(0, more);
        world::pipeline(&spec).0
    };
    let broker = MemoryBroker::new(vec![views(&["a", "a", "b", "a"])], true, Faults::default(), 1);
    let (first, ..) = lasting_worker(&broker, BEGINNING);
    let (sender, receiver) = crossbeam_channel::bounded(2);
    let mut worker = first.with_pipelines(receiver);
    broker.produce(0, 2);
    turn_until(&mut worker, &broker, |_| broker.committed()[0].as_ref().is_some_and(|it| it.0 == 2));
    for (produced, (remove, add)) in [(3, ("viewing", "other")), (4, ("looker", "another"))] {
        sender.send(with(remove, add)).expect("the worker is there");
        turns(&mut worker, &broker, 50);
        broker.produce(0, 1);
        turn_until(&mut worker, &broker, |_| broker.committed()[0].as_ref().is_some_and(|it| it.0 == produced));
    }
    let all = decisions(&broker);
    let of_a: Vec<&serde_json::Value> = all.iter().filter(|it| it["user"] == "a").collect();
    assert_eq!((all.len(), of_a.len()), (4, 3), "each event has one decision");
    let member = |index: usize, id: &str| {
        let segments = of_a[index]["segments"].as_array().expect("it is a list");
        segments.iter().find(|it| it["id"] == id).map(|it| (it["entered_at"].as_i64(), it["is_new"].as_bool()))
    };
    assert_eq!(member(1, "looker"), Some((Some(BEGINNING), Some(false))));
    assert_eq!(member(2, "looker"), None, "it was removed");
    let last_written = Some((Some(BEGINNING), Some(false)));
    assert_eq!(member(2, "viewing"), last_written, "the user had no event while it was not there");
    assert_eq!(member(2, "another"), Some((Some(BEGINNING + 3_000_000), Some(true))));
}

#[test]
fn caps_outlive_a_reload_that_adds_and_removes_other_campaigns() {
    let with = |other: &str| {
        let mut spec = world::lasting(world::spec());
        let other = CampaignSpec { id: other.to_owned(), ..spec.campaigns[1].clone() };
        spec.campaigns[0].segments = AudienceSpec::default();
        (spec.campaigns[0].holdout, spec.campaigns[0].floor) = (0.0, None);
        spec.campaigns = vec![other, spec.campaigns[0].clone()];
        world::pipeline(&spec).0
    };
    let click = |number: i64| InputRecord {
        key: Some(b"a".to_vec()),
        erase: None,
        payload: Some(
            format!(
                r#"{{"event_type":"click","user_id":"a","value":1,"occurred_at":{},"ad":{{"campaign_id":"spring"}}}}"#,
                BEGINNING / 1_000 + number * 1_000
            )
            .into_bytes(),
        ),
        ..InputRecord::default()
    };
    let broker = MemoryBroker::new(vec![(0..4).map(click).collect()], true, Faults::default(), 1);
    let (mut worker, ..) = lasting_worker(&broker, BEGINNING);
    let (sender, receiver) = crossbeam_channel::bounded(2);
    worker = worker.with_pipelines(receiver);
    for (number, other) in ["autumn", "winter", "autumn", "winter"].into_iter().enumerate() {
        sender.send(with(other)).expect("the worker is there");
        turns(&mut worker, &broker, 50);
        broker.produce(0, 1);
        turn_until(&mut worker, &broker, |_| {
            broker.committed()[0].as_ref().is_some_and(|it| it.0 == number as i64 + 1)
        });
    }
    let reason = |decision: &serde_json::Value| {
        let all = decision["suppressed"].as_array().expect("it is a list").iter();
        all.filter(|it| it["campaign_id"] == "spring").map(|it| it["reason"].to_string()).collect::<String>()
    };
    let all: Vec<String> = decisions(&broker).iter().map(reason).collect();
    assert_eq!(all, ["", "\"cap\"", "\"cap\"", "\"cap\""], "two clicks are the most");
}
