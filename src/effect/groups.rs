//! The groups of all groupings, by name.
//!
//! Owns the numbers of groups. Group 0 has everything. Limits: [`GROUPS_MAX`] groups of a grouping. What would be in
//! further ones is in the group `(other)`, so that nothing is lost from the sums.

use super::{
    EffectError,
    dimension::{Decided, Dimension},
    group::Group,
};
use rapidhash::RapidHashMap;

/// The most groups of a grouping: more are no table that a person reads.
pub(super) const GROUPS_MAX: usize = 500;

/// The group of what does not fit.
const OTHER: &str = "(other)";

/// The groups of a grouping.
#[derive(Debug)]
struct Of {
    dimension: Dimension,
    numbers: RapidHashMap<String, u32>,
}

/// All groups.
#[derive(Debug)]
pub(super) struct Groups {
    all: Vec<Group>,
    by: Vec<Of>,
}

impl Groups {
    pub(super) fn new(by: &[Dimension]) -> Result<Self, EffectError> {
        let of = |dimension: &Dimension| Of { dimension: dimension.clone(), numbers: RapidHashMap::default() };
        Ok(Self { all: vec![Group::new("all".to_owned())?], by: by.iter().map(of).collect() })
    }

    /// The numbers of the groups that a decision, or an offer in it, is in. Without `offer`, those of groupings that
    /// are not about offers.
    pub(super) fn of(&mut self, decided: &Decided<'_>, offer: Option<usize>) -> Result<Vec<u32>, EffectError> {
        let mut found = vec![0];
        let all = &mut self.all;
        let mut failed = None;
        for Of { dimension, numbers } in &mut self.by {
            dimension.visit(decided, offer, &mut |name| match number(all, numbers, name) {
                Ok(number) => {
                    // A user may be in several segments that are all in the group of the others.
                    if !found.contains(&number) {
                        found.push(number);
                    }
                }
                Err(error) => failed = Some(error),
            });
        }
        failed.map_or(Ok(found), Err)
    }

    /// Changes some groups.
    pub(super) fn each(
        &mut self,
        numbers: &[u32],
        mut change: impl FnMut(&mut Group) -> Result<(), EffectError>,
    ) -> Result<(), EffectError> {
        numbers.iter().try_for_each(|number| self.all.get_mut(*number as usize).map_or(Ok(()), &mut change))
    }

    /// The group of everything.
    pub(super) fn everything(&self) -> &Group {
        &self.all[0]
    }

    /// The groupings with their groups by name, each with its number.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Dimension, Vec<(u32, &Group)>)> {
        self.by.iter().map(|of| {
            let mut groups: Vec<(u32, &Group)> =
                of.numbers.values().map(|number| (*number, &self.all[*number as usize])).collect();
            groups.sort_by(|(_, a), (_, b)| a.name.cmp(&b.name));
            (&of.dimension, groups)
        })
    }
}

/// The number of a group, which begins with this call if it is new.
fn number(all: &mut Vec<Group>, numbers: &mut RapidHashMap<String, u32>, name: &str) -> Result<u32, EffectError> {
    if let Some(number) = numbers.get(name) {
        return Ok(*number);
    }
    let name = if numbers.len() < GROUPS_MAX { name } else { OTHER };
    if let Some(number) = numbers.get(name) {
        return Ok(*number);
    }
    let number = all.len() as u32;
    all.push(Group::new(name.to_owned())?);
    numbers.insert(name.to_owned(), number);
    Ok(number)
}
