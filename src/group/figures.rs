//! What groups cost, on Postgres. Not a test: prints figures (docs/PERFORMANCE.md, Groups).
//!
//! `YAKS_TEST_POSTGRES_FSYNC=on cargo test --lib group::figures -- --ignored --nocapture --test-threads=1`

#[allow(unreachable_pub, clippy::duplicate_mod, clippy::expect_used, clippy::panic, reason = "shared with the integration tests")]
#[path = "../../tests/support/postgres.rs"]
mod postgres_server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tokio::time::Instant;

use super::classic::{Join, Protocol, Sync};
use super::consumer::{Assignment, Heartbeat};
use super::tests::settings;
use super::{Committer, Coordinator, CoordinatorParts, GroupError, GroupSettings};
use crate::clock::{RandomIds, SystemClock};
use crate::metastore::postgres::{PostgresConfig, PostgresMetastore};
use crate::metastore::{Changes as _, CommittedOffset, Metastore, Offsets as _, Topics as _};
use crate::metrics::Metrics;
use crate::tasks::Tasks;
use crate::types::{GroupId, MemberId, Offset, TopicId, TopicName, TopicPartition};

struct World {
    agents: Vec<Coordinator>,
    metastore: Arc<PostgresMetastore>,
    database: postgres_server::Database,
    tasks: Tasks,
}

impl World {
    async fn start(agents: usize, settings: GroupSettings) -> World {
        let database = postgres_server::Server::find().await.create_database(None).await;
        let server = &database.server;
        let config = PostgresConfig::new(&server.host, server.port, &server.user, &server.password, &database.name);
        let tasks = Tasks::new();
        let metastore = Arc::new(PostgresMetastore::new(config.clone(), &tasks));
        metastore.migrate().await.expect("migrated");
        let mut world = World { agents: vec![], metastore, database, tasks };
        for agent in 0..agents {
            let metastore = Arc::new(PostgresMetastore::new(config.clone(), &world.tasks));
            let metrics = Metrics::new().expect("metrics");
            let parts = CoordinatorParts {
                metastore: Arc::clone(&metastore) as _,
                clock: Arc::new(SystemClock),
                ids: Arc::new(RandomIds::seeded(SystemClock, agent as u64)),
                metrics: metrics.groups.clone(),
                jobs: metrics.jobs.clone(),
            };
            let coordinator = Coordinator::start(settings.clone(), parts, &world.tasks);
            let (mut changes, told) = (metastore.subscribe_changes(), coordinator.clone());
            world.tasks.spawn("announcements", async move {
                while let Some(change) = changes.recv().await {
                    if let crate::metastore::Change::Group { group, version } = change {
                        told.changed(&group, version);
                    }
                }
            });
            world.agents.push(coordinator);
        }
        world
    }

    async fn beside(&self) -> PgConnection {
        self.database.options().connect().await.expect("connected")
    }
}

fn group(number: usize) -> GroupId {
    GroupId(format!("group-{number}").into())
}

fn join(coordinator: &Coordinator, member: Option<MemberId>) -> Join {
    Join {
        member,
        new_id: coordinator.member_id("consumer"),
        instance: None,
        client_id: "consumer".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout: Duration::from_secs(45),
        rebalance_timeout: Duration::from_mins(1),
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: vec![7; 60].into() }],
        id_first: false,
        may_skip_assignment: true,
    }
}

/// Joins until it is assigned; its id and generation.
async fn settle(coordinator: &Coordinator, group: &GroupId) -> (MemberId, i32) {
    let mut member = None;
    loop {
        let joined = match coordinator.join(group, join(coordinator, member.clone())).await {
            Ok(joined) => joined,
            Err(error) => panic!("{error}"),
        };
        member = Some(joined.member.clone());
        let assignments = joined.members.iter().map(|m| (m.member.clone(), vec![1; 60].into())).collect();
        let sync = Sync {
            member: joined.member.clone(),
            instance: None,
            generation: joined.generation,
            protocol_type: None,
            protocol: None,
            assignments,
        };
        match coordinator.sync(group, sync).await {
            Ok(_) => return (joined.member, joined.generation),
            Err(GroupError::RebalanceInProgress | GroupError::IllegalGeneration) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("  {what:<58} p50 {:8.2} ms   p99 {:8.2} ms   ({} times)", at(0.5), at(0.99), times.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn first_members() {
    let world = World::start(1, settings()).await;
    let coordinator = &world.agents[0];
    world.metastore.create_topic(TopicId([1; 16]), &TopicName::parse("t").expect("legal"), 10, &BTreeMap::new()).await.expect("created");
    let mut beside = world.beside().await;
    let (mut classic, mut consumer) = (Vec::new(), Vec::new());
    let before = settled(&mut beside).await;
    for number in 0..100 {
        let start = Instant::now();
        settle(coordinator, &group(number)).await;
        classic.push(start.elapsed());
    }
    let between = settled(&mut beside).await;
    for number in 100..200 {
        let start = Instant::now();
        let beaten = coordinator.consumer_heartbeat(&group(number), joining(coordinator)).await.expect("joined");
        assert_eq!(beaten.assignment.map(|assignment| assignment.len()), Some(10));
        consumer.push(start.elapsed());
    }
    let after = settled(&mut beside).await;
    print("first member, classic protocol: join to assignment", classic);
    print("first member, consumer protocol: join to assignment", consumer);
    println!("  transactions for 100 of them, with those of the waiting time: {} and {}", between - before, after - between);
    beside.close().await.expect("closed");
}

fn joining(coordinator: &Coordinator) -> Heartbeat {
    Heartbeat {
        member: coordinator.member_id("consumer"),
        epoch: 0,
        instance: None,
        rack: None,
        client_id: "consumer".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout: Some(Duration::from_mins(5)),
        session_timeout: None,
        names: Some(vec!["t".into()]),
        pattern: None,
        assignor: None,
        owned: Some(Assignment::default()),
        catalog: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn commits() {
    let world = World::start(1, settings()).await;
    let (coordinator, group) = (&world.agents[0], group(0));
    let id = TopicId([1; 16]);
    world.metastore.create_topic(id, &TopicName::parse("t").expect("legal"), 1_000, &BTreeMap::new()).await.expect("created");
    let (member, generation) = settle(coordinator, &group).await;
    let committer = Committer { member: Some(member), instance: None, generation };
    let mut times = Vec::new();
    for round in 0..1_000 {
        let offsets: Vec<_> = (0..100)
            .map(|p| {
                (
                    TopicPartition::new(id, (round % 10) * 100 + p),
                    CommittedOffset { offset: Offset(i64::from(round)), leader_epoch: 0, metadata: None },
                )
            })
            .collect();
        let start = Instant::now();
        coordinator.commit(&group, &committer, &offsets).await.expect("committed");
        times.push(start.elapsed());
    }
    print("commit offsets of 100 partitions", times);
    let logs: Vec<_> = (0..1_000).map(|p| TopicPartition::new(id, p)).collect();
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        let found = world.metastore.committed_offsets(&group, Some(&logs)).await.expect("found");
        times.push(start.elapsed());
        assert_eq!(found.len(), 1_000);
    }
    print("fetch offsets of 1,000 partitions", times);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn fifty_members_on_three_agents() {
    let world = World::start(3, GroupSettings { initial_rebalance_delay: Duration::from_secs(1), ..settings() }).await;
    let start = Instant::now();
    let group = group(0);
    let members = (0..50).map(|n| settle(&world.agents[n % 3], &group));
    futures_util::future::join_all(members).await;
    println!("  50 members on 3 agents: {:?} after the first join, with a delay of 1 s", start.elapsed());
    let start = Instant::now();
    let crowd = self::group(1);
    futures_util::future::join_all((0..1_000).map(|n| settle(&world.agents[n % 3], &crowd))).await;
    println!("  1,000 members on 3 agents: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn a_thousand_idle_groups() {
    let world = World::start(3, settings()).await;
    let mut members = Vec::new();
    for first in (0..1_000).step_by(20) {
        let groups = (first..first + 20).map(|number| {
            let agent = &world.agents[number % 3];
            async move {
                let group = group(number);
                let settled = futures_util::future::join_all((0..5).map(|_| settle(agent, &group))).await;
                let last = settled.iter().map(|(_, generation)| *generation).max().unwrap_or(0);
                settled.into_iter().map(|(member, _)| (number, member, last)).collect::<Vec<_>>()
            }
        });
        members.extend(futures_util::future::join_all(groups).await.into_iter().flatten());
    }
    let mut beside = world.beside().await;
    let before = settled(&mut beside).await;
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let mut refused = 0;
    for _ in 0..10 {
        let round = Instant::now();
        for (number, member, generation) in &members {
            let beaten = world.agents[number % 3].heartbeat(&group(*number), member, None, *generation).await;
            refused += u32::from(beaten.is_err());
        }
        println!("  {} heartbeats in {:?}", members.len(), round.elapsed());
        tokio::time::sleep(Duration::from_secs(3).saturating_sub(round.elapsed())).await;
    }
    let share = 100.0 * (cpu_seconds() - cpu) / began.elapsed().as_secs_f64();
    let after = settled(&mut beside).await;
    let rate = (after - before) as f64 / began.elapsed().as_secs_f64();
    println!(
        "  1,000 groups of 5 idle: {rate:.1} transactions a second, {refused} refused; this process and Postgres: {share:.1} % of a core"
    );
    beside.close().await.expect("closed");
}

/// Transactions so far. Postgres counts late.
async fn settled(connection: &mut PgConnection) -> i64 {
    tokio::time::sleep(Duration::from_secs(12)).await;
    let count = sqlx::query("SELECT xact_commit + xact_rollback AS n FROM pg_stat_database WHERE datname = current_database()");
    count.fetch_one(connection).await.expect("counted").get("n")
}

/// Of this process, and of every process of PostgreSQL on this machine.
fn cpu_seconds() -> f64 {
    let processes =
        std::fs::read_dir("/proc").expect("proc").filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    let own = format!("{} ", std::process::id());
    let ticks: u64 = processes
        .filter(|stat| stat.starts_with(&own) || stat.contains("(postgres)"))
        .filter_map(|stat| {
            let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
            Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
        })
        .sum();
    ticks as f64 / 100.0
}
