//! Configurations as clients are told of them: value, source, type, meaning, and the other values they could have. Pure.

use super::broker::HandlerConfig;
use super::configs::{Config, Kind, Table};
use super::group_configs::GROUP;
use super::topic_configs::{MAX_MESSAGE_BYTES, PRODUCE_OFFSETS, TOPIC};
use crate::metastore::Configs;

/// Where a value comes from, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Topic,
    StaticBroker,
    Default,
    Group,
}

impl Source {
    pub(super) fn code(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::StaticBroker => 4,
            Source::Default => 5,
            Source::Group => 8,
        }
    }
}

/// A value that a configuration has or would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) source: Source,
}

/// One configuration of a resource as it is.
#[derive(Debug, Clone)]
pub(super) struct Described {
    pub(super) name: String,
    pub(super) value: Option<String>,
    pub(super) source: Source,
    pub(super) kind: Kind,
    pub(super) doc: &'static str,
    pub(super) read_only: bool,
    /// All values it could have, the one that counts first.
    pub(super) synonyms: Vec<Candidate>,
}

impl Described {
    /// One that clients cannot change.
    pub(super) fn read_only(name: &str, value: Option<String>, source: Source, kind: Kind, doc: &'static str) -> Self {
        let synonyms = value.iter().map(|value| Candidate { name: name.to_owned(), value: value.clone(), source }).collect();
        Described { name: name.to_owned(), value, source, kind, doc, read_only: true, synonyms }
    }

    /// Also tells the default, if it is not the value itself.
    pub(super) fn with_default(mut self, default: &str) -> Self {
        if self.source != Source::Default {
            self.synonyms.push(Candidate { name: self.name.clone(), value: default.to_owned(), source: Source::Default });
        }
        self
    }

    fn of(known: &Config, set: &Configs, default: String, source_if_set: Source) -> Self {
        let mut synonyms = Vec::new();
        if let Some(value) = set.get(known.name) {
            synonyms.push(Candidate { name: known.name.to_owned(), value: value.clone(), source: source_if_set });
        }
        if let Some(synonym) = known.synonym {
            let value = synonym.default.map_or_else(|| default.clone(), str::to_owned);
            synonyms.push(Candidate { name: synonym.name.to_owned(), value, source: Source::Default });
        }
        let (value, source) = match set.get(known.name) {
            Some(value) => (value.clone(), source_if_set),
            None => (default, Source::Default),
        };
        Described {
            name: known.name.to_owned(),
            value: Some(value),
            source,
            kind: known.values.kind(),
            doc: known.doc,
            read_only: false,
            synonyms,
        }
    }
}

/// Every configuration of a topic for which `set` is set.
pub(super) fn of_topic(set: &Configs, config: &HandlerConfig) -> Vec<Described> {
    let default = |known: &Config| match known.name {
        MAX_MESSAGE_BYTES => config.message_max_bytes.to_string(),
        PRODUCE_OFFSETS => if config.deferred { "deferred" } else { "verdict" }.to_owned(),
        _ => known.default.to_owned(),
    };
    all(&TOPIC, set, default, Source::Topic)
}

/// Every configuration of a group for which `set` is set.
pub(super) fn of_group(set: &Configs) -> Vec<Described> {
    all(&GROUP, set, |known| known.default.to_owned(), Source::Group)
}

fn all(table: &Table, set: &Configs, default: impl Fn(&Config) -> String, source_if_set: Source) -> Vec<Described> {
    table.configs.iter().map(|known| Described::of(known, set, default(known), source_if_set)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_comes_before_the_brokers_default_as_kafka_tells_it() {
        let retention = TOPIC.find("retention.ms").expect("known");
        let set: Configs = [("retention.ms".to_owned(), "5".to_owned())].into();
        let told = |described: &Described| {
            let synonyms = described.synonyms.iter().map(|s| format!("{}={}:{}", s.name, s.value, s.source.code())).collect::<Vec<_>>();
            (described.value.clone().unwrap_or_default(), described.source.code(), synonyms.join(" "))
        };
        let (set, unset) = (
            Described::of(retention, &set, "604800000".to_owned(), Source::Topic),
            Described::of(retention, &Configs::new(), "604800000".to_owned(), Source::Topic),
        );
        assert_eq!(told(&set), ("5".to_owned(), 1, "retention.ms=5:1 log.retention.hours=168:5".to_owned()));
        assert_eq!(told(&unset), ("604800000".to_owned(), 5, "log.retention.hours=168:5".to_owned()));
        let throttled = TOPIC.find("leader.replication.throttled.replicas").expect("known");
        assert_eq!(told(&Described::of(throttled, &Configs::new(), String::new(), Source::Topic)), (String::new(), 5, String::new()));
    }
}
