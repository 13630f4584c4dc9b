//! An experiment for people: tables and verdicts.

use super::report::{Compared, Report, UpliftOf};
use crate::evaluation::{Interval, experiment::Comparison, uplift::Area};
use std::io::{self, Write};

/// For what is not known.
const DASH: &str = "-";

/// The width of the bars of uplift by range.
const BAR: usize = 20;

pub(super) fn write(of: &Report, to: &mut impl Write) -> io::Result<()> {
    let size = Size { is_rate: of.is_rate };
    let what = if of.is_rate { "share" } else { "mean" };
    let widest = of.arms.iter().map(|arm| arm.name.chars().count()).max().unwrap_or(0).max(4);
    writeln!(to, "{} by arm", of.outcome)?;
    writeln!(to, "  {:widest$}  {:>10}  {:>10}  {what:>10}", "", "users", "planned")?;
    let planned: f64 = of.arms.iter().filter_map(|arm| arm.planned).sum();
    for arm in &of.arms {
        let share = arm.planned.map_or_else(|| DASH.to_owned(), |share| format!("{:.2} %", share / planned * 100.0));
        let mean = arm.mean.map_or_else(|| DASH.to_owned(), |mean| size.value(mean));
        writeln!(to, "  {:widest$}  {:>10}  {share:>10}  {mean:>10}", arm.name, arm.rows)?;
    }
    if let Some([once, any_time]) = &of.split {
        let verdict = if once.is_mismatch {
            "NOT as planned: find out why before you trust any difference"
        } else {
            "as planned"
        };
        writeln!(to, "  split: {verdict} (p = {}, at any time {})", p(once.p_value), p(any_time.p_value))?;
    } else {
        writeln!(to, "  split: not checked; say what was planned with --share")?;
    }
    for it in &of.comparisons {
        comparison(of, it, &size, to)?;
    }
    for it in &of.uplift {
        uplift(it, &size, to)?;
    }
    Ok(())
}

fn comparison(of: &Report, it: &Compared, size: &Size, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "\n{} against {}", it.arm, of.control)?;
    let Some(once) = &it.once else {
        return writeln!(to, "  there are too few users to compare");
    };
    line("one look", once, size, to)?;
    match &it.any_time {
        Some(found) => {
            let range = size.range(found.interval);
            writeln!(to, "  {:<12} {range}  p = {}", "at any time", p(found.p_value))?;
        }
        None => writeln!(to, "  {:<12} not known yet: too few users, or none with an outcome", "at any time")?,
    }
    if let Some(found) = &it.cuped {
        line("with CUPED", &found.comparison, size, to)?;
        if let Some(less) = found.variance_reduction {
            let users = of.arms.iter().filter(|arm| arm.name == it.arm || arm.name == of.control).map(|arm| arm.rows);
            let worth = users.sum::<u64>() as f64 * less / (1.0 - less);
            let verdict = if less > 0.0 { format!(", which is worth {worth:.0} more users") } else { String::new() };
            writeln!(to, "  {:<12} {:.1} % less variance{verdict}", "", less * 100.0)?;
        }
        if let Some(found) = &it.cuped_any_time {
            writeln!(to, "  {:<12} {}  p = {}, at any time", "", size.range(found.interval), p(found.p_value))?;
        }
    }
    let covers = |interval: Interval| interval.covers(0.0);
    let verdict = match &it.any_time {
        Some(found) if !covers(found.interval) => "settled, however often you look",
        _ if !covers(once.interval) => "significant if this is the only look; not yet if you look every day",
        _ => "no difference that chance does not explain",
    };
    writeln!(to, "  {verdict}")?;
    let effect = of.effect * 100.0;
    if let Some(needed) = it.rows_needed {
        writeln!(to, "  an effect of {effect:.0} % needs {needed} users in both arms")?;
    }
    if let Some(smallest) = it.smallest_effect {
        writeln!(to, "  these users find an effect of {} or more, in 8 of 10 experiments", size.difference(smallest))?;
    }
    Ok(())
}

fn line(name: &str, of: &Comparison, size: &Size, to: &mut impl Write) -> io::Result<()> {
    let value = of.p_value.map_or_else(|| DASH.to_owned(), p);
    let relative = of.relative.as_ref().map_or_else(String::new, |it| format!(", {:+.1} %", it.value * 100.0));
    let (difference, range) = (size.difference(of.difference), size.range(of.interval));
    writeln!(to, "  {name:<12} {difference} ({range}){relative}  p = {value}")
}

fn uplift(of: &UpliftOf, size: &Size, to: &mut impl Write) -> io::Result<()> {
    let by = match of.predicted_by {
        "t" => "predicted by the T-learner",
        "x" => "predicted by the X-learner",
        _ => "as the file predicts",
    };
    writeln!(to, "\nwhom {} moves, {by}", of.arm)?;
    for (name, area) in [("Qini", &of.areas.qini), ("AUUC", &of.areas.auuc)] {
        writeln!(to, "  {name}: {}", ranking(area, size))?;
    }
    let largest = of.bins.iter().filter_map(|bin| Some(bin.comparison.as_ref()?.difference.abs())).fold(0.0, f64::max);
    writeln!(to, "  {:>8}  {:>22}  measured uplift", "users", "predicted")?;
    for bin in &of.bins {
        let predicted = format!("{:.4} to {:.4}", bin.score_min, bin.score_max);
        let Some(found) = &bin.comparison else {
            writeln!(to, "  {:>8}  {predicted:>22}  {DASH}", bin.rows)?;
            continue;
        };
        let length = (found.difference.abs() / largest * BAR as f64).round();
        let bar = if length.is_finite() { "#".repeat(length as usize) } else { String::new() };
        let (difference, range) = (size.difference(found.difference), size.range(found.interval));
        writeln!(to, "  {:>8}  {predicted:>22}  {difference} ({range}) {bar}", bin.rows)?;
    }
    Ok(())
}

/// An area in words, with its normalisation.
fn ranking(area: &Area, size: &Size) -> String {
    let interval = area.per_row_interval;
    let range = interval.map_or_else(String::new, |it| format!(" ({})", size.range(it)));
    let verdict = match interval {
        Some(it) if it.low > 0.0 => "ranks better than chance",
        Some(it) if it.high < 0.0 => "ranks worse than chance",
        Some(_) => "not shown to rank better than chance",
        None => "no interval without --replicates",
    };
    let share = area.of_perfect.map_or_else(String::new, |it| format!("; {:.1} % of a perfect ranking's", it * 100.0));
    format!("{}{range} a user over random targeting{share}: {verdict}", size.difference(area.per_row))
}

/// How outcomes are printed.
struct Size {
    is_rate: bool,
}

impl Size {
    fn value(&self, value: f64) -> String {
        if self.is_rate { format!("{:.3} %", value * 100.0) } else { format!("{value:.4}") }
    }

    /// A difference of two values.
    fn difference(&self, value: f64) -> String {
        if self.is_rate { format!("{:+.3} points", value * 100.0) } else { format!("{value:+.4}") }
    }

    fn range(&self, Interval { low, high }: Interval) -> String {
        if self.is_rate {
            format!("{:+.3} to {:+.3}", low * 100.0, high * 100.0)
        } else {
            format!("{low:+.4} to {high:+.4}")
        }
    }
}

fn p(value: f64) -> String {
    if value < 1e-4 { format!("{value:.1e}") } else { format!("{value:.4}") }
}
