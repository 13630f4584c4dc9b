//! `aimpoint models`: the versions of the model folder, and which of them serves.
//!
//! Guarantees: nothing here needs a broker or a running process; running ones see a change within a second, check the version
//! and swap it between two transactions. What is added has been loaded and scored under this configuration first.

use super::{ConfigArgs, Exit, setup::Setup};
use crate::inference::{FeatureMatrix, Golden, Manifest, Model, ModelFolder, ModelSpec, Runtime};
use anyhow::Context;
use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Show the versions of the model, and choose the one that serves
#[derive(Args, Clone, Debug)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// Show the versions, the one that serves, and how they did at their training
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Have a version serve, and keep it until told otherwise
    Activate {
        /// The version; the newest one, now and whenever one comes, where absent
        version: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Have the version serve that did before
    Rollback {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Put an ONNX file into the folder as a new version
    Add {
        /// The file; the card of `aimpoint train` is taken from beside it
        file: PathBuf,
        /// The version; the file's own, then the start of its hash, where absent
        #[arg(long)]
        version: Option<String>,
        #[command(flatten)]
        config: ConfigArgs,
    },
}

pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match &args.action {
        Action::List { config } => list(&folder(&Setup::read(config)?)?.1, &mut out),
        Action::Activate { version, config } => {
            let (_, folder) = folder(&Setup::read(config)?)?;
            match version {
                Some(version) => folder.activate(version)?,
                None => folder.follow_newest()?,
            }
            Ok(writeln!(out, "{} serves", folder.active()?)?)
        }
        Action::Rollback { config } => {
            let (_, folder) = folder(&Setup::read(config)?)?;
            Ok(writeln!(out, "{} serves", folder.rollback()?)?)
        }
        Action::Add { file, version, config } => add(&Setup::read(config)?, file, version.clone(), &mut out),
    }
}

/// The declared folder. It need not be there yet, but it is no file.
fn folder(setup: &Setup) -> anyhow::Result<(ModelSpec, ModelFolder)> {
    let spec = setup.config.model.clone().ok_or_else(|| {
        Exit::Config.because("model.path: no model is declared; set it to the folder of its versions")
    })?;
    if spec.path.is_file() {
        return Err(Exit::Config.because(format!(
            "model.path: expected the folder of the model's versions, found the file {}",
            spec.path.display()
        )));
    }
    let folder = ModelFolder::at(&spec.path);
    Ok((spec, folder))
}

fn list(folder: &ModelFolder, out: &mut impl Write) -> anyhow::Result<()> {
    let active = folder.active()?;
    for version in folder.versions()? {
        let mark = if version == active { "serves" } else { "" };
        match folder.manifest(&version) {
            Ok(manifest) => {
                let metric = |name: &str| manifest.metrics.get(name).and_then(serde_json::Value::as_f64);
                let metrics = ["auc", "log_loss"].map(|name| metric(name).map(|value| format!("{name} {value:.4}")));
                let metrics = metrics.into_iter().flatten().collect::<Vec<_>>().join(", ");
                let sha256 = manifest.sha256.get(..12).unwrap_or(&manifest.sha256);
                writeln!(out, "{version:<20} {mark:<8} {} {sha256} {metrics}", manifest.name)?;
            }
            Err(error) => writeln!(out, "{version:<20} {mark:<8} {error}")?,
        }
    }
    if folder.is_pinned()? {
        writeln!(out, "newer versions wait: aimpoint models activate has the newest one serve again")?;
    }
    Ok(())
}

fn add(setup: &Setup, file: &Path, version: Option<String>, out: &mut impl Write) -> anyhow::Result<()> {
    let (spec, folder) = folder(setup)?;
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let sha256 = format!("{:x}", Sha256::digest(&bytes));
    let pipeline = setup.pipeline(false)?;
    let runtime = Runtime::load(setup.config.inference.onnxruntime.as_deref())?;
    let loader = setup.loader(runtime, &spec, &pipeline);
    let spec = ModelSpec { path: file.to_path_buf(), version, ..spec };
    let mut model =
        loader.check(&spec, bytes.clone(), &Manifest::default()).with_context(|| format!("add {}", file.display()))?;
    let golden = golden(&mut model)?;
    let info = model.info();
    let manifest = Manifest {
        name: info.name.clone(),
        file: PathBuf::from("model.onnx"),
        sha256,
        features: None,
        fingerprint: info.fingerprint.clone(),
        calibration: info.calibration.clone(),
        metrics: card_metrics(file),
        golden: Some(golden),
    };
    folder.add(&info.version, &bytes, &manifest)?;
    Ok(writeln!(out, "added {} of {}; {} serves", info.version, info.name, folder.active()?)?)
}

/// Rows that show each feature at work, and what the model says of them: the baseline, and for each feature the baseline
/// with that feature moved.
fn golden(model: &mut dyn Model) -> anyhow::Result<Golden> {
    let width = model.info().features.len();
    let baseline = model.info().baseline.clone().unwrap_or_else(|| vec![0.0; width]);
    let mut rows = vec![baseline.clone()];
    for feature in 0..width {
        let mut row = baseline.clone();
        // Beyond the baseline by its own size and a bit, so that a feature around 0 moves too.
        row[feature] = if row[feature].is_nan() { 1.0 } else { row[feature] * 2.0 + 1.0 };
        rows.push(row);
    }
    let mut matrix = FeatureMatrix::new(width);
    matrix.reset(rows.len()).copy_from_slice(&rows.concat());
    let mut scores = Vec::new();
    model.score(&matrix, &mut scores)?;
    scores.truncate(rows.len());
    let value = |value: f32| if value.is_nan() { None } else { Some(value) };
    Ok(Golden { rows: rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect(), scores })
}

/// The metrics of the last part in the card beside the file: the test rows where there are some.
fn card_metrics(file: &Path) -> serde_json::Value {
    let card = fs::read(file.with_extension("json")).ok();
    let card: Option<serde_json::Value> = card.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let parts = card.as_ref().and_then(|card| card.get("parts")?.as_array()?.last().cloned());
    parts.unwrap_or_default()
}
