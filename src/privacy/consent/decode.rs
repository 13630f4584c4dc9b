//! Decodes consent strings into facts.
//!
//! Owns the bounds: a string over [`STRING_BYTES_MAX`] is not read. The frameworks' formats are in the modules below.
//! Results depend only on the string, the sections that apply and the vendor's id, so they can be cached.

mod bits;
mod gpp;
mod tcf;
mod us;

use super::facts::{Said, TcfFacts, UsFacts};
use super::{Reason, SectionIds};
use bits::Bits;
pub(super) use tcf::{PURPOSES, Tcf};

/// The longest string that is read. A TC string with a bit for each of 10,000 vendors, twice, has 3,400 bytes; the
/// vendor list has fewer than 1,500 entries.
pub(super) const STRING_BYTES_MAX: usize = 16 << 10;

/// What a string says, as far as it applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// From a TC string, or from GPP section 2 or 5.
    pub(super) tcf: Said<TcfFacts>,
    /// From the GPP sections for the United States, or the US privacy string.
    pub(super) us: Said<UsFacts>,
}

/// The ids by which a vendor is known in TC strings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vendor {
    pub(super) eu: u16,
    pub(super) canada: u16,
}

/// Reads a TC string of the European framework.
pub(super) fn tc_string(text: &str, vendor: Vendor) -> Reading {
    let tcf = if text.len() > STRING_BYTES_MAX {
        Said::Bad(Reason::StringTooLong)
    } else {
        Said::from_result(tcf::read(text, Tcf::Eu, vendor.eu))
    };
    Reading { tcf, us: Said::Nothing }
}

/// Reads the sections of a GPP string that apply; all of them if none are named.
pub(super) fn gpp(text: &str, sections: SectionIds, vendor: Vendor) -> Reading {
    if text.len() > STRING_BYTES_MAX {
        return gpp::bad(sections, Reason::StringTooLong);
    }
    gpp::read(text, sections, vendor)
}

/// Reads a US privacy string. It says nothing if it says that the law does not apply.
pub(super) fn us_privacy(text: &str) -> Said<UsFacts> {
    us::privacy_string(text)
}

#[cfg(test)]
mod tests;
