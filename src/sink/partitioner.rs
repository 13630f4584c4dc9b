//! The partition that Kafka producers choose for a key: murmur2, as in the Java client and librdkafka's
//! `murmur2_random`.

/// The partition of a key, given the number of partitions.
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    // Clears the sign bit rather than negating, as Kafka does.
    (murmur2(key) & 0x7fff_ffff) as i32 % partitions.max(1)
}

/// Austin Appleby's MurmurHash2 with Kafka's seed.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let word = word.first_chunk().copied().map_or(0, u32::from_le_bytes).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        let rest = rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_hashes_that_kafka_s_own_tests_have() {
        // The expected values of org.apache.kafka.common.utils.UtilsTest.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
        assert!((0..1_000).all(|key: u32| (0..7).contains(&partition_of(&key.to_le_bytes(), 7))));
        assert_eq!(partition_of(b"foobar", 1), 0);
    }
}
