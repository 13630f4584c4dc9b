//! Files of events: JSON lines, plain, gzip or zstd.

use flate2::read::MultiGzDecoder;
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

/// A file of events that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}: {error}", path.display())]
pub(crate) struct FileError {
    path: PathBuf,
    error: io::Error,
}

impl FileError {
    /// What the system or the decoder says.
    pub(super) fn system(&self) -> &io::Error {
        &self.error
    }
}

/// Refuses a file that is absent or cannot be read, before anything is done with those before it.
pub(super) fn check(path: &Path) -> Result<(), FileError> {
    let failed = |error| FileError { path: path.to_owned(), error };
    let found = File::open(path).and_then(|file| file.metadata()).map_err(failed)?;
    if found.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder; name the files in it")));
    }
    Ok(())
}

/// Hands over each line that is not empty, without its end; `visit` says whether to go on.
pub(super) fn each_line<E: From<FileError>>(
    path: &Path,
    mut visit: impl FnMut(&[u8]) -> Result<bool, E>,
) -> Result<(), E> {
    let failed = |error| FileError { path: path.to_owned(), error };
    let mut reader = open(path).map_err(failed)?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(());
        }
        let content = line.trim_ascii_end();
        if !content.is_empty() && !visit(content)? {
            return Ok(());
        }
    }
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    let is = |kind: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind));
    Ok(if is("gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(BufReader::new(file))))
    } else if is("zst") {
        Box::new(BufReader::new(zstd::Decoder::new(file)?))
    } else {
        Box::new(BufReader::new(file))
    })
}
