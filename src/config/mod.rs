//! The configuration as it is meant, and where each key of it was written.
//!
//! Owns the sections that say how a process behaves, and puts the pipeline's sections beside them. A configuration is a
//! TOML file, overridden by environment variables (`AIMPOINT__SECTION__KEY`) and then by `--set section.key=value`. Every
//! fault is found and told at once, with file, line, column and the next step; unknown keys are faults. The defaults are
//! those of `default.toml`, which explains every key; a test keeps the two alike.

mod document;
mod schema;
mod sections;

pub use document::Document;
pub use schema::schema;
pub use sections::{
    AdminSpec, AppSpec, CheckpointSpec, CommitSpec, EngineSpec, InferenceSpec, KafkaSpec, LogSpec, OtlpSpec, TopicsSpec,
};

use crate::{
    engine::PipelineSpec,
    fault::Fault,
    inference::{Experiment, ModelSpec},
    source::is_kept_by_the_brokers,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Every key with its default and what it means, as TOML.
pub const DEFAULTS: &str = include_str!("default.toml");

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "Aimpoint's configuration", default, deny_unknown_fields)]
pub struct Config {
    /// `[app]`
    pub app: AppSpec,
    /// `[kafka]`
    pub kafka: KafkaSpec,
    /// `[topics]`
    pub topics: TopicsSpec,
    /// `[commit]`
    pub commit: CommitSpec,
    /// `[checkpoint]`
    pub checkpoint: CheckpointSpec,
    /// `[engine]`
    pub engine: EngineSpec,
    /// `[admin]`
    pub admin: AdminSpec,
    /// `[log]`
    pub log: LogSpec,
    /// `[otlp]`
    pub otlp: OtlpSpec,
    /// `[inference]`
    pub inference: InferenceSpec,
    /// `[model]`
    pub model: Option<ModelSpec>,
    /// `[[variant]]`
    #[serde(rename = "variant")]
    pub variants: Vec<ModelSpec>,
    /// `[[shadow]]`
    #[serde(rename = "shadow")]
    pub shadows: Vec<ModelSpec>,
    /// Everything that says what the pipeline means.
    #[serde(flatten)]
    pub pipeline: PipelineSpec,
}

/// A configuration that cannot be used, explained.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It says something that cannot be meant.
    #[error("{0}")]
    Faulty(String),
}

impl Config {
    /// Reads the file, if there is one, the environment and the flags' `key=value`.
    ///
    /// # Errors
    /// With everything that is wrong, each with its place.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
        sets: &[String],
    ) -> Result<(Self, Document), ConfigError> {
        let mut document = match path {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error })?;
                Document::parse(&path.display().to_string(), text)
            }
            None => Document::parse("(no file)", String::new()),
        }
        .map_err(ConfigError::Faulty)?;
        let mut faults = Vec::new();
        let mut variables: Vec<(String, String)> = environment.collect();
        variables.sort();
        for (name, value) in &variables {
            document.set_from_environment(name, value);
        }
        for set in sets {
            document.set_from_flag(set, &mut faults);
        }
        let config = Self::read(&document, path.and_then(Path::parent), &mut faults);
        if faults.is_empty() { Ok((config, document)) } else { Err(ConfigError::Faulty(document.explain(&faults))) }
    }

    fn read(document: &Document, folder: Option<&Path>, faults: &mut Vec<Fault>) -> Self {
        let mut reader = document.reader(faults);
        let mut config = Self {
            app: reader.section("app"),
            kafka: reader.section("kafka"),
            topics: reader.section("topics"),
            commit: reader.section("commit"),
            checkpoint: reader.section("checkpoint"),
            engine: reader.section("engine"),
            admin: reader.section("admin"),
            log: reader.section("log"),
            otlp: reader.section("otlp"),
            inference: reader.section("inference"),
            model: reader.optional("model"),
            variants: reader.list("variant"),
            shadows: reader.list("shadow"),
            pipeline: PipelineSpec {
                input: reader.section("input"),
                fields: reader.list("field"),
                time: reader.section("time"),
                duplicates: reader.section("duplicates"),
                profile: reader.section("profile"),
                features: reader.list("feature"),
                segments: reader.list("segment"),
                scoring: reader.section("scoring"),
                experiment: reader.section("experiment"),
                explain: reader.section("explain"),
                decision: reader.section("decision"),
                label: reader.optional("label"),
            },
        };
        reader.finish();
        // Paths in a file are relative to it, wherever the program is started.
        let absolute = |path: &mut PathBuf| {
            if let Some(folder) = folder
                && path.is_relative()
            {
                *path = folder.join(&path);
            }
        };
        if let Some(model) = &mut config.model {
            absolute(&mut model.path);
            config.pipeline.scoring.heads = model.heads.keys().cloned().collect();
        }
        for model in config.variants.iter_mut().chain(&mut config.shadows) {
            absolute(&mut model.path);
        }
        if let Some(path) = &mut config.inference.onnxruntime {
            absolute(path);
        }
        config.check(faults);
        config
    }

    /// The rules that no single key's type can say.
    fn check(&self, faults: &mut Vec<Fault>) {
        self.app.check(faults);
        self.kafka.check(faults);
        self.topics.check(faults);
        self.commit.check(faults);
        self.checkpoint.check(faults);
        self.engine.check(faults);
        self.admin.check(faults);
        self.log.check(faults);
        self.check_models(faults);
        self.check_variants(faults);
        self.otlp.check(faults);
        self.check_shadows(faults);
        self.check_membership(faults);
    }

    /// A process that was killed has not told the group that it will be back. Members of the older protocol take over from
    /// themselves then; those that the brokers keep are refused until the former life's session has ended.
    fn check_membership(&self, faults: &mut Vec<Fault>) {
        if self.app.static_membership && is_kept_by_the_brokers(&self.kafka.consumer_settings()) {
            faults.push(
                Fault::new(
                    "app.static_membership",
                    "with \"group.protocol\" = \"consumer\" a process that was killed could not come back before its session ends",
                )
                .hint("leave one of the two out; without the former, partitions that stay are not interrupted by a restart either"),
            );
        }
    }

    fn check_models(&self, faults: &mut Vec<Fault>) {
        let model = self.model.iter().map(|spec| ("model".to_owned(), spec));
        let variants = self.variants.iter().enumerate().map(|(index, spec)| (format!("variant[{index}]"), spec));
        for (section, spec) in model.chain(variants) {
            if let Some((key, why)) = spec.batch.fault() {
                faults.push(Fault::new(format!("{section}.batch.{key}"), why));
            }
        }
    }

    fn check_variants(&self, faults: &mut Vec<Fault>) {
        if self.model.is_none() && !self.variants.is_empty() {
            faults.push(
                Fault::new(
                    "variant[0]",
                    "a variant decides for a share of the users, and no model decides for the others",
                )
                .hint("declare that model under [model]"),
            );
        }
        let names: Vec<Option<&str>> = self.variants.iter().map(|variant| variant.name.as_deref()).collect();
        if let Err(found) = Experiment::new(&self.pipeline.experiment, &names) {
            faults.extend(found);
        }
        for (index, variant) in self.variants.iter().enumerate() {
            let heads: Vec<&String> = variant.heads.keys().collect();
            let expected = &self.pipeline.scoring.heads;
            if self.model.is_some() && !heads.iter().copied().eq(expected) {
                let message = format!("expected the heads of [model], {expected:?}, found {heads:?}");
                faults.push(
                    Fault::new(format!("variant[{index}].heads"), message)
                        .hint("rules may use any of them, for each user; name the output that each is read from"),
                );
            }
        }
    }

    fn check_shadows(&self, faults: &mut Vec<Fault>) {
        if self.model.is_none() && !self.shadows.is_empty() {
            faults.push(
                Fault::new("shadow[0]", "a shadow is compared with the model that decides, and there is none")
                    .hint("declare the model that decides under [model]"),
            );
        }
        if self.shadows.is_empty() && self.topics.shadow_scores.is_some() {
            faults.push(
                Fault::new("topics.shadow_scores", "no shadow is declared, so nothing would be written there")
                    .hint("declare one under [[shadow]], or leave the topic out"),
            );
        }
        for (index, shadow) in self.shadows.iter().enumerate() {
            let key = format!("shadow[{index}].name");
            match &shadow.name {
                None => faults.push(
                    Fault::new(format!("shadow[{index}]"), "a shadow needs a name, which its metrics carry")
                        .hint("for instance name = \"challenger\""),
                ),
                Some(name) if self.shadows[..index].iter().any(|other| other.name.as_ref() == Some(name)) => {
                    faults.push(Fault::new(key, format!("{name:?} is the name of another shadow")));
                }
                Some(_) => {}
            }
        }
    }

    /// The whole of it with secrets as stars, to be shown.
    pub fn shown(&self) -> serde_json::Value {
        let mut shown = Self { kafka: self.kafka.without_secrets(), ..self.clone() };
        if let Some(token) = &mut shown.admin.token {
            "***".clone_into(token);
        }
        serde_json::to_value(shown).expect("a configuration has text for its keys")
    }

    /// The sections in which another configuration differs, but for those that a running process takes: the segments
    /// and what is logged.
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let part = |config: &Self| {
            let mut shown = Self { log: LogSpec::default(), ..config.clone() };
            shown.pipeline.segments.clear();
            serde_json::to_value(shown).expect("a configuration has text for its keys")
        };
        let (old, new) = (part(self), part(other));
        let sections = old.as_object().into_iter().flatten();
        sections.filter(|(name, value)| new.get(name.as_str()) != Some(value)).map(|(name, _)| name.clone()).collect()
    }

    /// The consumer group, which is the application's name.
    pub fn group(&self) -> &str {
        &self.app.name
    }

    /// The changelog topic of the profiles.
    pub fn profiles_topic(&self) -> String {
        self.topics.profiles.clone().unwrap_or_else(|| format!("{}-profiles", self.app.name))
    }

    /// The transactional id of a worker: stable for as long as the instance keeps its name, and unlike any other's.
    pub fn transactional_id(&self, worker: usize) -> String {
        format!("{}-{}-{worker}", self.app.name, self.app.instance())
    }
}

#[cfg(test)]
mod tests;
