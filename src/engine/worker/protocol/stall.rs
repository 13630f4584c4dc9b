//! Notices that records are waiting while nothing is being committed.
//!
//! What is found at one check is reported only if the next check finds it too: records may have arrived just then. A worker
//! that makes no progress for as long as the setting allows ends, because another process may have more luck, and somebody
//! is alerted.

use std::time::Duration;

/// How many checks are made in the time after which a worker without progress ends.
const CHECKS: u32 = 4;

/// What follows from a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StallAction {
    /// The worker makes progress, or has nothing to do.
    None,
    /// Records have been waiting since an earlier check: warn.
    Warn,
    /// Records have been waiting for this long, which is too long: end the worker.
    Stop(Duration),
}

/// When a worker last made progress, and since when records have been waiting.
#[derive(Debug)]
pub(crate) struct StallWatch {
    stall_after: Duration,
    progressed_at: Duration,
    checked_at: Duration,
    waiting_since: Option<Duration>,
}

impl StallWatch {
    /// A worker that has just made progress, and ends after this time without any.
    pub(crate) fn new(stall_after: Duration) -> Self {
        Self { stall_after, progressed_at: Duration::ZERO, checked_at: Duration::ZERO, waiting_since: None }
    }

    /// Something was committed, restored or replayed.
    pub(crate) fn progressed(&mut self, now: Duration) {
        self.progressed_at = now;
        self.waiting_since = None;
    }

    /// Whether [`Self::check`] should be told if records are waiting. Asking the broker costs a request, so it is asked only
    /// after a while without progress.
    pub(crate) fn is_check_due(&self, now: Duration) -> bool {
        now.saturating_sub(self.progressed_at.max(self.checked_at)) >= self.pause()
    }

    /// Takes the answer to a check.
    pub(crate) fn check(&mut self, now: Duration, are_records_waiting: bool) -> StallAction {
        self.checked_at = now;
        if !are_records_waiting {
            self.waiting_since = None;
            return StallAction::None;
        }
        let waited = now.saturating_sub(*self.waiting_since.get_or_insert(now));
        // They may have begun to wait right after the check before.
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
