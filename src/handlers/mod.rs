//! Kafka's APIs: one file each, with what its versions changed on top. A handler decodes, asks one room or metastore trait, and encodes.
//!
//! [`Handlers`] is the one match on the API key. Rules of the log are not here (they are in `partition`), nor is anything that waits for data
//! (`produce`, `fetch`); what a room's error is called on the wire stands in [`error`] alone.
//!
//! Words: *the ordered stage* of a request runs before the next request of its connection is looked at ([`Serve::begin`]); a *node* is what clients
//! take for a broker: one advertised address, however many agents are behind it.

mod alter;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod broker;
mod broker_configs;
mod client_rack;
mod configs;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_acls;
mod create_partitions;
mod create_topics;
mod delete_acls;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_acls;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod describe_user_scram_credentials;
mod described;
mod dispatch;
mod elect_leaders;
mod error;
mod features;
mod fetch;
mod find_coordinator;
mod fresh;
mod group_configs;
mod group_settings;
mod heartbeat;
mod incremental_alter_configs;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_offsets;
mod list_partition_reassignments;
mod members;
mod metadata;
mod nearer;
mod nodes;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod placement;
mod produce;
mod producer_ids;
mod resources;
mod rooms;
mod serve;
mod stopwatch;
mod sync_group;
#[cfg(test)]
mod tests;
mod topic_configs;
mod topics;
mod update_features;

pub use broker::{BrokerParts, HandlerConfig};
pub use dispatch::Handlers;
pub use group_configs::GroupSettings;
pub use rooms::{ReadLog, Submit};
pub use serve::{Answer, Begun, OnDisconnect, Refusal, Reply, Serve};
pub use topic_configs::DEFAULT_MAX_MESSAGE_BYTES;
