//! Click and conversion rates over time, by when impressions were shown.

use super::{
    Labelled,
    buckets::{Buckets, Sum},
};
use crate::{
    effect::{group::Known, plan::Label},
    evaluation::{Confidence, business::Rate},
};
use serde::Serialize;

/// The most points that are shown: two months of days.
const POINTS_MAX: usize = 62;

/// A time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimePoint {
    /// When it begins, in microseconds since 1970.
    pub from: i64,
    /// Decisions.
    pub decisions: u64,
    /// Impressions.
    pub impressions: u64,
    /// Of those that are old enough, how many were clicked.
    pub click_rate: Option<Rate>,
    /// Of the clicked that are old enough, how many a conversion followed.
    pub conversion_rate: Option<Rate>,
    /// Impressions that are too young for the click rate.
    pub immature_impressions: u64,
    /// Clicked impressions that are too young for the conversion rate.
    pub immature_clicks: u64,
}

/// Rates over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Timeline {
    /// The width of a point in microseconds.
    pub width: i64,
    /// The points with anything in them, oldest first.
    pub points: Vec<TimePoint>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Point {
    decisions: u64,
    impressions: u64,
    clicks: Known,
    conversions: Known,
}

impl Sum for Point {
    fn add(&mut self, other: &Self) {
        self.decisions += other.decisions;
        self.impressions += other.impressions;
        self.clicks.add(&other.clicks);
        self.conversions.add(&other.conversions);
    }
}

/// The sums behind it.
#[derive(Debug, Default)]
pub(super) struct Sums(Buckets<Point>);

impl Sums {
    pub(super) fn decided(&mut self, at: i64) {
        self.0.at(at).decisions += 1;
    }

    pub(super) fn label(&mut self, of: &Labelled) {
        let point = self.0.at(of.at);
        match of.label {
            Label::Click => {
                point.impressions += 1;
                point.clicks.note(of.is_success);
            }
            Label::Conversion if of.is_counted => point.conversions.note(of.is_success),
            Label::Conversion => {}
        }
    }

    pub(super) fn report(&self, confidence: Confidence) -> Timeline {
        let shown = self.0.at_most(POINTS_MAX);
        let point = |(from, it): (i64, &Point)| TimePoint {
            from,
            decisions: it.decisions,
            impressions: it.impressions,
            click_rate: Rate::new(it.clicks.successes, it.clicks.of, confidence),
            conversion_rate: Rate::new(it.conversions.successes, it.conversions.of, confidence),
            immature_impressions: it.clicks.immature,
            immature_clicks: it.conversions.immature,
        };
        Timeline { width: shown.width(), points: shown.iter().map(point).collect() }
    }
}
