//! External sort of lines by time.
//!
//! Guarantees: the sort is stable, and a line without a time stays after the line before it. Limits: at most [`BYTES_MAX`] bytes of
//! lines are in memory; the rest is in temporary files, which are removed when the process ends.

use crate::partial::PartialFile;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

/// Bytes of lines held in memory.
const BYTES_MAX: usize = 256 << 20;

/// The sort key of a line: its time and its number.
type SortKey = (i64, u64);

/// A line in memory: its key, start and end.
type Held = (SortKey, usize, usize);

/// Sorts lines by time.
#[derive(Debug)]
pub(super) struct Sorter {
    /// Prefix of the names of the temporary files.
    beside: PathBuf,
    bytes_max: usize,
    bytes: Vec<u8>,
    held: Vec<Held>,
    runs: Vec<PartialFile>,
    count: u64,
    last: i64,
}

impl Sorter {
    /// A sorter that spills to temporary files next to this file.
    pub(super) fn beside(path: &Path) -> Self {
        Self {
            beside: path.to_owned(),
            bytes_max: BYTES_MAX,
            bytes: Vec::new(),
            held: Vec::new(),
            runs: Vec::new(),
            count: 0,
            last: i64::MIN,
        }
    }

    /// Adds a line.
    pub(super) fn push(&mut self, time: Option<i64>, line: &[u8]) -> io::Result<()> {
        self.last = time.unwrap_or(self.last);
        if self.bytes.len() + line.len() > self.bytes_max && !self.held.is_empty() {
            self.spill()?;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(line);
        self.held.push(((self.last, self.count), start, self.bytes.len()));
        self.count += 1;
        Ok(())
    }

    /// Sorts the lines in memory and writes them to a temporary file.
    fn spill(&mut self) -> io::Result<()> {
        self.held.sort_unstable();
        let mut name = self.beside.clone().into_os_string();
        name.push(format!(".sorted-{}", self.runs.len()));
        let mut to = BufWriter::new(PartialFile::create(Path::new(&name))?);
        for ((time, number), start, end) in self.held.drain(..) {
            to.write_all(&time.to_le_bytes())?;
            to.write_all(&number.to_le_bytes())?;
            to.write_all(&((end - start) as u64).to_le_bytes())?;
            to.write_all(&self.bytes[start..end])?;
        }
        self.runs.push(to.into_inner().map_err(io::IntoInnerError::into_error)?);
        self.bytes.clear();
        Ok(())
    }

    /// Visits the lines in order, until `visit` returns false or fails.
    pub(super) fn each<E: From<io::Error>>(mut self, mut visit: impl FnMut(&[u8]) -> Result<bool, E>) -> Result<(), E> {
        if self.runs.is_empty() {
            self.held.sort_unstable();
            for (_, start, end) in &self.held {
                if !visit(&self.bytes[*start..*end])? {
                    break;
                }
            }
            return Ok(());
        }
        self.spill()?;
        (self.bytes, self.held) = (Vec::new(), Vec::new());
        let mut runs = Vec::new();
        let mut next = BinaryHeap::new();
        for file in &self.runs {
            let mut run = Run { from: BufReader::new(file.read_again()?), line: Vec::new() };
            next.extend(run.next()?.map(|key| Reverse((key, runs.len()))));
            runs.push(run);
        }
        while let Some(Reverse((_, index))) = next.pop() {
            if !visit(&runs[index].line)? {
                break;
            }
            next.extend(runs[index].next()?.map(|key| Reverse((key, index))));
        }
        Ok(())
    }
}

/// A temporary file of sorted lines, and its next line.
struct Run {
    from: BufReader<File>,
    line: Vec<u8>,
}

impl Run {
    fn next(&mut self) -> io::Result<Option<SortKey>> {
        let mut head = [[0; 8]; 3];
        match self.from.read_exact(head.as_flattened_mut()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let [time, number, length] = head;
        self.line.resize(u64::from_le_bytes(length) as usize, 0);
        self.from.read_exact(&mut self.line)?;
        Ok(Some((i64::from_le_bytes(time), u64::from_le_bytes(number))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_by_time_in_memory_and_on_disk_and_no_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let times: Vec<Option<i64>> = (0..1_000_i64).map(|line| (line % 7 > 0).then(|| line * 7_919 % 101)).collect();
        let mut expected: Vec<(i64, usize)> = Vec::new();
        for (line, time) in times.iter().enumerate() {
            let before = expected.last().map_or(i64::MIN, |(time, _)| *time);
            expected.push((time.unwrap_or(before), line));
        }
        expected.sort_unstable();
        for bytes_max in [1, 50, 1_000, BYTES_MAX] {
            let mut sorter = Sorter { bytes_max, ..Sorter::beside(&folder.path().join("rows.csv")) };
            for (line, time) in times.iter().enumerate().take(if bytes_max == 1 { 100 } else { 1_000 }) {
                sorter.push(*time, line.to_string().as_bytes()).unwrap();
            }
            let mut found = Vec::new();
            sorter
                .each(|line| {
                    found.push(std::str::from_utf8(line).unwrap().parse::<usize>().unwrap());
                    io::Result::Ok(true)
                })
                .unwrap();
            let all: Vec<usize> =
                expected.iter().map(|(_, line)| *line).filter(|line| bytes_max > 1 || *line < 100).collect();
            assert_eq!(found, all, "{bytes_max} bytes");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{bytes_max} bytes");
        }
    }
}
