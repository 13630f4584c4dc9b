//! Scores the rows of a batch: by which model, in which order, and with which fallback.
//!
//! Guarantees: each model keeps one version for a whole batch, and changes only when [`Scoring::renew`] is called; a
//! row is scored by one model, that of its user's variant; every emitted row has a score or a reason for its absence.
//! How a model runs is not known here.

mod failure;
mod scorer;
mod shadow;
mod slots;

pub use failure::ScoringFailure;
pub(super) use scorer::draw;
pub use shadow::ShadowSlot;
pub(super) use slots::{ScoreSlots, fill};

use super::Partitions;
use crate::{
    config_error::ConfigError,
    decision::write_id,
    event::{EventBatch, split_key},
    inference::{
        Experiment, ExperimentReference, ExplainSpec, Explainer, Explanation, Fallback, FallbackReason, LastScores,
        Model, ModelFeed, ModelInfo, ScoringSpec, ShadowTap,
    },
    profile::{Applied, Feature, ProfileEngine},
};
use scorer::{FallbackScore, Scorer, inputs};

/// Checks the sections on their own.
pub(super) fn check(scoring: &ScoringSpec, explain: &ExplainSpec, errors: &mut Vec<ConfigError>) {
    match scoring.prior {
        Some(prior) if !(0.0..=1.0).contains(&prior) => {
            errors.push(ConfigError::new("scoring.prior", format!("{prior} is not between 0 and 1")));
        }
        None if scoring.fallback == Fallback::Prior => errors.push(
            ConfigError::new("scoring.prior", "fallback = \"prior\" needs the prior")
                .hint("for instance the share of positives in the training rows: prior = 0.02"),
        ),
        _ => {}
    }
    if !(0.0..=1.0).contains(&explain.share) {
        errors.push(ConfigError::new("explain.share", format!("{} is not between 0 and 1", explain.share)));
    }
    if !(1..=10_000).contains(&explain.samples) {
        errors.push(
            ConfigError::new("explain.samples", format!("{} is not between 1 and 10000", explain.samples))
                .hint("32 pairs of orders are a good start; more cost model runs and are more exact"),
        );
    }
}

/// One in this many of the shadow's scores is logged with the decision's position, which is enough to inspect single
/// cases.
const LOGGED_OF_ROWS: u64 = 4_096;

/// The models that decide.
pub(super) struct Scoring {
    /// By arm: the model of `[model]`, then those of the variants.
    scorers: Vec<Scorer>,
    experiment: Option<Experiment>,
    shadows: Vec<ShadowSlot>,
    fallback_score: FallbackScore,
    heads: Vec<String>,
    /// By row of the batch: its arm. Empty without an experiment.
    arms: Vec<u8>,
    /// By row of the batch: why the model gave no score, if so.
    reasons: Vec<Option<FallbackReason>>,
    /// The explanations of the batch, by row.
    explanations: Vec<(u32, Explanation)>,
    /// Collected until the driver takes them.
    failures: Vec<ScoringFailure>,
}

impl Scoring {
    /// Matches a model with the features and the sections.
    ///
    /// # Errors
    /// If the model uses an undeclared feature, has other heads than declared, or has no baseline to explain from.
    pub(super) fn new(
        model: Box<dyn Model>,
        features: &[Feature],
        scoring: &ScoringSpec,
        explain: &ExplainSpec,
    ) -> Result<Self, Vec<ConfigError>> {
        let scorer = Scorer::new(model, "model".to_owned(), features, &scoring.heads, explain)?;
        let last = if scoring.fallback == Fallback::LastScore { LastScores::new() } else { LastScores::default() };
        Ok(Self {
            scorers: vec![scorer],
            experiment: None,
            shadows: Vec::new(),
            fallback_score: FallbackScore { fallback: scoring.fallback, prior: scoring.prior, last },
            heads: scoring.heads.clone(),
            arms: Vec::new(),
            reasons: Vec::new(),
            explanations: Vec::new(),
            failures: Vec::new(),
        })
    }

    /// Adds the models of an experiment's variants, in its order; each scores a share of the users.
    ///
    /// # Errors
    /// If they do not fit the sections.
    pub(super) fn experiment(
        &mut self,
        experiment: Experiment,
        models: Vec<Box<dyn Model>>,
        features: &[Feature],
        explain: &ExplainSpec,
    ) -> Result<(), Vec<ConfigError>> {
        let mut errors = Vec::new();
        for (index, model) in models.into_iter().enumerate() {
            match Scorer::new(model, format!("variant[{index}]"), features, &self.heads, explain) {
                Ok(scorer) => self.scorers.push(scorer),
                Err(more) => errors.extend(more),
            }
        }
        self.experiment = Some(experiment);
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }

    /// The model of `[model]`.
    pub(super) fn info(&self) -> &ModelInfo {
        self.scorers[0].model.info()
    }

    /// What decisions say about each arm: the experiment with the variant, and the model.
    pub(super) fn all(&self) -> impl Iterator<Item = (Option<ExperimentReference>, &ModelInfo)> {
        let reference = |arm: usize| self.experiment.as_ref().map(|it| it.reference(arm));
        self.scorers.iter().enumerate().map(move |(arm, scorer)| (reference(arm), scorer.model.info()))
    }

    /// Attaches a feed of newer models for an arm.
    pub(super) fn feed(&mut self, arm: usize, feed: Box<dyn ModelFeed>) {
        if let Some(scorer) = self.scorers.get_mut(arm) {
            scorer.feed = Some(feed);
        }
    }

    /// Copies the rows scored by `[model]` to this shadow as well.
    ///
    /// # Errors
    /// If the shadow uses an undeclared feature.
    pub(super) fn shadow(
        &mut self,
        tap: ShadowTap,
        features: &[Feature],
        id_prefix: String,
    ) -> Result<(), Vec<ConfigError>> {
        let mut errors = Vec::new();
        let key = format!("shadow[{}].features", self.shadows.len());
        let inputs = inputs(tap.info(), features, &key, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        self.shadows.push(ShadowSlot { tap, inputs, id_prefix, buffer: None, rows: 0 });
        Ok(())
    }

    /// Takes the newest model that is ready, if any, and returns the descriptions of the old and the new one. If the
    /// new one does not fit, that is recorded as a failure and the old one stays. One call renews at most one arm.
    pub(super) fn renew(&mut self, features: &[Feature], explain: &ExplainSpec) -> Option<(ModelInfo, ModelInfo)> {
        let Self { scorers, failures, .. } = self;
        let renewed = scorers.iter_mut().find_map(|scorer| scorer.renew(features, explain, failures));
        renewed.map(|(before, now)| (before, now.clone()))
    }

    /// The shadows, for the driver.
    pub(super) fn shadows(&mut self) -> &mut [ShadowSlot] {
        &mut self.shadows
    }

    /// Takes the failures since the last call.
    pub(super) fn take_failures(&mut self) -> impl Iterator<Item = ScoringFailure> {
        self.failures.drain(..)
    }

    /// Scores the rows that will be emitted, with one run of each model, and writes the scores into their columns.
    pub(super) fn run(
        &mut self,
        batch: &mut EventBatch,
        slots: &ScoreSlots,
        profile: &ProfileEngine,
        partitions: &Partitions,
    ) {
        let Self { scorers, experiment, fallback_score, arms, reasons, explanations, failures, .. } = self;
        explanations.clear();
        reasons.clear();
        reasons.resize(batch.len(), None);
        arms.clear();
        for scorer in scorers.iter_mut() {
            scorer.rows.clear();
        }
        for (row, applied) in profile.applied().iter().enumerate() {
            let position = batch.positions[row];
            let emitted = partitions.get(position.partition).is_some_and(|it| !it.is_replay(position.offset));
            if *applied == Applied::Counted && emitted && profile.may_score(row) {
                let arm = experiment.as_ref().map_or(0, |experiment| {
                    // Uses only the id, so that a user's arm does not depend on the form of the key.
                    let arm = experiment.arm_of(split_key(batch.columns.texts.get(batch.users[row])).1.as_bytes());
                    arms.resize(row, 0);
                    arms.push(arm as u8);
                    arm
                });
                scorers[arm].rows.push(row as u32);
            }
        }
        for scorer in scorers.iter_mut() {
            scorer.run(batch, slots, fallback_score, reasons, explanations, failures);
        }
        if scorers.len() > 1 {
            explanations.sort_unstable_by_key(|(row, _)| *row);
        }
        self.fill_shadows(batch, slots);
    }

    /// Copies the rows scored by `[model]` into the buffers of the shadows.
    fn fill_shadows(&mut self, batch: &EventBatch, slots: &ScoreSlots) {
        let Self { scorers, shadows, reasons, .. } = self;
        let rows = &scorers[0].rows;
        for ShadowSlot { tap, inputs, id_prefix, buffer, rows: count } in shadows {
            *count = rows.len();
            let Some(offered) = buffer.as_mut().filter(|_| !rows.is_empty()) else { continue };
            fill(&mut offered.matrix, batch, inputs, rows);
            offered.champion.clear();
            offered.logged.clear();
            offered.subjects.clear();
            for (index, row) in rows.iter().enumerate() {
                let row = *row as usize;
                // A fallback is not a score of the champion.
                let score = if reasons[row].is_some() { f32::NAN } else { slots.score(batch, row) };
                offered.champion.push(score);
                let position = batch.positions[row];
                if draw(batch.user_hashes[row], position).is_multiple_of(LOGGED_OF_ROWS) {
                    offered.logged.push((index, position.partition, position.offset));
                }
                if tap.wants_subjects() {
                    let user = batch.columns.texts.bytes(batch.users[row]);
                    offered.subjects.push(user, |to| write_id(id_prefix, position, to));
                }
            }
        }
    }

    /// The arm of a row of the last batch.
    pub(super) fn arm(&self, row: usize) -> usize {
        self.arms.get(row).copied().unwrap_or_default().into()
    }

    /// Why the model gave no score for a row, if so.
    pub(super) fn reason(&self, row: usize) -> Option<FallbackReason> {
        self.reasons[row]
    }

    /// The explanation of a row, if there is one, and its explainer.
    pub(super) fn explanation(&self, row: usize) -> Option<(&Explainer, &Explanation)> {
        let at = self.explanations.binary_search_by_key(&(row as u32), |(row, _)| *row).ok()?;
        Some((&self.scorers[self.arm(row)].explaining.as_ref()?.explainer, &self.explanations[at].1))
    }
}
