//! The Kafka consumer of one worker.
//!
//! Guarantees: the callback only records a rebalance, and the worker answers it. No message is held after `take`
//! returns, so no fetch buffer is pinned. Limits: calls to the coordinator end within [`CALL_DEADLINE`].

use super::{Change, Committed, Restored, Source, SourceError, Watermarks, changelog::Changelog};
use crate::{
    event::{ERASE_HEADER, Record},
    kafka::{Cluster, KafkaGroup, KnownBrokers, log_client, missing_right, note_error},
    logging,
    status::ClientReport,
};
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, RDKafkaErrorCode},
    message::Headers,
    statistics::Statistics,
    types::RDKafkaRespErr,
    util::Timeout,
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a call to the coordinator or a partition leader is retried. Well below the group's `max.poll.interval.ms`
/// of 5 minutes, because such calls block the worker's loop.
const CALL_DEADLINE: Duration = Duration::from_secs(30);

/// The pause between attempts of a call that a new coordinator briefly refuses.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The client's message if a partition has no position to seek from; it gives no error code.
const NO_POSITION: &str = "Erroneous state";

/// The shortest time that the client can wait.
const CLIENT_TICK: Duration = Duration::from_millis(1);

/// What to do about a batch that cannot be decompressed.
const DAMAGED_OR_LARGE: &str = "a batch is damaged, or (with zstd) larger than receive.message.max.bytes when it is decompressed: \
     raise that in [kafka.consumer] for one restart, at most to 2147483647; a damaged batch has to be skipped, see \"A batch that cannot \
     be decompressed\" in operating.md; and have the sender limit its batches";

/// How long the consumer may take to answer, before another client is asked.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// The settings of a consumer.
#[derive(Clone, Debug)]
pub struct KafkaSourceSettings {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// The input topic.
    pub topic: String,
    /// The changelog topic of the profiles.
    pub profiles: String,
    /// `group.instance.id`, for static membership.
    pub instance: Option<String>,
    /// The user's librdkafka settings.
    pub client: Vec<(String, String)>,
}

/// Collects the client's callbacks for the worker's loop.
struct Context {
    changes: Mutex<VecDeque<Change>>,
    /// Set while the consumer closes: nobody answers changes then, and closing would wait for the answers.
    closing: AtomicBool,
    /// The client's latest statistics, until the worker takes them.
    report: Mutex<Option<ClientReport>>,
    /// By partition, the log end according to the last statistics up to which the client found nothing more.
    ends: Mutex<BTreeMap<i32, i64>>,
    topic: String,
    known: KnownBrokers,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        self.known.note(&statistics);
        let brokers = || statistics.brokers.values();
        let partitions = statistics.topics.get(&self.topic).map(|topic| &topic.partitions);
        let partitions = || partitions.into_iter().flat_map(|it| it.values()).filter(|it| it.partition >= 0);
        let report = ClientReport {
            // Beyond the last stable offset: records behind another producer's open transaction also count as waiting.
            ends: partitions().filter(|it| it.hi_offset >= 0).map(|it| (it.partition, it.hi_offset)).collect(),
            fetched: partitions().map(|it| it.fetchq_cnt.max(0) as u64).sum(),
            round_trip: brokers()
                .filter_map(|it| it.rtt.as_ref())
                .map(|it| Duration::from_micros(it.p99.max(0) as u64))
                .max()
                .unwrap_or_default(),
            answers: u64::try_from(statistics.rx).ok(),
            errors: brokers().map(|it| it.txerrs + it.rxerrs + it.req_timeouts).sum(),
            disconnects: brokers().map(|it| it.disconnects.unwrap_or_default().max(0) as u64).sum(),
        };
        let ends = partitions().filter(|it| it.eof_offset >= 0).map(|it| (it.partition, it.eof_offset)).collect();
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        note_error("consumer", &error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_client(level, facility, message);
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<i32> =
            list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect();
        let assigned = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::Acquire) {
            let answer = match consumer.rebalance_protocol() {
                RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
                _ => consumer.unassign(),
            };
            if let Err(error) = answer {
                tracing::warn!(%error, "giving up partitions while closing failed");
            }
            return;
        }
        let change = match (assigned, consumer.assignment_lost()) {
            (true, _) => Change::Assigned(partitions),
            (false, false) => Change::Revoked(partitions),
            (false, true) => Change::Lost(partitions),
        };
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push_back(change);
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(200))
    }
}

/// A member of the consumer group.
pub struct KafkaSource {
    consumer: BaseConsumer<Context>,
    topic: String,
    settings: KafkaSourceSettings,
    changelog: Option<Changelog>,
    /// The partitions that have been fully handed over up to an end that the client has since reported.
    at_end: BTreeSet<i32>,
    /// Whether a position was no longer in the log.
    is_cut: bool,
}

impl KafkaSource {
    /// Creates the consumer and joins the group.
    ///
    /// # Errors
    /// [`SourceError::Settings`] if the client rejects a setting.
    pub fn subscribe(settings: &KafkaSourceSettings) -> Result<Self, SourceError> {
        let context = Context {
            changes: Mutex::default(),
            closing: AtomicBool::new(false),
            report: Mutex::default(),
            ends: Mutex::default(),
            topic: settings.topic.clone(),
            known: KnownBrokers::new(&settings.brokers),
        };
        let refused = |error: KafkaError| SourceError::settings(&settings.brokers, &error);
        let cluster = Cluster { brokers: &settings.brokers, settings: &settings.client };
        let consumer = cluster.member(&settings.group, settings.instance.as_deref(), context).map_err(refused)?;
        consumer.subscribe(&[&settings.topic]).map_err(refused)?;
        Ok(Self {
            consumer,
            topic: settings.topic.clone(),
            settings: settings.clone(),
            changelog: None,
            at_end: BTreeSet::new(),
            is_cut: false,
        })
    }

    /// Checks settings by creating a consumer and dropping it.
    ///
    /// # Errors
    /// [`SourceError::Settings`] if the client rejects a setting.
    pub fn check_settings(client: &[(String, String)]) -> Result<(), SourceError> {
        let brokers = "no broker";
        let checked = Cluster { brokers, settings: client }.check_consumer();
        checked.map_err(|error| SourceError::settings(brokers, &error))
    }

    /// Whether the group has replaced this member by another one.
    fn is_fenced(&self) -> bool {
        let fatal = self.consumer.client().fatal_error();
        fatal.is_some_and(|(code, _)| code == RDKafkaErrorCode::FencedInstanceId)
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    /// Retries a call while the coordinator is moving or loading.
    fn retry<T>(&self, doing: &str, mut call: impl FnMut(Duration) -> Result<T, KafkaError>) -> Result<T, SourceError> {
        let start = Instant::now();
        loop {
            let left = CALL_DEADLINE.saturating_sub(start.elapsed());
            match call(left.max(Duration::from_secs(1))) {
                Ok(value) => return Ok(value),
                Err(error) if left.is_zero() => {
                    let KafkaSourceSettings { brokers, client, .. } = &self.settings;
                    let detail = Cluster { brokers, settings: client }.explain(start, &error);
                    return Err(SourceError::Unreachable { doing: doing.to_owned(), detail });
                }
                Err(error) => {
                    tracing::debug!(%error, doing, topic = self.topic, "try again");
                    std::thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }
}

/// What an error of `poll` means: the right that is missing, or the client's own words.
pub(super) fn words(error: &KafkaError, topic: &str) -> String {
    if matches!(error, KafkaError::MessageConsumption(RDKafkaErrorCode::BadCompression)) {
        return format!("{error}: {DAMAGED_OR_LARGE}");
    }
    let right = |code| {
        let resource = (code == RDKafkaErrorCode::TopicAuthorizationFailed).then_some(topic);
        missing_right(code, "Read", resource)
    };
    error.rdkafka_error_code().and_then(right).unwrap_or_else(|| error.to_string())
}

/// Whether an error of `poll` is final.
pub(super) fn is_fatal(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed
            )
    )
}

impl Source for KafkaSource {
    type Group = KafkaGroup;

    fn poll(&mut self, max: usize, wait: Duration, take: &mut dyn FnMut(&Record<'_>)) -> Result<usize, SourceError> {
        self.consumer.context().known.restore(self.consumer.client());
        let mut taken = 0;
        // The client counts in milliseconds and would busy-wait for fractions.
        let mut wait = if wait < CLIENT_TICK {
            std::thread::sleep(wait);
            Duration::ZERO
        } else {
            Duration::from_millis(wait.as_millis() as u64)
        };
        while taken < max {
            match self.consumer.poll(wait) {
                // Also after a rebalance was recorded; the worker checks for that after each poll.
                None => break,
                Some(Ok(message)) => {
                    let (mut traceparent, mut erase) = (None, None);
                    for header in message.headers().iter().flat_map(|headers| headers.iter()) {
                        match header.key {
                            "traceparent" if traceparent.is_none() => traceparent = header.value,
                            ERASE_HEADER if erase.is_none() => erase = Some(header.value.unwrap_or_default()),
                            _ => {}
                        }
                    }
                    take(&Record {
                        partition: message.partition(),
                        offset: message.offset(),
                        timestamp_ms: message.timestamp().to_millis(),
                        key: message.key(),
                        payload: message.payload(),
                        traceparent: traceparent.and_then(|value| std::str::from_utf8(value).ok()),
                        erase,
                    });
                    taken += 1;
                    if !self.at_end.is_empty() {
                        self.at_end.remove(&message.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.at_end.insert(partition);
                }
                // The client does not say which partition it is.
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset))) => self.is_cut = true,
                Some(Err(error)) if self.is_fenced() => {
                    return Err(SourceError::Fenced {
                        instance: self.settings.instance.clone().unwrap_or_default(),
                        detail: error.to_string(),
                    });
                }
                Some(Err(error)) if is_fatal(&error) => {
                    return Err(SourceError::Fatal {
                        doing: format!("read {}", self.topic),
                        detail: words(&error, &self.topic),
                    });
                }
                Some(Err(error)) => {
                    if let Some(left_out) = logging::rate_limited("read") {
                        let error = words(&error, &self.topic);
                        tracing::warn!(error, left_out, topic = self.topic, "the topic cannot be read: trying again");
                    }
                }
            }
            wait = Duration::ZERO;
        }
        Ok(taken)
    }

    fn change(&mut self) -> Option<Change> {
        self.consumer.context().changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn committed(&mut self, partitions: &[i32]) -> Result<Vec<(i32, Committed)>, SourceError> {
        let list = self.list(partitions);
        let answer = self.retry("read the committed offsets", |wait| {
            let answer = self.consumer.committed_offsets(list.clone(), wait)?;
            answer.elements().iter().try_for_each(rdkafka::topic_partition_list::TopicPartitionListElem::error)?;
            Ok(answer)
        })?;
        let position = |offset| if let Offset::Offset(offset) = offset { Some(offset) } else { None };
        Ok(answer
            .elements()
            .iter()
            .map(|element| {
                let committed =
                    Committed { offset: position(element.offset()), metadata: element.metadata().to_owned() };
                (element.partition(), committed)
            })
            .collect())
    }

    fn watermarks(&mut self, partition: i32) -> Result<Watermarks, SourceError> {
        let doing = format!("read the ends of {}/{partition}", self.topic);
        let (low, high) = self.retry(&doing, |wait| self.consumer.fetch_watermarks(&self.topic, partition, wait))?;
        Ok(Watermarks { low, high })
    }

    fn is_at_end(&self, partition: i32, end: i64) -> bool {
        // The end-of-partition event does not say which end it was; the statistics do.
        let ends = self.consumer.context().ends.lock().unwrap_or_else(PoisonError::into_inner);
        self.at_end.contains(&partition) && ends.get(&partition).is_some_and(|seen| *seen >= end)
    }

    fn lacking(&mut self, partitions: &[i32]) -> Result<Vec<i32>, SourceError> {
        let profiles = &self.settings.profiles;
        let doing = format!("look up {profiles}");
        let metadata = self.retry(&doing, |wait| self.consumer.fetch_metadata(Some(profiles), wait))?;
        let count = metadata.topics().iter().map(|topic| topic.partitions().len()).sum::<usize>();
        Ok(partitions.iter().copied().filter(|partition| *partition as usize >= count).collect())
    }

    fn is_cut(&mut self) -> bool {
        std::mem::take(&mut self.is_cut)
    }

    fn restart(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        // A partition without a position is stuck, and the client refuses to seek in it, so it is unassigned and
        // assigned again. With the eager protocol, a full assignment is enough.
        if matches!(self.consumer.rebalance_protocol(), RebalanceProtocol::Cooperative) {
            let partitions: Vec<i32> = starts.iter().map(|(partition, _)| *partition).collect();
            self.consumer.incremental_unassign(&self.list(&partitions)).map_err(|error| SourceError::Fatal {
                doing: format!("read partitions of {} anew", self.topic),
                detail: error.to_string(),
            })?;
        }
        self.assign(starts)
    }

    fn rejoin(&mut self) -> Result<(), SourceError> {
        *self = Self::subscribe(&self.settings)?;
        Ok(())
    }

    fn assign(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::with_capacity(starts.len());
        let refused = |error: KafkaError| SourceError::Fatal {
            doing: format!("take partitions of {}", self.topic),
            detail: error.to_string(),
        };
        for (partition, offset) in starts {
            self.at_end.remove(partition);
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset)).map_err(refused)?;
        }
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&list),
            _ => self.consumer.assign(&list),
        }
        .map_err(refused)
    }

    fn release(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        if let Some(changelog) = &mut self.changelog {
            changelog.forget(partitions)?;
        }
        self.at_end.retain(|partition| !partitions.contains(partition));
        match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_unassign(&self.list(partitions)),
            _ => self.consumer.unassign(),
        }
        .map_err(|error| SourceError::Fatal {
            doing: format!("give up partitions of {}", self.topic),
            detail: error.to_string(),
        })
    }

    fn pause(&mut self, partitions: &[i32]) -> Result<(), SourceError> {
        self.consumer.pause(&self.list(partitions)).map_err(|error| SourceError::Fatal {
            doing: format!("hold {} back", self.topic),
            detail: error.to_string(),
        })
    }

    fn resume(&mut self, partition: i32, offset: i64) -> Result<(), SourceError> {
        let doing = format!("go on with {}/{partition} at offset {offset}", self.topic);
        self.at_end.remove(&partition);
        let has_position = self.retry(&doing, |wait| {
            match self.consumer.seek(&self.topic, partition, Offset::Offset(offset), wait) {
                Ok(()) => Ok(true),
                Err(error) if error.to_string().contains(NO_POSITION) => Ok(false),
                Err(error) => Err(error),
            }
        })?;
        // It has been stuck since its position was lost, and has to be assigned again.
        self.is_cut |= !has_position;
        self.consumer
            .resume(&self.list(&[partition]))
            .map_err(|error| SourceError::Fatal { doing, detail: error.to_string() })
    }

    fn profiles_end(&mut self, partition: i32) -> Result<i64, SourceError> {
        let profiles = &self.settings.profiles;
        let doing = format!("read the end of {profiles}/{partition}");
        // This consumer and a probe read only committed records, so the reported end is the last stable offset.
        if let Ok((_, end)) = self.consumer.fetch_watermarks(profiles, partition, FIRST_ANSWER) {
            return Ok(end);
        }
        // A consumer does not keep up with the leaders of topics that it does not subscribe to. After a broker has died, it
        // may say for minutes that there is no such partition, while a new client finds it at once.
        let KafkaSourceSettings { brokers, client, group, .. } = &self.settings;
        let probe = Cluster { brokers, settings: client }.probe(group);
        let probe = probe.map_err(|error| SourceError::settings(brokers, &error))?;
        let (_, end) = self.retry(&doing, |wait| probe.fetch_watermarks(profiles, partition, wait))?;
        Ok(end)
    }

    fn restore(&mut self, starts: &[(i32, i64)]) -> Result<(), SourceError> {
        let changelog = match &mut self.changelog {
            Some(changelog) => changelog,
            none => none.insert(Changelog::open(&self.settings)?),
        };
        changelog.read(starts)
    }

    fn poll_restore(&mut self, max: usize, take: &mut dyn FnMut(Restored<'_>)) -> Result<(), SourceError> {
        let Some(changelog) = &mut self.changelog else { return Ok(()) };
        changelog.poll(max, take)?;
        if changelog.is_done() {
            // Its connections and threads are not needed until the next restore.
            self.changelog = None;
        }
        Ok(())
    }

    fn report(&mut self) -> Option<ClientReport> {
        self.consumer.context().report.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn group(&self) -> Option<KafkaGroup> {
        self.consumer.group_metadata()
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.consumer.context().closing.store(true, Ordering::Release);
        // On its own, closing leaves the group only if there are partitions to revoke (librdkafka 2.12, cooperative).
        // Otherwise every rebalance would wait for this member until its session times out. A static member is meant to
        // stay.
        if self.settings.instance.is_none() {
            self.consumer.unsubscribe();
        }
    }
}
