//! What only tests need: the model broker, models that fail on purpose, and made-up consent strings.

mod broker;
mod clock;
pub mod consent;
mod model;
mod snapshots;

pub use broker::{Effect, Fate, Faults, Fuse, InputRecord, MemoryBroker, MemorySink, MemorySource, Place, Visible};
pub use clock::FakeClock;
pub use model::{FakeControl, FakeModel, Mood};
pub use snapshots::MemorySnapshots;
