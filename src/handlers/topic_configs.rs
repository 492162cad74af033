//! The configurations a topic can have: names, types, defaults, what they do here, and which values they take. Pure.

use super::configs::{Config, Kind, Table, Values};
use crate::metastore::Configs;
use crate::records::Compression;
use crate::records::batch::Codec;

/// Kafka's default of `max.message.bytes`.
pub const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1_048_588;

pub(super) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const TIMESTAMP_BEFORE: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER: &str = "message.timestamp.after.max.ms";
const CLEANUP_POLICY: &str = "cleanup.policy";
const COMPRESSION_TYPE: &str = "compression.type";
const GZIP_LEVEL: &str = "compression.gzip.level";
const ZSTD_LEVEL: &str = "compression.zstd.level";
const MIN_COMPACTION_LAG: &str = "min.compaction.lag.ms";
const MAX_COMPACTION_LAG: &str = "max.compaction.lag.ms";
pub(super) const PRODUCE_OFFSETS: &str = "yaks.produce.offsets";

const FOREVER: &str = "9223372036854775807";
const NO_EFFECT: &str = "Accepted for compatibility; without effect, since records live in an object store.";
const NO_TIERS: &str = "all records live in an object store already, there is no second tier";

/// Those of Apache Kafka, and our own.
pub(super) const TOPIC: Table = Table { resource: "topic", configs: TOPIC_CONFIGS, together };

const TOPIC_CONFIGS: &[Config] = &[
    Config::new(
        CLEANUP_POLICY,
        Values::ListOf(&["delete", "compact"]),
        "delete",
        "What becomes of old records. With compact, records need keys. Kept, without effect on old records yet: neither retention nor compaction is served.",
    )
    .broker("log.cleanup.policy"),
    Config::new(GZIP_LEVEL, Values::Int(-1, 9), "-1", "The level where compression.type is gzip.").broker("compression.gzip.level"),
    Config::new("compression.lz4.level", Values::Int(1, 17), "9", "Accepted for compatibility; without effect: there is one level.")
        .broker("compression.lz4.level"),
    Config::new(
        COMPRESSION_TYPE,
        Values::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        "producer",
        "How batches are compressed in the log: as their producer did it, or anew by the agent that takes them.",
    )
    .broker("compression.type"),
    Config::new(ZSTD_LEVEL, Values::Int(-131_072, 22), "3", "The level where compression.type is zstd.").broker("compression.zstd.level"),
    Config::new(
        "delete.retention.ms",
        Values::Long(0),
        "86400000",
        "How long the mark of a deleted key is kept in a compacted topic. Kept, without effect yet: compaction is not served.",
    )
    .broker("log.cleaner.delete.retention.ms"),
    Config::new("file.delete.delay.ms", Values::Long(0), "60000", NO_EFFECT).broker("log.segment.delete.delay.ms"),
    Config::new("flush.messages", Values::Long(1), FOREVER, "Every acknowledged record is durable, so there is nothing to flush.")
        .broker("log.flush.interval.messages"),
    Config::new("flush.ms", Values::Long(0), FOREVER, "Every acknowledged record is durable, so there is nothing to flush.")
        .broker("log.flush.scheduler.interval.ms"),
    Config::new("follower.replication.throttled.replicas", Values::List, "", NO_EFFECT),
    Config::new("index.interval.bytes", Values::Int(0, i32::MAX), "4096", NO_EFFECT).broker("log.index.interval.bytes"),
    Config::new("leader.replication.throttled.replicas", Values::List, "", NO_EFFECT),
    Config::new("local.retention.bytes", Values::Long(-2), "-2", NO_EFFECT).broker("log.local.retention.bytes"),
    Config::new("local.retention.ms", Values::Long(-2), "-2", NO_EFFECT).broker("log.local.retention.ms"),
    Config::new(
        MAX_COMPACTION_LAG,
        Values::Long(1),
        FOREVER,
        "The longest time a record may wait for compaction. Kept, without effect yet: compaction is not served.",
    )
    .broker("log.cleaner.max.compaction.lag.ms"),
    Config::new(MAX_MESSAGE_BYTES, Values::Int(0, i32::MAX), "1048588", "The largest batch, in bytes, after compression.")
        .broker("message.max.bytes"),
    Config::new(
        TIMESTAMP_AFTER,
        Values::Long(0),
        "3600000",
        "How far a record's timestamp may lie ahead of the broker's clock; without effect with LogAppendTime.",
    )
    .broker("log.message.timestamp.after.max.ms"),
    Config::new(
        TIMESTAMP_BEFORE,
        Values::Long(0),
        FOREVER,
        "How far a record's timestamp may lie behind the broker's clock; without effect with LogAppendTime.",
    )
    .broker("log.message.timestamp.before.max.ms"),
    Config::new(TIMESTAMP_TYPE, Values::OneOf(&["CreateTime", "LogAppendTime"]), "CreateTime", "Whose clock a record's timestamp is from.")
        .broker("log.message.timestamp.type"),
    Config::new(
        "min.cleanable.dirty.ratio",
        Values::Ratio,
        "0.5",
        "The share of a log that must be uncompacted before it is compacted. Kept, without effect yet: compaction is not served.",
    )
    .broker("log.cleaner.min.cleanable.ratio"),
    Config::new(
        MIN_COMPACTION_LAG,
        Values::Long(0),
        "0",
        "The shortest time a record stays uncompacted. Kept, without effect yet: compaction is not served.",
    )
    .broker("log.cleaner.min.compaction.lag.ms"),
    Config::new(
        "min.insync.replicas",
        Values::Int(1, i32::MAX),
        "1",
        "Accepted for compatibility; without effect, since every acknowledged record is as safe as the object store.",
    )
    .broker("min.insync.replicas"),
    Config::new("preallocate", Values::Boolean, "false", NO_EFFECT).broker("log.preallocate"),
    Config::new("remote.log.copy.disable", Values::Only(Kind::Boolean, NO_TIERS), "false", "There are no tiers: all records live in an object store."),
    Config::new("remote.log.delete.on.disable", Values::Only(Kind::Boolean, NO_TIERS), "false", "There are no tiers: all records live in an object store."),
    Config::new("remote.storage.enable", Values::Only(Kind::Boolean, NO_TIERS), "false", "There are no tiers: all records live in an object store."),
    Config::new(
        "retention.bytes",
        Values::Long(-1),
        "-1",
        "How large a partition may grow before its oldest records go; -1 without limit. Kept, without effect yet: retention is not served; use DeleteRecords.",
    )
    .broker("log.retention.bytes"),
    Config::new(
        "retention.ms",
        Values::Long(-1),
        "604800000",
        "How long records are kept; -1 for ever. Kept, without effect yet: retention is not served; use DeleteRecords.",
    )
    .broker_default("log.retention.hours", "168"),
    Config::new("segment.bytes", Values::Int(14, i32::MAX), "1073741824", NO_EFFECT).broker("log.segment.bytes"),
    Config::new("segment.index.bytes", Values::Int(4, i32::MAX), "10485760", NO_EFFECT).broker("log.index.size.max.bytes"),
    Config::new("segment.jitter.ms", Values::Long(0), "0", NO_EFFECT).broker_default("log.roll.jitter.hours", "0"),
    Config::new("segment.ms", Values::Long(1), "604800000", NO_EFFECT).broker_default("log.roll.hours", "168"),
    Config::new("unclean.leader.election.enable", Values::Boolean, "false", NO_EFFECT).broker("unclean.leader.election.enable"),
    Config::new(
        PRODUCE_OFFSETS,
        Values::OneOf(&["verdict", "deferred"]),
        "verdict",
        "When batches of producers without an id are answered: with their offset (verdict), or when durable, with offset -1 (deferred). Unset: as the agent.",
    ),
];

/// A record cannot have to wait longer than it may.
fn together(configs: &Configs) -> Result<(), String> {
    let lag = |name: &str, default: i64| configs.get(name).and_then(|value| value.trim().parse().ok()).unwrap_or(default);
    let (min, max) = (lag(MIN_COMPACTION_LAG, 0), lag(MAX_COMPACTION_LAG, i64::MAX));
    if min > max {
        return Err(format!("conflict topic config setting {MIN_COMPACTION_LAG} ({min}) > {MAX_COMPACTION_LAG} ({max})"));
    }
    Ok(())
}

/// When a batch without a producer id is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProduceOffsets {
    Verdict,
    Deferred,
}

/// What produce needs of a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicSettings {
    /// `None`: the agent's.
    pub(super) max_message_bytes: Option<u32>,
    pub(super) log_append_time: bool,
    /// `cleanup.policy` has compact.
    pub(super) needs_keys: bool,
    /// `cleanup.policy` has delete.
    pub(super) deletes: bool,
    pub(super) timestamp_before_ms: i64,
    pub(super) timestamp_after_ms: i64,
    /// `None`: as the producer did it.
    pub(super) compression: Option<Compression>,
    /// `None`: the agent's.
    pub(super) produce_offsets: Option<ProduceOffsets>,
}

impl TopicSettings {
    /// Whether records must be unpacked before they are taken.
    pub(super) fn unpacks(&self) -> bool {
        self.needs_keys || self.compression.is_some()
    }

    /// From what is set on the topic. Values were checked when they were set; one that cannot be read counts as not set.
    pub(super) fn of(configs: &Configs) -> TopicSettings {
        let number = |name: &str| configs.get(name).and_then(|value| value.trim().parse::<i64>().ok());
        let text = |name: &str| configs.get(name).map(|value| value.trim());
        let policy = |wanted: &str| text(CLEANUP_POLICY).unwrap_or("delete").split(',').any(|policy| policy.trim() == wanted);
        TopicSettings {
            max_message_bytes: number(MAX_MESSAGE_BYTES).and_then(|bytes| u32::try_from(bytes).ok()),
            log_append_time: text(TIMESTAMP_TYPE) == Some("LogAppendTime"),
            needs_keys: policy("compact"),
            deletes: policy("delete"),
            timestamp_before_ms: number(TIMESTAMP_BEFORE).unwrap_or(i64::MAX),
            timestamp_after_ms: number(TIMESTAMP_AFTER).unwrap_or(3_600_000),
            compression: text(COMPRESSION_TYPE).and_then(|name| compression(name, number)),
            produce_offsets: match text(PRODUCE_OFFSETS) {
                Some("deferred") => Some(ProduceOffsets::Deferred),
                Some("verdict") => Some(ProduceOffsets::Verdict),
                Some(_) | None => None,
            },
        }
    }
}

/// Of a name that `compression.type` can have.
fn compression(name: &str, number: impl Fn(&str) -> Option<i64>) -> Option<Compression> {
    let level = |name: &str| number(name).and_then(|level| i32::try_from(level).ok());
    let (codec, level) = match name {
        "uncompressed" => (Codec::None, None),
        "gzip" => (Codec::Gzip, level(GZIP_LEVEL)),
        "snappy" => (Codec::Snappy, None),
        "lz4" => (Codec::Lz4, None),
        "zstd" => (Codec::Zstd, level(ZSTD_LEVEL)),
        _producer => return None,
    };
    Some(Compression { codec, level })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configs(set: &[(&str, &str)]) -> Configs {
        set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn names_rise_and_defaults_are_legal() {
        assert!(TOPIC.configs.is_sorted_by(|a, b| a.name < b.name));
        for config in TOPIC.configs {
            assert_eq!(TOPIC.check(&configs(&[(config.name, config.default)])), Ok(()));
        }
    }

    #[test]
    fn values_are_checked() {
        for (name, value) in [
            ("cleanup.policy", "compact,delete"),
            ("cleanup.policy", "compact"),
            ("retention.ms", "-1"),
            ("max.message.bytes", "0"),
            ("message.timestamp.type", "LogAppendTime"),
            ("min.cleanable.dirty.ratio", "0.01"),
            ("yaks.produce.offsets", "deferred"),
        ] {
            assert_eq!(TOPIC.check(&configs(&[(name, value)])), Ok(()), "{name}={value}");
        }
        for (name, value) in [
            ("cleanup.policy", "shred"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "delete,delete"),
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("max.message.bytes", "2147483648"),
            ("compression.type", "brotli"),
            ("remote.storage.enable", "true"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("preallocate", "yes"),
            ("no.such.config", "1"),
        ] {
            assert!(TOPIC.check(&configs(&[(name, value)])).is_err(), "{name}={value}");
        }
        assert!(TOPIC.check(&configs(&[("min.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "4")])).is_err());
    }

    #[test]
    fn settings_are_read_from_what_is_set() {
        let set = [("max.message.bytes", "7"), ("cleanup.policy", "delete, compact"), ("yaks.produce.offsets", "deferred")];
        let settings = TopicSettings::of(&configs(&set));
        assert_eq!((settings.max_message_bytes, settings.needs_keys), (Some(7), true));
        assert_eq!(settings.produce_offsets, Some(ProduceOffsets::Deferred));
        assert!(!TopicSettings::of(&Configs::new()).needs_keys);
        let compression = |set: &[(&str, &str)]| TopicSettings::of(&configs(set)).compression;
        assert_eq!((compression(&[]), compression(&[("compression.type", "producer")])), (None, None));
        let zstd = [("compression.type", "zstd"), ("compression.zstd.level", "-7"), ("compression.gzip.level", "9")];
        assert_eq!(compression(&zstd), Some(Compression { codec: Codec::Zstd, level: Some(-7) }));
    }
}
