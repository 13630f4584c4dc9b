//! What a user's consent permits. No command uses it yet.
//!
//! Owns the consent gate. Pure: a verdict depends on what the caller passes in alone.

pub mod consent;
