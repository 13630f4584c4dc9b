//! The loop that reads the topic of decisions into the store, and says whether the process is ready.

use super::{
    ServeError,
    figures::Figures,
    look::{Look, Positions},
    settings::Settings,
    share::Share,
};
use crate::{
    event::Record,
    logging,
    metrics::{self, VisibleTimes},
    serve::{Change, Position, RecordReader, SHARDS, Store},
    source::{SourceError, Tail},
    status::{RolePhase, RoleStatus},
};
use crossbeam_channel::Receiver;
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How many records are taken at a time.
const BATCH: usize = 2_000;
/// How long a turn waits for records.
const WAIT: Duration = Duration::from_millis(20);
/// How often one part of the users is swept: all of them in a minute.
const SWEEP_INTERVAL: Duration = Duration::from_millis(60_000 / SHARDS as u64);
/// How often readiness and figures are updated.
const TELL_INTERVAL: Duration = Duration::from_millis(200);
/// The pause before a topic that cannot be read is opened again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How many looks in a row must not fit before the topic is read anew. A broker that restarts may not know it at once.
const MISFITS_MAX: u32 = 4;
/// How long a look for added partitions may take.
const ADD_DEADLINE: Duration = Duration::from_secs(5);

/// The present, in microseconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

/// What is known of how complete the store is.
struct Progress {
    /// When everything was known to be read; at first when reading began.
    fresh_at: Instant,
    has_caught_up: bool,
    /// The look whose ends are to be reached.
    aim: Option<Look>,
    /// How many looks in a row did not fit what was read.
    misfits: u32,
    records: u64,
}

impl Progress {
    fn new() -> Self {
        Self { fresh_at: Instant::now(), has_caught_up: false, aim: None, misfits: 0, records: 0 }
    }
}

/// Reads the topic.
pub(super) struct Follower {
    pub(super) settings: Settings,
    pub(super) store: Arc<Store>,
    pub(super) figures: Arc<Figures>,
    pub(super) visible: VisibleTimes,
    pub(super) looks: Receiver<Look>,
    /// How far it has read, for whoever looks.
    pub(super) positions: Positions,
    pub(super) status: RoleStatus,
    pub(super) stop: Arc<AtomicBool>,
}

impl Follower {
    /// Reads until the process is to stop. `tail` begins at the start of the topic.
    ///
    /// # Errors
    /// If the client rejects its settings.
    pub(super) fn run(self, mut tail: Tail, mut share: Option<Share>) -> Result<(), ServeError> {
        let mut progress = Progress::new();
        loop {
            match self.follow(&mut tail, share.as_mut(), &mut progress) {
                Err(ServeError::Source(error)) => tracing::warn!(%error, "reading the decisions anew"),
                ended => return ended,
            }
            match self.reopen(&progress)? {
                Some(opened) => tail = opened,
                None => return Ok(()),
            }
            // Before anything is forgotten: a snapshot that is being written must not count.
            let mut read = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
            read.generation += 1;
            read.is_complete = false;
            read.positions.clear();
            drop(read);
            // Nothing of an earlier topic may be answered.
            if let Some(share) = &mut share {
                share.clear(&self.store);
            }
            self.store.clear();
            // A look that is under way knows the old positions.
            self.looks.try_iter().for_each(drop);
            progress = Progress { fresh_at: progress.fresh_at, ..Progress::new() };
        }
    }

    fn is_stopping(&self) -> bool {
        self.status.health().beat();
        self.stop.load(Ordering::Relaxed)
    }

    /// Opens the topic again. `None` if the process is to stop.
    fn reopen(&self, progress: &Progress) -> Result<Option<Tail>, ServeError> {
        loop {
            if self.is_stopping() {
                return Ok(None);
            }
            self.tell(progress, true);
            match self.settings.open(&BTreeMap::new()) {
                Ok(tail) => return Ok(Some(tail)),
                Err(error @ SourceError::Settings { .. }) => return Err(error.into()),
                Err(error) => {
                    if let Some(left_out) = logging::rate_limited("reopen") {
                        tracing::warn!(%error, left_out, "read the decisions again");
                    }
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// Reads until the process is to stop, or the topic must be opened again.
    fn follow(
        &self,
        tail: &mut Tail,
        mut share: Option<&mut Share>,
        progress: &mut Progress,
    ) -> Result<(), ServeError> {
        let mut reader = RecordReader::new(&self.settings.app);
        let (mut swept_at, mut told_at, mut shard) = (Instant::now(), None::<Instant>, 0);
        while !self.is_stopping() {
            if let Some(share) = share.as_deref_mut()
                && !share.follow(tail, &self.store, &self.positions)?
            {
                // The group has told nothing yet.
                std::thread::sleep(WAIT);
            }
            self.take(tail, &mut reader, share.as_deref(), progress)?;
            self.aim(tail, share.as_deref_mut(), progress)?;
            let reads = tail.partition_count();
            let read = share.as_deref().map_or(if progress.has_caught_up { reads } else { 0 }, Share::read_count);
            if swept_at.elapsed() > SWEEP_INTERVAL {
                swept_at = Instant::now();
                shard = (shard + 1) % SHARDS;
                self.store.sweep(shard, now(), progress.has_caught_up && read == reads);
            }
            if told_at.is_none_or(|at| at.elapsed() > TELL_INTERVAL) {
                told_at = Some(Instant::now());
                metrics::serve_partitions(read, reads - read);
                let mut shared = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
                shared.is_complete = progress.has_caught_up && read == reads;
                shared.fresh_at = Some(progress.fresh_at);
                drop(shared);
                self.tell(progress, share.as_deref().is_none_or(|share| share.is_known(tail)));
            }
        }
        Ok(())
    }

    /// Takes in the records that have arrived.
    fn take(
        &self,
        tail: &mut Tail,
        reader: &mut RecordReader,
        share: Option<&Share>,
        progress: &mut Progress,
    ) -> Result<(), SourceError> {
        let mut outcomes: BTreeMap<&'static str, u64> = BTreeMap::new();
        let mut read_to: BTreeMap<i32, Position> = BTreeMap::new();
        let mut take = |record: &Record<'_>| {
            let start = Position { next: 0, newest_ms: i64::MIN };
            let position = read_to.entry(record.partition).or_insert(start);
            position.next = record.offset + 1;
            position.newest_ms = position.newest_ms.max(record.timestamp_ms.unwrap_or_default());
            let at = record.timestamp_ms.unwrap_or_default().saturating_mul(1_000);
            // What was there before says nothing about the present.
            let is_new = progress.has_caught_up && share.is_none_or(|share| share.has_read(record.partition));
            if is_new && at > 0 {
                let took = now().saturating_sub(at).max(0).unsigned_abs();
                self.visible.record(Duration::from_micros(took));
            }
            let outcome = match reader.read(record.key, record.payload) {
                Ok((key, change)) => {
                    self.store.apply(record.partition, key, change, at);
                    match change {
                        Change::Kept(_) => "kept",
                        Change::Erased => "erased",
                        Change::Foreign => "foreign",
                    }
                }
                Err(refusal) => refusal.as_str(),
            };
            *outcomes.entry(outcome).or_default() += 1;
        };
        let taken = tail.poll(BATCH, WAIT, &mut take)?;
        if taken > 0 {
            let mut read = self.positions.lock().unwrap_or_else(PoisonError::into_inner);
            for (partition, Position { next, newest_ms }) in read_to {
                let position = read.positions.entry(partition).or_insert(Position { next, newest_ms });
                *position = Position { next, newest_ms: newest_ms.max(position.newest_ms) };
            }
        }
        progress.records += taken as u64;
        for (outcome, count) in outcomes {
            metrics::serve_records(outcome, count);
        }
        Ok(())
    }

    /// Finds out whether everything has been read that was there at a look.
    fn aim(&self, tail: &mut Tail, share: Option<&mut Share>, progress: &mut Progress) -> Result<(), SourceError> {
        for look in self.looks.try_iter() {
            if !look.fits() || look.ends.is_empty() {
                progress.misfits += 1;
                if progress.misfits >= MISFITS_MAX {
                    return Err(SourceError::Fatal {
                        doing: format!("follow {}", self.settings.tail.topic),
                        detail: "the topic was made anew, or has lost records".to_owned(),
                    });
                }
                continue;
            }
            progress.misfits = 0;
            if share.is_none() && look.ends.len() > tail.partition_count() {
                // It begins to read the partitions that were added.
                drop(tail.ends(ADD_DEADLINE)?);
            }
            progress.aim.get_or_insert(look);
        }
        let share = share.map(|share| {
            if let Some(look) = &progress.aim {
                share.look(look, tail, &self.store);
            }
            &*share
        });
        if share.is_some_and(|share| !share.is_known(tail)) {
            return Ok(());
        }
        // A partition that is gained later keeps nobody from being ready.
        let later = share.filter(|_| progress.has_caught_up);
        let counts = |partition: i32| later.is_none_or(|share| share.has_read(partition));
        let is_reached = |look: &Look| {
            look.ends.iter().all(|(partition, end)| !counts(*partition) || tail.is_read(*partition, *end))
        };
        let Some(look) = progress.aim.take_if(|look| is_reached(look)) else { return Ok(()) };
        progress.fresh_at = look.asked_at;
        if !progress.has_caught_up {
            progress.has_caught_up = true;
            let sizes = self.store.sizes();
            tracing::info!(users = sizes.users, bytes = sizes.bytes, records = progress.records, "ready");
        }
        Ok(())
    }

    /// Says whether the process is ready, and publishes the figures. `has_share`: it is known which partitions it has.
    fn tell(&self, progress: &Progress, has_share: bool) {
        let staleness = progress.fresh_at.elapsed();
        self.status.set(if has_share {
            phase(progress.has_caught_up, progress.records, staleness, self.settings.stale_max)
        } else {
            RolePhase::NotReady("serve waits until the group gives it partitions (serve.partitions)".to_owned())
        });
        let sizes = self.store.sizes();
        metrics::serve_staleness(staleness);
        metrics::serve_sizes(sizes.users, sizes.bytes, self.figures.connections());
        self.status.show(json!({
            "users": sizes.users,
            "bytes": sizes.bytes,
            "records": progress.records,
            "caught_up": progress.has_caught_up,
            "staleness_seconds": staleness.as_secs_f64(),
            "connections": self.figures.connections(),
        }));
    }
}

/// Whether the process is ready.
pub(super) fn phase(has_caught_up: bool, records: u64, staleness: Duration, stale_max: Duration) -> RolePhase {
    if !has_caught_up {
        return RolePhase::NotReady(format!("serve is reading the decisions: {records} records so far"));
    }
    if staleness > stale_max {
        let time = crate::duration::display(Duration::from_secs(staleness.as_secs()));
        return RolePhase::NotReady(format!(
            "serve has not known for {time} whether everything is read (serve.stale_max)"
        ));
    }
    RolePhase::Ready("serving")
}
