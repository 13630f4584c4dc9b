//! Rows with the predictions of both versions, and what they say.

use crate::{
    cli::Exit,
    evaluation::{
        Confidence, Paired, PairedRow, Prediction, paired,
        sample::{Sample, Weighted},
    },
    inference::PromotionSpec,
};
use serde::Serialize;

/// The figures need no bins, which the sample asks for.
const BINS: usize = 10;

/// A row with its user.
pub(super) type Row = (u64, PairedRow);

/// Rows, and those that are none.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) rows: Vec<Row>,
    /// What was left out and why, in words.
    pub(super) left_out: Vec<String>,
}

/// How good the predictions of a version are.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Quality {
    pub(super) log_loss: Option<f64>,
    pub(super) auc: Option<f64>,
    /// Predicted over observed positives.
    pub(super) calibration_ratio: Option<f64>,
}

/// What rows say of the two versions.
#[derive(Debug, Serialize)]
pub(super) struct Evidence {
    pub(super) source: &'static str,
    pub(super) positives: u64,
    pub(super) champion: Quality,
    pub(super) challenger: Quality,
    /// The log loss of the champion minus that of the challenger: above 0, the challenger is better.
    #[serde(flatten)]
    pub(super) paired: Paired,
    /// Whether the lower end of the interval is above the margin.
    pub(super) is_better: bool,
    pub(super) left_out: Vec<String>,
}

impl Evidence {
    /// Judges the rows.
    ///
    /// # Errors
    /// They are too few, of too few users, or of one class.
    pub(super) fn of(source: &'static str, from: Rows, spec: &PromotionSpec) -> anyhow::Result<Self> {
        let Rows { rows, left_out } = from;
        let refused = |what: String| {
            let more = if left_out.is_empty() { String::new() } else { format!(". Left out: {}", left_out.join("; ")) };
            Exit::Data.because(format!("promote: {source}: {what}; nothing was changed{more}"))
        };
        let positives = rows.iter().filter(|(_, row)| row.label).count() as u64;
        let count = rows.len() as u64;
        if count < spec.rows_min {
            return Err(refused(format!(
                "{count} rows are fewer than promotion.rows_min = {}; wait for more, or lower it",
                spec.rows_min
            )));
        }
        if positives == 0 || positives == count {
            let which = if positives == 0 { "0" } else { "1" };
            return Err(refused(format!(
                "all {count} rows have the label {which}, so nothing can be compared; take rows of a longer time"
            )));
        }
        let rarer = positives.min(count - positives);
        if rarer < spec.rarer_min {
            return Err(refused(format!(
                "{rarer} rows of the rarer label are fewer than promotion.rarer_min = {}; wait for more, or lower it",
                spec.rarer_min
            )));
        }
        let paired = paired(rows.iter().copied(), spec.confidence).filter(|it| it.users >= spec.users_min);
        let Some(paired) = paired else {
            let users = rows.iter().map(|(user, _)| user).collect::<std::collections::HashSet<_>>().len();
            return Err(refused(format!(
                "{users} users are fewer than promotion.users_min = {}; rows of a user are not independent of each other",
                spec.users_min
            )));
        };
        let [champion, challenger] = [0, 1].map(|which| quality(&rows, which));
        // Without any spread between users there is nothing to judge by.
        let is_better = paired.error > 0.0 && paired.interval.low > spec.margin;
        Ok(Self { source, positives, champion: champion?, challenger: challenger?, paired, is_better, left_out })
    }
}

fn quality(rows: &[Row], which: usize) -> anyhow::Result<Quality> {
    let weighted = rows.iter().map(|(_, row)| Weighted {
        prediction: Prediction { probability: row.probabilities[which], label: row.label },
        weight: row.weight,
    });
    let figures = Sample::new(weighted)?.figures(BINS);
    Ok(Quality {
        log_loss: figures.log_loss,
        auc: figures.auc.map(|it| it.value),
        calibration_ratio: figures.calibration_ratio,
    })
}

/// A confidence as in the configuration.
pub(super) fn percent(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::P90 => "90 %",
        Confidence::P95 => "95 %",
        Confidence::P99 => "99 %",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PromotionSpec {
        PromotionSpec { rows_min: 40, users_min: 10, rarer_min: 20, ..PromotionSpec::default() }
    }

    /// Users alternate between positive and negative rows; the second prediction is nearer to the label by `gain`.
    fn rows(count: u64, users: u64, gain: f64) -> Rows {
        let row = |number: u64| {
            let label = number.is_multiple_of(2);
            let probability = |near: f64| if label { near } else { 1.0 - near };
            // Some variation, so that there is an error.
            let champion = 0.6 + (number % 5) as f64 * 0.02;
            let pair = [probability(champion), probability(champion + gain)];
            (number % users, PairedRow { probabilities: pair, label, weight: 1.0 })
        };
        Rows { rows: (0..count).map(row).collect(), left_out: vec!["3 odd ones".to_owned()] }
    }

    #[test]
    fn the_lower_end_of_the_interval_decides() {
        let found = Evidence::of("sealed rows", rows(400, 40, 0.1), &spec()).unwrap();
        assert!(found.is_better && found.paired.interval.low > 0.1, "{found:?}");
        let [before, after] = [found.champion, found.challenger].map(|it| it.log_loss.unwrap());
        assert!((before - after - found.paired.difference).abs() < 1e-9, "{found:?}");
        assert_eq!(found.positives, 200);
        let strict = PromotionSpec { margin: found.paired.difference, ..spec() };
        assert!(!Evidence::of("sealed rows", rows(400, 40, 0.1), &strict).unwrap().is_better);
        for gain in [0.0, -0.1] {
            assert!(!Evidence::of("sealed rows", rows(400, 40, gain), &spec()).unwrap().is_better);
        }
    }

    #[test]
    fn what_is_no_evidence_is_refused_with_the_next_step() {
        let words = |rows: Rows| Evidence::of("live labels", rows, &spec()).unwrap_err().to_string();
        let few = words(rows(39, 13, 0.1));
        assert!(few.contains("live labels: 39 rows are fewer than promotion.rows_min = 40"), "{few}");
        assert!(few.contains("nothing was changed") && few.contains("3 odd ones"), "{few}");
        assert!(words(rows(400, 9, 0.1)).contains("9 users are fewer than promotion.users_min = 10"));
        let mut one_class = rows(400, 40, 0.1);
        one_class.rows.iter_mut().for_each(|(_, row)| row.label = false);
        assert!(words(one_class).contains("all 400 rows have the label 0"));
        let mut rare = rows(400, 40, 0.1);
        rare.rows.iter_mut().skip(38).for_each(|(_, row)| row.label = false);
        assert!(words(rare).contains("19 rows of the rarer label are fewer than promotion.rarer_min = 20"));
    }
}
