//! Workers, control and a bidder on a real Kafka: a budget is spent, kept, and stops when nobody knows what is left.

use crate::program::{Program, now_ms, signal, terminate, wait_for};
use aimpoint::{sink::Publisher, source::Reader};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// An impression costs at most 0.004 EUR, so the budget of a day buys 250.
const CONFIG: &str = r#"
[app]
name = "loop"

[topics]
partitions = 2

[kafka.consumer]
"session.timeout.ms" = 6000
"heartbeat.interval.ms" = 1000

[engine]
workers = 2

[control]
policy_interval = "1s"
stale_after = "6s"
policy_lag = "5s"
settle = "10s"

[decision]
reasons = true

[[segment]]
id = "here"
where = "true"
exit = "false"
duration = "10s"

[[campaign]]
id = "spring"
segments = { any = ["here"] }
value = 4.0
currency = "EUR"
budget = { daily = 1.0, pacing = "asap" }
rotation = { method = "thompson" }

[[creative]]
id = "red"
campaign = "spring"
headline = ["Half price"]
landing_page = "https://shop.example/red"

[[creative]]
id = "blue"
campaign = "spring"
headline = ["Half price"]
landing_page = "https://shop.example/blue"
"#;

const PATIENCE: Duration = Duration::from_mins(1);
const BUDGET: f64 = 1.0;
const PRICE: f64 = 4.0;
/// `control.policy_lag`.
const POLICY_LAG_MS: i64 = 5_000;

/// Visitors, and a bidder who wins each auction and shows the creative.
struct World<'a> {
    program: &'a Program,
    events: Publisher,
    outcomes: Publisher,
    decisions: Reader,
    sent: u64,
    wins: u64,
    /// When each impression was won, in milliseconds since 1970, and the policy that its decision names.
    won: Vec<(i64, String)>,
    /// How often each reason, or an offer, was seen.
    seen: BTreeMap<String, u64>,
}

impl<'a> World<'a> {
    fn new(program: &'a Program) -> Self {
        let brokers = &program.kafka.brokers;
        Self {
            program,
            events: program.publisher(PATIENCE),
            outcomes: Publisher::new(brokers, &[], "outcomes", PATIENCE).unwrap(),
            decisions: Reader::open(brokers, &[], &["decisions"]).unwrap(),
            sent: 0,
            wins: 0,
            won: Vec::new(),
            seen: BTreeMap::new(),
        }
    }

    /// An event of the next visitor, and what the bidder does with the decisions so far.
    fn step(&mut self) {
        let user = format!("u{}", self.sent % 40);
        let event = json!({"event_type": "page_view", "user_id": user, "occurred_at": now_ms()}).to_string();
        self.events.publish(Some(user.as_bytes()), Some(event.as_bytes())).unwrap();
        self.sent += 1;
        let mut decisions = Vec::new();
        let take = |_: &str, record: &aimpoint::event::Record<'_>, _: &[(&str, &[u8])]| {
            decisions.push(serde_json::from_slice::<Value>(record.payload.unwrap()).unwrap());
        };
        // A broker under load drops connections; the client reconnects.
        self.decisions.poll(Duration::from_millis(40), take).unwrap_or_default();
        for decision in decisions {
            if decision["status_reason"] == "membership_expired" {
                continue;
            }
            let offer = &decision["campaigns"][0];
            let what = if offer.is_object() { "offer" } else { decision["suppressed"][0]["reason"].as_str().unwrap() };
            *self.seen.entry(what.to_owned()).or_default() += 1;
            if offer.is_object() {
                self.win(&decision["decision_id"], &offer["creative"]["id"]);
                self.won.push((now_ms(), decision["policy_version"].as_str().unwrap().to_owned()));
            }
        }
    }

    fn win(&mut self, decision_id: &Value, creative: &Value) {
        self.wins += 1;
        let number = self.wins;
        let send = |kind: &str, more: Value| {
            let mut outcome = json!({"outcome_id": format!("{kind}-{number}"), "type": kind, "campaign_id": "spring",
                "creative_id": creative, "decision_id": decision_id, "occurred_at": (now_ms() * 1_000).to_string()});
            outcome.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            self.outcomes.publish(Some(number.to_string().as_bytes()), Some(outcome.to_string().as_bytes())).unwrap();
        };
        send("win", json!({"price": PRICE, "currency": "EUR"}));
        send("impression", json!({}));
    }

    /// Goes on until a decision says this.
    fn until(&mut self, what: &str) {
        let (before, start) = (self.seen.get(what).copied(), Instant::now());
        while self.seen.get(what).copied() == before {
            self.step();
            assert!(start.elapsed() < PATIENCE, "no {what:?} in {:?}\n{}", self.seen, self.program.logs());
        }
    }

    /// How many impressions control could not know of when it had to stop. None if each policy was used within
    /// `policy_lag`, for which control allows. On a machine that is too slow for that, those of the longest delay.
    fn in_flight(&self) -> usize {
        let mut issued = BTreeMap::new();
        Reader::read_whole(&self.program.kafka.brokers, &[], "loop-policy", |_, record, _| {
            let policy: Value = serde_json::from_slice(record.payload.unwrap()).unwrap();
            issued.insert(policy["version"].to_string(), policy["issued_at"].as_i64().unwrap() / 1_000);
        })
        .unwrap();
        let delay = self.won.iter().map(|(at, version)| at - issued[version]).max().unwrap_or_default();
        if delay <= POLICY_LAG_MS {
            return 0;
        }
        let within = |last: i64| self.won.iter().filter(|(at, _)| (last - delay..=last).contains(at)).count();
        self.won.iter().map(|(at, _)| within(*at)).max().unwrap_or_default()
    }

    /// Goes on until the policy says that so many users are in the segment.
    fn until_audience(&mut self, members: u64) {
        let start = Instant::now();
        let expected = json!([{"id": "here", "segtax": 0, "members": members}]);
        loop {
            self.steps(Duration::from_secs(1));
            let policies = last_values(self.program, "loop-policy");
            if policies.iter().any(|policy| policy["audiences"] == expected) {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{policies:?}\n{}", self.program.logs());
        }
    }

    fn until_spent(&mut self, least: f64) {
        let start = Instant::now();
        while (self.wins as f64) * PRICE / 1_000.0 < least {
            self.step();
            assert!(start.elapsed() < PATIENCE, "{} wins, {:?}\n{}", self.wins, self.seen, self.program.logs());
        }
    }

    fn steps(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.step();
        }
    }
}

/// The last value of each key of a topic.
fn last_values(program: &Program, topic: &str) -> Vec<Value> {
    let mut last = BTreeMap::new();
    Reader::read_whole(&program.kafka.brokers, &[], topic, |_, record, _| {
        let value = serde_json::from_slice(record.payload.unwrap()).unwrap();
        last.insert(record.key.map(<[u8]>::to_vec), value);
    })
    .unwrap();
    last.into_values().collect()
}

#[test]
fn a_budget_is_spent_and_kept_and_stops_without_control() {
    let program = Program::start(1, CONFIG);
    let (code, _, error) = program.run(&["check"]);
    assert_ne!(code, 0);
    for topic in ["policy", "control", "audiences"] {
        assert!(error.contains(&format!("-{topic}\" does not exist")), "control's topics are missing, too: {error}");
    }
    let (code, out, error) = program.run(&["topics", "--create"]);
    assert_eq!(code, 0, "{out}{error}");
    let mut worker = program.spawn("worker");
    let mut world = World::new(&program);

    world.until("budget_unknown");
    assert_eq!(world.seen.get("offer"), None, "nobody knows what is left");
    let mut control = program.spawn_as("control", "control", &[]);
    world.until("offer");
    // A worker that dies takes up the policy again, and no decision is made twice.
    signal(&worker, "-KILL");
    worker.wait().unwrap();
    let mut worker = program.spawn("worker");
    // Close to its end a budget is spent slowly, because what is in flight is not known yet.
    world.until("paced");
    world.until_spent(0.6 * BUDGET);
    world.steps(Duration::from_secs(8));
    let spent = world.wins as f64 * PRICE / 1_000.0;
    let most = 1.1 * BUDGET + world.in_flight() as f64 * PRICE / 1_000.0;
    assert!(spent < most, "{spent} of {BUDGET}, at most {most}: {:?}", world.seen);

    // Control knows how many users are in the segment, over all partitions.
    world.until_audience(40);
    assert_eq!(terminate(&mut control, PATIENCE), 0, "{}", program.logs());
    let unknown = world.seen["budget_unknown"];
    world.steps(Duration::from_secs(8));
    assert!(world.seen["budget_unknown"] > unknown, "the last policy is too old: {:?}", world.seen);
    world.outcomes.finish().unwrap();
    // Everybody has left the segment by the clock: no event comes any more.
    world.events.finish().unwrap();
    let sent = world.sent as usize;
    let all = || program.read(&["decisions"], sent, PATIENCE);
    let decision = |payload: &Option<Vec<u8>>| serde_json::from_slice::<Value>(payload.as_deref().unwrap()).unwrap();
    let expired = |it: &Value| it["status_reason"] == "membership_expired";
    wait_for("40 memberships to end", PATIENCE, || {
        all().iter().filter(|it| expired(&decision(&it.payload))).count() >= 40
    });
    wait_for("a report that nobody is left in the segment", PATIENCE, || {
        let last = last_values(&program, "loop-audiences");
        last.iter().all(|report| report["segments"][0]["members"] == 0)
    });
    assert_eq!(terminate(&mut worker, PATIENCE), 0, "{}", program.logs());

    let all: Vec<Value> = all().iter().map(|it| decision(&it.payload)).collect();
    let ids: BTreeSet<&str> = all.iter().map(|it| it["decision_id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "each decision once");
    assert_eq!(all.iter().filter(|it| !expired(it)).count(), sent);
    let ended: BTreeSet<&str> =
        all.iter().filter(|it| expired(it)).map(|it| it["user_key"].as_str().unwrap()).collect();
    assert_eq!(ended.len(), 40);
    // Each policy that a decision names was published, and what it offers follows it.
    let mut versions = BTreeSet::from(["0".to_owned()]);
    Reader::read_whole(&program.kafka.brokers, &[], "loop-policy", |_, record, _| {
        let policy: Value = serde_json::from_slice(record.payload.unwrap()).unwrap();
        versions.insert(policy["version"].to_string());
    })
    .unwrap();
    for it in all.iter().filter(|it| !expired(it)) {
        assert!(versions.contains(it["policy_version"].as_str().unwrap()), "{it}");
        if let Some(offer) = it["campaigns"].get(0) {
            assert!(it["policy_version"] != "0" && offer["pass_through"].as_f64() > Some(0.0), "{it}");
            assert_eq!(offer["creative"]["policy"], "thompson", "{it}");
        }
    }
}
