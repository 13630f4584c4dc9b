use super::*;
use crate::state::{hash_key, is_reserved_key};

const HOUR: i64 = 3_600_000_000;

fn written(erasures: &mut Erasures) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    erasures.write(|key, record| all.push((key.to_vec(), record.map(<[u8]>::to_vec))));
    all
}

fn note(erasures: &mut Erasures, user: &[u8], at: i64, kept: Option<&[u64]>) {
    erasures.note(hash_key(user), user, at, kept);
}

#[test]
fn an_entry_comes_back_from_its_record_and_names_nobody() {
    let mut erasures = Erasures::default();
    note(&mut erasures, b"ann@example.com", 70, Some(&[0, 7, u64::MAX]));
    let records = written(&mut erasures);
    assert_eq!((records.len(), erasures.is_written(), written(&mut erasures).len()), (1, true, 0));
    let (key, record) = (&records[0].0, records[0].1.as_deref().expect("a record"));
    assert!(is_erasure_key(key) && is_reserved_key(key) && *key == erasure_key(b"ann@example.com"));
    assert!(![key, record].iter().any(|it| it.windows(3).any(|part| part == b"ann")), "the id is in it");
    let mut restored = Erasures::default();
    restored.restore(key, Some(record)).expect("a sound record");
    let hash = hash_key(b"ann@example.com");
    assert_eq!(restored.at(hash, b"ann@example.com"), Some(70));
    assert_eq!(restored.kept(hash, b"ann@example.com"), Some((&[0, 7, u64::MAX][..], 70)));
    assert_eq!(restored.at(hash, b"bob"), None, "the hash alone is not the user");
    assert!(restored.is_written());
    restored.restore(key, None).expect("a tombstone");
    assert!(restored.is_empty());
}

#[test]
fn records_are_written_and_read_as_changelogs_have_them() {
    // If these bytes changed, no erasure of an earlier release could be read.
    const KEY: &str = "ff6572617365642fc5e7b9efa07eddf349915e0d7d4b402e3017d010bc1c0e83";
    const RECORD: &str = "0801108080f9c0c1c482031a0390700779a8a6af704c2f5050";
    let mut erasures = Erasures::default();
    note(&mut erasures, b"ann", 1_700_000_000_000_000, Some(&[0, 0, 7]));
    let (key, record) = erasures.records().next().expect("one entry");
    assert_eq!((crate::hex::encode(&key), crate::hex::encode(&record)), (KEY.to_owned(), RECORD.to_owned()));
    assert_eq!(decode_erasure(&key, &record), Ok(Some(1_700_000_000_000_000)));
}

#[test]
fn a_record_that_was_changed_anywhere_is_noticed_and_removed() {
    let mut erasures = Erasures::default();
    note(&mut erasures, b"ann", 70, Some(&[3]));
    let (key, record) = erasures.records().next().expect("one entry");
    for bit in 0..record.len() * 8 {
        let mut changed = record.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let mut restored = Erasures::default();
        assert!(restored.restore(&key, Some(&changed)).is_err(), "bit {bit}");
        assert_eq!(written(&mut restored), [(key.clone(), None)]);
    }
    let other = erasure_key(b"bob");
    assert_eq!(Erasures::default().restore(&other, Some(&record)), Err(Unfit::Damaged), "it is another user's");
}

#[test]
fn of_several_erasures_the_latest_counts_and_what_was_kept_stays() {
    let mut erasures = Erasures::default();
    note(&mut erasures, b"ann", 70, Some(&[9]));
    note(&mut erasures, b"ann", 50, None);
    let hash = hash_key(b"ann");
    assert_eq!((erasures.at(hash, b"ann"), erasures.kept(hash, b"ann")), (Some(70), Some((&[9][..], 70))));
    assert_eq!(written(&mut erasures).len(), 1, "one record for both");
    note(&mut erasures, b"ann", 50, None);
    assert!(erasures.is_written(), "nothing has changed");
    note(&mut erasures, b"ann", 90, None);
    assert_eq!((written(&mut erasures).len(), erasures.at(hash, b"ann")), (1, Some(90)));
}

#[test]
fn a_choice_is_kept_without_an_erasure_and_from_when_the_user_was_last_seen() {
    let mut erasures = Erasures::default();
    let hash = hash_key(b"ann");
    erasures.keep(hash, b"ann", 2 * HOUR, &[9]);
    assert_eq!((erasures.at(hash, b"ann"), erasures.kept(hash, b"ann")), (None, Some((&[9][..], 2 * HOUR))));
    let records = written(&mut erasures);
    let (key, record) = (&records[0].0, records[0].1.as_deref().expect("a record"));
    assert_eq!(decode_erasure(key, record), Ok(None));
    let mut restored = Erasures::default();
    restored.restore(key, Some(record)).expect("a sound record");
    assert_eq!(restored.kept(hash, b"ann"), erasures.kept(hash, b"ann"));
    assert_eq!(restored.digest(), erasures.digest());
    // With an erasure before it, each part has its own time.
    note(&mut erasures, b"bob", HOUR, Some(&[3]));
    erasures.keep(hash_key(b"bob"), b"bob", 3 * HOUR, &[4]);
    let (_, both) = written(&mut erasures).pop().expect("bob's");
    restored.restore(&erasure_key(b"bob"), both.as_deref()).expect("a sound record");
    assert_eq!(restored.digest(), erasures.digest());
    let bob = hash_key(b"bob");
    assert_eq!((restored.at(bob, b"bob"), restored.kept(bob, b"bob")), (Some(HOUR), Some((&[4][..], 3 * HOUR))));
    // A later choice that refuses nothing ends it; the erasure stays.
    restored.keep(bob, b"bob", 4 * HOUR, &[]);
    restored.keep(hash, b"ann", 4 * HOUR, &[]);
    assert_eq!((restored.at(bob, b"bob"), restored.len()), (Some(HOUR), 1));
    assert_eq!(written(&mut restored)[0], (key.clone(), None), "ann's entry has a tombstone");
    restored.sweep(Some(0), 10 * HOUR);
    restored.sweep(Some(13 * HOUR), 10 * HOUR);
    assert_eq!(restored.len(), 1, "it is kept from the user's last event on");
    restored.sweep(Some(15 * HOUR), 10 * HOUR);
    assert!(restored.is_empty());
}

#[test]
fn the_digest_is_that_of_the_records_in_the_changelog() {
    let restored = |records: &[(Vec<u8>, Option<Vec<u8>>)]| {
        let mut restored = Erasures::default();
        for (key, record) in records {
            restored.restore(key, record.as_deref()).expect("it is sound");
        }
        restored.digest()
    };
    let mut erasures = Erasures::default();
    note(&mut erasures, b"ann", 70, Some(&[9]));
    note(&mut erasures, b"bob", 80, None);
    assert_eq!(erasures.digest(), 0, "nothing is written yet");
    let mut changelog = written(&mut erasures);
    assert_eq!(erasures.digest(), restored(&changelog));
    assert_ne!(erasures.digest(), restored(&changelog[1..]), "one is missing");
    // A newer entry, and one that goes before it was written again.
    note(&mut erasures, b"ann", 90, None);
    note(&mut erasures, b"bob", 85, None);
    assert_eq!(erasures.digest(), restored(&changelog));
    erasures.remove(|entry| entry.at == 85);
    changelog.extend(written(&mut erasures));
    assert_eq!((erasures.len(), erasures.digest()), (1, restored(&changelog)));
    erasures.write_again();
    assert_eq!(erasures.digest(), 0);
    assert_eq!((restored(&written(&mut erasures)), erasures.digest()), (restored(&changelog), restored(&changelog)));
    erasures.remove(|_| true);
    written(&mut erasures);
    assert_eq!(erasures.digest(), 0);
}

#[test]
fn entries_are_removed_after_their_time_and_not_before() {
    let mut erasures = Erasures::default();
    note(&mut erasures, b"ann", 0, None);
    note(&mut erasures, b"bob", 5 * HOUR, None);
    written(&mut erasures);
    erasures.sweep(Some(HOUR), 10 * HOUR);
    erasures.sweep(Some(10 * HOUR), 10 * HOUR);
    assert_eq!((erasures.len(), erasures.is_written()), (2, true));
    erasures.sweep(Some(11 * HOUR), 10 * HOUR);
    assert_eq!(written(&mut erasures), [(erasure_key(b"ann"), None)]);
    assert_eq!(erasures.at(hash_key(b"bob"), b"bob"), Some(5 * HOUR));
}

#[test]
fn beyond_the_bound_the_oldest_are_dropped_and_counted() {
    let mut erasures = Erasures::default();
    (0..100_i64).for_each(|at| note(&mut erasures, at.to_string().as_bytes(), at, None));
    erasures.bound(99);
    let dropped = erasures.take_dropped();
    assert_eq!((dropped, erasures.len(), erasures.take_dropped()), (13, 87, 0));
    assert_eq!(erasures.at(hash_key(b"12"), b"12"), None);
    assert_eq!(erasures.at(hash_key(b"13"), b"13"), Some(13));
    assert_eq!(written(&mut erasures).len(), 87, "what was dropped was never written");
}

#[test]
fn of_many_erasures_of_one_time_no_more_are_dropped_than_must_be() {
    let mut erasures = Erasures::default();
    (0..100_i64).for_each(|user| note(&mut erasures, user.to_string().as_bytes(), 5, None));
    erasures.bound(99);
    assert_eq!((erasures.take_dropped(), erasures.len()), (13, 87));
}

#[test]
fn opt_outs_are_dropped_before_erasures_that_are_older() {
    let mut erasures = Erasures::default();
    for at in 0..50_i64 {
        note(&mut erasures, at.to_string().as_bytes(), at, None);
        let user = format!("opted out {at}");
        erasures.keep(hash_key(user.as_bytes()), user.as_bytes(), 1_000 + at, &[7]);
    }
    erasures.bound(99);
    assert_eq!((erasures.take_dropped(), erasures.len()), (13, 87));
    assert_eq!(erasures.at(hash_key(b"0"), b"0"), Some(0));
    let kept = |at: i64| {
        let user = format!("opted out {at}");
        erasures.kept(hash_key(user.as_bytes()), user.as_bytes()).is_some()
    };
    assert_eq!((kept(12), kept(13)), (false, true));
}
