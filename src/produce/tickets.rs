//! Tickets of committed batches that wait for their verdict.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use super::buffer::Group;
use super::{Appended, ProduceError, Wait};
use crate::metrics::BufferMetrics;
use crate::partition::{BatchVerdict, ObjectVerdict};
use crate::traces::{MOST_LINKS, Place, Span};
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

/// An object on its way to its verdicts.
#[derive(Debug)]
struct Expected {
    stubs: Stubs,
    committed_at: Option<Instant>,
    /// Until the last verdict.
    span: Span,
    /// Where the trace of the flush is, if there is one.
    flush: Option<Place>,
}

impl Expected {
    /// Where a round that decides it belongs. A verdict can be here before the answer to the commit, which begins the span.
    fn place(&self) -> Option<Place> {
        self.span.place().or_else(|| self.flush.clone())
    }

    fn is_settled(&self) -> bool {
        self.stubs.iter().flatten().all(Option::is_none)
    }
}

/// All objects of this agent that are committed, or about to be, and not fully settled.
#[derive(Debug)]
pub(super) struct Unsettled {
    objects: Mutex<BTreeMap<ObjectId, Expected>>,
    /// Traced objects that are settled. A round is announced as it is committed, so its verdicts may have been looked up before the round itself tells
    /// them, and is to be traced.
    settled_traces: Mutex<VecDeque<(ObjectId, Place)>>,
    settled: Notify,
    metrics: BufferMetrics,
}

impl Unsettled {
    pub(super) fn new(metrics: BufferMetrics) -> Self {
        Unsettled { objects: Mutex::default(), settled_traces: Mutex::default(), settled: Notify::new(), metrics }
    }

    /// Before the event is committed: a verdict may come the moment after.
    pub(super) fn expect(&self, object: ObjectId, stubs: Stubs, flush: Option<Place>) {
        self.lock().insert(object, Expected { stubs, committed_at: None, span: Span::default(), flush });
    }

    /// The event is committed: whoever does not wait for the verdict is told.
    pub(super) fn durable(&self, object: ObjectId, span: Span) {
        let mut objects = self.lock();
        if let Some(expected) = objects.get_mut(&object) {
            expected.committed_at = Some(Instant::now());
            expected.span = span;
            for slot in expected.stubs.iter_mut().flatten() {
                if let Some(stub) = slot.take_if(|stub| stub.wait == Wait::Durable) {
                    stub.settle(Ok(Appended::Durable));
                }
            }
            if expected.is_settled() {
                self.remember(object, expected);
                objects.remove(&object);
                self.settled.notify_waiters();
            }
        }
    }

    /// The event will not be committed, or nobody knows.
    pub(super) fn fail(&self, object: ObjectId, error: &ProduceError) {
        let expected = self.lock().remove(&object);
        for stub in expected.into_iter().flat_map(|expected| expected.stubs).flatten().flatten() {
            stub.settle(Err(error.clone()));
        }
        self.settled.notify_waiters();
    }

    /// Verdicts have come; those of other agents' objects are passed over.
    pub(super) fn decide(&self, verdicts: &[(ObjectId, ObjectVerdict)]) {
        let mut objects = self.lock();
        for (object, verdict) in verdicts {
            let Some(expected) = objects.get_mut(object) else { continue };
            settle_decided(&mut expected.stubs, verdict);
            if expected.is_settled() {
                // A verdict can be here before the answer to the commit.
                self.metrics.numbered(expected.committed_at.map_or(Duration::ZERO, |at| at.elapsed()));
                self.remember(*object, expected);
                objects.remove(object);
                self.settled.notify_waiters();
            }
        }
    }

    fn remember(&self, object: ObjectId, expected: &Expected) {
        let Some(place) = expected.place() else { return };
        let mut settled = self.settled_traces();
        if settled.len() == MOST_LINKS {
            settled.pop_front();
        }
        settled.push_back((object, place));
    }

    /// Where the spans of those of these objects are that are traced.
    pub(super) fn traced(&self, verdicts: &[(ObjectId, ObjectVerdict)]) -> Vec<Place> {
        let (objects, settled) = (self.lock(), self.settled_traces());
        let lately = |object| settled.iter().find(|(known, _)| known == object).map(|(_, place)| place.clone());
        verdicts.iter().filter_map(|(object, _)| objects.get(object).map_or_else(|| lately(object), Expected::place)).collect()
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

    fn settled_traces(&self) -> std::sync::MutexGuard<'_, VecDeque<(ObjectId, Place)>> {
        self.settled_traces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectId, Expected>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::traces::Traces;
    use crate::types::Offset;

    #[test]
    fn a_round_that_was_quicker_than_the_answer_to_the_commit_is_traced_below_the_flush() {
        let (traces, collected) = Traces::collected();
        let unsettled = Unsettled::new(Metrics::new().expect("metrics").buffer.clone());
        let object = ObjectId([1; 16]);
        let stub = Stub { wait: Wait::Verdict, answer: oneshot::channel().0 };
        let flush = traces.request("Produce", 13).child("flush");
        unsettled.expect(object, vec![vec![Some(stub)]], flush.place());
        let accepted = BatchVerdict::Accepted { base_offset: Offset(0) };
        let verdicts = [(object, ObjectVerdict { runs: vec![vec![accepted]] })];
        unsettled.decide(&verdicts);
        traces.round(&unsettled.traced(&verdicts), Duration::ZERO, 1);
        drop(flush);
        assert_eq!(collected.above("round").expect("traced"), ["flush", "request Produce"]);
    }
}
