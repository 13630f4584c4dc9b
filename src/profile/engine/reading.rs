//! Reads features from the words of a profile, except for those over tiles ([`super::super::tiles`]).

use super::{DAY_MICROS, HOUR_MICROS, ProfileEngine, SECOND};
use crate::{
    columns::Columns,
    profile::{
        HiddenFeature,
        cell::NEVER,
        compile::{Calendar, CompiledFeatures, Read},
        layout::{FIRST, HEADER, ID_WORDS, IDS, NEWEST},
        tiles::Run,
        zone::Zones,
    },
};

impl ProfileEngine {
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
        out.extend_from_slice(&compiled.reads.blank);
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
        for ((_, slot), value) in compiled.reads.all.iter().zip(out) {
            let column = columns.get_mut(*slot).doubles_mut();
            column.clear();
            column.push(*value);
        }
        compiled.after.run(columns, 1);
        compiled.features.iter().map(|feature| columns.get(feature.slot).doubles()[0]).collect()
    }

    /// What only targeting reads of the profile that [`Self::read`] has just read into these columns, such as the count behind
    /// a frequency cap; NaN if there is nothing.
    pub fn read_hidden<'a>(&'a self, columns: &'a Columns) -> impl Iterator<Item = (&'a HiddenFeature, f64)> + 'a {
        self.compiled.hidden.iter().map(|(hidden, slot)| (hidden, columns.get(*slot).doubles()[0]))
    }

    /// How many ids of events a profile remembers to tell duplicates. Each is a hash.
    pub fn remembered_ids(words: &[u64]) -> u64 {
        words[IDS]
    }
}

/// Reads again what only targeting reads over the tiles from `at` on, as of the user's newest event: whatever the time of a late
/// event, a cap is about what the user has seen by now.
#[cold]
pub(super) fn read_for_targeting(
    compiled: &CompiledFeatures,
    words: &[u64],
    (mut at, newest): (usize, i64),
    (again, merged): (&mut Vec<f64>, &mut Vec<u64>),
    out: &mut [f64],
) {
    again.clear();
    again.extend_from_slice(out);
    for (number, group) in compiled.groups.iter().enumerate() {
        let run = Run::of(words[HEADER + 1 + number]);
        let end = at + group.words(run);
        group.read_all(run, &words[at..end], (newest, newest.div_euclid(group.tile)), merged, again);
        at = end;
    }
    let first = compiled.reads.all.len() - compiled.hidden.len();
    out[first..].copy_from_slice(&again[first..]);
}

/// Reads values that applying an event at this time would change.
#[inline]
pub(super) fn read_before(compiled: &CompiledFeatures, words: &[u64], time: i64, out: &mut [f64]) {
    let forever_at = HEADER + 1 + compiled.groups.len();
    for number in &compiled.reads.before {
        match compiled.reads.all[*number].0 {
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
pub(super) fn read_forever(compiled: &CompiledFeatures, words: &[u64], zones: &mut Zones, time: i64, out: &mut [f64]) {
    let forever_at = HEADER + 1 + compiled.groups.len();
    let forever = forever_at..forever_at + compiled.forever.words();
    for number in &compiled.reads.forever {
        match &compiled.reads.all[*number].0 {
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
