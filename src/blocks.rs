//! The frame of files whose content nobody trusts: blocks with their length and a checksum.
//!
//! Guarantees: a block that is torn, or has a bit flipped, is noticed. Limits: a block is at most [`BLOCK_BYTES_MAX`].

use std::io::{self, Read, Write};

/// Whoever writes closes a block once it reaches this size.
pub(crate) const BLOCK_BYTES: usize = 64 << 10;

/// A block that claims to be larger is damaged: nothing that is written into one is this large.
const BLOCK_BYTES_MAX: usize = 64 << 20;

/// Why a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BlockError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] io::Error),
    /// It is damaged or cut off.
    #[error("{0}")]
    Damaged(&'static str),
}

/// Writes a block, unless it is empty, and empties it.
pub(crate) fn write(to: &mut impl Write, block: &mut Vec<u8>) -> io::Result<()> {
    if block.is_empty() {
        return Ok(());
    }
    to.write_all(&(block.len() as u32).to_le_bytes())?;
    to.write_all(&rapidhash::v3::rapidhash_v3(block).to_le_bytes())?;
    to.write_all(block)?;
    block.clear();
    Ok(())
}

/// Reads and checks the next block. Returns whether there was one.
pub(crate) fn read(from: &mut impl Read, block: &mut Vec<u8>) -> Result<bool, BlockError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match from.read(&mut length[filled..])? {
            0 if filled == 0 => return Ok(false),
            0 => return Err(BlockError::Damaged("it is cut off")),
            count => filled += count,
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > BLOCK_BYTES_MAX {
        return Err(BlockError::Damaged("a block is too long"));
    }
    let mut checksum = [0; 8];
    from.read_exact(&mut checksum)?;
    block.clear();
    if from.take(length as u64).read_to_end(block)? < length {
        return Err(BlockError::Damaged("it is cut off"));
    }
    if rapidhash::v3::rapidhash_v3(block) != u64::from_le_bytes(checksum) {
        return Err(BlockError::Damaged("a checksum differs"));
    }
    Ok(true)
}
