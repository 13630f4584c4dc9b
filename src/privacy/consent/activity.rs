//! What the processor does with a user's data, and sets of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One thing that is done with a user's data, and needs permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Change the user's profile.
    Write,
    /// Run a model on the user's features.
    Score,
    /// Emit a personalised decision. Without permission the decision is a suppression that says so.
    Emit,
    /// Count impressions, clicks and conversions of the user.
    Measure,
    /// Export the user's rows for training.
    Train,
}

impl Activity {
    /// All activities, in the order of their bits.
    pub const ALL: [Self; 5] = [Self::Write, Self::Score, Self::Emit, Self::Measure, Self::Train];

    /// The name in the configuration and in labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Score => "score",
            Self::Emit => "emit",
            Self::Measure => "measure",
            Self::Train => "train",
        }
    }
}

/// A set of activities, in the low five bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions(u8);

impl Permissions {
    /// Nothing is permitted.
    pub const NONE: Self = Self(0);
    /// Everything is permitted.
    pub const ALL: Self = Self(0b1_1111);

    /// Whether the activity is in the set.
    pub fn allows(self, activity: Activity) -> bool {
        self.0 >> activity as u8 & 1 == 1
    }

    /// The set with the activity.
    #[must_use]
    pub fn with(self, activity: Activity) -> Self {
        Self(self.0 | 1 << activity as u8)
    }

    /// The set without the activity.
    #[must_use]
    pub fn without(self, activity: Activity) -> Self {
        Self(self.0 & !(1 << activity as u8))
    }

    /// What is in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is not in the set.
    #[must_use]
    pub fn complement(self) -> Self {
        Self(!self.0 & Self::ALL.0)
    }

    /// Whether everything in this set is also in the other.
    pub fn is_within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The set as bits: write is bit 0, train is bit 4.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// The set with these bits. Further bits are ignored.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The activities in the set.
    pub fn iter(self) -> impl Iterator<Item = Activity> {
        Activity::ALL.into_iter().filter(move |activity| self.allows(*activity))
    }
}

impl FromIterator<Activity> for Permissions {
    fn from_iter<I: IntoIterator<Item = Activity>>(activities: I) -> Self {
        activities.into_iter().fold(Self::NONE, Self::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        for bits in 0..32 {
            let set = Permissions::from_bits(bits);
            assert_eq!(set.iter().collect::<Permissions>(), set);
            assert_eq!(set.and(set.complement()), Permissions::NONE);
            assert!(set.is_within(Permissions::ALL) && Permissions::NONE.is_within(set));
            for activity in Activity::ALL {
                assert!(set.with(activity).allows(activity) && !set.without(activity).allows(activity));
            }
        }
        assert_eq!(Permissions::from_bits(0xff), Permissions::ALL);
        assert_eq!(Permissions::NONE.with(Activity::Train).bits(), 16);
    }
}
