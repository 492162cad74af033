//! The configurations of a broker that clients look for, from this agent's settings. Pure.

use super::broker::HandlerConfig;
use super::describe_configs::{Described, Kind, Source};
use super::placement::Node;
use crate::group::GroupSettings;

/// What is told of one broker, in order of name. They are set in the environment, so clients cannot change them.
pub(super) fn of_broker(node: &Node, config: &HandlerConfig, groups: &GroupSettings) -> Vec<Described> {
    let set = |name: &str, kind, value: String, doc| Described::new(name, Some(value), Source::StaticBroker, kind, doc).read_only();
    let fixed = |name: &str, kind, value: &str, doc| Described::new(name, Some(value.to_owned()), Source::Default, kind, doc).read_only();
    let listener = format!("PLAINTEXT://{}:{}", node.host, node.port);
    vec![
        set("advertised.listeners", Kind::List, listener.clone(), "Where clients are told to connect (YAKS_ADVERTISED_HOST, _PORT)."),
        set("auto.create.topics.enable", Kind::Boolean, config.auto_create_topics.to_string(), "YAKS_AUTO_CREATE_TOPICS."),
        set("broker.id", Kind::Int, node.id.to_string(), "The node id: leased, or YAKS_NODE_ID."),
        Described::new("broker.rack", node.rack.clone(), Source::StaticBroker, Kind::String, "YAKS_RACK.").read_only(),
        fixed("compression.type", Kind::String, "producer", "Batches are kept as the producer compressed them."),
        set("connections.max.idle.ms", Kind::Long, config.connection_idle_ms.to_string(), "YAKS_CONNECTION_IDLE_MS."),
        fixed("default.replication.factor", Kind::Int, "1", "The object store keeps records safe in its own way."),
        fixed("delete.topic.enable", Kind::Boolean, "true", "Topics can be deleted."),
        set("fetch.max.bytes", Kind::Int, config.fetch_max_bytes.to_string(), "YAKS_FETCH_MAX_BYTES."),
        set(
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            millis(groups.initial_rebalance_delay),
            "YAKS_GROUP_INITIAL_REBALANCE_DELAY_MS.",
        ),
        set("group.max.session.timeout.ms", Kind::Int, millis(groups.max_session_timeout), "YAKS_GROUP_MAX_SESSION_TIMEOUT_MS."),
        set("group.max.size", Kind::Int, groups.max_size.to_string(), "YAKS_GROUP_MAX_SIZE."),
        set("group.min.session.timeout.ms", Kind::Int, millis(groups.min_session_timeout), "YAKS_GROUP_MIN_SESSION_TIMEOUT_MS."),
        set("listeners", Kind::List, listener, "Where clients are told to connect."),
        fixed("log.cleanup.policy", Kind::List, "delete", "What becomes of old records where the topic does not say."),
        fixed("log.message.timestamp.type", Kind::String, "CreateTime", "Whose clock timestamps are from where the topic does not say."),
        fixed("log.retention.bytes", Kind::Long, "-1", "How large a partition may grow where the topic does not say."),
        fixed("log.retention.ms", Kind::Long, "604800000", "How long records are kept where the topic does not say."),
        set("max.connections", Kind::Int, config.max_connections.to_string(), "YAKS_MAX_CONNECTIONS."),
        set("message.max.bytes", Kind::Int, config.message_max_bytes.to_string(), "The largest batch where the topic does not say."),
        fixed("min.insync.replicas", Kind::Int, "1", "Every acknowledged record is durable."),
        set("node.id", Kind::Int, node.id.to_string(), "The node id: leased, or YAKS_NODE_ID."),
        set("num.partitions", Kind::Int, config.default_partitions.to_string(), "YAKS_DEFAULT_PARTITIONS."),
        set("offset.metadata.max.bytes", Kind::Int, groups.offset_metadata_max_bytes.to_string(), "YAKS_OFFSET_METADATA_MAX_BYTES."),
        set(
            "offsets.retention.minutes",
            Kind::Int,
            (groups.offsets_retention.as_secs() / 60).to_string(),
            "YAKS_OFFSETS_RETENTION_MINUTES.",
        ),
        set("socket.request.max.bytes", Kind::Int, config.max_request_bytes.to_string(), "YAKS_MAX_REQUEST_BYTES."),
    ]
}

fn millis(duration: std::time::Duration) -> String {
    duration.as_millis().to_string()
}
