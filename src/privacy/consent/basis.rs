//! Why something is permitted or refused: the basis that a decision carries.
//!
//! Everything here is a closed set with a fixed number, so that a basis fits two words and its names can be labels of a
//! metric. Numbers are stored and sent, so they never change; new ones are added at the end.

use super::{Activity, Permissions};

/// Declares an enum whose numbers are stored, with its names.
macro_rules! numbered {
    ($(#[$head:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$head])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$doc])* $variant = $number,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The name in decisions and labels.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The one with this number.
            pub fn from_number(number: u64) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

numbered! {
    /// The framework that a verdict rests on.
    Framework {
        /// No law applies, so the declared policy holds.
        Declared = 0 "declared",
        /// It is unknown whether a law applies.
        Unknown = 1 "unknown",
        /// IAB Europe's Transparency and Consent Framework, version 2.
        TcfEu = 2 "tcf_eu",
        /// IAB Canada's Transparency and Consent Framework, version 1.
        TcfCanada = 3 "tcf_canada",
        /// The national section for the United States, `usnat`.
        UsNational = 4 "us_national",
        /// A section for a single state, such as `usca`.
        UsState = 5 "us_state",
        /// The older US privacy string.
        UsPrivacy = 6 "us_privacy",
        /// A law of the United States applies, and there is no readable string.
        UsUnsignalled = 7 "us_unsignalled",
    }
}

numbered! {
    /// The legal basis of what is permitted.
    LegalBasis {
        /// Nothing is permitted.
        Nothing = 0 "none",
        /// The user's consent; in Canada, express consent.
        Consent = 1 "consent",
        /// Legitimate interest, to which the user has not objected.
        LegitimateInterest = 2 "legitimate_interest",
        /// Consent for some purposes and legitimate interest for others.
        ConsentAndLegitimateInterest = 3 "consent_and_legitimate_interest",
        /// The user has not opted out.
        NoOptOut = 4 "no_opt_out",
        /// No law applies, or it is unknown, and the configuration permits it.
        Declared = 5 "declared",
        /// Implied consent, at least in part (Canada).
        ImpliedConsent = 6 "implied_consent",
    }
}

numbered! {
    /// Why an activity is permitted or refused. If there are several reasons, the first that was found counts.
    Reason {
        /// It is permitted.
        Granted = 0 "granted",
        /// No law applies, and the declared policy does not include it.
        NotDeclared = 1 "not_declared",
        /// It is unknown whether a law applies.
        UnknownLaw = 2 "unknown_law",
        /// A law applies and there is no string.
        StringMissing = 3 "string_missing",
        /// The string cannot be read.
        StringMalformed = 4 "string_malformed",
        /// The string is longer than any honest one.
        StringTooLong = 5 "string_too_long",
        /// The string has a version that is not read.
        StringVersion = 6 "string_version",
        /// The section that applies is not in the string.
        SectionMissing = 7 "section_missing",
        /// The section that applies is not known.
        SectionUnknown = 8 "section_unknown",
        /// The string is too old.
        Expired = 9 "expired",
        /// The string is from the future.
        FromFuture = 10 "from_future",
        /// The string follows a version of the policies that is not accepted.
        PolicyVersion = 11 "policy_version",
        /// The consent management platform is not accepted.
        Cmp = 12 "cmp",
        /// The string has global scope, which is no longer valid.
        GlobalScope = 13 "global_scope",
        /// The vendor was not disclosed to the user.
        VendorNotDisclosed = 14 "vendor_not_disclosed",
        /// The user refuses the vendor.
        VendorRefused = 15 "vendor_refused",
        /// The user refuses a purpose.
        PurposeRefused = 16 "purpose_refused",
        /// The publisher restricts a purpose.
        PublisherRestriction = 17 "publisher_restriction",
        /// The user has not opted in to a special feature.
        SpecialFeature = 18 "special_feature",
        /// The user has opted out of the sale of data.
        SaleOptOut = 19 "sale_opt_out",
        /// The user has opted out of the sharing of data.
        SharingOptOut = 20 "sharing_opt_out",
        /// The user has opted out of targeted advertising.
        TargetedAdvertisingOptOut = 21 "targeted_advertising_opt_out",
        /// The user was not told about the right to opt out.
        NoticeMissing = 22 "notice_missing",
        /// The user refuses further use of personal data.
        PersonalDataRefused = 23 "personal_data_refused",
        /// The user does not permit a declared category of sensitive data.
        SensitiveData = 24 "sensitive_data",
        /// The string says that the user is a child.
        KnownChild = 25 "known_child",
        /// The event says that the user is a child.
        Coppa = 26 "coppa",
        /// Global Privacy Control.
        Gpc = 27 "gpc",
        /// The device limits ad tracking.
        Lmt = 28 "lmt",
    }
}

// A basis has five bits for each reason.
const _: () = assert!(Reason::ALL.len() <= 32);

impl Reason {
    /// The reason of a suppressed decision: `no_consent`, `opted_out` or `child`. `None` if it is permitted.
    pub fn suppression(self) -> Option<&'static str> {
        match self {
            Self::Granted => None,
            Self::KnownChild | Self::Coppa => Some("child"),
            Self::SaleOptOut
            | Self::SharingOptOut
            | Self::TargetedAdvertisingOptOut
            | Self::PersonalDataRefused
            | Self::Gpc
            | Self::Lmt => Some("opted_out"),
            _ => Some("no_consent"),
        }
    }
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Basis {
    /// The framework. If several laws apply, the first in the order of [`Framework`].
    pub framework: Framework,
    /// The GPP section that was read, such as 7 for `usnat`; 0 without one.
    pub section: u8,
    /// The legal basis of what is permitted.
    pub legal_basis: LegalBasis,
    /// Why each activity is permitted or refused, in the order of [`Activity::ALL`].
    pub reasons: [Reason; 5],
    /// Whether the answer rests on an earlier consent event instead of the event's own signals, at least in part.
    pub is_remembered: bool,
    /// Whether address, ids and place must be reduced, because the device limits ad tracking.
    pub is_limited: bool,
    /// When the TC string was last updated, in seconds since 1970; 0 without one.
    pub last_updated: u32,
    /// The consent management platform of the TC string; 0 without one.
    pub cmp_id: u16,
    /// The version of the vendor list of the TC string; 0 without one.
    pub vendor_list_version: u16,
    /// The version of the policies of the TC string; 0 without one.
    pub policy_version: u8,
}

impl Basis {
    /// The number of words of an encoded basis.
    pub const WORDS: usize = 2;

    /// The activities whose reason is [`Reason::Granted`].
    pub fn permissions(&self) -> Permissions {
        Activity::ALL.into_iter().filter(|activity| self.reason(*activity) == Reason::Granted).collect()
    }

    /// Why an activity is permitted or refused.
    pub fn reason(&self, activity: Activity) -> Reason {
        self.reasons[activity as usize]
    }

    /// The basis in two words.
    pub fn encode(&self) -> [u64; Self::WORDS] {
        let first = u64::from(self.last_updated) << 32
            | u64::from(self.cmp_id & 0xfff) << 20
            | u64::from(self.vendor_list_version & 0xfff) << 8
            | u64::from(self.policy_version & 0x3f) << 2
            | u64::from(self.is_remembered) << 1
            | u64::from(self.is_limited);
        let reasons = self.reasons.iter().rev().fold(0, |word, reason| word << 5 | *reason as u64);
        let second = reasons << 13
            | (self.legal_basis as u64) << 10
            | u64::from(self.section & 0x3f) << 4
            | self.framework as u64;
        [first, second]
    }

    /// The basis in these words; `None` if they are none.
    pub fn decode([first, second]: [u64; Self::WORDS]) -> Option<Self> {
        if second >> 38 != 0 {
            return None;
        }
        let mut reasons = [Reason::Granted; 5];
        for (at, reason) in reasons.iter_mut().enumerate() {
            *reason = Reason::from_number(second >> (13 + 5 * at) & 0x1f)?;
        }
        Some(Self {
            framework: Framework::from_number(second & 0xf)?,
            section: (second >> 4 & 0x3f) as u8,
            legal_basis: LegalBasis::from_number(second >> 10 & 7)?,
            reasons,
            is_remembered: first >> 1 & 1 == 1,
            is_limited: first & 1 == 1,
            last_updated: (first >> 32) as u32,
            cmp_id: (first >> 20 & 0xfff) as u16,
            vendor_list_version: (first >> 8 & 0xfff) as u16,
            policy_version: (first >> 2 & 0x3f) as u8,
        })
    }
}

/// What is permitted for one event, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What is permitted.
    pub permissions: Permissions,
    /// What this rests on.
    pub basis: Basis,
}

impl Verdict {
    /// The one that takes the most bytes in a decision.
    pub const LONGEST: Self = Self {
        permissions: Permissions::NONE,
        basis: Basis {
            framework: Framework::UsUnsignalled,
            section: u8::MAX,
            legal_basis: LegalBasis::ConsentAndLegitimateInterest,
            reasons: [Reason::TargetedAdvertisingOptOut; 5],
            is_remembered: true,
            is_limited: true,
            last_updated: u32::MAX,
            cmp_id: u16::MAX,
            vendor_list_version: u16::MAX,
            policy_version: u8::MAX,
        },
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_and_names_are_unique_and_found_again() {
        let mut names = BTreeSet::new();
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(Reason::from_number(number as u64), Some(*reason));
            assert!(names.insert(reason.name()), "{reason:?}");
            assert_eq!(reason.suppression().is_none(), *reason == Reason::Granted);
        }
        for (number, framework) in Framework::ALL.iter().enumerate() {
            assert_eq!(Framework::from_number(number as u64), Some(*framework));
        }
        for (number, legal_basis) in LegalBasis::ALL.iter().enumerate() {
            assert_eq!(LegalBasis::from_number(number as u64), Some(*legal_basis));
        }
        assert_eq!(Reason::from_number(29), None);
    }

    fn any_basis() -> impl Strategy<Value = Basis> {
        let numbers = (any::<u32>(), 0..4096_u16, 0..4096_u16, 0..64_u8, 0..64_u8);
        let reasons = prop::array::uniform5(prop::sample::select(Reason::ALL));
        let kinds = (prop::sample::select(Framework::ALL), prop::sample::select(LegalBasis::ALL));
        (kinds, reasons, any::<(bool, bool)>(), numbers).prop_map(
            |(
                (framework, legal_basis),
                reasons,
                (is_remembered, is_limited),
                (updated, cmp, list, policy, section),
            )| {
                Basis {
                    framework,
                    section,
                    legal_basis,
                    reasons,
                    is_remembered,
                    is_limited,
                    last_updated: updated,
                    cmp_id: cmp,
                    vendor_list_version: list,
                    policy_version: policy,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_basis_comes_back_from_its_words(basis in any_basis()) {
            prop_assert_eq!(Basis::decode(basis.encode()), Some(basis));
        }

        #[test]
        fn words_from_outside_are_a_basis_with_the_same_words_or_none(words in any::<[u64; 2]>(), cut in 0..64_u32) {
            let words = [words[0], words[1] >> cut];
            if let Some(basis) = Basis::decode(words) {
                prop_assert_eq!(basis.encode(), words);
            }
        }
    }
}
