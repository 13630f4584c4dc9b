//! The workers of a process, from a configuration.

use super::{
    Instance, Models, Setup,
    policies::{self, PolicyTopic},
    topics,
};
use crate::{
    config::Config,
    engine::{Clock, Delivery, Pipeline, SnapshotFolder, SystemClock, Worker, WorkerSettings},
    sink::{KafkaSink, KafkaSinkSettings},
    source::{KafkaSource, KafkaSourceSettings},
    status::Progress,
};
use anyhow::Context;

/// A worker on Kafka.
pub(crate) type KafkaWorker<C> = Worker<KafkaSource, KafkaSink, C>;

/// The settings for a sink that writes to the configured topics.
pub(crate) fn sink_settings(
    config: &Config,
    transactional_id: String,
    client: Vec<(String, String)>,
) -> KafkaSinkSettings {
    KafkaSinkSettings {
        brokers: config.kafka.brokers.clone(),
        transactional_id,
        shows_at_once: config.commit.delivery == Delivery::AtLeastOnce,
        input: config.topics.clickstream.clone(),
        decisions: config.topics.decisions.clone(),
        dead_letters: config.topics.dead_letter.clone(),
        profiles: config.profiles_topic(),
        linger: config.commit.linger(),
        client,
    }
}

/// The workers of a process, before they start.
pub(crate) struct WorkerSet<C: Clock = SystemClock> {
    pub(crate) workers: Vec<KafkaWorker<C>>,
    /// By worker.
    pub(crate) progress: Vec<Progress>,
    pub(crate) updates: PipelineUpdates,
}

/// Sends new pipelines to running workers.
pub(crate) struct PipelineUpdates {
    models: Models,
    pipelines: Vec<crossbeam_channel::Sender<Pipeline>>,
    fingerprint: String,
    /// Whether the workers follow control's policies since they started.
    follows: bool,
}

impl PipelineUpdates {
    /// Switches every worker to the segments of another configuration, from its next transaction on. If any part of it
    /// is unusable, nothing changes.
    pub(super) fn send(&self, to: &Setup) -> anyhow::Result<()> {
        // The workers keep their current model versions. Check that the new pipeline accepts one.
        to.with_models(to.pipeline(false)?, self.models.copies(1)?.remove(0))?;
        // The first campaign with a budget may come with a reload.
        let feeds = if self.follows { Vec::new() } else { to.follow_policies(self.pipelines.len())? };
        let mut feeds = feeds.into_iter();
        let pipeline = || Ok(to.with_policies(to.timed()?, feeds.next()));
        let pipelines: Vec<Pipeline> =
            std::iter::repeat_with(pipeline).take(self.pipelines.len()).collect::<anyhow::Result<_>>()?;
        anyhow::ensure!(
            pipelines.iter().all(|it| it.fingerprint() == self.fingerprint),
            "the features have changed; restart to apply them"
        );
        anyhow::ensure!(
            self.pipelines.iter().all(|worker| !worker.is_full()),
            "a worker has not taken the last reload yet; try again in a moment"
        );
        for (worker, pipeline) in self.pipelines.iter().zip(pipelines) {
            // A worker that has stopped needs none.
            worker.try_send(pipeline).unwrap_or_default();
        }
        Ok(())
    }
}

impl Setup {
    /// Creates the workers of the process. They join the group at once, with names derived from the instance.
    pub(crate) fn workers(&self, instance: &Instance) -> anyhow::Result<WorkerSet> {
        self.workers_by(instance, &SystemClock::default())
    }

    /// As [`Setup::workers`], with another clock.
    pub(crate) fn workers_by<C: Clock + Clone>(&self, instance: &Instance, clock: &C) -> anyhow::Result<WorkerSet<C>> {
        let config = &self.config;
        let pipeline = self.pipeline(false)?;
        let models = self.models(&pipeline)?;
        let mut workers = Vec::new();
        let mut progress_of_all = Vec::new();
        let mut pipelines = Vec::new();
        let states = topics::states_or_none(config);
        let (count, why) = config.engine.workers(states.first().and_then(Option::as_ref).map(|input| input.partitions));
        tracing::info!(workers = count, why, "the number of workers");
        let feeds = self.watch_models(&pipeline, &models, count)?;
        let shadows = self.shadows(&pipeline)?;
        let copies = models.copies(count)?;
        let limits = topics::size_limits(&states);
        let mut policies = self.follow_policies(count)?.into_iter();
        for (number, (feeds, copies)) in feeds.into_iter().zip(copies).enumerate() {
            let mut pipeline = self.with_shadows(self.with_models(self.timed()?, copies)?, &shadows)?;
            for (arm, feed) in feeds {
                pipeline = pipeline.with_feed(arm, Box::new(feed));
            }
            pipeline = self.with_policies(pipeline, policies.next());
            let id = instance.worker(config, number);
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
            let sink = KafkaSink::new(sink_settings(
                config,
                instance.transactional(config, number),
                client(config.kafka.producer_settings()),
            ))?
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
            progress_of_all.push(progress.clone());
            // Two pipelines may wait for the worker; a third one is rejected.
            let (sender, receiver) = crossbeam_channel::bounded(2);
            pipelines.push(sender);
            let mut worker = Worker::new(settings, source, sink, clock.clone(), pipeline, progress);
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
        Ok(WorkerSet {
            workers,
            progress: progress_of_all,
            updates: PipelineUpdates { models, pipelines, fingerprint, follows: config.needs_control() },
        })
    }

    /// Gives a pipeline its policies.
    fn with_policies(&self, pipeline: Pipeline, feed: Option<policies::PolicyMailbox>) -> Pipeline {
        match feed {
            Some(feed) => pipeline.with_policies(Box::new(feed), self.config.control().stale_after),
            None => pipeline,
        }
    }

    /// Follows control's policies for this many workers, if anything needs them.
    fn follow_policies(&self, workers: usize) -> anyhow::Result<Vec<policies::PolicyMailbox>> {
        let config = &self.config;
        if !config.needs_control() {
            return Ok(Vec::new());
        }
        let topic = PolicyTopic {
            brokers: config.kafka.brokers.clone(),
            client: config.reader_settings(),
            topic: config.policy_topic(),
            app: config.app.name.clone(),
        };
        policies::follow(topic, workers)
    }
}
