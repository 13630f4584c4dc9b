//! Where a profile's words are: the layout that the declared features compile into.
//!
//! A profile is a vector of 64-bit words: [`HEADER`] words, the cells of `forever` windows, the ids remembered against
//! duplicates, and for each tile width a run of tiles ([`super::tiles`]), oldest first, of which only those with an event
//! exist. So a user with few events takes few words, and a window of any length is read in a loop over the tiles that it
//! covers.
//!
//! ```text
//! newest | first | ids: n | run of group 0 | … | forever cells … | (time, id) × n | tiles of group 0 … | …
//! ```

use super::{carry::NamedCell, cell::Cell};

/// The words before the counts of the runs: the newest event time, and the first.
pub(super) const HEADER: usize = 2;

/// Word 0: the user's newest event time.
pub(super) const NEWEST: usize = 0;

/// Word 1: the time of the user's first event.
pub(super) const FIRST: usize = 1;

/// Word 2: how many ids are remembered.
pub(super) const IDS: usize = 2;

/// The words of a remembered id: its event's time, and its hash.
pub(super) const ID_WORDS: usize = 2;

/// So many ids are remembered at most: `duplicates.max_ids` has 16 bits.
pub(super) const IDS_MAX: u64 = u16::MAX as u64;

/// Cells that are kept together: those of one tile width, or those of `forever`.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    /// First the counts, then the sums, of one word each, then the others.
    all: Vec<Cell>,
    /// How many count.
    counting: usize,
    /// How many are added up: counts and sums.
    adding: usize,
    /// By cell: where its words begin.
    offsets: Vec<usize>,
    /// The words of cells that have seen nothing.
    empty: Vec<u64>,
}

impl Cells {
    /// The number of a cell, which is added where it is new. It stands for the place of its words once [`Cells::order`]
    /// has fixed them.
    pub(super) fn need(&mut self, cell: Cell) -> usize {
        self.all.iter().position(|known| *known == cell).unwrap_or_else(|| {
            self.all.push(cell);
            self.all.len() - 1
        })
    }

    /// Puts the counts first, then the sums, and keeps the order otherwise; gives the place of each cell's words by its
    /// number.
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
        places
    }

    /// What is kept in which words, in their order: each cell by its name, told by what its condition and value say.
    pub(super) fn named(&self, name: impl Fn(&Cell) -> u64) -> Vec<NamedCell> {
        let ends = self.offsets.iter().skip(1).copied().chain([self.empty.len()]);
        let cells = self.all.iter().zip(&self.offsets).zip(ends);
        cells.map(|((cell, at), end)| NamedCell { name: name(cell), words: (end - at) as u32 }).collect()
    }

    /// How many words they take.
    pub(super) fn words(&self) -> usize {
        self.empty.len()
    }

    /// The words of cells that have seen nothing.
    pub(super) fn empty(&self) -> &[u64] {
        &self.empty
    }

    /// Whether an event that meets these conditions changes any of them.
    pub(super) fn concerns(&self, meets: &impl Fn(Option<usize>) -> bool) -> bool {
        self.all.iter().any(|cell| meets(cell.condition))
    }

    /// Whether words from outside can be those of all cells but the first `skipped` ones, which count.
    pub(super) fn fit(&self, skipped: usize, words: &[u64], newest: i64) -> bool {
        let cells = self.all.iter().zip(&self.offsets).skip(skipped);
        cells.into_iter().all(|(cell, at)| cell.kind.fits(&words[at - skipped..], newest))
    }

    /// How many of them count: the first ones, of one word each.
    pub(super) fn counting(&self) -> usize {
        self.counting
    }

    /// The numbers of those that count an event of these conditions and values.
    pub(super) fn counted<'a>(
        &'a self,
        meets: &'a impl Fn(Option<usize>) -> bool,
        values: &'a [u64],
    ) -> impl Iterator<Item = usize> + 'a {
        let counts = |cell: &Cell| meets(cell.condition) && cell.kind.counts_this(cell.value.map(|it| values[it]));
        let counting = self.all[..self.counting].iter().enumerate();
        counting.filter(move |(_, cell)| counts(cell)).map(|(number, _)| number)
    }

    /// Applies an event to the words of all cells but the first `skipped` ones, which count.
    pub(super) fn apply(
        &self,
        skipped: usize,
        words: &mut [u64],
        meets: &impl Fn(Option<usize>) -> bool,
        values: &[u64],
        time: i64,
    ) {
        for (cell, at) in self.all.iter().zip(&self.offsets).skip(skipped) {
            if meets(cell.condition) {
                let value = cell.value.map(|value| values[value]);
                cell.kind.apply(&mut words[*at - skipped..], value, time);
            }
        }
    }

    /// Adds what rows hold behind their counts, from their word `from` on, to what is merged of the tiles after them: the
    /// newest row, which is the last, first.
    pub(super) fn merge(&self, into: &mut [u64], rows: &[u64], from: usize, stride: usize) {
        let newest_first = || rows.rchunks_exact(stride);
        for (number, into) in into[self.counting..self.adding].iter_mut().enumerate() {
            let values = || newest_first().map(|row| f64::from_bits(row[from + number]));
            let old = f64::from_bits(*into);
            let sum = values().fold(old, |sum, value| sum + value);
            // What has left the largest float stays out of bounds: only then each step has to be looked at.
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
