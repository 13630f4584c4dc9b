//! What a score means for a user: the segments that the user is in, and the campaigns that may be shown.
//!
//! Owns rules over features and scores, and how they change a user's memberships. It does not know where memberships
//! are kept, the model or the encoding of a decision. A rule that depends on a missing value does not hold. Campaigns
//! with their creatives are in [`campaign`] and [`creative`].
//!
//! - **Momentary.** A segment with neither `exit` nor `duration` only holds at events that meet its rule. It costs
//!   nothing in a profile.
//! - **Lasting.** A segment with either has members: see [`membership`].
//! - **Excluded.** A user in one of the segments that `unless` names is not in this one. A segment is decided after
//!   those it names, so an event that puts the user into one of them takes the user out of this one.
//! - **Ids** of the IAB's Audience Taxonomy 1.1 are checked against its table: see `taxonomy`.
//! - **Order.** A decision lists its segments by priority, then in the order of their declaration, and at most
//!   `targeting.segments_max` of them.

pub mod campaign;
pub mod creative;
pub mod membership;
pub mod money;
pub mod pacing;
pub mod policy;
pub mod shading;
mod spec;
mod taxonomy;

pub use membership::{Found, InSegment, LeaveReason, LeftSegment};
pub use spec::{AudienceSpec, SegmentSpec, TargetingSpec};

use crate::{
    columns::{Columns, Slot, Type},
    config_error::ConfigError,
    expression::{Program, Scope, nearest},
    profile::{Membership, MembershipName},
};
use membership::{Exit, Lasting};
use std::time::Duration;

/// The shortest membership.
const DURATION_MIN: Duration = Duration::from_secs(1);

/// The longest membership.
pub const DURATION_MAX: Duration = Duration::from_micros(Membership::LONGEST.unsigned_abs());

/// An audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id on the wire.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The taxonomy of the id, in AdCOM's numbers.
    pub segtax: u32,
    /// The column of the entry rule.
    slot: Slot,
    lasting: Option<Lasting>,
    /// The indexes of the segments that exclude it.
    unless: Vec<usize>,
}

impl Segment {
    /// Whether a membership outlives its event.
    pub fn is_lasting(&self) -> bool {
        self.lasting.is_some()
    }

    /// The index of its membership in a profile, if it is lasting.
    pub fn membership(&self) -> Option<usize> {
        self.lasting.as_ref().map(|lasting| lasting.cell)
    }
}

/// The declared segments, compiled over the fields, the features and `score`.
#[derive(Debug, Default)]
pub struct Segments {
    program: Program,
    all: Vec<Segment>,
    /// The indexes of all segments, each after those that exclude it.
    decided: Vec<usize>,
    /// The indexes of all segments by priority.
    ranked: Vec<usize>,
    /// The maximum number of segments in a decision.
    max: usize,
    /// Whether all segments are momentary, none excludes another, and a decision has room for all of them.
    is_plain: bool,
}

impl Segments {
    /// The names under which profiles keep memberships, in the declaration order of the lasting segments.
    pub fn memberships(specs: &[SegmentSpec]) -> Vec<MembershipName> {
        let mut names = Vec::new();
        for spec in specs.iter().filter(|spec| spec.is_lasting()) {
            let name = MembershipName::of(spec.segtax, &spec.id);
            // Duplicate segments are errors, which are reported with the rules.
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// Compiles the rules. Errors are added under `segment[i]` or `targeting`.
    pub fn compile(
        specs: &[SegmentSpec],
        targeting: &TargetingSpec,
        scope: &mut Scope,
        errors: &mut Vec<ConfigError>,
    ) -> Self {
        let mut segments = Self::default();
        let names = Self::memberships(specs);
        for (index, spec) in specs.iter().enumerate() {
            if specs[..index].iter().any(|other| other.id == spec.id && other.segtax == spec.segtax) {
                errors.push(ConfigError::new(
                    format!("segment[{index}].id"),
                    format!("segment {:?} is declared twice", spec.id),
                ));
            }
            check_duration(index, spec, errors);
            let mut rule = |key: &str, rule: &str| match segments.program.add(scope, rule, Some(Type::Bool)) {
                Ok(slot) => Some(slot),
                Err(error) => {
                    errors.push(error.config_error(format!("segment[{index}].{key}")));
                    None
                }
            };
            let slot = rule("where", &spec.filter);
            let exit = spec.exit.as_deref().map(|exit| rule("exit", exit));
            let name = MembershipName::of(spec.segtax, &spec.id);
            let lasting = names.iter().position(|it| *it == name).map(|cell| Lasting {
                cell,
                exit: exit.flatten().map_or(Exit::EntryFails, Exit::Rule),
                duration: spec.duration.map_or(Membership::LONGEST, |it| it.as_micros() as i64),
            });
            segments.all.push(Segment {
                id: spec.id.clone(),
                name: spec.name.clone().unwrap_or_else(|| spec.id.clone()),
                segtax: spec.segtax,
                // A rule that does not compile is an error, so nobody reads its column.
                slot: slot.unwrap_or_else(|| scope.reserve(Type::Bool)),
                lasting,
                unless: excluding(specs, index, errors),
            });
        }
        taxonomy::check(specs, targeting, errors);
        segments.decided = in_order(&segments.all, errors);
        segments.ranked = (0..specs.len()).collect();
        segments.ranked.sort_by_key(|number| std::cmp::Reverse(specs[*number].priority));
        segments.max = targeting.segments_max.map_or(usize::MAX, |max| max as usize);
        if segments.max == 0 {
            errors.push(
                ConfigError::new("targeting.segments_max", "0 leaves every decision without a segment")
                    .hint("set at least 1, or leave it out"),
            );
        }
        segments.is_plain = segments.max >= segments.all.len()
            && segments.all.iter().all(|it| it.lasting.is_none() && it.unless.is_empty());
        segments
    }

    /// The columns that the rules read.
    pub fn reads(&self) -> impl Iterator<Item = Slot> + '_ {
        self.program.reads()
    }

    /// The segments in declaration order.
    pub fn all(&self) -> &[Segment] {
        &self.all
    }

    /// Evaluates the rules for all rows.
    pub fn run(&self, columns: &mut Columns, rows: usize) {
        self.program.run(columns, rows);
    }
}

/// Checks the duration of memberships.
fn check_duration(index: usize, spec: &SegmentSpec, errors: &mut Vec<ConfigError>) {
    if let Some(duration) = spec.duration
        && !(DURATION_MIN..=DURATION_MAX).contains(&duration)
    {
        let message = format!("a membership lasts 1s to 540d, not {}", crate::duration::display(duration));
        errors.push(ConfigError::new(format!("segment[{index}].duration"), message));
    }
}

/// The indexes of the segments that `unless` names.
fn excluding(specs: &[SegmentSpec], index: usize, errors: &mut Vec<ConfigError>) -> Vec<usize> {
    let mut numbers = Vec::new();
    for (place, id) in specs[index].unless.iter().enumerate() {
        let before = numbers.len();
        numbers.extend(specs.iter().enumerate().filter(|(_, other)| other.id == *id).map(|(number, _)| number));
        if numbers.len() == before {
            let fault =
                ConfigError::new(format!("segment[{index}].unless[{place}]"), format!("there is no segment {id:?}"));
            errors.push(match nearest(id, specs.iter().map(|other| other.id.as_str())) {
                Some(near) => fault.hint(format!("did you mean {near:?}?")),
                None => fault,
            });
        }
    }
    numbers
}

/// The indexes of all segments, each after those that exclude it. A circle is reported as an error.
fn in_order(segments: &[Segment], errors: &mut Vec<ConfigError>) -> Vec<usize> {
    let mut order: Vec<usize> = Vec::with_capacity(segments.len());
    let mut is_placed = vec![false; segments.len()];
    loop {
        let before = order.len();
        for (number, segment) in segments.iter().enumerate() {
            if !is_placed[number] && segment.unless.iter().all(|other| is_placed[*other]) {
                is_placed[number] = true;
                order.push(number);
            }
        }
        if order.len() == before {
            break;
        }
    }
    let is_left = |number: &usize| !is_placed[*number];
    // The remaining segments are in a circle or excluded by one that is. Following any of them leads into a circle.
    if let Some(first) = (0..segments.len()).find(is_left) {
        let next = |number: usize| segments[number].unless.iter().copied().find(is_left);
        let mut path = vec![first];
        while let Some(other) = path.last().and_then(|last| next(*last)) {
            if let Some(start) = path.iter().position(|known| *known == other) {
                path.push(other);
                let names: Vec<&str> = path[start..].iter().map(|number| segments[*number].id.as_str()).collect();
                let circle = format!("segments exclude each other in a circle: {}", names.join(" unless "));
                errors.push(
                    ConfigError::new(format!("segment[{}].unless", path[start]), circle)
                        .hint("leave out one of them: which segment holds would depend on itself"),
                );
                break;
            }
            path.push(other);
        }
    }
    order
}

#[cfg(test)]
mod tests;
