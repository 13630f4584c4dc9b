//! Plain ONNX Runtime: the cost of the model itself, as a bound for contenders that run it.

use super::bare;
use aimpoint::inference::Runtime;
use clap::Args;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::path::PathBuf;

/// The model and how much of it is run.
#[derive(Args, Clone, Debug)]
pub(crate) struct ScoreArgs {
    /// The .onnx file
    #[arg(long)]
    model: PathBuf,
    /// How many rows
    #[arg(long, default_value_t = 2_000_000)]
    rows: usize,
    /// How many at once
    #[arg(long, default_value_t = 256)]
    batch: usize,
}

/// The number of features in the workload.
const WIDTH: usize = 16;

/// The CPU seconds that this thread has used.
fn cpu_seconds() -> anyhow::Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split_whitespace().next().unwrap_or_default().parse()?;
    Ok(nanos / 1e9)
}

/// CPU seconds per million rows, in one thread.
pub(crate) fn run(args: &ScoreArgs) -> anyhow::Result<f64> {
    let mut random = SmallRng::seed_from_u64(1);
    let rows: Vec<f32> = (0..args.batch * WIDTH).map(|_| random.random_range(0.0..10.0)).collect();
    let mut session = bare::open(&Runtime::load(None)?, &std::fs::read(&args.model)?)?;
    let mut score = || bare::run(&mut session, &rows, WIDTH, |scores| scores.iter().sum());
    let mut sum = score()?;
    let (start, runs) = (cpu_seconds()?, args.rows.div_ceil(args.batch));
    for _ in 0..runs {
        sum += score()?;
    }
    anyhow::ensure!(sum.is_finite(), "the scores of {} are no numbers", args.model.display());
    Ok((cpu_seconds()? - start) / (runs * args.batch) as f64 * 1e6)
}
