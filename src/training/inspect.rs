//! Looks for faults in rows that training would not notice.
//!
//! Owns the checks for features that tell the label, outliers that hide all other values, features without any value, and rows that
//! occur twice. Guarantees: finds them in the rows that the model is trained on, and changes nothing. Limits: leaks and outliers are
//! looked for in 100,000 of the rows, evenly spread.

use super::{Dataset, Note, Split};
use crate::evaluation::{Prediction, auc};
use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

/// A feature that ranks the rows this well alone is almost certainly made of the outcome.
const TELLS: f64 = 0.995;
/// With 10 rows of each label, a feature of chance ranks them all in the right order once in 90,000 times.
const ROWS_OF_LABEL_MIN: usize = 10;
/// Maximum number of rows that leaks and outliers are looked for in.
const ROWS_MAX: usize = 100_000;
/// Values within less than this share of a standard deviation are the same to a network.
const SAME: f64 = 1e-3;

/// What is found.
pub(super) fn inspect(data: &Dataset, split: &Split, learned: &[usize], constant: &[bool], notes: &mut Vec<Note>) {
    let rows: Vec<usize> = learned.iter().copied().step_by(learned.len().div_ceil(ROWS_MAX).max(1)).collect();
    let column = |at: usize| rows.iter().map(move |&row| data.values[row * data.features.len() + at]);
    let named = |at: usize| data.features[at].clone();
    let all = || 0..data.features.len();
    let (absent, same): (Vec<usize>, Vec<usize>) =
        all().filter(|&at| constant[at]).partition(|&at| !learned.iter().any(|&row| value(data, row, at).is_finite()));
    for (features, note) in [
        (absent, (|features| Note::Absent { features }) as fn(Vec<String>) -> Note),
        (same, |features| Note::Constant { features }),
    ] {
        if !features.is_empty() {
            notes.push(note(features.into_iter().map(named).collect()));
        }
    }
    let positives = rows.iter().filter(|&&row| data.labels[row]).count();
    let can_tell = positives.min(rows.len() - positives) >= ROWS_OF_LABEL_MIN;
    for at in all().filter(|&at| !constant[at]) {
        if can_tell && let Some(auc) = ranks(column(at), rows.iter().map(|&row| data.labels[row])) {
            notes.push(Note::Leak { feature: named(at), auc });
        }
        if let Some((largest, usual)) = hidden(column(at)) {
            notes.push(Note::Outlier { feature: named(at), largest, usual });
        }
    }
    if let Some((copies, in_test)) = copies(data, split) {
        notes.push(Note::Copies { copies, in_test, rows: data.rows() });
    }
}

fn value(data: &Dataset, row: usize, column: usize) -> f32 {
    data.values[row * data.features.len() + column]
}

/// The AUC of a feature, either way round, if it tells the label. A missing value ranks as the mean, as in the network, or below all
/// others, because that a value is missing may tell the label too.
fn ranks(values: impl Iterator<Item = f32>, labels: impl Iterator<Item = bool>) -> Option<f64> {
    let values: Vec<(f64, bool)> = values.map(f64::from).zip(labels).collect();
    let finite = || values.iter().map(|(value, _)| *value).filter(|value| value.is_finite());
    let mean = finite().sum::<f64>() / finite().count() as f64;
    let by = |missing: f64| {
        let prediction = |&(value, label): &(f64, bool)| Prediction {
            probability: if value.is_finite() { value } else { missing },
            label,
        };
        let auc = auc(&values.iter().map(prediction).collect::<Vec<_>>())?;
        Some(auc.max(1.0 - auc))
    };
    let best = by(mean)?.max(by(f64::NEG_INFINITY)?);
    (best >= TELLS).then_some(best)
}

/// The largest value and the range of the usual ones, if the largest are so large that the usual ones are all the same once scaled.
fn hidden(values: impl Iterator<Item = f32>) -> Option<(f64, [f64; 2])> {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).map(f64::from).collect();
    values.sort_by(f64::total_cmp);
    let count = values.len();
    let (first, last) = (*values.first()?, *values.last()?);
    let mean = values.iter().sum::<f64>() / count as f64;
    let deviation = (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count as f64).sqrt();
    // All but the outer percent on each side, and at least one value on each side, which may be the outlier.
    let cut = count.div_ceil(100);
    let usual = [*values.get(cut)?, *values.get(count.checked_sub(cut + 1)?)?];
    let width = usual[1] - usual[0];
    let largest = if last.abs() >= first.abs() { last } else { first };
    (width > 0.0 && width < SAME * deviation).then_some((largest, usual))
}

/// How many rows are copies of earlier ones, and how many of the test rows are copies of rows that were trained on. `None` if
/// there are none, or if most rows are copies because their few features have few values.
fn copies(data: &Dataset, split: &Split) -> Option<(usize, usize)> {
    let width = data.features.len();
    let state = RandomState::new();
    let hash = |row: usize| {
        let bits: Vec<u32> = data.values[row * width..(row + 1) * width].iter().map(|value| value.to_bits()).collect();
        let time = data.times.as_ref().map(|times| times[row].to_bits());
        state.hash_one((bits, data.labels[row], time, data.groups.as_ref().map(|groups| &groups[row])))
    };
    let mut learned: HashSet<u64> = HashSet::with_capacity(data.rows());
    let mut copies = 0;
    for &row in split.train.iter().chain(&split.validation) {
        copies += usize::from(!learned.insert(hash(row)));
    }
    let (mut in_test, mut tested) = (0, HashSet::with_capacity(split.test.len()));
    for &row in &split.test {
        let hash = hash(row);
        let is_known = learned.contains(&hash);
        in_test += usize::from(is_known);
        copies += usize::from(!tested.insert(hash) || is_known);
    }
    let is_coarse = data.times.is_none() && copies * 2 > data.rows();
    (copies > 0 && !is_coarse).then_some((copies, in_test))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(names: &[&str], row: impl Fn(usize) -> Vec<f32>) -> Vec<String> {
        let mut data = Dataset { features: names.iter().map(|&name| name.to_owned()).collect(), ..Dataset::default() };
        for at in 0..200 {
            data.values.extend(row(at));
            data.labels.push(at.is_multiple_of(5));
        }
        let split = Split::of(&data, 1);
        let learned = [&split.train[..], &split.validation].concat();
        let mut notes = Vec::new();
        inspect(&data, &split, &learned, &vec![false; names.len()], &mut notes);
        notes.iter().map(ToString::to_string).collect()
    }

    /// A value that says nothing and never occurs twice.
    fn noise(at: usize) -> f32 {
        (at * 7_919 % 997) as f32
    }

    #[test]
    fn features_that_tell_the_label_are_named_whatever_their_direction() {
        let label = |at: usize| at.is_multiple_of(5);
        let found = notes(&["noise", "up", "down", "gap"], |at| {
            let sign = if label(at) { 1.0 } else { -1.0 };
            vec![noise(at), sign, -3.0 * sign, if label(at) { noise(at) } else { f32::NAN }]
        });
        assert_eq!(found.len(), 3, "{found:?}");
        for name in ["\"up\"", "\"down\"", "\"gap\""] {
            assert!(found.iter().any(|note| note.contains(name) && note.contains("AUC 1.0000")), "{name}: {found:?}");
        }
        // A tenth of the labels are wrong.
        let found = notes(&["noise", "near"], |at| vec![noise(at), f32::from(u8::from(label(at) != (at % 10 == 3)))]);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn an_outlier_that_hides_the_other_values_is_named_and_a_rare_flag_is_not() {
        let found = notes(&["noise", "huge", "flag"], |at| {
            vec![noise(at), if at == 17 || at == 18 { 1e30 } else { noise(at) }, f32::from(u8::from(at == 50))]
        });
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("\"huge\"") && found[0].contains("1.000e30"), "{found:?}");
    }

    #[test]
    fn copies_are_counted_and_those_of_test_rows_apart() {
        assert_eq!(notes(&["noise"], |at| vec![noise(at)]), Vec::<String>::new());
        // Rows 0 to 19 occur again as 20 to 39, with the same labels.
        let found = notes(&["noise"], |at| vec![noise(if (20..40).contains(&at) { at - 20 } else { at })]);
        assert!(found[0].starts_with("20 of the 200 rows are copies of others"), "{found:?}");
        // Each row is as many others, because there are four values: that says nothing.
        let found = notes(&["few"], |at| vec![(at % 4) as f32]);
        assert!(!found.iter().any(|note| note.contains("copies")), "{found:?}");
    }
}
