//! Counts of values between fixed bounds: a histogram whose memory depends only on its buckets.

/// Upper bounds of a decision's latency in seconds: from a commit interval of 5 ms up to a day of backlog.
pub const LATENCY_BOUNDS: [f64; 20] = [
    0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1_800.0,
    14_400.0, 86_400.0,
];

/// Upper bounds of the time of an answer in seconds: from a lookup in memory up to a slow client.
pub const ANSWER_BOUNDS: [f64; 14] =
    [0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 10.0];

/// Upper bounds of the bins of scores.
pub const SCORE_BOUNDS: [f64; 20] =
    [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0];

/// How many values fell into each bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    bounds: &'static [f64],
    /// By bucket: values up to and including its bound, and above the previous one. The last bucket has no bound.
    counts: Vec<u64>,
    sum: f64,
}

impl Distribution {
    /// An empty distribution over these ascending bounds.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts a value; ignores NaN.
    pub fn record(&mut self, value: f64) {
        self.record_many(value, 1);
    }

    /// Counts the same value several times.
    pub fn record_many(&mut self, value: f64, times: u64) {
        if value.is_nan() {
            return;
        }
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += times;
        self.sum += value * times as f64;
    }

    /// Adds a distribution over the same bounds.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }

    /// The buckets' upper bounds.
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// The buckets' counts; one more than there are bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The sum of the values.
    pub fn sum(&self) -> f64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_bucket_whose_bound_it_does_not_pass() {
        let mut it = Distribution::new(&[1.0, 2.0]);
        for value in [0.5, 1.0, 1.5, 9.0, f64::NAN, -3.0] {
            it.record(value);
        }
        assert_eq!((it.counts(), it.count(), it.sum()), (&[3, 1, 1][..], 5, 9.0));
        let twice = it.clone();
        it.add(&twice);
        assert_eq!((it.counts(), it.sum()), (&[6, 2, 2][..], 18.0));
    }
}
