//! How a model was trained and how good it is, as one page for people.
//!
//! Owns the page. The figures are those of the model card, whose JSON has them all. Guarantees and limits are those of
//! [`super`].

use super::{
    ROWS_MAX, head,
    markup::{Html, Rows, behind, card, note, table},
    plot::{Frame, Place, Plot, bar, round_above},
    sections::predictions::roc_card,
    words::{DASH, calibration, count, maybe, percent, range},
};
use crate::evaluation::{Bin, Confidence, CurvePoint, Summary, wilson};

/// The most features with a bar.
const FEATURES_MAX: usize = 20;

/// The importance of a feature.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureShare {
    /// The feature.
    pub feature: String,
    /// By how much the log loss rises if its values are shuffled.
    pub log_loss: f64,
    /// The standard deviation over the shuffles.
    pub deviation: f64,
    /// By how much the AUC falls; `None` if the rows have one label.
    pub auc: Option<f64>,
}

/// What the page says of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelReport {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What it was trained on, in a sentence.
    pub lead: String,
    /// The figures by part, the test rows among them as `test`.
    pub parts: Vec<(String, Summary)>,
    /// The figures of simpler models on the test rows.
    pub baselines: Vec<(String, Summary)>,
    /// The loss of the part `validation`, or of all rows without one, after each epoch, from the first on: the lowest of the
    /// networks, the mean, and the highest.
    pub learning: Vec<[f64; 3]>,
    /// The epochs that the model was trained for in the end.
    pub best_epoch: usize,
    /// Predicted and observed rates of the test rows.
    pub bins: Vec<Bin>,
    /// Their ROC curve.
    pub curve: Vec<CurvePoint>,
    /// The importance of the features, the most important first.
    pub importance: Vec<FeatureShare>,
    /// What was noticed.
    pub notes: Vec<String>,
    /// The settings and the hashes, by name.
    pub facts: Vec<(String, String)>,
}

impl ModelReport {
    fn test(&self) -> Option<&Summary> {
        self.parts.iter().find(|(name, _)| name == "test").map(|(_, summary)| summary)
    }
}

/// The page.
pub fn model_html(report: &ModelReport) -> String {
    let mut page = Html::default();
    head(&mut page, format!("The model {} {}", report.name, report.version));
    masthead(&mut page, report);
    page.raw("<main>\n");
    page.add(&figures(report));
    for section in [learning(report), reliability(report), ranking(report), importance(report)].into_iter().flatten() {
        page.add(&section);
    }
    page.add(&noticed(report)).add(&settings(report)).raw("</main>\n<footer>");
    note(
        &mut page,
        "The test rows were never trained on. A range beside a rate holds the true rate with a probability of 95 %.",
    );
    note(&mut page, "Made by aimpoint train. This file loads nothing and sends nothing.");
    page.raw("</footer>\n</body>\n</html>\n");
    page.finish()
}

fn masthead(to: &mut Html, report: &ModelReport) {
    to.raw(
        "<header><svg class=\"mark\" viewBox=\"0 0 16 16\" aria-hidden=\"true\"><circle cx=\"8\" cy=\"8\" r=\"6.2\"></circle>\
         <circle class=\"dot\" cx=\"8\" cy=\"8\" r=\"2.2\"></circle></svg><div class=\"head\">",
    );
    to.element("p", &[("class", &"brand")], "Aimpoint · model card");
    to.element("h1", &[], format!("{} {}", report.name, report.version));
    to.element("p", &[("class", &"quiet")], &report.lead).raw("</div></header>\n");
    let Some(test) = report.test() else { return };
    let tiles = [
        ("AUC", maybe(test.auc), "0.5 is chance, 1 ranks all successes first".to_owned()),
        ("Normalised entropy", maybe(test.normalised_entropy), "below 1 it beats the average alone".to_owned()),
        ("Log loss", maybe(test.log_loss), "nats for each row".to_owned()),
        ("Predicted / observed", maybe(test.calibration_ratio), "above 1 it promises too much".to_owned()),
        ("Test rows", count(test.count as u64), format!("{} of them positive", count(test.positives as u64))),
    ];
    to.raw("<section class=\"tiles\" aria-label=\"On the test rows\">");
    for (name, figure, below) in tiles {
        to.raw("<div class=\"tile\">").element("h2", &[], name).element("strong", &[], figure);
        to.element("small", &[], below).raw("</div>");
    }
    to.raw("</section>\n");
}

/// The figures by part, and those of simpler models.
fn figures(report: &ModelReport) -> Html {
    let entropy = |summary: &Summary| summary.normalised_entropy;
    let logistic = report.baselines.iter().find(|(name, _)| name == "logistic").and_then(|(_, it)| entropy(it));
    let title = match (report.test().and_then(entropy), logistic) {
        (Some(own), _) if own >= 1.0 => "It predicts no better than the average alone",
        (Some(own), Some(other)) if own <= other => "It beats the average and a logistic regression",
        (Some(_), Some(_)) => "It beats the average, but a logistic regression is better",
        (Some(_), None) => "It beats the average alone",
        (None, _) => "There are too few rows to test it",
    };
    let columns = ["", "Rows", "Positive", "Log loss", "NE", "AUC", "Predicted / observed"];
    let mut rows: Rows = vec![columns.map(str::to_owned).to_vec()];
    let baselines = report.baselines.iter().map(|(name, summary)| (format!("{name}, on the test rows"), summary));
    for (name, of) in report.parts.iter().map(|(name, of)| (name.clone(), of)).chain(baselines) {
        let (rows_of, positives) = (count(of.count as u64), count(of.positives as u64));
        let [loss, entropy, auc, ratio] = [of.log_loss, of.normalised_entropy, of.auc, of.calibration_ratio].map(fine);
        rows.push(vec![name, rows_of, positives, loss, entropy, auc, ratio]);
    }
    let mut to = Html::default();
    table(&mut to, &rows);
    card("wide", "figures", title, "The model and simpler ones. NE: normalised entropy.", &to)
}

/// A figure with four digits, by which models are compared.
fn fine(value: Option<f64>) -> String {
    value.map_or_else(|| DASH.to_owned(), |value| format!("{value:.4}"))
}

fn learning(report: &ModelReport) -> Option<Html> {
    let all = &report.learning;
    let (first, last) = (all.first()?, all.last()?);
    let lowest = all.iter().map(|it| it[0]).fold(f64::INFINITY, f64::min);
    let highest = all.iter().map(|it| it[2]).fold(f64::NEG_INFINITY, f64::max);
    let margin = ((highest - lowest) * 0.05).max(1e-9);
    let (low, high) = (lowest - margin, highest + margin);
    let has_validation = report.parts.iter().any(|(name, _)| name == "validation");
    let rows = if has_validation { "validation rows" } else { "rows that it learned from" };
    let title = if last[1] < first[1] {
        format!("It learned for {} epochs, until the loss no longer fell", count(report.best_epoch as u64))
    } else if has_validation {
        "It learned nothing that holds for other rows".to_owned()
    } else {
        "It learned nothing".to_owned()
    };
    let tick = |share: f64| format!("{:.4}", low + share * (high - low));
    let mut plot = Plot::new(Frame {
        id: "learning".to_owned(),
        is_square: false,
        title: format!("Loss of the {rows} by epoch"),
        description: format!(
            "A line that begins at {:.4} and ends at {:.4} after {} epochs.",
            first[1],
            last[1],
            all.len()
        ),
        ticks: vec![tick(1.0), tick(0.5), tick(0.0)],
        axis: vec!["epoch 1".to_owned(), format!("epoch {}", all.len())],
        across: "",
        up: if has_validation {
            "log loss of the validation rows"
        } else {
            "log loss of the rows that it learned from"
        },
    });
    let across = |at: usize| if all.len() > 1 { at as f64 / (all.len() - 1) as f64 } else { 0.5 };
    let up = |value: f64| (value - low) / (high - low);
    if all.iter().any(|it| it[2] > it[0]) {
        for part in [0, 2] {
            let edge: Vec<Place> = all.iter().enumerate().map(|(at, it)| (across(at), up(it[part]))).collect();
            plot.line("line quiet", &edge);
        }
    }
    let mean: Vec<Place> = all.iter().enumerate().map(|(at, it)| (across(at), up(it[1]))).collect();
    plot.line("line", &mean);
    if (1..=all.len()).contains(&report.best_epoch) {
        plot.segment("plan", (across(report.best_epoch - 1), 0.0), (across(report.best_epoch - 1), 1.0));
    }
    let mut to = Html::default();
    plot.finish(&mut to);
    let mut rows: Rows = vec![["Epoch", "Lowest", "Mean", "Highest"].map(str::to_owned).to_vec()];
    for (at, it) in all.iter().enumerate().step_by(all.len().div_ceil(ROWS_MAX)) {
        rows.push([vec![(at + 1).to_string()], it.map(|loss| format!("{loss:.4}")).to_vec()].concat());
    }
    behind(&mut to, &rows);
    let shown =
        "The mean over the networks, and the lowest and highest of them. Dashed: where the final training ended.";
    Some(card("wide", "learning-card", &title, shown, &to))
}

fn reliability(report: &ModelReport) -> Option<Html> {
    let bins = &report.bins;
    let ratio = report.test()?.calibration_ratio;
    let observed = |it: &Bin| wilson((it.observed * it.count as f64).round() as u64, it.count as u64, Confidence::P95);
    let highest = bins.iter().filter_map(|it| Some(it.predicted.max(observed(it)?.high))).reduce(f64::max)?;
    let title = calibration(ratio, "No test row is positive, so predictions cannot be judged");
    let top = round_above(highest).min(1.0);
    let mut plot = Plot::new(Frame {
        id: "reliability".to_owned(),
        is_square: true,
        title: "Predicted against observed".to_owned(),
        description: format!(
            "{} dots, each for as many test rows, by their prediction. On the diagonal, as many are positive as predicted.",
            bins.len()
        ),
        ticks: vec![percent(top), percent(top / 2.0), "0 %".to_owned()],
        axis: vec!["0 %".to_owned(), percent(top / 2.0), percent(top)],
        across: "predicted",
        up: "observed",
    });
    plot.segment("plan", (0.0, 0.0), (1.0, 1.0));
    let places: Vec<Place> = bins.iter().map(|it| (it.predicted / top, it.observed / top)).collect();
    plot.line("line", &places);
    let mut rows: Rows = vec![["Part", "Rows", "Predicted", "Observed", "Range"].map(str::to_owned).to_vec()];
    for (number, (it, at)) in bins.iter().zip(&places).enumerate() {
        let interval = observed(it)?;
        plot.segment("whisker", (at.0, interval.low / top), (at.0, interval.high / top));
        plot.dot("", *at);
        let name = format!("{} of {}", number + 1, bins.len());
        rows.push(vec![name, count(it.count as u64), percent(it.predicted), percent(it.observed), range(interval)]);
    }
    let mut to = Html::default();
    plot.finish(&mut to);
    behind(&mut to, &rows);
    let shown = "Equal parts of the test rows, by prediction. Below the dashed line the prediction promises too much.";
    Some(card("", "reliability-card", &title, shown, &to))
}

fn ranking(report: &ModelReport) -> Option<Html> {
    let auc = report.test()?.auc.filter(|_| !report.curve.is_empty())?;
    Some(roc_card(&report.curve, auc, "row", &format!("ROC curve of the test rows, AUC {auc:.4}.")))
}

fn importance(report: &ModelReport) -> Option<Html> {
    let all = &report.importance;
    let most = all.first()?.log_loss;
    let title =
        if most > 0.0 { format!("It relies most on {}", all[0].feature) } else { "It relies on no feature".to_owned() };
    let mut to = Html::default();
    to.raw("<div class=\"bars\">");
    for it in all.iter().take(FEATURES_MAX) {
        to.element("span", &[("class", &"name")], &it.feature);
        bar(&mut to, if it.log_loss > 0.0 { "" } else { "quiet" }, if most > 0.0 { it.log_loss / most } else { 0.0 });
        to.element("span", &[("class", &"figure")], format!("{:+.4}", it.log_loss));
        let auc = it.auc.map_or_else(String::new, |auc| format!("AUC {:+.4}", 0.0 - auc));
        to.element("span", &[("class", &"share")], auc);
    }
    to.raw("</div>");
    let mut rows: Rows =
        vec![["Feature", "Log loss rises by", "Deviation", "AUC falls by"].map(str::to_owned).to_vec()];
    for it in all.iter().take(ROWS_MAX) {
        let cells = [format!("{:.5}", it.log_loss), format!("{:.5}", it.deviation), fine(it.auc)];
        rows.push([vec![it.feature.clone()], cells.to_vec()].concat());
    }
    behind(&mut to, &rows);
    if all.len() > FEATURES_MAX {
        let rest = all.len() - FEATURES_MAX;
        note(&mut to, format!("And {} more features that matter less.", count(rest as u64)));
    }
    let shown = "By how much the log loss of the test rows rises if the values of a feature are shuffled among them.";
    Some(card("wide", "importance", &title, shown, &to))
}

fn noticed(report: &ModelReport) -> Html {
    let mut to = Html::default();
    let title = if report.notes.is_empty() { "Nothing was noticed in the rows" } else { "What was noticed" };
    for text in &report.notes {
        note(&mut to, text);
    }
    card("", "notes", title, "", &to)
}

fn settings(report: &ModelReport) -> Html {
    let mut rows: Rows = vec![["Setting", "Value"].map(str::to_owned).to_vec()];
    rows.extend(report.facts.iter().map(|(name, value)| vec![name.clone(), value.clone()]));
    let mut to = Html::default();
    table(&mut to, &rows);
    card("", "settings", "How it was made", "", &to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Prediction;

    fn summary(probability: f64) -> Summary {
        let rows: Vec<Prediction> = (0..100).map(|at| Prediction { probability, label: at % 4 == 0 }).collect();
        Summary::of(&rows)
    }

    #[test]
    fn a_model_without_test_rows_has_a_page_and_names_are_escaped() {
        let report = ModelReport {
            name: "<b>".to_owned(),
            version: "1".to_owned(),
            lead: "Few rows.".to_owned(),
            notes: vec!["1 of 2 & more".to_owned()],
            ..ModelReport::default()
        };
        let page = model_html(&report);
        for part in ["There are too few rows to test it", "&lt;b&gt; 1", "1 of 2 &amp; more", "Few rows."] {
            assert!(page.contains(part), "{part:?} is missing in:\n{page}");
        }
        assert!(!page.contains("<b>") && !page.contains("NaN") && !page.contains("<svg class=\"chart\""), "{page}");
    }

    #[test]
    fn each_title_says_what_the_figures_say() {
        let bins =
            vec![Bin { count: 50, predicted: 0.5, observed: 0.2 }, Bin { count: 50, predicted: 0.5, observed: 0.3 }];
        let mut report = ModelReport {
            parts: vec![("validation".to_owned(), summary(0.5)), ("test".to_owned(), summary(0.5))],
            baselines: vec![("logistic".to_owned(), summary(0.25))],
            learning: vec![[0.6, 0.65, 0.7], [0.5, 0.55, 0.6], [0.5, 0.54, 0.6]],
            best_epoch: 2,
            bins,
            importance: vec![
                FeatureShare { feature: "recency".to_owned(), log_loss: 0.2, deviation: 0.01, auc: Some(0.1) },
                FeatureShare { feature: "noise".to_owned(), log_loss: -0.01, deviation: 0.01, auc: None },
            ],
            ..ModelReport::default()
        };
        let page = model_html(&report);
        for part in [
            "It predicts no better than the average alone",
            "It learned for 2 epochs, until the loss no longer fell",
            "Loss of the validation rows by epoch",
            "Predictions are too high: 2.00 times what happens",
            "It relies most on recency",
            "AUC -0.1000",
        ] {
            assert!(page.contains(part), "{part:?} is missing in:\n{page}");
        }
        report.parts[1].1.normalised_entropy = Some(0.9);
        report.baselines[0].1.normalised_entropy = Some(0.8);
        report.learning.reverse();
        let page = model_html(&report);
        for part in ["It beats the average, but a logistic regression is better", "It learned nothing that holds"] {
            assert!(page.contains(part), "{part:?} is missing in:\n{page}");
        }
        // Without a part of validation rows, the losses are those of the rows that it learned from.
        let few = ModelReport { parts: vec![("all".to_owned(), summary(0.5))], ..report.clone() };
        let few = model_html(&few);
        assert!(few.contains("Loss of the rows that it learned from by epoch") && !few.contains("validation rows"));
        // Each picture has its numbers in a table.
        assert_eq!(page.matches("class=\"chart\"").count(), 2);
        assert_eq!(page.matches("<summary>Show the numbers</summary>").count(), 3);
    }
}
