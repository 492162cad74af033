//! Fetch: v4-18. Reads logs; waits for data if there is too little.
//!
//! v4 isolation level, batches of magic 2. v5 log start offset. v7 sessions (KIP-227; always declined: session id 0). v9 leader epochs. v11 rack. v12
//! flexible. v13 topic ids instead of names (KIP-516). v15 to v18: fields of followers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest as WireRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};

use super::broker::Broker;
use super::error::{self, Asked, NamedBy};
use super::nearer;
use super::serve::{Begun, OnDisconnect, Refusal, Reply};
use super::stopwatch::Stopwatch;
use super::topics::{Found, Key};
use crate::fetch::{FetchError, FetchLog, FetchRequest, FetchResponse, Fetched};
use crate::protocol::fetch_response::{FetchAnswer, FetchedPartition, FetchedTopic};
use crate::protocol::{Request, RequestHeader, codec};
use crate::types::{Offset, TopicId, TopicName, TopicPartition};

const IDS_SINCE: i16 = 13;
const READ_COMMITTED: i8 = 1;

pub(super) fn begin(broker: &Arc<Broker>, request: &Request) -> Result<Begun, Refusal> {
    let clock = Stopwatch::start(&broker.parts.requests, &request.header);
    let sent: WireRequest = codec::decode(request)?;
    let broker = Arc::clone(broker);
    let answer = async move {
        let answer = answer(&broker, &sent, &clock.header).await;
        let codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
        let code = error::first([answer.error_code].into_iter().chain(codes));
        let rope = answer.encode(&clock.header);
        clock.answered(code);
        Ok(rope)
    };
    Ok(Begun { answer: answer.boxed(), on_disconnect: OnDisconnect::Drop, reply: Reply::InOrder })
}

async fn answer(broker: &Broker, sent: &WireRequest, header: &RequestHeader) -> FetchAnswer {
    // We never gave a session out, so whoever goes on with one must begin anew.
    if sent.session_id != 0 && sent.session_epoch > 0 {
        return FetchAnswer { error_code: ResponseError::FetchSessionIdNotFound.code(), topics: Vec::new() };
    }
    let named_by = if header.version >= IDS_SINCE { NamedBy::Id } else { NamedBy::Name };
    let found = match look_up(broker, sent, named_by).await {
        Ok(found) => found,
        Err(error) => return refuse_all(sent, error),
    };
    let plan = Plan::of(sent, &found, named_by);
    header.notes.told_rack(&sent.rack_id);
    let request = plan.request(broker, sent);
    if let Some(elsewhere) = nearer::elsewhere(broker, sent, header, &request.logs).await {
        let rest = elsewhere.rest(request);
        let rest = if rest.logs.is_empty() { Vec::new() } else { broker.parts.reader.fetch(rest).await };
        let results = elsewhere.with(rest);
        let read: Vec<bool> = results.iter().map(Result::is_ok).collect();
        return elsewhere.name_in(plan.answer(broker, sent, results), &read);
    }
    let results = if request.logs.is_empty() { Vec::new() } else { broker.parts.reader.fetch(request).await };
    plan.answer(broker, sent, results)
}

async fn look_up(broker: &Broker, sent: &WireRequest, named_by: NamedBy) -> Result<HashMap<Key, Arc<Found>>, ResponseError> {
    let keys: Vec<Key> = sent.topics.iter().filter_map(|topic| key(topic, named_by)).collect();
    let found = broker.topics.find(&keys).await.map_err(|failed| error::meta(Asked::Log, &failed))?;
    Ok(keys.into_iter().zip(found).filter_map(|(key, found)| Some((key, found?))).collect())
}

fn key(topic: &FetchTopic, named_by: NamedBy) -> Option<Key> {
    match named_by {
        NamedBy::Id => Some(Key::Id(TopicId(*topic.topic_id.as_bytes()))),
        NamedBy::Name => TopicName::parse(&topic.topic).ok().map(Key::Name),
    }
}

fn refuse_all(sent: &WireRequest, error: ResponseError) -> FetchAnswer {
    let refused = |partition: &FetchPartition| failed(partition.partition, error, sent);
    let topic = |topic: &FetchTopic| answer_topic(topic, topic.partitions.iter().map(refused).collect());
    FetchAnswer { error_code: error::NONE, topics: sent.topics.iter().map(topic).collect() }
}

type PlannedTopic = (Option<Arc<Found>>, Vec<Result<FetchLog, ResponseError>>);

/// What is asked of the room for each partition of the request, in its order, or why nothing is.
struct Plan {
    topics: Vec<PlannedTopic>,
    named_by: NamedBy,
}

impl Plan {
    fn of(sent: &WireRequest, found: &HashMap<Key, Arc<Found>>, named_by: NamedBy) -> Plan {
        let topic = |topic: &FetchTopic| {
            let found = key(topic, named_by).and_then(|key| found.get(&key).cloned());
            let partitions = topic.partitions.iter().map(|partition| log(partition, found.as_deref(), named_by)).collect();
            (found, partitions)
        };
        Plan { topics: sent.topics.iter().map(topic).collect(), named_by }
    }

    fn request(&self, broker: &Broker, sent: &WireRequest) -> FetchRequest {
        let unsigned = |number: i32| u64::try_from(number).unwrap_or(0);
        let all = || self.topics.iter().flat_map(|(_, partitions)| partitions);
        // Where something is wrong already, the client is told at once.
        let patient = all().all(Result::is_ok);
        FetchRequest {
            logs: all().flatten().copied().collect(),
            max_bytes: unsigned(sent.max_bytes).min(broker.config.fetch_max_bytes),
            min_bytes: unsigned(sent.min_bytes),
            max_wait: if patient { Duration::from_millis(unsigned(sent.max_wait_ms)) } else { Duration::ZERO },
        }
    }

    fn answer(self, broker: &Broker, sent: &WireRequest, results: FetchResponse) -> FetchAnswer {
        let mut results = results.into_iter();
        let named_by = self.named_by;
        let mut partition = |sent_partition: &FetchPartition, planned: Result<FetchLog, ResponseError>, found: Option<&Arc<Found>>| {
            let result = planned.map(|_| results.next().unwrap_or(Err(FetchError::Unavailable("the log was not read".to_owned()))));
            match result {
                Err(error) => failed(sent_partition.partition, error, sent),
                Ok(result) => answer_partition(broker, sent_partition, found, result, sent, named_by),
            }
        };
        let mut topic = |(sent_topic, (found, planned)): (&FetchTopic, PlannedTopic)| {
            let partitions = sent_topic.partitions.iter().zip(planned).map(|(sent, planned)| partition(sent, planned, found.as_ref()));
            answer_topic(sent_topic, partitions.collect())
        };
        FetchAnswer { error_code: error::NONE, topics: sent.topics.iter().zip(self.topics).map(&mut topic).collect() }
    }
}

fn log(partition: &FetchPartition, found: Option<&Found>, named_by: NamedBy) -> Result<FetchLog, ResponseError> {
    let found = found.ok_or(named_by.unknown())?;
    if !found.has_partition(partition.partition) {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    error::check_epoch(partition.current_leader_epoch)?;
    Ok(FetchLog {
        log: TopicPartition::new(found.topic.id, partition.partition),
        from: Offset(partition.fetch_offset),
        max_bytes: u64::try_from(partition.partition_max_bytes).unwrap_or(0),
    })
}

fn answer_topic(sent: &FetchTopic, partitions: Vec<FetchedPartition>) -> FetchedTopic {
    FetchedTopic { name: sent.topic.0.clone(), id: TopicId(*sent.topic_id.as_bytes()), partitions }
}

fn answer_partition(
    broker: &Broker,
    partition: &FetchPartition,
    found: Option<&Arc<Found>>,
    result: Result<Fetched, FetchError>,
    sent: &WireRequest,
    named_by: NamedBy,
) -> FetchedPartition {
    match result {
        Ok(fetched) => {
            if let Some(found) = found.filter(|_| fetched.record_count > 0) {
                let name = found.topic.name.as_str();
                broker.parts.fetch.served(name, fetched.bytes(), fetched.record_count);
                broker.parts.fetch.downloaded(name, fetched.ranges_read);
            }
            FetchedPartition {
                high_watermark: fetched.head.high_watermark,
                last_stable: fetched.head.last_stable,
                log_start: fetched.head.log_start,
                records: fetched.records,
                ..empty(partition.partition, sent)
            }
        }
        Err(error) => {
            if let (FetchError::UnknownLog, Some(found)) = (&error, found) {
                broker.topics.forget(&found.topic);
            }
            if let FetchError::Corrupt(what) = &error {
                tracing::error!(partition = partition.partition, what, "a log cannot be read");
            }
            let answer = failed(partition.partition, error::fetch(named_by, &error), sent);
            match error {
                // So that the client knows where it may read.
                FetchError::OffsetOutOfRange { head, .. } => FetchedPartition {
                    high_watermark: head.high_watermark,
                    last_stable: head.last_stable,
                    log_start: head.log_start,
                    ..answer
                },
                FetchError::UnknownLog | FetchError::Unavailable(_) | FetchError::Corrupt(_) => answer,
            }
        }
    }
}

fn failed(index: i32, error: ResponseError, sent: &WireRequest) -> FetchedPartition {
    FetchedPartition { error_code: error.code(), ..empty(index, sent) }
}

fn empty(index: i32, sent: &WireRequest) -> FetchedPartition {
    FetchedPartition {
        index,
        error_code: error::NONE,
        high_watermark: Offset(-1),
        last_stable: Offset(-1),
        log_start: Offset(-1),
        preferred: None,
        aborted: (sent.isolation_level == READ_COMMITTED).then(Vec::new),
        records: Vec::new(),
    }
}
