//! A sample of users that shrinks when there is too much of it.
//!
//! Guarantees: a user is in the sample or not, whatever of the user is asked about, and one that has left does not
//! come back. Which users are in it does not depend on the order of the rows, and is independent of the splits into
//! arms.

use crate::random::mix;

/// The sample's part of a user's hash, so that it is another one than those of splits.
const SALT: u64 = 0x5a6d_706c_6573_2107;

/// Which users are in the sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Halving(u32);

impl Halving {
    /// Whether the user with this hash is in it.
    pub(super) fn keeps(self, user: u64) -> bool {
        mix(user ^ SALT).trailing_zeros() >= self.0
    }

    /// Halves the sample. Returns false if there is nothing left to halve.
    pub(super) fn halve(&mut self) -> bool {
        self.0 += 1;
        self.0 <= u64::BITS
    }

    /// One user in so many is in it.
    pub(super) fn one_in(self) -> u64 {
        1_u64.checked_shl(self.0).unwrap_or(u64::MAX)
    }
}
