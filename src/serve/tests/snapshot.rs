//! Snapshots: what comes back, and what is noticed.

use super::{NOW, decision, keep};
use crate::serve::{Change, Lookup, Position, SnapshotFault, SnapshotHead, SnapshotReader, Store, write_snapshot};

fn head(partitions: impl IntoIterator<Item = i32>) -> SnapshotHead {
    let position = |partition| (partition, Position { next: 10, newest_ms: 7 });
    SnapshotHead {
        cluster: "c1".to_owned(),
        topic: "decisions".to_owned(),
        app: "shop".to_owned(),
        read_at: NOW,
        positions: partitions.into_iter().map(position).collect(),
    }
}

fn written(store: &Store, partitions: impl IntoIterator<Item = i32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_snapshot(store, &head(partitions), &mut bytes).unwrap();
    bytes
}

fn read(bytes: &[u8]) -> Result<Store, String> {
    let store = Store::default();
    let told = |error: SnapshotFault| error.to_string();
    SnapshotReader::open(bytes).map_err(told)?.read_into(&store).map_err(told)?;
    Ok(store)
}

/// Users in three partitions, of whom every seventh is erased.
fn store(users: usize) -> Store {
    let store = Store::default();
    for user in 0..users {
        let (name, partition) = (format!("u{user}"), (user % 3) as i32);
        keep(&store, partition, &name, &decision(&name, NOW + user as i64, &["a"]));
        if user % 7 == 0 {
            store.apply(partition, &name, Change::Erased, NOW + user as i64);
        }
    }
    store
}

fn known(store: &Store, user: &str) -> Option<Vec<u8>> {
    match store.look_up(user, NOW, |it| it.protobuf()) {
        Lookup::Found(bytes) => Some(bytes),
        _ => None,
    }
}

#[test]
fn a_snapshot_has_every_user_of_its_partitions_and_nobody_who_was_erased() {
    for users in [0, 1, 3_000] {
        let store = store(users);
        let bytes = written(&store, 0..3);
        assert_eq!(*SnapshotReader::open(&bytes[..]).unwrap().head(), head(0..3));
        let all = read(&bytes).unwrap();
        let some = read(&written(&store, [1])).unwrap();
        assert_eq!(all.sizes().users, store.sizes().users);
        for user in 0..users {
            let name = format!("u{user}");
            let expected = known(&store, &name);
            assert_eq!(expected.is_none(), user % 7 == 0);
            assert_eq!(known(&all, &name), expected);
            assert_eq!(known(&some, &name), expected.filter(|_| user % 3 == 1));
        }
    }
}

#[test]
fn a_snapshot_does_not_name_who_was_erased() {
    let store = Store::default();
    for user in ["the-first", "the-second"] {
        keep(&store, 0, user, &decision(user, NOW, &["a"]));
    }
    store.apply(0, "the-second", Change::Erased, NOW);
    let bytes = written(&store, 0..1);
    let has = |name: &str| bytes.windows(name.len()).any(|it| it == name.as_bytes());
    assert!(has("the-first") && !has("the-second"));
}

#[test]
fn a_snapshot_that_is_cut_off_or_has_a_bit_flipped_is_noticed() {
    let whole = written(&store(500), 0..3);
    for end in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        assert!(read(&whole[..end]).is_err(), "cut at {end}");
    }
    for at in (0..whole.len()).step_by(89) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        assert!(read(&flipped).is_err(), "flipped at {at}");
    }
    // Behind the magic and the head come the blocks: here, twice.
    let head_bytes = 8 + 12 + serde_json::to_vec(&head(0..3)).unwrap().len();
    let twice = [&whole[..], &whole[head_bytes..]].concat();
    assert_eq!(read(&twice).err().unwrap(), "it is damaged: it goes on behind its end");
}
