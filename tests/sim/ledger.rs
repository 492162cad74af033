//! The book of everything that was sent, told and seen.

use std::collections::BTreeMap;
use std::sync::Arc;

use yaks::oracle::history::{Content, Observed, Outcome, Promise, RecordId};
use yaks::produce::{Appended, Ticket};
use yaks::types::{Offset, TopicPartition};

use crate::agent::Agent;

/// One record that was handed to a producer.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) promise: Promise,
    pub(crate) log: TopicPartition,
    pub(crate) content: Content,
    pub(crate) outcome: Outcome,
    /// How often it was submitted to any agent.
    pub(crate) copies: u64,
}

/// Consecutive records that travel together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) first: RecordId,
    pub(crate) count: u64,
    pub(crate) log: TopicPartition,
}

impl Span {
    pub(crate) fn ids(&self) -> impl Iterator<Item = RecordId> + use<> {
        let RecordId { producer, sequence } = self.first;
        (sequence..sequence + self.count).map(move |sequence| RecordId { producer, sequence })
    }
}

/// A ticket whose client has gone away.
#[derive(Debug)]
pub(crate) struct Leftover {
    pub(crate) agent: Arc<Agent>,
    pub(crate) ticket: Ticket,
    pub(crate) span: Span,
}

#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) sent: BTreeMap<RecordId, Sent>,
    /// Every offset that any ticket ever named.
    pub(crate) told: Vec<(Span, Offset)>,
    pub(crate) leftovers: Vec<Leftover>,
    /// What readers saw, the first to see it; all others must see the same.
    pub(crate) seen: BTreeMap<(TopicPartition, Offset), Observed>,
    producers: u32,
}

impl Ledger {
    /// A producer's number that nobody else has.
    pub(crate) fn new_producer(&mut self) -> u32 {
        self.producers += 1;
        self.producers
    }

    pub(crate) fn submitted(&mut self, span: &Span) {
        for id in span.ids() {
            if let Some(sent) = self.sent.get_mut(&id) {
                sent.copies += 1;
            }
        }
    }

    /// A ticket said that the records are in.
    pub(crate) fn appended(&mut self, span: &Span, appended: Appended) {
        match appended {
            Appended::At(offset) => {
                self.told.push((*span, offset));
                self.acknowledged(span, Some(offset));
            }
            Appended::Durable => self.acknowledged(span, None),
        }
    }

    /// Without an offset where the log has forgotten it.
    pub(crate) fn acknowledged(&mut self, span: &Span, base: Option<Offset>) {
        for (delta, id) in (0..).zip(span.ids()) {
            if let Some(sent) = self.sent.get_mut(&id) {
                sent.outcome = Outcome::Acked { partition: span.log.partition, offset: base.map(|base| base.plus(delta)) };
            }
        }
    }

    /// A ticket said so when its client had gone: what was promised holds all the same.
    pub(crate) fn unheard(&mut self, span: &Span, appended: Appended) {
        match appended {
            Appended::At(offset) => self.told.push((*span, offset)),
            Appended::Durable => {
                let unknown = span.ids().all(|id| self.sent.get(&id).is_some_and(|sent| sent.outcome == Outcome::Unknown));
                if unknown {
                    self.acknowledged(span, None);
                }
            }
        }
    }

    /// What was seen there before, if it was something else.
    pub(crate) fn saw(&mut self, log: TopicPartition, record: &Observed) -> Option<Observed> {
        let before = *self.seen.entry((log, record.offset)).or_insert(*record);
        (before != *record).then_some(before)
    }
}
