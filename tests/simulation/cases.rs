//! Single defects, each by its name: what went wrong once, or would be seen too seldom by chance.

use super::world;
use aimpoint::{
    engine::{EngineError, Fleet, FleetError, Pipeline, Progress, Stop, Worker, WorkerSettings},
    event::Record,
    sink::{Outbox, Sink, SinkError},
    source::{Change, Committed, Restored, Source, SourceError, Watermarks},
    state::{Mark, SnapshotOf, SnapshotWriter, is_layout_key},
    testkit::{
        FakeClock, Faults, InputRecord, MemoryBroker, MemorySink, MemorySnapshots, MemorySource, Place, Visible,
    },
};
use std::time::Duration;

type CaseWorker = Worker<MemorySource, MemorySink, FakeClock>;

fn settings() -> WorkerSettings {
    WorkerSettings {
        number: 0,
        commit_interval: Duration::from_millis(10),
        pace: Duration::ZERO,
        batch_rows_max: 8,
        checkpoint_interval: Duration::from_millis(60),
        stall_after: Duration::from_secs(10),
    }
}

fn pipeline() -> Pipeline {
    world::pipeline(&world::spec()).0
}

fn join(broker: &MemoryBroker) -> (CaseWorker, Progress, u64) {
    let (source, sink) = broker.join(0);
    let (member, progress) = (source.member(), Progress::default());
    (Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), progress.clone()), progress, member)
}

/// Views of users one after another, a second apart.
fn views(users: &[&str]) -> Vec<InputRecord> {
    let view = |(number, user): (usize, &&str)| {
        let at = 1_700_000_000_000 + number as i64 * 1_000;
        let payload = format!(r#"{{"event_type":"view","user_id":"{user}","occurred_at":{at}}}"#).into_bytes();
        InputRecord { key: Some(user.as_bytes().to_vec()), payload: Some(payload), timestamp_ms: at }
    };
    users.iter().enumerate().map(view).collect()
}

fn turn_until(worker: &mut CaseWorker, broker: &MemoryBroker, holds: impl Fn(&CaseWorker) -> bool) {
    for _ in 0..10_000 {
        if holds(worker) {
            return;
        }
        broker.tick(1_000_000, 1_000_000);
        worker.turn().expect("nothing goes wrong here");
    }
    panic!("it does not come to pass");
}

fn mark(broker: &MemoryBroker, partition: usize) -> (i64, Mark) {
    let (offset, metadata) = broker.committed()[partition].clone().expect("something is committed");
    (offset, Mark::parse(&metadata).expect("it has a mark").0)
}

fn is_restored(worker: &CaseWorker, partition: i32, next: i64) -> bool {
    let partitions = worker.partitions();
    partitions.get(partition).is_some_and(|it| it.next() >= next) && !partitions.is_recovering(partition)
}

/// How many profiles of these users a worker holds.
fn users(worker: &CaseWorker) -> usize {
    worker.partitions().get(0).map_or(0, |partition| partition.store().len())
}

#[test]
fn profiles_in_the_changelog_outlive_the_input_that_they_were_made_of() {
    // The mark lay before the start of the log, and the whole changelog was passed by.
    let broker = MemoryBroker::new(vec![views(&["a", "b", "c", "d", "d", "d"])], true, Faults::default(), 1);
    let (mut first, _, member) = join(&broker);
    broker.produce(0, 3);
    turn_until(&mut first, &broker, |_| broker.committed()[0].is_some() && mark(&broker, 0).1.records == 3);
    broker.produce(0, 3);
    turn_until(&mut first, &broker, |_| mark(&broker, 0).0 == 6);
    let (committed, mark) = mark(&broker, 0);
    assert_eq!((committed, mark.replay_from), (6, 3), "d is not in the changelog yet");
    drop(first);
    broker.leave(member);
    broker.trim(0, 5);
    let (mut second, progress, _) = join(&broker);
    turn_until(&mut second, &broker, |worker| is_restored(worker, 0, 6));
    assert_eq!(users(&second), 4, "a, b and c come from the changelog, d from what is left of the input");
    assert_eq!(progress.health().skipped(), 2, "two events of d are gone, and that is told");
}

#[test]
fn a_changelog_that_was_lost_is_noticed_and_the_input_read_again() {
    let broker = MemoryBroker::new(vec![views(&["a", "b", "c", "a"])], false, Faults::default(), 1);
    let (mut first, _, member) = join(&broker);
    broker.produce(0, 4);
    turn_until(&mut first, &broker, |_| broker.committed()[0].is_some() && mark(&broker, 0).1.records == 3);
    first.leave().expect("nothing goes wrong here");
    drop(first);
    broker.leave(member);
    broker.lose_changelog(0);
    let (mut second, progress, _) = join(&broker);
    turn_until(&mut second, &broker, |worker| is_restored(worker, 0, 4));
    assert_eq!((users(&second), progress.health().doubted()), (3, 1));
}

#[test]
fn a_revocation_writes_the_profiles_of_what_goes_and_of_nothing_else() {
    let broker = MemoryBroker::new(vec![views(&["a", "b"]), views(&["c", "d"])], true, Faults::default(), 3);
    let (mut first, ..) = join(&broker);
    broker.produce(0, 2);
    broker.produce(1, 2);
    let is_committed =
        |worker: &CaseWorker| worker.partitions().held().len() == 2 && broker.committed().iter().flatten().count() == 2;
    turn_until(&mut first, &broker, is_committed);
    let (_second, ..) = join(&broker);
    turn_until(&mut first, &broker, |worker| worker.partitions().held().len() == 1);
    let stays = first.partitions().held()[0];
    let goes = 1 - stays;
    let is_profile = |record: &Visible| record.key.as_deref().is_some_and(|key| !is_layout_key(key));
    let written =
        |partition| broker.all_committed(Place::Profiles(partition)).iter().filter(|it| is_profile(it)).count();
    assert_eq!((written(goes), written(stays)), (2, 0));
}

#[test]
fn a_generation_that_has_passed_costs_no_profile() {
    // Every stale generation dropped the profiles of all partitions, which were then read from the changelog again.
    let faults = Faults { stale: 1_000, ..Faults::default() };
    let broker = MemoryBroker::new(vec![views(&["a", "b", "a"])], true, faults, 1);
    let (mut worker, progress, _) = join(&broker);
    broker.produce(0, 3);
    turn_until(&mut worker, &broker, |worker| progress.retries() >= 5 && is_restored(worker, 0, 3));
    assert_eq!((users(&worker), broker.committed()[0].clone()), (2, None));
    broker.without_faults();
    turn_until(&mut worker, &broker, |_| broker.committed()[0].is_some());
    assert_eq!(progress.counts().events, 3, "what was processed once is written once");
}

/// A source of which something fails.
struct Ailing {
    source: MemorySource,
    /// Whether records never come, though they are there.
    is_dry: bool,
    /// How many questions no broker answers in time.
    unanswered: u32,
}

impl Ailing {
    fn answer(&mut self) -> Result<&mut MemorySource, SourceError> {
        match self.unanswered.checked_sub(1) {
            None => Ok(&mut self.source),
            Some(left) => {
                self.unanswered = left;
                Err(SourceError::Unreachable { doing: "ask".to_owned(), detail: "timed out".to_owned() })
            }
        }
    }
}

impl Source for Ailing {
    type Group = <MemorySource as Source>::Group;

    fn poll(&mut self, max: usize, wait: Duration, take: &mut dyn FnMut(&Record<'_>)) -> Result<usize, SourceError> {
        if self.is_dry { Ok(0) } else { self.source.poll(max, wait, take) }
    }
    fn change(&mut self) -> Option<Change> {
        self.source.change()
    }
    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError> {
        self.answer()?.committed(partitions)
    }
    fn watermarks(&mut self, partition: i32) -> Result<Watermarks, SourceError> {
        self.answer()?.watermarks(partition)
    }
    fn is_at_end(&self, partition: i32) -> bool {
        self.source.is_at_end(partition)
    }
    fn check(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.answer()?.check(partitions)
    }
    fn assign(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        self.source.assign(starts)
    }
    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.source.release(partitions)
    }
    fn pause(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.source.pause(partitions)
    }
    fn resume(&mut self, partition: i32, offset: i64) -> Result<(), SourceError> {
        self.answer()?.resume(partition, offset)
    }
    fn profiles_end(&mut self, partition: i32) -> Result<i64, SourceError> {
        self.source.profiles_end(partition)
    }
    fn restore(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        self.answer()?.restore(starts)
    }
    fn poll_restore(&mut self, max: usize, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError> {
        self.source.poll_restore(max, take)
    }
    fn group(&self) -> Option<Self::Group> {
        self.source.group()
    }
    fn commit(&mut self, offsets: &[(i32, i64, String)]) -> Result<(), SourceError> {
        self.source.commit(offsets)
    }
}

#[test]
fn a_worker_that_gets_on_with_nothing_says_so_and_ends_and_an_idle_one_does_not() {
    for records in [0, 2] {
        let broker = MemoryBroker::new(vec![views(&["a", "b"])], true, Faults::default(), 1);
        let (source, sink) = broker.join(0);
        let source = Ailing { source, is_dry: true, unanswered: 0 };
        let progress = Progress::default();
        let mut worker = Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), progress.clone());
        broker.produce(0, records);
        let mut was_behind = false;
        let outcome = (0..20_000).find_map(|_| {
            was_behind |= progress.health().is_behind();
            worker.turn().err()
        });
        assert_eq!(was_behind, records > 0, "before it ends it is not ready");
        match outcome {
            Some(EngineError::Stalled { partitions, time }) => {
                assert_eq!((partitions, records), (vec![0], 2));
                assert!(time >= settings().stall_after, "{time:?}");
            }
            other => assert_eq!((other.map(|it| it.to_string()), records), (None, 0)),
        }
    }
}

#[test]
fn a_broker_that_does_not_answer_in_time_is_asked_again() {
    // A process ended when the ends of a partition could not be had while a broker was away.
    for (unanswered, gets_on) in [(9, true), (u32::MAX, false)] {
        let broker = MemoryBroker::new(vec![views(&["a", "b"])], true, Faults::default(), 1);
        let (source, sink) = broker.join(0);
        let source = Ailing { source, is_dry: false, unanswered };
        let mut worker = Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), Progress::default());
        broker.produce(0, 2);
        let outcome = (0..20_000).find_map(|_| worker.turn().err());
        assert_eq!(broker.committed()[0].is_some(), gets_on);
        let is_unreachable = matches!(outcome, Some(EngineError::Source(SourceError::Unreachable { .. })));
        assert_eq!((outcome.is_none(), is_unreachable), (gets_on, !gets_on), "{outcome:?}");
    }
}

/// Edges of a worker whose first poll does not come back for a while.
struct Blocked;

impl Source for Blocked {
    type Group = ();

    fn poll(&mut self, _: usize, _: Duration, _: &mut dyn FnMut(&Record<'_>)) -> Result<usize, SourceError> {
        std::thread::sleep(Duration::from_millis(600));
        Ok(0)
    }
    fn change(&mut self) -> Option<Change> {
        None
    }
    fn committed(&mut self, _: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError> {
        Ok(Vec::new())
    }
    fn watermarks(&mut self, _: i32) -> Result<Watermarks, SourceError> {
        Ok(Watermarks { low: 0, high: 0 })
    }
    fn is_at_end(&self, _: i32) -> bool {
        true
    }
    fn check(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }
    fn assign(&mut self, _: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }
    fn release(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }
    fn pause(&mut self, _: &[i32]) -> Result<(), SourceError> {
        Ok(())
    }
    fn resume(&mut self, _: i32, _: i64) -> Result<(), SourceError> {
        Ok(())
    }
    fn profiles_end(&mut self, _: i32) -> Result<i64, SourceError> {
        Ok(0)
    }
    fn restore(&mut self, _: &[(i32, i64)]) -> Result<(), SourceError> {
        Ok(())
    }
    fn poll_restore(&mut self, _: usize, _: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError> {
        Ok(())
    }
    fn group(&self) -> Option<()> {
        None
    }
    fn commit(&mut self, _: &[(i32, i64, String)]) -> Result<(), SourceError> {
        Ok(())
    }
}

impl Sink for Blocked {
    type Group = ();

    fn is_transactional(&self) -> bool {
        true
    }
    fn fence(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn begin(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn send(&mut self, _: &Outbox, _: usize) -> Result<(), SinkError> {
        Ok(())
    }
    fn serve(&mut self) {}
    fn commit(&mut self, _: &[(i32, i64, String)], (): ()) -> Result<(), SinkError> {
        Ok(())
    }
    fn is_delivered(&self) -> bool {
        true
    }
    fn outcome(&mut self, _: Duration) -> Option<Result<(), SinkError>> {
        None
    }
    fn abort(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn a_worker_whose_poll_does_not_come_back_is_noticed_from_outside() {
    let progress = Progress::default();
    let worker = Worker::new(settings(), Blocked, Blocked, FakeClock::default(), pipeline(), progress.clone());
    let stop = Stop::default();
    let mut fleet =
        Fleet::start(vec![worker], vec![progress], stop.clone(), Duration::from_millis(200)).expect("a thread");
    let told = (0..100).find_map(|_| fleet.wait(Duration::from_millis(10)).err());
    assert!(matches!(told, Some(FleetError::Hung { worker: 0, .. })), "{told:?}");
    stop.request();
    fleet.join(Duration::from_secs(10)).expect("it was only slow");
}

/// A worker restored from what is kept there, and how often something of it was doubted.
fn restore_from(snapshots: &MemorySnapshots, broker: &MemoryBroker) -> (usize, u64) {
    let (worker, progress, member) = join(broker);
    let mut worker = worker.with_snapshots(Box::new(snapshots.clone()), Duration::from_hours(1));
    turn_until(&mut worker, broker, |worker| is_restored(worker, 0, 6));
    broker.leave(member);
    (users(&worker), progress.health().doubted())
}

#[test]
fn a_snapshot_stands_in_for_the_changelog_and_one_that_does_not_fit_is_passed_by() {
    let broker = MemoryBroker::new(vec![views(&["a", "b", "c", "d", "a", "a"])], true, Faults::default(), 1);
    let snapshots = MemorySnapshots::new(1, 0);
    let (worker, _, member) = join(&broker);
    let mut worker = worker.with_snapshots(Box::new(snapshots.clone()), Duration::from_hours(1));
    broker.produce(0, 6);
    turn_until(&mut worker, &broker, |_| broker.committed()[0].is_some() && mark(&broker, 0).0 == 6);
    worker.leave().expect("nothing goes wrong here");
    broker.leave(member);
    let mut kept = Vec::new();
    snapshots.change(0, |bytes| kept.clone_from(bytes));
    assert!(!kept.is_empty(), "who leaves in order leaves a snapshot");
    assert_eq!(restore_from(&snapshots, &broker), (4, 0));

    // Torn, with a bit flipped, and of nothing at all.
    let last = kept.len() - 1;
    let (mut torn, mut flipped, mut misnamed) = (kept.clone(), kept.clone(), kept.clone());
    torn.truncate(last);
    flipped[last] ^= 1;
    misnamed[20] ^= 1;
    for damaged in [torn, flipped, misnamed, Vec::new()] {
        snapshots.change(0, |bytes| bytes.clone_from(&damaged));
        assert_eq!(restore_from(&snapshots, &broker), (4, 1));
    }
    // Of another layout, of another history, behind another changelog's end, and of too few profiles.
    let of = |committed, changelog, layout: &str| {
        let layout = layout.to_owned();
        SnapshotWriter::new(SnapshotOf { partition: 0, layout, committed, changelog, profiles: 0 }).finish()
    };
    let own = pipeline().profile().layout().id().to_owned();
    for other in [of(6, 0, "other"), of(7, 0, &own), of(6, 1_000, &own), of(6, 5, &own)] {
        snapshots.change(0, |bytes| bytes.clone_from(&other));
        assert_eq!(restore_from(&snapshots, &broker), (4, 1));
    }
    // The same one again after all of it was lost is as good as any.
    snapshots.change(0, |bytes| bytes.clone_from(&kept));
    assert_eq!(restore_from(&snapshots, &broker), (4, 0));
}
