//! The only place where parts meet: builds all, spawns all, owns the order of shutdown.

mod backends;
mod files;
mod health;
mod inlined;
mod joining;
mod peers;
mod ready;
mod rooms;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

pub use health::ask_health;
use peers::{CacheParts, Lending};
use ready::Ready;
pub use rooms::{RoomParts, Rooms};

use crate::admin::{Admin, AdminError};
use crate::budget::Budget;
use crate::cache::{CacheConfig, ObjectCache};
use crate::clock::{Clock, Ids, RandomIds, SystemClock};
use crate::config::{Backends, Config, LogSettings};
use crate::handlers::{BrokerParts, HandlerConfig, Handlers};
use crate::metastore::{Agent, Identity, Leases, MetaError, Metastore};
use crate::metrics::{Metrics, MetricsError};
use crate::produce::Keep;
use crate::server::{Listening, Server, ServerConfig, ServerMetrics};
use crate::store::measured::MeasuredStore;
use crate::store::{ObjectStore, StoreError};
use crate::tasks::Tasks;
use crate::traces::{Collector, TraceConfig, Traces, TracesError};
use crate::types::NodeId;
use crate::upkeep::{Lease, LeaseConfig, LeaseError, Membership};

/// The largest batch where a topic does not say: Kafka's default of `message.max.bytes`.
const MESSAGE_MAX_BYTES: u32 = 1_048_588;

const LOCAL_PAGE_BYTES: NonZeroU64 = NonZeroU64::MIN.saturating_add((256 << 10) - 1);

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Metastore(#[from] MetaError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Lease(#[from] LeaseError),
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    #[error(transparent)]
    Admin(#[from] AdminError),
    #[error(transparent)]
    Traces(#[from] TracesError),
    #[error("the broker cannot listen on {host}:{port}: {error}; set YAKS_BROKER_PORT to a free port, or to 0 for any")]
    Listen { host: String, port: u16, error: std::io::Error },
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
    #[error("{0}")]
    Failed(String),
    #[error("YAKS_LOG={filter:?} cannot be used: {error}")]
    Log { filter: String, error: String },
}

/// Says on standard error what went wrong, and gives main its exit code.
pub fn complain(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("yaks: {error}");
    ExitCode::FAILURE
}

/// Log lines go to standard output, from now on.
pub fn start_logging(log: &LogSettings) -> Result<(), StartError> {
    let bad = |error: &dyn std::fmt::Display| StartError::Log { filter: log.filter.clone(), error: error.to_string() };
    let filter = EnvFilter::try_new(&log.filter).map_err(|error| bad(&error))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter);
    let started = if log.json { lines.json().try_init() } else { lines.with_ansi(false).try_init() };
    started.map_err(|error| bad(&error))
}

/// What the system says to a process that is to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Signals, StartError> {
        let listen = |kind| signal(kind).map_err(StartError::Signals);
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Cancel safe.
    async fn told_to_stop(&mut self) {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// One agent, serving.
#[derive(Debug)]
pub struct App {
    server: Server,
    admin: Option<Admin>,
    rooms: Rooms,
    lending: Lending,
    lease: Lease,
    members: Membership,
    metastore: Arc<dyn Metastore>,
    stopping: CancellationToken,
    /// Set when the agent cannot go on: the node id that it was told to have is another's.
    lost: CancellationToken,
    tasks: Tasks,
    shutdown_timeout: Duration,
}

impl App {
    /// Brings the schema up to date.
    pub async fn migrate(config: &Config) -> Result<(), StartError> {
        backends::migrate(config, Arc::new(SystemClock)).await
    }

    /// Gives the agents a new secret for each other; they learn of it when they look each other up.
    pub async fn rotate_peer_secret(config: &Config) -> Result<(), StartError> {
        let tasks = Tasks::new();
        let metastore = backends::open_metastore(config, Arc::new(SystemClock), &tasks).await?;
        let rotated = metastore.rotate_peer_secret(peer_secret(&RandomIds::from_system())).await;
        metastore.close().await;
        rotated?;
        tracing::info!(within = ?config.peers.poll, "the secret of the agents was rotated; all of them use it within that time");
        Ok(())
    }

    /// Serves until a signal or a failure, then shuts down in good order.
    pub async fn run(config: Config) -> Result<(), StartError> {
        let mut signals = Signals::new()?;
        let app = tokio::select! {
            biased;
            () = signals.told_to_stop() => {
                tracing::info!("told to stop before the start was over");
                return Ok(());
            }
            app = App::start(config) => app?,
        };
        let failure = tokio::select! {
            biased;
            () = signals.told_to_stop() => None,
            task = app.tasks.failed() => Some(format!("{task} panicked")),
            () = app.lost.cancelled() => Some("the node id was taken by another agent while this one was paused or cut off from the metastore".to_owned()),
        };
        tracing::info!("shutting down");
        let clean = tokio::select! {
            biased;
            clean = app.shutdown() => clean,
            () = signals.told_to_stop() => return Err(StartError::Failed("told twice to stop; what was in flight is lost".to_owned())),
        };
        match failure {
            Some(failure) => Err(StartError::Failed(failure)),
            None if clean => Ok(()),
            None => Err(StartError::Failed("the shutdown took too long; requests in flight were cut off".to_owned())),
        }
    }

    /// Starts everything; the agent serves when this returns.
    pub async fn start(mut config: Config) -> Result<App, StartError> {
        config.connections.max_connections = files::make_room(config.connections.max_connections);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let ids: Arc<dyn Ids> = Arc::new(RandomIds::from_system());
        let metrics = Arc::new(Metrics::new()?);
        let tasks = Tasks::new();
        let metastore = backends::open_metastore(&config, Arc::clone(&clock), &tasks).await?;
        let store = backends::open_store(&config, &metastore).await?;
        let store: Arc<dyn ObjectStore> = Arc::new(MeasuredStore::new(store, metrics.store.clone()));
        let (what, proposal) = (metastore.describe(), cluster_id_from(ids.instance()));
        let cluster_id = backends::patiently(&what, || metastore.cluster_id(&proposal), backends::is_worth_waiting).await?;
        let listening = listen(&config).await?;
        let stopping = CancellationToken::new();
        let ready = Arc::new(Ready::new(Arc::clone(&metastore), Arc::clone(&store), stopping.clone()));
        let admin = start_admin(&config, &metrics, &ready, &tasks).await?;
        let peer_port = peers::bind(&config).await?;

        let collector = config.traces.as_ref().map(|traces| Collector::at(&traces.endpoint)).transpose()?;
        // Nothing can fail from here on, so that no node id stays leased to an agent that did not start.
        let agent = agent(&config, listening.local_addr(), peer_port.as_ref().map(|port| port.address), ids.instance());
        let leases: Arc<dyn Leases> = Arc::clone(&metastore) as _;
        let lease_config = LeaseConfig { wanted: config.node_id, ttl: config.lease_ttl, heartbeat: config.lease_heartbeat };
        let worth_waiting = |error: &LeaseError| matches!(error, LeaseError::Metastore(error) if backends::is_worth_waiting(error));
        let acquire = || Lease::acquire(Arc::clone(&leases), lease_config, &agent);
        let lease = backends::patiently(&what, acquire, worth_waiting).await?;
        let me = lease.me();
        let traces = start_traces(&config, collector, &me.agent(), &metrics, &tasks);
        let members = Membership::start(leases, me.clone(), config.peers.poll, peer_secret(&*ids), &tasks).await;
        let lost = CancellationToken::new();
        let on_taken = lost.clone();
        lease.keep(&tasks, members.look(), move || on_taken.cancel());

        let cache_parts = CacheParts { store: Arc::clone(&store), clock: Arc::clone(&clock), members: &members, metrics: &metrics };
        let (cache, lending) = peers::start(&config, peer_port, cache_parts, &tasks);
        let parts = RoomParts {
            metastore: Arc::clone(&metastore),
            store: Arc::clone(&store),
            reads: Arc::clone(&cache) as _,
            keep: keep_in(cache),
            clock: Arc::clone(&clock),
            ids: Arc::clone(&ids),
            me: me.clone(),
            metrics: Arc::clone(&metrics),
            traces: traces.clone(),
        };
        let rooms = Rooms::start(&config, &parts, &tasks);
        ready.started(me.clone(), Arc::clone(&rooms.producer));
        let handler_config = HandlerConfig { log_dir: store.describe(), ..handler_config(&config, cluster_id.clone(), me.clone()) };
        let handlers = Handlers::new(handler_config, broker_parts(&parts, &rooms));
        let server_metrics = ServerMetrics { connections: metrics.connections.clone(), requests: metrics.requests.clone(), traces };
        let budget = Budget::new(config.buffer.max_bytes);
        watch(&metrics, config.buffer.max_bytes, &budget, &rooms, &parts);
        let server = listening.serve(server_config(&config), Arc::new(handlers), budget, server_metrics, &tasks);
        if !config.connections.rebalance.is_zero() {
            joining::share_with_newcomers(&members, server.shedding(), config.connections.rebalance, &tasks);
        }
        let app = App {
            server,
            admin,
            rooms,
            lending,
            lease,
            members,
            metastore,
            stopping,
            lost,
            tasks,
            shutdown_timeout: config.shutdown_timeout,
        };
        app.announce(&me.agent(), &cluster_id, &store.describe());
        Ok(app)
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Where metrics and health are served.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.address)
    }

    /// The other agents, as this one sees them.
    #[must_use]
    pub fn members(&self) -> &Membership {
        &self.members
    }

    fn announce(&self, agent: &Agent, cluster_id: &str, store: &str) {
        tracing::info!(
            node = %agent.node,
            cluster = cluster_id,
            metastore = self.metastore.describe(),
            store,
            advertised = format!("{}:{}", agent.advertised_host, agent.advertised_port),
            metrics = self.admin_address().map(|address| address.to_string()),
            "yaks {} is listening on {}",
            agent.version,
            self.address(),
        );
    }

    /// Stops in the order that loses nothing: readiness off; accept and read nothing more, while buffers still run and seal at once, so
    /// that requests in flight are answered; write what is left; stop rounds and sweeps; stop lending to peers; give up the lease; close the metastore.
    /// False if something was cut off.
    pub async fn shutdown(self) -> bool {
        let deadline = self.shutdown_timeout;
        self.stopping.cancel();
        self.rooms.hurry();
        let answered = self.server.stop(deadline).await;
        let written = self.rooms.stop(deadline).await;
        // The last of the listeners: until here peers get what only this agent has in memory.
        let lent = self.lending.stop(deadline).await;
        let stopped = lent & self.tasks.stop(deadline).await;
        self.lease.release().await;
        self.metastore.close().await;
        tracing::info!(answered, written, stopped, "stopped");
        answered && written && stopped
    }
}

/// Twenty-two characters of URL-safe base64, as Kafka's cluster ids are.
fn cluster_id_from(random: [u8; 16]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = u128::from_be_bytes(random);
    // 128 bits are 21 digits of six and one of two.
    let digit = |i: u32| if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
    (0..22).map(|i| char::from(DIGITS[(digit(i) & 63) as usize])).collect()
}

async fn listen(config: &Config) -> Result<Listening, StartError> {
    let (host, port) = (&config.broker_host, config.broker_port);
    Listening::bind(host, port).await.map_err(|error| StartError::Listen { host: host.clone(), port, error })
}

/// This agent as the others, and clients, see it; the node id is still to be leased.
fn agent(config: &Config, listening: SocketAddr, peers: Option<SocketAddr>, instance: [u8; 16]) -> Agent {
    Agent {
        node: config.node_id.unwrap_or(NodeId(0)),
        // Nobody knows it yet.
        broker: NodeId(-1),
        instance,
        advertised_host: config.advertised_host.clone(),
        advertised_port: if config.advertised_port == 0 { listening.port() } else { config.advertised_port },
        peer_address: peers.map(|address| peer_address(config, address.port())),
        rack: config.rack.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Where peers reach this agent's cache.
fn peer_address(config: &Config, port: u16) -> String {
    let host = match (&config.peers.advertised_host, &config.backends) {
        (Some(host), _) => host.clone(),
        (None, Backends::Shared { db, .. }) => address_towards(&db.host, db.port).unwrap_or_else(|| config.advertised_host.clone()),
        (None, Backends::Local { .. }) => config.advertised_host.clone(),
    };
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
    format!("{host}:{port}")
}

/// This machine's address on the way to `host`: what the system would send from. Nothing is sent.
fn address_towards(host: &str, port: u16) -> Option<String> {
    let reach = |from: &str| {
        let socket = std::net::UdpSocket::bind(from).ok()?;
        socket.connect((host, port)).ok()?;
        socket.local_addr().ok().map(|address| address.ip().to_string())
    };
    reach("0.0.0.0:0").or_else(|| reach("[::]:0"))
}

/// What this agent would have peers prove with, if nobody has said yet.
fn peer_secret(ids: &dyn Ids) -> [u8; 32] {
    let mut secret = [0; 32];
    secret[..16].copy_from_slice(&ids.instance());
    secret[16..].copy_from_slice(&ids.instance());
    secret
}

/// A local disk gives small pieces as willingly as large ones, so that reading a little more than is wanted does not pay there.
fn cache_config(config: &Config) -> CacheConfig {
    let usual = CacheConfig::with_capacity(config.cache_bytes);
    match config.backends {
        Backends::Local { .. } => CacheConfig { page_bytes: LOCAL_PAGE_BYTES, prefetched_pages: 128, ..usual },
        Backends::Shared { .. } => usual,
    }
}

fn keep_in(cache: Arc<ObjectCache>) -> Keep {
    Arc::new(move |object, body| {
        let cache = Arc::clone(&cache);
        Box::pin(async move { cache.insert(object, body).await })
    })
}

fn handler_config(config: &Config, cluster_id: String, me: Identity) -> HandlerConfig {
    HandlerConfig {
        cluster_id,
        me,
        auto_create_topics: config.topics.auto_create,
        default_partitions: config.topics.default_partitions,
        max_partitions: config.topics.max_partitions,
        message_max_bytes: MESSAGE_MAX_BYTES,
        fetch_max_bytes: config.fetch.max_bytes,
        max_request_bytes: config.connections.max_request_bytes,
        max_connections: config.connections.max_connections,
        connection_idle_ms: u64::try_from(config.connections.idle.as_millis()).unwrap_or(u64::MAX),
        log_dir: String::new(),
        rack_cidrs: config.rack_cidrs.clone(),
        deferred: config.buffer.deferred,
    }
}

fn broker_parts(parts: &RoomParts, rooms: &Rooms) -> BrokerParts {
    BrokerParts {
        metastore: Arc::clone(&parts.metastore),
        producer: Arc::clone(&rooms.producer) as _,
        reader: Arc::clone(&rooms.reader) as _,
        watermarks: Arc::clone(&rooms.watermarks),
        groups: rooms.groups.clone(),
        clock: Arc::clone(&parts.clock),
        ids: Arc::clone(&parts.ids),
        requests: parts.metrics.requests.clone(),
        produce: parts.metrics.produce.clone(),
        fetch: parts.metrics.fetch.clone(),
    }
}

fn server_config(config: &Config) -> ServerConfig {
    ServerConfig {
        max_connections: config.connections.max_connections,
        max_request_bytes: config.connections.max_request_bytes,
        idle_timeout: config.connections.idle,
        ..ServerConfig::default()
    }
}

fn start_traces(config: &Config, collector: Option<Collector>, agent: &Agent, metrics: &Metrics, tasks: &Tasks) -> Traces {
    let (Some(settings), Some(collector)) = (&config.traces, collector) else { return Traces::off() };
    let config = TraceConfig { sample_ratio: settings.sample_ratio, node: agent.node.0, version: env!("CARGO_PKG_VERSION") };
    Traces::start(collector, &config, metrics.traces.clone(), tasks)
}

/// What is asked for its state only when somebody looks at the metrics.
fn watch(metrics: &Metrics, most: u64, budget: &Budget, rooms: &Rooms, parts: &RoomParts) {
    let (budget, producer, database, me) = (budget.clone(), Arc::clone(&rooms.producer), Arc::clone(&parts.metastore), parts.me.clone());
    metrics.watch_held(most, move || budget.used());
    metrics.watch_stalled(move || producer.stalled().unwrap_or_default());
    if database.pool().is_some() {
        metrics.watch_pool(move || database.pool().unwrap_or_default());
    }
    let runtime = tokio::runtime::Handle::current().metrics();
    let threads = runtime.num_workers();
    metrics.watch_workers(threads, move || (0..threads).map(|thread| runtime.worker_total_busy_duration(thread)).sum());
    metrics.identify(me.agent().node.0, env!("CARGO_PKG_VERSION"));
    if me.until().is_some() {
        metrics.watch_lease(move || me.until().map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default());
    }
}

async fn start_admin(config: &Config, metrics: &Arc<Metrics>, ready: &Arc<Ready>, tasks: &Tasks) -> Result<Option<Admin>, AdminError> {
    let Some(port) = config.metrics_port else { return Ok(None) };
    Admin::start(&config.broker_host, port, Arc::clone(metrics), Arc::clone(ready) as _, tasks).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_look_like_kafkas() {
        assert_eq!(cluster_id_from([0; 16]), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(cluster_id_from([0xff; 16]), "_____________________w");
        assert_eq!(cluster_id_from(*b"0123456789abcdef"), "MDEyMzQ1Njc4OWFiY2RlZg");
    }
}
