//! Sealed rows: both versions score the same rows of a file.

use super::{Candidate, PromoteArgs, evidence::Rows};
use crate::{
    app::Setup,
    cli::{
        Exit,
        evaluate::{Asked, plan_of},
    },
    control::micros,
    evaluation::PairedRow,
    inference::{FeatureMatrix, Model, TrainingTimes},
    training::{Dataset, ReadSpec, Table, read as read_rows},
};
use anyhow::Context;
use rapidhash::v3::rapidhash_v3;
use std::collections::BTreeSet;

/// How many rows are scored at once.
const ROWS_AT_ONCE: usize = 4_096;
/// The columns that `aimpoint export` writes.
const LABEL: &str = "label";
const USER: &str = "user_key";
const WEIGHT: &str = "weight";
const DECISION: &str = "decision_id";

/// Reads the rows and scores them with both versions, the active one first.
pub(super) fn read(setup: &Setup, args: &PromoteArgs, versions: [&mut Candidate; 2]) -> anyhow::Result<Rows> {
    let path = &args.rows;
    let shown = path.display();
    let table = Table::open(path, LABEL)?;
    let has = |name: &str| table.columns.iter().any(|it| it == name);
    if let Some(missing) = [LABEL, USER].iter().find(|name| !has(name)) {
        let advice = if *missing == LABEL {
            "declare [label], and write the rows again with aimpoint export"
        } else {
            "rows of a user are not independent of each other, so write them with aimpoint export"
        };
        return Err(Exit::Data.because(format!("read {shown}: there is no column {missing}; {advice}")));
    }
    let mut features: BTreeSet<String> = BTreeSet::new();
    for version in &versions {
        let of_version = &version.model.info().features;
        if let Some(missing) = of_version.iter().find(|name| !has(name)) {
            return Err(Exit::Data.because(format!(
                "read {shown}: there is no column {missing}, a feature of version {}; write the rows again with aimpoint export and \
                 this configuration",
                version.version
            )));
        }
        features.extend(of_version.iter().cloned());
    }
    // In rows of a replay, a column of this name is a feature.
    let is_weighted = has(WEIGHT) && has(DECISION) && !features.contains(WEIGHT);
    let columns = features.into_iter().chain(is_weighted.then(|| WEIGHT.to_owned())).collect();
    let spec = ReadSpec {
        label: LABEL.to_owned(),
        group: Some(USER.to_owned()),
        features: Some(columns),
        ..ReadSpec::default()
    };
    let data = read_rows(path, &spec)?;
    let declared = setup.pipeline(false)?.fingerprint().to_owned();
    if let Some(found) = data.fingerprint.as_ref().filter(|found| **found != declared) {
        return Err(Exit::Data.because(format!(
            "read {shown}: the rows are of features with the fingerprint {found}, but those of the configuration have {declared}; \
             write the rows again with aimpoint export"
        )));
    }
    let mut left_out = Vec::new();
    let ahead = looks_ahead(setup, has(DECISION))?;
    let chosen = sealed(ahead, args, &data, [&*versions[0], &*versions[1]], &mut left_out)?;
    let users = data.groups.as_deref().unwrap_or_default();
    let without_user = chosen.iter().filter(|row| users[**row].is_empty()).count();
    if without_user > 0 {
        return Err(Exit::Data.because(format!(
            "read {shown}: {without_user} rows have no {USER}, so it is not known which of them belong together"
        )));
    }
    let [champion, challenger] = versions;
    let names = [champion.version.clone(), challenger.version.clone()];
    let [one, other] = [score(champion, &data, &chosen)?, score(challenger, &data, &chosen)?];
    let unscored = [&one, &other].map(|scores| scores.iter().filter(|it| it.is_none()).count());
    if unscored[1] > unscored[0] {
        return Err(Exit::Model.because(format!(
            "promote {}: it has no valid score for {} of {} rows, and {} for {}; nothing was changed",
            names[1],
            unscored[1],
            chosen.len(),
            names[0],
            unscored[0]
        )));
    }
    let weight = is_weighted.then(|| data.features.iter().position(|name| name == WEIGHT)).flatten();
    let mut rows = Vec::with_capacity(chosen.len());
    let (mut without_score, mut without_weight) = (0_u64, 0_u64);
    for ((&row, one), other) in chosen.iter().zip(one).zip(other) {
        let (Some(one), Some(other)) = (one, other) else {
            without_score += 1;
            continue;
        };
        for (name, score) in names.iter().zip([one, other]) {
            if !(0.0..=1.0).contains(&score) {
                return Err(Exit::Model.because(format!(
                    "promote: the score {score} of version {name} is no probability, so its log loss is not known; add a calibration"
                )));
            }
        }
        let weight = weight.map_or(1.0, |column| f64::from(data.values[row * data.features.len() + column]));
        if !(weight > 0.0 && weight.is_finite()) {
            without_weight += 1;
            continue;
        }
        let user = rapidhash_v3(users[row].as_bytes());
        rows.push((user, PairedRow { probabilities: [one, other], label: data.labels[row], weight }));
    }
    for (count, what) in [
        (without_score, "rows that one of the versions gave no valid score"),
        (without_weight, "rows without a weight above 0"),
    ] {
        if count > 0 {
            left_out.push(format!("{count} {what}"));
        }
    }
    Ok(Rows { rows, left_out })
}

/// How far a label looks ahead of its row's time, in microseconds, and what that is made of. A decision may be used until it
/// expires, its impression may follow for a while, and its label is known at an age of the impression.
fn looks_ahead(setup: &Setup, is_logged: bool) -> anyhow::Result<(i64, &'static str)> {
    let within = setup.config.pipeline.label.as_ref().map_or(0, |label| micros(label.within));
    if !is_logged {
        return Ok((within, "label.within"));
    }
    let (_, plan) = plan_of(setup, Asked::default())?;
    let age = plan.campaigns.values().filter_map(|campaign| campaign.label).map(|label| plan.after(label)).max();
    let spec = setup.config.control();
    let used = micros(setup.config.pipeline.decision.expires_after.saturating_add(spec.attribution.offer));
    let logged = used.saturating_add(age.unwrap_or_default());
    let words = "decision.expires_after, control.attribution.offer and the age at which a label is known";
    Ok(if logged > within { (logged, words) } else { (within, "label.within") })
}

/// The rows that neither version was trained on. Labels look ahead, so a row must be later than the last training row by that:
/// otherwise the same outcome may be in both.
fn sealed(
    (ahead, ahead_of): (i64, &str),
    args: &PromoteArgs,
    data: &Dataset,
    versions: [&Candidate; 2],
    left_out: &mut Vec<String>,
) -> anyhow::Result<Vec<usize>> {
    let all = || (0..data.rows()).collect();
    if args.rows_are_sealed {
        return Ok(all());
    }
    let shown = args.rows.display();
    let flag = "if neither version was trained on these rows, say so with --rows-are-sealed";
    let Some(times) = data.times.as_ref().filter(|_| data.has_exported_times) else {
        return Err(Exit::Data.because(format!("read {shown}: it is not known when the rows happened; {flag}")));
    };
    let mut since = i64::MIN;
    for version in versions {
        let Some(until) = version.manifest.trained.as_ref().and_then(TrainingTimes::trained_until) else {
            return Err(Exit::Data.because(format!(
                "promote: the card of version {} does not say until when it was trained; {flag}",
                version.version
            )));
        };
        since = since.max(until.saturating_add(ahead));
    }
    let rows: Vec<usize> = (0..data.rows()).filter(|row| times[*row] > since as f64).collect();
    let early = data.rows() - rows.len();
    if early > 0 {
        let moment = jiff::Timestamp::from_microsecond(since).map_or_else(|_| since.to_string(), |it| it.to_string());
        left_out.push(format!(
            "{early} rows that are not later than {moment}, up to when a version was trained, with {ahead_of}"
        ));
    }
    Ok(rows)
}

/// The probability of each row; `None` if the model has none.
fn score(version: &mut Candidate, data: &Dataset, rows: &[usize]) -> anyhow::Result<Vec<Option<f64>>> {
    let names = version.model.info().features.clone();
    let place = |name: &String| {
        let found = data.features.iter().position(|known| known == name);
        found.ok_or_else(|| {
            Exit::Data.because(format!(
                "score the rows with version {}: the values of {name} cannot be used as numbers",
                version.version
            ))
        })
    };
    let places = names.iter().map(place).collect::<anyhow::Result<Vec<usize>>>()?;
    let width = data.features.len();
    let mut matrix = FeatureMatrix::new(places.len());
    let (mut raw, mut scores) = (Vec::new(), Vec::with_capacity(rows.len()));
    for rows in rows.chunks(ROWS_AT_ONCE) {
        let values = matrix.reset(rows.len());
        for (to, row) in values.chunks_exact_mut(places.len().max(1)).zip(rows) {
            for (to, place) in to.iter_mut().zip(&places) {
                *to = data.values[row * width + place];
            }
        }
        version
            .model
            .score(&matrix, &mut raw)
            .with_context(|| format!("score the rows with version {}", version.version))?;
        scores.extend(raw.iter().take(rows.len()).map(|raw| version.probability(*raw)));
    }
    Ok(scores)
}
