//! What a client makes of the answers: the rules of the Java client, and what must never be answered.

use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use yaks::oracle::history::Promise;
use yaks::partition::RejectReason;
use yaks::produce::{Appended, ProduceError};
use yaks::types::Offset;

use super::Client;
use super::sending::{Answer, Request};
use crate::ledger::Span;
use crate::sights::Sight;

/// Tries of a batch that is the next one and is refused as out of order, before the producer gives up on its id.
const REFUSALS: u32 = 3;

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
    pub(super) fn answered(&mut self, request: Request) {
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
                if appended == Appended::Durable {
                    self.world.sights.saw(Sight::DeferredAnswer, 1);
                }
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
            // NOT_ENOUGH_REPLICAS to the client: sent again, however often. An agent that lost a batch says so for a moment also after another has taken it.
            RejectReason::MissingPredecessor => {
                let pause = self.dice.millis(10, 300);
                self.lanes[lane].put_back(span, pause);
                Next::GoOn
            }
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
