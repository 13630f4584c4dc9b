//! Groups of few users: figures of a segment with a handful of members would be figures about them.
//!
//! Guarantees: with a minimum, no group of a grouping by segment has fewer users. Those that do are one group together, which
//! is left out if even it has fewer. Limits: what a reader subtracts from the sums of all is not prevented.

use super::{EffectError, group::Group};

/// Groups, each with the number of its grouping.
type Numbered<'a> = Vec<(u32, &'a Group)>;

/// The groups with enough users, and all others as one.
pub(super) fn merged(groups: Numbered<'_>, minimum: u64) -> Result<(Numbered<'_>, Option<Group>), EffectError> {
    let (enough, fewer): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(_, group)| group.has_users(minimum));
    let mut all = Group::new(format!("fewer than {minimum} users"))?;
    for (_, group) in fewer {
        all.merge(group, minimum)?;
    }
    let is_shown = minimum > 0 && all.has_users(minimum);
    Ok((enough, is_shown.then_some(all)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str, users: std::ops::Range<u64>) -> Group {
        let mut group = Group::new(name.to_owned()).unwrap();
        for user in users {
            group.decisions += 2;
            group.see(user, 10);
            group.see(user, 10);
        }
        group
    }

    #[test]
    fn groups_of_few_users_are_one_and_none_if_that_has_few_too() {
        let groups = [group("large", 0..10), group("a", 20..26), group("b", 24..30)];
        let (enough, fewer) = merged((1..).zip(&groups).collect(), 10).unwrap();
        assert_eq!(enough.iter().map(|(_, group)| group.name.as_str()).collect::<Vec<_>>(), ["large"]);
        let fewer = fewer.expect("ten users together");
        assert_eq!((fewer.name.as_str(), fewer.decisions), ("fewer than 10 users", 24));
        let (enough, fewer) = merged((1..).zip(&groups[..2]).collect(), 10).unwrap();
        assert_eq!((enough.len(), fewer.is_none()), (1, true), "six users stay six under any name");
        let (enough, fewer) = merged((1..).zip(&groups).collect(), 0).unwrap();
        assert_eq!((enough.len(), fewer.is_none()), (3, true));
    }
}
