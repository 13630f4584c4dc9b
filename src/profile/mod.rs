//! A user's rolling profile: what is stored, and the features read from it.
//!
//! Owns the declared features, compiled into a fixed layout, and their fingerprint. It does not know where profiles are
//! stored (`state`), the model or Kafka. A feature row depends only on the order of records within the partition.
//!
//! - **Windows.** Time is cut into tiles of width `tile`. At an event of time t, a window of length L covers the tiles
//!   k with `floor(t/tile) - L/tile < k <= floor(t/tile)`. `forever` covers everything that arrived. An event exactly L
//!   ago is therefore outside the window, in every aggregate, including a `recency` with a window, which has no tiles.
//! - **A row** is read after its own event is applied. Events that arrived earlier count; later ones do not.
//! - **Attributes.** Age band, spend level and the like arrive as `identify` events in the input, in order with the
//!   other events. There is no separate topic for them: the relative order of records in two topics is not repeatable,
//!   so a row would depend on when a process started. If another system owns an attribute, it writes one event to the
//!   input for each change.
//! - **Late.** An event that is older than its user's newest by more than `time.allowed_lateness` is too late and
//!   changes nothing. Any other event is counted in the tile of its own time, and its windows end at its own time.
//! - **Duplicates.** An `event_id` that the user had within `duplicates.horizon` changes nothing.
//! - **Missing.** An event without a `value` does not count in an aggregate of values. A feature without any
//!   measurement is NaN; a count or sum of nothing is 0.
//! - **Idle.** A user without an event for `profile.ttl`, by partition time or by the user's next event, starts empty.
//!
//! [`Aggregate`] lists the aggregates.

mod aggregate;
mod builder;
mod carry;
mod cell;
mod compile;
mod consent;
mod distinct;
mod engine;
mod finalize;
mod fingerprint;
mod kept;
mod layout;
mod membership;
mod said;
mod spec;
mod tiles;
mod top;
mod window;
mod zone;

pub use aggregate::Aggregate;
pub use carry::{Carry, Kept, Layout};
pub use compile::Feature;
pub use consent::KeptConsent;
pub use engine::{Applied, Meeting, ProfileBytes, ProfileEngine};
pub use fingerprint::{Change, changes};
pub use membership::{Membership, MembershipName};
pub use said::Said;
pub use spec::{FeatureSpec, HiddenFeature, KeptForTargeting, OnChange, ProfileSpec};
pub use window::{tile_of, tile_widths};
