//! Runs seeds, several at a time, until what is looked for is found.

use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::cluster::simulate;
use crate::sabotage::Sabotage;
use crate::sights::Sight;
use crate::trace;
use crate::world::World;

/// Seeds that CI runs.
pub(crate) const SEEDS: Range<u64> = 0..200;

/// Whether a run prints what it logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Logs {
    Quiet,
    Printed,
}

/// What became of one seed.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) broken: Vec<String>,
    pub(crate) trace: Vec<String>,
    pub(crate) sights: BTreeMap<Sight, u64>,
}

impl Verdict {
    /// The end of the trace, what was broken, and how to see it again.
    pub(crate) fn describe(&self) -> String {
        let Verdict { seed, broken, trace, .. } = self;
        let end = trace[trace.len().saturating_sub(20)..].join("\n");
        let again = format!("YAKS_TEST_SEED={seed} cargo test --test sim seeds -- --nocapture");
        format!("{end}\n\nseed {seed}: {}\n\nagain: {again}", broken.join("\n"))
    }
}

/// Runs one seed on a runtime of its own.
pub(crate) fn run(seed: u64, sabotage: Sabotage, logs: Logs) -> Verdict {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    let simulation = AssertUnwindSafe(|| {
        runtime.block_on(async {
            let _printing = (logs == Logs::Printed).then(|| trace::print_logs(Instant::now()));
            let world = World::new(seed, sabotage);
            simulate(&world).await;
            Verdict { seed, broken: world.take_broken(), trace: world.trace.take(), sights: world.sights.take() }
        })
    });
    let panicked = |_| Verdict { seed, broken: vec!["the simulation panicked".to_owned()], trace: Vec::new(), sights: BTreeMap::new() };
    catch_unwind(simulation).unwrap_or_else(panicked)
}

/// The first seed that `wanted` says yes to: the lowest of those that were under way.
pub(crate) fn search(seeds: Range<u64>, sabotage: Sabotage, wanted: impl Fn(&Verdict) -> bool + Sync) -> Option<Verdict> {
    let next = AtomicU64::new(seeds.start);
    let one_thread = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return None;
            }
            let verdict = run(seed, sabotage, Logs::Quiet);
            if wanted(&verdict) {
                next.store(seeds.end, Ordering::Relaxed);
                return Some(verdict);
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        running.into_iter().filter_map(|thread| thread.join().expect("no panic")).min_by_key(|verdict| verdict.seed)
    })
}

/// What the environment asks for.
#[derive(Debug)]
pub(crate) enum Wanted {
    One(u64),
    Many(Range<u64>),
}

impl Wanted {
    /// # Panics
    /// If a variable is neither a number nor, for `YAKS_TEST_SEEDS`, a range.
    pub(crate) fn from_env() -> Wanted {
        let number = |text: &str| text.trim().parse::<u64>().expect("a number");
        if let Ok(seed) = std::env::var("YAKS_TEST_SEED") {
            return Wanted::One(number(&seed));
        }
        let Ok(seeds) = std::env::var("YAKS_TEST_SEEDS") else { return Wanted::Many(SEEDS) };
        match seeds.split_once("..") {
            Some((from, to)) => Wanted::Many(number(from)..number(to)),
            None => Wanted::Many(0..number(&seeds)),
        }
    }
}
