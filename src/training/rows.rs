//! The files of `aimpoint export`: features and labels, with the positions of their events.
//!
//! Owns the columns: six that identify the event of a row, for rows of the decision log five more, then the features, then `label`.
//! Guarantees: a file appears under its name
//! only when it is complete, and nothing is left of an incomplete one. A Parquet file contains the fingerprint of the features; a CSV
//! file cannot. Limits: a Parquet row group of 65,536 rows is held in memory.

use super::{TrainError, format::FileFormat};
use crate::{inference::metadata, partial::PartialFile};
use flate2::{Compression, write::GzEncoder};
use parquet::{
    basic::{Compression as ParquetCompression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel},
    data_type::{ByteArray, ByteArrayType, DataType, FloatType, Int32Type, Int64Type},
    file::{
        metadata::KeyValue,
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::types::{Type, TypePtr},
};
use std::{
    collections::HashSet,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The column with the type of the user's id. It follows [`POSITION`]; older files do not have it.
pub(super) const KEY_TYPE: &str = "key_type";

/// The columns that identify the event of a row, in order. The reader recognises an exported file by them.
pub(super) const POSITION: [&str; 5] = ["user_key", "event_id", "partition", "offset", "occurred_at_us"];

/// The further columns of rows of the decision log. They follow [`KEY_TYPE`].
pub(super) const OF_LOG: [&str; 5] = ["decision_id", "campaign_id", "consent_basis", "propensity", "weight"];

/// Rows per row group: tens of MiB with a hundred features, small enough for memory and large enough to compress.
const GROUP_ROWS: usize = 65_536;

/// The label column.
const LABEL: &str = "label";

/// The features of an event, with its label.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// The user's id, as in the decision.
    pub user_key: &'a str,
    /// The type of the id: an id with two types is two users.
    pub key_type: &'a str,
    /// The event's id.
    pub event_id: &'a str,
    /// The event's partition.
    pub partition: i32,
    /// The event's offset.
    pub offset: i64,
    /// Its event time in microseconds since 1970.
    pub occurred_at_us: i64,
    /// The values of the features, in the order of their names.
    pub features: &'a [f32],
    /// The label, 0 or 1; `None` in a file without labels.
    pub label: Option<f32>,
    /// What the decision log adds; `None` in a file of a replay.
    pub logged: Option<LoggedColumns<'a>>,
}

/// What a row of the decision log has beside its features.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoggedColumns<'a> {
    /// The decision.
    pub decision_id: &'a str,
    /// The campaign whose action the label is.
    pub campaign_id: &'a str,
    /// What permits training on the row.
    pub consent_basis: &'a str,
    /// The probability with which the creative was drawn; NaN without a creative.
    pub propensity: f32,
    /// How many decisions the row stands for.
    pub weight: f32,
}

/// A writer of a file of rows.
pub struct RowFile {
    path: PathBuf,
    width: usize,
    has_labels: bool,
    is_of_log: bool,
    rows: u64,
    writer: Writer,
}

enum Writer {
    Csv(Box<csv::Writer<BufWriter<PartialFile>>>),
    Gzip(Box<csv::Writer<GzEncoder<BufWriter<PartialFile>>>>),
    Parquet(Box<ParquetRows>),
}

impl std::fmt::Debug for RowFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RowFile").field("path", &self.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl RowFile {
    /// Creates a `.csv`, `.csv.gz` or `.parquet` file, with or without labels. `extra` is additional metadata, for Parquet only.
    ///
    /// # Errors
    /// The extension is unknown, two columns have the same name, or the file cannot be created.
    pub fn create(
        path: &Path,
        features: &[String],
        fingerprint: &str,
        extra: &[(String, String)],
        has_labels: bool,
    ) -> Result<Self, TrainError> {
        Self::open(path, features, fingerprint, extra, (has_labels, false))
    }

    /// Creates a file of rows of the decision log, which have labels.
    ///
    /// # Errors
    /// As [`RowFile::create`].
    pub fn of_log(path: &Path, features: &[String], fingerprint: &str) -> Result<Self, TrainError> {
        Self::open(path, features, fingerprint, &[], (true, true))
    }

    fn open(
        path: &Path,
        features: &[String],
        fingerprint: &str,
        extra: &[(String, String)],
        (has_labels, is_of_log): (bool, bool),
    ) -> Result<Self, TrainError> {
        let label = has_labels.then_some(LABEL);
        let of_log = if is_of_log { &OF_LOG[..] } else { &[] };
        let before = POSITION.into_iter().chain([KEY_TYPE]).chain(of_log.iter().copied());
        let columns: Vec<&str> = before.chain(features.iter().map(String::as_str)).chain(label).collect();
        let mut seen = HashSet::new();
        if let Some(column) = columns.iter().find(|&&column| !seen.insert(column)) {
            return Err(TrainError::Twice { path: path.to_path_buf(), column: (*column).to_owned() });
        }
        let kind = FileFormat::of(path)?;
        let file = PartialFile::create(path).map_err(|source| TrainError::File {
            doing: "create",
            path: path.to_path_buf(),
            source,
        })?;
        let file = BufWriter::new(file);
        let mut writer = match kind {
            FileFormat::Csv => Writer::Csv(Box::new(csv::Writer::from_writer(file))),
            FileFormat::Gzip => {
                Writer::Gzip(Box::new(csv::Writer::from_writer(GzEncoder::new(file, Compression::default()))))
            }
            FileFormat::Parquet => {
                let rows = ParquetRows::new(file, features, (fingerprint, extra), (has_labels, is_of_log));
                Writer::Parquet(Box::new(rows.map_err(|error| broken(path, &error))?))
            }
        };
        match &mut writer {
            Writer::Csv(writer) => writer.write_record(&columns).map_err(|error| broken_csv(path, error))?,
            Writer::Gzip(writer) => writer.write_record(&columns).map_err(|error| broken_csv(path, error))?,
            Writer::Parquet(_) => {}
        }
        Ok(Self { path: path.to_path_buf(), width: features.len(), has_labels, is_of_log, rows: 0, writer })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// The file cannot be written.
    ///
    /// # Panics
    /// The row's number of features differs from the file's, or only one of them has a label or is of the log.
    pub fn write(&mut self, row: &Row<'_>) -> Result<(), TrainError> {
        assert_eq!(row.features.len(), self.width, "a row has a value for each feature");
        assert_eq!(row.label.is_some(), self.has_labels, "all rows have labels, or none");
        assert_eq!(row.logged.is_some(), self.is_of_log, "all rows are of the log, or none");
        self.rows += 1;
        match &mut self.writer {
            Writer::Csv(writer) => record(writer, row).map_err(|error| broken_csv(&self.path, error)),
            Writer::Gzip(writer) => record(writer, row).map_err(|error| broken_csv(&self.path, error)),
            Writer::Parquet(rows) => rows.push(row).map_err(|error| broken(&self.path, &error)),
        }
    }

    /// The number of rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Completes and renames the file, and returns the number of rows.
    ///
    /// # Errors
    /// The file cannot be written or renamed.
    pub fn finish(self) -> Result<u64, TrainError> {
        let Self { path, rows, writer, .. } = self;
        let ended: io::Result<BufWriter<PartialFile>> = match writer {
            Writer::Csv(writer) => writer.into_inner().map_err(|error| again(error.error())),
            Writer::Gzip(writer) => {
                writer.into_inner().map_err(|error| again(error.error())).and_then(GzEncoder::finish)
            }
            Writer::Parquet(rows) => rows.finish().map_err(io::Error::other),
        };
        let written = ended.and_then(|it| it.into_inner().map_err(io::IntoInnerError::into_error));
        written.and_then(PartialFile::finish).map_err(|source| TrainError::File { doing: "write", path, source })?;
        Ok(rows)
    }
}

/// The same error. One of the operating system has its own exit code, so its code is kept.
fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
}

/// A failure to write CSV, which hides errors of the operating system from [`broken`].
fn broken_csv(path: &Path, error: csv::Error) -> TrainError {
    match error.into_kind() {
        csv::ErrorKind::Io(source) => TrainError::File { doing: "write", path: path.to_path_buf(), source },
        other => TrainError::Format {
            doing: "write",
            path: path.to_path_buf(),
            reason: format!("the CSV writer: {other:?}"),
        },
    }
}

fn broken(path: &Path, error: &(dyn std::error::Error + 'static)) -> TrainError {
    // An error of the operating system has its own exit code.
    let code = std::iter::successors(Some(error), |error| error.source())
        .find_map(|error| error.downcast_ref::<std::io::Error>()?.raw_os_error());
    if let Some(code) = code {
        let source = std::io::Error::from_raw_os_error(code);
        return TrainError::File { doing: "write", path: path.to_path_buf(), source };
    }
    TrainError::Format { doing: "write", path: path.to_path_buf(), reason: error.to_string() }
}

/// Writes a record: numbers in the shortest form that round-trips, missing ones empty.
fn record<W: Write>(writer: &mut csv::Writer<W>, row: &Row<'_>) -> csv::Result<()> {
    let mut integer = itoa::Buffer::new();
    let mut float = ryu::Buffer::new();
    writer.write_field(row.user_key)?;
    writer.write_field(row.event_id)?;
    writer.write_field(integer.format(row.partition))?;
    writer.write_field(integer.format(row.offset))?;
    writer.write_field(integer.format(row.occurred_at_us))?;
    writer.write_field(row.key_type)?;
    if let Some(logged) = &row.logged {
        writer.write_field(logged.decision_id)?;
        writer.write_field(logged.campaign_id)?;
        writer.write_field(logged.consent_basis)?;
        let propensity = logged.propensity;
        writer.write_field(if propensity.is_nan() { "" } else { float.format(propensity) })?;
        writer.write_field(float.format(logged.weight))?;
    }
    for &value in row.features.iter().chain(&row.label) {
        writer.write_field(if value.is_nan() { "" } else { float.format(value) })?;
    }
    writer.write_record(None::<&[u8]>)
}

/// The columns of [`OF_LOG`]: texts, then numbers.
type LogColumns = ([Vec<ByteArray>; 3], [Vec<f32>; 2]);

/// The columns of the open row group.
struct ParquetRows {
    writer: SerializedFileWriter<BufWriter<PartialFile>>,
    user_keys: Vec<ByteArray>,
    event_ids: Vec<ByteArray>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    times: Vec<i64>,
    key_types: Vec<ByteArray>,
    /// The texts and the numbers of rows of the log; `None` in a file of a replay.
    of_log: Option<LogColumns>,
    features: Vec<Vec<f32>>,
    /// `None` without labels.
    labels: Option<Vec<f32>>,
}

impl ParquetRows {
    fn new(
        file: BufWriter<PartialFile>,
        features: &[String],
        (fingerprint, extra): (&str, &[(String, String)]),
        (has_labels, is_of_log): (bool, bool),
    ) -> parquet::errors::Result<Self> {
        let names = serde_json::to_string(features).expect("names are written as JSON");
        let own = [(metadata::FINGERPRINT, fingerprint), (metadata::FEATURES, names.as_str())];
        let own = own.into_iter().chain(extra.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        let pairs = own.map(|(key, value)| KeyValue::new(key.to_owned(), value.to_owned())).collect();
        let properties = WriterProperties::builder()
            .set_compression(ParquetCompression::ZSTD(ZstdLevel::default()))
            .set_key_value_metadata(Some(pairs))
            .build();
        Ok(Self {
            writer: SerializedFileWriter::new(file, schema(features, (has_labels, is_of_log))?, Arc::new(properties))?,
            user_keys: Vec::new(),
            event_ids: Vec::new(),
            partitions: Vec::new(),
            offsets: Vec::new(),
            times: Vec::new(),
            key_types: Vec::new(),
            of_log: is_of_log.then(Default::default),
            features: vec![Vec::new(); features.len()],
            labels: has_labels.then(Vec::new),
        })
    }

    fn push(&mut self, row: &Row<'_>) -> parquet::errors::Result<()> {
        self.user_keys.push(row.user_key.into());
        self.event_ids.push(row.event_id.into());
        self.partitions.push(row.partition);
        self.offsets.push(row.offset);
        self.times.push(row.occurred_at_us);
        self.key_types.push(row.key_type.into());
        if let (Some((texts, numbers)), Some(logged)) = (&mut self.of_log, &row.logged) {
            let of_row = [logged.decision_id, logged.campaign_id, logged.consent_basis];
            texts.iter_mut().zip(of_row).for_each(|(column, text)| column.push(text.into()));
            numbers.iter_mut().zip([logged.propensity, logged.weight]).for_each(|(column, number)| column.push(number));
        }
        for (column, &value) in self.features.iter_mut().zip(row.features) {
            column.push(value);
        }
        if let Some(labels) = &mut self.labels {
            labels.extend(row.label);
        }
        if self.offsets.len() == GROUP_ROWS { self.flush() } else { Ok(()) }
    }

    /// Writes the open row group.
    fn flush(&mut self) -> parquet::errors::Result<()> {
        if self.offsets.is_empty() {
            return Ok(());
        }
        let mut group = self.writer.next_row_group()?;
        column::<ByteArrayType>(&mut group, &mut self.user_keys)?;
        column::<ByteArrayType>(&mut group, &mut self.event_ids)?;
        column::<Int32Type>(&mut group, &mut self.partitions)?;
        column::<Int64Type>(&mut group, &mut self.offsets)?;
        column::<Int64Type>(&mut group, &mut self.times)?;
        column::<ByteArrayType>(&mut group, &mut self.key_types)?;
        if let Some((texts, numbers)) = &mut self.of_log {
            texts.iter_mut().try_for_each(|values| column::<ByteArrayType>(&mut group, values))?;
            numbers.iter_mut().try_for_each(|values| column::<FloatType>(&mut group, values))?;
        }
        for values in &mut self.features {
            column::<FloatType>(&mut group, values)?;
        }
        if let Some(labels) = &mut self.labels {
            column::<FloatType>(&mut group, labels)?;
        }
        group.close()?;
        Ok(())
    }

    fn finish(mut self) -> parquet::errors::Result<BufWriter<PartialFile>> {
        self.flush()?;
        self.writer.into_inner()
    }
}

/// Writes the next column of a row group, and clears its values.
fn column<T: DataType>(
    group: &mut SerializedRowGroupWriter<'_, BufWriter<PartialFile>>,
    values: &mut Vec<T::T>,
) -> parquet::errors::Result<()> {
    let mut writer = group.next_column()?.expect("the schema has a column for each list of values");
    writer.typed::<T>().write_batch(values, None, None)?;
    values.clear();
    writer.close()
}

fn schema(features: &[String], (has_labels, is_of_log): (bool, bool)) -> parquet::errors::Result<TypePtr> {
    let field = |name: &str, physical, logical| {
        let builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::REQUIRED);
        builder.with_logical_type(logical).build().map(Arc::new)
    };
    let [user_key, event_id, partition, offset, occurred_at] = POSITION;
    let time = LogicalType::timestamp(true, TimeUnit::MICROS);
    let mut fields = vec![
        field(user_key, Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        field(event_id, Physical::BYTE_ARRAY, Some(LogicalType::String))?,
        field(partition, Physical::INT32, None)?,
        field(offset, Physical::INT64, None)?,
        field(occurred_at, Physical::INT64, Some(time))?,
        field(KEY_TYPE, Physical::BYTE_ARRAY, Some(LogicalType::String))?,
    ];
    let [texts, numbers] = if is_of_log { [&OF_LOG[..3], &OF_LOG[3..]] } else { [&[][..], &[]] };
    for name in texts {
        fields.push(field(name, Physical::BYTE_ARRAY, Some(LogicalType::String))?);
    }
    for name in numbers {
        fields.push(field(name, Physical::FLOAT, None)?);
    }
    for name in features.iter().map(String::as_str).chain(has_labels.then_some(LABEL)) {
        fields.push(field(name, Physical::FLOAT, None)?);
    }
    Type::group_type_builder("rows").with_fields(fields).build().map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::{ReadSpec, read};
    use std::fs::File;

    #[test]
    fn a_full_disk_keeps_its_code_of_the_operating_system_in_csv() {
        let full = || csv::Writer::from_writer(File::options().write(true).open("/dev/full").unwrap());
        let mut writer = full();
        let error = (0..100_000).find_map(|_| writer.write_record(["some", "text"]).err()).unwrap();
        let TrainError::File { source, .. } = broken_csv(Path::new("rows.csv"), error) else {
            panic!("the disk is full, the data are right")
        };
        assert_eq!(source.kind(), io::ErrorKind::StorageFull);
        let mut writer = full();
        writer.write_record(["some", "text"]).unwrap();
        let error = writer.into_inner().err().unwrap();
        assert_eq!(again(error.error()).kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn every_format_round_trips() {
        let folder = tempfile::tempdir().unwrap();
        let features = ["a".to_owned(), "b".to_owned()];
        let values = [[0.1, f32::NAN], [f32::INFINITY, -3.5], [1e-30, f32::NEG_INFINITY]];
        for name in ["rows.csv", "rows.csv.gz", "rows.parquet"] {
            let path = folder.path().join(name);
            let mut file =
                RowFile::create(&path, &features, "f00d", &[("who".to_owned(), "me".to_owned())], true).unwrap();
            for (offset, features) in (0..).zip(&values) {
                let (user_key, event_id) = ("ann, \"the\" first", "e1");
                let label = Some((offset % 2) as f32);
                let occurred_at_us = 1_700_000_000_000_000 + offset;
                let key_type = "device";
                let row = Row {
                    user_key,
                    key_type,
                    event_id,
                    partition: 3,
                    offset,
                    occurred_at_us,
                    features,
                    label,
                    logged: None,
                };
                file.write(&row).unwrap();
            }
            assert!(!path.exists());
            assert_eq!(file.finish().unwrap(), 3);
            let spec =
                ReadSpec { label: "label".to_owned(), group: Some("user_key".to_owned()), ..ReadSpec::default() };
            let data = read(&path, &spec).unwrap();
            assert_eq!(data.features, features, "{name}");
            assert_eq!(data.labels, [false, true, false]);
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&data.values), bits(values.as_flattened()), "{name}");
            let times = data.times.unwrap();
            assert_eq!(times[2] - times[0], 2.0);
            assert!(data.groups.unwrap().iter().all(|group| group == "ann, \"the\" first"));
            assert_eq!(data.fingerprint.as_deref(), name.ends_with("parquet").then_some("f00d"));
        }
    }

    #[test]
    fn nothing_is_left_of_an_incomplete_file() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows.csv", "rows.csv.gz", "rows.parquet"] {
            let path = folder.path().join(name);
            let mut file = RowFile::create(&path, &["a".to_owned()], "f", &[], true).unwrap();
            for offset in 0..100_000 {
                let (user_key, event_id, features) = ("u", "e", &[offset as f32]);
                let row = Row {
                    user_key,
                    key_type: "person",
                    event_id,
                    partition: 0,
                    offset,
                    occurred_at_us: 0,
                    features,
                    label: Some(0.0),
                    logged: None,
                };
                file.write(&row).unwrap();
            }
            drop(file);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{name}");
        }
    }

    #[test]
    fn rows_without_labels_have_no_label_column() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows.csv", "rows.parquet"] {
            let path = folder.path().join(name);
            let mut file = RowFile::create(&path, &["a".to_owned()], "f", &[], false).unwrap();
            let (user_key, event_id, features) = ("u", "e", &[1.5]);
            let row = Row {
                user_key,
                key_type: "person",
                event_id,
                partition: 2,
                offset: 7,
                occurred_at_us: 0,
                features,
                label: None,
                logged: None,
            };
            file.write(&row).unwrap();
            assert_eq!((file.rows(), file.finish().unwrap()), (1, 1));
            let error = read(&path, &ReadSpec { label: "label".to_owned(), ..ReadSpec::default() }).unwrap_err();
            assert!(
                error.to_string().contains(
                    "found the columns user_key, event_id, partition, offset, occurred_at_us, key_type, a; name it"
                ),
                "{error}"
            );
        }
    }

    #[test]
    fn a_file_can_have_several_row_groups() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.parquet");
        let mut file = RowFile::create(&path, &["a".to_owned()], "f", &[], true).unwrap();
        for offset in 0..=GROUP_ROWS as i64 {
            let row = Row {
                user_key: "u",
                key_type: "person",
                event_id: "e",
                partition: 0,
                offset,
                occurred_at_us: offset,
                features: &[offset as f32],
                label: Some(0.0),
                logged: None,
            };
            file.write(&row).unwrap();
        }
        file.finish().unwrap();
        let data = read(&path, &ReadSpec { label: "label".to_owned(), ..ReadSpec::default() }).unwrap();
        assert_eq!((data.rows(), data.values[GROUP_ROWS]), (GROUP_ROWS + 1, GROUP_ROWS as f32));
    }

    #[test]
    fn rows_of_the_log_are_read_without_their_further_columns() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rows.csv", "rows.parquet"] {
            let path = folder.path().join(name);
            let mut file = RowFile::of_log(&path, &["a".to_owned()], "f00d").unwrap();
            for (number, propensity) in [(1_i64, 0.25), (2, f32::NAN)] {
                let logged = LoggedColumns {
                    decision_id: "d",
                    campaign_id: "c",
                    consent_basis: "tcf_eu/consent",
                    propensity,
                    weight: 4.0,
                };
                let row = Row {
                    user_key: "u",
                    key_type: "person",
                    event_id: "e",
                    partition: 0,
                    offset: number,
                    occurred_at_us: number,
                    features: &[number as f32],
                    label: Some((number - 1) as f32),
                    logged: Some(logged),
                };
                file.write(&row).unwrap();
            }
            assert_eq!(file.finish().unwrap(), 2);
            let spec = ReadSpec { label: "label".to_owned(), ..ReadSpec::default() };
            let data = read(&path, &spec).unwrap();
            assert_eq!(
                (data.features, data.values, data.labels),
                (vec!["a".to_owned()], vec![1.0, 2.0], vec![false, true])
            );
            let weights = ReadSpec { features: Some(vec!["weight".to_owned()]), ..spec };
            assert_eq!(read(&path, &weights).unwrap().values, [4.0, 4.0]);
            // A feature with the name of one of these columns.
            let twice = RowFile::of_log(&path, &["weight".to_owned()], "f00d").unwrap_err();
            assert!(matches!(twice, TrainError::Twice { .. }), "{twice}");
        }
    }

    #[test]
    fn an_unknown_extension_and_a_duplicate_column_are_rejected() {
        let path = Path::new("rows.json");
        assert!(matches!(RowFile::create(path, &[], "", &[], true), Err(TrainError::Extension { .. })));
        let features = ["offset".to_owned()];
        let error = RowFile::create(Path::new("rows.csv"), &features, "", &[], true).unwrap_err();
        assert!(error.to_string().contains("found \"offset\" twice"), "{error}");
    }
}
