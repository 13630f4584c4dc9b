//! The time of an event, and which times are rejected.

use super::{
    super::{
        MissingTime, RejectReason, Rejection, TimeUnit,
        decode::{Role, Rules},
        time,
    },
    Rows,
};
use crate::columns::Column;

/// The last microsecond of the year 9999.
pub(in crate::event) const TIME_MAX: i64 = 253_402_300_799_999_999;

/// 2100-01-01 in microseconds, the bound for events of records without a timestamp.
const PLAUSIBLE_MAX: i64 = 4_102_444_800_000_000;

impl Rows<'_> {
    /// When the event happened.
    pub(super) fn time(&mut self) -> Result<i64, Rejection> {
        let time = match (self.row.time, self.rules.missing_time, self.record.timestamp_ms) {
            (Some(time), ..) => time,
            (None, MissingTime::Record, Some(millis)) => {
                let time = millis.saturating_mul(1_000);
                let index = self.batch.len();
                // Expressions read the time from this column.
                if let Some(slot) = self.rules.slot_of(Role::OccurredAt)
                    && let Column::Int(values) = self.batch.columns.get_mut(slot)
                {
                    values[index] = time;
                }
                time
            }
            (None, ..) => return Err(Rejection::new(RejectReason::MissingTime, "occurred_at is not given")),
        };
        self.check_bounds(time)?;
        Ok(time)
    }

    /// Rejects a time that is before `time.past_limit`, after 9999, or too far ahead of the record.
    fn check_bounds(&self, time: i64) -> Result<(), Rejection> {
        let past_limit = self.rules.past_limit;
        if !(past_limit.0..=TIME_MAX).contains(&time) {
            let detail = if time < past_limit.0 {
                format!("occurred_at lies before time.past_limit = \"{}\"; is its unit right?", past_limit.date())
            } else {
                "occurred_at lies after 9999; is its unit right?".to_owned()
            };
            let is_plausible = |time| (past_limit.0..=self.latest().0.min(PLAUSIBLE_MAX)).contains(&time);
            let detail = match self.row.number.and_then(|number| time::meant(number, is_plausible)) {
                Some(hint) => format!("{detail} {hint}"),
                None => detail,
            };
            return Err(Rejection::new(RejectReason::TimeRange, detail));
        }
        // A unit guessed from the size of the number must give a plausible time.
        let guessed = self.row.number.filter(|_| self.row.unit == TimeUnit::Auto && self.row.time == Some(time));
        let is_hour = guessed.is_some_and(time::is_date_with_hour);
        let is_far = guessed.is_some() && time > PLAUSIBLE_MAX;
        let (latest, ahead_of) = self.latest();
        if time > latest {
            let hint = match (is_hour, is_far) {
                (true, _) => "; is it a date with its hour? Write such dates as 2026-03-01T10:00:00Z",
                (_, true) => "; is its unit right?",
                _ => "",
            };
            return Err(Rejection::new(
                RejectReason::FutureTime,
                format!("occurred_at is further ahead of {ahead_of} than time.future_tolerance{hint}"),
            ));
        }
        // Here nothing is known about the present.
        if latest == i64::MAX && is_far {
            return Err(Rejection::new(
                RejectReason::TimeRange,
                "occurred_at lies after 2100 in the unit that its size suggests; declare its unit in input.fields",
            ));
        }
        if latest == i64::MAX && is_hour {
            return Err(Rejection::new(
                RejectReason::TimeRange,
                "occurred_at may be seconds, or a date with its hour such as 2026030110: declare its unit in input.fields, or \
                 write such dates as 2026-03-01T10:00:00Z",
            ));
        }
        Ok(())
    }

    /// The latest allowed time of an event of this record, and what a later one would be ahead of. A timestamp from
    /// before `time.past_limit` is ignored. A timestamp in the future proves little, because whoever wrote the event
    /// also wrote it. It is believed only so far that an event at that time cannot make the user's later events too
    /// late.
    fn latest(&self) -> (i64, &'static str) {
        let Rules { past_limit, future_tolerance_micros, stamp_slack_micros, .. } = *self.rules;
        let stamp = self.record.timestamp_ms.map(|millis| millis.saturating_mul(1_000));
        let by_stamp =
            stamp.filter(|stamp| *stamp >= past_limit.0).map(|it| it.saturating_add(future_tolerance_micros));
        let ceiling = self.ceiling.unwrap_or(i64::MAX);
        match by_stamp {
            None => (ceiling, "the present"),
            Some(by_stamp) => {
                let ceiling = ceiling.saturating_add(stamp_slack_micros);
                if by_stamp <= ceiling { (by_stamp, "the record's timestamp") } else { (ceiling, "the present") }
            }
        }
    }
}
