//! `aimpoint evaluate`: the same figures from JSON lines, Protobuf and Parquet, and the report as a file.

use super::{
    aimpoint,
    evaluate::{FILES, evaluate, folder, json, log},
    path,
};
use aimpoint::proto::v1;
use parquet::{
    basic::{Compression, GzipLevel, Repetition, ZstdLevel},
    column::writer::ColumnWriter,
    data_type::ByteArray,
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};
use prost::Message;
use serde_json::Value;
use std::{fs::File, io::Write as _, sync::Arc};
use tempfile::TempDir;

/// The columns of decisions as a usual engine writes them: nested as in JSON, lists with their three levels.
const DECISIONS: &str = "message decision {
    required binary decision_id (UTF8);
    required binary user_key (UTF8);
    required int64 decided_at (TIMESTAMP(MICROS,true));
    required int64 expires_at;
    optional group input { optional int32 partition; }
    optional group model { optional binary name (UTF8); optional binary version (UTF8); }
    optional group campaigns (LIST) { repeated group list { optional group element {
        required binary id (UTF8);
        optional binary arm (UTF8);
        optional double probability;
        required int64 bid_micros;
        required binary currency (UTF8);
        optional group creative {
            required binary id (UTF8);
            required double propensity;
            required binary policy (UTF8);
        }
    } } }
}";

const OUTCOMES: &str = "message outcome {
    required binary outcome_id (UTF8);
    required binary type (UTF8);
    required int64 occurred_at;
    optional binary decision_id (UTF8);
    optional binary campaign_id (UTF8);
    optional double price;
}";

/// What a row has in a column; the only campaign of a decision stands for its list.
fn cell<'a>(row: &'a Value, column: &str) -> Option<&'a Value> {
    let mut names = column.split('.').filter(|name| !["list", "element"].contains(name));
    names.try_fold(row, |at, name| at.as_array().map_or(at, |list| &list[0]).get(name))
}

fn whole(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| value.as_str().unwrap().parse().unwrap())
}

/// Writes rows of JSON into a Parquet file.
fn parquet(folder: &TempDir, name: &str, schema: &str, lines: &str) {
    parquet_by(folder, name, schema, lines, Compression::UNCOMPRESSED);
}

fn parquet_by(folder: &TempDir, name: &str, schema: &str, lines: &str, codec: Compression) {
    let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = File::create(folder.path().join(name)).unwrap();
    let properties = Arc::new(WriterProperties::builder().set_compression(codec).build());
    let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
    // Two row groups, as large files have.
    for rows in rows.chunks(rows.len().div_ceil(2)) {
        let mut group = writer.next_row_group().unwrap();
        let mut number = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            let descriptor = group_column(&mut column);
            let (path, most) = (descriptor.0, descriptor.1);
            let cells: Vec<Option<&Value>> = rows.iter().map(|row| cell(row, &path)).collect();
            let levels: Vec<i16> = cells.iter().map(|cell| if cell.is_some() { most } else { 0 }).collect();
            let there = cells.iter().flatten();
            let lists = vec![0; rows.len()];
            let (defined, repeated) = (Some(&levels[..]), Some(&lists[..]));
            match column.untyped() {
                ColumnWriter::ByteArrayColumnWriter(to) => {
                    let values: Vec<ByteArray> = there.map(|it| it.as_str().unwrap().into()).collect();
                    to.write_batch(&values, defined, repeated).unwrap();
                }
                ColumnWriter::Int64ColumnWriter(to) => {
                    let values: Vec<i64> = there.map(|it| whole(it)).collect();
                    to.write_batch(&values, defined, repeated).unwrap();
                }
                ColumnWriter::Int32ColumnWriter(to) => {
                    let values: Vec<i32> = there.map(|it| whole(it) as i32).collect();
                    to.write_batch(&values, defined, repeated).unwrap();
                }
                ColumnWriter::DoubleColumnWriter(to) => {
                    let values: Vec<f64> = there.map(|it| it.as_f64().unwrap()).collect();
                    to.write_batch(&values, defined, repeated).unwrap();
                }
                _ => panic!("no column of these schemas: {path}"),
            }
            column.close().unwrap();
            number += 1;
        }
        assert!(number > 5);
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// The name of a column and how deep it is nested in what may be missing.
fn group_column(column: &mut parquet::file::writer::SerializedColumnWriter<'_>) -> (String, i16) {
    let descriptor = match column.untyped() {
        ColumnWriter::ByteArrayColumnWriter(to) => to.get_descriptor().clone(),
        ColumnWriter::Int64ColumnWriter(to) => to.get_descriptor().clone(),
        ColumnWriter::Int32ColumnWriter(to) => to.get_descriptor().clone(),
        ColumnWriter::DoubleColumnWriter(to) => to.get_descriptor().clone(),
        _ => panic!("no column of these schemas"),
    };
    assert_ne!(descriptor.self_type().get_basic_info().repetition(), Repetition::REPEATED);
    (descriptor.path().string(), descriptor.max_def_level())
}

/// Decisions and outcomes as messages, each after its length.
fn protobuf(decisions: &str, outcomes: &str) -> (Vec<u8>, Vec<u8>) {
    let (mut of_decisions, mut of_outcomes) = (Vec::new(), Vec::new());
    for line in decisions.lines() {
        let decision: v1::Decision = serde_json::from_str(line).unwrap();
        decision.encode_length_delimited(&mut of_decisions).unwrap();
    }
    for line in outcomes.lines() {
        let it: Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| it[name].as_str().unwrap_or_default().to_owned();
        let kind = format!("OUTCOME_TYPE_{}", text("type").to_ascii_uppercase());
        let outcome = v1::Outcome {
            outcome_id: text("outcome_id"),
            r#type: v1::OutcomeType::from_str_name(&kind).unwrap().into(),
            occurred_at: whole(&it["occurred_at"]),
            decision_id: text("decision_id"),
            campaign_id: text("campaign_id"),
            price: it["price"].as_f64(),
            ..v1::Outcome::default()
        };
        outcome.encode_length_delimited(&mut of_outcomes).unwrap();
    }
    (of_decisions, of_outcomes)
}

#[test]
fn every_form_of_the_same_records_gives_the_same_figures() {
    let folder = folder();
    let (decisions, outcomes) = log();
    let arguments = ["--click-within", "10m", "--by", "creative", "--by", "input.partition"];
    let plain = json(&folder, &FILES, &arguments);
    assert_eq!((&plain["all"]["clicks"], plain["by"][1]["groups"].as_array().unwrap().len()), (&80.into(), 3));
    let (of_decisions, of_outcomes) = protobuf(&decisions, &outcomes);
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("decisions.pb", &of_decisions);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&of_outcomes).unwrap();
    write("outcomes.binpb.gz", &gzip.finish().unwrap());
    parquet(&folder, "decisions.parquet", DECISIONS, &decisions);
    parquet(&folder, "outcomes.any-name", OUTCOMES, &outcomes);
    for files in [
        ["decisions.pb", "outcomes.jsonl"],
        ["decisions.pb", "outcomes.binpb.gz"],
        ["decisions.parquet", "outcomes.jsonl"],
        ["decisions.parquet", "outcomes.any-name"],
        ["decisions.jsonl", "outcomes.any-name"],
    ] {
        assert_eq!(json(&folder, &files, &arguments), plain, "{files:?}");
    }
}

#[test]
fn parquet_is_read_with_every_usual_codec() {
    let folder = folder();
    let (decisions, _) = log();
    let plain = json(&folder, &FILES, &[]);
    for codec in [
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
        Compression::ZSTD(ZstdLevel::default()),
    ] {
        parquet_by(&folder, "packed.parquet", DECISIONS, &decisions, codec);
        assert_eq!(json(&folder, &["packed.parquet", "outcomes.jsonl"], &[]), plain, "{codec}");
    }
}

#[test]
fn damaged_files_of_every_form_are_named_with_the_next_step() {
    let folder = folder();
    let (decisions, _) = log();
    let (messages, _) = protobuf(&decisions, "");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    write("cut.pb", &messages[..messages.len() - 3]);
    write("lines.pb", decisions.as_bytes());
    write("long.pb", &[&[0xff; 4][..], &[0x7f], &messages].concat());
    let nanoseconds = DECISIONS.replace("MICROS", "NANOS");
    parquet(&folder, "nanoseconds.parquet", &nanoseconds, &decisions);
    parquet(&folder, "whole.parquet", DECISIONS, &decisions);
    let bytes = std::fs::read(folder.path().join("whole.parquet")).unwrap();
    write("cut.parquet", &bytes[..bytes.len() / 2]);
    for (name, part) in [
        ("cut.pb", "cut off in the middle of a message"),
        ("lines.pb", "lines.pb"),
        ("long.pb", "cut off in the middle of a message"),
        ("nanoseconds.parquet", "column decided_at has nanoseconds; times are microseconds, so cast the column"),
        ("cut.parquet", "the file is damaged"),
    ] {
        let (code, out, error) = evaluate(&folder, &[name], &[]);
        assert!(code != 0 && out.is_empty(), "{name}: {code} {out}");
        assert!(error.contains(part) && error.contains(name), "{name}: {part:?} is missing in:\n{error}");
    }
    // A message that is neither is counted, and the others are measured.
    let event = v1::Event { event_id: "e1".to_owned(), ..v1::Event::default() };
    write("odd.pb", &[messages, event.encode_length_delimited_to_vec()].concat());
    let found = json(&folder, &["odd.pb"], &[]);
    assert_eq!((&found["totals"]["decisions"], &found["unreadable"]["count"]), (&400.into(), &1.into()));
    assert!(found["unreadable"]["first"][0].as_str().unwrap().contains("odd.pb:401:"), "{found}");
}

#[test]
fn a_report_is_written_beside_the_tables_as_a_page_and_as_data() {
    let folder = folder();
    let [page, data] = ["out.html", "out.json"].map(|name| path(&folder, name));
    let arguments = ["--click-within", "10m", "--report", &page, "--report", &data];
    let (code, out, error) = evaluate(&folder, &FILES, &arguments);
    assert_eq!((code, error.as_str()), (0, ""), "{error}");
    assert!(out.contains("all: every decision"));
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    for part in [
        "What the decisions achieved",
        "spring: blue is clicked most, 31.6 % against 10.5 %",
        "Content-Security-Policy",
    ] {
        assert!(page.contains(part), "{part:?} is missing in:\n{page}");
    }
    let data: Value = serde_json::from_slice(&std::fs::read(&data).unwrap()).unwrap();
    let rates: Vec<_> = data["charts"]["creatives"].as_array().unwrap().iter().collect();
    assert_eq!((&rates[0]["creative"], &rates[0]["click_rate"]["of"]), (&"blue".into(), &190.into()));
    // The data are those that are printed, and the pictures are only computed if they are asked for.
    let mut printed = json(&folder, &FILES, &arguments[..2]);
    assert!(printed.get("charts").is_none());
    printed["charts"] = data["charts"].clone();
    assert_eq!(printed, data);
    for (report, code, part) in
        [("out.pdf", 2, "expected a name that ends in .html or .json"), ("nowhere/out.html", 66, "out.html")]
    {
        let report = path(&folder, report);
        let (found, _, error) = evaluate(&folder, &FILES, &["--report", &report]);
        assert_eq!((found, error.contains(part)), (code, true), "{error}");
    }
    // An input is not overwritten.
    let input = path(&folder, "input.json");
    std::fs::copy(path(&folder, "outcomes.jsonl"), &input).unwrap();
    let config = path(&folder, "a.toml");
    let (code, _, error) = aimpoint(&["evaluate", "--config", &config, &input, "--report", &input], &[]);
    assert!(code != 0 && error.contains("would be overwritten"), "{code} {error}");
}
