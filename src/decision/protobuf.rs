//! The Protobuf encoding, `aimpoint.v1.Decision`.
//!
//! Written field by field from borrowed values, because prost's message type would have to own every string of every
//! decision. The field numbers are those of `decision.proto`; a test decodes the bytes with prost.

use super::{Constants, Decision, DecisionSpec, Status, Targets, write_id_of};
use crate::{
    event::EventTime,
    inference::Group,
    privacy::consent::Verdict,
    profile::Membership,
    proto::v1,
    targeting::{LeaveReason, Segment, campaign::Bid, creative::Creative},
};
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, encoded_len_varint},
};

/// What is the same for every decision, encoded once.
#[derive(Clone, Debug)]
pub(super) struct Template {
    id_prefix: String,
    topic: String,
    /// The constant fields: schema version, model, fingerprint and experiment.
    constant: Vec<u8>,
    /// By segment: its encoded id, name and taxonomy, which `Segment` and `Left` share.
    segments: Vec<Vec<u8>>,
    scores: bool,
    /// The encoded name of each additional score, including key and length.
    heads: Vec<Vec<u8>>,
    campaigns: Vec<Campaign>,
    /// By creative: its encoded id.
    creatives: Vec<Vec<u8>>,
    /// By feature: its encoded name, as in an entry of a map.
    features: Vec<Vec<u8>>,
    /// Whether all refused campaigns are listed.
    reasons: bool,
}

/// What is the same for a campaign in every decision.
#[derive(Clone, Debug)]
struct Campaign {
    id: String,
    /// The encoded id, currency and deals.
    constant: Vec<u8>,
    /// By arm: its encoded name.
    arms: Vec<Vec<u8>>,
    /// By audience of its creatives: its encoded id.
    audiences: Vec<Vec<u8>>,
    /// Whether it has a budget.
    is_budgeted: bool,
}

/// Appends what the user consents to, a `DecisionConsent`. Absent fields are left out, as in proto3.
fn write_consent(Verdict { permissions, basis }: &Verdict, to: &mut Vec<u8>) {
    let refused = permissions.complement();
    nested(22, to, |to| {
        for activity in permissions.iter() {
            bytes(1, activity.name().as_bytes(), to);
        }
        bytes(2, basis.framework.name().as_bytes(), to);
        bytes(3, basis.legal_basis.name().as_bytes(), to);
        for activity in refused.iter() {
            let [activity, reason] = [activity.name(), basis.reason(activity).name()].map(str::as_bytes);
            encode_key(4, WireType::LengthDelimited, to);
            encode_varint((bytes_len(activity) + bytes_len(reason)) as u64, to);
            bytes(1, activity, to);
            bytes(2, reason, to);
        }
        let numbers = [
            (5, basis.is_remembered.into()),
            (6, basis.is_limited.into()),
            (7, basis.section.into()),
            (8, i64::from(basis.last_updated) * 1_000_000),
            (9, basis.cmp_id.into()),
            (10, basis.vendor_list_version.into()),
            (11, basis.policy_version.into()),
        ];
        for (field, number) in numbers.into_iter().filter(|(_, number)| *number != 0_i64) {
            long(field, number, to);
        }
    });
}

impl Template {
    pub(super) fn new(spec: &DecisionSpec, constants: &Constants, targets: Targets<'_>) -> Self {
        let constant = v1::Decision {
            schema_version: super::SCHEMA_VERSION,
            model: constants.model.as_ref().map(|model| v1::Model {
                name: model.name.clone(),
                version: model.version.clone(),
                sha256: model.sha256.clone(),
                runtime: model.runtime.clone(),
                provider: model.provider.clone(),
            }),
            feature_set_version: constants.fingerprint.clone(),
            experiment: constants
                .experiment
                .as_ref()
                .map(|it| v1::Experiment { name: it.name.clone(), variant: it.variant.clone() }),
            ..v1::Decision::default()
        };
        let alone = |segment: &Segment| {
            let (id, name) = (segment.id.clone(), segment.name.clone());
            v1::Segment { id, name, segtax: segment.segtax, ..v1::Segment::default() }.encode_to_vec()
        };
        let shown = v1::ShownCreative::default;
        let campaign = |of: &crate::targeting::campaign::Campaign| {
            let offer = || v1::CampaignOffer::default();
            let arm = |arm: &String| v1::CampaignOffer { arm: arm.clone(), ..offer() }.encode_to_vec();
            let constant = v1::CampaignOffer {
                id: of.id.clone(),
                currency: of.currency.to_string(),
                deals: of.deals.clone(),
                ..offer()
            };
            let audience = |id: &String| v1::ShownCreative { audience: id.clone(), ..shown() }.encode_to_vec();
            Campaign {
                id: of.id.clone(),
                constant: constant.encode_to_vec(),
                arms: of.arms().iter().map(arm).collect(),
                audiences: of.rotation.audiences.iter().map(audience).collect(),
                is_budgeted: of.budget.is_some(),
            }
        };
        let creative = |of: &Creative| v1::ShownCreative { id: of.spec.id.clone(), ..shown() }.encode_to_vec();
        Self {
            id_prefix: constants.id_prefix(),
            topic: constants.topic.clone(),
            constant: constant.encode_to_vec(),
            segments: targets.segments.iter().map(alone).collect(),
            scores: constants.model.is_some(),
            heads: constants
                .heads
                .iter()
                .map(|name| v1::Head { name: name.clone(), ..v1::Head::default() }.encode_to_vec())
                .collect(),
            campaigns: targets.campaigns.all().iter().map(campaign).collect(),
            creatives: targets.campaigns.creatives().iter().map(creative).collect(),
            features: constants.features.iter().map(|name| feature_key(name)).collect(),
            reasons: spec.reasons,
        }
    }

    pub(super) fn write(&self, decision: &Decision<'_>, expires_at: EventTime, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.constant);
        // Names of applications and topics have at most 249 bytes each, so the id is short enough.
        nested(2, to, |to| write_id_of(&self.id_prefix, decision.cause, to));
        bytes(3, decision.user.as_bytes(), to);
        long(17, decision.key_type.number().into(), to);
        bytes(4, decision.event_id.as_bytes(), to);
        long(5, decision.occurred_at.0, to);
        long(6, decision.decided_at.0, to);
        long(7, expires_at.0, to);
        let status = match decision.status {
            Status::Targeted => v1::Status::Targeted,
            Status::NoTarget => v1::Status::NoTarget,
            Status::Fallback => v1::Status::Fallback,
            Status::Suppressed => v1::Status::Suppressed,
        };
        long(8, status as i64, to);
        for segment in decision.segments {
            let of = &self.segments[segment.number];
            match &segment.stay {
                None => bytes(9, of, to),
                Some((membership, is_new)) => self::segment(9, of, membership, (6, i64::from(*is_new)), to),
            }
        }
        for left in decision.left {
            let reason = match left.reason {
                LeaveReason::Expired => v1::LeaveReason::Expired,
                LeaveReason::ExitRule => v1::LeaveReason::ExitRule,
                LeaveReason::Excluded => v1::LeaveReason::Excluded,
            };
            segment(18, &self.segments[left.number], &left.was, (6, reason as i64), to);
        }
        for bid in decision.campaigns {
            self.write_offer(bid, decision.features, to);
        }
        for refused in decision.suppressed {
            let Campaign { id, is_budgeted, .. } = &self.campaigns[refused.campaign as usize];
            if !refused.reason.is_listed(self.reasons, *is_budgeted) {
                continue;
            }
            let reason = refused.reason.as_str();
            encode_key(20, WireType::LengthDelimited, to);
            encode_varint((bytes_len(id.as_bytes()) + bytes_len(reason.as_bytes())) as u64, to);
            bytes(1, id.as_bytes(), to);
            bytes(2, reason.as_bytes(), to);
        }
        if decision.policy_version > 0 {
            encode_key(21, WireType::Varint, to);
            encode_varint(decision.policy_version, to);
        }
        if let Some(verdict) = &decision.consent {
            write_consent(verdict, to);
        }
        for (name, value) in self.features.iter().zip(decision.logged).filter(|(_, value)| value.is_finite()) {
            encode_key(23, WireType::LengthDelimited, to);
            encode_varint((name.len() + FLOAT_BYTES) as u64, to);
            to.extend_from_slice(name);
            float(2, *value, to);
        }
        if let Some(position) = decision.cause.position() {
            let partition = position.partition as u64;
            let offset = position.offset as u64;
            let inner = 1
                + encoded_len_varint(self.topic.len() as u64)
                + self.topic.len()
                + 1
                + encoded_len_varint(partition)
                + 1
                + encoded_len_varint(offset);
            encode_key(10, WireType::LengthDelimited, to);
            encode_varint(inner as u64, to);
            bytes(1, self.topic.as_bytes(), to);
            encode_key(2, WireType::Varint, to);
            encode_varint(partition, to);
            encode_key(3, WireType::Varint, to);
            encode_varint(offset, to);
        }
        if let Some(reason) = decision.status_reason() {
            bytes(14, reason.as_bytes(), to);
        }
        if self.scores {
            self.write_scores(decision, to);
        }
        if let Some((explainer, explanation)) = decision.explanation {
            let contribution = |(group, part): (&Group, &f64)| v1::Contribution {
                feature: group.name.clone(),
                contribution: *part as f32,
            };
            let explanation = v1::Explanation {
                base: explanation.base as f32,
                method: if explainer.is_exact() { "exact" } else { "sampled" }.to_owned(),
                contributions: explainer.groups().iter().zip(&explanation.parts).map(contribution).collect(),
            };
            message(15, &explanation, to);
        }
    }

    /// Appends a `CampaignOffer`. Absent fields are left out, as in proto3.
    fn write_offer(&self, bid: &Bid, features: &[f64], to: &mut Vec<u8>) {
        let campaign = &self.campaigns[bid.campaign as usize];
        let arm = bid.arm.map(|arm| campaign.arms[usize::from(arm)].as_slice()).unwrap_or_default();
        let longs = [(3, bid.value.0), (5, bid.bid.0), (6, bid.shaded.map_or(0, |it| it.0)), (7, bid.floor.0)];
        let longs = longs.into_iter().filter(|(_, value)| *value != 0);
        let longs_len: usize = longs.clone().map(|(_, value)| 1 + encoded_len_varint(value as u64)).sum();
        let creative = bid.creative.map(|shown| {
            let id = self.creatives[shown.creative].as_slice();
            let audience = shown.audience.map(|it| campaign.audiences[usize::from(it)].as_slice()).unwrap_or_default();
            (id, shown.propensity, shown.method.as_str().as_bytes(), audience, shown.features(features))
        });
        let creative_len = creative.map_or(0, |(id, _, method, audience, features)| {
            let features = 8 * features.len();
            let features = if features == 0 { 0 } else { 1 + encoded_len_varint(features as u64) + features };
            id.len() + DOUBLE_BYTES + bytes_len(method) + audience.len() + features
        });
        let inner = campaign.constant.len()
            + arm.len()
            + longs_len
            + DOUBLE_BYTES
            + bid.pass_through.map_or(0, |_| DOUBLE_BYTES)
            + creative.map_or(0, |_| 1 + encoded_len_varint(creative_len as u64) + creative_len);
        encode_key(19, WireType::LengthDelimited, to);
        encode_varint(inner as u64, to);
        to.extend_from_slice(&campaign.constant);
        to.extend_from_slice(arm);
        for (field, value) in longs {
            long(field, value, to);
        }
        double(4, bid.probability, to);
        if let Some(share) = bid.pass_through {
            double(9, share.share(), to);
        }
        if let Some((id, propensity, method, audience, features)) = creative {
            encode_key(10, WireType::LengthDelimited, to);
            encode_varint(creative_len as u64, to);
            to.extend_from_slice(id);
            double(2, propensity, to);
            bytes(3, method, to);
            to.extend_from_slice(audience);
            if !features.is_empty() {
                encode_key(5, WireType::LengthDelimited, to);
                encode_varint(8 * features.len() as u64, to);
                to.extend(features.iter().flat_map(|it| it.to_le_bytes()));
            }
        }
    }

    /// NaN and ±inf are written as missing scores, as in JSON.
    fn write_scores(&self, decision: &Decision<'_>, to: &mut Vec<u8>) {
        encode_key(11, WireType::LengthDelimited, to);
        let scores = [(1, decision.raw), (2, decision.score)];
        let scores = scores.iter().filter(|(_, score)| score.is_finite());
        let heads = self.heads.iter().zip(decision.heads);
        // A head is its encoded name and, if it has a score, a key and four bytes.
        let head_bytes = |name: &[u8], score: f32| name.len() + if score.is_finite() { 5 } else { 0 };
        let heads_bytes: usize = heads
            .clone()
            .map(|(name, score)| {
                let inner = head_bytes(name, *score);
                1 + encoded_len_varint(inner as u64) + inner
            })
            .sum();
        encode_varint((5 * scores.clone().count() + heads_bytes) as u64, to);
        for (field, score) in scores {
            float(*field, *score, to);
        }
        for (name, score) in heads {
            encode_key(3, WireType::LengthDelimited, to);
            encode_varint(head_bytes(name, *score) as u64, to);
            to.extend_from_slice(name);
            if score.is_finite() {
                float(2, *score, to);
            }
        }
    }
}

/// Appends a `Segment` or a `Left`: the encoded id, name and taxonomy, the times of a membership, and one more field
/// unless it is 0. The fields of both messages have the same numbers.
fn segment(field: u32, of: &[u8], membership: &Membership, (last, number): (u32, i64), to: &mut Vec<u8>) {
    let [entered_at, expires_at] = [membership.entered_at.0, membership.expires_at.0];
    let fields = [(4, entered_at), (5, expires_at), (last, number)];
    let fields = fields.into_iter().filter(|(_, value)| *value != 0);
    let inner = of.len() + fields.clone().map(|(_, value)| 1 + encoded_len_varint(value as u64)).sum::<usize>();
    encode_key(field, WireType::LengthDelimited, to);
    encode_varint(inner as u64, to);
    to.extend_from_slice(of);
    for (field, value) in fields {
        long(field, value, to);
    }
}

fn float(field: u32, value: f32, to: &mut Vec<u8>) {
    encode_key(field, WireType::ThirtyTwoBit, to);
    to.extend_from_slice(&value.to_le_bytes());
}

/// The key of an entry of a map.
fn feature_key(name: &str) -> Vec<u8> {
    let mut key = Vec::new();
    bytes(1, name.as_bytes(), &mut key);
    key
}

/// The bytes of a `float` with its key.
const FLOAT_BYTES: usize = 5;

/// The bytes of a `double` with its key.
const DOUBLE_BYTES: usize = 9;

fn double(field: u32, value: f64, to: &mut Vec<u8>) {
    encode_key(field, WireType::SixtyFourBit, to);
    to.extend_from_slice(&value.to_le_bytes());
}

/// The bytes of a short text with its key.
fn bytes_len(value: &[u8]) -> usize {
    1 + encoded_len_varint(value.len() as u64) + value.len()
}

fn message(field: u32, message: &impl Message, to: &mut Vec<u8>) {
    encode_key(field, WireType::LengthDelimited, to);
    to.extend_from_slice(&message.encode_length_delimited_to_vec());
}

/// Appends a field of at most 16,383 bytes whose length is known once it is written. The length is a varint of two bytes, which
/// may be padded.
fn nested(field: u32, to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(field, WireType::LengthDelimited, to);
    let length_at = to.len();
    to.extend_from_slice(&[0x80, 0]);
    write(to);
    let length = to.len() - length_at - 2;
    debug_assert!(length < 1 << 14, "{length} bytes");
    to[length_at] |= (length & 0x7f) as u8;
    to[length_at + 1] = (length >> 7) as u8;
}

fn bytes(field: u32, value: &[u8], to: &mut Vec<u8>) {
    if !value.is_empty() {
        encode_key(field, WireType::LengthDelimited, to);
        encode_varint(value.len() as u64, to);
        to.extend_from_slice(value);
    }
}

fn long(field: u32, value: i64, to: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, to);
    encode_varint(value as u64, to);
}
