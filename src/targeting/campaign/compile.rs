//! Compiles campaigns from the configuration. All errors are collected, each with its key and a hint.

use super::{
    Bidding, Campaign, CampaignSpec, Campaigns, Tally,
    audience::Audience,
    calendar::{self, Calendar},
    caps::{self, Caps},
    creatives::{self, Creatives},
    eligibility::Eligibility,
    price::{self, Price},
    rotation::Rotation,
    split::Split,
};
use crate::{
    columns::{Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope},
    profile::HiddenFeature,
    targeting::{
        TargetingSpec,
        creative::{Catalogue, CreativeSpec, Draw},
        money::Currency,
    },
};
use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

/// The maximum length of an id. It keeps a decision with 3 campaigns below 2 kB.
const ID_BYTES_MAX: usize = 64;

/// The most deals of a campaign.
const DEALS_MAX: usize = 16;

/// The allowed values of `targeting.campaigns_max`.
const CAMPAIGNS_MAX: RangeInclusive<u32> = 1..=32;

impl Campaigns {
    /// The features that campaigns need from the profile engine: counts for caps, and the local time of users. Equal
    /// features are listed once.
    pub fn hidden_features(
        campaigns: &[CampaignSpec],
        targeting: &TargetingSpec,
        creatives: &[CreativeSpec],
    ) -> Vec<HiddenFeature> {
        let mut features = Vec::new();
        if let Some(user_zone) = &targeting.user_zone
            && campaigns.iter().any(calendar::is_of_user)
        {
            calendar::hidden_features(user_zone, &mut features);
        }
        for (index, spec) in campaigns.iter().enumerate() {
            // The rules of caps quote the id. `compile` reports invalid ids.
            if is_id(&spec.id) {
                caps::hidden_features(index, spec, creatives, &mut features);
            }
        }
        features
    }

    /// Compiles campaigns and their creatives. `segments` are the ids of all segments, `heads` the names of the model's
    /// heads. The scope contains the fields, the features, the features of [`Campaigns::hidden_features`] and the
    /// scores. Errors are added under `campaign[i]`, `creative[i]` and `targeting`.
    pub fn compile(
        specs: &[CampaignSpec],
        targeting: &TargetingSpec,
        segments: &[&str],
        heads: &[String],
        creatives: &[CreativeSpec],
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        if !CAMPAIGNS_MAX.contains(&targeting.campaigns_max) {
            let message = format!(
                "{} is not between {} and {}",
                targeting.campaigns_max,
                CAMPAIGNS_MAX.start(),
                CAMPAIGNS_MAX.end()
            );
            errors.push(ConfigError::new("targeting.campaigns_max", message).hint("3 is the default"));
        }
        let words = specs.len().div_ceil(64);
        let mut it = Self {
            open: vec![0; words],
            opened: vec![0; words * segments.len()],
            bids_max: targeting.campaigns_max as usize,
            tallies: vec![Tally::default(); specs.len()],
            catalogue: Catalogue::compile(creatives, errors),
            ..Self::default()
        };
        it.placement = targeting.placement.as_deref().and_then(|placement| {
            let slot = it.program.add(scope, placement, Some(Type::String));
            slot.map_err(|error| errors.push(error.config_error("targeting.placement"))).ok()
        });
        // A field of that name with another type marks nothing.
        it.bot = (!specs.is_empty()).then(|| it.program.add(scope, "bot", Some(Type::Bool)).ok()).flatten();
        let ids: Vec<&str> = specs.iter().map(|spec| spec.id.as_str()).collect();
        creatives::check_campaigns(creatives, &ids, errors);
        let currencies: Vec<Option<Currency>> =
            specs.iter().enumerate().map(|(index, spec)| price::currency(index, spec, errors)).collect();
        let rates = rates(targeting, &currencies, errors);
        for (index, spec) in specs.iter().enumerate() {
            check_id(index, specs, errors);
            check_deals(index, &spec.deals, errors);
            let path = format!("campaign[{index}]");
            let audience = Audience::compile(&path, "campaign", &spec.segments, segments, errors);
            it.open(index, &audience);
            let rule = it.rule(index, spec, scope, errors);
            let has_user_zone = targeting.user_zone.is_some();
            let calendar = Calendar::compile(index, spec, has_user_zone, &mut it.clocks, scope, errors);
            let caps = if is_id(&spec.id) {
                Caps::compile(index, spec, creatives, (&mut it.program, scope), errors)
            } else {
                Caps::default()
            };
            let of_campaign = (spec.id.as_str(), &audience);
            let within = (&mut it.program, &mut *scope);
            let creatives = Creatives::compile(of_campaign, creatives, &it.catalogue, segments, within, errors);
            let price = Price::compile(index, spec, heads, (&mut it.program, scope), errors);
            let split = Split::compile(index, spec, errors);
            let budget = spec.budget.as_ref().and_then(|it| it.compile(index, price::cost_bounds(spec), errors));
            let count = creatives.len();
            let within = (&mut it.program, &mut *scope);
            let rotation = Rotation::compile(index, spec.rotation.as_ref(), count, segments, within, errors);
            // A missing currency has been reported already.
            let Some(currency) = currencies[index] else { continue };
            it.all.push(Campaign {
                id: spec.id.clone(),
                name: spec.name.clone().unwrap_or_else(|| spec.id.clone()),
                currency,
                deals: spec.deals.clone(),
                zone: calendar.zone.clone(),
                budget,
                rotation,
                eligibility: Eligibility { audience, rule, calendar, caps },
                creatives,
                bidding: Bidding {
                    price,
                    priority: spec.priority,
                    rate: rates[index],
                    shades: spec.shading.unwrap_or(true),
                },
                split,
                pacing_salt: Draw::word(&format!("pacing {}", spec.id)),
            });
        }
        // What else is wrong with the creatives of unknown campaigns is reported, too.
        let known = |spec: &&CreativeSpec| ids.contains(&spec.campaign.as_str());
        let unknown: BTreeSet<&str> = creatives.iter().filter(|it| !known(it)).map(|it| it.campaign.as_str()).collect();
        for campaign in unknown {
            let (audience, within) = (Audience::default(), (&mut it.program, &mut *scope));
            Creatives::compile((campaign, &audience), creatives, &it.catalogue, segments, within, errors);
        }
        if let Some(zone) = &targeting.user_zone
            && !specs.iter().any(calendar::is_of_user)
            && let Err(error) = Program::default().add(scope, zone, Some(Type::String))
        {
            errors.push(error.config_error("targeting.user_zone"));
        }
        it.set_policy(None, Duration::ZERO);
        it
    }

    fn rule(
        &mut self,
        index: usize,
        spec: &CampaignSpec,
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Option<Slot> {
        match self.program.add(scope, spec.filter.as_deref()?, Some(Type::Bool)) {
            Ok(slot) => Some(slot),
            Err(error) => {
                errors.push(error.config_error(format!("campaign[{index}].where")));
                None
            }
        }
    }

    /// Records which segments open a campaign.
    fn open(&mut self, index: usize, audience: &Audience) {
        let (word, bit) = (index / 64, 1 << (index % 64));
        let opening = audience.opening();
        if opening.is_empty() {
            self.open[word] |= bit;
        }
        for segment in opening {
            self.opened[segment * self.open.len() + word] |= bit;
        }
    }
}

/// Whether this is a valid id.
fn is_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len()) && !id.contains(char::is_control)
}

fn check_id(index: usize, specs: &[CampaignSpec], errors: &mut Vec<ConfigError>) {
    let id = &specs[index].id;
    let key = || format!("campaign[{index}].id");
    if !is_id(id) {
        let message = format!("{id:?} is not an id: it has 1 to {ID_BYTES_MAX} bytes and no control characters");
        errors.push(ConfigError::new(key(), message).hint("for instance \"spring-sale\""));
    } else if specs[..index].iter().any(|other| other.id == *id) {
        errors.push(
            ConfigError::new(key(), format!("campaign {id:?} is declared twice"))
                .hint("caps and budgets go by the id, so each campaign needs its own"),
        );
    }
}

fn check_deals(index: usize, deals: &[String], errors: &mut Vec<ConfigError>) {
    let key = format!("campaign[{index}].deals");
    if deals.len() > DEALS_MAX {
        let message = format!("there are {} deals, and a campaign may have {DEALS_MAX}", deals.len());
        errors.push(
            ConfigError::new(&key, message).hint("split the campaign: each of its offers lists all of its deals"),
        );
    }
    for (number, deal) in deals.iter().enumerate() {
        let key = format!("{key}[{number}]");
        if !is_id(deal) {
            let message = format!("{deal:?} is not an id: it has 1 to {ID_BYTES_MAX} bytes and no control characters");
            errors.push(ConfigError::new(key, message).hint("write the id of the deal as the exchange gave it"));
        } else if deals[..number].contains(deal) {
            errors.push(ConfigError::new(key, format!("deal {deal:?} is listed twice")).hint("remove one of them"));
        }
    }
}

/// The value of a unit of each campaign's currency in the common currency.
fn rates(targeting: &TargetingSpec, currencies: &[Option<Currency>], errors: &mut Vec<ConfigError>) -> Vec<f64> {
    for (code, rate) in &targeting.rates {
        let key = || format!("targeting.rates.{code}");
        if code.parse::<Currency>().is_err() {
            let message = format!("{code:?} is not a currency code of ISO 4217");
            errors.push(ConfigError::new(key(), message).hint("write its three capitals, such as USD"));
        } else if !(rate.is_finite() && *rate > 0.0) {
            let message = format!("{rate} is not a rate above 0");
            errors.push(ConfigError::new(key(), message).hint("write what one unit is worth, such as 0.92"));
        }
    }
    let mut known: Vec<Currency> = currencies.iter().flatten().copied().collect();
    known.sort_unstable();
    known.dedup();
    let rate_of = |currency: Currency| targeting.rates.get(currency.code()).copied();
    if known.len() > 1 {
        for currency in known.iter().filter(|currency| rate_of(**currency).is_none()) {
            let first = currencies.iter().position(|it| *it == Some(*currency)).unwrap_or_default();
            let message = format!("campaigns in {currency} cannot be ranked among those in other currencies");
            let hint = format!("set targeting.rates = {{ {currency} = … }} for each currency, or use only one");
            errors.push(ConfigError::new(format!("campaign[{first}].currency"), message).hint(hint));
        }
    }
    let rate = |currency: &Option<Currency>| currency.filter(|_| known.len() > 1).and_then(rate_of).unwrap_or(1.0);
    currencies.iter().map(rate).collect()
}
