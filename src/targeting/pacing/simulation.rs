//! Simulated days: three workers that take a policy at different times, wins whose costs arrive minutes later, a daily
//! curve with a dead hour, bursts, outages, and win rates that jump.

use super::*;
use crate::random::mix;
use std::collections::BTreeMap;

pub(super) const DAY_S: i64 = 86_400;
pub(super) const TIMING: Timing = Timing { interval_ms: 10_000, lag_ms: 13_000, settle_ms: 300_000 };
/// When each worker takes a new policy. Its counts come back within 5 s.
const TAKES_S: [i64; 3] = [0, 3, 7];

/// A call to a pacer.
#[derive(Clone, Copy)]
enum Call {
    Spend(Moment, Micros),
    Traffic(Moment, u64, u64),
    Rate(Moment),
}

fn apply(pacer: &mut Pacer, terms: &Terms, call: Call) {
    match call {
        Call::Spend(at, cost) => pacer.observe_spend(at, cost),
        Call::Traffic(at, eligible, passed) => pacer.observe_traffic(at, eligible, passed),
        Call::Rate(at) => {
            pacer.next_rate(terms, at);
        }
    }
}

/// A function of the second, counted from the first day on.
type Over<'a> = &'a dyn Fn(i64) -> f64;

struct World<'a> {
    terms: Terms,
    /// The lengths of the days in buckets.
    days: &'a [u16],
    /// Eligible decisions per second.
    traffic: Over<'a>,
    /// Wins per pass.
    wins: Over<'a>,
    seed: u64,
}

/// The outcome of a simulation.
#[derive(Default)]
struct Outcome {
    pacer: Option<Pacer>,
    calls: Vec<Call>,
    /// The cost of the decisions of each second.
    decided: Vec<i64>,
    /// The spend of the day known to control at the end of each hour.
    known: Vec<i64>,
    /// The starts of the days, in seconds, and the end of the last.
    starts: Vec<i64>,
}

impl Outcome {
    fn spent(&self, from_s: i64, to_s: i64) -> i64 {
        self.decided[from_s as usize..to_s as usize].iter().sum()
    }

    /// The largest cost of decisions within one interval and lag.
    fn in_flight(&self) -> i64 {
        let window = (TIMING.interval_ms + TIMING.lag_ms).div_ceil(1_000) as usize;
        self.decided.windows(window).map(|costs| costs.iter().sum()).max().unwrap_or(0)
    }

    /// The largest distance from the plan at the end of an hour, as shares of the budget: of what was decided, and of
    /// what control knew. Hours in `skip` do not count.
    fn off(&self, day: usize, budget: i64, plan: Over<'_>, skip: &[i64]) -> (f64, f64) {
        let (start, end) = (self.starts[day], self.starts[day + 1]);
        let mut worst = (0.0_f64, 0.0_f64);
        for hour in (1..=(end - start) / 3_600).filter(|hour| !skip.contains(hour)) {
            let planned = plan(hour * 3_600);
            let share = |spent: i64| (spent as f64 / budget as f64 - planned).abs();
            let at = start + hour * 3_600;
            worst =
                (worst.0.max(share(self.spent(start, at))), worst.1.max(share(self.known[(at / 3_600) as usize - 1])));
        }
        worst
    }
}

fn poisson(seed: u64, mean: f64) -> u64 {
    let (limit, mut product, mut count) = ((-mean).exp(), 1.0, 0);
    loop {
        product *= (mix(seed.wrapping_add(count << 40)) >> 11) as f64 / 2.0_f64.powi(53);
        if product <= limit {
            return count;
        }
        count += 1;
    }
}

impl World<'_> {
    fn moment(&self, starts: &[i64], at_s: i64) -> Moment {
        let day = starts.partition_point(|start| *start <= at_s).min(self.days.len()) - 1;
        let into_day = at_s - starts[day];
        let (bucket, into) = ((into_day / 900) as u16, (into_day % 900 * 1_000) as u32);
        let at_ms = 1_700_000_000_000 + at_s * 1_000;
        Moment { at_ms, day: 19_000 + day as i32, bucket, buckets: self.days[day], into_ms: into }
    }

    fn run(&self) -> Outcome {
        let mut starts = vec![0];
        for buckets in self.days {
            starts.push(starts[starts.len() - 1] + i64::from(*buckets) * 900);
        }
        let end = starts[self.days.len()];
        let mut out = Outcome { decided: vec![0; end as usize], starts, ..Outcome::default() };
        let mut pacer = Pacer::new(TIMING);
        let mut rates = [PassThrough::NONE; 3];
        let mut taken: BTreeMap<(i64, usize), PassThrough> = BTreeMap::new();
        let mut arriving: BTreeMap<i64, Vec<(i64, i64)>> = BTreeMap::new();
        let mut counts = [(0, 0); 3];
        let mut decision = mix(self.seed);
        for now in 0..end {
            let mut call = |call: Call, pacer: &mut Pacer| {
                apply(pacer, &self.terms, call);
                out.calls.push(call);
            };
            let at = |second: i64| self.moment(&out.starts, second);
            for (decided, cost) in arriving.remove(&now).unwrap_or_default() {
                call(Call::Spend(at(decided), Micros(cost)), &mut pacer);
            }
            for (worker, count) in counts.iter_mut().enumerate() {
                if (now + worker as i64) % 5 == 0 && now >= 5 {
                    call(Call::Traffic(at(now - 5), count.0, count.1), &mut pacer);
                    *count = (0, 0);
                }
            }
            if now % 10 == 0 {
                call(Call::Rate(at(now)), &mut pacer);
                for (worker, after) in TAKES_S.into_iter().enumerate() {
                    taken.insert((now + after, worker), pacer.rate);
                }
            }
            for (worker, rate) in rates.iter_mut().enumerate() {
                *rate = taken.remove(&(now, worker)).unwrap_or(*rate);
                let eligible =
                    poisson(mix((self.seed << 40) ^ (now as u64 * 4 + worker as u64)), (self.traffic)(now) / 3.0);
                for _ in 0..eligible {
                    decision = decision.wrapping_add(0x9e37_79b9_7f4a_7c15);
                    counts[worker].0 += 1;
                    if !passes(*rate, mix(decision)) {
                        continue;
                    }
                    counts[worker].1 += 1;
                    let luck = |salt: u64| (mix(mix(decision) ^ salt) >> 11) as f64 / 2.0_f64.powi(53);
                    if luck(1) < (self.wins)(now) {
                        let cost = 500 + (luck(2) * 1_000.0) as i64;
                        let after = (-90.0 * (1.0 - luck(3)).ln()).min(280.0) as i64 + 1;
                        out.decided[now as usize] += cost;
                        arriving.entry(now + after).or_default().push((now, cost));
                    }
                }
            }
            if (now + 1) % 3_600 == 0 {
                out.known.push(pacer.spent.today.0);
            }
        }
        out.pacer = Some(pacer);
        out
    }
}

/// Decisions per second over a day: a night, a peak at noon and one in the evening, and nothing from four to five.
fn curve(second: i64) -> f64 {
    let hour = (second % DAY_S) as f64 / 3_600.0;
    let peak = |at: f64, width: f64| (-((hour - at) / width).powi(2)).exp();
    if (4.0..5.0).contains(&hour) { 0.0 } else { 1.5 + 9.0 * peak(12.5, 3.0) + 14.0 * peak(20.0, 2.5) }
}

/// The share of the day's curve up to a second of the day.
fn curve_plan(second: i64) -> f64 {
    let sum = |to: i64| (0..to / 60).map(|minute| curve(minute * 60)).sum::<f64>();
    sum(second) / sum(DAY_S)
}

fn line(second: i64) -> f64 {
    second as f64 / DAY_S as f64
}

pub(super) fn terms(mode: Mode, daily: i64) -> Terms {
    Terms { mode, daily: Some(Micros(daily)), total: None, days_left: None, cost_max: Micros(1_500) }
}

/// About a quarter of what all traffic would cost.
pub(super) const DAILY: i64 = 10_000_000;

fn within(second: i64, day: i64, from_h: f64, to_h: f64) -> bool {
    second / DAY_S == day && (from_h..to_h).contains(&((second % DAY_S) as f64 / 3_600.0))
}

fn percent((decided, known): (f64, f64)) -> String {
    format!("{:.2} % by decision, {:.2} % as known", 100.0 * decided, 100.0 * known)
}

#[test]
fn in_traffic_the_spend_is_within_two_percent_of_the_plan_at_each_hour() {
    // The forecast learns from two days. The third is plain, or has a burst in the morning and a second dead hour at
    // night, or wins twice as often from noon.
    let eventful = |second: i64| {
        let burst = if within(second, 2, 10.3, 10.9) { 4.0 } else { 1.0 };
        if within(second, 2, 2.0, 3.0) { 0.0 } else { burst * curve(second) }
    };
    let steady = |_: i64| 0.1;
    let doubled = |second: i64| if within(second, 2, 12.0, 24.0) { 0.2 } else { 0.1 };
    for (name, traffic, wins) in [
        ("plain day", &curve as Over<'_>, &steady as Over<'_>),
        ("burst and outage at night", &eventful, &steady),
        ("wins double at noon", &curve, &doubled),
    ] {
        let out = World { terms: terms(Mode::Traffic, DAILY), days: &[96; 3], traffic, wins, seed: 1 }.run();
        let off = out.off(2, DAILY, &curve_plan, &[]);
        let total = out.spent(out.starts[2], out.starts[3]);
        println!(
            "traffic, {name}: off the plan by {}; spent {:.2} %",
            percent(off),
            100.0 * total as f64 / DAILY as f64
        );
        assert!(off.0 < 0.02 && off.1 < 0.02, "{off:?}");
        assert!(total - DAILY <= out.in_flight(), "{total}");
    }
}

#[test]
fn after_an_outage_at_the_peak_the_plan_is_met_again_within_the_hour() {
    let traffic = |second: i64| if within(second, 1, 19.0, 20.0) { 0.0 } else { curve(second) };
    let world =
        World { terms: terms(Mode::Traffic, DAILY), days: &[96; 2], traffic: &traffic, wins: &|_| 0.1, seed: 2 };
    let out = world.run();
    let during = out.off(1, DAILY, &curve_plan, &[]);
    let others = out.off(1, DAILY, &curve_plan, &[20]);
    println!("traffic, outage 19 to 20 h: {} at 20 h; {} at the other hours", percent(during), percent(others));
    assert!(others.0 < 0.02 && others.1 < 0.02 && during.0 > 0.05, "{others:?} {during:?}");
}

#[test]
fn even_follows_a_straight_line_while_traffic_allows_and_the_first_day_of_traffic_does_too() {
    for mode in [Mode::Even, Mode::Traffic] {
        // Nothing can be spent from four to five.
        let world = World { terms: terms(mode, DAILY / 2), days: &[96], traffic: &curve, wins: &|_| 0.1, seed: 3 };
        let out = world.run();
        let off = out.off(0, DAILY / 2, &line, &[5]);
        println!("{mode:?}, first day: off the line by {}, but for the dead hour", percent(off));
        assert!(off.0 < 0.02 && off.1 < 0.02, "{off:?}");
    }
}

#[test]
fn asap_spends_all_that_traffic_allows_until_the_budget_is_spent() {
    let world = World { terms: terms(Mode::Asap, DAILY), days: &[96; 2], traffic: &curve, wins: &|_| 0.1, seed: 4 };
    let out = world.run();
    // The cost of all traffic of the second day: a win in ten, at 1 000 on average.
    let mut all = 0.0;
    let full = (0..DAY_S).find(|second| {
        all += curve(*second) * 100.0;
        all >= DAILY as f64 * 0.99
    });
    let start = out.starts[1];
    let took = (0..DAY_S).find(|second| out.spent(start, start + second) as f64 >= DAILY as f64 * 0.99).unwrap();
    let total = out.spent(start, out.starts[2]);
    println!(
        "asap: 99 % spent after {took} s, unthrottled after {} s; in all {:.2} %",
        full.unwrap(),
        100.0 * total as f64 / DAILY as f64
    );
    assert!(took < full.unwrap() + 900 && total - DAILY <= out.in_flight() && total as f64 > 0.995 * DAILY as f64);
}

#[test]
fn no_budget_is_exceeded_by_more_than_one_policy_interval_had_in_flight() {
    let burst = |second: i64| if second % 3_600 < 300 { 12.0 * curve(second) } else { curve(second) };
    let steady = |_: i64| 0.1;
    // The win rate doubles for ten minutes of each half hour, all day: faster than the cost of a pass can be learned.
    let jumps = |second: i64| if second % 1_800 < 600 { 0.16 } else { 0.08 };
    for (name, traffic, wins) in
        [("plain", &curve as Over<'_>, &steady as Over<'_>), ("bursts", &burst, &steady), ("jumps", &curve, &jumps)]
    {
        let (mut worst, mut part) = (f64::MIN, 0.0_f64);
        for mode in [Mode::Even, Mode::Traffic, Mode::Asap] {
            for (daily, total) in [(30_000, None), (30_000, Some(45_000)), (1_000_000, Some(1_500_000)), (DAILY, None)]
            {
                let terms = Terms { total: total.map(Micros), ..terms(mode, daily) };
                let out = World { terms, days: &[96; 2], traffic, wins, seed: daily as u64 + mode as u64 }.run();
                let allowed = out.in_flight();
                let mut excess: Vec<i64> =
                    (0..2).map(|day| out.spent(out.starts[day], out.starts[day + 1]) - daily).collect();
                excess.extend(total.map(|total| out.spent(0, out.starts[2]) - total));
                for excess in excess {
                    worst = worst.max(excess as f64 / allowed as f64);
                    part = part.max(excess as f64 / daily as f64);
                    assert!(excess <= allowed, "{name} {mode:?} {daily} {total:?}: {excess} over, {allowed} in flight");
                }
            }
        }
        println!(
            "{name}: a budget was exceeded by at most {:.0} % of what one interval had in flight, and by {:.2} % of itself",
            100.0 * worst.max(0.0),
            100.0 * part
        );
        // Without jumps, the reserve and the cap on the rate leave hardly any excess.
        assert!(name != "plain" || part < 0.01, "{part}");
    }
}

#[test]
fn a_total_without_a_daily_budget_is_spread_over_the_days_left() {
    let mut world = World {
        terms: Terms { daily: None, total: Some(Micros(DAILY)), days_left: Some(2), ..terms(Mode::Even, 0) },
        days: &[96],
        traffic: &curve,
        wins: &|_| 0.1,
        seed: 5,
    };
    let half = world.run().spent(0, DAY_S) as f64 / DAILY as f64;
    world.terms.days_left = None;
    let all = world.run().spent(0, DAY_S) as f64 / DAILY as f64;
    println!("of a total, {:.2} % on the first of two days, {:.2} % on the only day", 100.0 * half, 100.0 * all);
    assert!((half - 0.5).abs() < 0.01 && all > 0.97 && all <= 1.001, "{half} {all}");
}

#[test]
fn days_of_92_and_100_buckets_spend_their_budget_near_the_plan() {
    for buckets in [92, 100] {
        let days = [96, 96, buckets, 96];
        let world = World { terms: terms(Mode::Traffic, DAILY), days: &days, traffic: &curve, wins: &|_| 0.1, seed: 6 };
        let out = world.run();
        let stretched = |second: i64| curve_plan(second * 96 / i64::from(buckets));
        let off = out.off(2, DAILY, &stretched, &[]);
        let total = out.spent(out.starts[2], out.starts[3]) as f64 / DAILY as f64;
        println!("{buckets} buckets: off the stretched plan by {}; spent {:.2} %", percent(off), 100.0 * total);
        assert!(off.0 < 0.02 && (total - 1.0).abs() < 0.01, "{off:?} {total}");
        // The forecast does not learn from such a day: the next day has the same forecast.
        let forecast = |days: &[u16]| World { days, ..world }.run().pacer.unwrap().forecast;
        assert_eq!(forecast(&[96, buckets, 96]), forecast(&[96, buckets]));
        assert_ne!(forecast(&[96, 96, 96]), forecast(&[96, 96]));
    }
}

#[test]
fn a_replay_ends_in_the_same_state_bit_for_bit_and_the_state_stays_small() {
    let world = World { terms: terms(Mode::Traffic, DAILY), days: &[96; 2], traffic: &curve, wins: &|_| 0.1, seed: 7 };
    let out = world.run();
    let last = format!("{:?}", out.pacer.unwrap());
    let mut pacer = Pacer::new(TIMING);
    let commits: Vec<usize> = (1..20).map(|part| out.calls.len() * part / 20 + part).collect();
    let mut committed = Vec::new();
    for (number, call) in out.calls.iter().enumerate() {
        if commits.contains(&number) {
            committed.push((number, pacer.clone()));
        }
        apply(&mut pacer, &world.terms, *call);
        assert!(
            pacer.recent.intervals.len() <= 34 && pacer.today.len() <= BUCKETS_MAX && pacer.forecast.len() <= BUCKETS
        );
    }
    assert_eq!(format!("{pacer:?}"), last);
    for (number, mut pacer) in committed {
        out.calls[number..].iter().for_each(|call| apply(&mut pacer, &world.terms, *call));
        assert_eq!(format!("{pacer:?}"), last, "from {number}");
    }
    // The observations between two rates, in reverse.
    let mut pacer = Pacer::new(TIMING);
    for between in out.calls.chunk_by(|one, _| !matches!(one, Call::Rate(_))) {
        let midnight = between.iter().any(|call| {
            let (Call::Spend(at, _) | Call::Traffic(at, ..) | Call::Rate(at)) = call;
            Some(at.day) != pacer.day
        });
        let (last, before) = between.split_last().unwrap();
        let order: Vec<&Call> = if midnight { before.iter().collect() } else { before.iter().rev().collect() };
        order.into_iter().chain([last]).for_each(|call| apply(&mut pacer, &world.terms, *call));
    }
    assert_eq!(format!("{pacer:?}"), last);
}
