//! A standby: follows the state that the leader writes, so that it can take over at once.

use super::{ControlError, Settings};
use crate::{
    control::{CampaignSetup, Follower, RestoreError, State},
    event::Record,
    source::Tail,
};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many records are taken at a time.
const BATCH: usize = 10_000;
/// How often the end of the topic is looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long a look may take. It is repeated soon.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// A process that could take over.
pub(super) struct Standby {
    follower: Follower,
    journal: Tail,
    end: Option<i64>,
    looked_at: Option<Instant>,
    has_caught_up: bool,
    records: u64,
    /// When records last arrived, in microseconds since 1970.
    changed_at: Option<i64>,
}

impl Standby {
    /// Begins to follow the topic of the state.
    pub(super) fn open(settings: &Settings, campaigns: Vec<CampaignSetup>) -> Result<Self, ControlError> {
        let journal = Tail::open(&settings.tail(&settings.state), |_, watermarks| watermarks.low)?;
        Ok(Self {
            follower: Follower::new(&settings.app, &settings.spec, campaigns),
            journal,
            end: None,
            looked_at: None,
            has_caught_up: false,
            records: 0,
            changed_at: None,
        })
    }

    /// Follows what has arrived, waiting at most `wait` for the first record.
    pub(super) fn turn(&mut self, wait: Duration) -> Result<(), ControlError> {
        self.follow(wait)?;
        match self.end {
            Some(end) if self.journal.is_read(0, end) => {
                self.has_caught_up = true;
                self.end = None;
            }
            Some(_) => {}
            None if self.looked_at.is_none_or(|at| at.elapsed() > LOOK_INTERVAL) => {
                self.looked_at = Some(Instant::now());
                let ends = self.journal.ends(LOOK_DEADLINE);
                self.end = ends.ok().and_then(|ends| Some(ends.first()?.1));
            }
            None => {}
        }
        Ok(())
    }

    /// Whether it has read all that there was when it last looked.
    pub(super) fn has_caught_up(&self) -> bool {
        self.has_caught_up
    }

    /// How many records it has followed.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// The version of the last policy that a leader has written.
    pub(super) fn version(&self) -> u64 {
        self.follower.version()
    }

    /// When records last arrived, in microseconds since 1970.
    pub(super) fn changed_at(&self) -> Option<i64> {
        self.changed_at
    }

    /// Takes in changed campaigns.
    pub(super) fn set_campaigns(&mut self, campaigns: Vec<CampaignSetup>) {
        self.follower.set_campaigns(campaigns);
    }

    /// The offset behind the last record that anybody has written.
    pub(super) fn high_watermark(&self) -> Result<i64, ControlError> {
        Ok(self.journal.high_watermark(0)?)
    }

    /// Follows up to this offset, in steps. Returns whether it is reached.
    pub(super) fn follow_to(&mut self, end: i64) -> Result<bool, ControlError> {
        self.follow(Duration::from_millis(50))?;
        Ok(self.journal.is_read(0, end))
    }

    /// The state, and the topic that it was read from.
    pub(super) fn finish(self) -> Result<(State, Tail), RestoreError> {
        Ok((self.follower.finish()?, self.journal))
    }

    fn follow(&mut self, wait: Duration) -> Result<(), ControlError> {
        let Self { follower, records, .. } = self;
        let mut take = |record: &Record<'_>| {
            // No key of ours is empty or not text.
            if let Some(key) = record.key.and_then(|key| std::str::from_utf8(key).ok()) {
                follower.follow(key, record.payload);
                *records += 1;
            }
        };
        if self.journal.poll(BATCH, wait, &mut take)? > 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
            self.changed_at = now.map(|now| now.as_micros() as i64);
        }
        Ok(())
    }
}
