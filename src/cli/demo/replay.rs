//! An endless stream of purchases, made from the demo's data.
//!
//! Repeating the same customers' purchases would push their scores to the top. So the data is replayed under new customer names,
//! [`OVERLAP`] replays at a time, each offset in time from the next. Guarantees: times never decrease and begin on the day after
//! the data ends; every purchase has a new id; a customer's purchases keep their distance in time. The scores therefore stay
//! realistic however long the demo runs.

use super::Line;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::VecDeque;

/// How many replays overlap: enough that there are new and old customers at each moment.
const OVERLAP: i64 = 6;

const DAY_US: i64 = 86_400_000_000;

/// A purchase to be published.
pub(super) struct Purchase {
    pub(super) at: Timestamp,
    pub(super) payload: Vec<u8>,
}

/// One replay of the data.
struct Replayed {
    number: i64,
    next: usize,
}

/// Generates purchases without end.
pub(super) struct Replay {
    /// Sorted by time, in microseconds since the first event.
    events: Vec<(i64, Value)>,
    /// When the first replay starts, and how much later each next one does.
    start: i64,
    step: i64,
    begun: i64,
    running: VecDeque<Replayed>,
}

impl Replay {
    /// Replays these events; `None` if no event has a time.
    pub(super) fn new(lines: &[Line]) -> Option<Self> {
        let mut events: Vec<(i64, Value)> = lines
            .iter()
            .filter_map(|line| {
                let event: Value = serde_json::from_slice(&line.payload).ok()?;
                let at: Timestamp = event["occurred_at"].as_str()?.parse().ok()?;
                Some((at.as_microsecond(), event))
            })
            .collect();
        events.sort_by_key(|(at, _)| *at);
        let (first, last) = (events.first()?.0, events.last()?.0);
        for (at, _) in &mut events {
            *at -= first;
        }
        let step = (last - first + DAY_US) / OVERLAP;
        Some(Self { events, start: last + DAY_US, step, begun: 0, running: VecDeque::new() })
    }

    fn time(&self, replayed: &Replayed) -> i64 {
        self.start + replayed.number * self.step + self.events[replayed.next].0
    }
}

impl Iterator for Replay {
    type Item = Purchase;

    fn next(&mut self) -> Option<Purchase> {
        let earliest = |it: &Self| {
            let times = it.running.iter().enumerate().map(|(index, replayed)| (it.time(replayed), index));
            times.min()
        };
        let begins = self.start + self.begun * self.step;
        if earliest(self).is_none_or(|(time, _)| time >= begins) {
            self.running.push_back(Replayed { number: self.begun, next: 0 });
            self.begun += 1;
        }
        let (time, index) = earliest(self)?;
        let replayed = &mut self.running[index];
        let mut event = self.events[replayed.next].1.clone();
        for member in ["event_id", "user_id"] {
            if let Some(text) = event[member].as_str() {
                event[member] = format!("{text}-{}", replayed.number + 1).into();
            }
        }
        let at = Timestamp::from_microsecond(time).ok()?;
        event["occurred_at"] = at.to_string().into();
        replayed.next += 1;
        if replayed.next == self.events.len() {
            self.running.remove(index);
        }
        Some(Purchase { at, payload: event.to_string().into_bytes() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn line(id: &str, user: &str, day: u32) -> Line {
        let payload = format!(r#"{{"event_id":"{id}","user_id":"{user}","occurred_at":"1997-01-{day:02}T00:00:00Z"}}"#);
        Line { key: None, payload: payload.into_bytes(), id: id.to_owned(), at: None }
    }

    #[test]
    fn times_only_grow_ids_are_new_and_a_customer_buys_as_often_as_in_the_data() {
        // Ana buys three times, Bo once.
        let lines = [line("a1", "ana", 1), line("b1", "bo", 3), line("a2", "ana", 10), line("a3", "ana", 24)];
        let purchases: Vec<Purchase> = Replay::new(&lines).expect("there are events").take(4_000).collect();
        let (mut ids, mut bought) = (HashSet::new(), HashMap::<String, Vec<Timestamp>>::new());
        let mut last: Timestamp = "1997-01-25T00:00:00Z".parse().expect("a time");
        for purchase in &purchases {
            let event: Value = serde_json::from_slice(&purchase.payload).expect("an event");
            assert!(purchase.at >= last, "{} comes after {last}", purchase.at);
            last = purchase.at;
            assert_eq!(event["occurred_at"], last.to_string());
            assert!(ids.insert(event["event_id"].to_string()), "{event} repeats an id");
            bought.entry(event["user_id"].as_str().expect("a user").to_owned()).or_default().push(last);
        }
        assert!(last > "2005-01-01T00:00:00Z".parse().expect("a time"), "it goes on: {last}");
        let days = |times: &[Timestamp]| {
            times.windows(2).map(|two| two[1].duration_since(two[0]).as_hours() / 24).collect::<Vec<_>>()
        };
        for number in [1, 2, 50, 500] {
            assert_eq!(days(&bought[&format!("ana-{number}")]), [9, 14], "{number}");
            assert_eq!(bought[&format!("bo-{number}")].len(), 1, "{number}");
        }
        assert!(Replay::new(&[]).is_none());
    }
}
