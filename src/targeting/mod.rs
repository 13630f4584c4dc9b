//! targeting
mod spec;
pub use spec::SegmentSpec;
