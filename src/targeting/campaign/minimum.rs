//! The minimum audience: segments with too few members are not used to choose who sees what, because a decision about a
//! handful of people says something about each of them.
//!
//! Owns which segments are too small. The sizes are those of the policy: workers count the members of their partitions, and
//! control adds them up. Guarantees: a segment whose size is not known is too small, so without a policy no campaign is shown
//! by segment. The size of an audience changes slowly, so the last policy counts, however old it is. Limits: only lasting
//! segments have members that can be counted; those that are decided anew at each event are not covered.

use crate::targeting::{Segment, policy::Policy};

/// The segments of a worker, and which of them are too small.
#[derive(Clone, Debug, Default)]
pub(super) struct Minimum {
    /// The fewest members; 0 if any number will do.
    members: u64,
    /// By segment: its taxonomy and id, if it has a size.
    counted: Vec<Option<(u32, String)>>,
    /// The segments with too few members, as a bit set; empty if any number will do.
    small: Vec<u64>,
}

impl Minimum {
    pub(super) fn new(members: u64, segments: &[Segment]) -> Self {
        if members == 0 {
            return Self::default();
        }
        let counted = |it: &Segment| it.is_lasting().then(|| (it.segtax, it.id.clone()));
        Self { members, counted: segments.iter().map(counted).collect(), small: Vec::new() }
    }

    /// Takes the sizes of a policy.
    pub(super) fn learn(&mut self, policy: Option<&Policy>) {
        self.small.clear();
        if self.members == 0 {
            return;
        }
        self.small.resize(self.counted.len().div_ceil(64), 0);
        for (number, segment) in self.counted.iter().enumerate() {
            let Some((segtax, id)) = segment else { continue };
            let sizes = policy.into_iter().flat_map(|policy| &policy.audiences);
            let size = sizes.filter(|it| it.segtax == *segtax && it.id == *id).map(|it| it.members).max();
            if size.is_none_or(|size| size < self.members) {
                self.small[number / 64] |= 1 << (number % 64);
            }
        }
    }

    /// The segments that are too small, as a bit set that may be empty.
    pub(super) fn small(&self) -> &[u64] {
        &self.small
    }
}
