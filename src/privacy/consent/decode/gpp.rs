//! Reads GPP strings: the header, and the sections that apply.
//!
//! The header is read here, because `iab_gpp` 0.1.2 adds up its section ids wrongly from the third on (2, 7, 8 become 2,
//! 7, 6), can overflow, and refuses a whole string for one section that it does not know.
//!
//! Guarantees: a section that applies is bad if it is missing, unknown or malformed. If the header is malformed, every
//! section is bad. Sections that do not apply are not read.

use super::{Bits, Reading, Reason, Said, SectionIds, Tcf, Vendor, tcf, us};
use crate::privacy::consent::facts::Meet;

/// The most sections that a header may name. Fewer than 30 are registered.
const SECTIONS_MAX: usize = 64;

const HEADER_TYPE: u64 = 3;
const HEADER_VERSION: u64 = 1;

/// The sections that carry nothing about the user: the header and the signal integrity section.
const TECHNICAL: [u32; 2] = [3, 4];

/// Reads the sections that apply; all of them if none are named.
pub(super) fn read(text: &str, sections: SectionIds, vendor: Vendor) -> Reading {
    let mut parts = text.split('~');
    let ids = match header(parts.next().unwrap_or_default()) {
        Ok(ids) if ids.len() == parts.clone().count() => ids,
        Ok(_) => return bad(sections, Reason::StringMalformed),
        Err(reason) => return bad(sections, reason),
    };
    let mut reading = Reading::default();
    let mut found = SectionIds::default();
    for (id, part) in ids.into_iter().zip(parts) {
        if TECHNICAL.contains(&id) || !(sections.is_empty() || sections.has(id)) {
            continue;
        }
        if found.has(id) && id < SectionIds::OTHER {
            return bad(sections, Reason::StringMalformed);
        }
        found.add(id);
        reading = meet(reading, section(id, part, vendor));
    }
    let missing = sections.without(found);
    if missing.is_empty() { reading } else { meet(reading, bad(missing, Reason::SectionMissing)) }
}

/// A reading that is bad for all of these sections; for both kinds if none are named.
pub(super) fn bad(sections: SectionIds, reason: Reason) -> Reading {
    let bad = |is_concerned: bool| is_concerned || sections.is_empty();
    Reading {
        tcf: if bad(sections.has_tcf()) { Said::Bad(reason) } else { Said::Nothing },
        us: if bad(sections.has_us()) { Said::Bad(reason) } else { Said::Nothing },
    }
}

fn meet(one: Reading, two: Reading) -> Reading {
    Reading { tcf: one.tcf.meet(two.tcf), us: one.us.meet(two.us) }
}

fn section(id: u32, text: &str, vendor: Vendor) -> Reading {
    let (mut tcf, mut us) = (Said::Nothing, Said::Nothing);
    match id {
        // The first version of TCF.
        1 => tcf = Said::Bad(Reason::StringVersion),
        2 => tcf = Said::from_result(tcf::read(text, Tcf::Eu, vendor.eu)),
        5 => tcf = Said::from_result(tcf::read(text, Tcf::Canada, vendor.canada)),
        6 => us = us::privacy_string(text),
        _ => us = Said::from_result(us::read(id, text)),
    }
    Reading { tcf, us }
}

/// The section ids in a header, in order.
fn header(text: &str) -> Result<Vec<u32>, Reason> {
    let malformed = Reason::StringMalformed;
    let mut bits = Bits::new(text).ok_or(malformed)?;
    let kind = bits.read(6).ok_or(malformed)?;
    let version = bits.read(6).ok_or(malformed)?;
    if kind != HEADER_TYPE {
        return Err(malformed);
    }
    if version != HEADER_VERSION {
        return Err(Reason::StringVersion);
    }
    ids(&mut bits).filter(|_| bits.is_padding()).ok_or(malformed)
}

/// A range of numbers in Fibonacci code: each number, or the ends of a range, as the distance from the one before.
fn ids(bits: &mut Bits<'_>) -> Option<Vec<u32>> {
    let mut ids = Vec::new();
    let mut last = 0_u32;
    for _ in 0..bits.read(12)? {
        let is_range = bits.flag()?;
        let start = last.checked_add(fibonacci(bits)?)?;
        let end = if is_range { start.checked_add(fibonacci(bits)?)? } else { start };
        if (end - start) as usize >= SECTIONS_MAX - ids.len() {
            return None;
        }
        ids.extend(start..=end);
        last = end;
    }
    Some(ids)
}

/// A number in Fibonacci code: a sum of Fibonacci numbers, lowest first, ended by two ones.
fn fibonacci(bits: &mut Bits<'_>) -> Option<u32> {
    let (mut term, mut next, mut sum) = (1_u32, 2_u32, 0_u32);
    let mut was_one = false;
    loop {
        let is_one = bits.flag()?;
        if is_one && was_one {
            return Some(sum);
        }
        if is_one {
            sum = sum.checked_add(term)?;
        }
        was_one = is_one;
        (term, next) = (next, term.checked_add(next)?);
    }
}
