//! Pruning: removes the hidden units that add least, so that the graph gets smaller.
//!
//! Guarantees: keeps the units of each layer whose weights have the largest product of norms in and out, at least one; the rest is as
//! before. The caller trains what is left for a few more epochs, because the removed units leave a gap.

use super::network::{Layer, Network};
use serde::Serialize;

/// What pruning did. Pairs are before and after, both of the model that is trained on all but the test rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pruning {
    /// Hidden units.
    pub units: [usize; 2],
    /// Weights and biases.
    pub parameters: [usize; 2],
    /// The size of the ONNX file.
    pub bytes: [usize; 2],
    /// The log loss of the test rows.
    pub log_loss: [Option<f64>; 2],
    /// How many epochs the rest was trained on.
    pub epochs: usize,
}

/// Networks without this share of the units of each hidden layer.
pub(super) fn prune(networks: &[Network], share: f64) -> Vec<Network> {
    let pruned = |network: &Network| {
        let branches = network.branches.iter().map(|branch| without(branch, share)).collect();
        Network { mean: network.mean.clone(), deviation: network.deviation.clone(), branches }
    };
    networks.iter().map(pruned).collect()
}

fn without(branch: &[Layer], share: f64) -> Vec<Layer> {
    let mut branch = branch.to_vec();
    for at in 0..branch.len() - 1 {
        let units = branch[at].units();
        // At least one goes, and at least one stays.
        let kept = ((units as f64 * (1.0 - share)).round() as usize).min(units - 1).max(1);
        let mut strongest: Vec<usize> = (0..units).collect();
        let strength = |unit: usize| column(&branch[at], unit) * row(&branch[at + 1], unit);
        strongest.sort_by(|&a, &b| strength(b).total_cmp(&strength(a)));
        strongest.truncate(kept);
        strongest.sort_unstable();
        let layer = &branch[at];
        let weight = layer.weight.chunks_exact(units).flat_map(|row| strongest.iter().map(|&unit| row[unit])).collect();
        let bias = strongest.iter().map(|&unit| layer.bias[unit]).collect();
        branch[at] = Layer { weight, bias };
        let next = &mut branch[at + 1];
        let outputs = next.units();
        let rows = strongest.iter().flat_map(|&unit| &next.weight[unit * outputs..(unit + 1) * outputs]);
        next.weight = rows.copied().collect();
    }
    branch
}

/// The norm of the weights into a unit.
fn column(layer: &Layer, unit: usize) -> f64 {
    layer.weight.iter().skip(unit).step_by(layer.units()).map(|&it| f64::from(it).powi(2)).sum::<f64>().sqrt()
}

/// The norm of the weights out of a unit, which are a row of the next layer.
fn row(next: &Layer, unit: usize) -> f64 {
    let outputs = next.units();
    let row = &next.weight[unit * outputs..(unit + 1) * outputs];
    row.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::FeatureMatrix;

    #[test]
    fn units_without_weight_go_first_and_the_scores_stay() {
        // Two features, 4 units of which the second has no weight in, and 3 units of which the last has none out.
        let first = Layer { weight: vec![1.0, 0.0, -2.0, 0.5, 0.7, 0.0, 1.5, -1.0], bias: vec![0.1, 0.0, 0.2, 0.3] };
        let second = Layer { weight: (1..=12).map(|it| (it as f32).sin()).collect(), bias: vec![0.0, 0.1, 0.2] };
        let output = Layer { weight: vec![1.0, -0.8, 0.0], bias: vec![0.4] };
        let before =
            Network { mean: vec![0.0; 2], deviation: vec![1.0; 2], branches: vec![vec![first, second, output]] };
        let after = prune(std::slice::from_ref(&before), 0.3).remove(0);
        let units: Vec<_> = after.branches[0].iter().map(Layer::units).collect();
        assert_eq!((units, after.parameters()), (vec![3, 2, 1], 6 + 3 + 6 + 2 + 2 + 1));
        let mut matrix = FeatureMatrix::new(2);
        matrix.reset(3).copy_from_slice(&[1.0, -2.0, 0.3, 4.0, -3.0, 0.0]);
        let [before, found] = [&before, &after].map(|network| network.score(&matrix).unwrap());
        for (before, found) in before.iter().zip(&found) {
            assert!((before - found).abs() < 1e-6, "{before} {found}");
        }
        let least = prune(std::slice::from_ref(&after), 0.95).remove(0);
        assert_eq!(least.units(), 2, "a layer keeps at least one unit");
    }
}
