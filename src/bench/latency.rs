//! Latency at a fixed rate, from the moment a record was due: a broker that stalls delays the records behind it too, and
//! they count (no coordinated omission). Sender and reader are threads of one process, with one clock.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use rdkafka::consumer::BaseConsumer;
use rdkafka::message::Message;
use rdkafka::producer::Producer as _;
use tokio::time::Instant;

use super::clients::{Acknowledged, BenchError, PATIENCE, producer};
use super::consume::{assign, connected};
use super::options::{Pace, Traffic};
use super::produce::{Pool, enqueue, partition, wait_until_settled, while_polled};
use super::report::{Figure, latencies, new_histogram};
use super::target::Target;

/// Bytes at the beginning of a value that hold the record's number.
const NUMBER: usize = 8;

/// When each record is due, and how late it came.
#[derive(Debug)]
struct Stopwatch {
    start: Instant,
    interval: Duration,
    /// Records of the warm-up: the first ones.
    uncounted: u64,
    times: Mutex<Histogram<u64>>,
}

impl Stopwatch {
    fn new(pace: Pace, start: Instant) -> Result<Stopwatch, BenchError> {
        let rate = pace.rate.get();
        let uncounted = u64::from(pace.warmup_seconds) * u64::from(rate);
        let times = Mutex::new(new_histogram()?);
        Ok(Stopwatch { start, interval: Duration::from_secs(1) / rate, uncounted, times })
    }

    fn due(&self, number: u64) -> Instant {
        self.start + Duration::from_nanos((self.interval.as_nanos() as u64).saturating_mul(number))
    }

    fn record(&self, number: u64, now: Instant) {
        if number >= self.uncounted {
            let late = now.saturating_duration_since(self.due(number)).as_nanos() as u64;
            self.times.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(late);
        }
    }

    fn figures(&self, name: &str) -> Vec<Figure> {
        latencies(name, &self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Acknowledged for Stopwatch {
    fn acknowledged(&self, number: usize) {
        self.record(number as u64, Instant::now());
    }
}

/// Sends to `topic`, which must be new, at the given pace, while another thread reads it.
///
/// # Errors
/// A record was not acknowledged or did not come back.
pub(super) fn latency(target: &Target, traffic: &Traffic, topic: &str, pace: Pace) -> Result<Vec<Figure>, BenchError> {
    let reader = connected(target, traffic, topic)?;
    assign(&reader, traffic, topic)?;
    // Time for both clients to connect before the first record is due.
    let start = Instant::now() + Duration::from_millis(500);
    let (client, end_to_end) = (producer(target, traffic, &[], Stopwatch::new(pace, start)?)?, Stopwatch::new(pace, start)?);
    client.client().fetch_metadata(Some(topic), PATIENCE)?;
    let records = u64::from(pace.rate.get()) * (u64::from(pace.seconds.get()) + u64::from(pace.warmup_seconds));
    let mut pool = Pool::new(traffic.size.saturating_sub(NUMBER as u32));
    let send = || {
        for number in 0..records {
            std::thread::sleep(end_to_end.due(number).saturating_duration_since(Instant::now()));
            let value = [&number.to_le_bytes()[..], pool.next_value()].concat();
            enqueue(&client, topic, partition(number, traffic.partitions), &value, number as usize)?;
        }
        wait_until_settled(client.context(), records);
        Ok::<(), BenchError>(())
    };
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| read_all(&reader, &end_to_end, records));
        while_polled(&client, send)?;
        reading.join().map_err(|_| BenchError::Broken)?
    })?;
    client.context().all_acknowledged(records)?;
    Ok([client.context().on_acknowledged.figures("delivery"), end_to_end.figures("end to end")].concat())
}

fn read_all(reader: &BaseConsumer, stopwatch: &Stopwatch, records: u64) -> Result<(), BenchError> {
    let (mut read, mut last_news) = (0, Instant::now());
    while read < records {
        match reader.poll(Duration::from_millis(100)) {
            Some(message) => {
                let message = message?;
                let now = Instant::now();
                let number = message.payload().and_then(|value| value.get(..NUMBER)?.try_into().ok()).map(u64::from_le_bytes);
                stopwatch.record(number.ok_or(BenchError::Foreign)?, now);
                (read, last_news) = (read + 1, now);
            }
            None if last_news.elapsed() > PATIENCE => return Err(BenchError::NotRead { read, expected: records }),
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn stopwatch(start: Instant) -> Stopwatch {
        let pace = Pace { rate: NonZeroU32::new(100).unwrap(), seconds: NonZeroU32::MIN, warmup_seconds: 1 };
        Stopwatch::new(pace, start).unwrap()
    }

    #[test]
    fn lateness_counts_from_when_the_record_was_due() {
        let start = Instant::now();
        let watch = stopwatch(start);
        watch.record(99, start + Duration::from_secs(9));
        assert_eq!(watch.times.lock().unwrap().len(), 0, "the warm-up does not count");
        watch.record(100, start + Duration::from_millis(1007));
        // Sent late behind a stall, acknowledged at once: the stall counts.
        watch.record(110, start + Duration::from_millis(1600));
        let times = watch.times.lock().unwrap();
        assert_eq!((times.min() / 1_000_000, times.max() / 1_000_000), (6, 500));
    }
}
