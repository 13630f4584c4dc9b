//! How many events per second can the profiles of one core process, including feature rows? And how many bytes does a
//! user take?
//!
//! A good answer is over 2 million events per second and below 300 bytes per user without the key, for 16 features over
//! three window lengths, 200,000 users by a flattened Zipf law, and batches of 512. Decoding is not timed. Bytes are
//! those of the process, including the allocator's overhead. Also, a million users with 64 features over four window
//! lengths should fit into 2 GB: one event for each, then three million more by the same law. `cargo test` runs a small
//! version to keep the bench working.

#![expect(clippy::print_stdout, reason = "a bench prints its figure")]

mod workload;

use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::Record,
    sink::Outbox,
    status::Counts,
};
use std::{
    borrow::Cow,
    fmt::Write,
    time::{Duration, Instant},
};
use workload::{BATCH, events, spec};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The resident memory of this process in bytes; `None` if the system does not report it.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
}

/// Sixteen features for each of four window lengths: for each of four event types the count, and the sum, mean and
/// maximum of the value.
fn wide_spec() -> PipelineSpec {
    let mut text = String::from(
        "time = { allowed_lateness = \"60s\" }\ndecision = { format = \"flat\", fields = { id = \"decision_id\" } }\n",
    );
    for (window, tile) in [("5m", "10s"), ("1h", "1m"), ("24h", "30m"), ("30d", "1d")] {
        for kind in ["page_view", "click", "add_to_cart", "purchase"] {
            for aggregate in ["count", "sum", "mean", "max"] {
                let value = if aggregate == "count" { "" } else { "value = \"value\"\n" };
                write!(
                    text,
                    "[[feature]]\nname = \"{kind}_{aggregate}_{window}\"\naggregate = \"{aggregate}\"\n{value}where = 'event_type == \"{kind}\"'\nwindow = \"{window}\"\ntile = \"{tile}\"\n"
                )
                .expect("a string takes everything");
            }
        }
    }
    toml::from_str(&text).expect("the specification is well formed")
}

/// The memory of many users with many features, after one event for each and then the given ones.
fn memory(users: usize, events: &[Vec<u8>]) {
    let mut pipeline = Pipeline::compile(&wide_spec(), "clickstream").expect("the specification compiles");
    assert_eq!(pipeline.features().len(), 64, "it has 64 features");
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    let before = resident();
    let mut take = |first: usize, payloads: &mut dyn Iterator<Item = Cow<'_, [u8]>>| {
        for (index, payload) in payloads.enumerate() {
            let record = Record { offset: (first + index) as i64, payload: Some(&payload), ..Record::default() };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
            if index % BATCH == BATCH - 1 {
                pipeline.rows(&mut partitions, &mut counts, |_| {});
            }
        }
        pipeline.rows(&mut partitions, &mut counts, |_| {});
    };
    let one_each = |user: usize| {
        let at = 1_767_225_500_000_i64;
        format!(r#"{{"event_id":"first-{user}","user_id":"u{user:07}","event_type":"page_view","occurred_at":{at},"value":1.5}}"#)
            .into_bytes()
    };
    let start = Instant::now();
    take(0, &mut (0..users).map(|user| Cow::Owned(one_each(user))));
    take(users, &mut events.iter().map(|event| Cow::Borrowed(event.as_slice())));
    let rate = (users + events.len()) as f64 / start.elapsed().as_secs_f64();
    assert_eq!((counts.events as usize, partitions.users() as usize), (users + events.len(), users), "nobody is lost");
    if let (Some(before), Some(after)) = (before, resident()) {
        let bytes = after.saturating_sub(before);
        println!(
            "features: {users} users with 64 features over 4 windows: {} MB of process memory, {} bytes a user with the key; {rate:.0} events/s with decoding",
            bytes / 1_000_000,
            bytes / users
        );
    }
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (count, users) = if is_bench { (3_000_000, 200_000) } else { (20_000, 2_000) };
    let events = events(count, users);
    let mut pipeline = Pipeline::compile(&spec(), "clickstream").expect("the specification compiles");
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    let mut offset = 0;
    let (mut took, mut timed, mut rows, mut sum) = (Duration::ZERO, 0, 0_usize, 0.0_f64);
    let before = resident();
    for batch in events.chunks(BATCH) {
        for payload in batch {
            let record = Record { offset, payload: Some(payload), ..Record::default() };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
            offset += 1;
        }
        let start = Instant::now();
        pipeline.rows(&mut partitions, &mut counts, |row| {
            rows += 1;
            sum += f64::from(row.features[0]);
        });
        if offset as usize > count / 3 {
            took += start.elapsed();
            timed += batch.len();
        }
    }
    let held = partitions.users() as usize;
    println!("features: {:.0} events/s on one core, rows included", timed as f64 / took.as_secs_f64());
    let key = "u0000000".len();
    let bound = pipeline.profile().profile_bytes().user_max;
    let counted = partitions.get(0).map_or(0, |it| it.store().bytes()) / held - key;
    println!(
        "features: {counted} bytes a user beside the key, counted; the bound that `aimpoint check` prints: {bound}"
    );
    if let (Some(before), Some(after), true) = (before, resident(), is_bench) {
        let measured = after.saturating_sub(before) / held - key;
        println!("features: {measured} bytes a user of process memory beside the key");
        assert!(measured.max(counted) <= bound, "a user takes more than the bound");
    }
    assert_eq!(
        (rows, counts.events as usize, sum >= rows as f64 * 0.0),
        (count, count, true),
        "every event has its row"
    );
    outbox.clear();
    let written = partitions.write_profiles(0, true, (usize::MAX, usize::MAX), pipeline.layout(), &mut outbox);
    assert_eq!(written, held, "every profile has a record");
    println!("features: {} bytes a record of the changelog, its key included, uncompressed", outbox.bytes() / written);
    drop((partitions, pipeline));
    let (users, count) = if is_bench { (1_000_000, 3_000_000) } else { (2_000, 5_000) };
    memory(users, &workload::events(count, users));
}
