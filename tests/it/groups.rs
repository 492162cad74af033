//! Groups of librdkafka consumers: they grow and shrink, fall silent and come back, and every record is read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::members::{Commits, Group, Member, Program, Watch, settle};
use super::support::{Balancer, Broker, LONG, Services, blocking, client, create_topic, producer, send};

const PARTITIONS: i32 = 10;
/// What a failed test shows.
const TALKATIVE: [(&str, &str); 1] = [("YAKS_LOG", "info,yaks::group=debug")];

/// For members that do not choose their session.
pub const SHORT_SESSIONS: [(&str, &str); 3] = [
    ("YAKS_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", "500"),
    ("YAKS_GROUP_CONSUMER_SESSION_TIMEOUT_MS", "6000"),
    ("YAKS_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
];

/// Agents behind a balancer.
pub struct Balanced {
    pub address: String,
    _agents: Vec<Broker>,
}

impl Balanced {
    pub async fn start(services: &Services, agents: usize) -> Balanced {
        let balancer = Balancer::start().await;
        let port = balancer.port.to_string();
        let settings: Vec<_> = SHORT_SESSIONS.into_iter().chain([("YAKS_ADVERTISED_PORT", port.as_str())]).collect();
        let agents: Vec<_> = (0..agents).map(|_| Broker::agent(services, &settings)).collect();
        balancer.balance(agents.iter().map(|agent| agent.address.clone()).collect());
        Balanced { address: format!("127.0.0.1:{port}"), _agents: agents }
    }
}

/// Produces to all partitions until it is told to stop; returns how many records of each.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    async fn start(group: &Group) -> Load {
        create_topic(&group.brokers, &group.topic, PARTITIONS).await;
        let stop = Arc::new(AtomicBool::new(false));
        let (told, producer, topic) = (Arc::clone(&stop), producer(&group.brokers, &[("enable.idempotence", "true")]), group.topic.clone());
        let task = tokio::spawn(async move {
            let mut sent = Vec::new();
            loop {
                // One more round when told: clients repeat a commit that failed once they have more to commit.
                let last = told.load(Ordering::Acquire);
                let number = sent.len();
                let batch = (0..PARTITIONS).map(|partition| {
                    let (producer, topic, value) = (producer.clone(), topic.clone(), format!("{partition}-{number}"));
                    async move {
                        send(&producer, &topic, partition, &value).await;
                        value
                    }
                });
                sent.extend(futures_util::future::join_all(batch).await);
                if last {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            sent
        });
        Load { stop, task }
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Release);
        self.task.await.expect("no panic")
    }
}

/// Every value was read by somebody, and the last commits say so.
fn all_read(members: &[&Member], sent: &[String], commits: &mut Commits) {
    let began = Instant::now();
    loop {
        let read: BTreeSet<String> = members.iter().flat_map(|m| m.records()).map(|(_, _, value)| value).collect();
        let missing: Vec<_> = sent.iter().filter(|value| !read.contains(*value)).collect();
        if missing.is_empty() && commits.look(PARTITIONS) == sent.len() as i64 {
            return;
        }
        assert!(
            began.elapsed() < LONG,
            "never read: {} of {}, such as {:?}; committed: {:?}",
            missing.len(),
            sent.len(),
            missing.first(),
            commits.last
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One member, four, two, and one that is killed.
fn grow_and_shrink(group: &Group, program: Program) -> (Vec<Member>, Commits) {
    let watch = Watch::start(group, PARTITIONS);
    let mut times = Vec::new();
    let mut members = vec![group.member(program, None)];
    times.push(("one member", settle(&[&members[0]], PARTITIONS)));
    members.extend((0..3).map(|_| group.member(program, None)));
    times.push(("four", settle(&members.iter().collect::<Vec<_>>(), PARTITIONS)));
    members[0].leave();
    members[2].leave();
    times.push(("two", settle(&[&members[1], &members[3]], PARTITIONS)));
    members[1].kill();
    times.push(("one was killed", settle(&[&members[3]], PARTITIONS)));
    println!("{}: {times:.1?}", group.name);
    (members, watch.stop())
}

/// One of two static members ends, in the way its protocol allows, and comes back within its session: everybody has what it had.
fn come_back(group: &Group, program: Program) -> (Vec<Member>, Commits) {
    let watch = Watch::start(group, PARTITIONS);
    let (a, mut b) = (group.member(program, Some("a")), group.member(program, Some("b")));
    settle(&[&a, &b], PARTITIONS);
    let (share, other) = (b.assignment(), a.assignment());
    if program.is_told_of_restarts() {
        b.leave();
    } else {
        b.kill();
    }
    let again = group.member(program, Some("b"));
    println!("{}: came back {:.1?}", group.name, settle(&[&a, &again], PARTITIONS));
    assert_eq!((again.assignment(), a.assignment()), (share, other), "everybody has what it had");
    (vec![a, b, again], watch.stop())
}

/// For as long as it takes a process to come back on a busy machine; clients do not choose this one.
async fn lengthen_session(group: &Group) {
    let admin: AdminClient<DefaultClientContext> = client(&group.brokers, &[]).create().expect("an admin client");
    let session = group.session.as_millis().to_string();
    let change = AlterConfig::new(ResourceSpecifier::Group(&group.name)).set("consumer.session.timeout.ms", &session);
    for result in admin.alter_configs([&change], &AdminOptions::new()).await.expect("an answer") {
        result.expect("altered");
    }
}

/// Two groups of the same program while all partitions are produced to. Every record is read, and no commit goes back.
pub async fn live(brokers: &str, name: &str, program: Program) {
    let moving = Group::of(brokers, name);
    let standing = Group { name: format!("{name}-static"), session: Duration::from_secs(40), ..moving.clone() };
    let load = Load::start(&moving).await;
    lengthen_session(&standing).await;
    let (one, other) = (moving.clone(), standing);
    let mut groups = vec![tokio::task::spawn_blocking(move || grow_and_shrink(&one, program))];
    if program.has_static_members() {
        groups.push(tokio::task::spawn_blocking(move || come_back(&other, program)));
    }
    let ends = futures_util::future::join_all(groups).await;
    let sent = load.stop().await;
    for end in ends {
        let ((members, mut commits), sent) = (end.expect("no panic"), sent.clone());
        blocking(move || all_read(&members.iter().collect::<Vec<_>>(), &sent, &mut commits)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_grows_and_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &TALKATIVE);
    live(&broker.address, "eager", Program::Librdkafka(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooperative_group_grows_and_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &TALKATIVE);
    live(&broker.address, "cooperative", Program::Librdkafka(&[("partition.assignment.strategy", "cooperative-sticky")])).await;
}

/// The brokers assign (KIP-848).
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_the_consumer_protocol_grows_and_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &SHORT_SESSIONS);
    live(&broker.address, "server", Program::Librdkafka(&[("group.protocol", "consumer")])).await;
}

/// Behind a plain balancer members of one group talk to different agents, and one member to several.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_behind_a_balancer_grows_and_shrinks() {
    let services = Services::start().await;
    let agents = Balanced::start(&services, 3).await;
    live(&agents.address, "balanced", Program::Librdkafka(&[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_survives_a_restart_of_the_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::dev(dir.path(), &TALKATIVE);
    let group = Group::of(&broker.address, "restart");
    let load = Load::start(&group).await;
    let started = group.clone();
    let members = blocking(move || {
        let program = Program::Librdkafka(&[]);
        let members = [started.member(program, None), started.member(program, None)];
        settle(&[&members[0], &members[1]], PARTITIONS);
        members
    })
    .await;
    broker.kill();
    broker.restart();
    let sent = load.stop().await;
    blocking(move || {
        settle(&[&members[0], &members[1]], PARTITIONS);
        all_read(&[&members[0], &members[1]], &sent, &mut Commits::of(&group));
    })
    .await;
}
