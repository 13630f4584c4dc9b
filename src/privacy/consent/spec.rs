//! The section `[consent]` as written in the configuration. [`check`] checks it.

mod check;

pub(super) use check::CMPS;

use super::Activity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// `[consent]`: what may be done with a user's data.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsentSpec {
    /// Whether consent is checked. Without it, everything is permitted to everybody.
    pub enabled: bool,
    /// Your id in IAB Europe's Global Vendor List. Needed if consent is checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_id: Option<u16>,
    /// The rule of the events that say what the user chose. Their consent is kept in the profile, and counts for events
    /// that bring none.
    pub remember: String,
    /// The field with the user's country: see [`crate::privacy::country`].
    pub country: String,
    /// The field with the user's region, such as `CA` or `US-CA`.
    pub region: String,
    /// The country of events without one, such as that of a shop that sells in one country only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country_default: Option<String>,
    /// What is permitted where no law applies. Needed if consent is checked: declare it, even if it is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_law: Option<Vec<Activity>>,
    /// What is permitted if it is unknown whether a law applies.
    pub unknown_law: Vec<Activity>,
    /// The strings whose meaning each worker remembers, 64 to 4,194,304. Each takes about 0.6 kB. More save reading
    /// strings again, which takes a few microseconds.
    pub strings_max: usize,
    /// What flags forbid under every law and without one.
    pub forbids: ForbidsSpec,
    /// The European framework.
    pub tcf: TcfSpec,
    /// The Canadian framework.
    pub canada: CanadaSpec,
    /// The laws of the United States.
    pub us: UsSpec,
}

impl Default for ConsentSpec {
    fn default() -> Self {
        Self {
            enabled: false,
            vendor_id: None,
            remember: "event_type == \"consent\"".to_owned(),
            country: "geo.country".to_owned(),
            region: "geo.region".to_owned(),
            country_default: None,
            without_law: None,
            unknown_law: Vec::new(),
            strings_max: 16_384,
            forbids: ForbidsSpec::default(),
            tcf: TcfSpec::default(),
            canada: CanadaSpec::default(),
            us: UsSpec::default(),
        }
    }
}

/// `[consent.forbids]`: what a flag forbids, whatever the law is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForbidsSpec {
    /// What is not done with a child's data.
    pub child: Vec<Activity>,
    /// What Global Privacy Control forbids. Leave out `measure` if you count for yourself alone.
    pub gpc: Vec<Activity>,
    /// What a device that limits ad tracking forbids.
    pub lmt: Vec<Activity>,
}

impl Default for ForbidsSpec {
    fn default() -> Self {
        let personal = vec![Activity::Write, Activity::Score, Activity::Emit, Activity::Train];
        Self { child: Activity::ALL.to_vec(), gpc: personal.clone(), lmt: personal }
    }
}

/// `[consent.tcf]`: IAB Europe's Transparency and Consent Framework, version 2.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcfSpec {
    /// The countries where the GDPR or a law like it applies, whatever the event says.
    pub countries: Vec<String>,
    /// How long after its last update a string counts, 1 day to 10 years. The default is 13 months.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub max_age: Duration,
    /// The versions of the framework's policies that are accepted. 4 is TCF 2.2, and 5 is TCF 2.3.
    pub policy_versions: Vec<u8>,
    /// The only consent management platforms that are accepted; all if empty.
    pub cmps: Vec<u16>,
    /// Consent management platforms that are not accepted, such as those whose registration has ended.
    pub cmps_refused: Vec<u16>,
    /// Whether strings with global scope are refused. They have not been valid since 2021.
    pub service_specific_only: bool,
    /// When a string must say that you were disclosed to the user.
    pub disclosed: DisclosedSpec,
    /// The publishers' countries that need no consent for purpose 1. It counts if the string says that it was not asked
    /// for.
    pub purpose_one_exempt_in: Vec<String>,
    /// What each activity needs.
    pub needs: NeedsSpec,
}

impl Default for TcfSpec {
    fn default() -> Self {
        let countries = [
            "AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU", "IE", "IT", "LV", "LT", "LU",
            "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE", "IS", "LI", "NO", "GB", "CH", "AX", "GF", "GP", "MF",
            "MQ", "RE", "YT",
        ];
        Self {
            countries: countries.map(str::to_owned).to_vec(),
            max_age: Duration::from_hours(396 * 24),
            policy_versions: vec![4, 5],
            cmps: Vec::new(),
            cmps_refused: Vec::new(),
            service_specific_only: true,
            disclosed: DisclosedSpec::FromPolicy5,
            purpose_one_exempt_in: Vec::new(),
            needs: NeedsSpec::default(),
        }
    }
}

/// `[consent.tcf.needs]`: what each activity needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NeedsSpec {
    /// What changing a profile needs.
    pub write: ActivitySpec,
    /// What running a model needs.
    pub score: ActivitySpec,
    /// What a personalised decision needs.
    pub emit: ActivitySpec,
    /// What counting impressions, clicks and conversions needs.
    pub measure: ActivitySpec,
    /// What exporting rows for training needs.
    pub train: ActivitySpec,
}

impl Default for NeedsSpec {
    fn default() -> Self {
        let needs = |purposes: &[u8]| ActivitySpec { purposes: purposes.to_vec(), ..ActivitySpec::default() };
        Self { write: needs(&[1, 3]), score: needs(&[4]), emit: needs(&[4]), measure: needs(&[7]), train: needs(&[10]) }
    }
}

/// When a string must say that the vendor was disclosed to the user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DisclosedSpec {
    /// Always, as TCF 2.3 demands of strings made after 28 February 2026.
    Always,
    /// If it follows version 5 of the policies or a later one, or if it lists the disclosed vendors.
    FromPolicy5,
    /// If it lists the disclosed vendors.
    IfListed,
}

/// What an activity needs under the European and the Canadian framework.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActivitySpec {
    /// The purposes that it needs, 1 to 11.
    pub purposes: Vec<u8>,
    /// The legal basis that you have registered for these purposes. Purposes 1 and 3 to 6 always need consent.
    pub legal_basis: LegalBasisSpec,
    /// Whether you have registered these purposes as flexible, so that a publisher may demand the other basis.
    pub flexible: bool,
    /// The special features that it needs: 1 is precise geolocation, and 2 is scanning the device.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub special_features: Vec<u8>,
}

/// A legal basis of the GDPR that the framework knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LegalBasisSpec {
    /// The user's consent.
    #[default]
    Consent,
    /// Legitimate interest, to which the user may object.
    LegitimateInterest,
}

/// `[consent.canada]`: IAB Canada's Transparency and Consent Framework. Purposes are those of `[consent.tcf]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CanadaSpec {
    /// The countries where it applies, whatever the event says.
    pub countries: Vec<String>,
    /// Your id in the Canadian vendor list; by default the same as in the European one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_id: Option<u16>,
    /// Whether implied consent is enough.
    pub accept_implied: bool,
}

impl Default for CanadaSpec {
    fn default() -> Self {
        Self { countries: vec!["CA".to_owned()], vendor_id: None, accept_implied: false }
    }
}

/// `[consent.us]`: the laws of the United States. They permit what the user has not opted out of.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct UsSpec {
    /// The states whose law applies. In the others no law applies; without a region, one does.
    pub regions: Vec<String>,
    /// What an opt-out of sale, sharing or targeted advertising forbids.
    pub opt_out_forbids: Vec<Activity>,
    /// What is permitted if a law applies and there is no string. These laws permit what is not refused, but a missing
    /// string may also be a lost one.
    pub without_string: Vec<Activity>,
    /// The categories of sensitive data in your events. Without the user's yes to all of them, an opt-out is assumed.
    pub sensitive: Vec<SensitiveCategory>,
}

impl Default for UsSpec {
    fn default() -> Self {
        let regions = [
            "CA", "VA", "CO", "UT", "CT", "FL", "MT", "OR", "TX", "DE", "IA", "NE", "NH", "NJ", "TN", "MN", "MD", "IN",
            "KY", "RI",
        ];
        Self {
            regions: regions.map(str::to_owned).to_vec(),
            opt_out_forbids: vec![Activity::Write, Activity::Score, Activity::Emit, Activity::Train],
            without_string: Vec::new(),
            sensitive: Vec::new(),
        }
    }
}

/// A category of sensitive data, as the sections for the United States distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SensitiveCategory {
    /// Racial, ethnic or national origin.
    Origin = 0,
    /// Religious or philosophical beliefs.
    Beliefs = 1,
    /// Health.
    Health = 2,
    /// Sex life or sexual orientation.
    Sexuality = 3,
    /// Citizenship or immigration status.
    Citizenship = 4,
    /// Genetic data.
    Genetic = 5,
    /// Biometric identification.
    Biometric = 6,
    /// Precise location.
    PreciseGeolocation = 7,
    /// Identification documents.
    Documents = 8,
    /// Financial accounts.
    Financial = 9,
    /// Membership of a union.
    UnionMembership = 10,
    /// The contents of mail, e-mail or messages.
    Messages = 11,
    /// Status as a victim of a crime.
    CrimeVictim = 12,
    /// Transgender or nonbinary status.
    Gender = 13,
}

#[cfg(test)]
mod tests;
