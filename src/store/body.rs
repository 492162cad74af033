//! The bytes of an object on their way into a store: many pieces, never joined.

use bytes::Bytes;

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

    #[must_use]
    pub fn into_pieces(self) -> Vec<Bytes> {
        self.pieces
    }
}
