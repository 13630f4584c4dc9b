//! Texts as vectors of length one.
//!
//! Owns the trait that a sentence model implements, and the baseline without a model: a bag of words, weighted by
//! TF-IDF. A text without any known word is a zero vector and belongs to no theme.

use super::vocabulary::Vocabulary;

/// Vectors in rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Vectors {
    /// Few entries of many: index and value.
    Sparse {
        /// The entries of each row, by index.
        rows: Vec<Vec<(u32, f32)>>,
        /// The length of a row.
        width: usize,
    },
    /// All entries, row after row.
    Dense {
        /// The entries.
        values: Vec<f32>,
        /// The length of a row.
        width: usize,
    },
    /// All entries in a byte each.
    Quantised(Quantised),
}

/// Rows of length one with a byte for each entry, for many texts: a fourth of the memory, and cosines that differ by less
/// than 0.01.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantised {
    values: Vec<i8>,
    /// What makes the length of each row one; 0 for a row of zeros.
    scales: Vec<f32>,
    width: usize,
}

impl Quantised {
    /// No rows yet, of this length.
    pub fn new(width: usize) -> Self {
        Self { width, ..Self::default() }
    }

    /// The number of rows.
    pub fn count(&self) -> usize {
        self.scales.len()
    }

    /// Rounds the entries of a row, so that the largest is 127.
    pub fn rounded(row: &[f32]) -> impl Iterator<Item = i8> {
        let most = row.iter().fold(0.0_f32, |most, it| most.max(it.abs()));
        let scale = if most > 0.0 { 127.0 / most } else { 0.0 };
        row.iter().map(move |it| (it * scale).round() as i8)
    }

    /// Appends rows of rounded entries.
    ///
    /// # Panics
    /// This is not a whole number of rows.
    pub fn push(&mut self, rows: &[i8]) {
        assert!(self.width > 0 && rows.len().is_multiple_of(self.width), "only whole rows are appended");
        for row in rows.chunks_exact(self.width) {
            let sum: f32 = row.iter().map(|&it| f32::from(it) * f32::from(it)).sum();
            self.scales.push(if sum > 0.0 { sum.sqrt().recip() } else { 0.0 });
        }
        self.values.extend_from_slice(rows);
    }

    fn row(&self, row: usize) -> impl Iterator<Item = f32> {
        let scale = self.scales[row];
        self.values[row * self.width..(row + 1) * self.width].iter().map(move |&it| f32::from(it) * scale)
    }
}

impl Vectors {
    /// The number of rows.
    pub fn count(&self) -> usize {
        match self {
            Self::Sparse { rows, .. } => rows.len(),
            Self::Dense { values, width } => values.len() / (*width).max(1),
            Self::Quantised(rows) => rows.count(),
        }
    }

    /// The length of a row.
    pub fn width(&self) -> usize {
        match self {
            Self::Sparse { width, .. } | Self::Dense { width, .. } | Self::Quantised(Quantised { width, .. }) => *width,
        }
    }

    /// Scales every row to length one.
    pub fn normalize(&mut self) {
        let scale = |sum: f32| if sum > 0.0 { sum.sqrt().recip() } else { 0.0 };
        match self {
            Self::Sparse { rows, .. } => {
                for row in rows {
                    let by = scale(row.iter().map(|(_, it)| it * it).sum());
                    for (_, it) in row {
                        *it *= by;
                    }
                }
            }
            Self::Dense { values, width } => {
                for row in values.chunks_exact_mut((*width).max(1)) {
                    let by = scale(row.iter().map(|it| it * it).sum());
                    for it in row {
                        *it *= by;
                    }
                }
            }
            Self::Quantised(_) => {}
        }
    }

    pub(super) fn is_zero(&self, row: usize) -> bool {
        match self {
            Self::Sparse { rows, .. } => rows[row].is_empty(),
            Self::Dense { values, width } => values[row * width..(row + 1) * width].iter().all(|it| *it == 0.0),
            Self::Quantised(rows) => rows.scales[row] == 0.0,
        }
    }

    /// The inner product of a row and a dense vector.
    pub(super) fn dot(&self, row: usize, other: &[f32]) -> f32 {
        match self {
            Self::Sparse { rows, .. } => rows[row].iter().map(|(index, it)| it * other[*index as usize]).sum(),
            Self::Dense { values, width } => {
                values[row * width..(row + 1) * width].iter().zip(other).map(|(a, b)| a * b).sum()
            }
            Self::Quantised(rows) => rows.row(row).zip(other).map(|(a, b)| a * b).sum(),
        }
    }

    /// Adds a row, scaled, to a dense vector.
    pub(super) fn add_to(&self, row: usize, scale: f32, sum: &mut [f32]) {
        match self {
            Self::Sparse { rows, .. } => rows[row].iter().for_each(|(index, it)| sum[*index as usize] += scale * it),
            Self::Dense { values, width } => {
                let row = &values[row * width..(row + 1) * width];
                row.iter().zip(sum).for_each(|(it, sum)| *sum += scale * it);
            }
            Self::Quantised(rows) => rows.row(row).zip(sum).for_each(|(it, sum)| *sum += scale * it),
        }
    }

    /// A row with all its entries.
    pub(super) fn dense(&self, row: usize) -> Vec<f32> {
        let mut dense = vec![0.0; self.width()];
        self.add_to(row, 1.0, &mut dense);
        dense
    }
}

/// Why texts could not be embedded.
#[derive(Debug, thiserror::Error)]
#[error("embed texts with {name}: {reason}")]
pub struct EmbedError {
    /// The embedder.
    pub name: String,
    /// What went wrong.
    pub reason: String,
}

/// Turns texts into vectors in which near means alike.
pub trait Embedder {
    /// Its name for people, such as that of a model.
    fn name(&self) -> String;

    /// Embeds all texts, in their order.
    ///
    /// # Errors
    /// The model fails.
    fn embed(&mut self, texts: &[&str]) -> Result<Vectors, EmbedError>;
}

/// TF-IDF: (1 + ln tf) × ln(1 + N / df), with one vector entry per word of the vocabulary.
pub(super) fn bag_of_words(vocabulary: &Vocabulary, texts: &[Vec<u32>]) -> Vectors {
    let rows = texts.iter().map(|words| {
        let mut words = words.clone();
        words.sort_unstable();
        let runs = words.chunk_by(|a, b| a == b);
        let entry = |run: &[u32]| (run[0], (1.0 + (run.len() as f32).ln()) * vocabulary.rarity(run[0]));
        runs.map(entry).collect()
    });
    let mut vectors = Vectors::Sparse { rows: rows.collect(), width: vocabulary.len() };
    vectors.normalize();
    vectors
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    #[test]
    fn rounded_rows_keep_their_directions() {
        let mut random = SmallRng::seed_from_u64(5);
        let values: Vec<f32> = (0..384 * 20).map(|_| random.random::<f32>() - 0.5).collect();
        let mut exact = Vectors::Dense { values, width: 384 };
        exact.normalize();
        let mut rounded = Quantised::new(384);
        for row in 0..20 {
            rounded.push(&Quantised::rounded(&exact.dense(row)).collect::<Vec<_>>());
        }
        let mut rounded = Vectors::Quantised(rounded);
        rounded.normalize();
        assert_eq!((rounded.count(), rounded.width()), (20, 384));
        for row in 0..20 {
            let own = rounded.dense(row);
            assert!((exact.dot(row, &own) - 1.0).abs() < 1e-3 && (rounded.dot(row, &own) - 1.0).abs() < 1e-4);
            let other = exact.dense((row + 1) % 20);
            assert!((exact.dot(row, &other) - rounded.dot(row, &other)).abs() < 0.01);
        }
        let mut zero = Quantised::new(2);
        zero.push(&Quantised::rounded(&[0.0, 0.0]).collect::<Vec<_>>());
        assert!(Vectors::Quantised(zero).is_zero(0));
    }
}
