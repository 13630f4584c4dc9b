//! The report of an evaluation in a real browser: wide, narrow, dark and printed, without scripts and without errors.

use crate::browser::Browser;
use aimpoint::{
    control::{AttributionSpec, CampaignSetup, ControlSpec, DecisionRecord, Outcome, Source},
    effect::{CampaignPlan, Dimension, EffectReport, Evaluation, Label, Plan},
    evaluation::Confidence,
    report::{Origin, html},
    targeting::{
        campaign::{Budget, Learning, Reward},
        money::Micros,
        pacing::Mode,
    },
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

/// 2026-03-01 in microseconds.
const START: i64 = 1_772_323_200_000_000;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
const DAYS: i64 = 14;
const A_DAY: i64 = 1_500;

/// What an attacker would like to see in a page.
const EVIL: &str = "<img src=x onerror=alert(1)>";

/// SplitMix64.
struct Draws(u64);

impl Draws {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 / 2.0_f64.powi(53)
    }

    fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }
}

fn setup(id: &str, daily: Option<f64>, total: Option<f64>) -> CampaignSetup {
    let units = |units: f64| Micros((units * 1e6) as i64);
    let budget =
        Budget { mode: Mode::Even, daily: daily.map(units), total: total.map(units), cost_max: Micros(10_000) };
    CampaignSetup {
        id: id.to_owned(),
        currency: "EUR".parse().unwrap(),
        zone: jiff::tz::TimeZone::UTC,
        budget: Some(budget),
        until: Some(START + 21 * DAY),
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning: Learning::Weights,
        floor: 0.01,
        creatives: Vec::new(),
    }
}

fn plan() -> Plan {
    let campaign = |label: Label, arms: &[(&str, f64)]| CampaignPlan {
        label: Some(label),
        reward: Label::Click,
        currency: "EUR".parse().unwrap(),
        arms: arms.iter().map(|(arm, share)| ((*arm).to_owned(), *share)).collect(),
        holdout: 0.0,
        features: vec!["hours_since_visit".to_owned(), "basket_value".to_owned()],
    };
    Plan {
        by: ["campaign", "model_version"].iter().map(|name| Dimension::parse(name).unwrap()).collect(),
        campaigns: [
            ("spring-sale".to_owned(), campaign(Label::Click, &[("bold", 0.5)])),
            ("brand-film".to_owned(), campaign(Label::Click, &[])),
        ]
        .into(),
        variants: Vec::new(),
        click_after: 6 * 3_600 * SECOND,
        conversion_after: 4 * DAY,
        minimum_audience: 0,
        complete_until: None,
        confidence: Confidence::P95,
        effect: 0.1,
        charts: true,
        attribution: None,
        labels: false,
    }
}

/// Two weeks of a shop: one campaign with arms and creatives of which one is better, one whose rate falls.
fn shop(evil: bool) -> EffectReport {
    let attribution = AttributionSpec {
        view: Duration::from_hours(24),
        click: Duration::from_hours(96),
        ..AttributionSpec::default()
    };
    let spec = ControlSpec { attribution, ..ControlSpec::default() };
    let setups = vec![setup("spring-sale", Some(3.0), None), setup("brand-film", None, Some(45.0))];
    let mut evaluation = Evaluation::new("shop", &spec, setups, plan(), None).unwrap();
    let mut lines: Vec<(i64, bool, String)> = Vec::new();
    let mut draws = Draws(7);
    for number in 0..DAYS * A_DAY {
        let at = START + number * DAY / A_DAY;
        let is_spring = draws.chance(0.6);
        let user = (draws.share() * 5_000.0) as u64;
        let arm = ["control", "bold"][(user % 2) as usize];
        let creative = ["red-banner", "blue-banner", "video"][(draws.share() * 3.0) as usize];
        let creative = if evil && number % 7 == 0 { EVIL } else { creative };
        let hours = draws.share() * if number > DAYS * A_DAY / 2 { 30.0 } else { 48.0 };
        let score = draws.share() * draws.share();
        let fall = if is_spring { 1.0 } else { 1.4 - 0.8 * number as f64 / (DAYS * A_DAY) as f64 };
        let rate = (0.01 + 0.09 * score) * fall * if arm == "bold" && is_spring { 1.5 } else { 1.0 };
        let rate = rate * if creative == "video" { 1.9 } else { 1.0 };
        let id = if is_spring { "spring-sale" } else { "brand-film" };
        let named = if is_spring { format!(r#","arm":"{arm}""#) } else { String::new() };
        let mut segments = Vec::new();
        for (segment, is_in) in [
            ("returning", user % 5 < 2),
            ("basket-left", user % 7 < 2),
            ("bargain-hunters", user % 11 < 2),
            ("vip", user.is_multiple_of(400)),
        ] {
            segments.extend(is_in.then(|| format!(r#"{{"id":"{segment}"}}"#)));
        }
        let decision = format!(
            r#"{{"decision_id":"shop:clicks-0-{number}","user_key":"u{user}","decided_at":"{at}","expires_at":"{}","score":{{"raw":{score:.5}}},"model":{{"name":"ranker","version":"{}"}},"segments":[{}],"campaigns":[{{"id":"{id}"{named},"probability":{:.5},"bid_micros":"4000000","currency":"EUR","creative":{{"id":"{creative}","propensity":0.33,"features":[{hours:.2},{:.2}]}}}}]}}"#,
            at + 60 * SECOND,
            1 + number / (DAYS * A_DAY / 2),
            segments.join(","),
            (0.012 + 0.1 * score).min(1.0),
            draws.share() * if number > DAYS * A_DAY / 2 { 100.0 } else { 80.0 }
        );
        lines.push((at, true, decision));
        let mut outcome = |kind: &str, after: f64, more: &str| {
            let at = at + (after * SECOND as f64) as i64;
            lines.push((at, false, format!(
                r#"{{"outcome_id":"{kind}{number}","type":"{kind}","occurred_at":{at},"decision_id":"shop:clicks-0-{number}","campaign_id":"{id}"{more}}}"#
            )));
        };
        if draws.chance(0.75) {
            outcome("win", 1.0, &format!(r#","price":{:.3}"#, 3.0 + 3.0 * draws.share()));
            outcome("impression", 2.0, "");
            if draws.chance(rate) {
                outcome("click", 10.0 + 600.0 * draws.share(), "");
                if draws.chance(0.12) {
                    outcome("conversion", 700.0 + 200_000.0 * draws.share(), r#","value":45"#);
                }
            }
        } else {
            outcome("loss", 1.0, "");
        }
    }
    lines.sort();
    let end = START + DAYS * DAY;
    for (number, (at, is_decision, line)) in lines.iter().enumerate().filter(|(_, (at, ..))| *at <= end) {
        let topic = ["outcomes", "decisions"][usize::from(*is_decision)];
        let source = Source { topic, partition: 0, offset: number as i64, arrived_at: *at };
        if *is_decision {
            evaluation.decision(&source, &DecisionRecord::read(line.as_bytes()).unwrap(), None).unwrap();
        } else {
            drop(evaluation.outcome(&source, &Outcome::read(Some(line.as_bytes())).unwrap()).unwrap());
        }
    }
    evaluation.finish(spec.wait).unwrap().report
}

fn origin() -> Origin {
    let lines = vec!["decisions-3.jsonl:812: not a JSON object: column 1".to_owned()];
    Origin { app: "shop".to_owned(), faults: vec![("unreadable".to_owned(), 1, lines)] }
}

/// What is on the page: selectors with the least number of elements.
const PARTS: [(&str, usize); 15] = [
    (".tile strong", 4),
    ("#funnel .track", 6),
    ("#clicks-card polyline.line", 1),
    ("#clicks-card polygon.band", 1),
    ("#conversions-card rect.young", 1),
    ("#trial-0 .verdicts li", 2),
    ("#groups-1 tbody tr", 2),
    ("#creatives-1 .spread rect", 3),
    ("#budget-1 polyline.plan", 1),
    ("#reliability-card path.dot", 10),
    ("#lift .track", 10),
    ("#roc-card polyline.line", 1),
    ("#precision-card polyline.line", 1),
    ("#segments .matrix td", 9),
    ("#drift tbody tr", 5),
];

fn address(folder: &Path, name: &str, page: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, page).unwrap();
    format!("file://{}", path.display())
}

fn open(browser: &mut Browser, address: &str, width: u32, scheme: &str) {
    browser.open(address, width, scheme);
    crate::wait_for(address, || {
        match browser.evaluate("document.readyState === 'complete' && !!document.querySelector('footer')") {
            Value::Bool(true) => Vec::new(),
            other => vec![other.to_string()],
        }
    });
}

#[test]
fn the_report_is_complete_wide_narrow_dark_and_printed() {
    let folder = tempfile::tempdir().unwrap();
    let address = address(folder.path(), "report.html", &html(&shop(false), &origin()));
    let mut browser = Browser::start();
    let mut backgrounds = Vec::new();
    for (width, scheme) in [(1280, "light"), (390, "light"), (1280, "dark"), (390, "dark")] {
        let place = format!("{width} {scheme}");
        open(&mut browser, &address, width, scheme);
        for (selector, least) in PARTS {
            let found = browser.evaluate(&format!("document.querySelectorAll({selector:?}).length"));
            assert!(found.as_u64() >= Some(least as u64), "{place}: {selector}: {found} of {least}");
        }
        let page = browser.evaluate("document.body.innerText").as_str().unwrap().to_owned();
        for nonsense in ["NaN", "undefined", "null", "[object"] {
            assert!(!page.split_whitespace().any(|word| word.contains(nonsense)), "{place}: {nonsense} in {page}");
        }
        crate::check_look(
            &mut browser,
            &place,
            &[
                ".card h2",
                ".shown",
                ".tile small",
                ".tile h2",
                ".note",
                ".axis",
                ".ticks",
                "th",
                "td",
                ".tag.good",
                ".tag.bad",
                ".tag.warn",
                ".bars .share",
                "summary",
                "#unknown li",
            ],
        );
        let background = browser.evaluate("getComputedStyle(document.body).backgroundColor");
        backgrounds.push(background.as_str().unwrap().to_owned());
        crate::picture(&mut browser, &format!("report-{width}-{scheme}"));
    }
    assert!(backgrounds[0] == backgrounds[1] && backgrounds[2] == backgrounds[3] && backgrounds[0] != backgrounds[2]);
    // A plot has a name, a description and a table; a heading names its part; ids are there once.
    let unnamed = "[...document.querySelectorAll('svg[role=img]')].filter((it) => !it.getAttribute('aria-labelledby').split(' ')\
                   .every((id) => document.getElementById(id)?.textContent.length > 5) || \
                   !it.closest('section').querySelector('table, .note')).length";
    assert_eq!(browser.evaluate(unnamed), 0);
    let bare = "[...document.querySelectorAll('section.card')].filter((it) => \
                !document.getElementById(it.getAttribute('aria-labelledby'))?.textContent).length";
    assert_eq!(browser.evaluate(bare), 0);
    let twice = "(() => { const ids = [...document.querySelectorAll('[id]')].map((it) => it.id); \
                 return ids.length - new Set(ids).size; })()";
    assert_eq!(browser.evaluate(twice), 0);
    let levels = "[...document.querySelectorAll('h1, h2, h3')].map((it) => +it.tagName[1])";
    let levels: Vec<u64> = serde_json::from_value(browser.evaluate(levels)).unwrap();
    assert!(levels[0] == 1 && levels.windows(2).all(|two| two[1] <= two[0] + 1), "{levels:?}");
    // A table opens with the keyboard alone.
    browser.evaluate("document.querySelector('#clicks-card summary').focus()");
    for kind in ["rawKeyDown", "char", "keyUp"] {
        let text = if kind == "char" { "\r" } else { "" };
        browser.call(
            "Input.dispatchKeyEvent",
            json!({ "type": kind, "key": "Enter", "windowsVirtualKeyCode": 13, "text": text }),
        );
    }
    assert_eq!(browser.evaluate("document.querySelector('#clicks-card details').open"), true);

    // On paper: light, and no picture is cut by the end of a page.
    browser.call("Emulation.setEmulatedMedia", json!({ "media": "print", "features": [] }));
    let paper = browser.evaluate("getComputedStyle(document.body).backgroundColor");
    assert_eq!(paper, "rgb(255, 255, 255)");
    crate::picture(&mut browser, "report-print");
    let sheet = json!({ "printBackground": true, "paperWidth": 8.27, "paperHeight": 11.69 });
    let pdf = browser.call("Page.printToPDF", sheet)["data"].as_str().unwrap().to_owned();
    let pdf = BASE64_STANDARD.decode(pdf).unwrap();
    let pages =
        pdf.windows(12).filter(|part| part.starts_with(b"/Type /Page") && !part.starts_with(b"/Type /Pages")).count();
    assert!((3..=12).contains(&pages), "{pages} pages");
    if let Some(folder) = std::env::var_os("PICTURES") {
        std::fs::write(Path::new(&folder).join("report.pdf"), pdf).unwrap();
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn texts_of_the_log_cannot_become_markup_and_nothing_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin { app: EVIL.to_owned(), faults: vec![("unreadable".to_owned(), 1, vec![EVIL.to_owned()])] };
    let page = html(&shop(true), &origin);
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;") && !page.contains("<img"));
    let address = address(folder.path(), "evil.html", &page);
    let mut browser = Browser::start();
    open(&mut browser, &address, 1_280, "light");
    assert_eq!(browser.evaluate("document.querySelectorAll('img, script, link[rel=stylesheet], iframe').length"), 0);
    assert_eq!(browser.evaluate("performance.getEntriesByType('resource').length"), 0);
    assert!(browser.evaluate("document.body.innerText").as_str().unwrap().contains(EVIL));
    // The style is applied, so its hash is right; a style or a script from elsewhere is refused.
    assert_eq!(browser.evaluate("getComputedStyle(document.querySelector('.card')).borderTopLeftRadius"), "12px");
    assert_eq!(browser.complaints, Vec::<String>::new());
    let planted = "(() => { const style = document.createElement('style'); style.textContent = '.card { color: red }'; \
                   document.head.append(style); const script = document.createElement('script'); script.textContent = 'window.x = 1'; \
                   document.head.append(script); return [getComputedStyle(document.querySelector('.card')).color, window.x ?? null]; })()";
    let found = browser.evaluate(planted);
    assert!(found[0] != "rgb(255, 0, 0)" && found[1].is_null(), "{found}");
    browser.evaluate("1");
    assert!(browser.complaints.iter().any(|it| it.contains("Content Security Policy")), "{:?}", browser.complaints);
}
