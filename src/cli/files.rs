//! Files of events: lines, plain or compressed with gzip or zstd, which is detected from the first bytes.
//!
//! Limits: a line is held in memory up to the bound given by the caller, which is `input.max_bytes`. Longer lines are
//! skipped, whatever a compressed file expands to.

use crate::{
    gzip::Gzip,
    partial::beside,
    sink::{Outbox, Target},
};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Byte order marks written by Windows tools: UTF-8 and UTF-16.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// The first bytes of other file types.
const OTHERS: [(&[u8], &str); 6] = [
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"PAR1", "Parquet"),
    (b"Obj\x01", "Avro"),
];

/// How many refused lines are shown for each reason.
const SHOWN_MAX: usize = 3;

/// The bytes of a line ending: carriage return and line feed.
const END_BYTES: u64 = 2;

/// A file of events that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read {}: {error}", path.display())]
pub(crate) struct FileError {
    path: PathBuf,
    error: io::Error,
}

impl FileError {
    pub(super) fn new(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), error }
    }

    /// The error of the system or the decoder.
    pub(super) fn system(&self) -> &io::Error {
        &self.error
    }
}

/// Rejects a file that is missing or unreadable, before work on earlier files starts.
pub(super) fn check(path: &Path) -> Result<(), FileError> {
    let failed = |error| FileError { path: path.to_owned(), error };
    let found = path.metadata().map_err(failed)?;
    if found.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::IsADirectory, "this is a folder; name the files in it")));
    }
    // Do not open a pipe: its writer would take this process for its reader, which then disappears.
    if found.is_file() { File::open(path).map(drop).map_err(failed) } else { Ok(()) }
}

/// Refuses to overwrite one of the input files, even under another name.
pub(super) fn check_out(out: &Path, read: &[PathBuf]) -> Result<(), FileError> {
    let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    // While it is written, the output has a temporary name, and a file with that name would be replaced, too.
    let mut taken = [out.to_owned(), beside(out)].into_iter().filter_map(|path| Some((id(&path)?, path)));
    let found = taken.find_map(|(found, path)| Some((path, read.iter().find(|path| id(path) == Some(found))?)));
    let Some((taken, file)) = found else { return Ok(()) };
    let message =
        format!("{} is an input ({}) and would be overwritten; write to another file", taken.display(), file.display());
    Err(FileError { path: out.to_owned(), error: io::Error::new(io::ErrorKind::InvalidInput, message) })
}

/// A line of a file of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// The line's number, from 1, and its bytes without the line ending.
    Whole(u64, &'a [u8]),
    /// The line exceeds the bound: its number, from 1, and its size.
    TooLong { number: u64, bytes: u64 },
}

/// Lines that were skipped because they are too long.
#[derive(Debug, Default)]
pub(super) struct TooLong {
    pub(super) count: u64,
    longest: u64,
    /// The file and the line number of the first one.
    first: Option<(PathBuf, u64)>,
}

impl TooLong {
    pub(super) fn note(&mut self, path: &Path, number: u64, bytes: u64) {
        self.count += 1;
        self.longest = self.longest.max(bytes);
        self.first.get_or_insert_with(|| (path.to_owned(), number));
    }

    /// A summary of them, if there are any.
    pub(super) fn summary(&self, bytes_max: usize) -> Option<String> {
        let (path, number) = self.first.as_ref()?;
        Some(format!(
            "{} of more than input.max_bytes = {bytes_max} bytes; the first is line {number} of {}, the longest has {} bytes",
            self.count,
            path.display(),
            self.longest
        ))
    }
}

/// Lines that are not events, by reason.
#[derive(Debug, Default)]
pub(super) struct Refused(Vec<(String, u64, Vec<String>)>);

impl Refused {
    /// Records a line if it became a dead letter, which is then in the outbox.
    pub(super) fn note(&mut self, path: &Path, number: u64, outbox: &Outbox) {
        let Some(letter) = outbox.all().find(|output| output.target == Target::DeadLetters) else { return };
        let header = |wanted: &str| {
            let value = letter.headers().find(|(name, _)| *name == wanted).map_or(&b""[..], |(_, value)| value);
            String::from_utf8_lossy(value).into_owned()
        };
        let reason = header("reason");
        let index = self.0.iter().position(|(known, ..)| *known == reason).unwrap_or_else(|| {
            self.0.push((reason, 0, Vec::new()));
            self.0.len() - 1
        });
        let (_, count, shown) = &mut self.0[index];
        *count += 1;
        if shown.len() < SHOWN_MAX {
            shown.push(format!("line {number} of {}: {}", path.display(), header("detail")));
        }
    }

    /// For each reason the count, and messages for the first lines.
    pub(super) fn by_reason(&self) -> Vec<(String, u64, &[String])> {
        self.0.iter().map(|(reason, count, shown)| (reason.clone(), *count, &shown[..])).collect()
    }
}

/// Calls `visit` with each non-empty line, without its line ending; `visit` returns whether to continue. At most
/// `bytes_max` bytes of a line are in memory; longer lines are reported only with number and length.
pub(super) fn each_line<E: From<FileError>>(
    path: &Path,
    bytes_max: usize,
    mut visit: impl FnMut(Line<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let mut lines = Lines::open(path, bytes_max)?;
    while let Some(line) = lines.next()? {
        if !visit(line)? {
            break;
        }
    }
    Ok(())
}

/// The lines of a file, one after the other, for whoever reads several files at once.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    bytes_max: usize,
    line: Vec<u8>,
    number: u64,
    has_begun: bool,
}

impl Lines {
    /// Opens a file, of whose lines at most `bytes_max` bytes are in memory.
    pub(super) fn open(path: &Path, bytes_max: usize) -> Result<Self, FileError> {
        let failed = |error| FileError { path: path.to_owned(), error };
        let mut reader = open(path).map_err(failed)?;
        skip_byte_order_mark(&mut reader).map_err(plainly).map_err(failed)?;
        Ok(Self { path: path.to_owned(), reader, bytes_max, line: Vec::new(), number: 0, has_begun: false })
    }

    /// The next non-empty line, without its line ending.
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>, FileError> {
        let failed = |error: io::Error| FileError { path: self.path.clone(), error };
        loop {
            self.number += 1;
            self.line.clear();
            let most = self.bytes_max as u64 + END_BYTES;
            let reader = &mut self.reader;
            let read = reader.by_ref().take(most).read_until(b'\n', &mut self.line).map_err(plainly).map_err(failed)?;
            if read == 0 {
                return Ok(None);
            }
            let is_cut = self.line.len() as u64 == most && !self.line.ends_with(b"\n");
            let rest = if is_cut { reader.skip_until(b'\n').map_err(plainly).map_err(failed)? } else { 0 };
            let length = self.line.trim_ascii_end().len();
            if !self.has_begun && length > 0 {
                self.has_begun = true;
                if let Some(form) = other_form(&self.line[..length], self.line.ends_with(b"\n")) {
                    return Err(failed(io::Error::new(io::ErrorKind::InvalidData, form)));
                }
            }
            if length == 0 && rest == 0 {
                continue;
            }
            let number = self.number;
            return Ok(Some(if rest > 0 || length > self.bytes_max {
                Line::TooLong { number, bytes: (self.line.len() + rest) as u64 }
            } else {
                Line::Whole(number, &self.line[..length])
            }));
        }
    }
}

/// A decoder's error, with a next step.
fn plainly(error: io::Error) -> io::Error {
    let text = error.to_string();
    let message = match text.as_str() {
        "incomplete deflate stream" | "unexpected end of file" | "incomplete frame" => {
            "it is cut off in the middle of its compressed data; copy or create it again"
        }
        "invalid gzip header" => "its name ends in .gz, but it is not gzip; rename it, or compress it",
        "Frame requires too much memory for decoding" => {
            "it needs more than 128 MiB of memory to be unpacked; compress it again, without --long"
        }
        "Unknown frame descriptor" => "its name ends in .zst, but it is not zstd; rename it, or compress it",
        _ => return error,
    };
    io::Error::new(error.kind(), message)
}

/// The problem with a file whose first line cannot be an event, although the file contains some.
fn other_form(line: &[u8], has_end: bool) -> Option<&'static str> {
    match line {
        b"[" | [b'[', b'{', ..] | [b'[', b' ', b'{', ..] => {
            Some("it is a JSON array, and events stand one on a line; convert it, for instance with jq -c '.[]'")
        }
        b"{" => {
            Some("its events span several lines, but each must be on one line; convert it, for instance with jq -c .")
        }
        _ if !has_end && line.contains(&b'\r') => {
            Some("its lines end with a carriage return alone; convert it, for instance with tr '\\r' '\\n'")
        }
        _ => None,
    }
}

/// Skips a UTF-8 byte order mark.
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

/// Opens a file, and unpacks it if it is compressed.
pub(super) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    let mut file = BufReader::new(File::open(path)?);
    let is = |kind: &str| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(kind));
    // The first bytes decide, because names are often lost. The name matters only for a file that should be compressed
    // but is not: the decoder then reports it.
    let start = file.fill_buf()?;
    let (is_gzip, is_zstd) = (start.starts_with(b"\x1f\x8b"), start.starts_with(b"\x28\xb5\x2f\xfd"));
    if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        let message = format!("it is {name}, and files of events are lines, plain, gzip or zstd; unpack it first");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    Ok(if is_gzip || is("gz") && !is_zstd {
        Box::new(BufReader::new(Gzip::new(file)))
    } else if is_zstd || is("zst") {
        Box::new(BufReader::new(zstd::Decoder::with_buffer(file)?))
    } else {
        Box::new(file)
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
        each_line(&path, MAX, |line| {
            lines.push(match line {
                Line::Whole(_, line) => String::from_utf8(line.to_vec()).unwrap(),
                Line::TooLong { number, bytes } => format!("line {number}: {bytes}"),
            });
            Ok::<_, FileError>(true)
        })?;
        Ok(lines)
    }

    const MAX: usize = 100;

    #[test]
    fn a_line_that_is_too_long_is_skipped_and_reported() {
        let [fits, long] = [MAX, MAX + 1].map(|length| "x".repeat(length));
        let longer = "y".repeat(10_000_000);
        for end in ["\n", "\r\n"] {
            let text = [&fits, &long, "", &longer, &fits, "z", &long].join(end);
            let report = |number: usize, line: &str, end: &str| format!("line {number}: {}", line.len() + end.len());
            let (second, fourth, last) = (report(2, &long, end), report(4, &longer, end), report(7, &long, ""));
            let expected = [&fits, &second, &fourth, &fits, "z", &last];
            assert_eq!(lines("a.jsonl", text.as_bytes()).unwrap(), expected);
            assert_eq!(lines("a.jsonl.gz", &gzip(&text)).unwrap(), expected);
            assert_eq!(lines("a.jsonl.zst", &zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap(), expected);
        }
        let mut overlong = TooLong::default();
        assert_eq!(overlong.summary(MAX), None);
        overlong.note(Path::new("a.jsonl"), 4, 5_000);
        overlong.note(Path::new("b.jsonl"), 1, 200);
        let summary = overlong.summary(MAX).unwrap();
        assert!(
            summary.starts_with("2 of more than input.max_bytes = 100 bytes; the first is line 4 of a.jsonl"),
            "{summary}"
        );
    }

    #[test]
    fn a_file_that_expands_without_end_takes_no_memory_and_one_that_asks_for_memory_is_refused() {
        // A thousand times its size, in one line.
        let bomb = zstd::encode_all(&vec![b' '; 50_000_000][..], 3).unwrap();
        assert!(bomb.len() < 50_000, "{}", bomb.len());
        let end = zstd::encode_all(&b"x\n1\n"[..], 1).unwrap();
        let found = lines("a.zst", &[bomb, end].concat()).unwrap();
        assert_eq!(found, ["line 1: 50000002", "1"]);
        // A frame whose header asks for a window of two gigabytes.
        let error = lines("a.zst", b"\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00").unwrap_err().to_string();
        assert!(error.contains("more than 128 MiB of memory") && error.contains("--long"), "{error}");
    }

    #[test]
    fn a_compressed_file_is_recognised_by_its_first_bytes_and_other_kinds_are_named() {
        let zstd = zstd::encode_all(&b"1\n2\n"[..], 1).unwrap();
        for name in ["a", "a.jsonl", "a.gz", "a.zst", "a.txt"] {
            assert_eq!(lines(name, &gzip("1\n2\n")).unwrap(), ["1", "2"], "{name}");
            assert_eq!(lines(name, &zstd).unwrap(), ["1", "2"], "{name}");
        }
        for (bytes, part) in [
            (&b"BZh91AY"[..], "bzip2"),
            (b"\xfd7zXZ\0\0", "xz"),
            (b"PK\x03\x04\x14", "zip"),
            (b"PAR1\x15", "Parquet"),
            (b"[\n{\"a\":1},\n{\"a\":2}\n]\n", "jq -c '.[]'"),
            (b"\n[{\"a\":1},\n{\"a\":2}]\n", "jq -c '.[]'"),
            (b"[ {\"a\":1} ]", "jq -c '.[]'"),
            (b"{\n  \"a\": 1\n}\n", "jq -c ."),
            (b"{\"a\":1}\r{\"a\":2}\r", "tr '\\r' '\\n'"),
        ] {
            let error = lines("a", bytes).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
        // An access log may start with an address in brackets.
        assert_eq!(lines("a", b"[2001:db8::1] - -\n").unwrap(), ["[2001:db8::1] - -"]);
        assert_eq!(lines("a", b"{\"a\":1}\r").unwrap(), ["{\"a\":1}"]);
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
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
    fn gzip_members_are_joined_and_trailing_zeros_are_padding() {
        let (one, two) = (gzip("1\n2\n"), gzip("3\n"));
        for padding in [0, 1, 511, 100_000] {
            let file = [one.as_slice(), &two, &vec![0; padding]].concat();
            assert_eq!(lines("a.gz", &file).unwrap(), ["1", "2", "3"], "{padding} zeros");
        }
        // Padding between members, as in tape blocks.
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
