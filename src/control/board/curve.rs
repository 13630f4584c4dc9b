//! How the spend of a day has grown.
//!
//! Owns one curve for each campaign: its spend of this day at the end of each quarter of an hour. A curve begins when the
//! process begins to lead, and anew with each day. Limits: at most [`POINTS_MAX`] points, 16 bytes each.

use super::super::{State, ledger::Days, state::Look};
use crate::targeting::pacing::{BUCKET_MS, Moment};
use std::collections::BTreeMap;

/// One for each quarter of the longest day, and the first.
const POINTS_MAX: usize = 101;

/// The spend of a campaign's day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Curve {
    /// The day in the campaign's zone, in days since 1970-01-01.
    day: i32,
    /// Time of the day in milliseconds and spend in millionths. Earliest first, at most one for each quarter of an hour
    /// besides the first.
    points: Vec<(i64, i64)>,
}

/// The curves of all campaigns.
#[derive(Clone, Debug, Default)]
pub(super) struct Curves(BTreeMap<String, Curve>);

impl Curves {
    /// Takes in what all campaigns have spent until now.
    pub(super) fn observe(&mut self, state: &State, now: i64) {
        let looks = state.looks();
        self.0.retain(|id, _| looks.contains_key(id.as_str()));
        for (id, look) in looks {
            let moment = look.days.clone().moment(now);
            let spent = spent(&look, moment.day);
            match self.0.get_mut(id) {
                Some(curve) => curve.add(moment, spent),
                None => drop(self.0.insert(id.to_owned(), Curve::new(moment.day, time_of_day(moment), spent))),
            }
        }
    }

    /// The points of a campaign's day.
    pub(super) fn of(&self, campaign: &str, day: i32) -> &[(i64, i64)] {
        self.0.get(campaign).filter(|curve| curve.day == day).map_or(&[], |curve| &curve.points)
    }
}

impl Curve {
    fn new(day: i32, at_ms: i64, spent: i64) -> Self {
        Self { day, points: vec![(at_ms, spent)] }
    }

    fn add(&mut self, now: Moment, spent: i64) {
        if now.day != self.day {
            // At midnight nothing has been spent yet.
            *self = Self::new(now.day, 0, 0);
        }
        let at_ms = time_of_day(now);
        let quarter = |at_ms: i64| at_ms / i64::from(BUCKET_MS);
        let count = self.points.len();
        match self.points.last_mut() {
            // A clock that goes back changes no point of the past.
            Some(last) if at_ms < last.0 => {}
            Some(last) if count > 1 && quarter(last.0) == quarter(at_ms) => *last = (at_ms, spent),
            _ if count < POINTS_MAX => self.points.push((at_ms, spent)),
            _ => {}
        }
    }
}

/// What a campaign has spent on a day.
pub(super) fn spent(look: &Look<'_>, day: i32) -> i64 {
    look.account.and_then(|account| account.days.get(&day)).map_or(0, |figures| figures.spent_micros)
}

/// The time since the start of the day.
pub(super) fn time_of_day(moment: Moment) -> i64 {
    i64::from(moment.bucket) * i64::from(BUCKET_MS) + i64::from(moment.into_ms)
}

/// The length of the day.
pub(super) fn length(moment: Moment) -> i64 {
    i64::from(moment.buckets) * i64::from(BUCKET_MS)
}

/// The moment in a campaign's calendar.
pub(super) fn moment(days: &Days, now: i64) -> Moment {
    days.clone().moment(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(day: i32, minutes: i64) -> Moment {
        let at_ms = minutes * MINUTE;
        let (bucket, into_ms) = (at_ms / i64::from(BUCKET_MS), at_ms % i64::from(BUCKET_MS));
        Moment { at_ms, day, bucket: bucket as u16, buckets: 96, into_ms: into_ms as u32 }
    }

    #[test]
    fn a_curve_keeps_its_beginning_and_the_last_of_each_quarter() {
        let mut curve = Curve::new(7, 605 * MINUTE, 40);
        for (minutes, spent) in [(606, 41), (610, 45), (614, 48), (616, 50), (612, 99), (629, 60), (700, 90)] {
            curve.add(at(7, minutes), spent);
        }
        let expected = [(605, 40), (614, 48), (629, 60), (700, 90)].map(|(at, spent)| (at * MINUTE, spent));
        assert_eq!(curve.points, expected);
        curve.add(at(8, 20), 3);
        assert_eq!(curve, Curve { day: 8, points: vec![(0, 0), (20 * MINUTE, 3)] });
    }

    #[test]
    fn a_curve_is_bounded() {
        let mut curve = Curve::new(7, 0, 0);
        (0..1_500).for_each(|minutes| curve.add(at(7, minutes), minutes));
        assert_eq!(curve.points.len(), POINTS_MAX);
        assert!(curve.points.windows(2).all(|pair| pair[0].0 < pair[1].0 || pair[0].0 == 0));
    }
}
