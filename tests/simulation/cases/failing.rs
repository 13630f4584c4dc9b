//! Sources that fail in part, and workers that get on with nothing.

use super::*;

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
