//! The aggregates that a feature can use: one enum, and one table with everything about each of them.
//!
//! `aimpoint features`, the configuration schema, the messages about wrong keys and the feature compiler all read this
//! table. To add an aggregate, add a variant to [`Aggregate`] and a row to [`DEFINITIONS`]. A
//! [`CellKind`](super::cell::CellKind) says what it stores, and a [`Finalizer`] computes its value from that.

use super::{
    builder::{Builder, Columns},
    cell::CellKind,
    compile::{Calendar, Read},
    finalize::Finalizer,
};

/// An aggregate of `[[feature]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is documented by its row of the table")]
pub enum Aggregate {
    Count,
    Sum,
    Mean,
    Min,
    Max,
    Variance,
    Stddev,
    First,
    Last,
    Attribute,
    LastK,
    Distinct,
    Top,
    Categories,
    Ratio,
    Recency,
    SinceFirst,
    MeanGap,
    DecayedCount,
    DecayedSum,
    SessionEvents,
    SessionLength,
    SessionCount,
    Age,
    Hour,
    Weekday,
    DayOfMonth,
    Month,
    HourSin,
    HourCos,
}

/// What an aggregate takes as its `value`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ValueKind {
    /// It has no value.
    None,
    /// Numbers; times and durations count in seconds, bools as 0 and 1.
    Numbers,
    /// Numbers, or strings when `categories` or `buckets` is set.
    NumbersOrCategories,
    /// Strings that are compared with `categories`.
    Categories,
    /// Anything; values are only compared for equality.
    Any,
}

/// Whether an aggregate has a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WindowKind {
    /// Computed over all events.
    None,
    /// A window is required, and consists of tiles.
    Tiled,
    /// A window is optional, and is exact because no tiles are used.
    Untiled,
}

/// A row of the table.
#[derive(Debug)]
pub(super) struct Definition {
    aggregate: Aggregate,
    name: &'static str,
    /// Whether it accepts `where`.
    has_filter: bool,
    /// The filter used when `where` is absent.
    default_filter: Option<&'static str>,
    value: ValueKind,
    /// The keys specific to this aggregate.
    arguments: &'static [&'static str],
    window: WindowKind,
    /// Bytes per profile; per tile if it has a window.
    bytes: &'static str,
    /// What the feature is, its unit, and its value without events.
    meaning: &'static str,
    /// Adds the cells it needs and returns how its columns are read.
    columns: fn(&mut Builder<'_>) -> Columns,
}

/// Windowed, counting events rather than a value.
const OF_EVENTS: Definition = Definition {
    aggregate: Aggregate::Count,
    name: "",
    has_filter: true,
    default_filter: None,
    value: ValueKind::None,
    arguments: &[],
    window: WindowKind::Tiled,
    bytes: "",
    meaning: "",
    columns: |_| Vec::new(),
};

/// Windowed, over a value.
const OF_VALUES: Definition = Definition { value: ValueKind::Numbers, ..OF_EVENTS };

/// Over all events.
const OF_ALL_TIMES: Definition = Definition { window: WindowKind::None, ..OF_EVENTS };

/// Computed from the event time.
const OF_CALENDAR: Definition = Definition {
    has_filter: false,
    arguments: &["zone"],
    window: WindowKind::None,
    bytes: "0 B, with zone 16 B",
    ..OF_EVENTS
};

/// One row for each aggregate, in the order of the enum.
static DEFINITIONS: [Definition; 30] = [
    Definition {
        aggregate: Aggregate::Count,
        name: "count",
        bytes: "1 B",
        meaning: "the number of events; 0 if there are none",
        columns: |it| it.of_cell(CellKind::Count, Finalizer::Float),
        ..OF_EVENTS
    },
    Definition {
        aggregate: Aggregate::Sum,
        name: "sum",
        bytes: "8 B",
        meaning: "the sum of value; 0 if there are none",
        columns: |it| it.of_cell(CellKind::Sum, Finalizer::Float),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Mean,
        name: "mean",
        bytes: "9 B",
        meaning: "the mean of value; NaN if there are none",
        columns: |it| {
            let (sum, count) = (it.cell(CellKind::Sum), it.cell(CellKind::ValueCount));
            it.column(Finalizer::Mean { sum, count })
        },
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Min,
        name: "min",
        bytes: "8 B",
        meaning: "the smallest value; NaN if there are none",
        columns: |it| it.of_cell(CellKind::Min, Finalizer::Float),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Max,
        name: "max",
        bytes: "8 B",
        meaning: "the largest value; NaN if there are none",
        columns: |it| it.of_cell(CellKind::Max, Finalizer::Float),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Variance,
        name: "variance",
        bytes: "24 B",
        meaning: "the mean squared difference of value from its mean; NaN if there are none",
        columns: |it| it.of_cell(CellKind::Moments, Finalizer::Variance),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Stddev,
        name: "stddev",
        bytes: "24 B",
        meaning: "the square root of the variance",
        columns: |it| it.of_cell(CellKind::Moments, Finalizer::Deviation),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::First,
        name: "first",
        value: ValueKind::NumbersOrCategories,
        arguments: &["categories", "buckets"],
        bytes: "16 B",
        meaning: "the value of the oldest event that has one; of events at the same time, the one that arrived first. NaN if \
                  there are none. A string needs categories, which give a column of 0 or 1 for each and one for all others, \
                  or buckets, which give the number of its hash bucket",
        columns: |it| it.remembered(|text| CellKind::First { text }),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Last,
        name: "last",
        value: ValueKind::NumbersOrCategories,
        arguments: &["categories", "buckets"],
        bytes: "16 B",
        meaning: "the value of the newest event that has one; of events at the same time, the one that arrived last. NaN if \
                  there are none. Strings as in first",
        columns: |it| it.remembered(|text| CellKind::Last { text }),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Attribute,
        name: "attribute",
        default_filter: Some("event_type == \"identify\""),
        value: ValueKind::NumbersOrCategories,
        arguments: &["categories", "buckets"],
        window: WindowKind::None,
        bytes: "16 B",
        meaning: "an attribute of the user: the newest value of all times, by default of identify events. Attributes that \
                  another system keeps have to be written to the input as such events. Strings as in first",
        columns: |it| it.remembered(|text| CellKind::Last { text }),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::LastK,
        name: "last_k",
        arguments: &["k"],
        bytes: "16 B for each of k",
        meaning: "the values of the k newest events that have one, 1 to 16: columns name_1, the newest, to name_k; NaN if \
                  there are fewer",
        columns: |it| it.last_k(),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Distinct,
        name: "distinct",
        value: ValueKind::Any,
        arguments: &["exact"],
        bytes: "8 B, and 8 B for each of exact",
        meaning: "the number of different values; 0 if there are none. It is exact up to `exact` values (16, 32, 64 or 128; 32 \
                  by default); beyond, a HyperLogLog with 8 registers for each of these estimates it, with a standard error \
                  of 9.2, 6.5, 4.6 or 3.3 %",
        columns: |it| it.distinct(),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Top,
        name: "top",
        value: ValueKind::Any,
        arguments: &["k", "capacity"],
        bytes: "8 B, and 16 B for each of capacity",
        meaning: "the counts of the k most common values, 1 to 8: columns name_1 to name_k, and their shares of all, \
                  name_share_1 to name_share_k; 0 if there are fewer, and NaN for shares of nothing. It is exact up to \
                  `capacity` different values (k to 64; 16 by default); beyond, a count is too low by at most \
                  1/(capacity + 1) of all",
        columns: |it| it.top(),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Categories,
        name: "categories",
        value: ValueKind::Categories,
        arguments: &["categories"],
        bytes: "1 B for each, and 1 B",
        meaning: "how often a string was each of these: columns name_<category>, and name_other for all other strings",
        columns: |it| it.categories(),
        ..OF_VALUES
    },
    Definition {
        aggregate: Aggregate::Ratio,
        name: "ratio",
        arguments: &["numerator", "denominator", "alpha", "beta"],
        bytes: "2 B",
        meaning: "(events that match numerator + alpha) / (events that match denominator + beta), where alpha and beta are 0 \
                  by default; NaN for 0/0",
        columns: |it| it.ratio(),
        ..OF_EVENTS
    },
    Definition {
        aggregate: Aggregate::Recency,
        name: "recency",
        window: WindowKind::Untiled,
        bytes: "8 B",
        meaning: "seconds since the newest earlier event, not counting the present one; NaN if there is none, or none within \
                  window (an event exactly window ago is outside, as in every window); 0 if the present event is older than \
                  that one",
        columns: |it| it.recency(),
        ..OF_EVENTS
    },
    Definition {
        aggregate: Aggregate::SinceFirst,
        name: "since_first",
        bytes: "8 B",
        meaning: "seconds since the oldest event, 0 for that event itself; NaN if there is none",
        columns: |it| it.of_cell(CellKind::OldestTime, Finalizer::SinceOldest),
        ..OF_EVENTS
    },
    Definition {
        aggregate: Aggregate::MeanGap,
        name: "mean_gap",
        bytes: "17 B",
        meaning: "the mean time between one event and the next in seconds; NaN for fewer than two events",
        columns: |it| {
            let (oldest, newest) = (it.cell(CellKind::OldestTime), it.cell(CellKind::NewestTime));
            let count = it.cell(CellKind::Count);
            it.column(Finalizer::Gap { oldest, newest, count })
        },
        ..OF_EVENTS
    },
    Definition {
        aggregate: Aggregate::DecayedCount,
        name: "decayed_count",
        arguments: &["half_life"],
        bytes: "16 B",
        meaning: "the number of events, each weighing half as much after every half_life, at the time of the newest; 0 if \
                  there are none",
        columns: |it| it.decayed(false),
        ..OF_ALL_TIMES
    },
    Definition {
        aggregate: Aggregate::DecayedSum,
        name: "decayed_sum",
        value: ValueKind::Numbers,
        arguments: &["half_life"],
        bytes: "16 B",
        meaning: "the sum of value, each halved after every half_life, at the time of the newest event that has one; 0 if \
                  there are none",
        columns: |it| it.decayed(true),
        ..OF_ALL_TIMES
    },
    Definition {
        aggregate: Aggregate::SessionEvents,
        name: "session_events",
        arguments: &["gap"],
        bytes: "32 B",
        meaning: "the number of events in the current session. An event that is later than the newest one by more than gap \
                  begins a session; one that is older than the session's first by more than gap belongs to none",
        columns: |it| it.session(Finalizer::SessionEvents),
        ..OF_ALL_TIMES
    },
    Definition {
        aggregate: Aggregate::SessionLength,
        name: "session_length",
        arguments: &["gap"],
        bytes: "32 B",
        meaning: "seconds from the oldest to the newest event of the current session",
        columns: |it| it.session(Finalizer::SessionLength),
        ..OF_ALL_TIMES
    },
    Definition {
        aggregate: Aggregate::SessionCount,
        name: "session_count",
        arguments: &["gap"],
        bytes: "32 B",
        meaning: "the number of sessions, including the current one; 0 if there are none",
        columns: |it| it.session(Finalizer::SessionCount),
        ..OF_ALL_TIMES
    },
    Definition {
        aggregate: Aggregate::Age,
        name: "age",
        has_filter: false,
        bytes: "0 B",
        meaning: "seconds since the user's first event in order of arrival; 0 for that event, and NaN for a late event from \
                  before it",
        columns: |_| vec![(String::new(), Read::Age)],
        ..OF_ALL_TIMES
    },
    Definition {
        aggregate: Aggregate::Hour,
        name: "hour",
        meaning: "the hour of day of the event, 0 to 23: in UTC, or in the IANA time zone that the string zone names. If an \
                  event names none or an unknown one, the user's last known zone is used; NaN if there is none. Unknown names \
                  are counted (aimpoint_unknown_zones_total)",
        columns: |it| it.calendar(Calendar::Hour),
        ..OF_CALENDAR
    },
    Definition {
        aggregate: Aggregate::Weekday,
        name: "weekday",
        meaning: "the day of the week of the event, Monday is 1, Sunday 7; zone as in hour",
        columns: |it| it.calendar(Calendar::Weekday),
        ..OF_CALENDAR
    },
    Definition {
        aggregate: Aggregate::DayOfMonth,
        name: "day_of_month",
        meaning: "the day of the month of the event, from 1; zone as in hour",
        columns: |it| it.calendar(Calendar::DayOfMonth),
        ..OF_CALENDAR
    },
    Definition {
        aggregate: Aggregate::Month,
        name: "month",
        meaning: "the month of the event, from 1; zone as in hour",
        columns: |it| it.calendar(Calendar::Month),
        ..OF_CALENDAR
    },
    Definition {
        aggregate: Aggregate::HourSin,
        name: "hour_sin",
        meaning: "sin(2π · time of day), so that times just before and after midnight are close; zone as in hour",
        columns: |it| it.calendar(Calendar::HourSin),
        ..OF_CALENDAR
    },
    Definition {
        aggregate: Aggregate::HourCos,
        name: "hour_cos",
        meaning: "cos(2π · time of day); zone as in hour",
        columns: |it| it.calendar(Calendar::HourCos),
        ..OF_CALENDAR
    },
];

impl Aggregate {
    /// All aggregates, in the order in which the reference lists them.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        DEFINITIONS.iter().map(|definition| definition.aggregate)
    }

    /// Looks up an aggregate by name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().find(|aggregate| aggregate.name() == name)
    }

    fn definition(self) -> &'static Definition {
        &DEFINITIONS[self as usize]
    }

    /// The name used for it in the `aggregate` key.
    pub fn name(self) -> &'static str {
        self.definition().name
    }

    /// What the feature is, its unit, and its value without events.
    pub fn meaning(self) -> &'static str {
        self.definition().meaning
    }

    /// Bytes per profile; per tile if it has a window.
    pub fn bytes(self) -> &'static str {
        self.definition().bytes
    }

    /// The keys it takes in addition to `name`, `where` and `model`.
    pub fn keys(self) -> impl Iterator<Item = &'static str> {
        let Definition { value, arguments, window, .. } = self.definition();
        let value = (*value != ValueKind::None).then_some("value");
        let window: &[&str] = match window {
            WindowKind::None => &[],
            WindowKind::Untiled => &["window"],
            WindowKind::Tiled => &["window", "tile"],
        };
        value.into_iter().chain(arguments.iter().copied()).chain(window.iter().copied())
    }

    /// Whether it takes a tiled window.
    pub fn has_tiles(self) -> bool {
        self.window() == WindowKind::Tiled
    }

    /// Whether it takes `where`.
    pub(super) fn has_filter(self) -> bool {
        self.definition().has_filter
    }

    /// The filter used when `where` is absent.
    pub(super) fn default_filter(self) -> Option<&'static str> {
        self.definition().default_filter
    }

    pub(super) fn value(self) -> ValueKind {
        self.definition().value
    }

    pub(super) fn window(self) -> WindowKind {
        self.definition().window
    }

    /// Adds the cells it needs and returns how its columns are read.
    pub(super) fn columns(self, builder: &mut Builder<'_>) -> Columns {
        (self.definition().columns)(builder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_aggregate_in_the_order_of_the_enum() {
        for (row, definition) in DEFINITIONS.iter().enumerate() {
            assert_eq!(definition.aggregate as usize, row, "{}", definition.name);
            assert_eq!(Aggregate::named(definition.name), Some(definition.aggregate));
            assert!(!definition.bytes.is_empty() && !definition.meaning.is_empty(), "{}", definition.name);
        }
    }
}
