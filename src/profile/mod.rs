//! profile
mod spec;
pub use spec::{FeatureSpec, ProfileSpec};
