//! From decisions to conversions.

use crate::{
    effect::GroupReport,
    report::{
        markup::{Html, behind, card},
        plot::bar,
        words::{count, percent},
    },
};

pub(super) fn section(all: &GroupReport) -> Html {
    let title = match (all.click_rate, all.conversion_rate) {
        (Some(click), Some(conversion)) => {
            format!(
                "{} of impressions are clicked, and {} of clicks convert",
                percent(click.value),
                percent(conversion.value)
            )
        }
        (Some(click), None) => format!("{} of impressions are clicked", percent(click.value)),
        (None, _) if all.impressions > 0 => "Impressions were shown, and it is too early for rates".to_owned(),
        (None, _) => "Nothing was shown yet".to_owned(),
    };
    let mut steps = vec![("Decisions", all.decisions), ("Offers", all.offers)];
    steps.extend((all.wins > 0).then_some(("Auctions won", all.wins)));
    steps.push(("Impressions", all.impressions));
    steps.extend((all.viewable > 0).then_some(("Seen", all.viewable)));
    steps.extend([("Clicks", all.clicks), ("Conversions", all.conversions)]);
    let most = steps.iter().map(|(_, many)| *many).max().unwrap_or(0).max(1) as f64;
    let (mut to, mut before) = (Html::default(), None);
    let mut rows = vec![["Step", "Count", "Of the step before"].map(str::to_owned).to_vec()];
    to.raw("<div class=\"bars\">");
    for (name, many) in steps {
        let share = before.filter(|before| *before > 0).map(|before: u64| percent(many as f64 / before as f64));
        to.element("span", &[("class", &"name")], name);
        bar(&mut to, "", many as f64 / most);
        to.element("span", &[("class", &"figure")], count(many));
        to.element("span", &[("class", &"share")], share.as_deref().unwrap_or_default());
        rows.push(vec![name.to_owned(), count(many), share.unwrap_or_else(|| "–".to_owned())]);
        before = Some(many);
    }
    to.raw("</div>");
    behind(&mut to, &rows);
    let shown =
        "All that happened, also of impressions that are still young. At the right: the share of the step before.";
    card("wide", "funnel", &title, shown, &to)
}
