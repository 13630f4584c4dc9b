//! Tests of the bid as properties over random models, and of the fit on synthetic auctions whose truth is known.

use super::*;
use crate::random::mix;

/// A seeded generator: SplitMix64.
struct Draws(u64);

impl Draws {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Between 0 and 1, both exclusive.
    fn unit(&mut self) -> f64 {
        ((self.bits() >> 11) as f64 + 0.5) / 2.0_f64.powi(53)
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// A standard normal number (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    fn model(&mut self) -> WinRate {
        let slope = (self.between(SLOPE_MIN.ln(), SLOPE_MAX.ln())).exp().clamp(SLOPE_MIN, SLOPE_MAX);
        // The bid that wins half of the auctions lies between 0.0001 and 10 000.
        let half = self.between(100.0_f64.ln(), 1e10_f64.ln());
        let lowest = if self.unit() < 0.5 { 0 } else { self.between(0.0, 25.0).exp() as i64 };
        WinRate::new(-slope * half, slope, Cpm(lowest)).unwrap()
    }

    fn price(&mut self) -> Cpm {
        Cpm(self.between(0.0, 25.0).exp() as i64)
    }
}

fn surplus(model: &WinRate, value: Cpm, bid: Cpm) -> f64 {
    (value.0 - bid.0) as f64 * model.probability(bid)
}

#[test]
fn a_bid_is_between_floor_and_value_for_thousands_of_models() {
    let mut draws = Draws(1);
    let mut bids = 0;
    for _ in 0..50_000 {
        let (model, value, floor) = (draws.model(), draws.price(), draws.price());
        match model.shade(value, floor) {
            None => assert!(value < floor || value.0 <= 0, "{model:?} {value:?} {floor:?}"),
            Some(shaded) => {
                bids += 1;
                assert!(
                    shaded.bid <= value && shaded.bid >= floor && shaded.bid.0 > 0,
                    "{model:?} {value:?} {floor:?}"
                );
                assert!((0.0..=1.0).contains(&shaded.probability));
                assert_eq!(shaded.probability, model.probability(shaded.bid));
            }
        }
    }
    assert!(bids > 20_000, "{bids}");
}

#[test]
fn a_higher_value_or_floor_never_gives_a_lower_bid() {
    let mut draws = Draws(2);
    for round in 0..20_000 {
        let (model, value, floor) = (draws.model(), draws.price(), if round % 2 == 0 { Cpm(0) } else { draws.price() });
        // Close neighbours, where rounding would show, and distant ones.
        let further = match round % 3 {
            0 => 1,
            1 => 1 + value.0 / 10_000,
            _ => draws.price().0,
        };
        let bid = |value: i64, floor: i64| model.shade(Cpm(value), Cpm(floor)).map(|shaded| shaded.bid);
        assert!(bid(value.0, floor.0) <= bid(value.0 + further, floor.0), "{model:?} {value:?} {floor:?} {further}");
        if floor.0 + further <= value.0 {
            assert!(
                bid(value.0, floor.0) <= bid(value.0, floor.0 + further),
                "{model:?} {value:?} {floor:?} {further}"
            );
        }
    }
    // Then consecutive values.
    for _ in 0..50 {
        let (model, start) = (draws.model(), draws.price().0);
        let bids: Vec<_> = (start..start + 2_000).map(|value| model.shade(Cpm(value), Cpm(0))).collect();
        assert!(bids.is_sorted_by_key(|shaded| shaded.map(|it| it.bid)), "{model:?} {start}");
    }
}

#[test]
fn the_bid_rises_exactly_at_the_value_for_which_the_next_one_is_best() {
    let mut draws = Draws(8);
    let mut edges = 0;
    for _ in 0..20_000 {
        let model = WinRate { lowest: Cpm(0), ..draws.model() };
        let bid = round_down(draws.price().0 + 2);
        let value = model.value_of(bid).ceil();
        // Values that an `f64` can distinguish.
        if value < 2.0_f64.powi(52) {
            edges += 1;
            assert_eq!(model.best(Cpm(value as i64)), Cpm(bid), "{model:?} {value}");
            assert!(model.best(Cpm(value as i64 - 1)) < Cpm(bid), "{model:?} {value}");
        }
    }
    assert!(edges > 10_000, "{edges}");
}

#[test]
fn no_other_bid_has_more_surplus() {
    let mut draws = Draws(3);
    let mut worst = 0.0_f64;
    for _ in 0..5_000 {
        let (model, value, floor) = (draws.model(), draws.price(), draws.price());
        // Below 0.1 per thousand, whole millionths are too coarse for the comparison.
        let Some(shaded) = model.shade(value, floor).filter(|_| value.0 > 100_000) else { continue };
        let reached = surplus(&model, value, shaded.bid);
        let low = floor.max(model.lowest).min(value).0.max(1) as f64;
        let most = (0..=400)
            .map(|step| Cpm((low * (value.0 as f64 / low).powf(f64::from(step) / 400.0)) as i64))
            .filter(|bid| *bid >= floor && *bid >= model.lowest.min(value))
            .map(|bid| surplus(&model, value, bid))
            .fold(0.0, f64::max);
        if most > 0.0 {
            worst = worst.max(1.0 - reached / most);
        }
    }
    println!("surplus lost to the best of 400 other bids: at most {worst:.2e}");
    assert!(worst < 1e-5, "{worst}");
}

#[test]
fn the_approximation_is_as_near_as_it_is_trusted() {
    let mut draws = Draws(4);
    let (mut worst, mut found) = (0.0_f64, 0);
    for _ in 0..20_000 {
        let (model, value) = (draws.model(), draws.price().0 as f64);
        let near = model.approximate(value);
        if near < 1_000.0 {
            continue;
        }
        // Bisects the equation that the best bid solves.
        let (mut low, mut high) = (0.0_f64, value);
        for _ in 0..100 {
            let bid = f64::midpoint(low, high);
            let odds = (model.intercept + model.slope * bid.ln()).exp();
            if bid + bid * (1.0 + odds) / model.slope > value { high = bid } else { low = bid }
        }
        worst = worst.max((near / low - 1.0).abs());
        found += 1;
    }
    println!("{found} bids are at most {worst:.1e} away from those by bisection");
    assert!(found > 5_000 && worst < TRUSTED / 2.0, "{found} {worst}");
}

#[test]
fn values_and_models_without_sense_give_no_bid_or_no_model() {
    let model = WinRate::new(-30.0, 2.0, Cpm(0)).unwrap();
    for (value, floor) in [(0, 0), (-1, 0), (i64::MIN, i64::MIN), (5, 6), (i64::MAX - 1, i64::MAX)] {
        assert_eq!(model.shade(Cpm(value), Cpm(floor)), None, "{value} {floor}");
    }
    assert_eq!(model.shade(Cpm(5), Cpm(-7)), model.shade(Cpm(5), Cpm(0)));
    assert_eq!(model.shade(Cpm(5), Cpm(5)).unwrap().bid, Cpm(5));
    assert_eq!(model.probability(Cpm(-1)), 0.0);
    for (intercept, slope) in
        [(f64::NAN, 1.0), (f64::INFINITY, 1.0), (1e9, 1.0), (0.0, f64::NAN), (0.0, 0.0), (0.0, -1.0), (0.0, 99.0)]
    {
        assert_eq!(WinRate::new(intercept, slope, Cpm(0)), None, "{intercept} {slope}");
    }
    for intercept in [-INTERCEPT_MAX, INTERCEPT_MAX] {
        for slope in [SLOPE_MIN, SLOPE_MAX] {
            let model = WinRate::new(intercept, slope, Cpm(0)).unwrap();
            for value in [1, 2, 1_000_000, i64::MAX] {
                let shaded = model.shade(Cpm(value), Cpm(0)).unwrap();
                assert!((1..=value).contains(&shaded.bid.0) && shaded.probability.is_finite(), "{model:?} {value}");
            }
        }
    }
}

/// A market in which the bid to beat is log-logistic or log-normal, with different parameters at each placement.
struct Market {
    /// Median and scale of the logarithm of the bid to beat, by campaign and placement.
    places: Vec<(String, String, f64, f64)>,
    normal: bool,
}

impl Market {
    fn new(draws: &mut Draws, normal: bool) -> Self {
        let mut places = Vec::new();
        for campaign in 0..4 {
            let middle = 2e6_f64.ln() + 0.8 * draws.normal();
            let scale = draws.between(0.2, 0.6);
            for placement in 0..5 {
                let (median, scale) = (middle + 0.4 * draws.normal(), scale * draws.between(0.7, 1.4));
                places.push((format!("c{campaign}"), format!("p{placement}"), median, scale));
            }
        }
        Self { places, normal }
    }

    fn to_beat(&self, draws: &mut Draws, place: usize) -> Cpm {
        let (_, _, median, scale) = &self.places[place];
        let unit = draws.unit();
        // The standard deviation of the logistic distribution is 1.81 of its scale.
        let deviation = if self.normal { 1.81 * draws.normal() } else { (unit / (1.0 - unit)).ln() };
        Cpm((median + scale * deviation).exp() as i64 + 1)
    }

    fn value(&self, draws: &mut Draws, place: usize) -> Cpm {
        Cpm((self.places[place].2 + draws.between(-0.7, 1.2)).exp() as i64)
    }

    /// A log of bids at a share of the value. Some have the lowest winning bid, or the price of a second-price auction.
    fn log(&self, draws: &mut Draws, auctions: usize, told: f64) -> Notices {
        let mut notices = Notices::default();
        for auction in 0..auctions {
            let place = auction % self.places.len();
            let (to_beat, value) = (self.to_beat(draws, place), self.value(draws, place));
            let bid = Cpm((value.0 as f64 * draws.between(0.3, 1.0)) as i64);
            let won = bid >= to_beat;
            let min_to_win = (draws.unit() < told).then_some(to_beat);
            let (campaign, placement, ..) = &self.places[place];
            let price = won.then_some(bid);
            notices.observe(&Notice { campaign, placement: Some(placement), bid, won, price, min_to_win }).unwrap();
        }
        notices
    }

    /// The realised surplus of shaded, unshaded and flatly shaded bids, relative to bids by the true distribution.
    fn held_out(&self, draws: &mut Draws, rates: &WinRates, auctions: usize) -> [f64; 3] {
        let mut earned = [0.0; 3];
        let mut best = 0.0;
        let oracles: Vec<Vec<(i64, f64)>> = (0..self.places.len()).map(|place| self.chances(place)).collect();
        for auction in 0..auctions {
            let place = auction % self.places.len();
            let (to_beat, value) = (self.to_beat(draws, place), self.value(draws, place));
            let gain = |bid: Cpm| if bid >= to_beat { (value.0 - bid.0) as f64 } else { 0.0 };
            let (campaign, placement, ..) = &self.places[place];
            let shaded = rates.of(campaign, Some(placement)).and_then(|rate| rate.shade(value, Cpm(0)));
            earned[0] += gain(shaded.map_or(value, |it| it.bid));
            earned[1] += gain(value);
            earned[2] += gain(Cpm(value.0 * 7 / 10));
            let expected = |(bid, chance): &(i64, f64)| (value.0 - bid) as f64 * chance;
            let oracle = oracles[place].iter().max_by(|a, b| expected(a).total_cmp(&expected(b))).unwrap();
            best += gain(Cpm(oracle.0.min(value.0)));
        }
        earned.map(|earned| earned / best)
    }

    /// The true probability of a win on a fine grid of bids.
    fn chances(&self, place: usize) -> Vec<(i64, f64)> {
        let (_, _, median, scale) = &self.places[place];
        let mut chances: Vec<(i64, f64)> = Vec::new();
        let mut normal = 0.0;
        for step in -300..=300 {
            let off = f64::from(step) / 60.0;
            // The normal distribution, integrated by the rectangle rule.
            normal += (-off * off / 2.0).exp() / std::f64::consts::TAU.sqrt() / 60.0;
            let (log, chance) = if self.normal {
                (median + scale * 1.81 * (off + 0.5 / 60.0), normal)
            } else {
                (median + scale * off, 1.0 / (1.0 + (-off).exp()))
            };
            chances.push((log.exp() as i64, chance));
        }
        chances
    }
}

#[test]
fn on_a_held_out_log_the_surplus_is_within_three_percent_of_the_optimum() {
    for normal in [false, true] {
        for (told, auctions) in [(0.0, 60_000), (0.3, 30_000), (1.0, 10_000)] {
            let mut draws = Draws(40);
            let market = Market::new(&mut draws, normal);
            let rates = market.log(&mut draws, auctions, told).fit();
            let [shaded, unshaded, flat] = market.held_out(&mut draws, &rates, 200_000);
            println!(
                "{} truth, {auctions} notices, {told} with the least bid to win: surplus {:.2} % of the optimum, \
                 unshaded {:.2} %, 30 % off {:.2} %",
                if normal { "log-normal" } else { "logistic" },
                100.0 * shaded,
                100.0 * unshaded,
                100.0 * flat
            );
            assert!(shaded > 0.97 && shaded > unshaded && shaded > flat, "{shaded} {unshaded} {flat}");
        }
    }
}

#[test]
fn the_fit_finds_the_true_curve_and_the_least_bid_to_win_sharpens_it() {
    let mut errors = [0.0; 2];
    for seed in 0..30 {
        for (error, told) in errors.iter_mut().zip([0.0, 1.0]) {
            let mut draws = Draws(700 + seed);
            let market = Market::new(&mut draws, false);
            let rates = market.log(&mut draws, 6_000, told).fit();
            for (campaign, placement, median, scale) in &market.places {
                let rate = rates.of(campaign, Some(placement)).unwrap();
                *error += (rate.slope * scale - 1.0).powi(2) / 600.0;
                *error += ((-rate.intercept / rate.slope) - median).powi(2) / 600.0;
            }
        }
    }
    let [untold, told] = errors.map(f64::sqrt);
    println!("error of slope and median together with 300 notices a placement: {untold:.3} without, {told:.3} with");
    assert!(told < 0.15 && told < 0.7 * untold, "{told} {untold}");
}

#[test]
fn second_prices_are_understood_as_the_bid_to_beat() {
    let mut draws = Draws(9);
    let market = Market { places: vec![("c".into(), "p".into(), 2e6_f64.ln(), 0.4)], normal: false };
    let mut notices = Notices::default();
    for _ in 0..20_000 {
        let to_beat = market.to_beat(&mut draws, 0);
        let bid = market.value(&mut draws, 0);
        let won = bid >= to_beat;
        let price = won.then_some(to_beat);
        let placement = Some("p");
        notices.observe(&Notice { campaign: "c", placement, bid, won, price, min_to_win: None }).unwrap();
    }
    let rates = notices.fit();
    let rate = rates.of("c", Some("p")).unwrap();
    let median = (-rate.intercept / rate.slope).exp() / 2e6;
    println!("slope {:.3} of 2.5, median {:.3} of 1", rate.slope, median);
    assert!((rate.slope / 2.5 - 1.0).abs() < 0.05 && (median - 1.0).abs() < 0.02, "{rate:?}");
}

#[test]
fn too_few_notices_take_the_level_above_and_none_turn_shading_off() {
    let mut draws = Draws(5);
    let market = Market::new(&mut draws, false);
    assert_eq!(Notices::default().fit(), WinRates::default());
    assert_eq!(WinRates::default().of("c0", Some("p0")), None);
    let mut notices = market.log(&mut draws, 2_000, 0.0);
    let notice = |campaign, placement, won| Notice {
        campaign,
        placement: Some(placement),
        bid: Cpm(2_000_000),
        won,
        price: None,
        min_to_win: None,
    };
    for _ in 0..fit::NOTICES_MIN - 1 {
        notices.observe(&notice("c0", "rare", true)).unwrap();
        notices.observe(&notice("rare", "p0", true)).unwrap();
    }
    let rates = notices.fit();
    assert_eq!(rates.of("c0", Some("rare")), rates.of("c0", None));
    assert_eq!(rates.of("c0", Some("never")), rates.of("c0", None));
    assert_eq!(rates.of("rare", Some("p0")), rates.all.as_ref());
    assert_eq!(rates.of("never", None), rates.all.as_ref());
    assert_ne!(rates.of("c0", Some("p0")), rates.of("c0", None));
    assert!(rates.all.is_some());
    // One more notice makes a model. Its level lies between its own wins and the level above.
    notices.observe(&notice("c0", "rare", true)).unwrap();
    let rates = notices.fit();
    let (own, above) = (rates.of("c0", Some("rare")).unwrap(), rates.of("c0", None).unwrap());
    assert!(own.probability(Cpm(2_000_000)) > above.probability(Cpm(2_000_000)));
    assert!(own.probability(Cpm(2_000_000)) < 1.0);
    // Its prior is the level above at its own bids. If that one nearly always wins, fifty wins do not lower it.
    for _ in 0..fit::NOTICES_MIN {
        notices.observe(&Notice { bid: Cpm(60_000_000), ..notice("c0", "dear", true) }).unwrap();
    }
    let rates = notices.fit();
    let chance = rates.of("c0", Some("dear")).unwrap().probability(Cpm(60_000_000));
    assert!(chance > 0.98, "{chance}");
    // Wins without losses say nothing about a bid that loses.
    let wins: Vec<_> = (0..1_000).map(|_| notice("a", "p", true)).collect();
    assert_eq!(fit(&wins), WinRates::default());
}

#[test]
fn the_fit_does_not_depend_on_order_or_parts_and_is_always_a_model() {
    let mut draws = Draws(6);
    let mut notices: Vec<(i64, bool)> = (0..4_000).map(|_| (draws.price().0 + 1, draws.unit() < 0.3)).collect();
    let count = |notices: &[(i64, bool)]| {
        let mut kept = Notices::default();
        for &(bid, won) in notices {
            let (campaign, placement) = (["a", "b"][bid as usize % 2], Some(["p", "q", "r"][bid as usize % 3]));
            kept.observe(&Notice { campaign, placement, bid: Cpm(bid), won, price: None, min_to_win: None }).unwrap();
        }
        kept
    };
    let whole = count(&notices);
    let (mut left, right) = (count(&notices[..1_234]), count(&notices[1_234..]));
    assert_eq!(left.merge(&right), 0);
    notices.reverse();
    assert_eq!((&left, &count(&notices)), (&whole, &whole));
    assert_eq!(format!("{:?}", left.fit()), format!("{:?}", whole.fit()));
    // Wins that fall with the bid, all at one bid, or at the ends of the range always give a model within its bounds.
    for round in 0..300 {
        let (low, high) = (draws.price().0 + 1, draws.price().0 + 1);
        let notices: Vec<_> = (0..400)
            .map(|number| if number % 2 == 0 { (low, number % 4 == 0) } else { (high, round % 2 == 0) })
            .collect();
        let rates = count(&notices).fit();
        let models = rates.campaigns.values().flat_map(|it| it.placements.values().chain([&it.all])).chain(&rates.all);
        for model in models {
            assert_eq!(WinRate::new(model.intercept, model.slope, model.lowest), Some(*model));
        }
    }
}
