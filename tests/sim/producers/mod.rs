//! Clients that produce: idempotent ones as the Java client does it, plain ones with one or several requests in flight.
//!
//! A connection is an ordered stream of submits to one agent. When the agent dies or an answer is late, the client goes to another one and sends
//! everything that is not acknowledged again, in order, with the same sequences.

mod answers;
mod identity;
mod lane;
mod sending;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yaks::oracle::history::Promise;
use yaks::produce::Wait;
use yaks::types::{Offset, Sequence, TopicPartition};

use self::identity::Identity;
use self::lane::{Lane, lanes};
use self::sending::{Part, Request};
use crate::agent::Agent;
use crate::ledger::Leftover;
use crate::world::{Dice, World};

/// One producer; over time it may be several to the broker.

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

#[derive(Debug)]
struct Connection {
    agent: Arc<Agent>,
    /// The last offset acknowledged in each log: what is sent later must lie behind it.
    newest: BTreeMap<TopicPartition, Offset>,
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
            pace: *dice.pick(&[10, 50, 100, 300]),
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

    fn disconnect(&mut self, why: &str) {
        let Some(connection) = self.connection.take() else { return };
        self.note(format_args!("leaves {}: {why}", connection.agent.name));
        for part in self.requests.drain(..).flat_map(|request| request.parts) {
            let Part { lane, span, ticket, answer } = part;
            if let Some(batch) = self.lanes[lane].unacked.iter_mut().find(|b| b.span == span) {
                batch.in_flight = false;
            }
            match answer {
                Some(Ok(Ok(appended))) => self.world.ledger().unheard(&span, appended),
                Some(Ok(Err(_)) | Err(_)) => {}
                None => self.world.ledger().leftovers.push(Leftover { agent: Arc::clone(&connection.agent), ticket, span }),
            }
        }
    }
}
