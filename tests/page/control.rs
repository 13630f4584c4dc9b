//! The page of control in a real browser, with a day of three campaigns.

use crate::{browser::Browser, check_look, day::Day, picture, wait_for};
use aimpoint::{
    control::Following,
    status::{RolePhase, RoleStatus},
    telemetry::admin::{AdminState, serve},
};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// The parts of the leader's page: selectors with the minimum number of elements.
const PARTS: [(&str, usize); 19] = [
    (".curve polyline.plan", 3),
    (".curve polyline.line:not(.plan):not(.before)", 3),
    (".curve polyline.before", 3),
    (".curve line.now", 3),
    (".curve svg[role=img][aria-label]", 3),
    (".curve dl dd", 15),
    (".curve details summary", 3),
    (".curve details td", 3 * 24 * 3),
    ("#campaigns tbody tr", 3),
    ("#campaigns tbody .limits", 6),
    ("#creatives table", 3),
    ("#creatives tbody th", 5),
    ("#creatives .spread rect", 8),
    ("#predictions tbody tr", 3),
    ("#predictions tbody .limits", 3),
    ("#outcomes .track", 6),
    ("#audiences .track", 3),
    ("#process dd", 9),
    ("footer a", 3),
];

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// A role that serves its page.
struct Served {
    role: RoleStatus,
    address: SocketAddr,
}

impl Served {
    fn new() -> Self {
        let role = RoleStatus::default();
        let state = AdminState::new("shop, control-0".to_owned(), json!({}), None, None);
        state.set_role(role.clone());
        let address = serve(Some("127.0.0.1:0".parse().unwrap()), Arc::new(state)).unwrap();
        Self { role, address }
    }

    fn show(&self, phase: &'static str, board: Value) {
        self.role.health().beat();
        self.role.set(RolePhase::Ready(phase));
        self.role.show(board);
    }
}

fn text(browser: &mut Browser, selector: &str) -> String {
    let text = format!("document.querySelector({selector:?})?.textContent ?? ''");
    browser.evaluate(&text).as_str().unwrap().to_owned()
}

/// Presses a key.
fn press(browser: &mut Browser, key: &str, code: u32) {
    for kind in ["rawKeyDown", "char", "keyUp"] {
        let text = if kind == "char" && key == "Enter" { "\r" } else { "" };
        if kind == "char" && text.is_empty() {
            continue;
        }
        let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text });
        browser.call("Input.dispatchKeyEvent", event);
    }
}

#[test]
fn control_shows_campaigns_creatives_and_outcomes_on_a_screen_and_on_a_phone_light_and_dark() {
    let served = Served::new();
    let mut day = Day::until(now());
    served.show("leader", day.board.json(&day.state, [12, 340, 0], now()));
    let mut browser = Browser::start();
    for (width, scheme) in [(1400, "light"), (390, "light"), (1400, "dark"), (390, "dark")] {
        let place = format!("{width} {scheme}");
        browser.open(&format!("http://{}/", served.address), width, scheme);
        wait_for(&place, || {
            served.show("leader", day.board.json(&day.state, [12, 340, 0], now()));
            let mut missing = Vec::new();
            for (selector, least) in PARTS {
                let found = browser.evaluate(&format!("document.querySelectorAll({selector:?}).length"));
                if found.as_u64().unwrap_or_default() < least as u64 {
                    missing.push(format!("{selector}: {found} of {least}"));
                }
            }
            missing
        });
        assert_eq!(text(&mut browser, "#state"), "leader", "{place}");
        for id in ["spent", "shown", "clicked", "converted", "revenue", "won", "version", "issued", "about"] {
            let shown = text(&mut browser, &format!("#{id}"));
            assert!(!matches!(shown.as_str(), "" | "–" | "0"), "{place}: #{id}: {shown}");
        }
        let page = text(&mut browser, "body");
        for nonsense in ["NaN", "undefined", "null", "Infinity", "[object"] {
            assert!(!page.contains(nonsense), "{place}: {nonsense} in {page}");
        }
        check_look(
            &mut browser,
            &place,
            &[
                ".card h2",
                ".card .quiet",
                ".tile small",
                ".legend",
                ".curve h3",
                ".curve dt",
                ".curve dd",
                ".axis",
                ".ticks",
                ".note",
                "summary",
                ".choice label",
                "th",
                "td",
                ".limits",
                ".part td",
                ".bars .figure",
                ".tag.warn",
                "dt",
            ],
        );
        picture(&mut browser, &format!("control-{width}-{scheme}"));
    }
    assert_eq!(browser.complaints, Vec::<String>::new());

    // The figures are those of the state.
    let board = day.board.json(&day.state, [12, 340, 0], now());
    let of = |id: &str| board["campaigns"].as_array().unwrap().iter().find(|it| it["id"] == id).unwrap().clone();
    assert_eq!(
        text(&mut browser, "#campaigns tbody tr td.n:nth-child(4)").replace(',', ""),
        board["campaigns"][0]["periods"]["today"]["impressions"].to_string()
    );
    assert_eq!([of("spring-sale"), of("brand-film")].map(|it| it["state"].clone()), [json!("paced"), json!("spent")]);

    // The keyboard chooses a period, and opens a table, which stays open while figures change.
    browser.evaluate("document.querySelector('#period input').focus()");
    press(&mut browser, "ArrowDown", 40);
    assert_eq!(browser.evaluate("document.querySelector('#period input:checked').value"), "week");
    assert_eq!(
        text(&mut browser, "#campaigns tbody tr td.n:nth-child(4)").replace(',', ""),
        board["campaigns"][0]["periods"]["week"]["impressions"].to_string()
    );
    browser.evaluate("document.querySelector('.curve summary').focus()");
    press(&mut browser, "Enter", 13);
    let before = text(&mut browser, "#shown");
    for _ in 0..40 {
        day.visit(now());
    }
    day.publish(now(), true);
    wait_for("an update", || {
        served.show("leader", day.board.json(&day.state, [0, 0, 0], now()));
        if text(&mut browser, "#shown") == before { vec![before.clone()] } else { Vec::new() }
    });
    let open = "document.querySelector('.curve details').open && document.activeElement.tagName == 'SUMMARY'";
    assert_eq!(browser.evaluate(open), true);
    assert_eq!(
        browser.evaluate("document.querySelector('.curve details table').getBoundingClientRect().height > 100"),
        true
    );
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn creatives_that_were_never_shown_are_named_and_have_no_range() {
    let served = Served::new();
    let mut day = Day::begun(now());
    let mut browser = Browser::start();
    let shows = |browser: &mut Browser, day: &Day, part: &str| {
        wait_for(part, || {
            served.show("leader", day.board.json(&day.state, [0, 0, 0], now()));
            let shown = text(browser, "#creatives");
            if shown.contains(part) { Vec::new() } else { vec![shown] }
        });
    };
    for (width, scheme) in [(1400, "light"), (390, "light"), (1400, "dark"), (390, "dark")] {
        browser.open(&format!("http://{}/", served.address), width, scheme);
        for names in ["picnic, rain-coat, tulips", "your-basket", "teaser"] {
            shows(&mut browser, &day, &format!("Not shown yet: {names}. Rates appear with the first impressions."));
        }
        assert_eq!(browser.evaluate("document.querySelectorAll('#creatives :is(table, rect)').length"), 0);
        assert_eq!(browser.evaluate("document.getElementById('creatives-none').hidden"), true);
        check_look(&mut browser, scheme, &["#creatives .empty", "#creatives h3"]);
        picture(&mut browser, &format!("control-begun-{width}-{scheme}"));
    }
    // Impressions of a minute have taught nothing yet. Those without a posterior have an observed rate at once.
    day.show("spring-sale", "tulips", now() - 60_000_000);
    day.show("back-in-stock", "your-basket", now() - 60_000_000);
    day.publish(now(), true);
    shows(&mut browser, &day, "nothing learned yet");
    let row = |browser: &mut Browser, creative: &str| {
        let row = "[...document.querySelectorAll('#creatives tbody tr')].find((it) => it.cells[0].textContent == ";
        let cells = format!("[...{row}{creative:?}).cells].map((it) => it.textContent).join('|')");
        browser.evaluate(&cells).as_str().unwrap().to_owned()
    };
    assert_eq!(row(&mut browser, "tulips"), "tulips|nothing learned yet|100 %|1|0|0");
    assert_eq!(row(&mut browser, "picnic"), "picnic|not shown yet|0 %|0|0|0");
    assert_eq!(row(&mut browser, "your-basket"), "your-basket||0 %|0–79.3 %|100 %|1|0|0");
    assert_eq!(browser.evaluate("document.querySelectorAll('#creatives rect').length"), 1);
    shows(&mut browser, &day, "Not shown yet: teaser.");
    for (width, scheme) in [(390, "light"), (1400, "dark")] {
        browser.open(&format!("http://{}/", served.address), width, scheme);
        shows(&mut browser, &day, "nothing learned yet");
        check_look(&mut browser, scheme, &["#creatives td.unknown", "#creatives th"]);
        picture(&mut browser, &format!("control-first-{width}-{scheme}"));
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn a_standby_shows_what_it_follows_and_nothing_of_a_leader() {
    let served = Served::new();
    let mut browser = Browser::start();
    browser.open(&format!("http://{}/", served.address), 900, "light");
    wait_for("a page before there is a role", || {
        let state = text(&mut browser, "#state");
        if state == "not ready" { Vec::new() } else { vec![state] }
    });
    let mut following = Following {
        topic: "shop-control",
        group: "shop@control",
        records: 48_211,
        has_caught_up: true,
        version: 17_280,
        changed_at: Some(now() - 3_000_000),
        takes_over: false,
    };
    served.show("standby", following.json(now()));
    wait_for("the standby", || {
        let state = text(&mut browser, "#state");
        if state == "standby" { Vec::new() } else { vec![state] }
    });
    let shown = text(&mut browser, "#standby");
    for part in ["Another process leads", "shop-control", "48,211", "No. 17,280", "shop@control"] {
        assert!(shown.contains(part), "{part:?} is missing in {shown}");
    }
    let seen = "[...document.querySelectorAll('[data-leader]')].some((it) => it.getBoundingClientRect().height > 0)";
    assert_eq!(browser.evaluate(seen), false);
    picture(&mut browser, "control-standby");
    following.takes_over = true;
    served.show("standby", following.json(now()));
    wait_for("the takeover", || {
        let title = text(&mut browser, "#standby-title");
        if title == "Taking over" { Vec::new() } else { vec![title] }
    });
    assert_eq!(browser.complaints, Vec::<String>::new());
}
