//! Adds a user's segments to an OpenRTB 2.6 bid request.
//!
//! Guarantees:
//! - Every byte of the request that is not ours stays as it is. The segments are put into the text as one or more Data
//!   objects at the end of `user.data`; nothing else is written anew.
//! - Neither `yob` nor `gender` is written, and ids are strings.
//! - A request whose consent signals do not permit it is given back unchanged, and no user is looked for.
//!
//! Left out on purpose: a Data object of the same provider that is there already stays; who enriches twice has it twice.

use super::{
    identity::Identities,
    json::{Malformed, Part},
    signals::{RequestSignals, Sources},
    spec::{IdentitySpec, ServeProviderSpec},
    store::{Lookup, Store},
};
use crate::{
    decision::projection::{WireSegment, openrtb::Provider},
    privacy::consent::{Activity, ConsentGate, Reason, RememberedConsent, Rules},
};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrichment {
    /// It has the user's segments.
    Enriched,
    /// It names no user in a way that is declared.
    NoId,
    /// Nothing is known of the users that it names.
    Unknown,
    /// The decision about the user must not be used any more.
    Expired,
    /// The user is in no segment.
    NoSegments,
    /// Its signals do not permit it, for this reason.
    Refused(&'static str),
}

impl Enrichment {
    /// The name, also as a label of a metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enriched => "enriched",
            Self::NoId => "no_id",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::NoSegments => "no_segments",
            Self::Refused(_) => "refused",
        }
    }
}

/// Enriches bid requests. Each thread has its own.
#[derive(Clone, Debug)]
pub struct Enricher {
    provider: Provider,
    identities: Identities,
    /// `None` if consent is not checked.
    gate: Option<ConsentGate>,
}

impl Enricher {
    /// An enricher in the name of a provider. `joined`: whether ids of persons, devices and apps are one space.
    pub fn new(
        provider: &ServeProviderSpec,
        identities: Vec<IdentitySpec>,
        joined: bool,
        rules: Option<Rules>,
    ) -> Self {
        Self {
            provider: Provider::new(&provider.id, &provider.name),
            identities: Identities::new(identities, joined),
            gate: rules.map(ConsentGate::new),
        }
    }

    /// Appends the request to `to`, with the segments that its user is in at this moment, in microseconds since 1970.
    ///
    /// # Errors
    /// If the request is no JSON, or not what OpenRTB says of the parts that are read.
    pub fn enrich(
        &mut self,
        store: &Store,
        request: &str,
        now: i64,
        to: &mut Vec<u8>,
    ) -> Result<Enrichment, Malformed> {
        let root = Part::of(request)?;
        if !root.is_object() {
            return Err(root.fault("expected an object"));
        }
        let [user, regs, device] = root.pick(["user", "regs", "device"])?;
        let keys = self.identities.keys(user, device)?;
        let signals = RequestSignals::of(Sources { regs, user, device })?;
        let place = Target::of(root, user)?;
        let refusal = match (&mut self.gate, signals) {
            (None, _) => None,
            (Some(_), Err(fault)) => Some(fault.name()),
            (Some(gate), Ok(signals)) => {
                let verdict = gate.decide(&signals.signals(), &RememberedConsent::default(), now);
                let reason = verdict.basis.reason(Activity::Emit);
                (reason != Reason::Granted).then(|| reason.name())
            }
        };
        let unchanged = match refusal {
            Some(reason) => Enrichment::Refused(reason),
            None => match segments(store, &keys, now) {
                Ok(segments) => {
                    self.write(request, place, &segments, to);
                    return Ok(Enrichment::Enriched);
                }
                Err(why) => why,
            },
        };
        to.extend_from_slice(request.as_bytes());
        Ok(unchanged)
    }

    fn write(&self, request: &str, target: Target, segments: &[WireSegment], to: &mut Vec<u8>) {
        to.extend_from_slice(&request.as_bytes()[..target.start]);
        to.extend_from_slice(target.before.as_bytes());
        let from = to.len();
        self.provider.write_data(segments.iter(), to);
        if target.is_in_list {
            // The list is there: only its items are new.
            to.pop();
            to.remove(from);
        }
        to.extend_from_slice(target.behind.as_bytes());
        to.extend_from_slice(&request.as_bytes()[target.end..]);
    }
}

/// The segments of the first user of whom something is known.
fn segments(store: &Store, keys: &[String], now: i64) -> Result<Vec<WireSegment>, Enrichment> {
    let mut why = if keys.is_empty() { Enrichment::NoId } else { Enrichment::Unknown };
    for key in keys {
        match store.look_up(key, now, |decision| decision.segments(now)) {
            Lookup::Found(segments) if segments.is_empty() => return Err(Enrichment::NoSegments),
            Lookup::Found(segments) => {
                return Ok(segments.iter().map(|it| WireSegment::new(&it.id, &it.name, it.segtax)).collect());
            }
            Lookup::Expired => why = Enrichment::Expired,
            Lookup::Unknown => {}
        }
    }
    Err(why)
}

/// Where the new Data objects belong, and what stands around them there.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// The bytes of the request that they replace, which are none or a null.
    start: usize,
    end: usize,
    before: &'static str,
    behind: &'static str,
    is_in_list: bool,
}

impl Target {
    fn of(root: Part<'_>, user: Option<Part<'_>>) -> Result<Self, Malformed> {
        let Some(user) = user else {
            let null = root.null_member("user");
            return Ok(Self::member(root, null, "\"user\":{\"data\":", ",\"user\":{\"data\":", "{\"data\":", "}"));
        };
        let [data] = user.pick(["data"])?;
        let Some(data) = data else {
            let null = user.null_member("data");
            return Ok(Self::member(user, null, "\"data\":", ",\"data\":", "", ""));
        };
        if !data.is_list() {
            return Err(data.fault("expected a list"));
        }
        let before = if data.is_empty() { "" } else { "," };
        Ok(Self { start: data.end - 1, end: data.end - 1, before, behind: "", is_in_list: true })
    }

    /// A new last member of an object, or the value of one that is null.
    fn member(
        object: Part<'_>,
        null: Option<Part<'_>>,
        first: &'static str,
        further: &'static str,
        value: &'static str,
        behind: &'static str,
    ) -> Self {
        let (start, end, before) = match null {
            Some(null) => (null.start, null.end, value),
            None => (object.end - 1, object.end - 1, if object.is_empty() { first } else { further }),
        };
        Self { start, end, before, behind, is_in_list: false }
    }
}
