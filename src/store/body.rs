//! The bytes of an object on their way into a store: many pieces, never joined.

use bytes::Bytes;

use crate::types::ByteRange;

/// The pieces of one object, in order. Cloning shares the bytes, so every attempt of a put gets a fresh body.
#[derive(Debug, Clone, Default)]
pub struct ObjectBody {
    pieces: Vec<Bytes>,
    len: u64,
}

impl ObjectBody {
    #[must_use]
    pub fn new(pieces: Vec<Bytes>) -> Self {
        let len = pieces.iter().map(|p| p.len() as u64).sum();
        ObjectBody { pieces, len }
    }

    /// Length of all pieces together, in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
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

    /// The bytes of `range` as far as the body goes, sharing its memory; no empty pieces.
    #[must_use]
    pub fn slice(&self, range: ByteRange) -> Vec<Bytes> {
        slice(&self.pieces, range)
    }

    #[must_use]
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }
}

/// The bytes of `range` as far as `pieces` go, sharing their memory; no empty pieces.
#[must_use]
pub fn slice(pieces: &[Bytes], range: ByteRange) -> Vec<Bytes> {
    let mut cut = Vec::new();
    let (mut at, end) = (0u64, range.start.saturating_add(range.len));
    for piece in pieces {
        let (from, to) = (range.start.max(at), end.min(at + piece.len() as u64));
        if from < to {
            cut.push(piece.slice((from - at) as usize..(to - at) as usize));
        }
        at += piece.len() as u64;
        if at >= end {
            break;
        }
    }
    cut
}
