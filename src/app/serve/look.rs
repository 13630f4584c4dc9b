//! The thread that looks how far the topic goes.

use crate::{logging, serve::Position, source::Ends};
use crossbeam_channel::Sender;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How often the ends are looked up. Staleness is at least this.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long a look may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the loop that reads has come to, for the other threads.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// By partition, how far it has been read. Partitions without records are left out.
    pub(super) positions: BTreeMap<i32, Position>,
    /// When it was last known that everything had been read. Nulls that were written later may still be to be read.
    pub(super) fresh_at: Option<Instant>,
    /// Whether everything that was there has been read.
    pub(super) is_complete: bool,
    /// Changes when something is forgotten that the positions cover.
    pub(super) generation: u64,
}

/// Shared by the threads.
pub(super) type Positions = Arc<Mutex<Read>>;

/// The ends of all partitions at a moment.
#[derive(Clone, Debug)]
pub(super) struct Look {
    /// When it was asked for: everything that was committed before is below the ends.
    pub(super) asked_at: Instant,
    /// How far the topic had been read at that moment.
    pub(super) read_to: BTreeMap<i32, i64>,
    pub(super) ends: Vec<(i32, i64)>,
}

impl Look {
    /// Whether this can be the topic that was being read: it has all of its partitions, and they are not shorter than what
    /// was read of them.
    pub(super) fn fits(&self) -> bool {
        let end = |partition: i32| self.ends.iter().find(|(it, _)| *it == partition).map(|(_, end)| *end);
        self.read_to.iter().all(|(partition, next)| end(*partition).is_some_and(|end| *next <= end))
    }
}

/// Looks until the process is to stop.
pub(super) fn run(ends: &Ends, positions: &Positions, looks: &Sender<Look>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let asked_at = Instant::now();
        let read = positions.lock().unwrap_or_else(PoisonError::into_inner);
        let read_to = read.positions.iter().map(|(partition, position)| (*partition, position.next)).collect();
        drop(read);
        match ends.look(DEADLINE) {
            // If the last look was not taken yet, this one is not needed.
            Ok(ends) => drop(looks.try_send(Look { asked_at, read_to, ends })),
            Err(error) => {
                if let Some(left_out) = logging::rate_limited("look") {
                    tracing::warn!(%error, left_out, "serving what was read so far");
                }
            }
        }
        std::thread::sleep(INTERVAL.saturating_sub(asked_at.elapsed()));
    }
}
