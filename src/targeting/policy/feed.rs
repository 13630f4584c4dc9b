//! Where a worker's policies come from.

use super::Policy;
use std::sync::Arc;

/// Hands over newer policies, without waiting.
pub trait PolicyFeed: Send {
    /// The newest policy that has arrived since the last call, if there is one.
    fn take(&mut self) -> Option<Arc<Policy>>;
}
