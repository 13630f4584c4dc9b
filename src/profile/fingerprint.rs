//! The fingerprint of the declared features: what a model was trained on, and what a profile was made by.

use super::{FeatureSpec, ProfileSpec};
use crate::{
    event::{DuplicateSpec, TimeSpec},
    expression::normal_form,
};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The first 16 hex digits of the SHA-256 of everything that decides a feature's value. Layout, order of keys, spaces in
/// expressions and whether the model gets a feature change nothing.
pub(super) fn fingerprint(
    profile: &ProfileSpec,
    time: &TimeSpec,
    duplicates: &DuplicateSpec,
    features: &[FeatureSpec],
) -> String {
    let mut text = format!(
        "1|{}|{}|{}|{}",
        profile.ttl.as_micros(),
        time.allowed_lateness.as_micros(),
        duplicates.horizon.as_micros(),
        duplicates.max_ids
    );
    for FeatureSpec { name, aggregate, expression, filter, value, window, tile, options, model: _ } in features {
        let plain = |part: &Option<String>| part.clone().unwrap_or_default();
        let rule = |part: &Option<String>| part.as_deref().map(normal_form).unwrap_or_default();
        let parts = [
            name.clone(),
            plain(aggregate),
            rule(expression),
            rule(filter),
            rule(value),
            plain(window),
            plain(tile),
            toml::to_string(options).unwrap_or_default(),
        ];
        // Debug quotes each part, so that no two lists of parts read the same.
        write!(text, "{parts:?}").expect("a string takes everything");
    }
    Sha256::digest(text.as_bytes()).iter().take(8).fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}
