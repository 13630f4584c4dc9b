//! The data of the live page of a process that has a role and no workers, as JSON.

use super::{AdminState, now};
use crate::status::RoleStatus;
use serde_json::{Value, json};

impl AdminState {
    /// What the page shows of a role. The role says most of it itself: see [`RoleStatus::show`].
    pub(super) fn role_page(&self, role: &RoleStatus) -> Value {
        let reasons = self.reasons(&[]);
        json!({
            "title": self.title,
            "version": env!("CARGO_PKG_VERSION"),
            "now_ms": now().millis(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "ready": reasons.is_empty(),
            "reasons": reasons,
            role.name().as_str(): *role.board(),
        })
    }
}
