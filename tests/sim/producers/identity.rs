//! Who a client says it is: topics and a producer id before it sends, another identity when it gives up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use yaks::metastore::{Log as _, MetaError, TopicQuery, Topics as _};
use yaks::oracle::history::Promise;
use yaks::types::{Sequence, TopicPartition};

use super::Client;
use super::lane::Lane;
use crate::agent::Agent;
use crate::sights::Sight;

/// Who the client says it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity {
    /// In the history. A new one promises nothing about what its predecessor left behind.
    pub(super) producer: u32,
    /// Producer id and epoch, once they are known.
    pub(super) stamp: Option<(i64, i16)>,
    pub(super) first_sequence: Sequence,
}

impl Client {
    /// Knows its topics and has a producer id; false if it has to try again.
    pub(super) async fn prepare(&mut self) -> bool {
        let Some(agent) = self.connection.as_ref().map(|c| Arc::clone(&c.agent)) else { return false };
        if self.look_at <= Instant::now() && !self.look_for_topics(&agent).await {
            return false;
        }
        if self.promise != Promise::Idempotent || self.identity.stamp.is_some() {
            return true;
        }
        let answer = agent.call(agent.link.reserve_producer_ids(1)).await;
        let Some(id) = self.answered_call(answer).await else { return false };
        self.note(format_args!("has producer id {}", id.0));
        self.identity.stamp = Some((id.0, 0));
        true
    }

    /// False if the topics could not be looked up, or are not what they were.
    async fn look_for_topics(&mut self, agent: &Agent) -> bool {
        let names = self.lanes.iter().map(|lane| lane.topic.clone()).collect();
        let answer = agent.call(agent.link.find_topics(&TopicQuery::Names(names))).await;
        let Some(found) = self.answered_call(answer).await else { return false };
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

    /// What the agent answered; after an error a pause, without an answer another agent.
    async fn answered_call<T>(&mut self, answer: Option<Result<T, MetaError>>) -> Option<T> {
        match answer {
            Some(Ok(answer)) => return Some(answer),
            Some(Err(_)) => tokio::time::sleep(self.dice.millis(10, 200)).await,
            None => self.disconnect("it does not answer"),
        }
        None
    }

    pub(super) fn new_identity(&mut self) {
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
    pub(super) fn start_over(&mut self, why: &str) {
        self.disconnect(why);
        let bumped = self.identity.stamp.and_then(|(id, epoch)| Some((id, epoch.checked_add(1)?))).filter(|_| self.dice.chance(500));
        match bumped {
            // What the old epoch left behind is fenced or comes first: one producer still, in order.
            Some(stamp) => {
                self.world.sights.saw(Sight::EpochBumped, 1);
                self.identity = Identity { stamp: Some(stamp), first_sequence: Sequence(0), ..self.identity };
                self.clear_lanes();
            }
            None => self.new_identity(),
        }
        self.note(format_args!("starts over as {:?}: {why}", self.identity));
    }

    pub(super) fn give_up_on_old(&mut self) {
        let old = |lane: &Lane| lane.unacked.front().is_some_and(|b| b.born.elapsed() > self.delivery_timeout);
        if !self.world.is_ending() && (self.lanes.iter().any(old) || self.dice.chance(1)) {
            self.start_over("gives up");
        }
    }
}
