//! Compiles a pipeline from the configuration and attaches its models.

use super::{
    Audiences, Encoding, Pipeline, PipelineSpec, campaigns::Offers, carried::Carried, decoding::Decoding,
    export::Export, open_batch::OpenBatch,
};
use crate::{
    columns::{Slot, Type},
    config_error::ConfigError,
    decision::{Cause, Constants, Decision, Encoder, ModelReference, Origin, Status, Targets, emission::Emission},
    engine::scoring::{self, ScoreSlots, Scoring},
    event::{Decoder, EventBatch, EventTime, Fields, KeyType, Position, Pseudonyms},
    expression::{COLUMNS_MAX, Program, Scope, nearest},
    inference::{Experiment, FallbackReason, Model, ModelFeed, ModelInfo, ShadowTap},
    privacy::consent::Verdict,
    profile::{KeptForTargeting, Membership, ProfileEngine},
    targeting::{DURATION_MAX, Found, InSegment, LeaveReason, LeftSegment, SegmentSpec, Segments, campaign::Campaigns},
};

/// The longest key of a user or an event; the decoder rejects longer ones.
const KEY_BYTES_MAX: usize = 1_024;

/// The largest `input.max_bytes`. A batch may exceed its size by one record, and text spans have 32 bits.
const INPUT_BYTES_MAX: bytesize::ByteSize = bytesize::ByteSize::mib(256);

impl Pipeline {
    /// Compiles the sections. Decision ids contain the origin: the application and its input topic, or the topic alone.
    /// The pipeline has no model yet.
    ///
    /// # Errors
    /// All errors of the configuration.
    pub fn compile<'a>(spec: &PipelineSpec, origin: impl Into<Origin<'a>>) -> Result<Self, Vec<ConfigError>> {
        Self::compile_of(spec, origin.into())
    }

    fn compile_of(spec: &PipelineSpec, origin: Origin<'_>) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut scope = Scope::default();
        if spec.input.max_bytes > INPUT_BYTES_MAX {
            errors.push(
                ConfigError::new("input.max_bytes", format!("{} is more than {INPUT_BYTES_MAX}", spec.input.max_bytes))
                    .hint("no single event is so large; larger records become dead letters"),
            );
        }
        let fields = Fields::declare(&spec.input, &spec.fields, &mut scope, &mut errors);
        let profile = ProfileEngine::compile_with(
            &spec.profile,
            &spec.time,
            &spec.duplicates,
            &spec.features,
            KeptForTargeting {
                memberships: &Segments::memberships(&spec.segments),
                hidden: &Campaigns::hidden_features(&spec.campaigns, &spec.targeting, &spec.creatives),
                said: spec.emission.prices(if spec.campaigns.is_empty() {
                    0
                } else {
                    spec.targeting.campaigns_max as usize
                }),
                consent: Some(&spec.consent),
                erasure: Some(&spec.erasure),
            },
            &mut scope,
            &mut errors,
        );
        scoring::check(&spec.scoring, &spec.explain, &mut errors);
        let names = || profile.features().iter().map(|feature| feature.name.as_str());
        for (group, members) in &spec.explain.groups {
            for member in members.iter().filter(|member| names().all(|name| name != *member)) {
                let error =
                    ConfigError::new(format!("explain.groups.{group}"), format!("there is no feature {member:?}"));
                errors.push(match nearest(member, names()) {
                    Some(near) => error.hint(format!("did you mean {near:?}?")),
                    None => error,
                });
            }
        }
        // Compiled before the scores exist, because an outcome cannot depend on them: an export computes none.
        let mut label = Program::default();
        let outcome =
            spec.label.as_ref().and_then(|spec| match label.add(&mut scope, &spec.filter, Some(Type::Bool)) {
                Ok(slot) => Some(slot),
                Err(error) => {
                    errors.push(error.config_error("label.where"));
                    None
                }
            });
        let scores = ScoreSlots::declare(&spec.scoring, &mut scope, &mut errors);
        let segments = Segments::compile(&spec.segments, &spec.targeting, &mut scope, &mut errors);
        let ids: Vec<&str> = spec.segments.iter().map(|segment| segment.id.as_str()).collect();
        let campaigns = Campaigns::compile(
            &spec.campaigns,
            &spec.targeting,
            &ids,
            &spec.scoring.heads,
            &spec.creatives,
            &mut scope,
            &mut errors,
        );
        let campaigns = campaigns.with_minimum_audience(spec.targeting.minimum_audience, segments.all());
        check_ttl(spec, &mut errors);
        let constants = Constants {
            app: origin.app.to_owned(),
            topic: origin.topic.to_owned(),
            fingerprint: profile.fingerprint().to_owned(),
            heads: spec.scoring.heads.clone(),
            has_consent: spec.consent.enabled,
            features: profile.features().iter().filter(|it| it.model).map(|it| it.name.clone()).collect(),
            ..Constants::default()
        };
        let carried = Carried::new(spec.decision.features_share, profile.features());
        let targets = Targets { segments: segments.all(), campaigns: &campaigns };
        let encoder = Encoder::compile(&spec.decision, &constants, targets, &mut errors);
        let expiries = encoder.clone();
        let emission = Emission::compile(&spec.emission, spec.decision.expires_after, targets, &mut errors);
        let used: Vec<Slot> =
            profile.reads().chain(segments.reads()).chain(campaigns.reads()).chain(label.reads()).collect();
        let pseudonyms = Pseudonyms::new(&spec.identity);
        let decoder = Decoder::new(fields, &used, &spec.input, &spec.time)
            .with_pseudonyms(pseudonyms)
            .with_previous(Pseudonyms::previous(&spec.identity));
        if scope.width() > COLUMNS_MAX {
            let message =
                format!("fields, features and rules make {} columns; the maximum is {COLUMNS_MAX}", scope.width());
            errors.push(
                ConfigError::new("feature", message)
                    .hint("declare fewer features, segments, campaigns and caps, or shorter rules"),
            );
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            spec: spec.clone(),
            decoding: Decoding::new(decoder),
            profile,
            audiences: Audiences { segments, found: Found::default() },
            offers: Offers::new(campaigns, spec.segments.len(), constants.id_prefix()),
            scores,
            model: None,
            emission,
            encoding: Encoding { constants, encoders: vec![encoder], expiries, heads: Vec::new(), carried },
            export: Export::new(label, outcome),
            batch: OpenBatch::new(EventBatch::new(scope.columns())),
            stopwatch: None,
        })
    }

    /// Sets the pipeline's model.
    ///
    /// # Errors
    /// If the model uses an undeclared feature, or otherwise does not fit the sections.
    pub fn with_model(mut self, model: Box<dyn Model>) -> Result<Self, Vec<ConfigError>> {
        let scoring = Scoring::new(model, self.profile.features(), &self.spec.scoring, &self.spec.explain)?;
        let errors = self.refer_to(&scoring);
        self.model = Some(scoring);
        if errors.is_empty() { Ok(self) } else { Err(errors) }
    }

    /// Adds the models of the variants of `[experiment]`, by name; each scores its share of the users. Without a model
    /// for the other users there is no experiment.
    ///
    /// # Errors
    /// If names or shares do not match, or a model does not fit the sections.
    pub fn with_variants(mut self, variants: Vec<(String, Box<dyn Model>)>) -> Result<Self, Vec<ConfigError>> {
        let (names, models): (Vec<String>, Vec<_>) = variants.into_iter().unzip();
        let named: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
        let Some(experiment) = Experiment::new(&self.spec.experiment, &named)? else { return Ok(self) };
        if let Some(mut scoring) = self.model.take() {
            scoring.experiment(experiment, models, self.profile.features(), &self.spec.explain)?;
            let errors = self.refer_to(&scoring);
            self.model = Some(scoring);
            if !errors.is_empty() {
                return Err(errors);
            }
        }
        Ok(self)
    }

    /// Attaches a feed of newer models for an arm. They are taken whenever [`Pipeline::renew`] is called. Arm 0 is the
    /// model; variants follow from 1 on. Ignored without a model.
    #[must_use]
    pub fn with_feed(mut self, arm: usize, feed: Box<dyn ModelFeed>) -> Self {
        if let Some(scoring) = &mut self.model {
            scoring.feed(arm, feed);
        }
        self
    }

    /// Copies the rows scored by the model to a shadow as well, but not those of a variant.
    ///
    /// # Errors
    /// If the shadow uses an undeclared feature.
    pub fn with_shadow(mut self, tap: ShadowTap) -> Result<Self, Vec<ConfigError>> {
        if let Some(scoring) = &mut self.model {
            scoring.shadow(tap, self.profile.features(), self.encoding.constants.id_prefix())?;
        }
        Ok(self)
    }

    /// Replaces this pipeline by another one with the same features, but keeps the current model version and policy.
    pub fn replace(&mut self, mut other: Self) {
        other.offers.inherit(&mut self.offers);
        let model = std::mem::replace(self, other).model;
        if let Some(scoring) = model {
            let errors = self.refer_to(&scoring);
            debug_assert!(errors.is_empty(), "the same sections compiled before: {errors:?}");
            self.model = Some(scoring);
        }
    }

    /// Takes the newest model that is ready, if any, and returns the descriptions of the old and the new one. Must be
    /// called between two transactions: decisions from here on name the new model.
    pub fn renew(&mut self) -> Option<(ModelInfo, ModelInfo)> {
        let mut scoring = self.model.take()?;
        let renewed = scoring.renew(self.profile.features(), &self.spec.explain);
        if renewed.is_some() {
            let errors = self.refer_to(&scoring);
            debug_assert!(errors.is_empty(), "the same sections compiled before: {errors:?}");
        }
        self.model = Some(scoring);
        renewed
    }

    /// Makes decisions name the model and its variant.
    fn refer_to(&mut self, scoring: &Scoring) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        self.encoding.encoders.clear();
        for (experiment, info) in scoring.all() {
            let model = ModelReference {
                name: info.name.clone(),
                version: info.version.clone(),
                sha256: info.sha256.clone(),
                runtime: info.runtime.clone(),
                provider: info.provider.clone(),
            };
            let constants = Constants { model: Some(model), experiment, ..self.encoding.constants.clone() };
            // The encoders of all arms have the same errors.
            errors.clear();
            let targets = Targets { segments: self.audiences.segments.all(), campaigns: &self.offers.campaigns };
            self.encoding.encoders.push(Encoder::compile(&self.spec.decision, &constants, targets, &mut errors));
        }
        errors
    }

    /// The most bytes of a decision's payload: the user and event keys have the maximum length with every character
    /// escaped, the user is in every segment, as many campaigns as possible bid, and every feature is explained.
    pub fn decision_bytes_max(&self) -> usize {
        let longest = "\u{1}".repeat(KEY_BYTES_MAX);
        let heads = vec![f32::MIN_POSITIVE; self.encoding.constants.heads.len()];
        let was = Membership { entered_at: EventTime(i64::MIN), expires_at: EventTime(i64::MIN) };
        let all = || self.audiences.segments.all().iter().enumerate();
        let lasting = || all().filter(|(_, segment)| segment.is_lasting());
        let segments: Vec<InSegment> = all()
            .map(|(number, segment)| InSegment { number, stay: segment.is_lasting().then_some((was, false)) })
            .take(self.spec.targeting.segments_max.map_or(usize::MAX, |max| max as usize))
            .collect();
        let left: Vec<LeftSegment> =
            lasting().map(|(number, _)| LeftSegment { number, was, reason: LeaveReason::ExitRule }).collect();
        let choice = self.offers.campaigns.largest();
        let logged = if self.encoding.carried.is_on() { self.encoding.constants.features.len() } else { 0 };
        let logged = vec![f32::MIN_POSITIVE; logged];
        let decision = Decision {
            user: &longest,
            key_type: KeyType::Person,
            event_id: &longest,
            cause: Cause::Event(Position { partition: i32::MAX, offset: i64::MAX, index: u32::MAX }),
            occurred_at: EventTime(i64::MIN),
            decided_at: EventTime(i64::MIN),
            status: Status::NoTarget,
            reason: Some(FallbackReason::ALL[FallbackReason::ALL.len() - 1]),
            raw: f32::MIN_POSITIVE,
            score: f32::MIN_POSITIVE,
            heads: &heads,
            explanation: None,
            logged: &logged,
            segments: &segments,
            left: &left,
            campaigns: &choice.bids,
            suppressed: &choice.refused,
            features: &choice.features,
            policy_version: u64::MAX,
            consent: self.profile.checks_consent().then_some(Verdict::LONGEST),
        };
        let one = |encoder: &Encoder| {
            let mut bytes = Vec::new();
            encoder.encode(&decision, &mut bytes);
            bytes.len()
        };
        // An explanation contains, for each feature or group, its name (every character may be escaped), a number, and
        // field names.
        let names = self.features().iter().map(|feature| &feature.name).chain(self.spec.explain.groups.keys());
        let explained: usize = names.map(|name| 6 * name.len() + 80).sum();
        let explained = if self.spec.explain.is_on() { explained + 80 } else { 0 };
        self.encoding.encoders.iter().map(one).max().unwrap_or_default() + explained
    }
}

/// Requires a profile to live at least as long as its user can stay in a segment.
fn check_ttl(spec: &PipelineSpec, errors: &mut Vec<ConfigError>) {
    let longest = |it: &&SegmentSpec| it.duration.unwrap_or(DURATION_MAX);
    let lasting = spec.segments.iter().filter(|it| it.is_lasting());
    let Some(segment) = lasting.max_by_key(longest) else { return };
    let duration = longest(&segment);
    if spec.profile.ttl < duration {
        let written = crate::duration::display;
        let message = format!(
            "{} is shorter than a membership in segment {:?} may last: {}",
            written(spec.profile.ttl),
            segment.id,
            written(duration)
        );
        let hint = format!("set at least {:?}, or give the segment a shorter duration", written(duration).to_string());
        errors.push(ConfigError::new("profile.ttl", message).hint(hint));
    }
}
