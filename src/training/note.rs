//! What a person should know of how a table was read and a network was trained.
//!
//! Guarantees: a note says what, where, how many and what to do, in one sentence; those that may make the model worse than
//! it need be are warnings.

use std::fmt;

/// One thing to know.
#[derive(Clone, Debug, PartialEq)]
pub enum Note {
    /// Texts of a column of numbers count as missing.
    Missing {
        /// The column.
        column: String,
        /// The texts and how often each occurs.
        texts: Vec<(String, u64)>,
        /// How many values are empty.
        empty: u64,
    },
    /// Numbers have thousands apart, a decimal comma, a currency or a percent sign.
    Formatted {
        /// The column.
        column: String,
        /// How many do.
        count: u64,
        /// Where the first one stands.
        place: String,
        /// The first one.
        text: String,
        /// The number that it was read as.
        value: f64,
    },
    /// A column of texts holds numbers as well.
    Mixed {
        /// The column.
        column: String,
        /// How many values are numbers.
        numbers: u64,
        /// How many different texts there are.
        texts: usize,
    },
    /// A column of texts.
    Texts {
        /// The column.
        column: String,
        /// How many different texts there are.
        texts: usize,
    },
    /// A column of texts that look like numbers with something behind them.
    LikeNumbers {
        /// The column.
        column: String,
        /// How many different texts there are.
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
    /// A column was left out, because its numbers lie closer together than 32-bit floats of their size.
    Rounded {
        /// The column.
        column: String,
        /// The mean of its numbers.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
        /// What rounding adds to it.
        rounding: f64,
    },
    /// Many different numbers of a column become the same 32-bit float.
    Merged {
        /// The column.
        column: String,
        /// How many values of those looked at differ.
        values: usize,
        /// How many of them do as floats.
        floats: usize,
    },
    /// A column without a name was left out.
    Unnamed {
        /// Its place, from 1.
        place: usize,
    },
    /// Features have one value in all rows that were learned from.
    Constant {
        /// The features.
        features: Vec<String>,
    },
    /// Of one label there are hardly any rows.
    Rare {
        /// How many rows have the rarer label.
        count: usize,
        /// The rarer label.
        label: bool,
        /// How many rows there are.
        rows: usize,
    },
    /// The rows of one part have one label.
    OneLabel {
        /// The part.
        part: &'static str,
        /// How many rows it has.
        rows: usize,
        /// Their label.
        label: bool,
    },
    /// On the test rows the model is not better than their rate.
    NoBetterThanRate {
        /// Its normalised entropy.
        entropy: f64,
        /// How well it ranks.
        auc: Option<f64>,
        /// The share of positives in the rows that were learned from and in the test rows, where time moved it.
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
        /// Whether it was left out.
        is_left_out: bool,
    },
}

impl Note {
    /// Whether the model may be worse for it.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::Missing { .. } | Self::Formatted { .. } | Self::Texts { .. } | Self::Constant { .. } => false,
            Self::Unnamed { .. } => false,
            Self::Mixed { .. } | Self::LikeNumbers { .. } => true,
            Self::Beyond { .. } | Self::Rounded { .. } | Self::Merged { .. } => true,
            Self::Rare { .. } | Self::OneLabel { .. } => true,
            Self::NoBetterThanRate { .. } | Self::WorseThanLogistic { .. } | Self::Calibration { .. } => true,
        }
    }
}

/// From this area under the curve on a model ranks better than a coin by far.
const RANKS: f64 = 0.6;

/// At most this many names stand in one sentence.
const NAMES: usize = 8;

/// A number with some digits, in the form that fits its size.
fn short(value: f64) -> String {
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) { format!("{value:.4}") } else { format!("{value:.3e}") }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { column, texts, empty } => {
                let texts: Vec<_> = texts.iter().map(|(text, count)| format!("{count} {text:?}")).collect();
                let beside = if *empty > 0 { format!(", like {empty} that are empty") } else { String::new() };
                write!(f, "column {column:?}: {} count as missing{beside}", texts.join(", "))
            }
            Self::Formatted { column, count, place, text, value } => write!(
                f,
                "column {column:?}: {count} numbers have thousands apart, a decimal comma, a currency or a percent sign; \
                 the first, {text:?} at {place}, is read as {value}"
            ),
            Self::Mixed { column, numbers, texts } => write!(
                f,
                "column {column:?}: {numbers} numbers stand among texts, so each of its {texts} texts is a feature of its \
                 own; where texts mean a missing value, name them with --missing"
            ),
            Self::Texts { column, texts } => {
                write!(f, "column {column:?}: each of its {texts} texts is a feature of its own")
            }
            Self::LikeNumbers { column, texts, shown } => write!(
                f,
                "column {column:?}: texts that begin with numbers ({shown}); each of the {texts} is a feature of its own. \
                 Where they are quantities, write them as numbers of one unit; where they are times, name the column with \
                 --time or leave it out with --ignore; where they are names, say so with --text"
            ),
            Self::Beyond { column, count } => write!(
                f,
                "column {column:?}: {count} numbers are infinite or beyond 3.4e38, the largest 32-bit float, and count as missing"
            ),
            Self::Rounded { column, mean, deviation, rounding } => write!(
                f,
                "column {column:?} is left out: {}",
                Crowded { mean: *mean, deviation: *deviation, rounding: *rounding }
            ),
            Self::Merged { column, values, floats } => write!(
                f,
                "column {column:?}: of {values} different numbers 32-bit floats keep {floats} apart; where the others matter, \
                 subtract a fixed number from the column, both here and where it is served"
            ),
            Self::Unnamed { place } => write!(
                f,
                "column {place} has no name, as the row numbers that pandas writes, and is left out; give it one to learn \
                 from it"
            ),
            Self::Constant { features } => {
                let names: Vec<_> = features.iter().take(NAMES).map(|name| format!("{name:?}")).collect();
                let more = features.len().saturating_sub(NAMES);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                write!(
                    f,
                    "{}{more}: one value in all rows that were learned from, so the model ignores it",
                    names.join(", ")
                )
            }
            Self::Rare { count, label, rows } => write!(
                f,
                "only {count} of the {rows} rows have the label {}: too few to trust what is learned or measured; take more \
                 rows, or a wider outcome",
                u8::from(*label)
            ),
            Self::OneLabel { part, rows, label } => write!(
                f,
                "the {rows} {part} rows all have the label {}, so they tell nothing of how well the model ranks; take more rows",
                u8::from(*label)
            ),
            Self::NoBetterThanRate { entropy, auc, moved } => {
                write!(
                    f,
                    "the model is no better than the base rate: its normalised entropy on the test rows is {entropy:.4}, and \
                     1 is what always saying their share of positives comes to; do not serve it. "
                )?;
                if let Some([before, after]) = moved.map(|rates| rates.map(|rate| rate * 100.0)) {
                    write!(
                        f,
                        "The share of positives went from {before:.2} % in the rows that were learned from to {after:.2} % in \
                         the later test rows. What to try: newer rows, "
                    )?;
                } else {
                    write!(f, "What to try: ")?;
                }
                match auc {
                    Some(auc) if *auc >= RANKS => write!(
                        f,
                        "--calibrate platt, since it ranks the rows (AUC {auc:.4}) and only its probabilities are off; \
                         --weight-decay 1; more rows"
                    ),
                    _ => write!(f, "features that say more about the outcome, more rows, --weight-decay 1"),
                }
            }
            Self::WorseThanLogistic { entropy, logistic, error } => {
                let difference = entropy - logistic;
                let weight = if difference > 2.0 * error { "more than chance" } else { "within chance" };
                write!(
                    f,
                    "the model is worse than a logistic regression: its normalised entropy on the test rows is {entropy:.4}, \
                     the regression's {logistic:.4} (the difference of {difference:.4} has a standard error of {error:.4}: \
                     {weight}). What to try: --weight-decay 1, --hidden 4, --learning-rate 0.003, more rows"
                )
            }
            Self::Calibration { before, after, is_left_out } => {
                let what = if *is_left_out {
                    "is left out; --keep-calibration writes it all the same"
                } else {
                    "is written all the same, as --keep-calibration asks"
                };
                write!(
                    f,
                    "the calibration makes the log loss of the test rows worse ({before:.4} before, {after:.4} after) and {what}"
                )
            }
        }
    }
}

/// What 32-bit floats do to numbers that lie close together far from 0, and what to do about it.
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
            "its numbers lie about {deviation} around {mean}, and a model reads 32-bit floats, whose rounding there is about \
             {rounding}; learn from the difference to a fixed number (the time since a start, for instance), and serve the \
             same difference, or leave ids out"
        )
    }
}
