//! Which offer or impression an outcome belongs to.
//!
//! ```text
//! decision ─► offer ─┬─► win, loss
//!                    └─► impression ─┬─► viewable, click ─► conversion within `click`
//!                                    └─► conversion within `view`
//! ```
//!
//! Owns the touches and the look-up. An outcome is looked up by the most exact name that it carries: its decision; else
//! its auction and impression; else its user and campaign, of which the latest touch counts (last touch). A decision's
//! id must be right: an outcome with an unknown one is not joined by anything else. An auction becomes known when an
//! outcome names both it and the decision. Until then, its outcomes are joined by user and campaign.
//!
//! Guarantees: the result depends only on the touches, so an outcome that arrives before its decision gives the same
//! result once the decision has arrived. Of a decision with several campaigns, the outcome must name the campaign or
//! the creative.
//!
//! Limits: `rate · window` touches. With 100 decisions a second and offers that live for an hour, 360,000 touches or
//! about 360 MB. Impressions stay for the longer of `engagement` and `view`, clicked ones for `click`: with one
//! impression a second and a click in a hundred, 86,400 and 26,000 more.

mod seen;
mod shown;
#[cfg(test)]
mod tests;
mod touch;

pub(super) use seen::Seen;
pub(super) use shown::Shown;
pub(super) use touch::{Alias, Touch, Touches};

use super::{
    key::Key,
    outcome::{Outcome, OutcomeType},
};

/// By how much the clocks of worker and bidder may differ: an outcome may be this much before its cause.
const SKEW: i64 = 60_000_000;

/// How long after its cause an outcome counts, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    /// A click or a view after its impression.
    pub(super) engagement: i64,
    /// A conversion after an impression.
    pub(super) view: i64,
    /// A conversion after a click.
    pub(super) click: i64,
}

/// The result of a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It belongs to this touch.
    Found(Key),
    /// This touch is known, but the outcome is outside its window.
    Outside(Key),
    /// Nothing is known that it could belong to.
    Unknown,
}

/// The key of a campaign in a decision.
pub fn offer_key(decision: &str, campaign: &str) -> Key {
    Key::of("offer", &[decision, campaign])
}

/// The key of an impression of an offer. Without an auction, it is told from others by its outcome's id alone.
pub(super) fn shown_key(offer: Key, outcome: &Outcome) -> Key {
    let offer = offer.text();
    match (outcome.auction_id.as_deref(), outcome.imp_id.as_deref()) {
        (None, None) => Key::of("shown", &[&offer, &outcome.id]),
        (auction, imp) => Key::of("shown", &[&offer, auction.unwrap_or_default(), imp.unwrap_or_default()]),
    }
}

/// The name of all touches of a decision.
pub(super) fn decision_alias(decision: &str) -> Key {
    Key::of("decision", &[decision])
}

/// The name of all touches of a user and a campaign.
pub(super) fn user_alias(user: &str, campaign: &str) -> Key {
    Key::of("user", &[user, campaign])
}

/// The names that an outcome's auction and impression give to a touch. An impression's id is only unique within its
/// auction, as in OpenRTB; without an auction, it is taken as unique by itself.
pub(super) fn auction_aliases(outcome: &Outcome) -> Vec<Key> {
    match (&outcome.auction_id, &outcome.imp_id) {
        (Some(auction), Some(imp)) => vec![Key::of("imp", &[auction, imp]), Key::of("auction", &[auction])],
        (Some(auction), None) => vec![Key::of("auction", &[auction])],
        (None, Some(imp)) => vec![Key::of("imp", &[imp])],
        (None, None) => Vec::new(),
    }
}

/// Whether an outcome's auction or impression has given a touch its name.
pub(super) fn knows_auction(touches: &Touches, outcome: &Outcome) -> bool {
    auction_aliases(outcome).into_iter().any(|alias| touches.named(alias).next().is_some())
}

/// Finds the touch that an outcome belongs to.
pub(super) fn find(touches: &Touches, outcome: &Outcome, windows: &Windows) -> Lookup {
    if let Some(decision) = &outcome.decision_id {
        // Several impressions of a decision are told apart by their auctions.
        for alias in auction_aliases(outcome) {
            let found = by_alias(touches, alias, outcome, windows);
            if found != Lookup::Unknown && outcome.kind.follows_impression() {
                return found;
            }
        }
        return by_alias(touches, decision_alias(decision), outcome, windows);
    }
    let user = outcome.user_key.as_deref().zip(outcome.campaign_id.as_deref());
    let names = auction_aliases(outcome).into_iter().chain(user.map(|(user, campaign)| user_alias(user, campaign)));
    for alias in names {
        let found = by_alias(touches, alias, outcome, windows);
        if found != Lookup::Unknown {
            return found;
        }
    }
    Lookup::Unknown
}

impl OutcomeType {
    /// Whether it needs an impression, and not just an offer.
    pub(super) fn follows_impression(self) -> bool {
        matches!(self, Self::Viewable | Self::Click | Self::Conversion)
    }
}

/// Finds the latest touch with this name that an outcome may belong to.
fn by_alias(touches: &Touches, alias: Key, outcome: &Outcome, windows: &Windows) -> Lookup {
    let fits = |touch: &&Touch| {
        touch.is_shown() == outcome.kind.follows_impression()
            && outcome.campaign_id.as_ref().is_none_or(|campaign| *campaign == touch.campaign)
            && (outcome.campaign_id.is_some() || outcome.creative_id.is_none() || outcome.creative_id == touch.creative)
    };
    let mut candidates = touches.named(alias).filter(|(_, touch)| fits(touch)).peekable();
    let Some((latest, first)) = candidates.peek() else { return Lookup::Unknown };
    let latest = *latest;
    if outcome.campaign_id.is_none() {
        let campaign = first.campaign.clone();
        if touches.named(alias).any(|(_, touch)| fits(&touch) && touch.campaign != campaign) {
            return Lookup::Unknown;
        }
    }
    let at = outcome.occurred_at;
    let within = |from: i64, until: i64| at >= from.saturating_sub(SKEW) && at <= until;
    let mut viewed = None;
    for (key, touch) in candidates {
        match (outcome.kind, touch.shown_at) {
            (OutcomeType::Conversion, Some(shown)) => {
                // A click counts more than a later view.
                let is_clicked =
                    touch.clicked_at.is_some_and(|clicked| within(clicked, clicked.saturating_add(windows.click)));
                if is_clicked {
                    return Lookup::Found(key);
                }
                if viewed.is_none() && within(shown, shown.saturating_add(windows.view)) {
                    viewed = Some(key);
                }
            }
            (_, Some(shown)) if within(shown, shown.saturating_add(windows.engagement)) => return Lookup::Found(key),
            (_, None) if within(touch.decided_at, touch.offered_until) => return Lookup::Found(key),
            _ => {}
        }
    }
    viewed.map_or(Lookup::Outside(latest), Lookup::Found)
}
