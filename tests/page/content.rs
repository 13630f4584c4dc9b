//! The page on which people decide about texts, in a real browser, with the real command.

use crate::browser::Browser;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, Stdio},
};

/// Runs a command to its end.
fn aimpoint(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_aimpoint")).current_dir(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn texts_are_approved_edited_and_refused_on_a_page() {
    let folder = tempfile::tempdir().unwrap();
    aimpoint(folder.path(), &["content", "demo", "--out", "."]);
    let written = |name: &str| folder.path().join(name);
    std::fs::remove_file(written("audit.jsonl")).unwrap_or_default();
    let texts = std::fs::read_to_string(written("texts.jsonl")).unwrap();
    let count = texts.lines().count();
    assert!(count >= 5, "{count}");
    let mut review = Command::new(env!("CARGO_BIN_EXE_aimpoint"))
        .current_dir(folder.path())
        .args(["content", "review", "texts.jsonl", "--brief", "brief.toml", "--reviewer", "Anna <b>", "--audit"])
        .args(["page.jsonl", "--out", "page.toml", "--page"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(review.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let address = line.split_whitespace().find(|word| word.starts_with("http://")).unwrap().to_owned();
    let bare = address.split_once('#').unwrap().0.to_owned();

    let mut browser = Browser::start();
    let cards = "document.querySelectorAll('.card').length";
    for (width, scheme) in [(1280, "light"), (390, "light"), (1280, "dark"), (390, "dark")] {
        let place = format!("{width} {scheme}");
        // The same address with another fragment would not be loaded again.
        browser.open("about:blank", width, scheme);
        browser.open(&address, width, scheme);
        until(&mut browser, &place, cards, &Value::from(count));
        let texts = [".text", ".quiet", "#progress", "button", "h1"];
        crate::check_look(&mut browser, &place, &texts);
        crate::picture(&mut browser, &format!("review-{width}-{scheme}"));
    }
    assert_eq!(browser.evaluate("location.hash"), "", "the token is not left where it can be seen");
    assert!(browser.evaluate("document.body.innerText").as_str().unwrap().contains("Anna <b>"));

    browser.evaluate("document.querySelector('.approve').click()");
    until(&mut browser, "approved", cards, &Value::from(count - 1));
    // A refusal says why.
    browser.evaluate("document.querySelector('.refuse').click()");
    browser.evaluate("document.querySelector('.words').requestSubmit()");
    until(&mut browser, "no reason", "document.querySelector('.objections').innerText", &Value::from("say why"));
    browser.evaluate("document.querySelector('textarea').value = 'too dull'");
    browser.evaluate("document.querySelector('.words').requestSubmit()");
    until(&mut browser, "refused", cards, &Value::from(count - 2));
    // An edited text passes the gates.
    browser.evaluate("document.querySelector('.edit').click()");
    browser.evaluate("document.querySelector('textarea').value = 'The best of all, guaranteed'");
    browser.evaluate("document.querySelector('.words').requestSubmit()");
    let objects = "document.querySelector('.objections').innerText.startsWith('claim')";
    until(&mut browser, "a claim", objects, &Value::Bool(true));
    crate::picture(&mut browser, "review-objection");
    browser.evaluate("document.querySelector('textarea').value = 'Made for long days'");
    browser.evaluate("document.querySelector('.words').requestSubmit()");
    until(&mut browser, "edited", cards, &Value::from(count - 3));

    // Without the token, nothing is told and nothing can be decided.
    for (path, method, token, status) in [
        ("texts", "GET", "", 401),
        ("texts", "GET", "Bearer 00", 401),
        ("decisions", "POST", "", 401),
        ("finish", "POST", "", 401),
    ] {
        let ask = format!(
            "fetch('{bare}{path}', {{ method: '{method}', headers: {{ authorization: '{token}' }} }}).then((it) => window.found = it.status)"
        );
        browser.evaluate(&format!("window.found = 0; {ask}"));
        until(&mut browser, path, "window.found", &Value::from(status));
    }
    browser.evaluate("document.getElementById('finish').click()");
    assert!(review.wait().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(rest.contains(&format!("{} texts are left to decide on", count - 3)), "{rest}");

    let audit = std::fs::read_to_string(written("page.jsonl")).unwrap();
    let decisions: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verdicts: Vec<&str> = decisions.iter().map(|it| it["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["approved", "refused", "edited"]);
    assert!(
        decisions.iter().all(|it| it["reviewer"] == "Anna <b>" && it["brief_sha256"].as_str().unwrap().len() == 64)
    );
    assert_eq!(
        (&decisions[1]["reason"], &decisions[2]["new_text"]),
        (&"too dull".into(), &"Made for long days".into())
    );
    // Those three requests without a token are errors of the page, which the browser reports.
    let complaints: Vec<&String> =
        browser.complaints.iter().filter(|it| !it.contains("401") && !it.contains("422")).collect();
    assert_eq!(complaints, Vec::<&String>::new());
}

fn until(browser: &mut Browser, what: &str, expression: &str, expected: &Value) {
    crate::wait_for(what, || {
        let found = browser.evaluate(expression);
        if found == *expected { Vec::new() } else { vec![format!("{expression} is {found}, not {expected}")] }
    });
}
