//! A cluster in one process, on paused time: the real rooms on seams that fail, clients that pipeline, reconnect and retry, and judges.
//!
//! A seed decides everything: the plan (agents, topics, settings), the faults, the clients. The same seed gives the same trace, line by line.
//!
//! - `YAKS_TEST_SEED=7 cargo test --test sim seeds -- --nocapture` runs one seed and prints its logs (`YAKS_LOG` filters them);
//! - `YAKS_TEST_SEEDS=1000 cargo test --test sim seeds` runs that many, `YAKS_TEST_SEEDS=1000..2000` others than CI does.
//!
//! Parts: `seeds` runs them; `cluster` is the course of one, `world` what all share, `sights` what must come about; `agent` the rooms on their seams,
//! `link` and `store_link`; `odds` what goes wrong by chance, `gate` stands still, `sabotage` goes wrong on purpose; `incidents` what is done to the
//! cluster; `producers`, `consumers` and `members` the clients, `records` their bytes; `ledger` and `group_book` the books they keep; `judge` with
//! the oracle's invariants and its own; `trace`.

#![allow(clippy::expect_used, reason = "all of it is a test")]

mod agent;
mod cluster;
mod consumers;
mod gate;
mod group_book;
mod incidents;
mod judge;
mod ledger;
mod link;
mod members;
mod odds;
mod producers;
mod records;
mod sabotage;
mod seeds;
mod sights;
mod store_link;
mod trace;
mod world;

use std::sync::Mutex;

use crate::sabotage::Sabotage;
use crate::seeds::{Logs, SEEDS, Wanted, run, search};
use crate::sights::Sights;

#[test]
fn seeds_keep_every_promise() {
    let sights = Sights::default();
    let (broken, number) = match Wanted::from_env() {
        Wanted::One(seed) => (Some(run(seed, Sabotage::None, Logs::Printed)).filter(|verdict| !verdict.broken.is_empty()), 1),
        Wanted::Many(seeds) => {
            let number = seeds.end - seeds.start;
            let broken = search(seeds, Sabotage::None, |verdict| {
                sights.add(&verdict.sights);
                !verdict.broken.is_empty()
            });
            (broken, number)
        }
    };
    if let Some(verdict) = broken {
        panic!("{}", verdict.describe());
    }
    let sights = sights.take();
    println!("{number} seeds: {sights:?}");
    let unseen: Vec<_> = sights::ALL.iter().filter(|sight| sights.get(sight).is_none_or(|times| *times == 0)).collect();
    assert!(number < 100 || unseen.is_empty(), "{number} seeds, and none of them brought about {unseen:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let (one, other) = (run(seed, Sabotage::None, Logs::Quiet), run(seed, Sabotage::None, Logs::Quiet));
        if let Some(difference) = trace::first_difference(&one.trace, &other.trace) {
            panic!("seed {seed} is not the same twice; {difference}");
        }
    }
}

/// What is wrong on purpose is found within the seeds that CI runs, by every judge whose rule it breaks.
#[test]
fn every_sabotage_is_noticed() {
    for sabotage in Sabotage::ALL {
        let unsaid = Mutex::new(sabotage.charges().to_vec());
        search(SEEDS, sabotage, |verdict| {
            let mut unsaid = unsaid.lock().expect("no panic");
            unsaid.retain(|charge| {
                let said = verdict.broken.iter().find(|what| charge.split('|').any(|words| what.contains(words)));
                said.inspect(|what| println!("{sabotage:?}: seed {}: {what:.200}", verdict.seed)).is_none()
            });
            unsaid.is_empty()
        });
        let unsaid = unsaid.into_inner().expect("no panic");
        assert!(unsaid.is_empty(), "{sabotage:?}: no judge said {unsaid:?} in seeds {SEEDS:?}");
    }
}
