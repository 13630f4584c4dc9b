//! What a score means for a user: the segments that the user is in.
//!
//! Owns rules over features and scores. It does not know users' state, the model or the encoding of a decision. A rule
//! that depends on a missing value does not hold.

pub mod campaign;
mod money;
mod spec;

pub use money::{Cpm, Currency, Micros, MoneyError};
pub use spec::SegmentSpec;

use crate::{
    columns::{Columns, Slot, Type},
    expression::{Program, Scope},
    fault::Fault,
};

/// An audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its id on the wire.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// The taxonomy of the id, in AdCOM's numbers.
    pub segtax: u32,
    slot: Slot,
}

/// The declared segments, compiled over the fields, the features and `score`.
#[derive(Debug, Default)]
pub struct Segments {
    program: Program,
    segments: Vec<Segment>,
}

impl Segments {
    /// Compiles the rules. Faults are added under `segment[i]`.
    pub fn compile(specs: &[SegmentSpec], scope: &mut Scope, faults: &mut Vec<Fault>) -> Self {
        let mut segments = Self::default();
        for (index, spec) in specs.iter().enumerate() {
            if segments.segments.iter().any(|other| other.id == spec.id && other.segtax == spec.segtax) {
                faults.push(Fault::new(
                    format!("segment[{index}].id"),
                    format!("segment {:?} is declared twice", spec.id),
                ));
            }
            match segments.program.add(scope, &spec.filter, Some(Type::Bool)) {
                Ok(slot) => segments.segments.push(Segment {
                    id: spec.id.clone(),
                    name: spec.name.clone().unwrap_or_else(|| spec.id.clone()),
                    segtax: spec.segtax,
                    slot,
                }),
                Err(error) => faults.push(error.fault(format!("segment[{index}].where"))),
            }
        }
        segments
    }

    /// The columns that the rules read.
    pub fn reads(&self) -> impl Iterator<Item = Slot> + '_ {
        self.program.reads()
    }

    /// The segments in declaration order.
    pub fn all(&self) -> &[Segment] {
        &self.segments
    }

    /// Evaluates the rules for all rows.
    pub fn run(&self, columns: &mut Columns, rows: usize) {
        self.program.run(columns, rows);
    }

    /// The indexes of the segments that a row is in, after [`Segments::run`].
    pub fn of<'a>(&'a self, columns: &'a Columns, row: usize) -> impl Iterator<Item = usize> + Clone + 'a {
        let holds = move |segment: &Segment| columns.get(segment.slot).bools()[row].holds();
        self.segments.iter().enumerate().filter(move |(_, segment)| holds(segment)).map(|(index, _)| index)
    }
}
