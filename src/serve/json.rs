//! Finds values in a JSON text, byte for byte.
//!
//! Guarantees: `serde_json` checks the whole text before anything is searched in it. A value that is found is a part of
//! the text as it was written. Nothing recurses, so depth does not matter.

use crate::json_place::JsonPlace;
use serde::{Deserialize, de::IgnoredAny};
use std::borrow::Cow;

/// A request that cannot be used, and where it is wrong. The message does not quote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Malformed {
    /// Where it is wrong.
    pub place: JsonPlace,
    /// What is wrong there.
    pub what: &'static str,
}

/// A value within a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part<'a> {
    whole: &'a str,
    /// The first byte.
    pub(super) start: usize,
    /// The byte behind the last one.
    pub(super) end: usize,
}

impl<'a> Part<'a> {
    /// The value that a text consists of.
    ///
    /// # Errors
    /// Returns where the text is not JSON.
    pub(super) fn of(whole: &'a str) -> Result<Self, Malformed> {
        if let Err(error) = serde_json::from_str::<IgnoredAny>(whole) {
            let what = match error.classify() {
                serde_json::error::Category::Eof => "the JSON ends too early",
                _ => "no JSON",
            };
            return Err(Malformed { place: JsonPlace::from(&error), what });
        }
        let start = whole.len() - whole.trim_ascii_start().len();
        Ok(Self { whole, start, end: whole.trim_ascii_end().len() })
    }

    /// The value as it was written.
    pub(super) fn raw(self) -> &'a str {
        &self.whole[self.start..self.end]
    }

    pub(super) fn is_null(self) -> bool {
        self.raw() == "null"
    }

    pub(super) fn is_object(self) -> bool {
        self.raw().starts_with('{')
    }

    pub(super) fn is_list(self) -> bool {
        self.raw().starts_with('[')
    }

    /// Whether there is nothing in an object or a list.
    pub(super) fn is_empty(self) -> bool {
        self.whole[self.start + 1..self.end - 1].trim_ascii().is_empty()
    }

    /// The string that it is.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        let inner = self.raw().strip_prefix('"')?.strip_suffix('"')?;
        if !inner.contains('\\') {
            return Some(Cow::Borrowed(inner));
        }
        serde_json::from_str(self.raw()).ok().map(Cow::Owned)
    }

    /// The value as another type; `None` if it is of none such.
    pub(super) fn read<T: Deserialize<'a>>(self) -> Option<T> {
        serde_json::from_str(self.raw()).ok()
    }

    /// The members of these names. Null counts as absent, and so do all members of null.
    ///
    /// # Errors
    /// If the value is no object, or has one of them twice.
    pub(super) fn pick<const N: usize>(self, names: [&str; N]) -> Result<[Option<Self>; N], Malformed> {
        let mut found = [None; N];
        if self.is_null() {
            return Ok(found);
        }
        if !self.is_object() {
            return Err(self.fault("expected an object"));
        }
        for (name, value) in self.members() {
            let Some(text) = name.text() else { continue };
            if let Some(index) = names.iter().position(|it| **it == *text) {
                if found[index].is_some() {
                    return Err(name.fault("this member is there twice"));
                }
                found[index] = Some(value);
            }
        }
        Ok(found.map(|it: Option<Self>| it.filter(|it| !it.is_null())))
    }

    /// The null that a member of this name is.
    pub(super) fn null_member(self, name: &str) -> Option<Self> {
        let mut nulls = self.members().filter(|(_, value)| value.is_null());
        nulls.find(|(it, _)| it.text().as_deref() == Some(name)).map(|(_, null)| null)
    }

    /// The names and values of an object's members; none if it is no object.
    fn members(self) -> impl Iterator<Item = (Self, Self)> {
        let mut at = if self.is_object() { self.start + 1 } else { self.end };
        std::iter::from_fn(move || {
            let name = self.next(at)?;
            let value = self.next(name.end)?;
            at = value.end;
            Some((name, value))
        })
    }

    /// The values of a list; none if it is no list.
    pub(super) fn items(self) -> impl Iterator<Item = Self> {
        let mut at = if self.is_list() { self.start + 1 } else { self.end };
        std::iter::from_fn(move || {
            let item = self.next(at)?;
            at = item.end;
            Some(item)
        })
    }

    /// Where the comma behind this item of a list is, which has a next one.
    pub(super) fn behind(self) -> usize {
        self.end + self.whole[self.end..].find(',').unwrap_or_default()
    }

    /// An error at this value.
    pub(super) fn fault(self, what: &'static str) -> Malformed {
        Malformed { place: JsonPlace::of_byte(self.whole.as_bytes(), self.start), what }
    }

    /// The next value inside this object or list, from a byte on. The text is known to be JSON, so that between values
    /// there are only blanks, commas and colons.
    fn next(self, at: usize) -> Option<Self> {
        // The closing bracket is not part of any value.
        let inside = &self.whole[at..self.end.max(at + 1) - 1];
        let skipped = inside.find(|letter: char| !matches!(letter, ' ' | '\t' | '\r' | '\n' | ',' | ':'))?;
        let start = at + skipped;
        let mut values = serde_json::Deserializer::from_str(&self.whole[start..self.end]).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        Some(Self { end: start + values.byte_offset(), start, ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_as_they_were_written() {
        let text =
            " {\"a\" : 1.50 ,\"b\":[ {\"x\":\"}\"}, 12345678901234567890,null ] , \"\\u0063\":\"\\ud83d\\ude00\" } \n";
        let root = Part::of(text).unwrap();
        let [a, b, c, d] = root.pick(["a", "b", "c", "d"]).unwrap();
        assert_eq!(a.unwrap().raw(), "1.50");
        let items: Vec<&str> = b.unwrap().items().map(Part::raw).collect();
        assert_eq!(items, ["{\"x\":\"}\"}", "12345678901234567890", "null"]);
        assert_eq!(c.unwrap().text().unwrap(), "😀");
        assert!(d.is_none() && a.unwrap().text().is_none() && a.unwrap().items().next().is_none());
        assert!(!root.is_empty() && Part::of("{ \n}").unwrap().is_empty());
    }

    #[test]
    fn faults_have_a_place() {
        let at = |text: &str| Part::of(text).map(drop).unwrap_err().to_string();
        assert_eq!(at("{\"a\":\n tru}"), "line 2, column 5: no JSON");
        assert_eq!(at("{\"a\":1"), "line 1, column 6: the JSON ends too early");
        assert_eq!(at(""), "line 1, column 0: the JSON ends too early");
        assert_eq!(at("{} x"), "line 1, column 4: no JSON");
        let text = "{\"user\":\n  {\"id\":1, \"id\":2}, \"regs\": 5}";
        let [user, regs] = Part::of(text).unwrap().pick(["user", "regs"]).unwrap();
        let twice = user.unwrap().pick(["id"]).unwrap_err();
        assert_eq!(twice.to_string(), "line 2, column 12: this member is there twice");
        assert_eq!(regs.unwrap().pick(["gdpr"]).unwrap_err().to_string(), "line 2, column 29: expected an object");
    }

    #[test]
    fn depth_does_not_matter() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let [a] = Part::of(&deep).unwrap().pick(["a"]).unwrap();
        assert_eq!(a.unwrap().raw().len(), 200_000);
    }
}
