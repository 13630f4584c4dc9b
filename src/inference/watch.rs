//! Watches a model folder: loads, validates and warms up a new version, and hands it to the workers, which swap it in between two
//! transactions.
//!
//! Guarantees: a version is handed over only if it matches the hash in its manifest and the features, reproduces its golden scores,
//! keeps its scores in range and runs within the deadline. Otherwise the old version stays active, and the refusal is counted and
//! logged once per state of its files. No worker waits: loading and warm-up run on a separate thread. A load that exceeds
//! `model.load_timeout` is refused, a folder that does not respond is logged, and watching continues. Limits: one check per second;
//! one new version at a time; if several arrive before a worker takes one, the last one wins. A load that never ends cannot be
//! stopped, so its thread is leaked; after [`HUNG_MAX`] of them nothing new is loaded.

use super::{FeatureMatrix, Golden, Model, ModelFeed, ModelFolder, ModelInfo, folder::Stamp};
use crate::metrics;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often the folder is checked: it takes microseconds, and is far more often than models are trained.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long reading the folder may take. A disk takes milliseconds, a network file system up to a second.
const FOLDER_LIMIT: Duration = Duration::from_secs(10);

/// Maximum number of hung loads: each may occupy a core and the memory of a model.
const HUNG_MAX: usize = 3;

/// The usual stack size of a main thread: ONNX Runtime traverses nested graphs recursively.
const STACK_BYTES: usize = 8 << 20;

/// Relative tolerance of golden scores: providers, batch sizes and processors differ in the last digits.
const TOLERANCE: f32 = 2e-4;

/// The same for reduced precision: TF32 keeps three digits.
const TOLERANCE_ROUGH: f32 = 1e-2;

/// Absolute tolerance, relative to the largest golden score: the residue if large terms cancel out.
const TOLERANCE_OF_LARGEST: f32 = 1e-6;

/// Why a version was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its files cannot be read, or do not match.
    #[error("{0}")]
    Unreadable(String),
    /// It does not match the features or the runtime.
    #[error("{0}")]
    Unfit(String),
    /// It runs too long.
    #[error("{0}")]
    Slow(String),
    /// Its scores differ from those in its manifest, or are missing.
    #[error("{0}")]
    Wrong(String),
}

impl Refusal {
    /// The reason as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Unfit(_) => "unfit",
            Self::Slow(_) => "slow",
            Self::Wrong(_) => "wrong_scores",
        }
    }
}

/// The tolerance for golden scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// That of float32.
    Full,
    /// That of reduced precision.
    Rough,
}

impl From<super::Precision> for Exactness {
    fn from(precision: super::Precision) -> Self {
        if precision == super::Precision::Full { Self::Full } else { Self::Rough }
    }
}

/// Validates a model with its golden rows, or with probe rows if it has none, and then with a full batch, which also allocates its
/// buffers.
///
/// # Errors
/// It fails, is slow, or has wrong or invalid scores.
pub fn validate(
    model: &mut dyn Model,
    golden: Option<&Golden>,
    exactness: Exactness,
    rows: usize,
    limit: Duration,
) -> Result<(), Refusal> {
    match golden {
        Some(golden) => check_golden(model, golden, exactness)?,
        None => check_probes(model)?,
    }
    warm(model, rows, limit)
}

fn check_golden(model: &mut dyn Model, golden: &Golden, exactness: Exactness) -> Result<(), Refusal> {
    let width = model.info().features.len();
    let Golden { rows, scores: expected } = golden;
    if rows.is_empty() || rows.iter().any(|row| row.len() != width) {
        return Err(Refusal::Unfit(format!(
            "expected golden rows of {width} features, found none or of another width"
        )));
    }
    if expected.len() != rows.len() {
        let (rows, scores) = (rows.len(), expected.len());
        return Err(Refusal::Unfit(format!("expected a golden score per row, found {scores} scores for {rows} rows")));
    }
    let values: Vec<f32> = rows.iter().flatten().map(|value| value.unwrap_or(f32::NAN)).collect();
    let mut matrix = FeatureMatrix::new(width);
    matrix.reset(rows.len()).copy_from_slice(&values);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).map_err(|error| Refusal::Wrong(error.to_string()))?;
    let share = if exactness == Exactness::Full { TOLERANCE } else { TOLERANCE_ROUGH };
    let largest = expected.iter().fold(0.0, |largest: f32, score| largest.max(score.abs()));
    for (index, score) in scores.iter().enumerate() {
        let row = index % rows.len();
        // Further heads have no golden scores; they must only be numbers.
        let expected = expected.get(index).copied().unwrap_or(*score);
        // False for NaN.
        let is_near = (score - expected).abs() <= share * expected.abs() + TOLERANCE_OF_LARGEST * largest;
        if !is_near {
            return Err(Refusal::Wrong(format!("golden row {row}: expected the score {expected}, found {score}")));
        }
        check_range(model.info(), index / rows.len(), &format!("golden row {row}"), *score)?;
    }
    Ok(())
}

/// Checks that a score is in its range.
fn check_range(info: &ModelInfo, head: usize, row: &str, score: f32) -> Result<(), Refusal> {
    let Some(range) = info.range_left(head, score) else { return Ok(()) };
    let (name, key) = match head.checked_sub(1).and_then(|head| info.heads.get(head)) {
        Some(head) => (format!("score {head}"), format!("head_ranges.{head}")),
        None => ("score".to_owned(), "range".to_owned()),
    };
    let reason = format!(
        "{row}: expected a {name} from {range}, found {score}; if that is a valid score, set {key} = [smallest, largest] \
         under [model], or name another output"
    );
    Err(Refusal::Wrong(reason))
}

/// Probe rows that exercise each feature: the baseline, or zeros if the model has none; for each feature this row with the feature
/// changed; and zeros after a baseline, because they are common in profiles of new users.
fn probes(info: &ModelInfo) -> Vec<Vec<f32>> {
    let baseline = info.baseline.clone().unwrap_or_else(|| vec![0.0; info.features.len()]);
    let moved = (0..baseline.len()).map(|feature| {
        let mut row = baseline.clone();
        // Roughly double the baseline, plus a bit so that a feature near 0 changes too.
        row[feature] = if row[feature].is_nan() { 1.0 } else { row[feature] * 2.0 + 1.0 };
        row
    });
    let zeros = info.baseline.as_ref().map(|baseline| vec![0.0; baseline.len()]);
    std::iter::once(baseline.clone()).chain(moved).chain(zeros).collect()
}

/// Relative tolerance between the scores of a row on its own and in a batch: half precision has three digits.
const TOLERANCE_TOGETHER: f32 = 5e-3;

/// A row with its scores.
type Probe = (Vec<f32>, Vec<f32>);

/// The probe rows with numeric scores, and these scores. A changed feature may have no score, such as an unknown category.
fn probed(model: &mut dyn Model) -> Result<Vec<Probe>, Refusal> {
    let mut matrix = FeatureMatrix::new(model.info().features.len());
    let mut scores = Vec::new();
    let mut probed = Vec::new();
    for (index, row) in probes(model.info()).into_iter().enumerate() {
        matrix.reset(1).copy_from_slice(&row);
        match model.score(&matrix, &mut scores) {
            Ok(()) => probed.push((row, scores.clone())),
            Err(error) if index == 0 => return Err(Refusal::Wrong(error.to_string())),
            Err(_) => {}
        }
    }
    Ok(probed)
}

/// Whether a row has the same score on its own and in a batch, because batches may begin and end anywhere.
fn check_rows_apart(model: &mut dyn Model, probed: &[Probe]) -> Result<(), Refusal> {
    let mut matrix = FeatureMatrix::new(model.info().features.len());
    let values: Vec<f32> = probed.iter().rev().flat_map(|(row, _)| row.iter().copied()).collect();
    matrix.reset(probed.len()).copy_from_slice(&values);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).map_err(|error| Refusal::Wrong(error.to_string()))?;
    let rows = probed.len();
    for (index, together) in scores.iter().enumerate() {
        let Some(alone) = probed[rows - 1 - index % rows].1.get(index / rows) else { continue };
        let is_near = (together - alone).abs() <= TOLERANCE_TOGETHER * (1.0 + alone.abs().max(together.abs()))
            || together.is_nan() && alone.is_nan()
            || together == alone;
        if !is_near {
            return Err(Refusal::Wrong(format!(
                "a row has the score {alone} by itself and {together} among {rows} rows; a score must depend on its own row \
                 alone and be the same each time (does the model normalize over the first axis, or draw at random?)"
            )));
        }
    }
    Ok(())
}

fn is_zeros(row: &[f32]) -> bool {
    row.iter().all(|value| *value == 0.0)
}

fn check_probes(model: &mut dyn Model) -> Result<(), Refusal> {
    let probed = probed(model)?;
    check_rows_apart(model, &probed)?;
    let info = model.info();
    for head in 0..info.scores() {
        let is_number = |scores: &[f32]| scores.get(head).is_some_and(|score| score.is_finite());
        let (row, scores) = &probed[0];
        // The baseline must have a score; zeros need not.
        if !is_number(scores) && (info.baseline.is_some() || !probed.iter().any(|(_, scores)| is_number(scores))) {
            let rows = if info.baseline.is_some() { "its baseline" } else { "any of the probe rows" };
            let found = scores.get(head).copied().unwrap_or(f32::NAN);
            let first: Vec<String> = row.iter().take(5).map(ToString::to_string).collect();
            return Err(Refusal::Wrong(format!(
                "expected a number for {rows}, found {found} for the row [{}{}]",
                first.join(", "),
                if row.len() > 5 { ", …" } else { "" }
            )));
        }
        let without = probed.iter().filter(|(_, scores)| !is_number(scores)).count();
        if without > 0 {
            tracing::warn!(
                model = info.name,
                version = info.version,
                rows = probed.len(),
                without,
                has_zeros_without = probed.iter().any(|(row, scores)| !is_number(scores) && is_zeros(row)),
                "the model has no score (NaN or infinite) for some of the rows that were tried; events with such features get a \
                 fallback in its place. If that is not meant, fill in missing values inside the model"
            );
        }
        for (number, (row, scores)) in probed.iter().enumerate() {
            let row = match number {
                _ if is_zeros(row) => "a row of zeros".to_owned(),
                0 if info.baseline.is_some() => "the baseline".to_owned(),
                _ => format!("probe row {number}"),
            };
            check_range(info, head, &row, scores.get(head).copied().unwrap_or(f32::NAN))?;
        }
    }
    Ok(())
}

/// Computes golden rows and scores, which a version must reproduce wherever it is loaded.
///
/// # Errors
/// The model fails.
pub fn golden(model: &mut dyn Model) -> Result<Golden, Refusal> {
    let mut golden = Golden::default();
    for (row, scores) in probed(model)? {
        if let Some(score) = scores.first().copied().filter(|score| score.is_finite()) {
            golden.rows.push(row.into_iter().map(|value| Some(value).filter(|it| !it.is_nan())).collect());
            golden.scores.push(score);
        }
    }
    Ok(golden)
}

/// Runs a model on a full batch, to allocate its buffers and to measure the time.
///
/// # Errors
/// It fails or is slow.
pub fn warm(model: &mut dyn Model, rows: usize, limit: Duration) -> Result<(), Refusal> {
    let row = probes(model.info()).swap_remove(0);
    let mut matrix = FeatureMatrix::new(row.len());
    let full = matrix.reset(rows.max(1));
    full.chunks_exact_mut(row.len().max(1)).for_each(|values| values.copy_from_slice(&row));
    let mut scores = Vec::new();
    // The first run of a size allocates, so the second one is measured.
    for is_timed in [false, true] {
        let start = Instant::now();
        model.score(&matrix, &mut scores).map_err(|error| Refusal::Slow(error.to_string()))?;
        let took = start.elapsed();
        if is_timed && took > limit {
            let [took, limit] = [took, limit].map(humantime::format_duration).map(|it| it.to_string());
            return Err(Refusal::Slow(format!("{rows} rows took {took}, but model.deadline is {limit}")));
        }
    }
    Ok(())
}

/// Why work on another thread has no result.
#[derive(Debug)]
pub enum Unfinished {
    /// It was not done in time, and is still running.
    Late(JoinHandle<()>),
    /// It panicked: a bug.
    Panicked,
    /// The thread could not be started.
    NoThread(std::io::Error),
}

impl std::fmt::Display for Unfinished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Late(_) => f.write_str("it was not done in time"),
            Self::Panicked => f.write_str("it panicked, which is a bug; please report it with the model"),
            Self::NoThread(error) => write!(f, "start a thread for it: {error}"),
        }
    }
}

/// Runs work on another thread, and waits up to `limit` for its result.
///
/// # Errors
/// There is no result in time.
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unfinished> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    // The receiver may have given up.
    let run = move || sender.send(work()).unwrap_or_default();
    let thread = std::thread::Builder::new().name("model-load".to_owned()).stack_size(STACK_BYTES);
    let thread = thread.spawn(run).map_err(Unfinished::NoThread)?;
    match receiver.recv_timeout(limit) {
        Ok(done) => Ok(done),
        Err(crossbeam_channel::RecvTimeoutError::Timeout) => Err(Unfinished::Late(thread)),
        Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Err(Unfinished::Panicked),
    }
}

/// The newest model for one worker.
#[derive(Default)]
struct Mailbox(Mutex<Option<Box<dyn Model>>>);

/// A worker's access to its newest model.
pub struct ModelMailbox(Arc<Mailbox>);

impl ModelFeed for ModelMailbox {
    fn take(&mut self) -> Option<Box<dyn Model>> {
        // The watcher holds the lock only briefly. If it is held, the next transaction tries again.
        self.0.0.try_lock().ok()?.take()
    }
}

/// The result of a check of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// Nothing new.
    Same,
    /// A new version was handed over.
    HandedOver(String),
    /// A new version was refused.
    Refused(String, Refusal),
}

/// Loads a version, with a copy for each worker.
type Load = dyn Fn(&str, usize) -> Result<Vec<Box<dyn Model>>, Refusal> + Send + Sync;

/// Watches a model folder.
pub struct ModelWatcher {
    folder: ModelFolder,
    load: Arc<Load>,
    /// How long a load may take.
    limit: Duration,
    mailboxes: Vec<Weak<Mailbox>>,
    serving: String,
    /// The state of the active version's files, and the hash that its manifest had first.
    seen: Option<(Stamp, String)>,
    /// The last refused version, and the state of its files.
    refused: Option<(String, Stamp)>,
    last_error: Option<String>,
    /// A hung read of the folder.
    hung_check: Option<JoinHandle<()>>,
    /// Hung loads.
    hung_loads: Vec<JoinHandle<()>>,
}

impl ModelWatcher {
    /// Watches the folder for `workers` workers, which now use this version. `load` loads a version with a number of copies, within
    /// `limit`.
    pub fn new(
        folder: ModelFolder,
        serving: &str,
        workers: usize,
        limit: Duration,
        load: impl Fn(&str, usize) -> Result<Vec<Box<dyn Model>>, Refusal> + Send + Sync + 'static,
    ) -> (Self, Vec<ModelMailbox>) {
        let mailboxes: Vec<ModelMailbox> = (0..workers).map(|_| ModelMailbox(Arc::default())).collect();
        let watcher = Self {
            folder,
            load: Arc::new(load),
            limit,
            mailboxes: mailboxes.iter().map(|it| Arc::downgrade(&it.0)).collect(),
            serving: serving.to_owned(),
            seen: None,
            refused: None,
            last_error: None,
            hung_check: None,
            hung_loads: Vec::new(),
        };
        (watcher, mailboxes)
    }

    /// Starts the thread, which ends with the last worker.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(mut self) -> std::io::Result<()> {
        let run = move || {
            while self.mailboxes.iter().any(|mailbox| mailbox.strong_count() > 0) {
                std::thread::sleep(INTERVAL);
                self.check();
            }
        };
        std::thread::Builder::new().name("models".to_owned()).spawn(run).map(drop)
    }

    /// Checks the folder once.
    pub fn check(&mut self) -> CheckOutcome {
        if self.hung_check.as_ref().is_some_and(|it| !it.is_finished()) {
            return CheckOutcome::Same;
        }
        self.hung_check = None;
        let (version, stamp, sha256) = match self.found() {
            Ok(found) => found,
            Err(error) => {
                if self.last_error.as_ref() != Some(&error) {
                    tracing::warn!(error, serving = self.serving, "check for a new version of the model");
                    metrics::model_version(Refusal::Unreadable(String::new()).label());
                    self.last_error = Some(error);
                }
                return CheckOutcome::Same;
            }
        };
        if self.last_error.take().is_some() {
            tracing::info!(version, "the model folder can be read again");
        }
        if version == self.serving {
            self.refused = None;
            self.compare(stamp, sha256);
            return CheckOutcome::Same;
        }
        let state = Some((version.clone(), stamp));
        if self.refused == state {
            return CheckOutcome::Same;
        }
        match self.loaded(&version) {
            Ok(models) => {
                for (mailbox, model) in self.mailboxes.iter().zip(models) {
                    if let Some(mailbox) = mailbox.upgrade() {
                        *mailbox.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
                    }
                }
                metrics::model_version("handed_over");
                tracing::info!(version, before = self.serving, "a new version of the model is ready");
                (self.serving, self.refused, self.seen) = (version.clone(), None, None);
                CheckOutcome::HandedOver(version)
            }
            Err(refusal) => {
                metrics::model_version(refusal.label());
                let (reason, serving) = (refusal.to_string(), self.serving.as_str());
                tracing::error!(
                    version,
                    serving,
                    reason,
                    "refused a new version of the model: the old one stays active"
                );
                self.refused = state;
                CheckOutcome::Refused(version, refusal)
            }
        }
    }

    /// The active version in the folder, the state of its files and, if that is new, the hash in its manifest.
    fn found(&mut self) -> Result<(String, Stamp, Option<String>), String> {
        let (folder, limit) = (self.folder.clone(), self.limit.min(FOLDER_LIMIT));
        let known = self.seen.as_ref().map(|(stamp, _)| stamp.clone());
        let found = within(limit, move || {
            let version = folder.active()?;
            let stamp = folder.stamp(&version);
            let is_known = known.is_some_and(|known| known == stamp);
            let sha256 = if is_known { None } else { folder.manifest(&version).ok().map(|it| it.sha256) };
            Ok((version, stamp, sha256))
        });
        match found {
            Ok(found) => found.map_err(|error: super::FolderError| error.to_string()),
            Err(Unfinished::Late(thread)) => {
                self.hung_check = Some(thread);
                let limit = humantime::format_duration(limit);
                Err(format!("the folder has not responded for {limit}; no new version is loaded until it does"))
            }
            Err(unfinished) => Err(unfinished.to_string()),
        }
    }

    /// Reports a change of the active version's files: versions must not change.
    fn compare(&mut self, stamp: Stamp, sha256: Option<String>) {
        let Some(sha256) = sha256 else { return };
        match &self.seen {
            Some((_, first)) if *first != sha256 => {
                let version = self.serving.as_str();
                tracing::error!(
                    version,
                    serving = first,
                    found = sha256,
                    "the files of the active version have changed and are not loaded: add them as another version"
                );
            }
            _ => {}
        }
        self.seen = Some((stamp, sha256));
    }

    fn loaded(&mut self, version: &str) -> Result<Vec<Box<dyn Model>>, Refusal> {
        self.hung_loads.retain(|it| !it.is_finished());
        if self.hung_loads.len() >= HUNG_MAX {
            let reason = "loads of earlier versions are hung; restart the process";
            return Err(Refusal::Slow(reason.to_owned()));
        }
        let (load, name, copies) = (Arc::clone(&self.load), version.to_owned(), self.mailboxes.len());
        match within(self.limit, move || load(&name, copies)) {
            Ok(outcome) => outcome,
            Err(Unfinished::Late(thread)) => {
                self.hung_loads.push(thread);
                let limit = humantime::format_duration(self.limit);
                Err(Refusal::Slow(format!("it was not loaded and checked within model.load_timeout = {limit}")))
            }
            Err(unfinished) => Err(Refusal::Unfit(unfinished.to_string())),
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::testkit::{FakeModel, Mood};

    fn golden(score: f32) -> Golden {
        Golden { rows: vec![vec![Some(1.0)], vec![None]], scores: vec![score, 0.0] }
    }

    fn first(row: &[f32]) -> f32 {
        if row[0].is_nan() { 0.0 } else { row[0] }
    }

    #[test]
    fn models_that_fail_return_nan_or_other_scores_or_are_slow_are_refused() {
        let second = Duration::from_secs(1);
        let validate_with =
            |model: &mut FakeModel, golden: Option<&Golden>| validate(model, golden, Exactness::Full, 64, second);
        let mut model = FakeModel::new(&["a"], first);
        assert_eq!(validate_with(&mut model, Some(&golden(1.0))), Ok(()));
        assert_eq!(validate_with(&mut model, None), Ok(()));
        assert!(
            matches!(validate_with(&mut model, Some(&golden(0.9))), Err(Refusal::Wrong(why)) if why.contains("row 0"))
        );
        let wide = Golden { rows: vec![vec![Some(1.0); 2]], scores: vec![1.0] };
        assert!(matches!(validate_with(&mut model, Some(&wide)), Err(Refusal::Unfit(_))));
        let few = Golden { scores: vec![1.0], ..golden(1.0) };
        assert!(matches!(validate_with(&mut model, Some(&few)), Err(Refusal::Unfit(_))));
        for (mood, label) in [(Mood::Fail, "wrong_scores"), (Mood::Nan, "wrong_scores"), (Mood::Late, "wrong_scores")] {
            model.control().set(mood);
            for golden in [None, Some(&golden(1.0))] {
                assert_eq!(validate_with(&mut model, golden).unwrap_err().label(), label, "{mood:?}");
            }
        }
        let mut slow = FakeModel::new(&["a"], |row| {
            std::thread::sleep(Duration::from_millis(1));
            first(row)
        });
        let refusal = validate(&mut slow, None, Exactness::Full, 30, Duration::from_millis(5)).unwrap_err();
        assert!(matches!(&refusal, Refusal::Slow(why) if why.contains("30 rows took")), "{refusal:?}");
    }

    fn put(folder: &ModelFolder, version: &str) {
        let files = super::super::ModelFiles::from(Vec::new());
        let manifest = super::super::Manifest {
            file: "model.onnx".into(),
            sha256: files.sha256(),
            ..super::super::Manifest::default()
        };
        folder.add(version, &files, &manifest).expect("the folder is writable");
    }

    #[test]
    fn a_new_version_reaches_every_worker_and_a_refused_one_is_reported_once() {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(dir.path());
        put(&folder, "1");
        let load = |version: &str, copies: usize| {
            if version == "2" {
                return Err(Refusal::Unfit("no feature is named \"x\"".to_owned()));
            }
            let copy = |_| Box::new(FakeModel::constant(&["a"], 0.5).version(version)) as Box<dyn Model>;
            Ok((0..copies).map(copy).collect())
        };
        let (mut watcher, mut mailboxes) = ModelWatcher::new(folder.clone(), "1", 2, Duration::from_secs(10), load);
        assert_eq!(watcher.check(), CheckOutcome::Same);
        put(&folder, "2");
        assert!(matches!(watcher.check(), CheckOutcome::Refused(version, Refusal::Unfit(_)) if version == "2"));
        assert_eq!(watcher.check(), CheckOutcome::Same, "the same files are not tried again");
        assert!(mailboxes.iter_mut().all(|it| it.take().is_none()));
        put(&folder, "3");
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("3".to_owned()));
        assert_eq!(watcher.check(), CheckOutcome::Same);
        for it in &mut mailboxes {
            assert_eq!(it.take().unwrap().info().version, "3");
            assert!(it.take().is_none());
        }
        // Back by one command, and the refused one is skipped.
        folder.activate("1").unwrap();
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("1".to_owned()));
        put(&folder, "4");
        assert_eq!(watcher.check(), CheckOutcome::Same, "a version activated by name stays");
        folder.follow_newest().unwrap();
        // A refused version is tried again when it is rewritten.
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("4".to_owned()));
        folder.activate("2").unwrap();
        assert!(matches!(watcher.check(), CheckOutcome::Refused(..)));
        std::fs::write(dir.path().join("2/model.onnx"), b"longer").unwrap();
        assert!(matches!(watcher.check(), CheckOutcome::Refused(..)));
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(watcher.check(), CheckOutcome::Same, "a missing folder changes nothing");
    }

    /// An absolute tolerance of 0.0001 would accept everything if scores are click rates.
    #[test]
    fn golden_scores_have_a_relative_tolerance() {
        let validated = |exactness, expected: f32, found: f32| {
            let mut model = FakeModel::new(&["a"], move |row| if row[0].is_nan() { expected / 2.0 } else { found });
            let golden = Golden { rows: vec![vec![Some(1.0)], vec![None]], scores: vec![expected, expected / 2.0] };
            validate(&mut model, Some(&golden), exactness, 4, Duration::from_secs(1)).is_ok()
        };
        for (exactness, expected, found, is_near) in [
            (Exactness::Full, 1e-4, 1.1e-4, false),
            (Exactness::Full, 1e-4, 1.000_1e-4, true),
            (Exactness::Full, 0.5, 0.500_05, true),
            (Exactness::Full, 0.5, 0.500_2, false),
            (Exactness::Rough, 0.5, 0.502, true),
            (Exactness::Rough, 1e-4, 1.1e-4, false),
            (Exactness::Full, 0.0, 0.0, true),
            (Exactness::Full, 0.0, 1e-3, false),
        ] {
            assert_eq!(validated(exactness, expected, found), is_near, "{exactness:?} {expected} {found}");
        }
    }

    #[test]
    fn scores_out_of_range_and_nan_are_refused_without_golden_rows_too() {
        let validated = |range: Option<(f32, f32)>, score: fn(&[f32]) -> f32| {
            let mut model = FakeModel::new(&["a", "b"], score);
            if let Some((least, most)) = range {
                model = model.range(least, most);
            }
            validate(&mut model, None, Exactness::Full, 4, Duration::from_secs(1)).map_err(|it| it.to_string())
        };
        let probability = Some((0.0, 1.0));
        assert_eq!(validated(probability, |row| row[0] * 0.0 + 0.5), Ok(()));
        assert_eq!(validated(probability, |row| row[0] * 0.0 + 1.000_001), Ok(()), "sums of probabilities are rounded");
        for score in [(|row| row[0] * 0.0 + 12_345.0) as fn(&[f32]) -> f32, |_| -3.0, |row| 0.5 + row[1]] {
            let error = validated(probability, score).unwrap_err();
            assert!(error.contains("expected a score from 0 to 1, found") && error.contains("range = ["), "{error}");
        }
        assert_eq!(validated(Some((-10.0, f32::INFINITY)), |_| 12_345.0), Ok(()));
        for score in [(|_| f32::NAN) as fn(&[f32]) -> f32, |_| f32::INFINITY, |_| f32::NEG_INFINITY] {
            let error = validated(None, score).unwrap_err();
            assert!(error.contains("expected a number for any of the probe rows"), "{error}");
        }
        // 0 / 0 is NaN for one probe row only.
        assert_eq!(validated(probability, |row| if row[0] == 0.0 { f32::NAN } else { 0.5 }), Ok(()));
    }

    #[test]
    fn a_hung_load_is_refused_and_the_next_version_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(dir.path());
        put(&folder, "1");
        let (open, gate) = crossbeam_channel::bounded::<()>(0);
        let load = move |version: &str, copies: usize| {
            if version.starts_with("hangs") {
                gate.recv().unwrap_or_default();
            }
            if version == "panics" {
                // Without the panic hook, whose backtrace takes longer than the limit here.
                std::panic::resume_unwind(Box::new("a test"));
            }
            let copy = |_| Box::new(FakeModel::constant(&["a"], 0.5).version(version)) as Box<dyn Model>;
            Ok((0..copies).map(copy).collect())
        };
        let (mut watcher, mut mailboxes) = ModelWatcher::new(folder.clone(), "1", 1, Duration::from_millis(50), load);
        put(&folder, "hangs");
        assert!(
            matches!(watcher.check(), CheckOutcome::Refused(_, Refusal::Slow(why)) if why.contains("load_timeout"))
        );
        assert_eq!(watcher.check(), CheckOutcome::Same);
        put(&folder, "panics");
        assert!(matches!(watcher.check(), CheckOutcome::Refused(_, Refusal::Unfit(why)) if why.contains("panicked")));
        put(&folder, "2");
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("2".to_owned()));
        assert_eq!(mailboxes[0].take().unwrap().info().version, "2");
        for version in ["hangs2", "hangs3", "3"] {
            put(&folder, version);
            assert!(matches!(watcher.check(), CheckOutcome::Refused(_, Refusal::Slow(_))), "{version}");
        }
        // They end after all, and a refused version is loaded when its files are rewritten.
        drop(open);
        let start = Instant::now();
        while watcher.hung_loads.iter().any(|it| !it.is_finished()) {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        put(&folder, "4");
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("4".to_owned()));
    }

    #[test]
    fn a_pipe_in_the_folder_does_not_block_a_check() {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(dir.path());
        put(&folder, "1");
        put(&folder, "2");
        let load = |version: &str, copies: usize| {
            let copy = |_| Box::new(FakeModel::constant(&["a"], 0.5).version(version)) as Box<dyn Model>;
            Ok((0..copies).map(copy).collect())
        };
        let (mut watcher, _mailboxes) = ModelWatcher::new(folder.clone(), "1", 1, Duration::from_secs(10), load);
        let pipe = |path: &std::path::Path| {
            std::fs::remove_file(path).unwrap_or_default();
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        pipe(&dir.path().join("active"));
        assert_eq!(watcher.check(), CheckOutcome::Same);
        assert!(watcher.last_error.as_ref().unwrap().contains("found a pipe"), "{:?}", watcher.last_error);
        std::fs::remove_file(dir.path().join("active")).unwrap();
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("2".to_owned()));
        pipe(&dir.path().join("2/manifest.json"));
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("1".to_owned()), "without a manifest there is no version");
    }
}
