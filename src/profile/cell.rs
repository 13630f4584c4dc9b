//! What is kept of the events of a tile, or of all events: how it begins, takes in an event, and adds up over tiles.
//!
//! Guarantees: merging tiles newest first gives what one cell would hold that had seen all their events, but for rounding.
//! Limits: each cell has a fixed number of words, so what grows is bounded: the [`NEWEST_MAX`] newest values, the
//! [`TOP_CAPACITY_MAX`] commonest categories, and up to [`EXACT_MAX`] values that are told apart, beyond which they are
//! estimated.

/// The time that says "never" where the newest counts.
pub(super) const NEVER: i64 = i64::MIN;

/// The time that says "never" where the oldest counts.
const NOT_YET: i64 = i64::MAX;

/// How many of the newest values are kept at most.
pub(super) const NEWEST_MAX: usize = 16;

/// How many categories are counted at most to find the commonest.
pub(super) const TOP_CAPACITY_MAX: usize = 64;

/// How many values are told apart at most before they are estimated.
pub(super) const EXACT_MAX: usize = 128;

/// The count of a set that is an estimate: its words are registers.
const SKETCH: u64 = u64::MAX;

/// The word of a text that is missing.
pub(super) const NO_TEXT: u64 = 0;

/// What a cell holds of the events that it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Keeps {
    /// A float: how many there were.
    Count,
    /// A float: how many had the value.
    ValueCount,
    /// A float: the sum of the value.
    Sum,
    /// A float: the smallest value, NaN before the first.
    Min,
    /// A float: the largest value, NaN before the first.
    Max,
    /// A time: the newest one.
    NewestTime,
    /// A time: the oldest one.
    OldestTime,
    /// A time and the value at it: the newest one that had the value; of two at one time the later arrival.
    Last {
        /// Whether the value is a text's hash.
        text: bool,
    },
    /// A time and the value at it: the oldest one that had the value; of two at one time the earlier arrival.
    First {
        /// Whether the value is a text's hash.
        text: bool,
    },
    /// Three floats: how many had the value, their mean, and the sum of squared differences from it.
    Moments,
    /// Times and values, newest first.
    Newest(u8),
    /// A set of values: how many, then their hashes in order; or [`SKETCH`], then registers of a byte each.
    Distinct {
        /// How many are told apart: a power of two.
        exact: u8,
        /// Whether the value is a text's hash.
        text: bool,
    },
    /// A float: how many had the value; then hash and count of the commonest, by hash.
    Top {
        /// How many are counted.
        capacity: u8,
        /// Whether the value is a text's hash.
        text: bool,
    },
    /// A time and a float: what the value, or 1 where there is none to be had, has faded to by then.
    Decayed {
        /// The time in which it fades to half, in microseconds.
        half_life: i64,
        /// Whether the value is added up, not the events.
        sum: bool,
    },
    /// The current session: the times of its oldest and its newest event, how many there were; and how many sessions.
    Session {
        /// The idle time that ends a session, in microseconds.
        gap: i64,
    },
}

/// One cell: what it keeps, of which events, of which value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub(super) keeps: Keeps,
    /// The number of the condition that an event has to meet; all events, where absent.
    pub(super) condition: Option<usize>,
    /// The number of the value.
    pub(super) value: Option<usize>,
}

fn float(word: u64) -> f64 {
    f64::from_bits(word)
}

/// A finite number's value, unless it is missing.
fn number(value: Option<u64>) -> Option<f64> {
    value.map(float).filter(|value| !value.is_nan())
}

/// A value's word, unless it is missing.
fn present(value: Option<u64>, text: bool) -> Option<u64> {
    value.filter(|word| if text { *word != NO_TEXT } else { !float(*word).is_nan() })
}

/// Spreads a value's bits evenly, as a sketch needs: the finisher of `splitmix64` (Steele, Lea and Flood, 2014).
pub(super) fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The word of a whole number that is told apart from others. Up to 2^53 it is the float's; beyond, where floats lie apart, a
/// hash of the number without the bit that would make it a NaN or an infinity.
pub(super) fn id_word(id: i64) -> u64 {
    if id.unsigned_abs() <= 1 << 53 { (id as f64).to_bits() } else { mix(id as u64) & !(1 << 62) }
}

/// -0.0 is the same value as 0.0.
fn hashed(word: u64, text: bool) -> u64 {
    mix(if text { word } else { (float(word) + 0.0).to_bits() })
}

/// How much of a value is left after a time.
pub(super) fn faded(micros: i64, half_life: i64) -> f64 {
    (-(micros as f64) / half_life as f64).exp2()
}

/// The largest whole number that a float counts to.
const COUNT_MAX: f64 = 9_007_199_254_740_992.0;

/// Whether a word is a count that a float holds.
fn is_count(word: u64) -> bool {
    let count = float(word);
    (0.0..=COUNT_MAX).contains(&count) && count.fract() == 0.0
}

impl Keeps {
    /// What it keeps as the names of cells have it. A name is part of every layout's id, by which profiles in changelogs are
    /// found again: so each text is fixed here and may never change, whatever the variants are called.
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
        }
    }

    /// Whether words from outside can be those of such a cell in a profile whose newest event is of this time: so that none of
    /// the functions here is led astray by them. `words` begin with the cell's own.
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
            Self::Distinct { exact, .. } => {
                let (count, values) = (words[0], &words[1..=usize::from(exact)]);
                if count == SKETCH {
                    return values.iter().all(|word| word.to_le_bytes().iter().all(|run| *run <= 64));
                }
                let Some(values) = usize::try_from(count).ok().and_then(|count| values.get(..count)) else {
                    return false;
                };
                values.is_sorted_by(|a, b| a < b)
            }
            Self::Top { capacity, .. } => {
                let pairs = words[1..].chunks_exact(2).take(capacity.into());
                let used = pairs.clone().take_while(|pair| pair[1] > 0);
                let hashes = used.clone().map(|pair| pair[0]);
                // No sum of them overflows: they add up to no more than there were values.
                let mut left = float(words[0]);
                is_count(words[0])
                    && hashes.is_sorted_by(|a, b| a < b)
                    && pairs.skip(used.clone().count()).all(|pair| pair == [0, 0])
                    && used.map(|pair| pair[1] as f64).all(|count| {
                        left -= count;
                        left >= 0.0
                    })
            }
            Self::Decayed { .. } => is_past_or(NEVER, words[0]),
            Self::Session { .. } => {
                let [oldest, newest] = [words[0] as i64, words[1] as i64];
                let is_none = oldest == NOT_YET && newest == NEVER;
                is_count(words[2])
                    && is_count(words[3])
                    && (is_none || is_past(words[0]) && is_past(words[1]) && oldest <= newest)
            }
        }
    }

    /// Whether tiles are added up.
    pub(super) fn adds(self) -> bool {
        matches!(self, Self::Count | Self::ValueCount | Self::Sum)
    }

    /// Whether its one word counts, so that tiles are added up without a thought to overflow.
    pub(super) fn counts(self) -> bool {
        matches!(self, Self::Count | Self::ValueCount)
    }

    /// Whether a count counts an event of this value.
    pub(super) fn counts_this(self, value: Option<u64>) -> bool {
        self == Self::Count || number(value).is_some()
    }

    /// Appends the words of a cell that has seen nothing.
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
        }
    }

    /// Takes an event in. `words` begin with the cell's own.
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
                    // A sum beyond the largest float stays there: ±inf is no value.
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
                        _ if time >= newest => old * faded(time - newest, half_life) + value,
                        _ => old + value * faded(newest - time, half_life),
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
        }
    }

    /// Adds the words of an earlier tile.
    pub(super) fn merge(self, into: &mut [u64], tile: &[u64]) {
        match self {
            Self::Count | Self::ValueCount | Self::Sum => unreachable!("adding cells are added as one slice"),
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
                unite(&mut into[..length], &tile[..length]);
            }
            Self::Top { capacity, .. } => {
                let length = 1 + 2 * usize::from(capacity);
                join(&mut into[..length], &tile[..length]);
            }
            Self::Decayed { .. } | Self::Session { .. } => unreachable!("these are kept over all events alone"),
        }
    }
}

/// Adds moments to moments (Chan, Golub and LeVeque, 1979).
fn merge_moments(into: &mut [u64], [count, mean, squares]: [f64; 3]) {
    if count == 0.0 {
        return;
    }
    let [old_count, old_mean, old_squares] = [0, 1, 2].map(|index| float(into[index]));
    let sum = old_count + count;
    let (old_share, share) = (old_count / sum, count / sum);
    // Weighted, so that no difference of two large values overflows.
    let new_mean = old_mean * old_share + mean * share;
    let difference = mean - old_mean;
    let between = difference * old_count.sqrt() * share.sqrt();
    let new_squares = (old_squares + squares + between * between).min(f64::MAX);
    into[0] = sum.to_bits();
    into[1] = new_mean.clamp(f64::MIN, f64::MAX).to_bits();
    into[2] = new_squares.to_bits();
}

/// The variance of all values: the mean squared difference from the mean; NaN without any.
pub(super) fn variance(words: &[u64]) -> f64 {
    if float(words[0]) > 0.0 { float(words[2]) / float(words[0]) } else { f64::NAN }
}

/// Adds a hash to a set, which becomes a sketch where it has no room.
fn insert(set: &mut [u64], hash: u64) {
    if set[0] != SKETCH {
        let count = set[0] as usize;
        let Err(at) = set[1..=count].binary_search(&hash) else { return };
        if count + 1 < set.len() {
            set.copy_within(1 + at..=count, 2 + at);
            set[1 + at] = hash;
            set[0] += 1;
            return;
        }
        sketch(set);
    }
    register(&mut set[1..], hash);
}

/// Turns a set into a sketch of itself.
fn sketch(set: &mut [u64]) {
    let count = set[0] as usize;
    let mut hashes = [0; EXACT_MAX];
    hashes[..count].copy_from_slice(&set[1..=count]);
    set.fill(0);
    set[0] = SKETCH;
    hashes[..count].iter().for_each(|hash| register(&mut set[1..], *hash));
}

/// Notes a hash in the registers of a sketch, eight a word: the longest run of zeros that each has seen (Flajolet, Fusy,
/// Gandouet and Meunier, 2007).
fn register(words: &mut [u64], hash: u64) {
    let registers = words.len() * 8;
    let index = hash as usize & (registers - 1);
    let rest = hash >> registers.trailing_zeros();
    let run = u64::from(rest.leading_zeros() - registers.trailing_zeros() + 1);
    let shift = index % 8 * 8;
    let word = &mut words[index / 8];
    if *word >> shift & 0xff < run {
        *word = *word & !(0xff << shift) | run << shift;
    }
}

/// Adds a set to a set.
fn unite(into: &mut [u64], set: &[u64]) {
    match (into[0], set[0]) {
        (_, 0) => {}
        (_, SKETCH) => {
            if into[0] != SKETCH {
                sketch(into);
            }
            for (a, b) in into[1..].iter_mut().zip(&set[1..]) {
                let bytes = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
                let mut larger = [0; 8];
                larger.iter_mut().zip(bytes).for_each(|(larger, (a, b))| *larger = a.max(b));
                *a = u64::from_le_bytes(larger);
            }
        }
        (_, count) => set[1..=count as usize].iter().for_each(|hash| insert(into, *hash)),
    }
}

/// How many values a set has: as they are, or as a sketch estimates them.
pub(super) fn cardinality(set: &[u64]) -> f64 {
    if set[0] != SKETCH {
        return set[0] as f64;
    }
    let registers = ((set.len() - 1) * 8) as f64;
    let (mut sum, mut zeros) = (0.0, 0.0_f64);
    for register in set[1..].iter().flat_map(|word| word.to_le_bytes()) {
        sum += (-f64::from(register)).exp2();
        zeros += f64::from(u8::from(register == 0));
    }
    let bias = 0.7213 / (1.0 + 1.079 / registers);
    let estimate = bias * registers * registers / sum;
    if estimate <= 2.5 * registers && zeros > 0.0 {
        // Below that the share of untouched registers says more.
        return (registers * (registers / zeros).ln()).round();
    }
    estimate.round()
}

/// Counts a category among the commonest. Where it finds no room, all counts fall by one (Misra and Gries, 1982).
fn count(top: &mut [u64], hash: u64) {
    top[0] = (float(top[0]) + 1.0).to_bits();
    let pairs = top.len() - 1;
    let used = used(top);
    let at = (0..used).map(|index| 1 + 2 * index).find(|at| top[*at] >= hash).unwrap_or(1 + 2 * used);
    if at < 1 + 2 * used && top[at] == hash {
        top[at + 1] += 1;
    } else if 2 * used < pairs {
        top.copy_within(at..=2 * used, at + 2);
        (top[at], top[at + 1]) = (hash, 1);
    } else {
        lower(top, 1);
    }
}

/// How many categories are counted.
fn used(top: &[u64]) -> usize {
    top[1..].chunks_exact(2).take_while(|pair| pair[1] > 0).count()
}

/// Takes from all counts, and drops those that come to nothing.
fn lower(top: &mut [u64], by: u64) {
    let mut to = 1;
    for at in (1..top.len()).step_by(2) {
        if top[at + 1] > by {
            (top[to], top[to + 1]) = (top[at], top[at + 1] - by);
            to += 2;
        }
    }
    top[to..].fill(0);
}

/// Adds the counts of other events (Agarwal and others, 2012: summaries that merge).
fn join(into: &mut [u64], top: &[u64]) {
    into[0] = (float(into[0]) + float(top[0])).to_bits();
    let capacity = (into.len() - 1) / 2;
    let mut all = [(0_u64, 0_u64); 2 * TOP_CAPACITY_MAX];
    let (mut count, mut a, mut b) = (0, 1, 1);
    let (a_end, b_end) = (1 + 2 * used(into), 1 + 2 * used(top));
    while a < a_end || b < b_end {
        let from_a = a < a_end && (b >= b_end || into[a] <= top[b]);
        let from_b = b < b_end && (a >= a_end || top[b] <= into[a]);
        let hash = if from_a { into[a] } else { top[b] };
        let sum = if from_a { into[a + 1] } else { 0 } + if from_b { top[b + 1] } else { 0 };
        all[count] = (hash, sum);
        count += 1;
        a += 2 * usize::from(from_a);
        b += 2 * usize::from(from_b);
    }
    let mut less = 0;
    if count > capacity {
        let mut counts = [0; 2 * TOP_CAPACITY_MAX];
        counts.iter_mut().zip(&all[..count]).for_each(|(to, (_, count))| *to = *count);
        let counts = &mut counts[..count];
        // The largest count that finds no room is taken from all.
        less = *counts.select_nth_unstable_by(capacity, |a, b| b.cmp(a)).1;
    }
    into[1..].fill(0);
    let kept = all[..count].iter().filter(|(_, count)| *count > less);
    for ((hash, count), to) in kept.zip(into[1..].chunks_exact_mut(2)) {
        (to[0], to[1]) = (*hash, count - less);
    }
}

/// The count of the category of a rank, the commonest at 0; 0 where there are fewer.
pub(super) fn ranked(top: &[u64], rank: usize) -> f64 {
    let mut counts = [0; TOP_CAPACITY_MAX];
    let pairs = top[1..].chunks_exact(2);
    let length = pairs.len();
    counts.iter_mut().zip(pairs).for_each(|(to, pair)| *to = pair[1]);
    if rank >= length {
        return 0.0;
    }
    *counts[..length].select_nth_unstable_by(rank, |a, b| b.cmp(a)).1 as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(keeps: Keeps) -> Vec<u64> {
        let mut words = Vec::new();
        keeps.empty(&mut words);
        words
    }

    #[test]
    fn a_sketch_is_as_near_as_it_says_and_merges_to_what_it_would_have_been() {
        for exact in [16, 32, 64, 128] {
            let keeps = Keeps::Distinct { exact, text: true };
            let stated = 1.04 / f64::from(u32::from(exact) * 8).sqrt();
            for size in [exact as usize, 500, 5_000, 100_000] {
                let (mut whole, mut parts) = (empty(keeps), [empty(keeps), empty(keeps), empty(keeps)]);
                for number in 1..=size {
                    keeps.apply(&mut whole, Some(number as u64), 0);
                    keeps.apply(&mut parts[number % 3], Some(number as u64), 0);
                }
                let mut merged = empty(keeps);
                for part in &parts {
                    keeps.merge(&mut merged, part);
                }
                assert_eq!(merged, whole, "{exact} {size}");
                let error = (cardinality(&whole) - size as f64).abs() / size as f64;
                let allowed = if size <= exact.into() { 0.0 } else { 3.0 * stated };
                assert!(error <= allowed, "{exact} {size}: off by {error}, stated {stated}");
            }
        }
    }

    #[test]
    fn the_texts_by_which_cells_are_named_are_those_that_they_have_always_been() {
        // A text that changes would drop what every changelog keeps for such a cell.
        for (keeps, text) in [
            (Keeps::Count, "Count"),
            (Keeps::ValueCount, "ValueCount"),
            (Keeps::Sum, "Sum"),
            (Keeps::Min, "Min"),
            (Keeps::Max, "Max"),
            (Keeps::NewestTime, "NewestTime"),
            (Keeps::OldestTime, "OldestTime"),
            (Keeps::Last { text: true }, "Last { text: true }"),
            (Keeps::First { text: false }, "First { text: false }"),
            (Keeps::Moments, "Moments"),
            (Keeps::Newest(3), "Newest(3)"),
            (Keeps::Distinct { exact: 32, text: true }, "Distinct { exact: 32, text: true }"),
            (Keeps::Top { capacity: 16, text: false }, "Top { capacity: 16, text: false }"),
            (Keeps::Decayed { half_life: 60_000_000, sum: true }, "Decayed { half_life: 60000000, sum: true }"),
            (Keeps::Session { gap: 1_800_000_000 }, "Session { gap: 1800000000 }"),
        ] {
            assert_eq!(keeps.declared(), text);
        }
    }

    #[test]
    fn what_cells_hold_fits_and_what_none_can_hold_does_not() {
        let all = [
            Keeps::Count,
            Keeps::ValueCount,
            Keeps::Sum,
            Keeps::Min,
            Keeps::Max,
            Keeps::NewestTime,
            Keeps::OldestTime,
            Keeps::Last { text: false },
            Keeps::First { text: true },
            Keeps::Moments,
            Keeps::Newest(3),
            Keeps::Distinct { exact: 16, text: false },
            Keeps::Top { capacity: 3, text: false },
            Keeps::Decayed { half_life: 60, sum: true },
            Keeps::Session { gap: 5 },
        ];
        for keeps in all {
            let mut words = empty(keeps);
            assert!(keeps.fits(&words, 0), "{keeps:?} without an event");
            for (step, time) in [5, 3, 9, 40, 38, 44, 44, 90].into_iter().cycle().take(400).enumerate() {
                let value = [1.5, -2.0, f64::INFINITY, 1e300, f64::NAN, step as f64, -f64::MAX][step % 7];
                keeps.apply(&mut words, Some(value.to_bits()), time);
                assert!(keeps.fits(&words, 90), "{keeps:?} at step {step}: {words:?}");
            }
        }
        let late = 91_u64;
        for (keeps, words) in [
            (Keeps::Count, vec![(-1.0_f64).to_bits()]),
            (Keeps::ValueCount, vec![f64::NAN.to_bits()]),
            (Keeps::Sum, vec![f64::INFINITY.to_bits()]),
            (Keeps::NewestTime, vec![late]),
            (Keeps::OldestTime, vec![-1_i64 as u64]),
            (Keeps::Last { text: false }, vec![late, 0]),
            (Keeps::Moments, vec![0.5_f64.to_bits(), 0, 0]),
            (Keeps::Newest(2), vec![3, 0, 4, 0]),
            (Keeps::Distinct { exact: 16, text: true }, [vec![17], vec![0; 16]].concat()),
            (Keeps::Distinct { exact: 16, text: true }, [vec![1 << 60], vec![0; 16]].concat()),
            (Keeps::Distinct { exact: 16, text: true }, [vec![2, 8, 8], vec![0; 14]].concat()),
            (Keeps::Distinct { exact: 16, text: true }, [vec![SKETCH, 65], vec![0; 15]].concat()),
            (Keeps::Top { capacity: 1, text: true }, vec![1.0_f64.to_bits(), 7, u64::MAX]),
            (Keeps::Top { capacity: 2, text: true }, vec![9.0_f64.to_bits(), 7, 1, 7, 1]),
            (Keeps::Decayed { half_life: 60, sum: true }, vec![late, 0]),
            (Keeps::Session { gap: 5 }, vec![9, 8, 0, 0]),
        ] {
            assert!(!keeps.fits(&words, 90), "{keeps:?}: {words:?}");
        }
    }

    #[test]
    fn the_commonest_are_off_by_no_more_than_a_share_of_the_capacity() {
        let keeps = Keeps::Top { capacity: 8, text: true };
        let mut tiles = vec![empty(keeps); 5];
        let mut counts = [0.0_f64; 40];
        for number in 0..4_000_usize {
            // Category c about as often as 1 / (c + 1).
            let category = (number * 7_919 % 4_000) as f64 / 4_000.0;
            let category = (40.0_f64.powf(category) - 1.0) as usize;
            counts[category] += 1.0;
            keeps.apply(&mut tiles[number % 5], Some(category as u64 + 1), 0);
        }
        let mut merged = empty(keeps);
        for tile in &tiles {
            keeps.merge(&mut merged, tile);
        }
        assert_eq!(float(merged[0]), 4_000.0);
        counts.sort_by(|a, b| b.total_cmp(a));
        for (rank, count) in counts.iter().enumerate().take(3) {
            let found = ranked(&merged, rank);
            assert!(found <= *count && count - found <= 4_000.0 / 9.0, "rank {rank}: {found} of {count}");
        }
        assert_eq!(ranked(&merged, 8), 0.0);
    }
}
