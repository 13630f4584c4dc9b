//! The layers of a network as tensors.

use super::{TrainError, network::Layer};
use candle_core::{Device, Tensor, Var};

/// A layer's weights, inputs × units, and its bias.
type Pair = [Tensor; 2];

/// The layers of one branch.
pub(super) struct Layers {
    each: Vec<Pair>,
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
        Ok(Self { each })
    }

    /// These weights as variables, and layers that use them.
    pub(super) fn trainable(&self) -> Result<(Vec<Var>, Self), TrainError> {
        let variables = self.each.iter().flatten().map(Var::from_tensor).collect::<Result<Vec<_>, _>>()?;
        let pair = |pair: &[Var]| [pair[0].as_tensor().clone(), pair[1].as_tensor().clone()];
        let each = variables.chunks_exact(2).map(pair).collect();
        Ok((variables, Self { each }))
    }

    /// Moves these weights towards others by this share of the difference.
    pub(super) fn follow(&mut self, other: &Self, share: f64) -> Result<(), TrainError> {
        for (own, other) in self.each.iter_mut().flatten().zip(other.each.iter().flatten()) {
            *own = (own.affine(1.0 - share, 0.0)? + other.detach().affine(share, 0.0)?)?;
        }
        Ok(())
    }

    /// The log-odds of scaled rows.
    pub(super) fn logits(&self, input: &Tensor) -> Result<Tensor, TrainError> {
        self.logits_with(input, Ok)
    }

    /// The log-odds of scaled rows, if `change` is applied to the outputs of each hidden layer.
    pub(super) fn logits_with(
        &self,
        input: &Tensor,
        mut change: impl FnMut(Tensor) -> Result<Tensor, TrainError>,
    ) -> Result<Tensor, TrainError> {
        let (output, hidden) = self.each.split_last().expect("a branch has an output");
        let apply = |[weight, bias]: &Pair, input: &Tensor| input.matmul(weight)?.broadcast_add(bias);
        let mut values = input.clone();
        for layer in hidden {
            values = change(apply(layer, &values)?.relu()?)?;
        }
        Ok(apply(output, &values)?.squeeze(1)?)
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
