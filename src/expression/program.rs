//! The compiled form of expressions: steps over columns.
//!
//! Guarantees: after [`Program::run`], every result column has a value for each row. Each step reads columns and
//! constants and fills one column, so its loop runs over plain slices. Nothing is allocated once the columns have
//! grown, except for strings that steps create ([`Step::Concat`], [`Step::Change`], [`Step::ToText`]).

use super::{ExpressionError, Scope, check, evaluate};
use crate::columns::{Columns, Slot, Truth, Type};
use std::collections::HashMap;

/// An argument of a step: a column or a constant.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Operand {
    Column(Slot),
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Less,
    LessEqual,
    Equal,
    NotEqual,
    GreaterEqual,
    Greater,
}

impl Order {
    pub(super) fn of<T: PartialOrd>(self, a: &T, b: &T) -> Truth {
        match self {
            Self::Less => a < b,
            Self::LessEqual => a <= b,
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::GreaterEqual => a >= b,
            Self::Greater => a > b,
        }
        .into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
    Least,
    Greatest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Lower,
    Upper,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimePart {
    Hours,
    Minutes,
    Seconds,
    DayOfWeek,
    /// From 1.
    Date,
    /// From 0, as in CEL.
    DayOfMonth,
    DayOfYear,
    Month,
    FullYear,
    EpochSeconds,
}

/// A step, without the column of its result.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Fill(Operand),
    Not(Operand),
    And(Operand, Operand),
    Or(Operand, Operand),
    Compare(Order, Type, Operand, Operand),
    /// The first eight bytes of each string, which distinguish most strings.
    Prefix(Operand),
    /// Whether strings equal this one; the second operand has their prefixes.
    IsText(Operand, Operand, String),
    In(Type, Operand, Vec<Operand>),
    Ints(Arithmetic, Operand, Operand),
    Doubles(Arithmetic, Operand, Operand),
    NegateInt(Operand),
    AbsInt(Operand),
    MapDouble(fn(f64) -> f64, Operand),
    Choose(Operand, Operand, Operand),
    HasValue(Type, Operand),
    OrValue(Operand, Operand),
    IntToDouble(Operand),
    DoubleToInt(Operand),
    TextToDouble(Operand),
    TextToInt(Operand),
    ToText(Type, Operand),
    Size(Operand),
    Test(TextTest, Operand, Operand),
    Matches(Operand, regex::Regex),
    Concat(Operand, Operand),
    Change(Case, Operand),
    Part(TimePart, Operand),
}

/// Expressions that are evaluated together.
#[derive(Clone, Debug, Default)]
pub struct Program {
    steps: Vec<(Slot, Step)>,
    reads: Vec<Slot>,
    known: HashMap<String, Slot>,
}

impl Program {
    /// Compiles an expression and returns the column of its results.
    ///
    /// # Errors
    /// What is wrong with the expression, and where.
    pub fn add(&mut self, scope: &mut Scope, source: &str, expected: Option<Type>) -> Result<Slot, ExpressionError> {
        check::compile(self, scope, source, expected)
    }

    /// The named columns that the expressions read, each once.
    pub fn reads(&self) -> impl Iterator<Item = Slot> + '_ {
        self.reads.iter().copied()
    }

    /// Evaluates all expressions for the first `rows` rows.
    pub fn run(&self, columns: &mut Columns, rows: usize) {
        for (to, step) in &self.steps {
            let mut result = columns.take(*to);
            evaluate::run(step, columns, rows, &mut result);
            columns.put(*to, result);
        }
    }

    pub(super) fn read(&mut self, slot: Slot) {
        if !self.reads.contains(&slot) {
            self.reads.push(slot);
        }
    }

    /// Adds a step, unless the program already has the same one.
    pub(super) fn step(&mut self, scope: &mut Scope, step: Step, ty: Type) -> Slot {
        let key = format!("{ty} {step:?}");
        if let Some(slot) = self.known.get(&key) {
            return *slot;
        }
        let slot = scope.reserve(ty);
        self.known.insert(key, slot);
        self.steps.push((slot, step));
        slot
    }
}
