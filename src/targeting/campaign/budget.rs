//! The section `[campaign.budget]`: how much a campaign may spend, and how evenly.

use crate::{
    config_error::ConfigError,
    targeting::{
        money::{Cpm, Micros},
        pacing::Mode,
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A checked budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// How a day's budget is spread.
    pub mode: Mode,
    /// The daily budget.
    pub daily: Option<Micros>,
    /// The total budget.
    pub total: Option<Micros>,
    /// The highest cost of an impression, above 0.
    pub cost_max: Micros,
}

/// `[campaign.budget]`: how much a campaign may spend, and how evenly. Amounts are in units of the campaign's currency.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSpec {
    /// The budget of a day in the campaign's zone; in UTC if the zone is the user's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub daily: Option<f64>,
    /// The budget of all days. Without a daily budget, it is spread over the days until the campaign ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<f64>,
    /// How a day's budget is spread: `even`, `traffic` or `asap`.
    pub pacing: PacingSpec,
}

/// How a day's budget is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PacingSpec {
    /// In a straight line over the day.
    Even,
    /// Like the traffic of the days before.
    #[default]
    Traffic,
    /// As soon as possible.
    Asap,
}

/// What else a campaign's configuration says about its costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostBounds {
    /// The ceiling of its bids.
    pub ceiling: Option<f64>,
    /// Its value, if it is a number and impressions are paid for: bids are then never above it.
    pub value: Option<f64>,
}

impl BudgetSpec {
    /// Checks a campaign's budget. All errors are added under `campaign[index].budget`. `None` if there are any.
    pub fn compile(&self, index: usize, bounds: CostBounds, errors: &mut Vec<ConfigError>) -> Option<Budget> {
        let before = errors.len();
        let key = |part: &str| format!("campaign[{index}].budget{part}");
        let mut amount = |part: &str, units: Option<f64>| {
            let units = units?;
            let amount = Micros::from_units(units).ok().filter(|amount| *amount > Micros::ZERO);
            if amount.is_none() {
                let message = format!("{units:?} is not an amount from 0.000001 to 9.2e12");
                let hint = "write an amount such as 250.0; to stop the campaign, set its `until`";
                errors.push(ConfigError::new(key(part), message).hint(hint));
            }
            amount
        };
        let (daily, total) = (amount(".daily", self.daily), amount(".total", self.total));
        if self.daily.is_none() && self.total.is_none() {
            errors.push(
                ConfigError::new(key(""), "the budget has no amount")
                    .hint("set daily, total or both, or remove the section: the campaign is then not limited"),
            );
        }
        if let (Some(daily), Some(total)) = (daily, total)
            && daily > total
        {
            let message = format!("{daily} a day is more than {total} in total");
            errors.push(ConfigError::new(key(".daily"), message).hint("lower daily, raise total, or leave daily out"));
        }
        let cpm = |units: Option<f64>| units.and_then(|units| Micros::from_units(units).ok()).map(|it| Cpm(it.0));
        let cost_max = match (cpm(bounds.ceiling), cpm(bounds.value)) {
            (Some(ceiling), Some(value)) => Some(ceiling.min(value)),
            (ceiling, value) => ceiling.or(value),
        };
        let cost_max = cost_max.map(|cpm| cpm.per_impression().max(Micros(1)));
        match cost_max {
            None => errors.push(
                ConfigError::new(key(""), "nothing bounds what one impression may cost")
                    .hint("set the campaign's ceiling: the budget can only be kept if the next cost is bounded"),
            ),
            Some(cost) => {
                for (part, amount) in [(".daily", daily), (".total", total)] {
                    if let Some(amount) = amount.filter(|amount| *amount < cost) {
                        let message = format!("{amount} does not buy one impression, which costs up to {cost}");
                        errors.push(
                            ConfigError::new(key(part), message)
                                .hint("raise it, or lower the ceiling, which is the price of a thousand"),
                        );
                    }
                }
            }
        }
        if errors.len() > before {
            return None;
        }
        let mode = match self.pacing {
            PacingSpec::Even => Mode::Even,
            PacingSpec::Traffic => Mode::Traffic,
            PacingSpec::Asap => Mode::Asap,
        };
        Some(Budget { mode, daily, total, cost_max: cost_max? })
    }
}

#[cfg(test)]
mod tests;
