//! The pure core: decode → profile → score → segments → encoded decision, a batch at a time.
//!
//! Guarantees: the outputs depend on the records, their order per partition, the profiles before them and the model,
//! and on nothing else but the clock's reading in `decided_at`; where batches begin and end changes nothing. (A model that
//! fails is the exception: what stands in for its scores may be what this process remembers.) Limits:
//! nothing is allocated for an event once the buffers have grown, but for a user's first event.

use super::{
    Clock, Partitions,
    scoring::{self, ScoreSlots, Scoring, ScoringFailure, ShadowSlot, fill},
};
use crate::{
    canary::{self, Canary},
    columns::{Slot, Type},
    decision::{Constants, Decision, DecisionSpec, Encoder, ModelReference, Origin, Status},
    evaluation::LabelSpec,
    event::{
        Decoded, Decoder, DuplicateSpec, EventBatch, EventTime, FieldSpec, Fields, InputSpec, KeyType, Position,
        Record, RejectReason, Rejection, TimeSpec, TooLate, split_key,
    },
    expression::{COLUMNS_MAX, Program, Scope, nearest},
    fault::Fault,
    inference::{
        Experiment, ExperimentSpec, ExplainSpec, FallbackReason, FeatureMatrix, Model, ModelFeed, ModelInfo,
        ScoringSpec, ShadowTap,
    },
    profile::{Applied, Feature, FeatureSpec, Layout, ProfileEngine, ProfileSpec},
    sink::{Outbox, Target},
    status::{Counts, RecentDecision, Stage, SuppressReason, TraceParent},
    targeting::{SegmentSpec, Segments},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// The sections of the configuration that say what the pipeline means.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct PipelineSpec {
    /// `[input]`
    pub input: InputSpec,
    /// `[[field]]`
    #[serde(rename = "field")]
    pub fields: Vec<FieldSpec>,
    /// `[time]`
    pub time: TimeSpec,
    /// `[duplicates]`
    pub duplicates: DuplicateSpec,
    /// `[profile]`
    pub profile: ProfileSpec,
    /// `[[feature]]`
    #[serde(rename = "feature")]
    pub features: Vec<FeatureSpec>,
    /// `[[segment]]`
    #[serde(rename = "segment")]
    pub segments: Vec<SegmentSpec>,
    /// `[scoring]`
    pub scoring: ScoringSpec,
    /// `[experiment]`
    pub experiment: ExperimentSpec,
    /// `[explain]`
    pub explain: ExplainSpec,
    /// `[decision]`
    pub decision: DecisionSpec,
    /// `[label]`, which only an export compiles.
    pub label: Option<LabelSpec>,
}

/// A clock to tell how long the stages take, and for nothing else.
pub type Stopwatch = Box<dyn Clock + Send>;

/// One record of so many has its decoding timed: reading a clock twice a record would cost as much as a field.
const DECODES_PER_LAP: u32 = 64;

/// A batch ends when the payloads of its records pass this: they lie in memory as a whole, and 32 bits count its texts' bytes.
pub(super) const BATCH_BYTES_MAX: usize = 64 << 20;

/// A batch ends when it has so many events: a record of some kilobytes may hold thousands, each of which is decided.
pub(super) const BATCH_ROWS_MAX: usize = 1 << 17;

/// 2020-01-01: a machine whose clock shows an earlier time has not been told the time yet.
const CLOCKS_SET_FROM: EventTime = EventTime(1_577_836_800_000_000);

/// The longest detail of a dead letter: it is for people.
const DETAIL_BYTES_MAX: usize = 1_024;

/// The longest keys of users and events, which the decoder sees to.
const KEY_BYTES_MAX: usize = 1_024;

/// The longest W3C trace context that is passed on. Those of the present version have 55 bytes.
const TRACE_CONTEXT_BYTES_MAX: usize = 256;

/// The largest `input.max_bytes`: a batch is bounded by its bytes and one record more, and its texts are counted by 32 bits.
const INPUT_BYTES_MAX: bytesize::ByteSize = bytesize::ByteSize::mib(256);

/// Whether a header is a trace context as the standard has it.
fn is_trace_context(text: &str) -> bool {
    text.len() <= TRACE_CONTEXT_BYTES_MAX && TraceParent::parse(text).is_some()
}

/// The compiled core with its buffers.
pub struct Pipeline {
    decoder: Decoder,
    profile: ProfileEngine,
    segments: Segments,
    /// By arm of the experiment; one where there is none.
    encoders: Vec<Encoder>,
    model: Option<Scoring>,
    scores: ScoreSlots,
    too_late: TooLate,
    /// What time it is, as far as anybody has said.
    present: Option<EventTime>,
    spec: DecisionSpec,
    scoring: ScoringSpec,
    experiment: ExperimentSpec,
    explain: ExplainSpec,
    /// The further scores of the row that is being emitted.
    heads: Vec<f32>,
    constants: Constants,
    batch: EventBatch,
    /// The payloads' bytes of the records in it.
    batch_bytes: usize,
    /// What each row was read from, for those that turn out too late for their user.
    raw: Raw,
    label: Program,
    outcome: Option<Slot>,
    /// The features of the rows of an export.
    matrix: FeatureMatrix,
    /// By row: when its record was appended, or when it happened where the record does not tell.
    appended_ms: Vec<i64>,
    stopwatch: Option<Stopwatch>,
    /// Counts up to the next record whose decoding is timed.
    decodes: u32,
}

/// A row of features as a model would have got it at that event, for an export.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    /// The user's id, and what it stands for: both together are the user.
    pub user: &'a str,
    /// See above.
    pub key_type: KeyType,
    /// The hash of the user's key.
    pub user_hash: u64,
    /// The event's own id, empty where it has none.
    pub event_id: &'a str,
    /// Where the event came from.
    pub position: Position,
    /// When it happened.
    pub time: EventTime,
    /// Whether `[label]` takes it for the outcome.
    pub is_outcome: bool,
    /// The model's features.
    pub features: &'a [f32],
}

/// The payloads of a batch's rows, kept only where a late event becomes a dead letter.
#[derive(Debug, Default)]
struct Raw {
    bytes: Vec<u8>,
    /// By row: the span of its record's payload, and the record's Kafka timestamp.
    rows: Vec<(usize, usize, Option<i64>)>,
}

impl Raw {
    fn push(&mut self, record: &Record<'_>, rows: usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.payload.unwrap_or_default());
        let row = (start, self.bytes.len(), record.timestamp_ms);
        self.rows.resize(self.rows.len() + rows, row);
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }
}

impl Pipeline {
    /// Compiles the sections. Decision ids name the origin: the application and its input topic, or that alone. The pipeline
    /// has no model yet.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
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
        let profile = ProfileEngine::compile(
            &spec.profile,
            &spec.time,
            &spec.duplicates,
            &spec.features,
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
        let segments = Segments::compile(&spec.segments, &mut scope, &mut faults);
        let constants = Constants {
            app: origin.app.to_owned(),
            topic: origin.topic.to_owned(),
            fingerprint: profile.fingerprint().to_owned(),
            heads: spec.scoring.heads.clone(),
            ..Constants::default()
        };
        let encoder = Encoder::compile(&spec.decision, &constants, segments.all(), &mut faults);
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
            decoder,
            profile,
            segments,
            encoders: vec![encoder],
            model: None,
            scores,
            too_late: spec.time.too_late,
            present: None,
            spec: spec.decision.clone(),
            scoring: spec.scoring.clone(),
            experiment: spec.experiment.clone(),
            explain: spec.explain.clone(),
            heads: Vec::new(),
            constants,
            batch: EventBatch::new(scope.columns()),
            batch_bytes: 0,
            raw: Raw::default(),
            label,
            outcome,
            matrix: FeatureMatrix::default(),
            appended_ms: Vec::new(),
            stopwatch: None,
            decodes: 0,
        })
    }

    /// The declared features, in their order.
    pub fn features(&self) -> &[Feature] {
        self.profile.features()
    }

    /// The names of the features that a model gets unless it names its own.
    pub fn model_features(&self) -> Vec<String> {
        self.features().iter().filter(|feature| feature.model).map(|feature| feature.name.clone()).collect()
    }

    /// The fingerprint of the declared features.
    pub fn fingerprint(&self) -> &str {
        self.profile.fingerprint()
    }

    /// What the words of the profiles are.
    pub fn layout(&self) -> &Layout {
        self.profile.layout()
    }

    /// The profile engine.
    pub fn profile(&self) -> &ProfileEngine {
        &self.profile
    }

    /// Reads the features of a profile ([`ProfileEngine::read`]); drops what the batch holds.
    pub fn read(&mut self, words: &[u64]) -> Vec<f64> {
        self.batch.clear();
        self.profile.read(words, &mut self.batch.columns)
    }

    /// The segments.
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Gives the pipeline its model.
    ///
    /// # Errors
    /// A feature of the model that is not declared, or what else of the sections it does not fit.
    pub fn with_model(mut self, model: Box<dyn Model>) -> Result<Self, Vec<Fault>> {
        let scoring = Scoring::new(model, self.profile.features(), &self.scoring, &self.explain)?;
        let faults = self.refer_to(&scoring);
        self.model = Some(scoring);
        if faults.is_empty() { Ok(self) } else { Err(faults) }
    }

    /// Has these models decide for the shares of the users that `[experiment]` gives them, by their names. Without a model
    /// for the other users there is no experiment.
    ///
    /// # Errors
    /// Names and shares that do not fit, or what of the sections a model does not fit.
    pub fn with_variants(mut self, variants: Vec<(String, Box<dyn Model>)>) -> Result<Self, Vec<Fault>> {
        let (names, models): (Vec<String>, Vec<_>) = variants.into_iter().unzip();
        let named: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
        let Some(experiment) = Experiment::new(&self.experiment, &named)? else { return Ok(self) };
        if let Some(mut scoring) = self.model.take() {
            scoring.experiment(experiment, models, self.profile.features(), &self.explain)?;
            let faults = self.refer_to(&scoring);
            self.model = Some(scoring);
            if !faults.is_empty() {
                return Err(faults);
            }
        }
        Ok(self)
    }

    /// Lets the pipeline take newer models of an arm from this feed, whenever [`Pipeline::renew`] is called: 0 is the model,
    /// and from 1 on the variants follow in their order. Without a model that serves already nothing is taken.
    #[must_use]
    pub fn with_feed(mut self, arm: usize, feed: Box<dyn ModelFeed>) -> Self {
        if let Some(scoring) = &mut self.model {
            scoring.feed(arm, feed);
        }
        self
    }

    /// Offers the rows that the model scores to a shadow too, but not those of a variant. Without a model there are none.
    ///
    /// # Errors
    /// A feature of the shadow that is not declared.
    pub fn with_shadow(mut self, tap: ShadowTap) -> Result<Self, Vec<Fault>> {
        if let Some(scoring) = &mut self.model {
            scoring.shadow(tap, self.profile.features(), self.constants.id_prefix())?;
        }
        Ok(self)
    }

    /// The shadows, for the driver: see [`super::run_batch`].
    pub(super) fn shadows(&mut self) -> &mut [ShadowSlot] {
        self.model.as_mut().map(Scoring::shadows).unwrap_or_default()
    }

    /// Takes the failures of models since the last call.
    pub(super) fn take_failures(&mut self) -> impl Iterator<Item = ScoringFailure> {
        self.model.iter_mut().flat_map(Scoring::take_failures)
    }

    /// Gives way to another pipeline of the same features. The model stays, whichever version it is by now.
    pub fn replace(&mut self, other: Self) {
        let model = std::mem::replace(self, other).model;
        if let Some(scoring) = model {
            let faults = self.refer_to(&scoring);
            debug_assert!(faults.is_empty(), "the same sections compiled before: {faults:?}");
            self.model = Some(scoring);
        }
    }

    /// Takes the newest model that is ready, and gives what was known of the one before and what is of the new one if it
    /// does. To be called between two transactions: decisions from here on name the new one.
    pub fn renew(&mut self) -> Option<(ModelInfo, ModelInfo)> {
        let mut scoring = self.model.take()?;
        let renewed = scoring.renew(self.profile.features(), &self.explain);
        if renewed.is_some() {
            let faults = self.refer_to(&scoring);
            debug_assert!(faults.is_empty(), "the same sections compiled before: {faults:?}");
        }
        self.model = Some(scoring);
        renewed
    }

    /// Has decisions name the model that scores, and the variant.
    fn refer_to(&mut self, scoring: &Scoring) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.encoders.clear();
        for (experiment, info) in scoring.all() {
            let model = ModelReference {
                name: info.name.clone(),
                version: info.version.clone(),
                sha256: info.sha256.clone(),
                runtime: info.runtime.clone(),
                provider: info.provider.clone(),
            };
            let constants = Constants { model: Some(model), experiment, ..self.constants.clone() };
            // Each arm's encoder has the same ones.
            faults.clear();
            self.encoders.push(Encoder::compile(&self.spec, &constants, self.segments.all(), &mut faults));
        }
        faults
    }

    /// Has the time that each stage takes counted, by this clock.
    #[must_use]
    pub fn with_stopwatch(mut self, stopwatch: Stopwatch) -> Self {
        self.stopwatch = Some(stopwatch);
        self
    }

    /// The model that scores: of an experiment the control's.
    pub fn model(&self) -> Option<&ModelInfo> {
        self.model.as_ref().map(Scoring::info)
    }

    /// All models that score, each with the name of its variant, which is empty where there is no experiment.
    pub fn models(&self) -> impl Iterator<Item = (String, &ModelInfo)> {
        let all = self.model.iter().flat_map(Scoring::all);
        all.map(|(experiment, info)| (experiment.unwrap_or_default().variant, info))
    }

    /// Says what time it is, until it is said again. Of records that are read for the first time no event may lie too far behind
    /// it; what held for a record is part of the partition's mark, so that whoever reads it again decides the same. A clock
    /// that was never set says nothing.
    pub fn set_present(&mut self, present: EventTime) {
        self.present = Some(present).filter(|present| *present >= CLOCKS_SET_FROM);
    }

    /// Decodes one record into the open batch, or sets it aside. A record of a partition that is not held is passed by.
    pub fn take(&mut self, record: &Record<'_>, partitions: &mut Partitions, outbox: &mut Outbox, counts: &mut Counts) {
        let Some(partition) = partitions.active(record.partition) else { return };
        // After a seek the client may still hand over what it had fetched before.
        if record.offset < partition.next && !canary::is_in(Canary::SeekIgnored) {
            return;
        }
        partition.next = record.offset + 1;
        // What is no trace context is not passed on, by the standard; it could be anything, of any size.
        let record = &Record { traceparent: record.traceparent.filter(|it| is_trace_context(it)), ..*record };
        self.batch_bytes += record.payload.map_or(0, <[u8]>::len);
        self.decodes += 1;
        let start = match &self.stopwatch {
            Some(watch) if self.decodes >= DECODES_PER_LAP => Some(watch.elapsed()),
            _ => None,
        };
        let ceiling = partition.ceiling(record.offset, self.present.map(|present| self.decoder.latest(present)));
        let decoded = self.decoder.decode_until(record, ceiling, &mut self.batch);
        if let (Some(start), Some(watch)) = (start, &self.stopwatch) {
            counts.detail.spend(Stage::Decode, watch.elapsed().saturating_sub(start) * self.decodes);
            self.decodes = 0;
        }
        let rows = self.batch.len();
        let appended_ms = record.timestamp_ms.or_else(|| self.batch.times.last().map(|time| time.millis()));
        self.appended_ms.resize(rows, appended_ms.unwrap_or_default());
        match decoded {
            Ok(Decoded { rows, bots }) => {
                if self.too_late == TooLate::DeadLetter {
                    self.raw.push(record, rows);
                }
                if partition.is_replay(record.offset) {
                    counts.replayed += bots as u64;
                } else {
                    counts.events += bots as u64;
                    counts.suppress(SuppressReason::Bot, bots as u64);
                }
            }
            Err(_) if partition.is_replay(record.offset) => counts.replayed += 1,
            Err(rejection) => {
                counts.events += 1;
                counts.dead_letter(rejection.reason);
                dead_letter(&self.decoder, &self.constants, record, 0, &rejection, outbox);
            }
        }
    }

    /// The bytes of the payloads in the open batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch_bytes
    }

    /// Whether the open batch has so much in it that no more should be taken before it is run.
    pub fn is_full(&self) -> bool {
        self.batch_bytes >= BATCH_BYTES_MAX || self.batch.len() >= BATCH_ROWS_MAX
    }

    /// How many events are in the open batch.
    pub fn batch_rows(&self) -> usize {
        self.batch.len()
    }

    /// The most bytes of a decision's payload: of a user and an event with the longest keys, all of whose letters have to be
    /// escaped, in every segment and with every feature explained.
    pub fn decision_bytes_max(&self) -> usize {
        let longest = "\u{1}".repeat(KEY_BYTES_MAX);
        let heads = vec![f32::MIN_POSITIVE; self.constants.heads.len()];
        let decision = Decision {
            user: &longest,
            key_type: KeyType::Person,
            event_id: &longest,
            position: Position { partition: i32::MAX, offset: i64::MAX, index: u32::MAX },
            occurred_at: EventTime(i64::MIN),
            decided_at: EventTime(i64::MIN),
            status: Status::NoTarget,
            reason: Some(FallbackReason::ALL[FallbackReason::ALL.len() - 1]),
            raw: f32::MIN_POSITIVE,
            score: f32::MIN_POSITIVE,
            heads: &heads,
            explanation: None,
        };
        let one = |encoder: &Encoder| {
            let mut bytes = Vec::new();
            encoder.encode(&decision, 0..self.segments.all().len(), &mut bytes);
            bytes.len()
        };
        // What an explanation has of each group of features: its name, of which each letter may be escaped, and a number, among
        // names of members.
        let names = self.features().iter().map(|feature| &feature.name).chain(self.explain.groups.keys());
        let explained: usize = names.map(|name| 6 * name.len() + 80).sum();
        let explained = if self.explain.is_on() { explained + 80 } else { 0 };
        self.encoders.iter().map(one).max().unwrap_or_default() + explained
    }

    /// When the first event of the open batch happened, if there is one.
    pub fn first_time(&self) -> Option<EventTime> {
        self.batch.times.first().copied()
    }

    /// Forgets the open batch and gives the id of its first event's user, if there is one.
    pub fn drop_batch(&mut self, key: &mut Vec<u8>) -> bool {
        key.clear();
        let user = self.batch.users.first().copied();
        if let Some(user) = user {
            key.extend_from_slice(split_key(self.batch.columns.texts.get(user)).1.as_bytes());
        }
        self.clear();
        user.is_some()
    }

    /// Takes the open batch through all stages, appends its outputs to `outbox`, and empties it.
    pub fn run(&mut self, partitions: &mut Partitions, now: EventTime, outbox: &mut Outbox, counts: &mut Counts) {
        if self.batch.is_empty() {
            return self.clear();
        }
        let stopwatch = self.stopwatch.take();
        let mut last = stopwatch.as_ref().map(|watch| (watch.elapsed(), watch.computed()));
        let mut lap = |stage: Stage, counts: &mut Counts| {
            if let (Some(watch), Some((elapsed, computed))) = (&stopwatch, &mut last) {
                let now = (watch.elapsed(), watch.computed());
                counts.detail.spend(stage, now.0.saturating_sub(*elapsed));
                counts.detail.compute(stage, now.1.saturating_sub(*computed));
                (*elapsed, *computed) = now;
            }
        };
        self.profile.process(&mut self.batch, partitions);
        counts.unknown_zones += self.profile.take_unknown_zones();
        lap(Stage::Profile, counts);
        let rows = self.batch.len();
        self.scores.clear(&mut self.batch);
        if let Some(scoring) = &mut self.model {
            scoring.run(&mut self.batch, &self.scores, self.profile.applied(), partitions);
        }
        lap(Stage::Score, counts);
        self.segments.run(&mut self.batch.columns, rows);
        lap(Stage::Target, counts);
        self.emit(partitions, now, outbox, counts);
        lap(Stage::Encode, counts);
        self.stopwatch = stopwatch;
        self.clear();
    }

    /// Empties the open batch. Records that gave no event have their bytes in it, too.
    fn clear(&mut self) {
        self.batch.clear();
        self.raw.clear();
        self.batch_bytes = 0;
        self.appended_ms.clear();
    }

    /// Takes the open batch through decoding and profiles only, and hands over the feature row of each event that counts.
    pub fn rows(&mut self, partitions: &mut Partitions, counts: &mut Counts, mut visit: impl FnMut(&FeatureRow<'_>)) {
        if self.batch.is_empty() {
            return self.clear();
        }
        let rows = self.batch.len();
        self.profile.process(&mut self.batch, partitions);
        counts.unknown_zones += self.profile.take_unknown_zones();
        self.label.run(&mut self.batch.columns, rows);
        let inputs: Vec<Slot> = self.features().iter().filter(|feature| feature.model).map(|it| it.slot).collect();
        if self.matrix.width() != inputs.len() {
            self.matrix = FeatureMatrix::new(inputs.len());
        }
        let all: Vec<u32> = (0..rows as u32).collect();
        fill(&mut self.matrix, &self.batch, &inputs, &all);
        for (row, applied) in self.profile.applied().iter().enumerate() {
            counts.events += 1;
            match applied {
                Applied::Counted => counts.decisions += 1,
                Applied::Duplicate => counts.duplicates += 1,
                Applied::TooLate => counts.suppress(SuppressReason::TooLate, 1),
                Applied::Covered => counts.replayed += 1,
            }
            if *applied == Applied::Counted {
                let (key_type, user) = split_key(self.batch.columns.texts.get(self.batch.users[row]));
                visit(&FeatureRow {
                    user,
                    key_type,
                    user_hash: self.batch.user_hashes[row],
                    event_id: self.batch.columns.texts.get(self.batch.event_ids[row]),
                    position: self.batch.positions[row],
                    time: self.batch.times[row],
                    is_outcome: self.outcome.is_some_and(|slot| self.batch.columns.get(slot).bools()[row].holds()),
                    features: self.matrix.row(row),
                });
            }
        }
        self.clear();
    }

    fn emit(&mut self, partitions: &Partitions, now: EventTime, outbox: &mut Outbox, counts: &mut Counts) {
        let Self { decoder, batch, segments, encoders, profile, raw, model, scores, heads, appended_ms, .. } = self;
        let texts = &batch.columns.texts;
        for (row, applied) in profile.applied().iter().enumerate() {
            let position = batch.positions[row];
            if partitions.get(position.partition).is_none_or(|partition| partition.is_replay(position.offset)) {
                counts.replayed += 1;
                continue;
            }
            counts.events += 1;
            match applied {
                Applied::Counted => {}
                Applied::Covered => unreachable!("a profile covers only what was committed, which is replayed"),
                Applied::Duplicate => {
                    counts.duplicates += 1;
                    continue;
                }
                Applied::TooLate if self.too_late == TooLate::Drop => {
                    counts.suppress(SuppressReason::TooLate, 1);
                    continue;
                }
                Applied::TooLate => {
                    counts.dead_letter(RejectReason::TooLate);
                    let (start, end, timestamp_ms) = raw.rows[row];
                    let record = Record {
                        partition: position.partition,
                        offset: position.offset,
                        timestamp_ms,
                        key: Some(split_key(texts.get(batch.users[row])).1.as_bytes()),
                        payload: Some(&raw.bytes[start..end]),
                        traceparent: Some(texts.get(batch.traceparents[row])),
                    };
                    let detail = "the event is further behind its user's newest than time.allowed_lateness".to_owned();
                    let rejection = Rejection { reason: RejectReason::TooLate, detail };
                    dead_letter(decoder, &self.constants, &record, position.index, &rejection, outbox);
                    continue;
                }
            }
            let entered = segments.of(&batch.columns, row);
            let reason = model.as_ref().and_then(|scoring| scoring.reason(row));
            let status = if let Some(reason) = reason {
                counts.fallback(reason);
                Status::Fallback
            } else if entered.clone().next().is_some() {
                Status::Targeted
            } else {
                Status::NoTarget
            };
            scores.heads(batch, row, heads);
            counts.decisions += 1;
            let score = scores.score(batch, row);
            let detail = &mut counts.detail;
            detail.times.push((batch.times[row].millis(), appended_ms[row]));
            if score.is_finite() {
                detail.score(score.into());
            }
            let mut bits = 0;
            for number in entered.clone() {
                detail.segment(number);
                bits |= 1_u64.checked_shl(number as u32).unwrap_or_default();
            }
            detail.last = Some(RecentDecision {
                user_hash: batch.user_hashes[row],
                position,
                occurred_at: batch.times[row],
                decided_at: now,
                status,
                score: Some(score).filter(|score| score.is_finite()),
                segments: bits,
            });
            let key = texts.get(batch.users[row]);
            let (key_type, user) = split_key(key);
            let decision = Decision {
                user,
                key_type,
                event_id: texts.get(batch.event_ids[row]),
                position,
                occurred_at: batch.times[row],
                decided_at: now,
                status,
                reason,
                raw: scores.raw(batch, row),
                score,
                heads,
                explanation: model.as_ref().and_then(|scoring| scoring.explanation(row)),
            };
            let traceparent = [("traceparent", texts.bytes(batch.traceparents[row]))];
            let headers = if traceparent[0].1.is_empty() { &[][..] } else { &traceparent[..] };
            let encoder = &encoders[model.as_ref().map_or(0, |scoring| scoring.arm(row))];
            let write = |to: &mut Vec<u8>| encoder.encode(&decision, entered, to);
            outbox.push(Target::Decisions, Some(key.as_bytes()), headers, Some(write));
            outbox.of(position, reason);
        }
    }
}

/// Sets a record aside with the reason, its position and its payload; of several events in it, `index` is the one meant.
fn dead_letter(
    decoder: &Decoder,
    constants: &Constants,
    record: &Record<'_>,
    index: u32,
    rejection: &Rejection,
    outbox: &mut Outbox,
) {
    let mut numbers = [itoa::Buffer::new(); 4];
    let [partition, offset, timestamp, event] = &mut numbers;
    let event = if index > 0 { event.format(index) } else { "" };
    let partition = partition.format(record.partition);
    let offset = offset.format(record.offset);
    let timestamp = record.timestamp_ms.map_or("", |millis| timestamp.format(millis));
    let headers = [
        ("reason", rejection.reason.as_str().as_bytes()),
        ("detail", &rejection.detail.as_bytes()[..rejection.detail.floor_char_boundary(DETAIL_BYTES_MAX)]),
        ("app", constants.app.as_bytes()),
        ("topic", constants.topic.as_bytes()),
        ("partition", partition.as_bytes()),
        ("offset", offset.as_bytes()),
        ("timestamp_ms", timestamp.as_bytes()),
        ("index", event.as_bytes()),
        ("traceparent", record.traceparent.unwrap_or_default().as_bytes()),
    ];
    let redacted = |bytes| decoder.redacted(bytes).map_or(Cow::Borrowed(bytes), Cow::Owned);
    let (key, payload) = (record.key.map(redacted), record.payload.map(redacted));
    let payload = payload.as_deref().map(|payload| |to: &mut Vec<u8>| to.extend_from_slice(payload));
    outbox.push(Target::DeadLetters, key.as_deref(), &headers, payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::Partition, testkit::FakeModel};

    #[test]
    fn a_replaced_pipeline_keeps_its_model() {
        let compile = |id: &str, filter: &str| {
            let text = format!(
                "[[feature]]\nname = \"views\"\naggregate = \"count\"\nwindow = \"1h\"\n[[segment]]\nid = \"{id}\"\nwhere = '{filter}'"
            );
            let spec: PipelineSpec = toml::from_str(&text).expect("a sound specification");
            Pipeline::compile(&spec, "clicks").expect("it compiles")
        };
        let model = FakeModel::new(&["views"], |row| row[0] * 0.25);
        let mut pipeline = compile("any", "true").with_model(Box::new(model)).expect("the model fits");
        pipeline.replace(compile("high", "score >= 0.5"));

        let mut partitions = Partitions::default();
        partitions.insert(0, Partition::new(0, 0, None));
        let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
        for offset in 0..3_i64 {
            let payload =
                format!(r#"{{"event_type":"view","user_id":"u","occurred_at":{}}}"#, 1_700_000_000_000 + offset);
            let record = Record {
                offset,
                timestamp_ms: Some(1_700_000_000_500),
                payload: Some(payload.as_bytes()),
                ..Record::default()
            };
            pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        }
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
        assert_eq!(counts.detail.segments, [2], "scores are 0.25, 0.5 and 0.75");
        assert_eq!(counts.detail.times[0], (1_700_000_000_000, 1_700_000_000_500));
        assert_eq!(counts.detail.last.and_then(|last| last.score), Some(0.75));
        let payload = outbox.get(0).payload.map(String::from_utf8_lossy);
        assert!(payload.is_some_and(|text| text.contains("\"model\"")), "decisions name the model");
    }
}
