//! Ending a part of the connections in good order, so that their clients look around anew and find who has joined.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections are dealt to so many parts.
pub(super) const PARTS: usize = 16;

/// Deals connections to parts, in turn. Clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts(Arc<Dealt>);

#[derive(Debug, Default)]
struct Dealt {
    connections: AtomicUsize,
    /// The part that is ended next.
    next: AtomicUsize,
    ends: Mutex<[CancellationToken; PARTS]>,
}

impl Parts {
    /// For a new connection: cancelled when it is to take no further request.
    pub(super) fn deal(&self) -> CancellationToken {
        let part = self.0.connections.fetch_add(1, Ordering::Relaxed) % PARTS;
        self.0.ends.lock().unwrap_or_else(PoisonError::into_inner)[part].clone()
    }

    /// Ends the connections of one part: the one whose turn it is.
    pub(super) fn end_one(&self) {
        let part = self.0.next.fetch_add(1, Ordering::Relaxed) % PARTS;
        let fresh = CancellationToken::new();
        std::mem::replace(&mut self.0.ends.lock().unwrap_or_else(PoisonError::into_inner)[part], fresh).cancel();
    }
}
