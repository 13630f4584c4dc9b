//! What only the tests need: the model broker and the models that fail on purpose.

mod broker;

pub use broker::{Faults, InputRecord, MemoryBroker, MemorySink, MemorySource, Visible};
