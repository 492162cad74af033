//! The rooms above the two seams, joined: what a round brings goes to whoever waits for it.
//!
//! `App` builds them on real backends, the simulation on backends that fail on purpose.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Ids};
use crate::config::{BufferConfig, Config, GroupConfig, MaterializeSettings};
use crate::fetch::{FetchConfig, Looked, Reader, Watermarks};
use crate::group::consumer::Assignor;
use crate::group::{ConsumerSettings, Coordinator, CoordinatorParts, GroupSettings, MigrationPolicy};
use crate::materialize::{MaterializeConfig, MaterializeParts, Materializer, OnRound};
use crate::metastore::{Change, Changes, Identity, Log, Metastore, Topics};
use crate::metrics::Metrics;
use crate::partition::Rules;
use crate::produce::{Keep, ProduceConfig, ProduceParts, Producer};
use crate::store::{ObjectStore, ReadRange};
use crate::tasks::{Nudge, Progress, Tasks};
use crate::traces::Traces;
use crate::upkeep::{SweepConfig, SweepParts, start_sweeps};

/// How often to look for verdicts and watermarks that nobody announced.
const LOOK: Duration = Duration::from_millis(100);
const REFRESH: Duration = Duration::from_millis(500);
const SWEEP: Duration = Duration::from_mins(1);

/// What the rooms stand on.
#[derive(Clone)]
pub struct RoomParts {
    pub metastore: Arc<dyn Metastore>,
    pub store: Arc<dyn ObjectStore>,
    /// The cache, or the store itself.
    pub reads: Arc<dyn ReadRange>,
    pub keep: Keep,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn Ids>,
    pub me: Identity,
    pub metrics: Arc<Metrics>,
    pub traces: Traces,
}

impl std::fmt::Debug for RoomParts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoomParts").field("me", &self.me).field("metastore", &self.metastore).finish_non_exhaustive()
    }
}

/// The rooms of one agent at work.
#[derive(Debug)]
pub struct Rooms {
    pub producer: Arc<Producer>,
    pub reader: Arc<Reader>,
    pub watermarks: Arc<Watermarks>,
    pub groups: Coordinator,
    /// Materializer, announcements, sweeps: needed until the last ticket is settled.
    background: Tasks,
}

impl Rooms {
    /// Starts all rooms in groups below `tasks`.
    #[must_use]
    pub fn start(config: &Config, parts: &RoomParts, tasks: &Tasks) -> Rooms {
        let background = tasks.group();
        let log: Arc<dyn Log> = Arc::clone(&parts.metastore) as _;
        let committed = Nudge::default();
        let watermarks = Arc::new(Watermarks::new());
        let producer = Producer::start(
            produce_config(&config.buffer),
            ProduceParts {
                store: Arc::clone(&parts.store),
                log: Arc::clone(&log),
                ids: Arc::clone(&parts.ids),
                me: parts.me.clone(),
                metrics: parts.metrics.buffer.clone(),
                traces: parts.traces.clone(),
                keep: Arc::clone(&parts.keep),
                committed: committed.clone(),
            },
            &tasks.group(),
        );
        let fetch = FetchConfig {
            max_bytes: config.fetch.max_bytes,
            memory_bytes: config.fetch.memory_bytes,
            read_ahead_bytes: config.fetch.read_ahead_bytes,
            look_every: REFRESH,
            ..FetchConfig::default()
        };
        let metrics = parts.metrics.fetch.clone();
        let reads = Arc::clone(&parts.reads);
        let reader = Arc::new(Reader::new(Arc::clone(&log), reads, Arc::clone(&watermarks), metrics, background.clone(), fetch));
        Materializer::start(
            materialize_config(&config.materialize),
            MaterializeParts {
                log: Arc::clone(&log),
                metrics: parts.metrics.materializer.clone(),
                jobs: parts.metrics.jobs.clone(),
                clock: Arc::clone(&parts.clock),
                on_round: on_round(&producer, &reader, &watermarks),
                wanted: wanted(&producer),
            },
            committed,
            &background,
        );
        let groups = Coordinator::start(group_settings(&config.groups), coordinator_parts(parts), &background);
        let changes: Arc<dyn Changes> = Arc::clone(&parts.metastore) as _;
        listen_for_changes(&changes, &producer, &watermarks, &groups, &background);
        look_for_verdicts(&producer, parts, &background);
        watermarks.spawn_refresh(&background, &log, REFRESH, looked(parts));
        let topics: Arc<dyn Topics> = Arc::clone(&parts.metastore) as _;
        let sweeps = SweepParts {
            topics,
            log: Arc::clone(&log),
            log_admin: Arc::clone(&parts.metastore) as _,
            clock: Arc::clone(&parts.clock),
            jobs: parts.metrics.jobs.clone(),
            materializer: parts.metrics.materializer.clone(),
        };
        start_sweeps(SweepConfig { producer_idle: config.materialize.producer_idle, period: SWEEP }, sweeps, &background);
        Rooms { producer, reader, watermarks, groups, background }
    }

    /// From now on nothing gathers and nobody waits for data: requests in flight end soon.
    pub fn hurry(&self) {
        self.producer.hurry();
        self.watermarks.stop_waiting();
        self.groups.stop_waiting();
    }

    /// Writes what is left, settles every ticket, then stops the rest. False if something was not done by `deadline`.
    pub async fn stop(&self, deadline: Duration) -> bool {
        let settled = self.producer.close(deadline).await;
        let stopped = self.background.stop(deadline).await;
        settled && stopped
    }
}

fn produce_config(buffer: &BufferConfig) -> ProduceConfig {
    ProduceConfig {
        flush_interval: buffer.flush_interval,
        flush_bytes: buffer.flush_bytes,
        max_bytes: buffer.max_bytes,
        uploads: buffer.uploads,
        hedge_after: buffer.hedge_after,
        give_up_after: buffer.give_up_after,
    }
}

fn materialize_config(settings: &MaterializeSettings) -> MaterializeConfig {
    MaterializeConfig { interval: settings.interval, batch_size: settings.batch_size, rules: rules(settings) }
}

pub(super) fn rules(settings: &MaterializeSettings) -> Rules {
    Rules { park_for: settings.park_for, max_parked: settings.max_parked }
}

fn group_settings(config: &GroupConfig) -> GroupSettings {
    GroupSettings {
        min_session_timeout: config.min_session_timeout,
        max_session_timeout: config.max_session_timeout,
        initial_rebalance_delay: config.initial_rebalance_delay,
        max_size: config.max_size,
        offsets_retention: config.offsets_retention,
        offset_metadata_max_bytes: config.offset_metadata_max_bytes,
        consumer: consumer_settings(config),
    }
}

fn consumer_settings(config: &GroupConfig) -> ConsumerSettings {
    ConsumerSettings {
        session_timeout: config.consumer_session_timeout,
        heartbeat_interval: config.consumer_heartbeat_interval,
        max_size: config.consumer_max_size,
        migration: MigrationPolicy::named(&config.consumer_migration).unwrap_or_default(),
        assignors: config.consumer_assignors.iter().filter_map(|name| Assignor::named(name)).collect(),
    }
}

fn coordinator_parts(parts: &RoomParts) -> CoordinatorParts {
    CoordinatorParts {
        metastore: Arc::clone(&parts.metastore),
        clock: Arc::clone(&parts.clock),
        ids: Arc::clone(&parts.ids),
        metrics: parts.metrics.groups.clone(),
        jobs: parts.metrics.jobs.clone(),
    }
}

fn on_round(producer: &Arc<Producer>, reader: &Arc<Reader>, watermarks: &Arc<Watermarks>) -> OnRound {
    let (producer, reader, watermarks) = (Arc::clone(producer), Arc::clone(reader), Arc::clone(watermarks));
    Arc::new(move |report, took| {
        producer.trace_round(&report.verdicts, took);
        reader.learn(&report.heads, &report.segments);
        // Watermarks first: who is told that its record is in the log, and then reads, must find it there.
        watermarks.publish(&report.heads);
        producer.decide(&report.verdicts);
    })
}

fn wanted(producer: &Arc<Producer>) -> Arc<dyn Fn() -> bool + Send + Sync> {
    let producer = Arc::clone(producer);
    Arc::new(move || producer.awaits_verdicts())
}

/// Rounds of other agents: their heads wake fetches, and they may have decided this agent's batches.
fn listen_for_changes(
    changes: &Arc<dyn Changes>,
    producer: &Arc<Producer>,
    watermarks: &Arc<Watermarks>,
    groups: &Coordinator,
    tasks: &Tasks,
) {
    let mut announced = changes.subscribe_changes();
    let (producer, watermarks, groups, stop) = (Arc::clone(producer), Arc::clone(watermarks), groups.clone(), tasks.stop_token());
    tasks.spawn("announcements", async move {
        while let Some(Some(change)) = stop.run_until_cancelled(announced.recv()).await {
            match change {
                Change::Heads(heads) => watermarks.publish(&heads),
                Change::Group { group, version } => {
                    groups.changed(&group, version);
                    continue;
                }
                Change::Unknown => {
                    watermarks.changed_unknown();
                    groups.changed_unknown();
                }
            }
            if let Err(error) = producer.look_for_verdicts().await {
                tracing::debug!(%error, "verdicts could not be looked up; the next look comes soon");
            }
        }
    });
}

/// What is noted of each look for records that nobody announced.
fn looked(parts: &RoomParts) -> Looked {
    let (fetch, jobs, clock) = (parts.metrics.fetch.clone(), parts.metrics.jobs.clone(), Arc::clone(&parts.clock));
    Arc::new(move |unheard| {
        fetch.lagged(unheard);
        jobs.succeeded("watermarks", clock.now());
    })
}

/// The fallback for announcements that were lost.
fn look_for_verdicts(producer: &Arc<Producer>, parts: &RoomParts, tasks: &Tasks) {
    const JOB: &str = "look_for_verdicts";
    let (producer, jobs, clock) = (Arc::clone(producer), parts.metrics.jobs.clone(), Arc::clone(&parts.clock));
    tasks.spawn_loop(JOB, LOOK, Nudge::default(), move || {
        let (producer, jobs, clock) = (Arc::clone(&producer), jobs.clone(), Arc::clone(&clock));
        async move {
            match producer.look_for_verdicts().await {
                Ok(()) => jobs.succeeded(JOB, clock.now()),
                Err(error) => {
                    jobs.failed(JOB);
                    tracing::debug!(%error, "verdicts could not be looked up; the next look comes soon");
                }
            }
            Progress::Idle
        }
    });
}
