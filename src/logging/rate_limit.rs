//! Rate limiting of repeated messages.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The interval in which one message of each kind is logged.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many kinds are remembered. There are few; the limit guards against a caller that creates many.
const KINDS_MAX: usize = 256;

static LIMIT: RateLimit = RateLimit::new(INTERVAL);

/// Whether to log a message of this kind now: `Some` with the number of messages of this kind suppressed since the last
/// one, or `None` to suppress this one, too.
pub fn rate_limited(kind: &str) -> Option<u64> {
    LIMIT.admit(kind, Instant::now())
}

/// Admits one message of each kind per interval and counts the others.
struct RateLimit {
    interval: Duration,
    /// By kind: when one was last admitted, and how many have been suppressed since.
    kinds: Mutex<BTreeMap<String, (Instant, u64)>>,
}

impl RateLimit {
    const fn new(interval: Duration) -> Self {
        Self { interval, kinds: Mutex::new(BTreeMap::new()) }
    }

    fn admit(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, left_out)) = kinds.get_mut(kind) {
            if now.saturating_duration_since(*at) < self.interval {
                *left_out += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(left_out));
        }
        if kinds.len() >= KINDS_MAX {
            kinds.clear();
        }
        kinds.insert(kind.to_owned(), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_messages_are_logged_once_per_interval_and_counted() {
        let limit = RateLimit::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(limit.admit("a", at(0)), Some(0));
        assert_eq!(limit.admit("b", at(0)), Some(0), "each kind has its own limit");
        for second in 1..10 {
            assert_eq!(limit.admit("a", at(second)), None);
        }
        assert_eq!(limit.admit("a", at(10)), Some(9));
        assert_eq!(limit.admit("a", at(19)), None);
        for kind in 0..2 * KINDS_MAX {
            assert_eq!(limit.admit(&format!("kind {kind}"), at(20)), Some(0));
        }
        assert!(limit.kinds.lock().unwrap().len() <= KINDS_MAX);
    }
}
