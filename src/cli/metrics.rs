//! `aimpoint metrics`: prints the table of all metrics.

use crate::metrics::{FAMILIES, Kind};
use clap::Args;
use std::io::Write;

/// Print every metric: name, kind, labels, meaning
#[derive(Args, Clone, Debug)]
pub(super) struct MetricsArgs {}

pub(super) fn run(_: &MetricsArgs) -> anyhow::Result<()> {
    print(&mut std::io::stdout().lock())
}

pub(super) fn print(out: &mut impl Write) -> anyhow::Result<()> {
    for metric in FAMILIES {
        let labels = if metric.labels.is_empty() { String::new() } else { format!(" by {}", metric.labels.join(", ")) };
        writeln!(out, "{:<36}{}{labels}\n{:36}{}", metric.name, metric.kind.as_str(), "", metric.help)?;
        if metric.kind == Kind::Histogram {
            let bounds: Vec<String> = metric.buckets.iter().map(f64::to_string).collect();
            writeln!(out, "{:36}buckets: {}", "", bounds.join(", "))?;
        }
    }
    Ok(())
}
