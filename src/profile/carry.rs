//! Migrates profiles from one layout to another when the declared features change.
//!
//! The name of a cell says what it stores, for which events and for which value, as written in the configuration. When
//! a profile written under one [`Layout`] is carried over to another, cells with the same name (and, for windows, the
//! same tile width) keep their contents. New cells start empty, and removed cells are dropped. So an unchanged feature
//! continues exactly. A new feature starts with whatever cells it shares with unchanged features, which is usually
//! nothing. The times of the first and the newest event and the remembered ids belong to no feature and are always
//! kept.
//!
//! The result depends only on the words and the two layouts. If two processes with different features are members of
//! one group, as in a rolling update, each carries over the profiles that it takes from the other. Unchanged features
//! stay exact throughout; a feature that only one of them has starts empty whenever a partition returns to that
//! process.

use super::{
    compile::CompiledFeatures,
    engine::{are_ids_sound, is_header_sound},
    fingerprint::{digest, quoted},
    layout::{HEADER, ID_WORDS, IDS, NEWEST},
    tiles::{Run, TileGroup, TileOrder, count_of, push_row, row_words},
};
use crate::{proto::v1, state::PackedWords};
use prost::Message;
use sha2::{Digest, Sha256};

pub(super) use v1::layout::Cell as NamedCell;

/// The version of the layout encoding and of the texts that cell names are built from:
/// [`super::cell::CellKind::declared`], [`quoted`], the type names, and the normal form of expressions.
const VERSION: u32 = 2;

/// No cell takes more words than this.
const CELL_WORDS_MAX: u32 = 4_096;

/// How much of a feature's state survives from a profile with other features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it: the value continues exactly. Also used for a feature that stores nothing of its own.
    All,
    /// Some cells, or a shorter time than its window covers: the value continues, but is exact only once its window has
    /// passed.
    Part,
    /// None: it starts empty.
    Nothing,
}

/// What the words of a profile in the changelog mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    id: String,
    of: v1::Layout,
}

impl Layout {
    pub(super) fn of(compiled: &CompiledFeatures, has_ids: bool) -> Self {
        let name = |cell: &super::cell::Cell| {
            let condition = cell.condition.map_or("", |it| &compiled.conditions[it].text);
            let value = cell.value.map(|it| &compiled.values[it]);
            let value = value.map_or_else(String::new, |it| format!("{} {}", it.ty, it.text));
            let digest =
                Sha256::digest([&cell.kind.declared(), "|", &quoted(condition), "|", &quoted(&value)].concat());
            u64::from_be_bytes(*digest.first_chunk().expect("it has 32 bytes"))
        };
        let group = |group: &TileGroup| v1::layout::Group {
            tile_us: group.tile,
            tiles: group.tiles_max,
            cells: group.cells.named(name),
            counts: group.cells.counting() as u32,
        };
        Self::new(v1::Layout {
            schema_version: VERSION,
            has_ids,
            forever: compiled.forever.named(name),
            groups: compiled.groups.iter().map(group).collect(),
        })
    }

    fn new(of: v1::Layout) -> Self {
        Self { id: digest(&of.encode_to_vec()), of }
    }

    /// The first 16 hex digits of the SHA-256 of its encoding.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Encodes it as `aimpoint.v1.Layout`.
    pub fn encode(&self) -> Vec<u8> {
        self.of.encode_to_vec()
    }

    /// Whether this layout keeps everything that the other one keeps.
    pub fn holds(&self, other: &Self) -> bool {
        let within = |some: &[NamedCell], all: &[NamedCell]| some.iter().all(|cell| all.contains(cell));
        let group = |wanted: &v1::layout::Group| {
            self.of.groups.iter().any(|it| it.tile_us == wanted.tile_us && within(&wanted.cells, &it.cells))
        };
        within(&other.of.forever, &self.of.forever) && other.of.groups.iter().all(group)
    }

    /// How much of what the other layout keeps is also in profiles of this one.
    pub fn kept_of(&self, other: &Self) -> Kept {
        let has = |all: &[NamedCell], cell: &NamedCell| all.contains(cell);
        let (mut cells, mut found, mut is_short) = (0, 0, false);
        for cell in &other.of.forever {
            cells += 1;
            found += usize::from(has(&self.of.forever, cell));
        }
        for wanted in &other.of.groups {
            let here = self.of.groups.iter().find(|it| it.tile_us == wanted.tile_us);
            for cell in &wanted.cells {
                cells += 1;
                if let Some(here) = here.filter(|here| has(&here.cells, cell)) {
                    found += 1;
                    is_short |= here.tiles < wanted.tiles;
                }
            }
        }
        match found {
            _ if found == cells && !is_short => Kept::All,
            0 => Kept::Nothing,
            _ => Kept::Part,
        }
    }

    /// Decodes a layout; `None` if the bytes are not a valid layout of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let of = v1::Layout::decode(bytes).ok()?;
        let is_cell = |cell: &NamedCell| (1..=CELL_WORDS_MAX).contains(&cell.words);
        let is_group = |group: &v1::layout::Group| {
            let counts = group.cells.get(..group.counts as usize);
            group.tile_us > 0
                && group.cells.iter().all(is_cell)
                && counts.is_some_and(|counts| counts.iter().all(|cell| cell.words == 1))
        };
        let is_sound = of.schema_version == VERSION && of.forever.iter().all(is_cell) && of.groups.iter().all(is_group);
        // The id is computed from the bytes as received, whatever fields a later version adds.
        is_sound.then(|| Self { id: digest(bytes), of })
    }

    /// Whether an untrusted packed state has the structure of this layout; values are not checked. Takes time linear in
    /// its size.
    fn fits(&self, state: &[u8]) -> bool {
        let mut words = PackedWords::new(state);
        let mut header = [0; HEADER + 1];
        let mut runs = vec![0; self.of.groups.len()];
        if !(words.fill(&mut header) && words.fill(&mut runs) && words.skip(self::words(&self.of.forever))) {
            return false;
        }
        let newest = header[NEWEST] as i64;
        let group = |words: &mut PackedWords<'_>, group: &v1::layout::Group, run: u64| {
            let Some(run) = Run::checked(run) else { return false };
            let counts = group.counts as usize;
            let (_, stride) = row_words(counts, self::words(&group.cells) - counts, run.lane);
            let mut order = TileOrder::new(newest, group.tile_us);
            (0..run.tiles).all(|_| words.word().is_some_and(|row| order.is_next(row)) && words.skip(stride - 1))
        };
        is_header_sound(&header, self.of.has_ids)
            && are_ids_sound(&mut words, header[IDS], newest)
            && self.of.groups.iter().zip(runs).all(|(of, run)| group(&mut words, of, run))
            && words.is_at_end()
    }
}

/// Words to copy: from, to, length.
type Copies = Vec<(usize, usize, usize)>;

fn words(cells: &[NamedCell]) -> usize {
    cells.iter().map(|cell| cell.words as usize).sum()
}

/// The cells that two lists have in common.
fn common(from: &[NamedCell], to: &[NamedCell]) -> Copies {
    let place = |cells: &[NamedCell], index: usize| words(&cells[..index]);
    let same = |cell: &NamedCell| from.iter().position(|other| other == cell);
    let pairs = to.iter().enumerate().filter_map(|(index, cell)| Some((same(cell)?, index, cell.words as usize)));
    pairs.map(|(old, new, count)| (place(from, old), place(to, new), count)).collect()
}

fn copy(copies: &Copies, from: &[u64], to: &mut [u64]) {
    for (old, new, count) in copies {
        to[*new..new + count].copy_from_slice(&from[*old..old + count]);
    }
}

/// Where the tiles of a group come from.
#[derive(Clone, Debug)]
struct Tiles {
    /// The old group with the same tile width, if there was one.
    from: Option<usize>,
    cells: Copies,
    /// How many of the cells are counts.
    counts: usize,
    /// The words of empty cells.
    empty: Vec<u64>,
}

impl Tiles {
    /// Appends the surviving tiles of a run, and returns the word that describes the new run.
    fn carry(&self, counts_old: usize, run: Run, stride_old: usize, old: &[u64], to: &mut Vec<u64>) -> u64 {
        let (lanes, _) = row_words(counts_old, 0, run.lane);
        let mut tiles = 0;
        // The words of all cells, with counts as integers.
        let (mut cells_old, mut cells) = (Vec::new(), Vec::new());
        for row in old.chunks_exact(stride_old) {
            cells_old.clear();
            cells_old.extend((0..counts_old).map(|count| count_of(row, run.lane, count)));
            cells_old.extend_from_slice(&row[lanes..]);
            cells.clone_from(&self.empty);
            copy(&self.cells, &cells_old, &mut cells);
            if cells != self.empty {
                tiles += 1;
                let (counts, others) = cells.split_at(self.counts);
                push_row(to, run.lane, row, counts.iter().copied(), others);
            }
        }
        Run { tiles, ..run }.word()
    }
}

/// Carries profiles over from one layout to another.
#[derive(Clone, Debug)]
pub struct Carry {
    layout: Layout,
    fresh: Vec<u64>,
    has_ids: bool,
    forever: Copies,
    groups: Vec<Tiles>,
}

impl Carry {
    /// From a layout to that of the compiled features. `fresh` is a profile without events.
    pub(super) fn new(from: &Layout, to: &Layout, compiled: &CompiledFeatures, fresh: &[u64]) -> Self {
        let groups = to.of.groups.iter().zip(&compiled.groups).map(|(group, kept)| {
            let old = from.of.groups.iter().position(|old| old.tile_us == group.tile_us);
            let cells = old.map(|old| common(&from.of.groups[old].cells, &group.cells)).unwrap_or_default();
            Tiles { from: old, cells, counts: kept.cells.counting(), empty: kept.cells.empty().to_vec() }
        });
        Self {
            forever: common(&from.of.forever, &to.of.forever),
            groups: groups.collect(),
            fresh: fresh.to_vec(),
            has_ids: to.of.has_ids,
            layout: from.clone(),
        }
    }

    /// Whether an untrusted packed state has the source layout.
    pub fn takes(&self, state: &[u8]) -> bool {
        self.layout.fits(state)
    }

    /// The words of a profile in the new layout; `None` if they do not have the source layout. Tiles without any
    /// surviving content are dropped.
    pub fn apply(&self, old: &[u64]) -> Option<Vec<u64>> {
        let mut words_new = self.fresh.clone();
        let from = &self.layout.of;
        let counts_at = HEADER + 1;
        let forever_at = counts_at + from.groups.len();
        let ids_at = forever_at + words(&from.forever);
        if old.len() < ids_at {
            return None;
        }
        words_new[..HEADER].copy_from_slice(&old[..HEADER]);
        copy(&self.forever, &old[forever_at..ids_at], &mut words_new[counts_at + self.groups.len()..]);

        let ids = usize::try_from(old[IDS]).ok()?.checked_mul(ID_WORDS)?;
        let mut tiles_at = ids_at.checked_add(ids)?;
        let ids = old.get(ids_at..tiles_at)?;
        if self.has_ids {
            words_new[IDS] = old[IDS];
            words_new.extend_from_slice(ids);
        }
        let mut runs = Vec::with_capacity(from.groups.len());
        for (group, run) in from.groups.iter().zip(&old[counts_at..forever_at]) {
            let run = Run::checked(*run)?;
            let counts = group.counts as usize;
            let stride = row_words(counts, words(&group.cells).checked_sub(counts)?, run.lane).1;
            let end = tiles_at.checked_add(run.tiles.checked_mul(stride)?)?;
            runs.push((counts, run, stride, old.get(tiles_at..end)?));
            tiles_at = end;
        }
        if tiles_at != old.len() {
            return None;
        }
        for (number, tiles) in self.groups.iter().enumerate() {
            if let Some((counts, run, stride, rows)) = tiles.from.map(|from| runs[from]) {
                words_new[counts_at + number] = tiles.carry(counts, run, stride, rows, &mut words_new);
            }
        }
        Some(words_new)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FeatureSpec, ProfileEngine, ProfileSpec};
    use super::*;
    use crate::{
        engine::{Pipeline, PipelineSpec},
        event::{DuplicateSpec, TimeSpec},
        expression::Scope,
    };

    fn engine(features: &str) -> ProfileEngine {
        #[derive(serde::Deserialize)]
        struct Spec {
            feature: Vec<FeatureSpec>,
        }
        let spec: Spec = toml::from_str(features).unwrap();
        let (mut scope, mut errors) = (Scope::default(), Vec::new());
        let (time, ids) = (TimeSpec::default(), DuplicateSpec::default());
        let engine =
            ProfileEngine::compile(&ProfileSpec::default(), &time, &ids, &spec.feature, &mut scope, &mut errors);
        assert_eq!(errors, []);
        engine
    }

    const A: &str = "[[feature]]\nname = \"a\"\naggregate = \"count\"\nwindow = \"1h\"\ntile = \"1m\"\n";
    const B: &str = "[[feature]]\nname = \"b\"\naggregate = \"recency\"\n";
    const C: &str = "[[feature]]\nname = \"c\"\naggregate = \"since_first\"\nwindow = \"2h\"\ntile = \"1m\"\n";
    const D: &str = "[[feature]]\nname = \"d\"\naggregate = \"session_count\"\ngap = \"1h\"\n";

    #[test]
    fn cells_go_on_by_what_they_keep_and_new_ones_begin_empty() {
        let (old, new) = (engine(&[A, B, C].concat()), engine(&[D, C, A].concat()));
        // newest, first, ids, run | recency | tile and count, oldest time.
        let (two_tiles, one_tile) = (2 << 2, 1 << 2);
        let count = 2 << 32;
        let words = [9, 8, 0, two_tiles, 9, 7 | count, 70, 6, i64::MAX as u64];
        let carried = new.carry(old.layout()).apply(&words).unwrap();
        let nothing = [i64::MAX as u64, i64::MIN as u64, 0, 0];
        // The count and the time of tile 6 are empty, so the tile is dropped.
        assert_eq!(carried, [&[9, 8, 0, one_tile][..], &nothing, &[7 | count, 70]].concat());
        let without = engine(B).carry(old.layout()).apply(&words).unwrap();
        assert_eq!(without, [9, 8, 0, 9]);
        for cut in 0..words.len() {
            assert_eq!(new.carry(old.layout()).apply(&words[..cut]), None, "{cut} words");
        }
    }

    #[test]
    fn a_layout_holds_what_each_of_its_features_keeps_and_nothing_else() {
        let layout = engine(&[A, B].concat()).layout().clone();
        for (feature, is_held) in [(A, true), (B, true), (C, false), (D, false)] {
            assert_eq!(layout.holds(engine(feature).layout()), is_held, "{feature}");
        }
        assert!(!layout.holds(engine(&A.replace("tile = \"1m\"", "tile = \"2m\"")).layout()));
        let longer = A.replace("\"1h\"", "\"2h\"");
        let shorter = A.replace("\"1h\"", "\"30m\"");
        let finer = A.replace("\"1m\"", "\"30s\"");
        for (feature, kept) in [
            (A, Kept::All),
            (&shorter, Kept::All),
            (&longer, Kept::Part),
            (&finer, Kept::Nothing),
            (C, Kept::Nothing),
            (&[A, D].concat(), Kept::Part),
        ] {
            assert_eq!(layout.kept_of(engine(feature).layout()), kept, "{feature}");
        }
    }

    #[test]
    fn a_layout_comes_back_from_its_record_and_its_names_do_not_change() {
        let layout = engine(&[A, B].concat()).layout().clone();
        assert_eq!(Layout::decode(&layout.encode()), Some(layout.clone()));
        assert_eq!(Layout::decode(b"no layout"), None);
        // If this id changes, every profile in every existing changelog starts empty.
        assert_eq!(layout.id(), "5d71f80ec312a748");
    }

    #[test]
    fn the_names_of_all_kinds_of_cells_are_those_that_changelogs_have() {
        // One feature per aggregate, with conditions and values that need quoting. The expected ids are those of the
        // first release.
        let spec: PipelineSpec = toml::from_str(include_str!("golden_features.toml")).unwrap();
        let pipeline = Pipeline::compile(&spec, "clickstream").unwrap();
        assert_eq!((pipeline.layout().id(), pipeline.fingerprint()), ("e394bc965e3a9f8a", "67791ed2ae9711cc"));
    }

    #[test]
    fn a_layout_that_cannot_be_is_not_taken() {
        let sound = engine(&[A, B].concat()).layout().of.clone();
        let is_taken = |change: &dyn Fn(&mut v1::Layout)| {
            let mut of = sound.clone();
            change(&mut of);
            Layout::decode(&of.encode_to_vec()).is_some()
        };
        assert!(is_taken(&|_| {}));
        assert!(!is_taken(&|of| of.schema_version += 1));
        assert!(!is_taken(&|of| of.forever[0].words = u32::MAX));
        assert!(!is_taken(&|of| of.groups[0].tile_us = 0));
        assert!(!is_taken(&|of| of.groups[0].counts = 2));
        assert!(!is_taken(&|of| of.groups[0].cells[0].words = 2), "a count has one word");
    }
}
