//! Batches the rows of several workers into shared runs of one model, on its own thread. For GPUs, which need few large runs.
//!
//! Guarantees: a worker waits for the scores of its rows before it continues, so the order of a user's events is kept. Each row gets
//! its own scores, whatever it is batched with. Runs have one of a few sizes (powers of two up to `batch.max_rows`, padded), all of
//! which are warmed up before the first request. If a run fails, none of its workers gets scores. A worker waits as long as runs keep
//! ending, including those queued before its own. It gives up when no run has ended for `batch.max_delay` plus twice the model's
//! deadline. Limits: one request per worker at a time, so the queue is bounded by the number of workers.

use super::{FeatureMatrix, Model, ModelError, ModelInfo};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The smallest run. On a GPU, smaller runs take just as long.
const ROWS_MIN: usize = 16;

/// `[model.batch]`: how rows of several workers are batched for a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSpec {
    /// Maximum rows of a run.
    pub max_rows: usize,
    /// How long the first rows of a run wait for more.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_delay: Duration,
}

impl Default for BatchSpec {
    fn default() -> Self {
        Self { max_rows: 4_096, max_delay: Duration::from_millis(1) }
    }
}

impl BatchSpec {
    /// The key that is invalid, and why.
    pub fn error(&self) -> Option<(&'static str, String)> {
        if !(ROWS_MIN..=1 << 20).contains(&self.max_rows) {
            return Some(("max_rows", format!("{} is not between {ROWS_MIN} and {}", self.max_rows, 1 << 20)));
        }
        if self.max_delay > Duration::from_millis(100) {
            let found = crate::duration::display(self.max_delay);
            return Some(("max_delay", format!("{found} is more than 100ms, which could delay every decision")));
        }
        None
    }

    /// The sizes of runs: powers of two, and the maximum at the end.
    fn sizes(&self) -> Vec<usize> {
        let doubled = std::iter::successors(Some(ROWS_MIN), |size| Some(size * 2));
        doubled.take_while(|size| *size < self.max_rows).chain([self.max_rows]).collect()
    }
}

/// The rows of a worker on the way to the thread, and their scores on the way back.
struct Request {
    /// Distinguishes the answer from that to an earlier, abandoned request.
    number: u64,
    matrix: FeatureMatrix,
    scores: Vec<f32>,
    outcome: Result<(), ModelError>,
    /// The number of the request that the worker waits for.
    awaited: Arc<AtomicU64>,
    answer: Sender<Request>,
}

impl Request {
    fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) == self.number
    }
}

/// State shared by the thread and its workers.
struct SharedState {
    /// Workers that can still send.
    ends: AtomicUsize,
    /// Finished runs, which distinguish a long queue from a model that hangs.
    runs: AtomicUsize,
}

/// A worker's handle to a model on the batching thread.
pub struct Batched {
    info: Arc<ModelInfo>,
    spec: BatchSpec,
    /// The model's deadline for one run.
    limit: Duration,
    queue: Sender<Request>,
    state: Arc<SharedState>,
    awaited: Arc<AtomicU64>,
    answer: Sender<Request>,
    answers: Receiver<Request>,
    number: u64,
    /// The buffers of the last request, for reuse.
    spare: (FeatureMatrix, Vec<f32>),
}

/// Starts the thread of a model, and returns a handle for each worker. `limit` is the model's deadline. The thread ends with the
/// last handle.
///
/// # Errors
/// The model fails on one of the sizes, or the thread cannot be started.
pub fn batch(
    mut model: Box<dyn Model>,
    spec: BatchSpec,
    limit: Duration,
    workers: usize,
) -> Result<Vec<Batched>, ModelError> {
    let mut run = SharedRun::new(spec, model.info());
    run.warm(model.as_mut())?;
    let info = Arc::new(model.info().clone());
    let (queue, requests) = bounded(workers.max(1));
    let state = Arc::new(SharedState { ends: AtomicUsize::new(workers), runs: AtomicUsize::new(0) });
    let all = (0..workers).map(|_| {
        // A late answer stays in the channel until the next request; there is never more than one.
        let (answer, answers) = bounded(workers + 2);
        let spare = (FeatureMatrix::new(info.features.len()), Vec::new());
        let (info, queue, state) = (Arc::clone(&info), queue.clone(), Arc::clone(&state));
        Batched { info, spec, limit, queue, state, awaited: Arc::default(), answer, answers, number: 0, spare }
    });
    let all = all.collect();
    let start = move || -> io::Result<()> {
        let serve = move || run.serve(model.as_mut(), &requests, &state);
        thread::Builder::new().name("batcher".to_owned()).spawn(serve).map(drop)
    };
    start().map_err(|error| ModelError::Run {
        model: info.name.clone(),
        rows: 0,
        reason: format!("start the batching thread: {error}"),
    })?;
    Ok(all)
}

impl Drop for Batched {
    fn drop(&mut self) {
        self.state.ends.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Model for Batched {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError> {
        scores.clear();
        let rows = matrix.rows();
        if rows == 0 {
            return Ok(());
        }
        // Between the ends of two runs there is the wait for more rows, copying, and a run. The second deadline covers copying and
        // scheduling delays.
        let limit = self.limit * 2 + self.spec.max_delay;
        let model = || self.info.name.clone();
        let late = || ModelError::Late { model: model(), rows, limit };
        // Drop a late answer to an earlier request.
        while self.answers.try_recv().is_ok() {}
        self.number += 1;
        let (mut copy, buffer) = std::mem::take(&mut self.spare);
        if copy.width() != matrix.width() {
            copy = FeatureMatrix::new(matrix.width());
        }
        copy.reset(rows).copy_from_slice(matrix.values());
        self.awaited.store(self.number, Ordering::Relaxed);
        let request = Request {
            number: self.number,
            matrix: copy,
            scores: buffer,
            outcome: Ok(()),
            awaited: Arc::clone(&self.awaited),
            answer: self.answer.clone(),
        };
        self.queue.try_send(request).map_err(|error| match error {
            // The workers gave up on all of them, so the model hangs.
            TrySendError::Full(_) => late(),
            TrySendError::Disconnected(_) => {
                let reason = "the batching thread has ended: this is a bug".to_owned();
                ModelError::Run { model: model(), rows, reason }
            }
        })?;
        loop {
            let runs = self.state.runs.load(Ordering::Relaxed);
            let request = match self.answers.recv_timeout(limit) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) if self.state.runs.load(Ordering::Relaxed) != runs => continue,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    self.awaited.store(0, Ordering::Relaxed);
                    return Err(late());
                }
            };
            if request.number == self.number {
                if request.outcome.is_ok() {
                    scores.extend_from_slice(&request.scores);
                }
                self.spare = (request.matrix, request.scores);
                return request.outcome;
            }
        }
    }
}

/// The rows of a run, from one or more requests.
struct SharedRun {
    spec: BatchSpec,
    sizes: Vec<usize>,
    /// Scores per row.
    heads: usize,
    waiting: Vec<Request>,
    /// The rows of all requests.
    values: Vec<f32>,
    matrix: FeatureMatrix,
    scores: Vec<f32>,
    /// The scores of all rows, head by head.
    by_head: Vec<Vec<f32>>,
}

impl SharedRun {
    fn new(spec: BatchSpec, info: &ModelInfo) -> Self {
        Self {
            spec,
            sizes: spec.sizes(),
            heads: info.scores(),
            waiting: Vec::new(),
            values: Vec::new(),
            matrix: FeatureMatrix::new(info.features.len()),
            scores: Vec::new(),
            by_head: vec![Vec::new(); info.scores()],
        }
    }

    /// Runs every size once, because the first run of a shape allocates and, on a GPU, selects kernels.
    fn warm(&mut self, model: &mut dyn Model) -> Result<(), ModelError> {
        let row = model.info().baseline.clone().unwrap_or_else(|| vec![0.0; self.matrix.width()]);
        for size in &self.sizes {
            let values = self.matrix.reset(*size);
            values.chunks_exact_mut(row.len().max(1)).for_each(|values| values.copy_from_slice(&row));
            model.score(&self.matrix, &mut self.scores)?;
        }
        Ok(())
    }

    /// Serves requests until the last worker is gone.
    fn serve(&mut self, model: &mut dyn Model, requests: &Receiver<Request>, state: &SharedState) {
        while let Ok(first) = requests.recv() {
            let until = Instant::now() + self.spec.max_delay;
            let mut rows = first.matrix.rows();
            self.waiting.push(first);
            // Once every worker waits, no more requests can arrive.
            while rows < self.spec.max_rows && self.waiting.len() < state.ends.load(Ordering::Relaxed) {
                let Ok(next) = requests.recv_deadline(until) else { break };
                rows += next.matrix.rows();
                self.waiting.push(next);
            }
            self.waiting.retain(Request::is_awaited);
            let outcome = self.score(model, &state.runs);
            self.answer(&outcome, &model.info().name);
        }
    }

    fn score(&mut self, model: &mut dyn Model, runs: &AtomicUsize) -> Result<(), ModelError> {
        let width = self.matrix.width();
        self.values.clear();
        self.waiting.iter().for_each(|request| self.values.extend_from_slice(request.matrix.values()));
        self.by_head.iter_mut().for_each(Vec::clear);
        for part in self.values.chunks(self.spec.max_rows * width.max(1)) {
            let rows = part.len() / width.max(1);
            let size = self.sizes.iter().copied().find(|size| rows <= *size).unwrap_or(rows);
            let values = self.matrix.reset(size);
            values[..part.len()].copy_from_slice(part);
            // Pad with copies of the last row.
            for more in values[part.len()..].chunks_exact_mut(width.max(1)) {
                more.copy_from_slice(&part[part.len() - width..]);
            }
            let outcome = model.score(&self.matrix, &mut self.scores);
            runs.fetch_add(1, Ordering::Relaxed);
            outcome?;
            if self.scores.len() != size * self.heads {
                let reason =
                    format!("expected {} scores per row, found {} for {size} rows", self.heads, self.scores.len());
                return Err(ModelError::Run { model: model.info().name.clone(), rows, reason });
            }
            for (head, scores) in self.by_head.iter_mut().zip(self.scores.chunks_exact(size)) {
                scores[..rows].iter().for_each(|score| head.push(*score));
            }
        }
        Ok(())
    }

    /// Sends every worker the scores of its rows: the main score of each row, then the first head's, and so on.
    fn answer(&mut self, outcome: &Result<(), ModelError>, name: &str) {
        let mut start = 0;
        for mut request in self.waiting.drain(..) {
            let rows = request.matrix.rows();
            request.scores.clear();
            if outcome.is_ok() {
                for head in &self.by_head[..self.heads] {
                    request.scores.extend_from_slice(&head[start..start + rows]);
                }
            }
            start += rows;
            request.outcome = match outcome {
                Ok(()) => Ok(()),
                Err(ModelError::Late { model, limit, .. }) => {
                    Err(ModelError::Late { model: model.clone(), rows, limit: *limit })
                }
                Err(ModelError::Run { model, reason, .. }) => {
                    Err(ModelError::Run { model: model.clone(), rows, reason: reason.clone() })
                }
                Err(error) => Err(ModelError::Run { model: name.to_owned(), rows, reason: error.to_string() }),
            };
            let answer = request.answer.clone();
            // If the channel is full or closed, nobody waits for the answer.
            answer.try_send(request).unwrap_or_default();
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
