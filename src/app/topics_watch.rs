//! Watches the topics while the process runs: added partitions, deleted topics.
//!
//! Guarantees: a fault makes the process not ready and is logged with the next step. If a topic stays deleted, or
//! recreated with fewer partitions, for [`GONE_CHECKS`] checks, the process ends: nothing can be committed without it,
//! and the next start reports what to do or rebuilds the profiles. An unavailable broker does not count. Limits: one
//! check per [`INTERVAL`]; if a topic is deleted and recreated with as many partitions between two checks, that goes
//! unnoticed until the next start.

use super::topics::{self, AS_MANY, Unfit};
use crate::{config::Config, metrics, source::TopicLook, telemetry::admin::AdminState};
use anyhow::Context;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How often the topics are checked.
const INTERVAL: Duration = Duration::from_secs(5);

/// For how many consecutive checks a topic must be gone before the process ends.
const GONE_CHECKS: u32 = 4;

/// How many of the plans are needed to commit; they come first.
const NEEDED: usize = 4;

/// After how many checks an unchanged fault is logged again.
const LOG_CHECKS: u32 = 12;

/// The watching thread.
pub(super) struct TopicsWatch(Arc<Mutex<Option<Vec<String>>>>);

impl TopicsWatch {
    /// Starts watching.
    pub(super) fn start(config: &Config, state: &Arc<AdminState>) -> anyhow::Result<Self> {
        let topics = TopicLook::new(&config.kafka.brokers, &config.reader_settings())?;
        let names: Vec<String> = topics::plans(config).into_iter().map(|plan| plan.name).collect();
        let (state, fatal) = (Arc::clone(state), Arc::new(Mutex::new(None)));
        let shared = Arc::clone(&fatal);
        let run = move || {
            let mut watched = Watched::new(names);
            loop {
                std::thread::sleep(INTERVAL);
                let found: Result<Vec<Option<usize>>, _> =
                    watched.topics.iter().map(|topic| topics.partitions(&topic.name)).collect();
                match found {
                    Ok(found) => {
                        let faults = watched.check(&found);
                        metrics::topics_unfit(faults.len());
                        state.set_topic_faults(faults);
                    }
                    Err(error) => tracing::debug!(%error, "check the topics"),
                }
                if let Some(gone) = watched.gone() {
                    *shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(gone);
                }
            }
        };
        std::thread::Builder::new()
            .name("topics".to_owned())
            .spawn(run)
            .context("start the thread that watches the topics")?;
        Ok(Self(fatal))
    }

    /// Why the process cannot continue, if it cannot.
    pub(super) fn fatal(&self) -> Option<Unfit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Unfit)
    }
}

#[derive(Debug)]
struct Topic {
    name: String,
    /// The most partitions it has had.
    partitions: usize,
    /// For how many consecutive checks it has been gone.
    gone: u32,
}

/// The known state of the topics.
#[derive(Debug)]
struct Watched {
    /// In the order of the plans.
    topics: Vec<Topic>,
    /// How many checks ago faults were last logged, and which.
    logged: (u32, Vec<String>),
}

impl Watched {
    fn new(names: Vec<String>) -> Self {
        let topic = |name| Topic { name, partitions: 0, gone: 0 };
        Self { topics: names.into_iter().map(topic).collect(), logged: (0, Vec::new()) }
    }

    /// Compares the current number of partitions of each topic with the known one; returns the faults.
    fn check(&mut self, found: &[Option<usize>]) -> Vec<String> {
        let mut faults = Vec::new();
        for (index, (topic, found)) in self.topics.iter_mut().zip(found).enumerate() {
            let (known, partitions) = (topic.partitions, found.unwrap_or_default());
            if partitions < known || found.is_none() {
                topic.gone += 1;
                let what = match found {
                    None => "no longer exists".to_owned(),
                    Some(_) => format!("has {partitions} partitions and had {known}: it was recreated"),
                };
                faults.push(format!("the topic {:?} {what}; see: aimpoint topics --create", topic.name));
                continue;
            }
            topic.gone = 0;
            if index == 0 && known > 0 && partitions > known {
                tracing::warn!(
                    topic = topic.name,
                    before = known,
                    now = partitions,
                    "partitions were added to the input: users who move to another partition start over with empty profiles"
                );
            }
            topic.partitions = partitions;
        }
        let input = &self.topics[0];
        for (index, why) in AS_MANY {
            let other = &self.topics[index];
            if input.gone == 0 && other.gone == 0 && other.partitions < input.partitions {
                faults.push(format!(
                    "{:?} has {} partitions and {:?} has {}: {why} have to lie in partitions of the same number; add those that {:?} \
                     lacks with: aimpoint topics --create",
                    input.name, input.partitions, other.name, other.partitions, other.name
                ));
            }
        }
        let (checks, logged) = &mut self.logged;
        *checks += 1;
        if *logged != faults || (*checks >= LOG_CHECKS && !faults.is_empty()) {
            for fault in &faults {
                tracing::error!("{fault}");
            }
            if faults.is_empty() {
                tracing::info!("all topics exist again and fit together");
            }
            self.logged = (0, faults.clone());
        }
        faults
    }

    /// The topics that have been gone for too long, as messages.
    fn gone(&self) -> Option<Vec<String>> {
        // The process can continue without the topic of shadow scores.
        let gone = self.topics.iter().take(NEEDED).filter(|topic| topic.gone >= GONE_CHECKS);
        let messages = gone.map(|topic| {
            format!(
                "the topic {:?} was deleted or recreated while this process ran; create what is missing with: aimpoint topics \
                 --create, and restart: profiles are rebuilt from the input as far as it reaches back",
                topic.name
            )
        });
        let messages: Vec<String> = messages.collect();
        (!messages.is_empty()).then_some(messages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> Watched {
        let mut watched = Watched::new(["in", "out", "dead", "app-profiles"].map(str::to_owned).to_vec());
        assert_eq!(watched.check(&[Some(2), Some(2), Some(2), Some(2)]), [""; 0]);
        watched
    }

    #[test]
    fn added_partitions_are_reported_and_do_not_end_the_process() {
        let mut watched = watched();
        for _ in 0..2 * GONE_CHECKS {
            let faults = watched.check(&[Some(4), Some(2), Some(2), Some(2)]);
            assert_eq!(faults.len(), 2, "{faults:?}");
            for (faults, name) in faults.iter().zip(["out", "app-profiles"]) {
                assert!(
                    faults.contains(&format!("add those that {name:?} lacks with: aimpoint topics --create")),
                    "{faults}"
                );
            }
            assert_eq!(watched.gone(), None);
        }
        assert_eq!(watched.check(&[Some(4), Some(4), Some(2), Some(4)]), [""; 0]);
    }

    #[test]
    fn a_deleted_topic_is_reported_at_once_and_ends_the_process_later() {
        for anew in [None, Some(1)] {
            let mut watched = watched();
            for check in 1..=GONE_CHECKS {
                let faults = watched.check(&[Some(2), Some(2), Some(2), anew]);
                assert!(faults.len() == 1 && faults[0].contains("app-profiles"), "{faults:?}");
                assert_eq!(watched.gone().is_some(), check == GONE_CHECKS, "check {check}");
            }
            assert!(watched.gone().unwrap()[0].contains("\"app-profiles\" was deleted"), "{watched:?}");
        }
    }

    #[test]
    fn a_topic_that_comes_back_does_not_end_the_process() {
        let mut watched = watched();
        for _ in 0..GONE_CHECKS {
            watched.check(&[Some(2), Some(2), Some(2), None]);
            watched.check(&[Some(2), Some(2), Some(2), Some(2)]);
            assert_eq!(watched.gone(), None);
        }
    }
}
