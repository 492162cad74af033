//! An agent that comes takes its share of what clients do, without a restart of any of them.

use std::time::Duration;

use super::agents::{Access, Cluster, LeaseTtl};
use super::load::Load;
use super::measure::metric;
use super::{beside_another, say, wait};

/// When the new agent must have its share.
const WITHIN: Duration = Duration::from_secs(30);
const WATCHED: Duration = Duration::from_secs(8);

/// Records each agent took and gave, in `WATCHED`.
async fn traffic(cluster: &Cluster) -> Vec<f64> {
    let records = |cluster: &Cluster| -> Vec<f64> {
        let of = |agent| metric(agent, "yaks_produce_records_total") + metric(agent, "yaks_fetch_records_total");
        cluster.agents.iter().map(of).collect()
    };
    let before = records(cluster);
    wait(WATCHED).await;
    records(cluster).iter().zip(before).map(|(now, before)| now - before).collect()
}

async fn join(access: Access) {
    let _place = beside_another().await;
    let mut cluster = Cluster::start(access, 3, LeaseTtl::USUAL).await;
    let time = Duration::from_secs(3) + WITHIN + WATCHED + Duration::from_secs(2);
    // Clients ask for metadata as seldom as they do by default.
    let seldom = ["--set", "topic.metadata.refresh.interval.ms=300000", "--clients", "12", "--mid-starts", "0"];
    let load = Load::start(&cluster.bootstrap(), time, &seldom);
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
