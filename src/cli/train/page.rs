//! The model card as a page: from what the training tells to what [`crate::report`] shows.

use crate::{
    report::{FeatureShare, ModelReport, model_html},
    training::{Card, Epoch, Part, Trained},
};
use std::collections::{BTreeMap, BTreeSet};

/// What each page has, and no other file.
pub(super) const MADE_BY: &str = "Made by aimpoint train.";

/// The validation losses of each network, by epoch.
#[derive(Debug, Default)]
pub(super) struct Curves {
    losses: BTreeMap<usize, Vec<f64>>,
    /// The networks whose first training is over.
    ended: BTreeSet<usize>,
}

impl Curves {
    /// Adds an epoch of the first training; pruned networks and folds begin again with epoch 1.
    pub(super) fn add(&mut self, epoch: &Epoch) {
        let of = self.losses.entry(epoch.member).or_default();
        if epoch.number != of.len() + 1 {
            self.ended.insert(epoch.member);
        }
        if let Some(loss) = epoch.loss.filter(|_| !self.ended.contains(&epoch.member)) {
            of.push(loss);
        }
    }

    /// The lowest, the mean and the highest loss after each epoch. A network that has stopped keeps its best one.
    fn by_epoch(&self) -> Vec<[f64; 3]> {
        let epochs = self.losses.values().map(Vec::len).max().unwrap_or_default();
        let at = |epoch: usize| {
            let losses: Vec<f64> = self
                .losses
                .values()
                .filter_map(|of| of.get(epoch).copied().or_else(|| of.iter().copied().reduce(f64::min)))
                .collect();
            let [low, high] =
                [losses.iter().copied().fold(f64::INFINITY, f64::min), losses.iter().copied().fold(0.0, f64::max)];
            [low, losses.iter().sum::<f64>() / losses.len() as f64, high]
        };
        (0..epochs).map(at).collect()
    }
}

/// The page of a model card.
pub(super) fn page(trained: &Trained, card: &Card, curves: &Curves) -> String {
    let parts = |parts: &[Part]| parts.iter().map(|it| (it.name.to_owned(), it.summary)).collect();
    let split = match trained.split {
        "time" => "The newest of them are the test rows.",
        "random" => "The test rows were drawn at random.",
        _ => "They are too few to be split.",
    };
    let training = serde_json::to_value(&card.training).unwrap_or_default();
    let settings =
        training.as_object().into_iter().flatten().map(|(name, value)| (name.replace('_', " "), value.to_string()));
    let mut facts = vec![("file of rows".to_owned(), card.data.data.clone())];
    if let Some(times) = &card.data.times {
        facts.push(("trained from".to_owned(), times.trained_from.clone()));
        facts.push(("trained until".to_owned(), times.trained_until.clone()));
    }
    facts.extend(settings);
    // The card has all of them; these are enough to tell two files apart.
    let begin = |hash: &str| hash.chars().take(12).collect::<String>();
    facts.push(("SHA-256 of the model".to_owned(), begin(&card.sha256)));
    facts.push(("SHA-256 of the rows".to_owned(), begin(&card.data.data_sha256)));
    if let Some(fingerprint) = &card.identity.fingerprint {
        facts.push(("fingerprint of the features".to_owned(), begin(fingerprint)));
    }
    let measured = &trained.measured;
    let importance = measured.importance.iter().map(|it| FeatureShare {
        feature: it.feature.clone(),
        log_loss: it.log_loss,
        deviation: it.deviation,
        auc: it.auc,
    });
    model_html(&ModelReport {
        name: card.identity.name.clone(),
        version: card.identity.version.clone().unwrap_or_default(),
        lead: format!("Trained on {} rows with {} features. {split}", card.rows, card.features.len()),
        parts: parts(&card.parts),
        baselines: parts(&measured.baselines),
        learning: curves.by_epoch(),
        best_epoch: card.best_epoch,
        bins: measured.bins.clone(),
        curve: measured.curve.clone(),
        importance: importance.collect(),
        notes: card.notes.iter().map(ToString::to_string).collect(),
        facts,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curves_are_those_of_the_first_training() {
        let mut curves = Curves::default();
        let losses: [(usize, usize, Option<f64>); 9] = [
            (1, 1, Some(0.6)),
            (2, 1, Some(0.8)),
            (1, 2, Some(0.4)),
            (1, 3, Some(0.5)),
            // Training on all rows, and pruning.
            (1, 1, None),
            (1, 1, Some(0.1)),
            (2, 1, Some(0.1)),
            (1, 2, Some(0.1)),
            (2, 2, Some(0.1)),
        ];
        for (member, number, loss) in losses {
            curves.add(&Epoch { member, number, loss });
        }
        let expected = [[0.6, 0.7, 0.8], [0.4, 0.6, 0.8], [0.5, 0.65, 0.8]];
        for (found, expected) in curves.by_epoch().into_iter().flatten().zip(expected.into_iter().flatten()) {
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }
}
