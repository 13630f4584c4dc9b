//! The inputs of cells by row: which conditions an event meets, and the values that it brings.

use super::{ROWS_WARMED, SECOND};
use crate::{
    columns::{Column, MISSING_INT, Text, Truth, Type},
    event::EventBatch,
    profile::{
        cell::{NO_TEXT, id_word},
        compile::{CompiledFeatures, Input, InputKind, text_hash},
        layout::Met,
        zone::Zones,
    },
};

/// The inputs of a batch. The buffers are reused from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    /// By row: a bit for each condition that the row meets.
    conditions: Vec<u64>,
    /// By row: the values, as float bits or as the hash of a text.
    values: Vec<u64>,
}

impl Inputs {
    /// Transposes the columns of conditions and values into rows.
    pub(super) fn gather(&mut self, compiled: &CompiledFeatures, batch: &EventBatch, rows: usize, zones: &mut Zones) {
        let Self { conditions, values } = self;
        let words = compiled.conditions.len().div_ceil(64);
        conditions.clear();
        conditions.resize(rows * words, 0);
        for (number, input) in compiled.conditions.iter().enumerate() {
            let column = batch.columns.get(input.slot).bools();
            // Few events meet the condition of a cap, so most blocks are skipped.
            for (block, truths) in column[..rows].chunks(ROWS_WARMED).enumerate() {
                if truths.contains(&Truth::True) {
                    for (row, truth) in truths.iter().enumerate() {
                        let row = block * ROWS_WARMED + row;
                        conditions[row * words + number / 64] |= u64::from(truth.holds()) << (number % 64);
                    }
                }
            }
        }
        let width = compiled.values.len();
        values.clear();
        values.resize(rows * width, f64::NAN.to_bits());
        for (number, Input { slot, ty, kind, .. }) in compiled.values.iter().enumerate() {
            let cells = values[number..].iter_mut().step_by(width);
            match batch.columns.get(*slot) {
                Column::Int(column) if *kind == InputKind::Ids => {
                    cells
                        .zip(column)
                        .filter(|(_, value)| **value != MISSING_INT)
                        .for_each(|(cell, value)| *cell = id_word(*value));
                }
                Column::String(column) if *kind == InputKind::Zones => {
                    let texts = &batch.columns.texts;
                    for (cell, text) in cells.zip(column) {
                        let hash = if text.is_missing() { None } else { zones.hash(texts.bytes(*text)) };
                        *cell = hash.unwrap_or(NO_TEXT);
                    }
                }
                Column::Double(column) => cells.zip(column).for_each(|(cell, value)| *cell = value.to_bits()),
                Column::Int(column) => {
                    // Durations and timestamps become seconds wherever they become numbers.
                    let unit = if matches!(ty, Type::Timestamp | Type::Duration) { SECOND } else { 1.0 };
                    cells
                        .zip(column)
                        .filter(|(_, value)| **value != MISSING_INT)
                        .for_each(|(cell, value)| *cell = (*value as f64 / unit).to_bits());
                }
                Column::Bool(column) => {
                    cells
                        .zip(column)
                        .filter(|(_, truth)| **truth != Truth::Missing)
                        .for_each(|(cell, truth)| *cell = f64::from(u8::from(truth.holds())).to_bits());
                }
                Column::String(column) => {
                    let texts = &batch.columns.texts;
                    let hash = |text| if Text::is_missing(text) { NO_TEXT } else { text_hash(texts.bytes(text)) };
                    cells.zip(column).for_each(|(cell, text)| *cell = hash(*text));
                }
            }
        }
    }

    /// The conditions that a row meets, and its values.
    pub(super) fn of(&self, compiled: &CompiledFeatures, row: usize) -> (Met<'_>, &[u64]) {
        let (words, width) = (compiled.conditions.len().div_ceil(64), compiled.values.len());
        (Met(&self.conditions[row * words..(row + 1) * words]), &self.values[row * width..(row + 1) * width])
    }
}
