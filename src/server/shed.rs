//! Ending a part of the connections, so that their clients look around anew and find who has joined.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

/// Connections are dealt to so many parts.
const PARTS: usize = 16;

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
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    parts: [Part; PARTS],
    /// The part that is ended next.
    next: usize,
    /// Those that were to end when asked. Some never are: they end with the next that end now.
    asked: Vec<Part>,
}

/// Some of the connections; each holds a clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Part {
    /// Cancelled when they are to take no further request.
    pub(super) over: CancellationToken,
    /// Cancelled when they are to end with the next one about records.
    pub(super) over_when_asked: CancellationToken,
    /// Its clones are counted, and nothing else is in it.
    count: Arc<()>,
}

impl Part {
    pub(super) fn end(&self, when: When) {
        match when {
            When::Now => self.over.cancel(),
            When::Asked => self.over_when_asked.cancel(),
        }
    }

    /// How many connections hold the part of a table.
    fn connections(&self) -> usize {
        Arc::strong_count(&self.count) - 1
    }
}

impl Parts {
    /// For a new connection.
    pub(super) fn deal(&self) -> Part {
        let part = self.0.connections.fetch_add(1, Ordering::Relaxed) % PARTS;
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner).parts[part].clone()
    }

    /// Parts that hold this share (0 to 1) of the connections there are, or a little more; they are to be ended. Who comes from now on is in none of them.
    pub(super) fn take(&self, share: f64, when: When) -> Vec<Part> {
        let mut table = self.0.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.asked.retain(|part| part.connections() > 0);
        let wanted = (share * table.parts.iter().map(Part::connections).sum::<usize>() as f64).ceil() as usize;
        let (mut taken, mut parts) = (0, Vec::new());
        while taken < wanted && parts.len() < PARTS {
            let next = table.next % PARTS;
            let part = std::mem::take(&mut table.parts[next]);
            table.next += 1;
            taken += part.connections();
            parts.push(part);
        }
        match when {
            When::Now => parts.append(&mut table.asked),
            When::Asked => table.asked.extend(parts.iter().cloned()),
        }
        parts
    }
}
