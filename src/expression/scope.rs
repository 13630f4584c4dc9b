//! The names available to an expression, and the slots of names and results.

use crate::columns::{Columns, Slot, Type};
use std::collections::HashMap;

/// Declared names with their types, and the layout of the batch that contains them.
///
/// Names are added in data order: the fields of an event, then its features, then the scores. An expression compiled
/// earlier cannot see later names.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    names: HashMap<String, (Slot, Type)>,
    order: Vec<String>,
    types: Vec<Type>,
    /// The total size of compiled patterns.
    pattern_bytes: usize,
    /// The total size of expression texts, including expressions that are built from others.
    text_bytes: usize,
}

/// The most expression text in a configuration. Categories repeat the rule of their feature.
const TEXT_BYTES_MAX: usize = 8 << 20;

/// The most memory for all compiled patterns of a configuration. Each worker has its own copy.
const PATTERN_BYTES_MAX: usize = 16 << 20;

/// The most columns in a batch; with 4,096 rows they take up to 1 GiB.
pub(crate) const COLUMNS_MAX: usize = 32_768;

impl Scope {
    /// Declares a name and gives it a column; `None` if the name already exists.
    pub fn declare(&mut self, name: &str, ty: Type) -> Option<Slot> {
        if self.names.contains_key(name) {
            return None;
        }
        let slot = self.reserve(ty);
        self.names.insert(name.to_owned(), (slot, ty));
        self.order.push(name.to_owned());
        Some(slot)
    }

    /// Declares a name for an existing column, such as the result of an expression; `None` if the name already exists.
    pub fn alias(&mut self, name: &str, slot: Slot) -> Option<Slot> {
        if self.names.contains_key(name) {
            return None;
        }
        self.names.insert(name.to_owned(), (slot, self.types[slot.index()]));
        self.order.push(name.to_owned());
        Some(slot)
    }

    /// Like [`Scope::alias`], but [`Scope::names`] does not list the name. For names that no expression can contain.
    pub fn conceal(&mut self, name: &str, slot: Slot) -> Option<Slot> {
        let found = self.alias(name, slot);
        if found.is_some() {
            self.order.pop();
        }
        found
    }

    /// Reserves an unnamed column for a result.
    pub fn reserve(&mut self, ty: Type) -> Slot {
        let slot = Slot(u32::try_from(self.types.len()).expect("a configuration declares far fewer columns"));
        self.types.push(ty);
        slot
    }

    /// How many columns there are.
    pub fn width(&self) -> usize {
        self.types.len()
    }

    /// Counts the text of an expression; false if all texts together are too long.
    pub(super) fn take_text(&mut self, bytes: usize) -> bool {
        self.text_bytes = self.text_bytes.saturating_add(bytes);
        self.text_bytes <= TEXT_BYTES_MAX
    }

    /// The remaining memory for patterns.
    pub(super) fn pattern_bytes_left(&self) -> usize {
        PATTERN_BYTES_MAX - self.pattern_bytes
    }

    /// Counts a pattern, which must not take more than is left.
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

    /// The declared names, in declaration order, without concealed ones.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.order.iter().map(String::as_str)
    }

    /// An empty batch with all columns declared so far.
    pub fn columns(&self) -> Columns {
        Columns::new(&self.types)
    }
}
