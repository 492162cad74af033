//! What is done to a cluster while clients work, and how it is made whole again.

use std::sync::Arc;
use std::time::Duration;

use yaks::metastore::{TopicQuery, Topics as _};

use crate::agent::Agent;
use crate::odds::Odds;
use crate::sights::Sight;
use crate::world::{FLEETING, World};

/// Does things to the cluster until the producers are told to end.
pub(crate) async fn happen(world: Arc<World>) {
    let average = world.plan.incidents.as_millis() as u64;
    let end = world.clock.start + world.plan.duration;
    while tokio::time::Instant::now() < end {
        let next = tokio::time::Instant::now() + world.dice.millis(average / 4, average * 2);
        tokio::time::sleep_until(next.min(end)).await;
        if next < end {
            incident(&world).await;
        }
    }
}

async fn incident(world: &Arc<World>) {
    let node = world.dice.below(world.places() as u64) as usize;
    let Some(agent) = world.agent(node) else { return start(world, node) };
    if agent.is_dead() {
        return start(world, node);
    }
    match world.dice.below(12) {
        0..=2 => kill(world, node, &agent),
        3 | 4 => stop(world, agent),
        5 => pause(world, agent),
        6 => cut_off(world, &[agent]),
        7 => store_away(world, &[agent]),
        8 => deafen(world, agent),
        9 => cut_off(world, &world.live_agents()),
        10 => store_away(world, &world.live_agents()),
        _ => recreate(world).await,
    }
}

fn start(world: &Arc<World>, node: usize) {
    let life = world.dice.below(1_000_000);
    world.seat(node, Some(Agent::start(world, node, life)));
}

fn kill(world: &Arc<World>, node: usize, agent: &Arc<Agent>) {
    world.trace.note(&agent.name, "is killed");
    world.sights.saw(Sight::AgentKilled, 1);
    agent.kill();
    check_panics(world, agent);
    world.seat(node, None);
    let (again, after) = (Arc::clone(world), world.dice.millis(1, 5_000));
    if world.dice.chance(700) {
        world.tasks.spawn("restart", async move {
            tokio::time::sleep(after).await;
            if again.agent(node).is_none() {
                start(&again, node);
            }
        });
    }
}

fn check_panics(world: &World, agent: &Agent) {
    if let Some(task) = agent.failed() {
        world.broken(format!("{}: the task {task} panicked", agent.name));
    }
}

/// Stops in good order, as after SIGTERM; a later incident starts the place anew.
fn stop(world: &Arc<World>, agent: Arc<Agent>) {
    if !agent.accepts() {
        return;
    }
    let (world, deadline) = (Arc::clone(world), world.dice.millis(0, 30_000));
    world.trace.note(&agent.name, format_args!("stops within {deadline:?}"));
    let tasks = world.tasks.clone();
    tasks.spawn("stop", async move {
        let done = agent.stop(deadline).await;
        world.sights.saw(Sight::AgentStopped, u64::from(done));
        world.trace.note(&agent.name, format_args!("has stopped, done: {done}"));
        check_panics(&world, &agent);
    });
}

/// Does something now and undoes it after up to `longest`.
fn for_a_while(world: &Arc<World>, longest: u64, undo: impl FnOnce() + Send + 'static) {
    let after = world.dice.millis(1, longest);
    world.tasks.spawn("undo", async move {
        tokio::time::sleep(after).await;
        undo();
    });
}

/// The process stands still; the others go on.
fn pause(world: &Arc<World>, agent: Arc<Agent>) {
    world.trace.note(&agent.name, "stands still");
    world.sights.saw(Sight::AgentStoodStill, 1);
    agent.gate.shut();
    for_a_while(world, 12_000, move || agent.gate.open());
}

fn cut_off(world: &Arc<World>, agents: &[Arc<Agent>]) {
    for agent in agents.iter().cloned() {
        world.trace.note(&agent.name, "has no metastore");
        agent.flaky.switch_off();
        for_a_while(world, 6_000, move || agent.flaky.switch_on());
    }
}

fn store_away(world: &Arc<World>, agents: &[Arc<Agent>]) {
    let full = world.dice.chance(300);
    for agent in agents.iter().cloned() {
        world.trace.note(&agent.name, if full { "has a full store" } else { "has no store" });
        if full {
            agent.store.fill();
        } else {
            agent.store.take_down();
        }
        for_a_while(world, 6_000, move || {
            agent.store.make_room();
            agent.store.bring_up();
        });
    }
}

fn deafen(world: &Arc<World>, agent: Arc<Agent>) {
    world.trace.note(&agent.name, "hears no announcements");
    agent.link.set_deaf(true);
    for_a_while(world, 8_000, move || agent.link.set_deaf(false));
}

/// Deletes the fleeting topic, or makes it again, or both.
async fn recreate(world: &Arc<World>) {
    let (name, partitions) = world.plan.topics.iter().find(|(name, _)| name.as_str() == FLEETING).expect("planned").clone();
    let found = world.metastore.find_topics(&TopicQuery::Names(vec![name.clone()])).await.expect("memory");
    if let Some(topic) = found.first() {
        world.metastore.delete_topic(topic.id).await.expect("memory");
        world.trace.note("world", format_args!("topic {name} deleted"));
        world.sights.saw(Sight::TopicDeleted, 1);
    }
    if found.is_empty() || world.dice.chance(500) {
        world.create_topic(&name, partitions).await;
    }
}

/// From now on nothing goes wrong any more, and every place has an agent.
pub(crate) async fn heal(world: &Arc<World>) {
    world.trace.note("world", "heals");
    for node in 0..world.places() {
        match world.agent(node) {
            Some(agent) if agent.accepts() => whole(&agent),
            // One that is stopping goes on to do so, but nothing hinders it any more.
            Some(agent) if !agent.is_dead() => {
                whole(&agent);
                start(world, node);
            }
            Some(_) | None => start(world, node),
        }
        if let Some(agent) = world.agent(node) {
            whole(&agent);
        }
    }
    if !world.metastore.find_topics(&TopicQuery::All).await.expect("memory").iter().any(|t| t.name.as_str() == FLEETING) {
        recreate(world).await;
    }
}

fn whole(agent: &Agent) {
    agent.set_odds(&Odds::default());
    agent.gate.open();
    agent.flaky.switch_on();
    agent.store.make_room();
    agent.store.bring_up();
    agent.link.set_deaf(false);
}

/// Every task of every agent that is left must have lived until now.
pub(crate) fn check_all(world: &World) {
    for agent in (0..world.places()).filter_map(|node| world.agent(node)) {
        check_panics(world, &agent);
    }
}

/// How long it may take after [`heal`] until what nobody waits for any longer is decided: a put that hangs ends after `give_up`.
pub(crate) fn settling(world: &World) -> Duration {
    world.plan.give_up + world.plan.park_for * 2 + Duration::from_secs(10)
}

/// How long it may take until everything has come to rest after [`heal`].
pub(crate) fn patience(world: &World) -> Duration {
    // A hanging put or a commit that is being retried ends after `give_up`; what failed then is sent again; what came early is parked once more.
    world.plan.give_up * 2 + world.plan.park_for * 3 + Duration::from_secs(25)
}
