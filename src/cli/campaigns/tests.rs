use super::*;
use crate::app::Setup;

/// What is said of a campaign with these creatives, by their states.
fn reported(campaign: &str, creatives: &[&str]) -> String {
    let creatives = creatives.iter().enumerate().map(|(number, state)| {
        format!(
            "[[creative]]\nid = \"c{number}\"\ncampaign = \"a\"\nheadline = [\"x\"]\nlanding_page = \"https://a.example\"\nstate = \"{state}\"\n"
        )
    });
    let campaign = format!("[[campaign]]\nid = \"a\"\ncurrency = \"EUR\"\nvalue = 1\n{campaign}\n");
    let text: String = std::iter::once(campaign).chain(creatives).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aimpoint.toml");
    std::fs::write(&path, text).unwrap();
    let setup = Setup::read(Some(&path), &[]).map_err(|it| it.to_string()).unwrap();
    let pipeline = setup.pipeline(true).map_err(|it| it.to_string()).unwrap();
    let (mut out, now) = (Vec::new(), "2026-06-01T00:00:00Z".parse().unwrap());
    report(&mut out, &setup.config, pipeline.campaigns(), now).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn what_is_valid_but_hardly_meant_is_said() {
    const ACTION: &str = "action = \"click\"\nprobability";
    for (campaign, warning) in [
        ("until = 2026-05-31", "\"a\" ended at 2026-06-01T00:00:00Z; set a later until, or remove the campaign"),
        (&format!("{ACTION} = \"score\""), "the probability of \"a\" is \"score\", but there is no model"),
        (
            "recency = \"2h\"\ncaps = [{ max = 14, per = \"day\" }]",
            "the cap of 14 a day of \"a\" has no effect: a recency of 2h allows at most 13; lower one of them",
        ),
    ] {
        let text = reported(campaign, &["active"]);
        assert!(text.contains(&format!("warning: {warning}")), "{text}");
    }
    let text = reported("", &["paused", "paused"]);
    assert!(text.contains("warning: all creatives of \"a\" are paused, so it is never shown; activate one"), "{text}");
    for (campaign, creatives) in [
        ("until = 2026-06-01", &["active"][..]),
        (&format!("{ACTION} = 0.5"), &[]),
        (
            "recency = \"2h\"\ncaps = [{ max = 13, per = \"day\" }, { max = 99, per = \"total\" }]",
            &["active", "paused"],
        ),
        ("recency = \"2h\"\ncaps = [{ max = 99, per = \"day\", events = \"click\" }]", &[]),
    ] {
        let text = reported(campaign, creatives);
        assert!(text.contains("a                        in EUR; ") && !text.contains("warning"), "{text}");
    }
}
