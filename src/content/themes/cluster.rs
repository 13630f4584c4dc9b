//! Spherical k-means (Dhillon and Modha, 2001) with k-means++ seeds, and its k by silhouette (Rousseeuw, 1987).
//!
//! Guarantees: the same vectors, weights and seed give the same clusters. Limits: k is chosen on a sample of 2,000
//! texts, and the silhouette is computed on 400 of them.

use super::vectors::Vectors;
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::SliceRandom};

const ROUNDS_MAX: usize = 50;
/// The runs with other seeds, of which the best is taken.
const RUNS: usize = 6;
const SAMPLE_MAX: usize = 2_000;
const SILHOUETTE_MAX: usize = 400;

/// The directions of the clusters.
#[derive(Clone, Debug)]
pub(super) struct Clusters {
    centres: Vec<Vec<f32>>,
    /// The weighted sum of the cosines of texts and their centres.
    fit: f64,
}

/// The clusters of all rows, with the silhouette of each k that was tried.
pub(super) fn find(
    vectors: &Vectors,
    weights: &[f32],
    ks: &[usize],
    seed: u64,
) -> (Vec<Option<usize>>, Vec<(usize, f64)>) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut rows: Vec<usize> = (0..vectors.count()).filter(|row| !vectors.is_zero(*row)).collect();
    let all = rows.clone();
    rows.shuffle(&mut random);
    rows.truncate(SAMPLE_MAX);
    let mut tried = Vec::new();
    let mut best: Option<(f64, Clusters)> = None;
    for &k in ks.iter().filter(|&&k| k <= rows.len()) {
        let clusters = Clusters::fit(vectors, weights, &rows, k, &mut random);
        let seen = &rows[..rows.len().min(SILHOUETTE_MAX)];
        let labels: Vec<usize> = seen.iter().map(|&row| clusters.nearest(vectors, row).0).collect();
        let silhouette = silhouette(vectors, seen, &labels, k);
        tried.push((k, silhouette));
        if best.as_ref().is_none_or(|(most, _)| silhouette > *most) {
            best = Some((silhouette, clusters));
        }
    }
    let mut labels = vec![None; vectors.count()];
    if let Some((_, mut clusters)) = best {
        clusters.settle(vectors, weights, &all);
        for row in all {
            labels[row] = Some(clusters.nearest(vectors, row).0);
        }
    }
    (labels, tried)
}

impl Clusters {
    /// The best of several runs.
    fn fit(vectors: &Vectors, weights: &[f32], rows: &[usize], k: usize, random: &mut SmallRng) -> Self {
        let runs = (0..RUNS).map(|_| {
            let mut clusters = Self { centres: seeds(vectors, weights, rows, k, random), fit: 0.0 };
            clusters.settle(vectors, weights, rows);
            clusters
        });
        runs.max_by(|a, b| a.fit.total_cmp(&b.fit)).expect("there is more than one run")
    }

    /// Moves the centres until no text changes its cluster.
    fn settle(&mut self, vectors: &Vectors, weights: &[f32], rows: &[usize]) {
        let mut before = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let nearest: Vec<(usize, f32)> = rows.iter().map(|&row| self.nearest(vectors, row)).collect();
            self.fit = rows.iter().zip(&nearest).map(|(&row, (_, near))| f64::from(weights[row] * near)).sum();
            let labels: Vec<usize> = nearest.iter().map(|(label, _)| *label).collect();
            if labels == before {
                return;
            }
            let mut sums = vec![vec![0.0; vectors.width()]; self.centres.len()];
            for (&row, &label) in rows.iter().zip(&labels) {
                vectors.add_to(row, weights[row], &mut sums[label]);
            }
            for (centre, mut sum) in self.centres.iter_mut().zip(sums) {
                let length = sum.iter().map(|it| it * it).sum::<f32>().sqrt();
                // An empty cluster keeps its centre.
                if length > 0.0 {
                    for it in &mut sum {
                        *it /= length;
                    }
                    *centre = sum;
                }
            }
            before = labels;
        }
    }

    /// The nearest centre and its cosine.
    fn nearest(&self, vectors: &Vectors, row: usize) -> (usize, f32) {
        let near = self.centres.iter().map(|centre| vectors.dot(row, centre)).enumerate();
        near.fold((0, f32::MIN), |best, it| if it.1 > best.1 { it } else { best })
    }
}

/// Centres at texts, each far from those before it (k-means++: Arthur and Vassilvitskii, 2007).
fn seeds(vectors: &Vectors, weights: &[f32], rows: &[usize], k: usize, random: &mut SmallRng) -> Vec<Vec<f32>> {
    let mut centres = vec![vectors.dense(rows[random.random_range(0..rows.len())])];
    let mut far = vec![f32::MAX; rows.len()];
    while centres.len() < k {
        let last = centres.last().expect("there is one");
        for (far, &row) in far.iter_mut().zip(rows) {
            *far = far.min(1.0 - vectors.dot(row, last)).max(0.0);
        }
        let sum: f32 = far.iter().zip(rows).map(|(far, &row)| far * weights[row]).sum();
        let mut left = random.random::<f32>() * sum;
        let place = far.iter().zip(rows).position(|(far, &row)| {
            left -= far * weights[row];
            left < 0.0
        });
        centres.push(vectors.dense(rows[place.unwrap_or(rows.len() - 1)]));
    }
    centres
}

/// The mean silhouette by cosine distance. Texts alone in their cluster count as 0.
fn silhouette(vectors: &Vectors, rows: &[usize], labels: &[usize], k: usize) -> f64 {
    let mut total = 0.0;
    for (&row, &own) in rows.iter().zip(labels) {
        let dense = vectors.dense(row);
        let (mut sums, mut counts) = (vec![0.0; k], vec![0_usize; k]);
        for (&other, &label) in rows.iter().zip(labels).filter(|(other, _)| **other != row) {
            sums[label] += f64::from(1.0 - vectors.dot(other, &dense));
            counts[label] += 1;
        }
        let mean = |label: usize| sums[label] / counts[label] as f64;
        let others = (0..k).filter(|&label| label != own && counts[label] > 0).map(mean);
        let nearest = others.fold(f64::INFINITY, f64::min);
        if counts[own] > 0 && nearest.is_finite() {
            let within = mean(own);
            total += (nearest - within) / nearest.max(within).max(f64::MIN_POSITIVE);
        }
    }
    total / rows.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three directions with noise.
    fn vectors(seed: u64) -> (Vectors, Vec<usize>) {
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut values, mut truth) = (Vec::new(), Vec::new());
        for row in 0..300 {
            truth.push(row % 3);
            values.extend((0..8).map(|it| random.random::<f32>() * 0.4 + f32::from(u8::from(it == row % 3))));
        }
        let mut vectors = Vectors::Dense { values, width: 8 };
        vectors.normalize();
        (vectors, truth)
    }

    #[test]
    fn planted_clusters_are_found_with_their_number() {
        let (vectors, truth) = vectors(1);
        let weights = vec![1.0; 300];
        let (labels, tried) = find(&vectors, &weights, &[2, 3, 4, 5, 6], 7);
        let labels: Vec<usize> = labels.into_iter().map(Option::unwrap).collect();
        assert_eq!(tried.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0, 3, "{tried:?}");
        assert_eq!(super::super::quality::adjusted_rand_index(&labels, &truth), 1.0);
        assert_eq!(find(&vectors, &weights, &[2, 3, 4, 5, 6], 7).0, labels.into_iter().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn a_silhouette_is_that_of_the_definition() {
        // Distances are 1 - cosine: within the pairs 0, between them 1.
        let vectors = Vectors::Dense { values: vec![1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0], width: 2 };
        assert_eq!(silhouette(&vectors, &[0, 1, 2, 3], &[0, 0, 1, 1], 2), 1.0);
        assert_eq!(silhouette(&vectors, &[0, 1, 2, 3], &[0, 1, 0, 1], 2), -0.5);
        assert_eq!(silhouette(&vectors, &[0, 2], &[0, 1], 2), 0.0);
    }

    #[test]
    fn zero_vectors_and_too_few_texts_are_in_no_cluster() {
        let vectors = Vectors::Sparse { rows: vec![vec![(0, 1.0)], vec![], vec![(1, 1.0)]], width: 2 };
        let (labels, _) = find(&vectors, &[1.0; 3], &[2], 0);
        assert!(labels[1].is_none() && labels[0].is_some() && labels[0] != labels[2]);
        assert_eq!(find(&vectors, &[1.0; 3], &[9], 0).0, [None, None, None]);
    }
}
