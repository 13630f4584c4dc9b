//! Applies a batch of events to the profiles of their users and reads the features of each row.
//!
//! Guarantees: rows are applied in batch order, and the features of a row depend only on it and the earlier rows of its
//! partition. Limits: a user has at most `duplicates.max_ids` remembered ids and, for each tile width, tiles for the
//! longest window plus `time.allowed_lateness`. Tiles without events are not stored. Memory is allocated for an event
//! only when a profile grows.

mod admission;
mod erasure;
mod ids;
mod inputs;
mod limits;
mod names;
mod reading;
mod sizes;

pub use sizes::ProfileBytes;
pub(super) use sizes::{are_ids_sound, is_header_sound};

use super::{
    Carry, FeatureSpec, KeptForTargeting, Layout, OnChange, ProfileSpec,
    cell::NEVER,
    compile::{CompiledFeatures, Feature, Read},
    consent::ConsentRows,
    fingerprint::fingerprint,
    kept::KeptWords,
    layout::{FIRST, HEADER, ID_WORDS, IDS, NEWEST},
    membership::Membership,
    tiles::{Run, TileClock},
    zone::Zones,
};
use crate::{
    canary::{self, Canary},
    columns::Slot,
    config_error::ConfigError,
    event::{DuplicateSpec, EventBatch, EventTime, TimeSpec},
    expression::Scope,
    state::{Outlives, Store, Stores},
};
use admission::remember as remember_consent;
use erasure::Erasing;
use ids::remember;
use inputs::Inputs;
use limits::Limits;
pub use names::Meeting;
use names::Names;
use reading::{read_before, read_for_targeting, read_forever};
use std::{collections::HashSet, ops::Range};

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

/// The compiled features.
#[derive(Debug)]
pub struct ProfileEngine {
    compiled: CompiledFeatures,
    fingerprint: String,
    layout: Layout,
    limits: Limits,
    on_change: OnChange,
    /// The words of a user who has no event yet.
    fresh: Vec<u64>,
    /// Where the words that decisions need are in a profile.
    kept: KeptWords,
    consent: Option<ConsentRows>,
    erasing: Erasing,
    outcomes: Outcomes,
    zones: Zones,
    buffers: Buffers,
}

/// What became of the rows of the last batch.
#[derive(Debug, Default)]
struct Outcomes {
    /// By row.
    applied: Vec<Applied>,
    /// By row, while users move to other names: what was found of the user under the former one. Otherwise empty.
    meetings: Vec<Meeting>,
    /// The partitions and the hashes of the former names that were met in this batch.
    met: HashSet<(i32, u64)>,
    /// By row: the partition's time including that row. Empty if profiles keep no memberships.
    times: Vec<Option<i64>>,
}

impl Outcomes {
    fn clear(&mut self) {
        self.applied.clear();
        self.meetings.clear();
        self.met.clear();
        self.times.clear();
    }
}

/// Buffers reused from batch to batch.
#[derive(Debug, Default)]
struct Buffers {
    inputs: Inputs,
    /// By row: the aggregates, in the order of `CompiledFeatures::reads.all`.
    rows: Vec<f64>,
    /// The merged words of a window.
    merged: Vec<u64>,
    /// The aggregates of a late row, as of its user's newest event.
    late: Vec<f64>,
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
        let limits = Limits::compile(profile, time, duplicates, &compiled.groups, errors);
        let mut fresh = vec![0; HEADER + 1 + compiled.groups.len()];
        fresh[NEWEST] = NEVER as u64;
        fresh[FIRST] = NEVER as u64;
        fresh.extend_from_slice(compiled.forever.empty());
        let forever = HEADER + 1 + compiled.groups.len();
        let has_zones = compiled.reads.all.iter().any(|(read, _)| matches!(read, Read::Calendar { .. }));
        Self {
            fingerprint: fingerprint(profile, time, duplicates, features),
            layout: Layout::of(&compiled, !duplicates.horizon.is_zero()),
            limits,
            on_change: profile.on_change,
            fresh,
            kept: compiled.kept.behind(forever),
            consent: compiled.gate.take(),
            erasing,
            outcomes: Outcomes::default(),
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

    /// The outcome of each row of the last batch.
    pub fn applied(&self) -> &[Applied] {
        &self.outcomes.applied
    }

    /// By row of the last batch: the partition's time including that row. Empty if profiles keep no memberships.
    pub fn partition_times(&self) -> &[Option<i64>] {
        &self.outcomes.times
    }

    /// Where the words of the memberships are in a profile: [`Membership::WORDS`] each, in the order of their names.
    pub fn memberships(&self) -> Range<usize> {
        self.kept.memberships.clone()
    }

    /// Where the words of what was said are in a profile. Empty if profiles do not keep it.
    pub fn said(&self) -> Range<usize> {
        self.kept.said.clone()
    }

    /// Whether decisions change profiles, after [`Self::process`].
    pub fn changes_later(&self) -> bool {
        !self.kept.memberships.is_empty() || !self.kept.said.is_empty() || self.checks_consent()
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
        let last = EventTime((words[NEWEST] as i64).saturating_add(self.limits.ttl));
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
        let outlives: Outlives<'_> = &|words| self.outliving_choice(words);
        let outlives = self.checks_consent().then_some(outlives);
        store.sweep(self.limits.ttl, |first, time| self.is_gone(first, time), outlives);
    }

    /// Whether a profile has expired at this time of its partition, whether or not it has been swept. `first` is the
    /// first word of the profile, its user's newest event time.
    pub fn is_gone(&self, first: u64, time: i64) -> bool {
        (first as i64) < time.saturating_sub(self.limits.ttl)
    }

    /// Applies the batch row by row and fills the columns of all features.
    pub fn process(&mut self, batch: &mut EventBatch, stores: &mut impl Stores) {
        let rows = batch.len();
        self.outcomes.clear();
        self.consent.iter_mut().for_each(ConsentRows::clear);
        if rows == 0 {
            return;
        }
        let keeps_memberships = !self.kept.memberships.is_empty();
        let changes_later = self.changes_later();
        self.compiled.before.run(&mut batch.columns, rows);
        self.buffers.inputs.gather(&self.compiled, batch, rows, &mut self.zones);
        self.erasing.find(batch);
        let width = self.compiled.reads.all.len();
        self.buffers.rows.clear();
        (0..rows).for_each(|_| self.buffers.rows.extend_from_slice(&self.compiled.reads.blank));
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
                    self.outcomes.applied.push(applied);
                    if applied != Applied::Counted {
                        self.buffers.rows[row * width..(row + 1) * width].fill(f64::NAN);
                    }
                    if keeps_memberships {
                        self.outcomes.times.push(store.clock().time());
                    }
                }
            }
            if !changes_later {
                self.sweep(store);
            }
            at = end;
        }
        for (_, slot) in &self.compiled.reads.all {
            batch.columns.get_mut(*slot).doubles_mut().clear();
        }
        // A block of rows stays in the cache while its columns are filled.
        for block in self.buffers.rows.chunks((ROWS_WARMED * width).max(1)) {
            for (index, (_, slot)) in self.compiled.reads.all.iter().enumerate() {
                batch.columns.get_mut(*slot).doubles_mut().extend(block[index..].iter().step_by(width));
            }
        }
        self.compiled.after.run(&mut batch.columns, rows);
        // Otherwise a derived feature of an event that was not counted would be computed from the event's fields only.
        for (row, applied) in self.outcomes.applied.iter().enumerate() {
            if *applied != Applied::Counted {
                for feature in &self.compiled.features {
                    batch.columns.get_mut(feature.slot).doubles_mut()[row] = f64::NAN;
                }
            }
        }
    }

    /// Returns the number of events that named an unknown time zone since the last call.
    pub fn take_unknown_zones(&mut self) -> u64 {
        self.zones.take_unknown()
    }

    /// The times of a profile's first and newest event.
    pub fn seen(words: &[u64]) -> (EventTime, EventTime) {
        (EventTime(words[FIRST] as i64), EventTime(words[NEWEST] as i64))
    }

    fn apply(&mut self, batch: &EventBatch, row: usize, store: &mut Store) -> Applied {
        let names = Names::of(batch, row, store);
        if !batch.others.is_empty() {
            self.meet(batch, row, &names, store);
        }
        if self.erasing.is_next(row) {
            return self.erase(batch, row, &names, store);
        }
        if !store.erasures().is_empty() && self.is_erased(batch, row, &names, store) {
            return Applied::Erased;
        }
        let judged = self.judge(batch, row, &names, store);
        if judged
            .as_ref()
            .is_some_and(|it| !it.may_write() && !it.is_remembered && !canary::is_in(Canary::RefusedWritten))
        {
            store.note_place(batch.positions[row].offset);
            return Applied::Withheld;
        }
        let Self { compiled, buffers, zones, fresh, kept, consent, .. } = self;
        let Limits { ttl, lateness, apart_max, horizon, ids_max, .. } = self.limits;
        let (basis, memberships) = (kept.basis(), kept.memberships.clone());
        let time = batch.times[row].0;
        let id = batch.event_ids[row];
        let (hash, user) = names.profile;
        let offset = batch.positions[row].offset;
        // A device's clock may be fast, so an event moves the partition's time no further than its record.
        let is_bounded = !canary::is_in(Canary::FastClockTrusted);
        let witnessed = if is_bounded { time.min(batch.logged_at[row].0) } else { time };
        let witness = (names.own.0, witnessed);
        let Some((words, partition_time)) = store.entry_of(hash, user, fresh, offset, witness) else {
            return Applied::Covered;
        };
        let newest = words[NEWEST] as i64;
        // A profile also expires by the user's own next event, if that comes long enough after the previous one.
        let now = partition_time.map_or(time, |it| it.max(time));
        if newest != NEVER && newest < now.saturating_sub(ttl) {
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
        if let (Some(judged), Some(consent)) = (&judged, consent) {
            consent.compare_basis(hash, &words[basis.clone()]);
            if !remember_consent(judged, words, fresh, basis.start..memberships.end, time) {
                return Applied::Withheld;
            }
        }
        let ids_at = fresh.len();
        let newest = words[NEWEST] as i64;
        let hash_of = |id| rapidhash::v3::rapidhash_v3(batch.columns.texts.bytes(id));
        let id = (horizon > 0 && !id.is_missing()).then(|| hash_of(id));
        if let Some(id) = id {
            // While the key of pseudonyms changes, the id may have been remembered by the other one.
            let other = batch.others.get(row).filter(|other| !other.event_id.is_missing());
            let other = other.map_or(id, |other| hash_of(other.event_id));
            let ids = &words[ids_at..ids_at + words[IDS] as usize * ID_WORDS];
            // Expired ids are removed only when an event counts, so some from before the horizon may remain.
            let oldest = newest.max(time) - horizon;
            if ids
                .chunks_exact(ID_WORDS)
                .any(|known| (known[1] == id || known[1] == other) && known[0] as i64 >= oldest)
            {
                return Applied::Duplicate;
            }
        }
        if newest != NEVER && time < newest.saturating_sub(lateness) {
            return Applied::TooLate;
        }
        if newest != NEVER && time.saturating_sub(newest) >= apart_max {
            // No window reaches an earlier tile, and the number of such a tile would be ambiguous.
            forget_tiles(compiled, words, ids_at);
        }
        let newest = newest.max(time);
        words[NEWEST] = newest as u64;
        if words[FIRST] as i64 == NEVER {
            words[FIRST] = time as u64;
        }
        if horizon > 0 {
            remember(words, ids_at, id, time, newest - horizon, ids_max);
        }

        let (met, values) = buffers.inputs.of(compiled, row);
        let out = &mut buffers.rows[row * compiled.reads.all.len()..(row + 1) * compiled.reads.all.len()];
        let forever_at = HEADER + 1 + compiled.groups.len();
        let forever = forever_at..forever_at + compiled.forever.words();

        read_before(compiled, words, time, out);
        compiled.forever.apply(0, &mut words[forever], met, values, time);
        read_forever(compiled, words, zones, time, out);
        let mut at = ids_at + words[IDS] as usize * ID_WORDS;
        let tiles_at = at;
        for (number, group) in compiled.groups.iter().enumerate() {
            let [of_event, of_oldest] = &mut buffers.clocks[number];
            let tile = of_event.tile(time, group.tile);
            let oldest = of_oldest.tile(newest - lateness, group.tile) - group.tiles_max;
            let run = group.apply(words, (HEADER + 1 + number, at), (time, tile, oldest), met, values);
            let end = at + group.words(run);
            group.read_all(run, &words[at..end], (time, tile), &mut buffers.merged, out);
            at = end;
        }
        if time < newest && !compiled.hidden.is_empty() {
            read_for_targeting(compiled, words, (tiles_at, newest), (&mut buffers.late, &mut buffers.merged), out);
        }
        Applied::Counted
    }
}

/// Drops all tiles.
#[cold]
fn forget_tiles(compiled: &CompiledFeatures, words: &mut Vec<u64>, ids_at: usize) {
    words.truncate(ids_at + words[IDS] as usize * ID_WORDS);
    words[HEADER + 1..HEADER + 1 + compiled.groups.len()].fill(Run::default().word());
}
