//! Shadow models, and the topic of their scores.

use super::Setup;
use crate::{
    config::ConfigLoadError,
    engine::Pipeline,
    inference::{ExplainSpec, ModelSpec, Repeats, ScoreSink, Shadow},
    sink::Publisher,
};
use anyhow::Context;
use std::time::Duration;

/// How long a shadow's thread waits for an unavailable broker. Rows that come meanwhile are skipped.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(30);

impl Setup {
    /// Loads the declared shadows. [`Setup::with_shadows`] checks their features.
    pub(crate) fn shadows(&self, pipeline: &Pipeline) -> anyhow::Result<Vec<Shadow>> {
        // Shadows explain nothing, so they need no baseline.
        let load = |spec: &ModelSpec| {
            let name = spec.name.as_deref().unwrap_or_default();
            let model = self
                .load(spec, &ExplainSpec::default(), pipeline)
                .with_context(|| format!("load the shadow {name}"))?;
            let shadow = Shadow::new(Box::new(model));
            Ok(match &self.config.topics.shadow_scores {
                Some(topic) => shadow.with_score_sink(self.score_sink(topic)?),
                None => shadow,
            })
        };
        self.config.shadows.iter().map(load).collect()
    }

    /// Publishes a shadow's scores to a topic, with a producer of its own. Scores that the broker refuses are logged and dropped.
    fn score_sink(&self, topic: &str) -> anyhow::Result<ScoreSink> {
        let kafka = &self.config.kafka;
        let publisher = Publisher::new(&kafka.brokers, &kafka.producer_settings(), topic, PUBLISH_DEADLINE)?;
        let mut failed = Repeats::default();
        Ok(Box::new(move |user, record| {
            match publisher.publish(Some(user), Some(record)) {
                Ok(()) => failed.not(),
                Err(error) => {
                    if let Some(times) = failed.again() {
                        tracing::warn!(%error, times, "publishing a shadow's score failed");
                    }
                }
            }
            publisher.serve();
            if let Some((count, why)) = publisher.take_refused() {
                tracing::warn!(count, why, "the broker refused shadow scores");
            }
        }))
    }

    /// Makes a pipeline offer its rows to the shadows.
    pub(crate) fn with_shadows(&self, mut pipeline: Pipeline, shadows: &[Shadow]) -> anyhow::Result<Pipeline> {
        for shadow in shadows {
            pipeline = pipeline
                .with_shadow(shadow.tap())
                .map_err(|errors| ConfigLoadError::Invalid(self.document.explain(&errors)))?;
        }
        Ok(pipeline)
    }
}
