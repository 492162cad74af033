//! Consumers that had better read elsewhere (KIP-392): from an agent of their own rack, whose cache their neighbours keep warm, without traffic between zones.
//!
//! Safe, since every agent serves every partition up to the same watermarks. As in Kafka such an answer comes at once and has no records (librdkafka would
//! throw them away). A client that comes back soon has not got through to where it was sent, or is about to learn who leads from elsewhere: it is served
//! here, and asked again later.

use std::time::Duration;

use kafka_protocol::messages::FetchRequest as WireRequest;
use tokio::time::Instant;

use super::broker::Broker;
use super::error;
use super::placement::Leaders;
use crate::fetch::{FetchError, FetchLog, FetchResponse, Fetched};
use crate::protocol::RequestHeader;
use crate::protocol::fetch_response::FetchAnswer;
use crate::types::{Head, NodeId, TopicPartition};

/// How long a client that was sent away and came back is served. librdkafka takes two hints within a minute for a fault of the cluster.
const STAYS: Duration = Duration::from_mins(2);

/// Where to read each log of a request, and its head; `None` for a log that does not exist.
pub(super) struct Elsewhere {
    logs: Vec<Option<(NodeId, Head)>>,
}

/// `None` if the client is to be served here.
pub(super) async fn elsewhere(broker: &Broker, sent: &WireRequest, header: &RequestHeader, logs: &[FetchLog]) -> Option<Elsewhere> {
    let rack = &*sent.rack_id;
    let stays = header.notes.sent_away_at().is_some_and(|at| at.elapsed() < STAYS);
    if rack.is_empty() || stays || logs.is_empty() || broker.config.me.agent().rack.as_deref() == Some(rack) {
        return None;
    }
    let nodes = broker.nodes.live().await;
    let is_here = broker.nodes.mine(&nodes).is_none_or(|me| me.is_in(rack));
    if is_here || !nodes.iter().any(|node| node.is_in(rack)) {
        return None;
    }
    let logs: Vec<TopicPartition> = logs.iter().map(|log| log.log).collect();
    let heads = match broker.parts.metastore.heads(&logs).await {
        Ok(heads) => heads,
        Err(error) => {
            tracing::debug!(%error, "a consumer of another rack is served here");
            return None;
        }
    };
    header.notes.sent_away(Instant::now());
    let leaders = Leaders::for_client(&nodes, Some(rack));
    let logs = logs.iter().zip(heads).map(|(log, head)| head.map(|head| (leaders.of(*log), head))).collect();
    Some(Elsewhere { logs })
}

impl Elsewhere {
    /// What was read: nothing.
    pub(super) fn heads(&self) -> FetchResponse {
        let nothing = |(_, head): &(NodeId, Head)| Fetched { head: *head, records: Vec::new(), record_count: 0, ranges_read: 0 };
        self.logs.iter().map(|log| log.as_ref().map(nothing).ok_or(FetchError::UnknownLog)).collect()
    }

    /// The answer with the hints in it; made of [`Elsewhere::heads`], it has as many logs without an error as there are hints.
    pub(super) fn name_in(&self, mut answer: FetchAnswer) -> FetchAnswer {
        let mut hints = self.logs.iter().flatten().map(|(node, _)| *node);
        let partitions = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == error::NONE) {
            partition.preferred = hints.next();
        }
        answer
    }
}
