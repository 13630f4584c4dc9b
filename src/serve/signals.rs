//! What a bid request says about consent.
//!
//! OpenRTB 2.6 has the signals in `regs`, `user` and `device`; older versions had some of them under `ext`. Both places
//! are read. Guarantees: the request is refused ([`SignalFault`]) if a signal cannot be read, or if the two places
//! disagree on it. Nothing is guessed.

use super::json::{Malformed, Part};
use crate::{
    privacy::{
        consent::{SectionIds, Signals},
        country::Country,
    },
    proto::iab::openrtb::bid_request::{Device, Regs, User},
};
use std::borrow::Cow;

/// The signals of a request.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestSignals<'a> {
    gdpr: Option<bool>,
    tc_string: Cow<'a, str>,
    gpp: Cow<'a, str>,
    gpp_sid: SectionIds,
    us_privacy: Cow<'a, str>,
    gpc: Option<bool>,
    coppa: Option<bool>,
    lmt: Option<bool>,
    country: Cow<'a, str>,
    region: Cow<'a, str>,
}

/// Why the signals of a request permit nothing, whatever they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignalFault {
    /// One cannot be read.
    Unreadable,
    /// Two places disagree.
    Conflict,
}

impl SignalFault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "signal_unreadable",
            Self::Conflict => "signals_conflict",
        }
    }
}

/// The parts of a request that have signals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) regs: Option<Part<'a>>,
    pub(super) user: Option<Part<'a>>,
    pub(super) device: Option<Part<'a>>,
}

impl<'a> RequestSignals<'a> {
    /// Reads the signals.
    ///
    /// # Errors
    /// If a part is no object, or has a member twice.
    pub(super) fn of(sources: Sources<'a>) -> Result<Result<Self, SignalFault>, Malformed> {
        let [gdpr, coppa, gpp, gpp_sid, us_privacy, regs_ext] =
            pick(sources.regs, ["gdpr", "coppa", "gpp", "gpp_sid", "us_privacy", "ext"])?;
        let older = pick(regs_ext, ["gdpr", "gpp", "gpp_sid", "us_privacy", "gpc", "coppa"])?;
        let [consent, user_ext] = pick(sources.user, ["consent", "ext"])?;
        let [older_consent] = pick(user_ext, ["consent"])?;
        let [lmt, geo] = pick(sources.device, ["lmt", "geo"])?;
        let [country, region] = pick(geo, ["country", "region"])?;
        let all = || {
            Ok(Self {
                gdpr: one(gdpr, older[0], flag)?,
                tc_string: one(consent, older_consent, text)?.unwrap_or_default(),
                gpp: one(gpp, older[1], text)?.unwrap_or_default(),
                gpp_sid: one(gpp_sid, older[2], sections)?.unwrap_or_default(),
                us_privacy: one(us_privacy, older[3], text)?.unwrap_or_default(),
                gpc: one(older[4], None, flag)?,
                coppa: one(coppa, older[5], flag)?,
                lmt: one(lmt, None, flag)?,
                // Without a country, the user's place is unknown.
                country: readable(one(country, None, text)?.unwrap_or_default())?,
                region: one(region, None, text)?.unwrap_or_default(),
            })
        };
        Ok(all())
    }

    /// The signals of a request in Protobuf, where an empty string means absent, and GPP has one place.
    ///
    /// # Errors
    /// If one cannot be read, or two places disagree.
    pub(super) fn of_message(
        regs: Option<&'a Regs>,
        user: Option<&'a User>,
        device: Option<&'a Device>,
    ) -> Result<Self, SignalFault> {
        let older = regs.and_then(|regs| regs.ext.as_ref());
        let older_consent = user.and_then(|user| user.ext.as_ref()).and_then(|ext| ext.consent.as_deref());
        let geo = device.and_then(|device| device.geo.as_ref());
        let agreed = |here: Option<&'a str>, there: Option<&'a str>| {
            let text = agree(here.filter(|it| !it.is_empty()), there.filter(|it| !it.is_empty()))?;
            Ok(Cow::Borrowed(text.unwrap_or_default()))
        };
        Ok(Self {
            gdpr: agree(regs.and_then(|it| it.gdpr), older.and_then(|it| it.gdpr))?,
            tc_string: agreed(user.and_then(|it| it.consent.as_deref()), older_consent)?,
            gpp: agreed(regs.and_then(|it| it.gpp.as_deref()), None)?,
            gpp_sid: SectionIds::new(regs.into_iter().flat_map(|it| it.gpp_sid.iter().copied())),
            us_privacy: agreed(
                regs.and_then(|it| it.us_privacy.as_deref()),
                older.and_then(|it| it.us_privacy.as_deref()),
            )?,
            gpc: match older.and_then(|it| it.gpc.as_deref()) {
                None | Some("") => None,
                Some("1") => Some(true),
                Some("0") => Some(false),
                Some(_) => return Err(SignalFault::Unreadable),
            },
            coppa: regs.and_then(|it| it.coppa),
            lmt: device.and_then(|it| it.lmt),
            country: readable(Cow::Borrowed(geo.map_or("", |it| &it.country)))?,
            region: Cow::Borrowed(geo.map(|it| it.region.as_str()).unwrap_or_default()),
        })
    }

    /// The signals as the consent gate takes them.
    pub(super) fn signals(&self) -> Signals<'_> {
        Signals {
            gdpr: self.gdpr,
            tc_string: &self.tc_string,
            gpp: &self.gpp,
            gpp_sid: self.gpp_sid,
            us_privacy: &self.us_privacy,
            gpc: self.gpc,
            coppa: self.coppa,
            lmt: self.lmt,
            country: &self.country,
            region: &self.region,
        }
    }
}

/// The members of a part that may be absent.
pub(super) fn pick<'a, const N: usize>(
    part: Option<Part<'a>>,
    names: [&str; N],
) -> Result<[Option<Part<'a>>; N], Malformed> {
    part.map_or(Ok([None; N]), |part| part.pick(names))
}

/// A signal that may be in two places.
fn one<'a, T: PartialEq>(
    here: Option<Part<'a>>,
    there: Option<Part<'a>>,
    read: impl Fn(Part<'a>) -> Option<T>,
) -> Result<Option<T>, SignalFault> {
    let read = |part: Option<Part<'a>>| part.map(|part| read(part).ok_or(SignalFault::Unreadable)).transpose();
    agree(read(here)?, read(there)?)
}

fn agree<T: PartialEq>(here: Option<T>, there: Option<T>) -> Result<Option<T>, SignalFault> {
    match (here, there) {
        (Some(here), Some(there)) if here != there => Err(SignalFault::Conflict),
        (here, there) => Ok(here.or(there)),
    }
}

/// A flag: a number in OpenRTB, and a string or a truth value with some senders.
fn flag(part: Part<'_>) -> Option<bool> {
    match part.raw() {
        "1" | "true" | "\"1\"" => Some(true),
        "0" | "false" | "\"0\"" => Some(false),
        _ => None,
    }
}

fn text(part: Part<'_>) -> Option<Cow<'_, str>> {
    part.text()
}

fn sections(part: Part<'_>) -> Option<SectionIds> {
    part.read::<Vec<i32>>().map(SectionIds::new)
}

/// A country as the consent gate reads it. What is no country might stand for one with a law.
fn readable(country: Cow<'_, str>) -> Result<Cow<'_, str>, SignalFault> {
    if Country::read(&country) == Country::Unknown { Err(SignalFault::Unreadable) } else { Ok(country) }
}
