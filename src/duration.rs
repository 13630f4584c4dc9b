//! Durations as people write them in a configuration.

use std::{fmt, time::Duration};

const DAY: u64 = 24 * 60 * 60;

/// The text of a duration, in units up to days: months and years have no fixed length, and nobody configures `540days`
/// as `1year 5months 22days 13h 12m`.
pub(crate) fn display(duration: Duration) -> impl fmt::Display {
    Shown(duration)
}

struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.as_secs() / DAY;
        let rest = self.0.saturating_sub(Duration::from_secs(days * DAY));
        if days > 0 {
            write!(text, "{days}day{}", if days == 1 { "" } else { "s" })?;
            if rest.is_zero() {
                return Ok(());
            }
            text.write_str(" ")?;
        }
        humantime::format_duration(rest).fmt(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_in_units_of_fixed_length_and_can_be_read_back() {
        for (duration, text) in [
            (Duration::ZERO, "0s"),
            (Duration::from_millis(1_500), "1s 500ms"),
            (Duration::from_secs(DAY), "1day"),
            (Duration::from_secs(31 * DAY), "31days"),
            (Duration::from_secs(540 * DAY), "540days"),
            (Duration::from_secs(600 * DAY + 3_661), "600days 1h 1m 1s"),
            (Duration::from_nanos(1), "1ns"),
        ] {
            assert_eq!(display(duration).to_string(), text);
            assert_eq!(humantime::parse_duration(text).unwrap(), duration, "{text}");
        }
    }
}
