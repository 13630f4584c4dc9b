//! Attribution: which channel earned the conversion?
//!
//! Owns a ledger of journeys. A journey is the touches of a user, oldest first, that led to a conversion or to none
//! within the window; each model divides the conversion's value among the channels:
//!
//! | Model | Credit |
//! |---|---|
//! | first, last | all to the first or last touch |
//! | linear | the same to each touch |
//! | position | 40 % to the first, 40 % to the last, the rest to those between; shares can be set |
//! | time decay | halves with each half-life of a touch's age |
//! | Markov | in proportion to what would be lost without the channel (Anderl et al. 2016) |
//! | Shapley | the same to each channel of the journey, once |
//!
//! The last is the exact Shapley value of the game whose coalitions S earn the value of the journeys that touch only
//! channels of S (Zhao, Mahboobi and Bagheri 2018, "Shapley value methods for attribution modeling in online
//! advertising"): such a game is a sum of unanimity games, so no coalition has to be listed. Tests compare it with the
//! sum over all orders.
//!
//! Guarantees: under each model, credits and `direct` (conversions without a touch) add up to the value of all
//! conversions, up to rounding; no credit is negative. Ledgers merge. Limits: 256 channels and 256 touches a journey,
//! of which the latest are kept and the cut journeys counted; memory is 8 · channels² bytes at most 540 kB. Not
//! covered: collecting journeys and the window.

mod markov;

use serde::Serialize;
use std::time::Duration;
use thiserror::Error;

/// The most channels. Markov takes the cube of them in steps: 17 million here.
const CHANNELS_MAX: usize = 256;

/// The most touches of a journey: beyond, rule-based credits of a touch would be below half a percent.
const TOUCHES_MAX: usize = 256;

/// The largest value of a conversion.
const VALUE_MAX: f64 = 1e30;

/// Why a journey cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Error)]
pub enum AttributionError {
    /// No channels or more than 256.
    #[error("open a ledger: {0} channels are not between 1 and 256")]
    Channels(usize),
    /// A setting is out of range.
    #[error("open a ledger: {0}")]
    Settings(&'static str),
    /// A touch names a channel that the ledger does not have.
    #[error("count a journey: channel {channel} of {channels}")]
    Channel {
        /// The touch's channel.
        channel: usize,
        /// How many there are.
        channels: usize,
    },
    /// A conversion's value is negative, not finite or beyond 1e30.
    #[error("count a journey: value {0} is not between 0 and 1e30")]
    Value(f64),
    /// Ledgers with other channels or settings.
    #[error("merge ledgers: their channels or settings differ")]
    Mismatch,
    /// The transition matrix cannot be inverted in double precision.
    #[error("compute removal effects: the journeys' transitions are too one-sided to be inverted")]
    Unstable,
}

/// A contact with a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The channel's number, from 0.
    pub channel: usize,
    /// How long before the end of the journey it was.
    pub age: Duration,
}

/// How to divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// All to the first touch.
    First,
    /// All to the last touch.
    Last,
    /// The same to each touch.
    Linear,
    /// More to the first and the last.
    Position,
    /// More to the later ones.
    TimeDecay,
    /// By removal effect.
    Markov,
    /// By Shapley value.
    Shapley,
}

impl Model {
    /// All models.
    pub const ALL: [Self; 7] =
        [Self::First, Self::Last, Self::Linear, Self::Position, Self::TimeDecay, Self::Markov, Self::Shapley];
}

/// The models' parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// The first touch's share in the position model.
    pub first: f64,
    /// The last touch's share in the position model.
    pub last: f64,
    /// After which age a touch counts half in the time-decay model.
    pub half_life: Duration,
}

impl Default for Settings {
    /// 40 %, 40 %, 7 days.
    fn default() -> Self {
        Self { first: 0.4, last: 0.4, half_life: Duration::from_hours(7 * 24) }
    }
}

/// The credits of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Credits {
    /// Each channel's credit.
    pub channels: Vec<f64>,
    /// The value of conversions without a touch.
    pub direct: f64,
}

/// Counted journeys.
#[derive(Clone, Debug)]
pub struct Ledger {
    settings: Settings,
    /// Credits of the models that need one journey at a time, in the order of [`Ledger::additive`].
    credits: [Vec<f64>; 6],
    direct: f64,
    /// The value of conversions with touches.
    value: f64,
    journeys: u64,
    journeys_cut: u64,
    transitions: markov::Transitions,
}

impl Ledger {
    /// An empty ledger.
    ///
    /// # Errors
    ///
    /// If there are no channels or more than 256, a share is not between 0 and 1, both are above 1 together or both 0,
    /// or the half-life is 0.
    pub fn new(channels: usize, settings: Settings) -> Result<Self, AttributionError> {
        if !(1..=CHANNELS_MAX).contains(&channels) {
            return Err(AttributionError::Channels(channels));
        }
        let is_share = |share: f64| (0.0..=1.0).contains(&share);
        let both = settings.first + settings.last;
        if !is_share(settings.first) || !is_share(settings.last) || !(1e-9..=1.0 + 1e-9).contains(&both) {
            return Err(AttributionError::Settings("position shares must be between 0 and 1 and their sum above 0"));
        }
        if settings.half_life.is_zero() {
            return Err(AttributionError::Settings("the half-life must be above 0"));
        }
        Ok(Self {
            settings,
            credits: [(); 6].map(|()| vec![0.0; channels]),
            direct: 0.0,
            value: 0.0,
            journeys: 0,
            journeys_cut: 0,
            transitions: markov::Transitions::new(channels),
        })
    }

    fn channels(&self) -> usize {
        self.credits[0].len()
    }

    /// The number of journeys.
    pub fn journeys(&self) -> u64 {
        self.journeys
    }

    /// The number of journeys that had more than 256 touches, whose first ones were left out.
    pub fn journeys_cut(&self) -> u64 {
        self.journeys_cut
    }

    /// Checks touches and keeps the latest.
    fn kept<'a>(&mut self, touches: &'a [Touch]) -> Result<&'a [Touch], AttributionError> {
        let channels = self.channels();
        if let Some(it) = touches.iter().find(|it| it.channel >= channels) {
            return Err(AttributionError::Channel { channel: it.channel, channels });
        }
        self.journeys += 1;
        let cut = touches.len().saturating_sub(TOUCHES_MAX);
        self.journeys_cut += u64::from(cut > 0);
        Ok(&touches[cut..])
    }

    /// Counts a journey that led to a conversion, with its touches oldest first; without touches, its value is direct.
    /// The value is 1 to attribute conversions, or an amount to attribute revenue.
    ///
    /// # Errors
    ///
    /// If a channel is unknown or the value is not between 0 and 1e30. Then nothing was counted.
    pub fn converted(&mut self, touches: &[Touch], value: f64) -> Result<(), AttributionError> {
        if !(0.0..=VALUE_MAX).contains(&value) {
            return Err(AttributionError::Value(value));
        }
        let touches = self.kept(touches)?;
        if touches.is_empty() {
            self.direct += value;
            return Ok(());
        }
        self.value += value;
        self.transitions.add(touches, true);
        let settings = self.settings;
        for (model, credits) in Self::ADDITIVE.into_iter().zip(&mut self.credits) {
            divide(model, touches, &settings, |channel, share| credits[channel] += value * share);
        }
        Ok(())
    }

    /// Counts a journey that led to no conversion. Only Markov learns from it.
    ///
    /// # Errors
    ///
    /// If a channel is unknown. Then nothing was counted.
    pub fn lost(&mut self, touches: &[Touch]) -> Result<(), AttributionError> {
        let touches = self.kept(touches)?;
        if !touches.is_empty() {
            self.transitions.add(touches, false);
        }
        Ok(())
    }

    /// Adds the journeys of another ledger.
    ///
    /// # Errors
    ///
    /// If its channels or settings differ. Then nothing was added.
    pub fn merge(&mut self, other: &Self) -> Result<(), AttributionError> {
        if self.channels() != other.channels() || self.settings != other.settings {
            return Err(AttributionError::Mismatch);
        }
        for (mine, theirs) in self.credits.iter_mut().flatten().zip(other.credits.iter().flatten()) {
            *mine += theirs;
        }
        self.direct += other.direct;
        self.value += other.value;
        self.journeys += other.journeys;
        self.journeys_cut += other.journeys_cut;
        self.transitions.merge(&other.transitions);
        Ok(())
    }

    /// The models that divide one journey at a time.
    const ADDITIVE: [Model; 6] =
        [Model::First, Model::Last, Model::Linear, Model::Position, Model::TimeDecay, Model::Shapley];

    /// Each channel's credit under a model.
    ///
    /// # Errors
    ///
    /// Only for Markov, if the transitions cannot be inverted.
    pub fn credits(&self, model: Model) -> Result<Credits, AttributionError> {
        let channels = match Self::ADDITIVE.iter().position(|it| *it == model) {
            Some(at) => self.credits[at].clone(),
            None => {
                let effects = self.transitions.removal_effects()?;
                let total: f64 = effects.iter().sum();
                // Without a conversion, no removal has an effect.
                effects.iter().map(|it| if total > 0.0 { self.value * (it / total) } else { 0.0 }).collect()
            }
        };
        Ok(Credits { channels, direct: self.direct })
    }

    /// What share of the conversions with touches would be lost without each channel, by the Markov chain. They do not
    /// add up to 1.
    ///
    /// # Errors
    ///
    /// If the transitions cannot be inverted.
    pub fn removal_effects(&self) -> Result<Vec<f64>, AttributionError> {
        self.transitions.removal_effects()
    }
}

/// Gives each touch its share of 1. `touches` is not empty.
fn divide(model: Model, touches: &[Touch], settings: &Settings, mut give: impl FnMut(usize, f64)) {
    let last = touches.len() - 1;
    let count = touches.len() as f64;
    match model {
        Model::First => give(touches[0].channel, 1.0),
        Model::Last => give(touches[last].channel, 1.0),
        Model::Linear => touches.iter().for_each(|it| give(it.channel, 1.0 / count)),
        Model::Position => {
            let (first, end) = (settings.first, settings.last);
            let between = (1.0 - first - end).max(0.0) / (count - 2.0);
            // Without touches between, the two divide their part.
            let scale = if last < 2 { first + end } else { 1.0 };
            if last == 0 {
                return give(touches[0].channel, 1.0);
            }
            give(touches[0].channel, first / scale);
            give(touches[last].channel, end / scale);
            touches[1..last].iter().for_each(|it| give(it.channel, between));
        }
        Model::TimeDecay => {
            // Relative to the youngest, so that not all weights vanish.
            let youngest = touches.iter().map(|it| it.age).min().unwrap_or_default();
            let weight = |it: &Touch| {
                let older = it.age.saturating_sub(youngest).as_secs_f64();
                (-older / settings.half_life.as_secs_f64()).exp2()
            };
            let total: f64 = touches.iter().map(weight).sum();
            for it in touches {
                give(it.channel, weight(it) / total);
            }
        }
        Model::Shapley => {
            let mut channels: Vec<usize> = touches.iter().map(|it| it.channel).collect();
            channels.sort_unstable();
            channels.dedup();
            let share = 1.0 / channels.len() as f64;
            for channel in channels {
                give(channel, share);
            }
        }
        // Not divided by journey; see `Ledger::credits`.
        Model::Markov => {}
    }
}

#[cfg(test)]
mod tests;
