//! The watch over a model folder: a new version is read, checked, warmed and handed to the workers, who swap it in between
//! two transactions.
//!
//! Guarantees: what is handed over has the hash that its manifest says, fits the features, gives its golden scores again, keeps
//! its scores within their range and runs within the deadline; anything else leaves the old version serving and is counted and
//! told once for each state of its files. No worker waits: loading and warming are a thread's of their own. A load that does not
//! end within `model.load_timeout` is refused, and a folder that does not answer is told; the watch goes on. Limits: looks once a
//! second; one new version at a time; the last one wins where several come before a worker takes one. What never ends cannot be
//! ended: its thread is left behind, with what it holds. [`HUNG_MAX`] of them at most, then nothing new is loaded.

use super::{FeatureMatrix, Golden, Model, ModelFeed, ModelFolder, ModelInfo, folder::Stamp};
use crate::metrics;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// How often the folder is looked at: a directory read of microseconds, and far below the time that training takes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long the folder has for an answer. A disk takes milliseconds, a file system over the network a second.
const FOLDER_LIMIT: Duration = Duration::from_secs(10);

/// How many loads that do not end are borne: each may hold a core and the memory of a model.
const HUNG_MAX: usize = 3;

/// As much as the main thread has by custom: ONNX Runtime walks nested graphs by recursion.
const STACK_BYTES: usize = 8 << 20;

/// How far a golden score may lie from what the manifest says, as a share of it: providers, batch sizes and processors differ in the
/// last digits.
const TOLERANCE: f32 = 2e-4;

/// The same for a provider that computes with less than float32: TF32 keeps three digits.
const TOLERANCE_ROUGH: f32 = 1e-2;

/// How far it may lie in any case, as a share of the largest golden score: what remains where large terms cancel each other out.
const TOLERANCE_OF_LARGEST: f32 = 1e-6;

/// Why a version does not serve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its files cannot be read, or are not of one piece.
    #[error("{0}")]
    Unreadable(String),
    /// It does not fit the features or the runtime.
    #[error("{0}")]
    Unfit(String),
    /// It runs too long.
    #[error("{0}")]
    Slow(String),
    /// It gives other scores than its manifest says, or none.
    #[error("{0}")]
    Wrong(String),
}

impl Refusal {
    /// The reason in a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Unfit(_) => "unfit",
            Self::Slow(_) => "slow",
            Self::Wrong(_) => "wrong_scores",
        }
    }
}

/// How exact the golden scores have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// As float32 computes.
    Full,
    /// As a provider does that was told to be faster.
    Rough,
}

impl From<super::Precision> for Exactness {
    fn from(precision: super::Precision) -> Self {
        if precision == super::Precision::Full { Self::Full } else { Self::Rough }
    }
}

/// Runs a model on its golden rows, or on rows that show each feature at work where it has none, and then on a full batch, which
/// also grows its buffers.
///
/// # Errors
/// It fails, is slow, or gives other scores than it should or can.
pub fn vet(
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
        return Err(Refusal::Unfit(format!("expected golden rows of {width} features, found others or none")));
    }
    if expected.len() != rows.len() {
        let (rows, scores) = (rows.len(), expected.len());
        return Err(Refusal::Unfit(format!("expected a golden score a row, found {scores} scores for {rows} rows")));
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
        // Of a further head nothing is known but that it has to be a number.
        let expected = expected.get(index).copied().unwrap_or(*score);
        // NaN is on neither side.
        let is_near = (score - expected).abs() <= share * expected.abs() + TOLERANCE_OF_LARGEST * largest;
        if !is_near {
            return Err(Refusal::Wrong(format!("golden row {row}: expected the score {expected}, found {score}")));
        }
        check_range(model.info(), index / rows.len(), &format!("golden row {row}"), *score)?;
    }
    Ok(())
}

/// Whether a score can be meant.
fn check_range(info: &ModelInfo, head: usize, row: &str, score: f32) -> Result<(), Refusal> {
    let Some(range) = info.range_left(head, score) else { return Ok(()) };
    let (name, key) = match head.checked_sub(1).and_then(|head| info.heads.get(head)) {
        Some(head) => (format!("score {head}"), format!("head_ranges.{head}")),
        None => ("score".to_owned(), "range".to_owned()),
    };
    let reason = format!(
        "{row}: expected a {name} from {range}, found {score}; where the model means it, declare {key} = [least, largest] \
         under [model], or name another output"
    );
    Err(Refusal::Wrong(reason))
}

/// Rows that show each feature at work: the baseline, or zeros where the model has none; for each feature that row with the
/// feature moved; and zeros again behind a baseline, because that is what much of a new user's profile is.
fn probes(info: &ModelInfo) -> Vec<Vec<f32>> {
    let baseline = info.baseline.clone().unwrap_or_else(|| vec![0.0; info.features.len()]);
    let moved = (0..baseline.len()).map(|feature| {
        let mut row = baseline.clone();
        // Beyond the baseline by its own size and a bit, so that a feature around 0 moves too.
        row[feature] = if row[feature].is_nan() { 1.0 } else { row[feature] * 2.0 + 1.0 };
        row
    });
    let zeros = info.baseline.as_ref().map(|baseline| vec![0.0; baseline.len()]);
    std::iter::once(baseline.clone()).chain(moved).chain(zeros).collect()
}

/// How far a score may differ when other rows are scored beside it, as its share: half precision has three digits.
const TOLERANCE_TOGETHER: f32 = 5e-3;

/// A row and its scores.
type Probe = (Vec<f32>, Vec<f32>);

/// The probes that the model gives numbers for, with all of its scores. A moved feature may be one that it knows no answer for,
/// such as a category that there is not.
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

/// Whether a row's score is the same alone and among others: batches begin and end anywhere.
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
        // Of the mean of its training rows it has to know something; of zeros it need not.
        if !is_number(scores) && (info.baseline.is_some() || !probed.iter().any(|(_, scores)| is_number(scores))) {
            let rows = if info.baseline.is_some() { "its baseline" } else { "any of the rows that were tried" };
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
                _ => format!("trial row {number}"),
            };
            check_range(info, head, &row, scores.get(head).copied().unwrap_or(f32::NAN))?;
        }
    }
    Ok(())
}

/// Rows and the scores that a version has to give again wherever it serves.
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

/// Runs a model on a full batch, which grows its buffers and shows how long that takes.
///
/// # Errors
/// It fails or is slow.
pub fn warm(model: &mut dyn Model, rows: usize, limit: Duration) -> Result<(), Refusal> {
    let row = probes(model.info()).swap_remove(0);
    let mut matrix = FeatureMatrix::new(row.len());
    let full = matrix.reset(rows.max(1));
    full.chunks_exact_mut(row.len().max(1)).for_each(|values| values.copy_from_slice(&row));
    let mut scores = Vec::new();
    // The first run of a size allocates: the second one tells.
    for is_timed in [false, true] {
        let start = Instant::now();
        model.score(&matrix, &mut scores).map_err(|error| Refusal::Slow(error.to_string()))?;
        let took = start.elapsed();
        if is_timed && took > limit {
            let [took, limit] = [took, limit].map(humantime::format_duration).map(|it| it.to_string());
            return Err(Refusal::Slow(format!("{rows} rows took {took}, and model.deadline is {limit}")));
        }
    }
    Ok(())
}

/// Why work has no result.
#[derive(Debug)]
pub enum Unfinished {
    /// It was not done in time, and goes on.
    Late(JoinHandle<()>),
    /// It failed: a bug.
    Panicked,
    /// The system has no thread left.
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

/// Does work on a thread of its own, and waits so long for its result.
///
/// # Errors
/// There is none by then.
pub fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unfinished> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    // Nobody may wait for it any more.
    let run = move || sender.send(work()).unwrap_or_default();
    let thread = std::thread::Builder::new().name("model-load".to_owned()).stack_size(STACK_BYTES);
    let thread = thread.spawn(run).map_err(Unfinished::NoThread)?;
    match receiver.recv_timeout(limit) {
        Ok(done) => Ok(done),
        Err(crossbeam_channel::RecvTimeoutError::Timeout) => Err(Unfinished::Late(thread)),
        Err(crossbeam_channel::RecvTimeoutError::Disconnected) => Err(Unfinished::Panicked),
    }
}

/// Where one worker finds the newest model.
#[derive(Default)]
struct Slot(Mutex<Option<Box<dyn Model>>>);

/// The worker's end of its slot.
pub struct Handed(Arc<Slot>);

impl ModelFeed for Handed {
    fn take(&mut self) -> Option<Box<dyn Model>> {
        // The watcher holds the lock for the time of a move alone; should it be held, the next transaction asks again.
        self.0.0.try_lock().ok()?.take()
    }
}

/// What a look at the folder found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing new.
    Same,
    /// A new version, which was handed over.
    HandedOver(String),
    /// A new version that does not serve.
    Refused(String, Refusal),
}

/// What makes a version into a model for each worker.
type Load = dyn Fn(&str, usize) -> Result<Vec<Box<dyn Model>>, Refusal> + Send + Sync;

/// Looks after a model folder.
pub struct Watch {
    folder: ModelFolder,
    load: Arc<Load>,
    /// How long a load may take.
    limit: Duration,
    slots: Vec<Weak<Slot>>,
    serving: String,
    /// The state of the files of the version that serves, and the hash that its manifest said first.
    seen: Option<(Stamp, String)>,
    /// The version that was refused last, and the state of its files then.
    refused: Option<(String, Stamp)>,
    last_error: Option<String>,
    /// A look at the folder that has no answer yet.
    hung_look: Option<JoinHandle<()>>,
    /// Loads that did not end in time.
    hung_loads: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Watches the folder for `workers` workers, who serve this version now. `load` makes so many copies of a version, and has
    /// `limit` for it.
    pub fn new(
        folder: ModelFolder,
        serving: &str,
        workers: usize,
        limit: Duration,
        load: impl Fn(&str, usize) -> Result<Vec<Box<dyn Model>>, Refusal> + Send + Sync + 'static,
    ) -> (Self, Vec<Handed>) {
        let handed: Vec<Handed> = (0..workers).map(|_| Handed(Arc::default())).collect();
        let watch = Self {
            folder,
            load: Arc::new(load),
            limit,
            slots: handed.iter().map(|it| Arc::downgrade(&it.0)).collect(),
            serving: serving.to_owned(),
            seen: None,
            refused: None,
            last_error: None,
            hung_look: None,
            hung_loads: Vec::new(),
        };
        (watch, handed)
    }

    /// Starts the thread, which ends with the last worker.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(mut self) -> std::io::Result<()> {
        let run = move || {
            while self.slots.iter().any(|slot| slot.strong_count() > 0) {
                std::thread::sleep(INTERVAL);
                self.look();
            }
        };
        std::thread::Builder::new().name("models".to_owned()).spawn(run).map(drop)
    }

    /// Looks once.
    pub fn look(&mut self) -> Look {
        if self.hung_look.as_ref().is_some_and(|it| !it.is_finished()) {
            return Look::Same;
        }
        self.hung_look = None;
        let (version, stamp, sha256) = match self.found() {
            Ok(found) => found,
            Err(error) => {
                if self.last_error.as_ref() != Some(&error) {
                    tracing::warn!(error, serving = self.serving, "look for a new version of the model");
                    metrics::model_version(Refusal::Unreadable(String::new()).label());
                    self.last_error = Some(error);
                }
                return Look::Same;
            }
        };
        if self.last_error.take().is_some() {
            tracing::info!(version, "the model folder can be read again");
        }
        if version == self.serving {
            self.refused = None;
            self.compare(stamp, sha256);
            return Look::Same;
        }
        let state = Some((version.clone(), stamp));
        if self.refused == state {
            return Look::Same;
        }
        match self.loaded(&version) {
            Ok(models) => {
                for (slot, model) in self.slots.iter().zip(models) {
                    if let Some(slot) = slot.upgrade() {
                        *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
                    }
                }
                metrics::model_version("handed_over");
                tracing::info!(version, before = self.serving, "a new version of the model is ready");
                (self.serving, self.refused, self.seen) = (version.clone(), None, None);
                Look::HandedOver(version)
            }
            Err(refusal) => {
                metrics::model_version(refusal.label());
                let (why, serving) = (refusal.to_string(), self.serving.as_str());
                tracing::error!(version, serving, why, "a new version of the model is refused: the old one serves on");
                self.refused = state;
                Look::Refused(version, refusal)
            }
        }
    }

    /// The version that the folder says, the state of its files and, where that is new, the hash in its manifest.
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
                self.hung_look = Some(thread);
                let limit = humantime::format_duration(limit);
                Err(format!("the folder has not answered for {limit}; nothing new is taken until it does"))
            }
            Err(unfinished) => Err(unfinished.to_string()),
        }
    }

    /// Tells where a version has other content than it had: versions do not change.
    fn compare(&mut self, stamp: Stamp, sha256: Option<String>) {
        let Some(sha256) = sha256 else { return };
        match &self.seen {
            Some((_, first)) if *first != sha256 => {
                let version = self.serving.as_str();
                tracing::error!(
                    version,
                    serving = first,
                    found = sha256,
                    "the files of the version that serves are others now, and are not taken: add them as another version"
                );
            }
            _ => {}
        }
        self.seen = Some((stamp, sha256));
    }

    fn loaded(&mut self, version: &str) -> Result<Vec<Box<dyn Model>>, Refusal> {
        self.hung_loads.retain(|it| !it.is_finished());
        if self.hung_loads.len() >= HUNG_MAX {
            let reason =
                "the loads of earlier versions have not ended and hold their threads; restart the process for it";
            return Err(Refusal::Slow(reason.to_owned()));
        }
        let (load, name, copies) = (Arc::clone(&self.load), version.to_owned(), self.slots.len());
        match within(self.limit, move || load(&name, copies)) {
            Ok(outcome) => outcome,
            Err(Unfinished::Late(thread)) => {
                self.hung_loads.push(thread);
                let limit = humantime::format_duration(self.limit);
                Err(Refusal::Slow(format!("it was not loaded and checked within model.load_timeout, which is {limit}")))
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
    fn what_fails_says_nan_or_other_scores_or_is_slow_is_refused() {
        let second = Duration::from_secs(1);
        let vet_with = |model: &mut FakeModel, golden: Option<&Golden>| vet(model, golden, Exactness::Full, 64, second);
        let mut model = FakeModel::new(&["a"], first);
        assert_eq!(vet_with(&mut model, Some(&golden(1.0))), Ok(()));
        assert_eq!(vet_with(&mut model, None), Ok(()));
        assert!(matches!(vet_with(&mut model, Some(&golden(0.9))), Err(Refusal::Wrong(why)) if why.contains("row 0")));
        let wide = Golden { rows: vec![vec![Some(1.0); 2]], scores: vec![1.0] };
        assert!(matches!(vet_with(&mut model, Some(&wide)), Err(Refusal::Unfit(_))));
        let few = Golden { scores: vec![1.0], ..golden(1.0) };
        assert!(matches!(vet_with(&mut model, Some(&few)), Err(Refusal::Unfit(_))));
        for (mood, label) in [(Mood::Fail, "wrong_scores"), (Mood::Nan, "wrong_scores"), (Mood::Late, "wrong_scores")] {
            model.control().set(mood);
            for golden in [None, Some(&golden(1.0))] {
                assert_eq!(vet_with(&mut model, golden).unwrap_err().label(), label, "{mood:?}");
            }
        }
        let mut slow = FakeModel::new(&["a"], |row| {
            std::thread::sleep(Duration::from_millis(1));
            first(row)
        });
        let refusal = vet(&mut slow, None, Exactness::Full, 30, Duration::from_millis(5)).unwrap_err();
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
    fn a_new_version_reaches_every_worker_and_a_refused_one_is_told_once() {
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
        let (mut watch, mut handed) = Watch::new(folder.clone(), "1", 2, Duration::from_secs(10), load);
        assert_eq!(watch.look(), Look::Same);
        put(&folder, "2");
        assert!(matches!(watch.look(), Look::Refused(version, Refusal::Unfit(_)) if version == "2"));
        assert_eq!(watch.look(), Look::Same, "the same files are not tried again");
        assert!(handed.iter_mut().all(|it| it.take().is_none()));
        put(&folder, "3");
        assert_eq!(watch.look(), Look::HandedOver("3".to_owned()));
        assert_eq!(watch.look(), Look::Same);
        for it in &mut handed {
            assert_eq!(it.take().unwrap().info().version, "3");
            assert!(it.take().is_none());
        }
        // Back by one command, and the refused one is passed by.
        folder.activate("1").unwrap();
        assert_eq!(watch.look(), Look::HandedOver("1".to_owned()));
        put(&folder, "4");
        assert_eq!(watch.look(), Look::Same, "a version that was activated by name stays");
        folder.follow_newest().unwrap();
        // Written again, a refused version is tried again.
        assert_eq!(watch.look(), Look::HandedOver("4".to_owned()));
        folder.activate("2").unwrap();
        assert!(matches!(watch.look(), Look::Refused(..)));
        std::fs::write(dir.path().join("2/model.onnx"), b"longer").unwrap();
        assert!(matches!(watch.look(), Look::Refused(..)));
        std::fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(watch.look(), Look::Same, "a folder that is gone changes nothing");
    }

    /// A tolerance of 0.0001 let everything pass where scores are rates of clicks.
    #[test]
    fn golden_scores_are_near_by_their_own_size() {
        let vetted = |exactness, expected: f32, found: f32| {
            let mut model = FakeModel::new(&["a"], move |row| if row[0].is_nan() { expected / 2.0 } else { found });
            let golden = Golden { rows: vec![vec![Some(1.0)], vec![None]], scores: vec![expected, expected / 2.0] };
            vet(&mut model, Some(&golden), exactness, 4, Duration::from_secs(1)).is_ok()
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
            assert_eq!(vetted(exactness, expected, found), is_near, "{exactness:?} {expected} {found}");
        }
    }

    #[test]
    fn scores_out_of_range_or_no_numbers_are_refused_without_golden_rows_as_well() {
        let vetted = |range: Option<(f32, f32)>, score: fn(&[f32]) -> f32| {
            let mut model = FakeModel::new(&["a", "b"], score);
            if let Some((least, most)) = range {
                model = model.range(least, most);
            }
            vet(&mut model, None, Exactness::Full, 4, Duration::from_secs(1)).map_err(|it| it.to_string())
        };
        let probability = Some((0.0, 1.0));
        assert_eq!(vetted(probability, |row| row[0] * 0.0 + 0.5), Ok(()));
        assert_eq!(vetted(probability, |row| row[0] * 0.0 + 1.000_001), Ok(()), "sums of probabilities are rounded");
        for score in [(|row| row[0] * 0.0 + 12_345.0) as fn(&[f32]) -> f32, |_| -3.0, |row| 0.5 + row[1]] {
            let error = vetted(probability, score).unwrap_err();
            assert!(error.contains("expected a score from 0 to 1, found") && error.contains("range = ["), "{error}");
        }
        assert_eq!(vetted(Some((-10.0, f32::INFINITY)), |_| 12_345.0), Ok(()));
        for score in [(|_| f32::NAN) as fn(&[f32]) -> f32, |_| f32::INFINITY, |_| f32::NEG_INFINITY] {
            let error = vetted(None, score).unwrap_err();
            assert!(error.contains("expected a number for any of the rows"), "{error}");
        }
        // A ratio of nothing to nothing is no number, and that of others is.
        assert_eq!(vetted(probability, |row| if row[0] == 0.0 { f32::NAN } else { 0.5 }), Ok(()));
    }

    #[test]
    fn a_load_that_does_not_end_is_refused_and_the_next_version_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(dir.path());
        put(&folder, "1");
        let (open, gate) = crossbeam_channel::bounded::<()>(0);
        let load = move |version: &str, copies: usize| {
            if version.starts_with("hangs") {
                gate.recv().unwrap_or_default();
            }
            if version == "panics" {
                // Without the hook, whose backtrace takes longer than a load has here.
                std::panic::resume_unwind(Box::new("a test"));
            }
            let copy = |_| Box::new(FakeModel::constant(&["a"], 0.5).version(version)) as Box<dyn Model>;
            Ok((0..copies).map(copy).collect())
        };
        let (mut watch, mut handed) = Watch::new(folder.clone(), "1", 1, Duration::from_millis(50), load);
        put(&folder, "hangs");
        assert!(matches!(watch.look(), Look::Refused(_, Refusal::Slow(why)) if why.contains("load_timeout")));
        assert_eq!(watch.look(), Look::Same);
        put(&folder, "panics");
        assert!(matches!(watch.look(), Look::Refused(_, Refusal::Unfit(why)) if why.contains("panicked")));
        put(&folder, "2");
        assert_eq!(watch.look(), Look::HandedOver("2".to_owned()));
        assert_eq!(handed[0].take().unwrap().info().version, "2");
        for version in ["hangs2", "hangs3", "3"] {
            put(&folder, version);
            assert!(matches!(watch.look(), Look::Refused(_, Refusal::Slow(_))), "{version}");
        }
        // They end after all, and what waits is taken when its files are written again.
        drop(open);
        let start = Instant::now();
        while watch.hung_loads.iter().any(|it| !it.is_finished()) {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::yield_now();
        }
        put(&folder, "4");
        assert_eq!(watch.look(), Look::HandedOver("4".to_owned()));
    }

    #[test]
    fn a_pipe_in_the_folder_stops_no_look() {
        let dir = tempfile::tempdir().unwrap();
        let folder = ModelFolder::at(dir.path());
        put(&folder, "1");
        put(&folder, "2");
        let load = |version: &str, copies: usize| {
            let copy = |_| Box::new(FakeModel::constant(&["a"], 0.5).version(version)) as Box<dyn Model>;
            Ok((0..copies).map(copy).collect())
        };
        let (mut watch, _handed) = Watch::new(folder.clone(), "1", 1, Duration::from_secs(10), load);
        let pipe = |path: &std::path::Path| {
            std::fs::remove_file(path).unwrap_or_default();
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        pipe(&dir.path().join("active"));
        assert_eq!(watch.look(), Look::Same);
        assert!(watch.last_error.as_ref().unwrap().contains("found a pipe"), "{:?}", watch.last_error);
        std::fs::remove_file(dir.path().join("active")).unwrap();
        assert_eq!(watch.look(), Look::HandedOver("2".to_owned()));
        pipe(&dir.path().join("2/manifest.json"));
        assert_eq!(watch.look(), Look::HandedOver("1".to_owned()), "what has no manifest is no version");
    }
}
