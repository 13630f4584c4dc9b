//! Tests of the page: what it says of reports that are odd, empty or hostile.

use super::*;
use crate::effect::{Audiences, SegmentSize};

/// The page of a log.
fn page(report: &EffectReport) -> String {
    html(report, &Origin { app: "shop".to_owned(), faults: Vec::new() })
}

fn empty() -> EffectReport {
    let plan = crate::effect::Plan {
        by: Vec::new(),
        campaigns: std::collections::BTreeMap::new(),
        variants: Vec::new(),
        click_after: 1,
        conversion_after: 1,
        complete_until: None,
        minimum_audience: 0,
        confidence: crate::evaluation::Confidence::P95,
        effect: 0.1,
        charts: true,
        attribution: None,
        labels: false,
    };
    let spec = crate::control::ControlSpec::default();
    let evaluation = crate::effect::Evaluation::new("shop", &spec, Vec::new(), plan, None).unwrap();
    evaluation.finish(spec.wait).unwrap().report
}

#[test]
fn a_log_without_records_has_a_page_that_says_so() {
    let page = page(&empty());
    for part in [
        "The log has no records.",
        "Nothing was shown yet",
        "No user is in a segment",
        "It is too early to say whether scores or features have changed",
        "Nothing is missing",
    ] {
        assert!(page.contains(part), "{part:?} is missing in:\n{page}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf "));
    // Without the data of pictures there is still a page.
    let bare = EffectReport { charts: None, ..empty() };
    assert!(html(&bare, &Origin::default()).contains("Nothing was shown yet"));
}

#[test]
fn a_small_segment_is_shown_without_its_number() {
    let size = |segment: &str, users| SegmentSize { segment: segment.to_owned(), users };
    let mut report = empty();
    if let Some(charts) = &mut report.charts {
        charts.audiences = Audiences {
            users: 1_000,
            without: 349,
            users_one_in: 1,
            segments: vec![size("many", 600), size("enough", USERS_MIN), size("secret-few", USERS_MIN - 1)],
            left_out: 0,
            overlaps: Vec::new(),
        };
    }
    let page = page(&report);
    assert!(page.contains("60.0 % of users are in many") && page.contains(">enough<"));
    assert!(page.contains("1 segment with fewer than 50 users") && !page.contains("secret-few"));
}

#[test]
fn the_page_has_no_script_no_address_and_a_policy_that_allows_its_style_alone() {
    let page = page(&empty());
    assert!(page.contains("default-src 'none'; style-src 'sha256-"));
    for forbidden in ["<script", "javascript:", " style=", "http://", "https://", "@import", "url("] {
        let found = page.replace("xmlns='http://www.w3.org/2000/svg'", "");
        assert!(!found.contains(forbidden), "{forbidden}");
    }
}
