//! What the demo reads of the decisions, as a bidder sees them.

use super::PATIENCE;
use crate::{
    cli::{Exit, why::ReadDecision},
    engine::Fleet,
    source::Reader,
};
use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Deserialize;
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

/// The parts of a decision that the report needs.
#[derive(Debug, Deserialize)]
pub(super) struct Decision {
    pub(super) trigger_event_id: String,
    pub(super) score: Score,
    pub(super) segments: Vec<InSegment>,
    #[serde(skip)]
    pub(super) payload: Vec<u8>,
    #[serde(skip)]
    pub(super) key: Option<Vec<u8>>,
    /// Partition and offset.
    #[serde(skip)]
    pub(super) place: (i32, i64),
}

impl Decision {
    /// All of it that can be explained.
    pub(super) fn read(&self) -> anyhow::Result<ReadDecision> {
        ReadDecision::read(&self.payload).map_err(anyhow::Error::msg).context("read a decision")
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Score {
    pub(super) raw: Option<f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct InSegment {
    pub(super) id: String,
}

/// Reads decisions and times them.
pub(super) struct DecisionReader {
    reader: Reader,
    pub(super) all: Vec<Decision>,
    /// When each timed event was due.
    pub(super) sent: HashMap<String, Instant>,
    /// In microseconds.
    pub(super) latency: Histogram<u64>,
    pub(super) first: Option<Instant>,
    pub(super) last: Instant,
}

impl DecisionReader {
    pub(super) fn new(reader: Reader) -> anyhow::Result<Self> {
        Ok(Self {
            reader,
            all: Vec::new(),
            sent: HashMap::new(),
            latency: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            first: None,
            last: Instant::now(),
        })
    }

    /// Reads what has arrived, waiting at most `wait` for the first decision.
    pub(super) fn poll(&mut self, wait: Duration) -> anyhow::Result<()> {
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
                    decision.key = record.key.map(<[u8]>::to_vec);
                    decision.place = (record.partition, record.offset);
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

    /// Fails if the workers have ended, or nothing has arrived for long.
    pub(super) fn check_progress(&self, fleet: &mut Fleet) -> anyhow::Result<()> {
        check_progress(self.last, "no decision", fleet)
    }
}

/// Fails if the workers have ended, or if that for which it waits has not come since this moment for long.
pub(super) fn check_progress(since: Instant, what: &str, fleet: &mut Fleet) -> anyhow::Result<()> {
    if fleet.wait(Duration::ZERO)? || since.elapsed() > PATIENCE {
        return Err(Exit::Stalled
            .because(format!("{what} for {}; try again with --log debug", crate::duration::display(PATIENCE))));
    }
    Ok(())
}
