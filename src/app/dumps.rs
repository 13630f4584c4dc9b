//! Keeps the memory of a process out of core dumps: with pseudonyms, raw ids are in memory alone.

use crate::config::Config;

/// Which memory Linux writes into a core dump, as a set of bits: none.
const FILTER: (&str, &str) = ("/proc/self/coredump_filter", "0");

/// Leaves all memory out of core dumps if users have pseudonyms. Whoever looks for the cause of a crash still gets the
/// registers, and the log. Where this cannot be set (no Linux, a read-only /proc), the log says so.
pub(super) fn leave_out_memory(config: &Config) {
    if !config.pipeline.identity.pseudonymise {
        return;
    }
    if let Err(error) = std::fs::write(FILTER.0, FILTER.1) {
        tracing::warn!(
            %error,
            "memory cannot be kept out of core dumps: a dump of this process would contain raw ids; switch core dumps off (ulimit -c 0)"
        );
    }
}
