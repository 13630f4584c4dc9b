//! Which partitions of a topic a process answers for, if the members of a consumer group share them.
//!
//! The member reads nothing: a [`super::Tail`] does, from the start of each partition, so nothing is committed. Where the process
//! can be reached travels in its client id, behind an `@`, because librdkafka lets nobody add to what a member tells the group,
//! and whoever describes a group learns the client ids together with the partitions ([`super::Probe::members`]).
//!
//! Guarantees: a partition that the group gives to another member is given up at once. While the group cannot be reached, the
//! member keeps what it has, because answers about it stay as true as they were; it learns what it has when it is back.

use super::{SourceError, TailSettings, candidacy::answer};
use crate::kafka::{Cluster, KnownBrokers, log_client, note_error};
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaError,
    statistics::Statistics,
    types::RDKafkaRespErr,
};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What stands between the name of a client and where its process can be reached.
const BEFORE_ADDRESS: char = '@';

/// What the group has told.
#[derive(Debug, Default)]
struct Told {
    /// `None` until it has told anything.
    held: Option<BTreeSet<i32>>,
    /// The group has forgotten this member, so that it will be told everything anew.
    is_lost: bool,
}

impl Told {
    fn assigned(&mut self, partitions: impl Iterator<Item = i32>) {
        let held = self.held.get_or_insert_default();
        if std::mem::take(&mut self.is_lost) {
            held.clear();
        }
        held.extend(partitions);
    }

    fn revoked(&mut self, partitions: impl Iterator<Item = i32>, is_lost: bool) {
        if is_lost {
            self.is_lost = true;
        } else if let Some(held) = &mut self.held {
            let given_up: BTreeSet<i32> = partitions.collect();
            held.retain(|partition| !given_up.contains(partition));
        }
    }
}

struct Context {
    told: Mutex<Told>,
    known: KnownBrokers,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.known.note(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note_error("member", &error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_lost = consumer.assignment_lost();
        let is_assigned = answer(consumer, code, list);
        let elements = list.elements();
        let partitions = elements.iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if is_assigned { told.assigned(partitions) } else { told.revoked(partitions, is_lost) }
    }
}

/// A member of the group whose members share the partitions of a topic.
pub struct Membership {
    consumer: BaseConsumer<Context>,
    topic: String,
}

impl Membership {
    /// Joins the group of the settings. `name` and `address` say who the process is, and where it can be reached.
    ///
    /// # Errors
    /// [`SourceError::Settings`] if the client rejects a setting.
    pub fn join(settings: &TailSettings, name: &str, address: &str) -> Result<Self, SourceError> {
        let refused = |error: KafkaError| SourceError::settings(&settings.brokers, &error);
        let mut client = settings.client.clone();
        client.push(("client.id".to_owned(), format!("{name}{BEFORE_ADDRESS}{address}")));
        let cluster = Cluster { brokers: &settings.brokers, settings: &client };
        let context = Context { told: Mutex::default(), known: KnownBrokers::new(&settings.brokers) };
        let consumer = cluster.candidate(&settings.group, context).map_err(refused)?;
        consumer.subscribe(&[&settings.topic]).map_err(refused)?;
        Ok(Self { consumer, topic: settings.topic.clone() })
    }

    /// The partitions that this process has; `None` until the group has told. To be called several times a second, because the
    /// group's messages are answered here.
    ///
    /// # Errors
    /// If the client has failed permanently.
    pub fn held(&self) -> Result<Option<BTreeSet<i32>>, SourceError> {
        self.consumer.context().known.restore(self.consumer.client());
        while let Some(answer) = self.consumer.poll(Duration::ZERO) {
            match answer {
                Err(error) if super::kafka::is_fatal(&error) => {
                    let doing = "share the partitions".to_owned();
                    return Err(SourceError::Fatal { doing, detail: super::kafka::words(&error, &self.topic) });
                }
                Err(error) => tracing::debug!(%error, "member"),
                Ok(_) => {}
            }
        }
        Ok(self.consumer.context().told.lock().unwrap_or_else(PoisonError::into_inner).held.clone())
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        // On its own, closing leaves the group only if there are partitions to revoke.
        self.consumer.unsubscribe();
    }
}

/// Where a member with this client id can be reached.
pub fn address_of(client: &str) -> Option<&str> {
    client.split_once(BEFORE_ADDRESS).map(|(_, address)| address)
}

/// The partitions of a topic in a member's assignment, as the consumer protocol encodes it: a version, and for each topic its name
/// and partitions. What cannot be read is left out.
pub(super) fn partitions_of(assignment: &[u8], topic: &str) -> Vec<i32> {
    fn number<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (bytes, after) = rest.split_first_chunk::<N>()?;
        *rest = after;
        Some(*bytes)
    }
    fn read(mut rest: &[u8], topic: &str) -> Option<Vec<i32>> {
        let rest = &mut rest;
        let _version = i16::from_be_bytes(number(rest)?);
        let mut found = Vec::new();
        for _ in 0..i32::from_be_bytes(number(rest)?) {
            let length = usize::try_from(i16::from_be_bytes(number(rest)?)).ok()?;
            let (name, after) = rest.split_at_checked(length)?;
            *rest = after;
            for _ in 0..i32::from_be_bytes(number(rest)?) {
                let partition = i32::from_be_bytes(number(rest)?);
                if name == topic.as_bytes() {
                    found.push(partition);
                }
            }
        }
        Some(found)
    }
    read(assignment, topic).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_is_read_and_one_that_is_cut_off_says_nothing() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (topic, partitions) in [("other", &[9_i32][..]), ("decisions", &[0, 4, 258])] {
            bytes.extend((topic.len() as i16).to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend((partitions.len() as i32).to_be_bytes());
            for partition in partitions {
                bytes.extend(partition.to_be_bytes());
            }
        }
        let whole = bytes.len();
        bytes.extend([0xff; 4]);
        assert_eq!(partitions_of(&bytes, "decisions"), [0, 4, 258]);
        assert_eq!(partitions_of(&bytes, "other"), [9]);
        assert!(partitions_of(&bytes, "third").is_empty());
        for end in 0..whole {
            assert!(partitions_of(&bytes[..end], "decisions").is_empty(), "cut at {end}");
        }
        assert!(partitions_of(&[0xff; 40], "decisions").is_empty());
    }

    #[test]
    fn an_address_stands_behind_the_name() {
        assert_eq!(address_of("shop-serve-a@http://10.0.0.5:9470"), Some("http://10.0.0.5:9470"));
        assert_eq!(address_of("shop-serve-a"), None);
    }

    #[test]
    fn a_member_keeps_what_it_has_while_the_group_has_forgotten_it() {
        let mut told = Told::default();
        told.assigned([].into_iter());
        assert_eq!(told.held, Some(BTreeSet::new()), "it was told that it has nothing");
        told.assigned([1, 2, 3].into_iter());
        told.revoked([2].into_iter(), false);
        assert_eq!(told.held, Some([1, 3].into()));
        told.revoked([1, 3].into_iter(), true);
        assert_eq!(told.held, Some([1, 3].into()));
        told.assigned([3, 4].into_iter());
        assert_eq!(told.held, Some([3, 4].into()), "it was told everything anew");
        told.revoked([4].into_iter(), false);
        told.assigned([5].into_iter());
        assert_eq!(told.held, Some([3, 5].into()));
    }
}
