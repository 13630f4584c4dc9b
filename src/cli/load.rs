//! `aimpoint load`: publishes events to the clickstream, keyed by user, from files or generated.
//!
//! With `--rate` each event is sent at its own due time, however long the one before took; without it, as fast as the broker
//! accepts them. A line that is not a valid event is published too, without a key: it becomes a dead letter, which states the
//! reason. A line longer than `input.max_bytes` is skipped and reported.

use super::{
    ConfigArgs, Exit,
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

/// How long the broker may take to accept an event.
const DEADLINE: Duration = Duration::from_secs(30);

/// Each synthetic user takes 8 bytes of memory.
const USERS_MAX: i64 = 100_000_000;

/// One day between two events.
const STEP_MS_MAX: f64 = 86_400_000.0;

/// From one event in a quarter of an hour to more than any broker accepts.
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 100_000_000.0;

/// Publish events to the clickstream, from files or generated
#[derive(Args, Clone, Debug)]
pub(super) struct LoadArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// JSON lines, plain, .gz or .zst
    #[arg(required_unless_present = "synthetic", conflicts_with = "synthetic")]
    files: Vec<PathBuf>,
    /// Generate this many events instead
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    synthetic: Option<u64>,
    /// Seed of the generated events
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Number of users in the generated events
    #[arg(long, default_value_t = 200_000, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=USERS_MAX))]
    users: u32,
    /// Milliseconds of event time between generated events [default: 1, or 1000 / RATE with --rate]
    #[arg(long, value_name = "MS", value_parser = number_within(0.0..=STEP_MS_MAX))]
    step: Option<f64>,
    /// Events per second [default: as fast as possible]
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
        // Events must not be in the future, so the stream ends now.
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
        count => format!("; {count} of them are not valid events and have no key"),
    };
    writeln!(
        super::printed::stdout(),
        "published {} events to {} in {seconds:.1} s, {:.0} per second{unreadable}",
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
        if pace.count == 0 {
            return Err(Exit::Data.because("publish the files: every line was left out, so nothing was published"));
        }
    }
    Ok(())
}

/// Paces the events.
struct Pace {
    start: Instant,
    rate: Option<f64>,
    count: u64,
    limit: u64,
}

impl Pace {
    /// Waits until the next event is due; false when the limit is reached.
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

/// Finds the key of an event with the pipeline's own decoder, so that it equals the key of the profile.
pub(super) struct Keys {
    pipeline: Pipeline,
    partitions: Partitions,
    key: Vec<u8>,
    /// The dead letter of the last line, if it was not a valid event.
    pub(super) outbox: Outbox,
    /// The event time of the last line, if it was a valid event.
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

    /// The key of a line; `None` if it is not a valid event.
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
