//! Agents that share their caches: how often S3 is asked, and who is not served.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::FutureRecord;
use rdkafka::{Offset, TopicPartitionList};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tokio::time::sleep;
use yaks::cache::Secret;
use yaks::cache::wire::{Ask, Request};
use yaks::types::{ByteRange, ObjectId, Timestamp};

use super::support::{Balancer, Broker, LONG, Services, blocking, client, create_topic, producer};

const PARTITIONS: i32 = 6;
const CHUNK: u64 = 4 << 20;

/// Three agents behind one address: each connection goes to another one.
struct Rack {
    agents: Vec<Broker>,
    balancer: Balancer,
}

impl Rack {
    async fn start(services: &Services, settings: &[(&str, &str)]) -> Rack {
        let balancer = Balancer::start().await;
        let port = balancer.port.to_string();
        let common = [
            // How long a machine with too few processors lets a peer wait is not what is judged here.
            ("YAKS_GROUPCACHE_DEADLINE_MS", "20000"),
            ("YAKS_ADVERTISED_PORT", port.as_str()),
            ("YAKS_METRICS_PORT", "0"),
            ("YAKS_GROUPCACHE_ENABLED", "true"),
            ("YAKS_GROUPCACHE_PORT", "0"),
            ("YAKS_GROUPCACHE_ADVERTISED_HOST", "127.0.0.1"),
            ("YAKS_GROUPCACHE_POLL_MS", "200"),
        ];
        let settings: Vec<_> = common.iter().chain(settings).copied().collect();
        let rack = Rack { agents: (0..3).map(|_| Broker::agent(services, &settings)).collect(), balancer };
        rack.balancer.balance(rack.agents.iter().map(|agent| agent.address.clone()).collect());
        let deadline = Instant::now() + LONG;
        while rack.agents.iter().any(|agent| metric(agent, "yaks_groupcache_peers") != 3) {
            assert!(Instant::now() < deadline, "they do not find each other");
            sleep(Duration::from_millis(50)).await;
        }
        rack
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.balancer.port)
    }

    fn sum(&self, name: &str) -> u64 {
        self.agents.iter().map(|agent| metric(agent, name)).sum()
    }

    /// What was got from where, for a failed test.
    fn told(&self) -> String {
        let names = ["cache_gets", "cache_hits", "local_loads", "peer_loads", "peer_errors"];
        names.map(|name| format!("{name} {}", self.sum(&format!("yaks_groupcache_{name}_total")))).join(", ")
    }
}

/// An address that the agent's log names.
fn logged(agent: &Broker, before: &str) -> String {
    let log = agent.log();
    let rest = log.split(before).nth(1).unwrap_or_else(|| panic!("{before:?} is not in the log:\n{log}"));
    rest.split(|c: char| c.is_whitespace() || c == '"').next().expect("an address").to_owned()
}

/// Status and body.
fn http(address: &str, method: &str, path: &str, headers: &[(&str, String)]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    write!(stream, "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{}\r\n", headers.concat()).expect("written");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("read");
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), answer[end + 4..].to_vec())
}

pub fn metric(agent: &Broker, name: &str) -> u64 {
    let (_, text) = http(&logged(agent, "metrics=\""), "GET", "/metrics", &[]);
    let text = String::from_utf8_lossy(&text).into_owned();
    let line = text.lines().find(|line| line.split(' ').next() == Some(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Sends numbered records of about `bytes`, `pause` between two of them; all are acknowledged.
async fn produce(address: &str, lane: usize, records: usize, bytes: usize, pause: Duration) {
    let producer = producer(address, &[("linger.ms", "5"), ("batch.size", "200000")]);
    let mut sent = Vec::new();
    for number in 0..records {
        let value = format!("{lane}/{number}/{}", "x".repeat(bytes));
        let partition = (lane + number) as i32 % PARTITIONS;
        let producer = producer.clone();
        sent.push(tokio::spawn(async move {
            let record: FutureRecord<'_, (), str> = FutureRecord::to("t").partition(partition).payload(&value);
            producer.send(record, LONG).await.map_err(|(error, _)| error).expect("delivered");
        }));
        sleep(pause).await;
    }
    join_all(sent).await.into_iter().for_each(|sent| sent.expect("acknowledged"));
}

/// Reads all partitions from their beginning until so many records have come, each once.
fn consume(address: &str, records: usize) {
    let settings = [("group.id", "g"), ("enable.auto.commit", "false"), ("fetch.wait.max.ms", "100")];
    let consumer: BaseConsumer = client(address, &settings).create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        assignment.add_partition_offset("t", partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&assignment).expect("assigned");
    let mut seen = HashSet::new();
    let deadline = Instant::now() + 2 * LONG;
    while seen.len() < records {
        assert!(Instant::now() < deadline, "only {} of {records} came", seen.len());
        match consumer.poll(Duration::from_millis(200)) {
            Some(Ok(message)) => {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                let name = value.rsplit_once('/').expect("lane/number/fill").0.to_owned();
                assert!(seen.insert(name), "twice: {} {}", message.partition(), message.offset());
            }
            Some(Err(error)) => eprintln!("the consumer says {error}"),
            None => {}
        }
    }
}

/// Four groups, each wherever the balancer sends it.
async fn consume_by(groups: usize, address: &str, records: usize) {
    let groups = (0..groups).map(|_| {
        let address = address.to_owned();
        blocking(move || consume(&address, records))
    });
    join_all(groups).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tailing_costs_no_gets_whoever_uploaded() {
    let services = Services::start().await;
    let rack = Rack::start(&services, &[]).await;
    let address = rack.address();
    create_topic(&address, "t", PARTITIONS).await;
    let (gets, puts) = (services.s3.faults.gets(), services.s3.faults.puts());
    let producers = join_all((0..3).map(|lane| produce(&address, lane, 500, 2_000, Duration::from_millis(10))));
    let ((), _) = tokio::join!(consume_by(4, &address, 1_500), producers);
    let (gets, puts) = (services.s3.faults.gets() - gets, services.s3.faults.puts() - puts);
    println!("{gets} GETs for {puts} objects; {}", rack.told());
    assert!(puts > 50, "only {puts} objects");
    assert!(gets as f64 <= 0.1 * puts as f64, "{gets} GETs for {puts} objects; {}", rack.told());
    assert!(rack.sum("yaks_groupcache_peer_loads_total") > 0, "they shared nothing: {}", rack.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_by_three_groups_gets_each_chunk_once() {
    let services = Services::start().await;
    let settings = [("YAKS_FLUSH_INTERVAL_MS", "500")];
    let mut rack = Rack::start(&services, &settings).await;
    let address = rack.address();
    create_topic(&address, "t", PARTITIONS).await;
    join_all((0..3).map(|lane| produce(&address, lane, 400, 60_000, Duration::from_millis(1)))).await;
    // New processes remember nothing.
    rack.agents.iter_mut().for_each(|agent| assert!(agent.terminate().success()));
    drop(rack);
    let rack = Rack::start(&services, &settings).await;
    let chunks = chunks(&services).await;
    let gets = services.s3.faults.gets();
    consume_by(3, &rack.address(), 1_200).await;
    let gets = services.s3.faults.gets() - gets;
    println!("{gets} GETs for {chunks} chunks; {}", rack.told());
    assert!(chunks > 15, "only {chunks} chunks");
    assert!(gets as f64 <= 1.3 * chunks as f64, "{gets} GETs for {chunks} chunks; {}", rack.told());
}

/// The chunks of all objects.
async fn chunks(services: &Services) -> u64 {
    let mut connection = services.database.options().connect().await.expect("a connection");
    let rows = sqlx::query("SELECT bytes FROM objects").fetch_all(&mut connection).await.expect("objects");
    connection.close().await.expect("closed");
    rows.iter().map(|row| (row.get::<i64, _>("bytes") as u64).div_ceil(CHUNK)).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_no_peer_or_wants_what_is_not_there_is_refused_and_counted() {
    let services = Services::start().await;
    let rack = Rack::start(&services, &[]).await;
    create_topic(&rack.address(), "t", PARTITIONS).await;
    produce(&rack.address(), 0, 1, 1_000, Duration::ZERO).await;
    let mut connection = services.database.options().connect().await.expect("a connection");
    let row = sqlx::query("SELECT current FROM peer_secrets").fetch_one(&mut connection).await.expect("a secret");
    let secret = Secret::new(&row.get::<Vec<u8>, _>("current"));
    let row = sqlx::query("SELECT object_id, bytes FROM objects").fetch_one(&mut connection).await.expect("an object");
    let (object, bytes) = (ObjectId(*row.get::<sqlx::types::Uuid, _>("object_id").as_bytes()), row.get::<i64, _>("bytes") as u64);
    connection.close().await.expect("closed");

    let millis = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
    let now = Timestamp(i64::try_from(millis).expect("a time"));
    let ask = |start, len| Ask { object, range: ByteRange { start, len }, held_only: false };
    let good = Request::new(ask(0, bytes), now, &secret);
    let elsewhere = |path: &str| Request { path: path.to_owned(), ..good.clone() }.signed(&secret);
    let agent = &rack.agents[0];
    let port = logged(agent, "shared with peers on ");
    let send = |request: &Request| http(&port, "GET", &request.path, &request.headers());

    let (status, body) = send(&good);
    assert_eq!(status, 200);
    assert!(body.len() as u64 > bytes, "the object and its seal");
    let cases = [
        ("unsigned", http(&port, "GET", &good.path, &[("range", good.range.clone())]).0, 401),
        ("method", http(&port, "POST", &good.path, &good.headers()).0, 405),
        ("signature", send(&Request::new(ask(0, bytes), now, &Secret::new(b"guessed"))).0, 401),
        ("time", send(&Request::new(ask(0, bytes), Timestamp(now.0 - 3_600_000), &secret)).0, 401),
        ("key", send(&elsewhere("/other/object")).0, 403),
        ("range", send(&Request::new(ask(0, CHUNK + 1), now, &secret)).0, 416),
        ("beyond", send(&Request::new(ask(bytes + CHUNK, 10), now, &secret)).0, 200),
    ];
    for (reason, status, expected) in cases {
        assert_eq!(status, expected, "{reason}");
        assert_eq!(metric(agent, &format!("yaks_groupcache_refused_total{{reason=\"{reason}\"}}")), 1, "{reason}");
    }
    // What is no HTTP at all, or never ends, is nobody's harm.
    let mut stream = TcpStream::connect(&port).expect("connected");
    // It may be closed while this is being written.
    let _ = stream.write_all(&vec![0xff; 200_000]);
    drop(stream);
    assert_eq!(send(&good).0, 200);
}
