//! The rules that a key's type alone cannot express: across keys, names, and how many there may be.

use super::Config;
use crate::{
    config_error::ConfigError,
    decision::{DecisionFormat, DecisionSpec},
    engine::Delivery,
    inference::Experiment,
    kafka::uses_consumer_protocol,
};

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

impl Config {
    /// Checks the sections one by one, and then against each other.
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
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
        self.check_seat(errors);
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
    pub(super) fn too_many(&self) -> Vec<ConfigError> {
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
    /// Checks that somebody uses the seat. That of an ARTF decision is checked with its campaigns.
    fn check_seat(&self, errors: &mut Vec<ConfigError>) {
        let DecisionSpec { seat, format, .. } = &self.pipeline.decision;
        if seat.is_empty() || *format == DecisionFormat::Artf {
            return;
        }
        let has_agents = self.serve.as_ref().is_some_and(|serve| serve.grpc.is_some());
        if !has_agents || !format.is_complete() {
            errors.push(
                ConfigError::new("decision.seat", "nothing here uses the seat").hint(
                    "add [serve.grpc], which shades bids; set decision.format = \"artf\"; or remove decision.seat",
                ),
            );
        } else if seat.contains('/') {
            let message = "the path of a bid is /seatbid/{seat}/bid/{id}, so the seat may not contain a slash";
            errors.push(ConfigError::new("decision.seat", message));
        }
    }

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
