//! What a user's consent permits.
//!
//! Owns the consent gate, which `profile` asks about events and `serve` about bid requests. Pure: a verdict depends on what the caller passes in alone.

pub mod consent;
