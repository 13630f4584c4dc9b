//! The one expression language.

mod scope;

pub use scope::Scope;
