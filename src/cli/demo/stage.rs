//! The steps of the demo: events in at full speed, then at a steady rate, then day by day.

use super::{
    Line, PATIENCE,
    clock::ReplayClock,
    decisions::{Decision, DecisionReader},
    flight::Flight,
};
use crate::{
    app::{Instance, Setup, WorkerSet},
    engine::{Fleet, Stop},
    sink::Publisher,
    source::Reader,
    status::Counts,
    telemetry::admin::AdminState,
};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use std::time::{Duration, Instant};

/// How many events are sent one by one, and how many per second.
pub(super) const PACED_EVENTS: usize = 2_000;
const PACED_RATE: f64 = 500.0;

/// The results of the demo.
pub(super) struct Outcome {
    pub(super) counts: Counts,
    pub(super) bulk_events: usize,
    pub(super) bulk_time: Duration,
    pub(super) latency: Histogram<u64>,
    pub(super) decisions: Vec<Decision>,
    pub(super) flight: Option<Flight>,
}

/// The running pipeline with its publisher and reader.
pub(super) struct Stage {
    pub(super) publisher: Publisher,
    pub(super) decisions: DecisionReader,
    pub(super) fleet: Fleet,
    pub(super) clock: ReplayClock,
    pub(super) bar: ProgressBar,
    /// How many events were published.
    published: usize,
    bulk_events: usize,
}

impl Stage {
    /// Publishes the events of the first step, and starts the workers.
    pub(super) fn set(
        setup: &Setup,
        instance: &Instance,
        lines: &[Line],
        page: Option<&AdminState>,
    ) -> anyhow::Result<Self> {
        let (kafka, topics) = (&setup.config.kafka, &setup.config.topics);
        let bar = ProgressBar::new(lines.len() as u64).with_style(
            ProgressStyle::with_template("{msg:<22} {wide_bar} {human_pos} of {human_len}  {elapsed}")
                .expect("the template is well-formed"),
        );
        let publisher = Publisher::new(&kafka.brokers, &kafka.producer_settings(), &topics.clickstream, PATIENCE)?;
        let bulk_events = Flight::begins(setup, lines).saturating_sub(PACED_EVENTS);
        bar.set_message("publishing");
        for line in &lines[..bulk_events] {
            publisher.publish(line.key.as_deref(), Some(&line.payload))?;
            bar.inc(1);
        }
        publisher.finish()?;
        bar.reset();
        bar.set_message("joining the group");
        let reader = Reader::open(&kafka.brokers, &kafka.client_settings(), &[&topics.decisions])?;
        let clock = ReplayClock::new();
        let WorkerSet { workers, progress, .. } = setup.workers_by(instance, &clock)?;
        if let Some(page) = page {
            page.set_workers(&progress);
        }
        let fleet = Fleet::start(workers, progress, Stop::default(), setup.config.engine.stall_after)?;
        let decisions = DecisionReader::new(reader)?;
        Ok(Self { publisher, decisions, fleet, clock, bar, published: bulk_events, bulk_events })
    }

    /// Plays all steps.
    pub(super) fn play(&mut self, setup: &Setup, lines: &[Line]) -> anyhow::Result<Outcome> {
        self.bar.set_message("deciding");
        self.await_decisions(Duration::from_millis(20))?;
        let bulk_time = self.decisions.first.map_or(Duration::ZERO, |first| self.decisions.last.duration_since(first));
        let flight_begins = Flight::begins(setup, lines);
        self.bar.set_message("one by one");
        self.pace(&lines[self.bulk_events..flight_begins])?;
        self.bar.set_message("the campaigns");
        let flight = Flight::fly(setup, self, &lines[flight_begins..])?;
        let counts = self.fleet.counts();
        self.bar.finish_and_clear();
        Ok(Outcome {
            counts,
            bulk_events: self.bulk_events,
            bulk_time,
            latency: self.decisions.latency.clone(),
            decisions: std::mem::take(&mut self.decisions.all),
            flight,
        })
    }

    /// Sends events at a steady rate, and reads their decisions.
    fn pace(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        let start = Instant::now();
        for (number, line) in lines.iter().enumerate() {
            let due = Duration::from_secs_f64(number as f64 / PACED_RATE);
            while start.elapsed() < due {
                self.publisher.serve();
                self.decisions.poll(Duration::from_micros(200))?;
            }
            // Measured from when the event was due, so that a slow sender does not improve the numbers.
            self.decisions.sent.insert(line.id.clone(), start + due);
            self.publisher.publish(line.key.as_deref(), Some(&line.payload))?;
            self.publisher.serve();
            self.bar.set_position(self.decisions.all.len() as u64);
        }
        self.published += lines.len();
        self.publisher.finish()?;
        self.decisions.last = Instant::now();
        self.await_decisions(Duration::from_millis(5))
    }

    /// Sends events at once, and reads their decisions.
    pub(super) fn decide(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        for line in lines {
            self.publisher.publish(line.key.as_deref(), Some(&line.payload))?;
        }
        self.published += lines.len();
        self.publisher.finish()?;
        self.decisions.last = Instant::now();
        self.await_decisions(Duration::from_millis(2))
    }

    /// Waits until everything that was published is committed, and its decisions are read.
    fn await_decisions(&mut self, wait: Duration) -> anyhow::Result<()> {
        loop {
            let Counts { events, decisions, .. } = self.fleet.counts();
            if events >= self.published as u64 && self.decisions.all.len() >= decisions as usize {
                return Ok(());
            }
            self.decisions.poll(wait)?;
            self.bar.set_position(self.decisions.all.len() as u64);
            self.decisions.check_progress(&mut self.fleet)?;
        }
    }
}
