//! Reads gzip files with several members and zero padding.
//!
//! Tapes and some tools pad a file with zeros to a block size; `gzip` ignores them, and so does this reader. Anything else after a
//! member is an error, because it would be lost silently.

use flate2::bufread::GzDecoder;
use std::io::{self, BufRead, Read};

/// A reader of the uncompressed content of all members.
#[derive(Debug)]
pub(crate) struct Gzip<R> {
    /// `None` between members and at the end.
    member: Option<GzDecoder<R>>,
    /// The input after the last member read.
    rest: Option<R>,
    /// Whether there was a member.
    has_begun: bool,
}

impl<R: BufRead> Gzip<R> {
    /// Reads from the current position.
    pub(crate) fn new(reader: R) -> Self {
        Self { member: None, rest: Some(reader), has_begun: false }
    }

    /// Advances to the next member; false if there is none.
    fn next(&mut self) -> io::Result<bool> {
        let Some(mut rest) = self.rest.take() else { return Ok(self.member.is_some()) };
        loop {
            let buffer = rest.fill_buf()?;
            if buffer.is_empty() {
                let empty =
                    || io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty, without even a gzip header");
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
