//! Which records have changed since they were last written.

use super::records::RecordId;
use std::collections::BTreeSet;

/// The ids of changed records. Off, nothing is noted: whoever only measures writes no records.
#[derive(Clone, Debug, Default)]
pub(super) struct Dirty {
    all: BTreeSet<RecordId>,
    is_off: bool,
}

impl Dirty {
    /// Notes nothing from now on.
    pub(super) fn turn_off(&mut self) {
        *self = Self { all: BTreeSet::new(), is_off: true };
    }

    /// Notes a record.
    pub(super) fn insert(&mut self, id: RecordId) {
        if !self.is_off {
            self.all.insert(id);
        }
    }

    /// Notes a record whose id costs an allocation.
    pub(super) fn note(&mut self, id: impl FnOnce() -> RecordId) {
        if !self.is_off {
            self.all.insert(id());
        }
    }

    /// Notes several.
    pub(super) fn extend(&mut self, ids: impl IntoIterator<Item = RecordId>) {
        ids.into_iter().for_each(|id| self.insert(id));
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &RecordId> {
        self.all.iter()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Forgets all of them.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}
