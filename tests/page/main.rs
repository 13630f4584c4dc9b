//! The live pages in a real browser: complete, usable on a screen and on a phone, light and dark, and without console errors.
//!
//! Needs ONNX Runtime (deploy/onnxruntime/fetch) and Chromium or Chrome on the path; without them the tests fail with instructions.
//! `PICTURES=folder` saves screenshots.

#![expect(clippy::unwrap_used, reason = "a test ends where its own browser cannot be started")]

mod browser;
mod content;
mod control;
mod day;
mod model;
#[path = "../cli/process.rs"]
mod process;
mod report;

use browser::Browser;
use process::Running;
use serde_json::Value;
use std::{
    path::Path,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The parts of the page: selectors with the minimum number of elements.
const PARTS: [(&str, usize); 16] = [
    ("#throughput polyline.line", 1),
    ("#latency .track", 1),
    ("#scores rect", 20),
    ("#segments .track", 4),
    ("#dead .track", 1),
    ("#partitions tbody tr td.n", 8),
    ("#partitions .tag.good", 2),
    ("#stages .track", 7),
    ("#stages .axis span", 3),
    ("#seen tbody td.mono", 1),
    ("#happenings li .tag", 2),
    ("#models tbody td.mono", 1),
    ("#models .tag.good", 1),
    ("#shadows tbody td.n", 4),
    ("#versions .empty", 1),
    ("footer a", 3),
];

/// The demo's configuration with its model, also as a shadow.
fn config() -> String {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/demo");
    let model = format!("path = \"{}\"\n", demo.join("model.onnx").display());
    std::fs::read_to_string(demo.join("aimpoint.toml"))
        .unwrap()
        .replace("path = \"model.onnx\"\n", &model)
        .replace("name = \"aimpoint-demo\"", "name = \"aimpoint\"")
        + &format!("\n[[shadow]]\nname = \"challenger\"\n{model}\n[engine]\nworkers = 2\n")
}

/// Publishes purchases with the current time, and an unreadable record.
fn publish(running: &Running, from: u64, count: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let publisher = running.publisher();
    for number in from..from + count {
        let user = format!("user-{}", number % 97);
        let event = format!(
            r#"{{"event_id":"e{number}","event_type":"purchase","user_id":"{user}","occurred_at":{now},"value":{}}}"#,
            number % 40
        );
        publisher.publish(Some(user.as_bytes()), Some(event.as_bytes())).unwrap();
    }
    publisher.publish(Some(b"u1"), Some(b"{\"broken")).unwrap();
    publisher.finish().unwrap();
}

fn wait_for(what: &str, mut missing: impl FnMut() -> Vec<String>) {
    let start = Instant::now();
    loop {
        let missing = missing();
        if missing.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(40), "waited for {what}: {missing:?}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// The contrast ratio of two `rgb(…)` colours by WCAG 2: 1 to 21.
fn contrast(one: &str, other: &str) -> f64 {
    let luminance = |colour: &str| -> f64 {
        let parts = colour.trim_start_matches("rgb(").trim_end_matches(')').split(',');
        let linear = parts.map(|part| {
            let value = part.trim().parse::<f64>().unwrap() / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        });
        linear.zip([0.2126, 0.7152, 0.0722]).map(|(part, weight)| part * weight).sum()
    };
    let (one, other) = (luminance(one), luminance(other));
    (one.max(other) + 0.05) / (one.min(other) + 0.05)
}

/// Checks that nothing overflows the page except elements with their own scroll bar, and that these texts can be read.
fn check_look(browser: &mut Browser, place: &str, texts: &[&str]) {
    let over = "[...document.querySelectorAll('body *')].filter((it) => !it.closest('.scroll') && \
                it.getBoundingClientRect().right > innerWidth + 1).map((it) => it.id || it.className || it.tagName)";
    assert_eq!(browser.evaluate(over), Value::Array(Vec::new()), "{place}");
    assert_eq!(browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), true, "{place}");
    let mut colour = |selector: &str, what: &str| {
        let colour = format!("getComputedStyle(document.querySelector({selector:?})).{what}");
        browser.evaluate(&colour).as_str().unwrap().to_owned()
    };
    let card = colour(".card", "backgroundColor");
    for selector in texts {
        // A tag has a background of its own.
        let own = colour(selector, "backgroundColor");
        let back = if own.starts_with("rgba(") { &card } else { &own };
        let contrast = contrast(&colour(selector, "color"), back);
        assert!(contrast >= 4.5, "{place}: {selector} has a contrast of {contrast:.1} on {back}");
    }
}

/// Takes a picture of the page, and saves it if that was asked for.
fn picture(browser: &mut Browser, name: &str) {
    let picture = browser.picture();
    assert!(picture.starts_with(b"\x89PNG"), "{name}");
    if let Some(folder) = std::env::var_os("PICTURES") {
        std::fs::write(Path::new(&folder).join(format!("{name}.png")), picture).unwrap();
    }
}

#[test]
fn every_part_is_filled_on_a_screen_and_on_a_phone_light_and_dark() {
    let running = Running::start(&config());
    running.wait_until_ready();
    let mut browser = Browser::start();
    let (mut published, mut backgrounds) = (0, Vec::new());
    for (width, scheme) in [(1400, "light"), (390, "light"), (1400, "dark"), (390, "dark")] {
        let place = format!("{width} {scheme}");
        browser.open(&format!("http://{}/", running.address), width, scheme);
        wait_for(&place, || {
            publish(&running, published, 200);
            published += 200;
            let mut missing = Vec::new();
            for (selector, least) in PARTS {
                let found = browser.evaluate(&format!("document.querySelectorAll({selector:?}).length"));
                if found.as_u64().unwrap_or_default() < least as u64 {
                    missing.push(format!("{selector}: {found} of {least}"));
                }
            }
            for id in [
                "rate",
                "p50",
                "lag",
                "profiles",
                "fallbacks",
                "events",
                "about",
                "commits",
                "scores-top",
                "throughput-top",
            ] {
                let text = browser.evaluate(&format!("document.getElementById({id:?}).textContent"));
                if matches!(text.as_str(), None | Some("" | "–" | "0")) && id != "lag" {
                    missing.push(format!("#{id}: {text}"));
                }
            }
            missing
        });
        assert_eq!(browser.evaluate("document.getElementById('state').textContent"), "ready", "{place}");

        check_look(
            &mut browser,
            &place,
            &[
                ".card h2",
                ".card .quiet",
                ".tile small",
                ".bars .name",
                ".bars .figure",
                ".axis",
                ".ticks",
                ".note",
                "th",
                "td",
                ".mono",
            ],
        );
        let background = "getComputedStyle(document.body).backgroundColor";
        backgrounds.push(browser.evaluate(background).as_str().unwrap().to_owned());

        // It updates by itself.
        let shown = |browser: &mut Browser| browser.evaluate("document.getElementById('events').textContent");
        let before = shown(&mut browser);
        publish(&running, published, 200);
        published += 200;
        wait_for("an update", || if shown(&mut browser) == before { vec![before.to_string()] } else { Vec::new() });

        picture(&mut browser, &format!("page-{width}-{scheme}"));
    }
    assert!(backgrounds[0] == backgrounds[1] && backgrounds[2] == backgrounds[3], "{backgrounds:?}");
    assert_ne!(backgrounds[0], backgrounds[2], "dark is not light");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

/// A page opened late shows the same minute as one that was already open.
#[test]
fn the_page_shows_the_counts_of_the_process_as_soon_as_it_is_opened() {
    let running = Running::start(&config());
    running.wait_until_ready();
    publish(&running, 0, 500);
    wait_for("decisions", || match &running.snapshot()["recent"]["minute"]["decisions"] {
        count if *count == 500 => Vec::new(),
        count => vec![count.to_string()],
    });
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", running.address), 1280, "light");
    wait_for("the page", || {
        let shown = browser.evaluate("document.getElementById('latency')?.querySelectorAll('.track').length ?? 0");
        if shown.as_u64() > Some(0) { Vec::new() } else { vec![shown.to_string()] }
    });
    let text = |browser: &mut Browser, what: &str| browser.evaluate(what).as_str().unwrap_or_default().to_owned();
    let latency = text(&mut browser, "document.getElementById('latency').innerText");
    let rows =
        "[...document.querySelectorAll('#latency .figure')].reduce((sum, it) => sum + parseFloat(it.textContent), 0)";
    let all = browser.evaluate(rows).as_f64().unwrap();
    assert!((all - 100.0).abs() < 1.0, "each decision is in one range: {all} in {latency}");
    let names = "[...document.querySelectorAll('#latency .name')].map((it) => it.textContent).join('|')";
    let names = text(&mut browser, names);
    assert!(!names.contains('≤') && names.split('|').all(|name| name.contains(' ')), "ranges have units: {names}");
    // A full bar is 100 % in every card of shares.
    for card in ["latency", "segments", "stages"] {
        let off = format!(
            "[...document.querySelectorAll('#{card} .track')].filter((it) => Math.abs(it.querySelector('rect').getAttribute('width') \
             - Math.min(100, parseFloat(it.nextSibling.textContent))) > 0.06).length"
        );
        assert_eq!(browser.evaluate(&off), 0, "{card}");
    }
    let span = text(&mut browser, "document.querySelector('[data-span]').textContent");
    assert!(span == "last minute" || span.starts_with("the first "), "{span}");
    let commits = text(&mut browser, "document.getElementById('commits').textContent");
    assert!(commits.starts_with("Commits wait for the brokers") && commits.contains(" a second, "), "{commits}");
    let stages = text(&mut browser, "document.getElementById('stages').textContent");
    assert!(!stages.contains("commit"), "{stages}");
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_page_that_needs_a_token_asks_for_it_and_opens_with_it() {
    let running = Running::start("[admin]\ntoken = \"0123456789abcdef\"\n[engine]\nworkers = 1\n");
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", running.address), 400, "light");
    let state = |browser: &mut Browser| browser.evaluate("document.getElementById('state')?.textContent");
    let becomes = |browser: &mut Browser, wanted: &str| {
        wait_for(wanted, || {
            let state = state(browser);
            if state == wanted { Vec::new() } else { vec![state.to_string()] }
        });
    };
    let enter = |token: &str| {
        format!("document.getElementById('token').value = {token:?}; document.getElementById('ask').requestSubmit()")
    };
    let seen = |browser: &mut Browser, id: &str| {
        browser.evaluate(&format!("document.getElementById({id:?}).getBoundingClientRect().height > 0"))
    };
    becomes(&mut browser, "needs a token");
    assert_eq!(
        [seen(&mut browser, "token"), seen(&mut browser, "board"), seen(&mut browser, "wrong")],
        [true, false, false]
    );
    browser.evaluate(&enter("wrong"));
    becomes(&mut browser, "wrong token");
    assert_eq!(
        [seen(&mut browser, "token"), seen(&mut browser, "board"), seen(&mut browser, "wrong")],
        [true, false, true]
    );
    picture(&mut browser, "page-token");
    browser.evaluate(&enter("0123456789abcdef"));
    becomes(&mut browser, "ready");
    assert_eq!([seen(&mut browser, "token"), seen(&mut browser, "board")], [false, true]);
    assert_eq!(browser.evaluate("document.getElementById('token').value"), "", "the field is cleared");
    // The links' targets are shown in the page, because links cannot carry the token.
    browser.evaluate("document.querySelector('a[href=metrics]').click()");
    wait_for("the metrics", || {
        let shown = browser.evaluate("document.getElementById('text').textContent.includes('aimpoint_events_total')");
        if shown == true { Vec::new() } else { vec![shown.to_string()] }
    });
    assert_eq!(seen(&mut browser, "raw"), true);
}
