//! The groups that were asked for, in tables.

use crate::{
    effect::{GroupReport, GroupingReport},
    report::{
        ROWS_MAX,
        markup::{Html, card, note, table},
        words::{count, maybe, maybe_amount, rate},
    },
};

pub(super) fn sections(by: &[GroupingReport]) -> Vec<Html> {
    let shown = by.iter().filter(|grouping| !grouping.groups.is_empty());
    shown.enumerate().map(|(at, grouping)| section(at, grouping)).collect()
}

fn section(at: usize, grouping: &GroupingReport) -> Html {
    let mut groups: Vec<&GroupReport> = grouping.groups.iter().collect();
    groups.sort_by(|a, b| b.impressions.cmp(&a.impressions).then_with(|| a.name.cmp(&b.name)));
    let head =
        ["", "Decisions", "Impressions", "Click rate", "Conversion rate", "Spend", "Cost a click", "Revenue per spend"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for group in groups.iter().take(ROWS_MAX) {
        // Without money there is still a row.
        let money: Vec<_> = group.money.iter().map(Some).chain(group.money.is_empty().then_some(None)).collect();
        for (line, money) in money.into_iter().enumerate() {
            let of = |micros: Option<i64>| money.map_or_else(|| "–".to_owned(), |(code, _)| maybe_amount(micros, code));
            let first = |text: String| if line == 0 { text } else { String::new() };
            rows.push(vec![
                first(group.name.clone()),
                first(count(group.decisions)),
                first(count(group.impressions)),
                first(rate(group.click_rate)),
                first(rate(group.conversion_rate)),
                of(money.and_then(|(_, money)| money.spend_micros)),
                of(money.and_then(|(_, money)| money.cpc_micros)),
                maybe(money.and_then(|(_, money)| money.roas)),
            ]);
        }
    }
    let mut to = Html::default();
    table(&mut to, &rows);
    if groups.len() > ROWS_MAX {
        note(&mut to, format!("And {} more groups with fewer impressions.", count((groups.len() - ROWS_MAX) as u64)));
    }
    let name = grouping.by.replace('_', " ").replace('+', " and ");
    card("wide", &format!("groups-{at}"), &format!("By {name}"), "", &to)
}
