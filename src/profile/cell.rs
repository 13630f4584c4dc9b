//! The cells of a profile: the initial state of each kind, how it applies an event, and how it merges over tiles.
//!
//! Guarantees: merging tiles newest first gives the same result, up to rounding, as one cell that saw all their events.
//! Limits: each cell has a fixed number of words, so anything that grows is bounded: [`NEWEST_MAX`] newest values,
//! [`TOP_CAPACITY_MAX`] most common values, and [`EXACT_MAX`] distinct values before they are estimated.

use super::{
    consent::KeptConsent,
    distinct::{self, insert},
    membership::{Membership, MembershipName},
    said::Said,
    top::{self, count},
};
use crate::random::mix;

/// The "no event" time in cells that keep the newest.
pub(super) const NEVER: i64 = i64::MIN;

/// The "no event" time in cells that keep the oldest.
const NOT_YET: i64 = i64::MAX;

/// The most newest values that a cell can hold.
pub(super) const NEWEST_MAX: usize = 16;

/// The most values that a cell counts to find the most common.
pub(super) const TOP_CAPACITY_MAX: usize = 64;

/// The most distinct values that a cell stores exactly before it estimates their number.
pub(super) const EXACT_MAX: usize = 128;

/// The word of a missing string.
pub(super) const NO_TEXT: u64 = 0;

/// What a cell stores about the events it has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum CellKind {
    /// A float: the number of events.
    Count,
    /// A float: the number of events that have the value.
    ValueCount,
    /// A float: the sum of the value.
    Sum,
    /// A float: the smallest value, NaN before the first.
    Min,
    /// A float: the largest value, NaN before the first.
    Max,
    /// The time of the newest event.
    NewestTime,
    /// The time of the oldest event.
    OldestTime,
    /// The time and value of the newest event with a value; on equal times, of the one that arrived last.
    Last {
        /// Whether the value is the hash of a string.
        text: bool,
    },
    /// The time and value of the oldest event with a value; on equal times, of the one that arrived first.
    First {
        /// Whether the value is the hash of a string.
        text: bool,
    },
    /// Three floats: the number of values, their mean, and the sum of squared differences from it.
    Moments,
    /// Times and values, newest first.
    Newest(u8),
    /// A set of values: see [`distinct`].
    Distinct {
        /// How many values are stored exactly: a power of two.
        exact: u8,
        /// Whether the value is the hash of a string.
        text: bool,
    },
    /// Counts of the most common values: see [`top`].
    Top {
        /// How many values are counted.
        capacity: u8,
        /// Whether the value is the hash of a string.
        text: bool,
    },
    /// The time of the newest event, and a float: the decayed sum of the value, or of 1 for each event, at that time.
    Decayed {
        /// The half-life, in microseconds.
        half_life: i64,
        /// Whether it sums values rather than counting events.
        sum: bool,
    },
    /// The current session: the times of its oldest and newest event and its number of events; then the number of
    /// sessions.
    Session {
        /// The idle time that ends a session, in microseconds.
        gap: i64,
    },
    /// A membership in a segment, see [`Membership`]. Segments change it, not events.
    Membership(MembershipName),
    /// What is kept of the user's consent, see [`KeptConsent`]. The consent gate changes it.
    Consent,
    /// What readers were last told, see [`Said`]. Decisions change it, not events.
    Said {
        /// How many prices it keeps.
        prices: u8,
    },
}

/// One cell: what it stores, for which events, and for which value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub(super) kind: CellKind,
    /// The index of the condition that events must meet; `None` counts all events.
    pub(super) condition: Option<usize>,
    /// The index of the value.
    pub(super) value: Option<usize>,
}

pub(super) fn float(word: u64) -> f64 {
    f64::from_bits(word)
}

/// A number, unless it is missing.
fn number(value: Option<u64>) -> Option<f64> {
    value.map(float).filter(|value| !value.is_nan())
}

/// The word of a value, unless it is missing.
fn present(value: Option<u64>, text: bool) -> Option<u64> {
    value.filter(|word| if text { *word != NO_TEXT } else { !float(*word).is_nan() })
}

/// The word of an integer that is only compared. Up to 2^53 it is the bits of the float. Beyond that, where
/// neighbouring integers map to one float, it is a hash with the bit cleared that would make it a NaN or an infinity.
pub(super) fn id_word(id: i64) -> u64 {
    if id.unsigned_abs() <= 1 << 53 { (id as f64).to_bits() } else { mix(id as u64) & !(1 << 62) }
}

/// Spreads the bits of a value evenly, as a sketch needs. -0.0 and 0.0 are the same value.
fn hashed(word: u64, text: bool) -> u64 {
    mix(if text { word } else { (float(word) + 0.0).to_bits() })
}

/// The fraction of a value that remains after some time.
pub(super) fn decay(micros: i64, half_life: i64) -> f64 {
    (-(micros as f64) / half_life as f64).exp2()
}

/// The largest integer up to which a float counts exactly, 2^53.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether a word is a count that a float holds exactly.
pub(super) fn is_count(word: u64) -> bool {
    let count = float(word);
    (0.0..=COUNT_MAX).contains(&count) && count.fract() == 0.0
}

impl CellKind {
    /// The text for this kind in the name of a cell. Names are part of a layout's id, which identifies the profiles in
    /// a changelog. So these texts must never change, even if the variants are renamed.
    pub(super) fn declared(self) -> String {
        match self {
            Self::Count => "Count".to_owned(),
            Self::ValueCount => "ValueCount".to_owned(),
            Self::Sum => "Sum".to_owned(),
            Self::Min => "Min".to_owned(),
            Self::Max => "Max".to_owned(),
            Self::NewestTime => "NewestTime".to_owned(),
            Self::OldestTime => "OldestTime".to_owned(),
            Self::Last { text } => format!("Last {{ text: {text} }}"),
            Self::First { text } => format!("First {{ text: {text} }}"),
            Self::Moments => "Moments".to_owned(),
            Self::Newest(count) => format!("Newest({count})"),
            Self::Distinct { exact, text } => format!("Distinct {{ exact: {exact}, text: {text} }}"),
            Self::Top { capacity, text } => format!("Top {{ capacity: {capacity}, text: {text} }}"),
            Self::Decayed { half_life, sum } => format!("Decayed {{ half_life: {half_life}, sum: {sum} }}"),
            Self::Session { gap } => format!("Session {{ gap: {gap} }}"),
            Self::Membership(name) => format!("Membership {{ of: {} }}", name.text()),
            Self::Consent => "Consent".to_owned(),
            Self::Said { prices } => format!("Said {{ prices: {prices} }}"),
        }
    }

    /// Whether untrusted words are a valid cell of this kind in a profile whose newest event has this time, so that all
    /// functions here can rely on them. `words` start with the cell's own.
    pub(super) fn fits(self, words: &[u64], newest: i64) -> bool {
        let is_past = |word: u64| (0..=newest).contains(&(word as i64));
        let is_past_or = |never: i64, word: u64| word as i64 == never || is_past(word);
        match self {
            Self::Count | Self::ValueCount => is_count(words[0]),
            Self::Sum => float(words[0]).is_finite(),
            Self::Min | Self::Max => true,
            Self::NewestTime | Self::Last { .. } => is_past_or(NEVER, words[0]),
            Self::OldestTime | Self::First { .. } => is_past_or(NOT_YET, words[0]),
            Self::Moments => is_count(words[0]) && float(words[1]).is_finite() && float(words[2]) >= 0.0,
            Self::Newest(count) => {
                let times = || words.iter().step_by(2).take(count.into()).map(|time| *time as i64);
                times().all(|time| is_past_or(NEVER, time as u64)) && times().is_sorted_by(|a, b| a >= b)
            }
            Self::Distinct { exact, .. } => distinct::fits(&words[..=usize::from(exact)]),
            Self::Top { capacity, .. } => top::fits(&words[..=2 * usize::from(capacity)]),
            Self::Decayed { .. } => is_past_or(NEVER, words[0]),
            Self::Session { .. } => {
                let [oldest, newest] = [words[0] as i64, words[1] as i64];
                let is_none = oldest == NOT_YET && newest == NEVER;
                is_count(words[2])
                    && is_count(words[3])
                    && (is_none || is_past(words[0]) && is_past(words[1]) && oldest <= newest)
            }
            Self::Membership(_) => Membership::fits(words, newest),
            Self::Consent => KeptConsent::fits(&words[..KeptConsent::WORDS]),
            Self::Said { prices } => Said::fits(&words[..Said::WORDS + usize::from(prices)], newest),
        }
    }

    /// Whether merging is plain addition.
    pub(super) fn adds(self) -> bool {
        matches!(self, Self::Count | Self::ValueCount | Self::Sum)
    }

    /// Whether events change it: the others are changed by what is decided about them.
    pub(super) fn follows_events(self) -> bool {
        !matches!(self, Self::Membership(_) | Self::Said { .. } | Self::Consent)
    }

    /// Whether it is a count, so that addition needs no overflow check.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Count | Self::ValueCount)
    }

    /// Whether this count includes an event with this value.
    pub(super) fn counts_this(self, value: Option<u64>) -> bool {
        self == Self::Count || number(value).is_some()
    }

    /// Appends the words of an empty cell.
    pub(super) fn empty(self, to: &mut Vec<u64>) {
        let nan = f64::NAN.to_bits();
        let zero = 0.0_f64.to_bits();
        match self {
            Self::Count | Self::ValueCount | Self::Sum => to.push(zero),
            Self::Min | Self::Max => to.push(nan),
            Self::NewestTime => to.push(NEVER as u64),
            Self::OldestTime => to.push(NOT_YET as u64),
            Self::Last { text } => to.extend([NEVER as u64, if text { NO_TEXT } else { nan }]),
            Self::First { text } => to.extend([NOT_YET as u64, if text { NO_TEXT } else { nan }]),
            Self::Moments => to.extend([zero; 3]),
            Self::Newest(count) => (0..count).for_each(|_| to.extend([NEVER as u64, nan])),
            Self::Distinct { exact, .. } => to.extend(std::iter::repeat_n(0, 1 + usize::from(exact))),
            Self::Top { capacity, .. } => to.extend(std::iter::repeat_n(0, 1 + 2 * usize::from(capacity))),
            Self::Decayed { .. } => to.extend([NEVER as u64, zero]),
            Self::Session { .. } => to.extend([NOT_YET as u64, NEVER as u64, zero, zero]),
            Self::Membership(_) => to.extend([0; Membership::WORDS]),
            Self::Consent => to.extend([0; KeptConsent::WORDS]),
            Self::Said { prices } => to.extend(std::iter::repeat_n(0, Said::WORDS + usize::from(prices))),
        }
    }

    /// Applies an event. `words` start with the cell's own.
    pub(super) fn apply(self, words: &mut [u64], value: Option<u64>, time: i64) {
        let old = float(words[0]);
        match self {
            Self::Count | Self::ValueCount => {
                if self.counts_this(value) {
                    words[0] = (old + 1.0).to_bits();
                }
            }
            Self::NewestTime => words[0] = (words[0] as i64).max(time) as u64,
            Self::OldestTime => words[0] = (words[0] as i64).min(time) as u64,
            Self::Sum => {
                if let Some(value) = number(value) {
                    // A sum saturates at the largest float, because ±inf is not a value.
                    words[0] = (old + value).clamp(f64::MIN, f64::MAX).to_bits();
                }
            }
            Self::Min => {
                if let Some(value) = number(value) {
                    words[0] = old.min(value).to_bits();
                }
            }
            Self::Max => {
                if let Some(value) = number(value) {
                    words[0] = old.max(value).to_bits();
                }
            }
            Self::Last { text } => {
                if let Some(value) = present(value, text)
                    && time >= words[0] as i64
                {
                    (words[0], words[1]) = (time as u64, value);
                }
            }
            Self::First { text } => {
                if let Some(value) = present(value, text)
                    && time < words[0] as i64
                {
                    (words[0], words[1]) = (time as u64, value);
                }
            }
            Self::Moments => {
                if let Some(value) = number(value) {
                    merge_moments(words, [1.0, value, 0.0]);
                }
            }
            Self::Newest(count) => {
                if let Some(value) = present(value, false) {
                    let pairs = 2 * usize::from(count);
                    let at = (0..pairs).step_by(2).find(|at| time >= words[*at] as i64);
                    if let Some(at) = at {
                        words.copy_within(at..pairs - 2, at + 2);
                        (words[at], words[at + 1]) = (time as u64, value);
                    }
                }
            }
            Self::Distinct { exact, text } => {
                if let Some(value) = present(value, text) {
                    insert(&mut words[..=usize::from(exact)], hashed(value, text));
                }
            }
            Self::Top { capacity, text } => {
                if let Some(value) = present(value, text) {
                    count(&mut words[..=2 * usize::from(capacity)], hashed(value, text));
                }
            }
            Self::Decayed { half_life, sum } => {
                let value = if sum { number(value) } else { Some(1.0) };
                if let Some(value) = value {
                    let (newest, old) = (words[0] as i64, float(words[1]));
                    let new = match newest {
                        NEVER => value,
                        _ if time >= newest => old * decay(time - newest, half_life) + value,
                        _ => old + value * decay(newest - time, half_life),
                    };
                    (words[0], words[1]) = (newest.max(time) as u64, new.clamp(f64::MIN, f64::MAX).to_bits());
                }
            }
            Self::Session { gap } => {
                let (oldest, newest) = (words[0] as i64, words[1] as i64);
                let is_new = newest == NEVER || time > newest.saturating_add(gap);
                if is_new {
                    let sessions = float(words[3]) + 1.0;
                    words[..4].copy_from_slice(&[time as u64, time as u64, 1.0_f64.to_bits(), sessions.to_bits()]);
                } else if time >= oldest.saturating_sub(gap) {
                    words[0] = oldest.min(time) as u64;
                    words[1] = newest.max(time) as u64;
                    words[2] = (float(words[2]) + 1.0).to_bits();
                }
            }
            Self::Membership(_) | Self::Said { .. } | Self::Consent => {}
        }
    }

    /// Merges the cell of an earlier tile.
    pub(super) fn merge(self, into: &mut [u64], tile: &[u64]) {
        match self {
            Self::Count | Self::ValueCount | Self::Sum => unreachable!("cells that add are added as one slice"),
            Self::Min => into[0] = float(into[0]).min(float(tile[0])).to_bits(),
            Self::Max => into[0] = float(into[0]).max(float(tile[0])).to_bits(),
            Self::NewestTime => into[0] = (into[0] as i64).max(tile[0] as i64) as u64,
            Self::OldestTime => into[0] = (into[0] as i64).min(tile[0] as i64) as u64,
            Self::Last { .. } => {
                if into[0] as i64 == NEVER {
                    into[..2].copy_from_slice(&tile[..2]);
                }
            }
            Self::First { .. } => {
                if tile[0] as i64 != NOT_YET {
                    into[..2].copy_from_slice(&tile[..2]);
                }
            }
            Self::Moments => merge_moments(into, [float(tile[0]), float(tile[1]), float(tile[2])]),
            Self::Newest(count) => {
                let pairs = 2 * usize::from(count);
                let held = (0..pairs).step_by(2).take_while(|at| into[*at] as i64 != NEVER).count() * 2;
                into[held..pairs].copy_from_slice(&tile[..pairs - held]);
            }
            Self::Distinct { exact, .. } => {
                let length = 1 + usize::from(exact);
                distinct::merge(&mut into[..length], &tile[..length]);
            }
            Self::Top { capacity, .. } => {
                let length = 1 + 2 * usize::from(capacity);
                top::merge(&mut into[..length], &tile[..length]);
            }
            Self::Decayed { .. } | Self::Session { .. } | Self::Membership(_) | Self::Said { .. } | Self::Consent => {
                unreachable!("only kept over all events")
            }
        }
    }
}

/// Merges moments (Chan, Golub and LeVeque, 1979).
fn merge_moments(into: &mut [u64], [count, mean, squares]: [f64; 3]) {
    if count == 0.0 {
        return;
    }
    let [old_count, old_mean, old_squares] = [0, 1, 2].map(|index| float(into[index]));
    let sum = old_count + count;
    let (old_share, share) = (old_count / sum, count / sum);
    // Weighted means, so that the difference of two large values cannot overflow.
    let new_mean = old_mean * old_share + mean * share;
    let difference = mean - old_mean;
    let between = difference * old_count.sqrt() * share.sqrt();
    let new_squares = (old_squares + squares + between * between).min(f64::MAX);
    into[0] = sum.to_bits();
    into[1] = new_mean.clamp(f64::MIN, f64::MAX).to_bits();
    into[2] = new_squares.to_bits();
}

/// The variance: the mean squared difference from the mean; NaN without values.
pub(super) fn variance(words: &[u64]) -> f64 {
    if float(words[0]) > 0.0 { float(words[2]) / float(words[0]) } else { f64::NAN }
}

#[cfg(test)]
mod tests;
