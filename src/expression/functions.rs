//! The functions of the language: one table with the name, types, evaluation and documentation of each.
//!
//! The checker resolves calls with it, messages about wrong calls are built from it, and `aimpoint features` prints it.

use super::{
    check::{self, Checked, Checker, Value},
    program::{Arithmetic, Case, Operand, Step, TextTest, TimePart},
};
use crate::columns::Type;

/// A function of the language.
#[derive(Debug)]
pub struct Function {
    pub(super) name: &'static str,
    /// An example call.
    pub usage: &'static str,
    /// What it returns.
    pub meaning: &'static str,
    /// Whether it can only be called on a value, as in `x.hasValue()`. Other functions can be called either way.
    pub(super) is_method: bool,
    pub(super) overloads: &'static [Overload],
}

/// One combination of argument types.
#[derive(Debug)]
pub(super) struct Overload {
    pub(super) parameters: Parameters,
    /// The type of the result; `None` for the type of the parameters.
    pub(super) result: Option<Type>,
    pub(super) evaluation: Evaluation,
}

/// The arguments that an overload accepts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Parameters {
    /// Exactly these types.
    Types(&'static [Type]),
    /// One value of any type.
    Any,
    /// Two values of one of these types; if only one is an int, it becomes a double.
    Pair(&'static [Type]),
}

/// How a call is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) enum Evaluation {
    /// By a step over the single argument, of this type.
    Unary(fn(Type, Operand) -> Step),
    /// By a step over both arguments, of this type.
    Binary(fn(Type, Operand, Operand) -> Step),
    /// The result is the argument.
    Identity,
    /// At compile time; the last argument must be a string literal.
    Literal(fn(&mut Checker<'_>, u64, Operand, &str) -> Checked<Value>),
}

const fn unary(parameter: &'static [Type], result: Type, step: fn(Type, Operand) -> Step) -> Overload {
    Overload { parameters: Parameters::Types(parameter), result: Some(result), evaluation: Evaluation::Unary(step) }
}

const fn identity(parameter: &'static [Type]) -> Overload {
    Overload { parameters: Parameters::Types(parameter), result: None, evaluation: Evaluation::Identity }
}

const fn literal(
    parameters: &'static [Type],
    result: Type,
    compile: fn(&mut Checker<'_>, u64, Operand, &str) -> Checked<Value>,
) -> Overload {
    Overload {
        parameters: Parameters::Types(parameters),
        result: Some(result),
        evaluation: Evaluation::Literal(compile),
    }
}

const fn pair(types: &'static [Type], step: fn(Type, Operand, Operand) -> Step) -> Overload {
    Overload { parameters: Parameters::Pair(types), result: None, evaluation: Evaluation::Binary(step) }
}

/// A test of one string against another.
const fn test(step: fn(Type, Operand, Operand) -> Step) -> Overload {
    Overload {
        parameters: Parameters::Types(&[Type::String, Type::String]),
        result: Some(Type::Bool),
        evaluation: Evaluation::Binary(step),
    }
}

/// A part of a moment.
const fn part(step: fn(Type, Operand) -> Step) -> Overload {
    unary(&[Type::Timestamp], Type::Int, step)
}

/// A function of a double.
const fn double(step: fn(Type, Operand) -> Step) -> Overload {
    unary(&[Type::Double], Type::Double, step)
}

/// A function that can be called either way.
const fn function(
    name: &'static str,
    usage: &'static str,
    meaning: &'static str,
    overloads: &'static [Overload],
) -> Function {
    Function { name, usage, meaning, is_method: false, overloads }
}

/// A function that can only be called on a value.
const fn method(
    name: &'static str,
    usage: &'static str,
    meaning: &'static str,
    overloads: &'static [Overload],
) -> Function {
    Function { name, usage, meaning, is_method: true, overloads }
}

const ALL_TYPES: &[Type] = &[Type::Bool, Type::Int, Type::Double, Type::String, Type::Timestamp, Type::Duration];

const NUMBERS: &[Type] = &[Type::Int, Type::Double];

fn arithmetic(operation: Arithmetic, ty: Type, a: Operand, b: Operand) -> Step {
    if ty == Type::Double { Step::Doubles(operation, a, b) } else { Step::Ints(operation, a, b) }
}

/// The functions available in expressions, in the order of the reference.
pub static FUNCTIONS: [Function; 34] = [
    method(
        "hasValue",
        "x.hasValue()",
        "whether x has a value",
        &[Overload {
            parameters: Parameters::Any,
            result: Some(Type::Bool),
            evaluation: Evaluation::Unary(Step::HasValue),
        }],
    ),
    method("orValue", "x.orValue(d)", "x, or d if x is missing", &[pair(ALL_TYPES, |_, a, b| Step::OrValue(a, b))]),
    function(
        "size",
        "size(s)",
        "the number of characters of a string",
        &[unary(&[Type::String], Type::Int, |_, a| Step::Size(a))],
    ),
    method(
        "startsWith",
        "s.startsWith(p)",
        "whether s begins with p",
        &[test(|_, a, b| Step::Test(TextTest::StartsWith, a, b))],
    ),
    method(
        "endsWith",
        "s.endsWith(p)",
        "whether s ends with p",
        &[test(|_, a, b| Step::Test(TextTest::EndsWith, a, b))],
    ),
    method(
        "contains",
        "s.contains(p)",
        "whether s contains p",
        &[test(|_, a, b| Step::Test(TextTest::Contains, a, b))],
    ),
    function(
        "matches",
        "s.matches(\"p\")",
        "whether the regular expression p, a literal, matches in s",
        &[literal(&[Type::String, Type::String], Type::Bool, check::matches)],
    ),
    function(
        "lowerAscii",
        "s.lowerAscii()",
        "s with A to Z in lower case",
        &[unary(&[Type::String], Type::String, |_, a| Step::Change(Case::Lower, a))],
    ),
    function(
        "upperAscii",
        "s.upperAscii()",
        "s with a to z in upper case",
        &[unary(&[Type::String], Type::String, |_, a| Step::Change(Case::Upper, a))],
    ),
    function(
        "int",
        "int(x)",
        "a double cut to a whole number, a string read as one, or the seconds of a moment since 1970",
        &[
            identity(&[Type::Int]),
            unary(&[Type::Double], Type::Int, |_, a| Step::DoubleToInt(a)),
            unary(&[Type::String], Type::Int, |_, a| Step::TextToInt(a)),
            part(|_, a| Step::Part(TimePart::EpochSeconds, a)),
        ],
    ),
    function(
        "double",
        "double(x)",
        "an int, or a string read as a number",
        &[
            identity(&[Type::Double]),
            unary(&[Type::Int], Type::Double, |_, a| Step::IntToDouble(a)),
            unary(&[Type::String], Type::Double, |_, a| Step::TextToDouble(a)),
        ],
    ),
    function(
        "string",
        "string(x)",
        "an int, double or bool as text",
        &[
            identity(&[Type::String]),
            unary(&[Type::Int], Type::String, Step::ToText),
            unary(&[Type::Double], Type::String, Step::ToText),
            unary(&[Type::Bool], Type::String, Step::ToText),
        ],
    ),
    function(
        "timestamp",
        "timestamp(\"2026-01-31T00:00:00Z\")",
        "a moment, from RFC 3339",
        &[identity(&[Type::Timestamp]), literal(&[Type::String], Type::Timestamp, check::timestamp)],
    ),
    function(
        "duration",
        "duration(\"1h30m\")",
        "a span of time",
        &[identity(&[Type::Duration]), literal(&[Type::String], Type::Duration, check::duration)],
    ),
    function(
        "getHours",
        "t.getHours()",
        "the hour of a moment in UTC, 0 to 23",
        &[part(|_, a| Step::Part(TimePart::Hours, a))],
    ),
    function("getMinutes", "t.getMinutes()", "the minute, 0 to 59", &[part(|_, a| Step::Part(TimePart::Minutes, a))]),
    function("getSeconds", "t.getSeconds()", "the second, 0 to 59", &[part(|_, a| Step::Part(TimePart::Seconds, a))]),
    function(
        "getDayOfWeek",
        "t.getDayOfWeek()",
        "the day of the week in UTC, Sunday is 0",
        &[part(|_, a| Step::Part(TimePart::DayOfWeek, a))],
    ),
    function("getDate", "t.getDate()", "the day of the month, from 1", &[part(|_, a| Step::Part(TimePart::Date, a))]),
    function(
        "getDayOfMonth",
        "t.getDayOfMonth()",
        "the day of the month, from 0",
        &[part(|_, a| Step::Part(TimePart::DayOfMonth, a))],
    ),
    function(
        "getDayOfYear",
        "t.getDayOfYear()",
        "the day of the year, from 0",
        &[part(|_, a| Step::Part(TimePart::DayOfYear, a))],
    ),
    function("getMonth", "t.getMonth()", "the month, January is 0", &[part(|_, a| Step::Part(TimePart::Month, a))]),
    function("getFullYear", "t.getFullYear()", "the year", &[part(|_, a| Step::Part(TimePart::FullYear, a))]),
    function(
        "math.abs",
        "math.abs(x)",
        "the absolute value of an int or double",
        &[unary(&[Type::Int], Type::Int, |_, a| Step::AbsInt(a)), double(|_, a| Step::MapDouble(f64::abs, a))],
    ),
    function("math.ceil", "math.ceil(x)", "a double rounded up", &[double(|_, a| Step::MapDouble(f64::ceil, a))]),
    function("math.floor", "math.floor(x)", "a double rounded down", &[double(|_, a| Step::MapDouble(f64::floor, a))]),
    function(
        "math.round",
        "math.round(x)",
        "a double rounded to the nearest whole number",
        &[double(|_, a| Step::MapDouble(f64::round, a))],
    ),
    function(
        "math.least",
        "math.least(a, b)",
        "the smaller one",
        &[pair(NUMBERS, |ty, a, b| arithmetic(Arithmetic::Least, ty, a, b))],
    ),
    function(
        "math.greatest",
        "math.greatest(a, b)",
        "the larger one",
        &[pair(NUMBERS, |ty, a, b| arithmetic(Arithmetic::Greatest, ty, a, b))],
    ),
    function("math.sqrt", "math.sqrt(x)", "the square root", &[double(|_, a| Step::MapDouble(f64::sqrt, a))]),
    function("math.exp", "math.exp(x)", "e to the power of x", &[double(|_, a| Step::MapDouble(f64::exp, a))]),
    function("math.log", "math.log(x)", "the natural logarithm", &[double(|_, a| Step::MapDouble(f64::ln, a))]),
    function(
        "math.log1p",
        "math.log1p(x)",
        "the natural logarithm of 1 + x",
        &[double(|_, a| Step::MapDouble(f64::ln_1p, a))],
    ),
    function(
        "math.pow",
        "math.pow(x, y)",
        "x to the power of y",
        &[pair(NUMBERS, |ty, a, b| arithmetic(Arithmetic::Power, ty, a, b))],
    ),
];

/// Looks up a function by name.
pub(super) fn named(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name == name)
}

/// The names of all functions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    FUNCTIONS.iter().map(|function| function.name)
}
