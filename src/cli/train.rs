//! `aimpoint train`: turns a file of labelled rows into an ONNX file and its model card.
//!
//! Owns the arguments and the printed table; the training itself is in [`crate::training`]. Guarantees: the model and
//! the card each appear completely or not at all, the card last.

mod follow;
mod page;
mod table;

use super::{ConfigArgs, Exit, files, number_within, signals::clean_up_on_signals, whole_within};
use crate::{
    evaluation::{Prediction, log_loss},
    inference::{Model, ModelSpec, OnnxModel, Runtime},
    partial::PartialFile,
    training::{
        Balance, CalibrationMethod, ClassWeight, DataFile, Dataset, Decimal, Disturb, Epoch, Identity, Note, Quantised,
        ReadSpec, Regularise, Schedule, Split, Start, TrainSpec, Trained, encode, encode_quantised, folds, read,
        train_from,
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
    time::{Duration, Instant},
};

/// Rows per run and number of runs for the time of a model; the shortest one counts, because other programs only make it longer.
const BATCH: usize = 256;
const TURNS: usize = 50;
/// How many test rows ONNX Runtime scores at once, and how long it may take. Nothing waits for it, unlike in serving.
const ROWS_AT_ONCE: usize = 4_096;
const DEADLINE: Duration = Duration::from_mins(10);

/// Train a small network on a file of rows, and write it as ONNX with a card beside it
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "the flags of the command")]
pub struct TrainArgs {
    /// The rows: a .csv, .csv.gz or .parquet file, such as `aimpoint export` writes
    #[arg(required_unless_present = "follow", conflicts_with = "follow")]
    pub data: Option<PathBuf>,
    /// Train again and again, with this pause, on what followed the decisions of the last --window, each time from the weights of
    /// the time before; and add each version to the folder of the models. None serves before it is promoted
    #[arg(long, value_name = "PAUSE", value_parser = follow::pause)]
    pub follow: Option<Duration>,
    /// How far back the decisions of --follow go
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = follow::window)]
    pub window: Duration,
    /// Stop --follow after this many trainings [default: never]
    #[arg(long, value_name = "COUNT", requires = "follow", value_parser = whole_within(1..=1_000_000))]
    pub rounds: Option<usize>,
    #[command(flatten)]
    config: ConfigArgs,
    /// The column with the outcome: 0 or 1, false or true, no or yes
    #[arg(long, default_value = "label", value_name = "COLUMN")]
    pub label: String,
    /// Output file; the model card is written next to it, as .json and as a page, .html
    #[arg(long, default_value = "model.onnx", value_name = "FILE")]
    pub out: PathBuf,
    /// The model's name [default: the stem of --out]
    #[arg(long)]
    pub name: Option<String>,
    /// The model's version [default: the start of its hash]
    #[arg(long)]
    pub version: Option<String>,
    /// The time column; the model is then trained on earlier rows and tested on later ones
    #[arg(long, value_name = "COLUMN")]
    pub time: Option<String>,
    /// The column whose equal values stay on the same side of the split, such as the user
    #[arg(long, value_name = "COLUMN", conflicts_with = "follow")]
    pub group: Option<String>,
    /// Columns to ignore
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub ignore: Vec<String>,
    /// The feature columns, in the order of the model's input [default: all others]
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub features: Option<Vec<String>>,
    /// Columns of codes or names: each distinct value becomes a feature, even if it is a number
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub text: Vec<String>,
    /// Texts that mean a missing value, besides NA, NULL, None, NaN, N/A, ?, -, \N and the like
    #[arg(long, value_delimiter = ',', value_name = "TEXTS", allow_hyphen_values = true)]
    pub missing: Vec<String>,
    /// Number format: 1,234.5 (dot) or 1.234,5 (comma) [default: detected]
    #[arg(long, value_enum, value_name = "MARK")]
    pub decimal: Option<Decimal>,
    /// Number of networks to average: more vary less between seeds, but make the model as many times larger
    #[arg(long, default_value_t = TrainSpec::default().members, value_parser = whole_within(1..=100))]
    pub members: usize,
    /// Units in the hidden layers of each network, such as 64,32 for two layers
    #[arg(long, default_values_t = TrainSpec::default().hidden, value_delimiter = ',', value_name = "UNITS",
          value_parser = whole_within(1..=8_192))]
    pub hidden: Vec<usize>,
    /// Share of the hidden units that are switched off in each step of training
    #[arg(long, default_value_t = 0.0, value_name = "RATE", value_parser = number_within(0.0..=0.95))]
    pub dropout: f64,
    /// Maximum number of epochs
    #[arg(long, default_value_t = TrainSpec::default().epochs_max, value_parser = whole_within(1..=1_000_000))]
    pub epochs: usize,
    /// Stop after this many epochs without a better validation loss
    #[arg(long, default_value_t = TrainSpec::default().patience, value_parser = whole_within(1..=1_000_000))]
    pub patience: usize,
    /// Rows per step
    #[arg(long, default_value_t = TrainSpec::default().batch, value_parser = whole_within(1..=1_048_576))]
    pub batch: usize,
    /// Learning rate
    #[arg(long, default_value_t = TrainSpec::default().learning_rate, value_parser = number_within(1e-9..=100.0))]
    pub learning_rate: f64,
    /// How the learning rate changes: cosine lets it fall to 0 at --epochs
    #[arg(long, value_enum, default_value_t)]
    pub schedule: Schedule,
    /// Weight decay: the share of a weight removed by a step of size 1
    #[arg(long, default_value_t = Regularise::default().weight_decay, value_parser = number_within(0.0..=1.0))]
    pub weight_decay: f64,
    /// Normalise the hidden units over each batch while training. The model has ordinary layers, as without
    #[arg(long)]
    pub batch_norm: bool,
    /// Seed of the weights, the shuffling and the split
    #[arg(long, default_value_t = TrainSpec::default().seed)]
    pub seed: u64,
    /// Weight of a positive row in the loss, or balanced, so that both labels weigh the same in total. The model is corrected
    /// for it, so its scores are still probabilities
    #[arg(long, default_value = "1", value_name = "WEIGHT")]
    pub class_weight: ClassWeight,
    /// Share of the negative rows that each network is trained on. The model is corrected for it
    #[arg(long, default_value_t = 1.0, value_name = "SHARE", value_parser = number_within(1e-6..=1.0))]
    pub keep_negatives: f64,
    /// What to change in training batches: noise=0.1,feature-dropout=0.1,mixup=0.2, or some of them
    #[arg(long, value_name = "WHAT")]
    pub augment: Option<Disturb>,
    /// Remove this share of the hidden units after training, those with the smallest weights, and train the rest a little more
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = number_within(0.0..=0.95))]
    pub prune: f64,
    /// Write the layers in 8-bit integers, and compare the scores with those in floats; needs ONNX Runtime
    #[arg(long)]
    pub quantise: bool,
    /// Also train and test on this many folds by time, each on all rows before those that it is tested on
    #[arg(long, value_name = "FOLDS", value_parser = whole_within(2..=100))]
    pub folds: Option<usize>,
    /// Fit a calibration of the scores on the validation rows, and write it into the model if it improves the log loss of the
    /// test rows
    #[arg(long, value_enum, value_name = "METHOD")]
    pub calibrate: Option<CalibrationMethod>,
    /// Write the calibration even if it worsens the log loss of the test rows
    #[arg(long, requires = "calibrate")]
    pub keep_calibration: bool,
    /// Print warnings only, no progress and no table
    #[arg(long)]
    pub quiet: bool,
}

impl TrainArgs {
    /// The options for reading the rows.
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

    /// The options for training.
    fn training(&self) -> TrainSpec {
        TrainSpec {
            hidden: self.hidden.clone(),
            members: self.members,
            epochs_max: self.epochs,
            patience: self.patience,
            batch: self.batch,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            seed: self.seed,
            regularise: Regularise { weight_decay: self.weight_decay, batch_norm: self.batch_norm },
            balance: Balance { class_weight: self.class_weight, keep_negatives: self.keep_negatives },
            disturb: Disturb { dropout: self.dropout, ..self.augment.unwrap_or_default() },
            prune: self.prune,
        }
    }
}

/// Trains a model, writes it with its card, and prints its metrics; or does so again and again.
///
/// # Errors
/// The rows cannot be read or learned from, or the files cannot be written.
pub fn run(args: &TrainArgs) -> anyhow::Result<()> {
    match (&args.data, args.follow) {
        (Some(data), _) => {
            let (out, version) = (&args.out, args.version.clone());
            make(args, Job { data, out, version, start: None }).map(drop)
        }
        (None, Some(pause)) => follow::run(args, pause),
        (None, None) => Err(Exit::Usage.because("train: name a file of rows, or follow the decisions with --follow")),
    }
}

/// What is trained on what.
struct Job<'a> {
    data: &'a Path,
    out: &'a Path,
    version: Option<String>,
    /// Where to begin, if it fits.
    start: Option<&'a Start>,
}

/// Trains a model, writes it with its card, and prints its metrics.
fn make(args: &TrainArgs, job: Job<'_>) -> anyhow::Result<Trained> {
    let Job { data: rows, out, version, start } = job;
    files::check(rows)?;
    let [card_path, page_path] = ["json", "html"].map(|form| out.with_extension(form));
    if [&*card_path, &*page_path].contains(&out) {
        return Err(Exit::Usage.because(format!(
            "train --out {}: the model card has this name; choose a name that ends in .onnx",
            out.display()
        )));
    }
    for out in [out, &card_path, &page_path] {
        files::check_out(out, &[rows.to_owned()])?;
    }
    let is_card = |bytes: Vec<u8>| {
        serde_json::from_slice::<serde_json::Value>(&bytes).is_ok_and(|card| card.get("parts").is_some())
    };
    if fs::read(&card_path).is_ok_and(|bytes| !is_card(bytes)) {
        return Err(Exit::Data.because(format!(
            "write the model card to {}: the file exists and is not a model card; choose another name with --out",
            card_path.display()
        )));
    }
    if fs::read_to_string(&page_path).is_ok_and(|page| !page.contains(page::MADE_BY)) {
        return Err(Exit::Data.because(format!(
            "write the page of the model card to {}: the file exists and is not one; choose another name with --out",
            page_path.display()
        )));
    }
    clean_up_on_signals()?;
    // Before the training, which would be in vain.
    let runtime = args.quantise.then(|| Runtime::load(None)).transpose().context("compare the quantised model")?;
    let data = read(rows, &args.reading())?;
    let spec = args.training();
    let bar = progress(args.quiet);
    let mut curves = page::Curves::default();
    let mut tell = |epoch: Epoch| {
        curves.add(&epoch);
        bar.inc(1);
        let loss = epoch.loss.map_or_else(|| "on all but the test rows".to_owned(), |loss| format!("loss {loss:.4}"));
        bar.set_message(format!("network {} of {}, epoch {}, {loss}", epoch.member, spec.members, epoch.number));
    };
    let learn = || format!("learn from {}", rows.display());
    let mut trained = train_from(&data, &spec, start, &mut tell).with_context(learn)?;
    let by_time = args.folds.map(|count| folds(&data, &spec, count, &mut tell)).transpose().with_context(learn)?;
    trained.measured.folds = by_time.unwrap_or_default();
    bar.finish_and_clear();
    let mut calibrated = args.calibrate.map(|method| trained.calibrate(&data, method)).transpose()?;
    if let Some((_, [Some(before), Some(after)])) = calibrated
        && after > before
    {
        let is_left_out = !args.keep_calibration;
        trained.notes.push(Note::Calibration { before, after, is_left_out });
        calibrated = calibrated.filter(|_| !is_left_out);
    }
    if let Some((calibration, _)) = &calibrated {
        trained.measure_calibrated(&data, calibration)?;
    }
    let stem = out.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let identity = Identity {
        name: args.name.clone().unwrap_or(stem),
        version,
        fingerprint: trained.fingerprint.clone(),
        calibration: calibrated.as_ref().map(|(calibration, _)| calibration.clone()),
    };
    let mut model = encode(&trained.network, &trained.features, &identity);
    let mut seconds = None;
    if let Some(runtime) = &runtime {
        let (whole, times) = quantise(runtime, &data, &mut trained, &identity, model)?;
        (model, seconds) = (whole, Some(times));
    }
    let sha256 = format!("{:x}", Sha256::digest(&model));
    let name = rows.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let card =
        trained.card(&identity, sha256, DataFile { data: name, data_sha256: hash(rows)?, times: trained.times(&data) });
    write(out, &model)?;
    write(&page_path, page::page(&trained, &card, &curves).as_bytes())?;
    write(&card_path, format!("{}\n", serde_json::to_string_pretty(&card)?).as_bytes())?;
    for warning in trained.notes.iter().filter(|note| note.is_warning()) {
        writeln!(io::stderr(), "aimpoint: warning: {warning}").unwrap_or_default();
    }
    if !args.quiet {
        let losses = calibrated.map(|(_, losses)| losses);
        let mut to = super::printed::stdout();
        table::report(&mut to, &data, &trained, losses)
            .and_then(|()| table::report_size(&mut to, &trained, seconds))
            .and_then(|()| {
                writeln!(to, "\nwrote {}, {} and {}", out.display(), card_path.display(), page_path.display())
            })
            .context("print the table")?;
    }
    Ok(trained)
}

/// A progress bar over the epochs, shown on a terminal only.
fn progress(quiet: bool) -> ProgressBar {
    let is_shown = !quiet && io::stderr().is_terminal();
    let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
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

/// Writes a file atomically.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    PartialFile::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// The model in integers, and the seconds per row before and after. Both models are compared by ONNX Runtime on the test rows, or on
/// all rows if they were too few to split.
fn quantise(
    runtime: &Runtime,
    data: &Dataset,
    trained: &mut Trained,
    identity: &Identity,
    floats: Vec<u8>,
) -> anyhow::Result<(Vec<u8>, [f64; 2])> {
    let whole = encode_quantised(&trained.network, &trained.features, identity, &trained.ranges(data)?);
    let split = Split::of(data, trained.spec.seed);
    let rows = if split.test.is_empty() { &split.train } else { &split.test };
    let fingerprint = trained.fingerprint.clone().unwrap_or_default();
    let few = data.matrix(&rows[..rows.len().min(BATCH)]);
    let bytes = [floats.len(), whole.len()];
    let mut scores = [Vec::new(), Vec::new()];
    let mut seconds = [f64::INFINITY; 2];
    for (at, file) in [floats, whole.clone()].into_iter().enumerate() {
        let spec = ModelSpec { deadline: DEADLINE, ..ModelSpec::at("model.onnx") };
        let mut model = OnnxModel::from_bytes(runtime, &spec, file, &trained.features, &fingerprint)
            .context("compare the quantised model")?;
        for rows in rows.chunks(ROWS_AT_ONCE) {
            let mut some = Vec::new();
            model.score(&data.matrix(rows), &mut some).context("compare the quantised model")?;
            scores[at].append(&mut some);
        }
        let mut thrown_away = Vec::new();
        for _ in 0..TURNS {
            let start = Instant::now();
            model.score(&few, &mut thrown_away).context("compare the quantised model")?;
            seconds[at] = seconds[at].min(start.elapsed().as_secs_f64() / few.rows() as f64);
        }
    }
    let loss = |scores: &Vec<f32>| {
        let pairs = scores.iter().zip(rows);
        let prediction =
            |(&score, &row): (&f32, &usize)| Prediction { probability: score.into(), label: data.labels[row] };
        log_loss(&pairs.map(prediction).collect::<Vec<_>>())
    };
    let difference_max = scores[0].iter().zip(&scores[1]).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
    trained.measured.quantisation = Some(Quantised { bytes, log_loss: scores.each_ref().map(loss), difference_max });
    Ok((whole, seconds))
}
