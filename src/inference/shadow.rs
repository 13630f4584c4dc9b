//! Shadow models: they score live rows without affecting decisions.
//!
//! Guarantees: no worker waits for a shadow. Rows reach it through a fixed number of buffers; while all of them are in use, further
//! rows are skipped and counted. Failures, timeouts and NaNs of a shadow are counted and have no effect on decisions. Limits:
//! [`BUFFERS`] batches per shadow, for all workers together; one thread per shadow, which competes with the workers for CPU time.
//! Skipping depends on the load, so a shadow's figures are not a function of the input, unlike decisions. Only the shadow's thread
//! waits for the receiver of its scores ([`Shadow::with_score_sink`]).

use super::{Drift, FeatureMatrix, Model, ModelInfo, Repeats};
use crate::{
    event::split_key,
    metrics::{self, ShadowDrift},
};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use serde::Serialize;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

/// Buffers per shadow: one being scored, one waiting, and two being filled by workers.
const BUFFERS: usize = 4;

/// Rows for a shadow, with the champion's scores.
#[derive(Debug, Default)]
pub struct ShadowRows {
    /// The rows of the shadow's features.
    pub matrix: FeatureMatrix,
    /// The champion's calibrated scores; NaN if missing.
    pub champion: Vec<f32>,
    /// Rows whose scores are logged, with the partition and offset of their events, which identify the decision.
    pub logged: Vec<(usize, i32, i64)>,
    /// The subject of each row, if there is a score sink.
    pub subjects: Subjects,
}

/// The user and decision of each row.
#[derive(Debug, Default)]
pub struct Subjects {
    text: Vec<u8>,
    /// For each row, the end of the user's key and the end of the decision's id in `text`.
    ends: Vec<[usize; 2]>,
}

impl Subjects {
    /// Removes all rows but keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }

    /// Appends a row: its user's key, and a function that appends the decision's id.
    pub fn push(&mut self, user: &[u8], decision: impl FnOnce(&mut Vec<u8>)) {
        self.text.extend_from_slice(user);
        let end = self.text.len();
        decision(&mut self.text);
        self.ends.push([end, self.text.len()]);
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = [0].into_iter().chain(self.ends.iter().map(|[_, end]| *end));
        let part = |from: usize, to: usize| &self.text[from..to];
        starts.zip(&self.ends).map(move |(start, [user, decision])| (part(start, *user), part(*user, *decision)))
    }
}

/// The record for the score sink.
#[derive(Serialize)]
struct ShadowScore<'a> {
    decision_id: &'a str,
    user_key: &'a str,
    shadow: &'a str,
    version: &'a str,
    /// Of its file and external weights: a version's name may be used again.
    sha256: &'a str,
    /// Calibrated; `None` if it was NaN.
    score: Option<f32>,
    /// The champion's score.
    champion: Option<f32>,
}

/// Receives the user's key, and JSON with the decision id, the shadow with its version, and both scores.
pub type ScoreSink = Box<dyn FnMut(&[u8], &[u8]) + Send>;

/// Counts of a shadow's rows by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShadowCounts {
    /// Rows scored by both the shadow and the champion.
    pub scored: u64,
    /// Rows skipped because the shadow was busy.
    pub skipped: u64,
    /// Rows of runs that failed or timed out.
    pub failed: u64,
    /// Rows for which the shadow or the champion returned NaN.
    pub unscored: u64,
}

/// A running shadow model.
pub struct Shadow {
    model: Box<dyn Model>,
    tap: ShadowTap,
    filled: Receiver<ShadowRows>,
    emptied: Sender<ShadowRows>,
    scores: Vec<f32>,
    drift: Drift,
    counts: ShadowCounts,
    failures: Repeats,
    sink: Option<ScoreSink>,
    record: Vec<u8>,
}

/// A worker's handle to a shadow. Clones refer to the same shadow.
#[derive(Clone, Debug)]
pub struct ShadowTap {
    info: Arc<ModelInfo>,
    empty: Receiver<ShadowRows>,
    emptied: Sender<ShadowRows>,
    full: Sender<ShadowRows>,
    skipped: Arc<AtomicU64>,
    wants_subjects: bool,
}

impl Shadow {
    /// Creates a shadow of this model.
    pub fn new(model: Box<dyn Model>) -> Self {
        metrics::shadow_starts(&model.info().name);
        let (full, filled) = bounded(BUFFERS);
        let (emptied, empty) = bounded(BUFFERS);
        for _ in 0..BUFFERS {
            let rows = ShadowRows { matrix: FeatureMatrix::new(model.info().features.len()), ..ShadowRows::default() };
            emptied.send(rows).expect("the channel holds as many as there are");
        }
        let tap = ShadowTap {
            info: Arc::new(model.info().clone()),
            empty,
            emptied: emptied.clone(),
            full,
            skipped: Arc::default(),
            wants_subjects: false,
        };
        Self {
            model,
            tap,
            filled,
            emptied,
            scores: Vec::new(),
            drift: Drift::default(),
            counts: ShadowCounts::default(),
            failures: Repeats::default(),
            sink: None,
            record: Vec::new(),
        }
    }

    /// Sends the scores of all rows to a sink. Call this before [`Shadow::tap`].
    #[must_use]
    pub fn with_score_sink(mut self, sink: ScoreSink) -> Self {
        self.sink = Some(sink);
        self.tap.wants_subjects = true;
        self
    }

    /// A handle for a worker.
    pub fn tap(&self) -> ShadowTap {
        self.tap.clone()
    }

    /// Starts the shadow's thread, which runs until the last worker drops its handle.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(mut self) -> io::Result<()> {
        // Its own handle would keep it alive forever.
        let (closed, _) = bounded(0);
        self.tap.full = closed;
        thread::Builder::new().name("shadow".to_owned()).spawn(move || {
            while let Ok(rows) = self.filled.recv() {
                self.score(rows);
            }
        })?;
        Ok(())
    }

    /// Scores the waiting rows on this thread.
    pub fn score_waiting(&mut self) {
        loop {
            match self.filled.try_recv() {
                Ok(rows) => self.score(rows),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Its rows by outcome.
    pub fn counts(&self) -> ShadowCounts {
        ShadowCounts { skipped: self.tap.skipped.load(Ordering::Relaxed), ..self.counts }
    }

    /// The comparison with the champion's scores.
    pub fn drift(&self) -> &Drift {
        &self.drift
    }

    fn score(&mut self, rows: ShadowRows) {
        let before = self.counts;
        match self.model.score(&rows.matrix, &mut self.scores) {
            Ok(()) => {
                self.failures.not();
                self.compare(&rows);
            }
            Err(error) => {
                if let Some(runs) = self.failures.again() {
                    tracing::warn!(%error, runs, "scoring a batch with the shadow model failed: the batch is skipped");
                }
                self.counts.failed += rows.champion.len() as u64;
            }
        }
        let name = &self.model.info().name;
        for (outcome, count) in [
            ("scored", self.counts.scored - before.scored),
            ("failed", self.counts.failed - before.failed),
            ("unscored", self.counts.unscored - before.unscored),
        ] {
            metrics::shadow_rows(name, outcome, count);
        }
        if let (Some(psi), Some((champion, shadow))) = (self.drift.psi(), self.drift.means()) {
            let correlation = self.drift.correlation().unwrap_or(f64::NAN);
            metrics::shadow_drift(name, ShadowDrift { psi, champion, shadow, correlation });
        }
        // Without workers the buffer is not needed any more.
        self.emptied.try_send(rows).unwrap_or_default();
    }

    fn compare(&mut self, rows: &ShadowRows) {
        let info = self.model.info();
        let calibrate = |raw: f32| info.calibration.as_ref().map_or(raw, |it| it.apply(raw));
        for (champion, score) in rows.champion.iter().zip(&mut self.scores) {
            // A score outside its range counts as NaN.
            *score = if info.range_left(0, *score).is_some() { f32::NAN } else { calibrate(*score) };
            if self.drift.add(*champion, *score) {
                self.counts.scored += 1;
            } else {
                self.counts.unscored += 1;
            }
        }
        for (row, partition, offset) in &rows.logged {
            let (shadow, version) = (info.name.as_str(), info.version.as_str());
            let (score, champion) = (self.scores[*row], rows.champion[*row]);
            tracing::info!(shadow, version, partition, offset, score, champion, "shadow score");
        }
        let Some(sink) = &mut self.sink else { return };
        let number = |score: &f32| Some(*score).filter(|score| score.is_finite());
        let scores = rows.champion.iter().zip(&self.scores);
        for ((user, decision), (champion, score)) in rows.subjects.iter().zip(scores) {
            let key = String::from_utf8_lossy(user);
            let record = ShadowScore {
                decision_id: &String::from_utf8_lossy(decision),
                user_key: split_key(&key).1,
                shadow: &info.name,
                version: &info.version,
                sha256: &info.sha256,
                score: number(score),
                champion: number(champion),
            };
            self.record.clear();
            serde_json::to_writer(&mut self.record, &record).expect("texts and numbers are written as JSON");
            sink(user, &self.record);
        }
    }
}

impl ShadowTap {
    /// The description of the shadow.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Whether the shadow needs the subject of each row.
    pub fn wants_subjects(&self) -> bool {
        self.wants_subjects
    }

    /// A buffer to fill, or none if the shadow is busy.
    pub fn buffer(&self) -> Option<ShadowRows> {
        self.empty.try_recv().ok()
    }

    /// Counts rows that were not offered because the shadow was busy.
    pub fn skip(&self, rows: usize) {
        self.skipped.fetch_add(rows as u64, Ordering::Relaxed);
        metrics::shadow_rows(&self.info.name, "skipped", rows as u64);
    }

    /// Returns an unused buffer.
    pub fn give_back(&self, rows: ShadowRows) {
        // There are no more buffers than places, so only the channel of a stopped shadow refuses it.
        self.emptied.try_send(rows).unwrap_or_default();
    }

    /// Hands over a filled buffer.
    pub fn offer(&self, rows: ShadowRows) {
        // There are no more buffers than places, so only a stopped shadow refuses it.
        self.full.try_send(rows).unwrap_or_default();
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::testkit::{FakeModel, Mood};
    use std::time::{Duration, Instant};

    fn offer(tap: &ShadowTap, values: &[f32]) -> bool {
        let Some(mut rows) = tap.buffer() else {
            tap.skip(values.len());
            return false;
        };
        rows.matrix.reset(values.len()).copy_from_slice(values);
        rows.champion.clear();
        rows.champion.extend_from_slice(values);
        tap.offer(rows);
        true
    }

    #[test]
    fn offered_rows_are_scored_and_failures_are_counted() {
        let model = FakeModel::new(&["a"], |row| row[0] / 2.0);
        let control = model.control();
        let mut shadow = Shadow::new(Box::new(model));
        let tap = shadow.tap();
        assert!(offer(&tap, &[0.2, 0.4, f32::NAN]));
        shadow.score_waiting();
        assert_eq!(shadow.counts(), ShadowCounts { scored: 2, unscored: 1, ..ShadowCounts::default() });
        let (champion, other) = shadow.drift().means().unwrap();
        assert!((champion - 0.3).abs() < 1e-6 && (other - 0.15).abs() < 1e-6);
        for (mood, counts) in [
            (Mood::Fail, ShadowCounts { scored: 2, unscored: 1, failed: 2, skipped: 0 }),
            (Mood::Late, ShadowCounts { scored: 2, unscored: 1, failed: 4, skipped: 0 }),
            (Mood::Nan, ShadowCounts { scored: 2, unscored: 3, failed: 4, skipped: 0 }),
        ] {
            control.set(mood);
            assert!(offer(&tap, &[0.1, 0.2]));
            shadow.score_waiting();
            assert_eq!(shadow.counts(), counts, "{mood:?}");
        }
        // It recovers with the model, using the same buffers.
        control.set(Mood::Score);
        for _ in 0..10 {
            assert!(offer(&tap, &[0.5]));
            shadow.score_waiting();
        }
        assert_eq!(shadow.counts().scored, 12);
    }

    #[test]
    fn the_score_sink_gets_each_row_with_its_decision() {
        let told: Arc<std::sync::Mutex<Vec<(String, serde_json::Value)>>> = Arc::default();
        let kept = Arc::clone(&told);
        let sink = move |user: &[u8], record: &[u8]| {
            let record = serde_json::from_slice(record).expect("JSON");
            kept.lock().expect("nobody fails with it").push((String::from_utf8_lossy(user).into_owned(), record));
        };
        let model = FakeModel::new(&["a"], |row| row[0] / 2.0).version("2");
        let mut shadow = Shadow::new(Box::new(model)).with_score_sink(Box::new(sink));
        let tap = shadow.tap();
        // Twice, to test the reuse of a buffer.
        for _ in 0..2 * BUFFERS {
            let mut rows = tap.buffer().unwrap();
            rows.matrix.reset(3).copy_from_slice(&[0.5, f32::NAN, 1.0]);
            rows.champion = vec![0.75, 0.5, f32::NAN];
            rows.subjects.clear();
            for (user, decision) in [("ann", "c-0-1"), ("", "c-0-2"), ("bob", "c-1-7")] {
                rows.subjects.push(user.as_bytes(), |to| to.extend_from_slice(decision.as_bytes()));
            }
            tap.offer(rows);
            shadow.score_waiting();
        }
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 6 * BUFFERS);
        for told in told.chunks(3) {
            let [(ann, first), (nobody, second), (bob, third)] = told else { unreachable!("chunks of three") };
            assert_eq!((ann.as_str(), nobody.as_str(), bob.as_str()), ("ann", "", "bob"));
            let owed = serde_json::json!({
                "decision_id": "c-0-1", "user_key": "ann", "shadow": "fake", "version": "2", "sha256": "0".repeat(64),
                "score": 0.25, "champion": 0.75
            });
            assert_eq!(first, &owed);
            assert_eq!((&second["decision_id"], &second["score"]), (&"c-0-2".into(), &serde_json::Value::Null));
            assert_eq!((&third["champion"], &third["score"]), (&serde_json::Value::Null, &0.5.into()));
        }
    }

    #[test]
    fn a_busy_shadow_is_skipped() {
        let mut shadow = Shadow::new(Box::new(FakeModel::constant(&["a"], 0.5)));
        let tap = shadow.tap();
        let taken = (0..10).filter(|_| offer(&tap, &[0.1, 0.2])).count();
        assert_eq!((taken, shadow.counts().skipped), (BUFFERS, 2 * (10 - BUFFERS as u64)));
        shadow.score_waiting();
        assert_eq!(shadow.counts().scored, 2 * BUFFERS as u64);
        assert!(offer(&tap, &[0.1]));
    }

    #[test]
    fn its_thread_ends_with_the_last_worker() {
        let model = FakeModel::constant(&["a"], 0.5);
        let control = model.control();
        let shadow = Shadow::new(Box::new(model));
        let (tap, other) = (shadow.tap(), shadow.tap());
        shadow.start().unwrap();
        drop(other);
        assert!(offer(&tap, &[0.1]));
        let until = |done: &dyn Fn() -> bool| {
            let deadline = Instant::now() + Duration::from_secs(10);
            while !done() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            done()
        };
        assert!(until(&|| control.rows() == 1));
        let ShadowTap { empty, emptied, full, .. } = tap;
        drop((emptied, full));
        // When it ends, it drops its side of the channel of empty buffers.
        assert!(until(&|| loop {
            match empty.try_recv() {
                Ok(_) => {}
                Err(error) => break error == TryRecvError::Disconnected,
            }
        }));
    }
}
