//! What an erasure does after its profile was emptied: it ends the memberships, removes the profile, and tells readers with a
//! null for the user's key, in order with the decisions. Its header `erasure` says where the request was read.

use super::Pipeline;
use crate::{
    engine::Partitions,
    sink::{Outbox, Target},
    state::Stores,
    status::Counts,
};

impl Pipeline {
    /// Ends what is left of an erased user, once the earlier rows are decided. `counts` is absent in a replay, and nothing has
    /// to be written then.
    pub(super) fn finish_erasure(&mut self, row: usize, partitions: &mut Partitions, mut counts: Option<&mut Counts>) {
        let (mut ended, mut is_over) = (Vec::new(), true);
        if let Some(words) = self.words_of(row, partitions) {
            is_over = self.profile.finish_erasure(words, |cell| ended.push(cell));
        }
        let batch = &self.batch.events;
        let (hash, key) = (batch.user_hashes[row], batch.columns.texts.bytes(batch.users[row]));
        let number = batch.positions[row].partition;
        if is_over {
            partitions.store(number).remove(hash, key, counts.is_some());
        }
        if let Some(counts) = &mut counts {
            counts.beside.erasures_dropped += partitions.store(number).erasures_mut().take_dropped();
        }
        self.count_out(row, &ended, partitions, counts);
    }

    /// Appends the null that takes back all decisions about an erased user.
    pub(super) fn emit_erasure(&self, row: usize, outbox: &mut Outbox, counts: &mut Counts) {
        let events = &self.batch.events;
        counts.erasures += 1;
        let traceparent = events.columns.texts.bytes(events.traceparents[row]);
        self.emit_null(row, events.columns.texts.bytes(events.users[row]), "erasure", traceparent, outbox);
    }

    /// Appends a null that takes back the decisions under a name. The header `why` says where the reason was read.
    pub(super) fn emit_null(
        &self,
        row: usize,
        name: &[u8],
        why: &'static str,
        traceparent: &[u8],
        outbox: &mut Outbox,
    ) {
        let position = self.batch.events.positions[row];
        let place = format!("{}/{}/{}", self.encoding.constants.topic, position.partition, position.offset);
        let headers = [(why, place.as_bytes()), ("traceparent", traceparent)];
        let headers = if traceparent.is_empty() { &headers[..1] } else { &headers[..] };
        outbox.push(Target::Decisions, Some(name), headers, None::<fn(&mut Vec<u8>)>);
        outbox.of(position, None);
    }
}

#[cfg(test)]
mod tests;
