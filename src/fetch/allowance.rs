//! How much memory answers may hold, from reading until they are sent, over all connections.
//!
//! Consumers that read slowly, or many that lag at once, would else hold as much as they may ask for, each. Nobody is made to wait: the less
//! is left, the less a fetch gets, down to one batch, and clients ask again for the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use crate::metrics::FetchMetrics;

/// One fetch takes at most this part of what is left, so that the next ones get something too.
const PART: u64 = 4;

/// Bytes of a piece that a portion may go with. Shorter ones may be copied into the frame (`protocol::rope`), and are let go before it is sent.
pub(super) const RIDES_FROM: usize = 512;

#[derive(Debug)]
pub(super) struct Allowance {
    limit: u64,
    held: Arc<Held>,
    /// Nothing is left, as was said: it is a line when that begins and one when it ends, not one a fetch.
    used_up: AtomicBool,
}

#[derive(Debug)]
struct Held {
    bytes: AtomicU64,
    metrics: FetchMetrics,
}

/// The memory of one answer, given back on drop.
#[derive(Debug)]
pub(super) struct Portion {
    bytes: u64,
    held: Arc<Held>,
}

/// The last piece of an answer, and what is given back when it is sent.
struct Last {
    piece: Bytes,
    _portion: Portion,
}

impl AsRef<[u8]> for Last {
    fn as_ref(&self) -> &[u8] {
        &self.piece
    }
}

impl Allowance {
    pub(super) fn new(limit: u64, metrics: FetchMetrics) -> Allowance {
        Allowance { limit, held: Arc::new(Held { bytes: AtomicU64::new(0), metrics }), used_up: AtomicBool::new(false) }
    }

    /// A portion of at most `wanted` bytes; it may be none.
    pub(super) fn take(&self, wanted: u64) -> Portion {
        let mut portion = Portion { bytes: 0, held: Arc::clone(&self.held) };
        let left = self.limit.saturating_sub(self.held.bytes.load(Ordering::Relaxed));
        let share = left / PART;
        self.tell(share, wanted);
        portion.resize(wanted.min(share));
        portion
    }

    fn tell(&self, share: u64, wanted: u64) {
        if share == 0 && wanted > 0 && !self.used_up.swap(true, Ordering::Relaxed) {
            tracing::warn!(limit = self.limit, "unsent fetch responses use up their memory; each brings one batch until some are sent");
        } else if wanted > 0 && share >= wanted && self.used_up.swap(false, Ordering::Relaxed) {
            tracing::info!("fetch responses have memory again");
        }
    }
}

impl Portion {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The answer turned out to have `bytes`: less than was taken, or one batch that is larger.
    pub(super) fn resize(&mut self, bytes: u64) {
        self.held.bytes.fetch_add(bytes.wrapping_sub(self.bytes), Ordering::Relaxed);
        self.held.metrics.held(bytes.cast_signed().wrapping_sub(self.bytes.cast_signed()));
        self.bytes = bytes;
    }

    /// Goes with `last`, which has [`RIDES_FROM`] bytes or more: pieces of an answer are sent in order, and let go as they are.
    pub(super) fn ride(self, last: &mut Bytes) {
        let piece = std::mem::take(last);
        *last = Bytes::from_owner(Last { piece, _portion: self });
    }
}

impl Drop for Portion {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    fn allowance(limit: u64) -> Allowance {
        Allowance::new(limit, Metrics::new().expect("metrics").fetch.clone())
    }

    #[test]
    fn the_less_is_left_the_less_one_gets_and_nothing_is_lost() {
        let allowance = allowance(1_000);
        let portions: Vec<Portion> = (0..100).map(|_| allowance.take(200)).collect();
        let bytes: Vec<u64> = portions.iter().map(Portion::bytes).collect();
        assert_eq!(bytes[..4], [200, 200, 150, 112]);
        assert!(bytes.is_sorted_by(|a, b| a >= b) && bytes.iter().sum::<u64>() <= 1_000, "{bytes:?}");
        drop(portions);
        assert_eq!(allowance.take(10_000).bytes(), 250);
    }

    #[test]
    fn a_portion_is_held_until_the_last_piece_is_gone() {
        let allowance = allowance(1_000);
        let mut portion = allowance.take(100);
        portion.resize(900);
        let mut last = Bytes::from_static(b"abc");
        portion.ride(&mut last);
        assert_eq!(last, "abc");
        let end = last.slice(2..);
        drop(last);
        assert_eq!(allowance.take(1_000).bytes(), 25);
        drop(end);
        assert_eq!(allowance.take(1_000).bytes(), 250);
    }
}
