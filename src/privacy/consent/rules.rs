//! Decides what is permitted, from what is known about a user's consent.
//!
//! - **Which law applies.** The GDPR applies if the flag says so, a TC string is there and the flag does not deny it,
//!   its GPP section applies, or the country is listed. If signals disagree, it applies. The laws of the United States
//!   apply if one of their sections applies, a US privacy string is there, or the user is in a listed state or in an
//!   unknown one. A remembered choice for the United States counts there, and where the country is unknown. If several
//!   laws apply, all must permit.
//! - **No law** applies if any signal says where the user is and nothing above holds. Then the declared policy decides.
//!   Without any such signal, or with a country that is none, it is unknown.
//! - **A remembered refusal holds** in every country, whatever the event's flags say, until an event carries a choice of its
//!   own. What is remembered of the United States holds so where no other law applies.
//! - **Under a law,** a string that is missing, malformed, too old or of an unknown version permits nothing.
//! - **Children, Global Privacy Control and limited ad tracking** forbid under every law and without one.
//!
//! Guarantees: a pure function; nothing is allocated.

use super::{
    super::country::Country,
    Activity, Basis, Framework, LegalBasis, Permissions, Reason, Verdict,
    decode::{PURPOSES, Vendor},
    facts::{Disclosed, Said, TcfFacts, UsFacts, UsFlag},
    remembered::Effective,
    spec::CMPS,
};

/// The purposes for which legitimate interest can be a basis, since TCF 2.2: not 1 and 3 to 6.
pub(super) const INTEREST_PURPOSES: u16 = PURPOSES & !(1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6);

/// How far a string may be ahead of its event, in seconds: a day, because strings carry the start of a day, and in which
/// zone is up to the device.
const AHEAD_SECONDS_MAX: i64 = 86_400;

/// Each pair of letters has a bit.
const CODE_WORDS: usize = (26_usize * 26).div_ceil(64);

/// A set of codes of two capital letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Codes([u64; CODE_WORDS]);

impl Codes {
    /// Adds a code. Returns whether it is one.
    pub(super) fn add(&mut self, code: &str) -> bool {
        let is_written_right = code.bytes().all(|letter| letter.is_ascii_uppercase());
        let index = code_index(code.as_bytes()).filter(|_| is_written_right);
        if let Some(index) = index {
            self.0[index / 64] |= 1 << (index % 64);
        }
        index.is_some()
    }

    fn has(&self, code: &[u8]) -> bool {
        code_index(code).is_some_and(|index| self.0[index / 64] >> (index % 64) & 1 == 1)
    }
}

/// The number of a code of two letters, in either case.
fn code_index(code: &[u8]) -> Option<usize> {
    let [first, second] = <[u8; 2]>::try_from(code).ok()?.map(|letter| letter.to_ascii_uppercase().wrapping_sub(b'A'));
    (first < 26 && second < 26).then_some(usize::from(first) * 26 + usize::from(second))
}

/// The purposes that an activity needs, as sets like those in [`TcfFacts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ActivityRule {
    /// On consent.
    pub(super) consent: u16,
    /// On legitimate interest. Only [`INTEREST_PURPOSES`].
    pub(super) interest: u16,
    /// Those for which the publisher may demand the other basis.
    pub(super) flexible: u16,
    pub(super) special_features: u8,
}

/// When a string must list the disclosed vendors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DisclosedRule {
    /// From this version of the policies on.
    pub(super) from_policy: u8,
}

/// The checked form of `[consent.forbids]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forbids {
    pub(super) child: Permissions,
    pub(super) gpc: Permissions,
    pub(super) lmt: Permissions,
}

/// The checked form of `[consent.tcf]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TcfRules {
    pub(super) countries: Codes,
    pub(super) max_age_seconds: i64,
    /// Bit n is version n.
    pub(super) policy_versions: u64,
    /// Sorted; all if empty.
    pub(super) cmps: Vec<u16>,
    /// Sorted.
    pub(super) cmps_refused: Vec<u16>,
    pub(super) service_specific_only: bool,
    pub(super) disclosed: DisclosedRule,
    pub(super) purpose_one_exempt_in: Codes,
    /// In the order of [`Activity::ALL`].
    pub(super) activities: [ActivityRule; 5],
}

/// The checked form of `[consent.canada]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CanadaRules {
    pub(super) countries: Codes,
    pub(super) accept_implied: bool,
}

/// The checked form of `[consent.us]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UsRules {
    pub(super) regions: Codes,
    pub(super) opt_out_forbids: Permissions,
    pub(super) without_string: Permissions,
    /// By [`super::SensitiveCategory`].
    pub(super) sensitive: u16,
}

/// The checked form of `[consent]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub(super) vendor: Vendor,
    pub(super) strings_max: usize,
    pub(super) country_default: Option<String>,
    pub(super) without_law: Permissions,
    pub(super) unknown_law: Permissions,
    pub(super) forbids: Forbids,
    pub(super) tcf: TcfRules,
    pub(super) canada: CanadaRules,
    pub(super) us: UsRules,
}

/// The laws that apply to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a law")]
struct Laws {
    gdpr: bool,
    canada: bool,
    us: bool,
    /// Whether any signal says which laws apply.
    is_known: bool,
}

/// The reasons so far, and the legal bases of what is permitted.
struct Ruling {
    reasons: [Reason; 5],
    /// By consent or the like, by legitimate interest, and by implied consent.
    bases: [(Permissions, LegalBasis); 3],
    /// Whether a remembered choice refuses outside of its law.
    is_held: bool,
}

impl Ruling {
    fn new() -> Self {
        let none = |basis| (Permissions::NONE, basis);
        let bases = [LegalBasis::Consent, LegalBasis::LegitimateInterest, LegalBasis::ImpliedConsent].map(none);
        Self { reasons: [Reason::Granted; 5], bases, is_held: false }
    }

    /// Refuses activities, unless they are refused already.
    fn refuse(&mut self, activities: Permissions, reason: Reason) {
        for activity in activities.iter() {
            let first = &mut self.reasons[activity as usize];
            if *first == Reason::Granted {
                *first = reason;
            }
        }
    }

    fn permissions(&self) -> Permissions {
        Activity::ALL.into_iter().filter(|it| self.reasons[*it as usize] == Reason::Granted).collect()
    }

    /// The basis of what is permitted under a framework.
    fn legal_basis(&self, framework: Framework) -> LegalBasis {
        let permissions = self.permissions();
        if permissions == Permissions::NONE {
            return LegalBasis::Nothing;
        }
        if !matches!(framework, Framework::TcfEu | Framework::TcfCanada) {
            let is_declared = matches!(framework, Framework::Declared | Framework::Unknown);
            return if is_declared { LegalBasis::Declared } else { LegalBasis::NoOptOut };
        }
        let [consent, interest, implied] = self.bases.map(|(used, _)| used.and(permissions) != Permissions::NONE);
        match (consent, interest, implied) {
            (_, _, true) => LegalBasis::ImpliedConsent,
            (true, true, _) => LegalBasis::ConsentAndLegitimateInterest,
            (false, true, _) => LegalBasis::LegitimateInterest,
            // Also if all purposes are exempt: then the publisher's country needs no other basis than its law.
            _ => LegalBasis::Consent,
        }
    }
}

impl TcfRules {
    /// Why a string counts for nothing.
    fn objection(&self, facts: &TcfFacts, at: i64) -> Option<Reason> {
        let age = at.div_euclid(1_000_000).saturating_sub(facts.id.last_updated.into());
        if age > self.max_age_seconds {
            return Some(Reason::Expired);
        }
        if age < -AHEAD_SECONDS_MAX {
            return Some(Reason::FromFuture);
        }
        // The Canadian policies and platforms are numbered apart.
        if facts.is_canada {
            return (facts.vendor.disclosed == Disclosed::No).then_some(Reason::VendorNotDisclosed);
        }
        if self.policy_versions >> facts.id.policy_version & 1 == 0 {
            return Some(Reason::PolicyVersion);
        }
        let is_listed = self.cmps.is_empty() || self.cmps.binary_search(&facts.id.cmp_id).is_ok();
        if !CMPS.contains(&facts.id.cmp_id) || !is_listed || self.cmps_refused.binary_search(&facts.id.cmp_id).is_ok() {
            return Some(Reason::Cmp);
        }
        if self.service_specific_only && !facts.is_service_specific {
            return Some(Reason::GlobalScope);
        }
        let must_be_listed = facts.id.policy_version >= self.disclosed.from_policy;
        match facts.vendor.disclosed {
            Disclosed::Yes => None,
            Disclosed::Unsaid if !must_be_listed => None,
            _ => Some(Reason::VendorNotDisclosed),
        }
    }
}

impl Rules {
    /// What is permitted for an event at this time, in microseconds since 1970, in this place.
    pub(super) fn judge(&self, known: &Effective, (country, region): (&str, &str), at: i64) -> Verdict {
        let laws = self.laws(known, country, region);
        let mut ruling = Ruling::new();
        let us = match &known.reading.us {
            Said::Facts(facts) => *facts,
            _ => UsFacts::default(),
        };
        if known.coppa == Some(true) {
            ruling.refuse(self.forbids.child, Reason::Coppa);
        }
        if us.has(UsFlag::KnownChild) {
            ruling.refuse(self.forbids.child, Reason::KnownChild);
        }
        if known.gpc == Some(true) || us.has(UsFlag::Gpc) {
            ruling.refuse(self.forbids.gpc, Reason::Gpc);
        }
        if known.lmt == Some(true) {
            ruling.refuse(self.forbids.lmt, Reason::Lmt);
        }
        if laws.gdpr {
            self.judge_tcf(known, false, at, &mut ruling);
        }
        if laws.canada {
            self.judge_tcf(known, true, at, &mut ruling);
        }
        if laws.us {
            self.judge_us(known, &mut ruling);
        }
        self.hold(known, laws, &mut ruling);
        let has_law = laws.gdpr || laws.canada || laws.us;
        if !has_law && laws.is_known {
            ruling.refuse(self.without_law.complement(), Reason::NotDeclared);
        } else if !has_law {
            ruling.refuse(self.unknown_law.complement(), Reason::UnknownLaw);
        }
        let framework = match laws {
            Laws { gdpr: true, .. } => Framework::TcfEu,
            Laws { canada: true, .. } => Framework::TcfCanada,
            Laws { us: true, .. } => match (&known.reading.us, us.section) {
                (Said::Facts(_), 6) => Framework::UsPrivacy,
                (Said::Facts(_), 7) => Framework::UsNational,
                (Said::Facts(_), _) => Framework::UsState,
                _ => Framework::UsUnsignalled,
            },
            Laws { is_known: true, .. } => Framework::Declared,
            _ => Framework::Unknown,
        };
        Self::verdict(known, laws, framework, us.section, &ruling)
    }

    fn verdict(known: &Effective, laws: Laws, framework: Framework, section: u8, ruling: &Ruling) -> Verdict {
        let is_tcf = laws.gdpr || laws.canada;
        let tcf = match &known.reading.tcf {
            Said::Facts(facts) if is_tcf => {
                let id = facts.id;
                (id.last_updated, id.cmp_id, id.vendor_list_version, id.policy_version)
            }
            _ => (0, 0, 0, 0),
        };
        Verdict {
            permissions: ruling.permissions(),
            basis: Basis {
                framework,
                section,
                legal_basis: ruling.legal_basis(framework),
                reasons: ruling.reasons,
                is_remembered: (is_tcf && known.is_tcf_remembered)
                    || (laws.us && known.is_us_remembered)
                    || ruling.is_held,
                is_limited: known.lmt == Some(true),
                last_updated: tcf.0,
                cmp_id: tcf.1,
                vendor_list_version: tcf.2,
                policy_version: tcf.3,
            },
        }
    }

    fn laws(&self, known: &Effective, country: &str, region: &str) -> Laws {
        let country = match (Country::read(country), &self.country_default) {
            (Country::Unsaid, Some(default)) => Country::read(default),
            (country, _) => country,
        };
        let code = if let Country::Known(code) = &country { code.as_slice() } else { &[] };
        let has_country = matches!(country, Country::Known(_) | Country::EuropeanUnion);
        let is_us = code == b"US";
        // `US-CA` as well as `CA`.
        let region = region.rsplit('-').next().unwrap_or_default().as_bytes();
        let is_us_law = is_us && (code_index(region).is_none() || self.us.regions.has(region));
        // A remembered choice counts wherever the user may be in the United States.
        let is_us_remembered = known.is_us_remembered && (is_us || !has_country);
        let has_tc_string = match &known.reading.tcf {
            Said::Nothing => false,
            Said::Bad(_) => !known.claims.canada,
            Said::Facts(facts) => !facts.is_canada,
        };
        Laws {
            gdpr: known.gdpr == Some(true)
                || known.claims.eu
                || (has_tc_string && known.gdpr.is_none())
                || country == Country::EuropeanUnion
                || self.tcf.countries.has(code),
            canada: known.claims.canada || self.canada.countries.has(code),
            us: known.claims.us || is_us_law || is_us_remembered,
            // Whoever sends a country that is none cannot say that it is one without a law.
            is_known: country != Country::Unknown && (known.gdpr.is_some() || known.claims.none || has_country),
        }
    }

    /// Refuses outside of its law what a remembered choice refuses. What it permits is left to the law there.
    fn hold(&self, known: &Effective, laws: Laws, ruling: &mut Ruling) {
        let before = ruling.permissions();
        if known.holds.tcf && !laws.gdpr {
            match &known.reading.tcf {
                Said::Bad(reason) => ruling.refuse(Permissions::ALL, *reason),
                Said::Facts(facts) if !facts.is_canada => {
                    for activity in Activity::ALL {
                        if let Err(reason) = self.used(facts, self.tcf.activities[activity as usize]) {
                            ruling.refuse(Permissions::NONE.with(activity), reason);
                        }
                    }
                }
                _ => {}
            }
        }
        if known.holds.us && !laws.gdpr && !laws.canada && !laws.us {
            self.judge_us(known, ruling);
        }
        ruling.is_held = ruling.permissions() != before;
    }

    fn judge_tcf(&self, known: &Effective, is_canada: bool, at: i64, ruling: &mut Ruling) {
        let facts = match &known.reading.tcf {
            Said::Facts(facts) if facts.is_canada == is_canada => facts,
            Said::Bad(reason) => return ruling.refuse(Permissions::ALL, *reason),
            // A string of the other framework is none of this one.
            _ => return ruling.refuse(Permissions::ALL, Reason::StringMissing),
        };
        if let Some(reason) = self.tcf.objection(facts, at) {
            return ruling.refuse(Permissions::ALL, reason);
        }
        for activity in Activity::ALL {
            let rule = self.tcf.activities[activity as usize];
            match self.used(facts, rule) {
                Ok(used) => {
                    for ((set, _), is_used) in ruling.bases.iter_mut().zip(used) {
                        *set = if is_used { set.with(activity) } else { *set };
                    }
                }
                Err(reason) => ruling.refuse(Permissions::NONE.with(activity), reason),
            }
        }
    }

    /// Which of consent, legitimate interest and implied consent an activity rests on.
    fn used(&self, facts: &TcfFacts, rule: ActivityRule) -> Result<[bool; 3], Reason> {
        if rule.special_features & !facts.special_features != 0 {
            return Err(Reason::SpecialFeature);
        }
        let needed = rule.consent | rule.interest;
        let consent = if facts.vendor.has_consent { facts.consent & !facts.only_interest } else { 0 };
        let interest = if facts.vendor.has_interest { facts.interest & !facts.only_consent } else { 0 };
        if facts.is_canada {
            let express = needed & consent;
            let implied = if self.canada.accept_implied { needed & interest & !express } else { 0 };
            let missing = needed & !(express | implied);
            return match missing {
                0 => Ok([express != 0, false, implied != 0]),
                _ if missing & (facts.only_consent | facts.only_interest) != 0 => Err(Reason::PublisherRestriction),
                _ if missing & !facts.consent != 0 => Err(Reason::PurposeRefused),
                _ => Err(Reason::VendorRefused),
            };
        }
        let is_exempt = facts.is_purpose_one_exempt && self.tcf.purpose_one_exempt_in.has(&facts.publisher);
        let exempt = u16::from(is_exempt) << 1;
        // A flexible purpose changes its basis if the publisher demands it, and only then.
        let by_consent = consent & (rule.consent | rule.interest & rule.flexible & facts.only_consent);
        let by_interest = interest & (rule.interest | rule.consent & rule.flexible & facts.only_interest);
        let missing = needed & !(by_consent | by_interest | exempt);
        let restricted = rule.consent & facts.only_interest | rule.interest & facts.only_consent;
        let refused = rule.consent & !facts.consent | rule.interest & !facts.interest;
        match missing {
            0 => Ok([by_consent != 0, by_interest != 0, false]),
            _ if missing & restricted != 0 => Err(Reason::PublisherRestriction),
            _ if missing & refused != 0 => Err(Reason::PurposeRefused),
            _ => Err(Reason::VendorRefused),
        }
    }

    fn judge_us(&self, known: &Effective, ruling: &mut Ruling) {
        let facts = match &known.reading.us {
            Said::Facts(facts) => facts,
            Said::Bad(reason) => return ruling.refuse(Permissions::ALL, *reason),
            Said::Nothing => return ruling.refuse(self.us.without_string.complement(), Reason::StringMissing),
        };
        for (flag, reason) in UsFacts::OPT_OUTS {
            if facts.has(flag) {
                ruling.refuse(self.us.opt_out_forbids, reason);
            }
        }
        if facts.refused_categories & self.us.sensitive != 0 {
            ruling.refuse(self.us.opt_out_forbids, Reason::SensitiveData);
        }
    }
}
