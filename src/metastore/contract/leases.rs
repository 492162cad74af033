//! Leases, the cluster's id, producer ids.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Backend;
use super::scene::{WRITER, append, eventually, plain, round, single, topic};
use crate::metastore::{Agent, LeaseOutcome, MetaError, PeerSecrets};
use crate::types::{NodeId, TopicPartition};

const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(200);

fn agent(number: u8) -> Agent {
    Agent {
        node: NodeId(-1),
        broker: NodeId(-1),
        instance: [number; 16],
        advertised_host: format!("host-{number}"),
        advertised_port: 65_535,
        peer_address: number.is_multiple_of(3).then(|| format!("peer-{number}:9080")),
        rack: number.is_multiple_of(2).then(|| "zone ä".to_owned()),
        version: "1.2.3".to_owned(),
    }
}

fn holding(number: u8, node: i32) -> Agent {
    Agent { node: NodeId(node), broker: NodeId(node), ..agent(number) }
}

fn granted(number: u8, node: i32) -> LeaseOutcome {
    LeaseOutcome::Granted(holding(number, node))
}

/// One of several behind one address.
fn balanced(number: u8) -> Agent {
    Agent { advertised_host: "balancer".to_owned(), ..agent(number) }
}

fn balanced_as(number: u8, node: i32, broker: i32) -> Agent {
    Agent { node: NodeId(node), broker: NodeId(broker), ..balanced(number) }
}

pub(super) async fn the_lowest_free_id_is_leased(backend: &dyn Backend) {
    let metastore = backend.metastore();
    assert_eq!(metastore.live_agents().await.expect("agents"), []);
    assert_eq!(metastore.acquire_lease(Some(NodeId(1)), &agent(1), LONG).await.expect("leased"), granted(1, 1));
    assert_eq!(metastore.acquire_lease(None, &agent(2), LONG).await.expect("leased"), granted(2, 0));
    assert_eq!(metastore.acquire_lease(None, &agent(3), LONG).await.expect("leased"), granted(3, 2));
    // The same agent again, as after an unknown outcome.
    assert_eq!(metastore.acquire_lease(None, &agent(3), LONG).await.expect("leased"), granted(3, 2));
    let live = metastore.live_agents().await.expect("agents");
    assert_eq!(live, [holding(2, 0), holding(1, 1), holding(3, 2)]);
    metastore.release_lease(NodeId(0), [9; 16]).await.expect("nothing to release");
    metastore.release_lease(NodeId(0), [2; 16]).await.expect("released");
    assert_eq!(metastore.acquire_lease(None, &agent(4), LONG).await.expect("leased"), granted(4, 0));
}

pub(super) async fn a_wanted_id_may_be_held(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    assert_eq!(here.acquire_lease(Some(NodeId(7)), &agent(1), LONG).await.expect("leased"), granted(1, 7));
    let held = there.acquire_lease(Some(NodeId(7)), &agent(2), LONG).await.expect("answered");
    assert_eq!(held, LeaseOutcome::Held(holding(1, 7)));
    assert_eq!(here.acquire_lease(Some(NodeId(7)), &agent(1), LONG).await.expect("leased"), granted(1, 7));
    here.release_lease(NodeId(7), [1; 16]).await.expect("released");
    assert_eq!(there.acquire_lease(Some(NodeId(7)), &agent(2), LONG).await.expect("leased"), granted(2, 7));
}

pub(super) async fn leases_end(backend: &dyn Backend) {
    let metastore = backend.metastore();
    assert_eq!(metastore.acquire_lease(None, &agent(1), LONG).await.expect("leased"), granted(1, 0));
    assert_eq!(metastore.acquire_lease(None, &agent(2), LONG).await.expect("leased"), granted(2, 1));
    assert!(metastore.renew_lease(NodeId(0), [1; 16], SHORT).await.expect("renewed"));
    eventually(backend, "the lease ends", || async { metastore.live_agents().await.expect("agents") == [holding(2, 1)] }).await;
    // Nobody took it meanwhile, but somebody may have taken what goes with it: it is acquired again.
    assert!(!metastore.renew_lease(NodeId(0), [1; 16], SHORT).await.expect("answered"));
    assert_eq!(metastore.acquire_lease(Some(NodeId(0)), &agent(1), LONG).await.expect("leased"), granted(1, 0));
    assert_eq!(metastore.live_agents().await.expect("agents").len(), 2);
    assert!(metastore.renew_lease(NodeId(0), [1; 16], SHORT).await.expect("renewed"));
    eventually(backend, "the lease ends again", || async { metastore.live_agents().await.expect("agents").len() == 1 }).await;
    assert_eq!(metastore.acquire_lease(None, &agent(3), LONG).await.expect("leased"), granted(3, 0));
}

pub(super) async fn a_lost_lease_is_not_renewed(backend: &dyn Backend) {
    let metastore = backend.metastore();
    assert!(!metastore.renew_lease(NodeId(0), [1; 16], LONG).await.expect("answered"));
    metastore.acquire_lease(None, &agent(1), LONG).await.expect("leased");
    assert!(metastore.renew_lease(NodeId(0), [1; 16], LONG).await.expect("renewed"));
    assert!(metastore.renew_lease(NodeId(0), [1; 16], SHORT).await.expect("renewed"));
    eventually(backend, "another takes it", || async {
        metastore.acquire_lease(Some(NodeId(0)), &agent(2), LONG).await.expect("answered") == granted(2, 0)
    })
    .await;
    assert!(!metastore.renew_lease(NodeId(0), [1; 16], LONG).await.expect("answered"));
    metastore.release_lease(NodeId(0), [1; 16]).await.expect("nothing to release");
    assert_eq!(metastore.live_agents().await.expect("agents"), [holding(2, 0)]);
}

/// However late it begins to.
pub(super) async fn who_has_lost_its_id_does_not_write_under_it(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let log = TopicPartition::new(topic(&here, 1, 1).await, 0);
    let (mine, more) = (single(1, log, plain(1)), single(2, log, plain(1)));
    assert_eq!(there.acquire_lease(Some(mine.node), &agent(2), LONG).await.expect("leased"), granted(2, mine.node.0));
    for events in [vec![mine.clone()], vec![mine.clone(), more.clone()]] {
        assert!(matches!(here.append(&events, WRITER).await, Err(MetaError::Unavailable(_))));
    }
    assert_eq!(here.find_events(&[mine.object, more.object]).await.expect("found"), []);
    there.append(&[more], [2; 16]).await.expect("its own id");
    there.release_lease(mine.node, [2; 16]).await.expect("released");
    append(&here, &[mine]).await;
    assert_eq!(round(&here).await.events, 2);
}

pub(super) async fn two_agents_never_share_an_id(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let mut ids = BTreeSet::new();
    for number in 0..10 {
        let (a, b) = (agent(number), agent(number + 100));
        let both = tokio::join!(here.acquire_lease(None, &a, LONG), there.acquire_lease(None, &b, LONG));
        for outcome in [both.0, both.1] {
            let LeaseOutcome::Granted(agent) = outcome.expect("leased") else { panic!("no id was asked for") };
            assert!(ids.insert(agent.node.0));
        }
    }
    assert_eq!(ids, (0..20).collect());
}

pub(super) async fn an_address_keeps_its_broker_id(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let (first, second) = (balanced(1), balanced(2));
    let both = tokio::join!(here.acquire_lease(None, &first, LONG), there.acquire_lease(None, &second, LONG));
    let outcomes = [both.0.expect("leased"), both.1.expect("leased")];
    let (zero, one) = if outcomes[0] == LeaseOutcome::Granted(balanced_as(1, 0, 0)) { (1, 2) } else { (2, 1) };
    assert!(outcomes.contains(&LeaseOutcome::Granted(balanced_as(zero, 0, 0))), "{outcomes:?}");
    assert!(outcomes.contains(&LeaseOutcome::Granted(balanced_as(one, 1, 0))), "{outcomes:?}");
    here.release_lease(NodeId(0), [zero; 16]).await.expect("released");
    // Nobody elsewhere gets the id by which clients know the balancer, unless he is told to have it.
    assert_eq!(here.acquire_lease(None, &agent(3), LONG).await.expect("leased"), granted(3, 2));
    assert_eq!(here.live_agents().await.expect("agents"), [balanced_as(one, 1, 0), holding(3, 2)]);
    assert_eq!(here.acquire_lease(Some(NodeId(0)), &agent(4), LONG).await.expect("leased"), granted(4, 0));
    assert_eq!(here.live_agents().await.expect("agents"), [holding(4, 0), balanced_as(one, 1, 1), holding(3, 2)]);
}

pub(super) async fn peer_secrets_are_made_once_and_rotated(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let (a, b) = tokio::join!(here.peer_secrets([1; 32]), there.peer_secrets([2; 32]));
    let first = a.expect("secrets");
    assert_eq!(b.expect("secrets"), first);
    assert!([[1; 32], [2; 32]].contains(&first.current) && first.previous.is_none());
    let rotated = PeerSecrets { current: [3; 32], previous: Some(first.current) };
    assert_eq!(here.rotate_peer_secret([3; 32]).await.expect("rotated"), rotated);
    // The same again, as after an unknown outcome.
    assert_eq!(there.rotate_peer_secret([3; 32]).await.expect("rotated"), rotated);
    assert_eq!(there.peer_secrets([4; 32]).await.expect("secrets"), rotated);
    assert!(!format!("{rotated:?}").contains('3'), "secrets are not shown");
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
