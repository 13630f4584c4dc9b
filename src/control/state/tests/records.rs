//! The records of the compacted topic.

use super::*;
use crate::{hex, random::mix};
use OutcomeType::{Click, Impression, Loss, Win};

/// A state with a record of each kind.
fn complete() -> Run {
    let mut run = Run::new();
    run.report(0, &[(4, "a/b", 3)]);
    run.decide("d1", START);
    let mut win = outcome("w", Win, START + MINUTE);
    (win.auction_id, win.imp_id, win.placement) = (Some("x".into()), Some("1".into()), Some("top".into()));
    run.apply(&win);
    run.apply(&outcome("i", Impression, START + MINUTE));
    run.apply(&outcome("c", Click, START + 2 * MINUTE));
    run.state.advance(START + 20 * MINUTE);
    for number in 0..60 {
        let kind = if number % 2 == 0 { Win } else { Loss };
        run.apply(&outcome(&number.to_string(), kind, START + 20 * MINUTE + number));
    }
    let mut waiting = outcome("p", Win, START + 21 * MINUTE);
    (waiting.decision_id, waiting.currency) = (Some("d2".into()), "EUR".parse().ok());
    assert_eq!(run.apply(&waiting).disposition, Disposition::Parked);
    run.state.tick(START + 21 * MINUTE);
    run
}

fn restored(state: &State) -> Result<State, RestoreError> {
    let records = state.records().into_iter().map(|record| (record.key, record.value));
    State::restore("shop", &spec(), vec![setup("spring")], records)
}

#[test]
fn ids_and_values_never_change() {
    let records = complete().state.records();
    let kinds: Vec<&str> = {
        let mut kinds: Vec<&str> = records.iter().filter_map(|record| record.key.split('/').nth(1)).collect();
        kinds.dedup();
        kinds
    };
    let all = [
        "meta", "input", "seen", "touch", "parked", "account", "day", "quality", "arm", "notices", "rates", "audience",
    ];
    assert_eq!(kinds, all);
    let text = |prefix: &str| {
        let record = records.iter().find(|record| record.key.starts_with(prefix)).unwrap();
        format!("{} {}", record.key, String::from_utf8(record.value.clone().unwrap()).unwrap())
    };
    for golden in [
        r#"v1/input/decisions/0 {"next":2,"time":1767225600000000}"#,
        r#"v1/input/audiences/0 {"next":2,"time":9223372036854775807}"#,
        r#"v1/audience/4/a%2Fb/0 {"members":3}"#,
        r#"v1/arm/spring/red/ {"successes":1.0,"failures":0.0,"at_us":1767225660000000}"#,
        r#"v1/arm/spring/red/sport {"successes":1.0,"failures":0.0,"at_us":1767225660000000}"#,
        r#"v1/quality/spring/7/20454 {"labels":0,"positives":0,"clicked":0,"converted":0,"predicted_nanos":0,"loss_nanos":0,"bins":[0,0,0,0,0,0,0,0,1,0,0,0]}"#,
        r#"v1/notices/EUR/spring/top {"83":[0,0,1048576]}"#,
        GOLDEN_META,
        GOLDEN_DAY,
        GOLDEN_PARKED,
        GOLDEN_TOUCH,
    ] {
        let (key, _) = golden.split_once(' ').unwrap();
        assert_eq!(text(key), golden);
    }
    // All keys and values together, as a hash; but win rates, whose last bits depend on the machine's logarithm.
    let records = records.iter().filter(|record| !record.key.starts_with("v1/rates"));
    let bytes: Vec<u8> =
        records.flat_map(|it| [it.key.as_bytes(), it.value.as_deref().unwrap_or(b"")].concat()).collect();
    let found = Key::of("golden", &[&hex::encode(&bytes)]).text();
    assert_eq!(found, GOLDEN_HASH);
}

const GOLDEN_META: &str = concat!(
    r#"v1/meta {"version":1,"clock":1767226800000000,"fitted_at":1767226800000000,"faded_day":20454,"#,
    r#""seen_floor":0,"counts":{"decisions":1,"joined":63,"duplicates":0,"late":0,"orphans":0,"#,
    r#""rejected":0,"offers_refused":0,"notices_refused":0,"touches_evicted":0,"outcomes_evicted":0,"#,
    r#""lessons":1}}"#,
);
const GOLDEN_DAY: &str = concat!(
    r#"v1/day/spring/20454 {"spent_micros":46500,"unattributed_micros":0,"revenue_micros":0,"#,
    r#""eligible":1,"passed":1,"wins":31,"losses":30,"impressions":1,"viewable":0,"clicks":1,"#,
    r#""conversions":0}"#,
);
const GOLDEN_PARKED: &str = concat!(
    r#"v1/parked/1767226860000000/b8f14eb4e0878c0a052b069d32f6e722 {"id":"p","kind":"win","#,
    r#""occurred_at":1767226860000000,"decision_id":"d2","campaign_id":"spring","currency":"EUR","#,
    r#""price_micros":1500000,"loss_reason":0}"#,
);
const GOLDEN_TOUCH: &str = concat!(
    r#"v1/touch/22f129f733f14bcbe84e6792440e3ecc {"campaign":"spring","creative":"red","#,
    r#""audience":"sport","bid_micros":2000000,"decided_at":1767225600000000,"#,
    r#""offered_until":1767229200000000,"predicted":{"version":"7","probability":0.25},"keep_until":1767229200000000,"#,
    r#""aliases":["5b45c9d2dadf3edb6865fa559110cb64","ae8bada13fec216e9a006a1c2744c61e","#,
    r#""7fadc89889269628c733ce312194bbf2","af9ecfc7cdcd24d0c2ba4c5b3d0966ed"]}"#,
);
const GOLDEN_HASH: &str = "e324ace626d20f56bb3dcf1a54d1f313";

#[test]
fn a_restored_state_is_the_same_and_goes_on_the_same() {
    let mut run = complete();
    let mut other =
        Run { state: restored(&run.state).unwrap(), offsets: run.offsets, reports: run.reports, variant: "" };
    assert_eq!(other.state.records(), run.state.records());
    assert_eq!(other.state.dirty(), []);
    for run in [&mut run, &mut other] {
        run.decide("d2", START + 22 * MINUTE);
        run.apply(&outcome("w", Win, START + MINUTE));
        run.apply(&outcome("i2", Impression, START + 23 * MINUTE));
    }
    for at in [22, 23, 40, 2_000, 90_000] {
        run.state.advance(START + at * MINUTE);
        other.state.advance(START + at * MINUTE);
        let (one, two) = (run.state.tick(START + at * MINUTE), other.state.tick(START + at * MINUTE));
        assert_eq!(one.to_json(), two.to_json());
        assert_eq!(run.state.records(), other.state.records(), "{at}");
    }
}

#[test]
fn only_what_has_changed_is_dirty_and_what_is_gone_is_a_tombstone() {
    let mut run = complete();
    run.state.mark_clean();
    assert_eq!(run.state.dirty(), []);
    run.apply(&outcome("c2", Click, START + 21 * MINUTE));
    let keys = |run: &Run| -> Vec<String> {
        let kind = |key: &str| key.split('/').nth(1).unwrap_or_default().to_owned();
        run.state.dirty().iter().map(|record| kind(&record.key)).collect()
    };
    // The impression has been clicked before.
    assert_eq!(keys(&run), ["meta", "input", "seen"]);
    run.state.mark_clean();
    run.state.advance(START + 90_000 * MINUTE);
    let gone: Vec<bool> = run
        .state
        .dirty()
        .iter()
        .filter(|record| ["v1/touch/", "v1/seen/", "v1/parked/"].iter().any(|kind| record.key.starts_with(kind)))
        .map(|record| record.value.is_none())
        .collect();
    assert!(gone.len() > 60 && gone.iter().all(|gone| *gone), "{gone:?}");
}

#[test]
fn the_last_record_of_a_key_counts() {
    let run = complete();
    let records = run.state.records();
    let old = records.iter().map(|record| (record.key.clone(), Some(b"not even JSON".to_vec())));
    let gone = [("v1/unknown/1".to_owned(), Some(Vec::new())), ("v1/unknown/1".to_owned(), None)];
    let new = records.iter().map(|record| (record.key.clone(), record.value.clone()));
    let state = State::restore("shop", &spec(), vec![setup("spring")], old.chain(gone).chain(new)).unwrap();
    assert_eq!(state.records(), records);
}

#[test]
fn a_damaged_record_stops_control_and_names_the_key() {
    let run = complete();
    let records = run.state.records();
    let restore = |records: Vec<(String, Option<Vec<u8>>)>| {
        State::restore("shop", &spec(), vec![setup("spring")], records).map(|_| ()).unwrap_err().to_string()
    };
    for (key, value, expected) in [
        ("v2/meta", "{}", "the record \"v2/meta\" is not known; a newer version may have written it"),
        ("v1/meta/1", "{}", "is not known"),
        ("v1/seen/12", "{}", "is not known"),
        ("v1/day/spring/today", "{}", "is not known"),
        ("v1/meta", "{}", "the record \"v1/meta\" is damaged: missing field"),
        ("v1/day/autumn/3", "{}", "its campaign has no account"),
        ("v1/rates/eur", r#"{"all":null,"campaigns":{}}"#, "\"eur\" is not a currency code"),
        ("v1/rates/EUR", r#"{"all":{"intercept":0,"slope":99,"lowest_micros":1},"campaigns":{}}"#, "out of bounds"),
    ] {
        let error = restore(vec![(key.to_owned(), Some(value.as_bytes().to_vec()))]);
        assert!(error.contains(expected), "{key}: {error}");
    }
    // Whatever the damage, nothing panics.
    for seed in 0..3_000_u64 {
        let mut damaged = records.clone();
        let record = &mut damaged[mix(seed) as usize % records.len()];
        if let Some(value) = &mut record.value {
            let at = mix(seed ^ 1 << 40) as usize % value.len();
            value[at] = mix(seed ^ 1 << 41) as u8;
        }
        let damaged = damaged.into_iter().map(|record| (record.key, record.value));
        if let Ok(mut state) = State::restore("shop", &spec(), vec![setup("spring")], damaged) {
            state.tick(START + 30 * MINUTE);
        }
    }
}

#[test]
fn floats_are_restored_bit_for_bit() {
    for seed in 0..200_000_u64 {
        let float = f64::from_bits(mix(seed));
        if float.is_finite() {
            let text = serde_json::to_string(&float).unwrap();
            assert_eq!(serde_json::from_str::<f64>(&text).map(f64::to_bits).ok(), Some(float.to_bits()), "{text}");
        }
    }
}
