//! Near-duplicates by MinHash (Broder, 1997) and locality-sensitive hashing.
//!
//! Owns signatures of the texts' runs of four characters, and the table of those seen. Guarantees: the same text is
//! always found; memory is bounded, because the older half of what is remembered is forgotten when it is full. Limits:
//! of pairs with a similarity of 0.8, 96 % are compared, and each comparison has a deviation of 0.06.

use crate::random::mix;
use std::collections::HashMap;

/// The hashes of a signature: 8 bands of 5. The chance that texts of similarity s share a band is 1 - (1 - s^5)^8.
const BANDS: usize = 8;
const ROWS: usize = 5;
const HASHES: usize = BANDS * ROWS;
/// The characters of a shingle.
const SHINGLE: usize = 4;
/// The most characters that are compared.
const LETTERS_MAX: usize = 2_000;

type Signature = [u32; HASHES];

/// A half of what is remembered.
#[derive(Debug, Default)]
struct Half {
    signatures: Vec<Signature>,
    /// For each band's hash, the first text that had it.
    bands: HashMap<u64, u32>,
}

impl Half {
    fn has(&self, signature: &Signature, alike: f64) -> bool {
        (0..BANDS).any(|band| {
            let known = self.bands.get(&band_hash(signature, band)).map(|&index| &self.signatures[index as usize]);
            known.is_some_and(|known| similarity(known, signature) >= alike)
        })
    }

    fn add(&mut self, signature: Signature) {
        let index = self.signatures.len() as u32;
        for band in 0..BANDS {
            self.bands.entry(band_hash(&signature, band)).or_insert(index);
        }
        self.signatures.push(signature);
    }
}

/// The texts seen so far.
#[derive(Debug)]
pub(super) struct Near {
    halves: [Half; 2],
    texts_max: usize,
    alike: f64,
}

impl Near {
    /// Remembers at least half of `texts_max` texts. Texts count as the same from the similarity `alike` on.
    pub(super) fn new(texts_max: usize, alike: f64) -> Self {
        Self { halves: [Half::default(), Half::default()], texts_max: texts_max.max(2), alike }
    }

    /// Whether a text like this was seen; if not, it is remembered.
    pub(super) fn seen(&mut self, words: &[String]) -> bool {
        let signature = signature(words);
        if self.halves.iter().any(|half| half.has(&signature, self.alike)) {
            return true;
        }
        if self.halves[0].signatures.len() >= self.texts_max / 2 {
            self.halves.swap(0, 1);
            self.halves[0] = Half::default();
        }
        self.halves[0].add(signature);
        false
    }
}

fn band_hash(signature: &Signature, band: usize) -> u64 {
    signature[band * ROWS..(band + 1) * ROWS].iter().fold(band as u64, |hash, &row| mix(hash ^ u64::from(row)))
}

fn similarity(a: &Signature, b: &Signature) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / HASHES as f64
}

/// For each hash function the smallest value over all shingles.
fn signature(words: &[String]) -> Signature {
    let letters: Vec<char> = words.join(" ").chars().take(LETTERS_MAX).collect();
    let mut signature = [u32::MAX; HASHES];
    for shingle in letters.windows(SHINGLE.min(letters.len().max(1))) {
        let base = shingle.iter().fold(0, |hash, &letter| mix(hash ^ u64::from(u32::from(letter))));
        for (at, least) in signature.iter_mut().enumerate() {
            *least = (*least).min((mix(base ^ (at as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 32) as u32);
        }
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::words::words;

    #[test]
    fn near_duplicates_are_found_and_others_are_not() {
        let mut near = Near::new(1_000, 0.8);
        let mut seen = |text: &str| near.seen(&words(text));
        assert!(!seen("The battery of this phone lasts for two whole days without charging"));
        assert!(seen("the BATTERY of this phone lasts for two whole days, without charging!!!"));
        assert!(seen("The battery of this phone lasts for two whole days without charging it"));
        assert!(!seen("The screen of this phone is bright, and I can read outside"));
        assert!(!seen("The battery is empty after a single day of use"));
        for text in ["ok", "a", "Top"] {
            assert_eq!((seen(text), seen(text)), (false, true), "{text}");
        }
    }

    #[test]
    fn memory_is_bounded_and_the_newest_are_kept() {
        let mut near = Near::new(100, 0.8);
        let text = |number: u64| words(&format!("text {} about {}", mix(number), mix(number + 1_000_000)));
        for number in 0..1_000 {
            assert!(!near.seen(&text(number)), "{number}");
            assert!(near.halves.iter().all(|half| half.signatures.len() <= 50));
        }
        assert!((951..1_000).all(|number| near.seen(&text(number))));
        assert!(!near.seen(&text(0)), "the oldest are forgotten");
    }
}
