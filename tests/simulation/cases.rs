//! Individual defects, by name: bugs that occurred once, or that random runs would hit too rarely.

use super::world;
use aimpoint::{
    canary::{self, Canary},
    engine::{EngineError, Fleet, FleetError, Pipeline, SnapshotStore, Stop, Worker, WorkerSettings},
    event::{EventTime, Record, RejectReason},
    proto::v1,
    sink::{Outbox, Sink, SinkError, SizeLimits, Target},
    source::{Change, Committed, Restored, Source, SourceError, Watermarks},
    state::{Mark, SnapshotOf, SnapshotWriter, Store, hash_key, is_layout_key, pack, unpack},
    status::{ClientReport, PartitionView, Progress},
    targeting::{AudienceSpec, campaign::CampaignSpec},
    testkit::{
        FakeClock, Faults, InputRecord, MemoryBroker, MemorySink, MemorySnapshots, MemorySource, Place, Visible,
    },
};
use prost::Message;
use std::{
    cell::Cell,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

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

/// One view per user in this order, a second apart.
fn views(users: &[&str]) -> Vec<InputRecord> {
    let view = |(number, user): (usize, &&str)| {
        let at = 1_700_000_000_000 + number as i64 * 1_000;
        let payload = format!(r#"{{"event_type":"view","user_id":"{user}","occurred_at":{at}}}"#).into_bytes();
        InputRecord {
            key: Some(user.as_bytes().to_vec()),
            erase: None,
            payload: Some(payload),
            timestamp_ms: at,
            ..InputRecord::default()
        }
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

/// How many of these users' profiles a worker holds.
fn users(worker: &CaseWorker) -> usize {
    users_of(worker, 0)
}

fn users_of(worker: &CaseWorker, partition: i32) -> usize {
    worker.partitions().get(partition).map_or(0, |partition| partition.store().len())
}

/// What a worker writes if only changes are worth it: it decides about events up to an offset and leaves.
fn decide_on_change(broker: &MemoryBroker, next: i64) -> usize {
    let (source, sink) = broker.join(0);
    let member = source.member();
    let pipeline = world::pipeline(&world::on_change(world::spec())).0;
    let mut worker = Worker::new(settings(), source, sink, FakeClock::default(), pipeline, Progress::default());
    broker.produce(0, (next - broker.produced()[0]) as usize);
    turn_until(&mut worker, broker, |_| broker.committed()[0].as_ref().is_some_and(|(at, _)| *at == next));
    worker.leave().expect("nothing goes wrong here");
    drop(worker);
    broker.leave(member);
    broker.all_committed(Place::Decisions(0)).len()
}

#[test]
pub(super) fn what_readers_were_told_is_restored() {
    // Without it, each restart would repeat a decision about every user.
    let broker = MemoryBroker::new(vec![views(&["a", "b", "a", "b", "a", "b"])], true, Faults::default(), 1);
    assert_eq!(decide_on_change(&broker, 2), 2, "nothing was said");
    assert_eq!(decide_on_change(&broker, 4), 2, "it has been said");
    assert_eq!(decide_on_change(&broker, 6), 2);
}

#[test]
fn profiles_in_the_changelog_outlive_the_input_that_they_were_made_of() {
    // The mark was before the start of the log, so the whole changelog was ignored.
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
    assert!(broker.lose_changelog(0), "nobody reads it");
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
    // Every stale generation dropped the profiles of all partitions, which were then restored from the changelog.
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

/// A source that partly fails.
struct Ailing {
    source: MemorySource,
    /// Whether records never arrive although they exist.
    is_dry: bool,
    /// How many requests get no answer in time.
    unanswered: u32,
    /// How many offsets after the last record are not records.
    behind_the_last: i64,
    /// How many partitions the changelog has.
    changelog_partitions: Rc<Cell<i32>>,
}

/// A changelog with this many partitions.
fn partitions(count: i32) -> Rc<Cell<i32>> {
    Rc::new(Cell::new(count))
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
        let Watermarks { low, high } = self.answer()?.watermarks(partition)?;
        Ok(Watermarks { low, high: high + self.behind_the_last })
    }
    fn is_at_end(&self, partition: i32, end: i64) -> bool {
        self.source.is_at_end(partition, end - self.behind_the_last)
    }
    fn lacking(&mut self, partitions: &[i32]) -> Result<Vec<i32>, SourceError> {
        self.answer()?;
        let count = self.changelog_partitions.get();
        Ok(partitions.iter().copied().filter(|partition| *partition >= count).collect())
    }
    fn is_cut(&mut self) -> bool {
        self.source.is_cut()
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
    fn report(&mut self) -> Option<ClientReport> {
        let high = self.source.watermarks(0).ok()?.high;
        Some(ClientReport { ends: vec![(0, high + self.behind_the_last)], ..ClientReport::default() })
    }
    fn group(&self) -> Option<Self::Group> {
        self.source.group()
    }
}

#[test]
fn a_worker_that_gets_on_with_nothing_says_so_and_ends_and_an_idle_one_does_not() {
    for records in [0, 2] {
        let broker = MemoryBroker::new(vec![views(&["a", "b"])], true, Faults::default(), 1);
        let (source, sink) = broker.join(0);
        let source =
            Ailing { source, is_dry: true, unanswered: 0, behind_the_last: 0, changelog_partitions: partitions(9) };
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
fn an_idle_worker_stays_ready_however_its_events_come_and_its_log_ends() {
    // Idle, one event, idle: the process lost readiness and exited with code 76. The same happened when a log ended
    // with offsets that are not records, such as aborted transactions and markers.
    for behind_the_last in [0, 3] {
        let broker = MemoryBroker::new(vec![views(&["a", "b", "c", "d"])], true, Faults::default(), 1);
        let (source, sink) = broker.join(0);
        let source =
            Ailing { source, is_dry: false, unanswered: 0, behind_the_last, changelog_partitions: partitions(9) };
        let progress = Progress::default();
        let mut worker = Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), progress.clone());
        for records in 0..4 {
            for _ in 0..20_000 {
                worker.turn().expect("nothing goes wrong here");
                assert!(!progress.health().is_behind(), "nothing waits behind {records} records");
            }
            assert_eq!(worker.partitions().get(0).map(aimpoint::engine::Partition::next), Some(records));
            let lags: Vec<Option<u64>> = progress.status().partitions.iter().map(PartitionView::lag).collect();
            assert_eq!(lags, [Some(0)], "nothing waits behind {records} records");
            broker.produce(0, 1);
        }
    }
}

#[test]
fn a_position_that_was_set_behind_the_last_record_is_reached() {
    // As set by `kafka-consumer-groups --reset-offsets --to-latest` when the log ends with a marker.
    let broker = MemoryBroker::new(vec![views(&["a", "b"])], true, Faults::default(), 1);
    broker.produce(0, 2);
    broker.forge_position(0, 3, "");
    let (source, sink) = broker.join(0);
    let source =
        Ailing { source, is_dry: false, unanswered: 0, behind_the_last: 1, changelog_partitions: partitions(9) };
    let progress = Progress::default();
    let mut worker = Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), progress.clone());
    for _ in 0..20_000 {
        worker.turn().expect("nothing goes wrong here");
        assert!(!progress.health().is_behind(), "nothing waits");
    }
    assert!(!worker.partitions().is_recovering(0), "nothing is left to be read again");
    assert_eq!(worker.partitions().users(), 2);
}

#[test]
fn records_that_were_deleted_before_they_were_read_are_passed_by_and_told() {
    // The process used to exit with "No offset to automatically reset to".
    let all = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    let broker = MemoryBroker::new(vec![views(&all), views(&all)], true, Faults::default(), 1);
    let (mut worker, progress, _) = join(&broker);
    turn_until(&mut worker, &broker, |worker| worker.partitions().held().len() == 2);
    broker.produce(0, 6);
    broker.produce(1, 6);
    broker.trim(0, 4);
    let is_read = |_: &CaseWorker| broker.committed().iter().flatten().filter(|(offset, _)| *offset == 6).count() == 2;
    turn_until(&mut worker, &broker, is_read);
    assert_eq!((progress.counts().events, progress.health().skipped()), (8, 4), "two of the one, all of the other");
    // The rest is deleted as well, and the client reports it twice.
    broker.produce(0, 3);
    broker.trim(0, 9);
    turn_until(&mut worker, &broker, |_| broker.committed()[0].as_ref().is_some_and(|(offset, _)| *offset == 9));
    for _ in 0..20_000 {
        worker.turn().expect("nothing goes wrong here");
    }
    assert_eq!((progress.counts().events, progress.health().skipped()), (8, 7));
    assert_eq!(users_of(&worker, 0), 2);
}

#[test]
fn added_partitions_wait_until_the_changelog_has_them_and_hold_up_nothing() {
    // The process exited, and did so again at each start.
    let input = vec![views(&["a", "b"]), views(&["c", "d", "e"])];
    let broker = MemoryBroker::new(input, true, Faults::default(), 1);
    let (source, sink) = broker.join(0);
    let changelog = partitions(1);
    let changelog_partitions = Rc::clone(&changelog);
    let source = Ailing { source, is_dry: false, unanswered: 0, behind_the_last: 0, changelog_partitions };
    let mut worker = Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), Progress::default());
    broker.produce(0, 2);
    broker.produce(1, 3);
    let committed = |partition: usize| broker.committed()[partition].as_ref().map(|(offset, _)| *offset);
    for _ in 0..10_000 {
        worker.turn().expect("nothing goes wrong here");
    }
    assert_eq!((committed(0), committed(1)), (Some(2), None));
    assert_eq!(worker.partitions().held(), [0]);
    changelog.set(2);
    for _ in 0..10_000 {
        worker.turn().expect("nothing goes wrong here");
    }
    assert_eq!((committed(0), committed(1)), (Some(2), Some(3)));
}

#[test]
fn who_was_put_out_of_the_group_writes_no_snapshot_also_where_its_first_attempt_fails() {
    // A failed attempt used up the proof of membership; the next attempt had nothing to commit, which counted as proof.
    let writes = |is_planted: bool| {
        canary::put_in(is_planted.then_some(Canary::ConfirmationUsedUp));
        let seeds = (0..20).filter(|seed| {
            let faults = Faults { abortable: 300, ..Faults::default() };
            let broker = MemoryBroker::new(vec![views(&["a", "b", "c", "a", "b", "c"])], true, faults, *seed);
            let snapshots = MemorySnapshots::new(1, 0);
            let (first, _, member) = join(&broker);
            let mut first = first.with_snapshots(Box::new(snapshots.clone()), Duration::from_hours(1));
            broker.produce(0, 3);
            // With nothing left to write, a commit would only serve to prove the membership.
            let is_written = |_: &CaseWorker| broker.committed()[0].is_some() && mark(&broker, 0).1.replay_from == 3;
            turn_until(&mut first, &broker, is_written);
            broker.cut_off(member);
            broker.tick(0, 1_000_000);
            let (source, sink) = broker.join(1);
            let mut second =
                Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), Progress::default());
            broker.produce(0, 3);
            turn_until(&mut second, &broker, |_| {
                broker.committed()[0].as_ref().is_some_and(|(offset, _)| *offset == 6)
            });
            // It does not know yet that it was removed, so it may fail in the end.
            first.leave().unwrap_or_default();
            snapshots.open(0).is_ok_and(|it| it.is_some())
        });
        let count = seeds.count();
        canary::put_in(None);
        count
    };
    assert_eq!(writes(false), 0);
    assert!(writes(true) > 0, "the planted bug is not found");
}

#[test]
fn a_broker_that_does_not_answer_in_time_is_asked_again() {
    // A process exited when it could not get the ends of a partition while a broker was down.
    for (unanswered, gets_on) in [(9, true), (u32::MAX, false)] {
        let broker = MemoryBroker::new(vec![views(&["a", "b"])], true, Faults::default(), 1);
        let (source, sink) = broker.join(0);
        let source =
            Ailing { source, is_dry: false, unanswered, behind_the_last: 0, changelog_partitions: partitions(9) };
        let mut worker = Worker::new(settings(), source, sink, FakeClock::default(), pipeline(), Progress::default());
        broker.produce(0, 2);
        let outcome = (0..20_000).find_map(|_| worker.turn().err());
        assert_eq!(broker.committed()[0].is_some(), gets_on);
        let is_unreachable = matches!(outcome, Some(EngineError::Source(SourceError::Unreachable { .. })));
        assert_eq!((outcome.is_none(), is_unreachable), (gets_on, !gets_on), "{outcome:?}");
    }
}

/// The edges of a worker whose first poll blocks for a while.
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
    fn is_at_end(&self, _: i32, _: i64) -> bool {
        true
    }
    fn lacking(&mut self, _: &[i32]) -> Result<Vec<i32>, SourceError> {
        Ok(Vec::new())
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
}

impl Sink for Blocked {
    type Group = ();

    fn shows_at_once(&self) -> bool {
        false
    }
    fn fence(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn begin(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
    fn send(&mut self, _: &Outbox, _: usize, _: &mut Vec<usize>) -> Result<(), SinkError> {
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

/// A worker restored from these snapshots, and how often a restore was in doubt.
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

    // Truncated, with a flipped bit in the data or in the head, and empty.
    let last = kept.len() - 1;
    let (mut torn, mut flipped, mut misnamed) = (kept.clone(), kept.clone(), kept.clone());
    torn.truncate(last);
    flipped[last] ^= 1;
    misnamed[20] ^= 1;
    for damaged in [torn, flipped, misnamed, Vec::new()] {
        snapshots.change(0, |bytes| bytes.clone_from(&damaged));
        assert_eq!(restore_from(&snapshots, &broker), (4, 1));
    }
    // With another layout, an uncommitted position, a changelog position beyond its end, and too few profiles.
    let of = |committed, changelog, layout: &str| {
        let layout = layout.to_owned();
        SnapshotWriter::new(SnapshotOf { partition: 0, layout, committed, changelog, profiles: 0 }).finish()
    };
    let own = pipeline().profile().layout().id().to_owned();
    for other in [of(6, 0, "other"), of(7, 0, &own), of(6, 1_000, &own), of(6, 5, &own)] {
        snapshots.change(0, |bytes| bytes.clone_from(&other));
        assert_eq!(restore_from(&snapshots, &broker), (4, 1));
    }
    // After all that, the intact snapshot works again.
    snapshots.change(0, |bytes| bytes.clone_from(&kept));
    assert_eq!(restore_from(&snapshots, &broker), (4, 0));
}

/// The changelog of `a`, `b` and `c`, with a record each, and the input it was made from.
fn three_users() -> (MemoryBroker, Vec<Visible>) {
    let broker = MemoryBroker::new(vec![views(&["a", "b", "c", "a", "b"])], true, Faults::default(), 1);
    let (mut worker, _, member) = join(&broker);
    broker.produce(0, 4);
    turn_until(&mut worker, &broker, |_| broker.committed()[0].is_some() && mark(&broker, 0).1.records == 3);
    worker.leave().expect("nothing goes wrong here");
    drop(worker);
    broker.leave(member);
    let records = broker.all_committed(Place::Profiles(0));
    (broker, records)
}

fn words_of(worker: &CaseWorker, user: &[u8]) -> Option<Vec<u64>> {
    let partition = worker.partitions().get(0)?;
    partition.store().get(aimpoint::state::hash_key(user), user).map(std::borrow::Cow::into_owned)
}

#[test]
fn one_forged_record_costs_a_look_at_the_input_and_no_start_breaks_off() {
    // Each of these used to end the process at the user's next event, and again at each start.
    let (_, records) = three_users();
    let newest = records.iter().rev().find(|it| it.key.as_deref() == Some(b"a")).and_then(|it| it.payload.clone());
    let whole = v1::Profile::decode(newest.expect("a has a record").as_slice()).expect("a worker has written it");
    let whole = v1::Profile { checksum: 0, ..whole };
    let words = unpack(&whole.state).expect("a worker has written it");
    let with = |at: usize, word: u64| {
        let mut words = words.clone();
        words[at] = word;
        v1::Profile { state: pack(&words), ..whole.clone() }.encode_to_vec()
    };
    let state = |state: Vec<u8>| v1::Profile { state, ..whole.clone() }.encode_to_vec();
    for payload in [
        state(Vec::new()),
        state(vec![0xff; 900_000]),
        state(pack(&[1, 2, 3])),
        with(0, i64::MAX as u64),
        with(2, 1 << 60),
        with(3, (1 << 40) << 2),
        v1::Profile { as_of: 1_000, ..whole.clone() }.encode_to_vec(),
        v1::Profile { layout: "nobody's".to_owned(), ..whole.clone() }.encode_to_vec(),
        b"no record".to_vec(),
    ] {
        let (broker, _) = three_users();
        let owed = {
            let (mut worker, _, member) = join(&broker);
            turn_until(&mut worker, &broker, |worker| is_restored(worker, 0, 4));
            broker.leave(member);
            words_of(&worker, b"a").expect("a is there")
        };
        broker.forge(0, b"a", Some(&payload));
        for start in 0..2 {
            let (mut worker, progress, member) = join(&broker);
            turn_until(&mut worker, &broker, |worker| is_restored(worker, 0, 4));
            assert_eq!((users(&worker), words_of(&worker, b"a")), (3, Some(owed.clone())), "start {start}");
            assert!(start > 0 || progress.health().doubted() == 1, "it is told");
            drop(worker);
            broker.leave(member);
        }
        let (mut worker, progress, member) = join(&broker);
        broker.produce(0, 1);
        turn_until(&mut worker, &broker, |_| mark(&broker, 0).0 == 5 && mark(&broker, 0).1.replay_from == 5);
        assert_eq!((users(&worker), progress.counts().decisions), (3, 1), "and the next event is decided");
        worker.leave().expect("nothing goes wrong here");
        drop(worker);
        broker.leave(member);
        let (mut worker, progress, _) = join(&broker);
        turn_until(&mut worker, &broker, |worker| is_restored(worker, 0, 5));
        assert_eq!((users(&worker), progress.health().doubted()), (3, 0), "then the changelog is whole again");
    }
}

/// Compaction or another writer can leave an older record of a user as the newest one, so that the number of profiles is right. The
/// digest in the mark shows it.
#[test]
pub(crate) fn an_old_record_in_the_right_number_is_noticed() {
    let (broker, records) = three_users();
    let old = records.iter().rev().find(|it| it.key.as_deref() == Some(b"b")).and_then(|it| it.payload.clone());
    let (mut worker, _, member) = join(&broker);
    broker.produce(0, 1);
    turn_until(&mut worker, &broker, |_| mark(&broker, 0).0 == 5);
    worker.leave().expect("nothing goes wrong here");
    let owed = words_of(&worker, b"b").expect("b is there");
    drop(worker);
    broker.leave(member);
    broker.forge(0, b"b", old.as_deref());
    let (mut worker, progress, _) = join(&broker);
    turn_until(&mut worker, &broker, |worker| is_restored(worker, 0, 5));
    assert_eq!((users(&worker), words_of(&worker, b"b")), (3, Some(owed)));
    assert_eq!(progress.health().doubted(), 1, "an operator is told");
}

/// A transaction that another producer has open in the changelog hides the records behind it, so a restore waits for its end.
/// A restore that does not wait is mended by the digest in the mark, so random runs hardly notice.
#[test]
pub(crate) fn a_restore_waits_for_the_open_transactions_of_the_changelog() {
    let (broker, _) = three_users();
    let (source, mut other) = broker.join(7);
    broker.leave(source.member());
    let mut outbox = Outbox::default();
    outbox.push(Target::Profiles(0), Some(b"z"), &[], Some(|to: &mut Vec<u8>| to.push(1)));
    for _ in 0..100 {
        if other.fence().is_ok() {
            break;
        }
    }
    other.begin().expect("nothing goes wrong here");
    other.send(&outbox, 0, &mut Vec::new()).expect("nothing goes wrong here");
    for _ in 0..100 {
        broker.tick(1_000_000, 1_000_000);
        other.serve();
    }
    assert!(!broker.is_stable(Place::Profiles(0)), "the record is there");
    let (mut worker, progress, _) = join(&broker);
    turns(&mut worker, &broker, 100);
    assert!(!is_restored(&worker, 0, 4), "what is behind the open transaction is not known yet");
    other.abort().expect("nothing goes wrong here");
    turn_until(&mut worker, &broker, |worker| is_restored(worker, 0, 4));
    assert_eq!((users(&worker), progress.health().doubted()), (3, 0));
}

/// A user whose profile was swept and who came back within one commit has a tombstone and a record in it. The record must be the
/// last one, or a restore forgets the user.
#[test]
pub(crate) fn a_tombstone_is_written_before_the_profile_of_a_user_who_came_back() {
    let mut store = Store::default();
    let is_gone = |first: u64, time: i64| (first as i64) < time - 160;
    let write = |store: &mut Store, next: i64| {
        let mut written = Vec::new();
        store.write_due(next, next, 99, |key, profile| {
            written.push((key.to_vec(), profile.is_some()));
            true
        });
        written
    };
    store.entry(hash_key(b"a"), b"a", &[0], 0, 0);
    for (offset, key) in [b"p", b"q", b"r", b"s", b"t"].into_iter().enumerate() {
        store.entry(hash_key(key), key, &[1_000], offset as i64 + 1, 10);
    }
    store.sweep(160, is_gone, None);
    assert_eq!(write(&mut store, 6).len(), 6);
    for (offset, key) in [b"p", b"q", b"r", b"s", b"t"].into_iter().enumerate() {
        store.entry(hash_key(key), key, &[1_000], offset as i64 + 6, 1_000);
    }
    store.sweep(160, is_gone, None);
    store.entry(hash_key(b"a"), b"a", &[1_000], 11, 1_000);
    let of_a: Vec<bool> = write(&mut store, 12).into_iter().filter(|(key, _)| key == b"a").map(|(_, it)| it).collect();
    assert_eq!(of_a, [false, true], "first the tombstone, then the profile");
}

#[test]
fn a_forged_mark_has_the_input_read_again_and_nothing_else() {
    let (broker, _) = three_users();
    let id = pipeline().layout().id().to_owned();
    let (max, all) = (i64::MAX, u64::MAX);
    for metadata in [
        format!("v3;{id};-5;;3;0"),
        format!("v3;{id};9;;3;0"),
        format!("v3;{id};{max};{max};{all};{all}"),
        format!("v3;{id};4;{max};3;0"),
        format!("v3;{id};4;;3;{all}"),
        format!("v3;{id};4;;{all};0"),
        format!("v3;{id};4;;3"),
        format!("v4;{id};4;;3;0;;3"),
        format!("v4;{id};4;;3;0;;{max}"),
        format!("v4;{id};4;ann:{max};3;0;;4"),
        format!("v4;{id};4;;3;0;4:{max}:5;4"),
        format!("v4;{id};4;;3;0;;4;{max:x}"),
        format!("v4;{id};4;;3;0;;4;x"),
        "anything".to_owned(),
    ] {
        broker.forge_position(0, 4, &metadata);
        let (mut worker, _, member) = join(&broker);
        turn_until(&mut worker, &broker, |worker| is_restored(worker, 0, 4));
        assert_eq!(users(&worker), 3, "{metadata}");
        drop(worker);
        broker.leave(member);
    }
}

#[test]
fn what_a_topic_refuses_for_its_size_ends_as_something_smaller() {
    let unbounded = SizeLimits::default();
    for (limits, what) in [
        (SizeLimits { decisions: 1_500, ..unbounded }, "decision"),
        (SizeLimits { profiles: 1_050, ..unbounded }, "profile"),
    ] {
        // No limits are reported, so they are learned from refusals.
        let names = ["a", "b", "a"].map(|name| format!("{name}{}", "x".repeat(1_000)));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let broker = MemoryBroker::new(vec![views(&names)], true, Faults::default(), 1);
        broker.limit(limits);
        let (mut worker, progress, member) = join(&broker);
        broker.produce(0, 3);
        turn_until(&mut worker, &broker, |_| broker.committed()[0].is_some() && mark(&broker, 0).0 == 3);
        worker.leave().expect("nothing goes wrong here");
        assert!(progress.retries() > 0, "{what}: refusals are learnt from");
        drop(worker);
        broker.leave(member);
        let count = |places: &dyn Fn(&Place) -> bool| -> usize {
            broker.places().iter().filter(|it| places(it)).map(|it| broker.all_committed(*it).len()).sum()
        };
        let decisions = count(&|it| matches!(it, Place::Decisions(_)));
        let dead = count(&|it| matches!(it, Place::DeadLetters(_)));
        let counts = progress.counts();
        assert_eq!(counts.events, 3, "{what}");
        assert_eq!((counts.decisions, counts.dead_letters_total()), (decisions as u64, dead as u64), "{what}");
        if what == "decision" {
            assert_eq!((decisions, dead), (0, 3));
            assert_eq!(counts.dead_letters, [(RejectReason::OutputTooLarge, 3)]);
            let letter = broker.all_committed(Place::DeadLetters(0)).remove(0);
            let reason = letter.headers.iter().find(|(name, _)| *name == "reason").map(|(_, value)| value.clone());
            assert_eq!(reason.as_deref(), Some(RejectReason::OutputTooLarge.as_str().as_bytes()));
        } else {
            assert_eq!((decisions, dead), (3, 0));
        }
        // The next worker still has the profiles, either from the changelog or from the input.
        let (mut worker, progress, _) = join(&broker);
        turn_until(&mut worker, &broker, |worker| is_restored(worker, 0, 3));
        assert_eq!((users(&worker), progress.health().doubted()), (2, u64::from(what == "profile")), "{what}");
    }
}

#[test]
fn a_decision_that_becomes_a_dead_letter_is_counted_once_however_often_it_is_sent() {
    // Every second user has a name that makes the decision too large.
    let names: Vec<String> = (0..60).map(|number| format!("{number}{}", "x".repeat(number % 2 * 1_000))).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut retries = 0;
    for seed in 0..30 {
        let faults = Faults { abortable: 60, stale: 60, ..Faults::default() };
        let broker = MemoryBroker::new(vec![views(&names)], true, faults, seed);
        broker.limit(SizeLimits { decisions: 1_500, ..SizeLimits::default() });
        let (mut worker, progress, _) = join(&broker);
        broker.produce(0, names.len());
        turn_until(&mut worker, &broker, |_| broker.committed()[0].as_ref().is_some_and(|it| it.0 == 60));
        worker.leave().expect("faults are mended");
        let count = |places: &dyn Fn(&Place) -> bool| -> u64 {
            let places = broker.places().into_iter().filter(|it| places(it));
            places.map(|it| broker.all_committed(it).len() as u64).sum()
        };
        let counts = progress.counts();
        let written =
            (count(&|it| matches!(it, Place::Decisions(_))), count(&|it| matches!(it, Place::DeadLetters(_))));
        assert_eq!(written, (30, 30), "seed {seed}");
        assert_eq!((counts.decisions, counts.dead_letters_total()), written, "seed {seed}");
        assert_eq!(counts.events, 60, "seed {seed}");
        retries += progress.retries();
    }
    assert!(retries > 60, "{retries} retries are too few to tell");
}

#[test]
fn a_batch_and_a_transaction_end_at_their_bytes() {
    let many: Vec<String> = (0..200).map(|number| format!("u{number}")).collect();
    let users: Vec<&str> = many.iter().map(String::as_str).collect();
    let broker = MemoryBroker::new(vec![views(&users)], true, Faults::default(), 1);
    let (source, sink) = broker.join(0);
    let settings = WorkerSettings { batch_rows_max: 1_000, commit_interval: Duration::from_hours(1), ..settings() };
    let worker = Worker::new(settings, source, sink, FakeClock::default(), pipeline(), Progress::default());
    // A record has about 60 bytes, so each batch ends at its first size check, and its outputs end the transaction.
    let mut worker = worker.with_bounds(100, 500);
    broker.produce(0, 200);
    let mut before = 0;
    while before < 200 {
        broker.tick(1_000_000, 1_000_000);
        worker.turn().expect("nothing goes wrong here");
        let next = worker.partitions().get(0).map_or(0, aimpoint::engine::Partition::next);
        assert!(next - before <= 16, "a batch of {}", next - before);
        before = next;
    }
    turn_until(&mut worker, &broker, |_| broker.committed()[0].as_ref().is_some_and(|it| it.0 > 150));
}

/// The decisions that readers see, as JSON.
fn decisions(broker: &MemoryBroker) -> Vec<serde_json::Value> {
    let places = broker.places().into_iter().filter(|place| matches!(place, Place::Decisions(_)));
    let payloads = places.flat_map(|place| broker.all_committed(place)).filter_map(|it| it.payload);
    payloads.map(|it| serde_json::from_slice(&it).expect("a decision is JSON")).collect()
}

/// The segments left without an event, by moment.
fn expired(broker: &MemoryBroker) -> Vec<(i64, Vec<String>)> {
    let is_expiry = |it: &&serde_json::Value| it["id"].as_str().is_some_and(|id| id.contains("-expired-"));
    let all = decisions(broker);
    let ended = all.iter().filter(is_expiry).map(|it| {
        let left = it["left"].as_array().expect("it is a list");
        let moment = left[0]["expires_at"].as_i64().expect("it is a time");
        (moment, left.iter().map(|it| it["id"].as_str().unwrap_or_default().to_owned()).collect())
    });
    let mut ended: Vec<_> = ended.collect();
    ended.sort();
    ended
}

/// The start of [`views`] and the length of a minute, in microseconds.
const BEGINNING: i64 = 1_700_000_000_000_000;
const MINUTE: i64 = 60_000_000;

fn lasting_worker(broker: &MemoryBroker, now: i64) -> (CaseWorker, Arc<AtomicI64>, u64) {
    let (source, sink) = broker.join(0);
    let member = source.member();
    let clock = FakeClock::showing(EventTime(now));
    let hands = clock.hands();
    let pipeline = world::pipeline(&world::lasting(world::spec())).0;
    (Worker::new(settings(), source, sink, clock, pipeline, Progress::default()), hands, member)
}

fn turns(worker: &mut CaseWorker, broker: &MemoryBroker, count: usize) {
    for _ in 0..count {
        broker.tick(1_000_000, 1_000_000);
        worker.turn().expect("nothing goes wrong here");
    }
}

#[test]
fn memberships_end_on_a_silent_partition_once_also_where_a_worker_is_followed_by_another() {
    for is_crash in [false, true] {
        let broker = MemoryBroker::new(vec![views(&["a"])], true, Faults::default(), 1);
        let (mut first, hands, member) = lasting_worker(&broker, BEGINNING);
        broker.produce(0, 1);
        turn_until(&mut first, &broker, |_| broker.committed()[0].is_some());
        turns(&mut first, &broker, 500);
        assert_eq!(expired(&broker), []);
        let viewing = (BEGINNING + 10 * MINUTE, vec!["viewing".to_owned()]);
        let looker = (BEGINNING + 20 * MINUTE, vec!["looker".to_owned()]);
        hands.store(viewing.0 + 1_999_999, Ordering::Relaxed);
        turns(&mut first, &broker, 500);
        assert_eq!(expired(&broker), [], "records may still be on their way");
        hands.store(viewing.0 + 2_000_000, Ordering::Relaxed);
        turns(&mut first, &broker, 500);
        assert_eq!(expired(&broker), std::slice::from_ref(&viewing));
        if is_crash {
            broker.cut_off(member);
        } else {
            first.leave().expect("nothing goes wrong here");
        }
        drop(first);
        broker.leave(member);
        let (mut second, hands, _) = lasting_worker(&broker, BEGINNING);
        turn_until(&mut second, &broker, |worker| is_restored(worker, 0, 1));
        turns(&mut second, &broker, 500);
        assert_eq!(expired(&broker), std::slice::from_ref(&viewing), "not again");
        hands.store(looker.0 + 600 * MINUTE, Ordering::Relaxed);
        turns(&mut second, &broker, 500);
        assert_eq!(expired(&broker), [viewing, looker]);
    }
}

#[test]
fn memberships_of_segments_that_stay_outlive_a_reload_that_adds_and_removes_others() {
    let with = |remove: &str, add: &str| {
        let mut spec = world::lasting(world::spec());
        spec.segments.retain(|it| it.id != remove);
        let mut more = spec.segments[0].clone();
        (more.id, more.filter, more.exit) = (add.to_owned(), "true".to_owned(), Some("false".to_owned()));
        more.duration = Some(Duration::from_hours(1));
        spec.segments.insert(0, more);
        world::pipeline(&spec).0
    };
    let broker = MemoryBroker::new(vec![views(&["a", "a", "b", "a"])], true, Faults::default(), 1);
    let (first, ..) = lasting_worker(&broker, BEGINNING);
    let (sender, receiver) = crossbeam_channel::bounded(2);
    let mut worker = first.with_pipelines(receiver);
    broker.produce(0, 2);
    turn_until(&mut worker, &broker, |_| broker.committed()[0].as_ref().is_some_and(|it| it.0 == 2));
    for (produced, (remove, add)) in [(3, ("viewing", "other")), (4, ("looker", "another"))] {
        sender.send(with(remove, add)).expect("the worker is there");
        turns(&mut worker, &broker, 50);
        broker.produce(0, 1);
        turn_until(&mut worker, &broker, |_| broker.committed()[0].as_ref().is_some_and(|it| it.0 == produced));
    }
    let all = decisions(&broker);
    let of_a: Vec<&serde_json::Value> = all.iter().filter(|it| it["user"] == "a").collect();
    assert_eq!((all.len(), of_a.len()), (4, 3), "each event has one decision");
    let member = |index: usize, id: &str| {
        let segments = of_a[index]["segments"].as_array().expect("it is a list");
        segments.iter().find(|it| it["id"] == id).map(|it| (it["entered_at"].as_i64(), it["is_new"].as_bool()))
    };
    assert_eq!(member(1, "looker"), Some((Some(BEGINNING), Some(false))));
    assert_eq!(member(2, "looker"), None, "it was removed");
    let last_written = Some((Some(BEGINNING), Some(false)));
    assert_eq!(member(2, "viewing"), last_written, "the user had no event while it was not there");
    assert_eq!(member(2, "another"), Some((Some(BEGINNING + 3_000_000), Some(true))));
}

#[test]
fn caps_outlive_a_reload_that_adds_and_removes_other_campaigns() {
    let with = |other: &str| {
        let mut spec = world::lasting(world::spec());
        let other = CampaignSpec { id: other.to_owned(), ..spec.campaigns[1].clone() };
        spec.campaigns[0].segments = AudienceSpec::default();
        (spec.campaigns[0].holdout, spec.campaigns[0].floor) = (0.0, None);
        spec.campaigns = vec![other, spec.campaigns[0].clone()];
        world::pipeline(&spec).0
    };
    let click = |number: i64| InputRecord {
        key: Some(b"a".to_vec()),
        erase: None,
        payload: Some(
            format!(
                r#"{{"event_type":"click","user_id":"a","value":1,"occurred_at":{},"ad":{{"campaign_id":"spring"}}}}"#,
                BEGINNING / 1_000 + number * 1_000
            )
            .into_bytes(),
        ),
        ..InputRecord::default()
    };
    let broker = MemoryBroker::new(vec![(0..4).map(click).collect()], true, Faults::default(), 1);
    let (mut worker, ..) = lasting_worker(&broker, BEGINNING);
    let (sender, receiver) = crossbeam_channel::bounded(2);
    worker = worker.with_pipelines(receiver);
    for (number, other) in ["autumn", "winter", "autumn", "winter"].into_iter().enumerate() {
        sender.send(with(other)).expect("the worker is there");
        turns(&mut worker, &broker, 50);
        broker.produce(0, 1);
        turn_until(&mut worker, &broker, |_| {
            broker.committed()[0].as_ref().is_some_and(|it| it.0 == number as i64 + 1)
        });
    }
    let reason = |decision: &serde_json::Value| {
        let all = decision["suppressed"].as_array().expect("it is a list").iter();
        all.filter(|it| it["campaign_id"] == "spring").map(|it| it["reason"].to_string()).collect::<String>()
    };
    let all: Vec<String> = decisions(&broker).iter().map(reason).collect();
    assert_eq!(all, ["", "\"cap\"", "\"cap\"", "\"cap\""], "two clicks are the most");
}
