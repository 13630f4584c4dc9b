//! What consent strings say, reduced to the bits that the rules need, and the stricter of two such statements.
//!
//! Facts do not depend on the rules, except for the vendor's id: a changed rule applies to remembered facts as well.
//!
//! [`Meet::meet`] combines two statements that are equally new. It is commutative, associative and idempotent, and its
//! result never grants more than either side: consent needs both, an opt-out one.

use super::{Reason, SensitiveCategory};

/// Combines two statements about the same thing into the stricter one.
pub(super) trait Meet {
    /// The stricter of two statements.
    #[must_use]
    fn meet(self, other: Self) -> Self;
}

/// What a kind of string says: nothing, nothing readable, or facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Said<T> {
    /// There is no string.
    #[default]
    Nothing,
    /// The string is unusable, for this reason.
    Bad(Reason),
    /// What it says.
    Facts(T),
}

impl<T> Said<T> {
    pub(super) fn from_result(result: Result<T, Reason>) -> Self {
        match result {
            Ok(facts) => Self::Facts(facts),
            Err(reason) => Self::Bad(reason),
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

impl<T: Meet> Meet for Said<T> {
    fn meet(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, it) | (it, Self::Nothing) => it,
            (Self::Bad(one), Self::Bad(two)) => Self::Bad(one.min(two)),
            (Self::Bad(reason), _) | (_, Self::Bad(reason)) => Self::Bad(reason),
            (Self::Facts(one), Self::Facts(two)) => Self::Facts(one.meet(two)),
        }
    }
}

/// For flags where yes restricts: a yes is stricter than a no, and a no is stricter than silence.
impl Meet for Option<bool> {
    fn meet(self, other: Self) -> Self {
        self.max(other)
    }
}

/// Whether a vendor was disclosed to the user, strictest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Disclosed {
    /// The string lists the disclosed vendors without this one.
    No,
    /// The string has no such list.
    Unsaid,
    /// The string lists this vendor.
    Yes,
}

/// Which string it was. Ordered by its last update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StringId {
    /// In seconds since 1970.
    pub(super) last_updated: u32,
    pub(super) cmp_id: u16,
    pub(super) vendor_list_version: u16,
    pub(super) policy_version: u8,
}

/// What a TC string says of the vendor itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VendorFacts {
    /// Whether the user consents to the vendor.
    pub(super) has_consent: bool,
    /// Whether the vendor may claim legitimate interest.
    pub(super) has_interest: bool,
    pub(super) disclosed: Disclosed,
}

impl Meet for VendorFacts {
    fn meet(self, other: Self) -> Self {
        Self {
            has_consent: self.has_consent & other.has_consent,
            has_interest: self.has_interest & other.has_interest,
            disclosed: self.disclosed.min(other.disclosed),
        }
    }
}

/// What a TC string says about one vendor. In sets of purposes, bit n is purpose n, from 1 to 11.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcfFacts {
    /// Whether it is a string of the Canadian framework. Consent is then express, and interest implied consent.
    pub(super) is_canada: bool,
    /// The purposes that the user consents to.
    pub(super) consent: u16,
    /// The purposes for which legitimate interest was shown and not objected to.
    pub(super) interest: u16,
    /// The purposes that the publisher allows only with consent. A purpose in both sets is not allowed at all.
    pub(super) only_consent: u16,
    /// The purposes that the publisher allows only with legitimate interest.
    pub(super) only_interest: u16,
    pub(super) vendor: VendorFacts,
    /// The special features that the user opts in to: bit 0 is feature 1, bit 1 is feature 2.
    pub(super) special_features: u8,
    /// Whether the publisher's country needs no consent for purpose 1, so that it was not asked for.
    pub(super) is_purpose_one_exempt: bool,
    pub(super) is_service_specific: bool,
    /// The publisher's country, two capital letters.
    pub(super) publisher: [u8; 2],
    pub(super) id: StringId,
}

impl Meet for TcfFacts {
    fn meet(self, other: Self) -> Self {
        // Facts of different frameworks have nothing in common. The European one is kept, so that Canadian law finds no
        // string and refuses.
        match (self.is_canada, other.is_canada) {
            (false, true) => return self,
            (true, false) => return other,
            _ => {}
        }
        Self {
            is_canada: self.is_canada,
            consent: self.consent & other.consent,
            interest: self.interest & other.interest,
            only_consent: self.only_consent | other.only_consent,
            only_interest: self.only_interest | other.only_interest,
            vendor: self.vendor.meet(other.vendor),
            special_features: self.special_features & other.special_features,
            is_purpose_one_exempt: self.is_purpose_one_exempt & other.is_purpose_one_exempt,
            is_service_specific: self.is_service_specific & other.is_service_specific,
            publisher: self.publisher.min(other.publisher),
            id: self.id.min(other.id),
        }
    }
}

/// What the sections for the United States say together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct UsFacts {
    /// The first section that was read: 6 for the US privacy string, 7 for `usnat`, and so on; 0 for none.
    pub(super) section: u8,
    /// The [`UsFlag`]s that are set.
    pub(super) flags: u8,
    /// The sensitive categories for which the user has not given a yes, by [`SensitiveCategory`].
    pub(super) refused_categories: u16,
}

/// Something that restricts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsFlag {
    SaleOptOut = 0,
    SharingOptOut = 1,
    TargetedAdvertisingOptOut = 2,
    NoticeMissing = 3,
    PersonalDataRefused = 4,
    KnownChild = 5,
    Gpc = 6,
}

impl UsFacts {
    /// The flags that are an opt-out or count as one, in the order in which they are given as a reason.
    pub(super) const OPT_OUTS: [(UsFlag, Reason); 5] = [
        (UsFlag::SaleOptOut, Reason::SaleOptOut),
        (UsFlag::SharingOptOut, Reason::SharingOptOut),
        (UsFlag::TargetedAdvertisingOptOut, Reason::TargetedAdvertisingOptOut),
        (UsFlag::NoticeMissing, Reason::NoticeMissing),
        (UsFlag::PersonalDataRefused, Reason::PersonalDataRefused),
    ];

    pub(super) fn has(self, flag: UsFlag) -> bool {
        self.flags >> flag as u8 & 1 == 1
    }

    pub(super) fn set(&mut self, flag: UsFlag, is_set: bool) {
        self.flags |= u8::from(is_set) << flag as u8;
    }

    pub(super) fn refuse(&mut self, category: SensitiveCategory, is_refused: bool) {
        self.refused_categories |= u16::from(is_refused) << category as u8;
    }
}

impl Meet for UsFacts {
    fn meet(self, other: Self) -> Self {
        Self {
            section: match (self.section, other.section) {
                (0, section) | (section, 0) => section,
                (one, two) => one.min(two),
            },
            flags: self.flags | other.flags,
            refused_categories: self.refused_categories | other.refused_categories,
        }
    }
}
