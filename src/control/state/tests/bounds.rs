//! What happens at the bounds.

use super::*;
use OutcomeType::{Click, Impression, Win};

#[test]
fn too_many_offers_give_way_and_their_money_counts() {
    let spec = ControlSpec { touches_max: 10, ..spec() };
    let mut run = Run::with(&spec);
    for number in 0..25 {
        run.decide(&format!("d{number}"), START + number);
    }
    assert_eq!((run.state.sizes().0, run.state.counts().touches_evicted), (10, 15));
    let of = |number: i64| Outcome {
        decision_id: Some(format!("d{number}")),
        ..outcome(&format!("w{number}"), Win, START + number)
    };
    assert_eq!(run.apply(&of(24)).disposition, Disposition::Joined);
    assert_eq!(run.apply(&of(3)).disposition, Disposition::Parked);
    run.state.advance(START + 10 * MINUTE);
    assert_eq!((run.total().spent_micros, run.total().unattributed_micros), (3_000, 1_500));
}

#[test]
fn too_many_outcomes_shorten_the_horizon_and_none_counts_twice() {
    let spec = ControlSpec { outcomes_max: 10, ..spec() };
    let mut run = Run::with(&spec);
    run.decide("d1", START);
    let wins: Vec<Outcome> = (0..30).map(|number| outcome(&number.to_string(), Win, START + number)).collect();
    for win in &wins {
        assert_eq!(run.apply(win).disposition, Disposition::Joined);
    }
    assert_eq!(run.state.sizes().1, 10);
    for win in &wins {
        let expected = if win.occurred_at < START + 20 { Disposition::Late } else { Disposition::Duplicate };
        assert_eq!(run.apply(win).disposition, expected, "{}", win.id);
    }
    assert_eq!((run.total().wins, run.state.counts().outcomes_evicted), (30, 20));
    // The bound is restored with the state.
    let records = run.state.records().into_iter().map(|record| (record.key, record.value));
    run.state = State::restore("shop", &spec, vec![setup("spring")], records).unwrap();
    assert_eq!(run.apply(&wins[0]).disposition, Disposition::Late);
}

#[test]
fn too_many_waiting_outcomes_are_settled_early() {
    let mut run = Run::new();
    for number in 0..PARKED_MAX + 5 {
        run.apply(&outcome(&number.to_string(), Click, START + number as i64));
    }
    assert_eq!((run.state.sizes().2, run.state.counts().orphans), (PARKED_MAX, 5));
}

#[test]
fn a_decision_that_is_used_in_many_auctions_stays_small() {
    let mut run = Run::new();
    run.decide("d1", START);
    for number in 0..200 {
        let mut win = outcome(&format!("w{number}"), Win, START);
        win.auction_id = Some(format!("x{number}"));
        let mut impression = Outcome { kind: Impression, id: format!("i{number}"), ..win.clone() };
        impression.price = None;
        assert_eq!(run.apply(&win).disposition, Disposition::Joined);
        assert_eq!(run.apply(&impression).disposition, Disposition::Joined);
        let click = Outcome { kind: Click, id: format!("c{number}"), decision_id: None, ..impression };
        assert_eq!(run.apply(&click).disposition, Disposition::Joined);
    }
    assert_eq!((run.total().wins, run.total().impressions, run.total().clicks), (200, 200, 200));
    let largest = run.state.records().into_iter().filter(|record| record.key.starts_with("v1/touch/"));
    let bytes = largest.filter_map(|record| record.value).map(|value| value.len()).max().unwrap_or_default();
    assert!(bytes < 2_000, "{bytes}");
}
