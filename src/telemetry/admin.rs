//! Health, metrics and the live page over HTTP, on a port of their own.
//!
//! | path | answer |
//! |---|---|
//! | `GET /` | the live page, with `/page.css` and `/page.js`; no other assets |
//! | `GET /healthz` | 200 while every worker goes round its loop |
//! | `GET /readyz` | 200 when every partition moves; else 503, and the reasons, one a line |
//! | `GET /metrics` | Prometheus' text format |
//! | `GET /snapshot` | what the page shows, as JSON |
//! | `GET /version`, `GET /config` | as JSON; secrets are stars |
//! | `GET /log`, `PUT /log` | the filter of the logs; the body of a `PUT` is the new one |
//! | `POST /reload` | has the configuration read again, all of it or nothing, and tells what came of it; asks for a token |
//!
//! Guarantees: the server runs on a thread of its own and only reads what workers show, so it holds nothing up; slow clients
//! hold up no probe (see `server`). With a token, everything but the page's
//! own files and the two probes asks for it (`Authorization: Bearer …`). Without one, a client on this machine has to call the
//! server by an address or `localhost`, so that no web site can reach it under a name of its own, `PUT` is for clients on
//! this machine alone, and nothing is read again. No user's key is shown: a keyed hash stands for it, whose key lives as long as the
//! process.

mod server;
mod window;

use super::{
    logs::Logs,
    metrics::{self, ShadowFigures},
};
use crate::{
    event::EventTime,
    inference::ModelInfo,
    metrics::Distribution,
    status::{Counts, Phase, Progress, Stage, Trace, WorkerStatus},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use server::{ANSWERING_MAX, BACKLOG, BODY_DEADLINE, Place};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
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

/// Where the server listens unless it is told where: on this machine alone.
pub const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// How long a client waits for what comes of `POST /reload`: less than its connection may last.
const RELOAD_PATIENCE: Duration = Duration::from_secs(8);

/// The longest body that is read: a filter of logs.
const BODY_BYTES_MAX: usize = 4 << 10;

/// How often what was recorded is put into its buckets, so that a process that nobody scrapes keeps no growing list.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// A worker that has not gone round for so long is not ready: longer than any call to the coordinator takes.
const SILENCE_READY: Duration = Duration::from_secs(45);

/// A worker that has not gone round for so long will not do so again.
const SILENCE_ALIVE: Duration = Duration::from_mins(3);

/// What the page may load: its own files, and nothing from elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("page/index.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// Reads the configuration again: gives the number of its segments, or what is wrong with it, without secrets.
pub type Reload = dyn Fn() -> Result<usize, String> + Send + Sync;

/// What the server shows.
pub struct Board {
    /// What the process is called, by what it does.
    title: String,
    config: Mutex<Value>,
    workers: Mutex<Vec<Progress>>,
    metrics: PrometheusHandle,
    logs: Option<Arc<Logs>>,
    token: Option<[u8; 32]>,
    is_stopping: AtomicBool,
    /// What is wrong with the topics.
    topics: Mutex<Vec<String>>,
    started: Instant,
    pseudonyms: RandomState,
    window: Mutex<Window>,
    reload: Mutex<Option<Arc<Reload>>>,
    /// One reload at a time.
    reload_turn: Arc<Semaphore>,
}

impl Board {
    /// A board without workers yet. `config` holds no secrets.
    pub fn new(
        title: String,
        config: Value,
        token: Option<&str>,
        metrics: PrometheusHandle,
        logs: Option<Arc<Logs>>,
    ) -> Self {
        Self {
            title,
            config: Mutex::new(config),
            workers: Mutex::default(),
            metrics,
            logs,
            token: token.map(|token| Sha256::digest(token).into()),
            is_stopping: AtomicBool::new(false),
            topics: Mutex::default(),
            started: Instant::now(),
            pseudonyms: RandomState::new(),
            window: Mutex::default(),
            reload: Mutex::default(),
            reload_turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// The workers have started.
    pub fn workers(&self, workers: &[Progress]) {
        *self.workers.lock().unwrap_or_else(PoisonError::into_inner) = workers.to_vec();
    }

    /// Another configuration is in use.
    pub fn config(&self, config: Value) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// This is how the configuration is read again.
    pub fn reloads(&self, reload: Arc<Reload>) {
        *self.reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(reload);
    }

    /// Keeps what the workers have counted by now, for the last minute of the page.
    fn sample(&self) {
        let (workers, accounts) = self.snapshots();
        // Without workers nothing is counted, and what was counted before there were any would make a false minute.
        if !workers.is_empty() {
            let sample = Sample::of(Instant::now(), &workers, &accounts);
            self.window.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        }
    }

    /// The process ends, and is not ready from now on.
    pub fn stopping(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Tells what is wrong with the topics; with anything, the process is not ready.
    pub fn topics(&self, faults: Vec<String>) {
        *self.topics.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    fn snapshots(&self) -> (Vec<WorkerStatus>, Vec<Progress>) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (workers.iter().map(Progress::status).collect(), workers)
    }

    /// Why the process is not ready, if it is not.
    fn reasons(&self, workers: &[WorkerStatus]) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.is_stopping.load(Ordering::Relaxed) {
            reasons.push("the process is stopping".to_owned());
        }
        if workers.is_empty() {
            reasons.push("the model and the workers are being loaded".to_owned());
        }
        reasons.extend_from_slice(&self.topics.lock().unwrap_or_else(PoisonError::into_inner));
        for (number, worker) in workers.iter().enumerate() {
            if worker.silent > SILENCE_READY {
                let time = humantime::format_duration(Duration::from_secs(worker.silent.as_secs()));
                reasons.push(format!("worker {number} has not gone round its loop for {time}"));
            }
            if worker.is_behind {
                reasons.push(format!("worker {number} does not get on with the records that wait"));
            }
            if !worker.is_member {
                reasons.push(format!("worker {number} waits for the group to assign partitions"));
            }
            for it in &worker.partitions {
                match it.phase {
                    Phase::Moving => {}
                    Phase::Restoring => reasons
                        .push(format!("partition {} is being restored: {} profiles are read", it.number, it.profiles)),
                    Phase::Replaying => reasons.push(format!(
                        "partition {} reads input again: {} records are left",
                        it.number,
                        it.replay_until - it.next
                    )),
                }
            }
        }
        reasons
    }

    fn is_alive(workers: &[WorkerStatus]) -> bool {
        workers.iter().all(|worker| worker.silent < SILENCE_ALIVE)
    }

    /// A short name for a user that nobody outside this process can undo.
    fn pseudonym(&self, user_hash: u64) -> String {
        format!("{:08x}", self.pseudonyms.hash_one(user_hash) >> 32)
    }

    /// What the page shows.
    fn snapshot(&self) -> Value {
        let (workers, accounts) = self.snapshots();
        let now = now();
        let reasons = self.reasons(&workers);
        let counts = Counts::of(&accounts);
        let dead_letters: BTreeMap<&str, u64> =
            counts.dead_letters.iter().map(|(reason, count)| (reason.as_str(), *count)).collect();
        let partitions: Vec<Value> = workers
            .iter()
            .enumerate()
            .flat_map(|(worker, it)| it.partitions.iter().map(move |partition| (worker, partition)))
            .map(|(worker, it)| {
                json!({
                    "number": it.number, "worker": worker, "phase": it.phase.as_str(), "next": it.next,
                    "lag": it.lag(), "lag_seconds": it.lag_seconds(now), "profiles": it.profiles,
                    "profile_bytes": it.profile_bytes, "left": (it.replay_until - it.next).max(0),
                })
            })
            .collect();
        let sum = |value: fn(&WorkerStatus) -> &Distribution| {
            let mut all = workers.iter().map(value);
            let mut sum = all.next().cloned()?;
            all.for_each(|other| sum.add(other));
            Some(json!({ "bounds": sum.bounds(), "counts": sum.counts() }))
        };
        let sample = Sample::of(Instant::now(), &workers, &accounts);
        let recent = self.window.lock().unwrap_or_else(PoisonError::into_inner).shown(&sample);
        let mut segments: Vec<(String, u64)> = Vec::new();
        for (id, count) in workers.iter().flat_map(|worker| &worker.segments) {
            match segments.iter_mut().find(|(other, _)| other == id) {
                Some((_, sum)) => *sum += count,
                None => segments.push((id.clone(), *count)),
            }
        }
        let stages: BTreeMap<&str, f64> = Stage::ALL
            .iter()
            .map(|stage| (stage.as_str(), workers.iter().map(|it| it.stages[*stage as usize].as_secs_f64()).sum()))
            .collect();
        let mut seen: Vec<(EventTime, Value)> = workers
            .iter()
            .flat_map(|worker| worker.decisions.iter().map(move |seen| (worker, seen)))
            .map(|(worker, seen)| {
                let into = worker.segments.iter().take(64).enumerate();
                let into = into.filter(|(number, _)| seen.segments >> number & 1 == 1).map(|(_, (id, _))| id);
                let it = json!({
                    "at_ms": seen.decided_at.millis(), "user": self.pseudonym(seen.user_hash), "score": seen.score,
                    "status": seen.status.name(), "segments": into.collect::<Vec<_>>(),
                    "partition": seen.position.partition, "offset": seen.position.offset,
                    "occurred_ms": seen.occurred_at.millis(),
                });
                (seen.decided_at, it)
            })
            .collect();
        seen.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut happenings: Vec<(EventTime, Value)> = workers
            .iter()
            .enumerate()
            .flat_map(|(worker, it)| it.events.iter().map(move |happening| (worker, happening)))
            .map(|(worker, it)| {
                let shown = json!({ "at_ms": it.at.millis(), "worker": worker, "what": it.what, "detail": it.detail });
                (it.at, shown)
            })
            .collect();
        happenings.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let newest = |all: Vec<(EventTime, Value)>| all.into_iter().take(20).map(|(_, it)| it).collect::<Vec<_>>();
        let mut models: Vec<(&(String, ModelInfo), u64)> = Vec::new();
        for model in workers.iter().flat_map(|worker| &worker.models) {
            match models.iter_mut().find(|(other, _)| *other == model) {
                Some((_, count)) => *count += 1,
                None => models.push((model, 1)),
            }
        }
        let model = |((variant, it), workers): &(&(String, ModelInfo), u64)| {
            json!({
                "variant": variant, "name": it.name, "version": it.version, "provider": it.provider, "runtime": it.runtime, "sha256": it.sha256,
                "features": it.features.len(), "workers": workers,
            })
        };
        let told = self.metrics.render();
        let shadow = |it: &ShadowFigures| {
            let rows: BTreeMap<&str, f64> = it.rows.iter().map(|(outcome, rows)| (outcome.as_str(), *rows)).collect();
            let [psi, champion, mean, correlation] = it.drift.map_or([None; 4], |it| it.map(Some));
            json!({
                "name": it.name, "rows": rows, "psi": psi, "champion_mean": champion, "mean": mean,
                "correlation": correlation,
            })
        };
        json!({
            "title": self.title,
            "version": env!("CARGO_PKG_VERSION"),
            "now_ms": now.millis(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "ready": reasons.is_empty(),
            "reasons": reasons.into_iter().take(8).collect::<Vec<_>>(),
            "workers": workers.len(),
            "counts": {
                "events": counts.events, "decisions": counts.decisions, "fallbacks": counts.fallbacks,
                "duplicates": counts.duplicates, "suppressed": counts.suppressed_total(), "replayed": counts.replayed,
            },
            "commits": accounts.iter().map(Progress::commits).sum::<u64>(),
            "retries": accounts.iter().map(Progress::retries).sum::<u64>(),
            "dead_letters": dead_letters,
            "partitions": partitions,
            "recent": recent,
            "since_event": sum(|it| &it.since_event),
            "since_append": sum(|it| &it.since_append),
            "scores": sum(|it| &it.scores),
            "segments": segments.iter().map(|(id, count)| json!({ "id": id, "count": count })).collect::<Vec<_>>(),
            "stages": stages,
            "models": models.iter().map(model).collect::<Vec<_>>(),
            "versions": metrics::model_versions(&told).collect::<BTreeMap<_, _>>(),
            "shadows": metrics::shadows(&told).iter().map(shadow).collect::<Vec<_>>(),
            "seen": newest(seen),
            "happenings": newest(happenings),
        })
    }

    /// What the workers traced since the last time.
    pub(super) fn take_traces(&self) -> Vec<Trace> {
        let (_, workers) = self.snapshots();
        workers.iter().flat_map(|worker| worker.view().take_traces()).collect()
    }

    /// All metrics in Prometheus' text format.
    pub(super) fn exposition(&self) -> String {
        let (workers, _) = self.snapshots();
        let is_ready = self.reasons(&workers).is_empty();
        self.metrics.render() + &metrics::render(&workers, is_ready, now())
    }

    /// Whether this client may ask for more than the page's files and the probes, and if not, why.
    fn refuse(&self, request: &Request<Incoming>, peer: IpAddr) -> Option<(StatusCode, &'static str)> {
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some(expected) = &self.token {
            let given = header(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
            // Comparing hashes tells nothing of the token by the time it takes.
            return match given.map(|token| <[u8; 32]>::from(Sha256::digest(token))) {
                Some(given) if given == *expected => None,
                _ => Some((StatusCode::UNAUTHORIZED, "this asks for the token: Authorization: Bearer <admin.token>\n")),
            };
        }
        let host = header(header::HOST).unwrap_or_default();
        let host = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if peer.is_loopback() && host != "localhost" && host.parse::<IpAddr>().is_err() {
            return Some((StatusCode::FORBIDDEN, "call this server by its address, or set admin.token\n"));
        }
        if request.method() != Method::GET && !peer.is_loopback() {
            return Some((StatusCode::FORBIDDEN, "from elsewhere this takes a token: set admin.token\n"));
        }
        None
    }

    async fn answer(&self, request: Request<Incoming>, peer: IpAddr, place: &Place) -> Answer {
        let path = request.uri().path().to_owned();
        let get = matches!(*request.method(), Method::GET | Method::HEAD);
        match (path.as_str(), get) {
            ("/", true) => return answer(StatusCode::OK, HTML, PAGE),
            ("/page.css", true) => return answer(StatusCode::OK, "text/css; charset=utf-8", STYLE),
            ("/page.js", true) => return answer(StatusCode::OK, "text/javascript; charset=utf-8", SCRIPT),
            ("/healthz", true) => {
                let is_alive = Self::is_alive(&self.snapshots().0);
                let status = if is_alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                return answer(status, TEXT, if is_alive { "alive\n" } else { "a worker hangs\n" });
            }
            ("/readyz", true) => {
                let reasons = self.reasons(&self.snapshots().0);
                return if reasons.is_empty() {
                    answer(StatusCode::OK, TEXT, "ready\n")
                } else {
                    answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, reasons.join("\n") + "\n")
                };
            }
            _ => {}
        }
        if let Some((status, why)) = self.refuse(&request, peer) {
            return answer(status, TEXT, why);
        }
        if !place.enter() {
            let full = format!("{ANSWERING_MAX} requests are being answered; ask again in a moment\n");
            let mut full = answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, full);
            full.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            return full;
        }
        if path == "/reload" {
            return self.read_again(request.method()).await;
        }
        match (path.as_str(), get, request.method() == Method::PUT) {
            ("/metrics", true, _) => {
                answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", self.exposition())
            }
            ("/snapshot", true, _) => answer(StatusCode::OK, JSON, self.snapshot().to_string()),
            ("/version", true, _) => answer(
                StatusCode::OK,
                JSON,
                json!({ "name": "aimpoint", "version": env!("CARGO_PKG_VERSION") }).to_string(),
            ),
            ("/config", true, _) => {
                let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
                answer(StatusCode::OK, JSON, format!("{config:#}\n"))
            }
            ("/log", true, _) => {
                answer(StatusCode::OK, TEXT, self.logs.as_ref().map_or(String::new(), |logs| logs.filter() + "\n"))
            }
            ("/log", _, true) => self.set_log(request).await,
            (
                "/" | "/page.css" | "/page.js" | "/healthz" | "/readyz" | "/metrics" | "/snapshot" | "/version"
                | "/config" | "/log",
                ..,
            ) => answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "this takes GET\n"),
            _ => answer(StatusCode::NOT_FOUND, TEXT, "there is no such page; see /\n"),
        }
    }

    async fn set_log(&self, request: Request<Incoming>) -> Answer {
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect();
        let body = match tokio::time::timeout(BODY_DEADLINE, body).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return answer(StatusCode::PAYLOAD_TOO_LARGE, TEXT, "a filter has at most 4 KiB\n"),
            Err(_) => return answer(StatusCode::REQUEST_TIMEOUT, TEXT, "the body did not come within 2 s\n"),
        };
        let body = body.to_bytes();
        let filter = std::str::from_utf8(&body).map(str::trim).unwrap_or_default();
        let Some(logs) = self.logs.as_ref().filter(|_| !filter.is_empty()) else {
            return answer(
                StatusCode::BAD_REQUEST,
                TEXT,
                "the body is the new filter: info, or target=level with commas\n",
            );
        };
        match logs.set(filter) {
            Ok(()) => answer(StatusCode::OK, TEXT, format!("{filter}\n")),
            Err(error) => answer(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
        }
    }
}

impl Board {
    /// Has the configuration read again, and tells what came of it.
    async fn read_again(&self, method: &Method) -> Answer {
        if self.token.is_none() {
            return answer(
                StatusCode::FORBIDDEN,
                TEXT,
                "reading the configuration again takes a token: set admin.token (AIMPOINT__ADMIN__TOKEN) and send \
                 Authorization: Bearer <admin.token>; without one, SIGHUP on this machine does the same\n",
            );
        }
        if method != Method::POST {
            return answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "this takes POST\n");
        }
        let reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(reload) = reload else {
            return answer(
                StatusCode::SERVICE_UNAVAILABLE,
                TEXT,
                "nothing can be read again here yet: `aimpoint run` can once its workers have started\n",
            );
        };
        let Ok(turn) = Arc::clone(&self.reload_turn).try_acquire_owned() else {
            return answer(StatusCode::CONFLICT, TEXT, "another reload goes on; ask again when it has ended\n");
        };
        // Files are read and pipelines are made, which takes as long as it takes: not on the thread of the probes.
        let task = tokio::task::spawn_blocking(move || {
            let outcome = reload();
            drop(turn);
            outcome
        });
        match tokio::time::timeout(RELOAD_PATIENCE, task).await {
            Ok(Ok(Ok(segments))) => answer(
                StatusCode::OK,
                TEXT,
                format!("taken: {segments} segments, from each worker's next transaction on\n"),
            ),
            Ok(Ok(Err(why))) => answer(
                StatusCode::UNPROCESSABLE_ENTITY,
                TEXT,
                format!("refused, and nothing has changed:\n{}\n", why.trim_end()),
            ),
            Ok(Err(_)) => answer(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "the reload failed by a bug, and what was used before stays: the log says where\n",
            ),
            Err(_) => answer(
                StatusCode::ACCEPTED,
                TEXT,
                "the reload still goes on: the log and aimpoint_reloads_total tell what comes of it\n",
            ),
        }
    }
}

type Answer = Response<Full<Bytes>>;

const HTML: &str = "text/html; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .header(header::CONTENT_SECURITY_POLICY, POLICY)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::CACHE_CONTROL, "no-store");
    let builder = match status {
        StatusCode::UNAUTHORIZED => builder.header(header::WWW_AUTHENTICATE, "Bearer"),
        _ => builder,
    };
    builder.body(Full::new(body.into())).expect("status and headers are well-formed")
}

fn now() -> EventTime {
    EventTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64))
}

/// Serves the board on a thread of its own until the process ends, and says where. Without an address it is the usual
/// one, or where that is taken, by another Aimpoint most likely, any other port of this machine.
///
/// # Errors
/// When the address cannot be had.
pub fn serve(address: Option<SocketAddr>, board: Arc<Board>) -> io::Result<SocketAddr> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        match address {
            Some(address) => listen(address)?,
            None => listen(USUAL).or_else(|_| listen(SocketAddr::new(USUAL.ip(), 0)))?,
        }
    };
    let at = listener.local_addr()?;
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || runtime.block_on(server::accept(listener, board)))?;
    Ok(at)
}

/// As the standard library listens, with a longer backlog.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests;
