//! How good the predictions are: calibration, lift, ranking.

use crate::{
    effect::{Charts, Quality, Tenth},
    evaluation::{Bounded, CurvePoint, Figures},
    report::{
        markup::{Html, behind, card},
        plot::{Frame, Place, Plot, bar, round_above},
        words::{calibration, count, number, percent, range},
    },
};

pub(super) fn sections(charts: &Charts, quality: Option<&Quality>) -> Vec<Html> {
    let Some(quality) = quality else { return Vec::new() };
    let figures = &quality.figures;
    let mut all = Vec::new();
    if !charts.tenths.is_empty() {
        all.push(reliability(&charts.tenths, figures));
        all.extend(lift(&charts.tenths));
    }
    if let (true, Some(auc)) = (!charts.curve.is_empty(), figures.auc) {
        all.push(roc(charts, auc, figures));
        all.push(precision(charts, figures));
    }
    all
}

fn reliability(tenths: &[Tenth], figures: &Figures) -> Html {
    let title = calibration(figures.calibration_ratio, "Nothing has succeeded yet, so predictions cannot be judged");
    let highest = tenths.iter().map(|it| it.predicted.max(it.observed.interval.high)).fold(0.0, f64::max);
    let top = round_above(highest).min(1.0);
    let mut plot = Plot::new(Frame {
        id: "reliability".to_owned(),
        is_square: true,
        title: "Predicted against observed".to_owned(),
        description: format!(
            "Ten dots, one for each tenth of the impressions by their prediction. On the diagonal, as many succeed as \
             predicted. On average {} were predicted and {} happened.",
            figures.predicted.map_or_else(|| "–".to_owned(), percent),
            figures.observed.map_or_else(|| "–".to_owned(), percent)
        ),
        ticks: vec![percent(top), percent(top / 2.0), "0 %".to_owned()],
        axis: vec!["0 %".to_owned(), percent(top / 2.0), percent(top)],
        across: "predicted",
        up: "observed",
    });
    plot.segment("plan", (0.0, 0.0), (1.0, 1.0));
    let places: Vec<Place> = tenths.iter().map(|it| (it.predicted / top, it.observed.value / top)).collect();
    plot.line("line", &places);
    for (it, at) in tenths.iter().zip(&places) {
        plot.segment("whisker", (at.0, it.observed.interval.low / top), (at.0, it.observed.interval.high / top));
        plot.dot("", *at);
    }
    let mut to = Html::default();
    plot.finish(&mut to);
    let mut rows = vec![["Tenth", "Impressions", "Predicted", "Observed", "Range"].map(str::to_owned).to_vec()];
    for (at, it) in tenths.iter().enumerate() {
        let of = &it.observed;
        rows.push(vec![
            name(at, tenths.len()),
            count(it.impressions.round() as u64),
            percent(it.predicted),
            percent(of.value),
            range(of.interval),
        ]);
    }
    behind(&mut to, &rows);
    let shown = "Tenths of the impressions, by prediction. Below the dashed line the prediction promises too much.";
    card("", "reliability-card", &title, shown, &to)
}

fn name(at: usize, count: usize) -> String {
    match at {
        0 => "lowest".to_owned(),
        at if at + 1 == count => "highest".to_owned(),
        at => (at + 1).to_string(),
    }
}

fn lift(tenths: &[Tenth]) -> Option<Html> {
    let lifts: Vec<f64> = tenths.iter().map(|it| it.lift).collect::<Option<_>>()?;
    let (best, worst) = (*lifts.last()?, *lifts.first()?);
    let title = if best >= 1.2 {
        format!("The tenth with the best predictions succeeds {} times as often as the average", number(best))
    } else {
        "Those with the best predictions hardly succeed more often than others".to_owned()
    };
    let most = lifts.iter().copied().fold(1.0, f64::max);
    let mut to = Html::default();
    let mut rows = vec![["Tenth", "Times the average", "Observed", "Range"].map(str::to_owned).to_vec()];
    to.raw("<div class=\"bars\">");
    for (at, it) in tenths.iter().enumerate().rev() {
        let name = name(at, tenths.len());
        to.element("span", &[("class", &"name")], &name);
        bar(&mut to, if lifts[at] < 1.0 { "quiet" } else { "" }, lifts[at] / most);
        to.element("span", &[("class", &"figure")], format!("{:.2} ×", lifts[at]));
        to.element("span", &[("class", &"share")], percent(it.observed.value));
        rows.push(vec![name, format!("{:.2}", lifts[at]), percent(it.observed.value), range(it.observed.interval)]);
    }
    to.raw("</div>");
    behind(&mut to, &rows);
    let shown =
        format!("Tenths of the impressions, best predictions first. The lowest tenth reaches {worst:.2} times.");
    Some(card("", "lift", &title, &shown, &to))
}

fn roc(charts: &Charts, auc: Bounded, figures: &Figures) -> Html {
    let certain = if auc.error() >= 0.000_5 { format!(" ± {:.3}", auc.error()) } else { String::new() };
    let loss = figures.normalised_entropy.map_or_else(String::new, |it| {
        format!(" Normalised entropy {it:.3}: below 1 the predictions say more than the average alone.")
    });
    roc_card(&charts.curve, auc.value, "impression", &format!("ROC curve, AUC {:.3}{certain}.{loss}", auc.value))
}

/// The ROC curve of predictions about things of a kind.
pub(in crate::report) fn roc_card(curve: &[CurvePoint], auc: f64, kind: &str, shown: &str) -> Html {
    let title = match auc {
        value if value >= 0.55 => {
            format!("In {:.0} of 100 pairs, the {kind} that succeeds was ranked first", value * 100.0)
        }
        value if value > 0.45 => "The predictions rank no better than chance".to_owned(),
        _ => "The predictions rank the wrong way round".to_owned(),
    };
    let mut plot = Plot::new(Frame {
        id: "roc".to_owned(),
        is_square: true,
        title: "ROC curve".to_owned(),
        description: format!("A curve above the diagonal is better than chance. The area under it is {auc:.3}."),
        ticks: shares(),
        axis: shares().into_iter().rev().collect(),
        across: "of the others, chosen wrongly",
        up: "of the successes, found",
    });
    plot.segment("plan", (0.0, 0.0), (1.0, 1.0));
    let found = curve.iter().map(|it| (it.false_positive_rate, it.true_positive_rate));
    let places: Vec<Place> = [(0.0, 0.0)].into_iter().chain(found).chain([(1.0, 1.0)]).collect();
    plot.line("line", &places);
    let mut to = Html::default();
    plot.finish(&mut to);
    let mut rows = vec![["Prediction from", "Successes found", "Others chosen"].map(str::to_owned).to_vec()];
    for it in thinned(curve) {
        rows.push(vec![percent(it.threshold), percent(it.true_positive_rate), percent(it.false_positive_rate)]);
    }
    behind(&mut to, &rows);
    card("", "roc-card", &title, shown, &to)
}

fn precision(charts: &Charts, figures: &Figures) -> Html {
    let base = figures.observed.unwrap_or_default();
    let area = figures.pr_auc.map_or(0.0, |it| it.value);
    let title = if base > 0.0 && area / base >= 1.1 {
        format!("Choosing by prediction finds successes {} times as often as chance", number(area / base))
    } else {
        "Choosing by prediction finds successes no more often than chance".to_owned()
    };
    let highest = charts.curve.iter().map(|it| it.precision).fold(base, f64::max);
    let top = round_above(highest).min(1.0);
    let mut plot = Plot::new(Frame {
        id: "precision".to_owned(),
        is_square: true,
        title: "Precision and recall".to_owned(),
        description: format!(
            "A curve of the share of successes among the chosen, against the share of all successes found. The area under it \
             is {area:.3}; chance gives {base:.3}."
        ),
        ticks: vec![percent(top), percent(top / 2.0), "0 %".to_owned()],
        axis: shares().into_iter().rev().collect(),
        across: "of the successes, found",
        up: "of the chosen, successes",
    });
    plot.segment("plan", (0.0, base / top), (1.0, base / top));
    let curve: Vec<Place> = charts.curve.iter().map(|it| (it.true_positive_rate, it.precision / top)).collect();
    plot.line("line", &curve);
    let mut to = Html::default();
    plot.finish(&mut to);
    let mut rows =
        vec![["Prediction from", "Successes found", "Successes among the chosen"].map(str::to_owned).to_vec()];
    for it in thinned(&charts.curve) {
        rows.push(vec![percent(it.threshold), percent(it.true_positive_rate), percent(it.precision)]);
    }
    behind(&mut to, &rows);
    card("", "precision-card", &title, &format!("Precision and recall, PR-AUC {area:.3}. Dashed: chance."), &to)
}

fn shares() -> Vec<String> {
    ["100 %", "50 %", "0 %"].map(str::to_owned).to_vec()
}

/// About twenty points of the curve, for a table.
fn thinned(curve: &[CurvePoint]) -> impl Iterator<Item = &CurvePoint> {
    curve.iter().step_by((curve.len() / 20).max(1))
}
