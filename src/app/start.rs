//! What each role does first: it takes the signals, reads the configuration, and sets the log filter.

use super::{Setup, check_name, dumps};
use crate::{
    config::{Config, ConfigLoadError},
    config_error::ConfigError,
    logging::Logs,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::{
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

/// A role with a valid configuration.
pub(super) struct Started {
    pub(super) setup: Setup,
    /// Set by SIGTERM and SIGINT.
    pub(super) stop_requested: Arc<AtomicBool>,
    /// Set by SIGHUP.
    pub(super) reload_requested: Arc<AtomicBool>,
    /// The log filter where the configuration has none. `None` if the command line or the environment sets it.
    pub(super) default_filter: Option<String>,
}

/// Starts a role. `is_log_set`: the command line or the environment has set the log filter. `errors` finds what the role
/// cannot run with.
pub(super) fn start(
    path: Option<&Path>,
    sets: &[String],
    (logs, is_log_set): (&Logs, bool),
    errors: impl FnOnce(&Config) -> Vec<ConfigError>,
) -> anyhow::Result<Started> {
    // Register SIGHUP first: without a handler it would end the process.
    let reload_requested = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(SIGHUP, Arc::clone(&reload_requested))?;
    let setup = Setup::read(path, sets)?;
    dumps::leave_out_memory(&setup.config);
    let default_filter = (!is_log_set).then(|| logs.filter());
    if let Some(default) = &default_filter {
        logs.set_if_changed(filter(&setup, default)).map_err(anyhow::Error::msg)?;
    }
    let errors: Vec<ConfigError> = errors(&setup.config).into_iter().chain(check_name(&setup.config)).collect();
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    let settings = setup.config.kafka.client_settings();
    if settings.iter().any(|(name, value)| name == "enable.ssl.certificate.verification" && value.trim() == "false") {
        tracing::warn!(
            "kafka.client: enable.ssl.certificate.verification is false: whoever stands between can pretend to be the brokers; give \
             their authority as ssl.ca.location instead"
        );
    }
    Ok(Started { setup, stop_requested: stop_flag()?, reload_requested, default_filter })
}

/// The log filter of the configuration, or the default.
pub(super) fn filter<'a>(setup: &'a Setup, default: &'a str) -> &'a str {
    setup.config.log.filter.as_deref().unwrap_or(default)
}

/// The given signals, except those that the process was started to ignore, as with `nohup` or background jobs of a
/// shell.
pub(crate) fn heeded<const N: usize>(signals: [i32; N]) -> impl Iterator<Item = i32> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    signals.into_iter().filter(move |signal| ignored & (1 << (signal - 1)) == 0)
}

/// A flag that SIGTERM and SIGINT set. The second signal ends the process at once.
fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in heeded([SIGINT, SIGTERM]) {
        // The order matters: the first handler ends the process if the flag is set already.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}
