//! What can be wrong with rows and options.

use std::path::PathBuf;

/// Why training failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A file cannot be opened, read or written.
    #[error("{doing} {}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A file does not have the format of its extension.
    #[error("{doing} {}: {reason}", path.display())]
    Format {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Unknown file extension.
    #[error("open {}: expected a name that ends in .csv, .csv.gz or .parquet; give the file such a name", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
    },
    /// A requested feature column has another role.
    #[error("read {}: column {column:?} cannot be a feature, because it is already {part}; remove it from --features", path.display())]
    Part {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// Its role.
        part: &'static str,
    },
    /// A requested column is missing.
    #[error("read {}: expected {role} {column:?} to be a column, found the columns {found}; name it with --{role}", path.display())]
    Column {
        /// The file.
        path: PathBuf,
        /// The role of the column.
        role: &'static str,
        /// Its name.
        column: String,
        /// The existing columns.
        found: String,
    },
    /// A value is invalid for its column.
    #[error("read {}, {unit} {line}, column {column:?}: expected {expected}, found {found:?}", path.display())]
    Cell {
        /// The file.
        path: PathBuf,
        /// What `line` counts.
        unit: &'static str,
        /// The line of a CSV file, or the row of a Parquet file, from 1.
        line: u64,
        /// The column.
        column: String,
        /// The expected value.
        expected: &'static str,
        /// The actual value.
        found: String,
    },
    /// A row is shorter or longer than the header.
    #[error(
        "read {}, line {line}: expected {expected} fields as in the header, found {found}; a text that contains the \
         delimiter needs quotes, and an unclosed quote swallows everything after it",
        path.display()
    )]
    Fields {
        /// The file.
        path: PathBuf,
        /// The first line of the row.
        line: u64,
        /// The number of fields in the header.
        expected: usize,
        /// The number of fields in the row.
        found: usize,
    },
    /// Two columns have the same name.
    #[error(
        "read {}: expected every column once, found {column:?} as columns {} and {}; rename one of them, or exclude both \
         with --ignore",
        path.display(), places[0], places[1]
    )]
    Repeated {
        /// The file.
        path: PathBuf,
        /// The name.
        column: String,
        /// Which columns, from 1.
        places: [usize; 2],
    },
    /// A text column has too many distinct values.
    #[error(
        "read {}, column {column:?}: expected at most {limit} different texts, found more, such as {texts}; exclude the \
         column with --ignore",
        path.display()
    )]
    Levels {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The maximum.
        limit: usize,
        /// Some of them.
        texts: String,
    },
    /// A numeric column contains other texts.
    #[error(
        "read {}, column {column:?}: {numbers} values are numbers and {odd} are other texts: {texts}; if they mean a \
         missing value, list them with --missing; if the column holds codes or names, list it with --text; otherwise \
         fix the file, or exclude the column with --ignore",
        path.display()
    )]
    Odd {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The number of numbers.
        numbers: u64,
        /// The number of other texts.
        odd: u64,
        /// The texts, each with its count and first line.
        texts: String,
    },
    /// An ambiguous number.
    #[error(
        "read {}, {unit} {line}, column {column:?}: {text:?} could be {} or {}, and no other value settles it; use \
         --decimal dot or --decimal comma",
        path.display(), meanings[0], meanings[1]
    )]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What `line` counts.
        unit: &'static str,
        /// The first one's line.
        line: u64,
        /// The column.
        column: String,
        /// The text.
        text: String,
        /// The possible values.
        meanings: [f64; 2],
    },
    /// The numbers of a column have different units.
    #[error(
        "read {}, column {column:?}: expected {what}, found {:?} at {unit} {} and {:?} at {unit} {}; use one unit, or \
         exclude the column with --ignore",
        path.display(), found[0].1, found[0].0, found[1].1, found[1].0
    )]
    Unlike {
        /// The file.
        path: PathBuf,
        /// What lines count.
        unit: &'static str,
        /// The column.
        column: String,
        /// What was expected.
        what: &'static str,
        /// The line and text of one of each.
        found: Box<[(u64, String); 2]>,
    },
    /// A requested feature cannot be represented in 32-bit floats.
    #[error(
        "read {}, column {column:?}: {}",
        path.display(), super::note::Crowded { mean: *mean, deviation: *deviation, rounding: *rounding }
    )]
    Rounded {
        /// The file.
        path: PathBuf,
        /// The column.
        column: String,
        /// The mean of its numbers.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
        /// The rounding error.
        rounding: f64,
    },
    /// All rows have the same label.
    #[error(
        "train: expected rows of both labels to learn from, found {rows} {part}rows whose label is {}; check that --label names \
         the outcome{advice}",
        u8::from(*label)
    )]
    OneClass {
        /// Which rows, followed by a space; empty for all.
        part: &'static str,
        /// How many.
        rows: usize,
        /// Their label.
        label: bool,
        /// Further advice.
        advice: &'static str,
    },
    /// There are no rows or no features.
    #[error("read {}: expected at least one row and one feature, found {rows} rows and {features} features", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// Its rows.
        rows: usize,
        /// Its features.
        features: usize,
    },
    /// Two columns of an exported file would have the same name.
    #[error("write {}: expected every column once, found {column:?} twice; rename the feature", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The name.
        column: String,
    },
    /// A training option is out of range.
    #[error("train: expected {key} to be {expected}, found {found}")]
    Spec {
        /// The key.
        key: &'static str,
        /// Its range.
        expected: &'static str,
        /// Its value.
        found: String,
    },
    /// The loss became NaN.
    #[error("train: the loss of epoch {epoch} is not a number; lower the learning rate, which is {learning_rate}")]
    Diverged {
        /// The epoch.
        epoch: usize,
        /// The learning rate.
        learning_rate: f64,
    },
    /// The tensor library failed.
    #[error("train: {reason}")]
    Compute {
        /// Its message.
        reason: String,
    },
}

impl From<candle_core::Error> for TrainError {
    fn from(error: candle_core::Error) -> Self {
        Self::Compute { reason: error.to_string() }
    }
}
