use super::*;
use crate::training::table::ROW_BYTES_MAX;
use std::{
    fs::{self, File},
    io::Write,
};

fn csv(text: &str, spec: &ReadSpec) -> Result<Dataset, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, text).unwrap();
    read(&path, spec)
}

fn label(name: &str) -> ReadSpec {
    ReadSpec { label: name.to_owned(), ..ReadSpec::default() }
}

#[test]
fn a_row_that_unpacks_to_more_than_the_maximum_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.gz");
    for row in ["x", "\"\n"] {
        let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
        gzip.write_all(b"a,label\n1,0\n").unwrap();
        gzip.write_all(&row.as_bytes()[..1]).unwrap();
        gzip.write_all(row.as_bytes()[row.len() - 1..].repeat(ROW_BYTES_MAX as usize + 100_000).as_slice()).unwrap();
        gzip.finish().unwrap();
        let error = read(&path, &label("label")).unwrap_err().to_string();
        assert!(error.contains("a row has more than 67108864 bytes"), "{error}");
    }
}

#[test]
fn numbers_booleans_texts_and_gaps_become_features() {
    let text = "n,flag,Month,Revenue\n1.5,TRUE,Feb,TRUE\n,false,Apr,FALSE\ninf,,,0\n";
    let data = csv(text, &label("Revenue")).unwrap();
    assert_eq!(data.features, ["n", "flag", "Month=Apr", "Month=Feb"]);
    assert_eq!(data.labels, [true, false, false]);
    assert_eq!(data.values[..4], [1.5, 1.0, 0.0, 1.0]);
    assert!(data.values[4].is_nan());
    assert_eq!(data.values[5..9], [0.0, 1.0, 0.0, f32::INFINITY]);
    assert!(data.values[9].is_nan());
    assert_eq!(data.values[10..], [0.0, 0.0]);
}

fn notes(data: &Dataset) -> String {
    data.notes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_number_among_texts_is_a_text_and_noted() {
    let data = csv("code,y\n7,1\nother,0\nnone,0\n", &label("y")).unwrap();
    assert_eq!(data.features, ["code=7", "code=none", "code=other"]);
    assert_eq!(data.values[..6], [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]);
    assert!(notes(&data).contains("column \"code\": 1 numbers are mixed with texts"), "{}", notes(&data));
}

#[test]
fn texts_for_missing_values_are_missing_among_numbers_and_noted_once() {
    let texts = [
        "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
        "NULL", "NaN", "None", "n/a", "nan", "null", "?", "-", "\\N", ".", "NAN",
    ];
    for text in texts {
        let data = csv(&format!("a,b,y\n1.5,1,1\n{text},2,0\n{text},3,1\n"), &label("y")).unwrap();
        assert_eq!(data.features, ["a", "b"], "{text}");
        assert_eq!((data.values[0], data.values[2].is_nan(), data.values[4].is_nan()), (1.5, true, true), "{text}");
        assert_eq!(data.notes.len(), usize::from(!text.is_empty()), "{}", notes(&data));
        assert!(text.is_empty() || notes(&data).contains(&format!("2 {text:?} count as missing")), "{}", notes(&data));
    }
    let spec = ReadSpec { missing: vec!["unknown".to_owned(), "-999".to_owned()], ..label("y") };
    let data = csv("a,y\n1,1\n-999,0\nunknown,0\n", &spec).unwrap();
    assert!(data.values[0] == 1.0 && data.values[1].is_nan() && data.values[2].is_nan());
}

#[test]
fn in_a_text_column_they_are_texts() {
    let data = csv("a,y\nred,1\nNone,0\n,0\n", &label("y")).unwrap();
    assert_eq!(data.features, ["a=None", "a=red"]);
    assert_eq!(data.values, [0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn other_texts_among_numbers_are_rejected_with_their_lines_unless_the_column_is_declared_as_text() {
    let text = "a,y\n1,1\n2,0\nn.a.,1\n3,0\noops,1\nn.a.,0\n7,1\n";
    let error = csv(text, &label("y")).unwrap_err().to_string();
    let told =
        "4 values are numbers and 3 are other texts: \"n.a.\" (2, first at line 4), \"oops\" (1, first at line 6)";
    assert!(error.contains(told) && error.contains("--missing") && error.contains("--text"), "{error}");
    let data = csv(text, &ReadSpec { text: vec!["a".to_owned()], ..label("y") }).unwrap();
    assert_eq!(data.features, ["a=1", "a=2", "a=3", "a=7", "a=n.a.", "a=oops"]);
    let missing = vec!["n.a.".to_owned(), "oops".to_owned()];
    assert_eq!(csv(text, &ReadSpec { missing, ..label("y") }).unwrap().features, ["a"]);
}

#[test]
fn numbers_are_parsed_unambiguously_or_rejected() {
    for (text, values) in [
        ("a,y\n\"1,234.5\",1\n7,0\n", [1234.5, 7.0]),
        ("a;y\n1,5;1\n2;0\n", [1.5, 2.0]),
        ("a;y\n1.234,5;1\n1.234;0\n", [1234.5, 1234.0]),
        ("a\ty\n1,5\t1\n2\t0\n", [1.5, 2.0]),
        ("a,y\n$3.50,1\n\"$1,000\",0\n", [3.5, 1000.0]),
        ("a,y\n12.5%,1\n7%,0\n", [0.125, 0.07]),
        // Without other evidence, a point is a decimal point.
        ("a,y\n1.234,1\n5.678,0\n", [1.234, 5.678]),
    ] {
        let data = csv(text, &label("y")).unwrap();
        assert_eq!((data.features, data.values), (vec!["a".to_owned()], values.to_vec()), "{text:?}");
    }
    let data = csv("a;y\n1,5;1\n2;0\n", &label("y")).unwrap();
    assert!(notes(&data).contains("the first, \"1,5\" at line 2, is read as 1.5"), "{}", notes(&data));
    // Another column shows the file's decimal format.
    let data = csv("a,b,y\n\"1,234\",0.5,1\n7,2,0\n", &label("y")).unwrap();
    assert_eq!(data.values, [1234.0, 0.5, 7.0, 2.0]);
    let data = csv("a;b;y\n1,234;0,5;1\n7;2;0\n", &label("y")).unwrap();
    assert_eq!(data.values, [1.234, 0.5, 7.0, 2.0]);
    for (text, message) in [
        ("a,y\n7,1\n\"1,234\",0\n", "line 3, column \"a\": \"1,234\" could be 1234 or 1.234"),
        ("a;b;y\n1.234;0,5;1\n7;2;0\n", "line 2, column \"a\": \"1.234\" could be 1.234 or 1234"),
        (
            "a,y\n5%,1\n7,0\n",
            "expected a percent sign after all numbers or none, found \"5%\" at line 2 and \"7\" at line 3",
        ),
        ("a,y\n$5,1\n7 €,0\n", "expected one currency, found \"$5\" at line 2 and \"7 €\" at line 3"),
    ] {
        let error = csv(text, &label("y")).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let comma = ReadSpec { decimal: Some(Decimal::Comma), ..label("y") };
    assert_eq!(csv("a,y\n7,1\n\"1,234\",0\n", &comma).unwrap().values, [7.0, 1.234]);
    assert_eq!(csv("a;y\n7;1\n1.234;0\n", &comma).unwrap().values, [7.0, 1234.0]);
}

#[test]
fn numbers_that_floats_cannot_distinguish_are_excluded_with_a_note() {
    let rows = |column: &dyn Fn(u64) -> String| {
        let lines: Vec<_> = (0..200).map(|row| format!("{},{row},{}", column(row), row % 2)).collect();
        csv(&format!("a,b,y\n{}\n", lines.join("\n")), &label("y")).unwrap()
    };
    // Ids, nanoseconds within a second, and cents on a large sum.
    for start in [1_000_000_000_000_000_u64, 1_700_000_000_000_000_000] {
        let data = rows(&|row| (start + row * 1_000).to_string());
        assert_eq!(data.features, ["b"], "{}", notes(&data));
        assert!(data.notes[0].is_warning() && notes(&data).contains("column \"a\" is excluded"), "{}", notes(&data));
    }
    assert_eq!(rows(&|row| format!("{}.25", 1_000_000_000 + row)).features, ["b"]);
    // A year in nanoseconds is precise enough, and so are ids from 0 on.
    assert_eq!(rows(&|row| (1_700_000_000_000_000_000 + row * 157_680_000_000_000).to_string()).features, ["a", "b"]);
    assert_eq!(rows(&|row| (row * 10_000_000_000_000).to_string()).features, ["a", "b"]);
    // Most values become equal, although the column is kept.
    let data = rows(&|row| if row == 0 { 0 } else { 1_000_000_000_000_000 + row }.to_string());
    assert!(notes(&data).contains("of 200 distinct numbers 32-bit floats distinguish 2"), "{}", notes(&data));
    let data = rows(&|row| if row == 0 { "1e39".to_owned() } else { row.to_string() });
    assert!(notes(&data).contains("1 numbers are infinite or beyond 3.4e38"), "{}", notes(&data));
    let text = "a,y\n1000000000000001,1\n1000000000000002,0\n";
    assert!(matches!(csv(text, &label("y")), Err(TrainError::Rounded { .. })), "it is the only column");
    let named = ReadSpec { features: Some(vec!["a".to_owned()]), ..label("y") };
    let error = csv(text, &named).unwrap_err().to_string();
    assert!(error.contains("column \"a\"") && error.contains("the difference to a constant"), "{error}");
}

#[test]
fn texts_that_begin_with_numbers_are_noted_with_the_number_of_features() {
    let text = "a,b,y\n12 kg,red,1\n13 kg,blue,0\n7 kg,red,0\n";
    let data = csv(text, &label("y")).unwrap();
    assert_eq!(data.features.len(), 5);
    let told =
        "column \"a\": texts that begin with numbers (\"12 kg\" (1, first at line 2), \"13 kg\" (1, first at line 3)";
    assert!(notes(&data).contains(told) && data.notes[0].is_warning(), "{}", notes(&data));
    assert!(notes(&data).contains("column \"b\": each of its 2 texts becomes a feature"), "{}", notes(&data));
    let data = csv(text, &ReadSpec { text: vec!["a".to_owned()], ..label("y") }).unwrap();
    assert!(!notes(&data).contains("begin with numbers"), "{}", notes(&data));
}

#[test]
fn labels_may_be_words() {
    let data = csv("a,y\n1,yes\n2,No\n3,TRUE\n4,false\n5,1.0\n6,0\n", &label("y")).unwrap();
    assert_eq!(data.labels, [true, false, true, false, true, false]);
}

#[test]
fn byte_order_marks_line_ends_and_blanks_of_spreadsheets_are_not_part_of_values() {
    let data = csv("\u{feff}a;y\r\n\"1\";1\r\n\r\n 2 ;0\r\n", &label("y")).unwrap();
    assert_eq!((data.features, data.values), (vec!["a".to_owned()], vec![1.0, 2.0]));
    let data = csv("a,b,y\n1,\"two\nlines\",1\n2,one,0\n3,one,maybe\n", &label("y"));
    // Line numbers include line breaks inside quotes.
    assert!(data.unwrap_err().to_string().contains("line 5, column \"y\""));
    // The first column that pandas writes has no name.
    let data = csv(",a,y\n0,1,1\n1,2,0\n", &label("y")).unwrap();
    assert_eq!(data.features, ["a"]);
    assert!(notes(&data).contains("column 1 has no name"), "{}", notes(&data));
    assert_eq!(csv("Unnamed: 0,a,y\n0,1,1\n1,2,0\n", &label("y")).unwrap().features, ["a"]);
}

#[test]
fn columns_have_the_configured_roles() {
    let text = "a,b,when,who,y\n1,2,2026-01-01T00:00:00Z,ann,1\n3,4,2026-01-01 00:00:01,bob,0\n";
    let spec = ReadSpec {
        time: Some("when".to_owned()),
        group: Some("who".to_owned()),
        ignore: vec!["a".to_owned()],
        ..label("y")
    };
    let data = csv(text, &spec).unwrap();
    assert_eq!(data.features, ["b"]);
    assert_eq!(data.groups.unwrap(), ["ann", "bob"]);
    let times = data.times.unwrap();
    assert_eq!(times[1] - times[0], 1.0);
    let spec = ReadSpec { features: Some(vec!["b".to_owned(), "a".to_owned()]), ..label("y") };
    assert_eq!(csv(text, &spec).unwrap().values, [2.0, 1.0, 4.0, 3.0]);
}

#[test]
fn errors_name_the_line_and_the_column() {
    let cases = [
        (
            "a,y\n1,0\n2,maybe\n",
            "line 3, column \"y\": expected a label of 0 or 1, false or true, no or yes, found \"maybe\"",
        ),
        ("a,y\n1,\n", "line 2, column \"y\": expected a label of 0 or 1, false or true, no or yes, found \"\""),
        ("a,y\n1,0\n\n\n2,maybe\n", "line 5, column \"y\""),
        ("a,y\r\n1,0\r\n2,maybe\r\n", "line 3, column \"y\""),
        ("\r\na,y\r\n\r\n1,0\r\n\r\n2,maybe", "line 6, column \"y\""),
        ("a,y\r1,0\r\r2,maybe\r", "line 4, column \"y\""),
        ("\u{feff}a,y\n\"1\n\n\",0\n2,maybe\n", "line 5, column \"y\""),
        ("a,y\n1,NA\n", "line 2, column \"y\": expected a label"),
        ("a,b,a,y\n1,2,3,0\n", "expected every column once, found \"a\" as columns 1 and 3"),
        ("a,y\n1,0\n2,0,3\n", "line 3: expected 2 fields as in the header, found 3"),
        ("a,y\n1,0\n\"2,0\n3,0\n", "line 3: expected 2 fields as in the header, found 1; a text that contains"),
        ("a,z\n1,0\n", "expected label \"y\" to be a column, found the columns a, z"),
        ("a,y\n1\n", "line 2: expected 2 fields as in the header, found 1"),
        ("a,y\n", "expected at least one row and one feature, found 0 rows and 1 features"),
    ];
    for (text, message) in cases {
        let error = csv(text, &label("y")).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv");
    fs::write(&path, b"a,y\nJos\xe9,1\n").unwrap();
    let error = read(&path, &label("y")).unwrap_err().to_string();
    assert!(error.contains("line 2, field 1: expected text in UTF-8") && error.contains("iconv"), "{error}");
    assert_eq!(
        csv("a,b,a,y\n1,2,3,0\n", &ReadSpec { ignore: vec!["a".to_owned()], ..label("y") }).unwrap().values,
        [2.0]
    );
    let ids: Vec<_> = (0..300).map(|row| format!("id{row},0")).collect();
    let text = format!("a,y\n{}\n", ids.join("\n"));
    assert!(matches!(csv(&text, &label("y")), Err(TrainError::Levels { .. })));
    assert!(matches!(read(Path::new("rows.txt"), &label("y")), Err(TrainError::Extension { .. })));
}

#[test]
fn gzip_files_are_unpacked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.csv.gz");
    let mut gzip = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
    gzip.write_all(b"a,y\n1,0\n2,1\n").unwrap();
    gzip.finish().unwrap();
    assert_eq!(read(&path, &label("y")).unwrap().values, [1.0, 2.0]);
}
