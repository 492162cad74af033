//! Settings: what there is ([`SETTINGS`]), what was set (the environment, `YAKS_*`), and each room's own typed configuration made from it.
//!
//! A value that cannot be used is one clear error that names the variable, the value and what is allowed. An unknown `YAKS_*` name is a
//! warning with the nearest known name.

mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use settings::{Mode, SETTINGS, Setting, help};

use crate::types::{NodeId, RackCidrs};

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}={value:?} cannot be used: {allowed}")]
pub struct ConfigError {
    pub name: String,
    pub value: String,
    pub allowed: String,
}

/// The environment could not be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("the environment cannot be read: {0}")]
    Environment(String),
    #[error(transparent)]
    Setting(#[from] ConfigError),
}

/// How one agent is to run.
#[derive(Debug, Clone)]
pub struct Config {
    pub mode: Mode,
    pub node_id: Option<NodeId>,
    pub rack: Option<String>,
    /// Racks of clients by their address.
    pub rack_cidrs: RackCidrs,
    pub broker_host: String,
    pub broker_port: u16,
    pub advertised_host: String,
    /// 0: the port the broker listens on.
    pub advertised_port: u16,
    /// Metrics and health, if they are served.
    pub metrics_port: Option<u16>,
    pub run_migrations: bool,
    pub backends: Backends,
    pub buffer: BufferConfig,
    pub materialize: MaterializeSettings,
    pub fetch: FetchSettings,
    pub topics: TopicSettings,
    pub groups: GroupConfig,
    pub connections: ConnectionSettings,
    pub cache_bytes: u64,
    pub peers: PeerSettings,
    pub lease_ttl: Duration,
    pub lease_heartbeat: Duration,
    /// Threads of the runtime.
    pub worker_threads: usize,
    pub shutdown_timeout: Duration,
    /// None are sent without.
    pub traces: Option<TraceSettings>,
    pub log: LogSettings,
}

/// Where things are kept. One a process: its size does not matter.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "there is one")]
pub enum Backends {
    /// SQLite and a directory.
    Local { data_dir: PathBuf },
    /// Postgres and S3.
    Shared { db: DbSettings, s3: S3Settings },
}

#[derive(Debug, Clone)]
pub struct DbSettings {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
    pub name: String,
    pub sslmode: String,
    pub max_connections: u32,
}

#[derive(Debug, Clone)]
pub struct S3Settings {
    pub endpoint: String,
    pub region: String,
    pub access_key: String,
    pub secret_key: String,
    pub path_style: bool,
    pub bucket: String,
    pub payload_signing: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct BufferConfig {
    pub flush_interval: Duration,
    pub flush_bytes: u64,
    pub max_bytes: u64,
    pub uploads: usize,
    pub hedge_after: Duration,
    pub give_up_after: Duration,
    /// Answer batches without a producer id before they have offsets.
    pub deferred: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct MaterializeSettings {
    pub interval: Duration,
    pub batch_size: usize,
    pub park_for: Duration,
    pub max_parked: usize,
    pub producer_idle: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct FetchSettings {
    pub max_bytes: u64,
    pub memory_bytes: u64,
    pub read_ahead_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
pub struct TopicSettings {
    pub auto_create: bool,
    pub default_partitions: i32,
    pub max_partitions: i32,
}

#[derive(Debug, Clone)]
pub struct GroupConfig {
    pub min_session_timeout: Duration,
    pub max_session_timeout: Duration,
    pub initial_rebalance_delay: Duration,
    pub max_size: usize,
    pub offsets_retention: Duration,
    pub offset_metadata_max_bytes: usize,
    pub consumer_session_timeout: Duration,
    pub consumer_heartbeat_interval: Duration,
    pub consumer_max_size: usize,
    /// Names of assignors, in order of preference.
    pub consumer_assignors: Vec<String>,
    pub consumer_migration: String,
}

/// How the cache is shared between agents.
#[derive(Debug, Clone)]
pub struct PeerSettings {
    pub enabled: bool,
    /// 0: any free one.
    pub port: u16,
    /// The host name peers are told; `None`: the address by which this agent reaches the database.
    pub advertised_host: Option<String>,
    /// How often the other agents are looked up.
    pub poll: Duration,
    /// How long a peer may take until it begins to answer.
    pub deadline: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct ConnectionSettings {
    /// Over how long connections are ended when an agent joins; zero for not at all.
    pub rebalance: Duration,
    pub max_connections: usize,
    pub max_request_bytes: usize,
    pub idle: Duration,
}

/// Where traces go.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    pub endpoint: String,
    /// From 0 to 1.
    pub sample_ratio: f64,
}

#[derive(Debug, Clone)]
pub struct LogSettings {
    pub filter: String,
    pub json: bool,
}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn from_env(mode: Mode, data_dir: Option<PathBuf>) -> Result<(Config, Vec<String>), ReadError> {
        let set: BTreeMap<String, String> =
            envy::prefixed(settings::PREFIX).from_iter(ours()?).map_err(|error| ReadError::Environment(error.to_string()))?;
        Ok(Config::from_settings(mode, data_dir, &set)?)
    }

    /// `set`: names in lower case, without the prefix. Also returns warnings for unknown names.
    ///
    /// # Errors
    /// [`ConfigError`] for the first value that cannot be used.
    pub fn from_settings(
        mode: Mode,
        data_dir: Option<PathBuf>,
        set: &BTreeMap<String, String>,
    ) -> Result<(Config, Vec<String>), ConfigError> {
        let read = settings::Reader::new(mode, set);
        let config = Config {
            mode,
            node_id: read.optional("NODE_ID", "an integer from 0 to 2147483647", |v| v.parse().ok().filter(|id| *id >= 0).map(NodeId))?,
            rack: read.optional("RACK", "a name", |v| Some(v.to_owned()))?,
            rack_cidrs: read.parsed("RACK_CIDRS", RackCidrs::parse)?,
            broker_host: read.text("BROKER_HOST")?,
            broker_port: read.number("BROKER_PORT", 0, u16::MAX)?,
            advertised_host: read.text("ADVERTISED_HOST")?,
            advertised_port: read.number("ADVERTISED_PORT", 0, u16::MAX)?,
            metrics_port: metrics_port(&read)?,
            run_migrations: read.flag("RUN_MIGRATIONS")?,
            backends: backends(&read, mode, data_dir)?,
            buffer: buffer(&read)?,
            materialize: materialize(&read)?,
            fetch: FetchSettings {
                max_bytes: read.number("FETCH_MAX_BYTES", 1, i32::MAX as u64)?,
                memory_bytes: read.number("FETCH_MEMORY_BYTES", 1 << 20, 1 << 40)?,
                read_ahead_bytes: read.number("FETCH_READ_AHEAD_BYTES", 0, 1 << 30)?,
            },
            topics: TopicSettings {
                auto_create: read.flag("AUTO_CREATE_TOPICS")?,
                max_partitions: read.number("TOPIC_MAX_PARTITIONS", 1, 1_000_000)?,
                default_partitions: read.number("DEFAULT_PARTITIONS", 1, read.number("TOPIC_MAX_PARTITIONS", 1, 1_000_000)?)?,
            },
            groups: groups(&read)?,
            connections: ConnectionSettings {
                rebalance: read.millis("CONNECTION_REBALANCE_MS", 0)?,
                max_connections: read.number("MAX_CONNECTIONS", 1, 1_000_000)?,
                max_request_bytes: read.number("MAX_REQUEST_BYTES", 1024, i32::MAX as usize)?,
                idle: read.millis("CONNECTION_IDLE_MS", 1_000)?,
            },
            cache_bytes: read.number::<u64>("GROUPCACHE_CACHE_SIZE_MB", 1, 1 << 20)? << 20,
            peers: PeerSettings {
                enabled: read.flag("GROUPCACHE_ENABLED")?,
                port: read.number("GROUPCACHE_PORT", 0, u16::MAX)?,
                advertised_host: read.optional("GROUPCACHE_ADVERTISED_HOST", "a host name", |v| Some(v.to_owned()))?,
                poll: read.millis("GROUPCACHE_POLL_MS", 100)?,
                deadline: read.millis("GROUPCACHE_DEADLINE_MS", 1)?,
            },
            lease_ttl: read.millis("GROUPCACHE_LEASE_TTL_MS", 1_000)?,
            lease_heartbeat: read.millis("GROUPCACHE_HEARTBEAT_MS", 100)?,
            worker_threads: worker_threads(mode, read.number("WORKER_THREADS", 0, 1_024)?),
            shutdown_timeout: read.millis("SHUTDOWN_TIMEOUT_MS", 0)?,
            traces: traces(&read)?,
            log: LogSettings { filter: read.text("LOG")?, json: read.choice("LOG_FORMAT", &["text", "json"])? == "json" },
        };
        read.at_most("GROUPCACHE_HEARTBEAT_MS", config.lease_heartbeat * 2, "GROUPCACHE_LEASE_TTL_MS", config.lease_ttl)?;
        let warnings = read.unknown();
        Ok((config, warnings))
    }
}

/// The settings in the environment. What else is there may be no text at all, and is none of our business.
fn ours() -> Result<Vec<(String, String)>, ConfigError> {
    let mut ours = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(settings::PREFIX)) else { continue };
        let not_text = |value: std::ffi::OsString| ConfigError {
            name: name.to_owned(),
            value: value.to_string_lossy().into_owned(),
            allowed: "it must be UTF-8".to_owned(),
        };
        ours.push((name.to_owned(), value.into_string().map_err(not_text)?));
    }
    Ok(ours)
}

fn metrics_port(read: &settings::Reader<'_>) -> Result<Option<u16>, ConfigError> {
    let port = read.number("METRICS_PORT", 0, u16::MAX)?;
    Ok((read.flag("OTEL_ENABLED")? || read.is_set("METRICS_PORT")).then_some(port))
}

fn traces(read: &settings::Reader<'_>) -> Result<Option<TraceSettings>, ConfigError> {
    let ratio = |text: &str| text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    let sample_ratio = read.optional("OTEL_TRACES_SAMPLE_RATIO", "a number from 0 to 1", ratio)?.unwrap_or(1.0);
    let url = |text: &str| text.strip_prefix("http://").filter(|rest| !rest.is_empty()).map(|_| text.to_owned());
    let endpoint =
        read.optional("OTEL_TRACES_ENDPOINT", "a URL that begins with http:// (for TLS, put a collector beside the agent)", url)?;
    Ok(endpoint.map(|endpoint| TraceSettings { endpoint, sample_ratio }))
}

fn backends(read: &settings::Reader<'_>, mode: Mode, data_dir: Option<PathBuf>) -> Result<Backends, ConfigError> {
    match mode {
        Mode::Dev => Ok(Backends::Local { data_dir: data_dir.unwrap_or_else(|| PathBuf::from(settings::DEFAULT_DATA_DIR)) }),
        Mode::Agent => Ok(Backends::Shared {
            db: DbSettings {
                host: read.text("DB_HOST")?,
                port: read.number("DB_PORT", 1, u16::MAX)?,
                user: read.text("DB_USER")?,
                password: read.any("DB_PASSWORD"),
                name: read.text("DB_NAME")?,
                sslmode: read.choice("DB_SSLMODE", &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])?,
                max_connections: read.number("DB_MAX_CONNECTIONS", 3, 1_000)?,
            },
            s3: S3Settings {
                endpoint: read.any("S3_ENDPOINT"),
                region: read.text("S3_REGION")?,
                access_key: read.any("S3_ACCESS_KEY"),
                secret_key: read.any("S3_SECRET_KEY"),
                path_style: read.flag("S3_PATH_STYLE")?,
                bucket: read.text("S3_BUCKET")?,
                payload_signing: read.flag("S3_PAYLOAD_SIGNING")?,
            },
        }),
    }
}

/// `yaks dev` shares its machine with its clients, and at a low rate most of what several threads do is to wake each other.
fn worker_threads(mode: Mode, wanted: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match (wanted, mode) {
        (0, Mode::Agent) => processors,
        (0, Mode::Dev) => processors.div_ceil(2),
        (threads, _) => threads,
    }
}

fn buffer(read: &settings::Reader<'_>) -> Result<BufferConfig, ConfigError> {
    Ok(BufferConfig {
        flush_interval: read.millis("FLUSH_INTERVAL_MS", 0)?,
        flush_bytes: read.number("FLUSH_BYTES", 1, 1 << 30)?,
        max_bytes: read.number("BUFFER_MAX_BYTES", 1 << 20, 1 << 40)?,
        uploads: read.number("BUFFER_UPLOADS", 1, 1_000)?,
        hedge_after: read.millis("BUFFER_HEDGE_MS", 1)?,
        give_up_after: read.millis("BUFFER_GIVE_UP_MS", 100)?,
        deferred: read.choice("PRODUCE_OFFSETS", &["verdict", "deferred"])? == "deferred",
    })
}

fn groups(read: &settings::Reader<'_>) -> Result<GroupConfig, ConfigError> {
    let consumer_session_timeout = read.millis("GROUP_CONSUMER_SESSION_TIMEOUT_MS", 1_000)?;
    let consumer_heartbeat_interval = read.millis("GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", 100)?;
    read.at_most(
        "GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS",
        consumer_heartbeat_interval * 2,
        "GROUP_CONSUMER_SESSION_TIMEOUT_MS",
        consumer_session_timeout,
    )?;
    let min_session_timeout = read.millis("GROUP_MIN_SESSION_TIMEOUT_MS", 1)?;
    Ok(GroupConfig {
        min_session_timeout,
        max_session_timeout: read.millis("GROUP_MAX_SESSION_TIMEOUT_MS", u64::try_from(min_session_timeout.as_millis()).unwrap_or(1))?,
        initial_rebalance_delay: read.millis("GROUP_INITIAL_REBALANCE_DELAY_MS", 0)?,
        max_size: read.number("GROUP_MAX_SIZE", 1, i32::MAX as usize)?,
        offsets_retention: Duration::from_mins(read.number("OFFSETS_RETENTION_MINUTES", 1, 100 * 365 * 24 * 60)?),
        offset_metadata_max_bytes: read.number("OFFSET_METADATA_MAX_BYTES", 0, i32::MAX as usize)?,
        consumer_session_timeout,
        consumer_heartbeat_interval,
        consumer_max_size: read.number("GROUP_CONSUMER_MAX_SIZE", 1, i32::MAX as usize)?,
        consumer_assignors: read.choices("GROUP_CONSUMER_ASSIGNORS", &["uniform", "range"])?,
        consumer_migration: read.choice("GROUP_CONSUMER_MIGRATION_POLICY", &["bidirectional", "upgrade", "downgrade", "disabled"])?,
    })
}

fn materialize(read: &settings::Reader<'_>) -> Result<MaterializeSettings, ConfigError> {
    Ok(MaterializeSettings {
        interval: read.millis("MATERIALIZE_INTERVAL_MS", 1)?,
        batch_size: read.number("MATERIALIZE_BATCH_SIZE", 1, 100_000)?,
        park_for: read.millis("MATERIALIZE_PARK_MS", 0)?,
        max_parked: read.number("MATERIALIZE_MAX_PARKED", 0, 1_000_000)?,
        producer_idle: read.millis("PRODUCER_EXPIRY_MS", 1_000)?,
    })
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
