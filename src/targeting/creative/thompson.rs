//! Thompson sampling over click rates with Beta posteriors, with exact propensities.
//!
//! Thompson sampling shows a creative as often as its rate is the largest of a sample (Thompson 1933). Instead of
//! drawing samples, [`Thompson`] computes that probability, `∫ f_i Π_{j≠i} F_j` over the densities f and distribution
//! functions F, and the decision's draw picks from it. The propensity is therefore known; with sampling it would have
//! to be estimated.
//!
//! The integral is taken over the log-odds, where a Beta density is smooth up to both ends even for parameters below 1.
//! All creatives of a campaign share the nodes, which are placed when the policy is loaded. F is the running integral
//! of f over them, so a density needs no normalising constant.
//!
//! Guarantees: the error of a probability is under 1e-6 before the floor is mixed in (under 1e-9 in the tests). Limits:
//! 64 creatives, parameters from 0.1 to 1e12, 150 to 500 nodes in the usual case, at most 800 for each creative.
//! Loading allocates, choosing does not. A set of eligible creatives that was not seen lately takes nodes × creatives
//! steps (tens of microseconds for 16), other sets one look-up. Not covered: how posteriors are learned
//! ([`BetaArm`](super::BetaArm)) and which audience has which.

mod interval;

use super::{
    arithmetic::{exp, exp_minus_one, ln, ln_one_plus_minus},
    choice::{CREATIVES_MAX, Chosen, Draw, Eligible, Floor, Shares},
    grid::{NODES, Panel, Panels, Peak, Running},
};
use crate::random::mix;
use serde::{Deserialize, Serialize};

/// The smallest parameter of a posterior. Below it, the tails of the log-odds become too long.
pub const BETA_MIN: f64 = 0.1;

/// The largest parameter of a posterior. Beyond it, the spread of the rate approaches the resolution of its log-odds.
pub const BETA_MAX: f64 = 1e12;

/// How far below its mode a log-density is cut off: e^-36 is 2e-16.
const DEPTH: f64 = 36.0;

/// The smallest value of a distribution function that has begun. The running integral may be about 1e-17 below 0 there,
/// and is used as a divisor.
const LEAST: f64 = 1e-200;

/// A Beta distribution of a rate: the prior or the posterior of a creative.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Beta {
    /// Successes, including those of the prior.
    pub alpha: f64,
    /// Failures, including those of the prior.
    pub beta: f64,
}

impl Beta {
    /// The mean rate, α / (α + β).
    pub fn mean(self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    /// Whether both parameters lie between [`BETA_MIN`] and [`BETA_MAX`]. False for NaN.
    pub fn is_valid(self) -> bool {
        [self.alpha, self.beta].iter().all(|parameter| (BETA_MIN..=BETA_MAX).contains(parameter))
    }

    /// The log-odds at the mode of the log-odds' density.
    fn mode(self) -> f64 {
        ln(self.alpha / self.beta)
    }

    /// The logarithm of the density of the log-odds at this distance from its mode, relative to that at the mode:
    /// `α δ - (α + β) ln(1 + p (e^δ - 1))` with p = α / (α + β).
    fn log_density(self, distance: f64) -> f64 {
        // The rarer outcome first, so that 1 + p (e^δ - 1) is at least 1/2.
        let (rare, common, distance) = if self.alpha <= self.beta {
            (self.alpha, self.beta, distance)
        } else {
            (self.beta, self.alpha, -distance)
        };
        let total = rare + common;
        let grown = exp_minus_one(distance);
        let change = rare / total * grown;
        if distance.abs() < 0.25 {
            // Both terms start with the same large number, which is omitted from both.
            let share = 1.0 + change;
            return rare * ln_one_plus_minus(common / total * grown / share)
                + common * ln_one_plus_minus(-change / share);
        }
        let log = if change.abs() < 0.4 { change + ln_one_plus_minus(change) } else { ln(1.0 + change) };
        rare * distance - total * log
    }

    /// The distance from the mode to the cut-off of the density, to the left (-1) or to the right (1).
    fn reach(self, side: f64) -> f64 {
        let is_inside = |distance: f64| self.log_density(side * distance) > -DEPTH;
        let mut beyond = self.width();
        // The longest tail falls by e^-0.1 a unit.
        while beyond < 1_000.0 && is_inside(beyond) {
            beyond *= 2.0;
        }
        let mut inside = 0.0;
        for _ in 0..30 {
            let middle = f64::midpoint(inside, beyond);
            if is_inside(middle) { inside = middle } else { beyond = middle }
        }
        beyond
    }

    /// The length over which the density of the log-odds changes: its spread, at most the length over which odds
    /// change.
    fn width(self) -> f64 {
        (1.0 / self.alpha + 1.0 / self.beta).sqrt().min(1.0)
    }
}

/// The location of a creative's values in [`Thompson::values`].
#[derive(Clone, Copy, Debug, Default)]
struct Arm {
    /// The first node with a density.
    first: usize,
    /// The node after the last one.
    end: usize,
    /// The index of the first node's values.
    offset: usize,
}

/// The prepared posteriors of a campaign's creatives for one audience.
#[derive(Clone, Debug)]
pub struct Thompson {
    floor: Floor,
    arms: Vec<Arm>,
    /// The weights of the nodes.
    weights: Vec<f64>,
    /// Density and distribution function at a creative's nodes. Before the nodes both are 0, after them they are 0 and
    /// 1.
    values: Vec<[f64; 2]>,
    /// The sets whose shares are cached, each in the slot given by its hash. 0 if the slot is empty.
    sets: Vec<u64>,
    /// The ends of the cached shares, for each set as many as there are creatives.
    ends: Vec<u32>,
    computed: u64,
}

impl Thompson {
    /// Prepares the posteriors, one for each creative in the order of the catalogue. The shares of up to `sets` sets of
    /// eligible creatives are cached (at least 1), with 4 bytes for each creative.
    ///
    /// `None` if there is no posterior, if there are more than 64, or if one is not [valid](Beta::is_valid).
    pub fn new(posteriors: &[Beta], floor: Floor, sets: usize) -> Option<Self> {
        let count = posteriors.len();
        if !(1..=CREATIVES_MAX).contains(&count) || !posteriors.iter().all(|it| it.is_valid()) {
            return None;
        }
        let sets = sets.max(1);
        let mut thompson = Self {
            floor,
            arms: Vec::with_capacity(count),
            weights: Vec::new(),
            values: Vec::new(),
            sets: vec![0; sets],
            ends: vec![0; sets * count],
            computed: 0,
        };
        let ends: Vec<(f64, f64)> =
            posteriors.iter().map(|it| (it.mode() - it.reach(-1.0), it.mode() + it.reach(1.0))).collect();
        let start = ends.iter().map(|end| end.0).fold(f64::INFINITY, f64::min);
        let end = ends.iter().map(|end| end.1).fold(f64::NEG_INFINITY, f64::max);
        let peaks: Vec<Peak> = posteriors.iter().map(|it| Peak { at: it.mode(), width: it.width() }).collect();
        let panels: Vec<Panel> = Panels::new(&peaks, start, end).collect();
        thompson.weights.extend(panels.iter().flat_map(|panel| panel.nodes()).map(|(_, weight)| weight));
        let running = Running::new();
        for (posterior, (left, right)) in posteriors.iter().zip(ends) {
            let first = panels.partition_point(|panel| panel.right() <= left);
            let behind = panels.partition_point(|panel| panel.left() < right);
            thompson.add(*posterior, &panels[first..behind], first, &running);
        }
        thompson.prepare(Eligible::all(count)).then_some(thompson)
    }

    /// Evaluates a creative's density on the panels where it is not 0. The first of them has the number `first`.
    fn add(&mut self, posterior: Beta, panels: &[Panel], first: usize, running: &Running) {
        let offset = self.values.len();
        let mode = posterior.mode();
        let mut before = 0.0;
        for panel in panels {
            let mut densities = [0.0; NODES];
            for (density, (place, _)) in densities.iter_mut().zip(panel.nodes()) {
                *density = exp(posterior.log_density(place - mode));
            }
            let (upto, whole) = running.integrals(&densities, panel.half());
            self.values
                .extend(densities.iter().zip(upto).map(|(density, upto)| [*density, (before + upto).max(LEAST)]));
            before += whole;
        }
        // The sum is the normalising constant.
        self.values[offset..].iter_mut().flatten().for_each(|value| *value /= before);
        self.arms.push(Arm { first: first * NODES, end: (first + panels.len()) * NODES, offset });
    }

    /// The number of creatives.
    pub fn creatives(&self) -> usize {
        self.arms.len()
    }

    /// The number of nodes.
    pub fn nodes(&self) -> usize {
        self.weights.len()
    }

    /// How many sets of shares were computed because they were not cached. If this grows with every decision, `sets` is
    /// too small.
    pub fn computed(&self) -> u64 {
        self.computed
    }

    /// Computes the shares of a set in advance, for example those that the previous policy used.
    ///
    /// Returns whether anything is eligible.
    pub fn prepare(&mut self, eligible: Eligible) -> bool {
        self.shares(eligible).is_some()
    }

    /// Chooses a creative. Creatives without a posterior are not eligible. `None` if no creative is. Does not allocate.
    pub fn choose(&mut self, eligible: Eligible, draw: Draw) -> Option<Chosen> {
        Some(self.shares(eligible)?.pick(draw))
    }

    /// The propensities of the eligible creatives. `None` if there are none. They do not depend on earlier calls.
    pub fn shares(&mut self, eligible: Eligible) -> Option<Shares> {
        let eligible = eligible.and(Eligible::all(self.arms.len()));
        if eligible.is_empty() {
            return None;
        }
        let word = eligible.word();
        let slot = (mix(word) % self.sets.len() as u64) as usize;
        let kept = slot * self.arms.len()..slot * self.arms.len() + eligible.count();
        if self.sets[slot] == word {
            return Some(Shares::from_ends(eligible, &self.ends[kept]));
        }
        self.computed += 1;
        let parts = self.best(eligible);
        let shares = Shares::new(eligible, &parts, self.floor.even_share(eligible.count()))?;
        self.sets[slot] = word;
        self.ends[kept].copy_from_slice(shares.ends());
        Some(shares)
    }

    /// For each eligible creative in order, the probability that its rate is the largest.
    fn best(&self, eligible: Eligible) -> [f64; CREATIVES_MAX] {
        let mut parts = [0.0; CREATIVES_MAX];
        let mut arms = [Arm::default(); CREATIVES_MAX];
        let arms = &mut arms[..eligible.count()];
        for (arm, index) in arms.iter_mut().zip(eligible.iter()) {
            *arm = self.arms[index];
        }
        // While one distribution function is still 0, no other creative can be the largest.
        let start = arms.iter().map(|arm| arm.first).max().unwrap_or(0);
        let end = arms.iter().map(|arm| arm.end).max().unwrap_or(0);
        for node in start..end {
            let at = |arm: &Arm| if node < arm.end { self.values[arm.offset + node - arm.first] } else { [0.0, 1.0] };
            let product: f64 = arms.iter().map(|arm| at(arm)[1]).product();
            let product = product * self.weights[node];
            for (part, arm) in parts.iter_mut().zip(arms.iter()) {
                let [density, below] = at(arm);
                if density > 0.0 && below > 0.0 {
                    *part += density * (product / below);
                }
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests;
