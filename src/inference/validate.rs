//! Checks a model before it serves: golden scores, scores in range, rows that do not depend on each other, and its speed.
//!
//! Guarantees: a model that passes scored every probe with a number in its range, gave each row the same score whatever
//! rows are in its batch, and scored a full batch within the deadline.

use super::{FeatureMatrix, Golden, Model, ModelInfo};
use std::time::{Duration, Instant};

/// Relative tolerance of golden scores: providers, batch sizes and processors differ in the last digits.
const TOLERANCE: f32 = 2e-4;

/// The same for reduced precision: TF32 keeps three digits.
const TOLERANCE_ROUGH: f32 = 1e-2;

/// Absolute tolerance, relative to the largest golden score: the residue if large terms cancel out.
const TOLERANCE_OF_LARGEST: f32 = 1e-6;

/// Why a version was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its files cannot be read, or do not match.
    #[error("{0}")]
    Unreadable(String),
    /// It does not match the features or the runtime.
    #[error("{0}")]
    Unfit(String),
    /// It runs too long.
    #[error("{0}")]
    Slow(String),
    /// Its scores differ from those in its manifest, or are missing.
    #[error("{0}")]
    Wrong(String),
}

impl Refusal {
    /// The reason as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Unfit(_) => "unfit",
            Self::Slow(_) => "slow",
            Self::Wrong(_) => "wrong_scores",
        }
    }
}

/// The tolerance for golden scores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// That of float32.
    Full,
    /// That of reduced precision.
    Rough,
}

impl From<super::Precision> for Exactness {
    fn from(precision: super::Precision) -> Self {
        if precision == super::Precision::Full { Self::Full } else { Self::Rough }
    }
}

/// Validates a model with its golden rows, or with probe rows if it has none, and then with a full batch, which also allocates its
/// buffers.
///
/// # Errors
/// It fails, is slow, or has wrong or invalid scores.
pub fn validate(
    model: &mut dyn Model,
    golden: Option<&Golden>,
    exactness: Exactness,
    rows: usize,
    limit: Duration,
) -> Result<(), Refusal> {
    match golden {
        Some(golden) => check_golden(model, golden, exactness)?,
        None => check_probes(model)?,
    }
    warm(model, rows, limit)
}

fn check_golden(model: &mut dyn Model, golden: &Golden, exactness: Exactness) -> Result<(), Refusal> {
    let width = model.info().features.len();
    let Golden { rows, scores: expected } = golden;
    if rows.is_empty() || rows.iter().any(|row| row.len() != width) {
        return Err(Refusal::Unfit(format!(
            "expected golden rows of {width} features, found none or of another width"
        )));
    }
    if expected.len() != rows.len() {
        let (rows, scores) = (rows.len(), expected.len());
        return Err(Refusal::Unfit(format!("expected a golden score per row, found {scores} scores for {rows} rows")));
    }
    let values: Vec<f32> = rows.iter().flatten().map(|value| value.unwrap_or(f32::NAN)).collect();
    let mut matrix = FeatureMatrix::new(width);
    matrix.reset(rows.len()).copy_from_slice(&values);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).map_err(|error| Refusal::Wrong(error.to_string()))?;
    let share = if exactness == Exactness::Full { TOLERANCE } else { TOLERANCE_ROUGH };
    let largest = expected.iter().fold(0.0, |largest: f32, score| largest.max(score.abs()));
    for (index, score) in scores.iter().enumerate() {
        let row = index % rows.len();
        // Further heads have no golden scores; they must only be numbers.
        let expected = expected.get(index).copied().unwrap_or(*score);
        // False for NaN.
        let is_near = (score - expected).abs() <= share * expected.abs() + TOLERANCE_OF_LARGEST * largest;
        if !is_near {
            return Err(Refusal::Wrong(format!("golden row {row}: expected the score {expected}, found {score}")));
        }
        check_range(model.info(), index / rows.len(), &format!("golden row {row}"), *score)?;
    }
    Ok(())
}

/// Checks that a score is in its range.
fn check_range(info: &ModelInfo, head: usize, row: &str, score: f32) -> Result<(), Refusal> {
    let Some(range) = info.range_left(head, score) else { return Ok(()) };
    let (name, key) = match head.checked_sub(1).and_then(|head| info.heads.get(head)) {
        Some(head) => (format!("score {head}"), format!("head_ranges.{head}")),
        None => ("score".to_owned(), "range".to_owned()),
    };
    let reason = format!(
        "{row}: expected a {name} from {range}, found {score}; if that is a valid score, set {key} = [smallest, largest] \
         under [model], or name another output"
    );
    Err(Refusal::Wrong(reason))
}

/// Probe rows that exercise each feature: the baseline, or zeros if the model has none; for each feature this row with the feature
/// changed; and zeros after a baseline, because they are common in profiles of new users.
fn probes(info: &ModelInfo) -> Vec<Vec<f32>> {
    let baseline = info.baseline.clone().unwrap_or_else(|| vec![0.0; info.features.len()]);
    let moved = (0..baseline.len()).map(|feature| {
        let mut row = baseline.clone();
        // Roughly double the baseline, plus a bit so that a feature near 0 changes too.
        row[feature] = if row[feature].is_nan() { 1.0 } else { row[feature] * 2.0 + 1.0 };
        row
    });
    let zeros = info.baseline.as_ref().map(|baseline| vec![0.0; baseline.len()]);
    std::iter::once(baseline.clone()).chain(moved).chain(zeros).collect()
}

/// Relative tolerance between the scores of a row on its own and in a batch: half precision has three digits.
const TOLERANCE_TOGETHER: f32 = 5e-3;

/// A row with its scores.
type Probe = (Vec<f32>, Vec<f32>);

/// The probe rows with numeric scores, and these scores. A changed feature may have no score, such as an unknown category.
fn probed(model: &mut dyn Model) -> Result<Vec<Probe>, Refusal> {
    let mut matrix = FeatureMatrix::new(model.info().features.len());
    let mut scores = Vec::new();
    let mut probed = Vec::new();
    for (index, row) in probes(model.info()).into_iter().enumerate() {
        matrix.reset(1).copy_from_slice(&row);
        match model.score(&matrix, &mut scores) {
            Ok(()) => probed.push((row, scores.clone())),
            Err(error) if index == 0 => return Err(Refusal::Wrong(error.to_string())),
            Err(_) => {}
        }
    }
    Ok(probed)
}

/// Whether a row has the same score on its own and in a batch, because batches may begin and end anywhere.
fn check_rows_apart(model: &mut dyn Model, probed: &[Probe]) -> Result<(), Refusal> {
    let mut matrix = FeatureMatrix::new(model.info().features.len());
    let values: Vec<f32> = probed.iter().rev().flat_map(|(row, _)| row.iter().copied()).collect();
    matrix.reset(probed.len()).copy_from_slice(&values);
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores).map_err(|error| Refusal::Wrong(error.to_string()))?;
    let rows = probed.len();
    for (index, together) in scores.iter().enumerate() {
        let Some(alone) = probed[rows - 1 - index % rows].1.get(index / rows) else { continue };
        let is_near = (together - alone).abs() <= TOLERANCE_TOGETHER * (1.0 + alone.abs().max(together.abs()))
            || together.is_nan() && alone.is_nan()
            || together == alone;
        if !is_near {
            return Err(Refusal::Wrong(format!(
                "a row has the score {alone} by itself and {together} among {rows} rows; a score must depend on its own row \
                 alone and be the same each time (does the model normalize over the first axis, or draw at random?)"
            )));
        }
    }
    Ok(())
}

fn is_zeros(row: &[f32]) -> bool {
    row.iter().all(|value| *value == 0.0)
}

fn check_probes(model: &mut dyn Model) -> Result<(), Refusal> {
    let probed = probed(model)?;
    check_rows_apart(model, &probed)?;
    let info = model.info();
    for head in 0..info.scores() {
        let is_number = |scores: &[f32]| scores.get(head).is_some_and(|score| score.is_finite());
        let (row, scores) = &probed[0];
        // The baseline must have a score; zeros need not.
        if !is_number(scores) && (info.baseline.is_some() || !probed.iter().any(|(_, scores)| is_number(scores))) {
            let rows = if info.baseline.is_some() { "its baseline" } else { "any of the probe rows" };
            let found = scores.get(head).copied().unwrap_or(f32::NAN);
            let first: Vec<String> = row.iter().take(5).map(ToString::to_string).collect();
            return Err(Refusal::Wrong(format!(
                "expected a number for {rows}, found {found} for the row [{}{}]",
                first.join(", "),
                if row.len() > 5 { ", …" } else { "" }
            )));
        }
        let without = probed.iter().filter(|(_, scores)| !is_number(scores)).count();
        if without > 0 {
            tracing::warn!(
                model = info.name,
                version = info.version,
                rows = probed.len(),
                without,
                has_zeros_without = probed.iter().any(|(row, scores)| !is_number(scores) && is_zeros(row)),
                "the model has no score (NaN or infinite) for some of the rows that were tried; events with such features get a \
                 fallback in its place. If that is not meant, fill in missing values inside the model"
            );
        }
        for (number, (row, scores)) in probed.iter().enumerate() {
            let row = match number {
                _ if is_zeros(row) => "a row of zeros".to_owned(),
                0 if info.baseline.is_some() => "the baseline".to_owned(),
                _ => format!("probe row {number}"),
            };
            check_range(info, head, &row, scores.get(head).copied().unwrap_or(f32::NAN))?;
        }
    }
    Ok(())
}

/// Computes golden rows and scores, which a version must reproduce wherever it is loaded.
///
/// # Errors
/// The model fails.
pub fn golden(model: &mut dyn Model) -> Result<Golden, Refusal> {
    let mut golden = Golden::default();
    for (row, scores) in probed(model)? {
        if let Some(score) = scores.first().copied().filter(|score| score.is_finite()) {
            golden.rows.push(row.into_iter().map(|value| Some(value).filter(|it| !it.is_nan())).collect());
            golden.scores.push(score);
        }
    }
    Ok(golden)
}

/// Runs a model on a full batch, to allocate its buffers and to measure the time.
///
/// # Errors
/// It fails or is slow.
pub fn warm(model: &mut dyn Model, rows: usize, limit: Duration) -> Result<(), Refusal> {
    let row = probes(model.info()).swap_remove(0);
    let mut matrix = FeatureMatrix::new(row.len());
    let full = matrix.reset(rows.max(1));
    full.chunks_exact_mut(row.len().max(1)).for_each(|values| values.copy_from_slice(&row));
    let mut scores = Vec::new();
    // The first run of a size allocates, so the second one is measured.
    for is_timed in [false, true] {
        let start = Instant::now();
        model.score(&matrix, &mut scores).map_err(|error| Refusal::Slow(error.to_string()))?;
        let took = start.elapsed();
        if is_timed && took > limit {
            let [took, limit] = [took, limit].map(crate::duration::display).map(|it| it.to_string());
            return Err(Refusal::Slow(format!("{rows} rows took {took}, but model.deadline is {limit}")));
        }
    }
    Ok(())
}

#[cfg(all(test, feature = "testkit"))]
mod tests {
    use super::*;
    use crate::testkit::{FakeModel, Mood};

    fn golden(score: f32) -> Golden {
        Golden { rows: vec![vec![Some(1.0)], vec![None]], scores: vec![score, 0.0] }
    }

    fn first(row: &[f32]) -> f32 {
        if row[0].is_nan() { 0.0 } else { row[0] }
    }

    #[test]
    fn models_that_fail_return_nan_or_other_scores_or_are_slow_are_refused() {
        let second = Duration::from_secs(1);
        let validate_with =
            |model: &mut FakeModel, golden: Option<&Golden>| validate(model, golden, Exactness::Full, 64, second);
        let mut model = FakeModel::new(&["a"], first);
        assert_eq!(validate_with(&mut model, Some(&golden(1.0))), Ok(()));
        assert_eq!(validate_with(&mut model, None), Ok(()));
        assert!(
            matches!(validate_with(&mut model, Some(&golden(0.9))), Err(Refusal::Wrong(why)) if why.contains("row 0"))
        );
        let wide = Golden { rows: vec![vec![Some(1.0); 2]], scores: vec![1.0] };
        assert!(matches!(validate_with(&mut model, Some(&wide)), Err(Refusal::Unfit(_))));
        let few = Golden { scores: vec![1.0], ..golden(1.0) };
        assert!(matches!(validate_with(&mut model, Some(&few)), Err(Refusal::Unfit(_))));
        for (mood, label) in [(Mood::Fail, "wrong_scores"), (Mood::Nan, "wrong_scores"), (Mood::Late, "wrong_scores")] {
            model.control().set(mood);
            for golden in [None, Some(&golden(1.0))] {
                assert_eq!(validate_with(&mut model, golden).unwrap_err().label(), label, "{mood:?}");
            }
        }
        let mut slow = FakeModel::new(&["a"], |row| {
            std::thread::sleep(Duration::from_millis(1));
            first(row)
        });
        let refusal = validate(&mut slow, None, Exactness::Full, 30, Duration::from_millis(5)).unwrap_err();
        assert!(matches!(&refusal, Refusal::Slow(why) if why.contains("30 rows took")), "{refusal:?}");
    }

    /// An absolute tolerance of 0.0001 would accept everything if scores are click rates.
    #[test]
    fn golden_scores_have_a_relative_tolerance() {
        let validated = |exactness, expected: f32, found: f32| {
            let mut model = FakeModel::new(&["a"], move |row| if row[0].is_nan() { expected / 2.0 } else { found });
            let golden = Golden { rows: vec![vec![Some(1.0)], vec![None]], scores: vec![expected, expected / 2.0] };
            validate(&mut model, Some(&golden), exactness, 4, Duration::from_secs(1)).is_ok()
        };
        for (exactness, expected, found, is_near) in [
            (Exactness::Full, 1e-4, 1.1e-4, false),
            (Exactness::Full, 1e-4, 1.000_1e-4, true),
            (Exactness::Full, 0.5, 0.500_05, true),
            (Exactness::Full, 0.5, 0.500_2, false),
            (Exactness::Rough, 0.5, 0.502, true),
            (Exactness::Rough, 1e-4, 1.1e-4, false),
            (Exactness::Full, 0.0, 0.0, true),
            (Exactness::Full, 0.0, 1e-3, false),
        ] {
            assert_eq!(validated(exactness, expected, found), is_near, "{exactness:?} {expected} {found}");
        }
    }

    #[test]
    fn scores_out_of_range_and_nan_are_refused_without_golden_rows_too() {
        let validated = |range: Option<(f32, f32)>, score: fn(&[f32]) -> f32| {
            let mut model = FakeModel::new(&["a", "b"], score);
            if let Some((least, most)) = range {
                model = model.range(least, most);
            }
            validate(&mut model, None, Exactness::Full, 4, Duration::from_secs(1)).map_err(|it| it.to_string())
        };
        let probability = Some((0.0, 1.0));
        assert_eq!(validated(probability, |row| row[0] * 0.0 + 0.5), Ok(()));
        assert_eq!(validated(probability, |row| row[0] * 0.0 + 1.000_001), Ok(()), "sums of probabilities are rounded");
        for score in [(|row| row[0] * 0.0 + 12_345.0) as fn(&[f32]) -> f32, |_| -3.0, |row| 0.5 + row[1]] {
            let error = validated(probability, score).unwrap_err();
            assert!(error.contains("expected a score from 0 to 1, found") && error.contains("range = ["), "{error}");
        }
        assert_eq!(validated(Some((-10.0, f32::INFINITY)), |_| 12_345.0), Ok(()));
        for score in [(|_| f32::NAN) as fn(&[f32]) -> f32, |_| f32::INFINITY, |_| f32::NEG_INFINITY] {
            let error = validated(None, score).unwrap_err();
            assert!(error.contains("expected a number for any of the probe rows"), "{error}");
        }
        // 0 / 0 is NaN for one probe row only.
        assert_eq!(validated(probability, |row| if row[0] == 0.0 { f32::NAN } else { 0.5 }), Ok(()));
    }
}
