//! Counts of what came in and what became of it.

use super::{Detail, Progress};
use crate::{
    decision::emission::Silence,
    event::RejectReason,
    inference::FallbackReason,
    metrics::{
        self,
        families::{
            CONSENT_REFUSED, DEAD_LETTERS, ERASURES_DROPPED, EVENTS, EXPIRED_MEMBERSHIPS, FALLBACKS, SUPPRESSED,
            UNKNOWN_ZONES, USERS_RENAMED,
        },
    },
    privacy::consent::{Activity, Verdict},
};

/// Why the configuration asks for no decision about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SuppressReason {
    /// Later than `time.allowed_lateness`, where `time.too_late` is `drop`.
    TooLate,
    /// Sent by a bot, where `input.bots` is `exclude`.
    Bot,
    /// Readers know the decision already, where `emission.on` is `change`.
    Unchanged,
    /// Readers were told something less than `emission.every` ago.
    TooSoon,
    /// The user does not consent to training, in an export.
    NoConsent,
    /// From before the user's erasure.
    Erased,
}

impl From<Silence> for SuppressReason {
    fn from(silence: Silence) -> Self {
        match silence {
            Silence::Unchanged => Self::Unchanged,
            Silence::TooSoon => Self::TooSoon,
        }
    }
}

impl SuppressReason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::TooLate, Self::Bot, Self::Unchanged, Self::TooSoon, Self::NoConsent, Self::Erased];

    /// The reason as a metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLate => "too_late",
            Self::Bot => "bot",
            Self::Unchanged => "unchanged",
            Self::TooSoon => "too_soon",
            Self::NoConsent => "no_consent",
            Self::Erased => "erased",
        }
    }
}

/// What is counted beside the events of a batch. None of it is in another count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Events replayed to rebuild profiles. Nothing is written for them.
    pub replayed: u64,
    /// Decisions about memberships that ended without an event.
    pub expired: u64,
    /// Users whose profiles moved to the pseudonym of another key.
    pub moved: u64,
    /// Notes of erasures that were dropped because there were too many.
    pub erasures_dropped: u64,
}

impl Beside {
    fn add(&mut self, other: &Self) {
        self.replayed += other.replayed;
        self.expired += other.expired;
        self.moved += other.moved;
        self.erasures_dropped += other.erasures_dropped;
    }
}

/// The counts of a batch. Every event is in exactly one of `decisions`, `duplicates`, `suppressed`, `erasures` and
/// `dead_letters`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Events read: rows, plus records that yielded none.
    pub events: u64,
    /// Decisions written, fallbacks included.
    pub decisions: u64,
    /// Decisions without a usable score.
    pub fallbacks: u64,
    /// Fallbacks by reason, in the order of [`FallbackReason::ALL`].
    pub fallback_reasons: [u64; FallbackReason::ALL.len()],
    /// Events seen before.
    pub duplicates: u64,
    /// Events that get no decision because the configuration says so, by reason.
    pub suppressed: Vec<(SuppressReason, u64)>,
    /// Refusals of consent, by activity and reason. A decision may have several.
    pub refused: Vec<((Activity, &'static str), u64)>,
    /// Dead letters, by reason.
    pub dead_letters: Vec<(RejectReason, u64)>,
    /// Requests to erase a user.
    pub erasures: u64,
    /// Events that named an unknown time zone.
    pub unknown_zones: u64,
    /// What is no event of the batch.
    pub beside: Beside,
    /// Timings and scores of the batch. [`Progress`] does not add them up.
    pub detail: Detail,
}

impl Counts {
    /// Counts one more dead letter.
    pub fn dead_letter(&mut self, reason: RejectReason) {
        add(&mut self.dead_letters, reason, 1);
    }

    /// Counts events that get no decision, for this reason.
    pub fn suppress(&mut self, reason: SuppressReason, count: u64) {
        add(&mut self.suppressed, reason, count);
    }

    /// Counts what a verdict on an event's consent refuses.
    pub fn consent(&mut self, verdict: &Verdict) {
        for activity in verdict.permissions.complement().iter() {
            if let Some(reason) = verdict.basis.reason(activity).suppression() {
                add(&mut self.refused, (activity, reason), 1);
            }
        }
    }

    /// All suppressed events.
    pub fn suppressed_total(&self) -> u64 {
        self.suppressed.iter().map(|(_, count)| count).sum()
    }

    /// Counts one more decision without a usable score.
    pub fn fallback(&mut self, reason: FallbackReason) {
        self.fallbacks += 1;
        self.fallback_reasons[reason as usize] += 1;
    }

    /// Turns a decision into a dead letter because it is too large for its topic.
    pub fn set_aside(&mut self, fallback: Option<FallbackReason>) {
        self.decisions -= 1;
        if let Some(reason) = fallback {
            self.fallbacks -= 1;
            self.fallback_reasons[reason as usize] -= 1;
        }
        self.dead_letter(RejectReason::OutputTooLarge);
    }

    /// Like [`Counts::set_aside`], for a decision about memberships that ended without an event.
    pub fn set_aside_expiry(&mut self) {
        self.beside.expired -= 1;
        self.dead_letter(RejectReason::OutputTooLarge);
    }

    /// All dead letters.
    pub fn dead_letters_total(&self) -> u64 {
        self.dead_letters.iter().map(|(_, count)| count).sum()
    }

    /// The sum of all workers' counts.
    pub fn of(workers: &[Progress]) -> Self {
        let mut sum = Self::default();
        for worker in workers {
            sum.add(&worker.counts());
        }
        sum
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        self.add_counts(other);
        self.detail.add(&other.detail);
    }

    /// Adds other counts without their detail.
    pub(super) fn add_counts(&mut self, other: &Self) {
        self.events += other.events;
        self.decisions += other.decisions;
        self.fallbacks += other.fallbacks;
        for (sum, count) in self.fallback_reasons.iter_mut().zip(other.fallback_reasons) {
            *sum += count;
        }
        self.duplicates += other.duplicates;
        self.erasures += other.erasures;
        self.unknown_zones += other.unknown_zones;
        self.beside.add(&other.beside);
        for (reason, count) in &other.suppressed {
            add(&mut self.suppressed, *reason, *count);
        }
        for (refusal, count) in &other.refused {
            add(&mut self.refused, *refusal, *count);
        }
        for (reason, count) in &other.dead_letters {
            add(&mut self.dead_letters, *reason, *count);
        }
    }

    /// Adds these counts to the metrics of the process.
    pub fn record(&self) {
        // These counts start at 0, so zero needs no lookup.
        let add = |family, label: &[&str], count| {
            if count > 0 {
                metrics::add(family, label, count);
            }
        };
        for (outcome, count) in [
            ("decision", self.decisions - self.fallbacks),
            ("fallback", self.fallbacks),
            ("duplicate", self.duplicates),
            ("suppressed", self.suppressed_total()),
            ("erasure", self.erasures),
            ("replayed", self.beside.replayed),
        ] {
            add(&EVENTS, &[outcome], count);
        }
        for (reason, count) in FallbackReason::ALL.iter().zip(self.fallback_reasons) {
            add(&FALLBACKS, &[reason.as_str()], count);
        }
        for (reason, count) in &self.dead_letters {
            add(&DEAD_LETTERS, &[reason.as_str()], *count);
        }
        for (reason, count) in &self.suppressed {
            add(&SUPPRESSED, &[reason.as_str()], *count);
        }
        for ((activity, reason), count) in &self.refused {
            add(&CONSENT_REFUSED, &[activity.name(), reason], *count);
        }
        add(&UNKNOWN_ZONES, &[], self.unknown_zones);
        add(&EXPIRED_MEMBERSHIPS, &[], self.beside.expired);
        add(&ERASURES_DROPPED, &[], self.beside.erasures_dropped);
        add(&USERS_RENAMED, &[], self.beside.moved);
    }

    /// Resets all counts but keeps the memory.
    pub fn clear(&mut self) {
        let mut dead_letters = std::mem::take(&mut self.dead_letters);
        let mut suppressed = std::mem::take(&mut self.suppressed);
        let mut refused = std::mem::take(&mut self.refused);
        dead_letters.clear();
        suppressed.clear();
        refused.clear();
        let mut detail = std::mem::take(&mut self.detail);
        detail.clear();
        *self = Self { suppressed, refused, dead_letters, detail, ..Self::default() };
    }
}

/// Adds to the count of a reason. The list holds only reasons that occurred.
fn add<R: Copy + PartialEq>(counts: &mut Vec<(R, u64)>, reason: R, count: u64) {
    match counts.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, sum)) => *sum += count,
        None if count > 0 => counts.push((reason, count)),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_declare_every_reason() {
        assert!(DEAD_LETTERS.values.iter().eq(RejectReason::ALL.map(RejectReason::as_str).iter()));
        assert!(FALLBACKS.values.iter().eq(FallbackReason::ALL.map(FallbackReason::as_str).iter()));
        assert!(SUPPRESSED.values.iter().eq(SuppressReason::ALL.map(SuppressReason::as_str).iter()));
    }

    #[test]
    fn a_decision_that_is_set_aside_is_subtracted_from_decisions_and_fallbacks() {
        let mut counts = Counts { events: 4, decisions: 4, ..Counts::default() };
        counts.fallback(FallbackReason::Late);
        counts.fallback(FallbackReason::Failed);
        counts.set_aside(Some(FallbackReason::Late));
        counts.set_aside(None);
        assert_eq!((counts.events, counts.decisions, counts.fallbacks), (4, 2, 1));
        assert_eq!(counts.fallback_reasons.iter().sum::<u64>(), 1);
        assert_eq!(counts.fallback_reasons[FallbackReason::Failed as usize], 1);
        assert_eq!(counts.dead_letters, [(RejectReason::OutputTooLarge, 2)]);
    }
}
