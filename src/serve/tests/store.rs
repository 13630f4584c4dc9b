//! The store against a naive one, its memory, and its readers.

use super::{NOW, decision, keep};
use crate::{
    proto::v1,
    serve::{Change, EXPIRED_KEPT, Lookup, RecordReader, SHARDS, Store},
};
use proptest::prelude::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};

const USERS: usize = 12;
const PARTITIONS: usize = 3;

/// A record of a partition.
#[derive(Clone, Debug)]
enum Step {
    /// A decision that was made at this time and takes about as many bytes.
    Keep {
        user: usize,
        at: i64,
        bytes: usize,
    },
    Erase {
        user: usize,
        at: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..1_000_i64;
    prop_oneof![
        5 => (0..USERS, at.clone(), prop_oneof![9 => 0_usize..200, 1 => 0_usize..80_000])
            .prop_map(|(user, at, bytes)| Step::Keep { user, at, bytes }),
        1 => (0..USERS, at).prop_map(|(user, at)| Step::Erase { user, at }),
    ]
}

/// Remembers every record.
#[derive(Default)]
struct Naive {
    /// By user and partition: the last decision, or none if the user was erased since.
    last: BTreeMap<(usize, usize), Option<(i64, String)>>,
    /// By user and partition: when the user was erased.
    erased: BTreeSet<(usize, usize, i64)>,
}

impl Naive {
    fn apply(&mut self, partition: usize, number: usize, step: &Step) {
        match step {
            Step::Keep { user, at, .. } => drop(self.last.insert((*user, partition), Some((*at, id(number))))),
            Step::Erase { user, at } => {
                self.last.insert((*user, partition), None);
                self.erased.insert((*user, partition, *at));
            }
        }
    }

    /// The id of a user's decision.
    fn decision(&self, user: usize) -> Option<String> {
        let of_user = self.last.iter().filter(|((it, _), _)| *it == user);
        let kept = of_user.filter_map(|((_, partition), last)| Some((last.as_ref()?, *partition)));
        let is_erased = |at: i64, partition: usize| {
            self.erased.iter().any(|(it, other, when)| *it == user && *other != partition && *when >= at)
        };
        let kept = kept.filter(|((at, _), partition)| !is_erased(*at, *partition));
        kept.max_by_key(|((at, _), partition)| (*at, *partition)).map(|((_, id), _)| id.clone())
    }
}

fn id(number: usize) -> String {
    format!("shop:clicks-0-{number}")
}

fn apply(store: &Store, partition: usize, number: usize, step: &Step) {
    match step {
        Step::Keep { user, at, bytes } => {
            let name = format!("u{user}");
            let it = v1::Decision {
                decision_id: id(number),
                feature_set_version: "f".repeat(*bytes),
                expires_at: NOW + 1,
                ..decision(&name, *at, &["a"])
            };
            keep(store, partition as i32, &name, &it);
        }
        Step::Erase { user, at } => store.apply(partition as i32, &format!("u{user}"), Change::Erased, *at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_store_says_what_a_naive_one_does_in_whatever_order_partitions_are_read(
        logs in prop::collection::vec(prop::collection::vec(step(), 0..60), PARTITIONS),
        turns in prop::collection::vec(0..PARTITIONS, 200),
    ) {
        let (store, mut naive) = (Store::default(), Naive::default());
        let mut next = [0; PARTITIONS];
        let rest = (0..PARTITIONS).flat_map(|partition| std::iter::repeat_n(partition, logs[partition].len()));
        for (number, partition) in turns.iter().copied().chain(rest).enumerate() {
            let Some(step) = logs[partition].get(next[partition]) else { continue };
            next[partition] += 1;
            apply(&store, partition, number, step);
            naive.apply(partition, number, step);
        }
        let mut users = 0;
        for user in 0..USERS {
            let found = store.look_up(&format!("u{user}"), NOW, |it| {
                v1::Decision::decode(&*it.protobuf()).map(|it| (it.decision_id, it.user_key)).ok()
            });
            let expected = naive.decision(user);
            users += usize::from(expected.is_some());
            let expected = expected.map_or(Lookup::Unknown, |id| Lookup::Found(Some((id, format!("u{user}")))));
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!(store.sizes().users, users);
    }
}

#[test]
fn an_expired_decision_is_known_for_a_while_and_then_forgotten() {
    let store = Store::default();
    for user in 0..1_000 {
        keep(&store, 0, &user.to_string(), &decision(&user.to_string(), NOW, &["a"]));
    }
    let end = NOW + 3_600_000_000;
    assert!(matches!(store.look_up("7", end - 1, |_| ()), Lookup::Found(())));
    assert_eq!(store.look_up("7", end, |_| ()), Lookup::Expired);
    let sweep = |now| (0..SHARDS).for_each(|shard| store.sweep(shard, now, true));
    let kept = EXPIRED_KEPT.as_micros() as i64;
    sweep(end + kept);
    assert_eq!((store.look_up("7", end, |_| ()), store.sizes().users), (Lookup::Expired, 1_000));
    let before = store.sizes().bytes;
    sweep(end + kept + 1);
    assert_eq!((store.look_up("7", end, |_| ()), store.sizes().users), (Lookup::Unknown, 0));
    assert!(store.sizes().bytes < before / 2, "{} of {before} bytes are left", store.sizes().bytes);
}

#[test]
fn an_erasure_is_remembered_until_everything_is_read() {
    let store = Store::default();
    let old = decision("7", NOW, &["a"]);
    store.apply(0, "7", Change::Erased, NOW + 1);
    let later = NOW + 24 * 3_600_000_000;
    (0..SHARDS).for_each(|shard| store.sweep(shard, later, false));
    keep(&store, 1, "7", &old);
    assert_eq!(store.look_up("7", NOW, |_| ()), Lookup::Unknown);
    (0..SHARDS).for_each(|shard| store.sweep(shard, later, true));
    keep(&store, 1, "7", &old);
    assert_eq!(store.look_up("7", NOW, |_| ()), Lookup::Found(()));
    store.clear();
    assert_eq!((store.look_up("7", NOW, |_| ()), store.sizes().users), (Lookup::Unknown, 0));
}

#[test]
fn readers_see_whole_decisions_while_they_change() {
    let store = Store::default();
    let payload = |size: usize| {
        let it = v1::Decision { feature_set_version: size.to_string().repeat(size), ..decision("7", NOW, &["a"]) };
        it.encode_to_vec()
    };
    let payloads: Vec<Vec<u8>> = (1..60).map(payload).collect();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut found = 0;
                    while found < 2_000 {
                        let read =
                            |it: crate::serve::StoredDecision<'_>| v1::Decision::decode(&*it.protobuf()).unwrap();
                        if let Lookup::Found(it) = store.look_up("7", NOW, read) {
                            let size = it.feature_set_version.len();
                            assert!(payloads.iter().any(|payload| {
                                v1::Decision::decode(&payload[..]).unwrap().feature_set_version.len() == size
                            }));
                            found += 1;
                        }
                    }
                })
            })
            .collect();
        let mut reader = RecordReader::new("shop");
        for payload in payloads.iter().cycle() {
            let (key, change) = reader.read(Some(b"7"), Some(payload)).unwrap();
            store.apply(0, key, change, NOW);
            if readers.iter().all(std::thread::ScopedJoinHandle::is_finished) {
                break;
            }
        }
    });
}
