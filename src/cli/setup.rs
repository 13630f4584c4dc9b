//! From a configuration to workers: what `run`, `demo` and `check` have in common.

use super::ConfigArgs;
use crate::{
    config::{Config, ConfigError, Document},
    engine::{Delivery, Pipeline, PipelineSpec, Progress, SystemClock, Worker, WorkerSettings},
    fault::Fault,
    inference::{Handed, Manifest, Model, ModelError, ModelFolder, ModelSpec, OnnxModel, Refusal, Runtime, Watch, vet},
    sink::{KafkaSink, KafkaSinkSettings},
    source::{KafkaSource, KafkaSourceSettings},
};
use anyhow::Context;

/// A worker on Kafka.
pub(super) type KafkaWorker = Worker<KafkaSource, KafkaSink, SystemClock>;

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
        let Some(spec) = &self.config.model else { return Ok(None) };
        let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
        if !spec.path.is_dir() {
            return Ok(Some(OnnxModel::load(&runtime, spec, &pipeline.model_features(), pipeline.fingerprint())?));
        }
        let folder = ModelFolder::at(&spec.path);
        let version = folder.active()?;
        let loader = self.loader(runtime, spec, pipeline);
        let context = || format!("load version {version} of {}", spec.path.display());
        Ok(Some(loader.load(&version).with_context(context)?))
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

    /// The workers, which join the group at once.
    pub(super) fn workers(&self) -> anyhow::Result<(Vec<KafkaWorker>, Vec<Progress>)> {
        let config = &self.config;
        let pipeline = self.pipeline(false)?;
        let model = self.model(&pipeline)?;
        let mut workers = Vec::new();
        let mut accounts = Vec::new();
        let mut feeds = self.watch(&pipeline, model.as_ref(), config.engine.worker_count())?.into_iter();
        for number in 0..config.engine.worker_count() {
            let clock = std::time::Instant::now();
            let mut pipeline = self
                .with_model(self.pipeline(false)?, model.as_ref())?
                .with_stopwatch(Box::new(move || clock.elapsed()));
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
                client: client(config.kafka.producer_settings()),
            })?;
            let settings = WorkerSettings {
                number,
                commit_interval: config.commit.interval,
                batch_rows_max: config.engine.batch_max_rows,
                checkpoint_interval: config.checkpoint.interval,
                stall_after: config.engine.stall_after,
            };
            let progress = Progress::default();
            accounts.push(progress.clone());
            workers.push(Worker::new(settings, source, sink, SystemClock::default(), pipeline, progress));
        }
        Ok((workers, accounts))
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
