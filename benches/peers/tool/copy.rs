//! The contender `copy`: consume, parse JSON once, write one decision, in transactions. It has no state and no model,
//! so it is an upper bound for any program based on librdkafka.

use crate::kafka::{partition_count, producer, send};
use clap::Args;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    producer::{BaseProducer, Producer},
};
use serde::Deserialize;
use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Clone, Debug)]
pub(crate) struct CopyArgs {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    input: String,
    #[arg(long)]
    output: String,
    #[arg(long)]
    group: String,
    /// Milliseconds from one commit to the next
    #[arg(long, default_value_t = 100)]
    interval: u64,
    /// Without transactions
    #[arg(long)]
    at_least_once: bool,
    #[arg(long, default_value_t = 2)]
    threads: i32,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "event_id")]
    id: &'a str,
    user_id: &'a str,
    ts: i64,
    value: f64,
    dwell_ms: f64,
}

pub(crate) fn run(args: &CopyArgs) -> anyhow::Result<()> {
    let threads: Vec<_> = (0..args.threads)
        .map(|number| {
            let args = args.clone();
            thread::spawn(move || copy(&args, number))
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a copying thread panicked"))??;
    }
    Ok(())
}

/// Copies every `threads`-th partition until the process is stopped.
fn copy(args: &CopyArgs, number: i32) -> anyhow::Result<()> {
    let producer = connect(args, number)?;
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &args.brokers)
        .set("group.id", &args.group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("queued.min.messages", "50000")
        .set("queued.max.messages.kbytes", "32768")
        .set("fetch.queue.backoff.ms", "2")
        .create()?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..partition_count(&consumer, &args.input)? {
        if partition % args.threads == number {
            partitions.add_partition_offset(&args.input, partition, Offset::Stored)?;
        }
    }
    consumer.assign(&partitions)?;
    let mut decision = Vec::new();
    loop {
        let Some(first) = consumer.poll(Duration::from_millis(100)) else { continue };
        let end = Instant::now() + Duration::from_millis(args.interval);
        if !args.at_least_once {
            producer.begin_transaction()?;
        }
        let mut next = std::collections::BTreeMap::new();
        let mut message = Some(first);
        let mut count = 0_u32;
        loop {
            if let Some(message) = message {
                let message = message?;
                decide(message.payload().unwrap_or_default(), &mut decision)?;
                send(&producer, &args.output, message.key().unwrap_or_default(), &decision)?;
                next.insert(message.partition(), message.offset() + 1);
            }
            count += 1;
            if count.is_multiple_of(256) {
                producer.poll(Duration::ZERO);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            message = consumer.poll(left.min(Duration::from_millis(5)));
        }
        let mut positions = TopicPartitionList::new();
        for (partition, offset) in next {
            positions.add_partition_offset(&args.input, partition, Offset::Offset(offset))?;
        }
        commit(args, &producer, &consumer, &positions)?;
    }
}

fn connect(args: &CopyArgs, number: i32) -> anyhow::Result<BaseProducer> {
    let id = format!("{}-{number}", args.group);
    let mut settings = vec![
        ("linger.ms", "1"),
        ("batch.size", "500000"),
        ("queue.buffering.max.messages", "500000"),
        // While the last transaction is still completing, the broker asks to retry; 100 ms would be a whole interval.
        ("retry.backoff.ms", "5"),
    ];
    if !args.at_least_once {
        settings.push(("transactional.id", &id));
    }
    let producer = producer(&args.brokers, &settings)?;
    if !args.at_least_once {
        producer.init_transactions(PATIENCE)?;
    }
    Ok(producer)
}

/// Overwrites `to` with the decision. The score uses the parsed values, so that parsing cannot be optimised away.
fn decide(payload: &[u8], to: &mut Vec<u8>) -> anyhow::Result<()> {
    let event: Event<'_> = sonic_rs::from_slice(payload)?;
    let score = (event.value + event.dwell_ms) / 100_000.0;
    let segment = if score >= 0.5 { "hot" } else { "cold" };
    to.clear();
    write!(
        to,
        r#"{{"event_id":"{}","user_id":"{}","score":{score},"segment":"{segment}","model":"A","ts":{}}}"#,
        event.id, event.user_id, event.ts
    )?;
    Ok(())
}

fn commit(
    args: &CopyArgs,
    producer: &BaseProducer,
    consumer: &BaseConsumer,
    positions: &TopicPartitionList,
) -> anyhow::Result<()> {
    // Delivery reports are served here; a flush inside a transaction would wait for another thread to do it.
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    if args.at_least_once {
        return Ok(consumer.commit(positions, CommitMode::Async)?);
    }
    let group = consumer.group_metadata().ok_or_else(|| anyhow::anyhow!("the consumer has no group"))?;
    producer.send_offsets_to_transaction(positions, &group, PATIENCE)?;
    Ok(producer.commit_transaction(PATIENCE)?)
}
