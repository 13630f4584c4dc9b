//! Names, units and logs: what the process tells of itself.

// Metrics: every name, declared once.
pub mod metrics;
