//! Adds a user's segments to an OpenRTB 2.6 bid request.
//!
//! Guarantees:
//! - Every byte of the request that is not ours stays as it is. The segments are inserted as one or more Data objects at
//!   the end of `user.data`; nothing else is rewritten.
//! - Existing Data objects of the same provider are replaced, so a request that is enriched twice has them once. If there is
//!   no usable decision about the user any more, or no segment in it, they are removed. The provider is the same if `id` and
//!   `name` are those that are configured.
//! - Neither `yob` nor `gender` is written, and ids are strings.
//! - If the consent signals do not permit it, or another process has the user, the request is returned unchanged, and no user is looked up.

use super::{
    identity::Identities,
    json::{Malformed, Part},
    permission::Permission,
    signals::{RequestSignals, Sources},
    spec::{IdentitySpec, ServeProviderSpec},
    store::{Lookup, Store, StoredDecision},
};
use crate::{
    decision::projection::{WireSegment, openrtb::Provider},
    event::UserKeys,
    privacy::consent::Rules,
};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrichment {
    /// It has the user's segments, or changes were proposed.
    Enriched,
    /// It names no user in a declared way.
    NoId,
    /// Nothing is known of the users that it names.
    Unknown,
    /// The decision about the user has expired.
    Expired,
    /// The user is in no segment, and there is nothing else to propose.
    NoSegments,
    /// There is nothing to change about the deals and bids of the request, and segments were not asked for.
    NoChange,
    /// The host accepts no change of the kinds that could be proposed.
    NotAsked,
    /// The answer would have come after the host's time was over.
    Late,
    /// Its user is in this partition, which another process answers for.
    Elsewhere(i32),
    /// Its consent signals do not permit it, for this reason.
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
            Self::NoChange => "no_change",
            Self::NotAsked => "not_asked",
            Self::Late => "late",
            Self::Elsewhere(_) => "elsewhere",
            Self::Refused(_) => "refused",
        }
    }
}

/// Enriches bid requests. Each thread has its own.
#[derive(Clone, Debug)]
pub struct Enricher {
    provider: Provider,
    spec: ServeProviderSpec,
    identities: Identities,
    permission: Permission,
}

impl Enricher {
    /// An enricher in the name of a provider. `users`: how events named them.
    pub fn new(
        provider: &ServeProviderSpec,
        identities: Vec<IdentitySpec>,
        users: UserKeys,
        rules: Option<Rules>,
    ) -> Self {
        Self {
            provider: Provider::new(&provider.id, &provider.name),
            spec: provider.clone(),
            identities: Identities::new(identities, users),
            permission: Permission::new(rules),
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
        let place = Target::of(root, user, &self.spec)?;
        let refusal = self.permission.refusal(signals, now);
        let unchanged = match refusal {
            Some(reason) => Enrichment::Refused(reason),
            None => match segments(store, &keys, now) {
                Ok(segments) => {
                    self.write(request, place, &segments, to);
                    return Ok(Enrichment::Enriched);
                }
                Err(why) => {
                    if matches!(why, Enrichment::NoSegments | Enrichment::Unknown | Enrichment::Expired) {
                        place.write_without_ours(request, to);
                        return Ok(why);
                    }
                    why
                }
            },
        };
        to.extend_from_slice(request.as_bytes());
        Ok(unchanged)
    }

    fn write(&self, request: &str, target: Target, segments: &[WireSegment], to: &mut Vec<u8>) {
        target.write_start(request, to);
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
    let segments = first_known(store, keys, now, |decision| decision.segments(now))?;
    if segments.is_empty() {
        return Err(Enrichment::NoSegments);
    }
    Ok(segments.iter().map(|it| WireSegment::new(&it.id, &it.name, it.segtax)).collect())
}

/// What is taken of the decision about the first user of whom something is known.
pub(super) fn first_known<T>(
    store: &Store,
    keys: &[String],
    now: i64,
    take: impl Fn(StoredDecision<'_>) -> T,
) -> Result<T, Enrichment> {
    let mut why = if keys.is_empty() { Enrichment::NoId } else { Enrichment::Unknown };
    let mut elsewhere = None;
    for key in keys {
        match store.look_up(key, now, &take) {
            Lookup::Found(taken) => return Ok(taken),
            Lookup::Expired => why = Enrichment::Expired,
            Lookup::Unknown => {}
            // A further id may be known here.
            Lookup::Elsewhere(partition) => drop(elsewhere.get_or_insert(partition)),
        }
    }
    Err(elsewhere.map_or(why, Enrichment::Elsewhere))
}

/// Where the new Data objects belong, and what stands around them there.
#[derive(Clone, Debug)]
struct Target {
    /// The older objects of the same provider, with their commas: the bytes from one to before the other, in order.
    ours: Vec<(usize, usize)>,
    /// The bytes of the request that they replace, which are none or a null.
    start: usize,
    end: usize,
    before: &'static str,
    behind: &'static str,
    is_in_list: bool,
}

impl Target {
    /// Appends the request up to the place, without the older objects.
    fn write_start(&self, request: &str, to: &mut Vec<u8>) {
        let mut copied = 0;
        for (from, end) in &self.ours {
            to.extend_from_slice(&request.as_bytes()[copied..*from]);
            copied = *end;
        }
        to.extend_from_slice(&request.as_bytes()[copied..self.start]);
    }

    /// Appends the request without the older objects.
    fn write_without_ours(&self, request: &str, to: &mut Vec<u8>) {
        self.write_start(request, to);
        to.extend_from_slice(&request.as_bytes()[self.start..]);
    }

    fn of(root: Part<'_>, user: Option<Part<'_>>, provider: &ServeProviderSpec) -> Result<Self, Malformed> {
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
        let mut items = Vec::new();
        for item in data.items() {
            items.push((item, is_of(item, provider)?));
        }
        let before = if items.iter().all(|(_, is_ours)| *is_ours) { "" } else { "," };
        let (start, end) = (data.end - 1, data.end - 1);
        Ok(Self { ours: without(&items), start, end, before, behind: "", is_in_list: true })
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
        Self { ours: Vec::new(), start, end, before, behind, is_in_list: false }
    }
}

/// Whether a Data object is of this provider. What is no object is of none.
fn is_of(data: Part<'_>, provider: &ServeProviderSpec) -> Result<bool, Malformed> {
    if !data.is_object() {
        return Ok(false);
    }
    let members = data.pick(["id", "name"])?;
    let is = |member: Option<Part<'_>>, ours: &str| member.and_then(Part::text).unwrap_or_default() == ours;
    Ok(is(members[0], &provider.id) && is(members[1], &provider.name))
}

/// The bytes to cut so that the marked items are removed from a list: each with the comma behind it, and those at the end
/// with the comma before them.
fn without(items: &[(Part<'_>, bool)]) -> Vec<(usize, usize)> {
    let kept_end = items.iter().rposition(|(_, is_ours)| !is_ours).map_or(0, |last| last + 1);
    let (inner, last) = items.split_at(kept_end);
    let starts = inner.iter().skip(1).map(|(next, _)| next.start);
    let cuts =
        inner.iter().zip(starts).filter(|((_, is_ours), _)| *is_ours).map(|((item, _), next)| (item.start, next));
    let mut cuts: Vec<_> = cuts.collect();
    if let (Some((first, _)), Some((end, _))) = (last.first(), last.last()) {
        cuts.push((inner.last().map_or(first.start, |(kept, _)| kept.behind()), end.end));
    }
    cuts
}
