//! Caps through a real profile engine.

use super::*;

const MINUTE: f64 = 60.0;
const HOUR: f64 = 60.0 * MINUTE;
const DAY: f64 = 24.0 * HOUR;

fn shown(campaign: &str, creative: &str) -> String {
    format!(r#""event_type":"impression","ad":{{"campaign_id":"{campaign}","creative_id":"{creative}"}}"#)
}

fn campaign(id: &str, more: &str) -> String {
    format!("[[campaign]]\nid = {id:?}\nvalue = 1\ncurrency = \"EUR\"\n{more}\n")
}

#[test]
fn a_cap_is_reached_at_exactly_its_number_and_opens_again_after_its_window() {
    // The impressions, and when the first of them no longer counts: at most one tile after the window.
    for (per, window, tile) in [
        ("hour", HOUR, 4.0 * MINUTE),
        ("day", DAY, 20.0 * MINUTE),
        ("week", 7.0 * DAY, 4.0 * HOUR),
        ("month", 30.0 * DAY, 20.0 * HOUR),
    ] {
        let text = campaign("a", &format!("caps = [{{ max = 3, per = \"{per}\" }}]"));
        for first in [0.0, tile / 2.0, tile - 1.0, 7.0 * tile + 1.0] {
            let mut rig = Rig::new(&text);
            let json = shown("a", "x");
            let outcomes = [0.0, 0.1, 0.3].map(|part| rig.first(Event::new(first + part * window, &json)));
            assert_eq!(outcomes, [None, None, Some(Reason::Cap)], "{per}");
            let mut event = |after: f64| rig.first(Event::new(first + after, VIEW));
            assert_eq!(event(0.9 * window), Some(Reason::Cap), "{per}");
            assert_eq!(event(window), Some(Reason::Cap), "{per}: the first is exactly the window old");
            assert_eq!(event(window + tile), None, "{per}: one tile later");
            assert_eq!(rig.first(Event::new(first + window + tile, &json)), Some(Reason::Cap), "{per}: three again");
        }
    }
    let mut rig = Rig::new(&campaign("a", "caps = [{ max = 2, per = \"total\" }]"));
    assert_eq!(rig.first(Event::new(0.0, &shown("a", "x"))), None);
    assert_eq!(rig.first(Event::new(DAY, &shown("a", "x"))), Some(Reason::Cap));
    assert_eq!(rig.first(Event::new(500.0 * DAY, VIEW)), Some(Reason::Cap), "for good");
}

#[test]
fn a_late_event_does_not_get_round_a_cap() {
    for (per, window) in [("hour", HOUR), ("day", DAY), ("week", 7.0 * DAY)] {
        let per = format!("max = 1, per = \"{per}\"");
        let caps = [
            format!("caps = [{{ {per} }}]"),
            format!("caps = [{{ {per}, scope = \"creative\" }}]"),
            format!("conversion_cap = {{ {per} }}"),
        ];
        for more in caps {
            let mut rig = Rig::new(&format!("creative = [[\"x\", \"a\"]]\n{}", campaign("a", &more)));
            let shown = shown("a", "x");
            let converted = shown.replace("impression", "conversion");
            let start = 60.0 * DAY;
            let before = rig.first(Event::new(start, VIEW));
            assert_eq!(before, None, "{more}");
            rig.first(Event::new(start + 0.5 * window, &shown));
            rig.first(Event::new(start + 0.5 * window, &converted));
            let late = [0.6, 0.4, 0.1, 0.0].map(|part| rig.first(Event::new(start + part * window, VIEW)).is_some());
            assert_eq!(late, [true; 4], "{more}: what happened after a late event counts for it");
            // And a late impression counts, wherever the newest event is by now.
            let newest = start + 4.0 * window;
            assert_eq!(rig.first(Event::new(newest, VIEW)), None, "{more}");
            rig.first(Event::new(newest - 0.5 * window, &shown));
            rig.first(Event::new(newest - 0.5 * window, &converted));
            assert!(rig.first(Event::new(newest, VIEW)).is_some(), "{more}");
        }
    }
}

#[test]
fn a_window_never_holds_more_impressions_than_its_cap_however_they_come() {
    let mut random = SmallRng::seed_from_u64(8);
    for (per, window, tile) in [("hour", HOUR, 4.0 * MINUTE), ("day", DAY, 20.0 * MINUTE)] {
        let mut rig = Rig::new(&campaign("a", &format!("caps = [{{ max = 4, per = \"{per}\" }}]")));
        let (mut at, mut shown_at, mut is_open) = (0.0, Vec::new(), true);
        for _ in 0..600 {
            at += random.random_range(0.0..window / 6.0);
            let json = if is_open { shown("a", "x") } else { VIEW.to_owned() };
            if is_open {
                shown_at.push(at);
            }
            is_open = rig.first(Event::new(at, &json)).is_none();
            let within = |span: f64| shown_at.iter().filter(|time| at - **time < span).count();
            assert!(within(window) <= 4, "{per}: {} impressions within the window", within(window));
            assert!(is_open || within(window + tile) >= 4, "{per}: closed with {}", within(window + tile));
        }
        assert!(shown_at.len() > 50);
    }
}

#[test]
fn only_events_of_this_user_this_campaign_and_this_type_count() {
    let caps = "caps = [{ max = 1, per = \"day\" }, { max = 1, per = \"day\", events = \"click\" }]";
    let mut rig = Rig::new(&[campaign("a\"\\b", caps), campaign("b", caps)].concat());
    for json in
        [VIEW.to_owned(), shown("b", "x"), shown("a", "x"), shown("", "x"), r#""event_type":"impression""#.to_owned()]
    {
        assert_eq!(rig.first(Event::new(0.0, &json)), None, "{json}");
    }
    assert_eq!(rig.first(Event { user: "v", ..Event::new(0.0, &shown(r#"a\"\\b"#, "x")) }), Some(Reason::Cap));
    assert_eq!(rig.first(Event::new(0.0, VIEW)), None, "another user's does not count");
    let clicked = r#""event_type":"click","ad":{"campaign_id":"a\"\\b"}"#;
    assert_eq!(rig.first(Event::new(0.0, clicked)), Some(Reason::Cap));
}

#[test]
fn a_creative_is_capped_by_itself_and_a_campaign_once_all_of_its_creatives_are() {
    let text = campaign("a", "caps = [{ scope = \"creative\", max = 1, per = \"day\" }]");
    let text = format!("creative = [[\"x\", \"a\"], [\"y\", \"a\"], [\"z\", \"b\"]]\n{text}\n{}", campaign("b", ""));
    let mut rig = Rig::new(&text);
    let mut capped = |json: &str| {
        // The columns are cleared after each event, so this inspects the batch in between.
        let at = START * 1_000_000;
        let payload = format!(r#"{{"user_id":"u","occurred_at":{at},{json}}}"#);
        let record = Record { payload: Some(payload.as_bytes()), ..Record::default() };
        rig.decoder.decode(&record, &mut rig.batch).unwrap();
        rig.profile.process(&mut rig.batch, &mut rig.store);
        let columns = &rig.batch.columns;
        let found =
            [0, 1, 2].map(|creative| rig.campaigns.all()[0].eligibility.caps.is_creative_capped(columns, 0, creative));
        rig.batch.clear();
        found
    };
    assert_eq!(capped(VIEW), [false; 3]);
    assert_eq!(capped(&shown("b", "x")), [false; 3], "the creative of another campaign");
    assert_eq!(capped(&shown("a", "x")), [true, false, false]);
    assert_eq!(rig.first(Event::new(0.0, VIEW)), None);
    assert_eq!(rig.first(Event::new(0.0, &shown("a", "y"))), Some(Reason::Cap), "no creative is left");
}

#[test]
fn recency_closes_at_the_impression_itself_and_opens_to_the_microsecond() {
    let mut rig = Rig::new(&campaign("a", "recency = \"90s\""));
    let json = shown("a", "x");
    assert_eq!(rig.first(Event::new(0.0, VIEW)), None);
    assert_eq!(rig.first(Event::new(100.0, &json)), Some(Reason::Recency));
    assert_eq!(rig.first(Event::new(100.0, VIEW)), Some(Reason::Recency));
    assert_eq!(rig.first(Event::new(189.999_999, VIEW)), Some(Reason::Recency));
    assert_eq!(rig.first(Event::new(190.0, VIEW)), None);
    assert_eq!(rig.first(Event::new(190.0, &shown("b", "x"))), None);
    assert_eq!(rig.first(Event::new(300.0, &json)), Some(Reason::Recency));
    assert_eq!(rig.first(Event::new(290.0, VIEW)), Some(Reason::Recency), "a late event, before the impression");
}

#[test]
fn conversions_end_a_campaign_for_their_user() {
    let mut rig = Rig::new(&campaign("a", "conversion_cap = { max = 2, per = \"month\" }"));
    let bought = r#""event_type":"conversion","ad":{"campaign_id":"a"}"#;
    assert_eq!(rig.first(Event::new(0.0, bought)), None);
    assert_eq!(rig.first(Event::new(DAY, bought)), Some(Reason::ConversionCap));
    assert_eq!(rig.first(Event::new(30.0 * DAY, VIEW)), Some(Reason::ConversionCap));
    assert_eq!(rig.first(Event::new(31.0 * DAY, VIEW)), None);
}

/// The profile engine for campaigns plus one declared feature.
fn engine(text: &str) -> ProfileEngine {
    let feature = "[[feature]]\nname = \"views\"\naggregate = \"count\"\nwindow = \"1h\"\n";
    let (mut scope, mut errors) = (Scope::default(), Vec::new());
    let (_, engine) = Spec::new(&format!("{feature}{text}")).engine(&mut scope, &mut errors);
    assert_eq!(errors, []);
    let listed: Vec<&str> = scope.names().collect();
    assert!(listed.contains(&"views") && listed.iter().all(|name| !name.contains(' ')), "{listed:?}");
    engine
}

#[test]
fn hidden_counts_are_in_the_layout_and_in_nothing_that_people_or_models_see() {
    let caps = "caps = [{ max = 3, per = \"day\" }, { max = 9, per = \"week\" }]\nrecency = \"1h\"";
    let (without, with) = (engine(""), engine(&campaign("a", caps)));
    assert_eq!(without.fingerprint(), with.fingerprint());
    assert_eq!((without.features().len(), with.features().len()), (1, 1));
    assert_eq!(with.features()[0].name, "views");
    assert!(with.layout().holds(without.layout()) && !without.layout().holds(with.layout()));
    // A campaign that stays keeps its counts when others come and go, in any order.
    let other = engine(&[campaign("b", "caps = [{ max = 1, per = \"hour\" }]"), campaign("a", caps)].concat());
    assert!(other.layout().holds(with.layout()));
    // Changing the number in a cap keeps the same count.
    let loose = engine(&campaign("a", &caps.replace('3', "5").replace("1h", "2h")));
    assert_eq!(loose.layout(), with.layout());
}

#[test]
fn equal_counts_are_kept_once() {
    let caps = "caps = [{ max = 3, per = \"day\" }, { max = 1, per = \"day\", events = \"conversion\" }]";
    let text = campaign("a", &format!("{caps}\nconversion_cap = {{ max = 2, per = \"day\" }}"));
    let hidden = Spec::new(&[text.as_str(), &text].concat()).hidden();
    let names: Vec<&str> = hidden.iter().map(|it| it.feature.name.as_str()).collect();
    assert_eq!(
        names,
        [
            r#"count 87600s event_type == "impression" && ad.campaign_id == "a""#,
            r#"count 87600s event_type == "conversion" && ad.campaign_id == "a""#
        ]
    );
    assert_eq!(hidden[0].key, "campaign[0].caps[0]");
}

#[test]
fn a_profile_continues_its_caps_after_it_was_stored_and_other_campaigns_came() {
    let a = campaign("a", "caps = [{ max = 2, per = \"day\" }]");
    let mut before = Rig::new(&a);
    before.run(Event::new(0.0, &shown("a", "x")));
    assert_eq!(before.first(Event::new(HOUR, &shown("a", "x"))), Some(Reason::Cap));
    let packed = crate::state::pack(&before.store.0.get(crate::state::hash_key(b"u"), b"u").unwrap());
    let mut after = Rig::new(&[a, campaign("b", "caps = [{ max = 2, per = \"day\" }]\nrecency = \"1h\"")].concat());
    let carry = after.profile.carry(before.profile.layout());
    let carried = after.profile.carry_over(&carry, &packed).unwrap();
    after.store.0.restore(crate::state::hash_key(b"u"), b"u", Some(&carried), -1, -1);
    assert_eq!(after.first(Event::new(2.0 * HOUR, VIEW)), Some(Reason::Cap));
    assert_eq!(after.chosen(Event::new(2.0 * HOUR, VIEW)), [1]);
    assert_eq!(after.first(Event::new(26.0 * HOUR, VIEW)), None);
}
