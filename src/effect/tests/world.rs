//! A generated log whose truth is known, and its figures counted again in the plainest way.

use super::*;

/// What is true of an offer, as the generator knows it.
#[derive(Clone, Debug)]
pub(in crate::effect) struct Truth {
    pub(in crate::effect) campaign: &'static str,
    pub(in crate::effect) version: &'static str,
    pub(in crate::effect) user: u64,
    pub(in crate::effect) arm: &'static str,
    pub(in crate::effect) predicted: f64,
    pub(in crate::effect) price: Option<i64>,
    pub(in crate::effect) shown_at: Option<i64>,
    pub(in crate::effect) clicked_at: Option<i64>,
    pub(in crate::effect) converted_at: Option<i64>,
    pub(in crate::effect) value: i64,
}

#[derive(Default)]
pub(in crate::effect) struct World {
    pub(in crate::effect) decisions: Vec<(i64, String)>,
    pub(in crate::effect) outcomes: Vec<(i64, String)>,
    pub(in crate::effect) truth: Vec<Truth>,
    pub(in crate::effect) held_out: BTreeSet<u64>,
    pub(in crate::effect) held_out_converted: BTreeSet<u64>,
    pub(in crate::effect) end: i64,
}

impl World {
    fn outcome(&mut self, at: i64, number: usize, kind: &str, more: &str) {
        let id = self.outcomes.len();
        let campaign = self.truth[number].campaign;
        self.outcomes.push((
            at,
            format!(
                r#"{{"outcome_id":"o{id}","type":"{kind}","occurred_at":{at},"decision_id":"shop:d-0-{number}","campaign_id":"{campaign}"{more}}}"#
            ),
        ));
    }

    /// Three days of decisions about 600 users. The first model is calibrated, the second says twice the rate.
    pub(in crate::effect) fn new(seed: u64, decisions: usize) -> Self {
        let mut draws = Draws(seed);
        let mut world = Self::default();
        for number in 0..decisions {
            let at = START + number as i64 * 72 * HOUR / decisions as i64;
            world.end = at;
            let user = draws.below(600);
            let campaign = ["spring", "summer", "autumn"][draws.below(3) as usize];
            // A quarter each is held out and in the arm `bold`.
            let part = mix(user) % 4;
            if campaign == "spring" && part == 0 {
                let suppressed = r#""suppressed":[{"campaign_id":"spring","reason":"holdout"}]"#;
                let line = format!(
                    r#"{{"decision_id":"shop:d-0-h{number}","user_key":"u{user}","decided_at":"{at}",{suppressed}}}"#
                );
                world.decisions.push((at, line));
                world.held_out.insert(user);
                if draws.chance(0.02) {
                    let line = format!(
                        r#"{{"outcome_id":"h{number}","type":"conversion","occurred_at":{0},"user_key":"u{user}","campaign_id":"spring","value":3}}"#,
                        at + 60 * SECOND
                    );
                    world.outcomes.push((at + 60 * SECOND, line));
                    world.held_out_converted.insert(user);
                }
                continue;
            }
            let arm = if campaign != "spring" {
                ""
            } else if part == 1 {
                "bold"
            } else {
                "control"
            };
            let version = ["1", "2"][draws.below(2) as usize];
            let rate = 0.05 * (1 + draws.below(8)) as f64;
            let predicted = if version == "1" { rate } else { 2.0 * rate };
            let currency = if campaign == "summer" { "USD" } else { "EUR" };
            let mut truth = Truth {
                campaign,
                version,
                user,
                arm,
                predicted,
                price: None,
                shown_at: None,
                clicked_at: None,
                converted_at: None,
                value: 0,
            };
            let index = world.truth.len();
            world.decisions.push((
                at,
                format!(
                    r#"{{"decision_id":"shop:d-0-{index}","user_key":"u{user}","decided_at":"{at}","expires_at":"{}","model":{{"name":"m","version":"{version}"}},"campaigns":[{{"id":"{campaign}","arm":"{arm}","probability":{predicted},"bid_micros":"4000000","currency":"{currency}"}}]}}"#,
                    at + 60 * SECOND
                ),
            ));
            let clicks = draws.chance(if campaign == "spring" && arm == "bold" { rate * 1.5 } else { rate });
            let converts = campaign == "summer" && draws.chance(rate);
            if draws.chance(0.6) {
                truth.price = Some(1_000_000 + draws.below(2_000_000) as i64);
                truth.shown_at = Some(at + 2 * SECOND);
                let clicked_at = at + (3 + draws.below(1_000) as i64) * SECOND;
                truth.clicked_at = (clicks || converts).then_some(clicked_at);
                truth.converted_at = converts.then_some(clicked_at + (1 + draws.below(9_000) as i64) * SECOND);
                truth.value = 5 * i64::from(converts);
            }
            world.truth.push(truth.clone());
            match truth.price {
                Some(price) => {
                    let price = format!(r#","price":{}"#, price as f64 / 1e6);
                    world.outcome(at + SECOND, index, "win", &price);
                    world.outcome(at + 2 * SECOND, index, "impression", "");
                }
                None => world.outcome(at + SECOND, index, "loss", ""),
            }
            if let Some(at) = truth.clicked_at {
                world.outcome(at, index, "click", "");
            }
            if let Some(at) = truth.converted_at {
                world.outcome(at, index, "conversion", r#","value":5"#);
            }
        }
        world.outcomes.sort_by_key(|(at, _)| *at);
        // What happens after the last decision is not in the log yet.
        let end = world.end;
        world.outcomes.retain(|(at, _)| *at <= end);
        world
    }
}

/// The figures of some offers, counted again in the plainest way.
pub(in crate::effect) struct Recount {
    pub(in crate::effect) offers: u64,
    pub(in crate::effect) impressions: u64,
    pub(in crate::effect) clicks: u64,
    pub(in crate::effect) conversions: u64,
    pub(in crate::effect) spend: i64,
    pub(in crate::effect) click_rate: (u64, u64),
    pub(in crate::effect) conversion_rate: (u64, u64),
    pub(in crate::effect) predictions: Vec<Prediction>,
}

pub(in crate::effect) fn recount(world: &World, is_in: impl Fn(&Truth) -> bool) -> Recount {
    let end = world.end;
    let by = |at: Option<i64>| at.is_some_and(|at| at <= end);
    let mut found = Recount {
        offers: 0,
        impressions: 0,
        clicks: 0,
        conversions: 0,
        spend: 0,
        click_rate: (0, 0),
        conversion_rate: (0, 0),
        predictions: Vec::new(),
    };
    for it in world.truth.iter().filter(|it| is_in(it)) {
        found.offers += 1;
        let Some(shown_at) = it.shown_at else { continue };
        // A win is a second after its decision.
        found.spend += if shown_at - SECOND <= end { (it.price.unwrap() + 500) / 1_000 } else { 0 };
        if shown_at > end {
            continue;
        }
        found.impressions += 1;
        found.clicks += u64::from(by(it.clicked_at));
        found.conversions += u64::from(by(it.converted_at));
        let within = |at: Option<i64>, after: i64| at.is_some_and(|at| at <= shown_at + after);
        if shown_at + CLICK_AFTER <= end {
            let clicked = within(it.clicked_at, CLICK_AFTER);
            found.click_rate.0 += u64::from(clicked);
            found.click_rate.1 += 1;
            if it.campaign == "spring" {
                found.predictions.push(Prediction { probability: it.predicted, label: clicked });
            }
        }
        if shown_at + CONVERSION_AFTER <= end {
            let converted = within(it.converted_at, CONVERSION_AFTER);
            if within(it.clicked_at, CONVERSION_AFTER) {
                found.conversion_rate.0 += u64::from(converted);
                found.conversion_rate.1 += 1;
            }
            if it.campaign == "summer" {
                found.predictions.push(Prediction { probability: it.predicted, label: converted });
            }
        }
    }
    found
}

pub(in crate::effect) fn same(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
}

pub(in crate::effect) fn check(of: &GroupReport, expected: &Recount) {
    let name = &of.name;
    let counts = (of.offers, of.impressions, of.clicks, of.conversions);
    assert_eq!(counts, (expected.offers, expected.impressions, expected.clicks, expected.conversions), "{name}");
    let spend: i64 = of.money.values().filter_map(|money| money.spend_micros).sum();
    let revenue: i64 = of.money.values().map(|money| money.revenue_micros).sum();
    assert_eq!((spend, revenue), (expected.spend, 5_000_000 * expected.conversions as i64), "{name}");
    for (rate, (count, all)) in [(of.click_rate, expected.click_rate), (of.conversion_rate, expected.conversion_rate)] {
        let Some(rate) = rate else {
            assert_eq!(all, 0, "{name}");
            continue;
        };
        assert_eq!((rate.count, rate.of), (count, all), "{name}");
        let interval = wilson(count, all, Confidence::P95).unwrap();
        assert_eq!(rate.interval, interval, "{name}");
    }
    let rows = &expected.predictions;
    assert_eq!(of.immature_labels + of.unpredicted + rows.len() as u64, of.impressions, "{name}");
    let Some(quality) = &of.quality else {
        assert!(rows.len() < 100, "{name}");
        return;
    };
    let figures = &quality.figures;
    assert_eq!(figures.rows, rows.len() as u64, "{name}");
    same(figures.log_loss.unwrap(), log_loss(rows).unwrap());
    same(figures.normalised_entropy.unwrap(), normalised_entropy(rows).unwrap());
    same(figures.brier.unwrap(), brier(rows).unwrap());
    same(figures.auc.unwrap().value, auc(rows).unwrap());
    let exact = Sample::of(rows).unwrap().figures(10);
    same(figures.ece.unwrap().value, exact.ece.unwrap().value);
    same(figures.pr_auc.unwrap().value, exact.pr_auc.unwrap().value);
    let (sum, positives) = rows
        .iter()
        .fold((0.0, 0.0), |(sum, positives), row| (sum + row.probability, positives + f64::from(u8::from(row.label))));
    same(figures.calibration_ratio.unwrap(), sum / positives);
}
