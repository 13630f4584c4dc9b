use super::*;
use crate::content::themes::{SegmentShare, Theme, ThemeReport};

pub(crate) const BRIEF: &str = r#"
id = "trail"
campaign = "spring"
language = "en"
tone = "warm"
landing_page = "https://shop.example/trail"
business_name = "Trail Shop"
audience = "people who run outdoors"
avoid = ["cheap"]
proof = ["lightest"]
domains = ["shop.example"]

[segments]
any = ["runners"]

[limits]
description = 80

[[fact]]
id = "battery"
text = "The battery lasts 30 hours with GPS"
short = "30 hours with GPS"

[[fact]]
id = "strap"
text = "The strap is soft silicone and can be changed without tools"
short = "Soft strap, no tools"

[[theme]]
id = "t1"
words = ["battery", "charge", "days"]
points = ["Much talked about: battery, charge, days."]
facts = ["battery"]

[[theme]]
id = "t2"
words = ["strap", "skin"]
"#;

#[test]
fn a_brief_is_read_with_all_its_parts() {
    let brief = read(BRIEF).unwrap();
    assert_eq!(
        (brief.id.as_str(), brief.tone, brief.limits.description, brief.limits.headline),
        ("trail", Tone::Warm, 80, 30)
    );
    assert_eq!(brief.segments.any, ["runners"]);
    let facts = |theme: usize| brief.facts_of(&brief.themes[theme]).map(|it| it.id.as_str()).collect::<Vec<_>>();
    assert_eq!((facts(0), facts(1)), (vec!["battery"], vec!["battery", "strap"]));
}

#[test]
fn all_faults_are_reported_at_once_with_their_lines() {
    let text = BRIEF
        .replace("language = \"en\"", "language = \"elvish\"")
        .replace("tone = \"warm\"", "tone = 3")
        .replace("description = 80", "description = 800")
        .replace("id = \"t2\"", "id = \"t1\"")
        .replace("facts = [\"battery\"]", "facts = [\"range\"]")
        .replace("words = [\"strap\", \"skin\"]", "wrds = []")
        .replace("https://", "http://")
        .replace("Trail Shop", "The Trail and Mountain Shop of Berlin");
    let faults = read(&text).unwrap_err();
    let shown: Vec<String> = faults.iter().map(ToString::to_string).collect();
    for part in [
        "line 4: language: \"elvish\"",
        "line 5: tone: expected a text",
        "line 6: landing_page: write a full address",
        "line 7: business_name",
        "line 17: limits.description: expected a whole number from 10 to 90",
        "line 33: theme[0].facts: there is no fact \"range\"",
        "line 36: theme[1].id: the theme \"t1\" is declared twice",
        "line 37: theme[1].wrds: there is no such key",
        "theme[1].words: write the words",
    ] {
        assert!(shown.iter().any(|it| it.contains(part)), "{part} is missing in\n{}", shown.join("\n"));
    }
    assert_eq!(shown.len(), 9, "{}", shown.join("\n"));
    assert!(faults.is_sorted_by_key(|fault| fault.line));
}

#[test]
fn missing_keys_broken_syntax_and_huge_files_are_named() {
    let shown = |text: &str| read(text).unwrap_err().iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let empty = shown("");
    for key in ["id", "campaign", "language", "landing_page", "audience", "fact", "theme"] {
        assert!(empty.contains(&format!("line 1: {key}: ")), "{key}: {empty}");
    }
    assert!(shown("id = \"a\"\ncampaign = \n").starts_with("line 2: "), "{}", shown("id = \"a\"\ncampaign = \n"));
    assert!(shown(&"#".repeat(70_000)).contains("at most 65536"));
}

#[test]
fn a_draft_from_themes_names_what_people_have_to_fill_in() {
    let share = |low| SegmentShare {
        segment: "runners".to_owned(),
        count: 3,
        share: 0.2,
        log_odds: low + 0.5,
        interval: [low, low + 1.0],
    };
    let theme = |id: &str, low| Theme {
        id: id.to_owned(),
        words: vec![format!("word \"{id}\"")],
        points: vec!["Much talked about: it.".to_owned()],
        size: 9,
        users: 5,
        likes_mean: 1.5,
        sentiment: -0.25,
        segments: vec![share(low)],
    };
    let report = ThemeReport {
        language: "en".to_owned(),
        embedding: "bag of words".to_owned(),
        seed: 1,
        comments: 20,
        without_theme: 2,
        other_languages: 0,
        tried: vec![],
        themes: vec![theme("t1", -1.0), theme("t2", 0.4)],
    };
    let text = draft(&report, Some("runners"));
    let keys: Vec<String> = read(&text).unwrap_err().into_iter().map(|it| it.key).collect();
    assert_eq!(keys, ["id", "campaign", "landing_page", "fact[0].id", "fact[0].text"], "{text}");
    let filled = text.replacen("id = \"\"", "id = \"a\"", 2).replace("campaign = \"\"", "campaign = \"c\"");
    let filled = filled.replace("landing_page = \"\"", "landing_page = \"https://a.example\"").replacen(
        "text = \"\"",
        "text = \"It is blue\"",
        1,
    );
    let brief = read(&filled).unwrap();
    assert_eq!(brief.themes[0].id, "t2", "the segment's theme comes first");
    assert_eq!(brief.themes[0].words, ["word \"t2\""]);
    assert_eq!(brief.segments.any, ["runners"]);
}
