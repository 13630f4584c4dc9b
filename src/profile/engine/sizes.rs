//! The sizes of profiles, and whether an untrusted profile is one of this engine.

use super::{ProfileEngine, YEAR_MICROS};
use crate::{
    event::EventTime,
    profile::{
        Carry,
        layout::{FIRST, HEADER, ID_WORDS, IDS, IDS_MAX, Met, NEWEST},
        membership::Membership,
        said::Said,
        tiles::{Lane, Run},
    },
    state::{PackedWords, is_event_time, pack, packed_bytes, record_bytes_max, unpack, user_bytes_max},
};

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

impl ProfileEngine {
    /// The bytes of a profile, computed only from the declared features.
    pub fn profile_bytes(&self) -> ProfileBytes {
        // A realistic time, so that times and tile numbers pack into as many bytes as in production.
        const TIME: i64 = 1_800_000_000_123_456;
        let ids = |count: usize| if self.limits.horizon > 0 { count * ID_WORDS } else { 0 };
        let mut words = self.fresh.clone();
        (words[NEWEST], words[FIRST]) = (TIME as u64, TIME as u64);
        let value = 12.5_f64.to_bits();
        let values: Vec<u64> = self.compiled.values.iter().map(|_| value).collect();
        let all = vec![u64::MAX; self.compiled.conditions.len().div_ceil(64)];
        let forever = HEADER + 1 + self.compiled.groups.len();
        self.compiled.forever.apply(0, &mut words[forever..], Met(&all), &values, TIME);
        let membership = Membership { entered_at: EventTime(TIME), expires_at: EventTime(TIME + Membership::LONGEST) };
        for words in words[self.kept.memberships.clone()].chunks_exact_mut(Membership::WORDS) {
            Membership::write(Some(membership), words);
        }
        if !self.kept.said.is_empty() {
            let prices = std::iter::repeat(1_250_000);
            Said::new(&mut words[self.kept.said.clone()]).set(u64::MAX, EventTime(TIME), EventTime(TIME), prices);
        }
        if !self.kept.consent.is_empty() {
            // Times of both kinds of choices, as they pack.
            words[self.kept.consent.clone()].fill(TIME as u64);
        }
        words.extend((0..ids(1)).map(|_| TIME as u64));
        let without_tiles = self.fresh.len() + ids(self.limits.ids_max);
        let (mut full, mut widest) = (without_tiles, without_tiles);
        for (number, group) in self.compiled.groups.iter().enumerate() {
            let at = (HEADER + 1 + number, words.len());
            let tile = TIME.div_euclid(group.tile);
            group.apply(&mut words, at, (TIME, tile, tile - group.tiles_max), Met(&all), &values);
            let tiles = (group.tiles_max + self.limits.lateness / group.tile + 1) as usize;
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
        let latest = written_ms.saturating_mul(1_000).saturating_add(self.limits.future_tolerance);
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
        is_header_sound(&fixed, self.limits.horizon > 0)
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
}

/// Whether the times and the number of ids at the start of an untrusted profile are valid.
pub(in crate::profile) fn is_header_sound(words: &[u64], has_ids: bool) -> bool {
    let (newest, first) = (words[NEWEST] as i64, words[FIRST] as i64);
    let ids_max = if has_ids { IDS_MAX } else { 0 };
    is_event_time(newest) && (0..=newest).contains(&first) && words[IDS] <= ids_max
}

/// Whether `count` valid remembered ids come next.
pub(in crate::profile) fn are_ids_sound(words: &mut PackedWords<'_>, count: u64, newest: i64) -> bool {
    (0..count).all(|_| {
        let time = words.word();
        time.is_some_and(|time| (0..=newest).contains(&(time as i64))) && words.word().is_some()
    })
}
