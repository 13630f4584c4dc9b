//! The operator's pages.

use crate::{monitoring::alerts, text};

const README: &str = "deploy/README.md";

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_leads_there() {
    let readme = text(README);
    let alerts = alerts();
    assert!(!alerts.is_empty());
    for alert in &alerts {
        let name = alert["alert"].as_str().unwrap();
        let heading = format!("\n### {name}\n");
        let (_, entry) = readme.split_once(&heading).unwrap_or_else(|| panic!("{README} has no entry {name}"));
        let entry = entry.split("\n#").next().unwrap();
        for part in ["**Means.**", "**Look.**", "**Do.**"] {
            assert!(entry.contains(part), "{README}: {name} lacks {part}");
        }
        assert_eq!(alert["annotations"]["runbook"], format!("{README}#{}", name.to_lowercase()), "{name}");
        for part in ["summary", "description"] {
            assert!(alert["annotations"][part].is_string(), "{name}: {part}");
        }
    }
    // And no entry is of an alert that is gone.
    for name in readme.lines().filter_map(|line| line.strip_prefix("### Aimpoint")) {
        assert!(
            alerts.iter().any(|alert| alert["alert"] == format!("Aimpoint{name}")),
            "there is no alert Aimpoint{name}"
        );
    }
}

/// What the pages name of the repository is there.
#[test]
fn every_path_that_the_pages_name_exists() {
    let readme = text(README);
    let path = regex::Regex::new(r"\b(?:deploy|tests)/[A-Za-z0-9_./-]*[A-Za-z0-9]").unwrap();
    let mut count = 0;
    for found in path.find_iter(&readme) {
        assert!(crate::repository(found.as_str()).exists(), "{README} names {}", found.as_str());
        count += 1;
    }
    assert!(count > 5, "{count}");
}
