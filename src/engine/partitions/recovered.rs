//! What a restore has found in the changelog.

use crate::{
    canary::{self, Canary},
    state::Unfit,
};

/// How a restore has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The offset at which the input goes on.
    pub next: i64,
    /// How many profiles of the changelog can be used.
    pub found: u64,
    /// How many profiles were committed to it.
    pub owed: u64,
    /// Whether all of them are the records that were committed last. Compaction can remove a newer record of a user behind an older
    /// one that was read already, if somebody else writes to the changelog.
    pub is_latest: bool,
    /// How many of them cannot be used. The others are kept, and the input is replayed for these users alone.
    pub unfit: u64,
    /// How many records cannot be used, including those that newer records replace.
    pub unfit_records: u64,
    /// The first of these: its offset in the changelog, or -1 if it came from a snapshot or another layout, and what is wrong.
    pub first_unfit: Option<(i64, Unfit)>,
    /// How many profiles were made by other features; of these, what is still declared was carried over.
    pub carried: u64,
    /// Whether profiles came from a snapshot; if the numbers differ, the whole changelog has to be read.
    pub is_cached: bool,
}

impl Recovered {
    /// Whether the changelog was complete.
    pub fn is_whole(&self) -> bool {
        let is_complete = self.found == self.owed && (self.is_latest || canary::is_in(Canary::OldRecordsTrusted));
        (is_complete || canary::is_in(Canary::LostChangelogTrusted)) && self.unfit == 0
    }

    /// Whether only the profiles of users are missing whose records cannot be used. They are not owed any more if an earlier
    /// restore has found the same records.
    pub fn is_partly_whole(&self) -> bool {
        self.unfit > 0 && (self.found == self.owed || self.found + self.unfit == self.owed)
    }
}
