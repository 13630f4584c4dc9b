use super::*;
use proptest::prelude::*;

fn any_facts() -> impl Strategy<Value = TcfFacts> {
    let set = || (0..2_048_u16).prop_map(|set| set << 1);
    let disclosed = prop::sample::select(vec![Disclosed::No, Disclosed::Unsaid, Disclosed::Yes]);
    (
        (set(), set(), set(), set()),
        any::<[bool; 5]>(),
        disclosed,
        (0..4_u8, 0..26_u8, 0..26_u8),
        (any::<u32>(), 0..4096_u16, 0..4096_u16, 0..64_u8),
    )
        .prop_map(|(sets, flags, disclosed, (special_features, one, two), ids)| TcfFacts {
            is_canada: flags[0],
            consent: sets.0,
            interest: sets.1,
            only_consent: sets.2,
            only_interest: sets.3,
            vendor: VendorFacts { has_consent: flags[1], has_interest: flags[2], disclosed },
            special_features,
            is_purpose_one_exempt: flags[3],
            is_service_specific: flags[4],
            publisher: [b'A' + one, b'A' + two],
            id: StringId { last_updated: ids.0, cmp_id: ids.1, vendor_list_version: ids.2, policy_version: ids.3 },
        })
}

fn any_reason() -> impl Strategy<Value = Reason> {
    prop::sample::select(&Reason::ALL[1..])
}

fn any_tcf() -> impl Strategy<Value = Said<TcfFacts>> {
    prop_oneof![any_reason().prop_map(Said::Bad), any_facts().prop_map(Said::Facts)]
}

fn any_us() -> impl Strategy<Value = Said<UsFacts>> {
    let facts = (0..64_u8, any::<u8>(), any::<u16>()).prop_map(|(section, flags, refused_categories)| UsFacts {
        section,
        flags,
        refused_categories,
    });
    prop_oneof![any_reason().prop_map(Said::Bad), facts.prop_map(Said::Facts)]
}

fn any_source() -> impl Strategy<Value = ConsentSource> {
    (0..4_u64).prop_map(ConsentSource::from_number)
}

/// Times are few, so that many are equal.
fn any_remembered() -> impl Strategy<Value = RememberedConsent> {
    let kept = |said| (0..3_i64, said, any_source());
    let flag = || (prop::option::of(any::<bool>()), 0..3_i64).prop_map(|(yes, hour)| KeptFlag::new(yes, hour << 33));
    (
        prop::option::of(kept(any_tcf().boxed())),
        prop::option::of(any::<bool>()),
        prop::option::of((0..3_i64, any_us(), any_source())),
        (flag(), flag(), flag()),
    )
        .prop_map(|(tcf, gdpr, us, (gpc, coppa, lmt))| RememberedConsent {
            tcf: tcf.map(|(at, said, source)| Kept { at, said, source }),
            gdpr: gdpr.filter(|_| tcf.is_some()),
            us: us.map(|(at, said, source)| Kept { at, said, source }),
            gpc,
            coppa,
            lmt,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn it_comes_back_from_its_words(it in any_remembered(), at in 0..=i64::MAX) {
        let it = RememberedConsent { tcf: it.tcf.map(|kept| Kept { at, ..kept }), ..it };
        let mut words = [1; RememberedConsent::WORDS];
        it.write(&mut words);
        prop_assert_eq!(RememberedConsent::read(&words), it);
        prop_assert!(RememberedConsent::fits(&words));
        prop_assert_eq!(it.is_empty(), words == [0; RememberedConsent::WORDS]);
    }

    #[test]
    fn words_from_outside_are_refused_or_written_again_alike(
        words in any::<[u64; RememberedConsent::WORDS]>(), cuts in any::<[u8; RememberedConsent::WORDS]>(),
    ) {
        let mut words = words;
        for (word, cut) in words.iter_mut().zip(cuts) {
            *word = word.checked_shr(cut.into()).unwrap_or(0);
        }
        let mut again = [0; RememberedConsent::WORDS];
        RememberedConsent::read(&words).write(&mut again);
        if RememberedConsent::fits(&words) {
            prop_assert_eq!(again, words);
        }
    }

    #[test]
    fn the_order_of_merging_does_not_matter(a in any_remembered(), b in any_remembered(), c in any_remembered()) {
        prop_assert_eq!(a.merge(b), b.merge(a));
        prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
        prop_assert_eq!(a.merge(a), RememberedConsent { ..a });
        prop_assert_eq!(a.merge(RememberedConsent::default()), a);
    }

    #[test]
    fn at_the_same_time_neither_grants_more(one in any_facts(), two in any_facts()) {
        let both = one.meet(two);
        for side in [one, two].into_iter().filter(|side| side.is_canada == both.is_canada) {
            prop_assert_eq!(both.consent & !side.consent, 0);
            prop_assert_eq!(both.interest & !side.interest, 0);
            prop_assert_eq!(side.only_consent & !both.only_consent, 0);
            prop_assert_eq!(side.only_interest & !both.only_interest, 0);
            prop_assert!(both.vendor.has_consent <= side.vendor.has_consent);
            prop_assert!(both.vendor.has_interest <= side.vendor.has_interest);
            prop_assert!(both.vendor.disclosed <= side.vendor.disclosed && both.id.last_updated <= side.id.last_updated);
        }
        prop_assert_eq!(Said::Facts(one).meet(Said::Bad(Reason::Cmp)), Said::Bad(Reason::Cmp));
    }
}

#[test]
fn a_reason_of_a_later_version_is_still_a_refusal() {
    for number in [0, 29, 31] {
        let words = [1, BAD | number << 2, 0, 1, BAD | number << 2, 0];
        let it = RememberedConsent::read(&words);
        assert_eq!(it.tcf.unwrap().said, Said::Bad(Reason::StringMalformed));
        assert_eq!(it.us.unwrap().said, Said::Bad(Reason::StringMalformed));
        assert!(!RememberedConsent::fits(&words));
    }
}

#[test]
fn a_flag_keeps_its_hour() {
    let at = |hours: i64| hours * 3_600_000_000;
    let flag =
        |value, hours| RememberedConsent { gpc: KeptFlag::new(value, at(hours)), ..RememberedConsent::default() };
    let merged = |one: RememberedConsent, two| one.merge(two).gpc.value();
    assert_eq!(merged(flag(Some(true), 500_000), flag(Some(false), 500_001)), Some(false));
    assert_eq!(merged(flag(Some(true), 500_000), flag(Some(false), 500_000)), Some(true));
    assert_eq!(merged(flag(Some(true), 500_000), flag(None, 500_009)), Some(true));
    for odd in [i64::MIN, -1, 0, i64::MAX] {
        assert_eq!(KeptFlag::new(Some(true), odd).value(), Some(true));
    }
}
