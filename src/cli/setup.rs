//! From a configuration to workers: what `run`, `demo` and `check` have in common.

use super::ConfigArgs;
use crate::{
    config::{Config, ConfigError, Document},
    engine::{Delivery, Pipeline, PipelineSpec, Progress, SnapshotFolder, SystemClock, Worker, WorkerSettings},
    fault::Fault,
    inference::{
        ExplainSpec, Handed, Manifest, Model, ModelError, ModelFolder, ModelSpec, OnnxModel, Refusal, Runtime, Shadow,
        Watch, vet,
    },
    sink::{KafkaSink, KafkaSinkSettings},
    source::{KafkaSource, KafkaSourceSettings},
    telemetry::{
        admin::{self, Board},
        logs::Logs,
        metrics,
        otlp::{Otlp, OtlpSettings},
    },
};
use anyhow::Context;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
};

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
    model: Option<OnnxModel>,
    pipelines: Vec<crossbeam_channel::Sender<Pipeline>>,
    fingerprint: String,
}

impl Swaps {
    /// Has every worker go on with the segments of another configuration, from its next transaction on. Nothing changes
    /// unless all of it can be used.
    pub(super) fn swap(&self, to: &Setup) -> anyhow::Result<()> {
        let pipelines: Vec<Pipeline> =
            self.pipelines.iter().map(|_| to.timed(self.model.as_ref())).collect::<anyhow::Result<_>>()?;
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
        let (config, document) = Config::load(path, std::env::vars(), &args.sets)?;
        Ok(Self { config, document })
    }

    /// The compiled pipeline without its model.
    pub(super) fn pipeline(&self, with_label: bool) -> Result<Pipeline, ConfigError> {
        let mut spec = self.config.pipeline.clone();
        if !with_label {
            spec.label = None;
        }
        Pipeline::compile(&spec, &self.config.topics.clickstream)
            .map_err(|faults| ConfigError::Faulty(self.document.explain(&faults)))
    }

    /// The declared model, loaded and checked against the pipeline; of a folder the version that serves.
    pub(super) fn model(&self, pipeline: &Pipeline) -> anyhow::Result<Option<OnnxModel>> {
        let explain = &self.config.pipeline.explain;
        self.config.model.as_ref().map(|spec| self.load(spec, explain, pipeline)).transpose()
    }

    fn load(&self, spec: &ModelSpec, explain: &ExplainSpec, pipeline: &Pipeline) -> anyhow::Result<OnnxModel> {
        let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
        if !spec.path.is_dir() {
            return Ok(OnnxModel::load(&runtime, spec, &pipeline.model_features(), pipeline.fingerprint())?);
        }
        let folder = ModelFolder::at(&spec.path);
        let version = folder.active()?;
        let mut loader = self.loader(runtime, spec, pipeline);
        loader.sections.explain = explain.clone();
        loader.sections.scoring.heads = spec.heads.keys().cloned().collect();
        let context = || format!("load version {version} of {}", spec.path.display());
        loader.load(&version).with_context(context)
    }

    /// The declared shadows, loaded; whether their features are declared tells [`Setup::with_shadows`].
    pub(super) fn shadows(&self, pipeline: &Pipeline) -> anyhow::Result<Vec<Shadow>> {
        // Nothing is explained by a shadow, so it needs no baseline.
        let load = |spec: &ModelSpec| {
            let name = spec.name.as_deref().unwrap_or_default();
            let model = self
                .load(spec, &ExplainSpec::default(), pipeline)
                .with_context(|| format!("load the shadow {name}"))?;
            Ok(Shadow::new(Box::new(model)))
        };
        self.config.shadows.iter().map(load).collect()
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
            topic: self.config.topics.clickstream.clone(),
            declared: pipeline.model_features(),
            fingerprint: pipeline.fingerprint().to_owned(),
            rows: self.config.engine.batch_max_rows,
        }
    }

    /// Watches the model folder, if there is one, and gives each worker its end of the watch.
    fn watch(&self, pipeline: &Pipeline, model: Option<&OnnxModel>, workers: usize) -> anyhow::Result<Vec<Handed>> {
        let (Some(spec), Some(model)) = (&self.config.model, model) else { return Ok(Vec::new()) };
        if !spec.path.is_dir() {
            return Ok(Vec::new());
        }
        let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
        let loader = self.loader(runtime, spec, pipeline);
        let load = move |version: &str, copies: usize| loader.copies(version, copies);
        let (watch, handed) = Watch::new(ModelFolder::at(&spec.path), &model.info().version, workers, load);
        watch.start().context("start the thread that watches the model folder")?;
        Ok(handed)
    }

    /// A pipeline with its model, for one worker.
    pub(super) fn with_model(&self, pipeline: Pipeline, model: Option<&OnnxModel>) -> anyhow::Result<Pipeline> {
        let Some(model) = model else { return Ok(pipeline) };
        let twin = Box::new(model.twin()?);
        Ok(pipeline.with_model(twin).map_err(|faults| ConfigError::Faulty(self.document.explain(&faults)))?)
    }

    /// A pipeline for one worker, whose stages are timed.
    fn timed(&self, model: Option<&OnnxModel>) -> anyhow::Result<Pipeline> {
        let clock = std::time::Instant::now();
        let pipeline = self.with_model(self.pipeline(false)?, model)?;
        Ok(pipeline.with_stopwatch(Box::new(move || clock.elapsed())))
    }

    /// Begins to send metrics and traces to the collector, if one is named.
    pub(super) fn otlp(&self, board: &Arc<Board>, workers: &[Progress]) -> anyhow::Result<Option<Otlp>> {
        let Some(endpoint) = self.config.otlp.endpoint.clone() else { return Ok(None) };
        for worker in workers {
            worker.view().trace_one_of(self.config.otlp.trace_one_of);
        }
        let settings = OtlpSettings {
            endpoint,
            interval: self.config.otlp.interval,
            service: self.config.app.name.clone(),
            instance: self.config.app.instance(),
            topic: self.config.topics.clickstream.clone(),
            group: self.config.group().to_owned(),
        };
        Otlp::start(settings, Arc::clone(board)).context("start the thread that sends metrics and traces").map(Some)
    }

    /// The workers, which join the group at once.
    pub(super) fn crew(&self) -> anyhow::Result<Crew> {
        let config = &self.config;
        let pipeline = self.pipeline(false)?;
        let model = self.model(&pipeline)?;
        let mut workers = Vec::new();
        let mut accounts = Vec::new();
        let mut pipelines = Vec::new();
        let mut feeds = self.watch(&pipeline, model.as_ref(), config.engine.worker_count())?.into_iter();
        let shadows = self.shadows(&pipeline)?;
        for number in 0..config.engine.worker_count() {
            let mut pipeline = self.with_shadows(self.timed(model.as_ref())?, &shadows)?;
            if let Some(feed) = feeds.next() {
                pipeline = pipeline.with_feed(Box::new(feed));
            }
            let id = format!("{}-{}-{number}", config.app.name, config.app.instance());
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
            let transactional = config.commit.delivery == Delivery::ExactlyOnce;
            let sink = KafkaSink::new(KafkaSinkSettings {
                brokers: config.kafka.brokers.clone(),
                transactional_id: transactional.then(|| config.transactional_id(number)),
                input: config.topics.clickstream.clone(),
                decisions: config.topics.decisions.clone(),
                dead_letters: config.topics.dead_letter.clone(),
                profiles: config.profiles_topic(),
                linger: config.commit.linger(),
                client: client(config.kafka.producer_settings()),
            })?;
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
        Ok(Crew { workers, accounts, swaps: Swaps { model, pipelines, fingerprint } })
    }
}

/// Makes versions of a model folder into models that may serve.
pub(super) struct VersionLoader {
    runtime: Runtime,
    folder: ModelFolder,
    spec: ModelSpec,
    sections: PipelineSpec,
    topic: String,
    declared: Vec<String>,
    fingerprint: String,
    /// The largest batch.
    rows: usize,
}

impl VersionLoader {
    /// Reads, checks and warms a version.
    pub(super) fn load(&self, version: &str) -> Result<OnnxModel, Refusal> {
        let (spec, bytes, manifest) =
            self.folder.read(version, &self.spec).map_err(|error| Refusal::Unreadable(error.to_string()))?;
        self.check(&spec, bytes, &manifest)
    }

    /// Checks and warms a model whose bytes are read.
    pub(super) fn check(&self, spec: &ModelSpec, bytes: Vec<u8>, manifest: &Manifest) -> Result<OnnxModel, Refusal> {
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
        let mut model = OnnxModel::from_bytes(&self.runtime, spec, bytes, &self.declared, &self.fingerprint)
            .map_err(|error| unfit(&error))?;
        let twin = model.twin().map_err(|error| unfit(&error))?;
        let list = |faults: Vec<Fault>| faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ");
        Pipeline::compile(&self.sections, &self.topic)
            .and_then(|pipeline| pipeline.with_model(Box::new(twin)))
            .map_err(|faults| Refusal::Unfit(list(faults)))?;
        vet(&mut model, manifest.golden.as_ref(), self.rows, self.spec.deadline)?;
        Ok(model)
    }

    /// So many copies of a version, each warmed by a run.
    fn copies(&self, version: &str, copies: usize) -> Result<Vec<Box<dyn Model>>, Refusal> {
        let model = self.load(version)?;
        let copy = |_| {
            let mut twin = model.twin().map_err(|error| Refusal::Unfit(error.to_string()))?;
            vet(&mut twin, None, self.rows, self.spec.deadline)?;
            Ok(Box::new(twin) as Box<dyn Model>)
        };
        (0..copies).map(copy).collect()
    }
}

/// Waits for an answer of the cluster.
pub(super) fn block_on<T>(question: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(question))
}

/// Serves health, metrics and the live page, and says where.
pub(super) fn publish(config: &Config, logs: Option<Arc<Logs>>) -> anyhow::Result<(Arc<Board>, SocketAddr)> {
    let metrics = metrics::install().context("record metrics")?;
    let title = format!("{}, {}", config.app.name, config.app.instance());
    let board = Arc::new(Board::new(title, config.shown(), config.admin.token.as_deref(), metrics, logs));
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
    for signal in [SIGINT, SIGTERM] {
        // The second signal finds the flag set. Both are registered in this order on purpose.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&told))?;
        signal_hook::flag::register(signal, Arc::clone(&told))?;
    }
    Ok(told)
}
