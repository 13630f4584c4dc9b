//! A transaction as a trace: how long it was open, what it contained, and links to its senders' traces.
//!
//! A decision carries the `traceparent` of its record unchanged, so that its reader continues the sender's trace. All events of a
//! transaction share the processing in between: it is one trace of its own, with links to theirs.

use super::Stage;
use crate::{event::EventTime, hex};
use std::time::Duration;

/// How many senders' traces one transaction links to.
const LINKS_MAX: usize = 32;

/// One transaction from its first record until its outputs were visible.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    /// When its outputs became visible, by this machine's clock.
    pub visible_at: EventTime,
    /// How long before that its first record was taken.
    pub open: Duration,
    /// How long before that its commit began.
    pub commit: Duration,
    /// How many events it contained.
    pub events: u64,
    /// How many decisions it wrote.
    pub decisions: u64,
    /// How many records it set aside.
    pub dead_letters: u64,
    /// Elapsed time by stage.
    pub stages: [Duration; Stage::ALL.len()],
    /// The `traceparent` of the first few records whose senders sampled their traces.
    pub links: Vec<String>,
}

impl Trace {
    /// Adds a link to a record's trace, if it is sampled and there is room.
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

/// A parsed W3C `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace's id.
    pub trace: [u8; 16],
    /// The parent span's id.
    pub span: [u8; 8],
    /// Whether the sender sampled the trace.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Parses `version-trace-span-flags` in lower-case hexadecimal (<https://www.w3.org/TR/trace-context/>): later versions may
    /// append fields, and an id of zeros is invalid.
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
    fn links_lead_to_sampled_traces_and_are_few() {
        let mut it = Trace::default();
        it.link(SAMPLED.replace("-01", "-00").as_bytes());
        it.link(&[0xff]);
        it.link(SAMPLED.as_bytes());
        it.link(SAMPLED.as_bytes());
        assert_eq!(it.links, [SAMPLED], "a repeated link adds nothing");
        for number in 0..100_u8 {
            it.link(SAMPLED.replace("4736", &format!("47{number:02x}")).as_bytes());
        }
        assert_eq!(it.links.len(), LINKS_MAX);
    }
}
