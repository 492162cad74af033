//! The sending half of a run: each producer is a task with a window of records in flight.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::client;
use super::history::{Attempt, Outcome, Promise, RecordId};
use super::journal::{Journal, JournalError, Settled};
use super::options::{Acks, Options};
use super::pauses::Pauses;
use super::progress::Progress;
use super::run::Failure;
use super::workload::{Record, Workload};
use crate::types::{Offset, PartitionIndex};

/// What was noted while sending, beside the journal.
#[derive(Debug)]
pub(super) struct Sending {
    /// Errors that clients gave, in their words, and how often.
    pub(super) complaints: BTreeMap<String, u64>,
    pub(super) pauses: Pauses<ProducerName>,
}

/// As pauses name a producer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct ProducerName(u32);

impl fmt::Display for ProducerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {}", self.0)
    }
}

/// Sends everything the options ask for; every attempt is in the journal before its client gets it. Returns when each
/// record has an outcome, with what was noted meanwhile.
///
/// # Errors
/// The journal fails, or a client cannot be made.
pub(super) async fn send_all(options: &Options, workload: &Arc<Workload>, journal: Journal) -> Result<Sending, Failure> {
    let clients: Vec<FutureProducer> = (0..options.client_count()).map(|n| client::producer(options, n)).collect::<Result<_, _>>()?;
    let per_producer = options.records_per_producer();
    let total = per_producer.checked_mul(u64::from(options.producers.get()));
    let progress = Arc::new(Progress::new("produced", total));
    let start = Instant::now();
    let sending = Arc::new(Mutex::new(Sending { complaints: BTreeMap::new(), pauses: Pauses::new(start) }));
    let mut producers = JoinSet::new();
    for number in 0..options.producers.get() {
        let client = number % options.client_count();
        let producer = Producer {
            number,
            promise: options.promise_of(client),
            acks: options.acks,
            client: clients[client as usize].clone(),
            workload: Arc::clone(workload),
            journal: journal.clone(),
            window: options.in_flight.get(),
            schedule: Schedule::new(options, number, start),
            progress: Arc::clone(&progress),
            sending: Arc::clone(&sending),
        };
        producers.spawn(producer.run());
    }
    drop(journal);
    while let Some(ended) = producers.join_next().await {
        ended.map_err(|e| Failure::Broken(e.to_string()))??;
    }
    progress.finish();
    let ended = Sending { complaints: BTreeMap::new(), pauses: Pauses::new(start) };
    Ok(std::mem::replace(&mut *sending.lock().unwrap_or_else(PoisonError::into_inner), ended))
}

/// When one producer may send.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    records: u64,
    start: Instant,
    end: Option<Instant>,
    /// Between two records of this producer.
    interval: Option<Duration>,
}

impl Schedule {
    fn new(options: &Options, number: u32, start: Instant) -> Schedule {
        let producers = options.producers.get();
        let interval = options.rate.map(|rate| Duration::from_secs(u64::from(producers)) / NonZeroU32::get(rate));
        // Producers take turns, so that the rate is even.
        let phase = interval.unwrap_or_default().mul_f64(f64::from(number) / f64::from(producers));
        Schedule { records: options.records_per_producer(), start: start + phase, end: options.duration.map(|d| start + d), interval }
    }

    /// How many records, the first of them number `next`, may be sent at `now`; at most `free`.
    fn due(&self, next: u64, free: usize, now: Instant) -> usize {
        if self.is_over(next, now) {
            return 0;
        }
        let left = (self.records - next).min(free as u64);
        let Some(interval) = self.interval else { return left as usize };
        let elapsed = now.saturating_duration_since(self.start).as_nanos();
        let allowed = elapsed / interval.as_nanos().max(1) + u128::from(now >= self.start);
        u128::from(left).min(allowed.saturating_sub(u128::from(next))) as usize
    }

    fn is_over(&self, next: u64, now: Instant) -> bool {
        next >= self.records || self.end.is_some_and(|end| now >= end)
    }

    /// When record `next` is due.
    fn wake(&self, next: u64) -> Instant {
        let millis = self.interval.unwrap_or_default().as_secs_f64() * next as f64;
        self.start + Duration::from_secs_f64(millis)
    }
}

struct Producer {
    number: u32,
    promise: Promise,
    acks: Acks,
    client: FutureProducer,
    workload: Arc<Workload>,
    journal: Journal,
    window: usize,
    schedule: Schedule,
    progress: Arc<Progress>,
    sending: Arc<Mutex<Sending>>,
}

impl Producer {
    async fn run(self) -> Result<(), JournalError> {
        let mut in_flight = FuturesUnordered::new();
        let mut next = 0;
        loop {
            let due = self.schedule.due(next, self.window - in_flight.len(), Instant::now());
            if due > 0 {
                let records: Vec<Record> = (next..next + due as u64).map(|sequence| self.record(sequence)).collect();
                next += due as u64;
                self.journal.attempts(records.iter().map(|r| self.attempt(r)).collect()).await?;
                for record in records {
                    let sent = self.send(&record).await;
                    in_flight.push(async move { (record.id, settle(sent).await) });
                }
            }
            let over = self.schedule.is_over(next, Instant::now());
            let waits_for_time = !over && in_flight.len() < self.window;
            tokio::select! {
                Some((id, result)) = in_flight.next() => self.settled(id, result).await?,
                () = tokio::time::sleep_until(self.schedule.wake(next)), if waits_for_time => {}
                else => return Ok(()),
            }
        }
    }

    fn record(&self, sequence: u64) -> Record {
        self.workload.record(RecordId { producer: self.number, sequence })
    }

    fn attempt(&self, record: &Record) -> Attempt {
        Attempt {
            id: record.id,
            promise: self.promise,
            topic: record.topic.clone(),
            partition: record.partition,
            content: record.content(),
            outcome: Outcome::Unknown,
        }
    }

    /// Hands one record to the client. A full queue is waited for here, so that no later record overtakes this one.
    async fn send(&self, record: &Record) -> Result<DeliveryFuture, KafkaError> {
        let mut message = FutureRecord::to(record.topic.as_str()).timestamp(record.timestamp.0);
        message.partition = record.partition.map(|p| p.0);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        if !record.headers.is_empty() {
            let insert = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| all.insert(Header { key, value: value.as_ref() });
            message.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), insert));
        }
        loop {
            match self.client.send_result(message) {
                Ok(delivery) => return Ok(delivery),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => message = back,
                Err((error, _)) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn settled(&self, id: RecordId, result: Result<Outcome, KafkaError>) -> Result<(), JournalError> {
        self.progress.advance(1);
        let (outcome, error) = match result {
            // Without acknowledgements the client reports success as soon as it has written to the socket.
            Ok(_) if self.acks == Acks::None => (Outcome::Unknown, None),
            Ok(outcome) => (outcome, None),
            Err(error) if client::refuses_for_good(&error) => (Outcome::Failed, Some(error.to_string())),
            Err(error) => (Outcome::Unknown, Some(error.to_string())),
        };
        {
            let mut sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
            match &error {
                Some(error) => *sending.complaints.entry(error.clone()).or_default() += 1,
                None => sending.pauses.news(&ProducerName(self.number), Instant::now()),
            }
        }
        self.journal.settled(Settled { id, outcome, error }).await
    }
}

async fn settle(sent: Result<DeliveryFuture, KafkaError>) -> Result<Outcome, KafkaError> {
    match sent?.await {
        Ok(Ok(delivery)) => {
            let offset = (delivery.offset >= 0).then_some(Offset(delivery.offset));
            Ok(Outcome::Acked { partition: PartitionIndex(delivery.partition), offset })
        }
        Ok(Err((error, _))) => Err(error),
        // The client went away without an answer.
        Err(_) => Ok(Outcome::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn schedule(arguments: &[&str], start: Instant) -> Schedule {
        let options = Options::parse_from([&["oracle", "--producers", "2"], arguments].concat());
        Schedule::new(&options, 0, start)
    }

    #[test]
    fn without_a_rate_the_window_is_filled_until_the_records_are_sent() {
        let start = Instant::now();
        let s = schedule(&["--records", "10"], start);
        assert_eq!((s.due(0, 4, start), s.due(8, 4, start), s.due(10, 4, start)), (4, 2, 0));
        assert!(s.is_over(10, start));
    }

    #[test]
    fn with_a_rate_records_become_due_one_by_one() {
        let start = Instant::now();
        let s = schedule(&["--rate", "20", "--duration", "1s"], start);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!((s.due(0, 9, at(0)), s.due(1, 9, at(0)), s.due(1, 9, at(100)), s.due(1, 9, at(250))), (1, 0, 1, 2));
        assert_eq!(s.wake(3), at(300));
        assert_eq!(s.due(9, 9, at(1000)), 0);
        assert!(s.is_over(9, at(1000)));
    }
}
