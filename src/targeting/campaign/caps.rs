//! Frequency, recency and conversion caps: what the profile engine counts for them, and whether a user has reached one.
//!
//! A cap is a hidden feature of the profile: a count of the user's own events for one campaign, or for one of its
//! creatives. It is therefore part of the profile's layout, and is checkpointed, restored and carried over like any
//! other feature. Equal caps share one feature, and features share cells.
//!
//! Guarantees: an event counts in the decision that it causes. The windows end at the user's newest event, so a late event
//! does not get round a cap. A cap of `max` in a window of length L, with tiles of
//! width s, is closed while the tiles that overlap the last L contain `max` events. It therefore never allows more than
//! `max` events within L, and reopens between L and L + s after an event. If the count is missing (which only happens
//! in a row without a decision), the cap is closed. Recency is exact to the microsecond.
//!
//! [`Period::tile`] gives the widths. None of them is a default tile width of a feature's window, so these tiles are
//! never shared with declared features: a user who has seen no impression stores none.
//!
//! Limits: only events that have arrived count, so impressions still on their way can exceed a cap. `total` counts
//! until the profile expires.

use super::spec::{CampaignSpec, CapScope, CapSpec};
use crate::{
    columns::{Columns, Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope},
    profile::{FeatureSpec, HiddenFeature},
    targeting::creative::CreativeSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};

/// The event type that caps count by default, and that recency uses.
pub(super) const IMPRESSION: &str = "impression";

/// The event type that a conversion cap counts.
const CONVERSION: &str = "conversion";

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// The bounds of a recency, the same as those of a feature's window.
const RECENCY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(540 * DAY);

/// The window of a cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// The last 60 minutes, exact to 4 minutes.
    Hour,
    /// The last 24 hours, exact to 20 minutes.
    Day,
    /// The last 7 days, exact to 4 hours.
    Week,
    /// The last 30 days, exact to 20 hours.
    Month,
    /// All events that arrived.
    Total,
}

impl Period {
    /// The length of the window and the width of its tiles, in seconds. `None` for an unbounded window.
    fn tiles(self) -> Option<(u64, u64)> {
        match self {
            Self::Hour => Some((HOUR, 4 * MINUTE)),
            Self::Day => Some((DAY, 20 * MINUTE)),
            Self::Week => Some((7 * DAY, 4 * HOUR)),
            Self::Month => Some((30 * DAY, 20 * HOUR)),
            Self::Total => None,
        }
    }

    /// Its length. `None` if it is unbounded.
    pub fn window(self) -> Option<Duration> {
        self.tiles().map(|(window, _)| Duration::from_secs(window))
    }

    /// The width of its tiles.
    pub fn tile(self) -> Option<Duration> {
        self.tiles().map(|(_, tile)| Duration::from_secs(tile))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        })
    }
}

/// The events that a cap counts.
#[derive(Clone, Copy)]
struct Counted<'a> {
    events: &'a str,
    campaign: &'a str,
    creative: Option<&'a str>,
}

impl Counted<'_> {
    /// The rule that selects these events.
    fn filter(self) -> String {
        let Self { events, campaign, creative } = self;
        let campaign = format!("event_type == {} && ad.campaign_id == {}", literal(events), literal(campaign));
        match creative {
            Some(creative) => format!("{campaign} && ad.creative_id == {}", literal(creative)),
            None => campaign,
        }
    }

    /// The feature that counts them.
    fn count(self, per: Period) -> FeatureSpec {
        let (window, tile) = match per.tiles() {
            // One more tile, because the oldest one is only partly within the window.
            Some((length, tile)) => (format!("{}s", length + tile), Some(format!("{tile}s"))),
            None => ("forever".to_owned(), None),
        };
        feature("count", self.filter(), window, tile)
    }

    /// The feature that has a value only if there was such an event within this time before the current one.
    fn recency(self, within: Duration) -> FeatureSpec {
        feature("recency", self.filter(), format!("{}us", within.as_micros()), None)
    }
}

/// A feature named after its content, so that equal ones have the same name. The spaces in the name keep it apart from
/// names that can be declared and used in expressions.
fn feature(aggregate: &str, filter: String, window: String, tile: Option<String>) -> FeatureSpec {
    FeatureSpec {
        name: format!("{aggregate} {window} {filter}"),
        aggregate: Some(aggregate.to_owned()),
        filter: Some(filter),
        window: Some(window),
        tile,
        ..FeatureSpec::default()
    }
}

/// The text as a string literal of the expression language. Ids have no control characters.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether a recency can be the window of a feature.
fn is_recency(recency: Duration) -> bool {
    RECENCY.contains(&recency)
}

/// Adds the features that a campaign's caps need, unless they are already in the list.
pub(super) fn hidden_features(
    index: usize,
    spec: &CampaignSpec,
    creatives: &[CreativeSpec],
    features: &mut Vec<HiddenFeature>,
) {
    let mut add = |key: &str, feature: FeatureSpec| {
        if features.iter().all(|known| known.feature.name != feature.name) {
            features.push(HiddenFeature { key: format!("campaign[{index}].{key}"), feature });
        }
    };
    let of_campaign = |events| Counted { events, campaign: &spec.id, creative: None };
    for (number, cap) in spec.caps.iter().enumerate() {
        let key = format!("caps[{number}]");
        match cap.scope {
            CapScope::Campaign => add(&key, of_campaign(&cap.events).count(cap.per)),
            CapScope::Creative => {
                for creative in creatives.iter().filter(|creative| creative.campaign == spec.id) {
                    add(&key, Counted { creative: Some(&creative.id), ..of_campaign(&cap.events) }.count(cap.per));
                }
            }
        }
    }
    if let Some(recency) = spec.recency.filter(|recency| is_recency(*recency)) {
        add("recency", of_campaign(IMPRESSION).recency(recency));
    }
    if let Some(cap) = spec.conversion_cap {
        add("conversion_cap", of_campaign(CONVERSION).count(cap.per));
    }
}

/// A count that must stay below a limit.
#[derive(Clone, Copy, Debug)]
struct Limit {
    count: Slot,
    max: f64,
}

impl Limit {
    fn is_reached(self, columns: &Columns, row: usize) -> bool {
        // A missing count (NaN) is not below anything.
        let is_below = columns.get(self.count).doubles()[row] < self.max;
        !is_below
    }
}

/// The minimum time between two impressions.
#[derive(Clone, Copy, Debug)]
struct Recency {
    /// The time since the last impression before this event. Missing if that was long enough ago.
    since: Slot,
    /// Whether this event is an impression of the campaign.
    is_shown: Slot,
}

/// The caps of one campaign.
#[derive(Clone, Debug, Default)]
pub(super) struct Caps {
    limits: Vec<Limit>,
    /// The limits by creative of the campaign, with the creative's index in the catalogue. Empty if there are no such
    /// caps.
    creatives: Vec<(usize, Vec<Limit>)>,
    recency: Option<Recency>,
    conversions: Option<Limit>,
}

/// The kind of cap that a user has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    Cap,
    Recency,
    Conversions,
}

impl Caps {
    /// Compiles the caps of a campaign. Errors are added under `campaign[index]`.
    pub(super) fn compile(
        index: usize,
        spec: &CampaignSpec,
        creatives: &[CreativeSpec],
        (program, scope): (&mut Program, &mut Scope),
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let key = |rest: &str| format!("campaign[{index}].{rest}");
        check(index, &spec.caps, errors);
        let mut caps = Self::default();
        let of_campaign = |events| Counted { events, campaign: &spec.id, creative: None };
        let has_creatives = creatives.iter().any(|creative| creative.campaign == spec.id);
        for (number, cap) in spec.caps.iter().enumerate() {
            if cap.scope == CapScope::Creative && !has_creatives {
                let message = "the campaign has no creatives to count for";
                let error = ConfigError::new(key(&format!("caps[{number}].scope")), message);
                errors.push(error.hint("declare some under [[creative]], or cap the campaign"));
            }
            let mut limit = |counted: Counted<'_>| {
                let count = slot(&counted.count(cap.per), key(&format!("caps[{number}]")), scope, errors)?;
                Some(Limit { count, max: cap.max.into() })
            };
            match cap.scope {
                CapScope::Campaign => caps.limits.extend(limit(of_campaign(&cap.events))),
                CapScope::Creative => {
                    let all = creatives.iter().enumerate().filter(|(_, creative)| creative.campaign == spec.id);
                    for (creative, it) in all {
                        let counted = Counted { creative: Some(&it.id), ..of_campaign(&cap.events) };
                        let Some(limit) = limit(counted) else { continue };
                        match caps.creatives.iter_mut().find(|(known, _)| *known == creative) {
                            Some((_, limits)) => limits.push(limit),
                            None => caps.creatives.push((creative, vec![limit])),
                        }
                    }
                }
            }
        }
        if let Some(recency) = spec.recency {
            if is_recency(recency) {
                let shown = of_campaign(IMPRESSION);
                let since = slot(&shown.recency(recency), key("recency"), scope, errors);
                match program.add(scope, &shown.filter(), Some(Type::Bool)) {
                    Ok(is_shown) => caps.recency = since.map(|since| Recency { since, is_shown }),
                    Err(error) => errors.push(error.config_error(key("recency"))),
                }
            } else {
                let message = format!("{} is not between 1s and 540d", crate::duration::display(recency));
                errors.push(ConfigError::new(key("recency"), message).hint("for instance \"2h\", or remove it"));
            }
        }
        if let Some(cap) = spec.conversion_cap {
            if cap.max == 0 {
                errors.push(never(key("conversion_cap.max")));
            }
            let count = slot(&of_campaign(CONVERSION).count(cap.per), key("conversion_cap"), scope, errors);
            caps.conversions = count.map(|count| Limit { count, max: cap.max.into() });
        }
        caps
    }

    /// The first kind of cap that the user of a row has reached, if any. If all creatives of a campaign are capped, the
    /// campaign is capped.
    pub(super) fn reached(&self, columns: &Columns, row: usize) -> Option<Reached> {
        let is_reached = |limit: &Limit| limit.is_reached(columns, row);
        let no_creative = || {
            let mut all = self.creatives.iter();
            !self.creatives.is_empty() && all.all(|(_, limits)| limits.iter().any(is_reached))
        };
        if self.limits.iter().any(is_reached) || no_creative() {
            return Some(Reached::Cap);
        }
        let is_recent = |it: &Recency| {
            !columns.get(it.since).doubles()[row].is_nan() || columns.get(it.is_shown).bools()[row].holds()
        };
        if self.recency.as_ref().is_some_and(is_recent) {
            return Some(Reached::Recency);
        }
        self.conversions.as_ref().is_some_and(is_reached).then_some(Reached::Conversions)
    }

    /// Whether the user of a row has seen a creative of this campaign as often as allowed.
    pub(super) fn is_creative_capped(&self, columns: &Columns, row: usize, creative: usize) -> bool {
        let of_creative = self.creatives.iter().filter(|(number, _)| *number == creative);
        of_creative.flat_map(|(_, limits)| limits).any(|limit| limit.is_reached(columns, row))
    }
}

/// The column of a hidden feature.
fn slot(feature: &FeatureSpec, key: String, scope: &Scope, errors: &mut Vec<ConfigError>) -> Option<Slot> {
    let found = scope.get(&feature.name).map(|(slot, _)| slot);
    if found.is_none() {
        errors.push(
            ConfigError::new(key, "nothing counts the events of this cap").hint("see the other errors of the campaign"),
        );
    }
    found
}

fn never(key: String) -> ConfigError {
    ConfigError::new(key, "0 allows nothing, so nobody sees the campaign")
        .hint("allow at least 1, or remove the campaign")
}

/// Reports caps that can never be reached because another one is always reached first, and caps without a meaning.
fn check(index: usize, caps: &[CapSpec], errors: &mut Vec<ConfigError>) {
    for (number, cap) in caps.iter().enumerate() {
        let key = |rest: &str| format!("campaign[{index}].caps[{number}]{rest}");
        if cap.max == 0 {
            errors.push(never(key(".max")));
        }
        if cap.events.is_empty() || cap.events.contains(char::is_control) {
            errors.push(
                ConfigError::new(key(".events"), format!("{:?} is not a type of event", cap.events))
                    .hint("for instance \"impression\", which is the default"),
            );
        }
        let same = |other: &&CapSpec| other.events == cap.events && other.scope == cap.scope && other.per == cap.per;
        if caps[..number].iter().find(same).is_some() {
            let message = format!("there is another cap on {} events per {}", cap.events, cap.per);
            errors
                .push(ConfigError::new(key(".per"), message).hint("remove the larger one, or give it another window"));
            continue;
        }
        // The other cap counts everything that this one counts.
        let is_within = |other: &&CapSpec| {
            other.events == cap.events
                && other.per >= cap.per
                && (other.scope == cap.scope || other.scope == CapScope::Campaign)
        };
        let tighter = caps.iter().filter(is_within).filter(|other| other.max < cap.max).min_by_key(|other| other.max);
        if let Some(other) = tighter {
            let of = |scope| if scope == CapScope::Creative { " of a creative" } else { "" };
            let message = format!(
                "{} {} events{} per {} are never reached, because another cap allows {} per {}",
                cap.max,
                cap.events,
                of(cap.scope),
                cap.per,
                other.max,
                other.per
            );
            let hint = format!("set max to at most {}, or remove this cap", other.max);
            errors.push(ConfigError::new(key(".max"), message).hint(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tiles_of_caps_are_none_that_features_get_by_default_and_divide_their_window() {
        let usual = crate::profile::tile_widths();
        for per in [Period::Hour, Period::Day, Period::Week, Period::Month] {
            let (length, tile) = per.tiles().unwrap();
            assert_eq!(length % tile, 0, "{per}");
            let width = crate::duration::display(per.tile().unwrap()).to_string();
            assert!(usual.split(", ").all(|usual| usual != width), "{width} is among {usual}");
        }
        assert_eq!(Period::Total.tile(), None);
    }

    #[test]
    fn ids_are_quoted_in_the_rules_of_caps() {
        let counted = Counted { events: "impression", campaign: r#"a"b\c" || true"#, creative: Some("x") };
        assert_eq!(
            counted.filter(),
            r#"event_type == "impression" && ad.campaign_id == "a\"b\\c\" || true" && ad.creative_id == "x""#
        );
    }

    fn cap(text: &str) -> CapSpec {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn caps_that_cannot_be_met_are_reported_and_others_are_not() {
        for (caps, expected) in [
            (vec!["max = 3\nper = \"day\"", "max = 10\nper = \"week\""], ""),
            (vec!["max = 3\nper = \"day\"", "max = 3\nper = \"week\""], ""),
            (
                vec!["max = 5\nper = \"day\"", "max = 3\nper = \"total\""],
                "campaign[1].caps[0].max: 5 impression events per day",
            ),
            (vec!["max = 3\nper = \"week\"", "max = 5\nper = \"day\""], "campaign[1].caps[1].max: 5 impression"),
            (vec!["max = 5\nper = \"day\"", "max = 3\nper = \"week\"\nevents = \"click\""], ""),
            (vec!["max = 1\nper = \"day\"", "max = 2\nper = \"day\""], "campaign[1].caps[1].per: there is another"),
            (vec!["max = 1\nper = \"day\"\nscope = \"creative\"", "max = 2\nper = \"day\""], ""),
            (
                vec!["max = 3\nper = \"day\"\nscope = \"creative\"", "max = 2\nper = \"day\""],
                "campaign[1].caps[0].max: 3 impression events of a creative per day",
            ),
            (vec!["max = 0\nper = \"day\""], "campaign[1].caps[0].max: 0 allows nothing"),
            (vec!["max = 1\nper = \"day\"\nevents = \"\""], "campaign[1].caps[0].events: \"\" is not a type"),
        ] {
            let caps: Vec<CapSpec> = caps.into_iter().map(cap).collect();
            let mut errors = Vec::new();
            check(1, &caps, &mut errors);
            let found: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(found.is_empty(), expected.is_empty(), "{caps:?}: {found:?}");
            assert!(found.iter().all(|error| error.starts_with(expected) && error.contains("; ")), "{found:?}");
        }
    }
}
