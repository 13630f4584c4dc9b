//! Decodes records into the open batch, with the limits of their partition.

use crate::{
    engine::{Clock, Partition},
    event::{Decoded, Decoder, EventBatch, EventTime, Record, Rejection},
    status::{Detail, Stage},
};

/// The decoding of one record in this many is timed, because reading a clock twice per record costs as much as a field.
const RECORDS_PER_LAP: u32 = 64;

/// The decoder, and what it depends on beside the record.
pub(super) struct Decoding {
    pub(super) decoder: Decoder,
    /// The time of day, if it is known.
    pub(super) present: Option<EventTime>,
    /// The records since the last one whose decoding was timed.
    untimed: u32,
}

impl Decoding {
    pub(super) fn new(decoder: Decoder) -> Self {
        Self { decoder, present: None, untimed: 0 }
    }

    /// Decodes a record of a partition. Adds the time that it takes to `detail`, if a stopwatch measures it.
    ///
    /// # Errors
    /// Why the record is rejected.
    pub(super) fn decode(
        &mut self,
        record: &Record<'_>,
        partition: &mut Partition,
        batch: &mut EventBatch,
        stopwatch: Option<&(dyn Clock + Send)>,
        detail: &mut Detail,
    ) -> Result<Decoded, Rejection> {
        self.untimed += 1;
        let start = stopwatch.filter(|_| self.untimed >= RECORDS_PER_LAP).map(Clock::elapsed);
        let ceiling = partition.ceiling(record.offset, self.present.map(|present| self.decoder.latest(present)));
        if self.decoder.has_previous() {
            self.decoder.set_before(partition.store().is_named_before(record.offset));
        }
        let decoded = self.decoder.decode_until(record, ceiling, batch);
        if let (Some(start), Some(watch)) = (start, stopwatch) {
            detail.spend(Stage::Decode, watch.elapsed().saturating_sub(start) * self.untimed);
            self.untimed = 0;
        }
        decoded
    }
}
