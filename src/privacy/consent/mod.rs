//! The consent gate: what may be done with a user's data at an event, and why.
//!
//! ```text
//! Signals (of the event) ──► Cache ──► Reading ─┐
//!                              │ miss           ├─► Effective ─► Rules ─► Verdict: Permissions and Basis
//!                              └─► decode       │
//! RememberedConsent (of the user) ──────────────┘
//! ```
//!
//! Owns the frameworks (TCF of IAB Europe and IAB Canada, GPP with the sections for the United States, the US privacy
//! string), the rules of `[consent]`, and what is remembered of a user's consent events. Acting on a [`Verdict`] is up
//! to the caller: without `write` nothing of the event may stay in the user's state but the consent itself.
//!
//! Guarantees:
//! - A verdict depends only on the rules, the event's signals, the remembered consent and the event's time. There is no
//!   clock, and the cache changes no answer.
//! - Under a law, a string that is missing, malformed, too old or of an unknown version permits nothing.
//! - No string panics or takes more than linear time, and no string over 16 KiB is read.
//!
//! Where the frameworks leave a choice, the stricter one is taken:
//! - A law applies if any signal says so: `gdpr = 0` from Germany is still the GDPR.
//! - Without `gpp_sid`, all sections of a GPP string count.
//! - Where no law applies, the declared activities are permitted, and it must be declared which. Where it is unknown
//!   whether a law applies, or where a law of the United States applies and there is no string, nothing is permitted
//!   unless it is declared.
//! - A user who opts out in the United States may still be measured. Nothing else is permitted.
//! - An event's own string that is older than the remembered one permits only what both do, so that a late event does
//!   not undo a withdrawal.
//! - A consent event that cannot be read is remembered as a refusal: the choice has changed, and is not known.
//! - Emitting needs purpose 4 and not 2, because decisions carry segments.
//!
//! Left out on purpose: which purposes a vendor has registered (the vendor list is not read, the configuration says it),
//! proof of a platform's registration, and the publisher's own purposes.

mod activity;
mod basis;
mod cache;
mod decode;
mod facts;
mod remembered;
mod rules;
mod signals;
mod spec;

pub use activity::{Activity, Permissions};
pub use basis::{Basis, Framework, LegalBasis, Reason, Verdict};
pub use remembered::{ConsentSource, RememberedConsent};
pub use rules::Rules;
pub use signals::{SectionIds, Signals};
pub use spec::{
    ActivitySpec, CanadaSpec, ConsentSpec, DisclosedSpec, ForbidsSpec, LegalBasisSpec, NeedsSpec, SensitiveCategory,
    TcfSpec, UsSpec,
};

use cache::{Cache, Key};
use decode::Reading;
use facts::Meet;
use remembered::effective;

/// How often strings were found in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StringCounts {
    /// Strings that had been read before.
    pub hits: u64,
    /// Strings that were read.
    pub misses: u64,
}

/// Decides what is permitted. Each worker has its own.
#[derive(Clone, Debug)]
pub struct ConsentGate {
    rules: Rules,
    cache: Cache,
    counts: StringCounts,
}

impl ConsentGate {
    /// A gate with these rules and an empty cache.
    pub fn new(rules: Rules) -> Self {
        let cache = Cache::new(rules.strings_max);
        Self { rules, cache, counts: StringCounts::default() }
    }

    /// What is permitted for an event at this time, in microseconds since 1970. Allocates only to read a new string.
    pub fn decide(&mut self, signals: &Signals<'_>, remembered: &RememberedConsent, at: i64) -> Verdict {
        let own = self.read(signals);
        let known = effective(signals, &own, remembered, at);
        self.rules.judge(&known, (signals.country, signals.region), at)
    }

    /// What a consent event at this time says by itself. Merge it into the user's [`RememberedConsent`] before the event
    /// is decided on.
    pub fn observe(&mut self, signals: &Signals<'_>, at: i64) -> RememberedConsent {
        let own = self.read(signals);
        RememberedConsent::of(signals, &own, at)
    }

    /// How often strings were found in the cache, since the gate was made.
    pub fn counts(&self) -> StringCounts {
        self.counts
    }

    fn read(&mut self, signals: &Signals<'_>) -> Reading {
        let vendor = self.rules.vendor;
        let mut reading = Reading::default();
        if !signals.tc_string.is_empty() {
            let text = signals.tc_string;
            reading = self.lookup(Key::Tc(text), text, || decode::tc_string(text, vendor));
        }
        if !signals.gpp.is_empty() {
            let (text, sections) = (signals.gpp, signals.gpp_sid);
            let gpp = self.lookup(Key::Gpp(text, sections), text, || decode::gpp(text, sections, vendor));
            reading = Reading { tcf: reading.tcf.meet(gpp.tcf), us: gpp.us };
        }
        if !signals.us_privacy.is_empty() {
            reading.us = reading.us.meet(decode::us_privacy(signals.us_privacy));
        }
        reading
    }

    fn lookup(&mut self, key: Key<'_>, text: &str, read: impl FnOnce() -> Reading) -> Reading {
        if text.len() > decode::STRING_BYTES_MAX {
            return read();
        }
        let (reading, is_hit) = self.cache.get(key, read);
        self.counts.hits += u64::from(is_hit);
        self.counts.misses += u64::from(!is_hit);
        reading
    }
}

#[cfg(test)]
mod tests;
