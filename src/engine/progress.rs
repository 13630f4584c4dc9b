//! The account of a worker: what came in, and what became of it.

use super::{Detail, Health, Snapshot, View};
use crate::{event::RejectReason, inference::FallbackReason};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Why an event gets no decision by declaration: the closed set that metrics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SuppressReason {
    /// Further behind its user's newest event than `time.allowed_lateness`, where `time.too_late` is `drop`.
    TooLate,
    /// A bot's, where `input.bots` is `exclude`.
    Bot,
}

impl SuppressReason {
    /// All reasons.
    pub const ALL: [Self; 2] = [Self::TooLate, Self::Bot];

    /// The reason as metric labels have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLate => "too_late",
            Self::Bot => "bot",
        }
    }
}

/// The account of a batch. Every event is in exactly one of `decisions`, `duplicates`, `suppressed` and `dead_letters`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts {
    /// Events taken in: rows, and records that gave none.
    pub events: u64,
    /// Decisions written, those of a fallback included.
    pub decisions: u64,
    /// Of these, decisions without a usable score.
    pub fallbacks: u64,
    /// The same by reason, in the order of [`FallbackReason::ALL`].
    pub fallback_reasons: [u64; FallbackReason::ALL.len()],
    /// Events that came before.
    pub duplicates: u64,
    /// Events that get no decision by declaration, by reason.
    pub suppressed: Vec<(SuppressReason, u64)>,
    /// Records set aside, by reason.
    pub dead_letters: Vec<(RejectReason, u64)>,
    /// Events that were read again to rebuild profiles, with nothing written; in no other count.
    pub replayed: u64,
    /// Events that named a zone that there is not.
    pub unknown_zones: u64,
    /// What is shown beside the counts until the commit; none of it is in a sum of commits.
    pub detail: Detail,
}

impl Counts {
    /// Counts one more dead letter.
    pub fn dead_letter(&mut self, reason: RejectReason) {
        add(&mut self.dead_letters, reason, 1);
    }

    /// Counts events that get no decision for this reason.
    pub fn suppress(&mut self, reason: SuppressReason, count: u64) {
        add(&mut self.suppressed, reason, count);
    }

    /// All events that get no decision by declaration.
    pub fn suppressed_total(&self) -> u64 {
        self.suppressed.iter().map(|(_, count)| count).sum()
    }

    /// Counts one more decision without a usable score.
    pub fn fallback(&mut self, reason: FallbackReason) {
        self.fallbacks += 1;
        self.fallback_reasons[reason as usize] += 1;
    }

    /// Counts a decision that became a dead letter, because it is larger than its topic takes.
    pub fn set_aside(&mut self, fallback: Option<FallbackReason>) {
        self.decisions -= 1;
        if let Some(reason) = fallback {
            self.fallbacks -= 1;
            self.fallback_reasons[reason as usize] -= 1;
        }
        self.dead_letter(RejectReason::OutputTooLarge);
    }

    /// All dead letters.
    pub fn dead_letters_total(&self) -> u64 {
        self.dead_letters.iter().map(|(_, count)| count).sum()
    }

    /// The sum of the workers' accounts.
    pub fn of(accounts: &[Progress]) -> Self {
        let mut sum = Self::default();
        for account in accounts {
            sum.add(&account.counts());
        }
        sum
    }

    /// Adds another account.
    pub fn add(&mut self, other: &Self) {
        self.add_counts(other);
        self.detail.add(&other.detail);
    }

    fn add_counts(&mut self, other: &Self) {
        self.events += other.events;
        self.decisions += other.decisions;
        self.fallbacks += other.fallbacks;
        for (sum, count) in self.fallback_reasons.iter_mut().zip(other.fallback_reasons) {
            *sum += count;
        }
        self.duplicates += other.duplicates;
        self.replayed += other.replayed;
        self.unknown_zones += other.unknown_zones;
        for (reason, count) in &other.suppressed {
            add(&mut self.suppressed, *reason, *count);
        }
        for (reason, count) in &other.dead_letters {
            add(&mut self.dead_letters, *reason, *count);
        }
    }

    /// Empties the account and keeps its memory.
    pub fn clear(&mut self) {
        let mut dead_letters = std::mem::take(&mut self.dead_letters);
        let mut suppressed = std::mem::take(&mut self.suppressed);
        dead_letters.clear();
        suppressed.clear();
        let mut detail = std::mem::take(&mut self.detail);
        detail.clear();
        *self = Self { suppressed, dead_letters, detail, ..Self::default() };
    }
}

/// Adds to the count of a reason. A reason that does not occur is not in the list, and nothing is added for a zero.
fn add<R: Copy + PartialEq>(counts: &mut Vec<(R, u64)>, reason: R, count: u64) {
    match counts.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, sum)) => *sum += count,
        None if count > 0 => counts.push((reason, count)),
        None => {}
    }
}

/// What a worker has committed so far, to be read by other threads.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counts: std::sync::Mutex<Counts>,
    commits: AtomicU64,
    retries: AtomicU64,
    users: AtomicU64,
    health: Health,
    view: View,
}

impl Progress {
    /// Adds what a commit made final.
    pub fn committed(&self, counts: &Counts) {
        self.0.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add_counts(counts);
        self.0.commits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether it lives and moves, and what it restores.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// A copy of all that it shows beside the counts, with what only another thread can tell.
    pub fn snapshot(&self) -> Snapshot {
        let health = self.health();
        Snapshot { silent: health.silent_for(), is_behind: health.is_behind(), ..self.view().snapshot() }
    }

    /// What it shows beside the counts.
    pub fn view(&self) -> &View {
        &self.0.view
    }

    /// Counts a transaction that had to be made again.
    pub fn retried(&self) {
        self.0.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// Tells how many profiles are held.
    pub fn users(&self, users: u64) {
        self.0.users.store(users, Ordering::Relaxed);
    }

    /// The account of all commits.
    pub fn counts(&self) -> Counts {
        self.0.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// How many commits there were.
    pub fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }

    /// How many transactions had to be made again.
    pub fn retries(&self) -> u64 {
        self.0.retries.load(Ordering::Relaxed)
    }

    /// How many profiles are held.
    pub fn user_count(&self) -> u64 {
        self.0.users.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_that_its_topic_refuses_leaves_the_decisions_and_their_fallbacks() {
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
