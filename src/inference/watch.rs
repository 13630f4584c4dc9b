//! Watches a model folder: loads, validates and warms up a new version, and hands it to the workers, which swap it in between two
//! transactions.
//!
//! Guarantees: a version is handed over only if it matches the hash in its manifest and the features, reproduces its golden scores,
//! keeps its scores in range and runs within the deadline. Otherwise the old version stays active, and the refusal is counted and
//! logged once per state of its files. No worker waits: loading and warm-up run on a separate thread. A load that exceeds
//! `model.load_timeout` is refused, a folder that does not respond is logged, and watching continues. Limits: one check per second;
//! one new version at a time; if several arrive before a worker takes one, the last one wins. A load that never ends cannot be
//! stopped, so its thread is leaked; after [`HUNG_MAX`] of them nothing new is loaded.

use super::{Model, ModelFeed, ModelFolder, Refusal, folder::Stamp};
use crate::{
    logging::LastingFault,
    mailbox::{Mailbox, Senders},
    metrics,
};
use std::{sync::Arc, thread::JoinHandle, time::Duration};

/// How often the folder is checked: it takes microseconds, and is far more often than models are trained.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long reading the folder may take. A disk takes milliseconds, a network file system up to a second.
const FOLDER_LIMIT: Duration = Duration::from_secs(10);

/// Maximum number of hung loads: each may occupy a core and the memory of a model.
const HUNG_MAX: usize = 3;

/// The usual stack size of a main thread: ONNX Runtime traverses nested graphs recursively.
const STACK_BYTES: usize = 8 << 20;

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

/// A worker's access to its newest model.
pub type ModelMailbox = Mailbox<Box<dyn Model>>;

impl ModelFeed for ModelMailbox {
    fn take(&mut self) -> Option<Box<dyn Model>> {
        Mailbox::take(self)
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
    senders: Senders<Box<dyn Model>>,
    serving: String,
    /// The state of the active version's files, and the hash that its manifest had first.
    seen: Option<(Stamp, String)>,
    /// The last refused version, and the state of its files.
    refused: Option<(String, Stamp)>,
    /// What is wrong with the folder.
    fault: LastingFault,
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
        let (senders, mailboxes) = Senders::to_workers(workers);
        let watcher = Self {
            folder,
            load: Arc::new(load),
            limit,
            senders,
            serving: serving.to_owned(),
            seen: None,
            refused: None,
            fault: LastingFault::default(),
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
            while self.senders.has_workers() {
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
                if self.fault.begins(&error) {
                    tracing::warn!(
                        error,
                        serving = self.serving,
                        "the model folder cannot be read: the version in use stays active"
                    );
                    metrics::model_version(Refusal::Unreadable(String::new()).label());
                }
                return CheckOutcome::Same;
            }
        };
        if self.fault.ends() {
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
                self.senders.send(models);
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
                let limit = crate::duration::display(limit);
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
        let (load, name, copies) = (Arc::clone(&self.load), version.to_owned(), self.senders.count());
        match within(self.limit, move || load(&name, copies)) {
            Ok(outcome) => outcome,
            Err(Unfinished::Late(thread)) => {
                self.hung_loads.push(thread);
                let limit = crate::duration::display(self.limit);
                Err(Refusal::Slow(format!("it was not loaded and checked within model.load_timeout = {limit}")))
            }
            Err(unfinished) => Err(Refusal::Unfit(unfinished.to_string())),
        }
    }
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::testkit::FakeModel;
    use std::time::Instant;

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
        assert!(format!("{:?}", watcher.fault).contains("found a pipe"), "{:?}", watcher.fault);
        std::fs::remove_file(dir.path().join("active")).unwrap();
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("2".to_owned()));
        pipe(&dir.path().join("2/manifest.json"));
        assert_eq!(watcher.check(), CheckOutcome::HandedOver("1".to_owned()), "without a manifest there is no version");
    }
}
