//! One agent: the rooms of the product on seams that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use yaks::app::{RoomParts, Rooms};
use yaks::metastore::flaky::Flaky;
use yaks::metastore::{Agent as Registered, Identity};
use yaks::store::flaky::FlakyStore;
use yaks::tasks::Tasks;
use yaks::types::NodeId;

use crate::gate::Gate;
use crate::link::Link;
use crate::odds::Odds;
use crate::store_link::StoreLink;
use crate::world::{Dice, SimClock, World};

/// One life of one agent.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) rooms: Rooms,
    pub(crate) link: Arc<Link>,
    pub(crate) gate: Gate,
    pub(crate) flaky: Arc<Flaky>,
    pub(crate) store: Arc<FlakyStore>,
    /// Its connections are broken.
    pub(crate) dead: CancellationToken,
    closing: AtomicBool,
    tasks: Tasks,
}

impl Agent {
    pub(crate) fn start(world: &Arc<World>, node: usize, life: u64) -> Arc<Agent> {
        let skew_millis = world.dice.below(10_000) as i64 - 5_000;
        let clock = SimClock { skew_millis, ..world.clock };
        let dice = world.dice_of(1_000 * (node as u64 + 1) + life, clock);
        let gate = Gate::default();
        let flaky = Arc::new(Flaky::new(Arc::clone(&world.metastore) as _, dice.ids()));
        let tasks = Tasks::new();
        let link = Arc::new(Link::new(world, Arc::clone(&flaky), gate.clone(), dice.clone(), tasks.clone()));
        let store = Arc::new(FlakyStore::new(Arc::clone(&world.store) as _, dice.ids()));
        let store_link = Arc::new(StoreLink::new(Arc::clone(&store), gate.clone(), dice.clone(), world.sabotage));
        let parts = room_parts(world, NodeId(node as i32), Arc::clone(&link), store_link, &dice);
        let name = format!("agent {node}.{life}");
        world.trace.note(&name, "starts");
        let agent = Agent {
            name,
            rooms: Rooms::start(&world.plan.config(), &parts, &tasks),
            link,
            gate,
            flaky,
            store,
            dead: CancellationToken::new(),
            closing: AtomicBool::new(false),
            tasks,
        };
        agent.set_odds(&world.plan.odds);
        Arc::new(agent)
    }

    pub(crate) fn set_odds(&self, odds: &Odds) {
        odds.apply(self);
    }

    /// Does its listener take connections?
    pub(crate) fn accepts(&self) -> bool {
        !self.is_closing() && !self.is_dead()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.dead.is_cancelled()
    }

    /// The process is gone, at once.
    pub(crate) fn kill(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.tasks.kill();
        self.dead.cancel();
    }

    /// As after SIGTERM; then the process ends, done or not. True if everything was done.
    pub(crate) async fn stop(&self, deadline: Duration) -> bool {
        self.closing.store(true, Ordering::Relaxed);
        self.rooms.hurry();
        let done = self.rooms.stop(deadline).await;
        // Answers that are ready are sent before the connections close.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.kill();
        done
    }

    /// The name of a task that panicked.
    pub(crate) fn failed(&self) -> Option<&'static str> {
        use futures_util::FutureExt as _;
        self.tasks.failed().now_or_never()
    }

    /// A call over a connection: `None` if the agent died or did not answer.
    pub(crate) async fn call<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.dead.cancelled() => None,
            result = call => Some(result),
            () = tokio::time::sleep(Duration::from_secs(10)) => None,
        }
    }
}

fn identity(node: NodeId) -> Registered {
    Registered {
        node,
        broker: node,
        instance: [node.0 as u8; 16],
        advertised_host: format!("agent-{node}"),
        advertised_port: 9092,
        peer_address: None,
        rack: None,
        version: String::new(),
    }
}

fn room_parts(world: &World, node: NodeId, link: Arc<Link>, store: Arc<StoreLink>, dice: &Dice) -> RoomParts {
    RoomParts {
        metastore: link,
        store: Arc::clone(&store) as _,
        reads: store,
        keep: Arc::new(|_, _| Box::pin(async {})),
        clock: Arc::new(dice.clock()),
        ids: dice.ids(),
        me: Identity::of_the_only(identity(node)),
        metrics: Arc::clone(&world.metrics),
        traces: yaks::traces::Traces::off(),
    }
}
