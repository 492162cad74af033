//! Tickets of committed batches that wait for their verdict.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Notify, oneshot};

use super::buffer::Group;
use super::{Appended, ProduceError, Wait};
use crate::partition::{BatchVerdict, ObjectVerdict};
use crate::types::ObjectId;

/// The settling end of one [`super::Ticket`].
#[derive(Debug)]
pub(super) struct Stub {
    pub(super) wait: Wait,
    pub(super) answer: oneshot::Sender<Result<Appended, ProduceError>>,
}

impl Stub {
    pub(super) fn settle(self, fate: Result<Appended, ProduceError>) {
        // Nobody listens any more when a client has gone or did not want an answer; the record is no less durable.
        let _ = self.answer.send(fate);
    }
}

/// By run, then by batch; `None` once settled.
type Stubs = Vec<Vec<Option<Stub>>>;

/// All objects of this agent that are committed, or about to be, and not fully settled.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    objects: Mutex<BTreeMap<ObjectId, Stubs>>,
    settled: Notify,
}

impl Unsettled {
    /// Before the event is committed: a verdict may come the moment after.
    pub(super) fn expect(&self, object: ObjectId, stubs: Stubs) {
        self.lock().insert(object, stubs);
    }

    /// The event is committed: whoever does not wait for the verdict is told.
    pub(super) fn durable(&self, object: ObjectId) {
        let mut objects = self.lock();
        if let Some(stubs) = objects.get_mut(&object) {
            for slot in stubs.iter_mut().flatten() {
                if let Some(stub) = slot.take_if(|stub| stub.wait == Wait::Durable) {
                    stub.settle(Ok(Appended::Durable));
                }
            }
            self.drop_if_done(&mut objects, object);
        }
    }

    /// The event will not be committed, or nobody knows.
    pub(super) fn fail(&self, object: ObjectId, error: &ProduceError) {
        let stubs = self.lock().remove(&object);
        for stub in stubs.into_iter().flatten().flatten().flatten() {
            stub.settle(Err(error.clone()));
        }
        self.settled.notify_waiters();
    }

    /// Verdicts have come; those of other agents' objects are passed over.
    pub(super) fn decide(&self, verdicts: &[(ObjectId, ObjectVerdict)]) {
        let mut objects = self.lock();
        for (object, verdict) in verdicts {
            if let Some(stubs) = objects.get_mut(object) {
                settle_decided(stubs, verdict);
                self.drop_if_done(&mut objects, *object);
            }
        }
    }

    fn drop_if_done(&self, objects: &mut BTreeMap<ObjectId, Stubs>, object: ObjectId) {
        let done = objects.get(&object).is_some_and(|stubs| stubs.iter().flatten().all(Option::is_none));
        if done {
            objects.remove(&object);
            self.settled.notify_waiters();
        }
    }

    pub(super) fn objects(&self) -> Vec<ObjectId> {
        self.lock().keys().copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Completes when nothing is unsettled.
    pub(super) async fn empty(&self) {
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            if self.is_empty() {
                return;
            }
            settled.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, Stubs>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes the tickets out of groups: what is left goes into the object.
pub(super) fn stubs_of(groups: &mut [Group<Stub>]) -> Stubs {
    groups.iter_mut().map(|group| group.tickets.drain(..).map(Some).collect()).collect()
}

fn settle_decided(stubs: &mut Stubs, verdict: &ObjectVerdict) {
    for (run, verdicts) in stubs.iter_mut().zip(&verdict.runs) {
        for (slot, verdict) in run.iter_mut().zip(verdicts) {
            let fate = match *verdict {
                BatchVerdict::Parked => continue,
                BatchVerdict::Accepted { base_offset } | BatchVerdict::Duplicate { base_offset } => Ok(Appended::At(base_offset)),
                BatchVerdict::Rejected(reason) => Err(ProduceError::Rejected(reason)),
            };
            if let Some(stub) = slot.take() {
                stub.settle(fate);
            }
        }
    }
}
