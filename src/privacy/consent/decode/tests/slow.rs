//! A second reader of TC strings.

use super::*;

/// Reads a TC string slowly, straight from its specification.
pub(super) fn slowly(text: &str, vendor: u16) -> Option<TcfFacts> {
    struct Slow(std::vec::IntoIter<bool>);
    impl Slow {
        fn new(text: &str) -> Option<Self> {
            let mut bits = Vec::new();
            for letter in text.chars() {
                let value = match letter {
                    'A'..='Z' => letter as u32 - 'A' as u32,
                    'a'..='z' => letter as u32 - 'a' as u32 + 26,
                    '0'..='9' => letter as u32 - '0' as u32 + 52,
                    '-' => 62,
                    '_' => 63,
                    _ => return None,
                };
                bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
            }
            Some(Self(bits.into_iter()))
        }
        fn int(&mut self, bits: usize) -> Option<u64> {
            (0..bits).try_fold(0, |value, _| Some(value << 1 | u64::from(self.0.next()?)))
        }
        fn set(&mut self, bits: u16) -> Option<BTreeSet<u16>> {
            let mut set = BTreeSet::new();
            for id in 1..=bits {
                if self.0.next()? {
                    set.insert(id);
                }
            }
            Some(set)
        }
        fn ranges(&mut self, vendor: u16) -> Option<bool> {
            let mut has = false;
            for _ in 0..self.int(12)? {
                let is_range = self.int(1)? == 1;
                let first = self.int(16)?;
                let last = if is_range { self.int(16)? } else { first };
                if first == 0 || last < first {
                    return None;
                }
                has = has || (first <= vendor.into() && u64::from(vendor) <= last);
            }
            Some(has)
        }
        fn vendors(&mut self, vendor: u16) -> Option<bool> {
            let max = self.int(16)? as u16;
            if self.int(1)? == 1 { self.ranges(vendor) } else { Some(self.set(max)?.contains(&vendor)) }
        }
        fn letter(&mut self) -> Option<u8> {
            self.int(6).filter(|letter| *letter < 26).map(|letter| letter as u8 + b'A')
        }
        fn is_over(&mut self) -> bool {
            self.0.all(|bit| !bit)
        }
    }
    let mut segments = text.split('.');
    let mut core = Slow::new(segments.next()?)?;
    if core.int(6)? != 2 {
        return None;
    }
    core.int(36)?;
    let last_updated = u32::try_from(core.int(36)? / 10).ok()?;
    let cmp_id = core.int(12)? as u16;
    core.int(18)?;
    core.letter()?;
    core.letter()?;
    let (vendor_list_version, policy_version) = (core.int(12)? as u16, core.int(6)? as u8);
    let is_service_specific = core.int(1)? == 1;
    core.int(1)?;
    let features = core.set(12)?;
    let (consent, interest) = (bits(&core.set(24)?), bits(&core.set(24)?));
    let is_purpose_one_exempt = core.int(1)? == 1;
    let publisher = [core.letter()?, core.letter()?];
    let (has_consent, has_interest) = (core.vendors(vendor)?, core.vendors(vendor)?);
    let (mut only_consent, mut only_interest) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..core.int(12)? {
        let (purpose, kind) = (core.int(6)? as u16, core.int(2)?);
        let is_restricted = core.ranges(vendor)?;
        if !(1..=24).contains(&purpose) {
            return None;
        }
        if is_restricted && matches!(kind, 0 | 1 | 3) {
            only_consent.insert(purpose);
        }
        if is_restricted && matches!(kind, 0 | 2 | 3) {
            only_interest.insert(purpose);
        }
    }
    if !core.is_over() {
        return None;
    }
    let mut disclosed = Disclosed::Unsaid;
    let mut kinds = BTreeSet::new();
    for segment in segments {
        let mut segment = Slow::new(segment)?;
        let kind = segment.int(3)?;
        match kind {
            1 => disclosed = if segment.vendors(vendor)? { Disclosed::Yes } else { Disclosed::No },
            2 => drop(segment.vendors(vendor)?),
            3 => {
                segment.int(48)?;
                let custom = segment.int(6)? as u16;
                segment.set(2 * custom)?;
            }
            _ => return None,
        }
        if !segment.is_over() || !kinds.insert(kind) {
            return None;
        }
    }
    Some(TcfFacts {
        is_canada: false,
        consent,
        interest,
        only_consent: bits(&only_consent),
        only_interest: bits(&only_interest),
        vendor: VendorFacts { has_consent, has_interest, disclosed },
        special_features: (bits(&features) >> 1 & 3) as u8,
        is_purpose_one_exempt,
        is_service_specific,
        publisher,
        id: StringId { last_updated, cmp_id, vendor_list_version, policy_version },
    })
}
