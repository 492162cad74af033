//! The course of one simulation: a start, trouble, healing, rest, judgement.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::Instant;
use yaks::oracle::history::Promise;

use crate::agent::Agent;
use crate::consumers::Tailer;
use crate::members::{Kind, Member};
use crate::producers::Client;
use crate::world::World;
use crate::{group_book, incidents, judge};

pub(crate) async fn simulate(world: &Arc<World>) {
    world.trace.note("world", format_args!("{:?}", world.plan));
    for (name, partitions) in &world.plan.topics {
        world.create_topic(name, *partitions).await;
    }
    for node in 0..world.plan.agents as usize {
        world.seat(node, Some(Agent::start(world, node, 0)));
    }
    let producers = start_clients(world);
    incidents::happen(Arc::clone(world)).await;
    incidents::heal(world).await;
    let healed = Instant::now();
    world.ending.store(true, Ordering::Relaxed);
    let drained = producers.stop(incidents::patience(world)).await;
    world.trace.note("world", format_args!("producers are done: {drained}"));
    // What nobody waits for any longer has its time too.
    let settled = (healed + incidents::settling(world)).max(Instant::now() + world.plan.park_for + Duration::from_secs(5));
    tokio::time::sleep_until(settled).await;
    group_book::judge(world).await;
    world.over.cancel();
    tokio::time::sleep(Duration::from_secs(1)).await;
    judge::judge(world).await;
    incidents::check_all(world);
    stop_all(world).await;
}

fn start_clients(world: &Arc<World>) -> yaks::tasks::Tasks {
    let plan = &world.plan;
    let producers = world.tasks.group();
    let kinds = [(Promise::Idempotent, plan.idempotent), (Promise::Sequential, plan.sequential), (Promise::Pipelined, plan.pipelined)];
    let kinds = kinds.into_iter().flat_map(|(promise, count)| (0..count).map(move |_| promise));
    for (number, promise) in (0..).zip(kinds) {
        producers.spawn("producer", Client::new(world, number, promise).run());
    }
    for number in 0..plan.tailers {
        world.tasks.spawn("tailer", Tailer::new(world, number).run());
    }
    for kind in Kind::ALL {
        for number in 0..plan.members_of(kind) {
            world.tasks.spawn("member", Member::new(world, kind, number).run());
        }
    }
    producers
}

/// At rest and without faults, a stop in good order leaves nothing undone.
async fn stop_all(world: &World) {
    for agent in world.live_agents() {
        if !agent.stop(Duration::from_secs(5)).await {
            world.broken(format!("{} did not stop in good order", agent.name));
        }
    }
    if let Some(task) = world.tasks.failed().now_or_never() {
        world.broken(format!("the simulation's own task {task} panicked"));
    }
    world.tasks.kill();
}
