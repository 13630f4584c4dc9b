//! From a configuration to workers: what `run`, `demo` and `check` have in common.

use super::{ConfigArgs, Exit, sizes, slot::Place};
use crate::{
    config::{Config, ConfigError, Document},
    engine::{Delivery, Pipeline, PipelineSpec, Progress, SnapshotFolder, SystemClock, Worker, WorkerSettings},
    fault::Fault,
    inference::{
        Exactness, Experiment, ExplainSpec, Manifest, Model, ModelError, ModelFiles, ModelFolder, ModelMailbox,
        ModelSpec, ModelWatcher, OnnxModel, Refusal, Repeats, Runtime, ScoreSink, Shadow, Unfinished, validate, warm,
        within,
    },
    partial,
    secret::Secret,
    sink::{KafkaSink, KafkaSinkSettings, Publisher},
    source::{KafkaSource, KafkaSourceSettings},
    telemetry::{
        admin::{self, Board},
        logs::Logs,
        metrics,
        otlp::{Otlp, OtlpSettings},
    },
};
use anyhow::Context;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

/// How long a shadow's thread waits for a broker that takes nothing: what comes meanwhile passes the shadow by.
const SHADOW_PATIENCE: Duration = Duration::from_secs(30);

/// A worker on Kafka.
pub(super) type KafkaWorker = Worker<KafkaSource, KafkaSink, SystemClock>;

/// The workers of a process, and what goes with them.
pub(super) struct Crew {
    pub(super) workers: Vec<KafkaWorker>,
    pub(super) accounts: Vec<Progress>,
    pub(super) swaps: Swaps,
}

/// Hands other pipelines to running workers.
pub(super) struct Swaps {
    models: Models,
    pipelines: Vec<crossbeam_channel::Sender<Pipeline>>,
    fingerprint: String,
}

impl Swaps {
    /// Has every worker go on with the segments of another configuration, from its next transaction on. Nothing changes
    /// unless all of it can be used.
    pub(super) fn swap(&self, to: &Setup) -> anyhow::Result<()> {
        // The workers keep their models, whichever versions these are by now: that they fit is tried on one.
        to.with_models(to.pipeline(false)?, self.models.copies(1)?.remove(0))?;
        let pipelines: Vec<Pipeline> = self.pipelines.iter().map(|_| to.timed()).collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(
            pipelines.iter().all(|it| it.fingerprint() == self.fingerprint),
            "the features are others; restart for them"
        );
        anyhow::ensure!(
            self.pipelines.iter().all(|worker| !worker.is_full()),
            "a worker has not taken the last change yet; try again in a moment"
        );
        for (worker, pipeline) in self.pipelines.iter().zip(pipelines) {
            // A worker that has ended needs none.
            worker.try_send(pipeline).unwrap_or_default();
        }
        Ok(())
    }
}

/// The models that decide: the declared one, if there is one, then the variants in their order.
#[derive(Default)]
pub(super) struct Models(pub(super) Vec<OnnxModel>);

impl Models {
    /// By worker: a copy of each.
    pub(super) fn copies(&self, workers: usize) -> Result<Vec<Vec<Box<dyn Model>>>, ModelError> {
        let mut copies: Vec<Vec<Box<dyn Model>>> = (0..workers).map(|_| Vec::new()).collect();
        for model in &self.0 {
            copies.iter_mut().zip(model.copies(workers)?).for_each(|(worker, copy)| worker.push(copy));
        }
        Ok(copies)
    }
}

/// A configuration and its document, for faults that are found later.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) document: Document,
}

impl Setup {
    /// Reads the configuration that the arguments name; `aimpoint.toml` where it is there and none is named.
    pub(super) fn read(args: &ConfigArgs) -> Result<Self, ConfigError> {
        let usual = std::path::Path::new("aimpoint.toml");
        let path = args.config.as_deref().or_else(|| usual.exists().then_some(usual));
        let (config, document) = Config::load(path, std::env::vars_os(), &args.sets)?;
        Ok(Self { config, document })
    }

    /// The compiled pipeline without its model.
    pub(super) fn pipeline(&self, with_label: bool) -> Result<Pipeline, ConfigError> {
        let mut spec = self.config.pipeline.clone();
        if !with_label {
            spec.label = None;
        }
        Pipeline::compile(&spec, self.config.origin())
            .map_err(|faults| ConfigError::Faulty(self.document.explain(&faults)))
    }

    /// The declared model, loaded and checked against the pipeline; of a folder the version that serves.
    pub(super) fn model(&self, pipeline: &Pipeline) -> anyhow::Result<Option<OnnxModel>> {
        let explain = &self.config.pipeline.explain;
        self.config.model.as_ref().map(|spec| self.load(spec, explain, pipeline)).transpose()
    }

    fn load(&self, spec: &ModelSpec, explain: &ExplainSpec, pipeline: &Pipeline) -> anyhow::Result<OnnxModel> {
        let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
        let mut loader = self.loader(runtime, spec, pipeline);
        loader.sections.explain = explain.clone();
        loader.sections.scoring.heads = spec.heads.keys().cloned().collect();
        let path = spec.path.clone();
        let load = move || -> anyhow::Result<OnnxModel> {
            if !path.is_dir() {
                return loader.load_file();
            }
            let version = ModelFolder::at(&path).active()?;
            loader.load(&version).with_context(|| format!("load version {version} of {}", path.display()))
        };
        in_time(spec, load)?
    }

    /// All that decide: the declared model and the variants.
    pub(super) fn models(&self, pipeline: &Pipeline) -> anyhow::Result<Models> {
        let Some(model) = self.model(pipeline)? else { return Ok(Models::default()) };
        let mut models = vec![model];
        let explain = &self.config.pipeline.explain;
        for spec in &self.config.variants {
            let name = spec.name.as_deref().unwrap_or_default();
            models.push(self.load(spec, explain, pipeline).with_context(|| format!("load the variant {name}"))?);
        }
        Ok(Models(models))
    }

    /// The model that decides for a user, with the name of the user's variant where there is an experiment.
    pub(super) fn deciding(&self, models: Models, user: &str) -> anyhow::Result<(Option<String>, OnnxModel)> {
        let names: Vec<Option<&str>> = self.config.variants.iter().map(|variant| variant.name.as_deref()).collect();
        let experiment = Experiment::new(&self.config.pipeline.experiment, &names)
            .map_err(|faults| ConfigError::Faulty(self.document.explain(&faults)))?;
        let arm = experiment.as_ref().map_or(0, |experiment| experiment.arm_of(user.as_bytes()));
        let model = models.0.into_iter().nth(arm).context("no model decides for this user")?;
        Ok((experiment.map(|experiment| experiment.reference(arm).variant), model))
    }

    /// The declared shadows, loaded; whether their features are declared tells [`Setup::with_shadows`].
    pub(super) fn shadows(&self, pipeline: &Pipeline) -> anyhow::Result<Vec<Shadow>> {
        // Nothing is explained by a shadow, so it needs no baseline.
        let load = |spec: &ModelSpec| {
            let name = spec.name.as_deref().unwrap_or_default();
            let model = self
                .load(spec, &ExplainSpec::default(), pipeline)
                .with_context(|| format!("load the shadow {name}"))?;
            let shadow = Shadow::new(Box::new(model));
            Ok(match &self.config.topics.shadow_scores {
                Some(topic) => shadow.with_score_sink(self.teller(topic)?),
                None => shadow,
            })
        };
        self.config.shadows.iter().map(load).collect()
    }

    /// Writes what a shadow says to a topic, with a producer of its own. What the broker does not take is told and dropped.
    fn teller(&self, topic: &str) -> anyhow::Result<ScoreSink> {
        let kafka = &self.config.kafka;
        let publisher = Publisher::new(&kafka.brokers, &kafka.producer_settings(), topic, SHADOW_PATIENCE)?;
        let mut failed = Repeats::default();
        Ok(Box::new(move |user, record| {
            match publisher.publish(Some(user), Some(record)) {
                Ok(()) => failed.not(),
                Err(error) => {
                    if let Some(times) = failed.again() {
                        tracing::warn!(%error, times, "write a shadow's score");
                    }
                }
            }
            publisher.serve();
            if let Some((count, why)) = publisher.take_refused() {
                tracing::warn!(count, why, "write shadows' scores: the broker did not take them");
            }
        }))
    }

    /// A pipeline that offers its rows to the shadows.
    pub(super) fn with_shadows(&self, mut pipeline: Pipeline, shadows: &[Shadow]) -> anyhow::Result<Pipeline> {
        for shadow in shadows {
            pipeline = pipeline
                .with_shadow(shadow.tap())
                .map_err(|faults| ConfigError::Faulty(self.document.explain(&faults)))?;
        }
        Ok(pipeline)
    }

    /// What makes a version of the model folder into a model.
    pub(super) fn loader(&self, runtime: Runtime, spec: &ModelSpec, pipeline: &Pipeline) -> VersionLoader {
        VersionLoader {
            runtime,
            folder: ModelFolder::at(&spec.path),
            spec: spec.clone(),
            sections: PipelineSpec { label: None, ..self.config.pipeline.clone() },
            app: self.config.app.name.clone(),
            topic: self.config.topics.clickstream.clone(),
            declared: pipeline.model_features(),
            fingerprint: pipeline.fingerprint().to_owned(),
            rows: self.config.engine.batch_max_rows,
        }
    }

    /// Watches the folders of the models that have one, and gives each worker its ends of the watches, by arm.
    fn watch(
        &self,
        pipeline: &Pipeline,
        models: &Models,
        workers: usize,
    ) -> anyhow::Result<Vec<Vec<(usize, ModelMailbox)>>> {
        let mut ends: Vec<Vec<(usize, ModelMailbox)>> = (0..workers).map(|_| Vec::new()).collect();
        let declared = self.config.model.iter().chain(&self.config.variants);
        for (arm, (spec, model)) in declared.zip(&models.0).enumerate().filter(|(_, (spec, _))| spec.path.is_dir()) {
            let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
            let loader = self.loader(runtime, spec, pipeline);
            let load = move |version: &str, copies: usize| loader.copies(version, copies);
            let folder = ModelFolder::at(&spec.path);
            let (watch, handed) = ModelWatcher::new(folder, &model.info().version, workers, spec.load_timeout, load);
            watch.start().context("start the thread that watches the model folder")?;
            ends.iter_mut().zip(handed).for_each(|(worker, handed)| worker.push((arm, handed)));
        }
        Ok(ends)
    }

    /// A pipeline with its models, for one worker.
    pub(super) fn with_models(&self, pipeline: Pipeline, copies: Vec<Box<dyn Model>>) -> Result<Pipeline, ConfigError> {
        let explained = |faults: Vec<Fault>| ConfigError::Faulty(self.document.explain(&faults));
        let mut copies = copies.into_iter();
        let Some(model) = copies.next() else { return Ok(pipeline) };
        let pipeline = pipeline.with_model(model).map_err(explained)?;
        let names = self.config.variants.iter().map(|variant| variant.name.clone().unwrap_or_default());
        pipeline.with_variants(names.zip(copies).collect()).map_err(explained)
    }

    /// A pipeline for one worker, whose stages are timed, without its models.
    fn timed(&self) -> anyhow::Result<Pipeline> {
        Ok(self.pipeline(false)?.with_stopwatch(Box::new(SystemClock::default())))
    }

    /// Begins to send metrics and traces to the collector, if one is named.
    pub(super) fn otlp(&self, place: &Place, board: &Arc<Board>, workers: &[Progress]) -> anyhow::Result<Option<Otlp>> {
        let Some(endpoint) = self.config.otlp.endpoint.clone() else { return Ok(None) };
        for worker in workers {
            worker.view().trace_one_of(self.config.otlp.trace_one_of);
        }
        let settings = OtlpSettings {
            endpoint,
            interval: self.config.otlp.interval,
            service: self.config.app.name.clone(),
            instance: place.instance.clone(),
            topic: self.config.topics.clickstream.clone(),
            group: self.config.group().to_owned(),
        };
        Otlp::start(settings, Arc::clone(board)).context("start the thread that sends metrics and traces").map(Some)
    }

    /// The workers, which join the group at once, under the names that this place gives them.
    pub(super) fn crew(&self, place: &Place) -> anyhow::Result<Crew> {
        let config = &self.config;
        let pipeline = self.pipeline(false)?;
        let models = self.models(&pipeline)?;
        let mut workers = Vec::new();
        let mut accounts = Vec::new();
        let mut pipelines = Vec::new();
        let states = sizes::states(config);
        let (count, why) = config.engine.workers(states.first().and_then(Option::as_ref).map(|input| input.partitions));
        tracing::info!(workers = count, why, "the number of workers");
        let feeds = self.watch(&pipeline, &models, count)?;
        let shadows = self.shadows(&pipeline)?;
        let copies = models.copies(count)?;
        let limits = sizes::limits(&states);
        for (number, (feeds, copies)) in feeds.into_iter().zip(copies).enumerate() {
            let mut pipeline = self.with_shadows(self.with_models(self.timed()?, copies)?, &shadows)?;
            for (arm, feed) in feeds {
                pipeline = pipeline.with_feed(arm, Box::new(feed));
            }
            let id = place.worker(config, number);
            let client =
                |settings: Vec<(String, String)>| [vec![("client.id".to_owned(), id.clone())], settings].concat();
            let source = KafkaSource::subscribe(&KafkaSourceSettings {
                brokers: config.kafka.brokers.clone(),
                group: config.group().to_owned(),
                topic: config.topics.clickstream.clone(),
                profiles: config.profiles_topic(),
                instance: config.app.static_membership.then(|| id.clone()),
                client: client(config.kafka.consumer_settings()),
            })?;
            let sink = KafkaSink::new(KafkaSinkSettings {
                brokers: config.kafka.brokers.clone(),
                transactional_id: place.transactional(config, number),
                shows_at_once: config.commit.delivery == Delivery::AtLeastOnce,
                input: config.topics.clickstream.clone(),
                decisions: config.topics.decisions.clone(),
                dead_letters: config.topics.dead_letter.clone(),
                profiles: config.profiles_topic(),
                linger: config.commit.linger(),
                client: client(config.kafka.producer_settings()),
            })?
            .with_limits(limits);
            let settings = WorkerSettings {
                number,
                commit_interval: config.commit.interval,
                pace: config.commit.pace(),
                batch_rows_max: config.engine.batch_max_rows,
                checkpoint_interval: config.checkpoint.interval,
                stall_after: config.engine.stall_after,
            };
            let progress = Progress::default();
            accounts.push(progress.clone());
            // A second change while the first one still waits would wait for its turn, and a third is refused.
            let (sender, receiver) = crossbeam_channel::bounded(2);
            pipelines.push(sender);
            let mut worker = Worker::new(settings, source, sink, SystemClock::default(), pipeline, progress);
            if let Some(folder) = &config.checkpoint.snapshots {
                let store = SnapshotFolder::new(folder)
                    .with_context(|| format!("keep snapshots in {} (checkpoint.snapshots)", folder.display()))?;
                worker = worker.with_snapshots(Box::new(store), config.checkpoint.snapshot_interval);
            }
            workers.push(worker.with_pipelines(receiver));
        }
        for shadow in shadows {
            shadow.start().context("start the thread of a shadow model")?;
        }
        let fingerprint = pipeline.fingerprint().to_owned();
        Ok(Crew { workers, accounts, swaps: Swaps { models, pipelines, fingerprint } })
    }
}

/// Makes versions of a model folder into models that may serve.
pub(super) struct VersionLoader {
    runtime: Runtime,
    folder: ModelFolder,
    spec: ModelSpec,
    sections: PipelineSpec,
    app: String,
    topic: String,
    declared: Vec<String>,
    fingerprint: String,
    /// The largest batch.
    rows: usize,
}

impl VersionLoader {
    /// Reads, checks and warms a version.
    pub(super) fn load(&self, version: &str) -> Result<OnnxModel, Refusal> {
        let (spec, files, manifest) = self.folder.read(version, &self.spec).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|it| format!(": {it}")).unwrap_or_default();
            Refusal::Unreadable(format!("{error}{cause}"))
        })?;
        self.check(&spec, files, &manifest)
    }

    /// Reads, checks and warms the declared file.
    fn load_file(&self) -> anyhow::Result<OnnxModel> {
        let spec = &self.spec;
        let mut model = OnnxModel::load(&self.runtime, spec, &self.declared, &self.fingerprint)?;
        validate(&mut model, None, spec.gpu.precision.into(), self.rows, spec.deadline)
            .with_context(|| format!("load model {}", spec.path.display()))?;
        Ok(model)
    }

    /// Checks and warms a model whose files are read.
    pub(super) fn check(&self, spec: &ModelSpec, files: ModelFiles, manifest: &Manifest) -> Result<OnnxModel, Refusal> {
        let unfit = |error: &dyn std::fmt::Display| Refusal::Unfit(error.to_string());
        // The manifest's features are no person's word for it, as those of the configuration are.
        if self.spec.features.is_none()
            && self.spec.inputs.is_empty()
            && let Some(fingerprint) = &manifest.fingerprint
            && *fingerprint != self.fingerprint
        {
            let (model, declared) = (fingerprint.clone(), self.fingerprint.clone());
            return Err(unfit(&ModelError::Fingerprint { path: spec.path.clone(), model, declared }));
        }
        let mut model = OnnxModel::from_bytes(&self.runtime, spec, files, &self.declared, &self.fingerprint)
            .map_err(|error| unfit(&error))?;
        let twin = model.twin().map_err(|error| unfit(&error))?;
        let list = |faults: Vec<Fault>| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ");
        Pipeline::compile(&self.sections, (self.app.as_str(), self.topic.as_str()))
            .and_then(|pipeline| pipeline.with_model(Box::new(twin)))
            .map_err(|faults| Refusal::Unfit(list(faults)))?;
        let exactness = Exactness::from(self.spec.gpu.precision);
        validate(&mut model, manifest.golden.as_ref(), exactness, self.rows, self.spec.deadline)?;
        Ok(model)
    }

    /// So many copies of a version, each warmed by a run.
    fn copies(&self, version: &str, copies: usize) -> Result<Vec<Box<dyn Model>>, Refusal> {
        let model = self.load(version)?;
        let mut copies = model.copies(copies).map_err(|error| Refusal::Unfit(error.to_string()))?;
        // An end of a thread that joins rows waits for the other workers', who cannot come yet.
        let limit = self.spec.deadline + self.spec.batch.max_delay;
        for copy in &mut copies {
            warm(copy.as_mut(), self.rows, limit)?;
        }
        Ok(copies)
    }
}

/// Loads a model, within the time that its section allows.
pub(super) fn in_time<T: Send + 'static>(
    spec: &ModelSpec,
    load: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    within(spec.load_timeout, load).map_err(|unfinished| {
        let path = spec.path.display();
        let why = match unfinished {
            Unfinished::Late(_) => {
                let limit = humantime::format_duration(spec.load_timeout);
                format!("it was not loaded and checked within model.load_timeout, which is {limit}")
            }
            other => other.to_string(),
        };
        Exit::Model.because(format!("load model {path}: {why}"))
    })
}

/// Waits for an answer of the cluster.
pub(super) fn block_on<T>(question: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(question))
}

/// Serves health, metrics and the live page, and says where.
pub(super) fn publish(
    config: &Config,
    place: &Place,
    logs: Option<Arc<Logs>>,
) -> anyhow::Result<(Arc<Board>, SocketAddr)> {
    let metrics = metrics::install().context("record metrics")?;
    metrics::belongs_to(&config.app.name, config.group());
    let title = format!("{}, {}", config.app.name, place.instance);
    let board =
        Arc::new(Board::new(title, config.shown(), config.admin.token.as_ref().map(Secret::reveal), metrics, logs));
    let at = admin::serve(config.admin.address, Arc::clone(&board)).with_context(|| {
        let address = config.admin.address.unwrap_or(admin::USUAL);
        format!("serve health, metrics and the page at {address}; set another admin.address")
    })?;
    tracing::info!(address = %at, token = config.admin.token.is_some(), "serving health, metrics and the live page");
    Ok((board, at))
}

/// A flag that SIGTERM and SIGINT set; the second one ends the process at once.
pub(super) fn told() -> std::io::Result<Arc<AtomicBool>> {
    let told = Arc::new(AtomicBool::new(false));
    for signal in heeded([SIGINT, SIGTERM]) {
        // The second signal finds the flag set. Both are registered in this order on purpose.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&told))?;
        signal_hook::flag::register(signal, Arc::clone(&told))?;
    }
    Ok(told)
}

/// The signals among these that the process was not started to ignore, as `nohup` and a shell's background jobs are.
fn heeded<const N: usize>(signals: [i32; N]) -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    signals.into_iter().filter(move |signal| ignored & (1 << (signal - 1)) == 0)
}

/// From here on signals end the process as they always do, but leave no file that is not whole.
pub(super) fn clean_up_on_signals() -> std::io::Result<()> {
    let mut signals = Signals::new(heeded([SIGHUP, SIGINT, SIGQUIT, SIGTERM]))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            partial::remove_all();
            // Where the system does not end the process, this does.
            emulate_default_handler(signal).unwrap_or_default();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}
