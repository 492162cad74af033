//! What is learnt of a client on its connection, for its later requests.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::types::TopicPartition;

/// Longer names of racks are not remembered: nobody has such.
const RACK_MAX: usize = 255;

/// Logs that are remembered; a client that reads more of another rack is served where it is.
const SENT_AWAY_MAX: usize = 4_096;

/// One a connection; clones share it.
#[derive(Debug, Clone, Default)]
pub struct ClientNotes(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    rack: Option<Arc<str>>,
    /// When the client was told to read these elsewhere.
    sent_away: HashMap<TopicPartition, Instant>,
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

    /// Which of these logs the client is to be told to read elsewhere: not those of which it was told within `stays`. It counts as told.
    #[must_use]
    pub fn send_away(&self, logs: &[TopicPartition], now: Instant, stays: Duration) -> Vec<bool> {
        let mut notes = self.notes();
        if notes.sent_away.len() + logs.len() > SENT_AWAY_MAX {
            notes.sent_away.retain(|_, at| now.duration_since(*at) < stays);
        }
        let room = SENT_AWAY_MAX.saturating_sub(notes.sent_away.len());
        let mut told = |log: &TopicPartition| match notes.sent_away.entry(*log) {
            Entry::Occupied(at) if now.duration_since(*at.get()) < stays => false,
            Entry::Occupied(mut at) => {
                at.insert(now);
                true
            }
            Entry::Vacant(none) => {
                none.insert(now);
                true
            }
        };
        logs.iter().enumerate().map(|(at, log)| at < room && told(log)).collect()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TopicId;

    #[test]
    fn a_client_is_sent_away_now_and_then_and_never_remembered_without_bound() {
        let (notes, now, stays) = (ClientNotes::default(), Instant::now(), Duration::from_mins(1));
        let log = |partition| TopicPartition::new(TopicId([1; 16]), partition);
        assert_eq!(notes.send_away(&[log(0), log(1)], now, stays), [true, true]);
        assert_eq!(notes.send_away(&[log(1), log(2)], now + stays / 2, stays), [false, true]);
        assert_eq!(notes.send_away(&[log(0), log(2)], now + stays, stays), [true, false]);
        let many: Vec<_> = (0..5_000).map(log).collect();
        let sent = notes.send_away(&many, now + stays, stays);
        assert!(!sent[4_999] && notes.notes().sent_away.len() <= SENT_AWAY_MAX);
        assert_eq!(notes.send_away(&many[4_990..], now + stays * 3, stays), [true; 10]);
    }
}
