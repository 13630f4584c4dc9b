//! From declared features to a layout: which cells are kept, and which of them each feature reads.

use super::{
    FeatureSpec,
    cell::{Cell, EXACT_MAX, Keeps, NEWEST_MAX, NO_TEXT, TOP_CAPACITY_MAX},
    layout::Cells,
    read::Shape,
    tiles::Group,
    window::{Micros, Window, WindowFault, duration, length},
};
use crate::{
    columns::{Slot, Type},
    expression::{Program, Scope, nearest, normal_form},
    fault::Fault,
};

/// What an aggregate is, for people.
#[derive(Clone, Copy, Debug)]
pub struct AggregateDoc {
    /// Its name in `aggregate`.
    pub name: &'static str,
    /// The keys it takes beside `name`, `where` and `model`.
    pub keys: &'static [&'static str],
    /// What it is, with its unit and its value where nothing was seen.
    pub meaning: &'static str,
    /// What it takes of a profile: of each tile, where it has a window.
    pub bytes: &'static str,
}

const WINDOW: &[&str] = &["window", "tile"];
const VALUE: &[&str] = &["value", "window", "tile"];

/// A row of the reference.
const fn doc(
    name: &'static str,
    keys: &'static [&'static str],
    bytes: &'static str,
    meaning: &'static str,
) -> AggregateDoc {
    AggregateDoc { name, keys, meaning, bytes }
}

/// The aggregates that a feature may name.
pub const AGGREGATES: [AggregateDoc; 30] = [
    doc("count", WINDOW, "1 B", "how many events; 0 without any"),
    doc("sum", VALUE, "8 B", "the sum of value; 0 without any"),
    doc("mean", VALUE, "9 B", "the mean of value; NaN without any"),
    doc("min", VALUE, "8 B", "the smallest value; NaN without any"),
    doc("max", VALUE, "8 B", "the largest value; NaN without any"),
    doc("variance", VALUE, "24 B", "the mean squared difference of value from its mean; NaN without any"),
    doc("stddev", VALUE, "24 B", "the square root of the variance"),
    doc(
        "first",
        &["value", "window", "tile", "categories", "buckets"],
        "16 B",
        "the value of the oldest event that has one, of equal times the earlier arrival; NaN without any. A text needs \
         categories, which give a column of 0 or 1 for each and one for all others, or buckets, which give the number of \
         its bucket",
    ),
    doc(
        "last",
        &["value", "window", "tile", "categories", "buckets"],
        "16 B",
        "the value of the newest event that has one, of equal times the later arrival; NaN without any. A text as in first",
    ),
    doc(
        "attribute",
        &["value", "categories", "buckets"],
        "16 B",
        "what is known of the user: the last value of all times, by default of identify events; what another system keeps \
         has to be written into the input as such. A text as in first",
    ),
    doc(
        "last_k",
        &["value", "k", "window", "tile"],
        "16 B for each of k",
        "the values of the k newest events that have one, 1 to 16: columns name_1, the newest, to name_k; NaN where there are \
         fewer",
    ),
    doc(
        "distinct",
        &["value", "exact", "window", "tile"],
        "8 B, and 8 B for each of exact",
        "how many different values; 0 without any. Up to exact (16, 32, 64 or 128; 32 by default) it is exact, beyond a \
         HyperLogLog of 8 registers for each of these, with a standard error of 9.2, 6.5, 4.6 or 3.3 %",
    ),
    doc(
        "top",
        &["value", "k", "capacity", "window", "tile"],
        "8 B, and 16 B for each of capacity",
        "how often the k commonest values came, 1 to 8: columns name_1 to name_k, and their shares of all, name_share_1 to \
         name_share_k; 0 where there are fewer, and NaN for shares of nothing. Exact up to capacity different values (k to 64; 16 \
         by default); beyond, a count is too low by at most 1/(capacity + 1) of all",
    ),
    doc(
        "categories",
        &["value", "categories", "window", "tile"],
        "1 B for each, and 1 B",
        "how often a text was each of these: columns name_<category>, and name_other for all other texts",
    ),
    doc(
        "ratio",
        &["numerator", "denominator", "alpha", "beta", "window", "tile"],
        "2 B",
        "(events that meet numerator + alpha) / (events that meet denominator + beta), both 0 by default; NaN where that is \
         0/0",
    ),
    doc(
        "recency",
        &["window"],
        "8 B",
        "seconds since the newest earlier event, the present one not counted; NaN without any, or none within \
         window (an event exactly window ago is outside of it, as in every window); 0 where that event's time is not past",
    ),
    doc("since_first", WINDOW, "8 B", "seconds since the oldest event, 0 at it; NaN without any"),
    doc(
        "mean_gap",
        WINDOW,
        "17 B",
        "the mean time between one event and the next in seconds; NaN for fewer than two events",
    ),
    doc(
        "decayed_count",
        &["half_life"],
        "16 B",
        "how many events, each counting half as much after every half_life, as of the newest; 0 without any",
    ),
    doc(
        "decayed_sum",
        &["value", "half_life"],
        "16 B",
        "the sum of value, each fading to half in every half_life, as of the newest that has one; 0 without any",
    ),
    doc(
        "session_events",
        &["gap"],
        "32 B",
        "how many events the current session has. An event later than the newest one by more than gap begins a session; one \
         older than its oldest by more than gap belongs to none",
    ),
    doc("session_length", &["gap"], "32 B", "seconds from the oldest to the newest event of the current session"),
    doc("session_count", &["gap"], "32 B", "how many sessions there were, the current one counted; 0 without any"),
    doc(
        "age",
        &[],
        "0 B",
        "seconds since the user's first event, by time of arrival; 0 at it, and NaN for a late event from before it",
    ),
    doc(
        "hour",
        &["zone"],
        "0 B, with zone 16 B",
        "the hour of day of the event, 0 to 23: in UTC, or in the IANA zone that the text zone names. Where an event names none, \
         or one that nobody knows, the user's last good one counts; NaN for a user without any. Unknown names are counted \
         (aimpoint_unknown_zones_total)",
    ),
    doc(
        "weekday",
        &["zone"],
        "0 B, with zone 16 B",
        "the day of the week of the event, Monday is 1, Sunday 7; zone as in hour",
    ),
    doc("day_of_month", &["zone"], "0 B, with zone 16 B", "the day of the month of the event, from 1; zone as in hour"),
    doc("month", &["zone"], "0 B, with zone 16 B", "the month of the event, from 1; zone as in hour"),
    doc(
        "hour_sin",
        &["zone"],
        "0 B, with zone 16 B",
        "sin(2π · time of day), so that midnight is near itself; zone as in hour",
    ),
    doc("hour_cos", &["zone"], "0 B, with zone 16 B", "cos(2π · time of day); zone as in hour"),
];

/// One number about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// Its column: doubles.
    pub slot: Slot,
    /// Whether a model gets it unless it names its own.
    pub model: bool,
}

/// What is read off a calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calendar {
    Hour,
    Weekday,
    DayOfMonth,
    Month,
    HourSin,
    HourCos,
}

/// How a feature is read off a profile.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Read {
    /// From the tiles of a group, over a window of so many.
    Tiles { group: usize, tiles: i64, shape: Shape },
    /// From the cells of `forever`.
    Forever(Shape),
    /// The time since that of a `forever` cell, read before the event is applied; none beyond the window.
    Since { cell: usize, within: Option<Micros> },
    /// The time since the user's first event.
    Age,
    /// Off the calendar, in the zone whose name's hash a `forever` cell remembers.
    Calendar { what: Calendar, zone: Option<usize> },
}

/// A rule that events meet, or a value that is aggregated: its column, its type, and how it is written, without what
/// means nothing. Of two that are written differently each has its own cells, so that a cell's name depends on no other.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) slot: Slot,
    pub(super) ty: Type,
    pub(super) text: String,
    pub(super) means: Means,
}

/// What a source's values are to their cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// Numbers, or hashes of texts.
    Values,
    /// Whole numbers that are told apart: ids have more digits than a float.
    Ids,
    /// The names of zones, of which only good ones are kept.
    Zones,
}

/// What the features compile into.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// `where` and `value`, run before the events are applied.
    pub(super) before: Program,
    /// Derived features, run after.
    pub(super) after: Program,
    pub(super) conditions: Vec<Source>,
    pub(super) values: Vec<Source>,
    pub(super) forever: Cells,
    pub(super) groups: Vec<Group>,
    /// Aggregates: where each is read, and the column it goes to.
    pub(super) reads: Vec<(Read, Slot)>,
    /// The numbers of those that are read before an event is applied, and of those that are read of no tiles after it.
    pub(super) reads_before: Vec<usize>,
    pub(super) reads_forever: Vec<usize>,
    pub(super) features: Vec<Feature>,
}

/// Hashes a text as cells keep it. It is part of features (`buckets`), so it may not change.
pub(super) fn text_hash(text: &[u8]) -> u64 {
    match rapidhash::v3::rapidhash_v3(text) {
        NO_TEXT => 1,
        hash => hash,
    }
}

/// The columns of one declared feature: what is added to its name, and how it is read.
type Reads = Vec<(String, Read)>;

/// One feature while it is compiled.
struct Declared<'a> {
    index: usize,
    spec: &'a FeatureSpec,
    doc: &'static AggregateDoc,
    scope: &'a mut Scope,
    faults: &'a mut Vec<Fault>,
}

impl Declared<'_> {
    fn key(&self, name: &str) -> String {
        format!("feature[{}].{name}", self.index)
    }

    fn fault(&mut self, name: &str, message: impl Into<String>, hint: Option<&str>) {
        let fault = Fault::new(self.key(name), message);
        self.faults.push(match hint {
            Some(hint) => fault.hint(hint),
            None => fault,
        });
    }

    /// A whole number among the options.
    fn whole(&mut self, name: &str, default: i64, allowed: impl Fn(i64) -> bool, range: &str) -> i64 {
        match self.spec.options.get(name) {
            None => default,
            Some(toml::Value::Integer(value)) if allowed(*value) => *value,
            Some(other) => {
                self.fault(name, format!("{other} is not {range}"), None);
                default
            }
        }
    }

    /// A number that is not negative.
    fn amount(&mut self, name: &str) -> f64 {
        let value = match self.spec.options.get(name) {
            None => return 0.0,
            Some(toml::Value::Integer(value)) => *value as f64,
            Some(toml::Value::Float(value)) => *value,
            Some(_) => f64::NAN,
        };
        if value.is_finite() && value >= 0.0 {
            return value;
        }
        self.fault(name, format!("{} is no number from 0 up", self.spec.options[name]), None);
        0.0
    }

    /// A span of time that has to be given.
    fn span(&mut self, name: &'static str, example: &'static str) -> Micros {
        let found = match self.spec.options.get(name) {
            Some(toml::Value::String(text)) => duration(name, text),
            Some(other) => Err((name, format!("{other} is no duration"), Some(example))),
            None => Err((name, format!("the aggregate {:?} needs a {name}", self.doc.name), Some(example))),
        };
        match found {
            Ok(span) if span > 0 => span,
            Ok(_) => {
                self.fault(name, format!("a {name} of nothing has no meaning"), Some(example));
                1
            }
            Err((name, message, hint)) => {
                self.fault(name, message, hint);
                1
            }
        }
    }

    /// The texts of `categories`.
    fn categories(&mut self) -> Option<Vec<String>> {
        let given = self.spec.options.get("categories")?;
        let texts: Option<Vec<String>> = given
            .as_array()
            .map(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        let texts = texts.filter(|texts| !texts.is_empty() && texts.len() <= CATEGORIES_MAX);
        if texts.is_none() {
            let hint = "for instance categories = [\"books\", \"music\"]";
            self.fault("categories", format!("expected a list of 1 to {CATEGORIES_MAX} texts"), Some(hint));
        }
        texts
    }
}

/// A feature has at most so many categories: each is a column.
const CATEGORIES_MAX: usize = 64;

impl Plan {
    /// Compiles all features; each fault is added under `feature[i]`.
    pub(super) fn compile(specs: &[FeatureSpec], scope: &mut Scope, faults: &mut Vec<Fault>) -> Self {
        let mut plan = Self::default();
        // An aggregate is taken before any feature is known, so its expressions see the event's fields alone.
        let reads: Vec<Option<Reads>> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| match (&spec.aggregate, &spec.expression) {
                (Some(aggregate), None) => plan.aggregate(index, aggregate, spec, scope, faults),
                (None, Some(_)) => {
                    for name in given(spec) {
                        faults.push(
                            Fault::new(format!("feature[{index}].{name}"), "a derived feature has no such key")
                                .hint("it has a name, an expression, and model"),
                        );
                    }
                    None
                }
                (Some(_), Some(_)) => {
                    faults.push(Fault::new(
                        format!("feature[{index}].expression"),
                        "a feature has an aggregate or an expression, not both",
                    ));
                    None
                }
                (None, None) => {
                    let names: Vec<&str> = AGGREGATES.iter().map(|it| it.name).collect();
                    faults.push(
                        Fault::new(
                            format!("feature[{index}].aggregate"),
                            format!("feature {:?} says neither what it counts nor what it is derived from", spec.name),
                        )
                        .hint(format!("set aggregate to one of {}, or give an expression", names.join(", "))),
                    );
                    None
                }
            })
            .collect();
        for (index, (spec, reads)) in specs.iter().zip(reads).enumerate() {
            let declared: Vec<(String, Slot)> = match (reads, &spec.expression) {
                (Some(reads), _) => reads
                    .into_iter()
                    .map(|(suffix, read)| {
                        let slot = scope.reserve(Type::Double);
                        plan.reads.push((read, slot));
                        (spec.name.clone() + &suffix, slot)
                    })
                    .collect(),
                (None, Some(expression)) => match plan.after.add(scope, expression, Some(Type::Double)) {
                    Ok(slot) => vec![(spec.name.clone(), slot)],
                    Err(error) => {
                        faults.push(error.fault(format!("feature[{index}].expression")));
                        Vec::new()
                    }
                },
                // Its fault is noted; the name is declared all the same, so that others' rules do not fail for it.
                (None, None) => vec![(spec.name.clone(), scope.reserve(Type::Double))],
            };
            for (name, slot) in declared {
                let key = format!("feature[{index}].name");
                if !is_name(&name) {
                    faults.push(
                        Fault::new(key, format!("{name:?} cannot be used in expressions"))
                            .hint("use letters, digits and _, not beginning with a digit"),
                    );
                } else if scope.alias(&name, slot).is_none() {
                    faults.push(Fault::new(key, format!("{name:?} is declared already")));
                } else {
                    plan.features.push(Feature { name, slot, model: spec.model });
                }
            }
        }
        // A zone's cell keeps the name that it always had, unless another cell of the same profile has it.
        for index in 0..plan.values.len() {
            let Source { text, means, .. } = &plan.values[index];
            if *means == Means::Zones && plan.values.iter().any(|it| it.means == Means::Values && it.text == *text) {
                plan.values[index].text = format!("zone({text})");
            }
        }
        plan.order();
        plan
    }

    fn aggregate(
        &mut self,
        index: usize,
        aggregate: &str,
        spec: &FeatureSpec,
        scope: &mut Scope,
        faults: &mut Vec<Fault>,
    ) -> Option<Reads> {
        let Some(doc) = AGGREGATES.iter().find(|doc| doc.name == aggregate) else {
            let names = AGGREGATES.iter().map(|doc| doc.name);
            let fault =
                Fault::new(format!("feature[{index}].aggregate"), format!("there is no aggregate {aggregate:?}"));
            faults.push(match nearest(aggregate, names.clone()) {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault.hint(format!("there are {}", names.collect::<Vec<_>>().join(", "))),
            });
            return None;
        };
        let before = faults.len();
        let mut it = Declared { index, spec, doc, scope, faults };
        let is_calendar = calendar(aggregate).is_some();
        let filters = !is_calendar && aggregate != "age";
        for name in given(spec) {
            let is_taken = doc.keys.contains(&name.as_str()) || (name == "where" && filters);
            if !is_taken {
                let all: Vec<&str> = filters.then_some("where").into_iter().chain(doc.keys.iter().copied()).collect();
                let takes = if all.is_empty() { "no key of its own".to_owned() } else { all.join(", ") };
                it.fault(
                    &name,
                    format!("the aggregate {aggregate:?} has no such key"),
                    Some(&format!("it takes {takes}")),
                );
            }
        }
        let by_default = (aggregate == "attribute").then(|| "event_type == \"identify\"".to_owned());
        let filter = spec.filter.clone().or(by_default);
        let condition = filter.as_deref().and_then(|source| self.condition(&mut it, "where", source));
        let value = self.value(&mut it);
        let window = match window(doc, spec) {
            Ok(window) => window,
            Err((name, message, hint)) => {
                it.fault(name, message, hint);
                None
            }
        };
        let reads = if let Some(what) = calendar(aggregate) {
            let zone = self.zone(&mut it, "zone").map(|value| {
                let keeps = Keeps::Last { text: true };
                self.forever.need(Cell { keeps, condition: None, value: Some(value) })
            });
            vec![(String::new(), Read::Calendar { what, zone })]
        } else {
            self.shapes(&mut it, filter.as_deref(), condition, value, window)
        };
        (it.faults.len() == before).then_some(reads)
    }

    /// The columns of an aggregate that is kept in cells.
    fn shapes(
        &mut self,
        it: &mut Declared<'_>,
        filter: Option<&str>,
        condition: Option<usize>,
        value: Option<usize>,
        window: Option<Window>,
    ) -> Reads {
        let text = value.is_some_and(|value| self.values.get(value).is_some_and(|it| it.ty == Type::String));
        match it.doc.name {
            "age" => return vec![(String::new(), Read::Age)],
            "recency" => {
                let within = match window {
                    Some(Window::Tiled { length, .. }) => Some(length),
                    Some(Window::Forever) | None => None,
                };
                let cell = self.forever.need(Cell { keeps: Keeps::NewestTime, condition, value: None });
                return vec![(String::new(), Read::Since { cell, within })];
            }
            _ => {}
        }
        // Conditions of parts are found before the cells' place is chosen.
        let parts: Vec<(String, Option<usize>)> = match it.doc.name {
            "categories" => self.parts(it, filter),
            "ratio" => ["numerator", "denominator"]
                .into_iter()
                .map(|name| {
                    let source = it.spec.options.get(name).and_then(toml::Value::as_str);
                    let condition = match source {
                        Some(source) => self.condition(it, name, &both(filter, source)),
                        None => {
                            let hint = "a rule, such as event_type == \"click\"";
                            it.fault(name, format!("the aggregate \"ratio\" needs a {name}"), Some(hint));
                            None
                        }
                    };
                    (name.to_owned(), condition)
                })
                .collect(),
            _ => Vec::new(),
        };
        let (cells, group) = match window {
            None | Some(Window::Forever) => (&mut self.forever, None),
            Some(Window::Tiled { length, tile }) => {
                let index = self.groups.iter().position(|group| group.tile == tile).unwrap_or_else(|| {
                    self.groups.push(Group { tile, tiles_max: 0, cells: Cells::default(), windows: Vec::new() });
                    self.groups.len() - 1
                });
                let group = &mut self.groups[index];
                group.tiles_max = group.tiles_max.max(length / tile);
                (&mut group.cells, Some((index, length / tile)))
            }
        };
        let mut need = |keeps: Keeps, value: Option<usize>| cells.need(Cell { keeps, condition, value });
        let shapes = match it.doc.name {
            "count" => one(Shape::Float(need(Keeps::Count, None))),
            "sum" => one(Shape::Float(need(Keeps::Sum, value))),
            "min" => one(Shape::Float(need(Keeps::Min, value))),
            "max" => one(Shape::Float(need(Keeps::Max, value))),
            "mean" => one(Shape::Mean(need(Keeps::Sum, value), need(Keeps::ValueCount, value))),
            "variance" => one(Shape::Variance(need(Keeps::Moments, value))),
            "stddev" => one(Shape::Deviation(need(Keeps::Moments, value))),
            "first" => remembered(it, text, need(Keeps::First { text }, value)),
            "last" | "attribute" => remembered(it, text, need(Keeps::Last { text }, value)),
            "last_k" => {
                let k =
                    it.whole("k", 3, |k| (1..=NEWEST_MAX as i64).contains(&k), "a whole number from 1 to 16") as usize;
                let at = need(Keeps::Newest(k as u8), value);
                (0..k).map(|rank| (format!("_{}", rank + 1), Shape::Newest(at, rank))).collect()
            }
            "distinct" => {
                let exact =
                    it.whole("exact", 32, |exact| [16, 32, 64, EXACT_MAX as i64].contains(&exact), "16, 32, 64 or 128");
                let at = need(Keeps::Distinct { exact: exact as u8, text }, value);
                one(Shape::Distinct { at, exact: exact as usize })
            }
            "top" => {
                let k = it.whole("k", 1, |k| (1..=8).contains(&k), "a whole number from 1 to 8");
                let range = k..=TOP_CAPACITY_MAX as i64;
                let capacity =
                    it.whole("capacity", 16, |it| range.contains(&it), "a whole number from k to 64") as usize;
                let at = need(Keeps::Top { capacity: capacity as u8, text }, value);
                let ranks = 0..k as usize;
                let counts =
                    ranks.clone().map(|rank| (format!("_{}", rank + 1), Shape::TopCount { at, capacity, rank }));
                let shares = ranks.map(|rank| (format!("_share_{}", rank + 1), Shape::TopShare { at, capacity, rank }));
                counts.chain(shares).collect()
            }
            "categories" => {
                let mut count =
                    |condition| Shape::Float(cells.need(Cell { keeps: Keeps::Count, condition, value: None }));
                parts.into_iter().map(|(suffix, condition)| (suffix, count(condition))).collect()
            }
            "ratio" => {
                let at: Vec<usize> = parts
                    .into_iter()
                    .map(|(_, condition)| cells.need(Cell { keeps: Keeps::Count, condition, value: None }))
                    .collect();
                let (alpha, beta) = (it.amount("alpha"), it.amount("beta"));
                one(Shape::Ratio { of: at[0], to: at[1], alpha, beta })
            }
            "since_first" => one(Shape::SinceOldest(need(Keeps::OldestTime, None))),
            "mean_gap" => one(Shape::Gap {
                oldest: need(Keeps::OldestTime, None),
                newest: need(Keeps::NewestTime, None),
                count: need(Keeps::Count, None),
            }),
            name @ ("decayed_count" | "decayed_sum") => {
                let half_life = it.span("half_life", "for instance half_life = \"7d\"");
                let at = need(Keeps::Decayed { half_life, sum: name == "decayed_sum" }, value);
                one(Shape::Value(at))
            }
            name => {
                let gap = it.span("gap", "for instance gap = \"30m\"");
                let at = need(Keeps::Session { gap }, None);
                one(match name {
                    "session_events" => Shape::SessionEvents(at),
                    "session_count" => Shape::SessionCount(at),
                    _ => Shape::SessionLength(at),
                })
            }
        };
        let read = |shape| match group {
            None => Read::Forever(shape),
            Some((group, tiles)) => Read::Tiles { group, tiles, shape },
        };
        shapes.into_iter().map(|(suffix, shape)| (suffix, read(shape))).collect()
    }

    /// A rule's number among the conditions.
    fn condition(&mut self, it: &mut Declared<'_>, key: &str, source: &str) -> Option<usize> {
        match self.before.add(it.scope, source, Some(Type::Bool)) {
            Ok(slot) => Some(number(&mut self.conditions, slot, Type::Bool, Means::Values, source)),
            Err(error) => {
                it.faults.push(error.fault(it.key(key)));
                None
            }
        }
    }

    /// The conditions of `categories`, with what each adds to the feature's name.
    fn parts(&mut self, it: &mut Declared<'_>, filter: Option<&str>) -> Vec<(String, Option<usize>)> {
        let Some(categories) = it.categories() else {
            if !it.spec.options.contains_key("categories") {
                it.fault("categories", "the aggregate \"categories\" needs a list of them", None);
            }
            return Vec::new();
        };
        let Some(value) = &it.spec.value else { return Vec::new() };
        let mut sources: Vec<(String, String)> = categories
            .iter()
            .map(|category| (suffix(category), both(filter, &format!("({value}) == {}", literal(category)))))
            .collect();
        let all: Vec<String> = categories.iter().map(|category| literal(category)).collect();
        sources.push(("_other".to_owned(), both(filter, &format!("!(({value}) in [{}])", all.join(", ")))));
        sources.into_iter().map(|(suffix, source)| (suffix, self.condition(it, "value", &source))).collect()
    }

    fn value(&mut self, it: &mut Declared<'_>) -> Option<usize> {
        if !it.doc.keys.contains(&"value") {
            return None;
        }
        let Some(source) = &it.spec.value else {
            let hint = "name a field or write an expression, such as value = \"dwell_ms\"";
            it.fault("value", format!("the aggregate {:?} needs a value", it.doc.name), Some(hint));
            return None;
        };
        match self.before.add(it.scope, source, None) {
            Ok(slot) => {
                let ty = it.scope.type_of(slot);
                let takes_text = match it.doc.name {
                    "distinct" | "top" | "categories" => true,
                    _ => it.spec.options.contains_key("categories") || it.spec.options.contains_key("buckets"),
                };
                if ty == Type::String && !takes_text {
                    let message = format!("the aggregate {:?} takes numbers, and this is a string", it.doc.name);
                    let hint = if it.doc.keys.contains(&"categories") {
                        "give categories or buckets, or compare it, as in value = 'currency == \"USD\"'"
                    } else {
                        "compare it, as in value = 'currency == \"USD\"', or read it with double(…)"
                    };
                    it.fault("value", message, Some(hint));
                }
                if ty != Type::String && takes_text && !matches!(it.doc.name, "distinct" | "top") {
                    it.fault(
                        "value",
                        format!("categories and buckets are of texts, and this is a {ty}"),
                        Some("wrap it in string(…)"),
                    );
                }
                let are_ids = ty == Type::Int && matches!(it.doc.name, "distinct" | "top");
                let means = if are_ids { Means::Ids } else { Means::Values };
                Some(number(&mut self.values, slot, ty, means, source))
            }
            Err(error) => {
                it.faults.push(error.fault(it.key("value")));
                None
            }
        }
    }

    /// A zone's expression among the options, if it is given.
    fn zone(&mut self, it: &mut Declared<'_>, name: &str) -> Option<usize> {
        let given = it.spec.options.get(name)?;
        let Some(source) = given.as_str() else {
            it.fault(name, format!("{given} is no expression"), None);
            return None;
        };
        match self.before.add(it.scope, source, Some(Type::String)) {
            Ok(slot) => Some(number(&mut self.values, slot, Type::String, Means::Zones, source)),
            Err(error) => {
                it.faults.push(error.fault(it.key(name)));
                None
            }
        }
    }

    /// Fixes the order of all cells, and gives each group the windows that are read of it.
    fn order(&mut self) {
        let forever = self.forever.order();
        let groups: Vec<Vec<usize>> = self.groups.iter_mut().map(|group| group.cells.order()).collect();
        // Narrow tiles come and go with most events: they lie last, where little lies behind them that would be moved.
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by_key(|group| std::cmp::Reverse(self.groups[*group].tile));
        self.groups = order.iter().map(|group| self.groups[*group].clone()).collect();
        for (number, (read, _)) in self.reads.iter_mut().enumerate() {
            match read {
                Read::Since { .. } | Read::Age => self.reads_before.push(number),
                Read::Calendar { .. } | Read::Forever(_) => self.reads_forever.push(number),
                Read::Tiles { .. } => {}
            }
            match read {
                Read::Tiles { group, tiles, shape } => {
                    shape.place(|cell| groups[*group][cell]);
                    *group = order.iter().position(|old| old == group).expect("every group has its place");
                    self.groups[*group].read(*tiles, shape.clone(), number);
                }
                Read::Forever(shape) => shape.place(|cell| forever[cell]),
                Read::Since { cell, .. } | Read::Calendar { zone: Some(cell), .. } => *cell = forever[*cell],
                Read::Age | Read::Calendar { zone: None, .. } => {}
            }
        }
    }
}

fn one(shape: Shape) -> Vec<(String, Shape)> {
    vec![(String::new(), shape)]
}

fn calendar(aggregate: &str) -> Option<Calendar> {
    Some(match aggregate {
        "hour" => Calendar::Hour,
        "weekday" => Calendar::Weekday,
        "day_of_month" => Calendar::DayOfMonth,
        "month" => Calendar::Month,
        "hour_sin" => Calendar::HourSin,
        "hour_cos" => Calendar::HourCos,
        _ => return None,
    })
}

/// The columns of a remembered value: itself, or what `categories` or `buckets` make of a text.
fn remembered(it: &mut Declared<'_>, text: bool, at: usize) -> Vec<(String, Shape)> {
    if let Some(categories) = it.categories() {
        if it.spec.options.contains_key("buckets") {
            it.fault("buckets", "a text has categories or buckets, not both", None);
        }
        let hashes: Vec<u64> = categories.iter().map(|category| text_hash(category.as_bytes())).collect();
        let each =
            categories.iter().zip(&hashes).map(|(category, hash)| (suffix(category), Shape::Is { at, hash: *hash }));
        let mut shapes: Vec<_> = each.collect();
        shapes.push(("_other".to_owned(), Shape::IsOther { at, hashes }));
        return shapes;
    }
    if text {
        let buckets = it.whole("buckets", 1, |it| (2..=65_536).contains(&it), "a whole number from 2 to 65536");
        return one(Shape::Bucket { at, buckets: buckets as u64 });
    }
    one(Shape::Value(at))
}

/// A rule that holds where both do.
fn both(filter: Option<&str>, rule: &str) -> String {
    match filter {
        Some(filter) => format!("({filter}) && ({rule})"),
        None => rule.to_owned(),
    }
}

/// A text as an expression has it.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What a category adds to a feature's name.
fn suffix(category: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    format!("_{}", category.chars().map(letter).collect::<String>())
}

/// The keys that a feature gives, but for those that every feature has.
fn given(spec: &FeatureSpec) -> Vec<String> {
    let optional = [("where", &spec.filter), ("value", &spec.value), ("window", &spec.window), ("tile", &spec.tile)];
    let named = optional.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.to_owned());
    named.chain(spec.options.keys().cloned()).collect()
}

fn window(doc: &AggregateDoc, spec: &FeatureSpec) -> Result<Option<Window>, WindowFault> {
    match (&spec.window, doc.keys.contains(&"window"), doc.keys.contains(&"tile")) {
        (_, false, _) => Ok(None),
        (None, _, true) => Err((
            "window",
            format!("the aggregate {:?} needs a window", doc.name),
            Some("for instance window = \"24h\", or \"forever\""),
        )),
        (None, _, false) => Ok(None),
        (Some(text), _, true) => Window::parse(text, spec.tile.as_deref()).map(Some),
        (Some(text), _, false) if text == "forever" => Ok(Some(Window::Forever)),
        (Some(text), _, false) => {
            let length = length(text)?;
            Ok(Some(Window::Tiled { length, tile: length }))
        }
    }
}

/// The number of what is written like this, which is added where it is new.
fn number(known: &mut Vec<Source>, slot: Slot, ty: Type, means: Means, source: &str) -> usize {
    let text = normal_form(source);
    known.iter().position(|it| it.text == text && it.means == means).unwrap_or_else(|| {
        known.push(Source { slot, ty, text, means });
        known.len() - 1
    })
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
