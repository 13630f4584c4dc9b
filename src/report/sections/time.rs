//! Click and conversion rates over time.

use crate::{
    effect::{Span, TimePoint, Timeline},
    evaluation::{Interval, business::Rate},
    report::{
        markup::{Html, behind, card, note},
        plot::{Frame, Place, Plot, round_above},
        words::{DASH, count, each, moment, percent, rate},
    },
};

/// The fewest trials of each half of the time for a statement about a change.
const TRIALS_MIN: u64 = 100;

struct Kind {
    id: &'static str,
    name: &'static str,
    of: &'static str,
    rate: fn(&TimePoint) -> Option<Rate>,
    immature: fn(&TimePoint) -> u64,
}

const KINDS: [Kind; 2] = [
    Kind {
        id: "clicks",
        name: "click rate",
        of: "Impressions",
        rate: |point| point.click_rate,
        immature: |point| point.immature_impressions,
    },
    Kind {
        id: "conversions",
        name: "conversion rate",
        of: "Clicks",
        rate: |point| point.conversion_rate,
        immature: |point| point.immature_clicks,
    },
];

pub(super) fn sections(timeline: &Timeline, span: Option<&Span>) -> Vec<Html> {
    if timeline.points.is_empty() || span.is_none() {
        return Vec::new();
    }
    KINDS.iter().map(|kind| section(timeline, kind)).collect()
}

fn section(timeline: &Timeline, kind: &Kind) -> Html {
    let known: Vec<(i64, Rate)> = timeline.points.iter().filter_map(|it| Some((it.from, (kind.rate)(it)?))).collect();
    let mut to = Html::default();
    if known.is_empty() {
        note(&mut to, format!("No {} is old enough for this rate yet.", kind.of.to_lowercase().trim_end_matches('s')));
    } else {
        plot(&mut to, timeline, kind, &known);
        behind(&mut to, &rows(timeline, kind));
    }
    let shown = format!(
        "The {} {}, by when the ad was shown. The band is its range; where a shaded part is, results are still coming in.",
        kind.name,
        each(timeline.width)
    );
    card("", &format!("{}-card", kind.id), &message(kind.name, &known), if known.is_empty() { "" } else { &shown }, &to)
}

/// What has become of the rate, if the ranges of both halves of the time do not meet.
fn message(name: &str, known: &[(i64, Rate)]) -> String {
    let sum = |points: &[(i64, Rate)]| {
        let sums = points.iter().fold((0, 0), |sum, (_, rate)| (sum.0 + rate.count, sum.1 + rate.of));
        Rate::new(sums.0, sums.1, crate::evaluation::Confidence::P95)
    };
    let Some(all) = sum(known) else { return format!("The {name} is not known yet") };
    let (first, second) = known.split_at(known.len() / 2);
    if let (Some(first), Some(second)) = (sum(first), sum(second))
        && first.of.min(second.of) >= TRIALS_MIN
    {
        let meet = |a: Interval, b: Interval| a.low <= b.high && b.low <= a.high;
        if !meet(first.interval, second.interval) {
            let verb = if second.value > first.value { "rose" } else { "fell" };
            return format!("The {name} {verb} from {} to {}", percent(first.value), percent(second.value));
        }
        return format!("The {name} is steady at {}", percent(all.value));
    }
    format!("The {name} is {}", percent(all.value))
}

fn plot(to: &mut Html, timeline: &Timeline, kind: &Kind, known: &[(i64, Rate)]) {
    let width = timeline.width;
    let first = timeline.points.first().map_or(0, |it| it.from);
    let last = timeline.points.last().map_or(0, |it| it.from).saturating_add(width);
    let x = |at: i64| (at - first) as f64 / (last - first).max(1) as f64;
    let middle = |from: i64| x(from + width / 2);
    // Points with few trials have wide ranges, which would press the others to the bottom.
    let highest = known.iter().map(|(_, rate)| rate.value).fold(0.0, f64::max);
    let range = known.iter().map(|(_, rate)| rate.interval.high).fold(0.0, f64::max);
    let top = round_above(range.min(highest * 2.0).max(1e-6)).min(1.0);
    let (low, high) = known
        .iter()
        .fold((f64::INFINITY, 0.0_f64), |(low, high), (_, rate)| (low.min(rate.value), high.max(rate.value)));
    let mut plot = Plot::new(Frame {
        id: kind.id.to_owned(),
        is_square: false,
        title: format!("The {} over time", kind.name),
        description: format!(
            "A line with its range, from {} to {}. The lowest point is {}, the highest {}.",
            moment(first, width),
            moment(last - width, width),
            percent(low),
            percent(high)
        ),
        ticks: vec![percent(top), percent(top / 2.0), "0 %".to_owned()],
        axis: [first, first + (last - width - first) / 2, last - width].map(|at| moment(at, width)).to_vec(),
        across: "",
        up: "",
    });
    if let Some(young) = timeline.points.iter().find(|it| (kind.immature)(it) > 0) {
        plot.area("young", (x(young.from), 0.0), (1.0, 1.0));
    }
    // A gap in time is a gap in the line.
    for run in known.chunk_by(|(one, _), (next, _)| next - one == width) {
        let line = |value: fn(&Rate) -> f64| -> Vec<Place> {
            run.iter().map(|(from, rate)| (middle(*from), value(rate) / top)).collect()
        };
        let (lower, upper) = (line(|rate| rate.interval.low), line(|rate| rate.interval.high));
        plot.band("band", &lower, &upper);
        let values = line(|rate| rate.value);
        plot.line("line", &values);
        if let ([at], [low], [high]) = (&values[..], &lower[..], &upper[..]) {
            plot.segment("whisker", *low, *high);
            plot.dot("", *at);
        }
    }
    plot.finish(to);
}

fn rows(timeline: &Timeline, kind: &Kind) -> Vec<Vec<String>> {
    let mut rows = vec![vec![
        "From".to_owned(),
        kind.of.to_owned(),
        "With a result".to_owned(),
        format!("{} (range)", crate::report::words::capital(kind.name)),
        "Too young".to_owned(),
    ]];
    for point in &timeline.points {
        let (found, young) = ((kind.rate)(point), (kind.immature)(point));
        let counted = found.map_or_else(|| DASH.to_owned(), |rate| count(rate.count));
        let of = found.map_or(0, |rate| rate.of);
        rows.push(vec![moment(point.from, timeline.width), count(of), counted, rate(found), count(young)]);
    }
    rows
}
