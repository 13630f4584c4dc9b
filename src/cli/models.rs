//! `aimpoint models`: lists the versions in the model folder, and sets the active one.
//!
//! Guarantees: needs neither a broker nor a running process. Running processes notice a change within a second, check the version
//! and swap it between two transactions. A version is added only after it was loaded and run under this configuration. Each step is in
//! the folder's audit log before it changes anything.

use super::{ConfigArgs, Exit};
use crate::{
    app::{Setup, load_within_limit},
    inference::{
        AuditEntry, AuditNote, AuditStep, Manifest, Model, ModelFiles, ModelFolder, ModelSpec, Refusal, Runtime,
        TrainingTimes, golden, version_fault,
    },
};
use anyhow::Context;
use clap::{Args, Subcommand};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// Show the model versions, and choose the active one
#[derive(Args, Clone, Debug)]
pub(super) struct ModelsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, Subcommand)]
enum Action {
    /// List the versions, the active one, and their metrics from training
    List {
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make a version active, and pin it
    Activate {
        /// The version. Without it, always follow the newest version
        version: Option<String>,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Make the previously active version active again
    Rollback {
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Add an ONNX file to the folder as a new version
    Add {
        /// The file; the model card of `aimpoint train` is read from the same folder
        file: PathBuf,
        /// The version [default: from the file's metadata, else the start of its hash]
        #[arg(long, value_parser = version_name)]
        version: Option<String>,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print the audit log: who changed what, when and why
    History {
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// What the audit log is told.
#[derive(Args, Clone, Debug, Default)]
struct Why {
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Why {
    fn note(&self) -> AuditNote {
        AuditNote { reason: self.reason.clone(), ..AuditNote::default() }
    }
}

/// The name of a version, which is that of its folder.
fn version_name(text: &str) -> Result<String, &'static str> {
    version_fault(text).map_or_else(|| Ok(text.to_owned()), Err)
}

pub(super) fn run(args: &ModelsArgs) -> anyhow::Result<()> {
    let mut out = super::printed::stdout();
    match &args.action {
        Action::List { config } => list(&folder(&config.read()?)?.1, &mut out),
        Action::Activate { version, why, config } => {
            let folder = folder(&config.read()?)?.1.noting(why.note());
            match version {
                Some(version) => folder.activate(version)?,
                None => folder.follow_newest()?,
            }
            Ok(writeln!(out, "{}", describe_active(&folder)?)?)
        }
        Action::Rollback { why, config } => {
            let folder = folder(&config.read()?)?.1.noting(why.note());
            folder.rollback()?;
            Ok(writeln!(out, "{}", describe_active(&folder)?)?)
        }
        Action::Add { file, version, why, config } => add(&config.read()?, file, version.clone(), why.note(), &mut out),
        Action::History { config } => history(&folder(&config.read()?)?.1, &mut out),
    }
}

/// The configured folder. It need not exist yet, but it must not be a file.
pub(super) fn folder(setup: &Setup) -> anyhow::Result<(ModelSpec, ModelFolder)> {
    let spec = setup.config.model.clone().ok_or_else(|| {
        Exit::Config.because("model.path: no model is configured; set it to the folder of its versions")
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

/// Says which version is active, and why.
pub(super) fn describe_active(folder: &ModelFolder) -> anyhow::Result<String> {
    let active = folder.active()?;
    if !folder.is_pinned()? {
        return Ok(format!("{active} is active, as the newest version"));
    }
    let versions = folder.versions()?;
    let newer: Vec<&str> = versions.iter().rev().take_while(|it| **it != active).map(String::as_str).collect();
    if newer.is_empty() {
        return Ok(format!("{active} is active, pinned by name"));
    }
    let newer = newer.into_iter().rev().collect::<Vec<_>>().join(", ");
    Ok(format!(
        "{active} is active, pinned by name; newer versions: {newer}\nto follow the newest version again: aimpoint models \
         activate"
    ))
}

fn list(folder: &ModelFolder, out: &mut impl Write) -> anyhow::Result<()> {
    let active = folder.active()?;
    let mut unreadable = None;
    for version in folder.versions()? {
        let mark = if version == active { "active" } else { "" };
        match folder.manifest(&version) {
            Ok(manifest) => {
                let metric = |name: &str| manifest.metrics.get(name).and_then(serde_json::Value::as_f64);
                let metrics = ["auc", "log_loss"].map(|name| metric(name).map(|value| format!("{name} {value:.4}")));
                let metrics = metrics.into_iter().flatten().collect::<Vec<_>>().join(", ");
                let sha256 = manifest.sha256.get(..12).unwrap_or(&manifest.sha256);
                let added = manifest.added_at.as_deref().and_then(|it| it.get(..19)).unwrap_or("unknown");
                writeln!(out, "{version:<20} {mark:<8} {added:<20} {} {sha256} {metrics}", manifest.name)?;
            }
            Err(error) => {
                writeln!(out, "{version:<20} {:<8} {error}", "")?;
                if version == active {
                    unreadable = Some(error);
                }
            }
        }
    }
    for (name, why) in folder.misnamed()? {
        writeln!(out, "{name:<20} not a version: {why}")?;
    }
    if let Some(error) = unreadable {
        let advice = format!("the active version {active} cannot be read; repair it, or activate another version");
        return Err(anyhow::Error::from(error).context(advice));
    }
    Ok(writeln!(out, "{}", describe_active(folder)?)?)
}

/// Prints the audit log, oldest first, and says if it does not explain what is active.
fn history(folder: &ModelFolder, out: &mut impl Write) -> anyhow::Result<()> {
    let entries = folder.audit()?;
    if entries.is_empty() {
        return Ok(writeln!(out, "no step is in the audit log of {}", folder.path().display())?);
    }
    for entry in &entries {
        match entry {
            Ok(entry) => writeln!(out, "{}", line(entry))?,
            Err(why) => writeln!(out, "{why}")?,
        }
    }
    // An addition changes what is active only if nothing is pinned, so the last step that names a version says what should be.
    let last = entries.iter().flatten().rfind(|it| it.step != AuditStep::Add);
    if let (Some(AuditEntry { step, to: Some(to), .. }), Ok(active)) = (last, folder.active())
        && *to != active
        && *step != AuditStep::FollowNewest
    {
        writeln!(
            out,
            "warning: by the log {to} is active, but it is {active}; the folder was changed by other means, or a step was cut off"
        )?;
    }
    Ok(())
}

/// An entry of the audit log as a line.
fn line(entry: &AuditEntry) -> String {
    let AuditEntry { at, who, step, from, to, sha256, figures, reason } = entry;
    let at = at.get(..19).unwrap_or(at);
    let sha256 = sha256.as_deref().map_or("", |it| it.get(..12).unwrap_or(it));
    let [from, to] = [from, to].map(|it| it.as_deref().unwrap_or("-"));
    let figures = if figures.is_null() { String::new() } else { format!(" {figures}") };
    let reason = reason.as_ref().map(|reason| format!(" ({})", reason.escape_debug())).unwrap_or_default();
    format!("{at:<20} {who:<20} {:<14} {from} -> {to} {sha256}{figures}{reason}", step.as_str())
}

/// Adds a file as a version of this name, for another command.
pub(super) fn add_for(
    setup: &Setup,
    file: &Path,
    version: &str,
    reason: String,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let note = AuditNote { reason: Some(reason), ..AuditNote::default() };
    add(setup, file, Some(version.to_owned()), note, out)
}

fn add(
    setup: &Setup,
    file: &Path,
    version: Option<String>,
    note: AuditNote,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (spec, folder) = folder(setup)?;
    let pipeline = setup.pipeline(false)?;
    let runtime = Runtime::load(setup.config.inference.onnxruntime.as_deref())?;
    let loader = setup.loader(runtime, &spec, &pipeline);
    let spec = ModelSpec { path: file.to_path_buf(), version, ..spec };
    let add = || format!("add {}", file.display());
    let path = file.to_path_buf();
    let files = load_within_limit(&spec, move || ModelFiles::read(&path, ModelFiles::BYTES_MAX))?.with_context(add)?;
    let (from, read) = (spec.clone(), files.clone());
    let check = move || {
        let mut model = loader.check(&from, read, &Manifest::default())?;
        let golden = golden(&mut model)?;
        Ok::<_, Refusal>((model.info().clone(), golden))
    };
    let (info, golden) = load_within_limit(&spec, check)?.with_context(add)?;
    let (metrics, trained) = card_of(file, &files.sha256());
    let manifest = Manifest {
        name: info.name.clone(),
        file: PathBuf::from("model.onnx"),
        sha256: files.sha256(),
        added_at: None,
        features: None,
        fingerprint: info.fingerprint.clone(),
        calibration: info.calibration.clone(),
        metrics,
        trained,
        golden: Some(golden),
    };
    let folder = folder.noting(AuditNote { figures: manifest.metrics.clone(), ..note });
    folder.add(&info.version, &files, &manifest)?;
    let beside: Vec<&str> = files.locations().collect();
    let with = if beside.is_empty() { String::new() } else { format!(" with {}", beside.join(", ")) };
    Ok(writeln!(out, "added {} of {}{with}; {}", info.version, info.name, describe_active(&folder)?)?)
}

/// The metrics of the last part in the model card, which are those of the test rows if there are any, and the times of the rows.
fn card_of(file: &Path, sha256: &str) -> (serde_json::Value, Option<TrainingTimes>) {
    let card = file.with_extension("json");
    // Reading a pipe could block.
    let card = if card.is_file() { fs::read(card).ok() } else { None };
    let card: Option<serde_json::Value> = card.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    // The card of another model says nothing about this one.
    let card = card.filter(|card| card.get("sha256").is_none_or(|it| it == sha256));
    let parts = card.as_ref().and_then(|card| card.get("parts")?.as_array()?.last().cloned());
    let times = card.as_ref().and_then(|card| serde_json::from_value(card.get("times")?.clone()).ok());
    (parts.unwrap_or_default(), times)
}
