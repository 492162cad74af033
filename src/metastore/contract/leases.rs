//! Leases, the cluster's id, producer ids.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Backend;
use super::scene::eventually;
use crate::metastore::{Agent, LeaseOutcome};
use crate::types::NodeId;

const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(200);

fn agent(number: u8) -> Agent {
    Agent {
        node: NodeId(-1),
        instance: [number; 16],
        advertised_host: format!("host-{number}"),
        advertised_port: 65_535,
        rack: number.is_multiple_of(2).then(|| "zone ä".to_owned()),
        version: "1.2.3".to_owned(),
    }
}

fn holding(number: u8, node: i32) -> Agent {
    Agent { node: NodeId(node), ..agent(number) }
}

fn granted(node: i32) -> LeaseOutcome {
    LeaseOutcome::Granted(NodeId(node))
}

pub(super) async fn the_lowest_free_id_is_leased(backend: &dyn Backend) {
    let metastore = backend.metastore();
    assert_eq!(metastore.live_agents().await.expect("agents"), []);
    assert_eq!(metastore.acquire_lease(Some(NodeId(1)), &agent(1), LONG).await.expect("leased"), granted(1));
    assert_eq!(metastore.acquire_lease(None, &agent(2), LONG).await.expect("leased"), granted(0));
    assert_eq!(metastore.acquire_lease(None, &agent(3), LONG).await.expect("leased"), granted(2));
    // The same agent again, as after an unknown outcome.
    assert_eq!(metastore.acquire_lease(None, &agent(3), LONG).await.expect("leased"), granted(2));
    let live = metastore.live_agents().await.expect("agents");
    assert_eq!(live, [holding(2, 0), holding(1, 1), holding(3, 2)]);
    metastore.release_lease(NodeId(0), [9; 16]).await.expect("nothing to release");
    metastore.release_lease(NodeId(0), [2; 16]).await.expect("released");
    assert_eq!(metastore.acquire_lease(None, &agent(4), LONG).await.expect("leased"), granted(0));
}

pub(super) async fn a_wanted_id_may_be_held(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    assert_eq!(here.acquire_lease(Some(NodeId(7)), &agent(1), LONG).await.expect("leased"), granted(7));
    let held = there.acquire_lease(Some(NodeId(7)), &agent(2), LONG).await.expect("answered");
    assert_eq!(held, LeaseOutcome::Held(holding(1, 7)));
    assert_eq!(here.acquire_lease(Some(NodeId(7)), &agent(1), LONG).await.expect("leased"), granted(7));
    here.release_lease(NodeId(7), [1; 16]).await.expect("released");
    assert_eq!(there.acquire_lease(Some(NodeId(7)), &agent(2), LONG).await.expect("leased"), granted(7));
}

pub(super) async fn leases_end(backend: &dyn Backend) {
    let metastore = backend.metastore();
    assert_eq!(metastore.acquire_lease(None, &agent(1), SHORT).await.expect("leased"), granted(0));
    assert_eq!(metastore.acquire_lease(None, &agent(2), LONG).await.expect("leased"), granted(1));
    eventually(backend, "the lease ends", || async { metastore.live_agents().await.expect("agents") == [holding(2, 1)] }).await;
    // Nobody took it meanwhile.
    assert!(metastore.renew_lease(NodeId(0), [1; 16], SHORT).await.expect("renewed"));
    assert_eq!(metastore.live_agents().await.expect("agents").len(), 2);
    eventually(backend, "the lease ends again", || async { metastore.live_agents().await.expect("agents").len() == 1 }).await;
    assert_eq!(metastore.acquire_lease(None, &agent(3), LONG).await.expect("leased"), granted(0));
}

pub(super) async fn a_lost_lease_is_not_renewed(backend: &dyn Backend) {
    let metastore = backend.metastore();
    assert!(!metastore.renew_lease(NodeId(0), [1; 16], LONG).await.expect("answered"));
    metastore.acquire_lease(None, &agent(1), SHORT).await.expect("leased");
    assert!(metastore.renew_lease(NodeId(0), [1; 16], SHORT).await.expect("renewed"));
    eventually(backend, "another takes it", || async {
        metastore.acquire_lease(Some(NodeId(0)), &agent(2), LONG).await.expect("answered") == granted(0)
    })
    .await;
    assert!(!metastore.renew_lease(NodeId(0), [1; 16], LONG).await.expect("answered"));
    metastore.release_lease(NodeId(0), [1; 16]).await.expect("nothing to release");
    assert_eq!(metastore.live_agents().await.expect("agents"), [holding(2, 0)]);
}

pub(super) async fn two_agents_never_share_an_id(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let mut ids = BTreeSet::new();
    for number in 0..10 {
        let (a, b) = (agent(number), agent(number + 100));
        let both = tokio::join!(here.acquire_lease(None, &a, LONG), there.acquire_lease(None, &b, LONG));
        for outcome in [both.0, both.1] {
            let LeaseOutcome::Granted(node) = outcome.expect("leased") else { panic!("no id was asked for") };
            assert!(ids.insert(node.0));
        }
    }
    assert_eq!(ids, (0..20).collect());
}

pub(super) async fn the_first_cluster_id_stays(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let (a, b) = tokio::join!(here.cluster_id("aaaaaaaaaaaaaaaaaaaaaa"), there.cluster_id("bbbbbbbbbbbbbbbbbbbbbb"));
    let id = a.expect("an id");
    assert_eq!(b.expect("an id"), id);
    assert_eq!(here.cluster_id("cccccccccccccccccccccc").await.expect("an id"), id);
}

pub(super) async fn producer_ids_are_unique(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let mut ids = BTreeSet::new();
    for count in 1..=20u32 {
        let (a, b) = tokio::join!(here.reserve_producer_ids(count), there.reserve_producer_ids(count));
        for first in [a, b] {
            let first = first.expect("reserved").0;
            assert!(first >= 0);
            assert!((first..first + i64::from(count)).all(|id| ids.insert(id)));
        }
    }
}
