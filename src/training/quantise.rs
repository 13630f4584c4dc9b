//! Quantisation: a network's layers in 8-bit integers.
//!
//! Owns the choice of scales. Guarantees: the scales are fixed when the model is written, so a row's score does not depend on the rows
//! next to it; the scale of a hidden layer is that of the largest output in the training rows, and larger ones later count as the
//! largest. Weights have a scale for each unit. Unsigned weights, because signed ones saturate on processors without VNNI.

use super::{
    Dataset, Split, TrainError, Trained,
    layers::Layers,
    network::{LIMIT, Layer, Network, scale},
};
use candle_core::{Device, Tensor};
use serde::Serialize;

/// The zero of weights and of the input, in the middle of 0 to 255.
pub(super) const MIDDLE: u8 = 128;
/// Maximum number of rows that ranges are taken from.
const ROWS_MAX: usize = 10_000;

/// What quantisation did. Pairs are before and after.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantised {
    /// The size of the ONNX file.
    pub bytes: [usize; 2],
    /// The log loss of the test rows, by ONNX Runtime.
    pub log_loss: [Option<f64>; 2],
    /// The largest difference between two scores of a test row.
    pub difference_max: f32,
}

/// The largest outputs of the hidden layers, by branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranges {
    peaks: Vec<Vec<f32>>,
}

impl Ranges {
    /// Those of a network for scaled rows.
    fn of(network: &Network, input: &Tensor) -> Result<Self, TrainError> {
        let mut peaks = Vec::with_capacity(network.branches.len());
        for branch in &network.branches {
            let mut of_branch = Vec::new();
            Layers::new(branch, network.width())?.logits_with(input, |hidden| {
                of_branch.push(hidden.max_all()?.to_scalar::<f32>()?);
                Ok(hidden)
            })?;
            peaks.push(of_branch);
        }
        Ok(Self { peaks })
    }

    /// The scale and zero of the input of each layer of a branch.
    pub(super) fn steps(&self, branch: usize) -> Vec<(f32, u8)> {
        let of_peak = |peak: &f32| (if *peak > 0.0 { peak / 255.0 } else { 1.0 }, 0);
        let input = (LIMIT / 127.0, MIDDLE);
        std::iter::once(input).chain(self.peaks[branch].iter().map(of_peak)).collect()
    }
}

impl Trained {
    /// The ranges that quantisation needs, from the rows that the model was trained on.
    ///
    /// # Errors
    /// The tensor library failed.
    pub fn ranges(&self, data: &Dataset) -> Result<Ranges, TrainError> {
        let split = Split::of(data, self.spec.seed);
        let rows = [&split.train[..], &split.validation].concat();
        let rows: Vec<usize> = rows.iter().copied().step_by(rows.len().div_ceil(ROWS_MAX).max(1)).collect();
        let values = scale(&self.network.mean, &self.network.deviation, &data.matrix(&rows));
        Ranges::of(&self.network, &Tensor::from_vec(values, (rows.len(), self.network.width()), &Device::Cpu)?)
    }
}

/// A layer's weights as integers around [`MIDDLE`], and the scale of each unit.
pub(super) fn whole(layer: &Layer) -> (Vec<u8>, Vec<f32>) {
    let units = layer.units();
    let mut scales = vec![0.0_f32; units];
    for row in layer.weight.chunks_exact(units) {
        scales.iter_mut().zip(row).for_each(|(scale, weight)| *scale = scale.max(weight.abs() / 127.0));
    }
    // A unit without weights has any scale.
    scales.iter_mut().filter(|scale| **scale == 0.0).for_each(|scale| *scale = 1.0);
    let whole = |(at, weight): (usize, &f32)| {
        (f32::from(MIDDLE) + (weight / scales[at % units]).round().clamp(-127.0, 127.0)) as u8
    };
    (layer.weight.iter().enumerate().map(whole).collect(), scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_rounded_to_half_a_step_of_their_unit() {
        let layer = Layer { weight: vec![1.0, 0.0, -0.3, 0.0, 0.004, 0.0], bias: vec![0.0; 2] };
        let (weights, scales) = whole(&layer);
        assert_eq!(scales, [1.0 / 127.0, 1.0]);
        assert_eq!((weights[0], weights[1]), (255, 128));
        for (at, weight) in layer.weight.iter().enumerate() {
            let back = (f32::from(weights[at]) - 128.0) * scales[at % 2];
            assert!((back - weight).abs() <= scales[at % 2] * 0.501, "{at}: {back} {weight}");
        }
    }
}
