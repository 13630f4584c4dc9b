//! Where a profile's words are: the layout that the declared features compile into.
//!
//! A profile is a vector of 64-bit words: [`HEADER`] words, the cells of `forever` windows, the ids remembered against
//! duplicates, and for each tile width a run of tiles, oldest first, of which only those with an event exist. So a user
//! with few events takes few words, and a window of any length is read in a loop over the tiles that it covers.
//!
//! ```text
//! newest | first | ids: n | tiles of group 0: n | … | forever cells … | (time, id) × n | (tile, cells …) × n | …
//! ```

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
    /// A time: the newest one that had the value.
    LastTime,
    /// A float: the value at that time; of two at one time the later arrival. Stands right behind its `LastTime`.
    LastValue,
    /// A time: the newest one.
    Time,
}

/// The time that says "never".
pub(super) const NEVER: i64 = i64::MIN;

impl Keeps {
    /// Whether tiles are added up.
    pub(super) fn adds(self) -> bool {
        matches!(self, Self::Count | Self::ValueCount | Self::Sum)
    }

    /// The word of a cell that has seen nothing.
    pub(super) fn empty(self) -> u64 {
        match self {
            Self::Count | Self::ValueCount | Self::Sum => 0.0_f64.to_bits(),
            Self::Min | Self::Max | Self::LastValue => f64::NAN.to_bits(),
            Self::LastTime | Self::Time => NEVER as u64,
        }
    }
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

/// Cells that are kept together: those of one tile width, or those of `forever`.
#[derive(Clone, Debug, Default)]
pub(super) struct Cells {
    /// First the cells that are added up, then the others.
    pub(super) cells: Vec<Cell>,
    /// How many are added up.
    pub(super) adding: usize,
}

impl Cells {
    /// The number of a cell, which is added where it is new. Numbers hold until [`Cells::order`].
    pub(super) fn need(&mut self, cell: Cell) -> usize {
        self.cells.iter().position(|known| *known == cell).unwrap_or_else(|| {
            self.cells.push(cell);
            self.cells.len() - 1
        })
    }

    /// Puts the adding cells first and keeps the order otherwise; gives the new number of each old one.
    pub(super) fn order(&mut self) -> Vec<usize> {
        let (adding, others): (Vec<usize>, Vec<usize>) =
            (0..self.cells.len()).partition(|index| self.cells[*index].keeps.adds());
        self.adding = adding.len();
        let order: Vec<usize> = adding.into_iter().chain(others).collect();
        self.cells = order.iter().map(|index| self.cells[*index]).collect();
        let mut number = vec![0; order.len()];
        for (new, old) in order.into_iter().enumerate() {
            number[old] = new;
        }
        number
    }

    /// Applies an event to the words of these cells.
    pub(super) fn apply(&self, words: &mut [u64], meets: &impl Fn(Option<usize>) -> bool, values: &[f64], time: i64) {
        for (index, cell) in self.cells.iter().enumerate() {
            if !meets(cell.condition) {
                continue;
            }
            let value = cell.value.map_or(f64::NAN, |value| values[value]);
            let old = f64::from_bits(words[index]);
            let new = match cell.keeps {
                Keeps::Count => old + 1.0,
                Keeps::Time => {
                    words[index] = (words[index] as i64).max(time) as u64;
                    continue;
                }
                _ if value.is_nan() => continue,
                Keeps::ValueCount => old + 1.0,
                // A sum beyond the largest float stays there: ±inf is no value.
                Keeps::Sum => (old + value).clamp(f64::MIN, f64::MAX),
                Keeps::Min => old.min(value),
                Keeps::Max => old.max(value),
                Keeps::LastTime => {
                    if time >= words[index] as i64 {
                        words[index] = time as u64;
                        words[index + 1] = value.to_bits();
                    }
                    continue;
                }
                // Written with its time.
                Keeps::LastValue => continue,
            };
            words[index] = new.to_bits();
        }
    }

    /// The words of cells that have seen nothing.
    pub(super) fn empty(&self) -> impl Iterator<Item = u64> + '_ {
        self.cells.iter().map(|cell| cell.keeps.empty())
    }

    /// Adds a tile's words to those of the tiles before it, oldest first.
    pub(super) fn merge(&self, into: &mut [u64], tile: &[u64]) {
        for (sum, word) in into[..self.adding].iter_mut().zip(&tile[..self.adding]) {
            *sum = (f64::from_bits(*sum) + f64::from_bits(*word)).clamp(f64::MIN, f64::MAX).to_bits();
        }
        for index in self.adding..self.cells.len() {
            let (old, new) = (f64::from_bits(into[index]), f64::from_bits(tile[index]));
            into[index] = match self.cells[index].keeps {
                Keeps::Min => old.min(new).to_bits(),
                Keeps::Max => old.max(new).to_bits(),
                Keeps::Time => (into[index] as i64).max(tile[index] as i64) as u64,
                Keeps::LastTime if tile[index] as i64 >= into[index] as i64 => {
                    into[index + 1] = tile[index + 1];
                    tile[index]
                }
                Keeps::LastTime | Keeps::LastValue => continue,
                Keeps::Count | Keeps::ValueCount | Keeps::Sum => unreachable!("adding cells stand first"),
            };
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
}

impl Group {
    /// The words of one tile: its number and its cells.
    pub(super) fn stride(&self) -> usize {
        1 + self.cells.cells.len()
    }
}

/// What a feature reads, once an event is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A cell as it is.
    Cell(usize),
    /// A sum over a count; NaN without any.
    Ratio(usize, usize),
    /// The value behind a time.
    Last(usize),
}

impl Shape {
    /// The feature's value from merged words.
    pub(super) fn of(self, words: &[u64]) -> f64 {
        match self {
            Self::Cell(cell) => f64::from_bits(words[cell]),
            Self::Ratio(sum, count) => {
                let count = f64::from_bits(words[count]);
                if count > 0.0 { f64::from_bits(words[sum]) / count } else { f64::NAN }
            }
            Self::Last(cell) => f64::from_bits(words[cell + 1]),
        }
    }
}
