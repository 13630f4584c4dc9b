//! Which of several processes leads: the one to which a consumer group has given the only partition of a topic.
//!
//! Guarantees: at most one member of the group has the partition as far as the group knows. A member that is paused or
//! cut off may believe for a while that it still has it, so what a leader writes must be fenced as well. Limits: a
//! leader that dies is replaced after its session timeout of 6 s and a rebalance.

use super::{SourceError, TailSettings};
use crate::kafka::{Cluster, KnownBrokers, log_client, note_error};
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::KafkaError,
    statistics::Statistics,
    types::RDKafkaRespErr,
};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

struct Context {
    is_leader: AtomicBool,
    known: KnownBrokers,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.known.note(&statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note_error("candidate", &error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let is_assigned = answer(consumer, code, list);
        if list.count() > 0 {
            self.is_leader.store(is_assigned, Ordering::Release);
        }
    }
}

/// Answers a change of what a member has, and returns whether it was given something. Nothing is read: the partitions only stand
/// for what the group decides.
pub(super) fn answer<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    code: RDKafkaRespErr,
    list: &TopicPartitionList,
) -> bool {
    let is_assigned = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    // The protocol is not known before the first rebalance.
    let is_cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
    let answer = match (is_assigned, is_cooperative) {
        (true, true) => consumer.incremental_assign(list),
        (true, false) => consumer.assign(list),
        (false, true) => consumer.incremental_unassign(list),
        (false, false) => consumer.unassign(),
    };
    let answer = answer.and_then(|()| if is_assigned { consumer.pause(list) } else { Ok(()) });
    if let Err(error) = answer {
        tracing::warn!(%error, "answer a change of the group");
    }
    is_assigned
}

/// A member of the group that elects the leader.
pub struct Candidacy {
    consumer: BaseConsumer<Context>,
    topic: String,
}

impl Candidacy {
    /// Joins the group.
    ///
    /// # Errors
    /// [`SourceError::Settings`] if the client rejects a setting.
    pub fn join(settings: &TailSettings) -> Result<Self, SourceError> {
        let refused = |error: KafkaError| SourceError::settings(&settings.brokers, &error);
        let cluster = Cluster { brokers: &settings.brokers, settings: &settings.client };
        let context = Context { is_leader: AtomicBool::default(), known: KnownBrokers::new(&settings.brokers) };
        let consumer = cluster.candidate(&settings.group, context).map_err(refused)?;
        consumer.subscribe(&[&settings.topic]).map_err(refused)?;
        Ok(Self { consumer, topic: settings.topic.clone() })
    }

    /// Whether this process leads. To be called several times a second, because the group's messages are answered here.
    ///
    /// # Errors
    /// If the client has failed permanently.
    pub fn is_leader(&self) -> Result<bool, SourceError> {
        self.consumer.context().known.restore(self.consumer.client());
        while let Some(answer) = self.consumer.poll(Duration::ZERO) {
            match answer {
                Err(error) if super::kafka::is_fatal(&error) => {
                    let doing = "stay in the group that elects the leader".to_owned();
                    return Err(SourceError::Fatal { doing, detail: super::kafka::words(&error, &self.topic) });
                }
                Err(error) => tracing::debug!(%error, "candidate"),
                Ok(_) => {}
            }
        }
        Ok(self.consumer.context().is_leader.load(Ordering::Acquire) && !self.consumer.assignment_lost())
    }
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        // On its own, closing leaves the group only if there are partitions to revoke.
        self.consumer.unsubscribe();
    }
}
