//! Errors of campaigns, all at once.

use super::*;

const GOOD: &str = "value = 1\ncurrency = \"EUR\"\n";

#[test]
fn every_fault_is_reported_at_once_with_its_key_and_the_next_step() {
    let spec = Spec::new(
        r#"
        targeting = { campaigns_max = 0, rates = { EUR = 1.0, euro = 1.0, GBP = -1.0 }, user_zone = "zoen" }
        field = [{ name = "zone", type = "string", path = "properties.zone" }]

        [[campaign]]
        id = "a"
        zone = "user"
        dayparts = ["mon"]
        value = 1

        [[campaign]]
        id = "a"
        value = 1
        currency = "EURO"
        segments = { any = ["kene"], all = ["keen"], none = ["keen", "nothing like it"] }
        where = 'valeu > 1.0'
        from = "2026-13-01"
        dayparts = ["monday"]

        [[campaign]]
        id = ""
        value = 2
        currency = "EUR"
        floor = 3
        caps = [{ max = 0, per = "day" }]

        [[campaign]]
        id = "b"
        value = "value"
        currency = "USD"
        floor = 3
        ceiling = 2
        caps = [{ max = 5, per = "day" }, { max = 3, per = "week" }]
        recency = "600d"
        conversion_cap = { max = 0, per = "total" }
        holdout = 0.5
        arms = [{ name = "x", share = 0.6 }, { name = "x", share = 0 }, { name = "control", share = 0.1 }]
        "#,
    );
    let found = spec.errors();
    let expected = [
        "targeting.user_zone (1:1): nothing here is named \"zoen\"; did you mean \"zone\"?",
        "targeting.campaigns_max: 0 is not between 1 and 32; 3 is the default",
        "targeting.rates.euro: \"euro\" is not a currency code of ISO 4217; write",
        "targeting.rates.GBP: -1 is not a rate above 0; write",
        "campaign[0].currency: campaign \"a\" has no currency; set currency = \"EUR\"",
        "campaign[1].currency: \"EURO\" is not a currency code of ISO 4217 in capitals, such as EUR; write",
        "campaign[1].id: campaign \"a\" is declared twice; caps and budgets go by the id",
        "campaign[1].segments.any[0]: there is no segment \"kene\"; did you mean \"keen\"?",
        "campaign[1].segments.none[1]: there is no segment \"nothing like it\"; declare it",
        "campaign[1].segments.none: segment \"keen\" is both needed and excluded, so nobody sees the campaign; remove",
        "campaign[1].where (1:1): nothing here is named \"valeu\"; did you mean \"value\"?",
        "campaign[1].from: \"2026-13-01\" is not a date or time; write",
        "campaign[1].dayparts[0]: \"monday\" is not a daypart: \"monday\" is not a day; the days are mon, tue",
        "campaign[2].id: \"\" is not an id: it has 1 to 64 bytes and no control characters; for instance",
        "campaign[2].floor: a floor of 3.00 is above the value: an impression is worth at most 2.00 per thousand; lower",
        "campaign[3].currency: campaigns in USD cannot be ranked among those in other currencies; set targeting.rates",
        "campaign[3].caps[0].max: 5 impression events per day are never reached, because another cap allows 3 per week; set",
        "campaign[3].recency: 600days is not between 1s and 540d",
        "campaign[3].conversion_cap.max: 0 allows nothing, so nobody sees the campaign; allow",
        "campaign[3].floor: a floor of 3.00 is above the ceiling of 2.00; lower",
        "campaign[3].arms[1].name: \"x\" is the name of another arm; rename",
        "campaign[3].arms[1].share: 0 is not between 0.0001 and 1, or has more than four decimals; for instance",
        "campaign[3].arms[2].name: \"control\" is the arm of users who are in none; choose",
        "campaign[3].arms: the shares of arms and holdout sum to 1.2, which is more than 1; lower",
    ];
    for expected in expected {
        assert_eq!(found.iter().filter(|error| error.starts_with(expected)).count(), 1, "{expected}: {found:#?}");
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn shares_are_checked_by_themselves_and_together() {
    for (text, expected) in [
        ("holdout = 1.1", "campaign[0].holdout: 1.1 is not between 0 and 1"),
        ("holdout = 0.00005", "campaign[0].holdout: 0.00005 is not between 0 and 1, or has more than four"),
        ("holdout = 1", "campaign[0].holdout: all users are held out, so nobody sees the campaign; lower"),
        ("holdout = 0.4\narms = [{ name = \"a\", share = 0.6 }]", ""),
        ("arms = [{ name = \"\", share = 0.6 }]", "campaign[0].arms[0].name: an arm needs a name"),
        ("arms = [{ name = \"a\", share = 1.5 }]", "campaign[0].arms[0].share: 1.5 is not between"),
    ] {
        let found = Spec::new(&format!("[[campaign]]\nid = \"a\"\n{GOOD}{text}")).errors();
        assert_eq!(found.is_empty(), expected.is_empty(), "{text}: {found:?}");
        assert!(found.iter().all(|error| error.starts_with(expected)), "{text}: {found:?}");
    }
}

#[test]
fn a_value_that_is_written_as_text_is_a_number_all_the_same() {
    for (value, expected) in [
        ("'-1.5'", "campaign[0].value: -1.5 is not an amount from 0.000001"),
        ("' 0 '", "campaign[0].value: 0.0 is not an amount from 0.000001"),
        (
            "'1'\nfloor = 2",
            "campaign[0].floor: a floor of 2.00 is above the value: an impression is worth at most 1.00",
        ),
    ] {
        let found = Spec::new(&format!("[[campaign]]\nid = \"a\"\ncurrency = \"EUR\"\nvalue = {value}")).errors();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{value}: {found:?}");
    }
}

#[test]
fn segments_of_one_id_in_two_taxonomies_cannot_be_told_apart() {
    let spec = Spec::new(&format!("[[campaign]]\nid = \"a\"\n{GOOD}segments = {{ any = [\"5\"] }}"));
    let (mut scope, mut errors) = (Scope::default(), Vec::new());
    Campaigns::compile(&spec.campaign, &spec.targeting, &["5", "6", "5"], &[], &[], &mut scope, &mut errors);
    let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("campaign[0].segments.any[0]: several segments have the id \"5\"; give"), "{found:?}");
}

#[test]
fn a_cap_that_is_not_counted_is_a_fault_and_not_a_campaign_without_a_cap() {
    let spec = Spec::new(&format!("[[campaign]]\nid = \"a\"\n{GOOD}caps = [{{ max = 1, per = \"day\" }}]"));
    let (mut scope, mut errors) = (Scope::default(), Vec::new());
    Campaigns::compile(&spec.campaign, &spec.targeting, &[], &[], &[], &mut scope, &mut errors);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().starts_with("campaign[0].caps[0]: nothing counts the events of this cap"));
    // The name of a hidden feature cannot be taken without an error.
    let mut spec = spec;
    let name = spec.hidden()[0].feature.name.clone();
    spec.field = vec![FieldSpec { name, ty: Type::Double, path: "properties.x".to_owned() }];
    assert!(spec.errors()[0].starts_with("campaign[0].caps[0]: \"count 87600s event_type"), "{:?}", spec.errors());
}

#[test]
fn one_currency_needs_no_rate_and_without_campaigns_nothing_is_needed() {
    assert_eq!(Spec::new(&format!("[[campaign]]\nid = \"a\"\n{GOOD}")).errors(), [""; 0]);
    assert_eq!(Spec::new("").errors(), [""; 0]);
    assert!(Spec::new("").hidden().is_empty());
}

#[test]
fn unknown_keys_are_refused_and_a_written_campaign_is_read_again() {
    for text in [
        "id = \"a\"\nsegment = []",
        "id = \"a\"\nsegments = { some = [] }",
        "id = \"a\"\ncaps = [{ max = 1, per = \"year\" }]",
        "id = \"a\"\ncaps = [{ max = -1, per = \"day\" }]",
        "id = \"a\"\nconversion_cap = { max = 1 }",
        "value = 1",
    ] {
        assert!(toml::from_str::<CampaignSpec>(text).is_err(), "{text}");
    }
    let text = "id = \"a\"\nvalue = \"value\"\nprobability = 0.5\nfrom = 2026-03-01\nrecency = \"2h\"\nholdout = 0.1";
    let spec: CampaignSpec = toml::from_str(text).unwrap();
    assert_eq!(toml::from_str::<CampaignSpec>(&toml::to_string(&spec).unwrap()).unwrap(), spec);
}

#[test]
fn what_is_declared_and_has_no_effect_is_reported() {
    let spec = Spec::new(&format!(
        "targeting = {{ user_zone = \"zoen\" }}\n[[campaign]]\nid = \"a\"\n{GOOD}caps = [{{ scope = \"creative\", max = 1, per = \"day\" }}]\n"
    ));
    let found = spec.errors();
    let expected = [
        "campaign[0].caps[0].scope: the campaign has no creatives to count for; declare some",
        "targeting.user_zone (1:1): nothing here is named \"zoen\"",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}
