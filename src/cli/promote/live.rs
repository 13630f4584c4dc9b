//! Live labels: what the active version and the shadow said of the same decision, and what followed.
//!
//! A row is an impression of a campaign whose outcome the score predicts, once its label is known. Outcomes are joined to
//! decisions as `aimpoint evaluate` does it. Only decisions of the active version count, and only those that the shadow scored.

use super::{Candidate, PromoteArgs, evidence::Rows};
use crate::{
    app::Setup,
    cli::{
        Exit,
        evaluate::{Asked, Log, Observer, plan_of, take_in},
        files::{self, FileError, Line},
    },
    config::ConfigLoadError,
    control::{CONTROL_VARIANT, DecisionRecord, Details, Key},
    effect::{Evaluation, LabelledImpression},
    evaluation::PairedRow,
    inference::PromotionSpec,
    targeting::campaign::{CampaignSpec, Chance},
};
use serde::Deserialize;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

/// The longest line.
const LINE_BYTES_MAX: usize = 1 << 20;
/// The name of the main score.
const SCORE: &str = "score";

/// A record of the topic of shadow scores.
#[derive(Deserialize)]
struct ShadowScore {
    decision_id: String,
    shadow: String,
    version: String,
    /// Absent in old records.
    sha256: Option<String>,
    score: Option<f64>,
    champion: Option<f64>,
}

/// The scores of both versions by decision, and what else the files hold.
#[derive(Default)]
struct Scores {
    /// The active version's and the shadow's.
    pairs: HashMap<Key, [f64; 2]>,
    /// How many scores there are of other versions.
    others: BTreeMap<String, u64>,
    unscored: u64,
    unreadable: u64,
    first_unreadable: Option<String>,
}

/// Collects the rows.
struct Live<'a> {
    scores: Scores,
    champion: &'a str,
    campaigns: BTreeSet<String>,
    rows: Rows,
    of_others: u64,
    immature: u64,
    without_score: u64,
}

impl Observer for Live<'_> {
    fn decision(&mut self, record: &DecisionRecord, _: Option<&str>) {
        let Details { model_version, variant, .. } = record.details();
        // A variant's version may have the same name.
        let is_of_variant = !matches!(variant.as_str(), "" | CONTROL_VARIANT);
        if model_version != self.champion || is_of_variant {
            let known = self.scores.pairs.remove(&key(&record.decision_id));
            self.of_others += u64::from(known.is_some());
        }
    }

    fn labelled(&mut self, row: LabelledImpression) {
        if !self.campaigns.contains(row.campaign_id()) {
            return;
        }
        let Some(pair) = self.scores.pairs.get(&key(row.decision_id())) else {
            self.without_score += 1;
            return;
        };
        match row.happened {
            Some(label) => {
                self.rows.rows.push((row.user, PairedRow { probabilities: *pair, label, weight: 1.0 }));
            }
            None => self.immature += 1,
        }
    }
}

fn key(decision_id: &str) -> Key {
    Key::of("decision", &[decision_id])
}

/// Reads the files and pairs the scores with labels.
pub(super) fn read(
    setup: &Setup,
    (args, files): (&PromoteArgs, &[PathBuf]),
    promotion: &PromotionSpec,
    [champion, challenger]: [&Candidate; 2],
) -> anyhow::Result<Rows> {
    let errors = setup.config.control_faults();
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    let campaigns = campaigns(setup, promotion)?;
    let (mut shadows, mut logs) = (Vec::new(), Vec::new());
    for path in files {
        let to = if holds_shadow_scores(path)? { &mut shadows } else { &mut logs };
        to.push(path.clone());
    }
    if shadows.is_empty() || logs.is_empty() {
        let (found, missing) = if shadows.is_empty() {
            ("no shadow scores", "the topic of topics.shadow_scores")
        } else {
            ("neither decisions nor outcomes", "the topics of decisions and outcomes")
        };
        return Err(Exit::Data.because(format!("read the files of --live: {found} in them; add a file of {missing}")));
    }
    let scores = scores(&shadows, challenger)?;
    let asked = Asked { complete_until: args.complete_until, labels: true, ..Asked::default() };
    let (setups, plan) = plan_of(setup, asked)?;
    let spec = setup.config.control();
    let evaluation = Evaluation::new(&setup.config.app.name, &spec, setups, plan, None)?;
    let mut live = Live {
        scores,
        champion: &champion.version,
        campaigns,
        rows: Rows::default(),
        of_others: 0,
        immature: 0,
        without_score: 0,
    };
    let users = setup.config.users();
    let log = Log {
        files: &logs,
        users: &users,
        wait: spec.wait,
        ahead: setup.config.pipeline.time.future_tolerance,
        reads_members: false,
    };
    let report = take_in(&log, evaluation, &mut live)?;
    let Live { scores, mut rows, of_others, immature, without_score, .. } = live;
    let mut left_out = |count: u64, what: String| {
        if count > 0 {
            rows.left_out.push(format!("{count} {what}"));
        }
    };
    left_out(immature, "impressions whose label is not known yet".to_owned());
    left_out(
        without_score,
        format!("impressions without a score of both {} and {}", champion.version, challenger.version),
    );
    left_out(of_others, format!("decisions that {} did not make", champion.version));
    left_out(scores.unscored, "shadow scores in which one of the two is missing".to_owned());
    left_out(scores.others.values().sum(), "shadow scores of other versions".to_owned());
    let first = scores.first_unreadable.unwrap_or_default();
    left_out(scores.unreadable, format!("lines that are no shadow score, such as {first}"));
    let first = report.unreadable.first.first().cloned().unwrap_or_default();
    left_out(report.unreadable.count, format!("lines that are neither a decision nor an outcome, such as {first}"));
    Ok(rows)
}

/// The campaigns whose outcome the score predicts.
fn campaigns(setup: &Setup, promotion: &PromotionSpec) -> anyhow::Result<BTreeSet<String>> {
    let declared = &setup.config.pipeline.campaigns;
    let predicts =
        |campaign: &&CampaignSpec| matches!(&campaign.probability, Some(Chance::Score(name)) if name == SCORE);
    if promotion.campaigns.is_empty() {
        let found: BTreeSet<String> = declared.iter().filter(predicts).map(|it| it.id.clone()).collect();
        if found.is_empty() {
            return Err(Exit::Config.because(
                "promotion.campaigns: no campaign has probability = \"score\", so no outcome is what the score predicts; name the \
                 campaigns whose outcome it does",
            ));
        }
        return Ok(found);
    }
    for id in &promotion.campaigns {
        let campaign = declared.iter().find(|it| it.id == *id);
        let pays_for = campaign.and_then(|it| it.action.as_deref());
        if campaign.is_none() || matches!(pays_for, None | Some("impression")) {
            let why =
                if campaign.is_none() { "is not declared" } else { "pays for impressions, which nothing predicts" };
            return Err(Exit::Config.because(format!("promotion.campaigns: the campaign {id:?} {why}")));
        }
    }
    Ok(promotion.campaigns.iter().cloned().collect())
}

/// Whether the first line of a file is a shadow score.
fn holds_shadow_scores(path: &Path) -> anyhow::Result<bool> {
    if !path.is_file() {
        return Err(Exit::NoInput.because(format!(
            "read {}: it is no file; the files of --live are read twice, so write them to disk first",
            path.display()
        )));
    }
    let mut is_shadow = false;
    let first = files::each_line::<FileError>(path, LINE_BYTES_MAX, |line| {
        if let Line::Whole(_, json) = line {
            is_shadow = serde_json::from_slice::<ShadowScore>(json).is_ok();
        }
        Ok(false)
    });
    // Protobuf and Parquet are no lines; whoever reads them says what is wrong.
    Ok(first.is_ok() && is_shadow)
}

/// Reads the scores of this version.
fn scores(paths: &[PathBuf], challenger: &Candidate) -> anyhow::Result<Scores> {
    let (version, sha256) = (&challenger.version, &challenger.manifest.sha256);
    let mut scores = Scores::default();
    for path in paths {
        files::each_line::<anyhow::Error>(path, LINE_BYTES_MAX, |line| {
            let (number, read) = match line {
                Line::Whole(number, json) => (number, serde_json::from_slice::<ShadowScore>(json).ok()),
                Line::TooLong { number, .. } => (number, None),
            };
            let Some(read) = read else {
                scores.unreadable += 1;
                scores.first_unreadable.get_or_insert_with(|| format!("{}:{number}", path.display()));
                return Ok(true);
            };
            // A version's name may be used again for another file.
            let is_other_file = read.sha256.as_ref().is_some_and(|found| found != sha256);
            if read.version != *version || is_other_file {
                let file = if is_other_file { " (another file)" } else { "" };
                *scores.others.entry(format!("{} {}{file}", read.shadow, read.version)).or_default() += 1;
                return Ok(true);
            }
            let (Some(champion), Some(score)) = (read.champion, read.score) else {
                scores.unscored += 1;
                return Ok(true);
            };
            if let Some(odd) = [champion, score].into_iter().find(|it| !(0.0..=1.0).contains(it)) {
                return Err(Exit::Data.because(format!(
                    "{}:{number}: the score {odd} is no probability, so its log loss is not known",
                    path.display()
                )));
            }
            scores.pairs.insert(key(&read.decision_id), [champion, score]);
            Ok(true)
        })?;
    }
    if scores.pairs.is_empty() {
        let found: Vec<&str> = scores.others.keys().map(String::as_str).collect();
        let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
        return Err(Exit::Data.because(format!(
            "read the shadow scores: expected some of version {version}, found scores of {found}; the [[shadow]] must have \
             version = {version:?}"
        )));
    }
    Ok(scores)
}
