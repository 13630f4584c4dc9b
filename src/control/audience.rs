//! What workers report of audiences: how many users are in each lasting segment, by partition of the clickstream.
//!
//! A record of the topic of audiences is the latest report of one partition, in JSON:
//!
//! ```json
//! {"app":"shop","partition":3,"segments":[{"segtax":4,"id":"686","members":1200},{"id":"keen","members":31}]}
//! ```
//!
//! A report replaces the one before, so a repeated or a lost one does no lasting harm, and it needs no transaction. It
//! has no user.

use super::{RejectReason, Rejection};
use crate::json_place::JsonPlace;
use serde::{Deserialize, Serialize};

/// The largest report that is read, in bytes.
const REPORT_BYTES_MAX: usize = 16 << 20;

/// The number of users in each lasting segment, of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudienceReport {
    /// The application.
    pub app: String,
    /// The partition of the clickstream.
    pub partition: i32,
    /// The segments, each once.
    pub segments: Vec<SegmentSize>,
}

/// The number of users in one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SegmentSize {
    /// The taxonomy of the id; 0 for an id of one's own.
    #[serde(default, skip_serializing_if = "is_own")]
    pub segtax: u32,
    /// The segment.
    pub id: String,
    /// How many users are in it.
    pub members: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_own(segtax: &u32) -> bool {
    *segtax == 0
}

impl AudienceReport {
    /// Reads a report.
    ///
    /// # Errors
    /// If it is no such report. The detail has no text of the record.
    pub fn read(payload: &[u8]) -> Result<Self, Rejection> {
        if payload.len() > REPORT_BYTES_MAX {
            let detail = format!("{} bytes, more than {REPORT_BYTES_MAX}", payload.len());
            return Err(Rejection::new(RejectReason::TooLarge, detail));
        }
        serde_json::from_slice(payload).map_err(|error| {
            let place = JsonPlace::from(&error);
            let detail = format!("not a report of audiences: {place}; only workers write to the topic of audiences");
            Rejection::new(RejectReason::Malformed, detail)
        })
    }

    /// The key of its record, by which the topic is compacted.
    pub fn key(&self) -> String {
        format!("{}/{}", self.app, self.partition)
    }

    /// The report as its record's value.
    pub fn to_json(&self) -> Vec<u8> {
        // Texts and numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_it_was_written_and_says_where_it_cannot_be_read() {
        let size = |segtax, id: &str, members| SegmentSize { segtax, id: id.to_owned(), members };
        let report = AudienceReport {
            app: "shop".to_owned(),
            partition: 3,
            segments: vec![size(4, "686", 7), size(0, "keen", 0)],
        };
        let json = report.to_json();
        assert_eq!(
            String::from_utf8(json.clone()).unwrap(),
            r#"{"app":"shop","partition":3,"segments":[{"segtax":4,"id":"686","members":7},{"id":"keen","members":0}]}"#
        );
        assert_eq!((AudienceReport::read(&json), report.key().as_str()), (Ok(report.clone()), "shop/3"));
        let wrong = br#"{"app":"shop","partition":"secret","segments":[]}"#;
        let rejection = AudienceReport::read(wrong).unwrap_err();
        assert_eq!(rejection.reason, RejectReason::Malformed);
        assert!(
            rejection.detail.contains("line 1, column 34") && !rejection.detail.contains("secret"),
            "{rejection:?}"
        );
    }
}
