use super::*;
use crate::status::{ClientReport, View};
use std::collections::BTreeSet;

/// What a worker with one partition shows.
fn shown() -> WorkerStatus {
    let view = View::default();
    view.describe(["a\"b"].into_iter(), None);
    let mut counts = Counts::default();
    counts.detail.times.extend([(9_000, 9_980), (9_500, 9_990)]);
    counts.detail.score(0.42);
    counts.detail.segment(0);
    counts.detail.spend(Stage::Profile, Duration::from_millis(1_500));
    view.committed(&counts.detail, EventTime(10_000_000));
    view.partitions(vec![PartitionView {
        number: 3,
        phase: Phase::Moving,
        next: 90,
        replay_until: 0,
        end: Some(100),
        newest: Some(EventTime(7_000_000)),
        profiles: 5,
        profile_bytes: 500,
        dirty: 2,
    }]);
    view.client(ClientReport { fetched: 7, ..ClientReport::default() });
    view.status()
}

#[test]
fn what_a_worker_shows_is_written_out() {
    let text = render(&[shown(), View::default().status()], true, EventTime(10_000_000));
    for line in [
        "# TYPE aimpoint_decision_latency_seconds histogram",
        "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"0.005\"} 0",
        "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"0.01\"} 1",
        "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"0.02\"} 2",
        "aimpoint_decision_latency_seconds_bucket{since=\"append\",le=\"+Inf\"} 2",
        "aimpoint_decision_latency_seconds_sum{since=\"event\"} 1.5",
        "aimpoint_decision_latency_seconds_count{since=\"event\"} 2",
        "aimpoint_score_bucket{le=\"0.45\"} 1",
        "aimpoint_stage_seconds_total{stage=\"profile\"} 1.5",
        "aimpoint_lag_records{partition=\"3\"} 10",
        "aimpoint_lag_seconds{partition=\"3\"} 3",
        "aimpoint_partitions{phase=\"moving\"} 1",
        "aimpoint_profiles{worker=\"0\"} 5",
        "aimpoint_profile_bytes{worker=\"0\"} 500",
        "aimpoint_profiles_dirty{worker=\"0\"} 2",
        "aimpoint_segment_decisions_total{segment=\"a\\\"b\"} 1",
        "aimpoint_ready 1",
        "aimpoint_client_fetched_records{worker=\"0\"} 7",
    ] {
        assert!(text.lines().any(|other| other == line), "{line:?} is missing in:\n{text}");
    }
}

#[test]
fn what_the_metrics_tell_of_shadows_and_versions_is_read_back() {
    let text = "aimpoint_shadow_rows_total{shadow=\"b\",outcome=\"scored\"} 40\n\
                aimpoint_shadow_rows_total{shadow=\"a\",outcome=\"scored\"} 7\n\
                aimpoint_shadow_rows_total{outcome=\"skipped\",shadow=\"b\"} 2\n\
                aimpoint_shadow_psi{shadow=\"b\"} 0.125\naimpoint_shadow_mean{shadow=\"b\",of=\"champion\"} 0.5\n\
                aimpoint_shadow_mean{shadow=\"b\",of=\"shadow\"} 0.25\naimpoint_shadow_correlation{shadow=\"b\"} 0.75\n\
                aimpoint_model_versions_total{outcome=\"slow\"} 3\n";
    let rows = |name: &str, count| (name.to_owned(), count);
    let [b, a] = &shadows(text)[..] else { panic!("two shadows") };
    assert_eq!((b.name.as_str(), &b.rows), ("b", &vec![rows("scored", 40.0), rows("skipped", 2.0)]));
    assert_eq!(b.drift, Some([0.125, 0.5, 0.25, 0.75]));
    assert_eq!((a.name.as_str(), &a.rows, a.drift), ("a", &vec![rows("scored", 7.0)], None));
    assert_eq!(model_versions(text).collect::<Vec<_>>(), [rows("slow", 3.0)]);
}

#[test]
fn names_tell_kind_and_unit_and_are_declared_once() {
    let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), ALL.len());
    for metric in ALL {
        let Metric { name, kind, unit, help, buckets, .. } = metric;
        assert!(name.starts_with("aimpoint_") && !help.is_empty() && !help.contains('\n'), "{name}");
        assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        let bare = name.trim_end_matches("_total");
        assert_eq!(bare.ends_with("_seconds"), unit == Unit::Seconds, "{name}");
        assert_eq!(bare.ends_with("_bytes"), unit == Unit::Bytes, "{name}");
        assert_eq!(buckets.is_empty(), kind != Kind::Histogram, "{name}");
        assert!(buckets.is_sorted_by(|a, b| a < b), "{name}");
    }
}

fn files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("a folder of deploy can be listed").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn dashboards_and_alerts_name_no_metric_that_is_not_declared() {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let mut paths = Vec::new();
    files(&deploy, &mut paths);
    let known: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    let name = regex::Regex::new(r"\baimpoint_[a-z0-9_]+").expect("a sound pattern");
    for path in
        paths.iter().filter(|path| path.extension().is_some_and(|it| ["json", "yml", "yaml"].iter().any(|e| it == *e)))
    {
        let text = std::fs::read_to_string(path).expect("a file of deploy can be read");
        for found in name.find_iter(&text) {
            let found = found.as_str();
            let bare = ["_bucket", "_sum", "_count"].iter().find_map(|part| found.strip_suffix(part)).unwrap_or(found);
            assert!(known.contains(found) || known.contains(bare), "{}: {found} is no metric", path.display());
        }
    }
}
