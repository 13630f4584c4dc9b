//! Experiments and their verdicts.

use crate::{
    effect::{ComparisonReport, TrialReport},
    evaluation::Interval,
    report::{
        markup::{Html, behind, card, note},
        plot::{round_above, spread},
        words::{DASH, amount, capital, count, number, percent},
    },
};

pub(super) fn sections(trials: &[TrialReport]) -> Vec<Html> {
    trials.iter().enumerate().map(|(at, trial)| section(at, trial)).collect()
}

/// Whether a difference is settled (1 or -1), or not yet (0).
fn settled(of: &ComparisonReport) -> i32 {
    match of.any_time {
        Some(it) if it.interval.low > 0.0 => 1,
        Some(it) if it.interval.high < 0.0 => -1,
        _ => 0,
    }
}

fn title(trial: &TrialReport) -> String {
    let name = &trial.name;
    if trial.ratio.is_some_and(|ratio| ratio.is_mismatch) {
        return format!("{name}: users are not split as planned, so trust no difference");
    }
    let found = |sign: i32| trial.comparisons.iter().find(|it| settled(it) == sign);
    let what = |it: &ComparisonReport| match it.metric {
        "click" => "clicks",
        "conversion" => "conversions",
        _ => "revenue",
    };
    match (found(1), found(-1)) {
        (Some(it), _) => format!("{name}: {} brings more {} than {}", it.arm, what(it), it.against),
        (None, Some(it)) => format!("{name}: {} brings fewer {} than {}", it.arm, what(it), it.against)
            .replace("fewer revenue", "less revenue"),
        (None, None) if trial.comparisons.is_empty() => format!("{name}: there is nothing to compare yet"),
        (None, None) => format!("{name}: no difference is settled yet"),
    }
}

fn section(at: usize, trial: &TrialReport) -> Html {
    let mut to = Html::default();
    to.raw("<ul class=\"verdicts\">");
    for it in &trial.comparisons {
        let (class, word) = match (settled(it), it.once.interval.covers(0.0)) {
            (1, _) => ("tag good", "settled"),
            (-1, _) => ("tag bad", "settled"),
            (_, false) => ("tag warn", "not settled"),
            (_, true) => ("tag", "no difference"),
        };
        to.raw("<li>").element("span", &[("class", &class)], word).raw("<div>");
        to.element("p", &[], format!("{}.", capital(&it.words)));
        difference(&mut to, it);
        to.raw("</div></li>");
    }
    to.raw("</ul>");
    for words in &trial.notes {
        note(&mut to, format!("{}.", capital(words)));
    }
    let mut rows = vec![["Arm", "Planned", "Users", "Clicked", "Converted", "Revenue"].map(str::to_owned).to_vec()];
    for arm in &trial.arms {
        rows.push(vec![
            arm.arm.clone(),
            arm.planned.map_or_else(|| DASH.to_owned(), percent),
            count(arm.users),
            arm.clicked.map_or_else(|| DASH.to_owned(), count),
            count(arm.converted),
            amount(arm.revenue_micros),
        ]);
    }
    behind(&mut to, &rows);
    let kind = if trial.kind == "models" { "Experiment between models" } else { "Experiment of a campaign" };
    let sample =
        if trial.users_one_in > 1 { format!(" Over 1 user in {}.", trial.users_one_in) } else { String::new() };
    let split = match trial.ratio {
        Some(ratio) if ratio.is_mismatch => format!(" The split is not as planned (p = {}).", number(ratio.p_value)),
        Some(_) => " The split is as planned.".to_owned(),
        None => String::new(),
    };
    let shown = format!("{kind}, by user: who was only offered the arm counts, too.{split}{sample}");
    card("wide", &format!("trial-{at}"), &title(trial), &shown, &to)
}

/// The difference with the range that holds however often one looks, else that of one look, on a scale around zero.
fn difference(to: &mut Html, of: &ComparisonReport) {
    let Interval { low, high } = of.any_time.map_or(of.once.interval, |it| it.interval);
    let reach = round_above(low.abs().max(high.abs()));
    let label = |value: f64| {
        let sign = if value > 0.0 { "+" } else { "" };
        if of.metric == "revenue" {
            format!("{sign}{}", number(value))
        } else {
            format!("{sign}{} points", number(value * 100.0))
        }
    };
    to.raw("<div class=\"difference\">").element("span", &[("class", &"quiet")], label(-reach));
    spread(to, of.once.difference, (low, high), (-reach, reach), Some(0.0));
    to.element("span", &[("class", &"quiet")], label(reach)).raw("</div>");
}
