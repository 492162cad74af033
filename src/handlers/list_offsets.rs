//! ListOffsets: v1-11. The ends of logs, and offsets by time.
//!
//! v2 isolation level. v4 leader epochs. v6 flexible. v7 the record with the largest timestamp (-3, KIP-734). v8 the first offset on local disks (-4,
//! KIP-405). v9 the last tiered offset (-5, KIP-1005). v10 a timeout, which we do not need. v11 the first offset not yet tiered (-6, KIP-1023).
//!
//! There are no tiers here: everything counts as local, and nothing as tiered or waiting to be.

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::broker::{Broker, Outcome};
use super::error::{self, Asked, NamedBy};
use super::topics::{Found, Key};
use crate::fetch::FetchError;
use crate::types::{Head, Offset, Timestamp, TopicName, TopicPartition};

/// Look-ups by time of one request that run side by side.
const LOOK_UPS: usize = 8;
const READ_COMMITTED: i8 = 1;
const EPOCHS_SINCE: i16 = 4;

/// What a request asks for in place of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Latest,
    Earliest,
    Newest,
    /// Offsets that only a broker with tiers has.
    Tiered,
    Since(Timestamp),
}

impl Wanted {
    fn of(timestamp: i64, version: i16) -> Result<Wanted, ResponseError> {
        match (timestamp, version) {
            (-1, _) => Ok(Wanted::Latest),
            (-2, _) | (-4, 8..) => Ok(Wanted::Earliest),
            (-3, 7..) => Ok(Wanted::Newest),
            (-5, 9..) | (-6, 11..) => Ok(Wanted::Tiered),
            (0.., _) => Ok(Wanted::Since(Timestamp(timestamp))),
            (..0, _) => Err(ResponseError::UnsupportedVersion),
        }
    }
}

/// An offset and the time of its record, where there is one.
type Place = (Offset, Timestamp);
const NOWHERE: Place = (Offset(-1), Timestamp::NONE);

pub(super) async fn answer(broker: Arc<Broker>, request: ListOffsetsRequest, version: i16) -> Outcome<ListOffsetsResponse> {
    let asked = ask(&broker, &request, version).await;
    let ends = if request.isolation_level == READ_COMMITTED { Ends::Stable } else { Ends::All };
    let heads = heads(&broker, &asked).await;
    let look_ups: Vec<_> = asked.into_iter().zip(heads).map(|(asked, head)| look_up(&broker, asked, head, ends)).collect();
    let places: Vec<Result<Place, ResponseError>> = stream::iter(look_ups).buffered(LOOK_UPS).collect().await;
    let code = error::first(places.iter().map(|place| place.as_ref().err().map_or(error::NONE, ResponseError::code)));
    let mut places = places.into_iter();
    let partition = |partition: &ListOffsetsPartition, place| answer_partition(partition.partition_index, place, version);
    let mut topic = |topic: &ListOffsetsTopic| {
        let partitions = topic.partitions.iter().zip(places.by_ref()).map(|(p, place)| partition(p, place)).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    };
    Outcome::new(ListOffsetsResponse::default().with_topics(request.topics.iter().map(&mut topic).collect()), code)
}

/// Which end a reader may see.
#[derive(Debug, Clone, Copy)]
enum Ends {
    All,
    Stable,
}

/// What one partition of the request asks for.
type Ask = Result<(TopicPartition, Wanted), ResponseError>;

/// For each partition in order: the log and what is wanted of it, or why nothing can be.
async fn ask(broker: &Broker, request: &ListOffsetsRequest, version: i16) -> Vec<Ask> {
    let keys: Vec<Option<Key>> = request.topics.iter().map(|topic| TopicName::parse(&topic.name).ok().map(Key::Name)).collect();
    let legal: Vec<Key> = keys.iter().flatten().cloned().collect();
    let partitions = || request.topics.iter().flat_map(|topic| &topic.partitions);
    let found = match broker.topics.find(&legal).await {
        Ok(found) => found,
        Err(failed) => {
            let error = error::meta(Asked::Log, &failed);
            return partitions().map(|_| Err(error)).collect();
        }
    };
    let mut found = found.into_iter();
    let mut seen = HashSet::new();
    let mut asked = Vec::new();
    for (topic, key) in request.topics.iter().zip(&keys) {
        let found: Option<Arc<Found>> = key.as_ref().and_then(|_| found.next().flatten());
        for partition in &topic.partitions {
            let twice = !seen.insert((&topic.name, partition.partition_index));
            asked.push(if twice { Err(ResponseError::InvalidRequest) } else { ask_one(found.as_deref(), partition, version) });
        }
    }
    asked
}

fn ask_one(found: Option<&Found>, partition: &ListOffsetsPartition, version: i16) -> Ask {
    let found = found.filter(|found| found.has_partition(partition.partition_index)).ok_or(NamedBy::Name.unknown())?;
    error::check_epoch(partition.current_leader_epoch)?;
    let wanted = Wanted::of(partition.timestamp, version)?;
    Ok((TopicPartition::new(found.topic.id, partition.partition_index), wanted))
}

/// The heads of all logs asked for, in one statement; in the order of what was asked.
async fn heads(broker: &Broker, asked: &[Ask]) -> Vec<Result<Head, ResponseError>> {
    let logs: Vec<TopicPartition> = asked.iter().flatten().map(|(log, _)| *log).collect();
    let heads = if logs.is_empty() { Ok(Vec::new()) } else { broker.parts.metastore.heads(&logs).await };
    match heads {
        Ok(heads) => {
            let mut heads = heads.into_iter();
            let mut next = |asked: &Ask| match asked {
                Ok(_) => heads.next().flatten().ok_or(NamedBy::Name.unknown()),
                Err(error) => Err(*error),
            };
            asked.iter().map(&mut next).collect()
        }
        Err(failed) => {
            let error = error::meta(Asked::Log, &failed);
            asked.iter().map(|_| Err(error)).collect()
        }
    }
}

async fn look_up(broker: &Broker, asked: Ask, head: Result<Head, ResponseError>, ends: Ends) -> Result<Place, ResponseError> {
    let ((log, wanted), head) = (asked?, head?);
    let end = match ends {
        Ends::All => head.high_watermark,
        Ends::Stable => head.last_stable,
    };
    let found = match wanted {
        Wanted::Latest => return Ok((end, Timestamp::NONE)),
        Wanted::Earliest => return Ok((head.log_start, Timestamp::NONE)),
        Wanted::Tiered => return Ok(NOWHERE),
        Wanted::Newest => broker.parts.reader.max_timestamp(log).await,
        Wanted::Since(at) => broker.parts.reader.offset_for_timestamp(log, at).await,
    };
    match found {
        Ok(found) => Ok(found.filter(|(offset, _)| *offset < end).unwrap_or(NOWHERE)),
        Err(failed) => Err(look_up_failed(&failed)),
    }
}

fn look_up_failed(failed: &FetchError) -> ResponseError {
    tracing::debug!(error = %failed, "an offset cannot be found by time");
    error::fetch(NamedBy::Name, failed)
}

fn answer_partition(index: i32, place: Result<Place, ResponseError>, version: i16) -> ListOffsetsPartitionResponse {
    let answer = ListOffsetsPartitionResponse::default().with_partition_index(index);
    let (offset, timestamp) = match place {
        Ok(place) => place,
        Err(error) => return answer.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
    };
    // An offset that was not found has no epoch, and old versions have none at all.
    let epoch = if version >= EPOCHS_SINCE && offset >= Offset(0) { 0 } else { -1 };
    answer.with_offset(offset.0).with_timestamp(timestamp.0).with_leader_epoch(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_times_are_known_from_their_version_on() {
        assert_eq!(Wanted::of(-3, 6), Err(ResponseError::UnsupportedVersion));
        assert_eq!(Wanted::of(-3, 7), Ok(Wanted::Newest));
        assert_eq!(Wanted::of(-4, 8), Ok(Wanted::Earliest));
        assert_eq!(Wanted::of(-5, 8), Err(ResponseError::UnsupportedVersion));
        assert_eq!(Wanted::of(-6, 11), Ok(Wanted::Tiered));
        assert_eq!(Wanted::of(-7, 11), Err(ResponseError::UnsupportedVersion));
        assert_eq!(Wanted::of(0, 1), Ok(Wanted::Since(Timestamp(0))));
    }
}
