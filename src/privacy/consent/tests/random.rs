//! Random signals: what must hold whatever an event says.

use super::*;
use proptest::prelude::*;

fn any_flag() -> impl Strategy<Value = Option<bool>> {
    prop::option::of(any::<bool>())
}

fn any_text() -> impl Strategy<Value = String> {
    let purposes = prop::collection::vec(1..=11_u16, 0..11);
    let tc = (purposes, 0..60_usize, 0..9_u64).prop_map(|(consent, vendors, day)| {
        Tc { consent, vendor_consent: Vendors::up_to(vendors), last_updated: JUNE + day * 40_000, ..Tc::default() }
            .text()
    });
    prop_oneof![3 => tc, 1 => Just(String::new()), 1 => "[A-Za-z0-9_.~-]{1,30}"]
}

fn any_gpp() -> impl Strategy<Value = String> {
    let us = (0..3_u64, 0..3_u64).prop_map(|(sale, child)| national(sale, child));
    let both = (any_text(), 0..3_u64).prop_map(|(tc, sale)| {
        let national = national(sale, 0);
        gpp_text(&[(2, &tc), (7, national.split_once('~').unwrap().1)])
    });
    prop_oneof![us, both, any_text()]
}

type Any = (Option<bool>, String, String, Vec<i32>, String, [Option<bool>; 3], (String, String));

fn any_signals() -> impl Strategy<Value = Any> {
    let sections = prop::collection::vec(prop::sample::select(vec![-1, 0, 2, 5, 6, 7, 8, 24, 99]), 0..3);
    let us_privacy = prop::sample::select(vec!["", "1YNN", "1YYN", "1---", "1"]).prop_map(str::to_owned);
    let country = prop::sample::select(vec!["", "DE", "US", "CA", "XY"]).prop_map(str::to_owned);
    let region = prop::sample::select(vec!["", "CA", "NY"]).prop_map(str::to_owned);
    (any_flag(), any_text(), any_gpp(), sections, us_privacy, [any_flag(), any_flag(), any_flag()], (country, region))
}

fn signals(any: &Any) -> Signals<'_> {
    Signals {
        gdpr: any.0,
        tc_string: &any.1,
        gpp: &any.2,
        gpp_sid: SectionIds::new(any.3.iter().copied()),
        us_privacy: &any.4,
        gpc: any.5[0],
        coppa: any.5[1],
        lmt: any.5[2],
        country: &any.6.0,
        region: &any.6.1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn the_cache_changes_no_verdict(all in prop::collection::vec(any_signals(), 1..30)) {
        // The smallest cache, filled by those before.
        let mut used = gate();
        for any in all.iter().chain(&all) {
            let signals = signals(any);
            let verdict = decide(&mut used, &signals);
            prop_assert_eq!(verdict, decide(&mut gate(), &signals));
        }
    }

    #[test]
    fn a_restricting_signal_never_permits_more(any in any_signals()) {
        let open = signals(&any);
        let mut gate = gate();
        let before = decide(&mut gate, &open).permissions;
        for stricter in [
            Signals { gpc: Some(true), ..open },
            Signals { coppa: Some(true), ..open },
            Signals { lmt: Some(true), ..open },
            // A string that cannot be read, where its law applies already.
            Signals { tc_string: "garbage", gdpr: Some(true), ..open },
            Signals { gpp: "garbage", gpp_sid: SectionIds::new([2, 7]), ..open },
        ] {
            let after = decide(&mut gate, &stricter).permissions;
            let has_law_before = open.gdpr == Some(true) || stricter.gdpr == open.gdpr;
            prop_assert!(after.is_within(before) || !has_law_before, "{open:?} {stricter:?}");
        }
        for garbage in ["garbage", "C", "CAAA"] {
            let stricter = Signals { tc_string: garbage, gdpr: Some(true), ..open };
            prop_assert_eq!(decide(&mut gate, &stricter).permissions, Permissions::NONE);
        }
    }

    #[test]
    fn the_order_of_consent_events_does_not_matter(
        all in prop::collection::vec((any_signals(), 0..3_i64), 1..5), event in any_signals(), turn in 0..5_usize,
    ) {
        let mut gate = gate();
        let mut consents: Vec<_> = all.iter().map(|(any, day)| (signals(any), NOW + day * DAY)).collect();
        let event = signals(&event);
        let verdict = after(&mut gate, &consents, &event, NOW + DAY);
        let length = consents.len();
        consents.rotate_left(turn % length);
        prop_assert_eq!(after(&mut gate, &consents, &event, NOW + DAY), verdict);
        consents.reverse();
        prop_assert_eq!(after(&mut gate, &consents, &event, NOW + DAY), verdict);
    }
}
