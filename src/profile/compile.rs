//! From declared features to a layout: which cells are kept, and which of them each feature reads.

use super::{
    FeatureSpec,
    layout::{Cell, Cells, Group, Keeps, Shape},
    window::{Micros, Window, WindowFault, duration},
};
use crate::{
    columns::{Slot, Type},
    expression::{Program, Scope, nearest},
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
}

/// The aggregates that a feature may name.
pub const AGGREGATES: [AggregateDoc; 10] = [
    AggregateDoc { name: "count", keys: &["window", "tile"], meaning: "how many events; 0 without any" },
    AggregateDoc { name: "sum", keys: &["value", "window", "tile"], meaning: "the sum of value; 0 without any" },
    AggregateDoc { name: "mean", keys: &["value", "window", "tile"], meaning: "the mean of value; NaN without any" },
    AggregateDoc { name: "min", keys: &["value", "window", "tile"], meaning: "the smallest value; NaN without any" },
    AggregateDoc { name: "max", keys: &["value", "window", "tile"], meaning: "the largest value; NaN without any" },
    AggregateDoc {
        name: "last",
        keys: &["value", "window", "tile"],
        meaning: "the value of the newest event that has one, of equal times the later arrival; NaN without any",
    },
    AggregateDoc {
        name: "recency",
        keys: &["window"],
        meaning: "seconds since the newest earlier event, the present one not counted; NaN without any, or none within \
                  window; 0 where that event's time is not past",
    },
    AggregateDoc {
        name: "age",
        keys: &[],
        meaning: "seconds since the user's first event, by time of arrival; 0 at it",
    },
    AggregateDoc { name: "hour", keys: &[], meaning: "the hour of day of the event in UTC, 0 to 23" },
    AggregateDoc {
        name: "weekday",
        keys: &[],
        meaning: "the day of the week of the event in UTC, Monday is 1, Sunday 7",
    },
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

/// How a feature is read off a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// From the tiles of a group, over a window of so many.
    Tiles { group: usize, tiles: i64, shape: Shape },
    /// From the cells of `forever`.
    Forever(Shape),
    /// The time since that of a `forever` cell, read before the event is applied; none beyond the window.
    Since { cell: usize, within: Option<Micros> },
    /// The time since the user's first event.
    Age,
    /// The hour of the event.
    Hour,
    /// The weekday of the event.
    Weekday,
}

/// What the features compile into.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// `where` and `value`, run before the events are applied.
    pub(super) before: Program,
    /// Derived features, run after.
    pub(super) after: Program,
    pub(super) conditions: Vec<Slot>,
    pub(super) values: Vec<(Slot, Type)>,
    pub(super) forever: Cells,
    pub(super) groups: Vec<Group>,
    /// Aggregates: where each is read, and the column it goes to.
    pub(super) reads: Vec<(Read, Slot)>,
    pub(super) features: Vec<Feature>,
}

impl Plan {
    /// Compiles all features; each fault is added under `feature[i]`.
    pub(super) fn compile(specs: &[FeatureSpec], scope: &mut Scope, faults: &mut Vec<Fault>) -> Self {
        let mut plan = Self::default();
        // An aggregate is taken before any feature is known, so its expressions see the event's fields alone.
        let reads: Vec<Option<Read>> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| {
                let key = |name: &str| format!("feature[{index}].{name}");
                match (&spec.aggregate, &spec.expression) {
                    (Some(aggregate), None) => plan.aggregate(aggregate, spec, scope, &key, faults),
                    (None, Some(_)) => {
                        for name in given(spec) {
                            faults.push(
                                Fault::new(key(&name), "a derived feature has no such key")
                                    .hint("it has a name, an expression, and model"),
                            );
                        }
                        None
                    }
                    (Some(_), Some(_)) => {
                        faults.push(Fault::new(
                            key("expression"),
                            "a feature has an aggregate or an expression, not both",
                        ));
                        None
                    }
                    (None, None) => {
                        let names: Vec<&str> = AGGREGATES.iter().map(|it| it.name).collect();
                        faults.push(
                            Fault::new(
                                key("aggregate"),
                                format!(
                                    "feature {:?} says neither what it counts nor what it is derived from",
                                    spec.name
                                ),
                            )
                            .hint(format!("set aggregate to one of {}, or give an expression", names.join(", "))),
                        );
                        None
                    }
                }
            })
            .collect();
        for (index, (spec, read)) in specs.iter().zip(reads).enumerate() {
            let key = |name: &str| format!("feature[{index}].{name}");
            let declared = match (read, &spec.expression) {
                (Some(read), _) => {
                    let slot = scope.reserve(Type::Double);
                    plan.reads.push((read, slot));
                    Some(slot)
                }
                (None, Some(expression)) => match plan.after.add(scope, expression, Some(Type::Double)) {
                    Ok(slot) => Some(slot),
                    Err(error) => {
                        faults.push(error.fault(key("expression")));
                        None
                    }
                },
                // Its fault is noted; the name is declared all the same, so that others' rules do not fail for it.
                (None, None) => Some(scope.reserve(Type::Double)),
            };
            let Some(slot) = declared else { continue };
            if !is_name(&spec.name) {
                faults.push(
                    Fault::new(key("name"), format!("{:?} cannot be used in expressions", spec.name))
                        .hint("use letters, digits and _, not beginning with a digit"),
                );
            } else if scope.alias(&spec.name, slot).is_none() {
                faults.push(Fault::new(key("name"), format!("{:?} is declared already", spec.name)));
            } else {
                plan.features.push(Feature { name: spec.name.clone(), slot, model: spec.model });
            }
        }
        plan.order();
        plan
    }

    fn aggregate(
        &mut self,
        aggregate: &str,
        spec: &FeatureSpec,
        scope: &mut Scope,
        key: &impl Fn(&str) -> String,
        faults: &mut Vec<Fault>,
    ) -> Option<Read> {
        let Some(doc) = AGGREGATES.iter().find(|doc| doc.name == aggregate) else {
            let names = AGGREGATES.iter().map(|doc| doc.name);
            let fault = Fault::new(key("aggregate"), format!("there is no aggregate {aggregate:?}"));
            faults.push(match nearest(aggregate, names.clone()) {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault.hint(format!("there are {}", names.collect::<Vec<_>>().join(", "))),
            });
            return None;
        };
        let before = faults.len();
        let filters = !matches!(aggregate, "age" | "hour" | "weekday");
        for name in given(spec) {
            let is_taken = doc.keys.contains(&name.as_str()) || (name == "where" && filters);
            if !is_taken {
                let all: Vec<&str> = filters.then_some("where").into_iter().chain(doc.keys.iter().copied()).collect();
                let takes = if all.is_empty() { "no key of its own".to_owned() } else { all.join(", ") };
                faults.push(
                    Fault::new(key(&name), format!("the aggregate {aggregate:?} has no such key"))
                        .hint(format!("it takes {takes}")),
                );
            }
        }
        let condition =
            spec.filter.as_ref().and_then(|source| match self.before.add(scope, source, Some(Type::Bool)) {
                Ok(slot) => Some(position(&mut self.conditions, slot)),
                Err(error) => {
                    faults.push(error.fault(key("where")));
                    None
                }
            });
        let value = self.value(doc, spec, scope, key, faults);
        let window = window(doc, spec).map_err(|fault| faults.push(at(key, fault))).ok().flatten();
        if faults.len() > before {
            return None;
        }
        let cell = |keeps: Keeps, value: Option<usize>| Cell { keeps, condition, value };
        Some(match aggregate {
            "age" => Read::Age,
            "hour" => Read::Hour,
            "weekday" => Read::Weekday,
            "recency" => {
                let within = match window {
                    Some(Window::Tiled { length, .. }) => Some(length),
                    Some(Window::Forever) | None => None,
                };
                Read::Since { cell: self.forever.need(cell(Keeps::Time, None)), within }
            }
            _ => {
                let (cells, group) = match window.expect("its absence is a fault") {
                    Window::Forever => (&mut self.forever, None),
                    Window::Tiled { length, tile } => {
                        let index = self.group(tile, length / tile);
                        (&mut self.groups[index].cells, Some((index, length / tile)))
                    }
                };
                let shape = match aggregate {
                    "count" => Shape::Cell(cells.need(cell(Keeps::Count, None))),
                    "sum" => Shape::Cell(cells.need(cell(Keeps::Sum, value))),
                    "min" => Shape::Cell(cells.need(cell(Keeps::Min, value))),
                    "max" => Shape::Cell(cells.need(cell(Keeps::Max, value))),
                    "mean" => {
                        let sum = cells.need(cell(Keeps::Sum, value));
                        Shape::Ratio(sum, cells.need(cell(Keeps::ValueCount, value)))
                    }
                    _ => {
                        let time = cells.need(cell(Keeps::LastTime, value));
                        cells.need(cell(Keeps::LastValue, value));
                        Shape::Last(time)
                    }
                };
                match group {
                    None => Read::Forever(shape),
                    Some((group, tiles)) => Read::Tiles { group, tiles, shape },
                }
            }
        })
    }

    fn value(
        &mut self,
        doc: &AggregateDoc,
        spec: &FeatureSpec,
        scope: &mut Scope,
        key: &impl Fn(&str) -> String,
        faults: &mut Vec<Fault>,
    ) -> Option<usize> {
        if !doc.keys.contains(&"value") {
            return None;
        }
        let Some(source) = &spec.value else {
            faults.push(
                Fault::new(key("value"), format!("the aggregate {:?} needs a value", doc.name))
                    .hint("name a field or write an expression, such as value = \"dwell_ms\""),
            );
            return None;
        };
        match self.before.add(scope, source, None) {
            Ok(slot) => {
                let ty = scope.type_of(slot);
                if ty == Type::String {
                    faults.push(
                        Fault::new(
                            key("value"),
                            format!("the aggregate {:?} takes numbers, and this is a string", doc.name),
                        )
                        .hint("compare it, as in value = 'currency == \"USD\"', or read it with double(…)"),
                    );
                }
                let slots: Vec<Slot> = self.values.iter().map(|(slot, _)| *slot).collect();
                Some(slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
                    self.values.push((slot, ty));
                    self.values.len() - 1
                }))
            }
            Err(error) => {
                faults.push(error.fault(key("value")));
                None
            }
        }
    }

    fn group(&mut self, tile: Micros, tiles: i64) -> usize {
        let index = self.groups.iter().position(|group| group.tile == tile).unwrap_or_else(|| {
            self.groups.push(Group { tile, tiles_max: 0, cells: Cells::default() });
            self.groups.len() - 1
        });
        self.groups[index].tiles_max = self.groups[index].tiles_max.max(tiles);
        index
    }

    /// Fixes the order of all cells.
    fn order(&mut self) {
        let forever = self.forever.order();
        let groups: Vec<Vec<usize>> = self.groups.iter_mut().map(|group| group.cells.order()).collect();
        for (read, _) in &mut self.reads {
            let (shape, number) = match read {
                Read::Tiles { group, shape, .. } => (shape, &groups[*group]),
                Read::Forever(shape) => (shape, &forever),
                Read::Since { cell, .. } => {
                    *cell = forever[*cell];
                    continue;
                }
                Read::Age | Read::Hour | Read::Weekday => continue,
            };
            match shape {
                Shape::Cell(cell) | Shape::Last(cell) => *cell = number[*cell],
                Shape::Ratio(sum, count) => (*sum, *count) = (number[*sum], number[*count]),
            }
        }
    }
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
            let length = duration("window", text)?;
            Ok(Some(Window::Tiled { length, tile: length }))
        }
    }
}

fn at(key: &impl Fn(&str) -> String, (name, message, hint): WindowFault) -> Fault {
    let fault = Fault::new(key(name), message);
    match hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

fn position(slots: &mut Vec<Slot>, slot: Slot) -> usize {
    slots.iter().position(|known| *known == slot).unwrap_or_else(|| {
        slots.push(slot);
        slots.len() - 1
    })
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
