//! decision
mod spec;
pub use spec::{DecisionFormat, DecisionSpec};
