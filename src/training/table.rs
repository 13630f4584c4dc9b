//! Reads a table from a file, row by row.
//!
//! Owns the formats: CSV, plain or gzip, and Parquet. Guarantees: every row has a value for each column, otherwise the error names
//! the line; byte order marks and Windows line ends are not part of a value. Limits: a table is scanned repeatedly, so it has to be a
//! file and not a pipe; texts are UTF-8.

use super::{
    TrainError,
    format::{FileFormat, unknown_codec},
};
use crate::{
    gzip::Gzip,
    inference::metadata,
    panics::{expecting_panics, words_of_panic},
};
use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::Field,
};
use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    rc::Rc,
};

/// Maximum size of a CSV row: some million columns. A row is held in memory, and a small file could unpack to a row of gigabytes.
pub(super) const ROW_BYTES_MAX: u64 = 64 << 20;

/// Maximum number of remembered line starts: after a row with more lines, the line number is unknown.
const STARTS_MAX: usize = 1 << 20;

/// Supported delimiters of a CSV file.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// A value of a table.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// None.
    Missing,
    /// A number, or a truth value as 0 or 1.
    Number(f64),
    /// A text.
    Text(&'a str),
}

impl Value<'_> {
    /// The value as text; empty if it is missing.
    pub fn text(self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.to_owned(),
        }
    }
}

/// A file that can be scanned repeatedly.
#[derive(Debug)]
pub struct Table {
    pub(super) path: PathBuf,
    /// The names of the columns.
    pub columns: Vec<String>,
    pub(super) fingerprint: Option<String>,
    /// The unit of row numbers: line or row.
    pub(super) unit: &'static str,
    kind: FileFormat,
    delimiter: u8,
}

impl Table {
    /// Opens a file. The delimiter is the first with which `column` exists.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn open(path: &Path, column: &str) -> Result<Self, TrainError> {
        let kind = FileFormat::of(path)?;
        let unit = if kind == FileFormat::Parquet { "row" } else { "line" };
        let mut table =
            Self { path: path.to_path_buf(), columns: Vec::new(), fingerprint: None, kind, unit, delimiter: b',' };
        if kind == FileFormat::Parquet {
            let reader = table.decode(|| table.parquet())?;
            let found = reader.metadata().file_metadata();
            table.columns = found.schema().get_fields().iter().map(|field| field.name().to_owned()).collect();
            let pairs = found.key_value_metadata().into_iter().flatten();
            table.fingerprint =
                pairs.filter(|pair| pair.key == metadata::FINGERPRINT).find_map(|pair| pair.value.clone());
            return Ok(table);
        }
        let mut headers = Vec::new();
        for delimiter in DELIMITERS {
            let (mut reader, _) = table.csv(delimiter)?;
            let header = reader.headers().map_err(|error| table.unreadable(&error, None))?;
            headers.push((delimiter, header.iter().map(str::to_owned).collect::<Vec<_>>()));
        }
        let has_column = |(_, columns): &&(u8, Vec<String>)| columns.iter().any(|it| it == column);
        // Without that column the widest header is the most likely one.
        let widest = || headers.iter().rev().max_by_key(|(_, columns)| columns.len());
        if let Some((delimiter, columns)) = headers.iter().find(has_column).or_else(widest) {
            table.delimiter = *delimiter;
            table.columns.clone_from(columns);
        }
        Ok(table)
    }

    /// Visits every row with its number.
    ///
    /// # Errors
    /// The file cannot be read, a row has another number of values than there are columns, or `row` fails.
    pub fn scan(&self, row: impl FnMut(u64, &[Value<'_>]) -> Result<(), TrainError>) -> Result<(), TrainError> {
        if self.kind != FileFormat::Parquet {
            return self.scan_csv(row);
        }
        self.decode(|| self.scan_parquet(row))
    }

    /// The error for a value that is not as expected.
    pub fn cell(&self, line: u64, column: usize, expected: &'static str, found: Value<'_>) -> TrainError {
        TrainError::Cell {
            path: self.path.clone(),
            unit: self.unit,
            line,
            column: self.columns[column].clone(),
            expected,
            found: found.text(),
        }
    }

    /// Calls the Parquet decoder, which trusts lengths in the file and panics if they are wrong.
    fn decode<T>(&self, call: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
        expecting_panics(call).unwrap_or_else(|panic| {
            Err(self.broken(format!("the file is damaged ({}); create it again", words_of_panic(&*panic))))
        })
    }

    fn file(&self) -> Result<File, TrainError> {
        File::open(&self.path).map_err(|source| TrainError::File { doing: "open", path: self.path.clone(), source })
    }

    /// A reader of the file, with the line starts of what it has read so far.
    fn csv(&self, delimiter: u8) -> Result<(csv::Reader<Box<dyn Read>>, LineStarts), TrainError> {
        let file = self.file()?;
        let starts = LineStarts::default();
        let bytes: Box<dyn Read> = if self.kind == FileFormat::Gzip {
            Box::new(Lines::new(Gzip::new(io::BufReader::new(file)), starts.clone()))
        } else {
            Box::new(Lines::new(file, starts.clone()))
        };
        // Rows of another length are reported with our own message.
        let reader =
            csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).flexible(true).from_reader(bytes);
        Ok((reader, starts))
    }

    fn parquet(&self) -> Result<SerializedFileReader<File>, TrainError> {
        let reader = SerializedFileReader::new(self.file()?).map_err(|error| self.broken(error.to_string()))?;
        unknown_codec(reader.metadata()).map_or(Ok(reader), |why| Err(self.broken(why)))
    }

    fn broken(&self, reason: String) -> TrainError {
        TrainError::Format { doing: "read", path: self.path.clone(), reason }
    }

    /// Converts the CSV reader's error, with a next step for invalid UTF-8.
    fn unreadable(&self, error: &csv::Error, line: Option<u64>) -> TrainError {
        self.broken(match error.kind() {
            csv::ErrorKind::Utf8 { err, .. } => {
                let (line, field) = (line.unwrap_or(1), err.field() + 1);
                format!(
                    "line {line}, field {field}: expected text in UTF-8, found other bytes; convert the file, for \
                     instance with iconv -f latin1 -t UTF-8, or -f UTF-16 if a spreadsheet wrote it as Unicode"
                )
            }
            _ => error.to_string(),
        })
    }

    fn scan_csv(&self, mut row: impl FnMut(u64, &[Value<'_>]) -> Result<(), TrainError>) -> Result<(), TrainError> {
        let (mut reader, starts) = self.csv(self.delimiter)?;
        reader.headers().map_err(|error| self.unreadable(&error, None))?;
        let mut record = csv::StringRecord::new();
        loop {
            starts.take(reader.position().byte());
            let is_there = reader.read_record(&mut record);
            let line = starts.line();
            if !is_there.map_err(|error| self.unreadable(&error, Some(line)))? {
                return Ok(());
            }
            if record.len() != self.columns.len() {
                let (path, expected, found) = (self.path.clone(), self.columns.len(), record.len());
                return Err(TrainError::Fields { path, line, expected, found });
            }
            let value = |text| if str::is_empty(text) { Value::Missing } else { Value::Text(text) };
            let values: Vec<_> = record.iter().map(value).collect();
            row(line, &values)?;
        }
    }

    fn scan_parquet(&self, mut row: impl FnMut(u64, &[Value<'_>]) -> Result<(), TrainError>) -> Result<(), TrainError> {
        let reader = self.parquet()?;
        let rows = reader.get_row_iter(None).map_err(|error| self.broken(error.to_string()))?;
        for (number, record) in rows.enumerate() {
            let record = record.map_err(|error| self.broken(error.to_string()))?;
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

/// The starts of non-empty lines, by offset and number, that were read but are not yet part of a record. The CSV reader's own line
/// number is that after the previous record, which may be empty or end in `\r\n`.
#[derive(Clone, Debug, Default)]
struct LineStarts(Rc<RefCell<Starts>>);

#[derive(Debug, Default)]
struct Starts {
    lines: VecDeque<(u64, u64)>,
    /// The end of the last record.
    taken: u64,
}

impl LineStarts {
    /// Drops all starts before this offset.
    fn take(&self, offset: u64) {
        let mut starts = self.0.borrow_mut();
        starts.taken = offset;
        while starts.lines.front().is_some_and(|(start, _)| *start < offset) {
            starts.lines.pop_front();
        }
    }

    /// The number of the first remaining line.
    fn line(&self) -> u64 {
        self.0.borrow().lines.front().map_or(0, |(_, line)| *line)
    }
}

/// A reader that records line starts.
struct Lines<R> {
    from: R,
    starts: LineStarts,
    offset: u64,
    line: u64,
    before: u8,
}

impl<R> Lines<R> {
    fn new(from: R, starts: LineStarts) -> Self {
        Self { from, starts, offset: 0, line: 1, before: b'\n' }
    }
}

impl<R: Read> Read for Lines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        let mut starts = self.starts.0.borrow_mut();
        if self.offset + count as u64 - starts.taken > ROW_BYTES_MAX {
            let message = format!("a row has more than {ROW_BYTES_MAX} bytes; is it a CSV file?");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        for &byte in &buffer[..count] {
            // A line ends in \n, \r\n or a single \r.
            let is_end = matches!(byte, b'\r' | b'\n');
            self.line += u64::from(byte == b'\n') + u64::from(self.before == b'\r' && byte != b'\n');
            if !is_end && matches!(self.before, b'\r' | b'\n') && starts.lines.len() < STARTS_MAX {
                starts.lines.push_back((self.offset, self.line));
            }
            self.offset += 1;
            self.before = byte;
        }
        Ok(count)
    }
}

/// Converts a Parquet value; `None` for unsupported types.
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
        Field::Float16(value) => Value::Number((*value).into()),
        Field::Float(value) => Value::Number((*value).into()),
        Field::Double(value) => Value::Number(*value),
        // A decimal is formatted as digits with a point.
        Field::Decimal(_) => Value::Number(field.to_string().parse().ok()?),
        Field::Str(text) if text.is_empty() => Value::Missing,
        Field::Str(text) => Value::Text(text),
        _ => return None,
    })
}
