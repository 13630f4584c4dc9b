//! Compares the largest possible outputs with the message sizes that the topics accept.

use super::{
    setup::block_on,
    topics::{self, Unfit},
};
use crate::{
    config::Config,
    engine::Pipeline,
    sink::{SizeLimits, TopicState, client_bytes_max},
};
use bytesize::ByteSize;
use std::io::Write;

/// A dead letter has headers and a key besides its payload: a topic that accepts less cannot be used for them.
const DEAD_LETTER_BYTES_MIN: usize = 16 << 10;

/// Upper bound on the bytes of a message besides key, value and headers.
const MESSAGE_OVERHEAD: usize = 512;

/// The message sizes that the topics accept, as far as known.
pub(super) fn limits(states: &[Option<TopicState>]) -> SizeLimits {
    let limit = |index: usize| {
        let state = states.get(index).and_then(Option::as_ref);
        let setting = state.and_then(|state| state.setting("max.message.bytes"));
        setting.and_then(|bytes| bytes.parse().ok()).unwrap_or(usize::MAX)
    };
    SizeLimits { decisions: limit(1), dead_letters: limit(2), profiles: limit(3) }
}

/// Asks the cluster for the state of the topics, in the order of their plans. Empty if it does not answer; a run then finds out
/// when a message is refused.
pub(super) fn states(config: &Config) -> Vec<Option<TopicState>> {
    let plans = topics::plans(config);
    let states = topics::client(config).and_then(|client| block_on(topics::states(&client, &plans))?);
    states.unwrap_or_else(|error| {
        tracing::debug!("read the topics' partitions and max.message.bytes: {error:#}");
        Vec::new()
    })
}

/// Prints the largest outputs and the accepted sizes, and fails if an output does not fit.
pub(super) fn report(
    out: &mut impl Write,
    config: &Config,
    pipeline: &Pipeline,
    topics: SizeLimits,
) -> anyhow::Result<()> {
    let client = client_bytes_max(&config.kafka.producer_settings());
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
    let mut faults = Vec::new();

    let (name, decision) = (&config.topics.decisions, pipeline.decision_bytes_max() + MESSAGE_OVERHEAD);
    writeln!(out, "sizes           decision      at most {:<10} {}", size(decision), accepts(name, topics.decisions))?;
    if decision > limits.decisions {
        faults.push(format!(
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
        faults.push(format!(
            "a dead letter has up to {DEAD_LETTER_BYTES_MIN} bytes besides its payload, but only {} are accepted; {}",
            limits.dead_letters,
            raise(name, topics.dead_letters, DEAD_LETTER_BYTES_MIN)
        ));
    }
    if faults.is_empty() { Ok(()) } else { Err(Unfit(faults).into()) }
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
        let fault = report(&mut out, &config, &pipeline, limits).err().map(|error| error.to_string());
        (String::from_utf8(out).unwrap(), fault)
    }

    #[test]
    fn accepted_sizes_are_read_from_the_topics_settings() {
        let state = |bytes: &str| {
            Some(TopicState { partitions: 1, settings: vec![("max.message.bytes".to_owned(), bytes.to_owned())] })
        };
        let found = limits(&[state("1"), state("1048588"), None, state("odd")]);
        assert_eq!(found, SizeLimits { decisions: 1_048_588, ..SizeLimits::default() });
    }

    #[test]
    fn sizes_that_fit_are_shown_and_others_are_reported_with_the_next_step() {
        let usual = SizeLimits::default().within(1_048_588);
        let (text, fault) = reported(usual, 64);
        assert_eq!(fault, None);
        assert!(text.contains("\"decisions\" accepts 1.0 MB") && !text.contains("raise"), "{text}");
        let (text, fault) = reported(usual, 65_535);
        assert_eq!(fault, None);
        assert!(text.contains("raise max.message.bytes of \"aimpoint-profiles\" to 11"), "{text}");
        let (_, fault) = reported(SizeLimits { decisions: 2_000, dead_letters: 900, ..usual }, 64);
        let fault = fault.unwrap();
        for part in ["a decision may have 1", "raise max.message.bytes of \"dead-letter\" to 16384 or more"] {
            assert!(fault.contains(part), "{fault}");
        }
        let (text, _) = reported(SizeLimits::default().within(30 << 20), 64);
        assert!(text.contains("but the client sends"), "{text}");
    }
}
