//! The verdict as a table and in words.

use super::{
    Verdict,
    evidence::{Evidence, Quality, percent},
};
use crate::inference::PromotionSpec;
use std::fmt::Write as _;

/// The table of all evidence, and the sentence.
pub(super) fn table(verdict: &Verdict) -> String {
    let mut text = String::new();
    let Verdict { champion, challenger, confidence, margin, evidence, sentence, .. } = verdict;
    let level = percent(*confidence);
    let width = champion.chars().count().max(challenger.chars().count()).max(10);
    for it in evidence {
        let (paired, low, high) = (&it.paired, it.paired.interval.low, it.paired.interval.high);
        push(
            &mut text,
            format_args!("{}: {} rows of {} users, {} positives", it.source, paired.rows, paired.users, it.positives),
        );
        push(&mut text, format_args!("  {:<width$} {:>10} {:>8} {:>9}", "version", "log loss", "AUC", "pred/obs"));
        for (name, quality) in [(champion, it.champion), (challenger, it.challenger)] {
            let Quality { log_loss, auc, calibration_ratio } = quality;
            let [loss, auc, ratio] = [(log_loss, 5), (auc, 4), (calibration_ratio, 3)]
                .map(|(value, digits)| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}")));
            push(&mut text, format_args!("  {name:<width$} {loss:>10} {auc:>8} {ratio:>9}"));
        }
        push(
            &mut text,
            format_args!(
                "  the log loss of {challenger} is lower by {:.5} ({level} interval {low:.5} to {high:.5}, by users; margin {margin})",
                paired.difference
            ),
        );
        for line in &it.left_out {
            push(&mut text, format_args!("  left out: {line}"));
        }
    }
    push(&mut text, format_args!("{sentence}"));
    text
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a text grows");
}

/// The verdict in words.
pub(super) fn sentence(
    [champion, challenger]: [&str; 2],
    evidence: &[Evidence],
    spec: &PromotionSpec,
    is_dry_run: bool,
) -> String {
    let by = match spec.margin {
        0.0 => String::new(),
        margin => format!(" by more than {margin}"),
    };
    let level = percent(spec.confidence);
    let against: Vec<String> = evidence
        .iter()
        .filter(|it| !it.is_better)
        .map(|it| {
            let (low, high) = (it.paired.interval.low, it.paired.interval.high);
            if high < 0.0 {
                format!("on the {} it is worse: its log loss is higher by {:.5}", it.source, -it.paired.difference)
            } else {
                format!("on the {} the difference may be as small as {low:.5} (up to {high:.5})", it.source)
            }
        })
        .collect();
    if against.is_empty() {
        let on = evidence.iter().map(|it| format!("the {}", it.source)).collect::<Vec<_>>().join(" and ");
        let then = if is_dry_run { "; nothing was changed, because of --dry-run" } else { "" };
        return format!("{challenger} is better than {champion}{by} on {on}, with {level} confidence{then}");
    }
    format!(
        "{challenger} is not shown to be better than {champion}{by} with {level} confidence: {}; nothing was changed",
        against.join("; ")
    )
}
