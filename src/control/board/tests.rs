//! Tests of the board: the state is filled as the role fills it, with decisions and outcomes.

use super::*;
use crate::{
    control::{CampaignSetup, Offer, OfferedDecision, Outcome, OutcomeType, SkipReason, Skipped, Source, State},
    targeting::{
        campaign::{Budget, Learning, Reward},
        creative::{Beta, HalfLife},
        money::{Cpm, Micros},
        pacing::{Mode, PassThrough},
    },
};
use jiff::tz::{Offset, TimeZone};

const MINUTE: i64 = 60_000_000;
const HOUR: i64 = 60 * MINUTE;
/// Midnight in UTC.
const START: i64 = 1_767_225_600_000_000;

fn setup(id: &str, daily: Option<i64>) -> CampaignSetup {
    let budget = |daily| Budget { mode: Mode::Even, daily: Some(Micros(daily)), total: None, cost_max: Micros(5_000) };
    CampaignSetup {
        id: id.to_owned(),
        currency: "EUR".parse().unwrap(),
        zone: TimeZone::UTC,
        budget: daily.map(budget),
        until: None,
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning: Learning::Thompson { prior: Beta { alpha: 1.0, beta: 9.0 }, half_life: HalfLife::NEVER },
        floor: 0.01,
        creatives: Vec::new(),
    }
}

struct Run {
    state: State,
    board: Board,
    offset: i64,
}

impl Run {
    fn new(setups: Vec<CampaignSetup>) -> Self {
        let spec = ControlSpec::default();
        Self { state: State::new("shop", &spec, setups), board: Board::new(&spec, START), offset: 0 }
    }

    fn source(&mut self, at: i64) -> Source<'static> {
        self.offset += 1;
        Source { topic: "all", partition: 0, offset: self.offset, arrived_at: at }
    }

    fn decide(&mut self, id: &str, campaign: &str, creative: &str, at: i64) {
        let offers = [Offer {
            campaign_id: campaign,
            bid: Cpm(2_000_000),
            currency: "EUR".parse().unwrap(),
            creative_id: Some(creative),
            audience: "sport",
            features: &[],
            probability: Some(0.5),
        }];
        let source = self.source(at);
        let skipped = [Skipped { campaign_id: "unheard", reason: SkipReason::Paced }];
        self.state.apply_decision(
            &source,
            &OfferedDecision {
                decision_id: id,
                user_key: "secret-user",
                decided_at: at,
                expires_at: at,
                policy_version: 0,
                model_version: "7",
                variant: "",
                offers: &offers,
                skipped: &skipped,
            },
        );
    }

    fn happen(&mut self, decision: &str, kind: OutcomeType, at: i64) {
        let source = self.source(at);
        let outcome = Outcome {
            id: format!("secret-{kind:?}-{decision}"),
            kind,
            occurred_at: at,
            user_key: None,
            decision_id: Some(decision.to_owned()),
            auction_id: None,
            imp_id: None,
            campaign_id: None,
            creative_id: None,
            placement: None,
            value: (kind == OutcomeType::Conversion).then_some(Micros(7_000_000)),
            currency: None,
            price: (kind == OutcomeType::Win).then_some(Cpm(1_500_000)),
            min_to_win: None,
            loss_reason: 0,
        };
        self.state.apply_outcome(&source, &outcome);
    }

    /// An impression that is won for 0.0015 EUR.
    fn show(&mut self, id: &str, campaign: &str, creative: &str, at: i64, clicked: bool) {
        self.decide(id, campaign, creative, at);
        self.happen(id, OutcomeType::Win, at);
        self.happen(id, OutcomeType::Impression, at);
        if clicked {
            self.happen(id, OutcomeType::Click, at);
        }
    }

    /// Publishes a policy, and returns the board.
    fn publish(&mut self, now: i64) -> Value {
        self.state.advance(now);
        let policy = self.state.tick(now);
        self.board.publish(&policy);
        self.at(now)
    }

    fn at(&mut self, now: i64) -> Value {
        self.board.observe(&self.state, now);
        self.board.json(&self.state, [3, 4, 0], now)
    }
}

fn campaign<'a>(board: &'a Value, id: &str) -> &'a Value {
    board["campaigns"].as_array().unwrap().iter().find(|it| it["id"] == id).unwrap()
}

#[test]
fn spend_and_counts_of_a_day_a_week_and_all_days_are_those_of_the_books() {
    let mut run = Run::new(vec![setup("spring", Some(1_000_000)), setup("free", None)]);
    for (day, shown) in [(0, 5), (2, 2), (3, 4), (8, 1), (9, 3)] {
        for number in 0..shown {
            run.show(&format!("d{day}-{number}"), "spring", "red", START + day * 24 * HOUR + HOUR, number == 0);
        }
    }
    let now = START + 9 * 24 * HOUR + 2 * HOUR;
    run.decide("lost", "spring", "red", now - HOUR);
    run.happen("lost", OutcomeType::Loss, now - HOUR);
    run.happen("d9-0", OutcomeType::Conversion, now);
    let board = run.publish(now);
    let spring = campaign(&board, "spring");
    let period = |name: &str| {
        let it = &spring["periods"][name];
        ["spent_micros", "impressions", "clicks", "wins", "losses", "conversions", "revenue_micros"]
            .map(|key| it[key].as_i64().unwrap())
    };
    assert_eq!(period("today"), [4_500, 3, 1, 3, 1, 1, 7_000_000]);
    assert_eq!(period("week"), [12_000, 8, 3, 8, 1, 1, 7_000_000]);
    assert_eq!(period("all"), [22_500, 15, 5, 15, 1, 1, 7_000_000]);
    assert_eq!(spring["periods"]["today"]["win_rate"]["mean"], 0.75);
    assert_eq!(spring["periods"]["today"]["ctr"], rate::json(1, 3));
    assert_eq!((&spring["currency"], &spring["budget"]["today_micros"]), (&json!("EUR"), &json!(1_000_000)));
    // Nothing was shown of it, and it has no budget.
    let free = campaign(&board, "free");
    assert_eq!(
        (&free["state"], &free["budget"], &free["periods"]["today"]["ctr"]),
        (&json!("running"), &Value::Null, &Value::Null)
    );
    assert_eq!(board["campaigns"][0]["id"], "spring", "those with a budget come first");
    assert_eq!(
        (&board["lag"], &board["policy"]["version"]),
        (&json!({ "decisions": 3, "outcomes": 4, "audiences": 0 }), &json!(1))
    );
    let outcomes = &board["outcomes"];
    assert_eq!(
        (outcomes["decisions"].as_u64(), outcomes["joined"].as_u64(), outcomes["orphan"].as_u64()),
        (Some(16), Some(37), Some(0))
    );
}

#[test]
fn a_curve_follows_spend_in_the_campaign_s_own_day_beside_the_plan() {
    let zone = TimeZone::fixed(Offset::from_hours(2).unwrap());
    let mut run = Run::new(vec![CampaignSetup { zone, ..setup("spring", Some(24_000)) }]);
    // The day of the campaign began two hours ago.
    let board = run.publish(START);
    let day = &campaign(&board, "spring")["budget"]["day"];
    assert_eq!((day["start_ms"].as_i64(), day["now_ms"].as_i64()), (Some((START - 2 * HOUR) / 1_000), Some(7_200_000)));
    assert_eq!(day["spent"], json!([[7_200_000, 0]]));
    run.show("d1", "spring", "red", START + HOUR, false);
    run.publish(START + HOUR);
    run.show("d2", "spring", "red", START + 2 * HOUR, false);
    let board = run.publish(START + 3 * HOUR);
    let budget = &campaign(&board, "spring")["budget"];
    assert_eq!(budget["day"]["spent"], json!([[7_200_000, 0], [10_800_000, 1_500], [18_000_000, 3_000]]));
    // The pacer saw the day from its third hour on: 24,000 in 22 hours, evenly.
    let plan = budget["day"]["plan"].as_array().unwrap();
    assert_eq!(
        (plan.len(), &plan[0], &plan[8], &plan[52], &plan[96]),
        (97, &json!(0), &json!(0), &json!(12_000), &json!(24_000))
    );
    assert_eq!(budget["planned_micros"].as_i64(), Some(24_000 * 3 / 22));
    assert_eq!((&budget["mode"], &budget["has_forecast"]), (&json!("even"), &json!(false)));
    // A new day begins at zero, and without the plan of the last one until a policy is made.
    let board = run.at(START + 22 * HOUR + MINUTE);
    let budget = &campaign(&board, "spring")["budget"];
    assert_eq!((&budget["day"]["spent"], &budget["day"]["plan"]), (&json!([[0, 0], [60_000, 0]]), &Value::Null));
    let board = run.publish(START + 22 * HOUR + 2 * MINUTE);
    assert_eq!(campaign(&board, "spring")["budget"]["day"]["plan"][0], 0);
}

#[test]
fn a_campaign_is_running_paced_spent_unknown_ended_or_removed() {
    let ended = CampaignSetup { until: Some(START + HOUR), ..setup("ended", Some(100_000)) };
    let asap = |id: &str| CampaignSetup {
        budget: Some(Budget { mode: Mode::Asap, daily: Some(Micros(9_000_000)), total: None, cost_max: Micros(5_000) }),
        ..setup(id, None)
    };
    let mut run = Run::new(vec![
        setup("paced", Some(1_000_000)),
        setup("spent", Some(5_500)),
        ended,
        asap("running"),
        setup("removed", None),
    ]);
    let state = |board: &Value, id: &str| campaign(board, id)["state"].as_str().unwrap().to_owned();
    let board = run.at(START);
    for id in ["paced", "spent", "ended", "running"] {
        assert_eq!(state(&board, id), "unknown", "{id}: there is no policy yet");
    }
    assert_eq!(state(&board, "removed"), "running");
    for number in 0..200 {
        let at = START + number * MINUTE;
        run.decide(&format!("r{number}"), "running", "a", at);
        run.show(&format!("p{number}"), "paced", "a", at, false);
        run.publish(at);
    }
    let now = START + 200 * MINUTE;
    run.show("s", "spent", "a", now, false);
    run.show("m", "removed", "a", now, false);
    let board = run.publish(now);
    for (id, expected) in [("paced", "paced"), ("spent", "spent"), ("ended", "ended"), ("running", "running")] {
        assert_eq!(state(&board, id), expected, "{id}");
    }
    let share = campaign(&board, "paced")["budget"]["pass_through"].as_f64().unwrap();
    assert!(share < 1.0, "{share}");
    assert_eq!(campaign(&board, "running")["budget"]["pass_through"], PassThrough::ALL.share());
    run.state.set_campaigns(vec![setup("paced", Some(1_000_000))]);
    let board = run.at(now + MINUTE);
    assert_eq!((state(&board, "removed"), state(&board, "paced")), ("removed".to_owned(), "paced".to_owned()));
    // Workers stop when the policy is older than a minute.
    let board = run.at(now + MINUTE + 1_000);
    assert_eq!((state(&board, "paced"), &board["policy"]["is_followed"]), ("unknown".to_owned(), &json!(false)));
}

#[test]
fn creatives_have_their_posterior_by_audience_and_their_impressions_of_a_day() {
    let mut run =
        Run::new(vec![setup("spring", None), CampaignSetup { learning: Learning::Weights, ..setup("plain", None) }]);
    // An old click is remembered for longer than the other impressions of its time: it does not count.
    run.show("old", "spring", "red", START, true);
    let at = START + 48 * HOUR;
    for number in 0..40 {
        let creative = if number % 4 == 0 { "blue" } else { "red" };
        run.show(&format!("d{number}"), "spring", creative, at, creative == "blue" && number < 20);
        run.show(&format!("p{number}"), "plain", creative, at, number == 0);
    }
    let board = run.publish(at + 90 * MINUTE);
    let of = |id: &str| board["creatives"].as_array().unwrap().iter().find(|it| it["campaign"] == id).unwrap();
    let spring = of("spring");
    assert_eq!(
        (&spring["method"], &spring["reward"], &spring["is_posterior"]),
        (&json!("thompson"), &json!("click"), &json!(true))
    );
    assert_eq!(spring["since_ms"], json!((at + 90 * MINUTE - 24 * HOUR) / 1_000));
    let rows = spring["rows"].as_array().unwrap();
    let counts = |row: &Value| ["impressions", "clicks", "conversions"].map(|key| row[key].as_u64().unwrap());
    assert_eq!((&rows[0]["id"], counts(&rows[0]), &rows[0]["share"]), (&json!("blue"), [10, 5, 0], &json!(0.25)));
    assert_eq!((&rows[1]["id"], counts(&rows[1]), &rows[1]["share"]), (&json!("red"), [30, 0, 0], &json!(0.75)));
    // The prior counts for ten impressions with one click; the old click has taught as well.
    assert_eq!(rows[0]["rate"]["mean"], 6.0 / 20.0);
    assert_eq!(rows[1]["rate"]["mean"], 2.0 / 41.0);
    let expected = Beta { alpha: 6.0, beta: 14.0 }.interval(0.95).unwrap();
    assert_eq!(
        (rows[0]["rate"]["low"].as_f64(), rows[0]["rate"]["high"].as_f64()),
        (Some(expected.0), Some(expected.1))
    );
    assert_eq!(rows[0]["audiences"][0], json!({ "id": "sport", "rate": rows[0]["rate"] }));
    // Weights learn nothing, so the observed rate is shown.
    let plain = of("plain");
    assert_eq!((&plain["is_posterior"], &plain["rows"][0]["rate"]), (&json!(false), &rate::json(1, 10)));
    assert_eq!(plain["rows"][0]["audiences"], json!([]));
}

#[test]
fn creatives_of_which_nothing_is_known_are_listed_without_a_rate() {
    let creatives = vec!["blue".to_owned(), "red".to_owned()];
    let of = |id: &str, learning: Learning| CampaignSetup { learning, creatives: creatives.clone(), ..setup(id, None) };
    let thompson = setup("", None).learning;
    let mut run = Run::new(vec![of("new", thompson.clone()), of("plain", Learning::Weights), of("spring", thompson)]);
    let rows = |board: &Value, number: usize| {
        let row = |row: &Value| (row["id"].as_str().unwrap().to_owned(), row["rate"].is_null());
        board["creatives"][number]["rows"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let both = |is_null| vec![("blue".to_owned(), is_null), ("red".to_owned(), is_null)];
    let board = run.publish(START);
    assert_eq!([0, 1, 2].map(|number| rows(&board, number)), [both(true), both(true), both(true)]);
    for (number, creative) in [(1, "red"), (2, "red"), (3, "blue")] {
        run.show(&format!("d{number}"), "spring", creative, START, creative == "red");
        run.show(&format!("p{number}"), "plain", "red", START, false);
    }
    // The clicks of an hour are awaited before anything is learned.
    let early = run.publish(START + HOUR / 2);
    assert_eq!(rows(&early, 2), both(true));
    let later = run.publish(START + 2 * HOUR);
    assert_eq!(rows(&later, 0), both(true));
    assert_eq!(rows(&later, 1), [("red".to_owned(), false), ("blue".to_owned(), true)]);
    assert_eq!(rows(&later, 2), [("red".to_owned(), false), ("blue".to_owned(), false)]);
    let ever = [0, 1, 2].map(|number| later["creatives"][number]["impressions_ever"].as_u64().unwrap());
    assert_eq!(ever, [0, 3, 3]);
    assert_eq!(
        (&early["creatives"][2]["rows"][0]["impressions"], &early["creatives_left_out"]),
        (&json!(1), &json!(0))
    );
}

#[test]
fn impressions_of_creatives_are_the_same_after_a_restart() {
    let mut run = Run::new(vec![setup("spring", None)]);
    for number in 0..50 {
        run.show(
            &format!("d{number}"),
            "spring",
            ["red", "blue"][number % 2],
            START + number as i64 * 20 * MINUTE,
            number % 7 == 0,
        );
    }
    let now = START + 30 * HOUR;
    let before = run.publish(now);
    let records = run.state.records().into_iter().map(|it| (it.key, it.value)).collect::<Vec<_>>();
    let state = State::restore("shop", &ControlSpec::default(), vec![setup("spring", None)], records).unwrap();
    let after = run.board.json(&state, [3, 4, 0], now);
    assert_eq!(after, before);
    let shown: u64 =
        after["creatives"][0]["rows"].as_array().unwrap().iter().filter_map(|row| row["impressions"].as_u64()).sum();
    assert_eq!(shown, (0..50).filter(|number| number * 20 >= 6 * 60).count() as u64);
}

#[test]
fn the_board_is_bounded_says_what_is_left_out_and_names_no_user() {
    let mut run = Run::new((0..150).map(|number| setup(&format!("c{number:03}"), Some(90_000))).collect());
    for number in 0..150 {
        let campaign = format!("c{number:03}");
        for creative in 0..=number % 3 {
            run.show(&format!("secret-{number}-{creative}"), &campaign, &format!("{campaign}-{creative}"), START, true);
        }
    }
    run.publish(START + HOUR);
    let board = run.publish(START + 2 * HOUR);
    let campaigns = board["campaigns"].as_array().unwrap();
    assert_eq!((campaigns.len(), &board["campaigns_left_out"]), (CAMPAIGNS_MAX, &json!(50)));
    assert_eq!(campaigns[0]["id"], "c002", "most was spent for it");
    let curves = campaigns.iter().filter(|it| !it["budget"]["day"].is_null()).count();
    assert_eq!(curves, CURVES_MAX);
    let rows = board["creatives"].as_array().unwrap().iter().flat_map(|it| it["rows"].as_array().unwrap());
    let rates: usize = rows.clone().map(|row| 1 + row["audiences"].as_array().unwrap().len()).sum();
    assert_eq!((rates, rows.count() + board["creatives_left_out"].as_u64().unwrap() as usize), (ROWS_MAX, 300));
    let text = board.to_string();
    assert!(!text.contains("secret"), "users, decisions and outcomes are nobody's business");
    assert!(text.len() < 250_000, "{} bytes", text.len());
}

#[test]
fn a_standby_says_what_it_follows() {
    let following = Following {
        topic: "shop-control",
        group: "shop@control",
        records: 7,
        has_caught_up: true,
        version: 3,
        changed_at: Some(2_500),
        takes_over: false,
    };
    let follows = json!({
        "topic": "shop-control", "group": "shop@control", "records": 7, "has_caught_up": true, "version": 3,
        "changed_ms": 2,
    });
    assert_eq!(following.json(9_000), json!({ "role": "standby", "at_ms": 9, "follows": follows }));
    let next = Following { takes_over: true, changed_at: None, ..following }.json(9_000);
    assert_eq!((&next["role"], &next["follows"]["changed_ms"]), (&json!("taking over"), &Value::Null));
}
