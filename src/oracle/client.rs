//! The librdkafka clients of a run: their settings, and the topics they make.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::FutureProducer;
use rdkafka::topic_partition_list::{Offset as Position, TopicPartitionList};
use tokio::time::Instant;

use super::history::Promise;
use super::options::Options;
use super::run::Failure;
use crate::types::Offset;

/// How long to wait for a broker's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(15);
/// How long new topics may take until every partition has a leader.
const TOPICS_READY: Duration = Duration::from_secs(30);

fn configuration(options: &Options, name: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &options.brokers).set("client.id", name);
    config.set("topic.metadata.refresh.interval.ms", "10000");
    // Killed agents are the point of many runs: come back soon.
    config.set("reconnect.backoff.max.ms", "1000");
    config
}

fn with_settings(mut config: ClientConfig, options: &Options) -> ClientConfig {
    for (name, value) in &options.settings {
        config.set(name, value);
    }
    config
}

/// The producing client `number`.
///
/// # Errors
/// A setting that librdkafka refuses.
pub(super) fn producer(options: &Options, number: u32) -> Result<FutureProducer, KafkaError> {
    let mut config = configuration(options, &format!("oracle-producer-{number}"));
    config.set("acks", options.acks.setting()).set("compression.codec", options.codec_of(number));
    config.set("linger.ms", "5").set("message.timeout.ms", "60000").set("message.max.bytes", "100000000");
    match options.promise_of(number) {
        Promise::Idempotent => config.set("enable.idempotence", "true"),
        // Order through retries needs one request in flight.
        Promise::Sequential | Promise::Pipelined => config.set("max.in.flight", "1"),
    };
    with_settings(config, options).create()
}

/// A consumer that reads what it is told to, and says when it has reached the end of a log.
///
/// # Errors
/// A setting that librdkafka refuses.
pub(super) fn reader(options: &Options, own_settings: &[(&str, &str)]) -> Result<BaseConsumer, KafkaError> {
    let mut config = configuration(options, "oracle-consumer");
    config.set("group.id", "oracle-none").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    config.set("check.crcs", "true").set("isolation.level", "read_uncommitted").set("auto.offset.reset", "error");
    for (name, value) in own_settings {
        config.set(*name, *value);
    }
    with_settings(config, options).create()
}

/// Makes `topics` and waits until every partition of them has a leader. Blocks up to a minute.
///
/// # Errors
/// No broker answers, a topic cannot be made, or a setting is refused.
pub(super) async fn create_topics(options: &Options, topics: &[String]) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> = with_settings(configuration(options, "oracle-admin"), options).create()?;
    tokio::task::block_in_place(|| admin.inner().fetch_metadata(None, FIRST_ANSWER))
        .map_err(|e| Failure::NoBroker(options.brokers.clone(), e.to_string()))?;
    let partitions = i32::try_from(options.partitions.get()).unwrap_or(i32::MAX);
    // -1: as many replicas as the broker makes by default.
    let new: Vec<NewTopic<'_>> = topics.iter().map(|name| NewTopic::new(name, partitions, TopicReplication::Fixed(-1))).collect();
    let deadline = AdminOptions::new().operation_timeout(Some(TOPICS_READY)).request_timeout(Some(TOPICS_READY));
    for result in admin.create_topics(&new, &deadline).await? {
        result.map_err(|(topic, code)| Failure::Topic(topic, code.to_string()))?;
    }
    wait_for_leaders(&admin, topics, options.partitions.get() as usize).await
}

async fn wait_for_leaders(admin: &AdminClient<DefaultClientContext>, topics: &[String], partitions: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + TOPICS_READY;
    for topic in topics {
        loop {
            let metadata = tokio::task::block_in_place(|| admin.inner().fetch_metadata(Some(topic), FIRST_ANSWER))?;
            let of_topic = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
            if of_topic.is_some_and(|t| t.partitions().len() == partitions && t.partitions().iter().all(|p| p.leader() >= 0)) {
                break;
            }
            if Instant::now() > deadline {
                return Err(Failure::Topic(topic.clone(), "no leader for every partition".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// The ends of one log: log start offset and high watermark.
pub(super) type Ends = (Offset, Offset);

/// The ends of every partition of a topic, by partition: two requests, however many partitions there are. Blocks; tries
/// again until `patience` is over.
///
/// # Errors
/// The last failure.
pub(super) fn watermarks(consumer: &BaseConsumer, topic: &str, partitions: usize, patience: Duration) -> Result<Vec<Ends>, KafkaError> {
    let deadline = Instant::now() + patience;
    loop {
        let starts = list_offsets(consumer, topic, partitions, Position::Beginning);
        let both = starts.and_then(|starts| Ok((starts, list_offsets(consumer, topic, partitions, Position::End)?)));
        match both {
            Ok((starts, ends)) => return Ok(starts.into_iter().zip(ends).collect()),
            Err(error) if Instant::now() >= deadline => return Err(error),
            // Brokers may still be coming back from whatever the script did to them.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// One `ListOffsets` for all partitions of a topic: librdkafka takes the two special times for ordinary ones.
fn list_offsets(consumer: &BaseConsumer, topic: &str, partitions: usize, time: Position) -> Result<Vec<Offset>, KafkaError> {
    let mut times = TopicPartitionList::new();
    for partition in (0..).take(partitions) {
        times.add_partition_offset(topic, partition, time)?;
    }
    let mut offsets = vec![Offset(0); partitions];
    for element in consumer.offsets_for_times(times, Duration::from_secs(10))?.elements() {
        element.error()?;
        let Position::Offset(offset) = element.offset() else { return Err(KafkaError::OffsetFetch(RDKafkaErrorCode::OffsetNotAvailable)) };
        if let Some(place) = usize::try_from(element.partition()).ok().and_then(|p| offsets.get_mut(p)) {
            *place = Offset(offset);
        }
    }
    Ok(offsets)
}

/// Whether the broker or the client refused the record itself, so that no copy of it can be in a log. All else
/// (timeouts, broken connections, fatal errors of the client) leaves the outcome open.
pub(super) fn refuses_for_good(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(|code| {
        matches!(
            code,
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::MessageBatchTooLarge
                | RDKafkaErrorCode::InvalidRecord
                | RDKafkaErrorCode::InvalidTimestamp
                | RDKafkaErrorCode::InvalidTopic
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::UnsupportedForMessageFormat
                | RDKafkaErrorCode::UnsupportedCompressionType
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::PolicyViolation
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_leaves_the_outcome_open_and_a_refusal_does_not() {
        for (code, refused) in [
            (RDKafkaErrorCode::MessageTimedOut, false),
            (RDKafkaErrorCode::BrokerTransportFailure, false),
            (RDKafkaErrorCode::NotLeaderForPartition, false),
            (RDKafkaErrorCode::OutOfOrderSequenceNumber, false),
            (RDKafkaErrorCode::InvalidRecord, true),
            (RDKafkaErrorCode::MessageSizeTooLarge, true),
        ] {
            assert_eq!(refuses_for_good(&KafkaError::MessageProduction(code)), refused, "{code:?}");
        }
    }
}
