//! The unit that travels between stages: a batch in columns.
//!
//! Owns the representation of values and of "missing", but not what a column means. All strings of a batch share one
//! buffer, so a batch that is cleared and refilled allocates nothing once it has grown to its usual size.
//!
//! | type | stored as | missing is |
//! |---|---|---|
//! | double | `f64` | NaN (±inf is cleaned to NaN where values enter) |
//! | int | `i64` | `i64::MIN` |
//! | bool | [`Truth`] | [`Truth::Missing`] |
//! | string | [`Text`], a span of the batch's buffer | [`Text::MISSING`] |
//! | timestamp | `i64`, microseconds since 1970 UTC | `i64::MIN` |
//! | duration | `i64`, microseconds | `i64::MIN` |

use std::fmt;

/// The `int`, `timestamp` or `duration` that means "no value".
pub const MISSING_INT: i64 = i64::MIN;

/// The type of a column or an expression, named as in CEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// True or false.
    Bool,
    /// A 64-bit signed integer.
    Int,
    /// A 64-bit IEEE float.
    Double,
    /// UTF-8 text.
    String,
    /// A point in time: microseconds since 1970-01-01T00:00Z.
    Timestamp,
    /// A duration in microseconds.
    Duration,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::String => "string",
            Self::Timestamp => "timestamp",
            Self::Duration => "duration",
        })
    }
}

/// A three-valued truth value: CEL's `bool`, or an error because a value is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    /// No.
    False,
    /// Yes.
    True,
    /// Unknown, because a value it depends on is missing.
    #[default]
    Missing,
}

impl Truth {
    /// Whether a rule holds; a missing value does not.
    pub fn holds(self) -> bool {
        self == Self::True
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Self::True } else { Self::False }
    }
}

/// A string of a batch, as a span of its text buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text {
    start: u32,
    length: u32,
}

impl Text {
    /// No string, as opposed to an empty one.
    pub const MISSING: Self = Self { start: 0, length: u32::MAX };

    /// The length in bytes.
    ///
    /// # Panics
    /// In debug builds, if the string is missing.
    pub fn len(self) -> usize {
        debug_assert!(!self.is_missing());
        self.length as usize
    }

    /// Whether the string is empty. A missing one is not.
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// Whether the string is missing.
    pub fn is_missing(self) -> bool {
        self.length == u32::MAX
    }
}

impl Default for Text {
    fn default() -> Self {
        Self::MISSING
    }
}

/// The first eight bytes, padded with zeros.
pub fn prefix(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    let length = bytes.len().min(8);
    first[..length].copy_from_slice(&bytes[..length]);
    u64::from_le_bytes(first)
}

/// The most bytes in a buffer: spans have 32 bits, and an all-ones length marks a missing string.
const TEXT_BYTES_MAX: usize = u32::MAX as usize - 1;

/// The bytes of all strings of a batch.
#[derive(Clone, Debug)]
pub struct Texts {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Whether a string did not fit.
    is_full: bool,
}

impl Default for Texts {
    fn default() -> Self {
        Self::bounded(TEXT_BYTES_MAX)
    }
}

impl Texts {
    /// A buffer for at most this many bytes.
    pub fn bounded(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max: bytes_max.min(TEXT_BYTES_MAX), is_full: false }
    }

    /// Appends a string and returns its span. If the buffer has no room, returns a missing string, and
    /// [`Texts::is_full`] returns true from then on.
    pub fn push(&mut self, text: &str) -> Text {
        let start = self.bytes.len();
        if text.len() > self.bytes_max - start {
            self.is_full = true;
            return Text::MISSING;
        }
        self.bytes.extend_from_slice(text.as_bytes());
        // The bound keeps both values within 32 bits.
        Text { start: start as u32, length: text.len() as u32 }
    }

    /// Whether a string did not fit since the buffer was last truncated.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The string of a span; empty if missing.
    pub fn get(&self, text: Text) -> &str {
        // Only whole strings are pushed, so the bytes are UTF-8. The check costs a few nanoseconds, which does not
        // justify `unsafe`.
        std::str::from_utf8(self.bytes(text)).unwrap_or_default()
    }

    /// The bytes of a span; empty if missing.
    pub fn bytes(&self, text: Text) -> &[u8] {
        if text.is_missing() {
            return &[];
        }
        &self.bytes[text.start as usize..text.start as usize + text.length as usize]
    }

    /// The first eight bytes of a string, padded with zeros; all zeros if missing.
    pub fn prefix(&self, text: Text) -> u64 {
        if text.is_missing() || text.length == 0 {
            return 0;
        }
        let unused = 64 - 8 * text.length.min(8);
        // Before the end of the buffer, eight bytes can be read at once; surplus bytes are shifted out.
        match self.bytes[text.start as usize..].first_chunk() {
            Some(bytes) => u64::from_le_bytes(*bytes) << unused >> unused,
            None => prefix(self.bytes(text)),
        }
    }

    /// How many bytes are stored.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Truncates to an earlier length, to remove the strings of a rejected row.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.is_full = false;
    }
}

/// One column of a batch, with a value for each row.
#[derive(Clone, Debug)]
pub enum Column {
    /// Truth values.
    Bool(Vec<Truth>),
    /// Integers, timestamps and durations.
    Int(Vec<i64>),
    /// Floats.
    Double(Vec<f64>),
    /// Strings.
    String(Vec<Text>),
}

impl Column {
    /// An empty column for values of this type.
    pub fn of(ty: Type) -> Self {
        match ty {
            Type::Bool => Self::Bool(Vec::new()),
            Type::Int | Type::Timestamp | Type::Duration => Self::Int(Vec::new()),
            Type::Double => Self::Double(Vec::new()),
            Type::String => Self::String(Vec::new()),
        }
    }

    /// Truncates the column to `rows` values, or extends it with missing ones.
    pub fn resize(&mut self, rows: usize) {
        match self {
            Self::Bool(values) => values.resize(rows, Truth::Missing),
            Self::Int(values) => values.resize(rows, MISSING_INT),
            Self::Double(values) => values.resize(rows, f64::NAN),
            Self::String(values) => values.resize(rows, Text::MISSING),
        }
    }

    /// Appends a copy of a row's value.
    ///
    /// # Panics
    /// If the row does not exist.
    pub fn repeat(&mut self, row: usize) {
        match self {
            Self::Bool(values) => values.push(values[row]),
            Self::Int(values) => values.push(values[row]),
            Self::Double(values) => values.push(values[row]),
            Self::String(values) => values.push(values[row]),
        }
    }

    /// Swaps the values of two rows.
    ///
    /// # Panics
    /// If one of them does not exist.
    pub fn swap(&mut self, row: usize, other: usize) {
        match self {
            Self::Bool(values) => values.swap(row, other),
            Self::Int(values) => values.swap(row, other),
            Self::Double(values) => values.swap(row, other),
            Self::String(values) => values.swap(row, other),
        }
    }

    /// How many values the column has.
    pub fn len(&self) -> usize {
        match self {
            Self::Bool(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Double(values) => values.len(),
            Self::String(values) => values.len(),
        }
    }

    /// Whether the column has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The truth values.
    ///
    /// # Panics
    /// If the column has another type. Slots are typed when expressions are compiled, so this would be a bug.
    pub fn bools(&self) -> &[Truth] {
        let Self::Bool(values) = self else { panic!("not a bool column") };
        values
    }

    /// The integers, timestamps or durations.
    ///
    /// # Panics
    /// Like [`Column::bools`].
    pub fn ints(&self) -> &[i64] {
        let Self::Int(values) = self else { panic!("not an int column") };
        values
    }

    /// The floats.
    ///
    /// # Panics
    /// Like [`Column::bools`].
    pub fn doubles(&self) -> &[f64] {
        let Self::Double(values) = self else { panic!("not a double column") };
        values
    }

    /// The floats, for writing.
    ///
    /// # Panics
    /// Like [`Column::bools`].
    pub fn doubles_mut(&mut self) -> &mut Vec<f64> {
        let Self::Double(values) = self else { panic!("not a double column") };
        values
    }

    /// The strings.
    ///
    /// # Panics
    /// Like [`Column::bools`].
    pub fn strings(&self) -> &[Text] {
        let Self::String(values) = self else { panic!("not a string column") };
        values
    }
}

/// The index of a column in its batch, fixed when the configuration is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

impl Slot {
    /// The slot as an index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// The columns of a batch and their strings. A column that nothing reads stays empty.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The strings of all columns.
    pub texts: Texts,
    columns: Vec<Column>,
}

impl Columns {
    /// Columns of these types by slot, without rows.
    pub fn new(types: &[Type]) -> Self {
        Self { texts: Texts::default(), columns: types.iter().map(|ty| Column::of(*ty)).collect() }
    }

    /// One column.
    pub fn get(&self, slot: Slot) -> &Column {
        &self.columns[slot.index()]
    }

    /// One column, for writing.
    pub fn get_mut(&mut self, slot: Slot) -> &mut Column {
        &mut self.columns[slot.index()]
    }

    /// Takes a column out, so that it can be filled while others are read. Put it back with [`Columns::put`].
    pub fn take(&mut self, slot: Slot) -> Column {
        std::mem::replace(&mut self.columns[slot.index()], Column::Bool(Vec::new()))
    }

    /// Puts a column back.
    pub fn put(&mut self, slot: Slot, column: Column) {
        self.columns[slot.index()] = column;
    }

    /// Empties every column but keeps the memory.
    pub fn clear(&mut self) {
        self.texts.truncate(0);
        self.columns.iter_mut().for_each(|column| column.resize(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_finds_no_room_is_missing_and_that_is_told_until_there_is_room_again() {
        let mut texts = Texts::bounded(10);
        let first = texts.push("seven b");
        assert!(!texts.is_full());
        assert!(texts.push("four").is_missing() && texts.is_full());
        let small = texts.push("abc");
        assert_eq!((texts.get(first), texts.get(small), texts.len()), ("seven b", "abc", 10));
        assert!(texts.push("x").is_missing() && !texts.push("").is_missing());
        texts.truncate(7);
        assert!(!texts.is_full());
        assert_eq!(texts.push("new").len(), 3);
        assert!(Texts::default().push("usual").len() == 5);
    }
}
