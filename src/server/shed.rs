//! Ending a part of the connections, so that their clients look around anew and find who has joined.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections are dealt to so many parts.
pub(super) const PARTS: usize = 16;

/// When a connection ends that is to end. What it was asked before is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// At once: its client connects anew when it has something to ask.
    Now,
    /// With its next Produce or Fetch, which is not begun and not answered: its client asks where to repeat it. One whose only connection ends while it
    /// waits for nothing may just connect to the same address again (librdkafka does), and learn for minutes of nobody new.
    Asked,
}

/// Deals connections to parts, in turn. Clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts(Arc<Dealt>);

#[derive(Debug, Default)]
struct Dealt {
    connections: AtomicUsize,
    /// The part that is ended next.
    next: AtomicUsize,
    parts: Mutex<[Part; PARTS]>,
}

/// Some of the connections.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// Cancelled when they are to take no further request.
    pub(super) over: CancellationToken,
    /// Cancelled when they are to end with the next one about records.
    pub(super) over_when_asked: CancellationToken,
}

impl Parts {
    /// For a new connection.
    pub(super) fn deal(&self) -> Part {
        let part = self.0.connections.fetch_add(1, Ordering::Relaxed) % PARTS;
        self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)[part].clone()
    }

    /// Ends the connections of one part: the one whose turn it is.
    pub(super) fn end_one(&self, when: When) {
        let part = self.0.next.fetch_add(1, Ordering::Relaxed) % PARTS;
        let ended = std::mem::take(&mut self.0.parts.lock().unwrap_or_else(PoisonError::into_inner)[part]);
        match when {
            When::Now => ended.over.cancel(),
            When::Asked => ended.over_when_asked.cancel(),
        }
    }
}
