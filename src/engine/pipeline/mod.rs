//! The pure core: decode → profile → score → segments → campaigns → encoded decision, a batch at a time.
//!
//! Guarantees: the outputs depend only on the records, their order per partition, the profiles before them, the model,
//! and the time that `decided_at` is given; batch boundaries change nothing. (The exception is a model that fails: the
//! fallback score may be the last one that this process remembers.) Limits: once the buffers have grown, nothing is
//! allocated for an event, except for a user's first.

mod campaigns;
mod carried;
mod compile;
mod consent;
mod dead_letter;
mod decoding;
mod emit;
mod erasure;
mod export;
mod memberships;
mod open_batch;
mod renaming;
mod spec;

pub use export::FeatureRow;
pub use spec::PipelineSpec;

use super::{
    Clock, Partitions,
    scoring::{ScoreSlots, Scoring, ScoringFailure, ShadowSlot},
};
use crate::{
    canary::{self, Canary},
    decision::{Constants, Encoder, emission::Emission},
    event::{CLOCKS_SET_FROM, Decoded, EventTime, Record, TooLate, split_key},
    inference::ModelInfo,
    profile::{Feature, HiddenFeature, Layout, ProfileEngine},
    sink::Outbox,
    status::{Counts, Stage, SuppressReason, TraceParent},
    targeting::{Found, Segments},
};
use campaigns::Offers;
use carried::Carried;
use dead_letter::dead_letter;
use decoding::Decoding;
use export::Export;
use open_batch::OpenBatch;

/// A clock that only measures how long the stages take.
pub type Stopwatch = Box<dyn Clock + Send>;

/// A batch ends when the payloads of its records exceed this: all of them are in memory, and text spans have 32 bits.
pub(super) const BATCH_BYTES_MAX: usize = 64 << 20;

/// A batch ends at this many events: a record of a few kilobytes may contain thousands.
pub(super) const BATCH_ROWS_MAX: usize = 1 << 17;

/// The longest W3C trace context that is forwarded. The current version has 55 bytes.
const TRACE_CONTEXT_BYTES_MAX: usize = 256;

/// Whether a header is a valid trace context.
fn is_trace_context(text: &str) -> bool {
    text.len() <= TRACE_CONTEXT_BYTES_MAX && TraceParent::parse(text).is_some()
}

/// The segments.
struct Audiences {
    segments: Segments,
    /// Those of the current row.
    found: Found,
}

/// The state for encoding decisions.
struct Encoding {
    /// What all decisions share.
    constants: Constants,
    /// By arm of the experiment; a single one without an experiment.
    encoders: Vec<Encoder>,
    /// The encoder of decisions about expired memberships, which have no score.
    expiries: Encoder,
    /// A buffer for the additional scores of a row.
    heads: Vec<f32>,
    /// Which decisions carry their features.
    carried: Carried,
}

/// The compiled core with its buffers.
pub struct Pipeline {
    spec: PipelineSpec,
    decoding: Decoding,
    profile: ProfileEngine,
    audiences: Audiences,
    offers: Offers,
    scores: ScoreSlots,
    model: Option<Scoring>,
    emission: Emission,
    encoding: Encoding,
    export: Export,
    batch: OpenBatch,
    /// Measures how long the stages take.
    stopwatch: Option<Stopwatch>,
}

impl Pipeline {
    /// The declared features, in order.
    pub fn features(&self) -> &[Feature] {
        self.profile.features()
    }

    /// The names of the features that a model gets unless it lists its own.
    pub fn model_features(&self) -> Vec<String> {
        self.features().iter().filter(|feature| feature.model).map(|feature| feature.name.clone()).collect()
    }

    /// The fingerprint of the declared features.
    pub fn fingerprint(&self) -> &str {
        self.profile.fingerprint()
    }

    /// The layout of the profiles.
    pub fn layout(&self) -> &Layout {
        self.profile.layout()
    }

    /// The profile engine.
    pub fn profile(&self) -> &ProfileEngine {
        &self.profile
    }

    /// Reads the features of a profile ([`ProfileEngine::read`]). Drops the open batch.
    pub fn read(&mut self, words: &[u64]) -> Vec<f64> {
        self.batch.clear();
        self.profile.read(words, &mut self.batch.events.columns)
    }

    /// Reads what only targeting uses of a profile, such as the counts behind frequency caps ([`ProfileEngine::read_hidden`]).
    /// Drops the open batch.
    pub fn read_hidden(&mut self, words: &[u64]) -> Vec<(HiddenFeature, f64)> {
        self.read(words);
        self.profile.read_hidden(&self.batch.events.columns).map(|(hidden, value)| (hidden.clone(), value)).collect()
    }

    /// The segments.
    pub fn segments(&self) -> &Segments {
        &self.audiences.segments
    }

    /// The names of the fields that are read of an event.
    pub fn fields_read(&self) -> impl Iterator<Item = &str> {
        self.decoding.decoder.fields_read()
    }

    /// `targeting.minimum_audience`.
    pub fn minimum_audience(&self) -> u64 {
        self.spec.targeting.minimum_audience
    }

    /// The shadows, for the driver: see [`super::run_batch`].
    pub(super) fn shadows(&mut self) -> &mut [ShadowSlot] {
        self.model.as_mut().map(Scoring::shadows).unwrap_or_default()
    }

    /// Takes the model failures since the last call.
    pub(super) fn take_failures(&mut self) -> impl Iterator<Item = ScoringFailure> {
        self.model.iter_mut().flat_map(Scoring::take_failures)
    }

    /// Measures the time that each stage takes, with this clock.
    #[must_use]
    pub fn with_stopwatch(mut self, stopwatch: Stopwatch) -> Self {
        self.stopwatch = Some(stopwatch);
        self
    }

    /// The model that scores; in an experiment, that of the control group.
    pub fn model(&self) -> Option<&ModelInfo> {
        self.model.as_ref().map(Scoring::info)
    }

    /// All models that score, each with the name of its variant, which is empty without an experiment.
    pub fn models(&self) -> impl Iterator<Item = (String, &ModelInfo)> {
        let all = self.model.iter().flat_map(Scoring::all);
        all.map(|(experiment, info)| (experiment.unwrap_or_default().variant, info))
    }

    /// Sets the time of day. Events of records that are read for the first time may not be too far after it. What was
    /// allowed for a record is part of the partition's mark, so that a replay decides the same. The time of a clock
    /// that was never set is ignored.
    pub fn set_present(&mut self, present: EventTime) {
        self.decoding.present = Some(present).filter(|present| *present >= CLOCKS_SET_FROM);
    }

    /// Decodes one record into the open batch, or makes it a dead letter. A record of a partition that is not held is
    /// ignored.
    pub fn take(&mut self, record: &Record<'_>, partitions: &mut Partitions, outbox: &mut Outbox, counts: &mut Counts) {
        let Some(partition) = partitions.active(record.partition) else { return };
        // After a seek, the client may still hand over records fetched before it.
        if record.offset < partition.next && !canary::is_in(Canary::SeekIgnored) {
            return;
        }
        partition.next = record.offset + 1;
        // The standard forbids forwarding an invalid trace context; it could be anything, of any size.
        let record = &Record { traceparent: record.traceparent.filter(|it| is_trace_context(it)), ..*record };
        self.batch.bytes += record.payload.map_or(0, <[u8]>::len);
        let decoded = self.decoding.decode(
            record,
            partition,
            &mut self.batch.events,
            self.stopwatch.as_deref(),
            &mut counts.detail,
        );
        let rows = self.batch.events.len();
        let appended_ms = record.timestamp_ms.or_else(|| self.batch.events.times.last().map(|time| time.millis()));
        self.batch.appended_ms.resize(rows, appended_ms.unwrap_or_default());
        match decoded {
            Ok(Decoded { rows, bots }) => {
                if self.spec.time.too_late == TooLate::DeadLetter {
                    self.batch.payloads.push(record, rows);
                }
                if partition.is_replay(record.offset) {
                    counts.beside.replayed += bots as u64;
                } else {
                    counts.events += bots as u64;
                    counts.suppress(SuppressReason::Bot, bots as u64);
                }
            }
            Err(_) if partition.is_replay(record.offset) => counts.beside.replayed += 1,
            Err(rejection) => {
                counts.events += 1;
                counts.dead_letter(rejection.reason);
                let key = record.key.map(|key| self.decoding.decoder.shown_key(key));
                let constants = &self.encoding.constants;
                dead_letter(&self.decoding.decoder, constants, record, key.as_deref(), 0, &rejection, outbox);
            }
        }
    }

    /// The bytes of the payloads in the open batch.
    pub fn batch_bytes(&self) -> usize {
        self.batch.bytes
    }

    /// Whether the open batch must be run before more records are taken.
    pub fn is_full(&self) -> bool {
        self.batch.bytes >= BATCH_BYTES_MAX || self.batch.events.len() >= BATCH_ROWS_MAX
    }

    /// How many events are in the open batch.
    pub fn batch_rows(&self) -> usize {
        self.batch.events.len()
    }

    /// The event time of the open batch's first event, if there is one.
    pub fn first_time(&self) -> Option<EventTime> {
        self.batch.events.times.first().copied()
    }

    /// Drops the open batch, writes the id of its first event's user to `key`, and returns whether there was one.
    pub fn drop_batch(&mut self, key: &mut Vec<u8>) -> bool {
        key.clear();
        let user = self.batch.events.users.first().copied();
        if let Some(user) = user {
            key.extend_from_slice(split_key(self.batch.events.columns.texts.get(user)).1.as_bytes());
        }
        self.batch.clear();
        user.is_some()
    }

    /// Runs the open batch through all stages, appends its outputs to `outbox`, and empties it.
    pub fn run(&mut self, partitions: &mut Partitions, now: EventTime, outbox: &mut Outbox, counts: &mut Counts) {
        if self.batch.events.is_empty() {
            self.catch_up(partitions);
            return self.batch.clear();
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
        self.profile.process(&mut self.batch.events, partitions);
        counts.unknown_zones += self.profile.take_unknown_zones();
        lap(Stage::Profile, counts);
        let rows = self.batch.events.len();
        self.scores.clear(&mut self.batch.events);
        if let Some(scoring) = &mut self.model {
            scoring.run(&mut self.batch.events, &self.scores, &self.profile, partitions);
        }
        lap(Stage::Score, counts);
        self.audiences.segments.run(&mut self.batch.events.columns, rows);
        self.offers.campaigns.run(&mut self.batch.events.columns, rows);
        lap(Stage::Target, counts);
        self.emit(partitions, now, outbox, counts);
        lap(Stage::Encode, counts);
        self.stopwatch = stopwatch;
        self.batch.clear();
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod pseudonyms;
#[cfg(test)]
mod world;
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
