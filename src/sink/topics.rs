//! The topics: what there is, what has to be, and how to make it so.
//!
//! Limits: each question to the cluster ends within the deadline it is given.

use crate::kafka::Cluster;
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use std::time::Duration;

/// A topic as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// How many partitions it has.
    pub partitions: usize,
    /// Its settings, as far as the cluster tells them.
    pub settings: Vec<(String, String)>,
}

impl TopicState {
    /// One of its settings.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions it gets.
    pub partitions: i32,
    /// How many replicas; -1 leaves it to the broker.
    pub replication: i32,
    /// Its settings.
    pub settings: Vec<(&'static str, String)>,
}

/// Why a question to the cluster has no answer.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The client could not be made from its settings.
    #[error("make the admin client: {0}")]
    Settings(String),
    /// No broker answers.
    #[error("reach a broker at {brokers}: {detail}")]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// The client's words.
        detail: String,
    },
    /// The cluster refuses.
    #[error("{doing}: {detail}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The client's words.
        detail: String,
    },
}

/// Asks the cluster about topics and makes them.
pub struct Topics {
    client: AdminClient<DefaultClientContext>,
    brokers: String,
    deadline: Duration,
}

impl Topics {
    /// A client for the cluster; nothing is asked yet.
    ///
    /// # Errors
    /// [`TopicsError::Settings`]
    pub fn new(brokers: &str, client: &[(String, String)], deadline: Duration) -> Result<Self, TopicsError> {
        let client = Cluster { brokers, settings: client }.admin();
        let client = client.map_err(|error| TopicsError::Settings(error.to_string()))?;
        Ok(Self { client, brokers: brokers.to_owned(), deadline })
    }

    /// A topic as it is, or nothing where there is none of this name.
    ///
    /// # Errors
    /// When no broker answers, or it refuses.
    pub async fn state(&self, name: &str) -> Result<Option<TopicState>, TopicsError> {
        Ok(self.states(&[name]).await?.pop().flatten())
    }

    /// Several topics as they are, in the order of their names.
    ///
    /// # Errors
    /// As [`Topics::state`].
    pub async fn states(&self, names: &[&str]) -> Result<Vec<Option<TopicState>>, TopicsError> {
        let unreachable =
            |error: KafkaError| TopicsError::Unreachable { brokers: self.brokers.clone(), detail: error.to_string() };
        // Asking for topics by name could create them, where the broker creates what is asked for.
        let metadata = self.client.inner().fetch_metadata(None, self.deadline).map_err(unreachable)?;
        let mut states: Vec<Option<TopicState>> = names
            .iter()
            .map(|name| {
                let topic = metadata.topics().iter().find(|topic| topic.name() == *name)?;
                Some(TopicState { partitions: topic.partitions().len(), settings: Vec::new() })
            })
            .collect();
        let there = names.iter().zip(&states).filter(|(_, state)| state.is_some());
        let asked: Vec<ResourceSpecifier<'_>> = there.map(|(name, _)| ResourceSpecifier::Topic(name)).collect();
        if asked.is_empty() {
            return Ok(states);
        }
        let options = AdminOptions::new().request_timeout(Some(self.deadline));
        // A user who may read a topic may still not see its settings; then they stay unknown.
        let described = self.client.describe_configs(&asked, &options).await.unwrap_or_default();
        for resource in described.into_iter().flatten() {
            let of = |name: &&str| resource.specifier == OwnedResourceSpecifier::Topic((*name).to_owned());
            if let Some(state) = names.iter().position(of).and_then(|index| states[index].as_mut()) {
                let entries = resource.entries.into_iter();
                state.settings = entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
            }
        }
        Ok(states)
    }

    /// How many replicas a topic gets where nothing is said, as far as the cluster tells.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn usual_replication(&self) -> Result<Option<i32>, TopicsError> {
        let unreachable =
            |error: KafkaError| TopicsError::Unreachable { brokers: self.brokers.clone(), detail: error.to_string() };
        let metadata = self.client.inner().fetch_metadata(None, self.deadline).map_err(unreachable)?;
        let Some(broker) = metadata.brokers().first() else { return Ok(None) };
        let options = AdminOptions::new().request_timeout(Some(self.deadline));
        let asked = [ResourceSpecifier::Broker(broker.id())];
        let described = self.client.describe_configs(&asked, &options).await.unwrap_or_default();
        let mut entries = described.into_iter().flatten().flat_map(|it| it.entries);
        let told = entries.find(|entry| entry.name == "default.replication.factor");
        Ok(told.and_then(|entry| entry.value?.parse().ok()))
    }

    /// Gives a topic more partitions, up to this count.
    ///
    /// # Errors
    /// When the cluster refuses.
    pub async fn grow(&self, name: &str, partitions: usize) -> Result<(), TopicsError> {
        let options = AdminOptions::new().request_timeout(Some(self.deadline)).operation_timeout(Some(self.deadline));
        let refused = |detail: String| TopicsError::Refused { doing: format!("add partitions to {name}"), detail };
        let more = [NewPartitions::new(name, partitions)];
        let answers =
            self.client.create_partitions(&more, &options).await.map_err(|error| refused(error.to_string()))?;
        match answers.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some((_, code)) => Err(refused(code.to_string())),
        }
    }

    /// Makes a topic and waits until the cluster shows it.
    ///
    /// # Errors
    /// When the cluster refuses. A topic that is there already is no error.
    pub async fn create(&self, plan: &TopicPlan) -> Result<(), TopicsError> {
        let mut topic = NewTopic::new(&plan.name, plan.partitions, TopicReplication::Fixed(plan.replication));
        for (name, value) in &plan.settings {
            topic = topic.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(self.deadline)).operation_timeout(Some(self.deadline));
        let refused =
            |detail: String| TopicsError::Refused { doing: format!("create the topic {}", plan.name), detail };
        let answers =
            self.client.create_topics([&topic], &options).await.map_err(|error| refused(error.to_string()))?;
        for answer in answers {
            match answer {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(refused(code.to_string())),
            }
        }
        Ok(())
    }
}
