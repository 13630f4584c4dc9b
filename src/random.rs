//! Deterministic pseudo-random numbers.

/// The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): spreads the bits of a number evenly over all 64. Features
/// (`distinct`, `top`) depend on it, so it must never change.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
