//! One transaction as a trace: how long it was open, what it held, and the traces of those who sent its records.
//!
//! A decision carries its record's `traceparent` on as it came, so a reader goes on with the sender's trace. What happened in
//! between is the same for all events of a transaction: it is told once, as a trace of its own that is linked to theirs.

use super::Stage;
use crate::{event::EventTime, hex};
use std::time::Duration;

/// How many senders' traces one transaction is linked to.
const LINKS_MAX: usize = 32;

/// One transaction from its first record until its outputs were visible, for who collects traces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// When it became visible, by this machine's clock.
    pub visible_at: EventTime,
    /// How long before that its first record was taken.
    pub open: Duration,
    /// How long before that its commit began.
    pub commit: Duration,
    /// How many events it held.
    pub events: u64,
    /// How many decisions.
    pub decisions: u64,
    /// How many records it set aside.
    pub dead_letters: u64,
    /// The time spent by stage.
    pub stages: [Duration; Stage::ALL.len()],
    /// The `traceparent` of its records whose senders recorded theirs, the first few.
    pub links: Vec<String>,
}

impl Trace {
    /// Takes a record's `traceparent` for a link, where its sender recorded the trace and there is room.
    pub fn link(&mut self, traceparent: &[u8]) {
        if self.links.len() < LINKS_MAX
            && let Ok(text) = std::str::from_utf8(traceparent)
            && TraceParent::parse(text).is_some_and(|it| it.is_sampled)
            && self.links.last().is_none_or(|last| last != text)
        {
            self.links.push(text.to_owned());
        }
    }
}

/// A W3C `traceparent`, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span in it.
    pub span: [u8; 8],
    /// Whether the caller recorded it.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads `version-trace-span-flags` in lower-case hexadecimal, as <https://www.w3.org/TR/trace-context/> says: later
    /// versions may add to the end, and an id of zeros is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let (version, flags) = (hex::decode::<1>(version)?, hex::decode::<1>(flags)?);
        let (trace, span) = (hex::decode::<16>(trace)?, hex::decode::<8>(span)?);
        let is_known = version == [0] && parts.next().is_none() || (1..0xff).contains(&version[0]);
        let is_some = trace != [0; 16] && span != [0; 8];
        (is_known && is_some).then_some(Self { trace, span, is_sampled: flags[0] & 1 == 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_as_the_standard_says() {
        let read = TraceParent::parse(SAMPLED).expect("the standard's own example");
        assert_eq!((read.trace[..2].to_vec(), read.span[7], read.is_sampled), (vec![0x4b, 0xf9], 0xb7, true));
        assert!(TraceParent::parse(&SAMPLED.replace("-01", "-00")).is_some_and(|it| !it.is_sampled));
        assert!(TraceParent::parse(&format!("cc{}-more", &SAMPLED[2..])).is_some(), "a later version");
        for wrong in [
            "",
            "00-1-2-01",
            &SAMPLED.to_uppercase(),
            &SAMPLED.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &SAMPLED.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &SAMPLED.replacen("00", "ff", 1),
            &format!("{SAMPLED}-more"),
            &SAMPLED.replace("4bf9", "+bf9"),
        ] {
            assert_eq!(TraceParent::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn links_are_those_of_recorded_traces_and_few() {
        let mut it = Trace::default();
        it.link(SAMPLED.replace("-01", "-00").as_bytes());
        it.link(&[0xff]);
        it.link(SAMPLED.as_bytes());
        it.link(SAMPLED.as_bytes());
        assert_eq!(it.links, [SAMPLED], "one that is the same as the last adds nothing");
        for number in 0..100_u8 {
            it.link(SAMPLED.replace("4736", &format!("47{number:02x}")).as_bytes());
        }
        assert_eq!(it.links.len(), LINKS_MAX);
    }
}
