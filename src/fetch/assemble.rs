//! From the bytes of segments to the record set of one log: whole batches, numbered, copied as little as possible.
//!
//! What a broker changes in a batch is its first 16 bytes (base offset and leader epoch, which lie outside the CRC). Those are written
//! anew into small buffers; the rest of a batch is a slice of what the store gave. A batch below [`COPY_BELOW`] is copied
//! as a whole instead: two more pieces in the answer cost more than a short copy. Batches that compaction has numbered already are
//! passed on as they are.

use bytes::{Buf as _, Bytes};

use super::FetchError;
use super::batches::{Batch, Next, Place, Walk};
use crate::records::batch::{PREFIX_LEN, numbered_prefix};
use crate::types::{Offset, Segment};

/// Batches shorter than this many bytes are copied (measured: see docs/PERFORMANCE.md).
const COPY_BELOW: usize = 1024;
/// Buffers for headers and copies begin with the first size and double up to the second.
const FIRST_BUFFER: usize = 512;
const LARGEST_BUFFER: usize = 64 * 1024;

/// Where an assembly stands after the bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The segment was read to its end: the next one may follow.
    Finished,
    /// The bytes end before the header of the next batch, at `place`, could be seen.
    Short { place: Place },
    /// The next batch is wanted, but its `need` bytes are more than the limit allows or than were given.
    Full { place: Place, need: u64 },
    /// Nothing from here on may be shown.
    Ended,
}

/// Which batches of a log are wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The first batch returned holds this offset or begins after it.
    pub from: Offset,
    /// No batch that begins at this offset or after it is returned.
    pub until: Offset,
    /// Bytes returned at most.
    pub limit: u64,
}

/// The record set of one log, while it grows.
#[derive(Debug)]
pub(super) struct Assembly {
    wanted: Wanted,
    len: u64,
    records: u64,
    out: Pieces,
}

impl Assembly {
    pub(super) fn new(wanted: Wanted) -> Assembly {
        Assembly { wanted, len: 0, records: 0, out: Pieces::default() }
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Records so far.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Raises the limit.
    pub(super) fn allow(&mut self, limit: u64) {
        self.wanted.limit = self.wanted.limit.max(limit);
    }

    /// Adds the batches in `bytes`, which are those of `segment` from `place` on, perhaps not to its end.
    ///
    /// # Errors
    /// [`FetchError::Corrupt`] if the bytes are not the batches that the segment says; what was added before stays.
    pub(super) fn add(&mut self, segment: &Segment, place: Place, bytes: Vec<Bytes>) -> Result<Step, FetchError> {
        let mut walk = Walk::new(segment, place, bytes);
        loop {
            let batch = match walk.peek()? {
                Next::Batch(batch) => batch,
                Next::Short => return Ok(Step::Short { place: walk.place() }),
                Next::Finished => return Ok(Step::Finished),
            };
            if batch.base_offset >= self.wanted.until {
                return Ok(Step::Ended);
            }
            if batch.last_offset < self.wanted.from {
                walk.skip(&batch);
            } else if self.len + batch.len as u64 > self.wanted.limit || !walk.holds(&batch) {
                return Ok(Step::Full { place: walk.place(), need: batch.len as u64 });
            } else {
                self.take(&mut walk, &batch);
            }
        }
    }

    fn take(&mut self, walk: &mut Walk<'_>, batch: &Batch) {
        self.len += batch.len as u64;
        self.records += u64::from(batch.header.record_count.unsigned_abs());
        if walk.is_numbered() {
            walk.take(batch, |piece, start, end| self.out.share(piece, start, end));
        } else {
            self.take_numbering(walk, batch);
        }
    }

    /// Takes a batch as it was received and gives it its number.
    fn take_numbering(&mut self, walk: &mut Walk<'_>, batch: &Batch) {
        let mut prefix = &numbered_prefix(&batch.header, batch.base_offset)[..];
        let copy = batch.len < COPY_BELOW;
        self.out.reserve(if copy { batch.len } else { PREFIX_LEN });
        self.out.copy(prefix);
        walk.take(batch, |piece, start, end| {
            // The first 16 bytes of the batch, which may straddle pieces, were replaced.
            let replaced = prefix.len().min(end - start);
            prefix.advance(replaced);
            if copy {
                self.out.copy(&piece[start + replaced..end]);
            } else {
                self.out.share(piece, start + replaced, end);
            }
        });
    }

    /// The record set, in pieces that are sent one after the other.
    pub(super) fn finish(self) -> Vec<Bytes> {
        self.out.finish()
    }
}

/// A piece of the answer.
#[derive(Debug)]
enum Piece {
    /// A part of the open buffer.
    Copied {
        start: usize,
        end: usize,
    },
    Shared {
        whole: Bytes,
        start: usize,
        end: usize,
    },
}

/// The pieces of an answer. What is copied one after the other becomes one piece, and so does what lies next to each other already.
#[derive(Debug, Default)]
struct Pieces {
    done: Vec<Bytes>,
    /// What follows `done`; begins with the first piece that lies in the open buffer.
    open: Vec<Piece>,
    buffer: Vec<u8>,
}

impl Pieces {
    /// Makes room for `len` bytes in one buffer, closing the open one if it is too full.
    fn reserve(&mut self, len: usize) {
        if self.buffer.capacity() - self.buffer.len() < len {
            let size = (self.buffer.capacity() * 2).clamp(FIRST_BUFFER, LARGEST_BUFFER).max(len);
            self.close_buffer();
            self.buffer = Vec::with_capacity(size);
        }
    }

    fn copy(&mut self, bytes: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(bytes);
        let len = self.buffer.len();
        match self.open.last_mut() {
            Some(Piece::Copied { end, .. }) => *end = len,
            Some(Piece::Shared { .. }) | None => self.open.push(Piece::Copied { start, end: len }),
        }
    }

    fn share(&mut self, whole: &Bytes, from: usize, to: usize) {
        match self.open.last_mut() {
            Some(Piece::Shared { whole: last, end, .. }) if *end == from && same(last, whole) => *end = to,
            Some(Piece::Shared { .. } | Piece::Copied { .. }) | None if from < to => {
                self.open.push(Piece::Shared { whole: whole.clone(), start: from, end: to });
            }
            Some(Piece::Shared { .. } | Piece::Copied { .. }) | None => {}
        }
    }

    fn close_buffer(&mut self) {
        let buffer = Bytes::from(std::mem::take(&mut self.buffer));
        self.done.extend(self.open.drain(..).map(|piece| match piece {
            Piece::Copied { start, end } => buffer.slice(start..end),
            Piece::Shared { mut whole, start, end } => {
                whole.truncate(end);
                whole.advance(start);
                whole
            }
        }));
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.close_buffer();
        self.done
    }
}

/// True if both are the same bytes of memory.
fn same(a: &Bytes, b: &Bytes) -> bool {
    std::ptr::eq(&raw const **a, &raw const **b)
}

#[cfg(test)]
#[path = "assemble_tests.rs"]
mod tests;
