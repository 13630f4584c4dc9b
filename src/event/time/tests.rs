use super::{
    text::{DATE, MIDNIGHT, ORDER, ORDINAL, WEEK, ZONE},
    *,
};
use jiff::Timestamp;

fn read(text: &str, unit: TimeUnit) -> Result<i64, &'static str> {
    from_text(text, unit).map(|(micros, _)| micros)
}

#[test]
fn every_way_of_writing_a_time_gives_the_same_microseconds() {
    let expected = Ok(1_767_225_600_097_000);
    for (text, unit) in [
        ("1767225600097", TimeUnit::Auto),
        ("1767225600097", TimeUnit::Millis),
        ("1767225600.097", TimeUnit::Auto),
        ("1767225600.097", TimeUnit::Seconds),
        ("1.767225600097e9", TimeUnit::Auto),
        ("1767225600097000", TimeUnit::Auto),
        ("1767225600097000", TimeUnit::Micros),
        ("1767225600097000999", TimeUnit::Auto),
        ("1767225600097000000", TimeUnit::Nanos),
        ("1.767225600097e18", TimeUnit::Auto),
        ("2026-01-01T00:00:00.097Z", TimeUnit::Auto),
        ("2026-01-01t00:00:00.097z", TimeUnit::Auto),
        ("2026-01-01T01:00:00.097+01:00", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097", TimeUnit::Auto),
        ("2026-01-01 00:00:00,097", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097 UTC", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097UTC", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097 GMT", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097 Z", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097 +0000", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097+0000", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097+00", TimeUnit::Auto),
        ("2026-01-01 00:00:00.097 +00:00", TimeUnit::Auto),
        ("2025-12-31 20:30:00.097 -0330", TimeUnit::Auto),
        ("2026-01-01T05:30:00.097+05:30:00", TimeUnit::Auto),
        ("2026-01-01 01:00:00.097 GMT+0100", TimeUnit::Auto),
        ("2026-01-01T01:00:00.097[Europe/Berlin]", TimeUnit::Auto),
        ("2026-01-01T01:00:00.097+01:00[Europe/Berlin]", TimeUnit::Auto),
        ("2026-01-01T01:00:00.097 [europe/berlin]", TimeUnit::Auto),
        ("2026-01-01T01:00:00.097[!Europe/Berlin][u-ca=gregory]", TimeUnit::Auto),
        ("2026-01-01T00:00:00.097Z[UTC]", TimeUnit::Auto),
        ("2026-01-01T00:00:00.097[UTC]", TimeUnit::Auto),
        ("2026-01-01T01:00:00.097[+01:00]", TimeUnit::Auto),
        ("2026-01-01 01:00:00.097 Europe/Berlin", TimeUnit::Auto),
        ("20260101T000000.097Z", TimeUnit::Auto),
        ("20260101 000000.097", TimeUnit::Micros),
        ("20260101 00:00:00.097", TimeUnit::Auto),
        ("20260101T010000.097+0100", TimeUnit::Auto),
        ("2026/01/01 00:00:00.097", TimeUnit::Auto),
        (" 2026-01-01T00:00:00.097Z\t", TimeUnit::Auto),
    ] {
        assert_eq!(read(text, unit), expected, "{text} in {unit:?}");
    }
    let day = Ok(1_772_323_200_000_000);
    for text in [
        "2026-03-01",
        "20260301",
        "20260301.0",
        "20260301T000000Z",
        "202603010000",
        "20260301000000",
        "2026-03-01Z",
        "2026-03-01 UTC",
        "2026-03-01T00:00",
        "2026-03-01T00Z",
        "2026-03-01T01:00+01:00[Europe/Berlin]",
        "01/Mar/2026:01:00:00 +0100",
        "[01/Mar/2026:00:00:00 +0000]",
        "Sun, 01 Mar 2026 00:00:00 GMT",
        "Sun, 01 Mar 2026 01:00:00 +0100 (CET)",
        "1 Mar 2026 00:00 UT (a \"(comment)\")",
        "Sat, 28 Feb 2026 19:00:00 est",
        "2026-03-01T01:00:00[CET]",
    ] {
        assert_eq!(read(text, TimeUnit::Auto), day, "{text}");
    }
    assert_eq!(read("20260301T101500Z", TimeUnit::Seconds), Ok(1_772_360_100_000_000));
    assert_eq!(from_int(20_260_301_101_500, TimeUnit::Auto), 1_772_360_100_000_000);
    assert_eq!(read("1997-01-12", TimeUnit::Auto), Ok(853_027_200_000_000));
    assert_eq!(from_int(i64::MAX, TimeUnit::Seconds), i64::MAX);
    assert_eq!(from_number("1e300", TimeUnit::Seconds), Some((i64::MAX, Some(i64::MAX))));
}

#[test]
fn summer_time_is_the_zones_own() {
    let at = |text: &str| text.parse::<Timestamp>().map(Timestamp::as_microsecond).map_err(|_| "");
    for (text, expected) in [
        ("2026-07-01T12:00:00[Europe/Berlin]", "2026-07-01T10:00:00Z"),
        ("2026-01-01T12:00:00[Europe/Berlin]", "2026-01-01T11:00:00Z"),
        // An hour that does not exist, and one that occurs twice.
        ("2026-03-29T02:30:00[Europe/Berlin]", "2026-03-29T01:30:00Z"),
        ("2026-10-25T02:30:00[Europe/Berlin]", "2026-10-25T00:30:00Z"),
        ("2026-10-25T02:30:00+01:00[Europe/Berlin]", "2026-10-25T01:30:00Z"),
        ("2026-07-01T12:00:00[America/New_York]", "2026-07-01T16:00:00Z"),
    ] {
        assert_eq!(read(text, TimeUnit::Auto), at(expected), "{text}");
    }
}

#[test]
fn what_is_no_time_is_told_for_its_own_reason() {
    for (text, expected) in [
        ("", EXPECTED),
        ("soon", EXPECTED),
        ("NaN", EXPECTED),
        ("inf", EXPECTED),
        ("12:00:00", EXPECTED),
        ("2026-01-01T", EXPECTED),
        ("2026-01-01_00:00:00Z", ZONE),
        ("2026-01-01T00:00:00.Z", EXPECTED),
        ("2026-01-01T00:00:00.1234567890Z", EXPECTED),
        ("2026-13-01", DATE),
        ("2026-02-29T00:00:00Z", DATE),
        ("1900-02-29T00:00:00Z", DATE),
        ("2026-00-01T00:00:00Z", DATE),
        ("20261301T000000Z", DATE),
        ("2026-01-01T00:60:00Z", DATE),
        ("2026-01-01T25:00:00Z", DATE),
        ("2026-01-01T24:00:01Z", DATE),
        ("2026-01-01T24:00:00Z", MIDNIGHT),
        ("20260101T240000", MIDNIGHT),
        ("2026-W05-6", WEEK),
        ("2026W056", EXPECTED),
        ("2026-W05-6T10:00:00Z", WEEK),
        ("2026-031", ORDINAL),
        ("2026-031T10:00:00Z", ORDINAL),
        ("03/01/2026", ORDER),
        ("1.3.2026 10:00", ORDER),
        ("2026-01-01T00:00:00 PST", ZONE),
        ("2026-01-01T00:00:00+25:00", ZONE),
        ("2026-01-01T00:00:00+1", ZONE),
        ("2026-01-01T00:00:00ZZ", ZONE),
        ("2026-01-01T00:00:00.1-3", ZONE),
        ("2026-01-01T00:00:00[Nowhere/Land]", ZONE),
        ("2026-01-01T00:00:00[Europe/Berlin", ZONE),
        ("2026-01-01T00:00:00 PST[Europe/Berlin]", ZONE),
        ("2026-07-01 10:00:00 CET", ZONE),
        ("2026-07-01 10:00:00 CEST", ZONE),
        ("Wed, 1 Jul 2026 10:00:00 CEST", ZONE),
        ("Wed, 1 Jul 2026 10:00:00 CET", ZONE),
        ("1 Jul 2026 10:00:00 xyz (a (comment))", ZONE),
        ("Wed, 1 Jul 2026 10:00:00 A", ZONE),
        ("Wed, 1 Jul 2026 10:00:00", EXPECTED),
        ("[1990]", EXPECTED),
        ("[2026]", EXPECTED),
    ] {
        assert_eq!(read(text, TimeUnit::Auto), Err(expected), "{text:?}");
    }
}

proptest::proptest! {
    #[test]
    fn a_text_of_the_parts_of_times_is_read_or_refused(
        parts in proptest::collection::vec(
            proptest::sample::select(&[
                "1990", "2026", "20260301", "03", "1", "9", "-", "/", ".", ":", "T", " ", "Z", "W", "[", "]", "+", "é", "\0", "GMT",
                "CEST", "Europe/Berlin", "(", ")", "Mar", "Sun, ", "e9", ",",
            ][..]),
            0..8,
        ),
    ) {
        let text = parts.concat();
        // The parsers must not contradict each other.
        let (found, date) = (read(&text, TimeUnit::Auto), dated(&text));
        let is_number = from_number(text.trim(), TimeUnit::Auto).is_some();
        proptest::prop_assert!(is_number || date.is_err() || found == date, "{text:?}: {found:?}, {date:?}");
        proptest::prop_assert!(clf(&text).is_none_or(|time| found == Ok(time)), "{text:?}: {found:?}");
    }
}

#[test]
fn a_number_in_the_wrong_unit_is_told_by_the_unit_that_it_is_in() {
    let is_plausible = |micros| (631_152_000_000_000..4_102_444_800_000_000).contains(&micros);
    for (number, hint) in [
        (1_767_225_600, Some("unit = \"s\"")),
        (1_767_225_600_097, Some("unit = \"ms\"")),
        (1_767_225_600_097_000, Some("unit = \"us\"")),
        (1_767_225_600_097_000_000, Some("unit = \"ns\"")),
        (20_260_301, Some("As a date")),
        (7, None),
        (-1, None),
        (i64::MAX, None),
    ] {
        let found = meant(number, is_plausible);
        assert_eq!(found.is_some(), hint.is_some(), "{number}: {found:?}");
        assert!(found.unwrap_or_default().contains(hint.unwrap_or_default()), "{number}: {found:?}");
    }
}

#[test]
fn the_common_way_gives_what_the_grammar_gives() {
    // Every day from 1890 to 2110, plus the first and last years.
    let days = (-29_220..51_134).chain([-719_528, -719_163, 2_932_894]);
    for day in days {
        let micros = day * 86_400_000_000_i64 + (day.rem_euclid(86_400)) * 1_000_000 + day.rem_euclid(1_000_000);
        let time = Timestamp::from_microsecond(micros).expect("within the grammar's years");
        let text = time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
        assert_eq!(common(text.as_bytes()), Some(micros), "{text}");
        assert_eq!(common(text.replace('T', " ").trim_end_matches('Z').as_bytes()), Some(micros), "{text}");
        assert_eq!(dated(&text), Ok(micros), "{text}");
        let clf_text = time.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
        assert_eq!(clf(&clf_text), Some(micros.div_euclid(SECOND) * SECOND), "{clf_text}");
    }
    for text in [
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00ZZ",
        "2026-01-01_00:00:00Z",
        "+026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.1234567890Z",
        "2026-01-01T00:00:00.1-3",
    ] {
        assert_eq!(common(text.as_bytes()), None, "{text}");
        assert!(read(text, TimeUnit::Auto).is_err(), "{text}");
    }
    assert_eq!(read("2016-12-31T23:59:60Z", TimeUnit::Auto), read("2016-12-31T23:59:59Z", TimeUnit::Auto));
    assert_eq!(common(b"2024-02-29 00:00:00.5"), Some(1_709_164_800_500_000));
}
