//! Figures from predictions in order of their score.
//!
//! Owns the formulas that [`sample`](super::sample) and [`sketch`](super::sketch) share: both reduce their rows to
//! groups, lowest score first. In a sample, a group is the rows of one score; in a sketch, it is a cell of scores that
//! differ little. So the two agree exactly when no cell holds two different scores.
//!
//! Guarantees: no result depends on the order in which rows came. Limits: linear in the groups.

use super::interval::Interval;
use serde::Serialize;

/// Rows with the same or nearly the same score.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Group {
    /// The weight of the positives.
    pub(super) positives: f64,
    /// The weight of the negatives.
    pub(super) negatives: f64,
    /// The sum of weight times probability.
    pub(super) predicted: f64,
    /// The lowest probability.
    pub(super) low: f64,
    /// The highest probability.
    pub(super) high: f64,
}

impl Group {
    fn mass(&self) -> f64 {
        self.positives + self.negatives
    }

    /// Whether all rows have the same score, so that nothing is lost by grouping them.
    fn is_exact(&self) -> bool {
        self.low == self.high
    }
}

/// A figure and the range in which the figure of the ungrouped rows must lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bounded {
    /// The figure.
    pub value: f64,
    /// The lowest possible figure of the rows. Not a confidence interval: nothing is random here.
    pub low: f64,
    /// The highest possible figure of the rows.
    pub high: f64,
}

impl Bounded {
    /// How far the figure may be from the one of the ungrouped rows.
    pub fn error(&self) -> f64 {
        (self.high - self.value).max(self.value - self.low)
    }

    /// The range as an interval.
    pub fn range(&self) -> Interval {
        Interval { low: self.low, high: self.high }
    }
}

/// A bin of the reliability diagram that holds an equal share of the weight.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MassBin {
    /// The weight of its rows. A group of tied rows on an edge belongs to both sides in proportion.
    pub weight: f64,
    /// Their mean probability.
    pub predicted: f64,
    /// The share of positives.
    pub observed: f64,
}

/// A point of the ROC and the precision-recall curve: what predicting all rows from a threshold upwards as positive
/// gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The lowest probability that counts as positive.
    pub threshold: f64,
    /// The share of positives found, also called recall.
    pub true_positive_rate: f64,
    /// The share of negatives wrongly found.
    pub false_positive_rate: f64,
    /// The share of the found that are positive.
    pub precision: f64,
}

/// All figures of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// The number of rows.
    pub rows: u64,
    /// The weight of all rows; the number of rows if all weigh 1.
    pub weight: f64,
    /// The weight of the positives.
    pub positives: f64,
    /// `Σ w p / Σ w`
    pub predicted: Option<f64>,
    /// `Σ w y / Σ w`
    pub observed: Option<f64>,
    /// The mean negative log-likelihood in nats, probabilities kept 1e-15 away from 0 and 1.
    pub log_loss: Option<f64>,
    /// Log loss over the entropy of the base rate (He et al. 2014). `None` with one class.
    pub normalised_entropy: Option<f64>,
    /// Predicted over observed positives (He et al. 2014). `None` without positives.
    pub calibration_ratio: Option<f64>,
    /// The mean squared error (Brier 1950).
    pub brier: Option<f64>,
    /// The expected calibration error over the requested number of bins of equal mass.
    pub ece: Option<Bounded>,
    /// The area under the ROC curve. `None` with one class.
    pub auc: Option<Bounded>,
    /// The area under the precision-recall curve as average precision. `None` without positives.
    pub pr_auc: Option<Bounded>,
}

/// The sums that need no order.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) weight: f64,
    pub(super) positives: f64,
    pub(super) predicted: f64,
    pub(super) log_loss: f64,
    pub(super) brier: f64,
}

/// Computes all figures.
pub(super) fn figures(totals: &Totals, groups: &[Group], bins: usize) -> Figures {
    let mean = |sum: f64| (totals.weight > 0.0).then(|| sum / totals.weight);
    let observed = mean(totals.positives);
    let log_loss = mean(totals.log_loss);
    Figures {
        rows: totals.rows,
        weight: totals.weight,
        positives: totals.positives,
        predicted: mean(totals.predicted),
        observed,
        log_loss,
        normalised_entropy: observed.and_then(entropy).zip(log_loss).map(|(entropy, loss)| loss / entropy),
        calibration_ratio: (totals.positives > 0.0).then(|| totals.predicted / totals.positives),
        brier: mean(totals.brier),
        ece: ece(groups, bins),
        auc: auc(groups),
        pr_auc: average_precision(groups),
    }
}

/// The entropy of a rate in nats; `None` for 0 and 1, of which nothing is relative.
fn entropy(rate: f64) -> Option<f64> {
    let entropy = -(rate * rate.ln() + (1.0 - rate) * (-rate).ln_1p());
    // 0 · ln 0 is NaN.
    (entropy > 0.0).then_some(entropy)
}

fn sums(groups: &[Group]) -> (f64, f64) {
    groups.iter().fold((0.0, 0.0), |sum, it| (sum.0 + it.positives, sum.1 + it.negatives))
}

/// The probability that a positive ranks above a negative, ties counting half (Mann and Whitney 1947; Hanley and McNeil
/// 1982). Within a cell any order is possible, so the pairs of a cell are the range: at most half of the positives'
/// share in their cells.
pub(super) fn auc(groups: &[Group]) -> Option<Bounded> {
    let (positives, negatives) = sums(groups);
    if positives == 0.0 || negatives == 0.0 {
        return None;
    }
    let (mut before, mut above, mut unsure) = (0.0, 0.0, 0.0);
    for it in groups {
        // Shares instead of weights, whose product might be too large or too small for a double.
        let (share, tied) = (it.positives / positives, it.negatives / negatives);
        above += share * (before + tied / 2.0);
        if !it.is_exact() {
            unsure += share * tied / 2.0;
        }
        before += tied;
    }
    let value = above.clamp(0.0, 1.0);
    Some(Bounded { value, low: (value - unsure).max(0.0), high: (value + unsure).min(1.0) })
}

/// The average precision, `Σ (R_n - R_(n-1)) P_n` over descending thresholds: the step-wise area under the
/// precision-recall curve, without interpolation. `None` without positives. Rows of a cell count as evenly mixed.
///
/// The range of a cell with k positives and m negatives after t positives and f negatives: at best the precision is
/// `(t + k) / (t + k + f)`, as if its positives came first and tied. At worst they come last, one after the other; then
/// their sum is at least `k - (f + m) ln(1 + k / (t + f + m))`, because `Σ 1 / (a + j)` is below the integral of `1/x`.
pub(super) fn average_precision(groups: &[Group]) -> Option<Bounded> {
    let (positives, _) = sums(groups);
    if positives == 0.0 {
        return None;
    }
    let (mut found, mut wrong) = (0.0, 0.0);
    let (mut value, mut low, mut high) = (0.0, 0.0, 0.0);
    for it in groups.iter().rev().filter(|it| it.mass() > 0.0) {
        let (k, m) = (it.positives, it.negatives);
        let tied = k * ((found + k) / (found + k + wrong + m));
        if it.is_exact() || k == 0.0 {
            value += tied;
            low += tied;
            high += tied;
        } else {
            let last = found + wrong + m;
            let worst = if last > 0.0 { (k - (wrong + m) * (k / last).ln_1p()).clamp(0.0, tied) } else { tied };
            let best = k * ((found + k) / (found + k + wrong));
            value += (k * mixed(found, wrong, k, m)).clamp(worst, best);
            low += worst;
            high += best;
        }
        found += k;
        wrong += m;
    }
    let share = |sum: f64| (sum / positives).clamp(0.0, 1.0);
    let value = share(value);
    Some(Bounded { value, low: share(low).min(value), high: share(high).max(value) })
}

/// The mean precision while k positives and m negatives come evenly mixed after t positives and f negatives: the integral
/// of `(t + k u) / (t + f + (k + m) u)` for u from 0 to 1. The precision at the end alone, as for a tie, would be biased.
fn mixed(t: f64, f: f64, k: f64, m: f64) -> f64 {
    let (before, rows) = (t + f, k + m);
    let share = k / rows;
    if before == 0.0 { share } else { share + (t - share * before) * (rows / before).ln_1p() / rows }
}

/// What lies below an edge of equal mass, and how far the true sum of `p - y` below it may be from the one found.
struct Edge {
    weight: f64,
    predicted: f64,
    positives: f64,
    unsure: f64,
}

/// Cuts the groups into bins of equal mass. A group on an edge is cut in proportion.
fn edges(groups: &[Group], bins: usize) -> Vec<Edge> {
    let total: f64 = groups.iter().map(Group::mass).sum();
    let mut edges = Vec::with_capacity(bins);
    let mut below = Edge { weight: 0.0, predicted: 0.0, positives: 0.0, unsure: 0.0 };
    let mut next = 1;
    for it in groups.iter().filter(|it| it.mass() > 0.0) {
        let mass = it.mass();
        while next < bins {
            let wanted = total * (next as f64 / bins as f64) - below.weight;
            if wanted > mass {
                break;
            }
            let share = (wanted / mass).clamp(0.0, 1.0);
            edges.push(Edge {
                weight: below.weight + mass * share,
                predicted: below.predicted + it.predicted * share,
                positives: below.positives + it.positives * share,
                unsure: if it.is_exact() { 0.0 } else { unsure(it, share) },
            });
            next += 1;
        }
        below.weight += mass;
        below.predicted += it.predicted;
        below.positives += it.positives;
    }
    edges.push(below);
    edges
}

/// How far the sum of `p - y` over the lowest `share` of a group's mass may be from `share` of the group's sum.
fn unsure(group: &Group, share: f64) -> f64 {
    let (left, right) = (group.mass() * share, group.mass() * (1.0 - share));
    // Labels may stand in any order, scores only in ascending order.
    let most = group.positives.min(left) - group.positives * share;
    let least = (group.positives - right).max(0.0) - group.positives * share;
    let lower = (left * group.low).max(group.predicted - right * group.high) - group.predicted * share;
    // The sum moves by between `lower - most` and `-least`.
    (lower - most).abs().max(least.abs())
}

/// The bins of equal mass, lowest probability first: at most `bins`, fewer if there is no weight.
pub(super) fn equal_mass(groups: &[Group], bins: usize) -> Vec<MassBin> {
    let edges = edges(groups, bins.max(1));
    let starts = [(0.0, 0.0, 0.0)].into_iter().chain(edges.iter().map(|it| (it.weight, it.predicted, it.positives)));
    edges
        .iter()
        .zip(starts)
        .map(|(end, start)| (end.weight - start.0, end.predicted - start.1, end.positives - start.2))
        .filter(|(weight, ..)| *weight > 0.0)
        .map(|(weight, predicted, positives)| MassBin {
            weight,
            predicted: (predicted / weight).clamp(0.0, 1.0),
            observed: (positives / weight).clamp(0.0, 1.0),
        })
        .collect()
}

/// The expected calibration error, `Σ n_b / N |mean p - mean y|` over bins of equal mass (Naeini et al. 2015; equal mass
/// as in Nguyen and O'Connor 2015). `None` without weight or bins.
///
/// The range adds up, for each edge within a cell, what the bins on both sides may win or lose by the unknown order.
pub(super) fn ece(groups: &[Group], bins: usize) -> Option<Bounded> {
    let edges = if bins == 0 { Vec::new() } else { edges(groups, bins) };
    let total = edges.last()?.weight;
    if total == 0.0 {
        return None;
    }
    let (mut sum, mut start) = (0.0, 0.0);
    for edge in &edges {
        let end = edge.predicted - edge.positives;
        sum += (end - start).abs();
        start = end;
    }
    let value = (sum / total).clamp(0.0, 1.0);
    let reach = 2.0 * edges.iter().map(|it| it.unsure).sum::<f64>() / total;
    Some(Bounded { value, low: (value - reach).max(0.0), high: (value + reach).min(1.0) })
}

/// At most `points` points of the curves, from the highest threshold to the lowest; empty with one class.
pub(super) fn curve(groups: &[Group], points: usize) -> Vec<CurvePoint> {
    let (positives, negatives) = sums(groups);
    if positives == 0.0 || negatives == 0.0 || points == 0 {
        return Vec::new();
    }
    // Each kept point moves one of the rates by a step, so there are at most 2 / step of them and the last one.
    let step = 2.0 / (points as f64 - 1.0).max(1.0);
    let (mut found, mut wrong) = (0.0, 0.0);
    let mut kept = (0.0, 0.0);
    let mut curve = Vec::new();
    let mut last = None;
    for it in groups.iter().rev().filter(|it| it.mass() > 0.0) {
        found += it.positives;
        wrong += it.negatives;
        let point = CurvePoint {
            threshold: it.low,
            true_positive_rate: (found / positives).min(1.0),
            false_positive_rate: (wrong / negatives).min(1.0),
            precision: found / (found + wrong),
        };
        last = Some(point);
        if point.true_positive_rate - kept.0 >= step || point.false_positive_rate - kept.1 >= step {
            kept = (point.true_positive_rate, point.false_positive_rate);
            curve.push(point);
            last = None;
        }
    }
    curve.extend(last);
    curve
}
