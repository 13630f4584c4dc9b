//! What would be lost without a channel.
//!
//! Journeys are seen as a chain of first order that goes from the start over channels to a conversion or to none. A
//! channel's removal effect is the share of the conversion probability that is lost if all who reach the channel give up
//! (Anderl, Becker, von Wangenheim and Schumann 2016, "Mapping the customer journey").
//!
//! By the strong Markov property, no channel has to be removed: the probability of converting without c is
//! `x_start - h_c x_c`, where x is the probability of converting from a state and h_c that of ever reaching c. With the
//! fundamental matrix `N = (I - Q)^-1`, `h_c = N_start,c / N_c,c`. So one inversion gives all effects.

use super::{AttributionError, Touch};

/// Counted transitions between the start, the channels and the two ends.
#[derive(Clone, Debug)]
pub(super) struct Transitions {
    channels: usize,
    /// Row from, column to: the channels, then the start as a row; conversion and none as columns.
    counts: Vec<u64>,
}

impl Transitions {
    pub(super) fn new(channels: usize) -> Self {
        Self { channels, counts: vec![0; (channels + 1) * (channels + 2)] }
    }

    fn at(&self, from: usize, to: usize) -> usize {
        from * (self.channels + 2) + to
    }

    /// Counts a journey. Going from a channel to itself is left out: it changes neither where the chain goes next nor
    /// whether it arrives.
    pub(super) fn add(&mut self, touches: &[Touch], is_converted: bool) {
        let mut from = self.channels;
        for it in touches.iter().filter(|it| it.channel < self.channels) {
            if it.channel != from {
                let at = self.at(from, it.channel);
                self.counts[at] += 1;
                from = it.channel;
            }
        }
        let at = self.at(from, self.channels + usize::from(!is_converted));
        self.counts[at] += 1;
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// The share of the conversion probability that each channel's removal loses. 0 for channels without touches, and
    /// for all if nothing converts.
    pub(super) fn removal_effects(&self) -> Result<Vec<f64>, AttributionError> {
        let start = self.channels;
        let sums: Vec<f64> = self.counts.chunks(self.channels + 2).map(|row| row.iter().sum::<u64>() as f64).collect();
        let share = |from: usize, to: usize| {
            if sums[from] > 0.0 { self.counts[self.at(from, to)] as f64 / sums[from] } else { 0.0 }
        };
        // States that were reached; the others would only make the matrix larger.
        let used: Vec<usize> = (0..=start).filter(|&state| sums[state] > 0.0).collect();
        let mut effects = vec![0.0; self.channels];
        if used.last() != Some(&start) {
            return Ok(effects);
        }
        let size = used.len();
        let mut matrix = vec![0.0; size * size];
        for (i, &from) in used.iter().enumerate() {
            for (j, &to) in used.iter().enumerate() {
                // Nothing goes back to the start.
                let step = if to == start { 0.0 } else { share(from, to) };
                matrix[i * size + j] = f64::from(u8::from(i == j)) - step;
            }
        }
        invert(&mut matrix, size).ok_or(AttributionError::Unstable)?;
        let arrives = |i: usize| (0..size).map(|j| matrix[i * size + j] * share(used[j], start)).sum::<f64>();
        let total = arrives(size - 1);
        if total <= 0.0 {
            return Ok(effects);
        }
        for (i, &channel) in used[..size - 1].iter().enumerate() {
            let reached = matrix[(size - 1) * size + i] / matrix[i * size + i];
            effects[channel] = (reached * arrives(i) / total).clamp(0.0, 1.0);
        }
        if effects.iter().all(|it| it.is_finite()) { Ok(effects) } else { Err(AttributionError::Unstable) }
    }
}

/// Inverts in place by Gauss and Jordan. No rows are exchanged: the largest entries of these matrices, whose rows have 1
/// on the diagonal and nothing positive beside it, are there already. `None` if a pivot vanishes.
fn invert(matrix: &mut [f64], size: usize) -> Option<()> {
    for k in 0..size {
        let pivot = matrix[k * size + k];
        // The journeys' own flows give every state a way out, which is far larger than this.
        if pivot.is_nan() || pivot < 1e-13 {
            return None;
        }
        matrix[k * size + k] = 1.0;
        matrix[k * size..(k + 1) * size].iter_mut().for_each(|it| *it /= pivot);
        let row = matrix[k * size..(k + 1) * size].to_vec();
        for i in (0..size).filter(|&i| i != k) {
            let factor = matrix[i * size + k];
            if factor == 0.0 {
                continue;
            }
            matrix[i * size + k] = 0.0;
            let other = &mut matrix[i * size..(i + 1) * size];
            other.iter_mut().zip(&row).for_each(|(it, by)| *it -= factor * by);
        }
    }
    Some(())
}
