//! A cluster in one process, on paused time: the real rooms on seams that fail, clients that pipeline, reconnect and retry, and judges.
//!
//! A seed decides everything: the plan (agents, topics, settings), the faults, the clients. The same seed gives the same trace, line by line.
//!
//! - `YAKS_TEST_SEED=7 cargo test --test sim seeds` runs one seed and prints its logs (`YAKS_LOG` filters them);
//! - `YAKS_TEST_SEEDS=1000..2000 cargo test --test sim seeds` runs others than CI does.
//!
//! Parts: `world` what all share; `agent` the rooms on their seams; `faults` what goes wrong by chance and by sabotage, `incidents` what is done to
//! the cluster; `producers` and `consumers` the clients; `ledger` the book they keep; `judge` with the oracle's invariants and its own; `trace`.

mod agent;
mod consumers;
mod faults;
mod incidents;
mod judge;
mod ledger;
mod producers;
mod records;
mod trace;
mod world;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use yaks::oracle::history::Promise;

use crate::agent::Agent;
use crate::consumers::Tailer;
use crate::faults::Sabotage;
use crate::producers::Client;
use crate::world::World;

/// Seeds that CI runs.
const SEEDS: Range<u64> = 0..200;

/// What became of one seed.
#[derive(Debug)]
struct Verdict {
    seed: u64,
    broken: Vec<String>,
    trace: Vec<String>,
}

/// Runs one seed on a runtime of its own.
fn run(seed: u64, sabotage: Sabotage, logs: bool) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let _printing = logs.then(|| trace::print_logs(Instant::now()));
        let world = World::new(seed, sabotage);
        simulate(&world).await;
        Verdict { seed, broken: world.take_broken(), trace: world.trace.take() }
    })
}

async fn simulate(world: &Arc<World>) {
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
    world.ending.store(true, Ordering::Relaxed);
    let drained = producers.stop(incidents::patience(world)).await;
    world.trace.note("world", format_args!("producers are done: {drained}"));
    // What nobody waits for any longer has its time too.
    tokio::time::sleep(world.plan.park_for + Duration::from_secs(5)).await;
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
    producers
}

/// At rest and without faults, a stop in good order leaves nothing undone.
async fn stop_all(world: &World) {
    for agent in world.live_agents() {
        if !agent.stop(Duration::from_secs(5)).await {
            world.broken(format!("{} did not stop in good order", agent.name));
        }
    }
    world.tasks.kill();
}

/// The first seed of `seeds` that breaks a rule; two at a time.
fn first_broken(seeds: Range<u64>, sabotage: Sabotage) -> Option<Verdict> {
    let next = AtomicU64::new(seeds.start);
    let search = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return None;
            }
            let verdict = run(seed, sabotage, false);
            if !verdict.broken.is_empty() {
                next.store(seeds.end, Ordering::Relaxed);
                return Some(verdict);
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(search)).collect();
        threads.into_iter().filter_map(|thread| thread.join().expect("no panic")).min_by_key(|verdict| verdict.seed)
    })
}

fn seeds_wanted() -> (Range<u64>, bool) {
    let number = |text: &str| text.trim().parse::<u64>().expect("a number");
    if let Ok(one) = std::env::var("YAKS_TEST_SEED") {
        let one = number(&one);
        return (one..one + 1, true);
    }
    let range = std::env::var("YAKS_TEST_SEEDS").ok().map(|range| {
        let (from, to) = range.split_once("..").expect("YAKS_TEST_SEEDS=FROM..TO");
        number(from)..number(to)
    });
    (range.unwrap_or(SEEDS), false)
}

#[test]
fn seeds_keep_every_promise() {
    let (seeds, logs) = seeds_wanted();
    let broken = if logs { Some(run(seeds.start, Sabotage::None, true)) } else { first_broken(seeds, Sabotage::None) };
    if let Some(verdict) = broken.filter(|verdict| !verdict.broken.is_empty()) {
        let Verdict { seed, broken, trace } = verdict;
        let end = trace[trace.len().saturating_sub(20)..].join("\n");
        panic!("{end}\n\nseed {seed}: {}\n\nagain: YAKS_TEST_SEED={seed} cargo test --test sim seeds -- --nocapture", broken.join("\n"));
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let (one, other) = (run(seed, Sabotage::None, false), run(seed, Sabotage::None, false));
        if let Some(difference) = trace::first_difference(&one.trace, &other.trace) {
            panic!("seed {seed} is not the same twice; {difference}");
        }
    }
}

/// What is wrong on purpose is found within the seeds that CI runs.
#[test]
fn every_sabotage_is_noticed() {
    let all = [
        Sabotage::OffsetTwice,
        Sabotage::ForgottenProducers,
        Sabotage::ForgottenParked,
        Sabotage::NobodyIdempotent,
        Sabotage::CommitLost,
        Sabotage::CommitOutOfOrder,
        Sabotage::CommitTwice,
        Sabotage::BlindFaith,
        Sabotage::PutLost,
        Sabotage::BitFlipped,
        Sabotage::EndGoesBack,
        Sabotage::EndTooFar,
    ];
    for sabotage in all {
        match first_broken(SEEDS, sabotage) {
            Some(verdict) => println!("{sabotage:?}: seed {}: {}", verdict.seed, verdict.broken[0]),
            None => panic!("{sabotage:?} was not noticed in seeds {SEEDS:?}"),
        }
    }
}
