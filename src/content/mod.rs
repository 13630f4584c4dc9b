//! Content: from what people say to creatives that people approve.
//!
//! ```text
//! comments ─► voices ─► themes ─► brief ─► writing ─► gates ─► review ─► [[creative]]
//!             masked    words     facts    drafts     repaired  people
//!                                                     or dropped
//! ```
//!
//! Owns the meaning of comments, their themes, briefs, what is asked of a writer, the gates, and the form of what was
//! approved. Guarantees: personal data are masked before anything else reads a text. A word reaches a theme only if
//! several people used it, and no theme quotes five words of a comment. A writer is given the brief, never a comment.
//! The same input and seed give the same result. Limits: themes are found in one language at a time. Not covered: files,
//! the network and the terminal, which belong to `aimpoint content`.

pub mod brief;
pub mod gates;
mod language;
pub mod quotes;
pub mod review;
pub mod themes;
pub mod voices;
mod words;
pub mod writing;

pub use language::{detect, is_language};
