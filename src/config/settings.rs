//! The one table of settings, and typed reading by name.

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::str::FromStr;
use std::time::Duration;

use super::ConfigError;

pub(super) const PREFIX: &str = "YAKS_";
pub(super) const DEFAULT_DATA_DIR: &str = "./yaks-data";

/// The two ways to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `yaks agent`: Postgres and S3.
    Agent,
    /// `yaks dev`: SQLite and a directory.
    Dev,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Without the prefix `YAKS_`.
    pub name: &'static str,
    pub default: &'static str,
    /// Where `yaks dev` differs.
    pub dev_default: Option<&'static str>,
    pub what: &'static str,
}

const fn setting(name: &'static str, default: &'static str, what: &'static str) -> Setting {
    Setting { name, default, dev_default: None, what }
}

const fn differs(name: &'static str, default: &'static str, dev: &'static str, what: &'static str) -> Setting {
    Setting { name, default, dev_default: Some(dev), what }
}

/// Every setting there is. README's table is held against this one.
pub const SETTINGS: &[Setting] = &[
    setting("BROKER_HOST", "0.0.0.0", "address the Kafka listener binds to"),
    setting("BROKER_PORT", "9092", "its port; 0 takes any free one, which is printed"),
    setting("ADVERTISED_HOST", "localhost", "the host name clients are told to connect to"),
    setting("ADVERTISED_PORT", "0", "the port clients are told; 0 means the broker's"),
    setting("NODE_ID", "", "the broker id; unset leases a free one"),
    setting("RACK", "", "the zone this agent runs in"),
    setting("RACK_CIDRS", "", "zones of clients by address, as in 10.1.0.0/16=eu-1a,2001:db8::/32=eu-1b"),
    setting("OTEL_ENABLED", "false", "serve /metrics, /livez and /readyz; setting METRICS_PORT does so too"),
    setting("METRICS_PORT", "9090", "their port"),
    setting("OTEL_TRACES_ENDPOINT", "", "collector for traces, by OTLP over HTTP (http://host:4318); unset sends none"),
    setting("OTEL_TRACES_SAMPLE_RATIO", "1", "share of requests that are traced, from 0 to 1"),
    setting("RUN_MIGRATIONS", "false", "bring the schema up to date at start (yaks dev always does)"),
    setting("AUTO_CREATE_TOPICS", "true", "create a topic when a client first asks for it"),
    setting("DEFAULT_PARTITIONS", "1", "partitions of a topic that does not say"),
    setting("TOPIC_MAX_PARTITIONS", "10000", "most partitions of one topic"),
    differs("FLUSH_INTERVAL_MS", "250", "0", "how long a buffer gathers after its first record; 0 writes whenever a writer is free"),
    setting("FLUSH_BYTES", "5242880", "size at which a buffer is written at once"),
    setting("BUFFER_MAX_BYTES", "268435456", "request bytes held in memory; at the limit sockets are not read"),
    differs("BUFFER_UPLOADS", "16", "2", "objects written at the same time"),
    differs("BUFFER_HEDGE_MS", "500", "60000", "a put that takes longer is tried a second time beside the first"),
    setting("BUFFER_GIVE_UP_MS", "20000", "how long put and commit are tried before producers are told to retry"),
    setting("PRODUCE_OFFSETS", "verdict", "verdict: answer with real offsets; deferred: answer earlier, without (offset -1)"),
    setting("MATERIALIZE_INTERVAL_MS", "100", "safety net: how often to look for committed batches without being told"),
    setting("MATERIALIZE_BATCH_SIZE", "1000", "most objects that get their offsets in one transaction"),
    setting("MATERIALIZE_PARK_MS", "3000", "how long a batch that came ahead of its predecessors waits for them"),
    setting("MATERIALIZE_MAX_PARKED", "1000", "most such batches in one partition"),
    setting("PRODUCER_EXPIRY_MS", "86400000", "idempotent producers that send nothing for so long are forgotten"),
    setting("FETCH_MAX_BYTES", "52428800", "most bytes of one fetch response"),
    differs("FETCH_MEMORY_BYTES", "536870912", "268435456", "bytes of fetch responses not sent yet; beyond, each brings one batch"),
    differs(
        "FETCH_READ_AHEAD_BYTES",
        "16777216",
        "12582912",
        "how far ahead of a lagging consumer objects are read, up to twice as far to end with a segment, and less where many share the cache; 0 for not at all",
    ),
    setting("GROUP_MIN_SESSION_TIMEOUT_MS", "6000", "shortest session a group member may ask for"),
    setting("GROUP_MAX_SESSION_TIMEOUT_MS", "1800000", "longest session a group member may ask for"),
    differs("GROUP_INITIAL_REBALANCE_DELAY_MS", "3000", "0", "how long the first rebalance of an empty group waits for more members"),
    setting("GROUP_MAX_SIZE", "10000", "most members of one group"),
    setting("GROUP_CONSUMER_SESSION_TIMEOUT_MS", "45000", "how long a member of the consumer protocol (KIP-848) may be silent"),
    setting("GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", "5000", "how often such members send heartbeats"),
    setting("GROUP_CONSUMER_MAX_SIZE", "10000", "most members of one such group"),
    setting("GROUP_CONSUMER_ASSIGNORS", "uniform,range", "assignors they may choose from; the first is the default"),
    setting(
        "GROUP_CONSUMER_MIGRATION_POLICY",
        "bidirectional",
        "which ways groups with members may change protocol: bidirectional, upgrade, downgrade or disabled",
    ),
    setting("OFFSETS_RETENTION_MINUTES", "10080", "how long offsets of a group without members are kept"),
    setting("OFFSET_METADATA_MAX_BYTES", "4096", "most bytes of the metadata of a committed offset"),
    setting("MAX_CONNECTIONS", "20000", "most client connections; fewer where the system allows fewer open files"),
    setting("MAX_REQUEST_BYTES", "104857600", "largest request; a longer one closes its connection"),
    setting("CONNECTION_IDLE_MS", "600000", "a connection that is silent for so long is closed"),
    setting(
        "CONNECTION_REBALANCE_MS",
        "5000",
        "when an agent joins, connections end over this time, a few at a time, so that it gets its share; 0: none do",
    ),
    setting("DB_HOST", "localhost", "Postgres: host"),
    setting("DB_PORT", "5432", "Postgres: port"),
    setting("DB_USER", "testuser", "Postgres: user"),
    setting("DB_PASSWORD", "testpassword", "Postgres: password"),
    setting("DB_NAME", "testdb", "Postgres: database"),
    setting("DB_SSLMODE", "disable", "Postgres: disable, allow, prefer, require, verify-ca or verify-full"),
    setting("DB_MAX_CONNECTIONS", "16", "Postgres: most connections of this agent"),
    setting("S3_ENDPOINT", "http://localhost:4566", "S3: endpoint; empty for AWS"),
    setting("S3_REGION", "us-east-1", "S3: region"),
    setting("S3_ACCESS_KEY", "test", "S3: access key; with both keys empty the SDK's credential chain is used"),
    setting("S3_SECRET_KEY", "test", "S3: secret key"),
    setting("S3_PATH_STYLE", "true", "S3: bucket in the path instead of the host name"),
    setting("S3_BUCKET", "test-bucket", "S3: bucket"),
    setting("S3_PAYLOAD_SIGNING", "false", "S3: sign payloads too, for stores that insist; costs CPU"),
    differs("GROUPCACHE_CACHE_SIZE_MB", "512", "96", "memory for cached objects"),
    setting("GROUPCACHE_ENABLED", "false", "share the cache between agents of one rack"),
    setting("GROUPCACHE_PORT", "9080", "port for peers; 0 takes any free one"),
    setting("GROUPCACHE_ADVERTISED_HOST", "", "host name for peers; unset: the address by which this agent reaches Postgres"),
    setting("GROUPCACHE_HEARTBEAT_MS", "5000", "how often an agent renews its lease"),
    setting("GROUPCACHE_POLL_MS", "10000", "how often the other agents are looked up"),
    setting("GROUPCACHE_DEADLINE_MS", "250", "a peer that does not begin to answer within this is passed over in favour of S3"),
    setting("GROUPCACHE_LEASE_TTL_MS", "15000", "how long an agent that does not renew its lease counts as alive"),
    setting("WORKER_THREADS", "0", "threads that serve connections; 0: one for each processor, in yaks dev for every two"),
    setting("SHUTDOWN_TIMEOUT_MS", "30000", "how long a shutdown waits for requests in flight"),
    setting("LOG", "info", "log filter: error, warn, info, debug, trace, or per module as in yaks::produce=debug"),
    setting("LOG_FORMAT", "text", "text or json"),
];

/// The table as text for `--help`.
#[must_use]
pub fn help(mode: Mode) -> String {
    let mut text = String::from("Settings are environment variables:\n");
    for setting in SETTINGS.iter().filter(|s| applies(s.name, mode)) {
        let default = match mode {
            Mode::Agent => setting.default,
            Mode::Dev => setting.dev_default.unwrap_or(setting.default),
        };
        let default = if default.is_empty() { "unset" } else { default };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {PREFIX}{:<28} {} [{default}]", setting.name, setting.what);
    }
    text
}

fn applies(name: &str, mode: Mode) -> bool {
    match mode {
        Mode::Agent => true,
        Mode::Dev => {
            let not_there = ["DB_", "S3_", "RUN_MIGRATIONS", "RACK", "GROUPCACHE_"];
            name == "GROUPCACHE_CACHE_SIZE_MB" || !not_there.iter().any(|prefix| name.starts_with(prefix))
        }
    }
}

/// Reads settings by name.
pub(super) struct Reader<'a> {
    mode: Mode,
    set: &'a BTreeMap<String, String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(mode: Mode, set: &'a BTreeMap<String, String>) -> Self {
        Reader { mode, set }
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.set.contains_key(&name.to_lowercase())
    }

    /// Whatever it is, also nothing.
    pub(super) fn any(&self, name: &str) -> String {
        if let Some(value) = self.set.get(&name.to_lowercase()) {
            return value.clone();
        }
        let setting = SETTINGS.iter().find(|s| s.name == name);
        let default = setting.map(|s| match self.mode {
            Mode::Dev => s.dev_default.unwrap_or(s.default),
            Mode::Agent => s.default,
        });
        default.unwrap_or_default().to_owned()
    }

    fn refuse<T>(&self, name: &str, allowed: impl Display) -> Result<T, ConfigError> {
        Err(ConfigError { name: format!("{PREFIX}{name}"), value: self.any(name), allowed: allowed.to_string() })
    }

    pub(super) fn text(&self, name: &str) -> Result<String, ConfigError> {
        let value = self.any(name);
        if value.trim().is_empty() { self.refuse(name, "it must not be empty") } else { Ok(value) }
    }

    pub(super) fn number<T: FromStr + PartialOrd + Display + Copy>(&self, name: &str, min: T, max: T) -> Result<T, ConfigError> {
        match self.any(name).trim().parse::<T>() {
            Ok(value) if value >= min && value <= max => Ok(value),
            Ok(_) | Err(_) => self.refuse(name, format_args!("an integer from {min} to {max} is allowed")),
        }
    }

    pub(super) fn millis(&self, name: &str, min: u64) -> Result<Duration, ConfigError> {
        // A year: longer is a slip of the pen, and sums of such durations cannot overflow.
        Ok(Duration::from_millis(self.number(name, min, 365 * 24 * 3_600_000)?))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, ConfigError> {
        match self.any(name).trim().to_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => self.refuse(name, "true or false is allowed"),
        }
    }

    pub(super) fn choice(&self, name: &str, choices: &[&str]) -> Result<String, ConfigError> {
        let value = self.any(name).trim().to_lowercase();
        if choices.contains(&value.as_str()) {
            Ok(value)
        } else {
            self.refuse(name, format_args!("one of {} is allowed", choices.join(", ")))
        }
    }

    /// One or more, with commas between.
    pub(super) fn choices(&self, name: &str, choices: &[&str]) -> Result<Vec<String>, ConfigError> {
        let chosen: Vec<String> = self.any(name).split(',').map(|choice| choice.trim().to_lowercase()).collect();
        if chosen.iter().all(|choice| choices.contains(&choice.as_str())) {
            Ok(chosen)
        } else {
            self.refuse(name, format_args!("one or more of {} are allowed, with commas between", choices.join(", ")))
        }
    }

    pub(super) fn optional<T>(&self, name: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, ConfigError> {
        let value = self.any(name);
        if value.trim().is_empty() {
            return Ok(None);
        }
        match parse(value.trim()) {
            Some(parsed) => Ok(Some(parsed)),
            None => self.refuse(name, format_args!("{allowed} is allowed, or nothing")),
        }
    }

    /// `parse` says in words what is wrong.
    pub(super) fn parsed<T>(&self, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        parse(&self.any(name)).or_else(|wrong| self.refuse(name, wrong))
    }

    pub(super) fn at_most(&self, name: &str, doubled: Duration, other: &str, limit: Duration) -> Result<(), ConfigError> {
        if doubled <= limit { Ok(()) } else { self.refuse(name, format_args!("it must be at most half of {PREFIX}{other}")) }
    }

    /// A warning for every name that is set and unknown.
    pub(super) fn unknown(&self) -> Vec<String> {
        let known = |name: &str| SETTINGS.iter().any(|s| s.name.eq_ignore_ascii_case(name)) || name.starts_with("test_");
        let warn = |name: &String| {
            let name = name.to_uppercase();
            let nearest = SETTINGS.iter().min_by_key(|s| strsim::damerau_levenshtein(s.name, &name));
            let hint = nearest.map(|s| format!("; did you mean {PREFIX}{}?", s.name)).unwrap_or_default();
            format!("{PREFIX}{name} is not a setting of yaks and is ignored{hint}")
        };
        self.set.keys().filter(|name| !known(name)).map(warn).collect()
    }
}
