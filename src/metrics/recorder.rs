//! The samples that the process has recorded.

use super::{Distribution, Family, Kind};
use ::metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Label, Level, Metadata, Recorder,
    SharedString,
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, Once, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
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

/// A recorded time series: a counter or gauge as the bits of its number, or a histogram.
#[derive(Debug)]
enum Cell {
    Counter(AtomicU64),
    Gauge(AtomicU64),
    Histogram(Mutex<Distribution>),
}

impl Cell {
    fn new(family: &Family) -> Self {
        match family.kind {
            Kind::Counter => Self::Counter(AtomicU64::new(0)),
            Kind::Gauge => Self::Gauge(AtomicU64::new(0.0_f64.to_bits())),
            Kind::Histogram => Self::Histogram(Mutex::new(Distribution::new(family.buckets))),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Counter(count) => Value::Number(count.load(Ordering::Relaxed) as f64),
            Self::Gauge(bits) => Value::Number(f64::from_bits(bits.load(Ordering::Relaxed))),
            Self::Histogram(values) => {
                Value::Distribution(values.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
        }
    }

    fn update(&self, change: impl Fn(f64) -> f64) {
        if let Self::Gauge(bits) = self {
            let changed = |bits| Some(change(f64::from_bits(bits)).to_bits());
            // The closure always returns a value, so this cannot fail.
            bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed).unwrap_or_default();
        }
    }
}

impl CounterFn for Cell {
    fn increment(&self, count: u64) {
        if let Self::Counter(sum) = self {
            sum.fetch_add(count, Ordering::Relaxed);
        }
    }

    fn absolute(&self, count: u64) {
        if let Self::Counter(sum) = self {
            sum.fetch_max(count, Ordering::Relaxed);
        }
    }
}

impl GaugeFn for Cell {
    fn increment(&self, number: f64) {
        self.update(|gauge| gauge + number);
    }

    fn decrement(&self, number: f64) {
        self.update(|gauge| gauge - number);
    }

    fn set(&self, number: f64) {
        self.update(|_| number);
    }
}

impl HistogramFn for Cell {
    fn record(&self, number: f64) {
        if let Self::Histogram(values) = self {
            values.lock().unwrap_or_else(PoisonError::into_inner).record(number);
        }
    }
}

/// A time series by the values of its labels.
type Series = (Vec<String>, Arc<Cell>);

static RECORDED: Mutex<BTreeMap<&'static str, (&'static Family, Vec<Series>)>> = Mutex::new(BTreeMap::new());

/// The recorder behind the `metrics` facade, which knows the families used so far.
struct Families;

impl Families {
    /// The time series of a key. The first use of a label allocates, later ones do not.
    fn cell(key: &Key) -> Option<Arc<Cell>> {
        let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
        let (family, series) = recorded.get_mut(key.name())?;
        let is_it = |(labels, _): &&Series| key.labels().map(Label::value).eq(labels.iter().map(String::as_str));
        if let Some((_, cell)) = series.iter().find(is_it) {
            return Some(Arc::clone(cell));
        }
        let cell = Arc::new(Cell::new(family));
        series.push((key.labels().map(|label| label.value().to_owned()).collect(), Arc::clone(&cell)));
        Some(cell)
    }
}

impl Recorder for Families {
    // The families declare kind, unit and help.
    fn describe_counter(&self, _: KeyName, _: Option<::metrics::Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<::metrics::Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<::metrics::Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Self::cell(key).map_or_else(Counter::noop, Counter::from_arc)
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Self::cell(key).map_or_else(Gauge::noop, Gauge::from_arc)
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Self::cell(key).map_or_else(Histogram::noop, Histogram::from_arc)
    }
}

static INSTALLED: Once = Once::new();

/// The key of a time series. Registers the family; the first call installs the recorder.
fn key(family: &'static Family, labels: &[&str]) -> Key {
    debug_assert_eq!(family.labels.len(), labels.len());
    INSTALLED.call_once(|| {
        // If a program that uses this library has its own recorder, that one gets the values.
        ::metrics::set_global_recorder(Families).unwrap_or_default();
    });
    RECORDED.lock().unwrap_or_else(PoisonError::into_inner).entry(family.name).or_insert_with(|| (family, Vec::new()));
    if labels.is_empty() {
        return Key::from_static_name(family.name);
    }
    let labels = family.labels.iter().zip(labels).map(|(name, value)| Label::new(*name, (*value).to_owned()));
    Key::from_parts(family.name, labels.collect::<Vec<_>>())
}

const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// Adds to a counter.
pub(crate) fn add(family: &'static Family, labels: &[&str], count: u64) {
    let key = key(family, labels);
    ::metrics::with_recorder(|recorder| recorder.register_counter(&key, &METADATA)).increment(count);
}

/// Sets a gauge.
pub(crate) fn set(family: &'static Family, labels: &[&str], number: f64) {
    let key = key(family, labels);
    ::metrics::with_recorder(|recorder| recorder.register_gauge(&key, &METADATA)).set(number);
}

/// Removes a time series, which then is no longer told. The next use of its labels begins it anew.
pub(crate) fn remove(family: &'static Family, labels: &[&str]) {
    let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, series)) = recorded.get_mut(family.name) {
        series.retain(|(of, _)| of != labels);
    }
}

/// Removes all time series of a family.
pub(crate) fn clear(family: &'static Family) {
    let mut recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, series)) = recorded.get_mut(family.name) {
        series.clear();
    }
}

/// The time series of a histogram without labels, initially without values.
pub(crate) fn histogram(family: &'static Family) -> Histogram {
    let key = key(family, &[]);
    ::metrics::with_recorder(|recorder| recorder.register_histogram(&key, &METADATA))
}

/// A copy of what has been recorded so far.
pub fn recorded() -> Vec<Samples> {
    let recorded = RECORDED.lock().unwrap_or_else(PoisonError::into_inner);
    let sample = |(labels, cell): &Series| Sample { labels: labels.clone(), value: cell.value() };
    recorded
        .values()
        .filter(|(_, series)| !series.is_empty())
        .map(|(family, series)| Samples { family, samples: series.iter().map(sample).collect() })
        .collect()
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
            add(&COUNTER, &labels, count);
        }
        for number in [0.5, 1.5, 9.0] {
            histogram(&HISTOGRAM).record(number);
        }
        let all = recorded();
        let of = |name: &str| all.iter().find(|it| it.family.name == name).expect("it was recorded");
        let numbers: Vec<f64> = of("a_test_total").numbers().map(|(_, number)| number).collect();
        assert_eq!(numbers, [7.0, 3.0]);
        remove(&COUNTER, &["a", "b"]);
        remove(&COUNTER, &["never", "used"]);
        let left = recorded().into_iter().find(|it| it.family.name == "a_test_total").expect("one is left");
        assert_eq!(
            left.numbers().map(|(labels, number)| (labels.concat(), number)).collect::<Vec<_>>(),
            [("ba".to_owned(), 3.0)]
        );
        clear(&COUNTER);
        assert!(recorded().iter().all(|it| it.family.name != "a_test_total"));
        let [Sample { value: Value::Distribution(it), .. }] = &of("a_test_seconds").samples[..] else {
            panic!("one histogram")
        };
        assert_eq!((it.counts(), it.sum()), (&[1, 1, 1][..], 11.0));
    }
}
