//! Logging to standard error, as text or JSON, with a filter that can be changed while the process runs.
//!
//! Messages that repeat while something is unavailable are rate limited: see [`rate_limited`]. A task that tries again
//! and again logs each fault once: see [`LastingFault`].

mod lasting;
mod rate_limit;

pub use lasting::LastingFault;
pub use rate_limit::rate_limited;

use crate::secret::Scrubbed;
use std::{
    io::IsTerminal,
    sync::{Mutex, PoisonError},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::LevelFilter,
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The log of a running process and its filter.
#[derive(Debug)]
pub struct Logs {
    handle: Handle<EnvFilter, Registry>,
    current: Mutex<String>,
}

/// The target of the lines that say who asked for a change.
pub const AUDIT: &str = "aimpoint::audit";

/// Checks a filter: a level, or a comma-separated list of `target=level`.
///
/// # Errors
/// What is wrong with it, as a message for people.
pub fn check_filter(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

/// Requires a single word to be a level. The library would take any other word for a target, and a misspelt level would
/// disable all logging.
fn parse(filter: &str) -> Result<EnvFilter, String> {
    let mut words = filter.split(',').map(str::trim).filter(|part| !part.is_empty() && !part.contains(['=', '[', '{']));
    if let Some(word) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(format!(
            "{word:?} is not a level; levels are off, error, warn, info, debug and trace, and a target is followed by one: {word}=info"
        ));
    }
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    // Whoever may change the filter must not be able to hide that. Of two directives for a target, the last one counts.
    let audit = format!("{AUDIT}=info").parse().expect("a target and a level");
    Ok(filter.add_directive(audit))
}

impl Logs {
    /// Starts logging.
    ///
    /// # Errors
    /// What is wrong with the filter, as a message for people; nothing is logged then.
    pub fn start(filter: &str, format: Format) -> Result<Self, String> {
        let parsed = parse(filter)?;
        let (layer, handle) = reload::Layer::new(parsed);
        let lines = tracing_subscriber::fmt::layer().with_writer(|| Scrubbed(std::io::stderr()));
        let lines = match format {
            Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        };
        tracing_subscriber::registry().with(layer).with(lines).try_init().map_err(|error| error.to_string())?;
        Ok(Self { handle, current: Mutex::new(filter.to_owned()) })
    }

    /// The current filter.
    pub fn filter(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the filter, unless it is the current one.
    ///
    /// # Errors
    /// As [`Logs::set`].
    pub fn set_if_changed(&self, filter: &str) -> Result<(), String> {
        if filter == self.filter() { Ok(()) } else { self.set(filter) }
    }

    /// Changes the filter.
    ///
    /// # Errors
    /// What is wrong with it, as a message for people; the old filter stays.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let parsed = parse(filter)?;
        self.handle.reload(parsed).map_err(|error| error.to_string())?;
        filter.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        tracing::info!(filter, "log filter changed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_filter_leaves_out_the_audit() {
        for filter in ["off", "error", "info,aimpoint::audit=off", "aimpoint::audit=error,aimpoint=off"] {
            let written = written(filter);
            assert!(written.contains("who asked"), "{filter}: {written}");
            assert!(!written.contains("anything else"), "{filter}: {written}");
        }
    }

    /// What is written with a filter.
    fn written(filter: &str) -> String {
        let lines = std::sync::Arc::new(Mutex::new(Vec::new()));
        let to = std::sync::Arc::clone(&lines);
        let layer = tracing_subscriber::fmt::layer().with_writer(move || Lines(std::sync::Arc::clone(&to)));
        let subscriber = tracing_subscriber::registry().with(parse(filter).unwrap()).with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: AUDIT, "who asked");
            tracing::debug!(target: "aimpoint::other", "anything else");
            tracing::debug!("anything else");
        });
        String::from_utf8(lines.lock().unwrap().clone()).unwrap()
    }

    struct Lines(std::sync::Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_misspelt_level_is_not_taken_for_a_target() {
        for filter in
            ["info", "INFO", "off", "3", "warn,librdkafka=off", "aimpoint=debug,hyper=warn", "info,[span{x=1}]=debug"]
        {
            assert_eq!(check_filter(filter), Ok(()), "{filter}");
        }
        for filter in ["inof", "-1", "1990", "info,wran", "aimpoint", "a=nolevel"] {
            assert!(check_filter(filter).is_err(), "{filter}");
        }
        assert!(
            check_filter("inof").is_err_and(|why| why.starts_with("\"inof\" is not a level; levels are off, error"))
        );
    }
}
