//! `aimpoint load`: publishes events to the clickstream, keyed by user, from files or made up.
//!
//! With `--rate` each event is sent at its own moment, whatever the one before took; without, as fast as the broker takes
//! them. A line that is no event is published all the same, without a key: it becomes a dead letter, which is where
//! its reason can be read. A line that is longer than `input.max_bytes` would be one for its size alone, and is left out and told.

use super::{
    ConfigArgs,
    files::{self, Line, Refused, TooLong},
    number_within,
    synthetic::Synthetic,
};
use crate::{
    app::topics,
    engine::{Partition, Partitions, Pipeline},
    event::Record,
    sink::{Outbox, Publisher},
    status::Counts,
};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::Write,
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long the broker may take for an event.
const DEADLINE: Duration = Duration::from_secs(30);

/// Each user of a made-up stream takes 8 bytes.
const USERS_MAX: i64 = 100_000_000;

/// A day from one event to the next.
const STEP_MS_MAX: f64 = 86_400_000.0;

/// One event in a quarter of an hour, and more than any broker takes.
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 100_000_000.0;

/// Publish events to the clickstream, from files or made up
#[derive(Args, Clone, Debug)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON lines, plain, .gz or .zst
    #[arg(required_unless_present = "synthetic", conflicts_with = "synthetic")]
    files: Vec<PathBuf>,
    /// Make up this many events instead
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    synthetic: Option<u64>,
    /// The seed of made-up events
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How many users make them
    #[arg(long, default_value_t = 200_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=USERS_MAX))]
    users: u32,
    /// Milliseconds of event time from one made-up event to the next; at a rate, the rate's own where absent
    #[arg(long, value_name = "MS", value_parser = number_within(0.0..=STEP_MS_MAX))]
    step: Option<f64>,
    /// Events a second; as fast as they are taken where absent
    #[arg(long, value_name = "PER_SECOND", value_parser = number_within(RATE_MIN..=RATE_MAX))]
    rate: Option<f64>,
    /// Stop after this many events
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
}

pub(super) fn run(args: &LoadArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    for file in &args.files {
        files::check(file)?;
    }
    topics::check(&setup.config)?;
    let kafka = &setup.config.kafka;
    let publisher =
        Publisher::new(&kafka.brokers, &kafka.producer_settings(), &setup.config.topics.clickstream, DEADLINE)?;
    let bar = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{human_pos} events  {per_sec}  {elapsed}").expect("the template is well-formed"),
    );
    let mut pace = Pace { start: Instant::now(), rate: args.rate, count: 0, limit: args.limit.unwrap_or(u64::MAX) };
    if let Some(count) = args.synthetic {
        let step = args.step.or(args.rate.map(|rate| 1_000.0 / rate)).unwrap_or(1.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        // What is published now must not lie ahead of now, so the stream ends at the present.
        let span = if args.rate.is_some() && args.step.is_none() { 0.0 } else { count as f64 * step };
        for event in
            Synthetic::new(args.seed, args.users as usize, now.saturating_sub(span as i64), step).take(count as usize)
        {
            if !pace.next(&publisher) {
                break;
            }
            publisher.publish(Some(event.user_id.as_bytes()), Some(&serde_json::to_vec(&event)?))?;
            bar.inc(1);
        }
    }
    let mut keys = Keys::new(setup.pipeline(false)?);
    let bytes_max = setup.config.pipeline.input.max_bytes.as_u64() as usize;
    let (mut too_long, mut refused) = (TooLong::default(), Refused::default());
    for file in &args.files {
        files::each_line(file, bytes_max, |line| {
            let (number, line) = match line {
                Line::Whole(at, line) => (at, line),
                Line::TooLong { number, bytes } => {
                    too_long.note(file, number, bytes);
                    return Ok(true);
                }
            };
            if !pace.next(&publisher) {
                return Ok(false);
            }
            publisher.publish(keys.of(line), Some(line))?;
            refused.note(file, number, &keys.outbox);
            bar.inc(1);
            anyhow::Ok(true)
        })?;
    }
    publisher.finish()?;
    bar.finish_and_clear();
    let seconds = pace.start.elapsed().as_secs_f64();
    let unreadable = match keys.unreadable {
        0 => String::new(),
        count => format!("; {count} of them are no events and went without a key"),
    };
    writeln!(
        super::printed::stdout(),
        "published {} events to {} in {seconds:.1} s, {:.0} a second{unreadable}",
        pace.count,
        setup.config.topics.clickstream,
        pace.count as f64 / seconds.max(1e-9)
    )?;
    for (reason, count, places) in refused.by_reason() {
        writeln!(super::printed::stdout(), "  {count} without a key: {reason}")?;
        for place in places {
            writeln!(super::printed::stdout(), "    {place}")?;
        }
    }
    if let Some(summary) = too_long.summary(bytes_max) {
        writeln!(super::printed::stdout(), "  left out: {summary}")?;
    }
    Ok(())
}

/// Says when the next event is due.
struct Pace {
    start: Instant,
    rate: Option<f64>,
    count: u64,
    limit: u64,
}

impl Pace {
    /// Waits for the next event's moment; says no when the limit is reached.
    fn next(&mut self, publisher: &Publisher) -> bool {
        if self.count == self.limit {
            return false;
        }
        if let Some(rate) = self.rate {
            let due = Duration::try_from_secs_f64(self.count as f64 / rate).unwrap_or(Duration::MAX);
            let ahead = due.saturating_sub(self.start.elapsed());
            publisher.serve();
            std::thread::sleep(ahead);
        } else if self.count.is_multiple_of(1_000) {
            publisher.serve();
        }
        self.count += 1;
        true
    }
}

/// Finds the key of an event by the pipeline's own decoder, so that it is the key that its profile will have.
pub(super) struct Keys {
    pipeline: Pipeline,
    partitions: Partitions,
    key: Vec<u8>,
    /// The last line's dead letter, where it is no event.
    pub(super) outbox: Outbox,
    /// When the last event happened, if it was one.
    pub(super) time: Option<i64>,
    offset: i64,
    pub(super) unreadable: u64,
}

impl Keys {
    pub(super) fn new(pipeline: Pipeline) -> Self {
        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        Self { pipeline, partitions, key: Vec::new(), outbox: Outbox::default(), time: None, offset: 0, unreadable: 0 }
    }

    /// The key of a line, or none where the line is no event.
    pub(super) fn of(&mut self, line: &[u8]) -> Option<&[u8]> {
        let record = Record { offset: self.offset, payload: Some(line), ..Record::default() };
        self.offset += 1;
        let mut counts = Counts::default();
        self.outbox.clear();
        self.pipeline.take(&record, &mut self.partitions, &mut self.outbox, &mut counts);
        self.time = self.pipeline.first_time().map(|time| time.0);
        let user = self.pipeline.drop_batch(&mut self.key);
        self.unreadable += u64::from(!user);
        user.then_some(&self.key)
    }
}
