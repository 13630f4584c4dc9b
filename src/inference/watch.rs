//! The watch over a model folder: a new version is read, checked, warmed and handed to the workers, who swap it in between
//! two transactions.
//!
//! Guarantees: what is handed over has the hash that its manifest says, fits the features, gives its golden scores again and
//! runs within the deadline; anything else leaves the old version serving and is counted and told once for each state of its
//! files. No worker waits: loading and warming are this thread's. Limits: looks once a second; one new version at a time; the
//! last one wins where several come before a worker takes one.

use super::{FeatureMatrix, Golden, Model, ModelFeed, ModelFolder, folder::Stamp};
use crate::telemetry::metrics;
use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, Instant},
};

/// How often the folder is looked at: a directory read of microseconds, and far below the time that training takes.
const INTERVAL: Duration = Duration::from_secs(1);

/// How far a golden score may lie from what the manifest says: providers and batch sizes differ in the last digits.
const TOLERANCE: f32 = 1e-4;

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

/// Runs a model on its golden rows, or on its baseline where it has none, and then on a full batch, which also grows its
/// buffers.
///
/// # Errors
/// It fails, is slow, or gives other scores than it should.
pub fn vet(model: &mut dyn Model, golden: Option<&Golden>, rows: usize, limit: Duration) -> Result<(), Refusal> {
    let width = model.info().features.len();
    let baseline = || {
        let row = model.info().baseline.clone().unwrap_or_else(|| vec![0.0; width]);
        Golden { rows: vec![row.into_iter().map(Some).collect()], scores: Vec::new() }
    };
    let owned = golden.cloned().unwrap_or_else(baseline);
    if owned.rows.is_empty() || owned.rows.iter().any(|row| row.len() != width) {
        return Err(Refusal::Unfit(format!("expected golden rows of {width} features, found others or none")));
    }
    if golden.is_some() && owned.scores.len() != owned.rows.len() {
        let (rows, scores) = (owned.rows.len(), owned.scores.len());
        return Err(Refusal::Unfit(format!("expected a golden score a row, found {scores} scores for {rows} rows")));
    }
    let values: Vec<f32> = owned.rows.iter().flatten().map(|value| value.unwrap_or(f32::NAN)).collect();
    let mut matrix = FeatureMatrix::new(width);
    let mut scores = Vec::new();
    matrix.reset(owned.rows.len()).copy_from_slice(&values);
    model.score(&matrix, &mut scores).map_err(|error| Refusal::Wrong(error.to_string()))?;
    for (row, score) in scores.iter().enumerate() {
        // Of a further head nothing is known but that it has to be a number.
        let expected = owned.scores.get(row).copied().unwrap_or(*score);
        // NaN is on neither side.
        let is_near = (score - expected).abs() <= TOLERANCE;
        if !is_near {
            return Err(Refusal::Wrong(format!("golden row {row}: expected the score {expected}, found {score}")));
        }
    }
    let full = matrix.reset(rows.max(1));
    full.chunks_mut(values.len()).for_each(|part| part.copy_from_slice(&values[..part.len()]));
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
type Load = Box<dyn FnMut(&str, usize) -> Result<Vec<Box<dyn Model>>, Refusal> + Send>;

/// Looks after a model folder.
pub struct Watch {
    folder: ModelFolder,
    load: Load,
    slots: Vec<Weak<Slot>>,
    serving: String,
    /// The version that was refused last, and the state of its files then.
    refused: Option<(String, Stamp)>,
    last_error: Option<String>,
}

impl Watch {
    /// Watches the folder for `workers` workers, who serve this version now. `load` makes so many copies of a version.
    pub fn new(
        folder: ModelFolder,
        serving: &str,
        workers: usize,
        load: impl FnMut(&str, usize) -> Result<Vec<Box<dyn Model>>, Refusal> + Send + 'static,
    ) -> (Self, Vec<Handed>) {
        let handed: Vec<Handed> = (0..workers).map(|_| Handed(Arc::default())).collect();
        let slots = handed.iter().map(|it| Arc::downgrade(&it.0)).collect();
        let serving = serving.to_owned();
        (Self { folder, load: Box::new(load), slots, serving, refused: None, last_error: None }, handed)
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
        let version = match self.folder.active() {
            Ok(version) => version,
            Err(error) => {
                let error = error.to_string();
                if self.last_error.as_ref() != Some(&error) {
                    tracing::warn!(error, "look for a new version of the model");
                    self.last_error = Some(error);
                }
                return Look::Same;
            }
        };
        self.last_error = None;
        if version == self.serving {
            self.refused = None;
            return Look::Same;
        }
        let state = Some((version.clone(), self.folder.stamp(&version)));
        if self.refused == state {
            return Look::Same;
        }
        match (self.load)(&version, self.slots.len()) {
            Ok(models) => {
                for (slot, model) in self.slots.iter().zip(models) {
                    if let Some(slot) = slot.upgrade() {
                        *slot.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
                    }
                }
                metrics::model_handed_over();
                tracing::info!(version, before = self.serving, "a new version of the model is ready");
                (self.serving, self.refused) = (version.clone(), None);
                Look::HandedOver(version)
            }
            Err(refusal) => {
                metrics::model_refused(&refusal);
                let (why, serving) = (refusal.to_string(), self.serving.as_str());
                tracing::error!(version, serving, why, "a new version of the model is refused: the old one serves on");
                self.refused = state;
                Look::Refused(version, refusal)
            }
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
        let vet_with = |model: &mut FakeModel, golden: Option<&Golden>| vet(model, golden, 64, second);
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
        let refusal = vet(&mut slow, None, 30, Duration::from_millis(5)).unwrap_err();
        assert!(matches!(&refusal, Refusal::Slow(why) if why.contains("30 rows took")), "{refusal:?}");
    }

    fn put(folder: &ModelFolder, version: &str) {
        let manifest = super::super::Manifest { file: "model.onnx".into(), ..super::super::Manifest::default() };
        folder.add(version, b"", &manifest).expect("a folder that can be written");
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
        let (mut watch, mut handed) = Watch::new(folder.clone(), "1", 2, load);
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
}
