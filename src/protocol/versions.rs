//! The one table of Kafka's APIs: which exist, which versions are advertised, which are served and why others are not.
//!
//! ApiVersions, the dispatcher, the names in metrics and the documentation all read this table. The ranges are those of Apache Kafka
//! 4.x, so that every client that works with it finds what it looks for.

use super::shapes::{self, Struct};

/// The APIs that are served: what the dispatcher matches on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    Produce,
    Fetch,
    ListOffsets,
    Metadata,
    OffsetCommit,
    OffsetFetch,
    FindCoordinator,
    JoinGroup,
    Heartbeat,
    LeaveGroup,
    SyncGroup,
    DescribeGroups,
    ListGroups,
    ApiVersions,
    CreateTopics,
    DeleteTopics,
    DeleteRecords,
    InitProducerId,
    OffsetForLeaderEpoch,
    DescribeAcls,
    CreateAcls,
    DeleteAcls,
    DescribeConfigs,
    AlterConfigs,
    DescribeLogDirs,
    CreatePartitions,
    ElectLeaders,
    IncrementalAlterConfigs,
    AlterPartitionReassignments,
    ListPartitionReassignments,
    DescribeClientQuotas,
    DescribeUserScramCredentials,
    UpdateFeatures,
    DeleteGroups,
    OffsetDelete,
    ConsumerGroupHeartbeat,
    ConsumerGroupDescribe,
    DescribeCluster,
    DescribeProducers,
    ListConfigResources,
    DescribeTopicPartitions,
}

/// Whether an API is served.
#[derive(Debug, Clone, Copy)]
pub enum State {
    /// With the shape of its requests.
    Served(Api, &'static Struct),
    /// Not advertised, for this reason.
    NotServed(&'static str),
}

/// One API.
#[derive(Debug, Clone, Copy)]
pub struct ApiRow {
    pub key: i16,
    /// Kafka's name for it, as in metrics.
    pub name: &'static str,
    /// The lowest and highest version advertised (of an API that is not served: Kafka's own).
    pub min: i16,
    pub max: i16,
    /// The first version with compact types and tagged fields (KIP-482).
    pub flexible_from: i16,
    pub state: State,
}

impl ApiRow {
    /// True for the versions advertised.
    #[must_use]
    pub fn covers(&self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }

    #[must_use]
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }

    /// True if an answer of this version begins with tagged fields. Never for ApiVersions, whose readers may not know the version yet.
    #[must_use]
    pub fn has_flexible_answer(&self, version: i16) -> bool {
        self.key != API_VERSIONS_KEY && self.is_flexible(version)
    }

    /// Which served API this is.
    #[must_use]
    pub fn served(&self) -> Option<Api> {
        match self.state {
            State::Served(api, _) => Some(api),
            State::NotServed(_) => None,
        }
    }
}

const API_VERSIONS_KEY: i16 = 18;

const fn served(key: i16, name: &'static str, versions: (i16, i16), flexible_from: i16, api: Api, shape: &'static Struct) -> ApiRow {
    ApiRow { key, name, min: versions.0, max: versions.1, flexible_from, state: State::Served(api, shape) }
}

const fn absent(key: i16, name: &'static str, versions: (i16, i16), flexible_from: i16, reason: &'static str) -> ApiRow {
    ApiRow { key, name, min: versions.0, max: versions.1, flexible_from, state: State::NotServed(reason) }
}

const TRANSACTIONS: &str = "transactions are not served yet";
const QUOTAS: &str = "there are no quotas to set: no client is throttled";
const SECURITY: &str = "authentication is not served: there are no users, passwords or tokens";
const STORE: &str = "there are no log directories to move between: records live in the object store";
const QUORUM: &str = "there is no controller quorum: metadata lives in the metastore, and agents that are gone leave by themselves";
const TELEMETRY: &str = "client telemetry is not collected; clients that find this missing do not send any, and say nothing of it";
const SHARE: &str = "share groups are not served";
const STREAMS: &str = "streams groups are not served";
const INTERNAL: &str = "between brokers and controllers of Apache Kafka; no client sends it";
const REMOVED: &str = "gone from Apache Kafka 4; no client ever sent it";

/// In order of key.
pub const APIS: &[ApiRow] = &[
    // Produce 0-2 are advertised for old librdkafkas (KAFKA-18659), and answered UNSUPPORTED_VERSION.
    served(0, "Produce", (0, 13), 9, Api::Produce, &shapes::PRODUCE),
    served(1, "Fetch", (4, 18), 12, Api::Fetch, &shapes::FETCH),
    served(2, "ListOffsets", (1, 11), 6, Api::ListOffsets, &shapes::LIST_OFFSETS),
    served(3, "Metadata", (0, 13), 9, Api::Metadata, &shapes::METADATA),
    absent(4, "LeaderAndIsr", (0, 0), i16::MAX, REMOVED),
    absent(5, "StopReplica", (0, 0), i16::MAX, REMOVED),
    absent(6, "UpdateMetadata", (0, 0), i16::MAX, REMOVED),
    absent(7, "ControlledShutdown", (0, 0), i16::MAX, REMOVED),
    served(8, "OffsetCommit", (2, 10), 8, Api::OffsetCommit, &shapes::OFFSET_COMMIT),
    served(9, "OffsetFetch", (1, 10), 6, Api::OffsetFetch, &shapes::OFFSET_FETCH),
    served(10, "FindCoordinator", (0, 6), 3, Api::FindCoordinator, &shapes::FIND_COORDINATOR),
    served(11, "JoinGroup", (0, 9), 6, Api::JoinGroup, &shapes::JOIN_GROUP),
    served(12, "Heartbeat", (0, 4), 4, Api::Heartbeat, &shapes::HEARTBEAT),
    served(13, "LeaveGroup", (0, 5), 4, Api::LeaveGroup, &shapes::LEAVE_GROUP),
    served(14, "SyncGroup", (0, 5), 4, Api::SyncGroup, &shapes::SYNC_GROUP),
    served(15, "DescribeGroups", (0, 6), 5, Api::DescribeGroups, &shapes::DESCRIBE_GROUPS),
    served(16, "ListGroups", (0, 5), 3, Api::ListGroups, &shapes::LIST_GROUPS),
    absent(17, "SaslHandshake", (0, 1), i16::MAX, SECURITY),
    served(18, "ApiVersions", (0, 4), 3, Api::ApiVersions, &shapes::API_VERSIONS),
    served(19, "CreateTopics", (2, 7), 5, Api::CreateTopics, &shapes::CREATE_TOPICS),
    served(20, "DeleteTopics", (1, 6), 4, Api::DeleteTopics, &shapes::DELETE_TOPICS),
    served(21, "DeleteRecords", (0, 2), 2, Api::DeleteRecords, &shapes::DELETE_RECORDS),
    served(22, "InitProducerId", (0, 5), 2, Api::InitProducerId, &shapes::INIT_PRODUCER_ID),
    served(23, "OffsetForLeaderEpoch", (2, 4), 4, Api::OffsetForLeaderEpoch, &shapes::OFFSET_FOR_LEADER_EPOCH),
    absent(24, "AddPartitionsToTxn", (0, 5), 3, TRANSACTIONS),
    absent(25, "AddOffsetsToTxn", (0, 4), 3, TRANSACTIONS),
    absent(26, "EndTxn", (0, 5), 3, TRANSACTIONS),
    absent(27, "WriteTxnMarkers", (1, 2), 1, TRANSACTIONS),
    absent(28, "TxnOffsetCommit", (0, 5), 3, TRANSACTIONS),
    served(29, "DescribeAcls", (1, 3), 2, Api::DescribeAcls, &shapes::DESCRIBE_ACLS),
    served(30, "CreateAcls", (1, 3), 2, Api::CreateAcls, &shapes::CREATE_ACLS),
    served(31, "DeleteAcls", (1, 3), 2, Api::DeleteAcls, &shapes::DELETE_ACLS),
    served(32, "DescribeConfigs", (1, 4), 4, Api::DescribeConfigs, &shapes::DESCRIBE_CONFIGS),
    served(33, "AlterConfigs", (0, 2), 2, Api::AlterConfigs, &shapes::ALTER_CONFIGS),
    absent(34, "AlterReplicaLogDirs", (1, 2), 2, STORE),
    served(35, "DescribeLogDirs", (1, 4), 2, Api::DescribeLogDirs, &shapes::DESCRIBE_LOG_DIRS),
    absent(36, "SaslAuthenticate", (0, 2), 2, SECURITY),
    served(37, "CreatePartitions", (0, 3), 2, Api::CreatePartitions, &shapes::CREATE_PARTITIONS),
    absent(38, "CreateDelegationToken", (1, 3), 2, SECURITY),
    absent(39, "RenewDelegationToken", (1, 2), 2, SECURITY),
    absent(40, "ExpireDelegationToken", (1, 2), 2, SECURITY),
    absent(41, "DescribeDelegationToken", (1, 3), 2, SECURITY),
    served(42, "DeleteGroups", (0, 2), 2, Api::DeleteGroups, &shapes::DELETE_GROUPS),
    served(43, "ElectLeaders", (0, 2), 2, Api::ElectLeaders, &shapes::ELECT_LEADERS),
    served(44, "IncrementalAlterConfigs", (0, 1), 1, Api::IncrementalAlterConfigs, &shapes::INCREMENTAL_ALTER_CONFIGS),
    served(45, "AlterPartitionReassignments", (0, 1), 0, Api::AlterPartitionReassignments, &shapes::ALTER_PARTITION_REASSIGNMENTS),
    served(46, "ListPartitionReassignments", (0, 0), 0, Api::ListPartitionReassignments, &shapes::LIST_PARTITION_REASSIGNMENTS),
    served(47, "OffsetDelete", (0, 0), i16::MAX, Api::OffsetDelete, &shapes::OFFSET_DELETE),
    served(48, "DescribeClientQuotas", (0, 1), 1, Api::DescribeClientQuotas, &shapes::DESCRIBE_CLIENT_QUOTAS),
    absent(49, "AlterClientQuotas", (0, 1), 1, QUOTAS),
    served(50, "DescribeUserScramCredentials", (0, 0), 0, Api::DescribeUserScramCredentials, &shapes::DESCRIBE_USER_SCRAM_CREDENTIALS),
    absent(51, "AlterUserScramCredentials", (0, 0), 0, SECURITY),
    absent(52, "Vote", (0, 2), 0, INTERNAL),
    absent(53, "BeginQuorumEpoch", (0, 1), 1, INTERNAL),
    absent(54, "EndQuorumEpoch", (0, 1), 1, INTERNAL),
    absent(55, "DescribeQuorum", (0, 2), 0, QUORUM),
    absent(56, "AlterPartition", (2, 3), 0, INTERNAL),
    served(57, "UpdateFeatures", (0, 2), 0, Api::UpdateFeatures, &shapes::UPDATE_FEATURES),
    absent(58, "Envelope", (0, 0), 0, INTERNAL),
    absent(59, "FetchSnapshot", (0, 1), 0, INTERNAL),
    served(60, "DescribeCluster", (0, 2), 0, Api::DescribeCluster, &shapes::DESCRIBE_CLUSTER),
    served(61, "DescribeProducers", (0, 0), 0, Api::DescribeProducers, &shapes::DESCRIBE_PRODUCERS),
    absent(62, "BrokerRegistration", (0, 4), 0, INTERNAL),
    absent(63, "BrokerHeartbeat", (0, 1), 0, INTERNAL),
    absent(64, "UnregisterBroker", (0, 0), 0, QUORUM),
    absent(65, "DescribeTransactions", (0, 0), 0, TRANSACTIONS),
    absent(66, "ListTransactions", (0, 2), 0, TRANSACTIONS),
    absent(67, "AllocateProducerIds", (0, 0), 0, INTERNAL),
    served(68, "ConsumerGroupHeartbeat", (0, 1), 0, Api::ConsumerGroupHeartbeat, &shapes::CONSUMER_GROUP_HEARTBEAT),
    served(69, "ConsumerGroupDescribe", (0, 1), 0, Api::ConsumerGroupDescribe, &shapes::CONSUMER_GROUP_DESCRIBE),
    absent(70, "ControllerRegistration", (0, 0), 0, INTERNAL),
    absent(71, "GetTelemetrySubscriptions", (0, 0), 0, TELEMETRY),
    absent(72, "PushTelemetry", (0, 0), 0, TELEMETRY),
    absent(73, "AssignReplicasToDirs", (0, 0), 0, INTERNAL),
    served(74, "ListConfigResources", (0, 1), 0, Api::ListConfigResources, &shapes::LIST_CONFIG_RESOURCES),
    served(75, "DescribeTopicPartitions", (0, 0), 0, Api::DescribeTopicPartitions, &shapes::DESCRIBE_TOPIC_PARTITIONS),
    absent(76, "ShareGroupHeartbeat", (1, 1), 0, SHARE),
    absent(77, "ShareGroupDescribe", (1, 1), 0, SHARE),
    absent(78, "ShareFetch", (1, 2), 0, SHARE),
    absent(79, "ShareAcknowledge", (1, 2), 0, SHARE),
    absent(80, "AddRaftVoter", (0, 1), 0, INTERNAL),
    absent(81, "RemoveRaftVoter", (0, 0), 0, INTERNAL),
    absent(82, "UpdateRaftVoter", (0, 0), 0, INTERNAL),
    absent(83, "InitializeShareGroupState", (0, 0), 0, INTERNAL),
    absent(84, "ReadShareGroupState", (0, 0), 0, INTERNAL),
    absent(85, "WriteShareGroupState", (0, 0), 0, INTERNAL),
    absent(86, "DeleteShareGroupState", (0, 0), 0, INTERNAL),
    absent(87, "ReadShareGroupStateSummary", (0, 0), 0, INTERNAL),
    absent(88, "StreamsGroupHeartbeat", (0, 0), 0, STREAMS),
    absent(89, "StreamsGroupDescribe", (0, 0), 0, STREAMS),
    absent(90, "DescribeShareGroupOffsets", (0, 1), 0, SHARE),
    absent(91, "AlterShareGroupOffsets", (0, 0), 0, SHARE),
    absent(92, "DeleteShareGroupOffsets", (0, 0), 0, SHARE),
];

/// The row of an API key, served or not.
#[must_use]
pub fn row(key: i16) -> Option<&'static ApiRow> {
    APIS.binary_search_by_key(&key, |row| row.key).ok().and_then(|at| APIS.get(at))
}

/// The rows that are advertised.
pub fn advertised() -> impl Iterator<Item = &'static ApiRow> {
    APIS.iter().filter(|row| row.served().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_rise_so_that_rows_are_found() {
        assert!(APIS.is_sorted_by(|a, b| a.key < b.key));
        assert!(APIS.iter().all(|r| row(r.key).is_some_and(|found| found.name == r.name) && r.min <= r.max));
        assert!(row(1_000).is_none());
    }

    #[test]
    fn every_api_of_apache_kafka_has_a_row() {
        assert!(APIS.iter().map(|row| row.key).eq(0..=92));
        for key in (0..=200).filter(|key| kafka_protocol::messages::ApiKey::try_from(*key).is_ok()) {
            assert!(row(key).is_some(), "{key}");
        }
    }

    #[test]
    fn names_and_flexible_versions_are_those_of_the_codec() {
        for row in APIS {
            let Ok(key) = kafka_protocol::messages::ApiKey::try_from(row.key) else { continue };
            assert_eq!(format!("{key:?}"), row.name);
            for version in row.min.max(key.valid_versions().min)..=row.max.min(key.valid_versions().max) {
                assert_eq!(key.request_header_version(version) == 2, row.is_flexible(version), "{} {version}", row.name);
                assert_eq!(key.response_header_version(version) == 1, row.has_flexible_answer(version), "{} {version}", row.name);
            }
        }
    }
}
