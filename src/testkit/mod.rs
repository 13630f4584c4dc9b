//! What only tests need: the model broker, and models that fail on purpose.

mod broker;
mod clock;
mod model;
mod snapshots;

pub use broker::{Effect, Fate, Faults, Fuse, InputRecord, MemoryBroker, MemorySink, MemorySource, Place, Visible};
pub use clock::FakeClock;
pub use model::{FakeControl, FakeModel, Mood};
pub use snapshots::MemorySnapshots;
