//! A synthetic clickstream for load tests: the same seed gives the same events.
//!
//! Users follow a Zipf distribution with a flattened head, like visitors of a shop. Event times advance at a steady rate, and a few
//! events are late. The behaviour is random: there is nothing to learn from it.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::Serialize;

/// The weight of rank r is 1 / (r + HEAD)^EXPONENT.
const HEAD: f64 = 10.0;
const EXPONENT: f64 = 1.05;

/// Event types with their shares in thousandths.
const TYPES: [(&str, u32); 4] = [("page_view", 800), ("click", 120), ("add_to_cart", 60), ("purchase", 20)];

/// A synthetic event, in the canonical JSON format.
#[derive(Clone, Debug, Serialize)]
pub(super) struct SyntheticEvent {
    event_id: String,
    event_type: &'static str,
    /// In milliseconds.
    occurred_at: i64,
    pub(super) user_id: String,
    items: [Item; 1],
    value: f64,
    currency: &'static str,
    dwell_ms: u32,
}

#[derive(Clone, Debug, Serialize)]
struct Item {
    id: String,
    category: String,
}

/// The event stream.
pub(super) struct Synthetic {
    random: SmallRng,
    /// Cumulative weights of the users' ranks.
    ranks: Vec<f64>,
    number: u64,
    start_ms: i64,
    step_ms: f64,
}

impl Synthetic {
    /// A stream of `users` users that starts at `start_ms`, with one event per `step_ms` of event time.
    pub(super) fn new(seed: u64, users: usize, start_ms: i64, step_ms: f64) -> Self {
        let mut sum = 0.0;
        let ranks = (0..users.max(1)).map(|rank| {
            sum += (rank as f64 + HEAD).powf(-EXPONENT);
            sum
        });
        Self { ranks: ranks.collect(), random: SmallRng::seed_from_u64(seed), number: 0, start_ms, step_ms }
    }
}

impl Iterator for Synthetic {
    type Item = SyntheticEvent;

    fn next(&mut self) -> Option<SyntheticEvent> {
        let random = &mut self.random;
        let total = self.ranks.last().copied().unwrap_or_default();
        let draw = random.random_range(0.0..total);
        let user = self.ranks.partition_point(|sum| *sum <= draw);
        let mut share: u32 = random.random_range(0..1_000);
        let (event_type, _) = *TYPES
            .iter()
            .find(|(_, of)| share.checked_sub(*of).map(|rest| share = rest).is_none())
            .expect("the shares add up to a thousand");
        let mut at = self.start_ms.saturating_add((self.number as f64 * self.step_ms) as i64);
        if random.random_range(0..50) == 0 {
            at = at.saturating_sub(random.random_range(1..60_000));
        }
        let item = random.random_range(0..5_000);
        let event = SyntheticEvent {
            event_id: format!("synthetic-{:012}", self.number),
            event_type,
            occurred_at: at,
            user_id: format!("u{user:07}"),
            items: [Item { id: format!("sku-{item:06}"), category: format!("c{:02}", item % 32) }],
            value: f64::from(random.random_range(1..800)) / 4.0,
            currency: "USD",
            dwell_ms: random.random_range(200..60_000),
        };
        self.number += 1;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_stream_and_every_type_comes() {
        let lines = |seed| -> Vec<String> {
            let events = Synthetic::new(seed, 1_000, 0, 10.0).take(2_000);
            events.map(|event| serde_json::to_string(&event).expect("an event is JSON")).collect()
        };
        assert_eq!(lines(1), lines(1));
        assert_ne!(lines(1), lines(2));
        for (name, _) in TYPES {
            assert!(lines(1).iter().any(|line| line.contains(name)), "{name}");
        }
    }
}
