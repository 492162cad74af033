//! Handing announcements of rounds to everyone who subscribed, without ever waiting for a slow one.

use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::Change;

/// Announcements a subscriber may leave unread before it is only told that there was something.
const UNREAD: usize = 256;

/// Everyone who wants to know.
#[derive(Debug, Default)]
pub(super) struct Subscribers(Mutex<Vec<Sender<Change>>>);

impl Subscribers {
    pub(super) fn subscribe(&self) -> Receiver<Change> {
        let (sender, receiver) = channel(UNREAD);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        receiver
    }

    pub(super) fn announce(&self, change: &Change) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|subscriber| tell(subscriber, change));
    }
}

/// The last free place is kept for [`Change::Unknown`]: while that one is unread, whatever follows may be dropped, since its
/// reader is going to look for everything that was committed before. False if the subscriber is gone.
fn tell(subscriber: &Sender<Change>, change: &Change) -> bool {
    let sent = match subscriber.capacity() {
        0 => return !subscriber.is_closed(),
        1 => subscriber.try_send(Change::Unknown),
        _ => subscriber.try_send(change.clone()),
    };
    sent.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_subscriber_is_told_to_look_and_a_gone_one_is_forgotten() {
        let subscribers = Subscribers::default();
        let (mut slow, gone) = (subscribers.subscribe(), subscribers.subscribe());
        drop(gone);
        for _ in 0..UNREAD + 10 {
            subscribers.announce(&Change::Heads(vec![]));
        }
        assert_eq!(subscribers.0.lock().expect("not poisoned").len(), 1);
        for _ in 1..UNREAD {
            assert!(matches!(slow.try_recv(), Ok(Change::Heads(_))));
        }
        assert!(matches!(slow.try_recv(), Ok(Change::Unknown)));
        assert!(slow.try_recv().is_err());
        subscribers.announce(&Change::Heads(vec![]));
        assert!(matches!(slow.try_recv(), Ok(Change::Heads(_))));
    }
}
