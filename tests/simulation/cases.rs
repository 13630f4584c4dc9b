//! Individual defects, by name: bugs that occurred once, or that random runs would hit too rarely.

mod failing;
mod memberships;
mod restoring;
mod sizes;

pub(super) use restoring::{
    a_restore_waits_for_the_open_transactions_of_the_changelog,
    a_tombstone_is_written_before_the_profile_of_a_user_who_came_back, an_old_record_in_the_right_number_is_noticed,
    what_readers_were_told_is_restored,
};

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

fn turns(worker: &mut CaseWorker, broker: &MemoryBroker, count: usize) {
    for _ in 0..count {
        broker.tick(1_000_000, 1_000_000);
        worker.turn().expect("nothing goes wrong here");
    }
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
