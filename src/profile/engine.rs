//! Applies a batch of events to the profiles of their users and reads the features of each row.
//!
//! Guarantees: rows are applied in batch order, and the features of a row depend only on it and the earlier rows of its
//! partition. Limits: a user has at most `duplicates.max_ids` remembered ids and, for each tile width, tiles for the
//! longest window plus `time.allowed_lateness`. Tiles without events are not stored. Memory is allocated for an event
//! only when a profile grows.

mod admission;
mod erasure;

use super::{
    Carry, FeatureSpec, KeptForTargeting, Layout, OnChange, ProfileSpec,
    cell::{NEVER, NO_TEXT, id_word},
    compile::{Calendar, CompiledFeatures, Feature, Input, InputKind, Read, text_hash},
    consent::ConsentRows,
    fingerprint::fingerprint,
    layout::{FIRST, HEADER, ID_WORDS, IDS, IDS_MAX, NEWEST},
    membership::Membership,
    said::Said,
    tiles::{Lane, Run, TILES_APART_MAX, TileClock},
    window::micros,
    zone::Zones,
};
use crate::{
    canary::{self, Canary},
    columns::{Column, Columns, Slot, Text, Type},
    config_error::ConfigError,
    event::{DuplicateSpec, EventBatch, EventTime, TimeSpec},
    expression::Scope,
    state::{PackedWords, Store, Stores, is_event_time, pack, packed_bytes, record_bytes_max, unpack, user_bytes_max},
};
use admission::remember as remember_consent;
use erasure::Erasing;
use std::ops::Range;

const SECOND: f64 = 1e6;

/// How many rows' profiles are prefetched at a time: few enough to stay in a core's own cache.
const ROWS_WARMED: usize = 64;
const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;
const YEAR_MICROS: i64 = 366 * DAY_MICROS;

/// The outcome of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Applied to its user's profile; its features are read.
    Counted,
    /// Its id was seen before; its features are NaN.
    Duplicate,
    /// Further behind its user's newest event than allowed; its features are NaN.
    TooLate,
    /// Not applied, because the user does not consent; its features are NaN.
    Withheld,
    /// A request to erase its user: the profile is dropped.
    Erasure,
    /// From before its user's erasure; its features are NaN.
    Erased,
    /// Read again after a restart, and already in its user's restored profile.
    Covered,
}

/// The size of a profile, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileBytes {
    /// At rest, for a user with one event that every feature counts.
    pub one_event: usize,
    /// In use, for a user with an event in every tile of the longest windows and as many remembered ids as allowed.
    pub full: usize,
    /// The upper bound per user, without the key, if all users were full: see [`user_bytes_max`].
    pub user_max: usize,
    /// The upper bound of a changelog record, with the longest key.
    pub record_max: usize,
}

/// The compiled features.
#[derive(Debug)]
pub struct ProfileEngine {
    compiled: CompiledFeatures,
    fingerprint: String,
    layout: Layout,
    ttl: i64,
    lateness: i64,
    future_tolerance: i64,
    /// If two events of a user are at least this far apart, all tiles are dropped, because tile numbers would be
    /// ambiguous.
    apart_max: i64,
    horizon: i64,
    ids_max: usize,
    on_change: OnChange,
    /// The words of a user who has no event yet.
    fresh: Vec<u64>,
    /// Where the words of the memberships are in a profile.
    memberships: Range<usize>,
    /// Where the words of what was said are in a profile.
    said: Range<usize>,
    /// Where the words of the consent are in a profile.
    consent_words: Range<usize>,
    consent: Option<ConsentRows>,
    erasing: Erasing,
    applied: Vec<Applied>,
    /// By row: the partition's time including that row. Empty if profiles keep no memberships.
    times: Vec<Option<i64>>,
    zones: Zones,
    buffers: Buffers,
}

/// Buffers reused from batch to batch.
#[derive(Debug, Default)]
struct Buffers {
    /// By row: a bit for each condition that the row meets.
    conditions: Vec<u64>,
    /// By row: the values, as float bits or as the hash of a text.
    values: Vec<u64>,
    /// By row: the aggregates, in the order of `CompiledFeatures::reads`.
    rows: Vec<f64>,
    /// The merged words of a window.
    merged: Vec<u64>,
    /// By group: the tile of the event, and the oldest tile that a late event can still fall into.
    clocks: Vec<[TileClock; 2]>,
    /// What decisions still need of a profile that starts over: the last verdict and the memberships.
    ends: Vec<u64>,
}

impl ProfileEngine {
    /// Compiles the declared features. Errors are added under `profile`, `duplicates` and `feature[i]`.
    pub fn compile(
        profile: &ProfileSpec,
        time: &TimeSpec,
        duplicates: &DuplicateSpec,
        features: &[FeatureSpec],
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        Self::compile_with(profile, time, duplicates, features, KeptForTargeting::default(), scope, errors)
    }

    /// Like [`ProfileEngine::compile`], with what targeting keeps in profiles.
    pub fn compile_with(
        profile: &ProfileSpec,
        time: &TimeSpec,
        duplicates: &DuplicateSpec,
        features: &[FeatureSpec],
        kept: KeptForTargeting<'_>,
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let mut compiled = CompiledFeatures::compile(features, kept, scope, errors);
        let erasing = Erasing::compile(kept.erasure, &mut compiled, scope, errors);
        let (ttl, lateness) = (micros(profile.ttl), micros(time.allowed_lateness));
        let longest = compiled.groups.iter().map(|group| group.tile * group.tiles_max).max().unwrap_or_default();
        if ttl < longest {
            errors.push(
                ConfigError::new(
                    "profile.ttl",
                    format!("{} is shorter than the longest window", humantime::format_duration(profile.ttl)),
                )
                .hint(format!(
                    "set at least {:?}",
                    humantime::format_duration(std::time::Duration::from_micros(longest as u64)).to_string()
                )),
            );
        }
        if !duplicates.horizon.is_zero() && duplicates.max_ids == 0 {
            errors.push(
                ConfigError::new("duplicates.max_ids", "0 remembers nothing")
                    .hint("set it to 1 to 65535, or duplicates.horizon to \"0s\""),
            );
        }
        let narrowest = compiled.groups.iter().map(|group| group.tile).min().unwrap_or(i64::MAX);
        let apart_max = narrowest.saturating_mul(TILES_APART_MAX);
        if lateness.saturating_add(longest) >= apart_max {
            errors.push(
                ConfigError::new(
                    "time.allowed_lateness",
                    format!(
                        "{} is too long for tiles of {} s",
                        humantime::format_duration(time.allowed_lateness),
                        narrowest / 1_000_000
                    ),
                )
                .hint("a user's late events may be 34 years behind the newest, where a tile is a second wide"),
            );
        }
        let mut fresh = vec![0; HEADER + 1 + compiled.groups.len()];
        fresh[NEWEST] = NEVER as u64;
        fresh[FIRST] = NEVER as u64;
        fresh.extend_from_slice(compiled.forever.empty());
        let forever = HEADER + 1 + compiled.groups.len();
        let memberships = forever + compiled.memberships.start..forever + compiled.memberships.end;
        let said = forever + compiled.said.start..forever + compiled.said.end;
        let consent_words = forever + compiled.consent.start..forever + compiled.consent.end;
        let has_zones = compiled.reads.iter().any(|(read, _)| matches!(read, Read::Calendar { .. }));
        Self {
            fingerprint: fingerprint(profile, time, duplicates, features),
            layout: Layout::of(&compiled, !duplicates.horizon.is_zero()),
            on_change: profile.on_change,
            ttl,
            lateness,
            future_tolerance: micros(time.future_tolerance),
            apart_max,
            horizon: micros(duplicates.horizon),
            ids_max: duplicates.max_ids.into(),
            fresh,
            memberships,
            said,
            consent_words,
            consent: compiled.gate.take(),
            erasing,
            applied: Vec::new(),
            times: Vec::new(),
            zones: if has_zones { Zones::all() } else { Zones::default() },
            buffers: Buffers { clocks: vec![<[TileClock; 2]>::default(); compiled.groups.len()], ..Buffers::default() },
            compiled,
        }
    }

    /// The columns of the event that the features read.
    pub fn reads(&self) -> impl Iterator<Item = Slot> + '_ {
        self.compiled.before.reads().chain(self.compiled.after.reads())
    }

    /// The features in the order of their declaration.
    pub fn features(&self) -> &[Feature] {
        &self.compiled.features
    }

    /// The fingerprint of everything that determines the value of a feature.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The layout of its profiles.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What happens to profiles of another layout.
    pub fn on_change(&self) -> OnChange {
        self.on_change
    }

    /// Creates the conversion of profiles from another layout.
    pub fn carry(&self, from: &Layout) -> Carry {
        Carry::new(from, &self.layout, &self.compiled, &self.fresh)
    }

    /// The bytes of a profile, computed only from the declared features.
    pub fn profile_bytes(&self) -> ProfileBytes {
        // A realistic time, so that times and tile numbers pack into as many bytes as in production.
        const TIME: i64 = 1_800_000_000_123_456;
        let ids = |count: usize| if self.horizon > 0 { count * ID_WORDS } else { 0 };
        let mut words = self.fresh.clone();
        (words[NEWEST], words[FIRST]) = (TIME as u64, TIME as u64);
        let value = 12.5_f64.to_bits();
        let values: Vec<u64> = self.compiled.values.iter().map(|_| value).collect();
        let forever = HEADER + 1 + self.compiled.groups.len();
        self.compiled.forever.apply(0, &mut words[forever..], &|_| true, &values, TIME);
        let membership = Membership { entered_at: EventTime(TIME), expires_at: EventTime(TIME + Membership::LONGEST) };
        for words in words[self.memberships.clone()].chunks_exact_mut(Membership::WORDS) {
            Membership::write(Some(membership), words);
        }
        if !self.said.is_empty() {
            let prices = std::iter::repeat(1_250_000);
            Said::new(&mut words[self.said.clone()]).set(u64::MAX, EventTime(TIME), EventTime(TIME), prices);
        }
        if !self.consent_words.is_empty() {
            // Times of both kinds of choices, as they pack.
            words[self.consent_words.clone()].fill(TIME as u64);
        }
        words.extend((0..ids(1)).map(|_| TIME as u64));
        let without_tiles = self.fresh.len() + ids(self.ids_max);
        let (mut full, mut widest) = (without_tiles, without_tiles);
        for (number, group) in self.compiled.groups.iter().enumerate() {
            let at = (HEADER + 1 + number, words.len());
            let tile = TIME.div_euclid(group.tile);
            group.apply(&mut words, at, (TIME, tile, tile - group.tiles_max), &|_| true, &values);
            let tiles = (group.tiles_max + self.lateness / group.tile + 1) as usize;
            full += tiles * group.stride(Lane::default());
            widest += tiles * group.stride(Lane::WIDEST);
        }
        ProfileBytes {
            one_event: packed_bytes(&words),
            full: full * 8,
            user_max: user_bytes_max(widest),
            record_max: record_bytes_max(widest),
        }
    }

    /// Whether the newest event of an untrusted packed state lies far after the record that contains it was written. No
    /// event is accepted that is further ahead of its own record than `time.future_tolerance`; a year is allowed for
    /// clock differences.
    pub fn is_of_the_future(&self, state: &[u8], written_ms: i64) -> bool {
        let newest = PackedWords::new(state).word().unwrap_or_default() as i64;
        let latest = written_ms.saturating_mul(1_000).saturating_add(self.future_tolerance);
        newest > latest.saturating_add(YEAR_MICROS)
    }

    /// Whether an untrusted packed state is a valid profile of this engine's layout, so that events can be applied to
    /// it. Takes time linear in its actual size, whatever sizes it claims.
    pub fn fits(&self, state: &[u8]) -> bool {
        let mut words = PackedWords::new(state);
        let mut fixed = vec![0; self.fresh.len()];
        if !words.fill(&mut fixed) {
            return false;
        }
        let forever = HEADER + 1 + self.compiled.groups.len();
        let newest = fixed[NEWEST] as i64;
        is_header_sound(&fixed, self.horizon > 0)
            && self.compiled.forever.fit(0, &fixed[forever..], newest)
            && are_ids_sound(&mut words, fixed[IDS], newest)
            && self.compiled.groups.iter().zip(&fixed[HEADER + 1..]).all(|(group, run)| {
                // A run without tiles has no words to check.
                Run::checked(*run).is_some_and(|run| group.fit(run, &mut words, newest))
            })
            && words.is_at_end()
    }

    /// Converts a packed state from another layout to this one; `None` if it is not valid in its own layout.
    pub fn carry_over(&self, carry: &Carry, state: &[u8]) -> Option<Vec<u8>> {
        let words = carry.takes(state).then(|| unpack(state)).flatten()?;
        let state = pack(&carry.apply(&words)?);
        // Cells with the same name mean the same, so a profile that was invalid there is invalid here.
        self.fits(&state).then_some(state)
    }

    /// The outcome of each row of the last batch.
    pub fn applied(&self) -> &[Applied] {
        &self.applied
    }

    /// By row of the last batch: the partition's time including that row. Empty if profiles keep no memberships.
    pub fn partition_times(&self) -> &[Option<i64>] {
        &self.times
    }

    /// Where the words of the memberships are in a profile: [`Membership::WORDS`] each, in the order of their names.
    pub fn memberships(&self) -> Range<usize> {
        self.memberships.clone()
    }

    /// Where the words of [`Said`] are in a profile. Empty if profiles do not keep it.
    pub fn said(&self) -> Range<usize> {
        self.said.clone()
    }

    /// Whether decisions change profiles, after [`Self::process`].
    pub fn changes_later(&self) -> bool {
        !self.memberships.is_empty() || !self.said.is_empty() || self.checks_consent()
    }

    /// When the first membership in a profile ends.
    pub fn first_expiry(&self, words: &[u64]) -> Option<i64> {
        Membership::earliest(&words[self.memberships()]).map(|time| time.0)
    }

    /// The indexes of the memberships that a user has.
    pub fn held_memberships<'a>(&self, words: &'a [u64]) -> impl Iterator<Item = usize> + 'a {
        let all = words[self.memberships()].chunks_exact(Membership::WORDS).enumerate();
        all.filter(|(_, words)| Membership::read(words).is_some()).map(|(cell, _)| cell)
    }

    /// Cuts memberships short that would outlast their profile, and returns whether there were any. The TTL may have
    /// been longer when the user entered.
    pub fn bound_memberships(&self, words: &mut [u64]) -> bool {
        let last = EventTime((words[NEWEST] as i64).saturating_add(self.ttl));
        let mut has_changed = false;
        for words in words[self.memberships()].chunks_exact_mut(Membership::WORDS) {
            if let Some(membership) = Membership::read(words).filter(|it| it.expires_at > last) {
                Membership::write(Some(Membership { expires_at: last, ..membership }), words);
                has_changed = true;
            }
        }
        has_changed
    }

    /// Drops idle profiles if that is due. [`Self::process`] does it itself unless profiles change after it.
    pub fn sweep(&self, store: &mut Store) {
        self.sweep_erasures(store);
        store.sweep(self.ttl, |first, time| self.is_gone(first, time));
    }

    /// Whether a profile has expired at this time of its partition, whether or not it has been swept. `first` is the
    /// first word of the profile, its user's newest event time.
    pub fn is_gone(&self, first: u64, time: i64) -> bool {
        (first as i64) < time.saturating_sub(self.ttl)
    }

    /// Applies the batch row by row and fills the columns of all features.
    pub fn process(&mut self, batch: &mut EventBatch, stores: &mut impl Stores) {
        let rows = batch.len();
        self.applied.clear();
        self.times.clear();
        self.consent.iter_mut().for_each(ConsentRows::clear);
        if rows == 0 {
            return;
        }
        let keeps_memberships = !self.memberships.is_empty();
        let changes_later = self.changes_later();
        self.compiled.before.run(&mut batch.columns, rows);
        self.gather(batch, rows);
        self.erasing.find(batch);
        let width = self.compiled.reads.len();
        self.buffers.rows.clear();
        self.buffers.rows.resize(rows * width, f64::NAN);
        let mut at = 0;
        while at < rows {
            let partition = batch.positions[at].partition;
            let end = at + batch.positions[at..].iter().take_while(|position| position.partition == partition).count();
            let store = stores.store(partition);
            if keeps_memberships {
                store.begin_batch();
            }
            for first in (at..end).step_by(ROWS_WARMED) {
                let rows = first..end.min(first + ROWS_WARMED);
                store.warm(&batch.user_hashes[rows.clone()]);
                for row in rows {
                    let applied = self.apply(batch, row, store);
                    self.applied.push(applied);
                    if keeps_memberships {
                        self.times.push(store.clock().time());
                    }
                }
            }
            if !changes_later {
                self.sweep(store);
            }
            at = end;
        }
        for (_, slot) in &self.compiled.reads {
            batch.columns.get_mut(*slot).doubles_mut().clear();
        }
        // A block of rows stays in the cache while its columns are filled.
        for block in self.buffers.rows.chunks((ROWS_WARMED * width).max(1)) {
            for (index, (_, slot)) in self.compiled.reads.iter().enumerate() {
                batch.columns.get_mut(*slot).doubles_mut().extend(block[index..].iter().step_by(width));
            }
        }
        self.compiled.after.run(&mut batch.columns, rows);
        // Otherwise a derived feature of an event that was not counted would be computed from the event's fields only.
        for (row, applied) in self.applied.iter().enumerate() {
            if *applied != Applied::Counted {
                for feature in &self.compiled.features {
                    batch.columns.get_mut(feature.slot).doubles_mut()[row] = f64::NAN;
                }
            }
        }
    }

    /// Reads the features of a profile, in declaration order, as of its user's newest event: what an event at that time
    /// would see if no aggregate counted it. So a recency is 0 if that newest event counted for it, and derived
    /// features see no event fields.
    ///
    /// # Panics
    /// If the words do not have this engine's layout, or the columns do not belong to the scope it was compiled in.
    pub fn read(&mut self, words: &[u64], columns: &mut Columns) -> Vec<f64> {
        columns.clear();
        for slot in self.reads() {
            columns.get_mut(slot).resize(1);
        }
        let Self { compiled, buffers, zones, fresh, .. } = self;
        let time = words[NEWEST] as i64;
        let out = &mut buffers.rows;
        out.clear();
        out.resize(compiled.reads.len(), f64::NAN);
        read_before(compiled, words, time, out);
        read_forever(compiled, words, zones, time, out);
        let mut at = fresh.len() + words[IDS] as usize * ID_WORDS;
        for (number, group) in compiled.groups.iter().enumerate() {
            let run = Run::of(words[HEADER + 1 + number]);
            let end = at + group.words(run);
            let at_time = (time, time.div_euclid(group.tile));
            group.read_all(run, &words[at..end], at_time, &mut buffers.merged, out);
            at = end;
        }
        compiled.before.run(columns, 1);
        for ((_, slot), value) in compiled.reads.iter().zip(out) {
            let column = columns.get_mut(*slot).doubles_mut();
            column.clear();
            column.push(*value);
        }
        compiled.after.run(columns, 1);
        compiled.features.iter().map(|feature| columns.get(feature.slot).doubles()[0]).collect()
    }

    /// Returns the number of events that named an unknown time zone since the last call.
    pub fn take_unknown_zones(&mut self) -> u64 {
        self.zones.take_unknown()
    }

    /// The times of a profile's first and newest event.
    pub fn seen(words: &[u64]) -> (EventTime, EventTime) {
        (EventTime(words[FIRST] as i64), EventTime(words[NEWEST] as i64))
    }

    /// Transposes the columns of conditions and values into rows.
    fn gather(&mut self, batch: &EventBatch, rows: usize) {
        let Buffers { conditions, values, .. } = &mut self.buffers;
        let words = self.compiled.conditions.len().div_ceil(64);
        conditions.clear();
        conditions.resize(rows * words, 0);
        for (number, input) in self.compiled.conditions.iter().enumerate() {
            let column = batch.columns.get(input.slot).bools();
            for (row, truth) in column.iter().enumerate().take(rows) {
                conditions[row * words + number / 64] |= u64::from(truth.holds()) << (number % 64);
            }
        }
        let width = self.compiled.values.len();
        values.clear();
        values.resize(rows * width, f64::NAN.to_bits());
        let zones = &mut self.zones;
        for (number, Input { slot, ty, kind, .. }) in self.compiled.values.iter().enumerate() {
            let cells = values[number..].iter_mut().step_by(width);
            match batch.columns.get(*slot) {
                Column::Int(column) if *kind == InputKind::Ids => {
                    cells
                        .zip(column)
                        .filter(|(_, value)| **value != crate::columns::MISSING_INT)
                        .for_each(|(cell, value)| *cell = id_word(*value));
                }
                Column::String(column) if *kind == InputKind::Zones => {
                    let texts = &batch.columns.texts;
                    for (cell, text) in cells.zip(column) {
                        let hash = if text.is_missing() { None } else { zones.hash(texts.bytes(*text)) };
                        *cell = hash.unwrap_or(NO_TEXT);
                    }
                }
                Column::Double(column) => cells.zip(column).for_each(|(cell, value)| *cell = value.to_bits()),
                Column::Int(column) => {
                    // Durations and timestamps become seconds wherever they become numbers.
                    let unit = if matches!(ty, Type::Timestamp | Type::Duration) { SECOND } else { 1.0 };
                    cells
                        .zip(column)
                        .filter(|(_, value)| **value != crate::columns::MISSING_INT)
                        .for_each(|(cell, value)| *cell = (*value as f64 / unit).to_bits());
                }
                Column::Bool(column) => {
                    cells
                        .zip(column)
                        .filter(|(_, truth)| **truth != crate::columns::Truth::Missing)
                        .for_each(|(cell, truth)| *cell = f64::from(u8::from(truth.holds())).to_bits());
                }
                Column::String(column) => {
                    let texts = &batch.columns.texts;
                    let hash = |text| if Text::is_missing(text) { NO_TEXT } else { text_hash(texts.bytes(text)) };
                    cells.zip(column).for_each(|(cell, text)| *cell = hash(*text));
                }
            }
        }
    }

    fn apply(&mut self, batch: &EventBatch, row: usize, store: &mut Store) -> Applied {
        if self.erasing.is_next(row) {
            return self.erase(batch, row, store);
        }
        if !store.erasures().is_empty() && self.is_erased(batch, row, store) {
            return Applied::Erased;
        }
        let judged = self.judge(batch, row, store);
        if judged
            .as_ref()
            .is_some_and(|it| !it.may_write() && !it.is_remembered && !canary::is_in(Canary::RefusedWritten))
        {
            store.note_place(batch.positions[row].offset);
            return Applied::Withheld;
        }
        let basis = self.basis();
        let Self { compiled, buffers, zones, fresh, memberships, .. } = self;
        let Self { ttl, lateness, apart_max, horizon, ids_max, .. } = self;
        let time = batch.times[row].0;
        let id = batch.event_ids[row];
        let user = batch.columns.texts.bytes(batch.users[row]);
        let offset = batch.positions[row].offset;
        // A device's clock may be fast, so an event moves the partition's time no further than its record.
        let is_bounded = !canary::is_in(Canary::FastClockTrusted);
        let witnessed = if is_bounded { time.min(batch.logged_at[row].0) } else { time };
        let Some((words, partition_time)) = store.entry(batch.user_hashes[row], user, fresh, offset, witnessed) else {
            return Applied::Covered;
        };
        let newest = words[NEWEST] as i64;
        // A profile also expires by the user's own next event, if that comes long enough after the previous one.
        let now = partition_time.map_or(time, |it| it.max(time));
        if newest != NEVER && newest < now.saturating_sub(*ttl) {
            // The memberships have ended by then. The segments' decision reports it, as far as the last verdict permits.
            let ends = [basis.clone(), memberships.clone()];
            buffers.ends.clear();
            for range in ends {
                buffers.ends.extend_from_slice(&words[range]);
            }
            words.clear();
            words.extend_from_slice(fresh);
            let (kept_basis, kept_memberships) = buffers.ends.split_at(basis.len());
            words[basis.clone()].copy_from_slice(kept_basis);
            words[memberships.clone()].copy_from_slice(kept_memberships);
        }
        if let Some(judged) = &judged
            && !remember_consent(judged, words, fresh, basis.start..memberships.end, time)
        {
            return Applied::Withheld;
        }
        let ids_at = fresh.len();
        let newest = words[NEWEST] as i64;
        let id = (*horizon > 0 && !id.is_missing()).then(|| rapidhash::v3::rapidhash_v3(batch.columns.texts.bytes(id)));
        if let Some(id) = id {
            let ids = &words[ids_at..ids_at + words[IDS] as usize * ID_WORDS];
            // Expired ids are removed only when an event counts, so some from before the horizon may remain.
            let oldest = newest.max(time) - *horizon;
            if ids.chunks_exact(ID_WORDS).any(|known| known[1] == id && known[0] as i64 >= oldest) {
                return Applied::Duplicate;
            }
        }
        if newest != NEVER && time < newest.saturating_sub(*lateness) {
            return Applied::TooLate;
        }
        if newest != NEVER && time.saturating_sub(newest) >= *apart_max {
            // No window reaches an earlier tile, and the number of such a tile would be ambiguous.
            forget_tiles(compiled, words, ids_at);
        }
        let newest = newest.max(time);
        words[NEWEST] = newest as u64;
        if words[FIRST] as i64 == NEVER {
            words[FIRST] = time as u64;
        }
        if *horizon > 0 {
            remember(words, ids_at, id, time, newest - *horizon, *ids_max);
        }

        let condition_words = compiled.conditions.len().div_ceil(64);
        let mask = &buffers.conditions[row * condition_words..(row + 1) * condition_words];
        let meets = |condition: Option<usize>| condition.is_none_or(|it| mask[it / 64] >> (it % 64) & 1 == 1);
        let values = &buffers.values[row * compiled.values.len()..(row + 1) * compiled.values.len()];
        let out = &mut buffers.rows[row * compiled.reads.len()..(row + 1) * compiled.reads.len()];
        let forever_at = HEADER + 1 + compiled.groups.len();
        let forever = forever_at..forever_at + compiled.forever.words();

        read_before(compiled, words, time, out);
        compiled.forever.apply(0, &mut words[forever], &meets, values, time);
        read_forever(compiled, words, zones, time, out);
        let mut at = ids_at + words[IDS] as usize * ID_WORDS;
        for (number, group) in compiled.groups.iter().enumerate() {
            let [of_event, of_oldest] = &mut buffers.clocks[number];
            let tile = of_event.tile(time, group.tile);
            let oldest = of_oldest.tile(newest - *lateness, group.tile) - group.tiles_max;
            let run = group.apply(words, (HEADER + 1 + number, at), (time, tile, oldest), &meets, values);
            let end = at + group.words(run);
            group.read_all(run, &words[at..end], (time, tile), &mut buffers.merged, out);
            at = end;
        }
        Applied::Counted
    }
}

/// Whether the times and the number of ids at the start of an untrusted profile are valid.
pub(super) fn is_header_sound(words: &[u64], has_ids: bool) -> bool {
    let (newest, first) = (words[NEWEST] as i64, words[FIRST] as i64);
    let ids_max = if has_ids { IDS_MAX } else { 0 };
    is_event_time(newest) && (0..=newest).contains(&first) && words[IDS] <= ids_max
}

/// Whether `count` valid remembered ids come next.
pub(super) fn are_ids_sound(words: &mut PackedWords<'_>, count: u64, newest: i64) -> bool {
    (0..count).all(|_| {
        let time = words.word();
        time.is_some_and(|time| (0..=newest).contains(&(time as i64))) && words.word().is_some()
    })
}

/// Drops all tiles.
#[cold]
fn forget_tiles(compiled: &CompiledFeatures, words: &mut Vec<u64>, ids_at: usize) {
    words.truncate(ids_at + words[IDS] as usize * ID_WORDS);
    words[HEADER + 1..HEADER + 1 + compiled.groups.len()].fill(Run::default().word());
}

/// Reads values that applying an event at this time would change.
#[inline]
fn read_before(compiled: &CompiledFeatures, words: &[u64], time: i64, out: &mut [f64]) {
    let forever_at = HEADER + 1 + compiled.groups.len();
    for number in &compiled.reads_before {
        match compiled.reads[*number].0 {
            Read::Since { cell, within } => {
                let last = words[forever_at + cell] as i64;
                let since = time.saturating_sub(last).max(0);
                if last != NEVER && within.is_none_or(|within| since < within) {
                    out[*number] = since as f64 / SECOND;
                }
            }
            Read::Age => {
                let age = time - words[FIRST] as i64;
                // A late event from before the first event has no age.
                out[*number] = if age < 0 { f64::NAN } else { age as f64 / SECOND };
            }
            Read::Tiles { .. } | Read::Forever(_) | Read::Calendar { .. } => {}
        }
    }
}

/// Reads the cells over all events, and the calendar, after an event at this time has been applied.
#[inline]
fn read_forever(compiled: &CompiledFeatures, words: &[u64], zones: &mut Zones, time: i64, out: &mut [f64]) {
    let forever_at = HEADER + 1 + compiled.groups.len();
    let forever = forever_at..forever_at + compiled.forever.words();
    for number in &compiled.reads_forever {
        match &compiled.reads[*number].0 {
            Read::Forever(finalizer) => out[*number] = finalizer.value(&words[forever.clone()], time),
            // The most common calendar feature by far; it needs no calendar.
            Read::Calendar { what: Calendar::Hour, zone: None } => {
                out[*number] = (time.rem_euclid(DAY_MICROS) / HOUR_MICROS) as f64;
            }
            Read::Calendar { what, zone } => {
                out[*number] = zones.read(*what, time, zone.map(|cell| words[forever_at + cell + 1]));
            }
            Read::Tiles { .. } | Read::Since { .. } | Read::Age => {}
        }
    }
}

/// Adds an id to the remembered ones. Removes ids from before `oldest` and, beyond `ids_max`, the earliest ones. The
/// words behind the ids move only if the number of ids changes.
fn remember(words: &mut Vec<u64>, ids_at: usize, id: Option<u64>, time: i64, oldest: i64, ids_max: usize) {
    let count = words[IDS] as usize;
    let mut kept = 0;
    for index in 0..count {
        let at = ids_at + index * ID_WORDS;
        if words[at] as i64 >= oldest {
            if kept < index {
                words.copy_within(at..at + ID_WORDS, ids_at + kept * ID_WORDS);
            }
            kept += 1;
        }
    }
    if let Some(id) = id
        && time >= oldest
    {
        // More than one id is surplus if `ids_max` used to be larger.
        let surplus = (kept + 1).saturating_sub(ids_max);
        words.copy_within(ids_at + surplus * ID_WORDS..ids_at + kept * ID_WORDS, ids_at);
        kept -= surplus;
        let at = ids_at + kept * ID_WORDS;
        kept += 1;
        if kept > count {
            words.splice(at..at, [time as u64, id]);
        } else {
            words[at..at + ID_WORDS].copy_from_slice(&[time as u64, id]);
        }
    }
    if kept < count {
        words.drain(ids_at + kept * ID_WORDS..ids_at + count * ID_WORDS);
    }
    words[IDS] = kept as u64;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_ids_are_remembered_as_are_allowed_also_after_more_were() {
        // newest, first, ids | ids of times 1 to 4 | a word behind them.
        let mut words = vec![9, 1, 4, 1, 11, 2, 12, 3, 13, 4, 14, 77];
        remember(&mut words, 3, Some(15), 5, 0, 4);
        assert_eq!(words, [9, 1, 4, 2, 12, 3, 13, 4, 14, 5, 15, 77], "the earliest gives way");
        remember(&mut words, 3, Some(16), 6, 4, 4);
        assert_eq!(words, [9, 1, 3, 4, 14, 5, 15, 6, 16, 77], "what is before the horizon goes");
        remember(&mut words, 3, Some(17), 7, 0, 2);
        assert_eq!(words, [9, 1, 2, 6, 16, 7, 17, 77], "the bound was lowered");
        remember(&mut words, 3, None, 8, 0, 2);
        remember(&mut words, 3, Some(18), 8, 0, 3);
        assert_eq!(words, [9, 1, 3, 6, 16, 7, 17, 8, 18, 77], "and raised again");
    }
}
