//! Rows from the decision log: the features that decisions carry, with what followed.
//!
//! Guarantees: a row's features are those that the model was given, and its label is that of `aimpoint evaluate`: whether the
//! campaign's action followed an impression in time. Rows of users who do not consent to training do not appear. Limits:
//! decisions with features are in memory until the end, at 4 bytes for each feature and about 200 more.

use super::{ExportArgs, logged::LoggedDecision};
use crate::{
    app::Setup,
    cli::{
        Exit,
        evaluate::{Asked, Log, Observer, plan_of, take_in},
        files,
        printed::stdout,
        signals::clean_up_on_signals,
        topic_files::TopicFiles,
    },
    config::ConfigLoadError,
    control::{DecisionRecord, Key},
    effect::{Evaluation, LabelledImpression},
    training::{LoggedColumns, Row, RowFile, TrainError},
};
use std::{collections::HashMap, io::Write, path::PathBuf};

/// A decision whose impressions become rows.
struct Kept {
    user_key: String,
    key_type: String,
    event_id: String,
    position: (i32, i64),
    occurred_at: i64,
    basis: String,
    features: Box<[f32]>,
}

/// What becomes no row.
#[derive(Default)]
struct LeftOut {
    without_features: u64,
    without_consent: u64,
    other_features: u64,
    immature: u64,
    without_decision: u64,
    later: u64,
    earlier: u64,
}

/// Collects decisions and writes rows.
struct Collector {
    names: Vec<String>,
    fingerprint: String,
    checks_consent: bool,
    /// How many decisions a row stands for.
    weight: f32,
    until: Option<i64>,
    since: i64,
    kept: HashMap<Key, Kept>,
    outputs: Vec<RowFile>,
    left_out: LeftOut,
    positives: u64,
    failed: Option<TrainError>,
}

fn key(decision_id: &str) -> Key {
    Key::of("decision", &[decision_id])
}

impl Observer for Collector {
    fn decision(&mut self, record: &DecisionRecord, json: Option<&str>) {
        let Some(logged) = json.and_then(LoggedDecision::read) else {
            self.left_out.without_features += 1;
            return;
        };
        let Some(basis) = logged.basis(self.checks_consent) else {
            self.left_out.without_consent += 1;
            return;
        };
        if logged.feature_set_version != self.fingerprint {
            self.left_out.other_features += 1;
            return;
        }
        if self.until.is_some_and(|until| logged.occurred_at >= until) {
            self.left_out.later += 1;
            return;
        }
        if logged.occurred_at < self.since {
            self.left_out.earlier += 1;
            return;
        }
        let kept = Kept {
            key_type: logged.key_type(),
            position: logged.position(),
            occurred_at: logged.occurred_at,
            basis,
            features: logged.row(&self.names).into(),
            user_key: logged.user_key,
            event_id: logged.trigger_event_id,
        };
        self.kept.insert(key(&record.decision_id), kept);
    }

    fn labelled(&mut self, label: LabelledImpression) {
        let Some(kept) = self.kept.get(&key(label.decision_id())) else {
            self.left_out.without_decision += 1;
            return;
        };
        let Some(happened) = label.happened else {
            self.left_out.immature += 1;
            return;
        };
        self.positives += u64::from(happened);
        let propensity = label.propensity();
        let row = Row {
            user_key: &kept.user_key,
            key_type: &kept.key_type,
            event_id: &kept.event_id,
            partition: kept.position.0,
            offset: kept.position.1,
            occurred_at_us: kept.occurred_at,
            features: &kept.features,
            label: Some(f32::from(u8::from(happened))),
            logged: Some(LoggedColumns {
                decision_id: label.decision_id(),
                campaign_id: label.campaign_id(),
                consent_basis: &kept.basis,
                // Without a creative, nothing was drawn.
                propensity: if propensity > 0.0 { propensity as f32 } else { f32::NAN },
                weight: self.weight,
            }),
        };
        for output in &mut self.outputs {
            if let Err(error) = output.write(&row) {
                self.failed.get_or_insert(error);
            }
        }
    }
}

/// Writes rows from the files of decisions and outcomes.
pub(super) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let setup = args.config.read()?;
    let named: Vec<PathBuf> = args.decisions.iter().chain(&args.outcomes).cloned().collect();
    let errors = setup.config.control_faults();
    if !errors.is_empty() {
        return Err(ConfigLoadError::Invalid(setup.document.explain(&errors)).into());
    }
    let read = TopicFiles::fetch(&setup, &named)?;
    for file in read.paths() {
        files::check(file)?;
    }
    for out in &args.out {
        files::check_out(out, read.paths())?;
    }
    let pipeline = setup.pipeline(false)?;
    let (names, fingerprint) = (pipeline.model_features(), pipeline.fingerprint().to_owned());
    clean_up_on_signals()?;
    let mut outputs = Vec::new();
    for path in &args.out {
        outputs.push(RowFile::of_log(path, &names, &fingerprint)?);
    }
    let share = setup.config.pipeline.decision.features_share;
    let mut collector = Collector {
        names,
        fingerprint,
        checks_consent: setup.config.pipeline.consent.enabled,
        weight: if share > 0.0 { (1.0 / share) as f32 } else { 1.0 },
        until: args.until.map(jiff::Timestamp::as_microsecond),
        since: args.since.map_or(i64::MIN, jiff::Timestamp::as_microsecond),
        kept: HashMap::new(),
        outputs,
        left_out: LeftOut::default(),
        positives: 0,
        failed: None,
    };
    // What happened from `until` on is not known, so it is in no label either.
    let complete_until = [args.complete_until, args.until].into_iter().flatten().min();
    let asked = Asked { complete_until, labels: true, ..Asked::default() };
    let (setups, plan) = plan_of(&setup, asked)?;
    let spec = setup.config.control();
    let evaluation = Evaluation::new(&setup.config.app.name, &spec, setups, plan, None)?;
    let users = setup.config.users();
    let log = Log {
        files: read.paths(),
        users: &users,
        wait: spec.wait,
        ahead: setup.config.pipeline.time.future_tolerance,
        reads_members: true,
    };
    let report = take_in(&log, evaluation, &mut collector)?;
    if let Some(error) = collector.failed.take() {
        return Err(error.into());
    }
    let mut lines = left_out(&setup, &collector.left_out);
    if report.unreadable.count > 0 {
        let first = report.unreadable.first.first().cloned().unwrap_or_default();
        lines.push(format!(
            "{} lines that are neither a decision nor an outcome, such as {first}",
            report.unreadable.count
        ));
    }
    if collector.outputs.iter().all(|output| output.rows() == 0) {
        let why = if lines.is_empty() { "there is no impression in the files".to_owned() } else { lines.join("; ") };
        return Err(
            Exit::Data.because(format!("export: 0 rows of the decision log; nothing was written. Left out: {why}"))
        );
    }
    let (names, fingerprint, positives) = (collector.names.len(), collector.fingerprint, collector.positives);
    let mut rows = 0;
    for output in collector.outputs {
        rows = output.finish()?;
    }
    let mut out = stdout();
    writeln!(out, "{rows} rows of the decision log, {positives} of them positive")?;
    for line in lines {
        writeln!(out, "  left out: {line}")?;
    }
    writeln!(out, "{names} features, fingerprint {fingerprint}")?;
    for path in &args.out {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}

/// What became no row, in words.
fn left_out(setup: &Setup, of: &LeftOut) -> Vec<String> {
    let LeftOut { without_features, without_consent, other_features, immature, without_decision, later, earlier } = of;
    let share = setup.config.pipeline.decision.features_share;
    let all = [
        (*without_features, format!("decisions without features (decision.features_share is {share})")),
        (*without_consent, "decisions whose user does not consent to training".to_owned()),
        (*other_features, "decisions with features of other declarations".to_owned()),
        (*later, "decisions from --until on".to_owned()),
        (*earlier, "decisions before --since".to_owned()),
        (*without_decision, "impressions of decisions that are left out".to_owned()),
        (*immature, "impressions whose label is not known yet".to_owned()),
    ];
    all.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect()
}
