//! Sums by time, in buckets that get wider as the log gets longer.
//!
//! Guarantees: the buckets begin at whole multiples of their width since 1970 in UTC, and a wider bucket is the sum of
//! those that it replaces. Limits: [`BUCKETS_MAX`] while collecting.

use std::collections::BTreeMap;

/// An hour in microseconds.
const HOUR: i64 = 3_600_000_000;
/// The widths in hours. Each divides the next, so that buckets can be joined; beyond, the last doubles.
const WIDTHS: [i64; 6] = [1, 3, 6, 12, 24, 168];
/// The most buckets while collecting: at an hour each, three weeks.
const BUCKETS_MAX: usize = 512;

/// No bucket is wider than 14 doublings of a week, three centuries: all times together are then 1,862 buckets.
const DOUBLINGS_MAX: u32 = 14;
const STEPS_MAX: u32 = WIDTHS.len() as u32 - 1 + DOUBLINGS_MAX;

/// Something that adds up.
pub(super) trait Sum: Default {
    fn add(&mut self, other: &Self);
}

/// Sums by time.
#[derive(Clone, Debug)]
pub(super) struct Buckets<T> {
    step: u32,
    all: BTreeMap<i64, T>,
}

impl<T> Default for Buckets<T> {
    fn default() -> Self {
        Self { step: 0, all: BTreeMap::new() }
    }
}

/// The width of a step in microseconds.
fn width(step: u32) -> i64 {
    let last = WIDTHS.len() as u32 - 1;
    let hours = WIDTHS[step.min(last) as usize];
    (hours << step.saturating_sub(last).min(DOUBLINGS_MAX)).saturating_mul(HOUR)
}

impl<T: Sum> Buckets<T> {
    /// The sum of a time.
    pub(super) fn at(&mut self, time: i64) -> &mut T {
        let is_new = |all: &BTreeMap<i64, T>, step| !all.contains_key(&time.div_euclid(width(step)));
        while self.all.len() >= BUCKETS_MAX && self.step < STEPS_MAX && is_new(&self.all, self.step) {
            self.widen();
        }
        self.all.entry(time.div_euclid(width(self.step))).or_default()
    }

    fn widen(&mut self) {
        let before = width(self.step);
        self.step += 1;
        let times = (width(self.step) / before).max(1);
        for (number, sum) in std::mem::take(&mut self.all) {
            self.all.entry(number.div_euclid(times)).or_default().add(&sum);
        }
    }

    /// The same in at most so many buckets.
    pub(super) fn at_most(&self, count: usize) -> Self
    where
        T: Clone,
    {
        let mut fewer = self.clone();
        while fewer.span() > count as i64 && fewer.step < STEPS_MAX {
            fewer.widen();
        }
        fewer
    }

    /// How many buckets there are from the first to the last, empty ones included.
    fn span(&self) -> i64 {
        let ends = self.all.first_key_value().zip(self.all.last_key_value());
        ends.map_or(0, |((first, _), (last, _))| last.saturating_sub(*first).saturating_add(1))
    }

    /// The width in microseconds.
    pub(super) fn width(&self) -> i64 {
        width(self.step)
    }

    /// The sums with the beginnings of their buckets, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, &T)> {
        self.all.iter().map(|(number, sum)| (number.saturating_mul(width(self.step)), sum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Sum for u64 {
        fn add(&mut self, other: &Self) {
            *self += other;
        }
    }

    #[test]
    fn wider_buckets_are_the_sums_of_narrower_ones() {
        let mut buckets = Buckets::<u64>::default();
        // An event every ten minutes of 40 days.
        let start = 1_767_225_600_000_000;
        for number in 0..40 * 144 {
            *buckets.at(start + number * HOUR / 6) += 1;
        }
        assert_eq!((buckets.width(), buckets.all.len()), (3 * HOUR, 320));
        let days = buckets.at_most(62);
        assert_eq!((days.width(), days.all.len()), (24 * HOUR, 40));
        assert!(days.iter().all(|(begin, count)| begin % (24 * HOUR) == 0 && *count == 144));
        assert_eq!(days.iter().next().map(|(begin, _)| begin), Some(start));
        // Odd times cost no more: here all that there are, in 4,000 steps.
        let step = i64::MAX / 2_000;
        for number in -2_000..2_000_i64 {
            *buckets.at(number * step) += 1;
        }
        assert!(buckets.all.len() <= 1_862 + 1);
        assert_eq!(buckets.at_most(10).iter().map(|(_, count)| count).sum::<u64>(), 40 * 144 + 4_000);
    }
}
