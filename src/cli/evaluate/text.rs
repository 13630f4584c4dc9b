//! The report in tables and words.
//!
//! A figure that is not known is a dash, and the lines below the table say why.

use super::feeds::{Faults, Report};
use crate::{
    effect::{AttributionReport, EffectReport, GroupReport, PolicyReport, Span, Totals, TouchKind, TrialReport, age},
    evaluation::{
        Bounded, Interval, attribution,
        business::Rate,
        off_policy::{Estimate, Report as Estimates},
    },
    targeting::money::Micros,
};
use std::fmt::Write as _;

/// What is not known.
const DASH: &str = "-";

/// The most groups of a grouping that are shown.
const GROUPS_SHOWN: usize = 50;

/// The report as text.
pub(super) fn report(of: &Report) -> String {
    let mut lines = Vec::new();
    head(of, &mut lines);
    let EffectReport { all, by, experiments, attribution, policy, policies, .. } = &of.effect;
    tables("all", std::slice::from_ref(all), &mut lines);
    for grouping in by {
        tables(&grouping.by, &grouping.groups, &mut lines);
        if let Some(absolute) = grouping.field_error.and_then(|it| it.absolute) {
            lines.push(format!("  calibration error over {}: {}", grouping.by, number(absolute)));
        }
    }
    for trial in experiments {
        experiment(trial, &mut lines);
    }
    if let Some(attribution) = attribution {
        attributed(attribution, &mut lines);
    }
    if let Some(name) = policy {
        estimates(name, policies, &mut lines);
    }
    let mut text = lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

fn time(micros: i64) -> String {
    jiff::Timestamp::from_microsecond(micros).map_or_else(|_| micros.to_string(), |time| time.to_string())
}

fn head(of: &Report, lines: &mut Vec<String>) {
    let Totals { decisions, decisions_double, decisions_foreign, joined, double, late, before_decision, .. } =
        &of.effect.totals;
    let Totals { orphan, rejected, other_creative, after_label, forgotten, unattributed_micros, .. } =
        &of.effect.totals;
    match &of.effect.span {
        None => lines.push("log             no records".to_owned()),
        Some(Span { first, last, last_outcome, complete_until, click_known_after, conversion_known_after }) => {
            lines.push(format!("log             {} to {}", time(*first), time(*last)));
            let outcome = last_outcome.map_or_else(|| "none".to_owned(), time);
            lines.push(format!("last outcome    {outcome}; taken as complete until {}", time(*complete_until)));
            lines.push(format!(
                "labels          known {} after an impression for clicks, {} for conversions",
                age(*click_known_after),
                age(*conversion_known_after)
            ));
        }
    }
    lines.push(format!(
        "decisions       {decisions}, {decisions_double} duplicates, {decisions_foreign} of other applications"
    ));
    lines.push(format!(
        "outcomes        {joined} joined, {double} duplicates, {late} late ({before_decision} before their decision), {orphan} \
         orphan (no known decision, or one older than its windows), {rejected} rejected"
    ));
    for (count, what) in [
        (*other_creative, "impressions showed another creative than the decision's; they count for the decision's"),
        (*after_label, "clicks or conversions came after their label was known; they count, but not as labels"),
        (*forgotten, "offers or impressions were forgotten, because there were too many; see control.touches_max"),
    ] {
        if count > 0 {
            lines.push(format!("                {count} {what}"));
        }
    }
    for (currency, micros) in unattributed_micros {
        lines.push(format!(
            "                {} {currency} of the spend have no known decision, or one older than its windows",
            Micros(*micros)
        ));
    }
    for (name, Faults { count, first }) in [("unreadable", &of.unreadable), ("rejected", &of.rejected)] {
        if *count > 0 {
            lines.push(format!("{name:<16}{count} lines"));
            lines.extend(first.iter().map(|line| format!("                {line}")));
        }
    }
}

/// A number with about four digits.
fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        format!("{value:.1}")
    } else if size >= 0.01 || size == 0.0 {
        format!("{value:.4}")
    } else {
        format!("{value:.2e}")
    }
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn rate(of: Option<Rate>) -> String {
    let range = |interval: Interval| format!("{:.2} to {:.2}", interval.low * 100.0, interval.high * 100.0);
    of.map_or_else(|| DASH.to_owned(), |rate| format!("{} ({})", percent(rate.value), range(rate.interval)))
}

fn bounded(of: Option<Bounded>) -> String {
    match of {
        None => DASH.to_owned(),
        // What the sketch cannot tell is shown if it would change a digit.
        Some(it) if it.error() >= 0.000_05 => format!("{} ±{:.4}", number(it.value), it.error()),
        Some(it) => number(it.value),
    }
}

/// Rows in columns: the first to the left, the others to the right.
fn table(rows: &[Vec<String>], lines: &mut Vec<String>) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let mut line = String::from("  ");
        for (column, cell) in row.iter().enumerate() {
            let padding = " ".repeat(widths[column] - cell.chars().count());
            let glue = if column == 0 { "" } else { "  " };
            let parts = if column == 0 { [cell.as_str(), &padding] } else { [padding.as_str(), cell] };
            line.extend([glue, parts[0], parts[1]]);
        }
        lines.push(line);
    }
}

fn titled(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|title| (*title).to_owned()).collect()
}

/// What happened, the money and the predictions of some groups.
fn tables(by: &str, groups: &[GroupReport], lines: &mut Vec<String>) {
    let (shown, rest) = groups.split_at(groups.len().min(GROUPS_SHOWN));
    lines.extend([String::new(), format!("{by}: {}", if by == "all" { "every decision" } else { "by group" })]);
    if shown.is_empty() {
        lines.push("  no decisions".to_owned());
        return;
    }
    let mut rows = vec![titled(&[
        "",
        "decisions",
        "wins",
        "win rate",
        "impressions",
        "viewable",
        "clicks",
        "CTR",
        "conversions",
        "CVR",
    ])];
    for group in shown {
        let count = |count: u64| count.to_string();
        rows.push(vec![
            group.name.clone(),
            count(group.decisions),
            count(group.wins),
            rate(group.win_rate),
            count(group.impressions),
            count(group.viewable),
            count(group.clicks),
            rate(group.click_rate),
            count(group.conversions),
            rate(group.conversion_rate),
        ]);
    }
    table(&rows, lines);
    money(shown, lines);
    predictions(shown, lines);
    for group in shown {
        lines.extend(group.unknown.iter().map(|why| format!("  {}: {why}", group.name)));
    }
    if !rest.is_empty() {
        lines.push(format!("  and {} more groups; --format json has them", rest.len()));
    }
}

fn money(groups: &[GroupReport], lines: &mut Vec<String>) {
    let mut rows = vec![titled(&["", "spend", "revenue", "ROAS", "eCPM", "cost per click", "cost per conversion"])];
    for group in groups {
        for (currency, money) in &group.money {
            let amount = |micros: Option<i64>| micros.map_or_else(|| DASH.to_owned(), |it| Micros(it).to_string());
            rows.push(vec![
                format!("{} {currency}", group.name),
                amount(money.spend_micros),
                amount(Some(money.revenue_micros)),
                money.roas.map_or_else(|| DASH.to_owned(), number),
                amount(money.ecpm_micros),
                amount(money.cpc_micros),
                amount(money.cpa_micros),
            ]);
        }
    }
    if rows.len() > 1 {
        table(&rows, lines);
    }
}

fn predictions(groups: &[GroupReport], lines: &mut Vec<String>) {
    let mut rows = vec![titled(&[
        "",
        "labels",
        "predicted",
        "observed",
        "calibration",
        "ECE",
        "log loss",
        "NE",
        "Brier",
        "AUC",
        "PR-AUC",
        "AUC within users",
    ])];
    for group in groups {
        let Some(quality) = &group.quality else { continue };
        let it = &quality.figures;
        let plain = |value: Option<f64>| value.map_or_else(|| DASH.to_owned(), number);
        let mut users = plain(quality.user_auc.and_then(|users| users.value));
        if quality.users_one_in > 1 {
            write!(users, " (1 user in {})", quality.users_one_in).unwrap_or_default();
        }
        rows.push(vec![
            group.name.clone(),
            it.rows.to_string(),
            plain(it.predicted),
            plain(it.observed),
            plain(it.calibration_ratio),
            bounded(it.ece),
            plain(it.log_loss),
            plain(it.normalised_entropy),
            plain(it.brier),
            bounded(it.auc),
            bounded(it.pr_auc),
            users,
        ]);
    }
    if rows.len() > 1 {
        table(&rows, lines);
    }
}

fn experiment(of: &TrialReport, lines: &mut Vec<String>) {
    let what = if of.kind == "models" { "between models" } else { "of the campaign" };
    lines.extend([String::new(), format!("experiment {what} {:?}, by user", of.name)]);
    let mut rows = vec![titled(&["", "planned", "users", "clicked", "converted", "revenue"])];
    for arm in &of.arms {
        rows.push(vec![
            arm.arm.clone(),
            arm.planned.map_or_else(|| DASH.to_owned(), percent),
            arm.users.to_string(),
            arm.clicked.map_or_else(|| DASH.to_owned(), |clicked| clicked.to_string()),
            arm.converted.to_string(),
            Micros(arm.revenue_micros).to_string(),
        ]);
    }
    table(&rows, lines);
    if of.users_one_in > 1 {
        lines.push(format!("  of 1 user in {}", of.users_one_in));
    }
    if let Some(ratio) = of.ratio {
        let verdict = if ratio.is_mismatch { "NOT as declared" } else { "as declared" };
        let any_time =
            of.ratio_any_time.map_or_else(String::new, |it| format!("; at any time p = {}", number(it.p_value)));
        lines.push(format!("  split: {verdict} (p = {}{any_time})", number(ratio.p_value)));
    }
    lines.extend(of.notes.iter().map(|note| format!("  {note}")));
    for it in &of.comparisons {
        let p = it.once.p_value.map_or_else(|| DASH.to_owned(), number);
        lines.push(format!("  {}: {} (p = {p})", it.metric, it.words));
        if let Some(any_time) = it.any_time {
            let Interval { low, high } = any_time.interval;
            // In the unit of the words.
            let (scale, unit) = if it.metric == "revenue" { (1.0, "") } else { (100.0, " points") };
            let range = format!("{:.3} to {:.3}{unit}", low * scale, high * scale);
            lines.push(format!("      at any time: {range} (p = {})", number(any_time.p_value)));
        }
    }
}

/// The conversions and the money that each campaign earned, by model.
fn attributed(of: &AttributionReport, lines: &mut Vec<String>) {
    let touch = if of.touch == TouchKind::Click { "clicks" } else { "impressions" };
    lines.extend([String::new(), format!("attribution: conversions after {touch} of the last {}", age(of.lookback))]);
    let money = of.revenue.iter().map(|(currency, it)| (currency.as_str(), it));
    for (what, it) in [("conversions", &of.conversions)].into_iter().chain(money.filter(|(_, it)| it.total > 0.0)) {
        let models = ["first", "last", "linear", "position", "time decay", "Markov", "Shapley"];
        let mut rows = vec![titled(&[&[what, "touches"][..], &models].concat())];
        for (at, (name, touches)) in of.channels.iter().zip(&of.touches).enumerate() {
            let credit = |model| {
                let credits = it.credits.get(model).and_then(Option::as_ref);
                credits.and_then(|credits| credits.get(at)).map_or_else(|| DASH.to_owned(), |it| format!("{it:.1}"))
            };
            let credits = attribution::Model::ALL.iter().map(credit);
            rows.push([name.clone(), touches.to_string()].into_iter().chain(credits).collect());
        }
        table(&rows, lines);
        lines.push(format!("  of {:.1} in all; {:.1} followed no touch", it.total, it.direct));
    }
    lines.push(format!("  {} users were touched, and no conversion followed in time", of.lost));
    if of.cut > 0 {
        lines.push(format!("  of {} journeys, only the last 256 touches count", of.cut));
    }
    if of.users_one_in > 1 {
        lines.push(format!("  of 1 user in {}", of.users_one_in));
    }
}

fn estimates(name: &str, policies: &[PolicyReport], lines: &mut Vec<String>) {
    lines.extend([String::new(), format!("policy {name:?}: what it would have earned an impression")]);
    for of in policies {
        lines.push(format!("  {}: {} of the log {}", of.campaign, of.reward, rate(of.logged)));
        if let Some(why) = &of.unknown {
            lines.push(format!("      not known: {why}"));
        }
        if let Some(Estimates {
            rows,
            effective_sample_size,
            clipped_share,
            weight_mean,
            weight_max,
            ips,
            snips,
            doubly_robust,
            left_out,
            ..
        }) = of.estimate
        {
            let shown = |value: Option<f64>| value.map_or_else(|| DASH.to_owned(), number);
            lines.push(format!(
                "      {rows} impressions, worth {} of its own; weights: mean {}, largest {}, {} clipped",
                shown(effective_sample_size),
                shown(weight_mean),
                shown(weight_max),
                clipped_share.map_or_else(|| DASH.to_owned(), percent)
            ));
            if left_out > 0 {
                lines.push(format!("      {left_out} rows cannot be weighed"));
            }
            let rows = [("IPS", ips), ("SNIPS", snips), ("DR", doubly_robust)];
            let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, it)| estimate(name, it)).collect();
            table(&rows, lines);
        }
        for (count, what) in [
            (of.immature, "impressions are too young for their reward"),
            (of.other_creatives, "decisions chose among other creatives than the configuration says, and are left out"),
            (of.without_propensity, "decisions without a propensity or with an unknown creative are left out"),
            (of.creatives_with_rules as u64, "creatives have a rule; the estimate takes it that everybody fits"),
        ] {
            if count > 0 {
                lines.push(format!("      {count} {what}"));
            }
        }
        if of.users_one_in > 1 {
            lines.push(format!("      of 1 user in {}", of.users_one_in));
        }
    }
}

fn estimate(name: &str, of: Option<Estimate>) -> Vec<String> {
    let range = |name: &str, interval: Option<Interval>| {
        interval.map_or_else(
            || format!("{name} {DASH}"),
            |it| format!("{name} {} to {}", percent(it.low), percent(it.high)),
        )
    };
    match of {
        None => vec![format!("    {name}"), DASH.to_owned()],
        Some(it) => {
            vec![format!("    {name}"), percent(it.value), range("normal", it.normal), range("bootstrap", it.bootstrap)]
        }
    }
}
