//! What became of the impressions of each creative, by hour.
//!
//! Owns counts that follow from the touches: an impression is in them exactly as long as its touch is kept. So they need
//! no record of their own, and are the same after a restart. Limits: clicked impressions are kept longer than others, so
//! only hours of which everything is kept say something about rates: see [`Gallery::of`]. Impressions that are forgotten
//! early, because there are too many, are missing.

use super::touch::Touch;
use std::collections::BTreeMap;

/// An hour in microseconds.
const HOUR: i64 = 3_600_000_000;

/// What became of impressions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Shown {
    /// How many there were.
    pub(in super::super) impressions: u64,
    /// Those that were clicked.
    pub(in super::super) clicks: u64,
    /// Those that were followed by a conversion.
    pub(in super::super) conversions: u64,
}

/// The impressions of all creatives, by campaign, creative and hour.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Gallery(BTreeMap<String, BTreeMap<String, BTreeMap<i64, Shown>>>);

impl Gallery {
    /// Adds a touch, if it is an impression of a creative.
    pub(super) fn add(&mut self, touch: &Touch) {
        let (Some(creative), Some(shown_at)) = (&touch.creative, touch.shown_at) else { return };
        // Only a new creative costs an allocation.
        if !self.0.get(&touch.campaign).is_some_and(|creatives| creatives.contains_key(creative)) {
            self.0.entry(touch.campaign.clone()).or_default().insert(creative.clone(), BTreeMap::new());
        }
        let hours = self.0.get_mut(&touch.campaign).and_then(|creatives| creatives.get_mut(creative));
        let Some(hours) = hours else { return };
        let shown = hours.entry(shown_at.div_euclid(HOUR)).or_default();
        shown.impressions += 1;
        shown.clicks += u64::from(touch.clicked_at.is_some());
        shown.conversions += u64::from(touch.converted_at.is_some());
    }

    /// Removes a touch that was added.
    pub(super) fn remove(&mut self, touch: &Touch) {
        let (Some(creative), Some(shown_at)) = (&touch.creative, touch.shown_at) else { return };
        let Some(creatives) = self.0.get_mut(&touch.campaign) else { return };
        let Some(hours) = creatives.get_mut(creative) else { return };
        let hour = shown_at.div_euclid(HOUR);
        let Some(shown) = hours.get_mut(&hour) else { return };
        shown.impressions -= 1;
        shown.clicks -= u64::from(touch.clicked_at.is_some());
        shown.conversions -= u64::from(touch.converted_at.is_some());
        if shown.impressions > 0 {
            return;
        }
        hours.remove(&hour);
        if hours.is_empty() {
            creatives.remove(creative);
        }
        if creatives.is_empty() {
            self.0.remove(&touch.campaign);
        }
    }

    /// The creatives of a campaign with their impressions of the hours that begin at this time or later.
    pub(in super::super) fn of(&self, campaign: &str, since: i64) -> BTreeMap<&str, Shown> {
        let first = since.div_euclid(HOUR) + i64::from(since.rem_euclid(HOUR) > 0);
        let sum = |hours: &BTreeMap<i64, Shown>| {
            hours.range(first..).fold(Shown::default(), |sum, (_, shown)| Shown {
                impressions: sum.impressions + shown.impressions,
                clicks: sum.clicks + shown.clicks,
                conversions: sum.conversions + shown.conversions,
            })
        };
        let creatives = self.0.get(campaign).into_iter().flatten();
        creatives.map(|(id, hours)| (id.as_str(), sum(hours))).filter(|(_, shown)| shown.impressions > 0).collect()
    }
}
