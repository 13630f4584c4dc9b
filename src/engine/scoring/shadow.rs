//! What a batch has for a shadow.

use crate::{
    columns::Slot,
    inference::{ShadowRows, ShadowTap},
};

/// The rows of a batch for one shadow. The core fills the buffer that it was lent; the driver brings it to the shadow.
pub struct ShadowSlot {
    pub(super) tap: ShadowTap,
    pub(super) inputs: Vec<Slot>,
    /// What a decision's id begins with.
    pub(super) id_prefix: String,
    pub(super) buffer: Option<ShadowRows>,
    /// How many rows the last batch had for it.
    pub(super) rows: usize,
}

impl ShadowSlot {
    /// The way to the shadow.
    pub fn tap(&self) -> &ShadowTap {
        &self.tap
    }

    /// Lends a buffer for the next batch, if the shadow has one.
    pub fn lend(&mut self, buffer: Option<ShadowRows>) {
        (self.buffer, self.rows) = (buffer, 0);
    }

    /// How many rows the batch had for the shadow, and the buffer, which holds them.
    pub fn take(&mut self) -> (usize, Option<ShadowRows>) {
        (std::mem::take(&mut self.rows), self.buffer.take())
    }
}
