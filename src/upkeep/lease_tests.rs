//! Leases on tokio's paused time: the metastore's clock, and this machine's, are both it.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::clock::{Clock, RandomIds, SystemClock};
use crate::metastore::flaky::{Flaky, Odds, Operation};
use crate::metastore::memory::MemoryMetastore;
use crate::types::Timestamp;

const TTL: Duration = Duration::from_secs(15);
const HEARTBEAT: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct PausedClock(Instant);

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp(1_000).plus(self.0.elapsed())
    }
}

fn memory() -> Arc<MemoryMetastore> {
    Arc::new(MemoryMetastore::new(Arc::new(PausedClock(Instant::now()))))
}

fn flaky(memory: &Arc<MemoryMetastore>) -> Arc<Flaky> {
    Arc::new(Flaky::new(Arc::clone(memory) as _, Arc::new(RandomIds::seeded(SystemClock, 1))))
}

fn agent(number: u8) -> Agent {
    Agent { node: NodeId(0), broker: NodeId(0), ..Agent::sample(i32::from(number), &format!("host-{number}")) }
}

fn config(wanted: Option<i32>) -> LeaseConfig {
    LeaseConfig { wanted: wanted.map(NodeId), ttl: TTL, heartbeat: HEARTBEAT }
}

async fn lease(leases: &Arc<Flaky>, wanted: Option<i32>, number: u8) -> Lease {
    Lease::acquire(Arc::clone(leases) as _, config(wanted), &agent(number)).await.expect("leased")
}

/// Keeps it, and counts how often the id it was told to have was taken.
fn keep(lease: &Lease) -> (Tasks, Arc<AtomicUsize>) {
    let (tasks, taken) = (Tasks::new(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&taken);
    lease.keep(&tasks, Nudge::default(), move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    (tasks, taken)
}

fn acts_as(lease: &Lease) -> Option<i32> {
    lease.me().acting().map(|agent| agent.node.0)
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_renewed_goes_on() {
    let here = flaky(&memory());
    let lease = lease(&here, None, 1).await;
    let (_tasks, _) = keep(&lease);
    let over = lease.me().over();
    sleep(TTL * 10).await;
    assert_eq!((acts_as(&lease), over.is_cancelled()), (Some(0), false));
    lease.release().await;
    assert_eq!(here.live_agents().await.expect("agents"), []);
}

/// Whatever goes wrong and when: while another has the id, this agent does not act under it.
#[tokio::test(start_paused = true)]
async fn two_never_act_under_one_id() {
    for (hangs, starts) in [(false, 0), (true, 0), (false, 2_400), (true, 4_900), (true, 5_100)] {
        let memory = memory();
        let (here, there) = (flaky(&memory), flaky(&memory));
        let lease = lease(&here, None, 1).await;
        let (_tasks, _) = keep(&lease);
        let over = lease.me().over();
        sleep(Duration::from_millis(starts)).await;
        if hangs {
            here.set_odds(Operation::Change, Odds { delay: 1_000, max_delay: Duration::from_hours(24), ..Odds::default() });
        } else {
            here.switch_off();
        }
        let cut_off = Instant::now();
        let other = loop {
            match there.acquire_lease(Some(NodeId(0)), &agent(2), TTL).await.expect("answered") {
                LeaseOutcome::Granted(other) => break other,
                LeaseOutcome::Held(_) => sleep(Duration::from_millis(10)).await,
            }
        };
        assert_eq!((other.node, acts_as(&lease)), (NodeId(0), None), "after {:?}", cut_off.elapsed());
        assert!(over.is_cancelled(), "its connections are closed");
        here.switch_on();
        here.set_odds(Operation::Change, Odds::default());
        sleep(TTL * 2).await;
        assert_eq!(acts_as(&lease), Some(1), "it goes on under another id");
        assert!(!lease.me().over().is_cancelled());
    }
}

/// A process that stood still knows it before any of its tasks has run.
#[tokio::test(start_paused = true)]
async fn who_slept_through_the_lease_does_not_act() {
    let here = flaky(&memory());
    let lease = lease(&here, None, 1).await;
    tokio::time::advance((TTL * 9 / 10).saturating_sub(Duration::from_millis(1))).await;
    assert_eq!(acts_as(&lease), Some(0));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(acts_as(&lease), None);
    let over = lease.me().over();
    let (_tasks, _) = keep(&lease);
    sleep(SECOND).await;
    assert_eq!((acts_as(&lease), over.is_cancelled()), (Some(0), true), "nobody took it: a new term under the same id");
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_and_all_have_their_ids_again() {
    let memory = memory();
    let here = flaky(&memory);
    let (first, second) = (lease(&here, None, 1).await, lease(&here, Some(7), 2).await);
    let kept = [keep(&first), keep(&second)];
    here.switch_off();
    sleep(TTL * 4).await;
    assert_eq!((acts_as(&first), acts_as(&second)), (None, None));
    here.switch_on();
    sleep(HEARTBEAT).await;
    assert_eq!((acts_as(&first), acts_as(&second)), (Some(0), Some(7)));
    assert!(kept.iter().all(|(_, taken)| taken.load(Ordering::Relaxed) == 0));
}

#[tokio::test(start_paused = true)]
async fn who_was_told_its_id_ends_when_that_is_taken() {
    let memory = memory();
    let (here, there) = (flaky(&memory), flaky(&memory));
    let lease = lease(&here, Some(4), 1).await;
    let (_tasks, taken) = keep(&lease);
    here.switch_off();
    sleep(TTL * 2).await;
    assert!(matches!(there.acquire_lease(Some(NodeId(4)), &agent(2), TTL * 100).await, Ok(LeaseOutcome::Granted(_))));
    here.switch_on();
    sleep(HEARTBEAT).await;
    assert_eq!((acts_as(&lease), taken.load(Ordering::Relaxed) > 0), (None, true));
}

/// A killed agent that is started again finds the lease of its former life; another agent's is a mistake.
#[tokio::test(start_paused = true)]
async fn a_held_id_is_waited_for_at_the_same_address_only() {
    let here = flaky(&memory());
    let _dead = lease(&here, Some(4), 1).await;
    let began = Instant::now();
    let refused = Lease::acquire(Arc::clone(&here) as _, config(Some(4)), &agent(2)).await;
    assert!(refused.is_err_and(|error| error.to_string().contains("host-1:9092")) && began.elapsed() < SECOND);
    let again = Agent { instance: [9; 16], ..agent(1) };
    let lease = Lease::acquire(Arc::clone(&here) as _, config(Some(4)), &again).await.expect("leased");
    assert_eq!((acts_as(&lease), began.elapsed() >= TTL), (Some(4), true));
    let (_tasks, _) = keep(&lease);
    let third = Agent { instance: [10; 16], ..agent(1) };
    let refused = Lease::acquire(Arc::clone(&here) as _, config(Some(4)), &third).await;
    assert!(refused.is_err(), "the one before lives");
}
