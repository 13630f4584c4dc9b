//! One model, the rows it scores, and the fallback for missing scores.

use super::{
    failure::ScoringFailure,
    slots::{ScoreSlots, fill},
};
use crate::{
    columns::Slot,
    config_error::ConfigError,
    event::{EventBatch, Position, split_key},
    inference::{
        ExplainSpec, Explainer, Explanation, Fallback, FallbackReason, FeatureMatrix, LastScores, Model, ModelFeed,
        ModelInfo, Repeats,
    },
    profile::Feature,
    random::mix,
};
use std::collections::HashSet;

/// Which decisions are explained, and how.
pub(super) struct Explaining {
    pub(super) explainer: Explainer,
    /// Rows whose hash is below this are explained.
    share: u64,
    users: HashSet<String>,
}

/// The score used when a model gives none.
pub(super) struct FallbackScore {
    pub(super) fallback: Fallback,
    pub(super) prior: Option<f32>,
    pub(super) last: LastScores,
}

impl FallbackScore {
    /// Remembers a user's score.
    fn keep(&mut self, user: u64, score: f32) {
        if self.fallback == Fallback::LastScore {
            self.last.put(user, score);
        }
    }

    /// The fallback for a user's score; NaN if there is none.
    fn of(&self, user: u64) -> f32 {
        let last = if self.fallback == Fallback::LastScore { self.last.get(user) } else { None };
        let prior = if self.fallback == Fallback::None { None } else { self.prior };
        last.or(prior).unwrap_or(f32::NAN)
    }
}

/// A model, the columns of its inputs, and the rows that it scores.
pub(super) struct Scorer {
    pub(super) model: Box<dyn Model>,
    pub(super) feed: Option<Box<dyn ModelFeed>>,
    /// The section it is declared in: `model`, or `variant[i]`.
    section: String,
    inputs: Vec<Slot>,
    pub(super) explaining: Option<Explaining>,
    /// The rows of the batch that this model scores.
    pub(super) rows: Vec<u32>,
    matrix: FeatureMatrix,
    scores: Vec<f32>,
    /// Failed runs, batches with scores out of range, and batches that could not be explained.
    failed: Repeats,
    strayed: Repeats,
    unexplained: Repeats,
}

impl Scorer {
    pub(super) fn new(
        model: Box<dyn Model>,
        section: String,
        features: &[Feature],
        heads: &[String],
        explain: &ExplainSpec,
    ) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let info = model.info();
        let inputs = inputs(info, features, &format!("{section}.features"), &mut errors);
        if info.heads != heads {
            let message = format!("expected the heads {heads:?}, found {:?}", info.heads);
            errors.push(ConfigError::new(format!("{section}.heads"), message));
        }
        let explaining = explaining(explain, info, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            matrix: FeatureMatrix::new(inputs.len()),
            model,
            feed: None,
            section,
            inputs,
            explaining,
            rows: Vec::new(),
            scores: Vec::new(),
            failed: Repeats::default(),
            strayed: Repeats::default(),
            unexplained: Repeats::default(),
        })
    }

    /// Takes the newest model that is ready, and returns the descriptions of the old and the new one.
    pub(super) fn renew(
        &mut self,
        features: &[Feature],
        explain: &ExplainSpec,
        failures: &mut Vec<ScoringFailure>,
    ) -> Option<(ModelInfo, &ModelInfo)> {
        let model = self.feed.as_mut()?.take()?;
        let version = model.info().version.clone();
        match Self::new(model, self.section.clone(), features, &self.model.info().heads, explain) {
            Ok(mut fresh) => {
                fresh.feed = self.feed.take();
                let before = std::mem::replace(self, fresh).model.info().clone();
                Some((before, self.model.info()))
            }
            Err(errors) => {
                let fault = errors.first().map(ConfigError::to_string);
                failures.push(ScoringFailure::Unfit { fault, version });
                None
            }
        }
    }

    /// Scores its rows in one model run, and writes the scores into their columns.
    pub(super) fn run(
        &mut self,
        batch: &mut EventBatch,
        slots: &ScoreSlots,
        fallback_score: &mut FallbackScore,
        reasons: &mut [Option<FallbackReason>],
        explanations: &mut Vec<(u32, Explanation)>,
        failures: &mut Vec<ScoringFailure>,
    ) {
        if self.rows.is_empty() {
            return;
        }
        fill(&mut self.matrix, batch, &self.inputs, &self.rows);
        let failure = match self.model.score(&self.matrix, &mut self.scores) {
            Ok(()) => {
                self.failed.not();
                None
            }
            Err(error) => {
                let reason = FallbackReason::of(&error);
                if let Some(runs) = self.failed.again() {
                    failures.push(ScoringFailure::Run { error, rows: self.rows.len(), runs });
                }
                Some(reason)
            }
        };
        let info = self.model.info();
        let mut stray = None;
        for (index, row) in self.rows.iter().enumerate() {
            let row = *row as usize;
            let raw = if failure.is_none() { self.scores[index] } else { f32::NAN };
            let user = batch.user_hashes[row];
            let left = info.range_left(0, raw);
            let score = if left.is_some() {
                stray = Some(raw);
                reasons[row] =
                    Some(if raw.is_finite() { FallbackReason::OutOfRange } else { FallbackReason::NotANumber });
                fallback_score.of(user)
            } else if raw.is_finite() {
                let score = info.calibration.as_ref().map_or(raw, |it| it.apply(raw));
                batch.columns.get_mut(slots.raw).doubles_mut()[row] = raw.into();
                fallback_score.keep(user, score);
                score
            } else {
                reasons[row] = Some(failure.unwrap_or(FallbackReason::NotANumber));
                fallback_score.of(user)
            };
            batch.columns.get_mut(slots.score).doubles_mut()[row] = score.into();
            if failure.is_none() {
                for (head, slot) in slots.heads.iter().enumerate() {
                    let value = self.scores[(head + 1) * self.rows.len() + index];
                    let is_meant = value.is_finite() && info.range_left(head + 1, value).is_none();
                    if value.is_finite() && !is_meant {
                        stray = Some(value);
                    }
                    let value = if is_meant { value } else { f32::NAN };
                    batch.columns.get_mut(*slot).doubles_mut()[row] = value.into();
                }
            }
        }
        match stray {
            None => self.strayed.not(),
            Some(score) => {
                if let Some(batches) = self.strayed.again() {
                    failures.push(ScoringFailure::OutOfRange { score, version: info.version.clone(), batches });
                }
            }
        }
        if failure.is_none() {
            self.explain(batch, reasons, explanations, failures);
        }
    }

    /// Explains the rows that are sampled or whose users are listed.
    fn explain(
        &mut self,
        batch: &EventBatch,
        reasons: &[Option<FallbackReason>],
        explanations: &mut Vec<(u32, Explanation)>,
        failures: &mut Vec<ScoringFailure>,
    ) {
        let Self { model, explaining, rows, matrix, unexplained, .. } = self;
        let Some(Explaining { explainer, share, users }) = explaining else { return };
        let mut chosen = Vec::new();
        let mut values = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let at = *row as usize;
            let seed = draw(batch.user_hashes[at], batch.positions[at]);
            let is_named = !users.is_empty() && users.contains(split_key(batch.columns.texts.get(batch.users[at])).1);
            if reasons[at].is_none() && (is_named || seed < *share) {
                chosen.push(*row);
                values.push((matrix.row(index), seed));
            }
        }
        match explainer.explain_all(model.as_mut(), &values) {
            Ok(all) => explanations.extend(chosen.into_iter().zip(all).filter_map(|(row, it)| Some((row, it?)))),
            Err(error) => {
                if let Some(batches) = unexplained.again() {
                    failures.push(ScoringFailure::Explanation { error, rows: chosen.len(), batches });
                }
            }
        }
    }
}

/// The columns of a model's features; an undeclared one is reported as an error of `key`.
pub(super) fn inputs(info: &ModelInfo, features: &[Feature], key: &str, errors: &mut Vec<ConfigError>) -> Vec<Slot> {
    let mut inputs = Vec::with_capacity(info.features.len());
    for name in &info.features {
        match features.iter().find(|feature| feature.name == *name) {
            Some(feature) => inputs.push(feature.slot),
            None => errors.push(ConfigError::new(key, format!("no feature is named {name:?}"))),
        }
    }
    inputs
}

fn explaining(spec: &ExplainSpec, info: &ModelInfo, errors: &mut Vec<ConfigError>) -> Option<Explaining> {
    if !spec.is_on() {
        return None;
    }
    let Some(baseline) = info.baseline.clone() else {
        errors.push(
            ConfigError::new("explain", format!("the model {} says no baseline to explain its scores from", info.name)).hint(
                "write the mean of the training rows into its metadata as aimpoint.baseline, a JSON array, as aimpoint train does",
            ),
        );
        return None;
    };
    match Explainer::new(spec, &info.features, baseline) {
        Ok(explainer) => Some(Explaining {
            explainer,
            // 1.0 maps to the largest number, so only a hash equal to it is missed.
            share: (spec.share * u64::MAX as f64) as u64,
            users: spec.users.iter().cloned().collect(),
        }),
        Err((key, message)) => {
            errors.push(ConfigError::new(key, message));
            None
        }
    }
}

/// A deterministic pseudo-random number for an event.
pub(in crate::engine) fn draw(user: u64, position: Position) -> u64 {
    mix(user ^ (position.offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(position.index).rotate_left(32))
}
