//! Other processes with the name of this one. Two of them would fence each other forever.
//!
//! On one machine, [`super::Instance`] gives each process a name of its own. In containers and on several machines, a process cannot
//! see the others, so this looks for its name among the members of the group. Guarantees: a process that takes over after a crash
//! is not refused, because a stable group forgets a dead member after its session timeout, and it would not give away the partitions
//! of that member earlier. Limits: static members are left out, because they are meant to take their own place at once, and the broker
//! tells the earlier one; so are groups of KIP-848, which cannot be described in this way; and two processes that start within the
//! same second do not see each other.

use super::Instance;
use crate::{
    config::Config,
    kafka::uses_consumer_protocol,
    source::{Member, Probe},
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// How long a member without heartbeats stays in the group, unless the settings say otherwise.
const SESSION: Duration = Duration::from_secs(10);
/// How much longer to wait than a session, because the group looks for dead members in turns.
const GRACE: Duration = Duration::from_secs(3);
/// How long to wait for a group that does not become stable.
const UNSTABLE_MAX: Duration = Duration::from_mins(2);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Another process has the name of this one.
#[derive(Debug, thiserror::Error)]
#[error(
    "another process is in the group {group:?} as {client:?}, from {host}, and has been for {}: two processes with the same app.name \
     and app.instance fence each other. Stop one of them, or give each its own app.instance",
    crate::duration::display(Duration::from_secs(waited.as_secs()))
)]
pub(crate) struct Namesake {
    group: String,
    client: String,
    host: String,
    waited: Duration,
}

/// Waits until no member of the group has the name of this process. Returns false if the process was asked to stop meanwhile.
///
/// # Errors
/// If one is alive.
pub(super) fn await_none(config: &Config, instance: &Instance, stop: &AtomicBool) -> Result<bool, Namesake> {
    let settings = config.kafka.consumer_settings();
    if config.app.static_membership || uses_consumer_protocol(&settings) {
        return Ok(true);
    }
    let probe = Probe::new(&config.kafka.brokers, &settings, config.group(), &config.topics.clickstream, 0);
    let Ok(probe) = probe else { return Ok(true) };
    let limit = session(&settings) + GRACE;
    let name = instance.worker(config, 0);
    let start = Instant::now();
    let mut begun = start;
    // Whom it has waited for since.
    let mut awaited = String::new();
    let mut has_told = false;
    loop {
        // What cannot be looked up is not refused: the brokers fence in any case.
        let (members, is_stable) = match probe.members() {
            Ok(members) => members,
            Err(error) if has_told && begun.elapsed() <= limit => {
                tracing::debug!(%error, "look for processes with the same name");
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(error) => {
                tracing::info!(%error, "could not look for processes with the same name");
                return Ok(true);
            }
        };
        let Some(Member { id, client, host, .. }) =
            members.into_iter().filter(|member| is_namesake(&member.client, &name)).min_by(|a, b| a.id.cmp(&b.id))
        else {
            return Ok(true);
        };
        // Only a stable group forgets a dead member after its session. One that keeps changing says nothing: the brokers fence
        // in any case.
        if start.elapsed() > UNSTABLE_MAX {
            return Ok(true);
        }
        if !is_stable || id != awaited {
            (begun, awaited) = (Instant::now(), id);
        }
        let waited = begun.elapsed();
        if waited > limit {
            return Err(Namesake { group: config.group().to_owned(), client, host, waited });
        }
        if !has_told {
            has_told = true;
            tracing::warn!(
                client,
                host,
                limit_s = limit.as_secs(),
                "a member of the group has the name of this process: waiting until the group forgets it, in case it has crashed"
            );
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        std::thread::sleep(PAUSE);
    }
}

/// Whether a member's client id is that of a worker of a process whose first worker has this one.
fn is_namesake(client: &str, first: &str) -> bool {
    let number =
        |id: &str| id.rsplit_once('-').map(|(name, number)| (name.to_owned(), number.parse::<usize>().is_ok()));
    client == first || (number(client) == number(first) && number(first).is_some_and(|(_, is_number)| is_number))
}

/// How long a dead member stays in the group.
fn session(settings: &[(String, String)]) -> Duration {
    let given = settings.iter().rev().find(|(name, _)| name == "session.timeout.ms");
    given.and_then(|(_, value)| value.parse().ok()).map_or(SESSION, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_of_a_process_with_the_same_name_are_namesakes() {
        for (client, is_one) in [
            ("shop-a-0", true),
            ("shop-a-7", true),
            ("shop-a.p1-0", false),
            ("shop-b-0", false),
            ("shop-a-control", false),
            ("shop-a", false),
            ("rdkafka", false),
            ("", false),
        ] {
            assert_eq!(is_namesake(client, "shop-a-0"), is_one, "{client}");
        }
    }

    #[test]
    fn the_session_is_that_of_the_settings() {
        let setting = |value: &str| vec![("session.timeout.ms".to_owned(), value.to_owned())];
        assert_eq!(session(&[]), SESSION);
        assert_eq!(session(&setting("6000")), Duration::from_secs(6));
        assert_eq!(session(&setting("often")), SESSION);
    }

    #[test]
    fn the_message_says_who_and_what_to_do() {
        let error = Namesake {
            group: "shop".to_owned(),
            client: "shop-a-0".to_owned(),
            host: "/10.0.0.5".to_owned(),
            waited: Duration::from_millis(13_100),
        };
        for part in ["\"shop-a-0\"", "from /10.0.0.5", "for 13s", "its own app.instance"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
