//! From the rows of a batch to their scores: which rows, in which order, and what stands in where the model gave none.
//!
//! Guarantees: a batch is scored by one version of a model, or of each variant's, which changes between batches alone, when
//! [`Scoring::renew`] is called; a row is scored by one model, that of its user's variant; every row that is emitted has a
//! score or the reason why not; a score that is missing moves no row and loses none. Leaves alone what runs the model.

use super::Partitions;
use crate::{
    columns::{Slot, Type},
    decision::write_id,
    event::{EventBatch, Position, split_key},
    expression::Scope,
    fault::Fault,
    inference::{
        Experiment, ExperimentReference, ExplainSpec, Explainer, Explanation, Fallback, FallbackReason, FeatureMatrix,
        LastScores, Model, ModelFeed, ModelInfo, Repeats, ScoringSpec, ShadowTap,
    },
    profile::{Applied, Feature},
};
use std::collections::HashSet;

/// Where the scores of a batch stand.
#[derive(Clone, Debug)]
pub(super) struct ScoreSlots {
    /// The score that rules go by: calibrated where there is a calibration, and what stands in where the model gave none.
    score: Slot,
    /// What the model said.
    raw: Slot,
    /// The further scores, in the order of the model's heads.
    heads: Vec<Slot>,
}

impl ScoreSlots {
    /// Declares `score`, `score.raw`, `score.calibrated` and a name for each head.
    pub(super) fn declare(spec: &ScoringSpec, scope: &mut Scope, faults: &mut Vec<Fault>) -> Self {
        let mut declare = |name: &str| {
            scope.declare(name, Type::Double).unwrap_or_else(|| {
                faults.push(Fault::new("feature", format!("{name:?} is what the model says; choose another name")));
                Slot(0)
            })
        };
        let slots = Self {
            score: declare("score"),
            raw: declare("score.raw"),
            heads: spec.heads.iter().map(|name| declare(&format!("score.{name}"))).collect(),
        };
        if scope.alias("score.calibrated", slots.score).is_none() {
            faults.push(Fault::new("model.heads", "\"calibrated\" is what the calibration says; choose another name"));
        }
        slots
    }

    /// Fills all scores of the batch with "no value".
    pub(super) fn clear(&self, batch: &mut EventBatch) {
        let rows = batch.len();
        for slot in [self.score, self.raw].iter().chain(&self.heads) {
            let column = batch.columns.get_mut(*slot).doubles_mut();
            column.clear();
            column.resize(rows, f64::NAN);
        }
    }

    /// The score that a row's rules went by.
    pub(super) fn score(&self, batch: &EventBatch, row: usize) -> f32 {
        batch.columns.get(self.score).doubles()[row] as f32
    }

    /// What the model said of a row.
    pub(super) fn raw(&self, batch: &EventBatch, row: usize) -> f32 {
        batch.columns.get(self.raw).doubles()[row] as f32
    }

    /// Appends the further scores of a row.
    pub(super) fn heads(&self, batch: &EventBatch, row: usize, to: &mut Vec<f32>) {
        to.clear();
        to.extend(self.heads.iter().map(|slot| batch.columns.get(*slot).doubles()[row] as f32));
    }
}

/// What is wrong with the sections themselves.
pub(super) fn check(scoring: &ScoringSpec, explain: &ExplainSpec, faults: &mut Vec<Fault>) {
    match scoring.prior {
        Some(prior) if !(0.0..=1.0).contains(&prior) => {
            faults.push(Fault::new("scoring.prior", format!("{prior} is not between 0 and 1")));
        }
        None if scoring.fallback == Fallback::Prior => faults.push(
            Fault::new("scoring.prior", "fallback = \"prior\" needs the prior")
                .hint("for instance the share of positives in the training rows: prior = 0.02"),
        ),
        _ => {}
    }
    if !(0.0..=1.0).contains(&explain.share) {
        faults.push(Fault::new("explain.share", format!("{} is not between 0 and 1", explain.share)));
    }
    if !(1..=10_000).contains(&explain.samples) {
        faults.push(
            Fault::new("explain.samples", format!("{} is not between 1 and 10000", explain.samples))
                .hint("32 pairs of orders are a good start; more cost model runs and are more exact"),
        );
    }
}

/// Which decisions are explained, and how.
struct Explaining {
    explainer: Explainer,
    /// Rows whose mixed hash is at most this are explained.
    share: u64,
    users: HashSet<String>,
}

/// One row of so many has its score by a shadow logged, with its decision's position: enough to look at single cases.
const LOGGED_OF_ROWS: u64 = 4_096;

/// A shadow, and where its inputs stand.
struct Shadowed {
    tap: ShadowTap,
    inputs: Vec<Slot>,
    /// What a decision's id begins with.
    id_prefix: String,
}

/// What stands in where a model gives no score.
struct StandIn {
    fallback: Fallback,
    prior: Option<f32>,
    last: LastScores,
}

impl StandIn {
    /// Keeps what a user scored.
    fn keep(&mut self, user: u64, score: f32) {
        if self.fallback == Fallback::LastScore {
            self.last.put(user, score);
        }
    }

    /// What takes the place of a user's score; NaN where nothing does.
    fn of(&self, user: u64) -> f32 {
        let last = if self.fallback == Fallback::LastScore { self.last.get(user) } else { None };
        let prior = if self.fallback == Fallback::None { None } else { self.prior };
        last.or(prior).unwrap_or(f32::NAN)
    }
}

/// A model, where its inputs stand, and the rows that fall to it.
struct Scorer {
    model: Box<dyn Model>,
    feed: Option<Box<dyn ModelFeed>>,
    /// Where it is declared: `model`, or `variant[i]`.
    section: String,
    inputs: Vec<Slot>,
    explaining: Option<Explaining>,
    /// The rows of the batch that it scores.
    rows: Vec<u32>,
    matrix: FeatureMatrix,
    scores: Vec<f32>,
    /// Runs that failed, batches with scores out of range, and batches that could not be explained.
    failed: Repeats,
    strayed: Repeats,
    unexplained: Repeats,
}

impl Scorer {
    fn new(
        model: Box<dyn Model>,
        section: String,
        features: &[Feature],
        heads: &[String],
        explain: &ExplainSpec,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let info = model.info();
        let inputs = inputs(info, features, &format!("{section}.features"), &mut faults);
        if info.heads != heads {
            let message = format!("expected the heads {heads:?}, found {:?}", info.heads);
            faults.push(Fault::new(format!("{section}.heads"), message));
        }
        let explaining = explaining(explain, info, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
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

    /// Takes the newest model that is ready, and gives what was known of the one before and what is of the new one.
    fn renew(&mut self, features: &[Feature], explain: &ExplainSpec) -> Option<(ModelInfo, &ModelInfo)> {
        let model = self.feed.as_mut()?.take()?;
        let version = model.info().version.clone();
        match Self::new(model, self.section.clone(), features, &self.model.info().heads, explain) {
            Ok(mut fresh) => {
                fresh.feed = self.feed.take();
                let before = std::mem::replace(self, fresh).model.info().clone();
                Some((before, self.model.info()))
            }
            Err(faults) => {
                let fault = faults.first().map(Fault::to_string);
                tracing::error!(fault, version, "take a new version of the model: the old one stays");
                None
            }
        }
    }

    /// Scores its rows in one model run, and writes the scores into their columns.
    fn run(
        &mut self,
        batch: &mut EventBatch,
        slots: &ScoreSlots,
        stand_in: &mut StandIn,
        reasons: &mut [Option<FallbackReason>],
        explanations: &mut Vec<(u32, Explanation)>,
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
                if let Some(runs) = self.failed.again() {
                    let rows = self.rows.len();
                    tracing::error!(%error, rows, runs, "score a batch: its decisions fall back, as those of so many runs");
                }
                Some(FallbackReason::of(&error))
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
                stand_in.of(user)
            } else if raw.is_finite() {
                let score = info.calibration.as_ref().map_or(raw, |it| it.apply(raw));
                batch.columns.get_mut(slots.raw).doubles_mut()[row] = raw.into();
                stand_in.keep(user, score);
                score
            } else {
                reasons[row] = Some(failure.unwrap_or(FallbackReason::NotANumber));
                stand_in.of(user)
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
                    let version = info.version.as_str();
                    tracing::error!(score, version, batches, "a score out of its range (model.range): it is not used");
                }
            }
        }
        if failure.is_none() {
            self.explain(batch, reasons, explanations);
        }
    }

    /// Explains the rows that are chosen by their position or their user.
    fn explain(
        &mut self,
        batch: &EventBatch,
        reasons: &[Option<FallbackReason>],
        explanations: &mut Vec<(u32, Explanation)>,
    ) {
        let Self { model, explaining, rows, matrix, unexplained, .. } = self;
        let Some(Explaining { explainer, share, users }) = explaining else { return };
        let mut chosen = Vec::new();
        let mut values = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            let at = *row as usize;
            let seed = mix(batch.user_hashes[at], batch.positions[at]);
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
                    tracing::warn!(%error, rows = chosen.len(), batches, "explain decisions: they go out without");
                }
            }
        }
    }
}

/// The models that decide.
pub(super) struct Scoring {
    /// That of `[model]`, then those of the variants in their order: the numbers of the arms.
    scorers: Vec<Scorer>,
    experiment: Option<Experiment>,
    shadows: Vec<Shadowed>,
    stand_in: StandIn,
    heads: Vec<String>,
    /// By row of the batch: its arm. Empty where there is no experiment.
    arms: Vec<u8>,
    /// By row of the batch: why it has no score of the model's.
    reasons: Vec<Option<FallbackReason>>,
    /// The explanations of the batch, by row.
    explanations: Vec<(u32, Explanation)>,
}

impl Scoring {
    /// Fits a model to the features and the sections.
    ///
    /// # Errors
    /// A feature of the model that is not declared, other heads than are declared, or no baseline to explain from.
    pub(super) fn new(
        model: Box<dyn Model>,
        features: &[Feature],
        scoring: &ScoringSpec,
        explain: &ExplainSpec,
    ) -> Result<Self, Vec<Fault>> {
        let scorer = Scorer::new(model, "model".to_owned(), features, &scoring.heads, explain)?;
        let last = if scoring.fallback == Fallback::LastScore { LastScores::new() } else { LastScores::default() };
        Ok(Self {
            scorers: vec![scorer],
            experiment: None,
            shadows: Vec::new(),
            stand_in: StandIn { fallback: scoring.fallback, prior: scoring.prior, last },
            heads: scoring.heads.clone(),
            arms: Vec::new(),
            reasons: Vec::new(),
            explanations: Vec::new(),
        })
    }

    /// Has other models decide for a share of the users each, in the experiment's order.
    ///
    /// # Errors
    /// What of the sections they do not fit.
    pub(super) fn experiment(
        &mut self,
        experiment: Experiment,
        models: Vec<Box<dyn Model>>,
        features: &[Feature],
        explain: &ExplainSpec,
    ) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        for (index, model) in models.into_iter().enumerate() {
            match Scorer::new(model, format!("variant[{index}]"), features, &self.heads, explain) {
                Ok(scorer) => self.scorers.push(scorer),
                Err(more) => faults.extend(more),
            }
        }
        self.experiment = Some(experiment);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// The model of `[model]`.
    pub(super) fn info(&self) -> &ModelInfo {
        self.scorers[0].model.info()
    }

    /// What decisions tell of each arm: the experiment with the variant, and the model.
    pub(super) fn all(&self) -> impl Iterator<Item = (Option<ExperimentReference>, &ModelInfo)> {
        let reference = |arm: usize| self.experiment.as_ref().map(|it| it.reference(arm));
        self.scorers.iter().enumerate().map(move |(arm, scorer)| (reference(arm), scorer.model.info()))
    }

    /// Takes newer models of an arm from this feed.
    pub(super) fn feed(&mut self, arm: usize, feed: Box<dyn ModelFeed>) {
        if let Some(scorer) = self.scorers.get_mut(arm) {
            scorer.feed = Some(feed);
        }
    }

    /// Offers the rows that `[model]` scores to this shadow as well.
    ///
    /// # Errors
    /// A feature of the shadow that is not declared.
    pub(super) fn shadow(&mut self, tap: ShadowTap, features: &[Feature], id_prefix: String) -> Result<(), Vec<Fault>> {
        let mut faults = Vec::new();
        let key = format!("shadow[{}].features", self.shadows.len());
        let inputs = inputs(tap.info(), features, &key, &mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        self.shadows.push(Shadowed { tap, inputs, id_prefix });
        Ok(())
    }

    /// Takes the newest model that is ready, if there is one, and gives what was known of the one before and what is of the
    /// new one. What it does not fit is told, and the old one stays. Of several arms one is renewed at a call.
    pub(super) fn renew(&mut self, features: &[Feature], explain: &ExplainSpec) -> Option<(ModelInfo, ModelInfo)> {
        let renewed = self.scorers.iter_mut().find_map(|scorer| scorer.renew(features, explain));
        renewed.map(|(before, now)| (before, now.clone()))
    }

    /// Scores the rows that will be emitted, in one run of each model, and writes the scores into their columns.
    pub(super) fn run(
        &mut self,
        batch: &mut EventBatch,
        slots: &ScoreSlots,
        applied: &[Applied],
        partitions: &Partitions,
    ) {
        let Self { scorers, experiment, stand_in, arms, reasons, explanations, .. } = self;
        explanations.clear();
        reasons.clear();
        reasons.resize(batch.len(), None);
        arms.clear();
        for scorer in scorers.iter_mut() {
            scorer.rows.clear();
        }
        for (row, applied) in applied.iter().enumerate() {
            let position = batch.positions[row];
            let emitted = partitions.get(position.partition).is_some_and(|it| !it.is_replay(position.offset));
            if *applied == Applied::Counted && emitted {
                let arm = experiment.as_ref().map_or(0, |experiment| {
                    // By the id alone, so that who was in an arm stays in it whatever the key is made of.
                    let arm = experiment.arm_of(split_key(batch.columns.texts.get(batch.users[row])).1.as_bytes());
                    arms.resize(row, 0);
                    arms.push(arm as u8);
                    arm
                });
                scorers[arm].rows.push(row as u32);
            }
        }
        for scorer in scorers.iter_mut() {
            scorer.run(batch, slots, stand_in, reasons, explanations);
        }
        if scorers.len() > 1 {
            explanations.sort_unstable_by_key(|(row, _)| *row);
        }
        self.offer(batch, slots);
    }

    /// Copies the rows of `[model]` to the shadows that have room for them.
    fn offer(&self, batch: &EventBatch, slots: &ScoreSlots) {
        let rows = &self.scorers[0].rows;
        if rows.is_empty() {
            return;
        }
        for Shadowed { tap, inputs, id_prefix } in &self.shadows {
            let Some(mut offered) = tap.buffer(rows.len()) else { continue };
            fill(&mut offered.matrix, batch, inputs, rows);
            offered.champion.clear();
            offered.logged.clear();
            offered.subjects.clear();
            for (index, row) in rows.iter().enumerate() {
                let row = *row as usize;
                // What stands in for a score is none of the champion's.
                let score = if self.reasons[row].is_some() { f32::NAN } else { slots.score(batch, row) };
                offered.champion.push(score);
                let position = batch.positions[row];
                if mix(batch.user_hashes[row], position).is_multiple_of(LOGGED_OF_ROWS) {
                    offered.logged.push((index, position.partition, position.offset));
                }
                if tap.wants_subjects() {
                    let user = batch.columns.texts.bytes(batch.users[row]);
                    offered.subjects.push(user, |to| write_id(id_prefix, position, to));
                }
            }
            tap.offer(offered);
        }
    }

    /// The arm that a row of the last batch fell to.
    pub(super) fn arm(&self, row: usize) -> usize {
        self.arms.get(row).copied().unwrap_or_default().into()
    }

    /// Why a row has no score of the model's, if so.
    pub(super) fn reason(&self, row: usize) -> Option<FallbackReason> {
        self.reasons[row]
    }

    /// The explanation of a row, and how it was made.
    pub(super) fn explanation(&self, row: usize) -> Option<(&Explainer, &Explanation)> {
        let at = self.explanations.binary_search_by_key(&(row as u32), |(row, _)| *row).ok()?;
        Some((&self.scorers[self.arm(row)].explaining.as_ref()?.explainer, &self.explanations[at].1))
    }
}

/// Where a model's features stand; those that are not declared are faults of `key`.
fn inputs(info: &ModelInfo, features: &[Feature], key: &str, faults: &mut Vec<Fault>) -> Vec<Slot> {
    let mut inputs = Vec::with_capacity(info.features.len());
    for name in &info.features {
        match features.iter().find(|feature| feature.name == *name) {
            Some(feature) => inputs.push(feature.slot),
            None => faults.push(Fault::new(key, format!("no feature is named {name:?}"))),
        }
    }
    inputs
}

fn explaining(spec: &ExplainSpec, info: &ModelInfo, faults: &mut Vec<Fault>) -> Option<Explaining> {
    if !spec.is_on() {
        return None;
    }
    let Some(baseline) = info.baseline.clone() else {
        faults.push(
            Fault::new("explain", format!("the model {} says no baseline to explain its scores from", info.name)).hint(
                "write the mean of the training rows into its metadata as aimpoint.baseline, a JSON array, as aimpoint train does",
            ),
        );
        return None;
    };
    match Explainer::new(spec, &info.features, baseline) {
        Ok(explainer) => Some(Explaining {
            explainer,
            // 1.0 becomes the largest number, and only a hash that is equal to it is missed.
            share: (spec.share * u64::MAX as f64) as u64,
            users: spec.users.iter().cloned().collect(),
        }),
        Err((key, message)) => {
            faults.push(Fault::new(key, message));
            None
        }
    }
}

/// A number that looks drawn and is the same at every try: the finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(user: u64, position: Position) -> u64 {
    let mut z =
        user ^ (position.offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(position.index).rotate_left(32);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Makes a matrix of some rows of a batch.
pub(super) fn fill(matrix: &mut FeatureMatrix, batch: &EventBatch, inputs: &[Slot], rows: &[u32]) {
    let width = inputs.len();
    let values = matrix.reset(rows.len());
    for (column, slot) in inputs.iter().enumerate() {
        let input = batch.columns.get(*slot).doubles();
        for (row, value) in rows.iter().zip(values[column..].iter_mut().step_by(width)) {
            // A float that only a double holds is no value for a model: ±inf would reach it otherwise.
            let narrow = input[*row as usize] as f32;
            *value = if narrow.is_finite() { narrow } else { f32::NAN };
        }
    }
}
