//! What an experiment keeps of its rows.
//!
//! Owns the sums of an arm, which add up over partitions and days. Successes are counted exactly; means and squares
//! are kept around the mean (Welford 1962; merged as in Chan, Golub and LeVeque 1983), so that merging in another order
//! changes the last bits only.

use super::{ExperimentError, check_value};
use serde::Serialize;

/// Successes among rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Arm {
    successes: u64,
    rows: u64,
}

impl Arm {
    /// Counts of an arm.
    ///
    /// # Errors
    ///
    /// If there are more successes than rows.
    pub fn new(successes: u64, rows: u64) -> Result<Self, ExperimentError> {
        if successes > rows {
            Err(ExperimentError::Successes { successes, rows })
        } else {
            Ok(Self { successes, rows })
        }
    }

    /// The successes.
    pub fn successes(&self) -> u64 {
        self.successes
    }

    /// The rows.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The share of successes; `None` without rows.
    pub fn rate(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.successes as f64 / self.rows as f64)
    }
}

/// Count, mean and spread of an arm's values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moments {
    pub(super) count: u64,
    pub(super) mean: f64,
    /// The sum of squared distances from the mean.
    pub(super) squares: f64,
}

impl Moments {
    /// Adds a row.
    ///
    /// # Errors
    ///
    /// If the value is not finite or beyond 1e30.
    pub fn add(&mut self, value: f64) -> Result<(), ExperimentError> {
        let value = check_value(value)?;
        self.count += 1;
        let before = value - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (value - self.mean);
        Ok(())
    }

    /// The moments of rows.
    ///
    /// # Errors
    ///
    /// If a value is not finite or beyond 1e30.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Result<Self, ExperimentError> {
        let mut moments = Self::default();
        values.into_iter().try_for_each(|value| moments.add(value))?;
        Ok(moments)
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: &Self) {
        let count = self.count.saturating_add(other.count);
        if other.count == 0 {
            return;
        }
        let share = other.count as f64 / count as f64;
        let apart = other.mean - self.mean;
        self.mean += apart * share;
        self.squares += other.squares + apart * apart * share * self.count as f64;
        self.count = count;
    }

    /// The number of rows.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean; `None` without rows.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then_some(self.mean)
    }

    /// The sample variance, with n - 1; `None` with fewer than two rows.
    pub fn variance(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).max(0.0))
    }
}

/// Count, means and spreads of an arm's values together with a covariate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Paired {
    pub(super) value: Moments,
    pub(super) covariate: Moments,
    /// The sum of products of distances from the means.
    pub(super) products: f64,
}

impl Paired {
    /// Adds a row: its value, and a covariate from before the experiment.
    ///
    /// # Errors
    ///
    /// If one of them is not finite or beyond 1e30. Then nothing was added.
    pub fn add(&mut self, value: f64, covariate: f64) -> Result<(), ExperimentError> {
        let (value, covariate) = (check_value(value)?, check_value(covariate)?);
        let before = value - self.value.mean;
        self.value.add(value)?;
        self.covariate.add(covariate)?;
        self.products += before * (covariate - self.covariate.mean);
        Ok(())
    }

    /// Adds the rows of another.
    pub fn merge(&mut self, other: &Self) {
        if other.value.count == 0 {
            return;
        }
        let count = self.value.count.saturating_add(other.value.count);
        let weight = self.value.count as f64 * (other.value.count as f64 / count as f64);
        let (values, covariates) = (other.value.mean - self.value.mean, other.covariate.mean - self.covariate.mean);
        self.products += other.products + values * covariates * weight;
        self.value.merge(&other.value);
        self.covariate.merge(&other.covariate);
    }

    /// The values without the covariate.
    pub fn value(&self) -> Moments {
        self.value
    }
}
