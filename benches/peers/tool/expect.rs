//! The expected decisions, computed from the definition of the workload in README.md: every feature is recounted from
//! the user's past events, and the network is evaluated directly. Independent of how Aimpoint and its peers do it.

use crate::generate::{Event, Generator, LATE_MS_MAX, hash};
use std::collections::VecDeque;

const FEATURES: usize = 16;
/// The lengths and tiles of the windows, in milliseconds.
const WINDOWS: [(i64, i64); 3] = [(300_000, 10_000), (3_600_000, 60_000), (86_400_000, 1_800_000)];
/// The divisors of the features; models/make.py has the same numbers.
const SCALE: [f64; FEATURES] =
    [4.0, 8.0, 64.0, 2.0, 4.0, 16.0, 2.0, 4.0, 8.0, 2.0, 2.0, 4.0, 400.0, 15_000.0, 18.0, 24.0];

/// The features at the newest of the user's events, which are in stream order.
fn features(events: &VecDeque<Event>) -> [f32; FEATURES] {
    let Some(own) = events.back() else { return [0.0; FEATURES] };
    let mut row = [0.0_f64; FEATURES];
    let mut dwell = 0.0;
    for event in events {
        for (index, (length, tile)) in WINDOWS.into_iter().enumerate() {
            let (newest, its) = (own.ts.div_euclid(tile), event.ts.div_euclid(tile));
            if its > newest || its <= newest - length / tile {
                continue;
            }
            row[event.kind * 3 + index] += 1.0;
            if index == 1 && event.kind == 0 {
                dwell += f64::from(event.dwell_ms);
            }
            if index == 2 && event.kind == 3 {
                row[12] += f64::from(event.quarters) / 4.0;
            }
        }
    }
    if row[1] > 0.0 {
        row[13] = dwell / row[1];
    }
    let earlier = events.iter().rev().skip(1).map(|event| event.ts).max();
    row[14] = earlier.map_or(0.0, |last| ((own.ts - last).max(0) as f64).ln_1p());
    row[15] = (own.ts.div_euclid(3_600_000) % 24) as f64;
    row.map(|value| value as f32)
}

/// A network as written by models/make.py.
struct Network(Vec<Layer>);

struct Layer {
    weights: Vec<f64>,
    biases: Vec<f64>,
}

impl Network {
    fn new(model: Model) -> Self {
        let sizes: &[usize] = match model {
            Model::A => &[FEATURES, 10, 1],
            Model::B => &[FEATURES, 256, 128, 1],
        };
        let layers = sizes.windows(2).enumerate().map(|(number, pair)| {
            let (rows, columns) = (pair[0], pair[1]);
            let spread = (6.0 / rows as f64).sqrt();
            let unit = |index: usize| {
                let place = ((number as u64) << 32 | index as u64).wrapping_add(1);
                (hash(place.wrapping_mul(0x9E37_79B9_7F4A_7C15)) >> 11) as f64 / 2.0_f64.powi(52) - 1.0
            };
            let rounded = |value: f64| f64::from(value as f32);
            let scale = |index: usize| if number == 0 { SCALE[index / columns] } else { 1.0 };
            Layer {
                weights: (0..rows * columns).map(|index| rounded(unit(index) * spread / scale(index))).collect(),
                biases: (0..columns).map(|index| rounded(unit(rows * columns + index) * 0.25)).collect(),
            }
        });
        Self(layers.collect())
    }

    fn score(&self, features: [f32; FEATURES]) -> f32 {
        let mut flow: Vec<f64> = features.map(f64::from).to_vec();
        for (number, layer) in self.0.iter().enumerate() {
            let mut sums = layer.biases.clone();
            for (value, weights) in flow.iter().zip(layer.weights.chunks(sums.len())) {
                for (sum, weight) in sums.iter_mut().zip(weights) {
                    *sum += value * weight;
                }
            }
            if number + 1 < self.0.len() {
                for sum in &mut sums {
                    *sum = sum.max(0.0);
                }
            }
            flow = sums;
        }
        (1.0 / (1.0 + (-flow[0]).exp())) as f32
    }
}

/// The network that decides.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "UPPER")]
pub(crate) enum Model {
    /// 16 → 10 → 1.
    A,
    /// 16 → 256 → 128 → 1.
    B,
}

/// The score of each of the first `count` events.
pub(crate) fn scores(generator: &Generator, count: u64, model: Model) -> Vec<f32> {
    let network = Network::new(model);
    let mut users = vec![VecDeque::new(); generator.users()];
    // Older than the longest window plus one of its tiles and the latest event, so no window can reach it.
    let reach = WINDOWS[2].0 + WINDOWS[2].1 + 2 * LATE_MS_MAX;
    (0..count)
        .map(|number| {
            let event = generator.event(number);
            let events = &mut users[event.user as usize];
            // Keeps the second newest, the last event before this one, however old it is.
            while events.len() > 1 && events.front().is_some_and(|old: &Event| old.ts < event.ts - reach) {
                events.pop_front();
            }
            events.push_back(event);
            network.score(features(events))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scores_are_spread_and_follow_from_the_seed() {
        let of = |seed| scores(&Generator::new(seed, 100, 200), 5_000, Model::A);
        let (first, again, other) = (of(42), of(42), of(43));
        assert_eq!(first, again);
        assert_ne!(first, other);
        let hot = first.iter().filter(|score| **score >= 0.5).count();
        assert!((500..4_500).contains(&hot), "{hot} of 5000 are hot");
    }

    #[test]
    fn a_window_ends_with_its_tile() {
        let event = |ts| Event { ts, kind: 0, ..Generator::new(1, 1, 1).event(0) };
        let at = |past: &[i64]| features(&past.iter().map(|ts| event(*ts)).collect());
        let now = 1_767_225_900_000;
        assert_eq!(at(&[now])[..3], [1.0, 1.0, 1.0]);
        // Thirty tiles of 10 s: an event 290 s ago counts, one 300 s ago does not.
        assert_eq!(at(&[now - 290_000, now])[..3], [2.0, 2.0, 2.0]);
        assert_eq!(at(&[now - 290_001, now])[..3], [1.0, 2.0, 2.0]);
        // A late event does not see the tiles after its own.
        assert_eq!(at(&[now + 10_000, now])[..3], [1.0, 2.0, 2.0]);
        assert_eq!(at(&[now + 10_000, now])[14], 0.0);
        assert!((at(&[now - 999, now])[14] - 1_000.0_f32.ln()).abs() < 1e-5);
    }
}
