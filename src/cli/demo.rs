//! `aimpoint demo`: the whole pipeline on real purchases, with a broker inside the process.
//!
//! Owns the order of the show and what it prints. The pipeline, its configuration, its model and its data are the real
//! ones; the broker is librdkafka's mock cluster. First all but the last events are published and worked off as fast as
//! they go, then the last ones come one by one at a steady pace, and each is timed until its decision is read.

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

/// Partitions of each topic: the embedded broker keeps about 5 MB of each, and all decisions take some 40 MB.
const PARTITIONS: i32 = 12;

/// How many events come one by one at the end, and how many a second.
const PACED_EVENTS: usize = 2_000;
const PACED_RATE: f64 = 500.0;

/// From here on nobody has learned from the data; the shipped model was trained on what came before.
const UNSEEN_FROM: &str = "1998-01-01T00:00:00Z";

/// How many a second go on while somebody looks at the page, and after how many it ends: the embedded broker keeps but its
/// newest messages.
const LINGER_RATE: f64 = 120.0;
const LINGER_EVENTS_MAX: u64 = 5_000_000;

/// Without a further decision for this long, something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// The files that make the demo, so that the program needs nothing beside it.
const FILES: [(&str, &[u8]); 3] = [
    ("aimpoint.toml", include_bytes!("../../deploy/demo/aimpoint.toml")),
    ("model.onnx", include_bytes!("../../deploy/demo/model.onnx")),
    ("cdnow.jsonl.gz", include_bytes!("../../deploy/demo/cdnow.jsonl.gz")),
];

/// Watch the whole pipeline at work on real data, without a broker
#[derive(Args, Clone, Debug)]
pub(super) struct DemoArgs {
    /// A folder with aimpoint.toml, model.onnx and cdnow.jsonl.gz to use in place of those in the program
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
    /// Serve the live page while the demo runs, and go on with the events until stopped
    #[arg(long)]
    page: bool,
    /// Override a key
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
}

/// What is read of a decision.
#[derive(Debug, Deserialize)]
struct Seen {
    trigger_event_id: String,
    score: SeenScore,
    segments: Vec<SeenSegment>,
    #[serde(skip)]
    payload: Vec<u8>,
}

#[derive(Debug, Deserialize)]
struct SeenScore {
    raw: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct SeenSegment {
    id: String,
}

/// All that the show has to report.
struct Outcome {
    counts: Counts,
    bulk_events: usize,
    bulk_time: Duration,
    latency: Histogram<u64>,
    decisions: Vec<Seen>,
}

/// An event as it was published.
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
            "--set {key}: the demo has a broker within its process and no other; aimpoint run works on yours"
        )));
    }
    clean_up_on_signals()?;
    match &args.data {
        Some(folder) => show(args, folder),
        None => {
            let folder = unpack().context("unpack the demo's files")?;
            show(args, folder.path())
        }
    }
}

fn show(args: &DemoArgs, folder: &Path) -> anyhow::Result<()> {
    let configured = |broker: &str| {
        let sets = [args.sets.clone(), vec![format!("kafka.brokers={broker}")]].concat();
        Setup::read(Some(&folder.join("aimpoint.toml")), &sets)
    };
    // Its topics have the names that the configuration gives them.
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
        "Aimpoint {}: who of a music shop's customers buys again within thirty days?\n",
        env!("CARGO_PKG_VERSION")
    )?;
    let runtime = Runtime::load(setup.config.inference.onnxruntime.as_deref())?;
    writeln!(out, "ONNX Runtime {} from {}", runtime.version(), runtime.library().display())?;
    let data = folder.join("cdnow.jsonl.gz");
    let lines = read(&setup, &data)?;
    let (truth, unripe) = label(&setup, &data)?;
    writeln!(
        out,
        "{} real purchases of 1997 and 1998 (deploy/demo/DATA.md), broker in this process, {} workers\n",
        lines.len(),
        setup.config.engine.workers(Some(PARTITIONS as usize)).0
    )?;

    let instance = Instance::claim(&setup.config)?;
    let page = if args.page { Some(serve_admin(&setup.config, &instance, None)?) } else { None };
    if let Some((_, at)) = &page {
        writeln!(out, "Live page at http://{at}/\n")?;
    }
    let (outcome, mut fleet) = play(&setup, &instance, &lines, page.as_ref().map(|(state, _)| &**state))?;
    if outcome.decisions.is_empty() {
        let reasons: Vec<String> =
            outcome.counts.dead_letters.iter().map(|(reason, count)| format!("{count} refused: {reason}")).collect();
        return Err(Exit::Data.because(format!(
            "none of the {} events of {} became a decision ({}); aimpoint export tells more of each line",
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
        writeln!(out, "\nThe page stays open at http://{at}/ and the shop's customers go on buying; Ctrl-C ends it.")?;
        out.flush()?;
        linger(&mut out, &setup, &lines, &mut fleet)?;
        state.set_stopping();
    }
    fleet.join(setup.config.engine.shutdown_deadline)?;
    Ok(())
}

/// Sends further purchases of the shop, as those of new customers, until stopped.
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
        // The shop's days go by faster than ours, and what lies in the future is refused.
        if fleet.counts().events > LINGER_EVENTS_MAX || purchase.at > jiff::Timestamp::now() {
            writeln!(out, "The shop has come to its end, on {}.", purchase.at.strftime("%Y-%m-%d"))?;
            break;
        }
        publisher.publish(keys.of(&purchase.payload), Some(&purchase.payload))?;
    }
    Ok(())
}

/// Writes the demo's files into a folder of their own.
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

/// Hands over each line. What is too long to be an event is no data of a demonstration.
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

/// What became of each event that the model has never seen: its id, and whether the outcome followed. Also how many there
/// are of which nobody can know yet.
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

/// Publishes, runs the workers, and reads what they decide.
fn play(
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
    let mut watch = Watch {
        reader,
        decisions: Vec::new(),
        sent: HashMap::new(),
        latency: Histogram::new_with_bounds(1, 60_000_000, 3)?,
        first: None,
        last: Instant::now(),
    };

    bar.set_message("deciding");
    while outcomes(&fleet) < bulk_events as u64 || watch.decisions.len() < fleet.counts().decisions as usize {
        watch.look(Duration::from_millis(20))?;
        bar.set_position(watch.decisions.len() as u64);
        watch.be_patient(&mut fleet)?;
    }
    let bulk_time = watch.first.map_or(Duration::ZERO, |first| watch.last.duration_since(first));

    bar.set_message("one by one");
    let start = Instant::now();
    for (number, line) in lines[bulk_events..].iter().enumerate() {
        let due = Duration::from_secs_f64(number as f64 / PACED_RATE);
        while start.elapsed() < due {
            publisher.serve();
            watch.look(Duration::from_micros(200))?;
        }
        // From the moment when it was due: a sender that falls behind must not make the numbers better.
        watch.sent.insert(line.id.clone(), start + due);
        publisher.publish(line.key.as_deref(), Some(&line.payload))?;
        publisher.serve();
        bar.set_position(watch.decisions.len() as u64);
    }
    publisher.finish()?;
    watch.last = Instant::now();
    while outcomes(&fleet) < total as u64 || watch.decisions.len() < fleet.counts().decisions as usize {
        watch.look(Duration::from_millis(5))?;
        bar.set_position(watch.decisions.len() as u64);
        watch.be_patient(&mut fleet)?;
    }
    let counts = fleet.counts();
    bar.finish_and_clear();
    Ok((Outcome { counts, bulk_events, bulk_time, latency: watch.latency, decisions: watch.decisions }, fleet))
}

/// How many events have come to their end.
fn outcomes(fleet: &Fleet) -> u64 {
    fleet.counts().events
}

/// Reads decisions and times them.
struct Watch {
    reader: Reader,
    decisions: Vec<Seen>,
    /// When the events that are timed were due.
    sent: HashMap<String, Instant>,
    /// In microseconds.
    latency: Histogram<u64>,
    first: Option<Instant>,
    last: Instant,
}

impl Watch {
    fn look(&mut self, wait: Duration) -> anyhow::Result<()> {
        let Self { reader, decisions, sent, latency, first, last } = self;
        let mut unreadable = None;
        reader.poll(wait, |_, record, _| {
            let now = Instant::now();
            first.get_or_insert(now);
            *last = now;
            let payload = record.payload.unwrap_or_default();
            match serde_json::from_slice::<Seen>(payload) {
                Ok(mut seen) => {
                    if let Some(due) = sent.remove(&seen.trigger_event_id) {
                        latency.saturating_record(now.duration_since(due).as_micros() as u64);
                    }
                    seen.payload = payload.to_vec();
                    decisions.push(seen);
                }
                Err(error) => unreadable = Some(error),
            }
        })?;
        match unreadable {
            Some(error) => Err(error).context("read a decision"),
            None => Ok(()),
        }
    }

    fn be_patient(&self, fleet: &mut Fleet) -> anyhow::Result<()> {
        if fleet.wait(Duration::ZERO)? || self.last.elapsed() > PATIENCE {
            return Err(Exit::Stalled.because(format!(
                "no further decision for {}; try again with --log debug",
                humantime::format_duration(PATIENCE)
            )));
        }
        Ok(())
    }
}
