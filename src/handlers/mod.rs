//! Kafka's APIs: one file each, with what its versions changed on top. A handler decodes, asks one room or metastore trait, and encodes.
//!
//! [`Handlers`] is the one match on the API key. Rules of the log are not here (they are in `partition`), nor is anything that waits for data
//! (`produce`, `fetch`); what a room's error is called on the wire stands in [`error`] alone.
//!
//! Words: *the ordered stage* of a request runs before the next request of its connection is looked at ([`Serve::begin`]); a *node* is what clients
//! take for a broker: one advertised address, however many agents are behind it.

mod api_versions;
mod broker;
mod broker_configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_topics;
mod delete_groups;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod dispatch;
mod error;
mod fetch;
mod find_coordinator;
mod fresh;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_groups;
mod list_offsets;
mod members;
mod metadata;
mod nodes;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod placement;
mod produce;
mod serve;
mod sync_group;
#[cfg(test)]
mod tests;
mod topic_configs;
mod topics;

pub use broker::{BrokerParts, HandlerConfig};
pub use dispatch::Handlers;
pub use fetch::ReadLog;
pub use produce::Submit;
pub use serve::{Answer, Begun, OnDisconnect, Refusal, Reply, Serve};
pub use topic_configs::DEFAULT_MAX_MESSAGE_BYTES;
