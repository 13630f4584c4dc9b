//! The external view of a process: metrics as Prometheus text and OTLP, traces, and the admin port with the live page.

// Figures: all metric families with their samples.
mod figures;

// Prometheus: the text format.
mod prometheus;

// Admin: health, metrics and the live page over HTTP.
pub mod admin;

// Otlp: metrics and traces to a collector.
pub mod otlp;
