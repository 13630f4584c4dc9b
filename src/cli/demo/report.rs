//! The demo's report: figures and charts in plain text.

mod flight;

use super::stage::Outcome;
use crate::evaluation::{Prediction, Summary, reliability};
use std::io::{self, Write};

pub(super) use flight::{flight, offers, why};

/// Width of a full bar, in columns.
const BAR: usize = 48;

/// Bins of the score histogram.
const BINS: usize = 20;

/// No line is longer, in columns.
pub(super) const WIDTH: usize = 100;

/// Events, speed, latency, scores, segments, and three decisions in full.
pub(super) fn print(to: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let Outcome { counts, bulk_events, bulk_time, latency, decisions, .. } = outcome;
    title(to, "Results")?;
    for (name, count) in [
        ("events", counts.events),
        ("decisions", counts.decisions),
        ("  without a usable score", counts.fallbacks),
        ("duplicates", counts.duplicates),
        ("suppressed", counts.suppressed_total()),
        ("dead letters", counts.dead_letters_total()),
    ] {
        writeln!(to, "  {name:<26}{:>10}", grouped(count))?;
    }
    let rate = *bulk_events as f64 / bulk_time.as_secs_f64().max(1e-9);
    writeln!(
        to,
        "  {:<26}{:>10}   {} events from the first decision to the last",
        "events per second",
        grouped(rate as u64),
        grouped(*bulk_events as u64)
    )?;
    let at = |quantile| format!("{:.1}", latency.value_at_quantile(quantile) as f64 / 1e3);
    writeln!(
        to,
        "  {:<26}{:>10} / {} / {} ms   p50, p99, p99.9 of {} paced events",
        "latency",
        at(0.5),
        at(0.99),
        at(0.999),
        grouped(latency.len())
    )?;
    writeln!(to, "  {:36}   the embedded broker shows a decision before its commit;", "")?;
    writeln!(to, "  {:36}   a real broker adds that wait", "")?;

    title(to, "Scores: the probability of another purchase within 30 days")?;
    let mut bins = [0_usize; BINS];
    for score in decisions.iter().filter_map(|decision| decision.score.raw) {
        bins[((score * BINS as f64) as usize).min(BINS - 1)] += 1;
    }
    let most = bins.iter().copied().max().unwrap_or_default().max(1);
    for (bin, count) in bins.iter().enumerate() {
        let (from, until) = (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64);
        writeln!(to, "  {from:.2}-{until:.2}  {:>7}  {}", grouped(*count as u64), bar(*count as f64 / most as f64))?;
    }

    title(to, "Segments: decisions that placed their user in each")?;
    let mut sizes: Vec<(&str, usize)> = Vec::new();
    for segment in decisions.iter().flat_map(|decision| &decision.segments) {
        match sizes.iter_mut().find(|(id, _)| *id == segment.id) {
            Some((_, size)) => *size += 1,
            None => sizes.push((&segment.id, 1)),
        }
    }
    sizes.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    for (id, size) in &sizes {
        let share = *size as f64 / decisions.len() as f64;
        writeln!(to, "  {id:<18}{:>7}  {:>4.1} %  {}", grouped(*size as u64), share * 100.0, bar(share))?;
    }

    // Those of the flight are the last ones, and the only ones with campaigns.
    let flown = outcome.flight.as_ref().map_or(decisions.len(), |flight| flight.decisions.len());
    let of_which = if outcome.flight.is_some() { " of the campaigns' days" } else { "" };
    title(to, &format!("Three decisions in full: the highest, the median and the lowest score{of_which}"))?;
    let mut scored: Vec<_> =
        decisions[decisions.len() - flown..].iter().filter(|decision| decision.score.raw.is_some()).collect();
    scored.sort_by(|a, b| b.score.raw.unwrap_or_default().total_cmp(&a.score.raw.unwrap_or_default()));
    for index in [0, scored.len() / 2, scored.len().saturating_sub(1)] {
        if let Some(decision) = scored.get(index) {
            for line in wrapped(&String::from_utf8_lossy(&decision.payload), WIDTH - 4) {
                writeln!(to, "  {line}")?;
            }
        }
    }
    Ok(())
}

/// Compares the scores with what the users did afterwards.
pub(super) fn effect(to: &mut impl Write, predictions: &[Prediction], unripe: usize) -> io::Result<()> {
    title(to, "Scores against outcomes, from 1998 on (not used in training)")?;
    let summary = Summary::of(predictions);
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    writeln!(
        to,
        "  {} decisions, {} followed by a purchase within 30 days; {} are still open",
        grouped(summary.count as u64),
        grouped(summary.positives as u64),
        grouped(unripe as u64)
    )?;
    for (name, value, meaning) in [
        ("AUC", summary.auc, "how well it ranks: 0.5 is random, 1 is perfect"),
        ("log loss", summary.log_loss, "error of its probabilities: lower is better"),
        (
            "normalised entropy",
            summary.normalised_entropy,
            "log loss relative to predicting the base rate: below 1 is better",
        ),
        ("calibration ratio", summary.calibration_ratio, "predicted purchases divided by observed ones: 1 is exact"),
    ] {
        writeln!(to, "  {name:<20}{:>8}   {meaning}", or_dash(value))?;
    }
    writeln!(to, "\n  predicted and observed rates, in ten equal-sized groups by score")?;
    for bin in reliability(predictions, 10) {
        writeln!(to, "  {:>6}  predicted {:.3}  {}", grouped(bin.count as u64), bin.predicted, bar(bin.predicted))?;
        writeln!(to, "  {:>6}  observed  {:.3}  {}", "", bin.observed, bar(bin.observed))?;
    }
    Ok(())
}

/// The next three commands to try.
pub(super) fn next(to: &mut impl Write) -> io::Result<()> {
    title(to, "Next")?;
    for (command, what) in [
        ("aimpoint check --offline --config deploy/demo/aimpoint.toml", "what the demo computes"),
        ("make model", "export rows, train, write ONNX"),
        ("aimpoint reference config", "every key; then aimpoint run"),
    ] {
        writeln!(to, "  {command:<61}{what}")?;
    }
    writeln!(to, "  (aimpoint is target/release/aimpoint)")
}

pub(super) fn title(to: &mut impl Write, title: &str) -> io::Result<()> {
    writeln!(to, "\n{title}\n")
}

/// A bar for a share from 0 to 1, drawn to an eighth of a column.
fn bar(share: f64) -> String {
    let eighths = (share.clamp(0.0, 1.0) * (BAR * 8) as f64).round() as usize;
    let part = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
    "█".repeat(eighths / 8) + part
}

/// A number with spaces between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// JSON text in lines, broken after commas. A member that is longer has a line of its own.
pub(super) fn wrapped(json: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for part in json.split_inclusive(',') {
        let line = lines.last().map_or(0, |line| line.chars().count());
        if line > 0 && line + part.chars().count() > width {
            lines.push("  ".to_owned());
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(part);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_json_is_broken_after_commas_and_nothing_is_lost() {
        let json = r#"{"a":"bb","c":[1,22,333],"d":"eeeeeeeeee"}"#;
        let lines = wrapped(json, 14);
        // The last member is longer than a line, and stays whole.
        let expected = [r#"{"a":"bb","#, r#"  "c":[1,22,"#, "  333],", r#"  "d":"eeeeeeeeee"}"#];
        assert_eq!(lines, expected);
        assert_eq!(lines.iter().map(|line| line.trim_start()).collect::<String>(), json);
    }

    #[test]
    fn numbers_and_bars_are_drawn_to_scale() {
        assert_eq!(
            [grouped(0), grouped(999), grouped(41_847), grouped(1_000_000)],
            ["0", "999", "41 847", "1 000 000"]
        );
        assert_eq!((bar(0.0), bar(1.0), bar(0.5)), (String::new(), "█".repeat(BAR), "█".repeat(BAR / 2)));
        assert_eq!(bar(1.0 / 384.0), "▏");
    }
}
