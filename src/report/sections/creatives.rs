//! The creatives of each campaign with the ranges of their click rates.

use crate::{
    effect::CreativeReport,
    evaluation::business::Rate,
    report::{
        ROWS_MAX,
        markup::{Html, card, note},
        plot::{round_above, spread},
        words::{count, percent, rate},
    },
};

/// The most campaigns with a card.
const CAMPAIGNS_MAX: usize = 20;

pub(super) fn sections(creatives: &[CreativeReport]) -> Vec<Html> {
    let campaigns = creatives.chunk_by(|a, b| a.campaign == b.campaign);
    campaigns.take(CAMPAIGNS_MAX).enumerate().map(|(at, creatives)| section(at, creatives)).collect()
}

fn section(at: usize, creatives: &[CreativeReport]) -> Html {
    let mut shown: Vec<&CreativeReport> = creatives.iter().collect();
    let value = |it: &CreativeReport| it.click_rate.map_or(-1.0, |rate| rate.value);
    shown.sort_by(|a, b| value(b).total_cmp(&value(a)).then_with(|| a.creative.cmp(&b.creative)));
    let rates = creatives.iter().filter_map(|it| it.click_rate);
    let top = round_above(rates.map(|rate| rate.interval.high).fold(0.0, f64::max)).min(1.0);
    let mut to = Html::default();
    to.raw("<div class=\"scroll\" tabindex=\"0\" role=\"group\" aria-label=\"Table\"><table><thead><tr>");
    for name in ["Creative", "Impressions", "Click rate (range)"] {
        to.element("th", &[("scope", &"col"), ("class", &if name == "Creative" { "name" } else { "n" })], name);
    }
    to.raw("<th class=\"scale\" aria-hidden=\"true\"><span>0 %</span>").element("span", &[], percent(top));
    to.raw("</th>").element("th", &[("scope", &"col"), ("class", &"n")], "Conversion rate (range)");
    to.raw("</tr></thead><tbody>");
    for it in shown.iter().take(ROWS_MAX) {
        to.raw("<tr>").element("th", &[("scope", &"row"), ("class", &"name")], &it.creative);
        to.element("td", &[("class", &"n")], count(it.impressions));
        to.element("td", &[("class", &"n")], rate(it.click_rate));
        to.raw("<td class=\"scale\" aria-hidden=\"true\">");
        if let Some(rate) = it.click_rate {
            spread(&mut to, rate.value, (rate.interval.low, rate.interval.high), (0.0, top), None);
        }
        to.raw("</td>").element("td", &[("class", &"n")], rate(it.conversion_rate)).raw("</tr>");
    }
    to.raw("</tbody></table></div>");
    if shown.len() > ROWS_MAX {
        note(&mut to, format!("And {} more creatives.", shown.len() - ROWS_MAX));
    }
    let campaign = creatives.first().map_or("", |it| &it.campaign);
    card("wide", &format!("creatives-{at}"), &message(campaign, &shown), "The bar is the range of the click rate.", &to)
}

/// Which creative is best, if that can be said.
fn message(campaign: &str, best_first: &[&CreativeReport]) -> String {
    let rated: Vec<(&str, Rate)> =
        best_first.iter().filter_map(|it| Some((it.creative.as_str(), it.click_rate?))).collect();
    match &rated[..] {
        [] => format!("{campaign}: it is too early to compare the creatives"),
        [(only, rate)] => format!("{campaign}: {only} is clicked by {}", percent(rate.value)),
        [(best, first), rest @ ..] => {
            let beaten = rest.iter().filter(|(_, other)| other.interval.high < first.interval.low).count();
            let second = rest.first().map_or(0.0, |(_, rate)| rate.value);
            if beaten == rest.len() {
                format!("{campaign}: {best} is clicked most, {} against {}", percent(first.value), percent(second))
            } else {
                format!("{campaign}: no creative is clearly the best yet")
            }
        }
    }
}
