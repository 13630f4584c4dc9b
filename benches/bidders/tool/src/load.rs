//! Asks at a fixed rate, open-loop, over connections that stay open.
//!
//! Each connection has a thread of its own and blocks, whatever the protocol: the client differs by the bytes of a request
//! and by how it finds the end of an answer, and by nothing else. A latency begins when its request was due, so a stall
//! counts for every request that it delayed.

use anyhow::{Context, bail, ensure};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    str::FromStr,
    thread,
    time::{Duration, Instant},
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `GET /v1/decisions/{user}` of serve.
    Lookup,
    /// GET of Redis.
    Get,
    /// `POST /openrtb2/enrich`, of serve or the peer.
    Enrich,
}

impl FromStr for Kind {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text {
            "lookup" => Self::Lookup,
            "get" => Self::Get,
            "enrich" => Self::Enrich,
            other => bail!("{other:?} is none of lookup, get and enrich"),
        })
    }
}

/// How much of it.
pub struct Load {
    pub kind: Kind,
    pub address: String,
    /// Requests per second, of all connections.
    pub rate: f64,
    pub seconds: f64,
    pub connections: u64,
    pub users: u64,
}

/// Asks, and prints how it went.
pub fn run(load: &Load) -> anyhow::Result<()> {
    let count = (load.rate * load.seconds) as u64;
    let start = Instant::now() + Duration::from_millis(200);
    let all: Vec<anyhow::Result<Vec<u32>>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..load.connections).map(|number| scope.spawn(move || ask_all(load, number, count, start))).collect();
        threads.into_iter().map(|it| it.join().expect("no thread panics")).collect()
    });
    let took = start.elapsed().as_secs_f64();
    let mut latencies = Vec::new();
    for of_one in all {
        latencies.extend(of_one?);
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    println!(
        "{{\"requests\":{},\"seconds\":{took:.3},\"p50_us\":{},\"p90_us\":{},\"p99_us\":{},\"p999_us\":{},\"cpu_s\":{:.2}}}",
        latencies.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        cpu_s()?
    );
    Ok(())
}

/// What this process has spent.
fn cpu_s() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(") ").context("read /proc/self/stat")?.1.split(' ').collect();
    // Linux counts these in hundredths of a second.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// The requests of one connection, and their latencies in microseconds.
fn ask_all(load: &Load, number: u64, count: u64, start: Instant) -> anyhow::Result<Vec<u32>> {
    let mut stream = TcpStream::connect(&load.address).with_context(|| format!("connect to {}", load.address))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answers = BufReader::with_capacity(64 << 10, stream.try_clone()?);
    let mut random = number + 1;
    let (mut request, mut body) = (Vec::new(), Vec::new());
    let mut latencies = Vec::with_capacity((count / load.connections + 1) as usize);
    for index in (number..count).step_by(load.connections as usize) {
        write_request(load.kind, user(&mut random, load.users), &mut request);
        let due = start + Duration::from_secs_f64(index as f64 / load.rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(&request)?;
        match load.kind {
            Kind::Get => read_bulk(&mut answers, &mut body)?,
            Kind::Lookup | Kind::Enrich => read_http(&mut answers, &mut body)?,
        }
        latencies.push(due.elapsed().as_micros() as u32);
        let is_enriched = !matches!(load.kind, Kind::Enrich) || body.windows(8).any(|it| it == b"\"segment");
        ensure!(!body.is_empty() && is_enriched, "an answer without a decision: {}", String::from_utf8_lossy(&body));
    }
    Ok(latencies)
}

/// The next user, by Zipf: the user of rank r (from 1) has the weight (r + 10)^-1.05.
fn user(random: &mut u64, users: u64) -> u64 {
    *random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *random;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let uniform = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
    // The inverse of the distribution, as if ranks were continuous.
    let power = |rank: f64| (rank + 10.0).powf(-0.05);
    let (first, last) = (power(1.0), power(users as f64 + 1.0));
    let rank = (first + uniform * (last - first)).powf(-20.0) - 10.0;
    (rank as u64).clamp(1, users) - 1
}

fn write_request(kind: Kind, user: u64, to: &mut Vec<u8>) {
    to.clear();
    let written = match kind {
        Kind::Lookup => {
            write!(to, "GET /v1/decisions/u{user:07} HTTP/1.1\r\nhost: serve\r\naccept: application/x-protobuf\r\n\r\n")
        }
        Kind::Get => write!(to, "*2\r\n$3\r\nGET\r\n$8\r\nu{user:07}\r\n"),
        Kind::Enrich => {
            let body = bid_request(user);
            write!(to, "POST /openrtb2/enrich HTTP/1.1\r\nhost: serve\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        }
    };
    written.expect("a vector takes everything");
}

/// A bid request of about two kilobytes.
fn bid_request(user: u64) -> String {
    let (head, tail) = include_str!("request.json").trim_end().split_once("USER").expect("the request has a user");
    format!("{head}u{user:07}{tail}")
}

fn read_bulk(from: &mut impl BufRead, body: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let length: i64 = line.trim_end().strip_prefix('$').with_context(|| format!("Redis says {line:?}"))?.parse()?;
    ensure!(length > 0, "Redis has no decision");
    body.resize(length as usize + 2, 0);
    Ok(from.read_exact(body)?)
}

fn read_http(from: &mut impl BufRead, body: &mut Vec<u8>) -> anyhow::Result<()> {
    let (mut line, mut length, mut is_first) = (String::new(), 0, true);
    loop {
        line.clear();
        ensure!(from.read_line(&mut line)? > 0, "the connection was closed");
        if is_first {
            ensure!(line.starts_with("HTTP/1.1 200"), "the answer is {line:?}");
            is_first = false;
        } else if line == "\r\n" {
            break;
        } else if let Some((name, value)) =
            line.split_once(':').filter(|it| it.0.eq_ignore_ascii_case("content-length"))
        {
            length = value.trim().parse().with_context(|| format!("read {name}"))?;
        }
    }
    body.resize(length, 0);
    Ok(from.read_exact(body)?)
}
