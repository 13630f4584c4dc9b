//! Experiments: who is in which arm, and what these users did.
//!
//! Owns the members of each experiment: of a campaign, whose users are split into arms, control and holdout, and of the
//! models, whose users are split into variants and control. The unit is the user, because that is what was randomised.
//! A user enters at the first decision that considers them, and counts for the arm whether or not anything was shown
//! (intention to treat). What users did before they entered does not count.
//!
//! Guarantees: the order of the rows does not matter beyond the times they carry. A user seen in two arms counts for
//! none. Limits: [`MEMBERS_MAX`] members of all experiments together, about 60 bytes each; beyond, a random half of the
//! users is left out, of all arms alike.

use super::halving::Halving;
use std::collections::{BTreeMap, HashMap};

/// The most members.
const MEMBERS_MAX: usize = 2_000_000;

/// The arm of users in no other, as decisions name it.
pub(super) const CONTROL: &str = "control";
/// The arm of users who never see a campaign.
pub(super) const HOLDOUT: &str = "holdout";
/// The arm of the others, if a campaign has a holdout but no arms.
pub(super) const OFFERED: &str = "offered";

/// The mark of a user who was seen in two arms.
const CROSSED: u16 = u16::MAX;

/// By how much the clocks of worker and bidder may differ: an outcome may be this much before the decision.
const SKEW: i64 = 60_000_000;

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Subject {
    /// The arms of a campaign, by its id.
    Campaign(String),
    /// The variants of the model, by the experiment's name.
    Models(String),
}

/// A user in an experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    arm: u16,
    entered_at: i64,
    clicked: bool,
    converted: bool,
    revenue_micros: i64,
}

/// What a user did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Clicked.
    Click,
    /// Converted, with this revenue in micros.
    Conversion(i64),
}

/// An experiment.
#[derive(Clone, Debug, Default)]
pub(super) struct Trial {
    arms: Vec<String>,
    members: HashMap<u64, Member>,
}

/// The users of an arm.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ArmSums {
    /// Users.
    pub(super) users: u64,
    /// Those who clicked.
    pub(super) clicked: u64,
    /// Those who converted.
    pub(super) converted: u64,
    /// What each of them brought, in micros.
    pub(super) revenues: Vec<i64>,
}

/// What an experiment has found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TrialSums {
    /// By arm.
    pub(super) arms: BTreeMap<String, ArmSums>,
    /// Users who were seen in two arms.
    pub(super) crossed: u64,
    /// When the first and the last user entered.
    pub(super) entered: Option<(i64, i64)>,
}

impl Trial {
    fn arm(&mut self, name: &str) -> u16 {
        let at = self.arms.iter().position(|arm| arm == name).unwrap_or_else(|| {
            self.arms.push(name.to_owned());
            self.arms.len() - 1
        });
        // A campaign has at most 18 arms; what a log names beyond 2^16 is one arm.
        u16::try_from(at).unwrap_or(CROSSED - 1)
    }

    /// The sums of each arm.
    pub(super) fn sums(&self) -> TrialSums {
        let mut sums = TrialSums::default();
        for member in self.members.values() {
            let (first, last) = sums.entered.unwrap_or((member.entered_at, member.entered_at));
            sums.entered = Some((first.min(member.entered_at), last.max(member.entered_at)));
            let Some(name) = self.arms.get(usize::from(member.arm)) else {
                sums.crossed += 1;
                continue;
            };
            if !sums.arms.contains_key(name) {
                sums.arms.insert(name.clone(), ArmSums::default());
            }
            let Some(arm) = sums.arms.get_mut(name) else { continue };
            arm.users += 1;
            arm.clicked += u64::from(member.clicked);
            arm.converted += u64::from(member.converted);
            arm.revenues.push(member.revenue_micros);
        }
        // Members are in no order; sums of floats must not depend on it.
        sums.arms.values_mut().for_each(|arm| arm.revenues.sort_unstable());
        sums
    }
}

/// All experiments.
#[derive(Clone, Debug)]
pub(super) struct Trials {
    all: Vec<Trial>,
    numbers: BTreeMap<Subject, u32>,
    members: usize,
    members_max: usize,
    sample: Halving,
}

impl Default for Trials {
    fn default() -> Self {
        Self::new(MEMBERS_MAX)
    }
}

impl Trials {
    fn new(members_max: usize) -> Self {
        Self { all: Vec::new(), numbers: BTreeMap::new(), members: 0, members_max, sample: Halving::default() }
    }

    /// The number of an experiment, which begins with this call if it is new.
    pub(super) fn begin(&mut self, subject: Subject) -> u32 {
        let next = self.all.len() as u32;
        let number = *self.numbers.entry(subject).or_insert(next);
        if number == next {
            self.all.push(Trial::default());
        }
        number
    }

    /// The number of an experiment with a campaign, if there is one.
    pub(super) fn of_campaign(&self, campaign: &str) -> Option<u32> {
        self.numbers.get(&Subject::Campaign(campaign.to_owned())).copied()
    }

    /// Whether there is any.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Takes a user into an arm.
    pub(super) fn enter(&mut self, trial: u32, user: u64, arm: &str, at: i64) {
        if !self.sample.keeps(user) {
            return;
        }
        let Some(trial) = self.all.get_mut(trial as usize) else { return };
        let arm = trial.arm(arm);
        let new = Member { arm, entered_at: at, clicked: false, converted: false, revenue_micros: 0 };
        let before = trial.members.len();
        let member = trial.members.entry(user).or_insert(new);
        if member.arm != arm {
            member.arm = CROSSED;
        }
        member.entered_at = member.entered_at.min(at);
        self.members += trial.members.len() - before;
        while self.members > self.members_max && self.sample.halve() {
            let sample = self.sample;
            self.all.iter_mut().for_each(|trial| trial.members.retain(|user, _| sample.keeps(*user)));
            self.members = self.all.iter().map(|trial| trial.members.len()).sum();
        }
    }

    /// Notes what a user did, if the user is in the experiment.
    pub(super) fn note(&mut self, trial: u32, user: u64, deed: Deed, at: i64) {
        let member = self.all.get_mut(trial as usize).and_then(|trial| trial.members.get_mut(&user));
        let Some(member) = member.filter(|member| at >= member.entered_at.saturating_sub(SKEW)) else { return };
        match deed {
            Deed::Click => member.clicked = true,
            Deed::Conversion(revenue) => {
                member.converted = true;
                member.revenue_micros = member.revenue_micros.saturating_add(revenue);
            }
        }
    }

    /// One user in so many is followed.
    pub(super) fn one_in(&self) -> u64 {
        self.sample.one_in()
    }

    /// The experiments in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Subject, &Trial)> {
        self.numbers.iter().filter_map(|(subject, number)| Some((subject, self.all.get(*number as usize)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn a_user_counts_once_for_one_arm_and_only_after_entering() {
        let mut trials = Trials::default();
        let trial = trials.begin(Subject::Campaign("spring".to_owned()));
        assert_eq!(trials.begin(Subject::Campaign("spring".to_owned())), trial);
        assert_eq!((trials.of_campaign("spring"), trials.of_campaign("summer")), (Some(trial), None));
        let at = 1_000_000_000;
        for (user, arm) in [(1, "a"), (1, "a"), (2, CONTROL), (3, "a"), (4, "a"), (4, CONTROL)] {
            trials.enter(trial, user, arm, at);
        }
        for (user, deed, after) in [
            (1, Deed::Click, 0),
            (1, Deed::Click, 5),
            (1, Deed::Conversion(70), 9),
            (1, Deed::Conversion(-20), 9),
            (2, Deed::Click, -SKEW - 1),
            (3, Deed::Conversion(5), -SKEW),
            (4, Deed::Click, 1),
            (9, Deed::Click, 1),
        ] {
            trials.note(trial, user, deed, at + after);
        }
        let sums = trials.iter().next().unwrap().1.sums();
        let arm = |users, clicked, converted, revenues: &[i64]| ArmSums {
            users,
            clicked,
            converted,
            revenues: revenues.to_vec(),
        };
        let expected = [("a", arm(2, 1, 2, &[5, 50])), (CONTROL, arm(1, 0, 0, &[0]))];
        assert_eq!(sums.arms, expected.map(|(name, arm)| (name.to_owned(), arm)).into());
        assert_eq!((sums.crossed, sums.entered), (1, Some((at, at))));
    }

    #[test]
    fn too_many_users_leave_a_sample_of_whole_users_from_all_arms() {
        let mut trials = Trials::new(1_000);
        let numbers = ["one", "two"].map(|name| trials.begin(Subject::Models(name.to_owned())));
        for user in 0..16_000_u64 {
            let arm = if user % 4 == 0 { "a" } else { CONTROL };
            for trial in numbers {
                trials.enter(trial, mix(user), arm, user as i64);
            }
        }
        assert_eq!(trials.one_in(), 64);
        let kept: Vec<TrialSums> = trials.iter().map(|(_, trial)| trial.sums()).collect();
        assert_eq!(kept[0], kept[1], "the same users");
        let (a, control) = (kept[0].arms["a"].users, kept[0].arms[CONTROL].users);
        assert!((180..=320).contains(&(a + control)) && (35..=90).contains(&a), "{a} {control}");
    }
}
