//! A linear contextual bandit with exact propensities: Thompson sampling or LinUCB.
//!
//! Each creative has its own weights. Under Thompson sampling (Agrawal and Goyal 2013, "Thompson sampling for
//! contextual bandits with linear payoffs"), the rewards that the weights' posteriors predict for the features are
//! independent normal variables, with mean `xᵀ μ` and deviation `v √(xᵀ A⁻¹ x)`. A creative's probability is that of
//! having the largest reward, computed by integration instead of by a sample. LinUCB (Li et al. 2010) shows the
//! creative with the largest `xᵀ μ + α √(xᵀ A⁻¹ x)`, and makes a share ε of the choices uniformly. The propensity of
//! that creative is 1 - ε + ε/K, and that of the others ε/K.
//!
//! Owns the policy's side. Guarantees: the same posteriors and features give the same shares. Ties go to the first
//! creative under LinUCB and are shared under Thompson sampling. Limits: 16 creatives and 32 features. A choice takes K
//! d²/2 multiplications, and under Thompson sampling 56 to about 700 nodes with K look-ups each: tens of microseconds
//! for 16. Nothing is allocated. Not covered: learning ([`LinearArm`](super::LinearArm)).

use super::{
    choice::{CREATIVES_MAX, Chosen, Draw, Eligible, Floor, Shares},
    linear_arm::{LinearPosterior, cleaned},
    normal::{Bell, Normal, VARIABLES_MAX},
};

/// The maximum number of creatives of a campaign with a linear bandit.
pub const LINEAR_CREATIVES_MAX: usize = VARIABLES_MAX;

/// How a linear bandit explores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LinearMethod {
    /// Thompson sampling.
    Thompson {
        /// The deviation of a reward's noise, `v`, above 0. The larger it is, the more is explored.
        noise: f64,
    },
    /// LinUCB.
    Ucb {
        /// How many deviations are added to the mean, `α`. At least 0.
        alpha: f64,
        /// The share of choices made uniformly, `ε`, from 0 to 1. It is at least K times the floor.
        epsilon: f64,
    },
}

impl LinearMethod {
    fn is_valid(self) -> bool {
        match self {
            Self::Thompson { noise } => noise.is_finite() && noise > 0.0,
            Self::Ucb { alpha, epsilon } => alpha.is_finite() && alpha >= 0.0 && (0.0..=1.0).contains(&epsilon),
        }
    }
}

/// The prepared posteriors of a campaign's creatives.
#[derive(Clone, Debug)]
pub struct Linear {
    arms: Vec<LinearPosterior>,
    method: LinearMethod,
    floor: Floor,
    normal: Normal,
}

impl Linear {
    /// Prepares the posteriors, one for each creative in the order of the catalogue.
    ///
    /// `None` if there are no posteriors or more than 16, if one is not [valid](LinearPosterior::is_valid) or differs
    /// from the first in its number of features, or if the method's numbers are out of range.
    pub fn new(arms: Vec<LinearPosterior>, method: LinearMethod, floor: Floor) -> Option<Self> {
        let dimension = arms.first()?.dimension();
        let fits = arms.iter().all(|arm| arm.is_valid() && arm.dimension() == dimension);
        (fits && arms.len() <= LINEAR_CREATIVES_MAX && method.is_valid()).then(|| Self {
            arms,
            method,
            floor,
            normal: Normal::new(),
        })
    }

    /// The number of features of a choice.
    pub fn dimension(&self) -> usize {
        self.arms[0].dimension()
    }

    /// Chooses a creative for these features. Features that are not finite count as 0. Creatives without a posterior
    /// are not eligible. `None` if no creative is eligible, or if the number of features is wrong.
    pub fn choose(&self, features: &[f64], eligible: Eligible, draw: Draw) -> Option<Chosen> {
        Some(self.shares(features, eligible)?.pick(draw))
    }

    /// The propensities of the eligible creatives for these features; `None` as for [`Linear::choose`].
    pub fn shares(&self, features: &[f64], eligible: Eligible) -> Option<Shares> {
        let features = cleaned(features, self.dimension())?;
        let eligible = eligible.and(Eligible::all(self.arms.len()));
        let count = eligible.count();
        let mut bells = [Bell::default(); VARIABLES_MAX];
        for (bell, index) in bells.iter_mut().zip(eligible.iter()) {
            let (mean, deviation) = self.arms[index].predict(&features);
            *bell = Bell { mean, deviation };
        }
        let bells = &mut bells[..count];
        let even = self.floor.even_share(count);
        match self.method {
            LinearMethod::Thompson { noise } => {
                for bell in bells.iter_mut() {
                    bell.deviation *= noise;
                }
                Shares::new(eligible, &self.normal.best(bells), even)
            }
            LinearMethod::Ucb { alpha, epsilon } => {
                let mut parts = [0.0; CREATIVES_MAX];
                if let Some(best) = greatest(bells.iter().map(|bell| bell.mean + alpha * bell.deviation)) {
                    parts[best] = 1.0;
                }
                Shares::new(eligible, &parts, epsilon.max(even))
            }
        }
    }
}

/// The index of the first maximum. NaN is never the maximum.
fn greatest(numbers: impl Iterator<Item = f64>) -> Option<usize> {
    let mut best = None;
    for (at, number) in numbers.enumerate().filter(|(_, number)| !number.is_nan()) {
        if best.is_none_or(|(_, most)| number > most) {
            best = Some((at, number));
        }
    }
    best.map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        random::mix,
        targeting::creative::{
            LinearArm,
            choice::tests::{draws, worst_of_a_million},
        },
    };

    /// A seeded generator of standard normal numbers (Box and Muller 1958).
    struct Noise(u64);

    impl Noise {
        fn uniform(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            ((mix(self.0) >> 11) as f64 + 0.5) / 2.0_f64.powi(53)
        }

        fn normal(&mut self) -> f64 {
            (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
        }
    }

    const DIMENSION: usize = 6;

    /// Creatives with different rewards and different numbers of outcomes.
    fn arms(count: usize) -> Vec<LinearArm> {
        let mut noise = Noise(7);
        let mut arms = vec![LinearArm::new(DIMENSION, 1.0).unwrap(); count];
        for (number, arm) in arms.iter_mut().enumerate() {
            for _ in 0..20 + 30 * number {
                let features: [f64; DIMENSION] = std::array::from_fn(|at| if at == 0 { 1.0 } else { noise.normal() });
                assert!(arm.update(&features, 0.1 * number as f64 * features[1] + 0.3 * features[2] + noise.normal()));
            }
        }
        arms
    }

    fn linear(count: usize, method: LinearMethod, floor: f64) -> Linear {
        let posteriors = arms(count).iter().map(|arm| arm.posterior().unwrap()).collect();
        Linear::new(posteriors, method, Floor::new(floor).unwrap()).unwrap()
    }

    const FEATURES: [f64; DIMENSION] = [1.0, 0.2, -0.4, 0.9, 0.0, 0.3];
    const THOMPSON: LinearMethod = LinearMethod::Thompson { noise: 1.0 };
    const UCB: LinearMethod = LinearMethod::Ucb { alpha: 1.0, epsilon: 0.1 };

    #[test]
    fn the_frequency_is_the_logged_propensity_under_both_methods() {
        for (method, name) in [(THOMPSON, "linear Thompson"), (UCB, "LinUCB")] {
            for count in [2, 5, 16] {
                let linear = linear(count, method, 0.01);
                let shares = linear.shares(&FEATURES, Eligible::all(count)).unwrap();
                let worst = worst_of_a_million(&shares);
                println!("{name} with {count}: {worst:.2} standard errors");
                assert!(worst < 4.0);
                for draw in draws(300) {
                    assert_eq!(linear.choose(&FEATURES, Eligible::all(count), draw), Some(shares.pick(draw)));
                }
            }
        }
    }

    #[test]
    fn shares_equal_those_of_sampled_weights() {
        let count = 8;
        let shares = linear(count, THOMPSON, 0.0).shares(&FEATURES, Eligible::all(count)).unwrap();
        let posteriors: Vec<LinearPosterior> = arms(count).iter().map(|arm| arm.posterior().unwrap()).collect();
        let mut noise = Noise(99);
        let (mut wins, draws) = (vec![0.0; count], 400_000);
        for _ in 0..draws {
            let reward = |posterior: &LinearPosterior| {
                let z: [f64; DIMENSION] = std::array::from_fn(|_| noise.normal());
                posterior.sample(&z).iter().zip(FEATURES).map(|(weight, value)| weight * value).sum::<f64>()
            };
            let rewards: Vec<f64> = posteriors.iter().map(reward).collect();
            wins[greatest(rewards.into_iter()).unwrap()] += 1.0;
        }
        let mut worst = 0.0_f64;
        for (index, share) in shares.iter() {
            let error = (share * (1.0 - share) / f64::from(draws)).sqrt();
            worst = worst.max((wins[index] / f64::from(draws) - share).abs() / error);
        }
        println!("sampled weights: {worst:.2} standard errors over {draws} samples");
        assert!(worst < 4.0);
    }

    #[test]
    fn linucb_is_greedy_but_for_epsilon() {
        let count = 5;
        let shares = |method, floor| linear(count, method, floor).shares(&FEATURES, Eligible::all(count)).unwrap();
        let of = |shares: &Shares| shares.iter().map(|(_, share)| share).collect::<Vec<_>>();
        let found = of(&shares(UCB, 0.0));
        let score = |arm: &LinearArm| {
            let (mean, deviation) = arm.posterior().unwrap().predict(&cleaned(&FEATURES, DIMENSION).unwrap());
            mean + deviation
        };
        let best = greatest(arms(count).iter().map(score)).unwrap();
        for (index, share) in found.iter().enumerate() {
            let expected = if index == best { 1.0 - 0.1 + 0.1 / 5.0 } else { 0.1 / 5.0 };
            assert!((share - expected).abs() < 1e-9);
        }
        // The floor asks for more than epsilon gives.
        let found = of(&shares(UCB, 0.05));
        assert!(found.iter().enumerate().all(|(index, share)| index == best || (share - 0.05).abs() < 1e-9));
    }

    #[test]
    fn only_eligible_creatives_share() {
        let linear = linear(5, THOMPSON, 0.01);
        let some: Eligible = [1, 4, 9].into_iter().collect();
        let indexes: Vec<usize> = linear.shares(&FEATURES, some).unwrap().iter().map(|(index, _)| index).collect();
        assert_eq!(indexes, [1, 4]);
        assert_eq!(linear.shares(&FEATURES, [9].into_iter().collect()), None);
    }

    #[test]
    fn odd_inputs_have_documented_results() {
        let two = linear(2, THOMPSON, 0.0);
        let all = Eligible::all(2);
        assert_eq!(two.shares(&FEATURES[..5], all), None);
        let missing = two.shares(&[1.0, f64::NAN, f64::INFINITY, 0.9, 0.0, 0.3], all);
        assert_eq!(missing, two.shares(&[1.0, 0.0, 0.0, 0.9, 0.0, 0.3], all));
        assert_ne!(missing, two.shares(&FEATURES, all));
        // If all features are 0, nothing distinguishes the creatives.
        for method in [THOMPSON, LinearMethod::Ucb { alpha: 1.0, epsilon: 1.0 }] {
            let shares = linear(2, method, 0.0).shares(&[0.0; DIMENSION], all).unwrap();
            assert!(shares.iter().all(|(_, share)| share == 0.5));
        }
        let first = linear(2, LinearMethod::Ucb { alpha: 1.0, epsilon: 0.0 }, 0.0).shares(&[0.0; DIMENSION], all);
        assert_eq!(first.unwrap().iter().collect::<Vec<_>>(), [(0, 1.0), (1, 0.0)]);
        let posterior = arms(1)[0].posterior().unwrap();
        let new = |arms, method| Linear::new(arms, method, Floor::default()).is_none();
        assert!(new(vec![], THOMPSON) && new(vec![posterior.clone(); 17], THOMPSON));
        let other = LinearArm::new(2, 1.0).unwrap().posterior().unwrap();
        assert!(new(vec![posterior.clone(), other], THOMPSON));
        for method in [
            LinearMethod::Thompson { noise: 0.0 },
            LinearMethod::Thompson { noise: f64::NAN },
            LinearMethod::Ucb { alpha: -1.0, epsilon: 0.1 },
            LinearMethod::Ucb { alpha: 1.0, epsilon: 1.1 },
        ] {
            assert!(new(vec![posterior.clone()], method));
        }
    }
}
