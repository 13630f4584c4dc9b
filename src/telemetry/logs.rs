//! What is logged: to the standard error, for people or as JSON, by a filter that can be changed while the process runs.

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

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// The filter of a running process.
#[derive(Debug)]
pub struct Logs {
    handle: Handle<EnvFilter, Registry>,
    current: Mutex<String>,
}

/// Says what is wrong with a filter: levels, or `target=level` with commas between.
///
/// # Errors
/// In words for people.
pub fn check(filter: &str) -> Result<(), String> {
    parse(filter).map(drop)
}

/// A word alone is a level. The library takes any other word for a target, and a misspelt level would log nothing at all.
fn parse(filter: &str) -> Result<EnvFilter, String> {
    let mut words = filter.split(',').map(str::trim).filter(|part| !part.is_empty() && !part.contains(['=', '[', '{']));
    if let Some(word) = words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(format!(
            "{word:?} is no level; levels are off, error, warn, info, debug and trace, and a target has one behind it: {word}=info"
        ));
    }
    EnvFilter::try_new(filter).map_err(|error| error.to_string())
}

impl Logs {
    /// Begins to log.
    ///
    /// # Errors
    /// What is wrong with the filter, in words for people; nothing is logged then.
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

    /// The filter in use.
    pub fn filter(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Logs by this filter from now on, if it is another one.
    ///
    /// # Errors
    /// As [`Logs::set`].
    pub fn set_if_other(&self, filter: &str) -> Result<(), String> {
        if filter == self.filter() { Ok(()) } else { self.set(filter) }
    }

    /// Logs by this filter from now on.
    ///
    /// # Errors
    /// What is wrong with it, in words for people; the old one stays.
    pub fn set(&self, filter: &str) -> Result<(), String> {
        let parsed = parse(filter)?;
        self.handle.reload(parsed).map_err(|error| error.to_string())?;
        filter.clone_into(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        tracing::info!(filter, "logging by another filter");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_misspelt_level_is_no_target() {
        for filter in
            ["info", "INFO", "off", "3", "warn,librdkafka=off", "aimpoint=debug,hyper=warn", "info,[span{x=1}]=debug"]
        {
            assert_eq!(check(filter), Ok(()), "{filter}");
        }
        for filter in ["inof", "-1", "1990", "info,wran", "aimpoint", "a=nolevel"] {
            assert!(check(filter).is_err(), "{filter}");
        }
        assert!(check("inof").is_err_and(|why| why.starts_with("\"inof\" is no level; levels are off, error")));
    }
}
