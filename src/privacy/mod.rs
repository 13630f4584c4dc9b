//! What a user's consent permits, and what a request to erase a user does.
//!
//! Owns the consent gate, which `profile` asks about events and `serve` about bid requests, the codes of countries, and the section
//! `[erasure]`. Pure: a
//! verdict depends only on what the caller passes in.

pub mod consent;
pub mod country;
pub mod erasure;
