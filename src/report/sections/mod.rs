//! The parts of the page, in their order.

mod audiences;
mod creatives;
mod drift;
mod funnel;
mod groups;
mod money;
pub(super) mod predictions;
mod time;
mod trials;
mod unknown;

use super::{
    Origin,
    markup::{Html, note},
    words::{count, maybe_amount, number, percent, range, time as moment},
};
use crate::{
    effect::{EffectReport, GroupReport},
    evaluation::business::Rate,
};

/// The beginning of the page: whose decisions, when, and the figures at a glance.
pub(super) fn masthead(to: &mut Html, report: &EffectReport, origin: &Origin) {
    to.raw(
        "<header><svg class=\"mark\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><circle cx=\"8\" cy=\"8\" r=\"6.2\"></circle>\
         <circle class=\"dot\" cx=\"8\" cy=\"8\" r=\"2.2\"></circle></svg><div class=\"head\">",
    );
    to.element("p", &[("class", &"brand")], format!("Aimpoint · {}", origin.app));
    to.raw("<h1>What the decisions achieved</h1>");
    let span = match &report.span {
        None => "The log has no records.".to_owned(),
        Some(span) => format!(
            "{} decisions from {} to {} UTC. Outcomes are taken as complete until {}.",
            count(report.totals.decisions),
            moment(span.first),
            moment(span.last),
            moment(span.complete_until)
        ),
    };
    to.element("p", &[("class", &"quiet")], span).raw("</div></header>\n");
    tiles(to, &report.all);
}

/// A rate in a tile: the figure, and below it how sure it is.
fn rated(rate: Option<Rate>, immature: u64, what: &str) -> (String, String) {
    match rate {
        Some(rate) => (percent(rate.value), format!("{} · {} {what}", range(rate.interval), count(rate.of))),
        None if immature > 0 => ("not yet".to_owned(), format!("{} {what} are too young", count(immature))),
        None => ("–".to_owned(), format!("no {what}")),
    }
}

fn tiles(to: &mut Html, all: &GroupReport) {
    let mut tiles = vec![("Impressions", count(all.impressions), format!("from {} decisions", count(all.decisions)))];
    let (click, how) = rated(all.click_rate, all.immature_impressions, "impressions");
    tiles.push(("Click rate", click, how));
    let (conversion, how) = rated(all.conversion_rate, all.immature_clicks, "clicks");
    tiles.push(("Conversion rate of clicks", conversion, how));
    for (currency, money) in all.money.iter().take(2) {
        let earned = match money.roas {
            Some(roas) => {
                format!(
                    "{} earned, {} times the spend",
                    maybe_amount(Some(money.revenue_micros), currency),
                    number(roas)
                )
            }
            None if money.revenue_micros > 0 => {
                format!("{} earned", maybe_amount(Some(money.revenue_micros), currency))
            }
            None => "no revenue yet".to_owned(),
        };
        tiles.push(("Spend", maybe_amount(money.spend_micros, currency), earned));
    }
    to.raw("<section class=\"tiles\" aria-label=\"At a glance\">");
    for (name, figure, below) in tiles {
        to.raw("<div class=\"tile\">").element("h2", &[], name).element("strong", &[], figure);
        to.element("small", &[], below).raw("</div>");
    }
    to.raw("</section>\n");
}

/// The sections that have something to say.
pub(super) fn all(report: &EffectReport, origin: &Origin) -> Vec<Html> {
    let mut all = vec![funnel::section(&report.all)];
    let Some(charts) = &report.charts else {
        all.push(unknown::section(report, origin));
        return all;
    };
    all.extend(trials::sections(&report.experiments));
    all.extend(time::sections(&charts.timeline, report.span.as_ref()));
    all.extend(groups::sections(&report.by));
    all.extend(creatives::sections(&charts.creatives));
    all.extend(money::sections(&charts.spend));
    all.extend(predictions::sections(charts, report.all.quality.as_ref()));
    all.push(audiences::section(&charts.audiences));
    all.push(drift::section(&charts.drift));
    all.push(unknown::section(report, origin));
    all
}

/// How to read the page.
pub(super) fn footer(to: &mut Html, report: &EffectReport) {
    to.raw("<footer>");
    note(
        to,
        "A range beside a rate holds the true rate with the confidence of the evaluation, 95 % unless another was asked \
         for. Ranges of two rates that do not meet are a difference; ranges that meet may be chance.",
    );
    if let Some(span) = &report.span {
        note(
            to,
            format!(
                "Rates only count impressions of which the result is known: {} after an impression for clicks, {} for \
                 conversions. All times are UTC.",
                crate::effect::age(span.click_known_after),
                crate::effect::age(span.conversion_known_after)
            ),
        );
    }
    note(to, "Made by aimpoint evaluate. This file loads nothing and sends nothing.");
    to.raw("</footer>\n");
}
