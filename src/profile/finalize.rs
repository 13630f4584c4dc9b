//! How the value of a feature is computed from the words of its cells after an event has been applied.

use super::{
    cell::{NEVER, NO_TEXT, variance},
    distinct::cardinality,
    top::ranked,
};

const SECOND: f64 = 1e6;

/// How a column is computed. The `usize` values are the word offsets of cells.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Finalizer {
    /// The float as stored.
    Float(usize),
    /// A sum divided by a count; NaN if the count is 0.
    Mean { sum: usize, count: usize },
    /// The variance of moments.
    Variance(usize),
    /// The square root of the variance of moments.
    Deviation(usize),
    /// The value of a cell that holds a time and a value.
    Value(usize),
    /// The value at a rank among the newest, from 0.
    Newest { at: usize, rank: usize },
    /// The number of values in a set.
    Distinct { at: usize, exact: usize },
    /// The count of the value at a rank, from 0.
    TopCount { at: usize, capacity: usize, rank: usize },
    /// The share of the value at a rank.
    TopShare { at: usize, capacity: usize, rank: usize },
    /// The mean time between events, in seconds.
    Gap { oldest: usize, newest: usize, count: usize },
    /// Seconds since the oldest time; NaN without one.
    SinceOldest(usize),
    /// The smoothed ratio of two counts.
    Ratio { of: usize, to: usize, alpha: f64, beta: f64 },
    /// Seconds from the oldest to the newest event of the current session.
    SessionLength(usize),
    /// The number of events in the current session.
    SessionEvents(usize),
    /// The number of sessions.
    SessionCount(usize),
    /// 1 if the remembered string has this hash, 0 if it is another; NaN without one.
    Is { at: usize, hash: u64 },
    /// 1 if the remembered string has none of these hashes.
    IsOther { at: usize, hashes: Vec<u64> },
    /// The hash bucket of the remembered string, from 0; NaN without one.
    Bucket { at: usize, buckets: u64 },
}

impl Finalizer {
    /// Replaces the index of each cell by the offset of its words.
    pub(super) fn place(&mut self, place: impl Fn(usize) -> usize) {
        match self {
            Self::Float(at)
            | Self::Variance(at)
            | Self::Deviation(at)
            | Self::Value(at)
            | Self::Newest { at, .. }
            | Self::Distinct { at, .. }
            | Self::TopCount { at, .. }
            | Self::TopShare { at, .. }
            | Self::SinceOldest(at)
            | Self::SessionLength(at)
            | Self::SessionEvents(at)
            | Self::SessionCount(at)
            | Self::Is { at, .. }
            | Self::IsOther { at, .. }
            | Self::Bucket { at, .. } => *at = place(*at),
            Self::Mean { sum: a, count: b } | Self::Ratio { of: a, to: b, .. } => (*a, *b) = (place(*a), place(*b)),
            Self::Gap { oldest, newest, count } => {
                (*oldest, *newest, *count) = (place(*oldest), place(*newest), place(*count));
            }
        }
    }

    /// The value of the column at an event of this time, from words merged over the column's window.
    #[inline]
    pub(super) fn value(&self, words: &[u64], time: i64) -> f64 {
        let float = |at: usize| f64::from_bits(words[at]);
        let moment = |at: usize| words[at] as i64;
        let known = |at: usize, value: f64| if words[at] == NO_TEXT { f64::NAN } else { value };
        match *self {
            Self::Float(at) => float(at),
            Self::Mean { sum, count } if float(count) > 0.0 => float(sum) / float(count),
            Self::Mean { .. } => f64::NAN,
            Self::Variance(at) => variance(&words[at..]),
            Self::Deviation(at) => variance(&words[at..]).sqrt(),
            Self::Value(at) => float(at + 1),
            Self::Newest { at, rank } => float(at + 2 * rank + 1),
            Self::Distinct { at, exact } => cardinality(&words[at..=at + exact]),
            Self::TopCount { at, capacity, rank } => ranked(&words[at..=at + 2 * capacity], rank),
            Self::TopShare { at, capacity, rank } => ranked(&words[at..=at + 2 * capacity], rank) / float(at),
            Self::Gap { oldest, newest, count } if float(count) > 1.0 => {
                (moment(newest) - moment(oldest)) as f64 / SECOND / (float(count) - 1.0)
            }
            Self::Gap { .. } => f64::NAN,
            Self::SinceOldest(at) if moment(at) == i64::MAX => f64::NAN,
            Self::SinceOldest(at) => (time - moment(at)).max(0) as f64 / SECOND,
            Self::Ratio { of, to, alpha, beta } => {
                let ratio = (float(of) + alpha) / (float(to) + beta);
                if ratio.is_finite() { ratio } else { f64::NAN }
            }
            Self::SessionLength(at) if moment(at + 1) == NEVER => f64::NAN,
            Self::SessionLength(at) => (moment(at + 1) - moment(at)) as f64 / SECOND,
            Self::SessionEvents(at) => float(at + 2),
            Self::SessionCount(at) => float(at + 3),
            Self::Is { at, hash } => known(at + 1, f64::from(u8::from(words[at + 1] == hash))),
            Self::IsOther { at, ref hashes } => known(at + 1, f64::from(u8::from(!hashes.contains(&words[at + 1])))),
            Self::Bucket { at, buckets } => known(at + 1, (words[at + 1] % buckets) as f64),
        }
    }
}
