//! How groups are kept; what administrators see of it, too.

use std::time::Duration;

use super::migrate::MigrationPolicy;
use super::{classic, consumer};

/// Settings of groups. Names in brackets are Kafka's.
#[derive(Debug, Clone)]
pub struct GroupSettings {
    /// Least and most a member may ask for (`group.min.session.timeout.ms`, `group.max.session.timeout.ms`).
    pub min_session_timeout: Duration,
    pub max_session_timeout: Duration,
    /// How long the first rebalance of an empty group waits for more members (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay: Duration,
    /// Most members of a group (`group.max.size`).
    pub max_size: usize,
    /// How long offsets of a group without members are kept (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// Most bytes of the metadata of a committed offset (`offset.metadata.max.bytes`).
    pub offset_metadata_max_bytes: usize,
    pub consumer: ConsumerSettings,
}

/// Settings of groups of the consumer protocol.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    /// How long a member may be silent (`group.consumer.session.timeout.ms`).
    pub session_timeout: Duration,
    /// How often members are told to send heartbeats (`group.consumer.heartbeat.interval.ms`).
    pub heartbeat_interval: Duration,
    /// Most members of a group (`group.consumer.max.size`).
    pub max_size: usize,
    /// Those members may choose from; the first is taken if none does (`group.consumer.assignors`).
    pub assignors: Vec<consumer::Assignor>,
    /// Which ways a group with members may go (`group.consumer.migration.policy`).
    pub migration: MigrationPolicy,
}

/// What the machines keep.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) classic: classic::Rules,
    pub(super) consumer: consumer::Rules,
    pub(super) migration: MigrationPolicy,
}

/// Most bytes of what one member says of itself. Kafka's limit is that of a record of its internal topic.
const MAX_MEMBER_BYTES: usize = 1 << 20;
/// Most bytes of all subscriptions and assignments of a group.
const MAX_GROUP_BYTES: usize = 16 << 20;

impl GroupSettings {
    pub(super) fn rules(&self) -> Rules {
        let classic = classic::Rules {
            initial_delay: self.initial_rebalance_delay,
            max_members: self.max_size,
            max_member_bytes: MAX_MEMBER_BYTES,
            max_group_bytes: MAX_GROUP_BYTES,
        };
        let consumer = consumer::Rules {
            session_timeout: self.consumer.session_timeout,
            max_members: self.consumer.max_size,
            assignors: self.consumer.assignors.clone(),
            max_member_bytes: MAX_MEMBER_BYTES,
        };
        Rules { classic, consumer, migration: self.consumer.migration }
    }
}
