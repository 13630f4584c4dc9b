//! Tests of reading a policy and of deciding with it.

use super::*;
use crate::{
    random::mix,
    targeting::creative::{Catalogue, Chosen, CreativeSpec, Draw, Eligible, Floor, LinearArm},
};
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
const NOW: i64 = 1_767_225_600_000_000;

fn beta(alpha: f64, beta: f64) -> Beta {
    Beta { alpha, beta }
}

/// A policy with everything in it.
fn complete() -> Policy {
    let budget = BudgetState {
        known: true,
        exhausted: false,
        pass_through: 1 << 30,
        day: 20_454,
        spent_today_micros: 5_000_000,
        spent_total_micros: 60_000_000,
        daily_micros: Some(10_000_000),
        total_micros: None,
    };
    let rate = WinRateModel { intercept: -14.5, slope: 1.0, lowest_micros: 1_024 };
    let thompson = CreativeMethod::Thompson {
        prior: beta(1.0, 50.0),
        posteriors: [
            ("warm".to_owned(), [(EVERYBODY.to_owned(), beta(40.0, 60.0))].into()),
            (
                "cold".to_owned(),
                [(EVERYBODY.to_owned(), beta(2.0, 98.0)), ("sport".to_owned(), beta(90.0, 10.0))].into(),
            ),
        ]
        .into(),
    };
    let mut arm = LinearArm::new(2, 1.0).unwrap();
    assert!(arm.update(&[1.0, 0.3], 1.0));
    let linear = LinearPolicy {
        ridge: 1.0,
        features: vec!["one".to_owned(), "age".to_owned()],
        posteriors: [("b".to_owned(), arm.posterior().unwrap())].into(),
    };
    let campaign = |budget, method| CampaignPolicy {
        currency: "EUR".to_owned(),
        budget,
        win_rate: Some(rate),
        placements: [("top".to_owned(), WinRateModel { slope: 2.0, ..rate })].into(),
        creatives: Some(CreativePolicy { floor: 0.01, method }),
    };
    Policy {
        schema_version: SCHEMA_VERSION,
        version: 42,
        issued_at: NOW,
        app: "shop".to_owned(),
        campaigns: [
            ("spring".to_owned(), campaign(Some(budget), thompson)),
            ("autumn".to_owned(), campaign(None, CreativeMethod::LinearThompson { noise: 0.5, linear })),
        ]
        .into(),
        audiences: vec![AudienceSize { id: "sport".to_owned(), segtax: 0, members: 1_200 }],
    }
}

fn catalogue(ids: &[(&str, &str)]) -> Catalogue {
    let spec = |(id, campaign): &(&str, &str)| {
        let text = format!(
            "id = {id:?}\ncampaign = {campaign:?}\nheadline = [\"Now\"]\nlanding_page = \"https://shop.example/\"\nweight = 2.0"
        );
        toml::from_str::<CreativeSpec>(&text).unwrap()
    };
    let mut errors = Vec::new();
    let catalogue = Catalogue::compile(&ids.iter().map(spec).collect::<Vec<_>>(), &mut errors);
    assert_eq!(errors, []);
    catalogue
}

fn campaign<'a>(id: &'a str, has_budget: bool, audiences: &'a [String], features: &'a [String]) -> CampaignRef<'a> {
    CampaignRef { id, currency: "EUR".parse().unwrap(), has_budget, audiences, features, floor: Floor::default() }
}

fn plain(id: &str, has_budget: bool) -> CampaignRef<'_> {
    campaign(id, has_budget, &[], &[])
}

#[test]
fn a_policy_survives_its_json_bit_for_bit() {
    let policy = complete();
    let json = policy.to_json().unwrap();
    let read = Policy::parse(&json).unwrap();
    assert_eq!(read, policy);
    assert_eq!(read.to_json().unwrap(), json);
    let start = r#"{"schema_version":1,"version":42,"issued_at":1767225600000000,"app":"shop","campaigns":{"autumn":{"currency":"EUR","win_rate":{"intercept":-14.5,"slope":1.0,"lowest_micros":1024},"#;
    assert!(json.starts_with(start.as_bytes()), "{}", String::from_utf8_lossy(&json));
}

#[test]
fn what_a_newer_control_adds_is_ignored() {
    let mut json: serde_json::Value = serde_json::from_slice(&complete().to_json().unwrap()).unwrap();
    json["new"] = 1.into();
    json["schema_version"] = 2.into();
    let spring = &mut json["campaigns"]["spring"];
    spring["new"] = 1.into();
    spring["budget"]["new"] = 1.into();
    spring["win_rate"]["new"] = 1.into();
    spring["creatives"]["method"] = "neural".into();
    let policy = Policy::parse(json.to_string().as_bytes()).unwrap();
    let creatives = policy.campaigns["spring"].creatives.as_ref().unwrap();
    assert_eq!(creatives.method, CreativeMethod::Unknown);
    let catalogue = catalogue(&[("warm", "spring"), ("cold", "spring")]);
    let mut compiled = CompiledPolicy::new(&policy, &[plain("spring", true)], &catalogue, MINUTE, None);
    let chosen = compiled.choose(0, 0, &[], Eligible::all(2), Draw::new(1, 2, 3)).unwrap();
    assert_eq!((chosen.propensity, chosen.candidates), (0.5, 2), "by weight");
}

#[test]
fn a_damaged_policy_is_refused_with_the_place() {
    let json: serde_json::Value = serde_json::from_slice(&complete().to_json().unwrap()).unwrap();
    for (pointer, value, expected) in [
        ("/version", "0", "version is 0"),
        ("/version", "-1", "the policy is damaged"),
        ("/schema_version", "0", "schema_version is 0"),
        ("/issued_at", "0", "issued_at is 0"),
        ("/campaigns/spring/currency", "\"eur\"", "campaign \"spring\": currency: \"eur\" is not a currency code"),
        ("/campaigns/spring/budget/pass_through", "2147483649", "budget.pass_through: 2147483649 is above 2147483648"),
        ("/campaigns/spring/budget/known", "null", "the policy is damaged"),
        ("/campaigns/spring/budget/spent_today_micros", "-1", "budget.spent_today_micros: -1 is below 0"),
        ("/campaigns/spring/win_rate/slope", "0.05", "win_rate: intercept -14.5 and slope 0.05"),
        ("/campaigns/spring/placements/top/intercept", "-1e9", "placement \"top\": intercept"),
        ("/campaigns/spring/win_rate/lowest_micros", "-1", "win_rate"),
        ("/campaigns/spring/creatives/floor", "1.5", "creatives.floor: 1.5 is not between 0 and 1"),
        ("/campaigns/spring/creatives/prior/alpha", "0", "creatives.prior: Beta(0, 50) is out of bounds"),
        ("/campaigns/spring/creatives/posteriors/cold/sport/beta", "1e13", "creative \"cold\", \"sport\": Beta(90"),
        ("/campaigns/autumn/creatives/noise", "0", "creatives.noise: 0 is not above 0"),
        ("/campaigns/autumn/creatives/ridge", "-1", "creatives.ridge: -1 is not above 0"),
        ("/campaigns/autumn/creatives/features", "[]", "creatives.features: 0 features"),
        (
            "/campaigns/autumn/creatives/features",
            "[\"one\"]",
            "creative \"b\": expected a posterior of 1 finite weights, found one of 2",
        ),
        ("/campaigns/autumn/creatives/posteriors/b/mean", "[1.0]", "creative \"b\""),
        ("/campaigns/autumn/creatives/floor", "null", "the policy is damaged"),
    ] {
        let mut damaged = json.clone();
        *damaged.pointer_mut(pointer).unwrap() = serde_json::from_str(value).unwrap();
        let error = Policy::parse(damaged.to_string().as_bytes()).unwrap_err();
        assert!(error.contains(expected), "{pointer}: {error}");
    }
    assert!(Policy::parse(b"").is_err() && Policy::parse(b"{\"version\":1e999}").is_err());
    assert!(Policy::parse(&vec![b' '; BYTES_MAX + 1]).unwrap_err().contains("bytes"));
    let mut infinite = complete();
    infinite.campaigns.get_mut("spring").unwrap().win_rate.as_mut().unwrap().intercept = f64::INFINITY;
    assert!(infinite.to_json().is_err(), "what is published can be read");
    let bytes = complete().to_json().unwrap();
    for seed in 0..5_000 {
        let mut damaged = bytes.clone();
        damaged[mix(seed) as usize % bytes.len()] = mix(seed ^ 1 << 40) as u8;
        if let Ok(policy) = Policy::parse(&damaged) {
            let catalogue = catalogue(&[("warm", "spring"), ("b", "autumn")]);
            drop(CompiledPolicy::new(
                &policy,
                &[plain("spring", true), plain("autumn", false)],
                &catalogue,
                MINUTE,
                None,
            ));
        }
    }
}

#[test]
fn a_gate_is_closed_unless_a_fresh_policy_knows_the_budget() {
    let policy = complete();
    let catalogue = Catalogue::default();
    let campaigns = [plain("spring", true), plain("autumn", false), plain("autumn", true), plain("other", true)];
    let compiled = CompiledPolicy::new(&policy, &campaigns, &catalogue, MINUTE, None);
    let half = Gate::Known { pass_through: PassThrough(1 << 30) };
    let minute = 60_000_000;
    for (now, spring) in [
        (NOW, half),
        (NOW + minute, half),
        (NOW + minute + 1, Gate::Unknown),
        (NOW - minute, half),
        // A policy from the future has an unknown age.
        (NOW - minute - 1, Gate::Unknown),
        (i64::MAX, Gate::Unknown),
        (i64::MIN, Gate::Unknown),
    ] {
        let gates: Vec<Gate> = (0..4).map(|campaign| compiled.gate(campaign, now)).collect();
        assert_eq!(gates, [spring, Gate::Unbudgeted, Gate::Unknown, Gate::Unknown], "{now}");
    }
    let none = CompiledPolicy::absent(&campaigns, &catalogue, MINUTE);
    assert_eq!((none.version(), none.gate(0, NOW), none.gate(1, NOW)), (0, Gate::Unknown, Gate::Unbudgeted));
    // A budget that only the policy knows counts as well.
    let compiled = CompiledPolicy::new(&policy, &[plain("spring", false)], &catalogue, MINUTE, None);
    assert_eq!(compiled.gate(0, NOW), half);
    let mut other = policy.clone();
    let gate =
        |policy: &Policy| CompiledPolicy::new(policy, &[plain("spring", true)], &catalogue, MINUTE, None).gate(0, NOW);
    let budget = other.campaigns.get_mut("spring").unwrap().budget.as_mut().unwrap();
    budget.exhausted = true;
    assert_eq!(gate(&other), Gate::Exhausted);
    other.campaigns.get_mut("spring").unwrap().budget.as_mut().unwrap().known = false;
    assert_eq!(gate(&other), Gate::Unknown);
    let mut other = policy;
    other.campaigns.get_mut("spring").unwrap().currency = "USD".to_owned();
    assert_eq!(gate(&other), Gate::Unknown, "spend in another currency is not this one's");
}

#[test]
fn a_gate_admits_its_share() {
    let half = Gate::Known { pass_through: PassThrough(1 << 30) };
    let admitted = (0..100_000).filter(|it| half.admit(mix(*it)) == Admission::Passed(PassThrough(1 << 30))).count();
    assert!(admitted.abs_diff(50_000) < 700, "{admitted}");
    assert_eq!(half.admit(u64::MAX), Admission::Paced);
    assert_eq!(Gate::Unbudgeted.admit(u64::MAX), Admission::Passed(PassThrough::ALL));
    assert_eq!((Gate::Exhausted.admit(0), Gate::Unknown.admit(0)), (Admission::Exhausted, Admission::Unknown));
}

#[test]
fn a_late_or_double_policy_changes_nothing_but_a_new_beginning_does() {
    let mut policy = complete();
    let compiled = CompiledPolicy::new(&policy, &[], &Catalogue::default(), MINUTE, None);
    assert!(!compiled.accepts(&policy, NOW));
    policy.version = 41;
    assert!(!compiled.accepts(&policy, NOW) && !compiled.accepts(&policy, NOW + 120_000_000));
    policy.version = 1;
    policy.issued_at = NOW + 120_000_000;
    assert!(!compiled.accepts(&policy, NOW + 59_000_000), "the current one is still good");
    assert!(compiled.accepts(&policy, NOW + 120_000_000));
    policy.version = 43;
    policy.issued_at = NOW;
    assert!(compiled.accepts(&policy, NOW));
}

#[test]
fn win_rates_are_the_placement_s_else_the_campaign_s() {
    let campaigns = [plain("spring", true), plain("other", false)];
    let compiled = CompiledPolicy::new(&complete(), &campaigns, &Catalogue::default(), MINUTE, None);
    let slope = |campaign, placement| compiled.win_rate(campaign, placement).map(|rate| rate.slope);
    assert_eq!(slope(0, Some("top")), Some(2.0));
    assert_eq!((slope(0, Some("side")), slope(0, None)), (Some(1.0), Some(1.0)));
    assert_eq!(slope(1, None), None);
}

/// How often each creative is chosen, and whether every choice has the right propensity.
fn shares(compiled: &mut CompiledPolicy, campaign: usize, audience: usize, features: &[f64]) -> Vec<(usize, f64)> {
    let mut shares = Vec::new();
    for decision in 0..2_000 {
        let draw = Draw::new(mix(decision), compiled.version(), 7);
        let Chosen { index, propensity, .. } =
            compiled.choose(campaign, audience, features, Eligible::all(3), draw).unwrap();
        if !shares.contains(&(index, propensity)) {
            shares.push((index, propensity));
        }
    }
    shares.sort_by_key(|share| share.0);
    shares
}

#[test]
fn creatives_are_joined_by_id_whatever_the_order_of_the_catalogue() {
    let audiences = ["sport".to_owned()];
    let features = ["one".to_owned(), "age".to_owned()];
    let campaigns = [campaign("spring", true, &audiences, &[]), campaign("autumn", false, &[], &features)];
    let orders = [
        [("cold", "spring"), ("warm", "spring"), ("b", "autumn"), ("a", "autumn")],
        [("a", "autumn"), ("warm", "spring"), ("b", "autumn"), ("cold", "spring")],
    ];
    let mut all = Vec::new();
    for order in orders {
        let catalogue = catalogue(&order);
        let mut compiled = CompiledPolicy::new(&complete(), &campaigns, &catalogue, MINUTE, None);
        let mut of = |campaign: usize, id: &str, audience, features: &[f64]| {
            let names: Vec<&str> =
                catalogue.of(campaigns[campaign].id).map(|creative| creative.spec.id.as_str()).collect();
            let shares = shares(&mut compiled, campaign, audience, features);
            shares.iter().find(|(index, _)| names[*index] == id).map(|share| share.1)
        };
        // In the audience `sport`, the other creative is the better one. Everybody's posterior stands in for the one
        // that is missing there.
        let (sport, everybody) = (of(0, "cold", 0, &[]).unwrap(), of(0, "warm", 1, &[]).unwrap());
        assert!(sport > 0.98 && everybody > 0.98, "{sport} {everybody}");
        let linear = of(1, "b", 0, &[1.0, 0.3]).unwrap();
        assert!(linear > 0.6, "{linear}");
        // Without features, the weights choose.
        assert_eq!(of(1, "b", 0, &[]), Some(0.5));
        all.push([sport, everybody, linear]);
    }
    assert!(all[0].iter().zip(all[1]).all(|(a, b)| (a - b).abs() < 1e-6), "{all:?}");
}

#[test]
fn a_creative_that_is_not_in_the_policy_has_the_prior_and_one_that_is_gone_is_left_out() {
    let catalogue = catalogue(&[("new", "spring"), ("cold", "spring")]);
    let mut compiled = CompiledPolicy::new(&complete(), &[plain("spring", true)], &catalogue, MINUTE, None);
    let shares = shares(&mut compiled, 0, 0, &[]);
    // Beta(1, 50) against Beta(2, 98): nearly even.
    assert!(shares.len() == 2 && (0.3..0.7).contains(&shares[0].1), "{shares:?}");
    assert_eq!(compiled.choose(0, 0, &[], Eligible::default(), Draw::new(0, 0, 0)), None);
}

#[test]
fn a_policy_that_has_learned_nothing_new_chooses_the_same() {
    let catalogue = catalogue(&[("warm", "spring"), ("cold", "spring")]);
    let campaigns = [plain("spring", true)];
    let mut policy = complete();
    let first = CompiledPolicy::new(&policy, &campaigns, &catalogue, MINUTE, None);
    policy.campaigns.get_mut("spring").unwrap().budget.as_mut().unwrap().pass_through = 7;
    let mut taken = CompiledPolicy::new(&policy, &campaigns, &catalogue, MINUTE, Some(first));
    let mut fresh = CompiledPolicy::new(&policy, &campaigns, &catalogue, MINUTE, None);
    assert_eq!(shares(&mut taken, 0, 0, &[]), shares(&mut fresh, 0, 0, &[]));
    assert_eq!(taken.gate(0, NOW), Gate::Known { pass_through: PassThrough(7) });
}

/// A catalogue in which the first creative of each campaign is a trial.
fn with_trials(trial: &str) -> Catalogue {
    let mut specs: Vec<CreativeSpec> = [("warm", "spring"), ("cold", "spring"), ("a", "autumn"), ("b", "autumn")]
        .map(|(id, campaign)| {
            let rest = "landing_page = \"https://shop.example\"\nheadline = [\"x\"]";
            toml::from_str(&format!("id = {id:?}\ncampaign = {campaign:?}\n{rest}")).unwrap()
        })
        .into();
    specs[1].trial = Some(toml::from_str(trial).unwrap());
    specs[3].trial = specs[1].trial;
    let mut errors = Vec::new();
    let catalogue = Catalogue::compile(&specs, &mut errors);
    assert!(errors.is_empty(), "{errors:?}");
    catalogue
}

#[test]
fn a_trial_bounds_the_share_with_every_method_and_draws_are_as_logged() {
    const DRAWS: u64 = 20_000;
    let policy = complete();
    let catalogue = with_trials("share_max = 0.2");
    let (sport, features) = (["sport".to_owned()], ["one".to_owned(), "age".to_owned()]);
    let learned = |id: &str| policy.campaigns[id].creatives.clone();
    for (name, mut chooser, numbers) in [
        (
            "thompson",
            Chooser::new(learned("spring").as_ref(), Floor::default(), "spring", &sport, &[], &catalogue),
            &[][..],
        ),
        (
            "linear",
            Chooser::new(learned("autumn").as_ref(), Floor::default(), "autumn", &[], &features, &catalogue),
            &[1.0, 0.3],
        ),
        ("weight", Chooser::new(None, Floor::default(), "spring", &sport, &[], &catalogue), &[]),
    ] {
        let shares: Vec<(usize, f64)> = chooser.shares(0, numbers, Eligible::all(2)).unwrap().iter().collect();
        assert!((shares[1].1 - 0.2).abs() < 1e-8, "{name}: {shares:?}");
        let mut seen = 0.0;
        for number in 0..DRAWS {
            let chosen = chooser.choose(0, numbers, Eligible::all(2), Draw::new(mix(number), 42, 7)).unwrap();
            assert_eq!(Some(&(chosen.index, chosen.propensity)), shares.get(chosen.index), "{name}");
            seen += chosen.index as f64 / DRAWS as f64;
        }
        assert!((seen - 0.2).abs() < 5.0 * (0.16 / DRAWS as f64).sqrt(), "{name}: {seen}");
        // Alone, it is shown whatever its limit.
        let alone = chooser.choose(0, numbers, [1].into_iter().collect(), Draw::new(1, 2, 3)).unwrap();
        assert_eq!((alone.index, alone.propensity), (1, 1.0), "{name}");
    }
}

#[test]
fn a_trial_starts_with_its_own_prior_and_keeps_its_outcomes() {
    let prior = beta(1.0, 50.0);
    let share = |trial: &str, outcomes: Option<Beta>| {
        let mut posteriors: BTreeMap<String, BTreeMap<String, Beta>> = BTreeMap::new();
        posteriors.insert("warm".to_owned(), [(EVERYBODY.to_owned(), beta(5.0, 95.0))].into());
        if let Some(it) = outcomes {
            let posterior = beta(prior.alpha + it.alpha, prior.beta + it.beta);
            posteriors.insert("cold".to_owned(), [(EVERYBODY.to_owned(), posterior)].into());
        }
        let policy = CreativePolicy { floor: 0.0, method: CreativeMethod::Thompson { prior, posteriors } };
        let catalogue = with_trials(trial);
        let mut chooser = Chooser::new(Some(&policy), Floor::default(), "spring", &[], &[], &catalogue);
        chooser.shares(0, &[], Eligible::all(2)).unwrap().iter().nth(1).unwrap().1
    };
    let expected = |own: Beta| {
        let floor = Floor::new(0.0).unwrap();
        let mut exact = crate::targeting::creative::Thompson::new(&[beta(5.0, 95.0), own], floor, 1).unwrap();
        exact.shares(Eligible::all(2)).unwrap().iter().nth(1).unwrap().1
    };
    assert_eq!(share("share_max = 1.0", None), expected(prior));
    assert_eq!(share("shows = 20.0\nactions = 4.0", None), expected(beta(4.0, 16.0)));
    assert_eq!(share("shows = 20.0\nactions = 4.0", Some(beta(2.0, 30.0))), expected(beta(6.0, 46.0)));
    let both = share("share_max = 0.2\nshows = 20.0\nactions = 4.0", None);
    assert!((both - 0.2).abs() < 1e-8 && expected(beta(4.0, 16.0)) > 0.5, "{both}");
}

#[test]
fn the_shares_of_a_chooser_are_those_that_it_draws_by() {
    const DRAWS: u64 = 20_000;
    let policy = complete();
    let catalogue = catalogue(&[("warm", "spring"), ("cold", "spring"), ("a", "autumn"), ("b", "autumn")]);
    let (sport, features) = (["sport".to_owned()], ["one".to_owned(), "age".to_owned()]);
    let learned = |id: &str| policy.campaigns[id].creatives.clone();
    let thompson = || Chooser::new(learned("spring").as_ref(), Floor::default(), "spring", &sport, &[], &catalogue);
    let linear = || Chooser::new(learned("autumn").as_ref(), Floor::default(), "autumn", &[], &features, &catalogue);
    let by_weight = || Chooser::new(None, Floor::default(), "spring", &sport, &[], &catalogue);
    for (name, mut chooser, audience, numbers) in [
        ("of sport", thompson(), 0, &[][..]),
        ("of everybody", thompson(), 7, &[]),
        ("linear", linear(), 0, &[1.0, 0.3]),
        ("linear with a wrong number of features", linear(), 0, &[1.0]),
        ("by weight", by_weight(), 0, &[]),
    ] {
        let shares: Vec<(usize, f64)> = chooser.shares(audience, numbers, Eligible::all(2)).unwrap().iter().collect();
        assert!((shares.iter().map(|(_, share)| share).sum::<f64>() - 1.0).abs() < 1e-12);
        let mut counts = [0.0; 2];
        for number in 0..DRAWS {
            let draw = Draw::new(mix(number), 42, 7);
            let chosen = chooser.choose(audience, numbers, Eligible::all(2), draw).unwrap();
            assert_eq!(Some(&(chosen.index, chosen.propensity)), shares.get(chosen.index), "{name}");
            counts[chosen.index] += 1.0 / DRAWS as f64;
        }
        for (index, share) in shares {
            let error = (share * (1.0 - share) / DRAWS as f64).sqrt();
            assert!((counts[index] - share).abs() < 5.0 * error, "{name}: {counts:?} for {share}");
        }
    }
    assert!(by_weight().shares(0, &[], Eligible::default()).is_none());
}
