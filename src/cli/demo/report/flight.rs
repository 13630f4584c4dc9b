//! What the report says of the campaigns. Every figure is counted: from the decisions, by control, or by the market.

use super::{BAR, WIDTH, bar, grouped, title};
use crate::{
    app::Setup,
    cli::{
        demo::{
            flight::{DAYS, Flight},
            market::{Happened, Shown, click_rate},
        },
        why::{self, ReadDecision, ReadOffer, reason_in_words},
    },
    control::{CampaignSetup, Figures},
    targeting::{
        campaign::CampaignSpec,
        creative::Beta,
        pacing::{Mode, PassThrough},
        policy::{BudgetState, CreativeMethod, EVERYBODY, Policy},
    },
};
use std::{
    collections::BTreeMap,
    io::{self, Write},
};

/// The probability of the ranges.
const PROBABILITY: f64 = 0.95;
/// How many weeks are compared at the start and at the end.
const WEEKS: usize = 2;
const WEEKS_ALL: usize = DAYS.div_ceil(7);

/// What happened in the flight: its outcomes, spend, decisions, bids and creatives.
pub(in crate::cli::demo) fn flight(to: &mut impl Write, setup: &Setup, of: &Flight) -> io::Result<()> {
    outcomes(to, of)?;
    spend(to, of)?;
    title(to, "Offers: decisions of the flight with each campaign, out of those that considered it")?;
    offers(to, &setup.config.pipeline.campaigns, of.decisions.iter().map(|flown| &flown.read))?;
    bids(to, of)?;
    creatives(to, of)
}

fn outcomes(to: &mut impl Write, of: &Flight) -> io::Result<()> {
    let days = (day(of, 0), day(of, DAYS - 1));
    title(to, &format!("The flight of the campaigns, {} to {}", days.0, days.1))?;
    let counts = of.counts;
    let policies = of.policies.len();
    for (what, text) in [
        ("real", format!("{} purchases; profiles, scores, decisions", grouped(of.decisions.len() as u64))),
        ("simulated", "auctions, impressions, clicks, conversions; the rules: deploy/demo/DATA.md".to_owned()),
        ("control", format!("{policies} policies, one at each midnight, followed by all workers")),
        (
            "outcomes",
            format!(
                "{} sent: {} joined, {} duplicate, {} late, {} orphan, {} rejected",
                grouped(of.sent),
                grouped(counts.joined),
                grouped(counts.duplicates),
                grouped(counts.late),
                grouped(counts.orphans),
                grouped(counts.rejected)
            ),
        ),
    ] {
        writeln!(to, "  {what:<12}{text}")?;
    }
    let differences = differences(of);
    if differences.is_empty() {
        writeln!(to, "  {:12}control's books are the market's, to the millionth", "")?;
    }
    for difference in differences {
        writeln!(to, "  {:12}{difference}", "")?;
    }
    Ok(())
}

/// Where control's books are not what happened.
fn differences(of: &Flight) -> Vec<String> {
    let books = |figures: &Figures| Happened {
        wins: figures.wins,
        losses: figures.losses,
        impressions: figures.impressions,
        clicks: figures.clicks,
        conversions: figures.conversions,
        spent_micros: figures.spent_micros,
        revenue_micros: figures.revenue_micros,
        ..Happened::default()
    };
    let mut differences = Vec::new();
    for (id, figures) in &of.figures {
        let all = of.market.campaigns.get(id).copied().unwrap_or_default();
        let Happened { wins, losses, impressions, clicks, conversions, spent_micros, revenue_micros, .. } = all;
        let happened = Happened {
            wins,
            losses,
            impressions,
            clicks,
            conversions,
            spent_micros,
            revenue_micros,
            ..Happened::default()
        };
        if books(figures) != happened {
            differences.push(format!("{id}: control's books differ from what happened"));
        }
    }
    differences
}

fn spend(to: &mut impl Write, of: &Flight) -> io::Result<()> {
    title(to, "Spend against plan, by week: a policy lets a share of the decisions pass")?;
    for campaign in of.campaigns.iter().filter(|campaign| campaign.budget.is_some()) {
        let spent = |policy: &Policy| budget(policy, &campaign.id).map_or(0, |it| it.spent_total_micros);
        let all = of.policies.last().map_or(0, spent);
        let terms = terms(campaign);
        writeln!(to, "  {}: {} {} spent; {terms}", campaign.id, units(all), campaign.currency)?;
        writeln!(to, "    {:<10}{:>8}{:>8}{:>9}{:>9}", "from", "planned", "spent", "so far", "pass")?;
        let weeks: Vec<i64> =
            (0..WEEKS_ALL).map(|week| spent(&of.policies[end(week)]) - spent(&of.policies[7 * week])).collect();
        let most = weeks.iter().copied().max().unwrap_or_default().max(1);
        for (week, in_week) in weeks.into_iter().enumerate() {
            let planned = of.planned(campaign, end(week)).zip(of.planned(campaign, 7 * week));
            let so_far =
                of.planned(campaign, end(week)).map(|plan| spent(&of.policies[end(week)]) as f64 / plan as f64);
            let dash = || "-".to_owned();
            writeln!(
                to,
                "    {:<10}{:>8}{:>8}{:>9}{:>7.1} %  {}",
                day(of, 7 * week),
                planned.map_or_else(dash, |(until, from)| units(until - from)),
                units(in_week),
                so_far.map_or_else(dash, |share| format!("{:.1} %", share * 100.0)),
                100.0 * passed(&of.policies[7 * week..end(week)], &campaign.id),
                bar_of(in_week as f64 / most as f64, 36)
            )?;
        }
        excess(to, of, campaign)?;
    }
    Ok(())
}

/// Says by how much a budget was exceeded, and what was in flight when it ran out: the spend of that day.
fn excess(to: &mut impl Write, of: &Flight, campaign: &CampaignSetup) -> io::Result<()> {
    let Some(total) = campaign.budget.and_then(|budget| budget.total) else { return Ok(()) };
    let spent = |policy: &Policy| budget(policy, &campaign.id).map_or(0, |it| it.spent_total_micros);
    let Some(pair) = of.policies.windows(2).find(|pair| spent(&pair[1]) > total.0) else { return Ok(()) };
    let over = of.policies.last().map_or(0, spent) - total.0;
    writeln!(
        to,
        "    {} above the budget: {} were spent in the day in which it ran out, between two policies",
        units(over),
        units(spent(&pair[1]) - spent(&pair[0]))
    )
}

fn terms(campaign: &CampaignSetup) -> String {
    let Some(budget) = campaign.budget else { return String::new() };
    let mut parts = Vec::new();
    parts.extend(budget.total.map(|total| format!("{} in total", units(total.0))));
    parts.extend(budget.daily.map(|daily| format!("{} a day", units(daily.0))));
    let how = match budget.mode {
        Mode::Even => "evenly",
        Mode::Traffic => "as traffic comes",
        Mode::Asap => "as soon as possible",
    };
    format!("its budget is {}, {how}", parts.join(", "))
}

fn budget<'a>(policy: &'a Policy, campaign: &str) -> Option<&'a BudgetState> {
    policy.campaigns.get(campaign)?.budget.as_ref()
}

/// The mean share of the decisions that these policies let pass.
fn passed(policies: &[Policy], campaign: &str) -> f64 {
    let share = |policy: &Policy| {
        budget(policy, campaign).filter(|it| !it.exhausted).map_or(0.0, |it| PassThrough(it.pass_through).share())
    };
    policies.iter().map(share).sum::<f64>() / policies.len().max(1) as f64
}

/// The day after a week, counted from the start.
fn end(week: usize) -> usize {
    (7 * week + 7).min(DAYS)
}

/// How often each campaign is offered, and why it is not.
pub(in crate::cli::demo) fn offers<'a>(
    to: &mut impl Write,
    campaigns: &[CampaignSpec],
    decisions: impl Iterator<Item = &'a ReadDecision>,
) -> io::Result<()> {
    let mut offered: BTreeMap<&str, u64> = BTreeMap::new();
    let mut refused: BTreeMap<&str, BTreeMap<&str, u64>> = BTreeMap::new();
    for decision in decisions {
        for offer in &decision.campaigns {
            *offered.entry(&offer.id).or_default() += 1;
        }
        for (id, reason) in &decision.suppressed {
            *refused.entry(id).or_default().entry(reason).or_default() += 1;
        }
    }
    for spec in campaigns {
        let count = offered.get(&*spec.id).copied().unwrap_or_default();
        let reasons = refused.remove(&*spec.id).unwrap_or_default();
        let considered = count + reasons.values().sum::<u64>();
        let share = count as f64 / considered.max(1) as f64;
        writeln!(to, "  {:<18}{:>7}  {:>4.1} %  {}", spec.id, grouped(count), 100.0 * share, bar(share))?;
        let mut reasons: Vec<(&str, u64)> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        for (reason, count) in reasons {
            writeln!(to, "  {:18}{:>7}  {reason}: {}", "", grouped(count), reason_in_words(reason, spec))?;
        }
    }
    Ok(())
}

/// Shaded bids against values, and what they bought.
fn bids(to: &mut impl Write, of: &Flight) -> io::Result<()> {
    title(to, "Bids: what control learned from wins and losses, per thousand impressions")?;
    for CampaignSetup { id, currency, .. } in &of.campaigns {
        let it = of.market.campaigns.get(id).copied().unwrap_or_default();
        let auctions = it.wins + it.losses;
        let mean = |sum: i64| units(sum / it.shaded.max(1) as i64);
        let won = 100.0 * it.wins as f64 / auctions.max(1) as f64;
        writeln!(to, "  {id:<18}{} auctions, {won:.1} % won", grouped(auctions))?;
        if it.shaded > 0 {
            writeln!(
                to,
                "  {:18}in {} of them, a value of {} {currency} was shaded to a bid of {}, on average",
                "",
                grouped(it.shaded),
                mean(it.bids_micros),
                mean(it.shaded_micros)
            )?;
        }
        writeln!(
            to,
            "  {:18}{} {currency} bought {} impressions worth {}; full bids would have cost {}",
            "",
            units(it.spent_micros),
            grouped(it.impressions),
            units(it.worth_micros),
            units(it.unshaded_micros)
        )?;
        writeln!(
            to,
            "  {:18}{} clicks; {} conversions worth {}",
            "",
            grouped(it.clicks),
            grouped(it.conversions),
            units(it.revenue_micros)
        )?;
    }
    Ok(())
}

/// What control believes of each creative, against the truth of the market.
fn creatives(to: &mut impl Write, of: &Flight) -> io::Result<()> {
    title(to, "Creatives: clicks in a hundred impressions")?;
    writeln!(
        to,
        "  {:<20}{:>8}{:>8}{:>10}{:>16}{:>7}   share in its weeks",
        "", "shown", "clicks", "believed", "range of 95 %", "true"
    )?;
    writeln!(to, "  {:72}first -> last {WEEKS}", "")?;
    for CampaignSetup { id, .. } in &of.campaigns {
        let believed = believed(of, id);
        let (first, last) = weeks_shown(of, id);
        let mut rows = believed.clone();
        rows.sort_by(|one, other| other.1.mean().total_cmp(&one.1.mean()));
        for (creative, beta) in &rows {
            let all = shown(of, id, creative, 0..WEEKS_ALL);
            let share = |weeks: std::ops::Range<usize>| {
                let sum: u64 = believed.iter().map(|(it, _)| shown(of, id, it, weeks.clone()).impressions).sum();
                100.0 * shown(of, id, creative, weeks).impressions as f64 / sum.max(1) as f64
            };
            let range = beta.interval(PROBABILITY);
            writeln!(
                to,
                "  {creative:<20}{:>8}{:>8}{:>10.2}{:>16}{:>7.2}   {:>4.0} % -> {:>3.0} %",
                grouped(all.impressions),
                grouped(all.clicks),
                100.0 * beta.mean(),
                range.map_or_else(String::new, |(low, high)| format!("{:.2} to {:.2}", 100.0 * low, 100.0 * high)),
                100.0 * click_rate(creative),
                share(first..first + WEEKS),
                share((last + 1).saturating_sub(WEEKS)..last + 1)
            )?;
        }
        if let [(best, one), (_, other), ..] = &rows[..] {
            let ranges = one.interval(PROBABILITY).zip(other.interval(PROBABILITY));
            let is_clear = ranges.is_some_and(|(one, other)| one.0 > other.1);
            let how = if is_clear { "wins: its range is above the others" } else { "leads, but the ranges overlap" };
            writeln!(to, "  {id}: {best} {how}")?;
        }
    }
    Ok(())
}

/// The first and the last week in which a campaign was shown.
fn weeks_shown(of: &Flight, campaign: &str) -> (usize, usize) {
    let weeks = || of.market.creatives.keys().filter(|(id, ..)| id == campaign).map(|(.., week)| *week);
    (weeks().min().unwrap_or_default(), weeks().max().unwrap_or_default())
}

/// The posteriors of the last policy, for everybody, by creative.
fn believed(of: &Flight, campaign: &str) -> Vec<(String, Beta)> {
    let policy = of.policies.last().and_then(|policy| policy.campaigns.get(campaign)?.creatives.as_ref());
    let Some(CreativeMethod::Thompson { posteriors, .. }) = policy.map(|policy| &policy.method) else {
        return Vec::new();
    };
    posteriors.iter().filter_map(|(id, audiences)| Some((id.clone(), *audiences.get(EVERYBODY)?))).collect()
}

fn shown(of: &Flight, campaign: &str, creative: &str, weeks: std::ops::Range<usize>) -> Shown {
    let place = |week| (campaign.to_owned(), creative.to_owned(), week);
    let mut sum = Shown::default();
    for week in weeks.filter_map(|week| of.market.creatives.get(&place(week))) {
        sum.impressions += week.impressions;
        sum.clicks += week.clicks;
    }
    sum
}

/// One decision in words: the last one with a shaded bid.
pub(in crate::cli::demo) fn why(to: &mut impl Write, setup: &Setup, of: &Flight) -> anyhow::Result<()> {
    let is_shaded = |offer: &ReadOffer| offer.shaded_micros > 0;
    let last = of.decisions.iter().rev();
    let Some(flown) = last.clone().find(|it| it.read.campaigns.iter().any(is_shaded)).or_else(|| last.clone().next())
    else {
        return Ok(());
    };
    title(to, "One decision in words, as aimpoint why --user shows a user's last one")?;
    let mut text = Vec::new();
    let values = Err("a running Aimpoint reads them from the profiles topic".to_owned());
    why::print(&flown.read, &values, &setup.config.pipeline, &setup.pipeline(false)?, &mut text)?;
    for line in String::from_utf8_lossy(&text).lines().flat_map(|line| folded(line, WIDTH - 2)) {
        writeln!(to, "  {line}")?;
    }
    Ok(())
}

/// A line in lines of at most this width, broken at blanks. Those that follow are indented like text in words.
fn folded(line: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = line.to_owned();
    while rest.chars().count() > width {
        let end = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        // A word that is longer than a line stays whole.
        let Some(blank) = rest[..end].rfind(' ').filter(|blank| rest[..*blank].trim() != "") else { break };
        let follows = format!("{:18}{}", "", rest[blank..].trim_start());
        rest.truncate(blank);
        lines.push(std::mem::replace(&mut rest, follows));
    }
    lines.push(rest);
    lines
}

/// A day of the flight.
fn day(of: &Flight, days: usize) -> String {
    let at = of.start + days as i64 * 86_400_000_000;
    jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |at| at.strftime("%Y-%m-%d").to_string())
}

/// Millionths as units, to the nearest hundredth.
fn units(micros: i64) -> String {
    format!("{:.2}", micros as f64 / 1e6)
}

/// A shorter bar.
fn bar_of(share: f64, width: usize) -> String {
    bar(share * width as f64 / BAR as f64)
}

#[cfg(test)]
mod tests;
