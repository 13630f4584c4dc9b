//! The life of a process of serve: starts its threads, watches them, and stops them on a signal.
//!
//! Guarantees: SIGTERM and SIGINT make the process not ready at once. It answers on for `serve.drain`, then ends each
//! connection with the answer that it is at. The configuration is read once; SIGHUP only reads the files of TLS and tokens again.

use super::{
    ServeError,
    connections::{self, Answers, Door},
    figures::Figures,
    follow::Follower,
    grpc::GrpcAnswerer,
    look::{self, Positions},
    owners::{self, Owners},
    routes::{Answerer, Shared},
    settings::{self, Settings, ShareSettings},
    share::Share,
    snapshot,
    tls::Tls,
    tokens::Tokens,
};
use crate::{
    app::{
        Instance, Setup, serve_admin,
        start::{Started, start},
    },
    config::{Config, ConfigLoadError},
    config_error::ConfigError,
    logging::Logs,
    metrics::{self, VisibleTimes},
    serve::{Position, ServePartitions, ServeSpec, Store},
    sink::partition_of,
    source::{Ends, Membership, Probe, Tail, TailSettings},
    status::{RoleName, RoleStatus},
    telemetry::admin::AdminState,
};
use anyhow::Context;
use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How often the threads are looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Runs until a signal asks it to stop. `is_log_set`: the command line or the environment has set the log filter.
pub(crate) fn run_serve(
    path: Option<&Path>,
    sets: &[String],
    logs: &Arc<Logs>,
    is_log_set: bool,
) -> anyhow::Result<()> {
    let Started { setup, stop_requested, reload_requested, .. } =
        start(path, sets, (logs, is_log_set), Config::serve_faults)?;
    let spec = setup.config.serve();
    if setup.config.has_older_consent() {
        tracing::warn!(
            "the next version does not read [serve.consent]: move it to [consent], which is for events as well"
        );
    }
    warn_of_unused(&spec);
    let is_unchecked = spec.consent.as_ref().is_some_and(|consent| !consent.enabled);
    if is_unchecked && (spec.provider.is_some() || spec.grpc.is_some()) {
        tracing::warn!("consent signals of bid requests are not checked: [consent] has enabled = false");
    }
    let instance = Instance::claim(&setup.config)?;
    let settings = Settings::of(&setup, &instance);
    snapshot::check(&settings).map_err(|error| ConfigLoadError::Invalid(setup.document.explain(&[error])))?;
    let status = RoleStatus::of(RoleName::Serve);
    let (admin, _) = serve_admin(&setup.config, &instance, Some(Arc::clone(logs)), Some(status.clone()))?;
    let otlp = setup.start_otlp(&instance, &admin, &[])?;
    let share = settings.share.as_ref();
    let shared = Arc::new(Shared {
        users: setup.config.users(),
        store: Arc::new(if share.is_some() { Store::of_some(partition_of) } else { Store::default() }),
        figures: Arc::new(Figures::default()),
        admin: Arc::clone(&admin),
        limits: settings::limits(&spec),
        tokens: settings::tokens(&setup)?,
        tls: settings::tls(&setup, &spec)?,
        owners: share.map(|share| Arc::new(Owners::new(&share.address))),
    });
    // Answer first: without a broker, what is asked of them takes a while, and the probes need an answer.
    let mut threads = Threads::answer(&setup, &spec, &shared)?;
    let sources = Sources::open(&settings, &shared.store);
    if let Err(error) = sources.map_err(Into::into).and_then(|it| threads.read(settings, it, &shared, &status)) {
        drop(threads.stop(setup.config.engine.shutdown_deadline));
        return Err(error);
    }
    let ended = watch(&setup, &spec, &threads, &shared, &admin, &status, (&stop_requested, &reload_requested));
    let stopped = threads.stop(setup.config.engine.shutdown_deadline);
    shared.figures.publish();
    if let Some(otlp) = otlp {
        otlp.finish();
    }
    ended.and(stopped).map_err(Into::into)
}

/// Warns of settings that change nothing.
fn warn_of_unused(spec: &ServeSpec) {
    if spec.advertise.is_some() && spec.partitions == ServePartitions::All {
        tracing::warn!("serve.advertise changes nothing without serve.partitions = \"assigned\"");
    }
    if spec.provider.is_none() && spec.grpc.is_none() && spec.identity != ServeSpec::default().identity {
        tracing::warn!("[[serve.identity]] changes nothing without [serve.provider] or [serve.grpc]");
    }
}

/// What is asked of the brokers.
struct Sources {
    tail: Tail,
    /// Where a snapshot ends that is in the store.
    known: BTreeMap<i32, Position>,
    ends: Ends,
    /// With snapshots: what tells which cluster it is.
    cluster: Option<Ends>,
    /// With processes that share the partitions: the group that does, and who is in it.
    share: Option<(Membership, Probe)>,
}

impl Sources {
    fn open(settings: &Settings, store: &Store) -> Result<Self, ServeError> {
        let TailSettings { brokers, client, group, topic } = &settings.tail;
        let ends = Ends::new(brokers, client, group, topic)?;
        let known = snapshot::load(settings, &ends, store);
        let tail = settings.open(&known)?;
        let cluster = settings.snapshot.as_ref().map(|_| Ends::new(brokers, client, group, topic)).transpose()?;
        let join = |share: &ShareSettings| {
            let member = Membership::join(&share.tail, &share.name, &share.address)?;
            Ok::<_, ServeError>((member, Probe::new(brokers, &share.tail.client, group, topic, 0)?))
        };
        Ok(Self { tail, known, ends, cluster, share: settings.share.as_ref().map(join).transpose()? })
    }
}

/// Watches until the process may stop: after a signal and `serve.drain`.
fn watch(
    setup: &Setup,
    spec: &ServeSpec,
    threads: &Threads,
    shared: &Shared,
    admin: &AdminState,
    status: &RoleStatus,
    (stop_requested, reload_requested): (&AtomicBool, &AtomicBool),
) -> Result<(), ServeError> {
    let mut stopping_since: Option<Instant> = None;
    loop {
        std::thread::sleep(WATCH_INTERVAL);
        shared.figures.publish();
        if let Some(name) = threads.ended() {
            tracing::error!(thread = name, "a thread has ended");
            return Ok(());
        }
        let silent = status.health().silent_for();
        if silent > setup.config.engine.stall_after {
            return Err(ServeError::Stalled(silent));
        }
        if reload_requested.swap(false, Ordering::Relaxed) {
            reload(shared);
        }
        if stop_requested.load(Ordering::Relaxed) {
            let since = *stopping_since.get_or_insert_with(|| {
                tracing::info!("stopping");
                admin.set_stopping();
                Instant::now()
            });
            if since.elapsed() >= spec.drain {
                return Ok(());
            }
        }
    }
}

/// Reads the files of TLS and tokens again.
fn reload(shared: &Shared) {
    let tls = shared.tls.as_ref().map(Tls::reload);
    let tokens = shared.tokens.as_ref().and_then(Tokens::reload);
    let read: Vec<Result<(), ConfigError>> = tls.into_iter().chain(tokens).collect();
    if read.is_empty() {
        tracing::warn!("serve reads its configuration when it starts: restart it");
        return;
    }
    let faults: Vec<ConfigError> = read.into_iter().filter_map(Result::err).collect();
    metrics::reloaded(faults.is_empty());
    for error in &faults {
        tracing::error!(%error, "what was read from this file stays as it is: repair the file, and send SIGHUP again");
    }
    if faults.is_empty() {
        tracing::info!(
            "the files of serve.tls and serve.token_file are read again; for the rest of the configuration, restart the process"
        );
    }
}

/// Where a process listens.
struct Sockets {
    http: TcpListener,
    grpc: Option<TcpListener>,
}

impl Sockets {
    fn open(spec: &ServeSpec, shared: &Shared) -> anyhow::Result<Self> {
        let open = |address: SocketAddr, key: &str| {
            let listener =
                connections::listen(address).with_context(|| format!("answer at {address}; set another {key}"))?;
            let checks = shared.tokens.is_some() || shared.tls.as_ref().is_some_and(Tls::checks_clients);
            if !listener.local_addr()?.ip().is_loopback() && !checks {
                tracing::warn!(
                    %address,
                    "other machines can ask without a token: set serve.token or serve.tls.client_ca, or let a proxy check them"
                );
            }
            anyhow::Ok(listener)
        };
        let http = open(spec.address, "serve.address")?;
        let grpc = spec.grpc.as_ref().map(|grpc| open(grpc.address, "serve.grpc.address")).transpose()?;
        Ok(Self { http, grpc })
    }

    /// What a thread answers at them.
    fn doors(&self, setup: &Setup, spec: &ServeSpec, shared: &Arc<Shared>) -> anyhow::Result<Vec<Door>> {
        let enricher = settings::enricher(setup, spec);
        let answerer = Answerer { shared: Arc::clone(shared), enricher: enricher.map(Into::into) };
        let mut doors = vec![Door { listener: self.http.try_clone()?, answers: Answers::Http(Arc::new(answerer)) }];
        if let (Some(listener), Some(mutator)) = (&self.grpc, settings::mutator(setup, spec)) {
            let answerer = GrpcAnswerer::new(Arc::clone(shared), mutator).context("describe the services of gRPC")?;
            doors.push(Door { listener: listener.try_clone()?, answers: Answers::Grpc(Arc::new(answerer)) });
        }
        Ok(doors)
    }

    fn addresses(&self) -> std::io::Result<(SocketAddr, Option<String>)> {
        let grpc = self.grpc.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok((self.http.local_addr()?, grpc.map(|address| address.to_string())))
    }
}

/// The threads of a process.
struct Threads {
    /// Stops those that read.
    stop: Arc<AtomicBool>,
    /// Stops those that answer.
    hang_up: watch::Sender<bool>,
    all: Vec<(String, JoinHandle<Result<(), ServeError>>)>,
}

impl Threads {
    /// Starts those that answer.
    fn answer(setup: &Setup, spec: &ServeSpec, shared: &Arc<Shared>) -> anyhow::Result<Self> {
        let sockets = Sockets::open(spec, shared)?;
        let (hang_up, hung_up) = watch::channel(false);
        let mut threads = Self { stop: Arc::default(), hang_up, all: Vec::new() };
        let count = spec.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        for number in 0..count {
            let doors = sockets.doors(setup, spec, shared)?;
            let hung_up = hung_up.clone();
            let name = format!("answer-{number}");
            threads
                .spawn(name.clone(), move || connections::run(doors, &hung_up).map_err(|_| ServeError::Broken(name)))?;
        }
        let (address, grpc) = sockets.addresses()?;
        tracing::info!(%address, grpc, threads = count, enriches = spec.provider.is_some(), "serving");
        Ok(threads)
    }

    /// Starts those that read.
    fn read(
        &mut self,
        settings: Settings,
        Sources { tail, known, ends, cluster, share }: Sources,
        shared: &Arc<Shared>,
        status: &RoleStatus,
    ) -> anyhow::Result<()> {
        let positions = Positions::default();
        positions.lock().unwrap_or_else(PoisonError::into_inner).positions.clone_from(&known);
        let (sender, looks) = crossbeam_channel::bounded(1);
        if let Some(ends) = cluster {
            let (settings, store) = (settings.clone(), Arc::clone(&shared.store));
            let (positions, stop) = (Arc::clone(&positions), Arc::clone(&self.stop));
            self.spawn("snapshot".to_owned(), move || {
                snapshot::run(&settings, &ends, &store, &positions, &stop);
                Ok(())
            })?;
        }
        let (member, probe) = share.unzip();
        let follower = Follower {
            settings,
            store: Arc::clone(&shared.store),
            figures: Arc::clone(&shared.figures),
            visible: VisibleTimes::default(),
            looks,
            positions: Arc::clone(&positions),
            status: status.clone(),
            stop: Arc::clone(&self.stop),
        };
        let stop = Arc::clone(&self.stop);
        self.spawn("ends".to_owned(), move || {
            look::run(&ends, &positions, &sender, &stop);
            Ok(())
        })?;
        let share = member.zip(shared.owners.clone()).map(|(member, owners)| Share::new(member, known, owners));
        self.spawn("follower".to_owned(), move || follower.run(tail, share))?;
        if let (Some(probe), Some(owners)) = (probe, shared.owners.clone()) {
            let stop = Arc::clone(&self.stop);
            self.spawn("owners".to_owned(), move || {
                owners::run(&probe, &owners, &stop);
                Ok(())
            })?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        name: String,
        run: impl FnOnce() -> Result<(), ServeError> + Send + 'static,
    ) -> anyhow::Result<()> {
        let thread = std::thread::Builder::new().name(name.clone()).spawn(run);
        let thread = thread.with_context(|| format!("start the thread {name}"))?;
        self.all.push((name, thread));
        Ok(())
    }

    /// The name of a thread that has ended.
    fn ended(&self) -> Option<&str> {
        self.all.iter().find(|(_, thread)| thread.is_finished()).map(|(name, _)| name.as_str())
    }

    /// Stops all threads. Returns the first error of one.
    fn stop(self, deadline: Duration) -> Result<(), ServeError> {
        self.stop.store(true, Ordering::Relaxed);
        self.hang_up.send_replace(true);
        let begun = Instant::now();
        while self.all.iter().any(|(_, thread)| !thread.is_finished()) {
            if begun.elapsed() > deadline {
                return Err(ServeError::Deadline(deadline));
            }
            std::thread::sleep(WATCH_INTERVAL / 10);
        }
        let mut outcome = Ok(());
        for (name, thread) in self.all {
            outcome = outcome.and(thread.join().unwrap_or(Err(ServeError::Broken(name))));
        }
        outcome
    }
}
