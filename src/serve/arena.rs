//! Stores the bytes of many small records without an allocation for each.
//!
//! Records are appended to chunks of [`CHUNK_MIN`] to [`CHUNK_MAX`] bytes. A removed record leaves a gap. When the gaps
//! exceed an eighth of everything, the chunk with the most gaps is emptied: the owner of the records moves those that are
//! still needed ([`Arena::take_worst`]).
//!
//! Guarantees: besides the gaps, unused memory is at most one open chunk, which is about a 32nd of everything. Limits: a
//! record larger than a chunk has a chunk of its own; 65,536 chunks.

use prost::encoding::{decode_varint, encode_varint};

/// The smallest chunk.
const CHUNK_MIN: usize = 2 << 10;
/// The largest chunk. Offsets within a chunk have 16 bits.
const CHUNK_MAX: usize = 64 << 10;
/// The open chunk is this part of everything.
const OPEN_PART: usize = 32;
/// Gaps may be this part of everything.
const GAPS_PART: usize = 8;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    chunk: u16,
    offset: u16,
}

#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    gaps: usize,
}

/// Records by place.
#[derive(Debug, Default)]
pub(super) struct Arena {
    chunks: Vec<Chunk>,
    /// Numbers of chunks without memory.
    free: Vec<u16>,
    /// The chunk that records are appended to.
    open: Option<u16>,
    /// The capacity of all chunks, and what is written in them.
    reserved: usize,
    written: usize,
    gaps: usize,
}

/// The chunk that was emptied: its records with their places.
pub(super) struct Emptied {
    number: u16,
    bytes: Vec<u8>,
}

impl Arena {
    /// Appends a record that consists of these parts. `None` if there are too many chunks.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> Option<Place> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let mut head = Vec::with_capacity(5);
        encode_varint(length as u64, &mut head);
        let number = self.with_room(head.len() + length)?;
        let chunk = &mut self.chunks[usize::from(number)];
        // A chunk is closed once an offset in it no longer fits.
        let place = Place { chunk: number, offset: chunk.bytes.len() as u16 };
        chunk.bytes.extend_from_slice(&head);
        for part in parts {
            chunk.bytes.extend_from_slice(part);
        }
        self.written += head.len() + length;
        Some(place)
    }

    /// The record at this place.
    pub(super) fn get(&self, place: Place) -> &[u8] {
        let (head, length) = record_at(&self.chunks[usize::from(place.chunk)].bytes, place.offset.into());
        let start = usize::from(place.offset) + head;
        &self.chunks[usize::from(place.chunk)].bytes[start..start + length]
    }

    /// Removes the record at this place.
    pub(super) fn remove(&mut self, place: Place) {
        let chunk = &mut self.chunks[usize::from(place.chunk)];
        let (head, length) = record_at(&chunk.bytes, place.offset.into());
        chunk.gaps += head + length;
        self.gaps += head + length;
        if chunk.gaps == chunk.bytes.len() {
            self.release(place.chunk);
        }
    }

    /// Removes and returns the chunk with the most gaps, if there are too many gaps in all. The places of its records become
    /// invalid: append those that are still needed, and then return the chunk.
    pub(super) fn take_worst(&mut self) -> Option<Emptied> {
        if self.gaps * GAPS_PART <= self.written || self.gaps < CHUNK_MIN {
            return None;
        }
        let worst = (0..self.chunks.len()).max_by_key(|number| self.chunks[*number].gaps)? as u16;
        let bytes = self.take(worst);
        Some(Emptied { number: worst, bytes })
    }

    /// Ends what [`Self::take_worst`] began. Until then the chunk's number is not used again, so that no new place is an
    /// old one.
    pub(super) fn hand_back(&mut self, emptied: Emptied) {
        self.free.push(emptied.number);
    }

    /// The memory of all chunks.
    pub(super) fn bytes(&self) -> usize {
        let lists = self.chunks.capacity() * size_of::<Chunk>() + self.free.capacity() * size_of::<u16>();
        self.reserved + lists
    }

    /// Frees the memory of a chunk.
    fn release(&mut self, number: u16) {
        drop(self.take(number));
        self.free.push(number);
    }

    /// Removes a chunk's bytes.
    fn take(&mut self, number: u16) -> Vec<u8> {
        if self.open == Some(number) {
            self.open = None;
        }
        let Chunk { bytes, gaps } = std::mem::take(&mut self.chunks[usize::from(number)]);
        self.reserved -= bytes.capacity();
        self.written -= bytes.len();
        self.gaps -= gaps;
        bytes
    }

    /// A chunk with room for a record.
    fn with_room(&mut self, needed: usize) -> Option<u16> {
        if let Some(open) = self.open {
            let bytes = &self.chunks[usize::from(open)].bytes;
            if bytes.capacity() - bytes.len() >= needed {
                return Some(open);
            }
        }
        let size = (self.written / OPEN_PART).clamp(CHUNK_MIN, CHUNK_MAX);
        let is_large = needed > size;
        let chunk = Chunk { bytes: Vec::with_capacity(size.max(needed)), gaps: 0 };
        let capacity = chunk.bytes.capacity();
        let number = match self.free.pop() {
            Some(number) => {
                self.chunks[usize::from(number)] = chunk;
                number
            }
            None => {
                let number = u16::try_from(self.chunks.len()).ok()?;
                self.chunks.push(chunk);
                number
            }
        };
        self.reserved += capacity;
        // A large record fills its chunk, so the open one stays open.
        if !is_large {
            self.open = Some(number);
        }
        Some(number)
    }
}

impl Emptied {
    /// The records, with the places where they were.
    pub(super) fn records(&self) -> impl Iterator<Item = (Place, &[u8])> {
        let mut next = 0;
        std::iter::from_fn(move || {
            if next >= self.bytes.len() {
                return None;
            }
            let (head, length) = record_at(&self.bytes, next);
            let place = Place { chunk: self.number, offset: next as u16 };
            let record = &self.bytes[next + head..next + head + length];
            next += head + length;
            Some((place, record))
        })
    }
}

/// The bytes of a record's length, and the length.
fn record_at(bytes: &[u8], offset: usize) -> (usize, usize) {
    let mut rest = &bytes[offset..];
    let before = rest.len();
    // A place always points to a length that was written.
    let length = decode_varint(&mut rest).unwrap_or_default() as usize;
    (before - rest.len(), length)
}
