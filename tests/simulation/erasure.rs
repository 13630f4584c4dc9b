//! Erasures computed directly from their definition: at a request, everything about its user goes. An event of the user
//! from up to then changes nothing and gives nothing, as long as the erasure is remembered; a later one begins anew.

use super::world::event;
use aimpoint::testkit::{InputRecord, Visible};
use rand::{Rng, rngs::SmallRng};
use std::collections::BTreeMap;

/// How long an erasure is remembered: `erasure.keep` in the specification.
const KEEP: i64 = 48 * 3_600_000_000;

/// The time of a request with a wrong clock, in milliseconds: in the year 2126.
const WRONG: i64 = 4_923_500_000_000;

/// What a record is with regard to erasures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A request to erase this user.
    Request(String),
    /// From before its user's erasure.
    Past,
    /// Anything else.
    Free,
}

/// When the users of a partition were erased, in microseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct NaiveErasures {
    users: BTreeMap<String, i64>,
    /// The partition's time before the last record.
    time: i64,
}

impl NaiveErasures {
    /// The standing of the next record, at this time of the partition (`i64::MIN` if it has none).
    pub(crate) fn judge(&mut self, record: &InputRecord, time: i64) -> Standing {
        self.time = time;
        if !record.counts() {
            return Standing::Free;
        }
        let user = record.key.as_deref().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
        if record.erase.is_some() {
            // Without a timestamp, the request is a dead letter.
            if record.timestamp_ms < 0 {
                return Standing::Free;
            }
            let at = self.users.entry(user.clone()).or_insert(i64::MIN);
            *at = (record.timestamp_ms * 1_000).max(*at);
            return Standing::Request(user);
        }
        let erased_at = self.remembered(&user);
        match (event(record), erased_at) {
            (Some(event), Some(at)) if event.time <= at => Standing::Past,
            _ => Standing::Free,
        }
    }

    /// When a user was erased, if that is remembered.
    fn remembered(&self, user: &str) -> Option<i64> {
        self.users.get(user).copied().filter(|at| self.time <= at.saturating_add(KEEP))
    }

    /// Checks the output of a request.
    pub(crate) fn check(user: &str, output: &Visible) -> Result<(), String> {
        if output.key.as_deref() == Some(user.as_bytes()) && output.payload.is_none() {
            return Ok(());
        }
        Err(format!("I2: the erasure of {user} gives {output:?}, and not a null"))
    }

    /// Checks what is left of the user of a record after it, and what became visible.
    ///
    /// # Panics
    /// If that is not so.
    pub(crate) fn check_profile(&self, standing: &Standing, record: &InputRecord, words: &[u64], outputs: &[Visible]) {
        let user = record.key.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        match standing {
            Standing::Request(user) => {
                assert!(words.is_empty(), "{user} was erased and has a profile");
                NaiveErasures::check(user, &outputs[0]).expect("an erasure gives a null");
            }
            Standing::Past => {
                let about_events = outputs.iter().filter(|output| !is_about_time(output)).count();
                assert_eq!(about_events, 0, "an event from before the erasure of {user} gives an output");
            }
            Standing::Free => {}
        }
        // The first and the newest event of a user who came back.
        if let (Some(at), [newest, first, ..]) = (self.remembered(&user), words) {
            let is_after = *newest as i64 > at && *first as i64 > at;
            assert!(is_after, "{user} has a profile with events from before the erasure");
        }
    }
}

/// Whether a decision is about a membership that ended without an event.
fn is_about_time(output: &Visible) -> bool {
    let text = String::from_utf8_lossy(output.payload.as_deref().unwrap_or_default());
    text.contains("-expired-")
}

/// Makes some of the events requests to erase their user, a few of them without a time or with a wrong one. Returns how many.
pub(crate) fn add_requests(input: &mut [Vec<InputRecord>], random: &mut SmallRng, has_wrong_clocks: bool) -> u64 {
    let mut count = 0;
    let one_in = random.random_range(6..30);
    for record in input.iter_mut().flatten() {
        let Some(event) = event(record).filter(|_| random.random_range(0..one_in) == 0) else { continue };
        record.timestamp_ms = match random.random_range(0..20) {
            0 => -1,
            1 if has_wrong_clocks => WRONG,
            _ => event.time / 1_000 + random.random_range(0..1_800_000),
        };
        record.erase = Some(b"1".to_vec());
        if random.random_bool(0.7) {
            record.payload = None;
        }
        count += 1;
    }
    count
}
