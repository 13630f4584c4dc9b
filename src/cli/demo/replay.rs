//! The shop goes on: its purchases again, as the lives of ever new customers.
//!
//! Customers of whom the same purchases came again and again would be the best that there ever were. So the data is replayed from its
//! beginning under new customers' names, [`LIVES`] of them side by side, each some time further on than the next. Guarantees: times
//! only grow, from the day after the data's last one; no purchase is that of another one; a customer's purchases are as far apart
//! as they were. So the scores stay those of real customers, however long it goes on.

use super::Line;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::VecDeque;

/// How many replays go on side by side, once all have begun: enough that there are new and old customers at each moment.
const LIVES: i64 = 6;

const DAY_US: i64 = 86_400_000_000;

/// A purchase to be published.
pub(super) struct Purchase {
    pub(super) at: Timestamp,
    pub(super) payload: Vec<u8>,
}

/// One replay of the data.
struct Life {
    number: i64,
    next: usize,
}

/// Makes further purchases without end.
pub(super) struct Replay {
    /// In the order of their times, with these in microseconds since the first one.
    events: Vec<(i64, Value)>,
    /// When the first replay begins, and how long after it the second one does.
    start: i64,
    step: i64,
    begun: i64,
    lives: VecDeque<Life>,
}

impl Replay {
    /// Over the data's events; none where no event has a time.
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
        let step = (last - first + DAY_US) / LIVES;
        Some(Self { events, start: last + DAY_US, step, begun: 0, lives: VecDeque::new() })
    }

    fn time(&self, life: &Life) -> i64 {
        self.start + life.number * self.step + self.events[life.next].0
    }
}

impl Iterator for Replay {
    type Item = Purchase;

    fn next(&mut self) -> Option<Purchase> {
        let earliest = |it: &Self| {
            let times = it.lives.iter().enumerate().map(|(index, life)| (it.time(life), index));
            times.min()
        };
        let begins = self.start + self.begun * self.step;
        if earliest(self).is_none_or(|(time, _)| time >= begins) {
            self.lives.push_back(Life { number: self.begun, next: 0 });
            self.begun += 1;
        }
        let (time, index) = earliest(self)?;
        let life = &mut self.lives[index];
        let mut event = self.events[life.next].1.clone();
        for member in ["event_id", "user_id"] {
            if let Some(text) = event[member].as_str() {
                event[member] = format!("{text}-{}", life.number + 1).into();
            }
        }
        let at = Timestamp::from_microsecond(time).ok()?;
        event["occurred_at"] = at.to_string().into();
        life.next += 1;
        if life.next == self.events.len() {
            self.lives.remove(index);
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
        Line { key: None, payload: payload.into_bytes(), id: id.to_owned() }
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
            assert!(ids.insert(event["event_id"].to_string()), "{event} is a purchase of before");
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
