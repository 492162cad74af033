//! Groups of librdkafka consumers: they grow and shrink, fall silent and come back, and every record is read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::members::{Commits, Member, settle};
use super::support::{Balancer, Broker, LONG, Services, blocking, create_topic, producer, send};

const PARTITIONS: i32 = 10;
/// What a failed test shows.
const TALKATIVE: [(&str, &str); 1] = [("YAKS_LOG", "info,yaks::group=debug")];

/// Produces to all partitions until it is told to stop; returns how many records of each.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<String>>,
}

impl Load {
    fn start(brokers: &str) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let (told, producer) = (Arc::clone(&stop), producer(brokers, &[("linger.ms", "5")]));
        let task = tokio::spawn(async move {
            let mut sent = Vec::new();
            while !told.load(Ordering::Acquire) {
                let number = sent.len();
                let batch = (0..PARTITIONS).map(|partition| {
                    let (producer, value) = (producer.clone(), format!("{partition}-{number}"));
                    async move {
                        send(&producer, "t", partition, &value).await;
                        value
                    }
                });
                sent.extend(futures_util::future::join_all(batch).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
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
        assert!(began.elapsed() < LONG, "never read: {} of {}, such as {:?}", missing.len(), sent.len(), missing.first());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// One member, four, two, and one that is killed.
async fn grow_and_shrink(address: String, settings: &'static [(&'static str, &'static str)]) {
    create_topic(&address, "t", PARTITIONS).await;
    let load = Load::start(&address);
    let brokers = address.clone();
    let (members, mut commits) = blocking(move || {
        let mut commits = Commits::of(&brokers);
        let start = || Member::start(&brokers, settings);
        let mut members = vec![start()];
        println!("one member: {:?}", settle(&[&members[0]], PARTITIONS));
        members.extend((0..3).map(|_| start()));
        println!("four members: {:?}", settle(&members.iter().collect::<Vec<_>>(), PARTITIONS));
        commits.look(PARTITIONS);
        members[0].leave();
        members[2].leave();
        println!("two members: {:?}", settle(&[&members[1], &members[3]], PARTITIONS));
        commits.look(PARTITIONS);
        members[1].kill();
        println!("one was killed: {:?}", settle(&[&members[3]], PARTITIONS));
        commits.look(PARTITIONS);
        (members, commits)
    })
    .await;
    let sent = load.stop().await;
    blocking(move || all_read(&members.iter().collect::<Vec<_>>(), &sent, &mut commits)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_grows_and_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &TALKATIVE);
    grow_and_shrink(broker.address.clone(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cooperative_group_grows_and_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &TALKATIVE);
    grow_and_shrink(broker.address.clone(), &[("partition.assignment.strategy", "cooperative-sticky")]).await;
}

/// The brokers assign (KIP-848).
#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_the_consumer_protocol_grows_and_shrinks() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [("YAKS_GROUP_CONSUMER_HEARTBEAT_INTERVAL_MS", "500"), ("YAKS_GROUP_CONSUMER_SESSION_TIMEOUT_MS", "6000")];
    let broker = Broker::dev(dir.path(), &settings);
    grow_and_shrink(broker.address.clone(), &[("group.protocol", "consumer")]).await;
}

/// Behind a plain balancer members of one group talk to different agents, and one member to several.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_behind_a_balancer_grows_and_shrinks() {
    let services = Services::start().await;
    let balancer = Balancer::start().await;
    let port = balancer.port.to_string();
    let settings = [("YAKS_ADVERTISED_PORT", port.as_str()), ("YAKS_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")];
    let agents = [Broker::agent(&services, &settings), Broker::agent(&services, &settings), Broker::agent(&services, &settings)];
    balancer.balance(agents.iter().map(|agent| agent.address.clone()).collect());
    grow_and_shrink(format!("127.0.0.1:{port}"), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_member_comes_back_without_a_rebalance() {
    let dir = tempfile::tempdir().expect("a directory");
    let broker = Broker::dev(dir.path(), &[]);
    create_topic(&broker.address, "t", PARTITIONS).await;
    let load = Load::start(&broker.address);
    let brokers = broker.address.clone();
    let (members, mut commits) = blocking(move || {
        let start = |instance: &'static str| Member::start(&brokers, &[("group.instance.id", instance), ("session.timeout.ms", "20000")]);
        let (a, mut b) = (start("a"), start("b"));
        settle(&[&a, &b], PARTITIONS);
        let (share, other) = (b.assignment(), a.assignment());
        b.kill();
        let again = start("b");
        println!("a static member came back: {:?}", settle(&[&a, &again], PARTITIONS));
        assert_eq!((again.assignment(), a.assignment()), (share, other), "everybody has what it had");
        (vec![a, b, again], Commits::of(&brokers))
    })
    .await;
    let sent = load.stop().await;
    blocking(move || all_read(&members.iter().collect::<Vec<_>>(), &sent, &mut commits)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_survives_a_restart_of_the_broker() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut broker = Broker::dev(dir.path(), &[]);
    create_topic(&broker.address, "t", PARTITIONS).await;
    let load = Load::start(&broker.address);
    let brokers = broker.address.clone();
    let members = blocking(move || {
        let members = [Member::start(&brokers, &[]), Member::start(&brokers, &[])];
        settle(&[&members[0], &members[1]], PARTITIONS);
        members
    })
    .await;
    broker.kill();
    broker.restart();
    let brokers = broker.address.clone();
    let sent = load.stop().await;
    blocking(move || {
        settle(&[&members[0], &members[1]], PARTITIONS);
        all_read(&[&members[0], &members[1]], &sent, &mut Commits::of(&brokers));
    })
    .await;
}
