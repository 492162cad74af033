//! What all parts of one simulated cluster share: time, chance, the seams behind their faults, the agents, the book of what was sent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use yaks::clock::{Clock, Ids as _, RandomIds};
use yaks::config::{Config, Mode};
use yaks::metastore::Topics as _;
use yaks::metastore::memory::MemoryMetastore;
use yaks::metrics::Metrics;
use yaks::store::memory::MemoryStore;
use yaks::tasks::Tasks;
use yaks::types::{Timestamp, TopicId, TopicName, TopicPartition};

use crate::agent::Agent;
use crate::group_book::Book;
use crate::ledger::Ledger;
use crate::members::Kind;
use crate::odds::Odds;
use crate::sabotage::Sabotage;
use crate::sights::Sights;
use crate::trace::Trace;

/// Wall time that follows tokio's, and may be wrong by a fixed amount.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimClock {
    pub(crate) start: Instant,
    pub(crate) skew_millis: i64,
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000 + self.start.elapsed().as_millis() as i64 + self.skew_millis)
    }
}

/// Seeded chance.
#[derive(Debug, Clone)]
pub(crate) struct Dice {
    ids: Arc<RandomIds<SimClock>>,
    clock: SimClock,
}

impl Dice {
    pub(crate) fn new(clock: SimClock, seed: u64) -> Dice {
        Dice { ids: Arc::new(RandomIds::seeded(clock, seed)), clock }
    }

    /// The clock of whoever throws them.
    pub(crate) fn clock(&self) -> SimClock {
        self.clock
    }

    pub(crate) fn ids(&self) -> Arc<RandomIds<SimClock>> {
        Arc::clone(&self.ids)
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.ids.below(bound)
    }

    /// From `from` to `to`, both inclusive.
    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(crate) fn chance(&self, thousandths: u64) -> bool {
        self.below(1_000) < thousandths
    }

    pub(crate) fn millis(&self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    pub(crate) fn pick<'a, T>(&self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// What a seed stands for.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) agents: u64,
    /// How long producers go on and faults happen.
    pub(crate) duration: Duration,
    pub(crate) topics: Vec<(TopicName, i32)>,
    pub(crate) idempotent: u64,
    pub(crate) sequential: u64,
    pub(crate) pipelined: u64,
    pub(crate) tailers: u64,
    /// Members of the group of each protocol.
    pub(crate) classics: u64,
    pub(crate) consumers: u64,
    pub(crate) odds: Odds,
    /// Things done to the cluster: one about so often.
    pub(crate) incidents: Duration,
    pub(crate) give_up: Duration,
    pub(crate) park_for: Duration,
    pub(crate) settings: BTreeMap<String, String>,
}

/// The topic that is deleted and made again; the others stay.
pub(crate) const FLEETING: &str = "fleeting";

impl Plan {
    pub(crate) fn from(dice: &Dice) -> Plan {
        let give_up = Duration::from_millis(*dice.pick(&[1_000, 3_000, 8_000, 20_000]));
        let park_for = Duration::from_millis(*dice.pick(&[200, 1_000, 3_000, 3_000]));
        let topic = |name: &str| TopicName::parse(name).expect("legal");
        Plan {
            agents: dice.between(2, 4),
            duration: Duration::from_secs(dice.between(6, 20)),
            topics: vec![(topic("orders"), 2), (topic("lines"), 1), (topic(FLEETING), 1)],
            idempotent: dice.between(1, 4),
            sequential: dice.between(1, 2),
            pipelined: dice.between(0, 2),
            tailers: dice.between(1, 3),
            classics: 0,
            consumers: 0,
            odds: Odds::from(dice),
            incidents: Duration::from_millis(*dice.pick(&[500, 1_500, 4_000, 60_000])),
            give_up,
            park_for,
            settings: settings(dice, give_up, park_for),
        }
    }

    pub(crate) fn members_of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Classic => self.classics,
            Kind::Consumer => self.consumers,
        }
    }

    pub(crate) fn config(&self) -> Config {
        Config::from_settings(Mode::Agent, None, &self.settings).expect("settings that can be used").0
    }
}

fn settings(dice: &Dice, give_up: Duration, park_for: Duration) -> BTreeMap<String, String> {
    let numbers = [
        ("flush_interval_ms", *dice.pick(&[0, 0, 5, 50, 250])),
        ("flush_bytes", *dice.pick(&[500, 5_000, 5_242_880])),
        ("buffer_uploads", *dice.pick(&[1, 2, 4, 16])),
        ("buffer_hedge_ms", *dice.pick(&[20, 200, 500])),
        ("buffer_give_up_ms", give_up.as_millis() as u64),
        ("materialize_interval_ms", *dice.pick(&[100, 100, 500])),
        ("materialize_batch_size", *dice.pick(&[1, 3, 1_000])),
        ("materialize_park_ms", park_for.as_millis() as u64),
        ("fetch_read_ahead_bytes", *dice.pick(&[0, 1_000])),
        ("fetch_max_bytes", *dice.pick(&[2_000, 52_428_800])),
        ("group_min_session_timeout_ms", 1_000),
        ("group_initial_rebalance_delay_ms", 300),
    ];
    numbers.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
}

/// One simulated cluster and everything round it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) dice: Dice,
    pub(crate) clock: SimClock,
    pub(crate) trace: Trace,
    pub(crate) sights: Sights,
    pub(crate) metastore: Arc<MemoryMetastore>,
    pub(crate) store: Arc<MemoryStore>,
    /// The row lock of the one round at a time.
    pub(crate) round: tokio::sync::Mutex<()>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sabotage: Sabotage,
    pub(crate) tasks: Tasks,
    pub(crate) ledger: Mutex<Ledger>,
    groups: Mutex<Book>,
    /// Producers make nothing new.
    pub(crate) ending: AtomicBool,
    /// Everybody stops where he is.
    pub(crate) over: CancellationToken,
    seed: u64,
    agents: Mutex<Vec<Option<Arc<Agent>>>>,
    broken: Mutex<Vec<String>>,
}

impl World {
    pub(crate) fn new(seed: u64, sabotage: Sabotage) -> Arc<World> {
        let clock = SimClock { start: Instant::now(), skew_millis: 0 };
        let dice = Dice::new(clock, seed);
        let mut plan = Plan::from(&dice);
        let members = Dice::new(clock, seed.wrapping_add(0x6e0));
        (plan.classics, plan.consumers) = (members.between(0, 3), members.between(0, 3));
        Arc::new(World {
            agents: Mutex::new(vec![None; plan.agents as usize + 1]),
            plan,
            dice,
            clock,
            trace: Trace::new(clock.start),
            sights: Sights::default(),
            metastore: Arc::new(MemoryMetastore::new(Arc::new(clock))),
            store: Arc::new(MemoryStore::new()),
            round: tokio::sync::Mutex::default(),
            metrics: Arc::new(Metrics::new().expect("instruments")),
            sabotage,
            tasks: Tasks::new(),
            ledger: Mutex::default(),
            groups: Mutex::default(),
            ending: AtomicBool::new(false),
            over: CancellationToken::new(),
            seed,
            broken: Mutex::default(),
        })
    }

    /// Chance of one part's own, so that what others do does not change it.
    pub(crate) fn dice_of(&self, part: u64, clock: SimClock) -> Dice {
        Dice::new(clock, self.seed.wrapping_mul(1_000_003).wrapping_add(part))
    }

    /// Notes a rule that was broken.
    pub(crate) fn broken(&self, what: String) {
        self.trace.note("BROKEN", &what);
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(crate) fn take_broken(&self) -> Vec<String> {
        std::mem::take(&mut *self.broken.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn groups(&self) -> MutexGuard<'_, Book> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn agents(&self) -> MutexGuard<'_, Vec<Option<Arc<Agent>>>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seat(&self, node: usize, agent: Option<Arc<Agent>>) -> Option<Arc<Agent>> {
        std::mem::replace(&mut self.agents()[node], agent)
    }

    pub(crate) fn agent(&self, node: usize) -> Option<Arc<Agent>> {
        self.agents()[node].clone()
    }

    /// Places for agents: those of the plan, and one for a late comer.
    pub(crate) fn places(&self) -> usize {
        self.agents().len()
    }

    pub(crate) fn live_agents(&self) -> Vec<Arc<Agent>> {
        self.agents().iter().flatten().filter(|agent| agent.accepts()).cloned().collect()
    }

    pub(crate) async fn create_topic(&self, name: &TopicName, partitions: i32) {
        let id = self.dice.ids().topic();
        let created = self.metastore.create_topic(id, name, partitions, &BTreeMap::new()).await;
        self.trace.note("world", format_args!("topic {name} made: {}", created.is_ok()));
    }

    /// Does the topic exist, in truth?
    pub(crate) async fn exists(&self, topic: TopicId) -> bool {
        let query = yaks::metastore::TopicQuery::Ids(vec![topic]);
        !self.metastore.find_topics(&query).await.expect("memory").is_empty()
    }

    /// All logs that exist, in truth.
    pub(crate) async fn logs(&self) -> Vec<(TopicName, TopicPartition)> {
        let topics = self.metastore.find_topics(&yaks::metastore::TopicQuery::All).await.expect("memory");
        let logs =
            |t: &yaks::metastore::Topic| (0..t.partitions).map(|p| (t.name.clone(), TopicPartition::new(t.id, p))).collect::<Vec<_>>();
        topics.iter().flat_map(logs).collect()
    }
}
