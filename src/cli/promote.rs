//! `aimpoint promote`: activates a version if it is shown to be better than the active one.
//!
//! Owns the arguments, what counts as evidence, and the verdict. Both versions score the same rows, and the mean difference of
//! their log losses has an interval by users ([`crate::evaluation::paired`]). The version is activated if the lower end of the
//! interval is above `promotion.margin`, in every evidence. Guarantees: whatever cannot be judged changes nothing. The figures
//! are in the audit log before the version is activated. Limits: sealed rows and shadow scores are in memory.

mod evidence;
mod live;
mod rows;
mod text;

use super::{
    ConfigArgs, Exit, files,
    models::{describe_active, folder},
    topic_files::TopicFiles,
};
use crate::{
    app::{Setup, load_within_limit},
    inference::{
        AuditEntry, AuditNote, AuditStep, LiveNeed, Manifest, Model, ModelFiles, ModelFolder, ModelSpec, OnnxModel,
        PromotionSpec, Runtime,
    },
};
use anyhow::Context;
use clap::{Args, ValueEnum};
use evidence::Evidence;
use serde::Serialize;
use std::{collections::BTreeSet, io::Write, path::PathBuf, time::Duration};

/// How long a run may take. Nothing waits for it, unlike in serving.
const DEADLINE: Duration = Duration::from_mins(10);

/// Activate a version if it is shown to be better than the active one
#[derive(Args, Clone, Debug)]
pub(super) struct PromoteArgs {
    /// The version to be promoted [default: the newest that was not rolled back]
    version: Option<String>,
    #[command(flatten)]
    config: ConfigArgs,
    /// Labelled rows that neither version was trained on, as `aimpoint export` writes them
    #[arg(long, value_name = "FILE")]
    rows: PathBuf,
    /// The rows are sealed, although the model cards do not show it: neither version was trained on them
    #[arg(long)]
    rows_are_sealed: bool,
    /// Decisions, outcomes and shadow scores, as a consumer wrote the topics: JSON lines, decisions and outcomes also as Protobuf
    /// (.pb) or Parquet; or topic:NAME. Shadow scores have files of their own
    #[arg(long, value_name = "FILE", num_args = 1..)]
    live: Vec<PathBuf>,
    /// Up to when the outcomes of --live are complete, such as 2026-03-01T00:00:00Z [default: the time of the last record]
    #[arg(long, value_name = "TIME", requires = "live")]
    complete_until: Option<jiff::Timestamp>,
    /// Show the verdict and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Why, for the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Output: a table, or JSON for machines
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A table and a sentence
    #[default]
    Text,
    /// One JSON object
    Json,
}

/// A version that takes part.
struct Candidate {
    version: String,
    manifest: Manifest,
    model: OnnxModel,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Verdict {
    champion: String,
    challenger: String,
    confidence: crate::evaluation::Confidence,
    margin: f64,
    evidence: Vec<Evidence>,
    /// Whether the challenger is better in all evidence.
    is_better: bool,
    is_dry_run: bool,
    /// The same in words.
    sentence: String,
}

pub(super) fn run(args: &PromoteArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    files::check(&args.rows)?;
    let (spec, folder) = folder(&setup)?;
    let promotion = setup.config.promotion.clone().unwrap_or_default();
    let (champion, challenger) = names(&folder, args.version.as_deref())?;
    let manifest = folder.manifest(&challenger)?;
    if args.live.is_empty() && needs_live(&setup, &promotion, &challenger, &manifest)? {
        return Err(Exit::Usage.because(format!(
            "promote {challenger}: live labels are required (promotion.live), because {}; pass the files of decisions, outcomes and \
             shadow scores with --live, or set promotion.live = \"never\"",
            match promotion.live {
                LiveNeed::Always => "it is set to \"always\"",
                _ => "a [[shadow]] runs this version",
            }
        )));
    }
    // Copying topics takes long, and is in vain if there is nothing to promote.
    let live = TopicFiles::fetch(&setup, &args.live)?;
    for file in live.paths() {
        files::check(file)?;
    }
    let runtime = Runtime::load(setup.config.inference.onnxruntime.as_deref())?;
    let [mut champion, mut challenger] =
        [load(&setup, &spec, &folder, &runtime, champion)?, load(&setup, &spec, &folder, &runtime, challenger)?];
    let sealed = rows::read(&setup, args, [&mut champion, &mut challenger])?;
    let mut evidence = vec![Evidence::of("sealed rows", sealed, &promotion)?];
    if !args.live.is_empty() {
        let pairs = live::read(&setup, (args, live.paths()), &promotion, [&champion, &challenger])?;
        evidence.push(Evidence::of("live labels", pairs, &promotion)?);
    }
    let is_better = evidence.iter().all(|it| it.is_better);
    let (champion, challenger) = (champion.version, challenger.version);
    let sentence = text::sentence([&champion, &challenger], &evidence, &promotion, args.dry_run);
    let verdict = Verdict {
        champion,
        challenger,
        confidence: promotion.confidence,
        margin: promotion.margin,
        evidence,
        is_better,
        is_dry_run: args.dry_run,
        sentence,
    };
    print(args, &verdict)?;
    if !is_better {
        return Err(Exit::NotBetter.because(format!("promote {}: {}", verdict.challenger, verdict.sentence)));
    }
    if args.dry_run {
        return Ok(());
    }
    activate(args, folder, &verdict)
}

/// The active version and the one that is to be promoted.
fn names(folder: &ModelFolder, asked: Option<&str>) -> anyhow::Result<(String, String)> {
    let champion = folder.active()?;
    let versions = folder.versions()?;
    let rolled_back = rolled_back(folder.audit()?.iter().flatten());
    let newest = versions.iter().rfind(|version| !rolled_back.contains(*version));
    let challenger = asked.map(str::to_owned).or_else(|| newest.cloned()).unwrap_or_default();
    if !versions.contains(&challenger) {
        return Err(Exit::Model.because(format!(
            "promote {challenger}: expected a version of {}, found {}",
            folder.path().display(),
            versions.join(", ")
        )));
    }
    if challenger == champion {
        let why = match asked {
            Some(_) => "it is the active version already",
            None if newest != versions.last() => {
                "the newest version that was not rolled back is the active one already"
            }
            None => "the newest version is the active one already",
        };
        let advice = if folder.is_pinned()? {
            "name another version, or add one with aimpoint models add"
        } else {
            "pin the version that serves with aimpoint models activate VERSION, so that a new one does not serve at once"
        };
        return Err(Exit::Model.because(format!("promote {challenger}: {why}; {advice}")));
    }
    Ok((champion, challenger))
}

/// The versions that somebody went back from, and that were neither activated nor added again since.
fn rolled_back<'a>(audit: impl Iterator<Item = &'a AuditEntry>) -> BTreeSet<String> {
    let (mut all, mut before) = (BTreeSet::new(), BTreeSet::new());
    for AuditEntry { step, from, to, .. } in audit {
        if *step == AuditStep::Failed {
            // The entry before it changed nothing.
            all.clone_from(&before);
            continue;
        }
        before.clone_from(&all);
        match step {
            AuditStep::Rollback => all.extend(from.clone()),
            _ => drop(to.as_ref().map(|version| all.remove(version))),
        }
    }
    all
}

/// Whether live labels must be given.
fn needs_live(setup: &Setup, promotion: &PromotionSpec, version: &str, manifest: &Manifest) -> anyhow::Result<bool> {
    match promotion.live {
        LiveNeed::Always => return Ok(true),
        LiveNeed::Never => return Ok(false),
        LiveNeed::IfShadowed => {}
    }
    for shadow in &setup.config.shadows {
        let of_shadow = || -> anyhow::Result<String> {
            if shadow.path.is_dir() {
                let folder = ModelFolder::at(&shadow.path);
                return Ok(folder.manifest(&folder.active()?)?.sha256);
            }
            Ok(ModelFiles::read(&shadow.path, ModelFiles::BYTES_MAX)?.sha256())
        };
        let named = shadow.version.as_deref() == Some(version);
        let name = shadow.name.as_deref().unwrap_or_default();
        if named || of_shadow().with_context(|| format!("read the shadow {name}"))? == manifest.sha256 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Loads a version, checked as before serving.
fn load(
    setup: &Setup,
    spec: &ModelSpec,
    folder: &ModelFolder,
    runtime: &Runtime,
    version: String,
) -> anyhow::Result<Candidate> {
    let pipeline = setup.pipeline(false)?;
    let spec = ModelSpec { deadline: DEADLINE, ..spec.clone() };
    let loader = setup.loader(runtime.clone(), &spec, &pipeline);
    let manifest = folder.manifest(&version)?;
    let name = version.clone();
    let model = load_within_limit(&spec, move || loader.load(&name))?
        .with_context(|| format!("load version {version} of {}", spec.path.display()))?;
    Ok(Candidate { version, manifest, model })
}

impl Candidate {
    /// The probability of a raw score; `None` if it is none.
    fn probability(&self, raw: f32) -> Option<f64> {
        let info = self.model.info();
        let score = info.calibration.as_ref().map_or(raw, |it| it.apply(raw));
        let score = if info.range_left(0, raw).is_some() { f32::NAN } else { score };
        score.is_finite().then_some(f64::from(score))
    }
}

fn print(args: &PromoteArgs, verdict: &Verdict) -> anyhow::Result<()> {
    let mut out = super::printed::stdout();
    match args.format {
        Format::Text => write!(out, "{}", text::table(verdict))?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, verdict)?;
            writeln!(out)?;
        }
    }
    Ok(out.flush()?)
}

/// Activates the challenger, unless another version became active in the meantime.
fn activate(args: &PromoteArgs, folder: ModelFolder, verdict: &Verdict) -> anyhow::Result<()> {
    let active = folder.active()?;
    if active != verdict.champion {
        return Err(Exit::Model.because(format!(
            "promote {}: it was compared with {}, but {active} is active now; run the command again",
            verdict.challenger, verdict.champion
        )));
    }
    let figures = serde_json::to_value(&verdict.evidence)?;
    let note = AuditNote { is_promotion: true, figures, reason: args.reason.clone() };
    let folder = folder.noting(note);
    folder.activate(&verdict.challenger)?;
    if args.format == Format::Text {
        writeln!(super::printed::stdout(), "{}", describe_active(&folder)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_was_rolled_back_is_not_promoted_again_by_itself() {
        let entry = |step: AuditStep, from: &str, to: &str| AuditEntry {
            at: String::new(),
            who: String::new(),
            step,
            from: Some(from.to_owned()),
            to: Some(to.to_owned()).filter(|_| step != AuditStep::Failed),
            sha256: None,
            figures: serde_json::Value::Null,
            reason: None,
        };
        let mut log = vec![
            entry(AuditStep::Add, "1", "2"),
            entry(AuditStep::Promote, "1", "2"),
            entry(AuditStep::Rollback, "2", "1"),
        ];
        let found = |log: &[AuditEntry]| rolled_back(log.iter()).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(found(&log), "2");
        for (step, expected) in [(AuditStep::Activate, ""), (AuditStep::Promote, ""), (AuditStep::Add, "")] {
            let again = [&log[..], &[entry(step, "1", "2")]].concat();
            assert_eq!(found(&again), expected, "{step:?}");
            let failed = [&again[..], &[entry(AuditStep::Failed, "1", "")]].concat();
            assert_eq!(found(&failed), "2", "{step:?}");
        }
        log.extend([entry(AuditStep::Add, "1", "3"), entry(AuditStep::Activate, "1", "3")]);
        log.push(entry(AuditStep::Rollback, "3", "1"));
        assert_eq!(found(&log), "2 3");
    }
}
