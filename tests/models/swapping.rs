//! A real model in a folder that changes while a worker runs, and a real model that exceeds its deadline.

use super::{
    runtime,
    serving::{SPEC, event},
    worker_settings,
};
use aimpoint::{
    engine::{Partition, Partitions, Pipeline, PipelineSpec, Worker},
    event::{EventTime, Record},
    inference::{
        CheckOutcome, Exactness, FallbackReason, Manifest, Model, ModelFiles, ModelFolder, ModelSpec, ModelWatcher,
        OnnxModel, Refusal, batch, validate,
    },
    metrics,
    sink::{Outbox, Target},
    status::{Counts, Progress},
    testkit::{FakeClock, Faults, InputRecord, MemoryBroker, Place},
    training::{Identity, Layer, Network, encode},
};
use serde_json::Value;
use std::{fs, time::Duration};

const FEATURES: [&str; 2] = ["spent", "count"];
const EVENTS: usize = 2_000;

/// A network over the two features with this many hidden units; the bias distinguishes the networks.
fn network(hidden: usize, bias: f32) -> Vec<u8> {
    let weights = |count: usize, scale: f32| (0..count).map(|at| ((at * 37 % 11) as f32 - 5.0) * scale).collect();
    let first = Layer { weight: weights(2 * hidden, 0.1), bias: weights(hidden, 0.02) };
    let output = Layer { weight: weights(hidden, 1.0 / hidden as f32), bias: vec![bias] };
    let network =
        Network { mean: vec![100.0, 100.0], deviation: vec![80.0, 90.0], branches: vec![vec![first, output]] };
    encode(&network, &FEATURES.map(str::to_owned), &Identity { name: "net".to_owned(), ..Identity::default() })
}

fn put(folder: &ModelFolder, version: &str, bytes: &[u8]) {
    let files = ModelFiles::from(bytes.to_vec());
    let sha256 = files.sha256();
    let manifest = Manifest { name: "net".to_owned(), file: "model.onnx".into(), sha256, ..Manifest::default() };
    folder.add(version, &files, &manifest).unwrap();
}

fn load(spec: &ModelSpec, files: impl Into<ModelFiles>) -> Result<OnnxModel, Refusal> {
    OnnxModel::from_bytes(&runtime(), spec, files, &[], "").map_err(|error| Refusal::Unfit(error.to_string()))
}

fn payload(number: usize) -> Vec<u8> {
    event(number, number % 7, 1.0)
}

fn compile() -> Pipeline {
    let spec: PipelineSpec = toml::from_str(SPEC).unwrap();
    Pipeline::compile(&spec, "clicks").unwrap()
}

/// The scores of a version for all events.
fn scores_of(bytes: Vec<u8>) -> Vec<f64> {
    let model = load(&ModelSpec::at("model.onnx"), bytes).unwrap();
    let decisions = decide(&mut compile().with_model(Box::new(model)).unwrap(), &mut held(), 0..EVENTS);
    decisions.iter().map(|it| it["score"]["raw"].as_f64().unwrap()).collect()
}

fn held() -> Partitions {
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    partitions
}

/// Runs events through a pipeline in one batch.
fn decide(pipeline: &mut Pipeline, partitions: &mut Partitions, numbers: std::ops::Range<usize>) -> Vec<Value> {
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    for number in numbers {
        let payload = payload(number);
        let record = Record { offset: number as i64, payload: Some(&payload), ..Record::default() };
        pipeline.take(&record, partitions, &mut outbox, &mut counts);
    }
    pipeline.run(partitions, EventTime(0), &mut outbox, &mut counts);
    let outputs = (0..outbox.len()).map(|index| outbox.get(index));
    let decisions = outputs.filter(|output| output.target == Target::Decisions);
    decisions.map(|output| serde_json::from_slice(output.payload.unwrap()).unwrap()).collect()
}

#[test]
fn new_versions_are_swapped_in_while_a_worker_runs_and_bad_ones_are_refused() {
    metrics::start("app", "group");
    let recorded = |name: &str, label: &str| {
        let all = metrics::recorded();
        let family = all.iter().find(|it| it.family.name == name)?;
        family.numbers().find(|(labels, _)| *labels == [label]).map(|(_, number)| number)
    };
    let versions = |outcome: &str| recorded("aimpoint_model_versions_total", outcome);
    // Metrics used in alerts exist from the start, so that their first increase is visible.
    for reason in FallbackReason::ALL {
        assert!(recorded("aimpoint_fallbacks_total", reason.as_str()).is_some(), "{reason:?}");
    }
    for outcome in ["handed_over", "unreadable", "unfit", "slow", "wrong_scores"] {
        assert!(versions(outcome).is_some(), "{outcome}");
    }
    for reason in ["too_late", "bot"] {
        assert!(recorded("aimpoint_suppressed_total", reason).is_some(), "{reason}");
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = ModelFolder::at(dir.path());
    let (one, two, six) = (network(10, 0.0), network(10, 1.0), network(10, -1.0));
    put(&folder, "1", &one);
    let spec = ModelSpec { deadline: Duration::from_secs(5), ..ModelSpec::at(dir.path()) };
    let (first, bytes, _) = folder.read("1", &spec).unwrap();
    let first = load(&first, bytes).unwrap();
    let from = (folder.clone(), spec);
    let (mut watcher, mailboxes) =
        ModelWatcher::new(folder.clone(), "1", 1, Duration::from_mins(1), move |version, copies| {
            let (spec, bytes, manifest) =
                from.0.read(version, &from.1).map_err(|error| Refusal::Unreadable(error.to_string()))?;
            let mut model = load(&spec, bytes)?;
            let limit = if version == "5" { Duration::from_millis(1) } else { spec.deadline };
            validate(&mut model, manifest.golden.as_ref(), Exactness::Full, 256, limit)?;
            Ok(model.copies(copies).unwrap())
        });
    let input = |number| InputRecord {
        payload: Some(payload(number)),
        timestamp_ms: 1_700_000_000_000,
        ..InputRecord::default()
    };
    let errors = Faults { abortable: 50, unknown: 50, ..Faults::default() };
    let broker = MemoryBroker::new(vec![(0..EVENTS).map(input).collect()], true, errors, 3);
    broker.produce(0, EVENTS);
    let (source, sink) = broker.join(0);
    let pipeline = compile().with_model(Box::new(first)).unwrap();
    let pipeline = mailboxes.into_iter().fold(pipeline, |pipeline, feed| pipeline.with_feed(0, Box::new(feed)));
    let mut worker = Worker::new(worker_settings(), source, sink, FakeClock::default(), pipeline, Progress::default());
    // The versions added while decisions are committed, with the expected outcome.
    let half = network(10, 2.0);
    let mut steps = [
        ("2", two.clone(), "handed_over"),
        ("3", half, "unreadable"),
        ("4", network(10, f32::NAN), "wrong_scores"),
        ("5", network(20_000, 0.0), "slow"),
        ("6", six.clone(), "handed_over"),
    ]
    .into_iter();
    let decided = || broker.all_committed(Place::Decisions(0)).len();
    let mut next = EVENTS / 6;
    for turn in 0.. {
        if broker.is_done() {
            break;
        }
        assert!(turn < 100_000, "the worker makes no progress");
        if decided() >= next
            && let Some((version, bytes, outcome)) = steps.next()
        {
            next += EVENTS / 6;
            let before = versions(outcome);
            put(&folder, version, &bytes);
            if version == "3" {
                fs::write(dir.path().join("3/model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
            }
            match watcher.check() {
                CheckOutcome::HandedOver(it) => assert_eq!((it.as_str(), outcome), (version, "handed_over")),
                CheckOutcome::Refused(it, refusal) => {
                    assert_eq!((it.as_str(), refusal.label()), (version, outcome), "{refusal}");
                }
                CheckOutcome::Same => panic!("version {version} was not seen"),
            }
            assert_eq!(versions(outcome), before.map(|count| count + 1.0), "{outcome}");
        }
        broker.tick(1_000_000, 1_000_000);
        worker.turn().unwrap();
    }
    assert!(steps.next().is_none(), "all versions were added while the worker ran");
    let owed = [("1", scores_of(one)), ("2", scores_of(two)), ("6", scores_of(six))];
    let mut served = Vec::new();
    let decisions = broker.all_committed(Place::Decisions(0));
    assert_eq!(decisions.len(), EVENTS, "no event is lost");
    for (offset, output) in decisions.iter().enumerate() {
        let decision: Value = serde_json::from_slice(output.payload.as_deref().unwrap()).unwrap();
        assert_eq!(decision["input"]["offset"], offset.to_string(), "in order");
        let version = decision["model"]["version"].as_str().unwrap().to_owned();
        let (_, scores) = owed.iter().find(|(owed, _)| *owed == version).expect("no bad version decides");
        let score = decision["score"]["raw"].as_f64().unwrap();
        assert!((score - scores[offset]).abs() < 1e-6, "offset {offset}: {score} by version {version}");
        if served.last() != Some(&version) {
            served.push(version);
        }
    }
    assert_eq!(served, ["1", "2", "6"]);
}

#[test]
fn decisions_fall_back_while_a_model_exceeds_its_deadline() {
    // The three rows at loading take a millisecond or two, but 768 take several deadlines.
    let spec = ModelSpec { deadline: Duration::from_millis(40), ..ModelSpec::at("slow.onnx") };
    let model = load(&spec, network(100_000, 0.5)).unwrap();
    let (mut pipeline, mut partitions) = (compile().with_model(Box::new(model)).unwrap(), held());
    let mut start = 0;
    for (rows, owed) in [(2, Value::Null), (768, "model_late".into()), (2, Value::Null)] {
        let decisions = decide(&mut pipeline, &mut partitions, start..start + rows);
        start += rows;
        assert_eq!(decisions.len(), rows);
        for decision in decisions {
            assert_eq!(decision["status_reason"], owed, "{rows} rows");
            assert_eq!(decision["status"] == "STATUS_FALLBACK", owed != Value::Null);
            assert_eq!(decision["score"]["raw"].is_number(), owed == Value::Null);
        }
    }
}

/// The batcher for GPUs, with a real model on the CPU.
#[test]
fn workers_that_share_a_real_model_get_the_scores_of_their_own_rows() {
    let mut alone = super::load("lightgbm", |_| {}).unwrap();
    let matrix = super::matrix("lightgbm", &alone);
    let mut owed = Vec::new();
    alone.score(&matrix, &mut owed).unwrap();
    let spec = aimpoint::inference::BatchSpec { max_rows: 32, max_delay: Duration::from_millis(5) };
    let ends = batch(Box::new(alone), spec, Duration::from_secs(10), 4).unwrap();
    std::thread::scope(|scope| {
        for (worker, mut end) in ends.into_iter().enumerate() {
            let (matrix, owed) = (&matrix, &owed);
            scope.spawn(move || {
                let mut scores = Vec::new();
                for turn in 0..20 {
                    let from = (worker * 3 + turn) % (matrix.rows() - 1);
                    let rows = from..matrix.rows();
                    let mut part = aimpoint::inference::FeatureMatrix::new(matrix.width());
                    part.reset(rows.len()).copy_from_slice(&matrix.values()[from * matrix.width()..]);
                    end.score(&part, &mut scores).unwrap();
                    let near = scores.iter().zip(&owed[rows]).all(|(score, owed)| (score - owed).abs() < 1e-6);
                    assert!(near && scores.len() == part.rows(), "worker {worker}, turn {turn}");
                }
            });
        }
    });
}
