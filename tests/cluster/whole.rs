//! Everything goes wrong, one after the other, and the oracle and all clients stay green.

use std::time::{Duration, Instant};

use yaks::clock::{Ids as _, RandomIds};

use super::agents::{Access, Cluster, LeaseTtl};
use super::load::Load;
use super::programs::Programs;
use super::{beside_another, faults, postgres_stays, say};

/// How long each of the two runs is without `YAKS_TEST_CLUSTER_MINUTES`.
const USUAL: Duration = Duration::from_secs(65);

/// How long, and how many members of each client: in the usual time one, for they are many programs for two cores.
fn size() -> (Duration, usize) {
    let minutes = std::env::var("YAKS_TEST_CLUSTER_MINUTES").ok();
    let minutes = minutes.map(|minutes| minutes.parse().expect("YAKS_TEST_CLUSTER_MINUTES is a number of minutes"));
    minutes.map_or((USUAL, 1), |minutes| (Duration::from_mins(minutes), 2))
}

fn seed() -> u64 {
    let seed = std::env::var("YAKS_TEST_SEED").ok();
    seed.map_or_else(|| RandomIds::from_system().below(1 << 32), |seed| seed.parse().expect("YAKS_TEST_SEED is a number"))
}

async fn survive(access: Access) {
    let _place = beside_another().await;
    let (seed, (length, members)) = (seed(), size());
    say(&format!("three agents, {access:?}, {length:?} of faults, seed {seed}"));
    let calm = postgres_stays().await;
    let mut cluster = Cluster::start(access, 3, LeaseTtl::SHORT).await;
    let programs = Programs::start(&cluster, members).await;
    let mut more = vec!["--group-members", "2"];
    if access == Access::Direct {
        // Leaders move, and one request in flight is librdkafka's promise for each connection: what was under way to the old leader may come after what the new
        // one got. Order is then promised to idempotent producers alone.
        more.extend(["--set", "max.in.flight=5"]);
    }
    let load = Load::start(&cluster.bootstrap(), length + Duration::from_secs(5), &more);
    load.begun().await;
    drop(calm);
    let count = faults::wreak(&mut cluster, seed, Instant::now() + length).await;
    say(&format!("{access:?}: {count} faults are over"));
    // One verdict must not hide the other.
    let faults = programs.judge().await;
    load.judge().await;
    assert!(faults.is_empty(), "{access:?}: {} faults of the client programs:\n{}", faults.len(), faults.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_agents_behind_nginx_survive_everything() {
    survive(Access::Balanced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_agents_with_addresses_of_their_own_survive_everything() {
    survive(Access::Direct).await;
}
