use super::*;
use crate::event::EventTime;
use metrics_exporter_prometheus::PrometheusBuilder;

const EXPOSITION: &str = "# HELP aimpoint_decision_latency_seconds how long
# TYPE aimpoint_decision_latency_seconds histogram
aimpoint_decision_latency_seconds_bucket{since=\"event\",le=\"0.005\"} 1
aimpoint_decision_latency_seconds_bucket{since=\"event\",le=\"0.01\"} 4
aimpoint_decision_latency_seconds_bucket{since=\"event\",le=\"+Inf\"} 9
aimpoint_decision_latency_seconds_sum{since=\"event\"} 2.5
aimpoint_decision_latency_seconds_count{since=\"event\"} 9
aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"0.005\"} 0
aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"+Inf\"} 2
aimpoint_decision_latency_seconds_sum{since=\"append\"} 9.75
aimpoint_decision_latency_seconds_count{since=\"append\"} 2
# TYPE aimpoint_commits_total counter
aimpoint_commits_total 17
aimpoint_commits_total_of_another 18
aimpoint_segment_decisions_total{segment=\"a\\\"b\\\\c\\nd,e=}\"} 3
aimpoint_profile_bytes{worker=\"0\"} 512
aimpoint_shadow_correlation{shadow=\"x\"} NaN
aimpoint_unheard_of 1
";

fn exporter() -> Exporter {
    let handle = PrometheusBuilder::new().build_recorder().handle();
    let board = Board::new(String::new(), serde_json::Value::Null, None, handle, None);
    let settings = OtlpSettings {
        endpoint: "http://localhost:4318/".to_owned(),
        interval: Duration::from_secs(15),
        service: "shop".to_owned(),
        instance: "shop-0".to_owned(),
        topic: "clicks".to_owned(),
        group: "shop".to_owned(),
    };
    Exporter::new(settings, Arc::new(board))
}

#[test]
fn metrics_are_what_the_text_says() {
    let all = read(EXPOSITION, 5, 7);
    let find = |name: &str| all.iter().find(|it| it.name == name).and_then(|it| it.data.clone()).expect(name);
    assert_eq!(all.len(), 5, "{all:?}");

    let Data::Histogram(latency) = find("aimpoint_decision_latency_seconds") else { panic!("a histogram") };
    let [event, append] = latency.data_points.as_slice() else { panic!("{latency:?}") };
    assert_eq!(event.attributes, [text("since", "event")]);
    assert_eq!((event.count, event.sum), (9, Some(2.5)));
    assert_eq!(event.explicit_bounds, [0.005, 0.01]);
    assert_eq!(event.bucket_counts, [1, 3, 5], "each holds what the one before does not");
    assert_eq!((event.start_time_unix_nano, event.time_unix_nano), (5, 7));
    assert_eq!((append.count, append.sum, append.bucket_counts.as_slice()), (2, Some(9.75), &[0, 2][..]));

    let Data::Sum(commits) = find("aimpoint_commits_total") else { panic!("a sum") };
    assert!(commits.is_monotonic && commits.aggregation_temporality == AggregationTemporality::Cumulative as i32);
    let [point] = commits.data_points.as_slice() else { panic!("{commits:?}") };
    assert_eq!(point.value, Some(number_data_point::Value::AsDouble(17.0)));

    let Data::Sum(segments) = find("aimpoint_segment_decisions_total") else { panic!("a sum") };
    assert_eq!(segments.data_points[0].attributes, [text("segment", "a\"b\\c\nd,e=}")]);
    let Data::Gauge(bytes) = find("aimpoint_profile_bytes") else { panic!("a gauge") };
    assert_eq!(bytes.data_points[0].value, Some(number_data_point::Value::AsDouble(512.0)));
    let unit = |name: &str| all.iter().find(|it| it.name == name).map(|it| it.unit.as_str());
    assert_eq!(unit("aimpoint_profile_bytes"), Some("By"));
    assert_eq!(unit("aimpoint_decision_latency_seconds"), Some("s"));
    assert!(matches!(find("aimpoint_shadow_correlation"), Data::Gauge(_)));
}

#[test]
fn a_transaction_is_one_trace_that_is_linked_to_its_senders() {
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
    assert!(root.attributes.contains(&whole("messaging.batch.message_count", 12)), "{:?}", root.attributes);
    assert!(root.attributes.contains(&attribute("aimpoint.stage.score.seconds", Value::DoubleValue(0.002))));
    let resource = request.resource_spans[0].resource.as_ref().map(|it| it.attributes.clone()).unwrap_or_default();
    assert!(resource.contains(&text("service.name", "shop")), "{resource:?}");
}
