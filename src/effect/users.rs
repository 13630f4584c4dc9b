//! The rows for the AUC within users, in bounded memory.
//!
//! Owns a sample of users. As long as all rows fit, it holds those of all users. If they do not, half of the users are
//! left out, by a hash of the user, again and again. A user's rows are kept or left out together, so the AUC within the
//! users that are kept is right, and the mean over them is that of a random sample of users.
//!
//! Limits: [`ROWS_MAX`] rows of all groups together, 24 bytes each.

use super::halving::Halving;
use crate::evaluation::{
    Prediction,
    sample::{SampleError, UserAuc, UserWeighting, user_auc},
};
use std::collections::BTreeMap;

/// The most rows; a row in several groups counts several times.
const ROWS_MAX: usize = 2_000_000;

#[derive(Clone, Copy, Debug)]
struct Row {
    user: u64,
    probability: f64,
    group: u32,
    label: bool,
}

/// The rows of a sample of users.
#[derive(Clone, Debug)]
pub(super) struct UserRows {
    rows: Vec<Row>,
    rows_max: usize,
    sample: Halving,
}

impl Default for UserRows {
    fn default() -> Self {
        Self::new(ROWS_MAX)
    }
}

impl UserRows {
    fn new(rows_max: usize) -> Self {
        Self { rows: Vec::new(), rows_max, sample: Halving::default() }
    }

    /// Adds a row to a group.
    pub(super) fn add(&mut self, group: u32, user: u64, prediction: Prediction) {
        if !self.sample.keeps(user) {
            return;
        }
        let Prediction { probability, label } = prediction;
        self.rows.push(Row { user, probability, group, label });
        while self.rows.len() > self.rows_max && self.sample.halve() {
            let sample = self.sample;
            self.rows.retain(|row| sample.keeps(row.user));
        }
    }

    /// One user in so many is in the sample.
    pub(super) fn one_in(&self) -> u64 {
        self.sample.one_in()
    }

    /// The AUC within the users of each group.
    ///
    /// # Errors
    ///
    /// If a probability is not between 0 and 1.
    pub(super) fn figures(&self) -> Result<BTreeMap<u32, UserAuc>, SampleError> {
        let mut groups: BTreeMap<u32, Vec<(u64, Prediction)>> = BTreeMap::new();
        for Row { user, probability, group, label } in self.rows.iter().copied() {
            groups.entry(group).or_default().push((user, Prediction { probability, label }));
        }
        let figure = |(group, rows): (u32, Vec<(u64, Prediction)>)| {
            let rows = rows.into_iter().map(|(user, prediction)| (user, prediction.into()));
            Ok((group, user_auc(rows, UserWeighting::Impressions)?))
        };
        groups.into_iter().map(figure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::mix;

    #[test]
    fn users_are_kept_whole_and_about_half_of_them_go_at_a_time() {
        let mut rows = UserRows::new(1_000);
        let mut all = UserRows::new(1_000_000);
        for number in 0..20_000_u64 {
            let user = mix(number % 4_000);
            // Of five rows of a user, the second is positive; it ranks first for even users.
            let label = number / 4_000 == 1;
            let probability = if label && number % 2 == 0 { 0.9 } else { 0.1 + 0.1 * (number / 4_000) as f64 };
            for rows in [&mut rows, &mut all] {
                rows.add(7, user, Prediction { probability, label });
            }
        }
        assert_eq!((rows.one_in(), all.one_in()), (32, 1));
        let (some, every) = (rows.figures().unwrap()[&7], all.figures().unwrap()[&7]);
        assert_eq!((every.users, every.users_left_out), (4_000, 0));
        assert!((90..=160).contains(&some.users) && some.users_left_out == 0, "{some:?}");
        assert!(rows.rows.len() <= 1_000 && rows.rows.len().is_multiple_of(5));
        // 1 for even users; 1 of 4 for the others.
        assert!((every.value.unwrap() - 0.625).abs() < 1e-12);
        assert!((some.value.unwrap() - 0.625).abs() < 0.15);
    }
}
