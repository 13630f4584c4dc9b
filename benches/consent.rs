//! What do the consent gate and erasures cost?
//!
//! A good answer for erasures: one takes a few microseconds, and 100,000 that are remembered cost an event of others less than 1 %.
//! The last two lines say so, by the same pipeline with the same events in turns.
//!
//! A good answer for the gate: with 10,000 distinct strings in use, less than 5 % of what an event costs in the pipeline. The line before them says
//! so: the same events, each with a string that permits everything, run through the whole pipeline with the gate off and on in
//! turns. It includes that the string's field is read. There, a user keeps one string. Strings are chosen by Zipf's law with
//! exponent 1, have bits for 800 to 1,200 vendors as those of large platforms do, and are 300 to 410 bytes long. Measured is the
//! thread's own processor time, and beside it: the mere reading of the strings' bytes, which a pipeline has just parsed, an
//! event that has no string and follows the remembered one, a string that was never seen, and the same string read by
//! `iab_gpp`. `cargo test` runs a small version to keep the bench working.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

mod workload;

use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{ERASE_VERSION, EventTime, Record},
    privacy::consent::{ConsentGate, ConsentSpec, RememberedConsent, Signals},
    sink::Outbox,
    status::Counts,
    testkit::consent::{JUNE, Tc, Vendors, gpp, us_section},
};
use std::{collections::HashMap, hint::black_box, time::Duration};
use workload::{BATCH, events, spec};

/// The id of the vendor that the gate works for.
const VENDOR: usize = 755;

const NOW: i64 = (JUNE as i64 + 86_400) * 1_000_000;

/// A generator of pseudorandom numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn tc_string(random: &mut Random) -> String {
    let vendors = 800 + (random.next() % 400) as usize;
    let share = 2 + random.next() % 8;
    let mut field = || Vendors::Field((0..vendors).map(|_| random.next() % 10 < share).collect());
    let (vendor_consent, vendor_interest) = (field(), field());
    Tc { last_updated: JUNE - random.next() % 30_000_000, vendor_consent, vendor_interest, ..Tc::default() }.text()
}

fn gate(strings_max: usize) -> ConsentGate {
    ConsentGate::new(consent(strings_max).compile(&mut Vec::new()).expect("the settings are right"))
}

fn consent(strings_max: usize) -> ConsentSpec {
    ConsentSpec {
        enabled: true,
        vendor_id: Some(VENDOR as u16),
        without_law: Some(Vec::new()),
        strings_max,
        ..ConsentSpec::default()
    }
}

/// The events of the workload, each with one of so many strings that permit everything to the vendor.
fn events_with_strings(count: usize, users: usize, distinct: usize, random: &mut Random) -> Vec<Vec<u8>> {
    let strings: Vec<String> = (0..distinct)
        .map(|_| {
            let vendors = 800 + (random.next() % 400) as usize;
            let mut field = || Vendors::Field((1..=vendors).map(|id| id == VENDOR || random.next() % 10 < 5).collect());
            let (vendor_consent, vendor_interest) = (field(), field());
            // The workload is of January 2026.
            let last_updated = JUNE - 15_000_000 - random.next() % 10_000_000;
            Tc { last_updated, vendor_consent, vendor_interest, ..Tc::default() }.text()
        })
        .collect();
    let mut events = events(count, users);
    // A user keeps a string for long.
    let mut ranks = HashMap::new();
    for event in &mut events {
        let user =
            serde_json::from_slice::<serde_json::Value>(event).expect("the workload is JSON")["user_id"].to_string();
        let rank = || ((distinct as f64).powf(random.unit()) as usize).min(distinct - 1);
        let rank = *ranks.entry(user).or_insert_with(rank);
        let text = format!(r#","consent":{{"gdpr_applies":true,"tc_string":"{}"}}}}"#, strings[rank]);
        event.pop();
        event.extend_from_slice(text.as_bytes());
    }
    events
}

/// The processor time of these events in the whole pipeline, with the gate or without.
fn pipeline(events: &[Vec<u8>], has_gate: bool) -> Duration {
    let spec = if has_gate { PipelineSpec { consent: consent(16_384), ..spec() } } else { spec() };
    let mut pipeline = Pipeline::compile(&spec, "clickstream").expect("the specification compiles");
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    let began = cpu();
    for (number, batch) in events.chunks(BATCH).enumerate() {
        for (offset, payload) in (number * BATCH..).zip(batch) {
            let record = Record { offset: offset as i64, payload: Some(payload), ..Record::default() };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        }
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        outbox.clear();
    }
    assert_eq!((counts.decisions, counts.suppressed_total()), (events.len() as u64, 0), "everything is permitted");
    cpu().saturating_sub(began)
}

/// A pipeline in which so many users were erased who have no other event, at an offset behind the requests.
fn after_erasures(erased: usize) -> (Pipeline, Partitions, i64) {
    let mut pipeline = Pipeline::compile(&spec(), "clickstream").expect("the specification compiles");
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let ids: Vec<String> = (0..erased).map(|number| format!("gone-{number}")).collect();
    erase(&mut pipeline, &mut partitions, 0, ids.iter().map(String::as_bytes));
    assert_eq!(partitions.get(0).expect("it was put in").store().erasures().len(), erased);
    (pipeline, partitions, erased as i64)
}

/// Erases users, and writes what the changelog needs of that.
fn erase<'a>(pipeline: &mut Pipeline, partitions: &mut Partitions, offset: i64, users: impl Iterator<Item = &'a [u8]>) {
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    for (offset, user) in (offset..).zip(users) {
        // Before the events, which then count.
        let record = Record {
            offset,
            timestamp_ms: Some(1_767_222_000_000),
            key: Some(user),
            erase: Some(ERASE_VERSION.as_bytes()),
            ..Record::default()
        };
        pipeline.take(&record, partitions, &mut outbox, &mut counts);
        if pipeline.batch_rows() == BATCH {
            pipeline.run(partitions, EventTime(0), &mut outbox, &mut counts);
            partitions.write_erasures(pipeline.layout(), &mut outbox);
            outbox.clear();
        }
    }
    pipeline.run(partitions, EventTime(0), &mut outbox, &mut counts);
    partitions.write_erasures(pipeline.layout(), &mut outbox);
}

/// The processor time of these events while so many erasures are remembered.
fn beside_erasures(events: &[Vec<u8>], erased: usize) -> Duration {
    let (mut pipeline, mut partitions, start) = after_erasures(erased);
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    let began = cpu();
    for (number, batch) in events.chunks(BATCH).enumerate() {
        for (offset, payload) in (start + (number * BATCH) as i64..).zip(batch) {
            let record = Record { offset, payload: Some(payload), ..Record::default() };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        }
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        outbox.clear();
    }
    assert_eq!((counts.decisions, counts.suppressed_total()), (events.len() as u64, 0), "nobody else was erased");
    cpu().saturating_sub(began)
}

/// The processor time of erasing all users of these events who have a profile, and how many those are.
fn erase_all(events: &[Vec<u8>]) -> (Duration, usize) {
    let (mut pipeline, mut partitions, _) = after_erasures(0);
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    for (offset, payload) in (0..).zip(events) {
        let record = Record { offset, payload: Some(payload), ..Record::default() };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        if pipeline.batch_rows() == BATCH {
            pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
            outbox.clear();
        }
    }
    pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
    let store = partitions.get(0).expect("it was put in").store();
    let users: Vec<Vec<u8>> = store.iter().map(|(key, _)| key.to_vec()).collect();
    let began = cpu();
    erase(&mut pipeline, &mut partitions, events.len() as i64, users.iter().map(Vec::as_slice));
    let took = cpu().saturating_sub(began);
    assert!(partitions.get(0).expect("it was put in").store().is_empty(), "nobody is left");
    (took, users.len())
}

/// The time that this thread has run for. Other processes' time is not in it.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn measure(name: &str, events: usize, mut event: impl FnMut(usize)) {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let began = cpu();
        for number in 0..events {
            event(number);
        }
        best = best.min(cpu().saturating_sub(began));
    }
    println!("{name:<52} {:>9.1} ns/event", best.as_secs_f64() * 1e9 / events as f64);
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (count, events, fresh_events) = if is_bench { (10_000, 1_000_000, 20_000) } else { (20, 200, 10) };
    let mut random = Random(7);
    let strings: Vec<String> = (0..count).map(|_| tc_string(&mut random)).collect();
    // Zipf with exponent 1: the rank's logarithm is uniform.
    let order: Vec<u32> =
        (0..events).map(|_| ((count as f64).powf(random.unit()) as usize).min(count - 1) as u32).collect();
    let even: Vec<u32> = (0..events).map(|_| (random.next() % count as u64) as u32).collect();
    let nothing = RememberedConsent::default();
    let signals = |text| Signals { gdpr: Some(true), tc_string: text, country: "DE", ..Signals::default() };
    measure("only the bytes of the strings, Zipf", events, |number| {
        black_box(strings[order[number] as usize].bytes().fold(0, u8::wrapping_add));
    });
    for (name, order, strings_max) in [
        ("TC string, Zipf, 16,384 kept", &order, 16_384),
        ("TC string, Zipf, 4,096 kept", &order, 4_096),
        ("TC string, evenly chosen, 16,384 kept", &even, 16_384),
    ] {
        let mut gate = gate(strings_max);
        for text in &strings {
            black_box(gate.decide(&signals(text), &nothing, NOW));
        }
        let before = gate.counts();
        measure(name, events, |number| {
            let text = &strings[order[number] as usize];
            black_box(gate.decide(&signals(text), &nothing, NOW));
        });
        let (hits, misses) = (gate.counts().hits - before.hits, gate.counts().misses - before.misses);
        println!("    {:.2} % of the strings were read again", 100.0 * misses as f64 / (hits + misses) as f64);
    }
    let mut gate = gate(16_384);
    let kept = gate.observe(&signals(&strings[0]), NOW);
    let silent = Signals { country: "DE", ..Signals::default() };
    measure("no string, remembered", events, |_| {
        black_box(gate.decide(black_box(&silent), black_box(&kept), NOW));
    });
    let national = gpp(&[(7, &us_section(2, &[&[0; 29][..], &[2, 0, 0]].concat()))]);
    let us = Signals { gpp: &national, country: "US", region: "CA", ..Signals::default() };
    measure("GPP string (usnat)", events, |_| {
        black_box(gate.decide(black_box(&us), &nothing, NOW));
    });
    let none = Signals { country: "XY", ..Signals::default() };
    measure("no string, no law", events, |_| {
        black_box(gate.decide(black_box(&none), &nothing, NOW));
    });
    let fresh: Vec<String> = (0..5 * fresh_events).map(|_| tc_string(&mut random)).collect();
    let mut next = 0;
    measure("TC string never seen before", fresh_events, |_| {
        black_box(gate.decide(&signals(&fresh[next]), &nothing, NOW));
        next += 1;
    });
    measure("the same, read by iab_gpp alone", fresh_events.min(500), |number| {
        black_box(fresh[number].parse::<iab_gpp::sections::tcfeuv2::TcfEuV2>().is_ok());
    });
    let mut number = 0_u64;
    measure("GPP string (usnat) never seen before", fresh_events, |_| {
        number += 1;
        let mut fields = [0; 32];
        for (at, field) in fields.iter_mut().enumerate() {
            *field = number >> at & 1;
        }
        fields[29] = 2;
        let text = gpp(&[(7, &us_section(2, &fields))]);
        black_box(gate.decide(&Signals { gpp: &text, ..us }, &nothing, NOW));
    });
    let (count, users) = if is_bench { (600_000, 200_000) } else { (1_000, 200) };
    let events = events_with_strings(count, users, strings.len(), &mut random);
    let mut best = [Duration::MAX; 2];
    for _ in 0..if is_bench { 5 } else { 1 } {
        for (best, has_gate) in best.iter_mut().zip([false, true]) {
            *best = pipeline(&events, has_gate).min(*best);
        }
    }
    let [off, on] = best.map(|time| time.as_secs_f64() * 1e9 / count as f64);
    let cost = 100.0 * (1.0 - off / on);
    println!("whole pipeline: {off:.0} ns/event without the gate, {on:.0} with it: {cost:.1} % of the throughput");
    erasures(is_bench);
}

fn erasures(is_bench: bool) {
    let (count, users, held) = if is_bench { (600_000, 200_000, 100_000) } else { (1_000, 200, 100) };
    let events = events(count, users);
    let turns = if is_bench { 5 } else { 1 };
    let mut best = [Duration::MAX; 2];
    for _ in 0..turns {
        for (best, erased) in best.iter_mut().zip([0, held]) {
            *best = beside_erasures(&events, erased).min(*best);
        }
    }
    let [none, some] = best.map(|time| time.as_secs_f64() * 1e9 / count as f64);
    let share = 100.0 * none / some;
    println!(
        "{held} erasures remembered: {none:.0} ns/event without, {some:.0} with them: {share:.1} % of the throughput"
    );
    let (took, erased) = (0..turns).map(|_| erase_all(&events)).min().expect("there is a turn");
    println!(
        "an erasure of a user with a profile, {erased} in a row: {:.2} us",
        took.as_secs_f64() * 1e6 / erased as f64
    );
}
