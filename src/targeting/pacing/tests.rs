//! Tests of single rules of a pacer.

use super::{
    simulation::{DAILY, DAY_S, TIMING, terms},
    *,
};

/// A second counted from the start of day 0.
fn at(second: i64) -> Moment {
    Moment {
        at_ms: second * 1_000,
        day: (second / DAY_S) as i32,
        bucket: (second % DAY_S / 900) as u16,
        buckets: 96,
        into_ms: (second % 900 * 1_000) as u32,
    }
}

/// A pacer after two hours of 10 decisions a second. One in ten passes, and each pass costs 100 at once.
fn steady(terms: &Terms) -> Pacer {
    let mut pacer = Pacer::new(TIMING);
    for second in (0..7_200).step_by(10) {
        pacer.observe_traffic(at(second), 100, 10);
        pacer.observe_spend(at(second), Micros(1_000));
        pacer.next_rate(terms, at(second + 10));
    }
    pacer
}

#[test]
fn traffic_is_remembered_through_an_outage_and_a_burst_is_seen_at_once() {
    let terms = terms(Mode::Even, DAILY);
    let mut pacer = steady(&terms);
    let known = pacer.traffic.unwrap();
    assert!((known - 0.01).abs() < 1e-9, "{known}");
    for second in (7_210..10_800).step_by(10) {
        pacer.next_rate(&terms, at(second));
    }
    assert_eq!(pacer.traffic, Some(known));
    pacer.observe_traffic(at(10_800), 100, 10);
    pacer.next_rate(&terms, at(10_810));
    let before = pacer.rate;
    pacer.observe_traffic(at(10_815), 500, 0);
    pacer.next_rate(&terms, at(10_820));
    assert_eq!(pacer.traffic, Some(0.05));
    assert!(pacer.rate.share() < before.share() / 3.0, "{before:?} {:?}", pacer.rate);
    // The pacer reacts slowly to fewer decisions.
    pacer.observe_traffic(at(10_825), 100, 0);
    pacer.next_rate(&terms, at(10_830));
    assert!(pacer.traffic.unwrap() > 0.04);
}

#[test]
fn what_is_in_flight_counts_as_spent() {
    let terms = terms(Mode::Even, DAILY);
    let mut answered = steady(&terms);
    let mut open = answered.clone();
    answered.observe_traffic(at(7_200), 100, 50);
    answered.observe_spend(at(7_200), Micros(5_000));
    open.observe_traffic(at(7_200), 100, 50);
    let close = |a: f64, b: f64| (a / b - 1.0).abs() < 0.03;
    let (with, without) = (answered.next_rate(&terms, at(7_210)).share(), open.next_rate(&terms, at(7_210)).share());
    assert!(close(with, without), "{with} {without}");
    // The steady spend is behind the plan. Once enough is in flight to meet it, hardly anything passes.
    let behind = open.planned(&terms, at(7_800)).unwrap().minus(open.spent.today);
    for number in 0..behind.0 / 10_000 {
        open.observe_traffic(at(7_211 + 10 * number), 100, 100);
        open.next_rate(&terms, at(7_220 + 10 * number));
    }
    assert!(open.rate.share() < with / 2.0, "{:?} {with}", open.rate);
}

#[test]
fn what_is_in_flight_at_midnight_counts_against_the_total() {
    let mut terms = terms(Mode::Asap, DAILY);
    let mut pacer = steady(&terms);
    for second in (DAY_S - 300..DAY_S).step_by(10) {
        pacer.observe_traffic(at(second), 100, 10);
        pacer.next_rate(&terms, at(second + 9));
    }
    // About 30 000 are in flight, and 20 000 are left of the total.
    terms.total = Some(pacer.spent.total.plus(Micros(20_000)));
    let ample = Terms { total: Some(pacer.spent.total.plus(Micros(200_000))), ..terms };
    assert!(pacer.clone().next_rate(&ample, at(DAY_S)) > PassThrough::NONE);
    assert_eq!(pacer.next_rate(&terms, at(DAY_S)), PassThrough::NONE);
    // None of it cost anything, so the rest may be spent.
    assert!(pacer.next_rate(&terms, at(DAY_S + 400)) > PassThrough::NONE);
}

#[test]
fn terms_and_moments_without_sense_have_a_stated_result() {
    let mut pacer = Pacer::new(TIMING);
    pacer.observe_traffic(at(100), 5, 9);
    assert_eq!(pacer.recent.intervals[0].passed, 5, "no more pass than are eligible");
    let unlimited = Terms { daily: None, ..terms(Mode::Even, 0) };
    assert_eq!(pacer.next_rate(&unlimited, at(110)), PassThrough::ALL);
    assert_eq!(pacer.planned(&unlimited, at(110)), None);
    for daily in [0, -1, i64::MIN] {
        assert_eq!(pacer.next_rate(&terms(Mode::Asap, daily), at(120)), PassThrough::NONE);
    }
    let before = pacer.clone();
    for cost in [0, -1, i64::MIN] {
        pacer.observe_spend(at(100), Micros(cost));
    }
    assert_eq!(pacer, before);
    // Spend beyond all bounds stops everything and wraps nowhere.
    for _ in 0..3 {
        pacer.observe_spend(at(100), Micros::MAX);
    }
    assert_eq!(pacer.next_rate(&terms(Mode::Asap, i64::MAX), at(130)), PassThrough::NONE);
    assert!(pacer.rate == PassThrough::NONE && pacer.spent.total == Micros::MAX);
    // Late spend counts for its own day. A day that is over gives no rate.
    let mut pacer = Pacer::new(TIMING);
    pacer.next_rate(&terms(Mode::Asap, 100_000), at(DAY_S - 10));
    let rate = pacer.next_rate(&terms(Mode::Asap, 100_000), at(DAY_S + 10));
    pacer.observe_spend(at(DAY_S - 20), Micros(7));
    assert_eq!((pacer.spent.yesterday, pacer.spent.today, pacer.spent.total), (Micros(7), Micros(0), Micros(7)));
    let before = pacer.clone();
    assert_eq!(pacer.next_rate(&terms(Mode::Asap, 0), at(100)), rate);
    assert_eq!(pacer, before);
    // The start is slow, because nothing is known about traffic.
    assert_eq!(rate, PassThrough::from_share(START));
    // A timing of zeros does not divide by zero.
    let mut pacer = Pacer::new(Timing { interval_ms: 0, lag_ms: 0, settle_ms: 0 });
    for second in 0..100 {
        pacer.observe_traffic(at(second), 10, 5);
        pacer.observe_spend(at(second), Micros(10));
        let share = pacer.next_rate(&Terms { cost_max: Micros(-5), ..terms(Mode::Even, 1_000) }, at(second)).share();
        assert!((0.0..=1.0).contains(&share));
    }
}
