//! OpenRTB 2.6: segments as `user.data[]`.
//!
//! One Data object for each taxonomy, because the taxonomy is a member of the Data object: `ext.segtax`, the community
//! extension that Prebid and exchanges use, in AdCOM's numbers. Segments without a taxonomy have a Data object without
//! it. Ids and names are strings. Data objects, and segments in them, keep the order of the decision.

use super::{WireSegment, write_int};
use crate::decision::json::text;

/// Who provides the segments, as the first members of a Data object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider(Vec<u8>);

impl Provider {
    /// A provider with an id and a name, of which one may be empty.
    pub fn new(id: &str, name: &str) -> Self {
        let members = [("id", id), ("name", name)].into_iter().filter(|(_, value)| !value.is_empty());
        Self(
            members.map(|(key, value)| format!("\"{key}\":{},", text(value))).collect::<Vec<_>>().concat().into_bytes(),
        )
    }

    /// Appends the array `user.data`. Its time grows with the square of the number of segments.
    pub fn write_data<'a>(&self, segments: impl Iterator<Item = &'a WireSegment> + Clone, to: &mut Vec<u8>) {
        to.push(b'[');
        let start = to.len();
        for (index, first) in segments.clone().enumerate() {
            let is_same = |it: &&WireSegment| it.segtax == first.segtax;
            if segments.clone().take(index).any(|it| is_same(&it)) {
                continue;
            }
            if to.len() > start {
                to.push(b',');
            }
            to.push(b'{');
            to.extend_from_slice(&self.0);
            to.extend_from_slice(b"\"segment\":[");
            for (place, segment) in segments.clone().skip(index).filter(is_same).enumerate() {
                if place > 0 {
                    to.push(b',');
                }
                to.extend_from_slice(&segment.object);
            }
            to.push(b']');
            if first.segtax != 0 {
                to.extend_from_slice(b",\"ext\":{\"segtax\":");
                write_int(first.segtax.into(), to);
                to.push(b'}');
            }
            to.push(b'}');
        }
        to.push(b']');
    }
}
