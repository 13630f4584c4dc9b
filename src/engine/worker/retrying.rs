//! Recovers from a failed transaction: commits it again, finds that it took effect, or restores everything.

use super::{
    EngineError, Worker,
    protocol::{Failure, RecoveryAction, Retry},
};
use crate::{
    canary::{self, Canary},
    engine::Clock,
    logging, metrics,
    sink::{Sink, SinkError},
    source::{Committed, Source, SourceError},
};
use std::fmt::Display;

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Recovers after a call for the open transaction failed. It first waits for the commit under way: if that fails
    /// too, both transactions are retried together.
    pub(super) fn recover_open_transaction(&mut self, error: SinkError) -> Result<(), EngineError> {
        let first = self.await_outcome().err();
        self.recover_transaction(first.unwrap_or(error))
    }

    /// Recovers after a transaction failed: retries it until it is committed, finds that it was, or restores
    /// everything.
    pub(super) fn recover_transaction(&mut self, error: SinkError) -> Result<(), EngineError> {
        let mut error = error;
        let mut retry = Retry::of_transaction(self.clock.elapsed());
        loop {
            self.progress.health().beat();
            let pause = retry.after_failure(self.clock.elapsed());
            let (tries, outputs) = (retry.failures(), self.protocol.transaction.outputs());
            if let Some(left_out) = logging::rate_limited("a transaction failed") {
                tracing::warn!(%error, tries, outputs, left_out, "a transaction failed");
            }
            self.progress.retried();
            metrics::retried(error.cause());
            self.publish_event("retried", error.to_string());
            let Some(pause) = pause else { return Err(EngineError::Commit { outputs, tries, last: error }) };
            if !self.must_commit_again(error)? {
                return Ok(());
            }
            match self.try_begin_commit().and_then(|()| self.await_outcome()) {
                Ok(()) => return Ok(()),
                Err(next) => error = next,
            }
            self.clock.pause(pause);
        }
    }

    /// Brings the sink back to a state in which a transaction can begin. Returns whether the failed work must be
    /// committed again.
    fn must_commit_again(&mut self, error: SinkError) -> Result<bool, EngineError> {
        let mut error = error;
        let mut action = self.protocol.transaction.failed(Failure::from(&error));
        loop {
            action = match action {
                RecoveryAction::Abort => match self.sink.abort() {
                    Ok(()) => self.protocol.transaction.aborted(Ok(())),
                    Err(failed) => {
                        tracing::warn!(error = %failed, "aborting a failed transaction failed");
                        error = failed;
                        self.protocol.transaction.aborted(Err(Failure::from(&error)))
                    }
                },
                RecoveryAction::Fence => {
                    self.fence()?;
                    self.protocol.transaction.fenced(self.clock.elapsed())
                }
                RecoveryAction::FenceAndReadPositions(partitions) => {
                    let committed = self.fenced_positions(&partitions)?;
                    let partitions = &self.partitions;
                    self.protocol.transaction.positions_read(&committed, |number| partitions.committed(number))
                }
                RecoveryAction::CommitAgain => return Ok(true),
                RecoveryAction::Finish => {
                    self.finish_commit();
                    return Ok(false);
                }
                RecoveryAction::GoOn => return Ok(false),
                RecoveryAction::RestoreAll => {
                    self.restore_all()?;
                    return Ok(false);
                }
                RecoveryAction::Stop => return Err(error.into()),
            };
        }
    }

    /// Aborts the sink's open transaction.
    pub(super) fn abort_open(&mut self) -> Result<(), EngineError> {
        if let Err(error) = self.sink.abort() {
            tracing::warn!(%error, "aborting the open transaction failed");
        }
        self.fence()
    }

    /// Reads the committed positions after fencing: no earlier producer of these ids can commit anything any more.
    pub(super) fn fenced_positions(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, EngineError> {
        if canary::is_in(Canary::FenceAfterRead) {
            let committed = self.source.committed(partitions)?;
            return self.fence().map(|()| committed);
        }
        self.fence()?;
        self.ask(|source| source.committed(partitions))
    }

    /// Asks the source, with retries for as long as a broker may take to come back.
    pub(super) fn ask<T>(&mut self, mut ask: impl FnMut(&mut S) -> Result<T, SourceError>) -> Result<T, EngineError> {
        let retry = Retry::of_question(self.clock.elapsed());
        let is_transient = |error: &SourceError| matches!(error, SourceError::Unreachable { .. });
        self.retry("no broker answers: ask again", retry, is_transient, |worker| ask(&mut worker.source))
    }

    fn fence(&mut self) -> Result<(), EngineError> {
        let is_transient = |error: &SinkError| matches!(error, SinkError::Unknown { .. });
        let (begun, limit) = (self.clock.elapsed(), self.settings.stall_after);
        let what = "fencing the producers failed: try again";
        let fenced = self.retry(what, Retry::of_fence(begun + limit), is_transient, |worker| worker.sink.fence());
        let time = self.clock.elapsed().saturating_sub(begun);
        match fenced {
            Err(EngineError::Sink(error)) if is_transient(&error) && time >= limit => {
                tracing::error!(%error, "fencing the producers failed for engine.stall_after");
                Err(EngineError::Disconnected { time })
            }
            fenced => fenced,
        }
    }

    /// Makes a call until it succeeds, fails for good, or has been tried enough. Meanwhile nothing is polled, so that neither the
    /// stall watch nor that of the brokers sees anything: the worker is not ready after half of their limit here as well.
    fn retry<T, E: Display + Into<EngineError>>(
        &mut self,
        what: &'static str,
        mut retry: Retry,
        is_transient: impl Fn(&E) -> bool,
        mut call: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<T, EngineError> {
        let begun = self.clock.elapsed();
        loop {
            self.progress.health().beat();
            let error = match call(self) {
                Err(error) if is_transient(&error) => error,
                answer => return answer.map_err(Into::into),
            };
            let time = self.clock.elapsed().saturating_sub(begun);
            self.progress.health().set_disconnected(time >= self.settings.stall_after / 2);
            let Some(pause) = retry.after_failure(self.clock.elapsed()) else { return Err(error.into()) };
            if let Some(left_out) = logging::rate_limited(what) {
                tracing::warn!(%error, tries = retry.failures(), left_out, "{what}");
            }
            self.clock.pause(pause);
        }
    }
}
