//! What does it cost to measure a million decisions, once outcomes are joined?
//!
//! A good answer is a small part of the 3 CPU-seconds and 300 MB that joining and measuring may take: below 0.5 s and
//! 50 MB for everything that an evaluation keeps of a decision. That is a sketch of all decisions and one for each of
//! two variants and 20 campaigns (5 bits), sums for each of 20 values of two fields, counts and money for each
//! campaign, arms, moments with a covariate, and journeys of the converted; then all figures, curves and reliability
//! diagrams of every sketch, comparisons, any-time intervals and credits. Making the rows is timed apart and taken off.
//! The second part is the whole of `aimpoint evaluate` but for the file: a million decisions and outcomes of 5 % of them
//! are read from JSON, joined and measured.
//!
//! Times are CPU times of the thread. `cargo test` runs a small version to keep the bench working.

#![expect(clippy::print_stdout, reason = "a bench prints its figure")]

use aimpoint::{
    control::{ControlSpec, DecisionRecord, Outcome, Source},
    effect::{CampaignPlan, Dimension, Evaluation, Label, Plan},
    evaluation::{
        Confidence, Prediction,
        attribution::{Ledger, Model, Settings, Touch},
        business::Counts,
        experiment::{Arm, Mixture, Paired, any_time_means, any_time_proportions, cuped, means, proportions},
        sample::{FieldSums, Weighted, field_error},
        sketch::Sketch,
    },
};
use std::{hint::black_box, time::Duration};

/// As in the program.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CAMPAIGNS: usize = 20;
const CHANNELS: usize = 8;

/// A decision with its outcome.
#[derive(Clone, Copy)]
struct Row {
    prediction: Prediction,
    campaign: usize,
    field: usize,
    is_variant: bool,
    spend_micros: i64,
    revenue: f64,
    before: f64,
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 2.0_f64.powi(53)
    }

    fn row(&mut self) -> Row {
        let bell = self.share() + self.share() + self.share() - 1.5;
        let probability = 1.0 / (1.0 + (3.1 - 2.0 * bell).exp());
        let bits = self.next();
        let label = self.share() < probability;
        Row {
            prediction: Prediction { probability, label },
            campaign: (bits % CAMPAIGNS as u64) as usize,
            field: (bits >> 16) as usize % 20,
            is_variant: bits >> 40 & 1 == 1,
            spend_micros: (bits >> 41 & 0xfff) as i64,
            revenue: if label { 20.0 + bell } else { 0.0 },
            before: bell,
        }
    }
}

/// What an evaluation keeps.
struct Kept {
    all: Sketch,
    variants: [Sketch; 2],
    campaigns: Vec<Sketch>,
    fields: [Vec<FieldSums>; 2],
    counts: Vec<Counts>,
    hits: [(u64, u64); 2],
    revenue: [Paired; 2],
    ledger: Ledger,
}

impl Kept {
    fn new() -> anyhow::Result<Self> {
        let sketches = |bits| (0..CAMPAIGNS).map(move |_| Sketch::new(bits)).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            all: Sketch::new(8)?,
            variants: [Sketch::new(8)?, Sketch::new(8)?],
            campaigns: sketches(5)?,
            fields: [vec![FieldSums::default(); CAMPAIGNS], vec![FieldSums::default(); 20]],
            counts: vec![Counts::default(); CAMPAIGNS],
            hits: [(0, 0); 2],
            revenue: [Paired::default(); 2],
            ledger: Ledger::new(CHANNELS, Settings::default())?,
        })
    }

    fn add(&mut self, row: &Row) -> anyhow::Result<()> {
        let arm = usize::from(row.is_variant);
        let hit = u64::from(row.prediction.label);
        self.all.add(row.prediction)?;
        self.variants[arm].add(row.prediction)?;
        self.campaigns[row.campaign].add(row.prediction)?;
        let weighted = Weighted::from(row.prediction);
        self.fields[0][row.campaign].add(&weighted)?;
        self.fields[1][row.field].add(&weighted)?;
        self.counts[row.campaign].merge(&Counts {
            bids: 1,
            wins: 1,
            impressions: 1,
            clicks: hit,
            conversions: hit,
            spend_micros: row.spend_micros,
            revenue_micros: (row.revenue * 1e6) as i64,
        })?;
        self.hits[arm] = (self.hits[arm].0 + hit, self.hits[arm].1 + 1);
        self.revenue[arm].add(row.revenue, row.before)?;
        if row.prediction.label {
            let touch = |n: usize| Touch {
                channel: (row.campaign + n * row.field) % CHANNELS,
                age: Duration::from_hours(48 - 8 * n as u64),
            };
            self.ledger.converted(&[touch(0), touch(1), touch(2), touch(3), touch(4)], 1.0)?;
        }
        Ok(())
    }

    fn figures(&self) -> anyhow::Result<()> {
        let level = Confidence::P95;
        for sketch in self.variants.iter().chain(&self.campaigns).chain([&self.all]) {
            black_box((sketch.figures(15), sketch.curve(200), sketch.reliability(15)));
        }
        for field in &self.fields {
            black_box(field_error(field));
        }
        for counts in &self.counts {
            black_box(counts.figures(level));
        }
        let [control, variant] = [Arm::new(self.hits[0].0, self.hits[0].1)?, Arm::new(self.hits[1].0, self.hits[1].1)?];
        let prior = Mixture::of_effect(0.002)?;
        black_box((proportions(control, variant, level), any_time_proportions(control, variant, prior, level)));
        let [a, b] = &self.revenue;
        let prior = Mixture::of_effect(0.05)?;
        black_box((means(a.value(), b.value(), level), any_time_means(a.value(), b.value(), prior, level)));
        black_box(cuped(a, b, level));
        for model in Model::ALL {
            black_box(self.ledger.credits(model)?);
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.variants.iter().chain(&self.campaigns).chain([&self.all]).map(Sketch::bytes).sum()
    }
}

fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The most memory that the process had, in MB, where the system tells.
fn peak_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1024.0)
}

/// The microseconds of a second.
const SECOND: i64 = 1_000_000;

/// A decision of the day, and what followed: 5 % have an impression, and a tenth of these a click.
fn line(number: i64, decisions: i64, random: &mut Random) -> (i64, String, Vec<(i64, String)>) {
    let row = random.row();
    let at = 1_767_225_600 * SECOND + number * 86_400 * SECOND / decisions;
    let decision = format!(
        r#"{{"schema_version":1,"decision_id":"shop:clicks-0-{number}","user_key":"user-{}","key_type":"KEY_TYPE_PERSON","trigger_event_id":"e{number}","occurred_at":"{at}","decided_at":"{at}","expires_at":"{}","status":"STATUS_TARGETED","segments":[{{"id":"keen","name":"Keen"}}],"campaigns":[{{"id":"c{}","value_micros":"800000","probability":{:.6},"bid_micros":"4000000","floor_micros":"0","currency":"EUR"}}],"input":{{"topic":"clicks","partition":0,"offset":"{number}"}},"score":{{"raw":0.1,"calibrated":0.1}},"model":{{"name":"m","version":"{}","sha256":"00","runtime":"r","provider":"cpu"}}}}"#,
        random.next() % 100_000,
        at + 60 * SECOND,
        row.campaign,
        row.prediction.probability,
        row.field % 2
    );
    let outcome = |kind: &str, after: i64| {
        let at = at + after * SECOND;
        let line = format!(
            r#"{{"outcome_id":"{kind}-{number}","type":"{kind}","occurred_at":{at},"decision_id":"shop:clicks-0-{number}","campaign_id":"c{}","price":2.5}}"#,
            row.campaign
        );
        (at, line)
    };
    let mut outcomes = Vec::new();
    if random.share() < 0.05 {
        outcomes.extend([outcome("win", 1), outcome("impression", 2)]);
        outcomes.extend((random.share() < 0.1).then(|| outcome("click", 9)));
    }
    (at, decision, outcomes)
}

/// Reads, joins and measures.
fn joined(decisions: i64) -> anyhow::Result<()> {
    let currency = "EUR".parse().map_err(|error| anyhow::anyhow!("{error}"))?;
    let campaign = CampaignPlan {
        label: Some(Label::Click),
        reward: Label::Click,
        currency,
        arms: Vec::new(),
        holdout: 0.0,
        features: Vec::new(),
    };
    let by = ["campaign", "model_version"].map(Dimension::parse);
    let plan = Plan {
        by: by.into_iter().collect::<Result<_, _>>().map_err(anyhow::Error::msg)?,
        campaigns: (0..CAMPAIGNS).map(|number| (format!("c{number}"), campaign.clone())).collect(),
        variants: Vec::new(),
        click_after: 600 * SECOND,
        conversion_after: 600 * SECOND,
        complete_until: None,
        minimum_audience: 0,
        confidence: Confidence::P95,
        effect: 0.1,
        charts: false,
        attribution: None,
        labels: false,
    };
    let spec = ControlSpec::default();
    let mut evaluation = Evaluation::new("shop", &spec, Vec::new(), plan, None)?;
    let (mut making, mut offset) = (Duration::ZERO, 0);
    let mut random = Random(2);
    let whole = cpu();
    let mut made = std::collections::VecDeque::new();
    for number in 0..decisions {
        // Asking for the time costs as much as a third of a decision, so lines are made in advance.
        if made.is_empty() {
            let start = cpu();
            made.extend((number..decisions.min(number + 1_000)).map(|number| line(number, decisions, &mut random)));
            making += cpu().saturating_sub(start);
        }
        let Some((arrived_at, decision, outcomes)) = made.pop_front() else { break };
        let source = Source { topic: "decisions", partition: 0, offset: number, arrived_at };
        let record = DecisionRecord::read(decision.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))?;
        evaluation.decision(&source, &record, None)?;
        for (_, line) in outcomes {
            offset += 1;
            let source = Source { topic: "outcomes", partition: 0, offset, arrived_at: arrived_at + 10 * SECOND };
            let outcome = Outcome::read(Some(line.as_bytes())).map_err(|error| anyhow::anyhow!("{error}"))?;
            black_box(evaluation.outcome(&source, &outcome)?);
        }
    }
    let report = evaluation.finish(spec.wait)?.report;
    let took = cpu().saturating_sub(whole).saturating_sub(making);
    println!(
        "joined: {decisions} decisions, {offset} outcomes, {} joined: {:.2} CPU-seconds, {:.2} us a decision; peak of the \
         process {:.1} MB",
        report.totals.joined,
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / decisions as f64,
        peak_mb().unwrap_or(f64::NAN)
    );
    anyhow::ensure!(report.totals.joined == offset as u64, "all outcomes have a decision: {:?}", report.totals);
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let rows = if std::env::args().any(|it| it == "--bench") { 1_000_000 } else { 10_000 };
    let mut random = Random(1);
    let start = cpu();
    for _ in 0..rows {
        black_box(random.row());
    }
    let making = cpu().saturating_sub(start);
    let mut random = Random(1);
    let mut kept = Kept::new()?;
    let start = cpu();
    for _ in 0..rows {
        kept.add(&random.row())?;
    }
    let adding = (cpu().saturating_sub(start)).saturating_sub(making);
    let start = cpu();
    kept.figures()?;
    let figures = cpu().saturating_sub(start);
    println!(
        "{rows} rows, {} conversions: adding {:.3} CPU-seconds ({:.0} ns a row), figures {:.4}; sketches {:.0} kB, peak of \
         the process {:.1} MB",
        kept.hits[0].0 + kept.hits[1].0,
        adding.as_secs_f64(),
        adding.as_secs_f64() * 1e9 / f64::from(rows),
        figures.as_secs_f64(),
        kept.bytes() as f64 / 1024.0,
        peak_mb().unwrap_or(f64::NAN)
    );
    let start = cpu();
    let mut sketch = Sketch::new(8)?;
    let mut random = Random(1);
    for _ in 0..rows {
        sketch.add(random.row().prediction)?;
    }
    let one = (cpu().saturating_sub(start)).saturating_sub(making);
    println!("one sketch: {:.0} ns a row; {:?}", one.as_secs_f64() * 1e9 / f64::from(rows), sketch.figures(15));
    joined(i64::from(rows))
}
