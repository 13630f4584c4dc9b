//! The input, and the expected outputs: computed by the core record by record, without a broker or faults.

use super::{
    consent::{self, NaiveConsent, Permits},
    erasure::{NaiveErasures, Standing},
    naive::{Event, Naive, Told},
};
use aimpoint::{
    decision::emission::{EmissionSpec, EmitOn},
    engine::{Partition, Partitions, Pipeline, PipelineSpec},
    event::{EventTime, Record},
    profile::Layout,
    sink::{Outbox, Target},
    state::hash_key,
    status::Counts,
    testkit::{FakeControl, FakeModel, Fate, InputRecord, Mood, Visible},
};
use rand::{Rng, rngs::SmallRng};
use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

const SPEC: &str = r#"
[time]
allowed_lateness = "1h"
too_late = "dead_letter"
future_tolerance = "1000d"

[duplicates]
horizon = "1h"

[erasure]
keep = "48h"

[profile]
ttl = "24h"

[[feature]]
name = "views_5m"
aggregate = "count"
where = 'event_type == "view"'
window = "5m"

[[feature]]
name = "spent_1h"
aggregate = "sum"
value = "value"
window = "1h"

[[feature]]
name = "since_last"
aggregate = "recency"

[[segment]]
id = "keen"
where = "views_5m >= 3.0"

[[segment]]
id = "spender"
where = "spent_1h > 100.0"

[decision]
format = "flat"
fields = { id = "decision_id", event = "trigger_event_id", user = "user_key", partition = "input.partition", offset = "input.offset", segments = "segments", score = "score.raw", status = "status", version = "model.version" }
"#;

/// Lasting segments, and campaigns with caps and creatives. Some memberships outlast the jumps in time, some do not. Some segments have exit rules, and one
/// excludes another. [`super::naive`] defines the same segments by hand.
const LASTING: &str = r#"
[[segment]]
id = "viewing"
where = 'event_type == "view"'
duration = "10m"

[[segment]]
id = "looker"
where = 'event_type == "view"'
exit = 'event_type == "click"'
duration = "20m"
unless = ["rich"]

[[segment]]
id = "buyer"
where = 'event_type == "purchase"'
exit = "false"
duration = "8h"
priority = 2

[[segment]]
id = "rich"
where = "value > 75.0"
exit = "value < 25.0"
duration = "2h"

[[campaign]]
id = "spring"
segments = { any = ["keen", "spender", "buyer"], none = ["rich"] }
value = "value + 1.0"
currency = "EUR"
floor = 2
caps = [{ events = "click", max = 2, per = "hour" }]
holdout = 0.2
arms = [{ name = "b", share = 0.5 }]

[[campaign]]
id = "summer"
where = "spent_1h > 10.0"
action = "click"
value = 3
probability = 0.01
currency = "EUR"

[[creative]]
id = "red"
campaign = "spring"
headline = ["Half price"]
landing_page = "https://shop.example/"
weight = 2.0

[[creative]]
id = "blue"
campaign = "spring"
where = "value > 20.0"
headline = ["Half price"]
landing_page = "https://shop.example/"
"#;

const FEATURES: [&str; 3] = ["views_5m", "spent_1h", "since_last"];

/// The number of users.
pub(crate) const USERS: usize = 12;

/// The start of the streams, in milliseconds.
const START: i64 = 1_700_000_000_000;

/// The same in microseconds.
pub(crate) const START_MICROS: i64 = START * 1_000;

/// The time shown by wrong clocks: in the year 2126.
const WRONG: i64 = 4_923_500_000_000;

/// A pipeline, and the control of its model.
pub(crate) fn pipeline(spec: &PipelineSpec) -> (Pipeline, FakeControl) {
    let model = FakeModel::new(&FEATURES, |row| row.iter().filter(|it| it.is_finite()).sum::<f32>() / 1_000.0);
    let control = model.control();
    let pipeline = Pipeline::compile(spec, "clicks").expect("the specification compiles");
    (pipeline.with_model(Box::new(model)).expect("the model fits"), control)
}

pub(crate) fn spec() -> PipelineSpec {
    toml::from_str(SPEC).expect("the specification is well formed")
}

/// The same with lasting segments and campaigns.
pub(crate) fn lasting(spec: PipelineSpec) -> PipelineSpec {
    let more: PipelineSpec = toml::from_str(LASTING).expect("the specification is well formed");
    let segments = [spec.segments, more.segments].concat();
    let mut spec = PipelineSpec { segments, campaigns: more.campaigns, creatives: more.creatives, ..spec };
    for field in ["left", "campaigns", "suppressed"] {
        spec.decision.fields.insert(field.to_owned(), field.to_owned());
    }
    spec
}

/// The same with a campaign that follows control's policies.
pub(crate) fn budgeted(spec: PipelineSpec) -> PipelineSpec {
    const BUDGET: &str = r#"
ceiling = 10_000
budget = { daily = 100 }
rotation = { method = "thompson" }
"#;
    let mut spec = lasting(spec);
    let more = LASTING.replacen("floor = 2\n", BUDGET, 1);
    spec.campaigns = toml::from_str::<PipelineSpec>(&more).expect("the specification is well formed").campaigns;
    spec.decision.fields.insert("policy".to_owned(), "policy_version".to_owned());
    spec
}

/// The same with lasting segments, and consent.
pub(crate) fn consenting(spec: PipelineSpec) -> PipelineSpec {
    let more: PipelineSpec = toml::from_str(consent::SPEC).expect("the specification is well formed");
    PipelineSpec { consent: more.consent, profile: more.profile, ..lasting(spec) }
}

/// How far apart decisions about a user are at least, in microseconds, and by which share a bid must differ.
pub(crate) const EVERY: i64 = 30_000_000;
pub(crate) const BID_SHARE: f64 = 0.2;

/// The same with decisions that say how long they can be used.
pub(crate) fn timed(spec: PipelineSpec) -> PipelineSpec {
    let mut spec = lasting(spec);
    for field in ["occurred_at", "expires_at"] {
        spec.decision.fields.insert(field.to_owned(), field.to_owned());
    }
    spec
}

/// The same, writing only what changes.
pub(crate) fn on_change(spec: PipelineSpec) -> PipelineSpec {
    let every = Duration::from_micros(EVERY as u64);
    PipelineSpec { emission: EmissionSpec { on: EmitOn::Change, every, bid_share: BID_SHARE }, ..timed(spec) }
}

/// The same features among others and in other orders; the output is the same.
pub(crate) fn changed_specs() -> [PipelineSpec; 2] {
    const MORE: &str = r#"
[[feature]]
name = "clicks"
aggregate = "count"
where = 'event_type == "click"'
window = "1h"

[[feature]]
name = "kinds"
aggregate = "distinct"
value = "event_type"
window = "10m"
tile = "2m"

[[feature]]
name = "spent"
aggregate = "sum"
value = "value"
window = "forever"
"#;
    let with = |order: &[usize]| {
        let mut spec = spec();
        let more: PipelineSpec = toml::from_str(MORE).expect("the specification is well formed");
        let all = [spec.features, more.features].concat();
        spec.features = order.iter().map(|index| all[*index].clone()).collect();
        spec
    };
    [with(&[3, 1, 0, 2, 4]), with(&[5, 2, 3, 0, 1])]
}

/// Records of a few users: in order, late, too late, duplicate, invalid, and with jumps in time that let profiles
/// expire. Some come from a transactional producer that aborts part of its transactions. If workers' clocks follow the
/// events, no event is wrong by a century, because its outcome would depend on whether the clock or the event is ahead.
pub(crate) fn input(
    random: &mut SmallRng,
    partitions: usize,
    records: usize,
    has_wrong_clocks: bool,
) -> Vec<Vec<InputRecord>> {
    let mut input = vec![Vec::new(); partitions];
    let mut base = START;
    let mut ids = Vec::new();
    // In some runs, a few users return after long pauses, so that profiles expire and reappear within one commit.
    let (users, jump, jumps) = if random.random_bool(0.3) { (4, 100_000_000, 12) } else { (USERS, 40_000_000, 60) };
    for number in 0..records {
        let user = random.random_range(0..users);
        base += if random.random_range(0..jumps) == 0 { jump } else { 20_000 };
        let at = match random.random_range(0..20) {
            0 => base - random.random_range(0..7_200_000),
            1 => base + random.random_range(0..600_000),
            2 if random.random_bool(0.4) && has_wrong_clocks => WRONG + random.random_range(0..600_000),
            _ => base,
        };
        // If the event's clock is wrong, the record's may be wrong or missing, too. Either can also be wrong on its
        // own.
        let timestamp_ms = match random.random_range(0..if at < WRONG { 10 } else { 3 }) {
            0 => -1,
            1 => at.max(WRONG),
            _ => base,
        };
        let kind = ["view", "click", "purchase"][random.random_range(0..3)];
        let is_again = !ids.is_empty() && random.random_range(0..15) == 0;
        let id = if is_again { ids[random.random_range(0..ids.len())] } else { number };
        ids.push(number);
        let value = f64::from(random.random_range(0..400)) * 0.25;
        let payload = match random.random_range(0..25) {
            0 => Some(b"{\"broken".to_vec()),
            1 => None,
            2 => Some(br#"{"event_type":"view","occurred_at":1700000000000}"#.to_vec()),
            // Without an id, so that only the changelog prevents it from counting twice.
            3..12 => Some(
                format!(
                    r#"{{"event_type":"{kind}","user_id":"u{user}","occurred_at":{at},"value":{value},"ad":{{"campaign_id":"spring"}}}}"#
                )
                .into_bytes(),
            ),
            _ => Some(
                format!(
                    r#"{{"event_id":"e{id}","event_type":"{kind}","user_id":"u{user}","occurred_at":{at},"value":{value},"ad":{{"campaign_id":"spring"}}}}"#
                )
                .into_bytes(),
            ),
        };
        let key = format!("u{user}").into_bytes();
        let erase = None;
        input[user % partitions].push(InputRecord { key: Some(key), payload, erase, timestamp_ms, fate: Fate::Plain });
    }
    if random.random_bool(0.4) {
        input = input.into_iter().map(|records| in_transactions(random, records)).collect();
    }
    input
}

/// The same records, as written by a producer that sometimes uses transactions and aborts some.
fn in_transactions(random: &mut SmallRng, records: Vec<InputRecord>) -> Vec<InputRecord> {
    let mut log = Vec::with_capacity(2 * records.len());
    let mut left = records.as_slice();
    while !left.is_empty() {
        let (some, others) = left.split_at(random.random_range(1..6).min(left.len()));
        let marker = log.len() + some.len();
        let (is_transaction, is_aborted) = (random.random_bool(0.7), random.random_bool(0.4));
        let fate = match (is_transaction, is_aborted) {
            (false, _) => Fate::Plain,
            (true, false) => Fate::Committed(marker),
            (true, true) => Fate::Aborted(marker),
        };
        log.extend(some.iter().map(|record| InputRecord { fate, ..record.clone() }));
        if is_transaction {
            log.push(InputRecord { fate: Fate::Marker, ..InputRecord::default() });
        }
        // Aborted records are written again.
        if !(is_transaction && is_aborted) {
            left = others;
        }
    }
    log
}

/// A user's words by offset.
type History = Vec<(i64, Vec<u64>)>;

/// The reason why an output is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Debt {
    pub(crate) partition: i32,
    /// The record that it is about; `None` for a membership that ends without an event.
    pub(crate) record: Option<i64>,
    /// Every committed position at or after this one includes it.
    pub(crate) due: i64,
    /// Its place among the outputs of its partition.
    pub(crate) order: i64,
}

/// A partition processed by the core alone, record by record.
pub(crate) struct Course {
    number: i32,
    pub(crate) partitions: Partitions,
    /// Everything before this offset has been processed.
    at: i64,
    /// The number of outputs so far.
    outputs: i64,
}

impl Course {
    pub(crate) fn new(number: i32, core: &mut Pipeline) -> Self {
        core.set_present(present(0));
        let mut partitions = Partitions::default();
        partitions.insert(number, Partition::new(0, 0, None));
        Self { number, partitions, at: 0, outputs: 0 }
    }

    /// Continues to `next` with these ticks, and passes each output to `each`.
    pub(crate) fn go(
        &mut self,
        records: &[InputRecord],
        next: i64,
        ticks: &[(i64, i64)],
        core: &mut Pipeline,
        mut each: impl FnMut(Debt, Visible),
    ) {
        let (number, none) = (self.number, EventTime(0));
        for offset in self.at..=next {
            let (mut outbox, mut counts) = (Outbox::default(), Counts::default());
            for (_, time) in ticks.iter().filter(|(at, _)| *at == offset) {
                let time = EventTime(*time);
                let is_taken = core.tick(number, time, &mut self.partitions, none, &mut outbox, &mut counts);
                assert!(is_taken, "there is room for every tick");
            }
            for index in 0..outbox.len() {
                self.outputs += 1;
                let debt = Debt { partition: number, record: None, due: offset, order: self.outputs };
                each(debt, visible(&outbox, index));
            }
            if offset < next && records[offset as usize].counts() {
                outbox.clear();
                let it = record(number, offset, &records[offset as usize]);
                core.take(&it, &mut self.partitions, &mut outbox, &mut counts);
                core.run(&mut self.partitions, none, &mut outbox, &mut counts);
                for index in 0..outbox.len() {
                    let output = outbox.get(index);
                    self.outputs += 1;
                    let record = (!output.is_expiry).then_some(offset);
                    let debt = Debt { partition: number, record, due: offset + 1, order: self.outputs };
                    each(debt, visible(&outbox, index));
                }
            }
            if offset % 8 != 0 {
                continue;
            }
            // Settles as if every profile had been written, to make room for further ticks.
            let reached = self.partitions.get(number).expect("it was put in").next();
            let most = (usize::MAX, usize::MAX);
            self.partitions.write_profiles(number, true, most, core.layout(), &mut Outbox::default());
            self.partitions.settle(vec![(number, reached, String::new())]);
        }
        self.at = next;
    }
}

/// What is owed if memberships can end by ticks, which are unknown until they are committed.
struct Lasting {
    /// By partition: its courses with each reference, if the model scores, and if it fails.
    courses: Vec<Vec<[Course; 2]>>,
    /// By partition: the committed ticks.
    ticks: Vec<Vec<(i64, i64)>>,
    naive: Vec<Naive>,
    erasures: Vec<NaiveErasures>,
    /// If consent is checked.
    consent: Option<Vec<NaiveConsent>>,
}

/// The expected outputs and profiles.
pub(crate) struct Owed {
    /// By output: why it is owed. A record has one output with a score, and another for a failing model.
    outputs: HashMap<Visible, Debt>,
    lasting: Option<Lasting>,
    /// By partition: the decisions about memberships that ended without an event, each with the position from which it
    /// is due.
    pub(crate) expiries: Vec<Vec<(i64, Visible)>>,
    /// By partition and offset: whether there is an output.
    pub(crate) has_output: Vec<Vec<bool>>,
    /// By partition and offset: the partition time before it, computed by its definition. No event moves it further
    /// than its record's timestamp.
    newest: Vec<Vec<i64>>,
    /// By partition and user.
    states: Vec<BTreeMap<Vec<u8>, History>>,
}

/// The ticks that follow the known ones.
pub(crate) fn new_ticks(known: &[(i64, i64)], ticks: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let last = known.last().map_or(i64::MIN, |(offset, _)| *offset);
    ticks.iter().copied().filter(|tick| tick.0 >= last && !known.contains(tick)).collect()
}

/// Presents an input record as the client does.
pub(crate) fn record(partition: i32, offset: i64, record: &InputRecord) -> Record<'_> {
    Record {
        partition,
        offset,
        timestamp_ms: Some(record.timestamp_ms).filter(|millis| *millis >= 0),
        key: record.key.as_deref(),
        payload: record.payload.as_deref(),
        traceparent: None,
        erase: record.erase.as_deref(),
    }
}

/// A worker's time of day: after all valid events, and long before the wrong ones.
pub(crate) fn present(days: i64) -> EventTime {
    EventTime((START + (100 + days) * 86_400_000) * 1_000)
}

/// A valid event.
pub(crate) fn event(record: &InputRecord) -> Option<Event> {
    #[derive(serde::Deserialize)]
    struct Payload {
        user_id: String,
        occurred_at: i64,
        event_type: String,
        value: f64,
    }
    if record.erase.is_some() {
        return None;
    }
    let it: Payload = serde_json::from_slice(record.payload.as_deref()?).ok()?;
    let event = Event { user: it.user_id, time: it.occurred_at * 1_000, kind: it.event_type, value: it.value };
    (it.occurred_at < WRONG).then_some(event)
}

/// When a record was appended, in microseconds; the end of time if its timestamp is missing.
fn logged_at(record: &InputRecord) -> i64 {
    if record.timestamp_ms < 0 { i64::MAX } else { record.timestamp_ms * 1_000 }
}

/// By partition and number of records: the time of the newest valid event among them.
pub(crate) fn newest(input: &[Vec<InputRecord>]) -> Vec<Vec<i64>> {
    let of = |records: &Vec<InputRecord>| {
        let mut newest = vec![START * 1_000];
        for record in records {
            let last = newest[newest.len() - 1];
            newest.push(event(record).map_or(last, |event| event.time.max(last)));
        }
        newest
    };
    input.iter().map(of).collect()
}

/// An output as stored in a log.
fn visible(outbox: &Outbox, index: usize) -> Visible {
    let output = outbox.get(index);
    Visible {
        target: output.target,
        key: output.key.map(<[u8]>::to_vec),
        payload: output.payload.map(<[u8]>::to_vec),
        headers: output.headers().map(|(name, value)| (name, value.to_vec())).collect(),
    }
}

impl Owed {
    /// Computes the expected outputs for this input.
    pub(crate) fn of(input: &[Vec<InputRecord>], cores: &mut [(Pipeline, FakeControl)]) -> Self {
        let (has_output, newest, states) = (Vec::new(), Vec::new(), Vec::new());
        let mut owed =
            Self { outputs: HashMap::new(), lasting: None, expiries: Vec::new(), has_output, newest, states };
        for (number, records) in input.iter().enumerate() {
            owed.expiries.push(Vec::new());
            owed.partition(number as i32, records, &mut cores[0]);
        }
        if cores[0].0.keeps_memberships() {
            let mut both = |number| {
                let of = |(core, _): &mut (Pipeline, _)| [0, 1].map(|_| Course::new(number as i32, core));
                cores.iter_mut().map(of).collect()
            };
            let courses = (0..input.len()).map(&mut both).collect();
            owed.outputs.clear();
            let ticks = vec![Vec::new(); input.len()];
            let naive = vec![Naive::default(); input.len()];
            let erasures = vec![NaiveErasures::default(); input.len()];
            let consent = cores[0].0.profile().checks_consent().then(|| vec![NaiveConsent::default(); input.len()]);
            owed.lasting = Some(Lasting { courses, ticks, naive, erasures, consent });
        }
        owed
    }

    /// The committed ticks of a partition.
    pub(crate) fn ticks(&self, number: i32) -> &[(i64, i64)] {
        self.lasting.as_ref().map_or(&[], |lasting| &lasting.ticks[number as usize])
    }

    /// Continues to a position that was committed with these ticks, so that everything owed up to it is known. Compares
    /// the resulting memberships with their definition.
    pub(crate) fn advance(
        &mut self,
        number: i32,
        next: i64,
        ticks: &[(i64, i64)],
        records: &[InputRecord],
        cores: &mut [(Pipeline, FakeControl)],
    ) -> Result<(), String> {
        let Some(Lasting { courses, ticks: known, naive, erasures, consent }) = &mut self.lasting else {
            return Ok(());
        };
        let (index, newest) = (number as usize, &self.newest[number as usize]);
        let from = courses[index][0][0].at;
        if next < from {
            return Ok(());
        }
        let (_, before) = known[index].last().copied().unwrap_or((i64::MIN, i64::MIN));
        let new = new_ticks(&known[index], ticks);
        if let Some((at, _)) = new.iter().find(|(at, _)| *at < from) {
            return Err(format!("I4: partition {number} has a tick at {at} that was not told with {from}"));
        }
        known[index].extend(&new);
        let mut told = Vec::new();
        for (place, ((core, control), courses)) in cores.iter_mut().zip(&mut courses[index]).enumerate() {
            for (mood, course) in [Mood::Score, Mood::Fail].into_iter().zip(courses) {
                control.set(mood);
                course.go(records, next, &new, core, |debt, output| {
                    if mood == Mood::Score && place == 0 {
                        if debt.record.is_none() {
                            self.expiries[index].push((debt.due, output.clone()));
                        }
                        told.push((debt, output.clone()));
                    }
                    self.outputs.insert(output, debt);
                });
            }
            control.set(Mood::Score);
        }
        // The same by definition.
        let mut told = told.into_iter().filter(|(_, output)| output.target == Target::Decisions).peekable();
        let mut ticked = before;
        let consent = consent.as_mut().map(|all| &mut all[index]);
        let mut lawful = Lawful { naive: &mut naive[index], consent };
        for offset in from..=next {
            let mut ended = Vec::new();
            for (_, time) in new.iter().filter(|(at, _)| *at == offset) {
                ticked = *time;
                ended.extend(lawful.pass(ticked));
            }
            compare_ended(number, offset, ended, &mut told)?;
            if offset == next {
                break;
            }
            let passed = newest[offset as usize + 1].max(ticked.min(logged_at(&records[offset as usize])));
            let record = &records[offset as usize];
            let standing = erasures[index].judge(record, newest[offset as usize]);
            if let Standing::Request(user) = &standing {
                lawful.naive.forget(user);
                let null = told.next_if(|(debt, _)| debt.record == Some(offset)).ok_or("an erasure gives a null")?;
                NaiveErasures::check(user, &null.1)?;
                compare_ended(number, offset, lawful.pass(passed), &mut told)?;
                continue;
            }
            let sound = event(record).filter(|_| record.counts());
            let permits = sound.as_ref().map_or(Permits::All, |event| lawful.judge(event, record));
            if let Some((debt, output)) = told.next_if(|(debt, _)| debt.record == Some(offset)) {
                if standing == Standing::Past {
                    return Err(format!(
                        "I2: partition {number} at {offset}: from before its user's erasure, and decided"
                    ));
                }
                let event = sound.as_ref().ok_or("an event that is decided is sound")?;
                let payload = output.payload.as_deref().unwrap_or_default();
                let owed = lawful.event(event, passed, permits);
                let found = Told::of(payload);
                let decision: serde_json::Value = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
                if (decision["status"] == "STATUS_SUPPRESSED") != (permits < Permits::All) {
                    return Err(format!("I2: partition {number} at {offset}: {permits:?} is permitted: {decision}"));
                }
                if owed != found {
                    return Err(format!(
                        "I2: partition {} at {offset}: memberships are {found:?}, and should be {owed:?}",
                        debt.partition
                    ));
                }
            }
            // Only events let time pass.
            let ended = if sound.is_some() { lawful.pass(passed) } else { Vec::new() };
            compare_ended(number, offset, ended, &mut told)?;
        }
        match told.next() {
            Some((debt, _)) => Err(format!("I2: partition {number}: {debt:?} is not owed")),
            None => Ok(()),
        }
    }

    /// The core after everything before `next` and these ticks.
    pub(crate) fn course(
        number: i32,
        next: i64,
        ticks: &[(i64, i64)],
        records: &[InputRecord],
        core: &mut Pipeline,
    ) -> Course {
        let mut course = Course::new(number, core);
        course.go(records, next, ticks, core, |_, _| {});
        course
    }

    fn partition(&mut self, number: i32, records: &[InputRecord], (core, control): &mut (Pipeline, FakeControl)) {
        let mut states = BTreeMap::<Vec<u8>, History>::new();
        let mut has_output = vec![false; records.len()];
        let mut newest = Vec::with_capacity(records.len() + 1);
        for mood in [Mood::Score, Mood::Fail] {
            control.set(mood);
            newest.clear();
            newest.push(i64::MIN);
            let mut partitions = Partitions::default();
            partitions.insert(number, Partition::new(0, 0, None));
            core.set_present(present(0));
            let mut users = BTreeMap::new();
            let mut consent = core.profile().checks_consent().then(NaiveConsent::default);
            let mut erasures = NaiveErasures::default();
            for (offset, it) in records.iter().enumerate() {
                if !it.counts() {
                    newest.extend(newest.last().copied());
                    continue;
                }
                let standing = erasures.judge(it, newest.last().copied().unwrap_or(i64::MIN));
                let mut outbox = Outbox::default();
                let mut counts = Counts::default();
                core.take(&record(number, offset as i64, it), &mut partitions, &mut outbox, &mut counts);
                core.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
                // The other outputs are about memberships that ended.
                let count = outbox.all().filter(|output| !output.is_expiry).count();
                assert!(count <= 1, "a record has one output at most");
                if count > 0 {
                    has_output[offset] = true;
                    let (record, due, order) = (Some(offset as i64), offset as i64 + 1, offset as i64);
                    self.outputs.insert(visible(&outbox, 0), Debt { partition: number, record, due, order });
                }
                let store = partitions.get(number).expect("it was put in").store();
                if let Some(event) = event(it) {
                    let permits = consent.as_mut().map_or(Permits::All, |consent| consent.judge(&event, it));
                    // An event that is not written lets no time pass.
                    if permits > Permits::Nothing || consent::is_remembered(it) {
                        let time = event.time.min(logged_at(it));
                        let of_user = users.entry(event.user).or_insert(time);
                        *of_user = time.max(*of_user);
                    }
                }
                let mut all: Vec<i64> = users.values().copied().collect();
                all.sort_unstable_by(|a, b| b.cmp(a));
                newest.push(all.get(4).copied().unwrap_or(i64::MIN));
                let key = it.key.clone().expect("each record has one");
                let words = store.get(hash_key(&key), &key).map(Cow::into_owned).unwrap_or_default();
                let shown: Vec<Visible> = (0..outbox.len()).map(|index| visible(&outbox, index)).collect();
                erasures.check_profile(&standing, it, &words, &shown);
                let history = states.entry(key).or_default();
                if mood == Mood::Score && history.last().is_none_or(|(_, last)| *last != words) {
                    history.push((offset as i64 + 1, words));
                }
            }
        }
        control.set(Mood::Score);
        self.has_output.push(has_output);
        self.newest.push(newest);
        self.states.push(states);
    }

    /// Marks the records at these offsets whose output was shown, with or without a score.
    pub(crate) fn mark_shown(
        &self,
        number: i32,
        offsets: std::ops::Range<i64>,
        shown: &HashSet<Visible>,
        seen: &mut [bool],
    ) {
        for (output, debt) in self.outputs.iter().filter(|(_, debt)| debt.partition == number) {
            if let Some(record) = debt.record.filter(|record| offsets.contains(record))
                && shown.contains(output)
            {
                seen[record as usize] = true;
            }
        }
    }

    /// What is owed in a partition by this position, from this place in its order on.
    pub(crate) fn due(&self, number: i32, next: i64, from: i64) -> BTreeMap<i64, (Debt, Vec<&Visible>)> {
        let mut due = BTreeMap::<i64, (Debt, Vec<&Visible>)>::new();
        let of_partition = self.outputs.iter().filter(|(_, debt)| debt.partition == number);
        for (output, debt) in of_partition.filter(|(_, debt)| debt.due <= next && debt.order >= from) {
            due.entry(debt.order).or_insert_with(|| (*debt, Vec::new())).1.push(output);
        }
        due
    }

    /// Why this output is owed.
    pub(crate) fn debt(&self, output: &Visible) -> Option<Debt> {
        self.outputs.get(output).copied()
    }

    /// Compares the profiles of a partition that includes everything before `next` with the reference: byte for byte,
    /// or if they have another layout, the features in common. `ticks` are the ticks it includes, if there are lasting
    /// segments.
    pub(crate) fn compare(
        &self,
        core: &mut Pipeline,
        (number, ticks): (i32, &[(i64, i64)]),
        partition: &Partition,
        records: &[InputRecord],
        layout: Option<&Layout>,
    ) -> Result<(), String> {
        let course = self.lasting.as_ref().map(|_| Self::course(number, partition.next(), ticks, records, core));
        let course = course.as_ref().and_then(|course| course.partitions.get(number));
        let profile = core.profile();
        let carry = |from: Option<&Layout>| from.map(|from| profile.carry(from));
        let carries = [carry(layout), carry(layout.map(|_| profile.layout()))];
        let common = |side: usize, words: &[u64]| match &carries[side] {
            Some(carry) => carry.apply(words).unwrap_or_default(),
            None => words.to_vec(),
        };
        let next = partition.next();
        let newest = self.newest[number as usize][next as usize];
        let found = partition.store().clock().time();
        if found.unwrap_or(i64::MIN) != newest {
            return Err(format!("partition {number} at {next}: the partition's time is {found:?}, not {newest}"));
        }
        let alive = |words: &[u64]| !words.is_empty() && !core.profile().is_gone(words[0], newest);
        let mut found: BTreeMap<&[u8], Cow<'_, [u64]>> =
            partition.store().iter().filter(|(_, words)| alive(words)).collect();
        for (key, history) in &self.states[number as usize] {
            let owed = history.iter().rev().find(|(from, _)| *from <= next).map_or(&[][..], |(_, words)| words);
            let of_course = course.map(|course| course.store().get(hash_key(key), key).unwrap_or_default());
            let owed = of_course.as_deref().unwrap_or(owed);
            let user = String::from_utf8_lossy(key);
            match (found.remove(key.as_slice()), alive(owed)) {
                (None, false) => {}
                (Some(words), true) if common(0, &words) == common(1, owed) => {}
                (Some(words), _) => {
                    return Err(format!("partition {number} at {next}: {user} is {words:?}, and should be {owed:?}"));
                }
                (None, true) => return Err(format!("partition {number} at {next}: {user} is missing")),
            }
        }
        if found.is_empty() { Ok(()) } else { Err(format!("partition {number} at {next}: users that never were")) }
    }
}

/// Memberships by definition, of users who may have refused.
struct Lawful<'a> {
    naive: &'a mut Naive,
    consent: Option<&'a mut NaiveConsent>,
}

impl Lawful<'_> {
    /// What a sound event permits. A withdrawal ends everything.
    fn judge(&mut self, event: &Event, record: &InputRecord) -> Permits {
        let Some(consent) = &mut self.consent else { return Permits::All };
        let permits = consent.judge(event, record);
        if permits == Permits::Nothing && consent::is_remembered(record) {
            self.naive.forget(&event.user);
            consent.note(event, permits);
        }
        permits
    }

    /// What a decision about an event tells.
    fn event(&mut self, event: &Event, passed: i64, permits: Permits) -> Told {
        if permits == Permits::Nothing {
            return Told::nothing();
        }
        if let Some(consent) = &mut self.consent {
            consent.note(event, permits);
        }
        let told = self.naive.event(event, passed);
        if permits == Permits::All { told } else { Told::nothing() }
    }

    /// Ends what expires by this time, and what is told of it.
    fn pass(&mut self, time: i64) -> Vec<(i64, String, Told)> {
        let mut ended = self.naive.pass(time);
        for (_, user, told) in &mut ended {
            if self.consent.as_ref().is_some_and(|consent| consent.last(user) < Permits::All) {
                *told = Told::nothing();
            }
        }
        ended
    }
}

/// Compares the outputs about ended memberships with what is owed.
fn compare_ended(
    number: i32,
    offset: i64,
    ended: Vec<(i64, String, Told)>,
    told: &mut std::iter::Peekable<impl Iterator<Item = (Debt, Visible)>>,
) -> Result<(), String> {
    let mut owed: Vec<(i64, String, Told)> = ended;
    let mut found = Vec::new();
    for _ in 0..owed.len() {
        let Some((_, output)) = told.next_if(|(debt, _)| debt.record.is_none()) else { break };
        let payload = output.payload.unwrap_or_default();
        let decision: serde_json::Value = serde_json::from_slice(&payload).map_err(|error| error.to_string())?;
        let id = decision["id"].as_str().unwrap_or_default();
        let deadline = id.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        let user = decision["user"].as_str().unwrap_or_default().to_owned();
        if decision["status"] == "STATUS_FALLBACK" || !id.contains("-expired-") {
            return Err(format!("I2: no decision about memberships that have ended: {decision}"));
        }
        found.push((deadline, user, Told::of(&payload)));
    }
    // Users with the same deadline come in the order of their hashes.
    if !found.is_sorted_by_key(|(deadline, ..)| *deadline) {
        return Err(format!("I2: partition {number} at {offset}: out of order: {found:?}"));
    }
    let key = |it: &(i64, String, Told)| (it.0, it.1.clone());
    owed.sort_by_key(key);
    found.sort_by_key(key);
    if owed == found {
        return Ok(());
    }
    Err(format!("I2: partition {number} at {offset}: what ends is {found:?}, and should be {owed:?}"))
}

/// Whether an output is for readers.
pub(crate) fn is_output(output: &Visible) -> bool {
    !matches!(output.target, Target::Profiles(_))
}
