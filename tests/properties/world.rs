//! Random specifications and streams, and the engine that processes them.

use aimpoint::{
    columns::Slot,
    engine::PipelineSpec,
    event::{Decoder, EventBatch, Fields, Record},
    expression::Scope,
    profile::{Applied, ProfileEngine},
    state::{Store, Stores},
};
use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use std::{collections::BTreeMap, fmt::Write};

pub(crate) const SECOND: i64 = 1_000_000;

/// The start of every stream: a Wednesday, 22:13:20 UTC.
pub(crate) const START: i64 = 1_700_000_000 * SECOND - 86_400 * SECOND * 6 + 3_600 * SECOND * 24;

/// A window in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    None,
    Forever,
    Length { length: i64, tile: i64 },
}

#[derive(Clone, Debug)]
pub(crate) struct Feature {
    pub(crate) name: String,
    /// An aggregate, or `derived`.
    pub(crate) aggregate: &'static str,
    pub(crate) condition: Option<&'static str>,
    pub(crate) value: Option<&'static str>,
    pub(crate) window: Window,
    /// Further options of the aggregate: `k`, `gap` and so on.
    pub(crate) options: Options,
    /// For a derived feature: the indexes of its two operands.
    pub(crate) of: (usize, usize),
}

/// The options of all aggregates; each takes its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) k: usize,
    pub(crate) exact: usize,
    pub(crate) capacity: usize,
    /// In seconds.
    pub(crate) half_life: i64,
    /// In seconds.
    pub(crate) gap: i64,
    pub(crate) alpha: f64,
    pub(crate) beta: f64,
    pub(crate) numerator: &'static str,
    pub(crate) denominator: &'static str,
    /// Whether a text uses categories rather than buckets.
    pub(crate) by_category: bool,
    pub(crate) buckets: u64,
    /// Whether the calendar is read in the user's zone.
    pub(crate) zoned: bool,
}

/// The texts to compare with; one of them occurs in no event.
pub(crate) const CATEGORIES: [&str; 3] = ["a", "b-2", "never"];

impl Options {
    fn random(random: &mut SmallRng) -> Self {
        let k = random.random_range(1..5);
        Self {
            k,
            exact: *[16, 32].choose(random).expect("not empty"),
            capacity: random.random_range(k.max(3)..6),
            half_life: *[1, 60, 3_600].choose(random).expect("not empty"),
            gap: *[1, 5, 60, 1_000].choose(random).expect("not empty"),
            alpha: f64::from(random.random_range(0..3)) * 0.5,
            beta: f64::from(random.random_range(0..3)) * 0.5,
            numerator: CONDITIONS.choose(random).expect("not empty"),
            denominator: CONDITIONS.choose(random).expect("not empty"),
            by_category: random.random_bool(0.5),
            buckets: random.random_range(2..7),
            zoned: random.random_bool(0.7),
        }
    }
}

impl Feature {
    /// The names of its columns.
    pub(crate) fn columns(&self) -> Vec<String> {
        let Self { name, options, .. } = self;
        let categories = || {
            let names = CATEGORIES.iter().map(|it| it.replace('-', "_")).chain(["other".to_owned()]);
            names.map(|it| format!("{name}_{it}")).collect()
        };
        match self.aggregate {
            "last_k" => (1..=options.k).map(|rank| format!("{name}_{rank}")).collect(),
            "top" => {
                let counts = (1..=options.k).map(|rank| format!("{name}_{rank}"));
                counts.chain((1..=options.k).map(|rank| format!("{name}_share_{rank}"))).collect()
            }
            "categories" => categories(),
            "first" | "last" | "attribute" if self.is_text() && options.by_category => categories(),
            _ => vec![name.clone()],
        }
    }

    pub(crate) fn is_text(&self) -> bool {
        self.value == Some("currency")
    }

    pub(crate) fn plain(name: String, aggregate: &'static str, value: &'static str, window: &str) -> Self {
        let window = match window {
            "forever" => Window::Forever,
            "10s" => Window::Length { length: 10, tile: 1 },
            _ => Window::Length { length: 3_600, tile: 60 },
        };
        let options = Options::random(&mut SmallRng::seed_from_u64(0));
        Self { name, aggregate, condition: None, value: Some(value), window, options, of: (0, 0) }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Spec {
    /// In seconds.
    pub(crate) ttl: i64,
    pub(crate) lateness: i64,
    pub(crate) horizon: i64,
    pub(crate) ids_max: usize,
    pub(crate) features: Vec<Feature>,
}

const CONDITIONS: [&str; 5] =
    ["event_type == 'view'", "event_type != 'view'", "value > 0.0", "bot", "!bot && dwell_ms >= 500"];
const VALUES: [&str; 5] = ["value", "dwell_ms", "bot", "value * 2.0", "sent_at"];
/// All aggregates; the first ones are chosen more often.
const AGGREGATES: [&str; 31] = [
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "last",
    "recency",
    "variance",
    "stddev",
    "first",
    "attribute",
    "last_k",
    "distinct",
    "top",
    "categories",
    "ratio",
    "since_first",
    "mean_gap",
    "decayed_count",
    "decayed_sum",
    "session_events",
    "session_length",
    "session_count",
    "age",
    "hour",
    "weekday",
    "day_of_month",
    "month",
    "hour_sin",
    "hour_cos",
    "derived",
];

/// Whether an aggregate takes `where`, `value` and `window`.
fn takes(aggregate: &str) -> [bool; 3] {
    match aggregate {
        "age" | "hour" | "weekday" | "day_of_month" | "month" | "hour_sin" | "hour_cos" | "derived" => [false; 3],
        "count" | "recency" | "ratio" | "since_first" | "mean_gap" => [true, false, true],
        "attribute" | "decayed_sum" => [true, true, false],
        "decayed_count" | "session_events" | "session_length" | "session_count" => [true, false, false],
        _ => [true; 3],
    }
}

impl Spec {
    pub(crate) fn random(random: &mut SmallRng) -> Self {
        let mut features: Vec<Feature> = Vec::new();
        for index in 0..random.random_range(1..14) {
            let mut aggregate = *AGGREGATES[..23].choose(random).expect("not empty");
            if random.random_bool(0.2) {
                aggregate = AGGREGATES.choose(random).expect("not empty");
            }
            // A derived feature combines two features with one column each.
            let plain: Vec<usize> = (0..index)
                .filter(|it| {
                    features[*it].columns() == [features[*it].name.clone()] && features[*it].aggregate != "distinct"
                })
                .collect();
            if aggregate == "derived" && plain.is_empty() {
                aggregate = "count";
            }
            let [takes_condition, takes_value, takes_window] = takes(aggregate);
            let tile = *[1, 2, 7, 60, 600].choose(random).expect("not empty");
            let window = match random.random_range(0..4) {
                _ if !takes_window => Window::None,
                0 if aggregate == "recency" => Window::None,
                0 | 1 => Window::Forever,
                _ => Window::Length { length: tile * random.random_range(1..30), tile },
            };
            let pick = |random: &mut SmallRng| plain.choose(random).copied().unwrap_or_default();
            let value = match aggregate {
                "categories" => "currency",
                "distinct" | "top" | "first" | "last" | "attribute" if random.random_bool(0.6) => "currency",
                _ => VALUES.choose(random).expect("not empty"),
            };
            features.push(Feature {
                name: format!("f{index}"),
                aggregate,
                condition: (takes_condition && random.random_bool(0.4))
                    .then(|| *CONDITIONS.choose(random).expect("not empty")),
                value: takes_value.then_some(value),
                window,
                options: Options::random(random),
                of: (pick(random), pick(random)),
            });
        }
        let longest = features.iter().map(|feature| match feature.window {
            Window::Length { length, .. } => length,
            Window::None | Window::Forever => 0,
        });
        let longest = longest.max().unwrap_or(0);
        Self {
            ttl: longest + random.random_range(1..500) * if random.random_bool(0.3) { 1_000 } else { 1 },
            lateness: *[0, 1, 10, 100, 3_600].choose(random).expect("not empty"),
            horizon: *[0, 1, 20, 300, 86_400].choose(random).expect("not empty"),
            ids_max: *[1, 2, 5, 64].choose(random).expect("not empty"),
            features,
        }
    }

    /// Features that do not depend on the order of events: those over all events, seen from the last one.
    pub(crate) fn forever(random: &mut SmallRng) -> Self {
        let mut spec = Self::random(random);
        spec.features.retain_mut(|feature| {
            if feature.window != Window::None {
                feature.window = Window::Forever;
            }
            // Excludes those that depend on arrival order, and derived ones.
            !feature.aggregate.starts_with("session") && !matches!(feature.aggregate, "age" | "derived" | "top")
        });
        (spec.ttl, spec.lateness, spec.horizon) = (1_000, 3_600, 0);
        spec
    }

    pub(crate) fn toml(&self) -> String {
        let Self { ttl, lateness, horizon, ids_max, features } = self;
        let mut text = format!(
            "[profile]\nttl = \"{ttl}s\"\n[time]\nallowed_lateness = \"{lateness}s\"\n\
             [duplicates]\nhorizon = \"{horizon}s\"\nmax_ids = {ids_max}\n\
             [input.fields]\noccurred_at = {{ path = \"occurred_at\", unit = \"us\" }}\n"
        );
        for feature in features {
            writeln!(text, "[[feature]]\nname = \"{}\"", feature.name).expect("a string takes everything");
            if feature.aggregate == "derived" {
                let (a, b) = (&features[feature.of.0].name, &features[feature.of.1].name);
                writeln!(text, "expression = \"{a} - {b} * 0.5\"").expect("a string takes everything");
                continue;
            }
            writeln!(text, "aggregate = \"{}\"", feature.aggregate).expect("a string takes everything");
            for (key, rule) in [("where", feature.condition), ("value", feature.value)] {
                if let Some(rule) = rule {
                    writeln!(text, "{key} = \"{rule}\"").expect("a string takes everything");
                }
            }
            let Options { k, exact, capacity, half_life, gap, alpha, beta, numerator, denominator, .. } =
                feature.options;
            let options = match feature.aggregate {
                "last_k" => format!("k = {k}\n"),
                "distinct" => format!("exact = {exact}\n"),
                "top" => format!("k = {k}\ncapacity = {capacity}\n"),
                "categories" => format!("categories = {CATEGORIES:?}\n"),
                "first" | "last" | "attribute" if feature.is_text() && feature.options.by_category => {
                    format!("categories = {CATEGORIES:?}\n")
                }
                "first" | "last" | "attribute" if feature.is_text() => {
                    format!("buckets = {}\n", feature.options.buckets)
                }
                "ratio" => format!(
                    "numerator = \"{numerator}\"\ndenominator = \"{denominator}\"\nalpha = {alpha:?}\nbeta = {beta:?}\n"
                ),
                "decayed_count" | "decayed_sum" => format!("half_life = \"{half_life}s\"\n"),
                "session_events" | "session_length" | "session_count" => format!("gap = \"{gap}s\"\n"),
                "hour" | "weekday" | "day_of_month" | "month" | "hour_sin" | "hour_cos" if feature.options.zoned => {
                    "zone = \"geo.region\"\n".to_owned()
                }
                _ => String::new(),
            };
            text.push_str(&options);
            match feature.window {
                Window::None => {}
                Window::Forever if feature.aggregate == "recency" => {}
                Window::Forever => text.push_str("window = \"forever\"\n"),
                Window::Length { length, .. } if feature.aggregate == "recency" => {
                    writeln!(text, "window = \"{length}s\"").expect("a string takes everything");
                }
                Window::Length { length, tile } => {
                    writeln!(text, "window = \"{length}s\"\ntile = \"{tile}s\"").expect("a string takes everything");
                }
            }
        }
        text
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) user: usize,
    pub(crate) partition: i32,
    pub(crate) id: Option<usize>,
    /// In microseconds.
    pub(crate) time: i64,
    pub(crate) kind: &'static str,
    /// As written; NaN and ±inf are written as text.
    pub(crate) value: Option<f64>,
    pub(crate) dwell_ms: Option<i64>,
    pub(crate) bot: Option<bool>,
    pub(crate) sent_at: Option<i64>,
    pub(crate) currency: Option<&'static str>,
    /// The name of a zone, possibly an unknown one.
    pub(crate) zone: Option<&'static str>,
}

impl Event {
    pub(crate) fn plain(id: usize, after: i64, value: f64) -> Self {
        Self {
            user: 0,
            partition: 0,
            id: Some(id),
            time: START + after,
            kind: "view",
            value: Some(value),
            dwell_ms: None,
            bot: None,
            sent_at: None,
            currency: None,
            zone: None,
        }
    }

    pub(crate) fn json(&self) -> String {
        let mut text =
            format!(r#"{{"event_type":"{}","user_id":"u{}","occurred_at":{}"#, self.kind, self.user, self.time);
        let mut member = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                write!(text, ",\"{name}\":{value}").expect("a string takes everything");
            }
        };
        member("event_id", self.id.map(|id| format!("\"e{id}\"")));
        member("value", self.value.map(|it| if it.is_finite() { format!("{it:?}") } else { format!("\"{it}\"") }));
        member("dwell_ms", self.dwell_ms.map(|it| it.to_string()));
        member("bot", self.bot.map(|it| it.to_string()));
        member("sent_at", self.sent_at.map(|it| it.to_string()));
        member("currency", self.currency.map(|it| format!("{it:?}")));
        member("geo", self.zone.map(|it| format!("{{\"region\":{it:?}}}")));
        text.push('}');
        text
    }
}

/// The texts of events: few in most streams, but in some more than are counted exactly.
const TEXTS: [&str; 40] = [
    "a", "b-2", "c", "0", "d d", "\u{e9}", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t",
    "u", "v", "w", "x", "y", "z", "aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii", "jj", "kk", "ll", "mm",
];

/// Zones east and west of Greenwich, one with a quarter-hour offset, and an unknown name.
pub(crate) const ZONES: [&str; 5] =
    ["Europe/Berlin", "America/Los_Angeles", "Asia/Kathmandu", "Pacific/Auckland", "Nowhere"];

/// A stream in arrival order.
pub(crate) fn stream(random: &mut SmallRng, spec: &Spec) -> Vec<Event> {
    // Partition time needs five users.
    let users = *[1, 2, 3, 4, 6, 9, 14].choose(random).expect("not empty");
    let partitions = random.random_range(1..3);
    let texts = *[3, 3, 6, TEXTS.len()].choose(random).expect("not empty");
    let step = *[0, 1, 10, 100, 1_000].choose(random).expect("not empty") * SECOND;
    let mut now = START;
    let mut events: Vec<Event> = Vec::new();
    for number in 0..random.random_range(1..80) {
        now += random.random_range(0..=step);
        let mut time = now;
        match random.random_range(0..20) {
            // Around the limits of lateness, horizon and TTL, to the microsecond.
            0..3 => time -= spec.lateness * SECOND + random.random_range(-1..=1),
            3 => now += spec.ttl * SECOND + random.random_range(-1..=1),
            4 => now += spec.horizon * SECOND + random.random_range(-1..=1),
            5 => time -= random.random_range(0..=spec.lateness * SECOND),
            6 => time = time / SECOND * SECOND,
            7..10 => time = events.last().map_or(time, |event| event.time),
            _ => {}
        }
        let user = random.random_range(0..users);
        let again = (random.random_bool(0.3) && number > 0).then(|| random.random_range(0..number));
        let id = again.unwrap_or(number);
        let value = match random.random_range(0..12) {
            0 => None,
            1 => Some(f64::NAN),
            2 => Some(f64::INFINITY),
            3 => Some(f64::NEG_INFINITY),
            4 => Some(random.random_range(-1.0..1.0) * 1e9),
            _ => Some(f64::from(random.random_range(-400..400)) * 0.25),
        };
        events.push(Event {
            user,
            partition: (user % partitions) as i32,
            id: random.random_bool(0.9).then_some(id),
            time,
            kind: ["view", "click", "purchase", "identify"].choose(random).expect("not empty"),
            value,
            dwell_ms: random.random_bool(0.8).then(|| random.random_range(0..1_000)),
            bot: random.random_bool(0.7).then(|| random.random_bool(0.5)),
            sent_at: random.random_bool(0.7).then(|| time + random.random_range(0..SECOND)),
            currency: random.random_bool(0.8).then(|| *TEXTS[..texts].choose(random).expect("not empty")),
            zone: random.random_bool(0.3).then(|| *ZONES.choose(random).expect("not empty")),
        });
    }
    events
}

/// The engine's result for an event.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) applied: Applied,
    pub(crate) features: Vec<f64>,
}

#[derive(Default)]
struct Held(BTreeMap<i32, Store>);

impl Stores for Held {
    fn store(&mut self, partition: i32) -> &mut Store {
        self.0.entry(partition).or_default()
    }
}

pub(crate) struct Engine {
    decoder: Decoder,
    profile: ProfileEngine,
    batch: EventBatch,
    stores: Held,
}

impl Engine {
    pub(crate) fn new(spec: &Spec) -> Self {
        let spec: PipelineSpec = toml::from_str(&spec.toml()).expect("the specification is well formed");
        let (mut scope, mut errors) = (Scope::default(), Vec::new());
        let fields = Fields::declare(&spec.input, &spec.fields, &mut scope, &mut errors);
        let profile = ProfileEngine::compile(
            &spec.profile,
            &spec.time,
            &spec.duplicates,
            &spec.features,
            &mut scope,
            &mut errors,
        );
        assert!(errors.is_empty(), "{errors:?}");
        let used: Vec<Slot> = profile.reads().collect();
        let decoder = Decoder::new(fields, &used, &spec.input, &spec.time);
        Self { decoder, profile, batch: EventBatch::new(scope.columns()), stores: Held::default() }
    }

    /// Runs the events in batches; `next` returns the size of the next one, given how many are left.
    pub(crate) fn run(&mut self, events: &[Event], mut next: impl FnMut(usize) -> usize) -> Vec<Output> {
        let mut output = Vec::with_capacity(events.len());
        let mut left = events;
        while !left.is_empty() {
            let (now, later) = left.split_at(next(left.len()));
            left = later;
            for event in now {
                let payload = event.json();
                let record =
                    Record { partition: event.partition, payload: Some(payload.as_bytes()), ..Record::default() };
                self.decoder.decode(&record, &mut self.batch).expect("the events are well formed");
            }
            self.profile.process(&mut self.batch, &mut self.stores);
            for (row, applied) in self.profile.applied().iter().enumerate() {
                let value = |slot: Slot| self.batch.columns.get(slot).doubles()[row];
                let features = self.profile.features().iter().map(|feature| value(feature.slot)).collect();
                output.push(Output { applied: *applied, features });
            }
            self.batch.clear();
        }
        output
    }

    /// The stored words of every user, except expired ones, because the time of a sweep is not specified.
    pub(crate) fn profiles(&self, events: &[Event], spec: &Spec) -> BTreeMap<(i32, usize), Vec<u64>> {
        let mut profiles = BTreeMap::new();
        for Event { user, partition, .. } in events {
            let key = format!("u{user}");
            let hash = rapidhash::v3::rapidhash_v3(key.as_bytes());
            let store = &self.stores.0[partition];
            let Some(words) = store.get(hash, key.as_bytes()) else { continue };
            let time = store.clock().time().unwrap_or(i64::MIN);
            // The first word is the user's newest event time.
            if words[0] as i64 >= time.saturating_sub(spec.ttl * SECOND) {
                profiles.insert((*partition, *user), words.to_vec());
            }
        }
        profiles
    }
}
