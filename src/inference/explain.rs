//! Explains scores: the contribution of each feature, as Shapley values.
//!
//! In a coalition, the features in it have the user's values and the others have those of the baseline, the mean of the training
//! rows. A feature's part is its average effect on the score over all orders in which features can join the coalition (Shapley
//! 1953; Lundberg and Lee 2017 for models).
//!
//! Guarantees: the parts sum to the score minus the baseline's score, up to rounding. With at most [`EXACT_GROUPS_MAX`] groups they
//! are exact, from one run over 2^groups rows. With more, they are estimated from pairs of opposite permutations drawn from a seed,
//! so the same seed gives the same parts; if evaluating all coalitions takes no more rows, they are exact as well. A group that the
//! model ignores gets 0. In the exact form, equal features get equal parts.
//!
//! The cost is the number of rows, so duplicates are avoided where that is cheap. Groups whose values equal the baseline bit for
//! bit are left out, with 0 as their part. The baseline is one row for all explanations of a call. The permutations of a row share
//! its coalitions of one group, of all but one, and of all. Limits: 4,096 rows per run. Knows no users and uses no random source but
//! the seed.

use super::{FeatureMatrix, Model, ModelError};
use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum number of groups for exact explanations: 2^12 rows are one large batch.
pub const EXACT_GROUPS_MAX: usize = 12;

/// Maximum rows of a run.
const ROWS_MAX: usize = 1 << EXACT_GROUPS_MAX;

/// Maximum number of coalitions in memory, unless a single explanation has more: about ten megabytes.
const COALITIONS_MAX: usize = 1 << 20;

/// `[explain]`: which decisions are explained.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExplainSpec {
    /// The share of decisions that are explained, 0 to 1.
    pub share: f64,
    /// Users whose decisions are all explained.
    pub users: Vec<String>,
    /// Features that are explained together, by group name; every other feature is its own group.
    pub groups: BTreeMap<String, Vec<String>>,
    /// How many pairs of permutations are drawn if there are more than 12 groups.
    pub samples: usize,
}

impl Default for ExplainSpec {
    fn default() -> Self {
        Self { share: 0.0, users: Vec::new(), groups: BTreeMap::new(), samples: 32 }
    }
}

impl ExplainSpec {
    /// Whether any decision is explained.
    pub fn is_on(&self) -> bool {
        self.share > 0.0 || !self.users.is_empty()
    }
}

/// Features that are explained together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name: as configured, or that of its only feature.
    pub name: String,
    /// Its columns of the matrix.
    pub columns: Vec<usize>,
}

/// The contribution of each group to a score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// The score of the baseline.
    pub base: f64,
    /// The part of each group, in the explainer's order.
    pub parts: Vec<f64>,
}

/// Explains the scores of one model.
#[derive(Debug)]
pub struct Explainer {
    groups: Vec<Group>,
    baseline: Vec<f32>,
    samples: usize,
    coalitions: Coalitions,
    /// The row of the current coalition.
    current: Vec<f32>,
}

/// The rows of all coalitions of one call, and their scores.
#[derive(Debug)]
struct Coalitions {
    /// Rows without scores yet.
    matrix: FeatureMatrix,
    /// The scores of the rows before them.
    scores: Vec<f32>,
    /// The output of the last run: the main scores, then those of other heads.
    run: Vec<f32>,
}

impl Coalitions {
    /// Adds a row and returns the index of its score. Runs the model if the rows before it fill a run.
    fn push(&mut self, model: &mut dyn Model, row: &[f32]) -> Result<usize, ModelError> {
        if self.matrix.rows() == ROWS_MAX {
            self.run(model)?;
        }
        let place = self.scores.len() + self.matrix.rows();
        self.matrix.push(row);
        Ok(place)
    }

    fn run(&mut self, model: &mut dyn Model) -> Result<(), ModelError> {
        model.score(&self.matrix, &mut self.run)?;
        self.scores.extend(self.run.iter().take(self.matrix.rows()));
        self.matrix.reset(0);
        Ok(())
    }

    fn score(&self, place: usize) -> f64 {
        f64::from(self.scores[place])
    }
}

/// The index of the baseline, which comes first.
const BASE: usize = 0;

/// The indices of the scores of one explanation.
struct ScoreIndices {
    /// The groups whose values differ from the baseline.
    differing: Vec<usize>,
    coalitions: CoalitionIndices,
}

enum CoalitionIndices {
    /// All coalitions but the empty one, from this index on, in the order of Gray's code: each differs from the last by one group.
    All(usize),
    /// For each pair of permutations: the one drawn, and the indices of the coalitions along it and along its reverse.
    Walks { orders: Vec<usize>, steps: Vec<usize> },
}

/// The indices of coalitions shared by many permutations.
struct SharedCoalitions {
    /// Those of one group.
    of_one: Vec<Option<usize>>,
    /// Those of all groups but one.
    without_one: Vec<Option<usize>>,
    of_all: Option<usize>,
}

impl Explainer {
    /// Maps the groups to the model's features, with their baseline.
    ///
    /// # Errors
    /// A group names an unknown feature, or one of another group. Returns the key of the group and the reason.
    pub fn new(spec: &ExplainSpec, features: &[String], baseline: Vec<f32>) -> Result<Self, (String, String)> {
        let mut groups: Vec<Group> = Vec::new();
        let mut is_taken = vec![false; features.len()];
        for (name, members) in &spec.groups {
            let key = format!("explain.groups.{name}");
            let mut columns = Vec::with_capacity(members.len());
            for member in members {
                let column = features.iter().position(|feature| feature == member);
                let Some(column) = column else {
                    return Err((key, format!("the model has no feature {member:?}")));
                };
                if std::mem::replace(&mut is_taken[column], true) {
                    return Err((key, format!("{member:?} is already in another group")));
                }
                columns.push(column);
            }
            groups.push(Group { name: name.clone(), columns });
        }
        let alone = features.iter().enumerate().filter(|(column, _)| !is_taken[*column]);
        groups.extend(alone.map(|(column, name)| Group { name: name.clone(), columns: vec![column] }));
        let coalitions = Coalitions { matrix: FeatureMatrix::new(features.len()), scores: Vec::new(), run: Vec::new() };
        Ok(Self { groups, current: baseline.clone(), baseline, samples: spec.samples.max(1), coalitions })
    }

    /// The groups, in the order of the parts.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether the parts are always exact. For a row with few values that differ from the baseline they are exact anyway.
    pub fn is_exact(&self) -> bool {
        self.groups.len() <= EXACT_GROUPS_MAX
    }

    /// Explains the main score of one row.
    ///
    /// # Errors
    /// A run failed, or returned NaN.
    pub fn explain(&mut self, model: &mut dyn Model, row: &[f32], seed: u64) -> Result<Explanation, ModelError> {
        let explanation = self.explain_all(model, &[(row, seed)])?.swap_remove(0);
        explanation.ok_or_else(|| {
            let (model, reason) = (model.info().name.clone(), "a score is not a number".to_owned());
            ModelError::Run { model, rows: self.coalitions.scores.len(), reason }
        })
    }

    /// Explains the main scores of several rows, each with its seed, in as few runs as possible. A row has no explanation if one of
    /// its scores is NaN.
    ///
    /// # Errors
    /// A run failed.
    pub fn explain_all(
        &mut self,
        model: &mut dyn Model,
        rows: &[(&[f32], u64)],
    ) -> Result<Vec<Option<Explanation>>, ModelError> {
        let groups = self.groups.len();
        let coalitions = if self.is_exact() { 1 << groups } else { 2 * self.samples * (groups + 1) };
        let mut explanations = Vec::with_capacity(rows.len());
        for rows in rows.chunks((COALITIONS_MAX / coalitions).max(1)) {
            explanations.append(&mut self.explain_together(model, rows)?);
        }
        Ok(explanations)
    }

    fn explain_together(
        &mut self,
        model: &mut dyn Model,
        rows: &[(&[f32], u64)],
    ) -> Result<Vec<Option<Explanation>>, ModelError> {
        self.coalitions.matrix.reset(0);
        self.coalitions.scores.clear();
        self.coalitions.push(model, &self.baseline)?;
        let mut plans = Vec::with_capacity(rows.len());
        for (row, seed) in rows {
            plans.push(self.push_coalitions(model, row, *seed)?);
        }
        self.coalitions.run(model)?;
        let base = self.coalitions.score(BASE);
        Ok(plans.iter().map(|plan| explanation(base, self.parts(plan))).collect())
    }

    fn push_coalitions(&mut self, model: &mut dyn Model, row: &[f32], seed: u64) -> Result<ScoreIndices, ModelError> {
        let is_other = |column: &usize| row[*column].to_bits() != self.baseline[*column].to_bits();
        let groups = self.groups.iter().enumerate().filter(|(_, group)| group.columns.iter().any(is_other));
        let differing: Vec<usize> = groups.map(|(number, _)| number).collect();
        let count = differing.len();
        let walked = 2 * self.samples * count.saturating_sub(1) + 2;
        let coalitions = if self.is_exact() || count <= EXACT_GROUPS_MAX && 1 << count <= walked {
            self.all(model, row, &differing)?
        } else {
            self.walks(model, row, &differing, seed)?
        };
        Ok(ScoreIndices { differing, coalitions })
    }

    fn all(&mut self, model: &mut dyn Model, row: &[f32], differing: &[usize]) -> Result<CoalitionIndices, ModelError> {
        let Self { groups, baseline, coalitions, current, .. } = self;
        current.copy_from_slice(baseline);
        let mut start = None;
        for number in 1..1_usize << differing.len() {
            let flipped = number.trailing_zeros() as usize;
            let from = if gray(number) >> flipped & 1 == 1 { row } else { baseline.as_slice() };
            groups[differing[flipped]].columns.iter().for_each(|column| current[*column] = from[*column]);
            let place = coalitions.push(model, current)?;
            start.get_or_insert(place);
        }
        Ok(CoalitionIndices::All(start.unwrap_or(BASE)))
    }

    /// Each permutation walks from the baseline to the row. The change of the score when a group joins is its part in that
    /// permutation, so the parts sum to the whole. Permutations come in pairs, one drawn and its reverse.
    fn walks(
        &mut self,
        model: &mut dyn Model,
        row: &[f32],
        differing: &[usize],
        seed: u64,
    ) -> Result<CoalitionIndices, ModelError> {
        let count = differing.len();
        let mut random = SmallRng::seed_from_u64(seed);
        let mut order: Vec<usize> = (0..count).collect();
        let mut shared = SharedCoalitions { of_one: vec![None; count], without_one: vec![None; count], of_all: None };
        let mut orders = Vec::with_capacity(self.samples * count);
        let mut steps = Vec::with_capacity(2 * self.samples * (count + 1));
        for _ in 0..self.samples {
            order.shuffle(&mut random);
            orders.extend_from_slice(&order);
            self.walk(model, row, differing, &order, &mut shared, &mut steps)?;
            order.reverse();
            self.walk(model, row, differing, &order, &mut shared, &mut steps)?;
        }
        Ok(CoalitionIndices::Walks { orders, steps })
    }

    fn walk(
        &mut self,
        model: &mut dyn Model,
        row: &[f32],
        differing: &[usize],
        order: &[usize],
        shared: &mut SharedCoalitions,
        steps: &mut Vec<usize>,
    ) -> Result<(), ModelError> {
        let Self { groups, baseline, coalitions, current, .. } = self;
        let [.., last] = *order else { return Ok(()) };
        current.copy_from_slice(baseline);
        steps.push(BASE);
        for (number, group) in (1..).zip(order) {
            groups[differing[*group]].columns.iter().for_each(|column| current[*column] = row[*column]);
            let known = if number == order.len() {
                &mut shared.of_all
            } else if number == 1 {
                &mut shared.of_one[*group]
            } else if number + 1 == order.len() {
                &mut shared.without_one[last]
            } else {
                &mut None
            };
            let place = match *known {
                Some(place) => place,
                None => *known.insert(coalitions.push(model, current)?),
            };
            steps.push(place);
        }
        Ok(())
    }

    /// The part of each group, once all scores are known.
    fn parts(&self, plan: &ScoreIndices) -> Vec<f64> {
        let score = |place: usize| self.coalitions.score(place);
        let count = plan.differing.len();
        let mut parts = vec![0.0; self.groups.len()];
        match &plan.coalitions {
            CoalitionIndices::All(start) => {
                let mut scores = vec![score(BASE); 1 << count];
                (1..scores.len()).for_each(|number| scores[gray(number)] = score(start + number - 1));
                let weights = weights(count);
                for (bit, group) in plan.differing.iter().enumerate() {
                    for above in (0..scores.len()).step_by(2 << bit) {
                        for without in above..above + (1 << bit) {
                            let gain = scores[without | 1 << bit] - scores[without];
                            parts[*group] += weights[without.count_ones() as usize] * gain;
                        }
                    }
                }
            }
            CoalitionIndices::Walks { orders, steps } => {
                for (order, steps) in orders.chunks_exact(count).zip(steps.chunks_exact(2 * (count + 1))) {
                    let (there, reverse) = steps.split_at(count + 1);
                    let gains = order.iter().zip(there.windows(2));
                    for (group, pair) in gains.chain(order.iter().rev().zip(reverse.windows(2))) {
                        parts[plan.differing[*group]] += score(pair[1]) - score(pair[0]);
                    }
                }
                let walks = (2 * self.samples) as f64;
                for part in &mut parts {
                    *part /= walks;
                }
            }
        }
        parts
    }
}

/// The coalition at this position of Gray's code, as bits.
fn gray(number: usize) -> usize {
    number ^ number >> 1
}

/// The weight of joining a coalition S, by its size: |S|! (M - |S| - 1)! / M!, computed incrementally.
fn weights(count: usize) -> Vec<f64> {
    let mut weights = vec![1.0 / count.max(1) as f64; count];
    for size in 1..count {
        weights[size] = weights[size - 1] * size as f64 / (count - size) as f64;
    }
    weights
}

/// The explanation, unless a part is NaN because of a score that was.
fn explanation(base: f64, parts: Vec<f64>) -> Option<Explanation> {
    (base.is_finite() && parts.iter().all(|part| part.is_finite())).then_some(Explanation { base, parts })
}

#[cfg(all(test, feature = "testkit"))]
mod tests;
