//! The records of a file of decisions and outcomes: JSON lines, Protobuf or Parquet.
//!
//! Owns what tells the forms apart, and how each becomes one record after the other:
//! - **JSON**: one record a line. The usual case.
//! - **Protobuf**: a name that ends in `.pb` or `.binpb`, before `.gz` or `.zst`. Each message has its length before it,
//!   as a varint.
//! - **Parquet**: a file that begins with `PAR1`. The columns have the names of the members in JSON, nested as there; a
//!   row becomes the JSON that it stands for.
//!
//! Guarantees: one record is in memory, and of Parquet the pages of a row group. A file that ends within a record is an
//! error. Limits: [`RECORD_BYTES_MAX`] for a record.

use crate::{
    app::FileRecord,
    cli::files::{self, FileError, Line, Lines},
    control::{DecisionRecord, Outcome},
    panics::{expecting_panics, words_of_panic},
    proto::{v1, without_header},
    training::unknown_codec,
};
use parquet::{
    basic::{LogicalType, TimeUnit},
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, reader::RowIter},
};
use prost::Message;
use serde_json::Value;
use std::{
    fs::File,
    io::{self, BufRead, Read, Write},
    path::{Path, PathBuf},
};

/// The longest record.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// The first bytes of a Parquet file.
const PARQUET: &[u8; 4] = b"PAR1";

/// A record that was read, or why not.
pub(in crate::cli) type Found = Result<(FileRecord, Option<String>), String>;

/// The records of a file, in their order.
pub(in crate::cli) enum Records {
    Json(Lines),
    Protobuf(Messages),
    Parquet(Rows),
}

impl Records {
    /// Opens a file.
    pub(in crate::cli) fn open(path: &Path) -> Result<Self, FileError> {
        if is_parquet(path) {
            return Rows::open(path).map(Self::Parquet);
        }
        if is_protobuf(path) {
            let reader = files::open(path).map_err(|error| FileError::new(path, error))?;
            return Ok(Self::Protobuf(Messages { path: path.to_owned(), reader, bytes: Vec::new(), number: 0 }));
        }
        Lines::open(path, RECORD_BYTES_MAX).map(Self::Json)
    }

    /// The next record with its number, from 1. `reads_members`: with all of a decision as JSON.
    pub(in crate::cli) fn next(&mut self, reads_members: bool) -> Result<Option<(u64, Found)>, FileError> {
        match self {
            Self::Json(lines) => Ok(lines.next()?.map(|line| match line {
                Line::Whole(number, json) => (number, of_json(json, reads_members)),
                Line::TooLong { number, bytes } => (number, Err(too_long("line", bytes))),
            })),
            Self::Protobuf(messages) => {
                let Some(message) = messages.next()? else { return Ok(None) };
                let found = message.and_then(|()| of_protobuf(&messages.bytes, reads_members));
                Ok(Some((messages.number, found)))
            }
            Self::Parquet(rows) => Ok(rows.next()?.map(|number| (number, of_json(&rows.json, reads_members)))),
        }
    }
}

fn too_long(what: &str, bytes: u64) -> String {
    format!("{bytes} bytes; a {what} has at most {RECORD_BYTES_MAX}")
}

fn is_parquet(path: &Path) -> bool {
    let mut start = [0; 4];
    // The first bytes of a pipe would be lost; and Parquet is read from its end.
    path.is_file() && File::open(path).is_ok_and(|mut file| file.read_exact(&mut start).is_ok() && &start == PARQUET)
}

fn is_protobuf(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = name.trim_end_matches(".gz").trim_end_matches(".zst");
    [".pb", ".binpb"].iter().any(|end| name.ends_with(end))
}

fn of_json(json: &[u8], reads_members: bool) -> Found {
    let record = FileRecord::read(json)?;
    let all =
        (reads_members && matches!(record, FileRecord::Decision(_))).then(|| String::from_utf8_lossy(json).into());
    Ok((record, all))
}

/// A message of either kind. No message is both: what is a number in one is a text in the other, in required fields.
fn of_protobuf(message: &[u8], reads_members: bool) -> Found {
    match DecisionRecord::read(message) {
        Ok(decision) => {
            let all = if reads_members { as_json(message) } else { None };
            Ok((FileRecord::Decision(Box::new(decision)), all))
        }
        Err(error) => match Outcome::read(Some(message)) {
            Ok(outcome) => Ok((FileRecord::Outcome(Box::new(outcome)), None)),
            Err(_) => Err(error.to_string()),
        },
    }
}

/// A decision as JSON, for groupings by its members.
fn as_json(message: &[u8]) -> Option<String> {
    let decision = v1::Decision::decode(without_header(message)?).ok()?;
    let mut json = serde_json::to_value(&decision).ok()?;
    // Protobuf has no zeros. A position has both numbers, as in the JSON that workers write.
    if let Some(input) = json.get_mut("input").and_then(Value::as_object_mut) {
        for name in ["partition", "offset"] {
            input.entry(name).or_insert_with(|| Value::from(0));
        }
    }
    Some(json.to_string())
}

/// Messages, each after its length.
pub(in crate::cli) struct Messages {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    bytes: Vec<u8>,
    number: u64,
}

impl Messages {
    /// Reads on to the next message, unless it is too long.
    fn next(&mut self) -> Result<Option<Result<(), String>>, FileError> {
        let failed = |error: io::Error| {
            let is_cut = error.kind() == io::ErrorKind::UnexpectedEof;
            let message = "it is cut off in the middle of a message; copy or create it again";
            FileError::new(&self.path, if is_cut { io::Error::new(error.kind(), message) } else { error })
        };
        let Some(length) = length(&mut self.reader).map_err(failed)? else { return Ok(None) };
        self.number += 1;
        self.bytes.clear();
        let mut rest = self.reader.by_ref().take(length);
        if length > RECORD_BYTES_MAX as u64 {
            let skipped = io::copy(&mut rest, &mut io::sink()).map_err(failed)?;
            let is_whole = skipped == length;
            return if is_whole { Ok(Some(Err(too_long("message", length)))) } else { Err(failed(cut())) };
        }
        rest.read_to_end(&mut self.bytes).map_err(failed)?;
        if self.bytes.len() as u64 == length { Ok(Some(Ok(()))) } else { Err(failed(cut())) }
    }
}

fn cut() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// The length before a message: a varint. `None` at the end.
fn length(reader: &mut impl Read) -> io::Result<Option<u64>> {
    let mut length = 0_u64;
    for place in 0..10 {
        let mut byte = [0];
        if reader.read(&mut byte)? == 0 {
            return if place == 0 { Ok(None) } else { Err(cut()) };
        }
        length |= u64::from(byte[0] & 0x7f).checked_shl(7 * place).unwrap_or_default();
        if byte[0] < 0x80 {
            return Ok(Some(length));
        }
    }
    let message = "no length of a message is where one should be; write each message after its length as a varint";
    Err(io::Error::new(io::ErrorKind::InvalidData, message))
}

/// Rows of a Parquet file.
pub(in crate::cli) struct Rows {
    path: PathBuf,
    from: RowIter<'static>,
    /// The row as JSON.
    json: Vec<u8>,
    number: u64,
}

impl Rows {
    fn open(path: &Path) -> Result<Self, FileError> {
        let file = File::open(path).map_err(|error| FileError::new(path, error))?;
        let reader = decode(path, || SerializedFileReader::new(file))?;
        if let Some(why) = unknown_codec(reader.metadata()) {
            return Err(FileError::new(path, io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        let columns = reader.metadata().file_metadata().schema_descr().columns();
        let is_finer = |unit: Option<&LogicalType>| matches!(unit, Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS);
        if let Some(column) = columns.iter().find(|column| is_finer(column.logical_type_ref())) {
            let message = format!(
                "column {} has nanoseconds; times are microseconds, so cast the column",
                column.path().string()
            );
            return Err(FileError::new(path, io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        let from = RowIter::from_file_into(Box::new(reader));
        Ok(Self { path: path.to_owned(), from, json: Vec::new(), number: 0 })
    }

    /// Reads on to the next row, and returns its number.
    fn next(&mut self) -> Result<Option<u64>, FileError> {
        let from = &mut self.from;
        let Some(row) = decode(&self.path, || from.next().transpose())? else { return Ok(None) };
        self.number += 1;
        self.json.clear();
        object(row.get_column_iter(), &mut self.json).map_err(|error| FileError::new(&self.path, error))?;
        Ok(Some(self.number))
    }
}

/// Calls the decoder, which trusts lengths in the file and panics if they are wrong.
fn decode<T>(path: &Path, call: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T, FileError> {
    let damaged = |why: String| {
        let message = format!("the file is damaged ({why}); create it again");
        FileError::new(path, io::Error::new(io::ErrorKind::InvalidData, message))
    };
    match expecting_panics(call) {
        Ok(found) => found.map_err(|error| damaged(error.to_string())),
        Err(panic) => Err(damaged(words_of_panic(&*panic))),
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a String, &'a Field)>, to: &mut Vec<u8>) -> io::Result<()> {
    to.push(b'{');
    for (at, (name, field)) in members.enumerate() {
        if at > 0 {
            to.push(b',');
        }
        serde_json::to_writer(&mut *to, name)?;
        to.push(b':');
        value(field, to)?;
    }
    to.push(b'}');
    Ok(())
}

fn value(field: &Field, to: &mut Vec<u8>) -> io::Result<()> {
    match field {
        Field::Bool(value) => write!(to, "{value}"),
        Field::Byte(value) => write!(to, "{value}"),
        Field::Short(value) => write!(to, "{value}"),
        Field::Int(value) => write!(to, "{value}"),
        Field::Long(value) | Field::TimestampMicros(value) => write!(to, "{value}"),
        Field::TimestampMillis(value) => write!(to, "{}", value.saturating_mul(1_000)),
        Field::UByte(value) => write!(to, "{value}"),
        Field::UShort(value) => write!(to, "{value}"),
        Field::UInt(value) => write!(to, "{value}"),
        Field::ULong(value) => write!(to, "{value}"),
        Field::Float16(value) if value.is_finite() => write!(to, "{value}"),
        Field::Float(value) if value.is_finite() => write!(to, "{value}"),
        Field::Double(value) if value.is_finite() => write!(to, "{value}"),
        Field::Decimal(_) => write!(to, "{field}"),
        Field::Str(text) => Ok(serde_json::to_writer(to, text)?),
        // Some writers do not say that a text is one.
        Field::Bytes(bytes) => match bytes.as_utf8() {
            Ok(text) => Ok(serde_json::to_writer(to, text)?),
            Err(_) => to.write_all(b"null"),
        },
        Field::Group(row) => object(row.get_column_iter(), to),
        Field::ListInternal(list) => {
            to.push(b'[');
            for (at, field) in list.elements().iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                value(field, to)?;
            }
            to.push(b']');
            Ok(())
        }
        Field::MapInternal(map) => {
            let members = map.entries().iter().filter_map(|(key, field)| match key {
                Field::Str(name) => Some((name, field)),
                _ => None,
            });
            object(members, to)
        }
        // Numbers that are none, and types that no member has.
        _ => to.write_all(b"null"),
    }
}
