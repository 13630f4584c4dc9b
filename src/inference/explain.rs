//! Explanations: what each feature adds to a score, by Shapley's value.
//!
//! A coalition of features takes the user's values and the others take the baseline's, which is the mean of the training
//! rows; a feature's part is what it adds to the model's score on average over all orders in which features may join
//! (Shapley 1953; Lundberg and Lee 2017 for models).
//!
//! Guarantees: the parts sum to the score minus the baseline's score, but for the rounding of a float; with at most
//! [`EXACT_GROUPS_MAX`] groups they are exact, from one run over 2^groups rows; beyond, they come from pairs of opposite orders
//! that a seed draws, so the same seed gives the same parts. A group that the model ignores gets 0, and in the exact form
//! equal twins get equal parts. Limits: 4,096 rows a run. Nothing here knows users or draws at random.

use super::{FeatureMatrix, Model, ModelError};
use rand::{SeedableRng, rngs::SmallRng, seq::SliceRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most groups that are explained exactly: 2^12 rows are one large batch.
pub const EXACT_GROUPS_MAX: usize = 12;

/// The most rows of one run.
const ROWS_MAX: usize = 1 << EXACT_GROUPS_MAX;

/// `[explain]`: which decisions say why.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExplainSpec {
    /// The share of decisions that are explained, 0 to 1.
    pub share: f64,
    /// Users whose decisions are all explained.
    pub users: Vec<String>,
    /// Features that are explained together, by the name of their group; each other feature is a group of its own.
    pub groups: BTreeMap<String, Vec<String>>,
    /// How many pairs of orders are drawn where there are more than 12 groups.
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
    /// Its name: the declared one, or its one feature's.
    pub name: String,
    /// Its columns of the matrix.
    pub columns: Vec<usize>,
}

/// What each group adds to a score.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Explanation {
    /// The score of the baseline.
    pub base: f64,
    /// The part of each group, in the explainer's order.
    pub parts: Vec<f64>,
}

/// Explains scores of one model.
#[derive(Debug)]
pub struct Explainer {
    groups: Vec<Group>,
    baseline: Vec<f32>,
    samples: usize,
    /// By the size of a coalition: the weight of what joins it.
    weights: Vec<f64>,
    order: Vec<usize>,
    matrix: FeatureMatrix,
    scores: Vec<f32>,
}

impl Explainer {
    /// Lays out the groups over a model's features, and takes their baseline.
    ///
    /// # Errors
    /// A group names a feature that the model does not have, or that another group has. The key of the group comes first.
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
                    return Err((key, format!("{member:?} is in another group already")));
                }
                columns.push(column);
            }
            groups.push(Group { name: name.clone(), columns });
        }
        let alone = features.iter().enumerate().filter(|(column, _)| !is_taken[*column]);
        groups.extend(alone.map(|(column, name)| Group { name: name.clone(), columns: vec![column] }));
        let count = groups.len();
        // |S|! (M - |S| - 1)! / M!, by one multiplication a step.
        let mut weights = vec![1.0 / count.max(1) as f64; count];
        for size in 1..count {
            weights[size] = weights[size - 1] * size as f64 / (count - size) as f64;
        }
        Ok(Self {
            order: (0..count).collect(),
            matrix: FeatureMatrix::new(features.len()),
            scores: Vec::new(),
            samples: spec.samples.max(1),
            groups,
            baseline,
            weights,
        })
    }

    /// The groups, in the order of the parts.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Whether the parts are exact.
    pub fn is_exact(&self) -> bool {
        self.groups.len() <= EXACT_GROUPS_MAX
    }

    /// Explains the main score of one row.
    ///
    /// # Errors
    /// A run failed, or gave a score that is no number.
    pub fn explain(&mut self, model: &mut dyn Model, row: &[f32], seed: u64) -> Result<Explanation, ModelError> {
        let explanation = self.explain_all(model, &[(row, seed)])?.swap_remove(0);
        explanation.ok_or_else(|| {
            let (model, reason) = (model.info().name.clone(), "a score is not a number".to_owned());
            ModelError::Run { model, rows: self.matrix.rows(), reason }
        })
    }

    /// Explains the main scores of several rows, each with its seed, in as few runs as they fit into. A row has no explanation
    /// where a score on its way is no number.
    ///
    /// # Errors
    /// A run failed.
    pub fn explain_all(
        &mut self,
        model: &mut dyn Model,
        rows: &[(&[f32], u64)],
    ) -> Result<Vec<Option<Explanation>>, ModelError> {
        if self.is_exact() { self.exact(model, rows) } else { self.sampled(model, rows) }
    }

    fn exact(&mut self, model: &mut dyn Model, rows: &[(&[f32], u64)]) -> Result<Vec<Option<Explanation>>, ModelError> {
        let count = self.groups.len();
        let coalitions = 1_usize << count;
        let width = self.baseline.len();
        let mut explanations = Vec::with_capacity(rows.len());
        for some in rows.chunks(ROWS_MAX / coalitions) {
            let values = self.matrix.reset(some.len() * coalitions);
            for ((row, _), values) in some.iter().zip(values.chunks_exact_mut((coalitions * width).max(1))) {
                values[..width].copy_from_slice(&self.baseline);
                // The coalitions with a group are those before it once more, and the group's values.
                for (number, group) in self.groups.iter().enumerate() {
                    let half = width << number;
                    values.copy_within(..half, half);
                    for coalition in values[half..2 * half].chunks_exact_mut(width) {
                        group.columns.iter().for_each(|column| coalition[*column] = row[*column]);
                    }
                }
            }
            self.run(model)?;
            for scores in self.scores.chunks_exact(coalitions) {
                let score = |coalition: usize| f64::from(scores[coalition]);
                let mut parts = vec![0.0; count];
                for (group, part) in parts.iter_mut().enumerate() {
                    for without in (0..coalitions).filter(|coalition| coalition >> group & 1 == 0) {
                        let gain = score(without | 1 << group) - score(without);
                        *part += self.weights[without.count_ones() as usize] * gain;
                    }
                }
                explanations.push(explanation(score(0), parts));
            }
        }
        Ok(explanations)
    }

    /// Each pair of orders, one drawn and its reverse, walks from the baseline to the row: what a group changes on its way in
    /// is its part in that order, so each order's parts sum to the whole.
    fn sampled(
        &mut self,
        model: &mut dyn Model,
        rows: &[(&[f32], u64)],
    ) -> Result<Vec<Option<Explanation>>, ModelError> {
        let (count, width) = (self.groups.len(), self.baseline.len());
        let (steps, walks) = (count + 1, 2 * self.samples);
        let mut orders: Vec<(usize, Vec<usize>)> = Vec::with_capacity(rows.len() * walks);
        for (number, (_, seed)) in rows.iter().enumerate() {
            let mut random = SmallRng::seed_from_u64(*seed);
            for _ in 0..self.samples {
                self.order.sort_unstable();
                self.order.shuffle(&mut random);
                orders.push((number, self.order.clone()));
                orders.push((number, self.order.iter().rev().copied().collect()));
            }
        }
        let mut explanations = vec![Explanation { base: 0.0, parts: vec![0.0; count] }; rows.len()];
        for some in orders.chunks((ROWS_MAX / steps).max(1)) {
            let values = self.matrix.reset(some.len() * steps);
            for ((number, order), walk) in some.iter().zip(values.chunks_exact_mut(steps * width)) {
                let (row, _) = rows[*number];
                walk[..width].copy_from_slice(&self.baseline);
                for (step, group) in order.iter().enumerate() {
                    walk.copy_within(step * width..(step + 1) * width, (step + 1) * width);
                    let values = &mut walk[(step + 1) * width..];
                    self.groups[*group].columns.iter().for_each(|column| values[*column] = row[*column]);
                }
            }
            self.run(model)?;
            for ((number, order), walk) in some.iter().zip(self.scores.chunks_exact(steps)) {
                let explanation = &mut explanations[*number];
                explanation.base = f64::from(walk[0]);
                for (group, pair) in order.iter().zip(walk.windows(2)) {
                    explanation.parts[*group] += (f64::from(pair[1]) - f64::from(pair[0])) / walks as f64;
                }
            }
        }
        Ok(explanations.into_iter().map(|it| explanation(it.base, it.parts)).collect())
    }

    fn run(&mut self, model: &mut dyn Model) -> Result<(), ModelError> {
        model.score(&self.matrix, &mut self.scores)?;
        let rows = self.matrix.rows();
        self.scores.truncate(rows);
        Ok(())
    }
}

/// An explanation, if it is all numbers: one score that is none makes a part of it none, too.
fn explanation(base: f64, parts: Vec<f64>) -> Option<Explanation> {
    (base.is_finite() && parts.iter().all(|part| part.is_finite())).then_some(Explanation { base, parts })
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::testkit::FakeModel;
    use rand::Rng;

    const NAMES: [&str; 16] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];

    fn explainer(features: usize, spec: &ExplainSpec, baseline: &[f32]) -> Explainer {
        let names: Vec<String> = NAMES[..features].iter().map(|&name| name.to_owned()).collect();
        Explainer::new(spec, &names, baseline.to_vec()).expect("the groups fit")
    }

    /// Products, a threshold and a sigmoid: no feature's part is its own alone.
    fn tangled(row: &[f32]) -> f32 {
        let z = row[0] * row[1] - row[2] + if row[0] > 0.5 { row[3] } else { 0.0 };
        1.0 / (1.0 + (-z).exp())
    }

    fn score_of(model: &mut FakeModel, row: &[f32]) -> f64 {
        let mut matrix = FeatureMatrix::new(row.len());
        matrix.reset(1).copy_from_slice(row);
        let mut scores = Vec::new();
        model.score(&matrix, &mut scores).expect("the fake model scores");
        f64::from(scores[0])
    }

    /// By definition: the mean over all orders of what a feature changes when it joins.
    fn by_definition(model: &mut FakeModel, row: &[f32], baseline: &[f32]) -> Vec<f64> {
        fn orders(left: &[usize]) -> Vec<Vec<usize>> {
            if left.is_empty() {
                return vec![Vec::new()];
            }
            let first = |&first: &usize| {
                let rest: Vec<usize> = left.iter().copied().filter(|it| *it != first).collect();
                orders(&rest).into_iter().map(move |rest| [vec![first], rest].concat())
            };
            left.iter().flat_map(first).collect()
        }
        let all: Vec<usize> = (0..row.len()).collect();
        let all = orders(&all);
        let mut parts = vec![0.0; row.len()];
        for order in &all {
            let mut now = baseline.to_vec();
            for feature in order {
                let before = score_of(model, &now);
                now[*feature] = row[*feature];
                parts[*feature] += (score_of(model, &now) - before) / all.len() as f64;
            }
        }
        parts
    }

    #[test]
    fn exact_parts_are_those_of_the_definition_and_sum_to_the_score() {
        let mut random = SmallRng::seed_from_u64(1);
        let mut model = FakeModel::new(&NAMES[..5], tangled);
        for _ in 0..20 {
            let mut draw = || -> Vec<f32> { (0..5).map(|_| random.random_range(-2.0..2.0)).collect() };
            let (row, baseline) = (draw(), draw());
            let mut it = explainer(5, &ExplainSpec::default(), &baseline);
            let Explanation { base, parts } = it.explain(&mut model, &row, 0).unwrap();
            let expected = by_definition(&mut model, &row, &baseline);
            for (part, expected) in parts.iter().zip(&expected) {
                assert!((part - expected).abs() < 1e-9, "{parts:?} {expected:?}");
            }
            assert_eq!(parts[4], 0.0, "the model ignores the last one");
            let sum: f64 = base + parts.iter().sum::<f64>();
            assert!((sum - score_of(&mut model, &row)).abs() < 1e-5);
            assert!((base - score_of(&mut model, &baseline)).abs() < 1e-9);
        }
    }

    #[test]
    fn a_linear_model_s_parts_are_its_weights_times_the_distance_exact_or_sampled() {
        for features in [3, 12, 13, 16] {
            let weight = |feature: usize| feature as f32 - 4.0;
            let linear =
                move |row: &[f32]| row.iter().enumerate().map(|(at, value)| weight(at) * value).sum::<f32>() / 16.0;
            let mut model = FakeModel::new(&NAMES[..features], linear);
            let row: Vec<f32> = (0..features).map(|at| (at * 7 % 5) as f32 - 1.5).collect();
            let baseline = vec![0.25; features];
            let mut it = explainer(features, &ExplainSpec { samples: 300, ..ExplainSpec::default() }, &baseline);
            assert_eq!(it.is_exact(), features <= EXACT_GROUPS_MAX);
            let control = model.control();
            let explanation = it.explain(&mut model, &row, 5).unwrap();
            assert!(it.is_exact() == (control.runs() == 1), "{} runs", control.runs());
            for (at, part) in explanation.parts.iter().enumerate() {
                let expected = f64::from(weight(at) * (row[at] - 0.25) / 16.0);
                assert!((part - expected).abs() < 1e-5, "{features} {at}: {part} {expected}");
            }
            assert_eq!(it.explain(&mut model, &row, 5).unwrap(), explanation, "the same seed, the same parts");
        }
    }

    #[test]
    fn rows_that_are_explained_together_get_what_each_gets_alone_in_fewer_runs() {
        for (features, runs) in [(4, 1), (12, 20), (13, 4)] {
            let mut model = FakeModel::new(&NAMES[..features], tangled);
            let spec = ExplainSpec { samples: 25, ..ExplainSpec::default() };
            let mut it = explainer(features, &spec, &vec![0.1; features]);
            let mut random = SmallRng::seed_from_u64(2);
            let mut draw = || (0..features).map(|_| random.random_range(-2.0..2.0)).collect();
            let rows: Vec<Vec<f32>> = (0..20).map(|_| draw()).collect();
            let seeded: Vec<(&[f32], u64)> = rows.iter().zip(40..).map(|(row, seed)| (row.as_slice(), seed)).collect();
            let control = model.control();
            let together = it.explain_all(&mut model, &seeded).unwrap();
            assert_eq!(control.runs(), runs, "{features} features");
            for ((row, seed), together) in seeded.iter().zip(&together) {
                assert_eq!(Some(&it.explain(&mut model, row, *seed).unwrap()), together.as_ref());
            }
        }
    }

    #[test]
    fn equal_twins_get_equal_parts() {
        let mut model = FakeModel::new(&NAMES[..4], |row| (row[1] + row[2]).tanh() * row[0]);
        let mut it = explainer(4, &ExplainSpec::default(), &[0.1, 0.2, 0.2, 0.0]);
        let parts = it.explain(&mut model, &[1.0, 0.7, 0.7, 3.0], 0).unwrap().parts;
        assert!((parts[1] - parts[2]).abs() < 1e-9 && parts[1] > 0.1, "{parts:?}");
        assert_eq!(parts[3], 0.0);
    }

    #[test]
    fn sampled_parts_come_near_the_exact_ones_and_sum_to_the_score() {
        let mut model = FakeModel::new(&NAMES[..14], tangled);
        let (mut row, baseline) = ([0.0; 14], [0.0; 14]);
        row[..4].copy_from_slice(&[0.9, 1.5, 0.4, 0.8]);
        let groups = BTreeMap::from([("rest".to_owned(), NAMES[4..14].iter().map(|&it| it.to_owned()).collect())]);
        let mut exact = explainer(14, &ExplainSpec { groups, ..ExplainSpec::default() }, &baseline);
        let exact = exact.explain(&mut model, &row, 0).unwrap();
        let mut sampled = explainer(14, &ExplainSpec { samples: 500, ..ExplainSpec::default() }, &baseline);
        let sampled = sampled.explain(&mut model, &row, 9).unwrap();
        for feature in 0..4 {
            // The group comes first.
            let (expected, found) = (exact.parts[feature + 1], sampled.parts[feature]);
            assert!((expected - found).abs() < 0.02, "{exact:?} {sampled:?}");
        }
        assert_eq!((exact.parts[0], &sampled.parts[4..]), (0.0, &[0.0; 10][..]));
        let sum = sampled.base + sampled.parts.iter().sum::<f64>();
        assert!((sum - score_of(&mut model, &row)).abs() < 1e-5);
    }

    #[test]
    fn wrong_groups_are_told_of() {
        let names = ["a".to_owned(), "b".to_owned()];
        let spec = |groups: &[(&str, &[&str])]| ExplainSpec {
            groups: groups
                .iter()
                .map(|(name, of)| ((*name).to_owned(), of.iter().map(|&it| it.to_owned()).collect()))
                .collect(),
            ..ExplainSpec::default()
        };
        for (groups, part) in
            [(&[("x", &["c"][..])][..], "no feature \"c\""), (&[("x", &["a"]), ("y", &["a"])], "another group")]
        {
            let (key, message) = Explainer::new(&spec(groups), &names, vec![0.0; 2]).unwrap_err();
            assert!(key.starts_with("explain.groups.") && message.contains(part), "{key} {message}");
        }
    }

    #[test]
    fn a_model_that_fails_or_says_nan_explains_nothing() {
        let mut model = FakeModel::new(&NAMES[..2], |_| f32::NAN);
        let mut it = explainer(2, &ExplainSpec::default(), &[0.0, 0.0]);
        assert!(it.explain(&mut model, &[1.0, 1.0], 0).is_err());
        // Of rows that are explained together it is that row alone.
        let mut model = FakeModel::new(&NAMES[..2], |row| if row[1] > 1.0 { f32::NAN } else { row[0] });
        let told = it.explain_all(&mut model, &[(&[1.0, 0.5], 0), (&[1.0, 2.0], 0), (&[0.5, 0.5], 0)]).unwrap();
        assert_eq!(told.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    }
}
