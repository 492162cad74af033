//! The configurations of a broker that clients look for, from this agent's settings. Pure.

use super::broker::HandlerConfig;
use super::configs::Kind;
use super::described::{Described, Source};
use super::placement::Node;
use crate::group::GroupSettings;

/// What is told of one broker, in order of name. They are set in the environment, so clients cannot change them.
pub(super) fn of_broker(node: &Node, config: &HandlerConfig, groups: &GroupSettings) -> Vec<Described> {
    let set = |name: &str, kind, value: String, doc| Described::read_only(name, Some(value), Source::StaticBroker, kind, doc);
    let fixed = |name: &str, kind, value: &str, doc| Described::read_only(name, Some(value.to_owned()), Source::Default, kind, doc);
    let listener = format!("PLAINTEXT://{}:{}", node.host, node.port);
    let mut told = vec![
        set("advertised.listeners", Kind::List, listener.clone(), "Where clients are told to connect (YAKS_ADVERTISED_HOST, _PORT)."),
        differs("auto.create.topics.enable", Kind::Boolean, config.auto_create_topics.to_string(), "true", "YAKS_AUTO_CREATE_TOPICS."),
        set("broker.id", Kind::Int, node.id.to_string(), "The node id: leased, or YAKS_NODE_ID."),
        Described::read_only("broker.rack", node.rack.clone(), Source::StaticBroker, Kind::String, "YAKS_RACK."),
        fixed("compression.type", Kind::String, "producer", "Batches are kept as the producer compressed them."),
        differs("connections.max.idle.ms", Kind::Long, config.connection_idle_ms.to_string(), "600000", "YAKS_CONNECTION_IDLE_MS."),
        fixed("default.replication.factor", Kind::Int, "1", "The object store keeps records safe in its own way."),
        fixed("delete.topic.enable", Kind::Boolean, "true", "Topics can be deleted."),
        differs("fetch.max.bytes", Kind::Int, config.fetch_max_bytes.to_string(), "52428800", "YAKS_FETCH_MAX_BYTES."),
        set("listeners", Kind::List, listener, "Where clients are told to connect."),
        fixed("log.cleanup.policy", Kind::List, "delete", "What becomes of old records where the topic does not say."),
        set("log.dirs", Kind::String, config.log_dir.clone(), "Where the records are."),
        fixed("log.message.timestamp.type", Kind::String, "CreateTime", "Whose clock timestamps are from where the topic does not say."),
        fixed("log.retention.bytes", Kind::Long, "-1", "How large a partition may grow where the topic does not say."),
        fixed("log.retention.ms", Kind::Long, "604800000", "How long records are kept where the topic does not say."),
        differs("max.connections", Kind::Int, config.max_connections.to_string(), "20000", "YAKS_MAX_CONNECTIONS."),
        differs(
            "message.max.bytes",
            Kind::Int,
            config.message_max_bytes.to_string(),
            "1048588",
            "The largest batch where the topic does not say.",
        ),
        fixed("min.insync.replicas", Kind::Int, "1", "Every acknowledged record is durable."),
        set("node.id", Kind::Int, node.id.to_string(), "The node id: leased, or YAKS_NODE_ID."),
        differs("num.partitions", Kind::Int, config.default_partitions.to_string(), "1", "YAKS_DEFAULT_PARTITIONS."),
        fixed("process.roles", Kind::List, "broker", "Every agent is a broker; there are no controllers."),
        differs("socket.request.max.bytes", Kind::Int, config.max_request_bytes.to_string(), "104857600", "YAKS_MAX_REQUEST_BYTES."),
    ];
    told.extend(of_groups(groups));
    told.sort_by(|a, b| a.name.cmp(&b.name));
    told
}

/// What is set to its default cannot be told from what is not set.
fn differs(name: &str, kind: Kind, value: String, default: &str, doc: &'static str) -> Described {
    let source = if value == default { Source::Default } else { Source::StaticBroker };
    Described::read_only(name, Some(value), source, kind, doc).with_default(default)
}

fn of_groups(groups: &GroupSettings) -> [Described; 6] {
    [
        differs(
            "group.initial.rebalance.delay.ms",
            Kind::Int,
            millis(groups.initial_rebalance_delay),
            "3000",
            "YAKS_GROUP_INITIAL_REBALANCE_DELAY_MS.",
        ),
        differs(
            "group.max.session.timeout.ms",
            Kind::Int,
            millis(groups.max_session_timeout),
            "1800000",
            "YAKS_GROUP_MAX_SESSION_TIMEOUT_MS.",
        ),
        differs("group.max.size", Kind::Int, groups.max_size.to_string(), "10000", "YAKS_GROUP_MAX_SIZE."),
        differs(
            "group.min.session.timeout.ms",
            Kind::Int,
            millis(groups.min_session_timeout),
            "6000",
            "YAKS_GROUP_MIN_SESSION_TIMEOUT_MS.",
        ),
        differs(
            "offset.metadata.max.bytes",
            Kind::Int,
            groups.offset_metadata_max_bytes.to_string(),
            "4096",
            "YAKS_OFFSET_METADATA_MAX_BYTES.",
        ),
        differs(
            "offsets.retention.minutes",
            Kind::Int,
            (groups.offsets_retention.as_secs() / 60).to_string(),
            "10080",
            "YAKS_OFFSETS_RETENTION_MINUTES.",
        ),
    ]
}

fn millis(duration: std::time::Duration) -> String {
    duration.as_millis().to_string()
}
