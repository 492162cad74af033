//! What a cluster costs that nobody uses.

use std::time::Duration;

use super::agents::{Access, Cluster, LeaseTtl};
use super::measure::{cpu, log_statements, statements};
use super::support::{Services, create_topic, producer, send};
use super::{alone, postgres_stays, say, wait};

const WATCHED: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_cluster_of_three_costs_next_to_nothing() {
    let (_alone, _calm) = (alone().await, postgres_stays().await);
    let services = Services::start().await;
    log_statements(&services).await;
    let cluster = Cluster::on(services, Access::Direct, 3, LeaseTtl::USUAL);
    create_topic(&cluster.bootstrap(), "t", 6).await;
    send(&producer(&cluster.bootstrap(), &[]), "t", 0, "x").await;
    // Until the loops have become slow.
    wait(Duration::from_secs(12)).await;

    let before: Vec<Duration> = cluster.agents.iter().map(cpu).collect();
    let (puts, (_, log)) = (cluster.services.s3.faults.puts(), statements(&cluster.services, 0).await);
    wait(WATCHED).await;
    let (counts, _) = statements(&cluster.services, log).await;
    let puts = cluster.services.s3.faults.puts() - puts;
    let shares: Vec<f64> =
        cluster.agents.iter().zip(&before).map(|(a, b)| cpu(a).saturating_sub(*b).as_secs_f64() / WATCHED.as_secs_f64()).collect();

    let rate = counts.values().sum::<u64>() as f64 / WATCHED.as_secs_f64();
    let percent: Vec<String> = shares.iter().map(|share| format!("{:.2} %", share * 100.0)).collect();
    say(&format!("an idle cluster of three: {puts} PUTs, {} of a core, {rate:.1} statements a second", percent.join(" ")));
    for (text, count) in &counts {
        say(&format!("  {:.2} a second: {text}", *count as f64 / WATCHED.as_secs_f64()));
    }
    assert_eq!(puts, 0);
    assert!(shares.iter().all(|share| *share < 0.02), "{percent:?}");
    assert!(rate < 10.0, "{rate} statements a second");
}
