//! The names that an expression may use, and the slots that they and all results stand in.

use crate::columns::{Columns, Slot, Type};
use std::collections::HashMap;

/// Declared names with their types, and the layout of the batch that carries them.
///
/// Names are added as they become available on the data's way: the fields of an event, then its features, then the
/// scores. An expression that is compiled earlier cannot see what comes later.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    names: HashMap<String, (Slot, Type)>,
    order: Vec<String>,
    types: Vec<Type>,
    /// What the compiled patterns take together.
    pattern_bytes: usize,
    /// What the expressions take as text, those that are made of others included.
    text_bytes: usize,
}

/// What all expressions of a configuration may take as text. Categories repeat the rule of their feature.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// What the compiled patterns of a configuration may take together. Each worker has its own.
const PATTERN_BYTES_MAX: usize = 16 << 20;

/// The most columns of a batch: of 4,096 rows they take up to 1 GiB.
pub(crate) const COLUMNS_MAX: usize = 32_768;

impl Scope {
    /// Declares a name and gives it a column. A name is declared once: `None` says that it was there already.
    pub fn declare(&mut self, name: &str, ty: Type) -> Option<Slot> {
        if self.names.contains_key(name) {
            return None;
        }
        let slot = self.reserve(ty);
        self.names.insert(name.to_owned(), (slot, ty));
        self.order.push(name.to_owned());
        Some(slot)
    }

    /// Declares a name for a column that exists already, such as the result of an expression.
    pub fn alias(&mut self, name: &str, slot: Slot) -> Option<Slot> {
        if self.names.contains_key(name) {
            return None;
        }
        self.names.insert(name.to_owned(), (slot, self.types[slot.index()]));
        self.order.push(name.to_owned());
        Some(slot)
    }

    /// Reserves a column without a name, for a result.
    pub fn reserve(&mut self, ty: Type) -> Slot {
        let slot = Slot(u32::try_from(self.types.len()).expect("a configuration declares far fewer columns"));
        self.types.push(ty);
        slot
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        self.types.len()
    }

    /// Counts the text of an expression; false where all of them together are too long.
    pub(super) fn take_text(&mut self, bytes: usize) -> bool {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        self.text_bytes <= TEXT_BYTES_MAX
    }

    /// What further patterns may take.
    pub(super) fn pattern_bytes_left(&self) -> usize {
        PATTERN_BYTES_MAX - self.pattern_bytes
    }

    /// Counts a pattern, which takes no more than is left.
    pub(super) fn take_pattern_bytes(&mut self, bytes: usize) {
        self.pattern_bytes += bytes;
    }

    /// The slot and type of a name such as `value` or `page.category`.
    pub fn get(&self, name: &str) -> Option<(Slot, Type)> {
        self.names.get(name).copied()
    }

    /// The type of a slot.
    pub fn type_of(&self, slot: Slot) -> Type {
        self.types[slot.index()]
    }

    /// The declared names, in the order of their declaration.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// An empty batch with all columns declared so far.
    pub fn columns(&self) -> Columns {
        Columns::new(&self.types)
    }
}
