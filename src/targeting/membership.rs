//! How events and time change a user's memberships.
//!
//! An event at its own time t applies these steps, in this order. A membership that ends at or before t expires. One
//! whose exit rule holds ends. One that is excluded ends. Then the entry rule lets the user in, or moves the end of a
//! membership to t plus its duration if that is later. A late event therefore never shortens a membership. Nobody
//! enters at an event at which the exit rule holds, or at one so late that the new membership would already be over by
//! the partition's time. Thus no user reaches the same deadline twice.
//!
//! Without `exit`, a user leaves when the entry rule does not hold. `duration` then only limits how long a user without
//! events stays in. For memberships that outlive events at which the entry rule does not hold, set `exit = "false"` or
//! an exit rule: "bought in the last 30 days" is `where = 'event_type == "purchase"'`, `exit = "false"`,
//! `duration = "30d"`.
//!
//! Between events, [`Segments::expire`] ends memberships that are over at the time that the caller passes. It evaluates
//! no rules: a user who was kept out of a segment by an ended membership stays out until the user's next event.
//!
//! Guarantees: memberships depend only on the rules at the user's events, in the order of the partition, and on these
//! times. Nothing is allocated once the buffers have grown.

use super::{Segment, Segments};
use crate::{
    canary::{self, Canary},
    columns::{Columns, Slot},
    event::EventTime,
    profile::Membership,
};

/// The part of a segment that makes memberships outlive their event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lasting {
    /// The index of its cell in a profile.
    pub(super) cell: usize,
    pub(super) exit: Exit,
    /// How long a membership lasts after the last event at which the entry rule held, in microseconds.
    pub(super) duration: i64,
}

/// When an event ends a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    /// The entry rule does not hold.
    EntryFails,
    /// The rule with this column holds.
    Rule(Slot),
}

/// A segment that a user is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InSegment {
    /// The segment's number.
    pub number: usize,
    /// The membership, and whether the user has just entered. `None` for a momentary segment.
    pub stay: Option<(Membership, bool)>,
}

/// Why a membership has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LeaveReason {
    /// The membership has expired.
    Expired,
    /// The exit rule held or, without one, the entry rule did not.
    ExitRule,
    /// The user is in a segment that excludes it.
    Excluded,
}

impl LeaveReason {
    /// The name in `aimpoint.v1`, which is also the JSON form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "LEAVE_REASON_EXPIRED",
            Self::ExitRule => "LEAVE_REASON_EXIT_RULE",
            Self::Excluded => "LEAVE_REASON_EXCLUDED",
        }
    }
}

/// A segment that a user has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftSegment {
    /// The segment's number.
    pub number: usize,
    /// The membership that has ended.
    pub was: Membership,
    /// The reason.
    pub reason: LeaveReason,
}

/// The outcome for one user. It is reused from row to row.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The segments that the user is in, in the order of the decision and cut to its maximum.
    pub now: Vec<InSegment>,
    /// The segments that the user has just left.
    pub left: Vec<LeftSegment>,
    /// Whether a membership has begun.
    pub has_entered: bool,
    /// By segment: the user's place in it, if the user is in. Empty if all segments are in `now`, and after an expiry.
    places: Vec<Option<InSegment>>,
}

impl Found {
    /// The lasting segments that the user has just entered or left, each with whether the user has entered. Also those
    /// that do not fit the decision.
    pub fn changes(&self) -> impl Iterator<Item = (usize, bool)> + '_ {
        let new = self.places.iter().flatten().filter(|it| matches!(it.stay, Some((_, true))));
        self.left.iter().map(|left| (left.number, false)).chain(new.map(|it| (it.number, true)))
    }

    /// The numbers of all segments that the user is in, including those that do not fit the decision.
    pub fn all(&self) -> impl Iterator<Item = usize> + '_ {
        let uncut = self.places.iter().flatten().map(|segment| segment.number);
        let cut = self.now.iter().map(|segment| segment.number).filter(|_| self.places.is_empty());
        uncut.chain(cut)
    }
}

impl Segments {
    /// Decides which segments the user of a row is in, after [`Segments::run`]. The event has this time, and everything
    /// up to `passed` is already over. Changes `memberships`, the words of the user's memberships. They are empty
    /// without lasting segments.
    pub fn decide(
        &self,
        columns: &Columns,
        row: usize,
        (time, passed): (EventTime, Option<EventTime>),
        memberships: &mut [u64],
        found: &mut Found,
    ) {
        let holds = |slot: Slot| columns.get(slot).bools()[row].holds();
        found.now.clear();
        found.left.clear();
        found.has_entered = false;
        if self.is_plain {
            let now = self.ranked.iter().filter(|number| holds(self.all[**number].slot));
            found.now.extend(now.take(self.max).map(|number| InSegment { number: *number, stay: None }));
            return;
        }
        found.places.clear();
        found.places.resize(self.all.len(), None);
        for number in self.decided.iter().copied() {
            let Segment { slot, lasting, unless, .. } = &self.all[number];
            let enters = holds(*slot);
            let is_excluded = unless.iter().any(|other| found.places[*other].is_some());
            let Some(Lasting { cell, exit, duration }) = lasting else {
                found.places[number] = (enters && !is_excluded).then_some(InSegment { number, stay: None });
                continue;
            };
            let words = &mut memberships[cell * Membership::WORDS..][..Membership::WORDS];
            let exits = match exit {
                Exit::EntryFails => !enters,
                Exit::Rule(slot) => holds(*slot),
            };
            let before = Membership::read(words);
            let is_late = |was: Membership| time < was.entered_at && canary::is_in(Canary::ExitIgnoredWhenLate);
            let reason = match before {
                Some(was) if was.expires_at <= time => Some(LeaveReason::Expired),
                Some(was) if exits && !is_late(was) => Some(LeaveReason::ExitRule),
                Some(_) if is_excluded && !canary::is_in(Canary::ExclusionIgnored) => Some(LeaveReason::Excluded),
                _ => None,
            };
            if let (Some(was), Some(reason)) = (before, reason) {
                found.left.push(LeftSegment { number, was, reason });
            }
            let kept = before.filter(|_| reason.is_none());
            let now = if enters && !exits && !is_excluded {
                let expires_at = EventTime(time.0.saturating_add(*duration));
                match kept {
                    Some(kept) if canary::is_in(Canary::LateEventShortens) => Some(Membership { expires_at, ..kept }),
                    Some(kept) => Some(Membership { expires_at: kept.expires_at.max(expires_at), ..kept }),
                    None => Some(Membership { entered_at: time, expires_at }).filter(|it| Some(it.expires_at) > passed),
                }
            } else {
                kept
            };
            let is_new = kept.is_none() && now.is_some();
            found.has_entered |= is_new;
            if now != before {
                Membership::write(now, words);
            }
            found.places[number] = now.map(|now| InSegment { number, stay: Some((now, is_new)) });
        }
        let now = self.ranked.iter().filter_map(|number| found.places[*number]);
        found.now.extend(now.take(self.max));
    }

    /// The memberships in a user's words, each with its segment.
    pub fn memberships_in<'a>(&'a self, words: &'a [u64]) -> impl Iterator<Item = (&'a Segment, Membership)> {
        self.all.iter().filter_map(|segment| {
            let Lasting { cell, .. } = segment.lasting.as_ref()?;
            let membership = Membership::read(words.get(cell * Membership::WORDS..)?.get(..Membership::WORDS)?)?;
            Some((segment, membership))
        })
    }

    /// Ends the memberships that are over at this time, and lists those that remain. Returns whether any ended.
    pub fn expire(&self, time: EventTime, memberships: &mut [u64], found: &mut Found) -> bool {
        found.now.clear();
        found.left.clear();
        found.places.clear();
        found.has_entered = false;
        for number in self.ranked.iter().copied() {
            let Some(Lasting { cell, .. }) = self.all[number].lasting else { continue };
            let words = &mut memberships[cell * Membership::WORDS..][..Membership::WORDS];
            match Membership::read(words) {
                Some(was) if was.expires_at <= time => {
                    Membership::write(None, words);
                    found.left.push(LeftSegment { number, was, reason: LeaveReason::Expired });
                }
                Some(kept) if found.now.len() < self.max => {
                    found.now.push(InSegment { number, stay: Some((kept, false)) });
                }
                _ => {}
            }
        }
        !found.left.is_empty()
    }
}
