//! How does the cost of an event grow with users, features, segments, record size and format?
//!
//! A good answer: it hardly grows with users (below 1.5 times from 10,000 to 5 million, when the profiles no longer fit
//! into any cache), it grows in proportion with features and bytes, and Protobuf is no more expensive than JSON.
//! Measured in memory, on one core, without a model, because the broker's share does not depend on these. One dimension
//! varies at a time, starting from 200,000 users, 16 features, 2 segments and about 200 bytes of JSON. Prints a row per
//! point, and writes a plot to target/growth.svg. Partitions and workers need a broker: benches/peers/run measures
//! them. `cargo test` runs a small version to keep the bench working.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    proto::v1,
    sink::Outbox,
    status::Counts,
};
use prost::Message;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    fmt::Write,
    time::{Duration, Instant},
};

const BATCH: usize = 512;
const TYPES: [&str; 4] = ["page_view", "click", "add_to_cart", "purchase"];
const START_MS: i64 = 1_767_225_600_000;

/// One point: all dimensions that can vary.
#[derive(Clone, Copy)]
struct Point {
    users: usize,
    features: usize,
    segments: usize,
    /// The size of a property that nothing reads.
    padding: usize,
    protobuf: bool,
}

const BASE: Point = Point { users: 200_000, features: 16, segments: 2, padding: 0, protobuf: false };

fn pipeline(point: Point) -> Pipeline {
    let format = if point.protobuf { "protobuf" } else { "json" };
    let mut text = format!("input = {{ format = \"{format}\" }}\ntime = {{ allowed_lateness = \"60s\" }}\n");
    text += "decision = { format = \"flat\", fields = { id = \"decision_id\", segments = \"segments\" } }\n";
    for number in 0..point.features {
        let kind = TYPES[number % 4];
        let (window, tile) = [("5m", "10s"), ("1h", "1m"), ("24h", "30m")][number / 4 % 3];
        // From the thirteenth on, sums: further equal counts would share a cell.
        let what = if number < 12 { "count\"".to_owned() } else { format!("sum\"\nvalue = \"value + {number}.0\"") };
        write!(
            text,
            "[[feature]]\nname = \"f{number}\"\naggregate = \"{what}\nwhere = 'event_type == \"{kind}\"'\nwindow = \"{window}\"\ntile = \"{tile}\"\n"
        )
        .expect("a string takes everything");
    }
    for number in 0..point.segments {
        write!(
            text,
            "[[segment]]\nid = \"s{number}\"\nwhere = \"f{} >= {}.0\"\n",
            number % point.features,
            number % 9 + 1
        )
        .expect("a string takes everything");
    }
    let spec: PipelineSpec = toml::from_str(&text).expect("the specification is well formed");
    Pipeline::compile(&spec, "clickstream").expect("the specification compiles")
}

/// An event of this user in the point's format.
fn payload(point: Point, user: usize, ms: i64, number: usize, random: &mut SmallRng) -> Vec<u8> {
    let (event_id, user_id) = (format!("4aae6dff-9d92-4c83-8001-{number:012}"), format!("u{user:07}"));
    let kind = TYPES[[0, 0, 0, 0, 0, 0, 0, 1, 2, 3][random.random_range(0..10)]];
    let (value, dwell_ms) = (f64::from(random.random_range(0..800)) / 4.0, random.random_range(200..60_000));
    let padding = "x".repeat(point.padding);
    if point.protobuf {
        return v1::Event {
            event_id,
            user_id,
            event_type: kind.to_owned(),
            occurred_at: ms * 1_000,
            value: Some(value),
            dwell_ms: Some(dwell_ms),
            properties: [("padding".to_owned(), padding)].into(),
            ..v1::Event::default()
        }
        .encode_to_vec();
    }
    format!(
        r#"{{"event_id":"{event_id}","user_id":"{user_id}","event_type":"{kind}","occurred_at":{ms},"value":{value},"dwell_ms":{dwell_ms},"properties":{{"padding":"{padding}"}}}}"#
    )
    .into_bytes()
}

/// Nanoseconds per event, bytes per payload, and bytes of state per user.
fn measure(point: Point, count: usize) -> [f64; 3] {
    let mut random = SmallRng::seed_from_u64(42);
    let mut sum = 0.0;
    let ranks: Vec<f64> = (0..point.users)
        .map(|rank| {
            sum += (rank as f64 + 10.0).powf(-1.05);
            sum
        })
        .collect();
    let mut pipeline = pipeline(point);
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    let (mut spent, mut bytes, mut batch) = (Duration::ZERO, 0, Vec::with_capacity(BATCH));
    // First an event for every user, so that all profiles exist; then the timed events.
    for first in (0..point.users + count).step_by(BATCH) {
        batch.clear();
        for number in first..(first + BATCH).min(point.users + count) {
            let (user, ms) = match number.checked_sub(point.users) {
                None => (number, START_MS),
                Some(after) => {
                    let draw = random.random_range(0.0..sum);
                    (ranks.partition_point(|rank| *rank <= draw), START_MS + after as i64 * 200)
                }
            };
            batch.push(payload(point, user, ms, number, &mut random));
        }
        let start = Instant::now();
        for (index, payload) in batch.iter().enumerate() {
            let record = Record { offset: (first + index) as i64, payload: Some(payload), ..Record::default() };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        }
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        if first >= point.users {
            spent += start.elapsed();
            bytes += batch.iter().map(Vec::len).sum::<usize>();
        }
        outbox.clear();
    }
    assert_eq!(counts.decisions as usize, point.users + count, "every event has its decision");
    let timed = (point.users + count - point.users.div_ceil(BATCH) * BATCH) as f64;
    let state = partitions.get(0).map_or(0, |partition| partition.store().bytes());
    [spent.as_nanos() as f64 / timed, bytes as f64 / timed, state as f64 / point.users as f64]
}

/// A curve per dimension: the cost at each point relative to the first.
fn plot(curves: &[(&str, Vec<(String, f64)>)]) -> String {
    let mut svg = String::new();
    for (row, (name, points)) in curves.iter().enumerate() {
        let top = 20 + row * 150;
        let most = points.iter().map(|(_, cost)| *cost).fold(1.0, f64::max);
        write!(svg, r#"<text x="10" y="{top}" font-weight="bold">{name}: ns an event</text>"#).expect("a string");
        for (column, (label, cost)) in points.iter().enumerate() {
            let (x, height) = (20 + column * 80, cost / most * 90.0);
            let y = top as f64 + 105.0 - height;
            write!(
                svg,
                r##"<rect x="{x}" y="{y:.1}" width="50" height="{height:.1}" fill="#d9480f"/><text x="{x}" y="{:.1}">{cost:.0}</text><text x="{x}" y="{}">{label}</text>"##,
                y - 2.0,
                top + 120
            )
            .expect("a string");
        }
    }
    let height = 20 + curves.len() * 150;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="640" height="{height}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>{svg}</svg>"#
    )
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let small = |value: usize, tiny: usize| if is_bench { value } else { tiny };
    let base = Point { users: small(BASE.users, 1_000), ..BASE };
    let count = small(1_000_000, 2_000);
    let users = if is_bench { vec![10_000, 100_000, 1_000_000, 5_000_000] } else { vec![500, 1_000] };
    let dimensions: [(&str, Vec<(String, Point)>); 5] = [
        ("users", users.into_iter().map(|users| (users.to_string(), Point { users, ..base })).collect()),
        ("features", [8, 16, 32, 64, 128].map(|features| (features.to_string(), Point { features, ..base })).to_vec()),
        ("segments", [1, 10, 50].map(|segments| (segments.to_string(), Point { segments, ..base })).to_vec()),
        ("padding", [0, 800, 3_800].map(|padding| (format!("{padding} B"), Point { padding, ..base })).to_vec()),
        (
            "format",
            [("json", false), ("protobuf", true)]
                .map(|(name, protobuf)| (name.to_owned(), Point { protobuf, ..base }))
                .to_vec(),
        ),
    ];
    let mut curves = Vec::new();
    for (name, points) in dimensions {
        let mut curve = Vec::new();
        for (label, point) in points {
            let [nanos, bytes, state] = measure(point, count);
            println!(
                "growth {name} {label}: {:.0} events/s on one core, {nanos:.0} ns/event, {bytes:.0} B/record, {state:.0} B/user",
                1e9 / nanos
            );
            curve.push((label, nanos));
        }
        curves.push((name, curve));
    }
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/growth.svg");
    if is_bench {
        std::fs::write(path, plot(&curves)).expect("the build folder can be written to");
    }
}
