//! Spend against plan.

use crate::{
    effect::SpendReport,
    report::{
        markup::{Html, behind, card, note},
        plot::{Frame, Place, Plot, round_above},
        words::{DASH, amount, percent},
    },
};

/// The most campaigns with a card.
const CAMPAIGNS_MAX: usize = 12;

pub(super) fn sections(spend: &[SpendReport]) -> Vec<Html> {
    spend.iter().take(CAMPAIGNS_MAX).enumerate().map(|(at, it)| section(at, it)).collect()
}

/// The sums up to each day.
fn running(days: impl Iterator<Item = i64>) -> Vec<i64> {
    days.scan(0_i64, |sum, day| {
        *sum = sum.saturating_add(day);
        Some(*sum)
    })
    .collect()
}

fn section(at: usize, of: &SpendReport) -> Html {
    let spent = running(of.days.iter().map(|day| day.spent_micros));
    let planned = running(of.days.iter().map_while(|day| day.planned_micros));
    let planned: Vec<i64> = planned.iter().map(|sum| of.total_micros.map_or(*sum, |total| total.min(*sum))).collect();
    let money = |micros: i64| format!("{} {}", amount(micros), of.currency);
    let now = spent.last().copied().unwrap_or(0);
    let title = match (planned.last(), of.total_micros) {
        (Some(plan), _) if *plan > 0 => {
            format!("{}: {} of the plan so far is spent", of.campaign, percent(now as f64 / *plan as f64))
        }
        (_, Some(total)) if total > 0 => {
            let share = of.spent_micros as f64 / total as f64;
            format!("{}: {} of the budget is spent", of.campaign, percent(share))
        }
        _ => format!("{}: {} spent", of.campaign, money(now)),
    };
    let mut to = Html::default();
    let shown = if spent.len() > 1 {
        plot(&mut to, at, of, &spent, &planned);
        "What was spent up to the end of each day. Dashed: the plan."
    } else {
        let plan = planned.last().map_or_else(String::new, |plan| format!(" of {} planned", money(*plan)));
        note(&mut to, format!("{}{plan} on the only day of the log.", money(now)));
        ""
    };
    if !of.is_last_over {
        note(&mut to, "The last day is not over.");
    }
    let mut rows = vec![["Day", "Spent", "Planned", "Spent in all", "Planned in all"].map(str::to_owned).to_vec()];
    for (number, day) in of.days.iter().enumerate() {
        let sum = |sums: &[i64]| sums.get(number).map_or_else(|| DASH.to_owned(), |sum| amount(*sum));
        let planned_micros = day.planned_micros.map_or_else(|| DASH.to_owned(), amount);
        rows.push(vec![day.day.clone(), amount(day.spent_micros), planned_micros, sum(&spent), sum(&planned)]);
    }
    behind(&mut to, &rows);
    card("", &format!("budget-{at}"), &title, shown, &to)
}

fn plot(to: &mut Html, at: usize, of: &SpendReport, spent: &[i64], planned: &[i64]) {
    let most = spent.iter().chain(planned).copied().max().unwrap_or(0);
    let top = round_above(most as f64 / 1e6);
    let days = &of.days;
    let line = |sums: &[i64]| -> Vec<Place> {
        let place = |(number, sum): (usize, &i64)| ((number + 1) as f64 / days.len() as f64, *sum as f64 / 1e6 / top);
        [(0.0, 0.0)].into_iter().chain(sums.iter().enumerate().map(place)).collect()
    };
    let end = |sums: &[i64]| amount(sums.last().copied().unwrap_or(0));
    let plan = if planned.is_empty() { String::new() } else { format!("; {} were planned", end(planned)) };
    let mut plot = Plot::new(Frame {
        id: format!("spend-{at}"),
        is_square: false,
        title: format!("What {} has spent", of.campaign),
        description: format!("A line that rises to {} {} after {} days{plan}.", end(spent), of.currency, days.len()),
        ticks: [top, top / 2.0, 0.0].map(|units| amount((units * 1e6) as i64)).to_vec(),
        axis: [days.first(), days.get(days.len() / 2), days.last()]
            .into_iter()
            .flatten()
            .map(|day| day.day.clone())
            .collect(),
        across: "",
        up: "",
    });
    plot.line("plan", &line(planned));
    plot.line("line", &line(spent));
    plot.finish(to);
}
