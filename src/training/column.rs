//! Turns the values of a column into features.
//!
//! Decides, after one pass over all values, whether a column is numeric or categorical, how its numbers are written, and whether
//! 32-bit floats can distinguish them. Guarantees: a numeric column with a few other texts is never silently treated as categorical;
//! ambiguous numbers are rejected unless other columns or the caller settle the format. Limits: a categorical column has at most 256
//! values; as many unusual texts are remembered.

use super::{
    Note, TrainError,
    number::{self, Decimal},
    read::ReadSpec,
    table::{Table, Value},
};
use std::collections::{BTreeMap, BTreeSet};

/// A text column with more distinct values than this holds names or ids, from which nothing can be learned.
const LEVELS_MAX: usize = 256;

/// Number of examples in a message.
const SHOWN: usize = 5;

/// Maximum rounding error relative to a column's standard deviation: a tenth adds 1 % to the variance.
const ROUNDING_MAX: f64 = 0.1;

/// Number of values sampled to find out how many a float can distinguish.
const SAMPLE: usize = 4_096;

/// The first occurrence of a text.
#[derive(Clone, Debug, PartialEq)]
struct FirstSeen {
    line: u64,
    text: String,
}

/// Texts with the line of their first occurrence and their count.
#[derive(Clone, Debug, Default)]
struct Texts {
    by_text: BTreeMap<String, (u64, u64)>,
    count: u64,
}

impl Texts {
    fn add(&mut self, line: u64, text: &str) {
        self.count += 1;
        if let Some((_, count)) = self.by_text.get_mut(text) {
            *count += 1;
        } else if self.by_text.len() < LEVELS_MAX {
            self.by_text.insert(text.to_owned(), (line, 1));
        }
    }

    /// The most frequent ones, for messages.
    fn shown(&self, unit: &str) -> String {
        let mut texts: Vec<_> = self.by_text.iter().collect();
        texts.sort_by_key(|(_, (line, count))| (std::cmp::Reverse(*count), *line));
        let shown: Vec<_> = texts
            .iter()
            .take(SHOWN)
            .map(|(text, (line, count))| format!("{} ({count}, first at {unit} {line})", quoted(text)))
            .collect();
        let more = if texts.len() > SHOWN { " and more" } else { "" };
        format!("{}{more}", shown.join(", "))
    }
}

/// Whether a text begins with a digit, after an optional sign.
fn begins_with_number(text: &str) -> bool {
    text.trim_start_matches(['-', '+', '<', '>', '~']).trim_start().starts_with(|first: char| first.is_ascii_digit())
}

/// A text for a message: quoted, escaped, and cut if long.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("{:?}", format!("{start}{dots}"))
}

/// Statistics of a column's numbers under one decimal format.
#[derive(Clone, Debug, Default)]
struct NumberStats {
    /// Texts that are not numbers.
    odd: Texts,
    numbers: u64,
    /// Of the finite numbers: count, mean, sum of squared deviations, and sum of squared rounding errors.
    count: f64,
    mean: f64,
    squares: f64,
    rounding: f64,
    /// Numbers too large for a 32-bit float, including infinite ones.
    beyond: u64,
    sample: BTreeSet<u64>,
}

impl NumberStats {
    fn add(&mut self, value: f64) {
        self.numbers += 1;
        let float = value as f32;
        if float.is_infinite() {
            self.beyond += 1;
            return;
        }
        // Welford 1962: without large sums, so that numbers around 1e15 keep their precision.
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
        self.rounding += (value - f64::from(float)).powi(2);
        if self.sample.len() < SAMPLE {
            self.sample.insert(value.to_bits());
        }
    }

    /// Whether rounding to 32-bit floats loses the differences between rows.
    fn is_lost(&self) -> bool {
        self.squares > 0.0 && self.rounding.sqrt() > ROUNDING_MAX * self.squares.sqrt()
    }

    /// The number of distinct sampled values, and of distinct ones as 32-bit floats.
    fn kept_apart(&self) -> (usize, usize) {
        let floats: BTreeSet<u32> = self.sample.iter().map(|bits| (f64::from_bits(*bits) as f32).to_bits()).collect();
        (self.sample.len(), floats.len())
    }
}

/// Statistics of a column.
#[derive(Clone, Debug, Default)]
pub(super) struct ColumnStats {
    missing: BTreeMap<String, u64>,
    empty: u64,
    booleans: u64,
    /// By [`Decimal`] format.
    readings: [NumberStats; 2],
    /// The first ambiguous number.
    unclear: Option<FirstSeen>,
    /// The first number in a form that programs do not write, and how many there are.
    formatted: Option<FirstSeen>,
    formatted_count: u64,
    currencies: BTreeMap<&'static str, FirstSeen>,
    percent: Option<FirstSeen>,
    no_percent: Option<FirstSeen>,
    levels: BTreeSet<String>,
}

impl ColumnStats {
    /// Adds a value.
    pub(super) fn add(&mut self, line: u64, value: Value<'_>, spec: &ReadSpec) {
        if self.levels.len() <= LEVELS_MAX {
            match value {
                Value::Text(text) if !self.levels.contains(text) => _ = self.levels.insert(text.to_owned()),
                Value::Number(_) => _ = self.levels.insert(value.text()),
                _ => {}
            }
        }
        match value {
            Value::Missing => self.empty += 1,
            Value::Number(number) if number.is_nan() => self.empty += 1,
            _ if is_missing(value, spec) => *self.missing.entry(value.text()).or_default() += 1,
            Value::Number(number) => self.readings.iter_mut().for_each(|reading| reading.add(number)),
            Value::Text(text) if boolean(text).is_some() => self.booleans += 1,
            Value::Text(text) => self.text(line, text),
        }
    }

    fn text(&mut self, line: u64, text: &str) {
        let place = || FirstSeen { line, text: text.to_owned() };
        let numbers = Decimal::ALL.map(|decimal| number::parse(text, decimal));
        for (reading, number) in self.readings.iter_mut().zip(numbers) {
            match number {
                Some(number) => reading.add(number.value),
                None => reading.odd.add(line, text),
            }
        }
        if let [Some(dot), Some(comma)] = numbers
            && dot.value != comma.value
            && self.unclear.is_none()
        {
            self.unclear = Some(place());
        }
        let ([Some(number), _] | [None, Some(number)]) = numbers else { return };
        if !number.is_plain {
            self.formatted_count += 1;
            self.formatted.get_or_insert_with(place);
        }
        if let Some(currency) = number.currency {
            self.currencies.entry(currency).or_insert_with(place);
        }
        if number.is_percent {
            self.percent.get_or_insert_with(place);
        } else {
            self.no_percent.get_or_insert_with(place);
        }
    }

    /// The number of values that are not missing.
    fn present(&self, decimal: Decimal) -> u64 {
        let reading = &self.readings[decimal as usize];
        self.booleans + reading.numbers + reading.odd.count
    }

    /// The decimal format that the column requires; `None` if both or neither match.
    pub(super) fn evidence(&self) -> Option<Decimal> {
        let fits = |decimal: Decimal| self.readings[decimal as usize].odd.count == 0;
        match Decimal::ALL.map(fits) {
            [true, false] => Some(Decimal::Dot),
            [false, true] => Some(Decimal::Comma),
            _ => None,
        }
    }
}

/// Whether a value means missing, in a numeric column.
fn is_missing(value: Value<'_>, spec: &ReadSpec) -> bool {
    match value {
        Value::Missing => true,
        Value::Number(_) => !spec.missing.is_empty() && spec.missing.contains(&value.text()),
        Value::Text(text) => {
            let is_nan = || text.parse::<f64>().is_ok_and(f64::is_nan);
            number::is_missing(text) || spec.missing.iter().any(|it| it == text) || is_nan()
        }
    }
}

/// Parses TRUE and FALSE.
pub(super) fn boolean(text: &str) -> Option<bool> {
    [("true", true), ("false", false)]
        .into_iter()
        .find_map(|(it, value)| text.eq_ignore_ascii_case(it).then_some(value))
}

/// A column that becomes one or more features.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) index: usize,
    name: String,
    kind: ColumnKind,
}

#[derive(Debug)]
enum ColumnKind {
    Numbers {
        decimal: Decimal,
        scale: f64,
    },
    /// The distinct texts in order, each of which is a feature.
    Texts(Vec<String>),
}

impl Column {
    /// Decides how a column is used; `None` if it is left out. `evidence` is the decimal format required by other columns.
    pub(super) fn decide(
        table: &Table,
        index: usize,
        seen: ColumnStats,
        spec: &ReadSpec,
        evidence: &BTreeSet<Decimal>,
        notes: &mut Vec<Note>,
    ) -> Result<Option<Self>, TrainError> {
        let name = table.columns[index].clone();
        let decimal = decimal(table, index, &seen, spec, evidence)?;
        let reading = &seen.readings[decimal as usize];
        let is_asked_for = spec.text.contains(&name);
        let is_text = is_asked_for || reading.odd.count > 0;
        if is_text {
            // At least half: a numeric column with errors.
            if !is_asked_for && reading.numbers > 0 && reading.numbers * 2 >= seen.present(decimal) {
                return Err(TrainError::Odd {
                    path: table.path.clone(),
                    column: name,
                    numbers: reading.numbers,
                    odd: reading.odd.count,
                    texts: reading.odd.shown(table.unit),
                });
            }
            if seen.levels.len() > LEVELS_MAX {
                let texts = reading.odd.shown(table.unit);
                return Err(TrainError::Levels { path: table.path.clone(), column: name, limit: LEVELS_MAX, texts });
            }
            if !is_asked_for && reading.numbers > 0 {
                let (numbers, texts) = (reading.numbers, seen.levels.len());
                notes.push(Note::Mixed { column: name.clone(), numbers, texts });
            }
            let texts = seen.levels.len();
            if !is_asked_for && reading.numbers == 0 {
                let like_numbers = reading.odd.by_text.iter().filter(|(text, _)| begins_with_number(text));
                let like_numbers: u64 = like_numbers.map(|(_, (_, count))| count).sum();
                notes.push(if like_numbers * 2 >= reading.odd.count {
                    Note::LikeNumbers { column: name.clone(), texts, shown: reading.odd.shown(table.unit) }
                } else {
                    Note::Texts { column: name.clone(), texts }
                });
            }
            let levels = seen.levels.into_iter().collect();
            return Ok(Some(Self { index, name, kind: ColumnKind::Texts(levels) }));
        }
        let scale = scale(table, &name, &seen)?;
        if !seen.missing.is_empty() {
            notes.push(Note::Missing {
                column: name.clone(),
                texts: seen.missing.iter().map(|(text, count)| (text.clone(), *count)).collect(),
                empty: seen.empty,
            });
        }
        if let Some(FirstSeen { line, text }) = &seen.formatted {
            let value = number::parse(text, decimal).map_or(f64::NAN, |number| number.value * scale);
            notes.push(Note::Formatted {
                column: name.clone(),
                count: seen.formatted_count,
                place: format!("{} {line}", table.unit),
                text: text.clone(),
                value,
            });
        }
        if reading.beyond > 0 {
            notes.push(Note::Beyond { column: name.clone(), count: reading.beyond });
        }
        if reading.is_lost() {
            let deviation = (reading.squares / reading.count).sqrt();
            let rounding = (reading.rounding / reading.count).sqrt();
            let mean = reading.mean;
            if spec.features.is_some() {
                return Err(TrainError::Rounded { path: table.path.clone(), column: name, mean, deviation, rounding });
            }
            notes.push(Note::Rounded { column: name, mean, deviation, rounding });
            return Ok(None);
        }
        let (values, floats) = reading.kept_apart();
        if floats * 2 < values {
            notes.push(Note::Merged { column: name.clone(), values, floats });
        }
        Ok(Some(Self { index, name, kind: ColumnKind::Numbers { decimal, scale } }))
    }

    /// The names of its features.
    pub(super) fn names(&self) -> Vec<String> {
        match &self.kind {
            ColumnKind::Numbers { .. } => vec![self.name.clone()],
            ColumnKind::Texts(levels) => levels.iter().map(|level| format!("{}={level}", self.name)).collect(),
        }
    }

    /// Appends the features of a value.
    pub(super) fn push(&self, value: Value<'_>, spec: &ReadSpec, to: &mut Vec<f32>) {
        match &self.kind {
            ColumnKind::Numbers { decimal, scale } => to.push(match value {
                _ if is_missing(value, spec) => f32::NAN,
                Value::Missing => f32::NAN,
                Value::Number(number) => number as f32,
                Value::Text(text) => match boolean(text) {
                    Some(value) => f32::from(u8::from(value)),
                    None => number::parse(text, *decimal).map_or(f32::NAN, |number| (number.value * scale) as f32),
                },
            }),
            ColumnKind::Texts(levels) => {
                let number = if let Value::Number(_) = value { value.text() } else { String::new() };
                let text = if let Value::Text(text) = value { text } else { &number };
                to.extend(levels.iter().map(|level| f32::from(u8::from(level == text))));
            }
        }
    }
}

/// The decimal format of a column.
fn decimal(
    table: &Table,
    index: usize,
    seen: &ColumnStats,
    spec: &ReadSpec,
    evidence: &BTreeSet<Decimal>,
) -> Result<Decimal, TrainError> {
    if let Some(decimal) = spec.decimal {
        return Ok(decimal);
    }
    let [dot, comma] = &seen.readings;
    let Some(place) = seen.unclear.as_ref().filter(|_| dot.odd.count == 0 && comma.odd.count == 0) else {
        return Ok(if comma.odd.count < dot.odd.count { Decimal::Comma } else { Decimal::Dot });
    };
    let is_plain = seen.formatted.is_none();
    match (evidence.contains(&Decimal::Dot), evidence.contains(&Decimal::Comma)) {
        // A number as written by programs is unambiguous, unless the file uses another format elsewhere.
        (_, false) if is_plain => Ok(Decimal::Dot),
        (true, false) => Ok(Decimal::Dot),
        (false, true) if !is_plain => Ok(Decimal::Comma),
        _ => Err(TrainError::Unclear {
            path: table.path.clone(),
            unit: table.unit,
            line: place.line,
            column: table.columns[index].clone(),
            text: place.text.clone(),
            meanings: Decimal::ALL
                .map(|decimal| number::parse(&place.text, decimal).map_or(f64::NAN, |number| number.value)),
        }),
    }
}

/// The factor for a column's numbers: 0.01 if all are percentages.
fn scale(table: &Table, column: &str, seen: &ColumnStats) -> Result<f64, TrainError> {
    let unlike = |what, first: &FirstSeen, other: &FirstSeen| TrainError::Unlike {
        path: table.path.clone(),
        unit: table.unit,
        column: column.to_owned(),
        what,
        found: Box::new([first, other].map(|place| (place.line, place.text.clone()))),
    };
    let mut currencies = seen.currencies.values();
    if let (Some(first), Some(other)) = (currencies.next(), currencies.next()) {
        return Err(unlike("one currency", first, other));
    }
    match (&seen.percent, &seen.no_percent) {
        (Some(percent), Some(other)) => Err(unlike("a percent sign after all numbers or none", percent, other)),
        (Some(_), None) => Ok(0.01),
        _ => Ok(1.0),
    }
}
