//! The layout of a profile's words, which the declared features compile into.
//!
//! A profile is a vector of 64-bit words: [`HEADER`] words, the cells of `forever` windows, the ids remembered to
//! detect duplicates, and for each tile width a run of tiles ([`super::tiles`]), oldest first. Only tiles with an event
//! exist. So a user with few events takes few words, and a window of any length is read in one loop over the tiles it
//! covers.
//!
//! ```text
//! newest | first | ids: n | run of group 0 | … | forever cells … | (time, id) × n | tiles of group 0 … | …
//! ```

use super::{carry::NamedCell, cell::Cell};

/// The number of words before the counts of the runs: the newest event time and the first.
pub(super) const HEADER: usize = 2;

/// Word 0: the user's newest event time.
pub(super) const NEWEST: usize = 0;

/// Word 1: the time of the user's first event.
pub(super) const FIRST: usize = 1;

/// Word 2: how many ids are remembered.
pub(super) const IDS: usize = 2;

/// The number of words of a remembered id: its event time and its hash.
pub(super) const ID_WORDS: usize = 2;

/// The most ids that can be remembered: `duplicates.max_ids` has 16 bits.
pub(super) const IDS_MAX: u64 = u16::MAX as u64;

/// The conditions that an event meets, as a bit set of their indexes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met<'a>(pub(super) &'a [u64]);

impl Met<'_> {
    /// Whether the event meets this condition, if there is one.
    pub(super) fn meets(self, condition: Option<usize>) -> bool {
        condition.is_none_or(|it| self.0[it / 64] >> (it % 64) & 1 == 1)
    }
}

/// Cells that are stored together: those of one tile width, or those of `forever`.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    /// Counts first, then sums (one word each), then the others.
    all: Vec<Cell>,
    /// The number of counts.
    counting: usize,
    /// The number of cells that merge by addition: counts and sums.
    adding: usize,
    /// By cell: the offset of its words.
    offsets: Vec<usize>,
    /// The words of empty cells.
    empty: Vec<u64>,
    /// The conditions of the cells, as a bit set.
    conditions: Vec<u64>,
    /// Whether any event may change a cell: one that follows events has no condition.
    is_for_all: bool,
}

impl Cells {
    /// The index of a cell, which is added if it is new. [`Cells::order`] later maps indexes to word offsets.
    pub(super) fn need(&mut self, cell: Cell) -> usize {
        self.all.iter().position(|known| *known == cell).unwrap_or_else(|| {
            self.all.push(cell);
            self.all.len() - 1
        })
    }

    /// Moves counts to the front, then sums, and otherwise keeps the order. Returns the word offset of each cell by its
    /// index.
    pub(super) fn order(&mut self) -> Vec<usize> {
        let kind = |index: usize| self.all[index].kind;
        self.counting = (0..self.all.len()).filter(|index| kind(*index).counts()).count();
        self.adding = (0..self.all.len()).filter(|index| kind(*index).adds()).count();
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|index| (!kind(*index).counts(), !kind(*index).adds()));
        let mut places = vec![0; order.len()];
        for old in &order {
            places[*old] = self.empty.len();
            self.offsets.push(self.empty.len());
            self.all[*old].kind.empty(&mut self.empty);
        }
        self.all = order.iter().map(|index| self.all[*index]).collect();
        self.is_for_all = self.all.iter().any(|cell| cell.condition.is_none() && cell.kind.follows_events());
        for condition in self.all.iter().filter_map(|cell| cell.condition) {
            self.conditions.resize(self.conditions.len().max(condition / 64 + 1), 0);
            self.conditions[condition / 64] |= 1 << (condition % 64);
        }
        places
    }

    /// The cells in word order. `name` gives the name of each cell's condition and value.
    pub(super) fn named(&self, name: impl Fn(&Cell) -> u64) -> Vec<NamedCell> {
        let ends = self.offsets.iter().skip(1).copied().chain([self.empty.len()]);
        let cells = self.all.iter().zip(&self.offsets).zip(ends);
        cells.map(|((cell, at), end)| NamedCell { name: name(cell), words: (end - at) as u32 }).collect()
    }

    /// How many words the cells take.
    pub(super) fn words(&self) -> usize {
        self.empty.len()
    }

    /// The words of empty cells.
    pub(super) fn empty(&self) -> &[u64] {
        &self.empty
    }

    /// Whether an event that meets these conditions changes any cell.
    pub(super) fn concerns(&self, met: Met<'_>) -> bool {
        self.is_for_all || self.conditions.iter().zip(met.0).any(|(wanted, met)| wanted & met != 0)
    }

    /// Whether untrusted words are valid for all cells except the first `skipped` ones, which are counts.
    pub(super) fn fit(&self, skipped: usize, words: &[u64], newest: i64) -> bool {
        let cells = self.all.iter().zip(&self.offsets).skip(skipped);
        cells.into_iter().all(|(cell, at)| cell.kind.fits(&words[at - skipped..], newest))
    }

    /// The number of counts. They come first and take one word each.
    pub(super) fn counting(&self) -> usize {
        self.counting
    }

    /// The indexes of the counts that an event with these conditions and values increments.
    pub(super) fn counted<'a>(&'a self, met: Met<'a>, values: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
        let counts =
            move |cell: &Cell| met.meets(cell.condition) && cell.kind.counts_this(cell.value.map(|it| values[it]));
        let counting = self.all[..self.counting].iter().enumerate();
        counting.filter(move |(_, cell)| counts(cell)).map(|(number, _)| number)
    }

    /// Applies an event to the words of all cells except the first `skipped` ones, which are counts.
    pub(super) fn apply(&self, skipped: usize, words: &mut [u64], met: Met<'_>, values: &[u64], time: i64) {
        if !self.concerns(met) {
            return;
        }
        for (cell, at) in self.all.iter().zip(&self.offsets).skip(skipped) {
            if met.meets(cell.condition) {
                let value = cell.value.map(|value| values[value]);
                cell.kind.apply(&mut words[*at - skipped..], value, time);
            }
        }
    }

    /// Merges the non-count words of rows, which start at word `from` of each row, into the result for the tiles after
    /// them. The newest row is the last one and is merged first.
    pub(super) fn merge(&self, into: &mut [u64], rows: &[u64], from: usize, stride: usize) {
        let newest_first = || rows.rchunks_exact(stride);
        for (number, into) in into[self.counting..self.adding].iter_mut().enumerate() {
            let values = || newest_first().map(|row| f64::from_bits(row[from + number]));
            let old = f64::from_bits(*into);
            let sum = values().fold(old, |sum, value| sum + value);
            // A sum that left the float range stays out of range, so each step needs clamping only in that case.
            let is_sound = sum.abs() <= f64::MAX;
            let bounded = || values().fold(old, |sum, value| (sum + value).clamp(f64::MIN, f64::MAX));
            *into = if is_sound { sum } else { bounded() }.to_bits();
        }
        if self.adding < self.all.len() {
            for row in newest_first() {
                for (cell, at) in self.all.iter().zip(&self.offsets).skip(self.adding) {
                    cell.kind.merge(&mut into[*at..], &row[from + at - self.counting..]);
                }
            }
        }
    }
}
