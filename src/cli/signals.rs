//! Signals to commands that write files.

use crate::{app::heeded, partial};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    iterator::Signals,
    low_level::emulate_default_handler,
};

/// Makes signals that end the process remove partial files first.
pub(super) fn clean_up_on_signals() -> std::io::Result<()> {
    let mut signals = Signals::new(heeded([SIGHUP, SIGINT, SIGQUIT, SIGTERM]))?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            partial::remove_all();
            // In case the default handler does not end the process.
            emulate_default_handler(signal).unwrap_or_default();
            std::process::exit(128 + signal);
        }
    })?;
    Ok(())
}
