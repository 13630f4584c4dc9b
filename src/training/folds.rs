//! Evaluation by time: the same training on ever more of the past, tested on what came next.
//!
//! Guarantees: no row of a fold's test rows is older than one that it was trained on; the folds say nothing about the model that is
//! written, which is trained as without them. Limits: one training for each fold.

use super::{Dataset, Epoch, Inspection, Split, TrainError, TrainSpec, split::units, train_on};
use crate::evaluation::Summary;
use serde::Serialize;

/// The figures of a fold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fold {
    /// How many rows it was trained on, with those that decide when to stop.
    pub trained_on: usize,
    /// The model's metrics on the rows that came next; `None` if the rows before them have one label.
    pub model: Option<Summary>,
    /// Those of the logistic regression.
    pub logistic: Option<Summary>,
}

/// Trains and tests on `count` folds.
///
/// # Errors
/// The rows have no times, there are too few for the folds, or training failed.
pub fn folds(
    data: &Dataset,
    spec: &TrainSpec,
    count: usize,
    mut progress: impl FnMut(Epoch),
) -> Result<Vec<Fold>, TrainError> {
    let mut found = Vec::with_capacity(count);
    for split in splits(data, count)? {
        let trained_on = split.train.len() + split.validation.len();
        found.push(match train_on(data, (spec, None), &split, Inspection::Skipped, &mut progress) {
            Ok(trained) => {
                let summary =
                    |parts: &[super::Part], name| parts.iter().find(|it| it.name == name).map(|it| it.summary);
                let model = summary(&trained.parts, "test");
                Fold { trained_on, model, logistic: summary(&trained.measured.baselines, "logistic") }
            }
            Err(TrainError::OneClass { .. }) => Fold { trained_on, model: None, logistic: None },
            Err(error) => return Err(error),
        });
    }
    Ok(found)
}

/// The rows by time in one block more than folds: each fold has another block to be tested on, and all before it to learn from, the
/// last 18 % of them (15 of 85, as without folds) for validation.
fn splits(data: &Dataset, count: usize) -> Result<Vec<Split>, TrainError> {
    let Some(times) = &data.times else {
        let (expected, found) = ("used with rows that have times", "rows without; name their column with --time");
        return Err(TrainError::Spec { key: "folds", expected, found: found.to_owned() });
    };
    let mut units = units(data);
    if units.len() < (count + 1) * UNITS_MIN {
        let found = format!("{count} folds of {} rows or groups", units.len());
        let expected = "so few that each has at least 10 rows or groups";
        return Err(TrainError::Spec { key: "folds", expected, found });
    }
    let oldest = |unit: &Vec<usize>| unit.iter().map(|&row| times[row]).fold(f64::INFINITY, f64::min);
    units.sort_by(|a, b| oldest(a).total_cmp(&oldest(b)));
    let edge = |block: usize| block * units.len() / (count + 1);
    let split = |fold: usize| {
        let known = &units[..edge(fold)];
        let (train, validation) = known.split_at(known.len() * 70 / 85);
        // A group that began earlier may go on for longer.
        let begin = oldest(&units[edge(fold)]);
        let past = |units: &[Vec<usize>]| units.iter().flatten().copied().filter(|&row| times[row] <= begin).collect();
        Split {
            how: "time",
            train: past(train),
            validation: past(validation),
            test: units[edge(fold)..edge(fold + 1)].concat(),
        }
    };
    Ok((1..=count).map(split).collect())
}

/// Minimum number of rows or groups in a block.
const UNITS_MIN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn data(rows: usize) -> Dataset {
        let mut data = Dataset { features: vec!["a".to_owned()], times: Some(Vec::new()), ..Dataset::default() };
        for row in 0..rows {
            let a = (row * 37 % 101) as f32;
            data.values.push(a);
            // The last row is the oldest, and the labels are 0 in the first quarter of the time.
            let time = rows - 1 - row;
            data.labels.push(time >= rows / 4 && a > 50.0);
            data.times.as_mut().unwrap().push(time as f64);
        }
        data
    }

    #[test]
    fn each_fold_learns_from_all_that_came_before_its_test_rows() {
        let data = data(400);
        let splits = splits(&data, 3).unwrap();
        let sizes: Vec<_> = splits.iter().map(|it| [it.train.len(), it.validation.len(), it.test.len()]).collect();
        assert_eq!(sizes, [[82, 18, 100], [164, 36, 100], [247, 53, 100]]);
        let times = data.times.as_ref().unwrap();
        let newest = |rows: &[usize]| rows.iter().map(|&row| times[row]).fold(f64::NEG_INFINITY, f64::max);
        let oldest = |rows: &[usize]| rows.iter().map(|&row| times[row]).fold(f64::INFINITY, f64::min);
        for split in &splits {
            assert!(
                newest(&split.train) < oldest(&split.validation) && newest(&split.validation) < oldest(&split.test)
            );
        }
    }

    #[test]
    fn what_a_group_does_later_is_not_learned_from() {
        // Each group has a row in every tenth of the time.
        let mut data = data(400);
        data.groups = Some((0..400).map(|row| format!("g{}", row % 40)).collect());
        let times = data.times.as_ref().unwrap();
        for split in splits(&data, 3).unwrap() {
            let begin = split.test.iter().map(|&row| times[row]).fold(f64::INFINITY, f64::min);
            let known = split.train.iter().chain(&split.validation);
            assert!(!split.train.is_empty() && known.clone().all(|&row| times[row] <= begin));
        }
    }

    #[test]
    fn folds_have_figures_unless_their_past_has_one_label() {
        let data = data(400);
        let spec = TrainSpec { members: 1, epochs_max: 30, ..TrainSpec::default() };
        let found = folds(&data, &spec, 3, |_| {}).unwrap();
        assert_eq!(found.iter().map(|fold| fold.trained_on).collect::<Vec<_>>(), [100, 200, 300]);
        let known: Vec<_> = found.iter().map(|fold| fold.model.is_some()).collect();
        assert_eq!(known, [false, true, true]);
        assert!(found[2].model.unwrap().auc.unwrap() > 0.9, "{found:?}");
        assert_eq!(found[2].model.unwrap().count, 100);
        assert!(found[2].logistic.is_some());
    }

    #[test]
    fn folds_need_times_and_enough_rows() {
        let error = folds(&Dataset { times: None, ..data(100) }, &TrainSpec::default(), 3, |_| {}).unwrap_err();
        assert!(error.to_string().contains("name their column with --time"), "{error}");
        let error = folds(&data(30), &TrainSpec::default(), 3, |_| {}).unwrap_err();
        assert!(error.to_string().contains("found 3 folds of 30 rows"), "{error}");
    }
}
