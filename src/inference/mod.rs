//! inference
mod matrix;
mod spec;
pub use matrix::FeatureMatrix;
pub use spec::ModelSpec;
