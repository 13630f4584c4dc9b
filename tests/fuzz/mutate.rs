//! Changes of inputs: of bytes, of numbers, of whole parts, and of words that a decoder knows.

use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};

/// Bytes and numbers at which programs differ.
const ODD: [&[u8]; 14] = [
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xff\xff\xff\xff\x0f",
    b"-1",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"1e400",
    b"253402300800000",
    b"\xef\xbb\xbf",
    "\u{1F600}".as_bytes(),
];

/// The most bytes that one change inserts by repeating.
const REPEAT_MAX: usize = 16 << 10;

/// Changes inputs.
pub(crate) struct Mutator {
    pub(crate) random: SmallRng,
    words: &'static [&'static str],
}

impl Mutator {
    pub(crate) fn new(random: SmallRng, words: &'static [&'static str]) -> Self {
        Self { random, words }
    }

    /// A changed copy of `input`, perhaps with a part of `other`.
    pub(crate) fn change(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..self.random.random_range(1..=5) {
            self.once(&mut bytes, other);
        }
        bytes
    }

    /// A place and a length within it.
    fn part(&mut self, bytes: &[u8], length_max: usize) -> (usize, usize) {
        if bytes.is_empty() {
            return (0, 0);
        }
        let at = self.random.random_range(0..bytes.len());
        (at, self.random.random_range(1..=length_max.min(bytes.len() - at)))
    }

    fn once(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let (at, length) = self.part(bytes, 64);
        match self.random.random_range(0..10) {
            0 if length > 0 => bytes[at] ^= 1 << self.random.random_range(0..8),
            1 if length > 0 => bytes[at] = self.random.random(),
            2 if length > 0 => bytes[at] = bytes[at].wrapping_add(self.random.random_range(0..9)).wrapping_sub(4),
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let odd = ODD[self.random.random_range(0..ODD.len())];
                self.insert(bytes, at, odd);
            }
            5 | 6 => {
                if let Some(word) = self.words.choose(&mut self.random) {
                    self.insert(bytes, at, word.as_bytes());
                }
            }
            7 => {
                let (from, count) = self.part(other, 256);
                self.insert(bytes, at, &other[from..from + count]);
            }
            8 => {
                // Deep nesting, long lists, long texts.
                let part = bytes[at..at + length.min(8)].to_vec();
                let times = self.random.random_range(1..=REPEAT_MAX / part.len().max(1));
                let times = if self.random.random_bool(0.9) { times % 16 } else { times };
                self.insert(bytes, at, &part.repeat(times));
            }
            _ => {
                let from = at;
                let (to, count) = self.part(bytes, 64);
                let moved = bytes[to..to + count].to_vec();
                self.insert(bytes, from, &moved);
            }
        }
    }

    /// Inserts, or overwrites what is there.
    fn insert(&mut self, bytes: &mut Vec<u8>, at: usize, part: &[u8]) {
        let over = if self.random.random_bool(0.3) { part.len().min(bytes.len() - at) } else { 0 };
        bytes.splice(at..at + over, part.iter().copied());
    }
}
