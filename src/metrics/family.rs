//! What a metric declares: its name, kind, unit, labels and help.

/// The kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only increases.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

impl Kind {
    /// The kind as named by Prometheus.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// The unit of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
}

/// A metric with all its time series.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its full name.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// The values of its only label, if the set is closed. A counter starts at 0 for each of them.
    pub values: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
    /// The buckets' upper bounds; empty unless it is a histogram.
    pub buckets: &'static [f64],
}

impl Family {
    pub(super) const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, unit: Unit::Count, labels, values: &[], help, buckets: &[] }
    }

    pub(super) const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, unit: Unit::Count, labels, values: &[], help, buckets: &[] }
    }

    pub(super) const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        buckets: &'static [f64],
    ) -> Self {
        Self { name, kind: Kind::Histogram, unit: Unit::Count, labels, values: &[], help, buckets }
    }

    pub(super) const fn of(mut self, values: &'static [&'static str]) -> Self {
        self.values = values;
        self
    }

    pub(super) const fn seconds(mut self) -> Self {
        self.unit = Unit::Seconds;
        self
    }

    pub(super) const fn bytes(mut self) -> Self {
        self.unit = Unit::Bytes;
        self
    }
}
