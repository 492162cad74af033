//! A process that stands still and goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Closed while an agent's process stands still. (A watch channel would wake those who wait in an order of its own chance.)
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<GateState>);

#[derive(Debug, Default)]
struct GateState {
    shut: AtomicBool,
    opened: Notify,
}

impl Gate {
    pub(crate) fn open(&self) {
        self.0.shut.store(false, Ordering::Relaxed);
        self.0.opened.notify_waiters();
    }

    pub(crate) fn shut(&self) {
        self.0.shut.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.0.shut.load(Ordering::Relaxed)
    }

    pub(crate) async fn pass(&self) {
        while self.is_shut() {
            self.0.opened.notified().await;
        }
    }
}
