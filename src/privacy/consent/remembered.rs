//! What is kept of a user's consent events, so that events without a string follow the last one.
//!
//! Owns three parts, each with its own time: what a TC string said, what the sections for the United States said, and
//! the flags of the device. They are facts and no verdict: changed rules apply to them too, and a string that was kept
//! still gets too old.
//!
//! - **Merging.** By part, the newer event wins. At the same time both count: consent needs both, and a refusal is
//!   enough. So the result does not depend on the order of the events, and a withdrawal is never lost to a consent of
//!   the same time. A malformed string is kept as a refusal: the user's choice has changed, and is not known.
//! - **An event's own string** comes before a remembered one. If it is older (the event is late, or its string was
//!   updated before the remembered one), both count.
//! - **A refusal holds**: an event without a choice of its own follows the remembered one, whatever its flags and country are.
//! - **Flags** are kept with their hour. Within the same hour, a yes wins, also over an event's own no.
//!
//! Limits: [`RememberedConsent::WORDS`] words for a user, of which a user with a TC string alone uses three and one with
//! a section for the United States two. A user without consent events has zeros.

use super::{
    Reason, Signals,
    decode::Reading,
    facts::{Disclosed, Meet, Said, StringId, TcfFacts, UsFacts, VendorFacts},
};

/// What a consent event brought the consent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConsentSource {
    /// A TC string.
    TcString = 0,
    /// A GPP string.
    Gpp = 1,
    /// A US privacy string.
    UsPrivacy = 2,
    /// Several of them at the same time.
    Several = 3,
}

impl ConsentSource {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::TcString => "tc_string",
            Self::Gpp => "gpp",
            Self::UsPrivacy => "us_privacy",
            Self::Several => "several",
        }
    }

    fn from_number(number: u64) -> Self {
        [Self::TcString, Self::Gpp, Self::UsPrivacy, Self::Several][(number & 3) as usize]
    }
}

impl Meet for ConsentSource {
    fn meet(self, other: Self) -> Self {
        if self == other { self } else { Self::Several }
    }
}

/// A part with its time in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Kept<T> {
    at: i64,
    said: Said<T>,
    source: ConsentSource,
}

impl<T: Meet> Kept<T> {
    fn merge(self, other: Self) -> Self {
        match self.at.cmp(&other.at) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => {
                Self { at: self.at, said: self.said.meet(other.said), source: self.source.meet(other.source) }
            }
        }
    }
}

/// A flag with its hour since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct KeptFlag {
    hour: u32,
    is_yes: bool,
}

impl KeptFlag {
    const BITS: usize = 21;
    const HOUR_MAX: u32 = (1 << 20) - 1;

    fn new(value: Option<bool>, at: i64) -> Self {
        // The hour 0 stands for no flag.
        let hour = at.div_euclid(3_600_000_000).clamp(1, Self::HOUR_MAX.into()) as u32;
        value.map_or_else(Self::default, |is_yes| Self { hour, is_yes })
    }

    fn value(self) -> Option<bool> {
        (self.hour > 0).then_some(self.is_yes)
    }
}

/// What is kept of a user's consent events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RememberedConsent {
    tcf: Option<Kept<TcfFacts>>,
    /// Whether the GDPR applied at the last TC string.
    gdpr: Option<bool>,
    us: Option<Kept<UsFacts>>,
    gpc: KeptFlag,
    coppa: KeptFlag,
    lmt: KeptFlag,
}

fn merge<T: Meet>(one: Option<Kept<T>>, two: Option<Kept<T>>) -> Option<Kept<T>> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.merge(two)),
        (one, two) => one.or(two),
    }
}

impl RememberedConsent {
    /// The number of words of a user's consent.
    pub const WORDS: usize = 6;

    /// What a consent event says by itself.
    pub(super) fn of(signals: &Signals<'_>, reading: &Reading, at: i64) -> Self {
        let at = at.max(0);
        let source = |strings: [(&str, ConsentSource); 2]| {
            let used = strings.into_iter().filter(|(text, _)| !text.is_empty()).map(|(_, source)| source);
            used.reduce(Meet::meet).unwrap_or(ConsentSource::Gpp)
        };
        let gpp = (signals.gpp, ConsentSource::Gpp);
        let tcf_source = source([(signals.tc_string, ConsentSource::TcString), gpp]);
        let us_source = source([(signals.us_privacy, ConsentSource::UsPrivacy), gpp]);
        let has_tcf = !reading.tcf.is_nothing();
        Self {
            tcf: has_tcf.then_some(Kept { at, said: reading.tcf, source: tcf_source }),
            gdpr: signals.gdpr.filter(|_| has_tcf),
            us: (!reading.us.is_nothing()).then_some(Kept { at, said: reading.us, source: us_source }),
            gpc: KeptFlag::new(signals.gpc, at),
            coppa: KeptFlag::new(signals.coppa, at),
            lmt: KeptFlag::new(signals.lmt, at),
        }
    }

    /// Both together: by part the newer one, and both at the same time.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        let time = |it: &Self| it.tcf.map(|kept| kept.at);
        let gdpr = match time(&self).cmp(&time(&other)) {
            std::cmp::Ordering::Greater => self.gdpr,
            std::cmp::Ordering::Less => other.gdpr,
            std::cmp::Ordering::Equal => self.gdpr.meet(other.gdpr),
        };
        Self {
            tcf: merge(self.tcf, other.tcf),
            gdpr,
            us: merge(self.us, other.us),
            gpc: self.gpc.max(other.gpc),
            coppa: self.coppa.max(other.coppa),
            lmt: self.lmt.max(other.lmt),
        }
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the user refuses something that silence would not: a flag that is set, an opt-out of the United States, or a TC
    /// string that permits this vendor nothing or cannot be read. A string that permits only some purposes is no refusal: where
    /// it counts, without one nothing is permitted.
    pub fn refuses(&self) -> bool {
        let tcf = self.tcf.is_some_and(|kept| match kept.said {
            Said::Nothing => false,
            Said::Bad(_) => true,
            Said::Facts(facts) => {
                let is_nothing = facts.consent == 0 && facts.interest == 0;
                is_nothing || !facts.vendor.has_consent && !facts.vendor.has_interest
            }
        });
        let us = self.us.is_some_and(|kept| match kept.said {
            Said::Nothing => false,
            Said::Bad(_) => true,
            Said::Facts(facts) => facts.flags != 0 || facts.refused_categories != 0,
        });
        tcf || us || [self.gpc, self.coppa, self.lmt].iter().any(|flag| flag.is_yes)
    }

    /// When and from what the user's TC string came, in microseconds since 1970.
    pub fn tcf_origin(&self) -> Option<(i64, ConsentSource)> {
        self.tcf.map(|kept| (kept.at, kept.source))
    }

    /// When and from what the user's choice for the United States came, in microseconds since 1970.
    pub fn us_origin(&self) -> Option<(i64, ConsentSource)> {
        self.us.map(|kept| (kept.at, kept.source))
    }

    /// The flags of the user's devices by their names, if they are known.
    pub fn flags(&self) -> [(&'static str, Option<bool>); 3] {
        [("gpc", self.gpc.value()), ("coppa", self.coppa.value()), ("lmt", self.lmt.value())]
    }

    /// What the words hold. Words that [`RememberedConsent::fits`] refuses may hold anything, without a panic.
    pub fn read(words: &[u64; Self::WORDS]) -> Self {
        let [tcf_at, tcf, tcf_id, us_at, us, flags] = *words;
        let kept_at = |word: u64| i64::try_from(word.saturating_sub(1)).unwrap_or(i64::MAX);
        let flag = |number: usize| {
            let bits = flags >> (number * KeptFlag::BITS);
            KeptFlag { hour: (bits >> 1) as u32 & KeptFlag::HOUR_MAX, is_yes: bits & 1 == 1 }
        };
        Self {
            tcf: (tcf_at > 0).then(|| Kept {
                at: kept_at(tcf_at),
                said: unpack_tcf(tcf, tcf_id),
                source: ConsentSource::from_number(us >> 32),
            }),
            gdpr: match tcf_id >> 62 {
                2 => Some(true),
                1 => Some(false),
                _ => None,
            },
            us: (us_at > 0).then(|| Kept {
                at: kept_at(us_at),
                said: unpack_us(us),
                source: ConsentSource::from_number(us >> 34),
            }),
            gpc: flag(0),
            coppa: flag(1),
            lmt: flag(2),
        }
    }

    /// Writes it into words. Nothing kept is zeros.
    pub fn write(&self, words: &mut [u64; Self::WORDS]) {
        let kept_at = |at: i64| at.max(0) as u64 + 1;
        let (tcf_at, tcf, tcf_id, tcf_source) = self.tcf.map_or((0, 0, 0, 0), |kept| {
            let (facts, id) = pack_tcf(&kept.said);
            (kept_at(kept.at), facts, id, kept.source as u64)
        });
        let (us_at, us, us_source) =
            self.us.map_or((0, 0, 0), |kept| (kept_at(kept.at), pack_us(kept.said), kept.source as u64));
        let gdpr = self.gdpr.map_or(0, |applies| 1 + u64::from(applies));
        let flags = [self.gpc, self.coppa, self.lmt]
            .iter()
            .rev()
            .fold(0, |word, flag| word << KeptFlag::BITS | u64::from(flag.hour) << 1 | u64::from(flag.is_yes));
        *words = [tcf_at, tcf, gdpr << 62 | tcf_id, us_at, us_source << 34 | tcf_source << 32 | us, flags];
    }

    /// Whether words from outside are what [`RememberedConsent::write`] writes.
    pub fn fits(words: &[u64; Self::WORDS]) -> bool {
        let mut again = [0; Self::WORDS];
        let it = Self::read(words);
        it.write(&mut again);
        let has_said = it.tcf.is_none_or(|kept| !kept.said.is_nothing())
            && it.us.is_none_or(|kept| !kept.said.is_nothing())
            && (it.gdpr.is_none() || it.tcf.is_some());
        again == *words && has_said
    }
}

const NOTHING: u64 = 0;
const BAD: u64 = 3;
const EU: u64 = 1;
const CANADA: u64 = 2;
const US: u64 = 1;

/// The number of bits of a set of purposes 1 to 11.
const PURPOSE_BITS: usize = 11;

fn pack_tcf(said: &Said<TcfFacts>) -> (u64, u64) {
    let facts = match said {
        Said::Nothing => return (NOTHING, 0),
        Said::Bad(reason) => return (BAD | (*reason as u64) << 2, 0),
        Said::Facts(facts) => facts,
    };
    let letter = |at: usize| u64::from(facts.publisher[at].wrapping_sub(b'A') & 0x1f);
    let mut word = 0;
    let mut put = |value: u64, bits: usize| word = word << bits | value;
    put(letter(0), 5);
    put(letter(1), 5);
    put(facts.is_service_specific.into(), 1);
    put(facts.is_purpose_one_exempt.into(), 1);
    put(facts.special_features.into(), 2);
    put(facts.vendor.disclosed as u64, 2);
    put(facts.vendor.has_interest.into(), 1);
    put(facts.vendor.has_consent.into(), 1);
    for set in [facts.only_interest, facts.only_consent, facts.interest, facts.consent] {
        put(u64::from(set >> 1), PURPOSE_BITS);
    }
    put(if facts.is_canada { CANADA } else { EU }, 2);
    let id = u64::from(facts.id.last_updated) << 30
        | u64::from(facts.id.cmp_id & 0xfff) << 18
        | u64::from(facts.id.vendor_list_version & 0xfff) << 6
        | u64::from(facts.id.policy_version & 0x3f);
    (word, id)
}

fn unpack_tcf(word: u64, id: u64) -> Said<TcfFacts> {
    let mut word = word;
    let mut take = |bits: usize| {
        let value = word & ((1 << bits) - 1);
        word >>= bits;
        value
    };
    let kind = take(2);
    match kind {
        NOTHING => return Said::Nothing,
        // A reason of a later version is a refusal all the same.
        BAD => return Said::Bad(bad_reason(word)),
        _ => {}
    }
    let mut set = || (take(PURPOSE_BITS) as u16) << 1;
    let (consent, interest, only_consent, only_interest) = (set(), set(), set(), set());
    let (has_consent, has_interest) = (take(1) == 1, take(1) == 1);
    let disclosed = match take(2) {
        2 => Disclosed::Yes,
        1 => Disclosed::Unsaid,
        _ => Disclosed::No,
    };
    let special_features = take(2) as u8;
    let (is_purpose_one_exempt, is_service_specific) = (take(1) == 1, take(1) == 1);
    let letters = [take(5), take(5)].map(|letter| letter as u8 + b'A');
    Said::Facts(TcfFacts {
        is_canada: kind == CANADA,
        consent,
        interest,
        only_consent,
        only_interest,
        vendor: VendorFacts { has_consent, has_interest, disclosed },
        special_features,
        is_purpose_one_exempt,
        is_service_specific,
        publisher: [letters[1], letters[0]],
        id: StringId {
            last_updated: (id >> 30) as u32,
            cmp_id: (id >> 18) as u16 & 0xfff,
            vendor_list_version: (id >> 6) as u16 & 0xfff,
            policy_version: id as u8 & 0x3f,
        },
    })
}

fn bad_reason(number: u64) -> Reason {
    Reason::from_number(number & 0x1f).filter(|reason| *reason != Reason::Granted).unwrap_or(Reason::StringMalformed)
}

fn pack_us(said: Said<UsFacts>) -> u64 {
    match said {
        Said::Nothing => NOTHING,
        Said::Bad(reason) => BAD | (reason as u64) << 2,
        Said::Facts(facts) => {
            US | u64::from(facts.section & 0x3f) << 2
                | u64::from(facts.flags) << 8
                | u64::from(facts.refused_categories) << 16
        }
    }
}

fn unpack_us(word: u64) -> Said<UsFacts> {
    match word & 3 {
        NOTHING => Said::Nothing,
        US => Said::Facts(UsFacts {
            section: (word >> 2 & 0x3f) as u8,
            flags: (word >> 8) as u8,
            refused_categories: (word >> 16) as u16,
        }),
        _ => Said::Bad(bad_reason(word >> 2)),
    }
}

/// The laws that an event claims to apply. A remembered Canadian string claims its law too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a law")]
pub(super) struct Claims {
    pub(super) eu: bool,
    pub(super) canada: bool,
    pub(super) us: bool,
    /// It claims that none applies.
    pub(super) none: bool,
}

/// What is known about a user's consent at an event: its own signals, and what is remembered where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Effective {
    pub(super) reading: Reading,
    pub(super) claims: Claims,
    pub(super) gdpr: Option<bool>,
    pub(super) gpc: Option<bool>,
    pub(super) coppa: Option<bool>,
    pub(super) lmt: Option<bool>,
    pub(super) is_tcf_remembered: bool,
    pub(super) is_us_remembered: bool,
    pub(super) holds: Holds,
}

/// Which remembered choice is the user's last one, so that what it refuses holds outside of its law too. A string of an event to
/// which the GDPR did not apply refused nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    pub(super) tcf: bool,
    pub(super) us: bool,
}

impl Holds {
    fn of(own: &Reading, kept: &RememberedConsent, is_tcf_remembered: bool, is_us_remembered: bool) -> Self {
        let tcf_at = kept.tcf.map_or(i64::MIN, |kept| kept.at);
        let us_at = kept.us.map_or(i64::MIN, |kept| kept.at);
        Self {
            tcf: is_tcf_remembered && own.us.is_nothing() && tcf_at >= us_at && kept.gdpr != Some(false),
            us: is_us_remembered && own.tcf.is_nothing() && us_at >= tcf_at,
        }
    }
}

/// What counts of an event's own part and the remembered one, and whether the latter does. Both do if the own one is
/// older.
fn newer<T: Meet + Copy>(
    own: Said<T>,
    kept: Option<Kept<T>>,
    at: i64,
    is_older: impl Fn(&T, &T) -> bool,
) -> (Said<T>, bool) {
    match (own, kept) {
        (own, None) => (own, false),
        (Said::Nothing, Some(kept)) => (kept.said, true),
        (own, Some(kept)) => {
            let is_older = match (&own, &kept.said) {
                (Said::Facts(own), Said::Facts(kept)) => is_older(own, kept),
                _ => false,
            };
            if kept.at > at || is_older { (own.meet(kept.said), true) } else { (own, false) }
        }
    }
}

/// What is known at an event of this time.
pub(super) fn effective(signals: &Signals<'_>, own: &Reading, kept: &RememberedConsent, at: i64) -> Effective {
    let (tcf, is_tcf_remembered) = newer(own.tcf, kept.tcf, at, |own, kept| own.id.last_updated < kept.id.last_updated);
    let (us, is_us_remembered) = newer(own.us, kept.us, at, |_, _| false);
    let sections = signals.gpp_sid;
    // Without named sections, those that are in the string count.
    let is_all = sections.is_empty() && !signals.gpp.is_empty();
    let is_canada = matches!(own.tcf, Said::Facts(facts) if facts.is_canada)
        || (is_tcf_remembered && matches!(kept.tcf, Some(Kept { said: Said::Facts(facts), .. }) if facts.is_canada));
    let claims = Claims {
        eu: sections.has_eu(),
        canada: sections.has_canada() || is_canada,
        us: sections.has_us() || !own.us.is_nothing(),
        none: sections.says_none() || (signals.us_privacy == "1---" && !is_all),
    };
    // A late event does not undo a yes of the same hour or a later one.
    let flag = |own: Option<bool>, kept: KeptFlag| match own {
        Some(false) if kept.hour >= KeptFlag::new(own, at).hour => Some(kept.is_yes),
        own => own.or(kept.value()),
    };
    Effective {
        reading: Reading { tcf, us },
        claims,
        gdpr: signals.gdpr.or(kept.gdpr.filter(|_| is_tcf_remembered)),
        gpc: flag(signals.gpc, kept.gpc),
        coppa: flag(signals.coppa, kept.coppa),
        lmt: flag(signals.lmt, kept.lmt),
        is_tcf_remembered,
        is_us_remembered,
        holds: Holds::of(own, kept, is_tcf_remembered, is_us_remembered),
    }
}

#[cfg(test)]
mod tests;
