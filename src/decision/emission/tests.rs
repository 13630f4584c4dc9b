use super::*;
use crate::{
    decision::{
        Cause,
        tests::{bids, campaigns, decision, segments},
    },
    profile::Membership,
    targeting::{campaign::Bid, money::Cpm},
};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const START: i64 = 1_767_225_600 * SECOND;

/// A day's decisions about one user.
struct Reader {
    emission: Emission,
    words: Vec<u64>,
}

impl Reader {
    fn new(spec: &EmissionSpec) -> Self {
        let (segments, campaigns) = (segments(), campaigns());
        let targets = Targets { segments: &segments, campaigns: &campaigns };
        let mut errors = Vec::new();
        let emission = Emission::compile(spec, Duration::from_hours(24), targets, &mut errors);
        assert_eq!(errors, []);
        Self { emission, words: vec![0; Said::WORDS + 2] }
    }

    fn on_change() -> Self {
        Self::new(&EmissionSpec { on: EmitOn::Change, ..EmissionSpec::default() })
    }

    fn at(&mut self, time: i64, segments: &[InSegment], campaigns: &[Bid]) -> Result<(), Silence> {
        let it = decision("ann", "");
        let status = Status::of(segments, campaigns);
        let it = Decision { occurred_at: EventTime(time), status, segments, campaigns, ..it };
        self.emission.weigh(&it, &mut Said::new(&mut self.words))
    }
}

/// A momentary segment.
fn in_momentary(number: usize) -> InSegment {
    InSegment { number, stay: None }
}

/// The lasting segment, entered and ending at these times.
fn in_lasting(entered_at: i64, expires_at: i64) -> InSegment {
    let membership = Membership { entered_at: EventTime(entered_at), expires_at: EventTime(expires_at) };
    InSegment { number: 2, stay: Some((membership, false)) }
}

#[test]
fn without_a_section_every_decision_is_written_and_nothing_is_kept() {
    let spec = EmissionSpec::default();
    assert!(spec.is_plain());
    assert_eq!(spec.prices(3), None);
    assert_eq!(EmissionSpec { every: Duration::from_secs(1), ..spec.clone() }.prices(3), Some(0));
    assert_eq!(EmissionSpec { on: EmitOn::Change, ..spec }.prices(3), Some(3));
}

#[test]
fn a_decision_is_written_if_its_content_changes_and_not_if_only_its_order_does() {
    let mut reader = Reader::on_change();
    let mut time = START;
    let mut at = |segments: &[InSegment], campaigns: &[Bid]| {
        time += SECOND;
        reader.at(time, segments, campaigns)
    };
    let (a, b) = (in_momentary(0), in_momentary(1));
    let bids = bids(2_000_000, 0.5);
    let unchanged = Err(Silence::Unchanged);
    assert_eq!(at(&[a], &[]), Ok(()), "nothing was said");
    assert_eq!(at(&[a], &[]), unchanged);
    assert_eq!(at(&[a, b], &[]), Ok(()), "entered");
    assert_eq!(at(&[b, a], &[]), unchanged, "the order is none of the content");
    assert_eq!(at(&[b], &[]), Ok(()), "left");
    assert_eq!(at(&[], &[]), Ok(()), "left all");
    assert_eq!(at(&[], &[]), unchanged);
    assert_eq!(at(&[], &bids[..1]), Ok(()), "a campaign");
    assert_eq!(at(&[], &bids), Ok(()), "another");
    assert_eq!(at(&[], &[bids[1], bids[0]]), unchanged);
    let mut other = [bids[0], bids[1]];
    other[0].arm = None;
    assert_eq!(at(&[], &other), Ok(()), "another arm");
    other[0].creative = None;
    assert_eq!(at(&[], &other), Ok(()), "another creative");
    assert_eq!(at(&[], &bids[..1]), Ok(()), "one campaign less");
}

#[test]
fn a_bid_must_differ_by_more_than_its_share_from_what_was_said() {
    let mut reader = Reader::on_change();
    let bids = bids(2_000_000, 0.5);
    let mut time = START;
    let mut at = |prices: [i64; 2], is_turned: bool| {
        time += SECOND;
        let mut bids = [bids[0], bids[1]];
        (bids[0].bid, bids[1].bid) = (Cpm(prices[0]), Cpm(prices[1]));
        if is_turned {
            bids.reverse();
        }
        reader.at(time, &[], &bids)
    };
    let unchanged = Err(Silence::Unchanged);
    assert_eq!(at([1_000, 500], false), Ok(()));
    assert_eq!(at([1_100, 450], false), unchanged, "a tenth is not more than a tenth");
    assert_eq!(at([1_050, 460], true), unchanged);
    assert_eq!(at([1_101, 500], true), Ok(()), "compared with what was said, not with the last event");
    assert_eq!(at([1_101, 500], false), unchanged);
    assert_eq!(at([1_101, 449], false), Ok(()), "of any campaign");
    assert_eq!(at([500, 1_101], false), Ok(()), "each with its own");
}

#[test]
fn a_membership_that_ended_and_began_again_is_a_change_and_one_that_is_extended_is_none() {
    let mut reader = Reader::on_change();
    assert_eq!(reader.at(START, &[in_lasting(START, START + HOUR)], &[]), Ok(()));
    let later = START + SECOND;
    assert_eq!(reader.at(later, &[in_lasting(START, later + HOUR)], &[]), Err(Silence::Unchanged));
    assert_eq!(reader.at(later, &[in_lasting(later, later + HOUR)], &[]), Ok(()));
}

#[test]
fn what_was_said_is_repeated_before_it_runs_out_unless_the_end_is_the_same() {
    let unchanged = Err(Silence::Unchanged);
    // The decision itself ends after a day.
    let mut reader = Reader::on_change();
    let a = [in_momentary(0)];
    assert_eq!(reader.at(START, &a, &[]), Ok(()));
    assert_eq!(reader.at(START + 12 * HOUR - 1, &a, &[]), unchanged);
    assert_eq!(reader.at(START + 12 * HOUR, &a, &[]), Ok(()));
    assert_eq!(reader.at(START + 23 * HOUR, &a, &[]), unchanged);

    // The first membership ends before it.
    let mut reader = Reader::on_change();
    assert_eq!(reader.at(START, &[in_lasting(START, START + HOUR)], &[]), Ok(()));
    let mut at = |minutes: i64, end: i64| reader.at(START + minutes * 60 * SECOND, &[in_lasting(START, end)], &[]);
    assert_eq!(at(29, START + HOUR + HOUR / 2), unchanged);
    assert_eq!(at(59, START + HOUR), unchanged, "its end has not moved");
    assert_eq!(at(30, START + HOUR + HOUR / 2), Ok(()));
    assert_eq!(at(31, START + HOUR + HOUR / 2), unchanged);
}

#[test]
fn without_an_interval_a_change_is_written_at_an_event_older_than_the_last() {
    let mut reader = Reader::on_change();
    let (a, b) = ([in_momentary(0)], [in_momentary(1)]);
    assert_eq!(reader.at(START, &a, &[]), Ok(()));
    assert_eq!(reader.at(START - SECOND, &b, &[]), Ok(()));
    assert_eq!(reader.at(START - SECOND, &b, &[]), Err(Silence::Unchanged));
}

#[test]
fn within_the_interval_nothing_is_written_and_the_change_comes_later() {
    let every = Duration::from_mins(1);
    let (a, b) = ([in_momentary(0)], [in_momentary(1)]);
    let mut reader = Reader::new(&EmissionSpec { on: EmitOn::Change, every, ..EmissionSpec::default() });
    assert_eq!(reader.at(START, &a, &[]), Ok(()));
    assert_eq!(reader.at(START + 59 * SECOND, &b, &[]), Err(Silence::TooSoon));
    assert_eq!(reader.at(START + 60 * SECOND, &b, &[]), Ok(()), "it was not said");
    assert_eq!(reader.at(START + 10 * SECOND, &a, &[]), Err(Silence::TooSoon), "before, too");
    assert_eq!(reader.at(START - 600 * SECOND, &a, &[]), Err(Silence::TooSoon), "a late event");
    assert_eq!(reader.at(START + 119 * SECOND, &b, &[]), Err(Silence::TooSoon));
    assert_eq!(reader.at(START + 120 * SECOND, &b, &[]), Err(Silence::Unchanged), "what the late one had is not said");

    let mut reader = Reader::new(&EmissionSpec { every, ..EmissionSpec::default() });
    assert_eq!(reader.at(START, &a, &[]), Ok(()));
    assert_eq!(reader.at(START + 59 * SECOND, &b, &[]), Err(Silence::TooSoon));
    assert_eq!(reader.at(START + 60 * SECOND, &a, &[]), Ok(()), "every event is worth a decision");
}

#[test]
fn what_is_not_known_is_said_and_a_status_is_content() {
    let mut reader = Reader::on_change();
    let a = [in_momentary(0)];
    assert_eq!(reader.at(START, &a, &[]), Ok(()));
    assert_eq!(reader.at(START, &a, &[]), Err(Silence::Unchanged));
    Said::new(&mut reader.words).forget();
    assert_eq!(reader.at(START, &a, &[]), Ok(()));
    let it = decision("ann", "");
    let it = Decision { occurred_at: EventTime(START), status: Status::Fallback, segments: &a, ..it };
    assert_eq!(reader.emission.weigh(&it, &mut Said::new(&mut reader.words)), Ok(()));
}

#[test]
fn the_decision_about_an_expired_membership_is_what_was_said_then() {
    let mut reader = Reader::on_change();
    let bids = bids(2_000_000, 0.5);
    assert_eq!(reader.at(START, &[in_lasting(START, START + HOUR)], &bids), Ok(()));
    let deadline = EventTime(START + HOUR);
    let cause = Cause::Expiry { user_hash: 1, deadline };
    let it = Decision { cause, occurred_at: deadline, status: Status::NoTarget, ..decision("ann", "") };
    reader.emission.tell(&it, &mut Said::new(&mut reader.words));
    assert_eq!(reader.at(START + HOUR + 1, &[], &[]), Err(Silence::Unchanged));
    assert_eq!(reader.at(START + HOUR + 2, &[], &bids), Ok(()), "the campaigns were taken back");
}

#[test]
fn faults_of_the_section_name_key_and_next_step() {
    let spec = EmissionSpec::default();
    let change = EmissionSpec { on: EmitOn::Change, ..spec.clone() };
    let (segments, campaigns) = (segments(), campaigns());
    let some = Targets { segments: &segments, campaigns: &campaigns };
    let nothing = crate::targeting::campaign::Campaigns::default();
    let none = Targets { segments: &[], campaigns: &nothing };
    for (spec, targets, key, message) in [
        (EmissionSpec { every: Duration::from_hours(13), ..spec.clone() }, some, "emission.every", "12h"),
        (EmissionSpec { bid_share: -0.1, ..change.clone() }, some, "emission.bid_share", "not a share"),
        (EmissionSpec { bid_share: f64::NAN, ..change.clone() }, some, "emission.bid_share", "not a share"),
        (change, none, "emission.on", "nothing that changes"),
    ] {
        let mut errors = Vec::new();
        Emission::compile(&spec, Duration::from_hours(24), targets, &mut errors);
        assert_eq!(errors.len(), 1, "{key}: {errors:?}");
        assert_eq!(errors[0].key, key);
        assert!(errors[0].message.contains(message), "{errors:?}");
        assert!(errors[0].hint.is_some(), "{errors:?}");
    }
    let mut errors = Vec::new();
    Emission::compile(&spec, Duration::from_hours(24), none, &mut errors);
    assert_eq!(errors, []);
}
