//! Reads the rows of an experiment.

use super::ExperimentArgs;
use crate::{
    cli::Exit,
    training::{self, Dataset, ReadSpec, Table, TrainError, Value},
};
use std::collections::BTreeMap;

/// The most arms. More are ids in the wrong column.
const ARMS_MAX: usize = 100;

/// What is needed of each row.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// The names of the arms; the control is the first.
    pub(super) arms: Vec<String>,
    /// By row: its arm.
    pub(super) arm: Vec<usize>,
    /// By row: its outcome.
    pub(super) outcome: Vec<f64>,
    /// By row: its covariate.
    pub(super) before: Option<Vec<f64>>,
    /// By row: its predicted uplift.
    pub(super) score: Option<Vec<f64>>,
    /// The features and labels, if a learner is to be fitted.
    pub(super) data: Option<Dataset>,
}

impl Rows {
    /// Whether all outcomes are 0 or 1.
    pub(super) fn is_binary(&self) -> bool {
        self.outcome.iter().all(|it| *it == 0.0 || *it == 1.0)
    }
}

pub(super) fn read(args: &ExperimentArgs) -> anyhow::Result<Rows> {
    let table = Table::open(&args.file, &args.arms.arm)?;
    let find = |role: &'static str, column: &str| {
        table.columns.iter().position(|it| it == column).ok_or_else(|| TrainError::Column {
            path: args.file.clone(),
            role,
            column: column.to_owned(),
            found: table.columns.join(", "),
        })
    };
    let (arm, outcome) = (find("arm", &args.arms.arm)?, find("outcome", &args.arms.outcome)?);
    let before = args.arms.before.as_deref().map(|column| find("before", column)).transpose()?;
    let score = args.uplift.score.as_deref().map(|column| find("score", column)).transpose()?;
    let mut rows = Rows {
        arms: vec![args.arms.control.clone()],
        before: before.map(|_| Vec::new()),
        score: score.map(|_| Vec::new()),
        ..Rows::default()
    };
    let mut known = BTreeMap::from([(args.arms.control.clone(), 0)]);
    table.scan(|line, values| {
        let wrong = |column: usize, expected| table.cell(line, column, expected, values[column]);
        let number = |column: usize, expected| number(values[column]).ok_or_else(|| wrong(column, expected));
        let name = values[arm].text();
        if name.is_empty() {
            return Err(wrong(arm, "the name of an arm"));
        }
        let next = rows.arms.len();
        let index = *known.entry(name).or_insert_with_key(|name| {
            rows.arms.push(name.clone());
            next
        });
        if index >= ARMS_MAX {
            return Err(wrong(arm, "one of at most 100 arms"));
        }
        rows.arm.push(index);
        rows.outcome.push(number(outcome, "a number: 0, 1 or an amount")?);
        if let (Some(column), Some(all)) = (before, &mut rows.before) {
            all.push(number(column, "a number from before the experiment")?);
        }
        if let (Some(column), Some(all)) = (score, &mut rows.score) {
            all.push(number(column, "a number, the predicted uplift")?);
        }
        Ok(())
    })?;
    for (index, name) in rows.arms.iter().enumerate() {
        if !rows.arm.contains(&index) {
            return Err(Exit::Data.because(format!(
                "{}: no row is of the control {name:?}; column {:?} has {}",
                args.file.display(),
                args.arms.arm,
                rows.arms[1..].join(", ")
            )));
        }
    }
    if rows.arms.len() == 1 {
        let (file, control) = (args.file.display(), &args.arms.control);
        return Err(
            Exit::Data.because(format!("{file}: all rows are of the control {control:?}; there is nothing to compare"))
        );
    }
    if args.uplift.learner.is_some() {
        if !rows.is_binary() {
            let outcome = &args.arms.outcome;
            return Err(Exit::Data.because(format!(
                "{}: a learner needs outcomes of 0 and 1, and {outcome:?} has others; choose another --outcome, or --score",
                args.file.display()
            )));
        }
        let spec = ReadSpec {
            label: args.arms.outcome.clone(),
            group: Some(args.arms.arm.clone()),
            ignore: args.uplift.ignore.clone(),
            text: args.uplift.text.clone(),
            ..ReadSpec::default()
        };
        rows.data = Some(training::read(&args.file, &spec)?);
    }
    Ok(rows)
}

fn number(value: Value<'_>) -> Option<f64> {
    let number = match value {
        Value::Missing => return None,
        Value::Number(number) => number,
        Value::Text(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" => 1.0,
            "false" | "no" => 0.0,
            text => text.parse().ok()?,
        },
    };
    (number.abs() <= 1e30).then_some(number)
}
