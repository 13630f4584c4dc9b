//! Builds every Kafka client of the program: the consumer of a worker, readers, probes, producers and the admin client.
//!
//! Guarantees: each client gets this program's defaults first, then the user's settings, then the settings that carry the
//! guarantees, so that no setting of a user can change those.

use super::{ENFORCED, Mute, Quiet, Trouble, certificate, settings::OVERRIDDEN, trouble};
use rdkafka::{
    ClientConfig,
    admin::AdminClient,
    client::DefaultClientContext,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, ProducerContext},
};
use std::time::{Duration, Instant};

/// How long to wait for a broker that answers while another one refuses this client.
const HOPE: Duration = Duration::from_secs(2);

/// How long one call of a transaction is retried. Longer than the transaction's timeout, so that the broker has decided
/// by then.
pub(crate) const TRANSACTION_CALL_DEADLINE: Duration = Duration::from_secs(20);

/// The broker ends a transaction after this time. It is short, because an open transaction holds back every reader.
const TRANSACTION_TIMEOUT_MS: &str = "15000";

/// Shorter than the transaction's timeout, as librdkafka requires.
const MESSAGE_TIMEOUT_MS: &str = "10000";

/// How often a client reports log ends and the brokers that it knows. Much shorter than the shortest `engine.stall_after`.
const STATISTICS_INTERVAL_MS: &str = "2000";

/// How often a reader of topics reports the ends that it has seen. A policy waits for it.
const TAIL_STATISTICS_INTERVAL_MS: &str = "500";

/// How soon added partitions are noticed. The default is every five minutes.
const METADATA_REFRESH_MS: &str = "5000";

/// The largest message that is sent, unless the user's settings say otherwise.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The largest message that a producer with these settings accepts: its `message.max.bytes`.
pub fn message_bytes_max(settings: &[(String, String)]) -> usize {
    let given = settings.iter().rev().find(|(name, _)| name == "message.max.bytes");
    given.and_then(|(_, value)| value.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX)
}

/// Whether these settings select the consumer protocol of KIP-848, in which brokers control the members' timeouts and
/// assign the partitions. The client then rejects its own settings for these.
pub fn uses_consumer_protocol(settings: &[(String, String)]) -> bool {
    settings.iter().any(|(name, value)| name == "group.protocol" && value.eq_ignore_ascii_case("consumer"))
}

/// Which transactions a reader sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isolation {
    /// Only committed ones; the last stable offset is the end of the log.
    Committed,
    /// All, including open and aborted ones; the high watermark is the end of the log.
    Uncommitted,
}

/// A cluster and the user's client settings for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cluster<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) settings: &'a [(String, String)],
}

impl Cluster<'_> {
    /// The consumer of a worker, a member of the group.
    pub(crate) fn member<C: ConsumerContext>(
        &self,
        group: &str,
        instance: Option<&str>,
        context: C,
    ) -> Result<BaseConsumer<C>, KafkaError> {
        let mut defaults = vec![
            // The client's defaults wait a second after a full queue and half a second for a fetch, and bidders would
            // wait, too.
            ("fetch.wait.max.ms", "20"),
            ("fetch.queue.backoff.ms", "2"),
            ("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS),
            // A tenth of a second ahead of the worker at full speed. Each queued record takes about 300 bytes in
            // addition to its own.
            ("queued.min.messages", "10000"),
            ("queued.max.messages.kbytes", "16384"),
        ];
        if !uses_consumer_protocol(self.settings) {
            // A cooperative rebalance neither interrupts the partitions that stay nor rebuilds their profiles. But it
            // takes two rebalances, and a static member that restarts between them gets back its old assignment without
            // the second one. What it gave up in the first would then belong to nobody. So static members use one eager
            // rebalance.
            let strategy = if instance.is_some() { "range" } else { "cooperative-sticky" };
            defaults.extend([
                // Detect a dead process after ten seconds rather than 45.
                ("session.timeout.ms", "10000"),
                // A member learns of a rebalance by its heartbeat; with one every 2.5 s, a rebalance took that long.
                ("heartbeat.interval.ms", "500"),
                ("partition.assignment.strategy", strategy),
            ]);
        }
        let mut config = self.config(&defaults);
        enforce(
            &mut config,
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                // These two distinguish a worker without work from one that receives nothing, even if a log ends with
                // offsets that are not records. They also report the log ends, for the lag.
                ("enable.partition.eof", "true"),
                ("statistics.interval.ms", STATISTICS_INTERVAL_MS),
                // The worker decides what to do if the log no longer has a position.
                ("auto.offset.reset", "error"),
                ("isolation.level", "read_committed"),
            ],
        );
        if let Some(instance) = instance {
            enforce(&mut config, &[("group.instance.id", instance)]);
        }
        config.create_with_context(context)
    }

    /// A member of the group whose only partition is the leadership of control. The user's settings for consumers are
    /// about workers, so only those for all clients apply.
    pub(crate) fn candidate<C: ConsumerContext>(&self, group: &str, context: C) -> Result<BaseConsumer<C>, KafkaError> {
        let mut config = self.config(&[]);
        // A takeover must not take longer than 15 s. Brokers allow no shorter timeout than 6 s by default. Sticky: a
        // standby that joins does not take over from a leader that lives.
        for (name, value) in [
            ("group.protocol", "classic"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
            ("partition.assignment.strategy", "cooperative-sticky"),
        ] {
            config.set(name, value);
        }
        enforce(
            &mut config,
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("statistics.interval.ms", STATISTICS_INTERVAL_MS),
                // The partition stands for the leadership. Nothing is read from it.
                ("auto.offset.reset", "latest"),
            ],
        );
        config.create_with_context(context)
    }

    /// A reader of committed records from given positions, which joins no group and reports how far it has read.
    pub(crate) fn tail<C: ConsumerContext>(&self, group: &str, context: C) -> Result<BaseConsumer<C>, KafkaError> {
        let mut config = self.config(&[
            ("fetch.wait.max.ms", "100"),
            ("fetch.queue.backoff.ms", "2"),
            ("queued.min.messages", "20000"),
            ("queued.max.messages.kbytes", "16384"),
        ]);
        enforce(
            &mut config,
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("enable.partition.eof", "true"),
                ("statistics.interval.ms", TAIL_STATISTICS_INTERVAL_MS),
                ("auto.offset.reset", "earliest"),
                ("isolation.level", "read_committed"),
            ],
        );
        config.create_with_context(context)
    }

    /// A reader of the changelog, which joins no group.
    pub(crate) fn changelog_reader(
        &self,
        group: &str,
        isolation: Isolation,
    ) -> Result<BaseConsumer<Quiet>, KafkaError> {
        let mut config = self.config(&[("fetch.wait.max.ms", "20"), ("queued.max.messages.kbytes", "16384")]);
        let isolation = match isolation {
            Isolation::Committed => "read_committed",
            Isolation::Uncommitted => "read_uncommitted",
        };
        enforce(
            &mut config,
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.partition.eof", "true"),
                ("statistics.interval.ms", STATISTICS_INTERVAL_MS),
                ("auto.offset.reset", "earliest"),
                ("isolation.level", isolation),
            ],
        );
        config.create_with_context(Quiet::of(self.brokers))
    }

    /// A reader of committed records, which joins no group. With `reports_ends` it also reports when a partition ends. Brokers
    /// refuse it the coordinator of a group that it has no right to, which does not matter.
    pub(crate) fn reader(&self, reports_ends: bool) -> Result<BaseConsumer<Quiet>, KafkaError> {
        let mut config = self.config(&[("fetch.wait.max.ms", "5"), ("fetch.queue.backoff.ms", "2")]);
        enforce(
            &mut config,
            &[
                ("group.id", self.group_or("aimpoint-reader")),
                ("enable.auto.commit", "false"),
                ("enable.partition.eof", if reports_ends { "true" } else { "false" }),
                ("statistics.interval.ms", STATISTICS_INTERVAL_MS),
                ("isolation.level", "read_committed"),
            ],
        );
        config.create_with_context(Quiet::of(self.brokers))
    }

    /// A client that only looks up topics.
    pub(crate) fn observer(&self) -> Result<BaseConsumer<Quiet>, KafkaError> {
        let mut config = self.config(&[]);
        enforce(&mut config, &[("group.id", self.group_or("aimpoint-look"))]);
        config.create_with_context(Quiet::of(self.brokers))
    }

    /// A client that reads a group's positions without joining it.
    pub(crate) fn probe(&self, group: &str) -> Result<BaseConsumer<Quiet>, KafkaError> {
        let mut config = self.config(&[]);
        enforce(
            &mut config,
            &[("group.id", group), ("enable.auto.commit", "false"), ("isolation.level", "read_committed")],
        );
        config.create_with_context(Quiet::of(self.brokers))
    }

    /// A client that looks up what there is, and names no group.
    pub(crate) fn look(&self) -> Result<BaseProducer<Quiet>, KafkaError> {
        self.config(&[]).create_with_context(Quiet::of(self.brokers))
    }

    /// A client for administration.
    pub(crate) fn admin(&self) -> Result<AdminClient<DefaultClientContext>, KafkaError> {
        self.config(&[]).create()
    }

    /// An idempotent producer outside of the pipeline.
    pub(crate) fn publisher<C: ProducerContext>(
        &self,
        deadline: Duration,
        context: C,
    ) -> Result<BaseProducer<C>, KafkaError> {
        let mut config = self.config(&[
            // Longer than a request takes: the client busy-waits while messages past their linger wait behind a
            // request.
            ("linger.ms", "20"),
            ("batch.size", "500000"),
            ("message.max.bytes", "20000000"),
        ]);
        enforce(
            &mut config,
            &[
                ("enable.idempotence", "true"),
                ("message.timeout.ms", &deadline.as_millis().to_string()),
                ("partitioner", "murmur2_random"),
            ],
        );
        config.create_with_context(context)
    }

    /// A transactional producer.
    pub(crate) fn transactional_producer<C: ProducerContext>(
        &self,
        id: &str,
        linger: Duration,
        batch_bytes: usize,
        context: C,
    ) -> Result<BaseProducer<C>, KafkaError> {
        let mut config = self.output_config(linger, batch_bytes);
        enforce(
            &mut config,
            &[
                ("message.timeout.ms", MESSAGE_TIMEOUT_MS),
                // The number of messages in flight shows when all are delivered; a report for each would be wasted
                // work.
                ("delivery.report.only.error", "true"),
                ("transactional.id", id),
                ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS),
            ],
        );
        config.create_with_context(context)
    }

    /// An idempotent producer whose messages are visible at once. After a failure it sends nothing more.
    pub(crate) fn gapless_producer<C: ProducerContext>(
        &self,
        linger: Duration,
        batch_bytes: usize,
        context: C,
    ) -> Result<BaseProducer<C>, KafkaError> {
        let mut config = self.output_config(linger, batch_bytes);
        enforce(
            &mut config,
            &[
                ("acks", "all"),
                ("delivery.report.only.error", "false"),
                // Nothing after a failed message may become visible before it. A message that times out would also
                // leave a gap, so none does: the sink itself waits no longer than its deadline.
                ("enable.gapless.guarantee", "true"),
                ("message.timeout.ms", "0"),
            ],
        );
        config.create_with_context(context)
    }

    /// Checks settings by creating a consumer and dropping it.
    pub(crate) fn check_consumer(&self) -> Result<(), KafkaError> {
        let mut config = self.config(&[]);
        enforce(&mut config, &[("group.id", "check")]);
        config.create_with_context::<_, BaseConsumer<Mute>>(Mute).map(drop)
    }

    /// The group that the settings name, so that a reader within an application asks for none that is not the application's.
    /// Users cannot name one.
    fn group_or<'b>(&'b self, other: &'b str) -> &'b str {
        self.settings.iter().rev().find(|(name, _)| name == "group.id").map_or(other, |(_, group)| group)
    }

    /// What a failed call means: what has been wrong with the connections since its start, with the next step, or else the
    /// client's own words.
    pub(crate) fn explain(&self, start: Instant, error: &KafkaError) -> String {
        use RDKafkaErrorCode::{
            AllBrokersDown, Authentication, BrokerTransportFailure, MessageTimedOut, OperationTimedOut,
            RequestTimedOut, Resolve, SSL, TimedOutQueue, WaitingForCoordinator,
        };
        let is_about_connections = error.rdkafka_error_code().is_none_or(|code| {
            matches!(
                code,
                AllBrokersDown
                    | Authentication
                    | BrokerTransportFailure
                    | MessageTimedOut
                    | OperationTimedOut
                    | RequestTimedOut
                    | Resolve
                    | SSL
                    | TimedOutQueue
                    | WaitingForCoordinator
            )
        });
        match trouble::since(start).filter(|_| is_about_connections) {
            None => error.to_string(),
            Some(trouble) => self.words(&trouble),
        }
    }

    /// Whether what has been wrong with the connections since this time does not pass by itself. Another broker may still
    /// answer, so this is not said at once.
    pub(crate) fn is_hopeless(start: Instant) -> bool {
        start.elapsed() > HOPE && trouble::since(start).is_some_and(|trouble| trouble.is_lasting())
    }

    /// What is wrong, with the next step.
    fn words(&self, trouble: &Trouble) -> String {
        if let Trouble::Certificate { broker } = trouble
            && let Some(fault) = certificate::fault(broker, self.settings)
        {
            return format!("the certificate of {broker} {fault}; {}", fault.next_step());
        }
        let own = ["ssl.certificate.location", "ssl.certificate.pem", "ssl.keystore.location"];
        let has_certificate = self.settings.iter().any(|(name, _)| own.contains(&name.as_str()));
        format!("{trouble}; {}", trouble.next_step(has_certificate))
    }

    /// The common settings of the pipeline's producers.
    fn output_config(&self, linger: Duration, batch_bytes: usize) -> ClientConfig {
        let mut config = self.config(&[
            ("linger.ms", &(linger.as_secs_f64() * 1e3).to_string()),
            ("batch.size", &batch_bytes.to_string()),
            ("queue.buffering.max.messages", "500000"),
            ("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS),
            // The default of 100 ms is many times the length of a short transaction.
            ("retry.backoff.ms", "5"),
            ("message.max.bytes", &MESSAGE_BYTES_MAX.to_string()),
        ]);
        enforce(&mut config, &[("enable.idempotence", "true"), ("partitioner", "murmur2_random")]);
        config
    }

    /// Our defaults, then the user's settings, then the brokers.
    fn config(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        // That a broker closed the connection at the first request is no more than information to the client, but it may be the
        // only sign of what is wrong.
        if (config.log_level as i32) < RDKafkaLogLevel::Info as i32 {
            config.set_log_level(RDKafkaLogLevel::Info);
        }
        for (name, value) in defaults {
            config.set(*name, *value);
        }
        for (name, value) in self.settings {
            config.set(name, value);
        }
        enforce(&mut config, &[("bootstrap.servers", self.brokers)]);
        config
    }
}

/// Sets what users cannot change.
fn enforce(config: &mut ClientConfig, settings: &[(&str, &str)]) {
    for (name, value) in settings {
        debug_assert!(
            ENFORCED.iter().chain(&OVERRIDDEN).any(|(enforced, _)| enforced == name),
            "{name} is in no table of settings that users cannot change"
        );
        config.set(*name, *value);
    }
}
