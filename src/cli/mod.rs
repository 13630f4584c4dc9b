//! The commands, one file each.
//!
//! Owns what a person types and reads: the arguments, tables and messages. Each command is a set of arguments and a
//! `run` over them; the errors of the modules get their context here and their exit code in `main`.

/// Train: from a file of rows to an ONNX file.
pub mod train;
