//! DescribeLogDirs: v1-4 (KIP-113). Sizes of logs, from their segments. There is one directory, the object store; each node tells of the partitions it
//! leads, so that a client that asks every node counts each partition once.
//!
//! v2 flexible. v3 a top-level error. v4 sizes of the volume (unknown).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_response::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName as WireName};
use kafka_protocol::protocol::StrBytes;

use super::broker::{Broker, Outcome};
use super::error::{self, Asked};
use super::placement;
use super::topics::{self, Found};
use crate::metastore::{MetaError, TopicQuery};
use crate::types::{TopicId, TopicName, TopicPartition};

const ERRORS_SINCE: i16 = 3;
const UNKNOWN: i64 = -1;

/// Which partitions a client asks about: of each topic these; `None` for all of all.
type Wanted = Option<HashMap<TopicName, HashSet<i32>>>;

pub(super) async fn answer(broker: Arc<Broker>, request: DescribeLogDirsRequest, version: i16) -> Outcome<DescribeLogDirsResponse> {
    let result = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_string(broker.config.log_dir.clone()))
        .with_total_bytes(UNKNOWN)
        .with_usable_bytes(UNKNOWN);
    let answer = DescribeLogDirsResponse::default();
    match describe(&broker, &wanted(&request)).await {
        Ok(topics) => Outcome::fine(answer.with_results(vec![result.with_topics(topics)])),
        Err(failed) => {
            let code = error::meta(Asked::Log, &failed).code();
            let answer = if version >= ERRORS_SINCE { answer.with_error_code(code) } else { answer };
            Outcome::new(answer.with_results(vec![result.with_error_code(code)]), code)
        }
    }
}

fn wanted(request: &DescribeLogDirsRequest) -> Wanted {
    let mut wanted: HashMap<TopicName, HashSet<i32>> = HashMap::new();
    for topic in request.topics.as_ref()? {
        if let Ok(name) = TopicName::parse(&topic.topic) {
            wanted.entry(name).or_default().extend(&topic.partitions);
        }
    }
    Some(wanted)
}

async fn describe(broker: &Broker, wanted: &Wanted) -> Result<Vec<DescribeLogDirsTopic>, MetaError> {
    let query = wanted.as_ref().map_or(TopicQuery::All, |wanted| TopicQuery::Names(wanted.keys().cloned().collect()));
    let found = topics::read(&broker.topics, &query).await?;
    let ids: Vec<TopicId> = found.iter().map(|found| found.topic.id).collect();
    let sizes: BTreeMap<TopicPartition, u64> = broker.parts.metastore.log_sizes(&ids).await?.into_iter().collect();
    let nodes = broker.nodes.live().await;
    let mine = broker.nodes.mine(&nodes).map(|node| node.id);
    let is_told = |found: &Found, index: i32| {
        let asked = wanted.as_ref().is_none_or(|wanted| wanted.get(&found.topic.name).is_some_and(|indexes| indexes.contains(&index)));
        asked && mine.is_none_or(|me| placement::leader(TopicPartition::new(found.topic.id, index), &nodes) == me)
    };
    let topics = found.iter().map(|found| describe_topic(found, &sizes, |index| is_told(found, index)));
    Ok(topics.filter(|topic| !topic.partitions.is_empty()).collect())
}

fn describe_topic(found: &Found, sizes: &BTreeMap<TopicPartition, u64>, is_told: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
    let size = |index: i32| sizes.get(&TopicPartition::new(found.topic.id, index)).copied().unwrap_or(0);
    let partition = |index: i32| {
        DescribeLogDirsPartition::default().with_partition_index(index).with_partition_size(i64::try_from(size(index)).unwrap_or(i64::MAX))
    };
    DescribeLogDirsTopic::default()
        .with_name(WireName(StrBytes::from_string(found.topic.name.to_string())))
        .with_partitions((0..found.topic.partitions).filter(|index| is_told(*index)).map(partition).collect())
}
