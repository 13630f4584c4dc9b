//! Files of comments: JSON lines, CSV or Parquet.
//!
//! Guarantees: one comment is in memory at a time. A line that is no comment is counted and named, and does not keep the
//! others from being read. Limits: a line has at most 4 MiB.

use crate::{
    cli::{
        Exit,
        files::{self, Line, Lines},
    },
    content::voices::Comment,
    training::{Table, Value},
};
use clap::Args;
use serde_json::Value as Json;
use std::path::{Path, PathBuf};

/// Larger than the longest comment, so that a comment of a megabyte is counted as too long and not as unreadable.
const LINE_BYTES_MAX: usize = 4 << 20;
/// The lines that are named.
const NAMED: usize = 5;

/// The names of the columns.
#[derive(Args, Clone, Debug)]
pub(super) struct ColumnArgs {
    /// The column or member with the text
    #[arg(long, value_name = "NAME", default_value = "text")]
    text: String,
    /// The column or member with the user's id
    #[arg(long, value_name = "NAME", default_value = "user")]
    user: String,
    /// The column or member with the number of likes
    #[arg(long, value_name = "NAME", default_value = "likes")]
    likes: String,
    /// The column or member with the user's segments: a list, or texts with commas between
    #[arg(long, value_name = "NAME", default_value = "segments")]
    segments: String,
    /// The column or member with the consent: true or false
    #[arg(long, value_name = "NAME", default_value = "consent")]
    consent: String,
}

impl Default for ColumnArgs {
    fn default() -> Self {
        let [text, user, likes, segments, consent] =
            ["text", "user", "likes", "segments", "consent"].map(str::to_owned);
        Self { text, user, likes, segments, consent }
    }
}

impl ColumnArgs {
    /// The names that were given for columns that may be absent.
    fn named(&self) -> impl Iterator<Item = &str> {
        let usual = Self::default();
        let both = [
            (&self.user, usual.user),
            (&self.likes, usual.likes),
            (&self.segments, usual.segments),
            (&self.consent, usual.consent),
        ];
        both.into_iter().filter(|(name, usual)| *name != usual).map(|(name, _)| name.as_str())
    }
}

/// Lines that are no comments.
#[derive(Debug, Default)]
pub(super) struct Unread {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

impl Unread {
    fn add(&mut self, path: &Path, line: u64, why: &str) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{}:{line}: {why}", path.display()));
        }
    }
}

/// Calls `visit` with each comment of the files.
pub(super) fn each(paths: &[PathBuf], columns: &ColumnArgs, mut visit: impl FnMut(&Comment)) -> anyhow::Result<Unread> {
    let mut unread = Unread::default();
    let mut count = 0_u64;
    for path in paths {
        files::check(path)?;
    }
    for path in paths {
        let mut seen = |comment: &Comment| {
            count += 1;
            visit(comment);
        };
        if is_table(path) { table(path, columns, &mut seen)? } else { lines(path, columns, &mut unread, &mut seen)? }
    }
    if count == 0 && unread.count > 0 {
        let first = unread.first.join("\n");
        return Err(Exit::Data.because(format!("read comments: no line can be used\n{first}")));
    }
    Ok(unread)
}

fn is_table(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    [".parquet", ".csv", ".csv.gz", ".tsv"].iter().any(|end| name.ends_with(end))
}

fn table(path: &Path, columns: &ColumnArgs, visit: &mut impl FnMut(&Comment)) -> anyhow::Result<()> {
    let table = Table::open(path, &columns.text)?;
    let find = |name: &str| table.columns.iter().position(|column| column == name);
    let Some(text) = find(&columns.text) else {
        let found = table.columns.join(", ");
        let message = format!(
            "read {}: there is no column {:?}, only {found}; name it with --text",
            path.display(),
            columns.text
        );
        return Err(Exit::Data.because(message));
    };
    if let Some(absent) = columns.named().find(|name| find(name).is_none()) {
        let found = table.columns.join(", ");
        return Err(Exit::Data.because(format!("read {}: there is no column {absent:?}, only {found}", path.display())));
    }
    let [user, likes, segments, consent, item] =
        [&columns.user, &columns.likes, &columns.segments, &columns.consent, "item"].map(find);
    table.scan(|_, values| {
        let of = |column: Option<usize>| column.map_or(Value::Missing, |column| values[column]);
        visit(&Comment {
            user: of(user).text(),
            text: values[text].text(),
            likes: match of(likes) {
                Value::Missing => 0.0,
                Value::Number(number) => number,
                Value::Text(text) => text.trim().parse().unwrap_or(f64::NAN),
            },
            item: of(item).text(),
            segments: list(&of(segments).text()),
            consent: consent_of(&of(consent).text()),
        });
        Ok(())
    })?;
    Ok(())
}

fn lines(
    path: &Path,
    columns: &ColumnArgs,
    unread: &mut Unread,
    visit: &mut impl FnMut(&Comment),
) -> anyhow::Result<()> {
    let mut lines = Lines::open(path, LINE_BYTES_MAX)?;
    let mut absent: Vec<&str> = columns.named().collect();
    let mut has_comments = false;
    while let Some(line) = lines.next()? {
        match line {
            Line::Whole(number, json) => match comment(json, columns) {
                Ok(Some(comment)) => {
                    has_comments = true;
                    if !absent.is_empty() {
                        let members: Json = serde_json::from_slice(json).unwrap_or_default();
                        absent.retain(|name| members.get(name).is_none());
                    }
                    visit(&comment);
                }
                Ok(None) => {}
                Err(why) => unread.add(path, number, &why),
            },
            Line::TooLong { number, bytes } => {
                unread.add(path, number, &format!("{bytes} bytes; a line has at most {LINE_BYTES_MAX}"));
            }
        }
    }
    match absent.first() {
        Some(name) if has_comments => {
            Err(Exit::Data.because(format!("read {}: no comment has a member {name:?}", path.display())))
        }
        _ => Ok(()),
    }
}

/// A comment from JSON; `None` for events of another type.
fn comment(json: &[u8], columns: &ColumnArgs) -> Result<Option<Comment>, String> {
    let value: Json = serde_json::from_slice(json).map_err(|error| format!("not JSON: {error}"))?;
    if value["event_type"].as_str().is_some_and(|it| it != "comment") {
        return Ok(None);
    }
    let text = value[&columns.text].as_str();
    let Some(text) = text else {
        return Err(format!("there is no text in the member {:?}; name it with --text", columns.text));
    };
    let words = |value: &Json| match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let user = [&value[&columns.user], &value["user"]["user_id"], &value["user"]["anonymous_id"], &value["user_id"]];
    let likes = &value[&columns.likes];
    Ok(Some(Comment {
        user: user.into_iter().map(words).find(|it| !it.is_empty()).unwrap_or_default(),
        text: text.to_owned(),
        likes: if likes.is_null() { 0.0 } else { likes.as_f64().unwrap_or(f64::NAN) },
        item: words(&value["item"]),
        segments: match &value[&columns.segments] {
            Json::Array(items) => items.iter().map(words).filter(|it| !it.is_empty()).collect(),
            other => list(&words(other)),
        },
        consent: match &value[&columns.consent] {
            Json::Null => None,
            Json::Bool(given) => Some(*given),
            // A list or an object is no yes.
            other => Some(consent_of(&words(other)).unwrap_or(false)),
        },
    }))
}

fn list(text: &str) -> Vec<String> {
    text.split([',', ';', '|']).map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
}

/// Whether a text gives consent; `None` if it is empty. What is no clear yes is a no.
fn consent_of(text: &str) -> Option<bool> {
    let text = text.trim();
    let is_yes = ["true", "1", "1.0", "yes", "y", "t", "on"].iter().any(|yes| text.eq_ignore_ascii_case(yes));
    (!text.is_empty()).then_some(is_yes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::{
        data_type::{ByteArray, ByteArrayType, DoubleType},
        file::writer::SerializedFileWriter,
        schema::parser::parse_message_type,
    };
    use std::{fs::File, sync::Arc};

    fn read(name: &str, content: &[u8]) -> anyhow::Result<(Vec<Comment>, Unread)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut found = Vec::new();
        let unread = each(&[path], &ColumnArgs::default(), |comment| found.push(comment.clone()))?;
        Ok((found, unread))
    }

    fn expected() -> [Comment; 2] {
        let first = Comment {
            user: "u1".to_owned(),
            text: "Great, really".to_owned(),
            likes: 3.0,
            segments: vec!["a".to_owned(), "b".to_owned()],
            consent: Some(true),
            ..Comment::default()
        };
        let second =
            Comment { user: "7".to_owned(), text: "Poor".to_owned(), consent: Some(false), ..Comment::default() };
        [first, second]
    }

    #[test]
    fn each_format_gives_the_same_comments() {
        let json = "{\"user\":\"u1\",\"text\":\"Great, really\",\"likes\":3,\"segments\":[\"a\",\"b\"],\"consent\":true}\n\
                    {\"event_type\":\"page_view\"}\n\
                    {\"event_type\":\"comment\",\"user\":{\"user_id\":\"7\"},\"text\":\"Poor\",\"consent\":false}\n";
        assert_eq!(read("a.jsonl", json.as_bytes()).unwrap().0, expected());
        let csv = "user,text,likes,segments,consent\nu1,\"Great, really\",3,a;b,yes\n7,Poor,,,0\n";
        assert_eq!(read("a.csv", csv.as_bytes()).unwrap().0, expected());

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.parquet");
        let schema = "message m { required binary user (UTF8); required binary text (UTF8); required double likes; \
                      required binary segments (UTF8); required binary consent (UTF8); }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(File::create(&path).unwrap(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let texts = [["u1", "7"], ["Great, really", "Poor"], ["", ""], ["a,b", ""], ["true", "false"]];
        for (index, column) in texts.iter().enumerate() {
            let mut out = group.next_column().unwrap().unwrap();
            if index == 2 {
                out.typed::<DoubleType>().write_batch(&[3.0, 0.0], None, None).unwrap();
            } else {
                let values = column.map(ByteArray::from);
                out.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            out.close().unwrap();
        }
        group.close().unwrap();
        writer.close().unwrap();
        let mut found = Vec::new();
        each(&[path], &ColumnArgs::default(), |comment| found.push(comment.clone())).unwrap();
        assert_eq!(found, expected());
    }

    #[test]
    fn what_is_no_clear_yes_is_no_consent_in_every_format() {
        let consent = |value: &str| {
            let json = format!("{{\"text\":\"ok\",\"consent\":{value}}}\n");
            let csv = format!("text,consent\nok,{}\n", value.trim_matches('"'));
            let [json, csv] =
                [("a.jsonl", json), ("a.csv", csv)].map(|(name, text)| read(name, text.as_bytes()).unwrap());
            [json.0[0].consent, csv.0[0].consent]
        };
        for yes in ["true", "\"True\"", "1", "\"yes\""] {
            assert_eq!(consent(yes), [Some(true); 2], "{yes}");
        }
        for no in ["false", "\"false\"", "0", "\"no\"", "\"n\"", "\"denied\"", "2", "{\"ads\":true}", "[]"] {
            assert_eq!(consent(no), [Some(false); 2], "{no}");
        }
        assert_eq!((consent("null")[0], consent("\"\"")[1]), (None, None));
    }

    #[test]
    fn a_column_that_is_named_has_to_be_there() {
        let folder = tempfile::tempdir().unwrap();
        let columns = ColumnArgs { consent: "agreed".to_owned(), ..ColumnArgs::default() };
        for (name, text, is_there) in [
            ("a.csv", "text,agreed\nok,yes\n", true),
            ("b.csv", "text,consent\nok,yes\n", false),
            ("a.jsonl", "{\"text\":\"ok\"}\n{\"text\":\"ok\",\"agreed\":true}\n", true),
            ("b.jsonl", "{\"text\":\"ok\",\"consent\":false}\n", false),
        ] {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            let found = each(&[path], &columns, |_| {});
            assert_eq!(found.is_ok(), is_there, "{name}");
            if let Err(error) = found {
                assert!(error.to_string().contains("agreed"), "{error}");
            }
        }
    }

    #[test]
    fn lines_that_are_no_comments_are_counted_and_named() {
        let long = "x".repeat(5 << 20);
        let text = format!(
            "{{\"text\":\"ok\"}}\n{{\"txt\":1}}\nnonsense\n{{\"text\":\"{long}\"}}\n{{\"text\":\"ok\",\"likes\":\"many\"}}\n"
        );
        let (found, unread) = read("a.jsonl", text.as_bytes()).unwrap();
        assert_eq!((found.len(), unread.count), (2, 3));
        assert!(found[1].likes.is_nan(), "odd likes are counted by the voices");
        for (line, part) in [(2, "name it with --text"), (3, "not JSON"), (4, "at most 4194304")] {
            assert!(
                unread.first.iter().any(|it| it.contains(&format!("a.jsonl:{line}: ")) && it.contains(part)),
                "{:?}",
                unread.first
            );
        }
        let error = read("a.jsonl", b"{}\n").unwrap_err().to_string();
        assert!(error.contains("no line can be used"), "{error}");
        let error = read("a.csv", b"a,b\n1,2\n").unwrap_err().to_string();
        assert!(error.contains("there is no column \"text\", only a, b; name it with --text"), "{error}");
    }
}
