//! An agent that comes takes its share of what clients do, without a restart of any of them.

use std::time::Duration;

use super::agents::{Access, Cluster, LeaseTtl};
use super::load::Load;
use super::measure::metric;
use super::{beside_another, postgres_stays, say, wait};

/// When the new agent must have its share.
const WITHIN: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_secs(8);

/// Records each agent took, in `WATCHED`. What it gave tells less: three consumers are not to be shared out among four.
async fn traffic(cluster: &Cluster) -> Vec<f64> {
    let records =
        |cluster: &Cluster| -> Vec<f64> { cluster.agents.iter().map(|agent| metric(agent, "yaks_produce_records_total")).collect() };
    let before = records(cluster);
    wait(WATCHED).await;
    records(cluster).iter().zip(before).map(|(now, before)| now - before).collect()
}

async fn join(access: Access) {
    let (_place, _calm) = (beside_another().await, postgres_stays().await);
    let mut cluster = Cluster::start(access, 3, LeaseTtl::USUAL).await;
    cluster.have_met().await;
    let time = Duration::from_secs(3) + WITHIN + WATCHED + Duration::from_secs(2);
    // So many logs, or connections, are shared out by chance that hardly ever one agent of four gets less than a third of its share. Clients ask for
    // metadata as seldom as they do by default.
    let clients = if access == Access::Balanced { "48" } else { "12" };
    let load = ["--partitions", "32", "--producers", "48", "--clients", clients, "--mid-starts", "0"];
    let load = Load::start(&cluster.bootstrap(), time, &[&["--set", "topic.metadata.refresh.interval.ms=300000"][..], &load].concat());
    load.begun().await;
    wait(Duration::from_secs(3)).await;
    cluster.add();
    wait(WITHIN).await;
    let shares = traffic(&cluster).await;
    say(&format!("{access:?}: records of each agent in {WATCHED:?}, {WITHIN:?} after the fourth came: {shares:?}"));
    let run = load.judge().await;
    let all: f64 = shares.iter().sum();
    assert!(shares[3] / all > 0.08, "the fourth agent has {:.1} % of the traffic", 100.0 * shares[3] / all);
    assert!(run.complaints.is_empty(), "a join showed errors: {:?}", run.complaints);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_agent_behind_nginx_takes_its_share() {
    join(Access::Balanced).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fourth_agent_with_an_address_of_its_own_takes_its_share() {
    join(Access::Direct).await;
}
