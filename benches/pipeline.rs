//! How many events per second does one core process from JSON to an encoded decision, in memory? And where does the
//! time go?
//!
//! A good answer is several times what one core gets from a broker, so that the broker is the limit. Sixteen features
//! over three window lengths, 200,000 users by a flattened Zipf law, batches of 512, a flat JSON decision; with a
//! network of the demo's size if ONNX Runtime is available. `cargo test` runs a small version to keep the bench
//! working.

#![expect(clippy::print_stdout, reason = "a bench prints its figure")]

mod workload;

use aimpoint::{
    engine::{Partition, Partitions, Pipeline},
    event::{EventTime, Record},
    inference::{ModelSpec, OnnxModel, Runtime},
    sink::Outbox,
    status::Counts,
    training::{Dataset, Identity, TrainSpec, encode, train},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::time::{Duration, Instant};
use workload::{BATCH, events, spec};

/// A network with ten hidden units for these features, trained on noise; only its size matters.
fn model(pipeline: &Pipeline) -> OnnxModel {
    let features = pipeline.model_features();
    let mut random = SmallRng::seed_from_u64(7);
    let rows = 200;
    let data = Dataset {
        values: (0..rows * features.len()).map(|_| random.random_range(0.0..1.0)).collect(),
        labels: (0..rows).map(|row| row % 2 == 0).collect(),
        features: features.clone(),
        ..Dataset::default()
    };
    let spec = TrainSpec { epochs_max: 2, members: 1, ..TrainSpec::default() };
    let network = train(&data, &spec).expect("noise trains, too").network;
    let bytes = encode(&network, &features, &Identity { name: "bench".to_owned(), ..Identity::default() });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    std::fs::write(&path, bytes).expect("a file in it");
    let runtime = Runtime::load(None).expect("make onnxruntime fetches it");
    let spec: ModelSpec = toml::from_str(&format!("path = {:?}", path.display().to_string())).expect("a path");
    OnnxModel::load(&runtime, &spec, &features, pipeline.fingerprint()).expect("it is made for these features")
}

fn run(name: &str, mut pipeline: Pipeline, events: &[Vec<u8>], warm_up: usize) {
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    let [mut decoding, mut deciding] = [Duration::ZERO; 2];
    let mut offset = 0;
    for batch in events.chunks(BATCH) {
        if offset >= warm_up && offset - BATCH < warm_up {
            (decoding, deciding, counts) = (Duration::ZERO, Duration::ZERO, Counts::default());
        }
        let start = Instant::now();
        for payload in batch {
            let record = Record { offset: offset as i64, payload: Some(payload), ..Record::default() };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
            offset += 1;
        }
        let decoded = Instant::now();
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        decoding += decoded - start;
        deciding += decoded.elapsed();
        outbox.clear();
    }
    let nanos = |time: Duration| time.as_nanos() as f64 / counts.events as f64;
    println!(
        "pipeline {name}: {:.0} events/s on one core, {:.0} ns/event to decode, {:.0} ns/event to decide",
        counts.events as f64 / (decoding + deciding).as_secs_f64(),
        nanos(decoding),
        nanos(deciding)
    );
    assert_eq!(counts.decisions, counts.events, "every event has its decision");
}

fn main() {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (count, users) = if is_bench { (2_000_000, 200_000) } else { (20_000, 2_000) };
    let events = events(count, users);
    let compile = || Pipeline::compile(&spec(), "clickstream").expect("the specification compiles");
    run("without a model", compile(), &events, count / 4);
    let pipeline = compile();
    let model = model(&pipeline);
    run("with a model", pipeline.with_model(Box::new(model)).expect("it fits"), &events, count / 4);
}
