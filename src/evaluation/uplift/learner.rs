//! Uplift from the predictions of two models.
//!
//! Owns the arithmetic of the T- and the X-learner (Künzel, Sekhon, Bickel and Yu 2019, "Metalearners for estimating
//! heterogeneous treatment effects using machine learning"). Fitting the models is the trainer's work: the T-learner
//! needs one model of the outcome for each arm; the X-learner then needs one model for each arm of the effects that
//! [`imputed_effect`] gives.

use super::UpliftError;

fn check(name: &'static str, value: f64) -> Result<f64, UpliftError> {
    if value.abs() <= 1e30 { Ok(value) } else { Err(UpliftError::Model { name, value }) }
}

/// The uplift of the T-learner: what the treated arm's model predicts more than the control arm's.
///
/// # Errors
///
/// If a prediction is not finite or beyond 1e30.
pub fn t_learner(treated: f64, control: f64) -> Result<f64, UpliftError> {
    Ok(check("the treated model's prediction", treated)? - check("the control model's prediction", control)?)
}

/// The X-learner's training target for a row: its outcome against what the other arm's model predicts for it,
/// `y - μ_C(x)` for a treated row and `μ_T(x) - y` for a control row.
///
/// # Errors
///
/// If the outcome or the prediction is not finite or beyond 1e30.
pub fn imputed_effect(is_treated: bool, outcome: f64, other: f64) -> Result<f64, UpliftError> {
    let (outcome, other) = (check("the outcome", outcome)?, check("the other arm's prediction", other)?);
    Ok(if is_treated { outcome - other } else { other - outcome })
}

/// Joins the X-learner's two models of the effect.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XLearner {
    propensity: f64,
}

impl XLearner {
    /// For rows that were treated with a probability.
    ///
    /// # Errors
    ///
    /// If the propensity is not between 0 and 1.
    pub fn new(propensity: f64) -> Result<Self, UpliftError> {
        if (0.0..=1.0).contains(&propensity) {
            Ok(Self { propensity })
        } else {
            Err(UpliftError::Propensity(propensity))
        }
    }

    /// The uplift, `g τ_C(x) + (1 - g) τ_T(x)` with the propensity g: the model of the smaller arm's effects counts
    /// more, because it was made with the better model of the larger arm.
    ///
    /// # Errors
    ///
    /// If a prediction is not finite or beyond 1e30.
    pub fn uplift(&self, of_treated: f64, of_control: f64) -> Result<f64, UpliftError> {
        let of_treated = check("the effect on the treated", of_treated)?;
        let of_control = check("the effect on the control", of_control)?;
        Ok(self.propensity * of_control + (1.0 - self.propensity) * of_treated)
    }
}
