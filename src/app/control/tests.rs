//! Tests of the leader and of offline runs without Kafka. The inputs and the outlet are in memory.

use super::{
    ControlError, Input, Settings,
    intake::{Taken, take_decision, take_outcome, take_rejected},
    leader::{Leader, Now, Turn},
    once::Offline,
    page::LeaderPage,
    ports::{Inputs, Outlet, Written},
    replay::ReplayedControl,
    summary::summary,
};
use crate::{
    control::{CampaignSetup, ControlSpec, State},
    event::{PseudonymSpec, Record, UserKeys},
    secret::Secret,
    sink::{ControlOutputs, DeadLetter},
    source::SourceError,
    status::RoleStatus,
    targeting::{
        campaign::{Budget, Learning, Reward},
        money::Micros,
        pacing::Mode,
        policy::Policy,
    },
};
use jiff::tz::TimeZone;
use std::{cell::RefCell, collections::BTreeMap, rc::Rc, time::Duration};

const START: i64 = 1_767_225_600_000_000;
const SECOND: i64 = 1_000_000;

fn spec() -> ControlSpec {
    ControlSpec { wait: Duration::from_secs(10), ..ControlSpec::default() }
}

fn campaigns() -> Vec<CampaignSetup> {
    let budget = Budget { mode: Mode::Asap, daily: Some(Micros(50_000_000)), total: None, cost_max: Micros(5_000) };
    vec![CampaignSetup {
        id: "spring".to_owned(),
        currency: "EUR".parse().unwrap(),
        zone: TimeZone::UTC,
        budget: Some(budget),
        until: None,
        reward: Reward::Click,
        predicts: Some(Reward::Click),
        learning: Learning::Weights,
        floor: 0.0,
        creatives: Vec::new(),
    }]
}

fn decision(id: &str, at: i64) -> String {
    format!(
        r#"{{"decision_id":"{id}","user_key":"u","decided_at":"{at}","expires_at":"{}","campaigns":[{{"id":"spring","bid_micros":"4000000","currency":"EUR"}}]}}"#,
        at + 60 * SECOND
    )
}

fn win(id: &str, decision: &str, at: i64) -> String {
    format!(
        r#"{{"outcome_id":"{id}","type":"win","occurred_at":{at},"decision_id":"{decision}","campaign_id":"spring","price":2.0,"currency":"EUR"}}"#
    )
}

/// The topics with one partition each, and the clocks.
#[derive(Default)]
struct World {
    logs: [Vec<(i64, Option<String>)>; 3],
    read: [usize; 3],
    /// Whether a look at the ends fails.
    is_away: bool,
    now: i64,
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<World>>);

impl Shared {
    fn new() -> Self {
        let it = Self::default();
        it.0.borrow_mut().now = START;
        it
    }

    fn add(&self, input: Input, payload: Option<String>) {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        world.logs[input as usize].push((now, payload));
    }

    fn pass(&self, seconds: i64) {
        self.0.borrow_mut().now += seconds * SECOND;
    }

    fn now(&self) -> Now {
        let wall = self.0.borrow().now;
        Now { wall, uptime: Duration::from_micros((wall - START) as u64) }
    }
}

impl Inputs for Shared {
    fn poll(
        &mut self,
        input: Input,
        max: usize,
        _: Duration,
        take: &mut dyn FnMut(&Record<'_>),
    ) -> Result<usize, SourceError> {
        let mut world = self.0.borrow_mut();
        let from = world.read[input as usize];
        let to = world.logs[input as usize].len().min(from + max);
        for offset in from..to {
            let (at, payload) = &world.logs[input as usize][offset];
            take(&Record {
                partition: 0,
                offset: offset as i64,
                timestamp_ms: Some(at / 1_000),
                key: Some(b"key"),
                payload: payload.as_deref().map(str::as_bytes),
                traceparent: None,
                erase: None,
            });
        }
        world.read[input as usize] = to;
        Ok(to - from)
    }

    fn ends(&mut self) -> Result<Vec<(Input, i32, i64)>, SourceError> {
        let world = self.0.borrow();
        if world.is_away {
            return Err(SourceError::Unreachable { doing: "look".to_owned(), detail: "away".to_owned() });
        }
        Ok(Input::ALL.map(|input| (input, 0, world.logs[input as usize].len() as i64)).into())
    }

    fn is_read(&self, input: Input, _: i32, end: i64) -> bool {
        self.0.borrow().read[input as usize] as i64 >= end
    }

    fn next(&self, input: Input, _: i32) -> Option<i64> {
        Some(self.0.borrow().read[input as usize] as i64)
    }
}

/// The topics that control writes.
#[derive(Default)]
struct Logs {
    state: BTreeMap<String, Option<Vec<u8>>>,
    policies: Vec<Policy>,
    letters: Vec<DeadLetter>,
    /// How many transactions are to be aborted.
    aborts: usize,
    is_deposed: bool,
}

#[derive(Clone, Default)]
struct Topics(Rc<RefCell<Logs>>);

impl Outlet for Topics {
    fn write(&mut self, outputs: &ControlOutputs<'_>) -> Result<Written, ControlError> {
        let mut it = self.0.borrow_mut();
        if it.is_deposed {
            return Err(ControlError::Deposed("another process".to_owned()));
        }
        if it.aborts > 0 {
            it.aborts -= 1;
            return Ok(Written::Aborted);
        }
        it.state.extend(outputs.state.iter().cloned());
        it.policies.extend(outputs.policy.map(|policy| Policy::parse(policy).unwrap()));
        it.letters.extend_from_slice(outputs.dead_letters);
        Ok(Written::Committed)
    }
}

fn leader(world: &Shared, topics: &Topics) -> Leader<Shared, Topics> {
    let state: Vec<_> = topics.0.borrow().state.clone().into_iter().collect();
    let state = State::restore("shop", &spec(), campaigns(), state).unwrap();
    let inputs = world.clone();
    for input in Input::ALL {
        let name = Settings::for_tests(spec()).topic(input).to_owned();
        let next = state.position(&name, 0).unwrap_or_default();
        inputs.0.borrow_mut().read[input as usize] = next as usize;
    }
    inputs.0.borrow_mut().is_away = false;
    Leader::new(Settings::for_tests(spec()), state, inputs, topics.clone())
}

/// Turns for so many seconds.
fn turns(leader: &mut Leader<Shared, Topics>, world: &Shared, seconds: i64) -> Vec<Turn> {
    (0..seconds * 4)
        .map(|_| {
            let turn = leader.turn(&|| world.now()).unwrap();
            world.0.borrow_mut().now += SECOND / 4;
            turn
        })
        .collect()
}

fn spent(topics: &Topics) -> i64 {
    topics.0.borrow().policies.last().unwrap().campaigns["spring"].budget.unwrap().spent_total_micros
}

#[test]
fn the_first_policy_comes_at_once_and_the_others_by_the_interval() {
    let (world, topics) = (Shared::new(), Topics::default());
    world.add(Input::Decisions, Some(decision("shop:c-0-1", START)));
    world.add(Input::Outcomes, Some(win("o1", "shop:c-0-1", START)));
    let mut leader = leader(&world, &topics);
    turns(&mut leader, &world, 1);
    assert_eq!((topics.0.borrow().policies.len(), spent(&topics)), (1, 2_000));
    turns(&mut leader, &world, 20);
    let policies = topics.0.borrow().policies.clone();
    assert!((4..=6).contains(&policies.len()), "{}", policies.len());
    assert!(policies.windows(2).all(|pair| pair[0].version < pair[1].version));
}

#[test]
fn no_policy_is_published_while_the_inputs_are_not_known_to_be_read() {
    let (world, topics) = (Shared::new(), Topics::default());
    let mut leader = leader(&world, &topics);
    world.0.borrow_mut().is_away = true;
    world.add(Input::Decisions, Some(decision("shop:c-0-1", START)));
    turns(&mut leader, &world, 20);
    assert_eq!(topics.0.borrow().policies.len(), 0);
    assert!(!topics.0.borrow().state.is_empty(), "what was read is written all the same");
    world.0.borrow_mut().is_away = false;
    turns(&mut leader, &world, 5);
    assert!(!topics.0.borrow().policies.is_empty());
    // What is known grows old.
    world.0.borrow_mut().is_away = true;
    turns(&mut leader, &world, 90);
    let before = topics.0.borrow().policies.len();
    turns(&mut leader, &world, 30);
    assert_eq!(topics.0.borrow().policies.len(), before);
    assert!(!leader.is_known(world.now()));
}

#[test]
fn an_aborted_transaction_is_written_again_with_its_dead_letters_and_counts_once() {
    let (world, topics) = (Shared::new(), Topics::default());
    topics.0.borrow_mut().aborts = 3;
    world.add(Input::Decisions, Some(decision("shop:c-0-1", START)));
    world.add(Input::Outcomes, Some(win("o1", "shop:c-0-1", START)));
    world.add(Input::Outcomes, Some("garbage".to_owned()));
    world.add(Input::Outcomes, None);
    world.add(Input::Decisions, Some("{\"no\":1}".to_owned()));
    let mut leader = leader(&world, &topics);
    let aborted = turns(&mut leader, &world, 10).iter().filter(|turn| matches!(turn, Turn::Aborted)).count();
    assert_eq!((aborted, spent(&topics), topics.0.borrow().letters.len()), (3, 2_000, 3));
    let letters = topics.0.borrow().letters.clone();
    let header = |letter: &DeadLetter, name: &str| {
        let found = letter.headers.iter().find(|(known, _)| *known == name);
        String::from_utf8(found.unwrap().1.clone()).unwrap()
    };
    let places: Vec<_> =
        letters.iter().map(|it| ["reason", "topic", "partition", "offset"].map(|name| header(it, name))).collect();
    let expected = [
        ["missing_id", "decisions", "0", "1"],
        ["malformed", "outcomes", "0", "1"],
        ["null_payload", "outcomes", "0", "2"],
    ];
    assert_eq!(places, expected.map(|place| place.map(str::to_owned)));
    assert_eq!(letters[1].payload.as_deref(), Some(&b"garbage"[..]));
}

#[test]
fn the_page_shows_what_was_committed() {
    let (world, topics) = (Shared::new(), Topics::default());
    let mut leader = leader(&world, &topics);
    let status = RoleStatus::default();
    let mut page = LeaderPage::new(&Settings::for_tests(spec()), &status, world.now());
    for number in 0..30 {
        let id = format!("shop:c-0-{number}");
        world.add(Input::Decisions, Some(decision(&id, world.now().wall)));
        world.add(Input::Outcomes, Some(win(&format!("o{number}"), &id, world.now().wall)));
        for turn in turns(&mut leader, &world, 1) {
            if let Turn::Committed { policy, .. } = turn {
                let lag = Input::ALL.map(|input| leader.lag(input));
                page.committed(&leader.state, policy.as_deref(), lag, world.now());
            }
        }
    }
    let board = status.board();
    let version = topics.0.borrow().policies.last().unwrap().version;
    assert_eq!((&board["role"], board["policy"]["version"].as_u64()), (&"leader".into(), Some(version)));
    let (spring, spent) = (&board["campaigns"][0], board["campaigns"][0]["periods"]["all"]["spent_micros"].as_i64());
    assert!(spent.is_some_and(|spent| (50_000..=60_000).contains(&spent)), "{board}");
    assert_eq!((&spring["id"], &spring["state"]), (&"spring".into(), &"running".into()));
    assert_eq!(spring["budget"]["day"]["spent"].as_array().unwrap().last().unwrap()[1].as_i64(), spent);
}

#[test]
fn a_successor_goes_on_where_the_last_transaction_ended() {
    let (world, topics) = (Shared::new(), Topics::default());
    let mut first = leader(&world, &topics);
    for number in 0..40 {
        let id = format!("shop:c-0-{number}");
        let at = world.now().wall;
        world.add(Input::Decisions, Some(decision(&id, at)));
        world.add(Input::Outcomes, Some(win(&format!("o{number}"), &id, at)));
        world.add(Input::Outcomes, Some(win(&format!("o{}", number / 2), &id, at)));
        turns(&mut first, &world, 1);
        // Dies in the middle of an interval, with a third of what it read not written.
        if number % 7 == 6 {
            first = leader(&world, &topics);
        }
    }
    turns(&mut first, &world, 20);
    assert_eq!(spent(&topics), 40 * 2_000);
    let counts = *first.state.counts();
    assert_eq!((counts.decisions, counts.joined, counts.duplicates), (40, 40, 40));
    let versions: Vec<u64> = topics.0.borrow().policies.iter().map(|policy| policy.version).collect();
    assert!(versions.windows(2).all(|pair| pair[0] < pair[1]), "{versions:?}");
}

#[test]
fn a_deposed_leader_ends() {
    let (world, topics) = (Shared::new(), Topics::default());
    let mut leader = leader(&world, &topics);
    topics.0.borrow_mut().is_deposed = true;
    let error = (0..100).find_map(|_| {
        world.pass(1);
        leader.turn(&|| world.now()).err()
    });
    assert!(matches!(error, Some(ControlError::Deposed(_))), "{error:?}");
}

#[test]
fn outcomes_do_not_run_ahead_of_their_decisions() {
    let (world, topics) = (Shared::new(), Topics::default());
    // The decisions are far behind: many others come first.
    let count = 30_000;
    for number in 0..2 * count {
        world.add(Input::Decisions, Some(decision(&format!("shop:c-0-{number}"), START)));
    }
    for number in 0..count {
        world.add(Input::Outcomes, Some(win(&format!("o{number}"), &format!("shop:c-0-{}", count + number), START)));
    }
    let mut leader = leader(&world, &topics);
    turns(&mut leader, &world, 60);
    let counts = *leader.state.counts();
    assert_eq!((counts.joined, counts.orphans), (count as u64, 0));
    assert_eq!(spent(&topics), i64::from(count) * 2_000);
}

#[test]
fn decisions_of_other_applications_and_tombstones_only_move_the_position() {
    let (world, topics) = (Shared::new(), Topics::default());
    world.add(Input::Decisions, Some(decision("other:c-0-1", START)));
    world.add(Input::Decisions, None);
    world.add(Input::Decisions, Some(decision("shop:c-0-1", START)));
    let mut leader = leader(&world, &topics);
    let foreign: u64 = turns(&mut leader, &world, 10)
        .iter()
        .map(|turn| if let Turn::Committed { taken, .. } = turn { taken.foreign } else { 0 })
        .sum();
    assert_eq!((foreign, leader.state.counts().decisions, leader.state.counts().rejected), (1, 1, 0));
    assert_eq!(leader.state.position("decisions", 0), Some(3));
    assert!(topics.0.borrow().letters.is_empty());
}

#[test]
fn reports_of_audiences_reach_the_policy_and_hold_back_no_time() {
    let (world, topics) = (Shared::new(), Topics::default());
    let report = |app: &str, partition, members| {
        Some(format!(r#"{{"app":"{app}","partition":{partition},"segments":[{{"id":"keen","members":{members}}}]}}"#))
    };
    for payload in [report("shop", 0, 7), report("other", 0, 900), report("shop", 1, 5), None, report("shop", 0, 8)] {
        world.add(Input::Audiences, payload);
    }
    world.add(Input::Audiences, Some("{}".to_owned()));
    let mut leader = leader(&world, &topics);
    turns(&mut leader, &world, 10);
    let sizes = || {
        let policy = topics.0.borrow().policies.last().cloned().unwrap();
        policy.audiences.iter().map(|it| (it.id.clone(), it.members)).collect::<Vec<_>>()
    };
    assert_eq!(sizes(), [("keen".to_owned(), 13)]);
    let letters = topics.0.borrow().letters.len();
    assert_eq!((letters, leader.state.position("shop-audiences", 0)), (1, Some(6)), "what cannot be read is kept");
    // An outcome that is far ahead of the last report waits for nothing.
    world.pass(100_000);
    let later = world.now().wall;
    world.add(Input::Decisions, Some(decision("shop:c-0-1", later)));
    world.add(Input::Outcomes, Some(win("o1", "shop:c-0-1", later)));
    turns(&mut leader, &world, 10);
    assert_eq!((spent(&topics), leader.state.counts().joined), (2_000, 1));
    // A successor has the sizes, and a partition whose segments are gone no longer counts.
    let mut next = self::leader(&world, &topics);
    world.add(Input::Audiences, Some(r#"{"app":"shop","partition":1,"segments":[]}"#.to_owned()));
    turns(&mut next, &world, 10);
    assert_eq!(sizes(), [("keen".to_owned(), 8)]);
}

/// The lines of a day: decisions, wins twice, and orphans.
fn lines() -> (Vec<String>, Vec<String>) {
    let (mut decisions, mut outcomes) = (Vec::new(), Vec::new());
    for number in 0..100 {
        let (id, at) = (format!("shop:c-0-{number}"), START + number * SECOND);
        decisions.push(decision(&id, at));
        outcomes.push(win(&format!("o{number}"), &id, at));
        if number % 10 == 0 {
            outcomes.push(win(&format!("o{number}"), &id, at));
            outcomes.push(win(&format!("orphan{number}"), "nobody's", at).replace("win", "click"));
        }
    }
    (decisions, outcomes)
}

#[test]
fn files_give_what_the_topics_give_whatever_their_order() {
    let (decisions, outcomes) = lines();
    let offline = |files: &[&Vec<String>]| {
        let mut offline = Offline::default();
        for (file, lines) in files.iter().enumerate() {
            for (line, json) in lines.iter().enumerate() {
                offline.add(("shop", &UserKeys::default()), file, line as u64 + 1, json.as_bytes()).unwrap();
            }
        }
        offline.finish("shop", &spec(), campaigns())
    };
    let both: Vec<String> = decisions.iter().chain(&outcomes).cloned().collect();
    let mixed: Vec<String> = {
        let mut mixed = both.clone();
        mixed.sort_by_key(|line| line.contains("outcome_id"));
        mixed
    };
    let first = offline(&[&decisions, &outcomes]);
    for other in [offline(&[&outcomes, &decisions]), offline(&[&mixed, &vec![]])] {
        assert_eq!((&other.campaigns, &other.counts.joined), (&first.campaigns, &first.counts.joined));
    }

    // One partition after the other, as a consumer may have written them: the later half first.
    let moved = |line: &String| {
        (50..100)
            .fold(line.clone(), |line, number| line.replace(&format!("c-0-{number}\""), &format!("c-1-{number}\"")))
    };
    let two: Vec<String> = decisions[50..].iter().chain(&decisions[..50]).map(moved).collect();
    let other = offline(&[&two, &outcomes.iter().map(moved).collect()]);
    assert_eq!((&other.campaigns, &other.counts.joined), (&first.campaigns, &first.counts.joined));

    let (world, topics) = (Shared::new(), Topics::default());
    let mut live = leader(&world, &topics);
    let mut outcomes = outcomes.into_iter().peekable();
    for (number, line) in decisions.into_iter().enumerate() {
        world.0.borrow_mut().now = START + number as i64 * SECOND;
        world.add(Input::Decisions, Some(line));
        while let Some(line) = outcomes.next_if(|line| line.contains(&(START + number as i64 * SECOND).to_string())) {
            world.add(Input::Outcomes, Some(line));
        }
        live.turn(&|| world.now()).unwrap();
    }
    turns(&mut live, &world, 30);
    assert_eq!(live.state.total("spring"), first.campaigns.get("spring"));
    let (live, offline) = (live.state.counts(), &first.counts);
    assert_eq!(
        (live.decisions, live.joined, live.duplicates, live.orphans, live.late),
        (offline.decisions, offline.joined, offline.duplicates, offline.orphans, offline.late)
    );
    assert_eq!((offline.joined, offline.duplicates, offline.orphans), (100, 10, 10));

    let text = summary(&first);
    for part in [
        "decisions       100\n",
        "100 joined, 10 duplicate, 0 late, 10 orphan, 0 rejected",
        "spring: spent 0.20 EUR, today 0.20 of 50.00",
        "100 wins, 0 losses, 0 impressions",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(first.policy.unwrap().campaigns["spring"].budget.unwrap().spent_today_micros, 200_000);
}

#[test]
fn a_line_that_is_neither_is_refused_and_a_contradiction_is_named() {
    let mut offline = Offline::default();
    for (line, part) in [
        ("garbage", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("{\"user_key\":\"u\"}", "neither an outcome"),
        ("{\"outcome_id\":\"a\"}", "missing_type"),
        ("{\"decided_at\":\"1\"}", "missing_id"),
    ] {
        let fault = offline.add(("shop", &UserKeys::default()), 0, 1, line.as_bytes()).unwrap_err();
        assert!(fault.contains(part), "{line}: {fault}");
    }
    offline.add(("shop", &UserKeys::default()), 0, 1, decision("shop:c-0-1", START).as_bytes()).unwrap();
    offline.add(("shop", &UserKeys::default()), 0, 2, decision("other:c-0-1", START).as_bytes()).unwrap();
    offline
        .add(("shop", &UserKeys::default()), 1, 7, win("o1", "shop:c-0-1", START).replace("EUR", "USD").as_bytes())
        .unwrap();
    let found = offline.finish("shop", &spec(), campaigns());
    assert_eq!((found.foreign, found.counts.rejected, found.rejected.len()), (1, 1, 1));
    assert!(found.rejected[0].0 == 1 && found.rejected[0].1 == 7, "{:?}", found.rejected);
}

#[test]
fn a_replay_gives_the_same_policies_in_whatever_order_its_records_were_read() {
    let (decisions, outcomes) = lines();
    let replay = |reversed: bool| {
        let mut control = ReplayedControl::of("shop", "outcomes", &spec(), campaigns());
        let mut policies = Vec::new();
        for round in 0..4 {
            let now = START + round * 25 * SECOND;
            let mut records = Vec::new();
            for (topic, all) in [("decisions", &decisions), ("outcomes", &outcomes)] {
                let size = all.len().div_ceil(4);
                let from = round as usize * size;
                records.extend((from..all.len().min(from + size)).map(|offset| (topic, offset, all[offset].clone())));
            }
            if reversed {
                records.reverse();
            }
            for (topic, offset, json) in records {
                let payload = Some(json.as_bytes());
                let record = Record { partition: 0, offset: offset as i64, payload, ..Record::default() };
                control.keep(topic, &record, now + 25 * SECOND);
            }
            policies.push(control.tick(now + 25 * SECOND));
        }
        policies.push(control.tick(START + 200 * SECOND));
        (policies, control.counts(), control.figures("spring"))
    };
    let (policies, counts, figures) = replay(false);
    assert_eq!(replay(true), (policies.clone(), counts, figures));
    assert_eq!((counts.decisions, counts.joined, counts.duplicates, counts.orphans), (100, 100, 10, 10));
    assert_eq!((figures.wins, figures.spent_micros), (100, 200_000));
    assert!(policies.windows(2).all(|pair| pair[0].version < pair[1].version));
}

/// Pseudonyms of e-mail addresses.
fn pseudonyms() -> UserKeys {
    pseudonyms_by("a key of thirty-two bytes or more", None)
}

/// Those by a key, and while users move to it, the previous one.
fn pseudonyms_by(key: &str, previous: Option<&str>) -> UserKeys {
    let (key, previous_key) = (Some(Secret::new(key)), previous.map(Secret::new));
    let spec: PseudonymSpec = toml::from_str("pseudonymise = true\nnormalise = \"email\"").unwrap();
    UserKeys::new(&PseudonymSpec { key, previous_key, ..spec }, false)
}

#[test]
fn an_outcome_that_names_its_user_by_the_raw_id_finds_a_decision_with_the_pseudonym() {
    let users = pseudonyms();
    let ann = users.pseudonyms().unwrap().of_bytes(b"ann@example.com");
    let mut control = ReplayedControl::of("shop", "outcomes", &spec(), campaigns());
    control.users = users;
    let decision = decision("shop:c-0-1", START).replace(r#""user_key":"u""#, &format!(r#""user_key":"{ann}""#));
    let outcome = format!(
        r#"{{"outcome_id":"o1","type":"impression","occurred_at":{},"user_key":"Ann@Example.com","campaign_id":"spring"}}"#,
        START + SECOND
    );
    for (topic, json) in [("decisions", &decision), ("outcomes", &outcome)] {
        control.keep(topic, &Record { payload: Some(json.as_bytes()), ..Record::default() }, START + SECOND);
    }
    control.tick(START + 60 * SECOND);
    assert_eq!((control.counts().joined, control.counts().orphans), (1, 0));
}

#[test]
fn an_outcome_that_waited_and_contradicts_has_no_content_in_its_dead_letter_with_pseudonyms() {
    for (users, is_shown) in [(pseudonyms(), false), (UserKeys::default(), true)] {
        let mut state = State::new("shop", &spec(), campaigns());
        let mut taken = Taken::default();
        let source = |topic, offset| crate::control::Source { topic, partition: 0, offset, arrived_at: START };
        let outcome = win("ann@example.com-1", "shop:c-0-1", START).replace("EUR", "USD");
        take_outcome(
            &mut state,
            ("shop", &users),
            &source("outcomes", 0),
            (None, Some(outcome.as_bytes())),
            &mut taken,
        );
        assert!(taken.dead_letters.is_empty(), "it waits for its decision");
        let decision = decision("shop:c-0-1", START);
        take_decision(&mut state, "shop", &source("decisions", 0), (None, Some(decision.as_bytes())), &mut taken);
        state.tick(START);
        take_rejected(&mut state, ("shop", &users), "outcomes", &mut taken);
        let letter = taken.dead_letters.pop().expect("it contradicts its decision");
        assert_eq!(letter.payload.is_some_and(|it| it.windows(3).any(|part| part == b"ann")), is_shown);
    }
}

#[test]
fn with_pseudonyms_the_ids_of_outcomes_are_kept_as_hashes_and_join_as_before() {
    let of_auction = |kind: &str, more: &str| {
        format!(
            r#"{{"outcome_id":"{kind}-ann@x.example","type":"{kind}","occurred_at":{START},"auction_id":"auction-ann@x.example","imp_id":"imp-ann","campaign_id":"spring"{more}}}"#
        )
    };
    let win = of_auction("win", r#","price":2.0,"currency":"EUR","decision_id":"shop:c-0-1""#);
    let outcomes = [
        win.clone(),
        win,
        of_auction("impression", ""),
        of_auction("click", r#","decision_id":"shop:ann@x.example""#),
        of_auction("win", r#","price":2.0,"currency":"EUR","decision_id":"ann@x.example:c-0-1""#)
            .replace("win-ann", "w2-ann"),
    ];
    let joined = |users: &UserKeys| {
        let mut state = State::new("shop", &spec(), campaigns());
        let mut taken = Taken::default();
        let source = |topic, offset| crate::control::Source { topic, partition: 0, offset, arrived_at: START };
        for (offset, json) in (0..).zip(&outcomes) {
            take_outcome(
                &mut state,
                ("shop", users),
                &source("outcomes", offset),
                (None, Some(json.as_bytes())),
                &mut taken,
            );
        }
        let text = |state: &mut State| {
            let records = state.dirty().into_iter().map(|it| (it.key, it.value.unwrap_or_default()));
            records.map(|(key, value)| key + &String::from_utf8_lossy(&value)).collect::<String>()
        };
        let waiting = text(&mut state);
        assert!(waiting.contains("shop:c-0-1"), "{waiting}");
        let json = decision("shop:c-0-1", START);
        take_decision(&mut state, "shop", &source("decisions", 0), (None, Some(json.as_bytes())), &mut taken);
        state.tick(START);
        let has_id = waiting.contains("ann") || text(&mut state).contains("ann");
        (*state.counts(), state.total("spring").map(|it| it.spent_micros), has_id)
    };
    let (plain, hidden) = (joined(&UserKeys::default()), joined(&pseudonyms()));
    assert_eq!((plain.0.joined, plain.0.duplicates, plain.1, plain.2), (3, 1, Some(2_000), true), "{plain:?}");
    assert_eq!((hidden.0, hidden.1, hidden.2), (plain.0, plain.1, false));
}

#[test]
fn a_dead_letter_of_an_outcome_has_no_id_with_pseudonyms() {
    let json = br#"{"outcome_id":"o1","user_key":"ann@example.com"}"#;
    let taken = |users: &UserKeys| {
        let mut taken = Taken::default();
        let mut state = State::new("shop", &spec(), campaigns());
        let source = crate::control::Source { topic: "outcomes", partition: 0, offset: 0, arrived_at: START };
        take_outcome(&mut state, ("shop", users), &source, (Some(b"ann@example.com"), Some(json)), &mut taken);
        taken.dead_letters.swap_remove(0)
    };
    let letter = taken(&pseudonyms());
    assert_eq!((letter.key.map(|key| key.len()), letter.payload), (Some(43), None));
    assert_eq!(letter.headers[0], ("reason", b"missing_type".to_vec()));
    let letter = taken(&UserKeys::default());
    assert_eq!((letter.key.as_deref(), letter.payload.as_deref()), (Some(&b"ann@example.com"[..]), Some(&json[..])));
}

#[test]
fn while_the_key_changes_outcomes_join_what_was_shown_before_and_count_once() {
    let [first, second] = ["the first key, of thirty-two bytes", "the second key, of thirty-two bytes"];
    let (before, moving) = (pseudonyms_by(first, None), pseudonyms_by(second, Some(first)));
    let of = |id: &str, kind: &str, at: i64, more: &str| {
        format!(r#"{{"outcome_id":"{id}","type":"{kind}","occurred_at":{},"campaign_id":"spring"{more}}}"#, START + at)
    };
    let auction = r#","auction_id":"auction-1","imp_id":"imp-1""#;
    let paid = format!(r#"{auction},"price":2.0,"currency":"EUR","decision_id":"shop:c-0-1""#);
    let user = r#","user_key":"Ann@x.example""#;
    let joined = |after: &UserKeys| {
        let mut state = State::new("shop", &spec(), campaigns());
        let mut taken = Taken::default();
        let mut offset = 0;
        let mut source = |topic| {
            offset += 1;
            crate::control::Source { topic, partition: 0, offset, arrived_at: START + 60 * SECOND }
        };
        let ann = before.pseudonyms().unwrap().of_bytes(b"ann@x.example");
        let json = decision("shop:c-0-1", START).replace(r#""user_key":"u""#, &format!(r#""user_key":"{ann}""#));
        take_decision(&mut state, "shop", &source("decisions"), (None, Some(json.as_bytes())), &mut taken);
        for (users, outcome) in [
            (&before, of("w1", "win", 0, &paid)),
            (&before, of("i1", "impression", 1, auction)),
            // Sent again, and under another id.
            (after, of("w1", "win", 0, &paid)),
            (after, of("w2", "win", 0, &paid)),
            // By the auction, and by the user alone.
            (after, of("c1", "click", 2, auction)),
            (after, of("c1", "click", 2, auction)),
            (after, of("v1", "conversion", 3, user)),
        ] {
            let bytes = (None, Some(outcome.as_bytes()));
            take_outcome(&mut state, ("shop", users), &source("outcomes"), bytes, &mut taken);
        }
        state.tick(START + 60 * SECOND);
        (*state.counts(), state.total("spring").map(|it| it.spent_micros))
    };
    let (same, moved) = (joined(&before), joined(&moving));
    assert_eq!((same.1, same.0.joined), (Some(2_000), 4), "{same:?}");
    assert_eq!(moved, same, "as if the key had stayed");
    assert_ne!(joined(&pseudonyms_by(second, None)).0, same.0, "without the previous key, nothing is recognised");
}
