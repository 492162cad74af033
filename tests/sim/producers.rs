//! Clients that produce: idempotent ones as the Java client does it, plain ones with one or several requests in flight.
//!
//! A connection is an ordered stream of submits to one agent. When the agent dies or an answer is late, the client goes to another one and sends
//! everything that is not acknowledged again, in order, with the same sequences.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep_until};
use yaks::metastore::{Log as _, TopicQuery, Topics as _};
use yaks::oracle::history::{Outcome, Promise, RecordId};
use yaks::partition::RejectReason;
use yaks::produce::{Appended, NewBatch, ProduceError, Ticket, Wait};
use yaks::types::{BatchSummary, Offset, Sequence, TopicName, TopicPartition};

use crate::agent::Agent;
use crate::ledger::{Leftover, Sent, Span};
use crate::records::{self, Record};
use crate::world::{Dice, World};

/// As every client's limit for idempotent producers.
const IN_FLIGHT: usize = 5;
/// Tries of a batch that is the next one and is refused as out of order, before the producer gives up on its id.
const REFUSALS: u32 = 3;

#[derive(Debug)]
pub(crate) struct Client {
    world: Arc<World>,
    dice: Dice,
    name: String,
    promise: Promise,
    wait: Wait,
    /// Milliseconds between batches, at most.
    pace: u64,
    request_timeout: Duration,
    delivery_timeout: Duration,
    identity: Identity,
    lanes: Vec<Lane>,
    connection: Option<Connection>,
    requests: VecDeque<Request>,
    next_record: u64,
    next_batch_at: Instant,
    look_at: Instant,
}

/// Who the client says it is.
#[derive(Debug, Clone, Copy)]
struct Identity {
    /// In the history. A new one promises nothing about what its predecessor left behind.
    producer: u32,
    /// Producer id and epoch, once they are known.
    stamp: Option<(i64, i16)>,
    first_sequence: Sequence,
}

/// One partition the client writes to.
#[derive(Debug)]
struct Lane {
    topic: TopicName,
    partition: i32,
    log: Option<TopicPartition>,
    next_sequence: Sequence,
    /// Its first batch was acknowledged: from now on no sequence can be out of order for good.
    begun: bool,
    unacked: VecDeque<Batch>,
}

#[derive(Debug)]
struct Batch {
    span: Span,
    sequence: Sequence,
    summary: BatchSummary,
    bytes: bytes::Bytes,
    born: Instant,
    not_before: Instant,
    in_flight: bool,
    refusals: u32,
}

#[derive(Debug)]
struct Connection {
    agent: Arc<Agent>,
    /// The last offset acknowledged in each log: what is sent later must lie behind it.
    newest: BTreeMap<TopicPartition, Offset>,
}

type Answer = Result<Result<Appended, ProduceError>, tokio::sync::oneshot::error::RecvError>;

#[derive(Debug)]
struct Request {
    parts: Vec<Part>,
    deadline: Instant,
}

#[derive(Debug)]
struct Part {
    lane: usize,
    span: Span,
    ticket: Ticket,
    answer: Option<Answer>,
}

/// What an answer makes the client do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    GoOn,
    Reconnect,
    /// The topic is not what it was.
    LookAgain,
    /// Give up on everything unacknowledged and begin anew.
    StartOver,
}

impl Client {
    pub(crate) fn new(world: &Arc<World>, number: u64, promise: Promise) -> Client {
        let dice = world.dice_of(500 + number, world.clock);
        let lanes = lanes(world, &dice);
        let deferred = promise != Promise::Idempotent && dice.chance(400);
        let now = Instant::now();
        let mut client = Client {
            name: format!("producer {number} ({promise:?})"),
            promise,
            wait: if deferred { Wait::Durable } else { Wait::Verdict },
            pace: *dice.pick(&[5, 50, 50, 300]),
            request_timeout: Duration::from_millis(*dice.pick(&[300, 2_000, 5_000, 30_000])),
            delivery_timeout: Duration::from_secs(*dice.pick(&[10, 120])),
            identity: Identity { producer: 0, stamp: None, first_sequence: Sequence(0) },
            lanes,
            connection: None,
            requests: VecDeque::new(),
            next_record: 0,
            next_batch_at: now,
            look_at: now,
            world: Arc::clone(world),
            dice,
        };
        client.new_identity();
        client
    }

    /// Until everything is acknowledged after the world began to end.
    pub(crate) async fn run(mut self) {
        let over = self.world.over.clone();
        while !over.is_cancelled() && !self.is_done() {
            self.give_up_on_old();
            if self.connection.is_none() && !self.connect() {
                tokio::time::sleep(self.dice.millis(10, 200)).await;
                continue;
            }
            if !self.prepare().await {
                continue;
            }
            self.send();
            self.wait(&over).await;
        }
        let stuck: Vec<_> = self.lanes.iter().filter(|lane| !lane.unacked.is_empty()).map(Lane::describe).collect();
        if !stuck.is_empty() {
            self.world.broken(format!("{}: not done: {}", self.name, stuck.join("; ")));
        }
        self.disconnect("is done");
    }

    fn is_done(&self) -> bool {
        self.world.is_ending() && self.lanes.iter().all(|lane| lane.unacked.is_empty())
    }

    fn note(&self, what: impl std::fmt::Display) {
        self.world.trace.note(&self.name, what);
    }

    fn connect(&mut self) -> bool {
        let agents = self.world.live_agents();
        if agents.is_empty() {
            return false;
        }
        let agent = Arc::clone(self.dice.pick(&agents));
        self.note(format_args!("connects to {}", agent.name));
        self.connection = Some(Connection { agent, newest: BTreeMap::new() });
        true
    }

    /// Knows its topics and has a producer id; false if it has to try again.
    async fn prepare(&mut self) -> bool {
        if self.look_at <= Instant::now() && !self.look_for_topics().await {
            return false;
        }
        if self.promise != Promise::Idempotent || self.identity.stamp.is_some() {
            return true;
        }
        let Some(agent) = self.connection.as_ref().map(|c| Arc::clone(&c.agent)) else { return false };
        match call(&agent, agent.link.reserve_producer_ids(1)).await {
            Some(Ok(id)) => {
                self.note(format_args!("has producer id {}", id.0));
                self.identity.stamp = Some((id.0, 0));
                true
            }
            Some(Err(_)) => {
                tokio::time::sleep(self.dice.millis(10, 200)).await;
                false
            }
            None => {
                self.disconnect("no producer id");
                false
            }
        }
    }

    async fn look_for_topics(&mut self) -> bool {
        let Some(agent) = self.connection.as_ref().map(|c| Arc::clone(&c.agent)) else { return false };
        let names = self.lanes.iter().map(|lane| lane.topic.clone()).collect();
        let found = match call(&agent, agent.link.find_topics(&TopicQuery::Names(names))).await {
            Some(Ok(found)) => found,
            Some(Err(_)) => {
                tokio::time::sleep(self.dice.millis(10, 200)).await;
                return false;
            }
            None => {
                self.disconnect("no metadata");
                return false;
            }
        };
        let mut moved = false;
        for lane in &mut self.lanes {
            let id = found.iter().find(|topic| topic.name == lane.topic).map(|topic| topic.id);
            let log = id.map(|id| TopicPartition::new(id, lane.partition));
            moved |= lane.log.is_some() && lane.log != log;
            lane.log = log;
        }
        self.look_at = Instant::now() + Duration::from_secs(2);
        if moved {
            self.start_over("a topic is not what it was");
        }
        !moved
    }

    fn new_identity(&mut self) {
        let wraps = self.promise == Promise::Idempotent && self.dice.chance(300);
        let first_sequence = Sequence(if wraps { i32::MAX - self.dice.below(20) as i32 } else { 0 });
        self.identity = Identity { producer: self.world.ledger().new_producer(), stamp: None, first_sequence };
        self.next_record = 0;
        self.clear_lanes();
    }

    fn clear_lanes(&mut self) {
        for lane in &mut self.lanes {
            lane.unacked.clear();
            lane.begun = false;
            lane.next_sequence = self.identity.first_sequence;
        }
    }

    /// Forgets everything unacknowledged; whether it is in the log stays unknown.
    fn start_over(&mut self, why: &str) {
        self.disconnect(why);
        let bumped = self.identity.stamp.and_then(|(id, epoch)| Some((id, epoch.checked_add(1)?))).filter(|_| self.dice.chance(500));
        match bumped {
            // What the old epoch left behind is fenced or comes first: one producer still, in order.
            Some(stamp) => {
                self.identity = Identity { stamp: Some(stamp), first_sequence: Sequence(0), ..self.identity };
                self.clear_lanes();
            }
            None => self.new_identity(),
        }
        self.note(format_args!("starts over as {:?}: {why}", self.identity));
    }

    fn give_up_on_old(&mut self) {
        let old = |lane: &Lane| lane.unacked.front().is_some_and(|b| b.born.elapsed() > self.delivery_timeout);
        if !self.world.is_ending() && (self.lanes.iter().any(old) || self.dice.chance(1)) {
            self.start_over("gives up");
        }
    }

    fn disconnect(&mut self, why: &str) {
        let Some(connection) = self.connection.take() else { return };
        self.note(format_args!("leaves {}: {why}", connection.agent.name));
        for part in self.requests.drain(..).flat_map(|request| request.parts) {
            let Part { lane, span, ticket, answer } = part;
            if let Some(batch) = self.lanes[lane].unacked.iter_mut().find(|b| b.span == span) {
                batch.in_flight = false;
            }
            match answer {
                Some(Ok(Ok(Appended::At(offset)))) => self.world.ledger().told.push((span, offset)),
                Some(_) => {}
                None => self.world.ledger().leftovers.push(Leftover { agent: Arc::clone(&connection.agent), ticket, span }),
            }
        }
    }

    fn requests_in_flight(&self) -> usize {
        if self.promise == Promise::Sequential { 1 } else { IN_FLIGHT }
    }

    fn send(&mut self) {
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
    fn has_room(&self, lane: &Lane) -> bool {
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
        let timestamp = 1_700_000_000_000 + self.world.clock.start.elapsed().as_millis() as i64;
        let records: Vec<Record> = span.ids().map(|id| Record::new(id, self.dice.below(100) as usize, timestamp)).collect();
        let sequence = self.lanes[lane].next_sequence;
        let (summary, bytes) = records::batch(&records, self.identity.stamp.map(|(id, epoch)| (id, epoch, sequence)));
        self.lanes[lane].next_sequence = sequence.plus(count as u32);
        let mut ledger = self.world.ledger();
        for record in records {
            let sent = Sent { promise: self.promise, log, content: record.content(), outcome: Outcome::Unknown, copies: 0 };
            ledger.sent.insert(record.id, sent);
        }
        Some(Batch { span, sequence, summary, bytes, born: now, not_before: now, in_flight: false, refusals: 0 })
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
    async fn wait(&mut self, over: &tokio_util::sync::CancellationToken) {
        let Some(dead) = self.connection.as_ref().map(|c| c.agent.dead.clone()) else { return };
        let wake = self.next_wake();
        let deadline = self.requests.front().map_or(wake + Duration::from_hours(1), |request| request.deadline);
        let mut front = self.requests.pop_front();
        let answered = tokio::select! {
            biased;
            () = over.cancelled() => false,
            () = answer(&mut front) => true,
            () = dead.cancelled() => false,
            () = sleep_until(deadline) => false,
            () = sleep_until(wake) => false,
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

    fn answered(&mut self, request: Request) {
        let mut next = Next::GoOn;
        for part in request.parts {
            if let Some(answer) = part.answer {
                next = next.max(self.apply(part.lane, &part.span, answer));
            }
        }
        match next {
            Next::GoOn => {}
            Next::Reconnect => self.disconnect("it says so"),
            Next::LookAgain => self.look_at = Instant::now(),
            Next::StartOver => self.start_over("refused for good"),
        }
    }

    fn apply(&mut self, lane: usize, span: &Span, answer: Answer) -> Next {
        self.note(format_args!("is told of {}+{}: {answer:?}", span.first, span.count));
        match answer {
            Ok(Ok(appended)) => {
                self.check_order(span, appended);
                self.world.ledger().appended(span, appended);
                self.lanes[lane].settle(span, self.identity.first_sequence);
                Next::GoOn
            }
            Ok(Err(ProduceError::Rejected(reason))) => self.rejected(lane, span, reason),
            Ok(Err(ProduceError::StoreFull(_) | ProduceError::Unavailable(_))) => {
                let pause = self.dice.millis(10, 300);
                self.lanes[lane].put_back(span, pause);
                Next::GoOn
            }
            Ok(Err(ProduceError::ShuttingDown)) | Err(_) => {
                self.lanes[lane].put_back(span, Duration::ZERO);
                Next::Reconnect
            }
        }
    }

    fn rejected(&mut self, lane: usize, span: &Span, reason: RejectReason) -> Next {
        match reason {
            RejectReason::DuplicateSequence => {
                self.world.ledger().acknowledged(span, None);
                self.lanes[lane].settle(span, self.identity.first_sequence);
                Next::GoOn
            }
            RejectReason::UnknownLog => {
                if self.world.exists(span.log.topic).now_or_never() == Some(true) {
                    self.world.broken(format!("{}: {} is said not to exist", self.name, span.log));
                }
                let pause = self.dice.millis(10, 300);
                self.lanes[lane].put_back(span, pause);
                Next::LookAgain
            }
            RejectReason::Fenced => {
                self.world.broken(format!("{}: fenced, though nobody else has its producer id", self.name));
                Next::StartOver
            }
            RejectReason::OutOfOrderSequence => self.out_of_order(lane, span),
        }
    }

    /// Java's rule: not the next one, so what is missing is on its way and a retry will do; else it is for good.
    fn out_of_order(&mut self, lane: usize, span: &Span) -> Next {
        let pause = self.dice.millis(10, 300);
        let lane = &mut self.lanes[lane];
        lane.put_back(span, pause);
        let Some(first) = lane.unacked.front_mut().filter(|batch| batch.span == *span) else { return Next::GoOn };
        if lane.begun {
            let what = format!("{}: {} is out of order, though all before it was acknowledged", self.name, span.first);
            self.world.broken(what);
            return Next::StartOver;
        }
        first.refusals += 1;
        if first.refusals > REFUSALS { Next::StartOver } else { Next::GoOn }
    }

    /// What one connection sent, without retries of the broker's making, lies in the order of sending.
    fn check_order(&mut self, span: &Span, appended: Appended) {
        let Appended::At(offset) = appended else { return };
        let Some(connection) = self.connection.as_mut().filter(|_| self.promise != Promise::Idempotent) else { return };
        let newest = connection.newest.entry(span.log).or_insert(Offset(-1));
        if offset <= *newest {
            let what = format!("{}: {} is at {offset}, though what was sent before it is at {newest}", self.name, span.first);
            self.world.broken(what);
        }
        *newest = offset;
    }
}

impl Lane {
    /// The batch is acknowledged.
    fn settle(&mut self, span: &Span, first_sequence: Sequence) {
        if let Some(at) = self.unacked.iter().position(|batch| batch.span == *span) {
            self.begun |= self.unacked[at].sequence == first_sequence;
            self.unacked.remove(at);
        }
    }

    /// The batch is to be sent again.
    fn put_back(&mut self, span: &Span, pause: Duration) {
        if let Some(batch) = self.unacked.iter_mut().find(|batch| batch.span == *span) {
            batch.in_flight = false;
            batch.not_before = Instant::now() + pause;
        }
    }

    fn describe(&self) -> String {
        let first = self.unacked.front().map_or_else(String::new, |b| format!("{} since {:?}", b.span.first, b.born.elapsed()));
        format!("{}-{}: {} unacknowledged, the first is {first}", self.topic, self.partition, self.unacked.len())
    }
}

/// One to three partitions.
fn lanes(world: &World, dice: &Dice) -> Vec<Lane> {
    let all: Vec<(TopicName, i32)> = world.plan.topics.iter().flat_map(|(name, n)| (0..*n).map(|p| (name.clone(), p))).collect();
    let (start, count) = (dice.below(all.len() as u64) as usize, dice.between(1, 3) as usize);
    let chosen = all.iter().cycle().skip(start).take(count).cloned();
    let lane =
        |(topic, partition)| Lane { topic, partition, log: None, next_sequence: Sequence(0), begun: false, unacked: VecDeque::new() };
    chosen.map(lane).collect()
}

/// Waits for every part of a request. May be dropped: what has come is kept.
async fn answer(request: &mut Option<Request>) {
    let Some(request) = request else { return std::future::pending().await };
    for part in request.parts.iter_mut().filter(|part| part.answer.is_none()) {
        part.answer = Some((&mut part.ticket).await);
    }
}

/// A call over a connection: `None` if the agent died or did not answer.
pub(crate) async fn call<T>(agent: &Agent, call: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = agent.dead.cancelled() => None,
        result = call => Some(result),
        () = tokio::time::sleep(Duration::from_secs(10)) => None,
    }
}
