//! Notes for the user on how a table was read and a network was trained.
//!
//! Guarantees: a note states what, where, how many and what to do, in one sentence; those that may hurt the model's quality are
//! warnings.

use std::fmt;

/// A note.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Texts in a numeric column count as missing.
    Missing {
        /// The column.
        column: String,
        /// The texts with their counts.
        texts: Vec<(String, u64)>,
        /// The number of empty values.
        empty: u64,
    },
    /// Numbers have thousands separators, a decimal comma, a currency or a percent sign.
    Formatted {
        /// The column.
        column: String,
        /// How many.
        count: u64,
        /// The position of the first one.
        place: String,
        /// The first one.
        text: String,
        /// Its value.
        value: f64,
    },
    /// A text column also contains numbers.
    Mixed {
        /// The column.
        column: String,
        /// The number of numbers.
        numbers: u64,
        /// The number of distinct texts.
        texts: usize,
    },
    /// A text column.
    Texts {
        /// The column.
        column: String,
        /// The number of distinct texts.
        texts: usize,
    },
    /// A text column whose texts begin with numbers.
    LikeNumbers {
        /// The column.
        column: String,
        /// The number of distinct texts.
        texts: usize,
        /// Some of them, with their lines.
        shown: String,
    },
    /// Values are infinite or too large for a 32-bit float.
    Beyond {
        /// The column.
        column: String,
        /// How many.
        count: u64,
    },
    /// A column was excluded, because 32-bit floats cannot distinguish its numbers.
    Rounded {
        /// The column.
        column: String,
        /// The mean of its numbers.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
        /// The rounding error.
        rounding: f64,
    },
    /// Many distinct numbers of a column become the same 32-bit float.
    Merged {
        /// The column.
        column: String,
        /// The number of distinct sampled values.
        values: usize,
        /// The number of distinct ones as floats.
        floats: usize,
    },
    /// A column without a name was excluded.
    Unnamed {
        /// Its index, from 1.
        place: usize,
    },
    /// Features are constant in the training rows.
    Constant {
        /// The features.
        features: Vec<String>,
    },
    /// Features have no value in the training rows.
    Absent {
        /// The features.
        features: Vec<String>,
    },
    /// A feature tells the label.
    Leak {
        /// The feature.
        feature: String,
        /// Its AUC, without any model.
        auc: f64,
    },
    /// A few values are so large that all others are the same once scaled.
    Outlier {
        /// The feature.
        feature: String,
        /// The largest value.
        largest: f64,
        /// The range of all but the outer percent on each side.
        usual: [f64; 2],
    },
    /// Rows occur more than once.
    Copies {
        /// How many are copies of others.
        copies: usize,
        /// How many of these are test rows.
        in_test: usize,
        /// The number of rows.
        rows: usize,
    },
    /// One label is very rare.
    Rare {
        /// The number of rows with the rarer label.
        count: usize,
        /// The rarer label.
        label: bool,
        /// The number of rows.
        rows: usize,
    },
    /// All rows of a part have the same label.
    OneLabel {
        /// The part.
        part: &'static str,
        /// The number of its rows.
        rows: usize,
        /// Their label.
        label: bool,
    },
    /// On the test rows the model is no better than the base rate.
    NoBetterThanRate {
        /// Its normalised entropy.
        entropy: f64,
        /// Its AUC.
        auc: Option<f64>,
        /// The positive rates in the training and test rows, if it has shifted over time.
        moved: Option<[f64; 2]>,
    },
    /// On the test rows the model is worse than a logistic regression.
    WorseThanLogistic {
        /// Its normalised entropy.
        entropy: f64,
        /// That of the logistic regression.
        logistic: f64,
        /// The standard error of the difference.
        error: f64,
    },
    /// A calibration made the loss of the test rows worse.
    Calibration {
        /// The log loss without it.
        before: f64,
        /// The log loss with it.
        after: f64,
        /// Whether it was omitted.
        is_left_out: bool,
    },
    /// A training did not begin with the weights of the one before.
    Afresh {
        /// Why.
        why: &'static str,
    },
}

impl Note {
    /// Whether it may hurt the model's quality.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Formatted { .. } | Self::Texts { .. } | Self::Constant { .. } => false,
            Self::Unnamed { .. } | Self::Absent { .. } | Self::Copies { .. } | Self::Afresh { .. } => false,
            Self::Leak { .. } | Self::Outlier { .. } => true,
            Self::Mixed { .. } | Self::LikeNumbers { .. } => true,
            Self::Beyond { .. } | Self::Rounded { .. } | Self::Merged { .. } => true,
            Self::Rare { .. } | Self::OneLabel { .. } => true,
            Self::NoBetterThanRate { .. } | Self::WorseThanLogistic { .. } | Self::Calibration { .. } => true,
        }
    }
}

/// From this AUC on, a model ranks clearly better than chance.
const RANKS: f64 = 0.6;

/// Maximum number of names in a sentence.
const NAMES: usize = 8;

/// The first names, quoted.
fn names(features: &[String]) -> String {
    let names: Vec<_> = features.iter().take(NAMES).map(|name| format!("{name:?}")).collect();
    let more = features.len().saturating_sub(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Formats a number with a few digits.
fn short(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { column, texts, empty } => {
                let texts: Vec<_> = texts.iter().map(|(text, count)| format!("{count} {text:?}")).collect();
                let empties = if *empty > 0 { format!(", and so do {empty} empty ones") } else { String::new() };
                write!(f, "column {column:?}: {} count as missing{empties}", texts.join(", "))
            }
            Self::Formatted { column, count, place, text, value } => write!(
                f,
                "column {column:?}: {count} numbers have thousands separators, a decimal comma, a currency or a percent \
                 sign; the first, {text:?} at {place}, is read as {value}"
            ),
            Self::Mixed { column, numbers, texts } => write!(
                f,
                "column {column:?}: {numbers} numbers are mixed with texts, so each of its {texts} texts becomes a \
                 feature; if some texts mean a missing value, list them with --missing"
            ),
            Self::Texts { column, texts } => {
                write!(f, "column {column:?}: each of its {texts} texts becomes a feature")
            }
            Self::LikeNumbers { column, texts, shown } => write!(
                f,
                "column {column:?}: texts that begin with numbers ({shown}); each of the {texts} becomes a feature. If \
                 they are quantities, write them as numbers in one unit; if they are times, use --time or exclude the \
                 column with --ignore; if they are names, list the column with --text"
            ),
            Self::Beyond { column, count } => write!(
                f,
                "column {column:?}: {count} numbers are infinite or beyond 3.4e38, the largest 32-bit float, and count as missing"
            ),
            Self::Rounded { column, mean, deviation, rounding } => write!(
                f,
                "column {column:?} is excluded: {}",
                Crowded { mean: *mean, deviation: *deviation, rounding: *rounding }
            ),
            Self::Merged { column, values, floats } => write!(
                f,
                "column {column:?}: of {values} distinct numbers 32-bit floats distinguish {floats}; if the others matter, \
                 subtract a constant from the column, both here and when serving"
            ),
            Self::Unnamed { place } => write!(
                f,
                "column {place} has no name, like the row numbers that pandas writes, and is excluded; name it to use it as a \
                 feature"
            ),
            Self::Constant { features } => {
                write!(f, "{}: constant in all training rows, so the model ignores it", names(features))
            }
            Self::Absent { features } => {
                write!(f, "{}: missing in all training rows, so the model ignores it", names(features))
            }
            Self::Leak { feature, auc } => write!(
                f,
                "feature {feature:?} alone tells the label (AUC {auc:.4}): it is probably made of the outcome, or known only after \
                 it. Exclude it with --ignore, unless it is known when an event is scored"
            ),
            Self::Outlier { feature, largest, usual } => write!(
                f,
                "feature {feature:?}: values up to {} make all usual ones, from {} to {}, the same to the model; if the large ones \
                 are errors or mean a missing value, leave these cells empty",
                short(*largest),
                short(usual[0]),
                short(usual[1])
            ),
            Self::Copies { copies, in_test, rows } => {
                write!(f, "{copies} of the {rows} rows are copies of others")?;
                if *in_test > 0 {
                    write!(f, ", {in_test} of them test rows, whose metrics are then too good")?;
                }
                write!(f, "; if events were written twice, remove the copies")
            }
            Self::Rare { count, label, rows } => write!(
                f,
                "only {count} of the {rows} rows have the label {}: too few for a reliable model or metrics; use more rows, or a \
                 more frequent outcome",
                u8::from(*label)
            ),
            Self::OneLabel { part, rows, label } => write!(
                f,
                "the {rows} {part} rows all have the label {}, so they cannot show how well the model ranks; use more rows",
                u8::from(*label)
            ),
            Self::NoBetterThanRate { entropy, auc, moved } => {
                write!(
                    f,
                    "the model is no better than the base rate: its normalised entropy on the test rows is {entropy:.4}, and \
                     always predicting their positive rate gives 1; do not use it. "
                )?;
                if let Some([before, after]) = moved.map(|rates| rates.map(|rate| rate * 100.0)) {
                    write!(
                        f,
                        "The positive rate shifted from {before:.2} % in the training rows to {after:.2} % in the later test \
                         rows. Try newer rows, "
                    )?;
                } else {
                    write!(f, "Try ")?;
                }
                match auc {
                    Some(auc) if *auc >= RANKS => write!(
                        f,
                        "--calibrate platt, since it ranks the rows (AUC {auc:.4}) and only its probabilities are off; \
                         --weight-decay 1; more rows"
                    ),
                    _ => write!(f, "features that are more related to the outcome, more rows, --weight-decay 1"),
                }
            }
            Self::WorseThanLogistic { entropy, logistic, error } => {
                let difference = entropy - logistic;
                let weight = if difference > 2.0 * error { "significant" } else { "not significant" };
                write!(
                    f,
                    "the model is worse than a logistic regression: its normalised entropy on the test rows is {entropy:.4}, \
                     the regression's {logistic:.4} (the difference of {difference:.4} has a standard error of {error:.4}: \
                     {weight}). Try --weight-decay 1, --hidden 4, --learning-rate 0.003, more rows"
                )
            }
            Self::Afresh { why } => {
                write!(f, "the training began with random weights and not with those of the one before: {why}")
            }
            Self::Calibration { before, after, is_left_out } => {
                let what = if *is_left_out {
                    "is omitted; --keep-calibration writes it anyway"
                } else {
                    "is written because of --keep-calibration"
                };
                write!(
                    f,
                    "the calibration makes the log loss of the test rows worse ({before:.4} before, {after:.4} after) and {what}"
                )
            }
        }
    }
}

/// Why 32-bit floats cannot represent numbers that are close together but far from 0, and what to do.
pub(super) struct Crowded {
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) rounding: f64,
}

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [mean, deviation, rounding] = [self.mean, self.deviation, self.rounding].map(short);
        write!(
            f,
            "its numbers vary by about {deviation} around {mean}, but models take 32-bit floats, which round there by about \
             {rounding}; use the difference to a constant (such as the time since a start), in training and in serving, or \
             exclude ids"
        )
    }
}
