//! Which assigned partitions wait for their changelog, and how often a fenced member rejoins its group.

use std::time::Duration;

/// How often the broker is asked again about missing changelog partitions.
const CHANGELOG_CHECK: Duration = Duration::from_secs(5);

/// How often in a row a fenced member rejoins the group. Two processes with the same instance id would fence each other
/// forever.
const REJOINS_MAX: u32 = 5;

/// The first pause before a member rejoins. It doubles each time.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

/// The count is reset after this time without being fenced.
const REJOINS_FORGOTTEN: Duration = Duration::from_mins(10);

/// What a fenced member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FencedAction {
    /// Pause, then rejoin the group.
    Rejoin {
        /// The length of the pause.
        pause: Duration,
    },
    /// It has been fenced too often: end the worker.
    Stop,
}

/// The assigned partitions that are not processed yet, and the state of the membership.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    /// Partitions whose changelog partition does not exist. They are not read until it does.
    without_changelog: Vec<i32>,
    checked_at: Duration,
    rejoins: u32,
    rejoined_at: Duration,
}

impl Assignment {
    /// Adds partitions. Those in `missing` have no changelog. Returns the partitions that can be recovered now, and
    /// those that must wait.
    pub(crate) fn assigned(&mut self, partitions: &[i32], missing: &[i32]) -> (Vec<i32>, Vec<i32>) {
        let (waiting, ready): (Vec<i32>, Vec<i32>) = partitions.iter().copied().partition(|it| missing.contains(it));
        self.without_changelog.extend(&waiting);
        (ready, waiting)
    }

    /// This worker no longer owns these partitions.
    pub(crate) fn released(&mut self, partitions: &[i32]) {
        self.without_changelog.retain(|number| !partitions.contains(number));
    }

    /// The partitions that wait for their changelog.
    pub(crate) fn without_changelog(&self) -> &[i32] {
        &self.without_changelog
    }

    /// Whether it is time to ask about the missing changelog partitions again. If so, the next time is a while later.
    pub(crate) fn take_changelog_check(&mut self, now: Duration) -> bool {
        let is_due = !self.without_changelog.is_empty() && now.saturating_sub(self.checked_at) >= CHANGELOG_CHECK;
        if is_due {
            self.checked_at = now;
        }
        is_due
    }

    /// Handles the answer that these are still missing. Returns the partitions that can be recovered now.
    pub(crate) fn changelog_checked(&mut self, missing: Vec<i32>) -> Vec<i32> {
        let before = std::mem::replace(&mut self.without_changelog, missing);
        before.into_iter().filter(|it| !self.without_changelog.contains(it)).collect()
    }

    /// The group has fenced this member: all partitions are lost.
    pub(crate) fn fenced(&mut self, now: Duration) -> FencedAction {
        self.without_changelog.clear();
        if now.saturating_sub(self.rejoined_at) > REJOINS_FORGOTTEN {
            self.rejoins = 0;
        }
        if self.rejoins >= REJOINS_MAX {
            return FencedAction::Stop;
        }
        FencedAction::Rejoin { pause: REJOIN_PAUSE * (1 << self.rejoins) }
    }

    /// The member has rejoined the group.
    pub(crate) fn rejoined(&mut self, now: Duration) {
        self.rejoins += 1;
        self.rejoined_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn partitions_without_a_changelog_wait_until_it_is_there() {
        let mut assignment = Assignment::default();
        assert!(!assignment.take_changelog_check(SECOND * 60), "there is nothing to ask for");
        assert_eq!(assignment.assigned(&[1, 2, 3, 4], &[2, 3, 4]), (vec![1], vec![2, 3, 4]));
        assert!(assignment.take_changelog_check(SECOND * 60) && !assignment.take_changelog_check(SECOND * 64));
        assignment.released(&[4]);
        assert_eq!(assignment.changelog_checked(vec![3]), [2]);
        assert_eq!(assignment.without_changelog(), [3]);
        assert!(assignment.take_changelog_check(SECOND * 65));
    }

    #[test]
    fn a_member_that_is_fenced_again_and_again_gives_up_and_a_quiet_while_forgives_it() {
        let mut assignment = Assignment::default();
        assignment.assigned(&[1], &[1]);
        let mut now = SECOND;
        for rejoins in 0..5 {
            let pause = SECOND * (1 << rejoins);
            assert_eq!(assignment.fenced(now), FencedAction::Rejoin { pause });
            now += pause;
            assignment.rejoined(now);
        }
        assert!(assignment.without_changelog().is_empty(), "all partitions are lost");
        assert_eq!(assignment.fenced(now), FencedAction::Stop);
        now += REJOINS_FORGOTTEN + SECOND;
        assert_eq!(assignment.fenced(now), FencedAction::Rejoin { pause: SECOND });
    }
}
