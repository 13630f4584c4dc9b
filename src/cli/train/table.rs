//! What a training prints: the data, the metrics, and what options have changed.

use super::BATCH;
use crate::training::{Dataset, Fold, Importance, Part, Pruning, Quantised, Trained};
use std::{
    fmt::Display,
    io::{self, Write},
};

/// How many features the table shows, the most important ones.
const FEATURES_SHOWN: usize = 10;

/// The sizes of the hidden layers in words.
fn layers(hidden: &[usize]) -> String {
    hidden.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Prints the data used and the metrics.
pub(super) fn report(
    to: &mut impl Write,
    data: &Dataset,
    trained: &Trained,
    calibrated: Option<[Option<f64>; 2]>,
) -> io::Result<()> {
    let split = match trained.split {
        "time" => "split by time",
        "random" => "split at random",
        _ => "too few rows to split: the metrics are those of the training rows",
    };
    let members = trained.spec.members;
    let hidden = layers(&trained.spec.hidden);
    writeln!(to, "{} rows, {} features; {split}", data.rows(), data.features.len())?;
    for note in trained.notes.iter().filter(|note| !note.is_warning()) {
        writeln!(to, "note: {note}")?;
    }
    let networks = match members {
        1 => format!("a network of {hidden} units"),
        _ => format!("{members} networks of {hidden} units, averaged into one of {}", trained.network.units()),
    };
    writeln!(to, "{networks}; up to {} epochs tried, {} used", trained.epochs, trained.best_epoch)?;
    if trained.split != "none" {
        writeln!(to, "then retrained for as many epochs on the training and validation rows together")?;
    }
    writeln!(to)?;
    writeln!(
        to,
        "{:<12}{:>8}{:>11}{:>10}{:>9}{:>9}{:>10}{:>10}",
        "part", "rows", "positives", "log loss", "NE", "AUC", "accuracy", "pred/obs"
    )?;
    for Part { name, summary } in trained.parts.iter().chain(&trained.measured.baselines) {
        let [loss, entropy, auc, accuracy, ratio] =
            [summary.log_loss, summary.normalised_entropy, summary.auc, summary.accuracy, summary.calibration_ratio]
                .map(figure);
        let (rows, positives) = (summary.count, summary.positives);
        writeln!(to, "{name:<12}{rows:>8}{positives:>11}{loss:>10}{entropy:>9}{auc:>9}{accuracy:>10}{ratio:>10}")?;
    }
    writeln!(to)?;
    if !trained.measured.baselines.is_empty() {
        let written = if trained.measured.quantisation.is_some() { "before it was quantised" } else { "as written" };
        writeln!(
            to,
            "train, validation: the networks before they were trained on the validation rows; test: the model {written};\n\
             base rate, logistic: baselines fitted to the other rows (their positive rate, a logistic regression), on the test rows.\n\
             NE: log loss relative to always predicting the part's own rate; below 1 is better.\n\
             pred/obs: predicted positives divided by observed ones."
        )?;
    }
    if let Some(spread) = trained.measured.spread.as_ref().filter(|spread| spread.normalised_entropy.len() > 1) {
        let one_by_one: Vec<_> = spread.normalised_entropy.iter().map(|entropy| format!("{entropy:.4}")).collect();
        writeln!(
            to,
            "spread over seeds: the {members} single networks have NE {} to {} on the test rows, {} on average ({})",
            format_args!("{:.4}", spread.min),
            format_args!("{:.4}", spread.max),
            format_args!("{:.4}", spread.mean),
            one_by_one.join(", ")
        )?;
    }
    if trained.measured.bins.len() > 1 {
        writeln!(to)?;
        writeln!(to, "calibration on the test rows, from lowest to highest score:")?;
        writeln!(to, "{:>8}{:>11}{:>10}", "rows", "predicted", "observed")?;
        for bin in &trained.measured.bins {
            writeln!(to, "{:>8}{:>11.4}{:>10.4}", bin.count, bin.predicted, bin.observed)?;
        }
    }
    if let Some([Some(before), Some(after)]) = calibrated {
        writeln!(
            to,
            "calibrated on the validation rows: log loss of the test rows {before:.4} before, {after:.4} after"
        )?;
    }
    let importance = &trained.measured.importance;
    if !importance.is_empty() {
        writeln!(to)?;
        writeln!(to, "what the model uses: how much worse it gets on the test rows if a feature is shuffled:")?;
        writeln!(to, "{:>10}{:>10}{:>10}  feature", "log loss", "+/-", "AUC")?;
        for Importance { feature, log_loss, deviation, auc } in importance.iter().take(FEATURES_SHOWN) {
            writeln!(to, "{log_loss:>10.4}{deviation:>10.4}{:>10}  {feature}", figure(auc.map(|auc| -auc)))?;
        }
        if importance.len() > FEATURES_SHOWN {
            writeln!(to, "and {} more, which are in the card", importance.len() - FEATURES_SHOWN)?;
        }
    }
    report_folds(to, &trained.measured.folds)
}

/// A metric, or a dash.
fn figure(metric: Option<f64>) -> String {
    metric.map_or_else(|| "-".to_owned(), |metric| format!("{metric:.4}"))
}

/// Prints the folds by time, with their mean and spread.
fn report_folds(to: &mut impl Write, folds: &[Fold]) -> io::Result<()> {
    if folds.is_empty() {
        return Ok(());
    }
    writeln!(to)?;
    writeln!(to, "by time, each fold trained on all rows before those that it is tested on:")?;
    writeln!(
        to,
        "{:<8}{:>11}{:>8}{:>10}{:>9}{:>9}{:>14}",
        "fold", "trained on", "rows", "log loss", "NE", "AUC", "logistic NE"
    )?;
    let of = |fold: &Fold| {
        let model = fold.model.unwrap_or_default();
        let logistic = fold.logistic.and_then(|it| it.normalised_entropy);
        [model.log_loss, model.normalised_entropy, model.auc, logistic]
    };
    for (number, fold) in (1..).zip(folds) {
        let [loss, entropy, auc, logistic] = of(fold).map(figure);
        let rows = fold.model.map_or_else(|| "-".to_owned(), |it| it.count.to_string());
        writeln!(to, "{number:<8}{:>11}{rows:>8}{loss:>10}{entropy:>9}{auc:>9}{logistic:>14}", fold.trained_on)?;
    }
    let [means, deviations]: [[Option<f64>; 4]; 2] = {
        let each = [0, 1, 2, 3].map(|at| folds.iter().filter_map(|fold| of(fold)[at]).collect::<Vec<f64>>());
        let mean = |values: &[f64]| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        let deviation = |values: &Vec<f64>| {
            let centre = mean(values)?;
            Some(mean(&values.iter().map(|it| (it - centre).powi(2)).collect::<Vec<_>>())?.sqrt())
        };
        [each.each_ref().map(|values| mean(values)), each.each_ref().map(deviation)]
    };
    for (name, figures) in [("mean", means), ("spread", deviations)] {
        let [loss, entropy, auc, logistic] = figures.map(figure);
        writeln!(to, "{name:<8}{:>11}{:>8}{loss:>10}{entropy:>9}{auc:>9}{logistic:>14}", "", "")?;
    }
    if folds.iter().any(|fold| fold.model.is_none()) {
        writeln!(to, "a fold without figures has only one label in the rows before it")?;
    }
    Ok(())
}

/// Two values in words.
fn both(what: &str, [before, after]: &[impl Display; 2]) -> String {
    format!("{what} {before} before, {after} after")
}

/// Prints what pruning and quantisation did.
pub(super) fn report_size(to: &mut impl Write, trained: &Trained, seconds: Option<[f64; 2]>) -> io::Result<()> {
    let losses = |losses: &[Option<f64>; 2]| both("log loss of the test rows", &losses.map(figure));
    if let Some(Pruning { units, parameters, bytes, log_loss, epochs }) = &trained.measured.pruning {
        let sizes = [both("hidden units", units), both("weights", parameters), both("bytes", bytes)].join("; ");
        writeln!(to, "\npruned, and trained on for {epochs} epochs: {sizes}; {}", losses(log_loss))?;
    }
    if let Some(Quantised { bytes, log_loss, difference_max }) = &trained.measured.quantisation {
        let (bytes, losses) = (both("bytes", bytes), losses(log_loss));
        writeln!(to, "\nquantised to 8-bit integers: {bytes}; {losses}; scores differ by at most {difference_max:.4}")?;
    }
    if let Some([before, after]) = seconds.map(|times| times.map(|time| time * 1e6)) {
        writeln!(
            to,
            "ONNX Runtime took {before:.2} microseconds per row before, {after:.2} after, up to {BATCH} rows at once"
        )?;
    }
    Ok(())
}
