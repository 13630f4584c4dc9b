//! Files of events: JSON lines, plain, gzip or zstd.

use crate::gzip::Gzip;
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

/// What Windows tools write before UTF-8, and before UTF-16.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

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
    skip_byte_order_mark(&mut reader).map_err(failed)?;
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

/// Passes over the mark before UTF-8, which is no part of the first line.
fn skip_byte_order_mark(reader: &mut dyn BufRead) -> io::Result<()> {
    let start = reader.fill_buf()?;
    if UTF_16.iter().any(|mark| start.starts_with(mark)) {
        let message = "it is UTF-16, and lines are UTF-8; convert it, for instance with iconv -f UTF-16 -t UTF-8";
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    if start.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    Ok(())
}

fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let file = File::open(path)?;
    let is = |kind: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind));
    Ok(if is("gz") {
        Box::new(BufReader::new(Gzip::new(BufReader::new(file))))
    } else if is("zst") {
        Box::new(BufReader::new(zstd::Decoder::new(file)?))
    } else {
        Box::new(BufReader::new(file))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn lines(name: &str, bytes: &[u8]) -> Result<Vec<String>, FileError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let mut lines = Vec::new();
        each_line(&path, |line| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            Ok::<_, FileError>(true)
        })?;
        Ok(lines)
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        for end in ["\n", "\r\n"] {
            let text = format!("\u{feff}{{\"a\":1}}{end}{end}  {{\"b\":2}}{end}");
            let expected = ["{\"a\":1}", "  {\"b\":2}"];
            assert_eq!(lines("a.jsonl", text.as_bytes()).unwrap(), expected);
            assert_eq!(lines("a.jsonl.gz", &gzip(&text)).unwrap(), expected);
            assert_eq!(lines("a.jsonl.zst", &zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap(), expected);
        }
        assert!(lines("a", b"\xef\xbb\xbf").unwrap().is_empty());
        for bytes in [b"\xff\xfe{\0\"\0", b"\xfe\xff\0{\0\""] {
            let error = lines("a", bytes).unwrap_err().to_string();
            assert!(error.contains("UTF-16") && error.contains("iconv"), "{error}");
        }
    }

    #[test]
    fn members_of_a_gzip_file_are_joined_and_zeros_behind_them_are_padding() {
        let (one, two) = (gzip("1\n2\n"), gzip("3\n"));
        for padding in [0, 1, 511, 100_000] {
            let file = [one.as_slice(), &two, &vec![0; padding]].concat();
            assert_eq!(lines("a.gz", &file).unwrap(), ["1", "2", "3"], "{padding} zeros");
        }
        // Padding between members, as tape blocks have it.
        assert_eq!(lines("a.gz", &[one.as_slice(), &[0; 100], &two].concat()).unwrap(), ["1", "2", "3"]);
        for (what, file) in [
            ("no gzip", [one.as_slice(), b"rest"].concat()),
            ("zeros, then no gzip", [one.as_slice(), &[0, 0], b"rest"].concat()),
            ("cut off", one[..one.len() - 3].to_vec()),
            ("cut off in the second", [one.as_slice(), &two[..12]].concat()),
            ("zeros alone", vec![0; 512]),
            ("empty", Vec::new()),
        ] {
            let error = lines("a.gz", &file).expect_err(what).to_string();
            assert!(error.contains("a.gz"), "{what}: {error}");
        }
    }
}
