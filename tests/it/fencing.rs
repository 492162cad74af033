//! Agents that stand still, are cut off, join or come back: never two with one id, and everybody has its share.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::peers::metric;
use super::support::{Balancer, Broker, LONG, Services, blocking, client, create_topic, producer, send, signal};

/// Short leases, so that tests need not wait long.
const LEASES: [(&str, &str); 2] = [("YAKS_GROUPCACHE_LEASE_TTL_MS", "2000"), ("YAKS_GROUPCACHE_HEARTBEAT_MS", "400")];
/// The lease of an agent that nobody waits for.
const NO_END: (&str, &str) = ("YAKS_GROUPCACHE_LEASE_TTL_MS", "60000");
const LOOK: Duration = Duration::from_millis(100);

fn with(settings: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    LEASES.iter().chain(settings).copied().collect()
}

/// What the metadata of this broker says: id and port of every broker.
async fn brokers(address: &str) -> Result<Vec<(i32, u16)>, String> {
    brokers_within(address, LONG).await
}

async fn brokers_within(address: &str, time: Duration) -> Result<Vec<(i32, u16)>, String> {
    let address = address.to_owned();
    blocking(move || {
        let consumer: BaseConsumer = client(&address, &[]).create().expect("a client");
        let metadata = consumer.fetch_metadata(None, time).map_err(|error| error.to_string())?;
        Ok(metadata.brokers().iter().map(|broker| (broker.id(), broker.port() as u16)).collect())
    })
    .await
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < LONG, "{what}: not within {LONG:?}");
        sleep(LOOK).await;
    }
}

/// A number that the database says.
async fn number(services: &Services, query: &'static str) -> i64 {
    let server = &services.database.server;
    let mut connection = server.options(&services.database.name).connect().await.expect("the server takes connections");
    let row = sqlx::query(query).fetch_one(&mut connection).await.expect(query);
    connection.close().await.expect("closed");
    row.get(0)
}

const LIVE: &str = "SELECT count(*) FROM agents WHERE expires_at > clock_timestamp()";

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_does_not_act_under_an_id_that_another_has() {
    let services = Services::start().await;
    let a = Broker::agent(&services, &with(&[("YAKS_FLUSH_INTERVAL_MS", "15000"), ("YAKS_METRICS_PORT", "0")]));
    create_topic(&a.address, "t", 1).await;
    assert_eq!(brokers(&a.address).await, Ok(vec![(0, a.port())]));
    let mut connected = tokio::net::TcpStream::connect(&a.address).await.expect("connected");
    // A record that was taken and not written when the process stands still.
    let to_a = producer(&a.address, &[("enable.idempotence", "true"), ("linger.ms", "0")]);
    let sending = tokio::spawn(async move { send(&to_a, "t", 0, "before").await });
    eventually("the record is taken", || async { metric(&a, "yaks_buffer_bytes") > 0 }).await;
    let taken = Instant::now();
    signal(a.pid(), "STOP");
    eventually("the lease ends", || async { number(&services, LIVE).await == 0 }).await;
    let b = Broker::agent(&services, &[NO_END, ("YAKS_METRICS_PORT", "0")]);
    assert_eq!(brokers(&b.address).await, Ok(vec![(0, b.port())]), "the id is free by Postgres' clock");

    // It is to write the record the moment it goes on.
    sleep_until(taken + Duration::from_secs(15)).await;
    signal(a.pid(), "CONT");
    assert!(matches!(timeout(LONG, connected.read(&mut [0])).await, Ok(Ok(0) | Err(_))), "who was connected is cut off");
    let expected = vec![(0, b.port()), (1, a.port())];
    eventually("it serves under another id", || async {
        match brokers(&a.address).await {
            Ok(told) => {
                assert!(!told.contains(&(0, a.port())), "it says that it has an id that another has: {told:?}");
                told == expected
            }
            Err(_) => false,
        }
    })
    .await;
    // The record that was on its way is in the log once, and nothing was written under the lost id but by who has it now.
    assert_eq!(sending.await.expect("acknowledged").1, 0);
    let by_b = metric(&b, "yaks_buffer_flush_events_total");
    assert_eq!(number(&services, "SELECT count(*) FROM objects WHERE node = 0").await, by_b as i64, "{}", a.log());
    assert_eq!(number(&services, "SELECT max(high_watermark) FROM partitions").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_whose_fixed_id_is_taken_ends_with_an_error() {
    let services = Services::start().await;
    let mut a = Broker::agent(&services, &with(&[("YAKS_NODE_ID", "5")]));
    signal(a.pid(), "STOP");
    eventually("the lease ends", || async { number(&services, LIVE).await == 0 }).await;
    let b = Broker::agent(&services, &[NO_END, ("YAKS_NODE_ID", "5")]);
    signal(a.pid(), "CONT");
    let began = Instant::now();
    while a.ended().is_none() {
        assert!(began.elapsed() < LONG, "it goes on: {}", a.log());
        sleep(LOOK).await;
    }
    let (status, log) = blocking(move || (a.wait(), a.log())).await;
    assert!(!status.success() && log.contains("the node id was taken by another agent"), "{log}");
    eventually("the other one serves", || async { brokers(&b.address).await == Ok(vec![(5, b.port())]) }).await;
}

/// Nobody took the id: an outage of Postgres longer than a lease, or a pause, is survived by itself.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_longer_than_a_lease_is_survived() {
    let services = Services::start().await;
    let a = Broker::agent(&services, &with(&[("YAKS_NODE_ID", "3")]));
    create_topic(&a.address, "t", 1).await;
    let producer = producer(&a.address, &[("enable.idempotence", "true"), ("linger.ms", "0")]);
    send(&producer, "t", 0, "first").await;
    // A machine that stood still may have made it say so before.
    let said = |log: &str| log.matches("no client is served").count();
    let before = said(&a.log());
    services.close_database().await;
    let sending = {
        let producer = producer.clone();
        tokio::spawn(async move { send(&producer, "t", 0, "meanwhile").await })
    };
    eventually("it stops serving", || async { said(&a.log()) > before }).await;
    assert!(brokers_within(&a.address, Duration::from_secs(5)).await.is_err(), "nobody is served");
    services.open_database().await;
    assert_eq!(sending.await.expect("acknowledged").1, 1);
    assert_eq!(brokers(&a.address).await, Ok(vec![(3, a.port())]));
    signal(a.pid(), "STOP");
    eventually("the lease ends", || async { number(&services, LIVE).await == 0 }).await;
    signal(a.pid(), "CONT");
    assert_eq!(send(&producer, "t", 0, "after a pause").await.1, 2);
}

/// Clients remember node ids; behind a balancer the one they know stays, whoever of its agents goes.
#[tokio::test(flavor = "multi_thread")]
async fn a_balanced_address_keeps_its_id() {
    let services = Services::start().await;
    let balancer = Balancer::start().await;
    let port = balancer.port.to_string();
    let settings = [("YAKS_ADVERTISED_PORT", port.as_str())];
    let (mut a, b) = (Broker::agent(&services, &settings), Broker::agent(&services, &settings));
    let direct = Broker::agent(&services, &[]);
    let expected = vec![(0, balancer.port), (2, direct.port())];
    assert_eq!(brokers(&direct.address).await, Ok(expected.clone()));
    assert!(a.terminate().success());
    let other = Broker::agent(&services, &[]);
    let expected: Vec<_> = expected.into_iter().chain([(3, other.port())]).collect();
    eventually("all say so", || async { brokers(&b.address).await == Ok(expected.clone()) }).await;
}

/// A process that is killed and started again by its supervisor finds the lease of its former life, and waits for its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_has_its_fixed_id_again() {
    let services = Services::start().await;
    let mut a = Broker::agent(&services, &with(&[("YAKS_NODE_ID", "4")]));
    a.kill();
    a.restart();
    assert_eq!(brokers(&a.address).await, Ok(vec![(4, a.port())]));
}

/// Producers that are at rest with the agents they know find one that joins, without a restart, an error or a record lost; directly, and behind a balancer.
#[tokio::test(flavor = "multi_thread")]
async fn who_joins_gets_its_share() {
    for balanced in [false, true] {
        let services = Services::start().await;
        let balancer = Balancer::start().await;
        let port = if balanced { balancer.port.to_string() } else { "0".to_owned() };
        let settings =
            [("YAKS_ADVERTISED_PORT", port.as_str()), ("YAKS_GROUPCACHE_POLL_MS", "1000"), ("YAKS_CONNECTION_REBALANCE_MS", "1000")];
        let a = Broker::agent(&services, &settings);
        balancer.balance(vec![a.address.clone()]);
        create_topic(&a.address, "t", 12).await;
        let bootstrap = if balanced { format!("127.0.0.1:{}", balancer.port) } else { a.address.clone() };
        let producers: Vec<_> = (0..4).map(|_| producer(&bootstrap, &[("enable.idempotence", "true"), ("linger.ms", "1")])).collect();
        let mut sent = 0;
        for partition in 0..12 {
            send(&producers[partition % 4], "t", partition as i32, "before").await;
            sent += 1;
        }
        // Whoever is ended before it is there comes back to both.
        balancer.balance(Vec::new());
        let b = Broker::agent(&services, &settings);
        balancer.balance(vec![a.address.clone(), b.address.clone()]);
        let joined = Instant::now();
        while number(&services, "SELECT count(*) FROM objects WHERE node = 1").await == 0 {
            assert!(joined.elapsed() < LONG, "it has got nothing: {}", a.log());
            for partition in 0..12 {
                send(&producers[partition % 4], "t", partition as i32, "after").await;
                sent += 1;
            }
        }
        assert_eq!(number(&services, "SELECT sum(high_watermark)::bigint FROM partitions").await, sent);
    }
}
