//! How good themes are where the truth is known, and how diverse texts are.

use crate::content::words::{grams, words};
use std::collections::{BTreeMap, HashMap};

/// The adjusted Rand index (Hubert and Arabie, 1985): 1 for the same partition, 0 as by chance.
pub fn adjusted_rand_index(found: &[usize], truth: &[usize]) -> f64 {
    let mut cells = BTreeMap::<(usize, usize), u64>::new();
    let (mut rows, mut columns) = (BTreeMap::<usize, u64>::new(), BTreeMap::<usize, u64>::new());
    for (&found, &truth) in found.iter().zip(truth) {
        *cells.entry((found, truth)).or_default() += 1;
        *rows.entry(found).or_default() += 1;
        *columns.entry(truth).or_default() += 1;
    }
    let pairs = |count: &u64| (*count as f64) * (*count as f64 - 1.0) / 2.0;
    let together: f64 = cells.values().map(pairs).sum();
    let (in_rows, in_columns): (f64, f64) = (rows.values().map(pairs).sum(), columns.values().map(pairs).sum());
    let expected = in_rows * in_columns / pairs(&(found.len().min(truth.len()) as u64));
    let most = f64::midpoint(in_rows, in_columns);
    // Both partitions are trivial.
    if most == expected || !expected.is_finite() { 1.0 } else { (together - expected) / (most - expected) }
}

/// The self-BLEU of texts (Zhu and others, 2018) with n-grams up to 2: how much of a text stands in the others, 0 to 1,
/// the mean over all texts. Lower is more diverse. Without the brevity penalty.
pub fn self_bleu(texts: &[String]) -> f64 {
    let all: Vec<Vec<String>> = texts.iter().map(|text| words(text)).filter(|words| words.len() >= 2).collect();
    if all.len() < 2 {
        return 0.0;
    }
    let shared = |own: usize, length: usize| {
        let mut most = HashMap::<u64, usize>::new();
        for other in all.iter().enumerate().filter(|(index, _)| *index != own).map(|(_, other)| other) {
            let mut counts = HashMap::<u64, usize>::new();
            grams(other, length).for_each(|gram| *counts.entry(gram).or_default() += 1);
            for (gram, count) in counts {
                let most = most.entry(gram).or_default();
                *most = count.max(*most);
            }
        }
        let mut counts = HashMap::<u64, usize>::new();
        grams(&all[own], length).for_each(|gram| *counts.entry(gram).or_default() += 1);
        let total: usize = counts.values().sum();
        let hit: usize =
            counts.iter().map(|(gram, count)| (*count).min(most.get(gram).copied().unwrap_or_default())).sum();
        hit as f64 / total as f64
    };
    let of = |own: usize| (shared(own, 1) * shared(own, 2)).sqrt();
    (0..all.len()).map(of).sum::<f64>() / all.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_one_for_the_same_partition_and_near_zero_for_chance() {
        assert_eq!(adjusted_rand_index(&[0, 0, 1, 1], &[5, 5, 3, 3]), 1.0);
        assert_eq!(adjusted_rand_index(&[0, 0, 0], &[1, 1, 1]), 1.0);
        // From the example of scikit-learn's documentation.
        assert!((adjusted_rand_index(&[0, 0, 1, 2], &[0, 0, 1, 1]) - 0.571_428_571).abs() < 1e-6);
        assert!((adjusted_rand_index(&[0, 0, 1, 1], &[0, 1, 0, 1]) + 0.5).abs() < 1e-12);
        let chance: Vec<usize> = (0..10_000_u64).map(|it| (crate::random::mix(it) % 4) as usize).collect();
        let other: Vec<usize> = (0..10_000_u64).map(|it| (crate::random::mix(it + 77_777) % 3) as usize).collect();
        assert!(adjusted_rand_index(&chance, &other).abs() < 0.01);
    }

    #[test]
    fn repeated_texts_are_not_diverse() {
        let of = |texts: &[&str]| self_bleu(&texts.iter().map(|&it| it.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["more light outside", "more light outside"]), 1.0);
        assert_eq!(of(&["more light outside", "battery for days"]), 0.0);
        assert_eq!(of(&["alone here"]), 0.0);
        // Half of the words and none of the pairs; two of three and one of two.
        assert!((of(&["a b c", "a b d"]) - (2.0_f64 / 3.0 * 0.5).sqrt()).abs() < 1e-12);
    }
}
