//! Size limits of an expression, checked before it is parsed.
//!
//! The parser, the checker and dropping a tree recurse once per level, so a deep tree would overflow the stack and
//! crash the process. The text gives an upper bound for the depth: open brackets, and operators, members and calls in
//! one chain. `&&` and `||` are joined in a balanced tree, and the elements of a list are siblings, so there may be
//! many of these.

use super::{ExpressionError, string_length};

/// The longest expression: a list of about ten thousand users, which is parsed within a second.
pub(super) const BYTES_MAX: usize = 256 << 10;

/// The deepest tree: more than anybody writes, but safe to parse, check and drop on a thread's default stack of 2 MiB,
/// even without optimisation.
pub(super) const DEPTH_MAX: usize = 160;

/// The most brackets open at once. Each takes the parser through all of its rules.
pub(super) const BRACKETS_MAX: usize = 48;

/// The lengths of one chain of operators, members and calls between two brackets.
#[derive(Clone, Copy, Default)]
struct Chain {
    /// Since the last `&&`, `||` or comma.
    links: usize,
    /// Since the last comma: `a ? b : c ? d : e` nests to the right.
    choices: usize,
}

/// Rejects expressions that are too long or too deep.
pub(super) fn check(source: &str) -> Result<(), ExpressionError> {
    if source.len() > BYTES_MAX {
        let message = format!("an expression of {} bytes is too long; the maximum is {BYTES_MAX}", source.len());
        return Err(refused(source, 0, message, "split it: let features of their own hold its parts"));
    }
    let mut open = vec![Chain::default()];
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(letter) = source[at..].chars().next() {
        let rest = &source[at..];
        let is_nested = open.len() > 1;
        let chain = open.last_mut().expect("the outermost chain is never closed");
        let is_raw = source[..at].ends_with(['r', 'R']);
        if let Some(length) = string_length(rest, is_raw) {
            at += length;
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        match letter {
            '(' | '[' | '{' => {
                chain.links += 1;
                depth += 1;
                open.push(Chain::default());
            }
            ')' | ']' | '}' if is_nested => depth -= open.pop().map_or(0, |closed| closed.links + closed.choices),
            '&' | '|' => depth -= std::mem::take(&mut chain.links),
            ',' => {
                depth -= chain.links + chain.choices;
                *chain = Chain::default();
            }
            '?' => {
                chain.choices += 1;
                depth += 1;
            }
            '+' | '-' | '*' | '/' | '%' | '<' | '>' | '=' | '!' | '.' => {
                chain.links += 1;
                depth += 1;
            }
            _ => {}
        }
        if depth > DEPTH_MAX {
            let message = format!("this is nested or chained more than {DEPTH_MAX} deep");
            return Err(refused(source, at, message, "split it: let features of their own hold its parts"));
        }
        if open.len() > BRACKETS_MAX {
            let message = format!("more than {BRACKETS_MAX} brackets are open here");
            return Err(refused(source, at, message, "split it: let features of their own hold its parts"));
        }
        at += letter.len_utf8();
    }
    Ok(())
}

fn refused(source: &str, at: usize, message: String, hint: &str) -> ExpressionError {
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    ExpressionError { line, column, message, hint: Some(hint.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        columns::Type,
        expression::{Program, Scope},
    };

    fn compile(source: &str) -> Result<(), ExpressionError> {
        let mut scope = Scope::default();
        for (name, ty) in [("value", Type::Double), ("name", Type::String), ("is_new", Type::Bool)] {
            scope.declare(name, ty);
        }
        Program::default().add(&mut scope, source, None).map(drop)
    }

    /// Every way to make a tree deep, with this many levels.
    fn deep(levels: usize) -> Vec<String> {
        let nested = |before: &str, inside: &str, after: &str| before.repeat(levels) + inside + &after.repeat(levels);
        vec![
            format!("value{}", "+value".repeat(levels)),
            format!("value{}", " * 1.0 - value".repeat(levels)),
            format!("name{}", ".lowerAscii()".repeat(levels)),
            format!("value{}", ".a".repeat(levels)),
            format!("name{}", "[0]".repeat(levels)),
            format!("value{}", " < value".repeat(levels)),
            format!("value{}", " in [value]".repeat(levels)),
            nested("(", "value", ")"),
            nested("[", "1", "]"),
            nested("{'a': ", "1", "}"),
            nested("math.abs(", "value", ")"),
            nested("!", "is_new", ""),
            nested("-", "value", ""),
            nested("!-", "value", ""),
            nested("is_new ? value : ", "value", ""),
            nested("(is_new && ", "is_new", ")"),
            nested("[1].all(x, ", "true", ")"),
            nested("a.B{c: ", "1", "}"),
        ]
    }

    #[test]
    fn deep_trees_are_refused_with_their_place_and_those_that_are_not_are_parsed_on_a_small_stack() {
        let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(|| {
            for levels in [10, 45, 120, 250, 1_000, 30_000] {
                for source in deep(levels) {
                    let outcome = compile(&source);
                    if levels >= 1_000 {
                        let error = outcome.expect_err("nobody means this");
                        let start: String = source.chars().take(20).collect();
                        // A run of one operator is a single node of the tree, so the parser's own limits may reject it.
                        let is_placed = error.column > 1 && error.message.contains("more than");
                        assert!(is_placed || error.message.contains("too long"), "{start}: {error}");
                    }
                }
            }
        });
        thread.expect("a thread").join().expect("nothing overflows");
    }

    #[test]
    fn what_is_wide_and_not_deep_is_taken() {
        let users: Vec<String> = (0..10_000).map(|user| format!("'user-{user:06}'")).collect();
        for source in [
            format!("name in [{}]", users.join(", ")),
            format!("is_new{}", " && is_new".repeat(2_000)),
            format!("name == 'a'{}", " || name == 'b' && value > 1.0".repeat(1_000)),
            format!("name == '{}'", "(".repeat(1_000)),
            format!("name == r'\\{}'", "(".repeat(1_000)),
            format!("value > 1.0 // {}\n && is_new", "(".repeat(1_000)),
        ] {
            let start: String = source.chars().take(40).collect();
            compile(&source).unwrap_or_else(|error| panic!("{start}: {error}"));
        }
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let error = compile(&format!("name == '{}'", "a".repeat(BYTES_MAX))).expect_err("it is too long");
        assert!(error.message.contains("too long"), "{error}");
    }

    #[test]
    fn the_patterns_of_all_expressions_have_a_bound_together() {
        let mut scope = Scope::default();
        scope.declare("name", Type::String);
        let error = Program::default().add(&mut scope, r"name.matches('(\\w{50}){50}')", None).expect_err("too large");
        assert!(error.message.contains("too large"), "{error}");
        let mut program = Program::default();
        let refused = (0..1_000)
            .find_map(|number| program.add(&mut scope, &format!(r"name.matches('\\w{{4}}{number}')"), None).err());
        assert!(refused.expect("they have a bound").message.contains("together"));
    }
}
