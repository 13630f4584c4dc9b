//! A run of tiles: what a profile stores for all windows of one tile width.
//!
//! A tile is a row of words: its number and its counts, side by side in *lanes*, then the words of its other cells.
//! Most counts in a profile are small, so lanes start 8 bits wide; once a tile of the run needs more, all its lanes are
//! widened. Counts are added a word at a time, which adds several counts at once.
//!
//! ```text
//! word 0: number of the tile, its lower 32 bits | count 0 | count 1 | …     word 1: further counts …     words of other cells …
//! ```
//!
//! Limits: a tile's count saturates at 4,294,967,295. A tile number identifies a tile only within [`TILES_APART_MAX`]
//! of the event being applied.

use super::{
    finalize::Finalizer,
    layout::{Cells, Met},
};
use crate::state::PackedWords;

/// The bits of a tile's number, which are below its counts.
const NUMBER_BITS: usize = 32;

/// Tile numbers are ambiguous beyond this distance. For the narrowest tiles, of one second, it is 34 years.
pub(super) const TILES_APART_MAX: i64 = 1 << 30;

/// The lane width of a run: 8, 16 or 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Lane(u8);

impl Lane {
    pub(super) const WIDEST: Self = Self(2);

    fn bits(self) -> usize {
        8 << self.0
    }

    /// The largest count a lane can hold.
    fn max(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The word and the bit where a count starts.
    fn place(self, count: usize) -> (usize, usize) {
        let bit = NUMBER_BITS + count * self.bits();
        (bit / 64, bit % 64)
    }

    /// Selects every other lane, starting with the lowest.
    fn even(self) -> u64 {
        [0x00ff_00ff_00ff_00ff, 0x0000_ffff_0000_ffff, 0x0000_0000_ffff_ffff][usize::from(self.0)]
    }

    /// How many rows can be added up in lanes of twice the width before one could overflow.
    fn rows_max(self) -> usize {
        [257, 65_537, usize::MAX][usize::from(self.0)]
    }
}

/// The word that describes a run; 0 if it has no tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Run {
    pub(super) tiles: usize,
    pub(super) lane: Lane,
}

impl Run {
    pub(super) fn of(word: u64) -> Self {
        Self { tiles: (word >> 2) as usize, lane: Lane((word & 3) as u8) }
    }

    /// Like [`Run::of`], but `None` for a word that no run can have.
    pub(super) fn checked(word: u64) -> Option<Self> {
        let run = Self::of(word);
        (run.lane.0 <= Lane::WIDEST.0 && (run.tiles > 0 || word == 0)).then_some(run)
    }

    pub(super) fn word(self) -> u64 {
        if self.tiles == 0 { 0 } else { (self.tiles as u64) << 2 | u64::from(self.lane.0) }
    }
}

/// The number of words of a tile: those with its number and counts, and in total.
pub(super) fn row_words(counts: usize, others: usize, lane: Lane) -> (usize, usize) {
    let lanes = (NUMBER_BITS + counts * lane.bits()).div_ceil(64);
    (lanes, lanes + others)
}

/// A count of a row.
pub(super) fn count_of(row: &[u64], lane: Lane, count: usize) -> u64 {
    let (word, bit) = lane.place(count);
    row[word] >> bit & lane.max()
}

/// Sets a count. It must be 0 before, and `to` must fit into the lane.
fn set_count(row: &mut [u64], lane: Lane, count: usize, to: u64) {
    let (word, bit) = lane.place(count);
    row[word] |= to << bit;
}

/// Appends a row for the tile that row `of` describes, with its counts, which must fit, and the words of its other
/// cells.
pub(super) fn push_row(
    to: &mut Vec<u64>,
    lane: Lane,
    of: &[u64],
    counts: impl ExactSizeIterator<Item = u64>,
    others: &[u64],
) {
    let (at, (lanes, _)) = (to.len(), row_words(counts.len(), others.len(), lane));
    to.resize(at + lanes, 0);
    to[at] = of[0] & (u64::MAX >> (64 - NUMBER_BITS));
    counts.enumerate().for_each(|(number, count)| set_count(&mut to[at..], lane, number, count));
    to.extend_from_slice(others);
}

/// What is read from one window.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    /// How many tiles it covers.
    pub(super) tiles: i64,
    /// What each feature reads, and its index among all aggregates.
    pub(super) finalizers: Vec<(Finalizer, usize)>,
}

/// The tiles of one width.
#[derive(Clone, Debug)]
pub(super) struct TileGroup {
    /// The width in microseconds.
    pub(super) tile: i64,
    /// The longest window over these tiles, in tiles.
    pub(super) tiles_max: i64,
    pub(super) cells: Cells,
    /// The windows over these tiles, shortest first.
    pub(super) windows: Vec<Reads>,
}

/// Computes the tile of a time. For times in order, it divides only once per tile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TileClock {
    begin: i64,
    width: i64,
    tile: i64,
}

impl TileClock {
    pub(super) fn tile(&mut self, time: i64, width: i64) -> i64 {
        if width != self.width || time.wrapping_sub(self.begin) as u64 >= width as u64 {
            let tile = time.div_euclid(width);
            *self = Self { begin: tile.wrapping_mul(width), width, tile };
        }
        self.tile
    }
}

/// How many tiles the tile of a row is ahead of another.
fn ahead(row: u64, tile: i64) -> i64 {
    i64::from((row as u32).wrapping_sub(tile as u32) as i32)
}

/// Checks that tiles come in order and are not newer than the profile's newest event.
pub(super) struct TileOrder {
    newest: i64,
    before: i64,
}

impl TileOrder {
    pub(super) fn new(newest: i64, width: i64) -> Self {
        Self { newest: newest.div_euclid(width), before: i64::MIN }
    }

    /// Whether a row with this first word follows the previous ones.
    pub(super) fn is_next(&mut self, row: u64) -> bool {
        let at = ahead(row, self.newest);
        let is_next = at > self.before && at <= 0;
        self.before = at;
        is_next
    }
}

impl TileGroup {
    /// Adds a feature that reads a window of this many tiles.
    pub(super) fn read(&mut self, tiles: i64, finalizer: Finalizer, number: usize) {
        match self.windows.binary_search_by_key(&tiles, |window| window.tiles) {
            Ok(at) => self.windows[at].finalizers.push((finalizer, number)),
            Err(at) => self.windows.insert(at, Reads { tiles, finalizers: vec![(finalizer, number)] }),
        }
    }

    fn row_words(&self, lane: Lane) -> (usize, usize) {
        row_words(self.cells.counting(), self.cells.words() - self.cells.counting(), lane)
    }

    /// The number of words of one tile.
    pub(super) fn stride(&self, lane: Lane) -> usize {
        self.row_words(lane).1
    }

    /// The number of words of a run's tiles.
    pub(super) fn words(&self, run: Run) -> usize {
        run.tiles * self.stride(run.lane)
    }

    /// Whether untrusted words are valid tiles of this run in a profile whose newest event has this time.
    pub(super) fn fit(&self, run: Run, words: &mut PackedWords<'_>, newest: i64) -> bool {
        let (lanes, stride) = self.row_words(run.lane);
        let mut row = vec![0; if run.tiles > 0 { stride } else { 0 }];
        let mut order = TileOrder::new(newest, self.tile);
        // A false number of tiles cannot make this loop long: tile numbers must rise, so each tile takes bytes.
        (0..run.tiles).all(|_| {
            words.fill(&mut row)
                && order.is_next(row[0])
                && self.cells.fit(self.cells.counting(), &row[lanes..], newest)
        })
    }

    /// Applies an event to the run at `run_at`, whose tiles start at `at`: drops the tiles up to `oldest`, which no
    /// window reaches any more, and counts the event in its own tile.
    pub(super) fn apply(
        &self,
        words: &mut Vec<u64>,
        (run_at, at): (usize, usize),
        (time, tile, oldest): (i64, i64, i64),
        met: Met<'_>,
        values: &[u64],
    ) -> Run {
        let mut run = Run::of(words[run_at]);
        let is_wanted = self.cells.concerns(met);
        if let Some(index) = self.move_tiles(words, at, &mut run, (tile, oldest), is_wanted) {
            self.count(words, at, index, &mut run, met, values);
            let (lanes, stride) = self.row_words(run.lane);
            let row = &mut words[at + index * stride + lanes..at + (index + 1) * stride];
            self.cells.apply(self.cells.counting(), row, met, values, time);
        }
        words[run_at] = run.word();
        run
    }

    /// Drops the tiles up to `oldest`, and returns the index of the wanted tile. If that tile does not exist, it reuses
    /// the words of a dropped one, so that the words behind the run move only if the number of tiles changes.
    fn move_tiles(
        &self,
        words: &mut Vec<u64>,
        at: usize,
        run: &mut Run,
        (tile, oldest): (i64, i64),
        is_wanted: bool,
    ) -> Option<usize> {
        let (lanes, stride) = self.row_words(run.lane);
        let ahead = |words: &[u64], index: usize| ahead(words[at + index * stride], tile);
        let mut gone = (0..run.tiles).take_while(|index| ahead(words, *index) <= oldest - tile).count();
        if gone == run.tiles && run.lane != Lane::default() {
            // None of the tiles that needed wide lanes is left.
            words.drain(at..at + gone * stride);
            *run = Run::default();
            return self.move_tiles(words, at, run, (tile, oldest), is_wanted);
        }
        if !is_wanted {
            words.drain(at..at + gone * stride);
            run.tiles -= gone;
            return None;
        }
        let mut index = run.tiles;
        // Events come nearly in order, so the tile is nearly always the last one.
        while index > gone && ahead(words, index - 1) > 0 {
            index -= 1;
        }
        if index > gone && ahead(words, index - 1) == 0 {
            index -= 1;
        } else {
            if gone > 0 {
                gone -= 1;
                index -= 1;
                words.copy_within(at + (gone + 1) * stride..at + (index + 1) * stride, at + gone * stride);
            } else {
                let (row, end) = (at + index * stride, words.len());
                words.resize(end + stride, 0);
                words.copy_within(row..end, row + stride);
                run.tiles += 1;
            }
            let row = &mut words[at + index * stride..at + (index + 1) * stride];
            row[..lanes].fill(0);
            row[0] = u64::from(tile as u32);
            row[lanes..].copy_from_slice(&self.cells.empty()[self.cells.counting()..]);
        }
        if gone > 0 {
            words.drain(at..at + gone * stride);
            run.tiles -= gone;
        }
        Some(index - gone)
    }

    fn count(&self, words: &mut Vec<u64>, at: usize, index: usize, run: &mut Run, met: Met<'_>, values: &[u64]) {
        for count in self.cells.counted(met, values) {
            loop {
                let row = at + index * self.stride(run.lane);
                let (word, bit) = run.lane.place(count);
                if words[row + word] >> bit & run.lane.max() < run.lane.max() {
                    words[row + word] += 1 << bit;
                    break;
                }
                if run.lane == Lane::WIDEST {
                    break;
                }
                self.widen(words, at, run);
            }
        }
    }

    /// Doubles the width of a run's lanes.
    #[cold]
    fn widen(&self, words: &mut Vec<u64>, at: usize, run: &mut Run) {
        let wider = Lane(run.lane.0 + 1);
        let (lanes, stride) = self.row_words(run.lane);
        let end = at + run.tiles * stride;
        let mut rows = Vec::with_capacity(run.tiles * self.stride(wider));
        for row in words[at..end].chunks_exact(stride) {
            let counts = (0..self.cells.counting()).map(|count| count_of(row, run.lane, count));
            push_row(&mut rows, wider, row, counts, &row[lanes..]);
        }
        words.splice(at..end, rows);
        run.lane = wider;
    }

    /// Reads all windows that end in the tile of this time, from the words of the existing tiles. Without tiles, it leaves
    /// `out` as it is: see [`TileGroup::blank`].
    pub(super) fn read_all(
        &self,
        run: Run,
        rows: &[u64],
        (time, tile): (i64, i64),
        merged: &mut Vec<u64>,
        out: &mut [f64],
    ) {
        if run.tiles == 0 {
            return;
        }
        let (lanes, stride) = self.row_words(run.lane);
        let ahead = |index: usize| ahead(rows[index * stride], tile);
        let mut at = run.tiles;
        while at > 0 && ahead(at - 1) > 0 {
            at -= 1;
        }
        merged.clear();
        merged.extend(self.cells.empty());
        // A longer window continues where the shorter one stopped.
        for window in &self.windows {
            let end = at;
            let is_within = |index: usize| ahead(index) > -window.tiles;
            if at > 0 && is_within(0) {
                at = 0;
            }
            while at > 0 && is_within(at - 1) {
                at -= 1;
            }
            let rows = &rows[at * stride..end * stride];
            self.add_counts(run.lane, rows, merged);
            self.cells.merge(merged, rows, lanes, stride);
            for (finalizer, number) in &window.finalizers {
                out[*number] = match finalizer {
                    // The most common case.
                    Finalizer::Float(at) => f64::from_bits(merged[*at]),
                    _ => finalizer.value(merged, time),
                };
            }
        }
    }

    /// Writes what is read where there are no tiles. That does not depend on the time.
    pub(super) fn blank(&self, out: &mut [f64]) {
        for (finalizer, number) in self.windows.iter().flat_map(|window| &window.finalizers) {
            out[*number] = finalizer.value(self.cells.empty(), 0);
        }
    }

    /// Adds the counts of rows to the merged ones, a word of lanes at a time, using two sums with lanes of twice the
    /// width.
    fn add_counts(&self, lane: Lane, rows: &[u64], merged: &mut [u64]) {
        let (lanes, stride) = self.row_words(lane);
        let (bits, even) = (lane.bits(), lane.even());
        let per_word = 64 / bits;
        for rows in rows.chunks(stride.saturating_mul(lane.rows_max())) {
            let mut count = 0;
            for word in 0..lanes {
                let sums = rows[word..]
                    .iter()
                    .step_by(stride)
                    .fold([0_u64; 2], |[low, high], word| [low + (word & even), high + (word >> bits & even)]);
                let first = if word == 0 { NUMBER_BITS / bits } else { 0 };
                for place in first..per_word.min(first + self.cells.counting() - count) {
                    let sum = sums[place % 2] >> (place / 2 * 2 * bits) & (u64::MAX >> (64 - 2 * bits));
                    // A signed integer converts to a float in one instruction.
                    let sum = sum as i64 as f64;
                    merged[count] = (f64::from_bits(merged[count]) + sum).to_bits();
                    count += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
