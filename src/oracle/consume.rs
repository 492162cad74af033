//! The reading half of a run. Everything here blocks: librdkafka's consumers are polled by plain threads.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers as _, Message};
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList};
use tokio::time::Instant;

use super::client;
use super::history::{Content, Fingerprint, LogName, LogRead, Observed, PartialRead};
use super::options::Options;
use super::progress::Progress;
use super::workload::{Chance, RunId, Workload, identify};
use crate::types::{Offset, PartitionIndex, Timestamp, TopicName};

/// How long one poll waits.
pub(super) const POLL: Duration = Duration::from_millis(200);
/// A consumer that starts in the middle reads at most so many records.
const PARTIAL_MAX: i64 = 20_000;

/// Reads every log of the workload's topics to its end, one topic after another.
///
/// A log counts as read when its consumer has reached the high watermark, was told that there is nothing behind it, and
/// the high watermark is still the same. If nothing comes for `consume_timeout`, what was read so far is returned.
///
/// # Errors
/// The ends of a log cannot be learned, or a client cannot be made.
pub(super) fn read_logs(options: &Options, workload: &Workload, expected: u64) -> KafkaResult<Vec<LogRead>> {
    let progress = Progress::new("consumed", Some(expected));
    let mut logs = Vec::new();
    for topic in &workload.topics {
        logs.extend(TopicReader::open(options, workload, topic)?.read(&progress)?);
    }
    progress.finish();
    Ok(logs)
}

struct TopicReader<'a> {
    consumer: BaseConsumer,
    run: RunId,
    topic: &'a TopicName,
    patience: Duration,
    /// By partition.
    logs: Vec<LogRead>,
    at_end: Vec<bool>,
}

impl<'a> TopicReader<'a> {
    fn open(options: &Options, workload: &Workload, topic: &'a TopicName) -> KafkaResult<TopicReader<'a>> {
        let consumer = client::reader(options, &[])?;
        let patience = options.consume_timeout;
        let ends = client::watermarks(&consumer, topic.as_str(), workload.partitions.get() as usize, patience)?;
        let log = |(partition, (start, high_watermark))| {
            let log = LogName { topic: topic.clone(), partition: PartitionIndex(partition) };
            LogRead { log, start, high_watermark, records: Vec::new() }
        };
        let logs: Vec<LogRead> = (0..).zip(ends).map(log).collect();
        let mut list = TopicPartitionList::new();
        for log in &logs {
            list.add_partition_offset(topic.as_str(), log.log.partition.0, Position::Offset(log.start.0))?;
        }
        consumer.assign(&list)?;
        Ok(TopicReader { consumer, run: workload.run, topic, patience, at_end: vec![false; logs.len()], logs })
    }

    fn read(mut self, progress: &Progress) -> KafkaResult<Vec<LogRead>> {
        let mut last_news = Instant::now();
        loop {
            if self.at_end.iter().all(|end| *end) && self.ends_are_the_same()? {
                return Ok(self.logs);
            }
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let (partition, observed) = (message.partition() as usize, observe(self.run, &message));
                    self.logs[partition].records.push(observed);
                    self.at_end[partition] = false;
                    progress.advance(1);
                    last_news = Instant::now();
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => self.reached_end(partition as usize),
                // Broken connections heal by themselves; what does not heal ends in the timeout.
                Some(Err(_)) | None => {}
            }
            if last_news.elapsed() > self.patience {
                eprintln!("gave up reading {}: nothing new for {} s", self.topic, self.patience.as_secs());
                return Ok(self.logs);
            }
        }
    }

    /// An end before the high watermark is no end; the consumer goes on asking.
    fn reached_end(&mut self, partition: usize) {
        let log = &self.logs[partition];
        let next = log.records.last().map_or(log.start, |r| r.offset.plus(1));
        self.at_end[partition] = next >= log.high_watermark;
    }

    /// Asks again for the ends: late copies of records with unknown outcome may have arrived meanwhile.
    fn ends_are_the_same(&mut self) -> KafkaResult<bool> {
        let mut same = true;
        let ends = client::watermarks(&self.consumer, self.topic.as_str(), self.logs.len(), self.patience)?;
        for ((log, at_end), (_, end)) in self.logs.iter_mut().zip(&mut self.at_end).zip(ends) {
            if end != log.high_watermark {
                (log.high_watermark, *at_end, same) = (end, false, false);
            }
        }
        Ok(same)
    }
}

pub(super) fn observe(run: RunId, message: &BorrowedMessage<'_>) -> Observed {
    let headers = || message.headers().into_iter().flat_map(|all| all.iter().map(|h| (h.key, h.value)));
    let timestamp = message.timestamp().to_millis().map_or(Timestamp::NONE, Timestamp);
    Observed {
        offset: Offset(message.offset()),
        id: identify(run, message.payload(), headers()),
        content: Content {
            key: Fingerprint::of(message.key()),
            value: Fingerprint::of(message.payload()),
            headers: Fingerprint::of_headers(headers()),
            timestamp,
        },
    }
}

/// Fetch settings of consumers that start in the middle: small answers cut batches at other places than large ones.
const FETCH_SIZES: [&str; 4] = ["1", "1024", "65536", "1048576"];

/// Reads pieces of `logs` again, each with a consumer of its own that starts at an offset the seed chooses.
///
/// # Errors
/// A client cannot be made.
pub(super) fn read_from_the_middle(options: &Options, workload: &Workload, logs: &[LogRead]) -> KafkaResult<Vec<PartialRead>> {
    let filled: Vec<&LogRead> = logs.iter().filter(|log| log.high_watermark > log.start).collect();
    let mut chance = Chance::new(workload.seed);
    let mut reads = Vec::new();
    for number in 0..options.mid_starts {
        let Some(log) = filled.get(chance.below(filled.len() as u64) as usize) else { break };
        let length = (log.high_watermark.0 - log.start.0).unsigned_abs();
        let from = Offset(log.start.0 + chance.below(length) as i64);
        let until = Offset(log.high_watermark.0.min(from.0.saturating_add(PARTIAL_MAX)));
        let size = FETCH_SIZES[number as usize % FETCH_SIZES.len()];
        let records = read_piece(options, workload, &log.log, from..until, size)?;
        reads.push(PartialRead {
            reader: format!("consumer {number} (from {from}, fetch size {size})"),
            log: log.log.clone(),
            from,
            until,
            records,
        });
    }
    Ok(reads)
}

fn read_piece(
    options: &Options,
    workload: &Workload,
    log: &LogName,
    range: std::ops::Range<Offset>,
    fetch_size: &str,
) -> KafkaResult<Vec<Observed>> {
    let consumer = client::reader(options, &[("max.partition.fetch.bytes", fetch_size)])?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(log.topic.as_str(), log.partition.0, Position::Offset(range.start.0))?;
    consumer.assign(&list)?;
    let mut records: Vec<Observed> = Vec::new();
    let mut last_news = Instant::now();
    while records.last().is_none_or(|r| r.offset.plus(1) < range.end) && last_news.elapsed() < options.consume_timeout {
        if let Some(Ok(message)) = consumer.poll(POLL) {
            records.push(observe(workload.run, &message));
            last_news = Instant::now();
        }
    }
    Ok(records)
}
