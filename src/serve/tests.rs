mod enrich;
mod mutate;
mod record;
mod snapshot;
mod spec;
mod store;

use super::{Change, RecordReader, Store};
use crate::proto::v1;
use prost::Message;

/// The present, in microseconds since 1970: September 2026.
const NOW: i64 = 1_788_220_800_000_000;

/// A decision about a person that may be used for an hour.
fn decision(user: &str, decided_at: i64, segments: &[&str]) -> v1::Decision {
    let segment = |id: &&str| v1::Segment {
        id: (*id).to_owned(),
        name: format!("The {id}"),
        segtax: 4,
        ..v1::Segment::default()
    };
    v1::Decision {
        schema_version: 1,
        decision_id: format!("shop:clicks-0-{decided_at}"),
        user_key: user.to_owned(),
        key_type: v1::KeyType::Person.into(),
        occurred_at: decided_at,
        decided_at,
        expires_at: decided_at.saturating_add(3_600_000_000),
        segments: segments.iter().map(segment).collect(),
        ..v1::Decision::default()
    }
}

/// Takes a decision in as a driver does.
fn keep(store: &Store, partition: i32, key: &str, decision: &v1::Decision) {
    let mut reader = RecordReader::new("shop");
    let payload = decision.encode_to_vec();
    let (key, change) = reader.read(Some(key.as_bytes()), Some(&payload)).unwrap();
    assert!(matches!(change, Change::Kept(_)));
    store.apply(partition, key, change, decision.decided_at);
}
