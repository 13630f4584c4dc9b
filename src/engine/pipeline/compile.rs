//! Compiles a pipeline from the configuration, and gives it its models.

use super::{Encoding, Pipeline, PipelineSpec, Timing, export::Export, open_batch::OpenBatch};
use crate::{
    columns::{Slot, Type},
    decision::{Cause, Constants, Decision, Encoder, ModelReference, Origin, Status},
    engine::scoring::{self, ScoreSlots, Scoring},
    event::{Decoder, EventBatch, EventTime, Fields, KeyType, Position},
    expression::{COLUMNS_MAX, Program, Scope, nearest},
    fault::Fault,
    inference::{Experiment, FallbackReason, Model, ModelFeed, ModelInfo, ShadowTap},
    profile::{Membership, ProfileEngine},
    targeting::{DURATION_MAX, Found, InSegment, LeaveReason, LeftSegment, SegmentSpec, Segments},
};

/// The longest key of a user or an event; the decoder rejects longer ones.
const KEY_BYTES_MAX: usize = 1_024;

/// The largest `input.max_bytes`: a batch may exceed its bytes by one record, and 32 bits count the bytes of its texts.
const INPUT_BYTES_MAX: bytesize::ByteSize = bytesize::ByteSize::mib(256);

impl Pipeline {
    /// Compiles the sections. Decision ids contain the origin: the application and its input topic, or the topic alone. The
    /// pipeline has no model yet.
    ///
    /// # Errors
    /// All faults of the configuration.
    pub fn compile<'a>(spec: &PipelineSpec, origin: impl Into<Origin<'a>>) -> Result<Self, Vec<Fault>> {
        Self::compile_of(spec, origin.into())
    }

    fn compile_of(spec: &PipelineSpec, origin: Origin<'_>) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut scope = Scope::default();
        if spec.input.max_bytes > INPUT_BYTES_MAX {
            faults.push(
                Fault::new("input.max_bytes", format!("{} is more than {INPUT_BYTES_MAX}", spec.input.max_bytes))
                    .hint("no single event is so large; larger records become dead letters"),
            );
        }
        let fields = Fields::declare(&spec.input, &spec.fields, &mut scope, &mut faults);
        let profile = ProfileEngine::compile_with(
            &spec.profile,
            &spec.time,
            &spec.duplicates,
            &spec.features,
            &Segments::memberships(&spec.segments),
            &mut scope,
            &mut faults,
        );
        scoring::check(&spec.scoring, &spec.explain, &mut faults);
        let names = || profile.features().iter().map(|feature| feature.name.as_str());
        for (group, members) in &spec.explain.groups {
            for member in members.iter().filter(|member| names().all(|name| name != *member)) {
                let fault = Fault::new(format!("explain.groups.{group}"), format!("there is no feature {member:?}"));
                faults.push(match nearest(member, names()) {
                    Some(near) => fault.hint(format!("did you mean {near:?}?")),
                    None => fault,
                });
            }
        }
        // Before the scores, which an outcome cannot depend on: none is computed for an export.
        let mut label = Program::default();
        let outcome =
            spec.label.as_ref().and_then(|spec| match label.add(&mut scope, &spec.filter, Some(Type::Bool)) {
                Ok(slot) => Some(slot),
                Err(error) => {
                    faults.push(error.fault("label.where"));
                    None
                }
            });
        let scores = ScoreSlots::declare(&spec.scoring, &mut scope, &mut faults);
        let segments = Segments::compile(&spec.segments, &spec.targeting, &mut scope, &mut faults);
        check_ttl(spec, &mut faults);
        let constants = Constants {
            app: origin.app.to_owned(),
            topic: origin.topic.to_owned(),
            fingerprint: profile.fingerprint().to_owned(),
            heads: spec.scoring.heads.clone(),
            ..Constants::default()
        };
        let encoder = Encoder::compile(&spec.decision, &constants, segments.all(), &mut faults);
        let expiries = encoder.clone();
        let used: Vec<Slot> = profile.reads().chain(segments.reads()).chain(label.reads()).collect();
        let decoder = Decoder::new(fields, &used, &spec.input, &spec.time);
        if scope.width() > COLUMNS_MAX {
            let message =
                format!("fields, features and rules make {} columns, {COLUMNS_MAX} is the most", scope.width());
            faults.push(Fault::new("feature", message).hint("declare fewer features and segments, or shorter rules"));
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            spec: spec.clone(),
            decoder,
            profile,
            segments,
            found: Found::default(),
            scores,
            model: None,
            encoding: Encoding { constants, encoders: vec![encoder], expiries, heads: Vec::new() },
            export: Export::new(label, outcome),
            batch: OpenBatch::new(EventBatch::new(scope.columns())),
            present: None,
            timing: Timing::default(),
        })
    }

    /// Gives the pipeline its model.
    ///
    /// # Errors
    /// When the model uses a feature that is not declared, or does not fit the sections otherwise.
    pub fn with_model(mut self, model: Box<dyn Model>) -> Result<Self, Vec<Fault>> {
        let scoring = Scoring::new(model, self.profile.features(), &self.spec.scoring, &self.spec.explain)?;
        let faults = self.refer_to(&scoring);
        self.model = Some(scoring);
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// Adds the models of the variants of `[experiment]`, by name; each scores its share of the users. Without a model for the
    /// other users there is no experiment.
    ///
    /// # Errors
    /// When names or shares do not match, or a model does not fit the sections.
    pub fn with_variants(mut self, variants: Vec<(String, Box<dyn Model>)>) -> Result<Self, Vec<Fault>> {
        let (names, models): (Vec<String>, Vec<_>) = variants.into_iter().unzip();
        let named: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
        let Some(experiment) = Experiment::new(&self.spec.experiment, &named)? else { return Ok(self) };
        if let Some(mut scoring) = self.model.take() {
            scoring.experiment(experiment, models, self.profile.features(), &self.spec.explain)?;
            let faults = self.refer_to(&scoring);
            self.model = Some(scoring);
            if !faults.is_empty() {
                return Err(faults);
            }
        }
        Ok(self)
    }

    /// Takes newer models of an arm from this feed whenever [`Pipeline::renew`] is called. Arm 0 is the model, the variants follow
    /// from 1 on. Without a model, the feed is ignored.
    #[must_use]
    pub fn with_feed(mut self, arm: usize, feed: Box<dyn ModelFeed>) -> Self {
        if let Some(scoring) = &mut self.model {
            scoring.feed(arm, feed);
        }
        self
    }

    /// Copies the rows that the model scores to a shadow as well, but not those of a variant.
    ///
    /// # Errors
    /// When the shadow uses a feature that is not declared.
    pub fn with_shadow(mut self, tap: ShadowTap) -> Result<Self, Vec<Fault>> {
        if let Some(scoring) = &mut self.model {
            scoring.shadow(tap, self.profile.features(), self.encoding.constants.id_prefix())?;
        }
        Ok(self)
    }

    /// Is replaced by another pipeline of the same features, but keeps its model, whichever version that is by now.
    pub fn replace(&mut self, other: Self) {
        let model = std::mem::replace(self, other).model;
        if let Some(scoring) = model {
            let faults = self.refer_to(&scoring);
            debug_assert!(faults.is_empty(), "the same sections compiled before: {faults:?}");
            self.model = Some(scoring);
        }
    }

    /// Takes the newest model that is ready, if any, and gives the descriptions of the old and the new one. Call it between two
    /// transactions: decisions from here on name the new one.
    pub fn renew(&mut self) -> Option<(ModelInfo, ModelInfo)> {
        let mut scoring = self.model.take()?;
        let renewed = scoring.renew(self.profile.features(), &self.spec.explain);
        if renewed.is_some() {
            let faults = self.refer_to(&scoring);
            debug_assert!(faults.is_empty(), "the same sections compiled before: {faults:?}");
        }
        self.model = Some(scoring);
        renewed
    }

    /// Has decisions name the model that scores and its variant.
    fn refer_to(&mut self, scoring: &Scoring) -> Vec<Fault> {
        let mut faults = Vec::new();
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
            // Each arm's encoder has the same faults.
            faults.clear();
            self.encoding.encoders.push(Encoder::compile(
                &self.spec.decision,
                &constants,
                self.segments.all(),
                &mut faults,
            ));
        }
        faults
    }

    /// The most bytes of a decision's payload: the user and the event have the longest keys with every letter escaped, the user
    /// is in every segment, and every feature is explained.
    pub fn decision_bytes_max(&self) -> usize {
        let longest = "\u{1}".repeat(KEY_BYTES_MAX);
        let heads = vec![f32::MIN_POSITIVE; self.encoding.constants.heads.len()];
        let was = Membership { entered_at: EventTime(i64::MIN), expires_at: EventTime(i64::MIN) };
        let all = || self.segments.all().iter().enumerate();
        let lasting = || all().filter(|(_, segment)| segment.is_lasting());
        let segments: Vec<InSegment> = all()
            .map(|(number, segment)| InSegment { number, stay: segment.is_lasting().then_some((was, false)) })
            .take(self.spec.targeting.segments_max.map_or(usize::MAX, |max| max as usize))
            .collect();
        let left: Vec<LeftSegment> =
            lasting().map(|(number, _)| LeftSegment { number, was, reason: LeaveReason::ExitRule }).collect();
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
            segments: &segments,
            left: &left,
        };
        let one = |encoder: &Encoder| {
            let mut bytes = Vec::new();
            encoder.encode(&decision, &mut bytes);
            bytes.len()
        };
        // An explanation has, for each feature or group, its name, of which each letter may be escaped, a number, and field
        // names.
        let names = self.features().iter().map(|feature| &feature.name).chain(self.spec.explain.groups.keys());
        let explained: usize = names.map(|name| 6 * name.len() + 80).sum();
        let explained = if self.spec.explain.is_on() { explained + 80 } else { 0 };
        self.encoding.encoders.iter().map(one).max().unwrap_or_default() + explained
    }
}

/// A profile is kept for as long as its user can be in a segment.
fn check_ttl(spec: &PipelineSpec, faults: &mut Vec<Fault>) {
    let longest = |it: &&SegmentSpec| it.duration.unwrap_or(DURATION_MAX);
    let lasting = spec.segments.iter().filter(|it| it.is_lasting());
    let Some(segment) = lasting.max_by_key(longest) else { return };
    let duration = longest(&segment);
    if spec.profile.ttl < duration {
        let written = humantime::format_duration;
        let message = format!(
            "{} is shorter than a membership in segment {:?} may last: {}",
            written(spec.profile.ttl),
            segment.id,
            written(duration)
        );
        let hint = format!("set at least {:?}, or give the segment a shorter duration", written(duration).to_string());
        faults.push(Fault::new("profile.ttl", message).hint(hint));
    }
}
