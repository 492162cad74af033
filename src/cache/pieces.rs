//! Bytes in many pieces that can be cut anywhere without copying.

use bytes::Bytes;

use crate::types::ByteRange;

/// Some bytes, in pieces.
#[derive(Debug, Clone, Default)]
pub struct Pieces {
    all: Vec<Bytes>,
    /// Where each piece begins; found by halves, because a whole object has thousands.
    starts: Vec<u64>,
    len: u64,
}

/// What one piece costs beside its bytes, in memory: the handle, its start, and its share of what keeps it alive.
const PIECE_OVERHEAD: u64 = 64;
/// What one entry costs beside its pieces.
const ENTRY_OVERHEAD: u64 = 256;

impl Pieces {
    #[must_use]
    pub fn new(pieces: Vec<Bytes>) -> Pieces {
        let (mut starts, mut len) = (Vec::with_capacity(pieces.len()), 0);
        for piece in &pieces {
            starts.push(len);
            len += piece.len() as u64;
        }
        Pieces { all: pieces, starts, len }
    }

    /// Exactly the bytes of `range`, sharing memory, no empty pieces; `None` if it goes beyond the end.
    #[must_use]
    pub fn slice(&self, range: ByteRange) -> Option<Vec<Bytes>> {
        let end = range.start.checked_add(range.len).filter(|end| *end <= self.len)?;
        // The last piece that begins at or before the range.
        let first = self.starts.partition_point(|start| *start <= range.start).saturating_sub(1);
        let mut cut = Vec::new();
        for (piece, at) in self.all.iter().zip(&self.starts).skip(first) {
            if *at >= end {
                break;
            }
            let (from, to) = (range.start.max(*at), end.min(at + piece.len() as u64));
            if from < to {
                cut.push(piece.slice((from - at) as usize..(to - at) as usize));
            }
        }
        Some(cut)
    }

    /// The bytes of `range` as far as there are any.
    #[must_use]
    pub fn slice_up_to(&self, range: ByteRange) -> Vec<Bytes> {
        let start = range.start.min(self.len);
        let len = range.len.min(self.len - start);
        self.slice(ByteRange { start, len }).unwrap_or_default()
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

    /// What it costs to keep this, in bytes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.len + PIECE_OVERHEAD * self.all.len() as u64 + ENTRY_OVERHEAD
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slices_are_those_of_the_joined_bytes(
            lens in prop::collection::vec(0usize..9, 0..40),
            start in 0u64..200,
            len in 0u64..200,
        ) {
            let mut next = 0u8;
            let mut piece = |len: usize| -> Bytes {
                (0..len).map(|_| { next = next.wrapping_add(1); next }).collect::<Vec<u8>>().into()
            };
            let pieces: Vec<Bytes> = lens.into_iter().map(&mut piece).collect();
            let joined = pieces.concat();
            let cut = Pieces::new(pieces).slice(ByteRange { start, len });
            let expected = joined.get(start as usize..(start + len) as usize);
            prop_assert_eq!(cut.as_ref().map(|pieces| pieces.concat()), expected.map(<[u8]>::to_vec));
            prop_assert!(cut.into_iter().flatten().all(|piece| !piece.is_empty()));
        }
    }

    #[test]
    fn a_slice_shares_the_memory() {
        let piece = Bytes::from(vec![7; 100]);
        let cut = Pieces::new(vec![piece.clone()]).slice(ByteRange { start: 10, len: 5 }).expect("inside");
        assert_eq!(cut[0].as_ptr(), piece[10..].as_ptr());
    }
}
