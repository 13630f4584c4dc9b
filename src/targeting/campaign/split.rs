//! Splits users between holdout, arms and control.
//!
//! Guarantees: a user's part depends only on the hash of the user's key, the campaign's id and the shares. It is
//! therefore the same on every worker, after every restart and in every replay. Salted hashes are divided into
//! [`BUCKETS`] equal buckets (to one hash in 2^64), and each part gets exactly its share of them. Arms take buckets
//! from the start, in order, the holdout takes them from the end, and the control gets those in between. Growing the
//! last arm or the holdout therefore only moves users out of the control. Growing another arm also shifts the arms
//! after it.
//!
//! Limits: [`ARMS_MAX`] arms, and shares in steps of 0.01 %. A user with a new key is a new user.

use super::spec::CampaignSpec;
use crate::{config_error::ConfigError, random::mix};
use rapidhash::v3::rapidhash_v3;

/// The number of buckets. Shares are multiples of 0.01 %.
pub(super) const BUCKETS: u32 = 10_000;

/// The maximum number of arms. Decisions contain their names, and with more arms, each would have too few users to
/// compare.
const ARMS_MAX: usize = 16;

/// The arm of users in no other arm, if there are arms.
const CONTROL: &str = "control";

/// What reports call the users who are held out.
const HOLDOUT: &str = "holdout";

/// The part of the split that a user is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The user never sees the campaign.
    Holdout,
    /// The index of the user's arm in [`Split::arms`]. `None` without an experiment.
    Arm(Option<u8>),
}

/// How a campaign splits the users.
#[derive(Clone, Debug, Default)]
pub(super) struct Split {
    salt: u64,
    /// The names of the arms, the control first; empty without an experiment.
    arms: Vec<String>,
    /// The exclusive end of the buckets of each arm except the control.
    ends: Vec<u32>,
    /// The first bucket of the holdout.
    held_from: u32,
}

impl Split {
    /// Compiles the shares of a campaign. Errors are added under `campaign[index]`.
    pub(super) fn compile(index: usize, spec: &CampaignSpec, errors: &mut Vec<ConfigError>) -> Self {
        let key = |rest: String| format!("campaign[{index}].{rest}");
        let mut ends = Vec::with_capacity(spec.arms.len());
        let mut end = 0;
        if spec.arms.len() > ARMS_MAX {
            let message = format!("expected at most {ARMS_MAX} arms, found {}", spec.arms.len());
            errors.push(ConfigError::new(key("arms".to_owned()), message).hint("remove some, or split the campaign"));
        }
        for (number, arm) in spec.arms.iter().enumerate() {
            let name = || key(format!("arms[{number}].name"));
            if arm.name.is_empty() {
                errors.push(ConfigError::new(name(), "an arm needs a name").hint("decisions and reports show it"));
            } else if arm.name == CONTROL {
                errors.push(
                    ConfigError::new(name(), format!("{CONTROL:?} is the arm of users who are in none"))
                        .hint("choose another name, or remove the arm: the control has the rest of the users"),
                );
            } else if arm.name == HOLDOUT {
                errors.push(
                    ConfigError::new(name(), format!("{HOLDOUT:?} is what reports call the users who are held out"))
                        .hint("choose another name; to hold users out, set the campaign's holdout"),
                );
            } else if spec.arms[..number].iter().any(|other| other.name == arm.name) {
                errors.push(
                    ConfigError::new(name(), format!("{:?} is the name of another arm", arm.name))
                        .hint("rename one of them"),
                );
            }
            match buckets(arm.share) {
                Some(buckets) if buckets > 0 => end += buckets,
                _ => errors.push(
                    ConfigError::new(
                        key(format!("arms[{number}].share")),
                        format!("{} is not between 0.0001 and 1, or has more than four decimals", arm.share),
                    )
                    .hint("for instance 0.05 for one user in twenty; remove an arm without users"),
                ),
            }
            ends.push(end);
        }
        let held = buckets(spec.holdout).unwrap_or_else(|| {
            errors.push(
                ConfigError::new(
                    key("holdout".to_owned()),
                    format!("{} is not between 0 and 1, or has more than four decimals", spec.holdout),
                )
                .hint("for instance 0.1 for one user in ten"),
            );
            0
        });
        let sum = end.saturating_add(held);
        if sum > BUCKETS {
            let sum = f64::from(sum) / f64::from(BUCKETS);
            let (part, what) =
                if spec.arms.is_empty() { ("holdout", "holdout") } else { ("arms", "shares of arms and holdout") };
            errors.push(
                ConfigError::new(key(part.to_owned()), format!("the {what} sum to {sum}, which is more than 1"))
                    .hint("lower one of them; what is left is the control's"),
            );
        } else if held == BUCKETS {
            errors.push(
                ConfigError::new(key("holdout".to_owned()), "all users are held out, so nobody sees the campaign")
                    .hint("lower it, or remove the campaign"),
            );
        }
        let control = (!spec.arms.is_empty()).then(|| CONTROL.to_owned());
        Self {
            salt: rapidhash_v3(spec.id.as_bytes()),
            arms: control.into_iter().chain(spec.arms.iter().map(|arm| arm.name.clone())).collect(),
            ends,
            held_from: BUCKETS.saturating_sub(held),
        }
    }

    /// The names of the arms, the control first; empty without an experiment.
    pub(super) fn arms(&self) -> &[String] {
        &self.arms
    }

    /// The part of the user with this hash.
    pub(super) fn part_of(&self, user_hash: u64) -> Part {
        if self.held_from == BUCKETS && self.arms.is_empty() {
            return Part::Arm(None);
        }
        let bucket = self.bucket_of(user_hash);
        if bucket >= self.held_from {
            return Part::Holdout;
        }
        if self.arms.is_empty() {
            return Part::Arm(None);
        }
        let arm = self.ends.iter().position(|end| bucket < *end).map_or(0, |arm| arm + 1);
        // There are at most `ARMS_MAX` arms and the control.
        Part::Arm(Some(arm as u8))
    }

    /// A user's bucket, below [`BUCKETS`]: the salted hash scaled down by multiplication, which has no modulo bias. The
    /// hashes for two salts differ in about half of their bits, so campaigns split users independently.
    pub(super) fn bucket_of(&self, user_hash: u64) -> u32 {
        let hash = mix(user_hash ^ self.salt);
        ((u128::from(hash) * u128::from(BUCKETS)) >> 64) as u32
    }
}

/// The number of buckets for a share, if it is a whole number.
fn buckets(share: f64) -> Option<u32> {
    let buckets = share * f64::from(BUCKETS);
    // A share with four decimals differs from a whole number only by rounding.
    let is_whole = (buckets - buckets.round()).abs() < 1e-6;
    (is_whole && (0.0..=f64::from(BUCKETS)).contains(&buckets.round())).then(|| buckets.round() as u32)
}

#[cfg(test)]
mod tests {
    use super::super::spec::ArmSpec;
    use super::*;

    fn split(id: &str, holdout: f64, arms: &[(&str, f64)]) -> Split {
        let arms = arms.iter().map(|(name, share)| ArmSpec { name: (*name).to_owned(), share: *share }).collect();
        let spec = CampaignSpec { id: id.to_owned(), holdout, arms, ..CampaignSpec::default() };
        let mut errors = Vec::new();
        let split = Split::compile(0, &spec, &mut errors);
        assert_eq!(errors, []);
        split
    }

    /// The hashes of sequential keys, as the store computes them.
    fn users(count: usize) -> impl Iterator<Item = u64> {
        (0..count).map(|number| rapidhash_v3(format!("user-{number:07}").as_bytes()))
    }

    #[test]
    fn each_part_gets_exactly_its_share_of_the_buckets() {
        const USERS: usize = 1_000_000;
        let it = split("spring", 0.1, &[("a", 0.2), ("b", 0.0001)]);
        assert_eq!(
            (it.arms(), &it.ends[..], it.held_from),
            (&["control", "a", "b"].map(str::to_owned)[..], &[2_000, 2_001][..], 9_000)
        );
        let mut counts = [0_u32; 4];
        for user in users(USERS) {
            let bucket = it.bucket_of(user);
            let part = it.part_of(user);
            let expected = match bucket {
                0..2_000 => Part::Arm(Some(1)),
                2_000 => Part::Arm(Some(2)),
                2_001..9_000 => Part::Arm(Some(0)),
                _ => Part::Holdout,
            };
            assert_eq!(part, expected);
            counts[match part {
                Part::Holdout => 3,
                Part::Arm(arm) => usize::from(arm.unwrap()),
            }] += 1;
        }
        // Binomial: five standard deviations fail once in 1.7 million tries.
        for (count, share) in counts.into_iter().zip([0.6999, 0.2, 0.0001, 0.1]) {
            let mean = USERS as f64 * share;
            assert!((f64::from(count) - mean).abs() < 5.0 * (mean * (1.0 - share)).sqrt(), "{count} for {share}");
        }
    }

    #[test]
    fn growing_the_last_arm_or_the_holdout_takes_users_from_the_control_alone() {
        let before = split("spring", 0.1, &[("a", 0.2), ("b", 0.1)]);
        let more_b = split("spring", 0.1, &[("a", 0.2), ("b", 0.4)]);
        let more_held = split("spring", 0.3, &[("a", 0.2), ("b", 0.1)]);
        let control = Part::Arm(Some(0));
        let mut moved = [0, 0];
        for user in users(50_000) {
            for (moved, after) in moved.iter_mut().zip([&more_b, &more_held]) {
                let (was, is) = (before.part_of(user), after.part_of(user));
                assert!(was == is || was == control, "{was:?} became {is:?}");
                *moved += i32::from(was != is);
            }
        }
        assert!((14_000..16_000).contains(&moved[0]) && (9_300..10_700).contains(&moved[1]), "{moved:?}");
    }

    #[test]
    fn campaigns_split_the_same_users_independently() {
        let (one, other) = (split("spring", 0.5, &[]), split("spring-2", 0.5, &[]));
        let mut joint = [[0_u32; 2]; 2];
        let half = |split: &Split, user| usize::from(split.part_of(user) == Part::Holdout);
        for user in users(100_000) {
            joint[half(&one, user)][half(&other, user)] += 1;
        }
        for count in joint.as_flattened() {
            // Five standard deviations of a binomial with a quarter of 100,000 users.
            assert!(count.abs_diff(25_000) < 685, "{joint:?}");
        }
    }

    /// A new version must not change the split of running campaigns.
    #[test]
    fn buckets_never_change() {
        let it = split("spring", 0.5, &[]);
        let found = ["u1", "ann@example.com", "device:7"].map(|user| it.bucket_of(rapidhash_v3(user.as_bytes())));
        assert_eq!(found, [7_360, 2_707, 6_630]);
    }
}
