//! Compares the largest possible outputs with the message sizes that the topics accept.

use crate::{app::topics::Unfit, config::Config, engine::Pipeline, kafka::message_bytes_max, sink::SizeLimits};
use bytesize::ByteSize;
use std::io::Write;

/// A dead letter has headers and a key besides its payload: a topic that accepts less cannot be used for them.
const DEAD_LETTER_BYTES_MIN: usize = 16 << 10;

/// Upper bound on the bytes of a message besides key, value and headers.
const MESSAGE_OVERHEAD: usize = 512;

/// Prints the largest outputs and the accepted sizes, and fails if an output does not fit.
pub(super) fn report(
    out: &mut impl Write,
    config: &Config,
    pipeline: &Pipeline,
    topics: SizeLimits,
) -> anyhow::Result<()> {
    let client = message_bytes_max(&config.kafka.producer_settings());
    let limits = topics.within(client);
    let size = |bytes: usize| ByteSize::b(bytes as u64).display().si().to_string();
    let accepts = |name: &str, of_topic: usize| match of_topic {
        usize::MAX => format!("the limit of {name:?} is unknown; the client sends at most {}", size(client)),
        bytes if bytes > client => {
            format!("{name:?} accepts {}, but the client sends at most {}", size(bytes), size(client))
        }
        bytes => format!("{name:?} accepts {}", size(bytes)),
    };
    let raise = |name: &str, of_topic: usize, bytes: usize| {
        if of_topic > client {
            format!("raise kafka.producer \"message.max.bytes\" to {bytes} or more")
        } else {
            format!("raise max.message.bytes of {name:?} to {bytes} or more")
        }
    };
    let mut errors = Vec::new();

    let (name, decision) = (&config.topics.decisions, pipeline.decision_bytes_max() + MESSAGE_OVERHEAD);
    writeln!(out, "sizes           decision      at most {:<10} {}", size(decision), accepts(name, topics.decisions))?;
    if decision > limits.decisions {
        errors.push(format!(
            "a decision may have {decision} bytes, but only {} are accepted: larger ones become dead letters; {}",
            limits.decisions,
            raise(name, topics.decisions, decision)
        ));
    }

    let profiles = config.profiles_topic();
    let profile = pipeline.profile().profile_bytes().record_max + MESSAGE_OVERHEAD;
    writeln!(out, "{:16}profile       at most {:<10} {}", "", size(profile), accepts(&profiles, topics.profiles))?;
    if profile > limits.profiles {
        writeln!(
            out,
            "{:16}  the profile of a user with an event in every tile and every id is larger. It cannot be written to the changelog, so \
             the partition's\n{:16}  input is reread at each start. {}, lower duplicates.max_ids or time.allowed_lateness, or use \
             wider tiles",
            "",
            "",
            raise(&profiles, topics.profiles, profile)
        )?;
    }

    let name = &config.topics.dead_letter;
    writeln!(out, "{:16}dead letter   truncated         {}", "", accepts(name, topics.dead_letters))?;
    if limits.dead_letters < DEAD_LETTER_BYTES_MIN {
        errors.push(format!(
            "a dead letter has up to {DEAD_LETTER_BYTES_MIN} bytes besides its payload, but only {} are accepted; {}",
            limits.dead_letters,
            raise(name, topics.dead_letters, DEAD_LETTER_BYTES_MIN)
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(Unfit(errors).into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(limits: SizeLimits, max_ids: u16) -> (String, Option<String>) {
        let mut config = Config::default();
        config.pipeline.duplicates.max_ids = max_ids;
        config.pipeline.duplicates.horizon = std::time::Duration::from_hours(1);
        let pipeline = Pipeline::compile(&config.pipeline, "clickstream").unwrap();
        let mut out = Vec::new();
        let error = report(&mut out, &config, &pipeline, limits).err().map(|error| error.to_string());
        (String::from_utf8(out).unwrap(), error)
    }

    #[test]
    fn sizes_that_fit_are_shown_and_others_are_reported_with_the_next_step() {
        let usual = SizeLimits::default().within(1_048_588);
        let (text, error) = reported(usual, 64);
        assert_eq!(error, None);
        assert!(text.contains("\"decisions\" accepts 1.0 MB") && !text.contains("raise"), "{text}");
        let (text, error) = reported(usual, 65_535);
        assert_eq!(error, None);
        assert!(text.contains("raise max.message.bytes of \"aimpoint-profiles\" to 11"), "{text}");
        let (_, error) = reported(SizeLimits { decisions: 2_000, dead_letters: 900, ..usual }, 64);
        let error = error.unwrap();
        for part in ["a decision may have 1", "raise max.message.bytes of \"dead-letter\" to 16384 or more"] {
            assert!(error.contains(part), "{error}");
        }
        let (text, _) = reported(SizeLimits::default().within(30 << 20), 64);
        assert!(text.contains("but the client sends"), "{text}");
    }
}
