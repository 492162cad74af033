//! A frame to be sent, in pieces: small parts are written into a buffer of its own, large ones are passed on as they are.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

/// Pieces shorter than this are copied into their neighbour: a piece of its own would cost more in the system call.
const COPY_BELOW: usize = 256;

/// Bytes to be sent one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rope {
    pieces: Vec<Bytes>,
    len: usize,
}

impl Rope {
    /// Bytes in all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        &self.pieces
    }

    /// Hands the pieces over to the end of a queue.
    pub fn drain_into(self, queue: &mut VecDeque<Bytes>) {
        queue.extend(self.pieces);
    }

    /// All bytes in one piece: a copy, for tests and small answers.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.pieces.iter().flatten().copied().collect()
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Self {
        Rope { len: bytes.len(), pieces: vec![bytes] }
    }
}

/// Builds the frame of one answer.
#[derive(Debug)]
pub(super) struct RopeBuilder {
    /// What was written since the last spliced piece.
    open: BytesMut,
    pieces: Vec<Bytes>,
    len: usize,
}

impl RopeBuilder {
    /// `capacity`: how many bytes will be written, spliced pieces aside.
    pub(super) fn with_capacity(capacity: usize) -> Self {
        RopeBuilder { open: BytesMut::with_capacity(capacity), pieces: Vec::new(), len: 0 }
    }

    /// Where to write small parts.
    pub(super) fn out(&mut self) -> &mut BytesMut {
        &mut self.open
    }

    /// Adds bytes without copying them.
    pub(super) fn splice(&mut self, piece: Bytes) {
        if piece.len() < COPY_BELOW {
            self.open.put_slice(&piece);
            return;
        }
        self.close_piece();
        self.len += piece.len();
        self.pieces.push(piece);
    }

    fn close_piece(&mut self) {
        if !self.open.is_empty() {
            let piece = self.open.split().freeze();
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }

    /// The frame: its length, then all that was added.
    pub(super) fn finish(mut self) -> Rope {
        self.close_piece();
        let prefix = Bytes::copy_from_slice(&(self.len as u32).to_be_bytes());
        let len = self.len + prefix.len();
        self.pieces.insert(0, prefix);
        Rope { pieces: self.pieces, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_are_passed_on_and_small_ones_joined() {
        let large = Bytes::from(vec![7; 1_000]);
        let mut rope = RopeBuilder::with_capacity(16);
        rope.out().put_slice(b"ab");
        rope.splice(Bytes::from_static(b"cd"));
        rope.splice(large.clone());
        rope.out().put_u8(b'e');
        let rope = rope.finish();
        assert_eq!(rope.pieces().iter().map(Bytes::len).collect::<Vec<_>>(), [4, 4, 1_000, 1]);
        assert_eq!(rope.pieces()[2].as_ptr(), large.as_ptr(), "not copied");
        assert_eq!(&rope.to_bytes()[..8], b"\0\0\x03\xedabcd");
        assert_eq!(rope.len(), rope.to_bytes().len());
    }
}
