//! What goes wrong, by a schedule that depends on the seed alone.

use std::time::{Duration, Instant};

use yaks::oracle::workload::Chance;

use super::agents::Cluster;
use super::support::s3::Fault as StoreFault;
use super::{POSTGRES, say, wait};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9`, and a start a little later.
    Kill,
    /// SIGSTOP for less than the lease.
    PauseShort,
    /// SIGSTOP for longer than the lease.
    PauseLong,
    /// SIGTERM and a new start, one agent after the other.
    Roll,
    /// A fourth agent comes and goes again.
    Join,
    PostgresRestart,
    PostgresCrash,
    /// S3 answers 503 for ten seconds.
    StoreRefuses,
    /// S3 does what it is asked and answers 500.
    StoreLosesAnswers,
}

const DECK: [Fault; 9] = [
    Fault::Kill,
    Fault::PauseShort,
    Fault::PauseLong,
    Fault::Roll,
    Fault::Join,
    Fault::PostgresRestart,
    Fault::PostgresCrash,
    Fault::StoreRefuses,
    Fault::StoreLosesAnswers,
];

/// All of them, or those that `YAKS_TEST_CLUSTER_FAULTS` names, as in `Kill,PauseLong`.
fn deck() -> Vec<Fault> {
    let Ok(names) = std::env::var("YAKS_TEST_CLUSTER_FAULTS") else { return DECK.to_vec() };
    let is_wanted = |fault: &Fault| names.split(',').any(|name| name == format!("{fault:?}"));
    let deck: Vec<Fault> = DECK.into_iter().filter(is_wanted).collect();
    assert!(!deck.is_empty(), "YAKS_TEST_CLUSTER_FAULTS names some of {DECK:?}");
    deck
}

/// Every fault once, in an order the seed chooses, and again until `until`. Returns how many there were.
pub async fn wreak(cluster: &mut Cluster, seed: u64, until: Instant) -> usize {
    let (mut deck, mut chance, mut count, start) = (deck(), Chance::new(seed), 0, Instant::now());
    loop {
        shuffle(&mut deck, &mut chance);
        for fault in &deck {
            if count >= deck.len() && Instant::now() >= until {
                return count;
            }
            wait(Duration::from_millis(1_000 + chance.below(2_500))).await;
            let what = happen(cluster, *fault, &mut chance).await;
            say(&format!("{:?}, {:.1} s: {what}", cluster.access, start.elapsed().as_secs_f64()));
            cluster.revive().iter().for_each(|ended| say(ended));
            count += 1;
        }
    }
}

fn shuffle(deck: &mut [Fault], chance: &mut Chance) {
    for last in (1..deck.len()).rev() {
        deck.swap(last, chance.below(last as u64 + 1) as usize);
    }
}

/// Does it, heals it, says what it was.
async fn happen(cluster: &mut Cluster, fault: Fault, chance: &mut Chance) -> String {
    let agent = chance.below(cluster.agents.len() as u64) as usize;
    let a_moment = Duration::from_millis(300 + chance.below(2_700));
    match fault {
        Fault::Kill => {
            cluster.kill(agent);
            wait(a_moment).await;
            cluster.restart(agent);
            format!("agent {agent} was killed and away for {a_moment:?}")
        }
        Fault::PauseShort => pause(cluster, agent, a_moment).await,
        Fault::PauseLong => pause(cluster, agent, cluster.ttl.0 + a_moment).await,
        Fault::Roll => {
            for agent in 0..cluster.agents.len() {
                cluster.terminate(agent);
                cluster.restart(agent);
                wait(Duration::from_millis(500)).await;
            }
            "all agents were rolled".to_owned()
        }
        Fault::Join => {
            cluster.add();
            wait(a_moment + Duration::from_secs(2)).await;
            cluster.remove_last();
            format!("another agent was there for {:?}", a_moment + Duration::from_secs(2))
        }
        Fault::PostgresRestart => restart_postgres(cluster, "INT").await,
        Fault::PostgresCrash => restart_postgres(cluster, "QUIT").await,
        Fault::StoreRefuses => {
            store_fails(cluster, StoreFault::SlowDown, Duration::from_secs(10)).await;
            "S3 answered 503 for ten seconds".to_owned()
        }
        Fault::StoreLosesAnswers => {
            store_fails(cluster, StoreFault::LostAnswer, a_moment).await;
            format!("S3 did as it was told and answered 500 for {a_moment:?}")
        }
    }
}

async fn pause(cluster: &mut Cluster, agent: usize, time: Duration) -> String {
    cluster.stop_clock_of(agent);
    wait(time).await;
    cluster.go_on(agent);
    format!("agent {agent} was stopped for {time:?} and went on")
}

async fn store_fails(cluster: &Cluster, fault: StoreFault, time: Duration) {
    cluster.services.s3.faults.always(fault);
    wait(time).await;
    cluster.services.s3.faults.heal();
}

async fn restart_postgres(cluster: &Cluster, signal: &str) -> String {
    let _alone = POSTGRES.write().await;
    let began = Instant::now();
    if !cluster.services.database.server.restart(signal).await {
        cluster.services.close_database().await;
        wait(Duration::from_secs(2)).await;
        cluster.services.open_database().await;
        return "all connections to Postgres were ended, and refused for two seconds".to_owned();
    }
    format!("Postgres was restarted with SIG{signal} and away for {:?}", began.elapsed())
}
