//! What only the tests need: the model broker and the models that fail on purpose.

mod broker;
mod model;

pub use broker::{Effect, Faults, InputRecord, MemoryBroker, MemorySink, MemorySource, Place, Visible};
pub use model::{FakeControl, FakeModel, Mood};
