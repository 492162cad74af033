//! Coordinators on a metastore in memory, several beside each other as agents are, in tokio's paused time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::classic::{Assigned, Join, Joined, Leaver, Protocol, Sync};
use super::consumer::Assignor;
use super::{Committer, ConsumerSettings, Coordinator, CoordinatorParts, GroupError, GroupSettings, MigrationPolicy};
use crate::clock::{Clock, RandomIds, SystemClock};
use crate::metastore::flaky::{Flaky, Odds};
use crate::metastore::memory::MemoryMetastore;
use crate::metastore::{Change, Changes as _, CommittedOffset, Metastore, Topics as _};
use crate::metrics::Metrics;
use crate::tasks::Tasks;
use crate::types::{GroupId, MemberId, Offset, Timestamp, TopicId, TopicName, TopicPartition};

/// The metastore's clock, which goes with tokio's.
#[derive(Debug)]
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000).plus(self.0.elapsed())
    }
}

/// Agents, each with its own way to the metastore.
struct World {
    agents: Vec<Coordinator>,
    ways: Vec<Arc<Flaky>>,
    memory: Arc<MemoryMetastore>,
    metrics: Vec<Metrics>,
    tasks: Tasks,
}

pub(super) fn settings() -> GroupSettings {
    GroupSettings {
        min_session_timeout: Duration::from_secs(6),
        max_session_timeout: Duration::from_mins(30),
        initial_rebalance_delay: Duration::ZERO,
        max_size: 1_000,
        offsets_retention: Duration::from_hours(1),
        offset_metadata_max_bytes: 4_096,
        consumer: ConsumerSettings {
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(5),
            max_size: 1_000,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration: MigrationPolicy::Bidirectional,
        },
    }
}

impl World {
    fn new(agents: usize) -> World {
        World::with(agents, settings(), true)
    }

    /// `announced`: agents hear of what others do.
    fn with(agents: usize, settings: GroupSettings, announced: bool) -> World {
        let clock: Arc<dyn Clock> = Arc::new(Paused(Instant::now()));
        let memory = Arc::new(MemoryMetastore::new(Arc::clone(&clock)));
        let mut world = World { agents: vec![], ways: vec![], memory, metrics: vec![], tasks: Tasks::new() };
        for agent in 0..agents {
            let ids = Arc::new(RandomIds::seeded(SystemClock, agent as u64));
            let way = Arc::new(Flaky::new(Arc::clone(&world.memory) as Arc<dyn Metastore>, Arc::clone(&ids) as _));
            let metrics = Metrics::new().expect("metrics");
            let parts = CoordinatorParts {
                metastore: Arc::clone(&way) as _,
                clock: Arc::clone(&clock),
                ids,
                metrics: metrics.groups.clone(),
                jobs: metrics.jobs.clone(),
            };
            let coordinator = Coordinator::start(settings.clone(), parts, &world.tasks);
            if announced {
                world.listen(&coordinator);
            }
            world.agents.push(coordinator);
            world.ways.push(way);
            world.metrics.push(metrics);
        }
        world
    }

    fn listen(&self, coordinator: &Coordinator) {
        let (mut changes, coordinator) = (self.memory.subscribe_changes(), coordinator.clone());
        self.tasks.spawn("announcements", async move {
            while let Some(change) = changes.recv().await {
                match change {
                    Change::Group { group, version } => coordinator.changed(&group, version),
                    Change::Unknown => coordinator.changed_unknown(),
                    Change::Heads(_) => {}
                }
            }
        });
    }

    fn member(&self, agent: usize, name: &str) -> Client {
        Client { coordinator: self.agents[agent].clone(), name: name.to_owned(), id: None }
    }
}

fn group() -> GroupId {
    GroupId("g".into())
}

const SESSION: Duration = Duration::from_secs(10);
const REBALANCE: Duration = Duration::from_secs(30);

/// A member as its client sees it.
#[derive(Clone)]
struct Client {
    coordinator: Coordinator,
    name: String,
    id: Option<MemberId>,
}

impl Client {
    fn join(&self) -> Join {
        Join {
            member: self.id.clone(),
            new_id: self.coordinator.member_id(&self.name),
            instance: None,
            client_id: self.name.as_str().into(),
            client_host: "/127.0.0.1".into(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: Bytes::from_static(b"topics") }],
            id_first: false,
            may_skip_assignment: true,
        }
    }

    async fn joins(&mut self) -> Joined {
        let joined = self.coordinator.join(&group(), self.join()).await.expect("joined");
        self.id = Some(joined.member.clone());
        joined
    }

    /// Everybody's share is its own member id.
    fn sync(joined: &Joined) -> Sync {
        let share = |member: &MemberId| (member.clone(), Bytes::from(member.0.to_string()));
        Sync {
            member: joined.member.clone(),
            instance: None,
            generation: joined.generation,
            protocol_type: joined.protocol_type.clone(),
            protocol: joined.protocol.clone(),
            assignments: joined.members.iter().map(|m| share(&m.member)).collect(),
        }
    }

    async fn syncs(&self, joined: &Joined) -> Result<Assigned, GroupError> {
        self.coordinator.sync(&group(), Client::sync(joined)).await
    }

    async fn is_assigned(&mut self) -> Joined {
        loop {
            let joined = self.joins().await;
            match self.syncs(&joined).await {
                Ok(assigned) => {
                    assert_eq!(assigned.assignment, Bytes::from(joined.member.0.to_string()));
                    return joined;
                }
                Err(GroupError::RebalanceInProgress | GroupError::IllegalGeneration) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn beats(&self, generation: i32) -> Result<(), GroupError> {
        self.coordinator.heartbeat(&group(), self.id.as_ref().expect("a member"), None, generation).await
    }

    /// As clients do, until the generation is another one.
    async fn beats_until_it_rebalances(&self, generation: i32) {
        while self.beats(generation).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }
}

/// `a` and `b`, on agents 0 and 1, in the same generation.
async fn pair(world: &World) -> (Client, Client, i32) {
    let (mut a, mut b) = (world.member(0, "a"), world.member(1, "b"));
    let first = a.is_assigned().await;
    let (joined, _) = tokio::join!(b.is_assigned(), async {
        a.beats_until_it_rebalances(first.generation).await;
        a.is_assigned().await
    });
    (a, b, joined.generation)
}

#[tokio::test(start_paused = true)]
async fn members_on_two_agents_share_a_generation() {
    let world = World::new(2);
    let began = Instant::now();
    let (a, b, generation) = pair(&world).await;
    // One heartbeat of the first, and announcements.
    assert!(began.elapsed() < Duration::from_millis(3_200), "{:?}", began.elapsed());
    assert_eq!(generation, 2);
    assert_eq!((a.beats(2).await, b.beats(2).await), (Ok(()), Ok(())));
    assert_eq!(a.beats(1).await, Err(GroupError::IllegalGeneration));
    let described = world.agents[1].describe(&[group()]).await.expect("described").remove(0).expect("there");
    assert_eq!((described.state, described.members.len()), ("Stable", 2));
}

#[tokio::test(start_paused = true)]
async fn without_announcements_waiters_look_by_themselves() {
    let world = World::with(2, settings(), false);
    let began = Instant::now();
    pair(&world).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_first_rebalance_waits_as_it_is_told() {
    let delay = Duration::from_secs(3);
    let world = World::with(1, GroupSettings { initial_rebalance_delay: delay, ..settings() }, true);
    let began = Instant::now();
    assert_eq!(world.member(0, "a").is_assigned().await.generation, 1);
    assert!((delay..delay + Duration::from_millis(200)).contains(&began.elapsed()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_member_that_falls_silent_is_removed() {
    let world = World::new(2);
    let (mut a, b, generation) = pair(&world).await;
    let began = Instant::now();
    a.beats_until_it_rebalances(generation).await;
    // Its session, the gathering of beats on both ends, a's heartbeat.
    assert!((SESSION..SESSION + Duration::from_secs(7)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let joined = a.is_assigned().await;
    assert_eq!((joined.members.len(), joined.generation), (1, generation + 1));
    assert_eq!(b.beats(generation).await, Err(GroupError::UnknownMember));
}

#[tokio::test(start_paused = true)]
async fn who_waits_lives_and_who_is_gone_does_not() {
    let world = World::new(2);
    let ((a, b, generation), mut c, mut d) = (pair(&world).await, world.member(0, "c"), world.member(1, "d"));
    // a and b live and never rejoin: c waits for the whole rebalance timeout, longer than its own session. d's client goes away while it waits.
    let began = Instant::now();
    let waiting = tokio::time::timeout(Duration::from_secs(2), d.joins());
    let living = async {
        loop {
            let _ = tokio::join!(a.beats(generation), b.beats(generation));
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    };
    let both = async { tokio::join!(c.joins(), waiting) };
    let (joined, gone) = tokio::select! {
        biased;
        both = both => both,
        () = living => unreachable!(),
    };
    assert!(gone.is_err());
    assert!(began.elapsed() >= REBALANCE, "{:?}", began.elapsed());
    assert_eq!(joined.members.len(), 1, "{joined:?}");
    assert_eq!(a.beats(3).await, Err(GroupError::UnknownMember));
}

#[tokio::test(start_paused = true)]
async fn a_clean_leave_is_noticed_at_the_next_heartbeat() {
    let world = World::new(2);
    let (mut a, b, generation) = pair(&world).await;
    let leaver = Leaver { member: b.id.clone(), instance: None };
    assert_eq!(b.coordinator.leave(&group(), vec![leaver]).await, Ok(vec![Ok(())]));
    assert_eq!(a.beats(generation).await, Err(GroupError::RebalanceInProgress));
    let began = Instant::now();
    assert_eq!(a.is_assigned().await.members.len(), 1);
    assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
}

async fn a_topic(world: &World) -> TopicPartition {
    let id = TopicId([1; 16]);
    let name = TopicName::parse("t").expect("legal");
    world.memory.create_topic(id, &name, 1, &std::collections::BTreeMap::new()).await.expect("created");
    TopicPartition::new(id, 0)
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_has_heard_nothing_commits_nothing_of_an_old_generation() {
    let world = World::with(2, settings(), false);
    let log = a_topic(&world).await;
    let (mut a, b, generation) = pair(&world).await;
    let commit = async |client: &Client, generation, offset| {
        let committer = Committer { member: client.id.clone(), instance: None, generation };
        let at = CommittedOffset { offset: Offset(offset), leader_epoch: -1, metadata: None };
        client.coordinator.commit(&group(), &committer, &[(log, at)]).await
    };
    assert_eq!(commit(&b, generation, 1).await, Ok(()));
    let leaver = Leaver { member: b.id.clone(), instance: None };
    assert_eq!(world.agents[0].leave(&group(), vec![leaver]).await, Ok(vec![Ok(())]));
    // b's agent still takes it for a member.
    assert_eq!(b.beats(generation).await, Ok(()));
    assert_eq!(commit(&b, generation, 2).await, Err(GroupError::UnknownMember));
    // What it owned it may commit until the next generation.
    assert_eq!(commit(&a, generation, 3).await, Ok(()));
    let next = a.is_assigned().await.generation;
    assert_eq!(commit(&a, generation, 4).await, Err(GroupError::IllegalGeneration));
    assert_eq!(commit(&a, next, 5).await, Ok(()));
    let outside = Committer { member: None, instance: None, generation: -1 };
    assert_eq!(world.agents[1].commit(&group(), &outside, &[]).await, Err(GroupError::UnknownMember));
}

#[tokio::test(start_paused = true)]
async fn many_join_at_once_on_several_agents() {
    let world = World::with(3, GroupSettings { initial_rebalance_delay: Duration::from_secs(1), ..settings() }, true);
    let mut clients: Vec<Client> = (0..60).map(|n| world.member(n % 3, &format!("m{n}"))).collect();
    let began = Instant::now();
    let joined = futures_util::future::join_all(clients.iter_mut().map(Client::is_assigned)).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    let last = joined.iter().map(|joined| joined.generation).max();
    assert!(joined.iter().all(|joined| Some(joined.generation) == last), "one generation");
    assert_eq!(joined.iter().filter(|joined| !joined.members.is_empty()).count(), 1, "one leader");
}

#[tokio::test(start_paused = true)]
async fn who_joins_and_never_syncs_is_removed_though_it_lives() {
    let world = World::new(2);
    let ((mut a, mut b, generation), mut c) = (pair(&world).await, world.member(0, "c"));
    let again = async |client: &mut Client| {
        client.beats_until_it_rebalances(generation).await;
        client.is_assigned().await
    };
    let (_, _, silent) = tokio::join!(again(&mut a), again(&mut b), c.joins());
    let began = Instant::now();
    let living = async {
        while c.beats(silent.generation).await != Err(GroupError::UnknownMember) {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    };
    let again = async |client: &mut Client| {
        client.beats_until_it_rebalances(silent.generation).await;
        client.is_assigned().await
    };
    let (one, other, ()) = tokio::join!(again(&mut a), again(&mut b), living);
    assert!((REBALANCE..REBALANCE + Duration::from_secs(6)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!((one.generation, one.members.len() + other.members.len()), (other.generation, 2));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_join_at_once_and_one_more_is_too_many() {
    let world = World::with(3, GroupSettings { initial_rebalance_delay: Duration::from_secs(1), ..settings() }, true);
    let mut clients: Vec<Client> = (0..1_000).map(|n| world.member(n % 3, &format!("m{n}"))).collect();
    let began = Instant::now();
    let joined = futures_util::future::join_all(clients.iter_mut().map(Client::is_assigned)).await;
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    let last = joined.iter().map(|joined| joined.generation).max().expect("a generation");
    assert!(joined.iter().all(|joined| joined.generation == last), "one generation");
    assert_eq!(joined.iter().filter(|joined| !joined.members.is_empty()).count(), 1, "one leader");
    let late = world.member(0, "late");
    assert_eq!(late.coordinator.join(&group(), late.join()).await, Err(GroupError::GroupFull));
    assert_eq!((clients[0].beats(last).await, clients[999].beats(last).await), (Ok(()), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_sends_its_waiters_away() {
    let world = World::new(2);
    let (_, _, _) = pair(&world).await;
    let mut c = world.member(0, "c");
    let stop = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.agents[0].stop_waiting();
    };
    let name = group();
    let (told, ()) = tokio::join!(c.coordinator.join(&name, c.join()), stop);
    assert_eq!(told, Err(GroupError::Stopping));
    c.coordinator = world.agents[1].clone();
    assert!(tokio::time::timeout(Duration::from_secs(40), c.is_assigned()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_metastore_that_fails_now_and_then_is_only_slow() {
    let world = World::new(2);
    let odds = Odds { before: 100, after: 200, ..Odds::default() };
    for way in &world.ways {
        use crate::metastore::flaky::Operation;
        way.set_odds(Operation::Change, odds);
        way.set_odds(Operation::Look, odds);
    }
    for round in 0..20 {
        let mut client = world.member(round % 2, &format!("m{round}"));
        let group = GroupId(format!("g{round}").into());
        let joined = loop {
            match client.coordinator.join(&group, client.join()).await {
                Ok(joined) => break joined,
                Err(GroupError::Metastore(_)) => {}
                Err(error) => panic!("{error}"),
            }
        };
        client.id = Some(joined.member.clone());
        assert!((1..=2).contains(&joined.generation), "{joined:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_nobody_is_removed() {
    let world = World::new(2);
    let (a, b, generation) = pair(&world).await;
    world.ways.iter().for_each(|way| way.switch_off());
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let _ = tokio::join!(a.beats(generation), b.beats(generation));
    }
    assert!(matches!(a.beats(generation).await, Err(GroupError::Metastore(_))), "what was last confirmed long ago is not relied upon");
    world.ways.iter().for_each(|way| way.switch_on());
    for _ in 0..5 {
        assert_eq!((a.beats(generation).await, b.beats(generation).await), (Ok(()), Ok(())));
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn heartbeats_cost_one_statement_a_second() {
    let world = World::new(1);
    let mut clients: Vec<Client> = (0..50).map(|n| world.member(0, &format!("m{n}"))).collect();
    for client in &mut clients {
        // Groups of their own, so that each is stable at once.
        let group = GroupId(client.name.as_str().into());
        let joined = client.coordinator.join(&group, client.join()).await.expect("joined");
        client.id = Some(joined.member.clone());
        client.coordinator.sync(&group, Client::sync(&joined)).await.expect("assigned");
    }
    let beats = |clients: &[Client]| {
        let clients = clients.to_vec();
        async move {
            for client in &clients {
                let group = GroupId(client.name.as_str().into());
                client.coordinator.heartbeat(&group, client.id.as_ref().expect("a member"), None, 1).await.expect("beaten");
            }
        }
    };
    for _ in 0..20 {
        beats(&clients).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let text = world.metrics[0].render().expect("text");
    let written = text.lines().find_map(|line| line.strip_prefix("yaks_group_beats_total ")).and_then(|n| n.parse::<u64>().ok());
    assert_eq!(written, Some(20 * 50));
}

#[tokio::test(start_paused = true)]
async fn groups_are_listed_and_deleted() {
    let world = World::new(2);
    let log = a_topic(&world).await;
    let (a, b, _) = pair(&world).await;
    let alone = GroupId("alone".into());
    let outside = Committer { member: None, instance: None, generation: -1 };
    let committed = CommittedOffset { offset: Offset(1), leader_epoch: -1, metadata: None };
    assert_eq!(world.agents[0].commit(&alone, &outside, &[(log, committed)]).await, Ok(()));
    let listed = world.agents[1].list().await.expect("listed");
    let seen: Vec<_> = listed.iter().map(|g| (&*g.group.0, &*g.phase, &*g.kind, &*g.protocol_type)).collect();
    assert_eq!(seen, [("alone", "Empty", "Classic", ""), ("g", "Stable", "Classic", "consumer")]);
    assert_eq!(world.agents[1].delete(&group()).await, Err(GroupError::NotEmpty));
    assert_eq!(world.agents[1].delete(&GroupId("never".into())).await, Err(GroupError::NotFound));
    let leavers = [a.id, b.id].into_iter().map(|member| Leaver { member, instance: None }).collect();
    assert!(world.agents[0].leave(&group(), leavers).await.is_ok());
    assert_eq!((world.agents[1].delete(&group()).await, world.agents[1].delete(&alone).await), (Ok(()), Ok(())));
    assert_eq!(world.agents[0].list().await, Ok(vec![]));
    assert_eq!(world.agents[0].describe(&[alone]).await, Ok(vec![Err(GroupError::NotFound)]));
    // It can begin anew.
    assert_eq!(world.member(0, "a").is_assigned().await.generation, 1);
}

#[tokio::test(start_paused = true)]
async fn bad_names_and_sessions_are_refused() {
    let world = World::new(1);
    let client = world.member(0, "a");
    let join = async |group: &str, session| {
        client.coordinator.join(&GroupId(group.into()), Join { session_timeout: session, ..client.join() }).await.expect_err("refused")
    };
    for name in ["", "a\0b", &"x".repeat(1_001)] {
        assert_eq!(join(name, SESSION).await, GroupError::InvalidGroupId);
    }
    for session in [Duration::from_secs(5), Duration::from_mins(31)] {
        assert_eq!(join("g", session).await, GroupError::InvalidSessionTimeout);
    }
}
