use super::super::cell::{Cell, CellKind};
use super::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeMap;

/// A number of counts, each with its own condition, and optionally a sum, read over windows of 3 and 40 tiles of
/// width 10.
fn group(counts: usize, has_sum: bool) -> TileGroup {
    let mut cells = Cells::default();
    if has_sum {
        cells.need(Cell { kind: CellKind::Sum, condition: None, value: Some(0) });
    }
    for condition in 0..counts {
        cells.need(Cell { kind: CellKind::Count, condition: Some(condition), value: None });
    }
    cells.order();
    let all = cells.words();
    let mut group = TileGroup { tile: 10, tiles_max: 40, cells, windows: Vec::new() };
    for (window, tiles) in [3, 40].into_iter().enumerate() {
        (0..all).for_each(|at| group.read(tiles, Finalizer::Float(at), window * all + at));
    }
    group
}

#[test]
fn windows_are_exact_however_much_a_tile_counts_and_in_whatever_order_events_come() {
    let lateness = 25;
    let mut random = SmallRng::seed_from_u64(4);
    let mut widest_seen = Lane::default();
    for (counts, has_sum) in [(0, true), (1, false), (4, false), (5, true), (13, false), (13, true)] {
        let group = group(counts, has_sum);
        // The run's word, the tiles, and a word behind them.
        let mut words = vec![0, 77];
        let mut seen: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        let (mut newest, mut merged) = (i64::MIN, Vec::new());
        for step in 0..600_i64 {
            let event = match random.random_range(0..20) {
                0 => newest.max(0) + random.random_range(0..2_000),
                1..6 => newest.max(lateness) - random.random_range(0..=lateness),
                _ => newest.max(0) + random.random_range(0..12),
            };
            let mask: u64 = random.random();
            let times = if step % 97 == 0 { 70_000 } else { 1 + i64::from(step % 13 == 0) * 200 };
            let value = 0.25 * f64::from(random.random_range(0..8));
            let met = Met(&[mask]);
            let (mut run, before) = (Run::default(), newest);
            for _ in 0..times {
                newest = newest.max(event);
                let oldest = (newest - lateness).div_euclid(10) - 40;
                let at = (event, event.div_euclid(10), oldest);
                run = group.apply(&mut words, (0, 1), at, met, &[value.to_bits()]);
            }
            assert!(newest >= before && run == Run::checked(words[0]).unwrap());
            widest_seen = if run.lane == Lane::WIDEST { run.lane } else { widest_seen };
            let tile = seen.entry(event.div_euclid(10)).or_insert_with(|| vec![0.0; group.cells.words()]);
            (0..counts).filter(|it| mask >> it & 1 == 1).for_each(|it| tile[it] += times as f64);
            tile.iter_mut().skip(counts).for_each(|sum| *sum += value * times as f64);

            let end = words.len() - 1;
            assert_eq!((1 + group.words(run), words[end]), (end, 77), "nothing else has moved");
            let mut out = vec![f64::NAN; 2 * group.cells.words()];
            group.blank(&mut out);
            let now = event.div_euclid(10);
            group.read_all(run, &words[1..end], (event, now), &mut merged, &mut out);
            let owed = [3, 40].into_iter().flat_map(|tiles| {
                let within = seen.range(now - tiles + 1..=now);
                (0..group.cells.words()).map(move |at| within.clone().map(|(_, cells)| cells[at]).sum::<f64>())
            });
            assert_eq!(out, owed.collect::<Vec<f64>>(), "{counts} counts at step {step}");
        }
    }
    assert_eq!(widest_seen, Lane::WIDEST);
}

#[test]
fn lanes_are_narrow_again_once_nothing_is_left_of_what_made_them_wide() {
    let group = group(2, false);
    let mut words = vec![0];
    let mut apply = |event: i64| {
        let tile = event.div_euclid(10);
        group.apply(&mut words, (0, 1), (event, tile, tile - 40), Met(&[u64::MAX]), &[])
    };
    let lanes: Vec<Lane> = (0..300).map(|_| apply(5).lane).collect();
    assert_eq!((lanes[254], lanes[255]), (Lane(0), Lane(1)), "255 fit");
    assert_eq!(apply(15), Run { tiles: 2, lane: Lane(1) });
    assert_eq!(apply(405), Run { tiles: 2, lane: Lane(1) }, "the first tile gives way to the third");
    assert_eq!(apply(2_000), Run { tiles: 1, lane: Lane(0) });
}

#[test]
fn a_tile_counts_to_what_fits_and_stays_there() {
    let group = group(1, false);
    let run = Run { tiles: 1, lane: Lane::WIDEST };
    let mut words = vec![run.word(), 0];
    set_count(&mut words[1..], run.lane, 0, run.lane.max() - 1);
    for _ in 0..3 {
        assert_eq!(group.apply(&mut words, (0, 1), (0, 0, -40), Met(&[u64::MAX]), &[]), run);
    }
    assert_eq!(count_of(&words[1..], run.lane, 0), u64::from(u32::MAX));
    let mut out = [0.0; 2];
    group.read_all(run, &words[1..], (0, 0), &mut Vec::new(), &mut out);
    assert_eq!(out, [f64::from(u32::MAX); 2]);
}

#[test]
fn a_clock_tells_the_tile_of_each_time() {
    let mut clock = TileClock::default();
    for time in [0, 9, 10, 25, 19, -1, -10, -11, i64::MIN, i64::MAX, i64::MIN + 5, 3] {
        for width in [10, 7] {
            assert_eq!(clock.tile(time, width), time.div_euclid(width), "{time} in tiles of {width}");
        }
    }
}

#[test]
fn a_word_that_tells_of_no_run_is_told_apart() {
    for run in [Run::default(), Run { tiles: 3, lane: Lane(1) }, Run { tiles: 1, lane: Lane::WIDEST }] {
        assert_eq!(Run::checked(run.word()), Some(run));
    }
    for word in [1, 2, 3, 7] {
        assert_eq!(Run::checked(word), None, "{word}");
    }
}
