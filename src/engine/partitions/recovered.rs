//! The outcome of a restore.

use crate::{
    canary::{self, Canary},
    state::Unfit,
};

/// How a restore ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The offset at which to continue reading the input.
    pub next: i64,
    /// How many profiles of the changelog are usable.
    pub found: u64,
    /// How many profiles the changelog should contain.
    pub owed: u64,
    /// Whether all of them are the records that were committed last. If someone else writes to the changelog,
    /// compaction can remove a user's newer record after an older one was read.
    pub is_latest: bool,
    /// How many of them are unusable. The others are kept, and the input is replayed only for these users.
    pub unfit: u64,
    /// How many records are unusable, including those replaced by newer ones.
    pub unfit_records: u64,
    /// The first of these: its offset in the changelog, or -1 if it came from a snapshot or another layout, and what is
    /// wrong.
    pub first_unfit: Option<(i64, Unfit)>,
    /// How many profiles were built with other features; their state for features that still exist was carried over.
    pub carried: u64,
    /// Whether profiles came from a snapshot. If the numbers then differ, the whole changelog has to be read.
    pub is_cached: bool,
}

impl Recovered {
    /// Whether the changelog was complete.
    pub fn is_whole(&self) -> bool {
        let is_complete = self.found == self.owed && (self.is_latest || canary::is_in(Canary::OldRecordsTrusted));
        (is_complete || canary::is_in(Canary::LostChangelogTrusted)) && self.unfit == 0
    }

    /// Whether the only missing profiles are those with unusable records. They no longer count as owed if an earlier
    /// restore found the same records.
    pub fn is_partly_whole(&self) -> bool {
        self.unfit > 0 && (self.found == self.owed || self.found + self.unfit == self.owed)
    }
}
