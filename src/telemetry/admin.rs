//! Health, metrics and the live page over HTTP, on a port of their own.
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | the live page of the workers, or of control, or a line about serve; with `/page.css` and its scripts; no other assets |
//! | `GET /healthz` | 200 while every worker runs its loop |
//! | `GET /readyz` | 200 if every partition moves; otherwise 503 and the reasons, one per line |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /snapshot` | what the page shows, as JSON |
//! | `GET /version`, `GET /config` | as JSON; secrets are stars |
//! | `GET /log`, `PUT /log` | the log filter; the body of a `PUT` is the new one |
//! | `POST /erase` | asks to erase the user whose id is the body; needs the token |
//! | `POST /reload` | reloads the configuration, all of it or nothing, and answers with the outcome; needs the token |
//!
//! Guarantees: the server runs on its own thread and only reads the workers' status, so it delays no worker; slow
//! clients delay no probe (see `server`). With a token, everything except the page's own files and the two probes
//! requires it (`Authorization: Bearer …`). Without one, a client on this machine must address the server by IP address
//! or as `localhost`, so that no web site can reach it under its own name; what changes
//! something is refused. Each change that is asked for is in the log, with the client's address. User keys are never shown, only keyed hashes of them, and the hash key lives as long
//! as the process.

mod erase;
mod page;
mod role;
mod routes;
mod server;
mod window;

pub use erase::{Erase, EraseFault};

use super::{figures, prometheus};
use crate::{
    event::EventTime,
    logging::Logs,
    metrics::Samples,
    status::{Phase, Progress, RolePhase, RoleStatus, Trace, WorkerStatus},
};
use serde_json::Value;
use server::BACKLOG;
use sha2::{Digest, Sha256};
use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
};
use window::{Sample, Window};

/// The default address of the server, which is reachable from this machine only.
pub const DEFAULT_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// A worker that has not run its loop for this long is not ready: longer than any call to the coordinator takes.
const SILENCE_READY: Duration = Duration::from_secs(45);

/// A worker that has not run its loop for this long will not do so again.
const SILENCE_ALIVE: Duration = Duration::from_mins(3);

/// Reloads the configuration: returns what was taken, or what is wrong with it, without secrets.
pub type Reload = dyn Fn() -> Result<String, String> + Send + Sync;

/// Who does the work of the process.
enum Served {
    Workers(Vec<Progress>),
    Role(RoleStatus),
}

/// What the server shows.
pub struct AdminState {
    /// The name of the process on the page.
    title: String,
    config: Mutex<Value>,
    served: Mutex<Served>,
    logs: Option<Arc<Logs>>,
    /// The SHA-256 of the token.
    token: Option<[u8; 32]>,
    is_stopping: AtomicBool,
    /// What is wrong with the topics.
    topic_faults: Mutex<Vec<String>>,
    started: Instant,
    pseudonyms: RandomState,
    window: Mutex<Window>,
    reload: Reloading,
    erase: Mutex<Option<Arc<Erase>>>,
}

/// How the configuration is reloaded, once that is known.
struct Reloading {
    run: Mutex<Option<Arc<Reload>>>,
    /// One reload at a time.
    permit: Arc<Semaphore>,
}

impl AdminState {
    /// The state before any worker has started. `config` holds no secrets.
    pub fn new(title: String, config: Value, token: Option<&str>, logs: Option<Arc<Logs>>) -> Self {
        Self {
            title,
            config: Mutex::new(config),
            served: Mutex::new(Served::Workers(Vec::new())),
            logs,
            token: token.map(|token| Sha256::digest(token).into()),
            is_stopping: AtomicBool::new(false),
            topic_faults: Mutex::default(),
            started: Instant::now(),
            pseudonyms: RandomState::new(),
            window: Mutex::default(),
            reload: Reloading { run: Mutex::default(), permit: Arc::new(Semaphore::new(1)) },
            erase: Mutex::default(),
        }
    }

    /// Sets the workers, once they have started.
    pub fn set_workers(&self, workers: &[Progress]) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Served::Workers(workers.to_vec());
    }

    /// Sets the role of a process that has no workers.
    pub fn set_role(&self, role: RoleStatus) {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = Served::Role(role);
    }

    fn role(&self) -> Option<RoleStatus> {
        match &*self.served.lock().unwrap_or_else(PoisonError::into_inner) {
            Served::Role(role) => Some(role.clone()),
            Served::Workers(_) => None,
        }
    }

    /// Sets the configuration that is shown.
    pub fn set_config(&self, config: Value) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Sets how to reload the configuration.
    pub fn set_reload(&self, reload: Arc<Reload>) {
        *self.reload.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
    }

    /// Stores the workers' current counts, for the last minute on the page.
    fn sample(&self) {
        let (workers, progress) = self.status();
        // A sample without workers would distort the first minute.
        if !workers.is_empty() {
            let sample = Sample::of(Instant::now(), &workers, &progress);
            self.window.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
    }

    /// Makes the process not ready because it is stopping.
    pub fn set_stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Sets the problems with the topics. The process is not ready while there are any.
    pub fn set_topic_faults(&self, faults: Vec<String>) {
        *self.topic_faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    fn status(&self) -> (Vec<WorkerStatus>, Vec<Progress>) {
        let workers = match &*self.served.lock().unwrap_or_else(PoisonError::into_inner) {
            Served::Workers(workers) => workers.clone(),
            Served::Role(_) => Vec::new(),
        };
        (workers.iter().map(Progress::status).collect(), workers)
    }

    /// Why the process is not ready, if it is not.
    fn reasons(&self, workers: &[WorkerStatus]) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_stopping.load(Ordering::Relaxed) {
            reasons.push("the process is stopping".to_owned());
        }
        match self.role() {
            Some(role) => {
                let silent = role.health().silent_for();
                if silent > SILENCE_READY {
                    let time = crate::duration::display(Duration::from_secs(silent.as_secs()));
                    reasons.push(format!("{} has not run its loop for {time}", role.name().as_str()));
                }
                if let RolePhase::NotReady(why) = role.phase() {
                    reasons.push(why);
                }
            }
            None if workers.is_empty() => reasons.push("the model and the workers are loading".to_owned()),
            None => {}
        }
        reasons.extend_from_slice(&self.topic_faults.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, worker) in workers.iter().enumerate() {
            if worker.health.silent > SILENCE_READY {
                let time = crate::duration::display(Duration::from_secs(worker.health.silent.as_secs()));
                reasons.push(format!("worker {number} has not run its loop for {time}"));
            }
            if worker.health.is_behind {
                reasons.push(format!("worker {number} has records waiting but commits nothing"));
            }
            if worker.health.is_disconnected {
                reasons
                    .push(format!("worker {number} has had no answer from any broker for half of engine.stall_after"));
            }
            if !worker.health.is_member {
                reasons.push(format!("worker {number} is waiting for the group to assign partitions"));
            }
            for it in &worker.partitions {
                match it.phase {
                    Phase::Moving => {}
                    Phase::Restoring => {
                        reasons.push(format!("partition {} is restoring: {} profiles so far", it.number, it.profiles));
                    }
                    Phase::Replaying => {
                        reasons.push(format!(
                            "partition {} is replaying: {} records left",
                            it.number,
                            it.replay_left()
                        ));
                    }
                }
            }
        }
        reasons
    }

    /// Why the process is not ready; empty if it is.
    pub fn why_not_ready(&self) -> Vec<String> {
        self.reasons(&self.status().0)
    }

    /// All metrics of the process in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        prometheus::text(&self.figures())
    }

    /// What the process is ready as.
    fn ready_as(&self) -> String {
        match self.role().map(|role| role.phase()) {
            Some(RolePhase::Ready(name)) => format!("ready: {name}\n"),
            _ => "ready\n".to_owned(),
        }
    }

    /// Whether every loop of the process runs.
    pub fn is_alive(&self) -> bool {
        let is_alive = |silent: Duration| silent < SILENCE_ALIVE;
        self.status().0.iter().all(|worker| is_alive(worker.health.silent))
            && self.role().is_none_or(|role| is_alive(role.health().silent_for()))
    }

    /// A short name for a user that cannot be reversed outside this process.
    fn pseudonym(&self, user_hash: u64) -> String {
        format!("{:08x}", self.pseudonyms.hash_one(user_hash) >> 32)
    }

    /// Removes and returns the workers' waiting traces.
    pub(super) fn take_traces(&self) -> Vec<Trace> {
        let (_, workers) = self.status();
        workers.iter().flat_map(|worker| worker.view().take_traces()).collect()
    }

    /// All metrics of the process.
    pub(super) fn figures(&self) -> Vec<Samples> {
        let (workers, _) = self.status();
        let is_ready = self.reasons(&workers).is_empty();
        figures::gather(&workers, is_ready, now())
    }
}

fn now() -> EventTime {
    EventTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64))
}

/// Serves the state on a thread of its own until the process ends, and returns the address. Without an address, it uses
/// [`DEFAULT_ADDRESS`] or, if that is taken (most likely by another Aimpoint), any free port of this machine.
///
/// # Errors
/// The address is not available.
pub fn serve(address: Option<SocketAddr>, state: Arc<AdminState>) -> io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        match address {
            Some(address) => listen(address)?,
            None => listen(DEFAULT_ADDRESS).or_else(|_| listen(SocketAddr::new(DEFAULT_ADDRESS.ip(), 0)))?,
        }
    };
    let at = listener.local_addr()?;
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(server::accept(listener, state)))?;
    Ok(at)
}

/// Listens as the standard library does, with a longer backlog.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests;
