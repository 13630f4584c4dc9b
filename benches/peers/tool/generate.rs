//! The events of the workload. Event `number` depends only on the seed and its number, so any range can be generated
//! anywhere: by the loader, by the latency probe and by the checker.

use std::io::Write;

/// The event time of the first event, 2026-01-01T00:00:00Z in milliseconds.
pub(crate) const START_MS: i64 = 1_767_225_600_000;
/// The names of the types, by index.
pub(crate) const TYPES: [&str; 4] = ["view", "click", "cart", "purchase"];
/// The most that an event is moved back in time.
pub(crate) const LATE_MS_MAX: i64 = 60_000;

/// One event of the stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) user: u32,
    /// An index into [`TYPES`].
    pub(crate) kind: usize,
    pub(crate) ts: i64,
    /// The value in quarters, so that sums are exact.
    pub(crate) quarters: u32,
    pub(crate) dwell_ms: u32,
    pub(crate) item: u32,
    pub(crate) salt: u64,
}

impl Event {
    pub(crate) fn key(&self) -> String {
        format!("u{:07}", self.user)
    }

    /// The id; its last twelve digits are the number.
    pub(crate) fn id(&self) -> String {
        let Self { salt, number, .. } = self;
        let (a, b, c) = (salt >> 32, salt >> 16 & 0xffff, salt & 0xfff);
        format!("{a:08x}-{b:04x}-4{c:03x}-8001-{number:012x}")
    }

    /// Overwrites `to` with the event as JSON.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        to.clear();
        write!(
            to,
            r#"{{"event_id":"{}","user_id":"{}","type":"{}","item_id":"sku-{:016}","category":"c{}","ts":{},"value":{},"dwell_ms":{}}}"#,
            self.id(),
            self.key(),
            TYPES[self.kind],
            self.item,
            self.item % 40,
            self.ts,
            f64::from(self.quarters) / 4.0,
            self.dwell_ms
        )
        .expect("a vector takes everything");
    }
}

/// Extracts the number from an event's id.
pub(crate) fn number_of(id: &str) -> Option<u64> {
    u64::from_str_radix(id.get(24..36)?, 16).ok()
}

/// Generates the events.
pub(crate) struct Generator {
    seed: u64,
    step_ms: u64,
    /// The cumulative weights of the users by rank.
    sums: Vec<f64>,
}

impl Generator {
    /// Users by a Zipf law of 1.05 with its head flattened by ten ranks; one event every `step_ms` of event time.
    pub(crate) fn new(seed: u64, users: usize, step_ms: u64) -> Self {
        let weight = |rank: usize| (rank as f64 + 10.0).powf(-1.05);
        let sums = (1..=users)
            .scan(0.0, |sum, rank| {
                *sum += weight(rank);
                Some(*sum)
            })
            .collect();
        Self { seed, step_ms: step_ms.max(1), sums }
    }

    pub(crate) fn users(&self) -> usize {
        self.sums.len()
    }

    pub(crate) fn event(&self, number: u64) -> Event {
        let mut draws = Draws(hash(self.seed).wrapping_add(hash(number)));
        let total = self.sums.last().copied().unwrap_or_default();
        let at = draws.next() as f64 / 2.0_f64.powi(64) * total;
        let rank = self.sums.partition_point(|sum| *sum <= at).min(self.sums.len() - 1);
        // Scatters neighbouring ranks over the user numbers. 7919 is a prime, so no two ranks map to one user.
        let user = (rank as u64 * 7_919 % self.sums.len() as u64) as u32;
        let kind = match draws.below(100) {
            0..80 => 0,
            80..92 => 1,
            92..98 => 2,
            _ => 3,
        };
        let mut ts = START_MS + (number * self.step_ms + draws.below(self.step_ms)) as i64;
        if draws.below(50) == 0 {
            ts -= 1 + draws.below(LATE_MS_MAX as u64) as i64;
        }
        let quarters = 1 + draws.below(800) as u32;
        let dwell_ms = 50 + draws.below([30_000, 5_000, 10_000, 20_000][kind]) as u32;
        let item = draws.below(50_000) as u32;
        Event { number, user, kind, ts, quarters, dwell_ms, item, salt: draws.next() }
    }
}

/// SplitMix64: the random numbers of one event.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        hash(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

/// The output function of SplitMix64.
pub(crate) fn hash(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ x >> 31
}
