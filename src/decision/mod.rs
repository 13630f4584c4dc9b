//! The decision and its encodings.
//!
//! Owns the decision's deterministic id and its encodings: Protobuf, its proto3 JSON form, a flat JSON object of selected
//! members, and the forms that bidders read: see [`projection`]. Which decisions are written is in [`emission`]. What is the same for every decision (model, fingerprint, topic) is encoded once. Writing one
//! decision only appends bytes and allocates nothing. How the decision came about is not known here.

pub mod emission;
mod json;
pub mod projection;
mod protobuf;
mod spec;

pub use spec::{DecisionFormat, DecisionSpec, ProviderSpec};

use crate::{
    config_error::ConfigError,
    event::{EventTime, KeyType, Position},
    inference::{ExperimentReference, Explainer, Explanation, FallbackReason},
    privacy::consent::{Activity, Verdict},
    targeting::{
        InSegment, LeftSegment, Segment,
        campaign::{Bid, Campaigns, Refusal},
    },
};

/// The version of the decision schema.
const SCHEMA_VERSION: u32 = 1;

/// The outcome of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// The user is in at least one segment, or a campaign bids.
    Targeted,
    /// Neither.
    NoTarget,
    /// The model gave no usable score.
    Fallback,
    /// The user does not consent.
    Suppressed,
}

impl Status {
    /// The status of a user who is in these segments and whom these campaigns may be shown to.
    pub fn of(segments: &[InSegment], campaigns: &[Bid]) -> Self {
        if segments.is_empty() && campaigns.is_empty() { Self::NoTarget } else { Self::Targeted }
    }

    /// The name in `aimpoint.v1`, which is also the JSON form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Targeted => "STATUS_TARGETED",
            Self::NoTarget => "STATUS_NO_TARGET",
            Self::Fallback => "STATUS_FALLBACK",
            Self::Suppressed => "STATUS_SUPPRESSED",
        }
    }
}

/// What causes a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An event at this position.
    Event(Position),
    /// Memberships of a user that end at this moment, without an event.
    Expiry {
        /// The hash of the user's key.
        user_hash: u64,
        /// When they end.
        deadline: EventTime,
    },
}

impl Cause {
    /// The event's position in the input.
    fn position(self) -> Option<Position> {
        match self {
            Self::Event(position) => Some(position),
            Self::Expiry { .. } => None,
        }
    }
}

/// The status reason of a decision about an expired membership.
const MEMBERSHIP_EXPIRED: &str = "membership_expired";

/// One decision, borrowed from the batch.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// The user's id as in the event.
    pub user: &'a str,
    /// The type of the id; ids of different types are different users.
    pub key_type: KeyType,
    /// The id of the event that triggered the decision; empty if it had none.
    pub event_id: &'a str,
    /// What caused the decision.
    pub cause: Cause,
    /// When the event happened, or the memberships ended.
    pub occurred_at: EventTime,
    /// When the decision was made, by this machine's clock.
    pub decided_at: EventTime,
    /// The outcome of the event.
    pub status: Status,
    /// Why the model gave no usable score, if so.
    pub reason: Option<FallbackReason>,
    /// The model's output; NaN if it is unusable.
    pub raw: f32,
    /// The score used in rules: the calibrated output, or the fallback if the model gave none; NaN if there is neither.
    pub score: f32,
    /// The additional scores, in the order of [`Constants::heads`]; NaN if missing.
    pub heads: &'a [f32],
    /// What each group of features adds to the score, if requested.
    pub explanation: Option<(&'a Explainer, &'a Explanation)>,
    /// The segments that the user is in.
    pub segments: &'a [InSegment],
    /// The segments that the user has just left.
    pub left: &'a [LeftSegment],
    /// The campaigns that the user may be shown, best first.
    pub campaigns: &'a [Bid],
    /// The campaigns that were considered and refused. Written if the declared format asks for them, or if control
    /// needs to know: see [`crate::targeting::campaign::Reason::is_listed`].
    pub suppressed: &'a [Refusal],
    /// The features that creatives were chosen by: see [`crate::targeting::campaign::ShownCreative::features`].
    pub features: &'a [f64],
    /// The features given to the model, in the order of [`Constants::features`]; NaN if missing. Empty if they are not logged.
    pub logged: &'a [f32],
    /// The version of the policy that the decision was made with; 0 for none.
    pub policy_version: u64,
    /// What the user consents to; `None` if consent is not checked.
    pub consent: Option<Verdict>,
}

/// Why a verdict forbids a personalised decision: `no_consent`, `opted_out` or `child`. An event that may not change the
/// profile has none either.
pub fn suppression(verdict: &Verdict) -> Option<&'static str> {
    [Activity::Emit, Activity::Write].into_iter().find_map(|activity| verdict.basis.reason(activity).suppression())
}

/// The declarations that a decision refers to by number.
#[derive(Clone, Copy, Debug)]
pub struct Targets<'a> {
    /// The segments.
    pub segments: &'a [Segment],
    /// The campaigns with their creatives.
    pub campaigns: &'a Campaigns,
}

impl Decision<'_> {
    /// Removes everything personal but the user's id, because the user does not consent.
    pub fn empty(&mut self) {
        *self = Self {
            status: Status::Suppressed,
            reason: None,
            raw: f32::NAN,
            score: f32::NAN,
            heads: &[],
            explanation: None,
            segments: &[],
            left: &[],
            campaigns: &[],
            suppressed: &[],
            features: &[],
            logged: &[],
            policy_version: 0,
            ..*self
        };
    }

    /// The reason for the status, if there is one.
    fn status_reason(&self) -> Option<&'static str> {
        if self.status == Status::Suppressed {
            return self.consent.as_ref().and_then(suppression);
        }
        match self.cause {
            Cause::Event(_) => self.reason.map(FallbackReason::as_str),
            Cause::Expiry { .. } => Some(MEMBERSHIP_EXPIRED),
        }
    }
}

/// The application and input of decisions. The id of every decision starts with it.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The application's name; if empty, ids start with the topic.
    pub app: &'a str,
    /// The input topic.
    pub topic: &'a str,
}

impl<'a> From<(&'a str, &'a str)> for Origin<'a> {
    /// From an application's name and its input topic.
    fn from((app, topic): (&'a str, &'a str)) -> Self {
        Self { app, topic }
    }
}

impl<'a> From<&'a str> for Origin<'a> {
    /// From an input topic without an application name.
    fn from(topic: &'a str) -> Self {
        Self { app: "", topic }
    }
}

/// The values that all decisions of a process share; with an experiment, those of a variant.
#[derive(Clone, Debug, Default)]
pub struct Constants {
    /// The application's name, or empty.
    pub app: String,
    /// The input topic.
    pub topic: String,
    /// The fingerprint of the features.
    pub fingerprint: String,
    /// The model, if there is one.
    pub model: Option<ModelReference>,
    /// The names of its additional scores.
    pub heads: Vec<String>,
    /// The experiment and the user's variant, if there is one.
    pub experiment: Option<ExperimentReference>,
    /// Whether consent is checked, so that decisions say what it permits.
    pub has_consent: bool,
    /// The names of the features given to the model, in the order of [`Decision::logged`].
    pub features: Vec<String>,
}

/// The model that computed the score.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelReference {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its file, in hex.
    pub sha256: String,
    /// The runtime and its version.
    pub runtime: String,
    /// The execution provider that is actually used.
    pub provider: String,
}

/// Encodes decisions in the declared format.
#[derive(Clone, Debug)]
pub struct Encoder {
    expires_after_micros: i64,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Json(json::Template),
    Protobuf(Box<protobuf::Template>),
    OpenRtb(Box<projection::OpenRtb>),
    Artf(Box<projection::Artf>),
}

impl Encoder {
    /// Compiles the declared format. Errors are added under `decision`.
    pub fn compile(
        spec: &DecisionSpec,
        constants: &Constants,
        targets: Targets<'_>,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let form = match spec.format {
            DecisionFormat::Json => Form::Json(json::Template::canonical(spec, constants, targets)),
            DecisionFormat::Protobuf => Form::Protobuf(Box::new(protobuf::Template::new(spec, constants, targets))),
            DecisionFormat::Flat => Form::Json(json::Template::flat(spec, constants, targets, errors)),
            DecisionFormat::OpenRtb => {
                Form::OpenRtb(Box::new(projection::OpenRtb::new(spec, constants, targets, errors)))
            }
            DecisionFormat::Artf => Form::Artf(Box::new(projection::Artf::new(spec, constants, targets, errors))),
        };
        if !spec.provider.is_empty() && spec.format != DecisionFormat::OpenRtb {
            errors.push(
                ConfigError::new("decision.provider", "only an OpenRTB decision names its provider")
                    .hint("set decision.format = \"openrtb\", or remove decision.provider"),
            );
        }
        if !(0.0..=1.0).contains(&spec.features_share) {
            let message = format!("{} is not between 0 and 1", spec.features_share);
            errors.push(ConfigError::new("decision.features_share", message));
        } else if spec.features_share > 0.0
            && let Some(why) = spec.format.unreadable()
        {
            errors.push(
                ConfigError::new("decision.features_share", why).hint("set decision.format, or features_share = 0"),
            );
        }
        if spec.format == DecisionFormat::Flat && spec.reasons {
            errors.push(
                ConfigError::new("decision.reasons", "a flat decision has only chosen members")
                    .hint("select `suppressed` under [decision.fields]"),
            );
        }
        if spec.format != DecisionFormat::Flat && !spec.fields.is_empty() {
            errors.push(
                ConfigError::new("decision.fields", "only a flat decision has chosen members")
                    .hint("set decision.format = \"flat\", or remove decision.fields"),
            );
        }
        Self { expires_after_micros: spec.expires_after.as_micros() as i64, form }
    }

    /// Appends one decision.
    pub fn encode(&self, decision: &Decision<'_>, to: &mut Vec<u8>) {
        let expires_at = self.expires_at(decision);
        match &self.form {
            Form::Json(template) => template.write(decision, expires_at, to),
            Form::Protobuf(template) => template.write(decision, expires_at, to),
            Form::OpenRtb(template) => template.write(decision, expires_at, to),
            Form::Artf(template) => template.write(decision, to),
        }
    }

    /// The value of the header [`projection::EXPIRES_AT_MS`], if decisions have it.
    pub fn expiry_header<'a>(&self, decision: &Decision<'_>, buffer: &'a mut itoa::Buffer) -> Option<&'a [u8]> {
        let Form::Artf(_) = &self.form else { return None };
        Some(buffer.format(self.expires_at(decision).millis()).as_bytes())
    }

    fn expires_at(&self, decision: &Decision<'_>) -> EventTime {
        EventTime(decision.occurred_at.0.saturating_add(self.expires_after_micros))
    }
}

impl Constants {
    /// The prefix of every decision's id.
    pub(crate) fn id_prefix(&self) -> String {
        if self.app.is_empty() { self.topic.clone() } else { format!("{}:{}", self.app, self.topic) }
    }
}

/// Separates the input from the user's hash in the id of a decision about an expiry.
const EXPIRED: &str = "-expired-";

/// Whether this is a valid name of an application or a topic.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-'))
}

/// The application named in a decision's id. Names of applications and topics contain no colons.
pub(crate) fn app_of_id(id: &str) -> Option<&str> {
    let (app, position) = id.split_once(':')?;
    if let Some((topic, expiry)) = position.rsplit_once(EXPIRED) {
        let is_expiry = expiry.split_once('-').is_some_and(|(hash, deadline)| {
            hash.len() == 16
                && hash.bytes().all(|it| it.is_ascii_hexdigit())
                && !deadline.is_empty()
                && deadline.bytes().all(|it| it.is_ascii_digit())
        });
        if is_expiry && is_name(app) && is_name(topic) {
            return Some(app);
        }
    }
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_digit());
    let numbers = position.rsplit('-').take_while(|part| is_number(part)).count();
    (is_name(app) && is_name(position) && numbers >= 2).then_some(app)
}

/// Appends the decision's id. It contains the application's name, so that applications can share a topic, and the
/// position of the event, so that a retry gives the same id. Without an event, the user's hash and the deadline replace
/// the position.
fn write_id_of(prefix: &str, cause: Cause, to: &mut Vec<u8>) {
    match cause {
        Cause::Event(position) => write_id(prefix, position, to),
        Cause::Expiry { user_hash, deadline } => {
            to.extend_from_slice(prefix.as_bytes());
            to.extend_from_slice(EXPIRED.as_bytes());
            to.extend(user_hash.to_be_bytes().into_iter().flat_map(crate::hex::digits));
            to.push(b'-');
            write_int(deadline.0, to);
        }
    }
}

/// Appends the id of the decision about the event at this position.
pub(crate) fn write_id(prefix: &str, position: Position, to: &mut Vec<u8>) {
    to.extend_from_slice(prefix.as_bytes());
    to.push(b'-');
    write_int(position.partition.into(), to);
    to.push(b'-');
    write_int(position.offset, to);
    if position.index > 0 {
        to.push(b'-');
        write_int(position.index.into(), to);
    }
}

/// Appends an integer in decimal.
fn write_int(value: i64, to: &mut Vec<u8>) {
    to.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

#[cfg(test)]
mod tests;
