//! `aimpoint experiment`: the figures of a small experiment, and messages for files that cannot be used.

use super::{aimpoint, folder_with, path};
use serde_json::Value;
use std::fmt::Write as _;
use tempfile::TempDir;

/// 400 users: 200 controls of whom 40 bought, 100 in `big` of whom 40 did, and 100 in `small` of whom 20 did. Who bought before buys
/// again more often, and `good` ranks those in `big` by what moves them.
fn rows() -> String {
    let mut text = "arm,bought,spent,before,good,noise\n".to_owned();
    for number in 0..400 {
        let (arm, bought) = match number {
            0..200 => ("none", number % 5 == 0),
            200..300 => ("big", number % 5 < 2),
            _ => ("small", number % 5 == 0),
        };
        let (before, spent) = (u8::from(bought) * 2 + (number % 3) as u8, u16::from(bought) * 10);
        let good = number % 5;
        let noise = number * 7 % 11;
        writeln!(text, "{arm},{},{spent},{before},-{good},{noise}", u8::from(bought)).unwrap();
    }
    text
}

fn run(folder: &TempDir, more: &[&str]) -> (i32, String, String) {
    let file = path(folder, "rows.csv");
    let usual = ["experiment", &file, "--arm", "arm", "--control", "none"];
    aimpoint(&[&usual[..], more].concat(), &[])
}

fn json(folder: &TempDir, more: &[&str]) -> Value {
    let (code, out, message) = run(folder, &[more, &["--format", "json"][..]].concat());
    assert_eq!(code, 0, "{message}");
    serde_json::from_str(&out).unwrap()
}

fn close(value: &Value, expected: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - expected).abs() < 1e-9, "{value} is not {expected}");
}

#[test]
fn each_arm_is_compared_with_the_control_and_the_split_with_the_plan() {
    let folder = folder_with(&[("rows.csv", &rows())]);
    let planned = ["--share", "none=2", "--share", "big=1", "--share", "small=1"];
    let found = json(&folder, &[&["--outcome", "bought", "--before", "before"][..], &planned].concat());
    let [big, small] = [0, 1].map(|at| &found["comparisons"][at]);
    assert_eq!((big["arm"].as_str(), small["arm"].as_str()), (Some("big"), Some("small")));
    close(&big["once"]["difference"], 0.2);
    close(&small["once"]["difference"], 0.0);
    // The pooled z test: 0.2 / sqrt(80/300 · 220/300 · (1/200 + 1/100)).
    close(&big["once"]["p_value"], 0.000_221_846_680_663_211_57);
    assert!(big["cuped"]["variance_reduction"].as_f64().unwrap() > 0.4, "{}", big["cuped"]);
    close(&found["split"][0]["p_value"], 1.0);
    assert_eq!(found["arms"][0]["rows"], 200);
    // An amount has a mean.
    let found = json(&folder, &["--outcome", "spent"]);
    close(&found["comparisons"][0]["once"]["difference"], 2.0);
    assert_eq!((found["is_rate"].as_bool(), found["split"].is_null()), (Some(false), true));
    // A third each was planned.
    let equal = ["--outcome", "bought", "--share", "none=1", "--share", "big=1", "--share", "small=1"];
    assert_eq!(json(&folder, &equal)["split"][0]["is_mismatch"], true);
    let (_, text, _) = run(&folder, &equal);
    assert!(text.contains("NOT as planned") && text.contains("big against none"), "{text}");
}

#[test]
fn a_ranking_by_predicted_uplift_is_measured_and_a_learner_makes_one() {
    let folder = folder_with(&[("rows.csv", &rows())]);
    let found = json(&folder, &["--outcome", "bought", "--score", "good"]);
    let big = &found["uplift"][0];
    assert_eq!((big["arm"].as_str(), big["predicted_by"].as_str()), (Some("big"), Some("score")));
    assert!(big["areas"]["qini"]["per_row_interval"]["low"].is_number(), "{big}");
    let rows: u64 = big["bins"].as_array().unwrap().iter().map(|bin| bin["rows"].as_u64().unwrap()).sum();
    assert_eq!(rows, 300);
    let (_, text, _) = run(&folder, &["--outcome", "bought", "--score", "good"]);
    assert!(text.contains("whom big moves, as the file predicts") && text.contains("Qini:"), "{text}");
}

#[test]
fn a_learner_predicts_the_uplift_from_the_other_columns() {
    let rows: String = rows().lines().filter(|line| !line.starts_with("small")).flat_map(|line| [line, "\n"]).collect();
    let folder = folder_with(&[("rows.csv", &rows)]);
    let found = json(&folder, &["--outcome", "bought", "--learner", "x", "--ignore", "spent", "--replicates", "0"]);
    let big = &found["uplift"][0];
    assert_eq!((&big["arm"], &big["predicted_by"]), (&"big".into(), &"x".into()));
    assert!(big["areas"]["auuc"]["per_row"].is_number() && big["areas"]["auuc"]["per_row_interval"].is_null(), "{big}");
}

#[test]
fn what_cannot_be_used_is_named_with_its_place() {
    let folder = folder_with(&[("rows.csv", &rows())]);
    for (more, code, expected) in [
        (&["--outcome", "nothing"][..], 65, "nothing"),
        (&["--outcome", "arm"], 65, "line 2, column \"arm\": expected a number: 0, 1 or an amount"),
        (&["--outcome", "spent", "--learner", "t"], 65, "a learner needs outcomes of 0 and 1"),
        (
            &["--outcome", "bought", "--share", "none=1"],
            2,
            "--share is of the arms none, and the file has none, big, small",
        ),
        (&["--outcome", "bought", "--share", "none"], 2, "expected NAME=SHARE"),
        (&["--outcome", "bought", "--score", "good", "--learner", "t"], 2, "cannot be used with"),
        (&["--outcome", "bought", "--ignore", "spent"], 2, "--learner"),
    ] {
        let (found, _, message) = run(&folder, more);
        assert!(message.contains(expected) && found == code, "{more:?}: {found} {message}");
    }
    for (text, expected) in [
        ("arm,bought\na,1\nb,0\n", "no row is of the control \"none\"; column \"arm\" has a, b"),
        ("arm,bought\nnone,1\nnone,0\n", "there is nothing to compare"),
        ("arm,bought\nnone,1\n,0\n", "line 3, column \"arm\": expected the name of an arm"),
        ("arm,bought\nnone,1\na,1e999\n", "line 3, column \"bought\": expected a number"),
        ("arm,bought\n", "no row is of the control"),
    ] {
        let folder = folder_with(&[("rows.csv", text)]);
        let (code, _, message) = run(&folder, &["--outcome", "bought"]);
        assert!(message.contains(expected) && code == 65, "{text:?}: {code} {message}");
    }
}
