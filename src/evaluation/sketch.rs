//! Figures of predictions from a stream, in bounded memory.
//!
//! Owns a histogram of scores over cells that are fixed in advance, so that two sketches of the same `bits` merge by
//! adding. A cell is a range of about equal ratio of the score, or of 1 minus the score above 1/2: `2^bits` cells for each
//! factor of two from 2^-32 to 1/2, on both sides. That is fine where click rates are (0.001 and 0.002 are as far
//! apart as 0.1 and 0.2) and where certain models are.
//!
//! | Figure | Error against the same rows in a [`Sample`](super::sample::Sample) |
//! |---|---|
//! | rows, positives | none |
//! | mean, calibration ratio, Brier | below 2^-60 a row, relative to 1 |
//! | log loss, normalised entropy | below 2^-52 nats a row |
//! | AUC | at most `Σ_c P_c N_c / (2 P N)` over the cells c with more than one score |
//! | PR-AUC | between the best and the worst order of positives within each cell |
//! | ECE | `2/N` times the unknown part of `Σ (p - y)` at each edge that cuts a cell |
//!
//! The last three are computed from the data and come with the figure, as [`Bounded`](super::Bounded); they are strict,
//! not statistical. A cell that has seen one score only adds nothing, so constant scores and models with few distinct
//! scores are exact. In advance, the AUC is off by at most half the largest share of positives in one cell.
//!
//! Guarantees: adding and merging in any order gives the same sketch, bit for bit, because all sums are integers; so
//! does reading back what was written. Limits: memory grows by 48 bytes a cell in pieces of one factor of two, and
//! is at most [`Sketch::bytes_max`]: 95 KiB at 5 bits, 757 KiB at 8. 2^64 - 1 rows.

use super::{
    metrics::Prediction,
    ranked::{self, CurvePoint, Figures, Group, MassBin, Totals},
    sample::loss,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The factors of two from 2^-32 to 1/2. Scores beyond share a cell at each end.
const OCTAVES: u64 = 31;

/// The finest division: 12 MB, and cells of 0.02 % of the score.
const BITS_MAX: u8 = 12;

/// The bits of a double's fraction.
const FRACTION: u32 = 52;

/// The biased exponent of 2^-32.
const LOWEST: u64 = 1023 - 32;

/// What one stands for in the sums of probabilities: a product with it is exact, and cutting it off loses less than
/// 2^-60.
const ONE: f64 = (1_u64 << 60) as f64;

/// What a nat stands for. A row loses at most [`LOSS_MAX`], which leaves 2^64 rows below 2^122.
const NAT: f64 = (1_u64 << 52) as f64;

/// No row loses more nats: it is 34.54 for a certain positive that did not come, whose complement has lost its last
/// bits.
const LOSS_MAX: f64 = 34.6;

/// Why a sketch refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum SketchError {
    /// A probability is NaN or not between 0 and 1.
    #[error("add a prediction: probability {0} is not between 0 and 1")]
    Probability(f64),
    /// The rows no longer fit into 64 bits.
    #[error("add a prediction: the sketch holds 2^64 - 1 rows")]
    Full,
    /// Sketches of different cells.
    #[error("merge sketches: one has {0} bits a factor of two, the other {1}")]
    Mismatch(u8, u8),
    /// More bits than the finest division.
    #[error("create a sketch: {0} bits are more than 12")]
    Bits(u8),
    /// A stored sketch that no rows could have made.
    #[error("read a sketch: cell {0} is not one that rows could have made")]
    Cell(u32),
    /// A stored sketch whose sums do not fit its cells.
    #[error("read a sketch: its sums are larger than its rows allow")]
    Sums,
}

/// What is known of the rows of a cell.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cell {
    positives: u64,
    negatives: u64,
    /// In units of 2^-60.
    predicted: u128,
    low: f64,
    high: f64,
}

const EMPTY: Cell = Cell { positives: 0, negatives: 0, predicted: 0, low: f64::INFINITY, high: f64::NEG_INFINITY };

impl Cell {
    fn rows(&self) -> u64 {
        self.positives + self.negatives
    }

    fn merge(&mut self, other: &Self) {
        self.positives += other.positives;
        self.negatives += other.negatives;
        self.predicted += other.predicted;
        self.low = self.low.min(other.low);
        self.high = self.high.max(other.high);
    }
}

/// A mergeable summary of predictions and their outcomes.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Sketch {
    bits: u8,
    rows: u64,
    positives: u64,
    /// In units of 2^-52 nats.
    log_loss: u128,
    /// In units of 2^-60.
    brier: u128,
    /// Cells in pieces of one factor of two, which exist from their first row on.
    pieces: Vec<Option<Box<[Cell]>>>,
}

/// A sketch as written: only the cells with rows.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    bits: u8,
    log_loss: u128,
    brier: u128,
    cells: Vec<StoredCell>,
}

/// Number, positives, negatives, sum of probabilities, lowest and highest one.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct StoredCell(u32, u64, u64, u128, f64, f64);

impl Sketch {
    /// An empty sketch with `2^bits` cells for each factor of two of the score.
    ///
    /// # Errors
    ///
    /// If there are more than 12 bits.
    pub fn new(bits: u8) -> Result<Self, SketchError> {
        if bits > BITS_MAX {
            return Err(SketchError::Bits(bits));
        }
        // Both halves have one more cell, for the scores beyond.
        let pieces = (2 * half(bits)).div_ceil(1 << bits) as usize;
        Ok(Self { bits, rows: 0, positives: 0, log_loss: 0, brier: 0, pieces: vec![None; pieces] })
    }

    /// The most memory that a sketch of so many bits takes.
    pub fn bytes_max(bits: u8) -> usize {
        let bits = bits.min(BITS_MAX);
        let pieces = (2 * half(bits)).div_ceil(1 << bits) as usize;
        size_of::<Self>() + pieces * (size_of::<Option<Box<[Cell]>>>() + (size_of::<Cell>() << bits))
    }

    /// The memory that it takes now.
    pub fn bytes(&self) -> usize {
        let used = self.pieces.iter().flatten().count();
        size_of::<Self>()
            + self.pieces.len() * size_of::<Option<Box<[Cell]>>>()
            + used * (size_of::<Cell>() << self.bits)
    }

    /// The number of rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Adds a row. It allocates if the row is the first in its factor of two.
    ///
    /// # Errors
    ///
    /// If the probability is not between 0 and 1, or the sketch is full.
    pub fn add(&mut self, prediction: Prediction) -> Result<(), SketchError> {
        self.add_times(prediction, 1)
    }

    /// Adds the same row `times` times, for instance a negative that stands for those that sampling dropped. 0 adds
    /// nothing.
    ///
    /// # Errors
    ///
    /// If the probability is not between 0 and 1, or the sketch is full.
    pub fn add_times(&mut self, prediction: Prediction, times: u64) -> Result<(), SketchError> {
        let Prediction { probability, label } = prediction;
        if !(0.0..=1.0).contains(&probability) {
            return Err(SketchError::Probability(probability));
        }
        self.rows = self.rows.checked_add(times).ok_or(SketchError::Full)?;
        if times == 0 {
            return Ok(());
        }
        // Turns -0 into 0.
        let probability = probability + 0.0;
        let miss = if label { 1.0 - probability } else { probability };
        let many = u128::from(times);
        self.log_loss += u128::from((loss(probability, label) * NAT) as u64) * many;
        self.brier += u128::from((miss * miss * ONE) as u64) * many;
        let bits = self.bits;
        let at = place(probability, bits);
        let cell = cell(&mut self.pieces, at, bits);
        if label {
            self.positives += times;
            cell.positives += times;
        } else {
            cell.negatives += times;
        }
        cell.predicted += u128::from((probability * ONE) as u64) * many;
        cell.low = cell.low.min(probability);
        cell.high = cell.high.max(probability);
        Ok(())
    }

    /// Adds the rows of another sketch.
    ///
    /// # Errors
    ///
    /// If the other has other cells, or both together are too many rows. Then nothing was added.
    pub fn merge(&mut self, other: &Self) -> Result<(), SketchError> {
        if self.bits != other.bits {
            return Err(SketchError::Mismatch(self.bits, other.bits));
        }
        self.rows = self.rows.checked_add(other.rows).ok_or(SketchError::Full)?;
        self.positives += other.positives;
        self.log_loss += other.log_loss;
        self.brier += other.brier;
        for (mine, theirs) in self.pieces.iter_mut().zip(&other.pieces) {
            match (mine, theirs) {
                (_, None) => {}
                (Some(mine), Some(theirs)) => {
                    mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| mine.merge(theirs));
                }
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            }
        }
        Ok(())
    }

    /// All figures; `bins` is the number of equal-mass bins of the calibration error.
    pub fn figures(&self, bins: usize) -> Figures {
        let groups = self.groups();
        let predicted: u128 = self.cells().map(|(_, it)| it.predicted).sum();
        let totals = Totals {
            rows: self.rows,
            weight: self.rows as f64,
            positives: self.positives as f64,
            predicted: predicted as f64 / ONE,
            log_loss: self.log_loss as f64 / NAT,
            brier: self.brier as f64 / ONE,
        };
        ranked::figures(&totals, &groups, bins)
    }

    /// The reliability diagram in bins of equal mass, lowest probability first.
    pub fn reliability(&self, bins: usize) -> Vec<MassBin> {
        ranked::equal_mass(&self.groups(), bins)
    }

    /// At most `points` points of the ROC and precision-recall curves, highest threshold first; empty with one class.
    pub fn curve(&self, points: usize) -> Vec<CurvePoint> {
        ranked::curve(&self.groups(), points)
    }

    /// The cells with rows and their numbers, lowest score first.
    fn cells(&self) -> impl Iterator<Item = (u32, &Cell)> {
        let bits = self.bits;
        let pieces = self.pieces.iter().enumerate().filter_map(|(at, piece)| Some((at, piece.as_ref()?)));
        let cells = pieces.flat_map(move |(at, piece)| {
            piece.iter().enumerate().map(move |(inner, cell)| (((at << bits) + inner) as u32, cell))
        });
        cells.filter(|(_, cell)| cell.rows() > 0)
    }

    fn groups(&self) -> Vec<Group> {
        let group = |it: &Cell| Group {
            positives: it.positives as f64,
            negatives: it.negatives as f64,
            predicted: it.predicted as f64 / ONE,
            low: it.low,
            high: it.high,
        };
        self.cells().map(|(_, it)| group(it)).collect()
    }
}

/// The cells on each side of 1/2.
const fn half(bits: u8) -> u64 {
    (OCTAVES << bits) + 1
}

/// The number of a probability's cell: it never falls as the probability rises.
fn place(probability: f64, bits: u8) -> u64 {
    // 1 - p is exact from 1/2 on.
    let (small, is_upper) = if probability < 0.5 { (probability, false) } else { (1.0 - probability, true) };
    let top = small.to_bits() >> (FRACTION - u32::from(bits));
    // Cell 0 is for what is below 2^-32; 1/2 itself shares the last cell.
    let number = (top + 1).saturating_sub(LOWEST << bits).min(half(bits) - 1);
    if is_upper { 2 * half(bits) - 1 - number } else { number }
}

fn cell(pieces: &mut [Option<Box<[Cell]>>], at: u64, bits: u8) -> &mut Cell {
    let piece = &mut pieces[(at >> bits) as usize];
    let cells = piece.get_or_insert_with(|| vec![EMPTY; 1 << bits].into_boxed_slice());
    &mut cells[(at & ((1 << bits) - 1)) as usize]
}

impl From<Sketch> for Stored {
    fn from(sketch: Sketch) -> Self {
        let stored = |(at, it): (u32, &Cell)| StoredCell(at, it.positives, it.negatives, it.predicted, it.low, it.high);
        Self {
            bits: sketch.bits,
            log_loss: sketch.log_loss,
            brier: sketch.brier,
            cells: sketch.cells().map(stored).collect(),
        }
    }
}

impl TryFrom<Stored> for Sketch {
    type Error = SketchError;

    fn try_from(stored: Stored) -> Result<Self, SketchError> {
        let mut sketch = Self::new(stored.bits)?;
        let bits = stored.bits;
        for &StoredCell(at, positives, negatives, predicted, low, high) in &stored.cells {
            let refuse = SketchError::Cell(at);
            let rows = positives.checked_add(negatives).filter(|rows| *rows > 0).ok_or(refuse)?;
            let is_range = (0.0..=1.0).contains(&low) && (low..=1.0).contains(&high);
            // Comparing places also refuses a number that is out of range.
            if !is_range || place(low, bits) != u64::from(at) || place(high, bits) != u64::from(at) {
                return Err(refuse);
            }
            let sum = |score: f64| u128::from((score * ONE) as u64) * u128::from(rows);
            if !(sum(low)..=sum(high)).contains(&predicted) {
                return Err(refuse);
            }
            let cell = cell(&mut sketch.pieces, u64::from(at), bits);
            if cell.rows() > 0 {
                return Err(refuse);
            }
            *cell = Cell { positives, negatives, predicted, low: low + 0.0, high: high + 0.0 };
            sketch.rows = sketch.rows.checked_add(rows).ok_or(SketchError::Full)?;
            sketch.positives += positives;
        }
        let most = |each: f64| u128::from(each as u64) * u128::from(sketch.rows);
        if stored.log_loss > most(LOSS_MAX * NAT) || stored.brier > most(ONE) {
            return Err(SketchError::Sums);
        }
        Ok(Self { log_loss: stored.log_loss, brier: stored.brier, ..sketch })
    }
}

#[cfg(test)]
mod tests;
