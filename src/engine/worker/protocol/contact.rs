//! Detects that no broker answers, which a worker without partitions would not notice otherwise: it has no records that could
//! wait.
//!
//! A member of a group asks for something every few seconds, whether it has partitions or not, so that a long time without an answer
//! means that the brokers are gone, or that the client has lost them. The limit is that of stalls, for the same reasons: warn in
//! half of the time, and end after all of it. Limits: a client that does not count answers is not watched; and a group whose
//! coordinator alone is gone looks well, because other brokers answer.

use super::StallAction;
use std::time::Duration;

/// When a broker last answered.
#[derive(Debug)]
pub(crate) struct ContactWatch {
    limit: Duration,
    answers: u64,
    /// `None` before the first report.
    answered_at: Option<Duration>,
    is_warned: bool,
}

impl ContactWatch {
    /// For a worker that ends after this time without an answer.
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, answers: 0, answered_at: None, is_warned: false }
    }

    /// Takes in how many answers the client has had so far.
    pub(crate) fn report(&mut self, now: Duration, answers: u64) {
        if answers != self.answers || self.answered_at.is_none() {
            self.answers = answers;
            self.answered_at = Some(now);
            self.is_warned = false;
        }
    }

    /// Whether a broker has not answered for half of the limit.
    pub(crate) fn is_silent(&self, now: Duration) -> bool {
        self.silent_for(now) >= self.limit / 2
    }

    /// What to do. Warns once.
    pub(crate) fn check(&mut self, now: Duration) -> StallAction {
        let silent = self.silent_for(now);
        if silent >= self.limit {
            StallAction::Stop(silent)
        } else if silent >= self.limit / 2 && !std::mem::replace(&mut self.is_warned, true) {
            StallAction::Warn
        } else {
            StallAction::None
        }
    }

    fn silent_for(&self, now: Duration) -> Duration {
        self.answered_at.map_or(Duration::ZERO, |at| now.saturating_sub(at))
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
        assert_eq!(watch.check(seconds(500)), StallAction::None, "its client has reported nothing");
        watch.report(seconds(500), 0);
        for (now, action) in [
            (seconds(529), StallAction::None),
            (seconds(530), StallAction::Warn),
            (seconds(559), StallAction::None),
            (seconds(560), StallAction::Stop(seconds(60))),
        ] {
            // The client keeps reporting.
            watch.report(now, 0);
            assert_eq!(watch.check(now), action, "{now:?}");
            assert_eq!(watch.is_silent(now), now >= seconds(530));
        }
    }

    #[test]
    fn an_answer_starts_the_time_again() {
        let mut watch = ContactWatch::new(seconds(60));
        watch.report(seconds(0), 7);
        assert_eq!(watch.check(seconds(31)), StallAction::Warn);
        watch.report(seconds(32), 8);
        assert!(!watch.is_silent(seconds(33)));
        assert_eq!(watch.check(seconds(61)), StallAction::None);
        assert_eq!(watch.check(seconds(62)), StallAction::Warn);
        assert_eq!(watch.check(seconds(92)), StallAction::Stop(seconds(60)));
    }
}
