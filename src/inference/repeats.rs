//! Rate limit for repeated log messages.
//!
//! Guarantees: the 1st, 2nd, 4th, 8th occurrence and so on are logged, so a model that fails in each of a million batches logs 20
//! lines. After [`QUIET`] turns without an occurrence the count restarts. Reads no clock.

/// The number of turns after which the count restarts: about ten seconds of batches at most.
const QUIET: u32 = 1_000;

/// Counts the occurrences of an event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeats {
    count: u64,
    quiet: u32,
}

impl Repeats {
    /// Counts an occurrence. Returns the count if it should be logged.
    pub fn again(&mut self) -> Option<u64> {
        self.quiet = 0;
        self.count += 1;
        self.count.is_power_of_two().then_some(self.count)
    }

    /// Records a turn without an occurrence.
    pub fn not(&mut self) {
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet >= QUIET {
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_events_are_logged_less_and_less_and_again_after_a_pause() {
        let mut repeats = Repeats::default();
        let told: Vec<u64> = (0..1_000_000).filter_map(|_| repeats.again()).collect();
        assert_eq!((told.len(), &told[..4]), (20, &[1, 2, 4, 8][..]));
        (1..QUIET).for_each(|_| repeats.not());
        assert_eq!(repeats.again(), None);
        (0..QUIET).for_each(|_| repeats.not());
        assert_eq!((repeats.again(), repeats.again(), repeats.again()), (Some(1), Some(2), None));
    }
}
