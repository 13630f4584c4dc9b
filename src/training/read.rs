//! Reads labelled rows from a CSV or Parquet file.
//!
//! Owns the roles of the columns, and the interpretation of labels, times and groups. Guarantees: features are in the order of the
//! columns, and those of a text column in the order of its texts; errors name the line and column; anything that was not taken
//! literally is reported as a [`Note`]. Limits: the file is read twice, once to determine the column types and once for the values.

use super::{
    Note, TrainError,
    column::{Column, ColumnStats},
    number::Decimal,
    rows::{KEY_TYPE, OF_LOG, POSITION},
    table::{Table, Value},
};
use crate::inference::FeatureMatrix;
use std::path::Path;

/// The roles of the columns, and the parsing options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSpec {
    /// The label column.
    pub label: String,
    /// Ignored columns.
    pub ignore: Vec<String>,
    /// The feature columns in order; by default all columns without another role.
    pub features: Option<Vec<String>>,
    /// The time column: a number, or a time as in RFC 3339. By default the export's own.
    pub time: Option<String>,
    /// The group column: rows with equal values stay together in a split, such as those of a user.
    pub group: Option<String>,
    /// Categorical columns: a feature per text, even if the texts are numbers.
    pub text: Vec<String>,
    /// Texts that mean a missing value, besides the usual ones.
    pub missing: Vec<String>,
    /// The decimal format; by default detected.
    pub decimal: Option<Decimal>,
}

/// Labelled rows.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The names of the features.
    pub features: Vec<String>,
    /// The values in row-major order; NaN if missing.
    pub values: Vec<f32>,
    /// The label of each row.
    pub labels: Vec<bool>,
    /// The time of each row, in the unit of the file.
    pub times: Option<Vec<f64>>,
    /// Whether the times are those of an export: microseconds since 1970.
    pub has_exported_times: bool,
    /// The group of each row.
    pub groups: Option<Vec<String>>,
    /// The fingerprint in the file.
    pub fingerprint: Option<String>,
    /// What was not taken literally.
    pub notes: Vec<Note>,
}

impl Dataset {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The values of the given rows.
    pub fn matrix(&self, rows: &[usize]) -> FeatureMatrix {
        let width = self.features.len();
        let mut matrix = FeatureMatrix::new(width);
        for (to, &row) in matrix.reset(rows.len()).chunks_exact_mut(width).zip(rows) {
            to.copy_from_slice(&self.values[row * width..(row + 1) * width]);
        }
        matrix
    }

    /// The given rows alone, without what was noted of all.
    #[must_use]
    pub fn only(&self, rows: &[usize]) -> Self {
        let width = self.features.len();
        let values = rows.iter().flat_map(|row| &self.values[row * width..(row + 1) * width]);
        Self {
            features: self.features.clone(),
            values: values.copied().collect(),
            labels: rows.iter().map(|row| self.labels[*row]).collect(),
            times: self.times.as_ref().map(|all| rows.iter().map(|row| all[*row]).collect()),
            has_exported_times: self.has_exported_times,
            groups: self.groups.as_ref().map(|all| rows.iter().map(|row| all[*row].clone()).collect()),
            fingerprint: self.fingerprint.clone(),
            notes: Vec::new(),
        }
    }
}

/// Reads a `.csv`, `.csv.gz` or `.parquet` file.
///
/// # Errors
/// The file cannot be read, a column is missing, a row is too short or too long, a label or time is invalid, or a column is
/// ambiguous.
pub fn read(path: &Path, spec: &ReadSpec) -> Result<Dataset, TrainError> {
    let table = Table::open(path, &spec.label)?;
    let roles = ColumnRoles::new(&table, spec)?;
    let mut notes = roles.notes.clone();
    let columns = roles.columns(&table, spec, &mut notes)?;
    let mut data = Dataset {
        features: columns.iter().flat_map(Column::names).collect(),
        times: roles.time.map(|_| Vec::new()),
        has_exported_times: roles.has_exported_times,
        groups: roles.group.map(|_| Vec::new()),
        fingerprint: table.fingerprint.clone(),
        notes,
        ..Dataset::default()
    };
    table.scan(|line, values| {
        let wrong = |column: usize, expected| TrainError::Cell {
            path: path.to_path_buf(),
            unit: table.unit,
            line,
            column: table.columns[column].clone(),
            expected,
            found: values[column].text(),
        };
        let label = label(values[roles.label]);
        data.labels.push(label.ok_or_else(|| wrong(roles.label, "a label of 0 or 1, false or true, no or yes"))?);
        if let (Some(column), Some(times)) = (roles.time, &mut data.times) {
            let time = time(values[column]);
            times.push(time.ok_or_else(|| wrong(column, "a number or a time such as 2026-01-31T12:00:00Z"))?);
        }
        if let (Some(column), Some(groups)) = (roles.group, &mut data.groups) {
            groups.push(values[column].text());
        }
        for column in &columns {
            column.push(values[column.index], spec, &mut data.values);
        }
        Ok(())
    })?;
    if data.rows() == 0 || data.features.is_empty() {
        // If the only column was excluded, report the reason instead.
        let lost = data.notes.into_iter().find_map(|note| match note {
            Note::Rounded { column, mean, deviation, rounding } => Some((column, mean, deviation, rounding)),
            _ => None,
        });
        if let Some((column, mean, deviation, rounding)) = lost {
            return Err(TrainError::Rounded { path: path.to_path_buf(), column, mean, deviation, rounding });
        }
        let (rows, features) = (data.labels.len(), data.features.len());
        return Err(TrainError::Empty { path: path.to_path_buf(), rows, features });
    }
    Ok(data)
}

/// Parses a label; `None` if it is invalid.
fn label(value: Value<'_>) -> Option<bool> {
    let number = match value {
        Value::Missing => return None,
        Value::Number(number) => number,
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "t" | "y" => return Some(true),
            "false" | "no" | "f" | "n" => return Some(false),
            number => number.parse().ok()?,
        },
    };
    match number {
        0.0 => Some(false),
        1.0 => Some(true),
        _ => None,
    }
}

/// Parses a time: a number, or RFC 3339 as seconds since 1970, in UTC by default.
fn time(value: Value<'_>) -> Option<f64> {
    let text = match value {
        Value::Missing => return None,
        Value::Number(number) => return number.is_finite().then_some(number),
        Value::Text(text) => text,
    };
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let timestamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    Some(timestamp.as_microsecond() as f64 / 1e6)
}

/// Cuts a text for a message.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(COLUMNS_SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Maximum length of the columns' names in a message, in characters.
const COLUMNS_SHOWN: usize = 1_000;

/// The roles of the columns, by index.
struct ColumnRoles {
    label: usize,
    time: Option<usize>,
    group: Option<usize>,
    has_exported_times: bool,
    features: Vec<usize>,
    notes: Vec<Note>,
}

impl ColumnRoles {
    fn new(table: &Table, spec: &ReadSpec) -> Result<Self, TrainError> {
        let absent = |role: &'static str, column: &str| TrainError::Column {
            path: table.path.clone(),
            role,
            column: column.to_owned(),
            found: clipped(&table.columns.join(", ")),
        };
        let find = |role: &'static str, column: &str| {
            let mut places = (0..table.columns.len()).filter(|&it| table.columns[it] == column);
            let first = places.next().ok_or_else(|| absent(role, column))?;
            let Some(second) = places.next() else { return Ok(first) };
            let (path, column) = (table.path.clone(), column.to_owned());
            Err(TrainError::Repeated { path, column, places: [first + 1, second + 1] })
        };
        let exported = POSITION.iter().all(|&name| table.columns.iter().any(|column| column == name));
        let is_of_log = exported && OF_LOG.iter().all(|&name| table.columns.iter().any(|column| column == name));
        let label = find("label", &spec.label)?;
        let own_time = exported.then_some("occurred_at_us");
        let time = spec.time.as_deref().or(own_time).map(|name| find("time", name)).transpose()?;
        let group = spec.group.as_deref().map(|name| find("group", name)).transpose()?;
        for (role, names) in [("ignore", &spec.ignore), ("text", &spec.text)] {
            if let Some(name) = names.iter().find(|name| !table.columns.contains(name)) {
                return Err(absent(role, name));
            }
        }
        let mut notes = Vec::new();
        let features = match &spec.features {
            Some(names) => {
                let mut features = Vec::new();
                for name in names {
                    let index = find("features", name)?;
                    let taken = [(Some(label), "the label"), (time, "the time"), (group, "the group")];
                    if let Some((_, part)) = taken.iter().find(|(it, _)| *it == Some(index)) {
                        return Err(TrainError::Part { path: table.path.clone(), column: name.clone(), part });
                    }
                    if features.contains(&index) {
                        return Err(TrainError::Part {
                            path: table.path.clone(),
                            column: name.clone(),
                            part: "a feature",
                        });
                    }
                    features.push(index);
                }
                features
            }
            None => {
                let mut features = Vec::new();
                for (index, name) in table.columns.iter().enumerate() {
                    let has_part = index == label || Some(index) == time || Some(index) == group;
                    if has_part
                        || spec.ignore.contains(name)
                        || exported && POSITION.iter().chain([&KEY_TYPE]).any(|it| name == it)
                        || is_of_log && OF_LOG.iter().any(|it| name == it)
                    {
                        continue;
                    }
                    // pandas writes row numbers without a name, and reads them back as "Unnamed: 0".
                    if name.is_empty() || name.starts_with("Unnamed: ") {
                        notes.push(Note::Unnamed { place: index + 1 });
                        continue;
                    }
                    features.push(find("feature", name)?);
                }
                features
            }
        };
        let has_exported_times = own_time.is_some() && spec.time.as_deref().is_none_or(|it| Some(it) == own_time);
        Ok(Self { label, time, group, has_exported_times, features, notes })
    }

    /// Determines the types of the feature columns.
    fn columns(&self, table: &Table, spec: &ReadSpec, notes: &mut Vec<Note>) -> Result<Vec<Column>, TrainError> {
        let mut seen = vec![ColumnStats::default(); self.features.len()];
        table.scan(|line, values| {
            for (seen, &index) in seen.iter_mut().zip(&self.features) {
                seen.add(line, values[index], spec);
            }
            Ok(())
        })?;
        let evidence = seen.iter().filter_map(ColumnStats::evidence).collect();
        let decided = self
            .features
            .iter()
            .zip(seen)
            .map(|(&index, seen)| Column::decide(table, index, seen, spec, &evidence, notes));
        decided.filter_map(Result::transpose).collect()
    }
}

#[cfg(test)]
mod tests;
