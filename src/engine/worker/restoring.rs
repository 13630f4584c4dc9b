//! Restores the profiles of partitions: from snapshots, then from the rest of the changelog.

use super::{
    EngineError, Worker,
    protocol::{Finding, PositionBeyondEnd, RestoreVerdict, StartPlan},
};
use crate::{
    engine::{Clock, Partition, Recovered},
    event::Record,
    metrics,
    profile::OnChange,
    sink::Sink,
    source::{Restored, Source, SourceError},
    state::SnapshotReader,
};
use std::time::Duration;

/// How many records of the changelog are read in one turn.
const CHANGELOG_RECORDS: usize = 10_000;

/// The same while other partitions are being processed: a few milliseconds.
const CHANGELOG_RECORDS_BESIDE: usize = 4_000;

/// How many blocks of a snapshot are read in one turn while other partitions are being processed: a few milliseconds.
const SNAPSHOT_BLOCKS_BESIDE: usize = 16;

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Takes partitions up: fences first, then reads the committed positions, then decides where to read from. Returns
    /// these offsets.
    pub(super) fn take_up(&mut self, partitions: &[i32]) -> Result<Vec<(i32, i64)>, EngineError> {
        let mut starts = Vec::with_capacity(partitions.len());
        for (number, committed) in self.fenced_positions(partitions)? {
            self.progress.health().beat();
            let ends = self.ask(|source| source.watermarks(number))?;
            let profile = self.pipeline.profile();
            let can_use = |layout: &str| layout == profile.layout().id() || profile.on_change() == OnChange::Keep;
            let plan = StartPlan::new(&committed, ends, can_use).map_err(|it| beyond_end(number, it))?;
            for finding in plan.findings {
                self.report(number, finding, &committed.metadata);
            }
            let mut partition = plan.partition;
            if !self.pipeline.name_users_of(&mut partition) {
                return Err(EngineError::Identity { partition: number });
            }
            self.partitions.insert(number, partition);
            starts.push((number, plan.start));
        }
        Ok(starts)
    }

    fn report(&self, partition: i32, finding: Finding, metadata: &str) {
        match finding {
            Finding::RecordsSkipped { next, log_start } => self.report_skipped(partition, next, log_start),
            Finding::ForeignMetadata => {
                metrics::unfit(1);
                tracing::error!(
                    partition,
                    metadata = metadata.chars().take(200).collect::<String>(),
                    "the committed offset's metadata was not written by Aimpoint: does another program commit for this group?"
                );
            }
            Finding::ProfilesIncomplete { replay_from, log_start } => {
                tracing::error!(
                    partition,
                    replay_from,
                    log_start,
                    "records that profiles need were deleted: these profiles stay incomplete; raise the input topic's retention"
                );
                self.progress.health().skip((log_start - replay_from) as u64);
                metrics::skipped((log_start - replay_from) as u64);
            }
            Finding::NoCheckpoint { from, to } => tracing::warn!(
                partition,
                from,
                to,
                "no checkpoint of these features: the whole input is replayed to rebuild the profiles"
            ),
        }
    }

    /// Reports that records were deleted before they were read.
    pub(super) fn report_skipped(&self, partition: i32, next: i64, log_start: i64) {
        let records = log_start - next;
        tracing::error!(
            partition,
            next,
            log_start,
            records,
            "records were deleted before they were read: these events have no decision and are missing from profiles; raise \
             the input topic's retention"
        );
        self.progress.health().skip(records as u64);
        metrics::skipped(records as u64);
        self.publish_event("skipped", format!("partition {partition}, {records} records that were deleted"));
    }

    /// Pauses the input of partitions that have to be restored, and begins to read their snapshots or changelogs.
    pub(super) fn begin_restore(&mut self, partitions: &[i32]) -> Result<(), EngineError> {
        let is_restoring = |number: &i32| self.partitions.get(*number).is_some_and(Partition::is_restoring);
        let partitions: Vec<i32> = partitions.iter().copied().filter(is_restoring).collect();
        if partitions.is_empty() {
            return Ok(());
        }
        self.source.pause(&partitions)?;
        let mut starts = Vec::new();
        for number in partitions {
            match (self.open_snapshot(number), &mut self.snapshots) {
                (Some(reader), Some(snapshots)) => snapshots.reading.push(reader),
                _ => starts.push((number, 0)),
            }
        }
        self.open_changelogs(&starts)
    }

    /// Opens the snapshot of a partition, if there is a usable one.
    fn open_snapshot(&mut self, number: i32) -> Option<SnapshotReader> {
        let snapshots = self.snapshots.as_mut()?;
        let partition = self.partitions.get(number).filter(|it| !it.is_rebuilding())?;
        let committed = partition.replay_until;
        let reader = match snapshots.store.open(number) {
            Ok(None) => return None,
            Ok(Some(from)) => SnapshotReader::open(from, number, self.pipeline.layout().id(), committed),
            Err(error) => Err(error.into()),
        };
        reader.inspect_err(|error| self.report_unusable_snapshot(number, error)).ok()
    }

    fn report_unusable_snapshot(&self, partition: i32, error: &dyn std::fmt::Display) {
        tracing::warn!(partition, %error, "the snapshot cannot be used: read the whole changelog");
        self.progress.health().doubt();
    }

    /// Begins to read the changelogs of these partitions, each from the end of its snapshot.
    fn open_changelogs(&mut self, starts: &[(i32, i64)]) -> Result<(), EngineError> {
        for (number, from) in starts {
            self.protocol.recovery.open_changelog(*number, *from);
        }
        self.ask(|source| source.restore(starts))
    }

    /// Reads the whole changelog of a partition instead, because its snapshot does not fit.
    fn read_whole_changelog(&mut self, partition: i32, why: &str) -> Result<(), EngineError> {
        self.report_unusable_snapshot(partition, &why);
        self.partitions.restart(partition);
        self.open_changelogs(&[(partition, 0)])
    }

    /// Stops restoring these partitions.
    pub(super) fn forget_restores(&mut self, partitions: &[i32]) {
        self.protocol.recovery.forget(partitions);
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.reading.retain(|it| !partitions.contains(&it.of().partition));
        }
    }

    /// Continues to read snapshots and changelogs, and resumes the input of restored partitions.
    pub(super) fn read_restores(&mut self) -> Result<(), EngineError> {
        if !self.partitions.is_restoring() {
            return Ok(());
        }
        let now = self.clock.elapsed();
        let is_alone = self.partitions.held().iter().all(|number| self.partitions.is_recovering(*number));
        self.read_snapshots(if is_alone { usize::MAX } else { SNAPSHOT_BLOCKS_BESIDE })?;
        let Self { source, pipeline, partitions, protocol, .. } = self;
        let (mut done, mut unfit) = (Vec::new(), Vec::new());
        let mut has_read = false;
        source.poll_restore(if is_alone { CHANGELOG_RECORDS } else { CHANGELOG_RECORDS_BESIDE }, &mut |restored| {
            has_read = true;
            match restored {
                Restored::Bounds(partition, ends) => {
                    if !protocol.recovery.changelog_opened(partition, ends, now) {
                        unfit.push(partition);
                    }
                }
                Restored::Record(record) => {
                    protocol.recovery.record_read(record.partition, record.offset);
                    partitions.restore(record, pipeline.profile());
                }
                Restored::Done(partition) => done.push(partition),
            }
        })?;
        done.retain(|partition| !unfit.contains(partition));
        for partition in unfit {
            self.read_whole_changelog(partition, "the changelog does not reach back to it, or is another one")?;
        }
        for partition in done {
            self.finish_restore(partition)?;
        }
        if has_read {
            self.note_progress(now);
            self.publish_restores(now);
        }
        Ok(())
    }

    /// Continues to read snapshots, and opens the changelogs of those that are finished.
    fn read_snapshots(&mut self, blocks: usize) -> Result<(), EngineError> {
        let Some(snapshots) = &mut self.snapshots else { return Ok(()) };
        let mut reading = std::mem::take(&mut snapshots.reading);
        let mut starts = Vec::new();
        reading.retain_mut(|reader| match self.read_snapshot(reader, blocks) {
            None => true,
            Some(changelog) => {
                starts.push((reader.of().partition, changelog));
                false
            }
        });
        if let Some(snapshots) = &mut self.snapshots {
            snapshots.reading = reading;
        }
        if starts.is_empty() { Ok(()) } else { self.open_changelogs(&starts) }
    }

    /// Reads some blocks of a snapshot. Returns where to continue in the changelog once the snapshot has ended or is
    /// found damaged.
    fn read_snapshot(&mut self, reader: &mut SnapshotReader, blocks: usize) -> Option<i64> {
        let Self { partitions, pipeline, .. } = self;
        let (partition, applied) = (reader.of().partition, reader.of().committed);
        for _ in 0..blocks {
            let has_more = reader.next(|key, record| {
                let record = Record { partition, key: Some(key), payload: Some(record), ..Record::default() };
                partitions.restore_applied(&record, pipeline.profile(), applied);
            });
            match has_more {
                Ok(true) => {}
                Ok(false) => {
                    partitions.cached(partition);
                    return Some(reader.of().changelog);
                }
                Err(error) => {
                    partitions.restart(partition);
                    self.report_unusable_snapshot(partition, &error);
                    return Some(0);
                }
            }
        }
        None
    }

    /// Resumes the input of a partition whose changelog has been read.
    fn finish_restore(&mut self, partition: i32) -> Result<(), EngineError> {
        self.forget_restores(&[partition]);
        let Some(recovered) = self.partitions.restored(partition, self.pipeline.profile()) else { return Ok(()) };
        if let Some((offset, why)) = recovered.first_unfit {
            metrics::unfit(recovered.unfit_records);
            tracing::error!(
                partition,
                records = recovered.unfit_records,
                first_offset = offset,
                first = why.as_str(),
                "records of the changelog cannot be used; if they are not too large: does another program write to the topic?"
            );
        }
        match RestoreVerdict::of(&recovered, || self.is_overtaken(partition))? {
            RestoreVerdict::TakeUpAgain => {
                for (number, start) in self.take_up(&[partition])? {
                    self.ask(|source| source.resume(number, start))?;
                }
                return self.begin_restore(&[partition]);
            }
            RestoreVerdict::ReadWholeChangelog => {
                let why = "with it the profiles are not the ones that were committed, or some records cannot be used";
                return self.read_whole_changelog(partition, why);
            }
            verdict => self.report_restored(partition, verdict, &recovered),
        }
        self.pipeline.catch_up(&mut self.partitions);
        self.note_progress(self.clock.elapsed());
        self.ask(|source| source.resume(partition, recovered.next))
    }

    fn report_restored(&self, partition: i32, verdict: RestoreVerdict, recovered: &Recovered) {
        let Recovered { next: from, found, carried, .. } = *recovered;
        let to = self.partitions.get(partition).map_or(from, |it| it.replay_until);
        if verdict == RestoreVerdict::Whole {
            tracing::info!(partition, profiles = found, carried, replay_from = from, replay_to = to, "restored");
            metrics::restored(found);
            let detail = format!("partition {partition}, {found} profiles, {} events to replay", to - from);
            self.publish_event("restored", detail);
            return;
        }
        self.progress.health().doubt();
        if verdict == RestoreVerdict::RebuildSome {
            metrics::restored(found);
            tracing::error!(
                partition,
                profiles = found,
                users = recovered.unfit,
                from,
                to,
                "the whole input is replayed, as far as it is retained, to rebuild the profiles of users whose records cannot be \
                 used; all other profiles are kept"
            );
            self.publish_event(
                "rebuilding",
                format!("partition {partition}, {} users from the input", recovered.unfit),
            );
        } else {
            tracing::error!(
                partition,
                found,
                owed = recovered.owed,
                from,
                to,
                "the changelog does not hold the profiles that were committed to it: was it recreated or truncated, or does \
                 another application write to it (topics.profiles)? The whole input is replayed, as far as it reaches \
                 back, to rebuild them"
            );
        }
    }

    /// Whether a partition has another committed position than the one it was taken up from.
    fn is_overtaken(&mut self, partition: i32) -> Result<bool, EngineError> {
        let committed = self.ask(|source| source.committed(&[partition]))?;
        let known = self.partitions.committed(partition);
        Ok(committed.iter().any(|(_, it)| it.offset.map(|offset| (offset, it.metadata.as_str())) != known))
    }

    /// Publishes the progress of restores, and logs it now and then.
    pub(super) fn publish_restores(&mut self, now: Duration) {
        let recovery = &mut self.protocol.recovery;
        self.progress.health().restore(|shown| {
            shown.clear();
            shown.extend(recovery.progress(now));
        });
        if recovery.take_report(now) {
            for it in recovery.progress(now) {
                let seconds_left = it.left().map_or(0, |left| left.as_secs());
                let percent = (it.share() * 100.0) as u64;
                tracing::info!(partition = it.partition, percent, seconds_left, "restoring");
            }
        }
    }

    /// Drops the state of all held partitions and restores it.
    pub(super) fn restore_all(&mut self) -> Result<(), EngineError> {
        self.protocol.transaction.discard();
        let held = self.partitions.held();
        self.forget_restores(&held);
        if held.is_empty() {
            return Ok(());
        }
        for (number, start) in self.take_up(&held)? {
            self.ask(|source| source.resume(number, start))?;
        }
        self.begin_restore(&held)
    }
}

/// The error for a log that ends before the position from which it has to be read.
pub(super) fn beyond_end(number: i32, PositionBeyondEnd { next, end }: PositionBeyondEnd) -> EngineError {
    EngineError::Source(SourceError::Fatal {
        doing: format!("take up partition {number} at offset {next}"),
        detail: format!(
            "the log ends at {end}; was the topic recreated? reset the group's offsets, or use another app.name"
        ),
    })
}
