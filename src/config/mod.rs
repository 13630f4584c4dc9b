//! The typed configuration, and where each of its keys was set.
//!
//! Owns the sections that configure the process, and includes the sections of the pipeline. A configuration is a TOML
//! file, overridden by environment variables (`AIMPOINT__SECTION__KEY`) and then by `--set section.key=value`. All
//! errors are reported at once, with file, line, column and the next step; unknown keys are errors. The defaults are
//! those of `default.toml`, which documents every key; a test keeps the two equal.

mod control;
mod document;
mod identity;
mod load;
mod rules;
mod schema;
mod sections;
mod serve;

pub use document::Document;
pub use load::ConfigLoadError;
pub use schema::schema;
pub use sections::{
    AdminSpec, AppSpec, CheckpointSpec, ClientSettings, CommitSpec, EngineSpec, InferenceSpec, KafkaSpec, LogSpec,
    OtlpSpec, TopicsSpec,
};

use crate::{
    config_error::ConfigError,
    control::ControlSpec,
    decision::Origin,
    engine::PipelineSpec,
    event::{KeyTypes, UserKeys},
    inference::{ModelSpec, PromotionSpec},
    serve::ServeSpec,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Every key with its default and its meaning, as TOML.
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
    /// `[control]`
    pub control: Option<ControlSpec>,
    /// `[serve]`
    pub serve: Option<ServeSpec>,
    /// Whether there is a section `[consent]`.
    #[serde(skip)]
    pub has_consent: bool,
    /// `[model]`
    pub model: Option<ModelSpec>,
    /// `[[variant]]`
    #[serde(rename = "variant")]
    pub variants: Vec<ModelSpec>,
    /// `[[shadow]]`
    #[serde(rename = "shadow")]
    pub shadows: Vec<ModelSpec>,
    /// `[promotion]`, which only `aimpoint promote` uses.
    pub promotion: Option<PromotionSpec>,
    /// The sections of the pipeline.
    #[serde(flatten)]
    pub pipeline: PipelineSpec,
}

impl Config {
    fn read(document: &Document, folder: Option<&Path>, errors: &mut Vec<ConfigError>) -> Self {
        let mut reader = document.reader(errors);
        let consent = reader.optional("consent");
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
            control: reader.optional("control"),
            serve: reader.optional("serve"),
            has_consent: consent.is_some(),
            model: reader.optional("model"),
            variants: reader.list("variant"),
            shadows: reader.list("shadow"),
            promotion: reader.optional("promotion"),
            pipeline: PipelineSpec {
                input: reader.section("input"),
                fields: reader.list("field"),
                time: reader.section("time"),
                identity: reader.section("identity"),
                duplicates: reader.section("duplicates"),
                profile: reader.section("profile"),
                features: reader.list("feature"),
                segments: reader.list("segment"),
                campaigns: reader.list("campaign"),
                creatives: reader.list("creative"),
                targeting: reader.section("targeting"),
                scoring: reader.section("scoring"),
                experiment: reader.section("experiment"),
                explain: reader.section("explain"),
                decision: reader.section("decision"),
                emission: reader.section("emission"),
                consent: consent.unwrap_or_default(),
                erasure: reader.section("erasure"),
                label: reader.optional("label"),
            },
        };
        reader.finish();
        // Paths in a file are relative to the file.
        let absolute = |path: &mut PathBuf| {
            if let Some(folder) = folder
                && path.is_relative()
                && !path.as_os_str().is_empty()
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
        if let Some(serve) = &mut config.serve {
            let tls =
                serve.tls.as_mut().map(|tls| [Some(&mut tls.certificate), Some(&mut tls.key), tls.client_ca.as_mut()]);
            for path in serve
                .token_file
                .as_mut()
                .into_iter()
                .chain(serve.snapshot.as_mut())
                .chain(tls.into_iter().flatten().flatten())
            {
                absolute(path);
            }
        }
        let mut further = Vec::new();
        let keys = &mut config.pipeline.identity;
        keys.key_file.iter_mut().chain(&mut keys.previous_key_file).for_each(absolute);
        identity::complete(&mut config.pipeline, &mut further);
        config.check(&mut further);
        add_further(errors, further);
        config
    }

    /// The whole configuration for display, with secrets and the ids of users masked.
    pub fn shown(&self) -> serde_json::Value {
        let mut shown = serde_json::to_value(self).expect("a configuration has text for its keys");
        if let Some(users) = shown.pointer_mut("/explain/users").and_then(serde_json::Value::as_array_mut) {
            for user in users {
                *user = "***".into();
            }
        }
        shown
    }

    /// Whether there are secrets.
    pub fn holds_secrets(&self) -> bool {
        let KafkaSpec { client, consumer, producer, .. } = &self.kafka;
        self.admin.token.is_some()
            || self.pipeline.input.secret.is_some()
            || self.pipeline.identity.key.is_some()
            || [client, consumer, producer].into_iter().any(ClientSettings::holds_secrets)
    }

    /// The sections that differ and need a restart: all but segments, campaigns, creatives and log filter, which a
    /// running process can apply.
    /// The values themselves are compared, not their masked form, so a new password is a change.
    pub fn needs_restart(&self, other: &Self) -> Vec<String> {
        let Self {
            app,
            kafka,
            topics,
            commit,
            checkpoint,
            engine,
            admin,
            log: _,
            otlp,
            inference,
            control,
            serve,
            has_consent: _,
            model,
            variants,
            shadows,
            promotion: _,
            pipeline,
        } = self;
        let PipelineSpec {
            input,
            fields,
            time,
            identity,
            duplicates,
            profile,
            features,
            segments: _,
            campaigns: _,
            creatives: _,
            targeting: _,
            scoring,
            experiment,
            explain,
            decision,
            emission,
            consent,
            erasure,
            label,
        } = pipeline;
        let new = &other.pipeline;
        let same = [
            ("app", *app == other.app),
            ("kafka", *kafka == other.kafka),
            ("topics", *topics == other.topics),
            ("commit", *commit == other.commit),
            ("checkpoint", *checkpoint == other.checkpoint),
            ("engine", *engine == other.engine),
            ("admin", *admin == other.admin),
            ("otlp", *otlp == other.otlp),
            ("inference", *inference == other.inference),
            ("control", *control == other.control),
            ("serve", *serve == other.serve),
            ("model", *model == other.model),
            ("variant", *variants == other.variants),
            ("shadow", *shadows == other.shadows),
            ("input", *input == new.input),
            ("field", *fields == new.fields),
            ("time", *time == new.time),
            ("identity", *identity == new.identity),
            ("duplicates", *duplicates == new.duplicates),
            ("profile", *profile == new.profile),
            ("feature", *features == new.features),
            ("scoring", *scoring == new.scoring),
            ("experiment", *experiment == new.experiment),
            ("explain", *explain == new.explain),
            ("decision", *decision == new.decision),
            ("emission", *emission == new.emission),
            ("consent", *consent == new.consent),
            ("erasure", *erasure == new.erasure),
            ("label", *label == new.label),
        ];
        same.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name.to_owned()).collect()
    }

    /// How users are named behind the input.
    pub fn users(&self) -> UserKeys {
        UserKeys::new(&self.pipeline.identity, self.pipeline.input.key_types == KeyTypes::Joined)
    }

    /// The consumer group, which is the application's name.
    pub fn group(&self) -> &str {
        &self.app.name
    }

    /// The client settings of a reader that joins no group. It names that of the application, so that it asks the brokers for
    /// no other one.
    pub(crate) fn reader_settings(&self) -> Vec<(String, String)> {
        let mut settings = self.kafka.client_settings();
        settings.push(("group.id".to_owned(), self.group().to_owned()));
        settings
    }

    /// The prefix of decision ids.
    pub fn origin(&self) -> Origin<'_> {
        Origin { app: &self.app.name, topic: &self.topics.clickstream }
    }

    /// The changelog topic of the profiles.
    pub fn profiles_topic(&self) -> String {
        self.topics.profiles.clone().unwrap_or_else(|| format!("{}-profiles", self.app.name))
    }
}

/// Adds errors that were found later, except those of keys already known to be wrong: they are only consequences.
fn add_further(errors: &mut Vec<ConfigError>, mut further: Vec<ConfigError>) {
    further.retain(|new| !errors.iter().any(|error| document::is_at_or_below(&new.key, &error.key)));
    errors.append(&mut further);
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
