//! Reads and checks a policy.

use super::{
    BYTES_MAX, BudgetState, CampaignPolicy, CreativeMethod, CreativePolicy, LinearPolicy, Policy, SCHEMA_VERSION,
    WinRateModel,
};
use crate::targeting::{
    creative::{BETA_MAX, BETA_MIN, FEATURES_MAX, Floor},
    money::Currency,
    pacing::PassThrough,
    shading::{SLOPE_MAX, SLOPE_MIN},
};

impl Policy {
    /// Reads a policy and checks every number, so that nothing needs to be checked when deciding.
    ///
    /// # Errors
    ///
    /// Says what is wrong and where. The policy is then refused as a whole: half a policy could overspend.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > BYTES_MAX {
            return Err(format!("the policy has {} bytes; the maximum is {BYTES_MAX}", bytes.len()));
        }
        let policy: Self = serde_json::from_slice(bytes).map_err(|error| format!("the policy is damaged: {error}"))?;
        policy.check()?;
        Ok(policy)
    }

    /// The policy as JSON, as it is published.
    ///
    /// # Errors
    ///
    /// If a number is NaN or infinite, which JSON cannot express, or otherwise out of bounds: what is published can be
    /// read.
    pub fn to_json(&self) -> Result<Vec<u8>, String> {
        self.check()?;
        serde_json::to_vec(self).map_err(|error| format!("encode the policy: {error}"))
    }

    fn check(&self) -> Result<(), String> {
        if self.schema_version == 0 {
            return Err(format!("schema_version is 0; this version reads {SCHEMA_VERSION}"));
        }
        // Later versions only add members; a change of meaning gets another topic.
        if self.version == 0 {
            return Err("version is 0; the first policy is version 1".to_owned());
        }
        if self.issued_at <= 0 {
            return Err(format!("issued_at is {}; it is in microseconds since 1970", self.issued_at));
        }
        for (id, campaign) in &self.campaigns {
            campaign.check().map_err(|(place, message)| format!("campaign {id:?}: {place}: {message}"))?;
        }
        Ok(())
    }
}

/// The place of a fault, and what is wrong.
type Fault = (String, String);

impl CampaignPolicy {
    fn check(&self) -> Result<(), Fault> {
        self.currency.parse::<Currency>().map_err(|error| at("currency", format!("{:?} is {error}", self.currency)))?;
        if let Some(budget) = &self.budget {
            budget.check()?;
        }
        let rates = self.win_rate.iter().map(|rate| ("win_rate".to_owned(), rate));
        let placements = self.placements.iter().map(|(id, rate)| (format!("placement {id:?}"), rate));
        for (place, rate) in rates.chain(placements) {
            check_rate(rate).map_err(|message| (place, message))?;
        }
        self.creatives.as_ref().map_or(Ok(()), CreativePolicy::check)
    }
}

impl BudgetState {
    fn check(&self) -> Result<(), Fault> {
        if self.pass_through > PassThrough::ALL.0 {
            let message = format!("{} is above {}, which is all", self.pass_through, PassThrough::ALL.0);
            return Err(at("budget.pass_through", message));
        }
        let amounts = [
            ("spent_today_micros", Some(self.spent_today_micros)),
            ("spent_total_micros", Some(self.spent_total_micros)),
            ("daily_micros", self.daily_micros),
            ("total_micros", self.total_micros),
        ];
        match amounts.into_iter().find_map(|(key, amount)| amount.filter(|it| *it < 0).map(|it| (key, it))) {
            Some((key, amount)) => Err(at(&format!("budget.{key}"), format!("{amount} is below 0"))),
            None => Ok(()),
        }
    }
}

fn check_rate(model: &WinRateModel) -> Result<(), String> {
    model.rate().map(|_| ()).ok_or_else(|| {
        format!(
            "intercept {} and slope {} with a lowest bid of {} are not a model; slopes are {SLOPE_MIN} to {SLOPE_MAX}",
            model.intercept, model.slope, model.lowest_micros
        )
    })
}

impl CreativePolicy {
    fn check(&self) -> Result<(), Fault> {
        if Floor::new(self.floor).is_none() {
            return Err(at("creatives.floor", format!("{} is not between 0 and 1", self.floor)));
        }
        match &self.method {
            CreativeMethod::Weights | CreativeMethod::Unknown => Ok(()),
            CreativeMethod::Thompson { prior, posteriors } => {
                let learned = posteriors.iter().flat_map(|(id, audiences)| {
                    audiences.iter().map(move |(audience, beta)| (format!("creative {id:?}, {audience:?}"), beta))
                });
                for (place, beta) in [("creatives.prior".to_owned(), prior)].into_iter().chain(learned) {
                    if !beta.is_valid() {
                        let message = format!(
                            "Beta({}, {}) is out of bounds: both are {BETA_MIN} to {BETA_MAX}",
                            beta.alpha, beta.beta
                        );
                        return Err((place, message));
                    }
                }
                Ok(())
            }
            CreativeMethod::LinearThompson { noise, linear } => {
                if !(noise.is_finite() && *noise > 0.0) {
                    return Err(at("creatives.noise", format!("{noise} is not above 0")));
                }
                linear.check()
            }
            CreativeMethod::LinUcb { alpha, epsilon, linear } => {
                if !(alpha.is_finite() && *alpha >= 0.0) {
                    return Err(at("creatives.alpha", format!("{alpha} is not at least 0")));
                }
                if !(0.0..=1.0).contains(epsilon) {
                    return Err(at("creatives.epsilon", format!("{epsilon} is not between 0 and 1")));
                }
                linear.check()
            }
        }
    }
}

impl LinearPolicy {
    fn check(&self) -> Result<(), Fault> {
        let dimension = self.features.len();
        if !(1..=FEATURES_MAX).contains(&dimension) {
            return Err(at("creatives.features", format!("{dimension} features; 1 to {FEATURES_MAX} are possible")));
        }
        if !(self.ridge.is_finite() && self.ridge > 0.0) {
            return Err(at("creatives.ridge", format!("{} is not above 0", self.ridge)));
        }
        match self.posteriors.iter().find(|(_, it)| !it.is_valid() || it.dimension() != dimension) {
            Some((id, it)) => {
                let message =
                    format!("expected a posterior of {dimension} finite weights, found one of {}", it.dimension());
                Err((format!("creative {id:?}"), message))
            }
            None => Ok(()),
        }
    }
}

fn at(place: &str, message: String) -> Fault {
    (place.to_owned(), message)
}
