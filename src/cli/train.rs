//! `aimpoint train`: from a file of rows with labels to an ONNX file and its card.
//!
//! Owns the arguments and the table. Guarantees: the model and the card appear under their names whole or not at all,
//! the card last. What is learned, and how, is [`crate::training`]'s.

use super::{files, number_within, setup::clean_up_on_signals, whole_within};
use crate::{
    partial::PartialFile,
    training::{
        CalibrationMethod, Dataset, Epoch, Identity, Part, ReadSpec, TrainSpec, Trained, encode, read, train_with,
    },
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

/// Train a small network on a file of rows, and write it as ONNX with a card beside it
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// The rows: a .csv, .csv.gz or .parquet file, such as `aimpoint export` writes
    pub data: PathBuf,
    /// The column with the outcome, 0 or 1
    #[arg(long, default_value = "label", value_name = "COLUMN")]
    pub label: String,
    /// Where the model goes; its card goes beside it, as .json
    #[arg(long, default_value = "model.onnx", value_name = "FILE")]
    pub out: PathBuf,
    /// The model's name; the stem of --out where absent
    #[arg(long)]
    pub name: Option<String>,
    /// The model's version; the start of its hash where absent
    #[arg(long)]
    pub version: Option<String>,
    /// The column that says when; later rows are then measured on earlier ones
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// The column whose equal values stay together in the split, such as a user's
    #[arg(long, value_name = "COLUMN")]
    pub group: Option<String>,
    /// Columns to leave out
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub ignore: Vec<String>,
    /// The columns to learn from, in the order of the model's input; all others where absent
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub features: Option<Vec<String>>,
    /// Units in the hidden layer
    #[arg(long, default_value_t = TrainSpec::default().hidden, value_parser = whole_within(1..=8_192))]
    pub hidden: usize,
    /// The most epochs
    #[arg(long, default_value_t = TrainSpec::default().epochs_max, value_parser = whole_within(1..=1_000_000))]
    pub epochs: usize,
    /// Epochs without a better validation loss that end the training
    #[arg(long, default_value_t = TrainSpec::default().patience, value_parser = whole_within(1..=1_000_000))]
    pub patience: usize,
    /// Rows a step
    #[arg(long, default_value_t = TrainSpec::default().batch, value_parser = whole_within(1..=1_048_576))]
    pub batch: usize,
    /// The step size
    #[arg(long, default_value_t = TrainSpec::default().learning_rate, value_parser = number_within(1e-9..=100.0))]
    pub learning_rate: f64,
    /// The share of a weight that a step of size 1 takes off
    #[arg(long, default_value_t = TrainSpec::default().weight_decay, value_parser = number_within(0.0..=1.0))]
    pub weight_decay: f64,
    /// The seed of the weights, the shuffles and the split
    #[arg(long, default_value_t = TrainSpec::default().seed)]
    pub seed: u64,
    /// Fit what turns the scores into probabilities, on the validation rows, and write it into the model
    #[arg(long, value_enum, value_name = "METHOD")]
    pub calibrate: Option<CalibrationMethod>,
    /// Show no progress and no table
    #[arg(long)]
    pub quiet: bool,
}

impl TrainArgs {
    /// Which columns are what.
    fn reading(&self) -> ReadSpec {
        ReadSpec {
            label: self.label.clone(),
            ignore: self.ignore.clone(),
            features: self.features.clone(),
            time: self.time.clone(),
            group: self.group.clone(),
        }
    }

    /// How to train.
    fn training(&self) -> TrainSpec {
        TrainSpec {
            hidden: self.hidden,
            epochs_max: self.epochs,
            patience: self.patience,
            batch: self.batch,
            learning_rate: self.learning_rate,
            seed: self.seed,
            weight_decay: self.weight_decay,
        }
    }
}

/// Trains, writes the model and its card, and prints how it does.
///
/// # Errors
/// The rows cannot be read or learned from, or the files cannot be written.
pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    files::check(&args.data)?;
    clean_up_on_signals()?;
    let data = read(&args.data, &args.reading())?;
    let spec = args.training();
    let bar = progress(&spec, args.quiet);
    let trained = train_with(&data, &spec, |epoch: Epoch| {
        bar.set_position(epoch.number as u64);
        bar.set_message(format!("loss {:.4}, best {:.4}", epoch.loss, epoch.best));
    })?;
    bar.finish_and_clear();
    let calibrated = args.calibrate.map(|method| trained.calibrate(&data, method)).transpose()?;
    let stem = args.out.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let identity = Identity {
        name: args.name.clone().unwrap_or(stem),
        version: args.version.clone(),
        fingerprint: trained.fingerprint.clone(),
        calibration: calibrated.as_ref().map(|(calibration, _)| calibration.clone()),
    };
    let model = encode(&trained.network, &trained.features, &identity);
    let sha256 = format!("{:x}", Sha256::digest(&model));
    let name = args.data.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let card = trained.card(&identity, sha256, name, hash(&args.data)?);
    let beside = args.out.with_extension("json");
    write(&args.out, &model)?;
    write(&beside, format!("{}\n", serde_json::to_string_pretty(&card)?).as_bytes())?;
    if !args.quiet {
        let losses = calibrated.map(|(_, losses)| losses);
        report(&mut super::printed::stdout(), &data, &trained, losses, &args.out, &beside)
            .context("print the table")?;
    }
    Ok(())
}

/// A bar over the epochs, where somebody watches.
fn progress(spec: &TrainSpec, quiet: bool) -> ProgressBar {
    let is_watched = !quiet && io::stderr().is_terminal();
    let target = if is_watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style =
        ProgressStyle::with_template("epoch {pos}/{len}  {msg}  {elapsed}").expect("the template is well-formed");
    ProgressBar::with_draw_target(Some(spec.epochs_max as u64), target).with_style(style)
}

/// The SHA-256 of a file, in lower-case hexadecimal.
fn hash(path: &Path) -> anyhow::Result<String> {
    let mut digest = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    io::copy(&mut file, &mut digest).with_context(|| format!("read {}", path.display()))?;
    Ok(format!("{:x}", digest.finalize()))
}

/// Writes a file, which appears under its name when it is whole.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    PartialFile::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// Prints what was learned from and how well.
fn report(
    to: &mut impl Write,
    data: &Dataset,
    trained: &Trained,
    calibrated: Option<[Option<f64>; 2]>,
    out: &Path,
    card: &Path,
) -> io::Result<()> {
    let how = match trained.split {
        "time" => "split by time",
        "random" => "split at random",
        _ => "too few to split: the metrics are those of the rows that were learned from",
    };
    writeln!(to, "{} rows, {} features; {how}", data.rows(), data.features.len())?;
    writeln!(to, "{} epochs, the best was {}", trained.epochs, trained.best_epoch)?;
    writeln!(to)?;
    writeln!(to, "{:<12}{:>9}{:>11}{:>10}{:>10}{:>10}", "part", "rows", "positives", "log loss", "accuracy", "AUC")?;
    for Part { name, summary } in &trained.parts {
        let [loss, accuracy, auc] = [summary.log_loss, summary.accuracy, summary.auc]
            .map(|metric| metric.map_or_else(|| "-".to_owned(), |metric| format!("{metric:.4}")));
        let (rows, positives) = (summary.count, summary.positives);
        writeln!(to, "{name:<12}{rows:>9}{positives:>11}{loss:>10}{accuracy:>10}{auc:>10}")?;
    }
    if let Some([Some(before), Some(after)]) = calibrated {
        writeln!(
            to,
            "calibrated on the validation rows: log loss of the test rows {before:.4} before, {after:.4} after"
        )?;
    }
    writeln!(to)?;
    writeln!(to, "wrote {} and {}", out.display(), card.display())
}
