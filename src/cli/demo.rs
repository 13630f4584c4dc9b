//! `aimpoint demo`: the whole pipeline on real purchases, with a broker inside the process.
//!
//! Owns the steps of the demo and its output. Pipeline, configuration, model and data are real; the broker is librdkafka's
//! mock cluster. What happens after a decision is simulated (`market`).
//!
//! 1. Most events are published and processed at full speed.
//! 2. The next [`stage::PACED_EVENTS`] are sent at a steady rate, and each is timed until its decision is read.
//! 3. The last [`flight::DAYS`] days of the data are the flight of the campaigns: day by day, control publishes a
//!    policy, the day's events are decided with it, and what the market made of the decisions goes to the outcomes.
//!
//! Without a campaign that needs control there is no third step. At the end a bid request is enriched (`bid`).

mod bid;
mod clock;
mod decisions;
mod flight;
mod market;
mod replay;
mod report;
mod stage;

use super::{Exit, files, signals::clean_up_on_signals};
use crate::{
    app::{Instance, Setup, serve_admin, topics},
    decision::DecisionFormat,
    engine::{Clock, Fleet, Partition, Partitions, SystemClock},
    evaluation::Prediction,
    event::Record,
    inference::Runtime,
    partial::TemporaryFolder,
    sink::{EmbeddedBroker, Outbox, Publisher},
    status::Counts,
    training::Labeller,
};
use anyhow::Context;
use clap::Args;
use decisions::Decision;
use serde::Deserialize;
use stage::Stage;
use std::{
    collections::HashMap,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Partitions of each topic. The embedded broker keeps about 5 MB per partition, and all decisions take about 40 MB.
const PARTITIONS: i32 = 12;

/// The shipped model was trained only on data from before this moment.
const UNSEEN_FROM: &str = "1998-01-01T00:00:00Z";

/// Events per second while the page stays open, and the number after which the demo ends: the embedded broker keeps only its
/// newest messages.
const LINGER_RATE: f64 = 120.0;
const LINGER_EVENTS_MAX: u64 = 5_000_000;

/// The demo fails if nothing that it waits for arrives for this long.
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

/// A published event.
struct Line {
    key: Option<Vec<u8>>,
    payload: Vec<u8>,
    id: String,
    /// When it happened, in microseconds since 1970, if it says so as text.
    at: Option<i64>,
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
    let config = configured("localhost:9092")?.config;
    let plans = topics::plans(&config).into_iter().map(|plan| (plan.name, PARTITIONS));
    let of_control = topics::own_control_plans(&config).into_iter();
    let plans: Vec<(String, i32)> =
        plans.chain(of_control.map(|plan| (plan.name, plan.partitions.min(PARTITIONS)))).collect();
    let names: Vec<(&str, i32)> = plans.iter().map(|(name, partitions)| (name.as_str(), *partitions)).collect();
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
    let mut stage = Stage::set(&setup, &instance, &lines, page.as_ref().map(|(state, _)| &**state))?;
    let outcome = stage.play(&setup, &lines)?;
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
    if let Some(flight) = &outcome.flight {
        report::flight(&mut out, &setup, flight)?;
        report::why(&mut out, &setup, flight)?;
    } else if !setup.config.pipeline.campaigns.is_empty() {
        let decisions = outcome.decisions.iter().map(Decision::read).collect::<anyhow::Result<Vec<_>>>()?;
        report::title(&mut out, "Offers: decisions with each campaign, out of those that considered it")?;
        report::offers(&mut out, &setup.config.pipeline.campaigns, decisions.iter())?;
    }
    let predictions: Vec<Prediction> = outcome
        .decisions
        .iter()
        .filter_map(|it| Some(Prediction { probability: it.score.raw?, label: *truth.get(&it.trigger_event_id)? }))
        .collect();
    report::effect(&mut out, &predictions, unripe)?;
    bid::print(&mut out, &setup, &outcome.decisions)?;
    report::next(&mut out)?;
    if let Some((state, at)) = &page {
        writeln!(out, "\nThe page stays open at http://{at}/ and purchases keep arriving; press Ctrl-C to stop.")?;
        out.flush()?;
        linger(&mut out, &setup, &lines, &mut stage.fleet)?;
        state.set_stopping();
    }
    stage.fleet.join(setup.config.engine.shutdown_deadline)?;
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
    struct Event {
        event_id: String,
        occurred_at: Option<serde_json::Value>,
    }
    let mut keys = super::load::Keys::new(setup.pipeline(false)?);
    let mut lines = Vec::new();
    each_line(setup, path, |line| {
        let event = serde_json::from_slice::<Event>(line).ok();
        let at = event.as_ref().and_then(|event| event.occurred_at.as_ref()?.as_str()?.parse::<jiff::Timestamp>().ok());
        lines.push(Line {
            key: keys.of(line).map(<[u8]>::to_vec),
            payload: line.to_vec(),
            id: event.map(|event| event.event_id).unwrap_or_default(),
            at: at.map(jiff::Timestamp::as_microsecond),
        });
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
