//! Counts of values between fixed bounds: a histogram that costs nothing but its buckets, however many values it takes.
//!
//! The recorder keeps every value until the next scrape, which is right for a value a commit and wrong for one an event.

/// How many values fell below each bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    bounds: &'static [f64],
    /// By bucket: at most its bound and above the one before; the last takes the rest.
    counts: Vec<u64>,
    sum: f64,
}

impl Distribution {
    /// An empty one over these bounds, which ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Takes a value. One that is no number is passed by.
    pub fn record(&mut self, value: f64) {
        self.record_many(value, 1);
    }

    /// Takes the same value so many times.
    pub fn record_many(&mut self, value: f64, times: u64) {
        if value.is_nan() {
            return;
        }
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += times;
        self.sum += value * times as f64;
    }

    /// Adds another one over the same bounds.
    pub fn add(&mut self, other: &Self) {
        debug_assert_eq!(self.bounds, other.bounds);
        self.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        self.sum += other.sum;
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.sum = 0.0;
    }

    /// The buckets' upper bounds.
    pub fn bounds(&self) -> &'static [f64] {
        self.bounds
    }

    /// The buckets' counts; one more than there are bounds.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum.
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
        it.clear();
        assert_eq!((it.count(), it.sum()), (0, 0.0));
    }
}
