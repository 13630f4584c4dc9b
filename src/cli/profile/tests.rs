use super::{
    report::{print, with_article},
    *,
};
use crate::{profile::OnChange, sink::Outbox, status::Counts};

const SPEC: &str = r#"
    [[feature]]
    name = "seen"
    aggregate = "count"
    window = "forever"

    [[segment]]
    id = "visitor"
    where = "true"
    exit = "false"
    duration = "1d"
"#;

fn spec() -> PipelineSpec {
    toml::from_str(SPEC).unwrap()
}

fn pipeline() -> Pipeline {
    Pipeline::compile(&spec(), "clickstream").unwrap()
}

/// Adds the changelog of a partition where the user `u` has had this many events.
fn changelog(partition: i32, events: i64, found: &mut UserRecords) {
    of("user_id", partition, events, &mut found.records, &mut found.layouts);
}

/// The same, with the id in the field `name`.
fn of(
    name: &str,
    partition: i32,
    events: i64,
    records: &mut BTreeMap<i32, StoredRecord>,
    layouts: &mut Vec<(i32, Vec<u8>, Vec<u8>)>,
) {
    let events: Vec<String> = (0..events).map(|_| format!(r#""event_type":"view","{name}":"u""#)).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    write(pipeline(), partition, &events, records, layouts);
}

/// The same with these members of events, which name the user unless they do.
fn write(
    mut pipeline: Pipeline,
    partition: i32,
    events: &[&str],
    records: &mut BTreeMap<i32, StoredRecord>,
    layouts: &mut Vec<(i32, Vec<u8>, Vec<u8>)>,
) {
    let mut partitions = Partitions::default();
    partitions.insert(partition, Partition::new(0, 0, None));
    let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
    for (offset, members) in events.iter().enumerate() {
        let user = if members.contains("_id\":\"u\"") { "" } else { r#""user_id":"u","# };
        let at = 1_767_225_600 + offset;
        let payload = format!(r#"{{{user}"event_id":"e{offset}","occurred_at":{at},{members}}}"#);
        let offset = offset as i64;
        let record = Record { partition, offset, payload: Some(payload.as_bytes()), ..Record::default() };
        pipeline.take(&record, &mut partitions, &mut outbox, &mut counts);
        pipeline.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
    }
    outbox.clear();
    assert_eq!(partitions.write_profiles(partition, true, (10, usize::MAX), pipeline.layout(), &mut outbox), 1);
    for (offset, output) in outbox.all().enumerate() {
        let (key, payload) = (output.key.unwrap(), output.payload.unwrap().to_vec());
        if is_layout_key(key) {
            layouts.push((partition, key.to_vec(), payload));
        } else {
            let held = StoredRecord {
                partition,
                offset: offset as i64,
                timestamp_ms: Some(events.len() as i64),
                payload: Some(payload),
            };
            records.insert(partition, held);
        }
    }
}

fn shown(found: &UserRecords) -> anyhow::Result<ProfileReport<'static>> {
    show("u", "profiles", found, &[], &spec(), &mut pipeline(), 10)
}

fn page(shown: &ProfileReport<'_>) -> String {
    let mut page = Vec::new();
    print(shown, std::time::Duration::from_secs(30), OnChange::Keep, &mut page).unwrap();
    String::from_utf8(page).unwrap()
}

fn keyed() -> KeyedByType {
    KeyType::ALL.map(|ty| Keyed { key: crate::event::key_of(ty, "u").into_owned(), ..Keyed::default() })
}

fn found() -> UserRecords {
    UserRecords { records: BTreeMap::new(), key: "u".to_owned(), other_types: Vec::new(), layouts: Vec::new() }
}

#[test]
fn users_of_two_types_with_the_same_id_are_shown_separately() {
    for (asked, seen, other) in [
        (None, ("person", 3.0), "device"),
        (Some(KeyType::Person), ("person", 3.0), "device"),
        (Some(KeyType::Device), ("device", 5.0), "person"),
    ] {
        let (mut all, mut layouts) = (keyed(), Vec::new());
        of("user_id", 1, 3, &mut all[0].records, &mut layouts);
        of("anonymous_id", 1, 5, &mut all[1].records, &mut layouts);
        let found = choose(all, None, asked, layouts);
        let shown = shown(&found).unwrap();
        assert_eq!((shown.key_type, shown.features[0].value), (seen.0, Some(seen.1)), "{asked:?}");
        let page = page(&shown);
        assert!(page.contains(&format!("also stored     {} with the same id", with_article(other))), "{page}");
    }
    // If only one type exists, it is found without naming it.
    let (mut all, mut layouts) = (keyed(), Vec::new());
    of("anonymous_id", 1, 5, &mut all[1].records, &mut layouts);
    let found = choose(all, None, None, layouts);
    assert_eq!(shown(&found).unwrap().key_type, "device");
}

#[test]
fn each_type_is_found_under_its_former_name_until_it_has_moved() {
    // The person has moved to the present name, and the device has not.
    let (mut present, mut former, mut layouts) = (keyed(), keyed(), Vec::new());
    of("user_id", 1, 3, &mut present[0].records, &mut layouts);
    of("user_id", 1, 2, &mut former[0].records, &mut layouts);
    of("anonymous_id", 1, 5, &mut former[1].records, &mut layouts);
    let find = |asked, present, former| {
        let found = choose(present, Some(former), asked, layouts.clone());
        shown(&found).unwrap().features[0].value
    };
    let again = |of: &KeyedByType| {
        let copy = |it: &StoredRecord| StoredRecord { payload: it.payload.clone(), ..*it };
        of.each_ref().map(|it| Keyed {
            key: it.key.clone(),
            records: it.records.iter().map(|(partition, held)| (*partition, copy(held))).collect(),
        })
    };
    assert_eq!(find(Some(KeyType::Person), again(&present), again(&former)), Some(3.0));
    assert_eq!(find(Some(KeyType::Device), present, former), Some(5.0));
}

#[test]
fn the_segments_that_a_user_is_in_are_shown_with_their_times() {
    let mut found = found();
    changelog(1, 5, &mut found);
    let page = page(&shown(&found).unwrap());
    let expected = "visitor                     since 2026-01-01T00:00:00Z, until 2026-01-02T00:00:04Z unless an event";
    assert!(page.contains(expected), "{page}");
}

#[test]
fn frequency_caps_flags_and_event_ids_are_shown() {
    let text = format!(
        "{SPEC}\n{}",
        r#"
        [duplicates]
        horizon = "1h"

        [consent]
        enabled = true
        vendor_id = 1
        country_default = "BR"
        without_law = ["write", "score", "emit", "measure", "train"]

        [[campaign]]
        id = "spring"
        value = 2.0
        ceiling = 5.0
        currency = "EUR"
        caps = [{ max = 5, per = "day" }]
        recency = "10m"
        "#
    );
    let spec: PipelineSpec = toml::from_str(&text).unwrap();
    let pipeline = || Pipeline::compile(&spec, "clickstream").unwrap();
    let mut found = found();
    let events = [
        r#""event_type":"consent","consent":{"gpc":false}"#,
        r#""event_type":"impression","ad":{"campaign_id":"spring"}"#,
        r#""event_type":"impression","ad":{"campaign_id":"spring"}"#,
        r#""event_type":"impression","ad":{"campaign_id":"summer"}"#,
    ];
    write(pipeline(), 1, &events, &mut found.records, &mut found.layouts);
    let shown = show("u", "profiles", &found, &[], &spec, &mut pipeline(), 10).unwrap();
    let counts: Vec<_> = shown.counts.iter().map(|it| (it.key.as_str(), it.value)).collect();
    assert_eq!(counts, [("campaign[0].caps[0]", Some(2.0)), ("campaign[0].recency", Some(1.0))]);
    assert!(shown.counts[0].events.contains(r#"ad.campaign_id == "spring""#), "{:?}", shown.counts);
    assert_eq!(shown.event_ids, 4);
    let page = page(&shown);
    for part in [
        "campaign[0].caps[0]                            2  count within 87600s of events with event_type == \"impression\"",
        "remembered: gpc is false",
        "event ids       4 are remembered as hashes",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn a_user_in_two_partitions_is_shown_from_the_newest_record_and_the_other_is_mentioned() {
    let mut found = found();
    changelog(1, 5, &mut found);
    changelog(3, 2, &mut found);
    let shown = shown(&found).unwrap();
    assert_eq!((shown.partition, shown.also_in.as_slice(), shown.features[0].value), (1, [3].as_slice(), Some(5.0)));
    let page = page(&shown);
    assert!(
        page.contains("u, in partition 1 of profiles") && page.contains("also stored     in partitions [3]"),
        "{page}"
    );
}

#[test]
fn a_removed_user_is_distinguished_from_an_unknown_one_and_from_one_in_another_partition() {
    let mut found = found();
    assert!(shown(&found).unwrap_err().to_string().contains("has no profile of this user"));
    let tombstone = StoredRecord { partition: 1, offset: 9, timestamp_ms: Some(9), payload: None };
    found.records.insert(1, tombstone);
    assert!(shown(&found).unwrap_err().to_string().contains("the profile was removed"));
    changelog(3, 2, &mut found);
    let shown = shown(&found).unwrap();
    assert_eq!((shown.partition, shown.also_in.len(), shown.features[0].value), (3, 0, Some(2.0)));
    assert_eq!(shown.removed_in, [1]);
    let page = page(&shown);
    assert!(page.contains("removed         from partitions [1], by erasure or by profile.ttl"), "{page}");
}
