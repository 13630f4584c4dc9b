//! The page about a user: one file without scripts or links to others. Every text from outside is escaped.

use super::{HeldRecord, Subject};
use crate::cli::held::Standing;
use std::fmt::Write;

/// How the page looks.
const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2.5rem;border-bottom:1px solid #ccc}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #eee}\
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f6f6;padding:.6rem;font-size:.85rem;margin:.3rem 0}\
.muted{color:#666}@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}pre{background:#242424}.muted{color:#999}\
td,th{border-color:#333}h2{border-color:#444}}";

/// Escapes a text, so that it is shown as it is. Control characters are shown as their codes.
fn escaped(text: &str) -> String {
    let mut to = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            '\'' => to.push_str("&#39;"),
            '\n' | '\t' => to.push(letter),
            _ if crate::terminal::moves_a_terminal(letter) => to.extend(letter.escape_unicode()),
            _ => to.push(letter),
        }
    }
    to
}

/// The page.
pub(super) fn page(subject: &Subject<'_>) -> String {
    let mut to = String::new();
    let user = escaped(subject.user);
    write_all(
        &mut to,
        &[
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n",
            "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n",
            "<title>What is held about ",
            &user,
            "</title>\n<style>",
            STYLE,
            "</style>\n</head>\n<body>\n",
            "<h1>What is held about ",
            &user,
            "</h1>\n<p>The id is of a ",
            subject.key_type,
            ". Read at ",
            &escaped(&subject.read_at),
            ".</p>\n",
        ],
    );
    profile(subject, &mut to);
    erasure(subject, &mut to);
    for (standing, title, what) in [
        (Standing::Held, "In use", "Records with the id that count today."),
        (
            Standing::Superseded,
            "Replaced",
            "Older records with the id. Newer ones replace them, and they are about to go.",
        ),
        (
            Standing::Input,
            "Events",
            "Records of the input: what was reported about the user, and requests to erase the user.",
        ),
    ] {
        let records: Vec<&HeldRecord<'_>> = subject.records.iter().filter(|it| it.standing == standing).collect();
        write_all(&mut to, &["<h2>", title, "</h2>\n<p class=\"muted\">", what, "</p>\n"]);
        if records.is_empty() {
            to.push_str("<p>None.</p>\n");
        }
        for it in records {
            record(it, &mut to);
        }
    }
    to.push_str("<h2>What was read</h2>\n<table>\n<tr><th>Topic</th><th>Partitions</th><th>Records</th></tr>\n");
    for read in subject.topics {
        let (partitions, records) = (read.partitions.to_string(), read.records.to_string());
        row(&[&read.topic, &partitions, &records], &mut to);
    }
    to.push_str("</table>\n</body>\n</html>\n");
    to
}

fn profile(subject: &Subject<'_>, to: &mut String) {
    to.push_str("<h2>Profile</h2>\n");
    if let Some(why) = &subject.no_profile {
        write_all(to, &["<p>Not shown: ", &escaped(why), ".</p>\n"]);
    }
    let Some(shown) = &subject.profile else { return };
    // The report's own JSON, so that nothing in it is left out here.
    let value = serde_json::to_value(shown).unwrap_or_default();
    to.push_str("<table>\n");
    for (name, value) in value.as_object().into_iter().flatten().filter(|(_, value)| !value.is_array()) {
        row(&[&name.replace('_', " "), &text(value)], to);
    }
    to.push_str("</table>\n<table>\n<tr><th>Feature</th><th>Value</th><th>Meaning</th></tr>\n");
    for feature in value["features"].as_array().into_iter().flatten() {
        row(&[&text(&feature["name"]), &text(&feature["value"]), &text(&feature["what"])], to);
    }
    to.push_str("</table>\n");
    let memberships = value["memberships"].as_array().filter(|all| !all.is_empty());
    if memberships.is_some() {
        to.push_str("<table>\n<tr><th>Member of</th><th>Since</th><th>Until</th></tr>\n");
    }
    for membership in memberships.into_iter().flatten() {
        row(&[&text(&membership["id"]), &text(&membership["entered_at"]), &text(&membership["expires_at"])], to);
    }
    if memberships.is_some() {
        to.push_str("</table>\n");
    }
    let counts = value["counts"].as_array().filter(|all| !all.is_empty());
    if counts.is_some() {
        to.push_str("<table>\n<tr><th>Counted for campaigns</th><th>Value</th><th>Window</th><th>Events</th></tr>\n");
    }
    for count in counts.into_iter().flatten() {
        row(&[&text(&count["key"]), &text(&count["value"]), &text(&count["window"]), &text(&count["events"])], to);
    }
    if counts.is_some() {
        to.push_str("</table>\n");
    }
}

fn erasure(subject: &Subject<'_>, to: &mut String) {
    if let Some(at) = subject.erased.iter().map(|note| note.erased_at).max() {
        let at = jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |at| at.to_string());
        let count = subject.erased.len().to_string();
        write_all(to, &["<h2>Erasure</h2>\n<p>The user was erased at ", &at, ", in ", &count, " partitions.</p>\n"]);
    }
    if !subject.refused.is_empty() {
        to.push_str(
            "<h2>Refusal</h2>\n<p>The profile has expired. What the user has refused is kept without the id, and counts if \
             the user comes back.</p>\n",
        );
    }
}

fn record(it: &HeldRecord<'_>, to: &mut String) {
    let (partition, offset) = (it.partition.to_string(), it.offset.to_string());
    write_all(
        to,
        &[
            "<p><b>",
            &escaped(it.topic),
            "</b>, partition ",
            &partition,
            ", offset ",
            &offset,
            ", written ",
            &escaped(it.written_at.as_deref().unwrap_or("at an unknown time")),
            "; the id is in its ",
            it.found_in,
            ". <span class=\"muted\">Goes ",
            &escaped(&it.goes),
            ".</span></p>\n",
        ],
    );
    for (name, value) in &it.headers {
        write_all(to, &["<pre>", &escaped(name), ": ", &escaped(value), "</pre>\n"]);
    }
    let content = it.content.as_ref().map_or_else(|| "(null)".to_owned(), |content| format!("{content:#}"));
    write_all(to, &["<pre>", &escaped(&content), "</pre>\n"]);
}

/// A value without the quotes of JSON.
fn text(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A row of a table.
fn row(cells: &[&str], to: &mut String) {
    to.push_str("<tr>");
    for cell in cells {
        write!(to, "<td>{}</td>", escaped(cell)).expect("a text takes everything");
    }
    to.push_str("</tr>\n");
}

fn write_all(to: &mut String, parts: &[&str]) {
    for part in parts {
        to.push_str(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::held::{Note, TopicKind, TopicRead};

    const ATTACK: &str = "<script>alert('x')</script>\"&\u{1b}[31m";

    #[test]
    fn nothing_from_outside_is_more_than_text() {
        let record = HeldRecord {
            topic: ATTACK,
            kind: TopicKind::Log,
            partition: 1,
            offset: 7,
            written_at: Some(ATTACK.to_owned()),
            found_in: "value",
            standing: Standing::Held,
            goes: ATTACK.to_owned(),
            headers: [(ATTACK, ATTACK)].into_iter().collect(),
            content: Some(serde_json::json!({ ATTACK: ATTACK })),
        };
        let read = TopicRead {
            topic: ATTACK.to_owned(),
            kind: TopicKind::Log,
            partitions: 1,
            records: 9,
            cleanup: None,
            retention_ms: None,
        };
        let subject = Subject {
            user: ATTACK,
            key_type: "person",
            read_at: "2026-01-01T00:00:00Z".to_owned(),
            profile: None,
            no_profile: Some(ATTACK.to_owned()),
            refused: &[],
            erased: &[Note { partition: 0, erased_at: 1_700_000_000_000_000 }],
            records: vec![record],
            topics: &[read],
        };
        let page = page(&subject);
        assert!(!page.contains("<script") && !page.contains('\u{1b}'), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("erased at 2023-11-14T22:13:20Z, in 1 partitions"));
        for link in ["src=", "href=", "url(", "@import"] {
            assert!(!page.contains(link), "the page loads something: {link}");
        }
    }
}
