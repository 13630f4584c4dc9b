//! Watches the topics while the process runs, for added partitions and deleted topics.
//!
//! Guarantees: a problem makes the process not ready and is logged with the next step. A topic that is deleted, or recreated with
//! fewer partitions, ends the process after [`GONE_LOOKS`] checks in a row: nothing can be committed without it, and the next start
//! says what to do or rebuilds the profiles. A broker that does not respond is not treated as a deleted topic. Limits: one check per
//! [`LOOK_INTERVAL`]; a topic that is deleted and recreated with as many partitions in between is noticed at the next start.

use super::topics::{self, AS_MANY, Unfit};
use crate::{
    config::Config,
    source::TopicLook,
    telemetry::{admin::Board, metrics},
};
use anyhow::Context;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How often the topics are checked.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// A topic is given up after it was gone for this many checks in a row.
const GONE_LOOKS: u32 = 4;

/// How many of the plans are topics without which nothing can be committed; they come first.
const NEEDED: usize = 4;

/// A persisting problem is logged again after this many checks.
const LOG_LOOKS: u32 = 12;

/// The thread that checks the topics.
pub(super) struct TopicsWatch(Arc<Mutex<Option<Vec<String>>>>);

impl TopicsWatch {
    /// Starts the thread.
    pub(super) fn start(config: &Config, board: &Arc<Board>) -> anyhow::Result<Self> {
        let look = TopicLook::new(&config.kafka.brokers, &config.kafka.client_settings())?;
        let names: Vec<String> = topics::plans(config).into_iter().map(|plan| plan.name).collect();
        let (board, fatal) = (Arc::clone(board), Arc::new(Mutex::new(None)));
        let reported = Arc::clone(&fatal);
        let run = move || {
            let mut seen = TopicStates::new(names);
            loop {
                std::thread::sleep(LOOK_INTERVAL);
                let found: Result<Vec<Option<usize>>, _> =
                    seen.topics.iter().map(|topic| look.partitions(&topic.name)).collect();
                match found {
                    Ok(found) => {
                        let faults = seen.look(&found);
                        metrics::topics_unfit(faults.len());
                        board.topics(faults);
                    }
                    Err(error) => tracing::debug!(%error, "check the topics"),
                }
                if let Some(gone) = seen.gone() {
                    *reported.lock().unwrap_or_else(PoisonError::into_inner) = Some(gone);
                }
            }
        };
        std::thread::Builder::new()
            .name("topics".to_owned())
            .spawn(run)
            .context("start the thread that watches the topics")?;
        Ok(Self(fatal))
    }

    /// Why the process has to end, if it has to.
    pub(super) fn fatal(&self) -> Option<Unfit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Unfit)
    }
}

#[derive(Debug)]
struct Topic {
    name: String,
    /// The most partitions seen.
    partitions: usize,
    /// For how many checks in a row it has been gone.
    gone: u32,
}

/// The known state of the topics.
#[derive(Debug)]
struct TopicStates {
    /// In the order of the plans.
    topics: Vec<Topic>,
    /// How many checks ago the problems were logged, and what they were.
    logged: (u32, Vec<String>),
}

impl TopicStates {
    fn new(names: Vec<String>) -> Self {
        let topic = |name| Topic { name, partitions: 0, gone: 0 };
        Self { topics: names.into_iter().map(topic).collect(), logged: (0, Vec::new()) }
    }

    /// Updates the number of partitions of each topic and returns the problems.
    fn look(&mut self, found: &[Option<usize>]) -> Vec<String> {
        let mut faults = Vec::new();
        for (index, (topic, found)) in self.topics.iter_mut().zip(found).enumerate() {
            let (known, partitions) = (topic.partitions, found.unwrap_or_default());
            if partitions < known || found.is_none() {
                topic.gone += 1;
                let what = match found {
                    None => "no longer exists".to_owned(),
                    Some(_) => format!("has {partitions} partitions but had {known}: it was recreated"),
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
                    "partitions were added to the input: users whose events now arrive in another partition start with an empty profile there"
                );
            }
            topic.partitions = partitions;
        }
        let input = &self.topics[0];
        for (index, why) in AS_MANY {
            let other = &self.topics[index];
            if input.gone == 0 && other.gone == 0 && other.partitions < input.partitions {
                faults.push(format!(
                    "{:?} has {} partitions and {:?} has {}: {why} have to be in partitions of the same number; add the missing \
                     partitions to {:?} with: aimpoint topics --create",
                    input.name, input.partitions, other.name, other.partitions, other.name
                ));
            }
        }
        let (looks, logged) = &mut self.logged;
        *looks += 1;
        if *logged != faults || (*looks >= LOG_LOOKS && !faults.is_empty()) {
            for fault in &faults {
                tracing::error!("{fault}");
            }
            if faults.is_empty() {
                tracing::info!("all topics exist and match again");
            }
            self.logged = (0, faults.clone());
        }
        faults
    }

    /// Topics that have been gone for too long.
    fn gone(&self) -> Option<Vec<String>> {
        // The topic of shadow scores is not needed for anything else.
        let gone = self.topics.iter().take(NEEDED).filter(|topic| topic.gone >= GONE_LOOKS);
        let messages = gone.map(|topic| {
            format!(
                "the topic {:?} was deleted or recreated while this process ran; create what is missing with: aimpoint topics \
                 --create, and restart: profiles are rebuilt from the retained input",
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

    fn seen() -> TopicStates {
        let mut seen = TopicStates::new(["in", "out", "dead", "app-profiles"].map(str::to_owned).to_vec());
        assert_eq!(seen.look(&[Some(2), Some(2), Some(2), Some(2)]), [""; 0]);
        seen
    }

    #[test]
    fn partitions_added_to_the_input_are_required_of_the_other_topics_and_do_not_end_the_process() {
        let mut seen = seen();
        for _ in 0..2 * GONE_LOOKS {
            let problems = seen.look(&[Some(4), Some(2), Some(2), Some(2)]);
            assert_eq!(problems.len(), 2, "{problems:?}");
            for (problem, name) in problems.iter().zip(["out", "app-profiles"]) {
                assert!(
                    problem.contains(&format!("add the missing partitions to {name:?} with: aimpoint topics --create")),
                    "{problem}"
                );
            }
            assert_eq!(seen.gone(), None);
        }
        assert_eq!(seen.look(&[Some(4), Some(4), Some(2), Some(4)]), [""; 0]);
    }

    #[test]
    fn a_topic_that_stays_gone_is_reported_at_once_and_ends_the_process_later() {
        for now in [None, Some(1)] {
            let mut seen = seen();
            for look in 1..=GONE_LOOKS {
                let problems = seen.look(&[Some(2), Some(2), Some(2), now]);
                assert!(problems.len() == 1 && problems[0].contains("app-profiles"), "{problems:?}");
                assert_eq!(seen.gone().is_some(), look == GONE_LOOKS, "look {look}");
            }
            assert!(seen.gone().unwrap()[0].contains("\"app-profiles\" was deleted"), "{seen:?}");
        }
    }

    #[test]
    fn a_topic_that_comes_back_does_not_end_the_process() {
        let mut seen = seen();
        for _ in 0..GONE_LOOKS {
            seen.look(&[Some(2), Some(2), Some(2), None]);
            seen.look(&[Some(2), Some(2), Some(2), Some(2)]);
            assert_eq!(seen.gone(), None);
        }
    }
}
