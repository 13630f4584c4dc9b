//! The typed configuration, and where each of its keys was set.
//!
//! Owns the sections that configure the process, and includes the sections of the pipeline. A configuration is a TOML
//! file, overridden by environment variables (`AIMPOINT__SECTION__KEY`) and then by `--set section.key=value`. All
//! errors are reported at once, with file, line, column and the next step; unknown keys are errors. The defaults are
//! those of `default.toml`, which documents every key; a test keeps the two equal.

mod control;
mod document;
mod identity;
mod schema;
mod sections;
mod serve;

pub use document::Document;
pub use schema::schema;
pub use sections::{
    AdminSpec, AppSpec, CheckpointSpec, ClientSettings, CommitSpec, EngineSpec, InferenceSpec, KafkaSpec, LogSpec,
    OtlpSpec, TopicsSpec,
};

use crate::{
    config_error::ConfigError,
    control::ControlSpec,
    decision::Origin,
    engine::{Delivery, Pipeline, PipelineSpec},
    event::{KeyTypes, UserKeys},
    inference::{Experiment, ModelSpec, PromotionSpec},
    kafka::uses_consumer_protocol,
    panics::words_of_panic,
    serve::ServeSpec,
};
use schemars::JsonSchema;
use serde::Serialize;
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Every key with its default and its meaning, as TOML.
pub const DEFAULTS: &str = include_str!("default.toml");

/// Maximum size of a file: more than anybody writes by hand, and checked within seconds.
const FILE_BYTES_MAX: u64 = 2 << 20;

/// The TOML parser accepts tables 80 deep, each with keys of 80 parts; dropping one level takes some hundred bytes of
/// stack.
const STACK_BYTES: usize = 64 << 20;

/// Maximum number of each. A feature is a column of each batch, and a segment an entry of each decision.
const FEATURES_MAX: usize = 4_096;
const SEGMENTS_MAX: usize = 4_096;
const CAMPAIGNS_MAX: usize = 1_024;
const CREATIVES_MAX: usize = 4_096;
const FIELDS_MAX: usize = 1_024;
const SHADOWS_MAX: usize = 64;
const USERS_MAX: usize = 10_000;

/// Maximum length of a name that appears in decisions and metrics.
const NAME_BYTES_MAX: usize = 256;

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

/// Why a configuration is unusable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigLoadError {
    /// The file cannot be read.
    #[error("read the configuration {}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It has errors; the text lists all of them with their positions.
    #[error("{0}")]
    Invalid(String),
    /// Reading it panicked.
    #[error("read the configuration {}: this is a bug in Aimpoint, please report it: {words}", path.display())]
    Bug {
        /// The file; empty if there is none.
        path: PathBuf,
        /// The panic message.
        words: String,
    },
}

impl Config {
    /// Reads the file, if there is one, the environment and the flags' `key=value`.
    ///
    /// Runs on its own thread, whose stack is large enough for the deepest file that the TOML parser accepts.
    ///
    /// # Errors
    /// Lists everything that is wrong, with positions.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
        sets: &[String],
    ) -> Result<(Self, Document), ConfigLoadError> {
        let mut variables: Vec<_> = environment.filter(|(name, _)| Document::is_ours(name)).collect();
        variables.sort();
        on_large_stack(path, || Self::load_here(path, &variables, sets))
    }

    fn load_here(
        path: Option<&Path>,
        variables: &[(OsString, OsString)],
        sets: &[String],
    ) -> Result<(Self, Document), ConfigLoadError> {
        let (name, text) = match path {
            Some(path) => {
                let text =
                    text_of(path).map_err(|error| ConfigLoadError::Unreadable { path: path.to_owned(), error })?;
                (path.display().to_string(), text)
            }
            None => ("(no file)".to_owned(), String::new()),
        };
        Self::of_text(&name, text, path.and_then(Path::parent), variables, sets)
    }

    fn of_text(
        name: &str,
        text: String,
        folder: Option<&Path>,
        variables: &[(OsString, OsString)],
        sets: &[String],
    ) -> Result<(Self, Document), ConfigLoadError> {
        let mut document = Document::parse(name, text).map_err(ConfigLoadError::Invalid)?;
        let mut errors = Vec::new();
        for (name, value) in variables {
            document.set_from_environment(name, value, &mut errors);
        }
        for (index, set) in sets.iter().enumerate() {
            document.set_from_flag(index, set, &mut errors);
        }
        let config = Self::read(&document, folder, &mut errors);
        if errors.is_empty() {
            return Ok((config, document));
        }
        // Report errors in rules and features too, not only at the next attempt.
        let is_whole = |name, count| document.count(name) == count;
        let spec = &config.pipeline;
        if config.too_many().is_empty()
            && is_whole("feature", spec.features.len())
            && is_whole("field", spec.fields.len())
        {
            let further = Pipeline::compile(&config.pipeline, config.origin()).err().unwrap_or_default();
            add_further(&mut errors, further);
        }
        Err(ConfigLoadError::Invalid(document.explain(&errors)))
    }

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
            for path in serve.token_file.as_mut().into_iter().chain(tls.into_iter().flatten().flatten()) {
                absolute(path);
            }
        }
        let mut further = Vec::new();
        if let Some(path) = &mut config.pipeline.identity.key_file {
            absolute(path);
        }
        identity::complete(&mut config.pipeline, &mut further);
        config.check(&mut further);
        add_further(errors, further);
        config
    }

    /// The rules that a key's type alone cannot express.
    fn check(&self, errors: &mut Vec<ConfigError>) {
        self.app.check(errors);
        self.kafka.check(errors);
        self.topics.check(&self.app.name, errors);
        self.commit.check(errors);
        self.checkpoint.check(errors);
        self.engine.check(errors);
        self.admin.check(errors);
        self.log.check(errors);
        self.pipeline.identity.check(errors);
        if let Some(control) = &self.control {
            control.check(errors);
        }
        if self.needs_control() {
            errors.extend(self.control_faults());
        }
        if let Some(serve) = &self.serve {
            serve.check(self.has_consent, errors);
            errors.extend(self.serve_faults());
        }
        if let Some(promotion) = &self.promotion {
            promotion.check(errors);
        }
        self.check_models(errors);
        self.check_variants(errors);
        self.otlp.check(errors);
        self.check_shadows(errors);
        self.check_membership(errors);
        self.check_emission(errors);
        self.check_names(errors);
        errors.extend(self.too_many());
    }

    /// Checks names that appear in decisions, metrics and rules.
    fn check_names(&self, errors: &mut Vec<ConfigError>) {
        let mut names: Vec<(String, &str)> = Vec::new();
        for (index, segment) in self.pipeline.segments.iter().enumerate() {
            names.push((format!("segment[{index}].id"), &segment.id));
            names.extend(segment.name.as_deref().map(|name| (format!("segment[{index}].name"), name)));
        }
        for (index, field) in self.pipeline.fields.iter().enumerate() {
            names.push((format!("field[{index}].name"), &field.name));
        }
        let of_models = [("variant", &self.variants), ("shadow", &self.shadows)];
        let many = of_models.iter().flat_map(|(section, specs)| {
            specs.iter().enumerate().map(move |(index, spec)| (format!("{section}[{index}]"), spec))
        });
        for (section, spec) in self.model.iter().map(|spec| ("model".to_owned(), spec)).chain(many) {
            names.extend(spec.name.as_deref().map(|name| (format!("{section}.name"), name)));
            names.extend(spec.version.as_deref().map(|version| (format!("{section}.version"), version)));
            names.extend(spec.output.as_deref().map(|output| (format!("{section}.output"), output)));
            names.extend(spec.heads.keys().map(|head| (format!("{section}.heads.{head}"), head.as_str())));
            if spec.path.as_os_str().is_empty() {
                errors.push(ConfigError::new(format!("{section}.path"), "a model needs a file, but the path is empty"));
            }
        }
        names.extend(self.pipeline.experiment.name.as_deref().map(|name| ("experiment.name".to_owned(), name)));
        names.extend(self.pipeline.explain.groups.keys().map(|name| (format!("explain.groups.{name}"), name.as_str())));
        names.extend(
            self.pipeline.decision.fields.keys().map(|name| (format!("decision.fields.{name}"), name.as_str())),
        );
        for (key, name) in names {
            if let Some(why) = name_fault_of(name) {
                errors.push(ConfigError::new(key, why).hint(format!(
                    "use 1 to {NAME_BYTES_MAX} bytes, without control characters and without spaces at the ends"
                )));
            }
        }
        for (index, field) in self.pipeline.fields.iter().enumerate() {
            let is_part = |part: &str| {
                part.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
                    && part.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
            };
            if name_fault_of(&field.name).is_none() && !field.name.split('.').all(is_part) {
                let message = format!("{:?} cannot be used in expressions", field.name);
                errors.push(
                    ConfigError::new(format!("field[{index}].name"), message)
                        .hint("use letters, digits and _, not beginning with a digit, with dots between members"),
                );
            }
        }
    }

    /// Bounds on the number of declarations, so that a configuration is checked and applied quickly.
    fn too_many(&self) -> Vec<ConfigError> {
        let spec = &self.pipeline;
        let counts = [
            ("feature", spec.features.len(), FEATURES_MAX),
            ("segment", spec.segments.len(), SEGMENTS_MAX),
            ("campaign", spec.campaigns.len(), CAMPAIGNS_MAX),
            ("creative", spec.creatives.len(), CREATIVES_MAX),
            ("field", spec.fields.len(), FIELDS_MAX),
            ("shadow", self.shadows.len(), SHADOWS_MAX),
            ("explain.users", spec.explain.users.len(), USERS_MAX),
            ("decision.fields", spec.decision.fields.len(), FIELDS_MAX),
            ("explain.groups", spec.explain.groups.len(), FEATURES_MAX),
        ];
        let too_many = counts.into_iter().filter(|(_, count, max)| count > max);
        too_many
            .map(|(key, count, max)| ConfigError::new(key, format!("there are {count}, but the maximum is {max}")))
            .collect()
    }

    /// With outputs shown at once, readers may know decisions that were never committed, so it is not known what they
    /// were told.
    fn check_emission(&self, errors: &mut Vec<ConfigError>) {
        if self.commit.delivery == Delivery::AtLeastOnce && !self.pipeline.emission.is_plain() {
            let message =
                "with commit.delivery = \"at_least_once\", readers may have seen decisions that were never committed";
            errors.push(
                ConfigError::new("emission", message)
                    .hint("set commit.delivery = \"exactly_once\", or remove [emission]"),
            );
        }
    }

    /// A killed process leaves its membership behind. With the classic protocol its successor takes it over; with the
    /// consumer protocol the broker rejects the successor until the old session has ended.
    fn check_membership(&self, errors: &mut Vec<ConfigError>) {
        if self.app.static_membership && uses_consumer_protocol(&self.kafka.consumer_settings()) {
            errors.push(
                ConfigError::new(
                    "app.static_membership",
                    "with \"group.protocol\" = \"consumer\" a killed process could not rejoin before its session ends",
                )
                .hint("remove one of the two; with group.protocol alone, a restart does not interrupt the partitions of other members either"),
            );
        }
    }

    fn check_models(&self, errors: &mut Vec<ConfigError>) {
        let model = self.model.iter().map(|spec| ("model".to_owned(), spec));
        let variants = self.variants.iter().enumerate().map(|(index, spec)| (format!("variant[{index}]"), spec));
        let shadows = self.shadows.iter().enumerate().map(|(index, spec)| (format!("shadow[{index}]"), spec));
        for (section, spec) in model.chain(variants).chain(shadows) {
            if let Some((key, why)) = spec.batch.error() {
                errors.push(ConfigError::new(format!("{section}.batch.{key}"), why));
            }
            if let Some((key, why)) = spec.range_fault() {
                errors.push(ConfigError::new(format!("{section}.{key}"), why).hint("for instance range = [0.0, 1.0]"));
            }
            if spec.load_timeout.is_zero() {
                errors.push(
                    ConfigError::new(format!("{section}.load_timeout"), "the timeout is zero")
                        .hint("for instance \"2m\""),
                );
            }
        }
    }

    fn check_variants(&self, errors: &mut Vec<ConfigError>) {
        if self.model.is_none() && !self.variants.is_empty() {
            errors.push(
                ConfigError::new(
                    "variant[0]",
                    "a variant decides for a share of the users, but no model decides for the others",
                )
                .hint("declare that model under [model]"),
            );
        }
        let names: Vec<Option<&str>> = self.variants.iter().map(|variant| variant.name.as_deref()).collect();
        if let Err(found) = Experiment::new(&self.pipeline.experiment, &names) {
            errors.extend(found);
        }
        for (index, variant) in self.variants.iter().enumerate() {
            let heads: Vec<&String> = variant.heads.keys().collect();
            let expected = &self.pipeline.scoring.heads;
            if self.model.is_some() && !heads.iter().copied().eq(expected) {
                let message = format!("expected the heads of [model], {expected:?}, found {heads:?}");
                errors.push(
                    ConfigError::new(format!("variant[{index}].heads"), message)
                        .hint("rules may use all of them for every user; name the output of each"),
                );
            }
        }
    }

    fn check_shadows(&self, errors: &mut Vec<ConfigError>) {
        if self.model.is_none() && !self.shadows.is_empty() {
            errors.push(
                ConfigError::new("shadow[0]", "a shadow is compared with the model that decides, but there is none")
                    .hint("declare the model that decides under [model]"),
            );
        }
        if self.shadows.is_empty() && self.topics.shadow_scores.is_some() {
            errors.push(
                ConfigError::new("topics.shadow_scores", "no shadow is configured, so nothing would be written there")
                    .hint("declare one under [[shadow]], or remove the key"),
            );
        }
        for (index, shadow) in self.shadows.iter().enumerate() {
            let key = format!("shadow[{index}].name");
            match &shadow.name {
                None => errors.push(
                    ConfigError::new(format!("shadow[{index}]"), "a shadow needs a name for its metrics")
                        .hint("for instance name = \"challenger\""),
                ),
                Some(name) if self.shadows[..index].iter().any(|other| other.name.as_ref() == Some(name)) => {
                    errors.push(ConfigError::new(key, format!("{name:?} is the name of another shadow")));
                }
                Some(_) => {}
            }
        }
    }

    /// The whole configuration for display, with secrets masked.
    pub fn shown(&self) -> serde_json::Value {
        serde_json::to_value(self).expect("a configuration has text for its keys")
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

/// Reads on a thread with a large stack. A panic there is returned as an error.
fn on_large_stack<T: Send>(
    path: Option<&Path>,
    read: impl FnOnce() -> Result<T, ConfigLoadError> + Send,
) -> Result<T, ConfigLoadError> {
    let path = || path.unwrap_or(Path::new("")).to_owned();
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new()
            .name("config".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, read)
            .map_err(|error| ConfigLoadError::Unreadable { path: path(), error })?;
        reading
            .join()
            .unwrap_or_else(|panic| Err(ConfigLoadError::Bug { path: path(), words: words_of_panic(&*panic) }))
    })
}

/// Adds errors that were found later, except those of keys already known to be wrong: they are only consequences.
fn add_further(errors: &mut Vec<ConfigError>, mut further: Vec<ConfigError>) {
    further.retain(|new| !errors.iter().any(|error| document::is_at_or_below(&new.key, &error.key)));
    errors.append(&mut further);
}

/// What is wrong with a name that appears in decisions and metrics.
fn name_fault_of(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the name is empty".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("a name of {} bytes is too long", name.len()));
    }
    if name.trim() != name {
        return Some(format!("{name:?} begins or ends with a space"));
    }
    name.contains(char::is_control).then(|| format!("{name:?} has a control character in it"))
}

/// Reads a file that must not be larger than [`FILE_BYTES_MAX`].
fn text_of(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder; name the file in it"));
    }
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let message = format!("it has more than {FILE_BYTES_MAX} bytes, the maximum for a configuration");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8; save the file as UTF-8"))
    })
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
