//! The configurations a topic can have: names, types, defaults, what they do here, and which values they take. Pure.

use std::collections::BTreeMap;

/// Kafka's default of `max.message.bytes`.
pub const DEFAULT_MAX_MESSAGE_BYTES: u32 = 1_048_588;

pub(super) const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const TIMESTAMP_BEFORE: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER: &str = "message.timestamp.after.max.ms";
const CLEANUP_POLICY: &str = "cleanup.policy";
const PRODUCE_OFFSETS: &str = "yaks.produce.offsets";

/// Which values a configuration takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Values {
    Boolean,
    /// A whole number of 32 bits, from this up.
    Int(i32),
    /// A whole number of 64 bits, from this up.
    Long(i64),
    /// From 0 to 1.
    Ratio,
    OneOf(&'static [&'static str]),
    /// A list of these, each at most once, at least one.
    ListOf(&'static [&'static str]),
    /// Any list: accepted, without effect.
    List,
}

impl Values {
    /// What is wrong with `value`, in words for the client.
    fn check(self, value: &str) -> Result<(), String> {
        let value = value.trim();
        match self {
            Values::Boolean if matches!(value, "true" | "false") => Ok(()),
            Values::Boolean => Err("it must be true or false".to_owned()),
            Values::Int(min) => at_least(value.parse::<i32>().map(i64::from), i64::from(min)),
            Values::Long(min) => at_least(value.parse::<i64>(), min),
            Values::Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
                Ok(_) | Err(_) => Err("it must be a number from 0 to 1".to_owned()),
            },
            Values::OneOf(allowed) if allowed.contains(&value) => Ok(()),
            Values::OneOf(allowed) => Err(format!("it must be one of {}", allowed.join(", "))),
            Values::ListOf(allowed) => check_list(value, allowed),
            Values::List => Ok(()),
        }
    }
}

fn at_least(value: Result<i64, std::num::ParseIntError>, min: i64) -> Result<(), String> {
    match value {
        Ok(value) if value >= min => Ok(()),
        Ok(_) => Err(format!("it must be at least {min}")),
        Err(_) => Err("it is not a number of the right size".to_owned()),
    }
}

fn check_list(value: &str, allowed: &[&str]) -> Result<(), String> {
    let mut seen = Vec::new();
    for item in value.split(',').map(str::trim) {
        if !allowed.contains(&item) || seen.contains(&item) {
            return Err(format!("it must be a list of {}", allowed.join(", ")));
        }
        seen.push(item);
    }
    Ok(())
}

/// One configuration.
#[derive(Debug, Clone, Copy)]
pub(super) struct TopicConfig {
    pub(super) name: &'static str,
    pub(super) values: Values,
    pub(super) default: &'static str,
    pub(super) doc: &'static str,
}

const fn config(name: &'static str, values: Values, default: &'static str, doc: &'static str) -> TopicConfig {
    TopicConfig { name, values, default, doc }
}

const FOREVER: &str = "9223372036854775807";
const NO_EFFECT: &str = "Accepted for compatibility; without effect, since records live in an object store.";

/// In order of name: those of Apache Kafka, and our own.
pub(super) const TOPIC_CONFIGS: &[TopicConfig] = &[
    config(
        CLEANUP_POLICY,
        Values::ListOf(&["delete", "compact"]),
        "delete",
        "What becomes of old records. With compact, records need keys.",
    ),
    config("compression.gzip.level", Values::Int(-1), "-1", NO_EFFECT),
    config("compression.lz4.level", Values::Int(1), "9", NO_EFFECT),
    config(
        "compression.type",
        Values::OneOf(&["producer"]),
        "producer",
        "Batches are kept as the producer compressed them; nothing else is supported.",
    ),
    config("compression.zstd.level", Values::Int(i32::MIN), "3", NO_EFFECT),
    config("delete.retention.ms", Values::Long(0), "86400000", "How long the mark of a deleted key is kept in a compacted topic."),
    config("file.delete.delay.ms", Values::Long(0), "60000", NO_EFFECT),
    config("flush.messages", Values::Long(1), FOREVER, "Every acknowledged record is durable, so there is nothing to flush."),
    config("flush.ms", Values::Long(0), FOREVER, "Every acknowledged record is durable, so there is nothing to flush."),
    config("follower.replication.throttled.replicas", Values::List, "", NO_EFFECT),
    config("index.interval.bytes", Values::Int(0), "4096", NO_EFFECT),
    config("leader.replication.throttled.replicas", Values::List, "", NO_EFFECT),
    config("local.retention.bytes", Values::Long(-2), "-2", NO_EFFECT),
    config("local.retention.ms", Values::Long(-2), "-2", NO_EFFECT),
    config("max.compaction.lag.ms", Values::Long(1), FOREVER, "The longest time a record may wait for compaction."),
    config(MAX_MESSAGE_BYTES, Values::Int(0), "1048588", "The largest batch, in bytes, after compression."),
    config(TIMESTAMP_AFTER, Values::Long(0), "3600000", "How far a record's timestamp may lie ahead of the broker's clock."),
    config(TIMESTAMP_BEFORE, Values::Long(0), FOREVER, "How far a record's timestamp may lie behind the broker's clock."),
    config(TIMESTAMP_TYPE, Values::OneOf(&["CreateTime", "LogAppendTime"]), "CreateTime", "Whose clock a record's timestamp is from."),
    config("min.cleanable.dirty.ratio", Values::Ratio, "0.5", "The share of a log that must be uncompacted before it is compacted."),
    config("min.compaction.lag.ms", Values::Long(0), "0", "The shortest time a record stays uncompacted."),
    config("min.insync.replicas", Values::Int(1), "1", NO_EFFECT),
    config("preallocate", Values::Boolean, "false", NO_EFFECT),
    config("remote.storage.enable", Values::Boolean, "false", NO_EFFECT),
    config("retention.bytes", Values::Long(-1), "-1", "How large a partition may grow before its oldest records go; -1 without limit."),
    config("retention.ms", Values::Long(-1), "604800000", "How long records are kept; -1 for ever."),
    config("segment.bytes", Values::Int(14), "1073741824", NO_EFFECT),
    config("segment.index.bytes", Values::Int(4), "10485760", NO_EFFECT),
    config("segment.jitter.ms", Values::Long(0), "0", NO_EFFECT),
    config("segment.ms", Values::Long(1), "604800000", NO_EFFECT),
    config("unclean.leader.election.enable", Values::Boolean, "false", NO_EFFECT),
    config(
        PRODUCE_OFFSETS,
        Values::OneOf(&["verdict", "deferred"]),
        "",
        "When batches of producers without an id are answered: with their offset (verdict), or when durable, with offset -1 (deferred). Unset: as the agent.",
    ),
];

/// Checks one configuration that a client sets.
///
/// # Errors
/// What is wrong, in words for the client.
pub(super) fn check(name: &str, value: &str) -> Result<(), String> {
    let Some(known) = TOPIC_CONFIGS.iter().find(|config| config.name == name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    known.values.check(value).map_err(|reason| format!("Invalid value {value} for configuration {name}: {reason}"))
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
    pub(super) timestamp_before_ms: i64,
    pub(super) timestamp_after_ms: i64,
    /// `None`: the agent's.
    pub(super) produce_offsets: Option<ProduceOffsets>,
}

impl TopicSettings {
    /// From what is set on the topic. Values were checked when they were set; one that cannot be read counts as not set.
    pub(super) fn of(configs: &BTreeMap<String, String>) -> TopicSettings {
        let number = |name: &str| configs.get(name).and_then(|value| value.trim().parse::<i64>().ok());
        let text = |name: &str| configs.get(name).map(|value| value.trim());
        TopicSettings {
            max_message_bytes: number(MAX_MESSAGE_BYTES).and_then(|bytes| u32::try_from(bytes).ok()),
            log_append_time: text(TIMESTAMP_TYPE) == Some("LogAppendTime"),
            needs_keys: text(CLEANUP_POLICY).is_some_and(|policy| policy.split(',').any(|p| p.trim() == "compact")),
            timestamp_before_ms: number(TIMESTAMP_BEFORE).unwrap_or(i64::MAX),
            timestamp_after_ms: number(TIMESTAMP_AFTER).unwrap_or(3_600_000),
            produce_offsets: match text(PRODUCE_OFFSETS) {
                Some("deferred") => Some(ProduceOffsets::Deferred),
                Some("verdict") => Some(ProduceOffsets::Verdict),
                Some(_) | None => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_rise_and_defaults_are_legal() {
        assert!(TOPIC_CONFIGS.is_sorted_by(|a, b| a.name < b.name));
        for config in TOPIC_CONFIGS.iter().filter(|c| c.name != PRODUCE_OFFSETS) {
            assert_eq!(check(config.name, config.default), Ok(()));
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
            assert_eq!(check(name, value), Ok(()), "{name}={value}");
        }
        for (name, value) in [
            ("cleanup.policy", "shred"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "delete,delete"),
            ("retention.ms", "-2"),
            ("retention.ms", "soon"),
            ("max.message.bytes", "2147483648"),
            ("compression.type", "lz4"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("preallocate", "yes"),
            ("no.such.config", "1"),
        ] {
            assert!(check(name, value).is_err(), "{name}={value}");
        }
    }

    #[test]
    fn settings_are_read_from_what_is_set() {
        let set = [("max.message.bytes", "7"), ("cleanup.policy", "delete, compact"), ("yaks.produce.offsets", "deferred")];
        let configs = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let settings = TopicSettings::of(&configs);
        assert_eq!((settings.max_message_bytes, settings.needs_keys), (Some(7), true));
        assert_eq!(settings.produce_offsets, Some(ProduceOffsets::Deferred));
        assert!(!TopicSettings::of(&BTreeMap::new()).needs_keys);
    }
}
