//! The section `[campaign.rotation]`: how a campaign chooses among its creatives, and what it learns from.
//!
//! Owns the section, its checks, the audience and the features of a choice. The learning itself is control's, the
//! choice is the policy's ([`crate::targeting::policy::Chooser`]).
//!
//! - **Audience.** Thompson sampling learns for each segment of `audiences` separately. A user belongs to the first of
//!   them that the user is in; everybody else is one more audience.
//! - **Features.** A linear bandit sees the numbers of `features`, in this order. A missing number counts as 0.

use super::Held;
use crate::{
    columns::{Columns, Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope, nearest},
    targeting::creative::{Beta, FEATURES_MAX, HalfLife, LINEAR_CREATIVES_MAX},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The maximum number of audiences of a campaign: each is learned from its own outcomes.
const AUDIENCES_MAX: usize = 16;

/// The event that a creative is rewarded for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Reward {
    /// A click.
    #[default]
    Click,
    /// A conversion.
    Conversion,
}

/// How a campaign's creatives are chosen, as checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Learning {
    /// By weight: nothing is learned.
    #[default]
    Weights,
    /// By Thompson sampling.
    Thompson {
        /// The rate of a creative that nothing is known about.
        prior: Beta,
        /// After which time an outcome counts half.
        half_life: HalfLife,
    },
    /// By linear Thompson sampling.
    LinearThompson {
        /// The deviation of a reward's noise.
        noise: f64,
        /// The ridge of a creative that nothing is known about.
        ridge: f64,
        /// The names of the features.
        features: Vec<String>,
    },
    /// By LinUCB.
    LinUcb {
        /// How many deviations are added to the mean.
        alpha: f64,
        /// The share of choices made uniformly.
        epsilon: f64,
        /// The ridge of a creative that nothing is known about.
        ridge: f64,
        /// The names of the features.
        features: Vec<String>,
    },
}

/// `[campaign.rotation]`: how a campaign chooses among its creatives. If absent, by their weights.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RotationSpec {
    /// The method: `weights`, `thompson`, `linear_thompson` or `lin_ucb`.
    pub method: RotationMethod,
    /// What a creative is rewarded for: a `click` or a `conversion`.
    pub reward: Reward,
    /// The smallest probability of a creative that fits, 0 to 1. The larger it is, the more is spent on trying, and the
    /// better any other way of choosing can be estimated from the decisions.
    pub floor: f64,
    /// `thompson`: the segments that are learned for separately, at most 16. A user counts for the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// `thompson`: the reward rate to expect of a creative that nothing is known about.
    pub prior_rate: f64,
    /// `thompson`: the number of impressions that `prior_rate` counts for.
    pub prior_weight: f64,
    /// `thompson`: the time after which an outcome counts half; without it, outcomes count for ever.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub half_life: Option<Duration>,
    /// `linear_thompson` and `lin_ucb`: the numbers that a choice depends on, as expressions over the event's fields,
    /// the features and the scores; 1 to 32. Keep each between about -1 and 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// `linear_thompson` and `lin_ucb`: how strongly the weights of a creative are held at 0 while little is known.
    pub ridge: f64,
    /// `linear_thompson`: the deviation of a reward's noise. The larger it is, the more is tried.
    pub noise: f64,
    /// `lin_ucb`: how many deviations are added to the mean. The larger it is, the more is tried.
    pub alpha: f64,
    /// `lin_ucb`: the share of choices made uniformly, 0 to 1.
    pub epsilon: f64,
}

/// A way to choose among creatives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RotationMethod {
    /// By weight.
    #[default]
    Weights,
    /// Thompson sampling of each creative's reward rate.
    Thompson,
    /// Thompson sampling of a linear model of the reward.
    LinearThompson,
    /// LinUCB: the highest upper bound of a linear model of the reward.
    LinUcb,
}

impl RotationMethod {
    /// The name in the configuration and in decisions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Thompson => "thompson",
            Self::LinearThompson => "linear_thompson",
            Self::LinUcb => "lin_ucb",
        }
    }

    fn is_linear(self) -> bool {
        matches!(self, Self::LinearThompson | Self::LinUcb)
    }
}

impl Default for RotationSpec {
    fn default() -> Self {
        Self {
            method: RotationMethod::Weights,
            reward: Reward::Click,
            floor: 0.01,
            audiences: Vec::new(),
            prior_rate: 0.01,
            prior_weight: 100.0,
            half_life: None,
            features: Vec::new(),
            ridge: 1.0,
            noise: 0.25,
            alpha: 1.0,
            epsilon: 0.05,
        }
    }
}

/// A checked rotation.
#[derive(Clone, Debug, Default)]
pub struct Rotation {
    /// The method.
    pub method: RotationMethod,
    /// What a creative is rewarded for.
    pub reward: Reward,
    /// How creatives are chosen.
    pub learning: Learning,
    /// The smallest probability of a creative that fits.
    pub floor: f64,
    /// The ids of the audiences that are learned for separately.
    pub audiences: Vec<String>,
    /// The segments of the audiences.
    segments: Vec<usize>,
    /// The columns of the features.
    slots: Vec<Slot>,
}

impl Rotation {
    /// Checks the section and compiles its features. All errors are added under `campaign[index].rotation`.
    pub(super) fn compile(
        index: usize,
        spec: Option<&RotationSpec>,
        creatives: usize,
        segments: &[&str],
        (program, scope): (&mut Program, &mut Scope),
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let Some(spec) = spec else { return Self { floor: RotationSpec::default().floor, ..Self::default() } };
        let key = |part: &str| format!("campaign[{index}].rotation{part}");
        check_use(spec, creatives, &key, errors);
        check_numbers(spec, &key, errors);
        let mut numbers = Vec::new();
        for (place, id) in spec.audiences.iter().enumerate() {
            let at = || key(&format!(".audiences[{place}]"));
            if spec.audiences[..place].contains(id) {
                errors.push(ConfigError::new(at(), format!("audience {id:?} is listed twice")).hint("remove one"));
            }
            match segments.iter().position(|segment| segment == id) {
                Some(number) => numbers.push(number),
                None => {
                    let error = ConfigError::new(at(), format!("there is no segment {id:?}"));
                    errors.push(match nearest(id, segments.iter().copied()) {
                        Some(near) => error.hint(format!("did you mean {near:?}?")),
                        None => error.hint("declare it under [[segment]], or remove it here"),
                    });
                }
            }
        }
        let mut slots = Vec::new();
        for (place, text) in spec.features.iter().enumerate() {
            match program.add(scope, text, Some(Type::Double)) {
                Ok(slot) => slots.push(slot),
                Err(error) => errors.push(error.config_error(key(&format!(".features[{place}]")))),
            }
        }
        Self {
            method: spec.method,
            reward: spec.reward,
            learning: learning(spec),
            floor: spec.floor,
            audiences: spec.audiences.clone(),
            segments: numbers,
            slots,
        }
    }

    /// The names of the features of a linear bandit.
    pub fn features(&self) -> &[String] {
        match &self.learning {
            Learning::LinearThompson { features, .. } | Learning::LinUcb { features, .. } => features,
            Learning::Weights | Learning::Thompson { .. } => &[],
        }
    }

    /// Whether choices follow outcomes.
    pub fn learns(&self) -> bool {
        self.learning != Learning::Weights
    }

    /// The index of the user's audience; the number of audiences for everybody else.
    pub(super) fn audience(&self, held: &Held) -> usize {
        self.segments.iter().position(|segment| held.has(*segment)).unwrap_or(self.segments.len())
    }

    /// Appends the features of a row.
    pub(super) fn read(&self, columns: &Columns, row: usize, to: &mut Vec<f64>) {
        let number = |slot: &Slot| columns.get(*slot).doubles()[row];
        to.extend(self.slots.iter().map(number).map(|it| if it.is_finite() { it } else { 0.0 }));
    }
}

/// Reports settings that do not fit the method, and methods that do not fit the campaign.
fn check_use(spec: &RotationSpec, creatives: usize, key: &impl Fn(&str) -> String, errors: &mut Vec<ConfigError>) {
    let method = spec.method.as_str();
    if spec.method != RotationMethod::Weights && creatives == 0 {
        errors.push(
            ConfigError::new(key(""), "the campaign has no creatives to choose from")
                .hint("declare some under [[creative]], or remove the section"),
        );
    }
    if spec.floor <= 1.0 && spec.floor * creatives as f64 > 1.0 {
        let message = format!("{creatives} creatives cannot each have a probability of at least {}", spec.floor);
        let hint = format!("set at most {}, which chooses all alike", (1e4 / creatives as f64).floor() / 1e4);
        errors.push(ConfigError::new(key(".floor"), message).hint(hint));
    }
    if spec.method != RotationMethod::Thompson && !spec.audiences.is_empty() {
        let message = format!("{method} does not learn by audience");
        errors.push(ConfigError::new(key(".audiences"), message).hint("set method = \"thompson\", or remove it"));
    }
    if !spec.method.is_linear() && !spec.features.is_empty() {
        let message = format!("{method} does not look at features");
        errors
            .push(ConfigError::new(key(".features"), message).hint("set method = \"linear_thompson\" or \"lin_ucb\""));
    }
    if spec.audiences.len() > AUDIENCES_MAX {
        let message = format!("{} audiences are more than {AUDIENCES_MAX}", spec.audiences.len());
        errors.push(ConfigError::new(key(".audiences"), message).hint("keep those that differ most"));
    }
    if spec.method.is_linear() {
        if !(1..=FEATURES_MAX).contains(&spec.features.len()) {
            let message = format!("{method} needs 1 to {FEATURES_MAX} features, not {}", spec.features.len());
            errors.push(ConfigError::new(key(".features"), message).hint("for instance [\"1.0\", \"score\"]"));
        }
        if creatives > LINEAR_CREATIVES_MAX {
            let message = format!("{method} chooses among at most {LINEAR_CREATIVES_MAX} creatives, not {creatives}");
            errors.push(ConfigError::new(key(".method"), message).hint("set method = \"thompson\""));
        }
    }
}

/// Reports numbers that are out of range.
fn check_numbers(spec: &RotationSpec, key: &impl Fn(&str) -> String, errors: &mut Vec<ConfigError>) {
    let share = 0.0..=1.0;
    for (part, number, fits, wanted) in [
        (".floor", spec.floor, share.contains(&spec.floor), "between 0 and 1"),
        (".epsilon", spec.epsilon, share.contains(&spec.epsilon), "between 0 and 1"),
        (".ridge", spec.ridge, spec.ridge.is_finite() && spec.ridge > 0.0, "above 0"),
        (".noise", spec.noise, spec.noise.is_finite() && spec.noise > 0.0, "above 0"),
        (".alpha", spec.alpha, spec.alpha.is_finite() && spec.alpha >= 0.0, "at least 0"),
        (".prior_rate", spec.prior_rate, spec.prior_rate > 0.0 && spec.prior_rate < 1.0, "above 0 and below 1"),
    ] {
        if !fits {
            errors.push(
                ConfigError::new(key(part), format!("{number} is not {wanted}")).hint("leave it out for the default"),
            );
        }
    }
    let prior = prior(spec);
    if (0.0..1.0).contains(&spec.prior_rate) && spec.prior_rate > 0.0 && !prior.is_valid() {
        let message = format!("{} impressions are too few or too many to expect this rate of", spec.prior_weight);
        errors.push(
            ConfigError::new(key(".prior_weight"), message).hint("set about as many as two or three successes take"),
        );
    }
    if spec.half_life.is_some_and(|it| HalfLife::new(it).is_none()) {
        errors
            .push(ConfigError::new(key(".half_life"), "the half-life is below a second").hint("for instance \"14d\""));
    }
}

fn prior(spec: &RotationSpec) -> Beta {
    Beta { alpha: spec.prior_rate * spec.prior_weight, beta: (1.0 - spec.prior_rate) * spec.prior_weight }
}

fn learning(spec: &RotationSpec) -> Learning {
    let (ridge, features) = (spec.ridge, spec.features.clone());
    match spec.method {
        RotationMethod::Weights => Learning::Weights,
        RotationMethod::Thompson => Learning::Thompson {
            prior: prior(spec),
            half_life: spec.half_life.and_then(HalfLife::new).unwrap_or(HalfLife::NEVER),
        },
        RotationMethod::LinearThompson => Learning::LinearThompson { noise: spec.noise, ridge, features },
        RotationMethod::LinUcb => Learning::LinUcb { alpha: spec.alpha, epsilon: spec.epsilon, ridge, features },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(text: &str, creatives: usize) -> Vec<String> {
        let spec: RotationSpec = toml::from_str(text).unwrap();
        let mut errors = Vec::new();
        let mut scope = Scope::default();
        scope.declare("visits", Type::Double);
        let mut program = Program::default();
        Rotation::compile(2, Some(&spec), creatives, &["keen", "new"], (&mut program, &mut scope), &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_default_is_valid_for_each_method() {
        for text in [
            "",
            "method = \"thompson\"\naudiences = [\"new\", \"keen\"]\nhalf_life = \"14d\"\nreward = \"conversion\"",
            "method = \"linear_thompson\"\nfeatures = [\"1.0\", \"visits / 10.0\"]",
            "method = \"lin_ucb\"\nfeatures = [\"1.0\"]\nalpha = 0.5\nepsilon = 0.1",
        ] {
            assert_eq!(errors(text, 3), Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn all_errors_are_reported_at_once_with_the_next_step() {
        for (text, creatives, expected) in [
            ("method = \"thompson\"", 0, &["campaign[2].rotation: the campaign has no creatives to choose from"][..]),
            (
                "floor = 0.4",
                3,
                &[
                    "campaign[2].rotation.floor: 3 creatives cannot each have a probability of at least 0.4; set at most 0.3333",
                ],
            ),
            (
                "audiences = [\"kean\", \"kean\"]\nfeatures = [\"vists\"]\nfloor = 1.5",
                2,
                &[
                    "campaign[2].rotation.audiences: weights does not learn by audience; set method = \"thompson\"",
                    "campaign[2].rotation.features: weights does not look at features",
                    "campaign[2].rotation.floor: 1.5 is not between 0 and 1",
                    "campaign[2].rotation.audiences[0]: there is no segment \"kean\"; did you mean \"keen\"?",
                    "campaign[2].rotation.audiences[1]: audience \"kean\" is listed twice",
                    "campaign[2].rotation.audiences[1]: there is no segment \"kean\"",
                    "campaign[2].rotation.features[0]",
                ],
            ),
            (
                "method = \"lin_ucb\"\nepsilon = -1.0\nridge = 0.0\nalpha = nan\nnoise = inf",
                17,
                &[
                    "campaign[2].rotation.features: lin_ucb needs 1 to 32 features, not 0",
                    "campaign[2].rotation.method: lin_ucb chooses among at most 16 creatives, not 17",
                    "campaign[2].rotation.epsilon: -1 is not between 0 and 1",
                    "campaign[2].rotation.ridge: 0 is not above 0",
                    "campaign[2].rotation.noise: inf is not above 0",
                    "campaign[2].rotation.alpha: NaN is not at least 0",
                ],
            ),
            (
                "method = \"thompson\"\nprior_rate = 0.001\nprior_weight = 1.0\nhalf_life = \"10ms\"",
                2,
                &[
                    "campaign[2].rotation.prior_weight: 1 impressions are too few or too many",
                    "campaign[2].rotation.half_life: the half-life is below a second",
                ],
            ),
            (
                "method = \"thompson\"\nprior_rate = 1.0",
                2,
                &["campaign[2].rotation.prior_rate: 1 is not above 0 and below 1"],
            ),
        ] {
            let shown = errors(text, creatives);
            assert_eq!(shown.len(), expected.len(), "{text}: {shown:#?}");
            for (shown, expected) in shown.iter().zip(expected) {
                assert!(shown.starts_with(expected), "{text}: {shown}");
            }
        }
        assert!(toml::from_str::<RotationSpec>("method = \"bandit\"").is_err());
        assert!(toml::from_str::<RotationSpec>("epsilom = 0.1").is_err());
    }

    #[test]
    fn a_user_counts_for_the_first_audience() {
        let rotation = Rotation { segments: vec![70, 3], ..Rotation::default() };
        let mut held = Held::new(80);
        assert_eq!(rotation.audience(&held), 2);
        held.insert(3);
        assert_eq!(rotation.audience(&held), 1);
        held.insert(70);
        assert_eq!(rotation.audience(&held), 0);
    }
}
