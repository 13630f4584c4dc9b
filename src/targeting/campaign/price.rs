//! What an impression is worth to a campaign, and how much the campaign may bid for it.
//!
//! - **Value** is a whole number of micros. A number or the result of an expression is rounded to the nearest micro,
//!   with halves away from zero. A missing or negative result is no value.
//! - **Hint** is 1000 · probability · value as a CPM, rounded down to a whole micro. For impressions, the value is the
//!   CPM itself, and the hint equals the value without further rounding. The value of one impression, as decisions show
//!   it, is a thousandth of that, rounded to the nearest micro.
//! - **Bid** is the hint, limited by the ceiling. If that is below the floor, or below one micro, there is no bid.
//!
//! A bid is therefore never above the ceiling or the worth of the impression, never below the floor, and the same on
//! every machine. Limits: amounts saturate at 9.2 · 10¹² units, and floats are exact to one part in 2⁵¹.

use super::{
    budget::CostBounds,
    spec::{Amount, CampaignSpec, Chance},
};
use crate::{
    columns::{Columns, Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope, nearest},
    targeting::money::{Cpm, Currency, Micros},
};

/// The smallest bid.
const BID_MIN: Cpm = Cpm(1);

/// The score that rules use. The names of heads' scores start with it, too.
const SCORE: &str = "score";

/// Where a value comes from.
#[derive(Clone, Copy, Debug)]
enum Value {
    Constant(Micros),
    Column(Slot),
}

/// Where a probability comes from.
#[derive(Clone, Copy, Debug)]
enum Probability {
    Constant(f64),
    Column(Slot),
}

/// How a campaign prices an impression.
#[derive(Clone, Debug)]
pub(super) struct Price {
    /// Whether the value is a CPM.
    is_cpm: bool,
    value: Value,
    probability: Probability,
    floor: Cpm,
    ceiling: Cpm,
    /// The worth of an impression, if it is the same for all.
    constant: Option<Worth>,
}

/// The worth of an impression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Worth {
    /// The value of the action.
    pub(super) value: Micros,
    /// The probability that the action follows.
    pub(super) probability: f64,
    /// 1000 · probability · value.
    pub(super) hint: Cpm,
}

impl Price {
    /// Compiles value, probability and limits. Errors are added under `campaign[index]`. With errors, the returned
    /// price is meaningless.
    pub(super) fn compile(
        index: usize,
        spec: &CampaignSpec,
        heads: &[String],
        (program, scope): (&mut Program, &mut Scope),
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let key = |rest: &str| format!("campaign[{index}].{rest}");
        let is_cpm = spec.action.as_deref().is_none_or(|action| action == super::caps::IMPRESSION);
        let value = match spec.value.as_ref().map(Amount::folded) {
            None => {
                errors.push(
                    ConfigError::new(key("value"), format!("campaign {:?} has no value", spec.id))
                        .hint("set what one action is worth; for impressions, the CPM"),
                );
                None
            }
            Some(Amount::Number(number)) => match Micros::from_units(number) {
                Ok(value) if value > Micros::ZERO => Some(Value::Constant(value)),
                _ => {
                    let message = format!("{number:?} is not an amount from 0.000001 to 9.2e12");
                    errors.push(
                        ConfigError::new(key("value"), message).hint("write units of the currency, such as 0.50"),
                    );
                    None
                }
            },
            Some(Amount::Expression(text)) => match program.add(scope, &text, Some(Type::Double)) {
                Ok(slot) => Some(Value::Column(slot)),
                Err(error) => {
                    errors.push(error.config_error(key("value")));
                    None
                }
            },
        };
        let probability = probability(index, spec, heads, scope, errors);
        let mut limit = |part: &str, amount: Option<f64>| {
            let amount = amount?;
            let found = Micros::from_units(amount).ok().filter(|found| *found >= Micros::ZERO);
            if found.is_none() {
                let message = format!("{amount} is not an amount of at least 0");
                errors.push(
                    ConfigError::new(key(part), message).hint("write a CPM in units of the currency, such as 1.20"),
                );
            }
            found.map(|found| Cpm(found.0))
        };
        let (floor, ceiling) = (limit("floor", spec.floor), limit("ceiling", spec.ceiling));
        let mut price = Self {
            is_cpm,
            value: value.unwrap_or(Value::Constant(Micros::ZERO)),
            probability: probability.unwrap_or(Probability::Constant(1.0)),
            floor: floor.unwrap_or_default().max(BID_MIN),
            ceiling: ceiling.unwrap_or(Cpm::MAX),
            constant: None,
        };
        if let (Value::Constant(value), Probability::Constant(probability)) = (price.value, price.probability) {
            price.constant = price.of(value, probability);
        }
        let shown = |price: Cpm| Micros(price.0).to_string();
        if price.ceiling < BID_MIN {
            let error = ConfigError::new(key("ceiling"), "a ceiling of 0 lets the campaign never bid");
            errors.push(error.hint("raise the ceiling, or remove the campaign"));
        } else if price.floor > price.ceiling {
            let message = format!("a floor of {} is above the ceiling of {}", shown(price.floor), shown(price.ceiling));
            errors.push(ConfigError::new(key("floor"), message).hint("lower the floor, or raise the ceiling"));
        }
        if value.is_some()
            && let Some(most) = price.most().filter(|most| price.floor > *most)
        {
            let message = format!(
                "a floor of {} is above the value: an impression is worth at most {} per thousand",
                shown(price.floor),
                shown(most)
            );
            errors.push(ConfigError::new(key("floor"), message).hint("lower the floor, or raise the value"));
        }
        price
    }

    /// The highest possible worth as a CPM, if the value is a number.
    fn most(&self) -> Option<Cpm> {
        let Value::Constant(value) = self.value else { return None };
        let probability = if let Probability::Constant(it) = self.probability { it } else { 1.0 };
        self.of(value, probability).map(|worth| worth.hint)
    }

    /// The declared floor, or 0.
    pub(super) fn floor(&self) -> Cpm {
        if self.floor > BID_MIN { self.floor } else { Cpm(0) }
    }

    /// The worth of an impression for the user of a row. `None` if the value or the probability is missing or invalid.
    pub(super) fn worth(&self, columns: &Columns, row: usize) -> Option<Worth> {
        if self.constant.is_some() {
            return self.constant;
        }
        let value = match self.value {
            Value::Constant(value) => value,
            Value::Column(slot) => Micros::from_units(columns.get(slot).doubles()[row]).ok()?,
        };
        let probability = match self.probability {
            Probability::Constant(probability) => probability,
            Probability::Column(slot) => columns.get(slot).doubles()[row],
        };
        self.of(value, probability)
    }

    fn of(&self, value: Micros, probability: f64) -> Option<Worth> {
        if self.is_cpm {
            let hint = Cpm(value.0);
            return (value.0 >= 0).then(|| Worth { value: hint.per_impression(), probability: 1.0, hint });
        }
        Cpm::hint(probability, value).map(|hint| Worth { value, probability, hint })
    }

    /// The bid for a hint. `None` if it would be below the floor.
    pub(super) fn bid(&self, hint: Cpm) -> Option<Cpm> {
        Some(hint.min(self.ceiling)).filter(|bid| *bid >= self.floor)
    }
}

/// What bounds the cost of an impression.
pub(super) fn cost_bounds(spec: &CampaignSpec) -> CostBounds {
    let is_cpm = spec.action.as_deref().is_none_or(|action| action == super::caps::IMPRESSION);
    let value = spec.value.as_ref().and_then(|value| match value.folded() {
        Amount::Number(number) => Some(number),
        Amount::Expression(_) => None,
    });
    CostBounds { ceiling: spec.ceiling, value: value.filter(|_| is_cpm) }
}

fn probability(
    index: usize,
    spec: &CampaignSpec,
    heads: &[String],
    scope: &Scope,
    errors: &mut Vec<ConfigError>,
) -> Option<Probability> {
    let key = |rest: &str| format!("campaign[{index}].{rest}");
    let action = spec.action.as_deref();
    match (&spec.probability, action) {
        (None, None) => return Some(Probability::Constant(1.0)),
        (Some(_), None) => {
            errors.push(
                ConfigError::new(key("action"), "there is a probability, and nothing says of what")
                    .hint("set action = \"click\", or whatever the score predicts"),
            );
        }
        (_, Some(action)) if action.is_empty() || action.contains(char::is_control) => {
            errors.push(
                ConfigError::new(key("action"), format!("{action:?} is not a type of event"))
                    .hint("for instance \"click\" or \"conversion\"; an impression if absent"),
            );
        }
        (None, Some(super::caps::IMPRESSION)) => return Some(Probability::Constant(1.0)),
        (Some(_), Some(super::caps::IMPRESSION)) => {
            errors.push(
                ConfigError::new(key("probability"), "an impression is paid for whatever follows it")
                    .hint("remove it, or set action to what is paid for"),
            );
        }
        (None, Some(action)) => {
            errors.push(
                ConfigError::new(key("probability"), format!("nothing says how likely a {action} is"))
                    .hint("set probability = \"score\", the name of a head, or a number"),
            );
            return None;
        }
        (Some(_), Some(_)) => {}
    }
    match spec.probability.as_ref()? {
        Chance::Number(number) if *number > 0.0 && *number <= 1.0 => Some(Probability::Constant(*number)),
        Chance::Number(number) => {
            let message = format!("{number} is not above 0 and at most 1");
            errors.push(ConfigError::new(key("probability"), message).hint("for instance 0.002 for two in a thousand"));
            None
        }
        Chance::Score(name) => {
            let is_head = heads.contains(name);
            let full = if is_head { format!("{SCORE}.{name}") } else { SCORE.to_owned() };
            let found = scope.get(&full).filter(|_| is_head || name == SCORE);
            if found.is_none() {
                let error = ConfigError::new(key("probability"), format!("the model has no score {name:?}"));
                let known = || heads.iter().map(String::as_str).chain([SCORE]);
                errors.push(match nearest(name, known()) {
                    _ if name.trim().parse::<f64>().is_ok() => error.hint("write a number without quotes"),
                    Some(near) => error.hint(format!("did you mean {near:?}?")),
                    None => error.hint(format!("write one of {}", known().collect::<Vec<_>>().join(", "))),
                });
            }
            found.map(|(slot, _)| Probability::Column(slot))
        }
    }
}

/// The currency of a campaign. Errors are added under `campaign[index]`.
pub(super) fn currency(index: usize, spec: &CampaignSpec, errors: &mut Vec<ConfigError>) -> Option<Currency> {
    let key = || format!("campaign[{index}].currency");
    let Some(text) = &spec.currency else {
        errors.push(
            ConfigError::new(key(), format!("campaign {:?} has no currency", spec.id))
                .hint("set currency = \"EUR\", or another code of ISO 4217"),
        );
        return None;
    };
    text.parse()
        .inspect_err(|error| {
            errors.push(ConfigError::new(key(), format!("{text:?} is {error}")).hint("write its three capitals"));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(text: &str) -> (Price, Vec<String>) {
        let spec: CampaignSpec = toml::from_str(&format!("id = \"a\"\n{text}")).unwrap();
        let (mut program, mut scope, mut errors) = (Program::default(), Scope::default(), Vec::new());
        for name in ["score", "score.buy", "margin"] {
            scope.declare(name, Type::Double).unwrap();
        }
        let price = Price::compile(2, &spec, &["buy".to_owned()], (&mut program, &mut scope), &mut errors);
        (price, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn the_bid_is_in_whole_micros_and_rounded_down_once() {
        for (text, value, hint, bid) in [
            // Half a unit, one click in a hundred: 5.00 per thousand.
            ("action = \"click\"\nvalue = 0.5\nprobability = 0.01", 500_000, 5_000_000, Some(5_000_000)),
            // 1000 · 0.001 · 1234567 = 1234567.0, although 0.001 is not exact as a float.
            ("action = \"click\"\nvalue = 1.234567\nprobability = 0.001", 1_234_567, 1_234_567, Some(1_234_567)),
            ("action = \"click\"\nvalue = 0.000001\nprobability = 0.0015", 1, 1, Some(1)),
            // Below a micro there is no bid.
            ("action = \"click\"\nvalue = 0.000001\nprobability = 0.0005", 1, 0, None),
            ("value = 2.5", 2_500, 2_500_000, Some(2_500_000)),
            // The CPM stays as it was given; only the value of a single impression is rounded.
            ("value = 0.001499", 1, 1_499, Some(1_499)),
            ("value = 0.0015", 2, 1_500, Some(1_500)),
            ("value = 5\nceiling = 4", 5_000, 5_000_000, Some(4_000_000)),
            ("value = 5\nfloor = 5", 5_000, 5_000_000, Some(5_000_000)),
            (
                "action = \"conversion\"\nvalue = 9.0e12\nprobability = 1",
                9_000_000_000_000_000_000,
                i64::MAX,
                Some(i64::MAX),
            ),
        ] {
            let (price, _) = price(text);
            let worth = price.worth(&Columns::default(), 0).unwrap();
            assert_eq!((worth.value, worth.hint), (Micros(value), Cpm(hint)), "{text}");
            assert_eq!(price.bid(worth.hint), bid.map(Cpm), "{text}");
        }
    }

    #[test]
    fn a_bid_between_floor_and_ceiling_is_left_alone_and_one_below_the_floor_is_none() {
        let (price, errors) = price("value = \"margin\"\nfloor = 1.2\nceiling = 3");
        assert_eq!(errors, [""; 0]);
        for (hint, bid) in [
            (0, None),
            (1_199_999, None),
            (1_200_000, Some(1_200_000)),
            (2_000_001, Some(2_000_001)),
            (3_000_000, Some(3_000_000)),
            (3_000_001, Some(3_000_000)),
            (i64::MAX, Some(3_000_000)),
        ] {
            assert_eq!(price.bid(Cpm(hint)), bid.map(Cpm), "{hint}");
        }
    }

    #[test]
    fn wrong_prices_are_reported_with_their_key_and_the_next_step() {
        for (text, expected) in [
            ("value = 2.5", ""),
            ("action = \"impression\"\nvalue = 2.5", ""),
            ("action = \"click\"\nvalue = \"margin * 0.1\"\nprobability = \"buy\"", ""),
            ("action = \"click\"\nvalue = 1\nprobability = \"score\"\nfloor = 1000", ""),
            ("", "value: campaign \"a\" has no value; set"),
            ("value = 0", "value: 0.0 is not an amount from 0.000001 to 9.2e12; write"),
            ("value = -1.5", "value: -1.5 is not an amount from 0.000001"),
            ("value = 1e13", "value: 10000000000000.0 is not an amount"),
            ("value = 1e300", "value: 1e300 is not an amount"),
            ("value = \"marjin\"", "value (1:1): nothing here is named \"marjin\""),
            ("value = \"true\"", "value (1:1): expected a double"),
            ("value = 1\nprobability = 0.1", "action: there is a probability, and nothing says of what; set action"),
            ("value = 1\naction = \"impression\"\nprobability = 0.1", "probability: an impression is paid for"),
            ("value = 1\naction = \"click\"", "probability: nothing says how likely a click is; set"),
            ("value = 1\naction = \"\"", "action: \"\" is not a type of event"),
            ("value = 1\naction = \"click\"\nprobability = 1.5", "probability: 1.5 is not above 0"),
            ("value = 1\naction = \"click\"\nprobability = 0", "probability: 0 is not above 0"),
            (
                "value = 1\naction = \"click\"\nprobability = \"bui\"",
                "probability: the model has no score \"bui\"; did you mean \"buy\"?",
            ),
            (
                "value = 1\naction = \"click\"\nprobability = \"margin\"",
                "probability: the model has no score \"margin\"; write one of buy, score",
            ),
            ("value = 1\nfloor = -1", "floor: -1 is not an amount of at least 0; write"),
            ("value = 1\nceiling = nan", "ceiling: NaN is not an amount"),
            ("value = 9\nfloor = 3\nceiling = 2.5", "floor: a floor of 3.00 is above the ceiling of 2.50; lower"),
            (
                "value = 2\nfloor = 3",
                "floor: a floor of 3.00 is above the value: an impression is worth at most 2.00 per thousand; lower",
            ),
            (
                "action = \"click\"\nvalue = 1\nprobability = 0.001\nfloor = 1.01",
                "floor: a floor of 1.01 is above the value: an impression is worth at most 1.00",
            ),
            (
                "action = \"click\"\nvalue = 1\nprobability = \"score\"\nfloor = 1000.01",
                "floor: a floor of 1000.01 is above the value",
            ),
            ("value = 9\nceiling = 0", "ceiling: a ceiling of 0 lets the campaign never bid; raise"),
        ] {
            let (_, found) = price(text);
            if expected.is_empty() {
                assert_eq!(found, [""; 0], "{text}");
            } else {
                assert_eq!(found.len(), 1, "{text}: {found:?}");
                assert!(found[0].starts_with(&format!("campaign[2].{expected}")), "{text}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_missing_or_impossible_is_worth_nothing_that_is_known() {
        let (mut program, mut scope, mut errors) = (Program::default(), Scope::default(), Vec::new());
        let [score, margin] = ["score", "margin"].map(|name| scope.declare(name, Type::Double).unwrap());
        let spec = "id = \"a\"\naction = \"click\"\nvalue = \"margin\"\nprobability = \"score\"";
        let spec: CampaignSpec = toml::from_str(spec).unwrap();
        let price = Price::compile(0, &spec, &[], (&mut program, &mut scope), &mut errors);
        assert_eq!(errors, []);
        for (probability, value, hint) in [
            (0.5, 2.0, Some(1_000_000_000)),
            (f64::NAN, 2.0, None),
            (0.5, f64::NAN, None),
            (1.000_001, 2.0, None),
            (-0.1, 2.0, None),
            (0.5, -0.01, None),
            (0.5, 1e13, None),
            (0.0, 2.0, Some(0)),
        ] {
            let mut columns = scope.columns();
            columns.get_mut(score).doubles_mut().push(probability);
            columns.get_mut(margin).doubles_mut().push(value);
            program.run(&mut columns, 1);
            assert_eq!(price.worth(&columns, 0).map(|worth| worth.hint), hint.map(Cpm), "{probability} of {value}");
        }
    }

    #[test]
    fn a_currency_is_a_code_in_capitals() {
        for (text, expected) in [
            ("", "campaign[1].currency: campaign \"a\" has no currency; set"),
            ("currency = \"eur\"", "campaign[1].currency: \"eur\" is not a currency code"),
            ("currency = \"EUR\"", ""),
        ] {
            let spec: CampaignSpec = toml::from_str(&format!("id = \"a\"\n{text}")).unwrap();
            let mut errors = Vec::new();
            let found = currency(1, &spec, &mut errors);
            assert_eq!(found.is_some(), expected.is_empty());
            assert!(errors.iter().all(|error| error.to_string().starts_with(expected)), "{errors:?}");
        }
    }
}
