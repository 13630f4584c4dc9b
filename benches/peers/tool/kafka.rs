//! The tool's work on a broker: load, watch, read back, and the open-loop latency probe.

use crate::generate::{Generator, number_of};
use clap::Args;
use hdrhistogram::Histogram;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long the broker may take to respond.
const PATIENCE: Duration = Duration::from_secs(30);

/// A read-committed consumer of all partitions of a topic, from the start.
fn reader(brokers: &str, topic: &str) -> anyhow::Result<BaseConsumer> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "peers-reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.queue.backoff.ms", "2")
        .set("check.crcs", "false")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for number in 0..partition_count(&consumer, topic)? {
        partitions.add_partition_offset(topic, number, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    Ok(consumer)
}

/// How many partitions a topic has.
pub(crate) fn partition_count(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let count = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
    anyhow::ensure!(count > 0, "there is no topic {topic}");
    Ok(count as i32)
}

/// A producer that partitions keys as Java's default partitioner does.
pub(crate) fn producer(brokers: &str, settings: &[(&str, &str)]) -> anyhow::Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("partitioner", "murmur2_random").set("enable.idempotence", "true");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    Ok(config.create()?)
}

/// Sends one record; blocks while the client's queue is full.
pub(crate) fn send(producer: &BaseProducer, topic: &str, key: &[u8], payload: &[u8]) -> anyhow::Result<()> {
    loop {
        match producer.send(BaseRecord::<[u8], [u8]>::to(topic).key(key).payload(payload)) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                producer.poll(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error.into()),
        }
    }
}

pub(crate) fn load(brokers: &str, topic: &str, generator: &Generator, count: u64) -> anyhow::Result<()> {
    let producer = producer(brokers, &[("linger.ms", "20"), ("batch.size", "500000")])?;
    let mut payload = Vec::new();
    for number in 0..count {
        let event = generator.event(number);
        event.write(&mut payload);
        send(&producer, topic, event.key().as_bytes(), &payload)?;
        if number.is_multiple_of(1_000) {
            producer.poll(Duration::ZERO);
        }
    }
    Ok(producer.flush(PATIENCE)?)
}

pub(crate) fn watch(brokers: &str, topic: &str, count: u64, timeout: u64) -> anyhow::Result<()> {
    let consumer = reader(brokers, topic)?;
    println!("ready");
    let end = Instant::now() + Duration::from_secs(timeout);
    let (mut seen, mut told) = (0, Instant::now());
    while seen < count && Instant::now() < end {
        match consumer.poll(Duration::from_millis(10)) {
            Some(message) => {
                message?;
                seen += 1;
                if seen < count && (!seen.is_multiple_of(64) || told.elapsed() < Duration::from_millis(10)) {
                    continue;
                }
            }
            None if seen == 0 => continue,
            None => {}
        }
        told = Instant::now();
        println!("{} {seen}", SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros());
    }
    anyhow::ensure!(seen >= count, "{seen} of {count} decisions within {timeout} s");
    Ok(())
}

/// Passes on all committed records of a topic, in order per partition, until no more arrive.
pub(crate) fn each_committed(brokers: &str, topic: &str, mut take: impl FnMut(&[u8])) -> anyhow::Result<()> {
    let consumer = reader(brokers, topic)?;
    // Each partition ends with a commit marker, so there is no last record to wait for; silence marks the end.
    let mut patience = PATIENCE;
    while let Some(message) = consumer.poll(patience) {
        take(message?.payload().unwrap_or_default());
        patience = Duration::from_secs(3);
    }
    Ok(())
}

/// Events at a fixed rate.
#[derive(Args, Clone, Debug)]
pub(crate) struct PaceArgs {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    input: String,
    /// Events a second
    #[arg(long, default_value_t = 5_000)]
    rate: u64,
    /// Seconds that count
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The number of the first one
    #[arg(long, default_value_t = 0)]
    first: u64,
    #[arg(long, default_value_t = 42)]
    seed: u64,
    #[arg(long, default_value_t = 200_000)]
    users: usize,
}

impl PaceArgs {
    /// When an event is due, relative to the start.
    fn due(&self, number: u64) -> Duration {
        Duration::from_nanos(number * 1_000_000_000 / self.rate)
    }
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    paced: PaceArgs,
    #[arg(long)]
    output: String,
    /// Seconds that do not count
    #[arg(long, default_value_t = 15)]
    warm: u64,
}

/// Publishes the events.
pub(crate) fn pace(args: &PaceArgs) -> anyhow::Result<()> {
    pace_from(args, 0, Instant::now()).map(drop)
}

/// The largest delay between a due time and the actual send, after `warm` seconds.
fn pace_from(args: &PaceArgs, warm: u64, start: Instant) -> anyhow::Result<Duration> {
    let producer = producer(&args.brokers, &[("linger.ms", "0"), ("socket.nagle.disable", "true")])?;
    let generator = Generator::new(args.seed, args.users, 200);
    let (mut payload, mut behind) = (Vec::new(), Duration::ZERO);
    for number in 0..(warm + args.seconds) * args.rate {
        let event = generator.event(args.first + number);
        event.write(&mut payload);
        thread::sleep((start + args.due(number)).saturating_duration_since(Instant::now()));
        if number >= warm * args.rate {
            behind = behind.max(start.elapsed().saturating_sub(args.due(number)));
        }
        send(&producer, &args.input, event.key().as_bytes(), &payload)?;
        producer.poll(Duration::ZERO);
    }
    producer.flush(PATIENCE)?;
    Ok(behind)
}

pub(crate) fn latency(LatencyArgs { paced: args, output, warm }: &LatencyArgs) -> anyhow::Result<()> {
    let consumer = reader(&args.brokers, output)?;
    let (warm_s, warm, count) = (*warm, warm * args.rate, (warm + args.seconds) * args.rate);
    let mut seen = vec![false; count as usize];
    let mut times = Histogram::<u64>::new(3)?;
    // A second's delay, so that both clients are connected.
    let start = Instant::now() + Duration::from_secs(1);
    let own = args.clone();
    let pacer = thread::spawn(move || pace_from(&own, warm_s, start));
    let end = start + args.due(count) + PATIENCE;
    let (mut left, mut double) = (count, 0);
    while left > 0 && Instant::now() < end {
        let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
        let now = Instant::now();
        let message = message?;
        let id = sonic_rs::get(message.payload().unwrap_or_default(), ["event_id"])?;
        let number = number_of(id.as_raw_str().trim_matches('"')).filter(|number| *number < count);
        let number = number.ok_or_else(|| anyhow::anyhow!("a decision for an event that never was"))?;
        if std::mem::replace(&mut seen[number as usize], true) {
            double += 1;
            continue;
        }
        left -= 1;
        if number >= warm {
            times.record(now.saturating_duration_since(start + args.due(number)).as_micros() as u64)?;
        }
    }
    let behind = pacer.join().map_err(|_| anyhow::anyhow!("the pacing thread panicked"))??;
    let ms = |quantile| times.value_at_quantile(quantile) as f64 / 1_000.0;
    println!(
        "{}",
        serde_json::json!({
            "rate": args.rate, "seconds": args.seconds, "timed": times.len(), "missing": left, "double": double,
            "p50_ms": ms(0.5), "p90_ms": ms(0.9), "p99_ms": ms(0.99), "p999_ms": ms(0.999), "max_ms": ms(1.0),
            "behind_ms_max": behind.as_secs_f64() * 1_000.0,
        })
    );
    Ok(())
}
