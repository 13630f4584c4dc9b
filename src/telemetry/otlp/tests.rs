use super::*;
use crate::{
    event::EventTime,
    metrics::{
        Distribution,
        families::{COMMITS, LATENCY, PROFILE_BYTES, SEGMENTS},
    },
};

fn exporter() -> Exporter {
    let state = AdminState::new(String::new(), serde_json::Value::Null, None, None);
    let settings = OtlpSettings {
        endpoint: "http://localhost:4318/".to_owned(),
        interval: Duration::from_secs(15),
        service: "shop".to_owned(),
        instance: "shop-0".to_owned(),
        topic: "clicks".to_owned(),
        group: "shop".to_owned(),
    };
    Exporter::new(settings, Arc::new(state))
}

#[test]
fn each_kind_of_metric_is_converted() {
    let data = |family, samples| metric(&Samples { family, samples }, 5, 7);
    let mut latency = Distribution::new(&[0.005, 0.01]);
    for seconds in [0.001, 0.006, 9.0] {
        latency.record(seconds);
    }
    let sample = Sample { labels: vec!["event".to_owned()], value: Value::Distribution(latency) };
    let sent = data(&LATENCY, vec![sample]);
    assert_eq!((sent.name.as_str(), sent.unit.as_str()), ("aimpoint_decision_latency_seconds", "s"));
    let Some(Data::Histogram(latency)) = sent.data else { panic!("a histogram") };
    let [event] = latency.data_points.as_slice() else { panic!("{latency:?}") };
    assert_eq!(event.attributes, [text("since", "event")]);
    assert_eq!((event.count, event.sum), (3, Some(9.007)));
    assert_eq!((&event.explicit_bounds[..], &event.bucket_counts[..]), (&[0.005, 0.01][..], &[1, 1, 1][..]));
    assert_eq!((event.start_time_unix_nano, event.time_unix_nano), (5, 7));

    let Some(Data::Sum(commits)) = data(&COMMITS, vec![Sample::number(vec![], 17.0)]).data else { panic!("a sum") };
    assert!(commits.is_monotonic && commits.aggregation_temporality == AggregationTemporality::Cumulative as i32);
    assert_eq!(commits.data_points[0].value, Some(number_data_point::Value::AsDouble(17.0)));
    let sample = Sample::number(vec!["a\"b".to_owned()], 3.0);
    let Some(Data::Sum(segments)) = data(&SEGMENTS, vec![sample]).data else { panic!("a sum") };
    assert_eq!(segments.data_points[0].attributes, [text("segment", "a\"b")]);

    let sent = data(&PROFILE_BYTES, vec![Sample::number(vec!["0".to_owned()], 512.0)]);
    assert_eq!(sent.unit, "By");
    let Some(Data::Gauge(bytes)) = sent.data else { panic!("a gauge") };
    let [bytes] = bytes.data_points.as_slice() else { panic!("{bytes:?}") };
    assert_eq!((bytes.value, bytes.start_time_unix_nano), (Some(number_data_point::Value::AsDouble(512.0)), 0));
}

#[test]
fn a_transaction_is_one_trace_with_links_to_its_senders() {
    let mut trace = Trace {
        visible_at: EventTime(1_700_000_000_000_000),
        open: Duration::from_millis(30),
        commit: Duration::from_millis(5),
        events: 12,
        ..Trace::default()
    };
    trace.stages[Stage::Score as usize] = Duration::from_millis(2);
    trace.link(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    let request = exporter().traces(&[trace.clone(), trace]);
    let spans = &request.resource_spans[0].scope_spans[0].spans;
    let [root, fill, commit, other, ..] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!([&root.name, &fill.name, &commit.name], ["process clicks", "fill", "commit"]);
    let visible = 1_700_000_000_000_000_000;
    assert_eq!((root.start_time_unix_nano, root.end_time_unix_nano), (visible - 30_000_000, visible));
    assert_eq!((fill.start_time_unix_nano, fill.end_time_unix_nano), (visible - 30_000_000, visible - 5_000_000));
    assert_eq!((commit.start_time_unix_nano, commit.end_time_unix_nano), (visible - 5_000_000, visible));
    assert!([fill, commit].iter().all(|it| it.trace_id == root.trace_id && it.parent_span_id == root.span_id));
    assert!(root.parent_span_id.is_empty() && root.trace_id.len() == 16 && root.span_id.len() == 8);
    assert_ne!(root.trace_id, other.trace_id, "each transaction is a trace of its own");
    assert_eq!(root.links.len(), 1);
    assert_eq!((root.links[0].trace_id[..2].to_vec(), root.links[0].span_id.len()), (vec![0x4b, 0xf9], 8));
    assert!(root.attributes.contains(&integer("messaging.batch.message_count", 12)), "{:?}", root.attributes);
    assert!(root.attributes.contains(&attribute("aimpoint.stage.score.seconds", any_value::Value::DoubleValue(0.002))));
    let resource = request.resource_spans[0].resource.as_ref().map(|it| it.attributes.clone()).unwrap_or_default();
    assert!(resource.contains(&text("service.name", "shop")), "{resource:?}");
}
