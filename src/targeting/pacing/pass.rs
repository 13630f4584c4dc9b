//! The pass-through rate, and a decision's draw against it.
//!
//! Guarantees: exactly the stated share of all draws passes, and what passes at one rate passes at every higher one.
//! Allocates nothing.

/// The share of a campaign's eligible decisions that take part, in 2⁻³¹: 0 is none, 2³¹ is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassThrough(pub u32);

impl PassThrough {
    /// No decision passes.
    pub const NONE: Self = Self(0);
    /// Every decision passes.
    pub const ALL: Self = Self(1 << 31);

    /// The nearest rate to a share: 0 for NaN and negative shares, 1 for shares above 1.
    pub fn from_share(share: f64) -> Self {
        // The cast turns NaN into 0.
        Self((share.clamp(0.0, 1.0) * f64::from(Self::ALL.0)).round() as u32)
    }

    /// The share, 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.0.min(Self::ALL.0)) / f64::from(Self::ALL.0)
    }
}

/// Whether a decision takes part. The draw is a hash of decision and campaign, uniform in its upper 31 bits. If it
/// depended only on the decision, all campaigns would pass the same ones.
pub fn passes(rate: PassThrough, draw: u64) -> bool {
    // A draw is below 2³¹, so `ALL` lets every draw pass.
    ((draw >> 33) as u32) < rate.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn exactly_the_share_of_all_draws_passes() {
        // Each value of the upper 16 bits once, with all other bits clear, so shares that are multiples of 2⁻¹⁶ are
        // exact.
        for share in [0_u32, 1, 2, 777, 32_768, 65_535, 65_536] {
            let rate = PassThrough::from_share(f64::from(share) / 65_536.0);
            let passed = (0..65_536_u64).filter(|high| passes(rate, high << 48)).count();
            assert_eq!(passed, share as usize);
        }
        assert!(!passes(PassThrough::NONE, 0) && passes(PassThrough::ALL, u64::MAX));
        assert!(passes(PassThrough(1), (1 << 33) - 1) && !passes(PassThrough(1), 1 << 33));
    }

    #[test]
    fn hashes_pass_in_the_share_and_stay_when_it_rises() {
        let draws = 1_000_000_u64;
        let mut before = 0;
        for share in [0.001, 0.05, 0.5, 0.9] {
            let (rate, higher) = (PassThrough::from_share(share), PassThrough::from_share(share + 0.01));
            let passed = (0..draws).filter(|number| passes(rate, mix(*number))).count();
            assert!((0..draws).all(|number| !passes(rate, mix(number)) || passes(higher, mix(number))));
            let deviation = (draws as f64 * share * (1.0 - share)).sqrt();
            assert!((passed as f64 - draws as f64 * share).abs() < 4.0 * deviation, "{share} {passed}");
            assert!(passed > before);
            before = passed;
        }
    }

    #[test]
    fn a_share_without_sense_is_none_or_all() {
        for (share, rate) in [
            (f64::NAN, PassThrough::NONE),
            (-1.0, PassThrough::NONE),
            (f64::NEG_INFINITY, PassThrough::NONE),
            (1.5, PassThrough::ALL),
            (f64::INFINITY, PassThrough::ALL),
            (0.5, PassThrough(1 << 30)),
        ] {
            assert_eq!(PassThrough::from_share(share), rate, "{share}");
        }
        assert_eq!(PassThrough(u32::MAX).share(), 1.0);
    }
}
