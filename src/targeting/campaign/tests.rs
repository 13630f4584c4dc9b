//! Campaigns together with a real profile engine: events in, choices out.

mod caps;
mod errors;

use super::*;
use crate::{
    columns::Type,
    config_error::ConfigError,
    event::{Decoder, DuplicateSpec, EventBatch, FieldSpec, Fields, InputSpec, Record, TimeSpec},
    expression::Scope,
    profile::{Applied, FeatureSpec, HiddenFeature, KeptForTargeting, ProfileEngine, ProfileSpec},
    state::{Store, Stores},
    targeting::{
        AudienceSpec, TargetingSpec,
        creative::{CreativeSpec, Draw},
    },
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::fmt::Write;

/// The ids of the segments in all tests.
const SEGMENTS: [&str; 3] = ["keen", "new", "gone"];

/// 2026-03-02T00:00Z, a Monday, in seconds. Tiles of all widths start there, except those of a month.
const START: i64 = 1_772_409_600;

#[derive(Clone, Default, serde::Deserialize)]
#[serde(default)]
struct Spec {
    campaign: Vec<CampaignSpec>,
    targeting: TargetingSpec,
    feature: Vec<FeatureSpec>,
    field: Vec<FieldSpec>,
    /// Id and campaign.
    creative: Vec<(String, String)>,
}

impl Spec {
    fn new(text: &str) -> Self {
        toml::from_str(text).unwrap()
    }

    fn creatives(&self) -> Vec<CreativeSpec> {
        let creative = |(id, campaign): &(String, String)| {
            let text = format!(
                "id = \"{id}\"\ncampaign = \"{campaign}\"\nheadline = [\"x\"]\nlanding_page = \"https://shop.example/\""
            );
            toml::from_str(&text).unwrap()
        };
        self.creative.iter().map(creative).collect()
    }

    fn hidden(&self) -> Vec<HiddenFeature> {
        Campaigns::hidden_features(&self.campaign, &self.targeting, &self.creatives())
    }

    fn engine(&self, scope: &mut Scope, errors: &mut Vec<ConfigError>) -> (Fields, ProfileEngine) {
        let fields = Fields::declare(&InputSpec::default(), &self.field, scope, errors);
        let (profile, time, ids) = (ProfileSpec::default(), TimeSpec::default(), DuplicateSpec::default());
        let kept = KeptForTargeting { hidden: &self.hidden(), ..KeptForTargeting::default() };
        let engine = ProfileEngine::compile_with(&profile, &time, &ids, &self.feature, kept, scope, errors);
        (fields, engine)
    }

    /// Compiles everything and returns the errors.
    fn errors(&self) -> Vec<String> {
        let (mut scope, mut errors) = (Scope::default(), Vec::new());
        self.engine(&mut scope, &mut errors);
        self.campaigns(&mut scope, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn campaigns(&self, scope: &mut Scope, errors: &mut Vec<ConfigError>) -> Campaigns {
        for name in ["score", "score.buy"] {
            scope.declare(name, Type::Double).unwrap();
        }
        let heads = ["buy".to_owned()];
        Campaigns::compile(&self.campaign, &self.targeting, &SEGMENTS, &heads, &self.creatives(), scope, errors)
    }
}

struct One(Store);

impl Stores for One {
    fn store(&mut self, _: i32) -> &mut Store {
        &mut self.0
    }
}

/// An event: its offset from [`START`] in seconds, the members of its JSON object, and the context from the rest of the
/// program.
#[derive(Clone, Copy)]
struct Event<'a> {
    at: f64,
    user: &'a str,
    json: &'a str,
    segments: &'a [usize],
    score: f64,
    suppressed: Option<Reason>,
}

impl<'a> Event<'a> {
    const fn new(at: f64, json: &'a str) -> Self {
        Self { at, user: "u", json, segments: &[], score: 0.1, suppressed: None }
    }
}

struct Rig {
    decoder: Decoder,
    profile: ProfileEngine,
    campaigns: Campaigns,
    batch: EventBatch,
    store: One,
    scores: [Slot; 2],
    choice: Choice,
}

impl Rig {
    fn new(text: &str) -> Self {
        Self::of(&Spec::new(text))
    }

    fn of(spec: &Spec) -> Self {
        let (mut scope, mut errors) = (Scope::default(), Vec::new());
        let (fields, profile) = spec.engine(&mut scope, &mut errors);
        let campaigns = spec.campaigns(&mut scope, &mut errors);
        assert_eq!(errors, []);
        let used: Vec<Slot> = profile.reads().chain(campaigns.reads()).collect();
        Self {
            decoder: Decoder::new(fields, &used, &InputSpec::default(), &TimeSpec::default()),
            profile,
            campaigns,
            batch: EventBatch::new(scope.columns()),
            store: One(Store::default()),
            scores: ["score", "score.buy"].map(|name| scope.get(name).unwrap().0),
            choice: Choice::default(),
        }
    }

    /// Runs one event as a batch of its own.
    fn run(&mut self, event: Event<'_>) -> &Choice {
        let (user, at) = (event.user, START * 1_000_000 + (event.at * 1e6) as i64);
        let more = if event.json.is_empty() { String::new() } else { format!(",{}", event.json) };
        let payload = format!(r#"{{"user_id":"{user}","occurred_at":{at}{more}}}"#);
        let record = Record { payload: Some(payload.as_bytes()), timestamp_ms: Some(at / 1_000), ..Record::default() };
        self.decoder.decode(&record, &mut self.batch).unwrap();
        self.profile.process(&mut self.batch, &mut self.store);
        assert_eq!(self.profile.applied(), [Applied::Counted]);
        for slot in self.scores {
            self.batch.columns.get_mut(slot).doubles_mut().push(event.score);
        }
        self.campaigns.run(&mut self.batch.columns, 1);
        let mut segments = Held::new(SEGMENTS.len());
        event.segments.iter().for_each(|segment| segments.insert(*segment));
        let context = RowContext {
            time: self.batch.times[0],
            user_hash: self.batch.user_hashes[0],
            segments: &segments,
            suppressed: event.suppressed,
            decision: Draw::word(payload.as_str()),
            now: 0,
        };
        self.campaigns.decide(&self.batch.columns, 0, &context, &mut self.choice);
        self.batch.clear();
        &self.choice
    }

    /// The reason why the first campaign is refused. `None` if it is chosen.
    fn first(&mut self, event: Event<'_>) -> Option<Reason> {
        let choice = self.run(event);
        let refused = choice.refused.iter().find(|refused| refused.campaign == 0).map(|refused| refused.reason);
        assert_eq!(choice.bids.iter().any(|bid| bid.campaign == 0), refused.is_none(), "considered in any case");
        refused
    }

    fn chosen(&mut self, event: Event<'_>) -> Vec<u32> {
        self.run(event).bids.iter().map(|bid| bid.campaign).collect()
    }
}

const VIEW: &str = r#""event_type":"view""#;

#[test]
fn a_campaign_is_considered_where_its_segments_and_its_rule_hold() {
    for (segments, held, considered) in [
        ("", &[][..], true),
        ("any = [\"keen\", \"new\"]", &[1], true),
        ("any = [\"keen\", \"new\"]", &[2], false),
        ("any = [\"keen\", \"new\"]", &[], false),
        ("all = [\"keen\", \"new\"]", &[0, 1], true),
        ("all = [\"keen\", \"new\"]", &[0, 2], false),
        ("any = [\"keen\"], all = [\"new\"]", &[0], false),
        ("any = [\"keen\"], all = [\"new\"]", &[0, 1], true),
        ("none = [\"gone\"]", &[0], true),
        ("any = [\"keen\"], none = [\"gone\"]", &[2], false),
    ] {
        let text = format!(
            "[[campaign]]\nid = \"a\"\nvalue = 1\ncurrency = \"EUR\"\nsegments = {{ {segments} }}\nwhere = 'value > 5.0'"
        );
        let mut rig = Rig::new(&text);
        let event = |json| Event { segments: held, ..Event::new(0.0, json) };
        assert_eq!(
            rig.chosen(event("\"event_type\":\"view\",\"value\":6")).len(),
            usize::from(considered),
            "{segments} {held:?}"
        );
        for json in ["\"event_type\":\"view\",\"value\":5", VIEW] {
            assert_eq!(rig.chosen(event(json)), [0; 0], "the rule does not hold, or its value is missing");
        }
        assert_eq!(rig.choice.refused, []);
        assert_eq!(rig.campaigns.tallies()[0].considered, u64::from(considered));
    }
}

#[test]
fn each_refusal_has_the_first_reason_that_applies() {
    const TEXT: &str = r#"
        [[campaign]]
        id = "a"
        segments = { none = ["gone"] }
        action = "click"
        value = "value"
        probability = "score"
        currency = "EUR"
        floor = 2
        until = "2026-03-02"
        dayparts = ["08:00-24:00"]
        recency = "10m"
        conversion_cap = { max = 1, per = "total" }
        caps = [{ max = 1, per = "hour" }]
    "#;
    let mut rig = Rig::new(TEXT);
    let shown = r#""event_type":"impression","ad":{"campaign_id":"a"}"#;
    let bought = r#""event_type":"conversion","ad":{"campaign_id":"a"}"#;
    let valued = r#""event_type":"view","value":1"#;
    let hour = 3_600.0;
    let morning = Event { score: 0.1, ..Event::new(9.0 * hour, valued) };
    assert_eq!(rig.first(morning), None);
    assert_eq!(rig.first(Event { json: VIEW, ..morning }), Some(Reason::ColdStart), "no value");
    assert_eq!(rig.first(Event { score: f64::NAN, ..morning }), Some(Reason::ColdStart), "no score");
    assert_eq!(rig.first(Event { score: 0.001_9, ..morning }), Some(Reason::Floor));
    assert_eq!(rig.first(Event { score: 0.002, ..morning }), None);
    assert_eq!(rig.first(Event { at: 7.9 * hour, ..morning }), Some(Reason::Daypart));
    assert_eq!(rig.first(Event { at: 24.0 * hour, ..morning }), Some(Reason::Dates), "outside of the dayparts, too");
    assert_eq!(rig.first(Event { user: "v", json: bought, ..morning }), Some(Reason::ConversionCap));
    assert_eq!(rig.first(Event { user: "v", json: shown, ..morning }), Some(Reason::Cap));
    assert_eq!(rig.first(Event { user: "w", json: shown, ..morning }), Some(Reason::Cap));
    let bot = Event { json: r#""event_type":"view","value":1,"bot":true"#, ..morning };
    assert_eq!(rig.first(bot), Some(Reason::Bot));
    assert_eq!(rig.first(Event { at: 24.0 * hour, ..bot }), Some(Reason::Bot));
    assert_eq!(rig.first(Event { segments: &[2], ..bot }), Some(Reason::Excluded));
    assert_eq!(rig.first(Event { json: r#""event_type":"view","value":1,"bot":false"#, ..morning }), None);
    for reason in [Reason::Consent, Reason::Child, Reason::Bot, Reason::Stale] {
        let suppressed = Event { suppressed: Some(reason), at: 24.0 * hour, ..morning };
        assert_eq!(rig.first(suppressed), Some(reason));
        assert_eq!(rig.first(Event { segments: &[2], ..suppressed }), Some(Reason::Excluded));
    }
    let tally = rig.campaigns.tallies()[0];
    assert_eq!(tally.considered, tally.chosen + tally.refused.iter().sum::<u64>());
    assert_eq!((tally.chosen, tally.refused[Reason::Cap.index()], tally.refused[Reason::ColdStart.index()]), (3, 2, 2));
    rig.campaigns.reset_tallies();
    assert_eq!(rig.campaigns.tallies(), [Tally::default()]);
}

#[test]
fn the_best_campaigns_come_first_whatever_their_ceiling_and_ties_keep_their_order() {
    let campaign = |id: &str, more: &str| format!("[[campaign]]\nid = \"{id}\"\n{more}\n");
    let text = [
        campaign("a", "value = 2\ncurrency = \"EUR\""),
        campaign("b", "value = 0.03\naction = \"click\"\nprobability = 0.1\ncurrency = \"EUR\"\nceiling = 1"),
        campaign("c", "value = 2\ncurrency = \"EUR\""),
        campaign("d", "value = 2.5\ncurrency = \"USD\""),
        campaign("e", "value = 0.01\ncurrency = \"EUR\"\npriority = 1"),
        "[targeting]\nrates = { EUR = 1.0, USD = 0.8 }\n".to_owned(),
    ]
    .concat();
    for (max, order) in
        [(1, vec![4]), (2, vec![4, 1]), (3, vec![4, 1, 0]), (4, vec![4, 1, 0, 2]), (9, vec![4, 1, 0, 2, 3])]
    {
        let mut rig = Rig::new(&format!("{text}campaigns_max = {max}"));
        assert_eq!(rig.chosen(Event::new(0.0, VIEW)), order);
        let bid = rig.choice.bids.iter().find(|bid| bid.campaign == 1);
        assert!(bid.is_none_or(|bid| (bid.bid.0, bid.value.0, bid.probability) == (1_000_000, 30_000, 0.1)));
        assert_eq!(rig.choice.refused.len(), 5 - order.len());
        assert!(rig.choice.refused.iter().all(|it| it.reason == Reason::Outranked));
    }
    assert_eq!(Rig::new(&text).chosen(Event::new(0.0, VIEW)).len(), 3, "by default");
}

#[test]
fn holdout_and_arm_are_the_same_for_a_user_at_every_event() {
    let mut rig = Rig::new(
        r#"
        [[campaign]]
        id = "a"
        value = 1
        currency = "EUR"
        holdout = 0.25
        arms = [{ name = "red", share = 0.25 }, { name = "blue", share = 0.25 }]
        [[campaign]]
        id = "b"
        value = 1
        currency = "EUR"
        "#,
    );
    assert_eq!(rig.campaigns.all()[0].arms(), ["control", "red", "blue"]);
    assert_eq!(rig.campaigns.all()[1].arms(), [""; 0]);
    let mut counts = [0; 4];
    for user in 0..400 {
        let user = format!("user-{user}");
        let part = |rig: &mut Rig, at| {
            let choice = rig.run(Event { user: &user, ..Event::new(at, VIEW) });
            assert_eq!(choice.bids.iter().find(|bid| bid.campaign == 1).map(|bid| bid.arm), Some(None));
            match choice.bids.iter().find(|bid| bid.campaign == 0) {
                Some(bid) => usize::from(bid.arm.unwrap()),
                None => {
                    assert_eq!(choice.refused, [Refusal { campaign: 0, reason: Reason::Holdout }]);
                    3
                }
            }
        };
        let found = part(&mut rig, 0.0);
        counts[found] += 1;
        assert_eq!(part(&mut rig, 5_000_000.0), found);
    }
    // Five standard deviations of a binomial with a quarter of 400.
    assert!(counts.iter().all(|count| (57..=143).contains(count)), "{counts:?}");
}

#[test]
fn a_campaign_in_the_zone_of_its_users_reads_it_from_the_profile() {
    let mut rig = Rig::new(
        r#"
        targeting = { user_zone = "zone" }
        field = [{ name = "zone", type = "string", path = "properties.zone" }]
        [[campaign]]
        id = "a"
        value = 1
        currency = "EUR"
        zone = "user"
        dayparts = ["08:30-20:00"]
        "#,
    );
    let hour = 3_600.0;
    let in_zone = |zone: &str| format!(r#""event_type":"view","properties":{{"zone":"{zone}"}}"#);
    assert_eq!(rig.first(Event::new(12.0 * hour, VIEW)), Some(Reason::Daypart), "no zone is known");
    assert_eq!(rig.first(Event::new(12.0 * hour, &in_zone("Asia/Kolkata"))), None, "17:30");
    assert_eq!(rig.first(Event::new(14.4 * hour, VIEW)), None, "19:54, in the zone that the user was last seen in");
    assert_eq!(rig.first(Event::new(14.5 * hour, VIEW)), Some(Reason::Daypart), "20:00");
    assert_eq!(rig.first(Event::new(15.0 * hour, &in_zone("America/New_York"))), None, "10:00");
}

/// Campaigns with random values, limits, segments and caps.
fn random_campaigns(random: &mut SmallRng, count: usize) -> String {
    let mut text = format!("[targeting]\ncampaigns_max = {}\n", random.random_range(1..6));
    for number in 0..count {
        let cents = |random: &mut SmallRng, max: i32| f64::from(random.random_range(1..max)) / 100.0;
        writeln!(text, "[[campaign]]\nid = \"c{number}\"\ncurrency = \"EUR\"").unwrap();
        let worth = match random.random_range(0..3) {
            0 => "value = \"value\"\naction = \"click\"\nprobability = \"score\"".to_owned(),
            1 => "value = \"value * 0.01\"\naction = \"buy\"\nprobability = \"buy\"".to_owned(),
            _ => format!("value = \"value + {:.2}\"", cents(random, 900)),
        };
        writeln!(text, "{worth}\nfloor = {}\nceiling = {}", cents(random, 300), 3.0 + cents(random, 900)).unwrap();
        let segment = SEGMENTS[random.random_range(0..3)];
        writeln!(text, "segments = {{ {} = [\"{segment}\"] }}", ["any", "all", "none"][random.random_range(0..3)])
            .unwrap();
        if random.random() {
            writeln!(text, "caps = [{{ max = {}, per = \"hour\" }}]", random.random_range(1..4)).unwrap();
        }
        if random.random() {
            text += "holdout = 0.2\narms = [{ name = \"x\", share = 0.5 }]\n";
        }
        writeln!(text, "priority = {}", random.random_range(0..2)).unwrap();
    }
    text
}

#[test]
fn no_choice_ever_breaks_floor_ceiling_order_or_the_most_campaigns() {
    let mut random = SmallRng::seed_from_u64(21);
    let (mut bids, mut refused) = (0, 0);
    for _ in 0..12 {
        let spec = Spec::new(&random_campaigns(&mut random, 70));
        let mut rig = Rig::of(&spec);
        let mut at = 0.0;
        for _ in 0..120 {
            at += random.random_range(0.0..400.0);
            let campaign = random.random_range(0..70);
            let json = match random.random_range(0..4) {
                0 => format!(r#""event_type":"impression","ad":{{"campaign_id":"c{campaign}"}}"#),
                1 => VIEW.to_owned(),
                _ => format!(r#""event_type":"view","value":{}"#, random.random_range(-1.0..9.0)),
            };
            let segments: Vec<usize> = (0..3).filter(|_| random.random()).collect();
            let user = format!("u{}", random.random_range(0..3));
            let score = [f64::NAN, 0.0, 1.0, random.random_range(-0.1..1.1)][random.random_range(0..4)];
            let event = Event { user: &user, segments: &segments, score, ..Event::new(at, &json) };
            let choice = rig.run(event).clone();
            assert!(choice.bids.len() <= spec.targeting.campaigns_max as usize);
            for bid in &choice.bids {
                let of = &spec.campaign[bid.campaign as usize];
                let micros = |amount: Option<f64>| (amount.unwrap() * 1e6).round() as i64;
                assert!((micros(of.floor)..=micros(of.ceiling)).contains(&bid.bid.0), "{bid:?} of {of:?}");
                assert!((0.0..=1.0).contains(&bid.probability) && bid.value.0 >= 0 && bid.floor.0 == micros(of.floor));
                let is_held = |id: &String| segments.iter().any(|segment| SEGMENTS[*segment] == id);
                let AudienceSpec { any, all, none } = &of.segments;
                assert!(any.is_empty() || any.iter().any(is_held));
                assert!(all.iter().all(is_held) && !none.iter().any(is_held));
            }
            for pair in choice.bids.windows(2) {
                let key = |bid: &Bid| (bid.priority, bid.expected);
                assert!(
                    key(&pair[0]) > key(&pair[1])
                        || key(&pair[0]) == key(&pair[1]) && pair[0].campaign < pair[1].campaign
                );
            }
            let mut seen: Vec<u32> = choice.bids.iter().map(|bid| bid.campaign).collect();
            seen.extend(choice.refused.iter().map(|it| it.campaign));
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), count, "one outcome each");
            bids += choice.bids.len();
            refused += choice.refused.len();
        }
        let sum = |tally: &Tally| tally.chosen + tally.refused.iter().sum::<u64>();
        assert!(rig.campaigns.tallies().iter().all(|tally| tally.considered == sum(tally)));
    }
    assert!(bids > 500 && refused > 5_000, "the test sees both: {bids} and {refused}");
}
