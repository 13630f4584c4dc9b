//! The members of a decision: all of them, or those of a flat object.

use super::{
    super::{Constants, DecisionSpec, Targets},
    Member, Piece, Template,
    offers::Offers,
    text,
};
use crate::{config_error::ConfigError, inference::ExperimentReference, targeting::Segment};

/// The members that `decision.fields` can select and that differ between decisions.
const CHOICES: [(&str, Member); 25] = [
    ("decision_id", Member::DecisionId),
    ("user_key", Member::UserKey),
    ("key_type", Member::KeyType),
    ("trigger_event_id", Member::TriggerEventId),
    ("input.partition", Member::Partition),
    ("input.offset", Member::Offset),
    ("occurred_at", Member::OccurredAt),
    ("occurred_at_ms", Member::OccurredAtMillis),
    ("decided_at", Member::DecidedAt),
    ("expires_at", Member::ExpiresAt),
    ("status", Member::Status),
    ("status_reason", Member::Reason),
    ("score.raw", Member::Raw),
    ("score.calibrated", Member::Score),
    ("explanation", Member::Explanation),
    ("segments", Member::Segments),
    ("segments[0].id", Member::FirstSegmentId),
    ("left", Member::Left),
    ("campaigns", Member::Campaigns),
    ("campaigns[0].id", Member::FirstCampaignId),
    ("campaigns[0].bid_micros", Member::FirstBid),
    ("campaigns[0].creative.id", Member::FirstCreativeId),
    ("suppressed", Member::Suppressed),
    ("policy_version", Member::PolicyVersion),
    ("consent", Member::Consent),
];

impl Template {
    /// The canonical proto3 JSON form.
    pub(in super::super) fn canonical(spec: &DecisionSpec, constants: &Constants, targets: Targets<'_>) -> Self {
        let mut builder = Builder::default();
        builder.literal(&format!("{{\"schema_version\":{},\"decision_id\":", super::super::SCHEMA_VERSION));
        builder.member(Member::DecisionId);
        for (name, member) in [
            ("user_key", Member::UserKey),
            ("key_type", Member::KeyType),
            ("trigger_event_id", Member::TriggerEventId),
            ("occurred_at", Member::OccurredAt),
            ("decided_at", Member::DecidedAt),
            ("expires_at", Member::ExpiresAt),
            ("status", Member::Status),
            ("status_reason", Member::Reason),
            ("segments", Member::Segments),
        ] {
            builder.literal(&format!(",\"{name}\":"));
            builder.member(member);
        }
        // Without lasting segments, users leave none.
        if targets.segments.iter().any(Segment::is_lasting) {
            builder.literal(",\"left\":");
            builder.member(Member::Left);
        }
        if !targets.campaigns.all().is_empty() {
            builder.literal(",\"campaigns\":");
            builder.member(Member::Campaigns);
            if spec.reasons {
                builder.literal(",\"suppressed\":");
                builder.member(Member::Suppressed);
            } else if targets.campaigns.all().iter().any(|campaign| campaign.budget.is_some()) {
                builder.literal(",\"suppressed\":");
                builder.member(Member::SuppressedForControl);
            }
            builder.literal(",\"policy_version\":");
            builder.member(Member::PolicyVersion);
        }
        if constants.has_consent {
            builder.literal(",\"consent\":");
            builder.member(Member::Consent);
        }
        builder.literal(",\"input\":");
        builder.member(Member::Input);
        if spec.features_share > 0.0 {
            builder.member(Member::Logged);
        }
        if let Some(model) = &constants.model {
            builder.literal(",\"score\":{\"raw\":");
            builder.member(Member::Raw);
            builder.literal(",\"calibrated\":");
            builder.member(Member::Score);
            for (head, name) in constants.heads.iter().enumerate() {
                builder.literal(if head == 0 { ",\"heads\":[" } else { "," });
                builder.literal(&format!("{{\"name\":{},\"score\":", text(name)));
                builder.member(Member::Head(head));
                builder.literal("}");
            }
            builder.literal(if constants.heads.is_empty() { "}" } else { "]}" });
            builder.literal(",\"explanation\":");
            builder.member(Member::Explanation);
            builder.literal(&format!(
                ",\"model\":{{\"name\":{},\"version\":{},\"sha256\":{},\"runtime\":{},\"provider\":{}}}",
                text(&model.name),
                text(&model.version),
                text(&model.sha256),
                text(&model.runtime),
                text(&model.provider)
            ));
        }
        if let Some(ExperimentReference { name, variant }) = &constants.experiment {
            builder.literal(&format!(",\"experiment\":{{\"name\":{},\"variant\":{}}}", text(name), text(variant)));
        }
        builder.literal(&format!(",\"feature_set_version\":{}}}", text(&constants.fingerprint)));
        builder.finish(constants, targets, true)
    }

    /// A flat object with the members that `decision.fields` selects.
    pub(in super::super) fn flat(
        spec: &DecisionSpec,
        constants: &Constants,
        targets: Targets<'_>,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        if spec.fields.is_empty() {
            errors.push(
                ConfigError::new("decision.fields", "a flat decision needs its members")
                    .hint("for instance decision.fields = { id = \"decision_id\", score = \"score.raw\" }"),
            );
        }
        let model = constants.model.clone().unwrap_or_default();
        let experiment = constants.experiment.clone().unwrap_or_default();
        let constant = |path: &str| match path {
            "input.topic" => Some(&constants.topic),
            "feature_set_version" => Some(&constants.fingerprint),
            "model.name" => Some(&model.name),
            "model.version" => Some(&model.version),
            "model.sha256" => Some(&model.sha256),
            "model.runtime" => Some(&model.runtime),
            "model.provider" => Some(&model.provider),
            "experiment.name" => Some(&experiment.name),
            "experiment.variant" => Some(&experiment.variant),
            _ => None,
        };
        let head = |path: &str| {
            let name = path.strip_prefix("score.")?;
            constants.heads.iter().position(|head| head == name)
        };
        let mut builder = Builder::default();
        for (index, (name, path)) in spec.fields.iter().enumerate() {
            builder.literal(if index == 0 { "{" } else { "," });
            builder.literal(&format!("{}:", text(name)));
            if let Some(value) = constant(path) {
                builder.literal(&text(value));
            } else if let Some(head) = head(path) {
                builder.member(Member::Head(head));
            } else if let Some((_, member)) = CHOICES.iter().find(|(choice, _)| choice == path) {
                builder.member(*member);
            } else {
                let known: Vec<&str> = CHOICES.iter().map(|(choice, _)| *choice).collect();
                errors.push(ConfigError::new(format!("decision.fields.{name}"), format!("a decision has no {path:?}")).hint(
                    format!(
                        "choose one of {}, input.topic, feature_set_version, model.name, model.version, model.sha256, \
                         model.runtime, model.provider, experiment.name, experiment.variant",
                        known.join(", ")
                    ),
                ));
            }
        }
        builder.literal("}");
        builder.finish(constants, targets, false)
    }
}

#[derive(Default)]
struct Builder {
    pieces: Vec<Piece>,
}

impl Builder {
    fn literal(&mut self, more: &str) {
        if let Some(Piece::Literal(bytes)) = self.pieces.last_mut() {
            bytes.extend_from_slice(more.as_bytes());
        } else {
            self.pieces.push(Piece::Literal(more.as_bytes().to_vec()));
        }
    }

    fn member(&mut self, member: Member) {
        self.pieces.push(Piece::Member(member));
    }

    fn finish(self, constants: &Constants, targets: Targets<'_>, text_integers: bool) -> Template {
        let object = |segment: &Segment| {
            let (id, name) = (text(&segment.id), text(&segment.name));
            let taxonomy = match segment.segtax {
                0 => String::new(),
                number => format!(",\"segtax\":{number}"),
            };
            let object = format!("{{\"id\":{id},\"name\":{name}{taxonomy}");
            (object.into_bytes(), id.into_bytes())
        };
        Template {
            id_prefix: constants.id_prefix(),
            pieces: self.pieces,
            segments: targets.segments.iter().map(object).collect(),
            offers: Offers::new(targets.campaigns),
            features: constants.features.iter().map(|name| format!("{}:", text(name)).into_bytes()).collect(),
            topic: text(&constants.topic).into_bytes(),
            text_integers,
        }
    }
}
