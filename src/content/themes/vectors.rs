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
}

impl Vectors {
    /// The number of rows.
    pub fn count(&self) -> usize {
        match self {
            Self::Sparse { rows, .. } => rows.len(),
            Self::Dense { values, width } => values.len() / (*width).max(1),
        }
    }

    /// The length of a row.
    pub fn width(&self) -> usize {
        match self {
            Self::Sparse { width, .. } | Self::Dense { width, .. } => *width,
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
        }
    }

    pub(super) fn is_zero(&self, row: usize) -> bool {
        match self {
            Self::Sparse { rows, .. } => rows[row].is_empty(),
            Self::Dense { values, width } => values[row * width..(row + 1) * width].iter().all(|it| *it == 0.0),
        }
    }

    /// The inner product of a row and a dense vector.
    pub(super) fn dot(&self, row: usize, other: &[f32]) -> f32 {
        match self {
            Self::Sparse { rows, .. } => rows[row].iter().map(|(index, it)| it * other[*index as usize]).sum(),
            Self::Dense { values, width } => {
                values[row * width..(row + 1) * width].iter().zip(other).map(|(a, b)| a * b).sum()
            }
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
