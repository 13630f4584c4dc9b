//! The fingerprint of the declared features: what a model was trained on, and what a profile was made by.

use super::{FeatureSpec, ProfileSpec};
use crate::{
    event::{DuplicateSpec, TimeSpec},
    expression::normal_form,
};
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The first 16 hex digits of the SHA-256 of everything that decides a feature's value. The order of features and of
/// their keys, spaces in expressions and whether the model gets a feature change nothing.
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
    // Debug quotes each part, so that no two lists of parts read the same.
    let mut declared: Vec<String> = features.iter().map(|feature| format!("{:?}", parts(feature))).collect();
    declared.sort_unstable();
    text.extend(declared);
    digest(text.as_bytes())
}

/// The first 16 hex digits of the SHA-256 of these bytes.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string takes everything");
        hex
    })
}

/// What decides a feature's value, part by part.
fn parts(feature: &FeatureSpec) -> [String; 8] {
    let FeatureSpec { name, aggregate, expression, filter, value, window, tile, options, model: _ } = feature;
    let plain = |part: &Option<String>| part.clone().unwrap_or_default();
    let rule = |part: &Option<String>| part.as_deref().map(normal_form).unwrap_or_default();
    [
        name.clone(),
        plain(aggregate),
        rule(expression),
        rule(filter),
        rule(value),
        plain(window),
        plain(tile),
        toml::to_string(options).unwrap_or_default(),
    ]
}

/// What has become of a feature's declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It says what it said.
    Same,
    /// The name is there still, and says something else.
    Changed,
    /// There was none of its name.
    New,
    /// There is none of its name any more.
    Gone,
}

/// What has become of each declaration, by name: those that there are, in their order, then those that are gone. A
/// derived feature is the same where its expression is, whatever has become of the features that it reads.
pub fn changes<'a>(before: &'a [FeatureSpec], now: &'a [FeatureSpec]) -> Vec<(&'a str, Change)> {
    let find = |list: &'a [FeatureSpec], name: &str| list.iter().find(|feature| feature.name == name);
    let of_now = now.iter().map(|feature| {
        let change = match find(before, &feature.name) {
            None => Change::New,
            Some(old) if parts(old) == parts(feature) => Change::Same,
            Some(_) => Change::Changed,
        };
        (feature.name.as_str(), change)
    });
    let gone = before.iter().filter(|feature| find(now, &feature.name).is_none());
    of_now.chain(gone.map(|feature| (feature.name.as_str(), Change::Gone))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feature(name: &str, filter: &str, window: &str) -> FeatureSpec {
        FeatureSpec {
            name: name.to_owned(),
            aggregate: Some("count".to_owned()),
            filter: Some(filter.to_owned()),
            window: Some(window.to_owned()),
            ..FeatureSpec::default()
        }
    }

    #[test]
    fn a_declaration_is_the_same_however_it_is_spaced_and_whoever_gets_it() {
        let before = [feature("a", "bot", "1h"), feature("b", "bot", "1h"), feature("c", "bot", "1h")];
        let mut now = [feature("d", "bot", "1h"), feature("b", "bot", "2h"), feature("a", " bot ", "1h")];
        now[2].model = !before[0].model;
        let expected = [("d", Change::New), ("b", Change::Changed), ("a", Change::Same), ("c", Change::Gone)];
        assert_eq!(changes(&before, &now), expected);
    }

    #[test]
    fn the_fingerprint_asks_for_what_is_declared_and_not_in_which_order() {
        let of = |features: &[FeatureSpec]| {
            fingerprint(&ProfileSpec::default(), &TimeSpec::default(), &DuplicateSpec::default(), features)
        };
        let [a, b] = [feature("a", "bot", "1h"), feature("b", "bot", "2h")];
        let known = of(&[a.clone(), b.clone()]);
        assert_eq!(of(&[b.clone(), feature("a", " bot ", "1h")]), known);
        assert_ne!(of(&[feature("a", "bot", "2h"), feature("b", "bot", "1h")]), known);
        assert_ne!(of(&[a]), known);
    }
}
