//! What an event says about consent, as received.

/// The consent signals of one event. An empty string counts as none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signals<'a> {
    /// Whether the GDPR applies (OpenRTB `regs.gdpr`).
    pub gdpr: Option<bool>,
    /// The TC string (OpenRTB `user.consent`).
    pub tc_string: &'a str,
    /// The GPP string (OpenRTB `regs.gpp`).
    pub gpp: &'a str,
    /// The GPP sections that apply (OpenRTB `regs.gpp_sid`).
    pub gpp_sid: SectionIds,
    /// The US privacy string (OpenRTB `regs.us_privacy`).
    pub us_privacy: &'a str,
    /// Global Privacy Control (the header `Sec-GPC`).
    pub gpc: Option<bool>,
    /// Whether the user is a child (OpenRTB `regs.coppa`).
    pub coppa: Option<bool>,
    /// Whether the device limits ad tracking (OpenRTB `device.lmt`).
    pub lmt: Option<bool>,
    /// The user's country: see [`crate::privacy::country`].
    pub country: &'a str,
    /// The user's region within the country, with or without the country: `CA` or `US-CA`.
    pub region: &'a str,
}

/// A set of GPP section ids, such as `regs.gpp_sid`. The sections 3 and 4 say nothing about the user and are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SectionIds(u64);

impl SectionIds {
    /// This id and all above are one: no such section is known.
    pub(super) const OTHER: u32 = 63;
    const NONE_APPLIES: u64 = 1;
    const EU: u64 = 1 << 1 | 1 << 2;
    const CANADA: u64 = 1 << 5;
    /// The sections of the United States, and those that are not known.
    const US: u64 = !0 << 6;

    /// The set of these ids. 0 means that no section applies, and a negative id that this is not known.
    pub fn new(ids: impl IntoIterator<Item = i32>) -> Self {
        let mut set = Self::default();
        for id in ids {
            match u32::try_from(id) {
                Ok(0) => set.0 |= Self::NONE_APPLIES,
                Ok(id) => set.add(id),
                Err(_) => {}
            }
        }
        set
    }

    pub(super) fn add(&mut self, id: u32) {
        if !matches!(id, 3 | 4) {
            self.0 |= 1 << id.min(Self::OTHER);
        }
    }

    /// The set with these bits: bit n is section n, and bit 62 stands for all that are not known.
    pub fn from_bits(bits: u64) -> Self {
        Self::new((0..Self::OTHER as i32).filter(|id| bits >> id & 1 == 1))
    }

    /// Whether a section is in the set.
    pub fn has(self, id: u32) -> bool {
        id > 0 && self.0 >> id.min(Self::OTHER) & 1 == 1
    }

    /// Whether the set names no section.
    pub fn is_empty(self) -> bool {
        self.0 & !Self::NONE_APPLIES == 0
    }

    /// Whether it says that no section applies.
    pub(super) fn says_none(self) -> bool {
        self.is_empty() && self.0 == Self::NONE_APPLIES
    }

    pub(super) fn has_eu(self) -> bool {
        self.0 & Self::EU != 0
    }

    pub(super) fn has_canada(self) -> bool {
        self.0 & Self::CANADA != 0
    }

    pub(super) fn has_tcf(self) -> bool {
        self.has_eu() || self.has_canada()
    }

    pub(super) fn has_us(self) -> bool {
        self.0 & Self::US != 0
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0 & !Self::NONE_APPLIES)
    }

    pub(super) fn bits(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_sorted_by_the_law_that_they_belong_to() {
        let set = SectionIds::new([2, 7, 3, 4, -1]);
        assert!(set.has_eu() && set.has_us() && !set.has_canada() && !set.is_empty() && !set.says_none());
        assert!(set.has(2) && set.has(7) && !set.has(3) && !set.has(8) && !set.has(0));
        assert!(SectionIds::new([5]).has_canada() && SectionIds::new([1]).has_eu());
        let none = SectionIds::new([0]);
        assert!(none.is_empty() && none.says_none());
        assert!(SectionIds::new([-1]).is_empty() && !SectionIds::new([-1]).says_none());
        let far = SectionIds::new([i32::MAX]);
        assert!(far.has_us() && far.has(63) && far.has(1_000) && !far.has(62));
        assert!(SectionIds::new([2, 9, 0]).without(SectionIds::new([9])) == SectionIds::new([2]));
    }
}
