//! The cell of `top`: counts of the most common values.
//!
//! ```text
//! values, a float | (hash, count), sorted by hash …
//! ```
//!
//! Guarantees: a count is too low by at most one in (capacity + 1) of all values (Misra and Gries, 1982), merged or not
//! (Agarwal and others, 2012).

use super::cell::{TOP_CAPACITY_MAX, float, is_count};

/// Whether untrusted words are valid counts.
pub(super) fn fits(top: &[u64]) -> bool {
    let pairs = top[1..].chunks_exact(2);
    let used = pairs.clone().take_while(|pair| pair[1] > 0);
    let hashes = used.clone().map(|pair| pair[0]);
    // The counts must add up to no more than the number of values, so that no sum of them can overflow.
    let mut left = float(top[0]);
    is_count(top[0])
        && hashes.is_sorted_by(|a, b| a < b)
        && pairs.skip(used.clone().count()).all(|pair| pair == [0, 0])
        && used.map(|pair| pair[1] as f64).all(|count| {
            left -= count;
            left >= 0.0
        })
}

/// Counts a value. If there is no room for it, all counts are decremented.
pub(super) fn count(top: &mut [u64], hash: u64) {
    top[0] = (float(top[0]) + 1.0).to_bits();
    let pairs = top.len() - 1;
    let used = used(top);
    let at = (0..used).map(|index| 1 + 2 * index).find(|at| top[*at] >= hash).unwrap_or(1 + 2 * used);
    if at < 1 + 2 * used && top[at] == hash {
        top[at + 1] += 1;
    } else if 2 * used < pairs {
        top.copy_within(at..=2 * used, at + 2);
        (top[at], top[at + 1]) = (hash, 1);
    } else {
        decrement(top);
    }
}

/// The number of values that have a count.
fn used(top: &[u64]) -> usize {
    top[1..].chunks_exact(2).take_while(|pair| pair[1] > 0).count()
}

/// Lowers all counts by one, and drops those that reach zero.
fn decrement(top: &mut [u64]) {
    let mut to = 1;
    for at in (1..top.len()).step_by(2) {
        if top[at + 1] > 1 {
            (top[to], top[to + 1]) = (top[at], top[at + 1] - 1);
            to += 2;
        }
    }
    top[to..].fill(0);
}

/// Adds the counts of other events.
pub(super) fn merge(into: &mut [u64], top: &[u64]) {
    into[0] = (float(into[0]) + float(top[0])).to_bits();
    let capacity = (into.len() - 1) / 2;
    let mut all = [(0_u64, 0_u64); 2 * TOP_CAPACITY_MAX];
    let (mut count, mut a, mut b) = (0, 1, 1);
    let (a_end, b_end) = (1 + 2 * used(into), 1 + 2 * used(top));
    while a < a_end || b < b_end {
        let from_a = a < a_end && (b >= b_end || into[a] <= top[b]);
        let from_b = b < b_end && (a >= a_end || top[b] <= into[a]);
        let hash = if from_a { into[a] } else { top[b] };
        let sum = if from_a { into[a + 1] } else { 0 } + if from_b { top[b + 1] } else { 0 };
        all[count] = (hash, sum);
        count += 1;
        a += 2 * usize::from(from_a);
        b += 2 * usize::from(from_b);
    }
    let mut less = 0;
    if count > capacity {
        let mut counts = [0; 2 * TOP_CAPACITY_MAX];
        counts.iter_mut().zip(&all[..count]).for_each(|(to, (_, count))| *to = *count);
        let counts = &mut counts[..count];
        // The largest count that does not fit is subtracted from all.
        less = *counts.select_nth_unstable_by(capacity, |a, b| b.cmp(a)).1;
    }
    into[1..].fill(0);
    let kept = all[..count].iter().filter(|(_, count)| *count > less);
    for ((hash, count), to) in kept.zip(into[1..].chunks_exact_mut(2)) {
        (to[0], to[1]) = (*hash, count - less);
    }
}

/// The count of the value at a rank, 0 being the most common; 0 if there are fewer values.
pub(super) fn ranked(top: &[u64], rank: usize) -> f64 {
    let mut counts = [0; TOP_CAPACITY_MAX];
    let pairs = top[1..].chunks_exact(2);
    let length = pairs.len();
    counts.iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair[1]);
    if rank >= length {
        return 0.0;
    }
    *counts[..length].select_nth_unstable_by(rank, |a, b| b.cmp(a)).1 as f64
}

#[cfg(test)]
mod tests {
    use super::{super::cell::CellKind, *};

    #[test]
    fn counts_of_the_most_common_values_are_within_their_bound() {
        let kind = CellKind::Top { capacity: 8, text: true };
        let mut empty = Vec::new();
        kind.empty(&mut empty);
        let mut tiles = vec![empty.clone(); 5];
        let mut counts = [0.0_f64; 40];
        for number in 0..4_000_usize {
            // Category c occurs about as often as 1 / (c + 1).
            let category = (number * 7_919 % 4_000) as f64 / 4_000.0;
            let category = (40.0_f64.powf(category) - 1.0) as usize;
            counts[category] += 1.0;
            kind.apply(&mut tiles[number % 5], Some(category as u64 + 1), 0);
        }
        let mut merged = empty;
        for tile in &tiles {
            kind.merge(&mut merged, tile);
        }
        assert_eq!(float(merged[0]), 4_000.0);
        counts.sort_by(|a, b| b.total_cmp(a));
        for (rank, count) in counts.iter().enumerate().take(3) {
            let found = ranked(&merged, rank);
            assert!(found <= *count && count - found <= 4_000.0 / 9.0, "rank {rank}: {found} of {count}");
        }
        assert_eq!(ranked(&merged, 8), 0.0);
    }
}
