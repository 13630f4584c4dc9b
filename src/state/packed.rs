//! Words in few bytes: how a profile rests in memory, in the changelog and in a snapshot.
//!
//! Each word is a byte that counts its zero bytes at both ends, and the bytes between: counts and times have many. A run of
//! zero words is one byte. Guarantees: canonical, so that equal words are equal bytes; what does not decode is told apart.

/// From here on a byte stands for zero words: two, three, ….
const RUN: u8 = 0x90;

/// One word of zero.
const ZERO: u8 = 0x80;

/// The longest run of one byte.
const RUN_MAX: usize = (u8::MAX - RUN) as usize + 2;

/// Appends words.
pub(super) fn pack(words: &[u64], to: &mut Vec<u8>) {
    let mut end = to.len();
    // Room for every word whole, so that each is copied as a whole and the next one laid over what it has too much.
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

/// How many bytes so many words take at most.
pub(super) const fn length_max(words: usize) -> usize {
    words * 9
}

/// How many bytes words take.
pub(super) fn length(words: &[u64]) -> usize {
    let mut bytes = Vec::new();
    pack(words, &mut bytes);
    bytes.len()
}

/// One word, or how many zero words, and the bytes behind.
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

/// Appends the words of these bytes; says whether they are whole.
pub(super) fn unpack(mut bytes: &[u8], to: &mut Vec<u64>) -> bool {
    while !bytes.is_empty() {
        let Some((word, count, rest)) = next(bytes) else { return false };
        to.extend(std::iter::repeat_n(word, count));
        bytes = rest;
    }
    true
}

/// Whether these bytes are whole words.
pub(super) fn is_whole(mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        let Some((_, _, rest)) = next(bytes) else { return false };
        bytes = rest;
    }
    true
}

/// Reads packed words one after another. Takes time by the bytes, whatever the words claim, and no memory.
#[derive(Clone, Debug)]
pub struct PackedWords<'a> {
    bytes: &'a [u8],
    /// Zero words of a run that are still to be handed out.
    zeros: usize,
}

impl<'a> PackedWords<'a> {
    /// Reads these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, zeros: 0 }
    }

    /// The next word; none at the end, or where the bytes are damaged.
    pub fn word(&mut self) -> Option<u64> {
        if self.zeros > 0 {
            self.zeros -= 1;
            return Some(0);
        }
        let (word, count, rest) = next(self.bytes)?;
        (self.bytes, self.zeros) = (rest, count - 1);
        Some(word)
    }

    /// Fills `to` with the next words; says whether there were as many.
    pub fn fill(&mut self, to: &mut [u64]) -> bool {
        to.iter_mut().all(|to| self.word().map(|word| *to = word).is_some())
    }

    /// Passes so many words by; says whether there were as many.
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

    /// Whether every word was read and nothing is left.
    pub fn is_at_end(&self) -> bool {
        self.bytes.is_empty() && self.zeros == 0
    }
}

/// The first word.
pub(super) fn first(bytes: &[u8]) -> Option<u64> {
    next(bytes).map(|(word, ..)| word)
}
