//! Training batches: which rows, what they weigh, and what is disturbed in them.
//!
//! Guarantees: everything is drawn from the seed of a network; nothing is drawn from the generator of its weights and order, so that
//! an option that is not used changes nothing. The log-odds of a network that was trained on some negatives only, or with weights, are
//! off by a constant, which [`Sample::offset`] takes back: with q = p / (p + (1 - p) / w), the odds of q are w times those of p (He et
//! al. 2014, section 6.3). A constant feature stays 0.

use super::{
    TrainError,
    options::{Balance, ClassWeight, Disturb},
    scaled::Scaled,
};
use candle_core::{Device, Tensor};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use statrs::function::beta::inv_beta_reg;

/// The streams of random numbers of one seed. Their constants are arbitrary.
const SAMPLE: u64 = 0x5EED_5A3B_1E00_0001;
const DISTURB: u64 = 0x5EED_D157_0000_0002;

/// The rows that a network is trained on, and their weights.
pub(super) struct Sample {
    /// The indices of the rows.
    pub(super) rows: Vec<usize>,
    /// The sums of the weights of negative and positive rows.
    pub(super) sums: [f64; 2],
    /// What is added to the log-odds, so that they are those of all rows.
    pub(super) offset: f64,
    /// The weights of negative and positive rows, 1 on average; `None` if all are 1.
    weights: Option<[f32; 2]>,
}

impl Sample {
    pub(super) fn new(labels: &[bool], balance: &Balance, seed: u64) -> Self {
        let mut rows: Vec<usize> = (0..labels.len()).collect();
        let all = labels.iter().filter(|label| !**label).count();
        let mut kept = all;
        if balance.keep_negatives < 1.0 {
            let mut negatives: Vec<usize> = rows.iter().copied().filter(|&row| !labels[row]).collect();
            negatives.shuffle(&mut StdRng::seed_from_u64(seed ^ SAMPLE));
            // At least one, because a network cannot learn from one label.
            kept = ((balance.keep_negatives * all as f64).round() as usize).max(1).min(all);
            negatives.truncate(kept);
            rows.retain(|&row| labels[row]);
            rows.extend(negatives);
            rows.sort_unstable();
        }
        let positives = (labels.len() - all) as f64;
        let weight = match balance.class_weight {
            ClassWeight::Fixed(weight) => weight,
            ClassWeight::Balanced => kept as f64 / positives,
        };
        let sums = [kept as f64, positives * weight];
        let mean = (sums[0] + sums[1]) / rows.len() as f64;
        let weights = (weight != 1.0).then_some([(1.0 / mean) as f32, (weight / mean) as f32]);
        let share = if all > 0 { kept as f64 / all as f64 } else { 1.0 };
        Self { rows, sums, offset: (share / weight).ln(), weights }
    }
}

impl Sample {
    /// The scaled values of its rows.
    pub(super) fn input(&self, all: &Scaled) -> Result<Tensor, TrainError> {
        let width = all.width;
        let values = self.rows.iter().flat_map(|&row| &all.values[row * width..(row + 1) * width]).copied();
        Ok(Tensor::from_vec(values.collect::<Vec<f32>>(), (self.rows.len(), width), &Device::Cpu)?)
    }
}

/// The rows of a step.
pub(super) struct Batch {
    /// The scaled values.
    pub(super) input: Tensor,
    /// The product of label and weight of each row.
    target: Tensor,
    /// The weights of the rows; `None` if all are 1.
    weight: Option<Tensor>,
}

impl Batch {
    /// The mean weighted binary cross-entropy of log-odds z: of `max(z, 0) - z y + ln(1 + e^-|z|)`, which never overflows.
    pub(super) fn loss(&self, logits: &Tensor) -> Result<Tensor, TrainError> {
        let (positive, negative) = (logits.relu()?, logits.neg()?.relu()?);
        let distance = (&positive + &negative)?;
        let mut softplus = (&positive + (distance.neg()?.exp()? + 1.0)?.log()?)?;
        if let Some(weight) = &self.weight {
            softplus = (softplus * weight)?;
        }
        Ok((softplus - (logits * &self.target)?)?.mean_all()?)
    }
}

/// Disturbs training batches.
pub(super) struct Disturber {
    disturb: Disturb,
    random: StdRng,
}

impl Disturber {
    pub(super) fn new(disturb: Disturb, seed: u64) -> Self {
        Self { disturb, random: StdRng::seed_from_u64(seed ^ DISTURB) }
    }

    /// Some rows of a sample, disturbed.
    pub(super) fn batch(&mut self, all: &Scaled, sample: &Sample, rows: &[usize]) -> Result<Batch, TrainError> {
        let width = all.width;
        let mut values: Vec<f32> =
            rows.iter().flat_map(|&row| &all.values[row * width..(row + 1) * width]).copied().collect();
        let weight = |row: usize| sample.weights.map_or(1.0, |weights| weights[usize::from(all.labels[row])]);
        let mut weights: Vec<f32> = rows.iter().map(|&row| weight(row)).collect();
        let mut targets: Vec<f32> =
            rows.iter().zip(&weights).map(|(&row, weight)| f32::from(u8::from(all.labels[row])) * weight).collect();
        if self.disturb.mixup > 0.0 {
            self.mix(&mut [(&mut values, width), (&mut targets, 1), (&mut weights, 1)], rows.len());
        }
        self.blur(&mut values, &all.constant);
        let vector = |values: Vec<f32>| Tensor::from_vec(values, rows.len(), &Device::Cpu);
        Ok(Batch {
            input: Tensor::from_vec(values, (rows.len(), width), &Device::Cpu)?,
            target: vector(targets)?,
            weight: sample.weights.is_some().then(|| vector(weights)).transpose()?,
        })
    }

    /// Mixes each row with another one, by the same share for the whole batch.
    fn mix(&mut self, columns: &mut [(&mut Vec<f32>, usize)], rows: usize) {
        let alpha = self.disturb.mixup;
        // Away from 0 and 1, where the quantile may not converge.
        let share = inv_beta_reg(alpha, alpha, self.random.random_range(1e-6..1.0 - 1e-6)) as f32;
        let mut partners: Vec<usize> = (0..rows).collect();
        partners.shuffle(&mut self.random);
        for (values, width) in columns {
            let own = values.clone();
            for (row, &partner) in partners.iter().enumerate() {
                for at in 0..*width {
                    values[row * *width + at] =
                        share * own[row * *width + at] + (1.0 - share) * own[partner * *width + at];
                }
            }
        }
    }

    /// Adds noise, and replaces values as if they were missing.
    fn blur(&mut self, values: &mut [f32], constant: &[bool]) {
        let Disturb { noise, feature_dropout, .. } = self.disturb;
        if noise == 0.0 && feature_dropout == 0.0 {
            return;
        }
        for row in values.chunks_exact_mut(constant.len()) {
            for (value, _) in row.iter_mut().zip(constant).filter(|(_, constant)| !**constant) {
                if noise > 0.0 {
                    *value += (noise * normal(&mut self.random)) as f32;
                }
                if feature_dropout > 0.0 && self.random.random_bool(feature_dropout) {
                    *value = 0.0;
                }
            }
        }
    }

    /// Switches off some outputs of hidden units, and enlarges the others, so that the expected sum stays the same.
    pub(super) fn drop(&mut self, hidden: Tensor) -> Result<Tensor, TrainError> {
        let rate = self.disturb.dropout;
        if rate == 0.0 {
            return Ok(hidden);
        }
        let rest = (1.0 / (1.0 - rate)) as f32;
        let draw = |_| if self.random.random_bool(rate) { 0.0 } else { rest };
        let mask: Vec<f32> = (0..hidden.elem_count()).map(draw).collect();
        Ok((&hidden * Tensor::from_vec(mask, hidden.shape(), &Device::Cpu)?)?)
    }
}

/// A standard normal number (Box and Muller 1958).
fn normal(random: &mut StdRng) -> f64 {
    // From (0, 1], so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    radius * (std::f64::consts::TAU * random.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 300 rows, of which every tenth is positive; the second of two features is constant.
    fn rows() -> Scaled {
        let labels: Vec<bool> = (0..300).map(|row| row % 10 == 0).collect();
        let values = labels.iter().flat_map(|&label| [if label { 2.0 } else { -1.0 }, 0.0]).collect();
        let (mean, deviation, constant) = (vec![0.0; 2], vec![1.0; 2], vec![false, true]);
        Scaled { values, labels, width: 2, mean, deviation, constant }
    }

    fn batch(disturb: Disturb, balance: &Balance) -> (Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
        let all = rows();
        let sample = Sample::new(&all.labels, balance, 7);
        let batch = Disturber::new(disturb, 7).batch(&all, &sample, &sample.rows).unwrap();
        let vector = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
        (vector(&batch.input), vector(&batch.target), batch.weight.as_ref().map(vector))
    }

    #[test]
    fn without_options_a_batch_has_the_rows_as_they_are() {
        let (input, target, weight) = batch(Disturb::default(), &Balance::default());
        let all = rows();
        assert_eq!((input, weight), (all.values, None));
        assert!(target.iter().zip(all.labels).all(|(target, label)| (*target == 1.0) == label));
        let sample = Sample::new(&rows().labels, &Balance::default(), 7);
        assert_eq!((sample.offset, sample.sums, sample.rows.len()), (0.0, [270.0, 30.0], 300));
    }

    #[test]
    fn negatives_are_left_out_and_the_offset_takes_it_back() {
        let balance = Balance { class_weight: ClassWeight::Fixed(2.0), keep_negatives: 0.2 };
        let sample = Sample::new(&rows().labels, &balance, 7);
        assert_eq!((sample.rows.len(), sample.sums), (30 + 54, [54.0, 60.0]));
        // Odds of 60 to 54 in the sample are 30 to 270 in all rows.
        assert!(((60.0_f64 / 54.0).ln() + sample.offset - (30.0_f64 / 270.0).ln()).abs() < 1e-12);
        let (_, target, weight) = batch(Disturb::default(), &balance);
        let weight = weight.unwrap();
        assert!((weight.iter().sum::<f32>() / 84.0 - 1.0).abs() < 1e-5, "the mean weight is 1");
        assert!(target.iter().zip(&weight).all(|(target, weight)| *target == 0.0 || target == weight));
        assert_ne!(sample.rows, Sample::new(&rows().labels, &balance, 8).rows, "each network has its own negatives");
        let balanced = Balance { class_weight: ClassWeight::Balanced, keep_negatives: 0.2 };
        let sample = Sample::new(&rows().labels, &balanced, 7);
        assert!((sample.sums[0] - sample.sums[1]).abs() < 1e-9, "{:?}", sample.sums);
    }

    #[test]
    fn noise_and_dropped_values_have_their_size_and_spare_constant_features() {
        let (input, ..) = batch(Disturb { noise: 0.5, ..Disturb::default() }, &Balance::default());
        let all = rows();
        let squares: f32 = input.iter().zip(&all.values).map(|(found, before)| (found - before).powi(2)).sum();
        let deviation = (squares / 300.0).sqrt();
        assert!((deviation - 0.5).abs() < 0.06, "{deviation}");
        assert!(input.chunks_exact(2).all(|row| row[1] == 0.0));
        let (input, ..) = batch(Disturb { feature_dropout: 0.3, ..Disturb::default() }, &Balance::default());
        let dropped = input.chunks_exact(2).filter(|row| row[0] == 0.0).count();
        assert!((60..120).contains(&dropped), "{dropped} of 300 at a share of 0.3");
    }

    #[test]
    fn mixup_mixes_values_and_labels_by_the_same_share() {
        let (input, target, _) = batch(Disturb { mixup: 1.0, ..Disturb::default() }, &Balance::default());
        assert!(target.iter().any(|target| *target > 0.0 && *target < 1.0));
        // A value is 3 y - 1 in all rows, so it is in mixed ones too.
        for (row, target) in input.chunks_exact(2).zip(target) {
            assert!((row[0] - (3.0 * target - 1.0)).abs() < 1e-5, "{row:?} {target}");
        }
    }

    #[test]
    fn dropout_keeps_the_expected_sum() {
        let mut disturber = Disturber::new(Disturb { dropout: 0.4, ..Disturb::default() }, 7);
        let hidden = Tensor::ones((100, 50), candle_core::DType::F32, &Device::Cpu).unwrap();
        let found: Vec<f32> = disturber.drop(hidden).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let mean = found.iter().sum::<f32>() / 5_000.0;
        assert!((mean - 1.0).abs() < 0.05, "{mean}");
        let off = found.iter().filter(|value| **value == 0.0).count();
        assert!((1_800..2_200).contains(&off), "{off} of 5000 at a rate of 0.4");
    }
}
