//! Compiles one declared feature: checks its keys, adds the cells its aggregate needs, and defines how its columns are
//! read.

use super::{
    FeatureSpec,
    aggregate::{Aggregate, ValueKind, WindowKind},
    cell::{Cell, CellKind, EXACT_MAX, NEWEST_MAX, TOP_CAPACITY_MAX},
    compile::{Calendar, CompiledFeatures, Input, InputKind, Read, text_hash},
    finalize::Finalizer,
    layout::Cells,
    window::{Micros, Window, WindowFault, duration, length},
};
use crate::{
    columns::Type,
    config_error::ConfigError,
    expression::{Scope, nearest, normal_form},
};

/// The columns of one declared feature: a suffix for its name, and how the column is read.
pub(super) type Columns = Vec<(String, Read)>;

/// The most categories a feature can have; each is a column.
const CATEGORIES_MAX: usize = 64;

/// One declared feature while it is being compiled.
pub(super) struct Builder<'a> {
    index: usize,
    spec: &'a FeatureSpec,
    aggregate: Aggregate,
    compiled: &'a mut CompiledFeatures,
    scope: &'a mut Scope,
    errors: &'a mut Vec<ConfigError>,
    filter: Option<String>,
    /// The index of the filter among the conditions.
    condition: Option<usize>,
    /// The index of the value among the values.
    value: Option<usize>,
    window: Option<Window>,
    /// The tile group of the window, and how many of its tiles the window covers.
    group: Option<(usize, i64)>,
}

/// Compiles the aggregate of a feature. Errors are added under `feature[index]`; if there are any, returns no columns.
pub(super) fn build(
    compiled: &mut CompiledFeatures,
    index: usize,
    name: &str,
    spec: &FeatureSpec,
    scope: &mut Scope,
    errors: &mut Vec<ConfigError>,
) -> Option<Columns> {
    let Some(aggregate) = Aggregate::named(name) else {
        let names = Aggregate::all().map(Aggregate::name);
        let hint = match nearest(name, names.clone()) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("the aggregates are {}", names.collect::<Vec<_>>().join(", ")),
        };
        errors.push(
            ConfigError::new(format!("feature[{index}].aggregate"), format!("there is no aggregate {name:?}"))
                .hint(hint),
        );
        return None;
    };
    let before = errors.len();
    let filter = spec.filter.clone().or(aggregate.default_filter().map(str::to_owned));
    let mut it = Builder {
        index,
        spec,
        aggregate,
        compiled,
        scope,
        errors,
        filter,
        condition: None,
        value: None,
        window: None,
        group: None,
    };
    it.check_keys();
    it.condition = it.filter.clone().and_then(|filter| it.add_condition("where", &filter));
    it.value = it.add_value();
    it.window = it.parse_window();
    if let Some(Window::Tiled { length, tile }) = it.window
        && aggregate.has_tiles()
    {
        it.group = Some((it.compiled.group(tile, length / tile), length / tile));
    }
    let columns = aggregate.columns(&mut it);
    (errors.len() == before).then_some(columns)
}

/// The building blocks for the rows of the aggregate table.
impl Builder<'_> {
    /// The index of the cell of this kind over this feature's events and values.
    pub(super) fn cell(&mut self, kind: CellKind) -> usize {
        let (condition, value) = (self.condition, self.value);
        self.cells().need(Cell { kind, condition, value })
    }

    /// One column computed from one cell.
    pub(super) fn of_cell(&mut self, kind: CellKind, finalizer: fn(usize) -> Finalizer) -> Columns {
        let at = self.cell(kind);
        self.column(finalizer(at))
    }

    /// One column with the feature's own name.
    pub(super) fn column(&self, finalizer: Finalizer) -> Columns {
        vec![(String::new(), self.read(finalizer))]
    }

    /// Whether the value is a string.
    fn value_is_text(&self) -> bool {
        self.value.and_then(|value| self.compiled.values.get(value)).is_some_and(|it| it.ty == Type::String)
    }

    /// The columns of a remembered value: the value itself, or for a string the columns given by `categories` or
    /// `buckets`.
    pub(super) fn remembered(&mut self, kind: fn(bool) -> CellKind) -> Columns {
        let at = self.cell(kind(self.value_is_text()));
        if let Some(categories) = self.categories_option() {
            if self.spec.options.contains_key("buckets") {
                self.report("buckets", "categories and buckets exclude each other", Some("remove one of them"));
            }
            let hashes: Vec<u64> = categories.iter().map(|category| text_hash(category.as_bytes())).collect();
            let each = categories.iter().zip(&hashes);
            let mut columns: Columns =
                each.map(|(it, hash)| (suffix(it), self.read(Finalizer::Is { at, hash: *hash }))).collect();
            columns.push(("_other".to_owned(), self.read(Finalizer::IsOther { at, hashes })));
            return columns;
        }
        if self.value_is_text() {
            let buckets = self.whole("buckets", 1, |it| (2..=65_536).contains(&it), "a whole number from 2 to 65536");
            return self.column(Finalizer::Bucket { at, buckets: buckets as u64 });
        }
        self.column(Finalizer::Value(at))
    }

    pub(super) fn last_k(&mut self) -> Columns {
        let k = self.whole("k", 3, |k| (1..=NEWEST_MAX as i64).contains(&k), "a whole number from 1 to 16") as usize;
        let at = self.cell(CellKind::Newest(k as u8));
        (0..k).map(|rank| (format!("_{}", rank + 1), self.read(Finalizer::Newest { at, rank }))).collect()
    }

    pub(super) fn distinct(&mut self) -> Columns {
        let is_size = |exact| [16, 32, 64, EXACT_MAX as i64].contains(&exact);
        let exact = self.whole("exact", 32, is_size, "16, 32, 64 or 128");
        let text = self.value_is_text();
        let at = self.cell(CellKind::Distinct { exact: exact as u8, text });
        self.column(Finalizer::Distinct { at, exact: exact as usize })
    }

    pub(super) fn top(&mut self) -> Columns {
        let k = self.whole("k", 1, |k| (1..=8).contains(&k), "a whole number from 1 to 8");
        let range = k..=TOP_CAPACITY_MAX as i64;
        let capacity = self.whole("capacity", 16, |it| range.contains(&it), "a whole number from k to 64") as usize;
        let text = self.value_is_text();
        let at = self.cell(CellKind::Top { capacity: capacity as u8, text });
        let ranks = 0..k as usize;
        let counts = ranks.clone().map(|rank| (format!("_{}", rank + 1), Finalizer::TopCount { at, capacity, rank }));
        let shares = ranks.map(|rank| (format!("_share_{}", rank + 1), Finalizer::TopShare { at, capacity, rank }));
        counts.chain(shares).map(|(suffix, finalizer)| (suffix, self.read(finalizer))).collect()
    }

    pub(super) fn categories(&mut self) -> Columns {
        let Some(categories) = self.categories_option() else {
            if !self.spec.options.contains_key("categories") {
                self.report("categories", "the aggregate \"categories\" needs a list of them", None);
            }
            return Columns::new();
        };
        let Some(value) = &self.spec.value else { return Columns::new() };
        let all: Vec<String> = categories.iter().map(|category| literal(category)).collect();
        let each = categories.iter().zip(&all).map(|(it, literal)| (suffix(it), format!("({value}) == {literal}")));
        let other = ("_other".to_owned(), format!("!(({value}) in [{}])", all.join(", ")));
        let rules: Vec<(String, String)> = each.chain([other]).collect();
        let conditions: Vec<(String, Option<usize>)> =
            rules.into_iter().map(|(suffix, rule)| (suffix, self.add_filtered("value", &rule))).collect();
        conditions
            .into_iter()
            .map(|(suffix, condition)| {
                let count = self.count_of(condition);
                (suffix, self.read(Finalizer::Float(count)))
            })
            .collect()
    }

    pub(super) fn ratio(&mut self) -> Columns {
        let [numerator, denominator] = ["numerator", "denominator"].map(|name| {
            let Some(rule) = self.spec.options.get(name).and_then(toml::Value::as_str) else {
                let hint = "a rule, such as event_type == \"click\"";
                self.report(name, format!("the aggregate \"ratio\" needs a {name}"), Some(hint));
                return None;
            };
            self.add_filtered(name, rule)
        });
        let (of, to) = (self.count_of(numerator), self.count_of(denominator));
        let (alpha, beta) = (self.amount("alpha"), self.amount("beta"));
        self.column(Finalizer::Ratio { of, to, alpha, beta })
    }

    /// Keeps the time of the newest event over all events, and compares it with the window when it is read.
    pub(super) fn recency(&mut self) -> Columns {
        let within = match self.window {
            Some(Window::Tiled { length, .. }) => Some(length),
            Some(Window::Forever) | None => None,
        };
        let newest = Cell { kind: CellKind::NewestTime, condition: self.condition, value: None };
        let cell = self.compiled.forever.need(newest);
        vec![(String::new(), Read::Since { cell, within })]
    }

    pub(super) fn decayed(&mut self, sum: bool) -> Columns {
        let half_life = self.span("half_life", "for example half_life = \"7d\"");
        let at = self.cell(CellKind::Decayed { half_life, sum });
        self.column(Finalizer::Value(at))
    }

    pub(super) fn session(&mut self, finalizer: fn(usize) -> Finalizer) -> Columns {
        let gap = self.span("gap", "for example gap = \"30m\"");
        self.of_cell(CellKind::Session { gap }, finalizer)
    }

    pub(super) fn calendar(&mut self, what: Calendar) -> Columns {
        let zone = self.add_zone().map(|value| {
            let kind = CellKind::Last { text: true };
            self.compiled.forever.need(Cell { kind, condition: None, value: Some(value) })
        });
        vec![(String::new(), Read::Calendar { what, zone })]
    }
}

/// Cells, and how they are read.
impl Builder<'_> {
    fn cells(&mut self) -> &mut Cells {
        match self.group {
            None => &mut self.compiled.forever,
            Some((group, _)) => &mut self.compiled.groups[group].cells,
        }
    }

    /// The cell that counts the events matching a condition.
    fn count_of(&mut self, condition: Option<usize>) -> usize {
        self.cells().need(Cell { kind: CellKind::Count, condition, value: None })
    }

    fn read(&self, finalizer: Finalizer) -> Read {
        match self.group {
            None => Read::Forever(finalizer),
            Some((group, tiles)) => Read::Tiles { group, tiles, finalizer },
        }
    }

    /// Compiles a rule and returns its index among the conditions.
    fn add_condition(&mut self, key: &str, rule: &str) -> Option<usize> {
        match self.compiled.before.add(self.scope, rule, Some(Type::Bool)) {
            Ok(slot) => {
                let input = Input { slot, ty: Type::Bool, text: normal_form(rule), kind: InputKind::Values };
                Some(number_of(&mut self.compiled.conditions, input))
            }
            Err(error) => {
                self.errors.push(error.config_error(self.key(key)));
                None
            }
        }
    }

    /// Compiles a rule that counts only events that also pass the feature's filter.
    fn add_filtered(&mut self, key: &str, rule: &str) -> Option<usize> {
        let rule = match &self.filter {
            Some(filter) => format!("({filter}) && ({rule})"),
            None => rule.to_owned(),
        };
        self.add_condition(key, &rule)
    }

    fn add_value(&mut self) -> Option<usize> {
        let (kind, name) = (self.aggregate.value(), self.aggregate.name());
        if kind == ValueKind::None {
            return None;
        }
        let Some(source) = &self.spec.value else {
            let hint = "name a field or write an expression, such as value = \"dwell_ms\"";
            self.report("value", format!("the aggregate {name:?} needs a value"), Some(hint));
            return None;
        };
        let slot = match self.compiled.before.add(self.scope, source, None) {
            Ok(slot) => slot,
            Err(error) => {
                self.errors.push(error.config_error(self.key("value")));
                return None;
            }
        };
        let ty = self.scope.type_of(slot);
        let is_coded = ["categories", "buckets"].into_iter().any(|key| self.spec.options.contains_key(key));
        let refusal = match (kind, ty == Type::String) {
            (ValueKind::Numbers, true) => {
                Some("compare it, as in value = 'currency == \"USD\"', or convert it with double(…)")
            }
            (ValueKind::NumbersOrCategories, true) if !is_coded => {
                Some("set categories or buckets, or compare it, as in value = 'currency == \"USD\"'")
            }
            _ => None,
        };
        if refusal.is_some() {
            self.report("value", format!("the aggregate {name:?} takes numbers, and this is a string"), refusal);
        }
        let takes_strings = kind == ValueKind::Categories || kind == ValueKind::NumbersOrCategories && is_coded;
        if takes_strings && ty != Type::String {
            let message = format!("categories and buckets need a string, but this is a {ty}");
            self.report("value", message, Some("convert it with string(…)"));
        }
        // Ids are only compared, so they must keep every digit.
        let are_ids = ty == Type::Int && kind == ValueKind::Any;
        let kind = if are_ids { InputKind::Ids } else { InputKind::Values };
        Some(number_of(&mut self.compiled.values, Input { slot, ty, text: normal_form(source), kind }))
    }

    /// Compiles `zone`, if it is set.
    fn add_zone(&mut self) -> Option<usize> {
        let given = self.spec.options.get("zone")?;
        let Some(source) = given.as_str() else {
            self.report("zone", format!("{given} is not an expression"), None);
            return None;
        };
        match self.compiled.before.add(self.scope, source, Some(Type::String)) {
            Ok(slot) => {
                let input = Input { slot, ty: Type::String, text: normal_form(source), kind: InputKind::Zones };
                Some(number_of(&mut self.compiled.values, input))
            }
            Err(error) => {
                self.errors.push(error.config_error(self.key("zone")));
                None
            }
        }
    }
}

/// The keys as written in the configuration.
impl Builder<'_> {
    fn key(&self, name: &str) -> String {
        format!("feature[{}].{name}", self.index)
    }

    fn report(&mut self, name: &str, message: impl Into<String>, hint: Option<&str>) {
        let error = ConfigError::new(self.key(name), message);
        self.errors.push(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }

    /// Rejects keys that the aggregate does not take.
    fn check_keys(&mut self) {
        let filter = self.aggregate.has_filter().then_some("where");
        let taken: Vec<&str> = filter.into_iter().chain(self.aggregate.keys()).collect();
        let takes = if taken.is_empty() { "no key of its own".to_owned() } else { taken.join(", ") };
        for name in given(self.spec).into_iter().filter(|name| !taken.contains(&name.as_str())) {
            let message = format!("the aggregate {:?} has no such key", self.aggregate.name());
            self.report(&name, message, Some(&format!("it takes {takes}")));
        }
    }

    fn parse_window(&mut self) -> Option<Window> {
        let spec = self.spec;
        let parsed: Result<Option<Window>, WindowFault> = match (self.aggregate.window(), &spec.window) {
            (WindowKind::None, _) | (WindowKind::Untiled, None) => Ok(None),
            (WindowKind::Tiled, Some(text)) => Window::parse(text, spec.tile.as_deref()).map(Some),
            (WindowKind::Tiled, None) => Err((
                "window",
                format!("the aggregate {:?} needs a window", self.aggregate.name()),
                Some("for example window = \"24h\", or \"forever\""),
            )),
            (WindowKind::Untiled, Some(text)) if text == "forever" => Ok(Some(Window::Forever)),
            (WindowKind::Untiled, Some(text)) => {
                length(text).map(|length| Some(Window::Tiled { length, tile: length }))
            }
        };
        parsed.unwrap_or_else(|(name, message, hint)| {
            self.report(name, message, hint);
            None
        })
    }

    /// An integer option.
    fn whole(&mut self, name: &str, default: i64, allowed: impl Fn(i64) -> bool, range: &str) -> i64 {
        match self.spec.options.get(name) {
            None => default,
            Some(toml::Value::Integer(value)) if allowed(*value) => *value,
            Some(other) => {
                self.report(name, format!("{other} is not {range}"), None);
                default
            }
        }
    }

    /// A non-negative number option; 0 by default.
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
        self.report(name, format!("{} is not a number of at least 0", self.spec.options[name]), None);
        0.0
    }

    /// A required duration option.
    fn span(&mut self, name: &'static str, example: &'static str) -> Micros {
        let found = match self.spec.options.get(name) {
            Some(toml::Value::String(text)) => duration(name, text),
            Some(other) => Err((name, format!("{other} is not a duration"), Some(example))),
            None => Err((name, format!("the aggregate {:?} needs a {name}", self.aggregate.name()), Some(example))),
        };
        let found = found.and_then(|span| match span {
            0 => Err((name, format!("a {name} has to be longer than 0"), Some(example))),
            span => Ok(span),
        });
        found.unwrap_or_else(|(name, message, hint)| {
            self.report(name, message, hint);
            1
        })
    }

    /// The strings of `categories`, if it is set.
    fn categories_option(&mut self) -> Option<Vec<String>> {
        let given = self.spec.options.get("categories")?;
        let texts: Option<Vec<String>> = given
            .as_array()
            .map(|list| list.iter().map(|text| text.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        let texts = texts.filter(|texts| !texts.is_empty() && texts.len() <= CATEGORIES_MAX);
        if texts.is_none() {
            let hint = "for example categories = [\"books\", \"music\"]";
            self.report("categories", format!("expected a list of 1 to {CATEGORIES_MAX} strings"), Some(hint));
        }
        texts
    }
}

/// A string as a literal of the expression language.
fn literal(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The suffix that a category adds to the feature's name.
fn suffix(category: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    format!("_{}", category.chars().map(letter).collect::<String>())
}

/// The keys that a feature sets, except those common to all features.
pub(super) fn given(spec: &FeatureSpec) -> Vec<String> {
    let optional = [("where", &spec.filter), ("value", &spec.value), ("window", &spec.window), ("tile", &spec.tile)];
    let named = optional.into_iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.to_owned());
    named.chain(spec.options.keys().cloned()).collect()
}

/// The index of an input. It is added unless one with the same text and kind exists.
fn number_of(inputs: &mut Vec<Input>, input: Input) -> usize {
    inputs.iter().position(|it| it.text == input.text && it.kind == input.kind).unwrap_or_else(|| {
        inputs.push(input);
        inputs.len() - 1
    })
}
