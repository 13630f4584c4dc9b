//! JSON payloads, read in one pass along the declared paths.
//!
//! A path is a sequence of member names from the outside in, separated by dots. `name[key]` reads an array of objects
//! such as GA4's `event_params`: it selects the element with this `key` and, in it, `value`. If that is an object
//! (`{"string_value": …}`), it selects the member that is set, or the first of [`pairs::VALUES`] if several are. If
//! there is an object instead of the array, its member with that name counts. An array is read either this way or by
//! its first element, not both. Where an object is expected, a string that contains one as JSON is accepted, as in a
//! table cell.
//!
//! The order of members does not matter. Of several paths of a field, the preferred one counts wherever it is; of the
//! two spellings of a name, `user_id` and `userId`, the one with underscores. Members that no path leads to do no harm
//! as long as they are JSON: if the fast parser rejects a record because of them, for example for a number that no
//! float can hold, the record is read again by a slower one.

mod pairs;
mod paths;
mod syntax;
mod walk;

pub(super) use paths::steps;

use super::{RejectReason, Rejection, payload, rows::Rows};
use crate::nesting::{NESTING_MAX, nests_too_deep};
use paths::{SPELLINGS, Trie};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny};
use syntax::{malformed, no_json};
use walk::{Events, Found, Walk};

/// The declared paths, and where the events of a record are.
#[derive(Debug)]
pub(super) struct Json {
    /// The paths from the top of the record.
    record: Trie,
    /// The paths from an event inside a record, if `input.unpack` is set.
    event: Option<Trie>,
}

impl Json {
    /// Without any path except that of the array of events.
    pub(super) fn new(unpack: Option<&str>) -> Self {
        let mut record = Trie::default();
        if let Some(steps) = unpack.and_then(steps) {
            let node = steps.iter().fold(&mut record, |node, step| node.child(step.name));
            node.is_unpacked = true;
        }
        Self { record, event: unpack.map(|_| Trie::default()) }
    }

    /// Adds a path to a leaf, which may take an array as a whole. Invalid paths are reported where fields are declared. Proto3 JSON writes a name in snake case or
    /// lower camel case, so both are read.
    pub(super) fn insert(&mut self, path: &str, leaf: (usize, bool), rank: u32) {
        let steps = steps(path).unwrap_or_default();
        for trie in [Some(&mut self.record), self.event.as_mut()].into_iter().flatten() {
            trie.insert(&steps, leaf, rank.saturating_mul(SPELLINGS), SPELLINGS >> 1);
        }
    }

    /// Prepares the paths for lookups.
    pub(super) fn finish(mut self) -> Self {
        self.record.sort();
        self.event.iter_mut().for_each(Trie::sort);
        self
    }

    /// Whether a record may hold several events.
    pub(super) fn unpacks(&self) -> bool {
        self.event.is_some()
    }

    /// Reads the rows of a payload.
    pub(super) fn read(&self, payload: &[u8], rows: &mut Rows<'_>) -> Result<(), Rejection> {
        let text = payload::text(payload)?;
        if nests_too_deep(text.as_bytes()) {
            return Err(malformed(format!("nested more than {NESTING_MAX} levels deep")));
        }
        // An array at the top would be read as its first element, and the other events would be lost.
        if text.trim_ascii_start().starts_with(|first| first != '{') {
            return Err(if sonic_rs::from_str::<IgnoredAny>(text).is_ok() {
                malformed("JSON, but not an object".to_owned())
            } else {
                no_json(text, None)
            });
        }
        match self.read_text(text, rows, false) {
            Err(Unread::NotJson(_)) if sonic_rs::from_str::<IgnoredAny>(text).is_ok() => {
                rows.again();
                self.read_text(text, rows, true)
            }
            read => read,
        }
        .map_err(|unread| match unread {
            Unread::Refused(rejection) => rejection,
            Unread::NotJson(error) => no_json(text, Some(&error)),
        })
    }

    fn read_text(&self, text: &str, rows: &mut Rows<'_>, is_lenient: bool) -> Result<(), Unread> {
        let mut deserializer = parser(text, is_lenient);
        let mut found = Found { is_lenient, ..Found::default() };
        let walk = Walk { node: &self.record, rows, found: &mut found };
        let read = walk.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        answer(read, found.refused)?;
        let Some(event) = &self.event else { return Ok(rows.close()?) };
        let missing =
            || Rejection::new(RejectReason::WrongType, "input.unpack: expected an array of events at this path");
        // The array is a slice of the text, so its offset is the difference of the two addresses.
        let (address, length) = found.array.ok_or_else(missing)?;
        let start = address.wrapping_sub(text.as_ptr().addr());
        let array =
            text.get(start..start.wrapping_add(length)).filter(|array| array.starts_with('[')).ok_or_else(missing)?;
        rows.begin_elements();
        let mut refused = None;
        let events = Events { node: event, rows, refused: &mut refused, is_lenient };
        answer(parser(array, is_lenient).deserialize_seq(events), refused)
    }
}

/// Why a text could not be read.
enum Unread {
    Refused(Rejection),
    NotJson(sonic_rs::Error),
}

impl From<Rejection> for Unread {
    fn from(rejection: Rejection) -> Self {
        Self::Refused(rejection)
    }
}

fn answer(read: sonic_rs::Result<()>, refused: Option<Rejection>) -> Result<(), Unread> {
    match (read, refused) {
        (_, Some(rejection)) => Err(Unread::Refused(rejection)),
        (Err(error), None) => Err(Unread::NotJson(error)),
        (Ok(()), None) => Ok(()),
    }
}

/// A parser for a text. A lenient one accepts names with an unpaired surrogate, which no declared name has.
fn parser(text: &str, is_lenient: bool) -> sonic_rs::Deserializer<sonic_rs::Read<'_>> {
    let parser = sonic_rs::Deserializer::from_str(text);
    if is_lenient { parser.utf8_lossy() } else { parser }
}
