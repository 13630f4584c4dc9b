//! Tests of the catalogue.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    creative: Vec<CreativeSpec>,
}

fn read(text: &str) -> Vec<CreativeSpec> {
    toml::from_str::<File>(text).expect("the text is TOML of creatives").creative
}

fn good() -> CreativeSpec {
    let text = r#"
        [[creative]]
        id = "summer-1"
        campaign = "summer"
        landing_page = "https://shop.example/summer?from=ad#top"
        headline = ["Summer sale"]
    "#;
    read(text).remove(0)
}

/// The errors of one creative that is valid except for a change.
fn errors(change: impl FnOnce(&mut CreativeSpec)) -> Vec<String> {
    let mut spec = good();
    change(&mut spec);
    validate(&[spec]).iter().map(ToString::to_string).collect()
}

#[test]
fn a_trial_has_a_share_and_a_whole_prior() {
    let with = |text: &str| {
        let trial = toml::from_str(text).unwrap();
        errors(|spec| spec.trial = Some(trial)).join("; ")
    };
    assert_eq!(with("share_max = 0.2\nshows = 200.0\nactions = 2.0"), "");
    assert_eq!(with("shows = 200.0\nactions = 2.0"), "");
    for (text, part) in [
        ("share_max = 0.0", "creative[0].trial.share_max: the share is 0"),
        ("share_max = 1.5", "the share is 1.5"),
        ("share_max = nan", "the share is NaN"),
        ("shows = 10.0", "creative[0].trial.actions: there is none"),
        ("actions = 10.0", "creative[0].trial.shows: there are none"),
        ("shows = 10.0\nactions = 10.0", "10 actions of 10 shows"),
        ("shows = 10.0\nactions = -1.0", "-1 actions of 10 shows"),
        ("shows = inf\nactions = 1.0", "1 actions of inf shows"),
    ] {
        let found = with(text);
        assert!(found.contains(part), "{text}: {found}");
    }
}

#[test]
fn a_full_creative_is_read_and_checked() {
    let specs = read(
        r#"
        [[creative]]
        id = "summer-2"
        campaign = "summer"
        where = "country == 'CH' && purchases_30d > 2"
        category = "1105"
        locale = "de-CH"
        sizes = ["300x250", "1200x628"]
        headline = ["Sommer-Sale", "Bis 50 % günstiger"]
        long_headline = "Alles für den Sommer: jetzt bis zu 50 % günstiger"
        description = ["Nur bis Sonntag."]
        business_name = "Shop"
        landing_page = "https://shop.example:8443/sommer"
        weight = 2.5
        state = "paused"
        "#,
    );
    let mut errors = Vec::new();
    let catalogue = Catalogue::compile(&[specs[0].clone(), good()], &mut errors);
    assert_eq!(errors, []);
    assert_eq!(catalogue.all()[0].sizes, [Size { width: 300, height: 250 }, Size { width: 1200, height: 628 }]);
    assert_eq!(catalogue.of("summer").map(|it| it.spec.id.as_str()).collect::<Vec<_>>(), ["summer-2", "summer-1"]);
    // A paused creative keeps its number.
    assert_eq!(catalogue.active("summer").iter().collect::<Vec<_>>(), [1]);
    assert_eq!((catalogue.of("winter").len(), catalogue.active("winter").is_empty()), (0, true));
    assert_eq!((good().weight, good().state), (1.0, CreativeState::Active));
    // Serializing and parsing gives the same creative.
    let text = toml::to_string(&specs[0]).unwrap();
    assert_eq!(toml::from_str::<CreativeSpec>(&text).unwrap(), specs[0]);
}

#[test]
fn an_unknown_key_is_refused() {
    let error =
        toml::from_str::<File>("[[creative]]\nid = 'a'\ncampaign = 'b'\nlanding_page = ''\nheadlines = []").err();
    assert!(error.is_some_and(|error| error.to_string().contains("unknown field `headlines`")));
}

#[test]
fn every_fault_is_reported_at_once_with_its_key() {
    let mut second = good();
    second.id = String::new();
    second.locale = Some("German".into());
    second.sizes = vec!["300x250".into(), "0x9".into(), "300x250".into()];
    second.headline = vec!["x".repeat(31), "a".into(), "a".into(), " ".into(), "b".into(), "c".into()];
    second.description = vec!["y".repeat(91)];
    second.long_headline = Some("z".repeat(91));
    second.business_name = Some("n\u{202e}".into());
    second.landing_page = "http://shop.example".into();
    second.weight = f64::NAN;
    second.filter = Some(" ".into());
    let found = validate(&[good(), second, good()]);
    let keys: Vec<&str> = found.iter().map(|error| error.key.as_str()).collect();
    let expected = [
        "creative[1].id",
        "creative[1].where",
        "creative[1].locale",
        "creative[1].sizes[1]",
        "creative[1].sizes[2]",
        "creative[1].headline",
        "creative[1].headline[0]",
        "creative[1].headline[2]",
        "creative[1].headline[3]",
        "creative[1].description[0]",
        "creative[1].long_headline",
        "creative[1].business_name",
        "creative[1].landing_page",
        "creative[1].weight",
        "creative[2].id",
    ];
    assert_eq!(keys, expected);
    assert!(found.iter().all(|error| error.hint.is_some()));
    assert_eq!(
        found[6].to_string(),
        "creative[1].headline[0]: 31 characters, and at most 30 are shown; shorten it by 1"
    );
    assert!(found[14].to_string().contains("creative[0] has this id"));
}

#[test]
fn texts_may_be_exactly_as_long_as_the_limit() {
    let long = |length| "ü".repeat(length);
    let at_limit = |spec: &mut CreativeSpec| {
        spec.headline = vec![long(30)];
        spec.long_headline = Some(long(90));
        spec.description = vec![long(90)];
        spec.business_name = Some(long(25));
    };
    assert_eq!(errors(at_limit), [""; 0]);
    assert_eq!(errors(|spec| spec.business_name = Some(long(26))).len(), 1);
    // 30 characters as people see them, 210 scalar values.
    assert_eq!(errors(|spec| spec.headline = vec!["👩\u{200d}👩\u{200d}👧\u{200d}👦".repeat(30)]), [""; 0]);
}

#[test]
fn landing_pages_are_full_https_addresses() {
    for good in ["https://a.b", "https://shop.example/a%20b", "https://xn--bcher-kva.example:443/?q=1&r=(2)"] {
        assert_eq!(errors(|spec| spec.landing_page = good.into()), [""; 0], "{good}");
    }
    let long = format!("https://a.b/{}", "x".repeat(2_048));
    for bad in [
        "",
        "shop.example",
        "https://",
        "https:///path",
        "https://localhost/",
        "HTTPS://a.b",
        "javascript:alert(1)",
        "https://a.b/x y",
        "https://bücher.example",
        "https://user@a.b",
        "https://a.b:0/",
        "https://a.b:x",
        "https://a.b:",
        "https://-a.b",
        "https://a..b",
        "https://a.b\\c",
        "https://a.b/\n",
        &long,
    ] {
        assert_eq!(errors(|spec| spec.landing_page = bad.into()).len(), 1, "{bad}");
    }
}

#[test]
fn sizes_are_two_plain_numbers() {
    assert_eq!(Size::parse("1x10000"), Some(Size { width: 1, height: 10_000 }));
    for bad in [
        "",
        "x",
        "300",
        "300x",
        "x250",
        "300X250",
        "300x250x1",
        "+3x4",
        "03x4",
        " 3x4",
        "0x4",
        "10001x4",
        "3x99999999999",
    ] {
        assert_eq!(Size::parse(bad), None, "{bad}");
    }
}

#[test]
fn weights_are_finite_and_above_zero() {
    for bad in [0.0, -1.0, f64::INFINITY, f64::NAN, 1e10] {
        assert_eq!(errors(|spec| spec.weight = bad).len(), 1, "{bad}");
    }
    assert_eq!(errors(|spec| spec.weight = 1e-9), [""; 0]);
}

#[test]
fn a_creative_shows_something() {
    let found = errors(|spec| spec.headline.clear());
    assert!(found[0].contains("shows nothing"), "{found:?}");
    assert_eq!(errors(|spec| (spec.headline, spec.sizes) = (vec![], vec!["300x250".into()])), [""; 0]);
}

#[test]
fn a_campaign_has_at_most_64_creatives() {
    let specs: Vec<CreativeSpec> = (0..66).map(|n| CreativeSpec { id: n.to_string(), ..good() }).collect();
    let keys: Vec<String> = validate(&specs).into_iter().map(|error| error.key).collect();
    assert_eq!(keys, ["creative[64].campaign", "creative[65].campaign"]);
    assert_eq!(validate(&[]), []);
}
