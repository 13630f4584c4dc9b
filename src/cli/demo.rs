//! `aimpoint demo`: the whole pipeline on real purchases, with a broker inside the process.
//!
//! Owns the steps of the demo and its output. Pipeline, configuration, model and data are real; the broker is librdkafka's
//! mock cluster. First all but the last [`PACED_EVENTS`] events are published and processed at full speed. Then the rest are
//! sent at a steady rate, and each is timed until its decision is read.

mod replay;
mod report;

use super::{Exit, files, signals::clean_up_on_signals};
use crate::{
    app::{Instance, Setup, WorkerSet, serve_admin, topics},
    decision::DecisionFormat,
    engine::{Clock, Fleet, Partition, Partitions, Stop, SystemClock},
    evaluation::Prediction,
    event::Record,
    inference::Runtime,
    partial::TemporaryFolder,
    sink::{EmbeddedBroker, Outbox, Publisher},
    source::Reader,
    status::Counts,
    telemetry::admin::AdminState,
    training::Labeller,
};
use anyhow::Context;
use clap::Args;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Partitions of each topic. The embedded broker keeps about 5 MB per partition, and all decisions take about 40 MB.
const PARTITIONS: i32 = 12;

/// How many events are sent one by one at the end, and how many per second.
const PACED_EVENTS: usize = 2_000;
const PACED_RATE: f64 = 500.0;

/// The shipped model was trained only on data from before this moment.
const UNSEEN_FROM: &str = "1998-01-01T00:00:00Z";

/// Events per second while the page stays open, and the number after which the demo ends: the embedded broker keeps only its
/// newest messages.
const LINGER_RATE: f64 = 120.0;
const LINGER_EVENTS_MAX: u64 = 5_000_000;

/// The demo fails if no decision arrives for this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The demo's files, compiled in so that the binary needs nothing else.
const FILES: [(&str, &[u8]); 3] = [
    ("aimpoint.toml", include_bytes!("../../deploy/demo/aimpoint.toml")),
    ("model.onnx", include_bytes!("../../deploy/demo/model.onnx")),
    ("cdnow.jsonl.gz", include_bytes!("../../deploy/demo/cdnow.jsonl.gz")),
];

/// Watch the whole pipeline at work on real data, without a broker
#[derive(Args, Clone, Debug)]
pub(super) struct DemoArgs {
    /// A folder with aimpoint.toml, model.onnx and cdnow.jsonl.gz to use instead of the built-in files
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Serve the live page while the demo runs, and keep sending events until interrupted
    #[arg(long)]
    page: bool,
    /// Override a key
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// The parts of a decision that the demo reads.
#[derive(Debug, Deserialize)]
struct Decision {
    trigger_event_id: String,
    score: DecisionScore,
    segments: Vec<DecisionSegment>,
    #[serde(default)]
    campaigns: Vec<DecisionCampaign>,
    #[serde(default)]
    suppressed: Vec<DecisionRefusal>,
    #[serde(skip)]
    payload: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct DecisionScore {
    raw: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct DecisionSegment {
    id: String,
}

#[derive(Debug, Deserialize)]
struct DecisionCampaign {
    id: String,
    /// A 64-bit integer, which is text in proto3 JSON.
    bid_micros: String,
    currency: String,
    creative: Option<DecisionCreative>,
}

#[derive(Debug, Deserialize)]
struct DecisionCreative {
    id: String,
}

#[derive(Debug, Deserialize)]
struct DecisionRefusal {
    campaign_id: String,
    reason: String,
}

/// The results of the demo.
struct Outcome {
    counts: Counts,
    bulk_events: usize,
    bulk_time: Duration,
    latency: Histogram<u64>,
    decisions: Vec<Decision>,
}

/// A published event.
struct Line {
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    id: String,
}

pub(super) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    match &args.data {
        Some(folder) if folder.is_file() => {
            let message = format!("read the demo's files: expected a folder, found the file {}", folder.display());
            return Err(Exit::NoInput.because(message));
        }
        Some(folder) if !folder.is_dir() => {
            return Err(
                Exit::NoInput.because(format!("read the demo's files: there is no folder {}", folder.display()))
            );
        }
        _ => {}
    }
    if let Some(set) = args.sets.iter().find(|set| set.trim_start().starts_with("kafka.")) {
        let key = set.split('=').next().unwrap_or_default();
        return Err(Exit::Usage.because(format!(
            "--set {key}: the demo always uses its own in-process broker; use aimpoint run with yours"
        )));
    }
    clean_up_on_signals()?;
    match &args.data {
        Some(folder) => play(args, folder),
        None => {
            let folder = unpack().context("unpack the demo's files")?;
            play(args, folder.path())
        }
    }
}

fn play(args: &DemoArgs, folder: &Path) -> anyhow::Result<()> {
    let configured = |broker: &str| {
        let sets = [args.sets.clone(), vec![format!("kafka.brokers={broker}")]].concat();
        Setup::read(Some(&folder.join("aimpoint.toml")), &sets)
    };
    // The topics are named by the configuration.
    let plans = topics::plans(&configured("localhost:9092")?.config);
    let names: Vec<(&str, i32)> = plans.iter().map(|plan| (plan.name.as_str(), PARTITIONS)).collect();
    let broker = EmbeddedBroker::start(&names)?;
    let setup = configured(&broker.brokers())?;
    if setup.config.pipeline.decision.format != DecisionFormat::Json {
        return Err(Exit::Config.because("decision.format: the demo prints decisions in JSON; leave the key out"));
    }
    let mut out = super::printed::stdout();

    writeln!(
        out,
        "Aimpoint {}: which customers of a music shop buy again within thirty days?\n",
        env!("CARGO_PKG_VERSION")
    )?;
    let runtime = Runtime::load(setup.config.inference.onnxruntime.as_deref())?;
    writeln!(out, "ONNX Runtime {} from {}", runtime.version(), runtime.library().display())?;
    let data = folder.join("cdnow.jsonl.gz");
    let lines = read(&setup, &data)?;
    let (truth, unripe) = label(&setup, &data)?;
    writeln!(
        out,
        "{} real purchases from 1997 and 1998 (deploy/demo/DATA.md), in-process broker, {} workers\n",
        lines.len(),
        setup.config.engine.workers(Some(PARTITIONS as usize)).0
    )?;

    let instance = Instance::claim(&setup.config)?;
    let page = if args.page { Some(serve_admin(&setup.config, &instance, None, None)?) } else { None };
    if let Some((_, at)) = &page {
        writeln!(out, "Live page at http://{at}/\n")?;
    }
    let (outcome, mut fleet) = decide(&setup, &instance, &lines, page.as_ref().map(|(state, _)| &**state))?;
    if outcome.decisions.is_empty() {
        let reasons: Vec<String> =
            outcome.counts.dead_letters.iter().map(|(reason, count)| format!("{count} refused: {reason}")).collect();
        return Err(Exit::Data.because(format!(
            "none of the {} events of {} became a decision ({}); aimpoint export reports each line",
            outcome.counts.events,
            data.display(),
            if reasons.is_empty() { "all were left out".to_owned() } else { reasons.join("; ") }
        )));
    }
    report::print(&mut out, &outcome)?;
    let predictions: Vec<Prediction> = outcome
        .decisions
        .iter()
        .filter_map(|it| Some(Prediction { probability: it.score.raw?, label: *truth.get(&it.trigger_event_id)? }))
        .collect();
    report::effect(&mut out, &predictions, unripe)?;
    report::next(&mut out)?;
    if let Some((state, at)) = &page {
        writeln!(out, "\nThe page stays open at http://{at}/ and purchases keep arriving; press Ctrl-C to stop.")?;
        out.flush()?;
        linger(&mut out, &setup, &lines, &mut fleet)?;
        state.set_stopping();
    }
    fleet.join(setup.config.engine.shutdown_deadline)?;
    Ok(())
}

/// Sends further purchases, under the names of new customers, until interrupted.
fn linger(out: &mut impl Write, setup: &Setup, lines: &[Line], fleet: &mut Fleet) -> anyhow::Result<()> {
    let (kafka, topics) = (&setup.config.kafka, &setup.config.topics);
    let publisher = Publisher::new(&kafka.brokers, &kafka.producer_settings(), &topics.clickstream, PATIENCE)?;
    let mut keys = super::load::Keys::new(setup.pipeline(false)?);
    let replay = replay::Replay::new(lines).context("the demo's events have times")?;
    let start = Instant::now();
    for (number, purchase) in replay.enumerate() {
        let due = Duration::from_secs_f64(number as f64 / LINGER_RATE);
        publisher.serve();
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        if fleet.wait(Duration::ZERO)? {
            break;
        }
        // The replay runs faster than real time, and events in the future would be refused.
        if fleet.counts().events > LINGER_EVENTS_MAX || purchase.at > jiff::Timestamp::now() {
            writeln!(out, "The replay has reached its end, on {}.", purchase.at.strftime("%Y-%m-%d"))?;
            break;
        }
        publisher.publish(keys.of(&purchase.payload), Some(&purchase.payload))?;
    }
    Ok(())
}

/// Writes the demo's files into a temporary folder.
fn unpack() -> std::io::Result<TemporaryFolder> {
    let folder = TemporaryFolder::create("aimpoint-demo-")?;
    for (name, content) in FILES {
        std::fs::write(folder.path().join(name), content)?;
    }
    Ok(folder)
}

/// Reads the events with their keys.
fn read(setup: &Setup, path: &Path) -> anyhow::Result<Vec<Line>> {
    #[derive(Deserialize)]
    struct Id {
        event_id: String,
    }
    let mut keys = super::load::Keys::new(setup.pipeline(false)?);
    let mut lines = Vec::new();
    each_line(setup, path, |line| {
        let id = serde_json::from_slice::<Id>(line).map(|it| it.event_id).unwrap_or_default();
        lines.push(Line { key: keys.of(line).map(<[u8]>::to_vec), payload: line.to_vec(), id });
        anyhow::Ok(true)
    })?;
    Ok(lines)
}

/// Visits each line, and fails at one that is too long to be an event.
fn each_line(setup: &Setup, path: &Path, mut visit: impl FnMut(&[u8]) -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let bytes_max = setup.config.pipeline.input.max_bytes.as_u64() as usize;
    files::each_line(path, bytes_max, |line| match line {
        files::Line::Whole(_, line) => visit(line),
        files::Line::TooLong { number, bytes } => Err(Exit::Data.because(format!(
            "read {}: line {number} has {bytes} bytes, more than input.max_bytes = {bytes_max}",
            path.display()
        ))),
    })
}

/// The label of each event that the model has not seen, by event id, and the number of events whose outcome is still open.
fn label(setup: &Setup, path: &Path) -> anyhow::Result<(HashMap<String, bool>, usize)> {
    let mut pipeline = setup.pipeline(true)?;
    let spec = setup.config.pipeline.label.as_ref().context("the demo's configuration has a [label]")?;
    let unseen_from = UNSEEN_FROM.parse::<jiff::Timestamp>()?.as_microsecond();
    let mut labeller = Labeller::new(spec.within);
    let mut partitions = Partitions::default();
    partitions.insert(0, Partition::new(0, 0, None));
    let (mut outbox, mut counts, mut offset) = (Outbox::default(), Counts::default(), 0);
    pipeline.set_present(SystemClock::default().now());
    each_line(setup, path, |line| {
        let record = Record { offset, payload: Some(line), ..Record::default() };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        offset += 1;
        anyhow::Ok(true)
    })?;
    pipeline.rows(&mut partitions, &mut counts, |row| {
        labeller.push(row.user_hash, row.time.0, row.is_outcome, (row.event_id.to_owned(), row.time.0));
    });
    let mut truth = HashMap::new();
    let end = labeller.end().unwrap_or_default();
    while let Some(((id, time), label)) = labeller.ripe(end) {
        if time >= unseen_from {
            truth.insert(id, label);
        }
    }
    Ok((truth, labeller.unripe()))
}

/// Publishes the events, runs the workers and reads their decisions.
fn decide(
    setup: &Setup,
    instance: &Instance,
    lines: &[Line],
    state: Option<&AdminState>,
) -> anyhow::Result<(Outcome, Fleet)> {
    let kafka = &setup.config.kafka;
    let topics = &setup.config.topics;
    let total = lines.len();
    let bulk_events = total.saturating_sub(PACED_EVENTS);
    let bar = ProgressBar::new(total as u64).with_style(
        ProgressStyle::with_template("{msg:<22} {wide_bar} {human_pos} of {human_len}  {elapsed}")
            .expect("the template is well-formed"),
    );
    let publisher = Publisher::new(&kafka.brokers, &kafka.producer_settings(), &topics.clickstream, PATIENCE)?;
    bar.set_message("publishing");
    for line in &lines[..bulk_events] {
        publisher.publish(line.key.as_deref(), Some(&line.payload))?;
        bar.inc(1);
    }
    publisher.finish()?;
    bar.reset();
    bar.set_message("joining the group");

    let reader = Reader::open(&kafka.brokers, &kafka.client_settings(), &[&topics.decisions])?;
    let WorkerSet { workers, progress, .. } = setup.workers(instance)?;
    if let Some(state) = state {
        state.set_workers(&progress);
    }
    let mut fleet = Fleet::start(workers, progress, Stop::default(), setup.config.engine.stall_after)?;
    let mut decisions = DecisionReader {
        reader,
        all: Vec::new(),
        sent: HashMap::new(),
        latency: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        first: None,
        last: Instant::now(),
    };

    bar.set_message("deciding");
    while committed(&fleet) < bulk_events as u64 || decisions.all.len() < fleet.counts().decisions as usize {
        decisions.poll(Duration::from_millis(20))?;
        bar.set_position(decisions.all.len() as u64);
        decisions.check_progress(&mut fleet)?;
    }
    let bulk_time = decisions.first.map_or(Duration::ZERO, |first| decisions.last.duration_since(first));

    bar.set_message("one by one");
    let start = Instant::now();
    for (number, line) in lines[bulk_events..].iter().enumerate() {
        let due = Duration::from_secs_f64(number as f64 / PACED_RATE);
        while start.elapsed() < due {
            publisher.serve();
            decisions.poll(Duration::from_micros(200))?;
        }
        // Measured from when the event was due, so that a slow sender does not improve the numbers.
        decisions.sent.insert(line.id.clone(), start + due);
        publisher.publish(line.key.as_deref(), Some(&line.payload))?;
        publisher.serve();
        bar.set_position(decisions.all.len() as u64);
    }
    publisher.finish()?;
    decisions.last = Instant::now();
    while committed(&fleet) < total as u64 || decisions.all.len() < fleet.counts().decisions as usize {
        decisions.poll(Duration::from_millis(5))?;
        bar.set_position(decisions.all.len() as u64);
        decisions.check_progress(&mut fleet)?;
    }
    let counts = fleet.counts();
    bar.finish_and_clear();
    Ok((Outcome { counts, bulk_events, bulk_time, latency: decisions.latency, decisions: decisions.all }, fleet))
}

/// How many events have been committed.
fn committed(fleet: &Fleet) -> u64 {
    fleet.counts().events
}

/// Reads decisions and times them.
struct DecisionReader {
    reader: Reader,
    all: Vec<Decision>,
    /// When each timed event was due.
    sent: HashMap<String, Instant>,
    /// In microseconds.
    latency: Histogram<u64>,
    first: Option<Instant>,
    last: Instant,
}

impl DecisionReader {
    fn poll(&mut self, wait: Duration) -> anyhow::Result<()> {
        let Self { reader, all, sent, latency, first, last } = self;
        let mut unreadable = None;
        reader.poll(wait, |_, record, _| {
            let now = Instant::now();
            first.get_or_insert(now);
            *last = now;
            let payload = record.payload.unwrap_or_default();
            match serde_json::from_slice::<Decision>(payload) {
                Ok(mut decision) => {
                    if let Some(due) = sent.remove(&decision.trigger_event_id) {
                        latency.saturating_record(now.duration_since(due).as_micros() as u64);
                    }
                    decision.payload = payload.to_vec();
                    all.push(decision);
                }
                Err(error) => unreadable = Some(error),
            }
        })?;
        match unreadable {
            Some(error) => Err(error).context("read a decision"),
            None => Ok(()),
        }
    }

    fn check_progress(&self, fleet: &mut Fleet) -> anyhow::Result<()> {
        if fleet.wait(Duration::ZERO)? || self.last.elapsed() > PATIENCE {
            return Err(Exit::Stalled.because(format!(
                "no decision for {}; try again with --log debug",
                humantime::format_duration(PATIENCE)
            )));
        }
        Ok(())
    }
}
