use super::{FUNCTIONS, LEFT_OUT, Program, Scope};
use crate::columns::{Column, Columns, MISSING_INT, Text, Truth, Type};

/// Two rows: one with every field, one with none.
fn fixture() -> (Scope, Columns) {
    let mut scope = Scope::default();
    let names = [
        ("event_type", Type::String),
        ("page.category", Type::String),
        ("value", Type::Double),
        ("dwell_ms", Type::Int),
        ("bot", Type::Bool),
        ("occurred_at", Type::Timestamp),
        ("x", Type::Double),
        ("s", Type::String),
        ("t", Type::Timestamp),
        ("d", Type::Double),
        ("p", Type::String),
        ("a", Type::Double),
        ("b", Type::Double),
        ("y", Type::Double),
    ];
    for (name, ty) in names {
        scope.declare(name, ty).expect("declared once");
    }
    let mut columns = scope.columns();
    for (name, ty) in names {
        let (slot, _) = scope.get(name).unwrap();
        let text = columns.texts.push(if name == "event_type" { "view" } else { "Shoes/Red" });
        *columns.get_mut(slot) = match ty {
            Type::String => Column::String(vec![text, Text::MISSING]),
            Type::Double => Column::Double(vec![2.5, f64::NAN]),
            Type::Int => Column::Int(vec![7, MISSING_INT]),
            Type::Bool => Column::Bool(vec![Truth::True, Truth::Missing]),
            // Sunday 2026-03-01T17:05:09Z
            Type::Timestamp | Type::Duration => Column::Int(vec![1_772_384_709_000_000, MISSING_INT]),
        };
    }
    (scope, columns)
}

/// The results for both rows as text.
fn evaluate(source: &str) -> (String, String) {
    let (mut scope, mut columns) = fixture();
    let mut program = Program::default();
    let slot = program.add(&mut scope, source, None).unwrap_or_else(|error| panic!("{source}: {error}"));
    let ready = scope.columns();
    let mut all = ready;
    for name in scope.names() {
        let (slot, _) = scope.get(name).unwrap();
        *all.get_mut(slot) = columns.take(slot);
    }
    all.texts = columns.texts;
    program.run(&mut all, 2);
    let show = |row: usize| match all.get(slot) {
        Column::Bool(values) => format!("{:?}", values[row]).to_lowercase(),
        Column::Int(values) if values[row] == MISSING_INT => "missing".to_owned(),
        Column::Int(values) => values[row].to_string(),
        Column::Double(values) if values[row].is_nan() => "missing".to_owned(),
        Column::Double(values) => format!("{:?}", values[row]),
        Column::String(values) if values[row].is_missing() => "missing".to_owned(),
        Column::String(values) => format!("'{}'", all.texts.get(values[row])),
    };
    (show(0), show(1))
}

#[test]
fn expressions_mean_what_cel_says_and_missing_values_stay_missing() {
    for (source, present, missing) in [
        ("value", "2.5", "missing"),
        ("event_type == 'view'", "true", "missing"),
        ("event_type != \"view\"", "false", "missing"),
        ("'view' == event_type && value > 2", "true", "missing"),
        ("event_type in ['click', 'view']", "true", "missing"),
        ("dwell_ms in [1, 7]", "true", "missing"),
        ("value in [1, 2.5]", "true", "missing"),
        ("!(value >= 2.5)", "false", "missing"),
        ("false && value > 1.0", "false", "false"),
        ("true || value > 1.0", "true", "true"),
        ("value > 1.0 && false", "false", "false"),
        ("value > 9.0 || bot", "true", "missing"),
        ("value * 2.0 + 1.0", "6.0", "missing"),
        ("-value / 0.0", "missing", "missing"),
        ("dwell_ms / 2", "3", "missing"),
        ("dwell_ms % 4", "3", "missing"),
        ("dwell_ms / 0", "missing", "missing"),
        ("dwell_ms * 9223372036854775807", "missing", "missing"),
        ("-dwell_ms + 1", "-6", "missing"),
        ("dwell_ms < 7.5", "true", "missing"),
        ("value == 2.5 ? 1 : 2", "1", "missing"),
        ("bot ? value : 0", "2.5", "missing"),
        ("bot ? 'yes' : 'no'", "'yes'", "missing"),
        ("value.hasValue()", "true", "false"),
        ("page.category.hasValue()", "true", "false"),
        ("value.orValue(0.0)", "2.5", "0.0"),
        ("value.orValue(0)", "2.5", "0.0"),
        ("page.category.orValue('none')", "'Shoes/Red'", "'none'"),
        ("page.category.startsWith('Shoes')", "true", "missing"),
        ("page.category.endsWith('Blue')", "false", "missing"),
        ("page.category.contains('/')", "true", "missing"),
        ("page.category.matches('^[A-Z][a-z]+/')", "true", "missing"),
        ("page.category.lowerAscii() + '!'", "'shoes/red!'", "missing"),
        ("size(page.category)", "9", "missing"),
        ("int(value)", "2", "missing"),
        ("double(dwell_ms)", "7.0", "missing"),
        ("double('1.5') + value", "4.0", "missing"),
        ("string(dwell_ms)", "'7'", "missing"),
        ("occurred_at.getHours()", "17", "missing"),
        ("occurred_at.getMinutes()", "5", "missing"),
        ("occurred_at.getDayOfWeek()", "0", "missing"),
        ("occurred_at.getDate()", "1", "missing"),
        ("occurred_at.getDayOfMonth()", "0", "missing"),
        ("occurred_at.getDayOfYear()", "59", "missing"),
        ("occurred_at.getMonth()", "2", "missing"),
        ("occurred_at.getFullYear()", "2026", "missing"),
        ("occurred_at > timestamp('2026-01-01T00:00:00Z')", "true", "missing"),
        ("occurred_at - timestamp('2026-03-01T17:05:08Z') == duration('1s')", "true", "missing"),
        ("occurred_at + duration('-1.5h') == timestamp('2026-03-01T15:35:09Z')", "true", "missing"),
        ("duration('1h1m1s1ms1us') == duration('3661001001us')", "true", "true"),
        ("-duration('90m') < duration('0s') && duration('24h') > duration('1439m')", "true", "true"),
        ("math.log1p(value - 2.5)", "0.0", "missing"),
        ("math.greatest(value, 3)", "3.0", "missing"),
        ("math.least(dwell_ms, 3)", "3", "missing"),
        ("math.pow(value, 2.0)", "6.25", "missing"),
        ("math.sqrt(-1.0)", "missing", "missing"),
        ("1 + 2", "3", "3"),
    ] {
        assert_eq!(evaluate(source), (present.to_owned(), missing.to_owned()), "{source}");
    }
}

#[test]
fn a_wrong_expression_is_refused_with_its_place_and_the_next_step() {
    for (source, expected, place, message, hint) in [
        ("event_typ == 'view'", None, (1, 1), "nothing here is named \"event_typ\"", "\"event_type\""),
        ("value > 1.0 &&\n  page.categori == 'x'", None, (2, 3), "named \"page.categori\"", "\"page.category\""),
        ("value * 2", None, (1, 7), "double and int do not mix", "10.0"),
        ("t - t < duration('7 sheep')", None, (1, 17), "\"7 sheep\" is not a duration", "\"1h30m\""),
        ("t - t < duration('9999999999h')", None, (1, 17), "is not a duration", "a day is \"24h\""),
        ("value == 'a'", None, (1, 7), "double and string do not go together", ""),
        ("value", Some(Type::Bool), (1, 1), "expected a bool, but this is a double", ""),
        ("value && bot", None, (1, 1), "expected a bool, but this is a double", ""),
        ("page.category.startWith('x')", None, (1, 0), "there is no function \"startWith\"", "\"startsWith\""),
        ("math.sqrt('x')", None, (1, 0), "math.sqrt does not take (string)", "math.sqrt(x)"),
        ("page.category.matches('(')", None, (1, 0), "this pattern is not valid", ""),
        ("value >", None, (1, 0), "this is not an expression: something is missing at its end", ""),
        ("value > > 1", None, (1, 0), "this is not an expression: '>' does not belong here", ""),
        (" ", None, (1, 1), "the expression is empty", "event_type == \"view\""),
        ("value > 10u", None, (1, 9), "left out of this language: unsigned integers", "remove the `u`"),
        ("[1, 2].exists(i, i == 1)", None, (1, 0), "left out of this language: the macros", "x in [1, 2]"),
        ("event_type in event_type", None, (1, 15), "`in` needs a list", ""),
    ] {
        let (mut scope, _) = fixture();
        let error = Program::default().add(&mut scope, source, expected).expect_err(source);
        assert!(error.message.contains(message), "{source}: {error}");
        assert!(error.hint.as_deref().unwrap_or_default().contains(hint), "{source}: {:?}", error.hint);
        assert_eq!(error.line, place.0, "{source}: {error}");
        // A column of 0 accepts whatever position the parser chose.
        assert!(place.1 == 0 || error.column == place.1, "{source}: {error}");
    }
}

#[test]
fn what_is_left_out_of_cel_is_refused_by_its_name_with_what_to_write_instead() {
    for left in LEFT_OUT {
        let (mut scope, _) = fixture();
        let error = Program::default().add(&mut scope, left.example, None).expect_err(left.example);
        assert!(error.message.ends_with(left.what), "{}: {error}", left.example);
        assert_eq!(error.hint.as_deref(), Some(left.instead), "{}", left.example);
    }
}

#[test]
fn operators_bind_and_associate_as_cel_says() {
    for (source, expected) in [
        ("1 + 2 * 3 == 7 && 2 - 1 - 1 == 0", "true"),
        ("100 / 10 / 5", "2"),
        ("100 / 10 * 5", "50"),
        ("-7 / 2", "-3"),
        ("-7 % 2", "-1"),
        ("7 % -2", "1"),
        ("true || false && false", "true"),
        ("!false && false", "false"),
        ("false ? 1 : true ? 2 : 3", "2"),
        ("1 < 2 == true", "true"),
        ("2 in [1, 2] && !(3 in [1, 2])", "true"),
        ("9223372036854775807 + 1", "missing"),
        ("-9223372036854775807 - 2", "missing"),
        ("-(-9223372036854775808)", "missing"),
        ("1 % 0", "missing"),
        (r"'a\tb' == 'a\u0009b' && 'a\x41' == 'aA' && r'\t' != '\t'", "true"),
        ("size('äöü') == 3 && 'äöü'.size() == 3", "true"),
        ("'abc'.matches('b') && !'abc'.matches('^b$')", "true"),
        ("0x10 == 16 && 1e3 == 1000.0", "true"),
        ("int(-2.9) == -2 && int('12') == 12", "true"),
        ("int('x')", "missing"),
        ("int(1e19)", "missing"),
        ("'a' < 'b' && 'Z' < 'a' && '' < 'a'", "true"),
    ] {
        assert_eq!(evaluate(source).0, expected, "{source}");
    }
}

#[test]
fn what_two_expressions_have_in_common_is_computed_once() {
    let (mut scope, _) = fixture();
    let mut program = Program::default();
    let first = program.add(&mut scope, "event_type == 'view' && value > 1.0", None).unwrap();
    let second = program.add(&mut scope, "event_type == 'view' && value > 1.0", None).unwrap();
    assert_eq!(first, second);
    let reads: Vec<_> = program.reads().collect();
    assert_eq!(reads, [scope.get("event_type").unwrap().0, scope.get("value").unwrap().0]);
}

#[test]
fn every_function_of_the_reference_compiles() {
    for function in &FUNCTIONS {
        let source = function.usage.replace("x.hasValue", "value.hasValue");
        let source = source.replace("n)", "1)");
        let (mut scope, _) = fixture();
        if let Err(error) = Program::default().add(&mut scope, &source, None) {
            panic!("{}: {error}", function.usage);
        }
    }
}

mod oracle {
    //! Compares with the `cel` crate's interpreter, row by row, over random trees and values.

    use super::*;
    use proptest::prelude::*;

    fn double() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("x".to_owned()),
            Just("y".to_owned()),
            (-50_i32..50).prop_map(|it| format!("{:?}", f64::from(it) / 4.0))
        ];
        leaf.prop_recursive(3, 16, 2, |inner| {
            (inner.clone(), "[-+*]", inner).prop_map(|(a, operator, b)| format!("({a} {operator} {b})"))
        })
    }

    fn bool() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            (double(), prop_oneof![Just("<"), Just("<="), Just("=="), Just("!="), Just(">="), Just(">")], double())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            prop_oneof![Just("s == 'abc'"), Just("s.startsWith('a')"), Just("s in ['abc', '']"), Just("size(s) > 2")]
                .prop_map(str::to_owned),
            Just("true".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                (inner.clone(), prop_oneof![Just("&&"), Just("||")], inner.clone())
                    .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
                inner.clone().prop_map(|a| format!("!({a})")),
                (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            ]
        })
    }

    /// Integers up to their limits, and conversions to them: the parts of an expression, the whole one last.
    fn int() -> impl Strategy<Value = Vec<String>> {
        let leaf = prop_oneof![
            Just("i".to_owned()),
            Just("j".to_owned()),
            Just("int(x)".to_owned()),
            Just("int(s)".to_owned()),
            Just("size(s)".to_owned()),
            Just("9223372036854775807".to_owned()),
            (-9_i32..9).prop_map(|it| it.to_string()),
        ];
        let with = |mut parts: Vec<String>, whole: String| {
            parts.push(whole);
            parts
        };
        leaf.prop_map(|it| vec![it]).prop_recursive(3, 16, 2, move |inner| {
            let one = (
                inner.clone(),
                prop_oneof![Just(["(-(", "))"]), Just(["int(string(", "))"]), Just(["int(double(", "))"])],
            )
                .prop_map(move |(parts, [before, after])| {
                    let whole = format!("{before}{}{after}", parts[parts.len() - 1]);
                    with(parts, whole)
                });
            let two = (inner.clone(), "[-+*/%]", inner).prop_map(move |(a, operator, b)| {
                let whole = format!("({} {operator} {})", a[a.len() - 1], b[b.len() - 1]);
                with([a, b].concat(), whole)
            });
            prop_oneof![one, two]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
        /// An error in CEL is a missing value here: overflow, division by zero, a text that is not a number.
        #[test]
        fn whole_numbers_and_errors_agree(
            parts in int(),
            i in prop_oneof![-9_i64..9, Just(i64::MAX), Just(i64::MIN + 1), any::<i64>()],
            j in prop_oneof![-9_i64..9, Just(i64::MAX), Just(i64::MIN + 1)],
            x in prop_oneof![-9.0..9.0, Just(9.3e18), Just(-9.3e18), Just(1e300)],
            s in "(-?[0-9]{1,3}|9223372036854775808|x1|)",
        ) {
            prop_assume!(i != MISSING_INT);
            let mut scope = Scope::default();
            let declared = [("i", Type::Int), ("j", Type::Int), ("x", Type::Double), ("s", Type::String)];
            let slots = declared.map(|(name, ty)| scope.declare(name, ty).unwrap());
            let mut program = Program::default();
            let source = &parts[parts.len() - 1];
            let result = program.add(&mut scope, source, Some(Type::Int)).unwrap();
            let mut columns = scope.columns();
            let text = columns.texts.push(&s);
            *columns.get_mut(slots[0]) = Column::Int(vec![i]);
            *columns.get_mut(slots[1]) = Column::Int(vec![j]);
            *columns.get_mut(slots[2]) = Column::Double(vec![x]);
            *columns.get_mut(slots[3]) = Column::String(vec![text]);
            program.run(&mut columns, 1);
            let Column::Int(found) = columns.get(result) else { panic!("{source} is a whole number") };

            let mut context = cel::Context::default();
            context.add_variable("i", i).unwrap();
            context.add_variable("j", j).unwrap();
            context.add_variable("x", x).unwrap();
            context.add_variable("s", s.as_str()).unwrap();
            let value = |source: &str| match cel::Program::compile(source).unwrap().execute(&context) {
                Ok(cel::Value::Int(value)) => Some(value),
                Ok(cel::Value::UInt(value)) => Some(value as i64),
                Ok(other) => panic!("{source} gives {other:?}"),
                Err(_) => None,
            };
            // The smallest integer stands for a missing value here, even within an expression.
            prop_assume!(parts.iter().all(|part| value(part) != Some(MISSING_INT)));
            let expected = value(source).unwrap_or(MISSING_INT);
            prop_assert_eq!(found[0], expected, "{} with i {} j {} x {} s {:?}", source, i, j, x, s);
        }

        #[test]
        fn columns_and_the_interpreter_agree(
            source in bool(),
            rows in prop::collection::vec((-40_i32..40, -40_i32..40, "(abc|a|b|)"), 1..8),
        ) {
            let mut scope = Scope::default();
            let x = scope.declare("x", Type::Double).unwrap();
            let y = scope.declare("y", Type::Double).unwrap();
            let s = scope.declare("s", Type::String).unwrap();
            let mut program = Program::default();
            let result = program.add(&mut scope, &source, Some(Type::Bool)).unwrap();
            let mut columns = scope.columns();
            let quarter = |it: &i32| f64::from(*it) / 4.0;
            *columns.get_mut(x) = Column::Double(rows.iter().map(|row| quarter(&row.0)).collect());
            *columns.get_mut(y) = Column::Double(rows.iter().map(|row| quarter(&row.1)).collect());
            let texts = rows.iter().map(|row| columns.texts.push(&row.2)).collect();
            *columns.get_mut(s) = Column::String(texts);
            program.run(&mut columns, rows.len());

            let oracle = cel::Program::compile(&source).unwrap();
            for (index, row) in rows.iter().enumerate() {
                let mut context = cel::Context::default();
                context.add_variable("x", quarter(&row.0)).unwrap();
                context.add_variable("y", quarter(&row.1)).unwrap();
                context.add_variable("s", row.2.as_str()).unwrap();
                let expected = oracle.execute(&context).unwrap();
                let found = columns.get(result).bools()[index];
                prop_assert_eq!(cel::Value::Bool(found.holds()), expected, "{} at {:?}", source, row);
            }
        }
    }
}

#[test]
fn the_normal_form_leaves_strings_as_they_are() {
    // Two rules comparing with different texts used to have the same fingerprint.
    let cases = [
        ("  a  ==\n b ", "a == b"),
        (r#"a == "x  y""#, r#"a == "x  y""#),
        (r#"a  in  ["x\"  y",  'it  "is'  ]"#, r#"a in ["x\"  y", 'it  "is' ]"#),
        (r#"r"\"  +  "b  c""#, r#"r"\" + "b  c""#),
        ("\"\"\"a  \"b\"  c\"\"\"  + x", "\"\"\"a  \"b\"  c\"\"\" + x"),
        ("'ä  \\' ö'  +  ü", "'ä  \\' ö' + ü"),
        ("'without  end", "'without  end"),
    ];
    for (source, expected) in cases {
        assert_eq!(super::normal_form(source), expected);
        assert_eq!(super::normal_form(expected), expected);
    }
}
