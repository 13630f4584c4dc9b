//! What `aimpoint check` says about campaigns.

use crate::{
    config::Config,
    targeting::{
        campaign::{Budget, Campaign, CampaignSpec, Campaigns, CapScope, Chance},
        pacing::Mode,
    },
};
use jiff::Timestamp;
use std::{io::Write, time::Duration};

/// Prints the campaigns with their creatives, what their caps add to profiles, and what is valid but hardly meant.
pub(super) fn report(
    out: &mut impl Write,
    config: &Config,
    campaigns: &Campaigns,
    now: Timestamp,
) -> anyhow::Result<()> {
    let spec = &config.pipeline;
    if campaigns.all().is_empty() {
        return Ok(());
    }
    let counted = Campaigns::hidden_features(&spec.campaigns, &spec.targeting, &spec.creatives).len();
    writeln!(
        out,
        "campaigns       {}, at most {} in a decision; profiles keep {counted} values for their caps and zones",
        campaigns.all().len(),
        campaigns.campaigns_max()
    )?;
    for campaign in campaigns.all() {
        let of_campaign = campaigns.creatives().iter().filter(|it| it.spec.campaign == campaign.id);
        let (count, active) = (of_campaign.clone().count(), of_campaign.filter(|it| it.is_active()).count());
        let creatives = match count {
            0 => "no creatives: the bidder chooses".to_owned(),
            1 if active == 0 => "1 creative, which is paused".to_owned(),
            1 => "1 creative".to_owned(),
            _ if active < count => format!("{count} creatives, {} of them paused", count - active),
            _ => format!("{count} creatives"),
        };
        let arms =
            if campaign.arms().is_empty() { String::new() } else { format!("; arms {}", campaign.arms().join(", ")) };
        let budget = campaign.budget.map(|budget| format!("; budget {}", described_budget(&budget)));
        let method = campaign.rotation.method.as_str();
        let learned = if campaign.rotation.learns() { format!(" by {method}") } else { String::new() };
        let budget = budget.unwrap_or_default();
        writeln!(out, "{:16}{:<24} in {}; {creatives}{learned}{arms}{budget}", "", campaign.id, campaign.currency)?;
        let declared = spec.campaigns.iter().find(|it| it.id == campaign.id);
        for warning in declared.map(|it| warnings(it, campaign, (count, active), config, now)).unwrap_or_default() {
            writeln!(out, "{:16}warning: {warning}", "")?;
        }
    }
    Ok(())
}

/// What keeps a campaign from ever being shown, or has no effect.
fn warnings(
    spec: &CampaignSpec,
    campaign: &Campaign,
    (creatives, active): (usize, usize),
    config: &Config,
    now: Timestamp,
) -> Vec<String> {
    let id = &spec.id;
    let mut found = Vec::new();
    if creatives > 0 && active == 0 {
        found.push(format!(
            "all creatives of {id:?} are paused, so it is never shown; activate one, or remove all if the bidder chooses"
        ));
    }
    if let Some(until) = campaign.until().and_then(|it| Timestamp::from_microsecond(it).ok()).filter(|it| *it <= now) {
        found.push(format!("{id:?} ended at {until}; set a later until, or remove the campaign"));
    }
    if let Some(Chance::Score(score)) = &spec.probability
        && config.model.is_none()
    {
        found.push(format!(
            "the probability of {id:?} is {score:?}, but there is no model, so every decision refuses it with cold_start; \
             add [model], or write a number"
        ));
    }
    if let Some(recency) = spec.recency {
        for cap in &spec.caps {
            let of_impressions = cap.events == "impression" && cap.scope == CapScope::Campaign;
            let Some(window) = cap.per.window().filter(|_| of_impressions) else { continue };
            let most = most_within(window, recency);
            if u64::from(cap.max) > most {
                found.push(format!(
                    "the cap of {} a {} of {id:?} has no effect: a recency of {} allows at most {most}; lower one of them",
                    cap.max,
                    cap.per,
                    crate::duration::display(recency)
                ));
            }
        }
    }
    found
}

/// How many impressions fit into a window if each follows another by `recency` at least.
fn most_within(window: Duration, recency: Duration) -> u64 {
    (window.as_micros() / recency.as_micros().max(1)) as u64 + 1
}

/// Describes a budget in words.
fn described_budget(budget: &Budget) -> String {
    let daily = budget.daily.map(|amount| format!("{amount} a day"));
    let total = budget.total.map(|amount| format!("{amount} in total"));
    let amounts: Vec<String> = daily.into_iter().chain(total).collect();
    let pacing = match budget.mode {
        Mode::Even => "spread evenly",
        Mode::Traffic => "spread like the traffic",
        Mode::Asap => "spent as soon as possible",
    };
    format!("{}, {pacing}", amounts.join(", "))
}

#[cfg(test)]
mod tests;
