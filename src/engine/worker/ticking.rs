//! Moves time on partitions where nothing arrives, so that memberships end there as well.
//!
//! What it rests on: the machine's clock is right to within seconds, and the worker is at the end of the partition's log. Then a
//! membership ends within 5 s of its time, and at once where records of other users move the partition's time. A tick is committed
//! with the partition's position, so whoever takes the partition over applies it at the same place. One that was not committed
//! nobody knows, and its decisions were not committed either. With `delivery = "at_least_once"` they may have been seen all the
//! same: then the next tick writes them again, with the same ids and contents, unless an event came first.

use super::{Worker, protocol::GRACE};
use crate::{
    engine::Clock,
    event::EventTime,
    sink::Sink,
    source::{Source, Watermarks},
};
use std::time::Duration;

impl<S: Source, K: Sink<Group = S::Group>, C: Clock> Worker<S, K, C> {
    /// Ends memberships whose time is over on partitions at the end of their log.
    pub(super) fn tick_if_due(&mut self, now: Duration) {
        let Some(EventTime(present)) = self.pipeline.tick_clock() else { return };
        let time = EventTime(present.saturating_sub(GRACE.as_micros() as i64));
        for number in self.partitions.held() {
            if self.partitions.first_deadline(number).is_some_and(|deadline| deadline <= time)
                && self.protocol.ticks.take_turn(number, now)
                && self.is_at_end(number)
            {
                self.protocol.transaction.open(now);
                let (outbox, counts) = self.protocol.transaction.buffers();
                self.pipeline.tick(number, time, &mut self.partitions, self.clock.now(), outbox, counts);
            }
        }
    }

    /// Whether nothing waits in a partition. Without an answer there may be something.
    fn is_at_end(&mut self, number: i32) -> bool {
        let Some(next) = self.partitions.get(number).map(|partition| partition.next) else { return false };
        match self.source.watermarks(number) {
            Ok(Watermarks { high, .. }) => high <= next || self.source.is_at_end(number, high),
            Err(_) => false,
        }
    }
}
