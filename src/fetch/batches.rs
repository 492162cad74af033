//! Walking over the batches of a segment, header by header, in bytes that come in pieces.

use bytes::Bytes;

use super::FetchError;
use crate::records::batch::{BatchHeader, HEADER_LEN};
use crate::types::{Offset, Segment};

/// A place between two batches of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Bytes from the start of the segment.
    pub position: u64,
    /// The offset that comes next there: of a batch at level 0, at least of one at higher levels.
    pub offset: Offset,
}

impl Place {
    pub(super) fn start_of(segment: &Segment) -> Place {
        Place { position: 0, offset: segment.base_offset }
    }
}

/// Bytes in pieces, taken from the front.
#[derive(Debug, Default)]
pub(super) struct Rope {
    pieces: std::vec::IntoIter<Bytes>,
    /// The piece the front is in; empty only if nothing is left.
    current: Bytes,
    start: usize,
    left: usize,
}

impl Rope {
    pub(super) fn new(pieces: Vec<Bytes>) -> Rope {
        let left = pieces.iter().map(Bytes::len).sum();
        let mut rope = Rope { pieces: pieces.into_iter(), current: Bytes::new(), start: 0, left };
        rope.settle();
        rope
    }

    /// Bytes not yet taken.
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// Moves to the next piece if the current one is used up.
    fn settle(&mut self) {
        while self.start == self.current.len() {
            let Some(next) = self.pieces.next() else { return };
            self.current = next;
            self.start = 0;
        }
    }

    /// Gives the next `len` bytes, at most what is left, piece by piece: the piece and where in it they are.
    pub(super) fn take(&mut self, mut len: usize, mut give: impl FnMut(&Bytes, usize, usize)) {
        len = len.min(self.left);
        while len > 0 {
            let end = self.current.len().min(self.start + len);
            give(&self.current, self.start, end);
            len -= end - self.start;
            self.left -= end - self.start;
            self.start = end;
            self.settle();
        }
    }

    fn skip(&mut self, len: usize) {
        self.take(len, |_, _, _| {});
    }

    /// The header of the batch at the front; `None` if it is not there as a whole.
    fn header(&self) -> Option<BatchHeader> {
        let near = self.current.get(self.start..).unwrap_or_default();
        if near.len() >= HEADER_LEN {
            return BatchHeader::read(near);
        }
        let mut joined = [0u8; HEADER_LEN];
        let far = self.pieces.as_slice().iter().flat_map(|piece| piece.iter());
        let mut filled = 0;
        for (to, from) in joined.iter_mut().zip(near.iter().chain(far)) {
            *to = *from;
            filled += 1;
        }
        BatchHeader::read(joined.get(..filled)?)
    }
}

/// One batch, seen by its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Batch {
    pub header: BatchHeader,
    /// Bytes of the whole batch.
    pub len: usize,
    /// Its real offsets, the last one inclusive.
    pub base_offset: Offset,
    pub last_offset: Offset,
}

/// What comes next in a walk.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    Batch(Batch),
    /// The bytes end within a header.
    Short,
    /// The segment ends here.
    Finished,
}

/// A walk over some bytes of one segment, which begin at a place between two batches.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    segment: &'a Segment,
    place: Place,
    rope: Rope,
}

impl<'a> Walk<'a> {
    pub(super) fn new(segment: &'a Segment, place: Place, bytes: Vec<Bytes>) -> Walk<'a> {
        Walk { segment, place, rope: Rope::new(bytes) }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// True if the batches carry their offsets (`numbered_prefix`) already.
    pub(super) fn is_numbered(&self) -> bool {
        self.segment.level > 0
    }

    /// True if all bytes of the batch in front are there.
    pub(super) fn holds(&self, batch: &Batch) -> bool {
        self.rope.len() >= batch.len
    }

    /// Looks at the batch in front, without leaving it behind.
    pub(super) fn peek(&self) -> Result<Next, FetchError> {
        if self.place.position >= self.segment.range.len {
            return if self.ends_well() { Ok(Next::Finished) } else { Err(self.corrupt("holds fewer records than it should")) };
        }
        match self.rope.header() {
            Some(header) => self.check(header).map(Next::Batch),
            None if self.rest() < HEADER_LEN as u64 => Err(self.corrupt("ends within a header")),
            None => Ok(Next::Short),
        }
    }

    /// Leaves the batch in front behind, even if not all of it is there.
    pub(super) fn skip(&mut self, batch: &Batch) {
        self.rope.skip(batch.len);
        self.advance(batch);
    }

    /// Gives the batch in front, of which all bytes must be there, piece by piece.
    pub(super) fn take(&mut self, batch: &Batch, give: impl FnMut(&Bytes, usize, usize)) {
        self.rope.take(batch.len, give);
        self.advance(batch);
    }

    fn advance(&mut self, batch: &Batch) {
        self.place = Place { position: self.place.position + batch.len as u64, offset: batch.last_offset.plus(1) };
    }

    /// Bytes from here to the end of the segment.
    fn rest(&self) -> u64 {
        self.segment.range.len - self.place.position
    }

    fn ends_well(&self) -> bool {
        let Segment { base_offset, last_offset, record_count, .. } = self.segment;
        let counted = self.segment.level > 0 || base_offset.plus(*record_count) == last_offset.plus(1);
        // Compaction may have removed the last records of a segment; what was received is complete.
        let reached =
            if self.segment.level > 0 { self.place.offset <= last_offset.plus(1) } else { self.place.offset == last_offset.plus(1) };
        counted && reached
    }

    fn check(&self, header: BatchHeader) -> Result<Batch, FetchError> {
        let fits = header.total_len().filter(|len| header.magic == 2 && *len as u64 <= self.rest());
        let len = fits.ok_or_else(|| self.corrupt("has no batch"))?;
        let delta = u32::try_from(header.last_offset_delta).map_err(|_| self.corrupt("has a batch with a negative offset delta"))?;
        let base_offset = if self.segment.level == 0 { self.place.offset } else { Offset(header.base_offset) };
        let last_offset =
            Offset(base_offset.0.checked_add(i64::from(delta)).ok_or_else(|| self.corrupt("has an offset that is too large"))?);
        if base_offset < self.place.offset || last_offset > self.segment.last_offset {
            return Err(self.corrupt("has a batch whose offsets do not belong there"));
        }
        if self.segment.level == 0 && i64::from(header.record_count) != i64::from(delta) + 1 {
            return Err(self.corrupt("has a batch that counts its records in two ways"));
        }
        Ok(Batch { header, len, base_offset, last_offset })
    }

    fn corrupt(&self, what: &str) -> FetchError {
        let Segment { log, base_offset, last_offset, object, range, .. } = self.segment;
        let at = range.start + self.place.position;
        FetchError::Corrupt(format!("object {object} {what} at byte {at}, where offsets {base_offset}..={last_offset} of {log} should be"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rope_gives_its_bytes_in_order_whatever_its_pieces() {
        for cut in 1..12 {
            let all: Vec<u8> = (0..40).collect();
            let mut pieces: Vec<Bytes> = all.chunks(cut).map(Bytes::copy_from_slice).collect();
            pieces.insert(pieces.len() / 2, Bytes::new());
            let mut rope = Rope::new(pieces);
            let mut seen = Vec::new();
            for len in [0, 7, 13, 100] {
                rope.take(len, |piece, start, end| seen.extend_from_slice(&piece[start..end]));
            }
            assert_eq!((seen, rope.len()), (all, 0));
        }
    }
}
