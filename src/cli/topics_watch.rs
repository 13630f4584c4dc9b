//! Looks after the topics while the process runs: partitions that are added, topics that are deleted.
//!
//! Guarantees: what is wrong makes the process not ready and is logged with the next step; a topic that is gone, or made anew
//! with fewer partitions, ends the process if it stays so for [`GONE_LOOKS`] looks: nothing can be committed without it, and the
//! next start says what to do or rebuilds the profiles. A broker that does not answer is no such case. Limits: one look in
//! [`LOOK_INTERVAL`]; a topic that is deleted and made anew with as many partitions in between is noticed at the next start.

use super::topics::{self, AS_MANY, Unfit};
use crate::{config::Config, metrics, source::TopicLook, telemetry::admin::AdminState};
use anyhow::Context;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How often the brokers are asked.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// For so many looks a topic has to be gone.
const GONE_LOOKS: u32 = 4;

/// The topics without which nothing can be committed: the first of the plans.
const NEEDED: usize = 4;

/// What is still wrong is logged again after so many looks.
const LOG_LOOKS: u32 = 12;

/// The thread that looks.
pub(super) struct TopicsWatch(Arc<Mutex<Option<Vec<String>>>>);

impl TopicsWatch {
    /// Begins to look.
    pub(super) fn start(config: &Config, state: &Arc<AdminState>) -> anyhow::Result<Self> {
        let look = TopicLook::new(&config.kafka.brokers, &config.kafka.client_settings())?;
        let names: Vec<String> = topics::plans(config).into_iter().map(|plan| plan.name).collect();
        let (state, fatal) = (Arc::clone(state), Arc::new(Mutex::new(None)));
        let told = Arc::clone(&fatal);
        let run = move || {
            let mut seen = Seen::new(names);
            loop {
                std::thread::sleep(LOOK_INTERVAL);
                let found: Result<Vec<Option<usize>>, _> =
                    seen.topics.iter().map(|topic| look.partitions(&topic.name)).collect();
                match found {
                    Ok(found) => {
                        let faults = seen.look(&found);
                        metrics::topics_unfit(faults.len());
                        state.set_topic_faults(faults);
                    }
                    Err(error) => tracing::debug!(%error, "look after the topics"),
                }
                if let Some(gone) = seen.gone() {
                    *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(gone);
                }
            }
        };
        std::thread::Builder::new()
            .name("topics".to_owned())
            .spawn(run)
            .context("start the thread that looks after the topics")?;
        Ok(Self(fatal))
    }

    /// Why the process cannot go on, if it cannot.
    pub(super) fn fatal(&self) -> Option<Unfit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().map(Unfit)
    }
}

#[derive(Debug)]
struct Topic {
    name: String,
    /// The most partitions that it had.
    partitions: usize,
    /// For how many looks in a row it has been gone.
    gone: u32,
}

/// What is known of the topics.
#[derive(Debug)]
struct Seen {
    /// In the order of the plans.
    topics: Vec<Topic>,
    /// How many looks ago what is wrong was logged, and what it was.
    logged: (u32, Vec<String>),
}

impl Seen {
    fn new(names: Vec<String>) -> Self {
        let topic = |name| Topic { name, partitions: 0, gone: 0 };
        Self { topics: names.into_iter().map(topic).collect(), logged: (0, Vec::new()) }
    }

    /// Takes in how many partitions each topic has, and says what is wrong.
    fn look(&mut self, found: &[Option<usize>]) -> Vec<String> {
        let mut faults = Vec::new();
        for (index, (topic, found)) in self.topics.iter_mut().zip(found).enumerate() {
            let (known, partitions) = (topic.partitions, found.unwrap_or_default());
            if partitions < known || found.is_none() {
                topic.gone += 1;
                let what = match found {
                    None => "does not exist any more".to_owned(),
                    Some(_) => format!("has {partitions} partitions and had {known}: it was made anew"),
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
                    "partitions were added to the input: users whose events now come by another partition begin anew there"
                );
            }
            topic.partitions = partitions;
        }
        let input = &self.topics[0];
        for (index, why) in AS_MANY {
            let other = &self.topics[index];
            if input.gone == 0 && other.gone == 0 && other.partitions < input.partitions {
                faults.push(format!(
                    "{:?} has {} partitions and {:?} has {}: {why} lie in partitions of one number; add those that {:?} lacks \
                     with: aimpoint topics --create",
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
                tracing::info!("the topics are all there again, and fit");
            }
            self.logged = (0, faults.clone());
        }
        faults
    }

    /// What has been gone for too long.
    fn gone(&self) -> Option<Vec<String>> {
        // Without the topic of the shadows' scores everything else goes on.
        let gone = self.topics.iter().take(NEEDED).filter(|topic| topic.gone >= GONE_LOOKS);
        let told = gone.map(|topic| {
            format!(
                "the topic {:?} was deleted or made anew while this process ran; create what is missing with: aimpoint topics \
                 --create, and start again: profiles are rebuilt from the input as far as it reaches back",
                topic.name
            )
        });
        let told: Vec<String> = told.collect();
        (!told.is_empty()).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen() -> Seen {
        let mut seen = Seen::new(["in", "out", "dead", "app-profiles"].map(str::to_owned).to_vec());
        assert_eq!(seen.look(&[Some(2), Some(2), Some(2), Some(2)]), [""; 0]);
        seen
    }

    #[test]
    fn added_partitions_are_asked_of_the_other_topics_and_end_nothing() {
        let mut seen = seen();
        for _ in 0..2 * GONE_LOOKS {
            let told = seen.look(&[Some(4), Some(2), Some(2), Some(2)]);
            assert_eq!(told.len(), 2, "{told:?}");
            for (told, name) in told.iter().zip(["out", "app-profiles"]) {
                assert!(
                    told.contains(&format!("add those that {name:?} lacks with: aimpoint topics --create")),
                    "{told}"
                );
            }
            assert_eq!(seen.gone(), None);
        }
        assert_eq!(seen.look(&[Some(4), Some(4), Some(2), Some(4)]), [""; 0]);
    }

    #[test]
    fn a_topic_that_stays_away_is_told_at_once_and_ends_the_process_by_and_by() {
        for anew in [None, Some(1)] {
            let mut seen = seen();
            for look in 1..=GONE_LOOKS {
                let told = seen.look(&[Some(2), Some(2), Some(2), anew]);
                assert!(told.len() == 1 && told[0].contains("app-profiles"), "{told:?}");
                assert_eq!(seen.gone().is_some(), look == GONE_LOOKS, "look {look}");
            }
            assert!(seen.gone().unwrap()[0].contains("\"app-profiles\" was deleted"), "{seen:?}");
        }
    }

    #[test]
    fn a_topic_that_comes_back_ends_nothing() {
        let mut seen = seen();
        for _ in 0..GONE_LOOKS {
            seen.look(&[Some(2), Some(2), Some(2), None]);
            seen.look(&[Some(2), Some(2), Some(2), Some(2)]);
            assert_eq!(seen.gone(), None);
        }
    }
}
