//! The end of a worker.

use std::{cell::Cell, rc::Rc};

/// Ends a worker, or pauses it beyond its session, at any of its calls.
#[derive(Clone, Debug, Default)]
pub struct Fuse(Rc<Cell<Burning>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Burning {
    #[default]
    Never,
    /// After this many calls the worker is dead.
    Kills(u32),
    /// After this many calls the worker is removed from the group, but continues.
    Pauses(u32),
    Dead,
}

impl Fuse {
    /// After this many more calls the worker is dead, and further calls have no effect.
    pub fn kill_after(&self, calls: u32) {
        self.0.set(Burning::Kills(calls));
    }

    /// After this many more calls the worker is removed from the group, but continues without knowing.
    pub fn pause_after(&self, calls: u32) {
        self.0.set(Burning::Pauses(calls));
    }

    /// Cancels the fuse if the worker is still alive.
    pub fn put_out(&self) {
        if !self.is_dead() {
            self.0.set(Burning::Never);
        }
    }

    /// Whether the worker is dead.
    pub fn is_dead(&self) -> bool {
        self.0.get() == Burning::Dead
    }

    /// Counts a call; returns whether the worker was paused at it.
    pub(super) fn burn(&self) -> bool {
        match self.0.get() {
            Burning::Kills(0) => self.0.set(Burning::Dead),
            Burning::Kills(left) => self.0.set(Burning::Kills(left - 1)),
            Burning::Pauses(0) => {
                self.0.set(Burning::Never);
                return true;
            }
            Burning::Pauses(left) => self.0.set(Burning::Pauses(left - 1)),
            Burning::Never | Burning::Dead => {}
        }
        false
    }
}
