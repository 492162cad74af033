//! What is learnt of a client on its connection, for its later requests.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Longer names of racks are not remembered: nobody has such.
const RACK_MAX: usize = 255;

/// One a connection; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ClientNotes(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    rack: Option<Arc<str>>,
    sent_away: Option<Instant>,
}

impl ClientNotes {
    /// The rack the client gave in its last Fetch (`client.rack`).
    #[must_use]
    pub fn rack(&self) -> Option<Arc<str>> {
        self.notes().rack.clone()
    }

    /// The client says that it is in this rack.
    pub fn told_rack(&self, rack: &str) {
        let mut notes = self.notes();
        if !rack.is_empty() && rack.len() <= RACK_MAX && notes.rack.as_deref() != Some(rack) {
            notes.rack = Some(rack.into());
        }
    }

    /// When the client was last told to read elsewhere.
    #[must_use]
    pub fn sent_away_at(&self) -> Option<Instant> {
        self.notes().sent_away
    }

    pub fn sent_away(&self, at: Instant) {
        self.notes().sent_away = Some(at);
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
