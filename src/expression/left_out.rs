//! The parts of CEL that this language leaves out, and the alternatives.

/// A part of CEL that is left out on purpose.
#[derive(Clone, Copy, Debug)]
pub struct LeftOut {
    /// Its name in the error.
    pub what: &'static str,
    /// An example.
    pub example: &'static str,
    /// The alternative.
    pub instead: &'static str,
}

const fn left_out(what: &'static str, example: &'static str, instead: &'static str) -> LeftOut {
    LeftOut { what, example, instead }
}

/// Parts of CEL that do not exist here, because values are columns of one plain type, and a missing value is not an
/// error.
pub const LEFT_OUT: [LeftOut; 10] = [
    left_out("unsigned integers", "dwell_ms > 10u", "remove the `u`"),
    left_out("bytes", "b'abc' == b'abd'", "compare strings"),
    left_out("null", "value == null", "use x.hasValue()"),
    left_out("lists, except after `in`", "[1, 2] == [1]", "for example x in [1, 2]"),
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

/// The functions meant by the last entry.
pub(super) const FUNCTIONS_LEFT_OUT: [&str; 5] = ["type", "dyn", "bool", "bytes", "uint"];
