//! For `aimpoint check`: whether it is remembered who was erased for longer than the input is kept.

use crate::sink::TopicState;
use std::{io::Write, time::Duration};

/// Prints how long erasures are remembered, and warns if events of an erased user may stay in the input for longer. Without the
/// state of the input, nothing is known about that.
pub(super) fn report(
    out: &mut impl Write,
    keep: Duration,
    topic: &str,
    input: Option<&TopicState>,
) -> std::io::Result<()> {
    let written = crate::duration::display;
    writeln!(out, "erasures        are remembered for {}", written(keep))?;
    let retention = input.and_then(|state| state.setting("retention.ms")).and_then(|text| text.parse::<i64>().ok());
    let Some(retention) = retention else { return Ok(()) };
    let Ok(millis) = u64::try_from(retention) else {
        return writeln!(
            out,
            "{:16}warning: {topic:?} is kept without end, so after that time a replay of it brings erased users back; set its \
             retention.ms",
            ""
        );
    };
    let kept = Duration::from_millis(millis);
    if kept < keep {
        return Ok(());
    }
    writeln!(
        out,
        "{:16}warning: {topic:?} is kept for {}, so events from before an erasure may outlast it and bring the user back; set \
         erasure.keep to more than that",
        "",
        written(kept)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_does_not_outlast_the_input_is_warned_about() {
        let told = |retention: Option<&str>| {
            let settings = retention.iter().map(|text| ("retention.ms".to_owned(), (*text).to_owned())).collect();
            let mut out = Vec::new();
            let state = TopicState { partitions: 1, settings };
            report(&mut out, Duration::from_hours(24), "clicks", Some(&state)).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(told(None), "erasures        are remembered for 1day\n");
        assert_eq!(told(Some("86399999")).lines().count(), 1);
        assert!(told(Some("86400000")).contains("\"clicks\" is kept for 1day"), "{}", told(Some("86400000")));
        assert!(told(Some("-1")).contains("kept without end"));
    }
}
