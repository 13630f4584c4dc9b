//! One model on a thread of its own, which many workers feed: for a GPU, which wants few large runs.
//!
//! Guarantees: a worker waits for the scores of its rows before it goes on, so the order of a user's events is kept; each row
//! gets its own scores, whatever it is joined with; runs have one of a few numbers of rows (powers of two up to
//! `batch.max_rows`, filled up by rows that nobody gets), all of which were warmed before the first worker came. A run that
//! fails gives none of its workers scores. A worker waits for as long as runs end, those of others before its own included,
//! and is late once none has ended for `batch.max_delay` and twice the model's deadline. Limits: one request of a worker at a
//! time, so the queue is as long as there are workers, and nobody waits for more runs than all of them have asked for.

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

/// The fewest rows of a run. Below, a GPU's run takes as long as one of so many.
const ROWS_MIN: usize = 16;

/// `[model.batch]`: how rows of several workers are joined for a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchSpec {
    /// The most rows of a run.
    pub max_rows: usize,
    /// How long the first rows of a run wait for others.
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
    /// What is wrong with it: the key, and why.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        if !(ROWS_MIN..=1 << 20).contains(&self.max_rows) {
            return Some(("max_rows", format!("{} is not between {ROWS_MIN} and {}", self.max_rows, 1 << 20)));
        }
        if self.max_delay > Duration::from_millis(100) {
            let found = humantime::format_duration(self.max_delay);
            return Some(("max_delay", format!("{found} is more than 100ms, which every decision may have to wait")));
        }
        None
    }

    /// The numbers of rows that runs have: powers of two, and the most at the end.
    fn sizes(&self) -> Vec<usize> {
        let doubled = std::iter::successors(Some(ROWS_MIN), |size| Some(size * 2));
        doubled.take_while(|size| *size < self.max_rows).chain([self.max_rows]).collect()
    }
}

/// Rows on their way to the thread, and on their way back with their scores.
struct Request {
    /// Tells an answer from that to an earlier request, for which nobody waited any more.
    number: u64,
    matrix: FeatureMatrix,
    scores: Vec<f32>,
    outcome: Result<(), ModelError>,
    /// The number of the request that its worker waits for.
    awaited: Arc<AtomicU64>,
    answer: Sender<Request>,
}

impl Request {
    fn is_awaited(&self) -> bool {
        self.awaited.load(Ordering::Relaxed) == self.number
    }
}

/// What the thread and its workers know of one another.
struct Watch {
    /// How many workers can still send.
    ends: AtomicUsize,
    /// How many runs have ended, by which a worker tells a queue that moves from a model that hangs.
    runs: AtomicUsize,
}

/// A worker's end of a model that runs on a thread of its own.
pub struct Batched {
    info: Arc<ModelInfo>,
    spec: BatchSpec,
    /// The model's deadline for one run.
    limit: Duration,
    queue: Sender<Request>,
    watch: Arc<Watch>,
    awaited: Arc<AtomicU64>,
    answer: Sender<Request>,
    answers: Receiver<Request>,
    number: u64,
    /// The buffers of the last request.
    spare: (FeatureMatrix, Vec<f32>),
}

/// Starts a thread for a model, and gives an end for each of so many workers; `limit` is the model's deadline. The thread ends
/// with the last of them.
///
/// # Errors
/// The model does not run on one of the sizes, or the system gives no thread.
pub fn batch(
    mut model: Box<dyn Model>,
    spec: BatchSpec,
    limit: Duration,
    workers: usize,
) -> Result<Vec<Batched>, ModelError> {
    let mut joined = Joined::new(spec, model.info());
    joined.warm(model.as_mut())?;
    let info = Arc::new(model.info().clone());
    let (queue, requests) = bounded(workers.max(1));
    let watch = Arc::new(Watch { ends: AtomicUsize::new(workers), runs: AtomicUsize::new(0) });
    let all = (0..workers).map(|_| {
        // An answer that came too late lies there until the next request; there are no more of them than places to wait in.
        let (answer, answers) = bounded(workers + 2);
        let spare = (FeatureMatrix::new(info.features.len()), Vec::new());
        let (info, queue, watch) = (Arc::clone(&info), queue.clone(), Arc::clone(&watch));
        Batched { info, spec, limit, queue, watch, awaited: Arc::default(), answer, answers, number: 0, spare }
    });
    let all = all.collect();
    let start = move || -> io::Result<()> {
        let run = move || joined.serve(model.as_mut(), &requests, &watch);
        thread::Builder::new().name("batcher".to_owned()).spawn(run).map(drop)
    };
    start().map_err(|error| ModelError::Run {
        model: info.name.clone(),
        rows: 0,
        reason: format!("start the thread that joins the rows of the workers: {error}"),
    })?;
    Ok(all)
}

impl Drop for Batched {
    fn drop(&mut self) {
        self.watch.ends.fetch_sub(1, Ordering::Relaxed);
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
        // Between the ends of two runs lie the wait for others, the copying of rows and a whole run; the second deadline is
        // for the copying, and for a thread that does not get its core at once.
        let limit = self.limit * 2 + self.spec.max_delay;
        let model = || self.info.name.clone();
        let late = || ModelError::Late { model: model(), rows, limit };
        // What came after its time had passed.
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
            // Of what the workers gave up waiting for, so the model hangs.
            TrySendError::Full(_) => late(),
            TrySendError::Disconnected(_) => {
                let reason = "the thread that joins the rows of the workers has ended: this is a bug".to_owned();
                ModelError::Run { model: model(), rows, reason }
            }
        })?;
        loop {
            let runs = self.watch.runs.load(Ordering::Relaxed);
            let request = match self.answers.recv_timeout(limit) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) if self.watch.runs.load(Ordering::Relaxed) != runs => continue,
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

/// The rows of one run, of one or more requests.
struct Joined {
    spec: BatchSpec,
    sizes: Vec<usize>,
    /// How many scores a row gets.
    heads: usize,
    waiting: Vec<Request>,
    /// The rows of all requests.
    values: Vec<f32>,
    matrix: FeatureMatrix,
    scores: Vec<f32>,
    /// By head: the scores of all rows.
    by_head: Vec<Vec<f32>>,
}

impl Joined {
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

    /// Runs every size once: the first run of a shape allocates, and on a GPU chooses its kernels.
    fn warm(&mut self, model: &mut dyn Model) -> Result<(), ModelError> {
        let row = model.info().baseline.clone().unwrap_or_else(|| vec![0.0; self.matrix.width()]);
        for size in &self.sizes {
            let values = self.matrix.reset(*size);
            values.chunks_exact_mut(row.len().max(1)).for_each(|values| values.copy_from_slice(&row));
            model.score(&self.matrix, &mut self.scores)?;
        }
        Ok(())
    }

    /// Scores what comes, until nobody can send any more.
    fn serve(&mut self, model: &mut dyn Model, requests: &Receiver<Request>, watch: &Watch) {
        while let Ok(first) = requests.recv() {
            let until = Instant::now() + self.spec.max_delay;
            let mut rows = first.matrix.rows();
            self.waiting.push(first);
            // Nobody else can come once every worker waits.
            while rows < self.spec.max_rows && self.waiting.len() < watch.ends.load(Ordering::Relaxed) {
                let Ok(next) = requests.recv_deadline(until) else { break };
                rows += next.matrix.rows();
                self.waiting.push(next);
            }
            self.waiting.retain(Request::is_awaited);
            let outcome = self.score(model, &watch.runs);
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
            // The last row again: a row like others costs no more than one.
            for more in values[part.len()..].chunks_exact_mut(width.max(1)) {
                more.copy_from_slice(&part[part.len() - width..]);
            }
            let outcome = model.score(&self.matrix, &mut self.scores);
            runs.fetch_add(1, Ordering::Relaxed);
            outcome?;
            if self.scores.len() != size * self.heads {
                let reason =
                    format!("expected {} scores a row, found {} for {size} rows", self.heads, self.scores.len());
                return Err(ModelError::Run { model: model.info().name.clone(), rows, reason });
            }
            for (head, scores) in self.by_head.iter_mut().zip(self.scores.chunks_exact(size)) {
                scores[..rows].iter().for_each(|score| head.push(*score));
            }
        }
        Ok(())
    }

    /// Gives every worker the scores of its rows: the main one of each row, then the first head's, and so on.
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
            // Where it is full or closed nobody waits for it.
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

    /// A model with a further head, which notes the sizes of its runs.
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
        assert_eq!(std::mem::take(&mut *sizes.lock().unwrap()), [16, 32, 64, 100], "all sizes are warmed");
        let work = |(worker, mut end): (usize, Batched)| {
            let mut scores = Vec::new();
            for turn in 0..50_usize {
                // From 1 row up to more than one run takes.
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
        assert!(sizes.contains(&100), "rows of several workers were joined: {sizes:?}");
    }

    #[test]
    fn nobody_waits_for_workers_that_cannot_come() {
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
    fn a_run_that_fails_or_is_late_is_told_to_each_and_the_next_one_works() {
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
    fn a_model_that_gives_too_few_scores_is_told_and_ends_nothing() {
        let (mut model, _) = two_heads(Duration::ZERO);
        model.info.heads.push("returned".to_owned());
        let mut joined = Joined::new(BatchSpec::default(), model.info());
        let (answer, answers) = bounded(1);
        let mut matrix = FeatureMatrix::new(2);
        matrix.reset(3).fill(1.0);
        let awaited = Arc::new(AtomicU64::new(1));
        joined.waiting.push(Request { number: 1, matrix, scores: Vec::new(), outcome: Ok(()), awaited, answer });
        let outcome = joined.score(model.as_mut(), &AtomicUsize::new(0));
        joined.answer(&outcome, "shop");
        let error = answers.try_recv().unwrap().outcome.unwrap_err().to_string();
        assert!(error.contains("expected 3 scores a row, found 32 for 16 rows"), "{error}");
    }

    #[test]
    fn an_end_whose_thread_is_gone_fails_and_is_not_late() {
        let mut ends = batch(Box::new(FakeModel::constant(&["a"], 0.5)), BatchSpec::default(), SECOND, 1).unwrap();
        // As after a panic: nobody takes requests any more.
        let (queue, requests) = bounded(1);
        drop(requests);
        ends[0].queue = queue;
        let mut matrix = FeatureMatrix::new(1);
        matrix.reset(1).fill(1.0);
        let error = ends[0].score(&matrix, &mut Vec::new()).unwrap_err();
        assert!(matches!(&error, ModelError::Run { reason, .. } if reason.contains("has ended")), "{error}");
    }

    #[test]
    fn many_rows_for_small_runs_have_the_time_of_all_these_runs() {
        let (model, _) = two_heads(Duration::from_millis(5));
        let spec = BatchSpec { max_rows: 16, max_delay: Duration::ZERO };
        let mut end = batch(model, spec, Duration::from_millis(30), 1).unwrap().remove(0);
        let mut matrix = FeatureMatrix::new(2);
        // 40 runs of 5 ms, each with 30 ms to its deadline.
        matrix.reset(640).fill(0.5);
        end.score(&matrix, &mut Vec::new()).unwrap();
    }

    /// As each end once had time for its own runs and one more, those at the end of the queue were told late.
    #[test]
    fn nobody_is_late_behind_the_runs_of_others_each_of_which_is_in_time() {
        // Each fills a whole run, or one of them many: the deadline is 30 ms a run.
        for rows in [[16; 4], [160, 1, 1, 1]] {
            let (model, sizes) = two_heads(Duration::from_millis(20));
            let spec = BatchSpec { max_rows: 16, max_delay: Duration::from_millis(1) };
            let ends = batch(model, spec, Duration::from_millis(30), rows.len()).unwrap();
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
            assert!(sizes.lock().unwrap().len() > 3 * asked, "each had runs to wait for");
        }
    }

    #[test]
    fn a_model_that_hangs_makes_its_workers_late_and_what_it_says_then_is_nobody_s() {
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
            assert_eq!(scores, [0.75; 2], "not what was asked before");
        }
    }

    #[test]
    fn its_thread_ends_with_the_last_worker() {
        struct Told(FakeModel, #[expect(dead_code, reason = "its end tells that the model is gone")] Sender<()>);
        impl Model for Told {
            fn info(&self) -> &ModelInfo {
                self.0.info()
            }
            fn score(&mut self, matrix: &FeatureMatrix, scores: &mut Vec<f32>) -> Result<(), ModelError> {
                self.0.score(matrix, scores)
            }
        }
        let (sender, dropped) = bounded(1);
        let model = Told(FakeModel::constant(&["a"], 0.5), sender);
        let ends = batch(Box::new(model), BatchSpec::default(), SECOND, 3).unwrap();
        assert_eq!(dropped.recv_timeout(Duration::from_millis(20)), Err(RecvTimeoutError::Timeout));
        drop(ends);
        assert_eq!(dropped.recv_timeout(10 * SECOND), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn what_cannot_be_meant_is_a_fault_of_its_key() {
        let spec = BatchSpec::default();
        assert_eq!(spec.fault(), None);
        assert_eq!(BatchSpec { max_rows: 15, ..spec }.fault().unwrap().0, "max_rows");
        assert_eq!(BatchSpec { max_delay: SECOND, ..spec }.fault().unwrap().0, "max_delay");
        assert_eq!(BatchSpec { max_rows: 16, ..spec }.sizes(), [16]);
        assert_eq!(BatchSpec { max_rows: 4_096, ..spec }.sizes().len(), 9);
    }
}
