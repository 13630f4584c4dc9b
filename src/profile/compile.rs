//! Compiles declared features into the cells that profiles keep and the way each feature is read from them.

use super::{
    FeatureSpec, HiddenFeature, KeptForTargeting,
    aggregate::Aggregate,
    builder::{Columns, build, given},
    cell::{Cell, CellKind, NO_TEXT},
    consent::ConsentRows,
    finalize::Finalizer,
    kept::KeptWords,
    layout::Cells,
    tiles::TileGroup,
    window::Micros,
};
use crate::{
    columns::{Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope},
};

/// One number about a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// The name.
    pub name: String,
    /// Its column, of type double.
    pub slot: Slot,
    /// Whether it is an input of models that do not list their features.
    pub model: bool,
}

/// A part of the local time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calendar {
    Hour,
    Weekday,
    DayOfMonth,
    Month,
    HourSin,
    HourCos,
}

/// How a feature column is read from a profile. [`CompiledFeatures::compile`] replaces cell indexes by word offsets.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Read {
    /// From a window of `tiles` tiles of a group.
    Tiles { group: usize, tiles: i64, finalizer: Finalizer },
    /// From the cells over all events.
    Forever(Finalizer),
    /// The time since the one in a cell over all events, read before the event is applied; NaN beyond `within`.
    Since { cell: usize, within: Option<Micros> },
    /// The time since the user's first event.
    Age,
    /// The local time of the event, in the time zone whose hashed name a cell over all events holds; in UTC if `zone`
    /// is `None`.
    Calendar { what: Calendar, zone: Option<usize> },
}

/// An input of cells: a condition or a value. Two that are written differently get separate cells, so that the name of
/// a cell does not depend on other features.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// The column of its results.
    pub(super) slot: Slot,
    pub(super) ty: Type,
    /// Its expression in normal form.
    pub(super) text: String,
    pub(super) kind: InputKind,
}

/// How values become words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InputKind {
    /// As floats; strings as hashes.
    Values,
    /// As integers that are only compared, because ids can have more digits than a float holds.
    Ids,
    /// As hashes of the names of known time zones.
    Zones,
}

/// How features are read from a profile.
#[derive(Debug, Default)]
pub(super) struct ReadPlan {
    /// How each aggregate column is read, and where it is written.
    pub(super) all: Vec<(Read, Slot)>,
    /// The indexes of the reads done before an event is applied.
    pub(super) before: Vec<usize>,
    /// The indexes of the reads done after an event is applied that need no tiles.
    pub(super) forever: Vec<usize>,
    /// What each aggregate column is without any tiles; NaN if it is not read from tiles.
    pub(super) blank: Vec<f64>,
}

/// The compiled features.
#[derive(Debug, Default)]
pub(super) struct CompiledFeatures {
    /// `where` and `value`, run before the events are applied.
    pub(super) before: Program,
    /// Derived features, run after the events are applied.
    pub(super) after: Program,
    pub(super) conditions: Vec<Input>,
    pub(super) values: Vec<Input>,
    /// The cells over all events.
    pub(super) forever: Cells,
    pub(super) groups: Vec<TileGroup>,
    pub(super) reads: ReadPlan,
    pub(super) features: Vec<Feature>,
    /// What only targeting reads, with its columns. These are the last of the reads.
    pub(super) hidden: Vec<(HiddenFeature, Slot)>,
    /// Where the words that decisions need are among the words over all events.
    pub(super) kept: KeptWords,
    /// The consent gate.
    pub(super) gate: Option<ConsentRows>,
}

/// The hash of a string in a cell. The values of features depend on it (`buckets`), so it must never change.
pub(super) fn text_hash(text: &[u8]) -> u64 {
    match rapidhash::v3::rapidhash_v3(text) {
        NO_TEXT => 1,
        hash => hash,
    }
}

impl CompiledFeatures {
    /// Compiles all features, and what targeting keeps. Errors are added under `feature[i]`, those of hidden features
    /// under their own key.
    pub(super) fn compile(
        specs: &[FeatureSpec],
        kept: KeptForTargeting<'_>,
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let mut compiled = Self::default();
        // Aggregates are compiled before any feature is named, so their expressions can use only fields of the event.
        let columns: Vec<Option<Columns>> = specs
            .iter()
            .enumerate()
            .map(|(index, spec)| match (&spec.aggregate, &spec.expression) {
                (Some(aggregate), None) => build(&mut compiled, index, aggregate, spec, scope, errors),
                (None, Some(_)) => {
                    for name in given(spec) {
                        errors.push(
                            ConfigError::new(format!("feature[{index}].{name}"), "a derived feature has no such key")
                                .hint("it has a name, an expression, and model"),
                        );
                    }
                    None
                }
                (Some(_), Some(_)) => {
                    errors.push(ConfigError::new(
                        format!("feature[{index}].expression"),
                        "a feature has an aggregate or an expression, not both",
                    ));
                    None
                }
                (None, None) => {
                    let names: Vec<&str> = Aggregate::all().map(Aggregate::name).collect();
                    errors.push(
                        ConfigError::new(
                            format!("feature[{index}].aggregate"),
                            format!("feature {:?} has neither an aggregate nor an expression", spec.name),
                        )
                        .hint(format!("set aggregate to one of {}, or set an expression", names.join(", "))),
                    );
                    None
                }
            })
            .collect();
        // Compiled after the declared features, so that hidden ones do not move the cells of those.
        let concealed: Vec<Columns> = kept.hidden.iter().map(|it| compiled.build_hidden(it, scope, errors)).collect();
        for (index, (spec, columns)) in specs.iter().zip(columns).enumerate() {
            compiled.declare(index, spec, columns, scope, errors);
        }
        for (hidden, columns) in kept.hidden.iter().zip(concealed) {
            compiled.conceal(hidden, columns, scope, errors);
        }
        compiled.gate = kept.consent.and_then(|spec| ConsentRows::compile(spec, &mut compiled.before, scope, errors));
        compiled.tell_zones_apart();
        // These neither count nor add, so ordering keeps these last cells last.
        let keeps_consent = kept.consent.is_some_and(|spec| spec.enabled);
        if keeps_consent {
            compiled.forever.need(Cell { kind: CellKind::Consent, condition: None, value: None });
        }
        if let Some(prices) = kept.said {
            compiled.forever.need(Cell { kind: CellKind::Said { prices }, condition: None, value: None });
        }
        for name in kept.memberships {
            compiled.forever.need(Cell { kind: CellKind::Membership(*name), condition: None, value: None });
        }
        compiled.order();
        let words = compiled.forever.words();
        compiled.kept = KeptWords::before(words, kept.memberships.len(), kept.said, keeps_consent);
        compiled
    }

    /// Compiles the aggregate of a hidden feature. Its errors name its own key, each once.
    fn build_hidden(&mut self, hidden: &HiddenFeature, scope: &mut Scope, errors: &mut Vec<ConfigError>) -> Columns {
        let HiddenFeature { key, feature } = hidden;
        let mut found = Vec::new();
        let aggregate = feature.aggregate.as_deref().unwrap_or_default();
        let columns = build(self, 0, aggregate, feature, scope, &mut found);
        for error in found.into_iter().map(|error| ConfigError { key: key.clone(), ..error }) {
            if !errors.contains(&error) {
                errors.push(error);
            }
        }
        columns.unwrap_or_default()
    }

    /// Names the columns of a hidden feature. Only targeting can look them up.
    fn conceal(&mut self, hidden: &HiddenFeature, columns: Columns, scope: &mut Scope, errors: &mut Vec<ConfigError>) {
        for (suffix, read) in columns {
            let name = hidden.feature.name.clone() + &suffix;
            let slot = scope.reserve(Type::Double);
            self.reads.all.push((read, slot));
            self.hidden.push((hidden.clone(), slot));
            if is_name(&name) || scope.conceal(&name, slot).is_none() {
                let error = ConfigError::new(&hidden.key, format!("{name:?} is declared already"));
                errors.push(error.hint("give the [[field]] of this name another one"));
            }
        }
    }

    /// The index of the group with this tile width, for windows of up to this many tiles. It is added if there is none.
    pub(super) fn group(&mut self, tile: Micros, tiles: i64) -> usize {
        let index = self.groups.iter().position(|group| group.tile == tile).unwrap_or_else(|| {
            self.groups.push(TileGroup { tile, tiles_max: 0, cells: Cells::default(), windows: Vec::new() });
            self.groups.len() - 1
        });
        let group = &mut self.groups[index];
        group.tiles_max = group.tiles_max.max(tiles);
        index
    }

    /// Names the columns of a feature, so that later features can read them.
    fn declare(
        &mut self,
        index: usize,
        spec: &FeatureSpec,
        columns: Option<Columns>,
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) {
        let declared: Vec<(String, Slot)> = match (columns, &spec.expression) {
            (Some(columns), _) => columns
                .into_iter()
                .map(|(suffix, read)| {
                    let slot = scope.reserve(Type::Double);
                    self.reads.all.push((read, slot));
                    (spec.name.clone() + &suffix, slot)
                })
                .collect(),
            (None, Some(expression)) => match self.after.add(scope, expression, Some(Type::Double)) {
                Ok(slot) => vec![(spec.name.clone(), slot)],
                Err(error) => {
                    errors.push(error.config_error(format!("feature[{index}].expression")));
                    Vec::new()
                }
            },
            // It is already reported. Declaring the name avoids follow-up errors in expressions that read it.
            (None, None) => vec![(spec.name.clone(), scope.reserve(Type::Double))],
        };
        for (name, slot) in declared {
            let key = format!("feature[{index}].name");
            if !is_name(&name) {
                errors.push(
                    ConfigError::new(key, format!("{name:?} cannot be used in expressions"))
                        .hint("use letters, digits and _, not beginning with a digit"),
                );
            } else if scope.alias(&name, slot).is_none() {
                errors.push(ConfigError::new(key, format!("{name:?} is declared already")));
            } else {
                self.features.push(Feature { name, slot, model: spec.model });
            }
        }
    }

    /// Renames time zone inputs whose expression is also the value of other cells. All others keep the names that
    /// earlier versions gave their cells.
    fn tell_zones_apart(&mut self) {
        for index in 0..self.values.len() {
            let Input { text, kind, .. } = &self.values[index];
            let is_taken = || self.values.iter().any(|it| it.kind == InputKind::Values && it.text == *text);
            if *kind == InputKind::Zones && is_taken() {
                self.values[index].text = format!("zone({text})");
            }
        }
    }

    /// Fixes the order of all cells, replaces their indexes by word offsets, and assigns windows to groups.
    fn order(&mut self) {
        let forever = self.forever.order();
        let groups: Vec<Vec<usize>> = self.groups.iter_mut().map(|group| group.cells.order()).collect();
        // Narrow tiles come and go most often. They are placed last, so that few words behind them have to move.
        let mut order: Vec<usize> = (0..self.groups.len()).collect();
        order.sort_by_key(|group| std::cmp::Reverse(self.groups[*group].tile));
        self.groups = order.iter().map(|group| self.groups[*group].clone()).collect();
        for (number, (read, _)) in self.reads.all.iter_mut().enumerate() {
            match read {
                Read::Since { .. } | Read::Age => self.reads.before.push(number),
                Read::Calendar { .. } | Read::Forever(_) => self.reads.forever.push(number),
                Read::Tiles { .. } => {}
            }
            match read {
                Read::Tiles { group, tiles, finalizer } => {
                    finalizer.place(|cell| groups[*group][cell]);
                    *group = order.iter().position(|old| old == group).expect("every group has its place");
                    self.groups[*group].read(*tiles, finalizer.clone(), number);
                }
                Read::Forever(finalizer) => finalizer.place(|cell| forever[cell]),
                Read::Since { cell, .. } | Read::Calendar { zone: Some(cell), .. } => *cell = forever[*cell],
                Read::Age | Read::Calendar { zone: None, .. } => {}
            }
        }
        self.reads.blank = vec![f64::NAN; self.reads.all.len()];
        self.groups.iter().for_each(|group| group.blank(&mut self.reads.blank));
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
