//! Names, units and logs: what the process tells of itself, and where it tells it.

// Metrics: every name, declared once.
pub mod metrics;

// Exposition: Prometheus' text, read.
mod exposition;

// Logs: what is logged, and changing it.
pub mod logs;

// Admin: health, metrics and the live page over HTTP.
pub mod admin;

// Otlp: metrics and traces to a collector.
pub mod otlp;
