//! Windows, and the tiles they consist of.

use std::time::Duration;

/// A duration or time in microseconds.
pub(super) type Micros = i64;

const SECOND: Micros = 1_000_000;
const DAY: Micros = 86_400 * SECOND;

/// The longest window.
const WINDOW_MAX: Micros = 540 * DAY;

/// The most tiles in a window, so that reading one stays a short loop.
const TILES_MAX: Micros = 1_440;

/// The most tiles that a window is cut into by default.
const TILES_BY_DEFAULT: Micros = 60;

/// The default tile widths to choose from.
const WIDTHS: [Micros; 19] = [
    SECOND,
    2 * SECOND,
    5 * SECOND,
    10 * SECOND,
    15 * SECOND,
    30 * SECOND,
    60 * SECOND,
    120 * SECOND,
    300 * SECOND,
    600 * SECOND,
    900 * SECOND,
    1_800 * SECOND,
    3_600 * SECOND,
    7_200 * SECOND,
    21_600 * SECOND,
    43_200 * SECOND,
    DAY,
    7 * DAY,
    30 * DAY,
];

/// How far back a feature looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Window {
    /// Over everything that arrived.
    Forever,
    /// Over whole tiles.
    Tiled { length: Micros, tile: Micros },
}

/// Converts a duration to microseconds.
pub(super) fn micros(duration: Duration) -> Micros {
    duration.as_micros().min(i64::MAX as u128 / 4) as Micros
}

/// A problem with a window: the key, the message, the next step.
pub(super) type WindowFault = (&'static str, String, Option<&'static str>);

impl Window {
    /// Parses `window` and `tile` as written in the configuration.
    pub(super) fn parse(window: &str, tile: Option<&str>) -> Result<Self, WindowFault> {
        if window == "forever" {
            return match tile {
                None => Ok(Self::Forever),
                Some(_) => Err(("tile", "a window of \"forever\" has no tiles".to_owned(), Some("remove tile"))),
            };
        }
        let length = length(window)?;
        let tile = match tile {
            Some(text) => {
                let tile = duration("tile", text)?;
                if tile < SECOND || length % tile != 0 || length / tile > TILES_MAX {
                    return Err((
                        "tile",
                        format!("{text:?} does not cut {window:?} into 1 to {TILES_MAX} equal tiles of at least 1s"),
                        None,
                    ));
                }
                tile
            }
            None => *WIDTHS
                .iter()
                .find(|width| length % **width == 0 && length / **width <= TILES_BY_DEFAULT)
                .ok_or_else(|| {
                    let message = format!("no usual tile cuts {window:?} into at most {TILES_BY_DEFAULT} equal parts");
                    ("window", message, Some("say which: tile = \"…\""))
                })?,
        };
        Ok(Self::Tiled { length, tile })
    }
}

/// The tile of a window as written in a configuration; `None` if the window is invalid or has no tiles.
pub fn tile_of(window: &str, tile: Option<&str>) -> Option<String> {
    match Window::parse(window, tile) {
        Ok(Window::Tiled { tile, .. }) => {
            Some(crate::duration::display(Duration::from_micros(tile as u64)).to_string())
        }
        Ok(Window::Forever) | Err(_) => None,
    }
}

/// The default tile widths, as people write them.
pub fn tile_widths() -> String {
    let text = |width: &Micros| crate::duration::display(Duration::from_micros(*width as u64)).to_string();
    WIDTHS.iter().map(text).collect::<Vec<_>>().join(", ")
}

/// Parses the length of a window.
pub(super) fn length(window: &str) -> Result<Micros, WindowFault> {
    let length = duration("window", window)?;
    if !(SECOND..=WINDOW_MAX).contains(&length) {
        return Err(("window", format!("{window:?} is not between 1s and 540d"), Some("or write \"forever\"")));
    }
    Ok(length)
}

/// Parses a duration such as `90s` or `30d`.
pub(super) fn duration(key: &'static str, text: &str) -> Result<Micros, WindowFault> {
    humantime::parse_duration(text)
        .map(micros)
        .map_err(|error| (key, format!("{text:?} is not a duration: {error}"), Some("for example 90s, 5m, 24h or 30d")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_tiles_cut_a_window_into_at_most_sixty() {
        for (window, tile) in [
            ("1s", SECOND),
            ("1m", SECOND),
            ("5m", 5 * SECOND),
            ("1h", 60 * SECOND),
            ("24h", 1_800 * SECOND),
            ("30d", 43_200 * SECOND),
            ("540d", 30 * DAY),
        ] {
            let Ok(Window::Tiled { tile: found, length }) = Window::parse(window, None) else {
                panic!("{window} is a window");
            };
            assert_eq!((found, length % found), (tile, 0), "{window}");
            assert_eq!(tile_of(window, None).map(|tile| duration("tile", &tile)), Some(Ok(tile)), "{window}");
        }
        assert_eq!(Window::parse("forever", None), Ok(Window::Forever));
        for (window, tile) in
            [("0s", None), ("541d", None), ("1h", Some("7m")), ("forever", Some("1h")), ("soon", None)]
        {
            assert!(Window::parse(window, tile).is_err(), "{window} with {tile:?}");
        }
        // A window without tiles, such as that of `recency`, has the same bounds.
        for window in ["0s", "1ns", "541d", "584542y", "soon"] {
            assert!(length(window).is_err(), "{window}");
        }
        assert_eq!((length("1s"), length("540d")), (Ok(SECOND), Ok(WINDOW_MAX)));
    }
}
