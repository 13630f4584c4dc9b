//! The input, and the expected outputs: computed by the core record by record, without a broker or faults.

use aimpoint::{
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
    collections::{BTreeMap, HashMap},
};

const SPEC: &str = r#"
[time]
allowed_lateness = "1h"
too_late = "dead_letter"
future_tolerance = "1000d"

[duplicates]
horizon = "1h"

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

const FEATURES: [&str; 3] = ["views_5m", "spent_1h", "since_last"];

/// The number of users.
pub(crate) const USERS: usize = 12;

/// The start of the streams, in milliseconds.
const START: i64 = 1_700_000_000_000;

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
/// expire. Some come from a transactional producer that aborts part of its transactions.
pub(crate) fn input(random: &mut SmallRng, partitions: usize, records: usize) -> Vec<Vec<InputRecord>> {
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
            2 if random.random_bool(0.4) => WRONG + random.random_range(0..600_000),
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
                    r#"{{"event_type":"{kind}","user_id":"u{user}","occurred_at":{at},"value":{value}}}"#
                )
                .into_bytes(),
            ),
            _ => Some(
                format!(
                    r#"{{"event_id":"e{id}","event_type":"{kind}","user_id":"u{user}","occurred_at":{at},"value":{value}}}"#
                )
                .into_bytes(),
            ),
        };
        let key = format!("u{user}").into_bytes();
        input[user % partitions].push(InputRecord { key: Some(key), payload, timestamp_ms, fate: Fate::Plain });
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

/// The expected outputs and profiles.
pub(crate) struct Owed {
    /// By output: its record. A record has one output with a score, and another for a failing model.
    outputs: HashMap<Visible, (i32, i64)>,
    /// By partition and offset: whether there is an output.
    pub(crate) has_output: Vec<Vec<bool>>,
    /// By partition and offset: the partition time before it, computed by its definition.
    newest: Vec<Vec<i64>>,
    /// By partition and user.
    states: Vec<BTreeMap<Vec<u8>, History>>,
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
    }
}

/// A worker's time of day: after all valid events, and long before the wrong ones.
pub(crate) fn present(days: i64) -> EventTime {
    EventTime((START + (100 + days) * 86_400_000) * 1_000)
}

/// The user and time of a valid event.
fn event(record: &InputRecord) -> Option<(String, i64)> {
    #[derive(serde::Deserialize)]
    struct Event {
        user_id: String,
        occurred_at: i64,
    }
    let event: Event = serde_json::from_slice(record.payload.as_deref()?).ok()?;
    (event.occurred_at < WRONG).then_some((event.user_id, event.occurred_at * 1_000))
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
    pub(crate) fn of(input: &[Vec<InputRecord>], core: &mut (Pipeline, FakeControl)) -> Self {
        let mut owed = Self { outputs: HashMap::new(), has_output: Vec::new(), newest: Vec::new(), states: Vec::new() };
        for (number, records) in input.iter().enumerate() {
            owed.partition(number as i32, records, core);
        }
        owed
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
            for (offset, it) in records.iter().enumerate() {
                if !it.counts() {
                    newest.extend(newest.last().copied());
                    continue;
                }
                let mut outbox = Outbox::default();
                let mut counts = Counts::default();
                core.take(&record(number, offset as i64, it), &mut partitions, &mut outbox, &mut counts);
                core.run(&mut partitions, EventTime(0), &mut outbox, &mut counts);
                assert!(outbox.len() <= 1, "a record has one output at most");
                if !outbox.is_empty() {
                    has_output[offset] = true;
                    self.outputs.insert(visible(&outbox, 0), (number, offset as i64));
                }
                let store = partitions.get(number).expect("it was put in").store();
                if let Some((user, time)) = event(it) {
                    let of_user = users.entry(user).or_insert(time);
                    *of_user = time.max(*of_user);
                }
                let mut all: Vec<i64> = users.values().copied().collect();
                all.sort_unstable_by(|a, b| b.cmp(a));
                newest.push(all.get(4).copied().unwrap_or(i64::MIN));
                let key = it.key.clone().expect("each record has one");
                let words = store.get(hash_key(&key), &key).map(Cow::into_owned).unwrap_or_default();
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

    /// The record to which this output belongs.
    pub(crate) fn position(&self, output: &Visible) -> Option<(i32, i64)> {
        self.outputs.get(output).copied()
    }

    /// Compares the profiles of a partition that includes everything before `next` with the reference: byte for byte,
    /// or if they have another layout, the features in common.
    pub(crate) fn compare(
        &self,
        core: &Pipeline,
        number: i32,
        partition: &Partition,
        layout: Option<&Layout>,
    ) -> Result<(), String> {
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

/// Whether an output is for readers.
pub(crate) fn is_output(output: &Visible) -> bool {
    !matches!(output.target, Target::Profiles(_))
}
