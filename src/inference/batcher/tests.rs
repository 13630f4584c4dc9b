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
