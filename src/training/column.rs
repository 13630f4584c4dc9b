//! From what stands in a column to the features that are made of it.
//!
//! Owns the decision, after one look at every value, whether a column holds numbers or texts, how its numbers are written,
//! and whether a 32-bit float keeps them apart. Guarantees: a column of numbers with a few other texts in it is never taken
//! for one of texts without a word; numbers that could be read in two ways are refused unless the other columns or the
//! caller tell which it is. Limits: a column of texts has at most 256; of odd texts as many are remembered.

use super::{
    Note, TrainError,
    number::{self, Decimal},
    read::ReadSpec,
    table::{Table, Value},
};
use std::collections::{BTreeMap, BTreeSet};

/// A text column with more texts than this is a column of names or ids, from which nothing is learned.
const LEVELS_MAX: usize = 256;

/// How many examples a message shows.
const SHOWN: usize = 5;

/// Rounding of more than this share of a column's deviation leaves too little of it: a tenth is a noise of 1 % of the variance.
const ROUNDING_MAX: f64 = 0.1;

/// So many values of a column are looked at for how many of them a float keeps apart.
const SAMPLE: usize = 4_096;

/// Where a text was first seen.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    line: u64,
    text: String,
}

/// Texts with the line of the first and their count.
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

    /// The most frequent ones, for a message.
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

/// Whether a text begins with a digit, or with one behind a sign.
fn begins_with_number(text: &str) -> bool {
    text.trim_start_matches(['-', '+', '<', '>', '~']).trim_start().starts_with(|first: char| first.is_ascii_digit())
}

/// A text for a message: with its quotes, its control characters escaped, and cut where it is long.
fn quoted(text: &str) -> String {
    let start: String = text.chars().take(40).collect();
    let dots = if start.len() < text.len() { "…" } else { "" };
    format!("{:?}", format!("{start}{dots}"))
}

/// What the numbers of a column come to when they are read in one way.
#[derive(Clone, Debug, Default)]
struct Reading {
    /// Texts that are no numbers.
    odd: Texts,
    numbers: u64,
    /// Of the finite numbers: their count, mean, sum of squared differences from it, and sum of squared roundings.
    count: f64,
    mean: f64,
    squares: f64,
    rounding: f64,
    /// Numbers that no 32-bit float holds, the infinite ones among them.
    beyond: u64,
    sample: BTreeSet<u64>,
}

impl Reading {
    fn add(&mut self, value: f64) {
        self.numbers += 1;
        let float = value as f32;
        if float.is_infinite() {
            self.beyond += 1;
            return;
        }
        // Welford 1962: no large sums, so that numbers of 1e15 keep their differences.
        self.count += 1.0;
        let before = value - self.mean;
        self.mean += before / self.count;
        self.squares += before * (value - self.mean);
        self.rounding += (value - f64::from(float)).powi(2);
        if self.sample.len() < SAMPLE {
            self.sample.insert(value.to_bits());
        }
    }

    /// Whether 32-bit floats lose what tells the rows apart.
    fn is_lost(&self) -> bool {
        self.squares > 0.0 && self.rounding.sqrt() > ROUNDING_MAX * self.squares.sqrt()
    }

    /// How many of the looked-at values differ, and how many of them do as 32-bit floats.
    fn kept_apart(&self) -> (usize, usize) {
        let floats: BTreeSet<u32> = self.sample.iter().map(|bits| (f64::from_bits(*bits) as f32).to_bits()).collect();
        (self.sample.len(), floats.len())
    }
}

/// What has been seen of a column.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    missing: BTreeMap<String, u64>,
    empty: u64,
    booleans: u64,
    /// By [`Decimal`].
    readings: [Reading; 2],
    /// The first text that is two numbers.
    unclear: Option<Place>,
    /// The first text in a form that programs do not write, and how many there are.
    formatted: Option<Place>,
    formatted_count: u64,
    currencies: BTreeMap<&'static str, Place>,
    percent: Option<Place>,
    no_percent: Option<Place>,
    levels: BTreeSet<String>,
}

impl Seen {
    /// Takes a value in.
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
        let place = || Place { line, text: text.to_owned() };
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

    /// How many values are there and not missing.
    fn present(&self, decimal: Decimal) -> u64 {
        let reading = &self.readings[decimal as usize];
        self.booleans + reading.numbers + reading.odd.count
    }

    /// What the column says of how the file writes its numbers; `None` where it fits both ways or none.
    pub(super) fn evidence(&self) -> Option<Decimal> {
        let fits = |decimal: Decimal| self.readings[decimal as usize].odd.count == 0;
        match Decimal::ALL.map(fits) {
            [true, false] => Some(Decimal::Dot),
            [false, true] => Some(Decimal::Comma),
            _ => None,
        }
    }
}

/// Whether a value means that there is none, in a column of numbers.
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

/// TRUE and FALSE.
pub(super) fn boolean(text: &str) -> Option<bool> {
    [("true", true), ("false", false)]
        .into_iter()
        .find_map(|(it, value)| text.eq_ignore_ascii_case(it).then_some(value))
}

/// One column that is a feature, or several.
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
    /// The texts in order, each a feature of its own.
    Texts(Vec<String>),
}

impl Column {
    /// Decides what becomes of a column; `None` where it is left out. `evidence` is what all columns say.
    pub(super) fn decide(
        table: &Table,
        index: usize,
        seen: Seen,
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
            // Half of them and more: a column of numbers that something went wrong in.
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
        if let Some(Place { line, text }) = &seen.formatted {
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

/// How the numbers of a column are written.
fn decimal(
    table: &Table,
    index: usize,
    seen: &Seen,
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
        // What programs write is taken as they mean it, unless the file writes other numbers in another way.
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

/// What the numbers of a column are multiplied by: a hundredth where all are percent.
fn scale(table: &Table, column: &str, seen: &Seen) -> Result<f64, TrainError> {
    let unlike = |what, first: &Place, other: &Place| TrainError::Unlike {
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
        (Some(percent), Some(other)) => Err(unlike("a percent sign behind all numbers or none", percent, other)),
        (Some(_), None) => Ok(0.01),
        _ => Ok(1.0),
    }
}
