//! Draws one of the eligible creatives, with an exact propensity.
//!
//! Every method (by weight, [`Thompson`](super::Thompson), [`Linear`](super::Linear)) first computes the probability of
//! each eligible creative, mixes in the exploration floor, and rounds to whole ticks of 2^-31. The draw then falls on
//! one tick.
//!
//! Owns sets, draws and shares. Guarantees: the logged propensity is the number of the creative's ticks over 2^31, so
//! it is exact however a probability was computed. The propensities of a decision sum to 1. The same shares and draw
//! give the same creative. Limits: 64 creatives per campaign, so that a set is one word; nothing is allocated. Not
//! covered: who is eligible.

use crate::random::mix;

/// The maximum number of creatives of a campaign: a set of them is a 64-bit word.
pub const CREATIVES_MAX: usize = 64;

/// The number of ticks that a decision's shares are counted in. It has fewer than the 53 bits of a float, so that a
/// difference in the last bits of a probability hardly ever shows.
const TICKS: u32 = 1 << 31;

/// Which of a campaign's creatives may be shown: a set of their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Eligible(u64);

impl Eligible {
    /// The first `count` creatives, at most 64.
    pub fn all(count: usize) -> Self {
        Self(if count >= CREATIVES_MAX { u64::MAX } else { (1 << count) - 1 })
    }

    /// Adds a creative by its number. Numbers from 64 on are ignored.
    pub fn add(&mut self, index: usize) {
        if index < CREATIVES_MAX {
            self.0 |= 1 << index;
        }
    }

    /// Whether a creative is in the set.
    pub fn contains(self, index: usize) -> bool {
        index < CREATIVES_MAX && self.0 >> index & 1 == 1
    }

    /// The number of creatives.
    pub fn count(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The creatives in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The numbers, smallest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let index = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (index < CREATIVES_MAX).then_some(index)
        })
    }

    /// A hash that distinguishes sets and spreads them.
    pub(super) fn word(self) -> u64 {
        self.0
    }
}

impl FromIterator<usize> for Eligible {
    fn from_iter<T: IntoIterator<Item = usize>>(numbers: T) -> Self {
        let mut set = Self::default();
        numbers.into_iter().for_each(|index| set.add(index));
        set
    }
}

/// The number that decides a choice: a hash of the decision's id, the policy's version and the campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw(u64);

impl Draw {
    /// The draw for a campaign in a decision. `decision` and `campaign` are [`Draw::word`]s, so that each is computed
    /// only once.
    ///
    /// The draw can be repeated from the decision's id, so this must never change.
    pub fn new(decision: u64, policy: u64, campaign: u64) -> Self {
        // Odd constants keep the three words from cancelling each other.
        let policy = policy.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let campaign = campaign.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(mix(mix(decision ^ policy.rotate_left(32)) ^ campaign))
    }

    /// A text as a number: FNV-1a with 64 bits (Fowler, Noll and Vo, <http://www.isthe.com/chongo/tech/comp/fnv>).
    pub fn word(text: &str) -> u64 {
        Self::word_of(text.as_bytes())
    }

    /// Like [`Draw::word`], for a text as bytes.
    pub fn word_of(text: &[u8]) -> u64 {
        text.iter().fold(0xcbf2_9ce4_8422_2325, |word, byte| (word ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// The tick that the draw falls on.
    fn tick(self) -> u32 {
        (self.0 >> 33) as u32
    }
}

/// The chosen creative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// The creative's number.
    pub index: usize,
    /// The probability of this choice among the candidates, above 0.
    pub propensity: f64,
    /// The number of eligible creatives.
    pub candidates: usize,
}

/// The minimum probability of each eligible creative, so that every one stays measurable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor(f64);

impl Floor {
    /// A floor of 0 to 1. `None` for other values and for NaN. With K candidates, a floor above 1/K makes all equally
    /// likely.
    pub fn new(floor: f64) -> Option<Self> {
        (0.0..=1.0).contains(&floor).then_some(Self(floor))
    }

    /// The share of choices made uniformly, with this many candidates.
    pub(super) fn even_share(self, candidates: usize) -> f64 {
        (self.0 * candidates as f64).min(1.0)
    }
}

impl Default for Floor {
    /// 0.01, so that an importance weight is at most 100.
    fn default() -> Self {
        Self(0.01)
    }
}

/// The propensities of the eligible creatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    eligible: Eligible,
    /// For each candidate in order, the tick at which its share ends.
    ends: [u32; CREATIVES_MAX],
}

impl Shares {
    /// Shares in proportion to `parts`, one for each candidate in order, with `even` of the whole spread uniformly. A
    /// part that is NaN, infinite or not above 0 counts as 0. Without a part above 0, all shares are equal. `None`
    /// without candidates.
    pub(super) fn new(eligible: Eligible, parts: &[f64], even: f64) -> Option<Self> {
        let count = eligible.count();
        if count == 0 {
            return None;
        }
        let part = |at: usize| parts.get(at).copied().filter(|part| part.is_finite() && *part > 0.0).unwrap_or(0.0);
        let total: f64 = (0..count).map(part).sum();
        let even = if total > 0.0 && total.is_finite() { even } else { 1.0 };
        let mut ends = [0; CREATIVES_MAX];
        let mut sum = 0.0;
        for (at, end) in ends[..count].iter_mut().enumerate() {
            sum += if even < 1.0 { (1.0 - even) * (part(at) / total) } else { 0.0 } + even / count as f64;
            // The sum may be off by about 1e-16.
            *end = (sum.min(1.0) * f64::from(TICKS)).round() as u32;
        }
        ends[count - 1] = TICKS;
        Some(Self { eligible, ends })
    }

    /// The same with no share above its limit, one for each creative of the campaign. What is cut off goes to the others in
    /// proportion to their shares, or evenly if these are all 0. Limits that add up to less than 1 count in proportion.
    /// Shares within their limits stay as they are.
    #[must_use]
    pub fn capped(self, limits: &[f64]) -> Self {
        let count = self.ends().len();
        let (mut shares, mut most) = ([0.0; CREATIVES_MAX], [1.0; CREATIVES_MAX]);
        for (at, (index, share)) in self.iter().enumerate() {
            shares[at] = share;
            most[at] = limits.get(index).copied().unwrap_or(1.0);
        }
        if (0..count).all(|at| shares[at] <= most[at]) {
            return self;
        }
        if most[..count].iter().sum::<f64>() <= 1.0 {
            return Self::new(self.eligible, &most[..count], 0.0).unwrap_or(self);
        }
        // Each round more are at their limit, until what is left fits the others.
        let mut is_full = [false; CREATIVES_MAX];
        let mut parts = shares;
        loop {
            let open = || (0..count).filter(|&at| !is_full[at]);
            let left = 1.0 - (0..count).filter(|&at| is_full[at]).map(|at| most[at]).sum::<f64>();
            let (sum, number) = (open().map(|at| shares[at]).sum::<f64>(), open().count());
            for at in open() {
                parts[at] = left * if sum > 0.0 { shares[at] / sum } else { 1.0 / number as f64 };
            }
            let over: Eligible = open().filter(|&at| parts[at] > most[at]).collect();
            if over.is_empty() {
                return Self::new(self.eligible, &parts[..count], 0.0).unwrap_or(self);
            }
            for at in over.iter() {
                is_full[at] = true;
                parts[at] = most[at];
            }
        }
    }

    /// The shares that [`Shares::ends`] came from.
    pub(super) fn from_ends(eligible: Eligible, ends: &[u32]) -> Self {
        let mut all = [0; CREATIVES_MAX];
        all[..ends.len()].copy_from_slice(ends);
        Self { eligible, ends: all }
    }

    /// For each candidate, the tick at which its share ends.
    pub(super) fn ends(&self) -> &[u32] {
        &self.ends[..self.eligible.count()]
    }

    /// The creative that a draw falls on.
    pub fn pick(&self, draw: Draw) -> Chosen {
        let ends = self.ends();
        let tick = draw.tick();
        let at = ends.partition_point(|&end| end <= tick);
        // The last share ends after the last tick, and a set of shares is never empty.
        let index = self.eligible.iter().nth(at).unwrap_or_default();
        Chosen { index, propensity: share(ends, at), candidates: ends.len() }
    }

    /// Each eligible creative with its propensity, for the evaluation of a policy.
    pub fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.eligible.iter().enumerate().map(|(at, index)| (index, share(self.ends(), at)))
    }
}

/// The share of a candidate. It is exact, because 31 bits fit a float.
fn share(ends: &[u32], at: usize) -> f64 {
    let start = if at == 0 { 0 } else { ends[at - 1] };
    f64::from(ends[at] - start) / f64::from(TICKS)
}

/// Chooses in proportion to fixed weights, one for each creative of the campaign. A weight that is missing, NaN,
/// infinite or not above 0 counts as 0. Without a weight above 0, all are equally likely. `None` if no creative is
/// eligible.
pub fn by_weight(weights: &[f64], eligible: Eligible, floor: Floor, draw: Draw) -> Option<Chosen> {
    Some(weight_shares(weights, eligible, floor)?.pick(draw))
}

/// The propensities of [`by_weight`].
pub fn weight_shares(weights: &[f64], eligible: Eligible, floor: Floor) -> Option<Shares> {
    let mut parts = [0.0; CREATIVES_MAX];
    for (part, index) in parts.iter_mut().zip(eligible.iter()) {
        *part = weights.get(index).copied().unwrap_or(0.0);
    }
    Shares::new(eligible, &parts, floor.even_share(eligible.count()))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Draws as a worker makes them, from the ids of successive decisions.
    pub(in super::super) fn draws(count: u64) -> impl Iterator<Item = Draw> {
        let campaign = Draw::word("spring");
        (0..count).map(move |offset| Draw::new(Draw::word(&format!("shop:clicks-3-{offset}")), 17, campaign))
    }

    /// The largest distance between a frequency over 1 M draws and its propensity, in standard errors. Creatives
    /// without a share are never picked.
    pub(in super::super) fn worst_of_a_million(shares: &Shares) -> f64 {
        let mut counts = [0.0; CREATIVES_MAX];
        for draw in draws(1_000_000) {
            let chosen = shares.pick(draw);
            let logged = shares.iter().find(|(index, _)| *index == chosen.index).expect("what is chosen is eligible");
            assert_eq!(chosen.propensity, logged.1);
            counts[chosen.index] += 1.0;
        }
        let error = |(index, share): (usize, f64)| {
            let spread = (1e6 * share * (1.0 - share)).sqrt();
            if spread == 0.0 {
                (counts[index] - 1e6 * share).abs()
            } else {
                (counts[index] - 1e6 * share).abs() / spread
            }
        };
        shares.iter().map(error).fold(0.0, f64::max)
    }

    #[test]
    fn by_weight_the_frequency_is_the_logged_propensity() {
        let weights = [5.0, 0.3, 1.0, 2.0, 90.0, 1.0];
        let eligible: Eligible = [0, 1, 3, 4, 5].into_iter().collect();
        let shares = weight_shares(&weights, eligible, Floor::default()).unwrap();
        let worst = worst_of_a_million(&shares);
        println!("by weight: {worst:.2} standard errors");
        assert!(worst < 4.0);
        let of: Vec<f64> = shares.iter().map(|(_, share)| share).collect();
        // 0.95 is split by weight and 0.05 evenly.
        for (found, weight) in of.iter().zip([5.0, 0.3, 2.0, 90.0, 1.0]) {
            assert!((found - (0.95 * weight / 98.3 + 0.01)).abs() < 1e-9);
        }
        assert_eq!(of.iter().sum::<f64>(), 1.0);
        for draw in draws(1_000) {
            assert_eq!(by_weight(&weights, eligible, Floor::default(), draw), Some(shares.pick(draw)));
        }
    }

    #[test]
    fn draws_of_two_campaigns_or_policies_are_independent() {
        let decision = |offset: u64| Draw::word(&format!("shop:clicks-3-{offset}"));
        let upper = |draw: Draw| u32::from(draw.tick() >= TICKS / 2);
        let agree = |a: &dyn Fn(u64) -> Draw, b: &dyn Fn(u64) -> Draw| {
            (0..100_000).filter(|&offset| upper(a(offset)) == upper(b(offset))).count()
        };
        let base = |offset| Draw::new(decision(offset), 17, 1);
        // Half of 100,000, with a standard deviation of 158.
        for other in [Draw::new as fn(u64, u64, u64) -> Draw; 2].iter().zip([(18, 1), (17, 2)]) {
            let (draw, (policy, campaign)) = other;
            let count = agree(&base, &|offset| draw(decision(offset), policy, campaign));
            assert!(count.abs_diff(50_000) < 632, "{count}");
        }
    }

    #[test]
    fn a_draw_never_changes() {
        assert_eq!(Draw::new(Draw::word("shop:clicks-3-91"), 17, Draw::word("spring")), Draw(0x4d30_7552_d88f_5bcd));
    }

    #[test]
    fn odd_weights_and_sets_have_documented_results() {
        let draw = Draw(u64::MAX);
        let none = Floor::new(0.0).unwrap();
        assert_eq!(by_weight(&[1.0], Eligible::default(), none, draw), None);
        let three = Eligible::all(3);
        let even = |weights: &[f64]| {
            let shares = weight_shares(weights, three, none).unwrap();
            shares.iter().all(|(_, share)| (share - 1.0 / 3.0).abs() < 1e-9)
        };
        assert!(even(&[]) && even(&[f64::NAN, f64::INFINITY, -1.0]) && even(&[0.0; 3]) && even(&[f64::MAX; 3]));
        // Without a weight and a floor, a creative is never chosen, not even by the last tick.
        let last = by_weight(&[1.0, 1.0, 0.0], three, none, draw).unwrap();
        assert_eq!(last, Chosen { index: 1, propensity: 0.5, candidates: 3 });
        let first = by_weight(&[0.0, 1.0, 1.0], three, none, Draw(0)).unwrap();
        assert_eq!(first, Chosen { index: 1, propensity: 0.5, candidates: 3 });
        assert_eq!([-0.1, 1.1, f64::NAN].map(Floor::new), [None; 3]);
        // A floor that exceeds what is available.
        let shares = weight_shares(&[9.0, 1.0, 1.0], three, Floor::new(0.9).unwrap()).unwrap();
        assert!(shares.iter().all(|(_, share)| (share - 1.0 / 3.0).abs() < 1e-9));
    }

    #[test]
    fn no_share_is_above_its_limit_and_the_frequency_is_the_logged_propensity() {
        let none = Floor::new(0.0).unwrap();
        let of = |weights: &[f64], limits: &[f64], floor: Floor| {
            let shares = weight_shares(weights, Eligible::all(weights.len()), floor).unwrap().capped(limits);
            shares.iter().map(|(_, share)| share).collect::<Vec<_>>()
        };
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.iter().sum::<f64>(), 1.0);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-8), "{found:?} {expected:?}");
        };
        close(of(&[8.0, 1.0, 1.0], &[0.2, 1.0, 1.0], none), &[0.2, 0.4, 0.4]);
        // What the first one loses lifts the second one over its limit.
        close(of(&[8.0, 1.0, 1.0], &[0.2, 0.3, 1.0], none), &[0.2, 0.3, 0.5]);
        close(of(&[8.0, 1.0, 1.0], &[0.9], none), &[0.8, 0.1, 0.1]);
        // Nobody else has a share, or all have limits that are too small.
        close(of(&[1.0, 0.0, 0.0], &[0.5], none), &[0.5, 0.25, 0.25]);
        close(of(&[8.0, 1.0], &[0.1, 0.3], none), &[0.25, 0.75]);
        close(of(&[8.0], &[0.1], none), &[1.0]);
        close(of(&[98.0, 1.0, 1.0], &[0.2], Floor::default()), &[0.2, 0.4, 0.4]);
        // Limits are those of the campaign's creatives, not of the eligible ones.
        let some: Eligible = [1, 2, 5].into_iter().collect();
        let shares = weight_shares(&[1.0; 6], some, Floor::default()).unwrap().capped(&[1.0, 1.0, 1.0, 0.1, 0.1, 0.1]);
        close(shares.iter().map(|(_, share)| share).collect(), &[0.45, 0.45, 0.1]);
        let worst = worst_of_a_million(&shares);
        println!("capped: {worst:.2} standard errors");
        assert!(worst < 4.0);
    }

    #[test]
    fn a_set_holds_64_numbers() {
        let set: Eligible = [0, 5, 63, 64, 1000].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 5, 63]);
        assert_eq!((set.count(), set.contains(63), set.contains(64), set.contains(1)), (3, true, false, false));
        assert_eq!((Eligible::all(64).count(), Eligible::all(99).count(), Eligible::all(0).is_empty()), (64, 64, true));
        assert_eq!(set.and(Eligible::all(6)).iter().collect::<Vec<_>>(), [0, 5]);
        let shares = weight_shares(&[1.0; 64], Eligible::all(64), Floor::default()).unwrap();
        assert_eq!(shares.iter().map(|(_, share)| share).sum::<f64>(), 1.0);
    }
}
