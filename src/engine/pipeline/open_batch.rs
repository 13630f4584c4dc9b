//! The batch being filled, and the parts of its records that are kept until it runs.

use crate::event::{EventBatch, Record};

/// The events of a batch and the matching parts of their records.
#[derive(Debug)]
pub(super) struct OpenBatch {
    pub(super) events: EventBatch,
    /// The bytes of all payloads, including those that produced no event.
    pub(super) bytes: usize,
    pub(super) payloads: Payloads,
    /// By row: when its record was appended, or the event time if the record has no timestamp.
    pub(super) appended_ms: Vec<i64>,
}

impl OpenBatch {
    pub(super) fn new(events: EventBatch) -> Self {
        Self { events, bytes: 0, payloads: Payloads::default(), appended_ms: Vec::new() }
    }

    /// Empties it but keeps the memory.
    pub(super) fn clear(&mut self) {
        self.events.clear();
        self.payloads.clear();
        self.bytes = 0;
        self.appended_ms.clear();
    }
}

/// The payloads of the rows, kept only if late events become dead letters.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    bytes: Vec<u8>,
    /// By row: the span of its record's payload, and the record's Kafka timestamp.
    rows: Vec<(usize, usize, Option<i64>)>,
}

impl Payloads {
    /// Keeps the payload of a record for each of its rows.
    pub(super) fn push(&mut self, record: &Record<'_>, rows: usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record.payload.unwrap_or_default());
        let row = (start, self.bytes.len(), record.timestamp_ms);
        self.rows.resize(self.rows.len() + rows, row);
    }

    /// The payload that a row was read from, and the record's Kafka timestamp.
    pub(super) fn get(&self, row: usize) -> (&[u8], Option<i64>) {
        let (start, end, timestamp_ms) = self.rows[row];
        (&self.bytes[start..end], timestamp_ms)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.rows.clear();
    }
}
