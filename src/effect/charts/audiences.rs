//! The sizes of segments and how far they overlap, in users.
//!
//! Owns a set of segments for each user of a sample: those that any decision about the user named. Limits:
//! [`SEGMENTS_MAX`] segments, the first that appear, and [`USERS_MAX`] users, of whom a random half is left out when
//! there are more.

use crate::effect::halving::Halving;
use serde::Serialize;
use std::collections::HashMap;

/// The most segments: the bits of a set.
pub(super) const SEGMENTS_MAX: usize = 64;
/// The most users, at about 20 bytes each.
pub(super) const USERS_MAX: usize = 1_000_000;

/// Segments and their overlap.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Audiences {
    /// Users with a decision.
    pub users: u64,
    /// Those who were in no segment.
    pub without: u64,
    /// One user in so many is counted.
    pub users_one_in: u64,
    /// The segments, largest first.
    pub segments: Vec<SegmentSize>,
    /// Users whose further segments are left out, because there are too many segments.
    pub left_out: u64,
    /// Every two segments, in the order of `segments`.
    pub overlaps: Vec<Overlap>,
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentSize {
    /// Its id.
    pub segment: String,
    /// Its users.
    pub users: u64,
}

/// Two segments.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overlap {
    /// The larger one.
    pub one: String,
    /// The smaller one.
    pub other: String,
    /// Users who were in both.
    pub users: u64,
}

#[derive(Debug, Default)]
pub(super) struct AudienceSums {
    names: Vec<String>,
    users: HashMap<u64, u64>,
    sample: Halving,
    left_out: u64,
}

impl AudienceSums {
    pub(super) fn add(&mut self, user: u64, segments: &[String]) {
        if !self.sample.keeps(user) {
            return;
        }
        let mut set = 0;
        for segment in segments {
            let known = self.names.iter().position(|name| name == segment);
            match known {
                Some(bit) => set |= 1 << bit,
                None if self.names.len() < SEGMENTS_MAX => {
                    set |= 1 << self.names.len();
                    self.names.push(segment.clone());
                }
                None => self.left_out += 1,
            }
        }
        *self.users.entry(user).or_default() |= set;
        while self.users.len() > USERS_MAX && self.sample.halve() {
            let sample = self.sample;
            self.users.retain(|user, _| sample.keeps(*user));
        }
    }

    pub(super) fn report(&self) -> Audiences {
        let mut pairs = vec![[0_u64; SEGMENTS_MAX]; self.names.len()];
        let mut without = 0;
        for set in self.users.values() {
            without += u64::from(*set == 0);
            let bits = |set: u64| (0..self.names.len()).filter(move |bit| set >> bit & 1 == 1);
            for one in bits(*set) {
                bits(*set).for_each(|other| pairs[one][other] += 1);
            }
        }
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by(|a, b| pairs[*b][*b].cmp(&pairs[*a][*a]).then_with(|| self.names[*a].cmp(&self.names[*b])));
        let size = |at: &usize| SegmentSize { segment: self.names[*at].clone(), users: pairs[*at][*at] };
        let overlaps = order.iter().enumerate().flat_map(|(place, one)| {
            order[place + 1..].iter().map(|other| Overlap {
                one: self.names[*one].clone(),
                other: self.names[*other].clone(),
                users: pairs[*one][*other],
            })
        });
        Audiences {
            users: self.users.len() as u64,
            without,
            users_one_in: self.sample.one_in(),
            segments: order.iter().map(size).collect(),
            left_out: self.left_out,
            overlaps: overlaps.collect(),
        }
    }
}
