//! The reward model of the doubly robust estimate.
//!
//! The reward of a creative for an audience is the mean of its impressions, drawn to the creative's mean over all
//! audiences, and that to the campaign's mean, each as if by [`WEIGHT`] more impressions (shrinkage by a fixed number
//! of prior observations, as in Casella 1985). It is cross-fitted: a row is predicted by a model that has not seen its
//! user (Chernozhukov et al. 2018, "Double/debiased machine learning"), in [`FOLDS`] folds of users. So the model
//! cannot know the row's own reward, and the estimate stays unbiased however wrong the model is.

use crate::random::mix;
use std::collections::HashMap;

/// The parts that users are divided into.
pub(super) const FOLDS: usize = 5;

/// How many impressions a broader mean counts for.
const WEIGHT: f64 = 20.0;

/// The fold's part of a user's hash.
const SALT: u64 = 0x4f1d_82c6_93ab_7e05;

/// Rewards and impressions.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    reward: f64,
    rows: f64,
}

impl Sum {
    fn add(&mut self, reward: f64) {
        self.reward += reward;
        self.rows += 1.0;
    }

    fn drawn_to(self, broader: f64) -> f64 {
        (self.reward + WEIGHT * broader) / (self.rows + WEIGHT)
    }
}

/// The mean rewards of a campaign's creatives by audience.
#[derive(Clone, Debug, Default)]
struct Model {
    all: Sum,
    creatives: HashMap<usize, Sum>,
    cells: HashMap<(usize, usize), Sum>,
}

impl Model {
    fn predict(&self, creative: usize, audience: usize) -> f64 {
        let all = if self.all.rows > 0.0 { self.all.reward / self.all.rows } else { 0.0 };
        let of_creative = self.creatives.get(&creative).copied().unwrap_or_default().drawn_to(all);
        self.cells.get(&(creative, audience)).copied().unwrap_or_default().drawn_to(of_creative)
    }
}

/// One model for each fold, fitted on the others.
#[derive(Clone, Debug, Default)]
pub(super) struct CrossFitted([Model; FOLDS]);

impl CrossFitted {
    /// The fold of a user.
    fn fold(user: u64) -> usize {
        (mix(user ^ SALT) % FOLDS as u64) as usize
    }

    /// Adds a row to the models of all folds but its own.
    pub(super) fn add(&mut self, user: u64, creative: usize, audience: usize, reward: f64) {
        let own = Self::fold(user);
        for (_, model) in self.0.iter_mut().enumerate().filter(|(fold, _)| *fold != own) {
            model.all.add(reward);
            model.creatives.entry(creative).or_default().add(reward);
            model.cells.entry((creative, audience)).or_default().add(reward);
        }
    }

    /// The reward to expect of a creative for an audience, from other users.
    pub(super) fn predict(&self, user: u64, creative: usize, audience: usize) -> f64 {
        self.0[Self::fold(user)].predict(creative, audience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_predicted_without_its_own_user_and_little_is_drawn_to_much() {
        let mut fitted = CrossFitted::default();
        let users: Vec<u64> = (0..1_000).collect();
        // Creative 0 earns 0.2, creative 1 earns 0.6 for audience 1 alone.
        for user in &users {
            let of = |rate: f64| f64::from(u8::from((*user % 10) as f64 + 0.5 < rate * 10.0));
            fitted.add(*user, 0, 0, of(0.2));
            fitted.add(*user, 1, 1, of(0.6));
        }
        let predicted = |creative, audience| fitted.predict(7, creative, audience);
        assert!((predicted(0, 0) - 0.2).abs() < 0.04 && (predicted(1, 1) - 0.6).abs() < 0.04);
        // An unseen audience gets the creative's mean, an unseen creative the campaign's.
        assert!((predicted(1, 0) - 0.6).abs() < 0.05 && (predicted(2, 0) - 0.4).abs() < 0.04);
        // The reward of one more row of a user moves only the predictions for others.
        let (own, other) =
            (7, users.iter().copied().find(|user| CrossFitted::fold(*user) != CrossFitted::fold(7)).unwrap());
        let before = [own, other].map(|user| fitted.predict(user, 0, 0));
        fitted.add(own, 0, 0, 1_000.0);
        let after = [own, other].map(|user| fitted.predict(user, 0, 0));
        assert_eq!(before[0], after[0]);
        assert!(after[1] > before[1] + 0.5);
        assert_eq!(CrossFitted::default().predict(1, 0, 0), 0.0);
    }
}
