//! Whether a client still knows a broker, and what to do if it does not.
//!
//! A broker that has just come back, or is cut off from its controller, may answer a request for metadata with topics but
//! without brokers. librdkafka 2.12 then drops every broker that it knows, the configured ones included, and never connects
//! again (its issue 5301). So whoever polls a client names the configured brokers again once its statistics list none, and
//! whoever only asks does so after each failure.

#![expect(unsafe_code, reason = "the client library has no other way to name brokers to a client that runs")]

use crate::logging;
use rdkafka::{ClientContext, bindings, client::Client, statistics::Statistics};
use std::{
    ffi::CString,
    sync::atomic::{AtomicBool, Ordering},
};

/// The sources of brokers that a client can connect to.
const REAL: [&str; 2] = ["configured", "learned"];

/// The brokers of the configuration, and whether the client still knows any.
#[derive(Debug)]
pub(crate) struct KnownBrokers {
    /// `bootstrap.servers`. Empty if it cannot be passed to the client, which then could not be made either.
    configured: CString,
    are_gone: AtomicBool,
}

impl KnownBrokers {
    /// Those of a client with these `bootstrap.servers`.
    pub(crate) fn new(configured: &str) -> Self {
        Self { configured: CString::new(configured).unwrap_or_default(), are_gone: AtomicBool::new(false) }
    }

    /// Takes in the client's statistics.
    pub(crate) fn note(&self, statistics: &Statistics) {
        let knows_one = statistics.brokers.values().any(|broker| REAL.contains(&broker.source.as_str()));
        self.are_gone.store(!knows_one, Ordering::Relaxed);
    }

    /// Names the configured brokers again if the client's last statistics had none.
    pub(crate) fn restore<C: ClientContext>(&self, client: &Client<C>) {
        if self.are_gone.load(Ordering::Relaxed) && self.are_gone.swap(false, Ordering::Relaxed) {
            if let Some(left_out) = logging::rate_limited("no brokers left") {
                tracing::warn!(
                    left_out,
                    "the brokers named no broker, so the client dropped all: naming those of kafka.brokers again"
                );
            }
            self.name_again(client);
        }
    }

    /// Names the configured brokers again. Changes nothing for a client that knows them.
    pub(crate) fn name_again<C: ClientContext>(&self, client: &Client<C>) {
        // SAFETY: the client lives at least as long as this reference to it, and the library copies the text.
        unsafe {
            bindings::rd_kafka_brokers_add(client.native_ptr(), self.configured.as_ptr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Quiet;
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer},
        statistics::Broker,
    };

    fn statistics(sources: &[&str]) -> Statistics {
        let broker = |source: &&str| (*source).to_owned();
        let named = |source: &&str| (broker(source), Broker { source: broker(source), ..Broker::default() });
        Statistics { brokers: sources.iter().map(named).collect(), ..Statistics::default() }
    }

    #[test]
    fn brokers_are_named_again_once_after_statistics_without_any() {
        let known = KnownBrokers::new("127.0.0.1:1");
        let client: BaseConsumer<Quiet> = ClientConfig::new()
            .set("bootstrap.servers", "127.0.0.1:1")
            .set("group.id", "g")
            .create_with_context(Quiet::of("127.0.0.1:1"))
            .unwrap();
        let are_gone = || known.are_gone.load(Ordering::Relaxed);
        for sources in [&["learned", "logical", "internal"][..], &["configured"], &["internal", "configured"]] {
            known.note(&statistics(sources));
            assert!(!are_gone(), "{sources:?}");
        }
        for sources in [&["logical", "internal"][..], &[]] {
            known.note(&statistics(sources));
            assert!(are_gone(), "{sources:?}");
            known.restore(client.client());
            assert!(!are_gone(), "until the next statistics");
        }
    }
}
