//! How groups are kept; what administrators see of it, too.

use std::time::Duration;

use super::classic;

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
}

/// Most bytes of what one member says of itself. Kafka's limit is that of a record of its internal topic.
const MAX_MEMBER_BYTES: usize = 1 << 20;
/// Most bytes of all subscriptions and assignments of a group.
const MAX_GROUP_BYTES: usize = 16 << 20;

impl GroupSettings {
    pub(super) fn rules(&self) -> classic::Rules {
        classic::Rules {
            initial_delay: self.initial_rebalance_delay,
            max_members: self.max_size,
            max_member_bytes: MAX_MEMBER_BYTES,
            max_group_bytes: MAX_GROUP_BYTES,
        }
    }
}
