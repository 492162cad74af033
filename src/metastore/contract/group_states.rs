//! States, sessions and sweeps of groups.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;

use super::Backend;
use super::scene::{eventually, topic};
use crate::metastore::{Beat, Change, CommittedOffset, GroupChange, GroupLabel, GroupSweep, GroupVersion, GroupsSwept, Metastore};
use crate::types::{GroupId, MemberId, Offset, Timestamp, TopicPartition};

const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(200);
const SWEEP: GroupSweep = GroupSweep { period: Duration::ZERO, grace: Duration::ZERO, lapse: LONG, limit: 100 };

fn group(name: &str) -> GroupId {
    GroupId(name.into())
}

fn member(name: &str) -> MemberId {
    MemberId(name.into())
}

fn beat(group_name: &str, member_name: &str) -> Beat {
    Beat { group: group(group_name), member: member(member_name) }
}

fn change(state: &'static str) -> GroupChange {
    let label = GroupLabel { kind: "classic".to_owned(), phase: "Stable".to_owned(), protocol_type: "consumer".to_owned() };
    GroupChange { state: Bytes::from_static(state.as_bytes()), label, ..GroupChange::default() }
}

async fn load(metastore: &dyn Metastore, name: &str) -> (GroupVersion, Bytes) {
    let row = metastore.load_groups(&[group(name)]).await.expect("loaded").pop().expect("a row");
    (row.version, row.state)
}

async fn store(metastore: &dyn Metastore, name: &str, expected: GroupVersion, change: &GroupChange) -> GroupVersion {
    metastore.store_group(&group(name), expected, change).await.expect("stored").expect("the expected version")
}

/// What a sweep finds when it is its turn; the first one only begins sessions anew.
async fn sweep(metastore: &dyn Metastore) -> GroupsSwept {
    metastore.sweep_groups(SWEEP).await.expect("swept").unwrap_or_default()
}

fn silent(swept: &GroupsSwept) -> Vec<Beat> {
    let mut beats: Vec<Beat> = swept.silent.iter().map(|(beat, _)| beat.clone()).collect();
    beats.sort();
    beats
}

pub(super) async fn a_state_replaces_only_the_one_it_was_made_from(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    assert_eq!(load(&*here, "g").await, (GroupVersion::NONE, Bytes::new()));
    let first = store(&*here, "g", GroupVersion::NONE, &change("one")).await;
    assert_eq!(load(&*there, "g").await, (first, Bytes::from("one")));
    assert_eq!(there.store_group(&group("g"), GroupVersion::NONE, &change("no")).await.expect("answered"), None);
    let second = store(&*there, "g", first, &change("two")).await;
    assert_eq!(here.store_group(&group("g"), first, &change("no")).await.expect("answered"), None);
    let unknown = GroupVersion(second.0 + 1000);
    assert_eq!(here.store_group(&group("other"), unknown, &change("no")).await.expect("answered"), None);
    let rows = here.load_groups(&[group("other"), group("g")]).await.expect("loaded");
    assert_eq!(rows.iter().map(|r| r.version).collect::<Vec<_>>(), [GroupVersion::NONE, second]);
    assert_eq!(rows[1].state, Bytes::from("two"));
    assert!(rows[1].now > Timestamp(1_600_000_000_000));
}

pub(super) async fn one_of_two_changes_at_a_time_wins(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let (mut version, name) = (GroupVersion::NONE, group("g"));
    for _ in 0..20 {
        let (a, b) = (change("a"), change("b"));
        let both = tokio::join!(here.store_group(&name, version, &a), there.store_group(&name, version, &b));
        let won: Vec<GroupVersion> = [both.0, both.1].into_iter().filter_map(|outcome| outcome.expect("answered")).collect();
        assert_eq!(won.len(), 1);
        version = won[0];
    }
}

pub(super) async fn a_version_is_never_given_twice(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let mut versions = BTreeSet::new();
    for _ in 0..3 {
        let first = store(&*metastore, "g", GroupVersion::NONE, &change("one")).await;
        let second = store(&*metastore, "g", first, &change("two")).await;
        assert!(versions.insert(first) && versions.insert(second) && first > GroupVersion::NONE);
        assert!(metastore.delete_group(&group("g"), second).await.expect("deleted"));
    }
}

fn committed(offset: i64) -> CommittedOffset {
    CommittedOffset { offset: Offset(offset), leader_epoch: -1, metadata: None }
}

pub(super) async fn offsets_are_committed_for_one_version(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let commit =
        async |version, offset| metastore.commit_offsets(&group("g"), version, &[(log, committed(offset))]).await.expect("answered");
    let found = async || metastore.committed_offsets(&group("g"), None).await.expect("offsets");
    assert!(commit(GroupVersion::NONE, 1).await);
    let first = store(&*metastore, "g", GroupVersion::NONE, &change("one")).await;
    assert!(!commit(GroupVersion::NONE, 2).await);
    assert!(commit(first, 3).await);
    let second = store(&*metastore, "g", first, &change("two")).await;
    assert!(!commit(first, 4).await);
    assert_eq!(found().await, [(log, committed(3))]);
    assert!(commit(second, 5).await);
    assert_eq!(found().await, [(log, committed(5))]);
    assert!(metastore.commit_offsets(&group("g"), second, &[]).await.expect("answered"));
}

pub(super) async fn a_silent_member_is_found(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let renew = vec![(member("a"), SHORT), (member("b"), LONG)];
    let first = store(&*metastore, "g", GroupVersion::NONE, &GroupChange { renew, ..change("one") }).await;
    eventually(backend, "a session ends", || async { silent(&sweep(&*metastore).await) == [beat("g", "a")] }).await;
    // It is found until it is forgotten, and by nobody who gives it more time.
    let later = GroupSweep { grace: LONG, ..SWEEP };
    assert_eq!(metastore.sweep_groups(later).await.expect("swept").unwrap_or_default(), GroupsSwept::default());
    let second = store(&*metastore, "g", first, &GroupChange { forget: vec![member("a")], ..change("two") }).await;
    assert_eq!(silent(&sweep(&*metastore).await), []);
    store(&*metastore, "g", second, &GroupChange { renew: vec![(member("b"), SHORT)], ..change("three") }).await;
    eventually(backend, "a session ends", || async { silent(&sweep(&*metastore).await) == [beat("g", "b")] }).await;
}

pub(super) async fn a_beat_prolongs_a_session(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let renew = vec![(member("a"), SHORT * 15), (member("b"), SHORT * 15)];
    store(&*metastore, "g", GroupVersion::NONE, &GroupChange { renew, ..change("one") }).await;
    sweep(&*metastore).await;
    let stranger = beat("unknown", "a");
    eventually(backend, "the other session ends", || async {
        metastore.beat(&[beat("g", "a"), stranger.clone()], &[]).await.expect("beaten");
        let silent = silent(&sweep(&*metastore).await);
        assert!(!silent.contains(&beat("g", "a")));
        silent == [beat("g", "b")]
    })
    .await;
    eventually(backend, "its own ends", || async { silent(&sweep(&*metastore).await).contains(&beat("g", "a")) }).await;
    assert!(!silent(&sweep(&*metastore).await).contains(&stranger), "a beat makes no session");
}

pub(super) async fn who_is_forgotten_stays_forgotten(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let renew = vec![(member("a"), Duration::ZERO), (member("b"), Duration::ZERO)];
    let first = store(&*metastore, "g", GroupVersion::NONE, &GroupChange { renew, ..change("one") }).await;
    sweep(&*metastore).await;
    store(&*metastore, "g", first, &GroupChange { forget: vec![member("b"), member("never")], ..change("two") }).await;
    metastore.beat(&[beat("g", "b")], &[]).await.expect("beaten");
    assert_eq!(silent(&sweep(&*metastore).await), [beat("g", "a")]);
}

pub(super) async fn after_a_lapse_everybody_has_a_new_session(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let renew = vec![(member("a"), SHORT * 5)];
    store(&*metastore, "g", GroupVersion::NONE, &GroupChange { renew, ..change("one") }).await;
    eventually(backend, "a session ends", || async { !sweep(&*metastore).await.silent.is_empty() }).await;
    // Nobody swept for longer than that.
    backend.pass(Duration::from_millis(20)).await;
    let lapsed = GroupSweep { lapse: Duration::from_millis(1), ..SWEEP };
    assert_eq!(metastore.sweep_groups(lapsed).await.expect("swept"), Some(GroupsSwept::default()));
    assert_eq!(sweep(&*metastore).await, GroupsSwept::default());
    eventually(backend, "the new one ends too", || async { !sweep(&*metastore).await.silent.is_empty() }).await;
}

pub(super) async fn a_group_that_is_due_is_found(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let now = here.load_groups(&[group("g")]).await.expect("loaded")[0].now;
    let due = |after| GroupChange { due: Some(now.plus(after)), ..change("one") };
    let soon = store(&*here, "soon", GroupVersion::NONE, &due(SHORT)).await;
    store(&*here, "late", GroupVersion::NONE, &due(LONG)).await;
    store(&*here, "never", GroupVersion::NONE, &change("one")).await;
    eventually(backend, "it is due", || async { sweep(&*here).await.due == [group("soon")] }).await;
    // One agent in each period.
    assert!(here.sweep_groups(SWEEP).await.expect("swept").is_some());
    assert_eq!(there.sweep_groups(GroupSweep { period: LONG, ..SWEEP }).await.expect("swept"), None);
    store(&*here, "soon", soon, &due(LONG)).await;
    assert_eq!(sweep(&*here).await.due, []);
}

pub(super) async fn a_beat_tells_of_new_versions(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let a = store(&*here, "a", GroupVersion::NONE, &change("one")).await;
    let b = store(&*here, "b", GroupVersion::NONE, &change("one")).await;
    let known = [(group("a"), a), (group("b"), b), (group("c"), GroupVersion::NONE)];
    assert_eq!(there.beat(&[], &known).await.expect("beaten"), []);
    let newer = store(&*here, "b", b, &change("two")).await;
    assert!(here.delete_group(&group("a"), a).await.expect("deleted"));
    let mut told = there.beat(&[beat("b", "x")], &known).await.expect("beaten");
    told.sort();
    assert_eq!(told, [(group("a"), GroupVersion::NONE), (group("b"), newer)]);
}

pub(super) async fn groups_are_listed(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    assert_eq!(metastore.list_groups().await.expect("listed"), []);
    let version = store(&*metastore, "both", GroupVersion::NONE, &change("one")).await;
    store(&*metastore, "Ä state", GroupVersion::NONE, &change("one")).await;
    assert!(metastore.commit_offsets(&group("both"), version, &[(log, committed(1))]).await.expect("committed"));
    assert!(metastore.commit_offsets(&group("alone"), GroupVersion::NONE, &[(log, committed(1))]).await.expect("committed"));
    let label = change("").label;
    let expected = [(group("alone"), GroupLabel::default()), (group("both"), label.clone()), (group("Ä state"), label)];
    assert_eq!(metastore.list_groups().await.expect("listed"), expected);
}

pub(super) async fn a_deleted_group_is_gone(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let renew = vec![(member("a"), Duration::ZERO)];
    let version = store(&*metastore, "g", GroupVersion::NONE, &GroupChange { renew, ..change("one") }).await;
    assert!(metastore.commit_offsets(&group("g"), version, &[(log, committed(1))]).await.expect("committed"));
    assert!(!metastore.delete_group(&group("g"), GroupVersion::NONE).await.expect("answered"));
    assert!(!metastore.delete_group(&group("g"), GroupVersion(version.0 + 1)).await.expect("answered"));
    assert!(metastore.delete_group(&group("g"), version).await.expect("deleted"));
    assert_eq!(load(&*metastore, "g").await.0, GroupVersion::NONE);
    assert_eq!(metastore.committed_offsets(&group("g"), None).await.expect("offsets"), []);
    assert_eq!(metastore.list_groups().await.expect("listed"), []);
    assert_eq!(sweep(&*metastore).await, GroupsSwept::default());
    // One that only has offsets.
    assert!(metastore.commit_offsets(&group("o"), GroupVersion::NONE, &[(log, committed(1))]).await.expect("committed"));
    assert!(metastore.delete_group(&group("o"), GroupVersion::NONE).await.expect("deleted"));
    assert_eq!(metastore.list_groups().await.expect("listed"), []);
}

pub(super) async fn offsets_are_deleted(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let id = topic(&metastore, 1, 3).await;
    let log = |p| TopicPartition::new(id, p);
    let all: Vec<_> = (0..3).map(|p| (log(p), committed(1))).collect();
    assert!(metastore.commit_offsets(&group("g"), GroupVersion::NONE, &all).await.expect("committed"));
    let version = store(&*metastore, "g", GroupVersion::NONE, &change("one")).await;
    assert!(!metastore.delete_offsets(&group("g"), GroupVersion::NONE, &[log(0)]).await.expect("answered"));
    assert!(metastore.delete_offsets(&group("g"), version, &[log(0), log(2), log(7)]).await.expect("deleted"));
    assert_eq!(metastore.committed_offsets(&group("g"), None).await.expect("offsets"), [(log(1), committed(1))]);
}

pub(super) async fn offsets_of_groups_without_members_expire(backend: &dyn Backend) {
    let metastore = backend.metastore();
    let log = TopicPartition::new(topic(&metastore, 1, 1).await, 0);
    let now = metastore.load_groups(&[group("g")]).await.expect("loaded")[0].now;
    let long_ago = Some(Timestamp(now.0 - 60_000));
    let just_now = Some(Timestamp(now.0 + 60_000));
    for (name, empty_since) in [("alive", None), ("gone", long_ago), ("left", just_now)] {
        let version = store(&*metastore, name, GroupVersion::NONE, &GroupChange { empty_since, ..change("one") }).await;
        assert!(metastore.commit_offsets(&group(name), version, &[(log, committed(1))]).await.expect("committed"));
    }
    assert!(metastore.commit_offsets(&group("alone"), GroupVersion::NONE, &[(log, committed(1))]).await.expect("committed"));
    let renew = vec![(member("pending"), LONG)];
    store(&*metastore, "pending", GroupVersion::NONE, &GroupChange { renew, empty_since: long_ago, ..change("one") }).await;
    assert!(!metastore.expire_groups(LONG, LONG, 100).await.expect("expired"));
    assert_eq!(metastore.list_groups().await.expect("listed").len(), 5);
    backend.pass(Duration::from_millis(20)).await;
    let young = Duration::from_millis(5);
    let mut pieces = 0;
    while metastore.expire_groups(young, young, 1).await.expect("expired") {
        pieces += 1;
        assert!(pieces < 10, "it ends");
    }
    let left: Vec<GroupId> = metastore.list_groups().await.expect("listed").into_iter().map(|(group, _)| group).collect();
    assert_eq!(left, [group("alive"), group("left"), group("pending")]);
    for name in ["alive", "left"] {
        assert_eq!(metastore.committed_offsets(&group(name), None).await.expect("offsets"), [(log, committed(1))]);
    }
}

pub(super) async fn groups_are_announced(backend: &dyn Backend) {
    let (here, there) = (backend.metastore(), backend.another().await);
    let mut changes = there.subscribe_changes();
    if !backend.announces() {
        store(&*here, "g", GroupVersion::NONE, &GroupChange { announce: true, ..change("one") }).await;
        return assert!(changes.try_recv().is_err());
    }
    let quiet = store(&*here, "Ä group", GroupVersion::NONE, &change("quiet")).await;
    let mut version = quiet;
    // A subscription may need a moment.
    for _ in 0..100 {
        version = store(&*here, "Ä group", version, &GroupChange { announce: true, ..change("loud") }).await;
        let heard = tokio::time::timeout(Duration::from_millis(500), changes.recv()).await;
        match heard {
            Ok(Some(Change::Group { group: heard, version: announced })) => {
                assert!(heard == group("Ä group") && quiet < announced && announced <= version);
                return;
            }
            Ok(Some(Change::Heads(_) | Change::Unknown)) | Err(_) => {}
            Ok(None) => panic!("the announcements ended"),
        }
    }
    panic!("no announcement was heard");
}
