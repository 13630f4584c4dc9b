//! The layers of a network as tensors.
//!
//! Guarantees: normalisation changes how a network learns, and not what it is in the end. [`Layers::normalised`] gives the same
//! log-odds as before, and [`Layers::folded`] has ordinary layers, so whoever scores, prunes or writes a network knows nothing of it.
//! The statistics of the folded layers are those of all rows that are passed, layer by layer, and not running means of batches.

use super::{TrainError, network::Layer};
use candle_core::{Device, Tensor, Var};

/// A layer's weights, inputs × units, and its bias.
type Pair = [Tensor; 2];

/// Added to variances, so that a unit that is the same for all rows does not divide by 0 (Ioffe and Szegedy 2015).
const EPSILON: f64 = 1e-5;

/// The layers of one branch.
pub(super) struct Layers {
    each: Vec<Pair>,
    /// By hidden layer, what its units are multiplied by after they were normalised to mean 0 and deviation 1 over a batch; then
    /// their bias is added. Empty without normalisation.
    gains: Vec<Tensor>,
}

impl Layers {
    /// The layers of a branch that reads `width` features.
    pub(super) fn new(branch: &[Layer], width: usize) -> Result<Self, TrainError> {
        let mut inputs = width;
        let mut each = Vec::with_capacity(branch.len());
        for layer in branch {
            let units = layer.units();
            each.push([
                Tensor::from_slice(&layer.weight, (inputs, units), &Device::Cpu)?,
                Tensor::from_slice(&layer.bias, units, &Device::Cpu)?,
            ]);
            inputs = units;
        }
        Ok(Self { each, gains: Vec::new() })
    }

    /// The same layers with normalised hidden units: of these rows, the log-odds are the same.
    pub(super) fn normalised(&self, input: &Tensor) -> Result<Self, TrainError> {
        let (output, hidden) = self.each.split_last().expect("a branch has an output");
        let (mut each, mut gains, mut values) = (Vec::with_capacity(self.each.len()), Vec::new(), input.clone());
        for [weight, bias] in hidden {
            let sums = values.matmul(weight)?;
            let (mean, deviation) = moments(&sums)?;
            values = sums.broadcast_add(bias)?.relu()?;
            each.push([weight.clone(), (bias + mean)?]);
            gains.push(deviation);
        }
        each.push(output.clone());
        Ok(Self { each, gains })
    }

    /// Ordinary layers that give the same log-odds, if all of these rows are one batch.
    pub(super) fn folded(&self, input: &Tensor) -> Result<Self, TrainError> {
        let (output, hidden) = self.each.split_last().expect("a branch has an output");
        let (mut each, mut values) = (Vec::with_capacity(self.each.len()), input.clone());
        for ([weight, bias], gain) in hidden.iter().zip(&self.gains) {
            let sums = values.matmul(weight)?;
            let (mean, deviation) = moments(&sums)?;
            let share = (gain / deviation)?;
            let bias = (bias - (mean * &share)?)?;
            values = sums.broadcast_mul(&share)?.broadcast_add(&bias)?.relu()?;
            each.push([weight.broadcast_mul(&share)?, bias]);
        }
        each.push(output.clone());
        Ok(Self { each, gains: Vec::new() })
    }

    /// These weights as variables, and layers that use them.
    pub(super) fn trainable(&self) -> Result<(Vec<Var>, Self), TrainError> {
        let variables =
            self.each.iter().flatten().chain(&self.gains).map(Var::from_tensor).collect::<Result<Vec<_>, _>>()?;
        let (pairs, gains) = variables.split_at(2 * self.each.len());
        let pair = |pair: &[Var]| [pair[0].as_tensor().clone(), pair[1].as_tensor().clone()];
        let each = pairs.chunks_exact(2).map(pair).collect();
        let gains = gains.iter().map(|gain| gain.as_tensor().clone()).collect();
        Ok((variables, Self { each, gains }))
    }

    /// Moves these weights towards others by this share of the difference.
    pub(super) fn follow(&mut self, other: &Self, share: f64) -> Result<(), TrainError> {
        let own = self.each.iter_mut().flatten().chain(&mut self.gains);
        for (own, other) in own.zip(other.each.iter().flatten().chain(&other.gains)) {
            *own = (own.affine(1.0 - share, 0.0)? + other.detach().affine(share, 0.0)?)?;
        }
        Ok(())
    }

    /// The log-odds of scaled rows.
    pub(super) fn logits(&self, input: &Tensor) -> Result<Tensor, TrainError> {
        self.logits_with(input, Ok)
    }

    /// The log-odds of scaled rows, if `change` is applied to the outputs of each hidden layer. Normalised layers take the rows as a
    /// batch.
    pub(super) fn logits_with(
        &self,
        input: &Tensor,
        mut change: impl FnMut(Tensor) -> Result<Tensor, TrainError>,
    ) -> Result<Tensor, TrainError> {
        let ([weight_out, bias_out], hidden) = self.each.split_last().expect("a branch has an output");
        let mut values = input.clone();
        for (at, [weight, bias]) in hidden.iter().enumerate() {
            let mut sums = values.matmul(weight)?;
            if let Some(gain) = self.gains.get(at) {
                let (mean, deviation) = moments(&sums)?;
                sums = sums.broadcast_sub(&mean)?.broadcast_mul(&(gain / deviation)?)?;
            }
            values = change(sums.broadcast_add(bias)?.relu()?)?;
        }
        Ok(values.matmul(weight_out)?.broadcast_add(bias_out)?.squeeze(1)?)
    }

    /// Copies the weights into a branch.
    pub(super) fn store(&self, branch: &mut [Layer]) -> Result<(), TrainError> {
        for ([weight, bias], layer) in self.each.iter().zip(branch) {
            layer.weight = weight.flatten_all()?.to_vec1()?;
            layer.bias = bias.to_vec1()?;
        }
        Ok(())
    }
}

/// The mean and the deviation of each unit over the rows.
fn moments(sums: &Tensor) -> Result<(Tensor, Tensor), TrainError> {
    let mean = sums.mean(0)?;
    let variance = sums.broadcast_sub(&mean)?.sqr()?.mean(0)?;
    Ok((mean, (variance + EPSILON)?.sqrt()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalised_and_folded_layers_give_the_log_odds_of_the_plain_ones() {
        let number = |at: usize| ((at * 7_919 % 997) as f32 / 498.5 - 1.0) * 2.0;
        let numbers = |from: usize, count: usize| (from..from + count).map(number).collect::<Vec<_>>();
        let layer = |from: usize, inputs: usize, units: usize| Layer {
            weight: numbers(from, inputs * units),
            bias: numbers(from + 500, units),
        };
        let mut branch = vec![layer(0, 3, 5), layer(40, 5, 4), layer(80, 4, 1)];
        // A unit that is the same for all rows.
        (0..3).for_each(|input| branch[0].weight[input * 5] = 0.0);
        let rows = Tensor::from_vec(numbers(200, 120), (40, 3), &Device::Cpu).unwrap();
        let plain = Layers::new(&branch, 3).unwrap();
        let close = |one: &Layers, other: &Layers, rows: &Tensor| {
            let [one, other] = [one, other].map(|it| it.logits(rows).unwrap().to_vec1::<f32>().unwrap());
            one.iter().zip(&other).all(|(one, other)| (one - other).abs() < 1e-3)
        };
        let normalised = plain.normalised(&rows).unwrap();
        assert!(close(&plain, &normalised, &rows));
        let folded = normalised.folded(&rows).unwrap();
        assert!(close(&plain, &folded, &rows));
        // A row alone is scored by the folded ones as among others.
        let few = rows.narrow(0, 0, 1).unwrap();
        assert!(close(&plain, &folded, &few) && !close(&plain, &normalised, &few));
    }
}
