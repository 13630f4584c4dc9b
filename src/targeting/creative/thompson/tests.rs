//! Tests of Thompson sampling: against closed forms, an independent integration, real sampling, and a million draws.

use super::{
    super::choice::tests::{draws, worst_of_a_million},
    *,
};

fn beta(alpha: f64, beta: f64) -> Beta {
    Beta { alpha, beta }
}

fn thompson(posteriors: &[Beta], floor: f64) -> Thompson {
    Thompson::new(posteriors, Floor::new(floor).unwrap(), 16).unwrap()
}

/// The probabilities before floor and rounding.
fn best(posteriors: &[Beta]) -> Vec<f64> {
    let all = Eligible::all(posteriors.len());
    thompson(posteriors, 0.0).best(all)[..posteriors.len()].to_vec()
}

/// The largest difference.
fn off(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(found, expected)| (found - expected).abs()).fold(0.0, f64::max)
}

/// Posteriors, and for each the probability of being the largest.
type Case = (&'static [(f64, f64)], &'static [f64]);

#[test]
fn probabilities_equal_an_independent_integration() {
    // From scipy's incomplete beta function and Gauss–Legendre with 32 nodes on panels of a tenth of the width; mpmath
    // with 25 digits agrees on the first two.
    let cases: [Case; 9] = [
        (
            &[(3., 200.), (5., 210.), (1., 90.)],
            &[0.209_917_095_889_476_5, 0.652_286_351_378_140_1, 0.137_796_552_732_383_1],
        ),
        (
            &[(0.5, 0.5), (0.1, 3.), (2., 40.)],
            &[0.845_066_554_567_271_6, 0.043_045_230_735_316_825, 0.111_888_214_697_411_64],
        ),
        (
            &[(1e4, 1e6), (1.01e4, 1e6), (3., 300.), (1., 1.)],
            &[
                0.001_403_265_940_687_424_3,
                0.004_444_935_546_569_465,
                0.006_328_615_541_571_327,
                0.987_823_182_971_171_9,
            ],
        ),
        (
            &[(46., 9_954.), (60., 12_000.), (2., 500.), (0.7, 100.), (400., 90_000.)],
            &[
                0.127_659_826_545_373_4,
                0.253_905_817_807_721_1,
                0.179_844_209_644_242_7,
                0.402_624_682_785_087_5,
                0.035_965_463_217_576_626,
            ],
        ),
        (
            &[(5e6, 1e9), (5.002e6, 1e9), (2., 500.)],
            &[0.188_060_835_373_635_1, 0.524_130_557_330_421_2, 0.287_808_607_295_899_5],
        ),
        (
            &[(2., 1e12), (3., 9e11), (1., 1e12)],
            &[0.251_166_859_478_063_44, 0.680_427_935_084_760_5, 0.068_405_205_437_175_4],
        ),
        (
            &[(0.1, 0.1), (0.1, 1e12), (1e12, 0.1), (0.3, 0.2)],
            &[0.015_437_723_928_021_533, 0.0, 0.983_767_241_199_533_7, 0.000_795_034_872_445_645_2],
        ),
        (
            &[(1e12, 0.1), (3e11, 0.1), (8e11, 0.2)],
            &[0.450_345_676_911_402_9, 0.374_554_138_648_230_56, 0.175_100_184_440_366_1],
        ),
        (
            &[(3e11, 6e11), (3.000_000_5e11, 6e11), (3., 6.)],
            &[0.254_713_630_920_979_43, 0.277_065_796_980_731_2, 0.468_220_572_108_618_84],
        ),
    ];
    let mut worst = 0.0_f64;
    for (posteriors, expected) in cases {
        let posteriors: Vec<Beta> = posteriors.iter().map(|&(a, b)| beta(a, b)).collect();
        let found = off(&best(&posteriors), expected);
        println!("{found:e} with {} nodes: {posteriors:?}", thompson(&posteriors, 0.0).nodes());
        worst = worst.max(found);
    }
    assert!(worst < 1e-9, "{worst:e}");
}

#[test]
fn two_creatives_match_the_closed_form() {
    // P(p_B > p_A) = Σ_{i < α_B} B(α_A + i, β_A + β_B) / ((β_B + i) B(1 + i, β_B) B(α_A, β_A)), for whole α_B (Miller
    // 2014, "Formulas for Bayesian A/B testing").
    let log_factorials: Vec<f64> = std::iter::once(0.0)
        .chain((1..40_000).scan(0.0, |sum, n| {
            *sum += f64::from(n).ln();
            Some(*sum)
        }))
        .collect();
    let log_beta = |a: usize, b: usize| log_factorials[a - 1] + log_factorials[b - 1] - log_factorials[a + b - 1];
    let mut worst = 0.0_f64;
    for (a, b) in [
        ((1, 1), (1, 1)),
        ((3, 97), (5, 120)),
        ((1, 2_000), (2, 900)),
        ((300, 9_000), (290, 9_100)),
        ((40, 40), (1, 1)),
    ] {
        let term = |i: usize| {
            log_beta(a.0 + i, a.1 + b.1) - ((b.1 + i) as f64).ln() - log_beta(1 + i, b.1) - log_beta(a.0, a.1)
        };
        let expected: f64 = (0..b.0).map(|i| term(i).exp()).sum();
        let found = best(&[beta(a.0 as f64, a.1 as f64), beta(b.0 as f64, b.1 as f64)]);
        worst = worst.max(off(&found, &[1.0 - expected, expected]));
    }
    println!("closed form: error {worst:e}");
    // The logarithms of the factorials are exact to 1e-10.
    assert!(worst < 1e-9);
}

#[test]
fn creatives_that_are_alike_share_evenly_and_the_sum_is_one() {
    let mut worst = 0.0_f64;
    for (alpha, failures) in [(1.0, 1.0), (0.1, 0.1), (0.1, 1e6), (20.0, 5_000.0), (1e12, 1e12), (1e6, 0.1)] {
        for count in [1, 2, 16, 64] {
            let even = vec![1.0 / count as f64; count];
            let found = off(&best(&vec![beta(alpha, failures); count]), &even);
            println!("{count} of {alpha}, {failures}: {found:e}");
            worst = worst.max(found);
        }
    }
    println!("alike: error {worst:e}");
    assert!(worst < 1e-9);
    // As different as possible: all rates are known well, and all differ.
    let apart: Vec<Beta> = (0_i32..64)
        .map(|n| beta(10.0_f64.powf(8.0 + f64::from(n % 4)), 10.0_f64.powf(8.0 + f64::from(n) / 16.0)))
        .collect();
    let thompson = thompson(&apart, 0.0);
    let sum: f64 = thompson.best(Eligible::all(64)).iter().sum();
    println!("64 apart: {} nodes, {} values", thompson.nodes(), thompson.values.len());
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");
    assert!(thompson.nodes() < 64 * 400);
}

/// A seeded generator of Beta numbers: two Gamma numbers by Marsaglia and Tsang's method (2000), from normal numbers by
/// Box and Muller's (1958).
struct Sampler(u64);

impl Sampler {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ((mix(self.0) >> 11) as f64 + 0.5) / 2.0_f64.powi(53)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (2.0 * std::f64::consts::PI * self.uniform()).cos()
    }

    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let shrunk = self.uniform().powf(1.0 / shape);
            return self.gamma(shape + 1.0) * shrunk;
        }
        let d = shape - 1.0 / 3.0;
        loop {
            let x = self.normal();
            let v = (1.0 + x / (9.0 * d).sqrt()).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    fn beta(&mut self, posterior: Beta) -> f64 {
        let (a, b) = (self.gamma(posterior.alpha), self.gamma(posterior.beta));
        a / (a + b)
    }
}

#[test]
fn shares_equal_those_of_a_million_real_samples() {
    let posteriors =
        [beta(46.0, 9_954.0), beta(60.0, 12_000.0), beta(2.0, 500.0), beta(0.7, 100.0), beta(400.0, 90_000.0)];
    let expected = best(&posteriors);
    let mut sampler = Sampler(1);
    let mut wins = [0.0; 5];
    for _ in 0..1_000_000 {
        let mut most = (0, -1.0);
        for (index, posterior) in posteriors.iter().enumerate() {
            let rate = sampler.beta(*posterior);
            most = if rate > most.1 { (index, rate) } else { most };
        }
        wins[most.0] += 1.0;
    }
    let errors = wins
        .iter()
        .zip(&expected)
        .map(|(wins, share)| (wins / 1e6 - share).abs() / (share * (1.0 - share) / 1e6).sqrt());
    let worst = errors.fold(0.0, f64::max);
    println!("real Beta samples: {worst:.2} standard errors");
    assert!(worst < 4.0);
}

#[test]
fn shares_equal_the_simulation_of_the_open_bandit_pipeline() {
    /// The part of the fixture used here: the priors of a real policy, and how often each item came first of three.
    #[derive(Deserialize)]
    struct Case {
        prior: Option<[Vec<f64>; 2]>,
        target: Vec<Vec<f64>>,
    }
    let text = include_str!("../../../../tests/fixtures/off_policy/off_policy.json");
    let cases: Vec<Case> = serde_json::from_str(text).expect("the fixture is what the script wrote");
    let (prior, target) = cases.into_iter().find_map(|case| Some((case.prior?, case.target))).unwrap();
    let posteriors: Vec<Beta> = prior[0].iter().zip(&prior[1]).map(|(&a, &b)| beta(a, b)).collect();
    let found = best(&posteriors);
    // 1,000,000 simulations; a share near 0 is seen with a deviation of about a hit.
    let error =
        |(share, target): (&f64, &Vec<f64>)| (share - target[0]).abs() / (share * (1.0 - share) / 1e6).sqrt().max(1e-6);
    let worst = found.iter().zip(&target).map(error).fold(0.0, f64::max);
    println!("46 items of obp: {worst:.2} standard errors");
    assert!(worst < 4.0);
}

#[test]
fn the_frequency_is_the_logged_propensity() {
    let posteriors: Vec<Beta> = (0_i32..24).map(|n| beta(f64::from(1 + n % 7), f64::from(100 + 40 * n))).collect();
    let mut thompson = thompson(&posteriors, 0.01);
    for eligible in [Eligible::all(24), [0, 3, 4, 20].into_iter().collect(), [7].into_iter().collect()] {
        let shares = thompson.shares(eligible).unwrap();
        let worst = worst_of_a_million(&shares);
        println!("Beta Thompson with {}: {worst:.2} standard errors", eligible.count());
        assert!(worst < 4.0);
        assert!(shares.iter().all(|(_, share)| share > 0.01 - 1e-9));
        for draw in draws(1_000) {
            assert_eq!(thompson.choose(eligible, draw), Some(shares.pick(draw)));
        }
    }
}

#[test]
fn what_is_kept_changes_no_choice() {
    let posteriors: Vec<Beta> = (1_i32..=10).map(|n| beta(f64::from(n), 300.0)).collect();
    let mut one = Thompson::new(&posteriors, Floor::default(), 1).unwrap();
    let mut many = Thompson::new(&posteriors, Floor::default(), 4_096).unwrap();
    let sets = || (0..3_000_u64).map(|n| (0..12).filter(|bit| mix(n % 700) >> bit & 1 == 1).collect::<Eligible>());
    for (eligible, draw) in sets().zip(draws(3_000)) {
        assert_eq!(one.choose(eligible, draw), many.choose(eligible, draw));
    }
    println!("computed: {} with room for 1, {} with room for 4,096, of 3,000", one.computed(), many.computed());
    assert!(many.computed() < 700 && one.computed() > 2_900);
}

#[test]
fn odd_inputs_have_documented_results() {
    let good = beta(1.0, 9.0);
    let is_refused = |posteriors: &[Beta]| Thompson::new(posteriors, Floor::default(), 1).is_none();
    assert!(is_refused(&[]) && is_refused(&[good; 65]));
    for bad in [0.0, -1.0, 0.09, f64::NAN, f64::INFINITY, 2e12] {
        assert!(is_refused(&[good, beta(bad, 1.0)]) && is_refused(&[beta(1.0, bad)]));
    }
    let mut thompson = Thompson::new(&[good; 3], Floor::default(), 0).unwrap();
    let draw = Draw::new(1, 2, 3);
    assert_eq!(thompson.choose(Eligible::default(), draw), None);
    assert_eq!(thompson.choose([3, 60].into_iter().collect(), draw), None);
    let only = thompson.choose([2, 60].into_iter().collect(), draw);
    assert_eq!(only, Some(Chosen { index: 2, propensity: 1.0, candidates: 1 }));
    assert_eq!((thompson.creatives(), good.mean()), (3, 0.1));
}
