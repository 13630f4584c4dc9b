//! Which partitions of the assignment wait for their changelog, and how often a fenced member joins its group again.

use std::time::Duration;

/// How often the broker is asked again for changelog partitions that it does not have.
const CHANGELOG_CHECK: Duration = Duration::from_secs(5);

/// How often in a row a fenced member joins the group again. Two processes with one instance id would fence each other for ever.
const REJOINS_MAX: u32 = 5;

/// The first pause before a member joins again; each further one is twice as long.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

/// After so long without being fenced the count starts again.
const REJOINS_FORGOTTEN: Duration = Duration::from_mins(10);

/// What a fenced member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FencedAction {
    /// Pause, then join the group again.
    Rejoin {
        /// For how long.
        pause: Duration,
    },
    /// It has been fenced too often: end the worker.
    Stop,
}

/// The assigned partitions that are not processed yet, and the life of the membership.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    /// Partitions whose changelog partition does not exist: nothing of them is read until it does.
    without_changelog: Vec<i32>,
    checked_at: Duration,
    rejoins: u32,
    rejoined_at: Duration,
}

impl Assignment {
    /// Takes partitions in, of which those in `missing` have no changelog. Gives the ones that can be recovered now, and the
    /// ones that have to wait.
    pub(crate) fn assigned(&mut self, partitions: &[i32], missing: &[i32]) -> (Vec<i32>, Vec<i32>) {
        let (waiting, ready): (Vec<i32>, Vec<i32>) = partitions.iter().copied().partition(|it| missing.contains(it));
        self.without_changelog.extend(&waiting);
        (ready, waiting)
    }

    /// These partitions are not this worker's any more.
    pub(crate) fn released(&mut self, partitions: &[i32]) {
        self.without_changelog.retain(|number| !partitions.contains(number));
    }

    /// The partitions that wait for their changelog.
    pub(crate) fn without_changelog(&self) -> &[i32] {
        &self.without_changelog
    }

    /// Whether it is time to ask for the missing changelog partitions again; if so, the next time is a while later.
    pub(crate) fn take_changelog_check(&mut self, now: Duration) -> bool {
        let is_due = !self.without_changelog.is_empty() && now.saturating_sub(self.checked_at) >= CHANGELOG_CHECK;
        if is_due {
            self.checked_at = now;
        }
        is_due
    }

    /// Takes the answer: these are still missing. Gives the partitions that can be recovered now.
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

    /// The member has joined the group again.
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
