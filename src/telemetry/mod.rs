//! Names, units and logs: what the process tells of itself, and where it tells it.

// Distribution: buckets for what is counted per event.
pub mod distribution;

// Metrics: every name, declared once.
pub mod metrics;
