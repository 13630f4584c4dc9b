//! inference
mod matrix;
mod model;
pub use model::{Model, ModelError, ModelInfo};
mod spec;
pub use matrix::FeatureMatrix;
pub use spec::ModelSpec;
