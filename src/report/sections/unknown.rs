//! What is not known yet, and what could not be used.

use crate::{
    effect::{EffectReport, Totals},
    report::{
        Origin,
        markup::{Html, behind, card},
        words::{capital, count, maybe_amount},
    },
};

/// The most lines that are shown of a fault.
const LINES_MAX: usize = 5;

pub(super) fn section(report: &EffectReport, origin: &Origin) -> Html {
    let all = &report.all;
    let totals = &report.totals;
    let mut to = Html::default();
    let mut items: Vec<String> = all.unknown.iter().map(|why| format!("{}.", capital(why))).collect();
    items.extend(missing(totals));
    let title = if all.immature_impressions > 0 || all.immature_labels > 0 || all.immature_clicks > 0 {
        "Some results are still to come"
    } else if items.is_empty() && origin.faults.iter().all(|(_, count, _)| *count == 0) {
        "Nothing is missing"
    } else {
        "What is not known"
    };
    to.raw("<ul class=\"plain\">");
    for item in &items {
        to.element("li", &[], item);
    }
    for (what, number, first) in origin.faults.iter().filter(|(_, count, _)| *count > 0) {
        to.raw("<li>").text(lines(*number, what)).raw("<ul class=\"lines\">");
        for line in first.iter().take(LINES_MAX) {
            to.element("li", &[], line);
        }
        to.raw("</ul></li>");
    }
    to.raw("</ul>");
    let mut rows = vec![["What the log holds", "Count"].map(str::to_owned).to_vec()];
    let counts = [
        ("Decisions", totals.decisions),
        ("Decisions that are there twice", totals.decisions_double),
        ("Decisions of other applications", totals.decisions_foreign),
        ("Outcomes that belong to a decision", totals.joined),
        ("Outcomes that were reported twice", totals.double),
        ("Outcomes that came too late", totals.late),
        ("Outcomes without a known decision", totals.orphan),
        ("Outcomes that contradict what is known", totals.rejected),
    ];
    rows.extend(counts.map(|(name, number)| vec![name.to_owned(), count(number)]));
    behind(&mut to, &rows);
    card("wide", "unknown", title, "", &to)
}

fn lines(number: u64, what: &str) -> String {
    if number == 1 { format!("1 line is {what}:") } else { format!("{} lines are {what}:", count(number)) }
}

/// What the counts of the log say is missing.
fn missing(totals: &Totals) -> Vec<String> {
    let counts = [
        (
            totals.orphan,
            "outcomes have no known decision, or one older than its windows. Are all decisions in the log?",
        ),
        (totals.late, "outcomes came too late to be counted."),
        (totals.rejected, "outcomes contradict what is known, such as a price in another currency."),
        (
            totals.other_creative,
            "impressions showed another creative than the decision’s. They count for the decision’s.",
        ),
        (
            totals.after_label,
            "clicks or conversions came after their result was taken as known. They count, but in no rate.",
        ),
        (totals.forgotten, "offers or impressions were forgotten, because there were too many."),
    ];
    let counted = counts.into_iter().filter(|(number, _)| *number > 0);
    let mut all: Vec<String> = counted.map(|(number, what)| format!("{} {what}", count(number))).collect();
    for (currency, micros) in &totals.unattributed_micros {
        all.push(format!("{} were spent on wins without a known decision.", maybe_amount(Some(*micros), currency)));
    }
    all
}
