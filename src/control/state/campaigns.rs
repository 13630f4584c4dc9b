//! The campaigns as configured, each with its calendar.

use crate::control::ledger::{CampaignSetup, Days};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// A campaign as configured, with its calendar.
#[derive(Clone, Debug)]
pub(super) struct Configured {
    pub(super) setup: CampaignSetup,
    pub(super) days: Days,
}

/// The configured campaigns by id.
#[derive(Clone, Debug)]
pub(super) struct Campaigns {
    all: BTreeMap<String, Configured>,
    /// The calendar of campaigns that are not configured.
    utc: Days,
}

impl Campaigns {
    pub(super) fn new(campaigns: Vec<CampaignSetup>) -> Self {
        let mut new = Self { all: BTreeMap::new(), utc: Days::new(TimeZone::UTC) };
        new.set(campaigns);
        new
    }

    /// Replaces all campaigns.
    pub(super) fn set(&mut self, campaigns: Vec<CampaignSetup>) {
        let configured = |setup: CampaignSetup| {
            let days = Days::new(setup.zone.clone());
            (setup.id.clone(), Configured { setup, days })
        };
        self.all = campaigns.into_iter().map(configured).collect();
    }

    pub(super) fn get(&self, id: &str) -> Option<&Configured> {
        self.all.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Configured> {
        self.all.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Configured)> {
        self.all.iter()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.all.keys()
    }

    /// The calendar of a campaign. It is UTC's for one that is not configured.
    pub(super) fn days(&self, id: &str) -> &Days {
        self.all.get(id).map_or(&self.utc, |it| &it.days)
    }

    /// Like [`Self::days`].
    pub(super) fn days_mut(&mut self, id: &str) -> &mut Days {
        match self.all.get_mut(id) {
            Some(campaign) => &mut campaign.days,
            None => &mut self.utc,
        }
    }
}
