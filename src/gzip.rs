//! Gzip files: members one after another, and zeros behind them.
//!
//! Tapes and some tools fill a file up to a block with zeros; `gzip` passes over them, and so does this. Anything else behind
//! a member is an error, because what it was would be lost without a word.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// Reads what the members of a gzip file hold.
#[derive(Debug)]
pub(crate) struct Gzip<R> {
    /// Absent while the next member is looked for, and at the end.
    member: Option<GzDecoder<R>>,
    /// What is behind the last member that was read.
    rest: Option<R>,
    /// Whether there was a member.
    has_begun: bool,
}

impl<R: BufRead> Gzip<R> {
    /// Reads from here on.
    pub(crate) fn new(reader: R) -> Self {
        Self { member: None, rest: Some(reader), has_begun: false }
    }

    /// Goes to the next member; says no where there is none.
    fn next(&mut self) -> io::Result<bool> {
        let Some(mut rest) = self.rest.take() else { return Ok(self.member.is_some()) };
        loop {
            let buffer = rest.fill_buf()?;
            if buffer.is_empty() {
                let empty =
                    || io::Error::new(io::ErrorKind::UnexpectedEof, "there is nothing in it, not even gzip's header");
                return if self.has_begun { Ok(false) } else { Err(empty()) };
            }
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            if zeros == 0 {
                break;
            }
            rest.consume(zeros);
        }
        self.has_begun = true;
        self.member = Some(GzDecoder::new(rest));
        Ok(true)
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() {
            return Ok(0);
        }
        while self.next()? {
            let Some(member) = &mut self.member else { break };
            let count = member.read(to)?;
            if count > 0 {
                return Ok(count);
            }
            self.rest = self.member.take().map(GzDecoder::into_inner);
        }
        Ok(0)
    }
}
