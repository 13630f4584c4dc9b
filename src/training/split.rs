//! Splits rows into 70 % training, 15 % validation and 15 % test rows.
//!
//! Guarantees: if rows have times, no validation row is older than a training row and no test row older than a validation row; rows of
//! a group stay together, at the time of the group's oldest row; otherwise the split is random by seed. Limits: groups are not
//! divided, so the shares are exact only up to a group.

use super::{Dataset, SPLIT_ROWS_MIN};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::collections::HashMap;

/// The rows of each part, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// `time`, `random`, or `none` if all rows are used for training.
    pub how: &'static str,
    /// Training rows.
    pub train: Vec<usize>,
    /// Rows whose loss stops the training; empty if there are too few.
    pub validation: Vec<usize>,
    /// Rows for the final metrics only; empty if there are too few.
    pub test: Vec<usize>,
}

impl Split {
    /// Splits the rows.
    pub fn of(data: &Dataset, seed: u64) -> Self {
        let rows = data.rows();
        if rows < SPLIT_ROWS_MIN {
            return Self { how: "none", train: (0..rows).collect(), validation: Vec::new(), test: Vec::new() };
        }
        let mut units = units(data);
        if let Some(times) = &data.times {
            let oldest = |unit: &Vec<usize>| unit.iter().map(|&row| times[row]).fold(f64::INFINITY, f64::min);
            units.sort_by(|a, b| oldest(a).total_cmp(&oldest(b)));
        } else {
            units.shuffle(&mut StdRng::seed_from_u64(seed));
        }
        let how = if data.times.is_some() { "time" } else { "random" };
        let mut split = Self { how, train: Vec::new(), validation: Vec::new(), test: Vec::new() };
        let mut before = 0;
        for unit in units {
            let part = match before * 100 {
                it if it < rows * 70 => &mut split.train,
                it if it < rows * 85 => &mut split.validation,
                _ => &mut split.test,
            };
            before += unit.len();
            part.extend(unit);
        }
        split
    }

    /// The non-empty parts, by name.
    pub fn parts(&self) -> Vec<(&'static str, &[usize])> {
        let train = if self.how == "none" { "all" } else { "train" };
        let parts = [(train, &self.train), ("validation", &self.validation), ("test", &self.test)];
        parts.into_iter().filter(|(_, rows)| !rows.is_empty()).map(|(name, rows)| (name, rows.as_slice())).collect()
    }
}

/// The groups of rows that stay together, in the order of their first row.
pub(super) fn units(data: &Dataset) -> Vec<Vec<usize>> {
    let Some(groups) = &data.groups else { return (0..data.rows()).map(|row| vec![row]).collect() };
    let mut index = HashMap::new();
    let mut units: Vec<Vec<usize>> = Vec::new();
    for (row, group) in groups.iter().enumerate() {
        let unit = *index.entry(group.as_str()).or_insert(units.len());
        if unit == units.len() {
            units.push(Vec::new());
        }
        units[unit].push(row);
    }
    units
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(rows: usize) -> Dataset {
        Dataset { labels: vec![false; rows], ..Dataset::default() }
    }

    fn sizes(split: &Split) -> [usize; 3] {
        [split.train.len(), split.validation.len(), split.test.len()]
    }

    #[test]
    fn without_times_the_split_is_random_by_seed() {
        let split = Split::of(&data(100), 1);
        assert_eq!((sizes(&split), split.how), ([70, 15, 15], "random"));
        assert_eq!(split, Split::of(&data(100), 1));
        assert_ne!(split, Split::of(&data(100), 2));
        let mut all = [split.train, split.validation, split.test].concat();
        all.sort_unstable();
        assert_eq!(all, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn with_times_the_test_rows_are_the_latest() {
        let times = Some((0..100).map(|row| f64::from(100 - row)).collect());
        let split = Split::of(&Dataset { times, ..data(100) }, 1);
        assert_eq!((sizes(&split), split.how), ([70, 15, 15], "time"));
        assert!(split.train.iter().all(|&row| row >= 30) && split.test.iter().all(|&row| row < 15));
    }

    #[test]
    fn groups_are_not_divided() {
        let groups = (0..100).map(|row| format!("user {}", row % 10)).collect();
        let split = Split::of(&Dataset { groups: Some(groups), ..data(100) }, 1);
        assert_eq!(sizes(&split), [70, 20, 10]);
        assert!(split.test.iter().all(|row| row % 10 == split.test[0] % 10));
    }

    #[test]
    fn too_few_rows_are_not_split() {
        let split = Split::of(&data(4), 1);
        assert_eq!((sizes(&split), split.how, split.parts()[0].0), ([4, 0, 0], "none", "all"));
    }
}
