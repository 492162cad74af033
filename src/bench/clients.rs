//! librdkafka clients as the bench uses them: the defaults of librdkafka, but for what the command line says.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, ProducerContext};

use super::options::Traffic;
use super::target::Target;

/// How long the bench waits where nothing happens any more.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("the client: {0}")]
    Client(#[from] KafkaError),
    #[error("{0}")]
    Process(String),
    #[error("topic {0}: {1}")]
    Topic(String, String),
    #[error("{failed} of {records} records were not acknowledged: {reason}")]
    NotAcknowledged { failed: u64, records: u64, reason: String },
    #[error("only {read} of {expected} records could be read: nothing came for a minute")]
    NotRead { read: u64, expected: u64 },
    #[error("connection {number}: {source}")]
    Connection { number: u32, source: std::io::Error },
    #[error("the broker's answer to ApiVersions cannot be read")]
    Answer,
    #[error("the topic holds records that the bench did not send")]
    Foreign,
    #[error("the histogram: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
    #[error("a thread of the bench broke")]
    Broken,
}

/// Gets every acknowledgement of a producer, with the number that was sent along with the record.
pub(super) trait Acknowledged: Send + Sync {
    fn acknowledged(&self, number: usize);
}

/// Counts what became of the records of one producer.
#[derive(Debug, Default)]
pub(super) struct Deliveries<A> {
    pub(super) on_acknowledged: A,
    acknowledged: AtomicU64,
    failed: AtomicU64,
    reason: Mutex<Option<String>>,
}

impl<A> Deliveries<A> {
    pub(super) fn new(on_acknowledged: A) -> Deliveries<A> {
        Deliveries { on_acknowledged, acknowledged: AtomicU64::new(0), failed: AtomicU64::new(0), reason: Mutex::new(None) }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Records that are no longer in flight.
    pub(super) fn settled(&self) -> u64 {
        self.acknowledged() + self.failed.load(Ordering::Relaxed)
    }

    /// # Errors
    /// Some of the `records` were not acknowledged.
    pub(super) fn all_acknowledged(&self, records: u64) -> Result<(), BenchError> {
        let failed = records.saturating_sub(self.acknowledged());
        if failed == 0 {
            return Ok(());
        }
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(BenchError::NotAcknowledged { failed, records, reason: reason.unwrap_or_else(|| "no answer came".to_owned()) })
    }
}

impl<A: Acknowledged> ClientContext for Deliveries<A> {}

impl<A: Acknowledged> ProducerContext for Deliveries<A> {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                self.on_acknowledged.acknowledged(number);
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.reason.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| error.to_string());
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// For those who only count.
impl Acknowledged for () {
    fn acknowledged(&self, _number: usize) {}
}

pub(super) fn configuration(target: &Target, traffic: &Traffic) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &target.brokers).set("client.id", "bench");
    for (name, value) in &traffic.settings {
        config.set(name, value);
    }
    config
}

/// Sets what the user did not set.
fn default(config: &mut ClientConfig, name: &str, value: &str) {
    if config.get(name).is_none() {
        config.set(name, value);
    }
}

/// A producer with the traffic's settings; `own` are the scenario's, which `--set` overrides.
///
/// # Errors
/// A setting that librdkafka refuses.
pub(super) fn producer<A: Acknowledged + 'static>(
    target: &Target,
    traffic: &Traffic,
    own: &[(&str, &str)],
    on_acknowledged: A,
) -> Result<BaseProducer<Deliveries<A>>, KafkaError> {
    let mut config = configuration(target, traffic);
    for (name, value) in own {
        default(&mut config, name, value);
    }
    default(&mut config, "acks", &traffic.acks);
    default(&mut config, "linger.ms", &traffic.linger_ms.to_string());
    default(&mut config, "compression.codec", &traffic.codec);
    let largest = (u64::from(traffic.size) + 1024).max(1_000_000);
    default(&mut config, "message.max.bytes", &largest.to_string());
    config.create_with_context(Deliveries::new(on_acknowledged))
}

/// A consumer that reads what it is assigned.
///
/// # Errors
/// A setting that librdkafka refuses.
pub(super) fn consumer(target: &Target, traffic: &Traffic) -> Result<BaseConsumer, KafkaError> {
    let mut config = configuration(target, traffic);
    for (name, value) in &traffic.consumer_settings {
        config.set(name, value);
    }
    for (name, value) in [
        // librdkafka insists on a name; nothing is ever committed.
        ("group.id", "bench-none"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "earliest"),
    ] {
        default(&mut config, name, value);
    }
    config.create()
}
