//! The meaning of one record: decoding, cleaning, event time.

mod batch;

pub use batch::{EventBatch, EventTime, Position, Record};
mod spec;
pub use spec::{
    DuplicateSpec, FieldSpec, InputFormat, InputSpec, MissingTime, Preset, Source, TimeSpec, TimeUnit, TooLate,
};
