//! From a configuration to workers: what `run`, `demo` and `check` have in common.

use super::ConfigArgs;
use crate::{
    config::{Config, ConfigError, Document},
    engine::{Delivery, Pipeline, Progress, SnapshotFolder, SystemClock, Worker, WorkerSettings},
    inference::{OnnxModel, Runtime},
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

    /// The declared model, loaded and checked against the pipeline.
    pub(super) fn model(&self, pipeline: &Pipeline) -> anyhow::Result<Option<OnnxModel>> {
        let Some(spec) = &self.config.model else { return Ok(None) };
        let runtime = Runtime::load(self.config.inference.onnxruntime.as_deref())?;
        Ok(Some(OnnxModel::load(&runtime, spec, &pipeline.model_features(), pipeline.fingerprint())?))
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
        for number in 0..config.engine.worker_count() {
            let clock = std::time::Instant::now();
            let pipeline = self
                .with_model(self.pipeline(false)?, model.as_ref())?
                .with_stopwatch(Box::new(move || clock.elapsed()));
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
            let mut worker = Worker::new(settings, source, sink, SystemClock::default(), pipeline, progress);
            if let Some(folder) = &config.checkpoint.snapshots {
                let store = SnapshotFolder::new(folder)
                    .with_context(|| format!("keep snapshots in {} (checkpoint.snapshots)", folder.display()))?;
                worker = worker.with_snapshots(Box::new(store), config.checkpoint.snapshot_interval);
            }
            workers.push(worker);
        }
        Ok((workers, accounts))
    }
}

/// Waits for an answer of the cluster.
pub(super) fn block_on<T>(question: impl Future<Output = T>) -> anyhow::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(question))
}
