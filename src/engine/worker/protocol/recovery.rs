//! How a partition is taken up: where its input is read from, and how its profiles are restored.
//!
//! A partition goes through three phases. Its profiles are restored, from a snapshot if there is one and then from the
//! rest of the changelog. Then the input is replayed up to the committed offset, without writing anything. Then it is
//! processed. The first phase is tracked here; a [`Partition`] tracks the other two.

use crate::{
    engine::{Partition, Recovered},
    source::{Committed, Watermarks},
    state::Mark,
    status::Restoring,
};
use std::time::Duration;

/// The log ends before the position to read from: the topic was recreated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PositionBeyondEnd {
    /// The position.
    pub next: i64,
    /// The end of the log.
    pub end: i64,
}

/// What to report to the operator about a partition that is taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Records were deleted before they were read.
    RecordsSkipped {
        /// The first of them.
        next: i64,
        /// The first record that is left.
        log_start: i64,
    },
    /// The committed offset's metadata was not written by this program.
    ForeignMetadata,
    /// Records were deleted that profiles need.
    ProfilesIncomplete {
        /// The first of them.
        replay_from: i64,
        /// The first record that is left.
        log_start: i64,
    },
    /// There is no checkpoint to restore from: the whole input is replayed.
    NoCheckpoint {
        /// From here.
        from: i64,
        /// Up to here.
        to: i64,
    },
}

/// How a partition is taken up.
#[derive(Debug)]
pub(crate) struct StartPlan {
    /// The partition as it begins.
    pub partition: Partition,
    /// The offset from which its input is read.
    pub start: i64,
    /// What to report, in order.
    pub findings: Vec<Finding>,
}

impl StartPlan {
    /// Decides from the committed position and what the log still has. `can_use` returns whether profiles of a layout
    /// are usable.
    ///
    /// # Errors
    /// If the committed position is after the log's end.
    pub(crate) fn new(
        committed: &Committed,
        log: Watermarks,
        can_use: impl Fn(&str) -> bool,
    ) -> Result<Self, PositionBeyondEnd> {
        let next = committed.offset.unwrap_or(log.low);
        if next > log.high {
            return Err(PositionBeyondEnd { next, end: log.high });
        }
        let mut findings = Vec::new();
        if next < log.low {
            findings.push(Finding::RecordsSkipped { next, log_start: log.low });
        }
        let replay_until = next.max(log.low);
        let position = committed.offset.map(|offset| (offset, committed.metadata.clone()));
        // Before a partition's first commit there is no mark.
        let mark = Mark::parse(&committed.metadata).filter(|(mark, _)| mark.is_sound(next));
        if mark.is_none() && !committed.metadata.is_empty() {
            findings.push(Finding::ForeignMetadata);
        }
        if let Some((mark, layout)) = mark
            && can_use(layout)
        {
            let start = mark.replay_from.max(log.low);
            if mark.lacking_from < log.low && next > mark.lacking_from {
                findings.push(Finding::ProfilesIncomplete { replay_from: mark.lacking_from, log_start: log.low });
            }
            let partition = Partition::new(start, replay_until, position).restoring(mark, log.low);
            return Ok(Self { partition, start, findings });
        }
        if replay_until > log.low {
            findings.push(Finding::NoCheckpoint { from: log.low, to: replay_until });
        }
        // The profiles are rebuilt, but who was erased is not forgotten. Without a mark, the last generation is unknown. No
        // partition has had more generations than offsets.
        let generation = match mark {
            Some((mark, _)) => mark.generation + 1,
            None => committed.offset.unwrap_or_default().max(0) as u64,
        };
        let Mark { ceilings, ticks, .. } = mark.map(|(mark, _)| mark).unwrap_or_default();
        let partition = Partition::new(log.low, replay_until, position)
            .of_generation(generation)
            .under(ceilings, ticks)
            .rebuilding();
        Ok(Self { partition, start: log.low, findings })
    }
}

/// How complete a restored partition is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestoreVerdict {
    /// Someone else has committed since. Take the partition up again, from the new position.
    TakeUpAgain,
    /// The snapshot does not match the changelog. Read the whole changelog instead.
    ReadWholeChangelog,
    /// All profiles are there. Continue.
    Whole,
    /// Some records are unusable. Replay the whole input, only for their users.
    RebuildSome,
    /// The changelog has lost records. Replay the whole input for all users.
    RebuildAll,
}

impl RestoreVerdict {
    /// Evaluates a restore. `is_overtaken` returns whether someone else has committed since. It is only called if the
    /// restore is not whole, because compaction may have removed older records.
    ///
    /// # Errors
    /// The error of `is_overtaken`.
    pub(crate) fn of<E>(recovered: &Recovered, is_overtaken: impl FnOnce() -> Result<bool, E>) -> Result<Self, E> {
        Ok(match recovered {
            it if it.is_whole() => Self::Whole,
            _ if is_overtaken()? => Self::TakeUpAgain,
            it if it.is_cached => Self::ReadWholeChangelog,
            it if it.is_partly_whole() => Self::RebuildSome,
            _ => Self::RebuildAll,
        })
    }
}

/// The progress of a partition's restore.
#[derive(Clone, Copy, Debug)]
enum Restore {
    /// Its changelog has not been opened yet. It will be read from this offset, the end of its snapshot, or 0 without
    /// one.
    Opening(i64),
    /// Its changelog is being read.
    Reading(Restoring),
}

/// The partitions whose profiles are being restored from their changelogs.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    partitions: Vec<(i32, Restore)>,
    reported_at: Duration,
}

/// How often the progress of a restore is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

impl Recovery {
    /// The changelog of this partition is read next, from the end of its snapshot, or from 0 without a usable one.
    pub(crate) fn open_changelog(&mut self, partition: i32, from: i64) {
        self.forget(&[partition]);
        self.partitions.push((partition, Restore::Opening(from)));
    }

    /// An opened changelog has these ends. Returns whether it continues the snapshot. It may have been truncated since,
    /// or be another changelog.
    pub(crate) fn changelog_opened(&mut self, partition: i32, ends: Watermarks, now: Duration) -> bool {
        let Some(restore) = self.restore(partition) else { return true };
        let snapshot_end = if let Restore::Opening(from) = restore { *from } else { 0 };
        let from = snapshot_end.max(ends.low);
        let took = Duration::ZERO;
        *restore = Restore::Reading(Restoring { partition, from, next: from, end: ends.high, since: now, took });
        snapshot_end <= 0 || (ends.low..=ends.high).contains(&snapshot_end)
    }

    /// A record of a changelog was read.
    pub(crate) fn record_read(&mut self, partition: i32, offset: i64) {
        if let Some(Restore::Reading(reading)) = self.restore(partition) {
            reading.next = offset + 1;
        }
    }

    /// These partitions have been restored, or their restore was cancelled.
    pub(crate) fn forget(&mut self, partitions: &[i32]) {
        self.partitions.retain(|(number, _)| !partitions.contains(number));
    }

    /// The progress of each changelog at this time.
    pub(crate) fn progress(&self, now: Duration) -> impl Iterator<Item = Restoring> {
        self.partitions.iter().filter_map(move |(_, restore)| match restore {
            Restore::Opening(_) => None,
            Restore::Reading(reading) => Some(Restoring { took: now.saturating_sub(reading.since), ..*reading }),
        })
    }

    /// Whether to log the progress. If so, the next time is a while later.
    pub(crate) fn take_report(&mut self, now: Duration) -> bool {
        let is_due = now.saturating_sub(self.reported_at) >= REPORT_INTERVAL;
        if is_due {
            self.reported_at = now;
        }
        is_due
    }

    fn restore(&mut self, partition: i32) -> Option<&mut Restore> {
        self.partitions.iter_mut().find(|(number, _)| *number == partition).map(|(_, restore)| restore)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Unfit;

    const LAYOUT: &str = "ours";

    fn committed(offset: i64, mark: Option<&Mark>) -> Committed {
        let metadata = mark.map(|mark| mark.metadata(LAYOUT)).unwrap_or_default();
        Committed { offset: Some(offset), metadata }
    }

    fn plan(committed: &Committed, low: i64, high: i64, layout: &str) -> Result<StartPlan, PositionBeyondEnd> {
        StartPlan::new(committed, Watermarks { low, high }, |found| found == layout)
    }

    #[test]
    fn a_partition_starts_where_its_commit_and_its_log_allow() {
        let mark = Mark { replay_from: 40, lacking_from: 40, records: 3, ..Mark::default() };
        let with_mark = committed(50, Some(&mark));
        let unknown = Committed { offset: Some(50), metadata: "anything".to_owned() };
        let none = Committed { offset: None, metadata: String::new() };
        // The committed position, the first offset of the log, the layout in use: whether the changelog is read (at least
        // for who was erased), the first offset read, the end of the replay, and the findings.
        let skipped = Finding::RecordsSkipped { next: 50, log_start: 60 };
        let cases = [
            (&none, 10, LAYOUT, true, 10, 10, vec![]),
            (&with_mark, 10, LAYOUT, true, 40, 50, vec![]),
            (
                &with_mark,
                45,
                LAYOUT,
                true,
                45,
                50,
                vec![Finding::ProfilesIncomplete { replay_from: 40, log_start: 45 }],
            ),
            (
                &with_mark,
                60,
                LAYOUT,
                true,
                60,
                60,
                vec![skipped, Finding::ProfilesIncomplete { replay_from: 40, log_start: 60 }],
            ),
            (&with_mark, 10, "other", true, 10, 50, vec![Finding::NoCheckpoint { from: 10, to: 50 }]),
            (
                &unknown,
                10,
                LAYOUT,
                true,
                10,
                50,
                vec![Finding::ForeignMetadata, Finding::NoCheckpoint { from: 10, to: 50 }],
            ),
        ];
        for (committed, low, layout, is_restoring, start, replay_until, findings) in cases {
            let plan = plan(committed, low, 100, layout).unwrap();
            let found = (plan.partition.is_restoring(), plan.start, plan.partition.next(), plan.partition.replay_until);
            assert_eq!(found, (is_restoring, start, start, replay_until), "{committed:?} from {low}");
            assert_eq!(plan.findings, findings, "{committed:?} from {low}");
        }
        assert_eq!(plan(&with_mark, 0, 49, LAYOUT).unwrap_err(), PositionBeyondEnd { next: 50, end: 49 });
    }

    #[test]
    fn profiles_that_are_begun_anew_get_a_generation_that_no_record_has() {
        let mark = Mark { replay_from: 40, lacking_from: 40, generation: 6, ..Mark::default() };
        let plan_of = |committed: &Committed| plan(committed, 0, 100, "other").unwrap().partition.store().generation();
        assert_eq!(plan_of(&committed(50, Some(&mark))), 7);
        assert_eq!(plan_of(&committed(50, None)), 50);
        assert_eq!(plan_of(&Committed { offset: None, metadata: String::new() }), 0);
    }

    #[test]
    fn a_changelog_has_to_continue_the_snapshot() {
        let mut recovery = Recovery::default();
        let ends = Watermarks { low: 10, high: 20 };
        for (snapshot_end, fits, from) in
            [(0, true, 10), (10, true, 10), (20, true, 20), (9, false, 10), (21, false, 21)]
        {
            recovery.open_changelog(3, snapshot_end);
            assert_eq!(recovery.progress(Duration::ZERO).count(), 0, "it is not open yet");
            assert_eq!(recovery.changelog_opened(3, ends, Duration::ZERO), fits, "{snapshot_end}");
            assert_eq!(recovery.progress(Duration::ZERO).map(|it| it.from).collect::<Vec<_>>(), [from]);
        }
        recovery.open_changelog(4, 0);
        recovery.changelog_opened(4, ends, Duration::from_secs(1));
        recovery.record_read(4, 14);
        recovery.forget(&[3]);
        let progress: Vec<Restoring> = recovery.progress(Duration::from_secs(3)).collect();
        let (since, took) = (Duration::from_secs(1), Duration::from_secs(2));
        assert_eq!(progress, [Restoring { partition: 4, from: 10, next: 15, end: 20, since, took }]);
        assert!(recovery.take_report(Duration::from_secs(5)) && !recovery.take_report(Duration::from_secs(9)));
    }

    #[test]
    fn the_verdict_on_a_restore_follows_from_what_is_missing_and_who_has_committed() {
        let whole = Recovered {
            next: 5,
            found: 3,
            owed: 3,
            is_latest: true,
            unfit: 0,
            unfit_records: 0,
            first_unfit: None,
            carried: 0,
            is_cached: false,
        };
        let short = Recovered { found: 2, ..whole };
        let unfit = Recovered { found: 2, unfit: 1, unfit_records: 1, first_unfit: Some((7, Unfit::Words)), ..whole };
        let cached = Recovered { is_cached: true, ..short };
        let old = Recovered { is_latest: false, ..whole };
        for (recovered, is_overtaken, verdict) in [
            (whole, true, RestoreVerdict::Whole),
            (short, true, RestoreVerdict::TakeUpAgain),
            (old, true, RestoreVerdict::TakeUpAgain),
            (old, false, RestoreVerdict::RebuildAll),
            (cached, true, RestoreVerdict::TakeUpAgain),
            (cached, false, RestoreVerdict::ReadWholeChangelog),
            (unfit, false, RestoreVerdict::RebuildSome),
            (short, false, RestoreVerdict::RebuildAll),
        ] {
            let found = RestoreVerdict::of(&recovered, || Ok::<_, ()>(is_overtaken));
            assert_eq!(found, Ok(verdict), "{recovered:?}");
        }
        assert_eq!(RestoreVerdict::of(&short, || Err("no answer")), Err("no answer"));
    }
}
