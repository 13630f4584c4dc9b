use super::*;

fn errors(text: &str) -> Vec<String> {
    let spec: ConsentSpec = toml::from_str(text).unwrap();
    let mut errors = Vec::new();
    let rules = spec.compile(&mut errors);
    assert_eq!(rules.is_none(), !errors.is_empty() || !spec.enabled);
    assert!(errors.iter().all(|error| error.hint.is_some()), "{errors:?}");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn the_least_that_must_be_written() {
    assert_eq!(errors(""), [""; 0]);
    let missing = errors("enabled = true");
    assert_eq!(missing.len(), 2, "{missing:?}");
    assert!(missing[0].starts_with("consent.vendor_id: it is missing"), "{missing:?}");
    assert!(missing[1].starts_with("consent.without_law: it is missing"), "{missing:?}");
    assert_eq!(errors("enabled = true\nvendor_id = 7\nwithout_law = []"), [""; 0]);
}

#[test]
fn all_errors_are_reported_at_once_with_key_and_next_step() {
    let found = errors(
        r#"
        enabled = true
        vendor_id = 0
        without_law = ["write"]
        country = " "
        strings_max = 1
        country_default = "Germany"
        [tcf]
        countries = ["DE", "de", "EUR"]
        max_age = "1h"
        policy_versions = [4, 0, 64]
        cmps = [10, 1, 5000]
        cmps_refused = [10]
        purpose_one_exempt_in = ["D1"]
        [tcf.needs.write]
        purposes = [1, 3]
        legal_basis = "legitimate_interest"
        [tcf.needs.emit]
        purposes = [0, 12, 2]
        [tcf.needs.measure]
        purposes = [7, 2]
        legal_basis = "legitimate_interest"
        special_features = [3]
        [tcf.needs.train]
        purposes = []
        [canada]
        countries = ["C"]
        vendor_id = 0
        [us]
        regions = ["US-CA"]
        "#,
    );
    for expected in [
        "consent.vendor_id: 0 is not a vendor's id",
        "consent.country: it names no field",
        "consent.strings_max: 1 is not between 64 and 4194304",
        "consent.country_default: `Germany` is not a code",
        "consent.tcf.countries: `de` is not a code",
        "consent.tcf.countries: `EUR` is not a code",
        "consent.tcf.max_age: 1h is not between 1 day and 10 years",
        "consent.tcf.policy_versions: 0 is not between 1 and 63",
        "consent.tcf.policy_versions: 64 is not between 1 and 63",
        "consent.tcf.cmps: 1 is not an id of a CMP",
        "consent.tcf.cmps: 5000 is not an id of a CMP",
        "consent.tcf.cmps: 10 is also in consent.tcf.cmps_refused",
        "consent.tcf.purpose_one_exempt_in: `D1` is not a code",
        "consent.tcf.needs.write.legal_basis: all its purposes always need consent",
        "consent.tcf.needs.emit.purposes: 0 is not a purpose",
        "consent.tcf.needs.emit.purposes: 12 is not a purpose",
        "consent.tcf.needs.measure.legal_basis: purpose 2 has another basis in consent.tcf.needs.emit",
        "consent.tcf.needs.measure.special_features: 3 is not a special feature",
        "consent.tcf.needs.train.purposes: without a purpose",
        "consent.canada.countries: `C` is not a code",
        "consent.canada.vendor_id: 0 is not a vendor's id",
        "consent.us.regions: `US-CA` is not a code",
    ] {
        assert!(found.iter().any(|error| error.starts_with(expected)), "missing {expected}: {found:#?}");
    }
    assert_eq!(found.len(), 22, "{found:#?}");
}

#[test]
fn purposes_that_always_need_consent_keep_it() {
    let text = "enabled = true\nvendor_id = 7\nwithout_law = []\n[tcf.needs.write]\npurposes = [1, 2, 3]\nflexible = true\n\
                legal_basis = \"legitimate_interest\"";
    let rules = toml::from_str::<ConsentSpec>(text).unwrap().compile(&mut Vec::new()).unwrap();
    let rule = rules.tcf.activities[0];
    assert_eq!((rule.consent, rule.interest, rule.flexible), (1 << 1 | 1 << 3, 1 << 2, 1 << 2));
}

#[test]
fn the_section_comes_back_from_what_it_writes_and_has_a_schema() {
    let spec = ConsentSpec { vendor_id: Some(7), without_law: Some(vec![Activity::Write]), ..ConsentSpec::default() };
    let text = toml::to_string(&spec).unwrap();
    assert_eq!(toml::from_str::<ConsentSpec>(&text).unwrap(), spec);
    assert!(toml::from_str::<ConsentSpec>("purpose = 1").is_err());
    let schema = schemars::schema_for!(ConsentSpec).to_value().to_string();
    for key in ["without_law", "purpose_one_exempt_in", "accept_implied", "opt_out_forbids", "from_policy5"] {
        assert!(schema.contains(key), "{key}");
    }
}
