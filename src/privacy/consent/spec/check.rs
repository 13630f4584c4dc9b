//! Checks the section, and turns it into the rules to decide by. All errors are reported at once.

use super::{
    super::{
        super::country::Country,
        Activity, Permissions,
        decode::{PURPOSES, Vendor},
        rules::{
            ActivityRule, CanadaRules, Codes, DisclosedRule, Forbids, INTEREST_PURPOSES, Rules, TcfRules, UsRules,
        },
    },
    ActivitySpec, ConsentSpec, DisclosedSpec, LegalBasisSpec, NeedsSpec, TcfSpec,
};
use crate::config_error::ConfigError;
use std::{ops::RangeInclusive, time::Duration};

/// The ids of CMPs have twelve bits; 0 and 1 are not given out.
pub(in super::super) const CMPS: RangeInclusive<u16> = 2..=4095;
const STRINGS: RangeInclusive<usize> = 64..=1 << 22;
const DAY: Duration = Duration::from_hours(24);
const AGES: RangeInclusive<Duration> = DAY..=Duration::from_hours(24 * 3_660);

/// Collects errors under `consent.`.
struct Errors<'a>(&'a mut Vec<ConfigError>);

/// Whether a code is written as events' codes are read.
fn is_same(country: Country, code: &str) -> bool {
    matches!(country, Country::Known(known) if known == code.as_bytes())
}

impl Errors<'_> {
    fn add(&mut self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(ConfigError::new(format!("consent.{key}"), message).hint(hint));
    }

    /// Countries or states as a set of codes.
    fn codes(&mut self, key: &str, codes: &[String]) -> Codes {
        let mut set = Codes::default();
        for code in codes {
            let is_region = key.ends_with("regions");
            if !set.add(code) {
                self.add(
                    key,
                    format!("`{code}` is not a code of two capital letters"),
                    if is_region {
                        "write the state alone, such as CA"
                    } else {
                        "write a country as in ISO 3166-1 alpha-2, such as DE"
                    },
                );
            } else if !is_region && !is_same(Country::read(code), code) {
                let hint = match Country::read(code) {
                    Country::Known([first, second]) => format!("write {}{}", char::from(first), char::from(second)),
                    Country::EuropeanUnion => {
                        "list its countries; an event with `EU` is under the GDPR anyway".to_owned()
                    }
                    _ => "write a country as in ISO 3166-1 alpha-2, such as DE".to_owned(),
                };
                self.add(key, format!("`{code}` is no country"), hint);
            }
        }
        set
    }

    fn cmps(&mut self, key: &str, ids: &[u16]) -> Vec<u16> {
        for id in ids.iter().filter(|id| !CMPS.contains(id)) {
            self.add(key, format!("{id} is not an id of a CMP"), "use the ids of IAB Europe's CMP list, 2 to 4095");
        }
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    }

    fn vendor(&mut self, key: &str, id: Option<u16>) -> u16 {
        if id == Some(0) {
            self.add(key, "0 is not a vendor's id", "use your id in the Global Vendor List");
        }
        id.unwrap_or_default()
    }
}

impl ConsentSpec {
    /// Checks the section, and gives the rules to decide by. Adds all errors. `None` if there are any, or if consent is
    /// not checked.
    pub fn compile(&self, errors: &mut Vec<ConfigError>) -> Option<Rules> {
        let before = errors.len();
        let mut errors = Errors(errors);
        let vendor = errors.vendor("vendor_id", self.vendor_id);
        let canada = self.canada.vendor_id.map_or(vendor, |id| errors.vendor("canada.vendor_id", Some(id)));
        if self.enabled && self.vendor_id.is_none() {
            errors.add(
                "vendor_id",
                "it is missing, so no TC string can be checked",
                "set your id in IAB Europe's Global Vendor List",
            );
        }
        if self.enabled && self.without_law.is_none() {
            errors.add(
                "without_law",
                "it is missing: what is permitted where no law applies must be declared",
                "list activities of write, score, emit, measure and train; [] permits nothing",
            );
        }
        for (key, field) in [("country", &self.country), ("region", &self.region)] {
            if field.trim().is_empty() {
                errors.add(key, "it names no field", "name the event's field, or leave it out for the default");
            }
        }
        if !STRINGS.contains(&self.strings_max) {
            let message = format!("{} is not between {} and {}", self.strings_max, STRINGS.start(), STRINGS.end());
            errors.add("strings_max", message, "leave it out for the default");
        }
        let country_default = self.country_default.as_deref().map(|code| {
            errors.codes("country_default", &[code.to_owned()]);
            code.to_owned()
        });
        let tcf_countries = errors.codes("tcf.countries", &self.tcf.countries);
        let canada_countries = errors.codes("canada.countries", &self.canada.countries);
        let us_regions = errors.codes("us.regions", &self.us.regions);
        let purpose_one_exempt_in = errors.codes("tcf.purpose_one_exempt_in", &self.tcf.purpose_one_exempt_in);
        let activities = self.tcf.needs.compile(&mut errors);
        let (cmps, cmps_refused) = self.tcf.check(&mut errors);
        if !self.enabled || errors.0.len() > before {
            return None;
        }
        let set = |activities: &[Activity]| activities.iter().copied().collect::<Permissions>();
        Some(Rules {
            vendor: Vendor { eu: vendor, canada },
            strings_max: self.strings_max,
            country_default,
            without_law: set(self.without_law.as_deref().unwrap_or_default()),
            unknown_law: set(&self.unknown_law),
            forbids: Forbids {
                child: set(&self.forbids.child),
                gpc: set(&self.forbids.gpc),
                lmt: set(&self.forbids.lmt),
            },
            tcf: TcfRules {
                countries: tcf_countries,
                max_age_seconds: i64::try_from(self.tcf.max_age.as_secs()).unwrap_or(i64::MAX),
                policy_versions: self.tcf.policy_versions.iter().fold(0, |set, version| set | 1 << version),
                cmps,
                cmps_refused,
                service_specific_only: self.tcf.service_specific_only,
                disclosed: match self.tcf.disclosed {
                    DisclosedSpec::Always => DisclosedRule { from_policy: 0 },
                    DisclosedSpec::FromPolicy5 => DisclosedRule { from_policy: 5 },
                    DisclosedSpec::IfListed => DisclosedRule { from_policy: u8::MAX },
                },
                purpose_one_exempt_in,
                activities,
            },
            canada: CanadaRules { countries: canada_countries, accept_implied: self.canada.accept_implied },
            us: UsRules {
                regions: us_regions,
                opt_out_forbids: set(&self.us.opt_out_forbids),
                without_string: set(&self.us.without_string),
                sensitive: self.us.sensitive.iter().fold(0, |set, category| set | 1 << *category as u8),
            },
        })
    }
}

impl TcfSpec {
    /// Checks what is no activity. Returns the CMPs that are accepted, and those that are not.
    fn check(&self, errors: &mut Errors<'_>) -> (Vec<u16>, Vec<u16>) {
        if !AGES.contains(&self.max_age) {
            let message = format!("{} is not between 1 day and 10 years", crate::duration::display(self.max_age));
            errors.add("tcf.max_age", message, "leave it out for the default of 13 months");
        }
        if self.policy_versions.is_empty() {
            let hint = "list the versions, or leave it out for the default";
            errors.add("tcf.policy_versions", "without a version, every string is refused", hint);
        }
        for version in self.policy_versions.iter().filter(|version| !(1..64).contains(*version)) {
            let message = format!("{version} is not between 1 and 63");
            errors.add("tcf.policy_versions", message, "4 is TCF 2.2, and 5 is TCF 2.3");
        }
        for id in self.cmps.iter().filter(|id| self.cmps_refused.contains(id)) {
            let message = format!("{id} is also in consent.tcf.cmps_refused");
            errors.add("tcf.cmps", message, "remove it from one of them");
        }
        (errors.cmps("tcf.cmps", &self.cmps), errors.cmps("tcf.cmps_refused", &self.cmps_refused))
    }
}

impl NeedsSpec {
    fn activity(&self, activity: Activity) -> &ActivitySpec {
        match activity {
            Activity::Write => &self.write,
            Activity::Score => &self.score,
            Activity::Emit => &self.emit,
            Activity::Measure => &self.measure,
            Activity::Train => &self.train,
        }
    }

    fn compile(&self, errors: &mut Errors<'_>) -> [ActivityRule; 5] {
        let mut bases: [Option<(Activity, LegalBasisSpec, bool)>; 12] = [None; 12];
        Activity::ALL.map(|activity| {
            let spec = self.activity(activity);
            let key = |part: &str| format!("tcf.needs.{}.{part}", activity.name());
            let mut rule = ActivityRule::default();
            if spec.purposes.is_empty() {
                let hint = "list the purposes, or leave the section out for the default";
                errors.add(&key("purposes"), "without a purpose, nothing would need consent", hint);
            }
            for purpose in spec.purposes.iter().copied() {
                let bit = 1_u16.checked_shl(purpose.into()).unwrap_or(0) & PURPOSES;
                if bit == 0 {
                    errors.add(&key("purposes"), format!("{purpose} is not a purpose"), "purposes are 1 to 11");
                    continue;
                }
                if bit & INTEREST_PURPOSES == 0 {
                    rule.consent |= bit;
                    continue;
                }
                match spec.legal_basis {
                    LegalBasisSpec::Consent => rule.consent |= bit,
                    LegalBasisSpec::LegitimateInterest => rule.interest |= bit,
                }
                rule.flexible |= if spec.flexible { bit } else { 0 };
                let registered = &mut bases[usize::from(purpose)];
                match *registered {
                    None => *registered = Some((activity, spec.legal_basis, spec.flexible)),
                    Some((_, basis, flexible)) if (basis, flexible) == (spec.legal_basis, spec.flexible) => {}
                    Some((other, ..)) => errors.add(
                        &key("legal_basis"),
                        format!("purpose {purpose} has another basis in consent.tcf.needs.{}", other.name()),
                        "a vendor registers one basis for each purpose: use that one",
                    ),
                }
            }
            let has_choice = spec.legal_basis == LegalBasisSpec::LegitimateInterest || spec.flexible;
            if has_choice && rule.interest | rule.flexible == 0 && rule.consent != 0 {
                errors.add(
                    &key("legal_basis"),
                    "all its purposes always need consent",
                    "purposes 1 and 3 to 6 need consent since TCF 2.2; leave out legal_basis and flexible",
                );
            }
            for feature in spec.special_features.iter().copied() {
                match feature {
                    1 | 2 => rule.special_features |= 1 << (feature - 1),
                    _ => {
                        let message = format!("{feature} is not a special feature");
                        let hint = "1 is precise geolocation, and 2 is scanning the device";
                        errors.add(&key("special_features"), message, hint);
                    }
                }
            }
            rule
        })
    }
}
