//! Permutation importance: how much worse the model gets if the values of one feature are shuffled (Breiman 2001, section 10;
//! Fisher, Rudin and Dominici 2019).
//!
//! Guarantees: uses the test rows only and no gradient; depends on the seed. Limits: 10,000 rows, fewer for more than about 280 features, and 5 shuffles per feature. Features
//! that say the same share their importance: if one is shuffled, the model still has the other.

use super::{Dataset, Network, TrainError};
use crate::{
    evaluation::{Prediction, auc, log_loss},
    inference::FeatureMatrix,
};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use serde::Serialize;

/// With 10,000 rows the mean of a log loss of about 0.5 is known to a hundredth, and more rows only cost time.
const ROWS_MAX: usize = 10_000;
/// A wide table has fewer rows: this many values are scored in all, unless these rows have more.
const VALUES_MAX: usize = 4_000_000_000;
const ROWS_MIN: usize = 500;
/// Number of shuffles, whose mean and spread are reported.
const REPEATS: usize = 5;

/// The importance of a feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Importance {
    /// The feature.
    pub feature: String,
    /// By how much the log loss rises, on average.
    pub log_loss: f64,
    /// The standard deviation over the shuffles.
    pub deviation: f64,
    /// By how much the AUC falls, on average; `None` if the rows have one label.
    pub auc: Option<f64>,
}

/// The importance of each feature in the test rows, the most important one first.
pub(super) fn importance(
    network: &Network,
    data: &Dataset,
    rows: &[usize],
    seed: u64,
) -> Result<Vec<Importance>, TrainError> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut rows = rows.to_vec();
    let width = data.features.len();
    let rows_max = (VALUES_MAX / (REPEATS * width * width).max(1)).clamp(ROWS_MIN, ROWS_MAX);
    if rows.len() > rows_max {
        rows.shuffle(&mut random);
        rows.truncate(rows_max);
    }
    let matrix = data.matrix(&rows);
    let measure = |matrix: &FeatureMatrix| -> Result<(f64, Option<f64>), TrainError> {
        let scores = network.score(matrix)?.into_iter().zip(&rows);
        let predictions: Vec<_> =
            scores.map(|(score, &row)| Prediction { probability: score.into(), label: data.labels[row] }).collect();
        Ok((log_loss(&predictions).unwrap_or(f64::NAN), auc(&predictions)))
    };
    let (loss, rank) = measure(&matrix)?;
    let mut found = Vec::with_capacity(width);
    let mut changed = FeatureMatrix::new(width);
    for (column, feature) in data.features.iter().enumerate() {
        let (mut losses, mut ranks) = (Vec::new(), Vec::new());
        for _ in 0..REPEATS {
            let mut order: Vec<usize> = (0..rows.len()).collect();
            order.shuffle(&mut random);
            let values = changed.reset(rows.len());
            values.copy_from_slice(matrix.values());
            for (row, &from) in order.iter().enumerate() {
                values[row * width + column] = matrix.row(from)[column];
            }
            let (shuffled_loss, shuffled_rank) = measure(&changed)?;
            losses.push(shuffled_loss - loss);
            ranks.extend(rank.zip(shuffled_rank).map(|(before, after)| before - after));
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let log_loss = mean(&losses);
        let deviation = mean(&losses.iter().map(|it| (it - log_loss).powi(2)).collect::<Vec<_>>()).sqrt();
        let auc = (!ranks.is_empty()).then(|| mean(&ranks));
        found.push(Importance { feature: feature.clone(), log_loss, deviation, auc });
    }
    found.sort_by(|a, b| b.log_loss.total_cmp(&a.log_loss));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Layer;

    #[test]
    fn a_feature_that_the_model_uses_is_important_and_another_is_not() {
        let hidden = Layer { weight: vec![3.0, 0.0], bias: vec![3.0] };
        let output = Layer { weight: vec![1.0], bias: vec![-3.0] };
        let network = Network { mean: vec![0.0; 2], deviation: vec![1.0; 2], branches: vec![vec![hidden, output]] };
        let mut data = Dataset { features: vec!["used".to_owned(), "idle".to_owned()], ..Dataset::default() };
        for row in 0..400 {
            let used = if row % 2 == 0 { 1.0 } else { -1.0 };
            data.values.extend([used, (row % 7) as f32]);
            data.labels.push(row % 2 == 0);
        }
        let rows: Vec<usize> = (0..400).collect();
        let found = importance(&network, &data, &rows, 1).unwrap();
        assert_eq!((found[0].feature.as_str(), found[1].feature.as_str()), ("used", "idle"));
        // Half of the rows keep their value by chance, so half of the pairs are ranked at random.
        assert!(found[0].log_loss > 0.5 && (found[0].auc.unwrap() - 0.5).abs() < 0.1, "{found:?}");
        assert_eq!((found[1].log_loss, found[1].deviation, found[1].auc), (0.0, 0.0, Some(0.0)));
        assert_eq!(found, importance(&network, &data, &rows, 1).unwrap());
    }
}
