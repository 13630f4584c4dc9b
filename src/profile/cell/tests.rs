use super::*;

fn empty(kind: CellKind) -> Vec<u64> {
    let mut words = Vec::new();
    kind.empty(&mut words);
    words
}

#[test]
fn the_texts_by_which_cells_are_named_are_those_that_they_have_always_been() {
    // If a text changed, the state of such cells in every changelog would be lost.
    for (kind, text) in [
        (CellKind::Count, "Count"),
        (CellKind::ValueCount, "ValueCount"),
        (CellKind::Sum, "Sum"),
        (CellKind::Min, "Min"),
        (CellKind::Max, "Max"),
        (CellKind::NewestTime, "NewestTime"),
        (CellKind::OldestTime, "OldestTime"),
        (CellKind::Last { text: true }, "Last { text: true }"),
        (CellKind::First { text: false }, "First { text: false }"),
        (CellKind::Moments, "Moments"),
        (CellKind::Newest(3), "Newest(3)"),
        (CellKind::Distinct { exact: 32, text: true }, "Distinct { exact: 32, text: true }"),
        (CellKind::Top { capacity: 16, text: false }, "Top { capacity: 16, text: false }"),
        (CellKind::Decayed { half_life: 60_000_000, sum: true }, "Decayed { half_life: 60000000, sum: true }"),
        (CellKind::Session { gap: 1_800_000_000 }, "Session { gap: 1800000000 }"),
        (CellKind::Consent, "Consent"),
        (CellKind::Membership(MembershipName::of(4, "687")), "Membership { of: 085bcbea287755a8 }"),
        (CellKind::Said { prices: 3 }, "Said { prices: 3 }"),
    ] {
        assert_eq!(kind.declared(), text);
    }
}

#[test]
fn what_cells_hold_fits_and_what_none_can_hold_does_not() {
    let all = [
        CellKind::Count,
        CellKind::ValueCount,
        CellKind::Sum,
        CellKind::Min,
        CellKind::Max,
        CellKind::NewestTime,
        CellKind::OldestTime,
        CellKind::Last { text: false },
        CellKind::First { text: true },
        CellKind::Moments,
        CellKind::Newest(3),
        CellKind::Distinct { exact: 16, text: false },
        CellKind::Top { capacity: 3, text: false },
        CellKind::Decayed { half_life: 60, sum: true },
        CellKind::Session { gap: 5 },
        CellKind::Membership(MembershipName::of(0, "a")),
        CellKind::Said { prices: 2 },
    ];
    for kind in all {
        let mut words = empty(kind);
        assert!(kind.fits(&words, 0), "{kind:?} without an event");
        for (step, time) in [5, 3, 9, 40, 38, 44, 44, 90].into_iter().cycle().take(400).enumerate() {
            let value = [1.5, -2.0, f64::INFINITY, 1e300, f64::NAN, step as f64, -f64::MAX][step % 7];
            kind.apply(&mut words, Some(value.to_bits()), time);
            assert!(kind.fits(&words, 90), "{kind:?} at step {step}: {words:?}");
        }
    }
    let late = 91_u64;
    for (kind, words) in [
        (CellKind::Count, vec![(-1.0_f64).to_bits()]),
        (CellKind::ValueCount, vec![f64::NAN.to_bits()]),
        (CellKind::Sum, vec![f64::INFINITY.to_bits()]),
        (CellKind::NewestTime, vec![late]),
        (CellKind::OldestTime, vec![-1_i64 as u64]),
        (CellKind::Last { text: false }, vec![late, 0]),
        (CellKind::Moments, vec![0.5_f64.to_bits(), 0, 0]),
        (CellKind::Newest(2), vec![3, 0, 4, 0]),
        (CellKind::Distinct { exact: 16, text: true }, [vec![17], vec![0; 16]].concat()),
        (CellKind::Distinct { exact: 16, text: true }, [vec![1 << 60], vec![0; 16]].concat()),
        (CellKind::Distinct { exact: 16, text: true }, [vec![2, 8, 8], vec![0; 14]].concat()),
        (CellKind::Distinct { exact: 16, text: true }, [vec![distinct::SKETCH, 65], vec![0; 15]].concat()),
        (CellKind::Top { capacity: 1, text: true }, vec![1.0_f64.to_bits(), 7, u64::MAX]),
        (CellKind::Top { capacity: 2, text: true }, vec![9.0_f64.to_bits(), 7, 1, 7, 1]),
        (CellKind::Decayed { half_life: 60, sum: true }, vec![late, 0]),
        (CellKind::Session { gap: 5 }, vec![9, 8, 0, 0]),
        (CellKind::Membership(MembershipName::of(0, "a")), vec![late, late + 1]),
        (CellKind::Membership(MembershipName::of(0, "a")), vec![9, 9]),
        (CellKind::Membership(MembershipName::of(0, "a")), vec![9, 0]),
        (CellKind::Membership(MembershipName::of(0, "a")), vec![9, 91 + Membership::LONGEST as u64]),
        (CellKind::Said { prices: 0 }, vec![0, 9, 9]),
        (CellKind::Said { prices: 0 }, vec![1, late + Membership::LONGEST as u64, 9]),
        (CellKind::Said { prices: 0 }, vec![1, -1_i64 as u64, 9]),
        (CellKind::Said { prices: 0 }, vec![1, 9, -1_i64 as u64]),
        (CellKind::Said { prices: 1 }, vec![1, 9, 9, -1_i64 as u64]),
        (CellKind::Said { prices: 1 }, vec![0, 0, 0, 1]),
    ] {
        assert!(!kind.fits(&words, 90), "{kind:?}: {words:?}");
    }
}
