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
mod tests {
    use super::*;
    use crate::training::table::ROW_BYTES_MAX;
    use std::{
        fs::{self, File},
        io::Write,
    };

    fn csv(text: &str, spec: &ReadSpec) -> Result<Dataset, TrainError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        fs::write(&path, text).unwrap();
        read(&path, spec)
    }

    fn label(name: &str) -> ReadSpec {
        ReadSpec { label: name.to_owned(), ..ReadSpec::default() }
    }

    #[test]
    fn a_row_that_unpacks_to_more_than_the_maximum_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv.gz");
        for row in ["x", "\"\n"] {
            let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
            gzip.write_all(b"a,label\n1,0\n").unwrap();
            gzip.write_all(&row.as_bytes()[..1]).unwrap();
            gzip.write_all(row.as_bytes()[row.len() - 1..].repeat(ROW_BYTES_MAX as usize + 100_000).as_slice())
                .unwrap();
            gzip.finish().unwrap();
            let error = read(&path, &label("label")).unwrap_err().to_string();
            assert!(error.contains("a row has more than 67108864 bytes"), "{error}");
        }
    }

    #[test]
    fn numbers_booleans_texts_and_gaps_become_features() {
        let text = "n,flag,Month,Revenue\n1.5,TRUE,Feb,TRUE\n,false,Apr,FALSE\ninf,,,0\n";
        let data = csv(text, &label("Revenue")).unwrap();
        assert_eq!(data.features, ["n", "flag", "Month=Apr", "Month=Feb"]);
        assert_eq!(data.labels, [true, false, false]);
        assert_eq!(data.values[..4], [1.5, 1.0, 0.0, 1.0]);
        assert!(data.values[4].is_nan());
        assert_eq!(data.values[5..9], [0.0, 1.0, 0.0, f32::INFINITY]);
        assert!(data.values[9].is_nan());
        assert_eq!(data.values[10..], [0.0, 0.0]);
    }

    fn notes(data: &Dataset) -> String {
        data.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_number_among_texts_is_a_text_and_noted() {
        let data = csv("code,y\n7,1\nother,0\nnone,0\n", &label("y")).unwrap();
        assert_eq!(data.features, ["code=7", "code=none", "code=other"]);
        assert_eq!(data.values[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
        assert!(notes(&data).contains("column \"code\": 1 numbers are mixed with texts"), "{}", notes(&data));
    }

    #[test]
    fn texts_for_missing_values_are_missing_among_numbers_and_noted_once() {
        let texts = [
            "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
            "NA", "NULL", "NaN", "None", "n/a", "nan", "null", "?", "-", "\\N", ".", "NAN",
        ];
        for text in texts {
            let data = csv(&format!("a,b,y\n1.5,1,1\n{text},2,0\n{text},3,1\n"), &label("y")).unwrap();
            assert_eq!(data.features, ["a", "b"], "{text}");
            assert_eq!((data.values[0], data.values[2].is_nan(), data.values[4].is_nan()), (1.5, true, true), "{text}");
            assert_eq!(data.notes.len(), usize::from(!text.is_empty()), "{}", notes(&data));
            assert!(
                text.is_empty() || notes(&data).contains(&format!("2 {text:?} count as missing")),
                "{}",
                notes(&data)
            );
        }
        let spec = ReadSpec { missing: vec!["unknown".to_owned(), "-999".to_owned()], ..label("y") };
        let data = csv("a,y\n1,1\n-999,0\nunknown,0\n", &spec).unwrap();
        assert!(data.values[0] == 1.0 && data.values[1].is_nan() && data.values[2].is_nan());
    }

    #[test]
    fn in_a_text_column_they_are_texts() {
        let data = csv("a,y\nred,1\nNone,0\n,0\n", &label("y")).unwrap();
        assert_eq!(data.features, ["a=None", "a=red"]);
        assert_eq!(data.values, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn other_texts_among_numbers_are_rejected_with_their_lines_unless_the_column_is_declared_as_text() {
        let text = "a,y\n1,1\n2,0\nn.a.,1\n3,0\noops,1\nn.a.,0\n7,1\n";
        let error = csv(text, &label("y")).unwrap_err().to_string();
        let told =
            "4 values are numbers and 3 are other texts: \"n.a.\" (2, first at line 4), \"oops\" (1, first at line 6)";
        assert!(error.contains(told) && error.contains("--missing") && error.contains("--text"), "{error}");
        let data = csv(text, &ReadSpec { text: vec!["a".to_owned()], ..label("y") }).unwrap();
        assert_eq!(data.features, ["a=1", "a=2", "a=3", "a=7", "a=n.a.", "a=oops"]);
        let missing = vec!["n.a.".to_owned(), "oops".to_owned()];
        assert_eq!(csv(text, &ReadSpec { missing, ..label("y") }).unwrap().features, ["a"]);
    }

    #[test]
    fn numbers_are_parsed_unambiguously_or_rejected() {
        for (text, values) in [
            ("a,y\n\"1,234.5\",1\n7,0\n", [1234.5, 7.0]),
            ("a;y\n1,5;1\n2;0\n", [1.5, 2.0]),
            ("a;y\n1.234,5;1\n1.234;0\n", [1234.5, 1234.0]),
            ("a\ty\n1,5\t1\n2\t0\n", [1.5, 2.0]),
            ("a,y\n$3.50,1\n\"$1,000\",0\n", [3.5, 1000.0]),
            ("a,y\n12.5%,1\n7%,0\n", [0.125, 0.07]),
            // Without other evidence, a point is a decimal point.
            ("a,y\n1.234,1\n5.678,0\n", [1.234, 5.678]),
        ] {
            let data = csv(text, &label("y")).unwrap();
            assert_eq!((data.features, data.values), (vec!["a".to_owned()], values.to_vec()), "{text:?}");
        }
        let data = csv("a;y\n1,5;1\n2;0\n", &label("y")).unwrap();
        assert!(notes(&data).contains("the first, \"1,5\" at line 2, is read as 1.5"), "{}", notes(&data));
        // Another column shows the file's decimal format.
        let data = csv("a,b,y\n\"1,234\",0.5,1\n7,2,0\n", &label("y")).unwrap();
        assert_eq!(data.values, [1234.0, 0.5, 7.0, 2.0]);
        let data = csv("a;b;y\n1,234;0,5;1\n7;2;0\n", &label("y")).unwrap();
        assert_eq!(data.values, [1.234, 0.5, 7.0, 2.0]);
        for (text, message) in [
            ("a,y\n7,1\n\"1,234\",0\n", "line 3, column \"a\": \"1,234\" could be 1234 or 1.234"),
            ("a;b;y\n1.234;0,5;1\n7;2;0\n", "line 2, column \"a\": \"1.234\" could be 1.234 or 1234"),
            (
                "a,y\n5%,1\n7,0\n",
                "expected a percent sign after all numbers or none, found \"5%\" at line 2 and \"7\" at line 3",
            ),
            ("a,y\n$5,1\n7 €,0\n", "expected one currency, found \"$5\" at line 2 and \"7 €\" at line 3"),
        ] {
            let error = csv(text, &label("y")).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let comma = ReadSpec { decimal: Some(Decimal::Comma), ..label("y") };
        assert_eq!(csv("a,y\n7,1\n\"1,234\",0\n", &comma).unwrap().values, [7.0, 1.234]);
        assert_eq!(csv("a;y\n7;1\n1.234;0\n", &comma).unwrap().values, [7.0, 1234.0]);
    }

    #[test]
    fn numbers_that_floats_cannot_distinguish_are_excluded_with_a_note() {
        let rows = |column: &dyn Fn(u64) -> String| {
            let lines: Vec<_> = (0..200).map(|row| format!("{},{row},{}", column(row), row % 2)).collect();
            csv(&format!("a,b,y\n{}\n", lines.join("\n")), &label("y")).unwrap()
        };
        // Ids, nanoseconds within a second, and cents on a large sum.
        for start in [1_000_000_000_000_000_u64, 1_700_000_000_000_000_000] {
            let data = rows(&|row| (start + row * 1_000).to_string());
            assert_eq!(data.features, ["b"], "{}", notes(&data));
            assert!(
                data.notes[0].is_warning() && notes(&data).contains("column \"a\" is excluded"),
                "{}",
                notes(&data)
            );
        }
        assert_eq!(rows(&|row| format!("{}.25", 1_000_000_000 + row)).features, ["b"]);
        // A year in nanoseconds is precise enough, and so are ids from 0 on.
        assert_eq!(
            rows(&|row| (1_700_000_000_000_000_000 + row * 157_680_000_000_000).to_string()).features,
            ["a", "b"]
        );
        assert_eq!(rows(&|row| (row * 10_000_000_000_000).to_string()).features, ["a", "b"]);
        // Most values become equal, although the column is kept.
        let data = rows(&|row| if row == 0 { 0 } else { 1_000_000_000_000_000 + row }.to_string());
        assert!(notes(&data).contains("of 200 distinct numbers 32-bit floats distinguish 2"), "{}", notes(&data));
        let data = rows(&|row| if row == 0 { "1e39".to_owned() } else { row.to_string() });
        assert!(notes(&data).contains("1 numbers are infinite or beyond 3.4e38"), "{}", notes(&data));
        let text = "a,y\n1000000000000001,1\n1000000000000002,0\n";
        assert!(matches!(csv(text, &label("y")), Err(TrainError::Rounded { .. })), "it is the only column");
        let named = ReadSpec { features: Some(vec!["a".to_owned()]), ..label("y") };
        let error = csv(text, &named).unwrap_err().to_string();
        assert!(error.contains("column \"a\"") && error.contains("the difference to a constant"), "{error}");
    }

    #[test]
    fn texts_that_begin_with_numbers_are_noted_with_the_number_of_features() {
        let text = "a,b,y\n12 kg,red,1\n13 kg,blue,0\n7 kg,red,0\n";
        let data = csv(text, &label("y")).unwrap();
        assert_eq!(data.features.len(), 5);
        let told = "column \"a\": texts that begin with numbers (\"12 kg\" (1, first at line 2), \"13 kg\" (1, first at line 3)";
        assert!(notes(&data).contains(told) && data.notes[0].is_warning(), "{}", notes(&data));
        assert!(notes(&data).contains("column \"b\": each of its 2 texts becomes a feature"), "{}", notes(&data));
        let data = csv(text, &ReadSpec { text: vec!["a".to_owned()], ..label("y") }).unwrap();
        assert!(!notes(&data).contains("begin with numbers"), "{}", notes(&data));
    }

    #[test]
    fn labels_may_be_words() {
        let data = csv("a,y\n1,yes\n2,No\n3,TRUE\n4,false\n5,1.0\n6,0\n", &label("y")).unwrap();
        assert_eq!(data.labels, [true, false, true, false, true, false]);
    }

    #[test]
    fn byte_order_marks_line_ends_and_blanks_of_spreadsheets_are_not_part_of_values() {
        let data = csv("\u{feff}a;y\r\n\"1\";1\r\n\r\n 2 ;0\r\n", &label("y")).unwrap();
        assert_eq!((data.features, data.values), (vec!["a".to_owned()], vec![1.0, 2.0]));
        let data = csv("a,b,y\n1,\"two\nlines\",1\n2,one,0\n3,one,maybe\n", &label("y"));
        // Line numbers include line breaks inside quotes.
        assert!(data.unwrap_err().to_string().contains("line 5, column \"y\""));
        // The first column that pandas writes has no name.
        let data = csv(",a,y\n0,1,1\n1,2,0\n", &label("y")).unwrap();
        assert_eq!(data.features, ["a"]);
        assert!(notes(&data).contains("column 1 has no name"), "{}", notes(&data));
        assert_eq!(csv("Unnamed: 0,a,y\n0,1,1\n1,2,0\n", &label("y")).unwrap().features, ["a"]);
    }

    #[test]
    fn columns_have_the_configured_roles() {
        let text = "a,b,when,who,y\n1,2,2026-01-01T00:00:00Z,ann,1\n3,4,2026-01-01 00:00:01,bob,0\n";
        let spec = ReadSpec {
            time: Some("when".to_owned()),
            group: Some("who".to_owned()),
            ignore: vec!["a".to_owned()],
            ..label("y")
        };
        let data = csv(text, &spec).unwrap();
        assert_eq!(data.features, ["b"]);
        assert_eq!(data.groups.unwrap(), ["ann", "bob"]);
        let times = data.times.unwrap();
        assert_eq!(times[1] - times[0], 1.0);
        let spec = ReadSpec { features: Some(vec!["b".to_owned(), "a".to_owned()]), ..label("y") };
        assert_eq!(csv(text, &spec).unwrap().values, [2.0, 1.0, 4.0, 3.0]);
    }

    #[test]
    fn errors_name_the_line_and_the_column() {
        let cases = [
            (
                "a,y\n1,0\n2,maybe\n",
                "line 3, column \"y\": expected a label of 0 or 1, false or true, no or yes, found \"maybe\"",
            ),
            ("a,y\n1,\n", "line 2, column \"y\": expected a label of 0 or 1, false or true, no or yes, found \"\""),
            ("a,y\n1,0\n\n\n2,maybe\n", "line 5, column \"y\""),
            ("a,y\r\n1,0\r\n2,maybe\r\n", "line 3, column \"y\""),
            ("\r\na,y\r\n\r\n1,0\r\n\r\n2,maybe", "line 6, column \"y\""),
            ("a,y\r1,0\r\r2,maybe\r", "line 4, column \"y\""),
            ("\u{feff}a,y\n\"1\n\n\",0\n2,maybe\n", "line 5, column \"y\""),
            ("a,y\n1,NA\n", "line 2, column \"y\": expected a label"),
            ("a,b,a,y\n1,2,3,0\n", "expected every column once, found \"a\" as columns 1 and 3"),
            ("a,y\n1,0\n2,0,3\n", "line 3: expected 2 fields as in the header, found 3"),
            ("a,y\n1,0\n\"2,0\n3,0\n", "line 3: expected 2 fields as in the header, found 1; a text that contains"),
            ("a,z\n1,0\n", "expected label \"y\" to be a column, found the columns a, z"),
            ("a,y\n1\n", "line 2: expected 2 fields as in the header, found 1"),
            ("a,y\n", "expected at least one row and one feature, found 0 rows and 1 features"),
        ];
        for (text, message) in cases {
            let error = csv(text, &label("y")).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        fs::write(&path, b"a,y\nJos\xe9,1\n").unwrap();
        let error = read(&path, &label("y")).unwrap_err().to_string();
        assert!(error.contains("line 2, field 1: expected text in UTF-8") && error.contains("iconv"), "{error}");
        assert_eq!(
            csv("a,b,a,y\n1,2,3,0\n", &ReadSpec { ignore: vec!["a".to_owned()], ..label("y") }).unwrap().values,
            [2.0]
        );
        let ids: Vec<_> = (0..300).map(|row| format!("id{row},0")).collect();
        let text = format!("a,y\n{}\n", ids.join("\n"));
        assert!(matches!(csv(&text, &label("y")), Err(TrainError::Levels { .. })));
        assert!(matches!(read(Path::new("rows.txt"), &label("y")), Err(TrainError::Extension { .. })));
    }

    #[test]
    fn gzip_files_are_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv.gz");
        let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        gzip.write_all(b"a,y\n1,0\n2,1\n").unwrap();
        gzip.finish().unwrap();
        assert_eq!(read(&path, &label("y")).unwrap().values, [1.0, 2.0]);
    }
}
