//! Detects that records are waiting while nothing is being committed.
//!
//! A finding is only reported if the next check confirms it, because records may just have arrived. A worker without
//! progress for the configured time ends, because another process may do better, and so that someone is alerted.

use std::time::Duration;

/// The number of checks in the time after which a worker without progress ends.
const CHECKS: u32 = 4;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StallAction {
    /// The worker makes progress, or has nothing to do.
    None,
    /// Records have been waiting since an earlier check. Warn.
    Warn,
    /// Records have been waiting for this long, which is too long. End the worker.
    Stop(Duration),
}

/// When a worker last made progress, and how long records have been waiting.
#[derive(Debug)]
pub(crate) struct StallWatch {
    stall_after: Duration,
    progressed_at: Duration,
    checked_at: Duration,
    waiting_since: Option<Duration>,
}

impl StallWatch {
    /// For a worker that has just made progress and ends after this time without any.
    pub(crate) fn new(stall_after: Duration) -> Self {
        Self { stall_after, progressed_at: Duration::ZERO, checked_at: Duration::ZERO, waiting_since: None }
    }

    /// Something was committed, restored or replayed.
    pub(crate) fn progressed(&mut self, now: Duration) {
        self.progressed_at = now;
        self.waiting_since = None;
    }

    /// Whether [`Self::check`] needs to know if records are waiting. Finding out costs a request to the broker, so this
    /// is only true after a while without progress.
    pub(crate) fn is_check_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.progressed_at.max(self.checked_at)) >= self.pause()
    }

    /// Handles the answer of a check.
    pub(crate) fn check(&mut self, now: Duration, are_records_waiting: bool) -> StallAction {
        self.checked_at = now;
        if !are_records_waiting {
            self.waiting_since = None;
            return StallAction::None;
        }
        let waited = now.saturating_sub(*self.waiting_since.get_or_insert(now));
        // They may have started waiting right after the previous check.
        let waited_at_most = waited + self.pause();
        match waited {
            Duration::ZERO => StallAction::None,
            _ if waited_at_most < self.stall_after => StallAction::Warn,
            _ => StallAction::Stop(waited_at_most),
        }
    }

    fn pause(&self) -> Duration {
        self.stall_after / CHECKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn waiting_records_are_reported_at_the_second_check_and_end_the_worker_in_time() {
        let mut watch = StallWatch::new(seconds(40));
        assert!(!watch.is_check_due(seconds(9)) && watch.is_check_due(seconds(10)));
        assert_eq!(watch.check(seconds(10), true), StallAction::None);
        assert!(!watch.is_check_due(seconds(19)));
        assert_eq!(watch.check(seconds(20), true), StallAction::Warn);
        assert_eq!(watch.check(seconds(30), true), StallAction::Warn);
        assert_eq!(watch.check(seconds(40), true), StallAction::Stop(seconds(40)));
    }

    #[test]
    fn progress_and_an_empty_input_start_the_wait_again() {
        for has_progress in [true, false] {
            let mut watch = StallWatch::new(seconds(40));
            watch.check(seconds(10), true);
            if has_progress {
                watch.progressed(seconds(15));
                assert!(!watch.is_check_due(seconds(20)), "the next check is counted from the progress");
            } else {
                assert_eq!(watch.check(seconds(20), false), StallAction::None);
            }
            assert_eq!(watch.check(seconds(30), true), StallAction::None);
            assert_eq!(watch.check(seconds(40), true), StallAction::Warn);
        }
    }
}
