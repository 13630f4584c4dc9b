//! Which decisions carry the features given to the model.
//!
//! Guarantees: the choice depends on the event alone, so a retry and another process choose the same decisions. Without a share,
//! nothing is computed.

use crate::{columns::Slot, engine::scoring::draw, event::EventBatch, profile::Feature};

/// The features of a share of the decisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    /// The columns of the features.
    inputs: Vec<Slot>,
    /// Events that draw at most this are chosen; `None`: no event is.
    below: Option<u64>,
    values: Vec<f32>,
}

impl Carried {
    /// Chooses a share of the events, 0 to 1.
    pub(super) fn new(share: f64, features: &[Feature]) -> Self {
        let below = (share > 0.0).then(|| (share.min(1.0) * u64::MAX as f64) as u64);
        let inputs = features.iter().filter(|feature| feature.model).map(|it| it.slot).collect();
        Self { inputs, below, values: Vec::new() }
    }

    /// Whether any event is chosen.
    pub(super) fn is_on(&self) -> bool {
        self.below.is_some()
    }

    /// The features of a row, as a model gets them. Empty if the event is not chosen.
    pub(super) fn row(&mut self, batch: &EventBatch, row: usize, may_train: bool) -> &[f32] {
        self.values.clear();
        if let Some(below) = self.below
            && may_train
            && draw(batch.user_hashes[row], batch.positions[row]) <= below
        {
            let value = |slot: &Slot| batch.columns.get(*slot).doubles()[row] as f32;
            // As in a feature matrix: what is too large for f32 is missing.
            let narrow = |value: f32| if value.is_finite() { value } else { f32::NAN };
            self.values.extend(self.inputs.iter().map(value).map(narrow));
        }
        &self.values
    }
}
