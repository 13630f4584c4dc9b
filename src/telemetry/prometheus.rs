//! Prometheus' text format.

use crate::metrics::{Family, Sample, Samples, Value};
use std::fmt::Write;

/// Writes families with their samples.
pub(super) fn text(all: &[Samples]) -> String {
    let mut out = String::new();
    for Samples { family, samples } in all {
        put(&mut out, format_args!("# HELP {} {}\n", family.name, family.help));
        put(&mut out, format_args!("# TYPE {} {}\n", family.name, family.kind.as_str()));
        for sample in samples {
            write(&mut out, family, sample);
        }
    }
    out
}

fn write(out: &mut String, family: &Family, sample: &Sample) {
    let name = family.name;
    let own = || family.labels.iter().copied().zip(sample.labels.iter().map(String::as_str));
    match &sample.value {
        Value::Number(number) => put(out, format_args!("{name}{} {number}\n", labels(own()))),
        Value::Distribution(it) => {
            let mut below = 0;
            let bounds = it.bounds().iter().map(f64::to_string).chain(["+Inf".to_owned()]);
            for (bound, count) in bounds.zip(it.counts()) {
                below += count;
                put(out, format_args!("{name}_bucket{} {below}\n", labels(own().chain([("le", bound.as_str())]))));
            }
            put(out, format_args!("{name}_sum{0} {1}\n{name}_count{0} {below}\n", labels(own()), it.sum()));
        }
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing to a string does not fail");
}

/// Labels in braces, or nothing if there are none.
fn labels<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<String> = all.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{
        Distribution,
        families::{COMMITS, LATENCY, SEGMENTS, SHADOW_CORRELATION},
    };

    #[test]
    fn families_are_written_with_their_labels_escaped_and_their_buckets_cumulative() {
        let mut latency = Distribution::new(&[0.005, 0.01]);
        for seconds in [0.001, 0.006, 0.007, 9.0] {
            latency.record(seconds);
        }
        let text = text(&[
            Samples { family: &COMMITS, samples: vec![Sample::number(vec![], 17.0)] },
            Samples { family: &SEGMENTS, samples: vec![Sample::number(vec!["a\"b\\c\nd,e=}".to_owned()], 3.0)] },
            Samples { family: &SHADOW_CORRELATION, samples: vec![Sample::number(vec!["x".to_owned()], f64::NAN)] },
            Samples {
                family: &LATENCY,
                samples: vec![Sample { labels: vec!["event".to_owned()], value: Value::Distribution(latency) }],
            },
        ]);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
        assert_eq!(
            samples,
            [
                "# TYPE aimpoint_commits_total counter",
                "aimpoint_commits_total 17",
                "# TYPE aimpoint_segment_decisions_total counter",
                "aimpoint_segment_decisions_total{segment=\"a\\\"b\\\\c\\nd,e=}\"} 3",
                "# TYPE aimpoint_shadow_correlation gauge",
                "aimpoint_shadow_correlation{shadow=\"x\"} NaN",
                "# TYPE aimpoint_decision_latency_seconds histogram",
                "aimpoint_decision_latency_seconds_bucket{since=\"event\",le=\"0.005\"} 1",
                "aimpoint_decision_latency_seconds_bucket{since=\"event\",le=\"0.01\"} 3",
                "aimpoint_decision_latency_seconds_bucket{since=\"event\",le=\"+Inf\"} 4",
                "aimpoint_decision_latency_seconds_sum{since=\"event\"} 9.014",
                "aimpoint_decision_latency_seconds_count{since=\"event\"} 4",
            ]
        );
        assert!(text.contains("# HELP aimpoint_commits_total commits that took effect\n"), "{text}");
    }
}
