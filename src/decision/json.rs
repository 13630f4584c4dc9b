//! The JSON encodings: literal pieces that are encoded once, with the values of a decision between them.
//!
//! As in proto3 JSON, 64-bit integers are strings. A missing value is `null`, which proto3 readers treat as the field's
//! default. Names are those of `aimpoint.v1.Decision`, unchanged.

mod layout;
mod offers;

use super::{Cause, Decision, write_id_of, write_int};
use crate::{
    event::EventTime,
    privacy::consent::Verdict,
    profile::Membership,
    targeting::{InSegment, LeftSegment},
};
use offers::Offers;

/// A value that differs between decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    DecisionId,
    UserKey,
    KeyType,
    TriggerEventId,
    /// The position of the event in the input, as an object.
    Input,
    Partition,
    Offset,
    OccurredAt,
    OccurredAtMillis,
    DecidedAt,
    ExpiresAt,
    Status,
    Reason,
    Raw,
    Score,
    Head(usize),
    Explanation,
    Segments,
    FirstSegmentId,
    Left,
    Campaigns,
    FirstCampaignId,
    FirstBid,
    FirstCreativeId,
    Suppressed,
    /// The refusals that control has to learn of.
    SuppressedForControl,
    PolicyVersion,
    Consent,
    /// The features given to the model with their name, or nothing.
    Logged,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Member(Member),
}

/// The pieces of a decision, in order.
#[derive(Clone, Debug)]
pub(super) struct Template {
    id_prefix: String,
    pieces: Vec<Piece>,
    /// The start of each segment's object, without the closing brace, and the segment's id.
    segments: Vec<(Vec<u8>, Vec<u8>)>,
    offers: Offers,
    /// The name of each feature as a JSON string with a colon.
    features: Vec<Vec<u8>>,
    /// The input topic as a JSON string.
    topic: Vec<u8>,
    /// Whether 64-bit integers are strings, as in proto3 JSON.
    text_integers: bool,
}

/// Appends the name of a further member. It needs no escapes.
fn write_name(name: &str, to: &mut Vec<u8>) {
    to.extend_from_slice(b",\"");
    to.extend_from_slice(name.as_bytes());
    to.extend_from_slice(b"\":");
}

impl Template {
    pub(super) fn write(&self, decision: &Decision<'_>, expires_at: EventTime, to: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => to.extend_from_slice(bytes),
                Piece::Member(member) => self.write_member(*member, decision, expires_at, to),
            }
        }
    }

    fn write_member(&self, member: Member, decision: &Decision<'_>, expires_at: EventTime, to: &mut Vec<u8>) {
        match member {
            Member::DecisionId => {
                // Names of applications and topics contain only letters, digits, '.', '_' and '-', so nothing needs
                // escaping.
                to.push(b'"');
                write_id_of(&self.id_prefix, decision.cause, to);
                to.push(b'"');
            }
            Member::UserKey => write_text(decision.user, to),
            Member::KeyType => {
                to.push(b'"');
                to.extend_from_slice(decision.key_type.proto_name().as_bytes());
                to.push(b'"');
            }
            Member::TriggerEventId => write_text(decision.event_id, to),
            Member::Input => self.write_input(decision.cause, to),
            Member::Partition | Member::Offset => match decision.cause.position() {
                Some(position) if member == Member::Offset => self.write_long(position.offset, to),
                Some(position) => write_int(position.partition.into(), to),
                None => to.extend_from_slice(b"null"),
            },
            Member::OccurredAt => self.write_long(decision.occurred_at.0, to),
            Member::OccurredAtMillis => write_int(decision.occurred_at.millis(), to),
            Member::DecidedAt => self.write_long(decision.decided_at.0, to),
            Member::ExpiresAt => self.write_long(expires_at.0, to),
            Member::Status => {
                to.push(b'"');
                to.extend_from_slice(decision.status.name().as_bytes());
                to.push(b'"');
            }
            Member::Reason => match decision.status_reason() {
                Some(reason) => {
                    to.push(b'"');
                    to.extend_from_slice(reason.as_bytes());
                    to.push(b'"');
                }
                None => to.extend_from_slice(b"null"),
            },
            Member::Raw => write_float(decision.raw, to),
            Member::Score => write_float(decision.score, to),
            Member::Head(head) => write_float(decision.heads.get(head).copied().unwrap_or(f32::NAN), to),
            Member::Explanation => write_explanation(decision, to),
            Member::Segments => {
                to.push(b'[');
                for (index, InSegment { number, stay }) in decision.segments.iter().enumerate() {
                    if index > 0 {
                        to.push(b',');
                    }
                    to.extend_from_slice(&self.segments[*number].0);
                    if let Some((membership, is_new)) = stay {
                        self.write_times(membership, to);
                        to.extend_from_slice(if *is_new { b",\"is_new\":true" } else { b",\"is_new\":false" });
                    }
                    to.push(b'}');
                }
                to.push(b']');
            }
            Member::FirstSegmentId => match decision.segments.first() {
                Some(segment) => to.extend_from_slice(&self.segments[segment.number].1),
                None => to.extend_from_slice(b"null"),
            },
            Member::Left => {
                to.push(b'[');
                for (index, LeftSegment { number, was, reason }) in decision.left.iter().enumerate() {
                    if index > 0 {
                        to.push(b',');
                    }
                    to.extend_from_slice(&self.segments[*number].0);
                    self.write_times(was, to);
                    to.extend_from_slice(b",\"reason\":\"");
                    to.extend_from_slice(reason.name().as_bytes());
                    to.extend_from_slice(b"\"}");
                }
                to.push(b']');
            }
            Member::Campaigns => self.write_campaigns(decision.campaigns, decision.features, to),
            Member::FirstCampaignId => match decision.campaigns.first() {
                Some(bid) => to.extend_from_slice(self.offers.id(bid)),
                None => to.extend_from_slice(b"null"),
            },
            Member::FirstBid => match decision.campaigns.first() {
                Some(bid) => self.write_long(bid.bid.0, to),
                None => to.extend_from_slice(b"null"),
            },
            Member::FirstCreativeId => match decision.campaigns.first().and_then(|bid| bid.creative) {
                Some(shown) => to.extend_from_slice(self.offers.creative(shown)),
                None => to.extend_from_slice(b"null"),
            },
            Member::Suppressed => self.write_suppressed(decision.suppressed, true, to),
            Member::SuppressedForControl => self.write_suppressed(decision.suppressed, false, to),
            // Versions begin at 1 and grow by 1.
            Member::PolicyVersion => self.write_long(decision.policy_version as i64, to),
            Member::Consent => match &decision.consent {
                Some(verdict) => self.write_consent(verdict, to),
                None => to.extend_from_slice(b"null"),
            },
            Member::Logged => self.write_logged(decision.logged, to),
        }
    }

    /// Appends the features that are not missing, as a member. Nothing if none are logged.
    fn write_logged(&self, logged: &[f32], to: &mut Vec<u8>) {
        if !logged.iter().any(|value| value.is_finite()) {
            return;
        }
        to.extend_from_slice(b",\"features\":{");
        let start = to.len();
        for (name, value) in self.features.iter().zip(logged).filter(|(_, value)| value.is_finite()) {
            if to.len() > start {
                to.push(b',');
            }
            to.extend_from_slice(name);
            write_float(*value, to);
        }
        to.push(b'}');
    }

    /// Names of activities, frameworks and reasons need no escapes.
    fn write_consent(&self, Verdict { permissions, basis }: &Verdict, to: &mut Vec<u8>) {
        let name = |member: &str, name: &str, to: &mut Vec<u8>| {
            write_name(member, to);
            to.push(b'"');
            to.extend_from_slice(name.as_bytes());
            to.push(b'"');
        };
        to.extend_from_slice(b"{\"permitted\":[");
        for (index, activity) in permissions.iter().enumerate() {
            to.extend_from_slice(if index > 0 { b",\"" } else { b"\"" });
            to.extend_from_slice(activity.name().as_bytes());
            to.push(b'"');
        }
        to.push(b']');
        name("framework", basis.framework.name(), to);
        name("legal_basis", basis.legal_basis.name(), to);
        to.extend_from_slice(b",\"refused\":[");
        for (index, activity) in permissions.complement().iter().enumerate() {
            to.extend_from_slice(if index > 0 { b",{\"activity\":\"" } else { b"{\"activity\":\"" });
            to.extend_from_slice(activity.name().as_bytes());
            to.push(b'"');
            name("reason", basis.reason(activity).name(), to);
            to.push(b'}');
        }
        to.push(b']');
        for (member, value) in [("remembered", basis.is_remembered), ("limited", basis.is_limited)] {
            if value {
                write_name(member, to);
                to.extend_from_slice(b"true");
            }
        }
        let numbers = [
            ("section", basis.section.into()),
            ("cmp_id", basis.cmp_id.into()),
            ("vendor_list_version", basis.vendor_list_version.into()),
            ("policy_version", basis.policy_version.into()),
        ];
        for (member, number) in numbers.into_iter().filter(|(_, number)| *number > 0_i64) {
            write_name(member, to);
            write_int(number, to);
        }
        if basis.last_updated > 0 {
            write_name("last_updated", to);
            self.write_long(i64::from(basis.last_updated) * 1_000_000, to);
        }
        to.push(b'}');
    }

    fn write_input(&self, cause: Cause, to: &mut Vec<u8>) {
        let Some(position) = cause.position() else {
            to.extend_from_slice(b"null");
            return;
        };
        to.extend_from_slice(b"{\"topic\":");
        to.extend_from_slice(&self.topic);
        to.extend_from_slice(b",\"partition\":");
        write_int(position.partition.into(), to);
        to.extend_from_slice(b",\"offset\":");
        self.write_long(position.offset, to);
        to.push(b'}');
    }

    fn write_times(&self, membership: &Membership, to: &mut Vec<u8>) {
        to.extend_from_slice(b",\"entered_at\":");
        self.write_long(membership.entered_at.0, to);
        to.extend_from_slice(b",\"expires_at\":");
        self.write_long(membership.expires_at.0, to);
    }

    fn write_long(&self, value: i64, to: &mut Vec<u8>) {
        if self.text_integers {
            to.push(b'"');
            write_int(value, to);
            to.push(b'"');
        } else {
            write_int(value, to);
        }
    }
}

/// Appends a number, or `null` if it is not finite.
pub(super) fn write_float(value: f32, to: &mut Vec<u8>) {
    if value.is_finite() {
        to.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    } else {
        to.extend_from_slice(b"null");
    }
}

/// Appends what each group of features adds to the raw score. Few decisions have this.
fn write_explanation(decision: &Decision<'_>, to: &mut Vec<u8>) {
    let Some((explainer, explanation)) = decision.explanation else {
        to.extend_from_slice(b"null");
        return;
    };
    to.extend_from_slice(b"{\"base\":");
    write_float(explanation.base as f32, to);
    let method = if explainer.is_exact() { "exact" } else { "sampled" };
    to.extend_from_slice(format!(",\"method\":\"{method}\",\"contributions\":[").as_bytes());
    for (index, (group, part)) in explainer.groups().iter().zip(&explanation.parts).enumerate() {
        to.extend_from_slice(if index == 0 { b"{\"feature\":" } else { b",{\"feature\":" });
        write_text(&group.name, to);
        to.extend_from_slice(b",\"contribution\":");
        write_float(*part as f32, to);
        to.push(b'}');
    }
    to.extend_from_slice(b"]}");
}

/// A string in JSON syntax.
pub(super) fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Appends a string in JSON syntax. Hardly any needs escaping, so the common case copies the bytes.
pub(super) fn write_text(value: &str, to: &mut Vec<u8>) {
    if value.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
        to.push(b'"');
        to.extend_from_slice(value.as_bytes());
        to.push(b'"');
    } else {
        to.extend_from_slice(text(value).as_bytes());
    }
}
