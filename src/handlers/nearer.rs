//! Consumers that had better read elsewhere (KIP-392): from an agent of their own rack, whose cache their neighbours keep warm, without traffic between zones.
//!
//! Safe, since every agent serves every partition up to the same watermarks. As in Kafka such an answer comes at once and has no records (librdkafka would
//! throw them away). A client that soon comes back for a log has not got through to where it was sent: it is served here, and told again later.

use std::time::Duration;

use kafka_protocol::messages::FetchRequest as WireRequest;
use tokio::time::Instant;

use super::broker::Broker;
use super::error;
use super::placement::Leaders;
use crate::fetch::{FetchError, FetchLog, FetchRequest, FetchResponse, Fetched};
use crate::protocol::RequestHeader;
use crate::protocol::fetch_response::FetchAnswer;
use crate::types::{Head, NodeId, TopicPartition};

/// How long a client that was sent away and came back is served. librdkafka takes two hints within a minute for a fault of the cluster.
const STAYS: Duration = Duration::from_mins(2);

/// For each log of a request: where it is to be read, and its head (`None` if it does not exist); or `None` if it is to be read here.
pub(super) struct Elsewhere {
    logs: Vec<Option<(NodeId, Option<Head>)>>,
}

/// `None` if all are to be read here.
pub(super) async fn elsewhere(broker: &Broker, sent: &WireRequest, header: &RequestHeader, logs: &[FetchLog]) -> Option<Elsewhere> {
    let rack = &*sent.rack_id;
    if rack.is_empty() || logs.is_empty() || broker.config.me.agent().rack.as_deref() == Some(rack) {
        return None;
    }
    let nodes = broker.nodes.live().await;
    let is_here = broker.nodes.mine(&nodes).is_none_or(|me| me.is_in(rack));
    if is_here || !nodes.iter().any(|node| node.is_in(rack)) {
        return None;
    }
    let logs: Vec<TopicPartition> = logs.iter().map(|log| log.log).collect();
    let leaving = header.notes.send_away(&logs, Instant::now(), STAYS);
    if !leaving.contains(&true) {
        return None;
    }
    let heads = match broker.parts.metastore.heads(&logs).await {
        Ok(heads) => heads,
        Err(error) => {
            tracing::debug!(%error, "a consumer of another rack is served here");
            return None;
        }
    };
    let leaders = Leaders::for_client(&nodes, Some(rack));
    let place = |((log, head), leaves): ((&TopicPartition, Option<Head>), bool)| leaves.then(|| (leaders.of(*log), head));
    Some(Elsewhere { logs: logs.iter().zip(heads).zip(leaving).map(place).collect() })
}

impl Elsewhere {
    /// What is left to be read here. The client is not to wait for it.
    pub(super) fn rest(&self, request: FetchRequest) -> FetchRequest {
        let here = request.logs.into_iter().zip(&self.logs).filter(|(_, place)| place.is_none());
        FetchRequest { logs: here.map(|(log, _)| log).collect(), max_wait: Duration::ZERO, ..request }
    }

    /// What was read of all: nothing of those that are to be read elsewhere.
    pub(super) fn with(&self, rest: FetchResponse) -> FetchResponse {
        let mut rest = rest.into_iter();
        let mut result = |place: &Option<(NodeId, Option<Head>)>| match place {
            None => rest.next().unwrap_or(Err(FetchError::Unavailable("the log was not read".to_owned()))),
            Some((_, None)) => Err(FetchError::UnknownLog),
            Some((_, Some(head))) => Ok(Fetched { head: *head, records: Vec::new(), record_count: 0, ranges_read: 0 }),
        };
        self.logs.iter().map(&mut result).collect()
    }

    /// The answer made of `results`, with the hints in it: its partitions without an error are the results that are none, in their order.
    pub(super) fn name_in(&self, mut answer: FetchAnswer, read: &[bool]) -> FetchAnswer {
        let mut hints = self.logs.iter().zip(read).filter(|(_, read)| **read).map(|(place, _)| place.map(|(node, _)| node));
        let partitions = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == error::NONE) {
            partition.preferred = hints.next().flatten();
        }
        answer
    }
}
