//! What happens to a user at the first event after the key of pseudonyms has changed: the profile takes the new name, and readers
//! get a null for the former one, in order with the decisions. Its header `renamed` says where the event was read. The decision
//! about the event is the first one under the new name.
//!
//! A profile changes its name where the event is decided, not where it is applied. So a membership that ends before the event is
//! announced under the name that readers know.

use super::Pipeline;
use crate::{
    engine::{Partition, Partitions},
    event::Pseudonyms,
    profile::{Applied, Said},
    sink::Outbox,
    state::{Renamed, Stores},
    status::Counts,
};

impl Pipeline {
    /// Tells a partition that is taken up which key names its users, and since when. Returns whether the pipeline has the key that
    /// has named them so far: without it, each user would begin anew under another name.
    #[must_use]
    pub(in crate::engine) fn name_users_of(&self, partition: &mut Partition) -> bool {
        let decoder = &self.decoding.decoder;
        partition.name_by(decoder.pseudonyms().map(Pseudonyms::key_id), decoder.previous_key_id())
    }

    /// Moves the user of a row to the present name, unless that was done before. Nothing is written in a replay.
    #[cold]
    pub(super) fn rename(
        &mut self,
        row: usize,
        partitions: &mut Partitions,
        mut to: Option<(&mut Outbox, &mut Counts)>,
    ) {
        let Self { profile, batch, .. } = &*self;
        let events = &batch.events;
        let (position, applied, meeting) = (events.positions[row], profile.applied()[row], profile.meeting(row));
        let (Some(former), new) = (events.other(row), events.user(row)) else { return };
        let store = partitions.store(position.partition);
        if store.is_named_before(position.offset) || applied == Applied::Covered {
            return;
        }
        let renamed = store.rename(former, new, to.is_some());
        store.rename_notes(former, new, |former, new| profile.merge_choices(former, new));
        match &renamed {
            Renamed::Nothing => {}
            Renamed::Moved => {
                if let Some(words) = store.words(new.0, new.1) {
                    // Nothing was told under the new name yet.
                    let said = profile.said();
                    if !said.is_empty() {
                        Said::new(&mut words[said]).forget();
                    }
                    if let Some(deadline) = profile.first_expiry(words) {
                        store.schedule(new.0, deadline);
                    }
                }
            }
            Renamed::Dropped(words) => {
                if let Some(kept) = store.words(new.0, new.1) {
                    profile.take_choice(kept, words);
                }
                let ended: Vec<usize> = profile.held_memberships(words).collect();
                self.count_out(row, &ended, partitions, to.as_mut().map(|(_, counts)| &mut **counts));
            }
        }
        let is_erasure = applied == Applied::Erasure;
        if let Some((outbox, counts)) = &mut to {
            counts.beside.moved += u64::from(meeting.was_alive);
            if meeting.was_alive || is_erasure {
                self.emit_null(row, former.1, if is_erasure { "erasure" } else { "renamed" }, b"", outbox);
            }
            if meeting.is_stale && !is_erasure {
                self.emit_null(row, new.1, "erasure", b"", outbox);
            }
        }
        if meeting.is_stale && !is_erasure {
            self.finish_erasure(row, partitions, to.map(|(_, counts)| counts));
        }
    }
}

#[cfg(test)]
mod tests;
