//! Connections that end in good order while the server goes on. Clients stay with the agents they know for as long as connections last; one that ends makes
//! them ask who leads what, or lets a balancer choose again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

/// Asks connections to end.
#[derive(Debug, Clone)]
pub struct Shedder {
    pub(super) open: OpenConnections,
    pub(super) tasks: Tasks,
}

impl Shedder {
    /// Asks the connections that are open now to end: they read nothing more, answer what they have taken, and close. Spread evenly over `time`. Returns how
    /// many they are.
    pub fn shed(&self, time: Duration) -> usize {
        let chosen = self.open.all();
        let count = chosen.len();
        let (stop, pause) = (self.tasks.stop_token(), time / u32::try_from(count.max(1)).unwrap_or(u32::MAX));
        self.tasks.spawn("shed connections", async move {
            for leave in chosen {
                leave.cancel();
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    return;
                }
            }
        });
        count
    }
}

/// All connections of a server, in the order in which they came.
#[derive(Debug, Clone, Default)]
pub(super) struct OpenConnections(Arc<Mutex<Register>>);

#[derive(Debug, Default)]
struct Register {
    next: u64,
    open: BTreeMap<u64, CancellationToken>,
}

/// One connection; leaves the register when dropped.
#[derive(Debug)]
pub(super) struct Registered {
    connections: OpenConnections,
    number: u64,
    /// Cancelled when the connection is asked to end.
    pub(super) leave: CancellationToken,
}

impl OpenConnections {
    fn register(&self) -> MutexGuard<'_, Register> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self) -> Registered {
        let leave = CancellationToken::new();
        let mut register = self.register();
        let number = register.next;
        register.next += 1;
        register.open.insert(number, leave.clone());
        Registered { connections: self.clone(), number, leave }
    }

    fn all(&self) -> Vec<CancellationToken> {
        self.register().open.values().cloned().collect()
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.register().open.remove(&self.number);
    }
}
