//! Numbers and times as people read them.

use crate::{
    evaluation::{Interval, business::Rate},
    targeting::money::Micros,
};

/// What is not known.
pub(super) const DASH: &str = "–";

/// A count with its thousands apart.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 impression`, `2 impressions`.
pub(super) fn counted(number: u64, one: &str) -> String {
    format!("{} {one}{}", count(number), if number == 1 { "" } else { "s" })
}

/// How many digits after the point a share in percent needs: about three that say something.
fn digits(percent: f64) -> usize {
    match percent.abs() {
        size if size >= 10.0 || size == 0.0 => 1,
        size if size >= 0.1 => 2,
        _ => 3,
    }
}

/// A share in percent.
pub(super) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    format!("{percent:.*} %", digits(percent))
}

/// The ends of an interval of shares in percent.
pub(super) fn range(interval: Interval) -> String {
    let digits = digits(interval.high * 100.0);
    format!("{:.digits$} to {:.digits$} %", interval.low * 100.0, interval.high * 100.0)
}

/// A rate with its interval, or a dash.
pub(super) fn rate(rate: Option<Rate>) -> String {
    rate.map_or_else(|| DASH.to_owned(), |it| format!("{} ({})", percent(it.value), range(it.interval)))
}

/// A ratio of predicted to observed this close to 1 is right.
const RIGHT: f64 = 0.1;

/// The verdict on the ratio of predicted to observed; `unknown` without one.
pub(super) fn calibration(ratio: Option<f64>, unknown: &str) -> String {
    match ratio {
        None => unknown.to_owned(),
        Some(ratio) if (ratio - 1.0).abs() <= RIGHT => "Predictions are right on average".to_owned(),
        Some(ratio) if ratio > 1.0 => format!("Predictions are too high: {} times what happens", number(ratio)),
        Some(ratio) => format!("Predictions are too low: {} times what happens", number(ratio)),
    }
}

/// A number with about three digits that say something.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 1_000.0 {
        let sign = if value < 0.0 { "-" } else { "" };
        format!("{sign}{}", count(size.round() as u64))
    } else if size >= 100.0 || size == 0.0 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else if size >= 0.1 {
        format!("{value:.2}")
    } else if size >= 0.001 {
        format!("{value:.4}")
    } else {
        format!("{value:.1e}")
    }
}

/// A number, or a dash.
pub(super) fn maybe(value: Option<f64>) -> String {
    value.map_or_else(|| DASH.to_owned(), number)
}

/// An amount: whole units if it is large, otherwise two digits after the point, or more for tiny ones.
pub(super) fn amount(micros: i64) -> String {
    let units = micros as f64 / 1e6;
    let sign = if micros < 0 { "-" } else { "" };
    let size = micros.unsigned_abs();
    match size {
        0 => "0".to_owned(),
        // Below a cent, all digits matter.
        1..10_000 => Micros(micros).to_string(),
        10_000..10_000_000_000 => {
            let cents = (units.abs() * 100.0).round() as u64;
            format!("{sign}{}.{:02}", count(cents / 100), cents % 100)
        }
        _ => format!("{sign}{}", count(units.abs().round() as u64)),
    }
}

/// An amount, or a dash.
pub(super) fn maybe_amount(micros: Option<i64>, currency: &str) -> String {
    micros.map_or_else(|| DASH.to_owned(), |it| format!("{} {currency}", amount(it)))
}

fn in_utc(micros: i64) -> Option<jiff::civil::DateTime> {
    Some(jiff::tz::TimeZone::UTC.to_datetime(jiff::Timestamp::from_microsecond(micros).ok()?))
}

/// A time as in `31 Jan 2026, 12:05`.
pub(super) fn time(micros: i64) -> String {
    in_utc(micros).map_or_else(|| DASH.to_owned(), |at| at.strftime("%-d %b %Y, %H:%M").to_string())
}

/// A day as in `31 Jan`, with the hour if points are narrower than days.
pub(super) fn moment(micros: i64, width: i64) -> String {
    let form = if width < 86_400_000_000 { "%-d %b, %H:%M" } else { "%-d %b" };
    in_utc(micros).map_or_else(|| DASH.to_owned(), |at| at.strftime(form).to_string())
}

/// The width of points as in `each day`.
pub(super) fn each(width: i64) -> String {
    match width / 3_600_000_000 {
        1 => "each hour".to_owned(),
        24 => "each day".to_owned(),
        168 => "each week".to_owned(),
        hours if hours % 168 == 0 => format!("each {} weeks", hours / 168),
        hours => format!("each {hours} hours"),
    }
}

/// A sentence begins with a capital.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_say_something() {
        for (found, expected) in [
            (count(0), "0"),
            (count(999), "999"),
            (count(1_234_567), "1,234,567"),
            (counted(1, "click"), "1 click"),
            (percent(0.5), "50.0 %"),
            (percent(0.012_34), "1.23 %"),
            (percent(0.000_4), "0.040 %"),
            (range(Interval { low: 0.0, high: 0.0567 }), "0.00 to 5.67 %"),
            (number(0.0), "0"),
            (number(-12_345.6), "-12,346"),
            (number(0.01234), "0.0123"),
            (number(2.0e-9), "2.0e-9"),
            (amount(1_234_500_000), "1,234.50"),
            (amount(-12_345_678_000_000), "-12,345,678"),
            (amount(2_500), "0.0025"),
            (amount(999_999), "1.00"),
            (time(1_767_225_600_000_000), "1 Jan 2026, 00:00"),
            (moment(1_767_225_600_000_000, 86_400_000_000), "1 Jan"),
            (each(6 * 3_600_000_000), "each 6 hours"),
            (capital("é"), "É"),
        ] {
            assert_eq!(found, expected);
        }
    }
}
