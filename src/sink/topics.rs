//! Topics: their actual state, the required state, and creating or growing them.
//!
//! Limits: each request to the cluster ends within the given deadline.

use crate::kafka::Cluster;
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use std::time::Duration;

/// The actual state of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// How many partitions it has.
    pub partitions: usize,
    /// Its settings, as far as the cluster reports them.
    pub settings: Vec<(String, String)>,
}

impl TopicState {
    /// One of its settings.
    pub fn setting(&self, name: &str) -> Option<&str> {
        self.settings.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Its name.
    pub name: String,
    /// How many partitions to create.
    pub partitions: i32,
    /// The replication factor; -1 leaves it to the broker.
    pub replication: i32,
    /// Its settings.
    pub settings: Vec<(&'static str, String)>,
}

/// Why a request to the cluster failed.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The client could not be created with these settings.
    #[error("make the admin client: {0}")]
    Settings(String),
    /// No broker answers.
    #[error("reach a broker at {brokers}: {detail}")]
    Unreachable {
        /// The brokers that were tried.
        brokers: String,
        /// The client's message.
        detail: String,
    },
    /// The cluster refused the request.
    #[error("{doing}: {detail}")]
    Refused {
        /// What was being done.
        doing: String,
        /// The client's message.
        detail: String,
    },
}

/// Describes and creates topics.
pub struct Topics {
    client: AdminClient<DefaultClientContext>,
    brokers: String,
    deadline: Duration,
}

impl Topics {
    /// A client for the cluster; does not connect yet.
    ///
    /// # Errors
    /// [`TopicsError::Settings`]
    pub fn new(brokers: &str, client: &[(String, String)], deadline: Duration) -> Result<Self, TopicsError> {
        let client = Cluster { brokers, settings: client }.admin();
        let client = client.map_err(|error| TopicsError::Settings(error.to_string()))?;
        Ok(Self { client, brokers: brokers.to_owned(), deadline })
    }

    /// The state of a topic; `None` if it does not exist.
    ///
    /// # Errors
    /// If no broker answers, or the cluster refuses.
    pub async fn state(&self, name: &str) -> Result<Option<TopicState>, TopicsError> {
        Ok(self.states(&[name]).await?.pop().flatten())
    }

    /// The states of several topics, in the order of `names`.
    ///
    /// # Errors
    /// As for [`Topics::state`].
    pub async fn states(&self, names: &[&str]) -> Result<Vec<Option<TopicState>>, TopicsError> {
        let unreachable =
            |error: KafkaError| TopicsError::Unreachable { brokers: self.brokers.clone(), detail: error.to_string() };
        // Requesting topics by name could create them if the broker auto-creates topics.
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
        // A user who can read a topic may not be allowed to see its settings; they then stay unknown.
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

    /// The default replication factor, as far as the cluster reports it.
    ///
    /// # Errors
    /// If no broker answers.
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

    /// Increases the number of partitions of a topic to this count.
    ///
    /// # Errors
    /// If the cluster refuses.
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

    /// Creates a topic and waits until the cluster shows it.
    ///
    /// # Errors
    /// If the cluster refuses. A topic that already exists is not an error.
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
