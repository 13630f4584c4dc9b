//! The demo's report: figures and charts in plain text.

use super::{Decision, Outcome};
use crate::evaluation::{Prediction, Summary, reliability};
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// Width of a full bar, in columns.
const BAR: usize = 48;

/// Bins of the score histogram.
const BINS: usize = 20;

/// Events, speed, latency, scores, segments, and three decisions in full.
pub(super) fn print(to: &mut impl Write, outcome: &Outcome) -> io::Result<()> {
    let Outcome { counts, bulk_events, bulk_time, latency, decisions } = outcome;
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
        "  {:<26}{:>10} / {} / {} ms   p50 / p99 / p99.9 of {} events sent one by one",
        "latency",
        at(0.5),
        at(0.99),
        at(0.999),
        grouped(latency.len())
    )?;
    writeln!(
        to,
        "  {:26}{:>10}   the embedded broker shows a decision before its commit; a real broker adds that wait",
        "", ""
    )?;

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

    campaigns(to, decisions)?;

    title(to, "Three decisions in full: the highest, the median and the lowest score")?;
    let mut scored: Vec<_> = decisions.iter().filter(|decision| decision.score.raw.is_some()).collect();
    scored.sort_by(|a, b| b.score.raw.unwrap_or_default().total_cmp(&a.score.raw.unwrap_or_default()));
    for index in [0, scored.len() / 2, scored.len().saturating_sub(1)] {
        if let Some(decision) = scored.get(index) {
            writeln!(to, "  {}", String::from_utf8_lossy(&decision.payload))?;
        }
    }
    Ok(())
}

/// How often each campaign is offered, its mean bid, the creatives drawn, and why it is not offered otherwise.
fn campaigns(to: &mut impl Write, decisions: &[Decision]) -> io::Result<()> {
    #[derive(Default)]
    struct Campaign<'a> {
        offered: usize,
        bids: f64,
        currency: &'a str,
        creatives: BTreeMap<&'a str, usize>,
        refused: BTreeMap<&'a str, usize>,
    }
    let mut all: BTreeMap<&str, Campaign<'_>> = BTreeMap::new();
    for decision in decisions {
        for offer in &decision.campaigns {
            let campaign = all.entry(&offer.id).or_default();
            campaign.offered += 1;
            campaign.bids += offer.bid_micros.parse::<f64>().unwrap_or_default() / 1e6;
            campaign.currency = &offer.currency;
            if let Some(creative) = &offer.creative {
                *campaign.creatives.entry(&creative.id).or_default() += 1;
            }
        }
        for refusal in &decision.suppressed {
            *all.entry(&refusal.campaign_id).or_default().refused.entry(&refusal.reason).or_default() += 1;
        }
    }
    if all.is_empty() {
        return Ok(());
    }
    title(to, "Campaigns: decisions that offer each, out of those that considered it")?;
    for (id, campaign) in &all {
        let considered = campaign.offered + campaign.refused.values().sum::<usize>();
        let share = campaign.offered as f64 / considered.max(1) as f64;
        writeln!(to, "  {id:<18}{:>7}  {:>4.1} %  {}", grouped(campaign.offered as u64), share * 100.0, bar(share))?;
        let mean = campaign.bids / campaign.offered.max(1) as f64;
        writeln!(to, "  {:18}mean bid {mean:.2} {} per thousand impressions", "", campaign.currency)?;
        let listed = |counts: &BTreeMap<&str, usize>| {
            let parts = counts.iter().map(|(name, count)| format!("{name} {}", grouped(*count as u64)));
            parts.collect::<Vec<_>>().join(", ")
        };
        if !campaign.creatives.is_empty() {
            writeln!(to, "  {:18}creatives drawn: {}", "", listed(&campaign.creatives))?;
        }
        if !campaign.refused.is_empty() {
            writeln!(to, "  {:18}refused: {}", "", listed(&campaign.refused))?;
        }
    }
    writeln!(
        to,
        "\n  Purchases and scores are real. The campaigns and creatives are made up, and nobody was shown any."
    )
}

/// Compares the scores with what the users did afterwards.
pub(super) fn effect(to: &mut impl Write, predictions: &[Prediction], unripe: usize) -> io::Result<()> {
    title(to, "Scores against outcomes, from 1998 on (not used in training)")?;
    let summary = Summary::of(predictions);
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    writeln!(
        to,
        "  {} decisions, {} followed by a purchase within 30 days; the outcome of {} is still open",
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
            "log loss relative to always predicting the base rate: below 1 is better",
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
        ("aimpoint check --offline --config deploy/demo/aimpoint.toml", "what the demo computes, feature by feature"),
        ("make model", "rebuild the model: export rows, train, write ONNX"),
        ("aimpoint reference config", "every key, to write your own configuration; then aimpoint run"),
    ] {
        writeln!(to, "  {command:<62}{what}")?;
    }
    writeln!(to, "  (aimpoint is target/release/aimpoint)")
}

fn title(to: &mut impl Write, title: &str) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
