//! Throughput in: records as fast as they are acknowledged.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tokio::time::Instant;

use super::clients::{Acknowledged, BenchError, Deliveries, PATIENCE, producer};
use super::options::Traffic;
use super::report::{Better, Figure};
use super::target::Target;
use crate::oracle::workload::Chance;

/// Length of the pool that payloads are cut from: no batch holds the same bytes twice.
const POOL: usize = 8 << 20;

/// Values that cost nothing to make: consecutive slices of random bytes.
pub(super) struct Pool {
    bytes: Vec<u8>,
    size: usize,
    next: usize,
}

impl Pool {
    pub(super) fn new(size: u32) -> Pool {
        let size = size as usize;
        Pool { bytes: Chance::new(1).bytes(POOL.max(size)), size, next: 0 }
    }

    pub(super) fn next_value(&mut self) -> &[u8] {
        if self.next + self.size > self.bytes.len() {
            self.next = 0;
        }
        let start = self.next;
        self.next += self.size;
        &self.bytes[start..start + self.size]
    }
}

/// Sends `records` to `topic`, in turn to each partition, and waits until all are acknowledged.
///
/// # Errors
/// A record was not acknowledged, or a setting was refused.
pub(super) fn produce(target: &Target, traffic: &Traffic, topic: &str, records: u64) -> Result<Vec<Figure>, BenchError> {
    let client = producer(target, traffic, &[], ())?;
    // Connected and informed, as a client in use is.
    client.client().fetch_metadata(Some(topic), PATIENCE)?;
    let mut pool = Pool::new(traffic.size);
    let elapsed = while_polled(&client, || {
        let start = Instant::now();
        for number in 0..records {
            enqueue(&client, topic, partition(number, traffic.partitions), pool.next_value(), number as usize)?;
        }
        wait_until_settled(client.context(), records);
        Ok::<Duration, BenchError>(start.elapsed())
    })?;
    client.context().all_acknowledged(records)?;
    let bytes = records as f64 * f64::from(traffic.size);
    Ok(vec![
        Figure::new("in".to_owned(), "MB/s", bytes / 1e6 / elapsed.as_secs_f64(), Better::Higher),
        Figure::new("in".to_owned(), "records/s", records as f64 / elapsed.as_secs_f64(), Better::Higher),
    ])
}

pub(super) fn partition(number: u64, partitions: NonZeroU32) -> i32 {
    (number % u64::from(partitions.get())) as i32
}

/// Does `work` while another thread takes the acknowledgements.
pub(super) fn while_polled<A: Acknowledged + 'static, T>(client: &BaseProducer<Deliveries<A>>, work: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                client.poll(Duration::from_millis(20));
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Gives one record to the client; waits while its queue is full.
///
/// # Errors
/// The client refuses the record.
pub(super) fn enqueue<A: Acknowledged + 'static>(
    client: &BaseProducer<Deliveries<A>>,
    topic: &str,
    partition: i32,
    value: &[u8],
    number: usize,
) -> Result<(), KafkaError> {
    let mut record: BaseRecord<'_, (), [u8], usize> = BaseRecord::with_opaque_to(topic, number).partition(partition).payload(value);
    loop {
        match client.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
            Err((error, _)) => return Err(error),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `records` are acknowledged or have failed, or nothing happens any more.
pub(super) fn wait_until_settled<A>(deliveries: &Deliveries<A>, records: u64) {
    let (mut last, mut last_news) = (0, Instant::now());
    while last < records && last_news.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_micros(500));
        let settled = deliveries.settled();
        if settled > last {
            (last, last_news) = (settled, Instant::now());
        }
    }
}

/// Requests of one record on one connection, `in_flight` of them at a time, for `duration`.
///
/// # Errors
/// A record was not acknowledged, or a setting was refused.
pub(super) fn serial(
    target: &Target,
    traffic: &Traffic,
    topic: &str,
    in_flight: NonZeroU32,
    duration: Duration,
) -> Result<Vec<Figure>, BenchError> {
    let in_flight = in_flight.get().to_string();
    let settings =
        [("max.in.flight", in_flight.as_str()), ("batch.num.messages", "1"), ("linger.ms", "0"), ("queue.buffering.max.messages", "50")];
    let client = producer(target, traffic, &settings, ())?;
    client.client().fetch_metadata(Some(topic), PATIENCE)?;
    let mut pool = Pool::new(traffic.size);
    let (sent, rate) = while_polled(&client, || {
        let start = Instant::now();
        let mut sent = 0;
        while start.elapsed() < duration {
            enqueue(&client, topic, 0, pool.next_value(), 0)?;
            sent += 1;
        }
        let rate = client.context().acknowledged() as f64 / start.elapsed().as_secs_f64();
        wait_until_settled(client.context(), sent);
        Ok::<_, BenchError>((sent, rate))
    })?;
    client.context().all_acknowledged(sent)?;
    Ok(vec![Figure::new("serial".to_owned(), "requests/s", rate, Better::Higher)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_size_and_differ_within_a_batch() {
        let mut pool = Pool::new(1000);
        let first = pool.next_value().to_vec();
        assert_eq!(first.len(), 1000);
        for _ in 0..1000 {
            assert_ne!(pool.next_value(), first);
        }
        let large = (POOL + 1) as u32;
        assert_eq!(Pool::new(large).next_value().len(), POOL + 1);
    }

    #[test]
    fn partitions_take_turns() {
        let three = NonZeroU32::new(3).unwrap();
        assert_eq!((0..5).map(|n| partition(n, three)).collect::<Vec<_>>(), [0, 1, 2, 0, 1]);
    }
}
