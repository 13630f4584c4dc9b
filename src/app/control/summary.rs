//! The summary of an offline run, in words and columns.

use super::once::ControlSummary;
use crate::{
    control::{Counts, Figures},
    targeting::{money::Micros, policy::CampaignPolicy},
};
use std::fmt::Write;

/// The summary as text.
pub(crate) fn summary(of: &ControlSummary) -> String {
    let mut text = String::new();
    let version = of.policy.as_ref().map_or(0, |policy| policy.version);
    let Counts { decisions, joined, duplicates, late, orphans, rejected, .. } = of.counts;
    let mut line = |line: String| {
        text.push_str(line.trim_end());
        text.push('\n');
    };
    line(format!("policy          version {version}"));
    line(format!("decisions       {decisions}"));
    if of.foreign > 0 {
        line(format!("                {} of other applications are left out", of.foreign));
    }
    line(format!(
        "outcomes        {joined} joined, {duplicates} duplicate, {late} late, {orphans} orphan, {rejected} rejected"
    ));
    line(format!("campaigns       {}", of.campaigns.len()));
    for (id, figures) in &of.campaigns {
        let policy = of.policy.as_ref().and_then(|policy| policy.campaigns.get(id));
        line(campaign(id, figures, policy));
    }
    text
}

fn campaign(id: &str, figures: &Figures, policy: Option<&CampaignPolicy>) -> String {
    let currency = policy.map_or("", |policy| policy.currency.as_str());
    let mut text = format!("                {id}: spent {}", Micros(figures.spent_micros));
    let mut add = |part: std::fmt::Arguments<'_>| text.write_fmt(part).unwrap_or_default();
    match policy.and_then(|policy| policy.budget) {
        Some(budget) => {
            if let Some(total) = budget.total_micros {
                add(format_args!(" of {}", Micros(total)));
            }
            add(format_args!(" {currency}, today {}", Micros(budget.spent_today_micros)));
            if let Some(daily) = budget.daily_micros {
                add(format_args!(" of {}", Micros(daily)));
            }
            let share = f64::from(budget.pass_through) / f64::from(1_u32 << 31) * 100.0;
            if budget.exhausted {
                add(format_args!(", exhausted"));
            } else {
                add(format_args!(", {share:.1} % of the decisions pass"));
            }
        }
        None => add(format_args!(" {currency}, no budget")),
    }
    let Figures { impressions, viewable, clicks, conversions, wins, losses, .. } = figures;
    add(format_args!(
        "; {wins} wins, {losses} losses, {impressions} impressions, {viewable} viewable, {clicks} clicks, {conversions} conversions"
    ));
    if figures.unattributed_micros != 0 {
        add(format_args!("; {} of the spend has no known decision", Micros(figures.unattributed_micros)));
    }
    text
}
