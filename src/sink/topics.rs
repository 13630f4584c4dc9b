//! Topics: their actual state, the required state, and creating or growing them.
//!
//! Limits: each request to the cluster ends within the given deadline.

use crate::kafka::{Cluster, Quiet, missing_right};
use rdkafka::{
    admin::{
        AdminClient, AdminOptions, NewPartitions, NewTopic, OwnedResourceSpecifier, ResourceSpecifier, TopicReplication,
    },
    client::DefaultClientContext,
    consumer::Consumer,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
    producer::{BaseProducer, Producer},
};
use std::time::{Duration, Instant};

/// How long the first attempt to reach a broker takes, after which the client's messages are looked at.
const ATTEMPT: Duration = Duration::from_millis(500);

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
    /// Unlike the admin client, it passes on what is wrong with its connections.
    look: BaseProducer<Quiet>,
    brokers: String,
    settings: Vec<(String, String)>,
    deadline: Duration,
}

impl Topics {
    /// A client for the cluster; does not connect yet.
    ///
    /// # Errors
    /// [`TopicsError::Settings`]
    pub fn new(brokers: &str, client: &[(String, String)], deadline: Duration) -> Result<Self, TopicsError> {
        let cluster = Cluster { brokers, settings: client };
        let refused = |error: KafkaError| TopicsError::Settings(error.to_string());
        let (admin, look) = (cluster.admin().map_err(refused)?, cluster.look().map_err(refused)?);
        Ok(Self { client: admin, look, brokers: brokers.to_owned(), settings: client.to_vec(), deadline })
    }

    fn cluster(&self) -> Cluster<'_> {
        Cluster { brokers: &self.brokers, settings: &self.settings }
    }

    /// The brokers and all topics that this user may see. Gives up early if waiting does not help.
    fn metadata(&self) -> Result<Metadata, TopicsError> {
        let (start, mut attempt) = (Instant::now(), ATTEMPT);
        loop {
            let left = self.deadline.saturating_sub(start.elapsed());
            // Requesting topics by name could create them if the broker auto-creates topics.
            match self.look.client().fetch_metadata(None, left.clamp(Duration::from_millis(1), attempt)) {
                Ok(metadata) => return Ok(metadata),
                Err(error) => {
                    // Polling only passes on the client's own messages.
                    self.look.poll(Duration::ZERO);
                    self.look.context().known.name_again(self.look.client());
                    // An answer that comes later is lost, and a busy cluster may need longer for it.
                    attempt *= 2;
                    if left.is_zero() || Cluster::is_hopeless(start) {
                        let detail = self.cluster().explain(start, &error);
                        return Err(TopicsError::Unreachable { brokers: self.brokers.clone(), detail });
                    }
                }
            }
        }
    }

    /// Whether this user may not see a topic that appears to be missing. Brokers do not tell whether it exists.
    fn is_hidden(&self, name: &str) -> bool {
        let Ok(observer) = self.cluster().observer() else { return false };
        // Requests of a consumer do not create topics.
        let Ok(metadata) = observer.fetch_metadata(Some(name), self.deadline) else { return false };
        let topic = metadata.topics().iter().find(|topic| topic.name() == name);
        let error = topic.and_then(rdkafka::metadata::MetadataTopic::error);
        error.map(RDKafkaErrorCode::from) == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
    }

    /// The state of a topic; `None` if it does not exist.
    ///
    /// # Errors
    /// If no broker answers, or the cluster refuses.
    pub async fn state(&self, name: &str) -> Result<Option<TopicState>, TopicsError> {
        Ok(self.states(&[name]).await?.pop().flatten())
    }

    /// How many partitions a topic has; `None` if it does not exist.
    ///
    /// # Errors
    /// As for [`Topics::state`].
    pub fn partitions(&self, name: &str) -> Result<Option<usize>, TopicsError> {
        Ok(self.found(&[name])?.pop().flatten().map(|state| state.partitions))
    }

    /// The topics that exist, without their settings, in the order of `names`.
    fn found(&self, names: &[&str]) -> Result<Vec<Option<TopicState>>, TopicsError> {
        let metadata = self.metadata()?;
        let find = |name: &&str| {
            let topic = metadata.topics().iter().find(|topic| topic.name() == *name)?;
            Some(TopicState { partitions: topic.partitions().len(), settings: Vec::new() })
        };
        let states: Vec<Option<TopicState>> = names.iter().map(find).collect();
        for (name, _) in names.iter().zip(&states).filter(|(_, state)| state.is_none()) {
            if self.is_hidden(name) {
                let code = RDKafkaErrorCode::TopicAuthorizationFailed;
                let detail = missing_right(code, "Describe", Some(name)).unwrap_or_default();
                return Err(TopicsError::Refused { doing: format!("look up {name}"), detail });
            }
        }
        Ok(states)
    }

    /// The states of several topics, in the order of `names`.
    ///
    /// # Errors
    /// As for [`Topics::state`].
    pub async fn states(&self, names: &[&str]) -> Result<Vec<Option<TopicState>>, TopicsError> {
        let mut states = self.found(names)?;
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
        let metadata = self.metadata()?;
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
            Some((_, code)) => {
                Err(refused(missing_right(code, "Alter", Some(name)).unwrap_or_else(|| code.to_string())))
            }
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
                Err((_, code)) => {
                    let right = missing_right(code, "Create", Some(&plan.name));
                    return Err(refused(right.unwrap_or_else(|| code.to_string())));
                }
            }
        }
        Ok(())
    }
}
