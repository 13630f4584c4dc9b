//! Whether a user may see a campaign at an event, before anything about price, budget and experiment.

use super::{
    Held, Reason, RowContext,
    audience::Audience,
    calendar::{Calendar, Clocks, Closed},
    caps::{Caps, Reached},
};
use crate::columns::{Columns, Slot};

/// What a campaign asks of the user and the time.
#[derive(Debug)]
pub(super) struct Eligibility {
    pub(super) audience: Audience,
    /// The column of its rule.
    pub(super) rule: Option<Slot>,
    pub(super) calendar: Calendar,
    pub(super) caps: Caps,
}

impl Eligibility {
    /// Whether the row's segments and the rule fit, given that the user is in one of the `any` segments.
    pub(super) fn is_considered(&self, columns: &Columns, row: usize, held: &Held) -> bool {
        self.rule.is_none_or(|rule| columns.get(rule).bools()[row].holds()) && self.audience.has_all(held)
    }

    /// Checks a row for which the campaign is considered, in the order of [`Reason::ALL`]. `small` are the segments with
    /// too few members.
    ///
    /// # Errors
    /// The first reason against it.
    pub(super) fn check(
        &self,
        columns: &Columns,
        row: usize,
        context: &RowContext<'_>,
        (clocks, small): (&Clocks, &[u64]),
    ) -> Result<(), Reason> {
        if self.audience.is_excluded(context.segments) {
            return Err(Reason::Excluded);
        }
        if let Some(reason) = context.suppressed {
            return Err(reason);
        }
        if self.audience.is_small(context.segments, small) {
            return Err(Reason::SmallAudience);
        }
        match self.calendar.closed(context.time.0, clocks) {
            Some(Closed::Dates) => return Err(Reason::Dates),
            Some(Closed::Daypart) => return Err(Reason::Daypart),
            None => {}
        }
        match self.caps.reached(columns, row) {
            Some(Reached::Cap) => Err(Reason::Cap),
            Some(Reached::Recency) => Err(Reason::Recency),
            Some(Reached::Conversions) => Err(Reason::ConversionCap),
            None => Ok(()),
        }
    }
}
