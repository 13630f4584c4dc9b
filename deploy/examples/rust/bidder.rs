//! A bidder that uses the decisions of Aimpoint.
//!
//! ```text
//! bidder lookup USER           ask `aimpoint serve` for a user's decision
//! bidder enrich <request.json  have a bid request enriched by `aimpoint serve`
//! bidder follow USER           keep all decisions in memory, from the topic, and say what changes for a user
//! ```
//!
//! USER is the key of a record: the id of a person, or device:ID, app:ID. The environment says where everything is: SERVE
//! (`http://127.0.0.1:9470`), SERVE_TOKEN, TIMEOUT_MS (10), KAFKA (localhost:9092), TOPIC (decisions). With https, SSL_CERT_FILE
//! is a file of the authorities to trust, if not those of Debian.
//!
//! If there is no answer in time, the bidder goes on without a decision: it never waits for one. Run it with
//! `cargo run --example bidder -- lookup u1`; elsewhere it needs anyhow, percent-encoding, rdkafka, serde_json, tokio-rustls and
//! ureq.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that prints")]

use anyhow::Context;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::MetadataPartition,
};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio_rustls::rustls;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["lookup", user] => lookup(user),
        ["enrich"] => enrich(),
        ["follow", user] => follow(user),
        _ => anyhow::bail!("usage: bidder lookup USER | enrich | follow USER"),
    }
}

fn setting(name: &str, otherwise: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// `aimpoint serve`. The agent keeps its connections; a bidder has one of it.
struct Serve {
    agent: ureq::Agent,
    address: String,
    authorization: String,
}

impl Serve {
    fn new() -> anyhow::Result<Self> {
        let timeout = setting("TIMEOUT_MS", "10").parse().context("read TIMEOUT_MS")?;
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_millis(timeout)))
            .http_status_as_error(false)
            .proxy(None);
        let address = setting("SERVE", "http://127.0.0.1:9470");
        let config = if address.starts_with("https://") { config.tls_config(tls()?) } else { config };
        Ok(Self {
            agent: config.build().into(),
            address,
            authorization: format!("Bearer {}", setting("SERVE_TOKEN", "")),
        })
    }

    /// Status, outcome and body; an error if there is no answer in time.
    fn ask(&self, path: &str, body: Option<&[u8]>) -> Result<(u16, String, Vec<u8>), ureq::Error> {
        let url = format!("{}{path}", self.address);
        let mut response = match body {
            None => self.agent.get(url).header("authorization", &self.authorization).call()?,
            Some(body) => self.agent.post(url).header("authorization", &self.authorization).send(body)?,
        };
        let outcome = response.headers().get("aimpoint-outcome").and_then(|it| it.to_str().ok());
        let outcome = outcome.unwrap_or_default().to_owned();
        Ok((response.status().as_u16(), outcome, response.body_mut().read_to_vec()?))
    }
}

/// The authorities whose certificates are trusted.
fn tls() -> anyhow::Result<TlsConfig> {
    let path = setting("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt");
    let pem = std::fs::read(&path).with_context(|| format!("read SSL_CERT_FILE {path}"))?;
    let authorities: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&authorities));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

/// What a bidder needs of a decision.
fn in_words(user: &str, decision: Option<&Value>) -> String {
    let Some(decision) = decision else { return format!("{user}: nothing is known") };
    // Integers of 64 bits are strings in the JSON of Protobuf. Times are in microseconds since 1970.
    let integer = |value: &Value| value.as_str().and_then(|it| it.parse().ok()).unwrap_or(0_i64);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
    if integer(&decision["expires_at"]) <= now {
        return format!("{user}: expired");
    }
    let items = |name: &str| decision[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let segments: Vec<&str> = items("segments").iter().filter_map(|it| it["id"].as_str()).collect();
    let segments = if segments.is_empty() { "no segment".to_owned() } else { segments.join(", ") };
    // Best first. Prices are in millionths, per thousand impressions.
    let bid = items("campaigns").first().map_or("no bid".to_owned(), |offer| {
        let [shaded, full] = ["shaded_micros", "bid_micros"].map(|name| integer(&offer[name]));
        let micros = if shaded > 0 { shaded } else { full };
        let [currency, id] = ["currency", "id"].map(|name| offer[name].as_str().unwrap_or_default());
        format!("bid {:.2} {currency} for {id}", micros as f64 / 1e6)
    });
    format!("{user}: in {segments}; {bid}")
}

/// Asks for a user.
fn lookup(user: &str) -> anyhow::Result<()> {
    let key = percent_encoding::utf8_percent_encode(user, percent_encoding::NON_ALPHANUMERIC);
    let (status, _, body) = Serve::new()?.ask(&format!("/v1/decisions/{key}"), None).context("no answer")?;
    match status {
        200 => println!("{}", in_words(user, Some(&serde_json::from_slice(&body)?))),
        410 => println!("{user}: expired"),
        404 => println!("{}", in_words(user, None)),
        // Overloaded (429) or not permitted (401).
        _ => anyhow::bail!("{user}: no answer ({status})"),
    }
    Ok(())
}

/// Has a bid request enriched. Without an answer, the bidder bids on it as it is.
fn enrich() -> anyhow::Result<()> {
    let mut request = Vec::new();
    std::io::stdin().read_to_end(&mut request)?;
    match Serve::new()?.ask("/openrtb2/enrich", Some(&request)) {
        Ok((200, outcome, enriched)) => {
            eprintln!("outcome: {outcome}");
            request = enriched;
        }
        _ => eprintln!("outcome: no answer"),
    }
    Ok(std::io::stdout().write_all(&request)?)
}

/// Reads the whole topic, then follows it.
fn follow(user: &str) -> anyhow::Result<()> {
    let topic = setting("TOPIC", "decisions");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", setting("KAFKA", "localhost:9092"))
        // Every process needs all decisions. So it takes the partitions itself, and does not join this group.
        .set("group.id", "bidder")
        .set("enable.auto.commit", "false")
        // Only what was committed: each event has one decision.
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(30))?;
    let mut behind: HashSet<i32> = metadata.topics()[0].partitions().iter().map(MetadataPartition::id).collect();
    let mut partitions = TopicPartitionList::new();
    for partition in &behind {
        partitions.add_partition_offset(&topic, *partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    let mut latest = HashMap::<Vec<u8>, Value>::new();
    loop {
        let is_news = match consumer.poll(Duration::from_secs(1)) {
            None => false,
            Some(Ok(message)) => {
                let key = message.key().unwrap_or_default();
                let decision = message.payload().map(serde_json::from_slice).transpose();
                let is_read = decision.is_ok();
                match decision {
                    // The user was erased.
                    Ok(None) => drop(latest.remove(key)),
                    Ok(Some(decision)) => drop(latest.insert(key.to_vec(), decision)),
                    Err(error) => {
                        let (partition, offset) = (message.partition(), message.offset());
                        eprintln!(
                            "{topic}/{partition} offset {offset}: {error}; this example needs decision.format = json"
                        );
                    }
                }
                is_read && key == user.as_bytes()
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => behind.remove(&partition) && behind.is_empty(),
            // The client tries again by itself.
            Some(Err(error)) => {
                eprintln!("read {topic}: {error}");
                false
            }
        };
        // While it is behind, a later decision may follow.
        if is_news && behind.is_empty() {
            println!("{}", in_words(user, latest.get(user.as_bytes())));
        }
    }
}
