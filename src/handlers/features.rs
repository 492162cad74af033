//! Feature levels (KIP-584): what clients may rely on beyond versions of requests. Pure.

use crate::protocol::versions;

/// The epoch of the levels: they change with the binary only.
pub(super) const EPOCH: i64 = 0;

/// ConsumerGroupHeartbeat, without which there is no new kind of group.
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;

/// One feature: it is always at its highest level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Feature {
    pub(super) name: &'static str,
    pub(super) min: i16,
    pub(super) max: i16,
}

/// The features there are.
pub(super) fn features() -> impl Iterator<Item = Feature> {
    let new_groups = versions::row(CONSUMER_GROUP_HEARTBEAT).is_some_and(|row| row.served().is_some());
    // Level 1: groups with the consumer protocol (KIP-848).
    new_groups.then_some(Feature { name: "group.version", min: 0, max: 1 }).into_iter()
}
