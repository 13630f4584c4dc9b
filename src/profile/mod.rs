//! A user's rolling profile: what is kept, and the features that are read from it.
//!
//! Owns the declared features, compiled into a fixed layout, and their fingerprint. Leaves alone where profiles lie
//! (`state`), the model and Kafka. A feature row is a function of the partition's order alone.
//!
//! - **Windows.** Time is cut into tiles of width `tile`. At an event of time t, a window of length L covers the tiles k
//!   with `floor(t/tile) - L/tile < k <= floor(t/tile)`. `forever` covers everything that arrived. So what lies exactly L back is
//!   outside, in every aggregate: a `recency` within a window, which has no tiles, is missing there.
//! - **A row** is taken after its own event is applied. What arrived before counts, what arrives later does not.
//! - **Attributes.** Age band, spend level and the like come as `identify` events of the input, in their place among the
//!   others. There is no topic beside the input for them: which record of two topics comes first does not repeat, so a row
//!   would depend on when a process started. What another system keeps is written into the input, one event a change.
//! - **Late.** An event that is older than its user's newest by more than `time.allowed_lateness` is too late and
//!   changes nothing; any other goes to the tile of its own time, and reads its windows at its own time.
//! - **Duplicates.** An `event_id` that the user had within `duplicates.horizon` changes nothing.
//! - **Missing.** An event without a `value` does not count in an aggregate of values. A feature that nothing was
//!   measured for is NaN; a count and a sum of nothing are 0.
//! - **Idle.** A user without an event for `profile.ttl`, by the partition's newest event time, starts anew.
//!
//! [`Aggregate`] lists the aggregates.

mod aggregate;
mod builder;
mod carry;
mod cell;
mod compile;
mod distinct;
mod engine;
mod finalize;
mod fingerprint;
mod layout;
mod membership;
mod spec;
mod tiles;
mod top;
mod window;
mod zone;

pub use aggregate::Aggregate;
pub use carry::{Carry, Kept, Layout};
pub use compile::Feature;
pub use engine::{Applied, ProfileBytes, ProfileEngine};
pub use fingerprint::{Change, changes};
pub use membership::{Membership, MembershipName};
pub use spec::{FeatureSpec, OnChange, ProfileSpec};
pub use window::{tile_of, tile_widths};
