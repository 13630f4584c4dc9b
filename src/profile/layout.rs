//! Where a profile's words are: the layout that the declared features compile into.
//!
//! A profile is a vector of 64-bit words: [`HEADER`] words, the cells of `forever` windows, the ids remembered against
//! duplicates, and for each tile width a run of tiles, oldest first, of which only those with an event exist. So a user
//! with few events takes few words, and a window of any length is read in a loop over the tiles that it covers.
//!
//! ```text
//! newest | first | ids: n | tiles of group 0: n | … | forever cells … | (time, id) × n | (tile, cells …) × n | …
//! ```

use super::{
    carry::NamedCell,
    cell::{Cell, Keeps},
    read::Shape,
};

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
        let keeps = |index: usize| self.all[index].keeps;
        self.counting = (0..self.all.len()).filter(|index| keeps(*index).counts()).count();
        self.adding = (0..self.all.len()).filter(|index| keeps(*index).adds()).count();
        let mut order: Vec<usize> = (0..self.all.len()).collect();
        order.sort_by_key(|index| (!keeps(*index).counts(), !keeps(*index).adds()));
        let mut places = vec![0; order.len()];
        for old in &order {
            places[*old] = self.empty.len();
            self.offsets.push(self.empty.len());
            self.all[*old].keeps.empty(&mut self.empty);
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

    /// Applies an event to the words of these cells.
    pub(super) fn apply(&self, words: &mut [u64], meets: &impl Fn(Option<usize>) -> bool, values: &[u64], time: i64) {
        for (cell, at) in self.all.iter().zip(&self.offsets) {
            if !meets(cell.condition) {
                continue;
            }
            // A count needs no value, and is what most cells are.
            if cell.keeps == Keeps::Count {
                words[*at] = (f64::from_bits(words[*at]) + 1.0).to_bits();
                continue;
            }
            let value = cell.value.map(|value| values[value]);
            cell.keeps.apply(&mut words[*at..], value, time);
        }
    }

    /// Adds a tile's words to those of the tiles after it, newest first.
    pub(super) fn merge(&self, into: &mut [u64], tile: &[u64]) {
        for (count, word) in into[..self.counting].iter_mut().zip(&tile[..self.counting]) {
            *count = (f64::from_bits(*count) + f64::from_bits(*word)).to_bits();
        }
        for (sum, word) in into[self.counting..self.adding].iter_mut().zip(&tile[self.counting..self.adding]) {
            *sum = (f64::from_bits(*sum) + f64::from_bits(*word)).clamp(f64::MIN, f64::MAX).to_bits();
        }
        for (cell, at) in self.all.iter().zip(&self.offsets).skip(self.adding) {
            cell.keeps.merge(&mut into[*at..], &tile[*at..]);
        }
    }
}

/// The tiles of one width.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// The width in microseconds.
    pub(super) tile: i64,
    /// The longest window over these tiles, in tiles.
    pub(super) tiles_max: i64,
    pub(super) cells: Cells,
    /// The windows over these tiles, the shortest first.
    pub(super) windows: Vec<Reads>,
}

/// What is read of one window.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    /// How many tiles it covers.
    pub(super) tiles: i64,
    /// What each feature reads, and its number among all aggregates.
    pub(super) shapes: Vec<(Shape, usize)>,
}

impl Group {
    /// Adds a feature that reads a window of so many tiles.
    pub(super) fn read(&mut self, tiles: i64, shape: Shape, number: usize) {
        match self.windows.binary_search_by_key(&tiles, |window| window.tiles) {
            Ok(at) => self.windows[at].shapes.push((shape, number)),
            Err(at) => self.windows.insert(at, Reads { tiles, shapes: vec![(shape, number)] }),
        }
    }

    /// Reads all windows at a tile and a time, from the words of the tiles that there are.
    pub(super) fn read_all(&self, tiles: &[u64], tile: i64, time: i64, merged: &mut Vec<u64>, out: &mut [f64]) {
        let stride = self.stride();
        let number_of = |index: usize| tiles[index * stride] as i64;
        let mut at = tiles.len() / stride;
        while at > 0 && number_of(at - 1) > tile {
            at -= 1;
        }
        merged.clear();
        merged.extend_from_slice(self.cells.empty());
        // A longer window goes on where the shorter one has stopped.
        for window in &self.windows {
            while at > 0 && number_of(at - 1) > tile - window.tiles {
                at -= 1;
                self.cells.merge(merged, &tiles[at * stride + 1..(at + 1) * stride]);
            }
            for (shape, number) in &window.shapes {
                out[*number] = shape.of(merged, time);
            }
        }
    }

    /// The words of one tile: its number and its cells.
    pub(super) fn stride(&self) -> usize {
        1 + self.cells.words()
    }
}
