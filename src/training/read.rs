//! Rows with labels, out of a CSV or Parquet file.
//!
//! Owns how a column becomes features: numbers stay numbers, TRUE and FALSE become 1 and 0, other texts become a
//! feature for each text that occurs, and what is empty is missing (NaN). Guarantees: the features come in the order
//! of the columns, and a text column's in the order of its texts; an error names the line and the column. Limits: a
//! text column has at most 256 texts; the file is read twice, once for its texts and once for its values.

use super::{
    Kind, TrainError,
    rows::{KEY_TYPE, POSITION},
};
use crate::{
    gzip::Gzip,
    inference::{FeatureMatrix, metadata},
};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use std::{
    cell::Cell,
    collections::BTreeSet,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

/// A text column with more texts than this is a column of names or ids, from which nothing is learned.
const LEVELS_MAX: usize = 256;

/// The longest row of a CSV file: some million columns.
const ROW_BYTES_MAX: usize = 64 << 20;

/// Which columns are what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadSpec {
    /// The column with 0 and 1.
    pub label: String,
    /// Columns that are no features.
    pub ignore: Vec<String>,
    /// The columns that are features, in their order; all that have no other part to play where absent.
    pub features: Option<Vec<String>>,
    /// The column that says when: a number, or a time as in RFC 3339. The export's own where absent.
    pub time: Option<String>,
    /// The column whose equal values stay together in a split, such as a user's.
    pub group: Option<String>,
}

/// Rows with labels.
#[derive(Clone, Debug, Default)]
pub struct Dataset {
    /// The names of the features.
    pub features: Vec<String>,
    /// The values, row by row; missing ones NaN.
    pub values: Vec<f32>,
    /// What happened, by row.
    pub labels: Vec<bool>,
    /// When, by row, in whatever unit the file has.
    pub times: Option<Vec<f64>>,
    /// What belongs together, by row.
    pub groups: Option<Vec<String>>,
    /// The fingerprint of the feature declarations that the file carries.
    pub fingerprint: Option<String>,
}

impl Dataset {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The values of some rows.
    pub fn matrix(&self, rows: &[usize]) -> FeatureMatrix {
        let width = self.features.len();
        let mut matrix = FeatureMatrix::new(width);
        for (to, &row) in matrix.reset(rows.len()).chunks_exact_mut(width).zip(rows) {
            to.copy_from_slice(&self.values[row * width..(row + 1) * width]);
        }
        matrix
    }
}

/// One value of a file.
#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Missing,
    Number(f64),
    Text(&'a str),
}

impl Value<'_> {
    /// The number that it is, NaN where it is missing; `None` for other texts.
    fn number(self) -> Option<f64> {
        match self {
            Self::Missing => Some(f64::NAN),
            Self::Number(number) => Some(number),
            Self::Text(text) if text.eq_ignore_ascii_case("true") => Some(1.0),
            Self::Text(text) if text.eq_ignore_ascii_case("false") => Some(0.0),
            Self::Text(text) => text.parse().ok(),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.to_owned(),
        }
    }
}

/// Reads a `.csv`, `.csv.gz` or `.parquet` file.
///
/// # Errors
/// The file cannot be read, lacks a column, or holds a label that is not 0 or 1 or a time that is none.
pub fn read(path: &Path, spec: &ReadSpec) -> Result<Dataset, TrainError> {
    let file = Source::open(path)?;
    let plan = Plan::new(&file, spec)?;
    let columns = plan.columns(&file)?;
    let mut data = Dataset {
        features: columns.iter().flat_map(Column::names).collect(),
        times: plan.time.map(|_| Vec::new()),
        groups: plan.group.map(|_| Vec::new()),
        fingerprint: file.fingerprint.clone(),
        ..Dataset::default()
    };
    file.scan(|line, values| {
        let wrong = |column: usize, expected| TrainError::Cell {
            path: path.to_path_buf(),
            unit: file.unit,
            line,
            column: file.columns[column].clone(),
            expected,
            found: values[column].text(),
        };
        let label = values[plan.label].number().filter(|&label| label == 0.0 || label == 1.0);
        data.labels.push(label.ok_or_else(|| wrong(plan.label, "a label of 0 or 1"))? == 1.0);
        if let (Some(column), Some(times)) = (plan.time, &mut data.times) {
            let time = time(values[column]);
            times.push(time.ok_or_else(|| wrong(column, "a number or a time such as 2026-01-31T12:00:00Z"))?);
        }
        if let (Some(column), Some(groups)) = (plan.group, &mut data.groups) {
            groups.push(values[column].text());
        }
        for column in &columns {
            column.push(values[column.index], &mut data.values);
        }
        Ok(())
    })?;
    if data.rows() == 0 || data.features.is_empty() {
        let (rows, features) = (data.rows(), data.features.len());
        return Err(TrainError::Empty { path: path.to_path_buf(), rows, features });
    }
    Ok(data)
}

/// A time as a number: itself, or the seconds since 1970 of a text as in RFC 3339, UTC where it has no offset.
fn time(value: Value<'_>) -> Option<f64> {
    if let Some(number) = value.number() {
        return number.is_finite().then_some(number);
    }
    let Value::Text(text) = value else { return None };
    let timestamp = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        jiff::tz::TimeZone::UTC.to_timestamp(civil).ok()
    })?;
    Some(timestamp.as_microsecond() as f64 / 1e6)
}

/// One column that is a feature, or several.
struct Column {
    index: usize,
    name: String,
    /// The texts in order, where they are features of their own.
    levels: Option<Vec<String>>,
}

impl Column {
    fn names(&self) -> Vec<String> {
        match &self.levels {
            None => vec![self.name.clone()],
            Some(levels) => levels.iter().map(|level| format!("{}={level}", self.name)).collect(),
        }
    }

    fn push(&self, value: Value<'_>, to: &mut Vec<f32>) {
        match &self.levels {
            None => to.push(value.number().unwrap_or(f64::NAN) as f32),
            Some(levels) => {
                let text = if let Value::Text(text) = value { text } else { "" };
                to.extend(levels.iter().map(|level| f32::from(u8::from(level == text))));
            }
        }
    }
}

/// Which column plays which part, by index.
struct Plan {
    label: usize,
    time: Option<usize>,
    group: Option<usize>,
    features: Vec<usize>,
}

impl Plan {
    fn new(file: &Source, spec: &ReadSpec) -> Result<Self, TrainError> {
        let find = |role: &'static str, column: &str| {
            file.columns.iter().position(|it| it == column).ok_or_else(|| TrainError::Column {
                path: file.path.clone(),
                role,
                column: column.to_owned(),
                found: file.columns.join(", "),
            })
        };
        let exported = POSITION.iter().all(|&name| file.columns.iter().any(|column| column == name));
        let label = find("label", &spec.label)?;
        let own_time = exported.then_some("occurred_at_us");
        let time = spec.time.as_deref().or(own_time).map(|name| find("time", name)).transpose()?;
        let group = spec.group.as_deref().map(|name| find("group", name)).transpose()?;
        let ignored = spec.ignore.iter().map(|name| find("ignore", name)).collect::<Result<Vec<_>, _>>()?;
        let features = match &spec.features {
            Some(names) => names.iter().map(|name| find("feature", name)).collect::<Result<_, _>>()?,
            None => (0..file.columns.len())
                .filter(|&it| it != label && Some(it) != time && Some(it) != group && !ignored.contains(&it))
                .filter(|&it| !(exported && POSITION.iter().chain([&KEY_TYPE]).any(|name| file.columns[it] == *name)))
                .collect(),
        };
        Ok(Self { label, time, group, features })
    }

    /// Finds out which feature columns are text, and the texts in them.
    fn columns(&self, file: &Source) -> Result<Vec<Column>, TrainError> {
        let mut is_text = vec![false; self.features.len()];
        let mut levels = vec![BTreeSet::new(); self.features.len()];
        file.scan(|_, values| {
            for (feature, &index) in self.features.iter().enumerate() {
                is_text[feature] |= values[index].number().is_none();
                // Numbers count as well until the column is known to hold no other text.
                if let Value::Text(text) = values[index]
                    && levels[feature].len() <= LEVELS_MAX
                    && !levels[feature].contains(text)
                {
                    levels[feature].insert(text.to_owned());
                }
            }
            Ok(())
        })?;
        let columns = self.features.iter().zip(is_text).zip(levels).map(|((&index, is_text), levels)| {
            let name = file.columns[index].clone();
            if is_text && levels.len() > LEVELS_MAX {
                return Err(TrainError::Levels { path: file.path.clone(), column: name, limit: LEVELS_MAX });
            }
            Ok(Column { index, name, levels: is_text.then(|| levels.into_iter().collect()) })
        });
        columns.collect()
    }
}

/// Bytes of which no more than a row may have are read before a row is taken: it is held in memory, and a small file may unpack to a
/// row of gigabytes.
struct Bounded {
    bytes: Box<dyn Read>,
    /// How many were read since the last row was taken.
    ahead: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(to)?;
        self.ahead.set(self.ahead.get() + count);
        if self.ahead.get() > ROW_BYTES_MAX {
            let message = format!("a row has more than {ROW_BYTES_MAX} bytes; is it a CSV file?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(count)
    }
}

/// An open file, which is scanned as often as need be.
struct Source {
    path: PathBuf,
    columns: Vec<String>,
    fingerprint: Option<String>,
    kind: Kind,
    /// What its rows are counted in.
    unit: &'static str,
}

impl Source {
    fn open(path: &Path) -> Result<Self, TrainError> {
        let kind = Kind::of(path)?;
        let unit = if kind == Kind::Parquet { "row" } else { "line" };
        let mut file = Self { path: path.to_path_buf(), columns: Vec::new(), fingerprint: None, kind, unit };
        if kind == Kind::Parquet {
            let reader = file.parquet()?;
            let found = reader.metadata().file_metadata();
            file.columns = found.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
            let pairs = found.key_value_metadata().into_iter().flatten();
            file.fingerprint =
                pairs.filter(|pair| pair.key == metadata::FINGERPRINT).find_map(|pair| pair.value.clone());
        } else {
            let (mut reader, _) = file.csv()?;
            let headers = reader.headers().map_err(|error| file.broken(&error))?;
            file.columns = headers.iter().map(str::to_owned).collect();
        }
        Ok(file)
    }

    fn file(&self) -> Result<File, TrainError> {
        File::open(&self.path).map_err(|source| TrainError::File { doing: "open", path: self.path.clone(), source })
    }

    /// A reader, and what is to be set to 0 for each row that is taken.
    fn csv(&self) -> Result<(csv::Reader<Bounded>, Rc<Cell<usize>>), TrainError> {
        let file = self.file()?;
        let bytes: Box<dyn Read> =
            if self.kind == Kind::Gzip { Box::new(Gzip::new(std::io::BufReader::new(file))) } else { Box::new(file) };
        let ahead = Rc::new(Cell::new(0));
        let bounded = Bounded { bytes, ahead: Rc::clone(&ahead) };
        Ok((csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bounded), ahead))
    }

    fn parquet(&self) -> Result<SerializedFileReader<File>, TrainError> {
        SerializedFileReader::new(self.file()?).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &dyn std::error::Error) -> TrainError {
        TrainError::Format { doing: "read", path: self.path.clone(), reason: error.to_string() }
    }

    /// Gives every row with its number.
    fn scan(&self, row: impl FnMut(u64, &[Value<'_>]) -> Result<(), TrainError>) -> Result<(), TrainError> {
        if self.kind == Kind::Parquet { self.scan_parquet(row) } else { self.scan_csv(row) }
    }

    fn scan_csv(&self, mut row: impl FnMut(u64, &[Value<'_>]) -> Result<(), TrainError>) -> Result<(), TrainError> {
        let (mut reader, ahead) = self.csv()?;
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|error| self.broken(&error))? {
            ahead.set(0);
            let line = record.position().map_or(0, csv::Position::line);
            let value = |text| if str::is_empty(text) { Value::Missing } else { Value::Text(text) };
            let values: Vec<_> = record.iter().map(value).collect();
            row(line, &values)?;
        }
        Ok(())
    }

    fn scan_parquet(&self, mut row: impl FnMut(u64, &[Value<'_>]) -> Result<(), TrainError>) -> Result<(), TrainError> {
        let reader = self.parquet()?;
        let rows = reader.get_row_iter(None).map_err(|error| self.broken(&error))?;
        for (number, record) in rows.enumerate() {
            let record = record.map_err(|error| self.broken(&error))?;
            let line = number as u64 + 1;
            let values = record.get_column_iter().map(|(name, field)| {
                value(field).ok_or_else(|| TrainError::Cell {
                    path: self.path.clone(),
                    unit: self.unit,
                    line,
                    column: name.clone(),
                    expected: "a number, a boolean, a text or a time",
                    found: field.to_string(),
                })
            });
            row(line, &values.collect::<Result<Vec<_>, _>>()?)?;
        }
        Ok(())
    }
}

/// A Parquet value; `None` where it is of a kind that no feature is made of.
fn value(field: &Field) -> Option<Value<'_>> {
    Some(match field {
        Field::Null => Value::Missing,
        Field::Bool(value) => Value::Number(f64::from(u8::from(*value))),
        Field::Byte(value) => Value::Number((*value).into()),
        Field::Short(value) => Value::Number((*value).into()),
        Field::Int(value) | Field::Date(value) | Field::TimeMillis(value) => Value::Number((*value).into()),
        Field::Long(value)
        | Field::TimestampMillis(value)
        | Field::TimestampMicros(value)
        | Field::TimeMicros(value) => Value::Number(*value as f64),
        Field::UByte(value) => Value::Number((*value).into()),
        Field::UShort(value) => Value::Number((*value).into()),
        Field::UInt(value) => Value::Number((*value).into()),
        Field::ULong(value) => Value::Number(*value as f64),
        Field::Float(value) => Value::Number((*value).into()),
        Field::Double(value) => Value::Number(*value),
        Field::Str(text) if text.is_empty() => Value::Missing,
        Field::Str(text) => Value::Text(text),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, io::Write};

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
    fn a_row_that_unpacks_to_more_than_any_has_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv.gz");
        for row in ["x", "\"\n"] {
            let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
            gzip.write_all(b"a,label\n1,0\n").unwrap();
            gzip.write_all(&row.as_bytes()[..1]).unwrap();
            gzip.write_all(row.as_bytes()[row.len() - 1..].repeat(ROW_BYTES_MAX + 100_000).as_slice()).unwrap();
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

    #[test]
    fn a_number_among_texts_is_a_text() {
        let data = csv("code,y\n7,1\nother,0\n", &label("y")).unwrap();
        assert_eq!(data.features, ["code=7", "code=other"]);
        assert_eq!(data.values, [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn columns_play_the_parts_that_they_are_given() {
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
            ("a,y\n1,0\n2,maybe\n", "line 3, column \"y\": expected a label of 0 or 1, found \"maybe\""),
            ("a,y\n1,\n", "line 2, column \"y\": expected a label of 0 or 1, found \"\""),
            ("a,z\n1,0\n", "expected label \"y\" to be a column, found the columns a, z"),
            ("a,y\n1\n", "found record with 1 fields, but the previous record has 2 fields"),
            ("a,y\n", "expected at least one row and one feature, found 0 rows and 1 features"),
        ];
        for (text, message) in cases {
            let error = csv(text, &label("y")).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let ids: Vec<_> = (0..300).map(|row| format!("id{row},0")).collect();
        let text = format!("a,y\n{}\n", ids.join("\n"));
        assert!(matches!(csv(&text, &label("y")), Err(TrainError::Levels { .. })));
        assert!(matches!(read(Path::new("rows.txt"), &label("y")), Err(TrainError::Extension { .. })));
    }

    #[test]
    fn gzip_reads_as_what_it_holds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv.gz");
        let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        gzip.write_all(b"a,y\n1,0\n2,1\n").unwrap();
        gzip.finish().unwrap();
        assert_eq!(read(&path, &label("y")).unwrap().values, [1.0, 2.0]);
    }
}
