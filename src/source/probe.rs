//! Read-only queries to the cluster: the probe joins no group and commits nothing.

use super::{SourceError, membership::partitions_of};
use crate::kafka::{Cluster, Quiet};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
};
use std::time::{Duration, Instant};

/// How long one answer may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long to wait for the newest records: the end of a log may have none that readers see.
const NEWEST_WAIT: Duration = Duration::from_secs(3);

/// Looks up how many partitions topics have.
pub struct TopicLook(BaseConsumer<Quiet>);

impl TopicLook {
    /// A client for the cluster; does not connect yet.
    ///
    /// # Errors
    /// [`SourceError::Settings`] if the client rejects a setting.
    pub fn new(brokers: &str, client: &[(String, String)]) -> Result<Self, SourceError> {
        let observer = Cluster { brokers, settings: client }.observer();
        observer.map(Self).map_err(|error| SourceError::settings(brokers, &error))
    }

    /// How many partitions a topic has; `None` if it does not exist.
    ///
    /// # Errors
    /// If no broker answers, or it refuses.
    pub fn partitions(&self, topic: &str) -> Result<Option<usize>, SourceError> {
        let failed = |detail: String| {
            self.0.context().known.name_again(self.0.client());
            SourceError::Unreachable { doing: format!("look up {topic}"), detail }
        };
        // Polling only drains the client's own events.
        drop(self.0.poll(Duration::ZERO));
        // Metadata requests of a consumer do not auto-create topics.
        let metadata = self.0.fetch_metadata(Some(topic), DEADLINE).map_err(|error| failed(error.to_string()))?;
        let Some(found) = metadata.topics().iter().find(|it| it.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => Ok(Some(found.partitions().len())),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(failed(code.to_string())),
        }
    }
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id, which the group has given to it.
    pub id: String,
    /// Its client id.
    pub client: String,
    /// Where it comes from.
    pub host: String,
    /// The partitions of the topic that the group has given to it.
    pub partitions: Vec<i32>,
}

/// A consumer for queries only.
pub struct Probe {
    consumer: BaseConsumer<Quiet>,
    group: String,
    topic: String,
    partitions: i32,
}

impl Probe {
    /// A probe of a group's access to a topic with this many partitions.
    ///
    /// # Errors
    /// [`SourceError::Settings`] if the client rejects a setting.
    pub fn new(
        brokers: &str,
        client: &[(String, String)],
        group: &str,
        topic: &str,
        partitions: i32,
    ) -> Result<Self, SourceError> {
        let probe = Cluster { brokers, settings: client }.probe(group);
        let consumer = probe.map_err(|error| SourceError::settings(brokers, &error))?;
        Ok(Self { consumer, group: group.to_owned(), topic: topic.to_owned(), partitions })
    }

    fn list(&self, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for partition in 0..self.partitions {
            list.add_partition_offset(&self.topic, partition, offset)?;
        }
        Ok(list)
    }

    /// The members of the group, and whether it is stable: while it rebalances, dead members stay for longer than a session.
    ///
    /// # Errors
    /// If the coordinator refuses or does not answer.
    pub fn members(&self) -> Result<(Vec<Member>, bool), SourceError> {
        let failed = |error: KafkaError| {
            self.consumer.context().known.name_again(self.consumer.client());
            let doing = format!("list the members of the group {}", self.group);
            SourceError::Unreachable { doing, detail: error.to_string() }
        };
        let groups = self.consumer.fetch_group_list(Some(&self.group), DEADLINE).map_err(failed)?;
        let members = groups.groups().iter().flat_map(rdkafka::groups::GroupInfo::members);
        let member = |it: &rdkafka::groups::GroupMemberInfo| Member {
            id: it.id().to_owned(),
            client: it.client_id().to_owned(),
            host: it.client_host().to_owned(),
            partitions: partitions_of(it.assignment().unwrap_or_default(), &self.topic),
        };
        let is_stable = groups.groups().iter().all(|group| group.state() == "Stable");
        Ok((members.map(member).collect(), is_stable))
    }

    /// How many partitions the group has committed positions for.
    ///
    /// # Errors
    /// If the coordinator refuses or does not answer.
    pub fn committed(&self) -> Result<usize, SourceError> {
        Ok(self.positions()?.len())
    }

    /// The group's commits: partition, next offset and metadata.
    ///
    /// # Errors
    /// If the coordinator refuses or does not answer.
    pub fn positions(&self) -> Result<Vec<(i32, i64, String)>, SourceError> {
        let failed = |error: KafkaError| SourceError::Unreachable {
            doing: "read the group's positions".to_owned(),
            detail: error.to_string(),
        };
        let list = self.list(Offset::Invalid).map_err(failed)?;
        // If the coordinator refuses, the client retries until the timeout and reports the refusal only as an event.
        let refusal = |error| self.consumer.poll(Duration::ZERO).and_then(Result::err).unwrap_or(error);
        let answer = self.consumer.committed_offsets(list, DEADLINE).map_err(|error| failed(refusal(error)))?;
        let position = |it: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match it.offset() {
            Offset::Offset(next) => Some((it.partition(), next, it.metadata().to_owned())),
            _ => None,
        };
        Ok(answer.elements().iter().filter_map(position).collect())
    }

    /// The newest Kafka timestamp among the last records of the partitions, in milliseconds since 1970; `None` if there
    /// is nothing to read.
    ///
    /// # Errors
    /// If the topic cannot be read, or the client fails.
    pub fn newest_ms(&self) -> Result<Option<i64>, SourceError> {
        let failed = |error: KafkaError| SourceError::Unreachable {
            doing: format!("read the end of {}", self.topic),
            detail: error.to_string(),
        };
        self.consumer.assign(&self.list(Offset::OffsetTail(1)).map_err(failed)?).map_err(failed)?;
        let start = Instant::now();
        let (mut newest, mut found) = (None, 0);
        while found < self.partitions && start.elapsed() < NEWEST_WAIT {
            match self.consumer.poll(Duration::from_millis(100)) {
                // A refusal about the group does not concern the input.
                None | Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::GroupAuthorizationFailed))) => {}
                Some(message) => {
                    newest = newest.max(message.map_err(failed)?.timestamp().to_millis());
                    found += 1;
                }
            }
        }
        self.consumer.unassign().map_err(failed)?;
        Ok(newest)
    }
}
