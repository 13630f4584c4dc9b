//! The tool for the comparison with Aimpoint's peers. It generates and loads the events, watches and checks the
//! decisions, probes the latency, and is itself the contender `copy`, the upper bound for a Kafka client. See
//! README.md.

#![expect(clippy::print_stdout, reason = "the harness reads what it prints")]

#[path = "../../workload/bare.rs"]
mod bare;
mod check;
mod copy;
mod expect;
mod generate;
mod kafka;
mod score;

use clap::{Args, Parser, Subcommand};
use expect::Model;
use generate::Generator;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Load, watch, check and probe for the comparison with peers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Which events.
#[derive(Args, Clone, Debug)]
struct Stream {
    /// How many
    #[arg(long, default_value_t = 1_000_000)]
    count: u64,
    #[arg(long, default_value_t = 42)]
    seed: u64,
    #[arg(long, default_value_t = 200_000)]
    users: usize,
    /// Milliseconds of event time from one event to the next
    #[arg(long, default_value_t = 200)]
    step: u64,
}

impl Stream {
    fn generator(&self) -> Generator {
        Generator::new(self.seed, self.users, self.step)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Print events, one a line
    Print(Stream),
    /// Publish the events as fast as the broker takes them
    Load {
        #[command(flatten)]
        stream: Stream,
        #[arg(long)]
        brokers: String,
        #[arg(long)]
        topic: String,
    },
    /// Work out the scores that are right, as little-endian f32 by the events' numbers
    Expect {
        #[command(flatten)]
        stream: Stream,
        #[arg(long)]
        model: Model,
        #[arg(long)]
        out: PathBuf,
    },
    /// Print "microseconds count" of the committed decisions until all are there
    Watch {
        #[arg(long)]
        brokers: String,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        count: u64,
        /// Give up after so many seconds
        #[arg(long, default_value_t = 300)]
        timeout: u64,
    },
    /// Compare the committed decisions with the right ones
    Check {
        #[command(flatten)]
        stream: Stream,
        #[arg(long)]
        brokers: String,
        #[arg(long)]
        topic: String,
        /// What `expect` wrote; only the events are compared where absent
        #[arg(long)]
        expected: Option<PathBuf>,
        /// What the decisions name as their model
        #[arg(long, default_value = "A")]
        model: String,
    },
    /// Publish at a fixed rate
    Pace(kafka::PaceArgs),
    /// Publish at a fixed rate and time the decisions from the moment at which each event was due
    Latency(kafka::LatencyArgs),
    /// Run ONNX Runtime alone, and print its CPU seconds for a million rows
    Score(score::ScoreArgs),
    /// Be the contender `copy`
    Copy(copy::CopyArgs),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Print(stream) => {
            let (generator, mut line) = (stream.generator(), Vec::new());
            for number in 0..stream.count {
                generator.event(number).write(&mut line);
                println!("{}", String::from_utf8_lossy(&line));
            }
        }
        Command::Load { stream, brokers, topic } => kafka::load(&brokers, &topic, &stream.generator(), stream.count)?,
        Command::Expect { stream, model, out } => {
            let scores = expect::scores(&stream.generator(), stream.count, model);
            std::fs::write(out, scores.iter().flat_map(|score| score.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        Command::Watch { brokers, topic, count, timeout } => kafka::watch(&brokers, &topic, count, timeout)?,
        Command::Check { stream, brokers, topic, expected, model } => {
            let mut scores = Vec::new();
            if let Some(path) = expected {
                let bytes = std::fs::read(&path)?;
                anyhow::ensure!(bytes.len() as u64 == 4 * stream.count, "{} is of another count", path.display());
                scores = bytes.chunks_exact(4).map(|it| f32::from_le_bytes([it[0], it[1], it[2], it[3]])).collect();
            }
            let generator = stream.generator();
            let mut checker = check::Checker::new(&generator, stream.count, &scores, &model);
            kafka::each_committed(&brokers, &topic, |payload| checker.take(payload))?;
            let report = checker.finish();
            println!("{}", serde_json::to_string(&report)?);
            anyhow::ensure!(report.is_clean(), "the decisions in {topic} are not right");
        }
        Command::Pace(args) => kafka::pace(&args)?,
        Command::Latency(args) => kafka::latency(&args)?,
        Command::Score(args) => println!("{:.4}", score::run(&args)?),
        Command::Copy(args) => copy::run(&args)?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_follow_from_the_seed_and_their_number() {
        let [ours, other] = [42, 43].map(|seed| Generator::new(seed, 200_000, 200));
        let line = |generator: &Generator, number| {
            let mut line = Vec::new();
            generator.event(number).write(&mut line);
            String::from_utf8(line).expect("events are text")
        };
        assert_eq!(line(&ours, 123_456), line(&Generator::new(42, 200_000, 200), 123_456));
        assert_ne!(line(&ours, 123_456), line(&other, 123_456));
        let event: serde_json::Value = serde_json::from_str(&line(&ours, 255)).expect("events are JSON");
        assert_eq!(event["event_id"].as_str().and_then(generate::number_of), Some(255));
        let bytes: usize = (0..1_000).map(|number| line(&ours, number).len()).sum();
        assert!((180_000..195_000).contains(&bytes), "{bytes} bytes in 1000 events");
    }

    #[test]
    fn types_lateness_and_the_busiest_user_have_their_shares() {
        let generator = Generator::new(42, 200_000, 200);
        let (mut types, mut users) = ([0; 4], vec![0; 200_000]);
        let mut late = 0;
        for event in (0..100_000).map(|number| generator.event(number)) {
            types[event.kind] += 1;
            users[event.user as usize] += 1;
            late += u32::from(event.ts < generate::START_MS + event.number as i64 * 200);
        }
        for (count, share) in types.into_iter().zip([80_000_i32, 12_000, 6_000, 2_000]) {
            assert!((count - share).abs() < share / 10, "{types:?}");
        }
        assert!((1_800..2_200).contains(&late), "{late} are late");
        let busiest = users.iter().max().copied().unwrap_or_default();
        assert!((900..1_500).contains(&busiest), "the busiest user has {busiest}");
    }
}
