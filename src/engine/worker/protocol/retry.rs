//! How often and how long a failed operation is retried, and with which pauses.

use std::time::Duration;

/// The maximum number of tries. The pauses grow to a second, so the tries outlast a broker's restart.
const TRIES_MAX: u32 = 60;

/// How long a failing call is retried. Well below the group's `max.poll.interval.ms` of 5 minutes, because meanwhile
/// nothing is read and no rebalance is handled.
const DEADLINE: Duration = Duration::from_mins(2);

/// The pause before a question that no broker answered in time is repeated.
const QUESTION_PAUSE: Duration = Duration::from_millis(500);

/// The first of the doubling pauses, and how often they double.
const FIRST_PAUSE_MS: u64 = 20;
const DOUBLINGS: u32 = 5;

/// The tries of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    failures: u32,
    failures_max: u32,
    deadline: Duration,
    /// The same pause each time. If `None`, pauses double.
    pause: Option<Duration>,
}

impl Retry {
    /// For a question to the broker. The call itself waits for the answer, so only time is counted.
    pub(crate) fn of_question(now: Duration) -> Self {
        Self { failures: 0, failures_max: u32::MAX, deadline: now + DEADLINE, pause: Some(QUESTION_PAUSE) }
    }

    /// For a failed transaction.
    pub(crate) fn of_transaction(now: Duration) -> Self {
        Self { failures: 0, failures_max: TRIES_MAX, deadline: now + DEADLINE, pause: None }
    }

    /// For fencing, which ends at a deadline, because each call has a long one of its own.
    pub(crate) fn of_fence(deadline: Duration) -> Self {
        Self { failures: 0, failures_max: TRIES_MAX - 1, deadline, pause: None }
    }

    /// Counts a failure. Returns the pause before the next try, or `None` when it is time to give up.
    pub(crate) fn after_failure(&mut self, now: Duration) -> Option<Duration> {
        self.failures += 1;
        if self.failures > self.failures_max || now > self.deadline {
            return None;
        }
        let doubled = FIRST_PAUSE_MS << (self.failures - 1).min(DOUBLINGS);
        Some(self.pause.unwrap_or(Duration::from_millis(doubled)))
    }

    /// The number of failed tries.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_until_the_tries_are_used_up() {
        let mut retry = Retry::of_transaction(Duration::ZERO);
        let pauses: Vec<u128> =
            std::iter::from_fn(|| retry.after_failure(Duration::from_secs(1))).map(|it| it.as_millis()).collect();
        assert_eq!((&pauses[..7], pauses.len()), (&[20, 40, 80, 160, 320, 640, 640][..], 60));
        assert_eq!(retry.failures(), 61);
    }

    #[test]
    fn a_question_is_asked_until_its_deadline() {
        let start = Duration::from_secs(100);
        let mut retry = Retry::of_question(start);
        assert_eq!(retry.after_failure(start + DEADLINE), Some(QUESTION_PAUSE));
        assert_eq!(retry.after_failure(start + DEADLINE + Duration::from_millis(1)), None);
    }
}
