//! Evaluates steps: each is a loop over all rows of a batch.

use super::program::{Arithmetic, Case, Operand, Order, Step, TextTest, TimePart};
use crate::columns::{Column, Columns, MISSING_INT, Text, Truth, Type, prefix};

/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

/// A column or a constant of plain values.
#[derive(Clone, Copy)]
enum Values<'a, T> {
    Each(&'a [T]),
    All(T),
}

impl<T: Copy> Values<'_, T> {
    fn at(self, row: usize) -> T {
        match self {
            Self::Each(values) => values[row],
            Self::All(value) => value,
        }
    }
}

fn doubles<'a>(operand: &Operand, columns: &'a Columns) -> Values<'a, f64> {
    match operand {
        Operand::Column(slot) => Values::Each(columns.get(*slot).doubles()),
        Operand::Double(value) => Values::All(*value),
        other => unreachable!("checked to be a double: {other:?}"),
    }
}

fn ints<'a>(operand: &Operand, columns: &'a Columns) -> Values<'a, i64> {
    match operand {
        Operand::Column(slot) => Values::Each(columns.get(*slot).ints()),
        Operand::Int(value) => Values::All(*value),
        other => unreachable!("checked to be an int: {other:?}"),
    }
}

fn bools<'a>(operand: &Operand, columns: &'a Columns) -> Values<'a, Truth> {
    match operand {
        Operand::Column(slot) => Values::Each(columns.get(*slot).bools()),
        Operand::Bool(value) => Values::All((*value).into()),
        other => unreachable!("checked to be a bool: {other:?}"),
    }
}

/// A string column or constant.
#[derive(Clone, Copy)]
enum Strings<'a> {
    Each(&'a [Text], &'a Columns),
    All(&'a str),
}

impl<'a> Strings<'a> {
    fn of(operand: &'a Operand, columns: &'a Columns) -> Self {
        match operand {
            Operand::Column(slot) => Self::Each(columns.get(*slot).strings(), columns),
            Operand::Text(value) => Self::All(value),
            other => unreachable!("checked to be a string: {other:?}"),
        }
    }

    fn bytes(self, row: usize) -> Option<&'a [u8]> {
        match self {
            Self::Each(values, columns) => (!values[row].is_missing()).then(|| columns.texts.bytes(values[row])),
            Self::All(value) => Some(value.as_bytes()),
        }
    }

    fn text(self, row: usize) -> Option<&'a str> {
        match self {
            Self::Each(values, columns) => (!values[row].is_missing()).then(|| columns.texts.get(values[row])),
            Self::All(value) => Some(value),
        }
    }
}

fn fill<T>(to: &mut Vec<T>, rows: usize, value: impl FnMut(usize) -> T) {
    to.clear();
    to.extend((0..rows).map(value));
}

fn clean(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

/// `a op b` for doubles, with a separate loop for the common case of a column and a constant.
fn compare_doubles(order: Order, a: Values<'_, f64>, b: Values<'_, f64>, rows: usize, to: &mut Vec<Truth>) {
    let one = |a: f64, b: f64| if a.is_nan() || b.is_nan() { Truth::Missing } else { order.of(&a, &b) };
    match (a, b) {
        (Values::Each(a), Values::All(b)) => {
            to.clear();
            to.extend(a[..rows].iter().map(|a| one(*a, b)));
        }
        (a, b) => fill(to, rows, |row| one(a.at(row), b.at(row))),
    }
}

fn compare_texts(order: Order, a: Strings<'_>, b: Strings<'_>, rows: usize, to: &mut Vec<Truth>) {
    fill(to, rows, |row| match (a.bytes(row), b.bytes(row)) {
        (Some(a), Some(b)) => order.of(&a, &b),
        _ => Truth::Missing,
    });
}

pub(super) fn run(step: &Step, columns: &mut Columns, rows: usize, result: &mut Column) {
    match result {
        Column::Bool(to) => run_bool(step, columns, rows, to),
        Column::Int(to) => run_int(step, columns, rows, to),
        Column::Double(to) => run_double(step, columns, rows, to),
        Column::String(to) => run_string(step, columns, rows, to),
    }
}

fn run_bool(step: &Step, columns: &Columns, rows: usize, to: &mut Vec<Truth>) {
    use Truth::{False, Missing, True};
    match step {
        Step::Fill(value) => {
            let value = bools(value, columns);
            fill(to, rows, |row| value.at(row));
        }
        Step::Not(a) => {
            let a = bools(a, columns);
            fill(to, rows, |row| match a.at(row) {
                False => True,
                True => False,
                Missing => Missing,
            });
        }
        Step::And(a, b) => {
            let (a, b) = (bools(a, columns), bools(b, columns));
            fill(to, rows, |row| match (a.at(row), b.at(row)) {
                (True, True) => True,
                (False, _) | (_, False) => False,
                _ => Missing,
            });
        }
        Step::Or(a, b) => {
            let (a, b) = (bools(a, columns), bools(b, columns));
            fill(to, rows, |row| match (a.at(row), b.at(row)) {
                (False, False) => False,
                (True, _) | (_, True) => True,
                _ => Missing,
            });
        }
        Step::Compare(order, ty, a, b) => match ty {
            Type::Double => compare_doubles(*order, doubles(a, columns), doubles(b, columns), rows, to),
            Type::String => compare_texts(*order, Strings::of(a, columns), Strings::of(b, columns), rows, to),
            Type::Bool => {
                let (a, b) = (bools(a, columns), bools(b, columns));
                fill(to, rows, |row| match (a.at(row), b.at(row)) {
                    (Missing, _) | (_, Missing) => Missing,
                    (a, b) => order.of(&(a == True), &(b == True)),
                });
            }
            Type::Int | Type::Timestamp | Type::Duration => {
                let (a, b) = (ints(a, columns), ints(b, columns));
                fill(to, rows, |row| match (a.at(row), b.at(row)) {
                    (MISSING_INT, _) | (_, MISSING_INT) => Missing,
                    (a, b) => order.of(&a, &b),
                });
            }
        },
        Step::IsText(texts, prefixes, constant) => {
            let Operand::Column(slot) = texts else { unreachable!("made for a column alone") };
            let Values::Each(prefixes) = ints(prefixes, columns) else { unreachable!("a column is read in rows") };
            let (wanted, constant) = (prefix(constant.as_bytes()) as i64, constant.as_bytes());
            to.clear();
            to.extend(columns.get(*slot).strings()[..rows].iter().zip(prefixes).map(|(text, prefix)| {
                if text.is_missing() {
                    return Missing;
                }
                let is_near = *prefix == wanted && text.len() == constant.len();
                (is_near && (constant.len() <= 8 || columns.texts.bytes(*text) == constant)).into()
            }));
        }
        Step::In(ty, a, list) => match ty {
            Type::String => {
                let a = Strings::of(a, columns);
                fill(to, rows, |row| match a.text(row) {
                    None => Missing,
                    Some(text) => list.iter().any(|it| matches!(it, Operand::Text(it) if it == text)).into(),
                });
            }
            Type::Double => {
                let a = doubles(a, columns);
                fill(to, rows, |row| match a.at(row) {
                    value if value.is_nan() => Missing,
                    value => list.iter().any(|it| matches!(it, Operand::Double(it) if *it == value)).into(),
                });
            }
            _ => {
                let a = ints(a, columns);
                fill(to, rows, |row| match a.at(row) {
                    MISSING_INT => Missing,
                    value => list.contains(&Operand::Int(value)).into(),
                });
            }
        },
        Step::HasValue(ty, a) => match ty {
            Type::Bool => {
                let a = bools(a, columns);
                fill(to, rows, |row| (a.at(row) != Missing).into());
            }
            Type::Double => {
                let a = doubles(a, columns);
                fill(to, rows, |row| (!a.at(row).is_nan()).into());
            }
            Type::String => {
                let a = Strings::of(a, columns);
                fill(to, rows, |row| a.bytes(row).is_some().into());
            }
            Type::Int | Type::Timestamp | Type::Duration => {
                let a = ints(a, columns);
                fill(to, rows, |row| (a.at(row) != MISSING_INT).into());
            }
        },
        Step::Choose(condition, a, b) => {
            let (condition, a, b) = (bools(condition, columns), bools(a, columns), bools(b, columns));
            fill(to, rows, |row| match condition.at(row) {
                True => a.at(row),
                False => b.at(row),
                Missing => Missing,
            });
        }
        Step::OrValue(a, b) => {
            let (a, b) = (bools(a, columns), bools(b, columns));
            fill(to, rows, |row| if a.at(row) == Missing { b.at(row) } else { a.at(row) });
        }
        Step::Test(test, a, b) => {
            let (a, b) = (Strings::of(a, columns), Strings::of(b, columns));
            fill(to, rows, |row| match (a.text(row), b.text(row)) {
                (Some(a), Some(b)) => match test {
                    TextTest::StartsWith => a.starts_with(b),
                    TextTest::EndsWith => a.ends_with(b),
                    TextTest::Contains => a.contains(b),
                }
                .into(),
                _ => Missing,
            });
        }
        Step::Matches(a, pattern) => {
            let a = Strings::of(a, columns);
            fill(to, rows, |row| a.text(row).map_or(Missing, |text| pattern.is_match(text).into()));
        }
        other => unreachable!("not a bool step: {other:?}"),
    }
}

fn run_int(step: &Step, columns: &Columns, rows: usize, to: &mut Vec<i64>) {
    match step {
        Step::Prefix(texts) => {
            let Operand::Column(slot) = texts else { unreachable!("made for a column alone") };
            to.clear();
            to.extend(columns.get(*slot).strings()[..rows].iter().map(|text| columns.texts.prefix(*text) as i64));
        }
        Step::Fill(value) => {
            let value = ints(value, columns);
            fill(to, rows, |row| value.at(row));
        }
        Step::Ints(operation, a, b) => {
            let (a, b) = (ints(a, columns), ints(b, columns));
            fill(to, rows, |row| {
                let (a, b) = (a.at(row), b.at(row));
                if a == MISSING_INT || b == MISSING_INT {
                    return MISSING_INT;
                }
                match operation {
                    Arithmetic::Add => a.checked_add(b),
                    Arithmetic::Subtract => a.checked_sub(b),
                    Arithmetic::Multiply => a.checked_mul(b),
                    Arithmetic::Divide => a.checked_div(b),
                    Arithmetic::Modulo => a.checked_rem(b),
                    Arithmetic::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
                    Arithmetic::Least => Some(a.min(b)),
                    Arithmetic::Greatest => Some(a.max(b)),
                }
                .unwrap_or(MISSING_INT)
            });
        }
        // The lowest int stands for a missing value and has no negative.
        Step::NegateInt(a) => {
            let a = ints(a, columns);
            fill(to, rows, |row| a.at(row).wrapping_neg());
        }
        Step::AbsInt(a) => {
            let a = ints(a, columns);
            fill(to, rows, |row| a.at(row).wrapping_abs());
        }
        Step::Choose(condition, a, b) => {
            let (condition, a, b) = (bools(condition, columns), ints(a, columns), ints(b, columns));
            fill(to, rows, |row| match condition.at(row) {
                Truth::True => a.at(row),
                Truth::False => b.at(row),
                Truth::Missing => MISSING_INT,
            });
        }
        Step::OrValue(a, b) => {
            let (a, b) = (ints(a, columns), ints(b, columns));
            fill(to, rows, |row| if a.at(row) == MISSING_INT { b.at(row) } else { a.at(row) });
        }
        Step::DoubleToInt(a) => {
            let a = doubles(a, columns);
            // CEL rounds towards zero and reports an error beyond the range; 2^63 is the first double outside.
            let bound = 9_223_372_036_854_775_808.0;
            fill(to, rows, |row| match a.at(row) {
                value if value > -bound && value < bound => value as i64,
                _ => MISSING_INT,
            });
        }
        Step::TextToInt(a) => {
            let a = Strings::of(a, columns);
            fill(to, rows, |row| a.text(row).and_then(|text| text.parse().ok()).unwrap_or(MISSING_INT));
        }
        Step::Size(a) => {
            let a = Strings::of(a, columns);
            fill(to, rows, |row| a.text(row).map_or(MISSING_INT, |text| text.chars().count() as i64));
        }
        Step::Part(part, a) => {
            let a = ints(a, columns);
            fill(to, rows, |row| match a.at(row) {
                MISSING_INT => MISSING_INT,
                micros => part_of(*part, micros),
            });
        }
        other => unreachable!("not an int step: {other:?}"),
    }
}

/// The part of a moment in UTC, numbered as in CEL: months, days of the month, week and year from 0; Sunday first.
fn part_of(part: TimePart, micros: i64) -> i64 {
    let seconds = micros.div_euclid(SECOND);
    let days = seconds.div_euclid(86_400);
    match part {
        TimePart::EpochSeconds => seconds,
        TimePart::Seconds => seconds.rem_euclid(60),
        TimePart::Minutes => seconds.rem_euclid(3_600) / 60,
        TimePart::Hours => seconds.rem_euclid(86_400) / 3_600,
        // 1970-01-01 was a Thursday.
        TimePart::DayOfWeek => (days + 4).rem_euclid(7),
        TimePart::Date | TimePart::DayOfMonth | TimePart::DayOfYear | TimePart::Month | TimePart::FullYear => {
            let Ok(moment) = jiff::Timestamp::from_microsecond(micros) else { return MISSING_INT };
            let date = jiff::tz::Offset::UTC.to_datetime(moment).date();
            match part {
                TimePart::Date => date.day().into(),
                TimePart::DayOfMonth => i64::from(date.day()) - 1,
                TimePart::DayOfYear => i64::from(date.day_of_year()) - 1,
                TimePart::Month => i64::from(date.month()) - 1,
                _ => date.year().into(),
            }
        }
    }
}

fn run_double(step: &Step, columns: &Columns, rows: usize, to: &mut Vec<f64>) {
    match step {
        Step::Fill(value) => {
            let value = doubles(value, columns);
            fill(to, rows, |row| value.at(row));
        }
        Step::Doubles(operation, a, b) => {
            let (a, b) = (doubles(a, columns), doubles(b, columns));
            fill(to, rows, |row| {
                let (a, b) = (a.at(row), b.at(row));
                clean(match operation {
                    Arithmetic::Add => a + b,
                    Arithmetic::Subtract => a - b,
                    Arithmetic::Multiply => a * b,
                    Arithmetic::Divide => a / b,
                    Arithmetic::Modulo => a % b,
                    Arithmetic::Power => a.powf(b),
                    // `min` and `max` of floats ignore NaN, which here means a missing value.
                    Arithmetic::Least | Arithmetic::Greatest if a.is_nan() || b.is_nan() => f64::NAN,
                    Arithmetic::Least => a.min(b),
                    Arithmetic::Greatest => a.max(b),
                })
            });
        }
        Step::MapDouble(function, a) => {
            let a = doubles(a, columns);
            fill(to, rows, |row| clean(function(a.at(row))));
        }
        Step::Choose(condition, a, b) => {
            let (condition, a, b) = (bools(condition, columns), doubles(a, columns), doubles(b, columns));
            fill(to, rows, |row| match condition.at(row) {
                Truth::True => a.at(row),
                Truth::False => b.at(row),
                Truth::Missing => f64::NAN,
            });
        }
        Step::OrValue(a, b) => {
            let (a, b) = (doubles(a, columns), doubles(b, columns));
            fill(to, rows, |row| if a.at(row).is_nan() { b.at(row) } else { a.at(row) });
        }
        Step::IntToDouble(a) => {
            let a = ints(a, columns);
            fill(to, rows, |row| if a.at(row) == MISSING_INT { f64::NAN } else { a.at(row) as f64 });
        }
        Step::TextToDouble(a) => {
            let a = Strings::of(a, columns);
            fill(to, rows, |row| a.text(row).and_then(|text| text.parse().ok()).map_or(f64::NAN, clean));
        }
        other => unreachable!("not a double step: {other:?}"),
    }
}

fn run_string(step: &Step, columns: &mut Columns, rows: usize, to: &mut Vec<Text>) {
    to.clear();
    for row in 0..rows {
        let text = match step {
            Step::Choose(condition, a, b) => match bools(condition, columns).at(row) {
                Truth::True => own(a, columns, row),
                Truth::False => own(b, columns, row),
                Truth::Missing => Text::MISSING,
            },
            Step::OrValue(a, b) => match own(a, columns, row) {
                Text::MISSING => own(b, columns, row),
                text => text,
            },
            Step::Fill(value) => own(value, columns, row),
            Step::Concat(a, b) => {
                let both = match (Strings::of(a, columns).text(row), Strings::of(b, columns).text(row)) {
                    (Some(a), Some(b)) => Some([a, b].concat()),
                    _ => None,
                };
                push(columns, both)
            }
            Step::Change(case, a) => {
                let changed = Strings::of(a, columns).text(row).map(|text| match case {
                    Case::Lower => text.to_ascii_lowercase(),
                    Case::Upper => text.to_ascii_uppercase(),
                });
                push(columns, changed)
            }
            Step::ToText(ty, a) => {
                let text = match ty {
                    Type::Double => {
                        Some(doubles(a, columns).at(row)).filter(|it| !it.is_nan()).map(|it| it.to_string())
                    }
                    Type::Bool => match bools(a, columns).at(row) {
                        Truth::Missing => None,
                        truth => Some(truth.holds().to_string()),
                    },
                    _ => Some(ints(a, columns).at(row)).filter(|it| *it != MISSING_INT).map(|it| it.to_string()),
                };
                push(columns, text)
            }
            other => unreachable!("not a string step: {other:?}"),
        };
        to.push(text);
    }
}

/// The string of a column, or of a constant, which is then appended to the batch.
fn own(operand: &Operand, columns: &mut Columns, row: usize) -> Text {
    match operand {
        Operand::Column(slot) => columns.get(*slot).strings()[row],
        Operand::Text(text) => columns.texts.push(text),
        other => unreachable!("checked to be a string: {other:?}"),
    }
}

fn push(columns: &mut Columns, text: Option<String>) -> Text {
    text.map_or(Text::MISSING, |text| columns.texts.push(&text))
}
