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
mod tests {
    use super::*;
    use crate::testkit::{FakeModel, Mood};
    use std::sync::{Barrier, Mutex};

    const SECOND: Duration = Duration::from_secs(1);

    /// A model with a second head, which records the sizes of its runs.
    struct TwoHeads {
        info: ModelInfo,
        sizes: Arc<Mutex<Vec<usize>>>,
        pause: Duration,
    }

    impl Model for TwoHeads {
        fn info(&self) -> &ModelInfo {
            &self.info
        }

        fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError> {
            thread::sleep(self.pause);
            self.sizes.lock().expect("no test holds it and fails").push(matrix.rows());
            scores.clear();
            scores.extend((0..matrix.rows()).map(|row| matrix.row(row)[0]));
            scores.extend((0..matrix.rows()).map(|row| -matrix.row(row)[1]));
            Ok(())
        }
    }

    fn two_heads(pause: Duration) -> (Box<TwoHeads>, Arc<Mutex<Vec<usize>>>) {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let info = ModelInfo {
            features: ["a", "b"].map(str::to_owned).to_vec(),
            heads: vec!["bought".to_owned()],
            ..ModelInfo::default()
        };
        (Box::new(TwoHeads { info, sizes: Arc::clone(&sizes), pause }), sizes)
    }

    #[test]
    fn every_worker_gets_the_scores_of_its_rows_in_runs_of_warmed_sizes() {
        const WORKERS: usize = 8;
        let (model, sizes) = two_heads(Duration::from_millis(1));
        let spec = BatchSpec { max_rows: 100, max_delay: Duration::from_millis(20) };
        let ends = batch(model, spec, 30 * SECOND, WORKERS).unwrap();
        assert_eq!(std::mem::take(&mut *sizes.lock().unwrap()), [16, 32, 64, 100], "all sizes are warmed up");
        let work = |(worker, mut end): (usize, Batched)| {
            let mut scores = Vec::new();
            for turn in 0..50_usize {
                // From 1 row to more than a run's maximum.
                let rows = 1 + (worker * 7 + turn * 13) % 130;
                let mut matrix = FeatureMatrix::new(2);
                for (at, row) in matrix.reset(rows).chunks_exact_mut(2).enumerate() {
                    row.copy_from_slice(&[(worker * 1_000 + at) as f32, turn as f32]);
                }
                end.score(&matrix, &mut scores).unwrap();
                let own = (0..rows).map(|at| (worker * 1_000 + at) as f32);
                assert!(scores.iter().copied().eq(own.chain((0..rows).map(|_| -(turn as f32)))), "{worker} {turn}");
            }
        };
        thread::scope(|scope| {
            for end in ends.into_iter().enumerate() {
                scope.spawn(move || work(end));
            }
        });
        let sizes = sizes.lock().unwrap();
        assert!(sizes.iter().all(|size| [16, 32, 64, 100].contains(size)), "{sizes:?}");
        let asked: usize =
            (0..WORKERS).flat_map(|worker| (0..50).map(move |turn| 1 + (worker * 7 + turn * 13) % 130)).sum();
        let run: usize = sizes.iter().sum();
        assert!(run >= asked && run < asked * 2, "{run} rows were run for {asked}");
        assert!(sizes.contains(&100), "rows of several workers were batched: {sizes:?}");
    }

    #[test]
    fn a_run_does_not_wait_for_workers_that_cannot_send() {
        let spec = BatchSpec { max_delay: Duration::from_millis(100), ..BatchSpec::default() };
        let mut ends = batch(Box::new(FakeModel::constant(&["a"], 0.5)), spec, 10 * SECOND, 2).unwrap();
        let mut one = ends.remove(0);
        drop(ends);
        let mut matrix = FeatureMatrix::new(1);
        matrix.reset(1).fill(1.0);
        let start = Instant::now();
        (0..20).for_each(|_| one.score(&matrix, &mut Vec::new()).unwrap());
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    }

    #[test]
    fn a_failed_or_late_run_is_reported_to_each_worker_and_the_next_one_works() {
        let model = FakeModel::new(&["a"], |row| row[0]);
        let control = model.control();
        let mut ends = batch(Box::new(model), BatchSpec::default(), SECOND, 2).unwrap();
        let mut matrix = FeatureMatrix::new(1);
        matrix.reset(3).fill(0.25);
        let mut scores = vec![9.0];
        for end in &mut ends {
            control.set(Mood::Fail);
            let error = end.score(&matrix, &mut scores).unwrap_err();
            assert!(matches!(&error, ModelError::Run { rows: 3, .. }), "{error}");
            control.set(Mood::Late);
            let error = end.score(&matrix, &mut scores).unwrap_err();
            assert!(matches!(&error, ModelError::Late { rows: 3, .. }) && scores.is_empty(), "{error}");
            control.set(Mood::Score);
            end.score(&matrix, &mut scores).unwrap();
            assert_eq!(scores, [0.25; 3]);
        }
    }

    #[test]
    fn a_model_with_too_few_scores_is_an_error_and_does_not_stop_the_thread() {
        let (mut model, _) = two_heads(Duration::ZERO);
        model.info.heads.push("returned".to_owned());
        let mut run = SharedRun::new(BatchSpec::default(), model.info());
        let (answer, answers) = bounded(1);
        let mut matrix = FeatureMatrix::new(2);
        matrix.reset(3).fill(1.0);
        let awaited = Arc::new(AtomicU64::new(1));
        run.waiting.push(Request { number: 1, matrix, scores: Vec::new(), outcome: Ok(()), awaited, answer });
        let outcome = run.score(model.as_mut(), &AtomicUsize::new(0));
        run.answer(&outcome, "shop");
        let error = answers.try_recv().unwrap().outcome.unwrap_err().to_string();
        assert!(error.contains("expected 3 scores per row, found 32 for 16 rows"), "{error}");
    }

    #[test]
    fn a_handle_whose_thread_has_ended_fails_instead_of_timing_out() {
        let mut ends = batch(Box::new(FakeModel::constant(&["a"], 0.5)), BatchSpec::default(), SECOND, 1).unwrap();
        // As after a panic of the thread.
        let (queue, requests) = bounded(1);
        drop(requests);
        ends[0].queue = queue;
        let mut matrix = FeatureMatrix::new(1);
        matrix.reset(1).fill(1.0);
        let error = ends[0].score(&matrix, &mut Vec::new()).unwrap_err();
        assert!(matches!(&error, ModelError::Run { reason, .. } if reason.contains("has ended")), "{error}");
    }

    #[test]
    fn a_large_request_in_small_runs_gets_the_time_of_all_its_runs() {
        let (model, _) = two_heads(Duration::from_millis(5));
        let spec = BatchSpec { max_rows: 16, max_delay: Duration::ZERO };
        let mut end = batch(model, spec, Duration::from_millis(30), 1).unwrap().remove(0);
        let mut matrix = FeatureMatrix::new(2);
        // 40 runs of 5 ms, each with 30 ms to its deadline.
        matrix.reset(640).fill(0.5);
        end.score(&matrix, &mut Vec::new()).unwrap();
    }

    /// Each worker once had time for its own runs plus one, so those at the end of the queue timed out.
    #[test]
    fn no_worker_times_out_behind_runs_of_others_that_are_in_time() {
        // Each fills a whole run, or one of them many: the deadline is 120 ms per run.
        for rows in [[16; 4], [160, 1, 1, 1]] {
            let (model, sizes) = two_heads(Duration::from_millis(80));
            let spec = BatchSpec { max_rows: 16, max_delay: Duration::from_millis(1) };
            let ends = batch(model, spec, Duration::from_millis(120), rows.len()).unwrap();
            let together = Barrier::new(rows.len());
            thread::scope(|scope| {
                for (mut end, rows) in ends.into_iter().zip(rows) {
                    let together = &together;
                    scope.spawn(move || {
                        let mut matrix = FeatureMatrix::new(2);
                        matrix.reset(rows).fill(0.5);
                        together.wait();
                        for _ in 0..3 {
                            end.score(&matrix, &mut Vec::new()).unwrap();
                        }
                    });
                }
            });
            let asked: usize = rows.iter().map(|rows| rows / 16).sum();
            assert!(sizes.lock().unwrap().len() > 3 * asked, "each had to wait for other runs");
        }
    }

    #[test]
    fn a_hanging_model_makes_its_workers_late_and_late_scores_are_dropped() {
        let gate = Arc::new(Mutex::new(()));
        let closed = Arc::clone(&gate);
        let model = FakeModel::new(&["a"], move |row| {
            drop(closed.lock());
            row[0]
        });
        let mut ends = batch(Box::new(model), BatchSpec::default(), Duration::from_millis(20), 2).unwrap();
        let mut matrix = FeatureMatrix::new(1);
        let mut scores = Vec::new();
        let held = gate.lock().unwrap();
        for turn in 0..6 {
            matrix.reset(2).fill(turn as f32);
            let start = Instant::now();
            let error = ends[turn % 2].score(&matrix, &mut scores).unwrap_err();
            assert!(matches!(error, ModelError::Late { .. }), "{error}");
            assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
        }
        drop(held);
        let start = Instant::now();
        for end in &mut ends {
            matrix.reset(2).fill(0.75);
            while end.score(&matrix, &mut scores).is_err() {
                assert!(start.elapsed() < 10 * SECOND, "it works again");
            }
            assert_eq!(scores, [0.75; 2], "not the answer to the earlier request");
        }
    }

    #[test]
    fn its_thread_ends_with_the_last_worker() {
        struct Dropped(FakeModel, #[expect(dead_code, reason = "its drop shows that the model is gone")] Sender<()>);
        impl Model for Dropped {
            fn info(&self) -> &ModelInfo {
                self.0.info()
            }
            fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError> {
                self.0.score(matrix, scores)
            }
        }
        let (sender, dropped) = bounded(1);
        let model = Dropped(FakeModel::constant(&["a"], 0.5), sender);
        let ends = batch(Box::new(model), BatchSpec::default(), SECOND, 3).unwrap();
        assert_eq!(dropped.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout));
        drop(ends);
        assert_eq!(dropped.recv_timeout(10 * SECOND), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn invalid_values_are_faults_of_their_keys() {
        let spec = BatchSpec::default();
        assert_eq!(spec.error(), None);
        assert_eq!(BatchSpec { max_rows: 15, ..spec }.error().unwrap().0, "max_rows");
        assert_eq!(BatchSpec { max_delay: SECOND, ..spec }.error().unwrap().0, "max_delay");
        assert_eq!(BatchSpec { max_rows: 16, ..spec }.sizes(), [16]);
        assert_eq!(BatchSpec { max_rows: 4_096, ..spec }.sizes().len(), 9);
    }
}
