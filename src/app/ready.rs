//! Whether this agent would serve a client now.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::admin::Readiness;
use crate::metastore::{Identity, Metastore};
use crate::produce::Producer;
use crate::store::ObjectStore;

/// Uploads and commits that have not moved for so long, while something waits for them, are stuck. A put that is lost and made again by hedging takes
/// far less.
const STUCK_AFTER: Duration = Duration::from_secs(15);

/// The rooms run, the node id is leased, metastore and store can be used, the schema is not older than this binary, what was sealed moves, and no shutdown
/// has begun.
#[derive(Debug)]
pub(super) struct Ready {
    metastore: Arc<dyn Metastore>,
    store: Arc<dyn ObjectStore>,
    stopping: CancellationToken,
    /// Empty until the rooms have started.
    running: OnceLock<(Identity, Arc<Producer>)>,
}

impl Ready {
    pub(super) fn new(metastore: Arc<dyn Metastore>, store: Arc<dyn ObjectStore>, stopping: CancellationToken) -> Self {
        Ready { metastore, store, stopping, running: OnceLock::new() }
    }

    pub(super) fn started(&self, me: Identity, producer: Arc<Producer>) {
        self.running.get_or_init(|| (me, producer));
    }

    /// What speaks against it and costs nothing to know.
    fn here(&self) -> [Option<String>; 3] {
        let stopping = self.stopping.is_cancelled().then(|| "the agent is shutting down".to_owned());
        let Some((me, producer)) = self.running.get() else { return [stopping, Some("the agent is starting".to_owned()), None] };
        let fenced = me.acting().is_none().then(|| "the node id is not leased".to_owned());
        [stopping, fenced, producer.stalled().filter(|stalled| *stalled > STUCK_AFTER).map(stuck)]
    }

    async fn of_metastore(&self) -> Option<String> {
        if let Err(error) = self.metastore.check().await {
            return Some(error.to_string());
        }
        self.metastore.check_migrations().await.err().map(|error| error.to_string())
    }
}

fn stuck(stalled: Duration) -> String {
    format!("nothing was stored and committed for {} s, though something waits for it", stalled.as_secs())
}

#[async_trait]
impl Readiness for Ready {
    async fn ready(&self) -> Result<(), String> {
        let (metastore, store) = futures_util::future::join(self.of_metastore(), self.store.check()).await;
        let missing = self.here().into_iter().chain([metastore, store.err().map(|e| e.to_string())]);
        let missing: Vec<String> = missing.flatten().collect();
        if missing.is_empty() { Ok(()) } else { Err(missing.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::clock::{Ids, RandomIds, SystemClock};
    use crate::metastore::memory::MemoryMetastore;
    use crate::metastore::{Agent, Log, Topics as _};
    use crate::metrics::Metrics;
    use crate::produce::{NewBatch, ProduceConfig, ProduceParts, Wait};
    use crate::records::batch::{BatchLimits, build, check};
    use crate::store::flaky::{FlakyStore, Mishap};
    use crate::store::memory::MemoryStore;
    use crate::tasks::{Nudge, Tasks};
    use crate::traces::Traces;
    use crate::types::{TopicId, TopicName, TopicPartition};

    const CONFIG: ProduceConfig = ProduceConfig {
        flush_interval: Duration::ZERO,
        flush_bytes: 1 << 20,
        max_bytes: 1 << 30,
        uploads: 2,
        hedge_after: Duration::from_hours(1),
        give_up_after: Duration::from_mins(1),
    };

    struct Stage {
        ready: Ready,
        producer: Arc<Producer>,
        me: Identity,
        store: Arc<FlakyStore>,
        metrics: Metrics,
    }

    async fn stage() -> Stage {
        let ids: Arc<dyn Ids> = Arc::new(RandomIds::seeded(SystemClock, 7));
        let metastore = Arc::new(MemoryMetastore::new(Arc::new(SystemClock)));
        metastore.create_topic(TopicId([1; 16]), &TopicName::parse("t").expect("a name"), 1, &BTreeMap::new()).await.expect("created");
        let store = Arc::new(FlakyStore::new(Arc::new(MemoryStore::new()), Arc::clone(&ids)));
        let metrics = Metrics::new().expect("metrics");
        let agent = Agent::sample(1, "here");
        let me = Identity::leased(agent, tokio::time::Instant::now() + Duration::from_hours(1));
        let parts = ProduceParts {
            store: Arc::clone(&store) as _,
            log: Arc::clone(&metastore) as Arc<dyn Log>,
            ids,
            me: me.clone(),
            metrics: metrics.buffer.clone(),
            traces: Traces::off(),
            keep: Arc::new(|_, _| Box::pin(async {})),
            committed: Nudge::default(),
        };
        let producer = Producer::start(CONFIG, parts, &Tasks::new());
        let ready = Ready::new(metastore, Arc::clone(&store) as _, CancellationToken::new());
        Stage { ready, producer, me, store, metrics }
    }

    impl Stage {
        async fn says(&self) -> String {
            self.ready.ready().await.err().unwrap_or_default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_ready_between_its_start_and_its_end() {
        let stage = stage().await;
        assert_eq!(stage.says().await, "the agent is starting");
        stage.ready.started(stage.me.clone(), Arc::clone(&stage.producer));
        assert_eq!(stage.says().await, "");
        tokio::time::sleep(Duration::from_hours(2)).await;
        assert_eq!(stage.says().await, "the node id is not leased");
        stage.me.renew(Agent::clone(&stage.me.agent()), tokio::time::Instant::now() + Duration::from_mins(1));
        assert_eq!(stage.says().await, "");
        stage.store.take_down();
        assert!(stage.says().await.contains("unavailable"));
        stage.ready.stopping.cancel();
        assert_eq!(stage.says().await.lines().count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_whose_puts_hang_is_not_ready_until_they_move() {
        let stage = stage().await;
        stage.ready.started(stage.me.clone(), Arc::clone(&stage.producer));
        let producer = Arc::clone(&stage.producer);
        stage.metrics.watch_stalled(move || producer.stalled().unwrap_or_default());
        stage.store.next_puts(1, Mishap::Hang);
        let bytes = bytes::Bytes::from(build::batch(1, 10, 0));
        let summary = check(&bytes, &BatchLimits { max_bytes: 1 << 20, zstd: true }).expect("good");
        let batch = NewBatch { log: TopicPartition::new(TopicId([1; 16]), 0), summary, bytes, wait: Wait::Durable };
        let hangs = stage.producer.submit(vec![batch.clone()]).pop().expect("a ticket");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(stage.says().await, "");
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(stage.says().await.contains("nothing was stored and committed for 1"), "{}", stage.says().await);
        let text = stage.metrics.render().expect("text");
        assert!(text.lines().any(|line| line.starts_with("yaks_buffer_stalled_seconds 1")), "{text}");
        // It gives up; what comes next gets through.
        hangs.await.expect("settled").expect_err("given up");
        stage.producer.submit(vec![batch]).pop().expect("a ticket").await.expect("settled").expect("durable");
        assert_eq!(stage.says().await, "");
    }
}
