//! A table in a file: its columns, and its rows one after another.
//!
//! Owns the formats: CSV, plain or gzip, and Parquet. Guarantees: every row has as many values as there are columns, and a
//! row that has not is an error that names its line; a byte order mark, Windows' line ends and quoted line ends are no part
//! of a value. Limits: a table is scanned as often as need be, and so it is a file and no pipe; texts are UTF-8.

use super::{Kind, TrainError};
use crate::{
    fault::{expecting_panics, words_of_panic},
    gzip::Gzip,
    inference::metadata,
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

/// The longest row of a CSV file: some million columns. A row is held in memory, and a small file may unpack to one of gigabytes.
pub(super) const ROW_BYTES_MAX: u64 = 64 << 20;

/// So many beginnings of lines are remembered at most: a row with more lines in it is followed by one of unknown line.
const STARTS_MAX: usize = 1 << 20;

/// What may stand between the values of a CSV file.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// One value of a table.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Missing,
    Number(f64),
    Text(&'a str),
}

impl Value<'_> {
    pub(super) fn text(self) -> String {
        match self {
            Self::Missing => String::new(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.to_owned(),
        }
    }
}

/// A file, which is scanned as often as need be.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) path: PathBuf,
    pub(super) columns: Vec<String>,
    pub(super) fingerprint: Option<String>,
    /// What its rows are counted in.
    pub(super) unit: &'static str,
    kind: Kind,
    delimiter: u8,
}

impl Table {
    /// Opens a file. Of the characters that may stand between values it takes the first that makes `column` one.
    pub(super) fn open(path: &Path, column: &str) -> Result<Self, TrainError> {
        let kind = Kind::of(path)?;
        let unit = if kind == Kind::Parquet { "row" } else { "line" };
        let mut table =
            Self { path: path.to_path_buf(), columns: Vec::new(), fingerprint: None, kind, unit, delimiter: b',' };
        if kind == Kind::Parquet {
            let reader = expecting_panics(|| table.parquet()).unwrap_or_else(|panic| {
                Err(table.broken(format!("the file is damaged ({}); create it again", words_of_panic(&*panic))))
            })?;
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
        // Without that column the widest header shows best what there is.
        let widest = || headers.iter().rev().max_by_key(|(_, columns)| columns.len());
        if let Some((delimiter, columns)) = headers.iter().find(has_column).or_else(widest) {
            table.delimiter = *delimiter;
            table.columns.clone_from(columns);
        }
        Ok(table)
    }

    /// Gives every row with its number.
    pub(super) fn scan(&self, row: impl FnMut(u64, &[Value<'_>]) -> Result<(), TrainError>) -> Result<(), TrainError> {
        if self.kind != Kind::Parquet {
            return self.scan_csv(row);
        }
        // The decoder trusts lengths in the file, and panics where they are wrong.
        expecting_panics(|| self.scan_parquet(row)).unwrap_or_else(|panic| {
            Err(self.broken(format!("the file is damaged ({}); create it again", words_of_panic(&*panic))))
        })
    }

    fn file(&self) -> Result<File, TrainError> {
        File::open(&self.path).map_err(|source| TrainError::File { doing: "open", path: self.path.clone(), source })
    }

    /// A reader of the file, and where the lines begin in what it has read so far.
    fn csv(&self, delimiter: u8) -> Result<(csv::Reader<Box<dyn Read>>, LineStarts), TrainError> {
        let file = self.file()?;
        let starts = LineStarts::default();
        let bytes: Box<dyn Read> = if self.kind == Kind::Gzip {
            Box::new(Lines::new(Gzip::new(io::BufReader::new(file)), starts.clone()))
        } else {
            Box::new(Lines::new(file, starts.clone()))
        };
        // A row of another length gets a message of our own.
        let reader =
            csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).flexible(true).from_reader(bytes);
        Ok((reader, starts))
    }

    fn parquet(&self) -> Result<SerializedFileReader<File>, TrainError> {
        SerializedFileReader::new(self.file()?).map_err(|error| self.broken(error.to_string()))
    }

    fn broken(&self, reason: String) -> TrainError {
        TrainError::Format { doing: "read", path: self.path.clone(), reason }
    }

    /// What the CSV reader says, with a next step where bytes are no text.
    fn unreadable(&self, error: &csv::Error, line: Option<u64>) -> TrainError {
        self.broken(match error.kind() {
            csv::ErrorKind::Utf8 { err, .. } => {
                let (line, field) = (line.unwrap_or(1), err.field() + 1);
                format!(
                    "line {line}, field {field}: expected text in UTF-8, found other bytes; convert the file, for \
                     instance with iconv -f latin1 -t UTF-8, or -f UTF-16 where a spreadsheet wrote it as Unicode"
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

/// Where lines that are not empty begin, by offset and number, as far as the file was read and no record took them yet. The
/// CSV reader's own count is that of the line behind the record before, which may be empty or end in `\r\n`.
#[derive(Clone, Debug, Default)]
struct LineStarts(Rc<RefCell<Starts>>);

#[derive(Debug, Default)]
struct Starts {
    lines: VecDeque<(u64, u64)>,
    /// Up to this offset records were taken.
    taken: u64,
}

impl LineStarts {
    /// Takes all before this offset for done.
    fn take(&self, offset: u64) {
        let mut starts = self.0.borrow_mut();
        starts.taken = offset;
        while starts.lines.front().is_some_and(|(start, _)| *start < offset) {
            starts.lines.pop_front();
        }
    }

    /// The number of the first line that is not empty and not done.
    fn line(&self) -> u64 {
        self.0.borrow().lines.front().map_or(0, |(_, line)| *line)
    }
}

/// Passes bytes on, and notes where lines begin.
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
            // A line ends in \n, in \r\n, or in a \r alone.
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
        Field::Float16(value) => Value::Number((*value).into()),
        Field::Float(value) => Value::Number((*value).into()),
        Field::Double(value) => Value::Number(*value),
        // It is written as digits with a point.
        Field::Decimal(_) => Value::Number(field.to_string().parse().ok()?),
        Field::Str(text) if text.is_empty() => Value::Missing,
        Field::Str(text) => Value::Text(text),
        _ => return None,
    })
}
