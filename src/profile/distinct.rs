//! The cell of `distinct`: a set of hashes that becomes a HyperLogLog sketch when it is full.
//!
//! ```text
//! count | hashes, sorted …          while all of them fit
//! SKETCH | registers, a byte each   afterwards (Flajolet, Fusy, Gandouet and Meunier, 2007)
//! ```
//!
//! Guarantees: merging two sets gives the same result as one set of all their values.

use super::cell::EXACT_MAX;

/// The count of a set that has become a sketch.
pub(super) const SKETCH: u64 = u64::MAX;

/// Whether untrusted words are a valid set.
pub(super) fn fits(set: &[u64]) -> bool {
    let (count, values) = (set[0], &set[1..]);
    if count == SKETCH {
        return values.iter().all(|word| word.to_le_bytes().iter().all(|run| *run <= 64));
    }
    let values = usize::try_from(count).ok().and_then(|count| values.get(..count));
    values.is_some_and(|values| values.is_sorted_by(|a, b| a < b))
}

/// Adds a hash. A full set becomes a sketch.
pub(super) fn insert(set: &mut [u64], hash: u64) {
    if set[0] != SKETCH {
        let count = set[0] as usize;
        let Err(at) = set[1..=count].binary_search(&hash) else { return };
        if count + 1 < set.len() {
            set.copy_within(1 + at..=count, 2 + at);
            set[1 + at] = hash;
            set[0] += 1;
            return;
        }
        to_sketch(set);
    }
    register(&mut set[1..], hash);
}

fn to_sketch(set: &mut [u64]) {
    let count = set[0] as usize;
    let mut hashes = [0; EXACT_MAX];
    hashes[..count].copy_from_slice(&set[1..=count]);
    set.fill(0);
    set[0] = SKETCH;
    hashes[..count].iter().for_each(|hash| register(&mut set[1..], *hash));
}

/// Records a hash in its register: the longest run of zeros seen. A word holds eight registers.
fn register(words: &mut [u64], hash: u64) {
    let registers = words.len() * 8;
    let index = hash as usize & (registers - 1);
    let rest = hash >> registers.trailing_zeros();
    let run = u64::from(rest.leading_zeros() - registers.trailing_zeros() + 1);
    let shift = index % 8 * 8;
    let word = &mut words[index / 8];
    if *word >> shift & 0xff < run {
        *word = *word & !(0xff << shift) | run << shift;
    }
}

/// Adds all values of another set.
pub(super) fn merge(into: &mut [u64], set: &[u64]) {
    match (into[0], set[0]) {
        (_, 0) => {}
        (_, SKETCH) => {
            if into[0] != SKETCH {
                to_sketch(into);
            }
            for (a, b) in into[1..].iter_mut().zip(&set[1..]) {
                let bytes = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
                let mut larger = [0; 8];
                larger.iter_mut().zip(bytes).for_each(|(larger, (a, b))| *larger = a.max(b));
                *a = u64::from_le_bytes(larger);
            }
        }
        (_, count) => set[1..=count as usize].iter().for_each(|hash| insert(into, *hash)),
    }
}

/// The number of values: exact, or the estimate of the sketch.
pub(super) fn cardinality(set: &[u64]) -> f64 {
    if set[0] != SKETCH {
        return set[0] as f64;
    }
    let registers = ((set.len() - 1) * 8) as f64;
    let (mut sum, mut zeros) = (0.0, 0.0_f64);
    for register in set[1..].iter().flat_map(|word| word.to_le_bytes()) {
        sum += (-f64::from(register)).exp2();
        zeros += f64::from(u8::from(register == 0));
    }
    let bias = 0.7213 / (1.0 + 1.079 / registers);
    let estimate = bias * registers * registers / sum;
    if estimate <= 2.5 * registers && zeros > 0.0 {
        // Linear counting is the better estimate in this range.
        return (registers * (registers / zeros).ln()).round();
    }
    estimate.round()
}

#[cfg(test)]
mod tests {
    use super::{super::cell::CellKind, *};

    #[test]
    fn a_sketch_is_within_its_stated_error_and_merges_to_the_sketch_of_all_values() {
        let empty = |kind: CellKind| {
            let mut words = Vec::new();
            kind.empty(&mut words);
            words
        };
        for exact in [16, 32, 64, 128] {
            let kind = CellKind::Distinct { exact, text: true };
            let stated = 1.04 / f64::from(u32::from(exact) * 8).sqrt();
            for size in [exact as usize, 500, 5_000, 100_000] {
                let (mut whole, mut parts) = (empty(kind), [empty(kind), empty(kind), empty(kind)]);
                for number in 1..=size {
                    kind.apply(&mut whole, Some(number as u64), 0);
                    kind.apply(&mut parts[number % 3], Some(number as u64), 0);
                }
                let mut merged = empty(kind);
                for part in &parts {
                    kind.merge(&mut merged, part);
                }
                assert_eq!(merged, whole, "{exact} {size}");
                let error = (cardinality(&whole) - size as f64).abs() / size as f64;
                let allowed = if size <= exact.into() { 0.0 } else { 3.0 * stated };
                assert!(error <= allowed, "{exact} {size}: off by {error}, stated {stated}");
            }
        }
    }
}
