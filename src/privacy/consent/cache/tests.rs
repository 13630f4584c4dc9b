use super::super::{Reason, facts::Said};
use super::*;
use std::collections::BTreeMap;

fn reading(number: usize) -> Reading {
    let reason = Reason::from_number(1 + number as u64 % 28).unwrap();
    Reading { tcf: Said::Bad(reason), us: Said::Nothing }
}

#[test]
fn an_answer_is_that_of_the_whole_string_and_its_sections() {
    let mut cache = Cache::new(64);
    let (seven, eight) = (SectionIds::new([7]), SectionIds::new([8]));
    let keys = [Key::Tc("A"), Key::Gpp("A", seven), Key::Gpp("A", eight), Key::Gpp("A", SectionIds::default())];
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(cache.get(key, || reading(number)), (reading(number), false), "{key:?}");
    }
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(cache.get(key, || panic!("it is in the cache")), (reading(number), true), "{key:?}");
    }
}

#[test]
fn equal_hashes_do_not_share_an_answer() {
    let mut cache = Cache::new(64);
    let _ = cache.get(Key::Tc("one"), || reading(1));
    let hash = Key::Tc("one").hash();
    let set = hash as usize & (cache.tags.len() - 1);
    let way = cache.tags[set].iter().position(|tag| *tag != 0).unwrap();
    // As if another string had the hash of this one.
    cache.slots[set * WAYS + way].text = "two".into();
    assert_eq!(cache.get(Key::Tc("one"), || reading(5)), (reading(5), false));
    // As if the same string, read for other sections, had the same hash.
    let mut cache = Cache::new(64);
    let _ = cache.get(Key::Tc("one"), || reading(1));
    let way = cache.tags[set].iter().position(|tag| *tag != 0).unwrap();
    cache.slots[set * WAYS + way].kind = 0;
    assert_eq!(cache.get(Key::Tc("one"), || reading(6)), (reading(6), false));
}

#[test]
fn the_number_of_strings_and_their_bytes_stay_bounded() {
    let mut cache = Cache::new(64);
    assert_eq!((cache.slots.len(), cache.bytes_max), (64, 64 * BYTES_EACH));
    for number in 0..5_000 {
        // From a few bytes up to more than the share of one string.
        let text = format!("{number}-{}", "x".repeat(number * 37 % 2_500));
        assert_eq!(cache.get(Key::Tc(&text), || reading(number)).0, reading(number));
        let bytes: usize = cache.slots.iter().map(|slot| slot.text.len()).sum();
        assert_eq!(bytes, cache.bytes);
        assert!(bytes <= cache.bytes_max);
        let used = cache.tags.iter().flatten().filter(|tag| **tag != 0).count();
        assert_eq!(used, cache.slots.iter().filter(|slot| !slot.text.is_empty()).count());
    }
    assert_eq!(cache.slots.len(), 64);
    let large = "x".repeat(cache.bytes_max / SHARE + 1);
    assert!(!cache.get(Key::Tc(&large), || reading(1)).1 && !cache.get(Key::Tc(&large), || reading(1)).1);
}

#[test]
fn strings_that_are_asked_for_outlive_those_that_are_not() {
    let mut cache = Cache::new(256);
    let often: Vec<String> = (0..32).map(|number| format!("often {number}")).collect();
    let mut hits = 0;
    let rounds = 2_000;
    for round in 0..rounds {
        for text in &often {
            hits += usize::from(cache.get(Key::Tc(text), || reading(0)).1);
        }
        let once = format!("once {round}");
        assert!(!cache.get(Key::Tc(&once), || reading(1)).1);
    }
    let share = hits as f64 / (rounds * often.len()) as f64;
    assert!(share > 0.97, "{share}");
}

#[test]
fn strings_made_for_one_set_only_displace_each_other() {
    let mut cache = Cache::new(1_024);
    let sets = cache.tags.len();
    let mut by_set: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for number in 0..20_000 {
        let text = format!("{number}");
        by_set.entry(Key::Tc(&text).hash() as usize & (sets - 1)).or_default().push(text);
    }
    // The hash spreads: each set has its share.
    assert!(by_set.len() == sets && by_set.values().all(|texts| (60..300).contains(&texts.len())));
    let calm = &by_set[&1][0];
    let _ = cache.get(Key::Tc(calm), || reading(1));
    for text in &by_set[&0] {
        let _ = cache.get(Key::Tc(text), || reading(2));
    }
    assert!(cache.get(Key::Tc(calm), || reading(3)).1);
}
