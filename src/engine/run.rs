//! Runs a batch through the pure core and handles what it returns besides its outputs: rows for shadows, and failures.

use super::{Partitions, Pipeline, ScoringFailure};
use crate::{event::EventTime, sink::Outbox, status::Counts};

/// Runs the open batch of the pipeline, passes its rows to the shadows that have room, and logs model failures.
pub fn run_batch(
    pipeline: &mut Pipeline,
    partitions: &mut Partitions,
    now: EventTime,
    outbox: &mut Outbox,
    counts: &mut Counts,
) {
    for shadow in pipeline.shadows() {
        shadow.lend(shadow.tap().buffer());
    }
    pipeline.run(partitions, now, outbox, counts);
    for shadow in pipeline.shadows() {
        let (rows, buffer) = shadow.take();
        match buffer {
            Some(buffer) if rows > 0 => shadow.tap().offer(buffer),
            Some(buffer) => shadow.tap().give_back(buffer),
            None => shadow.tap().skip(rows),
        }
    }
    log_failures(pipeline);
}

/// Logs and clears the model failures.
pub fn log_failures(pipeline: &mut Pipeline) {
    for failure in pipeline.take_failures() {
        match failure {
            ScoringFailure::Unfit { fault, version } => {
                tracing::error!(fault, version, "the new version of the model does not fit: the old one stays");
            }
            ScoringFailure::Run { error, rows, runs } => {
                tracing::error!(%error, rows, runs, "scoring a batch failed: its decisions use the fallback");
            }
            ScoringFailure::OutOfRange { score, version, batches } => {
                tracing::error!(score, version, batches, "ignored a score outside of model.range");
            }
            ScoringFailure::Explanation { error, rows, batches } => {
                tracing::warn!(%error, rows, batches, "explaining decisions failed: they are written without an explanation");
            }
        }
    }
}
