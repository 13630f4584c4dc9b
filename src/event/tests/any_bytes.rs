//! The decoder handles any bytes, and the batch stays consistent: [`Rig::decode`] checks its columns.

use super::{protobuf::full, *};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Change {
    Set(usize, u8),
    Insert(usize, u8),
    Remove(usize),
    Cut(usize),
    Repeat(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let byte = || prop_oneof![any::<u8>(), prop::sample::select(br#"{}[]:,"\0129.eE-+ntf"#.to_vec())];
    prop_oneof![
        (any::<usize>(), byte()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<usize>(), byte()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<usize>().prop_map(Change::Remove),
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), any::<usize>()).prop_map(|(from, to)| Change::Repeat(from, to)),
    ]
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    let length = bytes.len().max(1);
    match *change {
        _ if bytes.is_empty() => {}
        Change::Set(at, byte) => bytes[at % length] = byte,
        Change::Insert(at, byte) => bytes.insert(at % length, byte),
        Change::Remove(at) => drop(bytes.remove(at % length)),
        Change::Cut(at) => bytes.truncate(at % length),
        Change::Repeat(from, to) => {
            let (from, to) = (from % length, to % length);
            let piece = bytes[from.min(to)..from.max(to)].to_vec();
            bytes.splice(from..from, piece);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..5)) {
        for sections in ["", "[input]\nformat = \"protobuf\"", "[input]\nunpack = \"a\"", LOG] {
            let mut rig = Rig::new(sections);
            for payload in &payloads {
                let rows = rig.batch.len();
                let taken = rig.decode(payload).unwrap_or(0);
                prop_assert_eq!(rig.batch.len(), rows + taken);
            }
        }
    }

    #[test]
    fn damaged_events_never_panic(damage in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..5)) {
        let (event, json) = full();
        let line = br#"192.0.2.1 - - [01/Jan/2026:01:00:00 +0100] "GET /a?q=1 HTTP/1.1" 200 512 "http://x/" "M 5""#;
        let several = br#"{"b":[{"occurred_at":1767225601},{"occurred_at":1767225602,"bot":true}],"user_id":"u","event_type":"a"}"#;
        let pairs = br#"{"user_id":"u","event_name":"a","event_timestamp":1767225600000000,"event_params":[{"key":"ga_session_id",
            "value":{"int_value":"5"}},{"value":"x","key":"page_title"}]}"#;
        for (sections, valid, rows) in [
            ("", json.into_bytes(), 1),
            ("[input]\nformat = \"protobuf\"", event.encode_to_vec(), 1),
            (LOG, line.to_vec(), 1),
            ("[input]\nunpack = \"b\"", several.to_vec(), 2),
            ("[input]\nunpack = \"b\"\nbots = \"exclude\"", several.to_vec(), 1),
            ("[input]\npreset = \"ga4\"", pairs.to_vec(), 1),
        ] {
            let mut rig = Rig::new(sections);
            for changes in &damage {
                let mut payload = valid.clone();
                for change in changes {
                    apply(&mut payload, change);
                }
                let before = format!("{:?}", rig.batch);
                if rig.decode(&payload).is_err() {
                    prop_assert_eq!(format!("{:?}", rig.batch), before);
                }
                prop_assert_eq!(rig.decode(&valid), Ok(rows), "a good event still passes");
            }
        }
    }
}
