//! How many events a second do the profiles of one core take, their feature rows included? And how many bytes has a user?
//!
//! A good answer is over 2 million events a second and below 300 bytes a user beside the key, for 16 features over three
//! window lengths, 200,000 users by a flattened Zipf law, batches of 512. Decoding is not timed. Bytes are those of the
//! process, the allocator's own included. Under `cargo test` it is a small run, to keep it alive.

#![expect(clippy::print_stdout, reason = "a bench prints its figure")]

mod workload;

use aimpoint::{
    engine::{Counts, Partition, Partitions, Pipeline},
    event::Record,
    sink::Outbox,
    state::{OPEN_SHARE, TABLE_BYTES_MAX},
};
use std::time::{Duration, Instant};
use workload::{BATCH, events, spec};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The resident memory of this process in bytes; nothing where the system does not tell.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
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
    let (least, most) = pipeline.profile().profile_bytes();
    let bound = TABLE_BYTES_MAX + least + most / OPEN_SHARE;
    let (keys_and_profiles, store) = (partitions.get(0).map_or(0, |it| it.store().bytes()), held.max(1));
    println!("features: {} bytes a user beside the key, counted", keys_and_profiles / store - key);
    if let (Some(before), Some(after), true) = (before, resident(), is_bench) {
        let measured = after.saturating_sub(before) / store - key;
        println!(
            "features: {measured} bytes a user of process memory beside the key; a user with one event and its share of those in use: {bound}"
        );
    }
    assert_eq!(
        (rows, counts.events as usize, sum >= rows as f64 * 0.0),
        (count, count, true),
        "every event has its row"
    );
}
