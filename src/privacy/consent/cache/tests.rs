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
fn an_equal_half_of_the_hash_does_not_share_an_answer() {
    for half in [0, 1] {
        let mut cache = Cache::new(64);
        let _ = cache.get(Key::Tc("one"), || reading(1));
        let slot = cache.slots.iter_mut().find(|slot| slot.hash != [0, 0]).unwrap();
        // As if another string had one hash of this one. The low bits are those of its place.
        slot.hash[half] ^= 1 << 31;
        assert_eq!(cache.get(Key::Tc("one"), || reading(5)), (reading(5), false));
    }
}

#[test]
fn the_hashes_are_keyed_and_independent() {
    // Two caches do not agree on a hash, and the same text has two that differ.
    let (one, other) = (Cache::new(64), Cache::new(64));
    for key in [Key::Tc(""), Key::Tc("one"), Key::Gpp("one", SectionIds::new([7]))] {
        let [first, second] = one.hash(key);
        assert!(first != second && other.hash(key) != [first, second], "{key:?}");
    }
}

#[test]
fn the_number_of_strings_stays_bounded() {
    let mut cache = Cache::new(64);
    for number in 0..5_000 {
        let text = format!("{number}-{}", "x".repeat(number * 37 % 2_500));
        assert_eq!(cache.get(Key::Tc(&text), || reading(number)).0, reading(number));
    }
    assert_eq!((cache.slots.len(), cache.tags.len()), (64, 8));
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
fn strings_of_one_set_only_displace_each_other() {
    let mut cache = Cache::new(1_024);
    let sets = cache.tags.len();
    let mut by_set: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    for number in 0..20_000 {
        let text = format!("{number}");
        by_set.entry(cache.hash(Key::Tc(&text))[0] as usize & (sets - 1)).or_default().push(text);
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
