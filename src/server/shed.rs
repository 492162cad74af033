//! Ending a part of the connections, so that their clients look around anew and find who has joined.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
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

/// Deals connections to parts, in turn; those that sent or asked for records apart from the rest, so that a share of the connections is that share of the
/// work, too (of librdkafka's connections every other one asks for metadata only). Clones share everything.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    working: Arc<Dealt>,
    others: Arc<Dealt>,
}

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
    /// Its connections have sent or asked for records.
    works: bool,
    /// True as soon as they are to end. Its clones are counted, too.
    is_taken: Arc<AtomicBool>,
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
        Arc::strong_count(&self.is_taken) - 1
    }
}

impl Parts {
    /// For a new connection.
    pub(super) fn deal(&self) -> Part {
        self.others.deal()
    }

    /// The connection of this part sends or asks for records, perhaps for the first time. One that is to end stays where it is.
    pub(super) fn works(&self, part: &mut Part) {
        if !part.works && !part.is_taken.load(Ordering::Acquire) {
            *part = Part { works: true, ..self.working.deal() };
        }
    }

    /// Parts that hold this share (0 to 1) of the connections there are, or a little more; they are to be ended. Who comes from now on is in none of them.
    pub(super) fn take(&self, share: f64, when: When) -> Vec<Part> {
        let mut parts = self.working.take(share, when);
        parts.append(&mut self.others.take(share, when));
        parts
    }
}

impl Dealt {
    fn deal(&self) -> Part {
        let part = self.connections.fetch_add(1, Ordering::Relaxed) % PARTS;
        self.table.lock().unwrap_or_else(PoisonError::into_inner).parts[part].clone()
    }

    fn take(&self, share: f64, when: When) -> Vec<Part> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.asked.retain(|part| part.connections() > 0);
        let wanted = (share * table.parts.iter().map(Part::connections).sum::<usize>() as f64).ceil() as usize;
        let (mut taken, mut parts) = (0, Vec::new());
        while taken < wanted && parts.len() < PARTS {
            let next = table.next % PARTS;
            let part = std::mem::take(&mut table.parts[next]);
            table.next += 1;
            part.is_taken.store(true, Ordering::Release);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of four that work and twelve that do not, a quarter is one and three.
    #[test]
    fn a_share_of_the_connections_is_that_share_of_the_work() {
        let parts = Parts::default();
        let mut connections: Vec<Part> = (0..16).map(|_| parts.deal()).collect();
        for working in &mut connections[..4] {
            parts.works(working);
            parts.works(working);
        }
        parts.take(0.25, When::Now).iter().for_each(|part| part.end(When::Now));
        let ended = |of: &[Part]| of.iter().filter(|part| part.over.is_cancelled()).count();
        assert_eq!((ended(&connections[..4]), ended(&connections[4..])), (1, 3));
    }

    #[test]
    fn who_is_to_end_does_not_escape_by_working() {
        for when in [When::Now, When::Asked] {
            let parts = Parts::default();
            let mut connection = parts.deal();
            // Their turn comes a little later.
            let taken = parts.take(1.0, when);
            parts.works(&mut connection);
            for part in taken {
                part.end(when);
            }
            assert!(connection.over.is_cancelled() || connection.over_when_asked.is_cancelled());
        }
    }
}
