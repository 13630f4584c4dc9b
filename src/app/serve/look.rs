//! The thread that looks how far the topic goes.

use crate::{logging, source::Ends};
use crossbeam_channel::Sender;
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How often the ends are looked up. Staleness is at least this.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a look may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// The ends of all partitions at a moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When it was asked for: everything that was committed before is below the ends.
    pub(super) asked_at: Instant,
    pub(super) ends: Vec<(i32, i64)>,
}

/// Looks until the process is to stop.
pub(super) fn run(ends: &Ends, looks: &Sender<Look>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let asked_at = Instant::now();
        match ends.look(DEADLINE) {
            // If the last look was not taken yet, this one is not needed.
            Ok(ends) => drop(looks.try_send(Look { asked_at, ends })),
            Err(error) => {
                if let Some(left_out) = logging::rate_limited("look") {
                    tracing::warn!(%error, left_out, "serving what was read so far");
                }
            }
        }
        std::thread::sleep(INTERVAL.saturating_sub(asked_at.elapsed()));
    }
}
