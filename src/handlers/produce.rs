//! Produce: v3-13 (0-2 are refused by `protocol::old_produce`). Batches are checked, take their places in order, and are answered when their fate is known.
//!
//! v3 batches of magic 2, transactional id. v5 log start offset. v7 zstd. v8 errors of single records (KIP-467). v9 flexible. v10 current leaders (not
//! needed: any agent takes any partition). v12 as v11. v13 topic ids instead of names (KIP-516).
//!
//! acks: 0 is never answered; 1 and all mean the same, because nothing is acknowledged before it is durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kafka_protocol::protocol::StrBytes;
use tokio::time::{Instant, timeout_at};

use super::broker::Broker;
use super::error::{self, Asked, NamedBy};
use super::serve::{Begun, OnDisconnect, Refusal, Reply};
use super::stopwatch::Stopwatch;
use super::topic_configs::{ProduceOffsets, TopicSettings};
use super::topics::{Found, Key};
use crate::produce::{Appended, NewBatch, Ticket, Wait};
use crate::protocol::{Request, codec};
use crate::records::batch::{self, BatchError, BatchLimits};
use crate::records::{for_each_record, recompress};
use crate::types::{BatchSummary, Offset, Timestamp, TopicId, TopicName, TopicPartition};

/// The first version that may bring zstd (KIP-110).
const ZSTD_SINCE: i16 = 7;
const IDS_SINCE: i16 = 13;

/// The shortest time a client can ask to wait: less than a flush takes would make every request fail.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// Bytes of records that the batches of one request may unfold to, where they must be unpacked. Nobody is charged for them: a small request must not cost
/// what many large ones do.
const UNFOLDED_MAX: u64 = 256 << 20;

/// A batch that is refused.
struct Refused {
    error: ResponseError,
    message: String,
    /// The record at fault, by its index in the batch.
    record: Option<u32>,
}

impl Refused {
    fn new(error: ResponseError, message: impl Into<String>) -> Self {
        Refused { error, message: message.into(), record: None }
    }
}

/// What became of one partition of a request.
enum Place {
    Refused(Refused),
    Taken { ticket: Ticket, log: TopicPartition, summary: BatchSummary, append_time: Option<Timestamp> },
}

struct PartitionPlace {
    index: i32,
    place: Place,
}

struct TopicPlaces {
    sent: TopicProduceData,
    found: Option<Arc<Found>>,
    partitions: Vec<PartitionPlace>,
}

pub(super) async fn begin(broker: &Arc<Broker>, request: &Request) -> Result<Begun, Refusal> {
    let clock = Stopwatch::start(&broker.parts.requests, &request.header);
    let mut sent: ProduceRequest = codec::decode(request)?;
    let version = request.header.version;
    let patience = Instant::now() + Duration::from_millis(u64::try_from(sent.timeout_ms).unwrap_or(0)).max(SHORTEST_WAIT);
    let topics = std::mem::take(&mut sent.topic_data);
    let (found, failed) = look_up(broker, &topics, version).await;
    let refusal = refuse_all(&sent).or(failed);
    let checked = check(broker, Sent { topics, found, refusal, version }).await?;
    let places = take_places(broker, checked);
    if sent.acks == 0 {
        return silent(broker, clock, places, patience);
    }
    let broker = Arc::clone(broker);
    let answer = async move {
        let answer = settle(&broker, places, patience, NamedBy::in_version(version)).await;
        let code = error::first(answer.responses.iter().flat_map(|t| &t.partition_responses).map(|p| p.error_code));
        let rope = codec::encode(&clock.header, &answer)?;
        clock.answered(code);
        Ok(rope)
    };
    Ok(Begun { answer: answer.boxed(), on_disconnect: OnDisconnect::Finish, reply: Reply::InOrder })
}

impl NamedBy {
    fn in_version(version: i16) -> NamedBy {
        if version >= IDS_SINCE { NamedBy::Id } else { NamedBy::Name }
    }
}

/// With acks=0 nobody can be told of an error but by closing the connection, as Kafka does: the client then asks for metadata anew.
fn silent(broker: &Arc<Broker>, clock: Stopwatch, topics: Vec<TopicPlaces>, patience: Instant) -> Result<Begun, Refusal> {
    let refused =
        topics.iter().flat_map(|t| &t.partitions).find_map(|p| if let Place::Refused(refused) = &p.place { Some(refused) } else { None });
    if let Some(Refused { error, message, .. }) = refused {
        clock.answered(error.code());
        return Err(Refusal::Unanswerable(format!("a batch sent with acks=0 was refused: {error}: {message}")));
    }
    let (broker, named_by) = (Arc::clone(broker), NamedBy::in_version(clock.header.version));
    let answer = async move {
        settle(&broker, topics, patience, named_by).await;
        clock.answered(error::NONE);
        Ok(crate::protocol::Rope::default())
    };
    Ok(Begun { answer: answer.boxed(), on_disconnect: OnDisconnect::Finish, reply: Reply::Silent })
}

/// Why the request as a whole is refused.
fn refuse_all(sent: &ProduceRequest) -> Option<(ResponseError, String)> {
    if !(-1..=1).contains(&sent.acks) {
        return Some((ResponseError::InvalidRequiredAcks, format!("acks={} is none of -1, 0 and 1", sent.acks)));
    }
    // The one code that all producers take for final.
    sent.transactional_id.as_ref().map(|_| (ResponseError::TransactionalIdAuthorizationFailed, "transactions are not served".to_owned()))
}

/// The topics of the request, in its order; or why none could be looked up.
async fn look_up(broker: &Broker, topics: &[TopicProduceData], version: i16) -> (Vec<Option<Arc<Found>>>, Option<(ResponseError, String)>) {
    let key = |topic: &TopicProduceData| match NamedBy::in_version(version) {
        NamedBy::Id => Some(Key::Id(TopicId(*topic.topic_id.as_bytes()))),
        NamedBy::Name => TopicName::parse(&topic.name).ok().map(Key::Name),
    };
    let keys: Vec<Option<Key>> = topics.iter().map(key).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    // Who is answered before the round must not be told of success by a topic that is long gone.
    let found = if broker.config.deferred { broker.topics.find(&legal).await } else { broker.topics.find_for_producer(&legal).await };
    match found {
        Ok(found) => {
            let mut found = found.into_iter();
            (keys.iter().map(|key| key.as_ref().and_then(|_| found.next().flatten())).collect(), None)
        }
        Err(failed) => (vec![None; topics.len()], Some((error::meta(Asked::Produce, &failed), failed.to_string()))),
    }
}

/// What a request brings, not checked yet.
struct Sent {
    topics: Vec<TopicProduceData>,
    /// The topics, in their order.
    found: Vec<Option<Arc<Found>>>,
    /// Why all of it is refused.
    refusal: Option<(ResponseError, String)>,
    version: i16,
}

/// The good batches, and what was said of each.
struct CheckedRequest {
    batches: Vec<NewBatch>,
    topics: Vec<CheckedTopic>,
}

/// Checks all batches. Where records must be unpacked, that is done for a few requests at a time, and beside the workers that serve everybody:
/// a small batch can unfold to much.
async fn check(broker: &Arc<Broker>, sent: Sent) -> Result<CheckedRequest, Refusal> {
    if !sent.found.iter().flatten().any(|found| found.settings.unpacks()) {
        return Ok(check_topics(broker, sent));
    }
    // It goes with the work: who waits for that may be dropped, the work is not. Never closed; without a permit the work would go on all the same.
    let permit = Arc::clone(&broker.unpacking).acquire_owned().await;
    let broker = Arc::clone(broker);
    let work = move || {
        let checked = check_topics(&broker, sent);
        drop(permit);
        checked
    };
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal::Unanswerable(format!("batches could not be checked: {error}")))
}

fn check_topics(broker: &Broker, Sent { topics, found, refusal, version }: Sent) -> CheckedRequest {
    let mut batches = Vec::new();
    let mut checked = Vec::new();
    let mut unfolding = UNFOLDED_MAX;
    for (mut topic, found) in topics.into_iter().zip(found) {
        let partitions = std::mem::take(&mut topic.partition_data);
        let check = |partition: PartitionProduceData| {
            let result = match &refusal {
                Some((error, message)) => Err(Refused::new(*error, message.clone())),
                None => check_partition(broker, found.as_deref(), &partition, version, &mut unfolding),
            };
            (partition.index, result.map(|(batch, append_time)| push(&mut batches, batch, append_time)))
        };
        let partitions: Vec<_> = partitions.into_iter().map(check).collect();
        checked.push((topic, found, partitions));
    }
    CheckedRequest { batches, topics: checked }
}

/// Takes places for the good batches in one go, in the order of the request.
fn take_places(broker: &Broker, checked: CheckedRequest) -> Vec<TopicPlaces> {
    let mut tickets = broker.parts.producer.submit(checked.batches).into_iter();
    let mut place = |result: Result<Checked, Refused>| match result {
        Err(refused) => Place::Refused(refused),
        Ok((log, summary, append_time)) => match tickets.next() {
            Some(ticket) => Place::Taken { ticket, log, summary, append_time },
            None => Place::Refused(Refused::new(ResponseError::UnknownServerError, "the batch got no ticket")),
        },
    };
    let mut topic = |(sent, found, partitions): CheckedTopic| {
        let partitions = partitions.into_iter().map(|(index, result)| PartitionPlace { index, place: place(result) }).collect();
        TopicPlaces { sent, found, partitions }
    };
    checked.topics.into_iter().map(&mut topic).collect()
}

/// What is remembered of a batch that was handed on.
type Checked = (TopicPartition, BatchSummary, Option<Timestamp>);
type CheckedTopic = (TopicProduceData, Option<Arc<Found>>, Vec<(i32, Result<Checked, Refused>)>);

fn push(batches: &mut Vec<NewBatch>, batch: NewBatch, append_time: Option<Timestamp>) -> Checked {
    let checked = (batch.log, batch.summary, append_time);
    batches.push(batch);
    checked
}

fn check_partition(
    broker: &Broker,
    found: Option<&Found>,
    sent: &PartitionProduceData,
    version: i16,
    unfolding: &mut u64,
) -> Result<(NewBatch, Option<Timestamp>), Refused> {
    let found = found.ok_or_else(|| Refused::new(NamedBy::in_version(version).unknown(), "there is no such topic"))?;
    if !found.has_partition(sent.index) {
        return Err(Refused::new(ResponseError::UnknownTopicOrPartition, "the topic has no such partition"));
    }
    let settings = &found.settings;
    let limits =
        BatchLimits { max_bytes: settings.max_message_bytes.unwrap_or(broker.config.message_max_bytes), zstd: version >= ZSTD_SINCE };
    let bytes = sent.records.clone().unwrap_or_default();
    let summary = batch::check(&bytes, &limits).map_err(|refused| refuse_batch(broker, &refused))?;
    if summary.producer.is_some_and(|producer| producer.transactional) {
        return Err(Refused::new(ResponseError::InvalidTxnState, "transactions are not served"));
    }
    if settings.needs_keys {
        check_keys(&bytes, unfolding)?;
    }
    let (bytes, summary) = compressed(settings, bytes, summary, &limits, unfolding).map_err(|refused| refuse_batch(broker, &refused))?;
    let now = broker.parts.clock.now();
    let (bytes, summary, append_time) = if settings.log_append_time {
        let (bytes, summary) = batch::with_append_time(&bytes, &summary, now);
        (bytes, summary, Some(now))
    } else {
        check_time(found, &summary, now)?;
        (bytes, summary, None)
    };
    let log = TopicPartition::new(found.topic.id, sent.index);
    Ok((NewBatch { log, summary, bytes, wait: wait(broker, found, &summary) }, append_time))
}

fn refuse_batch(broker: &Broker, refused: &BatchError) -> Refused {
    broker.parts.produce.rejected(error::batch_reason(refused));
    Refused::new(error::batch(refused), refused.to_string())
}

/// The batch as the topic's `compression.type` wants it; it must fit then, too.
fn compressed(
    settings: &TopicSettings,
    bytes: Bytes,
    summary: BatchSummary,
    limits: &BatchLimits,
    unfolding: &mut u64,
) -> Result<(Bytes, BatchSummary), BatchError> {
    let Some(wanted) = settings.compression else { return Ok((bytes, summary)) };
    let (bytes, summary) = recompress(&bytes, &summary, wanted, unfolding)?;
    if summary.len > limits.max_bytes {
        return Err(BatchError::TooLarge { given: bytes.len(), limit: limits.max_bytes });
    }
    Ok((bytes, summary))
}

/// When the batch is answered. Only the verdict tells whether an idempotent producer's batch is a duplicate or out of order.
fn wait(broker: &Broker, found: &Found, summary: &BatchSummary) -> Wait {
    let deferred = match found.settings.produce_offsets {
        Some(ProduceOffsets::Deferred) => true,
        Some(ProduceOffsets::Verdict) => false,
        None => broker.config.deferred,
    };
    if deferred && summary.producer.is_none() { Wait::Durable } else { Wait::Verdict }
}

/// On a compacted topic a record without key could never be replaced.
fn check_keys(bytes: &Bytes, unfolding: &mut u64) -> Result<(), Refused> {
    let mut index = 0;
    let refusal = for_each_record(bytes, |record| {
        if !record.has_key {
            return std::ops::ControlFlow::Break((index, "a compacted topic does not take a record without key"));
        }
        let Some(left) = unfolding.checked_sub(record.len) else {
            return std::ops::ControlFlow::Break((index, "the records of the request unfold to more than a broker reads at once"));
        };
        *unfolding = left;
        index += 1;
        std::ops::ControlFlow::Continue(())
    });
    match refusal {
        Ok(None) => Ok(()),
        Ok(Some((record, message))) => {
            Err(Refused { error: ResponseError::InvalidRecord, message: message.to_owned(), record: Some(record) })
        }
        Err(refused) => Err(Refused::new(error::batch(&refused), refused.to_string())),
    }
}

/// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms` (KIP-937), by what the header says of the records.
fn check_time(found: &Found, summary: &BatchSummary, now: Timestamp) -> Result<(), Refused> {
    let (behind, ahead) = (now.0.saturating_sub(summary.base_timestamp.0), summary.max_timestamp.0.saturating_sub(now.0));
    let settings = &found.settings;
    if summary.max_timestamp >= Timestamp(0) && (behind > settings.timestamp_before_ms || ahead > settings.timestamp_after_ms) {
        let message =
            format!("a timestamp is too far from the broker's clock: {} to {}", summary.base_timestamp.0, summary.max_timestamp.0);
        return Err(Refused::new(ResponseError::InvalidTimestamp, message));
    }
    Ok(())
}

/// Waits for every ticket, until the client's patience ends.
async fn settle(broker: &Broker, topics: Vec<TopicPlaces>, patience: Instant, named_by: NamedBy) -> ProduceResponse {
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let answer = match partition.place {
                Place::Refused(refused) => refused_partition(refused),
                Place::Taken { ticket, log, summary, append_time } => {
                    let fate = Fate::of(ticket, patience, named_by).await;
                    fate.report(broker, topic.found.as_deref(), &summary);
                    fate.partition(broker, log, append_time)
                }
            };
            if answer.error_code != error::NONE {
                let name = topic.found.as_ref().map_or("", |found| found.topic.name.as_str());
                broker.parts.produce.failed(name, answer.error_code);
            }
            partitions.push(answer.with_index(partition.index));
        }
        let response = TopicProduceResponse::default().with_name(topic.sent.name).with_topic_id(topic.sent.topic_id);
        responses.push(response.with_partition_responses(partitions));
    }
    ProduceResponse::default().with_responses(responses)
}

/// How a batch that took a place ended.
enum Fate {
    Appended(Appended),
    Failed(ResponseError, String),
}

impl Fate {
    async fn of(ticket: Ticket, patience: Instant, named_by: NamedBy) -> Fate {
        match timeout_at(patience, ticket).await {
            Ok(Ok(Ok(appended))) => Fate::Appended(appended),
            Ok(Ok(Err(failed))) => Fate::Failed(error::produce(named_by, &failed), failed.to_string()),
            // The agent is going down; whether the batch made it is not known.
            Ok(Err(_)) => Fate::Failed(ResponseError::RequestTimedOut, "the agent is going down".to_owned()),
            Err(_) => Fate::Failed(ResponseError::RequestTimedOut, "the batch was not settled in the time the request allows".to_owned()),
        }
    }

    fn report(&self, broker: &Broker, found: Option<&Found>, summary: &BatchSummary) {
        let Some(found) = found else { return };
        match self {
            Fate::Appended(_) => {
                broker.parts.produce.appended(found.topic.name.as_str(), u64::from(summary.len), u64::from(summary.record_count));
            }
            // The topic may have been deleted: the next request asks anew.
            Fate::Failed(ResponseError::UnknownTopicOrPartition | ResponseError::UnknownTopicId, _) => broker.topics.forget(&found.topic),
            Fate::Failed(..) => {}
        }
    }

    fn partition(self, broker: &Broker, log: TopicPartition, append_time: Option<Timestamp>) -> PartitionProduceResponse {
        let base_offset = match self {
            Fate::Appended(Appended::At(offset)) => offset,
            Fate::Appended(Appended::Durable) => Offset(-1),
            Fate::Failed(error, message) => return refused_partition(Refused::new(error, message)),
        };
        let log_start = broker.parts.watermarks.known(log).map_or(Offset(0), |head| head.log_start);
        PartitionProduceResponse::default()
            .with_base_offset(base_offset.0)
            .with_log_append_time_ms(append_time.unwrap_or(Timestamp::NONE).0)
            .with_log_start_offset(log_start.0)
    }
}

fn refused_partition(refused: Refused) -> PartitionProduceResponse {
    let message = StrBytes::from_string(refused.message);
    let record = |index: u32| {
        BatchIndexAndErrorMessage::default().with_batch_index(index as i32).with_batch_index_error_message(Some(message.clone()))
    };
    PartitionProduceResponse::default()
        .with_error_code(refused.error.code())
        .with_base_offset(-1)
        .with_record_errors(refused.record.map(record).into_iter().collect())
        .with_error_message(Some(message))
}
