//! How a client sends: requests with a batch for each of its partitions, several in flight.

use std::time::Duration;

use tokio::time::Instant;
use yaks::oracle::history::{Outcome, Promise, RecordId};
use yaks::produce::{Appended, NewBatch, ProduceError, Ticket};
use yaks::types::Sequence;

use super::Client;
use super::lane::{Batch, Lane};
use crate::ledger::{Sent, Span};
use crate::records::{self, Record};
use crate::sights::Sight;

/// As every client's limit for idempotent producers.
const IN_FLIGHT: usize = 5;

pub(super) type Answer = Result<Result<Appended, ProduceError>, tokio::sync::oneshot::error::RecvError>;

#[derive(Debug)]
pub(super) struct Request {
    pub(super) parts: Vec<Part>,
    pub(super) deadline: Instant,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) lane: usize,
    pub(super) span: Span,
    pub(super) ticket: Ticket,
    pub(super) answer: Option<Answer>,
}

impl Client {
    pub(super) fn requests_in_flight(&self) -> usize {
        if self.promise == Promise::Sequential { 1 } else { IN_FLIGHT }
    }

    pub(super) fn send(&mut self) {
        while self.requests.len() < self.requests_in_flight() {
            let chosen: Vec<usize> = (0..self.lanes.len()).filter(|lane| self.batch_to_send(*lane).is_some()).collect();
            if chosen.is_empty() {
                return;
            }
            self.send_request(&chosen);
        }
    }

    /// The place in the lane of the batch that is to be sent next; a new one if there is room.
    fn batch_to_send(&mut self, lane: usize) -> Option<usize> {
        let now = Instant::now();
        if let Some(at) = self.lanes[lane].unacked.iter().position(|batch| !batch.in_flight) {
            return (self.lanes[lane].unacked[at].not_before <= now).then_some(at);
        }
        if self.world.is_ending() || now < self.next_batch_at || !self.has_room(&self.lanes[lane]) {
            return None;
        }
        let batch = self.new_batch(lane)?;
        let lane = &mut self.lanes[lane];
        lane.unacked.push_back(batch);
        Some(lane.unacked.len() - 1)
    }

    /// May another batch be made for this lane?
    pub(super) fn has_room(&self, lane: &Lane) -> bool {
        // A log that knows nothing of a producer takes its first batch only after waiting: what follows would be out of order.
        let warming_up = !lane.begun && self.identity.first_sequence != Sequence(0);
        lane.log.is_some() && lane.unacked.len() < if warming_up { 1 } else { self.requests_in_flight() }
    }

    fn new_batch(&mut self, lane: usize) -> Option<Batch> {
        let now = Instant::now();
        let log = self.lanes[lane].log?;
        self.next_batch_at = now + self.dice.millis(0, self.pace);
        let count = if self.dice.chance(50) { 40 } else { self.dice.between(1, 4) };
        let first = RecordId { producer: self.identity.producer, sequence: self.next_record };
        let span = Span { first, count, log };
        self.next_record += count;
        let records = self.new_records(&span);
        let sequence = self.lanes[lane].next_sequence;
        self.lanes[lane].next_sequence = sequence.plus(count as u32);
        if self.lanes[lane].next_sequence.0 < sequence.0 {
            self.world.sights.saw(Sight::SequenceWrapped, 1);
        }
        let (summary, bytes) = records::batch(&records, self.identity.stamp.map(|(id, epoch)| (id, epoch, sequence)));
        Some(Batch { span, sequence, summary, bytes, born: now, not_before: now, in_flight: false, refusals: 0 })
    }

    fn new_records(&self, span: &Span) -> Vec<Record> {
        let timestamp = 1_700_000_000_000 + self.world.clock.start.elapsed().as_millis() as i64;
        let records: Vec<Record> = span.ids().map(|id| Record::new(id, self.dice.below(100) as usize, timestamp)).collect();
        let mut ledger = self.world.ledger();
        for record in &records {
            let content = record.content();
            ledger.sent.insert(record.id, Sent { promise: self.promise, log: span.log, content, outcome: Outcome::Unknown, copies: 0 });
        }
        records
    }

    fn send_request(&mut self, lanes: &[usize]) {
        let Some(connection) = &self.connection else { return };
        let (mut batches, mut spans) = (Vec::new(), Vec::new());
        for lane in lanes {
            let Some(batch) = self.lanes[*lane].unacked.iter_mut().find(|batch| !batch.in_flight) else { continue };
            batch.in_flight = true;
            self.world.ledger().submitted(&batch.span);
            batches.push(NewBatch { log: batch.span.log, summary: batch.summary, bytes: batch.bytes.clone(), wait: self.wait });
            spans.push((*lane, batch.span, batch.sequence));
        }
        let what: Vec<_> = spans.iter().map(|(_, s, q)| format!("{}+{} (sequence {})", s.first, s.count, q.0)).collect();
        self.note(format_args!("sends {}", what.join(", ")));
        let tickets = connection.agent.rooms.producer.submit(batches);
        let parts = spans.into_iter().zip(tickets).map(|((lane, span, _), ticket)| Part { lane, span, ticket, answer: None }).collect();
        self.requests.push_back(Request { parts, deadline: Instant::now() + self.request_timeout });
    }

    /// Until an answer comes, is late, or there is something to send.
    pub(super) async fn wait(&mut self, over: &tokio_util::sync::CancellationToken) {
        let Some(dead) = self.connection.as_ref().map(|c| c.agent.dead.clone()) else { return };
        let wake = self.next_wake();
        let deadline = self.requests.front().map_or(wake + Duration::from_hours(1), |request| request.deadline);
        let mut front = self.requests.pop_front();
        let answered = tokio::select! {
            biased;
            () = over.cancelled() => false,
            () = answer(&mut front) => true,
            () = dead.cancelled() => false,
            () = tokio::time::sleep_until(deadline) => false,
            () = tokio::time::sleep_until(wake) => false,
        };
        match (front, answered) {
            (Some(request), true) => self.answered(request),
            (Some(request), false) => self.requests.push_front(request),
            (None, _) => {}
        }
        if dead.is_cancelled() {
            self.disconnect("it is gone");
        } else if self.requests.front().is_some_and(|request| request.deadline <= Instant::now()) {
            self.disconnect("no answer");
        } else if self.dice.chance(5) {
            self.disconnect("moves");
        }
    }

    fn next_wake(&self) -> Instant {
        let now = Instant::now();
        let latest = now + Duration::from_millis(500);
        if self.requests.len() >= self.requests_in_flight() {
            return latest;
        }
        let retry = self.lanes.iter().filter_map(|lane| lane.unacked.iter().find(|b| !b.in_flight)).map(|b| b.not_before).min();
        let fresh = !self.world.is_ending() && self.lanes.iter().any(|lane| self.has_room(lane));
        let fresh = if fresh { self.next_batch_at } else { latest };
        retry.unwrap_or(latest).min(fresh).clamp(now + Duration::from_millis(1), latest)
    }
}

/// Waits for every part of a request. May be dropped: what has come is kept.
pub(super) async fn answer(request: &mut Option<Request>) {
    let Some(request) = request else { return std::future::pending().await };
    for part in request.parts.iter_mut().filter(|part| part.answer.is_none()) {
        part.answer = Some((&mut part.ticket).await);
    }
}
