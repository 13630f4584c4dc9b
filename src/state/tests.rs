use super::*;

fn unpacked(bytes: &[u8]) -> Vec<u64> {
    let mut words = Vec::new();
    assert!(packed::unpack(bytes, &mut words));
    words
}

fn packed_words(words: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    packed::pack(words, &mut bytes);
    bytes
}

fn write_all(store: &mut Store, below: i64, next: i64, max: usize) -> Vec<(Vec<u8>, Option<Vec<u64>>)> {
    let mut written = Vec::new();
    store.write_due(below, next, max, |key, profile| {
        let words = profile.map(|PackedProfile(bytes)| unpacked(bytes));
        written.push((key.to_vec(), words));
        true
    });
    written
}

#[test]
fn users_of_equal_hash_are_kept_apart() {
    let mut store = Store::default();
    store.entry(7, b"ann", &[1], 0, 0).expect("not covered").0.push(2);
    store.entry(7, b"bob", &[3], 1, 0).expect("not covered");
    assert_eq!(store.get(7, b"ann").as_deref(), Some(&[1, 2][..]));
    assert_eq!(store.get(7, b"bob").as_deref(), Some(&[3][..]));
    assert_eq!((store.get(7, b"eve"), store.len()), (None, 2));
}

/// Makes the partition time reach `time` by giving enough users an event.
fn pass(store: &mut Store, time: i64) {
    (0..WITNESSES as u64).for_each(|user| store.clock.note(u64::MAX - user, time));
}

#[test]
fn a_sweep_waits_until_it_is_due_and_frees_the_idle() {
    let mut store = Store::default();
    let idle = |first: u64, time: i64| (first as i64) < time - 160;
    store.entry(1, b"old", &[0], 0, 0);
    store.entry(2, b"new", &[1_000], 1, 1_000);
    store.sweep(160, idle, None);
    assert_eq!((store.len(), store.clock().time()), (2, None), "two users make no time");
    pass(&mut store, 0);
    store.sweep(160, idle, None);
    pass(&mut store, 10);
    store.sweep(160, idle, None);
    assert_eq!(store.len(), 2, "no sweep is due yet");
    write_all(&mut store, 2, 2, 9);
    pass(&mut store, 1_000);
    store.sweep(160, idle, None);
    assert_eq!((store.get(1, b"old"), store.len()), (None, 1));
    assert_eq!(write_all(&mut store, 0, 2, 9), [(b"old".to_vec(), None)], "its record gets a tombstone");
}

/// A sweep keeps something of a few profiles only, so that a commit stays small. It drops all others at once, and the rest
/// soon after.
#[test]
fn a_sweep_drops_all_that_leave_nothing_and_keeps_something_of_a_few_at_a_time() {
    const TTL: i64 = 160_000;
    let mut store = Store::default();
    let idle = |first: u64, time: i64| (first as i64) < time - TTL;
    // Even users refuse something.
    let outlives: Outlives<'_> = &|words| Some(if words[1] == 0 { vec![7] } else { Vec::new() });
    for user in 0..10_u64 {
        store.entry(user, &user.to_le_bytes(), &[0, user % 2], user as i64, 0);
    }
    pass(&mut store, 0);
    store.sweep(TTL, idle, Some(outlives));
    let next = 10;
    write_all(&mut store, next, next, 99);
    // A replay would start behind the time at which they are gone.
    pass(&mut store, 2 * TTL);
    store.entry(99, b"later", &[2 * TTL as u64, 1], next, 2 * TTL);
    store.sweep(TTL, idle, Some(outlives));
    assert_eq!((store.len(), store.erasures().len()), (1 + 2, 3), "two of those who refuse wait");
    store.sweep(TTL, idle, Some(outlives));
    assert_eq!(store.len(), 3, "not in the same commit");
    pass(&mut store, 2 * TTL + TTL / 16 / 8);
    store.sweep(TTL, idle, Some(outlives));
    assert_eq!((store.len(), store.erasures().len()), (1, 5));
}

#[test]
fn the_oldest_dirty_profile_is_written_first_and_the_mark_moves_behind_it() {
    let mut store = Store::default();
    let far = dirty::POINT_OFFSETS;
    for (offset, key) in [(5, b"a"), (6 + far, b"b"), (7 + far, b"a"), (8 + 2 * far, b"c"), (9 + 2 * far, b"d")] {
        let (words, _) = store.entry(u64::from(key[0]), key, &[0], offset, offset * 10).expect("not covered");
        words[0] += 1;
    }
    let next = 10 + 2 * far;
    let mark = |store: &Store| {
        let Mark { replay_from, clock, records, .. } = store.mark(next);
        (replay_from, clock.shown(), records)
    };
    assert_eq!(mark(&store), (5, None, 0));
    assert_eq!(write_all(&mut store, next, next, 1), [(b"a".to_vec(), Some(vec![2]))], "with its second event in it");
    assert_eq!(mark(&store), (6 + far, Some(50), 1));
    assert_eq!(write_all(&mut store, 8 + far, next, 9), [(b"b".to_vec(), Some(vec![1]))], "c is not due");
    assert!(store.entry(u64::from(b'a'), b"a", &[0], 8 + 2 * far, 0).is_none(), "the record covers this event");
    assert_eq!(mark(&store), (8 + 2 * far, Some(10 * (7 + far)), 2));
    assert_eq!(write_all(&mut store, next, next, 1), [(b"c".to_vec(), Some(vec![1]))]);
    assert_eq!(mark(&store), (8 + 2 * far, Some(10 * (7 + far)), 3), "d's first event is near by");
    assert_eq!(store.oldest_dirty(), Some(9 + 2 * far));
    assert_eq!(write_all(&mut store, next, next, 9).len(), 1);
    assert_eq!(mark(&store), (next, Some(10 * (9 + 2 * far)), 4));
}

#[test]
fn what_was_restored_skips_the_events_that_its_record_covers() {
    let mut store = Store::default();
    store.restore(1, b"a", Some(&packed_words(&[3])), 8, 8);
    store.restore(2, b"b", Some(&packed_words(&[1])), 6, 6);
    store.restore(2, b"b", None, 7, 7);
    store.rewind(PartitionClock::at(Some(40)), Ceilings::default(), Ticks::default());
    assert!(store.entry(1, b"a", &[0], 7, 0).is_none());
    assert_eq!(store.entry(1, b"a", &[0], 8, 0), Some((&mut vec![3], Some(40))));
    assert_eq!(store.entry(2, b"b", &[0], 6, 0), Some((&mut vec![0], Some(40))), "its tombstone came last");
}

#[test]
fn a_ceiling_holds_for_what_is_read_again_and_a_clock_that_is_behind_refuses_nothing() {
    const HOUR: i64 = 3_600_000_000;
    let mut store = Store::default();
    let first = store.ceiling(7, false, Some(HOUR)).expect("there is one now");
    assert!((HOUR..HOUR + HOUR / 10).contains(&first));
    assert_eq!(store.ceiling(7, true, Some(9 * HOUR)), Some(first), "later the same holds");
    assert_eq!(store.ceiling(3, true, None), None, "of what came before nothing is known");
    assert!(store.ceiling(3, true, Some(9 * HOUR)).is_some_and(|it| it >= 9 * HOUR), "but for the present");
    assert_eq!(store.ceiling(7, true, Some(9 * HOUR)), Some(first));
    pass(&mut store, 20 * HOUR);
    assert!(store.ceiling(8, false, Some(HOUR)).is_some_and(|it| it >= 20 * HOUR));
    let mark = store.mark(9);
    assert_eq!(mark.ceilings.at(7), None, "nothing is dirty: nothing is read again");
    assert!(mark.ceilings.at(9).is_some_and(|it| it >= 20 * HOUR));
}

#[test]
fn a_profile_from_a_snapshot_is_dirty_from_the_first_event_that_the_changelog_lacks() {
    // Such a profile used to be treated as clean, so the changelog never received what only the snapshot had.
    let mut store = Store::default();
    store.restore(1, b"a", Some(&packed_words(&[3])), 5, 8);
    assert!(store.entry(1, b"a", &[0], 4, 0).is_none(), "the record has it");
    assert_eq!(store.mark(9).replay_from, 9);
    assert!(store.entry(1, b"a", &[0], 6, 0).is_none(), "the snapshot has it");
    assert_eq!(store.mark(9).replay_from, 6);
    assert_eq!(store.entry(1, b"a", &[0], 8, 0), Some((&mut vec![3], None)));
}

#[test]
fn idle_profiles_rest_packed_and_open_as_they_were() {
    let mut store = Store::default();
    let users = 20 * OPEN_MIN as u64;
    for round in 0..3 {
        for user in 0..users {
            let offset = (round * users + user) as i64;
            let entry = store.entry(user, &user.to_le_bytes(), &[user, 0, 0], offset, 0);
            let (words, _) = entry.expect("not covered");
            assert_eq!(*words, [user, round, round * user]);
            (words[1], words[2]) = (round + 1, (round + 1) * user);
        }
        let open = store.profiles.open.slots.len() - store.profiles.open.free.len();
        assert!(open <= OPEN_MIN.max(users as usize / OPEN_SHARE) + 1, "{open} are open");
        assert_eq!(store.len(), users as usize);
    }
    assert_eq!(store.get(7, &7_u64.to_le_bytes()).as_deref(), Some(&[7, 3, 21][..]));
    store.sweep(16, |_, _| false, None);
    pass(&mut store, 1_000_000);
    store.sweep(16, |first, _| first % 2 == 0, None);
    assert_eq!(store.len(), users as usize / 2);
    assert_eq!(store.iter().map(|(_, words)| words[1]).sum::<u64>(), 3 * users / 2);
}
