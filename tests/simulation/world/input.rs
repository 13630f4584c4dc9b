//! The input: records of a few users, with everything that may be wrong with them.

use super::*;

/// The number of users.
pub(crate) const USERS: usize = 12;

/// The start of the streams, in milliseconds.
const START: i64 = 1_700_000_000_000;

/// The same in microseconds.
pub(crate) const START_MICROS: i64 = START * 1_000;

/// The time shown by wrong clocks: in the year 2126.
const WRONG: i64 = 4_923_500_000_000;

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
pub(super) fn logged_at(record: &InputRecord) -> i64 {
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
