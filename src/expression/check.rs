//! Parses an expression, checks its types against the scope, and compiles it into steps.
//!
//! The grammar is CEL's own, parsed by the `cel` crate. Its interpreter works row by row and is used only by the tests,
//! to verify this one.

use super::{
    ExpressionError, Program, Scope, bounds,
    functions::{self, Evaluation, Overload, Parameters},
    left_out::{FUNCTIONS_LEFT_OUT, LEFT_OUT, LeftOut},
    nearest,
    program::{Arithmetic, Operand, Order, Step},
};
use crate::columns::{Slot, Type};
use cel::{
    common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators},
    parser::Parser,
};

/// The size limits to try when compiling a pattern, smallest first, so that small patterns do not count as large ones.
const PATTERN_BYTES: [usize; 3] = [32 << 10, 256 << 10, 1 << 20];

/// A typed value that becomes an operand of a step.
#[derive(Clone, Debug)]
pub(super) struct Value {
    operand: Operand,
    ty: Type,
}

/// The state of compiling one expression.
pub(super) struct Checker<'a> {
    program: &'a mut Program,
    scope: &'a mut Scope,
    source: &'a str,
    info: SourceInfo,
}

pub(super) type Checked<T> = Result<T, ExpressionError>;

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
                || "this is not an expression".to_owned(),
                |error| format!("this is not an expression: {}", plain(error.msg.lines().next().unwrap_or_default())),
            ),
            hint: None,
        }
    })?;
    let mut checker = Checker { program, scope, source, info };
    let value = checker.value(&tree)?;
    let value = match expected {
        Some(expected) if expected != value.ty => checker
            .widen(value.clone(), expected)
            .ok_or_else(|| checker.error(tree.id, format!("expected a {expected}, but this is a {}", value.ty)))?,
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

/// The parser's message without its list of all possible tokens.
fn plain(message: &str) -> String {
    let (found, _) = message.split_once(" expecting ").unwrap_or((message, ""));
    let found = found.strip_prefix("Syntax error: ").unwrap_or(found);
    let found = found.trim_start_matches("mismatched input ").trim_start_matches("extraneous input ");
    match found.strip_prefix("no viable alternative at input ") {
        _ if found.contains("InvalidUnicode") => "a text has an escape that does not exist, such as \\ud800".to_owned(),
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

    /// The error for a part of CEL listed in [`LEFT_OUT`], found by the start of its name.
    fn left_out(&self, id: u64, what: &str) -> ExpressionError {
        let LeftOut { what, instead, .. } =
            LEFT_OUT.into_iter().find(|it| it.what.starts_with(what)).expect("only what is listed is asked for");
        self.hinted(id, format!("left out of this language: {what}"), instead)
    }

    fn result(&mut self, step: Step, ty: Type) -> Value {
        Value { operand: Operand::Column(self.program.step(self.scope, step, ty)), ty }
    }

    /// Converts an int to a double where one is expected.
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
        let hint = nearest(&name, self.scope.names()).map_or_else(
            || "use a field of events or a feature, or declare it as a [[field]]".to_owned(),
            |near| format!("did you mean {near:?}?"),
        );
        Err(ExpressionError { hint: Some(hint), ..error })
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
        Err(self.error(tree.id, format!("expected a bool, but this is a {}", value.ty)))
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

    /// Two values of one type; if only one is an int, it becomes a double.
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
            // The lowest int stands for a missing value and has no negative, so it stays missing.
            (Type::Int, Operand::Int(value)) => Value { operand: Operand::Int(value.wrapping_neg()), ty: Type::Int },
            (Type::Double, Operand::Double(value)) => Value { operand: Operand::Double(-value), ty: Type::Double },
            (ty @ (Type::Int | Type::Duration), operand) => self.result(Step::NegateInt(operand), ty),
            (Type::Double, operand) => self.result(Step::MapDouble(|value| -value, operand), Type::Double),
            (ty, _) => return Err(self.error(id, format!("a {ty} has no negative"))),
        })
    }

    fn membership(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        let value = self.value(&call.args[0])?;
        let Expr::List(list) = &call.args[1].expr else {
            return Err(self.hinted(call.args[1].id, "`in` needs a list", "for example x in [\"a\", \"b\"]"));
        };
        let mut members = Vec::with_capacity(list.elements.len());
        for element in &list.elements {
            let member = self.value(element)?;
            if matches!(member.operand, Operand::Column(_)) {
                return Err(self.error(element.id, "a list after `in` may only hold literals"));
            }
            let found = member.ty;
            let member = self
                .widen(member, value.ty)
                .ok_or_else(|| self.error(element.id, format!("expected a {}, but this is a {found}", value.ty)))?;
            members.push(member.operand);
        }
        if !matches!(value.ty, Type::String | Type::Int | Type::Double) {
            return Err(self.error(id, format!("a {} cannot be looked for in a list", value.ty)));
        }
        Ok(self.result(Step::In(value.ty, value.operand, members), Type::Bool))
    }

    fn function(&mut self, id: u64, call: &CallExpr) -> Checked<Value> {
        // The parser reads `math.sqrt(x)` as a method of `math`, which is a namespace rather than a value.
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
        let overloads = functions::named(&name)
            .filter(|function| receiver.is_some() || !function.is_method)
            .map_or(&[][..], |function| function.overloads);
        for overload in overloads {
            if let Some(value) = self.evaluate(id, overload, &types, &values)? {
                return Ok(value);
            }
        }
        Err(self.unknown_function(id, &name, &types))
    }

    /// The value of a call, if the overload accepts these arguments.
    fn evaluate(&mut self, id: u64, overload: &Overload, types: &[Type], values: &[Value]) -> Checked<Option<Value>> {
        let (ty, mut operands) = match (overload.parameters, values) {
            (Parameters::Types(parameters), [first, ..]) if parameters == types => {
                (first.ty, values.iter().map(|value| value.operand.clone()).collect::<Vec<_>>())
            }
            (Parameters::Any, [value]) => (value.ty, vec![value.operand.clone()]),
            (Parameters::Pair(allowed), [a, b]) => {
                let (a, b, ty) = self.same(id, a.clone(), b.clone())?;
                if !allowed.contains(&ty) {
                    return Ok(None);
                }
                (ty, vec![a, b])
            }
            _ => return Ok(None),
        };
        let first = operands.remove(0);
        let result = overload.result.unwrap_or(ty);
        Ok(Some(match (overload.evaluation, operands.pop()) {
            (Evaluation::Identity, _) => Value { operand: first, ty },
            (Evaluation::Unary(step), _) => self.result(step(ty, first), result),
            (Evaluation::Binary(step), Some(second)) => self.result(step(ty, first, second), result),
            (Evaluation::Literal(compile), second) => {
                let Operand::Text(text) = second.as_ref().unwrap_or(&first) else { return Ok(None) };
                compile(self, id, first.clone(), text)?
            }
            (Evaluation::Binary(_), None) => return Ok(None),
        }))
    }

    /// Compiles a pattern within the limits for one and for all together.
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
                // The message shows the pattern over several lines; only the last one says what is wrong.
                Err(error) => {
                    let error = error.to_string();
                    let why = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
                    return Err(self.error(id, format!("this pattern is not valid: {why}")));
                }
            }
        }
        let max = PATTERN_BYTES[PATTERN_BYTES.len() - 1];
        let message = format!("this pattern is too large: compiled it would take more than {max} bytes");
        Err(self.hinted(id, message, "repeat less, or write (?-u:\\w) for ASCII letters"))
    }

    fn unknown_function(&self, id: u64, name: &str, types: &[Type]) -> ExpressionError {
        if let Some(function) = functions::named(name) {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            let message = format!("{name} does not take ({})", types.join(", "));
            return self.hinted(id, message, format!("write {}", function.usage));
        }
        if FUNCTIONS_LEFT_OUT.contains(&name) {
            return self.left_out(id, "the functions");
        }
        let error = self.error(id, format!("there is no function {name:?}"));
        ExpressionError {
            hint: nearest(name, functions::names()).map(|near| format!("did you mean {near:?}?")),
            ..error
        }
    }
}

/// `s.matches("p")`.
pub(super) fn matches(checker: &mut Checker<'_>, id: u64, text: Operand, pattern: &str) -> Checked<Value> {
    let pattern = checker.pattern(id, pattern)?;
    Ok(checker.result(Step::Matches(text, pattern), Type::Bool))
}

/// `timestamp("2026-01-31T00:00:00Z")`.
pub(super) fn timestamp(checker: &mut Checker<'_>, id: u64, _: Operand, text: &str) -> Checked<Value> {
    let moment: jiff::Timestamp =
        text.parse().map_err(|error| checker.error(id, format!("{text:?} is not an RFC 3339 time: {error}")))?;
    Ok(Value { operand: Operand::Int(moment.as_microsecond()), ty: Type::Timestamp })
}

/// `duration("1h30m")`.
pub(super) fn duration(checker: &mut Checker<'_>, id: u64, _: Operand, text: &str) -> Checked<Value> {
    let span: Result<jiff::SignedDuration, _> = text.parse();
    match span.map(|span| i64::try_from(span.as_micros())) {
        Ok(Ok(micros)) => Ok(Value { operand: Operand::Int(micros), ty: Type::Duration }),
        _ => Err(checker.hinted(
            id,
            format!("{text:?} is not a duration"),
            "write hours, minutes and seconds as in \"1h30m\", \"-2h\", \"1.5s\" or \"200ms\"; a day is \"24h\"",
        )),
    }
}

/// The id of a dotted name's first part, because the parser positions the whole name at its last dot.
fn first(tree: &IdedExpr) -> u64 {
    match &tree.expr {
        Expr::Select(select) => first(&select.operand),
        _ => tree.id,
    }
}

/// `page.category` as one name, if the tree consists only of a name with members.
fn dotted(tree: &Expr) -> Option<String> {
    match tree {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", dotted(&select.operand.expr)?, select.field)),
        _ => None,
    }
}
