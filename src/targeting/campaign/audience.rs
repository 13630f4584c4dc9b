//! The segments that a campaign or a creative needs or excludes, as bit sets.

use super::Held;
use crate::{config_error::ConfigError, expression::nearest, targeting::AudienceSpec};

/// The segments that a user must be in, or must not be in.
#[derive(Clone, Debug, Default)]
pub(super) struct Audience {
    /// The user is in at least one of them, unless there are none.
    any: Vec<u64>,
    has_any: bool,
    /// The user is in all of them.
    all: Vec<u64>,
    /// The user is in none of them.
    none: Vec<u64>,
}

impl Audience {
    /// Resolves the ids. Errors are added under `path.segments`. `what` is the thing that nobody would see.
    pub(super) fn compile(
        path: &str,
        what: &str,
        spec: &AudienceSpec,
        segments: &[&str],
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let [any, all, none] = [("any", &spec.any), ("all", &spec.all), ("none", &spec.none)]
            .map(|(part, ids)| numbers(&format!("{path}.segments.{part}"), ids, segments, errors));
        if let Some(both) = none.iter().find(|number| all.contains(number) || any == [**number]) {
            let message =
                format!("segment {:?} is both needed and excluded, so nobody sees the {what}", segments[*both]);
            errors.push(ConfigError::new(format!("{path}.segments.none"), message).hint("remove it in one place"));
        }
        let set = |numbers: &[usize]| {
            let mut set = Held::new(segments.len());
            for number in numbers {
                set.insert(*number);
            }
            set.0
        };
        Self { has_any: !any.is_empty(), any: set(&any), all: set(&all), none: set(&none) }
    }

    /// The segments each of which makes the user worth a closer look; empty if any user is. Without `any`, the first of
    /// `all` will do, because all of them are needed.
    pub(super) fn opening(&self) -> Vec<usize> {
        let (set, most) = if self.has_any { (&self.any, usize::MAX) } else { (&self.all, 1) };
        super::bits(set).take(most).collect()
    }

    /// Whether the user is in all segments of `all`.
    pub(super) fn has_all(&self, held: &Held) -> bool {
        held.has_all(&self.all)
    }

    /// Whether the user is in a segment of `none`.
    pub(super) fn is_excluded(&self, held: &Held) -> bool {
        held.has_any(&self.none)
    }

    /// Whether nobody can be in both, because one needs a segment that the other excludes.
    pub(super) fn clashes_with(&self, other: &Self) -> bool {
        let meets = |set: &[u64], other: &[u64]| set.iter().zip(other).any(|(a, b)| a & b != 0);
        let is_within = |set: &[u64], other: &[u64]| set.iter().zip(other).all(|(a, b)| a & !b == 0);
        let needs = |of: &Self, none: &[u64]| meets(&of.all, none) || of.has_any && is_within(&of.any, none);
        needs(self, &other.none) || needs(other, &self.none)
    }

    /// Whether it rests on a segment of these, which are too small: one of `all`, or the only ones of `any` that the user is
    /// in. To leave out the members of a small segment singles out nobody.
    pub(super) fn is_small(&self, held: &Held, small: &[u64]) -> bool {
        let words = || held.0.iter().zip(small);
        let needs = words().zip(&self.all).any(|((_, small), all)| small & all != 0);
        let mut large = words().zip(&self.any).filter(|((held, small), any)| *held & !*small & **any != 0);
        needs || (self.has_any && !small.is_empty() && large.next().is_none())
    }

    /// Whether the user belongs to it.
    pub(super) fn has(&self, held: &Held) -> bool {
        (!self.has_any || held.has_any(&self.any)) && self.has_all(held) && !self.is_excluded(held)
    }
}

/// The indexes of the segments with these ids.
fn numbers(path: &str, ids: &[String], segments: &[&str], errors: &mut Vec<ConfigError>) -> Vec<usize> {
    let mut numbers = Vec::with_capacity(ids.len());
    for (place, id) in ids.iter().enumerate() {
        let key = || format!("{path}[{place}]");
        let mut found = segments.iter().enumerate().filter(|(_, segment)| *segment == id).map(|(it, _)| it);
        match (found.next(), found.next()) {
            (Some(number), None) => numbers.push(number),
            (Some(_), Some(_)) => errors.push(
                ConfigError::new(key(), format!("several segments have the id {id:?}"))
                    .hint("give the segments different ids, or use one taxonomy"),
            ),
            (None, _) => {
                let error = ConfigError::new(key(), format!("there is no segment {id:?}"));
                errors.push(match nearest(id, segments.iter().copied()) {
                    Some(near) => error.hint(format!("did you mean {near:?}?")),
                    None => error.hint("declare it under [[segment]], or remove it here"),
                });
            }
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_clash_if_one_needs_what_the_other_excludes() {
        let audience = |text: &str| {
            let spec: AudienceSpec = toml::from_str(text).unwrap();
            Audience::compile("x", "creative", &spec, &["a", "b", "c"], &mut Vec::new())
        };
        for (one, other, clash) in [
            ("", "", false),
            ("any = [\"a\", \"b\"]", "none = [\"a\"]", false),
            ("any = [\"a\", \"b\"]", "none = [\"a\", \"b\", \"c\"]", true),
            ("all = [\"a\", \"b\"]", "none = [\"b\"]", true),
            ("all = [\"a\"]", "any = [\"b\"]\nnone = [\"c\"]", false),
            ("none = [\"a\"]", "none = [\"a\"]", false),
        ] {
            let (one, other) = (audience(one), audience(other));
            assert_eq!((one.clashes_with(&other), other.clashes_with(&one)), (clash, clash), "{one:?} {other:?}");
        }
    }
}
