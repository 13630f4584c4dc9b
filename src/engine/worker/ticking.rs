//! Advances the time of partitions where nothing arrives, so that memberships end there as well.
//!
//! This assumes that the machine's clock is right to within seconds. A tick of a clock that is ahead ends memberships
//! early. It does no harm to later ones: at a record, ticks count no further than the record's timestamp, and a tick of a
//! clock that is right again may be earlier than the last one. A tick is only applied at the end of the
//! partition's log. A membership then ends within 5 s of its time, or at once if records of other users advance the
//! partition's time. A tick is committed with the partition's position, so whoever takes the partition over applies it
//! at the same place. A tick that was not committed is lost together with its decisions. With
//! `delivery = "at_least_once"`, readers may still have seen those decisions. The next tick then writes them again with
//! the same ids and contents, unless an event came first.

use super::{Worker, protocol::GRACE};
use crate::{
    engine::Clock,
    event::EventTime,
    sink::Sink,
    source::{Source, Watermarks},
};
use std::time::Duration;

/// How far ahead a tick must have been to be reported, in microseconds. Clocks that are kept right differ by less.
const FAR: i64 = 2_000_000;

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Ends expired memberships on partitions at the end of their log.
    pub(super) fn tick_if_due(&mut self, now: Duration) {
        let Some(EventTime(present)) = self.pipeline.tick_clock() else { return };
        let time = EventTime(present.saturating_sub(GRACE.as_micros() as i64));
        for number in self.partitions.held() {
            if self.partitions.first_deadline(number).is_some_and(|deadline| deadline <= time)
                && self.protocol.ticks.take_turn(number, now)
                && self.is_at_end(number)
            {
                if let Some(EventTime(last)) = self.partitions.ticked(number).filter(|last| last.0 > time.0 + FAR) {
                    let ahead_seconds = (last - time.0) / 1_000_000;
                    tracing::warn!(
                        partition = number,
                        ahead_seconds,
                        "the clock that last ended memberships here was ahead of this one; check the clocks of the machines"
                    );
                }
                self.protocol.transaction.open(now);
                let (outbox, counts) = self.protocol.transaction.buffers();
                self.pipeline.tick(number, time, &mut self.partitions, self.clock.now(), outbox, counts);
            }
        }
    }

    /// Whether no records wait in a partition. If the source cannot tell, some may.
    fn is_at_end(&mut self, number: i32) -> bool {
        let Some(next) = self.partitions.get(number).map(|partition| partition.next) else { return false };
        match self.source.watermarks(number) {
            Ok(Watermarks { high, .. }) => high <= next || self.source.is_at_end(number, high),
            Err(_) => false,
        }
    }
}
