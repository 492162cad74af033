//! Consumer groups of a run: their members read all logs together, while producers still send or afterwards.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::Message as _;
use tokio::time::Instant;

use super::client;
use super::consume::{POLL, observe};
use super::history::{GroupRead, LogName, LogRead, Observed};
use super::options::Options;
use super::pauses::{Pause, Pauses};
use super::progress::Progress;
use super::workload::Workload;
use crate::types::{PartitionIndex, TopicName};

/// Members at work, each a thread with a client of its own.
pub(super) struct Group {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<KafkaResult<()>>>,
}

struct Shared {
    name: String,
    workload: Arc<Workload>,
    patience: Duration,
    /// Records to be read; `u64::MAX` while nobody knows.
    expected: AtomicU64,
    gathered: Mutex<Gathered>,
    progress: Progress,
}

/// What all members got.
struct Gathered {
    reads: BTreeMap<LogName, (Vec<Observed>, HashSet<crate::types::Offset>)>,
    distinct: u64,
    last_news: Instant,
    pauses: Pauses<LogName>,
}

impl Shared {
    fn gathered(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Group {
    /// Starts `members` members of a group named after the run and `purpose`.
    ///
    /// # Errors
    /// A client cannot be made, or cannot subscribe.
    pub(super) fn start(options: &Options, workload: &Arc<Workload>, purpose: &'static str, members: u32) -> KafkaResult<Group> {
        let now = Instant::now();
        let shared = Arc::new(Shared {
            name: format!("oracle-{:016x}-{purpose}", workload.run.0),
            workload: Arc::clone(workload),
            patience: options.consume_timeout,
            expected: AtomicU64::new(u64::MAX),
            gathered: Mutex::new(Gathered { reads: BTreeMap::new(), distinct: 0, last_news: now, pauses: Pauses::new(now) }),
            progress: Progress::new(purpose, None),
        });
        let member = |_| {
            let (consumer, shared) = (member(options, &shared)?, Arc::clone(&shared));
            Ok(std::thread::spawn(move || shared.read(&consumer)))
        };
        let members = (0..members).map(member).collect::<KafkaResult<Vec<_>>>()?;
        Ok(Group { shared, members })
    }

    /// Waits until the members have read everything in `logs`, or got nothing new for `consume_timeout`. Gives what they read, and how long each log
    /// kept them waiting until now.
    ///
    /// # Errors
    /// A member gave up.
    pub(super) fn finish(self, logs: &[LogRead]) -> KafkaResult<(Vec<GroupRead>, Vec<Pause>)> {
        let pauses = {
            let mut gathered = self.shared.gathered();
            gathered.last_news = Instant::now();
            gathered.pauses.longest()
        };
        let expected = logs.iter().map(|log| (log.high_watermark.0 - log.start.0).max(0).unsigned_abs()).sum();
        self.shared.expected.store(expected, Ordering::Release);
        for member in self.members {
            // One that panicked has seen less; the check of coverage says so.
            member.join().unwrap_or(Ok(()))?;
        }
        self.shared.progress.finish();
        let mut reads = std::mem::take(&mut self.shared.gathered().reads);
        let of_log = |log: &LogRead| {
            let records = reads.remove(&log.log).map(|(records, _)| records).unwrap_or_default();
            GroupRead { group: self.shared.name.clone(), log: log.log.clone(), records }
        };
        Ok((logs.iter().map(of_log).collect(), pauses))
    }
}

fn member(options: &Options, shared: &Shared) -> KafkaResult<BaseConsumer> {
    let settings = [
        ("group.id", shared.name.as_str()),
        ("enable.auto.commit", "true"),
        ("auto.offset.reset", "earliest"),
        ("enable.partition.eof", "false"),
    ];
    let consumer = client::reader(options, &settings)?;
    let topics: Vec<&str> = shared.workload.topics.iter().map(TopicName::as_str).collect();
    consumer.subscribe(&topics)?;
    Ok(consumer)
}

impl Shared {
    fn read(&self, consumer: &BaseConsumer) -> KafkaResult<()> {
        loop {
            // Broken connections and rebalances heal by themselves; what does not heal ends in the timeout.
            let message = consumer.poll(POLL).and_then(Result::ok);
            let mut all = self.gathered();
            if let Some(message) = message {
                let Some(topic) = self.workload.topics.iter().find(|t| t.as_str() == message.topic()) else { continue };
                let log = LogName { topic: topic.clone(), partition: PartitionIndex(message.partition()) };
                let is_new = all.add(&log, observe(self.workload.run, &message), Instant::now());
                self.progress.advance(u64::from(is_new));
            }
            let expected = self.expected.load(Ordering::Acquire);
            if all.distinct >= expected || (expected < u64::MAX && all.last_news.elapsed() > self.patience) {
                return Ok(());
            }
        }
    }
}

impl Gathered {
    fn add(&mut self, log: &LogName, observed: Observed, now: Instant) -> bool {
        let (records, seen) = self.reads.entry(log.clone()).or_default();
        records.push(observed);
        let is_new = seen.insert(observed.offset);
        self.last_news = now;
        if is_new {
            self.distinct += 1;
            self.pauses.news(log, now);
        }
        is_new
    }
}
