//! Detects that no broker answers, which a worker without partitions would not notice otherwise: it has no records that could
//! wait.
//!
//! A member of a group asks for something every few seconds, whether it has partitions or not, so that a long time without an answer
//! means that the brokers are gone, or that the client has lost them. The limit is that of stalls, for the same reasons: warn in
//! half of the time, and end after all of it. Limits: a client that does not count answers is not watched; and a group whose
//! coordinator alone is gone looks well, because other brokers answer.

use super::StallAction;
use std::time::Duration;

/// The most time that counts between two reports. A worker that did something else meanwhile has not listened, so that this says
/// nothing about the brokers.
const GAP_MAX: Duration = Duration::from_secs(10);

/// For how long no broker has answered.
#[derive(Debug)]
pub(crate) struct ContactWatch {
    limit: Duration,
    answers: u64,
    /// When the client last reported; `None` before the first time.
    reported_at: Option<Duration>,
    silent: Duration,
    is_warned: bool,
}

impl ContactWatch {
    /// For a worker that ends after this time without an answer.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, answers: 0, reported_at: None, silent: Duration::ZERO, is_warned: false }
    }

    /// Takes in how many answers the client has had so far.
    pub(crate) fn report(&mut self, now: Duration, answers: u64) {
        let since = now.saturating_sub(self.reported_at.replace(now).unwrap_or(now));
        if answers == self.answers {
            self.silent += since.min(GAP_MAX);
        } else {
            self.answers = answers;
            self.silent = Duration::ZERO;
            self.is_warned = false;
        }
    }

    /// Whether a broker has not answered for half of the limit.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent >= self.limit / 2
    }

    /// What to do. Warns once.
    pub(crate) fn check(&mut self) -> StallAction {
        if self.silent >= self.limit {
            StallAction::Stop(self.silent)
        } else if self.is_silent() && !std::mem::replace(&mut self.is_warned, true) {
            StallAction::Warn
        } else {
            StallAction::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_worker_without_answers_warns_once_and_ends_in_time() {
        let mut watch = ContactWatch::new(seconds(60));
        assert_eq!(watch.check(), StallAction::None, "its client has reported nothing");
        for second in 0..=60 {
            watch.report(seconds(500 + second), 0);
            let action = match second {
                30 => StallAction::Warn,
                60 => StallAction::Stop(seconds(60)),
                _ => StallAction::None,
            };
            assert_eq!(watch.check(), action, "{second}");
            assert_eq!(watch.is_silent(), second >= 30);
        }
    }

    #[test]
    fn an_answer_starts_the_time_again() {
        let mut watch = ContactWatch::new(seconds(60));
        for second in 0..500 {
            watch.report(seconds(second), second / 40);
            assert!(!matches!(watch.check(), StallAction::Stop(_)), "{second}");
        }
        watch.report(seconds(500), 100);
        assert!(!watch.is_silent());
    }

    #[test]
    fn what_happens_while_the_worker_does_not_listen_is_not_counted() {
        let mut watch = ContactWatch::new(seconds(60));
        watch.report(seconds(0), 7);
        watch.report(seconds(1_000), 7);
        assert!(!watch.is_silent());
        watch.report(seconds(1_001), 8);
        assert_eq!(watch.check(), StallAction::None);
    }
}
