//! The status of a role that has no workers, such as control.

use super::Health;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};

/// What a role is doing. Clones share the same data.
#[derive(Clone, Debug, Default)]
pub struct RoleStatus(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    name: RoleName,
    health: Health,
    phase: Mutex<RolePhase>,
    board: Mutex<Arc<Value>>,
}

/// A role that has a status of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoleName {
    /// `aimpoint control`
    #[default]
    Control,
    /// `aimpoint serve`
    Serve,
}

impl RoleName {
    /// The name of the command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Serve => "serve",
        }
    }
}

/// Whether a role is ready, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RolePhase {
    /// It does its work, or could at once: as this.
    Ready(&'static str),
    /// It does not, because of this.
    NotReady(String),
}

impl Default for RolePhase {
    fn default() -> Self {
        Self::NotReady("the process is starting".to_owned())
    }
}

impl RoleStatus {
    /// The status of a role that is starting.
    pub fn of(name: RoleName) -> Self {
        Self(Arc::new(Shared { name, ..Shared::default() }))
    }

    /// Which role it is.
    pub fn name(&self) -> RoleName {
        self.0.name
    }

    /// When the role last ran its loop.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// Says whether it is ready.
    pub fn set(&self, phase: RolePhase) {
        *self.0.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Whether it is ready.
    pub fn phase(&self) -> RolePhase {
        self.0.phase.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets what the page shows of the role.
    pub fn show(&self, board: Value) {
        *self.0.board.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(board);
    }

    /// What the page shows of the role. Null before there is anything.
    pub fn board(&self) -> Arc<Value> {
        Arc::clone(&self.0.board.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
