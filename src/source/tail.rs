//! Reads the partitions of one topic from given positions, and knows what it has read.
//!
//! Guarantees: committed records only, in order within a partition. [`Tail::is_read`] says whether everything below an
//! end has been handed over, whether or not the last offsets of the log are records: those of markers and aborted
//! transactions are not. Partitions that are added to the topic are read from their start. Limits: a look-up of the ends
//! asks one partition after the other, and gives up at its deadline.

use super::{SourceError, Watermarks};
use crate::{
    event::Record,
    kafka::{Cluster, Isolation, KnownBrokers, log_client, missing_right, note_error},
    logging,
};
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    statistics::Statistics,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// How long the look-ups of an opening may take.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// The longest that one look-up waits.
const CALL_DEADLINE: Duration = Duration::from_secs(5);
/// The pause between attempts of a look-up.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// Where a topic is read.
#[derive(Clone, Debug)]
pub struct TailSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// The group that the client names. It does not join it.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The user's librdkafka settings.
    pub client: Vec<(String, String)>,
}

impl TailSettings {
    fn cluster(&self) -> Cluster<'_> {
        Cluster { brokers: &self.brokers, settings: &self.client }
    }
}

/// Remembers the ends that the client has reported.
struct Context {
    topic: String,
    /// By partition, the end up to which there was nothing more when it was last reached.
    reached: Mutex<BTreeMap<i32, i64>>,
    known: KnownBrokers,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.known.note(&statistics);
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        let partitions = topic.partitions.values().filter(|it| it.partition >= 0 && it.eof_offset >= 0);
        let reached = partitions.map(|it| (it.partition, it.eof_offset)).collect();
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner) = reached;
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note_error("reader", &error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }
}

impl ConsumerContext for Context {}

/// A topic that is being read.
pub struct Tail {
    consumer: BaseConsumer<Context>,
    settings: TailSettings,
    /// By partition, the next offset to hand over.
    next: BTreeMap<i32, i64>,
    /// The partitions whose end was reached after their last record.
    ended: BTreeSet<i32>,
}

impl Tail {
    /// Starts reading all partitions. `start` is told the ends of each partition, and returns where to begin.
    ///
    /// # Errors
    /// If the client rejects a setting, no broker answers, or the topic does not exist.
    pub fn open(settings: &TailSettings, mut start: impl FnMut(i32, Watermarks) -> i64) -> Result<Self, SourceError> {
        let (mut it, all) = Self::found(settings)?;
        let begun = Instant::now();
        let ends: Result<BTreeMap<i32, Watermarks>, SourceError> =
            all.iter().map(|partition| Ok((*partition, it.watermarks(*partition, begun, OPEN_DEADLINE)?))).collect();
        it.next = ends?.into_iter().map(|(partition, ends)| (partition, start(partition, ends))).collect();
        it.assign()?;
        Ok(it)
    }

    /// Opens the topic and reads none of its partitions yet.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn open_idle(settings: &TailSettings) -> Result<Self, SourceError> {
        Self::found(settings).map(|(it, _)| it)
    }

    /// A client for a topic that exists, and its partitions.
    fn found(settings: &TailSettings) -> Result<(Self, BTreeSet<i32>), SourceError> {
        let context = Context {
            topic: settings.topic.clone(),
            reached: Mutex::default(),
            known: KnownBrokers::new(&settings.brokers),
        };
        let consumer = settings.cluster().tail(&settings.group, context);
        let consumer = consumer.map_err(|error| SourceError::settings(&settings.brokers, &error))?;
        let it = Self { consumer, settings: settings.clone(), next: BTreeMap::new(), ended: BTreeSet::new() };
        let all: BTreeSet<i32> = it.partitions(Instant::now(), OPEN_DEADLINE)?.into_iter().collect();
        if all.is_empty() {
            return Err(SourceError::Fatal {
                doing: format!("read {}", settings.topic),
                detail: "the topic does not exist; create it with: aimpoint topics --create".to_owned(),
            });
        }
        Ok((it, all))
    }

    /// Reads these partitions and no others. Those that were read already go on; `start` returns where to begin with each other one.
    /// If that is before the first record, reading begins with the first record. No broker is asked, so a partition without a leader
    /// holds up none of the others.
    ///
    /// # Errors
    /// If the client refuses.
    pub fn follow_only(
        &mut self,
        partitions: &BTreeSet<i32>,
        mut start: impl FnMut(i32) -> i64,
    ) -> Result<(), SourceError> {
        self.next.retain(|partition, _| partitions.contains(partition));
        self.ended.retain(|partition| partitions.contains(partition));
        for partition in partitions {
            self.next.entry(*partition).or_insert_with(|| start(*partition));
        }
        self.assign()
    }

    /// The partitions that are being read.
    pub fn reads(&self) -> impl Iterator<Item = i32> {
        self.next.keys().copied()
    }

    /// Hands over up to `max` records, waiting at most `wait` for the first. Returns how many.
    ///
    /// # Errors
    /// If the client has failed permanently. Broken connections recover by themselves and are not errors.
    pub fn poll(
        &mut self,
        max: usize,
        wait: Duration,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<usize, SourceError> {
        self.consumer.context().known.restore(self.consumer.client());
        let (mut taken, mut wait) = (0, wait);
        while taken < max {
            match self.consumer.poll(wait) {
                None => break,
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    if self.next.get(&partition).is_some_and(|next| offset < *next) {
                        return Err(SourceError::Fatal {
                            doing: format!("read {}/{partition}", self.settings.topic),
                            detail: format!(
                                "offset {offset} came a second time: the topic was recreated, or has lost records"
                            ),
                        });
                    }
                    self.next.insert(partition, offset + 1);
                    self.ended.remove(&partition);
                    take(&Record {
                        partition,
                        offset,
                        timestamp_ms: message.timestamp().to_millis(),
                        key: message.key(),
                        payload: message.payload(),
                        traceparent: None,
                        erase: None,
                    });
                    taken += 1;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(self.ended.insert(partition)),
                Some(Err(error)) if super::is_about_the_group(&error) => {}
                Some(Err(error)) if super::kafka::is_fatal(&error) => {
                    let doing = format!("read {}", self.settings.topic);
                    return Err(SourceError::Fatal {
                        doing,
                        detail: super::kafka::words(&error, &self.settings.topic),
                    });
                }
                Some(Err(error)) => {
                    if let Some(left_out) = logging::rate_limited("read") {
                        tracing::warn!(%error, left_out, topic = self.settings.topic, "the topic cannot be read: trying again");
                    }
                }
            }
            wait = Duration::ZERO;
        }
        Ok(taken)
    }

    /// The present end of every partition, below which each transaction has ended. Starts reading added partitions.
    ///
    /// # Errors
    /// If a broker does not answer within the deadline.
    pub fn ends(&mut self, deadline: Duration) -> Result<Vec<(i32, i64)>, SourceError> {
        let begun = Instant::now();
        let added = self.partitions(begun, deadline)?.into_iter().filter(|it| !self.next.contains_key(it));
        let added: Vec<i32> = added.collect();
        if !added.is_empty() {
            tracing::info!(topic = self.settings.topic, ?added, "partitions were added");
            self.next.extend(added.into_iter().map(|partition| (partition, 0)));
            self.assign()?;
        }
        let partitions: Vec<i32> = self.next.keys().copied().collect();
        let end = |partition| Ok((partition, self.watermarks(partition, begun, deadline)?.high));
        partitions.into_iter().map(end).collect()
    }

    /// Whether everything below this end of a partition has been handed over. It may be known half a second late.
    pub fn is_read(&self, partition: i32, end: i64) -> bool {
        if self.next.get(&partition).is_none_or(|next| *next >= end) {
            return true;
        }
        // The end-of-partition event does not say which end it was; the statistics do.
        let reached = self.consumer.context().reached.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended.contains(&partition) && reached.get(&partition).is_some_and(|reached| *reached >= end)
    }

    /// How many partitions are being read.
    pub fn partition_count(&self) -> usize {
        self.next.len()
    }

    /// The next offset of a partition to hand over.
    pub fn next(&self, partition: i32) -> Option<i64> {
        self.next.get(&partition).copied()
    }

    /// The offset that the next record of a partition gets, including those of open transactions.
    ///
    /// # Errors
    /// If no broker answers.
    pub fn high_watermark(&self, partition: i32) -> Result<i64, SourceError> {
        let Self { settings, .. } = self;
        let reader = settings.cluster().changelog_reader(&settings.group, Isolation::Uncommitted);
        let reader = reader.map_err(|error| SourceError::settings(&settings.brokers, &error))?;
        let doing = format!("read the end of {}/{partition}", settings.topic);
        let call = |wait| reader.fetch_watermarks(&settings.topic, partition, wait);
        self.retry(&doing, Instant::now(), OPEN_DEADLINE, call).map(|(_, high)| high)
    }

    fn partitions(&self, begun: Instant, deadline: Duration) -> Result<Vec<i32>, SourceError> {
        let topic = &self.settings.topic;
        let metadata = self.retry(&format!("look up {topic}"), begun, deadline, |wait| {
            self.consumer.fetch_metadata(Some(topic), wait)
        })?;
        let denied =
            metadata.topics().iter().find_map(rdkafka::metadata::MetadataTopic::error).map(RDKafkaErrorCode::from);
        if let Some(detail) = denied.and_then(|code| missing_right(code, "Read", Some(topic))) {
            return Err(SourceError::Fatal { doing: format!("look up {topic}"), detail });
        }
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        Ok(partitions.map(rdkafka::metadata::MetadataPartition::id).collect())
    }

    fn watermarks(&self, partition: i32, begun: Instant, deadline: Duration) -> Result<Watermarks, SourceError> {
        let topic = &self.settings.topic;
        let doing = format!("read the ends of {topic}/{partition}");
        let call = |wait| self.consumer.fetch_watermarks(topic, partition, wait);
        let (low, high) = self.retry(&doing, begun, deadline, call)?;
        Ok(Watermarks { low, high })
    }

    /// Repeats a call until it succeeds, the deadline has passed, or waiting does not help.
    fn retry<T>(
        &self,
        doing: &str,
        begun: Instant,
        deadline: Duration,
        mut call: impl FnMut(Duration) -> Result<T, KafkaError>,
    ) -> Result<T, SourceError> {
        loop {
            let left = deadline.saturating_sub(begun.elapsed()).min(CALL_DEADLINE);
            match call(left.max(Duration::from_millis(100))) {
                Ok(value) => return Ok(value),
                Err(error) if left.is_zero() || Cluster::is_hopeless(begun) => {
                    let detail = self.settings.cluster().explain(begun, &error);
                    return Err(SourceError::Unreachable { doing: doing.to_owned(), detail });
                }
                Err(_) => std::thread::sleep(RETRY_PAUSE),
            }
        }
    }

    fn assign(&self) -> Result<(), SourceError> {
        let refused = |error: KafkaError| SourceError::Fatal {
            doing: format!("read {}", self.settings.topic),
            detail: error.to_string(),
        };
        let mut list = TopicPartitionList::with_capacity(self.next.len());
        for (partition, next) in &self.next {
            list.add_partition_offset(&self.settings.topic, *partition, Offset::Offset(*next)).map_err(refused)?;
        }
        self.consumer.assign(&list).map_err(refused)
    }
}
