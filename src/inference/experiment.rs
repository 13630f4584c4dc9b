//! Experiments: assigns users to the models that decide for them.
//!
//! Guarantees: a user's variant depends only on the user's key, the experiment's name and the shares, so it is the same on every
//! worker, after every restart and in every replay. Hashes are divided into [`BUCKETS`] equal buckets (to one hash in 2^64). A variant
//! gets exactly its share of the buckets and the control gets the rest; the number of users in each is distributed as if users were
//! drawn independently. The name is the salt: experiments with different names split users independently. Buckets are assigned in
//! the order of declaration, so increasing the share of the last variant only moves users from the control to it. Limits:
//! [`VARIANTS_MAX`] variants; a user with a new key is a new user.

use crate::config_error::ConfigError;
use rapidhash::v3::{RapidSecrets, rapidhash_v3, rapidhash_v3_seeded};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The number of buckets: a share is a multiple of 0.01 %.
pub const BUCKETS: u32 = 10_000;

/// Maximum number of variants: each costs every worker a session and makes batches smaller.
pub const VARIANTS_MAX: usize = 16;

/// The variant name of users for whom `[model]` decides.
pub const CONTROL: &str = "control";

/// `[experiment]`: how users are split between the model and its variants.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExperimentSpec {
    /// Its name, which appears in decisions; another name splits the users differently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The share of the users of each variant, 0.0001 to 1.
    pub shares: BTreeMap<String, f64>,
}

/// The experiment in a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExperimentReference {
    /// The experiment's name.
    pub name: String,
    /// The user's variant.
    pub variant: String,
}

/// A running experiment.
#[derive(Clone, Debug)]
pub struct Experiment {
    name: String,
    salt: RapidSecrets,
    /// The names of the arms: the control, then the variants.
    arms: Vec<String>,
    /// The end of each variant's range of buckets, exclusive.
    ends: Vec<u32>,
}

impl Experiment {
    /// Splits the users between the variants, given by their names in the order of `[[variant]]`; `None` without variants.
    ///
    /// # Errors
    /// Lists everything that is wrong with names and shares.
    pub fn new(spec: &ExperimentSpec, variants: &[Option<&str>]) -> Result<Option<Self>, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let names = names(variants, &mut errors);
        if variants.len() > VARIANTS_MAX {
            let message = format!("expected at most {VARIANTS_MAX} variants, found {}", variants.len());
            errors.push(ConfigError::new("variant", message));
        }
        let name = spec.name.clone().filter(|name| !name.is_empty());
        if name.is_none() && !variants.is_empty() {
            errors.push(
                ConfigError::new(
                    "experiment.name",
                    "variants need the name of their experiment, by which users are split",
                )
                .hint("for instance name = \"propensity-2\"; another name splits the users differently"),
            );
        }
        for variant in spec.shares.keys().filter(|name| !names.contains(&name.as_str())) {
            let error =
                ConfigError::new(format!("experiment.shares.{variant}"), format!("no variant is named {variant:?}"));
            errors.push(match variant.as_str() {
                CONTROL => error.hint("the control is [model], which has the rest of the users"),
                _ => error.hint("declare it under [[variant]], or remove its share"),
            });
        }
        let mut ends = Vec::with_capacity(names.len());
        let mut end = 0;
        for name in &names {
            match spec.shares.get(*name) {
                Some(share) => match buckets(*share) {
                    Some(buckets) => end += buckets,
                    None => errors.push(
                        ConfigError::new(
                            format!("experiment.shares.{name}"),
                            format!("{share} is not between 0.0001 and 1, or has more than four decimals"),
                        )
                        .hint("for instance 0.05 for one user in twenty; remove a variant without users"),
                    ),
                },
                None => errors.push(
                    ConfigError::new("experiment.shares", format!("the variant {name:?} has no share of the users"))
                        .hint(format!("for instance shares = {{ {name} = 0.1 }}")),
                ),
            }
            ends.push(end);
        }
        if end > BUCKETS {
            let sum = f64::from(end) / f64::from(BUCKETS);
            errors
                .push(ConfigError::new("experiment.shares", format!("the shares sum to {sum}, which is more than 1")));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let Some(name) = name.filter(|_| !variants.is_empty()) else { return Ok(None) };
        let salt = RapidSecrets::seed(rapidhash_v3(name.as_bytes()));
        let arms = [CONTROL].iter().chain(&names).map(|&name| name.to_owned()).collect();
        Ok(Some(Self { name, salt, arms, ends }))
    }

    /// The index of a user's arm: 0 is the control, and the variants follow in their order.
    pub fn arm_of(&self, user: &[u8]) -> usize {
        let bucket = self.bucket_of(user);
        self.ends.iter().position(|end| bucket < *end).map_or(0, |variant| variant + 1)
    }

    /// A user's bucket, below [`BUCKETS`]: the hash scaled down by multiplication, which has no modulo bias.
    fn bucket_of(&self, user: &[u8]) -> u32 {
        let hash = rapidhash_v3_seeded(user, &self.salt);
        ((u128::from(hash) * u128::from(BUCKETS)) >> 64) as u32
    }

    /// The experiment in decisions of this arm.
    ///
    /// # Panics
    /// The arm does not exist.
    pub fn reference(&self, arm: usize) -> ExperimentReference {
        ExperimentReference { name: self.name.clone(), variant: self.arms[arm].clone() }
    }
}

/// Validates the names of the variants; problems are added to `errors`.
fn names<'a>(variants: &[Option<&'a str>], errors: &mut Vec<ConfigError>) -> Vec<&'a str> {
    let mut names = Vec::with_capacity(variants.len());
    for (index, variant) in variants.iter().enumerate() {
        let key = format!("variant[{index}].name");
        match *variant {
            None | Some("") => errors.push(
                ConfigError::new(format!("variant[{index}]"), "a variant needs a name, which appears in its decisions")
                    .hint("for instance name = \"challenger\""),
            ),
            Some(CONTROL) => errors.push(
                ConfigError::new(key, format!("{CONTROL:?} is reserved for decisions of [model]"))
                    .hint("choose another name"),
            ),
            Some(name) if names.contains(&name) => {
                errors.push(ConfigError::new(key, format!("{name:?} is the name of another variant")));
            }
            Some(name) => names.push(name),
        }
    }
    names
}

/// The number of buckets of a share, if it is a whole number.
fn buckets(share: f64) -> Option<u32> {
    let buckets = share * f64::from(BUCKETS);
    // A share with four decimals differs from a whole number only by rounding.
    let is_whole = (buckets - buckets.round()).abs() < 1e-6;
    (is_whole && (1.0..=f64::from(BUCKETS)).contains(&buckets.round())).then(|| buckets.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(name: &str, shares: &[(&str, f64)]) -> Experiment {
        let spec = ExperimentSpec {
            name: Some(name.to_owned()),
            shares: shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect(),
        };
        let variants: Vec<_> = shares.iter().map(|(name, _)| Some(*name)).collect();
        Experiment::new(&spec, &variants).expect("a valid experiment").expect("there are variants")
    }

    /// Sequential keys, which a weak hash would not spread.
    fn users(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|number| format!("user-{number:07}"))
    }

    const USERS: usize = 1_000_000;

    #[test]
    fn each_variant_gets_its_share_of_a_million_users_in_equal_buckets() {
        let it = experiment("spring", &[("a", 0.1), ("b", 0.25), ("c", 0.0001)]);
        let mut by_bucket = vec![0_u32; BUCKETS as usize];
        let mut by_arm = [0_u32; 4];
        for user in users(USERS) {
            by_bucket[it.bucket_of(user.as_bytes()) as usize] += 1;
            by_arm[it.arm_of(user.as_bytes())] += 1;
        }
        // Buckets below 1000 belong to a, those below 3500 to b, and one to c.
        let sum = |range: std::ops::Range<usize>| by_bucket[range].iter().sum::<u32>();
        assert_eq!(by_arm, [sum(3_501..10_000), sum(0..1_000), sum(1_000..3_500), sum(3_500..3_501)]);
        assert_eq!(by_arm.iter().sum::<u32>() as usize, USERS);
        // The number of users is binomial: five standard deviations fail once in 1.7 million tries.
        for (count, share) in by_arm.iter().zip([0.6499, 0.1, 0.25, 0.0001]) {
            let mean = USERS as f64 * share;
            let deviation = (mean * (1.0 - share)).sqrt();
            assert!((f64::from(*count) - mean).abs() < 5.0 * deviation, "{count} users for a share of {share}");
        }
        // The buckets are uniform: chi-square with 9,999 degrees of freedom, nearly normal, within five deviations.
        let mean = USERS as f64 / f64::from(BUCKETS);
        let chi_square: f64 = by_bucket.iter().map(|count| (f64::from(*count) - mean).powi(2) / mean).sum();
        let (freedom, deviation) = (9_999.0, 141.4);
        assert!((chi_square - freedom).abs() < 5.0 * deviation, "chi-square {chi_square}");
    }

    #[test]
    fn experiments_split_the_same_users_independently() {
        let shares = [("a", 0.2), ("b", 0.3)];
        let (one, other) = (experiment("spring", &shares), experiment("spring-2", &shares));
        let mut joint = [[0_u32; 3]; 3];
        for user in users(USERS) {
            joint[one.arm_of(user.as_bytes())][other.arm_of(user.as_bytes())] += 1;
        }
        let row = |at: usize| f64::from(joint[at].iter().sum::<u32>());
        let column = |at: usize| f64::from(joint.iter().map(|row| row[at]).sum::<u32>());
        let mut chi_square = 0.0;
        for (at, counts) in joint.iter().enumerate() {
            for (other, count) in counts.iter().enumerate() {
                let expected = row(at) * column(other) / USERS as f64;
                chi_square += (f64::from(*count) - expected).powi(2) / expected;
            }
        }
        // Four degrees of freedom: independent splits exceed 23.5 once in ten thousand tries.
        assert!(chi_square < 23.5, "chi-square {chi_square} of {joint:?}");
        // A check of the test: an experiment is not independent of itself.
        assert!(users(100).all(|user| one.arm_of(user.as_bytes()) == one.clone().arm_of(user.as_bytes())));
    }

    #[test]
    fn a_user_keeps_the_variant_while_the_last_one_grows() {
        let [before, after] = [0.1, 0.4].map(|share| experiment("spring", &[("a", 0.2), ("b", share)]));
        let mut moved = 0;
        for user in users(100_000) {
            match [before.arm_of(user.as_bytes()), after.arm_of(user.as_bytes())] {
                [0, 2] => moved += 1,
                [before, after] => assert_eq!(before, after, "{user}"),
            }
        }
        assert!((29_000..31_000).contains(&moved), "{moved} of 100000 users moved for a share of 0.3");
    }

    /// A new version of this program or of the hash must not change the split of running experiments.
    #[test]
    fn buckets_never_change() {
        let it = experiment("spring", &[("a", 0.5)]);
        let found = ["", "u1", "ann@example.com", "4aae6dff-9d92-4c83-8001-000000000001"]
            .map(|user| it.bucket_of(user.as_bytes()));
        assert_eq!(found, [7_320, 624, 1_158, 3_277]);
    }

    /// The experiment's name, its shares, the variants' names, and the start of the error.
    type Case<'a> = (Option<&'a str>, &'a [(&'a str, f64)], &'a [Option<&'a str>], &'a str);

    #[test]
    fn invalid_experiments_are_reported_with_their_keys() {
        let errors = |name: Option<&str>, shares: &[(&str, f64)], variants: &[Option<&str>]| -> Vec<String> {
            let spec = ExperimentSpec {
                name: name.map(str::to_owned),
                shares: shares.iter().map(|(name, share)| ((*name).to_owned(), *share)).collect(),
            };
            let found = Experiment::new(&spec, variants).err().unwrap_or_default();
            found.into_iter().map(|error| format!("{}: {}", error.key, error.message)).collect()
        };
        let (a, b) = (Some("a"), Some("b"));
        let cases: [Case<'_>; 11] = [
            (None, &[("a", 0.1)], &[a], "experiment.name: variants need the name"),
            (Some("x"), &[], &[a], "experiment.shares: the variant \"a\" has no share"),
            (Some("x"), &[("a", 0.1)], &[], "experiment.shares.a: no variant is named \"a\""),
            (Some("x"), &[("a", 0.1), ("control", 0.9)], &[a], "experiment.shares.control: no variant"),
            (Some("x"), &[("a", 0.0)], &[a], "experiment.shares.a: 0 is not between"),
            (Some("x"), &[("a", 0.000_05)], &[a], "experiment.shares.a: 0.00005 is not between"),
            (Some("x"), &[("a", f64::NAN)], &[a], "experiment.shares.a: NaN is not between"),
            (Some("x"), &[("a", 0.6), ("b", 0.5)], &[a, b], "experiment.shares: the shares sum to 1.1"),
            (Some("x"), &[("a", 0.1)], &[a, None], "variant[1]: a variant needs a name"),
            (Some("x"), &[("a", 0.1)], &[a, a], "variant[1].name: \"a\" is the name of another"),
            (Some("x"), &[("a", 0.1)], &[a, Some("control")], "variant[1].name: \"control\" is reserved"),
        ];
        for (name, shares, variants, expected) in cases {
            let found = errors(name, shares, variants);
            assert!(found.iter().any(|error| error.starts_with(expected)), "{expected}: {found:?}");
        }
        assert_eq!(errors(Some("x"), &[("a", 0.6), ("b", 0.4)], &[a, b]), [""; 0]);
        assert!(Experiment::new(&ExperimentSpec::default(), &[]).is_ok_and(|it| it.is_none()));
    }
}
