//! What is logged: to the standard error, for people or as JSON, by a filter that can be changed while the process runs.

use crate::secret::Scrubbed;
use std::{
    collections::BTreeMap,
    io::IsTerminal,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::LevelFilter,
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

/// Of what repeats while something is away, one message of each kind is logged in so long.
const RARELY: Duration = Duration::from_secs(10);

/// How many kinds are remembered; kinds are few, and the bound is for the one who makes them many.
const KINDS_MAX: usize = 256;

static REPEATED: Rarely = Rarely::new(RARELY);

/// Whether a message of this kind is to be logged now, and how many of its kind were left out since the last one.
pub fn rarely(kind: &str) -> Option<u64> {
    REPEATED.admit(kind, Instant::now())
}

/// Logs a message of the Kafka client, of each level and facility one in ten seconds: a broker that is away gives thousands.
pub fn client(level: tracing::Level, facility: &str, message: &str) {
    let Some(left_out) = rarely(&format!("{level} {facility}")) else { return };
    // The target is what filters name. A count of nothing is no news.
    let left_out = (left_out > 0).then_some(left_out);
    match level {
        tracing::Level::ERROR => tracing::error!(target: "librdkafka", facility, left_out, "{message}"),
        tracing::Level::WARN => tracing::warn!(target: "librdkafka", facility, left_out, "{message}"),
        tracing::Level::INFO => tracing::info!(target: "librdkafka", facility, left_out, "{message}"),
        _ => tracing::debug!(target: "librdkafka", facility, left_out, "{message}"),
    }
}

/// Lets one message of each kind through in so long, and counts the others.
struct Rarely {
    every: Duration,
    /// By kind: when one was let through, and how many were not since.
    kinds: Mutex<BTreeMap<String, (Instant, u64)>>,
}

impl Rarely {
    const fn new(every: Duration) -> Self {
        Self { every, kinds: Mutex::new(BTreeMap::new()) }
    }

    fn admit(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, left_out)) = kinds.get_mut(kind) {
            if now.saturating_duration_since(*at) < self.every {
                *left_out += 1;
                return None;
            }
            *at = now;
            return Some(std::mem::take(left_out));
        }
        if kinds.len() >= KINDS_MAX {
            kinds.clear();
        }
        kinds.insert(kind.to_owned(), (now, 0));
        Some(0)
    }
}

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
    use super::*;

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

    #[test]
    fn what_repeats_is_logged_once_in_a_while_and_counted_in_between() {
        let rarely = Rarely::new(Duration::from_secs(10));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(rarely.admit("a", at(0)), Some(0));
        assert_eq!(rarely.admit("b", at(0)), Some(0), "another kind is not held back by it");
        for second in 1..10 {
            assert_eq!(rarely.admit("a", at(second)), None);
        }
        assert_eq!(rarely.admit("a", at(10)), Some(9));
        assert_eq!(rarely.admit("a", at(19)), None);
        for kind in 0..2 * KINDS_MAX {
            assert_eq!(rarely.admit(&format!("kind {kind}"), at(20)), Some(0));
        }
        assert!(rarely.kinds.lock().unwrap().len() <= KINDS_MAX);
    }
}
