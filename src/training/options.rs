//! The training options.
//!
//! Guarantees: [`TrainSpec::check`] names the first option that is out of range; with the defaults, no row is left out, weighted or
//! disturbed. Limits: at most 8 hidden layers, and 50 million weights in the average of all networks.

use super::TrainError;
use serde::{Serialize, Serializer};
use std::str::FromStr;

/// Maximum number of hidden layers. More do not help on tables, and train badly without further means.
const LAYERS_MAX: usize = 8;

/// Maximum number of weights: 200 MB as floats, a tenth of the largest ONNX file.
const WEIGHTS_MAX: usize = 50_000_000;

/// The range of a class weight. Beyond it, one label is as good as absent.
const WEIGHT: std::ops::RangeInclusive<f64> = 1e-6..=1e6;

/// The training options.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainSpec {
    /// Units of each hidden layer. More can fit more complex functions and need more rows.
    pub hidden: Vec<usize>,
    /// How many networks are averaged. More vary less between seeds, but the model and the training time grow in proportion.
    pub members: usize,
    /// Maximum number of epochs.
    pub epochs_max: usize,
    /// Training stops after this many epochs without a better validation loss.
    pub patience: usize,
    /// Rows per step. More make epochs faster but learning slower.
    pub batch: usize,
    /// Adam's learning rate.
    pub learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// Seed of the weights, shuffling and split.
    pub seed: u64,
    /// What keeps the weights in bounds.
    #[serde(flatten)]
    pub regularise: Regularise,
    /// What the two labels weigh.
    #[serde(flatten)]
    pub balance: Balance,
    /// What is disturbed in training batches.
    #[serde(flatten)]
    pub disturb: Disturb,
    /// The share of the hidden units that is removed after training.
    pub prune: f64,
}

/// What keeps the weights in bounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Regularise {
    /// The share of a weight removed by a step of size 1 (decoupled weight decay, Loshchilov and Hutter 2019).
    pub weight_decay: f64,
    /// Whether hidden units are normalised over each batch while they are trained (Ioffe and Szegedy 2015). The network that is
    /// written has ordinary layers.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch_norm: bool,
}

impl Default for Regularise {
    fn default() -> Self {
        Self { weight_decay: 0.3, batch_norm: false }
    }
}

/// How the learning rate changes over the epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// It stays the same.
    #[default]
    Constant,
    /// It falls to 0 at the maximum number of epochs, along half a cosine (Loshchilov and Hutter 2017).
    Cosine,
}

impl Schedule {
    /// The share of the learning rate in an epoch, counted from 1.
    pub(super) fn share(self, epoch: usize, epochs_max: usize) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => f64::midpoint(1.0, (std::f64::consts::PI * (epoch - 1) as f64 / epochs_max as f64).cos()),
        }
    }
}

/// The weight of a positive row in the loss, compared with a negative one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClassWeight {
    /// A number.
    Fixed(f64),
    /// So many times that both labels weigh the same in total.
    Balanced,
}

impl FromStr for ClassWeight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(weight) if WEIGHT.contains(&weight) => Ok(Self::Fixed(weight)),
            _ if text == "balanced" => Ok(Self::Balanced),
            _ => Err("expected a number from 0.000001 to 1000000, or balanced".to_owned()),
        }
    }
}

impl Serialize for ClassWeight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Fixed(weight) => serializer.serialize_f64(*weight),
            Self::Balanced => serializer.serialize_str("balanced"),
        }
    }
}

/// What the two labels weigh in training. The model is corrected for it, so its scores are probabilities all the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Balance {
    /// The weight of a positive row in the loss.
    pub class_weight: ClassWeight,
    /// The share of the negative rows that each network is trained on.
    pub keep_negatives: f64,
}

impl Default for Balance {
    fn default() -> Self {
        Self { class_weight: ClassWeight::Fixed(1.0), keep_negatives: 1.0 }
    }
}

/// What is disturbed in training batches, so that a network cannot learn rows by heart. Never applied to other rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Disturb {
    /// The share of hidden units that are switched off (dropout, Srivastava et al. 2014).
    pub dropout: f64,
    /// The standard deviation of noise, in standard deviations of the feature.
    pub noise: f64,
    /// The share of values that are replaced as if they were missing.
    pub feature_dropout: f64,
    /// The parameter of the beta distribution by which rows are mixed in pairs, with their labels (mixup, Zhang et al. 2018).
    pub mixup: f64,
}

/// Reads `noise=0.1,feature-dropout=0.1,mixup=0.2`, or a part of it.
impl FromStr for Disturb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut disturb = Self::default();
        for pair in text.split(',') {
            let expected = || format!("expected noise=SHARE, feature-dropout=SHARE or mixup=ALPHA, found {pair:?}");
            let (key, value) = pair.split_once('=').ok_or_else(expected)?;
            let value: f64 = value.trim().parse().map_err(|_| expected())?;
            match key.trim() {
                "noise" => disturb.noise = value,
                "feature-dropout" => disturb.feature_dropout = value,
                "mixup" => disturb.mixup = value,
                _ => return Err(expected()),
            }
        }
        disturb.check().map_err(|error| error.to_string())?;
        Ok(disturb)
    }
}

impl Disturb {
    fn check(&self) -> Result<(), TrainError> {
        within("dropout", self.dropout, 0.0..=0.95, "0 to 0.95")?;
        within("noise", self.noise, 0.0..=10.0, "0 to 10")?;
        within("feature-dropout", self.feature_dropout, 0.0..=0.95, "0 to 0.95")?;
        // Beta quantiles of smaller parameters are 0 or 1 in double precision.
        if self.mixup != 0.0 {
            within("mixup", self.mixup, 0.01..=10.0, "0, or 0.01 to 10")?;
        }
        Ok(())
    }
}

impl Default for TrainSpec {
    fn default() -> Self {
        Self {
            hidden: vec![10],
            members: 5,
            epochs_max: 1000,
            patience: 20,
            batch: 128,
            learning_rate: 0.01,
            schedule: Schedule::Constant,
            seed: 1,
            regularise: Regularise::default(),
            balance: Balance::default(),
            disturb: Disturb::default(),
            prune: 0.0,
        }
    }
}

fn within(
    key: &'static str,
    found: f64,
    range: std::ops::RangeInclusive<f64>,
    expected: &'static str,
) -> Result<(), TrainError> {
    if range.contains(&found) { Ok(()) } else { Err(TrainError::Spec { key, expected, found: found.to_string() }) }
}

impl TrainSpec {
    /// Checks the options for rows of this width.
    ///
    /// # Errors
    /// An option is out of range.
    pub(super) fn check(&self, width: usize) -> Result<(), TrainError> {
        let at_least_one = [
            ("hidden", self.hidden.iter().copied().min().unwrap_or_default()),
            ("members", self.members),
            ("epochs_max", self.epochs_max),
            ("patience", self.patience),
            ("batch", self.batch),
        ];
        for (key, found) in at_least_one {
            if found == 0 {
                return Err(TrainError::Spec { key, expected: "at least 1", found: found.to_string() });
            }
        }
        let layers = self.hidden.len();
        if layers > LAYERS_MAX {
            return Err(TrainError::Spec { key: "hidden", expected: "at most 8 layers", found: layers.to_string() });
        }
        let mut weights = 0_usize;
        for pair in [&[width], &self.hidden[..], &[1]].concat().windows(2) {
            weights = weights.saturating_add(pair[0].saturating_mul(pair[1]));
        }
        let weights = weights.saturating_mul(self.members);
        if weights > WEIGHTS_MAX {
            let found = format!("{weights}; use fewer or smaller layers, or fewer members");
            let expected = "so small that all networks together have at most 50 million weights";
            return Err(TrainError::Spec { key: "hidden", expected, found });
        }
        if !(self.learning_rate > 0.0 && self.learning_rate <= 1.0) {
            let (expected, found) = ("above 0 and at most 1", self.learning_rate.to_string());
            return Err(TrainError::Spec { key: "learning_rate", expected, found });
        }
        within("weight_decay", self.regularise.weight_decay, 0.0..=1.0, "0 to 1")?;
        if let ClassWeight::Fixed(weight) = self.balance.class_weight {
            within("class_weight", weight, WEIGHT, "0.000001 to 1000000, or balanced")?;
        }
        within("keep_negatives", self.balance.keep_negatives, 1e-6..=1.0, "0.000001 to 1")?;
        within("prune", self.prune, 0.0..=0.95, "0 to 0.95")?;
        self.disturb.check()
    }

    /// The options for training on after units were removed: in small steps, so that the rest is corrected and not learned anew, and
    /// for at most so many epochs, because small steps improve the loss a little for very long.
    pub(super) fn gentle(&self, epochs_max: usize) -> Self {
        let learning_rate = self.learning_rate / 10.0;
        Self { learning_rate, epochs_max, schedule: Schedule::Constant, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_option_out_of_range_is_named() {
        let cases = [
            (TrainSpec { hidden: vec![8, 0], ..TrainSpec::default() }, "hidden to be at least 1, found 0"),
            (TrainSpec { hidden: Vec::new(), ..TrainSpec::default() }, "hidden to be at least 1, found 0"),
            (TrainSpec { hidden: vec![2; 9], ..TrainSpec::default() }, "hidden to be at most 8 layers, found 9"),
            (TrainSpec { hidden: vec![8_192, 8_192], ..TrainSpec::default() }, "at most 50 million weights, found"),
            (TrainSpec { learning_rate: f64::NAN, ..TrainSpec::default() }, "learning_rate to be above 0"),
            (TrainSpec { prune: 1.0, ..TrainSpec::default() }, "prune to be 0 to 0.95, found 1"),
        ];
        for (spec, expected) in cases {
            let error = spec.check(3).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        TrainSpec::default().check(3).unwrap();
    }

    #[test]
    fn augmentation_and_class_weights_are_read() {
        let disturb: Disturb = "noise=0.1,feature-dropout=0.2, mixup=0.3".parse().unwrap();
        assert_eq!(disturb, Disturb { dropout: 0.0, noise: 0.1, feature_dropout: 0.2, mixup: 0.3 });
        for wrong in ["", "noise", "noise=a lot", "blur=1", "feature-dropout=1", "noise=-1", "mixup=nan"] {
            wrong.parse::<Disturb>().unwrap_err();
        }
        assert_eq!("5".parse(), Ok(ClassWeight::Fixed(5.0)));
        assert_eq!("balanced".parse(), Ok(ClassWeight::Balanced));
        for wrong in ["heavy", "0", "-1", "nan"] {
            wrong.parse::<ClassWeight>().unwrap_err();
        }
    }

    #[test]
    fn a_cosine_falls_from_one_to_nearly_zero() {
        let shares: Vec<_> = (1..=5).map(|epoch| Schedule::Cosine.share(epoch, 5)).collect();
        assert_eq!(shares[0], 1.0);
        assert!(shares.windows(2).all(|pair| pair[1] < pair[0]) && shares[4] > 0.0 && shares[4] < 0.1, "{shares:?}");
        assert_eq!(Schedule::Constant.share(5, 5), 1.0);
    }
}
