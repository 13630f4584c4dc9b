//! How many rows per second does a model score, by batch size, from matrix to scores? How much of ONNX Runtime's raw
//! speed is that? And what do explanations cost?
//!
//! A good answer is 85 % of plain ONNX Runtime at batches of 256, with the same session settings and values; and less
//! than 5 % of a pipeline's throughput if one decision in a hundred is explained. The networks have 16 features and 10
//! hidden units, and 64 and 256; the boosted trees are those of tests/models, with 12 trees of 7 leaves over 4
//! features. Both sides take turns on one core, and the best of several rounds counts, so that other processes affect
//! both alike. `cargo test` runs a small version to keep the bench working.
//!
//! With `-- --provider cuda` (or `tensorrt`) the question is instead: does that provider give the CPU's scores, and at
//! how many rows per second? That needs a GPU and an ONNX Runtime built for it (ORT_DYLIB_PATH); otherwise it says what
//! is missing.

#![expect(clippy::print_stdout, reason = "a bench prints its figure")]

#[path = "workload/bare.rs"]
mod bare;
mod workload;

use aimpoint::{
    engine::{Partition, Partitions, Pipeline},
    event::{EventTime, Record},
    inference::{BatchSpec, Explainer, FeatureMatrix, Model, ModelError, ModelSpec, OnnxModel, Runtime, batch},
    sink::Outbox,
    status::Counts,
    training::{Identity, Layer, Network, encode},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    error::Error,
    hint::black_box,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};
use workload::{BATCH, events, spec};

const ROWS: [usize; 5] = [1, 16, 64, 256, 1_024];

/// How far a score on another provider may differ from the CPU's, because kernels round differently.
const TOLERANCE: f32 = 1e-4;

type Outcome = Result<(), Box<dyn Error>>;

/// The length of the bench, and of its small version.
#[derive(Clone, Copy)]
struct Effort {
    rounds: usize,
    round: Duration,
    events: usize,
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("f{number}")).collect()
}

/// A network of this size with random weights; only its size matters.
fn network(features: &[String], hidden: usize) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(7);
    let mut draw = |count: usize| -> Vec<f32> { (0..count).map(|_| random.random_range(-0.5..0.5)).collect() };
    let width = features.len();
    let mean = draw(width);
    let first = Layer { weight: draw(width * hidden), bias: draw(hidden) };
    let output = Layer { weight: draw(hidden), bias: vec![0.1] };
    let network = Network { mean, deviation: vec![1.5; width], branches: vec![vec![first, output]] };
    encode(&network, features, &Identity { name: "bench".to_owned(), ..Identity::default() })
}

fn load(runtime: &Runtime, bytes: &[u8], features: &[String], provider: &str) -> Result<OnnxModel, ModelError> {
    let spec = ModelSpec { providers: vec![provider.to_owned()], ..ModelSpec::at("bench.onnx") };
    OnnxModel::from_bytes(runtime, &spec, bytes.to_vec(), features, "")
}

/// Seconds per run on each side, the best of all rounds. The sides take turns.
fn compare(mut sides: [&mut dyn FnMut(); 2], effort: Effort) -> [f64; 2] {
    // The first runs grow buffers; the next one determines how many runs make a round.
    let mut runs = [0_u32; 2];
    for (side, runs) in sides.iter_mut().zip(&mut runs) {
        (0..3).for_each(|_| side());
        let start = Instant::now();
        side();
        *runs = (effort.round.as_secs_f64() / start.elapsed().as_secs_f64().max(1e-7)).clamp(1.0, 1e6) as u32;
    }
    let mut best = [f64::INFINITY; 2];
    for _ in 0..effort.rounds {
        for ((side, runs), best) in sides.iter_mut().zip(runs).zip(&mut best) {
            let start = Instant::now();
            (0..runs).for_each(|_| side());
            *best = best.min(start.elapsed().as_secs_f64() / f64::from(runs));
        }
    }
    best
}

fn random_rows(rows: usize, width: usize) -> FeatureMatrix {
    let mut random = SmallRng::seed_from_u64(3);
    let mut matrix = FeatureMatrix::new(width);
    matrix.reset(rows).fill_with(|| random.random_range(-2.0..2.0));
    matrix
}

fn rates(runtime: &Runtime, name: &str, bytes: &[u8], features: usize, effort: Effort) -> Outcome {
    let mut model = load(runtime, bytes, &names(features), "cpu")?;
    let mut session = bare::open(runtime, bytes)?;
    let mut scores = Vec::new();
    for rows in ROWS {
        let matrix = random_rows(rows, features);
        let mut own = || {
            model.score(&matrix, &mut scores).expect("the model runs");
            black_box(scores.iter().copied().fold(0.0, f32::max));
        };
        let mut bare = || {
            let most = |scores: &[f32]| scores.iter().copied().fold(0.0, f32::max);
            black_box(bare::run(&mut session, matrix.values(), features, most).expect("the model runs"));
        };
        let [own, bare] = compare([&mut own, &mut bare], effort);
        println!(
            "inference {name} {rows:4} rows: {:.0} rows/s, {:.0} rows/s by ONNX Runtime alone, {:.0} %",
            rows as f64 / own,
            rows as f64 / bare,
            100.0 * bare / own
        );
    }
    Ok(())
}

/// Compares scores and speed on another provider with the CPU.
fn beside_the_cpu(
    runtime: &Runtime,
    name: &str,
    bytes: &[u8],
    features: usize,
    provider: &str,
    effort: Effort,
) -> Outcome {
    let mut other = load(runtime, bytes, &names(features), provider)?;
    let mut cpu = load(runtime, bytes, &names(features), "cpu")?;
    let (mut scores, mut owed) = (Vec::new(), Vec::new());
    for rows in ROWS.into_iter().chain([4_096, 16_384]) {
        let matrix = random_rows(rows, features);
        other.score(&matrix, &mut scores)?;
        cpu.score(&matrix, &mut owed)?;
        let furthest = scores.iter().zip(&owed).map(|(score, owed)| (score - owed).abs()).fold(0.0, f32::max);
        if furthest > TOLERANCE || scores.len() != owed.len() {
            return Err(format!("{name}, {rows} rows: a score on {provider} is {furthest} from the CPU's").into());
        }
        let mut on_other = || other.score(&matrix, &mut scores).expect("the model runs");
        let mut on_cpu = || cpu.score(&matrix, &mut owed).expect("the model runs");
        let [on_other, on_cpu] = compare([&mut on_other, &mut on_cpu], effort);
        println!(
            "inference {name} {rows:5} rows: {:.0} rows/s on {provider}, {:.0} rows/s on one CPU core, scores within {furthest:.1e}",
            rows as f64 / on_other,
            rows as f64 / on_cpu
        );
    }
    Ok(())
}

/// Rows per second of workers that share one model, each with batches of 256.
fn joined(runtime: &Runtime, bytes: &[u8], features: usize, provider: &str, effort: Effort) -> Outcome {
    for workers in [1, 4, 16] {
        let model = load(runtime, bytes, &names(features), provider)?;
        let ends = batch(Box::new(model), BatchSpec::default(), Duration::from_secs(1), workers)?;
        let matrix = random_rows(256, features);
        let turns = 50 * effort.rounds;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for mut end in ends {
                let matrix = &matrix;
                scope.spawn(move || {
                    let mut scores = Vec::new();
                    (0..turns).for_each(|_| end.score(matrix, &mut scores).expect("the model runs"));
                });
            }
        });
        let rows = workers * turns * matrix.rows();
        println!(
            "inference joined on {provider}: {:.0} rows/s for {workers} workers with 256 rows each",
            rows as f64 / start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// How many explanations a pipeline batch contains at a share of 0.01.
const TOGETHER: usize = BATCH.div_ceil(100);

/// Seconds per explanation without the pipeline around it: the cost behind the share, without its noise.
fn alone(runtime: &Runtime, explain: &str, features: &[String], effort: Effort) -> Result<f64, Box<dyn Error>> {
    let mut model = load(runtime, &network(features, 10), features, "cpu")?;
    let baseline = model.info().baseline.clone().ok_or("the network has no baseline")?;
    let explain = toml::from_str(explain).expect("a sound section");
    let mut explainer = Explainer::new(&explain, features, baseline).map_err(|(key, why)| format!("{key}: {why}"))?;
    let matrix = random_rows(TOGETHER, features.len());
    let mut best = f64::INFINITY;
    for round in 0..20 * effort.rounds as u64 {
        let rows: Vec<(&[f32], u64)> = (0..TOGETHER).map(|row| (matrix.row(row), 100 * round + row as u64)).collect();
        let start = Instant::now();
        black_box(explainer.explain_all(&mut model, &rows)?);
        best = best.min(start.elapsed().as_secs_f64() / TOGETHER as f64);
    }
    Ok(best)
}

/// Seconds per event through the whole pipeline by share, the best of several rounds over the same events.
fn explained(runtime: &Runtime, name: &str, explain: &str, events: &[Vec<u8>], effort: Effort) -> Outcome {
    let mut best = [f64::INFINITY; 2];
    let features = Pipeline::compile(&spec(), "clickstream").expect("the specification compiles").model_features();
    let alone = alone(runtime, explain, &features, effort)?;
    for _ in 0..effort.rounds {
        for (share, best) in [0.0, 0.01].into_iter().zip(&mut best) {
            let mut spec = spec();
            spec.explain = toml::from_str(explain).expect("a sound section");
            spec.explain.share = share;
            let pipeline = Pipeline::compile(&spec, "clickstream").expect("the specification compiles");
            let model = load(runtime, &network(&features, 10), &features, "cpu")?;
            let mut pipeline = pipeline.with_model(Box::new(model)).expect("it fits");
            let mut partitions = Partitions::default();
            partitions.insert(0, Partition::new(0, 0, None));
            let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
            let start = Instant::now();
            for (number, payload) in events.iter().enumerate() {
                let record = Record { offset: number as i64, payload: Some(payload), ..Record::default() };
                pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
                if (number + 1).is_multiple_of(BATCH) {
                    pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
                    outbox.clear();
                }
            }
            *best = best.min(start.elapsed().as_secs_f64() / events.len() as f64);
        }
    }
    let [without, with] = best.map(|each| each * 1e9);
    println!(
        "inference explain, {name}: {without:.0} ns/event without, {with:.0} ns/event at a share of 0.01, {:.1} % of the throughput, {:.1} µs an explanation, {:.1} µs outside the pipeline, {TOGETHER} together",
        100.0 * (1.0 - without / with),
        (with - without) / 10.0,
        alone * 1e6
    );
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("inference: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    let is_bench = arguments.iter().any(|argument| argument == "--bench");
    let effort = if is_bench {
        Effort { rounds: 15, round: Duration::from_millis(20), events: 300_000 }
    } else {
        Effort { rounds: 1, round: Duration::from_millis(1), events: 4_096 }
    };
    let runtime = Runtime::load(None)?;
    let (small, wide) = (network(&names(16), 10), network(&names(64), 256));
    let trees = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/fixtures/lightgbm.onnx"))?;
    let models = [("small network", &small, 16), ("wide network", &wide, 64), ("boosted trees", &trees, 4)];
    if let Some(at) = arguments.iter().position(|argument| argument == "--provider") {
        let provider = arguments.get(at + 1).ok_or("--provider takes cpu, cuda or tensorrt")?;
        for (name, bytes, features) in models {
            beside_the_cpu(&runtime, name, bytes, features, provider, effort)?;
        }
        return joined(&runtime, &wide, 64, provider, effort);
    }
    for (name, bytes, features) in models {
        rates(&runtime, name, bytes, features, effort)?;
    }
    let events = events(effort.events, 20_000);
    let groups = r#"groups = { views = ["page_view_5m", "page_view_1h", "page_view_24h"], clicks = ["click_5m", "click_1h", "click_24h"], carts = ["add_to_cart_5m", "add_to_cart_1h", "add_to_cart_24h"], purchases = ["purchase_5m", "purchase_1h", "purchase_24h", "spent"], visits = ["dwell", "since_last", "hour"] }"#;
    explained(&runtime, "5 groups", groups, &events, effort)?;
    explained(&runtime, "16 features, 2 samples", "samples = 2", &events, effort)?;
    explained(&runtime, "16 features, 4 samples", "samples = 4", &events, effort)?;
    explained(&runtime, "16 features, 32 samples", "", &events, effort)
}
