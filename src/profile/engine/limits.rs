//! How long what a profile keeps counts, and how far behind events may be.

use crate::{
    config_error::ConfigError,
    event::{DuplicateSpec, TimeSpec},
    profile::{
        ProfileSpec,
        tiles::{TILES_APART_MAX, TileGroup},
        window::micros,
    },
};

/// The limits of profiles; times are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// `profile.ttl`.
    pub(super) ttl: i64,
    /// `time.allowed_lateness`.
    pub(super) lateness: i64,
    /// `time.future_tolerance`.
    pub(super) future_tolerance: i64,
    /// If two events of a user are at least this far apart, all tiles are dropped, because tile numbers would be
    /// ambiguous.
    pub(super) apart_max: i64,
    /// `duplicates.horizon`.
    pub(super) horizon: i64,
    /// `duplicates.max_ids`.
    pub(super) ids_max: usize,
}

impl Limits {
    /// Compiles them. Errors are added under `profile`, `duplicates` and `time`.
    pub(super) fn compile(
        profile: &ProfileSpec,
        time: &TimeSpec,
        duplicates: &DuplicateSpec,
        groups: &[TileGroup],
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let (ttl, lateness) = (micros(profile.ttl), micros(time.allowed_lateness));
        let longest = groups.iter().map(|group| group.tile * group.tiles_max).max().unwrap_or_default();
        if ttl < longest {
            errors.push(
                ConfigError::new(
                    "profile.ttl",
                    format!("{} is shorter than the longest window", crate::duration::display(profile.ttl)),
                )
                .hint(format!(
                    "set at least {:?}",
                    crate::duration::display(std::time::Duration::from_micros(longest as u64)).to_string()
                )),
            );
        }
        if !duplicates.horizon.is_zero() && duplicates.max_ids == 0 {
            errors.push(
                ConfigError::new("duplicates.max_ids", "0 remembers nothing")
                    .hint("set it to 1 to 65535, or duplicates.horizon to \"0s\""),
            );
        }
        let narrowest = groups.iter().map(|group| group.tile).min().unwrap_or(i64::MAX);
        let apart_max = narrowest.saturating_mul(TILES_APART_MAX);
        if lateness.saturating_add(longest) >= apart_max {
            errors.push(
                ConfigError::new(
                    "time.allowed_lateness",
                    format!(
                        "{} is too long for tiles of {} s",
                        crate::duration::display(time.allowed_lateness),
                        narrowest / 1_000_000
                    ),
                )
                .hint("a user's late events may be 34 years behind the newest, where a tile is a second wide"),
            );
        }
        Self {
            ttl,
            lateness,
            future_tolerance: micros(time.future_tolerance),
            apart_max,
            horizon: micros(duplicates.horizon),
            ids_max: duplicates.max_ids.into(),
        }
    }
}
