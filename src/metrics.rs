//! Every instrument, by name: one struct per room, with verbs. No OpenTelemetry type leaves this file.
//!
//! Names, types and labels are the interface of dashboards and alerts (docs/METRICS.md, held against this file by a test). A label takes few values: API
//! names, codes, topics; never a client's or a group's name.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{AsyncInstrument, Counter, Gauge, Histogram, Meter, MeterProvider as _, UpDownCounter};
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Encoder as _, Registry, TextEncoder};

/// Buckets of every duration, in seconds.
const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Which instruments these are, to OpenTelemetry.
const SCOPE: &str = "yaks";

/// All instruments of one agent, and the registry that shows them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    provider: SdkMeterProvider,
    pub requests: RequestMetrics,
    pub connections: ConnectionMetrics,
    pub produce: ProduceMetrics,
    pub fetch: FetchMetrics,
    pub buffer: BufferMetrics,
    pub materializer: MaterializerMetrics,
    pub groups: GroupMetrics,
    pub cache: CacheMetrics,
    pub peers: PeerMetrics,
    pub store: StoreMetrics,
    pub jobs: JobMetrics,
    pub traces: TraceMetrics,
}

/// The exporter could not be built.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be set up: {0}")]
pub struct MetricsError(String);

impl Metrics {
    /// # Errors
    /// [`MetricsError`] if the exporter refuses its settings.
    pub fn new() -> Result<Metrics, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .without_counter_suffixes()
            .without_units()
            .scope_info_enabled(false)
            .without_target_info()
            .build()
            .map_err(|error| MetricsError(error.to_string()))?;
        let provider = SdkMeterProvider::builder().with_reader(exporter).build();
        let meter = provider.meter(SCOPE);
        Ok(Metrics {
            requests: RequestMetrics::new(&meter),
            connections: ConnectionMetrics::new(&meter),
            produce: ProduceMetrics::new(&meter),
            fetch: FetchMetrics::new(&meter),
            buffer: BufferMetrics::new(&meter),
            materializer: MaterializerMetrics::new(&meter),
            groups: GroupMetrics::new(&meter),
            cache: CacheMetrics::new(&meter),
            peers: PeerMetrics::new(&meter),
            store: StoreMetrics::new(&meter),
            jobs: JobMetrics::new(&meter),
            traces: TraceMetrics::new(&meter),
            registry,
            provider,
        })
    }

    /// Shows the bytes of requests that are held in memory, as `held` says when somebody looks, and how many may be.
    pub fn watch_held(&self, most: u64, held: impl Fn() -> u64 + Send + Sync + 'static) {
        let meter = self.provider.meter(SCOPE);
        gauge(&meter, "yaks_buffer_max_bytes", "Most request bytes held in memory").record(most, &[]);
        let gauge = meter.u64_observable_gauge("yaks_buffer_bytes").with_description("Request bytes held in memory");
        gauge.with_callback(move |observer| observer.observe(held(), &[])).build();
    }

    /// Shows for how long uploads and commits have not moved while something waits for them.
    pub fn watch_stalled(&self, stalled: impl Fn() -> Duration + Send + Sync + 'static) {
        let meter = self.provider.meter(SCOPE);
        let gauge = meter.f64_observable_gauge("yaks_buffer_stalled_seconds");
        let gauge = gauge.with_description("How long uploads and commits have not moved while something waits");
        gauge.with_callback(move |observer| observer.observe(stalled().as_secs_f64(), &[])).build();
    }

    /// Shows for how long this agent may still act under its node id.
    pub fn watch_lease(&self, remaining: impl Fn() -> Duration + Send + Sync + 'static) {
        let meter = self.provider.meter(SCOPE);
        let gauge = meter.f64_observable_gauge("yaks_lease_remaining_seconds");
        let gauge = gauge.with_description("How long this agent may still act under its node id; 0: it may not");
        gauge.with_callback(move |observer| observer.observe(remaining().as_secs_f64(), &[])).build();
    }

    /// Shows how the connections to the database are used.
    pub fn watch_pool(&self, pool: impl Fn() -> PoolUse + Send + Sync + Clone + 'static) {
        let meter = self.provider.meter(SCOPE);
        let state = |name| [KeyValue::new("state", name)];
        let (used, idle) = (state("used"), state("idle"));
        let connections = pool.clone();
        let observe = move |observer: &dyn AsyncInstrument<u64>| {
            let pool = connections();
            observer.observe(pool.used.into(), &used);
            observer.observe(pool.idle.into(), &idle);
        };
        let gauge = meter.u64_observable_gauge("yaks_db_pool_connections").with_description("Connections to the database, by state");
        gauge.with_callback(observe).build();
        let most = pool.clone();
        let gauge = meter.u64_observable_gauge("yaks_db_pool_max_connections").with_description("Most connections to the database");
        gauge.with_callback(move |observer| observer.observe(most().most.into(), &[])).build();
        let taken = pool.clone();
        let counter = meter.u64_observable_counter("yaks_db_pool_acquires_total").with_description("Connections taken from the pool");
        counter.with_callback(move |observer| observer.observe(taken().acquires, &[])).build();
        let counter = meter.f64_observable_counter("yaks_db_pool_wait_seconds_total").with_description("Time waited for connections");
        counter.with_callback(move |observer| observer.observe(pool().waited.as_secs_f64(), &[])).build();
    }

    /// Shows how busy the threads that serve connections are: `busy` is the time that all of them have worked.
    pub fn watch_workers(&self, threads: usize, busy: impl Fn() -> Duration + Send + Sync + 'static) {
        let meter = self.provider.meter(SCOPE);
        gauge(&meter, "yaks_worker_threads", "Threads that serve connections").record(threads as u64, &[]);
        let counter =
            meter.f64_observable_counter("yaks_worker_busy_seconds_total").with_description("Time that these threads have worked");
        counter.with_callback(move |observer| observer.observe(busy().as_secs_f64(), &[])).build();
    }

    /// Says which agent this is.
    pub fn identify(&self, node: i32, version: &'static str) {
        let about = gauge(&self.provider.meter(SCOPE), "yaks_info", "Always 1; its labels say which agent this is");
        about.record(1, &[KeyValue::new("node", i64::from(node)), KeyValue::new("version", version)]);
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// [`MetricsError`] if a family cannot be encoded.
    pub fn render(&self) -> Result<String, MetricsError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).map_err(|error| MetricsError(error.to_string()))?;
        String::from_utf8(text).map_err(|error| MetricsError(error.to_string()))
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        // Nothing is pushed anywhere, so there is nothing that could be lost.
        let _ = self.provider.shutdown();
    }
}

/// A counter with labels: a series is there once it counted something.
fn counter(meter: &Meter, name: &'static str, what: &'static str) -> Counter<u64> {
    meter.u64_counter(name).with_description(what).build()
}

/// A counter without labels: it is there from the start, so that its first step is seen as one.
fn count(meter: &Meter, name: &'static str, what: &'static str) -> Counter<u64> {
    let counter = counter(meter, name, what);
    counter.add(0, &[]);
    counter
}

fn seconds(meter: &Meter, name: &'static str, what: &'static str) -> Histogram<f64> {
    meter.f64_histogram(name).with_description(what).with_boundaries(SECONDS.to_vec()).build()
}

fn gauge(meter: &Meter, name: &'static str, what: &'static str) -> Gauge<u64> {
    meter.u64_gauge(name).with_description(what).build()
}

fn level(meter: &Meter, name: &'static str, what: &'static str) -> UpDownCounter<i64> {
    let level = meter.i64_up_down_counter(name).with_description(what).build();
    level.add(0, &[]);
    level
}

fn topic(name: &str) -> KeyValue {
    KeyValue::new("topic", name.to_owned())
}

/// Did it work?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Success,
    Error,
}

impl Status {
    #[must_use]
    pub fn of<T, E>(result: &Result<T, E>) -> Status {
        if result.is_ok() { Status::Success } else { Status::Error }
    }

    fn label(self) -> KeyValue {
        KeyValue::new(
            "status",
            match self {
                Status::Success => "success",
                Status::Error => "error",
            },
        )
    }
}

/// How the connections to a database are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolUse {
    pub used: u32,
    pub idle: u32,
    pub most: u32,
    /// Connections taken from the pool since the start.
    pub acquires: u64,
    /// Time waited for them, all together.
    pub waited: Duration,
}

/// Requests as a whole.
#[derive(Debug, Clone)]
pub struct RequestMetrics {
    total: Counter<u64>,
    duration: Histogram<f64>,
    unhandled: Counter<u64>,
}

impl RequestMetrics {
    fn new(meter: &Meter) -> Self {
        RequestMetrics {
            total: counter(meter, "yaks_requests_total", "Requests answered"),
            duration: seconds(meter, "yaks_request_duration_seconds", "From a request's last byte to its answer"),
            unhandled: counter(meter, "yaks_requests_unhandled_total", "Requests with an API key that is not served"),
        }
    }

    /// `error_code`: the first one in the answer, 0 for none.
    pub fn answered(&self, api: &'static str, version: i16, error_code: i16, took: Duration) {
        let (api, version) = (KeyValue::new("api_key", api), KeyValue::new("api_version", i64::from(version)));
        let success = KeyValue::new("success", if error_code == 0 { "true" } else { "false" });
        let code = KeyValue::new("error_code", i64::from(error_code));
        self.duration.record(took.as_secs_f64(), &[api.clone(), version.clone()]);
        self.total.add(1, &[api, version, success, code]);
    }

    pub fn unhandled(&self, api_key: i16) {
        self.unhandled.add(1, &[KeyValue::new("api_key", i64::from(api_key))]);
    }
}

/// Client connections.
#[derive(Debug, Clone)]
pub struct ConnectionMetrics {
    open: UpDownCounter<i64>,
    accepted: Counter<u64>,
    refused: Counter<u64>,
    shed: Counter<u64>,
    closed_by_fault: Counter<u64>,
}

impl ConnectionMetrics {
    fn new(meter: &Meter) -> Self {
        ConnectionMetrics {
            open: level(meter, "yaks_connections", "Client connections open now"),
            accepted: count(meter, "yaks_connections_accepted_total", "Client connections accepted"),
            refused: count(meter, "yaks_connections_refused_total", "Client connections refused at the limit"),
            shed: count(meter, "yaks_connections_shed_total", "Client connections ended so that an agent that joined gets its share"),
            closed_by_fault: counter(meter, "yaks_connections_faulty_total", "Connections closed for what the client sent"),
        }
    }

    pub fn opened(&self) {
        self.accepted.add(1, &[]);
        self.open.add(1, &[]);
    }

    pub fn closed(&self) {
        self.open.add(-1, &[]);
    }

    pub fn refused(&self) {
        self.refused.add(1, &[]);
    }

    pub fn shed(&self) {
        self.shed.add(1, &[]);
    }

    /// `reason`: one of few words, such as `oversize`, `framing`, `unknown_api`, `idle`.
    pub fn faulty(&self, reason: &'static str) {
        self.closed_by_fault.add(1, &[KeyValue::new("reason", reason)]);
    }
}

/// Produced data, by topic.
#[derive(Debug, Clone)]
pub struct ProduceMetrics {
    bytes: Counter<u64>,
    records: Counter<u64>,
    errors: Counter<u64>,
    rejected: Counter<u64>,
}

impl ProduceMetrics {
    fn new(meter: &Meter) -> Self {
        ProduceMetrics {
            bytes: counter(meter, "yaks_produce_bytes_total", "Bytes of batches appended"),
            records: counter(meter, "yaks_produce_records_total", "Records appended"),
            errors: counter(meter, "yaks_produce_partition_errors_total", "Partitions of produce requests answered with an error"),
            rejected: counter(meter, "yaks_produce_batches_rejected_total", "Batches refused before they were stored"),
        }
    }

    pub fn appended(&self, name: &str, bytes: u64, records: u64) {
        let labels = [topic(name)];
        self.bytes.add(bytes, &labels);
        self.records.add(records, &labels);
    }

    pub fn failed(&self, name: &str, error_code: i16) {
        self.errors.add(1, &[topic(name), KeyValue::new("error_code", i64::from(error_code))]);
    }

    pub fn rejected(&self, reason: &'static str) {
        self.rejected.add(1, &[KeyValue::new("reason", reason)]);
    }
}

/// Fetched data, by topic, and waiting.
#[derive(Debug, Clone)]
pub struct FetchMetrics {
    bytes: Counter<u64>,
    records: Counter<u64>,
    downloads: Counter<u64>,
    waits: Histogram<f64>,
    waiting: UpDownCounter<i64>,
    lag: Gauge<u64>,
    held: UpDownCounter<i64>,
}

impl FetchMetrics {
    fn new(meter: &Meter) -> Self {
        FetchMetrics {
            bytes: counter(meter, "yaks_fetch_bytes_total", "Bytes of batches sent to consumers"),
            records: counter(meter, "yaks_fetch_records_total", "Records sent to consumers"),
            downloads: counter(meter, "yaks_fetch_s3_downloads_total", "Ranges of objects read for fetches"),
            waits: seconds(meter, "yaks_fetch_wait_seconds", "How long fetches waited for data"),
            waiting: level(meter, "yaks_fetch_waiting", "Fetches waiting for data now"),
            held: level(meter, "yaks_fetch_response_bytes", "Bytes of batches read and not sent yet"),
            lag: gauge(meter, "yaks_fetch_watermark_lag_records", "Records this agent had not heard of when it last looked"),
        }
    }

    pub fn served(&self, name: &str, bytes: u64, records: u64) {
        let labels = [topic(name)];
        self.bytes.add(bytes, &labels);
        self.records.add(records, &labels);
    }

    pub fn downloaded(&self, name: &str, ranges: u64) {
        self.downloads.add(ranges, &[topic(name)]);
    }

    /// A look at the logs that are waited for found so many records nobody had told of.
    pub fn lagged(&self, records: u64) {
        self.lag.record(records, &[]);
    }

    /// So many bytes more are held, or less.
    pub fn held(&self, bytes: i64) {
        self.held.add(bytes, &[]);
    }

    pub fn wait_began(&self) {
        self.waiting.add(1, &[]);
    }

    pub fn wait_ended(&self, after: Duration) {
        self.waiting.add(-1, &[]);
        self.waits.record(after.as_secs_f64(), &[]);
    }
}

/// How a flush ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    Success,
    S3Error,
    DbError,
    /// Its object is durable, but it holds what follows a lost batch of an idempotent producer.
    AfterLoss,
}

/// The write buffer and its flushes.
#[derive(Debug, Clone)]
pub struct BufferMetrics {
    put: Histogram<f64>,
    commit: Histogram<f64>,
    flush: Histogram<f64>,
    bytes: Counter<u64>,
    records: Counter<u64>,
    events: Counter<u64>,
    uploads: UpDownCounter<i64>,
    hedged: Counter<u64>,
    numbered: Histogram<f64>,
}

impl BufferMetrics {
    fn new(meter: &Meter) -> Self {
        BufferMetrics {
            put: seconds(meter, "yaks_buffer_s3_put_duration_seconds", "Time to make an object durable"),
            commit: seconds(meter, "yaks_buffer_db_commit_duration_seconds", "Time to commit write events"),
            flush: seconds(meter, "yaks_buffer_flush_duration_seconds", "From sealing a buffer to its write event"),
            bytes: count(meter, "yaks_buffer_flush_bytes_total", "Bytes of batches flushed"),
            records: count(meter, "yaks_buffer_flush_records_total", "Records flushed"),
            events: count(meter, "yaks_buffer_flush_events_total", "Write events committed"),
            uploads: level(meter, "yaks_buffer_uploads", "Uploads in flight"),
            hedged: count(meter, "yaks_buffer_hedged_puts_total", "Puts that were tried a second time beside a slow first"),
            numbered: seconds(meter, "yaks_buffer_commit_to_offset_seconds", "From a write event's commit to the offsets of its batches"),
        }
    }

    pub fn put(&self, status: Status, took: Duration) {
        self.put.record(took.as_secs_f64(), &[status.label()]);
    }

    pub fn committed(&self, status: Status, took: Duration) {
        self.commit.record(took.as_secs_f64(), &[status.label()]);
    }

    pub fn flushed(&self, how: Flush, took: Duration) {
        let status = match how {
            Flush::Success => "success",
            Flush::S3Error => "s3_error",
            Flush::DbError => "db_error",
            Flush::AfterLoss => "after_loss",
        };
        self.flush.record(took.as_secs_f64(), &[KeyValue::new("status", status)]);
    }

    /// One write event was committed for this much data.
    pub fn event(&self, bytes: u64, records: u64) {
        self.bytes.add(bytes, &[]);
        self.records.add(records, &[]);
        self.events.add(1, &[]);
    }

    pub fn upload_began(&self) {
        self.uploads.add(1, &[]);
    }

    pub fn upload_ended(&self) {
        self.uploads.add(-1, &[]);
    }

    /// Every batch of an object has its verdict, so long after the object's event was committed.
    pub fn numbered(&self, after: Duration) {
        self.numbered.record(after.as_secs_f64(), &[]);
    }

    pub fn hedged(&self) {
        self.hedged.add(1, &[]);
    }
}

/// Rounds of the materializer.
#[derive(Debug, Clone)]
pub struct MaterializerMetrics {
    duration: Histogram<f64>,
    events: Counter<u64>,
    segments: Counter<u64>,
    batch_size: Gauge<u64>,
    age: Histogram<f64>,
    pending: Gauge<u64>,
    oldest_pending: Gauge<f64>,
    set_aside: Gauge<u64>,
    busy: Counter<u64>,
}

impl MaterializerMetrics {
    fn new(meter: &Meter) -> Self {
        MaterializerMetrics {
            duration: seconds(meter, "yaks_materializer_duration_seconds", "Time of a round"),
            events: count(meter, "yaks_materializer_events_materialized_total", "Write events materialized"),
            segments: count(meter, "yaks_materializer_segments_total", "Segments written"),
            batch_size: gauge(meter, "yaks_materializer_batch_size", "Events in the last round that had any"),
            age: seconds(meter, "yaks_materializer_event_age_seconds", "Age of the oldest event of a round when it was taken"),
            pending: gauge(meter, "yaks_materializer_pending_events", "Write events without a verdict"),
            oldest_pending: meter
                .f64_gauge("yaks_materializer_oldest_pending_seconds")
                .with_description("Age of the oldest write event without a verdict; 0 for none")
                .build(),
            set_aside: gauge(meter, "yaks_materializer_set_aside_events", "Write events that could not be read and wait for a human"),
            busy: count(meter, "yaks_materializer_busy_total", "Rounds left to another agent that was at it"),
        }
    }

    pub fn round(&self, events: usize, segments: usize, oldest: Option<Duration>, took: Duration) {
        self.duration.record(took.as_secs_f64(), &[Status::Success.label()]);
        if events > 0 {
            self.events.add(events as u64, &[]);
            self.segments.add(segments as u64, &[]);
            self.batch_size.record(events as u64, &[]);
        }
        if let Some(age) = oldest {
            self.age.record(age.as_secs_f64(), &[]);
        }
    }

    pub fn failed(&self, took: Duration) {
        self.duration.record(took.as_secs_f64(), &[Status::Error.label()]);
    }

    pub fn busy(&self) {
        self.busy.add(1, &[]);
    }

    pub fn pending(&self, events: u64, oldest: Option<Duration>, set_aside: u64) {
        self.pending.record(events, &[]);
        self.oldest_pending.record(oldest.unwrap_or_default().as_secs_f64(), &[]);
        self.set_aside.record(set_aside, &[]);
    }
}

/// Consumer groups.
#[derive(Debug, Clone)]
pub struct GroupMetrics {
    known: Gauge<u64>,
    rebalances: Counter<u64>,
    removed: Counter<u64>,
    waiting: UpDownCounter<i64>,
    waits: Histogram<f64>,
    beats: Counter<u64>,
    conflicts: Counter<u64>,
}

impl GroupMetrics {
    fn new(meter: &Meter) -> Self {
        GroupMetrics {
            known: gauge(meter, "yaks_group_known", "Groups this agent has to do with"),
            rebalances: count(meter, "yaks_group_rebalances_total", "Rebalances this agent completed"),
            removed: counter(meter, "yaks_group_members_removed_total", "Members that left or were removed, by reason"),
            waiting: level(meter, "yaks_group_waiting", "Requests waiting for their group now"),
            waits: seconds(meter, "yaks_group_wait_seconds", "How long requests waited for their group"),
            beats: count(meter, "yaks_group_beats_total", "Signs of life of members written"),
            conflicts: count(meter, "yaks_group_conflicts_total", "Changes made again because another agent had changed the group"),
        }
    }

    pub fn knows(&self, groups: usize) {
        self.known.record(groups as u64, &[]);
    }

    pub fn rebalanced(&self) {
        self.rebalances.add(1, &[]);
    }

    /// `reason`: one of few.
    pub fn member_removed(&self, reason: &'static str) {
        self.removed.add(1, &[KeyValue::new("reason", reason)]);
    }

    pub fn wait_began(&self) {
        self.waiting.add(1, &[]);
    }

    pub fn wait_ended(&self, after: Duration) {
        self.waiting.add(-1, &[]);
        self.waits.record(after.as_secs_f64(), &[]);
    }

    pub fn beats(&self, count: usize) {
        self.beats.add(count as u64, &[]);
    }

    pub fn conflicted(&self) {
        self.conflicts.add(1, &[]);
    }
}

/// The object cache.
#[derive(Debug, Clone)]
pub struct CacheMetrics {
    gets: Counter<u64>,
    hits: Counter<u64>,
    local_loads: Counter<u64>,
    peer_loads: Counter<u64>,
    peer_errors: Counter<u64>,
    peers: Gauge<u64>,
    bytes: Gauge<u64>,
}

impl CacheMetrics {
    fn new(meter: &Meter) -> Self {
        let metrics = CacheMetrics {
            gets: count(meter, "yaks_groupcache_cache_gets_total", "Pages asked for"),
            hits: count(meter, "yaks_groupcache_cache_hits_total", "Pages found in memory"),
            local_loads: count(meter, "yaks_groupcache_local_loads_total", "Loads from the store"),
            peer_loads: count(meter, "yaks_groupcache_peer_loads_total", "Loads from a peer"),
            peer_errors: count(meter, "yaks_groupcache_peer_errors_total", "Peer requests that failed"),
            peers: gauge(meter, "yaks_groupcache_peers", "Agents in this agent's cache ring"),
            bytes: gauge(meter, "yaks_cache_bytes", "Bytes held by the object cache"),
        };
        metrics.peers.record(0, &[]);
        metrics
    }

    pub fn looked_up(&self, pages: u64, hits: u64) {
        self.gets.add(pages, &[]);
        self.hits.add(hits, &[]);
    }

    pub fn loaded(&self) {
        self.local_loads.add(1, &[]);
    }

    pub fn peer_loaded(&self) {
        self.peer_loads.add(1, &[]);
    }

    pub fn peer_failed(&self) {
        self.peer_errors.add(1, &[]);
    }

    /// Agents in the ring, this one included; 0 without one.
    pub fn peers(&self, agents: usize) {
        self.peers.record(agents as u64, &[]);
    }

    pub fn holds(&self, bytes: u64) {
        self.bytes.record(bytes, &[]);
    }
}

/// What the cache lends to peers.
#[derive(Debug, Clone)]
pub struct PeerMetrics {
    served: Counter<u64>,
    bytes: Counter<u64>,
    refused: Counter<u64>,
}

impl PeerMetrics {
    fn new(meter: &Meter) -> Self {
        PeerMetrics {
            served: counter(meter, "yaks_groupcache_served_total", "Requests of peers served, by whether there was anything to give"),
            bytes: count(meter, "yaks_groupcache_served_bytes_total", "Bytes given to peers"),
            refused: counter(meter, "yaks_groupcache_refused_total", "Requests on the peer port refused, by reason"),
        }
    }

    pub fn served(&self, found: bool, bytes: u64) {
        self.served.add(1, &[KeyValue::new("found", if found { "true" } else { "false" })]);
        self.bytes.add(bytes, &[]);
    }

    /// `reason`: one of few.
    pub fn refused(&self, reason: &'static str) {
        self.refused.add(1, &[KeyValue::new("reason", reason)]);
    }
}

/// Requests to the object store.
#[derive(Debug, Clone)]
pub struct StoreMetrics {
    requests: Counter<u64>,
    bytes: Counter<u64>,
    duration: Histogram<f64>,
}

impl StoreMetrics {
    fn new(meter: &Meter) -> Self {
        StoreMetrics {
            requests: counter(meter, "yaks_s3_requests_total", "Requests to the object store, by operation and status"),
            bytes: counter(meter, "yaks_s3_bytes_total", "Bytes put into and got from the object store, by operation"),
            duration: seconds(meter, "yaks_s3_request_duration_seconds", "Time of requests to the object store, by operation"),
        }
    }

    /// `operation`: put, get, delete, list. `status`: success, or one of few words that say what is wrong.
    pub fn request(&self, operation: &'static str, status: &'static str, bytes: u64, took: Duration) {
        let operation = KeyValue::new("operation", operation);
        self.bytes.add(bytes, std::slice::from_ref(&operation));
        self.duration.record(took.as_secs_f64(), std::slice::from_ref(&operation));
        self.requests.add(1, &[operation, KeyValue::new("status", status)]);
    }
}

/// Background jobs. Their label is `task`: `job` is what Prometheus calls a group of targets.
#[derive(Debug, Clone)]
pub struct JobMetrics {
    last_success: Gauge<u64>,
    failures: Counter<u64>,
}

impl JobMetrics {
    fn new(meter: &Meter) -> Self {
        JobMetrics {
            last_success: gauge(meter, "yaks_job_last_success_timestamp_seconds", "When a background job last succeeded, Unix time"),
            failures: counter(meter, "yaks_job_failures_total", "Background jobs that failed"),
        }
    }

    pub fn succeeded(&self, job: &'static str, now: crate::types::Timestamp) {
        let task = [KeyValue::new("task", job)];
        self.last_success.record(u64::try_from(now.0 / 1000).unwrap_or(0), &task);
        self.failures.add(0, &task);
    }

    pub fn failed(&self, job: &'static str) {
        self.failures.add(1, &[KeyValue::new("task", job)]);
    }
}

/// Spans on their way to a collector.
#[derive(Debug, Clone)]
pub struct TraceMetrics {
    exported: Counter<u64>,
    dropped: Counter<u64>,
}

impl TraceMetrics {
    fn new(meter: &Meter) -> Self {
        TraceMetrics {
            exported: count(meter, "yaks_traces_exported_spans_total", "Spans a collector took"),
            dropped: count(
                meter,
                "yaks_traces_dropped_spans_total",
                "Spans given up: the queue was full or the collector did not take them",
            ),
        }
    }

    pub fn exported(&self, spans: usize) {
        self.exported.add(spans as u64, &[]);
    }

    pub fn dropped(&self, spans: usize) {
        self.dropped.add(spans as u64, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_types_and_buckets_are_those_of_the_ancestor() {
        let metrics = Metrics::new().expect("metrics");
        metrics.requests.answered("Produce", 9, 0, Duration::from_millis(3));
        metrics.buffer.flushed(Flush::S3Error, Duration::from_millis(3));
        metrics.materializer.round(3, 3, None, Duration::from_millis(3));
        metrics.watch_held(9, || 7);
        metrics.watch_stalled(|| Duration::from_millis(1500));
        metrics.watch_lease(|| Duration::from_secs(12));
        metrics.watch_pool(|| PoolUse { used: 2, idle: 3, most: 16, acquires: 40, waited: Duration::from_millis(250) });
        metrics.watch_workers(2, || Duration::from_millis(750));
        metrics.identify(4, "1.2.3");
        metrics.materializer.pending(5, Some(Duration::from_secs(9)), 1);
        metrics.store.request("put", "unavailable", 0, Duration::from_millis(30));
        let text = metrics.render().expect("text");
        for line in [
            "# TYPE yaks_requests_total counter",
            "yaks_requests_total{api_key=\"Produce\",api_version=\"9\",error_code=\"0\",success=\"true\"} 1",
            "yaks_request_duration_seconds_bucket{api_key=\"Produce\",api_version=\"9\",le=\"0.005\"} 1",
            "yaks_buffer_flush_duration_seconds_count{status=\"s3_error\"} 1",
            "yaks_materializer_batch_size 3",
            "yaks_groupcache_peers 0",
            "yaks_buffer_bytes 7",
            "yaks_buffer_max_bytes 9",
            "yaks_buffer_hedged_puts_total 0",
            "yaks_buffer_stalled_seconds 1.5",
            "yaks_db_pool_connections{state=\"used\"} 2",
            "yaks_db_pool_connections{state=\"idle\"} 3",
            "yaks_lease_remaining_seconds 12",
            "yaks_db_pool_max_connections 16",
            "yaks_db_pool_acquires_total 40",
            "yaks_db_pool_wait_seconds_total 0.25",
            "yaks_worker_threads 2",
            "yaks_worker_busy_seconds_total 0.75",
            "yaks_info{node=\"4\",version=\"1.2.3\"} 1",
            "yaks_materializer_pending_events 5",
            "yaks_materializer_oldest_pending_seconds 9",
            "yaks_materializer_set_aside_events 1",
            "yaks_s3_requests_total{operation=\"put\",status=\"unavailable\"} 1",
            "yaks_s3_request_duration_seconds_bucket{operation=\"put\",le=\"0.05\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("otel_scope"), "{text}");
    }
}
