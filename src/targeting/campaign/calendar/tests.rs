use super::*;
use crate::columns::Type;

fn at(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_microsecond()
}

/// A campaign's calendar with its clocks, and its errors.
fn calendar(text: &str, has_user_zone: bool) -> (Calendar, Clocks, Vec<String>, Scope) {
    let spec: CampaignSpec = toml::from_str(&format!("id = \"a\"\n{text}")).unwrap();
    let (mut clocks, mut errors, mut scope) = (Clocks::default(), Vec::new(), Scope::default());
    for aggregate in LOCAL {
        scope.declare(&format!("user {aggregate}"), Type::Double).unwrap();
    }
    let calendar = Calendar::compile(4, &spec, has_user_zone, &mut clocks, &scope, &mut errors);
    (calendar, clocks, errors.iter().map(ToString::to_string).collect(), scope)
}

#[test]
fn a_fixed_zone_tells_the_local_time_on_both_sides_of_each_change_in_any_order() {
    let zone = TimeZoneDatabase::bundled().get("Europe/Berlin").unwrap();
    let mut fixed = Fixed { name: String::new(), zone: zone.clone(), begin: i64::MAX, end: i64::MIN, offset: 0 };
    let changes = ["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2025-10-26T01:00:00Z", "1916-04-30T22:00:00Z"];
    for change in changes {
        for after in [0, -1, 1, -1, 0, 3_600 * SECOND, -3_600 * SECOND] {
            let time = at(change) + after;
            let local = zone.to_datetime(Timestamp::from_microsecond(time).unwrap());
            let expected = TimeZone::UTC.to_timestamp(local).unwrap().as_microsecond();
            assert_eq!(fixed.local(time), expected, "{change} {after}");
        }
    }
    let utc = TimeZone::UTC;
    let mut fixed = Fixed { name: String::new(), zone: utc, begin: i64::MAX, end: i64::MIN, offset: 0 };
    assert_eq!((fixed.local(5), fixed.begin, fixed.end), (5, i64::MIN, i64::MAX), "no change ever");
}

#[test]
fn dates_hold_from_their_first_moment_to_their_last() {
    for (text, open, closed) in [
        ("from = \"2026-03-01\"", &["2026-03-01T00:00:00Z"][..], &["2026-02-28T23:59:59.999999Z"][..]),
        ("until = \"2026-03-31\"", &["2026-03-31T23:59:59.999999Z", "1999-01-01T00:00:00Z"], &["2026-04-01T00:00:00Z"]),
        ("from = \"2026-03-01\"\nuntil = \"2026-03-01\"", &["2026-03-01T12:00:00Z"], &["2026-03-02T00:00:00Z"]),
        (
            "from = \"2026-03-01\"\nuntil = \"2026-03-29\"\nzone = \"Europe/Berlin\"",
            &["2026-02-28T23:00:00Z", "2026-03-29T21:59:59Z"],
            &["2026-02-28T22:59:59Z", "2026-03-29T22:00:00Z"],
        ),
        (
            "from = \"2026-03-01T08:00\"\nuntil = \"2026-03-01T20:00\"\nzone = \"Asia/Kolkata\"",
            &["2026-03-01T02:30:00Z", "2026-03-01T14:29:59Z"],
            &["2026-03-01T02:29:59Z", "2026-03-01T14:30:00Z"],
        ),
        // An explicit offset takes precedence over the zone.
        (
            "from = \"2026-03-01T08:00:00-05:00\"\nzone = \"Asia/Kolkata\"",
            &["2026-03-01T13:00:00Z"],
            &["2026-03-01T12:59:59Z"],
        ),
        // Clocks are put forward at midnight, so the day begins at 01:00.
        ("from = \"2026-04-24\"\nzone = \"Africa/Cairo\"", &["2026-04-23T22:00:00Z"], &["2026-04-23T21:59:59Z"]),
        // TOML's own dates are equivalent.
        ("from = 2026-03-01\nuntil = 2026-03-01T12:00:00Z", &["2026-03-01T11:59:59Z"], &["2026-03-01T12:00:00Z"]),
    ] {
        let (calendar, mut clocks, errors, _) = calendar(text, false);
        assert_eq!(errors, [""; 0], "{text}");
        for (times, expected) in [(open, None), (closed, Some(Closed::Dates))] {
            for time in times {
                clocks.set(at(time), &Columns::default(), 0);
                assert_eq!(calendar.closed(at(time), &clocks), expected, "{text} at {time}");
            }
        }
    }
}

#[test]
fn dayparts_follow_the_wall_clock_across_midnight_weeks_and_summer_time() {
    for (text, open, closed) in [
        // 2026-03-02 is a Monday.
        (
            "dayparts = [\"mon-fri 08:00-20:00\"]",
            &["2026-03-02T08:00:00Z", "2026-03-06T19:59:59Z"][..],
            &["2026-03-02T07:59:59Z", "2026-03-06T20:00:00Z", "2026-03-07T12:00:00Z", "2026-03-08T12:00:00Z"][..],
        ),
        (
            "dayparts = [\"sun 22:00-02:00\"]",
            &["2026-03-08T22:00:00Z", "2026-03-09T01:59:59Z"],
            &["2026-03-08T21:59:59Z", "2026-03-09T02:00:00Z", "2026-03-08T01:00:00Z", "2026-03-10T01:00:00Z"],
        ),
        (
            "dayparts = [\"22:00-02:00\"]",
            &["2026-03-02T00:00:00Z", "2026-03-04T23:00:00Z"],
            &["2026-03-04T02:00:00Z", "2026-03-04T21:59:00Z"],
        ),
        (
            "dayparts = [\"fri-mon\"]",
            &["2026-03-06T00:00:00Z", "2026-03-09T23:59:59Z"],
            &["2026-03-10T00:00:00Z", "2026-03-05T23:59:59Z"],
        ),
        (
            "dayparts = [\"MON,wed 09:00-24:00\", \"tue 00:00-00:01\"]",
            &["2026-03-02T23:59:59Z", "2026-03-03T00:00:59Z", "2026-03-04T09:00:00Z"],
            &["2026-03-03T00:01:00Z", "2026-03-05T00:00:00Z"],
        ),
        // Clocks are put forward from 02:00 to 03:00 and back from 03:00 to 02:00.
        (
            "dayparts = [\"sun 02:00-03:00\"]\nzone = \"Europe/Berlin\"",
            &["2026-03-22T01:30:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:59:59Z"],
            &["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z", "2026-10-24T23:59:59Z", "2026-10-25T02:00:00Z"],
        ),
        (
            "dayparts = [\"mon 00:00-06:00\"]\nzone = \"America/Los_Angeles\"",
            &["2026-03-02T08:00:00Z", "2026-03-09T07:00:00Z"],
            &["2026-03-02T07:59:59Z", "2026-03-09T06:59:59Z", "2026-03-09T13:00:00Z"],
        ),
    ] {
        let (calendar, mut clocks, errors, _) = calendar(text, false);
        assert_eq!(errors, [""; 0], "{text}");
        for (times, expected) in [(open, None), (closed, Some(Closed::Daypart))] {
            for time in times {
                clocks.set(at(time), &Columns::default(), 0);
                assert_eq!(calendar.closed(at(time), &clocks), expected, "{text} at {time}");
            }
        }
    }
}

/// The values of the calendar aggregates at a time in a zone.
fn aggregates(time: i64, zone: &str) -> [f64; 3] {
    let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
    let local = zone.to_datetime(Timestamp::from_microsecond(time).unwrap());
    let second = (i32::from(local.hour()) * 60 + i32::from(local.minute())) * 60 + i32::from(local.second());
    let angle = f64::from(second) / 86_400.0 * TAU;
    [local.weekday().to_monday_one_offset().into(), angle.sin(), angle.cos()]
}

#[test]
fn the_local_time_of_a_user_is_that_of_the_user_s_zone_to_the_microsecond() {
    let mut time = at("2025-12-31T00:00:00Z") + 123_457;
    for step in 0..20_000 {
        for zone in ["UTC", "Pacific/Kiritimati", "Pacific/Niue", "Asia/Kathmandu", "America/New_York"] {
            let local =
                TimeZoneDatabase::bundled().get(zone).unwrap().to_datetime(Timestamp::from_microsecond(time).unwrap());
            let expected = TimeZone::UTC.to_timestamp(local).unwrap().as_microsecond();
            assert_eq!(user_local(time, aggregates(time, zone)), Some(expected), "{zone} at {time}");
        }
        time += (1 + step % 7) * 977 * SECOND;
    }
    assert_eq!(user_local(time, [f64::NAN; 3]), None);
}

#[test]
fn a_campaign_in_the_zone_of_the_user_follows_it_and_does_not_run_where_it_is_not_known() {
    let text = "from = \"2026-03-02\"\nuntil = \"2026-03-03\"\ndayparts = [\"08:00-20:00\"]\nzone = \"user\"";
    let (calendar, mut clocks, errors, scope) = calendar(text, true);
    assert_eq!(errors, [""; 0]);
    for (time, zone, expected) in [
        ("2026-03-02T08:00:00Z", Some("UTC"), None),
        ("2026-03-02T08:00:00Z", Some("America/New_York"), Some(Closed::Daypart)),
        ("2026-03-02T13:00:00Z", Some("America/New_York"), None),
        ("2026-03-01T23:00:00Z", Some("Asia/Tokyo"), None),
        ("2026-03-01T22:00:00Z", Some("Asia/Tokyo"), Some(Closed::Daypart)),
        ("2026-03-01T14:59:59Z", Some("Asia/Tokyo"), Some(Closed::Dates)),
        ("2026-03-04T00:00:00Z", Some("America/New_York"), None),
        ("2026-03-04T05:00:00Z", Some("America/New_York"), Some(Closed::Dates)),
        ("2026-03-02T13:00:00Z", None, Some(Closed::Dates)),
    ] {
        let mut columns = scope.columns();
        let values = zone.map_or([f64::NAN; 3], |zone| aggregates(at(time), zone));
        for (aggregate, value) in LOCAL.iter().zip(values) {
            let (slot, _) = scope.get(&format!("user {aggregate}")).unwrap();
            columns.get_mut(slot).doubles_mut().push(value);
        }
        clocks.set(at(time), &columns, 0);
        assert_eq!(calendar.closed(at(time), &clocks), expected, "{time} in {zone:?}");
    }
}

#[test]
fn zones_are_shared_and_only_those_in_use_are_followed() {
    let spec = |text: &str| -> CampaignSpec { toml::from_str(&format!("id = \"a\"\n{text}")).unwrap() };
    let (mut clocks, mut errors) = (Clocks::default(), Vec::new());
    for (text, count) in [
        ("zone = \"Europe/Paris\"\nfrom = \"2026-03-02\"", 0),
        ("zone = \"Europe/Berlin\"\ndayparts = [\"mon\"]", 1),
        ("zone = \"europe/berlin\"\ndayparts = [\"tue\"]", 1),
        ("dayparts = [\"tue\"]", 2),
    ] {
        let found = Calendar::compile(0, &spec(text), false, &mut clocks, &Scope::default(), &mut errors);
        assert_eq!((clocks.clocks.len(), found.clock.is_some()), (count, count > 0), "{text}");
    }
    assert_eq!(errors, []);
}

#[test]
fn wrong_dates_dayparts_and_zones_are_reported_with_the_next_step() {
    for (text, expected) in [
        ("zone = \"Europe/Berlni\"", "zone: there is no time zone \"Europe/Berlni\"; did you mean \"Europe/Berlin\"?"),
        ("zone = \"Middle-earth\"", "zone: there is no time zone \"Middle-earth\"; write an IANA name"),
        ("zone = \"user\"", "zone: nothing tells the time zones of users; set targeting.user_zone"),
        ("from = \"soon\"", "from: \"soon\" is not a date or time; write 2026-03-01"),
        ("from = \"2026-02-30\"", "from: \"2026-02-30\" is not a date"),
        ("until = \"2026-3-1\"", "until: \"2026-3-1\" is not a date"),
        ("from = \"2026-03-02\"\nuntil = \"2026-03-01\"", "until: the campaign is over before it begins; swap"),
        ("from = \"2026-03-02T08:00\"\nuntil = \"2026-03-02T08:00\"", "until: the campaign is over"),
        ("dayparts = [\"\"]", "dayparts[0]: \"\" is not a daypart: expected days, hours, or days and hours; for"),
        (
            "dayparts = [\"mon\", \"mom 08:00-09:00\"]",
            "dayparts[1]: \"mom 08:00-09:00\" is not a daypart: \"mom\" is not a day",
        ),
        ("dayparts = [\"mon 8:00-9:00\"]", "dayparts[0]: \"mon 8:00-9:00\" is not a daypart: \"8:00-9:00\" is not"),
        ("dayparts = [\"08:00-24:01\"]", "dayparts[0]: \"08:00-24:01\" is not a daypart: \"08:00-24:01\" is not"),
        ("dayparts = [\"08:60-09:00\"]", "dayparts[0]: \"08:60-09:00\" is not a daypart: \"08:60-09:00\" is not"),
        ("dayparts = [\"08:00-08:00\"]", "dayparts[0]: \"08:00-08:00\" is not a daypart: it ends when it begins"),
        ("dayparts = [\"24:00-08:00\"]", "dayparts[0]: \"24:00-08:00\" is not a daypart: 24:00 is not a start"),
        ("dayparts = [\"mon 08:00-09:00 tue\"]", "dayparts[0]: \"mon 08:00-09:00 tue\" is not a daypart: expected"),
    ] {
        let (_, _, found, _) = calendar(text, false);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(&format!("campaign[4].{expected}")), "{text}: {found:?}");
    }
}
