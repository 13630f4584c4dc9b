//! `aimpoint train`: from a file of rows with labels to an ONNX file and its card.
//!
//! Owns the arguments and the table. Guarantees: the model and the card appear under their names whole or not at all,
//! the card last. What is learned, and how, is [`crate::training`]'s.

use super::{Exit, files, number_within, signals::clean_up_on_signals, whole_within};
use crate::{
    partial::PartialFile,
    training::{
        CalibrationMethod, Dataset, Decimal, Epoch, Identity, Note, Part, ReadSpec, TrainSpec, Trained, encode, read,
        train_with,
    },
};
use anyhow::Context;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

/// Train a small network on a file of rows, and write it as ONNX with a card beside it
#[derive(Args, Clone, Debug)]
pub struct TrainArgs {
    /// The rows: a .csv, .csv.gz or .parquet file, such as `aimpoint export` writes
    pub data: PathBuf,
    /// The column with the outcome: 0 or 1, false or true, no or yes
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
    /// Columns of codes or names: each of their texts becomes a feature, also where it is a number
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub text: Vec<String>,
    /// Texts that mean a missing value, beside NA, NULL, None, NaN, N/A, ?, -, \N and the like
    #[arg(long, value_delimiter = ',', value_name = "TEXTS", allow_hyphen_values = true)]
    pub missing: Vec<String>,
    /// How numbers are written: 1,234.5 (dot) or 1.234,5 (comma); found out where absent
    #[arg(long, value_enum, value_name = "MARK")]
    pub decimal: Option<Decimal>,
    /// Networks that are averaged into one: more spread less from seed to seed, and make the model so many times as large
    #[arg(long, default_value_t = TrainSpec::default().members, value_parser = whole_within(1..=100))]
    pub members: usize,
    /// Units in the hidden layer of each network
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
    /// Fit what turns the scores into probabilities, on the validation rows, and write it into the model where it betters
    /// the log loss of the test rows
    #[arg(long, value_enum, value_name = "METHOD")]
    pub calibrate: Option<CalibrationMethod>,
    /// Write the calibration even where it makes the log loss of the test rows worse
    #[arg(long, requires = "calibrate")]
    pub keep_calibration: bool,
    /// Show no progress and no table, warnings alone
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
            text: self.text.clone(),
            missing: self.missing.clone(),
            decimal: self.decimal,
        }
    }

    /// How to train.
    fn training(&self) -> TrainSpec {
        TrainSpec {
            hidden: self.hidden,
            members: self.members,
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
    let beside = args.out.with_extension("json");
    for out in [&args.out, &beside] {
        files::check_out(out, std::slice::from_ref(&args.data))?;
    }
    let is_card = |bytes: Vec<u8>| {
        serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|card| card.get("parts").is_some())
    };
    if fs::read(&beside).is_ok_and(|bytes| !is_card(bytes)) {
        return Err(Exit::Data.because(format!(
            "write the model's card to {}: a file that is no card of a model is there; name the model otherwise by --out",
            beside.display()
        )));
    }
    clean_up_on_signals()?;
    let data = read(&args.data, &args.reading())?;
    let spec = args.training();
    let bar = progress(args.quiet);
    let mut trained = train_with(&data, &spec, |epoch: Epoch| {
        bar.inc(1);
        let loss = epoch.loss.map_or_else(|| "all but the test rows".to_owned(), |loss| format!("loss {loss:.4}"));
        bar.set_message(format!("network {} of {}, epoch {}, {loss}", epoch.member, spec.members, epoch.number));
    })
    .with_context(|| format!("learn from {}", args.data.display()))?;
    bar.finish_and_clear();
    let mut calibrated = args.calibrate.map(|method| trained.calibrate(&data, method)).transpose()?;
    if let Some((_, [Some(before), Some(after)])) = calibrated
        && after > before
    {
        let is_left_out = !args.keep_calibration;
        trained.notes.push(Note::Calibration { before, after, is_left_out });
        calibrated = calibrated.filter(|_| !is_left_out);
    }
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
    write(&args.out, &model)?;
    write(&beside, format!("{}\n", serde_json::to_string_pretty(&card)?).as_bytes())?;
    for warning in trained.notes.iter().filter(|note| note.is_warning()) {
        writeln!(io::stderr(), "aimpoint: warning: {warning}").unwrap_or_default();
    }
    if !args.quiet {
        let losses = calibrated.map(|(_, losses)| losses);
        report(&mut super::printed::stdout(), &data, &trained, losses, &args.out, &beside)
            .context("print the table")?;
    }
    Ok(())
}

/// A bar over the epochs, where somebody watches.
fn progress(quiet: bool) -> ProgressBar {
    let is_watched = !quiet && io::stderr().is_terminal();
    let target = if is_watched { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{msg}  {pos} epochs in {elapsed}").expect("the template is well-formed");
    ProgressBar::with_draw_target(None, target).with_style(style)
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
    let (members, hidden) = (trained.spec.members, trained.spec.hidden);
    writeln!(to, "{} rows, {} features; {how}", data.rows(), data.features.len())?;
    for note in trained.notes.iter().filter(|note| !note.is_warning()) {
        writeln!(to, "note: {note}")?;
    }
    let networks = match members {
        1 => format!("a network of {hidden} units"),
        _ => format!("{members} networks of {hidden} units, averaged into one of {}", members * hidden),
    };
    writeln!(to, "{networks}; at most {} epochs tried, {} taken", trained.epochs, trained.best_epoch)?;
    if trained.split != "none" {
        writeln!(to, "then trained again for as long on the training and the validation rows together")?;
    }
    writeln!(to)?;
    writeln!(
        to,
        "{:<12}{:>8}{:>11}{:>10}{:>9}{:>9}{:>10}{:>10}",
        "part", "rows", "positives", "log loss", "NE", "AUC", "accuracy", "pred/obs"
    )?;
    for Part { name, summary } in trained.parts.iter().chain(&trained.baselines) {
        let [loss, entropy, auc, accuracy, ratio] =
            [summary.log_loss, summary.normalised_entropy, summary.auc, summary.accuracy, summary.calibration_ratio]
                .map(|metric| metric.map_or_else(|| "-".to_owned(), |metric| format!("{metric:.4}")));
        let (rows, positives) = (summary.count, summary.positives);
        writeln!(to, "{name:<12}{rows:>8}{positives:>11}{loss:>10}{entropy:>9}{auc:>9}{accuracy:>10}{ratio:>10}")?;
    }
    writeln!(to)?;
    if !trained.baselines.is_empty() {
        writeln!(
            to,
            "train, validation: the networks before they had seen the validation rows; test: the model that is written;\n\
             base rate, logistic: always the rate of the other rows, and a logistic regression of them, on the test rows.\n\
             NE: the log loss over that of always saying the part's own rate; below 1 is better than that.\n\
             pred/obs: how many positives were predicted for each that came."
        )?;
    }
    if let Some(spread) = trained.spread.as_ref().filter(|spread| spread.normalised_entropy.len() > 1) {
        let one_by_one: Vec<_> = spread.normalised_entropy.iter().map(|entropy| format!("{entropy:.4}")).collect();
        writeln!(
            to,
            "spread over seeds: the {members} networks one by one have NE {} to {} on the test rows, {} on average ({})",
            format_args!("{:.4}", spread.min),
            format_args!("{:.4}", spread.max),
            format_args!("{:.4}", spread.mean),
            one_by_one.join(", ")
        )?;
    }
    if trained.bins.len() > 1 {
        writeln!(to)?;
        writeln!(to, "calibration on the test rows, from the lowest scores to the highest:")?;
        writeln!(to, "{:>8}{:>11}{:>10}", "rows", "predicted", "observed")?;
        for bin in &trained.bins {
            writeln!(to, "{:>8}{:>11.4}{:>10.4}", bin.count, bin.predicted, bin.observed)?;
        }
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
