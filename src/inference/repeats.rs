//! What is told when the same thing happens again and again.
//!
//! Guarantees: the first time is told at once, and then the 2nd, the 4th, the 8th and so on: a model that fails at each of a million
//! batches leaves 20 lines. After [`QUIET`] turns without it, it is told as new. No clock is read.

/// So many turns without it make the next time the first one: at the most, some ten seconds of batches.
const QUIET: u32 = 1_000;

/// How often something has happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Repeats {
    count: u64,
    quiet: u32,
}

impl Repeats {
    /// It has happened. Gives how often by now, where that is to be told.
    pub fn again(&mut self) -> Option<u64> {
        self.quiet = 0;
        self.count += 1;
        self.count.is_power_of_two().then_some(self.count)
    }

    /// It has not happened this time.
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
    fn what_repeats_is_told_more_and_more_seldom_and_as_new_after_a_pause() {
        let mut repeats = Repeats::default();
        let told: Vec<u64> = (0..1_000_000).filter_map(|_| repeats.again()).collect();
        assert_eq!((told.len(), &told[..4]), (20, &[1, 2, 4, 8][..]));
        (1..QUIET).for_each(|_| repeats.not());
        assert_eq!(repeats.again(), None);
        (0..QUIET).for_each(|_| repeats.not());
        assert_eq!((repeats.again(), repeats.again(), repeats.again()), (Some(1), Some(2), None));
    }
}
