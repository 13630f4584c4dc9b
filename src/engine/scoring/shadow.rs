//! The rows of a batch for a shadow.

use crate::{
    columns::Slot,
    inference::{ShadowRows, ShadowTap},
};

/// The rows of a batch for one shadow. The core fills the buffer lent to it; the driver passes it to the shadow.
pub struct ShadowSlot {
    pub(super) tap: ShadowTap,
    pub(super) inputs: Vec<Slot>,
    /// The prefix of decision ids.
    pub(super) id_prefix: String,
    pub(super) buffer: Option<ShadowRows>,
    /// How many rows of the last batch were for this shadow.
    pub(super) rows: usize,
}

impl ShadowSlot {
    /// The connection to the shadow.
    pub fn tap(&self) -> &ShadowTap {
        &self.tap
    }

    /// Lends a buffer for the next batch, if the shadow has one.
    pub fn lend(&mut self, buffer: Option<ShadowRows>) {
        (self.buffer, self.rows) = (buffer, 0);
    }

    /// How many rows the batch had for the shadow, and the buffer with those that were copied.
    pub fn take(&mut self) -> (usize, Option<ShadowRows>) {
        (std::mem::take(&mut self.rows), self.buffer.take())
    }
}
