//! What has changed in predictions and features during the log.
//!
//! Owns the population stability index (PSI) of each number that decisions carry: the model's score, the probability
//! of each campaign, and the features by which creatives were chosen. The first half of the log's time is compared with
//! the second: PSI = Σ (a - e) ln (a / e) over about ten bins that hold equal shares of the first half, shares kept
//! above [`SHARE_MIN`].
//!
//! Numbers are kept in cells of a quarter of a factor of two, so bins are a little uneven. Limits: [`FEATURES_MAX`]
//! features, the first that appear; [`ROWS_MIN`] rows in each half, below which the index is noise.

use super::buckets::{Buckets, Sum};
use crate::effect::{Plan, dimension::Decided};
use serde::Serialize;
use std::collections::BTreeMap;

/// The most features.
pub(super) const FEATURES_MAX: usize = 64;
/// The fewest rows in each half.
const ROWS_MIN: u64 = 500;
/// The bins.
const BINS: u64 = 10;
/// The least share of a bin: an empty one would make the index infinite.
const SHARE_MIN: f64 = 1e-4;
/// From here on, a shift is worth watching, and worth acting on.
const WATCH: f64 = 0.1;
const ACT: f64 = 0.25;

/// How much a feature has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shift {
    /// A PSI below 0.1.
    Steady,
    /// Up to 0.25.
    Watch,
    /// Beyond.
    Act,
}

/// A feature.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureDrift {
    /// Its name.
    pub feature: String,
    /// Rows of the first half and of the second.
    pub rows: [u64; 2],
    /// The means of both.
    pub means: [Option<f64>; 2],
    /// The index. `None` with too few rows.
    pub psi: Option<f64>,
    /// What that means.
    pub shift: Option<Shift>,
}

/// All features, those that have changed most first.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Drift {
    /// When the second half begins, in microseconds since 1970. `None` if the log is too short to be halved.
    pub second_from: Option<i64>,
    /// The features.
    pub features: Vec<FeatureDrift>,
    /// Numbers of further features, which are left out.
    pub left_out: u64,
}

/// The numbers of a feature in a time.
#[derive(Clone, Debug, Default)]
struct Numbers {
    rows: u64,
    sum: f64,
    cells: BTreeMap<i32, u64>,
}

impl Sum for Numbers {
    fn add(&mut self, other: &Self) {
        self.rows += other.rows;
        self.sum += other.sum;
        for (cell, count) in &other.cells {
            *self.cells.entry(*cell).or_default() += count;
        }
    }
}

/// The cell of a number: it never falls as the number rises.
fn cell(number: f64) -> i32 {
    if number == 0.0 {
        return 0;
    }
    // Sign aside, the bits of a float rise with it. Two bits of the fraction stay.
    let place = (number.abs().to_bits() >> 50) as i32 + 1;
    if number < 0.0 { -place } else { place }
}

#[derive(Debug, Default)]
pub(super) struct DriftSums {
    features: BTreeMap<String, Buckets<Numbers>>,
    left_out: u64,
}

impl DriftSums {
    pub(super) fn add(&mut self, plan: &Plan, decided: &Decided<'_>) {
        let at = decided.offered.decided_at;
        if let Some(score) = decided.details.score {
            self.number("model score", None, at, f64::from(score));
        }
        for (offer, details) in decided.offered.offers.iter().zip(&decided.details.offers) {
            if let Some(probability) = details.probability {
                self.number("probability", Some(offer.campaign_id), at, probability);
            }
            let names = plan.campaigns.get(offer.campaign_id).map_or(&[][..], |campaign| &campaign.features);
            // Without a name for each number, the configuration is another one than that of the log.
            if names.len() == offer.features.len() {
                for (name, number) in names.iter().zip(offer.features) {
                    self.number(name, None, at, *number);
                }
            }
        }
    }

    fn number(&mut self, name: &str, of: Option<&str>, at: i64, number: f64) {
        if !number.is_finite() {
            return;
        }
        let long;
        let name = match of {
            None => name,
            Some(of) => {
                long = format!("{name} of {of}");
                &long
            }
        };
        if !self.features.contains_key(name) {
            if self.features.len() >= FEATURES_MAX {
                self.left_out += 1;
                return;
            }
            self.features.insert(name.to_owned(), Buckets::default());
        }
        let Some(buckets) = self.features.get_mut(name) else { return };
        let numbers = buckets.at(at);
        numbers.rows += 1;
        numbers.sum += number;
        *numbers.cells.entry(cell(number)).or_default() += 1;
    }

    pub(super) fn report(&self) -> Drift {
        let times = self.features.values().flat_map(|buckets| {
            let width = buckets.width();
            buckets.iter().map(move |(from, _)| (from, from.saturating_add(width)))
        });
        let ends = times.reduce(|(first, last), (from, until)| (first.min(from), last.max(until)));
        let Some((first, last)) = ends else { return Drift { left_out: self.left_out, ..Drift::default() } };
        let middle = first + last.saturating_sub(first) / 2;
        let mut features: Vec<FeatureDrift> =
            self.features.iter().map(|(name, it)| feature(name, it, middle)).collect();
        features.sort_by(|a, b| {
            let psi = |of: &FeatureDrift| of.psi.unwrap_or(-1.0);
            psi(b).total_cmp(&psi(a)).then_with(|| a.feature.cmp(&b.feature))
        });
        let is_halved = features.iter().any(|it| it.rows.iter().all(|rows| *rows > 0));
        Drift { second_from: is_halved.then_some(middle), features, left_out: self.left_out }
    }
}

fn feature(name: &str, buckets: &Buckets<Numbers>, middle: i64) -> FeatureDrift {
    let mut halves = [Numbers::default(), Numbers::default()];
    for (from, numbers) in buckets.iter() {
        halves[usize::from(from >= middle)].add(numbers);
    }
    let [before, after] = &halves;
    let is_enough = halves.iter().all(|half| half.rows >= ROWS_MIN);
    let psi = is_enough.then(|| psi(before, after));
    let shift = psi.map(|psi| match psi {
        psi if psi >= ACT => Shift::Act,
        psi if psi >= WATCH => Shift::Watch,
        _ => Shift::Steady,
    });
    let mean = |half: &Numbers| (half.rows > 0).then(|| half.sum / half.rows as f64);
    FeatureDrift {
        feature: name.to_owned(),
        rows: [before.rows, after.rows],
        means: [mean(before), mean(after)],
        psi,
        shift,
    }
}

/// The index of two halves with rows.
fn psi(before: &Numbers, after: &Numbers) -> f64 {
    // The cells at which a bin ends, so that each holds at least a tenth of the rows before. A bin with fewer would turn
    // a handful of rows into a large index.
    let (mut ends, mut in_bin) = (Vec::new(), 0);
    for (cell, count) in &before.cells {
        in_bin += count;
        if in_bin * BINS >= before.rows {
            ends.push(*cell);
            in_bin = 0;
        }
    }
    // The last bin has no end, and takes in what is left over.
    ends.pop();
    let shares = |of: &Numbers| {
        let mut bins = vec![0; ends.len() + 1];
        for (cell, count) in &of.cells {
            bins[ends.partition_point(|end| end < cell)] += count;
        }
        bins.into_iter().map(|count| (count as f64 / of.rows as f64).max(SHARE_MIN)).collect::<Vec<f64>>()
    };
    shares(before).iter().zip(shares(after)).map(|(before, after)| (after - before) * (after / before).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_rise_with_their_numbers() {
        let numbers = [-1e300, -2.0, -1.0, -1e-9, 0.0, 1e-300, 1e-9, 0.5, 1.0, 1.9, 2.0, 1e300];
        assert!(numbers.windows(2).all(|two| cell(two[0]) < cell(two[1])));
        assert_eq!((cell(1.0), cell(-0.0)), (cell(1.2), cell(0.0)));
    }

    #[test]
    fn a_handful_of_rows_at_the_end_is_no_bin() {
        // Uniform up to 80, of which a few rows are 80 itself, in a cell of their own; then up to 96.
        let uniform = |end: f64| {
            let mut numbers = Numbers::default();
            for number in 0..=10_000 {
                numbers.rows += 1;
                *numbers.cells.entry(cell(end * f64::from(number) / 10_000.0)).or_default() += 1;
            }
            numbers
        };
        // From 64 on, 0.2 of the rows become 0.333; below, 0.8 become 0.667.
        let expected = (0.333_f64 - 0.2) * (0.333_f64 / 0.2).ln() + (0.667_f64 - 0.8) * (0.667_f64 / 0.8).ln();
        let found = psi(&uniform(80.0), &uniform(96.0));
        assert!((found - expected).abs() < 0.01, "{found} for {expected}");
        assert!(psi(&uniform(80.0), &uniform(80.0)) < 1e-9);
    }
}
