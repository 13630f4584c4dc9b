//! The formats of files of rows.

use super::TrainError;
use parquet::{
    basic::Compression,
    file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData},
};
use std::path::Path;

/// Why the pages of a Parquet file cannot be read, if they are packed by a codec that is not built in.
pub fn unknown_codec(of: &ParquetMetaData) -> Option<String> {
    let codecs = of.row_groups().iter().flat_map(RowGroupMetaData::columns).map(ColumnChunkMetaData::compression);
    let unknown = codecs.into_iter().find(|codec| matches!(codec, Compression::BROTLI(_) | Compression::LZO))?;
    let name = unknown.to_string();
    let name = name.split('(').next().unwrap_or_default();
    Some(format!("it is written with codec {name}, which this program does not read; write it with zstd or snappy"))
}

/// The format of a file, by its extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileFormat {
    Csv,
    Gzip,
    Parquet,
}

impl FileFormat {
    pub(super) fn of(path: &Path) -> Result<Self, TrainError> {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let mut endings = name.rsplit('.');
        match (endings.next(), endings.next()) {
            (Some("csv"), Some(_)) => Ok(Self::Csv),
            (Some("gz"), Some("csv")) => Ok(Self::Gzip),
            (Some("parquet"), Some(_)) => Ok(Self::Parquet),
            _ => Err(TrainError::Extension { path: path.to_path_buf() }),
        }
    }
}
