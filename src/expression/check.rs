//! From text to steps: the parser's tree is typed against the scope and turned into steps.
//!
//! The grammar is CEL's own, by the parser of the `cel` crate; its interpreter, which works row by row, is only used to
//! check this one in the tests.

use super::{
    ExpressionError, Program, Scope, bounds, nearest,
    program::{Arithmetic, Case, Function, Operand, Order, Step, TextTest, TimePart},
};
use crate::columns::{Slot, Type};
use cel::{
    common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators},
    parser::Parser,
};

/// A function of the language, for its reference.
#[derive(Clone, Copy, Debug)]
pub struct FunctionDoc {
    /// How it is written.
    pub usage: &'static str,
    /// What it gives.
    pub meaning: &'static str,
}

/// The functions that expressions may call.
pub const FUNCTIONS: [FunctionDoc; 29] = [
    FunctionDoc { usage: "x.hasValue()", meaning: "whether x is there" },
    FunctionDoc { usage: "x.orValue(d)", meaning: "x, or d where x is missing" },
    FunctionDoc { usage: "size(s)", meaning: "the characters of a string" },
    FunctionDoc { usage: "s.startsWith(p)", meaning: "whether s begins with p" },
    FunctionDoc { usage: "s.endsWith(p)", meaning: "whether s ends with p" },
    FunctionDoc { usage: "s.contains(p)", meaning: "whether p stands in s" },
    FunctionDoc { usage: "s.matches(\"p\")", meaning: "whether the regular expression p, a literal, matches in s" },
    FunctionDoc { usage: "s.lowerAscii()", meaning: "s with A to Z in lower case" },
    FunctionDoc { usage: "s.upperAscii()", meaning: "s with a to z in upper case" },
    FunctionDoc { usage: "int(x)", meaning: "a double cut to a whole number, or a string read as one" },
    FunctionDoc { usage: "double(x)", meaning: "an int, or a string read as a number" },
    FunctionDoc { usage: "string(x)", meaning: "an int, double or bool as text" },
    FunctionDoc { usage: "timestamp(\"2026-01-31T00:00:00Z\")", meaning: "a moment, from RFC 3339" },
    FunctionDoc { usage: "duration(\"1h30m\")", meaning: "a span of time" },
    FunctionDoc {
        usage: "t.getHours()",
        meaning: "the hour of a moment in UTC, 0 to 23; getMinutes and getSeconds too",
    },
    FunctionDoc { usage: "t.getDayOfWeek()", meaning: "the day of the week in UTC, Sunday is 0" },
    FunctionDoc { usage: "t.getDate()", meaning: "the day of the month, from 1; getDayOfMonth counts from 0" },
    FunctionDoc { usage: "t.getDayOfYear()", meaning: "the day of the year, from 0" },
    FunctionDoc { usage: "t.getMonth()", meaning: "the month, January is 0" },
    FunctionDoc { usage: "t.getFullYear()", meaning: "the year" },
    FunctionDoc { usage: "math.abs(x)", meaning: "the absolute value of an int or double" },
    FunctionDoc { usage: "math.ceil(x)", meaning: "a double rounded up; math.floor down, math.round to the nearest" },
    FunctionDoc { usage: "math.least(a, b)", meaning: "the smaller one" },
    FunctionDoc { usage: "math.greatest(a, b)", meaning: "the larger one" },
    FunctionDoc { usage: "math.sqrt(x)", meaning: "the square root" },
    FunctionDoc { usage: "math.exp(x)", meaning: "e to the power of x" },
    FunctionDoc { usage: "math.log(x)", meaning: "the natural logarithm" },
    FunctionDoc { usage: "math.log1p(x)", meaning: "the natural logarithm of 1 + x" },
    FunctionDoc { usage: "math.pow(x, y)", meaning: "x to the power of y" },
];

/// A part of CEL that is left out of this language on purpose.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut {
    /// What it is; the refusal names it.
    pub what: &'static str,
    /// How it is written, with names that the reader declares.
    pub example: &'static str,
    /// What to write instead.
    pub instead: &'static str,
}

const fn left_out(what: &'static str, example: &'static str, instead: &'static str) -> LeftOut {
    LeftOut { what, example, instead }
}

/// What CEL has and this language has not: values are columns of one plain type, and a missing one is no error.
pub const LEFT_OUT: [LeftOut; 10] = [
    left_out("unsigned integers", "dwell_ms > 10u", "leave the `u` away"),
    left_out("bytes", "b'abc' == b'abd'", "compare strings"),
    left_out("null", "value == null", "ask x.hasValue() for what is missing"),
    left_out("lists but after `in`", "[1, 2] == [1]", "for instance x in [1, 2]"),
    left_out("maps", "{'a': 1} == {'a': 2}", "choose with c ? a : b"),
    left_out("messages", "some.Message{field: 1} == value", "declare each field under [input.fields]"),
    left_out("indexing", "event_type[0] == 'v'", "declare the element as a field under [input.fields]"),
    left_out("has()", "has(page.category)", "write x.hasValue()"),
    left_out(
        "the macros all, exists, exists_one, map and filter",
        "[1, 2].exists(i, i == 1)",
        "write x in [1, 2], or join conditions with || and &&",
    ),
    left_out(
        "the functions type, dyn, bool, bytes and uint",
        "type(value) == type(1.0)",
        "types are known at the start",
    ),
];

/// The functions that the last of these names.
const FUNCTIONS_LEFT_OUT: [&str; 5] = ["type", "dyn", "bool", "bytes", "uint"];

/// The names of functions, for the hint at a wrong one.
const NAMES: [&str; 34] = [
    "hasValue",
    "orValue",
    "size",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "lowerAscii",
    "upperAscii",
    "int",
    "double",
    "string",
    "timestamp",
    "duration",
    "getHours",
    "getMinutes",
    "getSeconds",
    "getDayOfWeek",
    "getDate",
    "getDayOfMonth",
    "getDayOfYear",
    "getMonth",
    "getFullYear",
    "math.abs",
    "math.ceil",
    "math.floor",
    "math.round",
    "math.least",
    "math.greatest",
    "math.sqrt",
    "math.exp",
    "math.log",
    "math.log1p",
    "math.pow",
];

/// What a compiled pattern may take, tried one after another, so that small ones are not counted as large ones.
const PATTERN_BYTES: [usize; 3] = [32 << 10, 256 << 10, 1 << 20];

/// A typed value on the way to a step.
#[derive(Clone, Debug)]
struct Value {
    operand: Operand,
    ty: Type,
}

struct Checker<'a> {
    program: &'a mut Program,
    scope: &'a mut Scope,
    source: &'a str,
    info: SourceInfo,
}

type Checked<T> = Result<T, ExpressionError>;

/// Compiles an expression into the program's steps.
pub(super) fn compile(program: &mut Program, scope: &mut Scope, source: &str, expected: Option<Type>) -> Checked<Slot> {
    bounds::check(source)?;
    if !scope.take_text(source.len()) {
        let message = "all expressions together are too long".to_owned();
        let hint = Some("split the rules of features that have categories".to_owned());
        return Err(ExpressionError { line: 1, column: 1, message, hint });
    }
    if source.trim().is_empty() {
        let message = "the expression is empty".to_owned();
        let hint = Some("write a rule such as event_type == \"view\", or leave the key out where it may be".to_owned());
        return Err(ExpressionError { line: 1, column: 1, message, hint });
    }
    let (tree, info) = Parser::new().parse_with_source_info(source).map_err(|errors| {
        let first = errors.errors.into_iter().next();
        let (line, column) = first.as_ref().map_or((1, 1), |error| error.pos);
        ExpressionError {
            line: usize::try_from(line).unwrap_or(1).max(1),
            column: usize::try_from(column).unwrap_or(1).max(1),
            message: first.map_or_else(
                || "this is no expression".to_owned(),
                |error| format!("this is no expression: {}", plain(error.msg.lines().next().unwrap_or_default())),
            ),
            hint: None,
        }
    })?;
    let mut checker = Checker { program, scope, source, info };
    let value = checker.value(&tree)?;
    let value = match expected {
        Some(expected) if expected != value.ty => checker.widen(value.clone(), expected).ok_or_else(|| {
            checker.error(tree.id, format!("a {expected} is wanted here, and this is a {}", value.ty))
        })?,
        _ => value,
    };
    Ok(match value.operand {
        Operand::Column(slot) => slot,
        constant => {
            let step = Step::Fill(constant);
            checker.program.step(checker.scope, step, value.ty)
        }
    })
}

/// What the parser says, without the list of all that its grammar would take.
fn plain(message: &str) -> String {
    let (found, _) = message.split_once(" expecting ").unwrap_or((message, ""));
    let found = found.strip_prefix("Syntax error: ").unwrap_or(found);
    let found = found.trim_start_matches("mismatched input ").trim_start_matches("extraneous input ");
    match found.strip_prefix("no viable alternative at input ") {
        _ if found.contains("InvalidUnicode") => {
            "an escape in a text is none that there is, such as \\ud800".to_owned()
        }
        _ if found.contains("<EOF>") => "something is missing at its end".to_owned(),
        Some(text) => format!("{text} cannot be read"),
        None if found.len() < message.len() => format!("{found} does not belong here"),
        None => message.to_owned(),
    }
}

impl Checker<'_> {
    fn error(&self, id: u64, message: impl Into<String>) -> ExpressionError {
        let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize).min(self.source.len());
        let before = self.source.get(..offset).unwrap_or(self.source);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        ExpressionError { line, column, message: message.into(), hint: None }
    }

    fn hinted(&self, id: u64, message: impl Into<String>, hint: impl Into<String>) -> ExpressionError {
        ExpressionError { hint: Some(hint.into()), ..self.error(id, message) }
    }

    /// The refusal of what [`LEFT_OUT`] lists, by the beginning of its name.
    fn left_out(&self, id: u64, what: &str) -> ExpressionError {
        let LeftOut { what, instead, .. } =
            LEFT_OUT.into_iter().find(|it| it.what.starts_with(what)).expect("only what is listed is asked for");
        self.hinted(id, format!("left out of this language: {what}"), instead)
    }

    fn result(&mut self, step: Step, ty: Type) -> Value {
        Value { operand: Operand::Column(self.program.step(self.scope, step, ty)), ty }
    }

    /// An int as a double, where a double is wanted.
    fn widen(&mut self, value: Value, to: Type) -> Option<Value> {
        match (value.ty, to, value.operand) {
            (from, to, operand) if from == to => Some(Value { operand, ty: to }),
            (Type::Int, Type::Double, Operand::Int(constant)) => {
                Some(Value { operand: Operand::Double(constant as f64), ty: to })
            }
            (Type::Int, Type::Double, operand) => Some(self.result(Step::IntToDouble(operand), Type::Double)),
            _ => None,
        }
    }

    fn value(&mut self, tree: &IdedExpr) -> Checked<Value> {
        match &tree.expr {
            Expr::Literal(literal) => self.literal(tree.id, literal),
            Expr::Ident(_) | Expr::Select(_) => self.name(tree),
            Expr::Call(call) => self.call(tree.id, call),
            Expr::List(_) => Err(self.left_out(tree.id, "lists")),
            Expr::Map(_) => Err(self.left_out(tree.id, "maps")),
            Expr::Struct(_) => Err(self.left_out(tree.id, "messages")),
            Expr::Comprehension(_) => Err(self.left_out(tree.id, "the macros")),
            Expr::Unspecified => Err(self.error(tree.id, "this is not part of this language")),
        }
    }

    fn literal(&self, id: u64, literal: &LiteralValue) -> Checked<Value> {
        Ok(match literal {
            LiteralValue::Boolean(value) => Value { operand: Operand::Bool(*value.inner()), ty: Type::Bool },
            LiteralValue::Int(value) => Value { operand: Operand::Int(*value.inner()), ty: Type::Int },
            LiteralValue::Double(value) => Value { operand: Operand::Double(*value.inner()), ty: Type::Double },
            LiteralValue::String(value) => Value { operand: Operand::Text(value.inner().to_owned()), ty: Type::String },
            LiteralValue::UInt(_) => return Err(self.left_out(id, "unsigned integers")),
            LiteralValue::Bytes(_) => return Err(self.left_out(id, "bytes")),
            LiteralValue::Null => return Err(self.left_out(id, "null")),
        })
    }

    fn name(&mut self, tree: &IdedExpr) -> Checked<Value> {
        let Some(name) = dotted(&tree.expr) else {
            let present = matches!(&tree.expr, Expr::Select(select) if select.test);
            return Err(if present {
                self.left_out(tree.id, "has()")
            } else {
                self.error(tree.id, "only declared names have members")
            });
        };
        if let Some((slot, ty)) = self.scope.get(&name) {
            self.program.read(slot);
            return Ok(Value { operand: Operand::Column(slot), ty });
        }
        let error = self.error(first(tree), format!("nothing here is named {name:?}"));
        let hint = nearest(&name, self.scope.names()).map(|near| format!("did you mean {near:?}?"));
        Err(ExpressionError { hint, ..error })
    }

    fn call(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        match call.func_name.as_str() {
            operators::CONDITIONAL => self.conditional(id, call),
            operators::LOGICAL_AND | operators::LOGICAL_OR | operators::LOGICAL_NOT => self.logic(call),
            operators::EQUALS
            | operators::NOT_EQUALS
            | operators::LESS
            | operators::LESS_EQUALS
            | operators::GREATER
            | operators::GREATER_EQUALS => self.comparison(id, call),
            operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO => {
                self.arithmetic(id, call)
            }
            operators::NEGATE => {
                let value = self.value(&call.args[0])?;
                self.negate(call.args[0].id, value)
            }
            operators::IN => self.membership(id, call),
            operators::INDEX => Err(self.left_out(id, "indexing")),
            name if name.starts_with(['_', '@']) => Err(self.error(id, "this operator is not part of this language")),
            _ => self.function(id, call),
        }
    }

    fn bool(&mut self, tree: &IdedExpr) -> Checked<Operand> {
        let value = self.value(tree)?;
        if value.ty == Type::Bool {
            return Ok(value.operand);
        }
        Err(self.error(tree.id, format!("a bool is wanted here, and this is a {}", value.ty)))
    }

    fn logic(&mut self, call: &CallExpr) -> Checked<Value> {
        let mut operands = Vec::with_capacity(call.args.len());
        for argument in &call.args {
            operands.push(self.bool(argument)?);
        }
        if call.func_name == operators::LOGICAL_NOT {
            return Ok(self.result(Step::Not(operands.remove(0)), Type::Bool));
        }
        let join = if call.func_name == operators::LOGICAL_AND { Step::And } else { Step::Or };
        let mut operands = operands.into_iter();
        let mut all = operands.next().unwrap_or(Operand::Bool(true));
        for operand in operands {
            all = self.result(join(all, operand), Type::Bool).operand;
        }
        Ok(Value { operand: all, ty: Type::Bool })
    }

    fn conditional(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        let condition = self.bool(&call.args[0])?;
        let (a, b) = (self.value(&call.args[1])?, self.value(&call.args[2])?);
        let (a, b, ty) = self.same(id, a, b)?;
        Ok(self.result(Step::Choose(condition, a, b), ty))
    }

    /// Two values of one type, an int beside a double widened.
    fn same(&mut self, id: u64, a: Value, b: Value) -> Checked<(Operand, Operand, Type)> {
        let (from, to) = (a.ty, b.ty);
        if from == to {
            return Ok((a.operand, b.operand, from));
        }
        let pair = if to == Type::Double {
            self.widen(a, to).map(|a| (a.operand, b.operand, to))
        } else {
            self.widen(b, from).map(|b| (a.operand, b.operand, from))
        };
        pair.ok_or_else(|| self.error(id, format!("{from} and {to} do not go together")))
    }

    fn comparison(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        let (a, b) = (self.value(&call.args[0])?, self.value(&call.args[1])?);
        let (a, b, ty) = self.same(id, a, b)?;
        let order = match call.func_name.as_str() {
            operators::EQUALS => Order::Equal,
            operators::NOT_EQUALS => Order::NotEqual,
            operators::LESS => Order::Less,
            operators::LESS_EQUALS => Order::LessEqual,
            operators::GREATER => Order::Greater,
            _ => Order::GreaterEqual,
        };
        Ok(match (order, a, b) {
            (Order::Equal, a @ Operand::Column(_), Operand::Text(b)) => {
                let prefixes = self.result(Step::Prefix(a.clone()), Type::Int).operand;
                self.result(Step::IsText(a, prefixes, b), Type::Bool)
            }
            (order, a, b) => self.result(Step::Compare(order, ty, a, b), Type::Bool),
        })
    }

    fn arithmetic(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        let operation = match call.func_name.as_str() {
            operators::ADD => Arithmetic::Add,
            operators::SUBSTRACT => Arithmetic::Subtract,
            operators::MULTIPLY => Arithmetic::Multiply,
            operators::DIVIDE => Arithmetic::Divide,
            _ => Arithmetic::Modulo,
        };
        let (a, b) = (self.value(&call.args[0])?, self.value(&call.args[1])?);
        let ty = match (operation, a.ty, b.ty) {
            (_, Type::Int, Type::Int) => Type::Int,
            // CEL has no remainder of doubles.
            (Arithmetic::Modulo, Type::Double, Type::Double) => {
                return Err(self.hinted(id, "% is for ints", "write int(x) % n"));
            }
            (_, Type::Double, Type::Double) => Type::Double,
            (Arithmetic::Add, Type::String, Type::String) => {
                return Ok(self.result(Step::Concat(a.operand, b.operand), Type::String));
            }
            (Arithmetic::Add | Arithmetic::Subtract, Type::Duration, Type::Duration) => Type::Duration,
            (Arithmetic::Add | Arithmetic::Subtract, Type::Timestamp, Type::Duration) => Type::Timestamp,
            (Arithmetic::Add, Type::Duration, Type::Timestamp) => Type::Timestamp,
            (Arithmetic::Subtract, Type::Timestamp, Type::Timestamp) => Type::Duration,
            (_, Type::Int, Type::Double) | (_, Type::Double, Type::Int) => {
                return Err(self.hinted(
                    id,
                    format!("{} and {} do not mix in arithmetic", a.ty, b.ty),
                    "write 10.0 instead of 10, or double(x)",
                ));
            }
            (_, a, b) => return Err(self.error(id, format!("there is no arithmetic of {a} and {b}"))),
        };
        let step = if ty == Type::Double {
            Step::Doubles(operation, a.operand, b.operand)
        } else {
            Step::Ints(operation, a.operand, b.operand)
        };
        Ok(self.result(step, ty))
    }

    fn negate(&mut self, id: u64, value: Value) -> Checked<Value> {
        Ok(match (value.ty, value.operand) {
            // Of the lowest int, which stands for a missing one, there is no negative: it stays missing.
            (Type::Int, Operand::Int(value)) => Value { operand: Operand::Int(value.wrapping_neg()), ty: Type::Int },
            (Type::Double, Operand::Double(value)) => Value { operand: Operand::Double(-value), ty: Type::Double },
            (ty @ (Type::Int | Type::Duration), operand) => {
                self.result(Step::IntFunction(Function::Negate, operand), ty)
            }
            (Type::Double, operand) => self.result(Step::DoubleFunction(Function::Negate, operand), Type::Double),
            (ty, _) => return Err(self.error(id, format!("a {ty} has no negative"))),
        })
    }

    fn membership(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        let value = self.value(&call.args[0])?;
        let Expr::List(list) = &call.args[1].expr else {
            return Err(self.hinted(call.args[1].id, "after `in` stands a list", "for instance x in [\"a\", \"b\"]"));
        };
        let mut members = Vec::with_capacity(list.elements.len());
        for element in &list.elements {
            let member = self.value(element)?;
            if matches!(member.operand, Operand::Column(_)) {
                return Err(self.error(element.id, "a list after `in` holds literals"));
            }
            let found = member.ty;
            let member = self.widen(member, value.ty).ok_or_else(|| {
                self.error(element.id, format!("a {} is looked for, and this is a {found}", value.ty))
            })?;
            members.push(member.operand);
        }
        if !matches!(value.ty, Type::String | Type::Int | Type::Double) {
            return Err(self.error(id, format!("a {} cannot be looked for in a list", value.ty)));
        }
        Ok(self.result(Step::In(value.ty, value.operand, members), Type::Bool))
    }

    fn function(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        // `math.sqrt(x)` comes as a method of `math`, which is a name space and no value.
        let space = call.target.as_deref().filter(|target| matches!(&target.expr, Expr::Ident(name) if name == "math"));
        let (name, receiver) = match (space, call.target.as_deref()) {
            (Some(_), _) => (format!("math.{}", call.func_name), None),
            (None, target) => (call.func_name.clone(), target),
        };
        let mut values = Vec::with_capacity(call.args.len() + 1);
        for tree in receiver.into_iter().chain(&call.args) {
            values.push(self.value(tree)?);
        }
        let types: Vec<Type> = values.iter().map(|value| value.ty).collect();
        let mut operands = values.iter().map(|value| value.operand.clone());
        let (a, b) = (operands.next(), operands.next());
        let step = match (name.as_str(), types.as_slice(), a, b) {
            ("hasValue", [ty], Some(a), _) if receiver.is_some() => (Step::HasValue(*ty, a), Type::Bool),
            ("orValue", [_, _], Some(_), Some(_)) if receiver.is_some() => {
                let (a, b, ty) = self.same(id, values[0].clone(), values[1].clone())?;
                (Step::OrValue(a, b), ty)
            }
            ("size", [Type::String], Some(a), _) => (Step::Size(a), Type::Int),
            ("startsWith", [Type::String, Type::String], Some(a), Some(b)) if receiver.is_some() => {
                (Step::Test(TextTest::StartsWith, a, b), Type::Bool)
            }
            ("endsWith", [Type::String, Type::String], Some(a), Some(b)) if receiver.is_some() => {
                (Step::Test(TextTest::EndsWith, a, b), Type::Bool)
            }
            ("contains", [Type::String, Type::String], Some(a), Some(b)) if receiver.is_some() => {
                (Step::Test(TextTest::Contains, a, b), Type::Bool)
            }
            ("matches", [Type::String, Type::String], Some(a), Some(Operand::Text(pattern))) => {
                let pattern = self.pattern(id, &pattern)?;
                (Step::Matches(a, pattern), Type::Bool)
            }
            ("lowerAscii", [Type::String], Some(a), _) => (Step::Change(Case::Lower, a), Type::String),
            ("upperAscii", [Type::String], Some(a), _) => (Step::Change(Case::Upper, a), Type::String),
            ("int", [Type::Double], Some(a), _) => (Step::DoubleToInt(a), Type::Int),
            ("int", [Type::String], Some(a), _) => (Step::TextToInt(a), Type::Int),
            ("int", [Type::Timestamp], Some(a), _) => (Step::Part(TimePart::EpochSeconds, a), Type::Int),
            ("double", [Type::Int], Some(a), _) => (Step::IntToDouble(a), Type::Double),
            ("double", [Type::String], Some(a), _) => (Step::TextToDouble(a), Type::Double),
            ("string", [ty @ (Type::Int | Type::Double | Type::Bool)], Some(a), _) => {
                (Step::ToText(*ty, a), Type::String)
            }
            ("int" | "double" | "string" | "timestamp" | "duration", [ty], ..) if name == ty.to_string() => {
                return Ok(values.remove(0));
            }
            ("timestamp", [Type::String], Some(Operand::Text(text)), _) => {
                let moment: jiff::Timestamp =
                    text.parse().map_err(|error| self.error(id, format!("{text:?} is no RFC 3339 time: {error}")))?;
                return Ok(Value { operand: Operand::Int(moment.as_microsecond()), ty: Type::Timestamp });
            }
            ("duration", [Type::String], Some(Operand::Text(text)), _) => {
                let span: Result<jiff::SignedDuration, _> = text.parse();
                let micros = span.map(|span| i64::try_from(span.as_micros()));
                let Ok(Ok(micros)) = micros else {
                    return Err(self.hinted(
                        id,
                        format!("{text:?} is no duration"),
                        "write hours, minutes and seconds as in \"1h30m\", \"-2h\", \"1.5s\" or \"200ms\"; a day is \"24h\"",
                    ));
                };
                return Ok(Value { operand: Operand::Int(micros), ty: Type::Duration });
            }
            ("getDate", [Type::Timestamp], Some(a), _) => {
                let day = self.result(Step::Part(TimePart::DayOfMonth, a), Type::Int).operand;
                (Step::Ints(Arithmetic::Add, day, Operand::Int(1)), Type::Int)
            }
            (part, [Type::Timestamp], Some(a), _) if time_part(part).is_some() => {
                (Step::Part(time_part(part).unwrap_or(TimePart::Hours), a), Type::Int)
            }
            ("math.abs", [Type::Int], Some(a), _) => (Step::IntFunction(Function::Abs, a), Type::Int),
            (one, [Type::Double], Some(a), _) if math(one).is_some() => {
                (Step::DoubleFunction(math(one).unwrap_or(Function::Abs), a), Type::Double)
            }
            (two @ ("math.least" | "math.greatest" | "math.pow"), [_, _], Some(_), Some(_)) => {
                let (a, b, ty) = self.same(id, values[0].clone(), values[1].clone())?;
                let operation = match two {
                    "math.least" => Arithmetic::Least,
                    "math.greatest" => Arithmetic::Greatest,
                    _ => Arithmetic::Power,
                };
                match ty {
                    Type::Int => (Step::Ints(operation, a, b), Type::Int),
                    Type::Double => (Step::Doubles(operation, a, b), Type::Double),
                    ty => return Err(self.error(id, format!("{two} takes numbers, and this is a {ty}"))),
                }
            }
            _ => return Err(self.unknown_function(id, &name, &types)),
        };
        Ok(self.result(step.0, step.1))
    }

    /// Compiles a pattern, within the bounds of one and of all together.
    fn pattern(&mut self, id: u64, pattern: &str) -> Checked<regex::Regex> {
        for bytes in PATTERN_BYTES {
            if bytes > self.scope.pattern_bytes_left() {
                let message = "the patterns of all expressions together are too large";
                return Err(self.hinted(id, message, "use fewer, or startsWith, endsWith, contains and in"));
            }
            match regex::RegexBuilder::new(pattern).size_limit(bytes).dfa_size_limit(PATTERN_BYTES[1]).build() {
                Ok(compiled) => {
                    self.scope.take_pattern_bytes(bytes);
                    return Ok(compiled);
                }
                Err(regex::Error::CompiledTooBig(_)) => {}
                // It shows the pattern with what is wrong in it, over several lines; the last one says what that is.
                Err(error) => {
                    let error = error.to_string();
                    let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    return Err(self.error(id, format!("this pattern is not valid: {why}")));
                }
            }
        }
        let max = PATTERN_BYTES[PATTERN_BYTES.len() - 1];
        let message = format!("this pattern is too large: compiled it would take more than {max} bytes");
        Err(self.hinted(id, message, "repeat less, or say (?-u:\\w) where letters of ASCII are meant"))
    }

    fn unknown_function(&self, id: u64, name: &str, types: &[Type]) -> ExpressionError {
        if NAMES.contains(&name) {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            let usage = FUNCTIONS.iter().find(|it| it.usage.contains(&format!("{name}(")));
            let error = self.error(id, format!("{name} does not take ({})", types.join(", ")));
            return ExpressionError { hint: usage.map(|it| format!("it is written {}", it.usage)), ..error };
        }
        if FUNCTIONS_LEFT_OUT.contains(&name) {
            return self.left_out(id, "the functions");
        }
        let error = self.error(id, format!("there is no function {name:?}"));
        ExpressionError {
            hint: nearest(name, NAMES.into_iter()).map(|near| format!("did you mean {near:?}?")),
            ..error
        }
    }
}

fn time_part(name: &str) -> Option<TimePart> {
    Some(match name {
        "getHours" => TimePart::Hours,
        "getMinutes" => TimePart::Minutes,
        "getSeconds" => TimePart::Seconds,
        "getDayOfWeek" => TimePart::DayOfWeek,
        "getDayOfMonth" => TimePart::DayOfMonth,
        "getDayOfYear" => TimePart::DayOfYear,
        "getMonth" => TimePart::Month,
        "getFullYear" => TimePart::FullYear,
        _ => return None,
    })
}

fn math(name: &str) -> Option<Function> {
    Some(match name {
        "math.abs" => Function::Abs,
        "math.ceil" => Function::Ceil,
        "math.floor" => Function::Floor,
        "math.round" => Function::Round,
        "math.sqrt" => Function::Sqrt,
        "math.exp" => Function::Exp,
        "math.log" => Function::Log,
        "math.log1p" => Function::Log1p,
        _ => return None,
    })
}

/// The id of a dotted name's first part: the parser places the whole at its last dot.
fn first(tree: &IdedExpr) -> u64 {
    match &tree.expr {
        Expr::Select(select) => first(&select.operand),
        _ => tree.id,
    }
}

/// `page.category` as one name, where the tree is nothing but a name with members.
fn dotted(tree: &Expr) -> Option<String> {
    match tree {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", dotted(&select.operand.expr)?, select.field)),
        _ => None,
    }
}
