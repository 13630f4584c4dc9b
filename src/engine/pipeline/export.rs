//! The feature rows that an export writes: the model input at each event.

use super::Pipeline;
use crate::{
    columns::Slot,
    engine::{Partitions, scoring::fill},
    event::{EventTime, KeyType, Position, split_key},
    expression::Program,
    inference::FeatureMatrix,
    profile::Applied,
    status::{Counts, SuppressReason},
};

/// State that only an export needs.
#[derive(Debug, Default)]
pub(super) struct Export {
    pub(super) label: Program,
    /// Whether an event is the outcome, by `[label]`.
    pub(super) outcome: Option<Slot>,
    matrix: FeatureMatrix,
}

impl Export {
    pub(super) fn new(label: Program, outcome: Option<Slot>) -> Self {
        Self { label, outcome, ..Self::default() }
    }
}

/// A feature row, as a model would have been given it at that event.
#[derive(Clone, Copy, Debug)]
pub struct FeatureRow<'a> {
    /// The user's id.
    pub user: &'a str,
    /// The type of the id; both together identify the user.
    pub key_type: KeyType,
    /// The hash of the user's key.
    pub user_hash: u64,
    /// The event's own id; empty if it has none.
    pub event_id: &'a str,
    /// The origin of the event.
    pub position: Position,
    /// When it happened.
    pub time: EventTime,
    /// Whether it is an outcome by `[label]`.
    pub is_outcome: bool,
    /// The model's features.
    pub features: &'a [f32],
}

impl Pipeline {
    /// Applies the open batch to the profiles, visits the feature row of each event that counts, and empties the batch.
    pub fn rows(&mut self, partitions: &mut Partitions, counts: &mut Counts, mut visit: impl FnMut(&FeatureRow<'_>)) {
        if self.batch.events.is_empty() {
            return self.batch.clear();
        }
        let rows = self.batch.events.len();
        self.profile.process(&mut self.batch.events, partitions);
        counts.unknown_zones += self.profile.take_unknown_zones();
        self.export.label.run(&mut self.batch.events.columns, rows);
        let inputs: Vec<Slot> = self.features().iter().filter(|feature| feature.model).map(|it| it.slot).collect();
        if self.export.matrix.width() != inputs.len() {
            self.export.matrix = FeatureMatrix::new(inputs.len());
        }
        let all: Vec<u32> = (0..rows as u32).collect();
        fill(&mut self.export.matrix, &self.batch.events, &inputs, &all);
        for row in 0..rows {
            let applied = self.profile.applied()[row];
            if applied == Applied::Erasure {
                self.finish_erasure(row, partitions, None);
            }
            counts.events += 1;
            match applied {
                Applied::Counted => counts.decisions += 1,
                Applied::Duplicate => counts.duplicates += 1,
                Applied::TooLate => counts.suppress(SuppressReason::TooLate, 1),
                Applied::Covered => counts.beside.replayed += 1,
                Applied::Withheld => counts.suppress(SuppressReason::NoConsent, 1),
                Applied::Erasure => counts.erasures += 1,
                Applied::Erased => counts.suppress(SuppressReason::Erased, 1),
            }
            if applied == Applied::Counted && !self.profile.may_train(row) {
                counts.suppress(SuppressReason::NoConsent, 1);
            } else if applied == Applied::Counted {
                let (key_type, user) = split_key(self.batch.events.columns.texts.get(self.batch.events.users[row]));
                visit(&FeatureRow {
                    user,
                    key_type,
                    user_hash: self.batch.events.user_hashes[row],
                    event_id: self.batch.events.columns.texts.get(self.batch.events.event_ids[row]),
                    position: self.batch.events.positions[row],
                    time: self.batch.events.times[row],
                    is_outcome: self
                        .export
                        .outcome
                        .is_some_and(|slot| self.batch.events.columns.get(slot).bools()[row].holds()),
                    features: self.export.matrix.row(row),
                });
            }
        }
        self.batch.clear();
    }
}
