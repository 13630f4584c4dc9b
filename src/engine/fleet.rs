//! The workers of a process: their threads, their shutdown, and the sum of their counts.
//!
//! Guarantees: if one worker fails, all are asked to stop, and [`Fleet::join`] returns the first failure. A worker that
//! is blocked, or does not stop within the deadline, is reported and abandoned. The thread that waits for the fleet
//! acts as the watchdog; it is not a worker's. Limits: one thread per worker.

use super::{Clock, EngineError, Stop, Worker};
use crate::{
    sink::Sink,
    source::Source,
    status::{Counts, Progress},
};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use std::{
    convert::Infallible,
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How long a worker that has handed over waits for the others to do so. They then leave the group together. Otherwise
/// the group would rebalance once for each, and partitions would move to a worker that stops next.
const LEAVE_TOGETHER: Duration = Duration::from_secs(1);

/// Why a fleet did not shut down cleanly.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A worker failed.
    #[error("worker {worker}: {error}")]
    Worker {
        /// Its index.
        worker: usize,
        /// The error.
        error: EngineError,
    },
    /// A worker's loop is blocked.
    #[error("worker {worker} has been blocked for {}", crate::duration::display(*time))]
    Hung {
        /// Its index.
        worker: usize,
        /// For how long.
        time: Duration,
    },
    /// A worker panicked, which is a bug.
    #[error("worker {0} panicked: this is a bug, and the lines above say where")]
    Broken(usize),
    /// Workers did not stop in time.
    #[error("{count} workers did not end within {}: the broker aborts what they had open, and the next owner does it again", crate::duration::display(*deadline))]
    Deadline {
        /// How many.
        count: usize,
        /// The time they had.
        deadline: Duration,
    },
}

/// Running workers.
pub struct Fleet {
    stop: Stop,
    threads: Vec<Option<JoinHandle<Result<(), EngineError>>>>,
    ended: Receiver<usize>,
    progress: Vec<Progress>,
    /// How long a worker's loop may be blocked.
    silence_max: Duration,
}

/// Reports that its worker's thread has ended, even if by a panic.
struct Ended(usize, crossbeam_channel::Sender<usize>);

impl Drop for Ended {
    fn drop(&mut self) {
        // The fleet may already be gone.
        self.1.send(self.0).unwrap_or_default();
    }
}

impl Fleet {
    /// Starts one thread for each worker.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start<S, K, C>(
        workers: Vec<Worker<S, K, C>>,
        progress: Vec<Progress>,
        stop: Stop,
        silence_max: Duration,
    ) -> Result<Self, std::io::Error>
    where
        S: Source + Send + 'static,
        K: Sink<Group = S::Group> + Send + 'static,
        C: Clock + Send + 'static,
    {
        let (sender, ended) = crossbeam_channel::unbounded();
        // Nothing is ever sent; the channel closes when all workers have handed over.
        let (handing_over, all_handed_over) = crossbeam_channel::bounded::<Infallible>(0);
        let mut threads = Vec::with_capacity(workers.len());
        for (number, mut worker) in workers.into_iter().enumerate() {
            let (stop, sender) = (stop.clone(), sender.clone());
            let (handing_over, all_handed_over) = (handing_over.clone(), all_handed_over.clone());
            let run = move || {
                let _ended = Ended(number, sender);
                let outcome = worker.run(&stop);
                drop(handing_over);
                if outcome.is_ok()
                    && let Err(RecvTimeoutError::Timeout) = all_handed_over.recv_timeout(LEAVE_TOGETHER)
                {
                    tracing::info!(worker = number, "this worker leaves the group before others have handed over");
                }
                // Leaving the group must still happen within this thread's deadline.
                drop(worker);
                outcome
            };
            threads.push(Some(std::thread::Builder::new().name(format!("worker-{number}")).spawn(run)?));
        }
        Ok(Self { stop, threads, ended, progress, silence_max })
    }

    /// What all workers have committed so far.
    pub fn counts(&self) -> Counts {
        Counts::of(&self.progress)
    }

    /// The progress of each worker.
    pub fn progress(&self) -> &[Progress] {
        &self.progress
    }

    /// Waits until a worker has ended or the timeout has passed; returns whether one has.
    ///
    /// # Errors
    /// If a worker failed or is blocked.
    pub fn wait(&mut self, timeout: Duration) -> Result<bool, FleetError> {
        let running = self.threads.iter().zip(&self.progress).enumerate();
        for (worker, (_, progress)) in running.filter(|(_, (thread, _))| thread.is_some()) {
            let time = progress.health().silent_for();
            if time > self.silence_max {
                return Err(FleetError::Hung { worker, time });
            }
        }
        match self.ended.recv_timeout(timeout) {
            Ok(worker) => self.collect(worker).map(|()| true),
            Err(RecvTimeoutError::Timeout) => Ok(false),
            Err(RecvTimeoutError::Disconnected) => Ok(true),
        }
    }

    /// Asks all workers to stop, and waits for them.
    ///
    /// # Errors
    /// The first failure, or [`FleetError::Deadline`].
    pub fn join(mut self, deadline: Duration) -> Result<(), FleetError> {
        self.stop.request();
        let start = Instant::now();
        let mut first = Ok(());
        while self.threads.iter().any(Option::is_some) {
            match self.ended.recv_timeout(deadline.saturating_sub(start.elapsed())) {
                Ok(worker) => {
                    let outcome = self.collect(worker);
                    if first.is_ok() {
                        first = outcome;
                    }
                }
                Err(_) => {
                    let count = self.threads.iter().flatten().count();
                    return first.and(Err(FleetError::Deadline { count, deadline }));
                }
            }
        }
        first
    }

    fn collect(&mut self, worker: usize) -> Result<(), FleetError> {
        match self.threads[worker].take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => Err(FleetError::Worker { worker, error }),
            Some(Err(_)) => Err(FleetError::Broken(worker)),
            Some(Ok(Ok(()))) | None => Ok(()),
        }
    }
}
