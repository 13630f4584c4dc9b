//! What the board reads of the state. Nothing here changes it.

use super::State;
use crate::control::{
    join::Shown,
    ledger::{Account, CampaignSetup, Days},
};
use std::collections::{BTreeMap, BTreeSet};

/// A campaign: as configured, and what is known of it. At least one of them is there.
#[derive(Clone, Copy)]
pub(in super::super) struct Look<'a> {
    /// Absent if it is no longer configured.
    pub(in super::super) setup: Option<&'a CampaignSetup>,
    /// Absent before the first policy.
    pub(in super::super) account: Option<&'a Account>,
    /// Its calendar.
    pub(in super::super) days: &'a Days,
}

impl State {
    /// All campaigns that are configured or have an account.
    pub(in super::super) fn looks(&self) -> BTreeMap<&str, Look<'_>> {
        let ids: BTreeSet<&str> = self.campaigns.keys().chain(self.accounts.keys()).map(String::as_str).collect();
        let look = |id: &str| {
            let configured = self.campaigns.get(id);
            Look {
                setup: configured.map(|it| &it.setup),
                account: self.accounts.get(id),
                days: self.campaigns.days(id),
            }
        };
        ids.into_iter().map(|id| (id, look(id))).collect()
    }

    /// The impressions of a campaign's creatives, in whole hours of which all are remembered, and since when.
    pub(in super::super) fn shown(&self, campaign: &str) -> (i64, BTreeMap<&str, Shown>) {
        let windows = self.settings.windows;
        let since = self.meta.clock.saturating_sub(windows.engagement.max(windows.view));
        (since, self.touches.gallery().of(campaign, since))
    }

    /// The time of the stream: up to here, all inputs have been read.
    pub(in super::super) fn clock(&self) -> i64 {
        self.meta.clock
    }
}
