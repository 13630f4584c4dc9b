//! What is too large for a topic, a batch or a transaction.

use super::*;

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
