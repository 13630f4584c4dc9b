//! Profiles that are restored from the changelog or a snapshot, and what somebody else may have made of them.

use super::*;

#[test]
pub(crate) fn what_readers_were_told_is_restored() {
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
