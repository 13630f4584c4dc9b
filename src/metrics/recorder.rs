//! The samples that the process has recorded.

use super::{Distribution, Family, Kind};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The value of a sample.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Distribution(Distribution),
}

/// One time series of a family.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The values of the family's labels, in their order.
    pub labels: Vec<String>,
    /// Its value.
    pub value: Value,
}

impl Sample {
    /// A sample of a counter or a gauge.
    pub fn number(labels: Vec<String>, value: f64) -> Self {
        Self { labels, value: Value::Number(value) }
    }
}

/// A family with its samples.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The family.
    pub family: &'static Family,
    /// Its samples.
    pub samples: Vec<Sample>,
}

impl Samples {
    /// The counters or gauges of the family: the values of their labels, and their numbers.
    pub fn numbers(&self) -> impl Iterator<Item = (&[String], f64)> {
        self.samples.iter().filter_map(|sample| match sample.value {
            Value::Number(number) => Some((&sample.labels[..], number)),
            Value::Distribution(_) => None,
        })
    }
}

/// By the family's name.
type Recorded = BTreeMap<&'static str, Samples>;

static RECORDED: Mutex<Recorded> = Mutex::new(BTreeMap::new());

/// The right to record. Others wait meanwhile.
pub struct Recording(MutexGuard<'static, Recorded>);

/// Starts to record.
pub fn recording() -> Recording {
    Recording(RECORDED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A copy of what has been recorded so far.
pub fn recorded() -> Vec<Samples> {
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
}

impl Recording {
    /// Adds to a counter.
    pub fn add(&mut self, family: &'static Family, labels: &[&str], count: u64) {
        debug_assert_eq!(family.kind, Kind::Counter);
        if let Value::Number(sum) = self.value(family, labels) {
            *sum += count as f64;
        }
    }

    /// Sets a gauge.
    pub fn set(&mut self, family: &'static Family, labels: &[&str], number: f64) {
        debug_assert_eq!(family.kind, Kind::Gauge);
        if let Value::Number(gauge) = self.value(family, labels) {
            *gauge = number;
        }
    }

    /// Counts a value in a histogram without labels.
    pub fn observe(&mut self, family: &'static Family, number: f64) {
        debug_assert_eq!(family.kind, Kind::Histogram);
        if let Value::Distribution(distribution) = self.value(family, &[]) {
            distribution.record(number);
        }
    }

    /// The value under these labels. The first use of a label allocates, all others do not.
    fn value(&mut self, family: &'static Family, labels: &[&str]) -> &mut Value {
        debug_assert_eq!(family.labels.len(), labels.len());
        let Samples { samples, .. } =
            self.0.entry(family.name).or_insert_with(|| Samples { family, samples: Vec::new() });
        let index = samples.iter().position(|sample| sample.labels == labels).unwrap_or_else(|| {
            let value = match family.kind {
                Kind::Counter | Kind::Gauge => Value::Number(0.0),
                Kind::Histogram => Value::Distribution(Distribution::new(family.buckets)),
            };
            samples.push(Sample { labels: labels.iter().map(|label| (*label).to_owned()).collect(), value });
            samples.len() - 1
        });
        &mut samples[index].value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Unit;

    static COUNTER: Family = Family {
        name: "a_test_total",
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["what", "how"],
        values: &[],
        help: "a test",
        buckets: &[],
    };
    static HISTOGRAM: Family =
        Family { name: "a_test_seconds", kind: Kind::Histogram, labels: &[], buckets: &[1.0, 2.0], ..COUNTER };

    #[test]
    fn each_set_of_labels_has_its_own_value() {
        for (labels, count) in [(["a", "b"], 2), (["b", "a"], 3), (["a", "b"], 5)] {
            recording().add(&COUNTER, &labels, count);
        }
        for number in [0.5, 1.5, 9.0] {
            recording().observe(&HISTOGRAM, number);
        }
        let all = recorded();
        let of = |name: &str| all.iter().find(|it| it.family.name == name).expect("it was recorded");
        let numbers: Vec<f64> = of("a_test_total").numbers().map(|(_, number)| number).collect();
        assert_eq!(numbers, [7.0, 3.0]);
        let [Sample { value: Value::Distribution(it), .. }] = &of("a_test_seconds").samples[..] else {
            panic!("one histogram")
        };
        assert_eq!((it.counts(), it.sum()), (&[1, 1, 1][..], 11.0));
    }
}
