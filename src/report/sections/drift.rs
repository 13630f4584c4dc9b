//! What has changed in scores and features.

use crate::{
    effect::{Drift, FeatureDrift, Shift},
    report::{
        ROWS_MAX,
        markup::{Html, card, note},
        words::{count, maybe, time},
    },
};

pub(super) fn section(of: &Drift) -> Html {
    let mut to = Html::default();
    let moved: Vec<&FeatureDrift> = of.features.iter().filter(|it| it.shift == Some(Shift::Act)).collect();
    let known = of.features.iter().filter(|it| it.psi.is_some()).count();
    let title = match (&moved[..], known) {
        (_, 0) => "It is too early to say whether scores or features have changed".to_owned(),
        ([], _) => "Scores and features have not changed much".to_owned(),
        ([one], _) => format!("{} has changed: find out why", one.feature),
        (several, _) => format!("{} scores and features have changed: find out why", several.len()),
    };
    if of.features.is_empty() {
        note(&mut to, "The decisions of this log carry no numbers to compare.");
        return card("wide", "drift", &title, "", &to);
    }
    to.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Table\"><table><thead><tr>");
    to.raw("<th scope=\"col\" class=\"name\">Number</th><th scope=\"col\">Change</th><th scope=\"col\" class=\"n\">PSI</th>");
    to.raw("<th scope=\"col\" class=\"n\">Mean before</th><th scope=\"col\" class=\"n\">Mean after</th>");
    to.raw("<th scope=\"col\" class=\"n\">Rows before</th><th scope=\"col\" class=\"n\">Rows after</th></tr></thead><tbody>");
    for it in of.features.iter().take(ROWS_MAX) {
        to.raw("<tr>").element("th", &[("scope", &"row"), ("class", &"name")], &it.feature).raw("<td>");
        let (class, word) = match it.shift {
            None => ("tag", "too few rows"),
            Some(Shift::Steady) => ("tag good", "steady"),
            Some(Shift::Watch) => ("tag warn", "watch"),
            Some(Shift::Act) => ("tag bad", "changed"),
        };
        to.element("span", &[("class", &class)], word).raw("</td>");
        let [before, after] = it.means.map(maybe);
        let rows = it.rows.map(count);
        let psi = it.psi.map_or_else(|| "–".to_owned(), |psi| format!("{psi:.2}"));
        for cell in [&psi, &before, &after, &rows[0], &rows[1]] {
            to.element("td", &[("class", &"n")], cell);
        }
        to.raw("</tr>");
    }
    to.raw("</tbody></table></div>");
    let shown = of.second_from.map_or_else(
        || "The log is too short to be compared with itself.".to_owned(),
        |from| {
            format!(
                "The first half of the log against the second, from {} on. PSI, the population stability index: below \
                 0.1 is steady, from 0.25 on is a change.",
                time(from)
            )
        },
    );
    card("wide", "drift", &title, &shown, &to)
}
