//! Metrics: distributions and their buckets.

mod distribution;

pub use distribution::{Distribution, LATENCY_BOUNDS, SCORE_BOUNDS};
