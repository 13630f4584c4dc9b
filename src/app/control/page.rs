//! What the live page shows of this process.

use super::{Settings, leader::Now, standby::Standby};
use crate::{
    control::{Board, Following, State},
    status::RoleStatus,
    targeting::policy::Policy,
};

/// The page while this process leads.
pub(super) struct LeaderPage {
    board: Board,
    status: RoleStatus,
}

impl LeaderPage {
    /// The page of a leader that has just taken over. It changes with the first transaction.
    pub(super) fn new(settings: &Settings, status: &RoleStatus, now: Now) -> Self {
        Self { board: Board::new(&settings.spec, now.wall), status: status.clone() }
    }

    /// Shows what was committed. `lag`: the records of each input that are to be read.
    pub(super) fn committed(&mut self, state: &State, policy: Option<&Policy>, lag: [u64; 3], now: Now) {
        if let Some(policy) = policy {
            self.board.publish(policy);
        }
        self.board.observe(state, now.wall);
        self.status.show(self.board.json(state, lag, now.wall));
    }
}

/// Shows that this process follows, or is about to take over.
pub(super) fn show_standby(settings: &Settings, status: &RoleStatus, standby: &Standby, takes_over: bool, now: Now) {
    let following = Following {
        topic: &settings.state,
        group: &settings.group(),
        records: standby.records(),
        has_caught_up: standby.has_caught_up(),
        version: standby.version(),
        changed_at: standby.changed_at(),
        takes_over,
    };
    status.show(following.json(now.wall));
}
