//! A compact encoding of words, used for idle profiles in memory, in the changelog and in snapshots.
//!
//! Each word is encoded as a byte that counts the zero bytes at both ends, followed by the bytes between. Counts and
//! times have many zero bytes. A run of zero words is one byte. Guarantees: canonical, so equal words give equal bytes;
//! bytes that do not decode are detected.

/// Bytes from here on stand for runs of two, three, … zero words.
const RUN: u8 = 0x90;

/// A single zero word.
const ZERO: u8 = 0x80;

/// The longest run that one byte can encode.
const RUN_MAX: usize = (u8::MAX - RUN) as usize + 2;

/// Appends words in packed form.
pub(super) fn pack(words: &[u64], to: &mut Vec<u8>) {
    let mut end = to.len();
    // Reserves room for every word in full, so that each can be copied whole; the next one overwrites its surplus
    // bytes.
    to.resize(end + length_max(words.len()), 0);
    let mut at = 0;
    while at < words.len() {
        let word = words[at];
        if word == 0 {
            let zeros = words[at..].iter().take(RUN_MAX).take_while(|word| **word == 0).count();
            to[end] = if zeros > 1 { RUN + (zeros - 2) as u8 } else { ZERO };
            (end, at) = (end + 1, at + zeros);
            continue;
        }
        let (high, low) = (word.leading_zeros() / 8, word.trailing_zeros() / 8);
        to[end] = (high << 4 | low) as u8;
        to[end + 1..end + 9].copy_from_slice(&(word << (high * 8)).to_be_bytes());
        (end, at) = (end + 9 - (high + low) as usize, at + 1);
    }
    to.truncate(end);
}

/// The most bytes that this many words can take.
pub(super) const fn length_max(words: usize) -> usize {
    words * 9
}

/// How many bytes the words take.
pub(super) fn length(words: &[u64]) -> usize {
    let mut bytes = Vec::new();
    pack(words, &mut bytes);
    bytes.len()
}

/// Decodes one word, or a number of zero words, and returns the remaining bytes.
fn next(bytes: &[u8]) -> Option<(u64, usize, &[u8])> {
    let (head, rest) = bytes.split_first()?;
    if *head >= RUN {
        return Some((0, usize::from(head - RUN) + 2, rest));
    }
    let (high, low) = (usize::from(head >> 4), usize::from(head & 15));
    let between = 8_usize.checked_sub(high + low)?;
    if let Some(word) = rest.first_chunk().copied().map(u64::from_be_bytes)
        && between > 0
    {
        return Some((word >> ((8 - between) * 8) << (low * 8), 1, &rest[between..]));
    }
    let (bytes, rest) = rest.split_at_checked(between)?;
    let mut word = [0; 8];
    word[high..8 - low].copy_from_slice(bytes);
    Some((u64::from_be_bytes(word), 1, rest))
}

/// Appends the decoded words; returns whether all bytes were valid.
pub(super) fn unpack(mut bytes: &[u8], to: &mut Vec<u64>) -> bool {
    while !bytes.is_empty() {
        let Some((word, count, rest)) = next(bytes) else { return false };
        to.extend(std::iter::repeat_n(word, count));
        bytes = rest;
    }
    true
}

/// Whether these bytes are valid packed words.
pub(super) fn is_whole(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some((_, _, rest)) = next(bytes) else { return false };
        bytes = rest;
    }
    true
}

/// Reads packed words one after another. Takes time linear in the bytes, whatever they claim, and no memory.
#[derive(Clone, Debug)]
pub struct PackedWords<'a> {
    bytes: &'a [u8],
    /// Zero words of the current run that have not been returned yet.
    zeros: usize,
}

impl<'a> PackedWords<'a> {
    /// Starts at the first of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, zeros: 0 }
    }

    /// The next word; `None` at the end or on damaged bytes.
    pub fn word(&mut self) -> Option<u64> {
        if self.zeros > 0 {
            self.zeros -= 1;
            return Some(0);
        }
        let (word, count, rest) = next(self.bytes)?;
        (self.bytes, self.zeros) = (rest, count - 1);
        Some(word)
    }

    /// Fills `to` with the next words; returns whether there were enough.
    pub fn fill(&mut self, to: &mut [u64]) -> bool {
        to.iter_mut().all(|to| self.word().map(|word| *to = word).is_some())
    }

    /// Skips `count` words; returns whether there were enough.
    pub fn skip(&mut self, count: usize) -> bool {
        let mut left = count;
        while left > 0 {
            if self.zeros == 0 {
                let Some((_, count, rest)) = next(self.bytes) else { return false };
                (self.bytes, self.zeros) = (rest, count);
            }
            let passed = left.min(self.zeros);
            self.zeros -= passed;
            left -= passed;
        }
        true
    }

    /// Whether every word was read.
    pub fn is_at_end(&self) -> bool {
        self.bytes.is_empty() && self.zeros == 0
    }
}

/// The first word.
pub(super) fn first(bytes: &[u8]) -> Option<u64> {
    next(bytes).map(|(word, ..)| word)
}
